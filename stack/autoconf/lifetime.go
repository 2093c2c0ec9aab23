package autoconf

import (
	"net/netip"
	"slices"

	"ionet/stack/netif"
)

// rearm sets the link's timer to the next lifetime that ends, but looks no more
// often than every nd6_prune seconds. mu is held.
func (l *link) rearm(now int64) {
	var at int64
	soon := func(t int64) {
		if t > 0 {
			at = sooner(at, t)
		}
	}
	for _, r := range l.routers {
		soon(r.expire)
	}
	for _, p := range l.prefixes {
		soon(p.valid)
		for _, x := range p.addrs {
			if x.flags&netif.AddrTemporary != 0 && !x.followed && x.preferred != 0 {
				soon(x.preferred - regenAdvance)
			}
		}
	}
	for _, i := range l.infos {
		soon(i.expire)
	}
	for _, s := range l.servers {
		soon(s.expire)
	}
	for _, d := range l.domains {
		soon(d.expire)
	}
	for _, o := range l.ifp.Addrs() { // by whomever they were given
		if o.Addr.Is6() {
			soon(o.Valid)
			if !over(o.Preferred, now) {
				soon(o.Preferred)
			}
		}
	}
	switch w := &l.a.env.Wheel; {
	case l.wipe || l.begin || l.want:
		w.Reset(&l.timer, now)
	case at != 0:
		w.Reset(&l.timer, max(at, l.pruned+l.a.env.MIB.Int(nodePrune)*second))
	default:
		w.Stop(&l.timer)
	}
}

// kick has the link looked at as soon as no lock of anybody's is held: for who
// tells of a change in the middle of one. mu is held.
func (l *link) kick() { l.a.env.Wheel.Reset(&l.timer, l.a.env.Now()) }

// expire ends the lifetimes that are over, and does what had to wait.
func (a *Autoconf) expire(w *netif.Work, l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.find(l.ifp) != l {
		return
	}
	if l.wipe {
		l.wipe = false
		l.wipeAll()
	}
	if l.begin {
		l.begin = false
		a.beginSolicit(w.Now, l)
	}
	l.prune(w)
	l.rearm(w.Now)
	a.changed(w)
}

func (l *link) prune(w *netif.Work) {
	now := w.Now
	for _, r := range l.routers {
		if over(r.expire, now) {
			l.resign(now, r)
		}
	}
	l.infos = slices.DeleteFunc(l.infos, func(i *info) bool { return over(i.expire, now) })
	l.servers = slices.DeleteFunc(l.servers, func(s server) bool { return over(s.expire, now) })
	l.domains = slices.DeleteFunc(l.domains, func(d domain) bool { return over(d.expire, now) })
	l.tidy()
	for _, p := range slices.Clone(l.prefixes) {
		p.addrs = slices.DeleteFunc(p.addrs, func(x *address) bool {
			if over(x.valid, now) {
				l.a.doomed = append(l.a.doomed, holding{l.ifp, x.ip, true})
				return true
			}
			return false
		})
		if over(p.valid, now) {
			// It stays known while an address of it does (two hours).
			if p.onLink, p.valid = false, -1; len(p.addrs) == 0 {
				l.dropPrefix(p)
				continue
			}
		}
		l.followTemp(w, p)
	}
	for _, o := range l.ifp.Addrs() {
		if !o.Addr.Is6() {
			continue
		}
		if over(o.Valid, now) && !l.made(o.Addr) {
			l.a.doomed = append(l.a.doomed, holding{l.ifp, o.Addr, false})
		}
		if over(o.Preferred, now) && o.Preferred > l.pruned {
			l.a.stale = true
		}
	}
	l.pruned = now
}

// followTemp makes the next temporary address before the present one is
// deprecated (RFC 8981 §3.4).
func (l *link) followTemp(w *netif.Work, p *prefix) {
	for _, x := range p.addrs {
		if x.flags&netif.AddrTemporary != 0 && !x.followed && over(x.preferred, w.Now+regenAdvance) {
			x.followed = true
			if !over(p.pref, w.Now+regenAdvance) {
				l.tempTry = 0
				l.makeTemp(w, p)
			}
			return
		}
	}
}

// made reports an address that was made here, and whose lifetime is kept here.
func (l *link) made(ip netip.Addr) bool {
	return slices.ContainsFunc(l.prefixes, func(p *prefix) bool {
		return slices.ContainsFunc(p.addrs, func(x *address) bool { return x.ip == ip })
	})
}

// AddrChanged is told of every address that comes, changes or goes. One made
// here that somebody takes away stays away until a router advertises its prefix
// again. It may be called with locks of IPv6 held.
func (a *Autoconf) AddrChanged(o *netif.Addr, added bool) {
	if !o.Addr.Is6() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.find(o.If)
	if l == nil {
		if !added || o.Valid == 0 && o.Preferred == 0 {
			return
		}
		l = a.link(o.If)
	}
	if added && l.made(o.Addr) {
		return
	}
	if !added {
		for _, p := range l.prefixes {
			p.addrs = slices.DeleteFunc(p.addrs, func(x *address) bool { return x.ip == o.Addr })
		}
		if o.Addr == l.local {
			l.local = netip.Addr{}
		}
	}
	l.kick()
}
