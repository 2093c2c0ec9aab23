package tcp

import (
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// segment is a received segment, taken apart. The window of pkt is the payload.
type segment struct {
	pkt      *packet.Buf
	seq, ack seq
	wnd      uint32 // scaled
	flags    uint8
	urgent   uint16
	ce       bool // congestion experienced (RFC 3168)
	opt      packet.TCPOptions
	last     *timeWait // of a SYN: the connection before, which it has ended
}

// len is the segment's length in sequence space.
func (s *segment) len() uint32 {
	n := uint32(s.pkt.Len())
	if s.flags&packet.TCPSyn != 0 {
		n++
	}
	if s.flags&packet.TCPFin != 0 {
		n++
	}
	return n
}

func (s *segment) is(f uint8) bool { return s.flags&f != 0 }

// segment is RFC 9293 §3.10.7.4, and §3.10.7.3 in SYN_SENT. It takes the
// packet over. The caller holds mu.
func (c *conn) segment(w *netif.Work, s *segment) {
	switch c.state {
	case closed:
		w.Count(cntInClosed)
		c.t.reset(w, s)
		s.pkt.Free()
		return
	case synSent:
		c.synSent(w, s)
		return
	}
	if !s.is(packet.TCPSyn) {
		s.wnd <<= c.sndScale
	} else if c.has(fSynUnacked) && s.seq == c.irs { // once more: our answer was lost
		c.on(fSynDue)
		c.kick(w)
		s.pkt.Free()
		return
	}
	// First: RFC 7323 §5.3, and the sequence number.
	if s.opt.HasTimestamp && c.has(fTimestamps) && !s.is(packet.TCPRst) && int32(s.opt.TSVal-c.tsRecent) < 0 && c.tsRecent != 0 {
		if w.Now-c.tsRecentAt < pawsIdle {
			w.Count(cntInPAWS)
			c.dupData(s)
			c.outOfWindow(w, s)
			return
		}
		c.tsRecent = 0
	}
	if !c.acceptable(s) {
		c.notAcceptable(w, s)
		return
	}
	// Second: RST.
	if s.is(packet.TCPRst) {
		c.resetInput(w, s)
		return
	}
	// Fourth: SYN, RFC 5961 §4.
	if s.is(packet.TCPSyn) && c.state != synReceived {
		c.challenge(w)
		s.pkt.Free()
		return
	}
	if s.is(packet.TCPSyn) { // of a simultaneous open, once more
		s.seq++
		s.flags &^= packet.TCPSyn
	}
	// Fifth: ACK.
	if !s.is(packet.TCPAck) {
		s.pkt.Free()
		return
	}
	c.idle = w.Now
	if s.opt.HasTimestamp && c.has(fTimestamps) && s.seq.leq(c.lastAck) && int32(s.opt.TSVal-c.tsRecent) >= 0 {
		c.tsRecent, c.tsRecentAt = s.opt.TSVal, w.Now // RFC 7323 §4.3
	}
	if c.state == synReceived {
		if s.ack.leq(c.sndUna) || s.ack.gt(c.sndNxt) {
			c.t.reset(w, s)
			s.pkt.Free()
			return
		}
		c.opened(w, s)
	}
	if c.has(fSynUnacked) && s.ack.gt(c.iss) && s.ack.leq(c.sndNxt) {
		c.synAcked(w)
	}
	if c.has(fECN) {
		c.ecnInput(s)
	}
	c.trim(w, s)
	if !c.ackInput(w, s) {
		s.pkt.Free()
		return
	}
	// Sixth to eighth: URG, data, FIN.
	if s.is(packet.TCPUrg) && s.urgent != 0 && c.state.canReceive() {
		c.urgentInput(w, s)
	}
	if s.pkt.Len() > 0 || s.is(packet.TCPFin) {
		c.dataInput(w, s)
	} else {
		s.pkt.Free()
	}
	if c.gone {
		return
	}
	if c.wantsOutput() {
		c.kick(w)
	}
}

// pawsIdle is how long the last timestamp counts (RFC 7323 §5.5).
const pawsIdle = 24 * 24 * 3600 * second

// acceptable is the table of RFC 9293 §3.10.7.4.
func (c *conn) acceptable(s *segment) bool {
	n, wnd := s.len(), c.window()
	if n == 0 {
		if wnd == 0 {
			return s.seq == c.rcvNxt
		}
		return s.seq.geq(c.rcvNxt) && s.seq.lt(c.rcvNxt+seq(wnd)) || s.seq == c.rcvNxt
	}
	if s.seq.gt(c.rcvNxt) {
		return s.seq.lt(c.rcvNxt + seq(wnd))
	}
	// Partly or wholly old; with a shut window its ACK counts all the same.
	return (s.seq + seq(n)).gt(c.rcvNxt) || s.seq == c.rcvNxt
}

// window is what has been offered to the peer, from rcvNxt on.
func (c *conn) window() uint32 {
	if c.rcvAdv.gt(c.rcvNxt) {
		return uint32(c.rcvAdv - c.rcvNxt)
	}
	return 0
}

// notAcceptable answers what lies outside of the window.
func (c *conn) notAcceptable(w *netif.Work, s *segment) {
	if s.is(packet.TCPRst) {
		s.pkt.Free()
		return
	}
	n := s.len()
	switch {
	case s.seq.geq(c.rcvNxt):
		w.Count(cntInAfterWin)
	case n > 0:
		w.Count(cntInDup)
		c.dupData(s)
	}
	// An old segment's ACK may be news: a FIN that was repeated, or, in
	// simultaneous open, a SYN.
	if c.state == synReceived && s.is(packet.TCPAck) && s.is(packet.TCPSyn) && s.seq == c.irs && s.ack.gt(c.iss) && s.ack.leq(c.sndNxt) {
		c.opened(w, s)
		c.ackInput(w, s)
		c.ackNow(w)
		s.pkt.Free()
		return
	}
	if s.is(packet.TCPAck) && s.seq.lt(c.rcvNxt) && (s.seq + seq(n)).geq(c.rcvNxt-seq(c.window()+maxSuper)) && s.ack.gt(c.sndUna) && s.ack.leq(c.sndNxt) && !s.is(packet.TCPSyn) {
		c.idle = w.Now
		c.ackInput(w, s)
		if !c.gone && c.wantsOutput() {
			c.kick(w)
		}
	}
	c.outOfWindow(w, s)
}

// outOfWindow tells the peer where we are, as a challenge: an answer to each
// of a stranger's segments would be a war of acknowledgements (RFC 5961 §7).
func (c *conn) outOfWindow(w *netif.Work, s *segment) {
	if !s.is(packet.TCPSyn) && (s.len() > 0 || s.seq == c.rcvNxt-1) { // data, or a probe: the sender waits for this
		c.ackNow(w)
	} else {
		c.challenge(w)
	}
	s.pkt.Free()
}

// dupData notes octets that were here already, for a DSACK (RFC 2883).
func (c *conn) dupData(s *segment) {
	if s.pkt.Len() > 0 {
		c.quick = quickAcks
	}
	if c.has(fSACK) && s.pkt.Len() > 0 {
		c.dsack = packet.SACKBlock{Start: uint32(s.seq), End: uint32(s.seq) + uint32(s.pkt.Len())}
	}
}

// challenge sends an acknowledgement that lets a real peer prove itself (RFC
// 5961 §3 to §5).
func (c *conn) challenge(w *netif.Work) {
	if c.t.challenge(w) {
		c.ackNow(w)
	}
}

// challenge reports whether one more such acknowledgement may be sent: there are
// so many a second for all connections (RFC 5961 §7).
func (t *TCP) challenge(w *netif.Work) bool {
	if !t.chall.allow(w.Now, t.env.MIB.Int(nodeAckPPS)) {
		w.Count(cntChallRate)
		return false
	}
	w.Count(cntChallenge)
	return true
}

// resetInput is RFC 5961 §3.2: only a reset that hits the next octet exactly
// is believed at once.
func (c *conn) resetInput(w *netif.Work, s *segment) {
	defer s.pkt.Free()
	if s.seq != c.rcvNxt && s.seq != c.lastAck && !c.t.env.MIB.On(nodeStrictRFC) {
		w.Count(cntRstBad)
		c.challenge(w)
		return
	}
	w.Count(cntRstDrop)
	switch c.state {
	case synReceived:
		c.fail(w, syscall.ECONNREFUSED)
	case established, finWait1, finWait2:
		c.fail(w, syscall.ECONNRESET)
	case closeWait:
		c.fail(w, syscall.ECONNRESET)
	default: // closing, lastAck
		c.drop(w, 0)
	}
}

// synSent is RFC 9293 §3.10.7.3.
func (c *conn) synSent(w *netif.Work, s *segment) {
	defer func() {
		if s.pkt != nil {
			s.pkt.Free()
		}
	}()
	if s.is(packet.TCPAck) && (s.ack.leq(c.iss) || s.ack.gt(c.sndNxt)) {
		if !s.is(packet.TCPRst) {
			c.t.reset(w, s)
		}
		return
	}
	if s.is(packet.TCPRst) {
		if s.is(packet.TCPAck) {
			w.Count(cntRstDrop)
			c.fail(w, syscall.ECONNREFUSED)
		}
		return
	}
	if !s.is(packet.TCPSyn) {
		return
	}
	c.idle = w.Now
	c.peerSyn(w, s)
	if c.t.env.MIB.Int(nodeECN) == 1 && s.flags&(packet.TCPEce|packet.TCPCwr) == packet.TCPEce && s.is(packet.TCPAck) {
		c.on(fECN)
	}
	if !s.is(packet.TCPAck) { // simultaneous open
		c.state = synReceived
		c.on(fSynDue)
		c.shift = 0
		c.kick(w)
		return
	}
	if c.shift == 0 {
		c.rtt.sample(w.Now-c.lastSent, w.Now)
		w.Count(cntSegsTimed)
	} else { // RFC 6298 §5.7
		c.rtt.srtt = 0
	}
	c.opened(w, s)
	c.fastOpened(w, s)
	c.on(fAckNow)
	c.kick(w)
	if s.pkt.Len() > 0 || s.is(packet.TCPFin) {
		s.seq++
		s.flags &^= packet.TCPSyn
		c.trim(w, s)
		c.dataInput(w, s)
		s.pkt = nil
	}
}

// opened completes a handshake with a segment that acknowledges our SYN.
func (c *conn) opened(w *netif.Work, s *segment) {
	c.sndUna = c.iss + 1
	c.begin()
	if c.shift > 1 { // RFC 6928 §2: our SYN was lost
		c.cc.cwnd = uint32(c.mss)
	}
	c.sndWnd, c.maxWnd = s.wnd, s.wnd
	c.sndWl1, c.sndWl2 = s.seq, s.ack
	c.establish(w)
}

// peerSyn takes what the peer's SYN says.
func (c *conn) peerSyn(w *netif.Work, s *segment) {
	c.irs, c.rcvNxt = s.seq, s.seq+1
	c.rcvAdv = c.rcvNxt + seq(min(c.rcv.space(), 65535)) // as our SYN said
	c.lastAck, c.rcvUp = c.rcvNxt, c.rcvNxt
	o := &s.opt
	if o.HasTimestamp && c.has(fTimestamps) {
		c.tsRecent, c.tsRecentAt = o.TSVal, w.Now
	} else {
		c.off(fTimestamps)
	}
	if !o.SACKOK {
		c.off(fSACK)
	}
	if o.HasWScale && c.rcvScale != noScale {
		c.sndScale = o.WScale
	} else {
		c.sndScale, c.rcvScale = 0, 0
	}
	c.peerMSS = c.t.peerMSS(o.MSS, c.v6())
	c.setMSS()
	c.sndWl1 = s.seq
}

// trim cuts off what lies in front of rcvNxt and beyond the window.
func (c *conn) trim(w *netif.Work, s *segment) {
	if old := c.rcvNxt - s.seq; int32(old) > 0 {
		n := int(old)
		if n > s.pkt.Len() { // the FIN too was here
			n = s.pkt.Len()
			s.flags &^= packet.TCPFin
		}
		if n > 0 {
			c.dupData(s)
			if n < s.pkt.Len() {
				w.Count(cntInPartDup)
				c.dsack.End = uint32(c.rcvNxt)
			} else {
				w.Count(cntInDup)
			}
			s.pkt.TrimFront(n)
			c.on(fAckNow)
		}
		s.seq += seq(n)
		if s.flags&packet.TCPUrg != 0 {
			if int(s.urgent) > n {
				s.urgent -= uint16(n)
			} else {
				s.urgent, s.flags = 0, s.flags&^packet.TCPUrg
			}
		}
	}
	end := s.seq + seq(s.pkt.Len())
	if over := end - (c.rcvNxt + seq(c.window())); int32(over) > 0 {
		if c.window() == 0 {
			w.Count(cntInProbe)
		} else {
			w.Count(cntInAfterWin)
		}
		n := min(int(over), s.pkt.Len())
		s.pkt.TrimTo(s.pkt.Len() - n)
		s.flags &^= packet.TCPFin | packet.TCPPsh
		c.on(fAckNow)
	}
}

// ecnInput is RFC 3168 §6.1.3: congestion experienced is echoed until the
// sender says that it has slowed down.
func (c *conn) ecnInput(s *segment) {
	if s.is(packet.TCPCwr) {
		c.off(fECE)
	}
	if s.ce && !c.has(fECE) {
		c.on(fECE | fAckNow)
	}
}
