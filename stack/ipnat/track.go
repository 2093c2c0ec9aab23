package ipnat

import (
	"encoding/binary"
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// told are the flows that Track has said nobody translates, as a set of bits: who begins
// a session of which such a flow is part has the decision forgotten.
type told struct{ bit [1024]atomic.Uint64 }

func (t *told) add(h uint64) { t.bit[h>>6&1023].Or(1 << (h & 63)) }

func (t *told) has(h uint64) bool { return t.bit[h>>6&1023].Load()>>(h&63)&1 != 0 }

// either reports whether one of two may be among them, and if so forgets all: the
// generation changes then.
func (t *told) either(a, b uint64) bool {
	if !t.has(a) && !t.has(b) {
		return false
	}
	for x := range t.bit {
		t.bit[x].Store(0)
	}
	return true
}

// tracker translates the packets of one direction of a flow.
type tracker struct {
	n       *NAT
	in, out *session // at either hook; nil: nobody there
	prefix  [2]prefixed
	flow    pfil.Flow
}

// prefixed is the other address that a rule of nptv6 gives the packets of a flow.
type prefixed struct {
	rule   *rule // nil: none does
	hi, lo uint64
}

// Inner is the flow between the hooks, as the filter's rules see it.
func (t *tracker) Inner() pfil.Flow { return t.flow }

// seen is the pair that a hook sees of a flow.
func seen(f *pfil.Flow, out bool) pair {
	our, rem := end{f.DstHi, f.DstLo, f.Dport}, end{f.SrcHi, f.SrcLo, f.Sport}
	if out {
		our, rem = rem, our
	}
	return pair{our, rem, f.Proto, f.V6}
}

// Track is pfil.Translator. ICMP is looked at packet by packet: it may be an error.
func (n *NAT) Track(_ *netif.Work, in, out *netif.Interface, first *pfil.Flow, _ *packet.Buf) (pfil.Tracker, bool) {
	if len(n.rules.Load().all) == 0 && n.table.len() == 0 {
		return nil, true // the first rule changes the generation
	}
	if first.Proto == packet.ProtoICMP || first.Proto == packet.ProtoICMPv6 {
		return nil, false
	}
	t := &tracker{n: n, flow: *first}
	p := seen(first, false)
	n.told.add(p.hash(n.table.key))
	if t.in = n.table.find(&p, in, false); t.in != nil {
		t.flow.DstHi, t.flow.DstLo = t.in.in.hi, t.in.in.lo
		if hasPorts(first.Proto) {
			t.flow.Dport = t.in.in.port
		}
	}
	rs, ok := n.rules.Load(), true
	if t.in == nil {
		if t.prefix[0], ok = rs.prefixed(n, &t.flow, in, false); !ok {
			return nil, false
		}
		if x := &t.prefix[0]; x.rule != nil {
			t.flow.DstHi, t.flow.DstLo = x.hi, x.lo
		}
	}
	p = seen(&t.flow, true)
	n.told.add(p.hash(n.table.key))
	if t.out = n.table.find(&p, out, true); t.out == nil {
		if t.prefix[1], ok = rs.prefixed(n, &t.flow, out, true); !ok {
			return nil, false
		}
	}
	if p = seen(first, false); t.in == nil && t.prefix[0].rule == nil {
		if o := n.turns(&p, in); o != nil {
			return t, n.trackHairpin(t, o, &p, out)
		}
	}
	if t.in == nil && t.out == nil && t.prefix[0].rule == nil && t.prefix[1].rule == nil {
		return nil, true
	}
	if t.in != nil && t.in.rule.six() || t.out != nil && t.out.rule.six() {
		return nil, false
	}
	if t.in != nil && t.in.ftp != nil || t.out != nil && t.out.ftp != nil { // a proxy reads each packet
		return nil, false
	}
	return t, true
}

// prefixed is what rules without sessions make of a flow's address at a hook; false: they
// refuse it.
func (rs *ruleset) prefixed(n *NAT, f *pfil.Flow, ifp *netif.Interface, out bool) (x prefixed, ok bool) {
	if !f.V6 || !rs.stateless {
		return x, true
	}
	src, dst := end{f.SrcHi, f.SrcLo, f.Sport}, end{f.DstHi, f.DstLo, f.Dport}
	i := pfil.Info{If: ifp, Out: out, V6: true, Src: src.addrPort(true).Addr(), Dst: dst.addrPort(true).Addr(),
		SrcHi: f.SrcHi, SrcLo: f.SrcLo, DstHi: f.DstHi, DstLo: f.DstLo, Proto: f.Proto, Sport: f.Sport, Dport: f.Dport}
	r := rs.match(n, &i)
	if r == nil || !r.stateless() {
		return x, true
	}
	if p := seen(f, false); !out && n.connected(&p) {
		return x, true
	}
	a := i.Dst.As16()
	if out {
		a = i.Src.As16()
	}
	if !r.otherPrefix(a[:], out) {
		return x, false
	}
	return prefixed{r, binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(a[8:])}, true
}

func hasPorts(proto uint8) bool { return proto == packet.ProtoTCP || proto == packet.ProtoUDP }

// Track is pfil.Tracker.
func (t *tracker) Track(w *netif.Work, pkt *packet.Buf) bool {
	l4 := len(pkt.L3()) - len(pkt.L4())
	b, flags := pkt.Bytes(), uint8(0)
	proto := t.flow.Proto
	switch proto {
	case packet.ProtoTCP:
		h, ok := packet.CheckTCP(b[l4:])
		if !ok {
			return false
		}
		if flags = h.Flags(); flags&(packet.TCPSyn|packet.TCPFin|packet.TCPRst|packet.TCPAck) != packet.TCPAck {
			return false
		}
	case packet.ProtoUDP:
		if len(b) < l4+packet.UDPLen {
			return false
		}
	}
	if t.in != nil && t.in.dead.Load() || t.out != nil && t.out.dead.Load() {
		return false
	}
	for d := range t.prefix { // no checksum changes
		if x := &t.prefix[d]; x.rule != nil {
			at := 24 - 16*d
			binary.BigEndian.PutUint64(b[at:], x.hi)
			binary.BigEndian.PutUint64(b[at+8:], x.lo)
		}
	}
	c := change{destination, end{}, true, pkt.Csum == packet.CsumPartial}
	if s := t.in; s != nil {
		s.seen(w.Now, false, proto == packet.ProtoTCP, flags)
		c.to = s.in
		c.apply(b, l4, proto)
	}
	if s := t.out; s != nil {
		s.seen(w.Now, true, proto == packet.ProtoTCP, flags)
		c.side, c.to = source, s.out
		c.apply(b, l4, proto)
	}
	return true
}

// Passed is pfil.Tracker.
func (t *tracker) Passed(packets, octets uint64) {
	for d, s := range [...]*session{t.in, t.out} {
		if s != nil {
			s.counted(d == 1, packets, octets)
			t.n.count.mapped[d].Add(packets)
		}
		if r := t.prefix[d].rule; r != nil {
			r.hits.Add(packets)
			t.n.count.mapped[d].Add(packets)
		}
	}
}
