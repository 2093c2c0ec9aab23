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
	if zone := rapid.Uint32().Draw(t, "zone"); zone != 0 && !ip.Is4In6() && rapid.Bool().Draw(t, "scoped") {
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
		if a.Family == protocol.AFInet {
			back, ok := Unmapped(Mapped(a))
			if !ok || back != a || Mapped(a).Family != protocol.AFInet6 {
				t.Fatalf("%v mapped is %v, and back %v", a, Mapped(a), back)
			}
		}
	})
}

func TestDualStack(t *testing.T) {
	s := &Sock{Family: unix.AF_INET6, Type: unix.SOCK_STREAM}
	for _, c := range []struct {
		a    protocol.Addr
		bind bool
		want protocol.Addr
		err  error
	}{
		{v6("::", 80), true, v4("0.0.0.0", 80), nil},
		{v6("::ffff:10.0.0.1", 80), true, v4("10.0.0.1", 80), nil},
		{v6("::1", 80), true, protocol.Addr{}, syscall.EADDRNOTAVAIL},
		{v6("2001:db8::1", 80), false, protocol.Addr{}, syscall.ENETUNREACH},
		{v6("::ffff:10.0.0.1", 80), false, v4("10.0.0.1", 80), nil},
		{v4("10.0.0.1", 80), false, protocol.Addr{}, syscall.EAFNOSUPPORT},
		{protocol.Addr{}, false, protocol.Addr{}, nil},
	} {
		if got, err := s.ToStack(c.a, c.bind); got != c.want || err != c.err {
			t.Errorf("%v (bind %v): %v, %v; want %v, %v", c.a, c.bind, got, err, c.want, c.err)
		}
	}
	if got := s.FromStack(v4("10.0.0.1", 80)); got != v6("::ffff:10.0.0.1", 80) {
		t.Errorf("from the stack: %v", got)
	}
	if err := ourSet(s, newFakeStack(), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, value32(1)); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[protocol.Addr]error{v6("::", 80): syscall.EADDRNOTAVAIL, v6("::ffff:10.0.0.1", 80): syscall.EINVAL} {
		if _, err := s.ToStack(a, true); err != want {
			t.Errorf("bind %v of IPv6 alone: %v, want %v", a, err, want)
		}
	}
	four := &Sock{Family: unix.AF_INET, Type: unix.SOCK_DGRAM}
	if _, err := four.ToStack(v6("::ffff:10.0.0.1", 80), false); err != syscall.EAFNOSUPPORT {
		t.Errorf("IPv6 on AF_INET: %v", err)
	}
	if got := four.FromStack(v4("10.0.0.1", 80)); got != v4("10.0.0.1", 80) {
		t.Errorf("from the stack: %v", got)
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
			if to, err := s.ToStack(a, true); err == nil && to.Family == protocol.AFInet6 {
				t.Fatalf("%v goes to a stack of IPv4 as %v", a, to)
			}
		}
		_, _ = ParseBind(b)
	})
}
