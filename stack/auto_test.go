package stack_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// What a router says of its link holds from the next packet on, for whoever has
// long found the way.
func TestRouterChangesTheLink(t *testing.T) {
	r := rig.New(t, rig.Dual)
	r.Autoconf()
	r.Pass(3 * time.Second)
	link := func(hops uint8, mtu uint32) {
		b, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{CurrentHopLimit: hops, RouterLifetime: time.Hour, Options: []ndp.Option{
			&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(rig.Peer[:])}, ndp.NewMTU(mtu)}})
		if err != nil {
			t.Fatal(err)
		}
		r.Send(nd("fe80::9", "ff02::1", b))
		r.Pass(time.Second)
		r.Sent()
	}
	link(70, 1500)
	var so *socket.Socket
	_ = r.Do(func(w *netif.Work) (err error) {
		if so, err = r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{Super: true}); err != nil {
			t.Fatal(err)
		}
		if err := so.Connect(w, socket.Addr{IP: netip.MustParseAddr("fe80::9"), Scope: r.If.Index, Port: 7}); err != nil {
			t.Fatal(err)
		}
		return nil
	})
	defer func() { _ = r.Do(func(w *netif.Work) error { so.Close(w); return nil }) }()
	says := func(hops uint8, frames int) {
		t.Helper()
		_ = r.Do(func(w *netif.Work) error {
			if _, err := so.Send(w, &socket.Msg{Data: make([]byte, 1400)}); err != nil {
				t.Fatal(err)
			}
			return nil
		})
		sent := r.Sent()
		if len(sent) != frames {
			t.Fatalf("%d frames, want %d", len(sent), frames)
		}
		if got := packet.IPv6(sent[0][packet.EtherLen:]).HopLimit(); got != hops {
			t.Errorf("hop limit %d, want %d", got, hops)
		}
	}
	says(70, 1)
	link(80, 1500)
	says(80, 1)
	link(80, 1280)
	says(80, 2)
}
