// Package ipnat is the command ipnat: the rules of address translation, and its sessions.
package ipnat

import (
	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// Command is ipnat.
var Command = cli.Command{
	Name:  "ipnat",
	Short: "change and show the rules of address translation",
	Synopsis: []string{
		"[-CdFhlnprRsv] [-f file] ...",
	},
	Long: "The packet filter translates addresses; mount -Ttcpip lsm-ipfilter.so loads it. Its rules, in the language of ipnat(5), are tried in their order; " +
		"the first that matches a packet of no session makes a session, and what belongs to a session is translated as its first packet was.\n\n" +
		"All that a command line changes is one change: first -F and -C, then the files. A fault in any line, FILE:LINE:COLUMN: what is wrong, " +
		"leaves everything as it was, and packets meet the rules of before or those of after. -CF -f file loads a file anew.",
	Options: []cli.Opt{
		{Flags: "-C", Text: "Take all rules out. Sessions go on, but for those whose rule says purge."},
		{Flags: "-F", Text: "End all sessions."},
		{Flags: "-f file", Text: "Add the rules of a file; - is standard input. May be said several times."},
		{Flags: "-r", Text: "Remove the rules of the files instead."},
		{Flags: "-p", Text: "With -r: end the sessions of the rules that are removed."},
		{Flags: "-n", Text: "Change nothing: check the files."},
		{Flags: "-R", Text: "Look no names up: hosts and ports in files are numbers."},
		{Flags: "-l", Text: "List rules and sessions."},
		{Flags: "-h", Text: "List them, before each rule how many sessions it began."},
		{Flags: "-s", Text: "Show statistics."},
		{Flags: "-v", Text: "Of files: print each rule as it is understood. With -l: of each session also what is left of its time, its age and how long it is idle, in seconds, its protocol, interface, octets and packets, in and out."},
		{Flags: "-d", Text: "What -v says, and of each session its rule and tag."},
	},
	JSON: "One object, with what was asked for. statistics (-s): mapped_in, mapped_out (packets), added, expired, evicted (sessions), bad (packets that could not be translated), exhausted (no port was free), icmp, bad_icmp (errors), " +
		"fragments, bad_fragments, fragments_full, in_use (sessions), rules. rules (-l, an array): rule, redirect, hits, sessions. sessions (-l, an array): kind (as its rule begins), interface, protocol (a number), inside, outer, remote (address:port), " +
		"established, age, idle, ttl (seconds), packets_in, packets_out, bytes_in, bytes_out, rule, tag.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, a fault in a file, no stack, no packet filter in it, or a change that failed."},
	},
	Files: []cli.Item{{Name: "/etc/ipnat.conf", Text: "Where rules usually are."}},
	Examples: []cli.Item{
		{Name: "ipnat -CF -f /etc/ipnat.conf", Text: "Load the file anew, and begin without sessions."},
		{Name: "echo 'map en0 10.0.0.0/8 -> 0/32 portmap tcp/udp auto' | ipnat -f -", Text: "Have the network 10 share en0's address."},
		{Name: "ipnat -nvf /etc/ipnat.conf", Text: "Check a file, and see what is understood; no stack is needed."},
		{Name: "ipnat -lv", Text: "Who is translated to what."},
	},
	SeeAlso: []string{"ipf(8)", "ipfs(8)", "ipmon(8)", "ippool(8)", "mount(1)"},
	Run:     run,
}

// Stack is what ipnat asks of a stack; *client.Stack answers all but the tables.
type Stack interface {
	ruleset.Editor
	ruleset.Resolver
	Statistics() (protocol.NATRow, error)
	Rules() ([]protocol.NATRuleRow, error)
	Sessions() ([]protocol.NATSessionRow, error)
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Statistics() (row protocol.NATRow, err error) {
	rows, err := client.Table[protocol.NATRow](r.Stack, protocol.TableNAT, "")
	if len(rows) > 0 {
		row = rows[0]
	}
	return row, err
}

func (r remote) Rules() ([]protocol.NATRuleRow, error) {
	return client.Table[protocol.NATRuleRow](r.Stack, protocol.TableNATRules, "")
}

func (r remote) Sessions() ([]protocol.NATSessionRow, error) {
	return client.Table[protocol.NATSessionRow](r.Stack, protocol.TableNATSessions, "")
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err == nil && ctx.JSON && !o.list && !o.stats {
		err = cli.Misuse("--json is there for -l and -s")
	}
	if err != nil {
		return ctx.Refuse(err)
	}
	o.verbose = o.verbose || ctx.Verbose
	c, stop := ctx.Interruptible()
	defer stop()
	var s *client.Stack
	defer func() {
		if s != nil {
			s.Close()
		}
	}()
	t := tool{ctx: c, out: ctx.Stdout, json: ctx.JSON, read: func(path string) (string, []byte, error) { return ruleset.Read(ctx, path) },
		open: func() (Stack, error) {
			if s == nil {
				if s, err = client.Open(ctx.Sock); err != nil {
					return nil, err
				}
			}
			return remote{s}, nil
		}}
	if err := t.do(o); err != nil {
		for _, line := range lines(err) {
			ctx.Errorf("%s", line)
		}
		return 1
	}
	return 0
}
