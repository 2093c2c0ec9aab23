package autoconf

import (
	"net/netip"
	"slices"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Preferences of routers and routes (RFC 4191 §2.1).
const (
	PrefLow    = -1
	PrefMedium = 0
	PrefHigh   = 1
)

// preference reads the two bits; ok is false for the reserved value.
func preference(flags uint8) (pref int, ok bool) {
	switch flags & packet.RAPrefMask {
	case 0x08:
		return PrefHigh, true
	case 0x18:
		return PrefLow, true
	case 0x10:
		return PrefMedium, false
	}
	return PrefMedium, true
}

// router is a station that advertises itself.
type router struct {
	l        *link
	ip       netip.Addr
	flags    uint8
	pref     int
	lifetime uint32 // seconds, as advertised; 0: not a default router
	expire   int64  // 0: never
	last     int64  // when it was heard last
	// down is when its neighbour entry failed; 0: it has not, or it was heard
	// since. reach is what ND thought of it at the last choice.
	down  int64
	reach bool
}

// Router is a default router (ndp -r).
type Router struct {
	Addr      netip.Addr // with its interface inside
	If        *netif.Interface
	Flags     uint8  // of its advertisement: M 0x80, O 0x40, H 0x20
	Pref      int    // PrefLow to PrefHigh
	Lifetime  uint32 // seconds, as advertised
	Expire    int64  // time of the stack's clock; 0: never
	MTU       uint32 // of the link; 0: it does not say
	Installed bool   // it has the default route
	Down      bool   // NUD has found it gone
}

// Routers are the default routers, in order of interface and of learning.
func (a *Autoconf) Routers() (out []Router) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.links {
		for _, r := range l.routers {
			if r.lifetime != 0 {
				out = append(out, Router{Addr: r.ip, If: l.ifp, Flags: r.flags &^ packet.RAPrefMask, Pref: r.pref, Lifetime: r.lifetime,
					Expire: r.expire, MTU: l.mtu, Installed: r == a.chosen, Down: r.down != 0})
			}
		}
	}
	return out
}

// Remembers reports whether ip is one of the routers of ifp that are remembered
// (nd6).
func (a *Autoconf) Remembers(ifp *netif.Interface, ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.find(ifp)
	return l != nil && l.router(ip) != nil
}

func (l *link) router(ip netip.Addr) *router {
	for _, r := range l.routers {
		if r.ip == ip {
			return r
		}
	}
	return nil
}

// heard notes a router's advertisement (RFC 4861 §6.3.4) and answers the router;
// nil: there are too many. A route to everywhere among its options takes the
// place of what the header says (RFC 4191 §3.1). mu is held.
func (l *link) heard(w *netif.Work, ip netip.Addr, ra packet.RouterAdv) *router {
	lifetime := uint32(ra.Lifetime())
	pref, _ := preference(ra.Flags()) // the reserved value is medium (§2.2)
	specific := false
	for opts := ra.Options(); len(opts) > 0; {
		var o packet.NDOption
		o, opts, _ = packet.NextNDOption(opts)
		if o.Type() != packet.NDOptRouteInfo {
			continue
		}
		if dst, p, life, ok := parseInfo(o); ok && dst.Bits() == 0 {
			lifetime, pref = life, p
		} else if ok && life != 0 {
			specific = true
		}
	}
	r := l.router(ip)
	if r == nil {
		if lifetime == 0 && !specific {
			return nil
		}
		if r = l.newRouter(w, ip); r == nil {
			w.Count(cntRefused)
			return nil
		}
	}
	r.flags, r.last, r.down = ra.Flags(), w.Now, 0
	if lifetime == 0 {
		l.resign(w.Now, r)
		return r
	}
	r.lifetime, r.pref, r.expire = lifetime, pref, until(w.Now, lifetime)
	l.stopSolicit() // RFC 7559 §2.1
	return r
}

// newRouter makes room for a router, if need be at the cost of another: one
// that is gone, or else the one not heard for the longest time. The one with
// the default route stays, whatever else is said on the link.
func (l *link) newRouter(w *netif.Work, ip netip.Addr) *router {
	if len(l.routers) >= int(l.a.env.MIB.Int(nodeMaxRouters)) {
		var victim *router
		for _, r := range l.routers {
			switch {
			case r == l.a.chosen:
			case victim == nil, r.down != 0 && victim.down == 0, (r.down != 0) == (victim.down != 0) && r.last < victim.last:
				victim = r
			}
		}
		if victim == nil {
			return nil
		}
		w.Count(cntEvicted)
		l.forget(victim)
	}
	r := &router{l: l, ip: ip}
	l.routers = append(l.routers, r)
	return r
}

// resign makes r a default router no more: it says so, its time is up, or it is
// found to be a host. Its prefixes are its own no longer; its more specific
// routes stay for their time.
func (l *link) resign(now int64, r *router) {
	if r.lifetime == 0 {
		return
	}
	r.lifetime, r.expire = 0, 0
	if l.a.chosen == r {
		l.a.chosen = nil
	}
	for _, p := range l.prefixes {
		p.lose(r)
	}
	l.lookForRouters(now)
}

// forget removes a router with all that hangs on it.
func (l *link) forget(r *router) {
	l.routers = slices.DeleteFunc(l.routers, func(o *router) bool { return o == r })
	l.infos = slices.DeleteFunc(l.infos, func(i *info) bool { return i.r == r })
	for _, p := range l.prefixes {
		p.lose(r)
	}
	if l.a.chosen == r {
		l.a.chosen = nil
	}
}

func (l *link) forgetRouters() {
	for len(l.routers) > 0 {
		l.forget(l.routers[0])
	}
}

// tidy forgets routers that are good for nothing.
func (l *link) tidy() {
	l.routers = slices.DeleteFunc(l.routers, func(r *router) bool {
		return r.lifetime == 0 && !slices.ContainsFunc(l.infos, func(i *info) bool { return i.r == r })
	})
}

// lookForRouters solicits again when no default router is left that answers.
func (l *link) lookForRouters(now int64) {
	if !l.sol.on && !slices.ContainsFunc(l.routers, func(r *router) bool { return r.lifetime != 0 && r.down == 0 }) {
		l.a.beginSolicit(now, l)
	}
}

// RouterGone tells that the neighbour ip does not answer any more, or, if it is
// known, that it says it is no router (nd6). In the first case another router is
// chosen if there is one (RFC 4861 §7.3.3), in the second it is forgotten
// (§7.2.5).
func (a *Autoconf) RouterGone(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	resigned := a.nd.Reachable(ifp, ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.find(ifp)
	if l == nil {
		return
	}
	r := l.router(ip)
	switch {
	case r == nil:
		return
	case resigned:
		l.resign(w.Now, r)
		l.forget(r)
		l.rearm(w.Now)
	default:
		w.Count(cntUnreachable)
		r.down = w.Now
		l.lookForRouters(w.Now)
	}
	a.changed(w)
}

// FlushRouters forgets every router (ndp -R). A control call.
func (a *Autoconf) FlushRouters() {
	a.control(func(w *netif.Work) {
		for _, l := range a.links {
			l.forgetRouters()
			l.rearm(w.Now)
		}
	})
}

// SetDefaultIf names the interface on which every destination is held to be
// when there is no router (ndp -I); nil: none. A control call.
func (a *Autoconf) SetDefaultIf(ifp *netif.Interface) {
	a.control(func(*netif.Work) { a.defIf = ifp })
}

// DefaultIf is the interface of SetDefaultIf, or nil.
func (a *Autoconf) DefaultIf() *netif.Interface {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.defIf
}

// better reports whether x is rather to be used than y (RFC 4861 §6.3.6, RFC
// 4191 §3.2): one that answers, then one of unknown state, then one that is
// down; of these the higher preference xp; then y, which came first. Among
// those that are down each has its turn.
func better(x *router, xp int, y *router, yp int) bool {
	if a, b := x.rank(), y.rank(); a != b {
		return a > b
	} else if a == 0 {
		return x.down < y.down
	}
	return xp > yp
}

func (r *router) rank() int {
	switch {
	case r.down != 0:
		return 0
	case r.reach:
		return 2
	}
	return 1
}

// choose picks the default router of all links. The present one stays among
// equals. mu is held.
func (a *Autoconf) choose() *router {
	best := a.chosen
	for _, l := range a.links {
		for _, r := range l.routers {
			if l.up && !l.off && r.lifetime != 0 && (best == nil || better(r, r.pref, best, best.pref)) {
				best = r
			}
		}
	}
	return best
}
