package ipfilter

import (
	"encoding/binary"
	"net/netip"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// track follows a TCP connection from its middle, as van Rooij has it ("Real
// Stateful TCP Packet Filtering in IP Filter", 2001): what either side may have sent
// is bounded by what the other one has acknowledged and by the window that it
// gave. RST and SYN count only inside of it (RFC 5961).
type track struct {
	side  [2]peer // who began, who answered
	phase [2]uint8
}

// peer is what is known of one side.
type peer struct {
	end    uint32 // behind the last octet that it has sent; before its answer: what it has acknowledged of an older connection, or 0
	limit  uint32 // that it may send up to; before its answer: the least that it acknowledges
	window uint32 // the largest that it gave
	scale  uint8
	scaled bool // its SYN had the option
	seen   bool
	guess  bool // it was not heard: what is known comes from the other side
}

// States of a side, in IPFilter's numbers.
const (
	tcpClosed      = 0
	tcpSynSent     = 2
	tcpSynReceived = 3
	tcpEstablished = 4
	tcpCloseWait   = 5
	tcpFinWait1    = 6
	tcpClosing     = 7
	tcpLastAck     = 8
	tcpFinWait2    = 9
	tcpTimeWait    = 10
)

// midWindow is the widest window, for a connection whose beginning nobody has seen (RFC 7323 §2.3).
const (
	maxScale  = 14
	midWindow = 0xffff << maxScale
)

// maxSkew is how far an acknowledgement may lie beside what was sent.
const maxSkew = 66_000

func (t *track) phases() [2]uint8 { return t.phase }

func after(a, b uint32) bool   { return int32(a-b) > 0 }
func atLeast(a, b uint32) bool { return int32(a-b) >= 0 }

// segment is what the tracking asks of one.
type segment struct {
	seq, end, ack, window uint32
	flags                 uint8
	scale                 uint8
	scaled                bool
}

// segmentOf reads a segment; false: its header is not whole.
func segmentOf(i *pfil.Info) (g segment, ok bool) {
	h, ok := packet.CheckTCP(i.Transport())
	if !ok {
		return g, false
	}
	g = segment{seq: h.Seq(), ack: h.Ack(), window: uint32(h.Window()), flags: h.Flags()}
	g.end = g.seq + uint32(len(h)-h.HeaderLen())
	if g.flags&packet.TCPFin != 0 {
		g.end++
	}
	if g.flags&packet.TCPSyn != 0 {
		g.end++
		var o packet.TCPOptions
		o.Parse(h.Options())
		g.scale, g.scaled = o.WScale, o.HasWScale
	}
	return g, true
}

// beginTCP starts the tracking with the segment that a rule has let pass: a SYN, or, of
// a connection that was there before the rules, any other.
func (s *state) beginTCP(w *netif.Work, i *pfil.Info) {
	g, ok := segmentOf(i)
	if !ok {
		s.ttl.Store(1)
		return
	}
	me, you := &s.tcp.side[0], &s.tcp.side[1]
	me.seen, me.end, me.window = true, g.end, max(g.window, 1)
	me.scale, me.scaled = g.scale, g.scaled
	me.limit = g.end + 1
	you.limit = g.seq + 1 // it need not take the data of a SYN (RFC 7413 §4.2.2)
	s.tcp.phase[0] = tcpSynSent
	if s.rule.KeepState.NewISN && g.flags&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn {
		s.extra().shift[0] = s.shiftOf(w.Now, 0, g.seq)
	}
	// Not from its beginning on. What of the scales is unknown is as wide as can be; the other side will have
	// to speak before the connection stands.
	switch {
	case g.flags&packet.TCPSyn == 0:
		me.scale, me.scaled, me.window = maxScale, true, midWindow
		s.tcp.phase[0] = tcpEstablished
	case g.flags&packet.TCPAck != 0:
		s.tcp.phase[0] = tcpSynReceived
	default:
		s.ttl.Store(s.tcpTimeout(false))
		return
	}
	*you = peer{seen: true, guess: true, end: g.ack, limit: g.ack + me.window, window: midWindow, scaled: me.scaled}
	if you.scaled {
		you.scale = maxScale
	}
	me.limit = g.end + midWindow
	s.ttl.Store(s.tcpTimeout(false))
}

// admitTCP reports whether a segment fits the connection, which is then brought forward.
func (s *state) admitTCP(w *netif.Work, i *pfil.Info, back bool) bool {
	g, ok := segmentOf(i)
	if !ok {
		return false
	}
	n := sideOf(back)
	s.mu.Lock()
	first, shift := !s.tcp.side[n].seen, s.shiftLocked()
	if !i.Out && acknowledges(g.flags, g.ack) {
		g.ack -= shift[1-n]
	}
	if s.tcp.again(&g, back) {
		s.mu.Unlock()
		renumber(i, n, shift)
		return true
	}
	c, ok := s.tcp.take(&g, back, s.rule.KeepState != nil && s.rule.KeepState.Strict)
	if ok && first && shift[0] != 0 && g.flags&packet.TCPSyn != 0 {
		s.more.shift[n] = s.shiftOf(w.Now, n, g.seq)
		shift = s.more.shift
	}
	ttl := s.tcpTimeout(back)
	s.mu.Unlock()
	if !ok {
		return false
	}
	renumber(i, n, shift)
	s.seen(w.Now, ttl)
	if c != s.class() {
		s.become(c)
	}
	return true
}

// tcpTimeout is by what the two sides have come to, in seconds; s.mu is held.
func (s *state) tcpTimeout(back bool) uint32 {
	if n := s.age(back); n != 0 {
		return n
	}
	node := nodeTCPOpen
	switch a, b := s.tcp.phase[0], s.tcp.phase[1]; {
	case a == tcpClosed && b == tcpClosed:
		node = nodeTCPClosed
	case a >= tcpFinWait1 && b >= tcpFinWait1:
		node = nodeTCPLast
	case a >= tcpCloseWait || b >= tcpCloseWait:
		node = nodeTCPHalf
	case a == tcpEstablished && b == tcpEstablished:
		node = nodeTCPIdle
	}
	return uint32(s.rule.f.env.MIB.Int(node))
}

// sideOf is the number of the side that sends.
func sideOf(back bool) int {
	if back {
		return 1
	}
	return 0
}

// again reports a SYN of who began, after the answer: one that was on its way, or of a host that has lost the
// connection. It changes nothing here; who answers will say what it has, and the
// other end that (RFC 9293 §3.5.1, RFC 5961 §4).
func (t *track) again(g *segment, back bool) bool {
	return !back && g.flags&(packet.TCPSyn|packet.TCPAck|packet.TCPRst|packet.TCPFin) == packet.TCPSyn &&
		t.side[0].seen && t.side[1].seen && !t.side[1].guess && t.class() != ending
}

// answer takes in the SYN of who is asked.
func (t *track) answer(g *segment) {
	me, you := &t.side[1], &t.side[0]
	me.seen, me.end, me.limit = true, g.end, g.end+you.window
	me.scale, me.scaled = g.scale, g.scaled
	me.window = max(g.window, 1)
	if !me.scaled || !you.scaled {
		me.scale, you.scale = 0, 0
	}
	if g.flags&packet.TCPAck != 0 {
		you.end, you.limit = g.ack, g.ack+max(g.window, 1)
	}
	t.phase[1] = tcpSynReceived
}

// take asks whether a segment fits, and notes it.
func (t *track) take(g *segment, back, strict bool) (c class, ok bool) {
	n := sideOf(back)
	me, you := &t.side[n], &t.side[1-n]
	syn, ack := g.flags&packet.TCPSyn != 0, g.flags&packet.TCPAck != 0
	if !me.seen { // the answer to the first
		fits := atLeast(g.ack, me.limit) && atLeast(you.end, g.ack)
		if back && g.flags == packet.TCPAck && g.end == g.seq && !fits {
			me.end = g.ack // RFC 9293 §3.5.1: it has a connection of these ends still; who began will reset that
			return opening, true
		}
		if !back || ack && !fits || !ack && !syn {
			return 0, false
		}
		if g.flags&packet.TCPRst != 0 {
			if ack {
				t.phase = [2]uint8{}
			}
			return ending, ack
		}
		if !syn {
			return 0, false
		}
		t.answer(g)
		return opening, true
	}
	if !you.seen && syn && !ack && g.seq+1 == you.limit { // said again, with other data or none
		me.end = g.end
		return opening, true
	}
	if !you.seen && g.flags == packet.TCPRst && you.end != 0 && g.seq == you.end {
		return opening, true
	}
	seq, end, window := g.seq, g.end, g.window
	if !syn && me.scaled && you.scaled {
		window <<= me.scale
	}
	acked := g.ack
	if !ack || g.flags&packet.TCPRst != 0 && acked == 0 {
		acked = you.end
	}
	skew := int32(you.end - acked) // what is on its way to me, at most what I have let come
	if !atLeast(me.limit, end) || !atLeast(seq, me.end-max(you.window, 1)) || skew < -maxSkew || skew > int32(me.window)+maxSkew {
		if syn && ack && back && g.ack == you.end && t.phase == [2]uint8{tcpSynSent, tcpSynReceived} {
			t.answer(g) // another one, which nobody has acknowledged yet: it was a cookie (RFC 4987 §3.6)
			return opening, true
		}
		return 0, false
	}
	if strict && seq != me.end && end != me.end && end != seq { // the next one, or the last one at the other hook
		return 0, false
	}
	if syn && (t.phase[n] > tcpSynReceived && end != me.end || t.class() == ending) { // no second beginning inside of a connection
		return 0, false
	}
	if g.flags&packet.TCPRst != 0 {
		if seq == me.end { // RFC 5961 §3: of those inside the window only the next ends it
			t.phase = [2]uint8{}
			return ending, true
		}
		return t.class(), true
	}
	if skew < 0 {
		you.end = acked
	}
	me.window = max(me.window, window)
	if after(end, me.end) {
		me.end = end
	}
	if atLeast(acked+window, you.limit) {
		you.limit = acked + max(window, 1)
	}
	if me.guess {
		me.guess = false
		t.phase[n] = tcpEstablished
	}
	t.move(n, g)
	return t.class(), true
}

// move brings the states of the sides forward.
func (t *track) move(n int, g *segment) {
	mine, yours := &t.phase[n], &t.phase[1-n]
	if g.flags&packet.TCPAck != 0 {
		switch {
		case *mine == tcpSynSent && *yours == tcpSynReceived, *mine == tcpSynReceived && g.flags&packet.TCPSyn == 0 && *yours == tcpEstablished:
			*mine = tcpEstablished
		case *yours == tcpFinWait1 && g.ack == t.side[1-n].end:
			*yours = tcpFinWait2
		case *yours == tcpLastAck && g.ack == t.side[1-n].end:
			*yours, *mine = tcpTimeWait, tcpTimeWait
		}
		if *mine == tcpEstablished && *yours == tcpSynReceived {
			*yours = tcpEstablished
		}
	}
	if g.flags&packet.TCPFin != 0 {
		switch *mine {
		case tcpSynReceived, tcpEstablished:
			*mine = tcpFinWait1
			if *yours == tcpEstablished {
				*yours = tcpCloseWait
			}
		case tcpCloseWait:
			*mine = tcpLastAck
		}
	}
}

func (t *track) class() class {
	a, b := t.phase[0], t.phase[1]
	switch {
	case a == tcpClosed && b == tcpClosed:
		return ending
	case a < tcpEstablished || b < tcpEstablished:
		return opening
	case a >= tcpClosing && b >= tcpClosing:
		return ending
	}
	return standing
}

// addrOf is an address from its words.
func addrOf(v6 bool, hi, lo uint64) netip.Addr {
	if !v6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b)
}
