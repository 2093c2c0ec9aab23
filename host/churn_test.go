package host_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"ionet/driver"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/route"
)

// Everything that may change while packets fly changes while packets fly:
// nothing stands still for ever, and nothing is left over.
func TestChurn(t *testing.T) {
	const rounds = 150
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	eng := a.Engine()
	en0 := eng.Env.Ifs.ByName("en0")
	peer := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9}
	echo, err := b.ListenPacket("udp", "10.0.0.2:9")
	if err != nil {
		t.Fatal(err)
	}
	var echoing sync.WaitGroup
	echoing.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(buf[:n], from)
		}
	})
	defer echoing.Wait()
	defer echo.Close()
	quiet := make([]byte, 2000) // two fragments
	var wg sync.WaitGroup
	churn := func(f func(i int)) {
		wg.Go(func() {
			for i := range rounds {
				f(i)
			}
		})
	}
	for range 2 { // sockets, also closed in the middle of calls
		churn(func(int) {
			c, err := a.ListenPacket("udp", "0.0.0.0:0")
			if err != nil {
				t.Error(err)
				return
			}
			var calls sync.WaitGroup
			calls.Go(func() { _, _ = c.WriteTo(quiet, peer) })
			calls.Go(func() { _, _, _ = c.ReadFrom(make([]byte, 10)) })
			calls.Go(func() {
				so := c.(*host.Conn).Socket()
				a.Call(func(w *netif.Work) { _ = so.SetOption(w, 0, 12, []byte{239, 1, 1, 1, 10, 0, 0, 1}) })
			})
			_, _ = c.WriteTo(quiet, &net.UDPAddr{IP: net.IPv4(239, 1, 1, 1), Port: 9})
			c.Close()
			calls.Wait()
		})
	}
	churn(func(int) { // an address, announced and probed
		ip := netip.MustParseAddr("10.0.0.3")
		_ = eng.AddAddr(en0, stack.AddrSpec{Addr: ip, Bits: 8})
		_ = eng.DelAddr(en0, ip)
	})
	churn(func(i int) { // an interface
		ifp, err := a.Attach(seg.Attach(netif.MAC{2, 0, 0, 0, 1, byte(i)}, 1500), driver.Options{Lan: -1})
		if err != nil {
			t.Error(err)
			return
		}
		_ = eng.AddAddr(ifp, stack.AddrSpec{Addr: netip.MustParseAddr("11.0.0.1"), Bits: 8})
		_ = eng.AddNeighbour(ifp, netip.MustParseAddr("11.0.0.2"), netif.MAC{2, 0, 0, 0, 0, 2}, 0, 0)
		if err := a.Detach(ifp.Name); err != nil {
			t.Error(err)
		}
	})
	churn(func(i int) { // routes
		s := route.Spec{Dst: netip.MustParsePrefix(fmt.Sprintf("99.%d.0.0/16", i)), Gateway: netip.MustParseAddr("10.0.0.2"), Flags: route.FlagUp | route.FlagGateway}
		eng.Routes.Update([]route.Op{{Kind: route.Add, Spec: s}})
		eng.Routes.Update([]route.Op{{Kind: route.Delete, Spec: s}})
	})
	churn(func(i int) { // down and up, with neighbours forgotten
		_ = eng.SetFlags(en0, 0, netif.FlagUp)
		_ = eng.SetFlags(en0, netif.FlagUp, 0)
	})
	wg.Wait()
	if n := eng.Sockets(); n != 0 {
		t.Errorf("%d sockets are left", n)
	}
	for _, g := range eng.Groups() {
		if g.Group == netip.MustParseAddr("239.1.1.1") {
			t.Errorf("%+v is left", g)
		}
	}
	for r := range eng.Routes.Dump(0) {
		if r.If.Gone() {
			t.Errorf("route %v through %s, which is gone", r.Dst, r.If.Name)
		}
	}
}
