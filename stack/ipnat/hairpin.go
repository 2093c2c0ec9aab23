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
	if o == nil || o.at(ifp) {
		return nil
	}
	return o
}

// hairpin translates a packet between two inside hosts that know each other by their outer
// ends (RFC 4787 REQ-9): as if it had gone out by the outer interface, and come in again there.
func (n *NAT) hairpin(w *netif.Work, i *pfil.Info, p *pair) pfil.Verdict {
	if i.Out || i.Is&pfil.Fragment != 0 {
		return pfil.Untouched
	}
	o := n.turns(p, i.If)
	if o == nil {
		return pfil.Untouched
	}
	ifp := i.If
	defer func() {
		i.If, i.Out = ifp, false
		i.Parse(i.Pkt, ifp, false)
	}()
	i.If, i.Out = o.ifp, true
	away := pair{p.rem, p.our, p.proto, p.v6}
	s := n.table.find(&away, i.If, true)
	if s == nil {
		r := n.rules.Load().match(n, i)
		if r == nil || r.stateless() {
			return pfil.Untouched // it is none of the inside
		}
		if s = n.begin(w, r, i, &away, nil); s == nil {
			n.count.bad.Add(1)
			return pfil.Refused
		}
	}
	i.Out = false
	back := pair{p.our, s.out, p.proto, p.v6}
	d := n.table.find(&back, i.If, false)
	if d == nil {
		if d = n.begin(w, o.rule, i, &back, o); d == nil {
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
