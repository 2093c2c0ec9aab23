package saved

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// states is a file of two states, which are nobody's concern here.
func states() States {
	return States{Version: 2, Rules: []string{"pass in quick on en0 from any to en0/32 keep state", "pass out on en1 to en0:10.0.0.1 all keep state"},
		Interfaces: []string{"en0", "en1"}, Rest: []byte{0, 0, 0, 2, 'a', 'b'}}
}

const translations = `{"version":1,"sessions":[{"if":"en0","new":[1,2],"proto":6,"rule":"map en0 from en0/network to any -\u003e 192.0.2.1/32"},{"if":"en1","rule":"rdr en1,en0 192.0.2.1/32 port 80 -\u003e 10.0.0.5 port 80 tcp"}]}`

func TestStates(t *testing.T) {
	b := states().Append(nil)
	got, err := ParseStates(b)
	if d := cmp.Diff(states(), got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if n, of, err := Count(b); n != 2 || !of || err != nil {
		t.Error(n, of, err)
	}
	for n := range len(b) - 6 {
		if _, err := ParseStates(b[:n]); err == nil {
			t.Errorf("%d octets are a head", n)
		}
	}
}

func TestRename(t *testing.T) {
	out, n, err := Rename(states().Append(nil), "en0", "vlan7")
	if err != nil || n != 4 {
		t.Fatal(n, err)
	}
	got, _ := ParseStates(out)
	want := states()
	want.Rules = []string{"pass in quick on vlan7 from any to vlan7/32 keep state", "pass out on en1 to vlan7:10.0.0.1 all keep state"}
	want.Interfaces = []string{"vlan7", "en1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	out, n, err = Rename([]byte(translations), "en0", "vlan7")
	if err != nil || n != 4 || strings.Contains(string(out), "en0") || !strings.Contains(string(out), `"new":[1,2]`) || strings.Count(string(out), "vlan7") != 4 {
		t.Errorf("%d, %v\n%s", n, err, out)
	}
	if n, of, err := Count(out); n != 2 || of || err != nil {
		t.Error(n, of, err)
	}
	// What does not occur changes nothing.
	for _, b := range []string{string(states().Append(nil)), translations} {
		if out, n, err := Rename([]byte(b), "en9", "en8"); n != 0 || err != nil || string(out) != b {
			t.Errorf("%d, %v\n%q\n%q", n, err, out, b)
		}
	}
	bad := states()
	bad.Rules[0] = "pass"
	for _, b := range []string{"", "{}", "#!/bin/sh", "ipfstat", `{"version":1}`, `{"version":1,"sessions":[{}]}`, translations + "x", `{"version":1,"sessions":[],"x":1}`,
		`{"version":1,"sessions":[{"if":"en0","rule":"map"}]}`, string(bad.Append(nil))} {
		if out, n, err := Rename([]byte(b), "en0", "en1"); err == nil || out != nil {
			t.Errorf("%q: %d, %q", b, n, out)
		}
	}
}

func FuzzRename(f *testing.F) {
	f.Add(states().Append(nil))
	f.Add([]byte(translations))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseStates(b); err == nil && !bytes.Equal(s.Append(nil), b) {
			t.Errorf("%q is read as %+v", b, s)
		}
		out, _, err := Rename(b, "en0", "en1")
		if err != nil {
			return
		}
		n, of, _ := Count(b)
		if m, is, err := Count(out); m != n || is != of || err != nil {
			t.Errorf("%d of %d are left, %v\n%q\n%q", m, n, err, b, out)
		}
		if _, k, err := Rename(out, "en0", "en1"); k != 0 || err != nil {
			t.Errorf("%d more, %v\n%q\n%q", k, err, b, out)
		}
	})
}
