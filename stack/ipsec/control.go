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

// backFlow is what protects an ICMP error that no policy is about, window at its IP header: what protects the answers to the packet that it quotes
// (RFC 4301 §6.2). It would tell in clear of what had come protected. nil: nothing.
func (x *IPsec) backFlow(pkt *packet.Buf, k *flowKey) *flow {
	if !k.typed || !k.v6 && !packet.ICMPIsError(uint8(k.from)) || k.v6 && !packet.ICMP6IsError(uint8(k.from)) {
		return nil
	}
	b := pkt.Bytes()
	at, _, _ := headers(b)
	back, ok := answersTo(b[min(len(b), at+packet.ICMPLen):], k.v6)
	if !ok {
		return nil
	}
	f := x.look(&back, nil)
	if f.policy == nil || f.policy.Kind != Protect {
		return nil
	}
	if f.policy.Requests[0].Mode == ModeTransport && (f.src() != k.src() || f.dst() != k.dst()) {
		return nil // it is of a router on the way
	}
	f.policy.seen(x.env.Now())
	return f
}

// answersTo is the key of the answers to a packet whose beginning is b.
func answersTo(b []byte, v6 bool) (k flowKey, ok bool) {
	switch {
	case !v6 && len(b) >= packet.IPv4Len && b[0]>>4 == 4 && int(b[0]&15)*4 >= packet.IPv4Len:
		k = flowKey{srcLo: uint64(binary.BigEndian.Uint32(b[16:])), dstLo: uint64(binary.BigEndian.Uint32(b[12:]))}
	case v6 && len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		k = flowKey{srcHi: binary.BigEndian.Uint64(b[24:]), srcLo: binary.BigEndian.Uint64(b[32:]),
			dstHi: binary.BigEndian.Uint64(b[8:]), dstLo: binary.BigEndian.Uint64(b[16:]), v6: true}
	default:
		return k, false
	}
	at, _, proto := headers(b)
	k.proto, k.dir = proto, Out
	if len(b) < at+4 || !v6 && packet.IPv4(b).FragOff() != 0 {
		return k, true
	}
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		k.from, k.to = binary.BigEndian.Uint16(b[at+2:]), binary.BigEndian.Uint16(b[at:])
	case packet.ProtoICMP, packet.ProtoICMPv6:
		k.typed, k.from, k.to = true, uint16(b[at]), uint16(b[at+1])
	}
	return k, true
}
