package gif

import (
	"net/netip"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	cntSent     = mib.NewCounter("gif", "sent", "# packet{s} put into tunnels")
	cntNoTunnel = mib.NewCounter("gif", "leads nowhere", "# output packet{s} dropped because the tunnel is down or has no addresses")
	cntNested   = mib.NewCounter("gif", "nested too deep", "# output packet{s} dropped because of too many tunnels one inside the other")
	cntLoop     = mib.NewCounter("gif", "own tunnel", "# output packet{s} dropped because a tunnel led into itself")
	cntNotOurs  = mib.NewCounter("gif", "source not ours", "# output packet{s} dropped because the tunnel's source is no address of this host")
	cntNoWay    = mib.NewCounter("gif", "far end unreachable", "# output packet{s} dropped because there is no way to the far end")
	cntTooBig   = mib.NewCounter("gif", "larger than the path", "# output packet{s} larger than the path to the far end takes")
	cntNoMem    = mib.NewCounter("gif", "no memory", "# output packet{s} dropped due to no bufs, etc.")
	cntUncut    = mib.NewCounter("gif", "can't cut", "# output super-packet{s} that can't be cut")
)

// linkHeader is the most that a link puts in front of an outer header.
const linkHeader = 32

// output is the gif's Interface.Output. What cannot go into the tunnel ends
// here; the rest is a turn.
func (t *tunnel) output(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, _ netip.Addr) error {
	e := t.to.Load()
	if e == nil || !ifp.Up() {
		t.refuse(w, pkt, cntNoTunnel)
		return syscall.ENETDOWN
	}
	if err := t.nest(w, pkt); err != nil {
		return err
	}
	if src, dst := addresses(pkt.Bytes()); src == plain(e.src) && dst == plain(e.dst) { // RFC 2473 §4.1.1
		t.refuse(w, pkt, cntLoop)
		return syscall.ENETUNREACH
	}
	w.Turn(t.encapTurn, pkt)
	return nil
}

// nest counts the tunnels that a packet is in (max_nesting).
func (t *tunnel) nest(w *netif.Work, pkt *packet.Buf) error {
	if int64(pkt.Nest) >= t.g.env.MIB.Int(nodeNest) {
		t.refuse(w, pkt, cntNested)
		return syscall.EIO
	}
	pkt.Nest++
	return nil
}

func (t *tunnel) refuse(w *netif.Work, pkt *packet.Buf, why mib.Counter) {
	t.ifp.Stats.OutErrors.Add(1)
	w.Drop(pkt, why)
}

// addresses are those of a packet with a whole header, as they stand in it.
func addresses(b []byte) (src, dst netip.Addr) {
	if b[0]>>4 == 6 {
		h := packet.IPv6(b)
		return h.Src(), h.Dst()
	}
	h := packet.IPv4(b)
	return h.Src(), h.Dst()
}

func plain(ip netip.Addr) netip.Addr {
	ip, _ = packet.Unscoped(ip)
	return ip
}

// encap sends a packet, window at the inner header, through the tunnel; a
// super-packet as what it is cut into, since nobody below sees its segments
// behind another header.
func (t *tunnel) encap(w *netif.Work, pkt *packet.Buf) {
	e := t.to.Load()
	if e == nil { // taken away meanwhile
		t.refuse(w, pkt, cntNoTunnel)
		return
	}
	t.through(w, pkt, *e)
}

func (t *tunnel) through(w *netif.Work, pkt *packet.Buf, e ends) {
	y := t.take()
	defer t.give(y)
	if pkt.GSO == packet.GSONone {
		t.send(w, y, pkt, e)
		return
	}
	pkt.MarkL3(0)
	segs, ok := pkt.Segments(y.segs[:0])
	if !ok {
		t.refuse(w, pkt, cntUncut)
		return
	}
	pkt.Free()
	for i, s := range segs {
		segs[i] = nil
		t.send(w, y, s, e)
	}
	y.segs = segs[:0]
}

// send puts the outer header in front of an inner packet and has it leave.
func (t *tunnel) send(w *netif.Work, y *way, pkt *packet.Buf, e ends) {
	pkt.CompleteCsum() // a link's offload would look for it behind the outer header
	pkt.MarkL3(0)
	b := pkt.Bytes()
	f, v6, out := &y.flow, b[0]>>4 == 6, t.g.net(e.src)
	f.Src, f.Dst, f.Proto, f.TOS = e.src, e.dst, packet.ProtoIPv4, classOf(b)
	if v6 {
		f.Proto = packet.ProtoIPv6
	}
	header := packet.IPv4Len
	f.TTL = uint8(t.g.env.MIB.Int(nodeTTL))
	if e.src.Is6() {
		if !t.limit(w, y, pkt) {
			return
		}
		header, f.TTL = packet.IPv6Len+f.Ext.Len(), uint8(t.g.env.MIB.Int(nodeHlim))
	}
	if out.Local(e.src) == nil {
		t.refuse(w, pkt, cntNotOurs)
		return
	}
	mtu, err := out.PathMTU(f)
	if err != nil {
		t.answer(w, pkt, t.g.unreachable[side(v6)])
		t.refuse(w, pkt, cntNoWay)
		return
	}
	var whole bool
	if whole, mtu = inOnePiece(b, mtu-header); whole && out.PathMTUs() && len(b) > mtu {
		if pkt.RcvIf == 0 { // ours: an address of the link is the tunnel's
			pkt.RcvIf = t.ifp.Index
		}
		t.g.nets[side(v6)].TooBig(w, pkt, mtu)
		t.refuse(w, pkt, cntTooBig)
		return
	}
	f.DontFrag = whole && out.PathMTUs() && e.src.Is4()
	if pkt = t.roomy(w, pkt, header+linkHeader); pkt == nil {
		return
	}
	pkt.Flags &^= packet.FlagBroadcast | packet.FlagMulticast | packet.FlagLoop
	t.ifp.TapOut(w, pkt)
	t.ifp.Stats.OutPackets.Add(1)
	t.ifp.Stats.OutBytes.Add(uint64(pkt.Len()))
	w.Count(cntSent)
	if out.Output(w, pkt, f) != nil { // which has dropped and counted it
		t.ifp.Stats.OutErrors.Add(1)
	}
}

// roomy is pkt with n octets in front of it; nil: there is no memory, and it is
// dropped.
func (t *tunnel) roomy(w *netif.Work, pkt *packet.Buf, n int) *packet.Buf {
	r := pkt.WithHeadroom(n)
	if r == nil {
		t.refuse(w, pkt, cntNoMem)
	}
	return r
}

// inOnePiece reports whether the sender of an inner packet is told when it is
// larger than the tunnel's path takes, so that the outer one is not cut: of
// IPv4 if DF is set (RFC 2003 §3.1, RFC 2473 §7.2), of IPv6 if it is more
// than every link takes (RFC 4213 §3.2.2, RFC 2473 §7.1). mtu is what to tell, from
// what the path leaves.
func inOnePiece(b []byte, mtu int) (bool, int) {
	if b[0]>>4 == 6 {
		mtu = max(mtu, packet.MinMTU6)
		return len(b) > packet.MinMTU6, mtu
	}
	return packet.IPv4(b).DF(), mtu
}

// answer tells the sender of an inner packet, L3 marked, which is only looked at.
func (t *tunnel) answer(w *netif.Work, pkt *packet.Buf, tell func(*netif.Work, *packet.Buf)) {
	if pkt.RcvIf == 0 {
		pkt.RcvIf = t.ifp.Index
	}
	tell(w, pkt)
}
