package ipsec

import (
	"encoding/binary"
	"net/netip"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Upper is what inet and inet6 know of a protocol of IPsec when nobody protects or opens anything, and who is told of ICMP
// errors about its packets.
type Upper struct {
	x     *IPsec
	proto uint8
}

// Upper is that of protocol 50, 51 or 108.
func (x *IPsec) Upper(proto uint8) Upper { return Upper{x, proto} }

// Input is the switch's, for who is idle: there is no SA.
func (u Upper) Input(w *netif.Work, pkt *packet.Buf) { u.x.Input(w, pkt, u.proto) }

// sa is the SA that a packet of ours belongs to, or nil.
func (u Upper) sa(src, dst netip.Addr, b []byte) *SA {
	spi := uint32(0)
	switch u.proto {
	case packet.ProtoESP:
		spi = binary.BigEndian.Uint32(b)
	case packet.ProtoAH:
		spi = binary.BigEndian.Uint32(b[4:])
	default:
		spi = uint32(binary.BigEndian.Uint16(b[2:]))
	}
	s := u.x.sad.at(u.proto, spi, unscope(dst))
	if s == nil || s.Src != unscope(src) {
		return nil
	}
	return s
}

// Knows reports whether a packet can have been ours (RFC 4301 §8.2).
func (u Upper) Knows(src, dst netip.Addr, b []byte) bool { return u.sa(src, dst, b) != nil }

// ControlInput is told of an ICMP error. What it says of a path's MTU counts; that a host or port is
// unreachable anybody could say.
func (u Upper) ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, b []byte) {
	if s := u.sa(src, dst, b); s != nil && c.MTU != 0 {
		s.pmtu.Store(int64(c.MTU))
		s.pmtuEnd.Store(w.Now + pathBelieved)
	}
}

// pathBelieved is how long a learnt path MTU counts (RFC 8201 §4).
const pathBelieved = 600 * second

// path is the largest packet of a transport that its path takes, mtu at most.
func (s *SA) path(mtu int, now int64) int {
	if m := int(s.pmtu.Load()); m != 0 && m < mtu && now < s.pmtuEnd.Load() {
		return m
	}
	return mtu
}
