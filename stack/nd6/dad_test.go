package nd6_test

import (
	"strings"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

// probing is a rig whose first address, fe80::1, is being asked for.
func probing(t *testing.T, count string) *Rig {
	t.Helper()
	r := bare(t)
	r.Sysctl("net.inet6.ip6.dad_count", count)
	r.If = r.AddIf("en0", Me, "fe80::1/64")
	return r
}

const (
	asks     = ":: > ff02::1:ff00:1 ns fe80::1 nonce"
	announce = "fe80::1 > ff02::2 na fe80::1 [] at 02:00:00:00:00:01"
)

// ndSent is what was sent of neighbour discovery, one line a message.
func ndSent(r *Rig) (out []string) {
	for _, f := range r.Sent() {
		if s := Describe(f); strings.Contains(s, " ns ") || strings.Contains(s, " na ") {
			out = append(out, s)
		}
	}
	return out
}

func expectND(r *Rig, want ...string) {
	r.Helper()
	if got := ndSent(r); strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.Fatalf("sent:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestProbing(t *testing.T) {
	r := probing(t, "1")
	a := r.If.Addrs()[0]
	if !a.Tentative {
		t.Fatal("the address is not tentative while it is asked for")
	}
	expectND(r) // not at once: others may have come up at this moment
	r.Send(ns(t, Peer, "fe80::2", "fe80::1"))
	r.Pass(100 * time.Millisecond)
	expectND(r, asks) // and no answer
	r.Pass(1050 * time.Millisecond)
	expectND(r, announce)
	if a := r.If.Addrs()[0]; a.Tentative || a.Duplicated {
		t.Fatalf("the address is still tentative, or duplicated: %+v", a)
	}
	r.Send(ns(t, Peer, "fe80::2", "fe80::1"))
	expectND(r, "fe80::1 > fe80::2 na fe80::1 [SO] at 02:00:00:00:00:01")
}

func TestProbingAsOftenAsWished(t *testing.T) {
	r := probing(t, "3")
	r.Pass(10 * time.Second)
	expectND(r, asks, asks, asks, announce)
}

// An address that is not asked for is told to everybody: it may have been
// somewhere else until now.
func TestWithoutProbing(t *testing.T) {
	r := probing(t, "0")
	expectND(r, "fe80::1 > ff02::1 na fe80::1 [O] at 02:00:00:00:00:01")
}

func TestProbingFindsAnOwner(t *testing.T) {
	for name, f := range map[string]func() []byte{
		"an advertisement": func() []byte { return na(t, other, "fe80::1", "O") },
		"without override": func() []byte { return na(t, other, "fe80::1", "") },
		"a probe at once":  func() []byte { return ns(t, other, "::", "fe80::1") },
		"a probe with a nonce": func() []byte {
			return frame(other, "::", "ff02::1:ff00:1", body(packet.ICMP6NeighborSol, 0, "fe80::1", []byte{packet.NDOptNonce, 1, 1, 2, 3, 4, 5, 6}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := probing(t, "2")
			r.Pass(500 * time.Millisecond)
			r.Sent()
			r.Counts("nd6", "DAD failed", func() { r.Send(f()) })
			if a := r.If.Addrs()[0]; !a.Duplicated || a.Tentative {
				t.Fatalf("%+v, want it duplicated", a)
			}
			r.Pass(time.Minute)
			expectND(r)
			r.Send(ns(t, Peer, "fe80::2", "fe80::1"), ns(t, Peer, "::", "fe80::1"))
			expectND(r) // it is the other one's to answer
		})
	}
}

// Before anybody has been asked, too: who asks at this moment has it.
func TestProbeBeforeOurs(t *testing.T) {
	r := probing(t, "1")
	r.Send(ns(t, other, "::", "fe80::1"))
	if a := r.If.Addrs()[0]; !a.Duplicated {
		t.Fatalf("%+v, want it duplicated", a)
	}
	r.Pass(time.Minute)
	expectND(r)
}

// RFC 7527 §4: our own question is nobody's answer, but as long as it comes
// back we do not know whether others hear us.
func TestLoopedBack(t *testing.T) {
	r := probing(t, "1")
	loop := func() {
		t.Helper()
		var ours []byte
		for _, f := range r.Sent() {
			if Describe(f) == asks {
				ours = f
			}
		}
		if ours == nil {
			t.Fatal("nobody was asked")
		}
		r.Counts("nd6", "DAD looped", func() { r.Send(ours) })
	}
	r.Pass(100 * time.Millisecond)
	loop()
	for range 5 { // three more, one of which comes back, so three more
		r.Pass(time.Second)
		if !r.If.Addrs()[0].Tentative {
			t.Fatal("the address counts as asked for")
		}
		loop()
	}
	r.Pass(10 * time.Second)
	expectND(r, asks, asks, asks, asks, announce)
	if a := r.If.Addrs()[0]; a.Tentative || a.Duplicated {
		t.Fatalf("%+v", a)
	}
}

// sameMAC is a solicitation of another station that has our link address, with a nonce.
func sameMAC(src string) []byte {
	return frame(Me, src, "ff02::1:ff00:1", body(packet.ICMP6NeighborSol, 0, "fe80::1", []byte{packet.NDOptNonce, 1, 1, 2, 3, 4, 5, 6}))
}

// Another station with our link address has our addresses: who asks for one
// finds that it is taken, from the question of who asks too and from the answer of
// who has it (RFC 7527 §4.2).
func TestSameLinkAddress(t *testing.T) {
	for name, f := range map[string][]byte{
		"asks":           sameMAC("::"),
		"has it already": na(t, Me, "fe80::1", "O"),
	} {
		t.Run(name, func(t *testing.T) {
			r := probing(t, "2")
			r.Pass(500 * time.Millisecond)
			r.Sent()
			r.Counts("nd6", "DAD failed", func() { r.Send(f) })
			if a := r.If.Addrs()[0]; !a.Duplicated || a.Tentative {
				t.Fatalf("%+v, want it duplicated", a)
			}
		})
	}
	for name, f := range map[string][]byte{
		"without a nonce":              ns(t, Me, "::", "fe80::1"),
		"from an address":              sameMAC("fe80::2"),
		"from beyond a router":         func() []byte { f := sameMAC("::"); f[packet.EtherLen+7] = 254; return f }(),
		"with a wrong checksum":        func() []byte { f := sameMAC("::"); f[len(f)-1]++; return f }(),
		"cut short":                    sameMAC("::")[:packet.EtherLen+packet.IPv6Len+20],
		"of another type":              frame(Me, "::", "ff02::1:ff00:1", body(packet.ICMP6RouterSol, 0, "fe80::1")),
		"about an address not of ours": frame(Me, "::", "ff02::1:ff00:1", body(packet.ICMP6NeighborSol, 0, "fe80::9", []byte{packet.NDOptNonce, 1, 1, 2, 3, 4, 5, 6})),
	} {
		t.Run(name, func(t *testing.T) {
			r := probing(t, "2")
			r.Pass(500 * time.Millisecond)
			r.Sent()
			r.Counts("ether", "own frame", func() { r.Send(f) })
			if a := r.If.Addrs()[0]; a.Duplicated {
				t.Fatalf("%+v, want it as it was", a)
			}
		})
	}

	// Who has it tells who asks, and everybody else; but not itself, when the
	// link is slow to bring its own question back.
	r := probing(t, "1")
	r.Pass(100 * time.Millisecond)
	ours := r.Sent()
	r.Pass(10 * time.Second)
	r.Sent()
	r.Send(ours...)
	expectND(r)
	r.Counts("nd6", "duplicate address", func() { r.Send(sameMAC("::")) })
	expectND(r, "fe80::1 > ff02::1 na fe80::1 [O] at 02:00:00:00:00:01")
}

func TestProbingSurvivesDownAndUp(t *testing.T) {
	r := probing(t, "2")
	r.Pass(time.Second)
	for _, f := range [][2]uint32{{0, netif.FlagUp}, {netif.FlagUp, 0}} {
		if err := r.SetFlags(r.If, f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
	r.Sent()
	r.Pass(10 * time.Second)
	expectND(r, asks, asks, announce)
}

func TestForgottenWhenDeleted(t *testing.T) {
	r := probing(t, "2")
	r.Pass(500 * time.Millisecond)
	if err := r.DelAddr(r.If, ip("fe80::1")); err != nil {
		t.Fatal(err)
	}
	r.Sent()
	r.Pass(10 * time.Second)
	expectND(r)
}

// optimistic is a rig with fe80::1, and 2001:db8::1 that is in use although it is
// still being asked for.
func optimistic(t *testing.T) *Rig {
	r := probing(t, "1")
	r.Pass(10 * time.Second)
	r.Sent()
	if err := r.AddAddr(r.If, stack.AddrSpec{Addr: ip(me), Bits: 64, Flags: netif.AddrOptimistic}); err != nil {
		t.Fatal(err)
	}
	return r
}

// It overrides nobody, and is not the source of a solicitation (RFC 4429 §3.2,
// §3.3).
func TestOptimistic(t *testing.T) {
	r := optimistic(t)
	expectND(r, me+" > ff02::2 na "+me+" [] at 02:00:00:00:00:01")
	r.Send(ns(t, Peer, peer, me))
	expectND(r, me+" > "+peer+" na "+me+" [S] at 02:00:00:00:00:01")
	udp(r).send("2001:db8::3", "x")
	expectND(r, "fe80::1 > ff02::1:ff00:3 ns 2001:db8::3 from 02:00:00:00:00:01")
	r.Send(na(t, Peer, "2001:db8::3", "SO"))
	r.Expect(me + " > 2001:db8::3 udp 5 > 7 len 1")
	r.Pass(1200 * time.Millisecond)
	expectND(r, ":: > ff02::1:ff00:1 ns "+me+" nonce", me+" > ff02::2 na "+me+" [] at 02:00:00:00:00:01")
	r.Send(ns(t, Peer, peer, me))
	expectND(r, answer)
}

func TestOptimisticFindsAnOwner(t *testing.T) {
	for name, f := range map[string]func() []byte{
		"an advertisement": func() []byte { return na(t, other, me, "O") },
		"a probe":          func() []byte { return ns(t, other, "::", me) },
	} {
		t.Run(name, func(t *testing.T) {
			r := optimistic(t)
			r.Send(f())
			if a := r.If.Addrs()[1]; !a.Duplicated || a.Flags&netif.AddrOptimistic != 0 {
				t.Fatalf("%+v, want it duplicated", a)
			}
		})
	}
}

// Without an address that is sure nobody can be asked: the packet waits until
// there is one (RFC 4429 §3.3).
func TestOptimisticAlone(t *testing.T) {
	r := bare(t)
	r.Sysctl("net.inet6.ip6.dad_count", "1")
	r.If = r.AddIf("en0", Me, "")
	if err := r.AddAddr(r.If, stack.AddrSpec{Addr: ip(me), Bits: 64, Flags: netif.AddrOptimistic}); err != nil {
		t.Fatal(err)
	}
	r.Sent()
	r.Counts("nd6", "no source", func() { udp(r).send(peer, "x") })
	expectND(r)
	r.Pass(2100 * time.Millisecond)
	expectND(r, ":: > ff02::1:ff00:1 ns "+me+" nonce", me+" > ff02::2 na "+me+" [] at 02:00:00:00:00:01", asks2)
	r.Send(na(t, Peer, peer, "SO"))
	r.Expect(datagram2)
}
