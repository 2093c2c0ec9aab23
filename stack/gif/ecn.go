package gif

import (
	"encoding/binary"

	"ionet/stack/packet"
)

// The ECN field of a TOS or traffic class octet (RFC 3168 §5).
const (
	ecnMask = 3
	notECT  = 0
	ect1    = 1
	ect0    = 2
	ce      = 3
)

// classOf is the TOS or traffic class of a packet with a whole header. As on BSD the
// outer header has all of it: of the differentiated services this is RFC
// 2983's uniform way, of ECN RFC 6040's normal mode (§4.1). KAME did the
// latter with link1 alone.
func classOf(b []byte) uint8 {
	if b[0]>>4 == 6 {
		return packet.IPv6(b).Class()
	}
	return packet.IPv4(b).TOS()
}

// setClass writes it, the checksum of IPv4 included.
func setClass(b []byte, class uint8) {
	if b[0]>>4 == 6 {
		packet.IPv6(b).SetClass(class)
		return
	}
	old := binary.BigEndian.Uint16(b)
	b[1] = class
	binary.BigEndian.PutUint16(b[10:], packet.UpdateChecksum(packet.IPv4(b).Checksum(), old, binary.BigEndian.Uint16(b)))
}

// ecnOut is the class of an inner packet that leaves a tunnel (RFC 6040 §4.2).
// false: congestion was met by a packet whose ends know of no ECN, so that its
// loss has to tell them.
func ecnOut(outer, inner uint8) (class uint8, ok bool) {
	switch in := inner & ecnMask; outer & ecnMask {
	case ce:
		return inner | ce, in != notECT
	case ect1:
		if in == ect0 {
			return inner&^ecnMask | ect1, true
		}
	}
	return inner, true
}
