package ipnat

import (
	"encoding/binary"
	"net/netip"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// Net4 is what NAT64 asks of IPv4 (inet).
type Net4 interface {
	// Inject takes over a complete packet, window at its IP header, and sends it by ifp.
	Inject(w *netif.Work, pkt *packet.Buf, ifp *netif.Interface, nexthop netip.Addr)
	// Refuse answers pkt, L3 marked, with an ICMP "unreachable" of that code.
	Refuse(w *netif.Work, pkt *packet.Buf, code uint8, asDest bool)
	// MTUTo is the largest packet that may leave by ifp for dst; 0: there is no way.
	MTUTo(dst netip.Addr, ifp *netif.Interface) int
}

// Net6 is what NAT64 asks of IPv6 (inet6).
type Net6 interface {
	// Receive takes over a complete packet, window at its IP header, and has it come in by ifp
	// at the end of the call.
	Receive(w *netif.Work, pkt *packet.Buf, ifp *netif.Interface)
	// TooBig answers pkt, L3 marked: packets of mtu octets would pass.
	TooBig(w *netif.Work, pkt *packet.Buf, mtu int)
	// ParamProblem answers pkt, L3 marked, whose octet at is the trouble.
	ParamProblem(w *netif.Work, pkt *packet.Buf, at int)
}

// A session of nat64 has its inside end in IPv6, and the two others in IPv4; its protocol is IPv4's. Rules
// of the filter see IPv6: what goes out crosses behind them, to be sent by the same interface, and
// what comes in has crossed before they see it, as if IPv6 had come in by that interface.

// embed is the address of IPv6 that stands for one of IPv4: its last 32 bits are that (RFC 6052 §2.2).
func (r *rule) embed(e end) end {
	hi, lo := packet.Words(r.src.Addr())
	return end{hi, lo | e.lo&0xffffffff, e.port}
}

func (r *rule) six() bool { return r.Kind == ipl.NAT64 }

// inside is what Out sees of a session.
func (s *session) inside() pair {
	if s.rule.six() {
		return pair{s.in, s.rule.embed(s.rem), sixProto(s.proto), true}
	}
	return pair{s.in, s.rem, s.proto, s.v6}
}

var wellKnown = netip.MustParsePrefix("64:ff9b::/96")

// crosses reports whether a packet that nat64 is about may begin a session.
func (r *rule) crosses(i *pfil.Info) bool {
	if i.Proto == packet.ProtoTCP && !opens(i) || !hasPorts(i.Proto) && !i.Echo() {
		return false // RFC 6146 §3.5.2.2
	}
	if r.src.Contains(i.Src) { // it has crossed (RFC 6146 §3.5)
		return false
	}
	dst := addr4(end{lo: i.DstLo & 0xffffffff})
	first := dst.As4()[0]
	if first == 0 || first >= 224 || dst.IsLoopback() || dst.IsLinkLocalUnicast() {
		return false
	}
	return r.src != wellKnown || !dst.IsPrivate() // RFC 6052 §3.1
}

// cross translates a packet of a session of nat64 and sends it on.
func (n *NAT) cross(w *netif.Work, s *session, i *pfil.Info) pfil.Verdict {
	v := pfil.Refused
	if i.V6 {
		v = n.toFour(w, s, i)
	} else {
		v = n.toSix(w, s, i)
	}
	if v == pfil.Refused {
		n.count.bad.Add(1)
	}
	return v
}

// headers walks the extension headers of a packet of IPv6 that are not those of a fragment's body. at is
// the Fragment header's, or 0; route that of a routing header with segments left, or 0.
func headers(b []byte, l4 int) (at, route int) {
	next := b[6]
	for x := packet.IPv6Len; x < l4; {
		switch next {
		case packet.ProtoFragment:
			at, next, x = x, b[x], x+packet.FragmentLen
		case packet.ProtoRouting:
			if b[x+3] != 0 && route == 0 {
				route = x
			}
			next, x = b[x], x+(int(b[x+1])+1)*8
		default:
			next, x = b[x], x+(int(b[x+1])+1)*8
		}
	}
	return at, route
}

// toFour has a packet that goes out go out as one of IPv4 (RFC 7915 §5.1). Extension headers are
// left behind, but not out of fragments.
func (n *NAT) toFour(w *netif.Work, s *session, i *pfil.Info) pfil.Verdict {
	p := i.Pkt
	b, l4 := p.Bytes(), i.L4
	if !i.Out || l4 > len(b) || i.Opts&(1<<pfil.HeaderBit(packet.ProtoAH)) != 0 {
		return pfil.Refused
	}
	at, route := headers(b, l4)
	if route != 0 {
		n.net6.ParamProblem(w, p, route+3)
		return pfil.Refused
	}
	c := crossing{src: s.out, dst: s.rem, proto: s.proto, class: i.TOS, ttl: i.TTL}
	if at != 0 {
		f := packet.Fragment(b[at:])
		c.frag, c.id, c.off, c.more = true, f.ID(), f.Off(), f.More()
		if at+packet.FragmentLen != l4 && !c.whole() {
			return pfil.Refused
		}
	}
	total := packet.IPv4Len + len(b) - l4
	if total > 65535 || c.proto == packet.ProtoICMP && !c.whole() { // RFC 7915 §1.2
		return pfil.Refused
	}
	size := total
	if p.GSO != packet.GSONone {
		size = packet.IPv4Len + packet.UDPLen + int(p.GSOSize)
		if h, ok := packet.CheckTCP(b[l4:]); ok && c.proto == packet.ProtoTCP {
			size += h.HeaderLen() - packet.UDPLen
		}
	}
	if !c.frag && size > noFragment {
		if mtu := n.net4.MTUTo(addr4(s.rem), i.If); mtu != 0 && size > mtu {
			n.net6.TooBig(w, p, mtu+packet.IPv6Len-packet.IPv4Len)
			return pfil.Refused
		}
	}
	if c.proto == packet.ProtoICMP {
		p.CompleteCsum()
	}
	if c.off == 0 {
		c.transport(b[l4:], addrSum(b), len(b)-l4, false, p.Csum == packet.CsumPartial)
	}
	p.TrimFront(l4 - packet.IPv4Len)
	c.put4(p.Bytes(), total, size, uint16(n.id.Add(1)))
	p.MarkL3(0)
	p.MarkL4(packet.IPv4Len)
	p.GSO = gso(p.GSO)
	n.count.mapped[1].Add(1)
	n.inject(w, i, p)
	return pfil.Taken
}

// inject sends p, which stands for i's packet, by the same interface.
func (n *NAT) inject(w *netif.Work, i *pfil.Info, p *packet.Buf) {
	i.Pkt, i.Made = nil, p
	n.net4.Inject(w, p, i.If, netip.Addr{})
	i.Made = nil
}

// sourceRouted reports a source route with addresses left.
func sourceRouted(o []byte) bool {
	for len(o) > 0 && o[0] != 0 {
		if o[0] == 1 {
			o = o[1:]
			continue
		}
		if len(o) < 3 || o[1] < 2 || int(o[1]) > len(o) {
			return false
		}
		if (o[0] == 131 || o[0] == 137) && o[2] <= o[1] {
			return true
		}
		o = o[o[1]:]
	}
	return false
}

// toSix has a packet that comes in come in as one of IPv6 (RFC 7915 §4.1). Options are left behind. One
// without DF is cut to what any path takes.
func (n *NAT) toSix(w *netif.Work, s *session, i *pfil.Info) pfil.Verdict {
	p := i.Pkt
	h := packet.IPv4(p.Bytes())
	if i.Out {
		return pfil.Refused
	}
	if sourceRouted(h.Options()) {
		n.net4.Refuse(w, p, packet.ICMPUnreachSrcFail, false)
		return pfil.Refused
	}
	c := crossing{src: s.rule.embed(s.rem), dst: s.in, proto: s.proto, class: i.TOS, ttl: i.TTL, df: h.DF()}
	c.frag, c.id, c.off, c.more = i.Is&pfil.Fragment != 0, uint32(h.ID()), h.FragOff(), h.MF()
	t := h.Payload()
	if c.proto == packet.ProtoICMP {
		if c.frag {
			return pfil.Refused
		}
		p.CompleteCsum()
	}
	was := addrSum(h)
	if c.off == 0 {
		none := c.proto == packet.ProtoUDP && p.Csum != packet.CsumPartial && len(t) >= packet.UDPLen && t[6] == 0 && t[7] == 0
		if none && c.frag { // IPv6 has no datagrams without a checksum, and this one cannot be made (RFC 7915 §4.5)
			return pfil.Refused
		}
		c.transport(t, was, len(t), true, p.Csum == packet.CsumPartial)
		if none {
			sum := uint64(c.endsSum()) + uint64(len(t)) + packet.ProtoUDP
			x := ^packet.Fold(packet.Sum(sum, t))
			if x == 0 {
				x = 0xffff
			}
			binary.BigEndian.PutUint16(t[6:], x)
		}
	}
	n.count.mapped[0].Add(1)
	if !c.df && p.GSO == packet.GSONone && len(t)+c.head6() > packet.MinMTU6 {
		return n.cut(w, &c, i, len(h)-len(t))
	}
	if p.GSO == packet.GSONone && len(t)+c.head6()-packet.IPv6Len > 65535 {
		return pfil.Refused
	}
	length, head := len(t), c.head6()
	p.TrimFront(len(h) - len(t))
	q := p.WithHeadroom(head)
	if q == nil {
		return pfil.Refused
	}
	c.put6(q.Prepend(head), length)
	q.MarkL3(0)
	q.MarkL4(head)
	q.GSO = gso(q.GSO)
	i.Pkt = nil
	n.net6.Receive(w, q, i.If)
	return pfil.Taken
}

// cut is toSix for what becomes several fragments; its transport header has crossed.
func (n *NAT) cut(w *netif.Work, c *crossing, i *pfil.Info, hlen int) pfil.Verdict {
	p := i.Pkt
	p.CompleteCsum()
	t, first, more := p.Bytes()[hlen:], c.off, c.more
	c.frag = true
	const each = (packet.MinMTU6 - packet.IPv6Len - packet.FragmentLen) &^ 7
	for at := 0; at < len(t); at += each {
		k := min(each, len(t)-at)
		q := p.Pool().Get(c.head6() + k)
		if q == nil {
			break
		}
		c.off, c.more = first+at, more || at+k < len(t)
		c.put6(q.Append(c.head6()), k)
		copy(q.Append(k), t[at:])
		q.Time = p.Time
		q.MarkL3(0)
		q.MarkL4(c.head6())
		n.net6.Receive(w, q, i.If)
	}
	i.Pkt = nil
	p.Free()
	return pfil.Taken
}

// crossError translates an ICMP error about a packet of a session of nat64 (RFC 7915 §4.2, §5.2, RFC 6146 §3.5).
func (n *NAT) crossError(w *netif.Work, s *session, i *pfil.Info, q *quoted) pfil.Verdict {
	p := i.Pkt
	p.CompleteCsum()
	dst := endOf(i.Dst, 0)
	if !i.Out && (dst.hi != s.out.hi || dst.lo != s.out.lo) || !errorSumOK(i) || n.net4 == nil {
		n.count.badICMP.Add(1)
		return pfil.Refused
	}
	mtu4 := n.net4.MTUTo(addr4(s.rem), i.If)
	var b []byte
	var rest uint32
	var typ, code uint8
	ok := false
	c := crossing{src: s.rule.embed(s.rem), dst: s.in, proto: s.proto} // of the packet that it is about
	if i.V6 {
		c.src, c.dst = s.rem, s.out
		typ, code, rest, ok = error4(packet.ICMP6(i.Transport()), mtu4)
		const most = 576 // RFC 1812 §4.3.2.3
		b = c.quote4(make([]byte, packet.IPv4Len+packet.ICMPLen, most), q.b, q.l4, most)
	} else {
		c.src, c.dst = s.in, s.rule.embed(s.rem)
		if mtu4 > 0 {
			mtu4 += packet.IPv6Len - packet.IPv4Len
		}
		typ, code, rest, ok = error6(packet.ICMP(i.Transport()), packet.IPv4(q.b).TotalLen(), mtu4)
		b = c.quote6(make([]byte, packet.IPv6Len+packet.ICMP6Len, packet.MinMTU6), q.b, q.l4, packet.MinMTU6)
	}
	out := (*packet.Buf)(nil)
	if ok {
		out = p.Pool().Get(len(b))
	}
	if out == nil {
		n.count.badICMP.Add(1)
		return pfil.Refused
	}
	e := crossing{class: i.TOS, ttl: i.TTL, proto: packet.ProtoICMP}
	from := endOf(i.Src, 0)
	if i.V6 {
		// A router of IPv6 has no address of IPv4: the session's stands for it (RFC 6791).
		e.src, e.dst = s.out, s.rem
		m := b[packet.IPv4Len:]
		putError(m, typ, code, rest)
		binary.BigEndian.PutUint16(m[2:], packet.Checksum(m))
		e.put4(b, len(b), len(b), uint16(n.id.Add(1)))
	} else {
		e.src, e.dst = s.rule.embed(from), s.in
		m := b[packet.IPv6Len:]
		putError(m, typ, code, rest)
		e.put6(b, len(m))
		binary.BigEndian.PutUint16(m[2:], ^packet.Fold(packet.Sum(packet.HeaderPseudoSum(b, packet.ProtoICMPv6, len(m)), m)))
	}
	copy(out.Append(len(b)), b)
	out.Time = p.Time
	out.MarkL3(0)
	n.count.icmp.Add(1)
	i.Pkt = nil
	p.Free()
	if i.V6 {
		out.MarkL4(packet.IPv4Len)
		n.inject(w, i, out)
	} else {
		out.MarkL4(packet.IPv6Len)
		n.net6.Receive(w, out, i.If)
	}
	return pfil.Taken
}
