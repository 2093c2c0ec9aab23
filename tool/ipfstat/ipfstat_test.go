package ipfstat

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake is a stack with a filter, or without one.
type fake struct{ none bool }

var errNone = &protocol.Error{Errno: syscall.ENODEV, Text: "no packet filter in this stack; mount -Ttcpip lsm-ipfilter.so loads it"}

func (f *fake) Filter() (protocol.FilterRow, error) {
	if f.none {
		return protocol.FilterRow{}, errNone
	}
	return protocol.FilterRow{Enabled: true, Default: "pass", Since: 1000,
		In: protocol.FilterDirection{Passed: 100, Blocked: 20, NoMatch: 30, Logged: 7, LoggedPassed: 4, LoggedBlocked: 3, LogFailed: 1, NewStates: 9, BadStates: 2,
			KnownFrags: 11, NewFrags: 5, BadFrags: 1, Replies: 6, RSTs: 8, IPv6: 40, Counted: 50, Short: 3, Bad: 2},
		Out:    protocol.FilterDirection{Passed: 200, Replies: 1, NewStates: 1},
		States: protocol.FilterStates{Active: 3, Max: 100000, Added: 10, TCP: 5, UDP: 3, ICMP: 1, Expired: 4, Removed: 2, Full: 1, Evicted: 1, OutOfWindow: 12, Hits: 300, Misses: 33},
		Frags:  protocol.FilterFragments{Active: 1, Added: 5, Expired: 3, Hits: 11, Refused: 1, Full: 0},
		Rules:  protocol.FilterRuleCounts{In: 5, Out: 1, In6: 1, Inactive: 1}, Logs: [3]int{2, 0, 1}}, nil
}

func (f *fake) Rules() ([]protocol.FilterRuleRow, error) {
	if f.none {
		return nil, errNone
	}
	row := func(set, dir, family, group string, n int, rule string, hits, octets uint64) protocol.FilterRuleRow {
		return protocol.FilterRuleRow{Set: set, Direction: dir, Family: family, Group: group, Number: n, Rule: rule, Hits: hits, Bytes: octets}
	}
	return []protocol.FilterRuleRow{
		row("active", "in", "inet", "", 1, "block in all", 120, 9000),
		row("active", "in", "inet", "", 2, "block in on en0 all head 7", 60, 5000),
		row("active", "in", "inet", "7", 1, "pass in quick proto tcp from any to any port = 22 group 7", 40, 3000),
		row("active", "in", "inet", "7", 2, "block in from 10.0.0.0/8 to any head sub group 7", 2, 120),
		row("active", "in", "inet", "sub", 1, "pass in proto icmp from any to any group sub", 1, 84),
		row("active", "in", "inet", "", 3, "count in proto udp from any to any", 50, 4200),
		row("active", "in", "inet", "", 4, "block in on en1 all head 7", 3, 180),
		row("active", "in", "inet", "7", 1, "pass in quick proto tcp from any to any port = 22 group 7", 40, 3000),
		row("active", "in", "inet", "7", 2, "block in from 10.0.0.0/8 to any head sub group 7", 2, 120),
		row("active", "in", "inet", "sub", 1, "pass in proto icmp from any to any group sub", 1, 84),
		row("active", "out", "inet", "", 1, "pass out quick all keep state", 200, 18000),
		row("active", "in", "inet6", "", 1, "pass in proto ipv6-icmp from any to any", 40, 2800),
		row("inactive", "in", "inet", "", 1, "pass in all head 9", 0, 0),
	}, nil
}

func (f *fake) States() ([]protocol.StateRow, error) {
	if f.none {
		return nil, errNone
	}
	const tcp, udp, icmp = 6, 17, 1
	return []protocol.StateRow{
		{Family: "inet", Protocol: tcp, Src: "10.0.0.1", Dst: "10.0.0.2", SrcPort: 1021, DstPort: 22, TCP: [2]int{4, 4}, Rule: "pass in quick proto tcp from any to any port = 22 keep state",
			If: [4]string{"en0", "en1", "en1", "en0"}, Packets: [4]uint64{8, 8, 6, 6}, Bytes: [4]uint64{640, 640, 900, 900}, Age: 70, TTL: 431990},
		{Family: "inet", Protocol: udp, Src: "10.0.0.1", Dst: "192.168.100.200", SrcPort: 1025, DstPort: 53, Rule: "pass out quick all keep state",
			If: [4]string{"", "en0", "en0", ""}, Packets: [4]uint64{0, 1, 1, 0}, Bytes: [4]uint64{0, 60, 120, 0}, Age: 3, TTL: 117},
		{Family: "inet", Protocol: icmp, Src: "10.0.0.3", Dst: "10.0.0.2", SrcPort: 77, DstPort: 77, Rule: "pass in all keep state", If: [4]string{"en0"}, Packets: [4]uint64{2}, Bytes: [4]uint64{168}, TTL: 60},
		{Family: "inet", Protocol: tcp, Src: "10.0.0.9", Dst: "10.0.0.2", SrcPort: 4000, DstPort: 80, TCP: [2]int{10, 10}, Rule: "pass in all keep state", Packets: [4]uint64{50}, Bytes: [4]uint64{5000}, TTL: 29},
		{Family: "inet6", Protocol: tcp, Src: "2001:db8:1234:5678::1", Dst: "2001:db8::2", SrcPort: 1022, DstPort: 80, TCP: [2]int{2, 0}, Rule: "pass in quick proto tcp from any to any keep state",
			If: [4]string{"en0"}, Packets: [4]uint64{1}, Bytes: [4]uint64{80}, TTL: 239},
	}, nil
}

func (f *fake) Fragments() ([]protocol.FragmentRow, error) {
	if f.none {
		return nil, errNone
	}
	return []protocol.FragmentRow{
		{Family: "inet", Direction: "in", Protocol: 17, Src: "10.0.0.1", Dst: "10.0.0.2", ID: 0xbeef, TTL: 58, State: true},
		{Family: "inet6", Direction: "out", Protocol: 58, Src: "2001:db8::1", Dst: "2001:db8::2", ID: 0x12345678, TTL: 7},
	}, nil
}

func (f *fake) Sysctl(name string) (string, error) {
	if name != "net.inet.ipf.fr_flags" {
		return "", &protocol.Error{Errno: syscall.ENOENT}
	}
	return "1342177280", nil
}

var now = time.Date(2026, 11, 27, 4, 5, 6, 0, time.UTC)

// dialogue is what a command line prints, standard error behind !.
func dialogue(command string, f *fake) string {
	var out, errw bytes.Buffer
	args, json := strings.CutSuffix(command, " --json")
	o, err := parse(strings.Fields(args)[1:])
	if err == nil {
		t := &tool{options: o, s: f, json: json, out: &out, errw: &errw, now: func() time.Time { return now }}
		if o.mode == modeTop && !json {
			rows, _ := f.States()
			fmt.Fprintln(&out, strings.Join(o.draw(rows, view{sort: sortBytes}, "gate - state top", now, 0, 0), "\n"))
		} else if err = t.do(); err != nil {
			err = said(err)
		}
	}
	s := "$ " + command + "\n" + out.String()
	for l := range strings.Lines(errw.String()) {
		s += "! " + l
	}
	if err != nil {
		s += fmt.Sprintf("! ipfstat: %v\n", err)
	}
	return s
}

func TestDialogues(t *testing.T) {
	var all strings.Builder
	for _, command := range []string{
		"ipfstat", "ipfstat -v", "ipfstat --json",
		"ipfstat -io", "ipfstat -hin", "ipfstat -aio", "ipfstat -vo", "ipfstat -6io", "ipfstat -Iion", "ipfstat -6aIi", "ipfstat -do", "ipfstat -i --json",
		"ipfstat -s", "ipfstat -sv", "ipfstat -s --json", "ipfstat -sl", "ipfstat -6sl", "ipfstat -6dsl", "ipfstat -sl -6 --json",
		"ipfstat -f", "ipfstat -f --json", "ipfstat -fl", "ipfstat -6fl -d", "ipfstat -lf --json", "ipfstat -g", "ipfstat -g --json", "ipfstat -A", "ipfstat -A --json",
		"ipfstat -t", "ipfstat -tC", "ipfstat -t -6", "ipfstat -t -P udp -S 10.0.0.1 -D any,53", "ipfstat -t -S 10.0.0.1,1021 -D 10.0.0.2", "ipfstat -t -P icmp -D any,any --json",
		"ipfstat -s -f", "ipfstat -h", "ipfstat -si -n", "ipfstat -il", "ipfstat -T 2", "ipfstat -t -T 0", "ipfstat -t -S host", "ipfstat -t -D any,http", "ipfstat -t -P frog",
		"ipfstat -t -P 300", "ipfstat -x", "ipfstat rules",
	} {
		all.WriteString(dialogue(command, &fake{}))
	}
	for _, command := range []string{"ipfstat", "ipfstat -io", "ipfstat -s", "ipfstat -sl", "ipfstat -g", "ipfstat -A", "ipfstat -f", "ipfstat -fl", "ipfstat -t --json"} {
		all.WriteString(dialogue(command, &fake{none: true}))
	}
	golden.Check(t, "ipfstat", all.String())
}

// The page has the size of the terminal, and keys change it.
func TestPage(t *testing.T) {
	o, err := parse([]string{"-tC"})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := (&fake{}).States()
	v := view{sort: sortBytes}
	var all strings.Builder
	for _, keys := range []string{"", "r", "s", "s", "s", "S", "s", "s", "s", "R", "b", "f"} {
		for i := range len(keys) {
			if done, whole := v.key(keys[i]); done || whole {
				t.Errorf("%q: done %v, whole %v", keys, done, whole)
			}
		}
		fmt.Fprintf(&all, "key %q\n%s\n", keys, strings.Join(o.draw(rows, v, "gate - state top", now, 72, 9), "\n"))
	}
	golden.Check(t, "page", all.String())
	for key, want := range map[byte][2]bool{'q': {true, false}, 'Q': {true, false}, 'l': {false, true}, 'x': {}} {
		if done, whole := v.key(key); done != want[0] || whole != want[1] {
			t.Errorf("%c: done %v, whole %v", key, done, whole)
		}
	}
	for _, size := range [][2]int{{1, 1}, {3, 100}, {200, 2}, {20, 5}} {
		page := o.draw(rows, v, "gate - state top", now, size[0], size[1])
		if len(page) > size[1] {
			t.Errorf("%v: %d lines", size, len(page))
		}
		for _, l := range page {
			if len(l) > size[0] {
				t.Errorf("%v: %q", size, l)
			}
		}
	}
	if got, want := string(screen([]string{"a", "b"}, true)), "\x1b[2J\x1b[H\x1b[1ma\x1b[m\x1b[K\r\nb\x1b[K\x1b[J"; got != want {
		t.Errorf("screen %q, want %q", got, want)
	}
}
