package traceroute

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// jsonText says what --json of both commands prints.
const jsonText = `One object at the end: host, address, source, max_hops, size, reached and hops (ttl, and probes: from, name, time in milliseconds, ttl with -l, mark; an empty one was not answered).`

var statuses = []cli.Exit{
	{Status: 0, Text: "The probes were sent, whatever came back."},
	{Status: 1, Text: "Wrong usage, an unknown host, no stack, no right to raw sockets, or sending failed."},
}

// Command is traceroute.
var Command = cli.Command{
	Name:     "traceroute",
	Short:    "print the route that packets take to a host",
	Synopsis: []string{"[-dDFIlnPrvx] [-f first_ttl] [-g gateway] [-i iface] [-m max_ttl] [-p port] [-q nprobes] [-s src_addr] [-t tos] [-w waittime] host [packetlen]"},
	Long: `traceroute sends UDP datagrams with a time to live of 1, 2, 3 …, three of each, to ports of host that nobody listens on. Each router on the way drops one and says so (ICMP time exceeded), and a row is printed of who it was and how long that took; the end is where the port is unreachable. A star is a probe that nobody answered in time. The header goes to standard error.

Behind a time: !H, !N, !P: host, network or protocol unreachable; !S: source route failed; !F: fragmentation needed; !X: prohibited by an administrator; !<num>: code num of an unreachable. A lone ! is an answer that came back with the last hop of its time to live.

It wants raw sockets, and so the superuser of the stack.`,
	Options: []cli.Opt{
		{Flags: "-d", Text: "Set SO_DEBUG on the socket."},
		{Flags: "-D", Text: "Dump each packet on standard error before it is sent."},
		{Flags: "-f first_ttl", Text: "The time to live of the first probes; 1 if not said."},
		{Flags: "-F", Text: "Set Don't Fragment."},
		{Flags: "-g gateway", Text: "Go through gateway by a loose source route; up to 8 of them."},
		{Flags: "-i iface", Text: "Send through this interface, from its address."},
		{Flags: "-I", Text: "Send ICMP echo requests instead of UDP datagrams."},
		{Flags: "-l", Text: "Show the time to live that the answer came with."},
		{Flags: "-m max_ttl", Text: "The largest time to live; 30 if not said."},
		{Flags: "-n", Text: "Print numbers, look no names up."},
		{Flags: "-p port", Text: "The probes go to ports from this one on, which is never used itself; 33434 if not said."},
		{Flags: "-P", Text: "Find the path MTU: Don't Fragment is set, the first packet is as large as the interface takes, and each router that cannot pass it on makes the next one smaller."},
		{Flags: "-q nprobes", Text: "How many probes a time to live; 3 if not said."},
		{Flags: "-r", Text: "Past the routing table: the host is on a network of ours."},
		{Flags: "-s src_addr", Text: "The source address."},
		{Flags: "-t tos", Text: "The type of service, 0 to 255."},
		{Flags: "-v", Text: "Print how large answers are and where to, and the other ICMP that comes."},
		{Flags: "-w waittime", Text: "How many seconds to wait for an answer; 5 if not said."},
		{Flags: "-x", Text: "Send UDP datagrams without a checksum."},
	},
	JSON:       jsonText,
	ExitStatus: statuses,
	Examples: []cli.Item{
		{Name: "traceroute -n 10.1.0.25", Text: "The routers on the way to 10.1.0.25, as numbers."},
		{Name: "traceroute -P gate", Text: "How large may a packet be on the way to gate?"},
	},
	SeeAlso: []string{"netstat(1)", "ping(8)", "route(8)", "traceroute6(8)"},
	Run:     run4,
}

func run4(ctx *cli.Context, args []string) int {
	o, err := parse(args, inet4)
	if err != nil {
		return ctx.Refuse(err)
	}
	return open(ctx, o, func(c context.Context, stack *client.Stack) (*session, error) {
		to, err := lookup(c, stack, o.host, netip.Addr.Is4)
		if err != nil {
			return nil, err
		}
		var source netip.Addr
		if o.source != "" {
			if source, err = lookup(c, stack, o.source, netip.Addr.Is4); err != nil {
				return nil, err
			}
		}
		var through []netip.Addr
		for _, g := range o.gateways {
			a, err := lookup(c, stack, g, netip.Addr.Is4)
			if err != nil {
				return nil, err
			}
			through = append(through, a)
		}
		l, err := open4(stack, o, to, through, source)
		if err != nil {
			return nil, err
		}
		if o.dump {
			l.dumpTo = ctx.Stderr
		}
		if o.size == 0 {
			o.size = inet4.least + gatewayOctets(o)
			if o.mtu {
				o.size = max(o.size, leaving(ctx.Sock, stack, l.firstHop()))
			}
		}
		s := &session{options: o, prog: "traceroute", to: to, unit: "byte packets", link: l, address: row4}
		if o.source != "" || o.iface != "" {
			s.from = l.from
		}
		return s, nil
	})
}

// row4 shows who answered as traceroute does: name (address).
func row4(s *session, a answer) string {
	b := " " + a.from.String()
	if !s.numeric {
		b = fmt.Sprintf(" %s (%s)", s.name(a.from), a.from)
	}
	if s.verbose {
		b += fmt.Sprintf(" %d bytes to %s", a.size, a.to)
	}
	return b
}

// open runs the session that begin prepares on the stack.
func open(ctx *cli.Context, o *options, begin func(context.Context, *client.Stack) (*session, error)) int {
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
	s, err := begin(c, stack)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	s.hostname, s.out, s.err, s.json, s.now = o.host, ctx.Stdout, ctx.Stderr, ctx.JSON, time.Now
	s.name = func(a netip.Addr) string {
		if n, err := stack.LookupAddr(c, a); err == nil && n != "" {
			return n
		}
		return a.String()
	}
	return s.run(c)
}

// lookup is the first address of a host that is of the family.
func lookup(ctx context.Context, stack *client.Stack, host string, is func(netip.Addr) bool) (netip.Addr, error) {
	all, err := stack.LookupHost(ctx, host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("unknown host %s: %v", host, err)
	}
	for _, a := range all {
		if is(a.Unmap()) {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("unknown host %s: it has no address of this family", host)
}

// leaving is the MTU of the interface that packets to a host leave by; 0 if that
// is not to be had.
func leaving(sock string, stack *client.Stack, to netip.Addr) int {
	r, err := client.OpenRoute(sock)
	if err != nil {
		return 0
	}
	defer r.Close()
	m, err := r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Dst: protocol.AddrFrom(to, 0)})
	if err != nil {
		return 0
	}
	rows, err := client.Table[protocol.InterfaceRow](stack, protocol.TableInterfaces, "")
	if err != nil {
		return 0
	}
	for _, i := range rows {
		if i.Index == m.Index {
			return min(i.MTU, maxPacket)
		}
	}
	return 0
}
