package stack_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

// TestNeighbourNews: what becomes of a neighbour is told once, in order, and
// what it is before anybody knows its address is not.
func TestNeighbourNews(t *testing.T) {
	other := netif.MAC{2, 0, 0, 0, 0, 9}
	r := New(t)
	r.Sysctl("net.inet.arp.keep", "60")
	var told []string
	cancel := r.SubscribeNeighbours(func(n *stack.Neighbour, c neigh.Change) {
		told = append(told, fmt.Sprintf("%s %v %v", [...]string{"", "found", "moved", "lost", "silent"}[c], n.IP, n.MAC))
	})
	heard := func(want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		told = nil
	}
	k := r.UDP("")
	send := func(to string) {
		t.Helper()
		if err := k.SendTo(to+":7", "x"); err != nil {
			t.Fatal(err)
		}
	}
	send("10.0.0.2")
	heard()
	r.Send(ARP(packet.ARPReply, Peer, "10.0.0.2", "10.0.0.1"))
	heard("found 10.0.0.2 02:00:00:00:00:02")
	r.Send(ARP(packet.ARPRequest, Peer, "10.0.0.2", "10.0.0.1")) // nothing new
	heard()
	r.Send(ARP(packet.ARPRequest, other, "10.0.0.2", "10.0.0.1"))
	heard("moved 10.0.0.2 02:00:00:00:00:09")
	r.Pass(61 * time.Second)
	heard("lost 10.0.0.2 02:00:00:00:00:09")

	send("10.0.0.3")
	r.Pass(10 * time.Second)
	heard("silent 10.0.0.3 00:00:00:00:00:00")
	r.Pass(30 * time.Second) // it is forgotten
	heard()

	// By hand, and with the interface.
	if err := r.AddNeighbour(r.If, netip.MustParseAddr("10.0.0.4"), Peer, 0, 0); err != nil {
		t.Fatal(err)
	}
	heard("found 10.0.0.4 02:00:00:00:00:02")
	if err := r.AddNeighbour(r.If, netip.MustParseAddr("10.0.0.4"), other, 0, 0); err != nil {
		t.Fatal(err)
	}
	heard("moved 10.0.0.4 02:00:00:00:00:09")
	if err := r.DeleteNeighbour(netip.MustParseAddr("10.0.0.4")); err != nil {
		t.Fatal(err)
	}
	heard("lost 10.0.0.4 02:00:00:00:00:09")

	cancel()
	r.Send(ARP(packet.ARPRequest, Peer, "10.0.0.2", "10.0.0.1"))
	heard()
	r.Sent()
}

// TestNoNewsCostNothing: a neighbour that is learnt anew allocates what its
// state needs, and nothing for listeners, of whom there are none.
func TestNoNewsCostNothing(t *testing.T) {
	r := New(t)
	r.Send(ARP(packet.ARPRequest, Peer, "10.0.0.2", "10.0.0.1"))
	i, _ := r.ARP.Lookup(r.If, netip.MustParseAddr("10.0.0.2"))
	if n := testing.AllocsPerRun(100, func() { r.ARP.Changed(i, neigh.Moved) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	r.Sent()
}
