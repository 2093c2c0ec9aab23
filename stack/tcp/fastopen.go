package tcp

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// TCP Fast Open (RFC 7413). A server that has it on (TCP_FASTOPEN on the
// listening socket: how many connections may be open before their handshake
// is complete) gives a cookie to who asks, and takes the data of a SYN that
// brings it back. A client that has it on asks for a cookie with its first
// connection; with one at hand, connect answers at once and the SYN waits for
// the first data, which it carries.

// fastOpen is what a socket with the option on has.
type fastOpen struct {
	limit   int          // of a listening socket: its option's value
	pending atomic.Int32 // of those that count against the limit
	of      *fastOpen    // of a connection taken by its SYN: its listener's
	cookie  []byte       // a client's; nil: it asks for one
	early   bool         // connect had a cookie at hand, and has said yes
}

const (
	// fastWait is how long a SYN waits for the first data.
	fastWait = 10 * millisecond
	// maxFastPeers bounds the cookies that are kept.
	maxFastPeers = 4096
)

// fastPeers keeps the cookies of servers. Owner: the room. Bound:
// maxFastPeers; full: another one goes.
type fastPeers struct {
	mu    sync.Mutex
	peers map[netip.Addr]fastPeer
}

type fastPeer struct {
	cookie [16]byte
	n      uint8
	mss    uint16
}

func (f *fastPeers) find(ip netip.Addr) (p fastPeer, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok = f.peers[ip]
	return p, ok
}

func (f *fastPeers) keep(ip netip.Addr, cookie []byte, mss uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peers == nil {
		f.peers = make(map[netip.Addr]fastPeer)
	}
	if len(f.peers) >= maxFastPeers {
		for ip := range f.peers { // map order: any may go, and is asked for again
			delete(f.peers, ip)
			break
		}
	}
	p := fastPeer{n: uint8(len(cookie)), mss: mss}
	copy(p.cookie[:], cookie)
	f.peers[ip] = p
}

func (f *fastPeers) forget(ip netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.peers, ip)
}

// fastCookie is the cookie for a client's address (§4.1.2), eight octets.
func (t *TCP) fastCookie(ip netip.Addr) []byte {
	return binary.BigEndian.AppendUint64(nil, t.hash(socket.Addr{IP: ip}, socket.Addr{IP: ip}, hashFastOpen))
}

// setFastOpen is the option TCP_FASTOPEN. The caller holds mu.
func (c *conn) setFastOpen(n int) {
	m := c.rare()
	if n == 0 {
		m.fast = nil
	} else if m.fast == nil {
		m.fast = &fastOpen{}
	}
	if m.fast != nil {
		m.fast.limit = n
	}
}

// fast is what the socket has of Fast Open, or nil. The caller holds mu.
func (c *conn) fast() *fastOpen {
	if c.more == nil {
		return nil
	}
	return c.more.fast
}

// holdSyn reports that the SYN waits for data, since there is a cookie that
// lets it carry some. The caller holds mu.
func (c *conn) holdSyn(w *netif.Work) bool {
	f := c.fast()
	if f == nil || !c.t.env.MIB.On(nodeFastClient) {
		return false
	}
	c.more.fast = &fastOpen{limit: f.limit}
	p, ok := c.t.fastPeers.find(c.foreign().IP)
	if !ok {
		return false
	}
	c.more.fast.cookie, c.more.fast.early = append([]byte(nil), p.cookie[:p.n]...), true
	c.peerMSS = p.mss
	c.setMSS()
	c.on(fSynHeld)
	c.setTimer(tDelAck, w.Now+fastWait, w.Now)
	return true
}

// opensEarly reports that the user holds a connection for open whose SYN is not
// answered yet. The caller holds mu.
func (c *conn) opensEarly() bool {
	f := c.fast()
	return c.state == synSent && f != nil && f.early
}

// letSyn sends the SYN that has waited. The caller holds mu.
func (c *conn) letSyn(w *netif.Work) {
	c.off(fSynHeld)
	c.due[tDelAck] = 0
	c.on(fSynDue)
	c.kick(w)
}

// fastSyn adds to our SYN what asks for a cookie, or the cookie itself, and
// answers how many octets of data go with it. A SYN that is sent again has
// neither: it may have been lost for them (§4.2.1).
func (c *conn) fastSyn(o *packet.TCPOptions) (data int) {
	f := c.fast()
	if f == nil || c.state != synSent || !c.t.env.MIB.On(nodeFastClient) {
		return 0
	}
	if c.shift > 0 {
		c.t.fastPeers.forget(c.foreign().IP)
		f.cookie = nil
		return 0
	}
	o.HasFastOpen, o.FastOpen = true, f.cookie
	if f.cookie == nil {
		return 0
	}
	var b [packet.TCPMaxLen - packet.TCPLen]byte
	room := c.maxSegment(int(c.mtu)) - o.Put(b[:])
	n := c.snd.len
	if c.has(fUrgent) { // a SYN has no urgent pointer
		n = int(c.sndUp-c.snd.base) - 1
	}
	return max(min(n, room, int(c.peerMSS)), 0)
}

// fastOpened takes what a SYN and ACK says: the cookie, and whether the data
// was taken. The connection is set up.
func (c *conn) fastOpened(w *netif.Work, s *segment) {
	if o := &s.opt; o.HasFastOpen && len(o.FastOpen) > 0 && c.fast() != nil {
		c.t.fastPeers.keep(c.foreign().IP, o.FastOpen, c.peerMSS)
	}
	if c.sb == nil {
		return
	}
	if s.ack.gt(c.sndUna) {
		w.Count(cntFastOut)
		c.advance(w, s.ack, func(*record) {})
	}
	if c.sb.len() == 0 {
		c.landed()
		return
	}
	c.sb.loseAll(w.Now) // not taken: it is no congestion
}

// fastInput takes a SYN with a good cookie: the connection is there at once.
// It answers false when the SYN is one like others, grant that its answer is
// to bring a cookie.
func (t *TCP) fastInput(w *netif.Work, lis *conn, s *segment, local, foreign socket.Addr) (taken, grant bool) {
	if !s.opt.HasFastOpen || !t.env.MIB.On(nodeFastServer) {
		return false, false
	}
	lis.mu.Lock()
	f, limit := lis.fast(), 0
	if f != nil {
		limit = f.limit
	}
	lis.mu.Unlock()
	if limit == 0 {
		return false, false
	}
	if string(s.opt.FastOpen) != string(t.fastCookie(foreign.IP)) {
		if len(s.opt.FastOpen) > 0 {
			w.Count(cntFastBad)
		}
		return false, true
	}
	if int(f.pending.Add(1)) > limit {
		f.pending.Add(-1)
		w.Count(cntFastFull)
		return false, false
	}
	h := t.newHandshake(w, lis, s, local, foreign)
	h.at = 0 // no round trip is measured
	c := t.accept(w, lis, &h, s, f)
	if c == nil {
		f.pending.Add(-1)
		return true, false // the peer will ask again
	}
	w.Count(cntFastIn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone { // accepted and closed already
		return true, false
	}
	s.seq++
	s.flags &^= packet.TCPSyn
	c.trim(w, s)
	if s.pkt.Len() > 0 || s.is(packet.TCPFin) {
		c.dataInput(w, s)
		s.pkt = nil
	}
	if !c.gone {
		c.kick(w)
	}
	return true, false
}

// fillSynAck sends the SYN and ACK of a connection that its SYN has opened.
func (c *conn) fillSynAck(w *netif.Work, out []outgoing) int {
	c.off(fSynDue)
	o := packet.TCPOptions{MSS: c.offerMSS(), SACKOK: c.has(fSACK)}
	if c.has(fTimestamps) {
		o.HasTimestamp, o.TSVal, o.TSEcr = true, c.now32(w.Now), c.tsRecent
	}
	if c.sndScale != 0 || c.rcvScale != 0 {
		o.HasWScale, o.WScale = true, c.rcvScale
	}
	flags := uint8(packet.TCPSyn | packet.TCPAck)
	if c.has(fECN) && c.shift == 0 {
		flags |= packet.TCPEce
	}
	if c.due[tRexmt] == 0 {
		c.armSyn(w)
	}
	var ob [packet.TCPMaxLen - packet.TCPLen]byte
	hlen := packet.TCPLen + o.Put(ob[:])
	p := c.t.env.Pool.Get(hlen)
	if p == nil {
		w.Count(cntOutNoMem)
		return 0
	}
	w.Count(cntOutCtl)
	c.head(w, p, c.iss, hlen, ob[:], flags)
	out[0] = outgoing{pkt: p}
	return 1
}

// synAcked: the handshake of such a connection is complete.
func (c *conn) synAcked(w *netif.Work) {
	c.off(fSynUnacked | fSynDue)
	c.more.fast.of.pending.Add(-1)
	c.shift = 0
	if c.sb == nil && !c.has(fPersist) {
		c.due[tRexmt] = 0
	}
}
