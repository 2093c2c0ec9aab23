package ipf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/cli/golden"
)

// fake is a stack that tells of the changes that reach it, and refuses some.
type fake struct {
	out    *bytes.Buffer
	none   bool // no filter
	tuned  map[string]string
	refuse map[string]error // by what a step says
}

func (f *fake) EditRules(language uint8, steps []protocol.RuleStep) (took []int, err error) {
	if f.none {
		return nil, &protocol.Error{Errno: syscall.ENODEV, Text: "no packet filter in this stack; mount -Ttcpip lsm-ipfilter.so loads it"}
	}
	fmt.Fprintf(f.out, "change %d of", language)
	for i, s := range steps {
		fmt.Fprintf(f.out, " [%d %#x %s]", s.Kind, s.Arg, s.Text)
		if e := f.refuse[s.Text]; e != nil && s.Text != "" {
			fmt.Fprintln(f.out)
			return nil, &client.RuleStepError{Step: i, Err: e}
		}
		took = append(took, i+3)
	}
	fmt.Fprintln(f.out)
	return took, nil
}

func (f *fake) Filter() (protocol.FilterRow, error) {
	if f.none {
		return protocol.FilterRow{}, &protocol.Error{Errno: syscall.ENODEV, Text: "no packet filter"}
	}
	return protocol.FilterRow{Enabled: true, Default: "pass"}, nil
}

func (f *fake) Rules() ([]protocol.FilterRuleRow, error) {
	return []protocol.FilterRuleRow{{Set: "active", Rule: "block in all", Hits: 7, Bytes: 512}, {Set: "inactive", Rule: "block in all", Hits: 1}}, nil
}

func (f *fake) SysctlList(name string) (all []protocol.SysctlNode, err error) {
	for _, n := range []string{"fr_active", "fr_flags", "fr_statemax"} {
		if n = prefix + n; n == name || strings.HasPrefix(n, name+".") {
			all = append(all, protocol.SysctlNode{Name: n, Kind: "int", Value: f.tuned[n], Doc: "What it is."})
		}
	}
	return all, nil
}

func (f *fake) SetSysctl(name, value string) (string, error) {
	old, ok := f.tuned[name]
	if !ok {
		return "", &protocol.Error{Errno: syscall.ENOENT}
	}
	if value == "-1" {
		return "", &protocol.Error{Errno: syscall.EINVAL, Text: name + " is from 0 to 16777216"}
	}
	fmt.Fprintf(f.out, "set %s %s\n", name, value)
	f.tuned[name] = value
	return old, nil
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "gate" {
		return []netip.Addr{netip.MustParseAddr("10.0.0.25")}, nil
	}
	return nil, errors.New("no such host")
}

var files = map[string]string{
	"ipf.conf": `# what comes in
block in all
pass in quick on en0 proto tcp from any to any port = 22 flags S keep state head 7
  pass in from 10/8 to any group 7
block in proto icmp from any to gate
`,
	"ipf6.conf":   "block in all\npass in proto ipv6-icmp all\n",
	"bad.conf":    "block in al\npass in all\npass on en0 all\npass in from nowhere to any\n",
	"twice.conf":  "pass in all\npass out all\npass in all\n",
	"head.conf":   "pass in all group 9\n",
	"absent.conf": "pass out from 10.0.0.7/32 to any\n",
	"empty.conf":  "",
}

// knowsNone is a host without names.
type knowsNone struct{}

func (knowsNone) LookupHost(context.Context, string) ([]netip.Addr, error) {
	return nil, errors.New("the host knows none")
}

// dialogue is what a command line prints, and how it ends.
func dialogue(line string, f *fake) string {
	var out bytes.Buffer
	f.out = &out
	if f.tuned == nil {
		f.tuned = map[string]string{prefix + "fr_active": "0", prefix + "fr_flags": "0", prefix + "fr_statemax": "100000"}
	}
	args := strings.Fields(line)[1:]
	json := len(args) > 0 && args[len(args)-1] == "--json"
	if json {
		args = args[:len(args)-1]
	}
	fmt.Fprintf(&out, "$ %s\n", line)
	o, err := parse(args)
	if err == nil {
		t := &tool{options: o, ctx: context.Background(), json: json, out: &out, errw: &out, host: knowsNone{},
			read: func(path string) (string, []byte, error) {
				if path == "-" {
					return "stdin", []byte("pass out all\n"), nil
				}
				text, ok := files[path]
				if !ok {
					return path, nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
				}
				return path, []byte(text), nil
			},
			open: func() (Stack, error) {
				if f == nowhere {
					return nil, &protocol.Error{Errno: syscall.ENOENT, Text: "no stack at /alt: start one with io-net -ptcpip prefix=/alt, or set SOCK"}
				}
				return f, nil
			}}
		err = t.do()
	}
	if err != nil && !errors.Is(err, errSaid) {
		fmt.Fprintf(&out, "ipf: %v\n", err)
	}
	if err != nil {
		fmt.Fprintln(&out, "(1)")
	}
	return out.String()
}

var nowhere = &fake{}

func TestDialogues(t *testing.T) {
	refuses := map[string]error{
		"pass out all":                     &protocol.Error{Errno: syscall.EEXIST},
		"pass in all group 9":              &protocol.Error{Errno: syscall.ESRCH, Text: "group 9: no rule that is in force is its head: no such process"},
		"pass out from 10.0.0.7/32 to any": &protocol.Error{Errno: syscall.ESRCH},
	}
	var all strings.Builder
	for _, c := range []struct {
		line string
		on   *fake
	}{
		{line: "ipf -f ipf.conf"},
		{line: "ipf -Fa -f ipf.conf -v"},
		{line: "ipf -6 -F all -f ipf6.conf -f -"},
		{line: "ipf -I -Fi -f ipf6.conf -A -Fout -s"},
		{line: "ipf -v -Fs -FS -D -E -Z -s -y -oU"},
		{line: "ipf -Z --json"},
		{line: "ipf -Z", on: &fake{none: true}},
		{line: "ipf -rf ipf.conf"},
		{line: "ipf -z -f ipf6.conf"},
		{line: "ipf -I -z -f ipf6.conf --json"},
		{line: "ipf -df empty.conf -Fa"},
		// Nothing is changed by what has a fault, wherever it stands.
		{line: "ipf -Fa -f ipf.conf -f bad.conf"},
		{line: "ipf -Fa -f ipf.conf -f none.conf"},
		{line: "ipf -f bad.conf --json"},
		{line: "ipf -T fr_statemax=5 -f twice.conf", on: &fake{refuse: refuses}},
		{line: "ipf -Fa -f head.conf", on: &fake{refuse: refuses}},
		{line: "ipf -r -f absent.conf", on: &fake{refuse: refuses}},
		// A checker needs no stack.
		{line: "ipf -n -f ipf6.conf", on: nowhere},
		{line: "ipf -nv -Fa -f ipf6.conf -s", on: nowhere},
		{line: "ipf -n -f bad.conf -f ipf.conf", on: nowhere},
		{line: "ipf -f ipf6.conf", on: nowhere},
		{line: "ipf -f ipf6.conf", on: &fake{none: true}},
		{line: "ipf -T list"},
		{line: "ipf -vT fr_statemax,net.inet.ipf.fr_flags"},
		{line: "ipf -T fr_flags --json"},
		{line: "ipf -vT fr_statemax=7,fr_flags=1"},
		{line: "ipf -T fr_statemax=7,fr_flags=-1"},
		{line: "ipf -T fr_wonder"},
		{line: "ipf -T fr_wonder=1"},
		{line: "ipf -l block -l pass -v"},
		{line: "ipf -l all"},
		{line: "ipf -V"},
		{line: "ipf -V --json"},
		{line: "ipf -V", on: &fake{none: true}},
		{line: "ipf -V --json", on: &fake{none: true}},
		{line: "ipf -V", on: nowhere},
		{line: "ipf"},
		{line: "ipf -F"},
		{line: "ipf -Fx"},
		{line: "ipf -P -f ipf.conf"},
		{line: "ipf ipf.conf"},
		{line: "ipf -f ipf.conf -r"},
		{line: "ipf -Fa -I"},
		{line: "ipf -I -Fa"},
		{line: "ipf -r -z -f ipf.conf"},
		{line: "ipf -f - -f -"},
	} {
		f := c.on
		if f == nil {
			f = &fake{}
		}
		line := dialogue(c.line, f)
		all.WriteString(strings.ReplaceAll(line, cli.BuildVersion(), "VERSION"))
	}
	golden.Check(t, "ipf", all.String())
}
