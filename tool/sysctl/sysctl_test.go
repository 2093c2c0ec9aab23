package sysctl

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

type fake struct{ nodes []protocol.SysctlNode }

func newFake() *fake {
	return &fake{[]protocol.SysctlNode{
		{Name: "kern.hostname", Kind: "string", Value: "alpha", Doc: "Name of this host."},
		{Name: "kern.ostype", Kind: "string", Value: "ionet", ReadOnly: true},
		{Name: "net.inet.icmp.errppslimit", Kind: "int", Value: "100"},
		{Name: "net.inet.ip.forwarding", Kind: "int", Value: "0", Doc: "1: forward packets between interfaces."},
		{Name: "net.inet.ip.ttl", Kind: "int", Value: "64"},
		{Name: "net.inet.ip6stats", Kind: "int", Value: "6"},
		{Name: "net.route", Kind: "table", ReadOnly: true, Use: "netstat"},
	}}
}

// SysctlList leaves kern.heap out of a list of more, as the stack does.
func (f *fake) SysctlList(prefix string) ([]protocol.SysctlNode, error) {
	if prefix == "kern.heap" {
		return []protocol.SysctlNode{{Name: prefix, Kind: "int", Value: "123456", ReadOnly: true}}, nil
	}
	var out []protocol.SysctlNode
	for _, n := range f.nodes {
		if prefix == "" || n.Name == prefix || strings.HasPrefix(n.Name, prefix+".") {
			out = append(out, n)
		}
	}
	return out, nil
}

func (f *fake) find(name string) *protocol.SysctlNode {
	for i := range f.nodes {
		if f.nodes[i].Name == name {
			return &f.nodes[i]
		}
	}
	return &protocol.SysctlNode{}
}

func (f *fake) Sysctl(name string) (string, error) { return f.find(name).Value, nil }

func (f *fake) SetSysctl(name, value string) (string, error) {
	n := f.find(name)
	if n.ReadOnly {
		return "", &protocol.Error{Errno: syscall.EPERM}
	}
	if name == "net.inet.ip.ttl" && value == "300" {
		return "", &protocol.Error{Errno: syscall.EINVAL, Text: "net.inet.ip.ttl: 300 is out of range, 1 to 255: invalid argument"}
	}
	old := n.Value
	n.Value = value
	return old, nil
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, args string
		status     int
	}{
		{"read", "net.inet.ip.ttl kern.hostname", 0},
		{"bare", "-n net.inet.ip.ttl", 0},
		{"set", "-w net.inet.ip.forwarding=1 kern.hostname=beta=2 net.inet.ip.ttl", 0},
		{"set-bare", "-n -w net.inet.ip.forwarding=1", 0},
		{"set-quiet", "-q -w net.inet.ip.forwarding=1", 0},
		{"set-json", "-w net.inet.ip.forwarding=1 --json", 0},
		{"no-w", "net.inet.ip.forwarding=1", 2},
		{"subtree", "net.inet.ip", 0},
		{"all", "-a", 0},
		{"all-tables", "-A", 0},
		{"all-json", "-A --json", 0},
		{"by-name-only", "kern.heap", 0},
		{"table", "net.route", 1},
		{"third", "net.inet.foo", 1},
		{"second", "net.inet6.ip6.hlim", 1},
		{"fourth", "net.inet.ip.fo", 1},
		{"fifth", "net.inet.ip.ttl.x", 1},
		{"top", "foo.bar", 1},
		{"class", "hw.ncpu vm", 1},
		{"readonly", "-w kern.ostype=x", 1},
		{"range", "-w net.inet.ip.ttl=300 net.inet.ip.forwarding=1", 1},
		{"incomplete", "-w net.inet.ip=1", 1},
		{"set-table", "-w net.route=1", 1},
		{"good-and-bad", "net.inet.foo net.inet.ip.ttl", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			args, json := strings.CutSuffix(c.args, " --json") // which cli takes out
			o, err := Parse(strings.Fields(args))
			if err != nil {
				t.Fatal(err)
			}
			o.JSON = json
			var out bytes.Buffer
			if got := Run(newFake(), o, &out, &out); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			golden.Check(t, c.name, out.String())
		})
	}
}

func TestEmptyFile(t *testing.T) {
	o, err := Parse([]string{"-f", "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if got := Run(newFake(), o, &out, &out); got != 0 || out.Len() != 0 {
		t.Errorf("a file that sets nothing: status %d, %q", got, out.String())
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "a name, -a or -A is needed"},
		{"-w", "a name, -a or -A is needed"},
		{"-x", "illegal option -- x"},
		{"-f", "option requires an argument -- f"},
		{"-a kern", "-a shows everything: it takes no names"},
		{".kern", `".kern" is no variable's name: names are words parted by single dots`},
		{"-w =1", `"=1" is no variable's name: names are words parted by single dots`},
		{"-f /nonexistent/file", "open /nonexistent/file: no such file or directory"},
	} {
		_, err := Parse(strings.Fields(c.args))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestFile(t *testing.T) {
	names, err := parseFile(strings.NewReader("# comment\n\nnet.inet.ip.ttl = 32 # why\nkern.hostname=a b\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"net.inet.ip.ttl=32", "kern.hostname=a b"}, names); d != "" {
		t.Error(d)
	}
	if _, err := parseFile(strings.NewReader("a=1\nkern.hostname\n")); err == nil || err.Error() != `line 2: "kern.hostname" sets nothing: a line is name=value` {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-a", "-nw\x00a=b", "-A\x00-n", "--\x00-x", "net.inet.ip.ttl"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "f") {
			return // -f opens a file
		}
		o, err := Parse(strings.Split(line, "\x00"))
		if (o == nil) == (err == nil) {
			t.Fatalf("%v, %v", o, err)
		}
		if o != nil {
			var out bytes.Buffer
			Run(newFake(), o, &out, &out)
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add("a=b\n# c\n")
	f.Fuzz(func(t *testing.T, text string) {
		names, err := parseFile(strings.NewReader(text))
		for _, n := range names {
			if err == nil && !strings.Contains(n, "=") {
				t.Fatalf("%q", n)
			}
		}
	})
}
