package inet6

import (
	"net/netip"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

var (
	nodeHlim     = mib.Int("net.inet6.ip6.hlim", 64, "Hop limit of packets that do not ask for another.", mib.Range(1, 255))
	nodeMTUDisc  = mib.Int("net.inet6.ip6.mtudisctimeout", 600, "Seconds a learnt path MTU is believed.", mib.Range(1, 1<<30))
	nodeAnonMin  = mib.Int("net.inet6.ip6.anonportmin", 49152, "Lowest ephemeral port.", mib.Range(1024, 65535))
	nodeAnonMax  = mib.Int("net.inet6.ip6.anonportmax", 65535, "Highest ephemeral port.", mib.Range(1024, 65535))
	nodeLowMin   = mib.Int("net.inet6.ip6.lowportmin", 600, "Lowest port of IPV6_PORTRANGE_LOW.", mib.Range(1, 1023))
	nodeLowMax   = mib.Int("net.inet6.ip6.lowportmax", 1023, "Highest port of IPV6_PORTRANGE_LOW.", mib.Range(1, 1023))
	cntLocalOut  = mib.NewCounter("ip6", "sent", "# packet{s} sent from this host")
	cntOutNoMem  = mib.NewCounter("ip6", "no memory", "# output packet{s} dropped due to no bufs, etc.")
	cntNoRoute   = mib.NewCounter("ip6", "no route", "# output packet{s} discarded due to no route")
	cntBlackhole = mib.NewCounter("ip6", "blackhole", "# output packet{s} swallowed by a blackhole route")
)

// maxPayload is the largest payload, extension headers included (RFC 8200 §3).
const maxPayload = 65535

// Output is socket.Network. A source that the flow names goes out as it is,
// the unspecified one too.
func (in *Inet6) Output(w *netif.Work, pkt *packet.Buf, f *socket.Flow) error {
	if err := in.resolve(f); err != nil {
		w.Drop(pkt, cntNoRoute)
		return err
	}
	rc := &f.Route
	src := f.Src
	if !src.IsValid() {
		src = rc.Src
	}
	ext := f.Ext.Len()
	payload := pkt.Len() + ext
	if payload > maxPayload {
		w.Drop(pkt, cntCantFrag)
		return syscall.EMSGSIZE
	}
	if ext > 0 {
		roomy := pkt.WithHeadroom(ext + packet.Headroom)
		if roomy == nil {
			w.Drop(pkt, cntOutNoMem)
			return syscall.ENOBUFS
		}
		pkt = roomy
	}
	pkt.MarkL4(0)
	hlim := f.TTL
	if hlim == 0 && !f.Dst.IsMulticast() { // a group's 0 means: not beyond this host
		hlim = rc.Hops
	}
	next := f.Proto
	if ext > 0 {
		next = putExt(pkt.Prepend(ext), f.Ext, next, f.Dst)
	}
	packet.PutIPv6(pkt.Prepend(packet.IPv6Len), f.TOS, f.FlowLabel, payload, next, hlim, src, firstHop(f))
	pkt.MarkL3(0)
	pkt.RcvIf = 0
	w.Count(cntLocalOut)
	return in.send(w, pkt, f, rc)
}

// hopLimit is what a router has said for the link, or the default.
func (in *Inet6) hopLimit(ifp *netif.Interface) uint8 {
	if in.nd != nil {
		if n := in.nd.HopLimit(ifp); n != 0 {
			return n
		}
	}
	return uint8(in.env.MIB.Int(nodeHlim))
}

// send is the way out of a complete packet whose route is known.
func (in *Inet6) send(w *netif.Work, pkt *packet.Buf, f *socket.Flow, rc *socket.RouteCache) error {
	if e, ok := rc.Use.(route.Handle); ok {
		in.routes.AddUse(e, 1)
	}
	switch {
	case !rc.NextHop.IsValid():
		w.Drop(pkt, cntBlackhole)
		return nil
	case rc.NextHop.IsMulticast():
		pkt.Flags |= packet.FlagMulticast
		if !f.NoLoop && in.groups.joined(rc.If.Index, rc.NextHop) {
			in.loopCopy(w, pkt, rc.If)
		}
		in.sentToGroup(w, pkt, rc.If)
		if packet.IPv6(pkt.L3()).HopLimit() == 0 || rc.If == in.lo && !f.NoLoop || scopeOf(rc.NextHop) <= scopeInterface { // not beyond this host
			pkt.Free()
			return nil
		}
	}
	if s := in.sec.Load(); s != nil && pkt.Flags&packet.FlagSecured == 0 && !s.Idle() {
		return in.protect(w, s, pkt, f, rc)
	}
	return in.sendOn(w, pkt, f, rc, rc.MTU, true)
}

// sendOn is the rest of the way out, for packets of up to mtu; ask: the filter is asked.
func (in *Inet6) sendOn(w *netif.Work, pkt *packet.Buf, f *socket.Flow, rc *socket.RouteCache, mtu int, ask bool) error {
	if h := in.hook.Load(); h != nil && ask {
		if pkt = h.Out(w, rc.If, pkt); pkt == nil {
			return syscall.EHOSTUNREACH
		}
	}
	if f.MinMTU && rc.If != in.lo {
		mtu = min(mtu, packet.MinMTU6)
	}
	if pkt.Fits(mtu) {
		return rc.If.Output(w, rc.If, pkt, rc.NextHop)
	}
	if f.DontFrag && pkt.Flags&packet.FlagSecured == 0 {
		w.Drop(pkt, cntCantFrag)
		return syscall.EMSGSIZE
	}
	return in.fragment(w, pkt, rc.If, rc.NextHop, mtu)
}

// loopCopy brings a copy of a group's packet to ourselves, as if received by
// the interface it leaves by.
func (in *Inet6) loopCopy(w *netif.Work, pkt *packet.Buf, ifp *netif.Interface) {
	c := pkt.Clone()
	if c == nil {
		w.Count(cntOutNoMem)
		return
	}
	c.RcvIf, c.Time = ifp.Index, w.Now
	c.Flags |= packet.FlagLoop
	w.Turn(in.loopedTurn, c)
}

func (in *Inet6) looped(w *netif.Work, pkt *packet.Buf) {
	ifp := in.env.Ifs.ByIndex(pkt.RcvIf)
	if ifp == nil {
		ifp = in.lo
	}
	w.Count(cntTotal)
	in.input(w, ifp, pkt, in.hook.Load())
}

// generation changes whenever a cached route may be wrong.
func (in *Inet6) generation() uint64 { return in.routes.Generation() + in.gen.Load() }

// resolve fills f.Route unless it is still right.
func (in *Inet6) resolve(f *socket.Flow) error {
	rc := &f.Route
	gen := in.generation()
	if rc.Gen == gen && rc.If != nil && rc.Dst == towards(f) && rc.IfIndex == f.IfIndex &&
		(rc.From == f.Src || !rc.From.IsValid() && rc.Src == f.Src) && rc.DontRoute == f.DontRoute && rc.Temp == f.Temp {
		if !rc.If.Up() {
			return syscall.ENETDOWN
		}
		return nil
	}
	*rc = socket.RouteCache{}
	if err := in.find(f, rc); err != nil {
		rc.If = nil
		return err
	}
	if (f.Src == loopback || f.Dst == loopback) && rc.If != in.lo { // RFC 4291 §2.5.3
		rc.If = nil
		return syscall.EADDRNOTAVAIL
	}
	if !rc.If.Up() {
		rc.If = nil
		return syscall.ENETDOWN
	}
	rc.Gen, rc.Dst, rc.From, rc.IfIndex, rc.DontRoute, rc.Temp = gen, towards(f), f.Src, f.IfIndex, f.DontRoute, f.Temp
	rc.Hops = in.hopLimit(rc.If)
	return nil
}

func (in *Inet6) find(f *socket.Flow, rc *socket.RouteCache) error {
	dst := towards(f)
	if dst == unspecified { // BSD: this host
		dst = loopback
	}
	if packet.IsLinkScoped(dst) {
		ifp, err := in.linkOf(dst, f)
		if err != nil {
			return err
		}
		dst = packet.Scoped(dst, ifp.Index)
		if a := in.Local(dst); a == nil {
			rc.If, rc.NextHop, rc.MTU = ifp, dst, in.linkMTU(ifp)
			if towards(f) == f.Dst {
				in.source(dst, f, rc)
			} else { // on the way to elsewhere
				in.source(f.Dst, f, rc)
			}
			in.pathMTU(dst, rc)
			return nil
		}
	}
	if a := in.Local(dst); a != nil && (f.IfIndex == 0 || f.IfIndex == a.If.Index || dst == loopback) {
		rc.If, rc.NextHop, rc.Src, rc.Local, rc.MTU = in.lo, dst, dst, true, in.lo.MTU()
		if a.Flags&netif.AddrAnycast != 0 {
			in.source(dst, f, rc)
		}
		return nil
	}
	if dst.IsMulticast() || f.IfIndex != 0 {
		if done, err := in.findByInterface(f, dst, rc); done {
			return err
		}
	}
	hop, entry := in.routes.Lookup(dst)
	if hop == nil {
		return syscall.ENETUNREACH
	}
	return in.fromHop(hop, entry, f, dst, rc)
}

// linkOf is the interface of an address of one link: in the address, or asked
// for, or the source's. An address without any is no address (RFC 4007 §6).
func (in *Inet6) linkOf(dst netip.Addr, f *socket.Flow) (*netif.Interface, error) {
	_, index := packet.Unscoped(dst)
	switch {
	case index != 0 && f.IfIndex != 0 && index != f.IfIndex:
		return nil, syscall.EINVAL
	case index == 0:
		index = f.IfIndex
	}
	if index == 0 {
		if a := in.Local(f.Src); a != nil {
			return a.If, nil
		}
		if ifp := in.defaultIf(); ifp != nil {
			return ifp, nil
		}
		return nil, syscall.EHOSTUNREACH
	}
	ifp := in.env.Ifs.ByIndex(index)
	if ifp == nil {
		return nil, syscall.ENXIO
	}
	return ifp, nil
}

// SetDefaultIf is ndp -I: where addresses of one link without an interface go;
// 0: nowhere.
func (in *Inet6) SetDefaultIf(index uint32) { in.defIf.Store(index); in.gen.Add(1) }

// DefaultIf is that interface's index.
func (in *Inet6) DefaultIf() uint32 { return in.defIf.Load() }

func (in *Inet6) defaultIf() *netif.Interface {
	if i := in.defIf.Load(); i != 0 {
		return in.env.Ifs.ByIndex(i)
	}
	return nil
}

// findByInterface sends out of a given interface, or the one for a group.
func (in *Inet6) findByInterface(f *socket.Flow, dst netip.Addr, rc *socket.RouteCache) (done bool, err error) {
	var ifp *netif.Interface
	switch a := in.Local(f.Src); {
	case f.IfIndex != 0:
		if ifp = in.env.Ifs.ByIndex(f.IfIndex); ifp == nil {
			return true, syscall.ENXIO
		}
	case a != nil && a.If != in.lo:
		ifp = a.If
	default:
		if hop, _ := in.routes.Lookup(dst); hop != nil && hop.Flags&(route.FlagReject|route.FlagBlackhole) == 0 {
			ifp = hop.If
		} else if ifp = in.firstMulticast(); ifp == nil {
			return true, syscall.ENETUNREACH
		}
	}
	if dst.IsMulticast() {
		rc.If, rc.MTU, rc.NextHop = ifp, in.linkMTU(ifp), dst
		in.source(dst, f, rc)
		return true, nil
	}
	hop, entry := in.routes.Lookup(dst)
	if hop != nil {
		hop, entry = hop.Through(entry, ifp)
	}
	if hop == nil || hop.If != ifp {
		if f.NextHop.IsValid() || in.onLink(ifp, dst) {
			rc.If, rc.MTU, rc.NextHop = ifp, in.linkMTU(ifp), dst
			in.source(f.Dst, f, rc)
			return true, nil
		}
		return true, syscall.ENETUNREACH
	}
	return true, in.fromHop(hop, entry, f, dst, rc)
}

func (in *Inet6) onLink(ifp *netif.Interface, dst netip.Addr) bool {
	for _, a := range ifp.Addrs() {
		if a.Addr.Is6() && (a.Prefix().Contains(dst) && a.Flags&netif.AddrAutoconf == 0 || a.Dst == dst) {
			return true
		}
	}
	return false
}

func (in *Inet6) firstMulticast() *netif.Interface {
	for _, ifp := range in.env.Ifs.All() {
		if ifp != in.lo && ifp.Up() && ifp.Flags()&netif.FlagMulticast != 0 {
			return ifp
		}
	}
	return nil
}

func (in *Inet6) fromHop(hop *route.Hop, entry route.Handle, f *socket.Flow, dst netip.Addr, rc *socket.RouteCache) error {
	hop, entry = hop.Pick(entry, f.From, dst)
	switch {
	case hop.Flags&route.FlagReject != 0:
		if hop.Flags&route.FlagHost != 0 {
			return syscall.EHOSTUNREACH
		}
		return syscall.ENETUNREACH
	case hop.Flags&route.FlagBlackhole != 0:
		rc.If, rc.NextHop, rc.MTU = in.lo, netip.Addr{}, maxPayload
		in.source(f.Dst, f, rc)
		return nil
	case f.DontRoute && hop.Flags&route.FlagGateway != 0:
		return syscall.ENETUNREACH
	}
	rc.If, rc.NextHop, rc.Use = hop.If, dst, entry
	if hop.Flags&route.FlagGateway != 0 {
		rc.NextHop = packet.Scoped(hop.Gateway, hop.If.Index)
	}
	rc.MTU = in.linkMTU(rc.If)
	if m := int(hop.MTU); m != 0 {
		rc.MTU = min(rc.MTU, m)
	}
	in.pathMTU(f.Dst, rc)
	if hop.Src.IsValid() && hop.Flags&route.FlagStatic != 0 && in.Local(hop.Src) != nil && hop.Src != loopback && scopeOf(hop.Src) >= scopeOf(f.Dst) {
		rc.Src = hop.Src // somebody has said so: route add -ifa
		return nil
	}
	in.source(f.Dst, f, rc)
	return nil
}

// source chooses rc.Src, unless the flow names a source: the unspecified address
// when there is none.
func (in *Inet6) source(dst netip.Addr, f *socket.Flow, rc *socket.RouteCache) {
	rc.Src = unspecified
	if f.Src.IsValid() { // somebody else's, or the caller's own
		return
	}
	if a := in.choose(dst, rc.If, f.Temp); a != nil {
		rc.Src = a.Addr
	}
}

// linkMTU is the interface's MTU, or what a router has said for the link.
func (in *Inet6) linkMTU(ifp *netif.Interface) int {
	mtu := ifp.MTU()
	if in.nd != nil {
		if n := in.nd.LinkMTU(ifp); n != 0 {
			mtu = min(mtu, n)
		}
	}
	return mtu
}

func (in *Inet6) pathMTU(dst netip.Addr, rc *socket.RouteCache) {
	if m, ok := in.cache.MTU(dst, in.env.Now()); ok {
		rc.MTU = min(rc.MTU, m)
	}
}

// Source is socket.Network.
func (in *Inet6) Source(f *socket.Flow) (netip.Addr, error) {
	if f.Src.IsValid() {
		return f.Src, nil
	}
	if err := in.resolve(f); err != nil {
		return netip.Addr{}, err
	}
	if f.Route.Src == unspecified {
		return netip.Addr{}, syscall.EADDRNOTAVAIL
	}
	return f.Route.Src, nil
}

// Confirm is socket.Confirmer: the neighbour that f's packets go to is there.
func (in *Inet6) Confirm(w *netif.Work, f *socket.Flow) {
	if in.nd == nil || in.resolve(f) != nil || f.Route.If == in.lo || !f.Route.NextHop.IsValid() {
		return
	}
	in.nd.Confirm(w, f.Route.If, f.Route.NextHop)
}

// PortRange is socket.Network.
func (in *Inet6) PortRange(low bool) (min, max uint16) {
	lo, hi := nodeAnonMin, nodeAnonMax
	if low {
		lo, hi = nodeLowMin, nodeLowMax
	}
	v := in.env.MIB
	return uint16(v.Int(lo)), uint16(v.Int(hi))
}

// PathMTU is socket.Network.
func (in *Inet6) PathMTU(f *socket.Flow) (int, error) {
	err := in.resolve(f)
	return f.Route.MTU, err
}

// PathMTUs is socket.Network: IPv6 always learns them (RFC 8201).
func (in *Inet6) PathMTUs() bool { return true }

// IsBroadcast is socket.Network: there is none.
func (in *Inet6) IsBroadcast(netip.Addr) bool { return false }

// Addrs is socket.Network.
func (in *Inet6) Addrs(pkt *packet.Buf) (src, dst netip.Addr) {
	h := packet.IPv6(pkt.L3())
	return h.Addrs(pkt.RcvIf)
}

// PortUnreachable is socket.Network.
func (in *Inet6) PortUnreachable(w *netif.Work, pkt *packet.Buf) {
	in.sendError(w, pkt, packet.ICMP6Unreach, packet.ICMP6UnreachPort, 0)
}
