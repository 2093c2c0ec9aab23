package stack_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// TestTunnelInterface: what is routed into an ipsec interface leaves by ESP, and nothing comes out of it that did not.
func TestTunnelInterface(t *testing.T) {
	for fam, v6 := range families {
		t.Run(fam+" outside", func(t *testing.T) {
			p := securedPair(t, v6)
			var seen [256]int
			p.wires(func(b []byte) {
				if b[0]>>4 == 4 {
					seen[b[9]]++
				} else {
					seen[b[6]]++
				}
			})
			var ifs [2]*netif.Interface
			for i, s := range p.s {
				if _, err := s.Env.MIB.Set("net.inet6.ip6.dad_count", "0"); err != nil {
					t.Fatal(err)
				}
				ifp, err := s.AddTunnel("ipsec0")
				if err != nil {
					t.Fatal(err)
				}
				me, peer := p.addr(byte(1+i), 0).IP, p.addr(byte(2-i), 0).IP
				inner := []string{"172.16.0.1/24", "172.16.0.2/24"}[i]
				inner6 := []string{"2001:db8:77::1/64", "2001:db8:77::2/64"}[i]
				if err := s.SetTunnel(ifp, me, peer); err != nil {
					t.Fatal(err)
				}
				for _, a := range []string{inner, inner6} {
					a := netip.MustParsePrefix(a)
					if err := s.AddAddr(ifp, stack.AddrSpec{Addr: a.Addr(), Bits: a.Bits()}); err != nil {
						t.Fatal(err)
					}
				}
				for n := range uint32(2) {
					p.sa(t, i, ipsec.Spec{Proto: 50, SPI: 1000 + 10*n, Mode: ipsec.ModeTransport, ReqID: 16384 + n, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 64})
				}
				ifs[i] = ifp
			}
			if n := len(p.s[0].IPsec.Policies()); n != 4 {
				t.Errorf("%d policies, want 4", n)
			}
			for _, inner := range []bool{false, true} {
				p.v6 = inner
				at := func(i byte, port uint16) socket.Addr {
					ip := netip.AddrFrom4([4]byte{172, 16, 0, i})
					if inner {
						ip = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0x77, 15: i})
					}
					return socket.Addr{IP: ip, Port: port}
				}
				a, b := p.socket(t, 0, at(1, 1000), at(2, 2000)), p.socket(t, 1, at(2, 2000), at(1, 1000))
				before := seen
				if !p.says(t, 0, a, b, "there") || !p.says(t, 1, b, a, "and back") {
					t.Errorf("nothing came, IPv6 inside: %v", inner)
				}
				if seen[packet.ProtoESP] < before[packet.ProtoESP]+2 || seen[packet.ProtoIPv4] != before[packet.ProtoIPv4] || seen[packet.ProtoIPv6] != before[packet.ProtoIPv6] {
					t.Errorf("on the wire: %d ESP, and packets in clear", seen[packet.ProtoESP]-before[packet.ProtoESP])
				}
				// The far end forgets that it is to be protected: its packets are not taken.
				err := p.s[0].DeleteTunnel(ifs[0])
				g, err2 := p.s[0].AddTunnel("gif0")
				if err := errors.Join(err, err2); err != nil {
					t.Fatal(err)
				}
				p.v6 = v6
				me, peer := p.addr(1, 0).IP, p.addr(2, 0).IP
				if err := p.s[0].SetTunnel(g, me, peer); err != nil {
					t.Fatal(err)
				}
				p.v6 = inner
				if err := p.s[0].AddAddr(g, stack.AddrSpec{Addr: at(3, 0).IP, Bits: at(3, 0).IP.BitLen() - 4}); err != nil {
					t.Fatal(err)
				}
				c := p.socket(t, 0, at(3, 1000), at(2, 2001))
				d := p.socket(t, 1, at(2, 2001), at(3, 1000))
				if p.says(t, 0, c, d, "in clear") {
					t.Error("a packet in clear came through the tunnel")
				}
				if err := errors.Join(p.s[0].RemoveInterface(g), p.s[0].SetTunnel(ifs[0], me, peer)); err != nil {
					t.Fatal(err)
				}
			}
			// Nobody else takes the policies away, or makes them.
			x := p.s[0].IPsec
			if x.FlushPolicies(); len(x.Policies()) != 4 {
				t.Errorf("%d policies after a flush", len(x.Policies()))
			}
			q := x.Policies()[0]
			if _, err := x.DeletePolicy(q.Dir, q.Selector); !errors.Is(err, syscall.EPERM) {
				t.Errorf("deleted: %v", err)
			}
			if err := x.UpdatePolicy(&ipsec.Policy{Dir: q.Dir, Selector: q.Selector, Kind: ipsec.None}); err != syscall.EEXIST {
				t.Errorf("updated: %v", err)
			}
			if err := p.s[0].RemoveInterface(ifs[0]); err != nil || len(x.Policies()) != 0 {
				t.Errorf("%v, %d policies are left", err, len(x.Policies()))
			}
			if err := x.AddPolicy(&ipsec.Policy{Dir: q.Dir, Selector: q.Selector, Kind: ipsec.None}); err != nil {
				t.Fatal(err)
			}
			p.v6 = v6
			ifp, err := p.s[0].AddTunnel("ipsec1")
			if err != nil {
				t.Fatal(err)
			}
			if err := p.s[0].SetTunnel(ifp, p.addr(1, 0).IP, p.addr(2, 0).IP); !errors.Is(err, syscall.EEXIST) || len(x.Policies()) != 1 {
				t.Errorf("beside another's policy: %v, %d policies", err, len(x.Policies()))
			}
		})
	}
	p := newPairOf(t, 0, nil)
	if _, err := p.s[0].AddTunnel("ipsec0"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("without IPsec: %v", err)
	}
}
