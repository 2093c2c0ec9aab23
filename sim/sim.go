// Package sim runs whole networks of stacks in one goroutine, in virtual time,
// over segments that lose, reorder, duplicate, corrupt and delay frames. All
// chance comes from one seed: a run with the same seed and the same calls is
// the same run, frame by frame, which [Net.Trace] proves. It is for tests.
//
//	n := sim.New(seed)
//	lan := n.Segment(sim.Faults{Loss: 0.1})
//	a, b := n.Stack("a"), n.Stack("b")
//	n.Attach(a, lan, "10.0.0.1/24")
//	n.Attach(b, lan, "10.0.0.2/24")
//	srv, c := b.UDP("10.0.0.2:7"), a.UDP("")
//	c.SendTo("10.0.0.2:7", []byte("hello"))
//	n.Run(time.Second)
//	m, ok := srv.Recv()
//	err := n.Close() // the books of every stack balance
//
// What cannot be set up as asked (a malformed address, a name taken) panics:
// it is a mistake in the test.
package sim

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/stacktest"
)

// Faults are the ills of a segment. Probabilities are a frame and receiver.
type Faults struct {
	Loss      float64
	Duplicate float64
	Corrupt   float64       // one bit of a frame of IP
	MangleARP float64       // any bit behind the Ethernet header of an ARP frame
	Reorder   float64       // held back for up to ten times Delay+Jitter
	Delay     time.Duration // of every frame; 0 means a microsecond
	Jitter    time.Duration // up to this much more, so frames may overtake
	MaxLen    int           // octets; longer frames vanish: a black hole

	// A bottleneck before every station: Rate bits/s, 0 for no limit, and
	// a queue of Queue octets before it; what does not fit is lost. From Mark
	// octets on (0: never) frames that can are marked instead (RFC 3168).
	Rate        int64
	Queue, Mark int
}

// none reports a segment that leaves frames as they are.
func (f *Faults) none() bool {
	return f.Loss == 0 && f.Duplicate == 0 && f.Corrupt == 0 && f.MangleARP == 0
}

// Net is a network of stacks.
type Net struct {
	// Log, if set, gets one line for every frame sent and every fate.
	Log io.Writer

	seed  uint64
	now   int64
	rng   *rand.Rand
	seq   uint64
	heap  events
	nodes []*Node
	still bool // Close has begun: nobody is to ask for routers
	trace hash.Hash64
	burst []*packet.Buf
}

// New makes an empty network. Its clock begins at one second.
func New(seed uint64) *Net {
	return &Net{seed: seed, now: int64(time.Second), rng: rand.New(rand.NewPCG(seed, 0)), trace: fnv.New64a()}
}

// Rand is the network's source of chance, for the test's own choices.
func (n *Net) Rand() *rand.Rand { return n.rng }

// Now is the virtual time in nanoseconds.
func (n *Net) Now() int64 { return n.now }

// Trace is a hash over every frame that was sent, when, by whom, and what
// became of it.
func (n *Net) Trace() uint64 { return n.trace.Sum64() }

// Node is one stack of the network.
type Node struct {
	*stack.Stack
	Name string
	IPv6 bool // its sockets are of IPv6

	net    *Net
	opts   []Option
	chance uint64 // the stream of random numbers of its stack
	off    bool   // it has crashed
	work   *netif.Work
	ports  []*Port
	socks  []*Socket
}

// Option changes how a stack starts.
type Option func(*stack.Config)

// Stack makes a stack; lo0 is there and up.
func (n *Net) Stack(name string, opts ...Option) *Node {
	nd := &Node{Name: name, net: n, opts: opts, chance: uint64(len(n.nodes) + 1)}
	nd.start()
	n.nodes = append(n.nodes, nd)
	return nd
}

// start gives the node a stack.
func (nd *Node) start() {
	n := nd.net
	rng := rand.New(rand.NewPCG(n.seed, nd.chance))
	c := stack.Config{Now: func() int64 { return n.now }, Rand32: rng.Uint32}
	for _, o := range nd.opts {
		o(&c)
	}
	s, err := stack.New(c)
	if err != nil {
		panic(fmt.Sprintf("sim: stack %s: %v", nd.Name, err))
	}
	nd.Stack, nd.work = s, s.Env.NewWork()
	if n.still {
		nd.ignoreRouters()
	}
}

// ignoreRouters ends the asking for them, which goes on for ever where none
// answers (RFC 7559).
func (nd *Node) ignoreRouters() { nd.Sysctl("net.inet6.ip6.accept_rtadv", "0") }

// Sysctl sets a node of the stack's tree.
func (nd *Node) Sysctl(name, value string) {
	if _, err := nd.Env.MIB.Set(name, value); err != nil {
		panic(fmt.Sprintf("sim: %s: sysctl %s=%s: %v", nd.Name, name, value, err))
	}
}

// Count is the value of the counter declared as proto and name.
func (nd *Node) Count(proto, name string) uint64 { return stacktest.Counter(nd.Stack, proto, name) }

// Segment is an Ethernet segment.
type Segment struct {
	Faults Faults
	// Snoop has a group's frames come only to those who have asked for them, as
	// a switch does that listens to IGMP and MLD.
	Snoop bool
	// Sent and Came, if set, are shown every frame that a station sends, before
	// its fate is decided, and every one as a station gets it, before its stack
	// does. They may not keep it.
	Sent func(from *Node, frame []byte)
	Came func(to *Node, frame []byte)

	net   *Net
	ports []*Port
}

// Segment makes a segment.
func (n *Net) Segment(f Faults) *Segment { return &Segment{Faults: f, net: n} }

// Port is where a stack's interface meets a segment: its driver.
type Port struct {
	If   *netif.Interface
	node *Node
	seg  *Segment
	id   uint16
	conf netif.Config
	addr string
	all  bool // it wants every group's frames
	want map[netif.MAC]bool
	busy int64 // until when the bottleneck before it has frames to pass
}

// Attach gives nd an interface on seg with the address addr, such as
// "10.0.0.1/24"; "" for none yet.
func (n *Net) Attach(nd *Node, seg *Segment, addr string) *netif.Interface {
	p := &Port{node: nd, seg: seg, id: uint16(len(seg.ports)), addr: addr}
	p.conf = netif.Config{
		Name: fmt.Sprintf("en%d", len(nd.ports)), MTU: 1500, Caps: netif.CapCsum, Driver: p,
		MAC:   netif.MAC{2, 0, byte(n.index(nd) >> 8), byte(len(nd.ports)), byte(n.index(nd)), byte(1 + len(seg.ports))},
		Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning,
	}
	nd.ports = append(nd.ports, p)
	seg.ports = append(seg.ports, p)
	p.plug()
	return p.If
}

// plug gives the port's node an interface there.
func (p *Port) plug() {
	p.If = netif.New(p.conf)
	err := p.node.AddInterface(p.If)
	if err == nil && p.addr != "" {
		a := netip.MustParsePrefix(p.addr)
		err = p.node.AddAddr(p.If, stack.AddrSpec{Addr: a.Addr(), Bits: a.Bits()})
	}
	if err != nil {
		panic(fmt.Sprintf("sim: %s: %v", p.node.Name, err))
	}
}

func (n *Net) index(nd *Node) int {
	for i := range n.nodes {
		if n.nodes[i] == nd {
			return i
		}
	}
	panic("sim: a stack of another network")
}

// event is a frame on its way to a port, or a call.
type event struct {
	at    int64
	seq   uint64
	to    *Port
	frame []byte
	csum  packet.CsumState
	start int
	off   uint16
	call  func()
}

type events []*event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

func (n *Net) push(e *event) {
	n.seq++
	e.seq = n.seq
	heap.Push(&n.heap, e)
}

// At has f called at d from now.
func (n *Net) At(d time.Duration, f func()) { n.push(&event{at: n.now + int64(d), call: f}) }

// Transmit is netif.Driver: every other station that the frame concerns gets a
// copy, each with a fate of its own. A partial checksum is completed before
// any impairment (law 5), and stays partial on a sound segment.
func (p *Port) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	n, s := p.seg.net, p.seg
	if p.node.off {
		packet.FreeBurst(burst)
		return
	}
	for _, b := range burst {
		if !s.Faults.none() {
			b.CompleteCsum()
		}
		n.note("sent", p, b.Bytes())
		if s.Sent != nil {
			s.Sent(p.node, b.Bytes())
		}
		for _, to := range s.ports {
			if to != p && to.concerned(b.Bytes()) {
				s.carry(to, b)
			}
		}
		b.Free()
	}
}

// SetFilter is netif.Filter.
func (p *Port) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	p.all, p.want = promisc || allmulti, make(map[netif.MAC]bool, len(groups))
	for _, g := range groups {
		p.want[g] = true
	}
}

// concerned reports whether a frame is for the port by its link address.
func (p *Port) concerned(frame []byte) bool {
	dst := netif.MAC(frame[:6])
	return dst.IsMulticast() && p.hears(dst) || p.If.MAC() == dst
}

// hears reports whether a group's frames come to the port.
func (p *Port) hears(group netif.MAC) bool {
	return !p.seg.Snoop || p.all || group == netif.BroadcastMAC || p.want[group]
}

// carry decides one copy's fate.
func (s *Segment) carry(to *Port, b *packet.Buf) {
	n, f := s.net, &s.Faults
	if f.MaxLen > 0 && b.Len() > f.MaxLen || f.Loss > 0 && n.rng.Float64() < f.Loss {
		n.note("lost", to, nil)
		return
	}
	copies := 1
	if f.Duplicate > 0 && n.rng.Float64() < f.Duplicate {
		n.note("twice", to, nil)
		copies = 2
	}
	for range copies {
		e := &event{to: to, frame: append([]byte(nil), b.Bytes()...), csum: b.Csum, off: b.CsumOffset}
		if b.Csum == packet.CsumPartial {
			e.start = b.CsumStart()
		} else {
			e.csum = packet.CsumNone
		}
		if f.Corrupt > 0 && n.rng.Float64() < f.Corrupt {
			n.corrupt(to, e.frame)
		}
		if f.MangleARP > 0 && n.rng.Float64() < f.MangleARP {
			n.mangle(to, e.frame)
		}
		d := max(f.Delay, time.Microsecond)
		if f.Jitter > 0 {
			d += time.Duration(n.rng.Int64N(int64(f.Jitter)))
		}
		if f.Reorder > 0 && n.rng.Float64() < f.Reorder {
			d += time.Duration(n.rng.Int64N(10 * int64(d+f.Jitter)))
		}
		e.at = n.now + int64(d)
		if f.Rate > 0 && !s.wait(e) {
			n.note("overflown", to, nil)
			continue
		}
		n.push(e)
	}
}

// wait has a frame wait at the bottleneck before its station; false: the queue
// is full.
func (s *Segment) wait(e *event) bool {
	n, f, p := s.net, &s.Faults, e.to
	length := int64(max(len(e.frame), 60) + 24) // with preamble, checksum and gap
	p.busy = max(p.busy, n.now)
	queued := int((p.busy - n.now) * f.Rate / 8e9)
	if queued+int(length) > f.Queue {
		return false
	}
	if f.Mark > 0 && queued >= f.Mark {
		n.mark(p, e.frame)
	}
	p.busy += length * 8e9 / f.Rate
	e.at += p.busy - n.now
	return true
}

// mark says "congestion experienced" to a transport that would know of it
// (RFC 3168 §5). A header that is damaged stays so.
func (n *Net) mark(to *Port, frame []byte) {
	e, ok := packet.CheckEther(frame)
	if !ok || e.Type() != packet.EtherIPv4 && e.Type() != packet.EtherIPv6 {
		return
	}
	if h, ok := packet.CheckIPv4(frame[packet.EtherLen:]); ok && h.TOS()&3 != 0 && h.ChecksumOK() {
		h[1] |= 3
		h.SetChecksum()
		n.note("marked", to, nil)
	}
	if h, ok := packet.CheckIPv6(frame[packet.EtherLen:]); ok && h.Class()&3 != 0 {
		h.SetClass(h.Class() | 3)
		n.note("marked", to, nil)
	}
}

// corrupt sets one bit that was clear, in a frame of IP: ARP relies on the
// link's own checksum, which a flipped bit would not pass. Since every such
// change adds a power of two to the Internet checksum, fewer than sixteen of
// them in the fragments of one datagram never cancel out.
func (n *Net) corrupt(to *Port, frame []byte) {
	if h, ok := packet.CheckEther(frame); !ok || h.Type() != packet.EtherIPv4 && h.Type() != packet.EtherIPv6 {
		return
	}
	first := n.rng.IntN(8 * len(frame))
	for i := range 8 * len(frame) {
		k := (first + i) % (8 * len(frame))
		if bit := byte(1) << (k & 7); frame[k>>3]&bit == 0 {
			frame[k>>3] |= bit
			n.note("corrupted", to, nil)
			return
		}
	}
}

// mangle flips one bit of an ARP packet, as a station with broken memory
// would: no checksum tells.
func (n *Net) mangle(to *Port, frame []byte) {
	if h, ok := packet.CheckEther(frame); !ok || h.Type() != packet.EtherARP {
		return
	}
	k := 8*packet.EtherLen + n.rng.IntN(8*(len(frame)-packet.EtherLen))
	frame[k>>3] ^= 1 << (k & 7)
	n.note("mangled", to, nil)
}

func (n *Net) note(what string, p *Port, frame []byte) {
	var b [10]byte
	binary.BigEndian.PutUint64(b[:], uint64(n.now))
	binary.BigEndian.PutUint16(b[8:], uint16(n.index(p.node))<<8|p.id)
	n.trace.Write(b[:])
	io.WriteString(n.trace, what)
	n.trace.Write(frame)
	if n.Log != nil {
		fmt.Fprintf(n.Log, "%14.6f %s/%s %s", float64(n.now)/1e9, p.node.Name, p.If.Name, what)
		if frame != nil {
			fmt.Fprintf(n.Log, " %s", stacktest.Describe(frame))
		}
		fmt.Fprintln(n.Log)
	}
}

// Run lets d of virtual time pass.
func (n *Net) Run(d time.Duration) { n.runUntil(n.now + int64(d)) }

func (n *Net) runUntil(end int64) {
	for {
		at, nd := end+1, (*Node)(nil)
		if len(n.heap) > 0 {
			at = min(at, n.heap[0].at)
		}
		for _, x := range n.nodes { // timers before frames of the same time
			if x.off {
				continue
			}
			if t, ok := x.Next(); ok && (t < at || t == at && nd == nil && at <= end) {
				at, nd = t, x
			}
		}
		if at > end {
			n.now = end
			return
		}
		n.now = max(n.now, at)
		if nd != nil {
			nd.Advance(n.now)
			continue
		}
		n.deliver()
	}
}

// deliver hands over the next frame with all that reach the same port at the
// same time, as one burst.
func (n *Net) deliver() {
	e := heap.Pop(&n.heap).(*event)
	if e.call != nil {
		e.call()
		return
	}
	p := e.to
	n.burst = n.burst[:0]
	for {
		n.receive(e)
		if len(n.heap) == 0 || n.heap[0].at != e.at || n.heap[0].to != p {
			break
		}
		e = heap.Pop(&n.heap).(*event)
	}
	if len(n.burst) > 0 && !p.If.Gone() {
		p.node.Input(p.node.work, n.now, p.If, n.burst)
	} else {
		packet.FreeBurst(n.burst)
	}
}

// receive reads a frame into a buffer of the receiver's, as large as a driver
// that does not know what will come would take, or as small as will do.
func (n *Net) receive(e *event) {
	size := len(e.frame)
	if n.rng.IntN(2) == 0 {
		size = max(size, 1600)
	}
	b := e.to.node.Env.Pool.Get(size)
	if b == nil {
		e.to.If.Stats.InDrops.Add(1)
		n.note("no buffer", e.to, nil)
		return
	}
	copy(b.Append(len(e.frame)), e.frame)
	if e.to.seg.Came != nil {
		e.to.seg.Came(e.to.node, e.frame)
	}
	if e.csum == packet.CsumPartial {
		b.SetPartial(e.start, e.off)
	}
	n.burst = append(n.burst, b)
}

// calm is longer than any timer of a stack that is left alone: a neighbour of
// IPv6 that nobody uses is kept for a day.
const calm = 26 * time.Hour

// Close closes every socket, lets the network come to rest, and answers what
// does not balance: buffers, sockets or timers left over.
func (n *Net) Close() error {
	var errs []error
	n.still = true
	for _, nd := range n.nodes {
		for _, s := range nd.socks {
			s.Close()
		}
		nd.ignoreRouters()
	}
	n.Run(calm)
	for _, nd := range n.nodes {
		errs = append(errs, nd.books())
	}
	return errors.Join(errs...)
}

// books answers what is left of a stack that should be at rest.
func (nd *Node) books() error {
	var errs []error
	if b := nd.Env.Pool.Bufs(); b != 0 {
		errs = append(errs, fmt.Errorf("stack %s: %d buffers of %d octets were not given back", nd.Name, b, nd.Env.Pool.InUse()))
	}
	if t := nd.Env.Wheel.Armed(); t != 0 {
		errs = append(errs, fmt.Errorf("stack %s: %d timers are still armed after %v", nd.Name, t, calm))
	}
	if s := nd.Sockets(); s != 0 {
		errs = append(errs, fmt.Errorf("stack %s: %d sockets are still counted", nd.Name, s))
	}
	if m := nd.SocketMemory(); m != 0 {
		errs = append(errs, fmt.Errorf("stack %s: %d octets are still charged to sockets", nd.Name, m))
	}
	return errors.Join(errs...)
}
