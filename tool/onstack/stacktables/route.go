package stacktables

import (
	"cmp"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/netlink"
)

// host is what the meaning of a route depends on.
type host struct {
	links map[int]*protocol.InterfaceRow
	addrs []netlink.Addr // in the order of the interfaces
	lo    int            // index of the first loopback interface; 0 none
}

func newHost(rows []protocol.InterfaceRow) *host {
	h := &host{links: map[int]*protocol.InterfaceRow{}, addrs: addrsOf(rows)}
	for i := range rows {
		h.links[rows[i].Index] = &rows[i]
		if h.lo == 0 && rows[i].Flags&protocol.IFFLoopback != 0 {
			h.lo = rows[i].Index
		}
	}
	return h
}

// first is the first address of the host that fits; nil if none does.
func (h *host) first(fits func(*netlink.Addr) bool) *netlink.Addr {
	for i := range h.addrs {
		if fits(&h.addrs[i]) {
			return &h.addrs[i]
		}
	}
	return nil
}

func (h *host) own(ip netip.Addr) *netlink.Addr {
	return h.first(func(a *netlink.Addr) bool { return a.Prefix.Addr() == ip })
}

// source is the address that a packet has that leaves by an interface, in
// want's family, and of its scope if there is one.
func (h *host) source(index int, want netip.Addr) netip.Addr {
	of := func(scoped bool) *netlink.Addr {
		return h.first(func(a *netlink.Addr) bool {
			ip := a.Prefix.Addr()
			return a.Index == index && ip.Is4() == want.Is4() && (!scoped || ip.Is4() || ip.IsLinkLocalUnicast() == want.IsLinkLocalMulticast())
		})
	}
	if a := cmp.Or(of(true), of(false)); a != nil {
		return a.Prefix.Addr()
	}
	return netip.Addr{}
}

// onLink says whether dst is in reach of an address without a router.
func onLink(a *netlink.Addr, dst netip.Addr) bool {
	return a.Peer == dst || !a.Peer.IsValid() && a.Prefix.Contains(dst)
}

// route is a route as the table has it.
func (h *host) route(m *protocol.RouteMessage) netlink.Route {
	dst := m.Prefix()
	r := netlink.Route{Dst: dst, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_KERNEL}
	switch {
	case m.Flags&(protocol.RTFDynamic|protocol.RTFModified) != 0:
		r.Protocol = unix.RTPROT_REDIRECT
	case m.Flags&protocol.RTFStatic != 0:
		r.Protocol = unix.RTPROT_STATIC
	case m.Flags&protocol.RTFGateway != 0:
		r.Protocol = unix.RTPROT_BOOT
	}
	switch {
	case m.Flags&protocol.RTFReject != 0:
		r.Type = unix.RTN_UNREACHABLE
		return r
	case m.Flags&protocol.RTFBlackhole != 0:
		r.Type = unix.RTN_BLACKHOLE
		return r
	}
	r.OIF = m.Index
	if l := h.links[m.Index]; l == nil || uint64(l.MTU) != m.Metrics.MTU {
		r.MTU = uint32(min(m.Metrics.MTU, 1<<32-1))
	}
	switch {
	case m.Flags&protocol.RTFGateway != 0:
		r.Gateway = m.Gateway.IP.WithZone("")
	case dst.IsSingleIP() && h.own(dst.Addr()) != nil:
		r.Type, r.Scope, r.Source = unix.RTN_LOCAL, unix.RT_SCOPE_HOST, dst.Addr()
	default:
		r.Scope = unix.RT_SCOPE_LINK
		if a := h.first(func(a *netlink.Addr) bool { return a.Index == m.Index && onLink(a, dst.Addr()) }); a != nil {
			r.Source = a.Prefix.Addr()
		}
	}
	return r
}

// lookup is what the addresses alone decide; not ok: the table decides.
func (h *host) lookup(dst netip.Addr, oif int) (r netlink.Route, ok bool, err error) {
	if oif != 0 && h.links[oif] == nil {
		return r, false, syscall.ENODEV
	}
	r = netlink.Route{Dst: netip.PrefixFrom(dst, dst.BitLen()), Protocol: unix.RTPROT_KERNEL}
	own := h.own(dst)
	if dst.IsUnspecified() { // BSD: this host
		own = h.first(func(a *netlink.Addr) bool { return a.Prefix.Addr().Is4() == dst.Is4() })
	}
	if own != nil && (oif == 0 || oif == own.Index) {
		r.Type, r.Scope, r.OIF, r.Source = unix.RTN_LOCAL, unix.RT_SCOPE_HOST, h.lo, own.Prefix.Addr()
		return r, true, nil
	}
	if a := h.first(func(a *netlink.Addr) bool {
		return a.Broadcast == dst && (oif == 0 || oif == a.Index)
	}); a != nil && dst.IsValid() {
		r.Type, r.Scope, r.OIF, r.Source = unix.RTN_BROADCAST, unix.RT_SCOPE_LINK, a.Index, a.Prefix.Addr()
		return r, true, nil
	}
	if oif == 0 {
		return r, false, nil
	}
	if everybody(dst) {
		return h.direct(dst, oif), true, nil
	}
	a := h.first(func(a *netlink.Addr) bool { return a.Index == oif && onLink(a, dst) })
	if a == nil {
		return r, false, nil
	}
	r.Dst = a.Prefix.Masked()
	if a.Peer.IsValid() {
		r.Dst = netip.PrefixFrom(dst, dst.BitLen())
	}
	r.Type, r.Scope, r.OIF, r.Source = unix.RTN_UNICAST, unix.RT_SCOPE_LINK, oif, a.Prefix.Addr()
	return r, true, nil
}

// limited is the broadcast address of every network (RFC 919).
var limited = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// everybody says that dst is a group, or all hosts: the stack asks the table
// only for an interface.
func everybody(dst netip.Addr) bool { return dst.IsMulticast() || dst == limited }

// direct is the way to a group or to all hosts through an interface.
func (h *host) direct(dst netip.Addr, oif int) netlink.Route {
	r := netlink.Route{Dst: netip.PrefixFrom(dst, dst.BitLen()), OIF: oif, Type: unix.RTN_MULTICAST, Scope: unix.RT_SCOPE_LINK,
		Protocol: unix.RTPROT_KERNEL, Source: h.source(oif, dst)}
	if dst == limited {
		r.Type = unix.RTN_BROADCAST
	}
	return r
}

// unrouted is what becomes of dst when the table has no route to it: a group
// and all hosts are looked for on the first interface that can broadcast.
func (h *host) unrouted(dst netip.Addr, oif int) (netlink.Route, error) {
	const able = protocol.IFFUp | protocol.IFFBroadcast
	a := h.first(func(a *netlink.Addr) bool {
		return h.links[a.Index].Flags&able == able && a.Prefix.Addr().Is4() == dst.Is4()
	})
	if oif != 0 || !everybody(dst) || a == nil {
		return netlink.Route{}, syscall.ENETUNREACH
	}
	return h.direct(dst, a.Index), nil
}

// found is what the answer m of RTM_GET means for packets to dst.
func (h *host) found(m *protocol.RouteMessage, dst netip.Addr, oif int) (netlink.Route, error) {
	if m.Flags&protocol.RTFReject != 0 {
		if everybody(dst) {
			return h.unrouted(dst, oif)
		}
		if m.Flags&protocol.RTFHost != 0 {
			return netlink.Route{}, syscall.EHOSTUNREACH
		}
		return netlink.Route{}, syscall.ENETUNREACH
	}
	r := h.route(m)
	switch {
	case everybody(dst) && r.Type == unix.RTN_BLACKHOLE:
		return h.unrouted(dst, oif)
	case everybody(dst):
		return h.direct(dst, r.OIF), nil
	case r.Type == unix.RTN_BLACKHOLE:
		return r, nil
	case oif != 0 && oif != r.OIF:
		return netlink.Route{}, syscall.ENETUNREACH
	}
	switch l := h.links[r.OIF]; {
	case l == nil || l.Flags&protocol.IFFUp == 0:
		return netlink.Route{}, syscall.ENETDOWN
	case dst.IsLoopback() && l.Flags&protocol.IFFLoopback == 0:
		return netlink.Route{}, syscall.EADDRNOTAVAIL // RFC 1122 §3.2.1.3 (g)
	}
	if m.Flags&protocol.RTFLLInfo != 0 { // a neighbour, made from the route of its network
		if a := h.first(func(a *netlink.Addr) bool { return a.Index == r.OIF && onLink(a, dst) }); a != nil && !a.Peer.IsValid() {
			r.Dst = a.Prefix.Masked()
		}
		r.Protocol = unix.RTPROT_KERNEL
	}
	if m.Ifa.IP.IsValid() {
		r.Source = m.Ifa.IP.WithZone("")
	}
	return r, nil
}
