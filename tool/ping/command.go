package ping

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// Command is ping.
var Command = cli.Command{
	Name:  "ping",
	Short: "send ICMP echo requests to a host and show what comes back",
	Synopsis: []string{
		"[-adDfLnoPqQrRv] [-c count] [-g gateway] [-h host] [-i interval] [-I addr] [-l preload] [-p pattern] [-s size] [-t tos] [-T ttl] [-w maxwait] [-E policy ...] host",
	},
	Long: `ping sends an echo request a second until it is interrupted and prints a line for each reply; sequence numbers begin at 0. At the end it prints how many were sent and came back, and how long they took. SIGQUIT prints these numbers in between; the first SIGINT lets what is on its way come in, the second ends at once.

The superuser of the stack pings through a raw socket. Others get an echo socket, which carries their own echo requests and replies only. Of an ICMP error it tells what it comes to, such as "ping: recvfrom: Network is unreachable", and nothing if many may answer: a broadcast address, a group, -g. -f, -l, -R and intervals below a second are refused, and -g shows no route: the IP options of replies are not seen.`,
	Options: []cli.Opt{
		{Flags: "-a", Text: "Ring the bell for each reply."},
		{Flags: "-c count", Text: "End after so many replies; the requests that -l sends are beside it."},
		{Flags: "-d", Text: "Set SO_DEBUG on the socket."},
		{Flags: "-D", Text: "Set Don't Fragment."},
		{Flags: "-E policy", Text: "An IPsec policy for the packets that go out or come in, as setkey(8) has it: \"out ipsec esp/transport//require\". Once for each."},
		{Flags: "-f", Text: "Flood: the next request follows the reply, or after 10 ms. A dot a request, a backspace a reply."},
		{Flags: "-g gateway", Text: "Go through gateway by a loose source route."},
		{Flags: "-h host", Text: "The host, for one whose name looks like an option."},
		{Flags: "-i interval", Text: "Seconds between requests, such as 0.2."},
		{Flags: "-I addr", Text: "The source address; for a group also the interface."},
		{Flags: "-l preload", Text: "Send so many requests at once before the first interval."},
		{Flags: "-L", Text: "Do not hear our own requests to a group."},
		{Flags: "-n", Text: "Print numbers, look no names up."},
		{Flags: "-o", Text: "End after one reply."},
		{Flags: "-p pattern", Text: "Fill the data with this pattern, up to 32 hexadecimal digits."},
		{Flags: "-P", Text: "Fill the data with noise."},
		{Flags: "-q", Text: "Print the beginning and the summary only."},
		{Flags: "-Q", Text: "Do not print ICMP errors about our requests."},
		{Flags: "-r", Text: "Past the routing table: the host is on a network of ours."},
		{Flags: "-R", Text: "Record the route, which each reply then shows."},
		{Flags: "-s size", Text: "Octets of data, 0 to 65507; 56 if not said. Below 8 there is no room for the time."},
		{Flags: "-t tos", Text: "The type of service, 0 to 255."},
		{Flags: "-T ttl", Text: "The time to live, 1 to 255; 255 if not said."},
		{Flags: "-v", Text: "Print all ICMP that comes, with the packets that errors return."},
		{Flags: "-w maxwait", Text: "How many seconds to wait for the reply to the last request. If not said: ten intervals, or twice the slowest reply."},
	},
	JSON: `One object at the end: host, address, size, transmitted, received, duplicates, loss (percent), rtt (min, avg, max, stddev in milliseconds), replies (seq, from, bytes, ttl, time in milliseconds, duplicate, damaged; the first 65,536, none with -q) and errors (from, type, code, text: other ICMP about our requests; an echo socket tells the text alone, type and code are -1).`,
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "A reply came."},
		{Status: 1, Text: "Wrong usage, an unknown host, no stack or no socket."},
		{Status: 2, Text: "No reply came."},
	},
	Examples: []cli.Item{
		{Name: "ping -c 3 10.25", Text: "Three requests to 10.0.0.25."},
		{Name: "ping -D -s 1472 gate", Text: "Does a full Ethernet frame pass undivided?"},
	},
	SeeAlso: []string{"arp(8)", "netstat(1)", "route(8)", "setkey(8)"},
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
	if o.audible && o.flood {
		ctx.Errorf("Sorry, no audible output for flood pings")
	}
	stack, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer stack.Close()
	c := ctx.Ctx
	if c == nil {
		c = context.Background()
	}
	// The signals end ping well, and a look-up that hangs at once.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)

	s := &session{options: o, json: ctx.JSON, err: ctx.Stderr}
	s.Out, s.Signals = bufio.NewWriter(ctx.Stdout), signals
	s.name = func(a netip.Addr) string {
		if !o.numeric {
			if n, err := stack.LookupAddr(c, a); err == nil && n != "" {
				return fmt.Sprintf("%s (%s)", n, a)
			}
		}
		return a.String()
	}
	if err := s.resolve(c, stack); err != nil {
		return ctx.Errorf("%v", err)
	}
	var gateway, source netip.Addr
	for _, x := range []struct {
		text string
		to   *netip.Addr
	}{{o.gateway, &gateway}, {o.source, &source}} {
		if x.text == "" {
			continue
		}
		if *x.to, err = address(c, stack, x.text); err != nil {
			return ctx.Errorf("%v", err)
		}
	}
	l, err := open(stack, o, s.to, gateway, source)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	s.link = l
	return s.run(c)
}

// resolver answers names.
type resolver interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, ip netip.Addr) (string, error)
}

// resolve finds the host's address, and for a number its name.
func (s *session) resolve(ctx context.Context, names resolver) error {
	s.hostname = s.host
	a, err := address(ctx, names, s.host)
	if err != nil {
		return err
	}
	s.to, s.hop = a, a
	if _, err := protocol.ParseInetAton(s.host); err == nil && !s.numeric {
		if n, err := names.LookupAddr(ctx, a); err == nil && n != "" {
			s.hostname = n
		}
	}
	return nil
}

// said is an error in the words that the original prints.
type said string

func (s said) Error() string { return string(s) }

func sentence(format string, a ...any) error { return said(fmt.Sprintf(format, a...)) }

// address is the IPv4 address of a host.
func address(ctx context.Context, names resolver, host string) (netip.Addr, error) {
	if a, err := protocol.ParseInetAton(host); err == nil {
		return a, nil
	}
	all, err := names.LookupHost(ctx, host)
	if err != nil {
		return netip.Addr{}, sentence("Cannot resolve %q (%v)", host, err)
	}
	for _, a := range all {
		if a = a.Unmap(); a.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, sentence("Cannot resolve %q (it has no IPv4 address)", host)
}
