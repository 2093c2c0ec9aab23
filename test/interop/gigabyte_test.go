package interop

import (
	"testing"
	"time"

	"ionet/test/play"
)

// TestGigabyte carries 1 GiB through the built io-net, between programs of the
// stack and of a kernel, each way, whoever connects and with either version of
// IP, and compares every octet.
func TestGigabyte(t *testing.T) {
	ns, u, _ := play.KernelHost(t)
	play.SpeakIPv6(ns, u)
	s, k := u.Open(), kernel{ns}
	v4, v6 := families[0], families[1]
	for _, c := range []struct {
		name     string
		from, to end
		address  string
	}{{"we connect", s, k, at(v4.one, 0)}, {"the kernel connects", k, s, at(v6.two, 0)}} {
		x, y := connect(t, c.from, c.to, c.address)
		for _, way := range []struct {
			name string
			d    time.Duration
		}{{"sends", exact(t, x, y, 1<<30, 2*time.Minute)}, {"receives", exact(t, y, x, 1<<30, 2*time.Minute)}} {
			t.Logf("%s and %s: %.2f Gbit/s", c.name, way.name, 8*(1<<30)/way.d.Seconds()/1e9)
		}
	}
}
