package autoconf

import (
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

const (
	via1 = "::/0 via fe80::1 en0"
	via2 = "::/0 via fe80::2 en0"
	via3 = "::/0 via fe80::3 en0"
)

func prefer(p ndp.Preference, opts ...ndp.Option) *ndp.RouterAdvertisement {
	ra := say(time.Hour, opts...)
	ra.RouterSelectionPreference = p
	return ra
}

func TestPreference(t *testing.T) {
	b := start(t)
	b.hear(r1, prefer(ndp.Low))
	b.wantRoutes(via1)
	b.hear(r2, prefer(ndp.Medium))
	b.wantRoutes(via2)
	b.hear(r3, prefer(ndp.High))
	b.wantRoutes(via3)
	b.hear(r3, prefer(ndp.Low))
	b.wantRoutes(via2)
	b.hear(r1, prefer(ndp.Medium)) // among equals, the one in use
	b.wantRoutes(via2)
	b.hear(r2, say(0)) // farewell
	b.wantRoutes(via1)
}

// The reserved preference is medium, and that of no default router is nothing
// (RFC 4191 §2.2).
func TestReservedPreference(t *testing.T) {
	b := start(t)
	b.hear(r1, prefer(ndp.Low))
	icmp := marshal(t, say(time.Hour))
	icmp[5] |= 0x10
	b.input(r2, 255, icmp)
	b.wantRoutes(via2)
}

func TestRouterLifetimeEnds(t *testing.T) {
	b := start(t)
	b.hear(r1, say(10*time.Minute))
	b.hear(r2, say(20*time.Minute))
	b.pass(5 * time.Minute)
	b.hear(r1, say(10*time.Minute))
	b.pass(10*time.Minute - time.Second)
	b.wantRoutes(via1)
	b.pass(2 * time.Second)
	b.wantRoutes(via2)
	b.pass(6 * time.Minute)
	b.wantRoutes()
	if rs := b.Routers(); len(rs) != 0 {
		t.Errorf("routers %+v", rs)
	}
}

// A router that answers goes before a preferred one that does not (RFC 4191
// §3.2), and when none does, each has its turn (RFC 4861 §6.3.6).
func TestUnreachableRouters(t *testing.T) {
	b := start(t)
	b.hear(r1, prefer(ndp.High))
	b.hear(r2, prefer(ndp.Medium))
	b.hear(r3, prefer(ndp.Low))
	b.wantRoutes(via1)
	for _, c := range []struct {
		gone, now string
	}{{"1", via2}, {"2", via3}, {"3", via1}, {"1", via2}, {"2", via3}} {
		b.unreachable(addrOf("fe80::" + c.gone))
		b.wantRoutes(c.now)
		b.pass(time.Second)
	}
	b.hear(r2, prefer(ndp.Medium)) // it is back
	b.wantRoutes(via2)
	rs := b.Routers()
	if len(rs) != 3 || !rs[0].Down || rs[1].Down || !rs[2].Down {
		t.Errorf("routers %+v", rs)
	}
}

// A router whose link address is known goes before one that has yet to be asked
// for (RFC 4861 §6.3.6).
func TestKnownRouterFirst(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour))
	b.hear(r2, say(time.Hour, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: []byte{2, 0, 0, 0, 0, 9}}))
	b.wantRoutes(via2)
}

func TestRouterBecomesAHost(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.hear(r2, say(time.Hour))
	b.nd.known[b.scoped(r1)] = true
	b.work(func(w *netif.Work) { b.RouterGone(w, b.en0, b.scoped(r1)) })
	b.wantRoutes(via2, "2001:db8:a::/64 en0")
	if rs := b.Routers(); len(rs) != 1 || rs[0].Addr != b.scoped(r2) {
		t.Errorf("routers %+v", rs)
	}
}

func rio(dst string, p ndp.Preference, lifetime time.Duration) *ndp.RouteInformation {
	d := prefixOf(dst)
	return &ndp.RouteInformation{PrefixLength: uint8(d.Bits()), Prefix: d.Addr(), Preference: p, RouteLifetime: lifetime}
}

func TestMoreSpecificRoutes(t *testing.T) {
	b := start(t)
	const net1, net2 = "2001:db8:1::/48 via fe80::1 en0", "2001:db8:1::/48 via fe80::2 en0"
	b.hear(r1, say(time.Hour, rio("2001:db8:1::/48", ndp.Medium, 30*time.Minute), rio("2001:db8:2::7/128", ndp.Medium, time.Hour)))
	b.wantRoutes(via1, net1, "2001:db8:2::7/128 via fe80::1 en0")
	b.hear(r2, say(0, rio("2001:db8:1::/48", ndp.High, 10*time.Minute), rio("2001:db8:2::7/128", ndp.Low, time.Hour)))
	b.wantRoutes(via1, net2, "2001:db8:2::7/128 via fe80::1 en0")
	b.unreachable(r2)
	b.wantRoutes(via1, net1, "2001:db8:2::7/128 via fe80::1 en0")
	b.hear(r2, say(0, rio("2001:db8:1::/48", ndp.High, 10*time.Minute)))
	b.wantRoutes(via1, net2, "2001:db8:2::7/128 via fe80::1 en0")
	b.pass(11 * time.Minute)
	b.wantRoutes(via1, net1, "2001:db8:2::7/128 via fe80::1 en0")
	b.hear(r1, say(time.Hour, rio("2001:db8:1::/48", ndp.Medium, 0)))
	b.wantRoutes(via1, "2001:db8:2::7/128 via fe80::1 en0")
	b.pass(2 * time.Hour)
	b.wantRoutes()
}

// A route to everywhere says what kind of default router this is, whatever the
// header says (RFC 4191 §3.1).
func TestRouteInfoForEverywhere(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour))
	b.hear(r2, say(time.Hour, rio("::/0", ndp.High, 20*time.Minute)))
	b.wantRoutes(via2)
	b.hear(r3, say(0, rio("::/0", ndp.High, time.Hour)))
	b.pass(21 * time.Minute)
	b.wantRoutes(via3)
	b.hear(r3, say(time.Hour, rio("::/0", ndp.High, 0)))
	b.wantRoutes(via1)
}

func TestBadRouteInfo(t *testing.T) {
	b := start(t)
	icmp := marshal(t, say(time.Hour, rio("2001:db8:1::/48", ndp.Medium, time.Hour)))
	for name, break_ := range map[string]func(o []byte){
		"the reserved preference":         func(o []byte) { o[3] = 0x10 },
		"a prefix longer than the option": func(o []byte) { o[2] = 65 },
		"a prefix longer than addresses":  func(o []byte) { o[2] = 129 },
		"of a link":                       func(o []byte) { o[8], o[9] = 0xfe, 0x80 },
		"of groups":                       func(o []byte) { o[8] = 0xff },
	} {
		bad := append([]byte(nil), icmp...)
		break_(bad[packet.RouterAdvLen:])
		was := b.count("bad advertised option")
		b.input(r1, 255, bad)
		b.wantRoutes(via1)
		if b.count("bad advertised option") != was+1 {
			t.Errorf("%s was not counted", name)
		}
	}
}

// The prefixes of a router that is gone are detached while there is another
// router, and attached again when theirs is back (KAME's pfxlist_onlink_check).
func TestDetached(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(time.Minute)
	b.unreachable(r1) // the only one: the link may just have lost it
	b.wantAddrs(plain(inA))
	b.wantRoutes(via1, "2001:db8:a::/64 en0")
	b.hear(r2, say(time.Hour, day(netB)))
	b.pass(time.Minute)
	b.wantAddrs(plain(inA)+" detached", plain(inB))
	b.wantRoutes(via2, "2001:db8:b::/64 en0")
	if ps := b.Prefixes(); len(ps) != 2 || !ps[0].Detached || ps[1].Detached {
		t.Errorf("prefixes %+v", ps)
	}
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(time.Minute)
	b.wantAddrs(plain(inA), plain(inB))
	b.wantRoutes(via2, "2001:db8:a::/64 en0", "2001:db8:b::/64 en0")
}

// A cable that is plugged in elsewhere: the old network's addresses are detached.
func TestAnotherLink(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(time.Minute)
	b.work(func(w *netif.Work) { b.Ready(w, b.en0, false) })
	b.pass(time.Second)
	b.wantRoutes()
	b.wantAddrs(plain(inA))
	b.InterfaceUp(b.en0)
	b.pass(time.Second)
	b.wantRoutes("2001:db8:a::/64 en0")
	b.hear(r2, say(time.Hour, day(netB)))
	b.pass(time.Minute)
	b.wantAddrs(plain(inA)+" detached", plain(inB))
	b.wantRoutes(via2, "2001:db8:b::/64 en0")
}

// A router believes no other, and forgets what it believed (RFC 4861 §6.2.7).
func TestForwarding(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA), &ndp.RecursiveDNSServer{Lifetime: time.Hour, Servers: addrsOf("2001:db8::53")}))
	b.pass(time.Minute)
	b.ip.forward = true
	b.ForwardingChanged(true)
	b.pass(time.Second)
	b.wantRoutes()
	b.wantAddrs()
	if s, _ := b.DNS(); len(s) != 0 {
		t.Errorf("servers %v", s)
	}
	b.hear(r1, say(time.Hour, day(netA)))
	b.wantRoutes()
	b.sent = nil
	b.ip.forward = false
	b.ForwardingChanged(false)
	b.pass(time.Second)
	b.wantSent(asks)
	b.hear(r1, say(time.Hour, day(netA)))
	b.wantRoutes(via1, "2001:db8:a::/64 en0")
}

// A router hears who solicits (RFC 4861 §6.2.6).
func TestSolicitationAtARouter(t *testing.T) {
	told := &ndp.RouterSolicitation{Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: []byte{2, 0, 0, 0, 0, 7}}}}
	b := start(t)
	b.input(r2, 255, marshal(t, told))
	b.want("a host heard", b.nd.heard)
	b.ip.forward = true
	b.input(r2, 255, marshal(t, told))
	b.want("heard", b.nd.heard, "02:00:00:00:00:07 router false")
	b.input(r2, 254, marshal(t, told))
	b.input(addrOf("::"), 255, marshal(t, told)) // from no address, with one of the link (§6.1.1)
	b.input(addrOf("::"), 255, marshal(t, &ndp.RouterSolicitation{}))
	if n := b.count("bad router solicitation"); n != 2 || len(b.nd.heard) != 1 {
		t.Errorf("%d bad ones, heard %q", n, b.nd.heard)
	}
}

// What somebody has put into the table stays, and what they take away that is
// also ours comes back.
func TestRoutesByHand(t *testing.T) {
	b := start(t)
	byHand := route.Spec{Dst: prefixOf("::/0"), If: b.en0, Gateway: b.scoped(addrOf("fe80::99")), Flags: route.FlagUp | route.FlagGateway | route.FlagStatic}
	if err := b.tab.Update([]route.Op{{Kind: route.Add, Spec: byHand}})[0]; err != nil {
		t.Fatal(err)
	}
	b.hear(r1, say(time.Hour, day(netA)))
	b.wantRoutes("::/0 via fe80::99 en0", "2001:db8:a::/64 en0")
	b.hear(r1, say(0))
	b.wantRoutes("::/0 via fe80::99 en0", "2001:db8:a::/64 en0")
	b.hear(r1, say(time.Hour))
	if err := b.tab.Update([]route.Op{{Kind: route.Delete, Spec: byHand}})[0]; err != nil {
		t.Fatal(err)
	}
	b.hear(r1, say(time.Hour))
	b.wantRoutes(via1, "2001:db8:a::/64 en0")
}

// The network's route is handed over to an address given by hand.
func TestNetworkOfAnAddressByHand(t *testing.T) {
	b := start(t)
	b.hear(r1, say(0, on(netA, 3*time.Hour, time.Hour)))
	if err := b.ip.AutoAddr(b.en0, netif.Addr{If: b.en0, Addr: addrOf("2001:db8:a::5"), Bits: 64}); err != nil {
		t.Fatal(err)
	}
	b.pass(4 * time.Hour)
	b.wantRoutes("2001:db8:a::/64 en0")
	if r, err := b.tab.GetExact(netA); err != nil || r.Src != addrOf("2001:db8:a::5") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestFlags(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	for dst, want := range map[string]uint32{"::/0": route.FlagUp | route.FlagGateway, "2001:db8:a::/64": route.FlagUp | route.FlagCloning} {
		if r, err := b.tab.GetExact(prefixOf(dst)); err != nil || r.Flags != want || r.Src != b.scoped(myLL) {
			t.Errorf("%s: %+v, %v", dst, r, err)
		}
	}
}

func TestTwoInterfaces(t *testing.T) {
	b := start(t)
	en1 := b.addIf("en1", netif.MAC{2, 0, 0, 0, 1, 1})
	b.InterfaceUp(en1)
	b.hear(r1, prefer(ndp.Low, day(netA)))
	hear1 := func(ra *ndp.RouterAdvertisement) {
		p := b.message(r1, 255, marshal(t, ra))
		p.RcvIf = en1.Index
		b.work(func(w *netif.Work) { b.Input(w, en1, p) })
	}
	hear1(prefer(ndp.High, day(netA), day(netB)))
	b.wantRoutes("::/0 via fe80::1 en1", "2001:db8:a::/64 en0", "2001:db8:b::/64 en1")
	b.Detach(en1)
	b.tab.DeleteInterface(en1)
	b.pass(time.Second)
	b.wantRoutes(via1, "2001:db8:a::/64 en0")
}

func TestFlushAndDefaultIf(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.FlushRouters()
	b.wantRoutes("2001:db8:a::/64 en0")
	b.FlushPrefixes()
	b.wantRoutes()
	b.wantAddrs()
	b.SetDefaultIf(b.en0)
	if b.DefaultIf() != b.en0 {
		t.Error("it is not the default interface")
	}
	b.wantRoutes("::/0 en0")
	b.hear(r1, say(time.Hour))
	b.wantRoutes(via1)
	b.hear(r1, say(0))
	b.wantRoutes("::/0 en0")
	b.SetDefaultIf(nil)
	b.wantRoutes()
}
