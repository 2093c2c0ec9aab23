package stack_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// TestNodeInformation: what is answered to which question, as far as what may be
// told goes: the type of the question, the code and the answer's octets.
func TestNodeInformation(t *testing.T) {
	old := info(2) // of draft 03, without a subject
	old = nd("2001:db8::2", "2001:db8::1", append([]byte{}, old[packet.EtherLen+packet.IPv6Len:][:16]...))
	for _, c := range []struct {
		name, give, host string
		query            []byte
		want             string
	}{
		{"nothing", "3", "gate", info(0), "0 0 []"},
		{"which questions", "3", "gate", info(1), "1 0 [0 0 0 31]"},
		{"without a name", "3", "", info(1), "1 0 [0 0 0 27]"},
		{"names alone", "1", "gate", info(1), "1 0 [0 0 0 7]"},
		{"addresses alone", "2", "gate", info(1), "1 0 [0 0 0 27]"},
		{"the name", "3", "gate", info(2), "2 0 [0 0 0 0 4 103 97 116 101 0 0]"},
		{"a name it has not", "3", "", info(2), ""},
		{"a name it keeps", "2", "gate", info(2), ""},
		{"a question without a subject", "3", "gate", old, ""},
		{"what nobody knows", "3", "gate", info(77), "77 2 []"},
		{"anything", "0", "gate", info(1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rig.New(t, rig.Dual)
			r.Sysctl("kern.hostname", c.host)
			r.Sysctl("net.inet6.icmp6.nodeinfo", c.give)
			met(r)
			r.Send(c.query)
			got := ""
			for _, f := range r.Sent() {
				m := f[packet.EtherLen+packet.IPv6Len:]
				got += fmt.Sprint(binary.BigEndian.Uint16(m[4:]), m[1], m[16:])
			}
			if got != c.want {
				t.Errorf("answers %q, want %q", got, c.want)
			}
		})
	}
}
