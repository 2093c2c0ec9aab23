package packet

import (
	"encoding/binary"
	"net/netip"
)

// Inside the engine an IPv6 address that means something on one link only
// carries the index of its interface in octets 2 and 3, which are zero on the
// wire (KAME): fe80:2::1. So two links' addresses differ wherever addresses are
// compared, in routes, control blocks and neighbours. They are put in where a
// packet or a call comes in (Scoped), and taken out where it leaves (Unscoped).

// Words are an address in two: the network's half and the interface's of one of
// IPv6; 0 and the address of one of IPv4.
func Words(a netip.Addr) (hi, lo uint64) {
	if a.Is4() {
		b := a.As4()
		return 0, uint64(binary.BigEndian.Uint32(b[:]))
	}
	// As16 would copy what it has just written in halves, and wait for it.
	var b [16]byte
	_, _ = a.AppendBinary(b[:0])
	return binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
}

// fromWords is an address of IPv6.
func fromWords(hi, lo uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b)
}

// Where the interface is in the first word.
const (
	scopeShift = 32
	scopeMask  = 0xffff << scopeShift
)

// linkScoped reports the addresses that are carried so, by their first word: link-local
// ones, and groups of interface-local and link-local scope (RFC 4007 §6).
func linkScoped(hi uint64) bool {
	return hi >= 0xfe80<<48 && (hi>>54 == 0xfe80>>6 || hi>>56 == 0xff && (hi>>48&0xf == 1 || hi>>48&0xf == 2))
}

// wireWords are the words of an address of IPv6 as it stands on the wire.
func wireWords(a netip.Addr) (hi, lo uint64) {
	hi, lo = Words(a)
	if linkScoped(hi) {
		hi &^= scopeMask
	}
	return hi, lo
}

// IsLinkScoped reports whether an address means something on one link only.
func IsLinkScoped(a netip.Addr) bool {
	hi, _ := Words(a)
	return linkScoped(hi)
}

// Scoped is a as the engine carries it on interface index, if a is of one link.
func Scoped(a netip.Addr, index uint32) netip.Addr {
	hi, lo := Words(a)
	if !linkScoped(hi) {
		return a
	}
	return scoped(hi, lo, index)
}

func scoped(hi, lo uint64, index uint32) netip.Addr {
	return fromWords(hi&^scopeMask|uint64(index)<<scopeShift&scopeMask, lo)
}

// Unscoped is a as it stands on the wire, and the interface that was in it; 0:
// none.
func Unscoped(a netip.Addr) (netip.Addr, uint32) {
	hi, lo := Words(a)
	if !linkScoped(hi) {
		return a, 0
	}
	return fromWords(hi&^scopeMask, lo), uint32(hi & scopeMask >> scopeShift)
}
