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
// With UDP set it finds datagrams of one flow and size, too, the last one may be
// smaller, if their checksums are left to the driver: those that the stack has made.
//
// The octets stay where they are. The super-packet is the first frame, whose headers
// [Join.End] changes, and behind it the payloads of the others.
type Join struct {
	UDP bool // the link takes super-packets of datagrams

	first   *Buf
	hlen    int    // octets of headers in a frame
	size    int    // octets of payload in a segment, but for the last one
	next    uint32 // sequence number
	frames  int
	octets  int // of all
	proto   uint8
	v6      bool
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
	proto, l4 := j.joinable(b)
	if l4 == 0 || b.Shared() {
		return false
	}
	f := b.Bytes()
	hlen, next := l4+UDPLen, uint32(0)
	if proto == ProtoTCP {
		t := TCP(f[l4:])
		hlen = l4 + t.HeaderLen()
		next = t.Seq() + uint32(len(f)-hlen)
		if t.Flags() != TCPAck {
			return false
		}
	}
	if hlen >= len(f) {
		return false
	}
	*j = Join{UDP: j.UDP, first: b, hlen: hlen, size: len(f) - hlen, next: next, frames: 1, octets: len(f), proto: proto, v6: l4 == joinV6}
	return true
}

// Add reports whether a frame follows, and then its payload is to be behind what is there.
func (j *Join) Add(b *Buf) bool {
	n := b.Len() - j.hlen
	if j.full || n <= 0 || n > j.size || j.octets+n > joinMax || j.frames == maxCuts || !j.follows(b) {
		return false
	}
	if !j.checked {
		if j.checked = j.rightSum(j.first); !j.checked {
			j.full = true
			return false
		}
	}
	if !j.rightSum(b) {
		return false
	}
	j.psh = j.proto == ProtoTCP && TCP(b.Bytes()[j.l4():]).Flags()&TCPPsh != 0
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
	if j.v6 {
		b.GSO = GSOTCPv6
		IPv6(h).SetPayloadLen(j.octets - joinV6)
	} else {
		b.GSO = GSOTCPv4
		IPv4(h).SetTotalLen(j.octets - joinL3)
		IPv4(h).SetChecksum()
	}
	if j.proto == ProtoUDP {
		b.GSO += GSOUDPv4 - GSOTCPv4
		binary.BigEndian.PutUint16(t[4:], uint16(j.octets-l4))
	}
	if j.psh {
		t[tcpFlagsAt] |= TCPPsh
	}
	at := sumAt(j.proto)
	binary.BigEndian.PutUint16(t[at:], Fold(HeaderPseudoSum(h, j.proto, j.octets-l4)))
	b.GSOSize = uint16(j.size)
	b.SetPartial(l4, at)
}

func sumAt(proto uint8) uint16 {
	if proto == ProtoUDP {
		return UDPCsumOffset
	}
	return TCPCsumOffset
}

func (j *Join) l4() int {
	if j.v6 {
		return joinV6
	}
	return joinV4
}

// joinable is the protocol of a frame that could be one of several, and where its header begins; 0: it is none.
func (j *Join) joinable(b *Buf) (proto uint8, l4 int) {
	f := b.Bytes()
	if b.GSO != GSONone || len(f) < joinV4+UDPLen {
		return 0, 0
	}
	h := f[joinL3:]
	switch binary.BigEndian.Uint16(f[12:]) {
	case EtherIPv4:
		const plain = 4<<4 | IPv4Len/4
		ip := IPv4(h)
		if h[0] != plain || ip.TotalLen() != len(h) || ip.FragField()&^IPv4DF != 0 {
			return 0, 0
		}
		proto, l4 = ip.Proto(), joinV4
	case EtherIPv6:
		if len(f) < joinV6+UDPLen || h[0]>>4 != 6 || IPv6(h).PayloadLen() != len(f)-joinV6 {
			return 0, 0
		}
		proto, l4 = IPv6(h).Next(), joinV6
	default:
		return 0, 0
	}
	switch proto {
	case ProtoTCP:
		if _, ok := CheckTCP(f[l4:]); !ok {
			return 0, 0
		}
	case ProtoUDP:
		if !j.UDP || b.Csum != CsumPartial || UDP(f[l4:]).Len() != len(f)-l4 {
			return 0, 0
		}
	default:
		return 0, 0
	}
	return proto, l4
}

// follows compares the headers.
func (j *Join) follows(b *Buf) bool {
	proto, l4 := j.joinable(b)
	if l4 == 0 || l4 != j.l4() || proto != j.proto {
		return false
	}
	o, f := j.first.Bytes(), b.Bytes()
	ot, t := o[l4:], f[l4:]
	if !bytes.Equal(t[:4], ot[:4]) || !bytes.Equal(f[:joinL3], o[:joinL3]) || proto == ProtoTCP && !j.continues(ot, t) {
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

// continues compares the TCP headers.
func (j *Join) continues(o, t TCP) bool {
	rest := j.hlen - j.l4()
	return t.Seq() == j.next && t.Flags()&^TCPPsh == TCPAck && t[12] == o[12] && t.Ack() == o.Ack() && t.Window() == o.Window() &&
		bytes.Equal(t[TCPCsumOffset+2:rest], o[TCPCsumOffset+2:rest])
}

// rightSum reports whether the checksums of a frame are right, or left to do: a wrong one is the
// receiver's to find.
func (j *Join) rightSum(b *Buf) bool {
	f, l4 := b.Bytes(), j.l4()
	h := f[joinL3:]
	if !j.v6 && !IPv4(h).ChecksumOK() {
		return false
	}
	switch b.Csum {
	case CsumVerified:
		return true
	case CsumPartial:
		return b.CsumStart() == l4 && b.CsumOffset == sumAt(j.proto)
	}
	t := f[l4:]
	return Fold(Sum(HeaderPseudoSum(h, j.proto, len(t)), t)) == 0xffff
}
