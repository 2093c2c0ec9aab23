package abi

import (
	"bytes"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"ionet/protocol"
	"ionet/tool/onstack/netlink"
)

var (
	stream   = Sock{Family: unix.AF_INET, Type: unix.SOCK_STREAM}
	datagram = Sock{Family: unix.AF_INET, Type: unix.SOCK_DGRAM}
)

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name    string
		do      func(*Sock, int) (uint32, error)
		s       Sock
		flags   int
		want    uint32
		wantErr error
	}{
		{"send", (*Sock).SendFlags, datagram, unix.MSG_DONTROUTE | unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL | unix.MSG_MORE, protocol.MsgDontRoute | protocol.MsgDontWait, nil},
		{"send", (*Sock).SendFlags, stream, unix.MSG_OOB, protocol.MsgOOB, nil},
		{"send", (*Sock).SendFlags, datagram, unix.MSG_OOB, 0, syscall.EOPNOTSUPP},
		{"send", (*Sock).SendFlags, stream, unix.MSG_FASTOPEN, 0, syscall.EOPNOTSUPP},
		{"send", (*Sock).SendFlags, datagram, unix.MSG_PEEK | unix.MSG_ERRQUEUE, 0, nil},
		{"recv", (*Sock).RecvFlags, datagram, unix.MSG_PEEK | unix.MSG_DONTWAIT | unix.MSG_TRUNC | unix.MSG_CMSG_CLOEXEC, protocol.MsgPeek | protocol.MsgDontWait, nil},
		{"recv", (*Sock).RecvFlags, stream, unix.MSG_OOB | unix.MSG_WAITALL, protocol.MsgOOB | protocol.MsgWaitAll, nil},
		{"recv", (*Sock).RecvFlags, datagram, unix.MSG_ERRQUEUE, 0, syscall.EAGAIN},
		{"recv", (*Sock).RecvFlags, datagram, unix.MSG_OOB, 0, syscall.EOPNOTSUPP},
	} {
		if got, err := c.do(&c.s, c.flags); got != c.want || err != c.wantErr {
			t.Errorf("%s %#x: %#x, %v; want %#x, %v", c.name, c.flags, got, err, c.want, c.wantErr)
		}
	}
	// Each of the flags has another number over there; those that Linux does
	// not have are not told.
	got := ToLinuxFlags(protocol.MsgOOB | protocol.MsgTrunc | protocol.MsgCtrunc | protocol.MsgBcast | protocol.MsgMcast)
	if want := unix.MSG_OOB | unix.MSG_TRUNC | unix.MSG_CTRUNC; got != want {
		t.Errorf("received %#x, want %#x", got, want)
	}
}

// received is what the kernel's socket tells of a datagram that it sends to
// itself, with the options names set, in room octets of control.
func received(t *testing.T, room int, options ...Option) (control []byte, flags int) {
	t.Helper()
	fd := kernelSocket(t, datagram)
	defer unix.Close(fd)
	for _, o := range options {
		if err := kernelSet(fd, o.Level, o.Name, value32(1)); err != nil {
			t.Fatalf("%v: %v", o, err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(fd, []byte("x"), 0, self); err != nil {
		t.Fatal(err)
	}
	control = make([]byte, room)
	_, n, flags, _, err := unix.Recvmsg(fd, make([]byte, 8), control, 0)
	if err != nil {
		t.Fatal(err)
	}
	return control[:n], flags
}

// TestCmsgsAreTheKernels: a datagram that came to 127.0.0.1 over interface 1
// is told in the same octets, whatever room there is for them.
func TestCmsgsAreTheKernels(t *testing.T) {
	options := []Option{{unix.SOL_SOCKET, unix.SO_TIMESTAMP_OLD}, {unix.IPPROTO_IP, unix.IP_PKTINFO}, {unix.IPPROTO_IP, unix.IP_RECVTTL}}
	full, _ := received(t, 512, options...)
	for room := range 120 {
		want, kflags := received(t, room, options...)
		s, f := datagram, newFakeStack()
		for _, o := range options {
			if err := ourSet(&s, f, o.Level, o.Name, value32(1)); err != nil {
				t.Fatal(err)
			}
		}
		a := protocol.Ancillary{
			Dst: netip.MustParseAddr("127.0.0.1"), If: protocol.LinkAddr{Index: 1}, TTL: 64,
			Time: time.Unix(int64(le.Uint64(full[16:])), 0),
		}
		got, cut := s.AppendCmsgs(nil, ofIPv4(a), room)
		for _, b := range [][]byte{got, want} { // the time is another one
			clear(b[min(16, len(b)):min(32, len(b))])
		}
		if !bytes.Equal(got, want) || cut != (kflags&unix.MSG_CTRUNC != 0) {
			t.Errorf("in %d octets\n% x, cut %v; the kernel's\n% x, flags %#x", room, got, cut, want, kflags)
		}
	}
}

// TestStamps: the last of the four ways counts.
func TestStamps(t *testing.T) {
	at := time.Unix(1_700_000_000, 123_456_000)
	for name, part := range map[int]uint64{
		unix.SO_TIMESTAMP_OLD: 123456, unix.SO_TIMESTAMP_NEW: 123456, unix.SO_TIMESTAMPNS_OLD: 123456000, unix.SO_TIMESTAMPNS_NEW: 123456000,
	} {
		s, f := datagram, newFakeStack()
		for _, n := range []int{unix.SO_TIMESTAMPNS_NEW, unix.SO_TIMESTAMP_OLD, name} {
			if err := ourSet(&s, f, unix.SOL_SOCKET, n, value32(1)); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.get(protocol.SockOpt{Level: protocol.SolSocket, Name: protocol.SoTimestamp}); le.Uint32(got) != 1 {
			t.Errorf("%d: the stack was told % x", name, got)
		}
		b, cut := s.AppendCmsgs(nil, ofIPv4(protocol.Ancillary{TTL: -1, Time: at}), 64)
		if len(b) != 32 || cut || le.Uint32(b[12:]) != uint32(name) || le.Uint64(b[16:]) != uint64(at.Unix()) || le.Uint64(b[24:]) != part {
			t.Errorf("%d: % x, cut %v", name, b, cut)
		}
		if err := ourSet(&s, f, unix.SOL_SOCKET, unix.SO_TIMESTAMP_OLD, value32(0)); err != nil {
			t.Fatal(err)
		}
		if b, _ := s.AppendCmsgs(nil, ofIPv4(protocol.Ancillary{TTL: -1, Time: at}), 64); len(b) != 0 {
			t.Errorf("%d: after it was turned off % x", name, b)
		}
	}
}

// TestMulticastPktinfo: ipi_spec_dst of a multicast is the interface's own
// address; an AF_INET6 socket is told of mapped ones.
func TestMulticastPktinfo(t *testing.T) {
	a := protocol.Ancillary{Dst: netip.MustParseAddr("224.0.0.251"), If: protocol.LinkAddr{Index: 3}, TTL: -1}
	s := datagram
	s.Tables = sampleTables
	s.Keep(Request{keep: []kept{{pktinfo4, 1}}})
	b, _ := s.AppendCmsgs(nil, ofIPv4(a), 64)
	if want := []byte{3, 0, 0, 0, 10, 0, 0, 1, 224, 0, 0, 251}; len(b) != 32 || !bytes.Equal(b[16:28], want) {
		t.Errorf("% x, want % x in it", b, want)
	}
}

// TestCmsgs6: an AF_INET6 socket is told in Linux's numbers what it has asked
// for; of a datagram of IPv4 where it was sent to, and by IPPROTO_IP the rest.
func TestCmsgs6(t *testing.T) {
	control := func(dst string) (b []byte) {
		add := func(typ int, v []byte) {
			b = protocol.AppendControl(b, protocol.Control{Level: protocol.ProtoIPv6, Type: typ, Data: v})
		}
		add(protocol.IPv6PktInfo, protocol.AppendPktInfo(nil, protocol.PktInfo{Addr: netip.MustParseAddr(dst), Index: 3}))
		add(protocol.IPv6HopLimit, value32(7))
		add(protocol.IPv6TClass, value32(0xb8))
		add(protocol.IPv6PathMTU, append(protocol.AppendSockaddr(nil, v6("fe80::9%3", 0)), value32(1300)...))
		return b
	}
	info := func(dst string) []byte {
		ip := netip.MustParseAddr(dst).As16()
		return cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(ip[:], 3, 0, 0, 0)...)
	}
	tclass := cmsg(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, value32(0xb8)...)
	limit := cmsg(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, value32(7)...)
	mtu := cmsg(unix.IPPROTO_IPV6, unix.IPV6_PATHMTU, append(AppendSockaddr(nil, v6("fe80::9%3", 0)), value32(1300)...)...)
	four := cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, 3, 0, 0, 0, 224, 0, 0, 251, 224, 0, 0, 251)
	ttl := cmsg(unix.IPPROTO_IP, unix.IP_TTL, value32(7)...)
	for _, c := range []struct {
		wants    []Option
		from, to string
		told     [][]byte
	}{
		{nil, "2001:db8::2", "ff02::fb", [][]byte{tclass, mtu}},
		{[]Option{pktinfo6, hops6}, "2001:db8::2", "ff02::fb", [][]byte{info("ff02::fb"), limit, tclass, mtu}},
		{[]Option{pktinfo4, hops4}, "2001:db8::2", "ff02::fb", [][]byte{tclass, mtu}},
		{[]Option{pktinfo6, hops6}, "::ffff:10.0.0.2", "::ffff:224.0.0.251", [][]byte{info("::ffff:224.0.0.251"), mtu}},
		{[]Option{pktinfo4, hops4}, "::ffff:10.0.0.2", "::ffff:224.0.0.251", [][]byte{mtu, four, ttl}},
	} {
		s := Sock{Family: unix.AF_INET6, Type: unix.SOCK_DGRAM}
		for _, o := range c.wants {
			s.Keep(Request{keep: []kept{{o, 1}}})
		}
		got, cut := s.AppendCmsgs(nil, protocol.Msg{Addr: v6(c.from, 9), Control: control(c.to)}, 512)
		if want := bytes.Join(c.told, nil); cut || !bytes.Equal(got, want) {
			t.Errorf("%v from %s to %s:\n% x, want\n% x", c.wants, c.from, c.to, got, want)
		}
	}
}

// TestParseCmsgs6: wishes for a packet of IPv6 go to the stack in its numbers.
func TestParseCmsgs6(t *testing.T) {
	s := Sock{Family: unix.AF_INET6, Type: unix.SOCK_DGRAM}
	info := append(make([]byte, 16), 2, 0, 0, 0)
	for _, c := range []struct {
		typ   int
		data  []byte
		stack int
		err   error
	}{
		{unix.IPV6_PKTINFO, info, protocol.IPv6PktInfo, nil},
		{unix.IPV6_2292PKTINFO, info, protocol.IPv62292PktInfo, nil},
		{unix.IPV6_PKTINFO, info[:19], 0, syscall.EINVAL},
		{unix.IPV6_HOPLIMIT, value32(5), protocol.IPv6HopLimit, nil},
		{unix.IPV6_HOPLIMIT, []byte{5}, 0, syscall.EINVAL},
		{unix.IPV6_TCLASS, value32(5), protocol.IPv6TClass, nil},
		{unix.IPV6_DONTFRAG, value32(1), protocol.IPv6DontFrag, nil},
		{unix.IPV6_HOPOPTS, make([]byte, 8), protocol.IPv6HopOpts, nil},
		{unix.IPV6_RTHDRDSTOPTS, make([]byte, 8), protocol.IPv6RtHdrDstOpts, nil},
		{ipv6FlowInfo, value32(1), -1, nil},
		{99, value32(1), 0, syscall.EINVAL},
	} {
		got, err := s.ParseCmsgs(append(cmsg(unix.IPPROTO_IP, unix.IP_TTL), cmsg(unix.IPPROTO_IPV6, c.typ, c.data...)...), true)
		if err != c.err {
			t.Errorf("type %d, % x: %v, want %v", c.typ, c.data, err, c.err)
		}
		if err != nil {
			continue
		}
		all, err := protocol.Controls(got.Six)
		var want []protocol.Control
		if c.stack >= 0 {
			want = []protocol.Control{{Level: protocol.ProtoIPv6, Type: c.stack, Data: c.data}}
		}
		if err != nil || !reflect.DeepEqual(all, want) {
			t.Errorf("type %d: %v, %v; want %v", c.typ, all, err, want)
		}
	}
}

// ofIPv4 is a message that the stack has told that of.
func ofIPv4(a protocol.Ancillary) protocol.Msg {
	return protocol.Msg{Control: protocol.AppendAncillary(nil, a)}
}

func cmsg(level, typ int, data ...byte) []byte {
	b, _ := AppendCmsg(nil, level, typ, data, 1<<16)
	return b
}

func TestParseCmsgs(t *testing.T) {
	src := netip.MustParseAddr("10.0.0.1")
	none := Control{TTL: -1, TOS: -1}
	pktinfo := cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, 3, 0, 0, 0, 10, 0, 0, 1, 9, 9, 9, 9)
	long := bytes.Clone(pktinfo)
	long[0] = 33
	for _, c := range []struct {
		b    []byte
		want Control
		err  error
	}{
		{nil, none, nil},
		{make([]byte, 15), none, nil}, // too short for a first one
		{make([]byte, 16), none, syscall.EINVAL},
		{long, none, syscall.EINVAL},
		{pktinfo, Control{Src: src, Index: 3, TTL: -1, TOS: -1}, nil},
		{append(cmsg(unix.IPPROTO_IP, unix.IP_TTL, 5, 0, 0, 0), cmsg(unix.IPPROTO_IP, unix.IP_TOS, 0xb8)...), Control{TTL: 5, TOS: 0xb8}, nil},
		{cmsg(unix.IPPROTO_IP, unix.IP_TTL, 0, 0, 0, 0), none, syscall.EINVAL},
		{cmsg(unix.IPPROTO_IP, unix.IP_TTL, 5), none, syscall.EINVAL},
		{cmsg(unix.IPPROTO_IP, unix.IP_TOS, 0, 1, 0, 0), none, syscall.EINVAL},
		{cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, 3, 0, 0, 0), none, syscall.EINVAL},
		{cmsg(unix.IPPROTO_IP, 99), none, syscall.EINVAL},
		{cmsg(unix.SOL_SOCKET, unix.SCM_RIGHTS, 3, 0, 0, 0), none, nil},
		{cmsg(unix.SOL_SOCKET, unix.SO_MARK, 1, 0, 0, 0), none, syscall.EPERM},
		{cmsg(unix.SOL_SOCKET, unix.SO_PRIORITY, 1, 0, 0, 0), none, nil},
		{cmsg(unix.SOL_SOCKET, unix.SO_TXTIME, 0, 0, 0, 0, 0, 0, 0, 0), none, syscall.EINVAL},
		{cmsg(unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0, 5), none, syscall.EINVAL},
		{cmsg(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 1), none, nil},
		{cmsg(77, 1, 1), none, nil},
	} {
		got, err := datagram.parse(c.b)
		if err != c.err || err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("% x: %+v, %v; want %+v, %v", c.b, got, err, c.want, c.err)
		}
	}
	six := Sock{Family: unix.AF_INET6, Type: unix.SOCK_DGRAM}
	mapped := netip.MustParseAddr("::ffff:10.0.0.1").As16()
	got, err := six.ParseCmsgs(cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(mapped[:], 3, 0, 0, 0)...), false)
	if want := (Control{Src: src, Index: 3, TTL: -1, TOS: -1}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("in6_pktinfo: %+v, %v", got, err)
	}
	mapped[0] = 0x20
	if _, err := six.ParseCmsgs(cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(mapped[:], 3, 0, 0, 0)...), false); err != syscall.EINVAL {
		t.Errorf("in6_pktinfo of IPv6: %v", err)
	}
}

// parse keeps a table's socket out of the way.
func (s Sock) parse(b []byte) (Control, error) { return s.ParseCmsgs(b, false) }

// TestParseCmsgsAsTheKernel sends what a program may send and compares who is
// refused.
func TestParseCmsgsAsTheKernel(t *testing.T) {
	fd := kernelSocket(t, datagram)
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(self.(*unix.SockaddrInet4).Port)
	name := AppendSockaddr(nil, v4("127.0.0.1", port))
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		for range rapid.IntRange(0, 3).Draw(t, "messages") {
			level := rapid.SampledFrom([]int{unix.IPPROTO_IP, unix.IPPROTO_IPV6, 77}).Draw(t, "level")
			typ := rapid.SampledFrom([]int{unix.IP_TTL, unix.IP_TOS, 99}).Draw(t, "type")
			data := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 8), rapid.Just([]byte{64, 0, 0, 0}), rapid.Just([]byte{64})).Draw(t, "data")
			b = append(b, cmsg(level, typ, data...)...)
		}
		if len(b) > 0 && rapid.Bool().Draw(t, "spoil") {
			b[rapid.IntRange(0, min(7, len(b)-1)).Draw(t, "at")] = rapid.Byte().Draw(t, "with")
		}
		b = b[:len(b)-min(len(b), rapid.IntRange(0, 9).Draw(t, "short"))]
		payload := []byte("x")
		iov := unix.Iovec{Base: &payload[0], Len: 1}
		m := unix.Msghdr{Name: &name[0], Namelen: uint32(len(name)), Iov: &iov, Iovlen: 1, Controllen: uint64(len(b))}
		if len(b) > 0 {
			m.Control = &b[0]
		}
		var want error
		if _, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), 0); e != 0 {
			want = e
		} else if _, err := unix.Read(fd, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		if _, err := datagram.parse(b); err != want {
			t.Fatalf("% x: %v; the kernel says %v", b, err, want)
		}
	})
}

func TestCmsgRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Control{TTL: -1, TOS: -1}
		var b []byte
		if rapid.Bool().Draw(t, "ttl") {
			want.TTL = rapid.IntRange(1, 255).Draw(t, "n")
			b = append(b, cmsg(unix.IPPROTO_IP, unix.IP_TTL, value32(want.TTL)...)...)
		}
		if rapid.Bool().Draw(t, "tos") {
			want.TOS = rapid.IntRange(0, 255).Draw(t, "n")
			b = append(b, cmsg(unix.IPPROTO_IP, unix.IP_TOS, value32(want.TOS)...)...)
		}
		if rapid.Bool().Draw(t, "pktinfo") {
			want.Index = rapid.IntRange(0, 1<<31-1).Draw(t, "n")
			want.Src = netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "ip")})
			ip := want.Src.As4()
			b = append(b, cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, append(append(value32(want.Index), ip[:]...), 0, 0, 0, 0)...)...)
		}
		if got, err := datagram.parse(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("% x: %+v, %v; want %+v", b, got, err, want)
		}
	})
}

// FuzzCmsgs: control messages of a program are read or refused, and what is
// read is in range.
func FuzzCmsgs(f *testing.F) {
	f.Add(cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, 3, 0, 0, 0, 10, 0, 0, 1, 9, 9, 9, 9), false)
	f.Add(append(cmsg(unix.IPPROTO_IP, unix.IP_TTL, 5, 0, 0, 0), cmsg(unix.IPPROTO_IP, unix.IP_TOS, 0xb8)...), false)
	f.Add(cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, make([]byte, 20)...), true)
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		s := datagram
		if six {
			s.Family = unix.AF_INET6
		}
		c, err := s.ParseCmsgs(b, six)
		if err != nil {
			return
		}
		if all, err := protocol.Controls(c.Six); err != nil || !six && len(all) > 0 {
			t.Fatalf("% x: % x for the stack, %v", b, c.Six, err)
		}
		if c.TTL < -1 || c.TTL == 0 || c.TTL > 255 || c.TOS < -1 || c.TOS > 255 || c.Index < 0 || c.Src.IsValid() && !c.Src.Is4() {
			t.Fatalf("% x: %+v", b, c)
		}
	})
}

// tables is a stack's tables that do not change.
type tables struct {
	ifs   []netlink.Interface
	addrs []netlink.Addr
	err   error
}

func (t tables) Interfaces() ([]netlink.Interface, error) { return t.ifs, t.err }
func (t tables) Addrs() ([]netlink.Addr, error)           { return t.addrs, t.err }

// sampleTables is what the ioctls' namespace has.
var sampleTables = tables{
	ifs: []netlink.Interface{
		{Index: 1, Name: "lo", Type: unix.ARPHRD_LOOPBACK, Flags: unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING, MTU: 65536, TxQueue: 1000, HW: make([]byte, 6)},
		{Index: 3, Name: "en0", Type: unix.ARPHRD_ETHER, Flags: unix.IFF_UP | unix.IFF_BROADCAST | unix.IFF_RUNNING | unix.IFF_MULTICAST,
			MTU: 1400, TxQueue: 1000, HW: []byte{2, 0, 0, 0, 0, 1}},
		{Index: 2, Name: "en1", Type: unix.ARPHRD_ETHER, Flags: unix.IFF_UP | unix.IFF_BROADCAST | unix.IFF_RUNNING | unix.IFF_MULTICAST,
			MTU: 1500, TxQueue: 1000, HW: []byte{2, 0, 0, 0, 0, 2}},
	},
	addrs: []netlink.Addr{
		{Index: 1, Prefix: netip.MustParsePrefix("127.0.0.1/8")},
		{Index: 1, Prefix: netip.MustParsePrefix("::1/128")},
		{Index: 3, Prefix: netip.MustParsePrefix("10.0.0.1/24"), Broadcast: netip.MustParseAddr("10.0.0.255")},
		{Index: 3, Prefix: netip.MustParsePrefix("10.0.1.1/32"), Peer: netip.MustParseAddr("10.0.1.2")},
		{Index: 3, Label: "en0:b", Prefix: netip.MustParsePrefix("10.0.2.1/24"), Broadcast: netip.MustParseAddr("10.0.2.255")},
	},
}
