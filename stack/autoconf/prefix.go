package autoconf

import (
	"net/netip"
	"slices"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// prefix is one that is advertised on a link.
type prefix struct {
	net      netip.Prefix
	onLink   bool
	auto     bool
	valid    int64 // until when it is on the link; 0: for ever
	pref     int64
	validFor uint32 // seconds, as advertised
	prefFor  uint32
	routers  []*router
	known    bool // it has had a router
	detached bool
	addrs    []*address
}

// Prefix is a learnt prefix (ndp -p).
type Prefix struct {
	Prefix             netip.Prefix
	If                 *netif.Interface
	OnLink, Autonomous bool
	Detached           bool   // all its routers are gone, others are there
	Valid, Preferred   uint32 // seconds, as advertised; all ones: for ever
	Expire             int64  // time of the stack's clock; 0: never
	Refs               int    // addresses made from it
	Routers            []netip.Addr
}

// Prefixes are the learnt prefixes, in order of interface and of learning.
func (a *Autoconf) Prefixes() (out []Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.links {
		for _, p := range l.prefixes {
			x := Prefix{Prefix: p.net, If: l.ifp, OnLink: p.onLink, Autonomous: p.auto, Detached: p.detached,
				Valid: p.validFor, Preferred: p.prefFor, Expire: p.valid, Refs: len(p.addrs)}
			for _, r := range p.routers {
				x.Routers = append(x.Routers, r.ip)
			}
			out = append(out, x)
		}
	}
	return out
}

// takePrefix obeys a Prefix Information option of router r, which may be nil
// (RFC 4861 §6.3.4, RFC 4862 §5.5.3). mu is held.
func (l *link) takePrefix(w *netif.Work, o packet.NDOption, r *router) bool {
	if len(o) != packet.NDPrefixLen {
		return false
	}
	pi := packet.NDPrefix(o)
	ip, valid, preferred := pi.Addr(), pi.Valid(), pi.Preferred()
	switch {
	case pi.Bits() == 0 || pi.Bits() > 128 || ip.IsMulticast() || ip.Is4In6():
		return false
	case ip.IsLinkLocalUnicast(): // (b)
		return true
	case preferred > valid: // (c)
		return false
	}
	net := netip.PrefixFrom(ip, pi.Bits()).Masked()
	i := slices.IndexFunc(l.prefixes, func(p *prefix) bool { return p.net == net })
	onLink, auto := pi.Flags()&packet.PrefixOnLink != 0, pi.Flags()&packet.PrefixAutoconf != 0
	if i < 0 {
		if valid == 0 || !onLink && !auto {
			return true
		}
		if !l.roomForPrefix() {
			w.Count(cntRefused)
			return true
		}
		i = len(l.prefixes)
		l.prefixes = append(l.prefixes, &prefix{net: net})
	}
	p := l.prefixes[i]
	p.validFor, p.prefFor, p.auto = valid, preferred, auto
	p.pref = until(w.Now, preferred)
	// A prefix without L says nothing of what is on the link, so one that was
	// stays so for its time (RFC 4861 §6.3.4).
	if onLink || !p.onLink {
		p.onLink, p.valid = onLink && valid != 0, until(w.Now, valid)
	}
	if r != nil && r.lifetime != 0 && !slices.Contains(p.routers, r) {
		p.routers, p.known = append(p.routers, r), true
	}
	if auto && net.Bits() == 64 { // (d): an interface identifier has 64 bits
		l.makeAddrs(w, p, valid, preferred)
	}
	return true
}

// roomForPrefix sees to a place for another prefix: that of a detached one. The
// newcomer is refused otherwise, since addresses of the others are in use.
func (l *link) roomForPrefix() bool {
	if len(l.prefixes) < int(l.a.env.MIB.Int(nodeMaxPrefixes)) {
		return true
	}
	for _, p := range l.prefixes {
		if p.detached {
			l.dropPrefix(p)
			return true
		}
	}
	return false
}

// dropPrefix forgets a prefix and takes its addresses away. mu is held.
func (l *link) dropPrefix(p *prefix) {
	for _, x := range p.addrs {
		l.a.doomed = append(l.a.doomed, holding{l.ifp, x.ip, true})
	}
	p.addrs = nil
	l.prefixes = slices.DeleteFunc(l.prefixes, func(o *prefix) bool { return o == p })
}

func (p *prefix) lose(r *router) {
	p.routers = slices.DeleteFunc(p.routers, func(o *router) bool { return o == r })
}

// alive reports whether one of its routers is still there.
func (p *prefix) alive() bool {
	return slices.ContainsFunc(p.routers, func(r *router) bool { return r.down == 0 })
}

// checkOnLink detaches the prefixes whose routers are all gone while others are
// there: this is another link than the one they were learnt on, or their router
// has died (KAME's pfxlist_onlink_check). When no router is left at all,
// everything stays as it is: the link may just have none (RFC 4861 §5.2). mu is
// held.
func (l *link) checkOnLink() {
	some := slices.ContainsFunc(l.prefixes, (*prefix).alive)
	for _, p := range l.prefixes {
		p.detached = some && p.known && !p.alive()
	}
}

// FlushPrefixes forgets every prefix with the addresses made from it (ndp -P).
// A control call.
func (a *Autoconf) FlushPrefixes() {
	a.control(func(w *netif.Work) {
		for _, l := range a.links {
			for len(l.prefixes) > 0 {
				l.dropPrefix(l.prefixes[0])
			}
			l.rearm(w.Now)
		}
	})
}
