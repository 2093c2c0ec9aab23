package tcp

import (
	"net/netip"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// handshake is a connection that somebody else is opening: what its SYN said
// and what we answer.
type handshake struct {
	local, foreign socket.Addr
	lis            *conn
	iss, irs       seq
	tsRecent       uint32
	tsOffset       uint32
	mss            uint16 // the peer's option
	mtu            uint16
	wnd            uint16
	offer, userMSS uint16 // of the listener: the window offered, TCP_MAXSEG
	sndScale       uint8
	rcvScale       uint8
	flags          uint32 // fTimestamps, fSACK, fECN
	tries          uint8
	grant          bool // the answer brings a cookie (RFC 7413)
	sealed         bool // our sequence number is a cookie, and nobody keeps this
	ifindex        uint32
	policy         any   // of the listener: what it sends is protected by it
	at             int64 // when our SYN and ACK was sent first
}

// synEntry is a handshake that the cache keeps until it is complete.
type synEntry struct {
	handshake
	gone   bool
	next   *synEntry
	bucket *synBucket
	timer  callout.Timer[*netif.Work]
}

// synBuckets is the size of NetBSD's cache.
const synBuckets = 293

// synTries is how often our SYN and ACK is sent again.
const synTries = 5

// synCache holds them. Owner: the room. Bound: syn_cache_limit in all,
// syn_bucket_limit a bucket; full: cookies, or the oldest of the bucket goes.
type synCache struct {
	t       *TCP
	buckets [synBuckets]synBucket
	n       counter
	cookies cookieJar
}

type synBucket struct {
	mu    sync.Mutex
	first *synEntry // the newest
	n     int
}

func (sc *synCache) init(t *TCP) { sc.t = t }

func (sc *synCache) bucket(local, foreign socket.Addr) *synBucket {
	return &sc.buckets[sc.t.table.Hash(local, foreign)%synBuckets]
}

// find answers the entry of both ends; the caller holds the bucket.
func (b *synBucket) find(local, foreign socket.Addr) *synEntry {
	for e := b.first; e != nil; e = e.next {
		if e.foreign == foreign && e.local == local {
			return e
		}
	}
	return nil
}

// oldest is the entry that came first, or nil; the caller holds the bucket.
func (b *synBucket) oldest() *synEntry {
	e := b.first
	for e != nil && e.next != nil {
		e = e.next
	}
	return e
}

// unlink takes e out; the caller holds the bucket.
func (sc *synCache) unlink(e *synEntry) {
	if e.gone {
		return
	}
	e.gone = true
	for p := &e.bucket.first; *p != nil; p = &(*p).next {
		if *p == e {
			*p = e.next
			break
		}
	}
	e.bucket.n--
	sc.n.add(-1)
	sc.t.env.Wheel.Stop(&e.timer)
}

// listenInput takes a segment for a listening socket (RFC 9293 §3.10.7.2).
func (t *TCP) listenInput(w *netif.Work, lis *conn, s *segment, local, foreign socket.Addr) {
	b := t.syn.bucket(local, foreign)
	switch {
	case s.is(packet.TCPRst):
		t.syn.reset(w, b, s, local, foreign)
		s.pkt.Free()
	case s.is(packet.TCPSyn) && s.is(packet.TCPAck):
		w.Count(cntBadSyn)
		t.reset(w, s)
		s.pkt.Free()
	case s.is(packet.TCPAck):
		t.complete(w, lis, b, s, local, foreign)
	case s.is(packet.TCPSyn):
		t.synInput(w, lis, b, s, local, foreign)
		if s.pkt != nil {
			s.pkt.Free()
		}
	default:
		s.pkt.Free()
	}
}

// synInput makes an entry, or a cookie.
func (t *TCP) synInput(w *netif.Work, lis *conn, b *synBucket, s *segment, local, foreign socket.Addr) {
	if foreign.Port == 0 || local == foreign {
		w.Count(cntBadSyn)
		return
	}
	if lis.backlogFull() {
		w.Count(cntListenFull)
		return
	}
	v := t.env.MIB
	b.mu.Lock()
	if e := b.find(local, foreign); e != nil {
		if e.irs == s.seq { // the same SYN once more
			w.Count(cntScDup)
			if s.opt.HasTimestamp && e.flags&fTimestamps != 0 {
				e.tsRecent = s.opt.TSVal
			}
			t.synAck(w, &e.handshake)
			b.mu.Unlock()
			return
		}
		t.syn.unlink(e) // another connection, from the same port
	}
	taken, grant := t.fastInput(w, lis, s, local, foreign)
	if taken {
		b.mu.Unlock()
		return
	}
	h := t.newHandshake(w, lis, s, local, foreign)
	h.grant = grant
	full := t.syn.n.get() >= v.Int(nodeSynLimit) || int64(b.n) >= v.Int(nodeSynBucket)
	if full && v.On(nodeSynCookies) && s.last == nil { // a cookie's number may be anywhere
		b.mu.Unlock()
		w.Count(cntScOverflow)
		t.syn.cookies.seal(t, &h, w.Now)
		w.Count(cntCookieOut)
		t.synAck(w, &h)
		return
	}
	if full {
		w.Count(cntScOverflow)
		switch old := b.oldest(); {
		case old != nil:
			t.syn.unlink(old)
		case s.last == nil: // the cache is full of others
			b.mu.Unlock()
			return
		} // one that was in TIME_WAIT moves from there to here
	}
	w.Count(cntScAdded)
	e := &synEntry{handshake: h, bucket: b, next: b.first}
	b.first = e
	b.n++
	t.syn.n.add(1)
	e.timer.Fn = func(w *netif.Work) { t.syn.timeout(w, e) }
	t.env.Wheel.Reset(&e.timer, w.Now+t.env.MIB.Int(nodeSynIntvl)*second)
	t.synAck(w, &e.handshake)
	b.mu.Unlock()
}

// newHandshake is what a SYN asks for and is granted.
func (t *TCP) newHandshake(w *netif.Work, lis *conn, s *segment, local, foreign socket.Addr) handshake {
	flags, scale := t.wishes()
	o := &s.opt
	e := handshake{local: local, foreign: foreign, lis: lis, irs: s.seq, mss: o.MSS, wnd: uint16(min(s.wnd, 65535)),
		tsOffset: t.tsOffset(local, foreign), rcvScale: scale, ifindex: lis.So.BoundIf(), at: w.Now}
	e.offer, e.userMSS = lis.offers()
	lis.mu.Lock()
	e.policy = lis.policy(foreign)
	lis.mu.Unlock()
	if o.HasTimestamp && flags&fTimestamps != 0 {
		e.flags |= fTimestamps
		e.tsRecent = o.TSVal
	}
	if o.SACKOK {
		e.flags |= flags & fSACK
	}
	if o.HasWScale && scale != noScale {
		e.sndScale = o.WScale
	} else {
		e.rcvScale = noScale
	}
	if t.env.MIB.Int(nodeECN) != 0 && s.flags&(packet.TCPEce|packet.TCPCwr) == packet.TCPEce|packet.TCPCwr {
		e.flags |= fECN
	}
	e.iss = t.isn(local, foreign, w.Now, s.last)
	e.mtu = t.mtuTo(w, local, foreign, e.ifindex)
	return e
}

// mtuTo is the MTU of the path to foreign, as far as it is known.
func (t *TCP) mtuTo(w *netif.Work, local, foreign socket.Addr, ifindex uint32) uint16 {
	f := t.flows.get()
	defer t.flows.put(f)
	f.Plain()
	f.Src, f.Dst, f.IfIndex = local.IP, foreign.IP, ifindex
	mtu, err := t.nets.To(foreign.IP).PathMTU(f)
	if err != nil || mtu == 0 {
		mtu = floorMTU(foreign.IP.Is6())
	}
	return uint16(min(mtu, 65535))
}

// offerMTU is the MTU that the segment size we ask for is worked out from: the
// path's, or with mss_ifmtu the interface's, as the peer's way to us may be
// another one.
func (t *TCP) offerMTU(local, foreign socket.Addr, ifindex uint32, path uint16) uint16 {
	if !t.env.MIB.On(nodeMSSIfMTU) {
		return path
	}
	f := t.flows.get()
	defer t.flows.put(f)
	f.Plain()
	f.Src, f.Dst, f.IfIndex = local.IP, foreign.IP, ifindex
	if _, err := t.nets.To(foreign.IP).PathMTU(f); err != nil || f.Route.If == nil {
		return path
	}
	return uint16(min(f.Route.If.MTU(), 65535))
}

// synAck sends our half of the handshake. The caller holds e's bucket if it has
// one.
func (t *TCP) synAck(w *netif.Work, e *handshake) {
	mss := payloadOf(int(t.offerMTU(e.local, e.foreign, e.ifindex, e.mtu)), e.foreign.IP.Is6())
	if m := int(e.userMSS); m != 0 {
		mss = min(mss, m)
	}
	o := packet.TCPOptions{MSS: uint16(min(mss, 65495)), SACKOK: e.flags&fSACK != 0}
	if e.flags&fTimestamps != 0 {
		o.HasTimestamp, o.TSVal, o.TSEcr = true, clock32(w.Now)+e.tsOffset, e.tsRecent
		if e.sealed {
			o.TSVal = t.syn.cookies.stamp(e, o.TSVal)
		}
	}
	if e.rcvScale != noScale {
		o.HasWScale, o.WScale = true, e.rcvScale
	}
	if e.grant {
		o.HasFastOpen, o.FastOpen = true, t.fastCookie(e.foreign.IP)
	}
	flags := uint8(packet.TCPSyn | packet.TCPAck)
	if e.flags&fECN != 0 {
		flags |= packet.TCPEce
	}
	w.Count(cntOutCtl)
	t.respond(w, e.local, e.foreign, uint32(e.iss), uint32(e.irs+1), flags, e.window(), &o, e.ifindex, e.policy)
}

// window is what the SYN and ACK offers.
func (e *handshake) window() uint16 { return e.offer }

func (sc *synCache) timeout(w *netif.Work, e *synEntry) {
	e.bucket.mu.Lock()
	if e.gone {
		e.bucket.mu.Unlock()
		return
	}
	if e.tries++; e.tries > synTries || !e.lis.Listening() {
		w.Count(cntScTimedOut)
		w.Count(cntConnDrops)
		sc.unlink(e)
		e.bucket.mu.Unlock()
		return
	}
	sc.t.env.Wheel.Reset(&e.timer, w.Now+sc.t.env.MIB.Int(nodeSynIntvl)*second<<e.tries)
	w.Count(cntRexmtTimeo)
	sc.t.synAck(w, &e.handshake)
	e.bucket.mu.Unlock()
}

// reset is a RST for an entry: believed if it hits the next octet.
func (sc *synCache) reset(w *netif.Work, b *synBucket, s *segment, local, foreign socket.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.find(local, foreign); e != nil && s.seq == e.irs+1 {
		w.Count(cntScReset)
		sc.unlink(e)
	}
}

// unreachable is an ICMP error about our SYN and ACK.
func (sc *synCache) unreachable(w *netif.Work, src, dst netip.Addr, transport []byte) {
	if len(transport) < 8 {
		return
	}
	h := packet.TCP(transport)
	local, foreign := socket.Addr{IP: src, Port: h.SrcPort()}, socket.Addr{IP: dst, Port: h.DstPort()}
	b := sc.bucket(local, foreign)
	b.mu.Lock()
	defer b.mu.Unlock()
	// It has to quote the right number, and more than once (sc_flags in BSD).
	if e := b.find(local, foreign); e != nil && seq(h.Seq()) == e.iss && e.tries >= 1 {
		w.Count(cntScUnreach)
		sc.unlink(e)
	}
}

// drain forgets every entry.
func (sc *synCache) drain(w *netif.Work) {
	for i := range sc.buckets {
		b := &sc.buckets[i]
		b.mu.Lock()
		for b.first != nil {
			sc.unlink(b.first)
		}
		b.mu.Unlock()
	}
}

// complete takes the ACK that ends a handshake, and gives it to the connection.
func (t *TCP) complete(w *netif.Work, lis *conn, b *synBucket, s *segment, local, foreign socket.Addr) {
	c := t.completed(w, lis, b, s, local, foreign)
	if c == nil {
		s.pkt.Free()
		return
	}
	c.mu.Lock()
	c.segment(w, s)
	c.mu.Unlock()
}

// completed makes the connection of a handshake that ends with s; nil when it
// does not. The bucket is held until the entry has become a connection, so that
// whoever comes later, with another copy of the ACK or what follows it, finds
// one of the two.
func (t *TCP) completed(w *netif.Work, lis *conn, b *synBucket, s *segment, local, foreign socket.Addr) *conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := t.table.LookupConn(t.table.Hash(local, foreign), local, foreign, s.pkt.RcvIf); p != nil {
		return p.So.H.(*conn) // another receive queue was faster
	}
	e := b.find(local, foreign)
	h := handshake{}
	switch {
	case e == nil, s.ack != e.iss+1: // its SYN may have come twice, first to a full cache
		var ok bool
		if h, ok = t.syn.cookies.open(t, lis, s, local, foreign, w.Now); !ok {
			if t.syn.cookies.used(w.Now) {
				w.Count(cntCookieBad)
			}
			if !t.syn.cookies.early(s, w.Now) {
				t.reset(w, s)
			}
			return nil
		}
		w.Count(cntCookieOK)
	case s.seq.lt(e.irs+1) || s.seq.gt(e.irs+1+seq(e.window())),
		e.flags&fTimestamps != 0 && s.opt.HasTimestamp && int32(s.opt.TSVal-e.tsRecent) < 0:
		t.synAck(w, &e.handshake) // RFC 9293 §3.10.7.4, first
		return nil
	default:
		h = e.handshake
	}
	c := t.accept(w, lis, &h, s, nil)
	if c != nil && e != nil { // without room the peer will ask again
		t.syn.unlink(e)
		w.Count(cntScCompleted)
	}
	return c
}

// accept makes the connection of an entry and queues it at its listener; nil
// when there is no room. early is the listener's for one that its SYN alone
// opens. Whoever takes it from the queue finds it whole: our SYN goes first.
func (t *TCP) accept(w *netif.Work, lis *conn, e *handshake, s *segment, early *fastOpen) *conn {
	l := lis.lis.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= l.backlog {
		w.Count(cntListenFull)
		return nil
	}
	c := t.spawn(lis, e.local, e.foreign)
	if c == nil {
		return nil
	}
	c.mtu = e.mtu
	c.tsOffset = e.tsOffset
	c.irs, c.rcvNxt = e.irs, e.irs+1
	c.lastAck, c.rcvUp = c.rcvNxt, c.rcvNxt
	c.rcvAdv = c.rcvNxt + seq(e.window())
	c.iss, c.sndUna, c.sndNxt = e.iss, e.iss+1, e.iss+1
	c.on(e.flags)
	if e.flags&fTimestamps != 0 {
		c.tsRecent, c.tsRecentAt = e.tsRecent, w.Now
	}
	if e.rcvScale != noScale {
		c.sndScale, c.rcvScale = e.sndScale, e.rcvScale
	}
	c.peerMSS = t.peerMSS(e.mss, e.foreign.IP.Is6())
	c.begin()
	if e.tries == 0 && e.at != 0 {
		c.rtt.sample(w.Now-e.at, w.Now)
	} else if e.tries > 1 {
		c.cc.cwnd = uint32(c.mss)
	}
	c.sndWnd, c.sndWl1, c.sndWl2 = s.wnd<<c.sndScale, s.seq-1, s.ack
	if early != nil {
		c.rare().fast = &fastOpen{of: early}
		c.on(fSynUnacked | fSynDue)
		c.sndWnd, c.sndWl1, c.sndWl2 = s.wnd, s.seq, c.iss // a SYN's is not scaled
	}
	c.maxWnd = c.sndWnd
	w.Count(cntAccept)
	c.establish(w)
	c.mu.Unlock()
	l.queue = append(l.queue, c)
	lis.So.Changed(w)
	return c
}

// spawn makes the socket and the block of a connection that comes in. The block
// is locked: segments find it from now on, and are to find it whole.
func (t *TCP) spawn(lis *conn, local, foreign socket.Addr) *conn {
	id, ok := t.conf.NewSocket()
	if !ok {
		return nil
	}
	so := socket.New(t.env, lis.So.Family, socket.Stream, packet.ProtoTCP, lis.So.Cred, 0, 0, id, t.conf.SocketMemory)
	so.Inherit(lis.So)
	so.OnClose(t.conf.Closed)
	c := t.newConn(so)
	c.inherit(lis)
	c.mu.Lock()
	if err := t.table.Adopt(&c.PCB, socket.Ends{Local: local, Foreign: foreign}); err != nil {
		t.conf.Closed()
		return nil
	}
	return c
}

// offers is what a listening socket has the peer told: the window, and
// TCP_MAXSEG.
func (c *conn) offers() (wnd, mss uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint16(min(c.rcv.hiwat, 65535)), c.userMSS
}

// inherit takes over the options of the listening socket.
func (c *conn) inherit(lis *conn) {
	lis.mu.Lock()
	defer lis.mu.Unlock()
	c.on(lis.flags & (fNoDelay | fNoPush | fSndFixed | fRcvFixed))
	c.snd.hiwat, c.rcv.hiwat = lis.snd.hiwat, lis.rcv.hiwat
	c.userMSS = lis.userMSS
	if lis.opts != nil {
		c.opts = lis.opts.Inherit(c.So)
	}
	if lis.more != nil && lis.more.keep != nil {
		c.rare().keep = lis.more.keep
	}
	c.cc.alg = lis.cc.alg
}
