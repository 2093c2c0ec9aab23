package protocol

import (
	"bytes"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/bpf"
)

var (
	ip4  = netip.MustParseAddr("10.0.0.1")
	ip6  = netip.MustParseAddr("fe80::1%3")
	link = LinkAddrOf(LinkOf(3, IFTEthernet, "en0", []byte{0, 0x50, 0xda, 0xc8, 0x2f, 0x96}))
)

// messages are one of each kind.
func messages() []Message {
	r := &RouteMessage{Type: RTMAdd, Index: 3, Refs: 2, Flags: RTFUp | RTFStatic, PID: 7, Seq: -1, Errno: syscall.EEXIST,
		Use: 9, Inits: RTVMTU, Metrics: RouteMetrics{1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
		Gateway: AddrFrom(ip4, 0), Ifp: link, Ifa: AddrFrom(ip6, 0), Author: AddrFrom(ip4, 0), Brd: AddrFrom(ip4, 0)}
	r.SetPrefix(netip.MustParsePrefix("0.0.0.0/0"))
	return []Message{
		r,
		&IfMessage{Index: 3, Flags: 0x8843, Name: "en0", Type: IFTEthernet, LinkAddr: link.Link,
			Data: IfData{Type: IFTEthernet, AddrLen: 6, HdrLen: 14, LinkState: 2, MTU: 1500, NoProto: 5, LastChange: 1000001}},
		&AddrMessage{Type: RTMNewAddr, Index: 3, Flags: 1, Metric: -2, Ifp: link, Addr: AddrFrom(ip4, 0),
			Netmask: MaskAddr(AFInet, 24), Brd: AddrFrom(ip4, 0), Bits: 24},
		&AnnounceMessage{Index: 3, Name: "en0", What: IfDeparture},
		&DesyncMessage{Lost: 5},
		scopedRoute(),
		&AddrMessage{Type: RTMDelAddr, Index: 3, Flags: IN6IFFTentative | IN6IFFAutoconf, Ifp: link, Addr: AddrFrom(ip6, 0),
			Netmask: MaskAddr(AFInet6, 64), Brd: AddrFrom(netip.MustParseAddr("fe80::2%3"), 0), Bits: 64},
	}
}

// scopedRoute is one of addresses of a link: both carry it.
func scopedRoute() *RouteMessage {
	r := &RouteMessage{Type: RTMChange, Index: 3, Flags: RTFUp | RTFGateway, Gateway: AddrFrom(ip6, 0), Ifa: AddrFrom(ip6, 0)}
	r.SetPrefix(netip.MustParsePrefix("fe80::/64"))
	r.Dst.IP = r.Dst.IP.WithZone("3")
	return r
}

func TestMessagesRoundTrip(t *testing.T) {
	var b []byte
	for _, m := range messages() {
		b = AppendMessage(b, m)
	}
	for i, want := range messages() {
		got, rest, err := NextMessage(b)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("message %d: got %+v, want %+v", i, got, want)
		}
		b = rest
	}
	if len(b) != 0 {
		t.Errorf("%d octets left over", len(b))
	}
}

// TestShortMask: BSD cuts the zeros off a netmask's end, all of them for the
// default route.
func TestShortMask(t *testing.T) {
	for _, c := range []struct {
		mask []byte
		bits int
	}{
		{[]byte{0, 0, 0, 0, 0, 0, 0, 0}, 0},
		{[]byte{5, 0, 0, 0, 0xff, 0, 0, 0}, 8},
		{[]byte{7, 0xff, 0, 0, 0xff, 0xff, 0xf0, 0}, 20},
		{[]byte{7, 0, 0, 0, 0xff, 0, 0xff, 0}, -1},
	} {
		m := &RouteMessage{Type: RTMGet, Dst: AddrFrom(ip4, 0)}
		b := append(AppendMessage(nil, m), c.mask...)
		le.PutUint16(b, uint16(len(b)))
		le.PutUint32(b[12:], RTADst|RTANetmask)
		var got RouteMessage
		if _, err := got.Decode(b); err != nil || got.NetmaskBits != c.bits {
			t.Errorf("mask % x: bits %d, %v; want %d", c.mask, got.NetmaskBits, err, c.bits)
		}
	}
}

func TestRouteDecodeAllocates(t *testing.T) {
	var m, out RouteMessage
	m.Type, m.Gateway = RTMGet, AddrFrom(ip4, 0)
	m.SetPrefix(netip.MustParsePrefix("10.0.0.0/8"))
	b := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		b = AppendRoute(b[:0], &m)
		if _, err := out.Decode(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a route, want none", n)
	}
}

func TestRoundTrips(t *testing.T) {
	now := time.Unix(1000, 5000)
	mask := MaskAddr(AFInet, 24)
	same := func(name string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
		}
	}
	h := Hello{Version: 1, PID: 2, Started: -3, Prefix: "/alt", Software: "0.1", Instance: 4}
	h2, err := ParseHello(AppendHello(nil, h))
	same("hello", h2, h, err)
	m := Msg{Flags: MsgTrunc, Addr: AddrFrom(ip4, 53), Data: []byte("data"),
		Control: AppendAncillary(nil, Ancillary{Dst: ip4, If: link.Link, TTL: 64, Time: now})}
	m2, err := ParseMsg(AppendMsg(nil, m))
	same("msg", m2, m, err)
	all, err := Controls(m2.Control)
	same("controls", len(all), 4, err)
	m6 := AppendControl(nil, Control{ProtoIPv6, IPv6PktInfo, AppendPktInfo(nil, PktInfo{ip6.WithZone(""), 3})})
	m6 = AppendControl(m6, Control{ProtoIPv6, IPv6HopOpts, []byte{59, 0, 1, 4, 0, 0, 0, 0}}) // passed over
	m6 = AppendControl(m6, Control{ProtoIPv6, IPv6HopLimit, AppendU32(nil, 255)})
	m6 = AppendControl(m6, Control{ProtoIPv6, IPv6TClass, AppendU32(nil, 0xb8)})
	a6, err := ParseAncillary(m6)
	same("ancillary of IPv6", a6, Ancillary{Dst: ip6.WithZone(""), If: LinkAddr{Index: 3}, TTL: 255, TClass: 0xb8}, err)
	for _, p := range []PktInfo{{}, {Index: 7}, {ip6.WithZone(""), 1}} {
		p2, err := ParsePktInfo(AppendPktInfo(nil, p))
		same("in6_pktinfo", p2, p, err)
	}
	mapped := Addr{Family: AFInet6, IP: netip.MustParseAddr("::ffff:10.0.0.1"), Port: 80}
	mapped2, rest, err := ParseSockaddr(AppendSockaddr(nil, mapped))
	same("mapped address", mapped2, mapped, err)
	same("behind it", len(rest), 0, nil)
	for _, family := range []uint16{0, AFInet, AFInet6} {
		typ, proto, got, err := ParseSocket(AppendSocket(nil, SockRaw, ProtoICMPv6, family))
		same("socket", [3]uint16{typ, proto, got}, [3]uint16{SockRaw, ProtoICMPv6, family}, err)
	}
	acc := Accepted{ID: 9, Peer: AddrFrom(ip4, 80), Local: AddrFrom(ip6, 1024)}
	acc2, err := ParseAccepted(AppendAccepted(nil, acc))
	same("accepted", acc2, acc, err)
	peer, local, err := ParseConnected(AppendConnected(nil, acc.Peer, acc.Local))
	same("connected", [2]Addr{peer, local}, [2]Addr{acc.Peer, acc.Local}, err)
	a, err := ParseAncillary(m2.Control)
	same("ancillary", a, Ancillary{Dst: ip4, If: link.Link, TTL: 64, TClass: -1, Time: now}, err)
	r := IfReq{Name: "en0", Value: 3, Mask: 5, Text: "text"}
	r2, err := ParseIfReq(SIOCSIFFLAGS, AppendIfReq(nil, r))
	same("ifreq", r2, r, err)
	r = IfReq{Name: "en0", Addr: AddrFrom(ip6, 0)}
	r2, err = ParseIfReq(SIOCDIFADDR, AppendIfReq(nil, r))
	same("ifreq with an address", r2, r, err)
	al := AliasReq{Name: "en0", Addr: AddrFrom(ip4, 0), Mask: mask, Flags: 1}
	al2, err := ParseAliasReq(AppendAliasReq(nil, al))
	same("ifaliasreq", al2, al, err)
	al = AliasReq{Name: "en0", Addr: AddrFrom(ip6, 0), Mask: MaskAddr(AFInet6, 64), Flags: IN6IFFAnycast, Timed: true, Preferred: 0, Valid: LifetimeInfinite}
	al2, err = ParseAliasReq(AppendAliasReq(nil, al))
	same("ifaliasreq with times", al2, al, err)
	for in, want := range map[string]string{"2002::/16": "2002::/16", "10.0.0.0/8": "::ffff:10.0.0.0/104", "::/0": "::/0"} {
		po := AddrPolicy{Prefix: netip.MustParsePrefix(in), Precedence: 30, Label: -2}
		po2, err := ParseAddrPolicy(AppendAddrPolicy(nil, po))
		po.Prefix = netip.MustParsePrefix(want)
		same("policy", po2, po, err)
	}
	sr := SysctlReply{Next: "net", Nodes: []SysctlNode{{Name: "kern.a", Kind: "int", Value: "1", ReadOnly: true, Use: "u", Doc: "d"}, {Name: "b"}}}
	sr2, err := ParseSysctlReply(AppendSysctlReply(nil, sr))
	same("sysctl reply", sr2, sr, err)
	sq := SysctlRequest{Op: SysctlSet, Name: "a", Value: "b", Cursor: "c"}
	sq2, err := ParseSysctlRequest(AppendSysctlRequest(nil, sq))
	same("sysctl request", sq2, sq, err)
	cq := CaptureRequest{Interface: "en0", SnapLen: 96, Buffer: 7, Filter: []bpf.RawInstruction{{Op: 6, Jt: 1, Jf: 2, K: 3}}}
	cq2, err := ParseCaptureRequest(AppendCaptureRequest(nil, cq))
	same("capture request", cq2, cq, err)
	cr := CaptureRecords{Lost: 1, Records: []CaptureRecord{{Time: 1, Index: 2, IfName: "en0", Out: true, Dropped: "no route", LinkType: LinkTypeRaw, OrigLen: 60, Data: []byte{1, 2}}}}
	if n := len(AppendCaptureRecord(nil, cr.Records[0])); n != CaptureRecordLen(cr.Records[0]) {
		t.Errorf("record of %d octets, CaptureRecordLen says %d", n, CaptureRecordLen(cr.Records[0]))
	}
	cr2, err := ParseCaptureRecords(AppendCaptureRecords(nil, cr))
	same("capture records", cr2, cr, err)
	vc := VifCount{3, 1, 2, 3, 4}
	vc2, err := ParseVifCount(AppendVifCount(nil, vc))
	same("vif counters", vc2, vc, err)
	for _, sg := range []SGCount{{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("239.1.2.3"), 1, 2, 3}, {ip6.WithZone(""), netip.MustParseAddr("ff0e::5"), 1, 2, 3}} {
		sg2, err := ParseSGCount(AppendSGCount(nil, sg))
		same("counters of a source and a group", sg2, sg, err)
	}
	rq := RulesRequest{Language: RulesNAT, More: true, Steps: []RuleStep{{StepAdd, 0, "map en0 10.0.0.0/8 -> 0/32"}, {Kind: StepFlush, Arg: StepIn | StepInet}}}
	rq2, err := ParseRulesRequest(AppendRulesRequest(nil, rq))
	same("rules", rq2, rq, err)
	which, cursor, err := ParseSaveRequest(AppendSaveRequest(nil, LogNAT, 7))
	same("save", [2]uint64{uint64(which), cursor}, [2]uint64{LogNAT, 7}, err)
	xq := RestoreRequest{LogStates, true, []byte("states")}
	xq2, err := ParseRestoreRequest(AppendRestoreRequest(nil, xq))
	same("restore", xq2, xq, err)
	o := SockOpt{Level: SolSocket, Name: SoRcvBuf, Value: []byte{1, 2, 3, 4}}
	o2, err := ParseSockOpt(AppendSockOpt(nil, o))
	same("option", o2, o, err)
}

func TestFrame(t *testing.T) {
	want := Header{Type: TypeSend, Flags: FlagReply, Tag: 1, ID: 2, Errno: syscall.EINVAL}
	h, p, err := ParseFrame(append(AppendHeader(nil, want), 'x'))
	if err != nil || h != want || string(p) != "x" {
		t.Errorf("got %+v %q %v", h, p, err)
	}
	if len(AppendMsg(make([]byte, HeaderLen), Msg{Addr: AddrFrom(ip4, 1), Control: make([]byte, 256), Data: make([]byte, 65535)})) > MaxFrame {
		t.Error("the largest datagram does not fit into a frame")
	}
}

func TestParseInetAton(t *testing.T) {
	for in, want := range map[string]string{
		"10.163": "10.0.0.163", "10": "0.0.0.10", "0x7f000001": "127.0.0.1", "10.1.65535": "10.1.255.255",
		"010.0.0.1": "8.0.0.1", "1.2.3.4": "1.2.3.4", "4294967295": "255.255.255.255",
		"": "", "1.2.3.4.5": "", "256.1": "", "1.2.3.256": "", "08": "", "0x": "", "1..2": "", "+1": "", "1_0": "", "-1": "", "10.16777216": "",
	} {
		got, err := ParseInetAton(in)
		if want == "" && err == nil || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%q: %v, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(AppendHeader(nil, Header{Type: TypeHello}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, p, err := ParseFrame(b); err == nil && !bytes.Equal(append(AppendHeader(nil, h), p...), b) {
			t.Errorf("% x is not what it was", b)
		}
	})
}

func FuzzParseSockaddr(f *testing.F) {
	for _, a := range []Addr{{}, AddrFrom(ip4, 1), AddrFrom(ip6, 2), link} {
		f.Add(AppendSockaddr(nil, a))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, _, err := ParseSockaddr(b)
		if err != nil {
			return
		}
		if a2, _, err := ParseSockaddr(AppendSockaddr(nil, a)); err != nil || a2 != a {
			t.Errorf("%+v became %+v, %v", a, a2, err)
		}
	})
}

func FuzzNextMessage(f *testing.F) {
	for _, m := range messages() {
		f.Add(AppendMessage(nil, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, err := NextMessage(b)
			if err != nil || m == nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			if m2, _, err := NextMessage(AppendMessage(nil, m)); err != nil || m2.RTMType() != m.RTMType() {
				t.Errorf("%+v became %+v, %v", m, m2, err)
			}
			b = rest
		}
	})
}

// FuzzPayloads feeds every other decoder.
func FuzzPayloads(f *testing.F) {
	f.Add(AppendHello(nil, Hello{}))
	f.Add(AppendMsg(nil, Msg{Control: AppendAncillary(nil, Ancillary{Dst: ip4, TTL: 1, Time: time.Unix(1, 0)})}))
	f.Add(AppendAccepted(nil, Accepted{ID: 7, Peer: AddrFrom(ip4, 80), Local: AddrFrom(ip6, 1)}))
	f.Add(AppendIfReq(nil, IfReq{Addr: link, Text: "x"}))
	f.Add(AppendAliasReq(nil, AliasReq{Addr: AddrFrom(ip4, 0)}))
	f.Add(AppendBridgeReq(nil, BridgeReq{Bridge: "bridge0", Member: "en0", Command: BridgeStatic, Value: 1, Mask: 2, Addr: [6]byte{2}}))
	f.Add(AppendAliasReq(nil, AliasReq{Addr: AddrFrom(ip6, 0), Timed: true, Preferred: 1, Valid: 2}))
	f.Add(AppendAddrPolicy(nil, AddrPolicy{Prefix: netip.MustParsePrefix("fc00::/7"), Precedence: 3, Label: 13}))
	f.Add(AppendPktInfo(nil, PktInfo{ip6.WithZone(""), 3}))
	f.Add(AppendSocket(nil, SockStream, 0, AFInet6))
	f.Add(AppendControl(nil, Control{ProtoIPv6, IPv6PktInfo, AppendPktInfo(nil, PktInfo{})}))
	f.Add(AppendSysctlReply(nil, SysctlReply{Nodes: []SysctlNode{{}}}))
	f.Add(AppendCaptureRequest(nil, CaptureRequest{Filter: make([]bpf.RawInstruction, 2)}))
	f.Add(AppendCaptureRecords(nil, CaptureRecords{Records: make([]CaptureRecord, 2)}))
	f.Add(AppendVifCount(nil, VifCount{Vif: 1}))
	f.Add(AppendSGCount(nil, SGCount{Source: ip6, Group: netip.MustParseAddr("ff0e::5")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseSGCount(b); err == nil {
			if c2, err := ParseSGCount(AppendSGCount(nil, c)); err != nil || c2 != c {
				t.Errorf("%+v became %+v, %v", c, c2, err)
			}
		}
		_, _ = ParseVifCount(b)
		_, _ = ParseUpcall(b)
		_, _ = ParseUpcall6(b)
		_, _ = ParseHelloRequest(b)
		_, _ = ParseHello(b)
		if m, err := ParseMsg(b); err == nil {
			_, _ = ParseAncillary(m.Control)
		}
		_, _ = ParseAncillary(b)
		_, _ = ParseSockOpt(b)
		_, _, _, _ = ParseSocket(b)
		_, _ = ParseAddr(b)
		if a, err := ParseAccepted(b); err == nil {
			if a2, err := ParseAccepted(AppendAccepted(nil, a)); err != nil || a2 != a {
				t.Errorf("%+v became %+v, %v", a, a2, err)
			}
		}
		_, _, _ = ParseConnected(b)
		_, _, _ = ParseIoctl(b)
		_, _ = ParseIfReq(SIOCSIFFLAGS, b)
		_, _ = ParseIfReq(SIOCDIFADDR, b)
		if q, err := ParseBridgeReq(b); err == nil {
			if q2, err := ParseBridgeReq(AppendBridgeReq(nil, q)); err != nil || q2 != q {
				t.Fatalf("%+v came back as %+v, %v", q, q2, err)
			}
		}
		if a, err := ParseAliasReq(b); err == nil {
			if a2, err := ParseAliasReq(AppendAliasReq(nil, a)); err != nil || a2.Preferred != a.Preferred || a2.Valid != a.Valid || a2.Timed != a.Timed {
				t.Errorf("%+v became %+v, %v", a, a2, err)
			}
		}
		if p, err := ParseAddrPolicy(b); err == nil {
			if p2, err := ParseAddrPolicy(AppendAddrPolicy(nil, p)); err != nil || p2 != p {
				t.Errorf("%+v became %+v, %v", p, p2, err)
			}
		}
		if p, err := ParsePktInfo(b); err == nil {
			if b2 := AppendPktInfo(nil, p); !bytes.Equal(b2, b) {
				t.Errorf("% x became % x", b, b2)
			}
		}
		if all, err := Controls(b); err == nil {
			var again []byte
			for _, c := range all {
				again = AppendControl(again, c)
			}
			if all2, err := Controls(again); err != nil || !reflect.DeepEqual(all2, all) {
				t.Errorf("%+v became %+v, %v", all, all2, err)
			}
		}
		_, _ = ParseSysctlRequest(b)
		_, _ = ParseSysctlReply(b)
		_, _ = ParseTableRequest(b)
		_, _ = ParseDumpRequest(b)
		_, _, _ = ParsePage(b)
		_, _ = ParseMountRequest(b)
		_, _ = ParseString(b)
		_, _ = ParseCaptureRequest(b)
		_, _ = ParseCaptureRecords(b)
		_, _ = ParseInetAton(string(b))
		_, _ = ParseRulesRequest(b)
		_, _, _ = ParseSaveRequest(b)
		_, _ = ParseRestoreRequest(b)
	})
}
