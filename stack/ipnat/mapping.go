package ipnat

import (
	"ionet/ipl"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/pfil"
)

var nodeEIM = mib.Int("net.inet.ipf.ipnat_eim", 0, "An inside end has one outer end for all remote ones, and whoever sends to that reaches it (RFC 4787 REQ-1, REQ-8).", mib.Bool())

// ownHash is of one of our ends, whatever the remote one.
func (t *table) ownHash(e *end, proto uint8, inside bool) uint64 {
	h := mix(t.key^0x94d049bb133111eb, e) + uint64(proto)<<1
	if inside {
		h++
	}
	h *= 0x94d049bb133111eb
	return h ^ h>>32
}

// again gives a session the outer end that its inside end has with another remote
// one; the lock is held. false: it has none.
func (t *table) again(s *session, ifp *netif.Interface) bool {
	if !t.n.env.MIB.On(nodeEIM) {
		return false
	}
	h := t.ownHash(&s.in, s.proto, true)
	b := t.mapped.Bucket(h)
	for x := range b.Len() {
		if k, o := b.At(x); k == h && o.in == s.in && o.proto == s.proto && o.v6 == s.v6 && o.rule == s.rule && o.ifp == ifp {
			s.out = o.out
			return t.add(s)
		}
	}
	return false
}

// others reports whether the outer end of a session to be is another inside end's; the
// lock is held. Without the setting it does not matter.
func (t *table) others(s *session) bool {
	if !t.n.env.MIB.On(nodeEIM) {
		return false
	}
	o := t.outer(&s.out, s.proto, s.v6)
	return o != nil && o.in != s.in
}

func (t *table) outer(e *end, proto uint8, v6 bool) *session {
	h := t.ownHash(e, proto, false)
	b := t.mapped.Bucket(h)
	for x := range b.Len() {
		if k, o := b.At(x); k == h && o.out == *e && o.proto == proto && o.v6 == v6 && !o.dead.Load() {
			return o
		}
	}
	return nil
}

// mapping answers a session of a map rule to whose outer end a packet of no session comes,
// if whoever sends there is to reach the inside end.
func (n *NAT) mapping(i *pfil.Info, p *pair) *session {
	if i.Out || !n.env.MIB.On(nodeEIM) || n.table.len() == 0 {
		return nil
	}
	o := n.table.outer(&p.our, p.proto, p.v6)
	if o == nil || !o.at(i.If) || o.rule.Kind != ipl.Map && o.rule.Kind != ipl.MapBlock && !o.rule.six() || !hasPorts(p.proto) {
		return nil
	}
	return o
}
