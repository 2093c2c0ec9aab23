package autoconf

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/packet"
)

// station is the link-local address of the n-th station that floods.
func station(n int) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80, 8: 0xbb}
	binary.BigEndian.PutUint32(a[12:], uint32(n))
	return netip.AddrFrom16(a)
}

func network(n int) netip.Prefix {
	a := [16]byte{0: 0x20, 1: 1, 2: 0xdb, 3: 0xbb}
	binary.BigEndian.PutUint32(a[4:], uint32(n))
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// A flood of routers, each with prefixes, routes and servers of its own, leaves
// the router in use, its prefix and the address; and takes no more than the
// limits have.
func TestFloodOfRouters(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(time.Minute)
	const n = 1000
	for i := range n {
		b.hear(station(i), say(2*time.Hour, day(network(2*i)), day(network(2*i+1)), rio(network(100000+i).String(), ndp.High, time.Hour),
			servers(time.Hour, network(i).Addr().Next().String())))
	}
	rs, ps := b.Routers(), b.Prefixes()
	if len(rs) != 16 || !rs[0].Installed || rs[0].Addr != b.scoped(r1) {
		t.Errorf("%d routers, first %+v", len(rs), rs[0])
	}
	if len(ps) != 16 || ps[0].Prefix != netA || ps[0].Detached {
		t.Errorf("%d prefixes, first %+v", len(ps), ps[0])
	}
	if s, _ := b.DNS(); len(s) != 8 {
		t.Errorf("%d servers", len(s))
	}
	if got := b.addrs(); len(got) != 16 || got[0] != plain(inA) {
		t.Errorf("addresses %q", got)
	}
	if r, err := b.tab.GetExact(prefixOf("::/0")); err != nil || r.Gateway != b.scoped(r1) {
		t.Errorf("the default route is %+v, %v", r, err)
	}
	if n := b.tab.Len(); n > 1+16+64 {
		t.Errorf("%d routes", n)
	}
	if b.count("routers displaced") < n-20 || b.count("advertised limit") == 0 {
		t.Error("nothing was counted")
	}
	// One that comes later is heard nevertheless.
	b.hear(r2, prefer(ndp.High))
	b.wantDefault(r2)
}

func (b *bench) wantDefault(ip netip.Addr) {
	b.Helper()
	if r, err := b.tab.GetExact(prefixOf("::/0")); err != nil || r.Gateway != b.scoped(ip) {
		b.Errorf("the default route is %+v, %v", r, err)
	}
}

// Who floods first does not keep a router that comes later away.
func TestRouterAfterAFlood(t *testing.T) {
	b := start(t)
	for i := range 100 {
		b.hear(station(i), prefer(ndp.Low))
	}
	b.hear(r1, say(time.Hour))
	b.wantDefault(r1)
	if rs := b.Routers(); len(rs) != 16 {
		t.Errorf("%d routers", len(rs))
	}
}

// A router that is down makes room before one that was not heard for long.
func TestWhoMakesRoom(t *testing.T) {
	b := start(t, "maxifdefrouters=3")
	for _, ip := range []netip.Addr{r1, r2, r3} {
		b.hear(ip, say(time.Hour))
		b.pass(time.Second)
	}
	b.unreachable(r3)
	b.hear(station(1), say(time.Hour))
	for _, r := range b.Routers() {
		if r.Addr == b.scoped(r3) {
			t.Error("the router that is down has stayed")
		}
	}
	b.hear(station(2), say(time.Hour))
	rs := b.Routers()
	if len(rs) != 3 || rs[0].Addr != b.scoped(r1) || rs[1].Addr != b.scoped(station(1)) {
		t.Errorf("routers %+v, want the one heard longest ago gone, but for the one in use", rs)
	}
}

// A detached prefix makes room for one of this link.
func TestDetachedPrefixMakesRoom(t *testing.T) {
	b := start(t, "maxifprefixes=1")
	b.hear(r1, say(time.Hour, day(netA)))
	b.hear(r2, say(time.Hour, day(netB)))
	b.pass(time.Minute)
	b.wantAddrs(plain(inA))
	b.set("maxifprefixes", "2")
	b.hear(r2, say(time.Hour, day(netB)))
	b.unreachable(r1)
	b.hear(r2, say(time.Hour, day(network(7))))
	b.pass(time.Minute)
	if ps := b.Prefixes(); len(ps) != 2 || ps[0].Prefix != netB || ps[1].Prefix != network(7) {
		t.Errorf("prefixes %+v", ps)
	}
	if got := b.addrs(); len(got) != 2 {
		t.Errorf("addresses %q", got)
	}
}

func TestTooManyRoutesAndAddresses(t *testing.T) {
	b := start(t, "maxifrouteinfos=2", "maxifautoaddrs=1")
	b.hear(r1, say(time.Hour, day(netA), day(netB), rio("2001:db8:1::/48", 0, time.Hour), rio("2001:db8:2::/48", 0, time.Hour), rio("2001:db8:3::/48", 0, time.Hour)))
	b.pass(time.Minute)
	b.wantAddrs(plain(inA))
	b.wantRoutes(via1, "2001:db8:1::/48 via fe80::1 en0", "2001:db8:2::/48 via fe80::1 en0", "2001:db8:a::/64 en0", "2001:db8:b::/64 en0")
	if n := b.count("advertised limit"); n != 2 {
		t.Errorf("%d refused", n)
	}
}

// Advertisements one behind the other change nothing but the first time.
func TestRepetitionChangesNothing(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(time.Minute)
	b.hear(r1, say(time.Hour, day(netA)))
	was := b.en0.Addrs()
	gen := b.tab.Generation()
	for range 100 {
		b.pass(5 * time.Millisecond)
		b.hear(r1, say(time.Hour, day(netA)))
	}
	for i, o := range b.en0.Addrs() {
		if o != was[i] {
			t.Errorf("%v was set anew", o.Addr)
		}
	}
	if b.tab.Generation() != gen {
		t.Error("the routes have changed")
	}
}

// FuzzRA: whatever octets come as an advertisement or a solicitation, what is
// known stays within its bounds, addresses and routes are of what was said,
// and every buffer is given back.
func FuzzRA(f *testing.F) {
	for _, ra := range []*ndp.RouterAdvertisement{
		say(time.Hour, day(netA), day(netB), ndp.NewMTU(1400), &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: []byte{2, 0, 0, 0, 0, 9}}),
		say(0, rio("::/0", ndp.High, time.Hour), rio("2001:db8:1::/48", ndp.Low, ndp.Infinity), rio("2001:db8:2::7/128", ndp.Medium, time.Second)),
		say(ndp.Infinity/2, servers(time.Minute, "2001:db8::53", "fe80::53"), search(time.Minute, "example.com", "a.b.c"), on(netA, ndp.Infinity, ndp.Infinity)),
	} {
		f.Add(marshal(f, ra), byte(1), byte(255))
	}
	f.Add(marshal(f, &ndp.RouterSolicitation{}), byte(0), byte(255))
	f.Fuzz(func(t *testing.T, icmp []byte, from, hlim byte) {
		if len(icmp) < 4 || len(icmp) > 2000 {
			return
		}
		b := start(t, "use_tempaddr=1", "maxifdefrouters=2", "maxifprefixes=3", "maxifrouteinfos=3", "maxifdns=2", "maxifautoaddrs=4")
		b.hear(r1, say(time.Hour, day(netA)))
		if icmp[0] != packet.ICMP6RouterSol {
			icmp[0] = packet.ICMP6RouterAdv
		}
		src := netip.IPv6Unspecified()
		if from > 0 {
			src = station(int(from))
		}
		for range 3 {
			b.input(src, hlim, icmp)
			b.pass(90 * time.Minute)
			servers, names := b.DNS()
			if n := b.tab.Len(); n > 1+3+3 || len(b.Routers()) > 2 || len(b.Prefixes()) > 3 || len(b.addrs()) > 4 || len(servers) > 2 || len(names) > 2 {
				t.Fatalf("%d routes, %d routers, %d prefixes, addresses %q, %d servers, %d domains",
					n, len(b.Routers()), len(b.Prefixes()), b.addrs(), len(servers), len(names))
			}
			for _, p := range b.Prefixes() {
				if p.Prefix.Addr().IsMulticast() || p.Prefix.Addr().IsLinkLocalUnicast() || p.Prefix.Bits() == 0 || p.Prefix != p.Prefix.Masked() {
					t.Fatalf("prefix %v was learnt", p.Prefix)
				}
			}
		}
		b.FlushRouters()
		b.FlushPrefixes()
		if n := b.tab.Len(); n != 0 || len(b.addrs()) != 0 {
			t.Fatalf("%d routes and %q are left", n, b.addrs())
		}
	})
}
