package ipnat

import (
	"encoding/binary"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// isError reports an ICMP message about another packet.
func isError(i *pfil.Info) bool {
	if i.Is&pfil.Short != 0 {
		return false
	}
	if i.V6 {
		return i.Proto == packet.ProtoICMPv6 && i.Type < 128
	}
	return i.Proto == packet.ProtoICMP && packet.ICMPIsError(i.Type)
}

// quoted is what an ICMP error says of the packet that it is about.
type quoted struct {
	b     []byte
	l4    int
	proto uint8
	p     pair // of the hook where the error is
}

// quote reads the packet that an error is about; false: no ports can be read.
func quote(i *pfil.Info) (q quoted, ok bool) {
	t := i.Transport()
	q.b = t[packet.ICMPLen:]
	b := q.b
	q.p.v6 = i.V6
	// At In it is one that went out, its source ours; at Out one that came in.
	our, rem := source, destination
	if i.Out {
		our, rem = rem, our
	}
	if i.V6 {
		if len(b) < packet.IPv6Len || b[0]>>4 != 6 {
			return q, false
		}
		h := packet.IPv6(b)
		q.l4, q.proto = packet.IPv6Len, h.Next()
		if q.proto == packet.ProtoFragment {
			f, whole := packet.CheckFragment(b[q.l4:])
			if !whole || f.Off() != 0 {
				return q, false
			}
			q.l4, q.proto = q.l4+packet.FragmentLen, f.Next()
		}
		word := func(s side) end {
			a := b[8+16*int(s):]
			return end{binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:]), 0}
		}
		q.p.our, q.p.rem = word(our), word(rem)
	} else {
		if len(b) < packet.IPv4Len || b[0]>>4 != 4 {
			return q, false
		}
		h := packet.IPv4(b)
		q.l4, q.proto = h.HeaderLen(), h.Proto()
		if q.l4 < packet.IPv4Len || h.FragOff() != 0 {
			return q, false
		}
		word := func(s side) end { return end{0, uint64(binary.BigEndian.Uint32(b[12+4*int(s):])), 0} }
		q.p.our, q.p.rem = word(our), word(rem)
	}
	q.p.proto = q.proto
	if len(b) < q.l4+8 {
		return q, false
	}
	x := b[q.l4:]
	switch q.proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		q.p.our.port, q.p.rem.port = binary.BigEndian.Uint16(x[2*int(our):]), binary.BigEndian.Uint16(x[2*int(rem):])
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if isEcho(x[0], i.V6) {
			q.p.our.port = binary.BigEndian.Uint16(x[4:])
		}
	}
	return q, true
}

// icmpError translates an error about a packet of a session, inside and outside (RFC 5508
// REQ-4, 5). One about none is left alone as it comes in; as it goes out it would tell of
// addresses that are to be hidden, and is refused.
func (n *NAT) icmpError(w *netif.Work, i *pfil.Info) pfil.Verdict {
	var s *session
	q, ok := quoted{}, false
	if i.Is&pfil.Fragment == 0 {
		if q, ok = quote(i); ok {
			s = n.table.find(&q.p, i.If, i.Out)
		}
	}
	if s == nil {
		if ok && !i.Out {
			if v := n.hairpinError(i, &q); v != pfil.Untouched {
				return v
			}
		}
		r := n.rules.Load().match(n, i)
		switch {
		case r == nil:
			return pfil.Untouched
		case r.stateless():
			return n.prefix(w, r, i)
		case i.Out:
			n.count.badICMP.Add(1)
			return pfil.Refused
		}
		return pfil.Untouched
	}
	if s.rule.six() {
		return n.crossError(w, s, i, &q)
	}
	i.Pkt.CompleteCsum()
	dst := endOf(i.Dst, 0)
	if !i.Out && (dst.hi != s.out.hi || dst.lo != s.out.lo) || !errorSumOK(i) { // forged, or broken on its way
		n.count.badICMP.Add(1)
		return pfil.Refused
	}
	inner := change{source, s.in, true, false}
	outer := change{destination, s.in, false, false}
	if i.Out {
		inner.side, inner.to = destination, s.out
		outer.side, outer.to = source, s.out
	}
	inner.apply(q.b, q.l4, q.proto)
	if !i.Out || !owns(i.If, i.Src) { // what this host says itself it says as itself
		outer.apply(i.Pkt.Bytes(), i.L4, i.Proto)
	}
	setErrorSum(i)
	n.count.icmp.Add(1)
	i.Parse(i.Pkt, i.If, i.Out)
	return pfil.Translated
}

func errorSum(i *pfil.Info) uint16 {
	sum := uint64(0)
	t := i.Transport()
	if i.V6 {
		sum = packet.HeaderPseudoSum(i.Pkt.Bytes(), packet.ProtoICMPv6, len(t))
	}
	return packet.Fold(packet.Sum(sum, t))
}

func errorSumOK(i *pfil.Info) bool { return errorSum(i) == 0xffff }

func setErrorSum(i *pfil.Info) {
	t := i.Transport()
	t[2], t[3] = 0, 0
	binary.BigEndian.PutUint16(t[2:], ^errorSum(i))
}
