package abi

import (
	"encoding/binary"
	"errors"
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
	SockaddrIn6OldLen = 24
)

// ParseSockaddr reads the socket address that a program gave.
//
//	sockaddr_in   u16 family, port (be), addr(4), zero(8)
//	sockaddr_in6  u16 family, port (be), flowinfo (be), addr(16), u32 scope_id
//
// AF_UNSPEC is the zero Addr, which dissolves a connection. The flow label has
// no place in an Addr and is dropped; the scope counts of addresses of one link.
// Errors: EINVAL (shorter than its family wants), EAFNOSUPPORT.
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
		if len(b) < SockaddrIn6OldLen {
			return protocol.Addr{}, syscall.EINVAL
		}
		ip := netip.AddrFrom16([16]byte(b[8:]))
		if len(b) >= SockaddrIn6Len && ofLink(ip) {
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

// ofLink says that an address means nothing without an interface
// (__ipv6_addr_needs_scope_id).
func ofLink(ip netip.Addr) bool {
	return ip.Is6() && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsInterfaceLocalMulticast())
}

// Use says what ToStack's address is for.
type Use int

// Uses of an address.
const (
	Bind    Use = iota // the socket's own
	Connect            // its peer
	Send               // where one datagram goes
)

// ToStack is the address a of the program as the stack's socket wants it. Errors:
// EAFNOSUPPORT (a is of the wrong family for the socket), EINVAL (an address of
// one link that does not say which; bind to one of IPv4, and the socket has nothing
// to do with that), ENETUNREACH (any other use of such).
func (s *Sock) ToStack(a protocol.Addr, use Use) (protocol.Addr, error) {
	if !a.IsValid() {
		return a, nil
	}
	if s.Family != unix.AF_INET6 {
		if a.Family != protocol.AFInet {
			return protocol.Addr{}, syscall.EAFNOSUPPORT
		}
		return a, nil
	}
	only := s.on(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	if a.Family == protocol.AFInet {
		// A datagram socket of AF_INET6 may be pointed at a sockaddr_in, any other
		// not (udpv6_sendmsg, inet6_bind).
		if use == Bind || s.Type != unix.SOCK_DGRAM || only && use == Connect {
			return protocol.Addr{}, syscall.EAFNOSUPPORT
		}
		a = protocol.Addr{Family: protocol.AFInet6, IP: netip.AddrFrom16(a.IP.As16()), Port: a.Port}
	}
	switch {
	case a.IP.Is4In6() && only && use == Bind:
		return protocol.Addr{}, syscall.EINVAL
	case a.IP.Is4In6() && only:
		return protocol.Addr{}, syscall.ENETUNREACH
	case !ofLink(a.IP) || a.IP.Zone() != "":
	case use != Bind && s.Zone != "":
		a.IP = a.IP.WithZone(s.Zone)
	case use != Bind && a.IP.IsMulticast() && s.kept[multicastIf6] != 0:
		a.IP = a.IP.WithZone(strconv.Itoa(s.kept[multicastIf6]))
	case use != Send && !s.on(unix.SOL_SOCKET, unix.SO_BINDTODEVICE) && a.IP.IsLinkLocalUnicast():
		return protocol.Addr{}, syscall.EINVAL
	}
	return a, nil
}

// AddrErr is what the stack says to an address as Linux says it: there is no such
// interface.
func AddrErr(err error) error {
	if errors.Is(err, syscall.ENXIO) {
		return syscall.ENODEV
	}
	return err
}
