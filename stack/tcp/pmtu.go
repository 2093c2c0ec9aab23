package tcp

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// mtuSearch finds a path's MTU without the help of routers (RFC 4821, RFC
// 8899), after a black hole has been suspected: the connection goes down to a
// size that passes nearly everywhere, and feels its way up again with single
// segments that are larger.
type mtuSearch struct {
	low, high int   // what has passed; the largest that may
	top       int   // what it was before the black hole
	size      int   // of the probe in flight; 0: none
	tries     uint8 // of the next size that have been lost
	begun     bool  // the top has been tried
	at        int64 // no probe before
}

const (
	baseMTU    = 1200 // RFC 8899 §5.1.2's BASE_PLPMTU
	maxMTUTry  = 2    // probes of a size that may be lost
	mtuNear    = 16   // the search ends within so many octets
	mtuRaise   = 600 * second
	mtuAgain   = 100 * millisecond // after a lost probe, at least
	blackAfter = 2                 // timeouts in a row that make a black hole
)

// floorMTU is what every path takes: RFC 791's 576, RFC 8200 §5's 1280.
func floorMTU(v6 bool) int {
	if v6 {
		return packet.MinMTU6
	}
	return 576
}

// searching reports that a search is on.
func (c *conn) searching() bool { return c.more != nil && c.more.search != nil }

// blackhole is called at a retransmission timeout. A second one in a row for
// segments that are larger than the base may mean that the path drops those and
// no router says so (RFC 2923 §2.1, RFC 4821 §7.7).
func (c *conn) blackhole(w *netif.Work) {
	if !c.t.env.MIB.On(nodeBlackhole) || !c.net().PathMTUs() {
		return
	}
	fits := func(mtu int) bool {
		return min(int(c.sb.live()[0].len()), int(c.mss)) <= c.maxSegment(mtu)-packet.TCPTimestampLen
	}
	floor := floorMTU(c.v6())
	mtu := max(baseMTU, floor)
	if c.searching() && int(c.mtu) <= mtu || fits(mtu) {
		mtu = floor
	}
	if int(c.shift)%blackAfter != 0 || int(c.mtu) <= mtu || fits(mtu) {
		return
	}
	w.Count(cntBlackhole)
	if !c.searching() {
		c.rare().search = &mtuSearch{top: int(c.mtu)}
	}
	m := c.more.search
	*m = mtuSearch{low: mtu, high: m.top, top: m.top}
	c.resize(mtu)
}

// resize makes mtu the path's.
func (c *conn) resize(mtu int) {
	c.mtu = uint16(min(mtu, 65535))
	c.setMSS()
}

// next is the size to try: at first the top, as most black holes are none but a
// link that was down for a while.
func (m *mtuSearch) next() int {
	if !m.begun {
		return m.high
	}
	return (m.low + m.high + 1) / 2
}

// probeMTU sends a probe if one is due and there is so much to send that its
// loss would be noticed. 0: no.
func (c *conn) probeMTU(w *netif.Work, out []outgoing) int {
	m := c.more.search
	if m.size != 0 || w.Now < m.at || c.cc.phase != open || c.sb != nil && c.sb.lost > 0 || c.ooo != nil {
		return 0
	}
	if m.low >= m.top { // it is what it was
		c.more.search = nil
		return 0
	}
	if m.high-m.low < mtuNear { // found; perhaps the path gets better
		m.high, m.at, m.begun = m.top, w.Now+mtuRaise, false
		return 0
	}
	mtu := m.next()
	size := c.maxSegment(mtu)
	if c.has(fTimestamps) {
		size -= packet.TCPTimestampLen
	}
	if c.newAllowed() < size+dupThresh*int(c.mss) {
		return 0
	}
	p := c.data(w, c.sndNxt, int(c.sndNxt-c.snd.base), size, false)
	if p == nil {
		return 0
	}
	p.GSO, p.GSOSize = packet.GSONone, 0
	w.Count(cntMTUProbe)
	m.size, m.begun = mtu, true
	c.sentNew(w, size, false, rProbe)
	out[0] = outgoing{pkt: p, ect: c.has(fECN)}
	return 1
}

// mtuPassed: the probe has arrived.
func (c *conn) mtuPassed(w *netif.Work) {
	if !c.searching() || c.more.search.size == 0 {
		return
	}
	m := c.more.search
	w.Count(cntMTUProbeOK)
	m.low, m.size, m.tries = max(m.low, m.size), 0, 0
	if m.low > int(c.mtu) {
		c.resize(m.low)
	}
}

// mtuLost: the probe has not, which says nothing of congestion (RFC 4821 §7.5).
func (c *conn) mtuLost(now int64) {
	if !c.searching() || c.more.search.size == 0 {
		return
	}
	m := c.more.search
	if m.tries++; m.tries >= maxMTUTry {
		m.high, m.tries = m.size-1, 0
	}
	m.size, m.at = 0, now+max(c.rtt.srtt, mtuAgain)
}

// pathMTU is told of a smaller way: what is in flight and too large is lost.
func (c *conn) pathMTU(w *netif.Work, mtu int) {
	if c.v6() { // a router that tells of less wants a fragment header (RFC 8201 §4): not believed
		mtu = max(mtu, packet.MinMTU6)
	}
	if mtu >= int(c.mtu) && c.mtu != 0 || c.state == listen || c.state == closed {
		return
	}
	old := c.mss
	if c.more != nil {
		c.more.search = nil // a router tells
	}
	c.resize(mtu)
	w.Count(cntPMTU)
	if c.sb != nil && c.mss < old {
		r := c.sb.live()
		for i := range r {
			if r[i].flags&(rSacked|rLost) == 0 {
				c.sb.setLost(i)
			}
		}
	}
	c.kick(w)
}
