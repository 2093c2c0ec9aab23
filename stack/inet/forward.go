package inet

import (
	"errors"
	"net/netip"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

// toForward puts a packet that is not for us on the work list, or drops it.
func (in *Inet) toForward(w *netif.Work, p *packet.Buf) {
	if !in.env.MIB.On(nodeForwarding) {
		w.Drop(p, cntCantFwd)
		return
	}
	w.Turn(in.forwardTurn, p)
}

// forward sends a packet on (RFC 1812 §5.2, §5.3).
func (in *Inet) forward(w *netif.Work, p *packet.Buf) {
	h := packet.IPv4(p.Bytes())
	src, dst := h.Src(), h.Dst()
	if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 || dst.IsMulticast() ||
		dst == broadcast || src == unspecified || dst.IsLoopback() || thisNet.Contains(dst) || dst.Is4() && dst.As4()[0] >= 240 {
		w.Drop(p, cntCantFwd) // RFC 1812 §5.3.4, §5.3.7
		return
	}
	if h.TTL() <= 1 {
		in.sendError(w, p, packet.ICMPTimeExceeded, packet.ICMPTimeTransit, 0)
		w.Drop(p, cntCantFwd)
		return
	}
	if s := in.sec.Load(); s != nil && !s.Idle() && !s.Admit(w, p, true) {
		w.Drop(p, cntUnsecured)
		return
	}
	filter := in.hook.Load()
	gen := in.flowGeneration(filter)
	f := socket.Flow{Dst: dst, From: src, Broadcast: in.env.MIB.On(nodeDirBcast)}
	err := in.resolve(&f)
	rc := &f.Route
	if err == nil && rc.Bcast && !f.Broadcast {
		w.Drop(p, cntCantFwd)
		return
	}
	if err != nil {
		code := uint8(packet.ICMPUnreachHost)
		if errors.Is(err, syscall.ENETUNREACH) {
			code = packet.ICMPUnreachNet
		}
		in.sendError(w, p, packet.ICMPUnreach, code, 0)
		w.Drop(p, cntCantFwd)
		return
	}
	if !rc.NextHop.IsValid() {
		w.Drop(p, cntBlackhole)
		return
	}
	if rc.If.Index == p.RcvIf && in.env.MIB.On(nodeRedirect) {
		in.maybeRedirect(w, p, h, rc)
	}
	p.MarkL4(h.HeaderLen())
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
	if !p.Fits(rc.MTU) && h.DF() {
		in.sendError(w, p, packet.ICMPUnreach, packet.ICMPUnreachNeedFrag, uint32(rc.MTU))
		w.Drop(p, cntCantFwd)
		return
	}
	if s != nil && in.filterFirst && filter != nil && !rc.Bcast { // translated, it may be one that a policy is about
		in.forwardProtected(w, s, nil, p, &f)
		return
	}
	h.DecTTL()
	if filter != nil {
		if p = filter.Out(w, rc.If, p); p == nil {
			return
		}
	}
	in.note(w, p, src, rc, filter, nil, gen)
	if u, ok := rc.Use.(route.Handle); ok {
		in.routes.AddUse(u, 1)
	}
	if rc.Bcast {
		p.Flags |= packet.FlagBroadcast
	}
	w.Count(cntForward)
	if p.Fits(rc.MTU) {
		err = rc.If.Output(w, rc.If, p, rc.NextHop)
	} else {
		err = in.fragment(w, p, rc.If, rc.NextHop, rc.MTU)
	}
	_ = err // the sender learns of a dead neighbour by ICMP, from arp's time-out
}

// maybeRedirect tells a sender on the packet's own network about the better
// first hop (RFC 1812 §5.2.7.2).
func (in *Inet) maybeRedirect(w *netif.Work, p *packet.Buf, h packet.IPv4, rc *socket.RouteCache) {
	if rc.Local || rc.If.Flags()&netif.FlagPointToPoint != 0 || h.HeaderLen() > packet.IPv4Len && sourceRouted(h.Options()) {
		return
	}
	onNet := func(ip netip.Addr) bool {
		for _, a := range rc.If.Addrs() {
			if a.Addr.Is4() && a.Prefix().Contains(ip) {
				return true
			}
		}
		return false
	}
	if !onNet(h.Src()) || !onNet(rc.NextHop) {
		return
	}
	gw := rc.NextHop.As4()
	w.Count(cntRedirSent)
	in.sendError(w, p, packet.ICMPRedirect, packet.ICMPRedirectHost,
		uint32(gw[0])<<24|uint32(gw[1])<<16|uint32(gw[2])<<8|uint32(gw[3]))
}

// Refuse answers a packet, L3 marked, that a filter blocks with the code of an
// unreachable: from us, or as the destination itself would.
func (in *Inet) Refuse(w *netif.Work, p *packet.Buf, code uint8, asDest bool) {
	if asDest {
		in.sendErrorAs(w, p, packet.ICMPUnreach, code, 0, packet.IPv4(p.L3()).Dst())
	} else {
		in.sendError(w, p, packet.ICMPUnreach, code, 0)
	}
}

// Inject sends a complete packet, window at its IP header, that is a filter's:
// its rules are not asked about it again. An ifp of nil, and a nexthop that is not
// valid, are as the routes say.
func (in *Inet) Inject(w *netif.Work, p *packet.Buf, ifp *netif.Interface, nexthop netip.Addr) {
	p.Flags = p.Flags&^(packet.FlagCame|packet.FlagBroadcast|packet.FlagMulticast) | packet.FlagInjected
	h := packet.IPv4(p.Bytes())
	p.MarkL3(0)
	p.MarkL4(h.HeaderLen())
	f := socket.Flow{Dst: h.Dst()}
	if in.Local(h.Src()) == nil {
		f.From = h.Src() // among equal routes it goes as its flow does
	}
	if nexthop.IsValid() {
		f.Dst = nexthop
	}
	if ifp != nil {
		f.IfIndex = ifp.Index
	}
	err := in.resolve(&f)
	if rc := &f.Route; err != nil && ifp != nil && nexthop.IsValid() { // a neighbour there, whatever the routes say
		rc.If, rc.NextHop, rc.MTU, err = ifp, nexthop, ifp.MTU(), nil
	}
	if err != nil {
		w.Drop(p, cntNoRoute)
		return
	}
	_ = in.send(w, p, &f, &f.Route) // who sent the original is not told
}

// MTUTo is the largest packet that may leave by ifp for dst; 0: there is no way.
func (in *Inet) MTUTo(dst netip.Addr, ifp *netif.Interface) int {
	f := socket.Flow{Dst: dst, IfIndex: ifp.Index}
	if in.resolve(&f) != nil {
		return 0
	}
	return f.Route.MTU
}

// TooBig answers a packet, DF set, that a tunnel takes only up to mtu.
func (in *Inet) TooBig(w *netif.Work, p *packet.Buf, mtu int) {
	in.sendError(w, p, packet.ICMPUnreach, packet.ICMPUnreachNeedFrag, uint32(mtu))
}

// HostUnreachable answers a packet from elsewhere whose next hop is silent.
func (in *Inet) HostUnreachable(w *netif.Work, p *packet.Buf) {
	in.sendError(w, p, packet.ICMPUnreach, packet.ICMPUnreachHost, 0)
}
