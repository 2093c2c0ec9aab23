package sim_test

import (
	"net/netip"

	"ionet/stack"
)

func spec(prefix string) stack.AddrSpec {
	p := netip.MustParsePrefix(prefix)
	return stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}
}
