package ipsec

import (
	"encoding/binary"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Input is [pfil.Security].
func (x *IPsec) Input(w *netif.Work, pkt *packet.Buf, proto uint8) {
	if t, _ := pkt.Sec.(*Trail); t.depth() >= maxBundle {
		w.Drop(pkt, statsOf(pkt).inDeep)
		return
	}
	switch proto {
	case packet.ProtoUDP:
		if pkt.GSO != packet.GSONone {
			x.cut(w, pkt)
			return
		}
		w.Count(protoStats[0].in)
		pkt.TrimFront(packet.UDPLen)
		x.openESP(w, pkt, true)
	case packet.ProtoESP:
		w.Count(protoStats[0].in)
		x.openESP(w, pkt, false)
	case packet.ProtoAH:
		w.Count(protoStats[1].in)
		x.checkAH(w, pkt)
	default:
		w.Count(protoStats[2].in)
		x.expand(w, pkt)
	}
}

func (t *Trail) depth() (n int) {
	for ; t != nil; t = t.Before {
		n++
	}
	return n
}

// ends are the addresses in a packet's IP header.
func ends(pkt *packet.Buf) (src, dst [2]uint64, v6 bool) {
	b := pkt.L3()
	if b[0]>>4 == 6 {
		return [2]uint64{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])},
			[2]uint64{binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])}, true
	}
	return [2]uint64{0, uint64(binary.BigEndian.Uint32(b[12:]))}, [2]uint64{0, uint64(binary.BigEndian.Uint32(b[16:]))}, false
}

// came is the SA that a packet has come by, or nil, and then the packet has gone.
func (x *IPsec) came(w *netif.Work, pkt *packet.Buf, proto uint8, spi uint32) *SA {
	_, dst, v6 := ends(pkt)
	s := x.sad.find(proto, spi, dst, v6)
	if s == nil {
		drop(w, pkt, statsOf(pkt).inNoSA, protoStats[protoIndex(proto)].noSA)
		return nil
	}
	if !s.usable() {
		drop(w, pkt, statsOf(pkt).inNotReady, protoStats[protoIndex(proto)].notReady)
		return nil
	}
	return s
}

// numbered is the whole number of a packet, and whether it may still come.
func (s *SA) numbered(lo uint32) (n uint64, ok bool) {
	if n = uint64(lo); s.ESN {
		n = s.replay.widen(lo)
	}
	return n, s.replay.size == 0 && !s.ESN || s.replay.fresh(n)
}

// takes notes that a packet of octets whose check value is right has come, and answers what has come in all.
func (s *SA) takes(n uint64, octets int) (taken bool, packets, bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.replay.take(n) && (s.replay.size != 0 || s.ESN) {
		return false, 0, 0
	}
	s.came.packets++
	s.came.bytes += uint64(octets)
	return true, s.came.packets, s.came.bytes
}

// openESP is RFC 4303 §3.4. The window is at the ESP header.
func (x *IPsec) openESP(w *netif.Work, pkt *packet.Buf, udp bool) {
	if pkt.Len() < espLen {
		drop(w, pkt, statsOf(pkt).inInvalid, protoStats[0].short)
		return
	}
	b := pkt.Bytes()
	spi := binary.BigEndian.Uint32(b)
	s := x.came(w, pkt, packet.ProtoESP, spi)
	if s == nil {
		return
	}
	if pkt = x.own(w, pkt); pkt == nil {
		return
	}
	front, end, next, why, ok := s.opens(w, pkt.Bytes(), udp)
	if !ok {
		w.Drop(pkt, why)
		return
	}
	pkt.TrimTo(end)
	x.opened(w, pkt, s, front, next, udp)
}

// opens takes protection off what begins at an ESP header, in place: next is inside, in b[front:end]. What is not
// ok has been counted by its version of IP, and is still to be dropped for why.
func (s *SA) opens(w *netif.Work, b []byte, udp bool) (front, end int, next uint8, why mib.Counter, ok bool) {
	front = espLen + s.iv
	body := len(b) - front - s.icv
	c, v := s.stats.proto, s.stats.ip
	switch {
	case udp != (s.NATT.Type != 0):
		w.Count(v.inInvalid)
		return 0, 0, 0, c.carrier, false
	case body < trailerLen:
		w.Count(v.inInvalid)
		return 0, 0, 0, c.short, false
	case body&(s.align-1) != 0:
		w.Count(v.inInvalid)
		return 0, 0, 0, c.badLen, false
	}
	n, fresh := s.numbered(binary.BigEndian.Uint32(b[4:]))
	if !fresh {
		w.Count(v.inReplayESP)
		return 0, 0, 0, c.replay, false
	}
	if !s.esp.Open(b, uint32(n>>32)) {
		w.Count(v.inForged)
		return 0, 0, 0, c.forged, false
	}
	if s.icv > 0 {
		w.Count(v.inAuthentic)
	}
	taken, packets, octets := s.takes(n, body)
	if !taken {
		w.Count(v.inReplayESP)
		return 0, 0, 0, c.replay, false
	}
	if !s.spent(w, packets, octets) {
		return 0, 0, 0, c.over, false
	}
	b = b[:front+body]
	pad := int(b[len(b)-2])
	next = b[len(b)-1]
	if pad > body-trailerLen || !s.padded(b[len(b)-trailerLen-pad:len(b)-trailerLen]) {
		w.Count(v.inInvalid)
		return 0, 0, 0, c.badPad, false
	}
	if next == packet.ProtoNone {
		return 0, 0, 0, c.dummy, false
	}
	return front, len(b) - trailerLen - pad, next, 0, true
}

// padded checks padding that is to be in order (RFC 4303 §2.4).
func (s *SA) padded(b []byte) bool {
	if s.Pad != PadSeq {
		return true
	}
	for i, c := range b {
		if c != byte(i+1) {
			return false
		}
	}
	return true
}

// opened takes front octets of protection off a packet, window at them, behind which follows next.
func (x *IPsec) opened(w *netif.Work, pkt *packet.Buf, s *SA, front int, next uint8, udp bool) {
	before, _ := pkt.Sec.(*Trail)
	tunnel := s.Mode == ModeTunnel || s.Mode == ModeBEET || s.Mode == ModeAny && (next == packet.ProtoIPv4 || next == packet.ProtoIPv6)
	pkt.Sec = s.after(before, tunnel)
	s.cameIn(w, pkt.Len()-front)
	pkt.Csum = packet.CsumNone
	if s.Mode == ModeBEET {
		x.restore(w, pkt, s, front, next)
		return
	}
	if tunnel {
		x.unwrap(w, pkt, s, front, next)
		return
	}
	// The IP header moves up to what it was in front of.
	outer := pkt.L3()
	hlen := len(outer) - pkt.Len()
	if udp {
		hlen -= packet.UDPLen
		front += packet.UDPLen
	}
	nextAt := namedAt(outer, hlen)
	pkt.RestoreL3()
	b := pkt.Bytes()
	copy(b[front:], b[:hlen])
	pkt.TrimFront(front)
	b = pkt.Bytes()
	grown(b, nextAt, next)
	pkt.MarkL3(0)
	pkt.MarkL4(hlen)
	if udp && s.NATT.OA.IsValid() {
		forgetSum(b[hlen:], next) // RFC 3948 §3.1.2: it is of addresses that the NAT has changed, and ours was checked
		pkt.Csum = packet.CsumVerified
	} else if udp {
		pkt.Csum = packet.CsumVerified
	}
	w.Turn(x.turns[side(b[0]>>4 == 6)], pkt)
}

// forgetSum leaves a UDP datagram without checksum.
func forgetSum(b []byte, proto uint8) {
	if proto == packet.ProtoUDP && len(b) >= packet.UDPLen {
		b[6], b[7] = 0, 0
	}
}

// after is the trail of a packet that came through s after before: the same one for all that come the same way, for
// fragments are told apart by it.
func (s *SA) after(before *Trail, tunnel bool) *Trail {
	t := s.trail.Load()
	if t == nil || t.Before != before || t.Tunnel != tunnel {
		t = &Trail{s, tunnel, before}
		s.trail.Store(t)
	}
	return t
}

// unwrap takes the outer header and front octets more off a tunnel's packet.
func (x *IPsec) unwrap(w *netif.Work, pkt *packet.Buf, s *SA, front int, next uint8) {
	class := classOf(pkt.L3())
	pkt.TrimFront(front)
	b := pkt.Bytes()
	if !x.sound(b, next) {
		drop(w, pkt, s.stats.ip.inInvalid, s.stats.proto.tunnel)
		return
	}
	if !s.uncover(class, b) {
		w.Drop(pkt, s.stats.ip.inCE)
		return
	}
	x.inner(w, pkt)
}

// sound reports a header of the version of IP that next says, and that we speak.
func (x *IPsec) sound(b []byte, next uint8) bool {
	v6 := next == packet.ProtoIPv6
	return (v6 && len(b) >= packet.IPv6Len && b[0]>>4 == 6 || next == packet.ProtoIPv4 && len(b) >= packet.IPv4Len && b[0]>>4 == 4) && x.nets[side(v6)] != nil
}

// inner has a packet out of a tunnel, window at its IP header, taken in.
func (x *IPsec) inner(w *netif.Work, pkt *packet.Buf) {
	pkt.MarkL3(0)
	pkt.Flags &^= packet.FlagCame | packet.FlagBroadcast | packet.FlagMulticast
	w.Turn(x.unwrapped[side(pkt.Bytes()[0]>>4 == 6)], pkt)
}

// Encapsulated is [pfil.Security].
func (x *IPsec) Encapsulated(pkt *packet.Buf) bool {
	if x.ports.set.Load() == nil || pkt.Len() < packet.UDPLen+espLen {
		return false
	}
	b := pkt.Bytes()
	return binary.BigEndian.Uint32(b[packet.UDPLen:]) != 0 && x.ports.has(binary.BigEndian.Uint16(b[2:])) // RFC 3948 §2.2: 0 is IKE's marker
}

// Admit is [pfil.Security].
func (x *IPsec) Admit(w *netif.Work, pkt *packet.Buf, forward bool) bool {
	if x.spd.n.Load() == 0 && x.env.MIB.On(nodeDefPolicy) && x.env.MIB.On(nodeDefPolicy6) {
		return true
	}
	p, v6 := x.inward(w, pkt, forward)
	t, _ := pkt.Sec.(*Trail)
	if p == nil {
		if t == nil && x.dropsAll(v6) {
			w.Count(ipStats[side(v6)].inPolicy)
			return false
		}
		return true
	}
	p.seen(w.Now)
	if p.Kind == None || p.Kind == Protect && x.fulfils(t, p, v6) {
		return true
	}
	x.unfit(w, t, v6)
	return false
}

// Own is [pfil.Security].
func (x *IPsec) Own() { x.owned.Store(true) }

// Owned is [pfil.Security].
func (x *IPsec) Owned() bool { return x.owned.Load() }

// AdmitBy is [pfil.Security].
func (x *IPsec) AdmitBy(w *netif.Work, pkt *packet.Buf, own any) bool {
	p := own.(*Policy)
	t, _ := pkt.Sec.(*Trail)
	v6 := pkt.L3()[0]>>4 == 6
	switch {
	case p.Kind == Entrust:
		return x.Admit(w, pkt, false)
	case p.Kind == Bypass, p.Kind == Protect && x.fulfils(t, p, v6):
		return true
	}
	x.unfit(w, t, v6)
	return false
}

// unfit counts a packet that did not come as its policy asks for.
func (x *IPsec) unfit(w *netif.Work, t *Trail, v6 bool) {
	w.Count(ipStats[side(v6)].inPolicy)
	if t != nil {
		w.Count(t.SA.stats.proto.policy)
	}
}

// inward is the policy that a packet which has come, L3 marked, is subject to, or nil.
func (x *IPsec) inward(w *netif.Work, pkt *packet.Buf, forward bool) (p *Policy, v6 bool) {
	off := len(pkt.L3()) - pkt.Len()
	pkt.RestoreL3()
	var k flowKey
	dir := uint8(In)
	if forward {
		dir = Forward
	}
	keyOf(w, pkt, dir, &k)
	pkt.TrimFront(off)
	if p = x.look(&k, nil).policy; p == nil && forward { // as KAME has it: what is forwarded comes in, too
		k.dir = In
		p = x.look(&k, nil).policy
	}
	return p, k.v6
}

// fulfils reports whether a packet came through what a policy asks for: the last request was opened
// first.
func (x *IPsec) fulfils(t *Trail, p *Policy, v6 bool) bool {
	for n := range p.Requests { // the innermost first, as the trail has it
		r := &p.Requests[n]
		if t != nil && t.isOf(r) {
			t = t.Before
			continue
		}
		if x.level(r, v6) != Use && r.Proto != packet.ProtoIPComp { // what does not get smaller goes without (RFC 3173 §2.2)
			return false
		}
	}
	return true
}

// isOf reports whether what t says is what a request asks for.
func (t *Trail) isOf(r *Request) bool {
	s := t.SA
	if s.Proto != r.Proto || t.Tunnel != (r.Mode != ModeTransport) || (s.Mode == ModeBEET) != (r.Mode == ModeBEET) {
		return false
	}
	if r.Level == Unique && r.ReqID != s.ReqID && s.Proto != packet.ProtoIPComp { // what is not compressed does not say by whose leave
		return false
	}
	return !t.Tunnel || s.Src == unscope(r.Src) && s.Dst == unscope(r.Dst)
}
