package ipnat

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// turns answers a session of another interface to whose outer end a packet comes in by
// ifp: of one inside host that knows another by that.
func (n *NAT) turns(p *pair, ifp *netif.Interface) *session {
	if !n.env.MIB.On(nodeEIM) || n.table.len() == 0 || !hasPorts(p.proto) {
		return nil
	}
	o := n.table.outer(&p.our, p.proto, p.v6)
	if o == nil || o.at(ifp) || o.rule.six() {
		return nil
	}
	return o
}

// through answers the rule of another interface that would let in what comes in here from
// inside, and sets i to that interface; nil: there is none, or a socket has the packet.
func (n *NAT) through(i *pfil.Info, p *pair) *rule {
	rs, ifp := n.rules.Load(), i.If
	if len(rs.open) == 0 || !n.env.MIB.On(nodeEIM) || !hasPorts(p.proto) {
		return nil
	}
	for _, name := range rs.open {
		if name == ifp.Name {
			continue
		}
		if i.If = n.env.Ifs.ByName(name); i.If == nil {
			continue
		}
		if r := rs.match(n, i); r != nil && !r.stateless() && !n.connected(p) {
			return r
		}
	}
	i.If = ifp
	return nil
}

// hairpin translates a packet between two inside hosts that know each other by their outer
// ends (RFC 4787 REQ-9): as if it had gone out by the outer interface, and come in again there,
// to a session or by a rule.
func (n *NAT) hairpin(w *netif.Work, i *pfil.Info, p *pair) pfil.Verdict {
	if i.Out || i.Is&pfil.Fragment != 0 {
		return pfil.Untouched
	}
	ifp := i.If
	o, r := n.turns(p, ifp), (*rule)(nil)
	if o != nil {
		i.If, r = o.ifp, o.rule
	} else if r = n.through(i, p); r == nil {
		return pfil.Untouched
	}
	defer func() { i.Parse(i.Pkt, ifp, false) }()
	i.Out = true
	away := pair{p.rem, p.our, p.proto, p.v6}
	s := n.table.find(&away, i.If, true)
	if s == nil {
		source := n.rules.Load().match(n, i)
		if source == nil || source.stateless() {
			return pfil.Untouched // it is none of the inside
		}
		if s = n.begin(w, source, i, &away, nil); s == nil {
			n.count.bad.Add(1)
			return pfil.Refused
		}
	}
	i.Out = false
	back := pair{p.our, s.out, p.proto, p.v6}
	d := n.table.find(&back, i.If, false)
	if d == nil {
		if d = n.begin(w, r, i, &back, o); d == nil {
			n.count.bad.Add(1)
			return pfil.Refused
		}
	}
	tcp, octets := i.Proto == packet.ProtoTCP, i.Pkt.Len()
	s.heard(w.Now, true, octets, tcp, i.Flags)
	d.heard(w.Now, false, octets, tcp, i.Flags)
	c := change{source, s.out, true, i.Pkt.Csum == packet.CsumPartial}
	c.apply(i.Pkt.Bytes(), i.L4, i.Proto)
	c.side, c.to = destination, d.in
	c.apply(i.Pkt.Bytes(), i.L4, i.Proto)
	n.count.mapped[0].Add(1)
	n.count.mapped[1].Add(1)
	return pfil.Translated
}

// trackHairpin makes t the tracker of packets that [NAT.hairpin] translates, all of it as they
// come in; false: the sessions that it needs are not there. p is what In sees.
func (n *NAT) trackHairpin(t *tracker, o *session, p *pair, out *netif.Interface) bool {
	away := pair{p.rem, p.our, p.proto, p.v6}
	if t.out = n.table.find(&away, o.ifp, true); t.out == nil {
		return false
	}
	back := pair{p.our, t.out.out, p.proto, p.v6}
	if t.in = n.table.find(&back, o.ifp, false); t.in == nil {
		return false
	}
	f := &t.flow
	f.SrcHi, f.SrcLo, f.Sport = t.out.out.hi, t.out.out.lo, t.out.out.port
	f.DstHi, f.DstLo, f.Dport = t.in.in.hi, t.in.in.lo, t.in.in.port
	leaves := seen(f, true)
	n.told.add(leaves.hash(n.table.key))
	return n.table.find(&leaves, out, true) == nil
}

// hairpinError translates an error about a packet that [NAT.hairpin] has translated.
func (n *NAT) hairpinError(i *pfil.Info, q *quoted) pfil.Verdict {
	o := n.turns(&q.p, i.If)
	if o == nil {
		return pfil.Untouched
	}
	away := pair{q.p.rem, q.p.our, q.proto, q.p.v6}
	d := n.table.find(&away, o.ifp, true)
	if d == nil {
		return pfil.Untouched
	}
	back := pair{q.p.our, d.out, q.proto, q.p.v6}
	s := n.table.find(&back, o.ifp, false)
	if s == nil {
		return pfil.Untouched
	}
	i.Pkt.CompleteCsum()
	src, dst := endOf(i.Src, 0), endOf(i.Dst, 0)
	if dst.hi != s.out.hi || dst.lo != s.out.lo || !errorSumOK(i) { // forged, or broken on its way
		n.count.badICMP.Add(1)
		return pfil.Refused
	}
	for _, c := range [...]change{{source, s.in, true, false}, {destination, d.out, true, false}} {
		c.apply(q.b, q.l4, q.proto)
	}
	c := change{destination, s.in, false, false}
	c.apply(i.Pkt.Bytes(), i.L4, i.Proto)
	if src.hi == d.in.hi && src.lo == d.in.lo { // the host itself, not a router before it
		c.side, c.to = source, d.out
		c.apply(i.Pkt.Bytes(), i.L4, i.Proto)
	}
	setErrorSum(i)
	n.count.icmp.Add(1)
	i.Parse(i.Pkt, i.If, i.Out)
	return pfil.Translated
}
