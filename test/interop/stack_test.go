package interop

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"ionet/driver"
	"ionet/driver/impair"
	"ionet/host"
	"ionet/stack"
	"ionet/test/need"
)

// beside is a stack, the first of each family, and a kernel, the second, on the
// two sides of a TAP with an impaired link.
func beside(t testing.TB, c impair.Config, tapArgs ...driver.Arg) (*host.Stack, kernel) {
	t.Helper()
	need.File(t, "/dev/net/tun")
	k := kernel{need.Namespace(t)}
	h, err := host.New(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if n := h.Engine().Env.Pool.Bufs(); n != 0 {
			t.Errorf("the stack has %d buffers left", n)
		}
	})
	d := openTap(t, k, tapArgs...)
	if c != (impair.Config{}) {
		if d, err = impair.New(d, c); err != nil {
			t.Fatal(err)
		}
	}
	ifp, err := h.Attach(d, driver.Options{Lan: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Engine().Env.MIB.Set("net.inet6.ip6.dad_count", "0"); err != nil {
		t.Fatal(err)
	}
	for _, v := range families {
		if err := h.Engine().AddAddr(ifp, stack.AddrSpec{Addr: netip.MustParseAddr(v.one), Bits: v.bits}); err != nil {
			t.Fatal(err)
		}
	}
	k.address("tap0", true, ifp.MAC().String())
	return h, k
}

// TestStackAndKernel carries streams between the stack and a kernel in both
// directions, whoever has connected.
func TestStackAndKernel(t *testing.T) {
	for _, offload := range []string{"on", "off"} {
		t.Run("offload "+offload, func(t *testing.T) {
			h, k := beside(t, impair.Config{}, driver.Arg{Name: "offload", Value: offload})
			const size = 32 << 20
			gbit := func(d time.Duration) string { return fmt.Sprintf("%.2f Gbit/s", 8*size/d.Seconds()/1e9) }
			inBoth(t, func(t *testing.T, v family) {
				x, y := connect(t, h, k, at(v.two, 0))
				t.Log("we connect and send", gbit(exact(t, x, y, size, time.Minute)))
				t.Log("we connect and receive", gbit(exact(t, y, x, size, time.Minute)))
				x, y = connect(t, k, h, at(v.one, 0))
				t.Log("the kernel connects and sends", gbit(exact(t, x, y, size, time.Minute)))
				t.Log("the kernel connects and receives", gbit(exact(t, y, x, size, time.Minute)))
			})
		})
	}
}

// A connection whose ends are a stack's and a kernel's is what one between two
// kernels is, whoever has dialled.
func TestStackAndKernelConform(t *testing.T) {
	h, k := beside(t, impair.Config{})
	inBoth(t, func(t *testing.T, v family) {
		for _, tc := range []struct {
			name     string
			from, to end
			address  string
		}{{"we dial", h, k, at(v.two, 0)}, {"the kernel dials", k, h, at(v.one, 0)}} {
			t.Run(tc.name, func(t *testing.T) {
				nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
					x, y := connect(t, tc.from, tc.to, tc.address)
					return x, y, func() { x.Close(); y.Close() }, nil
				})
			})
		}
	})
}
