package ip6addrctl

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake is the table of RFC 6724, without the lines that nobody needs.
type fake struct{ rows []protocol.PolicyRow }

func rfc6724() *fake {
	return &fake{[]protocol.PolicyRow{{Prefix: "::1/128", Precedence: 50}, {Prefix: "::/0", Precedence: 40, Label: 1, Use: 4294},
		{Prefix: "2002::/16", Precedence: 30, Label: 2}, {Prefix: "::ffff:0.0.0.0/96", Precedence: 35, Label: 4, Use: 1}}}
}

func (f *fake) Policies() ([]protocol.PolicyRow, error) { return slices.Clone(f.rows), nil }

func (f *fake) AddPolicy(p protocol.AddrPolicy) error {
	if p.Precedence > 1000 {
		return &protocol.Error{Errno: syscall.EINVAL}
	}
	_ = f.DelPolicy(p)
	f.rows = append(f.rows, protocol.PolicyRow{Prefix: p.Prefix.String(), Precedence: p.Precedence, Label: p.Label})
	return nil
}

func (f *fake) DelPolicy(p protocol.AddrPolicy) error {
	n := len(f.rows)
	f.rows = slices.DeleteFunc(f.rows, func(r protocol.PolicyRow) bool {
		q, err := parsePrefix(r.Prefix)
		return err == nil && q == p.Prefix
	})
	if len(f.rows) == n {
		return &protocol.Error{Errno: syscall.ESRCH}
	}
	return nil
}

// exec runs a command line, and shows the table after it.
func exec(b *strings.Builder, asJSON bool, file, line string) {
	fmt.Fprintf(b, "$ ip6addrctl %s\n", line)
	do, err := parse(strings.Fields(line), func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(file)), nil })
	f := rfc6724()
	t := &tool{f, b, asJSON}
	if err == nil {
		err = do(t)
	}
	if err != nil {
		fmt.Fprintf(b, "ip6addrctl: %v\n", err)
		return
	}
	if line != "" && line != "show" {
		_ = t.show()
	}
}

func TestIP6addrctl(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{"", "show", "add fc00::/7 3 13", "add 10.0.0.0/8 3 13", "add ::/0 9 9", "add ::1 1001 0", "add fc00::/7 3", "add fc00::/x 1 1",
		"add fc00::/7 x 1", "add fc00::/7 1 -1", "delete 2002::/16", "delete 2003::/16", "delete ::1", "delete 0.0.0.0/0", "flush", "flush all", "-n", "reset"} {
		exec(&b, false, "", line)
	}
	exec(&b, true, "", "show")
	exec(&b, false, "# ours\n::/0 10 1 # all\n\n::1/128 20 2\nfd00::/8 30 3\n", "install ours")
	exec(&b, false, "::/0 10 1\n::/0 11 1\n", "install twice")
	exec(&b, false, "::/0 10\n", "install short")
	exec(&b, false, "", "install empty")
	golden.Check(t, "ip6addrctl", b.String())
}

func FuzzFile(f *testing.F) {
	f.Add("# ours\n::/0 10 1 # all\n10.0.0.0/8 1 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parseFile(strings.NewReader(text))
		for _, l := range lines {
			if err == nil && (!l.Prefix.Addr().Is6() || l.Prefix != l.Prefix.Masked() || l.Precedence < 0 || l.Label < 0) {
				t.Errorf("%q became %+v", text, l)
			}
		}
	})
}
