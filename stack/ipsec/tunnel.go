package ipsec

import (
	"encoding/binary"

	"ionet/stack/mib"
	"ionet/stack/packet"
)

var (
	nodeTTL  = mib.Int("net.inet.ipsec.ttl", 64, "Time to live of the IPv4 headers of tunnels.", mib.Range(1, 255))
	nodeHlim = mib.Int("net.inet6.ipsec6.hlim", 64, "Hop limit of the IPv6 headers of tunnels.", mib.Range(1, 255))
	nodeDF   = mib.Int("net.inet.ipsec.dfbit", 0, "DF of a tunnel's outer header: 0 clear, 1 set, 2 as the inner one.", mib.Range(0, 2))
	nodeECN  = mib.Int("net.inet.ipsec.ecn", 0, "Congestion marks over tunnels of IPv4: 0 the outer header has none, 1 as RFC 6040 has it, -1 the outer header has the inner one's, and nobody looks at it.", mib.Range(-1, 1))
	nodeECN6 = mib.Int("net.inet6.ipsec6.ecn", 0, "Congestion marks over tunnels of IPv6: as net.inet.ipsec.ecn.", mib.Range(-1, 1))
)

// The ECN field (RFC 3168 §5).
const (
	ecnMask = 3
	notECT  = 0
	ect1    = 1
	ect0    = 2
	ce      = 3
)

func (s *SA) ecn() int64 {
	if s.Dst.Is4() {
		return s.x.env.MIB.Int(nodeECN)
	}
	return s.x.env.MIB.Int(nodeECN6)
}

func classOf(b []byte) uint8 {
	if b[0]>>4 == 6 {
		return packet.IPv6(b).Class()
	}
	return packet.IPv4(b).TOS()
}

// outerClass is the TOS or traffic class of the header around inner: its differentiated service (RFC
// 2983's uniform way), and its congestion marks as the sysctl says.
func (s *SA) outerClass(inner []byte) uint8 {
	c := classOf(inner)
	if s.ecn() == 0 {
		c &^= ecnMask
	}
	return c
}

func (s *SA) outerDF(inner []byte) bool {
	switch s.x.env.MIB.Int(nodeDF) {
	case 1:
		return true
	case 2:
		return inner[0]>>4 == 6 || packet.IPv4(inner).DF()
	}
	return false
}

// outer puts the tunnel's header in front of pkt, which has room for it.
func (s *SA) outer(pkt *packet.Buf, proto, class uint8, df bool) {
	n := pkt.Len()
	hlen := headerLen(s.Dst.Is4())
	b := pkt.Prepend(hlen)
	copy(b, s.header[:hlen])
	if s.Dst.Is4() {
		h := packet.IPv4(b)
		ttl, frag := uint8(s.x.env.MIB.Int(nodeTTL)), uint16(0)
		if df {
			frag = packet.IPv4DF
		}
		h[1], h[8], h[9] = class, ttl, proto
		h.SetTotalLen(n + hlen)
		h.SetFrag(frag)
		binary.BigEndian.PutUint16(h[10:], ^packet.Fold(s.sum+uint64(class)+uint64(n+hlen)+uint64(frag)+uint64(ttl)<<8+uint64(proto)))
	} else {
		h := packet.IPv6(b)
		h.SetClass(class)
		h.SetPayloadLen(n)
		h[6], h[7] = proto, uint8(s.x.env.MIB.Int(nodeHlim))
	}
	pkt.MarkL3(0)
	pkt.MarkL4(hlen)
	pkt.Csum = packet.CsumNone
}

// prepare makes what outer begins with.
func (s *SA) prepare() {
	if s.Dst.Is4() {
		packet.PutIPv4(s.header[:], 0, 0, 0, 0, 0, 0, s.Src, s.Dst, nil)
		s.sum = uint64(packet.Sum(0, s.header[:packet.IPv4Len]))
	} else {
		packet.PutIPv6(s.header[:], 0, 0, 0, 0, 0, s.Src, s.Dst)
	}
}

func headerLen(v4 bool) int {
	if v4 {
		return packet.IPv4Len
	}
	return packet.IPv6Len
}

// uncover brings the outer header's congestion mark to the inner packet; false: it cannot have it, and is
// lost instead (RFC 6040 §4.2).
func (s *SA) uncover(outer uint8, inner []byte) bool {
	if s.ecn() != 1 {
		return true
	}
	c := classOf(inner)
	switch in := c & ecnMask; {
	case outer&ecnMask == ce && in == notECT:
		return false
	case outer&ecnMask == ce:
		c |= ce
	case outer&ecnMask == ect1 && in == ect0:
		c = c&^ecnMask | ect1
	default:
		return true
	}
	if inner[0]>>4 == 6 {
		packet.IPv6(inner).SetClass(c)
		return true
	}
	old := binary.BigEndian.Uint16(inner)
	inner[1] = c
	binary.BigEndian.PutUint16(inner[10:], packet.UpdateChecksum(packet.IPv4(inner).Checksum(), old, binary.BigEndian.Uint16(inner)))
	return true
}
