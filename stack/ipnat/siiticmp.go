package ipnat

import (
	"encoding/binary"

	"ionet/stack/packet"
)

// plateaus are likely path MTUs (RFC 1191 §7).
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

// Where fields of one header stand in the other, for the pointer of a parameter problem;
// -1: it has none (RFC 7915 §4.2, §5.2).
var (
	pointers6 = [...]int8{0, 1, 4, 4, -1, -1, -1, -1, 7, 6, -1, -1, 8, 8, 8, 8, 24, 24, 24, 24}
	pointers4 = [...]int8{0, 1, -1, -1, 2, 2, 9, 8, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
		16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16}
)

func pointer(table []int8, at uint32) (uint32, bool) {
	if at >= uint32(len(table)) || table[at] < 0 {
		return 0, false
	}
	return uint32(table[at]), true
}

// error6 is an ICMP error, whose packet was of total octets, as ICMPv6 says it (RFC 7915 §4.2). mtu is the
// least of what the links here take as IPv6, 0: not known. false: it does not say such a thing.
func error6(m packet.ICMP, total, mtu int) (typ, code uint8, rest uint32, ok bool) {
	switch m.Type() {
	case packet.ICMPUnreach:
		switch m.Code() {
		case packet.ICMPUnreachProtocol:
			return packet.ICMP6ParamProblem, packet.ICMP6ParamNext, 6, true // the Next Header field
		case packet.ICMPUnreachPort:
			return packet.ICMP6Unreach, packet.ICMP6UnreachPort, 0, true
		case packet.ICMPUnreachNeedFrag:
			said := m.MTU()
			for n := 0; said == 0; n++ {
				if n == len(plateaus)-1 || plateaus[n] < total {
					said = plateaus[n]
				}
			}
			said += packet.IPv6Len - packet.IPv4Len
			if mtu > 0 {
				said = min(said, mtu)
			}
			// What any path of IPv6 takes is cut on one of IPv4 ([noFragment]).
			return packet.ICMP6TooBig, 0, uint32(max(said, packet.MinMTU6)), true
		case packet.ICMPUnreachNetProhib, packet.ICMPUnreachHostProhib, packet.ICMPUnreachFilter, 15: // 15: precedence cutoff
			return packet.ICMP6Unreach, packet.ICMP6UnreachAdmin, 0, true
		case 0, 1, packet.ICMPUnreachSrcFail, 6, 7, 8, 11, 12:
			return packet.ICMP6Unreach, packet.ICMP6UnreachNoRoute, 0, true
		}
	case packet.ICMPTimeExceeded:
		return packet.ICMP6TimeExceeded, m.Code(), 0, true
	case packet.ICMPParamProblem:
		if m.Code() == 0 || m.Code() == 2 {
			at, ok := pointer(pointers6[:], uint32(m.Pointer()))
			return packet.ICMP6ParamProblem, packet.ICMP6ParamHeader, at, ok
		}
	}
	return 0, 0, 0, false
}

// error4 is an ICMPv6 error as ICMP says it (RFC 7915 §5.2); mtu is the least of what the links here
// take as IPv4.
func error4(m packet.ICMP6, mtu int) (typ, code uint8, rest uint32, ok bool) {
	switch m.Type() {
	case packet.ICMP6Unreach:
		switch m.Code() {
		case packet.ICMP6UnreachNoRoute, packet.ICMP6UnreachScope, packet.ICMP6UnreachAddr:
			return packet.ICMPUnreach, packet.ICMPUnreachHost, 0, true
		case packet.ICMP6UnreachAdmin:
			return packet.ICMPUnreach, packet.ICMPUnreachHostProhib, 0, true
		case packet.ICMP6UnreachPort:
			return packet.ICMPUnreach, packet.ICMPUnreachPort, 0, true
		}
	case packet.ICMP6TooBig:
		said := int(min(m.Rest(), 65535+packet.IPv6Len-packet.IPv4Len)) - (packet.IPv6Len - packet.IPv4Len)
		if mtu > 0 {
			said = min(said, mtu)
		}
		return packet.ICMPUnreach, packet.ICMPUnreachNeedFrag, uint32(max(said, minMTU4)), true
	case packet.ICMP6TimeExceeded:
		return packet.ICMPTimeExceeded, m.Code(), 0, true
	case packet.ICMP6ParamProblem:
		switch m.Code() {
		case packet.ICMP6ParamHeader:
			at, ok := pointer(pointers4[:], m.Rest())
			return packet.ICMPParamProblem, 0, at << 24, ok
		case packet.ICMP6ParamNext:
			return packet.ICMPUnreach, packet.ICMPUnreachProtocol, 0, true
		}
	}
	return 0, 0, 0, false
}

// minMTU4 is the smallest MTU of IPv4 (RFC 791 §3.2).
const minMTU4 = 68

// quote6 appends to b, which has room for it, the packet of IPv4 that an error is about as one of IPv6,
// as much of it as most octets hold (RFC 7915 §4.3).
func (c *crossing) quote6(b, q []byte, l4, most int) []byte {
	h := packet.IPv4(q)
	length := max(h.TotalLen()-l4, 0)
	t := q[l4:]
	c.frag, c.id, c.off, c.more = h.FragField()&^packet.IPv4DF != 0, uint32(h.ID()), h.FragOff(), h.MF()
	c.class, c.ttl = h.TOS(), h.TTL()
	was, at, n := addrSum(q), len(b), c.head6()
	b = append(b, make([]byte, n)...)
	c.put6(b[at:], length)
	t = t[:min(len(t), max(most-len(b), 0))]
	b = append(b, t...)
	c.transport(b[at+n:], was, length, true, false)
	return b
}

// quote4 is quote6 the other way round (RFC 7915 §5.3).
func (c *crossing) quote4(b, q []byte, l4, most int) []byte {
	h := packet.IPv6(q)
	length := max(h.PayloadLen()-(l4-packet.IPv6Len), 0)
	t := q[l4:]
	if h.Next() == packet.ProtoFragment {
		f := packet.Fragment(q[packet.IPv6Len:])
		c.frag, c.id, c.off, c.more = true, f.ID(), f.Off(), f.More()
	}
	c.class, c.ttl = h.Class(), h.HopLimit()
	was, at := addrSum(q), len(b)
	b = append(b, make([]byte, packet.IPv4Len)...)
	total := min(packet.IPv4Len+length, 65535)
	c.put4(b[at:], total, total, 0)
	t = t[:min(len(t), max(most-len(b), 0))]
	b = append(b, t...)
	c.transport(b[at+packet.IPv4Len:], was, length, false, false)
	return b
}

// putError writes the header of an ICMP message of either version, without its checksum.
func putError(b []byte, typ, code uint8, rest uint32) {
	b[0], b[1], b[2], b[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(b[4:], rest)
}
