package stack_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// memory is how much more memory is in use after f.
func memory(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

func scoped(r *rig.Rig, s string) netip.Addr {
	return packet.Scoped(netip.MustParseAddr(s), r.If.Index)
}

// forgedTooBig is a forged Packet Too Big about a datagram of ours from a port.
func forgedTooBig(mtu uint32, dst netip.Addr, port uint16) []byte {
	me := netip.MustParseAddr("2001:db8::1")
	m := make([]byte, packet.ICMP6Len+packet.IPv6Len+packet.UDPLen)
	m[0] = packet.ICMP6TooBig
	packet.ICMP6(m).SetRest(mtu)
	packet.PutIPv6(m[packet.ICMP6Len:], 0, 0, 1400, packet.ProtoUDP, 64, me, dst)
	packet.PutUDP(m[packet.ICMP6Len+packet.IPv6Len:], port, 7, 1400, 0)
	return nd("2001:db8::2", me.String(), m)
}

// Path MTUs are believed of flows that there are, never below 1280 (RFC 8201
// §4, RFC 8021), and as many as the limit has.
func TestForgedTooBig(t *testing.T) {
	r := host(t)
	var so *socket.Socket
	if err := r.Do(func(w *netif.Work) (err error) {
		if so, err = r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{}); err != nil {
			return err
		}
		return so.Bind(w, socket.Addr{Port: 5000})
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Do(func(w *netif.Work) error { so.Close(w); return nil }) }()
	mtus := func() int { return r.Cache.Len6(r.Now()) }
	far := netip.MustParseAddr("2001:db9::9")
	r.Counts("icmp6", "not about us", func() { r.Send(forgedTooBig(1300, far, 5001)) })
	r.Counts("icmp6", "too big received", func() { r.Send(forgedTooBig(1279, far, 5000)) })
	r.Counts("icmp6", "too big received", func() { r.Send(forgedTooBig(0, far, 5000)) })
	r.Counts("icmp6", "too big received", func() { r.Send(forgedTooBig(1500, far, 5000)) })
	r.Counts("icmp6", "not about us", func() {
		r.Send(respell(forgedTooBig(1300, far, 5000), func(h packet.IPv6) { // about somebody else's
			packet.IPv6(h.Payload()[packet.ICMP6Len:]).SetSrc(netip.MustParseAddr("2001:db8::7"))
			packet.ICMP6(h.Payload()).SetChecksum(h.Src(), h.Dst())
		}))
	})
	if n := mtus(); n != 0 {
		t.Errorf("%d path MTUs are believed", n)
	}
	r.Counts("icmp6", "path MTU changes", func() { r.Send(forgedTooBig(1300, far, 5000)) })
	r.Sysctl("net.inet6.icmp6.mtudisc_hiwat", "100")
	if n := memory(func() {
		for i := range 10_000 {
			r.Send(forgedTooBig(1280, nth("2001:db9::1:0:0", i), 5000))
		}
	}); n > 1<<20 {
		t.Errorf("%d octets of memory", n)
	}
	if n := mtus(); n != 100 {
		t.Errorf("%d path MTUs are believed, want 100", n)
	}
	if mtu, ok := r.Cache.MTU(far, r.Now()); !ok || mtu != 1300 {
		t.Errorf("the first one is %d, %v", mtu, ok)
	}
	r.Expect()
}

// Advertisements that nobody asked for make no neighbours.
func TestFloodOfNeighbourAdvertisements(t *testing.T) {
	r := host(t)
	was := len(r.ND.Entries())
	for i := range 100_000 {
		src := nth("2001:db8::1:0:0", i)
		b := packet.PutNeighbor(make([]byte, packet.NeighborAdvLen), packet.ICMP6NeighborAdv, packet.NAFlagOverride|packet.NAFlagRouter, src)
		r.Send(nd(src.String(), "ff02::1", append(b, linkOption(packet.NDOptTargetLink, netif.MAC{2, 0, 0, 0, 0, 9})...)))
	}
	if n := len(r.ND.Entries()); n != was {
		t.Errorf("%d neighbours, were %d", n, was)
	}
	if n := rig.Counter(r.Stack, "nd6", "ND for others"); n < 100_000 {
		t.Errorf("%d were counted", n)
	}
	r.Expect()
}

// A router that is in use keeps its link address unless it says another itself,
// with the flag (RFC 4861 §7.2.5).
func TestRouterIsOverriddenByTheFlagOnly(t *testing.T) {
	r := host(t)
	thief := netif.MAC{2, 0, 0, 0, 0, 9}
	say := func(flags uint8) netif.MAC {
		ip := netip.MustParseAddr("fe80::2")
		b := packet.PutNeighbor(make([]byte, packet.NeighborAdvLen), packet.ICMP6NeighborAdv, packet.NAFlagRouter|flags, ip)
		r.Send(nd("fe80::2", "ff02::1", append(b, linkOption(packet.NDOptTargetLink, thief)...)))
		i, _ := r.ND.Lookup(r.If, ip)
		return i.MAC
	}
	if mac := say(0); mac != rig.Peer {
		t.Errorf("without the flag it moved to %v", mac)
	}
	if mac := say(packet.NAFlagOverride); mac != thief {
		t.Errorf("with the flag it is at %v", mac)
	}
	if gw := gateway(r, "2001:db9::9"); gw != "fe80::2" {
		t.Errorf("the default route leads to %s", gw)
	}
}

// Ten thousand routers, each with a prefix, a route, and a DNS server of its own,
// fill the lists and nothing else; who was there stays.
func TestFloodOfRouterAdvertisements(t *testing.T) {
	r := host(t)
	was := len(r.ND.Entries())
	if n := memory(func() {
		for i := range 10_000 {
			net := nth("2001:dbb::", 0).As16()
			binary.BigEndian.PutUint32(net[4:], uint32(i))
			route := append([]byte{packet.NDOptRouteInfo, 2, 64, 8, 0, 0, 14, 16}, net[:8]...)
			route[8+3] = 0xbc
			dns := append([]byte{packet.NDOptRDNSS, 3, 0, 0, 0, 0, 14, 16}, net[:]...)
			dns[8+15] = 1
			r.Send(nd(nth("fe80::1:0:0", i).String(), "ff02::1", routerAdv(64, prefixOption(netip.AddrFrom16(net), 86400, 14400), route, dns)))
			if i%100 == 0 {
				r.Pass(time.Millisecond)
				r.Sent()
			}
		}
		r.Pass(10 * time.Second)
		r.Sent()
	}); n > 2<<20 {
		t.Errorf("%d octets of memory", n)
	}
	rs, ps := r.Auto.Routers(), r.Auto.Prefixes()
	servers, _ := r.Auto.DNS()
	if len(rs) != 16 || !rs[0].Installed || rs[0].Addr != scoped(r, "fe80::2") {
		t.Errorf("%d routers, first %+v", len(rs), rs[0])
	}
	if len(ps) != 16 || ps[0].Prefix != netip.MustParsePrefix("2001:db8::/64") || len(servers) != 8 {
		t.Errorf("%d prefixes, first %+v, %d servers", len(ps), ps[0], len(servers))
	}
	if n := len(r.If.Addrs()); n > 20 {
		t.Errorf("%d addresses", n)
	}
	if n := r.Routes.Len(); n > 200 {
		t.Errorf("%d routes", n)
	}
	if n := len(r.ND.Entries()); n != was { // none has said its link address
		t.Errorf("%d neighbours, were %d", n, was)
	}
	if gw := gateway(r, "2001:db9::9"); gw != "fe80::2" {
		t.Errorf("the default route leads to %s", gw)
	}
	if rig.Counter(r.Stack, "nd6", "routers displaced") < 9_900 || rig.Counter(r.Stack, "nd6", "advertised limit") < 9_900 {
		t.Error("nothing was counted")
	}
}

// Hosts that solicit a router fill its cache as far as it goes.
func TestFloodOfRouterSolicitations(t *testing.T) {
	r := rig.New(t, rig.Dual)
	met(r)
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	r.Sysctl("net.inet6.icmp6.nd6_maxentries", "1024")
	body := append([]byte{packet.ICMP6RouterSol, 0, 0, 0, 0, 0, 0, 0}, linkOption(packet.NDOptSourceLink, rig.Peer)...)
	if n := memory(func() {
		for i := range 100_000 {
			r.Send(nd(nth("fe80::1:0:0", i).String(), "2001:db8::1", body))
		}
	}); n > 2<<20 {
		t.Errorf("%d octets of memory", n)
	}
	if n := len(r.ND.Entries()); n > 1024 {
		t.Errorf("%d neighbours", n)
	}
	r.Expect()
}

// A hundred thousand questions about groups, with sources, are one answer a time.
func TestFloodOfMLDQueries(t *testing.T) {
	r := rig.New(t, rig.Dual)
	six(r)
	_ = r.Do(func(w *netif.Work) error { r.Inet6.JoinGroup(w, r.If, netip.MustParseAddr("ff0e::1")); return nil })
	r.Pass(10 * time.Second)
	r.Sent()
	q := make([]byte, packet.MLDQuery2Len+16)
	if n := memory(func() {
		for i := range 100_000 {
			packet.PutMLD(q, packet.ICMP6MLDQuery, netip.MustParseAddr("ff0e::1"))
			binary.BigEndian.PutUint16(q[4:], 10_000)
			binary.BigEndian.PutUint16(q[26:], 1)
			copy(q[packet.MLDQuery2Len:], nth("2001:db8::1:0:0", i).AsSlice())
			m := packet.ICMP6(q)
			m.SetChecksum(netip.MustParseAddr("fe80::2"), netip.MustParseAddr("ff0e::1"))
			f := ip6("ff0e::1", packet.ProtoHopByHop, slices.Concat([]byte{packet.ProtoICMPv6, 0, packet.OptRouterAlert, 2, 0, 0, packet.OptPadN, 0}, q))
			copy(f, []byte{0x33, 0x33, 0, 0, 0, 1})
			r.Send(respell(from("fe80::2", f), func(h packet.IPv6) { h.SetHopLimit(1) }))
		}
	}); n > 1<<20 {
		t.Errorf("%d octets of memory", n)
	}
	if n := rig.Counter(r.Stack, "mld6", "queries"); n != 100_000 {
		t.Errorf("%d queries were counted", n)
	}
	r.Pass(11 * time.Second)
	if n := len(r.Sent()); n != 1 {
		t.Errorf("%d answers", n)
	}
}

// From nobody nothing is taken that would have to be answered.
func TestFromNobody(t *testing.T) {
	r := rig.New(t, rig.Dual)
	met(r)
	var so *socket.Socket
	if err := r.Do(func(w *netif.Work) (err error) {
		if so, err = r.Stack.Socket(w, socket.AFInet6, socket.Stream, 0, socket.Cred{Super: true}); err != nil {
			return err
		}
		if err = so.Bind(w, socket.Addr{Port: 80}); err != nil {
			return err
		}
		return so.Listen(w, 5)
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Do(func(w *netif.Work) error { so.Close(w); return nil }) }()
	for _, src := range []string{"::", "2001:db8::2"} {
		for _, port := range []uint16{80, 81} {
			b := make([]byte, packet.TCPLen)
			binary.BigEndian.PutUint16(b, 5000)
			binary.BigEndian.PutUint16(b[2:], port)
			b[12], b[13], b[14] = 5<<4, packet.TCPSyn, 1
			sum := ^packet.Fold(packet.Sum(packet.PseudoSum(netip.MustParseAddr(src), netip.MustParseAddr("2001:db8::1"), packet.ProtoTCP, len(b)), b))
			binary.BigEndian.PutUint16(b[16:], sum)
			r.Send(from(src, ip6("2001:db8::1", packet.ProtoTCP, b)))
			var got []string
			for _, f := range r.Sent() {
				got = append(got, rig.Describe(f))
			}
			if answered := len(got) > 0; answered == (src == "::") {
				t.Errorf("from %s to port %d: %q", src, port, got)
			}
		}
	}
}

// A redirect is for a host that packets can go to (RFC 4861 §8.1).
func TestOddRedirects(t *testing.T) {
	for _, c := range []struct{ dst, target string }{
		{"::", "fe80::3"}, {"::1", "fe80::3"}, {"::ffff:10.0.0.9", "fe80::3"}, {"ff0e::1", "fe80::3"}, {"::", "::"},
		{"2001:db9::9", "fe80::2"}, {"2001:db9::9", "::"}, {"2001:db9::9", "ff02::1"}, {"2001:db9::9", "2001:db8::3"},
		{"2001:db8::1", "fe80::3"}, {"2001:db8::7", "fe80::3"}, {"fe80::7", "fe80::3"}, {"2001:db9::9", "::1"},
	} {
		t.Run(strings.ReplaceAll(c.dst+" to "+c.target, "/", "_"), func(t *testing.T) {
			r := host(t)
			was := r.Routes.Generation()
			b := packet.PutRedirect(make([]byte, packet.RedirectLen), netip.MustParseAddr(c.target), netip.MustParseAddr(c.dst))
			r.Counts("icmp6", "bad redirect", func() { r.Send(nd("fe80::2", "2001:db8::1", b)) })
			r.Pass(time.Second)
			if r.Routes.Generation() != was {
				t.Errorf("it was believed: %s is %s now", c.dst, gateway(r, c.dst))
			}
		})
	}
}

// What a router says of the hop limit makes it no lower: who could say 1 would
// keep us from everybody beyond the link (CVE-2015-2923).
func TestHopLimitIsNotLowered(t *testing.T) {
	r := host(t)
	limit := func() uint8 { return r.ND.IfInfo(r.If).HopLimit }
	for _, c := range []struct{ said, want uint8 }{{1, 64}, {63, 64}, {0, 64}, {200, 200}, {64, 200}} {
		r.Send(nd("fe80::2", "ff02::1", routerAdv(c.said)))
		if got := limit(); got != c.want {
			t.Errorf("said %d: the limit is %d, want %d", c.said, got, c.want)
		}
	}
	if n := rig.Counter(r.Stack, "nd6", "hop limit refused"); n != 3 {
		t.Errorf("%d were counted, want 3", n)
	}
	fresh := rig.New(t, rig.Dual)
	fresh.Sysctl("net.inet6.ip6.dad_count", "0")
	fresh.Autoconf()
	fresh.Pass(10 * time.Second)
	fresh.Send(nd("fe80::2", "ff02::1", routerAdv(1)))
	if got := fmt.Sprint(fresh.ND.IfInfo(fresh.If).HopLimit); got != "0" {
		t.Errorf("the first one to say something made it %s", got)
	}
	fresh.Sent()
}
