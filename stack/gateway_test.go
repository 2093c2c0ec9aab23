package stack_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	rig "ionet/stack/stacktest"
)

// aGateway is a router in both families, whose stations, Peer on en0 and Peer1 on en1, it knows.
type aGateway struct {
	*rig.Rig
	en1 *netif.Interface
}

// side is a family as the gateway's tests speak of it: sent from a to b, who are on
// either side of the addresses of it.
type side struct {
	name, icmp         string // of its counters
	martian            string // the counter
	a, a2, b, me, me1  string
	far, farNet, wider string // behind nobody yet
}

var sides = []side{
	{"ip", "icmp", "martian", "10.0.0.2", "10.0.0.3", "10.0.1.2", "10.0.0.1", "10.0.1.1", "99.1.1.1", "99.1.1.0/24", "99.0.0.0/8"},
	{"ip6", "icmp6", "bad scope", "2001:db8::2", "2001:db8::3", "2001:db8:1::2", "2001:db8::1", "2001:db8:1::1", "2001:db8:99::1", "2001:db8:99::/64", "2001:db8:99::/48"},
}

func (v side) node(name string) string {
	if v.name == "ip" {
		return "net.inet.ip." + name
	}
	return "net.inet6.ip6." + name
}

func newGateway(t *testing.T) *aGateway {
	r := rig.New(t, rig.Dual)
	g := &aGateway{r, r.AddIf("en1", rig.Me1, "")}
	r.Sysctl("net.inet6.ip6.dad_count", "0")
	for _, v := range sides {
		r.Sysctl(v.node("forwarding"), "1")
		for _, x := range []struct {
			ifp      *netif.Interface
			own, his string
			mac      netif.MAC
		}{{r.If, v.me, v.a, rig.Peer}, {g.en1, v.me1, v.b, rig.Peer1}} {
			bits := 24
			if v.name == "ip6" {
				bits = 64
			}
			_ = r.AddAddr(x.ifp, stack.AddrSpec{Addr: netip.MustParseAddr(x.own), Bits: bits}) // en0 has its first
			if err := r.AddNeighbour(x.ifp, netip.MustParseAddr(x.his), x.mac, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.Pass(time.Minute)
	r.Sent()
	return g
}

// ipPacket is one of protocol 99 in a frame from Peer.
func ipPacket(src, dst string, ttl uint8) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is4() {
		f := rig.IP{Src: src, Dst: dst, Proto: 99, TTL: ttl, Data: make([]byte, 8)}.FrameTo(rig.Me, rig.Peer)
		copy(f, rig.Me[:])
		return f
	}
	f := make([]byte, packet.EtherLen+packet.IPv6Len+8)
	packet.PutEther(f, rig.Me, rig.Peer, packet.EtherIPv6)
	packet.PutIPv6(f[packet.EtherLen:], 0, 0, 8, 99, ttl, s, d)
	return f
}

// through passes a packet, and answers what comes of it; from the second of a flow
// on it is the fast path that decides.
func (g *aGateway) through(src, dst string, ttl uint8) string {
	g.SendWire(ipPacket(src, dst, ttl))
	return frames(g.Rig)
}

func (g *aGateway) route(kind route.Kind, dst, gw string, flags uint32) {
	g.Helper()
	s := route.Spec{Dst: netip.MustParsePrefix(dst), Flags: route.FlagUp | route.FlagStatic | flags}
	if gw != "" {
		s.Gateway, s.Flags = netip.MustParseAddr(gw), s.Flags|route.FlagGateway
	}
	if s.Dst.IsSingleIP() {
		s.Host = true
	}
	if err := g.Routes.Update([]route.Op{{Kind: kind, Spec: s}})[0]; err != nil {
		g.Fatal(err)
	}
}

func eachSide(t *testing.T, f func(t *testing.T, g *aGateway, v side)) {
	for _, v := range sides {
		t.Run(v.name, func(t *testing.T) { f(t, newGateway(t), v) })
	}
}

// Every router takes one from the hop limit and passes on what it leaves more than none of
// (RFC 1812 §5.3.1, RFC 8200 §3), on either path.
func TestGatewayHopLimit(t *testing.T) {
	eachSide(t, func(t *testing.T, g *aGateway, v side) {
		hops := func(f []byte) uint8 {
			if v.name == "ip" {
				return packet.IPv4(f[packet.EtherLen:]).TTL()
			}
			return packet.IPv6(f[packet.EtherLen:]).HopLimit()
		}
		for range 3 {
			for _, ttl := range []uint8{255, 64, 2} {
				g.SendWire(ipPacket(v.a, v.b, ttl))
				if sent := g.Sent(); len(sent) != 1 || hops(sent[0]) != ttl-1 {
					t.Errorf("%d frames of hop limit %d, want 1 with one less", len(sent), ttl)
				}
			}
			want := v.me + " > " + v.a + " time-exceeded 0 quotes " + v.a + " > " + v.b + " proto 99 len 8"
			same(t, "a hop limit of 1", g.through(v.a, v.b, 1), want)
		}
		if v.name == "ip6" { // 0 is 64 in a rig.IP
			same(t, "a hop limit of 0", g.through(v.a, v.b, 0), v.me+" > "+v.a+" time-exceeded 0 quotes "+v.a+" > "+v.b+" proto 99 len 8")
		}
	})
}

// What no wire may carry as a source, or a destination, is not answered and goes nowhere
// (RFC 1812 §5.3.7, RFC 4291 §2.5, §2.7).
func TestGatewayMartians(t *testing.T) {
	eachSide(t, func(t *testing.T, g *aGateway, v side) {
		sources := []string{"127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", v.b}
		to := []string{"127.0.0.1", "0.1.2.3", "240.0.0.1", "255.255.255.255"}
		if v.name == "ip6" {
			sources = []string{"::", "::1", "ff02::1", "ff0e::1", "::ffff:10.0.0.2", v.b}
			to = []string{"::1", "::", "::ffff:10.0.1.2", "fe80::9"}
		}
		nothing := func(what, src, dst string) {
			t.Helper()
			drops := func() uint64 {
				return rig.Counter(g.Stack, v.name, v.martian) + rig.Counter(g.Stack, v.name, "not forwardable")
			}
			before := drops()
			f := ipPacket(v.a, v.b, 64)
			ip := f[packet.EtherLen:]
			s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
			if v.name == "ip" {
				copy(ip[12:], s.AsSlice())
				copy(ip[16:], d.AsSlice())
				packet.IPv4(ip).SetChecksum()
			} else {
				src16, dst16 := s.As16(), d.As16()
				copy(ip[8:], src16[:])
				copy(ip[24:], dst16[:])
			}
			for range 2 {
				g.SendWire(f)
				if got := frames(g.Rig); got != "" {
					t.Errorf("%s %s > %s: %s", what, src, dst, got)
				}
			}
			if d := drops() - before; d != 2 && dst != "255.255.255.255" { // which is for us too
				t.Errorf("%s %s > %s: %d counted, want 2", what, src, dst, d)
			}
		}
		for _, s := range sources {
			nothing("from", s, v.b)
		}
		for _, d := range to {
			nothing("to", v.a, d)
		}
		if v.name == "ip6" { // its scope ends at this link (RFC 4443 §3.1)
			same(t, "a link-local source", g.through("fe80::9", v.b, 64), "2001:db8::1 > ff02::1:ff00:9 ns fe80::9 from 02:00:00:00:00:01")
		}
	})
}

// A route that rejects is answered with host or network unreachable, as it says; a black hole is not.
func TestGatewayRefusingRoutes(t *testing.T) {
	eachSide(t, func(t *testing.T, g *aGateway, v side) {
		far := netip.MustParseAddr(v.far)
		host := netip.PrefixFrom(far, far.BitLen()).String()
		none, net, host1 := "unreach 0", "unreach 0", "unreach 1"
		if v.name == "ip6" {
			net, host1 = "unreach 6", "unreach 6" // RFC 4443 §3.1
		}
		answer := func(code string) string {
			return v.me + " > " + v.a + " " + code + " quotes " + v.a + " > " + v.far + " proto 99 len 8"
		}
		for range 2 {
			same(t, "no route", g.through(v.a, v.far, 64), answer(none))
		}
		g.route(route.Add, v.wider, v.b, 0)
		if got := g.through(v.a, v.far, 64); !strings.HasPrefix(got, v.a+" > "+v.far) {
			t.Errorf("by a route: %s", got)
		}
		for _, c := range []struct {
			what, dst string
			flags     uint32
			want      string
		}{
			{"a net that is rejected", v.farNet, route.FlagReject, answer(net)},
			{"a host that is rejected", host, route.FlagReject, answer(host1)},
			{"a net in a black hole", v.farNet, route.FlagBlackhole, ""},
			{"a host in a black hole", host, route.FlagBlackhole, ""},
		} {
			g.route(route.Add, c.dst, v.b, c.flags)
			for range 2 {
				swallowed := rig.Counter(g.Stack, v.name, "blackhole")
				same(t, c.what, g.through(v.a, v.far, 64), c.want)
				if d := rig.Counter(g.Stack, v.name, "blackhole") - swallowed; (d == 1) != (c.want == "") {
					t.Errorf("%s: %d swallowed", c.what, d)
				}
			}
			g.route(route.Delete, c.dst, "", 0)
			if got := g.through(v.a, v.far, 64); !strings.HasPrefix(got, v.a+" > "+v.far) {
				t.Errorf("without %s: %s", c.what, got)
			}
		}
	})
}

// A flood of packets that are answered with errors is answered up to errppslimit a second,
// whatever the errors are about, and the rest is counted.
func TestGatewayErrorsOfAFlood(t *testing.T) {
	eachSide(t, func(t *testing.T, g *aGateway, v side) {
		g.Sysctl(strings.Replace(v.node(""), v.name+".", v.icmp+".", 1)+"errppslimit", "100")
		flood := func() map[string]int {
			got := map[string]int{}
			for i := range 500 {
				g.SendWire(ipPacket(v.a, v.b, 1), ipPacket(v.a, strings.Replace(v.far, "1", fmt.Sprint(1+i%9), 1), 64))
				for _, f := range g.Sent() {
					got[strings.Fields(rig.Describe(f))[3]]++
				}
			}
			return got
		}
		for range 2 {
			before := rig.Counter(g.Stack, v.icmp, "rate limit")
			got := flood()
			if got["time-exceeded"]+got["unreach"] != 100 || len(got) != 2 {
				t.Errorf("1000 packets are answered with %v, want 100 errors", got)
			}
			if n := rig.Counter(g.Stack, v.icmp, "rate limit") - before; n != 900 {
				t.Errorf("%d errors were not sent for the limit, want 900", n)
			}
			g.Pass(time.Second)
		}
	})
}

// A station is told of a better first hop when packets go back to where it is, if redirect says so.
// On the fast path no packet may be missed: the station may have forgotten.
func TestGatewayRedirects(t *testing.T) {
	eachSide(t, func(t *testing.T, g *aGateway, v side) {
		if err := g.AddNeighbour(g.If, netip.MustParseAddr(v.a2), netif.MAC{2, 0, 0, 0, 0, 3}, 0, 0); err != nil {
			t.Fatal(err)
		}
		router := v.a2 // of IPv6 one is known by its link-local address (RFC 4861 §8.1)
		if v.name == "ip6" {
			router = "fe80::3%en0"
			if err := g.AddAddr(g.If, stack.AddrSpec{Addr: netip.MustParseAddr("fe80::1"), Bits: 64}); err != nil {
				t.Fatal(err)
			}
			if err := g.AddNeighbour(g.If, scoped(g.Rig, "fe80::3"), netif.MAC{2, 0, 0, 0, 0, 3}, 0, 0); err != nil {
				t.Fatal(err)
			}
			if err := g.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: netip.MustParsePrefix(v.farNet), Gateway: scoped(g.Rig, "fe80::3"),
				If: g.If, Flags: route.FlagUp | route.FlagStatic | route.FlagGateway}}})[0]; err != nil {
				t.Fatal(err)
			}
		} else {
			g.route(route.Add, v.farNet, router, 0)
		}
		g.Sent()
		back := func(src, dst string) (redirects int, passed bool) {
			t.Helper()
			g.SendWire(ipPacket(src, dst, 64))
			for _, f := range g.Sent() {
				s := rig.Describe(f)
				switch {
				case strings.Contains(s, "redirect"):
					redirects++
				case strings.HasPrefix(s, src+" > "+dst):
					passed = true
				}
			}
			return redirects, passed
		}
		wants := func(what, src, dst string, n int) {
			t.Helper()
			if got, passed := back(src, dst); got != n || !passed {
				t.Errorf("%s: %d redirects, want %d; passed on: %v", what, got, n, passed)
			}
		}
		for range 3 {
			wants("behind a router of its link", v.a, v.far, 1)
			wants("a station of its link", v.a, v.a2, 1)
			g.Pass(2 * time.Second) // one a second and destination
		}
		wants("a station of another link", v.a, v.b, 0)
		if v.name == "ip" {
			wants("a source that is not of the link", "77.0.0.1", v.far, 0)
		}
		g.Sysctl(v.node("redirect"), "0")
		for range 3 {
			wants("with redirect=0", v.a, v.far, 0)
			g.Pass(2 * time.Second)
		}
		g.Sysctl(v.node("redirect"), "1")
		wants("with redirect=1 again", v.a, v.far, 1)
	})
}

// What a station routes through the gateway by an option goes that way, and only if both
// settings say so (RFC 1812 §5.2.4.1, §5.3.13.4); it never gets a redirect.
func TestGatewaySourceRoutes(t *testing.T) {
	g := newGateway(t)
	loose := func(opt byte, first string, hops ...string) []byte {
		o := []byte{opt, byte(3 + 4*len(hops)), 4}
		for _, h := range hops {
			o = append(o, netip.MustParseAddr(h).AsSlice()...)
		}
		return rig.IP{Src: "10.0.0.2", Dst: first, Proto: 99, Options: append(o, 0), Data: make([]byte, 8)}.FrameTo(rig.Me, rig.Peer)
	}
	says := func(what string, f []byte, want string, options ...byte) {
		t.Helper()
		g.SendWire(f)
		sent := g.Sent()
		got := ""
		for _, f := range sent {
			got += rig.Describe(f)
		}
		same(t, what, got, want)
		if len(sent) == 1 && options != nil {
			if o := packet.IPv4(sent[0][packet.EtherLen:]).Options(); !slices.Equal([]byte(o), options) {
				t.Errorf("%s: options % x, want % x", what, o, options)
			}
		}
	}
	// Where it was is recorded in its place, by the address that it leaves with.
	says("loose", loose(131, "10.0.0.1", "10.0.1.2"), "10.0.0.2 > 10.0.1.2 proto 99 len 8", 131, 7, 8, 10, 0, 1, 1, 0)
	says("strict", loose(137, "10.0.0.1", "10.0.1.2"), "10.0.0.2 > 10.0.1.2 proto 99 len 8", 137, 7, 8, 10, 0, 1, 1, 0)
	says("two hops more", loose(131, "10.0.0.1", "10.0.1.2", "99.0.0.1"), "10.0.0.2 > 10.0.1.2 proto 99 len 8", 131, 11, 8, 10, 0, 1, 1, 99, 0, 0, 1, 0)
	says("strict, to where no link leads", loose(137, "10.0.0.1", "99.1.1.1"), "10.0.0.1 > 10.0.0.2 unreach 5 quotes 10.0.0.2 > 10.0.0.1 proto 99 len 8")
	says("back to its link", loose(131, "10.0.0.1", "10.0.0.2"), "10.0.0.2 > 10.0.0.2 proto 99 len 8")
	g.Sysctl("net.inet.ip.forwsrcrt", "0")
	says("forwsrcrt=0", loose(131, "10.0.0.1", "10.0.1.2"), "10.0.0.1 > 10.0.0.2 unreach 5 quotes 10.0.0.2 > 10.0.0.1 proto 99 len 8")
	g.Sysctl("net.inet.ip.forwsrcrt", "1")
	g.Sysctl("net.inet.ip.allowsrcrt", "0")
	says("allowsrcrt=0", loose(131, "10.0.0.1", "10.0.1.2"), "10.0.0.1 > 10.0.0.2 unreach 9 quotes 10.0.0.2 > 10.0.0.1 proto 99 len 8")
}

// A broadcast of another link is passed on if the setting says so, as a broadcast, and one of
// the link that it came by is not.
func TestGatewayDirectedBroadcast(t *testing.T) {
	g := newGateway(t)
	for range 2 {
		for _, to := range []string{"10.0.1.255", "10.0.1.0"} {
			same(t, "to "+to, g.through("10.0.0.2", to, 64), "")
		}
		g.Sysctl("net.inet.ip.directed-broadcast", "1")
		for range 3 {
			g.SendWire(ipPacket("10.0.0.2", "10.0.1.255", 64))
			if sent := g.Sent(); len(sent) != 1 || netif.MAC(sent[0][:6]) != netif.BroadcastMAC {
				t.Errorf("%d frames, want one to everybody", len(sent))
			}
		}
		f := ipPacket("10.0.0.2", "10.0.1.255", 64)
		copy(f, netif.BroadcastMAC[:]) // as a broadcast of its own link it is passed on by nobody (RFC 1812 §5.3.4)
		g.SendWire(f)
		same(t, "in a broadcast frame", frames(g.Rig), "")
		g.Sysctl("net.inet.ip.directed-broadcast", "0")
	}
}

// equalWays gives the gateway two equal routes to v.farNet, by en1 and en2, and answers en2 and the
// interface that packets of n flows leave by, as a string of 1 and 2.
func (g *aGateway) equalWays(v side) (en2 *netif.Interface, ways func(send func(f []byte)) string) {
	g.Helper()
	en2 = g.AddIf("en2", netif.MAC{2, 0, 0, 0, 2, 1}, "")
	own, gw, bits := "10.0.2.1", "10.0.2.2", 24
	if v.name == "ip6" {
		own, gw, bits = "2001:db8:2::1", "2001:db8:2::2", 64
	}
	if err := g.AddAddr(en2, stack.AddrSpec{Addr: netip.MustParseAddr(own), Bits: bits}); err != nil {
		g.Fatal(err)
	}
	second := netif.MAC{2, 0, 0, 0, 2, 2}
	if err := g.AddNeighbour(en2, netip.MustParseAddr(gw), second, 0, 0); err != nil {
		g.Fatal(err)
	}
	g.route(route.Add, v.farNet, v.b, route.FlagMPath)
	g.route(route.Add, v.farNet, gw, route.FlagMPath)
	g.Pass(time.Minute)
	g.Sent()
	return en2, func(send func(f []byte)) string {
		var by strings.Builder
		for i := range 40 {
			src := fmt.Sprint("10.0.0.", 50+i)
			if v.name == "ip6" {
				src = fmt.Sprint("2001:db8::", 50+i)
			}
			send(ipPacket(src, v.far, 64))
			sent := g.Sent()
			switch {
			case len(sent) == 1 && netif.MAC(sent[0][:6]) == rig.Peer1:
				by.WriteByte('1')
			case len(sent) == 1 && netif.MAC(sent[0][:6]) == second:
				by.WriteByte('2')
			default:
				g.Fatalf("flow %d: %d frames", i, len(sent))
			}
		}
		return by.String()
	}
}

// Flows leave an interface without carrier and come back to it, on the fast path too, and what a
// filter sends of a flow goes the flow's way.
func TestGatewayEqualWays(t *testing.T) {
	eachSide(t, func(t *testing.T, g *aGateway, v side) {
		en2, ways := g.equalWays(v)
		send := func(f []byte) { g.SendWire(f) }
		both := ways(send)
		if strings.Count(both, "1") < 5 || strings.Count(both, "2") < 5 {
			t.Errorf("flows by %s", both)
		}
		for range 2 {
			same(t, "on the fast path", ways(send), both)
			g.LinkState(en2, false)
			same(t, "without en2's carrier", ways(send), strings.Repeat("1", 40))
			g.LinkState(en2, true)
			same(t, "with it again", ways(send), both)
		}
		same(t, "what a filter sends", ways(func(f []byte) {
			_ = g.Do(func(w *netif.Work) error {
				p := g.Env.Pool.Get(len(f))
				copy(p.Append(len(f)-packet.EtherLen), f[packet.EtherLen:])
				if v.name == "ip" {
					g.Inet.Inject(w, p, nil, netip.Addr{})
				} else {
					g.Inet6.Inject(w, p, nil, netip.Addr{})
				}
				return nil
			})
		}), both)
	})
}
