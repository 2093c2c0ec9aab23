package inet

import (
	"net/netip"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

// maxDatagram is the largest IPv4 datagram, header included.
const maxDatagram = 65535

// Output is socket.Network.
func (in *Inet) Output(w *netif.Work, pkt *packet.Buf, f *socket.Flow) error {
	if err := in.resolve(f); err != nil {
		w.Drop(pkt, cntNoRoute)
		return err
	}
	rc := &f.Route
	if rc.Bcast && !f.Broadcast {
		w.Drop(pkt, cntNoRoute)
		return syscall.EACCES
	}
	src := f.Src
	if !src.IsValid() {
		src = rc.Src
	}
	n := packet.IPv4Len + len(f.Options)
	total := pkt.Len() + n
	if total > maxDatagram {
		w.Drop(pkt, cntCantFrag)
		return syscall.EMSGSIZE
	}
	pkt.MarkL4(0)
	ttl := f.TTL
	if ttl == 0 && !f.Dst.IsMulticast() { // a group's 0 means: not beyond this host
		ttl = uint8(in.env.MIB.Int(nodeTTL))
	}
	var frag uint16
	if f.DontFrag {
		frag = packet.IPv4DF
	}
	h := packet.PutIPv4(pkt.Prepend(n), f.TOS, total, in.nextID(f.Dst), frag, ttl, f.Proto, src, f.Dst, f.Options)
	h.SetChecksum()
	pkt.MarkL3(0)
	pkt.RcvIf = 0
	w.Count(cntLocalOut)
	return in.send(w, pkt, f, rc)
}

// OutputRaw sends a packet whose IPv4 header the user made (IP_HDRINCL): the
// window begins at it. Total length, checksum, and an identification or
// source of zero are filled in.
func (in *Inet) OutputRaw(w *netif.Work, pkt *packet.Buf, f *socket.Flow) error {
	h, ok := packet.CheckIPv4(pkt.Bytes())
	if !ok || h.TotalLen() > pkt.Len() {
		w.Drop(pkt, cntBadHlen)
		return syscall.EINVAL
	}
	f.Dst = h.Dst()
	if err := in.resolve(f); err != nil {
		w.Drop(pkt, cntNoRoute)
		return err
	}
	if f.Route.Bcast && !f.Broadcast {
		w.Drop(pkt, cntNoRoute)
		return syscall.EACCES
	}
	if h.Src() == unspecified {
		h.SetSrc(f.Route.Src)
	}
	if h.ID() == 0 {
		h.SetID(in.nextID(h.Dst()))
	}
	h.SetTotalLen(pkt.Len())
	h.SetChecksum()
	pkt.MarkL3(0)
	pkt.MarkL4(h.HeaderLen())
	pkt.RcvIf = 0
	w.Count(cntRawOut)
	return in.send(w, pkt, f, &f.Route)
}

// send is the way out of a complete packet whose route is known.
func (in *Inet) send(w *netif.Work, pkt *packet.Buf, f *socket.Flow, rc *socket.RouteCache) error {
	if e, ok := rc.Use.(route.Handle); ok {
		in.routes.AddUse(e, 1)
	}
	switch {
	case !rc.NextHop.IsValid():
		w.Drop(pkt, cntBlackhole)
		return nil
	case f.Dst.IsMulticast():
		pkt.Flags |= packet.FlagMulticast
		if !f.NoLoop && (f.Dst == allHosts || in.groups.Joined(rc.If.Index, f.Dst)) {
			in.loopCopy(w, pkt, rc.If)
		}
		in.sentToGroup(w, pkt, rc.If)
		if pkt.L3()[8] == 0 || rc.If == in.lo && !f.NoLoop { // TTL 0: not beyond this host
			pkt.Free()
			return nil
		}
	case rc.Bcast:
		pkt.Flags |= packet.FlagBroadcast
		in.loopCopy(w, pkt, rc.If)
	}
	if s := in.sec.Load(); s != nil && pkt.Flags&packet.FlagSecured == 0 && !s.Idle() {
		return in.protect(w, s, pkt, f, rc)
	}
	return in.sendOn(w, pkt, f, rc, rc.MTU, true)
}

// sendOn is the rest of the way out, for packets of up to mtu; ask: the filter is asked.
func (in *Inet) sendOn(w *netif.Work, pkt *packet.Buf, f *socket.Flow, rc *socket.RouteCache, mtu int, ask bool) error {
	if h := in.hook.Load(); h != nil && ask {
		if pkt = h.Out(w, rc.If, pkt); pkt == nil {
			return syscall.EHOSTUNREACH
		}
	}
	if pkt.Fits(mtu) {
		return rc.If.Output(w, rc.If, pkt, rc.NextHop)
	}
	if f.DontFrag && pkt.Flags&packet.FlagSecured == 0 || pkt.L3()[6]&0x40 != 0 {
		w.Drop(pkt, cntCantFrag)
		return syscall.EMSGSIZE
	}
	return in.fragment(w, pkt, rc.If, rc.NextHop, mtu)
}

// loopCopy brings a copy of a group or broadcast packet to ourselves, as if
// received by the interface it leaves by (RFC 1112 §6.1).
func (in *Inet) loopCopy(w *netif.Work, pkt *packet.Buf, ifp *netif.Interface) {
	c := pkt.Clone()
	if c == nil {
		w.Count(cntOutNoMem)
		return
	}
	c.RcvIf, c.Time = ifp.Index, w.Now
	c.Flags |= packet.FlagLoop
	w.Turn(in.loopedTurn, c)
}

func (in *Inet) looped(w *netif.Work, pkt *packet.Buf) {
	ifp := in.env.Ifs.ByIndex(pkt.RcvIf)
	if ifp == nil {
		ifp = in.lo
	}
	w.Count(cntTotal)
	in.input(w, ifp, pkt, in.hook.Load())
}

// resolve fills f.Route unless it is still right. A source route sends to its
// first hop.
func (in *Inet) resolve(f *socket.Flow) error {
	rc := &f.Route
	gen := in.generation()
	if rc.Gen == gen && rc.If != nil && rc.Dst == f.Dst && rc.IfIndex == f.IfIndex &&
		(rc.From == f.Src || rc.Src == f.Src) && rc.DontRoute == f.DontRoute {
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
	if f.Src.IsValid() && f.Src.IsLoopback() && rc.If != in.lo || f.Dst.IsLoopback() && rc.If != in.lo {
		rc.If = nil
		return syscall.EADDRNOTAVAIL // RFC 1122 §3.2.1.3 (g)
	}
	if !rc.If.Up() {
		rc.If = nil
		return syscall.ENETDOWN
	}
	rc.Gen, rc.Dst, rc.From, rc.IfIndex, rc.DontRoute = gen, f.Dst, f.Src, f.IfIndex, f.DontRoute
	return nil
}

func (in *Inet) find(f *socket.Flow, rc *socket.RouteCache) error {
	dst := f.Dst
	if dst == unspecified { // BSD: this host
		if s := in.addrs.Load(); len(s.list) > 0 {
			dst = s.list[0].Addr
		}
	}
	if a := in.Local(dst); a != nil && (f.IfIndex == 0 || f.IfIndex == a.If.Index) {
		rc.If, rc.NextHop, rc.Src, rc.Local, rc.MTU = in.lo, dst, dst, true, in.lo.MTU()
		return nil
	}
	if f.IfIndex != 0 || dst == broadcast || dst.IsMulticast() {
		if done, err := in.findByInterface(f, dst, rc); done {
			return err
		}
	}
	if a := in.directed(dst); a != nil {
		rc.If, rc.NextHop, rc.Src, rc.Bcast, rc.MTU = a.If, dst, a.Addr, true, a.If.MTU()
		return nil
	}
	hop, entry := in.routes.Lookup(dst)
	if hop == nil {
		return syscall.ENETUNREACH
	}
	return in.fromHop(hop, entry, f, dst, rc)
}

func (in *Inet) fromHop(hop *route.Hop, entry route.Handle, f *socket.Flow, dst netip.Addr, rc *socket.RouteCache) error {
	hop, entry = hop.Pick(entry, f.From, dst)
	switch {
	case hop.Flags&route.FlagReject != 0:
		if hop.Flags&route.FlagHost != 0 {
			return syscall.EHOSTUNREACH
		}
		return syscall.ENETUNREACH
	case hop.Flags&route.FlagBlackhole != 0:
		rc.If, rc.NextHop, rc.Src, rc.MTU = in.lo, netip.Addr{}, in.firstAddr(in.lo), maxDatagram
		return nil
	case f.DontRoute && hop.Flags&route.FlagGateway != 0:
		return syscall.ENETUNREACH
	}
	rc.If, rc.NextHop, rc.Src, rc.Use = hop.If, dst, hop.Src, entry
	if hop.Flags&route.FlagGateway != 0 {
		rc.NextHop = hop.Gateway
	}
	rc.MTU = rc.If.MTU()
	if m := int(hop.MTU); m != 0 {
		rc.MTU = min(rc.MTU, m)
	}
	if in.env.MIB.On(nodeMTUDisc) {
		if m, ok := in.cache.MTU(dst, in.env.Now()); ok {
			rc.MTU = min(rc.MTU, m)
		}
	}
	if !rc.Src.IsValid() || in.Local(rc.Src) == nil {
		rc.Src = in.firstAddr(rc.If)
	}
	return nil
}

// findByInterface sends out of a given interface (SO_BINDTODEVICE's like), or
// the one for a group or the limited broadcast, without asking the table
// where that suffices.
func (in *Inet) findByInterface(f *socket.Flow, dst netip.Addr, rc *socket.RouteCache) (done bool, err error) {
	var ifp *netif.Interface
	switch {
	case f.IfIndex != 0:
		if ifp = in.env.Ifs.ByIndex(f.IfIndex); ifp == nil {
			return true, syscall.ENXIO
		}
	case f.Src.IsValid() && in.Local(f.Src) != nil:
		ifp = in.Local(f.Src).If
	default:
		if hop, _ := in.routes.Lookup(dst); hop != nil && hop.Flags&(route.FlagReject|route.FlagBlackhole) == 0 {
			ifp = hop.If
		} else if ifp = in.firstBroadcast(); ifp == nil {
			return true, syscall.ENETUNREACH
		}
	}
	rc.If, rc.MTU, rc.NextHop, rc.Src = ifp, ifp.MTU(), dst, in.firstAddr(ifp)
	switch {
	case dst.IsMulticast():
		return true, nil
	case dst == broadcast:
		rc.Bcast = ifp.Flags()&netif.FlagBroadcast != 0
		return true, nil
	}
	if a := in.directed(dst); a != nil && a.If == ifp {
		rc.Bcast = true
		return true, nil
	}
	for _, a := range ifp.Addrs() {
		if a.Addr.Is4() && (a.Prefix().Contains(dst) || a.Dst == dst) {
			rc.Src = a.Addr
			return true, nil
		}
	}
	hop, entry := in.routes.Lookup(dst)
	if hop != nil {
		hop, entry = hop.Through(entry, ifp)
	}
	if hop == nil || hop.If != ifp {
		return true, syscall.ENETUNREACH
	}
	*rc = socket.RouteCache{}
	return true, in.fromHop(hop, entry, f, dst, rc)
}

func (in *Inet) firstAddr(ifp *netif.Interface) netip.Addr {
	for _, a := range ifp.Addrs() {
		if a.Addr.Is4() && !a.Tentative && !a.Duplicated {
			return a.Addr
		}
	}
	return unspecified
}

func (in *Inet) firstBroadcast() *netif.Interface {
	for _, a := range in.addrs.Load().list {
		if a.If.Flags()&netif.FlagBroadcast != 0 && a.If.Up() {
			return a.If
		}
	}
	return nil
}

// Source is socket.Network.
func (in *Inet) Source(f *socket.Flow) (netip.Addr, error) {
	if f.Src.IsValid() {
		return f.Src, nil
	}
	if err := in.resolve(f); err != nil {
		return netip.Addr{}, err
	}
	// Only who looks for an address may send without one (RFC 2131 §4.1).
	if f.Route.Src == unspecified && (f.Dst != broadcast || f.IfIndex == 0) {
		return netip.Addr{}, syscall.EADDRNOTAVAIL
	}
	return f.Route.Src, nil
}

// PathMTU is socket.Network.
func (in *Inet) PathMTU(f *socket.Flow) (int, error) {
	err := in.resolve(f)
	return f.Route.MTU, err
}

// PathMTUs is socket.Network.
func (in *Inet) PathMTUs() bool { return in.env.MIB.On(nodeMTUDisc) }

// Addrs is socket.Network.
func (in *Inet) Addrs(pkt *packet.Buf) (src, dst netip.Addr) {
	h := packet.IPv4(pkt.L3())
	return h.Src(), h.Dst()
}

// Describe is socket.Network.
func (in *Inet) Describe(pkt *packet.Buf, m *socket.Msg) {
	h := packet.IPv4(pkt.L3())
	m.Addr.IP, m.Dst, m.TTL = h.Src(), h.Dst(), h.TTL()
}
