package arp_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/arp"
	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

const (
	request = packet.ARPRequest
	reply   = packet.ARPReply
	answer  = "arp 10.0.0.1 is-at 02:00:00:00:00:01 to 02:00:00:00:00:02"
	whoHas2 = "arp who-has 10.0.0.2 tell 10.0.0.1"
)

var other = netif.MAC{2, 0, 0, 0, 0, 9}

func knows(r *Rig, ip string, mac netif.MAC) {
	r.Helper()
	i, ok := r.ARP.Lookup(r.If, netip.MustParseAddr(ip))
	if !ok || !i.Known || i.MAC != mac {
		r.Fatalf("%s: %v, %v, want it at %v", ip, i, ok, mac)
	}
}

func unknown(r *Rig, ip string) {
	r.Helper()
	if i, ok := r.ARP.Lookup(r.If, netip.MustParseAddr(ip)); ok && i.Known {
		r.Fatalf("%s is known: %v", ip, i)
	}
}

func set(r *Rig, ip string, mac netif.MAC, flags uint8, life int64) {
	r.Helper()
	if err := r.AddNeighbour(r.If, netip.MustParseAddr(ip), mac, flags, life); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = r.DeleteNeighbour(netip.MustParseAddr(ip)) })
}

func TestRequestIsAnsweredAndTeaches(t *testing.T) {
	r := New(t)
	r.Send(ARP(request, Peer, "10.0.0.2", "10.0.0.1"))
	r.Expect(answer)
	knows(r, "10.0.0.2", Peer)
}

func TestWhatTeachesNothing(t *testing.T) {
	long := ARP(request, Peer, "10.0.0.2", "10.0.0.1")
	long[18] = 8 // link address length
	for _, c := range []struct {
		name, counter string
		frame         []byte
	}{
		{"for others", "ARP for others", ARP(request, Peer, "10.0.0.2", "10.0.0.3")},
		{"an unasked reply", "received", ARP(reply, Peer, "10.0.0.2", "10.0.0.3")},
		{"an announcement of a stranger", "ARP for others", ARP(request, Peer, "10.0.0.2", "10.0.0.2")},
		{"a probe", "ARP for others", ARP(request, Peer, "0.0.0.0", "10.0.0.2")},
		{"cut short", "bad ARP packet", ARP(request, Peer, "10.0.0.2", "10.0.0.1")[:41]},
		{"a group as sender", "bad ARP packet", ARP(request, Peer, "224.0.0.2", "10.0.0.1")},
		{"broadcast as sender", "bad ARP packet", ARP(request, Peer, "255.255.255.255", "10.0.0.1")},
		{"a group as station", "bad ARP packet", ARP(request, netif.MAC{3, 0, 0, 0, 0, 2}, "10.0.0.2", "10.0.0.1")},
		{"no such operation", "bad ARP packet", ARP(8, Peer, "10.0.0.2", "10.0.0.1")},
		{"another kind of address", "bad ARP packet", long},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(t)
			r.Counts("arp", c.counter, func() { r.Send(c.frame) })
			r.Expect()
			unknown(r, "10.0.0.2")
		})
	}
}

func TestForeignSenderIsAnsweredButNotLearnt(t *testing.T) {
	r := New(t)
	r.Send(ARP(request, Peer, "192.168.7.7", "10.0.0.1"))
	r.Expect(answer)
	unknown(r, "192.168.7.7")
}

func TestProbeForOurAddressIsAnswered(t *testing.T) {
	r := New(t)
	r.Send(ARP(request, Peer, "0.0.0.0", "10.0.0.1"))
	r.Expect(answer)
}

func TestAnnouncementUpdates(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	r.Send(ARP(request, other, "10.0.0.2", "10.0.0.2"))
	r.Expect()
	knows(r, "10.0.0.2", other)
}

func TestHeldPacketsGoInOrderAndTheOldestIsLost(t *testing.T) {
	r := New(t)
	s := r.UDP("10.0.0.1:5")
	for i := range 65 {
		if err := s.SendTo("10.0.0.2:7", string(make([]byte, i))); err != nil {
			t.Fatal(err)
		}
	}
	r.Expect(whoHas2)
	if n := Counter(r.Stack, "arp", "ARP queue full"); n != 1 {
		t.Errorf("%d lost, want the oldest alone", n)
	}
	r.Send(ARP(reply, Peer, "10.0.0.2", "10.0.0.1"))
	sent := r.Sent()
	if len(sent) != 64 {
		t.Fatalf("%d sent, want 64", len(sent))
	}
	for i, f := range sent {
		if want := "10.0.0.1 > 10.0.0.2 udp 5 > 7 len " + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10)); i >= 9 && Describe(f) != want {
			t.Errorf("%d: %s, want %s", i, Describe(f), want)
		}
	}
}

func TestSilentNeighbour(t *testing.T) {
	r := New(t)
	s := r.UDP("10.0.0.1:5")
	if err := s.SendTo("10.0.0.2:7", "x"); err != nil {
		t.Fatal(err)
	}
	r.Pass(5 * time.Second)
	r.Expect(whoHas2, whoHas2, whoHas2, whoHas2, whoHas2)
	r.Pass(time.Second)
	if err := s.SendTo("10.0.0.2:7", "x"); err == nil || err.Error() != "host is down" {
		t.Fatalf("got %v, want host is down", err)
	}
	r.Expect()
	r.Pass(21 * time.Second) // net.inet.arp.down
	if err := s.SendTo("10.0.0.2:7", "x"); err != nil {
		t.Fatal(err)
	}
	r.Expect(whoHas2)
}

func TestEntryInUseIsAskedAgainAndAnIdleOneForgotten(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := r.UDP("10.0.0.1:5")
	if err := s.SendTo("10.0.0.2:7", ""); err != nil {
		t.Fatal(err)
	}
	r.Expect("10.0.0.1 > 10.0.0.2 udp 5 > 7 len 0")
	r.Pass(1201 * time.Second)
	r.Expect(whoHas2 + " to 02:00:00:00:00:02")
	r.Send(ARP(reply, Peer, "10.0.0.2", "10.0.0.1"))
	knows(r, "10.0.0.2", Peer)
	r.Pass(1201 * time.Second)
	r.Expect()
	unknown(r, "10.0.0.2")
}

func TestPermanentEntryStays(t *testing.T) {
	r := New(t)
	set(r, "10.0.0.2", Peer, 0, 0)
	r.Counts("arp", "permanent entry", func() { r.Send(ARP(request, other, "10.0.0.2", "10.0.0.1")) })
	knows(r, "10.0.0.2", Peer)
	r.Pass(24 * time.Hour)
	knows(r, "10.0.0.2", Peer)
}

func TestProxy(t *testing.T) {
	r := New(t)
	set(r, "10.0.0.7", other, arp.Published, 0)
	r.Send(ARP(request, Peer, "10.0.0.2", "10.0.0.7"))
	r.Expect("arp 10.0.0.7 is-at 02:00:00:00:00:09 to 02:00:00:00:00:02")
	r.Send(ARP(request, other, "10.0.0.7", "10.0.0.7")) // its owner speaks for itself
	r.Expect()
}

func TestProxyOnlyIsNotForOurselves(t *testing.T) {
	r := New(t)
	set(r, "10.0.0.7", Me, arp.Published|arp.ProxyOnly, 0)
	if err := r.UDP("10.0.0.1:5").SendTo("10.0.0.7:7", "x"); err == nil {
		t.Error("sent to an address that is only answered for")
	}
	r.Expect()
}

func TestConflictIsDefendedOnceInTenSeconds(t *testing.T) {
	r := New(t)
	r.Counts("arp", "address conflict", func() { r.Send(ARP(request, other, "10.0.0.1", "10.0.0.3")) })
	r.Expect("arp announce 10.0.0.1")
	r.Send(ARP(reply, other, "10.0.0.1", "10.0.0.3"))
	r.Expect()
	r.Pass(11 * time.Second)
	r.Send(ARP(request, other, "10.0.0.1", "10.0.0.1"))
	r.Expect("arp announce 10.0.0.1")
	unknown(r, "10.0.0.1")
}

// probing is a rig whose first address is being probed.
func probing(t *testing.T) *Rig {
	r := Bare(t)
	r.Sysctl("net.inet.ip.dad_count", "3")
	r.If = r.AddIf("en0", Me, "10.0.0.1/24")
	return r
}

const probe, announce = "arp probe 10.0.0.1", "arp announce 10.0.0.1"

func TestProbing(t *testing.T) {
	r := probing(t)
	if a := r.If.Addrs()[0]; !a.Tentative {
		t.Fatal("the address is not tentative while it is probed")
	}
	r.Send(Echo("10.0.0.2", "10.0.0.1", "too early"))
	r.Pass(20 * time.Second)
	r.Expect(probe, probe, probe, announce, announce)
	if a := r.If.Addrs()[0]; a.Tentative || a.Duplicated {
		t.Fatalf("the address is still tentative, or duplicated: %+v", a)
	}
}

func TestProbingFindsAnOwner(t *testing.T) {
	for name, f := range map[string][]byte{
		"a reply":         ARP(reply, other, "10.0.0.1", "0.0.0.0"),
		"a request":       ARP(request, other, "10.0.0.1", "10.0.0.5"),
		"a probe at once": ARP(request, other, "0.0.0.0", "10.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) {
			r := probing(t)
			r.Pass(2 * time.Second)
			r.Sent()
			r.Send(f)
			if a := r.If.Addrs()[0]; !a.Duplicated || a.Tentative {
				t.Fatalf("%+v, want it duplicated", a)
			}
			r.Pass(time.Minute)
			r.Expect() // neither probes nor announcements
			r.Send(ARP(request, Peer, "10.0.0.2", "10.0.0.1"))
			r.Expect() // nor an answer
		})
	}
}

func TestProbingSurvivesDownAndUp(t *testing.T) {
	r := probing(t)
	r.Pass(time.Second)
	for _, f := range [][2]uint32{{0, netif.FlagUp}, {netif.FlagUp, 0}} {
		if err := r.SetFlags(r.If, f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
	r.Sent()
	r.Pass(20 * time.Second)
	r.Expect(probe, probe, probe, announce, announce)
	if r.If.Addrs()[0].Tentative {
		t.Fatal("the address stays tentative for ever")
	}
}

func TestDownGivesBackWhatWaits(t *testing.T) {
	r := New(t)
	if err := r.UDP("").SendTo("10.0.0.2:7", "x"); err != nil {
		t.Fatal(err)
	}
	r.Counts("arp", "no ARP answer", func() { _ = r.SetFlags(r.If, 0, netif.FlagUp) })
	if n := r.Env.Pool.Bufs(); n != 0 {
		t.Errorf("%d buffers still wait", n)
	}
}

func TestNoARP(t *testing.T) {
	r := New(t)
	if err := r.SetFlags(r.If, netif.FlagNoARP, 0); err != nil {
		t.Fatal(err)
	}
	r.Send(ARP(request, Peer, "10.0.0.2", "10.0.0.1"))
	if err := r.UDP("").SendTo("10.0.0.2:7", "x"); err == nil {
		t.Error("sent without a way to resolve")
	}
	r.Expect()
}

// A station that fills the table keeps us from no neighbour: whom we talk to
// stays, and whom we have not talked to yet is learnt.
func TestFullTable(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.arp.maxentries", "64")
	set(r, "10.0.0.9", other, 0, 0)
	r.Meet("10.0.0.2")
	s := r.UDP("10.0.0.1:5")
	talk := func(ip string) {
		t.Helper()
		if err := s.SendTo(ip+":7", ""); err != nil {
			t.Fatal(err)
		}
		r.Expect("10.0.0.1 > " + ip + " udp 5 > 7 len 0")
	}
	talk("10.0.0.2")
	for i := range 200 {
		r.Send(ARP(request, other, fmt.Sprint("10.0.0.", 20+i), "10.0.0.1"))
	}
	if n := len(r.Neighbours()); n != 64 {
		t.Errorf("%d entries, want 64", n)
	}
	r.Sent()
	talk("10.0.0.2")
	talk("10.0.0.9")
	r.Meet("10.0.0.3")
	talk("10.0.0.3")
}

// Neighbours that are asked for in vain hold some packets, not all there are.
func TestHeldPacketsAreBounded(t *testing.T) {
	r := New(t)
	s := r.UDP("10.0.0.1:5")
	for i := range 200 {
		for range 64 {
			_ = s.SendTo(fmt.Sprint("10.0.0.", 20+i, ":7"), string(make([]byte, 1400)))
		}
	}
	if n := r.Env.Pool.InUse(); n > 9<<20 {
		t.Errorf("%d octets wait", n)
	}
	r.Sent()
	r.Send(ARP(reply, Peer, "10.0.0.20", "10.0.0.1"))
	if n := len(r.Sent()); n != 64 {
		t.Errorf("%d sent, want what was held first", n)
	}
	r.Pass(time.Minute)
	if err := s.SendTo("10.0.0.19:7", "x"); err != nil {
		t.Error(err)
	}
	r.Sent()
	r.Send(ARP(reply, Peer, "10.0.0.19", "10.0.0.1"))
	r.Expect("10.0.0.1 > 10.0.0.19 udp 5 > 7 len 1")
}

// A station cannot have us write our disk full.
func TestLogIsBounded(t *testing.T) {
	var log bytes.Buffer
	r := New(t, func(c *stack.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for i := range 200 {
		r.Send(ARP(request, other, "10.0.0.1", "10.0.0.3"),
			ARP(request, netif.MAC{2, 0, 0, 0, 1, byte(i)}, "10.0.0.2", "10.0.0.1"))
	}
	if n := bytes.Count(log.Bytes(), []byte("\n")); n == 0 || n > 10 {
		t.Errorf("%d lines in no time", n)
	}
}

// An address that was being probed when its interface went down is not used
// because nobody heard the probes.
func TestProbingWaitsForTheInterface(t *testing.T) {
	r := probing(t)
	r.Pass(time.Second)
	if err := r.SetFlags(r.If, 0, netif.FlagUp); err != nil {
		t.Fatal(err)
	}
	r.Pass(time.Minute)
	r.Sent()
	if !r.If.Addrs()[0].Tentative {
		t.Fatal("the address counts as probed")
	}
	r.Addr(r.If, "10.0.0.8/24") // which brings the interface up
	r.Pass(20 * time.Second)
	n := 0
	for _, f := range r.Sent() {
		if Describe(f) == probe {
			n++
		}
	}
	if n != 3 || r.If.Addrs()[0].Tentative {
		t.Errorf("%d probes, %+v", n, r.If.Addrs()[0])
	}
}

// Giving a duplicated address again asks again.
func TestDuplicatedAddressGivenAgain(t *testing.T) {
	r := probing(t)
	r.Pass(2 * time.Second)
	r.Send(ARP(reply, other, "10.0.0.1", "0.0.0.0"))
	r.Addr(r.If, "10.0.0.1/16")
	r.Sent()
	if a := r.If.Addrs()[0]; !a.Tentative || a.Duplicated {
		t.Fatalf("%+v, want it probed", a)
	}
	r.Pass(20 * time.Second)
	r.Expect(probe, probe, probe, announce, announce)
}
