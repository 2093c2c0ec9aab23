package ping

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"
)

// ICMP types (RFC 792, RFC 950, RFC 1256).
const (
	echoReply       = 0
	unreachable     = 3
	sourceQuench    = 4
	redirect        = 5
	echoRequest     = 8
	routerAdvert    = 9
	routerSolicit   = 10
	timeExceeded    = 11
	paramProblem    = 12
	timestamp       = 13
	timestampReply  = 14
	infoRequest     = 15
	infoReply       = 16
	maskRequest     = 17
	maskReply       = 18
	protoICMP       = 1
	protoTCP        = 6
	protoUDP        = 17
	minIPHeader     = 20
	defaultTTL      = 255
	optEnd          = 0
	optNop          = 1
	optRecordRoute  = 7
	optLooseRoute   = 131
	optFirstPointer = 4
)

// packet is an ICMP message that came.
type packet struct {
	at     time.Time
	from   netip.Addr
	ttl    int
	total  int    // length with the IP header
	opts   []byte // IP options
	icmp   []byte
	failed syscall.Errno // not 0: what an echo socket tells of an ICMP error, and all it tells
}

// splitIP takes an IPv4 packet apart; false: it is shorter than its headers.
func splitIP(b []byte) (p packet, ok bool) {
	if len(b) < minIPHeader || b[0]>>4 != 4 {
		return p, false
	}
	n := int(b[0]&15) * 4
	if n < minIPHeader || len(b) < n {
		return p, false
	}
	return packet{from: netip.AddrFrom4([4]byte(b[12:16])), ttl: int(b[8]), total: len(b), opts: b[minIPHeader:n], icmp: b[n:]}, true
}

func (p *packet) kind() (typ, code byte) { return p.icmp[0], p.icmp[1] }
func (p *packet) id() uint16             { return binary.BigEndian.Uint16(p.icmp[4:]) }
func (p *packet) seq() uint16            { return binary.BigEndian.Uint16(p.icmp[6:]) }
func (p *packet) data() []byte           { return p.icmp[headerLen:] }

// inner is the packet that an ICMP error returns: its header, its addresses
// and as much of what followed as came back. false: less than a header.
func (p *packet) inner() (head, rest []byte, ok bool) {
	b := p.data()
	if len(b) < minIPHeader {
		return nil, nil, false
	}
	n := int(b[0]&15) * 4
	if n < minIPHeader || len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// request makes an echo request; sent is written into the data if it fits.
func request(id, seq uint16, data []byte, sent time.Duration) []byte {
	if len(data) >= headerLen {
		binary.BigEndian.PutUint64(data, uint64(sent))
	}
	b := make([]byte, headerLen, headerLen+len(data))
	b[0] = echoRequest
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// checksum is RFC 1071's.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ipOptions are the options that -R and -g ask for, padded to a multiple of 4.
func ipOptions(o *options, gateway, dst netip.Addr) []byte {
	switch {
	case o.record:
		b := make([]byte, 40)
		b[0], b[1], b[2] = optRecordRoute, 39, optFirstPointer
		return b
	case gateway.IsValid():
		b := []byte{optNop, optLooseRoute, 11, optFirstPointer}
		return append(append(b, gateway.AsSlice()...), dst.AsSlice()...)
	}
	return nil
}
