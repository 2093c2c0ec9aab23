package stack_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
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

// An interface that was taken down stays down: what a host configures by itself, the
// link-local address that was on its way or the next temporary one, waits until it
// comes up.
func TestAutoconfLeavesAnInterfaceDown(t *testing.T) {
	r := rig.New(t, rig.Dual)
	r.Sysctl("net.inet6.ip6.use_tempaddr", "1")
	flags := func(set, clear uint32) {
		t.Helper()
		if err := r.SetFlags(r.If, set, clear); err != nil {
			t.Fatal(err)
		}
	}
	down := func(when string) {
		t.Helper()
		if r.If.Flags()&netif.FlagUp != 0 {
			t.Fatalf("the interface came up by itself %s", when)
		}
	}
	temps := func() (n int) {
		for _, a := range r.If.Addrs() {
			if a.Flags&netif.AddrTemporary != 0 && !a.Tentative && a.Preferred > r.Now() {
				n++
			}
		}
		return n
	}
	r.Autoconf()
	flags(0, netif.FlagUp) // before the link-local address has come
	r.Pass(time.Minute)
	down("for a link-local address")
	local := netif.Addr{Addr: netip.MustParseAddr("fe80::1"), Bits: 64}
	if err := r.Inet6.AutoAddr(r.If, local); !errors.Is(err, syscall.ENETDOWN) || len(r.If.Addrs()) != 1 {
		t.Fatalf("a link-local address while it is down: %v, %d addresses", err, len(r.If.Addrs()))
	}
	down("for an address that it was asked to make")

	flags(netif.FlagUp, 0)
	r.Pass(3 * time.Second)
	b, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{RouterLifetime: time.Hour, Options: []ndp.Option{
		&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(rig.Peer[:])},
		&ndp.PrefixInformation{PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true,
			ValidLifetime: 20 * 24 * time.Hour, PreferredLifetime: 10 * 24 * time.Hour, Prefix: netip.MustParseAddr("2001:db8::")}}})
	if err != nil {
		t.Fatal(err)
	}
	r.Send(nd("fe80::9", "ff02::1", b))
	r.Pass(10 * time.Second)
	if n := temps(); n != 1 {
		t.Fatalf("%d temporary addresses", n)
	}
	flags(0, netif.FlagUp)
	r.Pass(36 * time.Hour) // the temporary address is preferred for a day
	down("for a temporary address")
	if n := temps(); n != 0 {
		t.Fatalf("%d temporary addresses are preferred while the interface is down", n)
	}
	flags(netif.FlagUp, 0)
	r.Pass(10 * time.Second)
	if n := temps(); n != 1 {
		t.Errorf("%d temporary addresses are preferred when it is up again, want 1", n)
	}
	r.Sent()
}
