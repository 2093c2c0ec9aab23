package impair

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"ionet/stack/packet"
)

// maxStorage bounds the octets of storage that wait in one pipe, for the link
// or for their time. They are charged to the pool they came from.
const maxStorage = 64 << 20

// Counts are the fates of the frames that went one way.
type Counts struct {
	Passed     uint64 // handed on, copies included
	Lost       uint64 // by Loss
	Duplicated uint64
	Corrupted  uint64
	Reordered  uint64 // held back
	Marked     uint64 // by ECN
	Overflowed uint64 // found the queue for the link full, or the pipe
	NoBuffer   uint64 // super-packets and copies for which the pool had nothing, or that were none
	Waiting    int    // now on the way
}

// pipe is one way, without clock or goroutine: frames enter at a time and
// leave at a later one.
type pipe struct {
	Profile
	rng   *rand.Rand
	count Counts

	sent    int64 // when the link will have sent all that waits for it,
	carry   int64 // less this, in nanoseconds/Rate
	sending times // when each frame that waits will have been sent
	last    int64 // when the last frame that was not held back leaves

	line    []parked // a heap: the first leaves first
	entered uint64
	storage int
	cuts    []*packet.Buf // what a super-packet is cut into
}

// parked is a frame on its way. Those of one time leave as they came.
type parked struct {
	at    int64
	order uint64
	frame *packet.Buf
}

func (a parked) before(b parked) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

// newPipe makes one; stream parts the two ways of one seed.
func newPipe(p Profile, seed, stream uint64) *pipe {
	return &pipe{Profile: p, rng: rand.New(rand.NewPCG(seed, stream))}
}

// fate is what is drawn for one frame. The number of draws is always the same,
// so that a frame's fate depends on its place in the order alone.
type fate struct {
	lost, dup, corrupt, held bool
	bit                      uint64
	late                     time.Duration
}

func (p *pipe) draw() fate {
	roll := func(percent float64) bool { return p.rng.Float64()*100 < percent }
	return fate{
		lost: roll(p.Loss), dup: roll(p.Dup), corrupt: roll(p.Corrupt), held: roll(p.Reorder),
		bit:  p.rng.Uint64(),
		late: max(p.Delay+time.Duration((2*p.rng.Float64()-1)*float64(p.Jitter)), 0),
	}
}

// enter takes over a frame at time now, which does not go back. A super-packet
// enters as the frames that it will be on the wire, each with its checksum, so
// that every fate is a frame's (law 5). It answers how many were dropped for
// want of room or memory.
func (p *pipe) enter(now int64, b *packet.Buf) (drops int) {
	if b.GSO == packet.GSONone {
		return p.frame(now, b)
	}
	b.MarkL3(l3(b.Bytes()))
	cuts, ok := b.Segments(p.cuts[:0])
	b.Free()
	if !ok {
		p.count.NoBuffer++
		return 1
	}
	for _, c := range cuts {
		drops += p.frame(now, c)
	}
	clear(cuts)
	p.cuts = cuts
	return drops
}

// l3 is where the network header of a frame begins, behind a VLAN tag if there
// is one.
func l3(frame []byte) int {
	if len(frame) >= packet.EtherLen && packet.Ether(frame).Type() == packet.EtherVLAN {
		return packet.EtherLen + 4
	}
	return packet.EtherLen
}

func (p *pipe) frame(now int64, b *packet.Buf) (drops int) {
	f := p.draw()
	if f.lost {
		p.count.Lost++
		b.Free()
		return 0
	}
	b.CompleteCsum()
	var again *packet.Buf
	if f.dup {
		if again = b.Clone(); again == nil {
			p.count.NoBuffer++
			drops++
		} else {
			p.count.Duplicated++
		}
	}
	if f.corrupt && b.Len() > packet.EtherLen {
		bad := damaged(b, f.bit)
		b.Free()
		if bad == nil {
			p.count.NoBuffer++
			drops++
		} else {
			p.count.Corrupted++
			drops += p.park(now, bad, f)
		}
	} else {
		drops += p.park(now, b, f)
	}
	if again != nil {
		f.held = false
		drops += p.park(now, again, f)
	}
	return drops
}

// damaged is a copy of b with one bit behind the link header inverted, or nil
// when there is no memory. b keeps its octets: a sender may lend them, and send
// them again.
func damaged(b *packet.Buf, bit uint64) *packet.Buf {
	c := b.Clone()
	if c == nil {
		return nil
	}
	body := c.Bytes()[packet.EtherLen:]
	bit %= uint64(8 * len(body))
	body[bit/8] ^= 1 << (bit % 8)
	c.Csum = packet.CsumNone // what was known of it is known no more
	return c
}

// park sends a frame over the link and has it wait for its time.
func (p *pipe) park(now int64, b *packet.Buf, f fate) (drops int) {
	at := now
	if p.Rate > 0 {
		waiting := p.sending.since(now)
		if waiting >= p.Queue || p.storage+b.Cap() > maxStorage {
			return p.overflow(b)
		}
		if p.ECN > 0 && waiting >= p.ECN && mark(b.Bytes()) {
			p.count.Marked++
		}
		if p.sent < now {
			p.sent, p.carry = now, 0
		}
		nanobits := 8e9*int64(b.Len()) + p.carry
		p.sent += nanobits / int64(p.Rate)
		p.carry = nanobits % int64(p.Rate)
		p.sending.add(p.sent)
		at = p.sent
	} else if p.storage+b.Cap() > maxStorage {
		return p.overflow(b)
	}
	at = max(at+int64(f.late), p.last)
	if f.held {
		p.count.Reordered++
		at += int64(p.Hold)
	} else {
		p.last = at
	}
	p.storage += b.Cap()
	p.entered++
	p.push(parked{at, p.entered, b})
	return 0
}

// times is a queue of times in order.
type times struct {
	all  []int64
	head int
}

func (q *times) add(at int64) {
	if q.head > len(q.all)/2 {
		q.all, q.head = append(q.all[:0], q.all[q.head:]...), 0
	}
	q.all = append(q.all, at)
}

// since drops the times up to now and answers how many are left.
func (q *times) since(now int64) int {
	for q.head < len(q.all) && q.all[q.head] <= now {
		q.head++
	}
	return len(q.all) - q.head
}

func (p *pipe) overflow(b *packet.Buf) (drops int) {
	p.count.Overflowed++
	b.Free()
	return 1
}

// leave moves the frames whose time has come to out, as many as it holds.
func (p *pipe) leave(now int64, out []*packet.Buf) (n int) {
	for n < len(out) && len(p.line) > 0 && p.line[0].at <= now {
		b := p.pop()
		p.storage -= b.Cap()
		out[n] = b
		n++
	}
	p.count.Passed += uint64(n)
	return n
}

// next is when the next frame leaves.
func (p *pipe) next() (at int64, ok bool) {
	if len(p.line) == 0 {
		return 0, false
	}
	return p.line[0].at, true
}

// drop frees all that is on the way.
func (p *pipe) drop() {
	for _, x := range p.line {
		x.frame.Free()
	}
	clear(p.line)
	p.line, p.storage = p.line[:0], 0
}

func (p *pipe) counts() Counts {
	c := p.count
	c.Waiting = len(p.line)
	return c
}

func (p *pipe) push(x parked) {
	h := append(p.line, x)
	i := len(h) - 1
	for i > 0 && x.before(h[(i-1)/2]) {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = x
	p.line = h
}

func (p *pipe) pop() *packet.Buf {
	h := p.line
	first, n := h[0].frame, len(h)-1
	x := h[n]
	h[n] = parked{}
	h = h[:n]
	for i := 0; n > 0; {
		c := 2*i + 1
		if c+1 < n && h[c+1].before(h[c]) {
			c++
		}
		if c >= n || x.before(h[c]) {
			h[i] = x
			break
		}
		h[i] = h[c]
		i = c
	}
	p.line = h
	return first
}

// mark sets "congestion experienced" in an IP header of ECN-capable transport
// and reports whether it was one (RFC 3168 §5: 01 and 10 are capable, 11 is the
// mark, 00 is not capable).
func mark(frame []byte) bool {
	at := l3(frame)
	if len(frame) < at+packet.IPv4Len {
		return false
	}
	h := frame[at:]
	switch binary.BigEndian.Uint16(frame[at-2:]) {
	case packet.EtherIPv4:
		if h[1]&3 == 0 {
			return false
		}
		old := binary.BigEndian.Uint16(h)
		h[1] |= 3
		ip := packet.IPv4(h)
		binary.BigEndian.PutUint16(h[10:], packet.UpdateChecksum(ip.Checksum(), old, binary.BigEndian.Uint16(h)))
	case packet.EtherIPv6: // the traffic class is in octets 0 and 1, its ECN field in bits 4 and 5 of the second (RFC 8200 §3)
		if h[1]&0x30 == 0 {
			return false
		}
		h[1] |= 0x30
	default:
		return false
	}
	return true
}
