// Package gifconfig is the command gifconfig: where the stack's tunnels lead.
package gifconfig

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ifconfig"
)

// Command is gifconfig.
var Command = cli.Command{
	Name:  "gifconfig",
	Short: "show and configure tunnels",
	Synopsis: []string{
		"interface [address_family] physsrc physdst",
		"interface delete",
		"interface [address_family]",
		"-a",
	},
	Long: "A gif interface is a tunnel: what is sent by it goes, inside a packet of IPv4 or IPv6, from an address of this host (physsrc) to another host (physdst), " +
		"whose tunnel leads back. Either version of IP goes through a tunnel of either; IPv6 in IPv4 is protocol 41 (RFC 4213), IPv4 in either is protocol 4. " +
		"ifconfig gif0 create makes one, and gives it the addresses of what is inside; ifconfig gif0 tunnel does what gifconfig does.\n\n" +
		"physsrc and physdst are addresses of one family, or names. A packet from the far end is taken only by the interface that the route there goes out by, unless " +
		"ifconfig gif0 link2 says otherwise. The MTU is 1280, as IPv6 asks of every link; with ifconfig gif0 mtu it may be up to 8192, and what is " +
		"then larger than the path takes is answered as by any router.",
	Options: []cli.Opt{
		{Flags: "-a", Text: "Show all tunnels."},
		{Flags: "delete", Text: "Have the tunnel lead nowhere."},
		{Flags: "address_family", Text: "inet or inet6: the family of physsrc and physdst, or of the addresses to show."},
	},
	JSON: "One object a line for each interface, as ifconfig --json has it; tunnel_source and tunnel_destination are there if it leads somewhere.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, no such interface, or a change that failed."},
	},
	Examples: []cli.Item{
		{Name: "gifconfig gif0 10.0.0.1 10.0.0.2", Text: "gif0 leads from here, 10.0.0.1, to 10.0.0.2."},
		{Name: "gifconfig gif0 inet6 2001:db8::1 2001:db8::2", Text: "The same through IPv6."},
	},
	SeeAlso: []string{"ifconfig(8)", "netstat(1)", "route(8)"},
	Run:     run,
}

// Stack is what gifconfig asks of a stack; *client.Stack answers all but the
// first.
type Stack interface {
	// Interfaces answers all interfaces, or the one of a name (ENXIO).
	Interfaces(name string) ([]protocol.InterfaceRow, error)
	SetTunnel(name string, src, dst protocol.Addr) error
	DeleteTunnel(name string) error
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// options are a command line.
type options struct {
	all, remove  bool
	name, family string
	ends         *ifconfig.Ends // nil: show
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("a", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o := &options{all: len(flags) > 0}
	switch {
	case o.all && len(rest) > 0:
		return nil, cli.Misuse("%q: -a shows all tunnels and takes nothing else", rest[0])
	case o.all:
		return o, nil
	case len(rest) == 0:
		return nil, cli.Misuse("an interface or -a is needed")
	}
	o.name, rest = rest[0], rest[1:]
	if len(rest) > 0 && (rest[0] == "inet" || rest[0] == "inet6") {
		o.family, rest = rest[0], rest[1:]
	}
	switch {
	case len(rest) == 0:
	case len(rest) == 1 && rest[0] == "delete":
		o.remove = true
	case len(rest) == 2:
		o.ends, err = ifconfig.ParseEnds(o.family, rest[0], rest[1])
	default:
		return nil, cli.Misuse("%q: an interface is followed by physsrc and physdst, or by delete", rest[0])
	}
	return o, err
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err == nil && ctx.JSON && (o.remove || o.ends != nil) {
		err = cli.Misuse("--json is there for what is shown")
	}
	if err != nil {
		return ctx.Refuse(err)
	}
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	c, stop := ctx.Interruptible()
	defer stop()
	if err := do(c, remote{s}, o, ctx.JSON, ctx.Stdout); err != nil {
		return ctx.Errorf("%v", err)
	}
	return 0
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Interfaces(name string) ([]protocol.InterfaceRow, error) {
	return client.Table[protocol.InterfaceRow](r.Stack, protocol.TableInterfaces, name)
}

// do does what a command line says.
func do(ctx context.Context, s Stack, o *options, asJSON bool, out io.Writer) error {
	if o.remove {
		return ifconfig.Request("SIOCDIFPHYADDR", s.DeleteTunnel(o.name))
	}
	if o.ends != nil {
		src, dst, err := o.ends.Resolve(ctx, s)
		if err != nil {
			return err
		}
		return ifconfig.Request("SIOCSIFPHYADDR", s.SetTunnel(o.name, src, dst))
	}
	rows, err := s.Interfaces(o.name)
	if err == nil && o.name != "" && len(rows) != 1 {
		err = syscall.ENXIO
	}
	if err != nil {
		return ifconfig.Request(strings.TrimSpace("SIOCGIFFLAGS "+o.name), err)
	}
	if o.all {
		rows = slices.DeleteFunc(rows, func(r protocol.InterfaceRow) bool { return !strings.HasPrefix(r.Name, "gif") })
	}
	var b []byte
	for _, r := range rows {
		if asJSON {
			line, err := json.Marshal(r)
			if err != nil {
				return err
			}
			b = append(append(b, line...), '\n')
			continue
		}
		b = ifconfig.AppendHeader(b, r)
		b, _ = ifconfig.AppendAddresses(b, r, o.family, false)
		if r.TunnelSrc != "" {
			b = ifconfig.AppendEnds(append(b, "\tphysical address "...), r)
		}
	}
	_, err = out.Write(b)
	return err
}
