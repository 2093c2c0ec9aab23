// Package addrsel is how a program goes about that has several addresses of
// one peer: in which order it tries them (RFC 6724 §6), and that it does not
// wait for one to fail before it tries the next (RFC 8305). It knows no stack.
package addrsel

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// Policy is a line of the policy table (RFC 6724 §2.1). An IPv4 address is
// looked up as one of ::ffff:0:0/96.
type Policy struct {
	Prefix            netip.Prefix
	Precedence, Label int
}

// Default is the table of RFC 6724 §2.1.
var Default = []Policy{
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("::/0"), 40, 1},
	{netip.MustParsePrefix("::ffff:0:0/96"), 35, 4},
	{netip.MustParsePrefix("2002::/16"), 30, 2},
	{netip.MustParsePrefix("2001::/32"), 5, 5},
	{netip.MustParsePrefix("fc00::/7"), 3, 13},
	{netip.MustParsePrefix("::/96"), 1, 3},
	{netip.MustParsePrefix("fec0::/10"), 1, 11},
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},
}

// Source is what a packet to a destination would leave with.
type Source struct {
	Addr       netip.Addr // invalid: no packet would
	Bits       int        // of its network
	Deprecated bool
}

// candidate is a destination with all that its place depends on.
type candidate struct {
	dst        netip.Addr
	src        Source
	scope      int
	sameScope  bool
	precedence int
	sameLabel  bool
	common     int
}

// Sort orders destinations, the best first (RFC 6724 §6; rules 4 and 7, of
// home addresses and tunnels, have nothing to tell here). Rule 9 is for IPv6
// alone: in IPv4 it would undo the order that a name server has given to
// spread load.
func Sort(dst []netip.Addr, source func(netip.Addr) Source, policy []Policy) {
	if len(dst) < 2 {
		return
	}
	cs := make([]candidate, len(dst))
	for i, d := range dst {
		c := candidate{dst: d, src: source(d), scope: scope(d)}
		precedence, label := look(policy, d)
		c.precedence = precedence
		if s := c.src.Addr; s.IsValid() {
			_, l := look(policy, s)
			c.sameScope, c.sameLabel = scope(s) == c.scope, l == label
			if d.Is6() && s.Is6() {
				c.common = min(commonBits(s, d), c.src.Bits)
			}
		}
		cs[i] = c
	}
	slices.SortStableFunc(cs, func(a, b candidate) int {
		order := cmp.Or(
			first(a.src.Addr.IsValid(), b.src.Addr.IsValid()), // rule 1
			first(a.sameScope, b.sameScope),                   // rule 2
			first(!a.src.Deprecated, !b.src.Deprecated),       // rule 3
			first(a.sameLabel, b.sameLabel),                   // rule 5
			cmp.Compare(b.precedence, a.precedence),           // rule 6
			cmp.Compare(a.scope, b.scope),                     // rule 8
		)
		if order == 0 && a.dst.Is6() && b.dst.Is6() {
			order = cmp.Compare(b.common, a.common) // rule 9
		}
		return order
	})
	for i := range cs {
		dst[i] = cs[i].dst
	}
}

// first puts what has it before what has it not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// look finds precedence and label of an address: those of its longest prefix.
func look(policy []Policy, a netip.Addr) (precedence, label int) {
	ip := netip.AddrFrom16(a.As16())
	longest := -1
	for i := range policy {
		p := &policy[i]
		if p.Prefix.Bits() > longest && p.Prefix.Contains(ip) {
			longest, precedence, label = p.Prefix.Bits(), p.Precedence, p.Label
		}
	}
	return precedence, label
}

// Scopes (RFC 4291 §2.7).
const (
	scopeLink   = 0x2
	scopeSite   = 0x5
	scopeGlobal = 0xe
)

// scope is that of an address (RFC 6724 §3.1, §3.2).
func scope(a netip.Addr) int {
	a = a.Unmap()
	switch {
	case a.IsLoopback(), a.IsLinkLocalUnicast():
		return scopeLink
	case a.Is4():
		return scopeGlobal
	}
	switch b := a.As16(); {
	case b[0] == 0xff:
		return int(b[1] & 0xf)
	case b[0] == 0xfe && b[1]&0xc0 == 0xc0:
		return scopeSite
	}
	return scopeGlobal
}

// commonBits is how many bits two addresses have in common at their front.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	if d := binary.BigEndian.Uint64(x[:]) ^ binary.BigEndian.Uint64(y[:]); d != 0 {
		return bits.LeadingZeros64(d)
	}
	return 64 + bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:])^binary.BigEndian.Uint64(y[8:]))
}

// Interleave has the families take turns, the first address's first, and each
// in its own order (RFC 8305 §4).
func Interleave[A any](all []A, is6 func(A) bool) []A {
	if len(all) < 2 {
		return all
	}
	lead := is6(all[0])
	var turns [2][]A
	for _, a := range all {
		i := 0
		if is6(a) != lead {
			i = 1
		}
		turns[i] = append(turns[i], a)
	}
	out := make([]A, 0, len(all))
	for i := 0; len(out) < len(all); i ^= 1 {
		if len(turns[i]) > 0 {
			out, turns[i] = append(out, turns[i][0]), turns[i][1:]
		}
	}
	return out
}
