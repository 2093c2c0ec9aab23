package pfil

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	alice, bob = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.1.2")
	six, seven = netip.MustParseAddr("fe80::6"), netip.MustParseAddr("2001:db8::7")
	en0        = &netif.Interface{Name: "en0", Index: 3}
)

func buf(t *testing.T, b []byte) *packet.Buf {
	t.Helper()
	p := packet.NewPool(1 << 20).Get(len(b))
	copy(p.Append(len(b)), b)
	p.MarkL3(0)
	return p
}

func v4(opts []byte, frag uint16, proto uint8, body ...byte) []byte {
	b := make([]byte, packet.IPv4Len+len(opts)+len(body))
	packet.PutIPv4(b, 0x10, len(b), 77, frag, 64, proto, alice, bob, opts).SetChecksum()
	copy(b[packet.IPv4Len+len(opts):], body)
	return b
}

func v6(next uint8, body ...byte) []byte {
	b := make([]byte, packet.IPv6Len+len(body))
	packet.PutIPv6(b, 0, 0, len(body), next, 64, six, seven)
	copy(b[packet.IPv6Len:], body)
	return b
}

func TestParse(t *testing.T) {
	tcp := make([]byte, packet.TCPLen)
	packet.PutTCP(tcp, 1025, 80, 1, 2, packet.TCPLen, packet.TCPSyn|packet.TCPAck, 100, 0, 0)
	udp := []byte{0, 53, 4, 1, 0, 8, 0, 0}
	hop := func(next uint8) []byte { return []byte{next, 0, packet.OptPadN, 4, 0, 0, 0, 0} }
	fragment := func(next uint8, off int) []byte {
		f := make([]byte, packet.FragmentLen)
		packet.PutFragment(f, next, off, true, 9)
		return f
	}
	join := func(bs ...[]byte) (all []byte) {
		for _, b := range bs {
			all = append(all, b...)
		}
		return all
	}
	for name, tc := range map[string]struct {
		b    []byte
		want Info
	}{
		"a segment": {v4(nil, packet.IPv4DF, packet.ProtoTCP, tcp...),
			Info{Proto: packet.ProtoTCP, L4: 20, Sport: 1025, Dport: 80, Flags: packet.TCPSyn | packet.TCPAck}},
		"a datagram with record route": {v4([]byte{7, 3, 4, 0}, 0, packet.ProtoUDP, udp...),
			Info{Proto: packet.ProtoUDP, L4: 24, Sport: 53, Dport: 1025, Is: HasOpts, Opts: 1 << OptionBit(7)}},
		"an option that does not fit": {v4([]byte{7, 9, 4, 0}, 0, packet.ProtoUDP, udp...),
			Info{Proto: packet.ProtoUDP, L4: 24, Sport: 53, Dport: 1025, Is: HasOpts | Bad}},
		"a first fragment": {v4(nil, packet.IPv4MF, packet.ProtoUDP, udp...),
			Info{Proto: packet.ProtoUDP, L4: 20, Sport: 53, Dport: 1025, Is: Fragment | More, FragID: 77, FragAt: 20}},
		"a later fragment": {v4(nil, 3, packet.ProtoUDP, udp...),
			Info{Proto: packet.ProtoUDP, L4: 20, Is: Fragment | FragBody, FragID: 77, FragOff: 24, FragAt: 20}},
		"a fragment over TCP's flags": {v4(nil, 1, packet.ProtoTCP, tcp...),
			Info{Proto: packet.ProtoTCP, L4: 20, Is: Fragment | FragBody | Bad, FragID: 77, FragOff: 8, FragAt: 20}},
		"a tiny first fragment": {v4(nil, packet.IPv4MF, packet.ProtoTCP, tcp[:8]...),
			Info{Proto: packet.ProtoTCP, L4: 20, Sport: 1025, Dport: 80, Is: Fragment | More | Short, FragID: 77, FragAt: 20}},
		"an echo": {v4(nil, 0, packet.ProtoICMP, 8, 0, 0, 0, 1, 2, 0, 1),
			Info{Proto: packet.ProtoICMP, L4: 20, Type: 8, ID: 0x102}},
		"IPv6, options, a segment": {v6(packet.ProtoHopByHop, join(hop(packet.ProtoTCP), tcp)...),
			Info{V6: true, Proto: packet.ProtoTCP, L4: 48, Sport: 1025, Dport: 80, Flags: packet.TCPSyn | packet.TCPAck, Is: HasOpts, Opts: 1 << HeaderBit(packet.ProtoHopByHop)}},
		"IPv6, a later fragment": {v6(packet.ProtoFragment, join(fragment(packet.ProtoUDP, 16), udp)...),
			Info{V6: true, Proto: packet.ProtoUDP, L4: 48, Is: Fragment | FragBody | More, FragID: 9, FragOff: 16, FragAt: 48, Opts: 1 << HeaderBit(packet.ProtoFragment)}},
		"IPv6, a header cut off": {v6(packet.ProtoDstOpts, packet.ProtoTCP, 4, 0, 0, 0, 0, 0, 0),
			Info{V6: true, Proto: packet.ProtoDstOpts, L4: 40, Is: Bad | Short}},
	} {
		p := buf(t, tc.b)
		var got Info
		got.Parse(p, en0, false)
		want := tc.want
		want.Pkt, want.If, want.TTL = p, en0, 64
		if want.Src, want.Dst, want.TOS = alice, bob, 0x10; want.V6 {
			want.Src, want.Dst, want.TOS = packet.Scoped(six, 3), seven, 0
		}
		want.SrcHi, want.SrcLo = packet.Words(want.Src)
		want.SrcHi &^= 0xffff << 32 // as on the wire
		want.DstHi, want.DstLo = packet.Words(want.Dst)
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
		p.Free()
	}
}

func TestFlow(t *testing.T) {
	udp := []byte{0, 53, 4, 1, 0, 8, 0, 0}
	var a, b Flow
	a.Flow4(v4(nil, 0, packet.ProtoUDP, udp...), 3)
	if want := (Flow{SrcLo: 0x0a000001, DstLo: 0x0a000102, Sport: 53, Dport: 1025, If: 3, Proto: packet.ProtoUDP}); a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
	b = a
	if a.Hash(5) != b.Hash(5) || a.Hash(5) == a.Hash(6) {
		t.Error("the hash is not of flow and key")
	}
	b.Dport++
	if a.Hash(5) == b.Hash(5) {
		t.Error("the hash does not know the port")
	}
	a.Flow6(v6(packet.ProtoICMPv6, packet.ICMP6Echo, 0, 0, 0, 1, 2, 0, 1), 3)
	if a.SrcHi != 0xfe80<<48 || a.SrcLo != 6 || a.Sport != 0x102 || a.Dport != 0x102 || !a.V6 {
		t.Errorf("%+v", a)
	}
}

// FuzzParse: whatever the octets are, what a filter is told lies inside of the packet.
func FuzzParse(f *testing.F) {
	f.Add(v4([]byte{7, 3, 4, 0}, packet.IPv4MF, packet.ProtoTCP, make([]byte, 20)...))
	f.Add(v6(packet.ProtoHopByHop, packet.ProtoAH, 0, 1, 4, 0, 0, 0, 0, packet.ProtoTCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2000 {
			return
		}
		h4, ok4 := packet.CheckIPv4(b)
		_, ok6 := packet.CheckIPv6(b)
		if !ok4 && !ok6 || ok4 && h4.TotalLen() > len(b) {
			return
		}
		p := buf(t, b)
		var i Info
		i.Parse(p, en0, false)
		if i.L4 > len(b) && i.Is&(Bad|Short) == 0 {
			t.Errorf("the transport header is at %d of %d", i.L4, len(b))
		}
		if tr := i.Transport(); len(tr) >= 4 && i.Is&(Bad|FragBody) == 0 && (i.Proto == packet.ProtoTCP || i.Proto == packet.ProtoUDP) && binary.BigEndian.Uint16(tr) != i.Sport {
			t.Errorf("source port %d, the packet says %d", i.Sport, binary.BigEndian.Uint16(tr))
		}
		p.Free()
	})
}
