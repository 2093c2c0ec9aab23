package inet6

import (
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

var (
	nodeForwarding = mib.Int("net.inet6.ip6.forwarding", 0, "1: forward packets between interfaces, and be a router to neighbours.", mib.Bool())
	nodeLog        = mib.Int("net.inet6.ip6.log_interval", 5, "Seconds at least between two lines of the log about packets that are not forwarded because of where they come from; 0: a line for each.", mib.Range(0, 1<<30))
	nodeRedirect   = mib.Int("net.inet6.ip6.redirect", 1, "1: send redirects when forwarding back out of the same interface.", mib.Bool())
	cntRedirSent   = mib.NewCounter("ip6", "redirects sent", "# redirect{s} sent")
)

// Forwarding reports whether this host is a router.
func (in *Inet6) Forwarding() bool { return in.env.MIB.On(nodeForwarding) }

// toForward puts a packet that is not for us on the work list, or drops it.
func (in *Inet6) toForward(w *netif.Work, p *packet.Buf) {
	if !in.Forwarding() {
		w.Drop(p, cntCantFwd)
		return
	}
	w.Turn(in.forwardTurn, p)
}

// forward sends a packet on (RFC 8200, RFC 4291 §2.5.6, RFC 4443 §3).
func (in *Inet6) forward(w *netif.Work, p *packet.Buf) {
	h := packet.IPv6(p.Bytes())
	src, dst := packet.Scoped(h.Src(), p.RcvIf), packet.Scoped(h.Dst(), p.RcvIf)
	if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 || src == unspecified || src == loopback ||
		dst.IsLinkLocalUnicast() || dst == loopback {
		if src == unspecified {
			in.notForwarded(w, p, "nobody is its source")
		}
		w.Drop(p, cntCantFwd)
		return
	}
	if h.HopLimit() <= 1 {
		in.sendError(w, p, packet.ICMP6TimeExceeded, packet.ICMP6TimeTransit, 0)
		w.Drop(p, cntCantFwd)
		return
	}
	if s := in.sec.Load(); s != nil && !s.Idle() && !s.Admit(w, p, true) {
		w.Drop(p, cntUnsecured)
		return
	}
	filter := in.hook.Load()
	gen := in.flowGeneration(filter)
	f := socket.Flow{Dst: dst, Src: src, From: src}
	err := in.resolve(&f)
	rc := &f.Route
	if err != nil {
		code := uint8(packet.ICMP6UnreachNoRoute)
		if hop, _ := in.routes.Lookup(dst); hop != nil && hop.Flags&route.FlagReject != 0 {
			code = packet.ICMP6UnreachReject
		}
		in.sendError(w, p, packet.ICMP6Unreach, code, 0)
		w.Drop(p, cntCantFwd)
		return
	}
	if !rc.NextHop.IsValid() {
		w.Drop(p, cntBlackhole)
		return
	}
	if src.IsLinkLocalUnicast() && rc.If.Index != p.RcvIf { // RFC 4443 §3.1, code 2
		in.sendError(w, p, packet.ICMP6Unreach, packet.ICMP6UnreachScope, 0)
		in.notForwarded(w, p, "its source is of one link")
		w.Drop(p, cntMartian)
		return
	}
	p.MarkL4(packet.IPv6Len)
	if p.GSO != packet.GSONone {
		_, at, _, _ := transport(h)
		p.MarkL4(at)
	}
	back := rc.If.Index == p.RcvIf && !rc.Local
	if back && rc.If.Flags()&netif.FlagPointToPoint != 0 && in.onLink(rc.If, dst) { // it would go to and fro (RFC 4443 §3.1)
		in.sendError(w, p, packet.ICMP6Unreach, packet.ICMP6UnreachAddr, 0)
		w.Drop(p, cntCantFwd)
		return
	}
	s := in.sec.Load()
	if s != nil && s.Idle() {
		s = nil
	}
	if s != nil {
		if policy := s.Policy(w, p, nil); policy != nil {
			in.note(w, p, src, rc, filter, policy, gen)
			in.forwardProtected(w, s, policy, p, &f)
			return
		}
	}
	if !p.Fits(rc.MTU) {
		in.sendError(w, p, packet.ICMP6TooBig, 0, uint32(rc.MTU))
		w.Drop(p, cntCantFwd)
		return
	}
	if back && rc.If.Ether() && in.nd != nil && in.env.MIB.On(nodeRedirect) {
		w.Count(cntRedirSent)
		in.nd.SendRedirect(w, rc.If, p, rc.NextHop)
	}
	if s != nil && in.filterFirst && filter != nil { // translated, it may be one that a policy is about
		in.forwardProtected(w, s, nil, p, &f)
		return
	}
	h.SetHopLimit(h.HopLimit() - 1)
	if filter != nil {
		if p = filter.Out(w, rc.If, p); p == nil {
			return
		}
	}
	in.note(w, p, src, rc, filter, nil, gen)
	if u, ok := rc.Use.(route.Handle); ok {
		in.routes.AddUse(u, 1)
	}
	w.Count(cntForward)
	_ = rc.If.Output(w, rc.If, p, rc.NextHop) // the sender learns of a dead neighbour by ICMPv6, from nd6's time-out
}

// Refuse answers a packet, L3 marked, that a filter blocks with the code of an
// unreachable: from us, or as the destination itself would.
func (in *Inet6) Refuse(w *netif.Work, p *packet.Buf, code uint8, asDest bool) {
	if asDest {
		in.sendErrorAs(w, p, packet.ICMP6Unreach, code, 0, packet.Scoped(packet.IPv6(p.L3()).Dst(), p.RcvIf))
	} else {
		in.sendError(w, p, packet.ICMP6Unreach, code, 0)
	}
}

// Inject sends a complete packet, window at its IP header, that is a filter's:
// its rules are not asked about it again. An ifp of nil, and a nexthop that is not
// valid, are as the routes say.
func (in *Inet6) Inject(w *netif.Work, p *packet.Buf, ifp *netif.Interface, nexthop netip.Addr) {
	p.Flags = p.Flags&^(packet.FlagCame|packet.FlagBroadcast|packet.FlagMulticast) | packet.FlagInjected
	h := packet.IPv6(p.Bytes())
	p.MarkL3(0)
	_, at, _, _ := transport(h)
	p.MarkL4(min(at, p.Len()))
	f := socket.Flow{Src: h.Src(), Dst: h.Dst(), NextHop: nexthop}
	if ifp != nil {
		f.IfIndex = ifp.Index
	}
	f.Src, f.Dst = packet.Scoped(f.Src, f.IfIndex), packet.Scoped(f.Dst, f.IfIndex)
	if in.Local(f.Src) == nil {
		f.From = f.Src // among equal routes it goes as its flow does
	}
	err := in.resolve(&f)
	if rc := &f.Route; err != nil && ifp != nil && nexthop.IsValid() { // a neighbour there, whatever the routes say
		rc.If, rc.NextHop, rc.MTU, err = ifp, packet.Scoped(nexthop, ifp.Index), in.linkMTU(ifp), nil
	}
	if err != nil {
		w.Drop(p, cntNoRoute)
		return
	}
	_ = in.send(w, p, &f, &f.Route) // who sent the original is not told
}

// Receive takes over a complete packet, window at its IP header, that a translator has made of one that
// ifp has received, and has it come in by ifp, as a turn.
func (in *Inet6) Receive(w *netif.Work, p *packet.Buf, ifp *netif.Interface) {
	p.Flags &^= packet.FlagCame | packet.FlagBroadcast | packet.FlagMulticast
	p.RcvIf = ifp.Index
	w.Turn(in.loopedTurn, p)
}

// notForwarded logs a packet that goes no further because of its source (KAME's
// ip6_forward).
func (in *Inet6) notForwarded(w *netif.Work, p *packet.Buf, because string) {
	next := in.nextLog.Load()
	if w.Now < next || !in.nextLog.CompareAndSwap(next, w.Now+in.env.MIB.Int(nodeLog)*second) {
		return
	}
	h, from := packet.IPv6(p.Bytes()), ""
	if ifp := in.env.Ifs.ByIndex(p.RcvIf); ifp != nil {
		from = ifp.Name
	}
	in.log.Info("inet6: packet not forwarded", "because", because, "source", h.Src(), "destination", h.Dst(), "next", h.Next(), "interface", from)
}

// TooBig answers a packet that a tunnel takes only up to mtu.
func (in *Inet6) TooBig(w *netif.Work, p *packet.Buf, mtu int) {
	in.sendError(w, p, packet.ICMP6TooBig, 0, uint32(mtu))
}

// ParamProblem answers a packet whose octet at is the trouble (RFC 4443 §3.4).
func (in *Inet6) ParamProblem(w *netif.Work, p *packet.Buf, at int) {
	in.sendError(w, p, packet.ICMP6ParamProblem, 0, uint32(at))
}

// AddrUnreachable answers a packet from elsewhere whose next hop is silent.
func (in *Inet6) AddrUnreachable(w *netif.Work, p *packet.Buf) {
	in.sendError(w, p, packet.ICMP6Unreach, packet.ICMP6UnreachAddr, 0)
}
