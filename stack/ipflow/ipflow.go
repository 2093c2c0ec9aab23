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
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/route"
)

// MaxFlows is the most that maxflows may be.
const MaxFlows = 1 << 24

// ways is how many flows share a place.
const ways = 4

// Table is the flows of one version of IP. The zero table is off.
type Table struct {
	// V6 says which version; set at assembly.
	V6 bool
	// Protect takes over packets that leave by an interface as a guard's policy says; set at assembly.
	Protect func(w *netif.Work, p *packet.Buf, out *netif.Interface, policy any)

	flows atomic.Pointer[flows] // nil: off
}

// flows are immutable but for what is in the places. Slots number themselves: place, then
// way.
type flows struct {
	key    uint64 // of the hash
	places []place
	slots  []slot
	cold   []cold
}

// place has a tag for each of its flows, 16 bits of the hash: it says which of the slots is
// worth to be fetched from far away, and is itself so small that a hundred thousand flows' lie near.
type place struct{ tags atomic.Uint64 }

// Of the tags in a word, the lowest bits and the highest.
const (
	tagOnes = 0x0001000100010001
	tagTops = 0x8000800080008000
)

// ways answers the ways whose tag is tag, as bits, way 0 the lowest. A way above one of them may be among
// them without reason.
func (c *place) ways(tag uint64) uint {
	x := c.tags.Load() ^ tag*tagOnes
	x = (x - tagOnes) &^ x & tagTops // the top bit of each tag that was alike
	return uint(x >> 15 * (1<<48 | 1<<33 | 1<<18 | 1<<3) >> 48 & 15)
}

// set writes the tag of a way.
func (c *place) set(way int, tag uint64) {
	for shift := way * 16; ; {
		old := c.tags.Load()
		if c.tags.CompareAndSwap(old, old&^(0xffff<<shift)|tag<<shift) {
			return
		}
	}
}

// slot is one flow in 64 octets: what most packets need lies in one line, since with
// many flows it is far away for nearly each of them. It is read without a lock and is right
// only if its sequence number is even and the same before and after.
type slot struct {
	seq, gen     atomic.Uint32
	srcHi, srcLo atomic.Uint64
	dstHi, dstLo atomic.Uint64
	rest         atomic.Uint64 // ports, interface, protocol; 0: none yet
	near         atomic.Pointer[netif.Neighbour]
	mtu          atomic.Uint32 // shifted by flagBits
	hits         atomic.Uint32 // packets that the route has not been told of
}

// Of a slot's mtu: who is to be asked about each packet.
const (
	tracked  = 1
	guarded  = 2
	flagBits = 2
)

// cold is what is seldom asked for of a flow.
type cold struct {
	track atomic.Pointer[pfil.Tracker]
	guard atomic.Pointer[pfil.Guard]
	use   atomic.Pointer[route.Entry]
}

// Way is where the packets of a flow go: what the slow path has decided for one of them.
type Way struct {
	In, Out *netif.Interface
	NextHop netip.Addr
	MTU     int
	Use     route.Handle
	// Filter is who was asked about it, or nil; Gen is the generation of all that
	// was asked, read before it.
	Filter pfil.Filter
	Guard  pfil.Guard // or nil
	Gen    uint64
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
	t.flows.Store(&flows{key, make([]place, places), make([]slot, places*ways), make([]cold, places*ways)})
}

// Forget begins with no flows.
func (t *Table) Forget() {
	if fl := t.flows.Load(); fl != nil {
		t.Resize(len(fl.cold), fl.key)
	}
}

// Collect tells routes of the packets that went by them on the fast path.
func (t *Table) Collect() {
	fl := t.flows.Load()
	if fl == nil {
		return
	}
	for i := range fl.cold {
		fl.tell(i)
	}
}

// at is the number of a flow's place, and its tag, which is not 0.
func (fl *flows) at(f *packet.Flow) (place uint, tag uint64) {
	h := f.Hash(fl.key)
	return uint(h) & uint(len(fl.places)-1), h>>48 | 1
}

// tell has the route of a slot know of its packets.
func (fl *flows) tell(n int) {
	if s := &fl.slots[n]; s.hits.Load() != 0 {
		fl.cold[n].use.Load().Used(uint64(s.hits.Swap(0)))
	}
}

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

// victim is the way for a newcomer: its own, one of another generation, or
// the one that was used least since the last newcomer.
func victim(slots []slot, f *packet.Flow, r uint64, gen uint32) (way int) {
	least := uint32(math.MaxUint32)
	for i := range slots {
		s := &slots[i]
		if s.is(f, r) {
			return i
		}
		n := s.hits.Load()
		if s.rest.Load() == 0 || s.gen.Load() != gen {
			n = 0
		} else {
			n = min(n, math.MaxUint32-2) + 1
		}
		if n < least {
			way, least = i, n
		}
	}
	return way
}

// Note writes down where the packets that follow p go, which came as p.Came says
// and is looked at as it leaves. It goes without if the neighbour is not known, the
// filter wants to see each of them, or somebody else writes to the place.
func (t *Table) Note(w *netif.Work, p *packet.Buf, way *Way) {
	fl := t.flows.Load()
	if fl == nil || way.Out.Neighbour == nil {
		return
	}
	near := way.Out.Neighbour(way.Out, way.NextHop)
	if near == nil {
		return
	}
	var track pfil.Tracker
	if way.Filter != nil {
		var ok bool
		if track, ok = way.Filter.Track(w, way.In, way.Out, &p.Came, p); !ok {
			return
		}
	}
	fl.note(&p.Came, uint32(way.Gen), near, way, track)
}

func (fl *flows) note(f *packet.Flow, gen uint32, near *netif.Neighbour, way *Way, track pfil.Tracker) {
	place, tag := fl.at(f)
	at, r := int(place)*ways, rest(f)
	i := victim(fl.slots[at:at+ways], f, r, gen)
	s, c := &fl.slots[at+i], &fl.cold[at+i]
	n := s.seq.Load()
	if n&1 != 0 || !s.seq.CompareAndSwap(n, n+1) {
		return
	}
	for k := range ways { // and both begin again, or who was used once stayed for ever
		fl.tell(at + k)
	}
	c.use.Store(way.Use)
	mtu := uint32(way.MTU) << flagBits
	if track != nil {
		k := track // an allocation, of a flow with a Tracker alone
		c.track.Store(&k)
		mtu |= tracked
	} else if c.track.Load() != nil {
		c.track.Store(nil)
	}
	if g := way.Guard; g != nil {
		c.guard.Store(&g)
		mtu |= guarded
	} else if c.guard.Load() != nil {
		c.guard.Store(nil)
	}
	s.gen.Store(gen)
	s.rest.Store(r)
	s.srcHi.Store(f.SrcHi)
	s.srcLo.Store(f.SrcLo)
	s.dstHi.Store(f.DstHi)
	s.dstLo.Store(f.DstLo)
	s.near.Store(near)
	s.mtu.Store(mtu)
	fl.places[place].set(i, tag)
	s.seq.Store(n + 2)
}
