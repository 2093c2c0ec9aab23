package ipfilter

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

const second = int64(1e9)

// IPFilter counts these in half seconds; here they are seconds.
var (
	nodeStateMax  = mib.Int("net.inet.ipf.fr_statemax", 100_000, "States at most; one that is idle for long makes room, established ones last.", mib.Range(0, 1<<24))
	nodeTCPOpen   = mib.Int("net.inet.ipf.fr_tcptimeout", 240, "Seconds that a TCP connection being opened is known.", mib.Range(1, 1<<30))
	nodeTCPIdle   = mib.Int("net.inet.ipf.fr_tcpidletimeout", 432_000, "Seconds that an idle TCP connection is known.", mib.Range(1, 1<<30))
	nodeTCPHalf   = mib.Int("net.inet.ipf.fr_tcphalfclosed", 7200, "Seconds that an idle TCP connection closed by one side is known.", mib.Range(1, 1<<30))
	nodeTCPLast   = mib.Int("net.inet.ipf.fr_tcplastack", 30, "Seconds that a TCP connection closed by both sides is known.", mib.Range(1, 1<<30))
	nodeTCPClosed = mib.Int("net.inet.ipf.fr_tcpclosed", 30, "Seconds that a TCP connection that was reset is known.", mib.Range(1, 1<<30))
	nodeUDP       = mib.Int("net.inet.ipf.fr_udptimeout", 120, "Seconds that datagrams without an answer are known.", mib.Range(1, 1<<30))
	nodeUDPAck    = mib.Int("net.inet.ipf.fr_udpacktimeout", 120, "Seconds that datagrams both ways are known.", mib.Range(1, 1<<30))
	nodeICMP      = mib.Int("net.inet.ipf.fr_icmptimeout", 60, "Seconds that an ICMP request is known.", mib.Range(1, 1<<30))
	nodeICMPAck   = mib.Int("net.inet.ipf.fr_icmpacktimeout", 6, "Seconds that an ICMP request is known once it was answered.", mib.Range(1, 1<<30))
	nodeIP        = mib.Int("net.inet.ipf.fr_iptimeout", 60, "Seconds that packets of other protocols are known.", mib.Range(1, 1<<30))
)

// class is how much a state would be missed.
type class uint8

const (
	opening  class = iota // no answer yet
	ending                // closed by both sides, or reset
	answered              // both ways, no connection
	standing              // an established connection
	classes
)

// state is one conversation that a rule has let begin. Its forward direction is the
// first packet's. Its size is what a gateway's memory is made of (TestExhaustion).
type state struct {
	rule         *rule
	srcHi, srcLo uint64
	dstHi, dstLo uint64
	sport, dport uint16 // of an echo both are its identifier
	proto        uint8
	icmp         uint8 // type of the request
	v6           bool
	more         *more // nil: it is as most are

	ifs         ways
	pkts, bytes [4]atomic.Uint64 // by way

	last  atomic.Int64  // when the last packet came
	ttl   atomic.Uint32 // seconds that it is known from then on
	armed atomic.Uint32 // when the timer goes off: not later than a [grain] after its end
	born  uint32        // as grains

	queued     uint32 // last, when it was put there, as far as it fits; the table's lock
	prev, next *state // the table's lock
	timer      callout.Timer[*netif.Work]

	mu  sync.Mutex
	tcp track

	mark atomic.Uint32 // a class, and isDead; written with the table's lock
}

// more is what few states have.
type more struct {
	opts  uint64    // options that its first packet had, of those that matter
	shift [2]uint32 // with newisn: what is added to the numbers of a side as they go out; state.mu
}

const isDead = 1 << 31

func (s *state) dead() bool   { return s.mark.Load()&isDead != 0 }
func (s *state) class() class { return class(s.mark.Load()) }

// opts are the options that packets of the state may have.
func (s *state) opts() uint64 {
	if s.more == nil {
		return 0
	}
	return s.more.opts
}

// extra is for what few states have, before the state is known to anybody else.
func (s *state) extra() *more {
	if s.more == nil {
		s.more = new(more)
	}
	return s.more
}

// grain is how exact times need to be that are kept in 32 bits, since the filter began: 36 years.
const grain = 1 << 28

func (t *states) grains(at int64) uint32 { return uint32(min((at-t.began)/grain, 1<<32-1)) }

// known is how long the state has been.
func (s *state) known(now int64) int64 {
	t := &s.rule.f.states
	return now - t.began - int64(int32(s.born))*grain
}

// expire is when it ends, unless a packet comes.
func (s *state) expire() int64 { return s.last.Load() + int64(s.ttl.Load())*second }

// states is the table.
type states struct {
	f     *Filter
	key   uint64
	began int64
	ifs   ifNames
	byID  cmap.Map[*state]

	mu     sync.Mutex
	queues [classes]state // heads of lists, the longest idle first but for who has been heard since

	added                                              [other + 1]atomic.Uint64 // by kind
	expired, removed, full, evicted, bad, hits, missed atomic.Uint64
}

// StateStats are counters of the table.
type StateStats struct {
	Active                                                            uint64
	Added, Expired, Removed, Full, Evicted, OutOfWindow, Hits, Misses uint64
	TCP, UDP, ICMP                                                    uint64 // of Added
}

// Kinds of states.
const (
	ofTCP = iota
	ofUDP
	ofICMP
	other
)

func kindOf(proto uint8) int {
	switch proto {
	case packet.ProtoTCP:
		return ofTCP
	case packet.ProtoUDP:
		return ofUDP
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return ofICMP
	}
	return other
}

func (t *states) read() StateStats {
	s := StateStats{Active: uint64(t.byID.Len()), TCP: t.added[ofTCP].Load(), UDP: t.added[ofUDP].Load(), ICMP: t.added[ofICMP].Load(), Expired: t.expired.Load(), Removed: t.removed.Load(),
		Full: t.full.Load(), Evicted: t.evicted.Load(), OutOfWindow: t.bad.Load(), Hits: t.hits.Load(), Misses: t.missed.Load()}
	s.Added = s.TCP + s.UDP + s.ICMP + t.added[other].Load()
	return s
}

func (t *states) init(f *Filter) {
	t.f = f
	t.key = uint64(f.env.Rand32())<<32 | uint64(f.env.Rand32())
	t.began = f.env.Now()
	t.ifs.init()
	t.byID.Init()
	for c := range t.queues {
		q := &t.queues[c]
		q.prev, q.next = q, q
	}
}

// ends mixes one end of a conversation; a state's hash is the sum of both, so that
// either direction finds it. Every word is multiplied with the key in it before the
// next one comes, or a stranger could have two words make up for each other.
func ends(key, hi, lo uint64, port uint16) uint64 {
	h := fold(lo^key, hi^bits.RotateLeft64(key, 32)^0x9e3779b97f4a7c15)
	return fold(h^uint64(port), key^0xbf58476d1ce4e5b9)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func (t *states) hashOf(f *pfil.Flow) uint64 {
	h := ends(t.key, f.SrcHi, f.SrcLo, f.Sport) + ends(t.key, f.DstHi, f.DstLo, f.Dport) + uint64(f.Proto)
	h *= 0x94d049bb133111eb
	return h ^ h>>32
}

// flow is the forward direction.
func (s *state) flow() *pfil.Flow {
	return &pfil.Flow{SrcHi: s.srcHi, SrcLo: s.srcLo, DstHi: s.dstHi, DstLo: s.dstLo, Sport: s.sport, Dport: s.dport, Proto: s.proto, V6: s.v6}
}

func (t *states) hash(i *pfil.Info, sport, dport uint16) uint64 {
	return t.hashOf(&pfil.Flow{SrcHi: i.SrcHi, SrcLo: i.SrcLo, DstHi: i.DstHi, DstLo: i.DstLo, Sport: sport, Dport: dport, Proto: i.Proto})
}

// of answers the state of a flow, and whether the flow goes back.
func (t *states) of(f *pfil.Flow, hash uint64) (s *state, back bool) {
	return t.lookup(hash, f.SrcHi, f.SrcLo, f.DstHi, f.DstLo, f.Sport, f.Dport, f.Proto, f.V6)
}

// portsOf are the ports of a packet as states know them; false: its protocol's
// message asks for no answer that could be told.
func portsOf(i *pfil.Info) (sport, dport uint16, ok bool) {
	switch {
	case i.Proto == packet.ProtoTCP, i.Proto == packet.ProtoUDP:
		return i.Sport, i.Dport, true
	case i.Proto == packet.ProtoICMP && !i.V6, i.Proto == packet.ProtoICMPv6 && i.V6:
		id, query, _ := queryOf(i)
		return id, id, query
	}
	return 0, 0, true
}

// queryOf is the identifier of an ICMP query or of the answer to one.
func queryOf(i *pfil.Info) (id uint16, query, answer bool) {
	if i.V6 {
		return i.ID, i.Echo(), i.Echo() && i.Type == packet.ICMP6EchoReply
	}
	if i.Proto != packet.ProtoICMP {
		return 0, false, false
	}
	switch i.Type {
	case packet.ICMPEchoReply, packet.ICMPTimestampReply, packet.ICMPMaskReply:
		answer = true
	case packet.ICMPEcho, packet.ICMPTimestamp, packet.ICMPMaskRequest:
	default:
		return 0, false, false
	}
	if b := i.Transport(); len(b) >= packet.ICMPLen {
		return packet.ICMP(b).ID(), true, answer
	}
	return 0, false, false
}

// answerTo is the type of the answer to an ICMP query of a type.
func answerTo(typ uint8, v6 bool) uint8 {
	switch {
	case v6:
		return packet.ICMP6EchoReply
	case typ == packet.ICMPEcho:
		return packet.ICMPEchoReply
	}
	return typ + 1
}

// find answers the state that a packet belongs to, and whether it goes back.
func (t *states) find(i *pfil.Info) (s *state, back bool) {
	sport, dport, ok := portsOf(i)
	if !ok {
		return nil, false
	}
	return t.lookup(t.hash(i, sport, dport), i.SrcHi, i.SrcLo, i.DstHi, i.DstLo, sport, dport, i.Proto, i.V6)
}

func (t *states) lookup(h, srcHi, srcLo, dstHi, dstLo uint64, sport, dport uint16, proto uint8, v6 bool) (*state, bool) {
	b := t.byID.Bucket(h)
	for n := range b.Len() {
		k, s := b.At(n)
		if k != h || s.proto != proto || s.v6 != v6 {
			continue
		}
		if s.sport == sport && s.dport == dport && s.srcLo == srcLo && s.dstLo == dstLo && s.srcHi == srcHi && s.dstHi == dstHi {
			return s, false
		}
		if s.sport == dport && s.dport == sport && s.srcLo == dstLo && s.dstLo == srcLo && s.srcHi == dstHi && s.dstHi == srcHi {
			return s, true
		}
	}
	return nil, false
}

func wayOf(back, out bool) int {
	w := 0
	if back {
		w = 2
	}
	if out {
		w++
	}
	return w
}

// known asks what is known of the packet: its datagram, its state. s is the state
// that has let it pass, in which direction.
func (f *Filter) known(w *netif.Work, i *pfil.Info) (v fate, s *state, back bool) {
	if i.Is&pfil.Fragment != 0 {
		if v = f.frags.known(w, i); v != unknown {
			return v, nil, false
		}
	}
	if i.Is&(pfil.FragBody|pfil.Short|pfil.Bad) != 0 {
		return unknown, nil, false
	}
	if f.states.byID.Len() == 0 {
		return unknown, nil, false
	}
	if v, is := f.aboutState(i); is {
		return v, nil, false
	}
	s, back = f.states.find(i)
	if s == nil || !s.admits(w, i, back) {
		f.states.missed.Add(1)
		return unknown, nil, false
	}
	i.Is |= isState
	f.states.hits.Add(1)
	if i.Is&pfil.Fragment != 0 { // the first: its others follow
		f.frags.add(w, i, s.rule, s)
	}
	return passed, s, back
}

// optsOf are the options of a packet that a state must have begun with: IPv4's, and
// of IPv6 the routing header. Others come and go.
func optsOf(i *pfil.Info) uint64 {
	if i.V6 {
		return i.Opts & (1 << pfil.HeaderBit(packet.ProtoRouting))
	}
	return i.Opts
}

// admits takes a packet of the state's addresses in, or not: it came by another
// interface, it is no answer, or it does not fit the connection.
func (s *state) admits(w *netif.Work, i *pfil.Info, back bool) bool {
	if s.dead() {
		return false
	}
	way := wayOf(back, i.Out)
	n := s.rule.f.states.ifs.of(i.If)
	bound := s.ifs.at(way)
	if bound != 0 && bound != n {
		return false
	}
	if o := optsOf(i); o != 0 && o != s.opts() {
		return false
	}
	if s.proto == packet.ProtoTCP {
		if !s.admitTCP(w, i, back) {
			i.Is |= pfil.OutOfWindow
			s.rule.f.states.bad.Add(1)
			return false
		}
	} else {
		if s.proto == packet.ProtoICMP || s.proto == packet.ProtoICMPv6 { // the answer comes back, and nothing else does
			want := s.icmp
			if back {
				want = answerTo(want, s.v6)
			}
			if i.Type != want {
				return false
			}
		}
		s.heard(w, back)
	}
	if bound == 0 && !s.ifs.bind(way, n) {
		return false
	}
	s.count(way, 1, uint64(i.Pkt.Len()))
	return true
}

func (s *state) count(way int, packets, octets uint64) {
	s.pkts[way].Add(packets)
	s.bytes[way].Add(octets)
}

// heard is a packet of no connection.
func (s *state) heard(w *netif.Work, back bool) {
	s.seen(w.Now, s.timeout(back))
	if back && s.class() == opening {
		s.become(answered)
	}
}

// seen has the state be known for ttl seconds from now on. The timer moves on by itself
// ([state.tick]); here it is brought forward.
func (s *state) seen(now int64, ttl uint32) {
	if s.last.Load() != now { // the packets of a burst say the same
		s.last.Store(now)
	}
	if s.ttl.Load() != ttl {
		s.ttl.Store(ttl)
	}
	t := &s.rule.f.states
	if end := now + int64(ttl)*second; t.grains(end) < s.armed.Load() {
		t.mu.Lock()
		if !s.dead() {
			t.arm(s, end)
		}
		t.mu.Unlock()
	}
}

// arm sets the timer; the table's lock is held.
func (t *states) arm(s *state, at int64) {
	s.armed.Store(t.grains(at))
	t.f.env.Wheel.Reset(&s.timer, at)
}

// timeout is how many seconds the state is known after a packet, unless it is TCP's.
func (s *state) timeout(back bool) uint32 {
	if n := s.age(back); n != 0 {
		return n
	}
	node := nodeIP
	heard := back || s.class() == answered
	switch {
	case s.proto == packet.ProtoUDP && heard:
		node = nodeUDPAck
	case s.proto == packet.ProtoUDP:
		node = nodeUDP
	case (s.proto == packet.ProtoICMP || s.proto == packet.ProtoICMPv6) && heard:
		node = nodeICMPAck
	case s.proto == packet.ProtoICMP, s.proto == packet.ProtoICMPv6:
		node = nodeICMP
	}
	return uint32(s.rule.f.env.MIB.Int(node))
}

// age is what the rule says of it; 0: nothing.
func (s *state) age(back bool) uint32 {
	if k := s.rule.KeepState; k != nil {
		if back && k.Age[1] != 0 {
			return uint32(k.Age[1])
		}
		return uint32(k.Age[0])
	}
	return 0
}

// become moves a state to another class.
func (s *state) become(c class) {
	t := &s.rule.f.states
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.dead() || s.class() == c {
		return
	}
	s.unlink()
	s.mark.Store(uint32(c))
	t.push(s)
}

func (t *states) push(s *state) {
	q := &t.queues[s.class()]
	s.queued = uint32(s.last.Load())
	s.prev, s.next = q.prev, q
	q.prev.next, q.prev = s, s
}

func (s *state) unlink() {
	s.prev.next, s.next.prev = s.next, s.prev
	s.prev, s.next = nil, nil
}

// add begins a state for a packet that r has let pass. false: the table or the
// rule's own limit is full, or the packet can begin none: it is out of the window of the
// connection that is known, or nobody could know it again.
func (t *states) add(w *netif.Work, i *pfil.Info, r *rule) bool {
	if i.Is&(pfil.FragBody|pfil.Short|pfil.Bad) != 0 {
		return false
	}
	sport, dport, ok := portsOf(i)
	if !ok || i.Proto == packet.ProtoTCP && i.Flags&packet.TCPRst != 0 && i.Is&pfil.OutOfWindow == 0 {
		return true // it passes, and nothing is known of it
	}
	if _, _, answer := queryOf(i); answer {
		return true
	}
	if i.Is&pfil.OutOfWindow != 0 && !t.replaced(w, i) {
		return false
	}
	if n := r.KeepState.Limit; n > 0 && r.live.Load() >= int64(n) {
		t.full.Add(1)
		return false
	}
	if limit := t.f.env.MIB.Int(nodeStateMax); int64(t.byID.Len()) >= limit && !t.evict(w.Now) {
		t.full.Add(1)
		return false
	}
	s := &state{srcHi: i.SrcHi, srcLo: i.SrcLo, dstHi: i.DstHi, dstLo: i.DstLo, sport: sport, dport: dport,
		proto: i.Proto, icmp: i.Type, v6: i.V6, rule: r, born: t.grains(w.Now)}
	if o := optsOf(i); o != 0 {
		s.extra().opts = o
	}
	way := wayOf(false, i.Out)
	s.ifs.bind(way, t.ifs.of(i.If))
	if r.Via != "" && !i.Out {
		s.ifs.bind(wayOf(false, true), t.ifs.called(r.Via))
	}
	s.last.Store(w.Now)
	if i.Proto == packet.ProtoTCP {
		s.beginTCP(w, i)
	} else {
		s.ttl.Store(s.timeout(false))
	}
	s.count(way, 1, uint64(i.Pkt.Len()))
	shift := s.shift()
	if !t.enter(s) { // the two ends spoke at once
		return shift[0] == 0
	}
	t.f.stat(i).NewStates.Add(1)
	t.f.logState(w.Now, s, LogNew)
	if i.Out {
		renumber(i, 0, shift)
	}
	return true
}

// enter puts a state into the table; false: it knows one of these ends.
func (t *states) enter(s *state) bool {
	s.timer.Fn = s.tick
	t.mu.Lock()
	defer t.mu.Unlock() // who finds the state sees it queued and its timer armed
	if _, found := t.byID.AddUnless(t.hashOf(s.flow()), s, func(o *state) bool { return o.same(s) && !o.dead() }); found {
		return false
	}
	s.rule.live.Add(1)
	t.added[kindOf(s.proto)].Add(1)
	t.push(s)
	t.arm(s, s.expire())
	return true
}

// same reports states of the same ends, whichever began.
func (s *state) same(o *state) bool {
	if s.proto != o.proto || s.v6 != o.v6 {
		return false
	}
	return s.sport == o.sport && s.dport == o.dport && s.srcHi == o.srcHi && s.srcLo == o.srcLo && s.dstHi == o.dstHi && s.dstLo == o.dstLo ||
		s.sport == o.dport && s.dport == o.sport && s.srcHi == o.dstHi && s.srcLo == o.dstLo && s.dstHi == o.srcHi && s.dstLo == o.srcLo
}

// replaced ends the connection that a SYN, which does not fit it, would begin anew:
// one that both sides have closed, or that was never answered.
func (t *states) replaced(w *netif.Work, i *pfil.Info) bool {
	if i.Flags&(packet.TCPSyn|packet.TCPAck|packet.TCPRst|packet.TCPFin) != packet.TCPSyn {
		return false
	}
	s, back := t.find(i)
	if s == nil {
		return true
	}
	s.mu.Lock()
	over := s.tcp.class() == ending || !back && (!s.tcp.side[1].seen || s.tcp.side[1].guess)
	s.mu.Unlock()
	if !over {
		return false
	}
	t.end(w.Now, s, LogRemoved, &t.removed)
	return true
}

// end takes a state out of the table; false: it was out.
func (t *states) end(now int64, s *state, why LogEvent, count *atomic.Uint64) bool {
	t.mu.Lock()
	was := s.dead()
	s.endLocked()
	t.mu.Unlock()
	if was {
		return false
	}
	count.Add(1)
	t.gone(now, s, why)
	return true
}

// maxLooks bounds how many of a queue are moved to its end for one eviction.
const maxLooks = 64

// evict makes room: of the lowest class that has any, who has been idle for longest goes.
// Established connections do not make room for a newcomer.
func (t *states) evict(now int64) bool {
	t.mu.Lock()
	var victim *state
	for c := opening; c < standing && victim == nil; c++ {
		q := &t.queues[c]
		for range maxLooks {
			if s := q.next; s != q && uint32(s.last.Load()) != s.queued { // heard since: to the end
				s.unlink()
				t.push(s)
			}
		}
		if q.next != q {
			victim = q.next
		}
	}
	if victim != nil {
		victim.endLocked()
	}
	t.mu.Unlock()
	if victim == nil {
		return false
	}
	t.evicted.Add(1)
	t.gone(now, victim, LogRemoved)
	return true
}

// endLocked takes a state out of its queue; the table's lock is held.
func (s *state) endLocked() {
	if m := s.mark.Load(); m&isDead == 0 {
		s.mark.Store(m | isDead)
		s.unlink()
	}
}

// gone is the rest of an end, without the lock.
func (t *states) gone(now int64, s *state, why LogEvent) {
	t.f.env.Wheel.Stop(&s.timer)
	t.byID.Remove(t.hashOf(s.flow()), s)
	s.rule.live.Add(-1)
	t.f.logState(now, s, why)
}

// tick is the timer: the state has not been heard for its time, or is moved on.
func (s *state) tick(w *netif.Work) {
	t := &s.rule.f.states
	if s.expire() > w.Now {
		t.mu.Lock()
		if !s.dead() {
			t.arm(s, s.expire())
		}
		t.mu.Unlock()
		return
	}
	t.end(w.Now, s, LogExpired, &t.expired)
}

// flush ends the states that chosen says, and answers their number.
func (t *states) flush(chosen func(*state) bool) (n int) {
	var all []*state
	t.byID.All(func(s *state) bool {
		if chosen(s) {
			all = append(all, s)
		}
		return true
	})
	for _, s := range all {
		if t.end(t.f.env.Now(), s, LogRemoved, &t.removed) {
			n++
		}
	}
	return n
}

// FlushStates ends states: all of them, or only those of no established
// connection (ipf -FS and -Fs).
func (f *Filter) FlushStates(all bool) int {
	return f.states.flush(func(s *state) bool { return all || s.class() != standing })
}

// StateInfo describes a state.
type StateInfo struct {
	Src, Dst     netip.Addr
	Sport, Dport uint16
	Proto        uint8
	V6           bool
	ICMP         uint8    // type of the request, of both versions
	TCP          [2]uint8 // states of the two sides, in IPFilter's numbers
	Rule         string   // that let it begin, as ipfstat prints it
	If           [4]string
	Packets      [4]uint64 // forward in, forward out, back in, back out
	Bytes        [4]uint64
	Age, TTL     int64 // nanoseconds since it began, until it ends
}

// States describe up to limit states behind the first skip, in no order; limit 0: all.
// Of states that come or go between two pages, some may be in both or in neither.
func (f *Filter) States(skip, limit int) (some []StateInfo) {
	now := f.env.Now()
	f.states.byID.From(max(skip, 0), func(s *state) bool {
		some = append(some, s.info(now))
		return len(some) != limit
	})
	return some
}

func (s *state) info(now int64) StateInfo {
	i := StateInfo{Sport: s.sport, Dport: s.dport, Proto: s.proto, V6: s.v6, ICMP: s.icmp, Age: s.known(now), TTL: s.expire() - now, Rule: s.rule.text}
	i.Src, i.Dst = addrOf(s.v6, s.srcHi, s.srcLo), addrOf(s.v6, s.dstHi, s.dstLo)
	s.mu.Lock()
	i.TCP = s.tcp.phases()
	s.mu.Unlock()
	for w := range i.If {
		i.If[w] = s.rule.f.states.ifs.name(s.ifs.at(w))
		i.Packets[w], i.Bytes[w] = s.pkts[w].Load(), s.bytes[w].Load()
	}
	return i
}
