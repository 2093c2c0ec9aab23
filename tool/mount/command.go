package mount

import (
	"os"
	"syscall"

	"ionet/client"
	"ionet/tool/cli"
)

// Command is mount.
var Command = cli.Command{
	Name:  "mount",
	Short: "add an interface to a running stack",
	Synopsis: []string{
		"[-v] -T io-net [-o options] module",
		"... (anything else is the system's mount)",
	},
	Long: `mount -T io-net gives a running stack another driver: module is its name as io-net -d takes it, devn-wire.so or a path that ends so; the options are those of the driver. Without -T a module whose name begins with devn- is understood as io-net's.

Every other command line is handed to the mount of the system, as it was typed.`,
	Options: []cli.Opt{
		{Flags: "-T type, -t type", Text: "io-net (or io-net1 for the second instance): a driver."},
		{Flags: "-o options", Text: "The driver's options, with commas between."},
		{Flags: "-v", Text: "Print what came of it."},
		{Flags: "-a, -b, -e, -r, -u, -w", Text: "Taken and without effect on a driver."},
	},
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "The interface is there."},
		{Status: 1, Text: "Wrong usage, no stack, or the driver did not start. What the system's mount says otherwise."},
	},
	Examples: []cli.Item{
		{Name: "mount -T io-net -o path=/tmp/lan devn-wire.so", Text: "Join another segment."},
		{Name: "mount", Text: "What the system has mounted."},
	},
	SeeAlso: []string{"umount(8)", "io-net(8)", "nicinfo(8)", "ifconfig(8)"},
	Run:     runMount,
}

// UmountCommand is umount.
var UmountCommand = cli.Command{
	Name:  "umount",
	Short: "take an interface, or the packet filter, away from a running stack",
	Synopsis: []string{
		"[-v] [-f] /dev/io-net/en0 ...",
		"[-v] [-f] ipfilter0",
		"... (anything else is the system's umount)",
	},
	Long: `umount takes a driver and its interface out of a running stack. The path is that of its file, with or without the stack's prefix. ipfilter0 is the packet filter, with its rules and states. TCP/IP itself cannot be unmounted.

Every other command line is handed to the umount of the system, as it was typed.`,
	Options: []cli.Opt{
		{Flags: "-f", Text: "Taken: an interface goes at once in any case."},
		{Flags: "-v", Text: "Print what is tried."},
	},
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "The interface is gone."},
		{Status: 1, Text: "Wrong usage, no stack, or no such driver. What the system's umount says otherwise."},
	},
	Examples: []cli.Item{{Name: "umount /dev/io-net/en0", Text: "Take en0 away."}},
	SeeAlso:  []string{"mount(8)", "io-net(8)", "nicinfo(8)"},
	Run:      runUmount,
}

func runMount(ctx *cli.Context, args []string) int {
	r, err := parseMount(args)
	switch {
	case err != nil:
		return ctx.Usage(err)
	case r == nil:
		return handOver(ctx, "mount", args)
	}
	r.verbose = r.verbose || ctx.Verbose
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	return mountOn(s, r, ctx.Stdout, ctx.Stderr)
}

func runUmount(ctx *cli.Context, args []string) int {
	u, err := parseUmount(args)
	switch {
	case err != nil:
		return ctx.Usage(err)
	case u == nil:
		return handOver(ctx, "umount", args)
	}
	u.verbose = u.verbose || ctx.Verbose
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	return umountOn(s, u, ctx.Stdout, ctx.Stderr)
}

// handOver becomes the system's own command.
func handOver(ctx *cli.Context, name string, args []string) int {
	p, err := newFinder(ctx.Env).find(name)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	if ctx.Verbose {
		args = append([]string{"--verbose"}, args...)
	}
	err = syscall.Exec(p, append([]string{name}, args...), append(os.Environ(), handedOver+"=1"))
	return ctx.Errorf("%s: %v", p, err)
}
