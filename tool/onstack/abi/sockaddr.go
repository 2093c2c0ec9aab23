package abi

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// Lengths of Linux's socket addresses. The first sockaddr_in6 (RFC 2133 §3.2)
// had no scope, and Linux still takes it.
const (
	SockaddrInLen     = 16
	SockaddrIn6Len    = 28
	sockaddrIn6OldLen = 24
)

// ParseSockaddr reads the socket address that a program gave.
//
//	sockaddr_in   u16 family, port (be), addr(4), zero(8)
//	sockaddr_in6  u16 family, port (be), flowinfo (be), addr(16), u32 scope_id
//
// AF_UNSPEC is the zero Addr, which dissolves a connection. The flow label has
// no place in an Addr and is dropped. Errors: EINVAL (shorter than its family
// wants), EAFNOSUPPORT.
func ParseSockaddr(b []byte) (protocol.Addr, error) {
	if len(b) < 2 {
		return protocol.Addr{}, syscall.EINVAL
	}
	switch le.Uint16(b) {
	case unix.AF_UNSPEC:
		return protocol.Addr{}, nil
	case unix.AF_INET:
		if len(b) < SockaddrInLen {
			return protocol.Addr{}, syscall.EINVAL
		}
		return protocol.Addr{Family: protocol.AFInet, Port: binary.BigEndian.Uint16(b[2:]), IP: netip.AddrFrom4([4]byte(b[4:]))}, nil
	case unix.AF_INET6:
		if len(b) < sockaddrIn6OldLen {
			return protocol.Addr{}, syscall.EINVAL
		}
		ip := netip.AddrFrom16([16]byte(b[8:]))
		if len(b) >= SockaddrIn6Len && !ip.Is4In6() {
			if scope := le.Uint32(b[24:]); scope != 0 {
				ip = ip.WithZone(strconv.FormatUint(uint64(scope), 10))
			}
		}
		return protocol.Addr{Family: protocol.AFInet6, Port: binary.BigEndian.Uint16(b[2:]), IP: ip}, nil
	}
	return protocol.Addr{}, syscall.EAFNOSUPPORT
}

// ParseBind is [ParseSockaddr] for bind(2), where AF_UNSPEC with the address
// 0.0.0.0 is AF_INET, as programs older than the distinction have it. Without
// an address in it that is AF_UNSPEC for no use: EAFNOSUPPORT.
func ParseBind(b []byte) (protocol.Addr, error) {
	a, err := ParseSockaddr(b)
	if err != nil || a.IsValid() {
		return a, err
	}
	switch {
	case len(b) < SockaddrInLen:
		return a, syscall.EINVAL
	case le.Uint32(b[4:]) != 0:
		return a, syscall.EAFNOSUPPORT
	}
	return protocol.Addr{Family: protocol.AFInet, Port: binary.BigEndian.Uint16(b[2:]), IP: netip.IPv4Unspecified()}, nil
}

// AppendSockaddr appends a in Linux's layout (see [ParseSockaddr]); nothing if
// it is no internet address.
func AppendSockaddr(b []byte, a protocol.Addr) []byte {
	switch a.Family {
	case protocol.AFInet:
		var ip [4]byte
		if u := a.IP.Unmap(); u.Is4() {
			ip = u.As4()
		}
		b = le.AppendUint16(b, unix.AF_INET)
		b = binary.BigEndian.AppendUint16(b, a.Port)
		b = append(b, ip[:]...)
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	case protocol.AFInet6:
		var ip [16]byte
		scope := uint64(0)
		if a.IP.IsValid() {
			ip = a.IP.As16()
			scope, _ = strconv.ParseUint(a.IP.Zone(), 10, 32)
		}
		b = le.AppendUint16(b, unix.AF_INET6)
		b = binary.BigEndian.AppendUint16(b, a.Port)
		b = le.AppendUint32(b, 0)
		b = append(b, ip[:]...)
		return le.AppendUint32(b, uint32(scope))
	}
	return b
}

// Mapped is the IPv4 address a as an AF_INET6 socket shows it: ::ffff:10.0.0.1,
// and 0.0.0.0 as ::. Other addresses stay what they are.
func Mapped(a protocol.Addr) protocol.Addr {
	if a.Family != protocol.AFInet {
		return a
	}
	ip := netip.IPv6Unspecified()
	if a.IP.IsValid() && !a.IP.IsUnspecified() {
		ip = netip.AddrFrom16(a.IP.As16())
	}
	return protocol.Addr{Family: protocol.AFInet6, IP: ip, Port: a.Port}
}

// Unmapped is the IPv4 address that a stands for on an AF_INET6 socket: a
// v4-mapped one, or :: as 0.0.0.0. ok is false for an address of IPv6 alone.
func Unmapped(a protocol.Addr) (v4 protocol.Addr, ok bool) {
	switch {
	case a.Family != protocol.AFInet6:
		return a, a.Family == protocol.AFInet
	case a.IP.Is4In6():
		return protocol.Addr{Family: protocol.AFInet, IP: a.IP.Unmap(), Port: a.Port}, true
	case a.IP == netip.IPv6Unspecified():
		return protocol.Addr{Family: protocol.AFInet, IP: netip.IPv4Unspecified(), Port: a.Port}, true
	}
	return protocol.Addr{}, false
}

// ToStack is the address a of the program as the stack's socket wants it. bind
// says that it is to be the socket's own; else it is a peer's. Errors:
// EAFNOSUPPORT (a is of the wrong family for the socket), and of an address
// that needs IPv6: EADDRNOTAVAIL (bind), ENETUNREACH.
func (s *Sock) ToStack(a protocol.Addr, bind bool) (protocol.Addr, error) {
	if !a.IsValid() {
		return a, nil
	}
	if s.Family != unix.AF_INET6 {
		if a.Family != protocol.AFInet {
			return protocol.Addr{}, syscall.EAFNOSUPPORT
		}
		return a, nil
	}
	// A datagram socket of AF_INET6 may be pointed at a sockaddr_in, any other
	// not (udpv6_sendmsg, inet6_bind).
	only := s.on(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	if a.Family == protocol.AFInet {
		if bind || s.Type != unix.SOCK_DGRAM {
			return protocol.Addr{}, syscall.EAFNOSUPPORT
		}
		if only {
			return protocol.Addr{}, syscall.ENETUNREACH
		}
		return a, nil
	}
	v4, ok := Unmapped(a)
	switch {
	case ok && !only:
		return v4, nil
	case bind && a.IP.Is4In6():
		return protocol.Addr{}, syscall.EINVAL
	case bind:
		return protocol.Addr{}, syscall.EADDRNOTAVAIL
	}
	return protocol.Addr{}, syscall.ENETUNREACH
}

// FromStack is the address a of the stack's socket as the program's has it.
func (s *Sock) FromStack(a protocol.Addr) protocol.Addr {
	if s.Family == unix.AF_INET6 {
		return Mapped(a)
	}
	return a
}
