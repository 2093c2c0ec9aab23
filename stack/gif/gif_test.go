package gif_test

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// Either version of IP goes through a tunnel of either.
func TestEitherVersionInEither(t *testing.T) {
	for _, tc := range []struct {
		outer, inner string
		wire         string
	}{
		{"10.0.0.", "10.9.0.", "10.0.0.1 > 10.0.0.2 proto 4 len 33"},
		{"10.0.0.", "2001:db8:9::", "10.0.0.1 > 10.0.0.2 proto 41 len 53"},
		{"2001:db8::", "10.9.0.", "2001:db8::1 > 2001:db8::2 proto 4 len 33"},
		{"2001:db8::", "2001:db8:9::", "2001:db8::1 > 2001:db8::2 proto 41 len 53"},
	} {
		t.Run(tc.inner+"in"+tc.outer, func(t *testing.T) {
			p := newPair(t)
			ga, gb := p.joined(tc.outer)
			from, to := udp(p.a, 5), udp(p.b, 9)
			in, out := gb.Stats.InPackets.Load(), ga.Stats.OutPackets.Load()
			if err := send(p.a, from, tc.inner+"2", 9, 5); err != nil {
				t.Fatal(err)
			}
			p.sees(tc.wire)
			if g, want := got(p.b, to), tc.inner+"1 len 5"; g != want {
				t.Errorf("arrived: %q, want %q", g, want)
			}
			if gb.Stats.InPackets.Load() != in+1 || ga.Stats.OutPackets.Load() != out+1 {
				t.Error("the interfaces have not counted it")
			}
		})
	}
}

func TestHeaderOfATunnel(t *testing.T) {
	p := newPair(t)
	p.joined("10.0.0.")
	p.a.Sysctl("net.inet.ip.gifttl", "7")
	so := udp(p.a, 5)
	if err := send(p.a, so, "10.9.0.2", 9, 5); err != nil {
		t.Fatal(err)
	}
	h := packet.IPv4(p.a.Sent()[0][packet.EtherLen:])
	if h.TTL() != 7 || h.DF() || !h.ChecksumOK() {
		t.Errorf("ttl %d, df %v, checksum %v", h.TTL(), h.DF(), h.ChecksumOK())
	}
}

// What is of no tunnel is of no protocol, as if there were none (RFC 4213 §3.6).
func TestStrangersAreOfNoProtocol(t *testing.T) {
	p := newPair(t)
	p.joined("10.0.0.")
	inner := ip6(0, "2001:db8:9::2", "2001:db8:9::1", packet.ProtoUDP, udp6("2001:db8:9::2", "2001:db8:9::1", 5))
	so := udp(p.a, 9)
	p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.3", Dst: "10.0.0.1", Proto: packet.ProtoIPv6, Data: inner})))
	if g := got(p.a, so); g != nothing {
		t.Errorf("a stranger's came through: %s", g)
	}
	if n := rig.Counter(p.a.Stack, "ip", "unknown protocol"); n != 1 {
		t.Errorf("%d counted as of an unknown protocol, want 1", n)
	}
	// The right one does.
	p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoIPv6, Data: inner})))
	if g := got(p.a, so); g != "2001:db8:9::2 len 5" {
		t.Errorf("the far end's: %s", g)
	}
}

// RFC 4213 §3.6, RFC 6040 §4.2, and the ingress filter of KAME.
func TestWhatDoesNotComeOut(t *testing.T) {
	inner := func(class uint8, src, dst string) []byte {
		return ip6(class, src, dst, packet.ProtoUDP, udp6(src, dst, 5))
	}
	good := inner(0, "2001:db8:9::2", "2001:db8:9::1")
	for _, tc := range []struct {
		name, why string
		tos       uint8
		proto     uint8
		pkt       []byte
	}{
		{"a group's", "bad inner address", 0, 41, inner(0, "ff02::1", "2001:db8:9::1")},
		{"the loopback address's", "bad inner address", 0, 41, inner(0, "::1", "2001:db8:9::1")},
		{"IPv4-compatible", "bad inner address", 0, 41, inner(0, "::10.9.0.2", "2001:db8:9::1")},
		{"IPv4-mapped", "bad inner address", 0, 41, inner(0, "::ffff:10.9.0.2", "2001:db8:9::1")},
		{"IPv4 that says it is IPv6", "bad inner packet", 0, 41, ip4(rig.IP{Src: "10.9.0.2", Dst: "10.9.0.1", Proto: 17})},
		{"IPv6 that says it is IPv4", "bad inner packet", 0, 4, good},
		{"half a header", "bad inner packet", 0, 41, good[:39]},
		{"nothing", "bad inner packet", 0, 41, nil},
		{"no ECN, congested", "congestion", 3, 41, good},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t)
			p.joined("10.0.0.")
			so := udp(p.a, 9)
			p.a.Sent()
			before := count(p.a, tc.why)
			p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: tc.proto, TOS: tc.tos, Data: tc.pkt})))
			if n := count(p.a, tc.why) - before; n != 1 {
				t.Errorf("%d counted as %q, want 1", n, tc.why)
			}
			if g := got(p.a, so); g != nothing {
				t.Errorf("it came out: %s", g)
			}
			p.a.Expect()
		})
	}
}

func TestIngressFilter(t *testing.T) {
	p := newPair(t)
	en1 := p.a.AddIf("en1", rig.Me1, "10.0.1.1/24")
	p.a.Pass(10 * time.Second)
	g, _ := p.joined("10.0.0.")
	so := udp(p.a, 9)
	in := ip6(0, "2001:db8:9::2", "2001:db8:9::1", packet.ProtoUDP, udp6("2001:db8:9::2", "2001:db8:9::1", 5))
	f := frame(1, 2, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoIPv6, Data: in}))
	copy(f, rig.Me1[:])
	p.a.SendOn(en1, f)
	if s := got(p.a, so); s != nothing || count(p.a, "ingress filter") != 1 {
		t.Errorf("by the wrong interface: %s, %d counted", s, count(p.a, "ingress filter"))
	}
	if err := p.a.SetFlags(g, netif.FlagLink2, 0); err != nil {
		t.Fatal(err)
	}
	p.a.SendOn(en1, f)
	if s := got(p.a, so); s != "2001:db8:9::2 len 5" {
		t.Errorf("with link2: %s", s)
	}
}

// RFC 6040 §4.2, the whole table; and §4.1 on the way in.
func TestECN(t *testing.T) {
	const drop = 9
	for outer, row := range [4][4]uint8{ // by inner: Not-ECT, ECT(1), ECT(0), CE
		0: {0, 1, 2, 3},
		1: {0, 1, 1, 3},
		2: {0, 1, 2, 3},
		3: {drop, 3, 3, 3},
	} {
		for inner, want := range row {
			p := newPair(t)
			p.joined("10.0.0.")
			p.b.Sysctl("net.inet.ip.forwarding", "1")
			p.b.Sysctl("net.inet6.ip6.forwarding", "1")
			for _, in := range [][]byte{
				ip4(rig.IP{Src: "10.9.0.1", Dst: "10.0.0.1", Proto: 99, TOS: 0xb8 | uint8(inner)}),
				ip6(0xb8|uint8(inner), "2001:db8:9::1", "2001:db8::1", 99, nil),
			} {
				proto := uint8(packet.ProtoIPv4)
				if in[0]>>4 == 6 {
					proto = packet.ProtoIPv6
				}
				p.b.Sent()
				p.b.Send(frame(2, 1, ip4(rig.IP{Src: "10.0.0.1", Dst: "10.0.0.2", Proto: proto, TOS: uint8(outer), Data: in})))
				out := p.b.Sent()
				switch {
				case want == drop && len(out) == 0:
				case want == drop || len(out) != 1:
					t.Errorf("outer %d, inner %d: %d packets", outer, inner, len(out))
				case out[0][packet.EtherLen]>>4 == 6:
					if c := packet.IPv6(out[0][packet.EtherLen:]).Class(); c != 0xb8|want {
						t.Errorf("outer %d, inner %d of IPv6: %#x, want %#x", outer, inner, c, 0xb8|want)
					}
				default:
					if h := packet.IPv4(out[0][packet.EtherLen:]); h.TOS() != 0xb8|want || !h.ChecksumOK() {
						t.Errorf("outer %d, inner %d of IPv4: %#x, want %#x; checksum %v", outer, inner, h.TOS(), 0xb8|want, h.ChecksumOK())
					}
				}
			}
		}
	}
	p := newPair(t)
	p.joined("2001:db8::")
	p.b.Sysctl("net.inet.ip.forwarding", "1")
	p.b.Send(frame(2, 1, ip4(rig.IP{Src: "10.0.0.1", Dst: "10.9.0.1", Proto: 99, TOS: 0xb8 | 2})))
	for _, f := range p.b.Sent() {
		if h, ok := packet.CheckIPv6(f[packet.EtherLen:]); ok && h.Class() != 0xb8|2 {
			t.Errorf("outer class %#x, want that of the inner packet", h.Class())
		}
	}
}

// A tunnel inside a tunnel is a mistake, unless somebody says it is not.
func TestNesting(t *testing.T) {
	p := newPair(t)
	p.joined("10.0.0.")
	gif(p.a, "gif1", "10.9.0.1", "10.9.0.2", "10.8.0.1/24")
	gif(p.b, "gif1", "10.9.0.2", "10.9.0.1", "10.8.0.2/24")
	from, to := udp(p.a, 5), udp(p.b, 9)
	p.carry()
	_ = send(p.a, from, "10.8.0.2", 9, 5)
	p.sees()
	if n := count(p.a, "nested too deep"); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
	p.a.Sysctl("net.link.gif.max_nesting", "2")
	if err := send(p.a, from, "10.8.0.2", 9, 5); err != nil {
		t.Fatal(err)
	}
	p.sees("10.0.0.1 > 10.0.0.2 proto 4 len 53")
	if g := got(p.b, to); g != "10.8.0.1 len 5" {
		t.Errorf("arrived: %s", g)
	}
}

// A route to the far end through the tunnel itself ends at once (RFC 2473 §4.1.1).
func TestTunnelIntoItself(t *testing.T) {
	p := newPair(t)
	p.a.Sysctl("net.link.gif.max_nesting", "8")
	gif(p.a, "gif0", "10.0.0.1", "99.0.0.1", "10.9.0.1/24")
	add(p.a, "99.0.0.0/8", "10.9.0.2")
	_ = send(p.a, udp(p.a, 5), "10.9.0.2", 9, 5)
	p.sees()
	if n := count(p.a, "own tunnel"); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

// RFC 4213 §3.2, RFC 2003 §3.1, RFC 2473 §7: who is told that a packet is larger
// than the path, and whose outer packet is cut.
func TestLargerThanThePath(t *testing.T) {
	for _, tc := range []struct {
		name, outer, inner string
		df                 uint16
		mtu, path, size    int // of gif0, of the path, of the packet
		want               string
	}{
		{"IPv6, the link's MTU", "10.0.0.", "2001:db8:9::9", 0, 1280, 1500, 1400, "2001:db8::1 > 2001:db8::2 too-big mtu 1280 quotes 2001:db8::2 > 2001:db8:9::9 proto 17 len 1192"},
		{"IPv6, the path's", "10.0.0.", "2001:db8:9::9", 0, 1480, 1400, 1400, "2001:db8::1 > 2001:db8::2 too-big mtu 1380 quotes 2001:db8::2 > 2001:db8:9::9 proto 17 len 1192"},
		{"IPv6, what every link takes", "10.0.0.", "2001:db8:9::9", 0, 1480, 1000, 1300, "2001:db8::1 > 2001:db8::2 too-big mtu 1280 quotes 2001:db8::2 > 2001:db8:9::9 proto 17 len 1192"},
		{"IPv6, cut outside", "10.0.0.", "2001:db8:9::9", 0, 1480, 1000, 1280, "10.0.0.1 > 10.0.0.2 frag 0+ proto 41 len 976; 10.0.0.1 > 10.0.0.2 frag 976 proto 41 len 304"},
		{"IPv6 in IPv6, cut outside", "2001:db8::", "2001:db8:9::9", 0, 1280, 1300, 1280, "2001:db8::1 > 2001:db8::2 frag 0+ proto 41 len 1248; 2001:db8::1 > 2001:db8::2 frag 1248 proto 41 len 32"},
		{"IPv4, DF", "10.0.0.", "10.9.0.9", packet.IPv4DF, 1480, 1000, 1300, "10.0.0.1 > 10.0.0.2 unreach 4 mtu 980"},
		{"IPv4, DF, in IPv6", "2001:db8::", "10.9.0.9", packet.IPv4DF, 1480, 1400, 1400, "10.0.0.1 > 10.0.0.2 unreach 4 mtu 1360"},
		{"IPv4, cut outside", "10.0.0.", "10.9.0.9", 0, 1480, 1000, 1300, "10.0.0.1 > 10.0.0.2 frag 0+ proto 4 len 976; 10.0.0.1 > 10.0.0.2 frag 976 proto 4 len 324"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t)
			g, _ := p.joined(tc.outer)
			p.a.Sysctl("net.inet.ip.forwarding", "1")
			p.a.Sysctl("net.inet6.ip6.forwarding", "1")
			if err := p.a.SetMTU(g, tc.mtu, 1<<16); err != nil {
				t.Fatal(err)
			}
			p.pass(5 * time.Second)
			if tc.path < 1500 {
				p.a.Cache.SetMTU(netip.MustParseAddr(tc.outer+"2"), tc.path, p.a.Now(), p.a.Now()+int64(time.Minute))
				p.a.Inet.Invalidate()
				p.a.Inet6.Invalidate()
			}
			var pkt []byte
			if strings.Contains(tc.inner, ":") {
				pkt = ip6(0, "2001:db8::2", tc.inner, packet.ProtoUDP, make([]byte, tc.size-packet.IPv6Len))
			} else {
				pkt = ip4(rig.IP{Src: "10.0.0.2", Dst: tc.inner, Proto: packet.ProtoUDP, Frag: tc.df, Data: make([]byte, tc.size-packet.IPv4Len)})
			}
			p.a.Sent()
			p.a.Send(frame(1, 2, pkt))
			var words []string
			for _, f := range p.a.Sent() {
				words = append(words, rig.Describe(f))
			}
			if s := strings.Join(words, "; "); !strings.HasPrefix(s, tc.want) {
				t.Errorf("sent %q, want %q", s, tc.want)
			}
			p.a.Pass(2 * time.Minute)
		})
	}
}

// Whoever is on the way to the far end tells of its path MTU, and the next packet
// that is too large is answered: a sender of ours learns it as from anybody.
func TestPathMTUIsLearntFromOutside(t *testing.T) {
	p := newPair(t)
	g, _ := p.joined("10.0.0.")
	if err := p.a.SetMTU(g, 1480, 1<<16); err != nil {
		t.Fatal(err)
	}
	so := udp(p.a, 5)
	_ = send(p.a, so, "2001:db8:9::2", 9, 1400)
	out := p.a.Sent()
	if len(out) != 1 || !packet.IPv4(out[0][packet.EtherLen:]).DF() {
		t.Fatalf("%d frames, want one with DF", len(out))
	}
	big := rig.ICMP(packet.ICMPUnreach, packet.ICMPUnreachNeedFrag, 1400, out[0][packet.EtherLen:][:packet.IPv4Len+8])
	p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.99", Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: big})))
	if m, ok := p.a.Cache.MTU(netip.MustParseAddr("10.0.0.2"), p.a.Now()); !ok || m != 1400 {
		t.Fatalf("path MTU %d, %v, want 1400", m, ok)
	}
	_ = send(p.a, so, "2001:db8:9::2", 9, 1400) // too large now: lost, and told
	if n := count(p.a, "larger than the path"); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
	if m, ok := p.a.Cache.MTU(netip.MustParseAddr("2001:db8:9::2"), p.a.Now()); !ok || m != 1380 {
		t.Errorf("inside, path MTU %d, %v, want 1380", m, ok)
	}
	to := udp(p.b, 9)
	_ = send(p.a, so, "2001:db8:9::2", 9, 1400) // in two fragments
	p.carry()
	if s := got(p.b, to); s != "2001:db8:9::1 len 1400" {
		t.Errorf("arrived: %s", s)
	}
	p.pass(time.Second)
}

// Errors from inside the tunnel go to the sender of the inner packet, if they
// quote its header.
func TestErrorsFromInsideTheTunnel(t *testing.T) {
	for _, tc := range []struct {
		name  string
		quote int // octets behind the outer header
		inner []byte
		want  []string
	}{
		{"IPv6, quoted whole", 60, ip6(0, "2001:db8::2", "2001:db8:9::9", packet.ProtoUDP, udp6("2001:db8::2", "2001:db8:9::9", 50)),
			[]string{"2001:db8::1 > 2001:db8::2 unreach 3 quotes 2001:db8::2 > 2001:db8:9::9 proto 17 len 20"}},
		{"IPv4, quoted whole", 60, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.9.0.9", Proto: packet.ProtoUDP, Data: make([]byte, 60)}),
			[]string{"10.9.0.1 > 10.0.0.2 unreach 1 quotes 10.0.0.2 > 10.9.0.9 proto 17 len 8"}},
		{"eight octets, as routers of old", 8, ip6(0, "2001:db8::2", "2001:db8:9::9", packet.ProtoUDP, udp6("2001:db8::2", "2001:db8:9::9", 50)), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t)
			p.joined("10.0.0.")
			p.a.Sysctl("net.inet.ip.forwarding", "1")
			p.a.Sysctl("net.inet6.ip6.forwarding", "1")
			p.pass(5 * time.Second)
			p.a.Send(frame(1, 2, tc.inner))
			out := p.a.Sent()
			if len(out) != 1 {
				t.Fatalf("%d frames", len(out))
			}
			m := rig.ICMP(packet.ICMPUnreach, packet.ICMPUnreachHost, 0, out[0][packet.EtherLen:][:packet.IPv4Len+tc.quote])
			p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.99", Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: m})))
			p.a.Expect(tc.want...)
			told := uint64(len(tc.want))
			if a, b := count(p.a, "errors passed on"), count(p.a, "errors not passed on"); a != told || b != 1-told {
				t.Errorf("passed on %d, not %d", a, b)
			}
		})
	}
}

// No way to the far end is an error of the inner packet's.
func TestNoWayToTheFarEnd(t *testing.T) {
	p := newPair(t)
	p.joined("10.0.0.")
	p.a.Sysctl("net.inet6.ip6.forwarding", "1")
	g2 := gif(p.a, "gif1", "10.0.0.1", "99.0.0.1", "2001:db8:7::1/64")
	p.pass(5 * time.Second)
	p.a.Sent()
	in := ip6(0, "2001:db8::2", "2001:db8:7::9", packet.ProtoUDP, udp6("2001:db8::2", "2001:db8:7::9", 5))
	p.a.Send(frame(1, 2, in))
	p.a.Expect("2001:db8::1 > 2001:db8::2 unreach 3 quotes 2001:db8::2 > 2001:db8:7::9 proto 17 len 13")
	if g2.Stats.OutErrors.Load() == 0 || count(p.a, "far end unreachable") == 0 {
		t.Error("nobody has counted it")
	}
	// A source that is not ours sends nothing.
	gif(p.a, "gif2", "10.0.0.77", "10.0.0.2", "10.7.0.1/24")
	_ = send(p.a, udp(p.a, 5), "10.7.0.2", 9, 5)
	if n := count(p.a, "source not ours"); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

// A far end's address that is nobody's does not go to and fro (RFC 4443 §3.1).
func TestPingPong(t *testing.T) {
	p := newPair(t)
	p.joined("10.0.0.")
	p.a.Sysctl("net.inet6.ip6.forwarding", "1")
	p.b.Sysctl("net.inet6.ip6.forwarding", "1")
	p.pass(5 * time.Second)
	so := udp(p.a, 5)
	_ = send(p.a, so, "2001:db8:9::77", 9, 5)
	p.sees("10.0.0.1 > 10.0.0.2 proto 41 len 53", "10.0.0.2 > 10.0.0.1 proto 41 len 101")
	if n := rig.Counter(p.b.Stack, "ip6", "not forwardable"); n != 1 {
		t.Errorf("%d counted at the far end, want 1", n)
	}
}

func TestEndsOfATunnel(t *testing.T) {
	r := station(t, 1)
	g0, g1 := create(r, "gif0"), create(r, "gif1")
	set := func(ifp *netif.Interface, src, dst string) error {
		return r.SetTunnel(ifp, netip.MustParseAddr(src), netip.MustParseAddr(dst))
	}
	for _, tc := range []struct {
		ifp      *netif.Interface
		src, dst string
		want     syscall.Errno
	}{
		{g0, "10.0.0.1", "2001:db8::2", syscall.EINVAL},
		{g0, "10.0.0.1", "0.0.0.0", syscall.EINVAL},
		{g0, "0.0.0.0", "10.0.0.2", syscall.EINVAL},
		{g0, "10.0.0.1", "10.0.0.1", syscall.EINVAL},
		{g0, "10.0.0.1", "224.0.0.9", syscall.EINVAL},
		{g0, "10.0.0.1", "10.0.0.255", syscall.EINVAL},
		{g0, "2001:db8::1", "ff02::1", syscall.EINVAL},
		{g0, "::1", "2001:db8::1", syscall.EINVAL},
		{r.If, "10.0.0.1", "10.0.0.2", syscall.EINVAL},
		{g0, "10.0.0.1", "10.0.0.2", 0},
		{g0, "10.0.0.1", "10.0.0.2", 0},
		{g1, "10.0.0.1", "10.0.0.2", syscall.EADDRNOTAVAIL},
		{g1, "10.0.0.1", "10.0.0.3", 0},
		{g0, "2001:db8::1", "2001:db8::2", 0}, // another one in its place
		{g1, "10.0.0.1", "10.0.0.2", 0},
	} {
		if err := set(tc.ifp, tc.src, tc.dst); (err == nil) != (tc.want == 0) || tc.want != 0 && !isErr(err, tc.want) {
			t.Errorf("%s from %s to %s: %v, want %v", tc.ifp.Name, tc.src, tc.dst, err, tc.want)
		}
	}
	if src, dst := r.Gif.Ends(g0); fmt.Sprint(src, dst) != "2001:db8::1 2001:db8::2" {
		t.Errorf("gif0 leads from %v to %v", src, dst)
	}
	if f := g0.Flags(); f != netif.FlagUp|netif.FlagRunning|netif.FlagPointToPoint|netif.FlagMulticast {
		t.Errorf("flags %#x", f)
	}
	if err := r.DeleteTunnel(g0); err != nil || g0.Flags()&netif.FlagRunning != 0 {
		t.Errorf("deleted: %v, flags %#x", err, g0.Flags())
	}
	if err := r.DeleteTunnel(g0); !isErr(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("deleted twice: %v", err)
	}
	for _, n := range []int{1279, 8193} {
		if err := r.SetMTU(g0, n, 1<<16); !isErr(err, syscall.EINVAL) {
			t.Errorf("mtu %d: %v", n, err)
		}
	}
	if _, err := r.AddTunnel("gif0"); !isErr(err, syscall.EEXIST) {
		t.Errorf("gif0 twice: %v", err)
	}
	if _, err := r.AddTunnel("ppp0"); !isErr(err, syscall.EINVAL) {
		t.Errorf("ppp0: %v", err)
	}
	if err := r.RemoveInterface(g1); err != nil {
		t.Fatal(err)
	}
	if err := set(g1, "10.0.0.1", "10.0.0.9"); !isErr(err, syscall.ENXIO) {
		t.Errorf("a gif that is gone: %v", err)
	}
	if err := set(g0, "10.0.0.1", "10.0.0.2"); err != nil {
		t.Errorf("its ends are free: %v", err)
	}
}

func isErr(err error, want syscall.Errno) bool {
	return err != nil && strings.HasSuffix(err.Error(), want.Error())
}

// A tunnel is a link as others are: it has link-local addresses, which are asked for
// without link addresses, groups that routers are told of, and routers.
func TestNeighbourDiscoveryOverATunnel(t *testing.T) {
	p := newPair(t)
	for _, r := range []*rig.Rig{p.a, p.b} {
		r.Sysctl("net.inet6.ip6.auto_linklocal", "1")
		r.Sysctl("net.inet6.ip6.accept_rtadv", "1")
	}
	g := gif(p.a, "gif0", "10.0.0.1", "10.0.0.2")
	inside := map[string]bool{}
	for range 50 {
		p.a.Pass(100 * time.Millisecond)
		for _, f := range p.a.Sent() {
			if h := packet.IPv4(f[packet.EtherLen:]); f[packet.EtherLen]>>4 == 4 && h.Proto() == packet.ProtoIPv6 {
				inside[rig.DescribeIP6(h.Payload())] = true
			}
		}
	}
	ll := p.a.Inet6.LinkLocal(g)
	if !ll.IsValid() {
		t.Fatal("no link-local address")
	}
	plain, _ := packet.Unscoped(ll)
	for _, want := range []string{
		fmt.Sprintf(":: > %v ns %v nonce", packet.SolicitedNode(plain), plain),
		fmt.Sprintf("%v > ff02::2 rs", plain),
		fmt.Sprintf("%v > ff02::16 hop-by-hop mldv2 report", plain),
	} {
		if !inside[want] {
			t.Errorf("never sent %q; but %v", want, inside)
		}
	}
	// The far end asks whether we are there: it is told, without a link address.
	gif(p.b, "gif0", "10.0.0.2", "10.0.0.1")
	p.pass(5 * time.Second)
	b := make([]byte, packet.NeighborSolLen+8)
	packet.PutNeighbor(b, packet.ICMP6NeighborSol, 0, plain)
	packet.AppendNDLink(b[packet.NeighborSolLen:], packet.NDOptSourceLink, rig.Peer) // to be ignored
	src := netip.MustParseAddr("fe80::77")
	packet.ICMP6(b).SetChecksum(src, plain)
	in := ip6(0, "fe80::77", plain.String(), packet.ProtoICMPv6, b)
	in[7] = 255
	p.a.Sent()
	p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoIPv6, Data: in})))
	out := p.a.Sent()
	if len(out) != 1 {
		t.Fatalf("%d frames", len(out))
	}
	if s, want := rig.DescribeIP6(packet.IPv4(out[0][packet.EtherLen:]).Payload()), fmt.Sprintf("%v > fe80::77 na %v [SO]", plain, plain); s != want {
		t.Errorf("answered %q, want %q", s, want)
	}
}

// An address that the far end has is no address of ours.
func TestDuplicateAtTheFarEnd(t *testing.T) {
	p := newPair(t)
	ga, gb := p.joined("10.0.0.")
	p.a.Addr(ga, "2001:db8:9::7/64")
	p.pass(3 * time.Second)
	p.b.Addr(gb, "2001:db8:9::7/64")
	p.pass(3 * time.Second)
	ip := netip.MustParseAddr("2001:db8:9::7")
	if a := p.b.Inet6.Addr(gb, ip); a == nil || !a.Duplicated {
		t.Errorf("the second owner has %+v", a)
	}
	if p.a.Inet6.Local(ip) == nil {
		t.Error("the first owner has lost it")
	}
}

// A super-packet is cut before it goes into a tunnel.
func TestStreamThroughATunnel(t *testing.T) {
	for _, outer := range []string{"10.0.0.", "2001:db8::"} {
		p := newPair(t)
		p.joined(outer)
		stream := func(r *rig.Rig) *socket.Socket {
			var so *socket.Socket
			if err := r.Do(func(w *netif.Work) (err error) {
				so, err = r.Stack.Socket(w, socket.AFInet6, socket.Stream, 0, socket.Cred{Super: true})
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return so
		}
		l, c := stream(p.b), stream(p.a)
		if err := p.b.Do(func(w *netif.Work) error {
			if err := l.Bind(w, socket.Addr{Port: 80}); err != nil {
				return err
			}
			return l.Listen(w, 1)
		}); err != nil {
			t.Fatal(err)
		}
		_ = p.a.Do(func(w *netif.Work) error {
			return c.Connect(w, socket.Addr{IP: netip.MustParseAddr("2001:db8:9::2"), Port: 80})
		})
		p.pass(time.Second)
		var s *socket.Socket
		if err := p.b.Do(func(w *netif.Work) (err error) { s, err = l.Accept(w); return err }); err != nil {
			t.Fatal(err)
		}
		sent, rcvd := 0, 0
		buf := make([]byte, 32768)
		for i := range buf {
			buf[i] = byte(i % 251)
		}
		const total = 1 << 20
		for n := 0; rcvd < total && n < 10000; n++ {
			for sent < total {
				at := sent % len(buf)
				k := 0
				if err := p.a.Do(func(w *netif.Work) (err error) {
					k, err = c.Send(w, &socket.Msg{Data: buf[at:]})
					return err
				}); err != nil {
					break
				}
				sent += k
			}
			p.pass(100 * time.Millisecond)
			for {
				m := socket.Msg{Data: make([]byte, 65536)}
				if err := p.b.Do(func(w *netif.Work) error { return s.Recv(w, &m) }); err != nil {
					break
				}
				for i, x := range m.Data {
					if x != byte((rcvd+i)%len(buf)%251) {
						t.Fatalf("octet %d is %d", rcvd+i, x)
					}
				}
				rcvd += len(m.Data)
			}
		}
		if rcvd != total {
			t.Errorf("over %s: %d of %d octets", outer, rcvd, total)
		}
		for _, x := range []struct {
			r *rig.Rig
			s *socket.Socket
		}{{p.a, c}, {p.b, s}, {p.b, l}} {
			_ = x.r.Do(func(w *netif.Work) error { x.s.Close(w); return nil })
		}
		p.pass(2 * time.Second)
	}
}
