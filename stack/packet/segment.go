package packet

import (
	"encoding/binary"
	"slices"
)

// maxCuts bounds the segments of one super-packet.
const maxCuts = 1024

const (
	tcpMinLen  = 20
	tcpSeqAt   = 4
	tcpFlagsAt = 13
	tcpFinPsh  = 0x09
	tcpCwr     = 0x80
)

// Segments appends to out what a super-packet is cut into for a link that does
// not cut it: packets of GSOSize octets of payload, each with the headers of
// the whole from the front of its window on, corrected, and a partial checksum.
// The L3 mark is set, and the checksum, which is partial, begins at the
// transport header (law 5). b stays the caller's. ok is false, and nothing is
// appended, when b is no such packet or there is no memory.
func (b *Buf) Segments(out []*Buf) (_ []*Buf, ok bool) {
	l3, l4, all := int(b.l3)-b.off, b.CsumStart(), b.Bytes()
	tcp := b.GSO == GSOTCPv4 || b.GSO == GSOTCPv6
	v6 := b.GSO == GSOTCPv6 || b.GSO == GSOUDPv6
	hlen := l4 + UDPLen
	if tcp {
		hlen = l4 + tcpMinLen
	}
	minIP := IPv4Len
	if v6 {
		minIP = 40 // RFC 8200 §3
	}
	if b.GSO == GSONone || b.Csum != CsumPartial || l3 < 0 || l4 < l3+minIP || hlen > len(all) ||
		!v6 && IPv4(all[l3:]).HeaderLen() != l4-l3 {
		return out, false
	}
	if tcp {
		hlen = l4 + int(all[l4+12]>>4)*4
	}
	size := int(b.GSOSize)
	if hlen < l4+UDPLen || hlen >= len(all) || size == 0 || (len(all)-hlen+size-1)/size > maxCuts {
		return out, false
	}
	first, count := len(out), (len(all)-hlen+size-1)/size
	out = slices.Grow(out, count)[:first+count]
	if got := b.pool.GetBurst(out[first:], hlen+min(size, len(all)-hlen)); got < count {
		FreeBurst(out[first : first+got])
		return out[:first], false
	}
	for i, at := 0, hlen; at < len(all); i, at = i+1, at+size {
		n := min(size, len(all)-at)
		c := out[first+i]
		copy(c.Append(hlen), all)
		copy(c.Append(n), all[at:])
		c.Time, c.RcvIf, c.Flags, c.Nest = b.Time, b.RcvIf, b.Flags&^FlagCame, b.Nest
		c.MarkL3(l3)
		c.MarkL4(l4)
		h, t := c.Bytes()[l3:], c.Bytes()[l4:]
		if v6 {
			binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40))
		} else {
			ip := IPv4(h)
			ip.SetTotalLen(len(h))
			ip.SetID(ip.ID() + uint16(i))
			ip.SetChecksum()
		}
		sum := HeaderPseudoSum(h, protoOf(tcp), len(t))
		field := UDPCsumOffset
		if tcp {
			field = 16
			binary.BigEndian.PutUint32(t[tcpSeqAt:], binary.BigEndian.Uint32(t[tcpSeqAt:])+uint32(at-hlen))
			if at+n < len(all) {
				t[tcpFlagsAt] &^= tcpFinPsh
			}
			if at > hlen {
				t[tcpFlagsAt] &^= tcpCwr // RFC 3168 §6.1.2: once
			}
		} else {
			binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
		}
		binary.BigEndian.PutUint16(t[field:], Fold(sum))
		c.SetPartial(l4, uint16(field))
	}
	return out, true
}

func protoOf(tcp bool) uint8 {
	if tcp {
		return ProtoTCP
	}
	return ProtoUDP
}

// Fits reports whether a packet, window at the network header and L4 marked,
// may leave whole over mtu: a super-packet by the size of its segments (law 5).
func (b *Buf) Fits(mtu int) bool {
	if b.Len() <= mtu {
		return true
	}
	if b.GSO == GSONone {
		return false
	}
	l4 := b.L4()
	hdr := b.Len() - len(l4) + UDPLen
	if b.GSO == GSOTCPv4 || b.GSO == GSOTCPv6 {
		const dataOffset = 12 // of a TCP header (RFC 9293 §3.1)
		if len(l4) <= dataOffset {
			return false
		}
		hdr += int(l4[dataOffset]>>4)*4 - UDPLen
	}
	return hdr+int(b.GSOSize) <= mtu
}
