package gif

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
	cntReceived = mib.NewCounter("gif", "received", "# packet{s} taken out of tunnels")
	cntDown     = mib.NewCounter("gif", "interface down", "# packet{s} for a tunnel that is down")
	cntIngress  = mib.NewCounter("gif", "ingress filter", "# packet{s} by an interface that does not lead to the far end")
	cntBadInner = mib.NewCounter("gif", "bad inner packet", "# packet{s} that hold no packet of the version they say")
	cntBadAddr  = mib.NewCounter("gif", "bad inner address", "# packet{s} from inner addresses that no tunnel may bring")
	cntBadOuter = mib.NewCounter("gif", "bad outer address", "# packet{s} from or to outer addresses that cannot be a 6to4 router's")
	cntSpoofed  = mib.NewCounter("gif", "spoofed 6to4 address", "# packet{s} whose inner 6to4 addresses are not those of the outer header")
	cntECN      = mib.NewCounter("gif", "congestion", "# packet{s} without ECN that met congestion")
	cntErrRelay = mib.NewCounter("gif", "errors passed on", "# error{s} from inside a tunnel told to the sender of the inner packet")
	cntErrShort = mib.NewCounter("gif", "errors not passed on", "# error{s} from inside a tunnel that quote too little to be told")
)

// Upper is the tunnels as a protocol above IPv4 or IPv6: number 4 or 41.
type Upper struct {
	g              *Gif
	outer6, inner6 bool
}

// Upper is what packets of protocol 4, or with inner6 of 41, are given to.
func (g *Gif) Upper(outer6, inner6 bool) *Upper { return &Upper{g, outer6, inner6} }

// outer are the addresses of the header in front of a received inner packet.
func outer(pkt *packet.Buf) (src, dst netip.Addr) {
	src, dst = addresses(pkt.L3())
	return packet.Scoped(src, pkt.RcvIf), packet.Scoped(dst, pkt.RcvIf)
}

// find is the tunnel that brings packets from src to dst, or nil. A configured one
// is nearer than 6to4.
func (u *Upper) find(src, dst netip.Addr) *tunnel {
	tab := u.g.tab.Load()
	if t := tab.byEnds[ends{dst, src}]; t != nil {
		return t
	}
	if tab.stf != nil && u.inner6 && !u.outer6 && tab.stf.takes(src, dst) {
		return tab.stf
	}
	return nil
}

// Wants is inet.Chooser and inet6.Chooser: a packet of no tunnel of ours is one of
// an unknown protocol (RFC 4213 §3.6).
func (u *Upper) Wants(pkt *packet.Buf) bool { return u.find(outer(pkt)) != nil }

// Input takes over a packet whose window begins at the inner header.
func (u *Upper) Input(w *netif.Work, pkt *packet.Buf) {
	src, dst := outer(pkt)
	t := u.find(src, dst)
	if t == nil { // gone since it was wanted
		w.Drop(pkt, cntDown)
		return
	}
	if why, ok := u.check(t, pkt, src, dst); !ok {
		t.ifp.Stats.InErrors.Add(1)
		w.Drop(pkt, why)
		return
	}
	b := pkt.Bytes()
	was := classOf(b)
	class, ok := ecnOut(classOf(pkt.L3()), was)
	if !ok {
		t.ifp.Stats.InDrops.Add(1)
		w.Drop(pkt, cntECN)
		return
	}
	if class != was {
		setClass(b, class)
	}
	pkt.RcvIf = t.ifp.Index
	pkt.Flags, pkt.Nest = 0, 0
	w.Count(cntReceived)
	w.Turn(t.decapTurn, pkt)
}

// check answers why a packet may not come out of t.
func (u *Upper) check(t *tunnel, pkt *packet.Buf, src, dst netip.Addr) (why mib.Counter, ok bool) {
	if !t.ifp.Up() {
		return cntDown, false
	}
	if u.g.net(src).IsBroadcast(src) || !u.arrives(t, pkt, src) {
		return cntIngress, false
	}
	b := pkt.Bytes()
	if !u.inner6 {
		_, ok := packet.CheckIPv4(b) // its addresses are inet's to check (RFC 1122 §3.2.1.3)
		return cntBadInner, ok
	}
	h, ok := packet.CheckIPv6(b)
	switch {
	case !ok:
		return cntBadInner, false
	case t.ifp.Type == netif.TypeSTF:
		return t.check6to4(h, src, dst)
	}
	return cntBadAddr, !foreign6(h.Src())
}

// arrives is the ingress filter: the far end's packets come by the interface
// that its own go out by. link2 turns it off (KAME).
func (u *Upper) arrives(t *tunnel, pkt *packet.Buf, src netip.Addr) bool {
	if t.ifp.Flags()&netif.FlagLink2 != 0 || packet.IsLinkScoped(src) || pkt.Flags&packet.FlagLoop != 0 && u.g.net(src).Local(src) != nil {
		return true
	}
	hop, _ := u.g.routes.Lookup(src)
	return hop != nil && hop.If != nil && hop.If.Index == pkt.RcvIf && hop.Flags&(route.FlagReject|route.FlagBlackhole) == 0
}

var compatible = netip.MustParsePrefix("::/96")

// foreign6 reports inner addresses that no packet out of a tunnel may come from:
// groups, the loopback address, IPv4 in IPv6, but for the unspecified one, with
// which an address is asked for (RFC 4213 §3.6).
func foreign6(src netip.Addr) bool {
	return src.IsMulticast() || src.Is4In6() || compatible.Contains(src) && !src.IsUnspecified()
}

// decap brings an inner packet up, as received.
func (t *tunnel) decap(w *netif.Work, pkt *packet.Buf) { t.ifp.Input(w, t.ifp, w.One(pkt)) }

// receive is a tunnel's Interface.Input: inner packets, windows at the header.
func (g *Gif) receive(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	ifp.TapIn(w, burst)
	for i, p := range burst {
		ifp.Stats.InPackets.Add(1)
		ifp.Stats.InBytes.Add(uint64(p.Len()))
		v6 := p.Bytes()[0]>>4 == 6
		if n := g.nets[side(v6)]; n != nil {
			n.Input(w, ifp, burst[i:i+1])
		} else {
			ifp.Stats.NoProto.Add(1)
			w.Drop(p, cntBadInner)
		}
	}
}

// Knows is inet.Upper: one of ours may have sent what goes from a tunnel's source
// to its far end. Of 6to4 nothing is believed: anybody can be its far end.
func (u *Upper) Knows(src, dst netip.Addr, _ []byte) bool {
	return u.g.tab.Load().byEnds[ends{src, dst}] != nil
}

// ControlInput is inet.Upper: somebody on the way to the far end could not pass
// an outer packet on. A path MTU is kept below, and told to the sender of the
// next inner packet that is too large. Other errors go to the sender of this
// one, if its header is quoted whole (RFC 4213 §3.4, RFC 2003 §4, RFC 2473 §8).
func (u *Upper) ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, quote []byte) {
	t := u.g.tab.Load().byEnds[ends{src, dst}]
	n := u.g.nets[side(u.inner6)]
	if t == nil || n == nil || c.Err == syscall.EMSGSIZE {
		return
	}
	ok := false
	if u.inner6 {
		_, ok = packet.CheckIPv6(quote)
	} else if h, fits := packet.CheckIPv4(quote); fits {
		ok = len(h) >= h.HeaderLen()+8
	}
	p := u.g.env.Pool.Get(len(quote))
	if !ok || p == nil {
		w.Count(cntErrShort)
		if p != nil {
			p.Free()
		}
		return
	}
	copy(p.Append(len(quote)), quote)
	p.MarkL3(0)
	w.Count(cntErrRelay)
	t.answer(w, p, u.g.unreachable[side(u.inner6)])
	p.Free()
}
