package ipflow

import (
	"math"
	"math/bits"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// batch is how many packets are on their way through the steps at a time.
const batch = 32

// Forward sends the packets of a burst, windows at their IP headers, which follow
// a flow that is known in generation gen; they are nil in it afterwards. It answers
// their number. The others are as they were, but plain ones have
// their flow written down in them ([packet.FlagCame]).
func (t *Table) Forward(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf, gen uint64) (sent int) {
	fl := t.flows.Load()
	if fl == nil || ifp.Index > math.MaxUint16 { // more than a flow can name
		return 0
	}
	for len(burst) > batch {
		sent += t.forward(w, fl, ifp, burst[:batch], uint32(gen))
		burst = burst[batch:]
	}
	return sent + t.forward(w, fl, ifp, burst, uint32(gen))
}

func (t *Table) forward(w *netif.Work, fl *flows, ifp *netif.Interface, burst []*packet.Buf, gen uint32) (sent int) {
	var at [batch]uint
	var tags [batch]uint64 // 0: not plain
	var like [batch]uint   // ways with the tag, as bits
	for i, p := range burst {
		p.Flags &^= packet.FlagCame // of the packet that this one was in
		if t.V6 && peek6(p, ifp) || !t.V6 && peek4(p, ifp) {
			at[i], tags[i] = fl.at(&p.Came)
		}
	}
	for i := range burst { // ask memory for all of them, in a loop so small that it waits for none
		if m := fl.places[at[i]].ways(tags[i]); m != 0 {
			like[i] = m
			fl.slots[at[i]*ways+uint(bits.TrailingZeros(m))].seq.Load()
		}
	}
	typ := uint16(packet.EtherIPv4)
	if t.V6 {
		typ = packet.EtherIPv6
	}
	var run oneWay
	for i, p := range burst {
		if tags[i] == 0 {
			continue
		}
		n, r := uint(0), rest(&p.Came)
		var s *slot
		var near *netif.Neighbour
		var mtu uint32
		for m := like[i]; m != 0 && near == nil; m &= m - 1 {
			n = at[i]*ways + uint(bits.TrailingZeros(m))
			s = &fl.slots[n]
			near, mtu = s.get(&p.Came, r, gen)
		}
		if near == nil {
			continue
		}
		mac, ok := near.MAC()
		if !ok || !near.If.Up() || p.Headroom() < packet.EtherLen || !p.Fits(int(mtu>>flagBits)) && mtu&guarded == 0 {
			continue
		}
		var policy any
		if mtu&guarded != 0 || p.Sec != nil {
			g := fl.cold[n].guard.Load()
			if g == nil || !(*g).Admits(w, p.Sec) {
				continue
			}
			if policy = (*g).Policy(); policy == nil && !p.Fits(int(mtu>>flagBits)) {
				continue
			}
		}
		var track *pfil.Tracker
		octets := uint64(p.Len())
		if mtu&tracked != 0 {
			track = fl.cold[n].track.Load()
			if track == nil || !(*track).Track(w, p) {
				continue
			}
		}
		if t.V6 {
			h := packet.IPv6(p.Bytes())
			h.SetHopLimit(h.HopLimit() - 1)
		} else {
			packet.IPv4(p.Bytes()).DecTTL()
		}
		p.Flags = 0
		p.Sec = nil
		if s != run.flow || track != run.track {
			run.end()
			run = oneWay{flow: s, near: near, track: track}
		}
		run.n++
		run.octets += octets
		burst[i] = nil
		sent++
		if policy != nil {
			t.Protect(w, p, near.If, policy)
			continue
		}
		packet.PutEther(p.Prepend(packet.EtherLen), mac, near.If.MAC(), typ)
		w.Transmit(near.If, p)
	}
	run.end()
	return sent
}

// oneWay is packets of one flow that follow each other: they are counted together.
type oneWay struct {
	flow   *slot
	near   *netif.Neighbour
	track  *pfil.Tracker // nil: nobody counts
	n      uint32
	octets uint64
}

func (r *oneWay) end() {
	if r.n > 0 {
		r.flow.hits.Add(r.n)
		r.near.Use.Add(uint64(r.n))
		if r.track != nil {
			(*r.track).Passed(uint64(r.n), r.octets)
		}
	}
}

// peek4 writes down the flow of a plain packet: whole, without options, neither a
// fragment nor at the end of its life.
func peek4(p *packet.Buf, ifp *netif.Interface) bool {
	const plain = 4<<4 | packet.IPv4Len/4
	b := p.Bytes()
	if len(b) < packet.IPv4Len || b[0] != plain || p.Flags != 0 {
		return false
	}
	h := packet.IPv4(b)
	total := h.TotalLen()
	if total < packet.IPv4Len || total > len(b) || h.FragField()&^packet.IPv4DF != 0 || h.TTL() <= 1 || !h.ChecksumOK() {
		return false
	}
	p.TrimTo(total)
	p.MarkL3(0)
	p.MarkL4(packet.IPv4Len)
	p.Came.Flow4(h[:total], ifp.Index)
	p.Flags = packet.FlagCame
	return true
}

// peek6 is peek4 for a packet of IPv6 without extension headers.
func peek6(p *packet.Buf, ifp *netif.Interface) bool {
	b := p.Bytes()
	if len(b) < packet.IPv6Len || b[0]>>4 != 6 || p.Flags != 0 {
		return false
	}
	h := packet.IPv6(b)
	switch h.Next() {
	case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoFragment, packet.ProtoDstOpts:
		return false
	}
	total := packet.IPv6Len + h.PayloadLen()
	if total > len(b) || h.HopLimit() <= 1 {
		return false
	}
	p.TrimTo(total)
	p.MarkL3(0)
	p.MarkL4(packet.IPv6Len)
	p.Came.Flow6(h[:total], ifp.Index)
	p.Flags = packet.FlagCame
	return true
}
