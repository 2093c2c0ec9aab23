package ipsec

import (
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// answers are the settings that Policy and Admit answer by.
var answers = append([]*mib.Node{nodeDefPolicy, nodeDefPolicy6}, append(levels[0][:], levels[1][:]...)...)

// guard is what the fast path asks of a forwarded flow.
type guard struct {
	trail   *Trail
	in, out *Policy // that it matches, or nil
	flow    *flow   // nil: it leaves as it is
}

// Admits is [pfil.Guard].
func (g *guard) Admits(w *netif.Work, sec any) bool {
	if t, _ := sec.(*Trail); t != g.trail {
		return false
	}
	if g.in != nil {
		g.in.seen(w.Now)
	}
	if g.out != nil {
		g.out.seen(w.Now)
	}
	return true
}

// Policy is [pfil.Guard].
func (g *guard) Policy() any {
	if g.flow == nil {
		return nil
	}
	return g.flow
}

// Guard is [pfil.Security]. Packets of ICMP are looked at each, as policies tell them apart by what flows do not.
func (x *IPsec) Guard(w *netif.Work, pkt *packet.Buf, policy any) (pfil.Guard, bool) {
	var k flowKey
	keyOf(w, pkt, Out, &k)
	g := &guard{}
	g.trail, _ = pkt.Sec.(*Trail)
	g.in, _ = x.inward(w, pkt, true)
	g.out = x.look(&k, nil).policy
	if policy != nil {
		g.flow = policy.(*flow)
	}
	if k.typed {
		return nil, false
	}
	if *g == (guard{}) {
		return nil, true
	}
	return g, true
}
