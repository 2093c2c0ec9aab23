package bridge

import (
	"sync"
	"sync/atomic"
	"time"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
)

// States of a member (NetBSD's BSTP_IFSTATE_*).
const (
	Disabled = iota
	Listening
	Hearing // learning
	Forwarding
	Blocking
)

const (
	holdTime     = time.Second // between two BPDUs by a port
	ageIncrement = time.Second // what a BPDU ages by at each bridge

	defaultPriority     = 0x8000
	defaultPortPriority = 0x80
	defaultCost         = 55
	defaultHello        = 2 * time.Second
	defaultMaxAge       = 20 * time.Second
	defaultDelay        = 15 * time.Second
)

var (
	cntBPDUIn   = mib.NewCounter("bridge", "BPDU in", "# BPDU{s} received")
	cntBPDUOut  = mib.NewCounter("bridge", "BPDU out", "# BPDU{s} sent")
	cntBPDUBad  = mib.NewCounter("bridge", "BPDU bad", "# BPDU{s} malformed, too old, or of another kind")
	cntTopology = mib.NewCounter("bridge", "topology change", "# topology change{s} noticed")
	cntBlocked  = mib.NewCounter("bridge", "blocked", "# frame{s} by members that are not forwarding")
)

// times are what a root prescribes.
type times struct{ maxAge, hello, delay time.Duration }

// tree is a bridge's part in the spanning tree: the machine of IEEE 802.1D-1998 §8.6,
// whose procedures have their names here. Deadlines are times of the stack's clock; 0:
// the timer does not run.
type tree struct {
	b     *bridge
	mu    sync.Mutex
	timer callout.Timer[*netif.Work]
	on    bool // the bridge is up and has a member with STP
	// speaks is on, for the packet path.
	speaks atomic.Bool
	now    int64

	priority uint16
	id       uint64
	mine     times // what we prescribe as root
	times          // what holds

	root     uint64
	cost     uint32
	rootPort *port
	change   bool // topology change
	detected bool
	ports    []*port

	helloAt, tcnAt, changeAt int64
}

// port is a member that takes part.
type port struct {
	m       *member
	enabled bool
	state   uint32

	// What the designated bridge of the link says.
	root           uint64
	cost           uint32
	bridge         uint64
	port           uint16
	ack, pending   bool
	heard          int64 // when its message was new
	ageAt, delayAt int64
	holdAt         int64
}

func (t *tree) init(b *bridge) {
	t.b, t.priority = b, defaultPriority
	t.mine = times{defaultMaxAge, defaultHello, defaultDelay}
	t.timer.Fn = t.expire
}

func (p *port) id() uint16 { return uint16(p.m.priority)<<8 | uint16(p.m.number) }

// setState is heard of by the packet path.
func (t *tree) setState(p *port, s uint32) {
	p.state = s
	p.m.state.Store(s)
	if s == Disabled || s == Blocking {
		t.b.fdb.forget(func(s *station) bool { return !s.static && s.at.Load() == p.m })
	}
}

func (t *tree) isRoot() bool            { return t.root == t.id }
func (t *tree) designated(p *port) bool { return p.bridge == t.id && p.port == p.id() }

// supersedes reports news that are better than what the port knows (§8.6.2.2).
func (t *tree) supersedes(p *port, c *config) bool {
	switch {
	case c.root != p.root:
		return c.root < p.root
	case c.cost != p.cost:
		return c.cost < p.cost
	case c.bridge != p.bridge:
		return c.bridge < p.bridge
	}
	return c.bridge != t.id || c.port <= p.port
}

// transmitConfig sends the port's configuration (§8.6.1).
func (t *tree) transmitConfig(w *netif.Work, p *port) {
	if p.holdAt != 0 {
		p.pending = true
		return
	}
	c := config{root: t.root, cost: t.cost, bridge: t.id, port: p.id(), maxAge: t.maxAge, hello: t.hello, delay: t.delay,
		change: t.change, ack: p.ack}
	if !t.isRoot() {
		c.age = time.Duration(t.now-t.rootPort.heard) + ageIncrement
	}
	if c.age >= t.maxAge {
		return
	}
	p.ack, p.pending = false, false
	t.send(w, p, bpdu{config: c})
	p.holdAt = t.now + int64(holdTime)
}

// transmitTCN tells the root's side of a change (§8.6.6).
func (t *tree) transmitTCN(w *netif.Work) {
	if t.rootPort != nil {
		t.send(w, t.rootPort, bpdu{tcn: true})
	}
}

func (t *tree) send(w *netif.Work, p *port, b bpdu) {
	const room = 64
	f := t.b.r.env.Pool.Get(room)
	if f == nil {
		w.Count(cntNoMem)
		return
	}
	var buf [room]byte
	frame := appendBPDU(buf[:0], p.m.ifp.MAC(), b)
	copy(f.Append(len(frame)), frame)
	w.Count(cntBPDUOut)
	w.TransmitDirect(p.m.ifp, f)
}

// generate is configuration BPDU generation (§8.6.4).
func (t *tree) generate(w *netif.Work) {
	for _, p := range t.ports {
		if p.enabled && t.designated(p) {
			t.transmitConfig(w, p)
		}
	}
}

// update is configuration update: root and designated ports are chosen anew (§8.6.7).
func (t *tree) update() {
	t.rootPort = nil
	for _, p := range t.ports {
		if p.enabled && !t.designated(p) && p.root < t.id && (t.rootPort == nil || t.nearer(p, t.rootPort)) {
			t.rootPort = p
		}
	}
	if r := t.rootPort; r != nil {
		t.root, t.cost = r.root, r.cost+r.m.cost
	} else {
		t.root, t.cost = t.id, 0
	}
	for _, p := range t.ports {
		if t.designated(p) || p.root != t.root || t.cost < p.cost ||
			t.cost == p.cost && (t.id < p.bridge || t.id == p.bridge && p.id() <= p.port) {
			t.become(p)
		}
	}
}

// nearer reports whether p is a better way to the root than q (§8.6.8).
func (t *tree) nearer(p, q *port) bool {
	switch pc, qc := p.cost+p.m.cost, q.cost+q.m.cost; {
	case p.root != q.root:
		return p.root < q.root
	case pc != qc:
		return pc < qc
	case p.bridge != q.bridge:
		return p.bridge < q.bridge
	case p.port != q.port:
		return p.port < q.port
	}
	return p.id() < q.id()
}

// become makes the port that of the designated bridge of its link (§8.6.10).
func (t *tree) become(p *port) {
	p.root, p.cost, p.bridge, p.port = t.root, t.cost, t.id, p.id()
}

// states is port state selection (§8.6.11).
func (t *tree) states(w *netif.Work) {
	for _, p := range t.ports {
		switch {
		case !p.enabled:
		case p == t.rootPort:
			p.pending, p.ack = false, false
			t.makeForwarding(p)
		case t.designated(p):
			p.ageAt = 0
			t.makeForwarding(p)
		default:
			p.pending, p.ack = false, false
			t.makeBlocking(w, p)
		}
	}
}

func (t *tree) makeForwarding(p *port) {
	if p.state == Blocking {
		t.setState(p, Listening)
		p.delayAt = t.now + int64(t.delay)
	}
}

func (t *tree) makeBlocking(w *netif.Work, p *port) {
	if p.state == Disabled || p.state == Blocking {
		return
	}
	if p.state == Forwarding || p.state == Hearing {
		t.detect(w)
	}
	t.setState(p, Blocking)
	p.delayAt = 0
}

// detect is topology change detection (§8.6.14).
func (t *tree) detect(w *netif.Work) {
	w.Count(cntTopology)
	if t.isRoot() {
		t.setChange(true)
		t.changeAt = t.now + int64(t.mine.maxAge+t.mine.delay)
	} else if !t.detected {
		t.transmitTCN(w)
		t.tcnAt = t.now + int64(t.mine.hello)
	}
	t.detected = true
}

// setChange has stations forgotten sooner while the topology changes (§8.6.14).
func (t *tree) setChange(on bool) {
	if t.change = on; on {
		t.b.fdb.hasten(t.now, t.delay)
	} else {
		t.b.fdb.hasten(t.now, 0)
	}
}

// rootship is what follows when we may have become the root, or have ceased to be it.
func (t *tree) rootship(w *netif.Work, was bool) {
	switch is := t.isRoot(); {
	case is && !was:
		t.times = t.mine
		t.detect(w)
		t.tcnAt = 0
		t.generate(w)
		t.helloAt = t.now + int64(t.hello)
	case was && !is:
		if t.helloAt = 0; t.detected {
			t.changeAt = 0
			t.transmitTCN(w)
			t.tcnAt = t.now + int64(t.mine.hello)
		}
	}
}

// receive takes a BPDU that a member has received.
func (t *tree) receive(w *netif.Work, m *member, frame []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := parseBPDU(frame)
	p := t.of(m)
	switch {
	case !t.on || p == nil || !p.enabled:
		return
	case !ok || !b.tcn && b.bridge == t.id && b.port == p.id(): // our own come back
		w.Count(cntBPDUBad)
		return
	}
	w.Count(cntBPDUIn)
	t.now = w.Now
	if b.tcn {
		if t.designated(p) {
			t.detect(w)
			p.ack = true
			t.transmitConfig(w, p)
		}
	} else {
		t.receiveConfig(w, p, &b.config)
	}
	t.arm()
}

// receiveConfig is §8.7.1.
func (t *tree) receiveConfig(w *netif.Work, p *port, c *config) {
	if !t.supersedes(p, c) {
		if t.designated(p) {
			t.transmitConfig(w, p)
		}
		return
	}
	was := t.isRoot()
	p.root, p.cost, p.bridge, p.port = c.root, c.cost, c.bridge, c.port
	p.heard, p.ageAt = t.now-int64(c.age), t.now+int64(c.maxAge-c.age)
	t.update()
	t.states(w)
	t.rootship(w, was)
	if p != t.rootPort {
		return
	}
	t.times = times{c.maxAge, c.hello, c.delay}
	if t.change != c.change {
		t.setChange(c.change)
	}
	t.generate(w)
	if c.ack {
		t.detected, t.tcnAt = false, 0
	}
}

// expire is the wheel's.
func (t *tree) expire(w *netif.Work) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.on {
		return
	}
	t.now = w.Now
	due := func(at *int64) bool {
		if *at == 0 || t.now < *at {
			return false
		}
		*at = 0
		return true
	}
	for _, p := range t.ports {
		if due(&p.ageAt) { // §8.7.4
			was := t.isRoot()
			t.become(p)
			t.update()
			t.states(w)
			t.rootship(w, was)
		}
		if due(&p.delayAt) {
			t.advance(w, p)
		}
		if due(&p.holdAt) && p.pending {
			t.transmitConfig(w, p)
		}
	}
	if due(&t.helloAt) {
		t.generate(w)
		t.helloAt = t.now + int64(t.hello)
	}
	if due(&t.tcnAt) {
		t.transmitTCN(w)
		t.tcnAt = t.now + int64(t.mine.hello)
	}
	if due(&t.changeAt) {
		t.detected = false
		t.setChange(false)
	}
	t.arm()
}

// advance is the end of the forward delay (§8.7.5).
func (t *tree) advance(w *netif.Work, p *port) {
	switch p.state {
	case Listening:
		t.setState(p, Hearing)
		p.delayAt = t.now + int64(t.delay)
	case Hearing:
		t.setState(p, Forwarding)
		for _, o := range t.ports {
			if o.enabled && o.bridge == t.id { // designated for some port
				t.detect(w)
				break
			}
		}
	}
}

// arm sets the wheel for what is due first.
func (t *tree) arm() {
	first := int64(0)
	soonest := func(at int64) {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	soonest(t.helloAt)
	soonest(t.tcnAt)
	soonest(t.changeAt)
	for _, p := range t.ports {
		soonest(p.ageAt)
		soonest(p.delayAt)
		soonest(p.holdAt)
	}
	if first == 0 || !t.on {
		t.b.r.env.Wheel.Stop(&t.timer)
		return
	}
	t.b.r.env.Wheel.Reset(&t.timer, first)
}

func (t *tree) of(m *member) *port {
	for _, p := range t.ports {
		if p.m == m {
			return p
		}
	}
	return nil
}
