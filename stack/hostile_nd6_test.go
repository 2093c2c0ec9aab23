package stack_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// linkOption is a source or target link-address option.
func linkOption(typ uint8, mac netif.MAC) []byte {
	b := make([]byte, 8)
	packet.AppendNDLink(b, typ, mac)
	return b
}

// routerAdv is an advertisement's body, of an hour.
func routerAdv(hlim uint8, opts ...[]byte) []byte {
	b := make([]byte, packet.RouterAdvLen)
	b[0], b[4] = packet.ICMP6RouterAdv, hlim
	binary.BigEndian.PutUint16(b[6:], 3600)
	for _, o := range opts {
		b = append(b, o...)
	}
	return b
}

// prefixOption is a Prefix Information option for a /64, on the link and autonomous.
func prefixOption(net netip.Addr, valid, preferred uint32) []byte {
	o := make([]byte, packet.NDPrefixLen)
	o[0], o[1], o[2], o[3] = packet.NDOptPrefix, 4, 64, packet.PrefixOnLink|packet.PrefixAutoconf
	binary.BigEndian.PutUint32(o[4:], valid)
	binary.BigEndian.PutUint32(o[8:], preferred)
	copy(o[16:], net.AsSlice())
	return o
}

// nth is the n-th of the addresses behind base.
func nth(base string, n int) netip.Addr {
	b := netip.MustParseAddr(base).As16()
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+uint32(n))
	return netip.AddrFrom16(b)
}

// host is a stack that has found the router fe80::2, which is at Peer.
func host(t *testing.T) *rig.Rig {
	r := rig.New(t, rig.Dual)
	r.Sysctl("net.inet6.ip6.dad_count", "0")
	r.Autoconf()
	r.Addr(r.If, "2001:db8::1/64")
	r.Pass(10 * time.Second)
	r.Send(nd("fe80::2", "ff02::1", routerAdv(64, linkOption(packet.NDOptSourceLink, rig.Peer),
		prefixOption(netip.MustParseAddr("2001:db8::"), 86400, 14400))))
	r.Pass(10 * time.Second)
	r.Sent()
	if rs := r.Auto.Routers(); len(rs) != 1 || !rs[0].Installed {
		t.Fatalf("routers %+v", rs)
	}
	return r
}

// gateway is where packets to an address go.
func gateway(r *rig.Rig, to string) string {
	hop, _ := r.Routes.Lookup(netip.MustParseAddr(to))
	switch {
	case hop == nil:
		return "nowhere"
	case !hop.Gateway.IsValid():
		return "on link"
	}
	ip, _ := packet.Unscoped(hop.Gateway)
	return ip.String()
}

// Of what has passed a router nothing is believed, of no type (RFC 4861 §6.1,
// §7.1, §8.1).
func TestNDFromBeyondARouter(t *testing.T) {
	redirect := packet.PutRedirect(make([]byte, packet.RedirectLen), netip.MustParseAddr("fe80::3"), netip.MustParseAddr("2001:db9::9"))
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"solicitation", neighbour(packet.ICMP6NeighborSol, 0, 3)},
		{"advertisement", neighbour(packet.ICMP6NeighborAdv, packet.NAFlagOverride, 2)},
		{"router solicitation", nd("fe80::3", "2001:db8::1", append([]byte{packet.ICMP6RouterSol, 0, 0, 0, 0, 0, 0, 0}, linkOption(packet.NDOptSourceLink, rig.Peer)...))},
		{"router advertisement", nd("fe80::3", "ff02::1", routerAdv(64, linkOption(packet.NDOptSourceLink, rig.Peer)))},
		{"redirect", nd("fe80::2", "2001:db8::1", redirect)},
	} {
		for _, hops := range []uint8{0, 1, 64, 254} {
			t.Run(fmt.Sprintf("%s/%d", c.name, hops), func(t *testing.T) {
				r := host(t)
				was, knew := r.Routes.Generation(), len(r.ND.Entries())
				r.Counts("icmp6", "not answered", func() {
					r.Send(respell(c.frame, func(h packet.IPv6) { h.SetHopLimit(hops) }))
				})
				r.Pass(time.Second)
				r.Expect()
				if len(r.Auto.Routers()) != 1 || r.Routes.Generation() != was || len(r.ND.Entries()) != knew {
					t.Error("it was believed")
				}
			})
		}
	}
}

// A message of neighbour discovery that came in fragments is nobody's, be it a
// daemon's that has a raw socket open (RFC 6980 §5).
func TestFragmentedNDReachesNoProgram(t *testing.T) {
	r := rig.New(t, rig.Dual)
	met(r)
	rs := nd("fe80::3", "2001:db8::1", append([]byte{packet.ICMP6RouterSol, 0, 0, 0, 0, 0, 0, 0}, linkOption(packet.NDOptSourceLink, rig.Peer)...))
	cut := func(off int, more bool, b []byte) []byte {
		f := make([]byte, packet.FragmentLen)
		packet.PutFragment(f, packet.ProtoICMPv6, off, more, 7)
		head := rs[: packet.EtherLen+packet.IPv6Len : packet.EtherLen+packet.IPv6Len]
		return respell(slices.Concat(head, f, b), func(h packet.IPv6) { h.SetNext(packet.ProtoFragment); h.SetPayloadLen(len(f) + len(b)) })
	}
	part := rs[packet.EtherLen+packet.IPv6Len:]
	var so *socket.Socket
	if err := r.Do(func(w *netif.Work) (err error) {
		so, err = r.Stack.Socket(w, socket.AFInet6, socket.Raw, packet.ProtoICMPv6, socket.Cred{Super: true})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Do(func(w *netif.Work) error { so.Close(w); return nil }) }()
	heard := func() int {
		m := socket.Msg{Data: make([]byte, 100)}
		if r.Do(func(w *netif.Work) error { return so.Recv(w, &m) }) != nil {
			return 0
		}
		return len(m.Data)
	}
	if r.Send(rs); heard() != 16 {
		t.Fatal("a whole one is heard")
	}
	for _, frames := range [][][]byte{{cut(0, false, part)}, {cut(0, true, part[:8]), cut(8, false, part[8:])}} {
		r.Counts("icmp6", "fragmented nd", func() { r.Send(frames...) })
		if n := heard(); n != 0 {
			t.Errorf("%d octets of a message in %d fragments were heard", n, len(frames))
		}
	}
}

// A hundred thousand stations that solicit take no more memory than the cache may
// have, and push out neither the router nor its route.
func TestFloodOfSolicitations(t *testing.T) {
	r := host(t)
	r.Sysctl("net.inet6.icmp6.nd6_maxentries", "1024")
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body := append([]byte(packet.PutNeighbor(make([]byte, packet.NeighborSolLen), packet.ICMP6NeighborSol, 0, netip.MustParseAddr("2001:db8::1"))),
		linkOption(packet.NDOptSourceLink, netif.MAC{2, 0, 0, 0, 0, 9})...)
	for i := range 100_000 {
		r.Send(nd(nth("2001:db8::1:0:0", i).String(), "2001:db8::1", body))
		if i%1000 == 0 {
			r.Sent()
			r.Pass(10 * time.Millisecond)
		}
	}
	r.Sent()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := len(r.ND.Entries()); n > 1024 {
		t.Errorf("%d neighbours", n)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d octets of memory", grown)
	}
	if n := rig.Counter(r.Stack, "nd6", "evicted"); n < 98_000 {
		t.Errorf("%d were counted", n)
	}
	if i, ok := r.ND.Lookup(r.If, netip.MustParseAddr("fe80::2")); !ok || i.MAC != rig.Peer {
		t.Errorf("the router is at %v (known: %v)", i.MAC, ok)
	}
	if gw := gateway(r, "2001:db9::9"); gw != "fe80::2" {
		t.Errorf("the default route leads to %s", gw)
	}
}
