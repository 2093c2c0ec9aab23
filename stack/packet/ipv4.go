package packet

import (
	"encoding/binary"
	"net/netip"
)

// IPv4 (RFC 791).
const (
	IPv4Len    = 20
	IPv4MaxLen = 60

	IPv4DF      = 0x4000
	IPv4MF      = 0x2000
	IPv4OffMask = 0x1fff // in units of eight octets
)

// Upper-layer protocols.
const (
	ProtoICMP   = 1
	ProtoIGMP   = 2
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// IPv4 is a view of a packet from its IPv4 header on.
type IPv4 []byte

// CheckIPv4 answers a view of b, or false when b holds no whole, plausible
// header: version 4, header length at least 20 and within b, total length at
// least the header's. Whether the total length fits b is for the caller.
func CheckIPv4(b []byte) (IPv4, bool) {
	if len(b) < IPv4Len || b[0]>>4 != 4 {
		return nil, false
	}
	h := IPv4(b)
	n := h.HeaderLen()
	return h, n >= IPv4Len && n <= len(b) && h.TotalLen() >= n
}

func (h IPv4) HeaderLen() int      { return int(h[0]&15) << 2 }
func (h IPv4) TOS() uint8          { return h[1] }
func (h IPv4) TotalLen() int       { return int(binary.BigEndian.Uint16(h[2:])) }
func (h IPv4) ID() uint16          { return binary.BigEndian.Uint16(h[4:]) }
func (h IPv4) FragField() uint16   { return binary.BigEndian.Uint16(h[6:]) }
func (h IPv4) FragOff() int        { return int(h.FragField()&IPv4OffMask) << 3 }
func (h IPv4) MF() bool            { return h[6]&0x20 != 0 }
func (h IPv4) DF() bool            { return h[6]&0x40 != 0 }
func (h IPv4) TTL() uint8          { return h[8] }
func (h IPv4) Proto() uint8        { return h[9] }
func (h IPv4) Checksum() uint16    { return binary.BigEndian.Uint16(h[10:]) }
func (h IPv4) Src() netip.Addr     { return netip.AddrFrom4([4]byte(h[12:16])) }
func (h IPv4) Dst() netip.Addr     { return netip.AddrFrom4([4]byte(h[16:20])) }
func (h IPv4) Options() []byte     { return h[IPv4Len:h.HeaderLen()] }
func (h IPv4) Payload() []byte     { return h[h.HeaderLen():] }
func (h IPv4) SetTotalLen(n int)   { binary.BigEndian.PutUint16(h[2:], uint16(n)) }
func (h IPv4) SetID(id uint16)     { binary.BigEndian.PutUint16(h[4:], id) }
func (h IPv4) SetFrag(f uint16)    { binary.BigEndian.PutUint16(h[6:], f) }
func (h IPv4) SetSrc(a netip.Addr) { s := a.As4(); copy(h[12:16], s[:]) }
func (h IPv4) SetDst(a netip.Addr) { d := a.As4(); copy(h[16:20], d[:]) }

// SetChecksum computes the header checksum.
func (h IPv4) SetChecksum() {
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], Checksum(h[:h.HeaderLen()]))
}

// ChecksumOK verifies the header checksum.
func (h IPv4) ChecksumOK() bool { return Fold(Sum(0, h[:h.HeaderLen()])) == 0xffff }

// DecTTL takes one off the TTL and mends the checksum (RFC 1624).
func (h IPv4) DecTTL() {
	old := binary.BigEndian.Uint16(h[8:])
	h[8]--
	binary.BigEndian.PutUint16(h[10:], UpdateChecksum(h.Checksum(), old, binary.BigEndian.Uint16(h[8:])))
}

// PutIPv4 writes a header without its checksum; b has room for it and the
// options, whose length is a multiple of four.
func PutIPv4(b []byte, tos uint8, total int, id, frag uint16, ttl, proto uint8, src, dst netip.Addr, options []byte) IPv4 {
	h := IPv4(b)
	n := IPv4Len + len(options)
	h[0], h[1] = byte(4<<4|n>>2), tos
	h.SetTotalLen(total)
	h.SetID(id)
	h.SetFrag(frag)
	h[8], h[9], h[10], h[11] = ttl, proto, 0, 0
	h.SetSrc(src)
	h.SetDst(dst)
	copy(h[IPv4Len:], options)
	return h
}
