package packet

import (
	"encoding/binary"
	"net/netip"
)

// Neighbour discovery messages (RFC 4861 §4), each behind type, code, checksum.
const (
	RouterSolLen   = 8  // reserved
	RouterAdvLen   = 16 // hop limit, flags, lifetime, reachable, retrans
	NeighborSolLen = 24 // reserved, target
	NeighborAdvLen = 24 // flags, target
	RedirectLen    = 40 // reserved, target, destination
)

// Flags of advertisements.
const (
	NAFlagRouter    = 0x80
	NAFlagSolicited = 0x40
	NAFlagOverride  = 0x20

	RAFlagManaged = 0x80
	RAFlagOther   = 0x40
	RAFlagHome    = 0x20
	RAPrefMask    = 0x18 // RFC 4191 §2.2: 01 high, 00 medium, 11 low
	RAFlagProxy   = 0x04
)

// Options (RFC 4861 §4.6, RFC 3971 §5.3.2, RFC 4191, RFC 8106).
const (
	NDOptSourceLink = 1
	NDOptTargetLink = 2
	NDOptPrefix     = 3
	NDOptRedirected = 4
	NDOptMTU        = 5
	NDOptNonce      = 14
	NDOptRouteInfo  = 24
	NDOptRDNSS      = 25
	NDOptDNSSL      = 31

	NDPrefixLen    = 32
	PrefixOnLink   = 0x80
	PrefixAutoconf = 0x40
)

// RouterAdv is a view of a Router Advertisement (RFC 4861 §4.2).
type RouterAdv []byte

func (h RouterAdv) HopLimit() uint8   { return h[4] }
func (h RouterAdv) Flags() uint8      { return h[5] }
func (h RouterAdv) Lifetime() uint16  { return binary.BigEndian.Uint16(h[6:]) } // seconds
func (h RouterAdv) Reachable() uint32 { return binary.BigEndian.Uint32(h[8:]) } // milliseconds
func (h RouterAdv) Retrans() uint32   { return binary.BigEndian.Uint32(h[12:]) }
func (h RouterAdv) Options() []byte   { return h[RouterAdvLen:] }

// Neighbor is a view of a Neighbour Solicitation or Advertisement (RFC 4861
// §4.3, §4.4).
type Neighbor []byte

func (h Neighbor) Flags() uint8       { return h[4] } // of an advertisement
func (h Neighbor) Target() netip.Addr { return netip.AddrFrom16([16]byte(h[8:24])) }
func (h Neighbor) Options() []byte    { return h[NeighborSolLen:] }

// PutNeighbor writes a solicitation or advertisement without options and
// checksum; b has NeighborSolLen octets.
func PutNeighbor(b []byte, typ, flags uint8, target netip.Addr) Neighbor {
	h := Neighbor(b)
	clear(h[:8])
	h[0], h[4] = typ, flags
	putAddr6(h[8:24], target)
	return h
}

// Redirect is a view of a Redirect (RFC 4861 §4.5).
type Redirect []byte

func (h Redirect) Target() netip.Addr      { return netip.AddrFrom16([16]byte(h[8:24])) }
func (h Redirect) Destination() netip.Addr { return netip.AddrFrom16([16]byte(h[24:40])) }
func (h Redirect) Options() []byte         { return h[RedirectLen:] }

// PutRedirect writes a redirect without options and checksum; b has RedirectLen
// octets.
func PutRedirect(b []byte, target, dst netip.Addr) Redirect {
	h := Redirect(b)
	clear(h[:8])
	h[0] = ICMP6Redirect
	putAddr6(h[8:24], target)
	putAddr6(h[24:40], dst)
	return h
}

// NDOption is a view of one option, from its type on.
type NDOption []byte

func (o NDOption) Type() uint8  { return o[0] }
func (o NDOption) Data() []byte { return o[2:] }

// NextNDOption takes the first option from opts. ok is false when its length is
// 0 or more than there is: the whole message is then void (RFC 4861 §6.1.2,
// §7.1.1).
func NextNDOption(opts []byte) (o NDOption, rest []byte, ok bool) {
	if len(opts) < 8 {
		return nil, nil, false
	}
	n := int(opts[1]) * 8
	if n == 0 || n > len(opts) {
		return nil, nil, false
	}
	return NDOption(opts[:n:n]), opts[n:], true
}

// CheckNDOptions reports whether all options are well-formed.
func CheckNDOptions(opts []byte) bool {
	for len(opts) > 0 {
		var ok bool
		if _, opts, ok = NextNDOption(opts); !ok {
			return false
		}
	}
	return true
}

// FindNDOption is the first option of a type; nil: there is none. The options
// are well-formed.
func FindNDOption(opts []byte, typ uint8) NDOption {
	for len(opts) > 0 {
		o, rest, ok := NextNDOption(opts)
		if !ok {
			return nil
		}
		if o.Type() == typ {
			return o
		}
		opts = rest
	}
	return nil
}

// AppendNDLink writes a source or target link-address option of an Ethernet
// address to b, which has 8 octets.
func AppendNDLink(b []byte, typ uint8, mac [6]byte) {
	b[0], b[1] = typ, 1
	copy(b[2:8], mac[:])
}

// NDPrefix is a view of a Prefix Information option (RFC 4861 §4.6.2).
type NDPrefix []byte

func (o NDPrefix) Bits() int         { return int(o[2]) }
func (o NDPrefix) Flags() uint8      { return o[3] }
func (o NDPrefix) Valid() uint32     { return binary.BigEndian.Uint32(o[4:]) } // seconds; all ones: for ever
func (o NDPrefix) Preferred() uint32 { return binary.BigEndian.Uint32(o[8:]) }
func (o NDPrefix) Addr() netip.Addr  { return netip.AddrFrom16([16]byte(o[16:32])) }

// SolicitedNode is the solicited-node group of an address (RFC 4291 §2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 10: 0, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
