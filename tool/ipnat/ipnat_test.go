package ipnat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake is a stack with two rules and three sessions.
type fake struct {
	log   *strings.Builder
	fault error
}

func (f *fake) EditRules(language uint8, steps []protocol.RuleStep) ([]int, error) {
	took := make([]int, len(steps))
	for i, s := range steps {
		fmt.Fprintf(f.log, "[%d: step %d arg %d %s]\n", language, s.Kind, s.Arg, s.Text)
		switch s.Kind {
		case protocol.StepFlush:
			took[i] = 2
		case protocol.StepFlushStates:
			took[i] = 3
		}
		if strings.Contains(s.Text, "10.9.") {
			return nil, &client.RuleStepError{Step: i, Err: &protocol.Error{Errno: syscall.EEXIST, Text: s.Text + ": " + syscall.EEXIST.Error()}}
		}
		if s.Kind == protocol.StepRemove && strings.Contains(s.Text, "10.8.") {
			return nil, &client.RuleStepError{Step: i, Err: &protocol.Error{Errno: syscall.ESRCH, Text: s.Text + ": " + syscall.ESRCH.Error()}}
		}
	}
	return took, f.fault
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "gate" {
		return []netip.Addr{netip.MustParseAddr("192.0.2.7")}, nil
	}
	return nil, errors.New("no such host")
}

func (f *fake) Statistics() (protocol.NATRow, error) {
	return protocol.NATRow{MappedIn: 20, MappedOut: 30, Added: 5, Expired: 2, Evicted: 1, Bad: 4, Exhausted: 6, ICMP: 7, BadICMP: 8, Frags: 9, BadFrags: 10, FragFull: 11, InUse: 3, Rules: 2}, f.fault
}

func (f *fake) Rules() ([]protocol.NATRuleRow, error) {
	return []protocol.NATRuleRow{{Rule: "map en0 10.0.0.0/8 -> 192.0.2.1/32 portmap tcp/udp auto", Hits: 5, Sessions: 2},
		{Rule: "rdr en0 192.0.2.1/32 port 80 -> 10.0.0.5 port 8080 tcp", Redirect: true, Hits: 1, Sessions: 1}}, f.fault
}

func (f *fake) Sessions() ([]protocol.NATSessionRow, error) {
	return []protocol.NATSessionRow{
		{Kind: "map", Interface: "en0", Protocol: 6, Inside: "10.0.0.2:1024", Outer: "192.0.2.1:40001", Remote: "198.51.100.1:80", Established: true,
			Age: 12, Idle: 1, TTL: 7439, PacketsIn: 4, PacketsOut: 5, BytesIn: 1200, BytesOut: 340, Rule: "map en0 10.0.0.0/8 -> 192.0.2.1/32 portmap tcp/udp auto", Tag: "web"},
		{Kind: "rdr", Interface: "en0", Protocol: 17, Inside: "10.0.0.5:0", Outer: "192.0.2.1:53", Remote: "198.51.100.77:31234", Rule: "rdr en0 …"},
		{Kind: "map-block", Interface: "en1", Protocol: 47, Inside: "[2001:db8::2]:0", Outer: "[2001:db8::ffff:1]:0", Remote: "[2001:db8:5::1]:0", Rule: "map-block en1 …"},
	}, f.fault
}

var files = map[string]string{
	"nat.conf":    "# the gateway\nmap en0 10.0.0.0/8 -> 0/32 portmap tcp/udp auto\nrdr en0 gate/32 port domain -> 10.0.0.5 port 5353 udp\n",
	"bad.conf":    "map en0 10.0.0.0/8 -> 0/32\nmapp en0\nmap en0 10/8 -> 0/32 portmap tcp/udp 9:1\n",
	"worse.conf":  "rdr en0 nobody port 80 -> 10.0.0.5 port 80\n",
	"there.conf":  "map en0 10.1.0.0/16 -> 0/32\n\nmap en0 10.9.0.0/16 -> 0/32\n",
	"gone.conf":   "map en0 10.8.0.0/16 -> 0/32\n",
	"number.conf": "map en0 10.1.0.0/16 -> 0/32 portmap tcp 1:2\n",
}

// exec runs a command line on a fake stack; what the stack is told stands in brackets.
func exec(line string, fault error, noStack bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ ipnat %s\n", line)
	line, json := strings.CutSuffix(line, " --json")
	o, err := parse(strings.Fields(line))
	if err != nil {
		return b.String() + "usage: " + err.Error() + "\n"
	}
	t := tool{ctx: context.Background(), out: &b, json: json,
		read: func(path string) (string, []byte, error) {
			text, ok := files[path]
			if !ok {
				return path, nil, fmt.Errorf("open %s: no such file or directory", path)
			}
			return path, []byte(text), nil
		},
		open: func() (Stack, error) {
			if noStack {
				return nil, errors.New("no stack")
			}
			return &fake{log: &b, fault: fault}, nil
		}}
	if err := t.do(o); err != nil {
		for _, l := range lines(err) {
			fmt.Fprintf(&b, "ipnat: %s\n", l)
		}
	}
	return b.String()
}

func TestDialogue(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{
		"-l", "-lh", "-lv", "-ld", "-s", "-sl", "-l --json", "-s --json",
		"-f nat.conf", "-CFf nat.conf", "-vf nat.conf", "-Rf nat.conf", "-Rf number.conf", "-rf nat.conf", "-rpf nat.conf",
		"-nf nat.conf", "-CFnvf nat.conf", "-f bad.conf", "-f bad.conf -f worse.conf -f nat.conf", "-f there.conf", "-rf gone.conf", "-f none.conf",
		"-C", "-F", "-FC",
		"", "-v", "-r", "-pf nat.conf", "-Crf nat.conf", "nat.conf", "-z",
	} {
		b.WriteString(exec(line, nil, false))
	}
	golden.Check(t, "ipnat", b.String())
}

func TestWithoutAFilter(t *testing.T) {
	missing := &protocol.Error{Errno: syscall.ENODEV, Text: "no packet filter in this stack"}
	for _, line := range []string{"-l", "-s", "-C", "-f nat.conf"} {
		if got := exec(line, missing, false); !strings.HasSuffix(got, "ipnat: no packet filter in this stack\n") {
			t.Errorf("%s", got)
		}
	}
	// A file is checked without a stack, unless a host is to be looked up.
	if got := exec("-nf number.conf", nil, true); got != "$ ipnat -nf number.conf\n" {
		t.Error(got)
	}
	if got := exec("-nf worse.conf", nil, true); !strings.Contains(got, "worse.conf:1:9: ") || !strings.Contains(got, "no stack") {
		t.Error(got)
	}
}
