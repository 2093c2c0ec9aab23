package traceroute

import (
	"context"
	"fmt"
	"net/netip"

	"ionet/client"
	"ionet/tool/cli"
)

// Command6 is traceroute6.
var Command6 = cli.Command{
	Name:     "traceroute6",
	Short:    "print the route that IPv6 packets take to a host",
	Synopsis: []string{"[-dIlnrv] [-f firsthop] [-m hoplimit] [-p port] [-q probes] [-s src] [-w waittime] target [datalen]"},
	Long: `traceroute6 sends UDP datagrams with a hop limit of 1, 2, 3 …, three of each, to ports of target that nobody listens on. Each router on the way drops one and says so (ICMPv6 time exceeded), and a row is printed of who it was and how long that took; the end is where the port is unreachable. A star is a probe that nobody answered in time. The header goes to standard error.

Behind a time: !N: no route; !P: prohibited; !S: beyond the scope of the source; !A: address unreachable; !F: too big for a link on the way; !H: the target knows no UDP; !<num>: code num of an unreachable. A lone ! is an answer that came back with the last hop of its limit.

It wants raw sockets, and so the superuser of the stack.`,
	Options: []cli.Opt{
		{Flags: "-d", Text: "Set SO_DEBUG on the socket."},
		{Flags: "-f firsthop", Text: "The hop limit of the first probes; 1 if not said."},
		{Flags: "-g gateway", Text: "Refused: routing headers of type 0 are dropped everywhere (RFC 5095)."},
		{Flags: "-I", Text: "Send ICMPv6 echo requests instead of UDP datagrams."},
		{Flags: "-l", Text: "Print the name and the number of each router; without -l and -n the name alone."},
		{Flags: "-m hoplimit", Text: "The largest hop limit; 30 if not said."},
		{Flags: "-n", Text: "Print numbers, look no names up."},
		{Flags: "-p port", Text: "The probes go to ports from this one on, which is never used itself; 33434 if not said."},
		{Flags: "-q probes", Text: "How many probes a hop limit; 3 if not said."},
		{Flags: "-r", Text: "Past the routing table: the host is on a network of ours."},
		{Flags: "-s src", Text: "The source address."},
		{Flags: "-v", Text: "Print how large answers are and where to, and the other ICMPv6 that comes."},
		{Flags: "-w waittime", Text: "How many seconds to wait for an answer; 5 if not said."},
	},
	JSON:       jsonText,
	ExitStatus: statuses,
	Examples:   []cli.Item{{Name: "traceroute6 -n 2001:db8:2::25", Text: "The routers on the way, as numbers."}},
	SeeAlso:    []string{"netstat(1)", "ping6(8)", "route(8)", "traceroute(8)"},
	Run:        run6,
}

func run6(ctx *cli.Context, args []string) int {
	o, err := parse(args, inet6)
	if err != nil {
		return ctx.Refuse(err)
	}
	if len(o.gateways) > 0 {
		return ctx.Errorf("%v", errNoRoutingHeader)
	}
	return open(ctx, o, func(c context.Context, stack *client.Stack) (*session, error) {
		zones := interfaces{stack}
		find := func(host string) (plain, numbered netip.Addr, err error) {
			if plain, err = netip.ParseAddr(host); err != nil {
				if plain, err = lookup(c, stack, host, netip.Addr.Is6); err != nil {
					return plain, plain, err
				}
			}
			if !plain.Is6() || plain.Is4In6() {
				return plain, plain, fmt.Errorf("%s: an IPv6 address belongs there; traceroute is for IPv4", host)
			}
			numbered, err = zones.numbered(plain)
			return plain, numbered, err
		}
		to, numbered, err := find(o.host)
		if err != nil {
			return nil, err
		}
		var source netip.Addr
		if o.source != "" {
			if _, source, err = find(o.source); err != nil {
				return nil, err
			}
		}
		l, err := open6(stack, o, numbered, source, zones.name)
		if err != nil {
			return nil, err
		}
		if o.size == 0 {
			o.size = opacketLen
		}
		from := l.from
		if from.Zone() != "" {
			from = from.WithZone(zones.name(from.Zone()))
		}
		return &session{options: o, prog: "traceroute6", to: to, from: from, unit: "byte packets", link: l, address: row6}, nil
	})
}

// row6 shows who answered as traceroute6 does: the name, or with -l both.
func row6(s *session, a answer) string {
	var b string
	switch {
	case s.numeric:
		b = " " + a.from.String()
	case s.show:
		b = fmt.Sprintf(" %s (%s)", s.name(a.from), a.from)
	default:
		b = " " + s.name(a.from)
	}
	if s.verbose {
		b += fmt.Sprintf(" %d bytes of data to %s", a.size, a.to)
	}
	return b
}
