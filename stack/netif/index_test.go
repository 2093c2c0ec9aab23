package netif

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestAddrIndex holds the index to the map that it is made of.
func TestAddrIndex(t *testing.T) {
	var none AddrIndex
	if a := none.Get(netip.MustParseAddr("10.0.0.1")); a != nil {
		t.Fatalf("the empty index knows %v", a.Addr)
	}
	r := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr { // few networks, so that much is alike
		var b [16]byte
		b[0], b[3], b[15] = 0x20, byte(r.IntN(3)), byte(r.IntN(40))
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte(b[12:]))
		}
		binary.BigEndian.PutUint16(b[8:], uint16(r.IntN(3)))
		return netip.AddrFrom16(b)
	}
	for n := range 200 {
		m := map[netip.Addr]*Addr{}
		for range n {
			ip := addr()
			m[ip] = &Addr{Addr: ip}
		}
		x := NewAddrIndex(m, r.Uint64())
		for range 500 {
			if ip := addr(); x.Get(ip) != m[ip] {
				t.Fatalf("of %d addresses, %v: %v, want %v", len(m), ip, x.Get(ip), m[ip])
			}
		}
		for ip, a := range m {
			if x.Get(ip) != a {
				t.Fatalf("%v is lost among %d", ip, len(m))
			}
		}
	}
	mapped := netip.MustParseAddr("::ffff:10.0.0.1")
	x := NewAddrIndex(map[netip.Addr]*Addr{mapped.Unmap(): {}}, 1)
	if x.Get(mapped) != nil {
		t.Errorf("%v is taken for %v", mapped, mapped.Unmap())
	}
}
