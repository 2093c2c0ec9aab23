package nd6_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack"
	"ionet/stack/nd6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

type routers struct{ n int }

func (g *routers) Input(_ *netif.Work, _ *netif.Interface, p *packet.Buf) {
	g.n++
	p.Free()
}

func (*routers) Remembers(*netif.Interface, netip.Addr) bool { return false }

// scoped is an address of en0's link as the stack has it.
func scoped(r *Rig, s string) netip.Addr { return packet.Scoped(ip(s), r.If.Index) }

const answer = me + " > " + peer + " na " + me + " [SO] at 02:00:00:00:00:01"

func TestSolicitationIsAnsweredAndTeaches(t *testing.T) {
	r := rig(t)
	r.Send(ns(t, Peer, peer, me))
	r.Expect(answer)
	knows(r, peer, Peer)
	state(r, peer, "STALE")
}

func TestSolicitationTeachesAgain(t *testing.T) {
	r := rig(t)
	meet(r, udp(r), peer)
	r.Send(ns(t, Peer, peer, me)) // nothing new
	state(r, peer, "REACHABLE")
	r.Send(ns(t, other, peer, me))
	state(r, peer, "STALE")
	knows(r, peer, other)
}

func TestSolicitationWithoutAddress(t *testing.T) {
	r := rig(t)
	r.Send(message(t, Peer, peer, me, &ndp.NeighborSolicitation{TargetAddress: ip(me)}))
	r.Expect(asks2) // where is it?
	r.Send(na(t, Peer, peer, "SO"))
	r.Expect(answer)
}

func TestRouterSaysSo(t *testing.T) {
	r := rig(t)
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	r.Send(ns(t, Peer, peer, me))
	r.Expect(me + " > " + peer + " na " + me + " [RSO] at 02:00:00:00:00:01")
}

// Somebody who asks whether our address is free is told by way of everybody.
func TestProbeForOurAddressIsAnswered(t *testing.T) {
	r := rig(t)
	r.Send(ns(t, Peer, "::", me))
	r.Expect(me + " > ff02::1 na " + me + " [O] at 02:00:00:00:00:01")
}

func option(typ, n byte, mac netif.MAC) []byte { return append([]byte{typ, n}, mac[:]...) }

func body(typ, flags uint8, target string, opts ...[]byte) []byte {
	b := make([]byte, packet.NeighborSolLen)
	packet.PutNeighbor(b, typ, flags, ip(target))
	return append(b, bytes.Join(opts, nil)...)
}

func redirectTo(target, dst string, opts ...[]byte) []byte {
	b := make([]byte, packet.RedirectLen)
	packet.PutRedirect(b, ip(target), ip(dst))
	return append(b, bytes.Join(opts, nil)...)
}

// Messages that break a rule of RFC 4861 §7.1 or §8.1 teach nothing, get no
// answer, and are counted.
func TestRefused(t *testing.T) {
	const (
		sol = packet.ICMP6NeighborSol
		adv = packet.ICMP6NeighborAdv
		ns  = "bad neighbor solicitation"
		na  = "bad neighbor advertisement"
		rd  = "bad redirect"
	)
	group := packet.SolicitedNode(ip(me)).String()
	source := option(packet.NDOptSourceLink, 1, Peer)
	target := option(packet.NDOptTargetLink, 1, Peer)
	for _, c := range []struct {
		name, counter string
		frame         []byte
	}{
		{"solicitation cut short", ns, frame(Peer, peer, me, body(sol, 0, me)[:23])},
		{"solicitation for a group", ns, frame(Peer, peer, me, body(sol, 0, "ff02::1", source))},
		{"option of length 0", ns, frame(Peer, peer, me, body(sol, 0, me, option(packet.NDOptSourceLink, 0, Peer)))},
		{"option longer than there is", ns, frame(Peer, peer, me, body(sol, 0, me, option(packet.NDOptSourceLink, 2, Peer)))},
		{"half an option", ns, frame(Peer, peer, me, body(sol, 0, me, source[:4]))},
		{"a longer link address", ns, frame(Peer, peer, me, body(sol, 0, me, option(packet.NDOptSourceLink, 2, Peer), make([]byte, 8)))},
		{"probe to one host", ns, frame(Peer, "::", me, body(sol, 0, me))},
		{"probe to all nodes", ns, frame(Peer, "::", "ff02::1", body(sol, 0, me))},
		{"probe with a link address", ns, frame(Peer, "::", group, body(sol, 0, me, source))},
		{"a group as station", ns, frame(Peer, peer, group, body(sol, 0, me, option(packet.NDOptSourceLink, 1, netif.MAC{3})))},
		{"nobody as station", ns, frame(Peer, peer, group, body(sol, 0, me, option(packet.NDOptSourceLink, 1, netif.MAC{})))},
		{"ourselves as station", ns, frame(Peer, peer, group, body(sol, 0, me, option(packet.NDOptSourceLink, 1, Me)))},
		{"solicitation from no neighbour", ns, frame(Peer, "2001:db9::2", group, body(sol, 0, me, source))},
		{"advertisement cut short", na, frame(Peer, peer, me, body(adv, 0, peer)[:23])},
		{"advertisement of a group", na, frame(Peer, peer, me, body(adv, 0x60, "ff02::2", target))},
		{"advertisement to a group, solicited", na, frame(Peer, peer, "ff02::1", body(adv, 0x60, peer, target))},
		{"advertisement with half an option", na, frame(Peer, peer, me, body(adv, 0x60, peer, target[:4]))},
		{"advertisement of a group station", na, frame(Peer, peer, me, body(adv, 0x60, peer, option(packet.NDOptTargetLink, 1, netif.MAC{3})))},
		{"redirect cut short", rd, frame(Peer, "fe80::2", me, redirectTo("fe80::3", "2001:db9::9")[:39])},
		{"redirect from a global address", rd, frame(Peer, peer, me, redirectTo("fe80::3", "2001:db9::9", target))},
		{"redirect for a group", rd, frame(Peer, "fe80::2", me, redirectTo("fe80::3", "ff05::9", target))},
		{"redirect to a global router", rd, frame(Peer, "fe80::2", me, redirectTo("2001:db8::3", "2001:db9::9", target))},
		{"redirect from another than the first hop", rd, frame(Peer, "fe80::2", me, redirectTo("fe80::3", "2001:db9::9", target))},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rig(t)
			if c.counter == na { // it would be believed but for what is wrong
				udp(r).send(peer, "")
				r.Sent()
			}
			r.Counts("icmp6", c.counter, func() { r.Send(c.frame) })
			r.Expect()
			for _, a := range []string{peer, "2001:db9::2", "fe80::2", "fe80::3"} {
				unknown(r, a)
			}
		})
	}
}

// Hop limit, code, checksum and fragments are inet6's to look at; here it is that
// nothing of the kind has an effect.
func TestFromBeyondARouter(t *testing.T) {
	for name, spoil := range map[string]func(b []byte){
		"hop limit":  func(b []byte) { b[packet.EtherLen+7] = 254 },
		"code":       func(b []byte) { b[packet.EtherLen+packet.IPv6Len+1] = 1 },
		"a checksum": func(b []byte) { b[len(b)-1] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := rig(t)
			f := ns(t, Peer, peer, me)
			spoil(f)
			if name == "code" {
				h := packet.IPv6(f[packet.EtherLen:])
				packet.ICMP6(h.Payload()).SetChecksum(h.Src(), h.Dst())
			}
			r.Send(f)
			r.Expect()
			unknown(r, peer)
		})
	}
}

func TestWhatTeachesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame func(t *testing.T) []byte
	}{
		{"for others", func(t *testing.T) []byte {
			return frame(Peer, peer, packet.SolicitedNode(ip(me)).String(), body(packet.ICMP6NeighborSol, 0, "2001:db8:1::1", option(1, 1, Peer)))
		}},
		{"an unasked advertisement", func(t *testing.T) []byte { return na(t, Peer, peer, "O") }},
		{"a solicited one that nobody solicited", func(t *testing.T) []byte { return na(t, Peer, peer, "SO") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rig(t)
			r.Counts("nd6", "ND for others", func() { r.Send(c.frame(t)) })
			r.Expect()
			state(r, peer, "")
		})
	}
}

// RFC 9131: a router may know a new host before it has to ask.
func TestUntrackedNeighbour(t *testing.T) {
	r := rig(t)
	r.Sysctl("net.inet6.icmp6.nd6_untracked", "1")
	r.Send(na(t, Peer, peer, ""))
	state(r, peer, "") // no router
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	r.Send(na(t, Peer, peer, ""))
	state(r, peer, "STALE")
	r.Send(na(t, Peer, "2001:db9::2", ""))
	state(r, "2001:db9::2", "")
}

// A station that speaks as we do is not believed, and the log says so.
func TestDuplicateInUse(t *testing.T) {
	var log bytes.Buffer
	r := rig(t, func(c *stack.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	r.Counts("nd6", "duplicate address", func() { r.Send(na(t, other, me, "O")) })
	r.Counts("nd6", "duplicate address", func() { r.Send(ns(t, other, me, "fe80::1")) })
	r.Expect()
	if !bytes.Contains(log.Bytes(), []byte("duplicate address")) {
		t.Errorf("log: %s", log.Bytes())
	}
	if a := r.If.Addrs()[1]; a.Duplicated || a.Tentative {
		t.Errorf("%+v", a)
	}
	for i := range 200 {
		r.Send(na(t, netif.MAC{2, 0, 0, 0, 1, byte(i)}, me, "O"))
	}
	if n := bytes.Count(log.Bytes(), []byte("\n")); n > 10 {
		t.Errorf("%d lines in no time", n)
	}
}

func TestDebugSaysWhy(t *testing.T) {
	var log bytes.Buffer
	r := rig(t, func(c *stack.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	bad := frame(Peer, "2001:db9::2", me, body(packet.ICMP6NeighborSol, 0, me))
	r.Send(bad)
	if log.Len() != 0 {
		t.Errorf("log: %s", log.Bytes())
	}
	r.Sysctl("net.inet6.icmp6.nd6_debug", "1")
	r.Send(bad)
	if !bytes.Contains(log.Bytes(), []byte("from no neighbour")) {
		t.Errorf("log: %s", log.Bytes())
	}
}

func TestProxy(t *testing.T) {
	r := rig(t)
	set(r, "2001:db8::7", other, nd6.Published, 0)
	isAt := func(to, flags string) string {
		return "fe80::1 > " + to + " na 2001:db8::7 [" + flags + "] at 02:00:00:00:00:09"
	}
	expectND(r, isAt("ff02::1", ""))
	r.Pass(10 * time.Second)
	r.Sent() // the group is joined
	r.Send(ns(t, Peer, peer, "2001:db8::7"))
	r.Expect(isAt(peer, "S"))
	r.Send(ns(t, Peer, "::", "2001:db8::7")) // its owner has it already
	r.Expect(isAt("ff02::1", ""))
	r.Send(ns(t, other, "2001:db8::7", "2001:db8::7"))
	r.Expect() // its owner speaks for itself
	_ = r.Do(func(w *netif.Work) error { return r.ND.Delete(w, r.If, ip("2001:db8::7")) })
	r.Pass(10 * time.Second)
	r.Sent()
	r.Send(ns(t, Peer, peer, "2001:db8::7"))
	r.Expect()
}

func TestProxyOnlyIsNotForOurselves(t *testing.T) {
	r := rig(t)
	set(r, "2001:db8::7", Me, nd6.Published|nd6.ProxyOnly, 0)
	r.Sent()
	state(r, "2001:db8::7", "PROXY")
	if err := udp(r).sendTo("2001:db8::7", "x"); err == nil {
		t.Error("sent to an address that is only answered for")
	}
	r.Expect()
}

// Of several hosts with an anycast address the first to answer wins: none
// overrides, and they do not answer at once (RFC 4861 §7.2.7).
func TestAnycast(t *testing.T) {
	r := rig(t)
	if err := r.AddAddr(r.If, stack.AddrSpec{Addr: ip("2001:db8::a"), Bits: 64, Flags: netif.AddrAnycast}); err != nil {
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	r.Sent()
	r.Send(ns(t, Peer, peer, "2001:db8::a"))
	r.Expect()
	r.Pass(time.Second)
	r.Expect("fe80::1 > " + peer + " na 2001:db8::a [S] at 02:00:00:00:00:01")
	for range 300 {
		r.Send(ns(t, Peer, peer, "2001:db8::a"))
	}
	if n := Counter(r.Stack, "nd6", "too many answers"); n != 300-256 {
		t.Errorf("%d not answered", n)
	}
	if err := r.DelAddr(r.If, ip("2001:db8::a")); err != nil {
		t.Fatal(err)
	}
	r.Pass(time.Second)
	for _, f := range r.Sent() {
		if s := Describe(f); s != "" && bytes.Contains([]byte(s), []byte(" na ")) {
			t.Fatalf("answered for an address that has gone: %s", s)
		}
	}
}

// A new link address is told to everybody three times.
func TestLinkChanged(t *testing.T) {
	r := rig(t)
	if err := r.SetMAC(r.If, other); err != nil {
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	a, b := "fe80::1 > ff02::1 na fe80::1 [O] at 02:00:00:00:00:09", me+" > ff02::1 na "+me+" [O] at 02:00:00:00:00:09"
	expectND(r, a, b, a, b, a, b)
}
