package ipnat

import (
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/callout"
	"ionet/stack/cmap"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// IPFilter counts these in half seconds; here they are seconds.
var (
	nodeMax     = mib.Int("net.inet.ipf.ipf_nattable_max", 30_000, "Translations at most; the one that is idle for longest makes room, established connections last.", mib.Range(1, 1<<24))
	nodeAge     = mib.Int("net.inet.ipf.fr_defnatage", 300, "Seconds that an idle translation of UDP is kept (RFC 4787 REQ-5).", mib.Range(1, 1<<30))
	nodeIPAge   = mib.Int("net.inet.ipf.fr_defnatipage", 60, "Seconds that an idle translation of another protocol is kept.", mib.Range(1, 1<<30))
	nodeICMPAge = mib.Int("net.inet.ipf.fr_defnaticmpage", 60, "Seconds that an idle translation of echoes is kept (RFC 5508 REQ-2).", mib.Range(1, 1<<30))
	nodeTCPIdle = mib.Int("net.inet.ipf.ipnat_tcpidle", 7440, "Seconds that an idle established connection is translated (RFC 5382 REQ-5).", mib.Range(1, 1<<30))
	nodeTCPOpen = mib.Int("net.inet.ipf.ipnat_tcptransitory", 240, "Seconds that a connection being opened or closed is translated (RFC 5382 REQ-5).", mib.Range(1, 1<<30))
)

// end is an address, as on the wire, and a port; of an echo its identifier is the
// port of the ends that are ours, and the remote one's is 0.
type end struct {
	hi, lo uint64
	port   uint16
}

func endOf(a netip.Addr, port uint16) end {
	hi, lo := packet.Words(a)
	return end{hi, lo, port}
}

// pair is what a hook sees of a conversation: our end, inside at Out and outer at
// In, and the remote one.
type pair struct {
	our, rem end
	proto    uint8
	v6       bool
}

// pairOf is the pair of a packet; false: it has no ports that can be read.
func pairOf(i *pfil.Info) (p pair, ok bool) {
	p.proto, p.v6 = i.Proto, i.V6
	our, rem := i.Dst, i.Src
	if i.Out {
		our, rem = rem, our
	}
	p.our, p.rem = endOf(our, 0), endOf(rem, 0)
	switch {
	case i.Is&(pfil.Short|pfil.Bad) != 0:
		return p, false
	case i.Proto == packet.ProtoTCP, i.Proto == packet.ProtoUDP:
		p.our.port, p.rem.port = i.Dport, i.Sport
		if i.Out {
			p.our.port, p.rem.port = i.Sport, i.Dport
		}
	case i.Echo():
		p.our.port = i.ID
	}
	return p, true
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func mix(key uint64, e *end) uint64 {
	h := fold(e.lo^key, e.hi^bits.RotateLeft64(key, 32)^0x9e3779b97f4a7c15)
	return fold(h^uint64(e.port), key^0xbf58476d1ce4e5b9)
}

func (p *pair) hash(key uint64) uint64 {
	h := mix(key, &p.our) + bits.RotateLeft64(mix(key, &p.rem), 17) + uint64(p.proto)
	h *= 0x94d049bb133111eb
	return h ^ h>>32
}

// What is known of a TCP connection, as bits.
const (
	tcpOut    uint32 = 1 << iota // an acknowledgement went out
	tcpIn                        // one came in
	tcpFinOut                    // a FIN went out
	tcpFinIn
	tcpReset
)

func tcpUp(b uint32) bool {
	return b&(tcpOut|tcpIn|tcpReset) == tcpOut|tcpIn && b&(tcpFinOut|tcpFinIn) != tcpFinOut|tcpFinIn
}

// session is one conversation that is translated.
type session struct {
	n            *NAT
	rule         *rule
	in, out, rem end
	proto        uint8
	v6           bool
	began        bool // by what went out
	ifp          *netif.Interface
	ftp          *control // it is a control connection; immutable
	control      *control // that has announced it; immutable
	inHash       uint64   // of what Out sees
	outHash      uint64   // of what In sees

	dead        atomic.Bool
	born        int64
	last        atomic.Int64
	expire      atomic.Int64
	armed       atomic.Int64 // when the timer goes off: never after expire
	tcp         atomic.Uint32
	pkts, bytes [2]atomic.Uint64 // in, out

	timer callout.Timer[*netif.Work]

	// The table's lock.
	prev, next *session
	queued     int64 // last, when it was put there
	up         bool  // in the queue of established connections
}

// outside is what In sees of it.
func (s *session) outside() pair { return pair{s.out, s.rem, s.proto, s.v6} }

// pair is what a hook sees of it.
func (s *session) pair(out bool) pair {
	if out {
		return s.inside()
	}
	return s.outside()
}

// table is the sessions, found by what either hook sees.
type table struct {
	n      *NAT
	key    uint64
	byIn   cmap.Map[*session]
	byOut  cmap.Map[*session]
	active atomic.Int64
	mapped cmap.Map[*session] // by either of our two ends alone

	mu     sync.Mutex
	queues [2]session // heads: ordinary ones, established connections; longest idle first but for who was heard since
}

func (t *table) init(n *NAT) {
	t.n = n
	t.key = uint64(n.env.Rand32())<<32 | uint64(n.env.Rand32())
	t.byIn.Init()
	t.byOut.Init()
	t.mapped.Init()
	for c := range t.queues {
		q := &t.queues[c]
		q.prev, q.next = q, q
	}
}

func (t *table) len() int { return int(t.active.Load()) }

// find answers the session of a pair that is seen at ifp, going out or coming in.
func (t *table) find(p *pair, ifp *netif.Interface, out bool) *session {
	if t.len() == 0 {
		return nil
	}
	h := p.hash(t.key)
	b := t.byOut.Bucket(h)
	if out {
		b = t.byIn.Bucket(h)
	}
	for x := range b.Len() {
		k, s := b.At(x)
		if k == h && s.pair(out) == *p && s.at(ifp) && !s.dead.Load() {
			return s
		}
	}
	return nil
}

// at reports whether packets of the session are translated at ifp.
func (s *session) at(ifp *netif.Interface) bool {
	return s.ifp == ifp || s.rule.If2 != "" && (s.rule.If2 == ifp.Name || s.rule.If == ifp.Name)
}

// taken reports whether a session has these ends already.
func (t *table) taken(p *pair, out bool) bool {
	h := p.hash(t.key)
	b := t.byOut.Bucket(h)
	if out {
		b = t.byIn.Bucket(h)
	}
	for x := range b.Len() {
		if k, s := b.At(x); k == h && s.pair(out) == *p {
			return true
		}
	}
	return false
}

// add puts a session into the table; the lock is held. false: its ends are taken.
func (t *table) add(s *session) bool {
	in, out := s.inside(), s.outside()
	if t.taken(&in, true) || t.taken(&out, false) {
		return false
	}
	s.inHash, s.outHash = in.hash(t.key), out.hash(t.key)
	if s.control == nil && s.rule.controls(s) {
		s.ftp = &control{s: s}
	}
	t.push(s)
	t.arm(s)
	t.active.Add(1)
	t.byIn.Add(s.inHash, s)
	t.byOut.Add(s.outHash, s)
	t.mapped.Add(t.ownHash(&s.in, s.proto, true), s)
	t.mapped.Add(t.ownHash(&s.out, s.proto, false), s)
	s.rule.live.Add(1)
	t.n.count.added.Add(1)
	t.n.log.put(s, LogNew)
	if t.n.told.either(s.inHash, s.outHash) {
		t.n.gen.Add(1)
	}
	return true
}

func (t *table) push(s *session) {
	q := &t.queues[0]
	if s.up {
		q = &t.queues[1]
	}
	s.queued = s.last.Load()
	s.prev, s.next = q.prev, q
	q.prev.next, q.prev = s, s
}

func (s *session) unlink() {
	s.prev.next, s.next.prev = s.next, s.prev
	s.prev, s.next = nil, nil
}

func (t *table) arm(s *session) {
	at := s.expire.Load()
	s.armed.Store(at)
	t.n.env.Wheel.Reset(&s.timer, at)
}

// tick is the timer: the session has been idle for its time, or the timer is moved on.
func (s *session) tick(w *netif.Work) {
	t := &s.n.table
	t.mu.Lock()
	if s.dead.Load() {
		t.mu.Unlock()
		return
	}
	if s.expire.Load() > w.Now {
		t.arm(s)
		t.mu.Unlock()
		return
	}
	t.endLocked(s, LogExpire)
	t.mu.Unlock()
	s.n.count.expired.Add(1)
}

// endLocked takes a session out of the table; the lock is held.
func (t *table) endLocked(s *session, why LogEvent) {
	if s.dead.Swap(true) {
		return
	}
	s.unlink()
	t.byIn.Remove(s.inHash, s)
	t.byOut.Remove(s.outHash, s)
	t.mapped.Remove(t.ownHash(&s.in, s.proto, true), s)
	t.mapped.Remove(t.ownHash(&s.out, s.proto, false), s)
	t.active.Add(-1)
	t.n.env.Wheel.Stop(&s.timer)
	s.rule.live.Add(-1)
	if s.ftp != nil {
		t.n.expects.drop(s.ftp)
	}
	t.n.gen.Add(1)
	t.n.log.put(s, why)
}

// flush ends the sessions that chosen says, and answers their number.
func (t *table) flush(chosen func(*session) bool) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*session
	for c := range t.queues {
		for s := t.queues[c].next; s != &t.queues[c]; s = s.next {
			if chosen(s) {
				all = append(all, s)
			}
		}
	}
	for _, s := range all {
		t.endLocked(s, LogFlush)
	}
	return len(all)
}

// maxLooks bounds how many of a queue are moved to its end for one eviction.
const maxLooks = 64

// room makes room for one session; the lock is held.
func (t *table) room(limit int64) {
	for t.active.Load() >= limit {
		q := &t.queues[0]
		if q.next == q {
			q = &t.queues[1]
		}
		for range maxLooks {
			if s := q.next; s.last.Load() != s.queued { // heard since
				s.unlink()
				t.push(s)
			}
		}
		t.endLocked(q.next, LogEvict)
		t.n.count.evicted.Add(1)
	}
}

// timeout is how long the session may be idle, nanoseconds.
func (s *session) timeout(out bool) int64 {
	if a := s.rule.Age; a[0] != 0 {
		if out != s.began && a[1] != 0 {
			return int64(a[1]) * second
		}
		return int64(a[0]) * second
	}
	node := nodeIPAge
	switch s.proto {
	case packet.ProtoTCP:
		if node = nodeTCPOpen; tcpUp(s.tcp.Load()) {
			node = nodeTCPIdle
		}
	case packet.ProtoUDP:
		node = nodeAge
	case packet.ProtoICMP, packet.ProtoICMPv6:
		node = nodeICMPAge
	}
	return s.n.env.MIB.Int(node) * second
}

// heard notes a packet of the session.
func (s *session) heard(now int64, out bool, octets int, tcp bool, flags uint8) {
	s.counted(out, 1, uint64(octets))
	s.seen(now, out, tcp, flags)
}

func (s *session) counted(out bool, packets, octets uint64) {
	s.pkts[dir(out)].Add(packets)
	s.bytes[dir(out)].Add(octets)
}

// seen is heard without counting.
func (s *session) seen(now int64, out, tcp bool, flags uint8) {
	if s.last.Load() != now { // the packets of a burst say the same
		s.last.Store(now)
	}
	if tcp {
		s.segment(out, flags)
	}
	s.setExpiry(now + s.timeout(out))
}

// setExpiry moves the end of the session. The timer, which may go off before it, is moved
// only when that is to come earlier.
func (s *session) setExpiry(at int64) {
	if s.expire.Load() != at {
		s.expire.Store(at)
	}
	if at >= s.armed.Load() {
		return
	}
	t := &s.n.table
	t.mu.Lock()
	if !s.dead.Load() && s.expire.Load() < s.armed.Load() {
		t.arm(s)
	}
	t.mu.Unlock()
}

// segment takes the flags of a segment in. A reset shortens the session's time and ends
// nothing, since its sequence number is not checked here; whatever follows it undoes that.
func (s *session) segment(out bool, flags uint8) {
	was := s.tcp.Load()
	b := was
	ack, fin := tcpIn, tcpFinIn
	if out {
		ack, fin = tcpOut, tcpFinOut
	}
	switch {
	case flags&packet.TCPRst != 0:
		b |= tcpReset
	case flags&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn:
		if b&(tcpFinIn|tcpFinOut|tcpReset) != 0 && !tcpUp(b) { // the ports are used again
			b = 0
		}
	default:
		b &^= tcpReset
		if flags&packet.TCPAck != 0 {
			b |= ack
		}
		if flags&packet.TCPFin != 0 {
			b |= fin
		}
	}
	if b == was {
		return
	}
	if !s.tcp.CompareAndSwap(was, b) {
		s.segment(out, flags)
		return
	}
	if tcpUp(b) != tcpUp(was) {
		t := &s.n.table
		t.mu.Lock()
		if up := tcpUp(s.tcp.Load()); !s.dead.Load() && s.up != up {
			s.unlink()
			s.up = up
			t.push(s)
		}
		t.mu.Unlock()
	}
}

// newSession is a session that the packet i begins, without our ends.
func (n *NAT) newSession(w *netif.Work, r *rule, i *pfil.Info, p *pair) *session {
	s := &session{n: n, rule: r, rem: p.rem, proto: p.proto, v6: p.v6, began: i.Out, ifp: i.If, born: w.Now}
	if r.six() && i.V6 {
		s.rem, s.proto, s.v6 = end{0, p.rem.lo & 0xffffffff, p.rem.port}, fourProto(p.proto), false
	}
	s.timer.Fn = s.tick
	s.last.Store(w.Now)
	s.expire.Store(w.Now + s.timeout(i.Out))
	return s
}

// begin makes the session of a packet that r matches, or that comes to the outer end of o; nil: it
// cannot be.
func (n *NAT) begin(w *netif.Work, r *rule, i *pfil.Info, p *pair, o *session) *session {
	s := n.newSession(w, r, i, p)
	t := &n.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.find(p, i.If, i.Out); old != nil { // another packet was faster
		return old
	}
	if i.If.Gone() { // and Departed has been here
		return nil
	}
	t.room(n.env.MIB.Int(nodeMax))
	ok := false
	if i.Out {
		t.moved(p)
		s.in = p.our
		ok = n.outer(r, i, s)
	} else if s.out = p.our; o != nil {
		s.in = o.in
		ok = t.add(s)
	} else {
		ok = n.inner(r, i, s)
	}
	if !ok {
		return nil
	}
	r.hits.Add(1)
	return s
}
