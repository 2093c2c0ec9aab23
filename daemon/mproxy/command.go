package mproxy

import (
	"slices"
	"strconv"
	"time"

	"ionet/daemon/life"
	"ionet/daemon/mproxy/querier"
	"ionet/protocol"
	"ionet/tool/cli"
)

// options are a command line.
type options struct {
	ifaces     []string // upstream first
	four, six  bool     // asked for; neither: both
	level      life.Level
	foreground bool
	older      bool // -o
	conf       querier.Config
}

// Command is mproxy.
var Command = cli.Command{
	Name:     "mproxy",
	Short:    "forward multicast packets between links (IGMP and MLD proxy)",
	Synopsis: []string{"[-46dDfo] [-q seconds] [-r robustness] upstream downstream ..."},
	Long: `mproxy has the stack forward multicast packets, of both versions of IP, between an upstream interface and the downstream ones (RFC 4605). Downstream it is a router: it asks the hosts which groups, and of which sources, they want (IGMPv3 and MLDv2, older hosts included), unless a router with a lower address does. Upstream it is a host, which wants what they want all together. There is no routing protocol: the links form a tree, whose root is upstream.

Packets that come by upstream leave by the downstream links on which mproxy is the one who asks and a host wants them. Packets of a downstream host leave by upstream, and by the other links likewise. Groups of one link (224.0.0.0/24, ff02::/16) stay there. When the last host of a link that wants a group has left, two seconds pass before its packets end.

It needs no net.inet.ip.forwarding. It is the stack's multicast routing daemon, of which there can be one a version of IP; when it ends, forwarding does. netstat -g shows what it has told the stack. It goes to the background when it serves.

SIGUSR1 writes the state to a file.`,
	Options: []cli.Opt{
		{Flags: "-4, -6", Text: "Only IPv4, or only IPv6."},
		{Flags: "-d", Text: "Log what is done."},
		{Flags: "-D", Text: "Log each message too."},
		{Flags: "-f", Text: "Stay in the foreground; the log goes to standard error."},
		{Flags: "-o", Text: "Ask in IGMPv2 and MLDv1, on links with older routers (RFC 3376 §7.3.1)."},
		{Flags: "-q seconds", Text: "How often hosts are asked; 125."},
		{Flags: "-r robustness", Text: "How many messages of a kind may be lost, and one more; 2."},
	},
	Files: []cli.Item{
		{Name: "$SOCK/var/run/mproxy.dump", Text: "The state, after SIGUSR1."},
		{Name: "$SOCK/var/run/mproxy.pid", Text: "The number of the process in the background."},
		{Name: "$SOCK/var/log/mproxy.log", Text: "Its log."},
	},
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "It serves in the background, or has ended as it was asked to."},
		{Status: 1, Text: "Wrong usage, no stack, no right to raw sockets, another multicast routing daemon, or a stack that has gone."},
	},
	Examples: []cli.Item{{Name: "mproxy en0 en1 en2", Text: "The hosts of en1 and en2 hear what is sent on en0, and each other."}},
	SeeAlso:  []string{"ifmcstat(8)", "netstat(1)"},
	Run: func(ctx *cli.Context, args []string) int {
		o, err := parse(args)
		if err != nil {
			return ctx.Refuse(err)
		}
		return life.Run(ctx, "mproxy", o.foreground, o.level, func(d *life.Daemon) error { return serve(d, o) })
	},
}

func parse(args []string) (*options, error) {
	o := &options{conf: querier.Default}
	flags, rest, err := cli.Getopt("46dDfoq:r:", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	for _, f := range flags {
		switch f.Name {
		case "4":
			o.four = true
		case "6":
			o.six = true
		case "d":
			o.level = max(o.level, life.Debug)
		case "D":
			o.level = life.Dump
		case "f":
			o.foreground = true
		case "o":
			o.older = true
		case "q":
			n, err := strconv.Atoi(f.Value)
			if err != nil || n < 11 || n > 31744 { // longer than the answers take, and what a query can say
				return nil, cli.Misuse("-q %s: hosts are asked every 11 to 31744 seconds", f.Value)
			}
			o.conf.Interval = time.Duration(n) * time.Second
		case "r":
			n, err := strconv.Atoi(f.Value)
			if err != nil || n < 1 || n > 7 {
				return nil, cli.Misuse("-r %s: the robustness is 1 to 7", f.Value)
			}
			o.conf.Robustness = n
		}
	}
	switch {
	case len(rest) < 2:
		return nil, cli.Misuse("an upstream and a downstream interface are wanted")
	case len(rest) > protocol.MaxVifs:
		return nil, cli.Misuse("%d interfaces: the stack takes %d", len(rest), protocol.MaxVifs)
	}
	for i, name := range rest {
		if slices.Contains(rest[:i], name) {
			return nil, cli.Misuse("%s stands there twice", name)
		}
	}
	o.ifaces = rest
	return o, nil
}
