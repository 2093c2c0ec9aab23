package inet

import (
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

var (
	cntTotal       = mib.NewCounter("ip", "received", "# total packet{s} received")
	cntBadSum      = mib.NewCounter("ip", "bad header checksum", "# bad header checksum{s}")
	cntTooShort    = mib.NewCounter("ip", "data length", "# with data size < data length")
	cntTooSmall    = mib.NewCounter("ip", "too small", "# with size smaller than minimum")
	cntBadHlen     = mib.NewCounter("ip", "bad header", "# with bad header length or version")
	cntBadOpts     = mib.NewCounter("ip", "bad options", "# with bad options")
	cntMartian     = mib.NewCounter("ip", "martian", "# with addresses that cannot be on a wire")
	cntSpoofed     = mib.NewCounter("ip", "reverse path", "# from where their source is not routed (net.inet.ip.rpf)")
	cntFrags       = mib.NewCounter("ip", "fragment", "# fragment{s} received")
	cntFragDrop    = mib.NewCounter("ip", "fragment dropped", "# fragment{s} dropped (dup or out of space)")
	cntFragBad     = mib.NewCounter("ip", "malformed fragment", "# malformed or overlapping fragment{s} dropped")
	cntFragTime    = mib.NewCounter("ip", "fragment timeout", "# fragment{s} dropped after timeout")
	cntReassembled = mib.NewCounter("ip", "reassembled", "# packet{s} reassembled ok")
	cntDelivered   = mib.NewCounter("ip", "delivered", "# packet{s} for this host")
	cntNoProto     = mib.NewCounter("ip", "unknown protocol", "# packet{s} for unknown/unsupported protocol")
	cntForward     = mib.NewCounter("ip", "forwarded", "# packet{s} forwarded")
	cntFast        = mib.NewCounter("ip", "fast forwarded", "(# packet{s} fast forwarded)")
	cntCantFwd     = mib.NewCounter("ip", "not forwardable", "# packet{s} not forwardable")
	cntRedirSent   = mib.NewCounter("ip", "redirects sent", "# redirect{s} sent")
	cntLinkBcast   = mib.NewCounter("ip", "link broadcast", "# packet{s} for one host in a link broadcast (RFC 1122 §3.3.6)")
	cntNoGroup     = mib.NewCounter("ip", "no such group", "# packet{s} for groups nobody here has joined")
	cntLocalOut    = mib.NewCounter("ip", "sent", "# packet{s} sent from this host")
	cntRawOut      = mib.NewCounter("ip", "raw sent", "# packet{s} sent with fabricated ip header")
	cntOutNoMem    = mib.NewCounter("ip", "no memory", "# output packet{s} dropped due to no bufs, etc.")
	cntNoRoute     = mib.NewCounter("ip", "no route", "# output packet{s} discarded due to no route")
	cntBlackhole   = mib.NewCounter("ip", "blackhole", "# output packet{s} swallowed by a blackhole route")
	cntFragmented  = mib.NewCounter("ip", "fragmented", "# output datagram{s} fragmented")
	cntFragsOut    = mib.NewCounter("ip", "fragments created", "# fragment{s} created")
	cntCantFrag    = mib.NewCounter("ip", "can't fragment", "# datagram{s} that can't be fragmented")
)

var thisNet = netip.MustParsePrefix("0.0.0.0/8")

// Input is ether.Handler for EtherType 0x0800.
func (in *Inet) Input(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
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

func (in *Inet) input(w *netif.Work, ifp *netif.Interface, p *packet.Buf, f pfil.Filter) {
	p.MarkL3(0)
	b := p.Bytes()
	h, ok := packet.CheckIPv4(b)
	if !ok {
		if len(b) < packet.IPv4Len {
			w.Drop(p, cntTooSmall)
		} else {
			w.Drop(p, cntBadHlen)
		}
		return
	}
	if !h.ChecksumOK() {
		w.Drop(p, cntBadSum)
		return
	}
	total := h.TotalLen()
	if total > len(b) {
		w.Drop(p, cntTooShort)
		return
	}
	if total < len(b) {
		p.TrimTo(total)
		h = h[:total]
	}
	src, dst := h.Src(), h.Dst()
	if martian(ifp, src, dst) {
		w.Drop(p, cntMartian)
		return
	}
	if f != nil {
		if p = f.In(w, ifp, p); p == nil {
			return
		}
		h = packet.IPv4(p.Bytes())
		dst = h.Dst()
	}
	if in.spoofed(ifp, src) {
		w.Drop(p, cntSpoofed)
		return
	}
	if h.HeaderLen() > packet.IPv4Len {
		var done bool
		if dst, done = in.inputOptions(w, ifp, p, h); done {
			return
		}
	}
	if in.Local(dst) != nil {
		if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 {
			w.Drop(p, cntLinkBcast)
			return
		}
		in.local(w, p, h)
		return
	}
	switch {
	case dst.IsMulticast():
		in.group(w, ifp, p, h, dst)
	case dst == broadcast, dst == unspecified && in.env.MIB.On(nodeHostZero):
		p.Flags |= packet.FlagBroadcast
		in.local(w, p, h)
	default:
		if a := in.directed(dst); a != nil && (a.If == ifp || ifp == in.lo) {
			p.Flags |= packet.FlagBroadcast
			in.local(w, p, h)
			return
		}
		in.toForward(w, p)
	}
}

// martian reports addresses that no packet from a wire may carry
// (RFC 1122 §3.2.1.3, RFC 1812 §5.3.7). What a host sends to itself is on no
// wire: a service that answers would answer itself for ever.
func martian(ifp *netif.Interface, src, dst netip.Addr) bool {
	if src.IsMulticast() || src == broadcast || src != unspecified && thisNet.Contains(src) {
		return true
	}
	return (src.IsLoopback() || dst.IsLoopback() || src == dst) && ifp.Flags()&netif.FlagLoopback == 0
}

// local takes a packet for this host: reassembly, then whoever it is for.
func (in *Inet) local(w *netif.Work, p *packet.Buf, h packet.IPv4) {
	if h.FragField()&^packet.IPv4DF != 0 {
		w.Count(cntFrags)
		if p = in.reassemble(w, p, h); p == nil {
			return
		}
		h = packet.IPv4(p.Bytes())
	}
	w.Count(cntDelivered)
	proto := h.Proto()
	n := h.HeaderLen()
	p.MarkL4(n)
	if s := in.sec.Load(); s != nil && !s.Idle() {
		p.TrimFront(n)
		if in.secured(w, s, p, proto) {
			return
		}
		p.RestoreL3()
	}
	wanted := in.raw != nil && in.raw.Deliver(w, p, proto)
	if in.refused(w, p, proto) {
		return
	}
	if u := in.upper[proto]; u != nil {
		p.TrimFront(n)
		if c := in.picky[proto]; c == nil || c.Wants(p) {
			u.Input(w, p)
			return
		}
		p.RestoreL3()
	}
	if wanted {
		p.Free()
		return
	}
	if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) == 0 {
		in.sendError(w, p, packet.ICMPUnreach, packet.ICMPUnreachProtocol, 0)
	}
	w.Drop(p, cntNoProto)
}
