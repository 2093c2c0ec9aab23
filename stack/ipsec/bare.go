package ipsec

import (
	"net/netip"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Tunnels are those of IP in IP that IPsec has nothing to do with (gif).
type Tunnels interface {
	Wants(pkt *packet.Buf) bool
	Input(w *netif.Work, pkt *packet.Buf)
	ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, b []byte)
	Knows(src, dst netip.Addr, b []byte) bool
}

// Bare is what inet and inet6 know of IP in IP: beside other tunnels' packets there are those that IPComp has not made smaller, which
// have their tunnel's outer header alone (RFC 3173 §2.2).
type Bare struct {
	Tunnels
	x     *IPsec
	proto uint8
}

// Bare is that of protocol 4 or 41, in front of others'.
func (x *IPsec) Bare(proto uint8, others Tunnels) Bare { return Bare{others, x, proto} }

// sa is the SA whose tunnel pkt has come through, or nil.
func (b Bare) sa(pkt *packet.Buf) *SA {
	src, dst, v6 := ends(pkt)
	g := b.x.sad.group(choice{packet.ProtoIPComp, ModeTunnel, addrOf(src, v6), addrOf(dst, v6), 0})
	if g == nil {
		return nil
	}
	return g.cur.Load()
}

// Wants is inet.Chooser and inet6.Chooser.
func (b Bare) Wants(pkt *packet.Buf) bool { return b.Tunnels.Wants(pkt) || b.sa(pkt) != nil }

// Input takes over a packet, window at its inner header.
func (b Bare) Input(w *netif.Work, pkt *packet.Buf) {
	if b.Tunnels.Wants(pkt) {
		b.Tunnels.Input(w, pkt)
		return
	}
	t, _ := pkt.Sec.(*Trail)
	s := b.sa(pkt)
	switch {
	case t.depth() >= maxBundle:
		w.Drop(pkt, statsOf(pkt).inDeep)
	case s == nil: // gone since it was wanted
		drop(w, pkt, statsOf(pkt).inNoSA, protoStats[2].noSA)
	case !s.used(w, pkt.Len()):
		w.Drop(pkt, s.stats.proto.over)
	default:
		if pkt = b.x.own(w, pkt); pkt == nil {
			return
		}
		pkt.Sec, pkt.Csum = s.after(t, true), packet.CsumNone
		w.Count(s.stats.ip.in)
		b.x.unwrap(w, pkt, s, 0, b.proto)
	}
}
