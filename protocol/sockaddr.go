package protocol

import (
	"encoding/binary"
	mathbits "math/bits"
	"net"
	"net/netip"
	"strconv"
)

// Lengths of the socket addresses (RFC 2553 §3.3 for the second).
const (
	SockaddrInLen  = 16
	SockaddrIn6Len = 28
	sockaddrDlLen  = 20
)

// Addr is a socket address of any family. Family 0 is none.
type Addr struct {
	Family int
	IP     netip.Addr // AFInet, AFInet6; the zone is the scope, an interface index in decimal
	Port   uint16
	Link   LinkAddr // AFLink
}

// LinkAddr is the link level's address (sockaddr_dl): interface and octets,
// any of which may be missing.
type LinkAddr struct {
	Index int
	Type  uint8 // IFT_*
	Name  string
	Octet [8]byte
	Len   uint8 // of Octet
}

// Interface types (BSD's IFT_*).
const (
	IFTOther    = 1
	IFTEthernet = 6
	IFTPPP      = 23
	IFTLoopback = 24
	IFTL2VLAN   = 135
	IFTBridge   = 209
	IFTGif      = 240
)

// LinkOf is a link address of the octets hw, at most 8 of them.
func LinkOf(index int, typ uint8, name string, hw []byte) LinkAddr {
	l := LinkAddr{Index: index, Type: typ, Name: name}
	l.Len = uint8(copy(l.Octet[:], hw))
	return l
}

// HW is the address's octets.
func (l LinkAddr) HW() net.HardwareAddr { return net.HardwareAddr(l.Octet[:l.Len]) }

// String is "00:50:da:c8:2f:96", or "link#3" when there are no octets.
func (l LinkAddr) String() string {
	if l.Len == 0 {
		return "link#" + strconv.Itoa(l.Index)
	}
	return l.HW().String()
}

// AddrFrom is the socket address of ip and port; an invalid ip gives none.
func AddrFrom(ip netip.Addr, port uint16) Addr {
	ip = ip.Unmap()
	switch {
	case ip.Is4():
		return Addr{Family: AFInet, IP: ip, Port: port}
	case ip.Is6():
		return Addr{Family: AFInet6, IP: ip, Port: port}
	}
	return Addr{}
}

// LinkAddrOf is the socket address of l.
func LinkAddrOf(l LinkAddr) Addr { return Addr{Family: AFLink, Link: l} }

// MaskAddr is the netmask of bits one bits in the family of ip.
func MaskAddr(family, bits int) Addr {
	switch family {
	case AFInet:
		var m [4]byte
		binary.BigEndian.PutUint32(m[:], ^uint32(0)<<(32-min(max(bits, 0), 32)))
		return Addr{Family: AFInet, IP: netip.AddrFrom4(m)}
	case AFInet6:
		var m [16]byte
		setBits(m[:], bits)
		return Addr{Family: AFInet6, IP: netip.AddrFrom16(m)}
	}
	return Addr{}
}

func setBits(m []byte, bits int) {
	for i := range m {
		switch {
		case bits >= 8:
			m[i] = 0xff
		case bits > 0:
			m[i] = 0xff << (8 - bits)
		}
		bits -= 8
	}
}

// MaskBits is how many leading one bits the netmask a has; -1 when it has a
// hole or is no address.
func MaskBits(a Addr) int {
	var m [16]byte
	switch {
	case a.IP.Is4():
		v := a.IP.As4()
		ones := binary.BigEndian.Uint32(v[:])
		bits := mathbits.LeadingZeros32(^ones)
		if ones<<bits != 0 {
			return -1
		}
		return bits
	case a.IP.Is6():
		m = a.IP.As16()
	default:
		return -1
	}
	bits := 0
	for bits < 128 && m[bits/8]&(0x80>>(bits%8)) != 0 {
		bits++
	}
	for i := bits; i < 128; i++ {
		if m[i/8]&(0x80>>(i%8)) != 0 {
			return -1
		}
	}
	return bits
}

// IsValid says that there is an address.
func (a Addr) IsValid() bool { return a.Family != 0 }

// AddrPort is the address and port of an internet address.
func (a Addr) AddrPort() netip.AddrPort { return netip.AddrPortFrom(a.IP, a.Port) }

// String is "10.0.0.1:53", "10.0.0.1" without a port, a link address, or "".
func (a Addr) String() string {
	switch {
	case a.Family == AFLink:
		return a.Link.String()
	case !a.IP.IsValid():
		return ""
	case a.Port != 0:
		return a.AddrPort().String()
	}
	return a.IP.String()
}

// AppendSockaddr appends the BSD layout of a: sockaddr_in, sockaddr_in6 or
// sockaddr_dl; for no address a single zero octet.
//
//	sockaddr_in   len=16 family port(be) addr(4) zero(8)
//	sockaddr_in6  len=28 family port(be) flowinfo(4) addr(16) scope_id u32
//	sockaddr_dl   len>=20 family index u16 type nlen alen slen=0 name address
func AppendSockaddr(b []byte, a Addr) []byte { return appendSockaddr(b, &a) }

func appendSockaddr(b []byte, a *Addr) []byte {
	switch a.Family {
	case AFInet:
		ip := [4]byte{}
		if a.IP.Is4() || a.IP.Is4In6() {
			ip = a.IP.Unmap().As4()
		}
		return append(b, SockaddrInLen, AFInet, byte(a.Port>>8), byte(a.Port), ip[0], ip[1], ip[2], ip[3],
			0, 0, 0, 0, 0, 0, 0, 0)
	case AFInet6:
		b = append(b, SockaddrIn6Len, AFInet6)
		b = binary.BigEndian.AppendUint16(b, a.Port)
		b = append(b, 0, 0, 0, 0)
		ip, scope := [16]byte{}, uint64(0)
		if a.IP.IsValid() {
			ip = a.IP.As16()
			scope, _ = strconv.ParseUint(a.IP.Zone(), 10, 32)
		}
		b = append(b, ip[:]...)
		return le.AppendUint32(b, uint32(scope))
	case AFLink:
		l := a.Link
		hw := l.Octet[:min(int(l.Len), len(l.Octet))]
		name := l.Name[:min(len(l.Name), 15)]
		n := max(sockaddrDlLen, 8+len(name)+len(hw))
		b = append(b, byte(n), AFLink)
		b = le.AppendUint16(b, uint16(l.Index))
		b = append(b, l.Type, byte(len(name)), byte(len(hw)), 0)
		b = append(b, name...)
		b = append(b, hw...)
		for i := 8 + len(name) + len(hw); i < n; i++ {
			b = append(b, 0)
		}
		return b
	}
	return append(b, 0)
}

// ParseSockaddr reads one socket address and answers what is behind it. A
// zero octet is none. An unknown family, and a length that the family does not
// have, is an error of EPROTO.
func ParseSockaddr(b []byte) (Addr, []byte, error) {
	if len(b) == 0 {
		return Addr{}, nil, malformed("no socket address where one belongs")
	}
	n := int(b[0])
	if n == 0 {
		return Addr{}, b[1:], nil
	}
	if n > len(b) || n < 2 {
		return Addr{}, nil, malformed("socket address of length %d in %d octets", n, len(b))
	}
	a, err := parseAddr(b[:n])
	return a, b[n:], err
}

// parseAddr reads the sockaddr that is the whole of b, 2 octets at least.
func parseAddr(b []byte) (Addr, error) {
	switch family := b[1]; family {
	case AFInet:
		if len(b) != SockaddrInLen {
			return Addr{}, malformed("sockaddr_in of length %d, not %d", len(b), SockaddrInLen)
		}
		return Addr{Family: AFInet, Port: binary.BigEndian.Uint16(b[2:]), IP: netip.AddrFrom4([4]byte(b[4:8]))}, nil
	case AFInet6:
		if len(b) != SockaddrIn6Len {
			return Addr{}, malformed("sockaddr_in6 of length %d, not %d", len(b), SockaddrIn6Len)
		}
		ip := netip.AddrFrom16([16]byte(b[8:24]))
		if scope := le.Uint32(b[24:]); scope != 0 && !ip.Is4In6() {
			ip = ip.WithZone(strconv.FormatUint(uint64(scope), 10))
		}
		return Addr{Family: AFInet6, Port: binary.BigEndian.Uint16(b[2:]), IP: ip}, nil
	case AFLink:
		if len(b) < 8 {
			return Addr{}, malformed("sockaddr_dl of length %d", len(b))
		}
		nlen, alen := int(b[5]), int(b[6])
		if 8+nlen+alen > len(b) || alen > len(LinkAddr{}.Octet) || nlen > 15 {
			return Addr{}, malformed("sockaddr_dl of length %d with a name of %d and an address of %d", len(b), nlen, alen)
		}
		l := LinkOf(int(le.Uint16(b[2:])), b[4], "", b[8+nlen:8+nlen+alen])
		if nlen > 0 {
			l.Name = string(b[8 : 8+nlen])
		}
		return Addr{Family: AFLink, Link: l}, nil
	default:
		return Addr{}, malformed("socket address of the unknown family %d", family)
	}
}
