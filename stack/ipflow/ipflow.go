// Package ipflow is the fast path of forwarding (ip_flow.c's idea): the slow
// path writes down what it has decided for a flow, and what follows goes the
// same way with one look.
//
// Nothing is invalidated here. What a decision was made from has a generation,
// which changes with every change of routes, addresses, rules and settings, and a
// decision of another generation does not count. What changes more often than that
// is asked for every packet where it is: the neighbour, the state of
// the interface, and, with a filter, its [pfil.Tracker].
//
// The walk of a burst ([Table.Forward]), every step for all of its packets before
// the next, so that what one waits for from memory is on its way for the others
// too:
//
//	1 peek     is it plain? which flow? its place is asked for      forward.go
//	2 find     where to?
//	3 take     neighbour, interface, size, filter; framed, transmitted
//
// Whoever is not plain, or of no known flow, stays in the burst for the slow path.
package ipflow

import (
	"math/bits"
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/route"
)

// MaxFlows is the most that maxflows may be.
const MaxFlows = 1 << 24

// ways is how many flows share a place.
const ways = 2

// Table is the flows of one version of IP. The zero table is off.
type Table struct {
	// V6 says which version; set at assembly.
	V6    bool
	key   uint64
	flows atomic.Pointer[flows] // nil: off
}

type flows struct {
	sets []set
	cold []cold // sets[i].way[j] has cold[i*ways+j]
}

// set is a place: two cache lines that lie side by side.
type set [ways]slot

// slot is one flow in 64 octets: what most packets need lies in one line, since with
// many flows it is far away for nearly each of them. It is read without a lock and is right
// only if its sequence number is even and the same before and after.
type slot struct {
	seq, gen     atomic.Uint32
	srcHi, srcLo atomic.Uint64
	dstHi, dstLo atomic.Uint64
	rest         atomic.Uint64 // ports, interface, protocol; 0: none yet
	near         atomic.Pointer[netif.Neighbour]
	mtu          atomic.Uint32 // twice, and 1 with a Tracker
	hits         atomic.Uint32 // packets that the route has not been told of
}

// cold is what is seldom asked for of a flow.
type cold struct {
	track atomic.Pointer[pfil.Tracker]
	use   atomic.Pointer[route.Entry]
}

// Way is where the packets of a flow go.
type Way struct {
	Near  *netif.Neighbour
	Use   route.Handle
	MTU   int
	Track pfil.Tracker // nil: nobody is to be asked
}

// rest is what tells flows apart besides their addresses.
func rest(f *packet.Flow) uint64 {
	return uint64(f.Sport)<<48 | uint64(f.Dport)<<32 | uint64(f.If)<<16 | uint64(f.Proto)<<8 | 1
}

// Resize makes room for at least n flows, rounded up to a power of two; 0 turns
// the fast path off. Flows start anew. The key is random.
func (t *Table) Resize(n int, key uint64) {
	t.Collect()
	if n <= 0 {
		t.flows.Store(nil)
		return
	}
	places := 1 << bits.Len(uint((n-1)/ways))
	t.key = key
	t.flows.Store(&flows{make([]set, places), make([]cold, places*ways)})
}

// Forget begins with no flows.
func (t *Table) Forget() {
	if fl := t.flows.Load(); fl != nil {
		t.Resize(len(fl.cold), t.key)
	}
}

// Collect tells routes of the packets that went by them on the fast path.
func (t *Table) Collect() {
	fl := t.flows.Load()
	if fl == nil {
		return
	}
	for i := range fl.cold {
		if s := &fl.sets[i/ways][i%ways]; s.hits.Load() != 0 {
			fl.cold[i].use.Load().Used(uint64(s.hits.Swap(0)))
		}
	}
}

func place(n int, hash uint64) uint64 { return hash & uint64(n-1) }

// is reports whether the slot is f's, whatever its generation.
func (s *slot) is(f *packet.Flow, r uint64) bool {
	return s.rest.Load() == r && s.srcLo.Load() == f.SrcLo && s.dstLo.Load() == f.DstLo &&
		s.srcHi.Load() == f.SrcHi && s.dstHi.Load() == f.DstHi
}

// get answers where the packets of f go; near is nil when nothing is known that
// is right in generation gen.
func (s *slot) get(f *packet.Flow, r uint64, gen uint32) (near *netif.Neighbour, mtu uint32) {
	n := s.seq.Load()
	if n&1 != 0 || s.gen.Load() != gen || !s.is(f, r) {
		return nil, 0
	}
	near, mtu = s.near.Load(), s.mtu.Load()
	if s.seq.Load() != n {
		return nil, 0
	}
	return near, mtu
}

// victim is the slot for a newcomer: its own, one of another generation, or
// the one that is used less, whose fame fades meanwhile.
func (s *set) victim(f *packet.Flow, r uint64, gen uint32) int {
	switch {
	case s[0].is(f, r):
		return 0
	case s[1].is(f, r), s[1].gen.Load() != gen:
		return 1
	case s[0].gen.Load() != gen, s[0].hits.Load() < s[1].hits.Load():
		return 0
	}
	return 1
}

// Note writes down where the packets of f go, which was decided in generation
// gen. Who finds the place busy goes without.
func (t *Table) Note(f *packet.Flow, gen uint64, way *Way) {
	fl := t.flows.Load()
	if fl == nil {
		return
	}
	at, r := place(len(fl.sets), f.Hash(t.key)), rest(f)
	set := &fl.sets[at]
	i := set.victim(f, r, uint32(gen))
	s, c := &set[i], &fl.cold[int(at)*ways+i]
	n := s.seq.Load()
	if n&1 != 0 || !s.seq.CompareAndSwap(n, n+1) {
		return
	}
	c.use.Load().Used(uint64(s.hits.Swap(0)))
	c.use.Store(way.Use)
	mtu := uint32(way.MTU) << 1
	if way.Track != nil {
		k := way.Track
		c.track.Store(&k)
		mtu |= 1
	} else if c.track.Load() != nil {
		c.track.Store(nil)
	}
	s.gen.Store(uint32(gen))
	s.rest.Store(r)
	s.srcHi.Store(f.SrcHi)
	s.srcLo.Store(f.SrcLo)
	s.dstHi.Store(f.DstHi)
	s.dstLo.Store(f.DstLo)
	s.near.Store(way.Near)
	s.mtu.Store(mtu)
	s.seq.Store(n + 2)
}
