package tcp

import "ionet/stack/netif"

// rack is RACK's view of the path (RFC 8985 §5.2): times of arrival and of
// sending, never of processing.
type rack struct {
	xmit    int64 // when the newest segment that has arrived was sent
	end     seq   // and its end
	rtt     int64
	reorder bool  // the network has been seen to reorder
	mult    uint8 // of the reordering window, in quarters of the smallest RTT
	persist uint8 // recoveries until mult falls back
	dsack   seq   // end of the round in which mult has grown
}

// dupThresh is how many segments beyond a hole make it a loss while no
// reordering has been seen (RFC 5681).
const dupThresh = 3

// arrived is told of a segment that the peer has (§6.2 step 2).
func (k *rack) arrived(r *record, now, minRTT int64) {
	t := now - r.at
	if r.flags&rResent != 0 && t < minRTT {
		return // the original has arrived, not the one that was sent then
	}
	if k.xmit == 0 || r.at > k.xmit || r.at == k.xmit && r.end.gt(k.end) {
		k.xmit, k.end, k.rtt = r.at, r.end, t
	}
}

// window is how late a segment may be before it is lost (§6.2 step 4).
func (c *conn) reorderWindow() int64 {
	k := &c.sb.rack
	if !k.reorder && (c.cc.phase >= recovering || c.sb.sacked >= dupThresh*uint32(c.mss)) {
		return 0
	}
	m := int64(max(k.mult, 1))
	return min(m*c.rtt.min/4, c.rtt.srtt)
}

// detectLoss marks what is lost by now (§6.2 step 5) and answers whether
// anything is newly so. What may be lost soon sets the timer.
func (c *conn) detectLoss(now int64) (found bool) {
	s := c.sb
	c.due[tReorder] = 0
	if s.rack.xmit == 0 {
		return false
	}
	wnd := c.reorderWindow()
	soon := int64(0)
	r := s.live()
	for i := range r {
		e := &r[i]
		if e.flags&(rSacked|rLost) != 0 {
			continue
		}
		if e.at > s.rack.xmit || e.at == s.rack.xmit && !e.end.lt(s.rack.end) {
			if e.flags&rResent == 0 && e.at > s.rack.xmit {
				break // and so is everything behind it: sent in this order
			}
			continue
		}
		left := e.at + s.rack.rtt + wnd - now
		if left <= 0 {
			s.setLost(i)
			if e.flags&rProbe != 0 {
				c.mtuLost(now)
				c.want = true
				continue
			}
			found = true
		} else {
			soon = max(soon, left)
		}
	}
	if soon > 0 {
		c.setTimer(tReorder, now+soon, now)
	}
	return found
}

// sawReordering: a segment arrived, sent once, below one that has arrived.
func (c *conn) sawReordering(w *netif.Work) {
	if !c.sb.rack.reorder {
		c.sb.rack.reorder = true
		w.Count(cntReorder)
	}
}

// sawDSACK widens the window once a round trip (§6.2 step 4, §7.4.2).
func (c *conn) sawDSACK() {
	k := &c.sb.rack
	if k.dsack == 0 || c.sndUna.geq(k.dsack) {
		k.dsack = c.sndNxt
		k.mult = min(max(k.mult, 1)+1, 254)
	}
	k.persist = 16
}

// recovered ends a recovery for the window's sake.
func (k *rack) recovered() {
	if k.persist > 0 {
		if k.persist--; k.persist == 0 {
			k.mult = 1
		}
	}
}
