package tcp

import (
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// seq is a sequence number (RFC 9293 §3.4): comparisons are modulo 2^32.
type seq uint32

func (a seq) lt(b seq) bool  { return int32(a-b) < 0 }
func (a seq) leq(b seq) bool { return int32(a-b) <= 0 }
func (a seq) gt(b seq) bool  { return int32(a-b) > 0 }
func (a seq) geq(b seq) bool { return int32(a-b) >= 0 }

func maxSeq(a, b seq) seq {
	if a.gt(b) {
		return a
	}
	return b
}

func minSeq(a, b seq) seq {
	if a.lt(b) {
		return a
	}
	return b
}

// state is a connection's (RFC 9293 §3.3.2). SYN_RECEIVED is for the most part
// an entry of the SYN cache, TIME_WAIT one of timeWaits.
type state uint8

const (
	closed state = iota
	listen
	synSent
	synReceived
	established
	closeWait
	finWait1
	closing
	lastAck
	finWait2
	timeWaitState // of the table only
)

var stateNames = [...]string{"CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "CLOSE_WAIT",
	"FIN_WAIT_1", "CLOSING", "LAST_ACK", "FIN_WAIT_2", "TIME_WAIT"}

func (s state) String() string { return stateNames[s] }

// synchronized: both sides have seen the other's SYN.
func (s state) synchronized() bool { return s >= established }

// canSend: the user may still send.
func (s state) canSend() bool { return s == established || s == closeWait }

// canReceive: the peer may still send.
func (s state) canReceive() bool { return s == established || s == finWait1 || s == finWait2 }

// Flags of a connection.
const (
	fTimestamps = 1 << iota // agreed on (RFC 7323)
	fSACK                   // agreed on
	fECN                    // agreed on
	fNoDelay                // TCP_NODELAY
	fNoPush                 // TCP_NOPUSH: only whole segments
	fAckNow                 // an acknowledgement is owed at once
	fDelAck                 // one is owed before long
	fECE                    // congestion experienced is to be echoed until CWR
	fSendCWR                // and the peer told that we have slowed down
	fFinQueued              // the user has ended sending
	fFinSent                // and the FIN has been sent
	fFinSeen                // the peer's FIN is in the stream before rcvNxt
	fCantRecv               // the user has ended receiving
	fDetached               // the user has closed the socket
	fSndFixed               // SO_SNDBUF was set: no tuning
	fRcvFixed               // SO_RCVBUF was set
	fUrgent                 // sndUp is ahead of sndUna
	fOOBHave                // oob holds an octet
	fOOBTaken               // the octet at the mark has been received
	fPersist                // the retransmission timer is the persist timer
	fSndFull                // a send has met a full buffer
	fForceWin               // send a window update
	fProbe                  // send a window probe
	fTailProbe              // send a tail loss probe
	fSynDue                 // send our SYN
	fKeepProbe              // send a keepalive probe
	fActive                 // opened by connect
	fSynHeld                // our SYN waits for data (RFC 7413)
	fSynUnacked             // established by a SYN alone: ours is not acknowledged yet
	fReachable              // the network layer is to hear that what we send arrives
)

// conn is a connection's control block (tcpcb). It is one allocation with the
// parts that every connection has; what only a busy one needs hangs off it.
type conn struct {
	socket.PCB
	t    *TCP
	opts socket.NetOptions        // nil until an option at the network's level is set
	lis  atomic.Pointer[listener] // of a listening socket

	wmu sync.Mutex // one sender at a time; never taken by input

	mu      sync.Mutex
	flags   uint32
	state   state
	flusher bool // on a Work's list of flushers
	want    bool // has something to send
	gone    bool // out of the table

	sndScale, rcvScale uint8
	dupAcks            uint8
	shift              uint8 // back-off of the retransmission or persist timer
	keepSent           uint8
	quick              uint8 // acknowledgements that are sent at once
	oob                byte
	dupOwed            uint8 // acknowledgements that segments out of order are worth
	frto               uint8
	tlp                bool // a tail loss probe is on its way
	tlpData            bool // the probe was new data
	rexTimed           bool // sb.rexTS counts

	// Send sequence (RFC 9293 §3.3.1). Window sizes are octets.
	iss, sndUna, sndNxt, sndUp, sndWl1, sndWl2 seq
	sndWnd, maxWnd                             uint32
	// Receive sequence. rcvAdv is the right edge that has been advertised.
	irs, rcvNxt, rcvAdv, rcvUp, lastAck seq
	tsRecent, tsOffset                  uint32
	tsRecentAt                          int64

	mss     uint16 // payload of a segment with timestamps, without SACK
	peerMSS uint16 // what the peer asked for
	rcvMSS  uint16 // its segments' size, as seen
	mtu     uint16 // of the path, 0: not known yet
	userMSS uint16 // TCP_MAXSEG
	soft    uint16 // what the network last said, an errno (RFC 9293 §3.9.2.2)
	hinted  uint32 // when it last heard that, in seconds

	snd sendQueue
	rcv recvQueue
	rtt rtt
	cc  congestion

	sb   *scoreboard  // nil when nothing is in flight
	ooo  *reassembly  // nil when nothing is out of order
	flow *socket.Flow // the flusher's; nil when there is nothing in flight

	lastSent int64            // when data was last sent, or the first SYN; 0: never
	dsack    packet.SACKBlock // to be reported (RFC 2883)

	more *more // what few connections have

	timer callout.Timer[*netif.Work]
	due   [ntimers]int64 // when what is due, 0: not; the timer is at or before the earliest
	armed int64          // when the timer fires; 0: it is not armed
	idle  int64          // when the last segment came
}

// more is what few connections have.
type more struct {
	keep   *keepOptions
	search *mtuSearch // after a black hole
	fast   *fastOpen
}

// rare is c.more, made when first needed. The caller holds mu.
func (c *conn) rare() *more {
	if c.more == nil {
		c.more = &more{}
	}
	return c.more
}

// newConn makes a connection that is in no table yet.
func (t *TCP) newConn(so *socket.Socket) *conn {
	c := &conn{t: t}
	c.PCB.Init(so)
	c.timer.Fn = c.expire
	v := t.env.MIB
	c.snd.hiwat, c.rcv.hiwat = int(v.Int(nodeSendSpace)), int(v.Int(nodeRecvSpace))
	c.cc.init(v.Str(nodeCong))
	c.quick = quickAcks
	c.rcv.mark = -1
	so.H = c
	return c
}

// quickAcks is for how many segments a connection acknowledges at once when it
// is new or something has been lost: the peer's window is small then, and has
// nothing else to open it.
const quickAcks = 16

// v6 reports whether the connection is over IPv6, and net is its network layer.
func (c *conn) v6() bool            { return c.foreign().IP.Is6() }
func (c *conn) net() socket.Network { return c.t.nets.To(c.foreign().IP) }

// on and has are for the flags; the caller holds mu.
func (c *conn) on(f uint32)       { c.flags |= f }
func (c *conn) off(f uint32)      { c.flags &^= f }
func (c *conn) has(f uint32) bool { return c.flags&f != 0 }

// kick has the connection send what there is, at the end of the call. The
// caller holds mu.
func (c *conn) kick(w *netif.Work) {
	c.want = true
	if !c.flusher {
		c.flusher = true
		w.FlushLater(c)
	}
}

// ackNow owes the peer an acknowledgement. The caller holds mu.
func (c *conn) ackNow(w *netif.Work) {
	c.on(fAckNow)
	c.kick(w)
}

// establish is the end of the handshake.
func (c *conn) establish(w *netif.Work) {
	c.state = established
	w.Count(cntEstablished)
	c.due[tRexmt], c.due[tKeep] = 0, 0
	c.off(fPersist)
	c.shift = 0
	c.idle = w.Now
	if c.has(fECN) {
		w.Count(cntECNShook)
	}
	if c.has(fFinQueued) { // shut down meanwhile
		c.state = finWait1
	}
	c.keepalive(w.Now)
	c.So.Changed(w)
}

// fail ends the connection with an error for the user (tcp_drop). The caller
// holds mu.
func (c *conn) fail(w *netif.Work, err syscall.Errno) {
	if c.state != closed {
		w.Count(cntDrops)
	}
	c.drop(w, err)
}

// drop ends the connection: nothing of it is left but what the user has still
// to receive and to be told (tcp_close). The caller holds mu.
func (c *conn) drop(w *netif.Work, err syscall.Errno) {
	if c.gone {
		return
	}
	switch {
	case c.state == synSent || c.state == synReceived:
		w.Count(cntConnDrops)
	case c.state != listen && c.state != closed:
		w.Count(cntClosed)
	}
	if c.has(fSynUnacked) {
		c.synAcked(w)
	}
	c.gone = true
	c.state = closed
	c.due = [ntimers]int64{}
	if c.armed != 0 {
		c.armed = 0
		c.t.env.Wheel.Stop(&c.timer)
	}
	c.t.table.Remove(&c.PCB)
	if c.flow != nil && !c.flusher {
		c.t.flows.put(c.flow)
		c.flow = nil
	}
	c.dropSend()
	if c.ooo != nil {
		c.ooo.drop(c)
		c.ooo = nil
	}
	if c.has(fDetached) {
		c.rcv.drop(c)
	}
	if err != 0 {
		c.So.SetError(w, err)
	}
	c.So.Changed(w)
}

// dropSend forgets what was to be sent.
func (c *conn) dropSend() {
	c.snd.drop(c)
	if c.sb != nil {
		c.landed()
	}
	c.want = false
}

// landed: nothing is in flight any more.
func (c *conn) landed() {
	c.t.boards.put(c.sb)
	c.sb, c.tlp, c.rexTimed = nil, false, false
}

// local and foreign are the two ends.
func (c *conn) local() socket.Addr   { return c.Ends().Local }
func (c *conn) foreign() socket.Addr { return c.Ends().Foreign }

// inFlight is what has been sent, is not acknowledged, and not held to be
// lost (RFC 6675's pipe).
func (c *conn) inFlight() uint32 {
	n := uint32(c.sndNxt - c.sndUna)
	if c.sb != nil {
		n -= c.sb.sacked + c.sb.lost
	}
	return n
}
