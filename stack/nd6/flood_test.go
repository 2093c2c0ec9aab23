package nd6_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ionet/stack/nd6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

// numbered is the n-th address of 2001:db8::/64 from 2001:db8::1:0 on.
func numbered(n int) string {
	b := ip("2001:db8::1:0").As16()
	binary.BigEndian.PutUint32(b[12:], uint32(0x10000+n))
	return netip.AddrFrom16(b).String()
}

// A station that fills the cache keeps us from no neighbour: whom we talk to
// stays, and whom we have not talked to yet is learnt.
func TestFullCache(t *testing.T) {
	r := rig(t)
	r.Sysctl("net.inet6.icmp6.nd6_maxentries", "64")
	set(r, "2001:db8::9", other, 0, 0)
	s := udp(r)
	talk := func(to string) {
		t.Helper()
		s.send(to, "")
		r.Expect(me + " > " + to + " udp 5 > 7 len 0")
	}
	meet(r, s, peer)
	talk(peer)
	for i := range 300 {
		r.Send(ns(t, other, numbered(i), me))
	}
	r.Sent()
	if n := len(r.ND.Entries()); n != 64 {
		t.Errorf("%d entries, want 64", n)
	}
	talk(peer)
	talk("2001:db8::9")
	meet(r, s, "2001:db8::3")
	talk("2001:db8::3")
}

// Answers alone do not make a neighbour one that we talk to.
func TestAnswersAreNoUse(t *testing.T) {
	r := rig(t)
	for range 10 {
		r.Send(ns(t, Peer, peer, me))
	}
	if i, _ := r.ND.Lookup(r.If, ip(peer)); i.Use != 0 || i.State != nd6.Stale {
		t.Errorf("%+v", i)
	}
	r.Sent()
}

// A scan of a network through us asks for so many at a time; it touches neither
// whom we know, nor whom we ask for ourselves (RFC 6583).
func TestScanFromElsewhere(t *testing.T) {
	r := rig(t)
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	r.Sysctl("net.inet6.icmp6.nd6_maxincomplete", "16")
	r.Sysctl("net.inet6.icmp6.nd6_maxentries", "64")
	en1 := r.AddIf("en1", Me1, "2001:db9::1/64")
	s := udp(r)
	meet(r, s, peer)
	s.send(peer, "")
	s.send("2001:db8::3", "x")
	r.Sent()
	for i := range 1000 {
		f := through("2001:db9::2", numbered(i), 8)
		copy(f, Me1[:])
		r.SendOn(en1, f)
	}
	incomplete := 0
	for _, e := range r.ND.Entries() {
		if e.State == nd6.Incomplete {
			incomplete++
		}
	}
	if incomplete != 16+1 {
		t.Errorf("%d are asked for", incomplete)
	}
	if n := Counter(r.Stack, "nd6", "too many asked for"); n != 1000-16 {
		t.Errorf("%d given up", n)
	}
	r.Sent()
	r.Send(na(t, Peer, "2001:db8::3", "SO"))
	r.Expect(me + " > 2001:db8::3 udp 5 > 7 len 1")
	state(r, peer, "REACHABLE")
}

// Who has sent a packet through us to a silent neighbour is told (RFC 4861 §7.2.2).
func TestSenderIsTold(t *testing.T) {
	r := rig(t)
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	en1 := r.AddIf("en1", Me1, "2001:db9::1/64")
	_ = r.Do(func(w *netif.Work) error { return r.ND.Set(w, en1, ip("2001:db9::2"), Peer1, 0, 3600) })
	r.Sent()
	f := through("2001:db9::2", peer, 8)
	copy(f, Me1[:])
	r.SendOn(en1, f)
	r.Pass(2900 * time.Millisecond)
	q := "fe80::1 > ff02::1:ff00:2 ns " + peer + " from 02:00:00:00:00:01"
	expectND(r, q, q, q)
	r.Pass(200 * time.Millisecond)
	r.Expect("2001:db9::1 > 2001:db9::2 unreach 3 quotes 2001:db9::2 > " + peer + " proto 99 len 8")
}

// Our own scan costs us the oldest questions, and nobody else.
func TestScanOfOurOwn(t *testing.T) {
	r := rig(t)
	r.Sysctl("net.inet6.icmp6.nd6_maxincomplete", "16")
	s := udp(r)
	meet(r, s, peer)
	for i := range 100 {
		s.send(numbered(i), "x")
	}
	r.Sent()
	state(r, numbered(83), "")
	state(r, numbered(84), "INCOMPLETE")
	state(r, peer, "REACHABLE")
	r.Send(na(t, Peer, numbered(84), "SO"))
	r.Expect(me + " > " + numbered(84) + " udp 5 > 7 len 1")
}

// Neighbours that are asked for in vain hold some packets, not all there are.
func TestHeldPacketsAreBounded(t *testing.T) {
	r := rig(t)
	s := udp(r)
	for i := range 200 {
		for range 64 {
			_ = s.sendTo(numbered(i), string(make([]byte, 1400)))
		}
	}
	if n := r.Env.Pool.InUse(); n > 9<<20 {
		t.Errorf("%d octets wait", n)
	}
	r.Sent()
	r.Send(na(t, Peer, numbered(0), "SO"))
	if n := len(r.Sent()); n != 64 {
		t.Errorf("%d sent, want what was held first", n)
	}
}

func TestDownGivesBackWhatWaits(t *testing.T) {
	r := rig(t)
	udp(r).send(peer, "x")
	r.Counts("nd6", "no neighbor", func() { _ = r.SetFlags(r.If, 0, netif.FlagUp) })
	if n := len(r.ND.Entries()); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// A packet to a known neighbour allocates nothing, be there few neighbours or a
// hundred thousand.
func TestResolveAllocatesNothing(t *testing.T) {
	r := rig(t)
	r.Sysctl("net.inet6.icmp6.nd6_maxentries", "200000")
	const n = 100_000
	addrs := make([]netip.Addr, n)
	_ = r.Do(func(w *netif.Work) error {
		for i := range n {
			addrs[i] = ip(numbered(i))
			if err := r.ND.Set(w, r.If, addrs[i], Peer, 0, 3600); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	})
	if got := len(r.ND.Entries()); got != n {
		t.Fatalf("%d entries", got)
	}
	pkt := &packet.Buf{}
	_ = r.Do(func(w *netif.Work) error {
		i := 0
		if a := testing.AllocsPerRun(1000, func() {
			i = (i + 7919) % n
			if mac, ok, err := r.ND.Resolve(w, r.If, addrs[i], pkt); mac != Peer || !ok || err != nil {
				t.Fatal(mac, ok, err)
			}
			r.ND.Confirm(w, r.If, addrs[i])
		}); a != 0 {
			t.Errorf("%v allocations a packet", a)
		}
		return nil
	})
}

func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{16, 1024, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := rig(b)
			r.Sysctl("net.inet6.icmp6.nd6_maxentries", "200000")
			addrs, pkt := make([]netip.Addr, n), &packet.Buf{}
			_ = r.Do(func(w *netif.Work) error {
				for i := range n {
					addrs[i] = ip(numbered(i))
					_ = r.ND.Set(w, r.If, addrs[i], Peer, 0, 3600)
				}
				b.ResetTimer()
				for i := range b.N {
					_, _, _ = r.ND.Resolve(w, r.If, addrs[i*7919%n], pkt)
				}
				return nil
			})
		})
	}
}
