package stack

import (
	"ionet/stack/autoconf"
	"ionet/stack/inet6"
	"ionet/stack/mib"
	"ionet/stack/nd6"
	"ionet/stack/netif"
)

var (
	nodeHopLimit = mib.Lookup("net.inet6.ip6.hlim")

	cntHopLimit = mib.NewCounter("nd6", "hop limit refused", "# router advertisement{s} that would have lowered the hop limit")
)

// autoconf introduces autoconfiguration to IPv6 and to neighbour discovery.
func (s *Stack) autoconf(env *netif.Env) {
	s.Auto = autoconf.New(env, s.Routes, s.Inet6, neighbours{s.ND, s.Inet6, env.MIB})
	s.ND.SetRouter(s.Auto)
	s.ND.RouterGone = s.Auto.RouterGone
	s.Inet6.Started, s.Inet6.Up, s.Inet6.Duplicate = s.Auto.InterfaceUp, s.Auto.Ready, s.Auto.Duplicate
	s.Inet6.AddrChanged = func(a *netif.Addr, added bool) {
		s.addrChanged(a, added)
		s.Auto.AddrChanged(a, added)
	}
	env.MIB.OnChange(mib.Lookup("net.inet6.ip6.forwarding"), func(old, on int64) error {
		if old != on {
			s.Auto.ForwardingChanged(on != 0)
		}
		return nil
	})
}

// neighbours is neighbour discovery as autoconfiguration sees it.
type neighbours struct {
	*nd6.ND
	inet *inet6.Inet6
	mib  *mib.Values
}

// AcceptsRA is autoconf.ND.
func (n neighbours) AcceptsRA(ifp *netif.Interface) bool {
	return n.IfInfo(ifp).Flags&nd6.AcceptRtAdv != 0
}

// Learn is autoconf.ND. A hop limit is never lowered: who could say 1 would keep us from
// everybody beyond the link (CVE-2015-2923; RFC 4861 §6.3.4 has a SHOULD here). Whoever has
// found the way finds it anew.
func (n neighbours) Learn(w *netif.Work, ifp *netif.Interface, p autoconf.Parameters) {
	old := n.IfInfo(ifp)
	n.SetIfInfo(w, ifp, func(i *nd6.IfInfo) {
		switch now := max(int64(i.HopLimit), n.mib.Int(nodeHopLimit)); {
		case int64(p.HopLimit) > now, int64(p.HopLimit) == now && p.HopLimit != i.HopLimit:
			i.HopLimit = p.HopLimit
		case p.HopLimit != 0 && int64(p.HopLimit) < now:
			w.Count(cntHopLimit)
		}
		if p.Reachable != 0 {
			i.BaseReachable = p.Reachable
		}
		if p.Retrans != 0 {
			i.Retrans = p.Retrans
		}
		if p.MTU != 0 {
			i.LinkMTU = int(p.MTU)
		}
	})
	if i := n.IfInfo(ifp); i.HopLimit != old.HopLimit || i.LinkMTU != old.LinkMTU {
		n.inet.Invalidate()
	}
}
