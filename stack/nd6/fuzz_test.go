package nd6_test

import (
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

// FuzzND has a host and a router, with addresses in every state, receive
// messages of anybody's making: input is from whom (the low bits of how), to
// whom, and the message from its type on. Nothing panics, the books balance, and
// what is remembered is bounded.
func FuzzND(f *testing.F) {
	for _, m := range [][]byte{
		body(packet.ICMP6NeighborSol, 0, me, option(packet.NDOptSourceLink, 1, Peer)),
		body(packet.ICMP6NeighborSol, 0, "fe80::5", []byte{packet.NDOptNonce, 1, 1, 2, 3, 4, 5, 6}),
		body(packet.ICMP6NeighborSol, 0, "2001:db8::a"),
		body(packet.ICMP6NeighborAdv, 0xe0, peer, option(packet.NDOptTargetLink, 1, other)),
		body(packet.ICMP6NeighborAdv, 0x20, "fe80::2", option(packet.NDOptTargetLink, 1, other)),
		body(packet.ICMP6NeighborAdv, 0x20, "fe80::5"),
		redirectTo("fe80::3", far, option(packet.NDOptTargetLink, 1, other)),
		redirectTo(far, far),
		{packet.ICMP6RouterAdv, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0},
		{packet.ICMP6RouterSol, 0, 0, 0, 0, 0, 0, 0},
	} {
		for how := range uint8(16) {
			f.Add(how, m)
		}
	}
	f.Fuzz(func(t *testing.T, how uint8, m []byte) {
		if len(m) < 4 || len(m) > 1400 {
			return
		}
		m[0] = packet.ICMP6RouterSol + (m[0]+3)%5 // the seeds keep their types
		r := routed(t)
		r.Sysctl("net.inet6.icmp6.nd6_maxentries", "16")
		if how&16 != 0 {
			r.Sysctl("net.inet6.ip6.forwarding", "1")
			r.Sysctl("net.inet6.icmp6.nd6_untracked", "1")
		}
		set(r, "2001:db8::7", other, 2, 0)
		s := udp(r)
		meet(r, s, peer)
		s.send("2001:db8::3", "x")
		r.Sysctl("net.inet6.ip6.dad_count", "1")
		r.Addr(r.If, "fe80::5/64")
		if err := r.AddAddr(r.If, stack.AddrSpec{Addr: ip("2001:db8::a"), Bits: 64, Flags: netif.AddrAnycast}); err != nil {
			t.Fatal(err)
		}
		src := [...]string{"fe80::2", peer, "::", far}[how&3]
		dst := [...]string{me, "ff02::1", "ff02::1:ff00:1", "ff02::1:ff00:5"}[how>>2&3]
		r.Send(frame(Peer, src, dst, m), frame(Me, src, dst, m))
		r.Pass(10 * time.Second)
		r.Send(frame(Peer, src, dst, m), frame(other, src, dst, m))
		if n := len(r.ND.Entries()); n > 16 {
			t.Errorf("%d neighbours are remembered", n)
		}
		if got := hop(r, me); got != "on link" {
			t.Errorf("our own address leads to %s", got)
		}
		state(r, "2001:db8::7", "PERMANENT")
	})
}
