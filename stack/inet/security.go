package inet

import (
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/route"
	"ionet/stack/socket"
)

var cntUnsecured = mib.NewCounter("ip", "unsecured", "# packet{s} that had not come protected as a policy asks for")

// protect sends a complete packet as the policies say. With filterFirst what leaves the
// stack is no longer shown to the filter, but for what is in clear.
func (in *Inet) protect(w *netif.Work, s pfil.Security, pkt *packet.Buf, f *socket.Flow, rc *socket.RouteCache) error {
	if in.filterFirst {
		if h := in.hook.Load(); h != nil {
			if pkt = h.Out(w, rc.If, pkt); pkt == nil {
				return syscall.EHOSTUNREACH
			}
		}
	}
	policy := s.Policy(w, pkt, f.Policy)
	if policy == nil {
		return in.sendOn(w, pkt, f, rc, rc.MTU, !in.filterFirst)
	}
	return in.protectBy(w, s, policy, pkt, f, rc)
}

// protectBy is protect with a policy that is known. What goes on by the same route is as large as the
// interface takes: the path's MTU, which TooBig has made smaller, is what senders are to keep to.
func (in *Inet) protectBy(w *netif.Work, s pfil.Security, policy any, pkt *packet.Buf, f *socket.Flow, rc *socket.RouteCache) error {
	mtu := rc.If.MTU()
	on, cut, err := s.Protect(w, pkt, policy, mtu)
	if on != nil {
		return in.sendOn(w, on, f, rc, mtu, !in.filterFirst)
	}
	for _, p := range cut {
		if e := in.sendOn(w, p, f, rc, mtu, !in.filterFirst); e != nil {
			err = e
		}
	}
	s.Done(cut)
	return err
}

// Emit sends a complete packet, window at its IP header, by the route to its destination, cut into what mtu and the
// interface take. No policy is asked about it.
func (in *Inet) Emit(w *netif.Work, pkt *packet.Buf, f *socket.Flow, mtu int) error {
	if err := in.resolve(f); err != nil {
		w.Drop(pkt, cntNoRoute)
		return err
	}
	pkt.RcvIf = 0
	if h := packet.IPv4(pkt.Bytes()); h.ID() == 0 && !h.DF() {
		h.SetID(in.nextID(f.Dst))
		h.SetChecksum()
	}
	if e, ok := f.Route.Use.(route.Handle); ok {
		in.routes.AddUse(e, 1)
	}
	if !f.Route.NextHop.IsValid() {
		w.Drop(pkt, cntBlackhole)
		return nil
	}
	return in.sendOn(w, pkt, f, &f.Route, min(mtu, f.Route.If.MTU()), !in.filterFirst)
}

// Again delivers a packet for us that was protected, window at its IP header.
func (in *Inet) Again(w *netif.Work, p *packet.Buf) {
	p.MarkL3(0)
	in.local(w, p, packet.IPv4(p.Bytes()))
}

// Unwrapped takes in a packet that has come through a tunnel, window at its IP header: as from enc if that
// is up, and then captures and the filter see it, else as from where the tunnel's packet came by.
func (in *Inet) Unwrapped(w *netif.Work, p *packet.Buf, enc *netif.Interface) {
	w.Count(cntTotal)
	if enc != nil && enc.Up() {
		one := w.One(p)
		enc.TapIn(w, one)
		enc.Stats.InPackets.Add(1)
		enc.Stats.InBytes.Add(uint64(p.Len()))
		in.input(w, enc, p, in.hook.Load())
		return
	}
	f, ifp := in.hook.Load(), in.cameBy(p)
	if f == nil && in.flows.Forward(w, ifp, w.One(p), in.flowGeneration(nil)) > 0 {
		w.Count(cntForward)
		w.Count(cntFast)
		return
	}
	in.input(w, ifp, p, nil)
}

func (in *Inet) cameBy(p *packet.Buf) *netif.Interface {
	if ifp := in.env.Ifs.ByIndex(p.RcvIf); ifp != nil {
		return ifp
	}
	return in.lo
}

// secured says what becomes of a packet for us, window at the header of proto: it is opened, and is gone, or
// may not be delivered as it is.
func (in *Inet) secured(w *netif.Work, s pfil.Security, p *packet.Buf, proto uint8) (gone bool) {
	switch {
	case proto == packet.ProtoESP, proto == packet.ProtoAH, proto == packet.ProtoIPComp,
		proto == packet.ProtoUDP && s.Encapsulated(p):
		s.Input(w, p, proto)
		return true
	case s.Owned():
		p.Flags |= packet.FlagAsk
	case !s.Admit(w, p, false):
		w.Drop(p, cntUnsecured)
		return true
	}
	return false
}

// Admits is [socket.Network].
func (in *Inet) Admits(w *netif.Work, p *packet.Buf, o socket.NetOptions) bool {
	s := in.sec.Load()
	if o != nil {
		if own := o.Policy(false, false); own != nil {
			return s.AdmitBy(w, p, own)
		}
	}
	return s.Admit(w, p, false)
}

// refused asks about a packet for us what no socket was asked for; it has gone then.
func (in *Inet) refused(w *netif.Work, p *packet.Buf, proto uint8) bool {
	if p.Flags&packet.FlagAsk == 0 || proto == packet.ProtoTCP || proto == packet.ProtoUDP || in.Admits(w, p, nil) {
		return false
	}
	w.Drop(p, cntUnsecured)
	return true
}

// fastProtect sends a packet of the fast path that a policy is about, and leaves by out unless it gets into a tunnel.
func (in *Inet) fastProtect(w *netif.Work, p *packet.Buf, out *netif.Interface, policy any) {
	s := in.sec.Load()
	on, cut, _ := s.Protect(w, p, policy, out.MTU())
	if on != nil {
		in.onward(w, on)
	}
	for _, c := range cut {
		in.onward(w, c)
	}
	s.Done(cut)
}

// onward routes a packet from elsewhere that is protected, and in no tunnel.
func (in *Inet) onward(w *netif.Work, p *packet.Buf) {
	h := packet.IPv4(p.Bytes())
	f := socket.Flow{Dst: h.Dst(), From: h.Src()}
	if err := in.resolve(&f); err != nil {
		w.Drop(p, cntNoRoute)
		return
	}
	_ = in.sendOn(w, p, &f, &f.Route, f.Route.If.MTU(), !in.filterFirst)
}

// forwardProtected sends on a packet that a policy is about, or with nil may be when the filter has seen it.
func (in *Inet) forwardProtected(w *netif.Work, s pfil.Security, policy any, p *packet.Buf, f *socket.Flow) {
	packet.IPv4(p.Bytes()).DecTTL()
	if in.filterFirst {
		if h := in.hook.Load(); h != nil {
			if p = h.Out(w, f.Route.If, p); p == nil {
				return
			}
			if policy = s.Policy(w, p, nil); policy == nil { // it has other addresses now
				w.Count(cntForward)
				_ = in.sendOn(w, p, f, &f.Route, f.Route.MTU, false)
				return
			}
		}
	}
	w.Count(cntForward)
	_ = in.protectBy(w, s, policy, p, f, &f.Route) // who sent it is told by ICMP, if at all
}
