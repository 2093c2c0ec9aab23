package stack_test

import (
	"bytes"
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

// TestBEET: packets between addresses that no wire sees, of either version of IP in either.
func TestBEET(t *testing.T) {
	inside := map[bool][2]string{false: {"172.16.0.1/24", "172.16.0.2/24"}, true: {"2001:db8:77::1/64", "2001:db8:77::2/64"}}
	for fam, outer6 := range families {
		for inFam, inner6 := range families {
			t.Run(inFam+" in "+fam, func(t *testing.T) {
				p := securedPair(t, outer6)
				var inner [2]netip.Addr
				for i, s := range p.s {
					if _, err := s.Env.MIB.Set("net.inet6.ip6.dad_count", "0"); err != nil {
						t.Fatal(err)
					}
					a := netip.MustParsePrefix(inside[inner6][i])
					if err := s.AddAddr(p.ifp[i], stack.AddrSpec{Addr: a.Addr(), Bits: a.Bits()}); err != nil {
						t.Fatal(err)
					}
					inner[i] = a.Addr()
				}
				for i, s := range p.s {
					p.sa(t, i, ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeBEET, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 64})
					for dir, ends := range map[uint8][2]int{ipsec.Out: {i, 1 - i}, ipsec.In: {1 - i, i}} {
						r := ipsec.Request{Proto: 50, Mode: ipsec.ModeBEET, Level: ipsec.Require, Src: p.addr(byte(1+ends[0]), 0).IP, Dst: p.addr(byte(1+ends[1]), 0).IP}
						q := &ipsec.Policy{Dir: dir, Kind: ipsec.Protect, Requests: []ipsec.Request{r}, Selector: ipsec.Selector{Proto: packet.ProtoUDP,
							Src: netip.PrefixFrom(inner[ends[0]], inner[ends[0]].BitLen()), Dst: netip.PrefixFrom(inner[ends[1]], inner[ends[1]].BitLen())}}
						if err := s.IPsec.AddPolicy(q); err != nil {
							t.Fatal(err)
						}
						q = &ipsec.Policy{Dir: dir, Kind: ipsec.Protect, Requests: q.Requests, Selector: q.Selector}
						if q.Proto = packet.ProtoTCP; s.IPsec.AddPolicy(q) != nil {
							t.Fatal("a second policy")
						}
					}
				}
				esp, small := 0, 1<<20
				p.wires(func(b []byte) {
					proto, dst := uint8(0), netip.Addr{}
					if b[0]>>4 == 4 {
						proto, dst = b[9], packet.IPv4(b).Dst()
					} else {
						proto, dst = b[6], packet.IPv6(b).Dst()
					}
					if proto == packet.ProtoESP {
						esp, small = esp+1, min(small, len(b))
					} else if proto == packet.ProtoUDP || proto == packet.ProtoTCP || dst == inner[0] || dst == inner[1] {
						t.Errorf("in clear: % x", b[:40])
					}
				})
				at := func(i int, port uint16) socket.Addr { return socket.Addr{IP: inner[i], Port: port} }
				p.v6 = inner6
				a, b := p.socket(t, 0, at(0, 1000), at(1, 2000)), p.socket(t, 1, at(1, 2000), at(0, 1000))
				buf := make([]byte, 70000)
				for _, n := range []int{0, 4, 100, 1300, 3000} {
					data := bytes.Repeat([]byte{byte(n)}, n)
					for i, ends := range [][2]*socket.Socket{{a, b}, {b, a}} {
						p.call(i, func(w *netif.Work) {
							if _, err := ends[0].Send(w, &socket.Msg{Data: data}); err != nil {
								t.Fatal(err)
							}
						})
						m := socket.Msg{Data: buf}
						if err := ends[1].Recv(p.w[1-i], &m); err != nil || !bytes.Equal(m.Data, data) || m.Addr.IP != inner[i] {
							t.Errorf("%d octets came as %d from %v, %v", n, len(m.Data), m.Addr, err)
						}
					}
				}
				// An outer header, ESP with an IV of 8, UDP padded with its trailer to 4, and the check value: no inner header.
				header := packet.IPv4Len
				if outer6 {
					header = packet.IPv6Len
				}
				if want := header + 8 + 8 + 12 + 16; small != want {
					t.Errorf("the smallest packet has %d octets, want %d", small, want)
				}
				if esp < 8 {
					t.Errorf("%d packets of ESP", esp)
				}
				// Whose packets they are is the policy's to say.
				for _, q := range p.s[1].IPsec.Policies() {
					if q.Dir == ipsec.In {
						p.s[1].IPsec.RemovePolicy(q)
					}
				}
				if p.says(t, 0, a, b, "to nobody") || p.count(1, "esp", "tunnel") != 1 {
					t.Error("delivered without a policy that says to whom")
				}
			})
		}
	}
	net := ipsec.Selector{Src: netip.MustParsePrefix("10.0.0.0/24"), Dst: netip.MustParsePrefix("10.0.1.1/32"), Proto: ipsec.AnyProto}
	r := ipsec.Request{Proto: 50, Mode: ipsec.ModeBEET, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2")}
	x := securedPair(t, false).s[0].IPsec
	if err := x.AddPolicy(&ipsec.Policy{Dir: ipsec.Out, Kind: ipsec.Protect, Selector: net, Requests: []ipsec.Request{r}}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("of a network: %v", err)
	}
}
