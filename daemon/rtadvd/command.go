package rtadvd

import (
	"errors"

	"ionet/daemon/life"
	"ionet/tool/cli"
)

var errRenumbering = errors.New("-R: router renumbering (RFC 2894) is to be protected by IPsec, which does not act yet: anybody could renumber the network")

// options are a command line.
type options struct {
	ifaces     []string
	conf       string // "": $SOCK/etc/rtadvd.conf, /etc/rtadvd.conf
	level      life.Level
	foreground bool
	mobile     bool
	static     bool
}

// Command is rtadvd.
var Command = cli.Command{
	Name:     "rtadvd",
	Short:    "advertise this router to the hosts of a link",
	Synopsis: []string{"[-dDfms] [-c configfile] interface ..."},
	Long: `rtadvd sends router advertisements on the interfaces: at random intervals, to a host that solicits, and soon after something has changed. From them hosts take their default router, their addresses and their DNS servers. It goes to the background when it serves.

Without a configuration file, or without an entry for the interface, it advertises the prefixes of the interface's routes, and follows their changes: a prefix that goes is advertised with lifetimes of 0 for up to two hours, so that hosts leave it. It wants the stack to forward (net.inet6.ip6.forwarding=1); when the stack ceases to, the advertisements say that it is no router.

Solicitations of a host that has an address are answered to that host alone, others to all. What another router of the link advertises is compared with what we do, and each contradiction is logged once.

SIGUSR1 writes the state to a file. SIGTERM and SIGINT say farewell: three advertisements of no lifetime in six seconds; a second signal ends at once.

Capabilities in the file, which has the form of termcap(5): an entry is named as the interface is, name#number, name="string" or the name alone stand between colons, tc=entry brings those of another entry. Where there is more than one of a thing, a number from 0 to 99 is appended to all its capabilities (addr0, prefixlen0, addr1 …).

	maxinterval#600   seconds between advertisements at most, 4 to 1800
	mininterval#      and at least; a third of that
	rltime#1800       our lifetime as a default router; 0: we are none
	raflags#0         bits or letters: m (0x80) addresses by DHCPv6, o (0x40) other
	                  things by it, h (0x08) high and l (0x18) low preference
	chlim#64          the hop limit of hosts; 0 not said
	rtime#0 retrans#0 reachable time and retransmission timer, ms; 0 not said
	mtu#0             the MTU of the link, or mtu=auto: the interface's
	nolladdr          our link address is not said
	addr= prefixlen#64  a prefix; with none: those of the interface's routes
	pinfoflags#0xc0   bits or letters of it: l on-link, a for addresses
	vltime#2592000    its valid lifetime, -1 for ever
	pltime#604800     its preferred lifetime
	vltimedecr pltimedecr   they fall in real time from the start on
	noifprefix        the interface's prefixes are not advertised
	rtprefix= rtplen#64   a route through us; rtltime#2592000, rtflags (h, l)
	rdnss=            DNS servers, by commas; rdnssltime#, three times maxinterval
	dnssl=            DNS search list, by commas; dnsslltime#, the same
	clockskew#0       by how much lifetimes that fall may differ between routers
	hapref#0 hatime#  of a home agent (raflags bit 0x20), with -m`,
	Options: []cli.Opt{
		{Flags: "-c configfile", Text: "The configuration file; $SOCK/etc/rtadvd.conf if not said, and /etc/rtadvd.conf when that is not there."},
		{Flags: "-d", Text: "Log what is done."},
		{Flags: "-D", Text: "Log each advertisement too."},
		{Flags: "-f", Text: "Stay in the foreground; the log goes to standard error."},
		{Flags: "-m", Text: "Mobile IPv6: advertise the interval, and a home agent where raflags says that this is one."},
		{Flags: "-M interface, -R", Text: "Router renumbering (RFC 2894). Refused until IPsec acts: anybody could renumber the network."},
		{Flags: "-s", Text: "Static: advertise the prefixes of the file alone, not those of routes."},
	},
	Files: []cli.Item{
		{Name: "$SOCK/etc/rtadvd.conf", Text: "The configuration."},
		{Name: "$SOCK/var/run/rtadvd.dump", Text: "The state, after SIGUSR1."},
		{Name: "$SOCK/var/run/rtadvd.pid", Text: "The number of the process in the background."},
		{Name: "$SOCK/var/log/rtadvd.log", Text: "Its log."},
	},
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "It serves in the background, or has ended as it was asked to."},
		{Status: 1, Text: "Wrong usage or configuration, no stack, no right to raw sockets, a stack that does not forward, or one that has gone."},
	},
	Examples: []cli.Item{
		{Name: "rtadvd en0", Text: "Advertise the prefixes of en0's addresses."},
		{Name: `printf 'en0:rdnss="2001:db8::53":\n' >$SOCK/etc/rtadvd.conf`, Text: "With a DNS server."},
	},
	SeeAlso: []string{"ndp(8)", "rtsol(8)", "sysctl(8)"},
	Run:     run,
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags, rest, err := cli.Getopt("c:dDfmM:Rs", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	for _, f := range flags {
		switch f.Name {
		case "c":
			o.conf = f.Value
		case "d":
			o.level = max(o.level, life.Debug)
		case "D":
			o.level = life.Dump
		case "f":
			o.foreground = true
		case "m":
			o.mobile = true
		case "M", "R":
			return nil, errRenumbering
		case "s":
			o.static = true
		}
	}
	if len(rest) == 0 {
		return nil, cli.Misuse("an interface is missing")
	}
	for i, name := range rest {
		for _, other := range rest[:i] {
			if name == other {
				return nil, cli.Misuse("%s stands there twice", name)
			}
		}
	}
	o.ifaces = rest
	return o, nil
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	return life.Run(ctx, "rtadvd", o.foreground, o.level, func(d *life.Daemon) error { return serve(d, o) })
}
