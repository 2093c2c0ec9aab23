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
	l3      int    // where the IP header is
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

// Begin takes a frame, window at its Ethernet header, as the first of what will follow.
// It reports whether something could.
func (j *Join) Begin(b *Buf) bool { return j.begin(b, EtherLen) }

// BeginPacket is Begin for a packet, window at its IP header.
func (j *Join) BeginPacket(b *Buf) bool { return j.begin(b, 0) }

func (j *Join) begin(b *Buf, l3 int) bool {
	*j = Join{UDP: j.UDP, first: b, l3: l3}
	f := b.Bytes()
	proto, l4 := j.joinable(f, b.Csum)
	if l4 == 0 || b.GSO != GSONone || b.Shared() {
		return false
	}
	j.proto, j.v6 = proto, f[l3]>>4 == 6
	j.hlen = l4 + UDPLen
	if proto == ProtoTCP {
		t := TCP(f[l4:])
		j.hlen = l4 + t.HeaderLen()
		j.next = t.Seq() + uint32(len(f)-j.hlen)
		if t.Flags() != TCPAck {
			return false
		}
	}
	j.size, j.frames, j.octets = len(f)-j.hlen, 1, len(f)
	return j.size > 0
}

// Add reports whether a frame follows, and then its payload is to be behind what is there.
func (j *Join) Add(b *Buf) bool {
	return b.GSO == GSONone && j.add(b.Bytes(), b.Csum, b.Csum != CsumPartial || j.left(b))
}

// AddPacket is Add for a packet that lies there, whose checksum nobody has looked at.
func (j *Join) AddPacket(p []byte) bool { return j.add(p, CsumNone, true) }

// add is Add for a frame that is sound but for what its octets say.
func (j *Join) add(f []byte, csum CsumState, sound bool) bool {
	n := len(f) - j.hlen
	if j.full || n <= 0 || n > j.size || j.octets-j.l3+n > maxTotal || j.frames == maxCuts || !sound || !j.follows(f, csum) {
		return false
	}
	if !j.checked {
		b := j.first
		if j.checked = (b.Csum != CsumPartial || j.left(b)) && j.rightSum(b.Bytes(), b.Csum); !j.checked {
			j.full = true
			return false
		}
	}
	if !j.rightSum(f, csum) {
		return false
	}
	j.psh = j.proto == ProtoTCP && TCP(f[j.l4():]).Flags()&TCPPsh != 0
	j.full = j.psh || n < j.size
	j.next += uint32(n)
	j.frames++
	j.octets += n
	return true
}

// maxTotal is the longest packet: IPv4 has 16 bits for its length.
const maxTotal = 65535

// Payload is what of a frame that was added goes behind the others.
func (j *Join) Payload(b *Buf) []byte { return b.Bytes()[j.hlen:] }

// PacketPayload is Payload of a packet.
func (j *Join) PacketPayload(p []byte) []byte { return p[j.hlen:] }

// End writes what all of them are together into the headers of the first, which is a
// super-packet then, but for the octets that lie elsewhere.
func (j *Join) End() {
	if j.frames < 2 {
		return
	}
	b, l4 := j.first, j.l4()
	f := b.Bytes()
	h, t := f[j.l3:], f[l4:]
	if j.v6 {
		b.GSO = GSOTCPv6
		IPv6(h).SetPayloadLen(j.octets - l4)
	} else {
		b.GSO = GSOTCPv4
		IPv4(h).SetTotalLen(j.octets - j.l3)
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
		return j.l3 + IPv6Len
	}
	return j.l3 + IPv4Len
}

// left reports a checksum that is left to do where such a packet has it.
func (j *Join) left(b *Buf) bool { return b.CsumStart() == j.l4() && b.CsumOffset == sumAt(j.proto) }

// joinable is the protocol of a frame that could be one of several, and where its header begins; 0: it is none.
func (j *Join) joinable(f []byte, csum CsumState) (proto uint8, l4 int) {
	if len(f) < j.l3+IPv4Len+UDPLen {
		return 0, 0
	}
	h := f[j.l3:]
	v6 := h[0]>>4 == 6
	if j.l3 > 0 && binary.BigEndian.Uint16(f[12:]) != etherOf(v6) {
		return 0, 0
	}
	if v6 {
		if l4 = j.l3 + IPv6Len; len(f) < l4+UDPLen || IPv6(h).PayloadLen() != len(f)-l4 {
			return 0, 0
		}
		proto = IPv6(h).Next()
	} else {
		const plain = 4<<4 | IPv4Len/4
		ip := IPv4(h)
		if h[0] != plain || ip.TotalLen() != len(h) || ip.FragField()&^IPv4DF != 0 {
			return 0, 0
		}
		proto, l4 = ip.Proto(), j.l3+IPv4Len
	}
	switch proto {
	case ProtoTCP:
		if _, ok := CheckTCP(f[l4:]); !ok {
			return 0, 0
		}
	case ProtoUDP:
		if !j.UDP || csum != CsumPartial || UDP(f[l4:]).Len() != len(f)-l4 {
			return 0, 0
		}
	default:
		return 0, 0
	}
	return proto, l4
}

func etherOf(v6 bool) uint16 {
	if v6 {
		return EtherIPv6
	}
	return EtherIPv4
}

// follows compares the headers.
func (j *Join) follows(f []byte, csum CsumState) bool {
	proto, l4 := j.joinable(f, csum)
	if l4 == 0 || l4 != j.l4() || proto != j.proto {
		return false
	}
	o := j.first.Bytes()
	ot, t := o[l4:], f[l4:]
	if !bytes.Equal(t[:4], ot[:4]) || !bytes.Equal(f[:j.l3], o[:j.l3]) || proto == ProtoTCP && !j.continues(ot, t) {
		return false
	}
	h, oh := f[j.l3:], o[j.l3:]
	if j.v6 { // all but the length
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
func (j *Join) rightSum(f []byte, csum CsumState) bool {
	h, t := f[j.l3:], f[j.l4():]
	if !j.v6 && !IPv4(h).ChecksumOK() {
		return false
	}
	return csum != CsumNone || Fold(Sum(HeaderPseudoSum(h, j.proto, len(t)), t)) == 0xffff
}
