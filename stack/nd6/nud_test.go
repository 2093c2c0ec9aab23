package nd6_test

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/nd6"
	"ionet/stack/netif"
	. "ionet/stack/stacktest"
)

const (
	datagram2 = me + " > " + peer + " udp 5 > 7 len 1"
	probe2    = "fe80::1 > " + peer + " ns " + peer + " from 02:00:00:00:00:01"
)

func TestResolution(t *testing.T) {
	r := rig(t)
	s := udp(r)
	s.send(peer, "x")
	r.Expect(asks2)
	state(r, peer, "INCOMPLETE")
	r.Send(na(t, Peer, peer, "SO"))
	r.Expect(datagram2)
	state(r, peer, "REACHABLE")
	knows(r, peer, Peer)
	s.send("fe80::2", "x") // asked for with the source of the packet
	r.Expect("fe80::1 > ff02::1:ff00:2 ns fe80::2 from 02:00:00:00:00:01")
	r.Send(na(t, Peer, "fe80::2", "SO"))
	r.Expect("fe80::1 > fe80::2 udp 5 > 7 len 1")
}

func TestHeldPacketsGoInOrderAndTheOldestIsLost(t *testing.T) {
	r := rig(t)
	s := udp(r)
	for i := range 65 {
		s.send(peer, string(make([]byte, i)))
	}
	r.Expect(asks2)
	if n := Counter(r.Stack, "nd6", "ND queue full"); n != 1 {
		t.Errorf("%d lost, want the oldest alone", n)
	}
	r.Send(na(t, Peer, peer, "SO"))
	var want []string
	for i := range 64 {
		want = append(want, fmt.Sprintf("%s > %s udp 5 > 7 len %d", me, peer, i+1))
	}
	r.Expect(want...)
}

func TestSilentNeighbour(t *testing.T) {
	r := rig(t)
	s := udp(r)
	told := gone(r)
	s.send(peer, "x")
	r.Pass(2500 * time.Millisecond)
	r.Expect(asks2, asks2, asks2)
	r.Counts("nd6", "no neighbor", func() { r.Pass(time.Second) })
	state(r, peer, "UNREACHABLE")
	if err := s.sendTo(peer, "x"); !errors.Is(err, syscall.EHOSTDOWN) {
		t.Fatalf("got %v, want host is down", err)
	}
	r.Expect()
	if !slices.Equal(*told, []string{peer}) {
		t.Errorf("told of %v", *told)
	}
	r.Pass(4 * time.Second) // nd6_down
	state(r, peer, "")
	s.send(peer, "x")
	r.Expect(asks2)
}

func TestSilentNeighbourThatSpeaksUp(t *testing.T) {
	r := rig(t)
	s := udp(r)
	s.send(peer, "x")
	r.Pass(3500 * time.Millisecond)
	state(r, peer, "UNREACHABLE")
	r.Send(ns(t, Peer, peer, me))
	state(r, peer, "STALE")
	r.Sent()
	s.send(peer, "x")
	r.Expect(datagram2)
}

// RFC 4861 §7.3.3, and appendix C.
func TestUnreachabilityDetection(t *testing.T) {
	r := rig(t)
	s := udp(r)
	told := gone(r)
	meet(r, s, peer)
	r.Pass(45 * time.Second)
	state(r, peer, "STALE")
	s.send(peer, "x")
	state(r, peer, "DELAY")
	r.Expect(datagram2)
	r.Pass(4900 * time.Millisecond)
	r.Expect()
	r.Pass(200 * time.Millisecond)
	state(r, peer, "PROBE")
	r.Expect(probe2)
	s.send(peer, "x") // packets go there meanwhile
	r.Expect(datagram2)
	r.Send(na(t, Peer, peer, "S"))
	state(r, peer, "REACHABLE")
	r.Pass(45 * time.Second)
	s.send(peer, "x")
	r.Sent()
	r.Pass(7500 * time.Millisecond)
	r.Expect(probe2, probe2, probe2)
	r.Counts("nd6", "unreachable", func() { r.Pass(time.Second) })
	state(r, peer, "")
	if !slices.Equal(*told, []string{peer}) {
		t.Errorf("told of %v", *told)
	}
	s.send(peer, "x")
	r.Expect(asks2)
}

func TestNobodyUsesItNobodyProbesIt(t *testing.T) {
	r := rig(t)
	meet(r, udp(r), peer)
	r.Pass(100 * time.Second)
	r.Expect()
	r.Pass(10 * time.Second) // nd6_gctimer
	state(r, peer, "")
}

func TestWithoutDetection(t *testing.T) {
	r := rig(t)
	s := udp(r)
	flags(r, 0)
	meet(r, s, peer)
	for range 3 {
		r.Pass(59 * time.Second)
		s.send(peer, "x")
		r.Expect(datagram2)
	}
	state(r, peer, "STALE")
}

// What neighbour advertisements do to an entry (RFC 4861 §7.2.5).
func TestAdvertisements(t *testing.T) {
	for _, c := range []struct {
		name  string
		stale bool
		at    netif.MAC
		flags string
		state string
		mac   netif.MAC
	}{
		{"another address without override suspends the reachable", false, other, "S", "STALE", Peer},
		{"and leaves the stale alone", true, other, "S", "STALE", Peer},
		{"with override it is believed", false, other, "O", "STALE", other},
		{"and, solicited, reachable", true, other, "SO", "REACHABLE", other},
		{"the same address unsolicited changes nothing", false, Peer, "O", "REACHABLE", Peer},
		{"nor does it confirm", true, Peer, "O", "STALE", Peer},
		{"the same address solicited confirms", true, Peer, "S", "REACHABLE", Peer},
		{"so does one without address", true, netif.MAC{}, "S", "REACHABLE", Peer},
		{"without override too", true, Peer, "S", "REACHABLE", Peer},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rig(t)
			meet(r, udp(r), peer)
			if c.stale {
				r.Pass(45 * time.Second)
			}
			r.Send(na(t, c.at, peer, c.flags))
			state(r, peer, c.state)
			knows(r, peer, c.mac)
		})
	}
}

func TestAdvertisementToTheIncomplete(t *testing.T) {
	r := rig(t)
	s := udp(r)
	s.send(peer, "x")
	r.Expect(asks2)
	r.Send(na(t, netif.MAC{}, peer, "SO")) // it does not say where
	state(r, peer, "INCOMPLETE")
	r.Expect()
	r.Send(na(t, Peer, peer, "")) // nobody's answer: the neighbour is known, and to be looked after
	r.Expect(datagram2)
	state(r, peer, "DELAY")
}

func TestRouterFlag(t *testing.T) {
	r := rig(t)
	s := udp(r)
	told := gone(r)
	s.send(peer, "")
	r.Send(na(t, Peer, peer, "RSO"))
	if i, _ := r.ND.Lookup(r.If, ip(peer)); !i.IsRouter || len(*told) != 0 || !r.ND.IsRouter(r.If, ip(peer)) {
		t.Fatalf("%+v, told of %v", i, *told)
	}
	r.Send(na(t, other, peer, "")) // not believed: it says nothing of the role either
	r.Send(na(t, Peer, peer, "S"))
	if i, _ := r.ND.Lookup(r.If, ip(peer)); i.IsRouter || !slices.Equal(*told, []string{peer}) {
		t.Fatalf("%+v, told of %v", i, *told)
	}
}

func TestHints(t *testing.T) {
	confirm := func(r *Rig) {
		_ = r.Do(func(w *netif.Work) error { r.ND.Confirm(w, r.If, ip(peer)); return nil })
	}
	r := rig(t)
	s := udp(r)
	meet(r, s, peer)
	r.Pass(45 * time.Second)
	confirm(r)
	state(r, peer, "STALE") // nd6_maxnudhint is 0
	r.Sysctl("net.inet6.icmp6.nd6_maxnudhint", "2")
	s.send(peer, "x")
	r.Expect(datagram2)
	confirm(r)
	state(r, peer, "REACHABLE")
	r.Pass(10 * time.Second)
	confirm(r)
	r.Pass(time.Duration(r.ND.IfInfo(r.If).Reachable)*time.Millisecond - time.Second)
	state(r, peer, "REACHABLE")
	r.Pass(2 * time.Second)
	state(r, peer, "STALE")
	confirm(r)
	state(r, peer, "STALE") // twice in a row was enough
	r.Send(na(t, Peer, peer, "S"))
	r.Pass(45 * time.Second)
	confirm(r)
	state(r, peer, "REACHABLE")
	r.Expect()
}

func TestPermanentEntryStays(t *testing.T) {
	r := rig(t)
	set(r, peer, Peer, 0, 0)
	r.Counts("nd6", "permanent entry", func() { r.Send(na(t, other, peer, "SO")) })
	r.Counts("nd6", "permanent entry", func() { r.Send(ns(t, other, peer, me)) })
	r.Sent()
	r.Pass(24 * time.Hour)
	knows(r, peer, Peer)
	state(r, peer, "PERMANENT")
	udp(r).send(peer, "x")
	r.Expect(datagram2)
}

func TestEntryByHandForAWhile(t *testing.T) {
	r := rig(t)
	set(r, peer, Peer, 0, 20)
	r.Pass(19 * time.Second)
	state(r, peer, "REACHABLE")
	r.Pass(2 * time.Second)
	state(r, peer, "STALE")
}

func TestEntryByHandIsOfOneHost(t *testing.T) {
	r := rig(t)
	for _, a := range []string{"ff02::1:ff00:2", "10.0.0.2"} {
		if err := r.Do(func(w *netif.Work) error { return r.ND.Set(w, r.If, ip(a), Peer, 0, 0) }); !errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Errorf("%s: %v", a, err)
		}
	}
	if err := r.Do(func(w *netif.Work) error { return r.ND.Delete(w, r.If, ip(peer)) }); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("nobody was deleted: %v", err)
	}
}

// The time that a neighbour counts as reachable is random, half to one and a
// half of what the link has, and drawn anew when that changes and after hours.
func TestReachableTime(t *testing.T) {
	r := rig(t)
	base := func(ms uint32) uint32 {
		_ = r.Do(func(w *netif.Work) error {
			r.ND.SetIfInfo(w, r.If, func(i *nd6.IfInfo) { i.BaseReachable = ms })
			return nil
		})
		return r.ND.IfInfo(r.If).Reachable
	}
	seen := map[uint32]bool{}
	for i := range 100 {
		ms := 10_000 + uint32(i)*100
		got := base(ms)
		if got < ms/2 || got > ms*3/2 {
			t.Fatalf("%d of %d", got, ms)
		}
		seen[got*1000/ms] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different factors of 100", len(seen))
	}
	s := udp(r)
	was := base(30_000)
	meet(r, s, peer)
	if now := r.ND.IfInfo(r.If).Reachable; now != was {
		t.Errorf("drawn again at once: %d, %d", was, now)
	}
	r.Pass(3 * time.Hour)
	meet(r, s, peer)
	if now := r.ND.IfInfo(r.If).Reachable; now == was {
		t.Errorf("still %d after hours", now)
	}
	if got := base(1); r.ND.IfInfo(r.If).BaseReachable != 100 || got < 50 {
		t.Errorf("a millisecond is believed: %+v", r.ND.IfInfo(r.If))
	}
}

// What autoconf tells of routers and of who looks for them.
func TestHeard(t *testing.T) {
	r := rig(t)
	told := gone(r)
	heard := func(addr string, mac netif.MAC, known, router bool) {
		_ = r.Do(func(w *netif.Work) error {
			a := ip(addr)
			if a.IsLinkLocalUnicast() {
				a = scoped(r, addr)
			}
			r.ND.Heard(w, r.If, a, mac, known, router)
			return nil
		})
	}
	heard("fe80::2", Peer, false, true)
	state(r, "fe80::2", "")
	heard("fe80::2", Peer, true, true)
	state(r, "fe80::2", "STALE")
	if !r.ND.Reachable(r.If, scoped(r, "fe80::2")) || !r.ND.IsRouter(r.If, scoped(r, "fe80::2")) {
		t.Error("a router that was heard is not one that can be reached")
	}
	heard("fe80::2", other, false, true)
	knows(r, "fe80::2", Peer)
	heard("fe80::2", Peer, true, false)
	if !slices.Equal(*told, []string{"fe80::2"}) {
		t.Errorf("told of %v", *told)
	}
	for addr, mac := range map[string]netif.MAC{"fe80::1": Peer, "2001:db9::2": Peer, "fe80::3": netif.BroadcastMAC, "fe80::4": Me, "fe80::5": {}} {
		heard(addr, mac, true, true)
		if addr != "fe80::1" {
			state(r, addr, "")
		}
	}
}

func TestRouterMessagesGoToAutoconf(t *testing.T) {
	r := rig(t)
	r.ND.SetRouter(nil)
	r.Counts("nd6", "router message ignored", func() {
		r.Send(message(t, Peer, "fe80::2", "ff02::1", &ndp.RouterAdvertisement{}))
	})
	got := &routers{}
	r.ND.SetRouter(got)
	r.Send(message(t, Peer, "fe80::2", "ff02::1", &ndp.RouterAdvertisement{}))
	if got.n != 1 {
		t.Errorf("%d messages handed on", got.n)
	}
}
