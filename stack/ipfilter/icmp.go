package ipfilter

import (
	"encoding/binary"

	"ionet/stack/mib"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

var nodeMinMTU = mib.Int("net.inet.ipf.fr_icmpminfragmtu", 68, "An ICMP error that tells of a smaller path MTU is a bad packet; 0, which older routers say, is none.", mib.Range(0, 65535))

var cntForged = mib.NewCounter("ipf", "forged error", "# ICMP error{s} about what the states' hosts cannot have sent")

// tinyMTU reports an ICMP "fragmentation needed" that tells of a path MTU that no path has
// (RFC 791 §3.2: 68 octets).
func (f *Filter) tinyMTU(i *pfil.Info) bool {
	if i.V6 || i.Is&pfil.FragBody != 0 || i.Code != packet.ICMPUnreachNeedFrag {
		return false
	}
	b := i.Transport()
	if len(b) < packet.ICMPLen {
		return false
	}
	mtu := packet.ICMP(b).MTU()
	return mtu != 0 && int64(mtu) < f.env.MIB.Int(nodeMinMTU)
}

// ridesAlong reports an error that goes with what it is about. Redirects are between neighbours
// (RFC 1122 §3.2.2.2), and source quench is of no use (RFC 6633): rules are asked about these.
func ridesAlong(typ uint8) bool {
	return packet.ICMPIsError(typ) && typ != packet.ICMPRedirect && typ != packet.ICMPSourceQuench
}

// aboutState looks whether a packet is an ICMP error about a packet of a state:
// then it belongs to it. is false: it is no error, or about nothing that is
// known. One about a known conversation that cannot be about a packet of it is forged.
func (f *Filter) aboutState(i *pfil.Info) (v fate, is bool) {
	switch {
	case i.Proto == packet.ProtoICMP && !i.V6 && ridesAlong(i.Type):
	case i.Proto == packet.ProtoICMPv6 && i.V6 && packet.ICMP6IsError(i.Type):
	default:
		return unknown, false
	}
	q, ok := quoted(i)
	if !ok {
		return unknown, false
	}
	t := &f.states
	s, back := t.of(&q.Flow, t.hashOf(&q.Flow))
	if s == nil || s.dead() || s.rule.KeepState != nil && s.rule.KeepState.NoICMPErr {
		return unknown, false
	}
	shift := s.shift()
	if !i.Out {
		q.seq -= shift[sideOf(back)]
	}
	// It goes to who sent the packet that it quotes.
	if i.DstHi != q.SrcHi || i.DstLo != q.SrcLo || q.Proto == packet.ProtoTCP && !s.sent(q.seq, back) || !s.asked(&q, back) {
		t.bad.Add(1)
		return forged, true
	}
	if shift[0] != 0 {
		renumberQuote(i, q.at, sideOf(back), shift)
	}
	i.Is |= isState
	t.hits.Add(1)
	return passed, true
}

// shift is how far the numbers of both sides are moved.
func (s *state) shift() [2]uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shiftLocked()
}

func (s *state) shiftLocked() (none [2]uint32) {
	if s.more == nil {
		return none
	}
	return s.more.shift
}

// sent reports whether the side can have sent an octet of that number.
func (s *state) sent(seq uint32, back bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := sideOf(back)
	p := &s.tcp.side[n]
	return p.seen && atLeast(p.end, seq) && after(seq, p.end-2*max(s.tcp.side[1-n].window, maxSkew))
}

// asked reports whether the side has sent anything and, of ICMP, can have sent a message of the quoted type.
func (s *state) asked(q *quote, back bool) bool {
	if back && q.Proto != packet.ProtoTCP && s.class() == opening {
		return false
	}
	if q.Proto != packet.ProtoICMP && q.Proto != packet.ProtoICMPv6 {
		return true
	}
	if back {
		return q.icmp == answerTo(s.icmp, s.v6)
	}
	return q.icmp == s.icmp
}

type quote struct {
	pfil.Flow
	seq  uint32
	icmp uint8 // type
	at   int   // where its transport header begins, octets from that of the error
}

// quoted is the packet that an ICMP error quotes, as far as states know it.
func quoted(i *pfil.Info) (q quote, ok bool) {
	b := i.Transport()
	if len(b) < packet.ICMPLen {
		return q, false
	}
	b = b[packet.ICMPLen:]
	if !i.V6 {
		h, ok := packet.CheckIPv4(b)
		if !ok || h.FragOff() != 0 || len(b) < h.HeaderLen()+8 {
			return q, false
		}
		q.SrcLo, q.DstLo = uint64(binary.BigEndian.Uint32(h[12:])), uint64(binary.BigEndian.Uint32(h[16:]))
		q.Proto, q.at = h.Proto(), h.HeaderLen()
	} else {
		h, ok := packet.CheckIPv6(b)
		if !ok || len(b) < packet.IPv6Len+8 {
			return q, false
		}
		q.V6 = true
		q.SrcHi, q.SrcLo = binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:])
		q.DstHi, q.DstLo = binary.BigEndian.Uint64(h[24:]), binary.BigEndian.Uint64(h[32:])
		if q.Proto, q.at, ok = pfil.Transport6(h); !ok || len(b) < q.at+8 {
			return q, false
		}
	}
	l4 := b[q.at:]
	q.at += packet.ICMPLen
	switch q.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		q.Sport, q.Dport = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
		q.seq = binary.BigEndian.Uint32(l4[4:])
	case packet.ProtoICMP, packet.ProtoICMPv6:
		q.Sport = binary.BigEndian.Uint16(l4[4:])
		q.Dport, q.icmp = q.Sport, l4[0]
	}
	return q, true
}
