package ipfstat

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"ionet/protocol"
	"ionet/tool/ruleset"
)

// do prints what was asked for, once.
func (t *tool) do() error {
	switch t.mode {
	case modeRules:
		return t.rules()
	case modeStates:
		return t.states()
	case modeFrags:
		return t.frags()
	case modeAuth:
		return t.auth()
	case modeGroups:
		return t.groups()
	case modeTop:
		return t.page()
	}
	return t.stats()
}

func (t *tool) row(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // rows are plain structs
	}
	t.out.Write(append(b, '\n'))
}

// more is what -d says of a row.
func (t *tool) more(v any) {
	if t.debug {
		fmt.Fprint(t.out, "# ")
		t.row(v)
	}
}

// stats prints the counters.
func (t *tool) stats() error {
	f, err := t.s.Filter()
	if err != nil {
		return err
	}
	if t.json {
		t.row(f)
		return nil
	}
	Write(t.out, f, t.logFlags())
	if t.verbose {
		r := f.Rules
		fmt.Fprintf(t.out, "filter:\t%s, what no rule matches: %s\n", map[bool]string{true: "enabled", false: "disabled"}[f.Enabled], f.Default)
		fmt.Fprintf(t.out, "rules:\tin %d out %d, of IPv6 in %d out %d, inactive %d, of IPv6 %d\n", r.In, r.Out, r.In6, r.Out6, r.Inactive, r.Inactive6)
		fmt.Fprintf(t.out, "log:\t%d packets, %d states, %d translations wait to be read\n", f.Logs[0], f.Logs[1], f.Logs[2])
	}
	return nil
}

// Write prints counters in IPFilter's shape; flags are net.inet.ipf.fr_flags. What has
// no meaning here is 0: packets lie in one piece, so none is pulled up.
func Write(w io.Writer, f protocol.FilterRow, flags uint64) {
	in, out := &f.In, &f.Out
	p := func(format string, a ...any) { fmt.Fprintf(w, format+"\n", a...) }
	p("bad packets:\t\tin %d\tout %d", in.Bad, out.Bad)
	p(" IPv6 packets:\t\tin %d out %d", in.IPv6, out.IPv6)
	for _, d := range []struct {
		name string
		*protocol.FilterDirection
	}{{" input", in}, {"output", out}} {
		p("%s packets:\t\tblocked %d passed %d nomatch %d counted %d short %d", d.name, d.Blocked, d.Passed, d.NoMatch, d.Counted, d.Short)
	}
	p(" input packets logged:\tblocked %d passed %d", in.LoggedBlocked, in.LoggedPassed)
	p("output packets logged:\tblocked %d passed %d", out.LoggedBlocked, out.LoggedPassed)
	p(" packets logged:\tinput %d output %d", in.Logged, out.Logged)
	p(" log failures:\t\tinput %d output %d", in.LogFailed, out.LogFailed)
	p("fragment state(in):\tkept %d\tlost %d\tknown %d", in.NewFrags, in.BadFrags, in.KnownFrags)
	p("fragment state(out):\tkept %d\tlost %d\tknown %d", out.NewFrags, out.BadFrags, out.KnownFrags)
	p("packet state(in):\tkept %d\tlost %d", in.NewStates, in.BadStates)
	p("packet state(out):\tkept %d\tlost %d", out.NewStates, out.BadStates)
	p("ICMP replies:\t%d\tTCP RSTs sent:\t%d", in.Replies+out.Replies, in.RSTs+out.RSTs)
	p("IN Pullups succeeded:\t0\tfailed:\t0")
	p("OUT Pullups succeeded:\t0\tfailed:\t0")
	p("Packet log flags set: (%#x)", flags)
	for _, l := range []struct {
		flag uint64
		text string
	}{{0x10000000, "packets passed"}, {0x20000000, "packets blocked"}, {0x40000000, "packets that no rule matches"}} {
		if flags&l.flag != 0 {
			p("\t%s", l.text)
		}
	}
	if flags == 0 {
		p("\tnone")
	}
}

// logFlags are those of ipf -l; 0 when the stack does not tell.
func (t *tool) logFlags() uint64 {
	v, err := t.s.Sysctl("net.inet.ipf.fr_flags")
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(v, 10, 64)
	return n
}

// rules prints lists of rules.
func (t *tool) rules() error {
	rows, err := t.s.Rules()
	if err != nil {
		return err
	}
	for _, d := range []string{"out", "in"} {
		if d == "out" && !t.out_ || d == "in" && !t.in {
			continue
		}
		list := slices.DeleteFunc(slices.Clone(rows), func(r protocol.FilterRuleRow) bool {
			return r.Direction != d || (r.Set == "inactive") != t.inactive || (r.Family == "inet6") != t.v6 || t.account && !counts(r.Rule)
		})
		if t.json {
			for _, r := range slices.Concat(grouped(list)...) {
				t.row(r)
			}
			continue
		}
		if len(list) == 0 {
			what := "ipfilter"
			if t.account {
				what = "ipacct"
			}
			if t.inactive {
				what = "inactive " + what
			}
			fmt.Fprintf(t.errw, "empty list for %s(%s)\n", what, d)
			continue
		}
		for i, g := range grouped(list) {
			if i > 0 {
				fmt.Fprintf(t.out, "# Group %s\n", g[0].Group)
			}
			for _, r := range g {
				t.rule(r)
			}
		}
	}
	return nil
}

// counts reports a rule of accounting.
func counts(rule string) bool { return strings.HasPrefix(rule, "count ") }

// grouped are the rules of no group, and those of each group in the order of their heads. What
// several rules lead to is listed behind each of them, and once here.
func grouped(list []protocol.FilterRuleRow) (groups [][]protocol.FilterRuleRow) {
	groups = [][]protocol.FilterRuleRow{nil}
	at := map[string]int{"": 0}
	type key struct {
		group  string
		number int
	}
	seen := map[key]bool{}
	for _, r := range list {
		k := key{r.Group, r.Number}
		if seen[k] {
			continue
		}
		seen[k] = true
		n, ok := at[r.Group]
		if !ok {
			n = len(groups)
			at[r.Group], groups = n, append(groups, nil)
		}
		groups[n] = append(groups[n], r)
	}
	return groups
}

func (t *tool) rule(r protocol.FilterRuleRow) {
	if t.hits || t.verbose {
		fmt.Fprintf(t.out, "%d ", r.Hits)
	}
	if t.account || t.verbose {
		fmt.Fprintf(t.out, "%d ", r.Bytes)
	}
	if t.numbers {
		fmt.Fprintf(t.out, "@%d ", r.Number)
	}
	fmt.Fprintln(t.out, r.Rule)
	t.more(r)
}

// groups prints the groups of both sets.
func (t *tool) groups() error {
	rows, err := t.s.Rules()
	if err != nil {
		return err
	}
	type group struct {
		Set       string `json:"set"`
		Direction string `json:"direction"`
		Family    string `json:"family"`
		Group     string `json:"group"`
	}
	var all []group
	for _, r := range rows {
		g := group{r.Set, r.Direction, r.Family, head(r.Rule)}
		if g.Group != "" && !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	if t.json {
		for _, g := range all {
			t.row(g)
		}
		return nil
	}
	for _, set := range []string{"active", "inactive"} {
		fmt.Fprintf(t.out, "Filter groups (%s):\n", set)
		for _, g := range all {
			if g.Set == set {
				fmt.Fprintf(t.out, "%s\t(%s, %s)\n", g.Group, g.Direction, g.Family)
			}
		}
	}
	return nil
}

// head is the group that a rule is the head of.
func head(rule string) string {
	words := strings.Fields(rule)
	for i, w := range words[:max(0, len(words)-1)] {
		if w == "head" {
			return words[i+1]
		}
	}
	return ""
}

// auth is -A: no program answers for packets here.
func (t *tool) auth() error {
	if _, err := t.s.Filter(); err != nil {
		return err
	}
	if t.json {
		t.row(struct {
			Hits   int `json:"hits"`
			Misses int `json:"misses"`
		}{})
		return nil
	}
	fmt.Fprintln(t.out, "Authorisation hits: 0\tmisses 0")
	return nil
}

// states prints what was counted of states, or with -l the states.
func (t *tool) states() error {
	if t.list {
		rows, err := t.s.States()
		if err != nil {
			return err
		}
		for _, r := range rows {
			switch {
			case t.v6 && r.Family != "inet6":
			case t.json:
				t.row(r)
			default:
				t.state(r)
			}
		}
		return nil
	}
	f, err := t.s.Filter()
	if err != nil {
		return err
	}
	s := f.States
	if t.json {
		t.row(s)
		return nil
	}
	fmt.Fprintf(t.out, "IP states added:\n\t%d TCP\n\t%d UDP\n\t%d ICMP\n\t%d others\n", s.TCP, s.UDP, s.ICMP, s.Added-s.TCP-s.UDP-s.ICMP)
	fmt.Fprintf(t.out, "\t%d hits\n\t%d misses\n\t%d maximum\n\t%d evicted\n\t%d out of window\n", s.Hits, s.Misses, s.Full, s.Evicted, s.OutOfWindow)
	fmt.Fprintf(t.out, "\t%d active\n\t%d expired\n\t%d closed\n", s.Active, s.Expired, s.Removed)
	if t.verbose {
		fmt.Fprintf(t.out, "\t%d at most (fr_statemax)\n", s.Max)
	}
	return nil
}

// state prints one.
func (t *tool) state(r protocol.StateRow) {
	p := func(format string, a ...any) { fmt.Fprintf(t.out, format, a...) }
	p("%s -> %s ttl %d pass pr %d state %X/%X\n", r.Src, r.Dst, r.TTL, r.Protocol, r.TCP[0], r.TCP[1])
	p("\tpkts %d bytes %d", sum(r.Packets), sum(r.Bytes))
	switch {
	case ruleset.HasPorts(r.Protocol):
		p(" %d -> %d", r.SrcPort, r.DstPort)
	case r.Protocol == ruleset.ICMP || r.Protocol == ruleset.ICMPv6:
		p(" id %d", r.SrcPort)
	}
	p(" age %d\n", r.Age)
	for i, way := range []string{"forward", "backward"} {
		p("\t%s: pkts in %d bytes in %d pkts out %d bytes out %d\n", way, r.Packets[2*i], r.Bytes[2*i], r.Packets[2*i+1], r.Bytes[2*i+1])
	}
	p("\t%s\n", r.Rule)
	p("\tinterfaces: in %s,%s out %s,%s\n", dash(r.If[0]), dash(r.If[2]), dash(r.If[1]), dash(r.If[3]))
	t.more(r)
}

func sum(n [4]uint64) uint64 { return n[0] + n[1] + n[2] + n[3] }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// frags prints what was counted of fragments.
func (t *tool) frags() error {
	if t.list {
		return t.datagrams()
	}
	f, err := t.s.Filter()
	if err != nil {
		return err
	}
	g := f.Frags
	if t.json {
		t.row(g)
		return nil
	}
	fmt.Fprintf(t.out, "IP fragment states:\n\t%d new\n\t%d expired\n\t%d hits\n\t%d no memory\n\t%d refused\n\t%d inuse\n",
		g.Added, g.Expired, g.Hits, g.Full, g.Refused, g.Active)
	return nil
}

// datagrams prints those that are known by their first fragment.
func (t *tool) datagrams() error {
	rows, err := t.s.Fragments()
	if err != nil {
		return err
	}
	for _, r := range rows {
		switch {
		case t.v6 && r.Family != "inet6":
		case t.json:
			t.row(r)
		default:
			fmt.Fprintf(t.out, "%s %s -> %s id %x ttl %d pr %d %s", r.Family, r.Src, r.Dst, r.ID, r.TTL, r.Protocol, r.Direction)
			if r.State {
				fmt.Fprint(t.out, " state")
			}
			fmt.Fprintln(t.out)
			t.more(r)
		}
	}
	return nil
}
