// Package brconfig is the command brconfig: bridges, their members, and the stations that
// they know.
package brconfig

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ifconfig"
)

// Command is brconfig.
var Command = cli.Command{
	Name:  "brconfig",
	Short: "show and configure bridges",
	Synopsis: []string{
		"-a",
		"bridge",
		"bridge command [parameters] ...",
	},
	Long: "A bridge makes Ethernets one: a frame that one member receives goes to the member behind which its station was last heard, or to all of " +
		"them. ifconfig bridge0 create makes one, ifconfig bridge0 destroy ends it. Members are Ethernets and vlans. A bridge has no addresses: each member keeps its own, and is a " +
		"station of the bridged network, reached from all of it.\n\n" +
		"Several commands may follow each other; they are done in their order, and the first failure ends them.",
	Options: []cli.Opt{
		{Flags: "-a", Text: "Show all bridges."},
		{Flags: "up, down", Text: "Begin or stop bridging."},
		{Flags: "add interface, delete interface", Text: "Make an interface a member, or take it out."},
		{Flags: "discover interface, -discover interface", Text: "Send frames for unknown stations by the member, or do not."},
		{Flags: "learn interface, -learn interface", Text: "Learn the stations behind the member, or do not."},
		{Flags: "stp interface, -stp interface", Text: "Let the member take part in the spanning tree (IEEE 802.1D), so that loops do no harm, or do not."},
		{Flags: "priority n", Text: "The bridge's priority to become the root, 0 to 65535; the lowest is the root. 32768 if not said."},
		{Flags: "hellotime seconds", Text: "How often the root speaks, 1 to 10; 2 if not said."},
		{Flags: "fwddelay seconds", Text: "How long a member listens, and learns, before it forwards, 2 to 30; 15 if not said."},
		{Flags: "maxage seconds", Text: "When a root that is not heard is given up, 6 to 40; 20 if not said."},
		{Flags: "ifpriority interface n, ifpathcost interface n", Text: "A member's priority, 0 to 255, 128 if not said, and the cost of the way by it, 1 to 65535, 55 if not said."},
		{Flags: "addr", Text: "Show the stations that the bridge knows: address, member, seconds until it is forgotten."},
		{Flags: "static interface address", Text: "The station is behind this member, for ever."},
		{Flags: "deladdr address", Text: "Forget a station."},
		{Flags: "flush, flushall", Text: "Forget the stations that were learnt; all of them."},
		{Flags: "maxaddr n", Text: "How many stations the bridge knows at most; 100 if not said."},
		{Flags: "timeout seconds", Text: "When a station that is not heard is forgotten; 1200 if not said, 0 is never."},
	},
	JSON: "One object a line for each bridge: name, flags (IFF_*), maxaddr, timeout (seconds), priority, hellotime, fwddelay, maxage (seconds), id, root, root_cost, root_port (with STP), members (each: interface, port, priority, path_cost, state (with STP), flags (1 learning, 2 discover, 4 STP), " +
		"in_packets, out_packets, dropped), addresses (each: address, interface, expire (seconds, 0 never), static).",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, no such bridge, or a change that failed."},
	},
	Examples: []cli.Item{
		{Name: "ifconfig bridge0 create; brconfig bridge0 add en0 add en1 up", Text: "en0 and en1 are one network."},
		{Name: "brconfig bridge0 stp en0 stp en1", Text: "They may be connected to each other, or to other bridges, in loops."},
		{Name: "brconfig bridge0", Text: "What the bridge is and knows."},
	},
	SeeAlso: []string{"ifconfig(8)", "netstat(1)"},
	Run:     run,
}

// Stack is what brconfig asks of a stack; *client.Stack answers all but the first.
type Stack interface {
	// Bridges answers all bridges, or the one of a name (ENXIO; EINVAL: it is none).
	Bridges(name string) ([]protocol.BridgeRow, error)
	Bridge(r protocol.BridgeReq) error
	SetFlags(name string, set, clear uint32) error
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err == nil && ctx.JSON && len(o.steps) > 0 {
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
	if err := do(remote{s}, o, ctx.JSON, ctx.Stdout); err != nil {
		return ctx.Errorf("%v", err)
	}
	return 0
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Bridges(name string) ([]protocol.BridgeRow, error) {
	return client.Table[protocol.BridgeRow](r.Stack, protocol.TableBridges, name)
}

// do does what a command line says.
func do(s Stack, o *options, asJSON bool, out io.Writer) error {
	if len(o.steps) == 0 {
		return show(s, o.name, asJSON, out)
	}
	for _, t := range o.steps {
		var err error
		switch {
		case t.show:
			err = showAddresses(s, o.name, out)
		case t.flag != 0 && t.set:
			err = s.SetFlags(o.name, t.flag, 0)
		case t.flag != 0:
			err = s.SetFlags(o.name, 0, t.flag)
		default:
			err = s.Bridge(t.req)
		}
		if err != nil {
			what := t.word
			if t.req.Member != "" {
				what += " " + t.req.Member
			}
			return ifconfig.Request(o.name+": "+what, err)
		}
	}
	return nil
}

func show(s Stack, name string, asJSON bool, out io.Writer) error {
	rows, err := s.Bridges(name)
	if err != nil {
		return ifconfig.Request(strings.TrimSpace("bridges "+name), err)
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
		b = appendBridge(b, r)
	}
	_, err = out.Write(b)
	return err
}

func showAddresses(s Stack, name string, out io.Writer) error {
	rows, err := s.Bridges(name)
	if err != nil || len(rows) != 1 {
		return err
	}
	_, err = out.Write(appendAddresses(nil, rows[0], ""))
	return err
}

func appendBridge(b []byte, r protocol.BridgeRow) []byte {
	b = append(append(b, r.Name...), ": "...)
	b = append(ifconfig.AppendFlags(b, r.Flags), '\n')
	b = fmt.Appendf(b, "\tConfiguration:\n\t\tpriority %d hellotime %d fwddelay %d maxage %d\n", r.Priority, r.Hello, r.Delay, r.MaxAge)
	if r.Root != "" {
		b = fmt.Appendf(b, "\t\tid %s root %s cost %d", r.ID, r.Root, r.RootCost)
		if r.RootPort != "" {
			b = fmt.Appendf(b, " by %s", r.RootPort)
		}
		b = append(b, '\n')
	}
	b = append(b, "\tInterfaces:\n"...)
	for _, m := range r.Members {
		b = fmt.Appendf(b, "\t\t%s ", m.Interface)
		b = append(appendBits(b, m.Flags, "LEARNING", "DISCOVER", "STP"), '\n')
		b = fmt.Appendf(b, "\t\t\tport %d priority %d", m.Port, m.Priority)
		if m.State != "" {
			b = fmt.Appendf(b, " path cost %d %s", m.PathCost, m.State)
		}
		b = append(b, '\n')
	}
	b = fmt.Appendf(b, "\tAddress cache (max cache: %d, timeout: %d):\n", r.MaxAddr, r.Timeout)
	return appendAddresses(b, r, "\t\t")
}

func appendAddresses(b []byte, r protocol.BridgeRow, indent string) []byte {
	for _, a := range r.Addresses {
		static := uint32(0)
		if a.Static {
			static = 1
		}
		b = fmt.Appendf(b, "%s%s %s %d ", indent, a.Address, a.Interface, a.Expire)
		b = append(appendBits(b, static, "STATIC"), '\n')
	}
	return b
}

// appendBits appends flags with the names of their bits, from the lowest on.
func appendBits(b []byte, flags uint32, names ...string) []byte {
	b = fmt.Appendf(b, "flags=%x", flags)
	var on []string
	for i, n := range names {
		if flags&(1<<i) != 0 {
			on = append(on, n)
		}
	}
	return fmt.Appendf(b, "<%s>", strings.Join(on, ","))
}
