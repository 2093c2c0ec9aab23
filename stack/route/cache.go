package route

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// cacheSlots is the number of destinations a table remembers the answer for.
const cacheSlots = 4096

// cacheFrom is the number of routes from which remembering pays: below, the
// LPM table is as fast.
const cacheFrom = 1024

// regions is how many parts the address space has for the cache: a change of
// a route spoils what is remembered in its part, one of a short prefix all.
const (
	regionBits = 12
	regions    = 1 << regionBits
)

// lookCache remembers look-ups: destination → entry, true for one generation
// of its region. A slot is read without a lock and is right only if its
// sequence number is even and the same before and after.
type lookCache struct {
	all    atomic.Uint64
	region [regions]atomic.Uint64
	slots  [cacheSlots]lookSlot
}

// generation changes after every switch of sides that changed a route for an
// address of that key.
func (c *lookCache) generation(hi, lo uint64) uint64 {
	return c.all.Load() + c.region[regionOf(hi, lo)].Load()
}

// regionOf is the part of an address: the leading bits of an IPv4 address, a
// hash of the leading 32 bits of an IPv6 address.
func regionOf(hi, lo uint64) uint64 {
	if hi == v4Key {
		return lo >> (32 - regionBits)
	}
	return hi >> 32 * 0x9e3779b97f4a7c15 >> (64 - regionBits)
}

// spoil forgets what a change of the route to p may have made wrong.
func (c *lookCache) spoil(p netip.Prefix) {
	a := p.Addr()
	if a.Is4() && p.Bits() < regionBits || !a.Is4() && p.Bits() < 32 {
		c.all.Add(1)
		return
	}
	c.region[regionOf(lookKey(a))].Add(1)
}

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
	if a.Is4() {
		b := a.As4()
		return v4Key, uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
}

func (c *lookCache) slot(hi, lo uint64) *lookSlot {
	h := (hi ^ lo*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	return &c.slots[h>>52&(cacheSlots-1)]
}

func (s *lookSlot) get(hi, lo, gen uint64) *Entry {
	n := s.seq.Load()
	e := s.e.Load()
	if n&1 == 0 && s.gen.Load() == gen && s.lo.Load() == lo && s.hi.Load() == hi && s.seq.Load() == n {
		return e
	}
	return nil
}

// put remembers e for gen, which was read before the look-up. Who finds the
// slot busy goes without.
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
