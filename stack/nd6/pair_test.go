package nd6_test

import (
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

// pair is two stacks on one wire: what one has sent the other receives.
type pair struct{ a, b *Rig }

// run lets time pass, a little at a time, and carries frames.
func (p *pair) run(d time.Duration) {
	for range d / (10 * time.Millisecond) {
		for range 4 {
			fa, fb := p.a.Sent(), p.b.Sent()
			if len(fa)+len(fb) == 0 {
				break
			}
			p.b.Send(fa...)
			p.a.Send(fb...)
		}
		p.a.Pass(10 * time.Millisecond)
		p.b.Pass(10 * time.Millisecond)
	}
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{bare(t), bare(t)}
	for r, mac := range map[*Rig]netif.MAC{p.a: Me, p.b: Peer} {
		r.Sysctl("net.inet6.ip6.dad_count", "1")
		r.If = r.AddIf("en0", mac, "")
	}
	p.a.Addr(p.a.If, "fe80::1/64")
	p.b.Addr(p.b.If, "fe80::2/64")
	p.a.Addr(p.a.If, "2001:db8::1/64")
	p.b.Addr(p.b.If, "2001:db8::2/64")
	p.run(2 * time.Second)
	return p
}

func TestTwoStacksMeet(t *testing.T) {
	p := newPair(t)
	udp(p.a).send(peer, "x")
	p.run(100 * time.Millisecond)
	state(p.a, peer, "REACHABLE")
	knows(p.a, peer, Peer)
	state(p.b, me, "DELAY") // it has said that nobody listens there
	p.run(46 * time.Second)
	state(p.a, peer, "STALE")
	udp6b := udp(p.b)
	udp6b.send(me, "x")
	p.run(6 * time.Second)
	state(p.b, me, "REACHABLE") // asked again, and answered
	if err := p.b.SetMAC(p.b.If, other); err != nil {
		t.Fatal(err)
	}
	p.run(100 * time.Millisecond)
	knows(p.a, peer, other)
}

// Two stacks that ask for one address at a time both leave it alone; one that
// comes later finds it taken.
func TestTwoStacksOneAddress(t *testing.T) {
	p := newPair(t)
	p.a.Addr(p.a.If, "2001:db8::5/64")
	p.b.Addr(p.b.If, "2001:db8::5/64")
	p.a.Addr(p.a.If, "2001:db8::6/64")
	p.run(2 * time.Second)
	p.b.Addr(p.b.If, "2001:db8::6/64")
	p.run(2 * time.Second)
	dup := func(r *Rig, a string) bool { return r.Inet6.Addr(r.If, ip(a)).Duplicated }
	if dup(p.a, "2001:db8::6") || !dup(p.b, "2001:db8::6") {
		t.Errorf("the one that was there: %v, the one that came: %v", dup(p.a, "2001:db8::6"), dup(p.b, "2001:db8::6"))
	}
	// At the same moment at least one has seen the other.
	if !dup(p.a, "2001:db8::5") && !dup(p.b, "2001:db8::5") {
		t.Error("both have the address")
	}
}

// What a control call says of neighbours, of both families and by hand.
func TestNeighbourTable(t *testing.T) {
	r := rig(t)
	r.Addr(r.If, "10.0.0.1/24")
	r.Pass(10 * time.Second)
	r.Sent()
	r.Send(ARP(packet.ARPRequest, Peer, "10.0.0.2", "10.0.0.1"))
	en1 := r.AddIf("en1", Me1, "fe80::1/64")
	for ifp, mac := range map[*netif.Interface]netif.MAC{r.If: Peer, en1: Peer1} {
		if err := r.AddNeighbour(ifp, ip("fe80::2"), mac, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.AddNeighbour(nil, ip(peer), Peer, 0, 0); err != nil {
		t.Fatal(err)
	}
	r.Sent()
	var got []string
	for _, n := range r.Neighbours() {
		got = append(got, n.IP.String()+" "+n.MAC.String()+" "+n.If.Name+" "+n.State)
	}
	want := []string{"10.0.0.2 02:00:00:00:00:02 en0 ", "2001:db8::2 02:00:00:00:00:02 en0 PERMANENT",
		"fe80:2::2 02:00:00:00:00:02 en0 PERMANENT", "fe80:3::2 02:00:00:00:01:02 en1 PERMANENT"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
	if err := r.DeleteNeighbour(scoped(r, "fe80::2")); err != nil {
		t.Fatal(err)
	}
	if n := r.Neighbours(); len(n) != 3 || n[2].If != en1 {
		t.Errorf("%v", n)
	}
	for _, a := range []string{peer, "fe80::2", "10.0.0.2"} {
		if err := r.DeleteNeighbour(ip(a)); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if n := r.Neighbours(); len(n) != 0 {
		t.Errorf("%v", n)
	}
}
