package stack_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ionet/stack"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	rig "ionet/stack/stacktest"
)

// twins are two routers that differ in nothing but that one has a fast path.
type twins struct {
	r [2]*rig.Rig
}

const twinIfs = 3

func twinMAC(i int) netif.MAC       { return netif.MAC{2, 0, 0, 1, byte(i), 1} }
func station(i, host int) netif.MAC { return netif.MAC{2, 0, 0, 2, byte(i), byte(host)} }

func newTwins(t *testing.T, opts ...func(*stack.Config)) *twins {
	tw := &twins{}
	for k := range tw.r {
		r := rig.Bare(t, append(opts, rig.Dual)...)
		tw.r[k] = r
		for _, n := range []string{"net.inet.ip.forwarding", "net.inet6.ip6.forwarding"} {
			r.Sysctl(n, "1")
		}
		r.Sysctl("net.inet6.ip6.dad_count", "0")
		r.Sysctl("net.inet.icmp.errppslimit", "-1")
		r.Sysctl("net.inet6.icmp6.errppslimit", "-1")
		for i := range twinIfs {
			ifp := r.AddIf(fmt.Sprintf("en%d", i), twinMAC(i), "")
			for _, a := range []string{fmt.Sprintf("10.0.%d.1/24", i), fmt.Sprintf("2001:db8:%d::1/64", i)} {
				p := netip.MustParsePrefix(a)
				if err := r.AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
					t.Fatal(err)
				}
				for _, host := range []int{2, 3, 9} {
					ip := p.Addr().As16()
					ip[15] = byte(host)
					if err := r.AddNeighbour(ifp, netip.AddrFrom16(ip).Unmap(), station(i, host), 0, 0); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for n, dst := range []string{"20.0.0.0/16", "20.1.0.0/16", "2001:db8:100::/48", "2001:db8:101::/48"} {
			gw := []string{"10.0.1.2", "10.0.2.2", "2001:db8:1::2", "2001:db8:2::2"}[n]
			if err := via(r, dst, gw); err != nil {
				t.Fatal(err)
			}
		}
		if k == 1 {
			r.Sysctl("net.inet.ip.maxflows", "0")
			r.Sysctl("net.inet6.ip6.maxflows", "0")
		} else {
			r.Sysctl("net.inet.ip.maxflows", "64")
			r.Sysctl("net.inet6.ip6.maxflows", "64")
		}
	}
	tw.both(func(r *rig.Rig) error { r.Pass(time.Minute); r.Sent(); return nil })
	return tw
}

// both does one thing to both, which fare alike.
func (tw *twins) both(f func(r *rig.Rig) error) error {
	a, b := f(tw.r[0]), f(tw.r[1])
	if (a == nil) != (b == nil) {
		panic(fmt.Sprintf("%v beside %v", a, b))
	}
	return a
}

// flowOf is by what frames keep their order.
func flowOf(f []byte) string {
	if len(f) < packet.EtherLen+packet.IPv6Len {
		return string(f)
	}
	ip := f[packet.EtherLen:]
	if ip[0]>>4 == 4 {
		return string(f[:packet.EtherLen]) + string(ip[9:10]) + string(ip[12:24])
	}
	return string(f[:packet.EtherLen]) + string(ip[6:7]) + string(ip[8:44])
}

// compare fails unless both have sent the same, in the same order within a flow.
func (tw *twins) compare(t *rapid.T, what string) {
	var got [2][][]byte
	for k, r := range tw.r {
		got[k] = r.Sent()
		slices.SortStableFunc(got[k], func(a, b []byte) int { return bytes.Compare([]byte(flowOf(a)), []byte(flowOf(b))) })
	}
	if !slices.EqualFunc(got[0], got[1], bytes.Equal) {
		s := "after " + what
		for k := range got {
			s += fmt.Sprintf("\n%s has sent", []string{"the fast one", "the slow one"}[k])
			for _, f := range got[k] {
				s += "\n\t" + rig.Describe(f) + fmt.Sprintf("  % x", f[:min(len(f), 60)])
			}
		}
		t.Fatal(s)
	}
}

// draw makes a frame that station host of link i sends.
func draw(t *rapid.T, i int) []byte {
	six := rapid.Bool().Draw(t, "six")
	far := func(who string) netip.Addr {
		k, h := rapid.IntRange(0, twinIfs).Draw(t, who+" net"), rapid.SampledFrom([]int{1, 2, 3, 9, 255}).Draw(t, who)
		switch {
		case k == twinIfs && six:
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:10%d::%d", h%3, h))
		case k == twinIfs:
			return netip.MustParseAddr(fmt.Sprintf("20.%d.0.%d", h%3, h))
		case six:
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", k, h))
		}
		return netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", k, h))
	}
	src, dst := far("source"), far("destination")
	ttl := rapid.SampledFrom([]uint8{64, 64, 64, 64, 2, 1}).Draw(t, "ttl")
	size := rapid.SampledFrom([]int{8, 30, 600, 1400, 1480}).Draw(t, "size")
	proto := rapid.SampledFrom([]uint8{packet.ProtoUDP, packet.ProtoTCP, 99}).Draw(t, "protocol")
	sport := rapid.Uint16Range(1, 3).Draw(t, "port")
	body := make([]byte, size)
	binary.BigEndian.PutUint16(body, sport)
	binary.BigEndian.PutUint16(body[2:], 53)
	f := make([]byte, packet.EtherLen, 2000)
	if six {
		packet.PutEther(f, twinMAC(i), station(i, 2), packet.EtherIPv6)
		h := make([]byte, packet.IPv6Len)
		packet.PutIPv6(h, 0, 0, len(body), proto, ttl, src, dst)
		f = append(append(f, h...), body...)
	} else {
		packet.PutEther(f, twinMAC(i), station(i, 2), packet.EtherIPv4)
		var opts []byte
		if rapid.IntRange(0, 9).Draw(t, "options") == 0 {
			opts = []byte{7, 7, 4, 0, 0, 0, 0, 0}
		}
		frag := rapid.SampledFrom([]uint16{0, 0, 0, packet.IPv4DF, packet.IPv4MF, 3}).Draw(t, "fragment")
		h := make([]byte, packet.IPv4Len+len(opts))
		packet.PutIPv4(h, 0, len(h)+len(body), 7, frag, ttl, proto, src, dst, opts).SetChecksum()
		if rapid.IntRange(0, 19).Draw(t, "bad sum") == 0 {
			h[10]++
		}
		f = append(append(f, h...), body...)
	}
	if rapid.IntRange(0, 9).Draw(t, "padding") == 0 {
		f = append(f, 1, 2, 3)
	}
	return f
}

// change changes something of what forwarding depends on.
func (tw *twins) change(t *rapid.T) (what string) {
	i := rapid.IntRange(0, twinIfs-1).Draw(t, "interface")
	ifp := func(r *rig.Rig) *netif.Interface { return r.Env.Ifs.ByName(fmt.Sprintf("en%d", i)) }
	six := rapid.Bool().Draw(t, "six")
	pick := func(v4, v6 string) string {
		if six {
			return v6
		}
		return v4
	}
	n := rapid.IntRange(0, 2).Draw(t, "which")
	net := netip.MustParsePrefix(fmt.Sprintf(pick("20.%d.0.0/16", "2001:db8:10%d::/48"), n))
	gw := netip.MustParseAddr(fmt.Sprintf(pick("10.0.%d.%d", "2001:db8:%d::%d"), i, 2+n%2))
	host := netip.MustParseAddr(fmt.Sprintf(pick("10.0.%d.%d", "2001:db8:%d::%d"), i, rapid.SampledFrom([]int{2, 3, 9}).Draw(t, "host")))
	switch what = rapid.SampledFrom([]string{"add", "delete", "change", "reject", "address", "no address", "neighbour", "no neighbour",
		"down", "up", "mtu", "mac", "sysctl", "flows", "time"}).Draw(t, "change"); what {
	case "add", "delete", "change", "reject":
		op := route.Op{Kind: route.Add, Spec: route.Spec{Dst: net, Gateway: gw, Flags: route.FlagUp | route.FlagGateway | route.FlagStatic}}
		switch what {
		case "delete":
			op.Kind = route.Delete
		case "change":
			op.Kind = route.Change
		case "reject":
			op.Spec.Flags |= rapid.SampledFrom([]uint32{route.FlagReject, route.FlagBlackhole}).Draw(t, "kind")
		}
		_ = tw.both(func(r *rig.Rig) error { return r.Routes.Update([]route.Op{op})[0] })
	case "address":
		_ = tw.both(func(r *rig.Rig) error { return r.AddAddr(ifp(r), stack.AddrSpec{Addr: host, Bits: host.BitLen()}) })
	case "no address":
		_ = tw.both(func(r *rig.Rig) error { return r.DelAddr(ifp(r), host) })
	case "neighbour":
		_ = tw.both(func(r *rig.Rig) error {
			return r.Do(func(w *netif.Work) error {
				if six {
					return r.ND.Set(w, ifp(r), host, station(i, 4+n), 0, 0)
				}
				return r.ARP.Set(w, ifp(r), host, station(i, 4+n), 0, 0)
			})
		})
	case "no neighbour":
		_ = tw.both(func(r *rig.Rig) error {
			return r.Do(func(w *netif.Work) error {
				if six {
					return r.ND.Delete(w, ifp(r), host)
				}
				return r.ARP.Delete(w, ifp(r), host)
			})
		})
	case "down":
		_ = tw.both(func(r *rig.Rig) error { return r.SetFlags(ifp(r), 0, netif.FlagUp) })
	case "up":
		_ = tw.both(func(r *rig.Rig) error { return r.SetFlags(ifp(r), netif.FlagUp, 0) })
	case "mtu":
		_ = tw.both(func(r *rig.Rig) error { return r.SetMTU(ifp(r), []int{1500, 1280, 1400}[n], 1500) })
	case "mac":
		_ = tw.both(func(r *rig.Rig) error { return r.SetMAC(ifp(r), netif.MAC{2, 0, 0, 1, byte(i), byte(1 + n)}) })
	case "sysctl":
		name := pick("net.inet.ip.", "net.inet6.ip6.") + rapid.SampledFrom([]string{"forwarding", "redirect", "rpf"}).Draw(t, "node")
		value := fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "value"))
		_ = tw.both(func(r *rig.Rig) error { r.Sysctl(name, value); return nil })
	case "flows":
		tw.r[0].Sysctl(pick("net.inet.ip.maxflows", "net.inet6.ip6.maxflows"), []string{"1", "64", "4"}[n])
	case "time":
		d := time.Duration(rapid.SampledFrom([]int{1, 40, 2000}).Draw(t, "seconds")) * time.Second
		_ = tw.both(func(r *rig.Rig) error { r.Pass(d); return nil })
	}
	return what
}

// Whatever happens to routes, addresses, neighbours, interfaces and settings
// between two packets, what the fast path sends is what the slow path would.
func TestFastPathIsTheSlowPath(t *testing.T) {
	var fast uint64
	rapid.Check(t, func(rt *rapid.T) {
		tw := newTwins(t)
		var old [][]byte
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "step") == 0 {
				tw.compare(rt, tw.change(rt))
				continue
			}
			i := rapid.IntRange(0, twinIfs-1).Draw(rt, "on")
			var burst [][]byte
			for range rapid.IntRange(1, 6).Draw(rt, "frames") {
				if len(old) < 12 {
					old = append(old, draw(rt, i))
				}
				f := slices.Clone(rapid.SampledFrom(old).Draw(rt, "frame"))
				for range rapid.IntRange(1, 3).Draw(rt, "times") {
					burst = append(burst, f)
				}
			}
			for range 2 {
				_ = tw.both(func(r *rig.Rig) error {
					ifp := r.Env.Ifs.ByName(fmt.Sprintf("en%d", i))
					for _, f := range burst {
						mac := ifp.MAC()
						copy(f, mac[:])
					}
					r.SendOn(ifp, burst...)
					return nil
				})
				tw.compare(rt, "a burst")
			}
		}
		fast += rig.Counter(tw.r[0].Stack, "ip", "fast forwarded") + rig.Counter(tw.r[0].Stack, "ip6", "fast forwarded")
		for _, proto := range []string{"ip", "ip6"} {
			if a, b := rig.Counter(tw.r[0].Stack, proto, "forwarded"), rig.Counter(tw.r[1].Stack, proto, "forwarded"); a != b {
				rt.Fatalf("%s: %d packets forwarded, %d without a fast path", proto, a, b)
			}
		}
		for _, r := range tw.r {
			r.Auto.Close()
		}
	})
	if fast == 0 {
		t.Error("nothing took the fast path")
	}
	t.Logf("%d packets took the fast path", fast)
}

// A route knows of the packets that took the fast path as soon as somebody asks.
func TestFastPathCountsUse(t *testing.T) {
	tw := newTwins(t)
	f := rig.IP{Src: "10.0.0.2", Dst: "20.0.0.9", Proto: 99, Data: make([]byte, 8)}.FrameTo(twinMAC(0), station(0, 2))
	for k, r := range tw.r {
		for range 10 {
			r.SendOn(r.Env.Ifs.ByName("en0"), f)
		}
		got, err := r.Routes.Get(netip.MustParseAddr("20.0.0.9"))
		if err != nil || got.Use != 10 {
			t.Errorf("%d uses (%v), want 10", got.Use, err)
		}
		if fast := rig.Counter(r.Stack, "ip", "fast forwarded"); fast != uint64(9*(1-k)) {
			t.Errorf("%d packets took the fast path", fast)
		}
		r.Auto.Close()
	}
}

// A sentence in brackets goes on with the one that is declared before it (netstat -s).
func TestFastForwardedFollowsForwarded(t *testing.T) {
	for i, c := range mib.Counters() {
		if c.Name == "fast forwarded" {
			if before := mib.Counters()[i-1]; before.Proto != c.Proto || before.Name != "forwarded" {
				t.Errorf("%s: it is printed behind %q", c.Proto, before.Sentence)
			}
		}
	}
}
