package echo

import (
	"bytes"
	"syscall"
	"testing"

	"ionet/protocol"
)

func TestPolicies(t *testing.T) {
	var p Policies
	for _, c := range []struct{ text, want string }{
		{"out ipsec esp/transport//require", ""},
		{"in bypass", ""},
		{"in none", `"in bypass" is there already, and one policy a direction is enough`},
		{"fwd none", "a socket has policies of in and out, nothing is forwarded by it"},
		{"out ipsec esp/trans", `column 15: "trans": a mode belongs here: transport, tunnel or beet`},
	} {
		got := ""
		if err := p.Add(c.text); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
	var set [][]byte
	if err := p.Set(func(v []byte) error { set = append(set, v); return nil }); err != nil || len(set) != 2 {
		t.Fatalf("%d set, %v", len(set), err)
	}
	// sadb_x_policy: type ipsec, out, the default priority; esp, transport, require.
	want := []byte{3, 0, 18, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 8, 0, 50, 0, 1, 2, 0, 0}
	if !bytes.Equal(set[0], want) {
		t.Errorf("% x, want % x", set[0], want)
	}
	for errno, want := range map[syscall.Errno]string{
		syscall.ENOPROTOOPT: "the stack has no IPsec, and the packets would go in clear; io-net -ptcpip ipsec starts one that has it",
		syscall.EPERM:       "Operation not permitted",
	} {
		if err := p.Set(func([]byte) error { return &protocol.Error{Errno: errno} }); err == nil || err.Error() != want {
			t.Errorf("%v: %v, want %s", errno, err, want)
		}
	}
}
