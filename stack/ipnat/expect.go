package ipnat

import (
	"sync"
	"sync/atomic"

	"ionet/stack/callout"
	"ionet/stack/cmap"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

var nodeExpectAge = mib.Int("net.inet.ipf.ipnat_expectage", 60, "Seconds that a connection that a proxy has read of is expected.", mib.Range(1, 1<<20))

// maxExpected is how many connections a control connection may announce at a time; the
// first ones are forgotten.
const maxExpected = 4

// expect is a connection that one end of a control connection has announced. It may begin once.
type expect struct {
	pair       // as a hook will see it: of the end that connects the port is 0
	out   bool // begun by the inside end
	in    end  // else where it goes to inside
	c     *control
	hash  uint64
	gone  atomic.Bool
	timer callout.Timer[*netif.Work]
}

// expects are those of a translator: at most maxExpected a session.
type expects struct {
	n  *NAT
	m  cmap.Map[*expect]
	mu sync.Mutex // below the table's
}

func (x *expects) init(n *NAT) {
	x.n = n
	x.m.Init()
}

func (x *expects) hashOf(p *pair, out bool) uint64 {
	h := p.hash(x.n.table.key ^ 0x2545f4914f6cdd1d)
	if out {
		return ^h
	}
	return h
}

// find answers who expects a connection of these ends to begin, or nil.
func (x *expects) find(p pair, out bool) *expect {
	if x.m.Len() == 0 {
		return nil
	}
	if out {
		p.our.port = 0
	} else {
		p.rem.port = 0
	}
	h := x.hashOf(&p, out)
	b := x.m.Bucket(h)
	for k := range b.Len() {
		if was, e := b.At(k); was == h && e.out == out && e.pair == p && !e.gone.Load() {
			return e
		}
	}
	return nil
}

// outgoing expects the inside end of c to connect to to.
func (x *expects) outgoing(w *netif.Work, c *control, to end) bool {
	s := c.s
	e := &expect{out: true, c: c, pair: pair{our: s.in, rem: to, proto: packet.ProtoTCP, v6: s.v6}}
	e.our.port = 0
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(w, e)
	return true
}

// incoming expects the remote end of c to connect to the inside end in, and answers the outer one that
// stands for that: of its port if nobody has that, else of another.
func (x *expects) incoming(w *netif.Work, c *control, in end) (outer end, ok bool) {
	s, n := c.s, x.n
	e := &expect{in: in, c: c, pair: pair{our: s.out, rem: s.rem, proto: packet.ProtoTCP, v6: s.v6}}
	e.rem.port = 0
	lo, hi := s.rule.tcpPorts()
	t := &n.table
	t.mu.Lock()
	defer t.mu.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	size := hi - lo + 1
	at := n.env.Rand32() % size
	for k := range size + 1 {
		p := uint32(in.port)
		if k > 0 {
			p = lo + (at+k)%size
		} else if s.rule.PortMap != nil && (p < lo || p > hi) {
			continue
		}
		e.our.port = uint16(p)
		probe := session{in: in, out: e.our, proto: packet.ProtoTCP, v6: s.v6}
		if t.outer(&e.our, packet.ProtoTCP, s.v6) == nil && !n.local(&probe) && x.own(e) {
			x.add(w, e)
			return e.our, true
		}
	}
	n.count.exhausted.Add(1)
	return e.our, false
}

// own reports that nobody else is expected at the ends of e; of its own control connection somebody
// at the same inside end may be, and makes room. The lock is held.
func (x *expects) own(e *expect) bool {
	o := x.find(e.pair, e.out)
	return o == nil || o.c == e.c && o.in == e.in
}

// add puts e among those of its control connection; the lock is held.
func (x *expects) add(w *netif.Work, e *expect) {
	if o := x.find(e.pair, e.out); o != nil {
		x.end(o)
	}
	if e.c.s.dead.Load() {
		return
	}
	last := len(e.c.expected) - 1
	if o := e.c.expected[0]; o != nil {
		x.end(o)
	}
	copy(e.c.expected[:], e.c.expected[1:])
	e.c.expected[last] = e
	e.hash = x.hashOf(&e.pair, e.out)
	e.timer.Fn = func(*netif.Work) {
		x.mu.Lock()
		x.end(e)
		x.mu.Unlock()
	}
	x.m.Add(e.hash, e)
	x.n.env.Wheel.Reset(&e.timer, w.Now+x.n.env.MIB.Int(nodeExpectAge)*second)
	x.n.count.expected.Add(1)
}

// end forgets e; the lock is held. false: it has been forgotten.
func (x *expects) end(e *expect) bool {
	if e.gone.Swap(true) {
		return false
	}
	x.m.Remove(e.hash, e)
	x.n.env.Wheel.Stop(&e.timer)
	for k := range e.c.expected {
		if e.c.expected[k] == e {
			e.c.expected[k] = nil
		}
	}
	return true
}

// drop forgets what a control connection that ends expects.
func (x *expects) drop(c *control) {
	x.mu.Lock()
	for _, e := range c.expected {
		if e != nil {
			x.end(e)
		}
	}
	x.mu.Unlock()
}

// opens reports a packet that begins a connection.
func opens(i *pfil.Info) bool {
	const all = packet.TCPSyn | packet.TCPAck | packet.TCPRst | packet.TCPFin
	return i.Proto == packet.ProtoTCP && i.Flags&all == packet.TCPSyn && i.Is&pfil.FragBody == 0
}

// arrived makes the session of a connection that e expects; nil: it cannot be.
func (n *NAT) arrived(w *netif.Work, e *expect, i *pfil.Info, p *pair) *session {
	c := e.c.s
	s := n.newSession(w, c.rule, i, p)
	s.control = e.c
	t := &n.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.find(p, i.If, i.Out); old != nil {
		return old
	}
	if i.If.Gone() {
		return nil
	}
	t.room(n.env.MIB.Int(nodeMax))
	ok := false
	if s.out = p.our; e.out {
		t.moved(p)
		s.in = p.our
		s.out = end{c.out.hi, c.out.lo, p.our.port}
		lo, hi := c.rule.tcpPorts()
		ok = c.rule.PortMap == nil && !n.local(s) && t.add(s) || n.inRange(c.rule, s, lo, hi)
	} else {
		s.in = e.in
		ok = t.add(s)
	}
	if !ok {
		return nil
	}
	n.expects.mu.Lock()
	n.expects.end(e)
	n.expects.mu.Unlock()
	c.rule.hits.Add(1)
	return s
}

// tcpPorts is the range that ports of TCP are taken from.
func (r *rule) tcpPorts() (lo, hi uint32) {
	if m := r.PortMap; m != nil && !m.Auto && protoIs(m.Proto, packet.ProtoTCP) {
		return uint32(m.Lo), uint32(m.Hi)
	}
	return 1024, 65535
}

// Expected is pfil.Expecter.
func (n *NAT) Expected(i *pfil.Info) (control pfil.Flow, ok bool) {
	if !opens(i) || n.table.len() == 0 {
		return control, false
	}
	src, dst := endOf(i.Src, i.Sport), endOf(i.Dst, i.Dport)
	away, back := pair{src, dst, i.Proto, i.V6}, pair{dst, src, i.Proto, i.V6}
	c := (*session)(nil)
	if e := n.expects.find(away, true); e != nil {
		c = e.c.s
	} else {
		for _, p := range []*pair{&away, &back} {
			s, found := n.table.byIn.Find(p.hash(n.table.key), func(s *session) bool { return s.inside() == *p && !s.dead.Load() })
			if found && s.control != nil {
				c = s.control.s
			}
		}
	}
	if c == nil || c.dead.Load() {
		return control, false
	}
	return pfil.Flow{SrcHi: c.in.hi, SrcLo: c.in.lo, DstHi: c.rem.hi, DstLo: c.rem.lo, Sport: c.in.port, Dport: c.rem.port, Proto: c.proto, V6: c.v6}, true
}
