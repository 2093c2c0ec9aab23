package ping6

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/tool/cli"
)

// Command is ping6.
var Command = cli.Command{
	Name:  "ping6",
	Short: "send ICMPv6 echo requests to a host and show what comes back",
	Synopsis: []string{
		"[-dfHmnNqRtvwW] [-a addrtype] [-b bufsiz] [-c count] [-h hoplimit] [-I interface] [-i wait] [-l preload] [-P policy ...] [-p pattern] [-S sourceaddr] [-s packetsize] host",
	},
	Long: `ping6 sends an echo request a second until it is interrupted and prints a line for each reply; sequence numbers begin at 0. At the end it prints how many were sent and came back, and how long they took. SIGQUIT prints these numbers in between; the first SIGINT lets what is on its way come in, the second ends at once.

An address of one link needs its interface, behind it or with -I: fe80::1%en0, ff02::1%en0. Without either it is that of "ndp -I".

With -a, -t, -w or -W it asks for node information (RFC 4620) instead, which hosts answer as net.inet6.icmp6.nodeinfo lets them.

The superuser of the stack pings through a raw socket. Others get an echo socket, which carries their own echo requests and replies only, and of an ICMPv6 error tells what it comes to; -f, -l, intervals below a second and node information are refused.

The original took a list of hops before the host. They went into routing header type 0, which is not sent any more (RFC 5095).`,
	Options: []cli.Opt{
		{Flags: "-a addrtype", Text: "Ask for the node's addresses. Letters: a all interfaces, c mapped and compatible ones, g global, s site-local, l link-local, A anycast."},
		{Flags: "-b bufsiz", Text: "The size of the socket's buffers."},
		{Flags: "-c count", Text: "End after so many replies; the requests that -l sends are beside it."},
		{Flags: "-d", Text: "Set SO_DEBUG on the socket."},
		{Flags: "-f", Text: "Flood: the next request follows the reply, or after 10 ms. A dot a request, a backspace a reply."},
		{Flags: "-H", Text: "Look up the names of who replies."},
		{Flags: "-h hoplimit", Text: "The hop limit, 0 to 255."},
		{Flags: "-I interface", Text: "The interface of an address of one link, and of a group."},
		{Flags: "-i wait", Text: "Seconds between requests, such as 0.2."},
		{Flags: "-l preload", Text: "Send so many requests at once before the first interval, those of -c among them."},
		{Flags: "-m", Text: "Do not cut packets to the minimal MTU of 1280 octets; twice: nor those to groups."},
		{Flags: "-N", Text: "The host is a name: ask the group that whoever has it listens to (RFC 4620); twice: the group of the drafts, as older hosts have it."},
		{Flags: "-n", Text: "Print numbers, look no names up."},
		{Flags: "-P policy", Text: "An IPsec policy for the packets that go out or come in, as setkey(8) has it: \"out ipsec esp/transport//require\". Once for each."},
		{Flags: "-p pattern", Text: "Fill the data with this pattern, up to 32 hexadecimal digits."},
		{Flags: "-q", Text: "Print the beginning and the summary only."},
		{Flags: "-R", Text: "Taken, and changes nothing: the stack finds out by itself whether a neighbour is reachable."},
		{Flags: "-S sourceaddr", Text: "The source address."},
		{Flags: "-s packetsize", Text: "Octets of data, 0 to 65527; 56 if not said. Below 8 there is no room for the time."},
		{Flags: "-t", Text: "Ask which questions the node answers."},
		{Flags: "-v", Text: "Print where replies were sent to, all ICMPv6 that comes, and the packets that errors return."},
		{Flags: "-W", Text: "As -w, in the form of draft 03, which names no subject. KAME answers; a stack that obeys RFC 4620, as this one does, stays silent."},
		{Flags: "-w", Text: "Ask for the node's name."},
	},
	JSON: `One object at the end: host, address, source, size, transmitted, received, duplicates, loss (percent), rtt (min, avg, max, stddev in milliseconds), replies (seq, from, bytes, hlim, time in milliseconds, duplicate, damaged, info: what a node told; the first 65,536, none with -q) and errors (from, type, code, text: other ICMPv6 about our requests; an echo socket tells the text alone, type and code are -1).`,
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "A reply came."},
		{Status: 1, Text: "Wrong usage, an unknown host, no stack or no socket."},
		{Status: 2, Text: "No reply came."},
	},
	Examples: []cli.Item{
		{Name: "ping6 -c 3 fe80::25%en0", Text: "Three requests to a neighbour."},
		{Name: "ping6 -n ff02::1%en0", Text: "Who is on this link?"},
		{Name: "ping6 -w ff02::1%en0", Text: "What are they called?"},
	},
	SeeAlso: []string{"ndp(8)", "netstat(1)", "ping(8)", "route(8)", "setkey(8)", "traceroute6(8)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	var r *refusal
	switch {
	case errors.As(err, &r):
		return ctx.Errorf("%v", err)
	case err != nil:
		return ctx.Usage(err)
	}
	o.verbose = o.verbose || ctx.Verbose
	stack, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer stack.Close()
	c := ctx.Ctx
	if c == nil {
		c = context.Background()
	}
	// The signals end ping6 well, and a look-up that hangs at once.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)

	s := &session{options: o, json: ctx.JSON, err: ctx.Stderr}
	s.Out, s.Signals = bufio.NewWriter(ctx.Stdout), signals
	s.name = func(a netip.Addr) string {
		if o.names && !o.numeric {
			if n, err := stack.LookupAddr(c, a); err == nil && n != "" {
				return n
			}
		}
		return a.String()
	}
	if o.group > 0 {
		s.to = groupOf(o.host, o.group)
	} else if s.to, err = address(c, stack, o.host); err != nil {
		return ctx.Errorf("%v", err)
	}
	if s.to.Zone() == "" && ofLink(s.to) {
		zone := o.ifname
		if zone == "" {
			if zone, err = stack.DefaultInterface(); err != nil {
				return ctx.Errorf("%v", err)
			}
		}
		s.to = s.to.WithZone(zone)
	}
	if s.to.Zone() == "" && ofLink(s.to) {
		return ctx.Errorf("%s: an address of one link needs its interface: %s%%en0, or -I en0", s.to, s.to)
	}
	zones := zones{stack, map[string]string{}}
	to, err := zones.numbered(s.to)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	index, _ := strconv.Atoi(to.Zone())
	if o.ifname != "" {
		if index, err = stack.IfIndex(o.ifname); err != nil {
			return ctx.Errorf("%s: no interface of this name", o.ifname)
		}
	}
	var source netip.Addr
	if o.source != "" {
		if s.from, err = address(c, stack, o.source); err != nil {
			return ctx.Errorf("%v", err)
		}
		if s.from.Zone() == "" && ofLink(s.from) {
			s.from = s.from.WithZone(zones.name(strconv.Itoa(index)))
		}
		if source, err = zones.numbered(s.from); err != nil {
			return ctx.Errorf("%v", err)
		}
	} else if s.from = sourceOf(stack, to, index); s.from.Zone() != "" {
		s.from = s.from.WithZone(zones.name(s.from.Zone()))
	}
	l, err := open(stack, o, to, source, index)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	l.zones = zones.name
	s.link = numberedLink{l, to}
	return s.run(c)
}

// numberedLink sends to the address that has the interface's index.
type numberedLink struct {
	*socketLink
	to netip.Addr
}

func (l numberedLink) send(icmp []byte, _ netip.Addr) error { return l.socketLink.send(icmp, l.to) }

// zones are the names and indexes of interfaces.
type zones struct {
	stack *client.Stack
	names map[string]string
}

// numbered is a with its interface's index for a zone.
func (z zones) numbered(a netip.Addr) (netip.Addr, error) {
	if a.Zone() == "" {
		return a, nil
	}
	if _, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return a, nil
	}
	index, err := z.stack.IfIndex(a.Zone())
	if err != nil {
		return a, sentence("%s: no interface of this name", a.Zone())
	}
	return a.WithZone(strconv.Itoa(index)), nil
}

// name is the name of the interface of an index.
func (z zones) name(index string) string {
	name, ok := z.names[index]
	if !ok {
		name = index
		if n, err := strconv.Atoi(index); err == nil {
			if s, err := z.stack.IfName(n); err == nil {
				name = s
			}
		}
		z.names[index] = name
	}
	return name
}

func ofLink(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast()
}

// resolver answers names.
type resolver interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// address is the IPv6 address of a host.
func address(ctx context.Context, names resolver, host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Is4() || a.Is4In6() {
			return a, sentence("%s: an IPv6 address belongs there; ping is for IPv4", host)
		}
		return a, nil
	}
	if head, zone, ok := strings.Cut(host, "%"); ok && head == "" {
		return netip.Addr{}, sentence("%q: an address or a name is missing in front of %%%s", host, zone)
	}
	if host == "" {
		return netip.Addr{}, sentence("the host is empty: an address or a name belongs there")
	}
	all, err := names.LookupHost(ctx, host)
	if err != nil {
		return netip.Addr{}, sentence("%s: %v", host, err)
	}
	for _, a := range all {
		if a.Is6() && !a.Is4In6() {
			return a, nil
		}
	}
	return netip.Addr{}, sentence("%s: it has no IPv6 address", host)
}
