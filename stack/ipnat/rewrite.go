package ipnat

import (
	"encoding/binary"

	"ionet/stack/packet"
	"ionet/stack/pfil"
)

const protoUDPLite = 136 // RFC 3828

// side is which half of a packet's header is changed.
type side uint8

const (
	source side = iota
	destination
)

// change is what becomes of a packet.
type change struct {
	side    side
	to      end
	ports   bool // its transport header is there
	partial bool // its checksum is of the pseudo-header only
}

// rewrite changes a packet of the session as the hook that it is at asks.
func (s *session) rewrite(i *pfil.Info) {
	c := change{destination, s.in, true, i.Pkt.Csum == packet.CsumPartial}
	if i.Out {
		c.side, c.to = source, s.out
	}
	c.apply(i.Pkt.Bytes(), i.L4, i.Proto)
}

// apply changes address and port of the packet b, whose transport header begins at l4, and
// adjusts its checksums by what changed (RFC 1624). b may end before the packet does, as one
// that an ICMP error quotes; what is not there is not changed.
func (c *change) apply(b []byte, l4 int, proto uint8) {
	var was, is uint16 // sums of the address
	v6 := b[0]>>4 == 6
	if v6 {
		f := b[8:24]
		if c.side == destination {
			f = b[24:40]
		}
		was = packet.Fold(packet.Sum(0, f))
		binary.BigEndian.PutUint64(f, c.to.hi)
		binary.BigEndian.PutUint64(f[8:], c.to.lo)
		is = packet.Fold(packet.Sum(0, f))
	} else {
		f := b[12:16]
		if c.side == destination {
			f = b[16:20]
		}
		was = packet.Fold(packet.Sum(0, f))
		binary.BigEndian.PutUint32(f, uint32(c.to.lo))
		is = packet.Fold(packet.Sum(0, f))
		update(b[10:], was, is)
	}
	if !c.ports || l4 > len(b) {
		return
	}
	t := b[l4:]
	switch {
	case proto == packet.ProtoTCP, proto == packet.ProtoUDP:
		at := 16
		if proto == packet.ProtoUDP {
			at = packet.UDPCsumOffset
		}
		if len(t) < 4 {
			return
		}
		p := t[2*int(c.side):]
		old := binary.BigEndian.Uint16(p)
		binary.BigEndian.PutUint16(p, c.to.port)
		c.sum(t, at, proto, was, is, old)
	case proto == protoUDPLite:
		c.sum(t, packet.UDPCsumOffset, proto, was, is, c.to.port)
	case proto == packet.ProtoICMP && !v6, proto == packet.ProtoICMPv6 && v6:
		if len(t) < packet.ICMPLen || !isEcho(t[0], v6) {
			return
		}
		old := binary.BigEndian.Uint16(t[4:])
		binary.BigEndian.PutUint16(t[4:], c.to.port)
		if !v6 { // no pseudo-header
			was, is = 0, 0
		}
		c.sum(t, 2, proto, was, is, old)
	}
}

func isEcho(typ uint8, v6 bool) bool {
	if v6 {
		return typ == packet.ICMP6Echo || typ == packet.ICMP6EchoReply
	}
	return typ == packet.ICMPEcho || typ == packet.ICMPEchoReply
}

// sum adjusts the transport checksum, at of t, for the address and for the port, which was old.
func (c *change) sum(t []byte, at int, proto uint8, was, is, old uint16) {
	if len(t) < at+2 {
		return
	}
	f := t[at:]
	if c.partial { // of the pseudo-header, not complemented; the port is yet to be summed
		binary.BigEndian.PutUint16(f, packet.Fold(uint64(binary.BigEndian.Uint16(f))+uint64(^was)+uint64(is)))
		return
	}
	udp := proto == packet.ProtoUDP
	if udp && f[0] == 0 && f[1] == 0 { // none (RFC 768)
		return
	}
	update(f, was, is)
	update(f, old, c.to.port)
	if udp && f[0] == 0 && f[1] == 0 {
		f[0], f[1] = 0xff, 0xff
	}
}

// update adjusts the checksum at f.
func update(f []byte, was, is uint16) {
	if was != is {
		binary.BigEndian.PutUint16(f, packet.UpdateChecksum(binary.BigEndian.Uint16(f), was, is))
	}
}
