package inet

import (
	"net/netip"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	reassTime    = 30 * second // IPFRAGTTL
	reassMaxFrag = 3000        // fragments of one datagram: 65,535/24 and some
	reassMemory  = 4 << 20     // octets of storage in all of them
)

type reassKey struct {
	src, dst netip.Addr
	id       uint16
	proto    uint8
}

// reassembly is the store of unfinished datagrams. Owner: the stack. Bound:
// maxfragpackets datagrams and reassMemory octets; full: the oldest datagram
// goes.
type reassembly struct {
	in     *Inet
	mu     sync.Mutex
	queues map[reassKey]*reassQueue
	oldest reassQueue // head of the list in order of arrival
	memory int
}

type reassQueue struct {
	key        reassKey
	next, prev *reassQueue
	frags      []fragment // in order of offset, not overlapping
	have       int        // payload octets present
	total      int        // payload octets of the whole; -1: not known yet
	memory     int
	timer      callout.Timer[*netif.Work]
	gone       bool
}

type fragment struct {
	off, end int
	pkt      *packet.Buf
}

func (r *reassembly) init(in *Inet) {
	r.in, r.queues = in, map[reassKey]*reassQueue{}
	r.oldest.next, r.oldest.prev = &r.oldest, &r.oldest
}

// add takes a fragment and answers the whole datagram if this was the last
// piece. Overlapping pieces are an attack and end the datagram (RFC 5722 for
// IPv6; the same here), an exact duplicate is only dropped.
func (r *reassembly) add(w *netif.Work, p *packet.Buf, h packet.IPv4) *packet.Buf {
	hlen := h.HeaderLen()
	off, n, more := h.FragOff(), h.TotalLen()-hlen, h.MF()
	if n == 0 || more && n%8 != 0 || off+n+hlen > maxDatagram {
		w.Drop(p, cntFragBad)
		return nil
	}
	limit := int(r.in.env.MIB.Int(nodeMaxFrags))
	if limit == 0 {
		w.Drop(p, cntFragDrop)
		return nil
	}
	key := reassKey{h.Src(), h.Dst(), h.ID(), h.Proto()}
	p = p.Shrink() // h is gone
	var dead []*reassQueue
	r.mu.Lock()
	q := r.queues[key]
	if q == nil {
		for len(r.queues) >= limit {
			dead = append(dead, r.unlink(r.oldest.next))
		}
		q = r.newQueue(w, key)
	}
	at, dup, bad := q.place(off, off+n, more)
	switch {
	case dup:
		r.mu.Unlock()
		w.Drop(p, cntFragDrop)
		p = nil
	case bad || len(q.frags) >= reassMaxFrag:
		dead = append(dead, r.unlink(q))
		r.mu.Unlock()
		w.Drop(p, cntFragBad)
		p = nil
	default:
		q.insert(at, fragment{off, off + n, p})
		q.memory += p.Cap()
		r.memory += p.Cap()
		if !more {
			q.total = off + n
		}
		done := q.have == q.total
		if done {
			r.unlink(q)
		}
		for r.memory > reassMemory && r.oldest.next != &r.oldest {
			dead = append(dead, r.unlink(r.oldest.next))
		}
		r.mu.Unlock()
		p = nil
		if done {
			p = r.join(w, q)
		}
	}
	for _, d := range dead {
		for _, f := range d.frags {
			w.Drop(f.pkt, cntFragDrop)
		}
	}
	return p
}

func (r *reassembly) newQueue(w *netif.Work, key reassKey) *reassQueue {
	q := &reassQueue{key: key, total: -1}
	q.timer.Fn = func(w *netif.Work) { r.timeout(w, q) }
	r.queues[key] = q
	q.prev, q.next = r.oldest.prev, &r.oldest
	q.prev.next, q.next.prev = q, q
	r.in.env.Wheel.Reset(&q.timer, w.Now+reassTime)
	return q
}

// unlink takes q out of the store; the fragments are the caller's.
func (r *reassembly) unlink(q *reassQueue) *reassQueue {
	q.gone = true
	delete(r.queues, q.key)
	q.prev.next, q.next.prev = q.next, q.prev
	r.memory -= q.memory
	r.in.env.Wheel.Stop(&q.timer)
	return q
}

// place finds where [off, end) belongs. bad: it overlaps another piece, or
// contradicts the end of the datagram.
func (q *reassQueue) place(off, end int, more bool) (at int, dup, bad bool) {
	for at < len(q.frags) && q.frags[at].off < off {
		at++
	}
	if at < len(q.frags) && q.frags[at].off == off && q.frags[at].end == end {
		return at, true, false
	}
	if at > 0 && q.frags[at-1].end > off || at < len(q.frags) && q.frags[at].off < end {
		return at, false, true
	}
	last := 0
	if k := len(q.frags); k > 0 {
		last = q.frags[k-1].end
	}
	switch {
	case q.total >= 0 && (end > q.total || !more && end != q.total):
		bad = true
	case !more && last > end:
		bad = true
	}
	return at, false, bad
}

func (q *reassQueue) insert(at int, f fragment) {
	q.frags = append(q.frags, fragment{})
	copy(q.frags[at+1:], q.frags[at:])
	q.frags[at] = f
	q.have += f.end - f.off
}

// join makes one datagram of the pieces, with the first one's header.
func (r *reassembly) join(w *netif.Work, q *reassQueue) *packet.Buf {
	first := packet.IPv4(q.frags[0].pkt.Bytes())
	hlen := first.HeaderLen()
	out := r.in.env.Pool.Get(hlen + q.total)
	if out == nil || hlen+q.total > maxDatagram {
		if out != nil {
			out.Free()
		}
		for _, f := range q.frags {
			w.Drop(f.pkt, cntFragDrop)
		}
		return nil
	}
	copy(out.Append(hlen), first[:hlen])
	for _, f := range q.frags {
		copy(out.Append(f.end-f.off), packet.IPv4(f.pkt.Bytes()).Payload())
	}
	p := q.frags[0].pkt
	out.Time, out.RcvIf, out.Flags = p.Time, p.RcvIf, p.Flags
	for _, f := range q.frags {
		f.pkt.Free()
	}
	h := packet.IPv4(out.Bytes())
	h.SetTotalLen(out.Len())
	h.SetFrag(0)
	h.SetChecksum()
	out.MarkL3(0)
	w.Count(cntReassembled)
	return out
}

// timeout ends an unfinished datagram; its sender is told if the first piece
// is here (RFC 1122 §3.3.2).
func (r *reassembly) timeout(w *netif.Work, q *reassQueue) {
	r.mu.Lock()
	if q.gone {
		r.mu.Unlock()
		return
	}
	r.unlink(q)
	r.mu.Unlock()
	if len(q.frags) > 0 && q.frags[0].off == 0 {
		r.in.sendError(w, q.frags[0].pkt, packet.ICMPTimeExceeded, packet.ICMPTimeReassembly, 0)
	}
	for _, f := range q.frags {
		w.Drop(f.pkt, cntFragTime)
	}
}

// drain ends every unfinished datagram.
func (r *reassembly) drain(w *netif.Work) {
	for {
		r.mu.Lock()
		q := r.oldest.next
		if q == &r.oldest {
			r.mu.Unlock()
			return
		}
		r.unlink(q)
		r.mu.Unlock()
		for _, f := range q.frags {
			w.Drop(f.pkt, cntFragTime)
		}
	}
}
