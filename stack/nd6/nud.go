package nd6

import (
	"log/slog"
	"net/netip"

	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// become publishes the next state of e, whose lock is held, and arms its timer.
func (nd *ND) become(w *netif.Work, e *entry, v view) {
	was := e.v.Load()
	e.show(&v)
	switch v.state {
	case Incomplete, Probing:
		e.expire = w.Now + nd.param(e.ifp).retrans()
	case Reachable:
		e.began = w.Now
		e.expire = w.Now + nd.reachable(w, e.ifp)
	case Stale:
		e.expire = w.Now + nd.env.MIB.Int(nodeGC)*second
	case Delay:
		e.expire = w.Now + nd.env.MIB.Int(nodeDelay)*second
	case Unreachable:
		e.expire = w.Now + nd.env.MIB.Int(nodeDown)*second
	default:
		e.expire = 0
	}
	if v.state != Incomplete && v.state != Probing {
		e.tries = 0
	}
	if was.state == Incomplete && v.state != Incomplete {
		nd.asked.leave(e)
	}
	if e.expire == 0 {
		nd.env.Wheel.Stop(&e.timer)
		return
	}
	nd.env.Wheel.Reset(&e.timer, e.expire)
}

// turn is become with another state and all else as it was.
func (nd *ND) turn(w *netif.Work, e *entry, s State) {
	v := *e.v.Load()
	v.state = s
	nd.become(w, e, v)
}

// suspect is told of a packet to a stale neighbour (RFC 4861 §7.3.3).
func (nd *ND) suspect(w *netif.Work, e *entry) {
	if nd.param(e.ifp).info.Flags&PerformNUD == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.removed && e.v.Load().state == Stale {
		nd.turn(w, e, Delay)
	}
}

// expire runs when the time of an entry's state is over.
func (nd *ND) expire(w *netif.Work, e *entry) {
	e.mu.Lock()
	v := e.v.Load()
	if e.removed || e.expire == 0 || w.Now < e.expire { // it has changed as its timer fired
		e.mu.Unlock()
		return
	}
	switch v.state {
	case Incomplete:
		if e.tries < int(nd.env.MIB.Int(nodeMTries)) {
			var want netip.Addr
			if p := e.held.First(); p != nil {
				want = packet.Scoped(packet.IPv6(p.Bytes()).Src(), e.ifp.Index)
			}
			e.tries++
			nd.turn(w, e, Incomplete)
			e.mu.Unlock()
			nd.solicit(w, e.ifp, e.ip, want, nil)
			return
		}
		nd.fail(w, e)
		return
	case Reachable:
		if !nd.prolong(w, e) {
			nd.turn(w, e, Stale)
		}
	case Delay:
		if nd.param(e.ifp).info.Flags&PerformNUD == 0 {
			nd.turn(w, e, Stale)
			break
		}
		e.tries = 1
		nd.turn(w, e, Probing)
		e.mu.Unlock()
		nd.solicit(w, e.ifp, e.ip, netip.Addr{}, &v.mac)
		return
	case Probing:
		if e.tries < int(nd.env.MIB.Int(nodeUTries)) {
			e.tries++
			nd.turn(w, e, Probing)
			e.mu.Unlock()
			nd.solicit(w, e.ifp, e.ip, netip.Addr{}, &v.mac)
			return
		}
		// The next packet is for whoever is the next hop then, and has it
		// asked for by multicast (§7.3.3).
		e.mu.Unlock()
		w.Count(cntGone)
		nd.remove(w, e)
		nd.gone(w, e.ifp, e.ip)
		return
	case Stale:
		if n := e.near.Use.Load(); n != e.used && nd.param(e.ifp).info.Flags&PerformNUD == 0 {
			e.used = n
			nd.turn(w, e, Stale)
			break
		}
		e.mu.Unlock()
		nd.remove(w, e)
		return
	default:
		e.mu.Unlock()
		nd.remove(w, e)
		return
	}
	e.mu.Unlock()
}

// fail ends the wait for e, whose lock is held and let go: senders are told
// (RFC 4861 §7.2.2).
func (nd *ND) fail(w *netif.Work, e *entry) {
	held := e.held.Release(&nd.held)
	nd.changed(e, neigh.Silent)
	nd.turn(w, e, Unreachable)
	e.mu.Unlock()
	for _, p := range held {
		if p.RcvIf != 0 {
			nd.in.AddrUnreachable(w, p)
		}
		w.Drop(p, cntNoAnswer)
	}
	w.Count(cntGone)
	nd.gone(w, e.ifp, e.ip)
}

// gone tells of a neighbour that is silent, or a router no more. What leads
// over it by redirects leads there no longer.
func (nd *ND) gone(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	nd.redirs.forget(nd, w, ip)
	if nd.RouterGone != nil {
		nd.RouterGone(w, ifp, ip)
	}
}

// prolong reports whether hints keep e, whose lock is held, reachable.
func (nd *ND) prolong(w *netif.Work, e *entry) bool {
	hint := e.hint.Load()
	if hint <= e.began || e.hints >= int(nd.env.MIB.Int(nodeHints)) {
		return false
	}
	until := hint + nd.reachable(w, e.ifp)
	if until <= w.Now {
		return false
	}
	e.hints++
	e.began, e.expire = hint, until
	nd.env.Wheel.Reset(&e.timer, e.expire)
	return true
}

// Confirm is told by an upper layer that the neighbour answers: what was sent
// to it has been acknowledged (RFC 4861 §7.3.1).
func (nd *ND) Confirm(w *netif.Work, ifp *netif.Interface, nexthop netip.Addr) {
	most := nd.env.MIB.Int(nodeHints)
	if most == 0 {
		return
	}
	e := nd.find(ifp, nexthop)
	if e == nil {
		return
	}
	switch e.v.Load().state {
	case Reachable: // its timer will see
		e.hint.Store(w.Now)
	case Stale, Delay, Probing:
		e.mu.Lock()
		defer e.mu.Unlock()
		if s := e.v.Load().state; !e.removed && (s == Stale || s == Delay || s == Probing) && e.hints < int(most) {
			e.hints++
			nd.turn(w, e, Reachable)
		}
	}
}

// Reachable reports whether ip can be a next hop: it is known, and has not been
// found silent (RFC 4861 §6.3.6).
func (nd *ND) Reachable(ifp *netif.Interface, ip netip.Addr) bool {
	e := nd.find(ifp, ip)
	return e != nil && e.v.Load().known()
}

// IsRouter reports whether ip is a neighbour that says it is a router.
func (nd *ND) IsRouter(ifp *netif.Interface, ip netip.Addr) bool {
	e := nd.find(ifp, ip)
	return e != nil && e.v.Load().router
}

// role is what a message says of its sender.
type role uint8

const (
	unsaid role = iota
	router
	host
)

// Heard notes that ip has sent a Router Advertisement (router), or a
// solicitation of routers; known: it told its link address, mac (RFC 4861
// §6.2.6, §6.3.4).
func (nd *ND) Heard(w *netif.Work, ifp *netif.Interface, ip netip.Addr, mac netif.MAC, known, isRouter bool) {
	r := host
	if isRouter {
		r = router
	}
	switch {
	case nd.in.Addr(ifp, ip) != nil || !nd.neighbour(ifp, ip):
	case known && station(ifp, mac):
		nd.heard(w, ifp, ip, &mac, r)
	default:
		nd.heard(w, ifp, ip, nil, r)
	}
}

// heard notes what a message other than an advertisement tells of a neighbour:
// its link address, if it has said it, and its role (RFC 4861 §6.2.6,
// §6.3.4, §7.2.3, §8.3).
func (nd *ND) heard(w *netif.Work, ifp *netif.Interface, ip netip.Addr, mac *netif.MAC, r role) {
	e := nd.find(ifp, ip)
	if e == nil {
		if mac == nil {
			return
		}
		if e = nd.make(w, ifp, ip); e == nil {
			return
		}
	}
	e.mu.Lock()
	v := *e.v.Load()
	if e.removed || v.flags&Permanent != 0 {
		e.mu.Unlock()
		if mac != nil {
			nd.refused(w, e, &v, *mac)
		}
		return
	}
	wasRouter := v.router
	if r != unsaid {
		v.router = r == router
	}
	if mac != nil && (!v.known() || v.mac != *mac) {
		nd.moves(w, e, &v, *mac)
		v.mac, v.state = *mac, Stale
		nd.learnt(w, e, v, wasRouter)
		return
	}
	if v.router != wasRouter {
		e.show(&v)
	}
	e.mu.Unlock()
	if wasRouter && !v.router {
		nd.gone(w, ifp, ip)
	}
}

// moves logs that e, whose lock is held, has another link address.
func (nd *ND) moves(w *netif.Work, e *entry, v *view, mac netif.MAC) {
	if v.known() && v.mac != mac {
		nd.log(w, slog.LevelInfo, "nd6: neighbour moved", "address", plain(e.ip), "from", v.mac, "to", mac, "interface", e.ifp.Name)
	}
}

func (nd *ND) refused(w *netif.Work, e *entry, v *view, mac netif.MAC) {
	if v.flags&Permanent != 0 && v.mac != mac {
		w.Count(cntStatic)
		nd.log(w, slog.LevelWarn, "nd6: attempt to change a permanent entry", "address", plain(e.ip), "to", mac, "interface", e.ifp.Name)
	}
}

// learnt makes v, which knows the link address, the view of e, whose lock is
// held and let go, and sends what waited.
func (nd *ND) learnt(w *netif.Work, e *entry, v view, wasRouter bool) {
	e.learnt, e.used = w.Now, e.near.Use.Load()
	held := e.held.Release(&nd.held)
	if v.state == Stale && len(held) > 0 && nd.param(e.ifp).info.Flags&PerformNUD != 0 {
		v.state = Delay // the packets that follow are its first (§7.3.3)
	}
	c := neigh.Found
	if e.v.Load().known() {
		c = neigh.Moved
	}
	nd.become(w, e, v)
	nd.changed(e, c)
	e.mu.Unlock()
	nd.sendHeld(w, e, held, v.mac)
	if wasRouter && !v.router {
		nd.gone(w, e.ifp, e.ip)
	}
}

func (nd *ND) sendHeld(w *netif.Work, e *entry, held []*packet.Buf, mac netif.MAC) {
	for _, p := range held {
		nd.link.Send(w, e.ifp, p, mac, packet.EtherIPv6)
	}
}

// advertised obeys a neighbour advertisement about e (RFC 4861 §7.2.5); mac is
// nil when it does not say the link address.
func (nd *ND) advertised(w *netif.Work, e *entry, flags uint8, mac *netif.MAC) {
	solicited, override := flags&packet.NAFlagSolicited != 0, flags&packet.NAFlagOverride != 0
	e.mu.Lock()
	v := *e.v.Load()
	if e.removed || v.flags&Permanent != 0 {
		e.mu.Unlock()
		if mac != nil {
			nd.refused(w, e, &v, *mac)
		}
		return
	}
	wasRouter := v.router
	if !v.known() {
		if mac == nil {
			e.mu.Unlock()
			return
		}
		v.mac, v.state, v.router = *mac, Stale, flags&packet.NAFlagRouter != 0
		if solicited {
			v.state, e.hints = Reachable, 0
		}
		nd.learnt(w, e, v, wasRouter)
		return
	}
	differs := mac != nil && *mac != v.mac
	if differs && !override { // (I)
		if v.state == Reachable {
			nd.turn(w, e, Stale)
		}
		e.mu.Unlock()
		return
	}
	v.router = flags&packet.NAFlagRouter != 0 // (II)
	if differs {
		nd.moves(w, e, &v, *mac)
		v.mac = *mac
	}
	switch {
	case solicited:
		v.state, e.hints = Reachable, 0
	case differs:
		v.state = Stale
	}
	if differs {
		nd.learnt(w, e, v, wasRouter)
		return
	}
	if solicited {
		nd.become(w, e, v)
	} else {
		e.show(&v)
	}
	e.mu.Unlock()
	if wasRouter && !v.router {
		nd.gone(w, e.ifp, e.ip)
	}
}
