package tcp

import (
	"ionet/stack/packet"
)

// recvQueue is what has come in order and waits for the user: the packets
// themselves, their windows the payload. Owner: the connection. Bound: hiwat
// octets, which is what the peer is offered; what comes beyond that is trimmed.
// Full in storage (twice hiwat): the octets move together; when that does not
// help, the packet is dropped and counted.
type recvQueue struct {
	head, tail *packet.Buf
	len        int // octets
	charge     int
	hiwat      int
	mark       int32 // octets until the urgent mark; -1: none
	// Receive buffer tuning: what the user took since tunedAt.
	taken   int32
	tunedAt int64
}

// space is what may still come.
func (q *recvQueue) space() int { return max(q.hiwat-q.len, 0) }

// link appends a packet.
func (q *recvQueue) link(p *packet.Buf) {
	p.Next = nil
	if q.tail == nil {
		q.head = p
	} else {
		q.tail.Next = p
	}
	q.tail = p
	q.len += p.Len()
}

// take unlinks the first packet.
func (q *recvQueue) take() *packet.Buf {
	p := q.head
	if q.head = p.Next; q.head == nil {
		q.tail = nil
	}
	p.Next = nil
	q.len -= p.Len()
	return p
}

// drop frees all.
func (q *recvQueue) drop(c *conn) {
	c.So.Charge(-q.charge)
	q.charge = 0
	for q.head != nil {
		q.take().Free()
	}
	q.mark = -1
}

// collapse moves the octets together when their storage is more than twice what
// they need: super-packets that are mostly empty, or have been read in part.
// Each octet is copied again only when as much waste has come after it.
func (q *recvQueue) collapse(c *conn) {
	if q.charge < 2*q.len || q.head == nil {
		return
	}
	left, before := q.len, q.charge
	list := q.head
	q.head, q.tail, q.len, q.charge = nil, nil, 0, 0
	for p := list; p != nil; {
		next, n := p.Next, p.Len()
		p.Next = nil
		if t := q.tail; t != nil && !t.Shared() && n <= t.Tailroom() {
			copy(t.Append(n), p.Bytes())
			q.len += n
			p.Free()
		} else if fresh := q.fresh(c, p, left); fresh != nil {
			copy(fresh.Append(n), p.Bytes())
			p.Free()
			q.charge += fresh.Cap()
			q.link(fresh)
		} else {
			q.charge += p.Cap()
			q.link(p)
		}
		left -= n
		p = next
	}
	c.So.Charge(q.charge - before)
}

// fresh is a buffer for p's octets and what follows, if that is smaller than p
// or has room for more than p.
func (q *recvQueue) fresh(c *conn, p *packet.Buf, left int) *packet.Buf {
	if 2*p.Len() >= p.Cap() {
		return nil
	}
	return c.t.env.Pool.Get(max(min(left, packet.MaxPacket), p.Len()))
}

// reassembly is what has come out of order: one range or more that do not
// touch, in order, each a list of packets. Owner: the connection. Bound: with
// the receive queue, and maxRanges; full: the highest goes (RFC 2018 §8 allows
// it).
type reassembly struct {
	ranges []rng
	charge int
	// recent are the beginnings of the ranges that changed last, the last of
	// all first: what an ACK says is in the next ones too, as ACKs are lost.
	recent [3]seq
}

type rng struct {
	from, to   seq
	head, tail *packet.Buf
	fin        bool // the peer's FIN is its last octet
}

// maxRanges bounds the holes that a peer can make us keep.
const maxRanges = 256

func (r *rng) free() (charge int) {
	for p := r.head; p != nil; {
		next := p.Next
		p.Next = nil
		charge += p.Cap()
		p.Free()
		p = next
	}
	return charge
}

func (a *reassembly) drop(c *conn) {
	for i := range a.ranges {
		a.ranges[i].free()
	}
	c.So.Charge(-a.charge)
	a.ranges, a.charge = nil, 0
}

// last is the highest range.
func (a *reassembly) last() *rng { return &a.ranges[len(a.ranges)-1] }

// pruneLast gives up the highest range.
func (a *reassembly) pruneLast(c *conn) {
	n := len(a.ranges) - 1
	k := a.ranges[n].free()
	a.charge -= k
	c.So.Charge(-k)
	a.ranges[n] = rng{}
	a.ranges = a.ranges[:n]
}

// add takes over packet p with the octets [from, from+len) and perhaps the FIN
// behind them. What is there already stays. dup is the first range of octets
// that were there, for a DSACK (RFC 2883).
func (a *reassembly) add(c *conn, p *packet.Buf, from seq, fin bool) (dup packet.SACKBlock) {
	to := from + seq(p.Len())
	end := to
	if fin {
		end++
	}
	// The first range that reaches up to from; in nearly every case the last.
	i := len(a.ranges)
	for i > 0 && a.ranges[i-1].to.geq(from) {
		i--
	}
	if i < len(a.ranges) && a.ranges[i].from.leq(from) { // it goes on here, or begins inside
		r := &a.ranges[i]
		if r.fin || r.to.geq(end) { // nothing new, or nothing may follow
			a.changed(r)
			p.Free()
			return packet.SACKBlock{Start: uint32(from), End: uint32(minSeq(end, r.to))}
		}
		if over := r.to - from; over > 0 {
			dup = packet.SACKBlock{Start: uint32(from), End: uint32(r.to)}
			over = seq(min(uint32(over), uint32(p.Len())))
			p.TrimFront(int(over))
			from += over
		}
	} else {
		a.ranges = append(a.ranges, rng{})
		copy(a.ranges[i+1:], a.ranges[i:])
		a.ranges[i] = rng{from: from, to: from}
	}
	r := &a.ranges[i]
	// What follows and begins inside the new octets goes: the new packet has
	// all of it, or ends where that begins.
	for i+1 < len(a.ranges) && a.ranges[i+1].from.lt(end) {
		next := &a.ranges[i+1]
		if dup == (packet.SACKBlock{}) {
			dup = packet.SACKBlock{Start: uint32(next.from), End: uint32(minSeq(next.to, end))}
		}
		if next.to.leq(end) && !next.fin {
			k := next.free()
			a.charge -= k
			c.So.Charge(-k)
			a.cut(i + 1)
			continue
		}
		p.TrimTo(int(next.from - from))
		end, fin = next.from, false
	}
	p = p.Shrink()
	a.charge += p.Cap()
	c.So.Charge(p.Cap())
	p.Next = nil
	if r.tail == nil {
		r.head = p
	} else {
		r.tail.Next = p
	}
	r.tail, r.to, r.fin = p, end, fin
	if i+1 < len(a.ranges) && a.ranges[i+1].from == r.to { // they touch now
		next := a.ranges[i+1]
		r.tail.Next = next.head
		r.tail, r.to, r.fin = next.tail, next.to, next.fin
		a.cut(i + 1)
	}
	a.changed(r)
	return dup
}

// changed puts a range at the head of those of which the peer hears first.
func (a *reassembly) changed(r *rng) {
	old, n := a.recent, 1
	a.recent[0] = r.from
	for _, q := range old {
		if n < len(a.recent) && (q.lt(r.from) || q.geq(r.to)) {
			a.recent[n] = q
			n++
		}
	}
}

// holding is the index of the range that holds q, or -1.
func (a *reassembly) holding(q seq) int {
	lo, hi := 0, len(a.ranges)
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); a.ranges[m].to.gt(q) {
			hi = m
		} else {
			lo = m + 1
		}
	}
	if lo < len(a.ranges) && a.ranges[lo].from.leq(q) {
		return lo
	}
	return -1
}

func (a *reassembly) cut(i int) {
	copy(a.ranges[i:], a.ranges[i+1:])
	a.ranges[len(a.ranges)-1] = rng{}
	a.ranges = a.ranges[:len(a.ranges)-1]
}

// blocks writes the SACK blocks, those that changed last first (RFC 2018 §4)
// and then the highest, and answers how many there are.
func (a *reassembly) blocks(b []packet.SACKBlock) (n int) {
	put := func(i int) {
		if i < 0 || n == len(b) {
			return
		}
		next := packet.SACKBlock{Start: uint32(a.ranges[i].from), End: uint32(a.ranges[i].to)}
		for _, have := range b[:n] {
			if have == next {
				return
			}
		}
		b[n] = next
		n++
	}
	for _, q := range a.recent {
		put(a.holding(q))
	}
	for i := len(a.ranges) - 1; i >= 0 && n < len(b); i-- {
		put(i)
	}
	return n
}
