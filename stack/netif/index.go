package netif

import (
	"math/bits"
	"net/netip"

	"ionet/stack/packet"
)

// AddrIndex answers which of our addresses one is, as every packet asks: the
// content of a map, made once and then read without a lock in a third of a
// map's time. The zero index is empty.
type AddrIndex struct {
	key   uint64
	shift uint8 // the slots' number is 1<<(64-shift)
	slots []indexSlot
}

type indexSlot struct {
	hi, lo uint64
	ip     netip.Addr
	a      *Addr
}

// NewAddrIndex is the index of m. The key is random, since routers and peers
// choose addresses.
func NewAddrIndex(m map[netip.Addr]*Addr, key uint64) AddrIndex {
	n := bits.Len(uint(2*len(m)) | 1) // at most half of them are taken
	x := AddrIndex{key: key, shift: uint8(64 - n), slots: make([]indexSlot, 1<<n)}
	for ip, a := range m { // map order: whichever it is, each is found
		hi, lo := packet.Words(ip)
		i := x.place(hi, lo)
		for x.slots[i].a != nil {
			i = x.after(i)
		}
		x.slots[i] = indexSlot{hi, lo, ip, a}
	}
	return x
}

func (x *AddrIndex) place(hi, lo uint64) uint64 {
	h := (hi ^ x.key) * 0x9e3779b97f4a7c15
	return (h ^ h>>29 ^ lo) * 0xbf58476d1ce4e5b9 >> x.shift
}

func (x *AddrIndex) after(i uint64) uint64 { return (i + 1) & uint64(len(x.slots)-1) }

// Get is the address that ip is, or nil.
func (x *AddrIndex) Get(ip netip.Addr) *Addr {
	if len(x.slots) == 0 {
		return nil
	}
	hi, lo := packet.Words(ip)
	for i := x.place(hi, lo); x.slots[i].a != nil; i = x.after(i) {
		if s := &x.slots[i]; s.lo == lo && s.hi == hi && s.ip == ip {
			return s.a
		}
	}
	return nil
}
