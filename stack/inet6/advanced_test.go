package inet6_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	"ionet/stack/stacktest"
)

func TestPktInfo(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	addr6(r.Rig, "2001:db8::5/64")
	r.Pass(10 * time.Second)
	from := func(want string, h packet.IPv6) {
		t.Helper()
		if h.Src().String() != want || !sumOK(h, h.Dst().String()) {
			t.Errorf("from %v, want %s; sum %v", h.Src(), want, sumOK(h, h.Dst().String()))
		}
	}
	from("2001:db8::1", s.one(there, cmsg(inet6.IPv6PktInfo, pktinfo("2001:db8::1", 0))))
	s.must(inet6.IPv6PktInfo, pktinfo("2001:db8::5", 0))
	from("2001:db8::5", s.one(there))
	from("2001:db8::1", s.one(there, cmsg(inet6.IPv62292PktInfo, pktinfo("2001:db8::1", r.If.Index)))) // over what sticks
	from("fe80::1", s.one("fe80::2%en0", cmsg(inet6.IPv6PktInfo, pktinfo("fe80::1", 0))))
	s.must(inet6.IPv6PktInfo, nil)
	from("fe80::1", s.one("fe80::2", cmsg(inet6.IPv6PktInfo, pktinfo("::", r.If.Index)))) // the interface alone
	if v := s.get(inet6.IPv6PktInfo); !slices.Equal(v, pktinfo("::", 0)) {
		t.Errorf("% x", v)
	}
	s.refuse(syscall.EADDRNOTAVAIL, there, cmsg(inet6.IPv6PktInfo, pktinfo("2001:db8::9", 0)))
	s.refuse(syscall.EINVAL, there, cmsg(inet6.IPv6PktInfo, pktinfo("ff02::1", r.If.Index)))
	s.refuse(syscall.ENXIO, there, cmsg(inet6.IPv6PktInfo, pktinfo("::", 99)))
	s.refuse(syscall.EINVAL, "fe80::2%en0", cmsg(inet6.IPv6PktInfo, pktinfo("::", r.Lo.Index)))
	s.refuse(syscall.EINVAL, there, cmsg(inet6.IPv6PktInfo, make([]byte, 19)))
	s.refuse(syscall.EINVAL, there, cmsg(999, nil))
}

// sourceRoute goes by 2001:db8::a and ::b.
func sourceRoute() []byte {
	b := append([]byte{0, 4, 0, 2, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8::a").AsSlice()...)
	return append(b, netip.MustParseAddr("2001:db8::b").AsSlice()...)
}

func TestExtensionHeaders(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	s.must(inet6.IPv6HopOpts, opts(1))
	s.must(inet6.IPv6DstOpts, opts(2))
	h := s.one(there)
	if got := headers(h); got != "0 60 17" || !sumOK(h, there) || h.Payload()[4] != 1 || h.Payload()[12] != 2 {
		t.Fatalf("%s % x", got, []byte(h))
	}
	s.must(inet6.IPv6RtHdrDstOpts, opts(3)) // nothing without a source route
	if got := headers(s.one(there)); got != "0 60 17" {
		t.Error(got)
	}
	if got := headers(s.one(there, cmsg(inet6.IPv6HopOpts, nil), cmsg(inet6.IPv6DstOpts, nil))); got != "17" {
		t.Error("an empty object takes back what sticks: ", got)
	}

	// More than the room that a buffer leaves, and cut behind it.
	long := make([]byte, 2048)
	long[1] = 255
	for at := 2; at < len(long); at += 2 + int(long[at+1]) {
		long[at], long[at+1] = 0x1e, byte(min(255, len(long)-at-2))
	}
	s.must(inet6.IPv6DstOpts, long)
	if p, err := s.send(there, 4); err != nil || len(p) != 2 || headers(p[0]) != "0 44" || p[1].Payload()[0] != packet.ProtoFragment {
		t.Error(len(p), err)
	}

	for _, bad := range [][]byte{{0}, make([]byte, 7), make([]byte, 9), make([]byte, 16), {0, 0, 5, 9, 0, 0, 0, 0}} {
		if err := s.set(inet6.IPv6HopOpts, bad); err != syscall.EINVAL {
			t.Errorf("% x: %v", bad, err)
		}
	}
	user := r.socket(socket.Dgram, 0, false)
	for _, name := range []int{inet6.IPv6HopOpts, inet6.IPv6DstOpts, inet6.IPv6RtHdrDstOpts, inet6.IPv62292HopOpts} {
		if err := user.set(name, opts(1)); err != syscall.EPERM {
			t.Errorf("option %d: %v", name, err)
		}
		user.refuse(syscall.EPERM, there, cmsg(name, opts(1)))
	}
	if err := user.set(inet6.IPv6NextHop, sockaddr("fe80::2", r.If.Index)); err != syscall.EPERM {
		t.Error(err)
	}
}

// The first router of a source route is where a packet goes; the destination
// comes last, and the checksum is for that (RFC 8200 §8.1).
func TestSourceRoute(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	s.must(inet6.IPv6HopOpts, opts(1))
	s.must(inet6.IPv6RtHdrDstOpts, opts(3))
	s.must(inet6.IPv6RtHdr, sourceRoute())
	s.must(inet6.IPv6DstOpts, opts(2))
	h := s.one(there)
	if got := headers(h); got != "0 60 43 60 17" || h.Dst().String() != "2001:db8::a" || !sumOK(h, there) {
		t.Error(got, h.Dst(), sumOK(h, there))
	}
	e := h.Payload()[16 : 16+40]
	if a, b := netip.AddrFrom16([16]byte(e[8:24])), netip.AddrFrom16([16]byte(e[24:40])); a.String() != "2001:db8::b" || b.String() != there {
		t.Error(a, b)
	}
	if !slices.Equal(s.get(inet6.IPv6RtHdr), sourceRoute()) || !slices.Equal(s.get(inet6.IPv6RtHdrDstOpts), opts(3)) {
		t.Error("what was set is not what is got")
	}
	if h := s.one(there, cmsg(inet6.IPv6RtHdr, nil)); h.Dst().String() != there {
		t.Error(h.Dst())
	}
	// RFC 2292: options in front of a routing header are for all that it names.
	h = r.udp().one(there, cmsg(inet6.IPv62292DstOpts, opts(4)), cmsg(inet6.IPv62292RtHdr, sourceRoute()), cmsg(inet6.IPv62292DstOpts, opts(5)))
	if got := headers(h); got != "60 43 60 17" || h.Payload()[4] != 4 {
		t.Error(got)
	}
	for _, at := range []int{1, 2, 3} { // length, type, segments left
		bad := sourceRoute()
		bad[at]++
		if err := s.set(inet6.IPv6RtHdr, bad); err != syscall.EINVAL {
			t.Errorf("% x: %v", bad[:4], err)
		}
	}
}

func TestNextHop(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	const far = "2001:db8:9::1"
	s.refuse(syscall.ENETUNREACH, far)
	s.must(inet6.IPv6NextHop, sockaddr("fe80::2", r.If.Index))
	if h := s.one(far); h.Src().String() != "2001:db8::1" || h.Dst().String() != far {
		t.Error(h.Src(), h.Dst())
	}
	if v := s.get(inet6.IPv6NextHop); !slices.Equal(v, sockaddr("fe80::2", r.If.Index)) {
		t.Errorf("% x", v)
	}
	s.must(inet6.IPv6NextHop, nil)
	s.refuse(syscall.ENETUNREACH, far)
	if h := s.one(far, cmsg(inet6.IPv62292NextHop, sockaddr(there, 0))); h.Dst().String() != far {
		t.Error(h.Dst())
	}
	for _, bad := range [][]byte{sockaddr("fe80::2", 0), sockaddr("ff02::1", 1), sockaddr("::", 0), make([]byte, 28)} {
		if err := s.set(inet6.IPv6NextHop, bad); err != syscall.EINVAL {
			t.Errorf("% x: %v", bad, err)
		}
	}
}

func TestSizes(t *testing.T) {
	r := newBench(t)
	s := r.udp()
	pieces := func(to string, size, want int, c ...socket.Cmsg) {
		t.Helper()
		if p, err := s.send(to, size, c...); err != nil || len(p) != want {
			t.Errorf("%d octets to %s: %d packets, %v, want %d", size, to, len(p), err, want)
		}
	}
	pieces(there, 1400, 1)
	pieces(there, 1400, 2, cmsg(inet6.IPv6UseMinMTU, i32(1)))
	pieces("ff0e::5", 1400, 2) // who knows where it goes
	pieces("ff0e::5", 1400, 1, cmsg(inet6.IPv6UseMinMTU, i32(0)))
	s.must(inet6.IPv6UseMinMTU, i32(1))
	pieces(there, 1400, 2)
	s.must(inet6.IPv6UseMinMTU, i32(-1))
	pieces(there, 1600, 2)
	if p, err := s.send(there, 1600, cmsg(inet6.IPv6DontFrag, i32(1))); err != syscall.EMSGSIZE || len(p) != 0 {
		t.Error(len(p), err)
	}
	s.must(inet6.IPv6RecvPathMTU, i32(1))
	s.must(inet6.IPv6DontFrag, i32(1))
	if _, err := s.send(there, 1600); err != syscall.EMSGSIZE {
		t.Error(err)
	}
	want := append(sockaddr(there, 0), i32(1500)...)
	binary.BigEndian.PutUint16(want[2:], 9)
	if m, err := s.recv(); err != nil || m.Size != 0 || len(m.Control) != 1 || m.Control[0].Type != inet6.IPv6PathMTU || !slices.Equal(m.Control[0].Data, want) {
		t.Errorf("%+v %v", m.Control, err)
	}
	if _, err := s.Option(inet6.LevelIPv6, inet6.IPv6PathMTU); err != syscall.ENOTCONN {
		t.Error(err)
	}
	if err := r.Do(func(w *netif.Work) error {
		return s.Connect(w, socket.Addr{IP: netip.MustParseAddr(there), Port: 9})
	}); err != nil {
		t.Fatal(err)
	}
	if v := s.get(inet6.IPv6PathMTU); !slices.Equal(v, want) {
		t.Errorf("% x", v)
	}
}

// A path's MTU that a router tells of comes to whoever has asked, and holds.
func TestRecvPathMTU(t *testing.T) {
	r := newBench(t)
	s, other := r.udp(), r.udp()
	s.must(inet6.IPv6RecvPathMTU, i32(1))
	h := s.one(there)
	_ = other.one(there)
	m := append([]byte{packet.ICMP6TooBig, 0, 0, 0, 0, 0, 5, 0x14}, h...) // 1300
	router := netip.MustParseAddr("2001:db8::fe")
	packet.ICMP6(m).SetChecksum(router, h.Src())
	b := make([]byte, packet.EtherLen+packet.IPv6Len)
	packet.PutEther(b, stacktest.Me, stacktest.Peer, packet.EtherIPv6)
	packet.PutIPv6(b[packet.EtherLen:], 0, 0, len(m), packet.ProtoICMPv6, 64, router, h.Src())
	r.Send(append(b, m...))
	if m, err := s.recv(); err != nil || m.Size != 0 || len(m.Control) != 1 || binary.LittleEndian.Uint32(m.Control[0].Data[28:]) != 1300 {
		t.Errorf("%+v %v", m.Control, err)
	}
	if _, err := other.recv(); err != syscall.EWOULDBLOCK {
		t.Error("who has not asked is told: ", err)
	}
	if p, err := s.send(there, 1280); err != nil || len(p) != 2 {
		t.Error(len(p), err)
	}
}

// What IPV6_2292PKTOPTIONS holds sticks, all of it or nothing.
func TestPktOptions(t *testing.T) {
	s := newBench(t).udp()
	row := func(name int, data []byte) []byte {
		b := append(i32(12+len(data)), i32(inet6.LevelIPv6)...)
		b = append(append(b, i32(name)...), data...)
		return append(b, make([]byte, (8-len(b)%8)%8)...)
	}
	s.must(inet6.IPv62292PktOptions, append(row(inet6.IPv62292HopLimit, i32(5)), row(inet6.IPv62292HopOpts, opts(1))...))
	if h := s.one(there); h.HopLimit() != 5 || headers(h) != "0 17" {
		t.Error(h.HopLimit(), headers(h))
	}
	for _, bad := range [][]byte{{1}, append(i32(99), make([]byte, 8)...), append(row(inet6.IPv62292HopLimit, i32(6)), 9), row(inet6.IPv62292HopLimit, i32(999))} {
		if err := s.set(inet6.IPv62292PktOptions, bad); err != syscall.EINVAL {
			t.Errorf("% x: %v", bad, err)
		}
	}
	if h := s.one(there); h.HopLimit() != 5 {
		t.Error(h.HopLimit())
	}
	s.must(inet6.IPv62292PktOptions, nil)
	if h := s.one(there); h.HopLimit() != 64 || headers(h) != "17" {
		t.Error(h.HopLimit(), headers(h))
	}
}

// FuzzOptions: no value of an option, and no ancillary data, does harm.
func FuzzOptions(f *testing.F) {
	f.Add(uint8(inet6.IPv6RtHdr), sourceRoute())
	f.Add(uint8(inet6.IPv62292PktOptions), append(append(i32(20), i32(41)...), append(i32(22), opts(1)...)...))
	f.Add(uint8(inet6.IPv6PktInfo), pktinfo("2001:db8::1", 2))
	f.Add(uint8(inet6.MCastJoinSourceGroup), append(append(i32(2), sockaddr("ff02::9", 0)...), sockaddr(there, 0)...))
	f.Add(uint8(inet6.IPv6NextHop), sockaddr("fe80::2", 2))
	f.Add(uint8(inet6.MRT6AddMif), mif6ctl(0, 2))
	f.Add(uint8(inet6.MRT6AddMFC), mf6cctl(there, "ff02::5", 0, 1))
	f.Fuzz(func(t *testing.T, name uint8, v []byte) {
		r := newBench(t)
		d := r.socket(socket.Raw, packet.ProtoICMPv6, true)
		d.must(inet6.MRT6Init, i32(1))
		_ = d.set(int(name), v)
		s := r.udp()
		_ = s.set(int(name), v)
		_, _ = s.send(there, 100)
		_, _ = s.send(there, 3000, cmsg(int(name), v))
		_, _ = s.send("ff02::5%en0", 100, cmsg(int(name), v))
		_, _ = s.Option(inet6.LevelIPv6, int(name))
		s.close()
		if err := r.RemoveInterface(r.If); err != nil {
			t.Fatal(err)
		}
	})
}
