package ipmon

import (
	"encoding/binary"
	"net/netip"

	"ionet/tool/ruleset"
)

// packet is what the first octets of a packet say.
type packet struct {
	v6       bool
	src, dst netip.Addr
	proto    int // of the transport header, behind extension headers
	hl       int // octets before that
	total    int // octets of the packet, as it says itself
	fragment bool
	id       uint32 // of a fragment
	off      int    // of a fragment, octets
	more, df bool
	body     []byte // the transport header and what follows, as far as it is there
}

// Extension headers of IPv6 (RFC 8200 §4) that a transport header may stand behind.
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	auth        = 51
	destOptions = 60
	mobility    = 135
	shim6       = 140
)

// decode reads a packet of IPv4 or IPv6; of one that is cut short what there is. false: no addresses are there.
func decode(b []byte) (p packet, ok bool) {
	if len(b) == 0 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		return decode4(b)
	case 6:
		return decode6(b)
	}
	return p, false
}

func decode4(b []byte) (p packet, ok bool) {
	if len(b) < 20 {
		return p, false
	}
	p.hl, p.total = int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	p.src, p.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.proto = int(b[9])
	f := binary.BigEndian.Uint16(b[6:])
	p.id, p.off, p.more, p.df = uint32(binary.BigEndian.Uint16(b[4:])), int(f&0x1fff)*8, f&0x2000 != 0, f&0x4000 != 0
	p.fragment = p.off > 0 || p.more
	p.body = b[min(p.hl, len(b)):]
	return p, p.hl >= 20
}

func decode6(b []byte) (p packet, ok bool) {
	if len(b) < 40 {
		return p, false
	}
	p.v6, p.hl, p.total = true, 40, 40+int(binary.BigEndian.Uint16(b[4:]))
	p.src, p.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	p.proto = int(b[6])
	for {
		p.body = b[min(p.hl, len(b)):]
		n := 0
		switch {
		case len(p.body) < 8 || p.off > 0:
			return p, true
		case p.proto == fragment:
			f := binary.BigEndian.Uint16(p.body[2:])
			p.fragment, p.off, p.more, p.id, n = true, int(f&^7), f&1 != 0, binary.BigEndian.Uint32(p.body[4:]), 8
		case p.proto == auth: // its length is in words of 4 octets (RFC 4302 §2.2)
			n = (int(p.body[1]) + 2) * 4
		case p.proto == hopByHop, p.proto == routing, p.proto == destOptions, p.proto == mobility, p.proto == shim6:
			n = (int(p.body[1]) + 1) * 8
		default:
			return p, true
		}
		p.proto, p.hl = int(p.body[0]), p.hl+n
	}
}

// ports are those of TCP and UDP, if they are there.
func (p *packet) ports() (src, dst int, ok bool) {
	if !ruleset.HasPorts(p.proto) || p.off > 0 || len(p.body) < 4 {
		return 0, 0, false
	}
	return int(binary.BigEndian.Uint16(p.body)), int(binary.BigEndian.Uint16(p.body[2:])), true
}

// segment is what a line says of a segment of TCP.
type segment struct {
	flags    uint8
	seq, ack uint32
	window   uint16
}

func (p *packet) segment() (s segment, ok bool) {
	if p.proto != ruleset.TCP || p.off > 0 || len(p.body) < 16 {
		return s, false
	}
	return segment{p.body[13], binary.BigEndian.Uint32(p.body[4:]), binary.BigEndian.Uint32(p.body[8:]), binary.BigEndian.Uint16(p.body[14:])}, true
}

// icmp is type and code, of both versions.
func (p *packet) icmp() (kind, code int, ok bool) {
	if p.proto != ruleset.ICMP && p.proto != ruleset.ICMPv6 || p.v6 != (p.proto == ruleset.ICMPv6) || p.off > 0 || len(p.body) < 2 {
		return 0, 0, false
	}
	return int(p.body[0]), int(p.body[1]), true
}

// quoted is the packet that an ICMP error is about.
func (p *packet) quoted() (q packet, ok bool) {
	kind, _, ok := p.icmp()
	if !ok || len(p.body) < 8 || p.v6 && kind >= 128 || !p.v6 && !errors4[kind] {
		return q, false
	}
	return decode(p.body[8:])
}

// errors4 are the types of ICMP that quote a packet: unreachable, source quench, redirect, time
// exceeded, parameter problem.
var errors4 = map[int]bool{3: true, 4: true, 5: true, 11: true, 12: true}

// payload is what follows the transport header; nil: that is not whole.
func (p *packet) payload() []byte {
	n := 8
	switch {
	case p.off > 0:
		n = 0
	case p.proto == ruleset.TCP && len(p.body) > 12:
		n = max(20, int(p.body[12]>>4)*4)
	case p.proto == ruleset.TCP:
		return nil
	}
	return p.body[min(n, len(p.body)):]
}
