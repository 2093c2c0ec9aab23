package tcp

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// outgoing is a packet on its way to the network layer.
type outgoing struct {
	pkt *packet.Buf
	ect bool // may be marked by routers (RFC 3168 §6.1.4)
}

// burst is how many packets are made under one hold of the lock.
const burst = 16

// wantsOutput reports whether an acknowledgement or data has to leave. It is a
// first look: fill decides.
func (c *conn) wantsOutput() bool {
	if c.want || c.flags&(fAckNow|fSynDue|fProbe|fKeepProbe|fTailProbe|fForceWin) != 0 {
		return true
	}
	if c.sb != nil && c.sb.lost > 0 {
		return true
	}
	return c.unsent() > 0 || c.has(fFinQueued) && !c.has(fFinSent)
}

// unsent is what has never been sent, in octets, the FIN not counted.
func (c *conn) unsent() int {
	if c.has(fFinSent) {
		return 0
	}
	return c.snd.len - int(c.sndNxt-c.snd.base)
}

// fill makes packets of what may be sent now (RFC 9293 §3.8.6.2) until out is
// full, and answers how many. The caller is the flusher and holds mu.
func (c *conn) fill(w *netif.Work, out []outgoing) (n int) {
	if c.gone || c.state == closed || c.state == listen {
		return 0
	}
	if c.state == synSent || c.state == synReceived {
		return c.fillSyn(w, out)
	}
	c.restart(w.Now)
	before := c.sndNxt
	resent := false
	if c.has(fSynDue) {
		n = c.fillSynAck(w, out)
	}
	if c.sb != nil {
		k := c.fillLost(w, out[n:])
		n += k
		resent = k > 0
	}
	if c.sb == nil || c.sb.lost == 0 || c.frto >= frtoNew {
		n += c.fillNew(w, out[n:])
	}
	if c.has(fTailProbe) {
		c.off(fTailProbe)
		if n < len(out) {
			n += c.fillTail(w, out[n:], c.sndNxt != before)
		}
	}
	if n == len(out) {
		c.want = true
		c.sent(w, before, resent)
		return n
	}
	if c.flags&(fProbe|fKeepProbe) != 0 && c.sndNxt == before {
		if p := c.probe(w); p != nil {
			out[n] = outgoing{pkt: p}
			n++
		}
	}
	c.off(fProbe | fKeepProbe)
	if n == 0 && (c.has(fAckNow|fForceWin) || c.windowMoved()) {
		if p := c.pure(w); p != nil {
			out[0] = outgoing{pkt: p}
			n++
		}
	}
	for ; c.dupOwed > 1 && n > 0 && n < len(out); c.dupOwed-- {
		c.on(fAckNow)
		if p := c.pure(w); p != nil {
			out[n] = outgoing{pkt: p}
			n++
		}
	}
	c.dupOwed = 0
	c.sent(w, before, resent)
	return n
}

// sent sees to the timers after something may have left.
func (c *conn) sent(w *netif.Work, before seq, resent bool) {
	switch {
	case c.sndNxt != before || resent:
		if resent || c.due[tRexmt] == 0 || c.has(fPersist) {
			if c.has(fPersist) && c.sndNxt != before {
				c.off(fPersist)
				c.shift = 0
			}
			c.armRexmt(w.Now)
		} else {
			c.armProbe(w.Now, c.due[tRexmt]-w.Now)
		}
	case c.sb != nil && c.sb.len() > 0:
		if c.due[tRexmt] == 0 { // there was no memory
			c.armRexmt(w.Now)
		}
	case c.has(fSynUnacked): // the timer is the SYN and ACK's
	case c.unsent() > 0 || c.has(fFinQueued) && !c.has(fFinSent):
		c.persist(w.Now)
	}
}

// restart is RFC 5681 §4.1: a window that has not been used for a while says
// nothing of the network any more.
func (c *conn) restart(now int64) {
	if c.sb != nil || c.lastSent == 0 || c.unsent() == 0 {
		return
	}
	v := c.t.env.MIB
	segments := v.Int(nodeInitWin)
	switch {
	case v.On(nodeCWM):
		segments = v.Int(nodeCWMBurst)
	case now-c.lastSent <= c.rtt.rto(v):
		return
	}
	g := &c.cc
	g.cwnd = min(g.cwnd, uint32(segments)*uint32(c.mss))
	g.algorithm().restart(g)
	g.hs.round = false
}

// fillLost sends again what is lost, as far as the window allows.
func (c *conn) fillLost(w *netif.Work, out []outgoing) (n int) {
	switch {
	case c.frto == frtoSent, c.frto == frtoNew && c.newAllowed() > 0:
		return 0
	case c.frto == frtoNew: // nothing new to send: RFC 5682 §2.1, step 2 b
		c.frto = frtoOff
	}
	for n < len(out) {
		i := c.sb.nextLost()
		if i < 0 {
			return n
		}
		flight := c.inFlight()
		room := uint32(0)
		if c.cc.cwnd > flight {
			room = c.cc.cwnd - flight
		}
		r := &c.sb.live()[i]
		mss := uint32(c.segMSS())
		if room < min(r.len(), mss) {
			return n
		}
		if size := min(r.len(), max(room/mss, 1)*mss, c.superSize()); size < r.len() {
			c.sb.split(i, r.seq+seq(size))
			r = &c.sb.live()[i]
		}
		if c.frto == frtoFirst && r.len() > mss {
			c.sb.split(i, r.seq+seq(mss))
			r = &c.sb.live()[i]
		}
		p := c.again(w, r)
		if p == nil {
			return n
		}
		c.sb.resent(i, w.Now)
		c.noteResent(w, r)
		out[n] = outgoing{pkt: p}
		n++
		if c.frto == frtoFirst {
			return n
		}
	}
	return n
}

// noteResent does the accounts of a retransmission.
func (c *conn) noteResent(w *netif.Work, r *record) {
	size := r.len()
	w.Count(cntRexmit)
	w.CountN(cntRexmitBytes, size)
	g := &c.cc
	g.prrOut += size
	g.undoRexmt += size
	if g.undoable && !c.rexTimed && c.sb.rexTS == 0 {
		c.sb.rexTS, c.rexTimed = max(c.now32(w.Now), 1), true
	}
}

// again is the packet of a record that is sent once more.
func (c *conn) again(w *netif.Work, r *record) *packet.Buf {
	off, size := int(r.seq-c.snd.base), int(r.len())
	fin := off+size > c.snd.len
	if fin {
		size--
	}
	return c.data(w, r.seq, off, size, fin)
}

// newAllowed is how many octets may be sent for the first time now.
func (c *conn) newAllowed() int {
	wnd := min(c.sndWnd, infinite)
	used := uint32(c.sndNxt - c.sndUna)
	if wnd <= used {
		return 0
	}
	room := wnd - used
	if f := c.inFlight(); f >= c.cc.cwnd {
		room = 0
		// RFC 3042: the first two duplicates let new segments out.
		if !c.has(fSACK) && c.dupAcks > 0 && c.dupAcks < dupThresh && c.cc.phase == open {
			if extra := uint32(c.dupAcks) * uint32(c.mss); f < c.cc.cwnd+extra {
				room = min(wnd-used, c.cc.cwnd+extra-f)
			}
		}
	} else {
		room = min(room, c.cc.cwnd-f)
	}
	return min(int(room), c.unsent())
}

// fillNew sends what has not been sent yet.
func (c *conn) fillNew(w *netif.Work, out []outgoing) (n int) {
	if c.searching() && len(out) > 0 {
		n = c.probeMTU(w, out)
	}
	for n < len(out) {
		unsent := c.unsent()
		fin := c.has(fFinQueued) && !c.has(fFinSent)
		size := c.newAllowed()
		if size < unsent {
			fin = false
		}
		if size == 0 && !fin {
			if unsent > 0 && c.inFlight() >= c.cc.cwnd {
				c.cc.limited = true
			}
			return n
		}
		if size == 0 && fin && c.sndWnd == uint32(c.sndNxt-c.sndUna) && c.sndWnd != 0 && unsent > 0 {
			return n
		}
		mss := c.segMSS()
		size = min(size, int(c.superSize()))
		if rest := c.snd.toEnd(int(c.sndNxt - c.snd.base)); rest < size && rest >= mss {
			size = rest // so that what follows is the front of a buffer, and shared
		} else if size > mss && (size < unsent || !fin) {
			size -= size % mss // the rest may grow to a segment
		}
		if size < unsent {
			fin = false
		}
		if !c.worth(size, unsent, fin, mss) {
			return n
		}
		p := c.data(w, c.sndNxt, int(c.sndNxt-c.snd.base), size, fin)
		if p == nil {
			return n
		}
		c.sentNew(w, size, fin, 0)
		out[n] = outgoing{pkt: p, ect: c.has(fECN)}
		n++
	}
	return n
}

// sentNew notes what has been sent for the first time.
func (c *conn) sentNew(w *netif.Work, size int, fin bool, flags uint8) {
	if c.sb == nil {
		c.sb = c.t.boards.get()
		c.sb.fack = c.sndUna
	}
	end := c.sndNxt + seq(size)
	if fin {
		end++
		c.finGoes()
	}
	c.sb.push(c.sndNxt, end, w.Now, flags)
	if c.frto == frtoNew {
		c.frto = frtoSent
	}
	c.cc.prrOut += uint32(end - c.sndNxt)
	c.sndNxt = end
	c.lastSent = w.Now
}

// finGoes: our FIN is sent for the first time.
func (c *conn) finGoes() {
	c.on(fFinSent)
	switch c.state {
	case established:
		c.state = finWait1
	case closeWait:
		c.state = lastAck
	}
}

// worth is Nagle's rule and the silly window's (RFC 9293 §3.7.4, §3.8.6.2.1):
// whether size octets of the unsent are worth a segment now.
func (c *conn) worth(size, unsent int, fin bool, mss int) bool {
	last := size == unsent
	switch {
	case size >= mss, fin:
		return true
	case size == 0:
		return false
	case c.has(fUrgent), c.has(fProbe):
		return true
	case last && c.has(fNoPush) && !c.has(fFinQueued):
		return false
	case last && (c.has(fNoDelay) || c.sndNxt == c.sndUna || c.has(fFinQueued)):
		return true
	case !last && uint32(size) >= c.maxWnd/2 && c.maxWnd > 0:
		return true
	}
	return c.frto >= frtoNew
}

// fillTail is a tail loss probe (RFC 8985 §7.3), unless new data has just left,
// which is one.
func (c *conn) fillTail(w *netif.Work, out []outgoing, fresh bool) int {
	if c.sb == nil || c.sb.len() == 0 {
		c.tlp = false
		return 0
	}
	c.sb.tlpEnd, c.tlpData = c.sndNxt, fresh
	if fresh {
		return 0
	}
	mss := uint32(c.segMSS())
	i := c.sb.len() - 1
	r := &c.sb.live()[i]
	if r.flags&rSacked != 0 {
		return 0
	}
	if r.len() > mss {
		c.sb.split(i, r.end-seq(mss))
		i++
		r = &c.sb.live()[i]
	}
	p := c.again(w, r)
	if p == nil {
		return 0
	}
	c.sb.resent(i, w.Now)
	w.Count(cntRexmit)
	w.CountN(cntRexmitBytes, r.len())
	out[0] = outgoing{pkt: p}
	return 1
}

// superSize is the most payload of one packet: a whole number of segments, one
// while there is an urgent pointer, which counts from each segment's own number,
// or a routing header: whoever cuts a packet takes the address in its header for
// the one that the checksum covers.
func (c *conn) superSize() uint32 {
	mss := uint32(c.segMSS())
	if x := c.userFlow().Ext; c.has(fUrgent) || x != nil && len(x.Routing) > 0 {
		return mss
	}
	return max(maxSuper/mss, 1) * mss
}

// segMSS is the payload of a segment beside the SACK blocks that go with it.
func (c *conn) segMSS() int {
	n := int(c.mss)
	if c.has(fSACK) && (c.ooo != nil || c.dsack != (packet.SACKBlock{})) {
		k := 0
		if c.ooo != nil {
			k = len(c.ooo.ranges)
		}
		if c.dsack != (packet.SACKBlock{}) {
			k++
		}
		n -= 4 + 8*min(k, 3)
	}
	return max(n, 8)
}

// data makes a packet of size octets of the send queue from off on. nil: there
// is no memory.
func (c *conn) data(w *netif.Work, q seq, off, size int, fin bool) *packet.Buf {
	mss := c.segMSS()
	var o packet.TCPOptions
	c.options(w, &o)
	var ob [packet.TCPMaxLen - packet.TCPLen]byte
	hlen := packet.TCPLen + o.Put(ob[:])
	p := c.payload(off, size, hlen)
	if p == nil {
		w.Count(cntOutNoMem)
		return nil
	}
	flags := uint8(packet.TCPAck)
	if fin {
		flags |= packet.TCPFin
	}
	if size > 0 && off+size == c.snd.len {
		flags |= packet.TCPPsh
	}
	if size > 0 && c.has(fSendCWR) && q == c.sndNxt { // on new data (RFC 3168 §6.1.2)
		c.off(fSendCWR)
		flags |= packet.TCPCwr
	}
	if size > mss {
		p.GSOSize = uint16(mss)
		p.GSO = packet.GSOTCPv4
		if c.v6() {
			p.GSO = packet.GSOTCPv6
		}
	}
	w.Count(cntOutData)
	w.CountN(cntOutOctets, uint32(size))
	c.head(w, p, q, hlen, ob[:], flags)
	return p
}

// payload answers size octets of the send queue with room for a header: the
// queue's own buffer if the octets lie at its front and nobody is still busy
// with that, else a copy.
func (c *conn) payload(off, size, hlen int) *packet.Buf {
	if size > 0 {
		if b, at := c.snd.find(off); at == 0 && size <= b.Len() && size > shareWorth {
			if p := b.Share(size); p != nil {
				return p
			}
		}
	}
	p := c.t.env.Pool.Get(hlen + size)
	if p != nil && size > 0 {
		c.snd.copyOut(p.Append(size), off)
	}
	return p
}

// shareWorth is the size from which sharing costs less than copying.
const shareWorth = 256

// probe asks a peer that is silent, or whose window is shut, to say where it is
// (RFC 9293 §3.8.4, §3.8.6.1): an old sequence number without data, as a new
// octet that the peer took after all would be one more state.
func (c *conn) probe(w *netif.Work) *packet.Buf {
	w.Count(cntOutProbe)
	p := c.bare(w, c.sndUna-1, packet.TCPAck)
	if p != nil && c.has(fKeepProbe) && c.t.env.MIB.On(nodeCompat42) {
		h := packet.TCP(p.Bytes())
		sum := packet.Fold(packet.PseudoSum(c.local().IP, c.foreign().IP, packet.ProtoTCP, len(h)+1))
		packet.PutTCP(h, h.SrcPort(), h.DstPort(), h.Seq(), h.Ack(), h.HeaderLen(), h.Flags(), h.Window(), sum, 0)
		p.Append(1)[0] = 0
	}
	return p
}

// pure is an acknowledgement without data.
func (c *conn) pure(w *netif.Work) *packet.Buf {
	if c.has(fAckNow) {
		w.Count(cntOutAck)
	} else {
		w.Count(cntOutWin)
	}
	q := c.sndNxt
	return c.bare(w, q, packet.TCPAck)
}

// bare is a segment without data.
func (c *conn) bare(w *netif.Work, q seq, flags uint8) *packet.Buf {
	var o packet.TCPOptions
	c.options(w, &o)
	var ob [packet.TCPMaxLen - packet.TCPLen]byte
	hlen := packet.TCPLen + o.Put(ob[:])
	p := c.t.env.Pool.Get(hlen)
	if p == nil {
		w.Count(cntOutNoMem)
		return nil
	}
	c.head(w, p, q, hlen, ob[:], flags)
	return p
}

// options are those of every segment after the handshake.
func (c *conn) options(w *netif.Work, o *packet.TCPOptions) {
	if c.has(fTimestamps) {
		o.HasTimestamp, o.TSVal, o.TSEcr = true, c.now32(w.Now), c.tsRecent
	}
	if !c.has(fSACK) {
		return
	}
	if c.dsack != (packet.SACKBlock{}) {
		o.SACK[0], o.NSACK = c.dsack, 1
		c.dsack = packet.SACKBlock{}
	}
	if c.ooo != nil {
		o.NSACK += uint8(c.ooo.blocks(o.SACK[o.NSACK:3]))
	}
}

// head puts the header in front of p's payload, and does the accounts of what
// it tells the peer.
func (c *conn) head(w *netif.Work, p *packet.Buf, q seq, hlen int, opt []byte, flags uint8) {
	size := p.Len()
	if c.has(fECE) && flags&packet.TCPSyn == 0 {
		flags |= packet.TCPEce
	}
	up := uint16(0)
	if c.has(fUrgent) && c.sndUp.gt(q) && flags&packet.TCPSyn == 0 {
		if d := c.sndUp - q; d <= 65535 {
			up, flags = uint16(d), flags|packet.TCPUrg
		}
	}
	wnd := c.offer(flags&packet.TCPSyn != 0)
	e := c.Ends()
	h := p.Prepend(hlen)
	sum := packet.Fold(packet.PseudoSum(e.Local.IP, e.Foreign.IP, packet.ProtoTCP, hlen+size))
	packet.PutTCP(h, e.Local.Port, e.Foreign.Port, uint32(q), uint32(c.rcvNxt), hlen, flags, wnd, sum, up)
	copy(h[packet.TCPLen:], opt[:hlen-packet.TCPLen])
	p.SetPartial(0, packet.TCPCsumOffset)
	w.Count(cntOut)
	c.lastAck = c.rcvNxt
	c.off(fAckNow | fDelAck | fForceWin)
	c.due[tDelAck] = 0
}

// offer is the window that goes into the header (RFC 9293 §3.8.6.2.2: it does
// not shrink, and does not open by crumbs).
func (c *conn) offer(syn bool) uint16 {
	space := uint32(c.rcv.space())
	if c.has(fCantRecv) {
		space = uint32(c.rcv.hiwat)
	}
	if space < uint32(c.rcv.hiwat)/4 && space < uint32(c.mss) {
		space = 0
	}
	space = max(space, c.window())
	if syn { // never scaled
		space = min(space, 65535)
		c.rcvAdv = maxSeq(c.rcvAdv, c.rcvNxt+seq(space))
		return uint16(space)
	}
	space = min(space>>c.rcvScale, 65535)
	c.rcvAdv = maxSeq(c.rcvAdv, c.rcvNxt+seq(space<<c.rcvScale))
	return uint16(space)
}

// windowMoved reports whether the window has opened so far that the peer
// should hear of it.
func (c *conn) windowMoved() bool {
	if !c.state.canReceive() || c.state == synSent {
		return false
	}
	space := int(min(uint32(c.rcv.space())>>c.rcvScale, 65535) << c.rcvScale)
	more := space - int(c.window())
	if more <= 0 {
		return false
	}
	most := min(c.rcv.hiwat, 65535<<c.rcvScale)
	return more >= 2*int(c.mss) && (more >= most/4 || int(c.window()) <= most/8) || 2*more >= most
}
