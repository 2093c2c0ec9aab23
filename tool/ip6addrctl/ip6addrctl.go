// Package ip6addrctl is the command ip6addrctl: the table by which the stack
// chooses among addresses (RFC 6724 §2.1).
package ip6addrctl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// Command is ip6addrctl.
var Command = cli.Command{
	Name:  "ip6addrctl",
	Short: "show and change how IPv6 addresses are chosen",
	Synopsis: []string{
		"[show]",
		"add prefix precedence label",
		"delete prefix",
		"flush",
		"install file",
	},
	Long: "Where a destination has several addresses, the one whose prefix has the highest precedence (Prec) is tried first; where the stack has several " +
		"addresses, a source whose label is the destination's is taken before others. The longest prefix in the table counts. " +
		"IPv4 addresses stand in it as ::ffff:0.0.0.0/96.\n\n" +
		"The stack begins with the table of RFC 6724; flush empties it, which makes all addresses equal here.",
	Options: []cli.Opt{
		{Flags: "show", Text: "Show the table; also without a word. Use counts how often a line has decided."},
		{Flags: "add prefix precedence label", Text: "Add a line, or change the one of that prefix. Precedence and label are numbers from 0 on."},
		{Flags: "delete prefix", Text: "Take a line away."},
		{Flags: "flush", Text: "Take all lines away."},
		{Flags: "install file", Text: `Put the lines of a file in the place of the table, one a line: prefix, precedence, label; # begins a comment. "-" is standard input. All of it is read before anything changes.`},
	},
	JSON: "show: an array of lines: prefix, precedence, label, use.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, no such line, or a change that failed."},
	},
	Examples: []cli.Item{
		{Name: "ip6addrctl add ::ffff:0:0/96 100 4", Text: "IPv4 before IPv6."},
	},
	SeeAlso: []string{"ifconfig(8)", "ndp(8)"},
	Run:     run,
}

// Table is the stack's table; *client.Stack answers all but the first.
type Table interface {
	Policies() ([]protocol.PolicyRow, error)
	AddPolicy(p protocol.AddrPolicy) error
	DelPolicy(p protocol.AddrPolicy) error
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Policies() ([]protocol.PolicyRow, error) {
	return client.Table[protocol.PolicyRow](r.Stack, protocol.TablePolicy, "")
}

func run(ctx *cli.Context, args []string) int {
	do, err := parse(args, open(ctx.Stdin))
	if err == nil && ctx.JSON && len(args) > 0 && args[0] != "show" {
		err = cli.Misuse("--json is there for show")
	}
	if err != nil {
		return ctx.Refuse(err)
	}
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	if err := do(&tool{remote{s}, ctx.Stdout, ctx.JSON}); err != nil {
		return ctx.Errorf("%v", err)
	}
	return 0
}

// open opens a file, or answers standard input for "-".
func open(in io.Reader) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		if name == "-" {
			return io.NopCloser(in), nil
		}
		return os.Open(name)
	}
}

// tool is a table, and where to show it.
type tool struct {
	Table
	out  io.Writer
	json bool
}

// parse reads a command line, and the file that it names, and answers what is
// to be done.
func parse(args []string, open func(string) (io.ReadCloser, error)) (func(*tool) error, error) {
	_, args, err := cli.Getopt("", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	verb := "show"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	words, ok := map[string]int{"show": 0, "add": 3, "delete": 1, "flush": 0, "install": 1}[verb]
	switch {
	case !ok:
		return nil, cli.Misuse("%q: show, add, delete, flush and install are known", verb)
	case len(args) != words:
		return nil, cli.Misuse("%s takes %d words, not %d", verb, words, len(args))
	}
	switch verb {
	case "show":
		return (*tool).show, nil
	case "flush":
		return func(t *tool) error { return t.flush(nil) }, nil
	case "add":
		p, err := parseLine(args)
		return func(t *tool) error { return t.add(p) }, err
	case "delete":
		p, err := parsePrefix(args[0])
		return func(t *tool) error { return t.remove(p) }, err
	}
	f, err := open(args[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines, err := parseFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", args[0], err)
	}
	return func(t *tool) error { return t.install(lines) }, nil
}

// parsePrefix reads a prefix; an address alone is one of full length. One of
// IPv4 becomes its mapped form.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); err != nil && aerr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return p, fmt.Errorf("%s: a prefix like 2001:db8::/32 belongs there", s)
	}
	if p.Addr().Is4() {
		p = netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
	}
	return p.Masked(), nil
}

// parseLine reads prefix, precedence and label.
func parseLine(words []string) (l protocol.AddrPolicy, err error) {
	if len(words) != 3 {
		return l, fmt.Errorf("a line is a prefix, a precedence and a label, not %d words", len(words))
	}
	if l.Prefix, err = parsePrefix(words[0]); err != nil {
		return l, err
	}
	for i, to := range []*int{&l.Precedence, &l.Label} {
		n, err := strconv.ParseUint(words[1+i], 10, 31)
		if err != nil {
			return l, fmt.Errorf("%s: precedence and label are numbers from 0 on", words[1+i])
		}
		*to = int(n)
	}
	return l, nil
}

// parseFile reads the lines of a file. Its errors begin with their number.
func parseFile(f io.Reader) (lines []protocol.AddrPolicy, err error) {
	in := bufio.NewScanner(f)
	seen := map[netip.Prefix]bool{}
	for n := 1; in.Scan(); n++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		l, err := parseLine(words)
		if err == nil && seen[l.Prefix] {
			err = fmt.Errorf("%s stands in the file twice", l.Prefix)
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		seen[l.Prefix] = true
		lines = append(lines, l)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf(" %w", err)
	}
	return lines, nil
}

func (t *tool) show() error {
	rows, err := t.Policies()
	if err != nil {
		return err
	}
	if t.json {
		if rows == nil {
			rows = []protocol.PolicyRow{}
		}
		b, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.out, "%s\n", b)
		return err
	}
	var b []byte
	b = fmt.Appendf(b, "%-30s %5s %5s %8s\n", "Prefix", "Prec", "Label", "Use")
	for _, r := range rows {
		b = fmt.Appendf(b, "%-30s %5d %5d %8d\n", r.Prefix, r.Precedence, r.Label, r.Use)
	}
	_, err = t.out.Write(b)
	return err
}

func (t *tool) add(p protocol.AddrPolicy) error {
	if err := t.AddPolicy(p); err != nil {
		return fmt.Errorf("add %s: %s", p.Prefix, protocol.Strerror(err))
	}
	return nil
}

func (t *tool) remove(p netip.Prefix) error {
	switch err := t.DelPolicy(protocol.AddrPolicy{Prefix: p}); {
	case errors.Is(err, syscall.ESRCH):
		return fmt.Errorf("delete %s: no line of this prefix", p)
	case err != nil:
		return fmt.Errorf("delete %s: %s", p, protocol.Strerror(err))
	}
	return nil
}

// flush takes all lines away but those of the prefixes of keep.
func (t *tool) flush(keep map[netip.Prefix]bool) error {
	rows, err := t.Policies()
	if err != nil {
		return err
	}
	for _, r := range rows {
		p, err := parsePrefix(r.Prefix)
		if err != nil {
			return fmt.Errorf("the stack sent a line of no prefix: %w", err)
		}
		if keep[p] {
			continue
		}
		if err := t.DelPolicy(protocol.AddrPolicy{Prefix: p}); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("delete %s: %s", p, protocol.Strerror(err))
		}
	}
	return nil
}

// install makes lines the table. They go in first, so that it is never empty.
func (t *tool) install(lines []protocol.AddrPolicy) error {
	keep := map[netip.Prefix]bool{}
	for _, l := range lines {
		if err := t.add(l); err != nil {
			return err
		}
		keep[l.Prefix] = true
	}
	return t.flush(keep)
}
