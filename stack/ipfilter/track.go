package ipfilter

import (
	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// tracker does for the packets of one direction of a flow what In and Out would.
type tracker struct {
	f      *Filter
	state  *state // nil: rules let every packet of the flow pass
	back   bool
	hits   [2][]*rule // the rules that count its packets, in and out; without a state all that match
	noRule [2]bool
	counts [2]bool // rules of accounting are among them
	v6     bool
	flow   pfil.Flow // without a state
	hash   uint64
	then   pfil.Tracker // the translator's; nil: none
}

// Track is pfil.Filter. pkt is as it leaves, after Out.
func (f *Filter) Track(w *netif.Work, in, out *netif.Interface, first *pfil.Flow, pkt *packet.Buf) (pfil.Tracker, bool) {
	if v := f.env.MIB; v.Int(nodeFlags)&(logPassed|logNoMatch) != 0 || !first.V6 && v.On(nodeUpdateID) {
		return nil, false // each packet is written down, or numbered
	}
	t := &tracker{f: f, v6: first.V6}
	if f.nat != nil {
		var ok bool
		if t.then, ok = f.nat.Track(w, in, out, first, pkt); !ok {
			return nil, false
		}
		if t.then != nil {
			// Rules and states know inner addresses, which pkt has no longer, or not yet
			// had; its state knows both hooks.
			inner, ok := t.then.(Inner)
			if !ok {
				return nil, false
			}
			flow := inner.Inner()
			if !f.trackState(t, in, out, &flow) || !f.counts(w, t, in, out, &flow, pkt) {
				return nil, false
			}
			return t, true
		}
	}
	flow := *first
	if f.trackState(t, in, out, &flow) {
		if !f.counts(w, t, in, out, &flow, pkt) {
			return nil, false
		}
		return t, true
	}
	if flow.Proto == packet.ProtoICMP || flow.Proto == packet.ProtoICMPv6 { // it may be an error about a state
		return nil, false
	}
	t.flow, t.hash = flow, f.states.hashOf(&flow)
	// No state: may be that the rules say the same of every packet of the flow.
	i := pfil.Scratch(w)
	for d, ifp := range [...]*netif.Interface{in, out} {
		i.Parse(pkt, ifp, d == 1)
		v, count := verdict{trace: true}, verdict{trace: true}
		f.scan(w, i, deciding, &v)
		f.scan(w, i, counting, &count)
		if !v.stateless || !count.stateless || v.rule != nil && v.rule.Action != ipl.Pass || v.rule == nil && !f.env.MIB.On(nodeDefault) {
			return nil, false
		}
		t.hits[d], t.noRule[d], t.counts[d] = append(v.hit, count.hit...), v.rule == nil, count.matched
	}
	return t, true
}

// Inner is what a translator's Tracker says to the filter: its flow between the
// two hooks, where rules and states see it.
type Inner interface{ Inner() pfil.Flow }

// counts finds the rules that count packets of a state, which are of a flow between the
// hooks. false: they are to be asked about each.
func (f *Filter) counts(w *netif.Work, t *tracker, in, out *netif.Interface, flow *pfil.Flow, pkt *packet.Buf) bool {
	i := pfil.Scratch(w)
	for d, ifp := range [...]*netif.Interface{in, out} {
		*i = pfil.Info{Pkt: pkt, If: ifp, Out: d == 1, V6: flow.V6, SrcHi: flow.SrcHi, SrcLo: flow.SrcLo, DstHi: flow.DstHi, DstLo: flow.DstLo,
			Src: addrOf(flow.V6, flow.SrcHi, flow.SrcLo), Dst: addrOf(flow.V6, flow.DstHi, flow.DstLo), Proto: flow.Proto, Sport: flow.Sport, Dport: flow.Dport, Is: isState}
		v := verdict{trace: true}
		f.scan(w, i, counting, &v)
		if !v.stateless {
			return false
		}
		t.hits[d], t.counts[d] = v.hit, v.matched
	}
	return true
}

// trackState finds the state of a flow between the hooks; false: there is none for the fast path.
func (f *Filter) trackState(t *tracker, in, out *netif.Interface, flow *pfil.Flow) bool {
	s, back := f.states.of(flow, f.states.hashOf(flow))
	if s == nil || s.dead() || s.ifs.at(wayOf(back, false)) != f.states.ifs.of(in) || s.ifs.at(wayOf(back, true)) != f.states.ifs.of(out) {
		return false // only one of the hooks knows it: the rules of the other are asked
	}
	if s.rule.follows || s.shift()[0] != 0 || s.proto == packet.ProtoICMP || s.proto == packet.ProtoICMPv6 { // types are to be looked at
		return false
	}
	t.state, t.back = s, back
	return true
}

// plainTCP are the flags of a segment that takes the fast path: neither begins nor
// ends anything.
const plainTCP = packet.TCPFin | packet.TCPSyn | packet.TCPRst | packet.TCPAck

// Track is pfil.Tracker.
func (t *tracker) Track(w *netif.Work, pkt *packet.Buf) bool {
	s := t.state
	if s == nil {
		if t.f.states.byID.Len() != 0 { // one may have begun, by a packet that went back
			if s, _ := t.f.states.of(&t.flow, t.hash); s != nil {
				return false
			}
			t.f.states.missed.Add(2)
		}
		return true
	}
	if s.dead() {
		return false
	}
	if s.proto == packet.ProtoTCP {
		if !t.tcp(w, pkt) {
			return false
		}
	} else {
		if len(pkt.L4()) < packet.UDPLen || t.back && s.class() == opening {
			return false // too short, or an answer: the class is to change
		}
		if t.then != nil && !t.then.Track(w, pkt) {
			return false
		}
		s.seen(w.Now, s.timeout(t.back))
	}
	return true
}

// Passed is pfil.Tracker.
func (t *tracker) Passed(packets, octets uint64) {
	f := t.f
	for d := range t.hits {
		c := &f.stats[d][side(t.v6)]
		c.Passed.Add(packets)
		if t.counts[d] {
			c.Counted.Add(packets)
		}
		for _, r := range t.hits[d] {
			r.Hits.Add(packets)
			r.Bytes.Add(octets)
		}
		if t.noRule[d] {
			c.NoMatch.Add(packets)
		}
	}
	if s := t.state; s != nil {
		s.count(wayOf(t.back, false), packets, octets)
		s.count(wayOf(t.back, true), packets, octets)
		f.states.hits.Add(2 * packets)
		if t.then != nil {
			t.then.Passed(packets, octets)
		}
	}
}

// tcp takes a segment in twice, as the two hooks would; the second time changes nothing.
func (t *tracker) tcp(w *netif.Work, pkt *packet.Buf) bool {
	s := t.state
	h, ok := packet.CheckTCP(pkt.L4())
	if !ok || h.Flags()&plainTCP != packet.TCPAck || s.class() != standing {
		return false
	}
	g := segment{seq: h.Seq(), ack: h.Ack(), window: uint32(h.Window()), flags: h.Flags()}
	g.end = g.seq + uint32(len(h)-h.HeaderLen())
	s.mu.Lock()
	was := s.tcp
	_, ok = s.tcp.take(&g, t.back, s.rule.KeepState != nil && s.rule.KeepState.Strict)
	if ok && s.tcp.phase != was.phase {
		s.tcp, ok = was, false
	}
	ttl := s.tcpTimeout(t.back)
	s.mu.Unlock()
	if !ok {
		return false
	}
	if t.then != nil && !t.then.Track(w, pkt) {
		return false // the slow path takes the segment in again, which changes nothing
	}
	s.seen(w.Now, ttl)
	return true
}
