package inet6

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

var nodeDADCount = mib.Int("net.inet6.ip6.dad_count", 1, "Neighbour solicitations before a new address is used (RFC 4862); 0: used at once.", mib.Range(0, 10))

var nodeOptimistic = mib.Int("net.inet6.ip6.optimistic_dad", 0, "1: use autoconfigured addresses while the link is still asked for another owner (RFC 4429).", mib.Bool())

// addrSet is what the packet path asks about addresses. It is immutable and
// replaced with every change.
type addrSet struct {
	local netif.AddrIndex // those that may be used, scoped
	list  []candidate
}

// candidate is an address to choose from, with what the choice asks of it.
type candidate struct {
	*netif.Addr
	scope, label int
}

var (
	unspecified = netip.IPv6Unspecified()
	loopback    = netip.IPv6Loopback()
	allNodes    = netip.MustParseAddr("ff02::1")
	linkLocal   = netip.MustParsePrefix("fe80::/10")
)

// usable reports whether an address is one to receive with: it has been asked
// for, or is optimistic (RFC 4429).
func usable(a *netif.Addr) bool {
	return a.Addr.Is6() && !a.Duplicated && (!a.Tentative || a.Flags&netif.AddrOptimistic != 0)
}

// Local is the address of ours that ip is and that may be used, or nil.
func (in *Inet6) Local(ip netip.Addr) *netif.Addr { return in.addrs.Load().local.Get(ip) }

// Addr is the address of ifp that ip is, be it tentative or duplicated; or nil.
func (in *Inet6) Addr(ifp *netif.Interface, ip netip.Addr) *netif.Addr {
	for _, a := range ifp.Addrs() {
		if a.Addr == ip {
			return a
		}
	}
	return nil
}

// LinkLocal is the link-local address of ifp that may be used; not valid: none.
func (in *Inet6) LinkLocal(ifp *netif.Interface) netip.Addr {
	for _, a := range ifp.Addrs() {
		if usable(a) && a.Addr.IsLinkLocalUnicast() {
			return a.Addr
		}
	}
	return netip.Addr{}
}

// rebuild makes the set anew from the interfaces. An address that has been
// probed changes it from within a burst, beside a control call: one at a time,
// so that the set made last is the one that stays.
func (in *Inet6) rebuild() {
	in.setMu.Lock()
	defer in.setMu.Unlock()
	s := &addrSet{}
	local := map[netip.Addr]*netif.Addr{}
	for _, ifp := range in.env.Ifs.All() {
		for _, a := range ifp.Addrs() {
			if !usable(a) {
				continue
			}
			s.list = append(s.list, candidate{a, scopeOf(a.Addr), in.policies.of(a.Addr).Label})
			if local[a.Addr] == nil {
				local[a.Addr] = a
			}
		}
	}
	s.local = netif.NewAddrIndex(local, uint64(in.env.Rand32())<<32|uint64(in.env.Rand32()))
	in.addrs.Store(s)
	in.gen.Add(1)
}

// AddAddr gives ifp an address, with its groups and routes, and has the link
// asked for another owner (RFC 4862 §5.4). Adding one that is there changes its
// flags and lifetimes. A link-local address may come without its interface. It is a
// control call: not from inside a Work. Errors: EINVAL, EEXIST (on another
// interface), ENOBUFS.
func (in *Inet6) AddAddr(ifp *netif.Interface, a netif.Addr) error {
	return in.addAddr(ifp, a, netif.FlagUp) // the interface comes up with an address (in6_ifinit)
}

// AutoAddr is AddAddr for the addresses that a host makes itself. Who has taken the
// interface down has not asked for one: it stays down, without the address. ENETDOWN.
func (in *Inet6) AutoAddr(ifp *netif.Interface, a netif.Addr) error {
	return in.addAddr(ifp, a, 0)
}

func (in *Inet6) addAddr(ifp *netif.Interface, a netif.Addr, raise uint32) error {
	a.If, a.Addr = ifp, packet.Scoped(a.Addr, ifp.Index)
	loop := ifp.Flags()&netif.FlagLoopback != 0
	if !a.Addr.Is6() || a.Addr.Is4In6() || a.Addr.IsMulticast() || a.Addr == unspecified || a.Addr == loopback && !loop ||
		a.Bits < 0 || a.Bits > 128 {
		return fmt.Errorf("%v/%d cannot be the address of an interface: %w", unscoped(a.Addr), a.Bits, syscall.EINVAL)
	}
	in.addrMu.Lock()
	defer in.addrMu.Unlock()
	if ifp.Gone() {
		return syscall.ENXIO
	}
	for _, other := range in.env.Ifs.All() {
		if other != ifp && in.Addr(other, a.Addr) != nil {
			return fmt.Errorf("%v is an address of %s: %w", a.Addr, other.Name, syscall.EEXIST)
		}
	}
	if a.Dst.IsValid() {
		a.Dst = packet.Scoped(a.Dst, ifp.Index)
	}
	old := in.Addr(ifp, a.Addr)
	if old != nil && (!old.Duplicated || a.Flags&netif.AddrDuplicated != 0) {
		return in.changeAddr(old, &a)
	}
	n := int(in.env.MIB.Int(nodeDADCount))
	a.Duplicated = a.Flags&netif.AddrDuplicated != 0
	a.Tentative = !a.Duplicated && n > 0 && asks(ifp) && in.nd != nil && a.Flags&(netif.AddrAnycast|netif.AddrNoDAD) == 0
	a.Flags &^= netif.AddrTentative | netif.AddrDuplicated
	if a.Tentative && in.env.MIB.On(nodeOptimistic) && (a.Addr.IsLinkLocalUnicast() || a.Flags&(netif.AddrAutoconf|netif.AddrTemporary|netif.AddrStable) != 0) {
		a.Flags |= netif.AddrOptimistic // not what somebody types, who may err (RFC 4429 §3.1)
	}
	was := ifp.Up()
	if ifp.SetFlags(raise, 0); ifp.Flags()&netif.FlagUp == 0 {
		return syscall.ENETDOWN
	}
	if old == nil {
		w := in.env.Begin(in.env.Now())
		if !in.any(ifp) {
			in.groups.attach(w, ifp)
			if name := in.hostname(); name != "" && ifp != in.lo {
				in.JoinGroup(w, ifp, NameGroup(name))
			}
		}
		in.groups.join(w, ifp, in.solicited(ifp, a.Addr), nil)
		w.End()
	}
	in.put(ifp, old, &a)
	if err := in.addRoutes(&a); err != nil {
		in.put(ifp, &a, old)
		if old == nil {
			in.leaveSolicited(&a)
		}
		return err
	}
	in.tell(&a, true)
	switch up := ifp.Up(); {
	case up && !was:
		in.InterfaceUp(ifp)
	case up:
		in.probe(&a)
	}
	return nil
}

// asks reports whether there may be other owners of an address on the link of ifp: on an
// Ethernet, and at the far end of a tunnel (in6if_do_dad).
func asks(ifp *netif.Interface) bool {
	return ifp.Ether() || ifp.Type == netif.TypeGIF
}

// changeAddr gives an address other flags, lifetimes, or another prefix length.
// The caller holds addrMu.
func (in *Inet6) changeAddr(old, a *netif.Addr) error {
	a.Tentative, a.Duplicated, a.Alias = old.Tentative, old.Duplicated, old.Alias
	a.Flags &^= netif.AddrTentative | netif.AddrDuplicated
	a.Flags |= old.Flags & netif.AddrOptimistic
	if routed := a.Bits != old.Bits || a.Dst != old.Dst || (a.Flags^old.Flags)&netif.AddrAutoconf != 0; routed {
		in.dropRoutes(old)
		if err := in.addRoutes(a); err != nil {
			return errors.Join(err, in.addRoutes(old))
		}
	}
	in.put(a.If, old, a)
	in.tell(a, true)
	return nil
}

func (in *Inet6) tell(a *netif.Addr, added bool) {
	if in.AddrChanged != nil {
		in.AddrChanged(a, added)
	}
}

// any reports whether ifp has an address of IPv6.
func (in *Inet6) any(ifp *netif.Interface) bool {
	return slices.ContainsFunc(ifp.Addrs(), func(a *netif.Addr) bool { return a.Addr.Is6() })
}

func (in *Inet6) solicited(ifp *netif.Interface, ip netip.Addr) netip.Addr {
	return packet.Scoped(packet.SolicitedNode(ip), ifp.Index)
}

func (in *Inet6) leaveSolicited(a *netif.Addr) {
	w := in.env.Begin(in.env.Now())
	in.groups.leave(w, a.If, in.solicited(a.If, a.Addr), nil)
	w.End()
}

// put replaces old by a in ifp's list; either may be nil. An old one that is
// there no more stays away.
func (in *Inet6) put(ifp *netif.Interface, old, a *netif.Addr) {
	ifp.EditAddrs(func(s []*netif.Addr) []*netif.Addr {
		i := slices.Index(s, old)
		switch {
		case i >= 0 && a != nil:
			s[i] = a
		case i >= 0:
			s = slices.Delete(s, i, i+1)
		case old == nil && a != nil:
			a.Alias = slices.ContainsFunc(s, func(o *netif.Addr) bool { return o.Addr.Is6() })
			s = append(s, a)
		}
		return s
	})
	in.rebuild()
}

// probe begins to ask for other owners of a tentative address, or announces
// one that is not asked for.
func (in *Inet6) probe(a *netif.Addr) {
	w := in.env.Begin(in.env.Now())
	defer w.End()
	if in.nd == nil || !asks(a.If) || a.Duplicated {
		in.ready(w, a)
		return
	}
	n := 0
	if a.Tentative {
		n = max(1, int(in.env.MIB.Int(nodeDADCount)))
	}
	ifp, ip := a.If, a.Addr
	in.nd.Probe(w, ifp, ip, n, func(w *netif.Work, conflict bool) { in.probed(w, ifp, ip, conflict) })
}

// probed is the end of duplicate address detection.
func (in *Inet6) probed(w *netif.Work, ifp *netif.Interface, ip netip.Addr, conflict bool) {
	a := in.Addr(ifp, ip)
	if a == nil {
		return
	}
	b := a
	if a.Tentative {
		c := *a
		b = &c
		b.Tentative, b.Duplicated = false, conflict
		b.Flags &^= netif.AddrOptimistic
		in.put(ifp, a, b)
		if conflict {
			in.log.Warn("duplicate address", "interface", ifp.Name, "address", unscoped(ip))
		}
		in.tell(b, true)
	}
	switch {
	case !conflict:
		in.ready(w, b)
	case in.Duplicate != nil:
		w.Post(func(w *netif.Work) { in.Duplicate(w, b) })
	}
}

func unscoped(ip netip.Addr) netip.Addr {
	ip, _ = packet.Unscoped(ip)
	return ip
}

// ready tells whoever waits for a link-local address that may be used.
func (in *Inet6) ready(w *netif.Work, a *netif.Addr) {
	if !usable(a) || !a.Addr.IsLinkLocalUnicast() || !a.If.Up() {
		return
	}
	in.groups.ready(w, a.If)
	if in.Up != nil {
		in.Up(w, a.If, true)
	}
}

// DelAddr takes an address away with its routes, group and neighbours.
// EADDRNOTAVAIL: ifp has no such address.
func (in *Inet6) DelAddr(ifp *netif.Interface, ip netip.Addr) error {
	in.addrMu.Lock()
	defer in.addrMu.Unlock()
	a := in.Addr(ifp, packet.Scoped(ip, ifp.Index))
	if a == nil {
		return fmt.Errorf("%v is no address of %s: %w", ip, ifp.Name, syscall.EADDRNOTAVAIL)
	}
	in.dropRoutes(a)
	in.put(ifp, a, nil)
	in.leaveSolicited(a)
	if in.nd != nil {
		in.nd.Forget(ifp, a.Addr)
		if !slices.ContainsFunc(ifp.Addrs(), func(o *netif.Addr) bool { return o.Addr.Is6() && o.Prefix() == a.Prefix() }) {
			w := in.env.Begin(in.env.Now())
			in.nd.Flush(w, ifp, a.Prefix())
			w.End()
		}
	}
	in.tell(a, false)
	return nil
}

// connected are the routes of an address: itself, and, if somebody gave it by
// hand, its network. What a router says of networks is autoconf's.
func (in *Inet6) connected(a *netif.Addr) (out []route.Spec) {
	own := route.Spec{Dst: netip.PrefixFrom(a.Addr, 128), Host: true, If: in.lo, Src: a.Addr, Gateway: a.Addr, Flags: route.FlagUp | route.FlagHost}
	if a.If.Flags()&netif.FlagLoopback != 0 { // as of 127.0.0.1
		own.Metrics = &route.Metrics{MTU: uint32(a.If.MTU())}
	} else {
		own.Flags |= route.FlagLLInfo
	}
	out = append(out, own)
	switch {
	case a.Dst.IsValid():
		out = append(out, route.Spec{Dst: netip.PrefixFrom(a.Dst, 128), Host: true, If: a.If, Src: a.Addr, Gateway: a.Addr,
			Flags: route.FlagUp | route.FlagHost})
	case a.If.Flags()&netif.FlagLoopback != 0 || a.Bits == 128 || a.Flags&netif.AddrAutoconf != 0 && !a.Addr.IsLinkLocalUnicast():
	default:
		out = append(out, route.Spec{Dst: a.Prefix(), If: a.If, Src: a.Addr, Flags: route.FlagUp | route.FlagCloning})
	}
	return out
}

// addRoutes adds them; a network that has its route already keeps that.
func (in *Inet6) addRoutes(a *netif.Addr) error {
	var ops []route.Op
	for _, s := range in.connected(a) {
		ops = append(ops, route.Op{Kind: route.Add, Spec: s})
	}
	for _, err := range in.routes.Update(ops) {
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return nil
}

// dropRoutes removes an address's routes, or leaves its network's to another
// address that is in it.
func (in *Inet6) dropRoutes(a *netif.Addr) {
	for _, s := range in.connected(a) {
		if r, err := in.routes.GetExact(s.Dst); err != nil || r.If != s.If || r.Src != a.Addr {
			continue
		}
		ops := []route.Op{{Kind: route.Delete, Spec: s}}
		for _, b := range a.If.Addrs() {
			if b == a || !b.Addr.Is6() || s.Host {
				continue
			}
			if i := slices.IndexFunc(in.connected(b), func(o route.Spec) bool { return o.Dst == s.Dst }); i >= 0 {
				ops = append(ops, route.Op{Kind: route.Add, Spec: in.connected(b)[i]})
				break
			}
		}
		for _, err := range in.routes.Update(ops) {
			if err != nil && !errors.Is(err, syscall.ESRCH) {
				in.log.Warn("inet6: route of an address", "address", unscoped(a.Addr), "error", err)
			}
		}
	}
	in.routes.DeleteSource(a.If, a.Addr)
}

// InterfaceUp asks for the addresses of an interface that came up anew, and
// announces those that need no asking.
func (in *Inet6) InterfaceUp(ifp *netif.Interface) {
	in.gen.Add(1)
	if in.Started != nil {
		in.Started(ifp)
	}
	for _, a := range ifp.Addrs() {
		if a.Addr.Is6() {
			in.probe(a)
		}
	}
}

// InterfaceDown forgets what was learnt on an interface that went down. An
// address that is being asked for has to wait: nobody would hear it.
func (in *Inet6) InterfaceDown(ifp *netif.Interface) {
	in.gen.Add(1)
	w := in.env.Begin(in.env.Now())
	defer w.End()
	if in.nd != nil && asks(ifp) {
		for _, a := range ifp.Addrs() {
			if a.Addr.Is6() && a.Tentative {
				in.nd.Forget(ifp, a.Addr)
			}
		}
		in.nd.Flush(w, ifp, netip.Prefix{})
	}
	if in.Up != nil {
		in.Up(w, ifp, false)
	}
}

// Detach takes every address of a departing interface away.
func (in *Inet6) Detach(ifp *netif.Interface) {
	for _, a := range slices.Clone(ifp.Addrs()) {
		if a.Addr.Is6() {
			if err := in.DelAddr(ifp, a.Addr); err != nil {
				in.log.Warn("inet6: detach", "error", err)
			}
		}
	}
	in.InterfaceDown(ifp)
	in.groups.detach(ifp)
	in.mroute.Detach(ifp)
}

// JoinGroup and LeaveGroup are the stack's own memberships; they are counted.
func (in *Inet6) JoinGroup(w *netif.Work, ifp *netif.Interface, g netip.Addr) {
	in.groups.join(w, ifp, packet.Scoped(g, ifp.Index), nil)
}

// LeaveGroup undoes one JoinGroup.
func (in *Inet6) LeaveGroup(w *netif.Work, ifp *netif.Interface, g netip.Addr) {
	in.groups.leave(w, ifp, packet.Scoped(g, ifp.Index), nil)
}

// Invalidate makes every cached route be looked up again.
func (in *Inet6) Invalidate() { in.gen.Add(1) }

// CheckBind is socket.Network.
func (in *Inet6) CheckBind(a netip.Addr) error {
	if l := in.Local(a); l != nil && l.Flags&netif.AddrAnycast == 0 || a == unspecified || a.IsMulticast() {
		return nil
	}
	return syscall.EADDRNOTAVAIL
}
