package abi

import (
	"bytes"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"ionet/protocol"
)

func v4(s string, port uint16) protocol.Addr {
	return protocol.Addr{Family: protocol.AFInet, IP: netip.MustParseAddr(s), Port: port}
}

func v6(s string, port uint16) protocol.Addr {
	return protocol.Addr{Family: protocol.AFInet6, IP: netip.MustParseAddr(s), Port: port}
}

func TestSockaddr(t *testing.T) {
	for _, c := range []struct {
		b    string
		want protocol.Addr
		err  error
	}{
		{"\x02\x00\x00\x35\x0a\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", v4("10.0.0.1", 53), nil},
		{"\x02\x00\x00\x35\x0a\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff and more", v4("10.0.0.1", 53), nil},
		{"\x02\x00\x00\x35\x0a\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", protocol.Addr{}, syscall.EINVAL},
		{"\x0a\x00\x01\xbb\x00\x00\x00\x07\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x03\x00\x00\x00", v6("fe80::1%3", 443), nil},
		{"\x0a\x00\x01\xbb\x00\x00\x00\x00\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", v6("fe80::1", 443), nil}, // RFC 2133's
		{"\x0a\x00\x01\xbb\x00\x00\x00\x00\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", protocol.Addr{}, syscall.EINVAL},
		{"\x0a\x00\x01\xbb\x00\x00\x00\x00\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x03\x00\x00\x00", v6("2001:db8::1", 443), nil}, // of no link
		{"\x0a\x00\x00\x50\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01\x03\x00\x00\x00", v6("::ffff:10.0.0.1", 80), nil},
		{"\x00\x00", protocol.Addr{}, nil},
		{"\x00", protocol.Addr{}, syscall.EINVAL},
		{"", protocol.Addr{}, syscall.EINVAL},
		{"\x01\x00/run/x", protocol.Addr{}, syscall.EAFNOSUPPORT},
		{"\x18\x00\x00\x00\x00\x00\x00\x00", protocol.Addr{}, syscall.EAFNOSUPPORT}, // BSD's AF_INET6
	} {
		if got, err := ParseSockaddr([]byte(c.b)); got != c.want || err != c.err {
			t.Errorf("% x: %v, %v; want %v, %v", c.b, got, err, c.want, c.err)
		}
	}
	for _, a := range []protocol.Addr{{}, protocol.LinkAddrOf(protocol.LinkAddr{Index: 1})} {
		if b := AppendSockaddr(nil, a); len(b) != 0 {
			t.Errorf("%v became % x", a, b)
		}
	}
}

// TestBindUnspec: an old program's AF_UNSPEC is AF_INET where it means any.
func TestBindUnspec(t *testing.T) {
	b := AppendSockaddr(nil, v4("0.0.0.0", 80))
	b[0] = unix.AF_UNSPEC
	if got, err := ParseBind(b); err != nil || got != v4("0.0.0.0", 80) {
		t.Errorf("%v, %v", got, err)
	}
	b[4] = 10
	if _, err := ParseBind(b); err != syscall.EAFNOSUPPORT {
		t.Errorf("AF_UNSPEC of an address: %v", err)
	}
	if _, err := ParseBind(b[:2]); err != syscall.EINVAL {
		t.Errorf("AF_UNSPEC of 2 octets: %v", err)
	}
}

// TestSockaddrIsTheKernels: what getsockname answers reads as what was bound.
func TestSockaddrIsTheKernels(t *testing.T) {
	for _, a := range []protocol.Addr{v4("127.0.0.1", 0), v6("::1", 0), v6("::ffff:127.0.0.1", 0)} {
		family := unix.AF_INET
		if a.Family == protocol.AFInet6 {
			family = unix.AF_INET6
		}
		fd := kernelSocket(t, Sock{Family: family, Type: unix.SOCK_DGRAM})
		b := AppendSockaddr(nil, a)
		if _, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))); e != 0 {
			t.Logf("bind %v: %v", a, e) // a machine without IPv6
			_ = unix.Close(fd)
			continue
		}
		name := make([]byte, 128)
		n := int32(len(name))
		if _, _, e := unix.Syscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&n))); e != 0 {
			t.Fatal(e)
		}
		got, err := ParseSockaddr(name[:n])
		if err != nil || got.IP != a.IP || got.Port == 0 {
			t.Errorf("bound %v, reads %v, %v", a, got, err)
		}
		if back := AppendSockaddr(nil, got); !bytes.Equal(back, name[:n]) {
			t.Errorf("the kernel's % x, ours % x", name[:n], back)
		}
		_ = unix.Close(fd)
	}
}

// drawAddr draws an internet address.
func drawAddr(t *rapid.T) protocol.Addr {
	port := rapid.Uint16().Draw(t, "port")
	if rapid.Bool().Draw(t, "v4") {
		return protocol.Addr{Family: protocol.AFInet, IP: netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip"))), Port: port}
	}
	ip := netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")))
	if rapid.Bool().Draw(t, "of one link") {
		b := ip.As16()
		b[0], b[1] = 0xfe, 0x80
		ip = netip.AddrFrom16(b)
	}
	if zone := rapid.Uint32().Draw(t, "zone"); zone != 0 && ofLink(ip) && rapid.Bool().Draw(t, "scoped") {
		ip = ip.WithZone(strconv.FormatUint(uint64(zone), 10))
	}
	return protocol.Addr{Family: protocol.AFInet6, IP: ip, Port: port}
}

func TestSockaddrRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAddr(t)
		got, err := ParseSockaddr(AppendSockaddr(nil, a))
		if err != nil || got != a {
			t.Fatalf("%v came back as %v, %v", a, got, err)
		}
	})
}

func TestDualStack(t *testing.T) {
	stream6 := Sock{Family: unix.AF_INET6, Type: unix.SOCK_STREAM}
	datagram6 := Sock{Family: unix.AF_INET6, Type: unix.SOCK_DGRAM}
	only := datagram6
	if err := ourSet(&only, newFakeStack(), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, value32(1)); err != nil {
		t.Fatal(err)
	}
	bound := datagram6
	bound.Zone = "3"
	none := protocol.Addr{}
	mapped := v6("::ffff:10.0.0.1", 80)
	for _, c := range []struct {
		s    Sock
		a    protocol.Addr
		use  Use
		want protocol.Addr
		err  error
	}{
		{stream6, none, Connect, none, nil},
		{stream6, v6("::", 80), Bind, v6("::", 80), nil},
		{stream6, mapped, Bind, mapped, nil},
		{stream6, v6("2001:db8::1", 80), Connect, v6("2001:db8::1", 80), nil},
		{stream6, v4("10.0.0.1", 80), Bind, none, syscall.EAFNOSUPPORT},
		{stream6, v4("10.0.0.1", 80), Connect, none, syscall.EAFNOSUPPORT},
		{datagram6, v4("10.0.0.1", 80), Connect, mapped, nil},
		{datagram6, v4("10.0.0.1", 80), Send, mapped, nil},
		{only, v4("10.0.0.1", 80), Connect, none, syscall.EAFNOSUPPORT},
		{only, v4("10.0.0.1", 80), Send, none, syscall.ENETUNREACH},
		{only, mapped, Bind, none, syscall.EINVAL},
		{only, mapped, Connect, none, syscall.ENETUNREACH},
		{only, v6("::", 80), Bind, v6("::", 80), nil},
		{stream6, v6("fe80::1%2", 80), Bind, v6("fe80::1%2", 80), nil},
		{stream6, v6("fe80::1", 80), Bind, none, syscall.EINVAL},
		{stream6, v6("fe80::1", 80), Connect, none, syscall.EINVAL},
		{datagram6, v6("fe80::1", 80), Send, v6("fe80::1", 80), nil},
		{bound, v6("fe80::1", 80), Connect, v6("fe80::1%3", 80), nil},
		{bound, v6("fe80::1%2", 80), Connect, v6("fe80::1%2", 80), nil},
		{datagram, mapped, Send, none, syscall.EAFNOSUPPORT},
		{datagram, v4("10.0.0.1", 80), Send, v4("10.0.0.1", 80), nil},
	} {
		if got, err := c.s.ToStack(c.a, c.use); got != c.want || err != c.err {
			t.Errorf("%v (use %v): %v, %v; want %v, %v", c.a, c.use, got, err, c.want, c.err)
		}
	}
}

// FuzzSockaddr: what a program gives for an address is read or refused, and
// what is read is written again as it was read.
func FuzzSockaddr(f *testing.F) {
	f.Add(AppendSockaddr(nil, v4("10.0.0.1", 53)))
	f.Add(AppendSockaddr(nil, v6("fe80::1%3", 53)))
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseSockaddr(b)
		if err != nil {
			if a.IsValid() {
				t.Fatalf("%v with %v", a, err)
			}
			return
		}
		if again, err := ParseSockaddr(AppendSockaddr(nil, a)); a.IsValid() && (err != nil || again != a) {
			t.Fatalf("% x is %v, and again %v, %v", b, a, again, err)
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			s := Sock{Family: family, Type: unix.SOCK_DGRAM}
			if to, err := s.ToStack(a, Send); err == nil && to.IsValid() && to.Family != s.StackFamily() {
				t.Fatalf("%v goes to a socket of family %d as %v", a, family, to)
			}
		}
		_, _ = ParseBind(b)
	})
}
