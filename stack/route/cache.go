package route

import (
	"net/netip"
	"sync/atomic"

	"ionet/stack/packet"
)

// A table remembers the answer for 4096 destinations, in sets of two: what is
// looked up for ever then seldom has another of its kind to give way to.
const lookSets = 2048

// cacheFrom is the number of routes from which remembering pays for its 200 KB:
// below, the LPM table is as fast over IPv4, and over IPv6 nearly.
const cacheFrom = 64

// regions is how many parts the address space has for the cache: a change of
// a route spoils what is remembered in its part, one of a short prefix all.
const (
	regionBits = 12
	regions    = 1 << regionBits
	// regionBits6 are the leading bits of an IPv6 address whose hash is its part:
	// those of what a registry allots. A prefix may lie in several parts; with fewer
	// bits than fewest6 it spoils all.
	regionBits6 = 32
	fewest6     = 24
)

// lookCache remembers look-ups: destination → entry, true for one generation
// of its region. A slot is read without a lock and is right only if its
// sequence number is even and the same before and after.
type lookCache struct {
	all    atomic.Uint64
	region [regions]atomic.Uint64
	sets   [lookSets]lookSet
}

// generation changes after every switch of sides that changed a route for an
// address of that key.
func (c *lookCache) generation(hi, lo uint64) uint64 {
	return c.all.Load() + c.region[regionOf(hi, lo)].Load()
}

// regionOf is the part of an address: the leading bits of an IPv4 address, a
// hash of those of an IPv6 address.
func regionOf(hi, lo uint64) uint64 {
	if hi == v4Key {
		return lo >> (32 - regionBits)
	}
	return hi >> (64 - regionBits6) * 0x9e3779b97f4a7c15 >> (64 - regionBits)
}

// spoil forgets what a change of the route to p may have made wrong.
func (c *lookCache) spoil(p netip.Prefix) {
	a, bits := p.Addr(), p.Bits()
	switch {
	case a.Is4() && bits < regionBits || !a.Is4() && bits < fewest6:
		c.all.Add(1)
	case a.Is4() || bits >= regionBits6:
		c.region[regionOf(lookKey(a))].Add(1)
	default:
		hi, lo := lookKey(a)
		for i := range uint64(1) << (regionBits6 - bits) {
			c.region[regionOf(hi+i<<(64-regionBits6), lo)].Add(1)
		}
	}
}

// lookSet has the newer answer first.
type lookSet [2]lookSlot

type lookSlot struct {
	seq    atomic.Uint32
	gen    atomic.Uint64
	hi, lo atomic.Uint64
	e      atomic.Pointer[Entry]
}

// v4Key is the upper word of every IPv4 destination: no IPv6 one, whose like
// (::/64, host 1…) is reserved, has it.
const v4Key = 1

// lookKey is a destination as two words.
func lookKey(a netip.Addr) (hi, lo uint64) {
	hi, lo = packet.Words(a)
	if a.Is4() {
		hi = v4Key
	}
	return hi, lo
}

func (c *lookCache) set(hi, lo uint64) *lookSet {
	h := (hi ^ lo*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	return &c.sets[h>>52&(lookSets-1)]
}

func (s *lookSet) get(hi, lo, gen uint64) *Entry {
	if e := s[0].get(hi, lo, gen); e != nil {
		return e
	}
	return s[1].get(hi, lo, gen)
}

// put remembers e for gen, which was read before the look-up, in place of the older answer.
func (s *lookSet) put(hi, lo, gen uint64, e *Entry) {
	n := s[0].seq.Load()
	oldHi, oldLo, oldGen, old := s[0].hi.Load(), s[0].lo.Load(), s[0].gen.Load(), s[0].e.Load()
	if old != nil && n&1 == 0 && s[0].seq.Load() == n {
		s[1].put(oldHi, oldLo, oldGen, old)
	}
	s[0].put(hi, lo, gen, e)
}

func (s *lookSlot) get(hi, lo, gen uint64) *Entry {
	n := s.seq.Load()
	e := s.e.Load()
	if n&1 == 0 && s.gen.Load() == gen && s.lo.Load() == lo && s.hi.Load() == hi && s.seq.Load() == n {
		return e
	}
	return nil
}

// put: who finds the slot busy goes without.
func (s *lookSlot) put(hi, lo, gen uint64, e *Entry) {
	n := s.seq.Load()
	if n&1 != 0 || !s.seq.CompareAndSwap(n, n+1) {
		return
	}
	s.gen.Store(gen)
	s.hi.Store(hi)
	s.lo.Store(lo)
	s.e.Store(e)
	s.seq.Store(n + 2)
}
