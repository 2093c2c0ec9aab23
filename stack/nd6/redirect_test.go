package nd6_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	. "ionet/stack/stacktest"
)

const far = "2001:db9::9"

// routed is a rig whose default route leads over fe80::2, the station Peer.
func routed(t testing.TB) *Rig {
	t.Helper()
	r := rig(t)
	via(r, "::/0", "fe80::2")
	return r
}

func via(r *Rig, dst, gw string) {
	r.Helper()
	to := netip.MustParsePrefix(dst)
	if err := r.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: to, Host: to.IsSingleIP(), Gateway: scoped(r, gw),
		If: r.If, Flags: route.FlagUp | route.FlagGateway}}})[0]; err != nil {
		r.Fatal(err)
	}
}

// hop is where packets to a host go: a gateway, "on link", or "-".
func hop(r *Rig, dst string) string {
	a := ip(dst)
	if a.IsLinkLocalUnicast() {
		a = scoped(r, dst)
	}
	got, err := r.Routes.Get(a)
	switch {
	case err != nil:
		return "-"
	case got.Flags&route.FlagGateway == 0:
		return "on link"
	}
	g, _ := packet.Unscoped(got.Gateway)
	return g.String()
}

func redirect(r *Rig, from netif.MAC, src, target, dst string, opts ...[]byte) {
	r.Send(frame(from, src, me, redirectTo(target, dst, opts...)))
}

func TestRedirectToARouter(t *testing.T) {
	r := routed(t)
	redirect(r, Peer, "fe80::2", "fe80::3", far, option(packet.NDOptTargetLink, 1, other))
	if h := hop(r, far); h != "fe80::3" {
		t.Fatalf("by way of %s", h)
	}
	if h := hop(r, "2001:db9::8"); h != "fe80::2" {
		t.Errorf("its neighbour by way of %s", h)
	}
	if i, _ := r.ND.Lookup(r.If, ip("fe80::3")); i.State.String() != "STALE" || i.MAC != other || !i.IsRouter {
		t.Errorf("%+v", i)
	}
	udp(r).send(far, "x")
	r.Expect(me + " > " + far + " udp 5 > 7 len 1")
	redirect(r, other, "fe80::3", "fe80::4", far) // and on to another
	if h := hop(r, far); h != "fe80::4" {
		t.Errorf("by way of %s", h)
	}
}

func TestRedirectOntoTheLink(t *testing.T) {
	r := routed(t)
	redirect(r, Peer, "fe80::2", far, far, option(packet.NDOptTargetLink, 1, other))
	if h := hop(r, far); h != "on link" {
		t.Fatalf("by way of %s", h)
	}
	if i, _ := r.ND.Lookup(r.If, ip(far)); i.MAC != other || i.IsRouter {
		t.Errorf("%+v", i)
	}
	udp(r).send(far, "x")
	r.Expect(me + " > " + far + " udp 5 > 7 len 1")
}

func TestRedirectIsFollowedForAWhile(t *testing.T) {
	r := routed(t)
	r.Sysctl("net.inet6.icmp6.redirtimeout", "100")
	redirect(r, Peer, "fe80::2", "fe80::3", far)
	r.Pass(99 * time.Second)
	if h := hop(r, far); h != "fe80::3" {
		t.Fatalf("by way of %s", h)
	}
	redirect(r, other, "fe80::3", "fe80::4", far) // which begins anew
	r.Pass(99 * time.Second)
	if h := hop(r, far); h != "fe80::4" {
		t.Fatalf("by way of %s", h)
	}
	r.Pass(2 * time.Second)
	if h := hop(r, far); h != "fe80::2" {
		t.Fatalf("by way of %s", h)
	}
}

// What somebody has put in by hand is changed, not taken away.
func TestRedirectOfAStaticRoute(t *testing.T) {
	r := routed(t)
	via(r, far+"/128", "fe80::2")
	redirect(r, Peer, "fe80::2", "fe80::3", far)
	if h := hop(r, far); h != "fe80::3" {
		t.Fatalf("by way of %s", h)
	}
	r.Pass(20 * time.Minute)
	if h := hop(r, far); h != "fe80::3" {
		t.Fatalf("by way of %s", h)
	}
}

// A better hop that is silent is none (RFC 4861 §7.3.3).
func TestRedirectToTheSilent(t *testing.T) {
	r := routed(t)
	for _, d := range []string{far, "2001:db9::8"} {
		redirect(r, Peer, "fe80::2", "fe80::3", d)
	}
	redirect(r, Peer, "fe80::2", "fe80::4", "2001:db9::7")
	udp(r).send(far, "x")
	r.Pass(5 * time.Second)
	if a, b, c := hop(r, far), hop(r, "2001:db9::8"), hop(r, "2001:db9::7"); a != "fe80::2" || b != "fe80::2" || c != "fe80::4" {
		t.Errorf("by way of %s, %s, %s", a, b, c)
	}
	r.Sent()
}

func TestRedirectsThatAreNotFollowed(t *testing.T) {
	target := option(packet.NDOptTargetLink, 1, other)
	for _, c := range []struct {
		name string
		do   func(r *Rig)
	}{
		{"from another than the first hop", func(r *Rig) { redirect(r, other, "fe80::3", "fe80::3", far, target) }},
		{"to the first hop", func(r *Rig) { redirect(r, Peer, "fe80::2", "fe80::2", far, target) }},
		{"to ourselves", func(r *Rig) { redirect(r, Peer, "fe80::2", "fe80::1", far, target) }},
		{"with a group as station", func(r *Rig) {
			redirect(r, Peer, "fe80::2", "fe80::3", far, option(packet.NDOptTargetLink, 1, netif.MAC{3}))
		}},
		{"unless we want to", func(r *Rig) {
			r.Sysctl("net.inet6.icmp6.rediraccept", "0")
			redirect(r, Peer, "fe80::2", "fe80::3", far, target)
		}},
		{"by a router", func(r *Rig) {
			r.Sysctl("net.inet6.ip6.forwarding", "1")
			redirect(r, Peer, "fe80::2", "fe80::3", far, target)
		}},
		{"of what is on the link", func(r *Rig) { redirect(r, Peer, "fe80::2", "fe80::3", "2001:db8::9", target) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := routed(t)
			c.do(r)
			if h := hop(r, far); h != "fe80::2" {
				t.Errorf("by way of %s", h)
			}
			if h := hop(r, "2001:db8::9"); h != "on link" {
				t.Errorf("by way of %s", h)
			}
			state(r, "fe80::3", "")
		})
	}
}

// A gateway cannot fill the table.
func TestRedirectsAreBounded(t *testing.T) {
	r := routed(t)
	before := r.Routes.Len()
	for i := range 5000 {
		b := ip(far).As16()
		b[14], b[13] = byte(i), byte(i>>8)
		redirect(r, Peer, "fe80::2", "fe80::3", netip.AddrFrom16(b).String())
	}
	if n := r.Routes.Len() - before; n != 4096 {
		t.Errorf("%d routes were made", n)
	}
	r.Pass(time.Hour)
	if n := r.Routes.Len() - before; n != 0 {
		t.Errorf("%d routes are left", n)
	}
}

// forwarder is a router whose way to far leads back over the link the packet
// comes from.
func forwarder(t testing.TB) *Rig {
	t.Helper()
	r := rig(t)
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	via(r, "2001:db9::/32", "fe80::3")
	return r
}

// through is a packet from a neighbour that we are to forward.
func through(src, dst string, n int) []byte {
	b := make([]byte, packet.EtherLen+packet.IPv6Len+n)
	packet.PutEther(b, Me, Peer, packet.EtherIPv6)
	packet.PutIPv6(b[packet.EtherLen:], 0, 0, n, 99, 64, ip(src), ip(dst))
	return b
}

// redirects are the redirects among what was sent, as the other implementation
// does not know them but as bytes.
func redirects(r *Rig) (out []string) {
	for _, f := range r.Sent() {
		if s := Describe(f); strings.Contains(s, "redirect") {
			out = append(out, s)
			if len(f) > packet.EtherLen+packet.MinMTU6 {
				r.Errorf("%d octets", len(f))
			}
		}
	}
	return out
}

func TestSendRedirect(t *testing.T) {
	r := forwarder(t)
	r.Send(ns(t, Peer, peer, me), through(peer, far, 100))
	want := "fe80::1 > " + peer + " redirect " + far + " to fe80::3 quotes 144"
	if got := redirects(r); len(got) != 1 || got[0] != want {
		t.Fatalf("sent %q, want %q", got, want)
	}
	r.Send(na(t, other, "fe80::3", "RSO"), through(peer, far, 1400))
	want = "fe80::1 > " + peer + " redirect " + far + " to fe80::3 at 02:00:00:00:00:09 quotes 1184"
	if got := redirects(r); len(got) != 1 || got[0] != want {
		t.Fatalf("sent %q, want %q", got, want)
	}
	r.Send(through(peer, "2001:db8::9", 8)) // the destination itself is on the link
	want = "fe80::1 > " + peer + " redirect 2001:db8::9 to 2001:db8::9 quotes 48"
	if got := redirects(r); len(got) != 1 || got[0] != want {
		t.Fatalf("sent %q, want %q", got, want)
	}
}

func TestWhomARedirectDoesNotHelp(t *testing.T) {
	r := forwarder(t)
	r.Send(ns(t, Peer, peer, me))
	r.Sent()
	via(r, "2001:dba::/32", "fe80::2")
	r.Send(through("2001:dba::5", far, 8)) // no neighbour
	r.Send(through("fe80::3", far, 8))     // the better hop itself
	if got := redirects(r); len(got) != 0 {
		t.Errorf("sent %q", got)
	}
}

func TestRedirectsHaveALimit(t *testing.T) {
	r := forwarder(t)
	r.Send(ns(t, Peer, peer, me), na(t, other, "fe80::3", "RSO"))
	r.Sent()
	for range 150 {
		r.Send(through(peer, far, 8))
	}
	if n := len(redirects(r)); n != 100 {
		t.Errorf("%d in a second", n)
	}
	r.Pass(time.Second)
	r.Send(through(peer, far, 8))
	if n := len(redirects(r)); n != 1 {
		t.Errorf("%d in the next", n)
	}
}

// What we send reads back as what it says in the other implementation.
func TestOthersReadUs(t *testing.T) {
	r := rig(t)
	udp(r).send(peer, "x")
	r.Send(ns(t, Peer, "2001:db8::3", me))
	r.Addr(r.If, "2001:db8::5/64")
	var got []ndp.Message
	for _, f := range r.Sent() {
		h := packet.IPv6(f[packet.EtherLen:])
		if h.Next() != packet.ProtoICMPv6 {
			continue
		}
		m, err := ndp.ParseMessage(h.Payload())
		if err != nil {
			t.Fatalf("%s: %v", Describe(f), err)
		}
		again, err := ndp.MarshalMessageChecksum(m, h.Src(), h.Dst())
		if err != nil || string(again) != string(h.Payload()) {
			t.Errorf("%s: %v\n%x\n%x", Describe(f), err, again, []byte(h.Payload()))
		}
		got = append(got, m)
	}
	if len(got) != 3 {
		t.Fatalf("%d messages", len(got))
	}
	if s, ok := got[0].(*ndp.NeighborSolicitation); !ok || s.TargetAddress != ip(peer) || len(s.Options) != 1 {
		t.Errorf("%+v", got[0])
	}
	if a, ok := got[1].(*ndp.NeighborAdvertisement); !ok || a.TargetAddress != ip(me) || a.Router || !a.Solicited || !a.Override || len(a.Options) != 1 {
		t.Errorf("%+v", got[1])
	}
	if a, ok := got[2].(*ndp.NeighborAdvertisement); !ok || a.TargetAddress != ip("2001:db8::5") || a.Solicited || !a.Override {
		t.Errorf("%+v", got[2])
	}
}
