package inet_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

const again = "resource temporarily unavailable"

// inner is an IPv4 packet to be quoted by an error.
func inner(src, dst string, proto uint8, data []byte) []byte {
	return IP{Src: src, Dst: dst, Proto: proto, Data: data}.Frame()[packet.EtherLen:]
}

// icmpErr is an ICMP error from 10.0.0.2 in a frame.
func icmpErr(typ, code uint8, rest uint32, quote []byte) []byte {
	return IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: ICMP(typ, code, rest, quote)}.Frame()
}

func gateway(r *Rig, dst, gw string) {
	r.Helper()
	p := netip.MustParsePrefix(dst)
	err := r.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: p,
		Gateway: netip.MustParseAddr(gw), Flags: route.FlagUp | route.FlagGateway | route.FlagStatic}}})[0]
	if err != nil {
		r.Fatal(err)
	}
}

func TestEchoAndItsKin(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	r.Send(Echo("10.0.0.2", "10.0.0.1", "hello"))
	r.Expect("10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 5")
	r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: ICMP(13, 0, 0, make([]byte, 12))}.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 icmp type 14 code 0 len 12")
	mask := IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: ICMP(17, 0, 0, make([]byte, 4))}.Frame()
	r.Send(mask)
	r.Expect()
	r.Sysctl("net.inet.icmp.maskrepl", "1")
	r.Send(mask)
	sent := r.Sent()
	if len(sent) != 1 || string(sent[0][42:46]) != "\xff\xff\xff\x00" {
		t.Errorf("mask reply: % x", sent)
	}
}

func TestICMPThatIsNotAnswered(t *testing.T) {
	bad := Echo("10.0.0.2", "10.0.0.1", "hello")
	bad[len(bad)-1] ^= 1
	for _, c := range []struct {
		counter string
		frame   []byte
	}{
		{"bad ICMP checksum", bad},
		{"ICMP too short", IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: make([]byte, 7)}.Frame()},
		{"bad ICMP length", IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: ICMP(13, 0, 0, nil)}.Frame()},
		{"not answered", Echo("10.0.0.2", "10.0.0.255", "")},
		{"not answered", Echo("10.0.0.2", "224.0.0.1", "")},
		{"not answered", Echo("10.0.0.255", "10.0.0.1", "")},
		{"not answered", Echo("0.0.0.0", "10.0.0.1", "")},
		{"source quench", icmpErr(4, 0, 0, inner("10.0.0.1", "10.0.0.2", 17, make([]byte, 8)))},
		{"bad ICMP length", icmpErr(3, 3, 0, make([]byte, 20))},
		{"bad ICMP code", icmpErr(3, 3, 0, inner("10.0.0.9", "10.0.0.2", 17, make([]byte, 8)))}, // not from us
		{"bad ICMP code", icmpErr(3, 99, 0, inner("10.0.0.1", "10.0.0.2", 17, make([]byte, 8)))},
	} {
		r := New(t)
		r.Meet("10.0.0.2")
		r.Counts("icmp", c.counter, func() { r.Send(c.frame) })
		r.Expect()
	}
	r := New(t)
	r.Meet("10.0.0.2")
	r.Sysctl("net.inet.icmp.bmcastecho", "1")
	r.Send(Echo("10.0.0.2", "10.0.0.255", ""), Echo("10.0.0.2", "224.0.0.1", ""))
	r.Expect("10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 0", "10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 0")
}

// RFC 1122 §3.2.2: about what no error is sent.
func TestNoErrorAbout(t *testing.T) {
	udp := func(src, dst string) IP {
		return IP{Src: src, Dst: dst, Proto: 17, Data: Datagram(src, dst, 5, 9, "x")}
	}
	frag := IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 99, Frag: 2, Data: make([]byte, 8)}
	linkBcast := udp("10.0.0.2", "10.0.0.1").FrameTo(netif.BroadcastMAC, Peer)
	for name, f := range map[string][]byte{
		"broadcast":               udp("10.0.0.2", "10.0.0.255").Frame(),
		"limited broadcast":       udp("10.0.0.2", "255.255.255.255").Frame(),
		"a group":                 udp("10.0.0.2", "224.0.0.1").Frame(),
		"a link broadcast":        linkBcast,
		"a later fragment":        frag.Frame(),
		"from nobody":             udp("0.0.0.0", "10.0.0.1").Frame(),
		"from a broadcast":        udp("10.0.0.255", "10.0.0.1").Frame(),
		"from class E":            udp("240.0.0.1", "10.0.0.1").Frame(),
		"an ICMP error, to far":   IP{Src: "10.0.0.2", Dst: "10.7.7.7", TTL: 1, Proto: 1, Data: ICMP(3, 1, 0, nil)}.Frame(),
		"an ICMP error, no route": IP{Src: "10.0.0.2", Dst: "99.7.7.7", Proto: 1, Data: ICMP(11, 0, 0, nil)}.Frame(),
	} {
		t.Run(name, func(t *testing.T) {
			r := New(t)
			r.Meet("10.0.0.2")
			r.Sysctl("net.inet.ip.forwarding", "1")
			r.Send(f)
			r.Pass(time.Minute)
			for _, f := range r.Sent() {
				if d := Describe(f); !strings.HasPrefix(d, "arp") {
					t.Error(d)
				}
			}
		})
	}
}

func TestErrorsAndTheirQuote(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	d := UDP("10.0.0.2", "10.0.0.1", 5, 9, strings.Repeat("x", 100))
	r.Send(d)
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 3 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8")
	r.Sysctl("net.inet.icmp.returndatabytes", "64")
	r.Send(d)
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 3 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 64")
	r.Sysctl("net.inet.icmp.returndatabytes", "512") // no more than there is
	r.Send(d)
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 3 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 108")
	r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 99, Data: make([]byte, 8)}.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 2 quotes 10.0.0.2 > 10.0.0.1 proto 99 len 8")
}

func TestErrorsAreLimited(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	r.Sysctl("net.inet.icmp.errppslimit", "3")
	r.Pass(2 * time.Second)
	d := UDP("10.0.0.2", "10.0.0.1", 5, 9, "")
	r.Send(d, d, d, d, d)
	if n := len(r.Sent()); n != 3 {
		t.Errorf("%d errors, want 3", n)
	}
	r.Pass(time.Second)
	r.Send(d)
	if n := len(r.Sent()); n != 1 {
		t.Errorf("%d errors a second later, want 1", n)
	}
	r.Sysctl("net.inet.icmp.errppslimit", "-1")
	r.Send(d, d, d, d, d)
	if n := len(r.Sent()); n != 5 {
		t.Errorf("%d errors without a limit, want 5", n)
	}
}

// router is a rig with two networks that forwards.
func router(t *testing.T) (*Rig, *netif.Interface) {
	r := New(t)
	en1 := r.AddIf("en1", Me1, "10.0.1.1/24")
	r.Sysctl("net.inet.ip.forwarding", "1")
	r.Pass(10 * time.Second)
	r.Meet("10.0.0.2")
	r.SendOn(en1, ARP(packet.ARPRequest, Peer1, "10.0.1.2", "10.0.1.1"))
	r.Sent()
	return r, en1
}

func TestForwarding(t *testing.T) {
	r, en1 := router(t)
	p := IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: 17, Data: Datagram("10.0.0.2", "10.0.1.2", 5, 9, "far")}
	r.Send(p.Frame())
	sent := r.Sent()
	if len(sent) != 1 {
		t.Fatalf("%d frames", len(sent))
	}
	if h := packet.IPv4(sent[0][14:]); h.TTL() != 63 || !h.ChecksumOK() || netif.MAC(sent[0][:6]) != Peer1 {
		t.Errorf("TTL %d, sum %v, to %v", h.TTL(), h.ChecksumOK(), netif.MAC(sent[0][:6]))
	}
	p.TTL = 1
	r.Send(p.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 time-exceeded 0 quotes 10.0.0.2 > 10.0.1.2 proto 17 len 8")
	p.TTL = 0
	p.Dst = "99.9.9.9"
	r.Send(p.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 0 quotes 10.0.0.2 > 99.9.9.9 proto 17 len 8")
	p.Dst = "10.0.1.77"
	r.Send(p.Frame())
	r.Pass(10 * time.Second)
	who := "arp who-has 10.0.1.77 tell 10.0.1.1"
	r.Expect(who, who, who, who, who, "10.0.0.1 > 10.0.0.2 unreach 1 quotes 10.0.0.2 > 10.0.1.77 proto 17 len 8")
	p.Dst = "10.0.1.255" // a directed broadcast
	bcast := p.FrameTo(Me, Peer)
	copy(bcast, Me[:])
	r.Send(bcast)
	r.Expect()
	r.Sysctl("net.inet.ip.directed-broadcast", "1")
	r.Send(bcast)
	r.Expect("10.0.0.2 > 10.0.1.255 udp 5 > 9 len 3")
	if err := r.SetMTU(en1, 100, 1500); err != nil {
		t.Fatal(err)
	}
	p.Dst, p.Data = "10.0.1.2", make([]byte, 100)
	r.Send(p.Frame())
	r.Expect("10.0.0.2 > 10.0.1.2 frag 0+ udp 0 > 0 len -8", "10.0.0.2 > 10.0.1.2 frag 80 proto 17 len 20")
	p.Frag = packet.IPv4DF
	r.Send(p.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 4 mtu 100 quotes 10.0.0.2 > 10.0.1.2 proto 17 len 8")
	p.Frag = 0x1ffe // its end would be beyond 65,535: no piece may wrap around
	r.Send(p.Frame())
	r.Expect()
}

func TestRedirectIsSent(t *testing.T) {
	r, _ := router(t)
	gateway(r, "99.0.0.0/8", "10.0.0.3")
	p := IP{Src: "10.0.0.2", Dst: "99.0.0.1", Proto: 17, Data: make([]byte, 8)}
	r.Send(p.Frame())
	r.Expect("arp who-has 10.0.0.3 tell 10.0.0.1",
		"10.0.0.1 > 10.0.0.2 redirect 1 to 10.0.0.3 quotes 10.0.0.2 > 99.0.0.1 proto 17 len 8")
	r.Sysctl("net.inet.ip.redirect", "0")
	r.Send(p.Frame())
	r.Expect()
}

func TestRedirectIsBelieved(t *testing.T) {
	quote := inner("10.0.0.1", "99.0.0.1", 17, make([]byte, 8))
	gw := func(d byte) uint32 { return 10<<24 | uint32(d) }
	for name, c := range map[string]struct {
		frame  []byte
		sysctl string
		ok     bool
	}{
		"from the gateway":        {icmpErr(5, 1, gw(3), quote), "", true},
		"not from it":             {IP{Src: "10.0.0.7", Dst: "10.0.0.1", Proto: 1, Data: ICMP(5, 1, gw(3), quote)}.Frame(), "", false},
		"to a stranger":           {icmpErr(5, 1, 77<<24|1, quote), "", false},
		"to ourselves":            {icmpErr(5, 1, gw(1), quote), "", false},
		"to itself":               {icmpErr(5, 1, gw(2), quote), "", false},
		"about a packet not ours": {icmpErr(5, 1, gw(3), inner("10.0.0.8", "99.0.0.1", 17, make([]byte, 8))), "", false},
		"not wanted":              {icmpErr(5, 1, gw(3), quote), "net.inet.icmp.rediraccept=0", false},
		"a router":                {icmpErr(5, 1, gw(3), quote), "net.inet.ip.forwarding=1", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(t)
			r.Meet("10.0.0.2")
			gateway(r, "0.0.0.0/0", "10.0.0.2")
			if n, v, found := strings.Cut(c.sysctl, "="); found {
				r.Sysctl(n, v)
			}
			r.Send(c.frame)
			got, err := r.Routes.Get(netip.MustParseAddr("99.0.0.1"))
			if err != nil {
				t.Fatal(err)
			}
			if ok := got.Gateway == netip.MustParseAddr("10.0.0.3") && got.Flags&route.FlagDynamic != 0; ok != c.ok {
				t.Errorf("the route is now %+v", got)
			}
		})
	}
}

func TestPathMTU(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	gateway(r, "0.0.0.0/0", "10.0.0.2")
	s := r.UDP("10.0.0.1:5")
	if err := s.Connect("99.0.0.1:7"); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		_ = s.Get()
		if err := s.SendTo("", strings.Repeat("x", 1400)); err != nil {
			t.Fatal(err)
		}
		return len(r.Sent())
	}
	quote := func(n int) []byte {
		q := inner("10.0.0.1", "99.0.0.1", 17, Datagram("10.0.0.1", "99.0.0.1", 5, 7, ""))
		packet.IPv4(q).SetTotalLen(n)
		return q
	}
	r.Sysctl("net.inet.ip.mtudisc", "0")
	r.Send(icmpErr(3, 4, 1000, quote(1428)))
	if n := count(); n != 1 {
		t.Errorf("mtudisc=0: %d pieces", n)
	}
	r.Sysctl("net.inet.ip.mtudisc", "1")
	r.Send(icmpErr(3, 4, 1000, quote(1428)))
	if got := s.Get(); got != "message too long" {
		t.Errorf("the socket says %q", got)
	}
	if n := count(); n != 2 {
		t.Errorf("%d pieces, want 2", n)
	}
	r.Send(icmpErr(3, 4, 1200, quote(1428))) // a larger one is not believed
	if n := count(); n != 2 {
		t.Errorf("%d pieces, want 2", n)
	}
	r.Send(icmpErr(3, 4, 68, quote(1428))) // nor one that is absurd
	if n := count(); n != 3 {
		t.Errorf("%d pieces, want 3 of at most 552", n)
	}
	r.Pass(599 * time.Second)
	if n := count(); n != 3 {
		t.Errorf("%d pieces, want 3 still", n)
	}
	r.Pass(2 * time.Second)
	if n := count(); n != 1 {
		t.Errorf("%d pieces after mtudisctimeout, want 1 again", n)
	}
	r.Send(icmpErr(3, 4, 0, quote(1428))) // an old router names none: the next plateau, 1006
	if n := count(); n != 2 {
		t.Errorf("%d pieces, want 2", n)
	}
}

func TestErrorsReachConnectedSockets(t *testing.T) {
	for _, c := range []struct {
		typ, code uint8
		want      string
	}{
		{3, 0, "network is unreachable"}, {3, 1, "no route to host"}, {3, 2, "connection refused"},
		{3, 3, "connection refused"}, {11, 0, "no route to host"}, {12, 0, "protocol not available"},
	} {
		r := New(t)
		con, uncon := r.UDP("10.0.0.1:5"), r.UDP("10.0.0.1:6")
		bound := r.UDP("10.0.0.1:8")
		if err := bound.Set(socket.LevelSocket, socket.SOBindToIf, []byte("en0")); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Socket{con, bound} {
			if err := s.Connect("10.0.0.2:7"); err != nil {
				t.Fatal(err)
			}
		}
		for _, port := range []uint16{5, 6, 8} {
			r.Send(icmpErr(c.typ, c.code, 0, inner("10.0.0.1", "10.0.0.2", 17, Datagram("10.0.0.1", "10.0.0.2", port, 7, ""))))
		}
		for i, s := range []*Socket{con, bound, uncon} {
			want := c.want
			if s == uncon {
				want = again
			}
			if got := s.Get(); got != want {
				t.Errorf("%d/%d, socket %d: %q, want %q", c.typ, c.code, i, got, want)
			}
		}
	}
}

func join(s *Socket, name int, group string, more ...byte) error {
	g := netip.MustParseAddr(group).As4()
	return s.Set(0, name, append(append(g[:], more...), 10, 0, 0, 1))
}

func TestIGMPv3(t *testing.T) {
	r := New(t)
	s, u := r.UDP(":9"), r.UDP(":8")
	if err := join(s, 12, "239.1.1.1"); err != nil {
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	ex := "10.0.0.1 > 224.0.0.22 igmp v3 to-ex(239.1.1.1)"
	r.Expect(ex, ex)
	if err := join(u, 12, "239.1.1.1"); err != nil { // a second member changes nothing
		t.Fatal(err)
	}
	u.Close()
	r.Pass(10 * time.Second)
	r.Expect()
	if err := join(s, 72, "239.1.1.1", 10, 0, 0, 7); err != nil { // IP_BLOCK_SOURCE
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	block := "10.0.0.1 > 224.0.0.22 igmp v3 block(239.1.1.1 10.0.0.7)"
	r.Expect(block, block)
	r.Send(query(100, "0.0.0.0", 0))
	r.Pass(11 * time.Second)
	r.Expect("10.0.0.1 > 224.0.0.22 igmp v3 is-ex(239.1.1.1 10.0.0.7)")
	if err := join(s, 13, "239.1.1.1"); err != nil {
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	in := "10.0.0.1 > 224.0.0.22 igmp v3 to-in(239.1.1.1)"
	r.Expect(in, in)
	r.Send(query(100, "0.0.0.0", 0))
	r.Pass(11 * time.Second)
	r.Expect()
}

// query is a membership query with a response time in tenths of a second, of
// version 3 when n is 0 or more.
func query(tenths byte, group string, n int) []byte {
	b := make([]byte, packet.IGMPLen)
	if n >= 0 {
		b = make([]byte, 12)
	}
	b[0], b[1] = packet.IGMPQuery, tenths
	g := netip.MustParseAddr(group).As4()
	copy(b[4:], g[:])
	packet.IGMP(b).SetChecksum()
	dst := group
	if group == "0.0.0.0" {
		dst = "224.0.0.1"
	}
	return IP{Src: "10.0.0.2", Dst: dst, TTL: 1, Proto: packet.ProtoIGMP, Options: []byte{0x94, 4, 0, 0}, Data: b}.Frame()
}

func TestRejoinStopsTheLeave(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	for _, name := range []int{12, 13, 12} {
		if err := join(s, name, "239.1.1.1"); err != nil {
			t.Fatal(err)
		}
	}
	r.Pass(10 * time.Second)
	var got []string
	for _, f := range r.Sent() {
		got = append(got, Describe(f)[len("10.0.0.1 > 224.0.0.22 igmp v3 "):])
	}
	if want := "[to-ex(239.1.1.1) to-in(239.1.1.1) to-ex(239.1.1.1) to-ex(239.1.1.1)]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestIGMPv2(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	r.Send(query(10, "0.0.0.0", -1)) // a version 2 router is there
	if err := join(s, 12, "239.1.1.1"); err != nil {
		t.Fatal(err)
	}
	r.Expect("10.0.0.1 > 239.1.1.1 igmp v2 report 239.1.1.1")
	heard := make([]byte, packet.IGMPLen)
	heard[0] = packet.IGMPv2Report
	copy(heard[4:], []byte{239, 1, 1, 1})
	packet.IGMP(heard).SetChecksum()
	other := IP{Src: "10.0.0.2", Dst: "239.1.1.1", TTL: 1, Proto: packet.ProtoIGMP, Data: heard}.Frame()
	r.Send(query(10, "0.0.0.0", -1), other) // another host answers first
	r.Pass(20 * time.Second)
	r.Expect()
	r.Send(query(10, "0.0.0.0", -1)) // nobody does: our turn, the suppressed one forgotten
	r.Pass(20 * time.Second)
	r.Expect("10.0.0.1 > 239.1.1.1 igmp v2 report 239.1.1.1")
	s.Close()
	r.Pass(20 * time.Second)
	r.Expect("10.0.0.1 > 224.0.0.2 igmp leave 239.1.1.1")
}

func TestIGMPv1(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	r.Send(query(0, "0.0.0.0", -1))
	if err := join(s, 12, "239.1.1.1"); err != nil {
		t.Fatal(err)
	}
	r.Expect("10.0.0.1 > 239.1.1.1 igmp v1 report 239.1.1.1")
	r.Pass(300 * time.Second) // the old router is gone
	r.Sent()
	s.Close()
	r.Pass(20 * time.Second)
	in := "10.0.0.1 > 224.0.0.22 igmp v3 to-in(239.1.1.1)"
	r.Expect(in, in)
}

// A super-packet that is forwarded fits by the size of its segments, headers
// counted.
func TestForwardedSuperPackets(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	en1 := r.AddIf("en1", Me1, "10.0.1.1/24")
	r.Pass(10 * time.Second)
	r.Meet("10.0.0.2")
	r.SendOn(en1, ARP(packet.ARPRequest, Peer1, "10.0.1.2", "10.0.1.1"))
	if err := r.SetMTU(en1, 576, 1500); err != nil {
		t.Fatal(err)
	}
	r.Sent()
	send := func(segment uint16) {
		data := make([]byte, 3000)
		data[12] = 5 << 4
		f := IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: 6, Frag: packet.IPv4DF, Data: data}.Frame()
		b := r.Env.Pool.Get(len(f))
		copy(b.Append(len(f)), f)
		b.SetPartial(packet.EtherLen+packet.IPv4Len, 16)
		b.GSO, b.GSOSize = packet.GSOTCPv4, segment
		r.Input(r.Env.NewWork(), r.Now(), r.If, []*packet.Buf{b})
	}
	send(537)
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 4 mtu 576 quotes 10.0.0.2 > 10.0.1.2 proto 6 len 8")
	send(536) // the driver of the rig takes no super-packets
	const way = "10.0.0.2 > 10.0.1.2 tcp 0 > 0 - "
	r.Expect(way+"0+536 win 0", way+"536+536 win 0", way+"1072+536 win 0", way+"1608+536 win 0", way+"2144+536 win 0", way+"2680+300 win 0")
}
