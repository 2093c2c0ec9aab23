package inet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

func checkOrder(min, max int64) error {
	if min > max {
		return fmt.Errorf("the lowest port, %d, would be above the highest, %d: %w", min, max, syscall.EINVAL)
	}
	return nil
}

// addrSet is what the packet path asks about addresses. It is immutable and
// replaced with every change.
type addrSet struct {
	local netif.AddrIndex
	bcast netif.AddrIndex // directed broadcasts, and network addresses
	list  []*netif.Addr
}

// Local is the address of ours that ip is, or nil.
func (in *Inet) Local(ip netip.Addr) *netif.Addr { return in.addrs.Load().local.Get(ip) }

// IsBroadcast is socket.Network.
func (in *Inet) IsBroadcast(ip netip.Addr) bool { return ip == broadcast || in.directed(ip) != nil }

var (
	broadcast   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	unspecified = netip.IPv4Unspecified()
	allHosts    = netip.AddrFrom4([4]byte{224, 0, 0, 1})
)

// directed is the address whose network ip is a broadcast of, or nil. The
// network's own address counts with hostzerobroadcast.
func (in *Inet) directed(ip netip.Addr) *netif.Addr {
	a := in.addrs.Load().bcast.Get(ip)
	if a == nil || ip != a.Broadcast && !in.env.MIB.On(nodeHostZero) {
		return nil
	}
	return a
}

// rebuild makes the set anew from the interfaces. An address that has been
// probed changes it from within a burst, beside a control call: one at a time,
// so that the set made last is the one that stays.
func (in *Inet) rebuild() {
	in.setMu.Lock()
	defer in.setMu.Unlock()
	s := &addrSet{}
	local, bcast := map[netip.Addr]*netif.Addr{}, map[netip.Addr]*netif.Addr{}
	for _, ifp := range in.env.Ifs.All() {
		for _, a := range ifp.Addrs() {
			if !a.Addr.Is4() || a.Tentative || a.Duplicated {
				continue
			}
			s.list = append(s.list, a)
			if local[a.Addr] == nil {
				local[a.Addr] = a
			}
			if a.Broadcast.IsValid() {
				bcast[a.Broadcast] = a
				if a.Bits < 31 {
					bcast[a.Prefix().Addr()] = a
				}
			}
		}
	}
	key := uint64(in.env.Rand32())<<32 | uint64(in.env.Rand32())
	s.local, s.bcast = netif.NewAddrIndex(local, key), netif.NewAddrIndex(bcast, key)
	in.addrs.Store(s)
	in.gen.Add(1)
}

// LastAddr is the highest address of a network: its broadcast address.
func LastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// AddAddr gives ifp an address, with its routes (in_ifinit). Changing mask or
// broadcast of an address is adding it again. It is a control call: not from
// inside a Work. Errors: EINVAL, EADDRNOTAVAIL, EEXIST (on another interface).
func (in *Inet) AddAddr(ifp *netif.Interface, a netif.Addr) error {
	if !a.Addr.Is4() || a.Bits < 0 || a.Bits > 32 || a.Addr.IsMulticast() || a.Addr == unspecified || a.Addr == broadcast {
		return fmt.Errorf("%v/%d cannot be the address of an interface: %w", a.Addr, a.Bits, syscall.EINVAL)
	}
	in.addrMu.Lock()
	defer in.addrMu.Unlock()
	for _, other := range in.env.Ifs.All() {
		if other == ifp {
			continue
		}
		for _, o := range other.Addrs() {
			if o.Addr == a.Addr {
				return fmt.Errorf("%v is an address of %s: %w", a.Addr, other.Name, syscall.EEXIST)
			}
		}
	}
	a.If = ifp
	switch fl := ifp.Flags(); {
	case fl&netif.FlagLoopback != 0:
		a.Dst, a.Broadcast = a.Addr, netip.Addr{}
	case fl&netif.FlagPointToPoint != 0:
		a.Broadcast = netip.Addr{}
	case fl&netif.FlagBroadcast != 0:
		a.Dst = netip.Addr{}
		if !a.Broadcast.IsValid() && a.Bits < 31 {
			a.Broadcast = LastAddr(a.Prefix())
		}
	}
	var old *netif.Addr
	for _, o := range ifp.Addrs() {
		if o.Addr == a.Addr {
			old = o
		}
	}
	if old != nil {
		a.Alias = old.Alias
		in.dropRoutes(old)
	}
	probe := ifp.Ether() && in.neigh != nil && (old == nil || old.Tentative || old.Duplicated)
	n := int(in.env.MIB.Int(nodeDADCount))
	a.Tentative = probe && n > 0 && ifp.Flags()&netif.FlagRunning != 0
	in.put(ifp, old, &a)
	// The interface comes up with an address (in_ifinit).
	was := ifp.Up()
	ifp.SetFlags(netif.FlagUp, 0)
	if err := in.addRoutes(&a); err != nil {
		in.put(ifp, &a, old)
		if old != nil {
			err = errors.Join(err, in.addRoutes(old))
		}
		return err
	}
	if old == nil && len(v4Addrs(ifp)) == 1 {
		in.joinAllHosts(ifp)
	}
	if in.AddrChanged != nil {
		in.AddrChanged(&a, true)
	}
	switch up := ifp.Up(); {
	case up && !was:
		in.InterfaceUp(ifp)
	case up && probe:
		in.announce(ifp, a.Addr, n)
	}
	return nil
}

func v4Addrs(ifp *netif.Interface) (out []*netif.Addr) {
	for _, a := range ifp.Addrs() {
		if a.Addr.Is4() {
			out = append(out, a)
		}
	}
	return out
}

// put replaces old by a in ifp's list; either may be nil. An old one that is
// there no more stays away.
func (in *Inet) put(ifp *netif.Interface, old, a *netif.Addr) {
	ifp.EditAddrs(func(s []*netif.Addr) []*netif.Addr {
		i := slices.Index(s, old)
		switch {
		case i >= 0 && a != nil:
			s[i] = a
		case i >= 0:
			s = slices.Delete(s, i, i+1)
		case old == nil && a != nil:
			a.Alias = slices.ContainsFunc(s, func(o *netif.Addr) bool { return o.Addr.Is4() })
			s = append(s, a)
		}
		return s
	})
	in.rebuild()
}

// announce begins the probing or the announcing of an address.
func (in *Inet) announce(ifp *netif.Interface, ip netip.Addr, n int) {
	w := in.env.Begin(in.env.Now())
	in.neigh.Probe(w, ifp, ip, n, func(w *netif.Work, conflict bool) {
		for _, a := range ifp.Addrs() {
			if a.Addr == ip && a.Tentative {
				b := *a
				b.Tentative, b.Duplicated = false, conflict
				in.put(ifp, a, &b)
				if in.AddrChanged != nil {
					in.AddrChanged(&b, true)
				}
			}
		}
	})
	w.End()
}

// DelAddr takes an address away with its routes and neighbours.
// EADDRNOTAVAIL: ifp has no such address.
func (in *Inet) DelAddr(ifp *netif.Interface, ip netip.Addr) error {
	in.addrMu.Lock()
	defer in.addrMu.Unlock()
	for _, a := range ifp.Addrs() {
		if a.Addr != ip {
			continue
		}
		in.dropRoutes(a)
		in.put(ifp, a, nil)
		if !a.Alias { // the next one becomes the first
			if rest := v4Addrs(ifp); len(rest) > 0 {
				b := *rest[0]
				b.Alias = false
				in.put(ifp, rest[0], &b)
			}
		}
		if in.neigh != nil {
			in.neigh.Forget(ifp, ip)
			w := in.env.Begin(in.env.Now())
			in.neigh.Flush(w, ifp, a.Prefix())
			w.End()
		}
		if in.AddrChanged != nil {
			in.AddrChanged(a, false)
		}
		return nil
	}
	return fmt.Errorf("%v is no address of %s: %w", ip, ifp.Name, syscall.EADDRNOTAVAIL)
}

// addRoutes adds the route of an address: the connected network (cloning), the
// far end, or the address itself on lo0.
func (in *Inet) addRoutes(a *netif.Addr) error {
	err := in.routes.Update([]route.Op{{Kind: route.Add, Spec: in.connected(a)}})[0]
	if errors.Is(err, syscall.EEXIST) { // another address of this network has it
		return nil
	}
	return err
}

func (in *Inet) connected(a *netif.Addr) route.Spec {
	s := route.Spec{If: a.If, Src: a.Addr}
	switch {
	case a.Dst.IsValid(): // lo0 or point-to-point
		s.Dst, s.Host = netip.PrefixFrom(a.Dst, 32), true
		s.Gateway = a.Addr
		s.Flags = route.FlagUp | route.FlagHost
		if a.If.Flags()&netif.FlagLoopback != 0 { // BSD notes it there, and netstat shows it
			s.Metrics = &route.Metrics{MTU: uint32(a.If.MTU())}
		}
	default:
		s.Dst = a.Prefix()
		s.Flags = route.FlagUp | route.FlagCloning
	}
	return s
}

// dropRoutes removes an address's route, or leaves it to another address of
// the same network.
func (in *Inet) dropRoutes(a *netif.Addr) {
	s := in.connected(a)
	if r, err := in.routes.GetExact(s.Dst); err != nil || r.If != a.If || r.Src != a.Addr {
		in.routes.DeleteSource(a.If, a.Addr)
		return // the network's route is another address's
	}
	ops := []route.Op{{Kind: route.Delete, Spec: s}}
	for _, b := range a.If.Addrs() {
		if b != a && b.Addr.Is4() {
			if o := in.connected(b); o.Dst == s.Dst {
				ops = append(ops, route.Op{Kind: route.Add, Spec: o})
				break
			}
		}
	}
	for i, err := range in.routes.Update(ops) {
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			in.log.Warn("inet: route of an address", "op", i, "address", a.Addr, "error", err)
		}
	}
	in.routes.DeleteSource(a.If, a.Addr)
}

// InterfaceUp announces the addresses of an interface that came up. One that
// was being probed is probed again; one that somebody else has stays silent.
func (in *Inet) InterfaceUp(ifp *netif.Interface) {
	if ifp.Ether() && in.neigh != nil {
		for _, a := range v4Addrs(ifp) {
			switch {
			case a.Tentative:
				in.announce(ifp, a.Addr, max(1, int(in.env.MIB.Int(nodeDADCount))))
			case !a.Duplicated:
				in.announce(ifp, a.Addr, 0)
			}
		}
	}
	in.gen.Add(1)
}

// InterfaceDown forgets what was learnt on an interface that went down. An
// address that is being probed has to wait: nobody would hear it asked for.
func (in *Inet) InterfaceDown(ifp *netif.Interface) {
	if ifp.Ether() && in.neigh != nil {
		for _, a := range v4Addrs(ifp) {
			if a.Tentative {
				in.neigh.Forget(ifp, a.Addr)
			}
		}
		w := in.env.Begin(in.env.Now())
		in.neigh.Flush(w, ifp, netip.Prefix{})
		w.End()
	}
	in.gen.Add(1)
}

// Detach takes every address of a departing interface away.
func (in *Inet) Detach(ifp *netif.Interface) {
	for _, a := range v4Addrs(ifp) {
		if err := in.DelAddr(ifp, a.Addr); err != nil {
			in.log.Warn("inet: detach", "error", err)
		}
	}
	in.InterfaceDown(ifp) // permanent neighbours too, made while it was down
	in.groups.Detach(ifp)
	in.mroute.Detach(ifp)
}

// Invalidate makes every cached route be looked up again.
func (in *Inet) Invalidate() { in.gen.Add(1) }

// CheckBind is socket.Network.
func (in *Inet) CheckBind(a netip.Addr) error {
	if a == unspecified || a.IsMulticast() || in.Local(a) != nil || in.IsBroadcast(a) {
		return nil
	}
	return syscall.EADDRNOTAVAIL
}

// PortRange is socket.Network.
func (in *Inet) PortRange(low bool) (min, max uint16) {
	lo, hi := nodeAnonMin, nodeAnonMax
	if low {
		lo, hi = nodeLowMin, nodeLowMax
	}
	v := in.env.MIB
	return uint16(v.Int(lo)), uint16(v.Int(hi))
}

// PortUnreachable is socket.Network.
func (in *Inet) PortUnreachable(w *netif.Work, pkt *packet.Buf) {
	in.sendError(w, pkt, packet.ICMPUnreach, packet.ICMPUnreachPort, 0)
}
