package packet

import (
	"bytes"
	"encoding/binary"
)

// Join finds frames that [Buf.Segments] could have cut from one super-packet, for a
// link that takes super-packets: segments of TCP that follow each other and differ
// in nothing but sequence number, checksum and, the last one, PSH and length. What
// is cut from the super-packet is what was joined, octet for octet, but for the
// identification of datagrams with DF, which nobody reads (RFC 6864 §4.1).
//
// The octets stay where they are. The super-packet is the first frame, whose headers
// [Join.End] changes, and behind it the payloads of the others.
type Join struct {
	first   *Buf
	hlen    int    // octets of headers in a frame
	size    int    // octets of payload in a segment, but for the last one
	next    uint32 // sequence number
	frames  int
	octets  int // of all
	checked bool
	psh     bool
	full    bool // nothing more can follow
}

// Where the headers are in a frame without VLAN tag.
const (
	joinL3 = EtherLen
	joinV4 = joinL3 + IPv4Len
	joinV6 = joinL3 + IPv6Len
	// joinMax is the longest frame: IPv4 has 16 bits for the packet's length.
	joinMax = joinL3 + 65535
)

// Begin takes a frame, window at its Ethernet header, as the first of what will follow.
// It reports whether something could.
func (j *Join) Begin(b *Buf) bool {
	l4 := joinable(b)
	if l4 == 0 || b.Shared() {
		return false
	}
	f := b.Bytes()
	t := TCP(f[l4:])
	hlen := l4 + t.HeaderLen()
	if t.Flags() != TCPAck || hlen >= len(f) {
		return false
	}
	*j = Join{first: b, hlen: hlen, size: len(f) - hlen, next: t.Seq() + uint32(len(f)-hlen), frames: 1, octets: len(f)}
	return true
}

// Add reports whether a frame follows, and then its payload is to be behind what is there.
func (j *Join) Add(b *Buf) bool {
	n := b.Len() - j.hlen
	if j.full || n <= 0 || n > j.size || j.octets+n > joinMax || j.frames == maxCuts || !j.follows(b) {
		return false
	}
	if !j.checked {
		if j.checked = rightSum(j.first); !j.checked {
			j.full = true
			return false
		}
	}
	if !rightSum(b) {
		return false
	}
	j.psh = TCP(b.Bytes()[j.l4():]).Flags()&TCPPsh != 0
	j.full = j.psh || n < j.size
	j.next += uint32(n)
	j.frames++
	j.octets += n
	return true
}

// Payload is what of a frame that was added goes behind the others.
func (j *Join) Payload(b *Buf) []byte { return b.Bytes()[j.hlen:] }

// End writes what all of them are together into the headers of the first, which is a
// super-packet then, but for the octets that lie elsewhere.
func (j *Join) End() {
	if j.frames < 2 {
		return
	}
	b, l4 := j.first, j.l4()
	f := b.Bytes()
	h, t := f[joinL3:], f[l4:]
	b.GSO = GSOTCPv6
	if l4 == joinV4 {
		b.GSO = GSOTCPv4
		IPv4(h).SetTotalLen(j.octets - joinL3)
		IPv4(h).SetChecksum()
	} else {
		IPv6(h).SetPayloadLen(j.octets - joinV6)
	}
	if j.psh {
		t[tcpFlagsAt] |= TCPPsh
	}
	binary.BigEndian.PutUint16(t[TCPCsumOffset:], Fold(HeaderPseudoSum(h, ProtoTCP, j.octets-l4)))
	b.GSOSize = uint16(j.size)
	b.SetPartial(l4, TCPCsumOffset)
}

func (j *Join) l4() int {
	if j.first.Bytes()[joinL3]>>4 == 4 {
		return joinV4
	}
	return joinV6
}

// joinable is where the TCP header begins in a frame that could be one of several, or 0.
func joinable(b *Buf) (l4 int) {
	f := b.Bytes()
	if b.GSO != GSONone || len(f) < joinV4+TCPLen {
		return 0
	}
	h := f[joinL3:]
	switch binary.BigEndian.Uint16(f[12:]) {
	case EtherIPv4:
		const plain = 4<<4 | IPv4Len/4
		ip := IPv4(h)
		if h[0] != plain || ip.Proto() != ProtoTCP || ip.TotalLen() != len(h) || ip.FragField()&^IPv4DF != 0 {
			return 0
		}
		l4 = joinV4
	case EtherIPv6:
		if len(f) < joinV6+TCPLen || h[0]>>4 != 6 || IPv6(h).Next() != ProtoTCP || IPv6(h).PayloadLen() != len(f)-joinV6 {
			return 0
		}
		l4 = joinV6
	default:
		return 0
	}
	if _, ok := CheckTCP(f[l4:]); !ok {
		return 0
	}
	return l4
}

// follows compares the headers.
func (j *Join) follows(b *Buf) bool {
	l4 := joinable(b)
	if l4 == 0 || l4 != j.l4() {
		return false
	}
	o, f := j.first.Bytes(), b.Bytes()
	ot, t := TCP(o[l4:]), TCP(f[l4:])
	if t.Seq() != j.next || t.Flags()&^TCPPsh != TCPAck || t[12] != ot[12] ||
		!bytes.Equal(t[:4], ot[:4]) || t.Ack() != ot.Ack() || t.Window() != ot.Window() ||
		!bytes.Equal(f[l4+TCPCsumOffset+2:j.hlen], o[l4+TCPCsumOffset+2:j.hlen]) ||
		!bytes.Equal(f[:joinL3], o[:joinL3]) {
		return false
	}
	h, oh := f[joinL3:], o[joinL3:]
	if l4 == joinV6 { // all but the length
		return bytes.Equal(h[:4], oh[:4]) && bytes.Equal(h[6:IPv6Len], oh[6:IPv6Len])
	}
	ip, op := IPv4(h), IPv4(oh)
	return h[1] == oh[1] && ip.FragField() == op.FragField() && h[8] == oh[8] && bytes.Equal(h[12:IPv4Len], oh[12:IPv4Len]) &&
		(ip.DF() || ip.ID() == op.ID()+uint16(j.frames)) && ip.ChecksumOK()
}

// rightSum reports whether the checksums of a frame are right, or left to do: a wrong one is the
// receiver's to find.
func rightSum(b *Buf) bool {
	f := b.Bytes()
	h, l4 := f[joinL3:], joinV6
	if h[0]>>4 == 4 {
		if l4 = joinV4; !IPv4(h).ChecksumOK() {
			return false
		}
	}
	switch b.Csum {
	case CsumVerified:
		return true
	case CsumPartial:
		return b.CsumStart() == l4 && b.CsumOffset == TCPCsumOffset
	}
	t := f[l4:]
	return Fold(Sum(HeaderPseudoSum(h, ProtoTCP, len(t)), t)) == 0xffff
}
