package inet6_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	"ionet/stack/stacktest"
)

func TestHopLimits(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	hops := func(want uint8, to string, c ...socket.Cmsg) {
		t.Helper()
		if h := s.one(to, c...); h.HopLimit() != want {
			t.Errorf("hop limit %d to %s, want %d", h.HopLimit(), to, want)
		}
	}
	hops(64, there)
	s.must(inet6.IPv6UnicastHops, i32(7))
	hops(7, there)
	hops(9, there, cmsg(inet6.IPv6HopLimit, i32(9)))
	hops(8, there, cmsg(inet6.IPv62292HopLimit, i32(8)))
	hops(7, there)
	hops(1, "ff0e::5")
	s.must(inet6.IPv6MulticastHops, i32(5))
	hops(5, "ff0e::5")
	s.must(inet6.IPv6MulticastHops, i32(-1))
	r.Sysctl("net.inet6.ip6.defmcasthlim", "3")
	hops(3, "ff0e::5")
	s.must(inet6.IPv6UnicastHops, i32(-1))
	if n := binary.LittleEndian.Uint32(s.get(inet6.IPv6UnicastHops)); n != 64 {
		t.Error(n)
	}
	for _, n := range []int{-2, 256} {
		for _, name := range []int{inet6.IPv6UnicastHops, inet6.IPv6MulticastHops} {
			if err := s.set(name, i32(n)); err != syscall.EINVAL {
				t.Errorf("option %d, %d: %v", name, n, err)
			}
		}
		s.refuse(syscall.EINVAL, there, cmsg(inet6.IPv6HopLimit, i32(n)))
	}
	if err := s.set(inet6.IPv6HopLimit, i32(3)); err != syscall.ENOPROTOOPT { // RFC 3542 §6.3
		t.Error(err)
	}
	for name, want := range map[int]error{99: syscall.ENOPROTOOPT, inet6.IPv6UnicastHops: syscall.EINVAL} {
		if err := s.set(name, make([]byte, 24)); err != want {
			t.Errorf("option %d of 24 octets: %v, want %v", name, err, want)
		}
	}
}

func TestMulticastOptions(t *testing.T) {
	r := newBench(t)
	en0 := r.If
	r.If = r.AddIf("en1", stacktest.Me1, "")
	en1 := r.If
	addr6(r.Rig, "fe80::11/64")
	r.If = en0
	r.Pass(10 * time.Second)
	s := r.udp()
	s.bind(9)
	if h := s.one("ff02::5%en1"); h.Src().String() != "fe80::11" {
		t.Error(h.Src())
	}
	s.must(inet6.IPv6MulticastIf, i32(int(en1.Index)))
	if h := s.one("ff02::5"); h.Src().String() != "fe80::11" || h.Dst().String() != "ff02::5" {
		t.Error(h.Src(), h.Dst())
	}
	if err := s.set(inet6.IPv6MulticastIf, i32(99)); err != syscall.ENXIO {
		t.Error(err)
	}
	s.must(inet6.IPv6MulticastIf, i32(int(en0.Index)))
	s.must(inet6.IPv6JoinGroup, pktinfo("ff0e::5", en0.Index))
	s.one("ff0e::5")
	if m, err := s.recv(); err != nil || m.Size != 4 {
		t.Error("no copy of our own: ", err)
	}
	s.must(inet6.IPv6MulticastLoop, i32(0))
	s.one("ff0e::5")
	if _, err := s.recv(); err != syscall.EWOULDBLOCK {
		t.Error("a copy that nobody wants: ", err)
	}
	for _, n := range []int{-1, 2} {
		if err := s.set(inet6.IPv6MulticastLoop, i32(n)); err != syscall.EINVAL {
			t.Error(n, err)
		}
	}
}

// Joining is seen on the wire, and by what is received.
func TestMemberships(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	s.bind(7)
	index := r.If.Index
	twice := func(want string) {
		t.Helper()
		r.Pass(10 * time.Second)
		want = "fe80::1 > ff02::16 " + want
		says(r.Rig, want, want)
	}
	group := func(g string, more ...string) []byte { // group_req, group_source_req
		v := append(i32(int(index)), sockaddr(g, 0)...)
		for _, src := range more {
			v = append(v, sockaddr(src, 0)...)
		}
		return v
	}
	hear := func(g string, want error) {
		t.Helper()
		r.Send(datagram(g, 7))
		if _, err := s.recv(); err != want {
			t.Errorf("from the group %s: %v, want %v", g, err, want)
		}
	}
	s.must(inet6.IPv6JoinGroup, pktinfo("ff0e::1", 0))
	twice("to-ex(ff0e::1)")
	if err := s.set(inet6.MCastJoinGroup, group("ff0e::1")); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	s.must(inet6.MCastBlockSource, group("ff0e::1", there))
	twice("block(ff0e::1 2001:db8::2)")
	hear("ff0e::1", syscall.EWOULDBLOCK)
	s.must(inet6.MCastUnblockSource, group("ff0e::1", there))
	hear("ff0e::1", nil)
	twice("allow(ff0e::1 2001:db8::2)")
	s.must(inet6.IPv6LeaveGroup, pktinfo("ff0e::1", index))
	twice("to-in(ff0e::1)")
	s.must(inet6.MCastJoinSourceGroup, group("ff02::9", there))
	twice("allow(ff02::9 2001:db8::2)")
	hear("ff02::9", nil)
	s.must(inet6.MCastLeaveSourceGroup, group("ff02::9", there))
	twice("block(ff02::9 2001:db8::2)")
	s.must(inet6.MCastJoinGroup, group("ff02::9"))
	s.must(inet6.MCastLeaveGroup, group("ff02::9"))
	r.Pass(10 * time.Second)
	says(r.Rig, "fe80::1 > ff02::16 to-ex(ff02::9)", "fe80::1 > ff02::16 to-in(ff02::9)", "fe80::1 > ff02::16 to-in(ff02::9)")
	exclude := append(append(group("ff0e::2"), i32(2)...), i32(1)...) // group_filter
	s.must(inet6.IPv6MSFilter, append(exclude, sockaddr(there, 0)...))
	twice("to-ex(ff0e::2 2001:db8::2)")
	hear("ff0e::2", syscall.EWOULDBLOCK)
	s.close()
	twice("to-in(ff0e::2)")

	s = r.udp()
	for _, tc := range []struct {
		name int
		v    []byte
		want error
	}{
		{inet6.IPv6JoinGroup, pktinfo(there, index), syscall.EINVAL},
		{inet6.IPv6JoinGroup, pktinfo("ff0e::1", 99), syscall.ENXIO},
		{inet6.IPv6JoinGroup, make([]byte, 19), syscall.EINVAL},
		{inet6.IPv6LeaveGroup, pktinfo("ff0e::1", index), syscall.EADDRNOTAVAIL},
		{inet6.MCastJoinGroup, make([]byte, 32), syscall.EINVAL},
		{inet6.MCastBlockSource, group("ff0e::1", there), syscall.EINVAL},
		{inet6.MCastJoinSourceGroup, group("ff0e::1", "ff02::1"), syscall.EINVAL},
		{inet6.IPv6MSFilter, exclude, syscall.EINVAL},
	} {
		if err := s.set(tc.name, tc.v); err != tc.want {
			t.Errorf("option %d: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestPortRange(t *testing.T) {
	s := newBench(t).udp()
	s.must(inet6.IPv6PortRange, i32(2))
	s.bind(0)
	if p := s.Local().Port; p < 600 || p > 1023 {
		t.Errorf("port %d", p)
	}
	if err := s.set(inet6.IPv6PortRange, i32(3)); err != syscall.EINVAL {
		t.Error(err)
	}
}

func TestPreferTempAddr(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	if err := r.AddAddr(r.If, stack.AddrSpec{Addr: netip.MustParseAddr("2001:db8::77"), Bits: 64, Flags: netif.AddrTemporary}); err != nil {
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	for _, tc := range []struct {
		n    int
		want string
	}{{0, "2001:db8::1"}, {1, "2001:db8::77"}, {0, "2001:db8::1"}, {1, "2001:db8::77"}} {
		s.must(inet6.IPv6PreferTempAddr, i32(tc.n))
		if h := s.one(there); h.Src().String() != tc.want {
			t.Errorf("%d: from %v, want %s", tc.n, h.Src(), tc.want)
		}
	}
	if h := s.one(there, cmsg(inet6.IPv6PreferTempAddr, i32(0))); h.Src().String() != "2001:db8::1" {
		t.Error(h.Src())
	}
	if h := s.one(there); h.Src().String() != "2001:db8::77" { // what was for one packet is over
		t.Error(h.Src())
	}
}

func TestTrafficClassAndLabel(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	s.must(inet6.IPv6TClass, i32(0xb8))
	first := s.one(there)
	if first.Class() != 0xb8 || first.FlowLabel() == 0 {
		t.Errorf("class %#x label %#x", first.Class(), first.FlowLabel())
	}
	if h := s.one(there, cmsg(inet6.IPv6TClass, i32(-1))); h.Class() != 0 || h.FlowLabel() != first.FlowLabel() {
		t.Errorf("class %#x label %#x", h.Class(), h.FlowLabel())
	}
	s.must(inet6.IPv6AutoFlowLabel, i32(0))
	if h := s.one(there); h.FlowLabel() != 0 {
		t.Errorf("label %#x", h.FlowLabel())
	}
	r.Sysctl("net.inet6.ip6.auto_flowlabel", "0")
	s.must(inet6.IPv6AutoFlowLabel, i32(1))
	if h := s.one(there); h.FlowLabel() == 0 {
		t.Error("no label")
	}
	if err := s.set(inet6.IPv6TClass, i32(256)); err != syscall.EINVAL {
		t.Error(err)
	}
}

func TestAncillaryData(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	s.bind(7)
	routing := []byte{packet.ProtoRouting, 0, 0, 0, 0, 0, 0, 0}
	frame := datagram("2001:db8::1", 7, of(packet.ProtoHopByHop, opts(1)), of(packet.ProtoDstOpts, opts(2)), routing, of(packet.ProtoDstOpts, opts(3)))
	told := func() string {
		t.Helper()
		r.Send(frame)
		m, err := s.recv()
		if err != nil || string(m.Data) != "hello" {
			t.Fatalf("%q %v", m.Data, err)
		}
		var out []string
		for _, c := range m.Control {
			out = append(out, fmt.Sprintf("%d:%x", c.Type, c.Data))
		}
		return strings.Join(out, " ")
	}
	if got := told(); got != "" {
		t.Error("unasked: ", got)
	}
	info := fmt.Sprintf("%x", pktinfo("2001:db8::1", r.If.Index))
	hdr := func(next, n uint8) string { return fmt.Sprintf("%x", of(next, opts(n))) }
	rt := fmt.Sprintf("%x", of(packet.ProtoDstOpts, routing))
	for _, tc := range []struct {
		names []int
		want  string
	}{
		{[]int{inet6.IPv6RecvPktInfo}, "46:" + info},
		{[]int{inet6.IPv6RecvHopLimit}, "47:21000000"},
		{[]int{inet6.IPv6RecvTClass}, "61:2c000000"},
		{[]int{inet6.IPv6RecvHopOpts}, "49:" + hdr(60, 1)},
		{[]int{inet6.IPv6RecvDstOpts}, "50:" + hdr(43, 2) + " 50:" + hdr(17, 3)},
		{[]int{inet6.IPv6RecvRtHdrDstOpts}, "35:" + hdr(43, 2)},
		{[]int{inet6.IPv6RecvRtHdr}, "51:" + rt},
		{[]int{inet6.IPv62292PktInfo, inet6.IPv62292HopLimit}, "19:" + info + " 20:21000000"},
		{[]int{inet6.IPv62292HopOpts, inet6.IPv62292RtHdr}, "22:" + hdr(60, 1) + " 24:" + rt},
		{[]int{inet6.IPv62292DstOpts}, "23:" + hdr(43, 2) + " 23:" + hdr(17, 3)},
	} {
		for _, name := range tc.names {
			s.must(name, i32(1))
			if v := s.get(name); v[0] != 1 {
				t.Errorf("option %d is %d", name, v)
			}
		}
		if got := told(); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.names, got, tc.want)
		}
		for _, name := range tc.names {
			s.must(name, i32(0))
		}
	}
	user := r.socket(socket.Dgram, 0, false)
	for _, name := range []int{inet6.IPv6RecvHopOpts, inet6.IPv6RecvDstOpts, inet6.IPv62292HopOpts, inet6.IPv62292DstOpts} {
		if err := user.set(name, i32(1)); err != syscall.EPERM {
			t.Errorf("option %d: %v", name, err)
		}
	}
}

// A socket of both families is told of IPv4's packets in the same words.
func TestAncillaryDataOfIPv4(t *testing.T) {
	r := newBench(t)
	r.Addr(r.If, "10.0.0.1/24")
	s := r.udp()
	s.must(inet6.IPv6V6Only, i32(0))
	if s.get(inet6.IPv6V6Only)[0] != 0 {
		t.Error("it is of IPv6 only still")
	}
	s.bind(7)
	if err := s.set(inet6.IPv6V6Only, i32(1)); err != syscall.EINVAL { // too late
		t.Error(err)
	}
	for _, name := range []int{inet6.IPv6RecvPktInfo, inet6.IPv6RecvHopLimit, inet6.IPv6RecvTClass, inet6.IPv6RecvHopOpts} {
		s.must(name, i32(1))
	}
	r.Send(stacktest.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoUDP, TTL: 17, TOS: 8,
		Data: stacktest.Datagram("10.0.0.2", "10.0.0.1", 5, 7, "hello")}.Frame())
	m, err := s.recv()
	if err != nil || fmt.Sprint(m.Control) != fmt.Sprint([]socket.Cmsg{cmsg(inet6.IPv6PktInfo, pktinfo("::ffff:10.0.0.1", r.If.Index)),
		cmsg(inet6.IPv6HopLimit, i32(17)), cmsg(inet6.IPv6TClass, i32(8))}) {
		t.Error(m.Control, err)
	}
}
