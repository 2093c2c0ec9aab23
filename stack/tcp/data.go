package tcp

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// dataInput takes over a segment's data and FIN, which lie inside the window.
func (c *conn) dataInput(w *netif.Work, s *segment) {
	p := s.pkt
	n := p.Len()
	fin := s.is(packet.TCPFin)
	if !c.state.canReceive() {
		if c.state == closeWait || c.state == closing || c.state == lastAck { // behind its own FIN
			c.on(fAckNow)
		}
		p.Free()
		return
	}
	if n > 0 && c.has(fDetached) {
		// Nobody will ever read it (RFC 9293 §3.6.1, RFC 2525 §2.17).
		w.Count(cntInClosed)
		c.t.resetConn(w, c)
		c.drop(w, 0)
		p.Free()
		return
	}
	if n > 0 {
		c.rcvMSS = uint16(min(max(uint32(c.rcvMSS), uint32(min(n, int(c.mss)))), 65535))
	}
	if s.seq != c.rcvNxt {
		c.outOfOrder(w, s, fin)
		return
	}
	if n > 0 && !c.room(w, p, s.seq) {
		w.Drop(p, cntInFull)
		c.on(fAckNow)
		return
	}
	w.Count(cntInData)
	w.CountN(cntInOctets, uint32(n))
	c.inOrder(p)
	c.ackPolicy(w, s, n)
	if c.ooo != nil {
		fin = c.pull(w) || fin
		c.on(fAckNow)
	}
	if fin {
		c.finInput(w)
	}
	if low, _ := c.So.Lowat(); c.rcv.len >= low || fin || c.rcv.mark >= 0 {
		c.So.Changed(w)
	}
}

// inOrder gives the octets of p, which begin at rcvNxt, to the user.
func (c *conn) inOrder(p *packet.Buf) {
	at := int32(c.rcvUp - 1 - c.rcvNxt) // of the urgent octet, if it is still to come
	c.rcvNxt += seq(p.Len())
	c.rcvUp = maxSeq(c.rcvUp, c.rcvNxt)
	if at >= 0 && int(at) < p.Len() && !c.So.Opt(soOOBInline) && !c.has(fCantRecv) {
		p = c.pullOOB(p, int(at))
	}
	n := p.Len()
	if n == 0 || c.has(fCantRecv) {
		p.Free()
		return
	}
	// Small pieces go together: a stream of single octets is not one of
	// buffers (law 4).
	if t := c.rcv.tail; t != nil && n <= t.Tailroom() && n <= smallPiece && !t.Shared() {
		copy(t.Append(n), p.Bytes())
		c.rcv.len += n
		p.Free()
		return
	}
	p = p.Shrink()
	c.rcv.charge += p.Cap()
	c.So.Charge(p.Cap())
	c.rcv.link(p)
}

// smallPiece is what is rather copied to the last buffer than kept in its own.
const smallPiece = 512

// room makes sure that a packet whose octets begin at from can be kept: what is
// in the queue moves together, and what is out of order behind it makes way. The
// highest is the one that goes, if it is the packet itself too.
func (c *conn) room(w *netif.Work, p *packet.Buf, from seq) bool {
	full := func() bool {
		held := c.rcv.charge
		if c.ooo != nil {
			held += c.ooo.charge
		}
		return held+p.ShrunkCap() > 2*c.rcv.hiwat+slack || c.So.Full() && held > 0
	}
	if full() {
		c.rcv.collapse(c)
	}
	for full() {
		if !c.prune(w, from) {
			return false
		}
	}
	return true
}

// prune gives up the highest range that is out of order, unless it begins at or
// below from.
func (c *conn) prune(w *netif.Work, from seq) bool {
	if c.ooo == nil || c.ooo.last().from.leq(from) {
		return false
	}
	w.Count(cntPruned)
	c.ooo.pruneLast(c)
	if len(c.ooo.ranges) == 0 {
		c.ooo = nil
	}
	return true
}

// slack is what one super-packet's buffer may be too much.
const slack = packet.MaxPacket

// ackPolicy decides when data that came in order is acknowledged (RFC 9293
// §3.8.6.3): at once at the start and for each second segment.
func (c *conn) ackPolicy(w *netif.Work, s *segment, n int) {
	if n == 0 {
		return
	}
	if c.quick > 0 {
		c.quick--
		c.on(fAckNow)
		if c.has(fSACK) && c.dupOwed < maxQuickOwed {
			c.dupOwed++
		}
		return
	}
	v := c.t.env.MIB
	owed := uint32(c.rcvNxt - c.lastAck)
	switch {
	case c.has(fAckNow):
	case owed >= 2*uint32(max(c.rcvMSS, 1)), v.Int(nodeDelack) == 0,
		s.is(packet.TCPPsh) && v.On(nodeAckOnPush):
		c.on(fAckNow)
	default:
		if !c.has(fDelAck) {
			c.on(fDelAck)
			c.setTimer(tDelAck, w.Now+v.Int(nodeDelack)*millisecond, w.Now)
		}
	}
}

// maxQuickOwed bounds the acknowledgements for one burst that is in order: one
// more than is needed, as one may be lost, and no duplicate that counts (RFC
// 5681 §3.2).
const maxQuickOwed = 2

// outOfOrder keeps a segment until what is missing has come.
func (c *conn) outOfOrder(w *netif.Work, s *segment, fin bool) {
	p := s.pkt
	w.Count(cntInOOO)
	c.on(fAckNow)
	c.quick = quickAcks
	if c.dupOwed < maxDupOwed { // one each (RFC 5681 §4.2): some senders count them, and any may be lost
		c.dupOwed++
	}
	if c.has(fCantRecv) { // it will be thrown away when it is its turn; the peer sends it again then
		p.Free()
		return
	}
	if !c.room(w, p, s.seq) || c.ooo != nil && len(c.ooo.ranges) == maxRanges && c.ooo.last().to.lt(s.seq) {
		w.Drop(p, cntInFull)
		return
	}
	if c.ooo == nil {
		c.ooo = &reassembly{}
	}
	if dup := c.ooo.add(c, p, s.seq, fin); dup != (packet.SACKBlock{}) && c.has(fSACK) {
		c.dsack = dup
	}
	if len(c.ooo.ranges) > maxRanges {
		c.prune(w, s.seq)
	}
}

// maxDupOwed bounds the duplicate acknowledgements for one burst.
const maxDupOwed = 8

// pull takes over what has become in order. It reports the peer's FIN.
func (c *conn) pull(w *netif.Work) (fin bool) {
	a := c.ooo
	for len(a.ranges) > 0 && a.ranges[0].from.leq(c.rcvNxt) {
		r := a.ranges[0]
		a.cut(0)
		for p := r.head; p != nil; {
			next := p.Next
			p.Next = nil
			a.charge -= p.Cap()
			c.So.Charge(-p.Cap())
			from := r.from
			r.from += seq(p.Len())
			if over := c.rcvNxt - from; int32(over) > 0 { // it has come twice
				p.TrimFront(int(min(uint32(over), uint32(p.Len()))))
			}
			w.CountN(cntInOctets, uint32(p.Len()))
			c.inOrder(p)
			p = next
		}
		if r.fin && r.from == c.rcvNxt {
			fin = true
		}
	}
	if len(a.ranges) == 0 {
		c.ooo = nil
	}
	return fin
}

// finInput: the peer has ended sending (RFC 9293 §3.10.7.4, eighth).
func (c *conn) finInput(w *netif.Work) {
	c.rcvNxt++
	c.on(fFinSeen | fAckNow)
	if c.ooo != nil { // nothing follows a FIN
		c.ooo.drop(c)
		c.ooo = nil
	}
	switch c.state {
	case established:
		c.state = closeWait
	case finWait1:
		c.state = closing
	case finWait2:
		c.enterTimeWait(w)
	}
	c.So.Changed(w)
}

// urgentInput is RFC 9293 §3.8.5 with RFC 6093's reading of the pointer: it
// stands behind the urgent octet, which inOrder takes out of line when it is its
// turn. Of two that are still to come the earlier one stays in the stream.
func (c *conn) urgentInput(w *netif.Work, s *segment) {
	up := s.seq + seq(s.urgent)
	if up.leq(c.rcvUp) || up.leq(c.rcvNxt) || c.has(fCantRecv) {
		return
	}
	c.rcvUp = up
	c.rcv.mark = int32(c.rcv.len) + int32(up-c.rcvNxt) - 1
	c.off(fOOBHave | fOOBTaken)
	c.So.Changed(w)
}

// pullOOB takes the urgent octet out of p: the octets in front of it move up.
// Without memory it stays where it is.
func (c *conn) pullOOB(p *packet.Buf, at int) *packet.Buf {
	if p.Shared() {
		q := p.Clone()
		if q == nil {
			return p
		}
		p.Free()
		p = q
	}
	b := p.Bytes()
	c.oob = b[at]
	c.on(fOOBHave | fAckNow)
	copy(b[1:], b[:at])
	p.TrimFront(1)
	return p
}
