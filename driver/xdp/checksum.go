package xdp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"ionet/driver/vnet"
	"ionet/stack/packet"
)

// unfinished recognises a transport checksum that its sender has left to the
// interface: it is the sum of the pseudo-header. A veth passes such frames on as
// they are, and what it knows of them is lost on the way through XDP.
//
// A finished checksum that equals that sum, one in 65,536, is taken for
// unfinished too. That changes nothing: to complete it gives the same value, if
// it is right. Of damaged frames, one in 65,536 more is not found out.
func unfinished(frame []byte) (start int, offset uint16, ok bool) {
	be := binary.BigEndian
	ip := frame[vnet.EtherLen:]
	var proto byte
	var n int // octets from the transport header on
	switch be.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		h, ok := packet.CheckIPv4(ip)
		if !ok || h.FragField()&^0x4000 != 0 {
			return 0, 0, false
		}
		proto, start, n = h.Proto(), h.HeaderLen(), h.TotalLen()-h.HeaderLen()
	case unix.ETH_P_IPV6:
		h, ok := packet.CheckIPv6(ip)
		if !ok {
			return 0, 0, false
		}
		proto, start, n = h.Next(), packet.IPv6Len, h.PayloadLen()
	default:
		return 0, 0, false
	}
	switch proto {
	case unix.IPPROTO_TCP:
		offset = 16
	case unix.IPPROTO_UDP:
		offset = 6
	default:
		return 0, 0, false
	}
	if int(offset)+2 > n || start+n > len(ip) {
		return 0, 0, false
	}
	sum := packet.Fold(packet.HeaderPseudoSum(ip, proto, n))
	return vnet.EtherLen + start, offset, be.Uint16(ip[start+int(offset):]) == sum
}
