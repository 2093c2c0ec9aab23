package gif_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// A tunnel that is down brings nothing.
func TestATunnelThatIsDown(t *testing.T) {
	p := newPair(t)
	g, _ := p.joined("10.0.0.")
	so := udp(p.a, 9)
	if err := p.a.SetFlags(g, 0, netif.FlagUp); err != nil {
		t.Fatal(err)
	}
	in := ip6(0, "2001:db8:9::2", "2001:db8:9::1", packet.ProtoUDP, udp6("2001:db8:9::2", "2001:db8:9::1", 5))
	before := count(p.a, "interface down")
	p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoIPv6, Data: in})))
	if s := got(p.a, so); s != nothing || count(p.a, "interface down") != before+1 {
		t.Errorf("it brought %s; %d counted", s, count(p.a, "interface down")-before)
	}
	if err := p.a.SetFlags(g, netif.FlagUp, 0); err != nil {
		t.Fatal(err)
	}
	p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoIPv6, Data: in})))
	if s := got(p.a, so); s != "2001:db8:9::2 len 5" {
		t.Errorf("up again, it brought %s", s)
	}
	p.pass(3 * time.Second)
}

// What has come out of a tunnel may go into another, on one host too: it is in
// none by then.
func TestOutOfOneTunnelIntoAnother(t *testing.T) {
	p := newPair(t)
	p.a.Sysctl("net.inet.ip.forwarding", "1")
	p.a.Addr(p.a.If, "10.0.7.1/24")
	g := gif(p.a, "gif0", "10.0.0.1", "10.0.7.1", "10.7.0.9/24")
	gif(p.a, "gif1", "10.0.7.1", "10.0.0.1")
	gif(p.a, "gif2", "10.0.0.1", "10.0.0.2", "10.8.0.1/24")
	gif(p.b, "gif2", "10.0.0.2", "10.0.0.1", "10.8.0.2/24")
	p.pass(3 * time.Second)
	// By gif0, as the socket wants, and lo0 the packet comes out of gif1; by the
	// routes it then goes on.
	add(p.a, "10.7.0.1/32", "10.8.0.2")
	so := p.a.UDP("")
	if err := so.Set(socket.LevelSocket, socket.SOBindToIf, []byte(g.Name)); err != nil {
		t.Fatal(err)
	}
	_ = so.SendTo("10.7.0.1:9", "hello")
	p.a.Expect("10.0.0.1 > 10.0.0.2 proto 4 len 33")
	if n := count(p.a, "nested too deep"); n != 0 {
		t.Errorf("%d counted as nested", n)
	}
}

// Without path MTU discovery nobody is told, and the outer packet is cut (RFC
// 4213 §3.2.1).
func TestWithoutPathMTUs(t *testing.T) {
	p := newPair(t)
	g, _ := p.joined("10.0.0.")
	p.a.Sysctl("net.inet.ip.mtudisc", "0")
	if err := p.a.SetMTU(g, 1500, 1<<16); err != nil {
		t.Fatal(err)
	}
	_ = send(p.a, udp(p.a, 5), "2001:db8:9::2", 9, 1450)
	p.a.Expect("10.0.0.1 > 10.0.0.2 frag 0+ proto 41 len 1480", "10.0.0.1 > 10.0.0.2 frag 1480 proto 41 len 18")
}

// A sender of ours with an address of the link is told too.
func TestTooBigForALinkLocalSender(t *testing.T) {
	p := newPair(t)
	g, _ := p.joined("10.0.0.")
	p.a.Addr(g, "fe80::1/64")
	p.pass(3 * time.Second)
	if err := p.a.SetMTU(g, 1480, 1<<16); err != nil {
		t.Fatal(err)
	}
	p.a.Cache.SetMTU(netip.MustParseAddr("10.0.0.2"), 1400, p.a.Now(), p.a.Now()+int64(time.Minute))
	p.a.Inet.Invalidate()
	before := rig.Counter(p.a.Stack, "icmp6", "too big received")
	so := udp(p.a, 5)
	dst := packet.Scoped(netip.MustParseAddr("fe80::2"), g.Index)
	_ = p.a.Do(func(w *netif.Work) error { return sendScoped(w, so, "fe80::2", g.Index, 1400) })
	if n := rig.Counter(p.a.Stack, "icmp6", "too big received") - before; n != 1 {
		t.Errorf("%d told, want 1", n)
	}
	if m, ok := p.a.Cache.MTU(dst, p.a.Now()); !ok || m != 1380 {
		t.Errorf("path MTU %d, %v, want 1380", m, ok)
	}
	p.pass(2 * time.Minute)
}

// seen is a capture.
type seen []string

func (s *seen) Tap(_ int64, _ *netif.Interface, b []byte, out bool) {
	*s = append(*s, fmt.Sprint(out, " ", rig.DescribeIP(b)))
}
func (s *seen) Dropped(int64, *netif.Interface, []byte, mib.Counter) {}

// Captures on a tunnel see inner packets.
func TestCapturesSeeWhatIsInside(t *testing.T) {
	p := newPair(t)
	g, _ := p.joined("10.0.0.")
	var s seen
	g.AddTap(&s)
	defer g.RemoveTap(&s)
	_ = send(p.a, udp(p.a, 5), "10.9.0.2", 9, 5)
	p.carry()
	if want := []string{"true 10.9.0.1 > 10.9.0.2 udp 5 > 9 len 5", "false 10.9.0.2 > 10.9.0.1 unreach 3 quotes 10.9.0.1 > 10.9.0.2 proto 17 len 8"}; !slices.Equal(s, want) {
		t.Errorf("seen %q, want %q", s, want)
	}
}

// states is a driver that notes the checksum states of what it is handed.
type states struct{ of []packet.CsumState }

func (d *states) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	for _, b := range burst {
		d.of = append(d.of, b.Csum)
	}
	packet.FreeBurst(burst)
}

// A checksum inside is complete, whatever the link could do.
func TestChecksumInsideIsComplete(t *testing.T) {
	r := rig.Bare(t, rig.Dual)
	d := &states{}
	r.If = netif.New(netif.Config{Name: "sink0", MTU: 1500, MAC: rig.Me, Driver: d, Caps: netif.CapCsum,
		Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning})
	if err := r.AddInterface(r.If); err != nil {
		t.Fatal(err)
	}
	r.Addr(r.If, "10.0.0.1/24")
	if err := r.AddNeighbour(r.If, said("10.0.0.2"), rig.Peer, 0, 0); err != nil {
		t.Fatal(err)
	}
	gif(r, "gif0", "10.0.0.1", "10.0.0.2", "10.9.0.1/24")
	r.Pass(10 * time.Second)
	so := udp(r, 5)
	for _, to := range []struct {
		ip   string
		want packet.CsumState
	}{{"10.0.0.2", packet.CsumPartial}, {"10.9.0.2", packet.CsumVerified}} {
		d.of = nil
		_ = send(r, so, to.ip, 9, 5)
		if !slices.Equal(d.of, []packet.CsumState{to.want}) {
			t.Errorf("to %s: %v, want %v", to.ip, d.of, to.want)
		}
	}
}

// A router at the far end is one as any: its advertisement makes an address and
// a default route (RFC 4213 §3.8).
func TestRouterAtTheFarEnd(t *testing.T) {
	p := newPair(t)
	p.a.Sysctl("net.inet6.ip6.auto_linklocal", "1")
	p.a.Sysctl("net.inet6.ip6.accept_rtadv", "1")
	g := gif(p.a, "gif0", "10.0.0.1", "10.0.0.2")
	p.a.Pass(5 * time.Second)
	ra := make([]byte, packet.RouterAdvLen, 64)
	ra[0], ra[4], ra[7] = packet.ICMP6RouterAdv, 64, 200
	prefix := netip.MustParseAddr("2001:db8:6::").As16()
	ra = append(ra, 3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0) // on link, autonomous
	ra = append(ra, prefix[:]...)
	src, dst := netip.MustParseAddr("fe80::77"), netip.MustParseAddr("ff02::1")
	packet.ICMP6(ra).SetChecksum(src, dst)
	in := ip6(0, "fe80::77", "ff02::1", packet.ProtoICMPv6, ra)
	in[7] = 255
	p.a.Send(frame(1, 2, ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoIPv6, Data: in})))
	p.a.Pass(5 * time.Second)
	made := slices.ContainsFunc(g.Addrs(), func(a *netif.Addr) bool {
		return a.Addr.Is6() && netip.MustParsePrefix("2001:db8:6::/64").Contains(a.Addr) && !a.Tentative
	})
	hop, _ := p.a.Routes.Lookup(netip.MustParseAddr("2001:db8:99::1"))
	if !made || hop == nil || hop.If != g {
		t.Fatalf("address made: %v; default route %+v", made, hop)
	}
	p.a.Sent()
	_ = send(p.a, udp(p.a, 5), "2001:db8:99::1", 9, 5)
	p.a.Expect("10.0.0.1 > 10.0.0.2 proto 41 len 53")
}
