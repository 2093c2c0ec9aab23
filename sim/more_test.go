package sim_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack/socket"
)

// conflict has two stations ask for one address, at once or one after the
// other: with probing, never do both end up using it, unless the link lost
// what one said to the other.
func conflict(n *sim.Net) error {
	r := n.Rand()
	lan := n.Segment(sim.Faults{Delay: time.Millisecond, Jitter: time.Millisecond, Duplicate: 0.2, Reorder: 0.2})
	var nodes []*sim.Node
	for i := range 3 {
		nd := n.Stack(fmt.Sprint("s", i))
		nd.Sysctl("net.inet.ip.dad_count", "3")
		ifp := n.Attach(nd, lan, fmt.Sprintf("10.0.0.%d/24", i+1))
		nodes = append(nodes, nd)
		n.At(20*time.Second+time.Duration(r.Int64N(int64(12*time.Second))), func() {
			if err := nd.AddAddr(ifp, spec("10.0.0.77/24")); err != nil {
				panic(err)
			}
		})
	}
	n.Run(time.Minute)
	owners := 0
	for _, nd := range nodes {
		for _, a := range nd.Env.Ifs.ByName("en0").Addrs() {
			switch {
			case a.Tentative:
				return fmt.Errorf("%s: %v is still tentative", nd.Name, a.Addr)
			case a.Addr == netip.MustParseAddr("10.0.0.77") && !a.Duplicated:
				owners++
			case a.Addr != netip.MustParseAddr("10.0.0.77") && a.Duplicated:
				return fmt.Errorf("%s: %v is held to be duplicated", nd.Name, a.Addr)
			}
		}
	}
	if owners > 1 {
		return fmt.Errorf("%d stations use 10.0.0.77", owners)
	}
	return nil
}

func TestAddressConflict(t *testing.T) { play(t, conflict) }

// pathMTU has a sender that forbids fragments learn what fits through a
// router, whatever gets lost, and forget it in time.
func pathMTU(n *sim.Net) error {
	r := n.Rand()
	f, g := ills(r), ills(r)
	f.Corrupt, g.Corrupt = 0, 0
	mtu := 600 + r.IntN(700)
	a, _, b := routed(n, f, g, mtu)
	a.Sysctl("net.inet.ip.mtudisc", "1")
	srv, c := b.UDP("10.0.2.2:7"), a.UDP("")
	if err := c.Set(0, 28, socket.Value32(1)); err != nil { // IP_DONTFRAG
		return err
	}
	if err := c.Connect("10.0.2.2:7"); err != nil {
		return err
	}
	size := 1400
	for try := 0; ; try++ {
		if try == 400 {
			return fmt.Errorf("nothing got through %d octets in %d tries", mtu, try)
		}
		if err := c.SendTo("", payload(0, size)); err != nil && err.Error() == "message too long" {
			if size == mtu-28 {
				if err := c.SendTo("", payload(0, size)); err != nil && err.Error() == "message too long" {
					return fmt.Errorf("what fits is refused: %v", err)
				}
			}
			size = mtu - 28
		}
		n.Run(200 * time.Millisecond)
		if m, ok := srv.Recv(); ok {
			if len(m.Data) > mtu-28 {
				return fmt.Errorf("%d octets came through a hole of %d", len(m.Data), mtu)
			}
			break
		}
	}
	n.Run(700 * time.Second)
	for range 3 { // an error may still be pending
		if err := c.SendTo("", payload(0, 1400)); err == nil {
			return nil
		}
		n.Run(25 * time.Second)
	}
	return fmt.Errorf("the path MTU is remembered for ever")
}

func TestPathMTU(t *testing.T) { play(t, pathMTU) }
