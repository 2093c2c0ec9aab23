package packet

import "encoding/binary"

// UDPLen is the length of a UDP header (RFC 768): source port, destination
// port, length, checksum, two octets each.
const UDPLen = 8

// UDPCsumOffset is where the checksum stands.
const UDPCsumOffset = 6

// UDP is a view of a datagram from its UDP header on.
type UDP []byte

// CheckUDP answers a view of b, or false when the header is not whole or the
// length field is below 8 or beyond b.
func CheckUDP(b []byte) (UDP, bool) {
	if len(b) < UDPLen {
		return nil, false
	}
	h := UDP(b)
	return h, h.Len() >= UDPLen && h.Len() <= len(b)
}

func (h UDP) SrcPort() uint16  { return binary.BigEndian.Uint16(h) }
func (h UDP) DstPort() uint16  { return binary.BigEndian.Uint16(h[2:]) }
func (h UDP) Len() int         { return int(binary.BigEndian.Uint16(h[4:])) }
func (h UDP) Checksum() uint16 { return binary.BigEndian.Uint16(h[6:]) }

// PutUDP writes a header; sum is what the checksum field gets.
func PutUDP(b []byte, src, dst uint16, length int, sum uint16) {
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	binary.BigEndian.PutUint16(b[6:], sum)
}
