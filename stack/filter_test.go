package stack_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/ipl"
	"ionet/stack"
	"ionet/stack/ipnat"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	rig "ionet/stack/stacktest"
)

func TestFilterAnswers(t *testing.T) {
	r := rig.New(t)
	r.Meet("10.0.0.2")
	load(r, "block return-rst in quick proto tcp all\nblock return-icmp(port-unr) in quick proto udp all\nblock in quick proto icmp all icmp-type echo")
	b := make([]byte, packet.TCPLen)
	packet.PutTCP(b, 1025, 80, 100, 0, packet.TCPLen, packet.TCPSyn, 1000, 0, 0)
	for name, tc := range map[string]struct {
		f    []byte
		want string
	}{
		"a segment":  {rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoTCP, Data: b}.Frame(), "tcp 80 > 1025 R. 0 ack 101"},
		"a datagram": {rig.UDP("10.0.0.2", "10.0.0.1", 1025, 53, "x"), "unreach 3 quotes 10.0.0.2"},
		"an echo":    {rig.Echo("10.0.0.2", "10.0.0.1", "x"), ""},
	} {
		r.Sent()
		r.SendWire(tc.f)
		if got := frames(r); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s is answered by %q, want %q", name, got, tc.want)
		}
	}
}

// A filter comes and goes under traffic; flows that it lets pass take the fast path.
func TestFilterAndFastPath(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	if n := across("10.0.0.2", "10.0.1.2", 3)(r); n != 3 {
		t.Fatalf("%d of 3 packets came through without a filter", n)
	}
	fast := func() uint64 { return rig.Counter(r.Stack, "ip", "fast forwarded") }
	was := fast()
	f := load(r, "pass in quick on en0 proto 99 all keep state\nblock in all")
	again := func(n int) int {
		frame := rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: 99, Data: make([]byte, 8)}.FrameTo(rig.Me, rig.Peer)
		r.Sent()
		for range n {
			r.SendWire(frame)
		}
		return len(r.Sent())
	}
	if n := again(5); n != 5 || fast() != was+4 {
		t.Errorf("%d of 5 packets came through, %d of them fast; want 4", n, fast()-was)
	}
	if s := f.States(0, 0); len(s) != 1 || s[0].Packets != [4]uint64{5, 5} {
		t.Errorf("%+v", s)
	}
	f.FlushStates(true)
	if err := r.UnloadFilter(); err != nil {
		t.Fatal(err)
	}
	if err := r.UnloadFilter(); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("unloaded twice: %v", err)
	}
	load(r, "block in all")
	if n := again(3); n != 0 {
		t.Errorf("%d packets came through a filter that blocks all", n)
	}
	if _, err := r.LoadFilter(); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("loaded twice: %v", err)
	}
	if err := r.UnloadFilter(); err != nil {
		t.Fatal(err)
	}
	if n := again(3); n != 3 {
		t.Errorf("%d of 3 packets came through after the filter had gone", n)
	}
}

// translate adds lines of ipnat.conf.
func translate(r *rig.Rig, text string) {
	r.Helper()
	rules, err := ipl.ParseNAT("test", []byte(text), ipl.Options{})
	if err != nil {
		r.Fatal(err)
	}
	var ops []ipnat.Op
	for _, x := range rules {
		ops = append(ops, ipnat.Op{Kind: ipnat.Add, Rule: x})
	}
	if err := r.NAT().Edit(ops); err != nil {
		r.Fatal(err)
	}
}

// Rules with states see inner addresses, the link outside sees the router's, and both
// directions take the fast path.
func TestFilterAndTranslation(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	across("10.0.0.2", "10.0.1.2", 1)(r)
	if err := r.AddNeighbour(r.If, netip.MustParseAddr("10.0.0.2"), rig.Peer, 0, 0); err != nil {
		t.Fatal(err)
	}
	en1 := r.Env.Ifs.ByName("en1")
	load(r, "block in all\nblock out all\npass in quick on en0 proto udp from 10.0.0.2/32 to any port = 53 keep state")
	translate(r, "map en1 10.0.0.0/24 -> 10.0.1.1/32 portmap udp 40000:40000")
	r.Sent()
	fast := rig.Counter(r.Stack, "ip", "fast forwarded")
	asked := rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: packet.ProtoUDP, Data: rig.Datagram("10.0.0.2", "10.0.1.2", 1025, 53, "what?")}
	told := rig.IP{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: packet.ProtoUDP, Data: rig.Datagram("10.0.1.2", "10.0.1.1", 53, 40000, "that")}
	for n := range 5 {
		r.SendWire(asked.FrameTo(rig.Me, rig.Peer))
		r.SendOn(en1, told.FrameTo(rig.Me1, rig.Peer1))
		sent := r.Sent()
		if len(sent) != 2 {
			t.Fatalf("round %d: %d frames were sent, want 2", n, len(sent))
		}
		for k, want := range []struct {
			src, dst     string
			sport, dport uint16
		}{{"10.0.1.1", "10.0.1.2", 40000, 53}, {"10.0.1.2", "10.0.0.2", 53, 1025}} {
			h := packet.IPv4(sent[k][packet.EtherLen:])
			d := h.Payload()
			got := fmt.Sprint(h.Src(), h.Dst(), binary.BigEndian.Uint16(d), binary.BigEndian.Uint16(d[2:]), h.TTL())
			if want := fmt.Sprint(want.src, " ", want.dst, want.sport, want.dport, 63); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
				t.Errorf("round %d: %s, want %s", n, got, want)
			}
			if !h.ChecksumOK() || packet.Fold(packet.Sum(packet.HeaderPseudoSum(h, packet.ProtoUDP, len(d)), d)) != 0xffff {
				t.Errorf("round %d: bad checksum in % x", n, h)
			}
		}
	}
	if s := r.Filter().States(0, 0); len(s) != 1 || s[0].Packets != [4]uint64{5, 5, 5, 5} {
		t.Errorf("the state has seen %+v", s)
	}
	if s := r.NAT().Sessions(0, 0); len(s) != 1 || s[0].PacketsIn != 5 || s[0].PacketsOut != 5 || s[0].BytesOut != 5*33 {
		t.Errorf("the session has seen %+v", s)
	}
	if n := rig.Counter(r.Stack, "ip", "fast forwarded") - fast; n < 7 {
		t.Errorf("%d of 10 packets took the fast path", n)
	}
	r.SendWire(rig.IP{Src: "10.0.0.3", Dst: "10.0.1.2", Proto: packet.ProtoUDP, Data: rig.Datagram("10.0.0.3", "10.0.1.2", 1025, 53, "?")}.FrameTo(rig.Me, rig.Peer))
	if n := len(r.Sent()); n != 0 {
		t.Errorf("a host that no rule lets out sent %d packets", n)
	}
}

// What is routed back by one of equal routes may come in by either.
func TestReversePathOfEqualRoutes(t *testing.T) {
	r := rig.New(t)
	en1, en2 := r.AddIf("en1", rig.Me1, ""), r.AddIf("en2", netif.MAC{2, 0, 0, 0, 2, 1}, "")
	var ops []route.Op
	for n, ifp := range []*netif.Interface{r.If, en1, en2} {
		p := netip.MustParsePrefix(fmt.Sprintf("10.0.%d.1/24", n))
		if n > 0 {
			if err := r.AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
				t.Fatal(err)
			}
			ops = append(ops, route.Op{Kind: route.Add, Spec: route.Spec{Dst: netip.MustParsePrefix("20.0.0.0/8"),
				Gateway: netip.MustParseAddr(fmt.Sprintf("10.0.%d.2", n)), Flags: route.FlagUp | route.FlagGateway | route.FlagMPath}})
		}
	}
	for _, err := range r.Routes.Update(ops) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for ifp, want := range map[*netif.Interface]bool{r.If: false, en1: true, en2: true} {
		_ = r.Do(func(*netif.Work) error {
			if got := r.Inet.ReversePath(netip.MustParseAddr("20.0.0.1"), ifp, true); got != want {
				t.Errorf("%s: %v, want %v", ifp.Name, got, want)
			}
			return nil
		})
	}
}

// Ports of sockets and those that translation chooses at our addresses keep out of each other's way.
func TestTranslationAndSockets(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	across("10.0.0.2", "10.0.1.2", 1)(r)
	en1 := r.Env.Ifs.ByName("en1")
	load(r, "pass in all")
	translate(r, "map en1 10.0.0.0/24 -> 0/32 portmap udp 40000:40001\nmap en1 10.0.1.0/24 -> 0/32 portmap udp 50000:50000\nrdr en1 0/32 port 53 -> 10.0.0.2 udp")
	s := r.UDP("10.0.1.1:40000")
	wild := r.UDP("10.0.1.1:53")
	if err := wild.Connect("10.0.1.2:99"); err != nil {
		t.Fatal(err)
	}
	r.Sent()
	sport := func() (ports []uint16) {
		for _, f := range r.Sent() {
			ports = append(ports, binary.BigEndian.Uint16(f[packet.EtherLen+packet.IPv4Len:]))
		}
		return ports
	}
	send := func(from, to string, p, q uint16) {
		mac, peer, ifp := rig.Me, rig.Peer, r.If
		if from == "10.0.1.2" {
			mac, peer, ifp = rig.Me1, rig.Peer1, en1
		}
		r.SendOn(ifp, rig.IP{Src: from, Dst: to, Proto: packet.ProtoUDP, Data: rig.Datagram(from, to, p, q, "x")}.FrameTo(mac, peer))
	}
	send("10.0.0.2", "10.0.1.2", 40000, 7)
	if p := sport(); len(p) != 1 || p[0] != 40001 {
		t.Errorf("ports %d, want 40001: the other one is a socket's", p)
	}
	if err := s.SendTo("10.0.1.2:7", "mine"); err != nil {
		t.Fatal(err)
	}
	if p := sport(); len(p) != 1 || p[0] != 50000 {
		t.Errorf("the socket's own traffic leaves from ports %d, want 50000", p)
	}
	send("10.0.1.2", "10.0.1.1", 7, 50000)
	if got := s.Get(); got != "10.0.1.2:7: x" {
		t.Errorf("the answer is %q", got)
	}
	send("10.0.1.2", "10.0.1.1", 99, 53)
	if got := wild.Get(); got != "10.0.1.2:99: x" {
		t.Errorf("a connected socket behind the port of a redirection gets %q", got)
	}
	r.Sysctl("net.inet.ip.anonportmin", "40001")
	r.Sysctl("net.inet.ip.anonportmax", "40002")
	for range 8 {
		a := r.UDP("10.0.1.1:0")
		if p := a.Local().Port; p != 40002 {
			t.Errorf("port %d, want 40002: the other one is a translation's", p)
		}
		a.Close()
	}
}

// Translations end with their interface, and with the address that was the interface's own.
func TestTranslationAndInterfaces(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	across("10.0.0.2", "10.0.1.2", 1)(r)
	en1 := r.Env.Ifs.ByName("en1")
	load(r, "pass in all")
	translate(r, "map en1 10.0.0.0/24 -> 0/32")
	begin := func() {
		r.SendWire(rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: packet.ProtoUDP, Data: rig.Datagram("10.0.0.2", "10.0.1.2", 5, 53, "x")}.FrameTo(rig.Me, rig.Peer))
	}
	begin()
	n, orphans := r.NAT().Stats().InUse, r.NAT().Stats().Orphaned
	r.Addr(en1, "10.0.1.9/24")
	if err := r.DelAddr(en1, netip.MustParseAddr("10.0.1.1")); err != nil {
		t.Fatal(err)
	}
	if s := r.NAT().Stats(); n != 1 || s.InUse != 0 || s.Orphaned != orphans+1 {
		t.Errorf("%d sessions, and without the address %+v", n, s)
	}
	translate(r, "bimap en1 10.0.0.3/32 -> 10.0.1.77/32")
	r.SendOn(en1, rig.IP{Src: "10.0.1.2", Dst: "10.0.1.77", Proto: packet.ProtoUDP, Data: rig.Datagram("10.0.1.2", "10.0.1.77", 5, 53, "x")}.FrameTo(rig.Me1, rig.Peer1))
	n = r.NAT().Stats().InUse
	if err := r.RemoveInterface(en1); err != nil {
		t.Fatal(err)
	}
	if s := r.NAT().Stats(); n != 1 || s.InUse != 0 {
		t.Errorf("%d sessions, and without the interface %+v", n, s)
	}
	if err := r.UnloadFilter(); err != nil {
		t.Fatal(err)
	}
}

// An inside host reaches an inside server by the outer address of a redirection, both ways by us
// and by the fast path.
func TestTranslationTurnsAround(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	r.Sysctl("net.inet.ip.redirect", "0")
	r.Sysctl("net.inet.ipf.ipnat_eim", "1")
	across("10.0.0.2", "10.0.1.2", 1)(r)
	for _, a := range []string{"10.0.0.2", "10.0.0.3"} {
		if err := r.AddNeighbour(r.If, netip.MustParseAddr(a), rig.Peer, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	load(r, "pass in quick on en0 proto udp all keep state\nblock in all")
	translate(r, "rdr en1 0/32 port 53 -> 10.0.0.3 port 5353 udp\nmap en1 10.0.0.0/24 -> 0/32 portmap udp 40000:40000")
	fast := rig.Counter(r.Stack, "ip", "fast forwarded")
	for n := range 4 {
		for _, way := range []struct {
			src, dst     string
			sport, dport uint16
			want         string
		}{
			{"10.0.0.2", "10.0.1.1", 7, 53, "10.0.1.1 40000 > 10.0.0.3 5353"},
			{"10.0.0.3", "10.0.1.1", 5353, 40000, "10.0.1.1 53 > 10.0.0.2 7"},
		} {
			r.Sent()
			r.SendWire(rig.IP{Src: way.src, Dst: way.dst, Proto: packet.ProtoUDP, Data: rig.Datagram(way.src, way.dst, way.sport, way.dport, "x")}.FrameTo(rig.Me, rig.Peer))
			var got []string
			for _, f := range r.Sent() {
				h := packet.IPv4(f[packet.EtherLen:])
				if d := h.Payload(); h.Proto() == packet.ProtoUDP {
					got = append(got, fmt.Sprintf("%s %d > %s %d", h.Src(), binary.BigEndian.Uint16(d), h.Dst(), binary.BigEndian.Uint16(d[2:])))
				}
			}
			if len(got) != 1 || got[0] != way.want {
				t.Errorf("round %d: %q, want %q", n, got, way.want)
			}
		}
	}
	if got := rig.Counter(r.Stack, "ip", "fast forwarded") - fast; got < 5 {
		t.Errorf("%d of 8 packets took the fast path", got)
	}
}

// The data connections that a control connection announces pass the filter because that has a state, and no
// other connection does.
func TestFTPAndFilter(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	across("10.0.0.2", "10.0.1.2", 1)(r)
	if err := r.AddNeighbour(r.If, netip.MustParseAddr("10.0.0.2"), rig.Peer, 0, 0); err != nil {
		t.Fatal(err)
	}
	en1 := r.Env.Ifs.ByName("en1")
	load(r, "block in all\nblock out all\npass in quick on en0 proto tcp from any to any port = 21 flags S keep state")
	translate(r, "map en1 10.0.0.0/24 -> 0/32 proxy port 21 ftp/tcp")
	// says sends a segment and answers what becomes of it.
	says := func(out bool, sport, dport uint16, seq, ack uint32, flags uint8, data string) string {
		src, dst, ifp, to, from := "10.0.0.2", "10.0.1.2", r.If, rig.Me, rig.Peer
		if !out {
			src, dst, ifp, to, from = "10.0.1.2", "10.0.1.1", en1, rig.Me1, rig.Peer1
		}
		r.Sent()
		r.SendOn(ifp, ftpSegment(src, dst, sport, dport, seq, ack, flags, data).FrameTo(to, from))
		got := ""
		for _, f := range r.Sent() {
			h := packet.IPv4(f[packet.EtherLen:])
			if d := h.Payload(); packet.Fold(packet.Sum(packet.HeaderPseudoSum(h, packet.ProtoTCP, len(d)), d)) != 0xffff {
				t.Errorf("bad checksum in % x", h)
			}
			x := packet.TCP(h.Payload())
			got += fmt.Sprintf("%s:%d > %s:%d %d %d %q", h.Src(), x.SrcPort(), h.Dst(), x.DstPort(), x.Seq(), x.Ack(), x.Payload())
		}
		return got
	}
	for n, s := range []struct {
		out          bool
		sport, dport uint16
		seq, ack     uint32
		flags        uint8
		data, want   string
	}{
		{false, 20, 5001, 1, 0, packet.TCPSyn, "", ""},
		{true, 1025, 21, 99, 0, packet.TCPSyn, "", `10.0.1.1:1025 > 10.0.1.2:21 99 0 ""`},
		{false, 21, 1025, 499, 100, packet.TCPSyn | packet.TCPAck, "", `10.0.1.2:21 > 10.0.0.2:1025 499 100 ""`},
		{true, 1025, 21, 100, 500, packet.TCPAck, "PORT 10,0,0,2,19,137\r\n", `10.0.1.1:1025 > 10.0.1.2:21 100 500 "PORT 10,0,1,1,19,137\r\n"`},
		{true, 1025, 21, 122, 500, packet.TCPAck, "EPRT |1|10.0.0.2|65000|\r\n", `10.0.1.1:1025 > 10.0.1.2:21 122 500 "EPRT |1|10.0.1.1|65000|\r\n"`},
		{false, 21, 1025, 500, 147, packet.TCPAck, "200\r\n", `10.0.1.2:21 > 10.0.0.2:1025 500 147 "200\r\n"`},
		{true, 1025, 21, 147, 505, packet.TCPAck, "PASV\r\n", `10.0.1.1:1025 > 10.0.1.2:21 147 505 "PASV\r\n"`},
		{false, 21, 1025, 505, 153, packet.TCPAck, "227 10,0,1,2,19,138\r\n", `10.0.1.2:21 > 10.0.0.2:1025 505 153 "227 10,0,1,2,19,138\r\n"`},
		{false, 20, 5002, 1, 0, packet.TCPSyn, "", ""},
		{false, 20, 5001, 1, 0, packet.TCPAck, "", ""},
		{false, 20, 5001, 1, 0, packet.TCPSyn, "", `10.0.1.2:20 > 10.0.0.2:5001 1 0 ""`},
		{true, 5001, 20, 7, 2, packet.TCPSyn | packet.TCPAck, "", `10.0.1.1:5001 > 10.0.1.2:20 7 2 ""`},
		{true, 1026, 5003, 1, 0, packet.TCPSyn, "", ""},
		{true, 1026, 5002, 1, 0, packet.TCPSyn, "", `10.0.1.1:1026 > 10.0.1.2:5002 1 0 ""`},
		{false, 5002, 1026, 9, 2, packet.TCPSyn | packet.TCPAck, "", `10.0.1.2:5002 > 10.0.0.2:1026 9 2 ""`},
	} {
		if got := says(s.out, s.sport, s.dport, s.seq, s.ack, s.flags, s.data); got != s.want {
			t.Errorf("%d: %q becomes %s, want %s", n, s.data, got, s.want)
		}
	}
	r.Filter().FlushStates(true)
	if got := says(false, 20, 65000, 1, 0, packet.TCPSyn, ""); got != "" {
		t.Errorf("the control connection has no state, and its data connection passes: %s", got)
	}
}

// A host of IPv6 and one of IPv4, with a filter that sees IPv6 alone; what is wrong on the way is said in
// the language of who sent it.
func TestNAT64(t *testing.T) {
	r := rig.New(t, rig.Dual)
	r.Sysctl("net.inet6.ip6.forwarding", "1")
	en1 := r.AddIf("en1", rig.Me1, "10.0.1.1/24")
	r.Addr(r.If, "2001:db8::1/64")
	r.Addr(en1, "2001:db8:1::1/64")
	r.Pass(5 * time.Second)
	host, far := netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("10.0.1.2")
	for _, n := range []struct {
		ifp *netif.Interface
		ip  netip.Addr
		mac netif.MAC
	}{{r.If, host, rig.Peer}, {en1, far, rig.Peer1}, {en1, netip.MustParseAddr("2001:db8:1::2"), rig.Peer1}} {
		if err := r.AddNeighbour(n.ifp, n.ip, n.mac, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range r.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: netip.MustParsePrefix("2001:db8:64::/96"),
		Gateway: netip.MustParseAddr("2001:db8:1::2"), Flags: route.FlagUp | route.FlagGateway}}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	load(r, "block in family inet all\nblock out family inet all\nblock in family inet6 all\nblock out family inet6 all\npass in quick on en0 proto udp from any to 2001:db8:64::/96 keep state\npass out quick family inet6 proto ipv6-icmp all\npass in quick family inet6 proto ipv6-icmp all")
	translate(r, "nat64 en1 2001:db8:64::/96 -> 0/32 portmap udp 40000:40000")
	there := netip.MustParseAddr("2001:db8:64::a00:102")
	ask := func(hops uint8, n int) []byte {
		d := make([]byte, packet.UDPLen+n)
		packet.PutUDP(d, 1025, 53, len(d), 0)
		f := make([]byte, packet.EtherLen+packet.IPv6Len+len(d))
		packet.PutEther(f, rig.Me, rig.Peer, packet.EtherIPv6)
		h := packet.PutIPv6(f[packet.EtherLen:], 0, 0, len(d), packet.ProtoUDP, hops, host, there)
		binary.BigEndian.PutUint16(d[6:], ^packet.Fold(packet.Sum(packet.HeaderPseudoSum(h, packet.ProtoUDP, len(d)), d)))
		copy(f[packet.EtherLen+packet.IPv6Len:], d)
		return f
	}
	answer := func(ttl uint8, n int, frag uint16) []byte {
		return rig.IP{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: packet.ProtoUDP, TTL: ttl, Frag: frag,
			Data: rig.Datagram("10.0.1.2", "10.0.1.1", 53, 40000, strings.Repeat("x", n))}.FrameTo(rig.Me1, rig.Peer1)
	}
	// said is what was sent: the frames of IP, in words.
	said := func() (all []string) {
		for _, f := range r.Sent() {
			b := f[packet.EtherLen:]
			switch typ := binary.BigEndian.Uint16(f[12:]); {
			case typ == packet.EtherIPv4:
				h := packet.IPv4(b)
				d := h.Payload()
				s := fmt.Sprintf("%s > %s ttl %d", h.Src(), h.Dst(), h.TTL())
				if h.Proto() == packet.ProtoUDP {
					s += fmt.Sprintf(" udp %d > %d, %d", binary.BigEndian.Uint16(d), binary.BigEndian.Uint16(d[2:]), len(d)-8)
					if packet.Fold(packet.Sum(packet.HeaderPseudoSum(h, packet.ProtoUDP, len(d)), d)) != 0xffff || !h.ChecksumOK() {
						s += " bad checksum"
					}
				} else {
					s += fmt.Sprintf(" icmp %d %d", d[0], d[1])
				}
				all = append(all, s)
			case typ == packet.EtherIPv6 && (b[6] == packet.ProtoUDP || b[6] == packet.ProtoICMPv6 && b[40] < 128 || b[6] == packet.ProtoFragment):
				h := packet.IPv6(b)
				d := h.Payload()
				s := fmt.Sprintf("%s > %s ttl %d", h.Src(), h.Dst(), h.HopLimit())
				switch h.Next() {
				case packet.ProtoUDP:
					s += fmt.Sprintf(" udp %d > %d, %d", binary.BigEndian.Uint16(d), binary.BigEndian.Uint16(d[2:]), len(d)-8)
					if packet.Fold(packet.Sum(packet.HeaderPseudoSum(h, packet.ProtoUDP, len(d)), d)) != 0xffff {
						s += " bad checksum"
					}
				case packet.ProtoFragment:
					s += fmt.Sprintf(" fragment at %d, %d", packet.Fragment(d).Off(), len(d)-8)
				default:
					s += fmt.Sprintf(" icmp6 %d %d %d", d[0], d[1], binary.BigEndian.Uint32(d[4:]))
				}
				all = append(all, s)
			}
		}
		return all
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if got := said(); strings.Join(got, "; ") != strings.Join(want, "; ") {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	r.Sent()
	r.SendOn(en1, answer(64, 5, packet.IPv4DF))
	expect("an answer to nothing")
	for range 2 {
		r.SendWire(ask(64, 5))
		expect("a question", "10.0.1.1 > 10.0.1.2 ttl 63 udp 40000 > 53, 5")
		r.SendOn(en1, answer(33, 7, packet.IPv4DF))
		expect("an answer", "2001:db8:64::a00:102 > 2001:db8::2 ttl 32 udp 53 > 1025, 7")
	}
	if s := r.Filter().States(0, 0); len(s) != 1 || s[0].Packets != [4]uint64{2, 2, 2, 2} {
		t.Errorf("%+v", s)
	}
	r.SendWire(ask(1, 5))
	expect("a question whose time is over", "2001:db8::1 > 2001:db8::2 ttl 64 icmp6 3 0 0")
	r.SendOn(en1, answer(1, 5, packet.IPv4DF))
	expect("an answer whose time is over", "10.0.1.1 > 10.0.1.2 ttl 64 icmp 11 0")
	r.SendOn(en1, answer(64, 1300, 0))
	expect("a large answer that may be cut", "2001:db8:64::a00:102 > 2001:db8::2 ttl 63 fragment at 0, 1232", "2001:db8:64::a00:102 > 2001:db8::2 ttl 63 fragment at 1232, 76")
	r.SendOn(en1, answer(64, 1460, packet.IPv4DF))
	expect("one that may not", "10.0.1.1 > 10.0.1.2 ttl 64 icmp 3 4")
	en1.SetMTU(1400)
	r.Inet.Invalidate()
	r.SendWire(ask(64, 1352))
	expect("a question as large as the link", "10.0.1.1 > 10.0.1.2 ttl 63 udp 40000 > 53, 1352")
	r.SendWire(ask(64, 1353))
	expect("a larger one", "2001:db8::1 > 2001:db8::2 ttl 64 icmp6 2 0 1400")
}
