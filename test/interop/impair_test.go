package interop

import (
	"net"
	"testing"
	"time"

	"ionet/driver/impair"
)

// ills are one of each kind.
var ills = map[string]impair.Profile{
	"none":    {},
	"loss":    {Loss: 1},
	"delay":   {Delay: 2 * time.Millisecond, Jitter: time.Millisecond},
	"dup":     {Dup: 1},
	"corrupt": {Corrupt: 0.5},
	"reorder": {Reorder: 2},
	"rate":    {Rate: 200e6, Queue: 100},
}

// bothWays sends 4 MiB each way of a connection over a link that is ill in that
// way.
func bothWays(t *testing.T, c, d net.Conn, p impair.Profile) {
	t.Helper()
	exact(t, c, d, 4<<20, time.Minute)
	took := exact(t, d, c, 4<<20, time.Minute)
	// A busy machine may make it slower, and nothing faster.
	if bits := 8 * float64(4<<20) / took.Seconds(); p.Rate > 0 && bits > float64(p.Rate) {
		t.Errorf("%.0f bit/s of payload over a link of %d", bits, p.Rate)
	}
}

// TestKernelsThroughABadLink has two kernels send to each other through the
// impaired driver: what they hand to their TAPs, super-packets with checksums
// to complete, has to come out as frames, whatever is done to them.
func TestKernelsThroughABadLink(t *testing.T) {
	for name, p := range ills {
		t.Run(name, func(t *testing.T) {
			a, b := kernels(t, impair.Config{In: p, Out: p, Seed: 1})
			inBoth(t, func(t *testing.T, v family) {
				c, d := connect(t, a, b, at(v.two, 5001))
				bothWays(t, c, d, p)
			})
		})
	}
}

// TestStackThroughABadLink is the same with a stack for one of them.
func TestStackThroughABadLink(t *testing.T) {
	for name, p := range ills {
		t.Run(name, func(t *testing.T) {
			h, k := beside(t, impair.Config{In: p, Out: p, Seed: 1})
			inBoth(t, func(t *testing.T, v family) {
				c, d := connect(t, h, k, at(v.two, 0))
				bothWays(t, c, d, p)
			})
		})
	}
}
