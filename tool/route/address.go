package route

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ionet/protocol"
)

// reader reads the addresses of a change in one family (0: not said).
type reader struct {
	ctx    context.Context
	names  Resolver
	family int
}

func (r reader) inet6(s string) bool {
	return r.family == protocol.AFInet6 || r.family == 0 && strings.Contains(s, ":")
}

// destination reads the destination and its netmask and decides whether it
// is a host's or a network's.
func (r reader) destination(w *words, c *change) error {
	m := &c.msg
	text := w.dest
	bits := w.prefixLen
	if w.family != protocol.AFLink {
		if head, tail, ok := strings.Cut(text, "/"); ok {
			n, err := strconv.Atoi(tail)
			if err != nil || n < 0 || n > 128 || tail[0] == '+' {
				return fmt.Errorf("bad value: %s: the prefix length behind the slash is a number", text)
			}
			text, bits = head, n
		}
	}
	cidr := text != w.dest
	switch {
	case text == "default":
		c.host = false
		m.Dst = protocol.AddrFrom(netip.IPv4Unspecified(), 0)
		if r.family == protocol.AFInet6 {
			m.Dst = protocol.AddrFrom(netip.IPv6Unspecified(), 0)
		}
		setMask(m, 0)
		if w.mask == "" || w.mask == "default" {
			return nil
		}
	case r.family == protocol.AFLink:
		a, err := link(text)
		if err != nil {
			return err
		}
		m.Dst, c.host = a, true
	case r.inet6(text):
		all, err := r.addresses(text)
		if err != nil {
			return err
		}
		a := all[0]
		m.Dst = protocol.Addr{Family: protocol.AFInet6, IP: a}
		switch {
		case a.IsUnspecified():
			setMask(m, 0)
		case a.As16()[0]&0xe0 == 0x20 && [8]byte(a.AsSlice()[8:]) == [8]byte{}:
			setMask(m, 64) // aggregatable global unicast, RFC 2374
		case bits < 0 && w.mask == "":
			c.host = true
		}
	default:
		if err := r.inet(text, cidr, w.forceNet || bits >= 0, c); err != nil {
			return err
		}
	}
	if bits >= 0 {
		if bits > m.Dst.IP.BitLen() {
			return fmt.Errorf("bad value: a prefix of %d bits in an address of %d", bits, m.Dst.IP.BitLen())
		}
		setMask(m, bits)
		c.host = bits == m.Dst.IP.BitLen()
	}
	if w.mask != "" {
		a, err := r.mask(w.mask)
		if err != nil {
			return err
		}
		if a.Family != m.Dst.Family {
			return fmt.Errorf("the netmask %s is not of the destination's family", w.mask)
		}
		if m.Netmask, m.NetmaskBits = a, protocol.MaskBits(a); m.NetmaskBits < 0 {
			return fmt.Errorf("the netmask %s has holes: its ones must come before its zeros", w.mask)
		}
	}
	if w.forceHost {
		c.host = true
	}
	if w.forceNet {
		c.host = false
	}
	if c.host {
		m.Netmask, m.NetmaskBits = protocol.Addr{}, -1
	}
	return nil
}

func setMask(m *protocol.RouteMessage, bits int) {
	m.Netmask, m.NetmaskBits = protocol.MaskAddr(m.Dst.Family, bits), bits
}

// inet reads an IPv4 destination. A network's numbers stand at the left
// (10.25 is 10.25.0.0), with the netmask of their class; a host's follow
// inet_aton (10.25 is 10.0.0.25), and one whose host part is zero by class is
// a network after all.
func (r reader) inet(text string, cidr, net bool, c *change) error {
	m := &c.msg
	if !net {
		if a, err := protocol.ParseInetAton(text); err == nil {
			bits := protocol.ClassBits(a)
			m.Dst = protocol.AddrFrom(a, 0)
			c.host = netip.PrefixFrom(a, bits).Masked().Addr() != a
			if !c.host {
				m.Dst, bits = network(be(a))
				setMask(m, bits)
			}
			return nil
		}
	}
	if v, n, ok := inetNetwork(text); ok {
		bits := 0
		if cidr {
			v <<= 8 * (4 - n)
			m.Dst = protocol.AddrFrom(from(v), 0)
			return nil
		}
		m.Dst, bits = network(v)
		setMask(m, bits)
		return nil
	}
	a, err := r.lookup(text)
	if err != nil {
		return err
	}
	m.Dst, c.host = protocol.AddrFrom(a[0], 0), true
	return nil
}

// inetNetwork is inet_network: up to four numbers of at most 255, the last
// one the lowest octet. n is how many there were.
func inetNetwork(s string) (v uint32, n int, ok bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return be(a), 4, true // the usual spelling, at less cost
	}
	for part := range strings.SplitSeq(s, ".") {
		base := 10
		switch {
		case strings.HasPrefix(part, "0x"), strings.HasPrefix(part, "0X"):
			part, base = part[2:], 16
		case len(part) > 1 && part[0] == '0':
			part, base = part[1:], 8
		}
		p, err := strconv.ParseUint(part, base, 8)
		if n++; err != nil || n > 4 {
			return 0, 0, false
		}
		v = v<<8 | uint32(p)
	}
	return v, n, true
}

// network places the number of a network at the left of an address and finds
// the mask of its class.
func network(v uint32) (protocol.Addr, int) {
	bits := 0
	switch {
	case v == 0:
	case v < 1<<7:
		v, bits = v<<24, 8
	case v < 1<<16:
		v, bits = v<<16, 16
	case v < 1<<24:
		v, bits = v<<8, 24
	case v&0xffffff == 0:
		bits = 8
	case v&0xffff == 0:
		bits = 16
	case v&0xff == 0:
		bits = 24
	default:
		bits = 32
	}
	return protocol.AddrFrom(from(v), 0), bits
}

func be(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func from(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// gateway reads the gateway: an address, a host's name, or with toInterface
// also an interface's name.
func (r reader) gateway(s string, toInterface bool) (protocol.Addr, []netip.Addr, error) {
	if s == "default" {
		if r.family == protocol.AFInet6 {
			return protocol.AddrFrom(netip.IPv6Unspecified(), 0), nil, nil
		}
		return protocol.AddrFrom(netip.IPv4Unspecified(), 0), nil, nil
	}
	if r.family == protocol.AFLink {
		a, err := link(s)
		return a, nil, err
	}
	if toInterface && isInterface(s) {
		return protocol.LinkAddrOf(protocol.LinkAddr{Name: s}), nil, nil
	}
	if hw, err := hardware(s); err == nil && r.family == 0 {
		return protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, "", hw)), nil, nil
	}
	a, err := r.addresses(s)
	if err != nil {
		return protocol.Addr{}, nil, err
	}
	return protocol.AddrFrom(a[0], 0), a[1:], nil
}

// host reads one address or name.
func (r reader) host(s string) (protocol.Addr, error) {
	a, err := r.addresses(s)
	if err != nil {
		return protocol.Addr{}, err
	}
	return protocol.AddrFrom(a[0], 0), nil
}

func (r reader) addresses(s string) ([]netip.Addr, error) {
	if r.inet6(s) {
		a, err := netip.ParseAddr(s)
		switch {
		case err == nil && a.Is6():
			return []netip.Addr{a}, nil
		case err == nil || strings.Trim(s, "0123456789.") == "" || strings.Contains(s, ":"):
			return nil, fmt.Errorf("%s: bad value: an IPv6 address belongs there", s)
		}
		return r.lookup(s)
	}
	if a, err := protocol.ParseInetAton(s); err == nil {
		return []netip.Addr{a}, nil
	}
	return r.lookup(s)
}

// lookup asks for the addresses of a name: those of IPv4 unless the family is
// said.
func (r reader) lookup(s string) ([]netip.Addr, error) {
	why := errNoAddress
	if s != "" && strings.Trim(s, "0123456789.") != "" && r.names != nil {
		all, err := r.names.LookupHost(r.ctx, s)
		if err != nil {
			why = err
		}
		var found []netip.Addr
		for _, a := range all {
			if a = a.Unmap(); a.Is6() == (r.family == protocol.AFInet6) {
				found = append(found, a)
			}
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, fmt.Errorf("bad value: %s: neither an address nor a known host: %w", s, why)
}

// mask reads a netmask.
func (r reader) mask(s string) (protocol.Addr, error) {
	if s == "default" {
		if r.family == protocol.AFInet6 {
			return protocol.AddrFrom(netip.IPv6Unspecified(), 0), nil
		}
		return protocol.AddrFrom(netip.IPv4Unspecified(), 0), nil
	}
	if r.inet6(s) {
		if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
			return protocol.Addr{Family: protocol.AFInet6, IP: a}, nil
		}
	} else if a, err := protocol.ParseInetAton(s); err == nil {
		return protocol.AddrFrom(a, 0), nil
	}
	if r.inet6(s) {
		return protocol.Addr{}, fmt.Errorf("bad value: %s: a netmask like ffff:ffff:: belongs there (or -prefixlen 32)", s)
	}
	return protocol.Addr{}, fmt.Errorf("bad value: %s: a netmask like 255.255.0.0 belongs there", s)
}

// isInterface says whether s looks like an interface's name: letters, then
// digits.
func isInterface(s string) bool {
	letters := strings.TrimRight(s, "0123456789")
	return letters != "" && letters != s && len(s) < protocol.IfNameLen &&
		strings.Trim(letters, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}

// link reads a link address as link_addr does: a name, octets in hexadecimal,
// or both with a colon between (en0:0.50.da.c8.2f.96).
func link(s string) (protocol.Addr, error) {
	if isInterface(s) {
		return protocol.LinkAddrOf(protocol.LinkAddr{Name: s}), nil
	}
	name, rest := "", s
	if head, tail, ok := strings.Cut(s, ":"); ok && isInterface(head) {
		name, rest = head, tail
	}
	hw, err := hardware(rest)
	if err != nil {
		return protocol.Addr{}, fmt.Errorf("bad value: %s: a link address like en0 or en0:0.50.da.c8.2f.96 belongs there", s)
	}
	return protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, name, hw)), nil
}

var errNoHardware = errors.New("not six octets")

// hardware reads six octets in hexadecimal with colons or dots between.
func hardware(s string) ([]byte, error) {
	if strings.Count(s, ":")+strings.Count(s, ".") != 5 {
		return nil, errNoHardware
	}
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '.' })
	if len(parts) != 6 {
		return nil, errNoHardware
	}
	hw := make([]byte, 0, 6)
	for _, p := range parts {
		if len(p) == 1 {
			p = "0" + p
		}
		b, err := hex.DecodeString(p)
		if err != nil || len(b) != 1 {
			return nil, fmt.Errorf("%q is not an octet", p)
		}
		hw = append(hw, b[0])
	}
	return hw, nil
}
