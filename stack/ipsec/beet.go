package ipsec

import (
	"slices"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Mode BEET (draft-nikander-esp-beet-mode-09): a tunnel between two hosts whose packets do not carry the inner header. Its
// addresses are known at both ends, by the policy; the rest of it is the outer one's.

// protoBEETPH stands in front of options of IPv4 (§5.3), which we neither send nor take.
const protoBEETPH = 94

// beet reports a policy that asks for the mode.
func (p *Policy) beet() bool {
	return slices.ContainsFunc(p.Requests, func(r Request) bool { return r.Mode == ModeBEET })
}

// plainly reports a packet with nothing between its IP header and what is encrypted from at on, and no fragment.
func plainly(b []byte, at int) bool {
	if b[0]>>4 == 4 {
		return at == packet.IPv4Len && packet.IPv4(b).FragField()&^packet.IPv4DF == 0
	}
	return at == packet.IPv6Len
}

// replace puts the SA's addresses in place of those of the first at octets, the inner header.
func (s *SA) replace(pkt *packet.Buf, at int, carrier uint8) {
	b := pkt.Bytes()
	class, df, ttl := classOf(b), false, b[7]
	if b[0]>>4 == 4 {
		df, ttl = packet.IPv4(b).DF(), packet.IPv4(b).TTL()
	}
	pkt.TrimFront(at)
	s.outer(pkt, carrier, class, df)
	b = pkt.Bytes()
	if b[0]>>4 == 4 {
		b[8] = ttl
		packet.IPv4(b).SetChecksum()
		return
	}
	b[7] = ttl
}

// hosts are the ends of the packets of an SA, as they were in a generation of the SPD.
type hosts struct {
	gen  uint64
	from *Policy // which says so; nil: none does
}

// whose finds the policy that says whose packets come by an SA of mode BEET, or nil.
func (s *SA) whose() *Policy {
	d := &s.x.spd
	gen := d.gen.Load()
	if h := s.hosts.Load(); h != nil && h.gen == gen {
		return h.from
	}
	h := &hosts{gen: gen}
	for _, p := range s.x.Policies() {
		if p.Dir == In && h.from == nil && slices.ContainsFunc(p.Requests, func(r Request) bool {
			return r.Mode == ModeBEET && unscope(r.Src) == s.Src && unscope(r.Dst) == s.Dst && (r.Level != Unique || r.ReqID == s.ReqID)
		}) {
			h.from = p
		}
	}
	s.hosts.Store(h)
	return h.from
}

// restore gives a packet its inner header again, in place of the outer one and front octets of protection.
func (x *IPsec) restore(w *netif.Work, pkt *packet.Buf, s *SA, front int, next uint8) {
	p := s.whose()
	if p == nil || next == protoBEETPH || x.nets[side(p.Src.Addr().Is6())] == nil {
		drop(w, pkt, s.stats.ip.inInvalid, s.stats.proto.tunnel)
		return
	}
	o := pkt.L3()
	class, df, ttl := classOf(o), false, o[7]
	if o[0]>>4 == 4 {
		df, ttl = packet.IPv4(o).DF(), packet.IPv4(o).TTL()
	}
	pkt.TrimFront(front)
	hlen := headerLen(p.Src.Addr().Is4())
	roomy := pkt.WithRoom(hlen, 0)
	if roomy == nil {
		w.Drop(pkt, s.stats.ip.inNoMem)
		return
	}
	pkt = roomy
	n := pkt.Len()
	if b := pkt.Prepend(hlen); p.Src.Addr().Is4() {
		frag := uint16(0)
		if df {
			frag = packet.IPv4DF
		}
		packet.PutIPv4(b, class, n+hlen, 0, frag, ttl, next, p.Src.Addr(), p.Dst.Addr(), nil).SetChecksum()
	} else {
		packet.PutIPv6(b, class, 0, n, next, ttl, p.Src.Addr(), p.Dst.Addr())
	}
	x.inner(w, pkt)
}
