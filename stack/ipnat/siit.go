package ipnat

import (
	"encoding/binary"
	"net/netip"

	"ionet/stack/packet"
)

// crossing is a packet on its way from one version of IP to the other (RFC 7915): what it has
// afterwards.
type crossing struct {
	src, dst end
	proto    uint8 // as IPv4 numbers it
	class    uint8
	ttl      uint8
	// Of a fragment, or of a packet with a Fragment header.
	frag bool
	id   uint32
	off  int // octets
	more bool
	df   bool // of IPv4
}

// whole reports that the packet is all of its datagram.
func (c *crossing) whole() bool { return c.off == 0 && !c.more }

// sixProto is a protocol of IPv4 as IPv6 numbers it.
func sixProto(proto uint8) uint8 {
	if proto == packet.ProtoICMP {
		return packet.ProtoICMPv6
	}
	return proto
}

// fourProto is the other way round.
func fourProto(proto uint8) uint8 {
	if proto == packet.ProtoICMPv6 {
		return packet.ProtoICMP
	}
	return proto
}

func addr4(e end) netip.Addr { return e.addrPort(false).Addr() }
func addr6(e end) netip.Addr { return e.addrPort(true).Addr() }

// noFragment is the largest packet of IPv4 without DF that stands for one of IPv6 without a
// Fragment header (RFC 7915 §5.1): what any path of IPv6 takes may be cut on one of IPv4.
const noFragment = packet.MinMTU6 - (packet.IPv6Len - packet.IPv4Len)

// put4 writes the IPv4 header of a packet of n octets (RFC 7915 §5.1); size is that of
// the largest that will be cut from it.
func (c *crossing) put4(b []byte, n, size int, id uint16) {
	field := uint16(packet.IPv4DF)
	switch {
	case c.frag:
		id, field = uint16(c.id), uint16(c.off>>3)
		if c.more {
			field |= packet.IPv4MF
		}
	case size <= noFragment:
		field = 0
	}
	packet.PutIPv4(b, c.class, n, id, field, c.ttl, c.proto, addr4(c.src), addr4(c.dst), nil).SetChecksum()
}

// put6 writes the IPv6 header, and the Fragment header, of n octets behind them (RFC 7915 §4.1).
func (c *crossing) put6(b []byte, n int) {
	next := sixProto(c.proto)
	if c.frag {
		packet.PutFragment(b[packet.IPv6Len:], next, c.off, c.more, c.id)
		n += packet.FragmentLen
		next = packet.ProtoFragment
	}
	packet.PutIPv6(b, c.class, 0, n, next, c.ttl, addr6(c.src), addr6(c.dst))
}

// head6 is how long these headers are.
func (c *crossing) head6() int {
	if c.frag {
		return packet.IPv6Len + packet.FragmentLen
	}
	return packet.IPv6Len
}

// addrSum is the sum of the addresses of an IP header.
func addrSum(b []byte) uint16 {
	if b[0]>>4 == 6 {
		return packet.Fold(packet.Sum(0, b[8:40]))
	}
	return packet.Fold(packet.Sum(0, b[12:20]))
}

// endsSum is that of the addresses to come.
func (c *crossing) endsSum() uint16 {
	sum := uint64(0)
	for _, e := range [...]*end{&c.src, &c.dst} {
		for _, w := range [...]uint64{e.hi, e.lo} {
			sum += w>>48 + w>>32&0xffff + w>>16&0xffff + w&0xffff
		}
	}
	return packet.Fold(sum)
}

// transport changes the beginning t of a transport header, whose packet had addresses that sum to was and
// has length octets from there on, by as much as is there. six: it becomes one of IPv6. partial:
// its checksum is of the pseudo-header only.
func (c *crossing) transport(t []byte, was uint16, length int, six, partial bool) {
	is := c.endsSum()
	if c.proto == packet.ProtoICMP {
		c.echo(t, was, is, length, six)
		return
	}
	at := packet.TCPCsumOffset
	if c.proto == packet.ProtoUDP {
		at = packet.UDPCsumOffset
	}
	if len(t) < 4 {
		return
	}
	ports := binary.BigEndian.Uint32(t)
	binary.BigEndian.PutUint16(t, c.src.port)
	binary.BigEndian.PutUint16(t[2:], c.dst.port)
	if len(t) < at+2 {
		return
	}
	f := t[at:]
	udp := c.proto == packet.ProtoUDP
	switch {
	case partial:
		binary.BigEndian.PutUint16(f, packet.Fold(uint64(binary.BigEndian.Uint16(f))+uint64(^was)+uint64(is)))
	case udp && f[0] == 0 && f[1] == 0:
	default:
		update(f, was, is)
		update(f, uint16(ports>>16), c.src.port)
		update(f, uint16(ports), c.dst.port)
		if udp && f[0] == 0 && f[1] == 0 {
			f[0], f[1] = 0xff, 0xff
		}
	}
}

// echo changes an echo, whose identifier is the port of one of the ends (RFC 7915 §4.2, §5.2).
func (c *crossing) echo(t []byte, was, is uint16, length int, six bool) {
	if len(t) < packet.ICMPLen {
		return
	}
	typ := uint8(packet.ICMPEcho)
	switch t[0] {
	case packet.ICMPEcho:
		typ = packet.ICMP6Echo
	case packet.ICMPEchoReply:
		typ = packet.ICMP6EchoReply
	case packet.ICMP6EchoReply:
		typ = packet.ICMPEchoReply
	}
	old, id := binary.BigEndian.Uint32(t), binary.BigEndian.Uint16(t[4:])
	t[0] = typ
	binary.BigEndian.PutUint16(t[4:], c.src.port|c.dst.port)
	f := t[2:]
	update(f, uint16(old>>16), binary.BigEndian.Uint16(t))
	update(f, id, c.src.port|c.dst.port)
	// The pseudo-header is ICMPv6's alone (RFC 8200 §8.1).
	pseudo := uint64(length>>16) + uint64(length&0xffff) + packet.ProtoICMPv6
	if six {
		update(f, 0, packet.Fold(pseudo+uint64(is)))
	} else {
		update(f, packet.Fold(pseudo+uint64(was)), 0)
	}
}

// gso is the kind of super-packet that one of the other version of IP becomes.
func gso(g packet.GSOType) packet.GSOType {
	switch g {
	case packet.GSOTCPv4:
		return packet.GSOTCPv6
	case packet.GSOTCPv6:
		return packet.GSOTCPv4
	case packet.GSOUDPv4:
		return packet.GSOUDPv6
	case packet.GSOUDPv6:
		return packet.GSOUDPv4
	}
	return packet.GSONone
}
