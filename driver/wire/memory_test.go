package wire

import (
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

func attach(t testing.TB, seg *Segment) *station {
	return newStation(t, seg.Attach(netif.MAC{}, 0)).run()
}

func TestSegmentInMemory(t *testing.T) {
	seg := NewSegment()
	a, b, c := attach(t, seg), attach(t, seg), attach(t, seg)
	f := a.frame(b.mac(), 20000, 0)
	f.SetPartial(34, 16)
	f.GSO, f.GSOSize = packet.GSOTCPv4, 1448
	a.send(a.frame(b.mac(), 60, 1), a.frame(netif.BroadcastMAC, 60, 2), f)
	b.got(3)
	c.got(1)
	if k := b.known(); k.Csum != packet.CsumPartial || k.GSO != packet.GSOTCPv4 || k.GSOSize != 1448 {
		t.Errorf("arrived as %+v", k)
	}
	c.d.(netif.Filter).SetFilter(true, false, nil)
	a.send(a.frame(b.mac(), 60, 3), a.frame(a.mac(), 60, 4))
	b.got(4)
	c.got(3)
	if n := a.received(); n != 0 {
		t.Errorf("a hears itself %d times", n)
	}
	if n := len(a.d.Info().Details); n != 3 {
		t.Errorf("%d details: %v", n, a.d.Info().Details)
	}
	c.leave()
	a.send(a.frame(netif.BroadcastMAC, 60, 5))
	b.got(5)
	if n := a.pool.Bufs(); n != 0 {
		t.Errorf("%d buffers of a are out", n)
	}
}

func TestSegmentWithoutOffloads(t *testing.T) {
	seg := NewSegment()
	seg.Without = netif.CapTSO4 | netif.CapTSO6 | netif.CapUSO
	if c := attach(t, seg).d.Info().Caps; c != netif.CapCsum|netif.CapVLANMTU {
		t.Errorf("caps %x, want %x", c, netif.CapCsum|netif.CapVLANMTU)
	}
}

func TestMemoryQueueIsBounded(t *testing.T) {
	seg := NewSegment()
	a := attach(t, seg)
	idle := seg.Attach(netif.MAC{}, 0) // never runs
	for range memoryFrames + 7 {
		a.send(a.frame(idle.Info().MAC, 60, 0))
	}
	if n := a.ifp.Stats.OutDrops.Load(); n != 7 {
		t.Errorf("%d dropped, want 7", n)
	}
	idle.Close()
	a.send(a.frame(idle.Info().MAC, 60, 0))
	if n := a.pool.Bufs(); n != 0 {
		t.Errorf("%d buffers are out after the station left", n)
	}
}

func TestMemoryPoolSpent(t *testing.T) {
	seg := NewSegment()
	a := attach(t, seg)
	b := newStation(t, seg.Attach(netif.MAC{}, 0))
	b.pool = packet.NewPool(0)
	b.run()
	a.send(a.frame(b.mac(), 60, 0))
	b.until("the loss", func() bool { return b.dropped == 1 })
}

// steady sends a burst from a to b and waits for it.
func steady(a, b *station, dst netif.MAC, burst []*packet.Buf, n int) {
	want := b.received() + len(burst)
	a.pool.GetBurst(burst, n)
	for _, f := range burst {
		copy(f.Append(n), dst[:])
	}
	a.d.Transmit(a.ifp, burst)
	b.mu.Lock()
	for b.count < want {
		b.cond.Wait()
	}
	b.mu.Unlock()
}

func TestNoAllocations(t *testing.T) {
	seg := NewSegment()
	dir := t.TempDir()
	for name, make := range map[string]func() *station{
		"memory": func() *station { return attach(t, seg) },
		"wire":   func() *station { return join(t, dir, "/x", "") },
	} {
		for _, n := range []int{64, 1514, 60000} {
			a, b := make(), make()
			b.quiet = true
			var burst [8]*packet.Buf
			dst := b.mac()
			for range 10 {
				steady(a, b, dst, burst[:], n)
			}
			if allocs := testing.AllocsPerRun(100, func() { steady(a, b, dst, burst[:], n) }); allocs != 0 {
				t.Errorf("%s: %.1f allocations for 8 frames of %d octets", name, allocs, n)
			}
		}
	}
}
