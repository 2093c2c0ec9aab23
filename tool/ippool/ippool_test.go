package ippool

import (
	"bytes"
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

// fake is a stack with three pools.
type fake struct {
	log   *strings.Builder
	fault error
}

func (f *fake) EditRulesTold(language uint8, steps []protocol.RuleStep, sent func(int)) ([]int, error) {
	took := make([]int, len(steps))
	for i, s := range steps {
		fmt.Fprintf(f.log, "[%d: step %d %s]\n", language, s.Kind, strings.ReplaceAll(s.Text, "\n\t", " "))
		if s.Kind == protocol.StepFlush {
			took[i] = 4 // one has come since
		}
		if strings.Contains(s.Text, "10.9.") {
			return nil, &client.RuleStepError{Step: i, Err: &protocol.Error{Errno: syscall.ESRCH, Text: "10.9.0.0/16 is not in pool 10"}}
		}
	}
	sent(len(steps))
	return took, f.fault
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "gate" {
		return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, nil
	}
	return nil, errors.New("no such host")
}

func (f *fake) Pools() ([]protocol.PoolRow, error) {
	return []protocol.PoolRow{{Name: "10", Kind: "tree", Role: "ipf", Entries: 3, Hits: 7}, {Name: "bad", Kind: "hash", Role: "all", Seed: 5, Size: 31},
		{Name: "who", Kind: "group-map", Role: "ipf", Direction: "out", Group: "web", Entries: 2}}, f.fault
}

func (f *fake) Entries(pool string) (rows []protocol.PoolEntryRow, err error) {
	for _, e := range map[string][]string{"10": {"10.0.0.0/8", "!10.1.0.0/16", "2001:db8::/32"}, "who": {"10.0.0.1/32, group = one", "0.0.0.0/0"}}[pool] {
		rows = append(rows, protocol.PoolEntryRow{Pool: pool, Entry: e})
	}
	return rows, f.fault
}

var files = map[string]string{
	"pools.conf": "table role = ipf type = tree number = 10\n\t{ 10.0.0.0/8; !10.1.0.0/16;\n\tgate; };\ngroup-map in role = ipf name = g { 10/8, group = a; };\n",
	"bad.conf":   "table role = ipf type = tree number = 10 { 10.0.0.0/8; 10.0.0.0/8; };\ntable role = nobody name = x { };\n",
	"there.conf": "\ntable role = ipf type = hash name = x { 10.9.1.1; };\n",
	"empty.conf": "# nothing\n",
}

// ippool runs a command line on a fake stack; what the stack is told stands in brackets.
func ippool(args []string, asJSON bool, fault error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ ippool %s\n", strings.Join(args, " "))
	o, err := parse(args)
	if err != nil {
		return b.String() + "usage: " + err.Error() + "\n"
	}
	t := tool{ctx: context.Background(), out: &b, progress: &b, json: asJSON,
		read: func(path string) (string, []byte, error) {
			text, ok := files[path]
			if !ok {
				return path, nil, fmt.Errorf("open %s: no such file or directory", path)
			}
			return path, []byte(text), nil
		},
		open: func() (Stack, error) { return &fake{log: &b, fault: fault}, nil }}
	if err := t.do(o); err != nil {
		fmt.Fprintf(&b, "ippool: %v\n", err)
	}
	return b.String()
}

func TestDialogue(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{
		"-l", "-lv", "-l -m 10", "-l -m none", "-l -t hash", "-l -o all", "-l --json", "-s", "-s --json",
		"-f pools.conf", "-vf pools.conf", "-df pools.conf", "-nf pools.conf", "-uf pools.conf", "-f bad.conf", "-f bad.conf -f pools.conf", "-f there.conf", "-f empty.conf", "-f none.conf",
		"-a -m 10 -i 10.2.0.0/16 -i !10.3.0.0/255.255.0.0 -i gate", "-a -m 10 -i 10.1 10.2/16", "-a -m 10 -i nobody", "-a -m 10 -i 10.0.0.0/33", "-a -m 10 -o nat -i 10.1.1.1", "-a -m none -i 10.1.1.1",
		"-a -m who -i 10.5.0.0/16", "-r -m 10 -i 10.2.0.0/16", "-r -m 10 -i 10.9.0.0/16", "-n -r -m 10 -i 10.2.0.0/16",
		"-A -m 11", "-A -m new -o nat -t hash -S 3", "-A -m 10", "-A -m a/b", "-A -m x -t group-map", "-A -m x -S 3", "-R -m 10", "-R -m 10 -t hash", "-R -m none", "-R -m who",
		"-F", "-F -o ipf", "-F -t hash", "-F -t hash -o nat", "-nF",
		"", "-v", "-a -A -m x", "-a", "-a -m 10", "-R", "-l x", "-s -m 10", "-f pools.conf -m 10", "-l -o nobody", "-l -t list", "-z",
	} {
		line, asJSON := strings.CutSuffix(line, " --json")
		b.WriteString(ippool(strings.Fields(line), asJSON, nil))
	}
	b.WriteString(ippool([]string{"-a", "-m", "who", "-i", "10.5.0.0/16, group = two"}, false, nil))
	b.WriteString(ippool([]string{"-a", "-m", "10", "-i", "10.5.0.0/16; }; table role = ipf name = x { 10.6.0.0/16"}, false, nil))
	golden.Check(t, "ippool", b.String())
}

func TestWithoutAFilter(t *testing.T) {
	missing := &protocol.Error{Errno: syscall.ENODEV, Text: "no packet filter in this stack"}
	for _, line := range []string{"-l", "-s", "-F", "-f pools.conf", "-A -m x", "-l -m 10"} {
		if got := ippool(strings.Fields(line), false, missing); !strings.HasSuffix(got, "ippool: no packet filter in this stack\n") {
			t.Errorf("%s", got)
		}
	}
}

// A great pool goes out in steps that fit frames, and what is listed is read as the same pool.
func TestGreat(t *testing.T) {
	const n = 3*piece + 1
	var text bytes.Buffer
	text.WriteString("group-map in role = ipf name = great {\n")
	for i := range n {
		fmt.Fprintf(&text, "2001:db8:1234:5678:9abc:def0:1234:%x/128, group = a-long-name-of;\n", i+0x1000)
	}
	text.WriteString("};\n")
	files["great.conf"] = text.String()
	defer delete(files, "great.conf")
	out := ippool([]string{"-f", "great.conf"}, false, nil)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")[1:]
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "[3: step 1 ") || !strings.HasPrefix(lines[3], "[3: step 8 ") {
		t.Fatalf("%d steps: %.200s", len(lines), out)
	}
	for _, l := range lines {
		if len(l) > protocol.MaxPayload-100 {
			t.Errorf("a step of %d octets", len(l))
		}
	}
	if got := strings.Count(out, "2001:db8:"); got != n {
		t.Errorf("%d entries, want %d", got, n)
	}
}
