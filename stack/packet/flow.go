package packet

import "encoding/binary"

// Flow names the packets of one direction of a conversation as they come in:
// addresses as on the wire, for IPv4 in the low word. Of protocols without ports
// both are 0, and an echo's identifier is both.
type Flow struct {
	SrcHi, SrcLo uint64
	DstHi, DstLo uint64
	Sport, Dport uint16
	If           uint16 // index of the interface that they come in by
	Proto        uint8
	V6           bool
}

// Flow4 is the flow of a whole packet of IPv4 without options.
func (f *Flow) Flow4(h IPv4, ifindex uint32) {
	_ = h[IPv4Len-1]
	f.SrcHi, f.SrcLo = 0, uint64(binary.BigEndian.Uint32(h[12:]))
	f.DstHi, f.DstLo = 0, uint64(binary.BigEndian.Uint32(h[16:]))
	f.If, f.Proto, f.V6 = uint16(ifindex), h[9], false
	f.ports(h[IPv4Len:], ProtoICMP, ICMPEcho, ICMPEchoReply)
}

// Flow6 is the flow of a packet of IPv6 without extension headers.
func (f *Flow) Flow6(h IPv6, ifindex uint32) {
	_ = h[IPv6Len-1]
	f.SrcHi, f.SrcLo = binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:])
	f.DstHi, f.DstLo = binary.BigEndian.Uint64(h[24:]), binary.BigEndian.Uint64(h[32:])
	f.If, f.Proto, f.V6 = uint16(ifindex), h[6], true
	f.ports(h[IPv6Len:], ProtoICMPv6, ICMP6Echo, ICMP6EchoReply)
}

func (f *Flow) ports(b []byte, icmp, echo, reply uint8) {
	f.Sport, f.Dport = 0, 0
	switch {
	case (f.Proto == ProtoTCP || f.Proto == ProtoUDP) && len(b) >= 4:
		f.Sport, f.Dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case f.Proto == icmp && len(b) >= ICMPLen && (b[0] == echo || b[0] == reply):
		id := binary.BigEndian.Uint16(b[4:])
		f.Sport, f.Dport = id, id
	}
}

// Hash spreads flows under a key that strangers do not know.
func (f *Flow) Hash(key uint64) uint64 {
	h := (key ^ f.SrcLo) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ f.DstLo) * 0xbf58476d1ce4e5b9
	if f.V6 {
		h = (h ^ h>>29 ^ f.SrcHi) * 0x94d049bb133111eb
		h = (h ^ h>>32 ^ f.DstHi) * 0xbf58476d1ce4e5b9
	}
	h = (h ^ h>>31 ^ uint64(f.Sport)<<48 ^ uint64(f.Dport)<<32 ^ uint64(f.If)<<8 ^ uint64(f.Proto)) * 0x94d049bb133111eb
	return h ^ h>>32
}
