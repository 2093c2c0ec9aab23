package tcp

import (
	"sync"

	"ionet/stack/callout"
	"ionet/stack/cmap"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// timeWait is what is left of a connection in TIME_WAIT (RFC 9293 §3.3.2): who
// it was, and where it ended.
type timeWait struct {
	ends               socket.Ends
	hash               uint64
	next, prev         *timeWait
	until              int64
	sndNxt, rcvNxt     seq
	tsRecent, tsOffset uint32
	wnd                uint16
	flags              uint8
	gone               bool
}

const (
	twTimestamps = 1 << iota
)

// timeWaits holds them in the order in which they end, since all last equally
// long; one that is reached again goes to the end. Owner: the room. Bound:
// maxtimewait; full: the oldest goes.
type timeWaits struct {
	t     *TCP
	mu    sync.Mutex
	table cmap.Map[*timeWait]
	head  *timeWait
	tail  *timeWait
	n     int
	uses  socket.LocalUses
	timer callout.Timer[*netif.Work]
}

func (q *timeWaits) init(t *TCP) {
	q.t = t
	q.uses.Init(t.key[0])
	q.table.Init()
	q.timer.Fn = q.expire
}

// enterTimeWait turns the connection into an entry. The caller holds mu.
func (c *conn) enterTimeWait(w *netif.Work) {
	e := c.Ends()
	tw := &timeWait{ends: *e, hash: c.t.table.Hash(e.Local, e.Foreign), sndNxt: c.sndNxt, rcvNxt: c.rcvNxt,
		tsRecent: c.tsRecent, tsOffset: c.tsOffset, wnd: uint16(min(c.window()>>c.rcvScale, 65535))}
	if c.has(fTimestamps) {
		tw.flags = twTimestamps
	}
	if c.has(fAckNow) || c.wantsOutput() { // the FIN that brought us here
		c.t.twAck(w, tw)
	}
	c.t.tw.add(w, tw)
	c.drop(w, 0)
}

func (q *timeWaits) life() int64 { return 2 * q.t.env.MIB.Int(nodeMSL) * halfSecond }

func (q *timeWaits) add(w *netif.Work, tw *timeWait) {
	limit := int(q.t.env.MIB.Int(nodeMaxTW))
	if limit == 0 {
		return
	}
	q.mu.Lock()
	for q.n >= limit {
		w.Count(cntTWFull)
		q.remove(q.head)
	}
	q.table.Add(tw.hash, tw)
	q.n++
	q.uses.Add(tw.ends.Local, 1)
	q.append(w, tw)
	q.mu.Unlock()
}

// append puts tw at the end of the list, with its whole life before it.
func (q *timeWaits) append(w *netif.Work, tw *timeWait) {
	tw.until, tw.prev, tw.next = w.Now+q.life(), q.tail, nil
	if q.tail == nil {
		q.head = tw
		q.t.env.Wheel.Reset(&q.timer, tw.until)
	} else {
		q.tail.next = tw
	}
	q.tail = tw
}

// unlink takes tw out of the list.
func (q *timeWaits) unlink(tw *timeWait) {
	if tw.prev == nil {
		q.head = tw.next
	} else {
		tw.prev.next = tw.next
	}
	if tw.next == nil {
		q.tail = tw.prev
	} else {
		tw.next.prev = tw.prev
	}
}

// remove ends tw; the caller holds mu.
func (q *timeWaits) remove(tw *timeWait) {
	if tw.gone {
		return
	}
	tw.gone = true
	q.unlink(tw)
	q.table.Remove(tw.hash, tw)
	q.n--
	q.uses.Add(tw.ends.Local, -1)
}

func (q *timeWaits) expire(w *netif.Work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head != nil && q.head.until <= w.Now {
		q.remove(q.head)
	}
	if q.head != nil {
		q.t.env.Wheel.Reset(&q.timer, q.head.until)
	}
}

func (q *timeWaits) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head != nil {
		q.remove(q.head)
	}
	q.t.env.Wheel.Stop(&q.timer)
}

// find answers the entry for both ends, or nil.
func (q *timeWaits) find(h uint64, local, foreign socket.Addr) *timeWait {
	b := q.table.Bucket(h)
	for i := 0; i < b.Len(); i++ {
		if k, tw := b.At(i); k == h && tw.ends.Local == local && tw.ends.Foreign == foreign {
			return tw
		}
	}
	return nil
}

// all are the entries, for netstat.
func (q *timeWaits) all() (out []socket.Ends) {
	q.table.All(func(tw *timeWait) bool {
		out = append(out, tw.ends)
		return true
	})
	return out
}

// busy is [socket.PCBTable.Busy].
func (t *TCP) busy(e socket.Ends, v socket.Versions) bool {
	q := &t.tw
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Foreign.IP.IsValid() {
		tw := q.find(t.table.Hash(e.Local, e.Foreign), e.Local, e.Foreign)
		// With timestamps the next connection's segments are told from the old
		// one's after a second (RFC 6191).
		return tw != nil && (tw.flags&twTimestamps == 0 || t.env.Now() < tw.until-q.life()+second)
	}
	return q.uses.Has(e.Local, v)
}

// retire lets go of the entry whose ends a new connection takes.
func (q *timeWaits) retire(tw *timeWait) {
	q.mu.Lock()
	q.remove(tw)
	q.mu.Unlock()
}

// timeWaitInput is RFC 9293 §3.10.7.4 in TIME_WAIT. It answers true when the
// segment is a SYN that may open the next connection (RFC 6191 §2); it then
// has not touched the packet.
func (t *TCP) timeWaitInput(w *netif.Work, tw *timeWait, s *segment) (next bool) {
	n := s.len()
	if s.is(packet.TCPRst) { // RFC 1337: nothing kills TIME_WAIT
		s.pkt.Free()
		return false
	}
	if s.is(packet.TCPSyn) && !s.is(packet.TCPAck) {
		newer := s.seq.gt(tw.rcvNxt)
		if tw.flags&twTimestamps != 0 && s.opt.HasTimestamp {
			newer = int32(s.opt.TSVal-tw.tsRecent) > 0 || s.opt.TSVal == tw.tsRecent && newer
		}
		if newer {
			w.Count(cntTWReuse)
			t.tw.retire(tw)
			return true
		}
	}
	switch {
	case s.is(packet.TCPFin) && !s.is(packet.TCPSyn) && s.seq+seq(n) == tw.rcvNxt: // it has not heard our last ACK
		q := &t.tw
		q.mu.Lock()
		if !tw.gone {
			q.unlink(tw)
			q.append(w, tw)
		}
		q.mu.Unlock()
		t.twAck(w, tw)
	case n == 0:
	case t.challenge(w): // a stranger's, or old (RFC 5961 §7)
		t.twAck(w, tw)
	}
	s.pkt.Free()
	return false
}

// twAck says where the connection has ended.
func (t *TCP) twAck(w *netif.Work, tw *timeWait) {
	var o packet.TCPOptions
	if tw.flags&twTimestamps != 0 {
		o.HasTimestamp, o.TSVal, o.TSEcr = true, clock32(w.Now)+tw.tsOffset, tw.tsRecent
	}
	w.Count(cntOutAck)
	t.respond(w, tw.ends.Local, tw.ends.Foreign, uint32(tw.sndNxt), uint32(tw.rcvNxt), packet.TCPAck, tw.wnd, &o, 0, nil)
}
