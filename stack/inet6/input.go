package inet6

import (
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/socket"
)

var (
	cntTotal     = mib.NewCounter("ip6", "received", "# total packet{s} received")
	cntTooSmall  = mib.NewCounter("ip6", "too small", "# with size smaller than minimum")
	cntTooShort  = mib.NewCounter("ip6", "data length", "# with data size < data length")
	cntBadOpts   = mib.NewCounter("ip6", "bad options", "# with bad options")
	cntBadVers   = mib.NewCounter("ip6", "bad version", "# with incorrect version number")
	cntMartian   = mib.NewCounter("ip6", "bad scope", "# packet{s} that violated scope rules")
	cntSpoofed   = mib.NewCounter("ip6", "reverse path", "# packet{s} from where their source is not routed (net.inet6.ip6.rpf)")
	cntFrags     = mib.NewCounter("ip6", "fragment", "# fragment{s} received")
	cntFragDrop  = mib.NewCounter("ip6", "fragment dropped", "# fragment{s} dropped (dup or out of space)")
	cntFragBad   = mib.NewCounter("ip6", "malformed fragment", "# malformed or overlapping fragment{s} dropped")
	cntFragTime  = mib.NewCounter("ip6", "fragment timeout", "# fragment{s} dropped after timeout")
	cntReass     = mib.NewCounter("ip6", "reassembled", "# packet{s} reassembled ok")
	cntDelivered = mib.NewCounter("ip6", "delivered", "# packet{s} for this host")
	cntForward   = mib.NewCounter("ip6", "forwarded", "# packet{s} forwarded")
	cntFast      = mib.NewCounter("ip6", "fast forwarded", "(# packet{s} fast forwarded)")
	cntCantFwd   = mib.NewCounter("ip6", "not forwardable", "# packet{s} not forwardable")
	cntNoGroup   = mib.NewCounter("ip6", "no such group", "# packet{s} for groups nobody here has joined")
	cntNoProto   = mib.NewCounter("ip6", "unknown protocol", "# packet{s} for unknown/unsupported protocol")
	cntNested    = mib.NewCounter("ip6", "too many headers", "# packet{s} with too many extension headers")
	cntUnicastLB = mib.NewCounter("ip6", "link broadcast", "# packet{s} for one host in a link broadcast")
)

// Input is ether.Handler for EtherType 0x86dd, and loop.Handler.
func (in *Inet6) Input(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	w.CountN(cntTotal, uint32(len(burst)))
	f := in.hook.Load()
	if fast := in.flows.Forward(w, ifp, burst, in.flowGeneration(f)); fast > 0 {
		w.CountN(cntForward, uint32(fast))
		w.CountN(cntFast, uint32(fast))
	}
	for _, p := range burst {
		if p != nil {
			in.input(w, ifp, p, f)
		}
	}
}

func (in *Inet6) input(w *netif.Work, ifp *netif.Interface, p *packet.Buf, f pfil.Filter) {
	p.MarkL3(0)
	b := p.Bytes()
	h, ok := packet.CheckIPv6(b)
	if !ok {
		if len(b) < packet.IPv6Len {
			w.Drop(p, cntTooSmall)
		} else {
			w.Drop(p, cntBadVers)
		}
		return
	}
	total := packet.IPv6Len + h.PayloadLen() // 0 with a jumbogram, which has no place here (RFC 2675)
	if total > len(b) {
		w.Drop(p, cntTooShort)
		return
	}
	if total < len(b) {
		p.TrimTo(total)
		h = h[:total]
	}
	src, dst := h.Addrs(p.RcvIf)
	if martian(ifp, src, dst) {
		w.Drop(p, cntMartian)
		return
	}
	if f != nil {
		if p = f.In(w, ifp, p); p == nil {
			return
		}
		h = packet.IPv6(p.Bytes())
		src, dst = h.Addrs(p.RcvIf)
	}
	if in.spoofed(ifp, src) {
		w.Drop(p, cntSpoofed)
		return
	}
	if in.Local(dst) != nil {
		if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 {
			w.Drop(p, cntUnicastLB)
			return
		}
		in.local(w, ifp, p, h)
		return
	}
	switch {
	case dst.IsMulticast():
		in.group(w, ifp, p, h, src, dst)
	default:
		in.toForward(w, p)
	}
}

// martian reports addresses that no packet from a wire may carry (RFC 4291
// §2.5, §2.7; for IPv4 in IPv6, RFC 4942 §2.2). What a host sends to itself is on no
// wire: a service that answers would answer itself for ever.
func martian(ifp *netif.Interface, src, dst netip.Addr) bool {
	if src.IsMulticast() || dst == unspecified || src.Is4In6() || dst.Is4In6() {
		return true
	}
	if ifp.Flags()&netif.FlagLoopback != 0 {
		return false
	}
	return src == loopback || dst == loopback || src == dst || dst.IsMulticast() && scopeOf(dst) <= scopeInterface
}

// local takes a packet for this host through its extension headers to whoever
// it is for.
func (in *Inet6) local(w *netif.Work, ifp *netif.Interface, p *packet.Buf, h packet.IPv6) {
	x := chain{p: p, next: h.Next(), at: packet.IPv6Len, nextAt: nextHeaderAt}
	if !in.walk(w, &x) {
		return
	}
	p = x.p
	w.Count(cntDelivered)
	p.TrimFront(x.at)
	p.MarkL4(0)
	if s := in.sec.Load(); s != nil && !s.Idle() && in.secured(w, s, p, x.next) {
		return
	}
	if x.next == packet.ProtoICMPv6 && !in.checkICMP(w, p, x.fragmented) {
		return
	}
	wanted := in.raw != nil && in.raw.Deliver6(w, p, x.next)
	if in.refused(w, p, x.next) {
		return
	}
	if x.next == packet.ProtoICMPv6 {
		in.icmpInput(w, ifp, p)
		return
	}
	if u, c := in.upper[x.next], in.picky[x.next]; u != nil && (c == nil || c.Wants(p)) {
		u.Input(w, p)
		return
	}
	if wanted {
		p.Free()
		return
	}
	in.sendError(w, p, packet.ICMP6ParamProblem, packet.ICMP6ParamNext, uint32(x.nextAt))
	w.Drop(p, cntNoProto)
}

// Describe is socket.Network.
func (in *Inet6) Describe(pkt *packet.Buf, m *socket.Msg) {
	h := packet.IPv6(pkt.L3())
	m.Addr.IP, m.Addr.Scope, m.Dst = h.Said(pkt.RcvIf)
	m.TTL = h.HopLimit()
}
