package packet

import "encoding/binary"

// Ethernet: destination (0–5), source (6–11), type (12–13, network order).
const (
	EtherLen = 14

	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherVLAN = 0x8100
	EtherIPv6 = 0x86dd
)

// Ether is a view of a frame from its destination address on.
type Ether []byte

// CheckEther answers a view of b, or false when it is no whole header.
func CheckEther(b []byte) (Ether, bool) { return Ether(b), len(b) >= EtherLen }

func (h Ether) Dst() [6]byte    { return [6]byte(h[0:6]) }
func (h Ether) Src() [6]byte    { return [6]byte(h[6:12]) }
func (h Ether) Type() uint16    { return binary.BigEndian.Uint16(h[12:]) }
func (h Ether) Payload() []byte { return h[EtherLen:] }

// PutEther writes a header into b, which has EtherLen octets.
func PutEther(b []byte, dst, src [6]byte, typ uint16) {
	copy(b[0:6], dst[:])
	copy(b[6:12], src[:])
	binary.BigEndian.PutUint16(b[12:], typ)
}

// A tag of IEEE 802.1Q lies behind the addresses: the type EtherVLAN, and in two
// octets a priority (3 bits), drop eligibility (1) and the number of a VLAN (12). What
// lies behind the Ethernet header is then these two octets and the type.
const VLANTagLen = 4

// VLANTag reads the two octets behind an Ethernet header of type EtherVLAN, and the type
// behind them.
func VLANTag(b []byte) (id, typ uint16) {
	return binary.BigEndian.Uint16(b) & 0xfff, binary.BigEndian.Uint16(b[2:])
}
