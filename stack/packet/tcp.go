package packet

import "encoding/binary"

// TCP (RFC 9293 §3.1).
const (
	TCPLen        = 20
	TCPMaxLen     = 60
	TCPCsumOffset = 16

	TCPFin = 0x01
	TCPSyn = 0x02
	TCPRst = 0x04
	TCPPsh = 0x08
	TCPAck = 0x10
	TCPUrg = 0x20
	TCPEce = 0x40 // RFC 3168 §6.1
	TCPCwr = 0x80
)

// Kinds of options.
const (
	TCPOptEnd       = 0
	TCPOptNop       = 1
	TCPOptMSS       = 2  // RFC 9293 §3.7.1
	TCPOptWScale    = 3  // RFC 7323 §2
	TCPOptSACKOK    = 4  // RFC 2018 §2
	TCPOptSACK      = 5  // RFC 2018 §3
	TCPOptTimestamp = 8  // RFC 7323 §3
	TCPOptFastOpen  = 34 // RFC 7413 §4.1.1

	// TCPTimestampLen is the timestamps option with two NOPs in front.
	TCPTimestampLen = 12
	// TCPMaxSACK is how many blocks fit a header, without timestamps.
	TCPMaxSACK = 4
)

// TCP is a view of a segment from its TCP header on.
type TCP []byte

// CheckTCP answers a view of b, or false when the header is not whole: data
// offset at least 5 and within b.
func CheckTCP(b []byte) (TCP, bool) {
	if len(b) < TCPLen {
		return nil, false
	}
	h := TCP(b)
	n := h.HeaderLen()
	return h, n >= TCPLen && n <= len(b)
}

func (h TCP) SrcPort() uint16  { return binary.BigEndian.Uint16(h) }
func (h TCP) DstPort() uint16  { return binary.BigEndian.Uint16(h[2:]) }
func (h TCP) Seq() uint32      { return binary.BigEndian.Uint32(h[4:]) }
func (h TCP) Ack() uint32      { return binary.BigEndian.Uint32(h[8:]) }
func (h TCP) HeaderLen() int   { return int(h[12]>>4) << 2 }
func (h TCP) Flags() uint8     { return h[13] }
func (h TCP) Window() uint16   { return binary.BigEndian.Uint16(h[14:]) }
func (h TCP) Checksum() uint16 { return binary.BigEndian.Uint16(h[16:]) }
func (h TCP) Urgent() uint16   { return binary.BigEndian.Uint16(h[18:]) }
func (h TCP) Options() []byte  { return h[TCPLen:h.HeaderLen()] }
func (h TCP) Payload() []byte  { return h[h.HeaderLen():] }

// PutTCP writes a header of 20 octets and length hlen, options not included;
// sum is what the checksum field gets.
func PutTCP(b []byte, src, dst uint16, seq, ack uint32, hlen int, flags uint8, window, sum, urgent uint16) {
	_ = b[TCPLen-1]
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12], b[13] = byte(hlen<<2), flags
	binary.BigEndian.PutUint16(b[14:], window)
	binary.BigEndian.PutUint16(b[16:], sum)
	binary.BigEndian.PutUint16(b[18:], urgent)
}

// SACKBlock is a range of sequence numbers that has arrived, the end not
// included.
type SACKBlock struct{ Start, End uint32 }

// TCPOptions are the options of a segment that this stack knows.
type TCPOptions struct {
	MSS          uint16 // 0: none
	WScale       uint8  // with HasWScale; at most 14
	HasWScale    bool
	SACKOK       bool
	HasTimestamp bool
	HasFastOpen  bool
	NSACK        uint8
	TSVal, TSEcr uint32
	SACK         [TCPMaxSACK]SACKBlock
	FastOpen     []byte // a view of the segment: the cookie, empty in a request
}

// Parse reads b, the octets between header and data. What is malformed ends
// the reading; what came before it counts (RFC 9293 §3.2 has no other rule).
func (o *TCPOptions) Parse(b []byte) {
	// Nearly every segment carries timestamps and nothing else.
	if len(b) == TCPTimestampLen && binary.BigEndian.Uint32(b) == TCPOptNop<<24|TCPOptNop<<16|TCPOptTimestamp<<8|10 {
		o.HasTimestamp = true
		o.TSVal, o.TSEcr = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		return
	}
	for len(b) > 0 {
		switch b[0] {
		case TCPOptEnd:
			return
		case TCPOptNop:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return
		}
		v := b[2:b[1]]
		switch kind := b[0]; {
		case kind == TCPOptMSS && len(v) == 2:
			o.MSS = binary.BigEndian.Uint16(v)
		case kind == TCPOptWScale && len(v) == 1:
			o.WScale, o.HasWScale = min(v[0], 14), true // RFC 7323 §2.3
		case kind == TCPOptSACKOK && len(v) == 0:
			o.SACKOK = true
		case kind == TCPOptTimestamp && len(v) == 8:
			o.HasTimestamp = true
			o.TSVal, o.TSEcr = binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])
		case kind == TCPOptSACK && len(v) > 0 && len(v)%8 == 0:
			for ; len(v) > 0 && o.NSACK < TCPMaxSACK; v = v[8:] {
				o.SACK[o.NSACK] = SACKBlock{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])}
				o.NSACK++
			}
		case kind == TCPOptFastOpen && (len(v) == 0 || len(v) >= 4 && len(v) <= 16 && len(v)%2 == 0):
			o.HasFastOpen, o.FastOpen = true, v
		}
		b = b[b[1]:]
	}
}

// Put writes the options to b, which has room for [TCPMaxLen] - [TCPLen]
// octets, padded to a multiple of four, and answers how many octets that are.
// SACK blocks that do not fit are left out.
func (o *TCPOptions) Put(b []byte) int {
	n := 0
	put := func(v ...byte) { n += copy(b[n:], v) }
	if o.MSS != 0 {
		put(TCPOptMSS, 4, byte(o.MSS>>8), byte(o.MSS))
	}
	switch {
	case o.HasTimestamp:
		if o.SACKOK {
			put(TCPOptSACKOK, 2)
		} else {
			put(TCPOptNop, TCPOptNop)
		}
		put(TCPOptTimestamp, 10)
		binary.BigEndian.PutUint32(b[n:], o.TSVal)
		binary.BigEndian.PutUint32(b[n+4:], o.TSEcr)
		n += 8
	case o.SACKOK:
		put(TCPOptNop, TCPOptNop, TCPOptSACKOK, 2)
	}
	if o.HasWScale {
		put(TCPOptNop, TCPOptWScale, 3, o.WScale)
	}
	if o.HasFastOpen && n+2+len(o.FastOpen) <= TCPMaxLen-TCPLen {
		put(TCPOptFastOpen, byte(2+len(o.FastOpen)))
		put(o.FastOpen...)
		for n%4 != 0 {
			put(TCPOptNop)
		}
	}
	if k := min(int(o.NSACK), (TCPMaxLen-TCPLen-n-4)/8); k > 0 {
		put(TCPOptNop, TCPOptNop, TCPOptSACK, byte(2+8*k))
		for _, s := range o.SACK[:k] {
			binary.BigEndian.PutUint32(b[n:], s.Start)
			binary.BigEndian.PutUint32(b[n+4:], s.End)
			n += 8
		}
	}
	return n
}
