package tcp

import (
	"syscall"

	"ionet/stack/netif"
)

// A connection's timers. They share one node of the wheel, which is moved when
// it fires and something is due later, and not when a deadline moves away.
const (
	tProbe   = iota // tail loss probe; it comes first, as it may take the timeout's place
	tRexmt          // retransmission, or persist with fPersist
	tReorder        // RACK's reordering window
	tDelAck
	tKeep // the handshake's end, keepalive, FIN_WAIT_2
	ntimers
)

const (
	maxRexmt   = 12         // timeouts in a row before the connection ends (TCP_MAXRXTSHIFT)
	minPersist = 5 * second // between window probes, when the RTO is shorter
	maxPersist = 60 * second
	halfSecond = second / 2
	minProbe   = 2 * millisecond // of a tail loss probe: the wheel's resolution and some
)

// setTimer arms one timer at a time of the stack's clock.
func (c *conn) setTimer(t int, at, now int64) {
	c.due[t] = at
	if c.armed == 0 || at < c.armed {
		c.armed = at
		c.t.env.Wheel.Reset(&c.timer, max(at, now))
	}
}

// expire is the wheel's call.
func (c *conn) expire(w *netif.Work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.armed == 0 {
		return
	}
	c.armed = 0
	for t := range c.due {
		if d := c.due[t]; d != 0 && d <= w.Now {
			c.due[t] = 0
			c.timeout(w, t)
			if c.gone {
				return
			}
		}
	}
	next := int64(0)
	for _, d := range c.due {
		if d != 0 && (next == 0 || d < next) {
			next = d
		}
	}
	if next != 0 && (c.armed == 0 || next < c.armed) {
		c.armed = next
		c.t.env.Wheel.Reset(&c.timer, next)
	}
}

func (c *conn) timeout(w *netif.Work, t int) {
	switch t {
	case tRexmt:
		if c.has(fPersist) {
			c.persistTimeout(w)
		} else {
			c.rexmtTimeout(w)
		}
	case tProbe:
		c.tailProbe(w)
	case tReorder:
		if c.sb != nil && c.detectLoss(w.Now) {
			c.lossFound(w)
		}
		if c.want { // a lost probe of the path's MTU is no loss, and sent again too
			c.kick(w)
		}
	case tDelAck:
		if c.has(fSynHeld) {
			c.letSyn(w)
		}
		if c.has(fDelAck) {
			w.Count(cntDelAck)
			c.ackNow(w)
		}
	case tKeep:
		c.keepTimeout(w)
	}
}

// rexmtTimeout is RFC 6298 §5.4 to §5.7.
func (c *conn) rexmtTimeout(w *netif.Work) {
	w.Count(cntRexmtTimeo)
	if c.shift++; c.shift > maxRexmt && c.sndWnd == 0 && !c.has(fDetached) && w.Now-c.idle < 2*maxPersist {
		c.shift = maxRexmt // it has shut its window and lives (RFC 9293 §3.8.6.1)
	}
	if c.shift > maxRexmt {
		w.Count(cntTimeoDrop)
		c.fail(w, c.timeoutError())
		return
	}
	switch c.state {
	case synSent, synReceived:
		c.on(fSynDue)
		c.kick(w)
		return
	}
	if c.has(fSynUnacked) {
		if c.shift > synTries {
			c.fail(w, syscall.ETIMEDOUT)
			return
		}
		c.on(fSynDue)
		c.kick(w)
	}
	if c.sb == nil || c.sb.len() == 0 {
		return
	}
	c.blackhole(w)
	c.timedOut(w)
}

// timeoutError is why it ended: what the network said, else ETIMEDOUT.
func (c *conn) timeoutError() syscall.Errno {
	if c.soft != 0 {
		return syscall.Errno(c.soft)
	}
	return syscall.ETIMEDOUT
}

// armRexmt sets the retransmission timer anew if anything is in flight (RFC
// 6298 §5.1 to §5.3), and the probe's.
func (c *conn) armRexmt(now int64) {
	if c.has(fPersist) {
		return
	}
	if c.sb == nil || c.sb.len() == 0 {
		if c.state != synSent && c.state != synReceived && !c.has(fSynUnacked) {
			c.due[tRexmt] = 0
		}
		c.due[tProbe] = 0
		return
	}
	rto := c.rtt.backedOff(c.t.env.MIB, c.shift)
	c.setTimer(tRexmt, now+rto, now)
	c.armProbe(now, rto)
}

// armProbe is RFC 8985 §7.2: on a long path, where two round trips are a
// timeout, the probe is sent in its stead.
func (c *conn) armProbe(now, rto int64) {
	c.due[tProbe] = 0
	if c.cc.phase >= recovering || c.tlp || !c.has(fSACK) || c.sb.sacked != 0 || c.rtt.srtt == 0 ||
		c.state == synSent || !c.t.env.MIB.On(nodeTLP) {
		return
	}
	pto := 2 * c.rtt.srtt
	if c.inFlight() <= uint32(c.mss) {
		pto += maxDelAck
	}
	c.setTimer(tProbe, now+min(max(pto, minProbe), rto), now)
}

// maxDelAck is how long a peer's acknowledgement may wait (RFC 8985's
// TLP.max_ack_delay).
const maxDelAck = 200 * millisecond

// tailProbe is RFC 8985 §7.3: new data if there is some, else the last segment
// once more.
func (c *conn) tailProbe(w *netif.Work) {
	if c.sb == nil || c.sb.len() == 0 || c.cc.phase >= recovering || c.tlp {
		return
	}
	w.Count(cntTLPSent)
	c.tlp = true
	c.on(fTailProbe)
	c.kick(w)
	c.setTimer(tRexmt, w.Now+c.rtt.backedOff(c.t.env.MIB, c.shift), w.Now)
}

// persist begins to probe a window that is shut (RFC 9293 §3.8.6.1).
func (c *conn) persist(now int64) {
	if c.has(fPersist) {
		return
	}
	c.on(fPersist)
	c.shift = 0
	c.setPersist(now)
}

func (c *conn) setPersist(now int64) {
	d := c.rtt.backedOff(c.t.env.MIB, c.shift)
	c.setTimer(tRexmt, now+min(max(d, minPersist), maxPersist), now)
}

// unpersist ends it.
func (c *conn) unpersist(now int64) {
	if c.has(fPersist) {
		c.off(fPersist)
		c.shift = 0
		c.due[tRexmt] = 0
		c.armRexmt(now)
	}
}

func (c *conn) persistTimeout(w *netif.Work) {
	w.Count(cntPersist)
	// A peer that answers may keep its window shut for ever (RFC 9293
	// §3.8.6.1), but not one that is silent, nor for a user who has gone.
	silent := w.Now - c.idle
	if c.shift >= maxRexmt && silent > maxPersist || c.has(fDetached) && c.shift >= maxRexmt {
		w.Count(cntPersistDrop)
		c.fail(w, syscall.ETIMEDOUT)
		return
	}
	if c.shift < maxRexmt {
		c.shift++
	}
	c.on(fProbe)
	c.kick(w)
	c.setPersist(w.Now)
}

// keepalive arms the timer of an established connection.
func (c *conn) keepalive(now int64) {
	c.keepSent = 0
	if c.So.Opt(soKeepAlive) && c.state.synchronized() {
		idle, _, _ := c.keepTimes()
		c.setTimer(tKeep, c.idle+idle, now)
	} else if c.state.synchronized() && c.state != finWait2 {
		c.due[tKeep] = 0
	}
}

// FlagChanged is socket.FlagWatcher: SO_KEEPALIVE may come at any time.
func (c *conn) FlagChanged(w *netif.Work, flag uint32) {
	if flag == soKeepAlive {
		c.mu.Lock()
		c.keepalive(w.Now)
		c.mu.Unlock()
	}
}

func (c *conn) keepTimeout(w *netif.Work) {
	switch c.state {
	case synSent, synReceived:
		c.fail(w, c.timeoutError())
		return
	case finWait2:
		if c.has(fDetached) {
			w.Count(cntFin2Drop)
			c.drop(w, 0)
			return
		}
	}
	if !c.So.Opt(soKeepAlive) {
		return
	}
	idle, every, count := c.keepTimes()
	if quiet := w.Now - c.idle; quiet < idle {
		c.keepSent = 0
		c.setTimer(tKeep, c.idle+idle, w.Now)
		return
	}
	w.Count(cntKeepTimeo)
	if int64(c.keepSent) >= count {
		w.Count(cntKeepDrop)
		c.fail(w, c.timeoutError())
		return
	}
	c.keepSent++
	w.Count(cntKeepProbe)
	c.on(fKeepProbe)
	c.kick(w)
	c.setTimer(tKeep, w.Now+every, w.Now)
}

// keepTimes are the connection's own or the stack's, in nanoseconds.
func (c *conn) keepTimes() (idle, every, count int64) {
	v := c.t.env.MIB
	idle, every, count = v.Int(nodeKeepIdle)*halfSecond, v.Int(nodeKeepIntvl)*halfSecond, v.Int(nodeKeepCnt)
	k := c.keeps()
	if k.idle != 0 {
		idle = k.idle
	}
	if k.every != 0 {
		every = k.every
	}
	if k.count != 0 {
		count = k.count
	}
	return idle, every, count
}

// keepOptions are TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
type keepOptions struct{ idle, every, count, init int64 }

// keeps are the connection's own; 0: the stack's.
func (c *conn) keeps() keepOptions {
	if c.more == nil || c.more.keep == nil {
		return keepOptions{}
	}
	return *c.more.keep
}
