package tcp

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// arrivals adds up what one acknowledgement says of our segments.
type arrivals struct {
	octets   uint32 // new to the peer, by ACK or SACK
	original bool   // and some of it was sent only once
	resent   bool   // and some more than once: what waited for that says nothing of the RTT
	rtt      int64  // of the newest segment sent once; 0: none
	sentAt   int64
	lowest   seq // of what was sent once
	any      bool
}

// ackInput does what the ACK of a segment asks for. It answers false when the
// segment is not to be looked at any further. The caller holds mu.
func (c *conn) ackInput(w *netif.Work, s *segment) bool {
	w.Count(cntInAcks)
	if s.ack.gt(c.sndNxt) {
		w.Count(cntInAckTooNew)
		c.challenge(w)
		return false
	}
	if s.ack.lt(c.sndUna) {
		if uint32(c.sndUna-s.ack) > c.maxWnd { // RFC 5961 §5
			c.challenge(w)
			return false
		}
		if s.opt.NSACK == 0 {
			return true
		}
	}
	c.soft = 0
	if c.sb == nil { // nothing is in flight
		c.windowInput(w, s)
		return true
	}
	priorFlight := c.inFlight()
	var a arrivals
	sb := c.sb
	if int32(sb.fack-c.sndUna) < 0 {
		sb.fack = c.sndUna
	}
	fack := sb.fack
	arrived := func(r *record) {
		a.octets += r.len()
		if r.flags&rResent == 0 || !c.echoesBefore(s, c.now32(r.at)) { // RFC 8985 §6.2, step 2
			sb.rack.arrived(r, w.Now, c.rtt.min)
		}
		if r.flags&rProbe != 0 {
			c.mtuPassed(w)
		}
		if r.flags&rResent == 0 {
			a.original = true
			if r.at >= a.sentAt {
				a.sentAt, a.rtt = r.at, w.Now-r.at
			}
			if !a.any || r.seq.lt(a.lowest) {
				a.lowest, a.any = r.seq, true
			}
		} else {
			a.resent = true
		}
	}
	dsack := false
	if s.opt.NSACK > 0 && c.has(fSACK) {
		w.Count(cntSACKIn)
		dsack = c.sackInput(w, s, arrived)
	}
	if a.any && a.lowest.lt(fack) && s.ack.leq(c.sndUna) { // sent once, and overtaken
		c.sawReordering(w)
	}
	advance := uint32(0)
	if s.ack.gt(c.sndUna) {
		advance = uint32(s.ack - c.sndUna)
		c.advance(w, s.ack, arrived)
		if c.gone {
			return false
		}
	} else if c.isDup(s, a.octets) {
		w.Count(cntInDupAck)
		if c.dupAcks < 255 {
			c.dupAcks++
		}
	}
	c.windowInput(w, s)
	if a.resent {
		a.rtt = 0
	}
	if a.rtt > 0 {
		w.Count(cntSegsTimed)
		c.rtt.sample(a.rtt, w.Now)
	}
	if advance > 0 {
		c.shift = 0
		c.reachable(w)
		if c.tlp && c.sndUna.geq(sb.tlpEnd) {
			c.tlpDone(w, dsack)
		}
		c.eifel(w, s)
	}
	c.frtoAck(w, advance > 0, a.original)
	c.control(w, s, advance, a, priorFlight)
	if c.sb != nil && c.sb.len() == 0 && c.sndUna == c.sndNxt {
		c.landed()
	}
	if advance > 0 || a.octets > 0 {
		c.armRexmt(w.Now)
	}
	return true
}

// reachable: what we have sent has arrived, so the neighbour that it went to is
// there (RFC 4861 §7.3.1). The network layer hears of it when the locks are free,
// once a second.
func (c *conn) reachable(w *netif.Work) {
	now := uint32(w.Now/second) + 1
	if !c.v6() || c.hinted == now {
		return
	}
	if _, ok := c.net().(socket.Confirmer); ok {
		c.hinted = now
		c.on(fReachable)
		c.kick(w)
	}
}

// isDup: RFC 5681 §2's duplicate acknowledgement; with SACK, one that brings
// news.
func (c *conn) isDup(s *segment, sacked uint32) bool {
	if c.has(fSACK) {
		return sacked > 0
	}
	return s.ack == c.sndUna && s.pkt.Len() == 0 && s.flags&(packet.TCPSyn|packet.TCPFin) == 0 &&
		s.wnd == c.sndWnd && c.sb.len() > 0
}

// sackInput reads the blocks (RFC 2018 §3, RFC 2883 §4). It reports a
// duplicate that the peer has seen.
func (c *conn) sackInput(w *netif.Work, s *segment, arrived func(*record)) (dsack bool) {
	for i, b := range s.opt.SACK[:s.opt.NSACK] {
		from, to := seq(b.Start), seq(b.End)
		if !from.lt(to) || to.gt(c.sndNxt) {
			continue
		}
		if i == 0 && (to.leq(s.ack) || s.opt.NSACK > 1 && from.geq(seq(s.opt.SACK[1].Start)) && to.leq(seq(s.opt.SACK[1].End))) {
			dsack = true
			w.Count(cntDSACKIn)
			c.sawDSACK()
			g := &c.cc
			if n := uint32(to - from); g.undoRexmt > 0 && n <= 1<<20 {
				if g.undoRexmt -= min(n, g.undoRexmt); g.undoRexmt == 0 && g.phase >= recovering {
					c.undo(w)
				}
			}
			continue
		}
		if from.lt(c.sndUna) || to.leq(s.ack) {
			if to.leq(maxSeq(s.ack, c.sndUna)) {
				continue
			}
			from = maxSeq(s.ack, c.sndUna)
		}
		c.sb.sack(from, to, arrived)
	}
	return dsack
}

// advance moves sndUna to ack.
func (c *conn) advance(w *netif.Work, ack seq, arrived func(*record)) {
	n := uint32(ack - c.sndUna)
	w.CountN(cntInAckOctets, n)
	c.sb.ack(ack, arrived)
	data := int(min(n, uint32(c.snd.len)))
	if data > 0 {
		c.snd.ack(c, data)
	}
	c.sndUna = ack
	if c.has(fUrgent) && c.sndUp.leq(ack) {
		c.off(fUrgent)
	}
	c.dupAcks = 0
	c.growSend()
	if data > 0 || c.has(fSndFull) {
		if _, low := c.So.Lowat(); c.snd.space() >= min(low, c.snd.hiwat) {
			c.So.Changed(w)
		}
	}
	if c.has(fFinSent) && ack == c.sndNxt {
		c.finAcked(w)
	}
}

// finAcked: the peer has all that we will ever send.
func (c *conn) finAcked(w *netif.Work) {
	switch c.state {
	case finWait1:
		c.state = finWait2
		if c.has(fDetached) {
			c.setTimer(tKeep, w.Now+c.t.env.MIB.Int(nodeFinWait2)*halfSecond, w.Now)
		}
		c.So.Changed(w)
	case closing:
		c.enterTimeWait(w)
	case lastAck:
		c.drop(w, 0)
	}
}

// windowInput takes the peer's window (RFC 9293 §3.10.7.4).
func (c *conn) windowInput(w *netif.Work, s *segment) {
	if !(c.sndWl1.lt(s.seq) || c.sndWl1 == s.seq && (c.sndWl2.lt(s.ack) || c.sndWl2 == s.ack && s.wnd > c.sndWnd) || s.ack.gt(c.sndWl2)) {
		return
	}
	if s.pkt.Len() == 0 && c.sndWl2 == s.ack && s.wnd > c.sndWnd {
		w.Count(cntInWinUpd)
	}
	c.sndWnd, c.sndWl1, c.sndWl2 = s.wnd, s.seq, s.ack
	c.maxWnd = max(c.maxWnd, s.wnd)
	if c.sndWnd > 0 {
		c.unpersist(w.Now)
	}
}

// control is the part of congestion control: detection of loss, and the
// window.
func (c *conn) control(w *netif.Work, s *segment, advance uint32, a arrivals, priorFlight uint32) {
	g, mss := &c.cc, uint32(c.mss)
	if g.phase != open && advance > 0 && (c.sndUna.geq(g.point) || g.phase == recovering && !c.has(fSACK) && !c.t.env.MIB.On(nodeNewReno)) {
		c.endPhase()
	}
	if g.unheard && c.sndUna.gt(g.point) {
		g.unheard = false
	}
	if s.is(packet.TCPEce) && c.has(fECN) && !s.is(packet.TCPSyn) {
		c.congested(w)
	}
	lost := false
	if c.has(fSACK) {
		if a.octets > 0 {
			lost = c.detectLoss(w.Now)
		}
	} else {
		lost = c.renoLoss(advance, w.Now)
	}
	if lost {
		c.lossFound(w)
	}
	switch g.phase {
	case recovering:
		delivered := a.octets
		// Without SACK a duplicate stands for a segment, as far as there were
		// so many (RFC 5681 §3.2).
		if !c.has(fSACK) && advance == 0 && c.dupAcks > 0 && g.prrDelivered < g.prrFlight {
			delivered = mss
		}
		c.prr(delivered, advance > 0 && !lost)
		if lost && !c.has(fSACK) { // RFC 6582 §3.2: a partial acknowledgement sends the next hole
			g.cwnd = max(g.cwnd, c.inFlight()+mss)
		}
	case open, losing:
		if advance > 0 {
			if g.slowStart() && g.phase == open && c.t.env.MIB.On(nodeHyStart) && g.hs.ack(c.sndUna, c.sndNxt, a.rtt) {
				g.ssthresh = g.cwnd
			}
			g.limited = g.limited || g.slowStart() && 2*priorFlight >= g.cwnd || priorFlight+mss >= g.cwnd
			n := advance
			if g.phase == losing { // what had arrived before the timeout opens nothing
				n = min(n, a.octets)
			}
			g.grow(n, mss, c.rtt.srtt, w.Now, maxCwnd)
			g.limited = false
		}
	}
}

// maxCwnd: a window beyond what any buffer holds says nothing.
const maxCwnd = 1 << 29

// renoLoss finds losses without SACK (RFC 6582): three duplicates, or in
// recovery an acknowledgement that stops short of its end.
func (c *conn) renoLoss(advance uint32, now int64) bool {
	s := c.sb
	if s.len() == 0 {
		return false
	}
	first := &s.live()[0]
	switch {
	case c.cc.phase == recovering && advance > 0:
	case c.cc.phase < recovering && c.dupAcks == dupThresh:
	default:
		return false
	}
	if first.flags&rLost != 0 {
		return false
	}
	if first.len() > uint32(c.mss) {
		s.split(0, first.seq+seq(c.mss))
	}
	s.setLost(0)
	if first.flags&rProbe != 0 {
		c.mtuLost(now)
		c.want = true
		return false
	}
	return true
}

// lossFound: there is something to send again.
func (c *conn) lossFound(w *netif.Work) {
	if c.cc.phase < recovering {
		c.sb.rexTS, c.rexTimed = 0, false
		c.enterRecovery(w)
		c.prr(0, false)
	}
	c.due[tProbe] = 0
	c.tlp = false
	c.want = true
}

// eifel undoes a reduction when the first news after it is about the original
// and not about what was sent again (RFC 3522).
func (c *conn) eifel(w *netif.Work, s *segment) {
	if !c.rexTimed || c.cc.phase < recovering {
		return
	}
	c.rexTimed = false
	if c.echoesBefore(s, c.sb.rexTS) {
		c.undo(w)
	}
}

// echoesBefore reports that a segment answers one of ours that was sent before
// our timestamp was ts.
func (c *conn) echoesBefore(s *segment, ts uint32) bool {
	return s.opt.HasTimestamp && c.has(fTimestamps) && s.opt.TSEcr != 0 && int32(s.opt.TSEcr-ts) < 0
}

// tlpDone is RFC 8985 §7.4: a probe that repeated data and was needed, no DSACK
// telling otherwise, is a loss that has been repaired.
func (c *conn) tlpDone(w *netif.Work, dsack bool) {
	c.tlp = false
	if c.tlpData || dsack || c.cc.phase != open {
		return
	}
	g := &c.cc
	g.ssthresh = g.algorithm().reduce(g, uint32(c.mss), w.Now)
	g.cwnd = g.ssthresh
	c.slowed()
}

// growSend lets the send buffer follow the congestion window: two of them, so
// that one is in flight while the user writes the other.
func (c *conn) growSend() {
	v := c.t.env.MIB
	if c.has(fSndFixed) || !c.has(fSndFull) || !v.On(nodeSendAuto) {
		return
	}
	if n := int(min(2*int64(c.cc.cwnd), v.Int(socket.NodeSbMax))); n > c.snd.hiwat && !c.So.Full() {
		c.snd.hiwat = n
	}
}
