// Package ipf is the command ipf: it changes the rules of the packet filter.
package ipf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// Command is ipf.
var Command = cli.Command{
	Name:  "ipf",
	Short: "change the rules of the packet filter",
	Synopsis: []string{
		"[-6AdDEInorsUvVyzZ] [-l block|pass|nomatch] [-T list|name[=value],...] [-F i|o|a|s|S] [-f file] ...",
	},
	Long: "ipf reads rules in the language of ipf(5) from files and adds them to the packet filter, or removes them. Options are carried out in the order " +
		"in which they are given, and count for those that follow.\n\n" +
		"A command line is one change: packets see all of it or nothing. A fault in any of the files, or a rule that the filter does not " +
		"take, leaves everything as it was. So ipf -Fa -f /etc/ipf.conf loads a file anew without a moment between the old rules and the new ones.\n\n" +
		"The filter has two sets of rules. One is in force; the other one can be made ready meanwhile (-I), and takes its place with -s.\n\n" +
		"mount -Ttcpip lsm-ipfilter.so loads the filter into a stack.",
	Options: []cli.Opt{
		{Flags: "-f file", Text: `Add the rules of the file; "-" is standard input. May be given several times.`},
		{Flags: "-F i|o|a", Text: "Flush the rules for what comes in, what goes out, or all, of the set that was chosen. Words that begin so do too. After -6 those of IPv6 alone."},
		{Flags: "-F s|S", Text: "Flush the states of connections that are not established; all states."},
		{Flags: "-r", Text: "Remove the rules of the files that follow."},
		{Flags: "-I", Text: "What follows is about the inactive set."},
		{Flags: "-A", Text: "What follows is about the active set, as it is without an option."},
		{Flags: "-s", Text: "Swap: the inactive set comes into force, the active one becomes the inactive one."},
		{Flags: "-6", Text: "In files that follow, rules that name no version of IP are about IPv6."},
		{Flags: "-n", Text: "Change nothing: read the files and tell of their faults. Needs no stack."},
		{Flags: "-v", Text: "Print each rule as it was understood, and what else was done."},
		{Flags: "-d", Text: "Print each step of the change on standard error."},
		{Flags: "-z", Text: "Of the rules of the files that follow: print their counters and set them to zero."},
		{Flags: "-Z", Text: "Print the counters of packets, and set them and those of all rules to zero. States and fragments keep theirs."},
		{Flags: "-D", Text: "Disable the filter: every packet passes. Rules and states stay."},
		{Flags: "-E", Text: "Enable it."},
		{Flags: "-l block|pass|nomatch", Text: "Begin or stop to log every packet that is blocked, that passes, or that no rule matches."},
		{Flags: "-T list", Text: "Print the filter's tunables, which are the sysctls net.inet.ipf."},
		{Flags: "-T name[=value],...", Text: "Print a tunable, or set it."},
		{Flags: "-V", Text: "Print the version, and whether a filter runs."},
		{Flags: "-y", Text: "Take over the addresses of interfaces. Rules follow them by themselves here."},
		{Flags: "-o", Text: "Taken and without effect: rules say their direction."},
		{Flags: "-U", Text: "Taken and without effect: what is not IP reaches neither a filter nor another network."},
		{Flags: "-P", Text: "Refused: no program answers for packets here, and rules of authentication have no meaning."},
	},
	JSON: "One object a line. -V: version, stack (whether there is one), filter (whether it is loaded), running, default (\"pass\", \"block\"), log_flags, active (number of the set in force). " +
		"-T: name, value, doc. -z: rule, hits, bytes. -Z: what ipfstat --json prints. A fault, with or without -n: file, line, column, fault.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, a fault in a file, no stack or filter, or a change that was refused. Nothing was changed."},
	},
	Files: []cli.Item{{Name: "/etc/ipf.conf", Text: "Where rules are usually kept."}},
	Examples: []cli.Item{
		{Name: "ipf -Fa -f /etc/ipf.conf", Text: "These rules, and no others, at once."},
		{Name: "ipf -n -f /etc/ipf.conf", Text: "Is the file without fault?"},
		{Name: "ipf -I -Fa -f new.conf -s", Text: "The same, and another ipf -s goes back to what was before."},
		{Name: "echo 'pass in quick on en0 proto tcp from any to any port = 22' | ipf -f -", Text: "One more rule."},
		{Name: "ipf -D", Text: "Let all pass."},
	},
	SeeAlso: []string{"ipfstat(8)", "mount(8)", "sysctl(8)"},
	Run:     run,
}

// Stack is what ipf asks of a stack; *client.Stack answers all but Filter and Rules.
type Stack interface {
	EditRules(language uint8, steps []protocol.RuleStep) (took []int, err error)
	Filter() (protocol.FilterRow, error)
	Rules() ([]protocol.FilterRuleRow, error)
	SysctlList(prefix string) ([]protocol.SysctlNode, error)
	SetSysctl(name, value string) (old string, err error)
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Filter() (protocol.FilterRow, error) {
	rows, err := client.Table[protocol.FilterRow](r.Stack, protocol.TableFilter, "")
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("the stack tells of %d filters", len(rows))
	}
	if err != nil {
		return protocol.FilterRow{}, err
	}
	return rows[0], nil
}

func (r remote) Rules() ([]protocol.FilterRuleRow, error) {
	return client.Table[protocol.FilterRuleRow](r.Stack, protocol.TableFilterRules, "")
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
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
	t := &tool{options: o, ctx: c, json: ctx.JSON, out: ctx.Stdout, errw: ctx.Stderr, host: host{},
		read: func(path string) (string, []byte, error) { return ruleset.Read(ctx, path) },
		open: func() (Stack, error) {
			if s, err = client.Open(ctx.Sock); err != nil {
				return nil, err
			}
			return remote{s}, nil
		}}
	switch err := t.do(); {
	case errors.Is(err, errSaid):
		return 1
	case err != nil:
		return ctx.Errorf("%v", err)
	}
	return 0
}

// host looks names up as the host's programs do.
type host struct{}

func (host) LookupHost(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// tool is one run of the command.
type tool struct {
	*options
	ctx       context.Context
	json      bool
	out, errw io.Writer
	read      func(path string) (name string, text []byte, err error)
	host      ruleset.Resolver // whom a checker asks that finds no stack
	open      func() (Stack, error)

	s     Stack // once it was asked for
	steps []protocol.RuleStep
	of    []origin // of each step
	set   []string // what became of tunables
}
