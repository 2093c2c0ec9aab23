package tcp

import "ionet/stack/netif"

// enterRecovery begins fast recovery (RFC 6675 §5, RFC 6937 §3).
func (c *conn) enterRecovery(w *netif.Work) {
	g := &c.cc
	w.Count(cntRecovery)
	if g.phase == open || g.phase == reducing {
		c.remember()
	}
	flight := uint32(c.sndNxt - c.sndUna)
	if g.phase != reducing { // it has been reduced already
		g.ssthresh = g.algorithm().reduce(g, uint32(c.mss), w.Now)
		c.slowed()
	}
	g.phase, g.point = recovering, c.sndNxt
	g.prrDelivered, g.prrOut, g.prrFlight = 0, 0, max(flight, 1)
	g.hs.css = false
}

// slowed has the peer told that the window was reduced, for whatever reason (RFC
// 3168 §6.1.2). That goes behind point: what the peer says before some of it is
// acknowledged, it says without having heard.
func (c *conn) slowed() {
	if c.has(fECN) {
		c.on(fSendCWR)
		c.cc.point, c.cc.unheard = c.sndNxt, true
	}
}

// remember keeps the windows in case the reduction proves needless, and whether
// the peer is to be told of one before.
func (c *conn) remember() {
	g := &c.cc
	g.undoable, g.undoCwnd, g.undoThresh, g.undoRexmt = true, g.cwnd, g.ssthresh, 0
	g.undoCWR = c.has(fSendCWR)
}

// prr sets the window in recovery after delivered octets (RFC 6937 §3.1, with
// slow-start reduction bound).
func (c *conn) prr(delivered uint32, advanced bool) {
	g, mss := &c.cc, uint32(c.mss)
	g.prrDelivered += delivered
	pipe := c.inFlight()
	var send uint32
	if pipe > g.ssthresh {
		n := (uint64(g.prrDelivered)*uint64(g.ssthresh) + uint64(g.prrFlight) - 1) / uint64(g.prrFlight)
		if n > uint64(g.prrOut) {
			send = uint32(n) - g.prrOut
		}
	} else {
		limit := delivered
		if g.prrDelivered > g.prrOut {
			limit = max(g.prrDelivered-g.prrOut, delivered)
		}
		if advanced {
			limit += mss
		}
		send = min(g.ssthresh-pipe, limit)
	}
	if g.prrOut == 0 { // the first retransmission is not held back
		send = max(send, mss)
	}
	g.cwnd = pipe + send
}

// congested reduces the window once a round trip, for an ECN echo (RFC 3168
// §6.1.2).
func (c *conn) congested(w *netif.Work) {
	g := &c.cc
	if g.phase != open || g.unheard {
		return
	}
	w.Count(cntECNEce)
	g.ssthresh = g.algorithm().reduce(g, uint32(c.mss), w.Now)
	g.cwnd = g.ssthresh
	g.phase, g.point = reducing, c.sndNxt
	g.undoable = false
	g.hs.css = false
	c.slowed()
}

// endPhase is told that everything up to point is acknowledged.
func (c *conn) endPhase() {
	g := &c.cc
	switch g.phase {
	case recovering:
		// RFC 6675 §5.1 and RFC 6582 §3.2: no burst when the hole closes.
		g.cwnd = max(min(g.ssthresh, c.inFlight()+uint32(c.t.env.MIB.Int(nodeInitWin))*uint32(c.mss)), 2*uint32(c.mss))
		if c.inFlight() >= g.ssthresh/2 || g.cwnd > g.ssthresh {
			g.cwnd = g.ssthresh
		}
	case open:
		return
	}
	g.phase = open
	g.undoable = false
	g.algorithm().restart(g)
	if c.sb != nil {
		c.sb.rack.recovered()
	}
	c.dupAcks = 0
}

// undo puts back what a needless reduction took (RFC 4015, RFC 5682).
func (c *conn) undo(w *netif.Work) {
	g := &c.cc
	if !g.undoable {
		return
	}
	if g.phase == losing {
		w.Count(cntSpurious)
	} else {
		w.Count(cntUndone)
	}
	g.cwnd = max(g.cwnd, g.undoCwnd)
	g.ssthresh = max(g.ssthresh, g.undoThresh)
	g.phase, g.undoable = open, false
	if !g.undoCWR {
		c.off(fSendCWR)
	}
	g.algorithm().restart(g)
	if c.sb != nil {
		c.sb.unlose()
	}
	c.frto = frtoOff
	c.shift = 0
}

// States of forward RTO recovery (RFC 5682 §3).
const (
	frtoOff   = iota
	frtoFirst // the first segment has been sent again
	frtoNew   // it has arrived: new data is to be sent
	frtoSent  // and has been
)

// timedOut is the retransmission timeout's doing (RFC 5681 §3.1, RFC 6298 §5).
func (c *conn) timedOut(w *netif.Work) {
	g := &c.cc
	if g.phase != losing || c.shift <= 1 {
		if g.phase == open || g.phase == reducing {
			c.remember()
		}
		if g.phase != losing && g.phase != recovering {
			g.ssthresh = g.algorithm().reduce(g, uint32(c.mss), w.Now)
		}
		c.slowed()
	}
	c.frto = frtoOff
	if c.shift == 1 && g.phase != recovering && c.t.env.MIB.On(nodeFRTO) && c.sb.sacked == 0 {
		c.frto = frtoFirst
	}
	c.sb.rexTS, c.rexTimed = 0, false
	g.phase, g.point = losing, c.sndNxt
	g.cwnd = uint32(c.mss)
	g.hs.css = false
	if r := c.sb.live(); len(r) > 0 && r[0].flags&rSacked != 0 {
		c.sb.renege()
	}
	c.sb.loseAll(w.Now)
	c.mtuLost(w.Now)
	c.tlp = false
	c.due[tProbe], c.due[tReorder] = 0, 0
	c.kick(w)
}

// frtoAck is RFC 5682 §2.1 and, with SACK, §3.1: what the first two
// acknowledgements after a timeout say of it. progress: sndUna has moved;
// original: what it covers beyond the first segment was sent once only.
func (c *conn) frtoAck(w *netif.Work, progress, original bool) {
	switch {
	case c.frto == frtoOff:
	case c.cc.phase != losing || !progress && c.dupAcks > 0:
		c.frto = frtoOff
	case c.frto == frtoFirst && progress:
		if original && c.has(fSACK) { // what arrived before would have been sacked
			c.undo(w)
			return
		}
		c.frto = frtoNew
	case c.frto >= frtoNew && progress:
		c.undo(w)
	}
}
