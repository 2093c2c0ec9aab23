package sim

import (
	"bytes"
	"net/netip"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// A bottleneck marks a sound packet of a transport that knows of marks, and no
// other: neither one that does not, nor a header that the link has damaged, which
// may say that it is longer than the frame.
func TestMark(t *testing.T) {
	n := New(1)
	a := n.Stack("a")
	n.Attach(a, n.Segment(Faults{}), "10.0.0.1/24")
	src, dst := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1")
	for _, c := range []struct {
		what   string
		tos    uint8
		damage func(packet.IPv4)
		marked bool
	}{
		{"ECT(0)", 2, nil, true},
		{"ECT(1)", 1, nil, true},
		{"not ECT", 0, nil, false},
		{"a header of 52 octets", 2, func(h packet.IPv4) { h[0] = 0x4d }, false},
		{"a header of 16 octets", 2, func(h packet.IPv4) { h[0] = 0x44 }, false},
		{"another destination", 2, func(h packet.IPv4) { h[19] ^= 2 }, false},
	} {
		frame := make([]byte, packet.EtherLen+packet.IPv4Len+16)
		packet.PutEther(frame, netif.MAC{2}, netif.MAC{2, 1}, packet.EtherIPv4)
		h := packet.PutIPv4(frame[packet.EtherLen:], c.tos, packet.IPv4Len+16, 1, 0, 64, packet.ProtoTCP, src, dst, nil)
		h.SetChecksum()
		if c.damage != nil {
			c.damage(h)
		}
		was := bytes.Clone(frame)
		n.mark(a.ports[0], frame)
		if c.marked && (h.TOS() != 3 || !h.ChecksumOK()) || !c.marked && !bytes.Equal(frame, was) {
			t.Errorf("%s: %x has become %x", c.what, was, frame)
		}
	}
}
