package route

import (
	"net/netip"
	"syscall"

	"ionet/stack/netif"
)

// maxDynamic bounds the routes that redirects make, so that a station on the
// link, which can speak as the gateway, does not fill the table.
const maxDynamic = 4096

// Redirect acts on an ICMP redirect: router from, the present gateway to dst,
// says that gateway is better (RFC 1122 §3.2.2.2), or, with gateway dst itself,
// that dst is a neighbour (RFC 4861 §8.3). It makes a dynamic host
// route, or changes the host route there is. The caller is not inside an epoch
// ([netif.Work.Post]). Errors: EHOSTUNREACH (from is not the gateway in use, or
// the new one is ourselves), ENETUNREACH (the new one is not on a network
// connected), ENOBUFS (4096 dynamic routes).
func (t *Table) Redirect(dst, gateway, from netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.redirect(dst, gateway, from)
	if err != nil {
		t.env.MIB.Add(cntBadRedirect, 1)
	}
	return err
}

func (t *Table) redirect(dst, gateway, from netip.Addr) error {
	p, e, ok := t.match(dst)
	if !ok {
		return syscall.EHOSTUNREACH
	}
	if g := e.hop.group; g != nil {
		i := g.find(&Spec{Gateway: from})
		if i < 0 || e.hop.Flags&FlagHost != 0 { // equal routes to a host are somebody's wish
			return syscall.EHOSTUNREACH
		}
		e = g.members[i]
	}
	if e.hop.Flags&FlagGateway == 0 || e.hop.Gateway != from {
		return syscall.EHOSTUNREACH
	}
	if t.find(func(a *netif.Addr) bool { return a.Addr == gateway }) != nil {
		return syscall.EHOSTUNREACH
	}
	op := Op{Kind: Add, Spec: Spec{Dst: netip.PrefixFrom(dst, dst.BitLen()), Host: true, Gateway: gateway,
		If: e.hop.If, Src: e.hop.Src, Flags: FlagUp | FlagGateway | FlagHost | FlagDynamic}}
	onLink := dst.Is6() && gateway == dst
	if !onLink {
		near := t.find(func(a *netif.Addr) bool {
			return a.If == e.hop.If && (a.Dst == gateway || a.Prefix().Contains(gateway))
		})
		if near == nil {
			return syscall.ENETUNREACH
		}
		op.Spec.Src = near.Addr
	}
	cnt := cntDynamic
	if e.hop.Flags&FlagHost != 0 && p.IsSingleIP() {
		op.Kind, cnt = Change, cntNewGateway
		op.Spec.Flags = e.hop.Flags&^FlagDynamic | FlagModified
	}
	if onLink {
		op.Spec.Gateway, op.Spec.Flags = netip.Addr{}, op.Spec.Flags&^FlagGateway
	}
	if op.Kind == Add && t.dynamic >= maxDynamic {
		return syscall.ENOBUFS
	}
	if err := t.update([]Op{op})[0]; err != nil {
		return err
	}
	t.env.MIB.Add(cnt, 1)
	t.news.publish(Message{Type: MsgRedirect, Route: Route{Spec: op.Spec}, Author: from})
	return nil
}
