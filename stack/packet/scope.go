package packet

import "net/netip"

// Inside the engine an IPv6 address that means something on one link only
// carries the index of its interface in octets 2 and 3, which are zero on the
// wire (KAME): fe80:2::1. So two links' addresses differ wherever addresses are
// compared, in routes, control blocks and neighbours. They are put in where a
// packet or a call comes in (Scoped), and taken out where it leaves (Unscoped).

// linkScoped reports the addresses that are carried so: link-local ones, and groups of
// interface-local and link-local scope (RFC 4007 §6).
func linkScoped(b *[16]byte) bool {
	switch {
	case b[0] == 0xfe && b[1]&0xc0 == 0x80:
		return true
	case b[0] == 0xff:
		return b[1]&0xf == 1 || b[1]&0xf == 2
	}
	return false
}

// IsLinkScoped reports whether an address means something on one link only.
func IsLinkScoped(a netip.Addr) bool {
	if !a.Is6() {
		return false
	}
	b := a.As16()
	return linkScoped(&b)
}

// Scoped is a as the engine carries it on interface index, if a is of one link.
func Scoped(a netip.Addr, index uint32) netip.Addr {
	if !a.Is6() {
		return a
	}
	b := a.As16()
	if !linkScoped(&b) {
		return a
	}
	b[2], b[3] = byte(index>>8), byte(index)
	return netip.AddrFrom16(b)
}

// Unscoped is a as it stands on the wire, and the interface that was in it; 0:
// none.
func Unscoped(a netip.Addr) (netip.Addr, uint32) {
	if !a.Is6() {
		return a, 0
	}
	b := a.As16()
	if !linkScoped(&b) {
		return a, 0
	}
	index := uint32(b[2])<<8 | uint32(b[3])
	b[2], b[3] = 0, 0
	return netip.AddrFrom16(b), index
}
