package ipsec

import (
	"encoding/binary"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// cut takes a super-packet of ESP in UDP apart, window at the UDP header. What came through a tunnel is opened where it
// lies, and what follows each other there is one packet again; all else is copied out.
func (x *IPsec) cut(w *netif.Work, pkt *packet.Buf) {
	head := len(pkt.L3()) - pkt.Len() + packet.UDPLen
	if pkt.GSO != packet.GSOUDPv4 && pkt.GSO != packet.GSOUDPv6 || pkt.GSOSize == 0 || pkt.Len() <= packet.UDPLen {
		drop(w, pkt, statsOf(pkt).inInvalid, protoStats[0].badLen)
		return
	}
	if pkt = x.own(w, pkt); pkt == nil {
		return
	}
	c := cutting{x: x, w: w, pkt: pkt, all: pkt.L3(), head: head, flags: pkt.Flags}
	c.before, _ = pkt.Sec.(*Trail)
	_, c.dst, c.v6 = ends(pkt)
	for at, size := head, int(pkt.GSOSize); at < len(c.all); at += size {
		w.Count(protoStats[0].in)
		c.datagram(at, c.all[at:min(at+size, len(c.all))])
	}
	c.flush()
	if !c.used {
		pkt.Free()
	}
}

// cutting is a super-packet that is being taken apart.
type cutting struct {
	x      *IPsec
	w      *netif.Work
	pkt    *packet.Buf
	all    []byte // with the headers in front
	head   int    // octets of these
	flags  uint8
	before *Trail
	dst    [2]uint64
	v6     bool

	cur  *packet.Buf // what came out last
	n    int         // packets in it
	sa   *SA         // that they came by
	join packet.Join
	open bool // others may follow in cur, which has room for all of them
	used bool // pkt is or was cur
}

// datagram is one of those that a super-packet is of, from its ESP header on, at in c.all.
func (c *cutting) datagram(at int, b []byte) {
	s := c.sa
	if len(b) >= espLen && (s == nil || s.SPI != binary.BigEndian.Uint32(b)) {
		s = c.x.sad.find(packet.ProtoESP, binary.BigEndian.Uint32(b), c.dst, c.v6)
	}
	if len(b) < espLen || s == nil || !s.usable() || s.Mode != ModeTunnel {
		c.flush()
		if o := c.copied(b); o != nil {
			c.x.openESP(c.w, o, true)
		}
		return
	}
	front, end, next, why, ok := s.opens(c.w, b, true)
	if !ok {
		c.drop(b, why)
		return
	}
	p := b[front:end]
	s.cameIn(c.w, len(p))
	if !c.x.sound(p, next) {
		c.w.Count(s.stats.ip.inInvalid)
		c.drop(b, s.stats.proto.tunnel)
		return
	}
	if !s.uncover(classOf(c.all), p) {
		c.drop(b, s.stats.ip.inCE)
		return
	}
	if c.open && s == c.sa && c.join.AddPacket(p) {
		rest := c.join.PacketPayload(p)
		copy(c.cur.Append(len(rest)), rest)
		c.n++
		return
	}
	c.flush()
	c.begin(at+front, p, s)
}

// begin makes p, which is at in c.all, what others may follow: the first one where it lies.
func (c *cutting) begin(at int, p []byte, s *SA) {
	c.sa, c.n = s, 1
	if !c.used {
		o := c.pkt
		o.RestoreL3()
		o.TrimFront(at)
		o.TrimTo(len(p))
		o.Csum, o.GSO, o.Sec = packet.CsumNone, packet.GSONone, s.after(c.before, true)
		if c.open = c.join.BeginPacket(o); c.open {
			c.cur, c.used = o, true
			return
		}
	}
	o := c.fresh(p, len(p))
	if o != nil && c.used && c.join.BeginPacket(o) {
		if large := c.fresh(p, len(c.all)-at); large != nil {
			o.Free()
			o, c.open = large, c.join.BeginPacket(large)
		}
	}
	c.cur = o
}

// fresh is a packet from inside in a buffer with room for n octets; nil: there is no memory.
func (c *cutting) fresh(p []byte, n int) *packet.Buf {
	o := c.x.env.Pool.Get(n)
	if o == nil {
		c.w.Count(c.sa.stats.ip.inNoMem)
		return nil
	}
	copy(o.Append(len(p)), p)
	o.Time, o.RcvIf, o.Flags, o.Nest, o.Sec = c.pkt.Time, c.pkt.RcvIf, c.flags, c.pkt.Nest, c.sa.after(c.before, true)
	return o
}

// flush sends on what came out last. What nothing has followed does not stay in a large buffer (law 4).
func (c *cutting) flush() {
	o := c.cur
	switch {
	case c.open && c.n > 1:
		c.join.End()
	case c.open:
		o = c.fresh(o.Bytes(), o.Len())
		if c.cur == c.pkt {
			c.used = false
		} else {
			c.cur.Free()
		}
	}
	c.cur, c.open = nil, false
	if o != nil {
		c.x.inner(c.w, o)
	}
}

// copied is a datagram by itself, window at its ESP header, with the headers in front; nil: there is no memory.
func (c *cutting) copied(b []byte) *packet.Buf {
	o := c.x.env.Pool.Get(c.head + len(b))
	if o == nil {
		c.w.Count(ipStats[side(c.v6)].inNoMem)
		return nil
	}
	h := o.Append(c.head)
	copy(h, c.all)
	copy(o.Append(len(b)), b)
	n := c.head - packet.UDPLen
	packet.PutUDP(h[n:], packet.UDP(h[n:]).SrcPort(), packet.UDP(h[n:]).DstPort(), packet.UDPLen+len(b), 0)
	o.MarkL3(0)
	o.MarkL4(n)
	grown(o.Bytes(), namedAt(o.Bytes(), n), packet.ProtoUDP)
	o.Time, o.RcvIf, o.Flags, o.Nest, o.Csum = c.pkt.Time, c.pkt.RcvIf, c.flags, c.pkt.Nest, packet.CsumVerified
	if c.before != nil {
		o.Sec = c.before
	}
	o.TrimFront(c.head)
	return o
}

// drop loses a datagram.
func (c *cutting) drop(b []byte, why mib.Counter) {
	if o := c.copied(b); o != nil {
		c.w.Drop(o, why)
		return
	}
	c.w.Count(why)
}

// sum has the driver compute the checksum of a packet of ESP in UDP, window at its IP header, which is zero.
func sum(pkt *packet.Buf) {
	u := pkt.L4()
	binary.BigEndian.PutUint16(u[packet.UDPCsumOffset:], packet.Fold(packet.HeaderPseudoSum(pkt.Bytes(), packet.ProtoUDP, len(u))))
	pkt.SetPartial(pkt.Len()-len(u), packet.UDPCsumOffset)
}

// summed gives what a super-packet was cut into checksums, if the driver computes them: so it may leave as a super-packet
// of datagrams, which have none of zero (RFC 3948 §2.1 has zero as a SHOULD).
func (s *SA) summed(y *way, pkt *packet.Buf) {
	if s.inUDP() && s.Dst.Is4() && y.flow.Route.If.Caps()&netif.CapCsum != 0 {
		sum(pkt)
	}
}

func (s *SA) inUDP() bool { return s.NATT.Type != 0 && s.Proto == packet.ProtoESP }
