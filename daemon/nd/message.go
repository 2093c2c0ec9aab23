// Package nd is neighbour discovery as daemons speak it: the messages between
// routers and hosts (RFC 4861 §4.1, §4.2, RFC 4191, RFC 6275 §7, RFC 8106), and the
// raw ICMPv6 socket that carries them.
package nd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Types of the messages (RFC 4861 §4).
const (
	TypeSolicit = 133
	TypeAdvert  = 134
)

// HopLimit is what every message is sent with; one that comes with less has
// passed a router (RFC 4861 §6.1).
const HopLimit = 255

// Infinity is the lifetime that never ends, in seconds.
const Infinity = 0xffffffff

// Flags of a [RouterAdvert].
const (
	Managed   = 0x80 // addresses are to be had by DHCPv6
	Other     = 0x40 // other things are
	HomeAgent = 0x20 // RFC 6275 §7.1
)

// Preferences of a router or of a route to more than it: two's complement in
// bits 3 and 4 (RFC 4191 §2.1). PrefReserved says nothing and counts as medium.
const (
	PrefMask     = 0x18
	PrefMedium   = 0x00
	PrefHigh     = 0x08
	PrefReserved = 0x10
	PrefLow      = 0x18
)

// Flags of a [Prefix].
const (
	OnLink     = 0x80
	Autonomous = 0x40
	RouterAddr = 0x20 // RFC 6275 §7.2
)

// Where the groups are that the messages are sent to.
var (
	AllNodes   = netip.MustParseAddr("ff02::1")
	AllRouters = netip.MustParseAddr("ff02::2")
)

// Options (RFC 4861 §4.6, RFC 4191 §2.3, RFC 6275 §7.3, §7.4, RFC 8106 §5).
const (
	optSourceLink = 1
	optPrefix     = 3
	optMTU        = 5
	optInterval   = 7
	optHomeAgent  = 8
	optRoute      = 24
	optServers    = 25
	optSearch     = 31
)

const (
	solicitLen = 8
	advertLen  = 16
)

// Prefix is a prefix information option. Lifetimes are seconds.
type Prefix struct {
	Prefix           netip.Prefix
	Flags            uint8
	Valid, Preferred uint32
}

// Route is a route information option (RFC 4191 §2.3).
type Route struct {
	Prefix   netip.Prefix
	Pref     uint8 // Pref*
	Lifetime uint32
}

// Servers is a recursive DNS server option (RFC 8106 §5.1).
type Servers struct {
	Lifetime uint32
	Addrs    []netip.Addr // one at least
}

// Search is a DNS search list option (RFC 8106 §5.2).
type Search struct {
	Lifetime uint32
	Domains  []string // without the dot at the end; one at least
}

// Agent is a home agent information option (RFC 6275 §7.4).
type Agent struct {
	Preference, Lifetime uint16
}

// RouterAdvert is a router advertisement.
type RouterAdvert struct {
	HopLimit uint8  // for hosts to send with; 0 not said
	Flags    uint8  // Managed, Other, HomeAgent, Pref*
	Lifetime uint16 // seconds as a default router; 0: it is none

	Reachable, Retrans uint32 // milliseconds; 0 not said

	LinkAddr []byte // of the sender; nil not said
	MTU      uint32 // 0 not said
	Interval uint32 // milliseconds between advertisements at most (RFC 6275 §7.3); 0 not said
	Agent    *Agent
	Prefixes []Prefix
	Routes   []Route
	Servers  []Servers
	Search   []Search
}

// Append appends the message; its checksum is left to the socket (RFC 3542 §3.1).
func (m *RouterAdvert) Append(b []byte) []byte {
	b = append(b, TypeAdvert, 0, 0, 0, m.HopLimit, m.Flags)
	b = binary.BigEndian.AppendUint16(b, m.Lifetime)
	b = binary.BigEndian.AppendUint32(b, m.Reachable)
	b = binary.BigEndian.AppendUint32(b, m.Retrans)
	if m.LinkAddr != nil {
		b = appendLink(b, m.LinkAddr)
	}
	if m.MTU != 0 {
		b = append(b, optMTU, 1, 0, 0)
		b = binary.BigEndian.AppendUint32(b, m.MTU)
	}
	if m.Interval != 0 {
		b = append(b, optInterval, 1, 0, 0)
		b = binary.BigEndian.AppendUint32(b, m.Interval)
	}
	if m.Agent != nil {
		b = append(b, optHomeAgent, 1, 0, 0)
		b = binary.BigEndian.AppendUint16(b, m.Agent.Preference)
		b = binary.BigEndian.AppendUint16(b, m.Agent.Lifetime)
	}
	for _, p := range m.Prefixes {
		b = append(b, optPrefix, 4, byte(p.Prefix.Bits()), p.Flags)
		b = binary.BigEndian.AppendUint32(b, p.Valid)
		b = binary.BigEndian.AppendUint32(b, p.Preferred)
		b = append(b, 0, 0, 0, 0)
		b = append(b, p.Prefix.Addr().AsSlice()...)
	}
	for _, r := range m.Routes {
		// As many octets of the prefix as it has bits, in steps of 8 (RFC 4191 §2.3).
		words := (r.Prefix.Bits() + 63) / 64
		b = append(b, optRoute, byte(1+words), byte(r.Prefix.Bits()), r.Pref&PrefMask)
		b = binary.BigEndian.AppendUint32(b, r.Lifetime)
		b = append(b, r.Prefix.Addr().AsSlice()[:8*words]...)
	}
	for _, s := range m.Servers {
		b = append(b, optServers, byte(1+2*len(s.Addrs)), 0, 0)
		b = binary.BigEndian.AppendUint32(b, s.Lifetime)
		for _, a := range s.Addrs {
			b = append(b, a.AsSlice()...)
		}
	}
	for _, s := range m.Search {
		at := len(b)
		b = append(b, optSearch, 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, s.Lifetime)
		for _, d := range s.Domains {
			b = appendName(b, d)
		}
		for (len(b)-at)%8 != 0 {
			b = append(b, 0)
		}
		b[at+1] = byte((len(b) - at) / 8)
	}
	return b
}

// Len is how long Append makes the message.
func (m *RouterAdvert) Len() int { return len(m.Append(nil)) }

// appendLink appends a source link-layer address, filled to a multiple of 8.
func appendLink(b, hw []byte) []byte {
	n := (2 + len(hw) + 7) / 8
	b = append(append(b, optSourceLink, byte(n)), hw...)
	return append(b, make([]byte, 8*n-2-len(hw))...)
}

// appendName appends a name as labels (RFC 1035 §3.1), never compressed (RFC 8106 §5.2).
func appendName(b []byte, name string) []byte {
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// CheckName reports why a domain cannot stand in a search list.
func CheckName(name string) error {
	if len(name) > 253 {
		return fmt.Errorf("%q is longer than the 253 octets that a domain may have", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q is no domain: a label of %d octets", name, len(label))
		}
	}
	return nil
}

var (
	errShort    = errors.New("it is too short")
	errOption   = errors.New("an option is longer than the message, or has no length")
	errCode     = errors.New("its code is not 0")
	errLinkFrom = errors.New("it comes from no link-local address")
	errHopLimit = errors.New("it has passed a router")
	errNobody   = errors.New("it has a link address, and no source address")
	errType     = errors.New("it is another message")
)

// options calls f for each option; value begins behind type and length.
func options(b []byte, f func(typ byte, value []byte)) error {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || int(b[1])*8 > len(b) {
			return errOption
		}
		n := int(b[1]) * 8
		f(b[0], b[2:n])
		b = b[n:]
	}
	return nil
}

// ParseAdvert reads a router advertisement that came in p, and holds it to RFC
// 4861 §6.1.2 (the checksum is the stack's matter). Options that say nothing
// sensible are passed over.
func ParseAdvert(p Packet) (*RouterAdvert, error) {
	b := p.Data
	switch {
	case len(b) < advertLen:
		return nil, errShort
	case b[0] != TypeAdvert:
		return nil, errType
	case b[1] != 0:
		return nil, errCode
	case p.HopLimit != HopLimit:
		return nil, errHopLimit
	case !p.Src.IsLinkLocalUnicast():
		return nil, errLinkFrom
	}
	m := &RouterAdvert{HopLimit: b[4], Flags: b[5], Lifetime: binary.BigEndian.Uint16(b[6:]),
		Reachable: binary.BigEndian.Uint32(b[8:]), Retrans: binary.BigEndian.Uint32(b[12:])}
	if err := options(b[advertLen:], m.option); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *RouterAdvert) option(typ byte, v []byte) {
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(v[at:]) }
	switch {
	case typ == optSourceLink:
		m.LinkAddr = v
	case typ == optMTU && len(v) == 6:
		m.MTU = u32(2)
	case typ == optInterval && len(v) == 6:
		m.Interval = u32(2)
	case typ == optHomeAgent && len(v) == 6:
		m.Agent = &Agent{binary.BigEndian.Uint16(v[2:]), binary.BigEndian.Uint16(v[4:])}
	case typ == optPrefix && len(v) == 30:
		if p, ok := prefix(v[14:], v[0]); ok {
			m.Prefixes = append(m.Prefixes, Prefix{Prefix: p, Flags: v[1], Valid: u32(2), Preferred: u32(6)})
		}
	case typ == optRoute && (len(v) == 6 || len(v) == 14 || len(v) == 22):
		if int(v[0]) > 8*(len(v)-6) {
			return
		}
		if p, ok := prefix(v[6:], v[0]); ok {
			m.Routes = append(m.Routes, Route{Prefix: p, Pref: v[1] & PrefMask, Lifetime: u32(2)})
		}
	case typ == optServers && len(v) >= 22 && (len(v)-6)%16 == 0:
		s := Servers{Lifetime: u32(2)}
		for a := v[6:]; len(a) > 0; a = a[16:] {
			s.Addrs = append(s.Addrs, netip.AddrFrom16([16]byte(a)))
		}
		m.Servers = append(m.Servers, s)
	case typ == optSearch && len(v) >= 14:
		if d := names(v[6:]); len(d) > 0 {
			m.Search = append(m.Search, Search{Lifetime: u32(2), Domains: d})
		}
	}
}

// prefix is the first bits of b, which may be shorter than an address.
func prefix(b []byte, bits byte) (netip.Prefix, bool) {
	var a [16]byte
	copy(a[:], b)
	p, err := netip.AddrFrom16(a).Prefix(int(bits))
	return p, err == nil
}

// names are the domains of a search list up to the padding or the first that is
// none.
func names(b []byte) (out []string) {
	for len(b) > 0 && b[0] != 0 {
		var labels []string
		for len(b) > 0 && b[0] != 0 {
			n := int(b[0])
			if n > 63 || n >= len(b) || strings.ContainsRune(string(b[1:1+n]), '.') {
				return out
			}
			labels = append(labels, string(b[1:1+n]))
			b = b[1+n:]
		}
		name := strings.Join(labels, ".")
		if len(b) == 0 || CheckName(name) != nil {
			return out
		}
		out, b = append(out, name), b[1:]
	}
	return out
}

// AppendSolicit appends a router solicitation with the sender's link address, or
// without one (nil).
func AppendSolicit(b, hw []byte) []byte {
	b = append(b, TypeSolicit, 0, 0, 0, 0, 0, 0, 0)
	if hw != nil {
		b = appendLink(b, hw)
	}
	return b
}

// CheckSolicit holds a router solicitation that came in p to RFC 4861 §6.1.1.
func CheckSolicit(p Packet) error {
	b := p.Data
	switch {
	case len(b) < solicitLen:
		return errShort
	case b[0] != TypeSolicit:
		return errType
	case b[1] != 0:
		return errCode
	case p.HopLimit != HopLimit:
		return errHopLimit
	}
	linked := false
	if err := options(b[solicitLen:], func(typ byte, _ []byte) { linked = linked || typ == optSourceLink }); err != nil {
		return err
	}
	if linked && p.Src.IsUnspecified() {
		return errNobody
	}
	return nil
}
