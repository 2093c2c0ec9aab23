package route

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/gaissmai/bart"

	"ionet/stack/netif"
)

// resolve completes If and Src as BSD's rt_getifa does. side is the table as
// the batch has made it so far.
func (t *Table) resolve(side *bart.Table[*Entry], s *Spec) error {
	if s.If == nil && s.Src.IsValid() {
		if a := t.find(func(a *netif.Addr) bool { return a.Addr == s.Src }); a != nil {
			s.If = a.If
		}
	}
	if s.If == nil && s.Gateway.IsValid() {
		s.If, s.Src = t.towards(side, s)
	}
	if s.If == nil || s.If.Gone() {
		return fmt.Errorf("route: no directly connected way to %v: %w", s.Gateway, syscall.ENETUNREACH)
	}
	if !s.Src.IsValid() {
		to := s.Gateway
		if !to.IsValid() {
			to = s.Dst.Addr()
		}
		s.Src = source(s.If, to, netip.Addr{})
	}
	return nil
}

// towards finds the interface of a gateway: by the far end of a
// point-to-point link, by an address of ours, by a connected network, and
// last by a route that itself needs no gateway.
func (t *Table) towards(side *bart.Table[*Entry], s *Spec) (*netif.Interface, netip.Addr) {
	gw := s.Gateway
	far := gw
	if s.Flags&FlagGateway == 0 && s.Host {
		far = s.Dst.Addr()
	}
	a := t.find(func(a *netif.Addr) bool { return a.Dst.IsValid() && a.Dst == far })
	if a == nil && s.Flags&FlagGateway == 0 {
		a = t.find(func(a *netif.Addr) bool { return a.Addr == gw })
	}
	if a == nil {
		best := -1
		t.find(func(b *netif.Addr) bool {
			if b.Bits > best && b.Prefix().Contains(gw) {
				a, best = b, b.Bits
			}
			return false
		})
	}
	if a != nil {
		if s.Src.IsValid() {
			return a.If, s.Src
		}
		return a.If, a.Addr
	}
	e, ok := side.Lookup(gw)
	if !ok || e.hop.Flags&(FlagGateway|FlagReject|FlagBlackhole) != 0 {
		return nil, s.Src
	}
	if s.Src.IsValid() {
		return e.hop.If, s.Src
	}
	return e.hop.If, e.hop.Src
}

// ReversePath reports whether packets to src leave by ifp, or with strict false by
// whatever interface, so that what comes from src may come by it (RFC 3704 §2). The caller is inside
// an epoch.
func (t *Table) ReversePath(src netip.Addr, ifp *netif.Interface, strict bool) bool {
	hop, e := t.Lookup(src)
	if hop == nil || hop.Flags&(FlagReject|FlagBlackhole) != 0 {
		return false
	}
	if !strict {
		return true
	}
	hop, _ = hop.Through(e, ifp) // of equal routes, any
	return hop.If == ifp
}

func (t *Table) find(f func(*netif.Addr) bool) *netif.Addr {
	for _, ifp := range t.env.Ifs.All() {
		for _, a := range ifp.Addrs() {
			if f(a) {
				return a
			}
		}
	}
	return nil
}

// source is the address of ifp that speaks to to: one whose network holds it,
// else the first of the family (ifaof_ifpforaddr). Never the address except.
func source(ifp *netif.Interface, to, except netip.Addr) netip.Addr {
	var first netip.Addr
	for _, a := range ifp.Addrs() {
		switch {
		case a.Addr == except || a.Addr.BitLen() != to.BitLen():
		case a.Dst == to && to.IsValid(), a.Prefix().Contains(to):
			return a.Addr
		case !first.IsValid():
			first = a.Addr
		}
	}
	return first
}
