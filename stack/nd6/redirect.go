package nd6

import (
	"net/netip"
	"slices"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

var (
	nodeAccept  = mib.Int("net.inet6.icmp6.rediraccept", 1, "1: believe redirects from the first hop in use.", mib.Bool())
	nodeTimeout = mib.Int("net.inet6.icmp6.redirtimeout", 600, "Seconds that a redirect is followed; 0: for ever.", mib.Range(0, 1<<30))

	cntRedirected = mib.NewCounter("nd6", "redirects followed", "# redirect{s} followed")
	cntRedirLimit = mib.NewCounter("nd6", "redirect rate limit", "# redirect{s} not sent because of rate limitation")
)

// maxRedirects bounds the redirects sent a second (RFC 4861 §8.2).
const maxRedirects = 100

// redirects are the routes that redirects have made, and how many were sent in
// this second. The lock is above the timer wheel only.
type redirects struct {
	mu    sync.Mutex
	m     map[netip.Addr]*redirect // by destination; bound: the dynamic routes of route.Table
	since int64
	sent  int
}

type redirect struct {
	dst, via netip.Addr
	ifp      *netif.Interface
	timer    callout.Timer[*netif.Work]
}

// redirected obeys a redirect from the first hop in use (RFC 4861 §8.1, §8.3).
// The route changes after the burst.
func (nd *ND) redirected(w *netif.Work, ifp *netif.Interface, p *packet.Buf, m *message) string {
	r := packet.Redirect(m.body)
	target, dst := packet.Scoped(r.Target(), ifp.Index), packet.Scoped(r.Destination(), ifp.Index)
	if !nd.env.MIB.On(nodeAccept) || nd.in.Forwarding() { // a router does not (§8.2)
		return consume(w, p, cntRouterMsg)
	}
	hop, _ := nd.routes.Lookup(dst)
	if hop == nil || hop.If != ifp || hop.Flags&route.FlagGateway == 0 || packet.Scoped(hop.Gateway, ifp.Index) != m.src {
		return "from another than the first hop"
	}
	if target == m.src || target == unspecified || nd.in.Addr(ifp, target) != nil {
		return "to an address that is no better hop"
	}
	mac, ok := linkAddress(ifp, r.Options(), packet.NDOptTargetLink)
	if !ok {
		return "with a link address that is no station's"
	}
	who := router
	if target == dst {
		who = unsaid
	}
	nd.heard(w, ifp, target, mac, who)
	from := hop.Gateway
	w.Post(func(w *netif.Work) {
		if err := nd.routes.Redirect(dst, target, from); err != nil {
			return // route counts it
		}
		w.Count(cntRedirected)
		nd.redirs.follow(nd, w, ifp, dst, target)
	})
	return consume(w, p, cntDone)
}

// follow notes a route that a redirect has made.
func (s *redirects) follow(nd *ND, w *netif.Work, ifp *netif.Interface, dst, via netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.m[dst]
	if r == nil {
		r = &redirect{dst: dst}
		r.timer.Fn = func(w *netif.Work) { s.undo(nd, w, []*redirect{r}) }
		s.m[dst] = r
	}
	r.via, r.ifp = via, ifp
	if life := nd.env.MIB.Int(nodeTimeout); life > 0 {
		nd.env.Wheel.Reset(&r.timer, w.Now+life*second)
	} else {
		nd.env.Wheel.Stop(&r.timer)
	}
}

// forget ends the redirects to a neighbour that is silent, or a router no more.
func (s *redirects) forget(nd *ND, w *netif.Work, via netip.Addr) {
	s.mu.Lock()
	var rs []*redirect
	// map order: they are sorted below.
	for _, r := range s.m {
		if r.via == via {
			rs = append(rs, r)
		}
	}
	s.mu.Unlock()
	if len(rs) > 0 {
		slices.SortFunc(rs, func(a, b *redirect) int { return a.dst.Compare(b.dst) })
		s.undo(nd, w, rs)
	}
}

// undo takes the routes of redirects away after the burst, where they are
// still what redirects made of them.
func (s *redirects) undo(nd *ND, w *netif.Work, rs []*redirect) {
	w.Post(func(w *netif.Work) {
		var ops []route.Op
		for _, r := range rs {
			s.mu.Lock()
			still := s.m[r.dst] == r
			if still {
				delete(s.m, r.dst)
				nd.env.Wheel.Stop(&r.timer)
			}
			s.mu.Unlock()
			if !still {
				continue
			}
			dst := netip.PrefixFrom(r.dst, r.dst.BitLen())
			if at, err := nd.routes.GetExact(dst); err == nil && at.Flags&route.FlagDynamic != 0 && at.If == r.ifp {
				ops = append(ops, route.Op{Kind: route.Delete, Spec: route.Spec{Dst: dst, Host: true}})
			}
		}
		nd.routes.Update(ops) // what is gone already is not missed
	})
}

// mayRedirect is the rate limit.
func (s *redirects) mayRedirect(now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now-s.since >= second || now < s.since {
		s.since, s.sent = now, 0
	}
	s.sent++
	return s.sent <= maxRedirects
}

// SendRedirect tells the sender of pkt, whose L3 is marked and which is only
// looked at, of a better first hop: target, on ifp (RFC 4861 §8.2). Whom it
// would not help is not told.
func (nd *ND) SendRedirect(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, target netip.Addr) {
	h, ok := packet.CheckIPv6(pkt.L3())
	if !ok {
		return
	}
	src, dst := packet.Scoped(h.Src(), ifp.Index), packet.Scoped(h.Dst(), ifp.Index)
	if src == unspecified || src.IsMulticast() || dst.IsMulticast() || nd.in.Addr(ifp, src) != nil ||
		!nd.neighbour(ifp, src) || target != dst && !target.IsLinkLocalUnicast() || target == src {
		return
	}
	from := sourceFor(ifp, netip.Addr{})
	if !from.IsLinkLocalUnicast() {
		w.Count(cntNoSource)
		return
	}
	if !nd.redirs.mayRedirect(w.Now) {
		w.Count(cntRedirLimit)
		return
	}
	opts := 0
	var mac *netif.MAC
	if e := nd.find(ifp, target); e != nil {
		if v := e.v.Load(); v.known() {
			mac, opts = &v.mac, 8
		}
	}
	// As much of the packet as leaves the whole within what every link carries
	// (§4.6.3), in units of 8 octets.
	room := packet.MinMTU6 - packet.IPv6Len - packet.RedirectLen - opts - 8
	quote := h[:min(len(h), room&^7)]
	quoted := 8 + (len(quote)+7)&^7
	p, b := nd.compose(w, packet.RedirectLen+opts+quoted)
	if p == nil {
		return
	}
	packet.PutRedirect(b, target, dst)
	o := b[packet.RedirectLen:]
	if mac != nil {
		packet.AppendNDLink(o, packet.NDOptTargetLink, *mac)
		o = o[8:]
	}
	o[0], o[1] = packet.NDOptRedirected, uint8(quoted/8)
	copy(o[8:], quote)
	nd.send(w, ifp, p, from, src, nil)
}
