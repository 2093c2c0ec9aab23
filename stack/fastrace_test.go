package stack_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

// Two links bring packets at once while routes, neighbours, flags, settings and the filter
// change under them: no race, every packet is sent or dropped, and the books balance.
func TestFastPathBesideChanges(t *testing.T) {
	var now atomic.Int64
	var seed atomic.Uint32
	now.Store(1)
	s, err := stack.New(stack.Config{Now: now.Load, Rand32: func() uint32 { x := seed.Add(0x9e3779b9); return x ^ x>>15 }})
	if err != nil {
		t.Fatal(err)
	}
	set := func(name, value string) {
		if _, err := s.Env.MIB.Set(name, value); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []string{"net.inet.ip.forwarding", "net.inet6.ip6.forwarding"} {
		set(n, "1")
	}
	set("net.inet6.ip6.auto_linklocal", "0")
	var ifs [2]*netif.Interface
	host := func(i, h int, six bool) netip.Addr {
		if six {
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", i, h))
		}
		return netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i, h))
	}
	for i := range ifs {
		ifs[i] = netif.New(netif.Config{Name: fmt.Sprint("en", i), MTU: 1500, MAC: twinMAC(i), Driver: sunk{},
			Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning})
		if err := s.AddInterface(ifs[i]); err != nil {
			t.Fatal(err)
		}
		for _, six := range []bool{false, true} {
			bits := 24
			if six {
				bits = 64
			}
			if err := s.AddAddr(ifs[i], stack.AddrSpec{Addr: host(i, 1, six), Bits: bits}); err != nil {
				t.Fatal(err)
			}
			if err := s.AddNeighbour(ifs[i], host(i, 2, six), station(i, 2), 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range ifs {
		wg.Go(func() {
			w := s.Env.NewWork()
			burst := make([]*packet.Buf, 16)
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				for k := range burst {
					six := k%2 == 1
					b := s.Env.Pool.Get(100)
					if b == nil {
						t.Error("no packet")
						return
					}
					src, dst := host(i, 2, six), host(1-i, 2, six)
					if k%8 < 2 {
						dst = netip.MustParseAddr(map[bool]string{false: "20.0.0.1", true: "2001:db8:99::1"}[six])
					}
					f := b.Append(packet.EtherLen + packet.IPv6Len + 20)
					clear(f)
					ip := f[packet.EtherLen:]
					if six {
						packet.PutEther(f, twinMAC(i), station(i, 2), packet.EtherIPv6)
						packet.PutIPv6(ip, 0, 0, 20, packet.ProtoUDP, 64, src, dst)
						ip = ip[packet.IPv6Len:]
					} else {
						packet.PutEther(f, twinMAC(i), station(i, 2), packet.EtherIPv4)
						packet.PutIPv4(ip, 0, 40, 0, 0, 64, packet.ProtoUDP, src, dst, nil).SetChecksum()
						ip = ip[packet.IPv4Len:]
					}
					binary.BigEndian.PutUint16(ip, uint16(n%7))
					burst[k] = b
				}
				s.Input(w, now.Load(), ifs[i], burst)
			}
		})
	}
	for n := range 300 {
		now.Add(1e6)
		six := n%2 == 1
		dst, gw := "20.0.0.0/8", host(n/2%2, 2, six)
		if six {
			dst = "2001:db8:99::/48"
		}
		k := route.Add
		if n%4 >= 2 {
			k = route.Delete
		}
		s.Routes.Update([]route.Op{{Kind: k, Spec: route.Spec{Dst: netip.MustParsePrefix(dst), Gateway: gw, Flags: route.FlagUp | route.FlagGateway}}})
		switch n % 10 {
		case 0:
			_ = s.AddNeighbour(ifs[0], host(0, 2, six), station(0, 3+n%5), 0, 0)
		case 1:
			set("net.inet.ip.maxflows", fmt.Sprint(n%3*8))
			set("net.inet6.ip6.maxflows", fmt.Sprint(n%3*8))
		case 2:
			_ = s.SetFlags(ifs[1], 0, netif.FlagUp)
		case 3:
			_ = s.SetFlags(ifs[1], netif.FlagUp, 0)
		case 4:
			_, _ = s.Routes.Get(host(1, 2, six))
		case 5:
			if _, err := s.LoadFilter(); err != nil {
				t.Error(err)
			}
		case 8:
			if err := s.UnloadFilter(); err != nil {
				t.Error(err)
			}
		}
		s.Advance(now.Load())
	}
	close(done)
	wg.Wait()
	for _, ifp := range ifs {
		if err := s.RemoveInterface(ifp); err != nil {
			t.Error(err)
		}
	}
	now.Add(1e15)
	s.Advance(now.Load())
	s.Close()
	if n := s.Env.Pool.Bufs(); n != 0 {
		t.Errorf("%d buffers were not given back", n)
	}
}
