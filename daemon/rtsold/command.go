package rtsold

import (
	"path/filepath"

	"ionet/daemon/life"
	"ionet/tool/cli"
)

// options are a command line.
type options struct {
	ifaces []string
	auto   bool // -a
	level  life.Level
	front  bool
	mobile bool
	force  bool   // -F
	once   bool   // ends when every interface has heard a router
	other  string // -O

	oneShot bool // rtsol: gives up too
}

var statusAnswered = []cli.Exit{
	{Status: 0, Text: "A router has answered on every interface."},
	{Status: 1, Text: "None has on some, wrong usage, no stack, no right to raw sockets, or a stack that pays no heed to advertisements."},
}

var common = []cli.Opt{
	{Flags: "-a", Text: "Every interface that is not a loopback and has a link address."},
	{Flags: "-d", Text: "Say what is done."},
	{Flags: "-D", Text: "Print each advertisement too."},
	{Flags: "-F", Text: "Make the stack a host that pays heed to advertisements: net.inet6.ip6.forwarding=0, accept_rtadv=1."},
	{Flags: "-O script", Text: "Run script, an absolute path, with the interface's name when a router advertises that other configuration is to be had by DHCPv6 (the O flag)."},
}

// Command is rtsold.
var Command = cli.Command{
	Name:     "rtsold",
	Short:    "solicit routers whenever a link comes up",
	Synopsis: []string{"[-dDfFm1] [-O script] interface ...", "[-dDfFm1] [-O script] -a"},
	Long: `rtsold sends up to three router solicitations, four seconds apart, on each interface: at the start and whenever the interface or its link comes up again, until a router advertises itself. The stack configures itself from the advertisement. It goes to the background when it serves.

The stack solicits too when an interface comes up; rtsold is for links that change unseen (-m), for whoever waits for a router (-1), and for -O. Its solicitations leave by a raw socket, so that it hears what comes of them.

SIGUSR1 writes the state to a file.`,
	Options: append([]cli.Opt{
		{Flags: "-1", Text: "End when a router has been heard on every interface."},
		{Flags: "-f", Text: "Stay in the foreground; the log goes to standard error."},
		{Flags: "-m", Text: "Mobile: solicit again every minute, for a move to another link that looks like this one."},
	}, common...),
	Files: []cli.Item{
		{Name: "$SOCK/var/run/rtsold.dump", Text: "The state, after SIGUSR1."},
		{Name: "$SOCK/var/run/rtsold.pid", Text: "The number of the process in the background."},
		{Name: "$SOCK/var/log/rtsold.log", Text: "Its log."},
	},
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "It serves in the background, or has ended as it was asked to."},
		{Status: 1, Text: "Wrong usage, no stack, no right to raw sockets, or a stack that pays no heed to advertisements, or has gone."},
	},
	Examples: []cli.Item{{Name: "rtsold -m en0", Text: "Look for a router on en0 every minute."}},
	SeeAlso:  []string{"ndp(8)", "rtadvd(8)", "rtsol(8)", "sysctl(8)"},
	Run: func(ctx *cli.Context, args []string) int {
		o, err := parse("adDfFm1O:", args)
		if err != nil {
			return ctx.Refuse(err)
		}
		return life.Run(ctx, "rtsold", o.front, o.level, func(d *life.Daemon) error { return serve(d, o) })
	},
}

// Once is rtsol.
var Once = cli.Command{
	Name:     "rtsol",
	Short:    "solicit routers once",
	Synopsis: []string{"[-dDF] [-O script] interface ...", "[-dDF] [-O script] -a"},
	Long: `rtsol sends up to three router solicitations, four seconds apart, on each interface, and ends when a router has advertised itself on every one, or a second after the last solicitation. An interface that is up and has no usable link-local address yet is waited for.

The stack configures itself from the advertisement.`,
	Options:    common,
	ExitStatus: statusAnswered,
	Examples:   []cli.Item{{Name: "rtsol en0 && ping6 -c 1 gate", Text: "Go on when there is a router."}},
	SeeAlso:    []string{"ndp(8)", "rtadvd(8)", "rtsold(8)", "sysctl(8)"},
	Run: func(ctx *cli.Context, args []string) int {
		o, err := parse("adDFO:", args)
		if err != nil {
			return ctx.Refuse(err)
		}
		o.once, o.oneShot = true, true
		return life.Run(ctx, "rtsol", true, o.level, func(d *life.Daemon) error { return serve(d, o) })
	},
}

func parse(spec string, args []string) (*options, error) {
	o := &options{}
	flags, rest, err := cli.Getopt(spec, args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	for _, f := range flags {
		switch f.Name {
		case "a":
			o.auto = true
		case "d":
			o.level = max(o.level, life.Debug)
		case "D":
			o.level = life.Dump
		case "f":
			o.front = true
		case "F":
			o.force = true
		case "m":
			o.mobile = true
		case "1":
			o.once = true
		case "O":
			if !filepath.IsAbs(f.Value) {
				return nil, cli.Misuse("-O %s: the path of the script begins with a slash", f.Value)
			}
			o.other = f.Value
		}
	}
	switch {
	case o.auto && len(rest) > 0:
		return nil, cli.Misuse("-a is every interface: none is named beside it")
	case !o.auto && len(rest) == 0:
		return nil, cli.Misuse("an interface is missing, or -a")
	}
	o.ifaces = rest
	return o, nil
}
