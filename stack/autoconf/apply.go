package autoconf

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/route"
)

// plan is what addresses and routes are to be.
type plan struct {
	gone   []holding
	addrs  []wanted
	routes []route.Spec
	stale  bool
}

type wanted struct {
	addr netif.Addr
	x    *address // nil: a link-local address
}

// apply makes addresses and routes follow what has been learnt. It is posted, so
// no table is held; one at a time works, and once more for who comes meanwhile.
func (a *Autoconf) apply(w *netif.Work) {
	a.mu.Lock()
	a.posted = false
	if a.again = true; a.applying {
		a.mu.Unlock()
		return
	}
	a.applying = true
	for a.again {
		a.again = false
		a.look()
		p := a.plan()
		a.mu.Unlock()
		a.carryOut(w, p)
		a.mu.Lock()
	}
	a.applying = false
	a.mu.Unlock()
}

// look asks neighbour discovery about the routers, without the lock, which is
// held before and after.
func (a *Autoconf) look() {
	var rs []*router
	for _, l := range a.links {
		rs = append(rs, l.routers...)
	}
	a.mu.Unlock()
	reach := make([]bool, len(rs))
	for i, r := range rs {
		reach[i] = a.nd.Reachable(r.l.ifp, r.ip)
	}
	a.mu.Lock()
	for i, r := range rs {
		r.reach = reach[i]
	}
}

// plan works out what is to be. mu is held.
func (a *Autoconf) plan() (p plan) {
	p.gone, a.doomed = a.doomed, nil
	p.stale, a.stale = a.stale, false
	a.chosen = a.choose()
	have := map[netip.Prefix]bool{}
	add := func(s route.Spec) {
		if !have[s.Dst] { // the first interface, and what is on a link before what is behind a router
			have[s.Dst] = true
			p.routes = append(p.routes, s)
		}
	}
	for _, l := range a.links {
		l.checkOnLink()
		if l.up && l.want {
			if o, ok := l.makeLocal(); ok {
				p.addrs = append(p.addrs, wanted{o, nil})
			}
		}
		for _, pr := range l.prefixes {
			for _, x := range pr.addrs {
				o := netif.Addr{If: l.ifp, Addr: x.ip, Bits: 64, Flags: x.flags, Preferred: x.preferred, Valid: x.valid}
				if pr.detached {
					o.Flags |= netif.AddrDetached
				}
				if !x.dup {
					p.addrs = append(p.addrs, wanted{o, x})
				}
			}
			if l.up && pr.onLink && !pr.detached {
				add(l.spec(pr.net, netip.Addr{}))
			}
		}
	}
	for _, l := range a.links {
		if l.up {
			for _, i := range l.bestInfos() {
				add(l.spec(i.dst, i.r.ip))
			}
		}
	}
	everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if a.chosen != nil {
		add(a.chosen.l.spec(everywhere, a.chosen.ip))
	} else if a.defIf != nil {
		add((&link{ifp: a.defIf}).spec(everywhere, netip.Addr{}))
	}
	return p
}

// spec is a route that speaks as the link-local address, the one address that
// stays whatever routers say.
func (l *link) spec(dst netip.Prefix, gateway netip.Addr) route.Spec {
	s := route.Spec{Dst: dst, If: l.ifp, Gateway: gateway, Flags: route.FlagUp | route.FlagCloning}
	if gateway.IsValid() {
		s.Flags = route.FlagUp | route.FlagGateway
	}
	if o := l.linkLocal(); o != nil {
		s.Src = o.Addr
	}
	return s
}

// carryOut does what the plan has. No lock is held.
func (a *Autoconf) carryOut(w *netif.Work, p plan) {
	for _, g := range p.gone {
		if o := find(g.ifp, g.ip); o == nil || g.made && o.Flags&netif.AddrAutoconf == 0 {
			continue
		}
		if err := a.inet.DelAddr(g.ifp, g.ip); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			a.log(w.Now, slog.LevelWarn, "autoconf: address", "interface", g.ifp.Name, "address", g.ip, "error", err)
		}
	}
	for _, want := range p.addrs {
		a.give(w, want)
	}
	a.route(p.routes)
	if p.stale {
		a.inet.Invalidate()
	}
}

func find(ifp *netif.Interface, ip netip.Addr) *netif.Addr {
	if i := slices.IndexFunc(ifp.Addrs(), func(o *netif.Addr) bool { return o.Addr == ip }); i >= 0 {
		return ifp.Addrs()[i]
	}
	return nil
}

// ofOurs are the flags that are decided here.
const ofOurs = netif.AddrAutoconf | netif.AddrTemporary | netif.AddrStable | netif.AddrDetached

// give makes an address what it is wanted to be. One given by hand stays as it
// is.
func (a *Autoconf) give(w *netif.Work, want wanted) {
	ifp := want.addr.If
	if o := find(ifp, want.addr.Addr); o != nil {
		switch {
		case want.x != nil && o.Flags&netif.AddrAutoconf == 0:
			return
		case want.x == nil && !o.Duplicated:
			return
		case want.x != nil && o.Flags&ofOurs == want.addr.Flags && near(o.Valid, want.addr.Valid) && near(o.Preferred, want.addr.Preferred):
			return
		}
	}
	err := a.inet.AutoAddr(ifp, want.addr)
	if err == nil || errors.Is(err, syscall.ENETDOWN) { // it is asked for again when the interface comes up
		return
	}
	if want.x != nil {
		a.mu.Lock()
		told := want.x.refused
		want.x.refused = true
		a.mu.Unlock()
		if told {
			return
		}
	}
	a.log(w.Now, slog.LevelWarn, "autoconf: address", "interface", ifp.Name, "address", want.addr.Addr, "error", err)
}

// near reports ends of lifetimes that differ by less than a second, so that a
// flood of advertisements does not become one of changes.
func near(a, b int64) bool {
	return a == b || a != 0 && b != 0 && max(a-b, b-a) < second
}

func same(r route.Route, s route.Spec) bool {
	return r.If == s.If && r.Gateway == s.Gateway && (r.Flags^s.Flags)&route.FlagGateway == 0
}

// route makes the routes that are ours those of want. A route that somebody else
// has put to the same destination stays.
func (a *Autoconf) route(want []route.Spec) {
	var ops []route.Op
	for _, dst := range a.ours() {
		s := a.installed[dst]
		if slices.ContainsFunc(want, func(o route.Spec) bool { return o.Dst == dst && o.If == s.If && o.Gateway == s.Gateway }) {
			continue
		}
		delete(a.installed, dst)
		if r, err := a.routes.GetExact(dst); err != nil || !same(r, s) {
			continue
		}
		ops = append(ops, route.Op{Kind: route.Delete, Spec: route.Spec{Dst: dst}})
		if o := byHand(s); o != nil { // whose network it is too
			ops = append(ops, route.Op{Kind: route.Add, Spec: route.Spec{Dst: dst, If: s.If, Src: o.Addr, Flags: s.Flags}})
		}
	}
	for _, s := range want {
		if _, err := a.routes.GetExact(s.Dst); err == nil && !slices.ContainsFunc(ops, func(o route.Op) bool { return o.Spec.Dst == s.Dst }) {
			continue // ours as it should be, or another's
		}
		if s.If.Gone() {
			continue
		}
		a.installed[s.Dst] = s
		ops = append(ops, route.Op{Kind: route.Add, Spec: s})
	}
	if len(ops) == 0 {
		return
	}
	for i, err := range a.routes.Update(ops) {
		if err == nil {
			continue
		}
		if ops[i].Kind == route.Add {
			delete(a.installed, ops[i].Spec.Dst)
		}
		if !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ESRCH) {
			a.log(a.env.Now(), slog.LevelWarn, "autoconf: route", "destination", ops[i].Spec.Dst, "error", err)
		}
	}
}

// ours are the destinations of the installed routes, in order.
func (a *Autoconf) ours() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(a.installed))
	for dst := range a.installed { // map order: sorted below
		out = append(out, dst)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// byHand is an address given by hand that the route of a network on the link
// is also for.
func byHand(s route.Spec) *netif.Addr {
	if s.Flags&route.FlagGateway != 0 {
		return nil
	}
	for _, o := range s.If.Addrs() {
		if o.Flags&netif.AddrAutoconf == 0 && o.Addr.Is6() && o.Prefix() == s.Dst {
			return o
		}
	}
	return nil
}
