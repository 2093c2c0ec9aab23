// Package ipfstat is the command ipfstat: what the packet filter has, and has counted.
package ipfstat

import (
	"errors"
	"fmt"
	"io"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// Command is ipfstat.
var Command = cli.Command{
	Name:  "ipfstat",
	Short: "show the packet filter's rules, states and counters",
	Synopsis: []string{
		"[-v]",
		"-i|-o|-io [-6adhInv]",
		"-s|-f [-6dl]",
		"-g|-A",
		"-t [-6C] [-S addr[,port]] [-D addr[,port]] [-P protocol] [-T seconds]",
	},
	Long: "Without an option ipfstat prints what the filter has counted: packets for each direction, what of them was logged, fragments and states that " +
		"were begun (kept) and could not be (lost), and answers.\n\n" +
		"Rules are printed as ipf reads them. Those of a group stand behind the others, under a line with its name; each list is numbered from 1.\n\n" +
		"A state of TCP is shown by the states of its two sides, who began first:\n\n" +
		"\t0  closed        4  established   8  last ack\n" +
		"\t2  SYN sent      5  close wait    9  FIN wait 2\n" +
		"\t3  SYN received  6  FIN wait 1    A  time wait\n" +
		"\t                 7  closing\n\n" +
		"-t shows the states as top(1) shows processes. Its keys: q ends it, s sorts by the next column, r reverses the order, f and b count what goes " +
		"forward and what comes back, l draws the page anew. Into a pipe or file it prints one page with all of them.",
	Options: []cli.Opt{
		{Flags: "-i, -o", Text: "Show the rules for what comes in, for what goes out; with both those for what goes out are first."},
		{Flags: "-6", Text: "Rules, states and fragments of IPv6. Without it rules are IPv4's, and states and fragments those of both."},
		{Flags: "-I", Text: "The rules of the inactive set."},
		{Flags: "-a", Text: "Only the rules of accounting (count), with the octets that each has counted in front."},
		{Flags: "-h", Text: "With how many packets each rule has matched in front."},
		{Flags: "-n", Text: "With the number of each rule, as ipf(5) takes it to insert another one before it."},
		{Flags: "-v", Text: "Packets and octets in front of rules; more counters."},
		{Flags: "-d", Text: "Behind each row all that is known of it, as JSON in a comment."},
		{Flags: "-s", Text: "What was counted of states."},
		{Flags: "-f", Text: "What was counted of fragments."},
		{Flags: "-l", Text: "With -s and -f the states and datagrams themselves."},
		{Flags: "-g", Text: "Show the groups of both sets."},
		{Flags: "-A", Text: "Show what was counted of authentication, which is nothing here."},
		{Flags: "-t", Text: "Show the states as they change."},
		{Flags: "-C", Text: "With -t, connections too that both sides have closed."},
		{Flags: "-S addr[,port]", Text: `With -t, only states from this address and port. "any" is every one.`},
		{Flags: "-D addr[,port]", Text: "With -t, only states to this address and port."},
		{Flags: "-P protocol", Text: "With -t, only states of this protocol: a name or a number."},
		{Flags: "-T seconds", Text: "With -t, how often the page is drawn; 1 if not said."},
	},
	JSON: "One object a line. Without an option: enabled, default, since (Unix seconds), in and out (passed, blocked, no_match, logged, logged_passed, logged_blocked, log_failed, " +
		"counted, short, bad, ipv6, new_states, bad_states, known_fragments, new_fragments, bad_fragments, replies, rsts), states, fragments, rules (of each list), logs (records that wait: packets, states, NAT). " +
		"-i, -o: set, direction, family, group, number, rule, hits, bytes, states. " +
		"-s: active, max, added, tcp, udp, icmp, expired, removed, full, evicted, out_of_window, hits, misses. " +
		"-sl, -t: family, protocol, source, destination, source_port, destination_port, tcp (two numbers), rule, interfaces, packets, bytes (forward in, forward out, back in, back out), age, ttl (seconds). " +
		"-f: active, added, expired, hits, refused, full. -fl: family, direction, protocol, source, destination, id, state, ttl. -g: set, direction, family, group.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, no filter in it, or not the rights to look at it."},
	},
	Examples: []cli.Item{
		{Name: "ipfstat -hion", Text: "All rules of IPv4 with numbers and hits."},
		{Name: "ipfstat -6Ii", Text: "What would come into force for incoming IPv6 with ipf -s."},
		{Name: "ipfstat -t -P tcp -D any,22", Text: "Watch who is connected to port 22."},
	},
	SeeAlso: []string{"ipf(8)", "ipnat(8)", "mount(8)", "netstat(1)"},
	Run:     run,
}

// Stack is what ipfstat asks of a stack.
type Stack interface {
	Filter() (protocol.FilterRow, error)
	Rules() ([]protocol.FilterRuleRow, error)
	States() ([]protocol.StateRow, error)
	Fragments() ([]protocol.FragmentRow, error)
	Sysctl(name string) (string, error)
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

func (r remote) States() ([]protocol.StateRow, error) {
	return client.Table[protocol.StateRow](r.Stack, protocol.TableStates, "")
}

func (r remote) Fragments() ([]protocol.FragmentRow, error) {
	return client.Table[protocol.FragmentRow](r.Stack, protocol.TableFragments, "")
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	o.verbose = o.verbose || ctx.Verbose
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	t := &tool{options: o, s: remote{s}, json: ctx.JSON, out: ctx.Stdout, errw: ctx.Stderr, now: time.Now}
	if o.mode == modeTop && !ctx.JSON {
		err = t.watch(ctx)
	} else {
		err = t.do()
	}
	if err != nil {
		return ctx.Errorf("%v", said(err))
	}
	return 0
}

// said is an error in the stack's own words, if it has some.
func said(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Text != "" {
		return errors.New(e.Text)
	}
	return errors.New(ruleset.Reason(err))
}

// tool is one run of the command.
type tool struct {
	*options
	s         Stack
	json      bool
	out, errw io.Writer
	now       func() time.Time
}
