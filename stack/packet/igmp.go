package packet

import (
	"encoding/binary"
	"net/netip"
)

// IGMP (RFC 1112, RFC 2236, RFC 3376).
const (
	IGMPLen = 8 // versions 1 and 2, and a version 3 report's header

	IGMPQuery    = 0x11
	IGMPv1Report = 0x12
	IGMPv2Report = 0x16
	IGMPv2Leave  = 0x17
	IGMPv3Report = 0x22
)

// IGMP is a view of a message.
type IGMP []byte

// CheckIGMP answers a view of b, or false when it is too short or, being a
// version 3 query, shorter than its list of sources.
func CheckIGMP(b []byte) (IGMP, bool) {
	if len(b) < IGMPLen {
		return nil, false
	}
	m := IGMP(b)
	return m, len(b) < 12 || m.Type() != IGMPQuery || len(b) >= 12+4*m.NSources()
}

func (m IGMP) Type() uint8       { return m[0] }
func (m IGMP) MaxResp() uint8    { return m[1] }
func (m IGMP) Group() netip.Addr { return netip.AddrFrom4([4]byte(m[4:8])) }
func (m IGMP) NSources() int     { return int(binary.BigEndian.Uint16(m[10:])) }
func (m IGMP) ChecksumOK() bool  { return Fold(Sum(0, m)) == 0xffff }

// Source is the i-th source of a version 3 query.
func (m IGMP) Source(i int) netip.Addr { return netip.AddrFrom4([4]byte(m[12+4*i : 16+4*i])) }

// MaxRespTenths is the response time of a version 3 query in tenths of a
// second (RFC 3376 §4.1.1).
func (m IGMP) MaxRespTenths() int {
	c := int(m[1])
	if c < 128 {
		return c
	}
	return (c&15 | 16) << (c>>4&7 + 3)
}

// SetChecksum computes the checksum of the whole message.
func (m IGMP) SetChecksum() {
	m[2], m[3] = 0, 0
	binary.BigEndian.PutUint16(m[2:], Checksum(m))
}
