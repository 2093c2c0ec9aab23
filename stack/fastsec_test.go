package stack_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// farGateway makes packets in tunnels from 10.0.1.2 and 2001:db8:1::2 to the twins.
type farGateway struct{ r *rig.Rig }

func newFarGateway(t *testing.T) *farGateway {
	r := rig.Bare(t, rig.Dual, func(c *stack.Config) { c.IPsec = true })
	r.Sysctl("net.inet.ip.forwarding", "1")
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	r.Sysctl("net.inet6.ip6.dad_count", "0")
	for i, a := range []string{"10.0.1.2/24", "2001:db8:1::2/64", "192.0.2.1/24", "2001:db8:f::1/64"} {
		ifp := r.Env.Ifs.ByName([]string{"en1", "en1", "en0", "en0"}[i])
		if ifp == nil {
			ifp = r.AddIf([]string{"en1", "en1", "en0", "en0"}[i], station(1+i/2, 2), "")
		}
		p := netip.MustParsePrefix(a)
		if err := r.AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
			t.Fatal(err)
		}
	}
	for _, dst := range []string{"0.0.0.0/0", "::/0"} {
		gw := "10.0.1.1"
		if dst == "::/0" {
			gw = "2001:db8:1::1"
		}
		if err := via(r, dst, gw); err != nil {
			t.Fatal(err)
		}
		if err := r.AddNeighbour(r.Env.Ifs.ByName("en1"), netip.MustParseAddr(gw), twinMAC(1), 0, 0); err != nil {
			t.Fatal(err)
		}
		p := tunnelPolicy(ipsec.Out, dst, dst, 1)
		if err := r.IPsec.AddPolicy(p); err != nil {
			t.Fatal(err)
		}
	}
	r.Sent()
	return &farGateway{r}
}

// tunnelPolicy asks for a tunnel of the twins to 10.0.1.2 or from there, or with the far gateway's eyes the other way round.
func tunnelPolicy(dir uint8, src, dst string, from int) *ipsec.Policy {
	p := &ipsec.Policy{Dir: dir, Kind: ipsec.Protect, Selector: ipsec.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst), Proto: ipsec.AnyProto}}
	a, b := tunnelEnds(p.Src.Addr().Is6(), from)
	p.Requests = []ipsec.Request{{Proto: packet.ProtoESP, Mode: ipsec.ModeTunnel, Level: ipsec.Require, Src: a, Dst: b}}
	return p
}

// tunnelEnds are the ends of a tunnel: from the twins with 0, to them with 1.
func tunnelEnds(v6 bool, from int) (src, dst netip.Addr) {
	src, dst = netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.1.2")
	if v6 {
		src, dst = netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1::2")
	}
	if from == 1 {
		src, dst = dst, src
	}
	return src, dst
}

func tunnelSA(v6 bool, from int, spi uint32) ipsec.Spec {
	src, dst := tunnelEnds(v6, from)
	return ipsec.Spec{Proto: packet.ProtoESP, SPI: spi, Mode: ipsec.ModeTunnel, Src: src, Dst: dst, Ealg: crypt.EalgAESGCM16, Ekey: key(20, byte(spi)), Replay: 64}
}

// wrap answers frames for en1 of the twins that have the packets of frames in a tunnel of an SA.
func (g *farGateway) wrap(spi uint32, frames ...[]byte) (out [][]byte) {
	for _, v6 := range []bool{false, true} {
		_, _ = g.r.IPsec.Add(tunnelSA(v6, 1, spi))
	}
	en0 := g.r.Env.Ifs.ByName("en0")
	for _, f := range frames {
		f = append([]byte(nil), f...)
		mac := en0.MAC()
		copy(f, mac[:])
		g.r.SendOn(en0, f)
	}
	for _, f := range g.r.Sent() {
		ip := f[packet.EtherLen:]
		if ip[0]>>4 == 4 && ip[9] == packet.ProtoESP || ip[0]>>4 == 6 && ip[6] == packet.ProtoESP {
			out = append(out, f)
		}
	}
	for _, s := range g.r.IPsec.SAs(0) {
		g.r.IPsec.Delete(s)
	}
	return out
}

// secure changes something of what IPsec decides by.
func (tw *twins) secure(t *rapid.T) (what string) {
	six := rapid.Bool().Draw(t, "six")
	nets := []string{"0.0.0.0/0", "20.0.0.0/8", "20.1.0.0/16", "10.0.0.0/24", "10.0.2.0/24"}
	if six {
		nets = []string{"::/0", "2001:db8:100::/40", "2001:db8:101::/48", "2001:db8::/64", "2001:db8:2::/64"}
	}
	src, dst := rapid.SampledFrom(nets).Draw(t, "source"), rapid.SampledFrom(nets).Draw(t, "destination")
	from := rapid.IntRange(0, 1).Draw(t, "from")
	spi := rapid.Uint32Range(1000, 1002).Draw(t, "SPI")
	dir := rapid.SampledFrom([]uint8{ipsec.In, ipsec.Out, ipsec.Forward}).Draw(t, "direction")
	a, b := tunnelEnds(six, from)
	switch what = rapid.SampledFrom([]string{"protect", "protect", "other", "no policy", "SA", "SA", "no SA", "def_policy", "level"}).Draw(t, "change"); what {
	case "protect", "other":
		kind := ipsec.Protect
		if what == "other" {
			kind = rapid.SampledFrom([]ipsec.Kind{ipsec.None, ipsec.Discard}).Draw(t, "kind")
		}
		level := rapid.SampledFrom([]ipsec.Level{ipsec.Default, ipsec.Use, ipsec.Require}).Draw(t, "level")
		proto := rapid.SampledFrom([]uint8{ipsec.AnyProto, packet.ProtoUDP}).Draw(t, "protocol")
		_ = tw.both(func(r *rig.Rig) error {
			p := tunnelPolicy(dir, src, dst, map[bool]int{true: 0, false: 1}[dir == ipsec.Out])
			p.Kind, p.Proto, p.Requests[0].Level = kind, proto, level
			return r.IPsec.AddPolicy(p)
		})
	case "no policy":
		_ = tw.both(func(r *rig.Rig) error {
			_, err := r.IPsec.DeletePolicy(dir, tunnelPolicy(dir, src, dst, 0).Selector)
			return err
		})
	case "SA":
		packets := rapid.SampledFrom([]uint32{0, 0, 5}).Draw(t, "packets")
		_ = tw.both(func(r *rig.Rig) error {
			s := tunnelSA(six, from, spi)
			s.Hard.Packets = packets
			_, err := r.IPsec.Add(s)
			return err
		})
	case "no SA":
		_ = tw.both(func(r *rig.Rig) error {
			s, err := r.IPsec.Find(packet.ProtoESP, spi, a, b)
			if err == nil {
				r.IPsec.Delete(s)
			}
			return err
		})
	case "def_policy":
		name := map[bool]string{false: "net.inet.ipsec.def_policy", true: "net.inet6.ipsec6.def_policy"}[six]
		value := fmt.Sprint(rapid.SampledFrom([]int{1, 1, 0}).Draw(t, "value"))
		_ = tw.both(func(r *rig.Rig) error { r.Sysctl(name, value); return nil })
	case "level":
		name := map[bool]string{false: "net.inet.ipsec.esp_net_deflev", true: "net.inet6.ipsec6.esp_net_deflev"}[six]
		value := fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "value"))
		_ = tw.both(func(r *rig.Rig) error { r.Sysctl(name, value); return nil })
	}
	return what
}

// betweenNetworks is a frame for en<i> of a flow between the networks behind both gateways.
func betweenNetworks(t *rapid.T, i int) []byte {
	near := rapid.SampledFrom([]int{0, 2}).Draw(t, "near")
	if i != 1 {
		near = i
	}
	a, b := fmt.Sprintf("10.0.%d.%d", near, rapid.IntRange(2, 3).Draw(t, "host")), fmt.Sprintf("20.%d.0.9", rapid.IntRange(0, 1).Draw(t, "net"))
	if rapid.Bool().Draw(t, "six") {
		a, b = fmt.Sprintf("2001:db8:%d::%s", near, a[len(a)-1:]), fmt.Sprintf("2001:db8:10%s::9", b[3:4])
	}
	if i == 1 {
		a, b = b, a
	}
	src, dst := netip.MustParseAddr(a), netip.MustParseAddr(b)
	body := rig.Datagram(a, b, 1000, rapid.Uint16Range(53, 54).Draw(t, "port"), strings.Repeat("x", rapid.SampledFrom([]int{8, 1400}).Draw(t, "size")))
	f := make([]byte, packet.EtherLen, 2000)
	if src.Is4() {
		h := make([]byte, packet.IPv4Len)
		packet.PutIPv4(h, 0, len(h)+len(body), 0, rapid.SampledFrom([]uint16{0, packet.IPv4DF}).Draw(t, "DF"), 64, packet.ProtoUDP, src, dst, nil).SetChecksum()
		packet.PutEther(f, twinMAC(i), station(i, 2), packet.EtherIPv4)
		return append(append(f, h...), body...)
	}
	h := make([]byte, packet.IPv6Len)
	packet.PutIPv6(h, 0, 0, len(body), packet.ProtoUDP, 64, src, dst)
	packet.PutEther(f, twinMAC(i), station(i, 2), packet.EtherIPv6)
	return append(append(f, h...), body...)
}

// Whatever happens to policies and SAs between two packets, what the fast path protects, opens and sends is what
// the slow path would.
func TestFastPathProtects(t *testing.T) {
	var fast, out, in uint64
	rapid.Check(t, func(rt *rapid.T) {
		tw, far := newTwins(t, func(c *stack.Config) { c.IPsec = true }), newFarGateway(t)
		if rapid.IntRange(0, 4).Draw(rt, "begin") > 0 { // with all of it protected, both ways
			_ = tw.both(func(r *rig.Rig) error {
				for v, all := range []string{"0.0.0.0/0", "::/0"} {
					far := []string{"20.0.0.0/8", "2001:db8:100::/40"}[v]
					for from := range 2 {
						if _, err := r.IPsec.Add(tunnelSA(v == 1, from, 1000)); err != nil {
							return err
						}
					}
					if err := errors.Join(r.IPsec.AddPolicy(tunnelPolicy(ipsec.Out, all, far, 0)), r.IPsec.AddPolicy(tunnelPolicy(ipsec.In, far, all, 1))); err != nil {
						return err
					}
				}
				return nil
			})
		}
		type sent struct {
			on int
			f  []byte
		}
		var old []sent
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 7).Draw(rt, "step") {
			case 0, 1, 2:
				tw.compare(rt, tw.secure(rt))
				continue
			case 3:
				tw.compare(rt, tw.change(rt))
				continue
			}
			if i := rapid.IntRange(0, twinIfs-1).Draw(rt, "on"); len(old) < 6 {
				f := betweenNetworks(rt, i)
				if rapid.IntRange(0, 3).Draw(rt, "any") == 0 {
					f = draw(rt, i)
				}
				old = append(old, sent{i, f})
			}
			o := rapid.SampledFrom(old).Draw(rt, "frame")
			i := o.on
			frames := slices.Repeat([][]byte{o.f}, rapid.IntRange(1, 5).Draw(rt, "times"))
			if i == 1 && rapid.IntRange(0, 4).Draw(rt, "tunnel") > 0 {
				frames = far.wrap(rapid.SampledFrom([]uint32{1000, 1000, 1001}).Draw(rt, "by"), frames...)
			}
			for _, f := range frames { // one by one: SAs number packets in the order in which they leave
				_ = tw.both(func(r *rig.Rig) error {
					ifp := r.Env.Ifs.ByName(fmt.Sprintf("en%d", i))
					mac := ifp.MAC()
					copy(f, mac[:])
					r.SendOn(ifp, f)
					return nil
				})
				tw.compare(rt, "a frame")
			}
		}
		var counts [2][]uint64
		for k, r := range tw.r {
			for _, c := range []struct{ proto, name string }{{"ip", "forwarded"}, {"ip6", "forwarded"}, {"ipsec", "out"}, {"ipsec", "in"}, {"ipsec6", "out"}, {"ipsec6", "in"},
				{"ipsec", "out no SA"}, {"ipsec6", "out no SA"}, {"ipsec", "in policy"}, {"ipsec6", "in policy"}, {"ip", "unsecured"}, {"ip6", "unsecured"}} {
				counts[k] = append(counts[k], rig.Counter(r.Stack, c.proto, c.name))
			}
			r.Auto.Close()
		}
		if fmt.Sprint(counts[0]) != fmt.Sprint(counts[1]) {
			rt.Fatalf("counted %d, without a fast path %d", counts[0], counts[1])
		}
		fast += rig.Counter(tw.r[0].Stack, "ip", "fast forwarded") + rig.Counter(tw.r[0].Stack, "ip6", "fast forwarded")
		out, in = out+counts[0][2]+counts[0][4], in+counts[0][3]+counts[0][5]
		far.r.Auto.Close()
	})
	t.Logf("%d packets took the fast path, %d were protected, %d opened", fast, out, in)
	if fast == 0 || out == 0 || in == 0 {
		t.Error("something never happened")
	}
}
