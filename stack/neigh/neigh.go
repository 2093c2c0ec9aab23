// Package neigh is what the resolvers of both families share: packets that wait
// for a neighbour, the choice of a neighbour to forget, what may be told of one,
// and a bound on what stations can have us log.
package neigh

import (
	"sync"
	"sync/atomic"

	"ionet/stack/cmap"
	"ionet/stack/packet"
)

const second = int64(1e9)

// Change is what has become of a neighbour.
type Change uint8

const (
	Found  Change = iota + 1 // its link address is known now
	Moved                    // it has another link address, or has been put in by hand anew
	Lost                     // its link address is known no more
	Silent                   // it was asked for in vain
)

// MaxHeld bounds the packets that wait for one neighbour; the oldest goes. The
// fragments of one largest datagram over Ethernet, 45, have room.
const MaxHeld = 64

// MaxHeldOctets bounds the storage of all packets that wait in one room, so
// that a scan of a large network does not use up the stack's buffers; full: the
// newcomer goes.
const MaxHeldOctets = 8 << 20

// Budget is the storage, in octets, that waits in one room.
type Budget struct{ octets atomic.Int64 }

// Queue is the packets that wait for one neighbour, whose lock guards it.
type Queue struct{ held []*packet.Buf }

// Hold has pkt wait, and answers the packet that goes for it: none, the oldest,
// or pkt itself.
func (q *Queue) Hold(b *Budget, pkt *packet.Buf) (old *packet.Buf) {
	grow := int64(pkt.Cap())
	if len(q.held) >= MaxHeld {
		old = q.held[0]
		grow -= int64(old.Cap())
	}
	if b.octets.Add(grow) > MaxHeldOctets && grow > 0 {
		b.octets.Add(-grow)
		return pkt
	}
	if old != nil {
		q.held = append(q.held[:0], q.held[1:]...)
	}
	q.held = append(q.held, pkt)
	return old
}

// Release takes what waits, the oldest first.
func (q *Queue) Release(b *Budget) []*packet.Buf {
	held := q.held
	q.held = nil
	for _, p := range held {
		b.octets.Add(-int64(p.Cap()))
	}
	return held
}

// First is the packet that waits longest; nil: none does.
func (q *Queue) First() *packet.Buf {
	if len(q.held) == 0 {
		return nil
	}
	return q.held[0]
}

// sample is how many places of the table Victim looks at: of so many at random,
// a station that fills the table has most.
const sample = 16

// Victim is, among some entries of m chosen at random, the one that is missed
// least: the one of highest rank, and among those the one with the earliest
// time. An entry of rank 0 stays. ok is false when all that were looked at stay.
func Victim[E comparable](m *cmap.Map[E], rand func() uint32, rank func(E) (rank int, at int64)) (victim E, ok bool) {
	worst, oldest := 0, int64(0)
	for range sample {
		b := m.Bucket(uint64(rand()))
		for i := range b.Len() {
			_, e := b.At(i)
			r, at := rank(e)
			if r > worst || r == worst && r > 0 && at < oldest {
				victim, worst, oldest = e, r, at
			}
		}
	}
	return victim, worst > 0
}

// maxLines bounds the lines of a log a second.
const maxLines = 10

// Loudness bounds what stations can have us log.
type Loudness struct {
	mu    sync.Mutex
	since int64
	lines int
}

// Quiet reports that a line at time now is one too many.
func (l *Loudness) Quiet(now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now-l.since >= second {
		l.since, l.lines = now, 0
	}
	l.lines++
	return l.lines > maxLines
}
