// Package reass puts the fragments of datagrams together again, for IPv4 (RFC
// 791 §3.2, RFC 815) and IPv6 (RFC 8200 §4.5, RFC 5722).
package reass

import (
	"net/netip"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	mostFragments = 3000    // of one datagram: 65,535/24 and some
	mostMemory    = 4 << 20 // octets of storage in all of them
)

// Key says which datagram a fragment is of.
type Key struct {
	Src, Dst netip.Addr
	ID       uint32
	Proto    uint8 // IPv4 alone
	Sec      any   // what protected it: fragments in clear do not join others (RFC 4301 §7)
}

// Config is what the family decides.
type Config struct {
	Env   *netif.Env
	Limit *mib.Node // datagrams at most; 0: none
	Time  int64     // nanoseconds that a datagram may take

	Dropped, Bad, TimedOut, Joined mib.Counter

	// Expired is told of the first fragment of a datagram that did not become whole in
	// time; it only looks at it.
	Expired func(w *netif.Work, first *packet.Buf)
}

// Store is the unfinished datagrams. Owner: the stack. Bound: Limit datagrams
// and 4 MiB; full: the oldest datagram goes.
type Store struct {
	Config
	mu     sync.Mutex
	queues map[Key]*queue
	oldest queue // head of the list in order of arrival
	memory int
}

type queue struct {
	key        Key
	next, prev *queue
	frags      []fragment // in order of offset, not overlapping
	have       int        // payload octets present
	total      int        // payload octets of the whole; -1: not known yet
	memory     int
	timer      callout.Timer[*netif.Work]
	gone       bool
}

type fragment struct {
	off, end int
	Piece
	pkt *packet.Buf
}

// Init makes the store ready.
func (r *Store) Init(c Config) {
	r.Config, r.queues = c, map[Key]*queue{}
	r.oldest.next, r.oldest.prev = &r.oldest, &r.oldest
}

// Piece is where a fragment belongs.
type Piece struct {
	Off, Len int   // of the datagram's payload
	More     bool  // others follow
	Head     int   // octets of the packet's window in front of the payload
	Keep     int   // of these, those that the whole begins with if this is its first piece
	NextAt   int   // IPv6: where the kept headers say what comes behind them,
	Next     uint8 // and what that will be
}

// Add takes a fragment and answers the whole datagram if this was the last
// piece: the kept headers of its first, not yet mended, and the payload; and that first
// piece, whose headers need not be as long as the last one's. A piece that
// overlaps others is an attack and ends the datagram (RFC 5722; the same for
// IPv4), an exact duplicate is only dropped.
func (r *Store) Add(w *netif.Work, key Key, f Piece, p *packet.Buf) (*packet.Buf, Piece) {
	limit := int(r.Env.MIB.Int(r.Limit))
	if limit == 0 {
		w.Drop(p, r.Dropped)
		return nil, Piece{}
	}
	p = p.Shrink()
	end := f.Off + f.Len
	var dead []*queue
	r.mu.Lock()
	q := r.queues[key]
	if q == nil {
		for len(r.queues) >= limit {
			dead = append(dead, r.unlink(r.oldest.next))
		}
		q = r.newQueue(w, key)
	}
	at, dup, bad := q.place(f.Off, end, f.More)
	switch {
	case dup:
		r.mu.Unlock()
		w.Drop(p, r.Dropped)
		p = nil
	case bad || len(q.frags) >= mostFragments:
		dead = append(dead, r.unlink(q))
		r.mu.Unlock()
		w.Drop(p, r.Bad)
		p = nil
	default:
		q.insert(at, fragment{f.Off, end, f, p})
		q.memory += p.Cap()
		r.memory += p.Cap()
		if !f.More {
			q.total = end
		}
		done := q.have == q.total
		if done {
			r.unlink(q)
		}
		for r.memory > mostMemory && r.oldest.next != &r.oldest {
			dead = append(dead, r.unlink(r.oldest.next))
		}
		r.mu.Unlock()
		p = nil
		if done {
			p, f = r.join(w, q), q.frags[0].Piece
		}
	}
	for _, d := range dead {
		for _, f := range d.frags {
			w.Drop(f.pkt, r.Dropped)
		}
	}
	return p, f
}

func (r *Store) newQueue(w *netif.Work, key Key) *queue {
	q := &queue{key: key, total: -1}
	q.timer.Fn = func(w *netif.Work) { r.timeout(w, q) }
	r.queues[key] = q
	q.prev, q.next = r.oldest.prev, &r.oldest
	q.prev.next, q.next.prev = q, q
	r.Env.Wheel.Reset(&q.timer, w.Now+r.Time)
	return q
}

// unlink takes q out of the store; the fragments are the caller's.
func (r *Store) unlink(q *queue) *queue {
	q.gone = true
	delete(r.queues, q.key)
	q.prev.next, q.next.prev = q.next, q.prev
	r.memory -= q.memory
	r.Env.Wheel.Stop(&q.timer)
	return q
}

// place finds where [off, end) belongs. bad: it overlaps another piece, or
// contradicts the end of the datagram.
func (q *queue) place(off, end int, more bool) (at int, dup, bad bool) {
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

func (q *queue) insert(at int, f fragment) {
	q.frags = append(q.frags, fragment{})
	copy(q.frags[at+1:], q.frags[at:])
	q.frags[at] = f
	q.have += f.end - f.off
}

// join makes one datagram of the pieces, with the first one's headers.
func (r *Store) join(w *netif.Work, q *queue) *packet.Buf {
	first := q.frags[0]
	if first.Keep+q.total > packet.MaxPacket {
		return r.giveUp(w, q)
	}
	out := r.Env.Pool.Get(first.Keep + q.total)
	if out == nil {
		return r.giveUp(w, q)
	}
	copy(out.Append(first.Keep), first.pkt.Bytes())
	for _, f := range q.frags {
		copy(out.Append(f.end-f.off), f.pkt.Bytes()[f.Head:])
	}
	p := first.pkt
	out.Time, out.RcvIf, out.Flags, out.Sec = p.Time, p.RcvIf, p.Flags, p.Sec
	for _, f := range q.frags {
		f.pkt.Free()
	}
	out.MarkL3(0)
	w.Count(r.Joined)
	return out
}

func (r *Store) giveUp(w *netif.Work, q *queue) *packet.Buf {
	for _, f := range q.frags {
		w.Drop(f.pkt, r.Dropped)
	}
	return nil
}

// timeout ends an unfinished datagram.
func (r *Store) timeout(w *netif.Work, q *queue) {
	r.mu.Lock()
	if q.gone {
		r.mu.Unlock()
		return
	}
	r.unlink(q)
	r.mu.Unlock()
	if len(q.frags) > 0 && q.frags[0].off == 0 {
		r.Expired(w, q.frags[0].pkt)
	}
	for _, f := range q.frags {
		w.Drop(f.pkt, r.TimedOut)
	}
}

// Drain ends every unfinished datagram.
func (r *Store) Drain(w *netif.Work) {
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
			w.Drop(f.pkt, r.TimedOut)
		}
	}
}
