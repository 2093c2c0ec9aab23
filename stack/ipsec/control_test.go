package ipsec

import (
	"net/netip"
	"testing"

	"ionet/stack/packet"
)

// The key of the answers to a packet is its own the other way round, whatever an ICMP error quotes.
func FuzzAnswersTo(f *testing.F) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	four := make([]byte, packet.IPv4Len+packet.UDPLen)
	packet.PutIPv4(four, 0, len(four), 1, 0, 64, packet.ProtoUDP, a, b, nil).SetChecksum()
	packet.PutUDP(four[packet.IPv4Len:], 1000, 7, packet.UDPLen, 0)
	a, b = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	six := make([]byte, packet.IPv6Len+packet.TCPLen)
	packet.PutIPv6(six, 0, 0, packet.TCPLen, packet.ProtoTCP, 64, a, b)
	packet.PutTCP(six[packet.IPv6Len:], 1000, 80, 1, 1, packet.TCPLen, 16, 1, 0, 0)
	f.Add(four, false)
	f.Add(six, true)
	f.Add(append(six[:6:6], 0), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		back, ok := answersTo(b, v6)
		var k flowKey
		if len(b) == 0 || !k.plain(b) || k.v6 != v6 {
			return
		}
		want := flowKey{srcHi: k.dstHi, srcLo: k.dstLo, dstHi: k.srcHi, dstLo: k.srcLo, from: k.to, to: k.from, proto: k.proto, dir: Out, v6: v6}
		if !ok || back != want {
			t.Errorf("%x: %+v, %v, want %+v", b, back, ok, want)
		}
	})
}
