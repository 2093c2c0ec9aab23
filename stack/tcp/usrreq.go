package tcp

import (
	"sync"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

const (
	soKeepAlive = socket.SOKeepAlive
	soOOBInline = socket.SOOOBInline
	lowPort     = 1024 // the first that anybody may bind (IPPORT_RESERVED)
)

// listener is what a listening socket has beside a connection. Lock order:
// before every connection's.
type listener struct {
	mu      sync.Mutex
	queue   []*conn // established, not accepted; bound: backlog; full: the peer asks again
	backlog int
	closed  bool
}

// Socket makes a stream socket.
func (t *TCP) Socket(w *netif.Work, family int, cred socket.Cred, id uint64) (*socket.Socket, error) {
	if t.nets.For(family) == nil {
		return nil, syscall.EAFNOSUPPORT
	}
	so := socket.New(t.env, family, socket.Stream, packet.ProtoTCP, cred, 0, 0, id, t.conf.SocketMemory)
	c := t.newConn(so)
	t.table.Add(&c.PCB)
	return so, nil
}

func (c *conn) ports() socket.Ports {
	c.mu.Lock()
	low := socket.LowPorts(c.opts)
	c.mu.Unlock()
	min, max := c.t.nets.For(c.So.Family).PortRange(low)
	return socket.Ports{Min: min, Max: max, Rand: c.t.env.Rand32}
}

// Bind is socket.Handler. Errors: EAFNOSUPPORT, EADDRNOTAVAIL, EACCES (a low
// port, not the superuser), EADDRINUSE, EINVAL (bound already).
func (c *conn) Bind(w *netif.Work, a socket.Addr) error {
	if a.IP.IsValid() {
		n := c.t.nets.To(a.IP)
		if n == nil {
			return syscall.EAFNOSUPPORT
		}
		if err := n.CheckBind(a.IP); err != nil {
			return err
		}
		if a.IP.IsMulticast() || n.IsBroadcast(a.IP) {
			return syscall.EADDRNOTAVAIL
		}
	}
	ports := c.ports()
	if !c.So.Cred.Super && (a.Port != 0 && a.Port < lowPort || a.Port == 0 && ports.Max < lowPort) {
		return syscall.EACCES
	}
	return c.t.table.Bind(&c.PCB, a, ports)
}

// Connect is socket.Handler. Errors: EINPROGRESS (when it has begun; nil with a Fast
// Open cookie at hand),
// EALREADY, EISCONN, EOPNOTSUPP (listening), EAFNOSUPPORT, EADDRNOTAVAIL,
// ENETUNREACH and the like, EINVAL (the socket has had its connection).
func (c *conn) Connect(w *netif.Work, a socket.Addr) error {
	c.mu.Lock()
	st, gone := c.state, c.gone
	c.mu.Unlock()
	n := c.t.nets.To(a.IP)
	switch {
	case gone:
		return syscall.EINVAL
	case st == listen:
		return syscall.EOPNOTSUPP
	case st == synSent, st == synReceived:
		return syscall.EALREADY
	case st != closed:
		return syscall.EISCONN
	case !a.IP.IsValid():
		return syscall.ENOTCONN
	case n == nil:
		return syscall.EAFNOSUPPORT
	case !c.Reaches(a.IP): // bound in the other IP version
		return syscall.EINVAL
	case a.Port == 0, a.IP.IsMulticast():
		return syscall.EADDRNOTAVAIL
	case n.IsBroadcast(a.IP):
		return syscall.EACCES
	}
	e := *c.Ends()
	f := c.t.flows.get()
	defer c.t.flows.put(f)
	f.Plain()
	f.Src, f.Dst = e.Local.IP, a.IP
	f.DontRoute, f.IfIndex = c.So.Opt(socket.SODontRoute), c.So.BoundIf()
	c.mu.Lock()
	o := c.opts
	c.mu.Unlock()
	if o != nil && a.IP.Is6() { // a source and an interface may be wished for (RFC 3542 §6.2)
		o.Fill(f)
	}
	var err error
	if e.Local.IP.IsValid() {
		_, err = n.PathMTU(f)
	} else {
		e.Local.IP, err = n.Source(f)
	}
	if err != nil {
		return err
	}
	if a.IP.IsUnspecified() { // this host, in_pcbconnect
		a.IP = e.Local.IP
	}
	e.Foreign = a
	if e.Local == e.Foreign {
		return syscall.EADDRINUSE
	}
	if err := c.t.table.Connect(&c.PCB, e, c.ports()); err != nil {
		return err
	}
	e = *c.Ends()
	last := c.t.tw.find(c.t.table.Hash(e.Local, e.Foreign), e.Local, e.Foreign)
	if last != nil {
		c.t.tw.retire(last)
	}
	mtu := f.Route.MTU
	if mtu == 0 {
		mtu = floorMTU(a.IP.Is6())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.startConnect(w, mtu, last) {
		return nil
	}
	return syscall.EINPROGRESS
}

// Listen is socket.StreamHandler. A socket that is not bound gets a port.
func (c *conn) Listen(w *netif.Work, backlog int) error {
	limit := int(c.t.env.MIB.Int(NodeSoMaxConn))
	if backlog < 0 || backlog > limit {
		backlog = limit
	}
	backlog = max(backlog, 1)
	c.mu.Lock()
	st, gone, l := c.state, c.gone, c.lis.Load()
	c.mu.Unlock()
	switch {
	case gone || st != closed && st != listen:
		return syscall.EINVAL
	case l != nil:
		l.mu.Lock()
		l.backlog = backlog
		l.mu.Unlock()
		return nil
	}
	if c.Ends().Local.Port == 0 {
		if err := c.t.table.Bind(&c.PCB, c.Ends().Local, c.ports()); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.state = listen
	c.mtu = 0
	c.lis.Store(&listener{backlog: backlog})
	c.mu.Unlock()
	return nil
}

// Listening is socket.StreamHandler.
func (c *conn) Listening() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == listen
}

// backlogFull reports that a handshake would end before a full queue.
func (c *conn) backlogFull() bool {
	l := c.lis.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || len(l.queue) >= l.backlog
}

// Accept is socket.StreamHandler.
func (c *conn) Accept(w *netif.Work) (*socket.Socket, error) {
	l := c.lis.Load()
	if l == nil {
		return nil, syscall.EINVAL
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, syscall.EINVAL
	}
	if len(l.queue) == 0 {
		return nil, syscall.EWOULDBLOCK
	}
	n := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return n.So, nil
}

// closeListener resets what nobody has accepted.
func (c *conn) closeListener(w *netif.Work) {
	l := c.lis.Load()
	l.mu.Lock()
	l.closed = true
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, n := range queue {
		n.So.Abort(w)
	}
}

// Send is socket.Handler. Errors: EWOULDBLOCK, ENOTCONN, EPIPE (shut down, or
// the connection has ended), ENOBUFS.
func (c *conn) Send(w *netif.Work, m *socket.Msg) (int, error) {
	if m.Addr.IP.IsValid() && m.Addr != c.foreign() {
		return 0, syscall.EISCONN
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	data, oob := m.Data, m.Flags&socket.MsgOOB != 0
	taken := 0
	for {
		n, k, size, err := c.reserve(data, oob)
		taken += n
		data = data[n:]
		if err != nil {
			if taken > 0 {
				break
			}
			return 0, err
		}
		if k == 0 {
			break
		}
		// What does not fit the last buffer is copied without the lock.
		b := c.t.env.Pool.Get(size)
		if b == nil {
			if taken > 0 {
				break
			}
			return 0, syscall.ENOBUFS
		}
		copy(b.Append(k), data)
		c.mu.Lock()
		if c.gone || c.has(fFinQueued) {
			c.mu.Unlock()
			b.Free()
			break
		}
		c.snd.link(c, b)
		c.markUrgent(oob && k == len(data))
		c.sendMore(w)
		c.mu.Unlock()
		data = data[k:]
		taken += k
		if len(data) == 0 {
			break
		}
	}
	if taken > 0 {
		c.mu.Lock()
		c.sendMore(w)
		if c.has(fSynHeld) {
			c.letSyn(w)
		}
		c.mu.Unlock()
	}
	return taken, nil
}

// sendMore has what was queued sent if it may be; the caller holds mu.
func (c *conn) sendMore(w *netif.Work) {
	if c.state.synchronized() && !c.flusher {
		c.kick(w)
	} else if c.state.synchronized() {
		c.want = true
	}
}

// markUrgent makes the last octet of the send queue the urgent one. The caller
// has put it there under the same hold of mu, before anybody could send it. The
// peer hears of it at once, also when no window lets the octet go.
func (c *conn) markUrgent(oob bool) {
	if oob {
		c.sndUp = c.snd.base + seq(c.snd.len)
		c.on(fUrgent | fAckNow)
	}
}

// reserve fills the last buffer with what of data fits, and answers how much
// that was, how much of the rest a next buffer may take, 0 when there is no room
// or nothing left, and how large that buffer is to be.
func (c *conn) reserve(data []byte, oob bool) (n, next, size int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == synSent && c.has(fSynHeld):
	case c.state == synSent, c.state == synReceived:
		return 0, 0, 0, syscall.EWOULDBLOCK
	case c.has(fFinQueued):
		return 0, 0, 0, syscall.EPIPE
	case c.gone && c.has(fActive), c.gone && c.irs != 0:
		return 0, 0, 0, syscall.EPIPE
	case !c.state.canSend():
		return 0, 0, 0, syscall.ENOTCONN
	}
	if len(data) == 0 {
		return 0, 0, 0, nil
	}
	space := c.snd.space()
	if oob {
		space += urgentRoom
	}
	if space <= 0 || c.So.Full() && c.snd.len > 0 {
		c.on(fSndFull)
		return 0, 0, 0, syscall.EWOULDBLOCK
	}
	if c.So.Full() { // a little, so that nobody is shut out
		space = min(space, scarce)
	}
	space = min(space, len(data))
	if t := c.snd.tail; t != nil {
		if n = min(c.roomBehind(t), space); n > 0 {
			copy(t.Append(n), data)
			c.snd.len += n
			space -= n
			c.markUrgent(oob && n == len(data))
		}
	}
	if space == 0 {
		if n < len(data) {
			c.on(fSndFull)
		}
		return n, 0, 0, nil
	}
	size = c.bufferFor(space)
	return n, min(space, size), size, nil
}

// urgentRoom is what urgent data may be too much for the send buffer, so that it
// gets into one that is stuck (sosend).
const urgentRoom = 1024

// scarce is what an empty send queue still takes when sockets hold their share
// of the stack's buffers: no more than the buffer of a frame holds.
const scarce = 1460

// roomBehind is how much may be appended to a buffer of the send queue so that
// it holds whole segments.
func (c *conn) roomBehind(b *packet.Buf) int {
	room := b.Cap() - packet.Headroom
	filled := room - b.Tailroom()
	return max(min(c.wholeSegments(room)-filled, b.Tailroom()), 0)
}

// wholeSegments is the largest number of octets below n that is a number of
// segments, or n when it is less than one.
func (c *conn) wholeSegments(n int) int {
	n = min(n, maxSuper)
	if mss := int(c.mss); mss > 0 && n >= mss {
		return n - n%mss
	}
	return n
}

// Packet is socket.Packer.
func (c *conn) Packet() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wholeSegments(maxSuper)
}

// bufferFor is the size of the next buffer, for n octets that are there: larger
// than they are when they wait behind others, since the next write joins them
// before they leave.
func (c *conn) bufferFor(n int) int {
	if whole := c.wholeSegments(maxSuper); n >= whole || c.unsent() >= whole {
		return whole
	}
	return n
}

// Recv is socket.StreamHandler.
func (c *conn) Recv(w *netif.Work, m *socket.Msg) error {
	if m.Flags&socket.MsgOOB != 0 {
		return c.recvOOB(m)
	}
	peek := m.Flags&socket.MsgPeek != 0
	want := len(m.Data)
	c.mu.Lock()
	if c.rcv.len == 0 {
		return c.recvNothing(m, peek)
	}
	m.Flags, m.Addr = 0, c.foreign()
	if c.rcv.mark > 0 { // a read stops at the mark
		want = min(want, int(c.rcv.mark))
	}
	if peek {
		n := 0
		for p := c.rcv.head; p != nil && n < want; p = p.Next {
			n += copy(m.Data[n:want], p.Bytes())
		}
		c.mu.Unlock()
		m.Data, m.Size = m.Data[:n], n
		return nil
	}
	// Whole packets are taken out and copied without the lock.
	var head, tail *packet.Buf
	n, charge := 0, 0
	for c.rcv.head != nil && n+c.rcv.head.Len() <= want {
		p := c.rcv.take()
		n += p.Len()
		charge += p.Cap()
		if tail == nil {
			head = p
		} else {
			tail.Next = p
		}
		tail = p
	}
	rest := 0
	if p := c.rcv.head; p != nil && n < want {
		rest = copy(m.Data[n:want], p.Bytes())
		p.TrimFront(rest)
		c.rcv.len -= rest
	}
	c.rcv.charge -= charge
	if c.rcv.mark >= 0 {
		if c.rcv.mark -= int32(n + rest); c.rcv.mark < 0 {
			c.rcv.mark = -1
		}
	}
	c.tuneRecv(w, n+rest)
	if c.windowMoved() {
		c.on(fForceWin)
		c.kick(w)
	}
	c.mu.Unlock()
	c.So.Charge(-charge)
	at, k := 0, 0
	var done [burst]*packet.Buf
	for p := head; p != nil; p = p.Next {
		at += copy(m.Data[at:], p.Bytes())
		if k == len(done) { // p is behind them
			packet.FreeBurst(done[:])
			k = 0
		}
		done[k] = p
		k++
	}
	packet.FreeBurst(done[:k])
	m.Data, m.Size = m.Data[:n+rest], n+rest
	m.Time = w.Now
	return nil
}

// recvNothing is Recv when there is no data: why. It lets the lock go.
func (c *conn) recvNothing(m *socket.Msg, peek bool) error {
	end := c.has(fFinSeen|fCantRecv|fDetached) || c.gone
	fresh := !c.gone && (c.state == closed || c.state == listen)
	c.mu.Unlock()
	if err := c.So.PendingError(!peek); err != nil {
		return err
	}
	switch {
	case end:
		m.Data, m.Size, m.Flags = m.Data[:0], 0, 0
		return nil
	case fresh:
		return syscall.ENOTCONN
	}
	return syscall.EWOULDBLOCK
}

// recvOOB takes the octet that was sent as urgent (soreceive's MSG_OOB).
func (c *conn) recvOOB(m *socket.Msg) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.So.Opt(soOOBInline), c.has(fOOBTaken), !c.has(fOOBHave) && c.rcv.mark < 0:
		return syscall.EINVAL
	case !c.has(fOOBHave):
		return syscall.EWOULDBLOCK
	case len(m.Data) == 0:
		return nil
	}
	m.Data[0] = c.oob
	m.Data, m.Size = m.Data[:1], 1
	if m.Flags&socket.MsgPeek == 0 {
		c.off(fOOBHave)
		c.on(fOOBTaken)
	}
	m.Flags = socket.MsgOOB
	return nil
}

// tuneRecv lets the receive buffer follow the path: it holds twice what the
// user took in the last round trip (Linux calls this dynamic right-sizing).
func (c *conn) tuneRecv(w *netif.Work, n int) {
	q := &c.rcv
	if c.has(fRcvFixed) || !c.t.env.MIB.On(nodeRecvAuto) {
		return
	}
	q.taken = int32(min(int(q.taken)+n, 1<<30))
	if q.tunedAt == 0 {
		q.tunedAt = w.Now
		return
	}
	if w.Now-q.tunedAt < max(c.rtt.srtt, millisecond) {
		return
	}
	if want := min(2*int(q.taken), int(c.t.env.MIB.Int(socket.NodeSbMax))); want > q.hiwat && !c.So.Full() {
		q.hiwat = want
	}
	q.taken, q.tunedAt = 0, w.Now
}

// Poll is socket.StreamHandler.
func (c *conn) Poll() (ev socket.Events) {
	low, slow := c.So.Lowat()
	if l := c.lis.Load(); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.queue) > 0 {
			ev |= socket.Readable
		}
		return ev
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has(fSynHeld) {
		return socket.Writable
	}
	if c.state == synSent || c.state == synReceived {
		return 0
	}
	if c.rcv.len >= low && c.rcv.len > 0 || c.has(fFinSeen|fCantRecv) || c.gone {
		ev |= socket.Readable
	}
	if c.has(fOOBHave) || c.rcv.mark == 0 && !c.has(fOOBTaken) {
		ev |= socket.Urgent
	}
	if c.gone || c.has(fFinQueued) || c.state.canSend() && c.snd.space() >= min(slow, c.snd.hiwat) && !(c.snd.len > 0 && c.So.Full()) {
		ev |= socket.Writable
	} else if c.state.canSend() {
		c.on(fSndFull)
	}
	if c.gone || c.has(fFinSeen) && c.has(fFinQueued) {
		ev |= socket.HangUp
	}
	return ev
}

// Queued is socket.StreamHandler.
func (c *conn) Queued() (recv, send int) {
	if l := c.lis.Load(); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.queue), 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	send = c.snd.len
	if !c.gone && c.has(fFinQueued) && !(c.has(fFinSent) && c.sndUna == c.sndNxt) {
		send++
	}
	return c.rcv.len, send
}

// Shutdown is socket.Handler.
func (c *conn) Shutdown(w *netif.Work, read, write bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has(fSynHeld) {
		c.letSyn(w)
	} else if c.state < established && c.state != synReceived && !c.opensEarly() || c.lis.Load() != nil {
		return syscall.ENOTCONN
	}
	if read {
		c.on(fCantRecv)
		c.rcv.drop(c)
		if c.ooo != nil {
			c.ooo.drop(c)
			c.ooo = nil
		}
		c.So.Changed(w)
	}
	if write && !c.has(fFinQueued) {
		c.endSend(w)
	}
	return nil
}

// endSend queues our FIN; the caller holds mu.
func (c *conn) endSend(w *netif.Work) {
	c.on(fFinQueued)
	c.So.Changed(w)
	if c.state.synchronized() {
		c.kick(w)
	}
}

// Close is socket.Handler: the user goes, the connection ends in its own time.
func (c *conn) Close(w *netif.Work) {
	if c.lis.Load() != nil {
		c.closeListener(w)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on(fDetached)
	unread := c.rcv.len > 0
	c.rcv.drop(c)
	switch {
	case c.gone:
		return
	case c.state < synSent, c.state == synSent && c.snd.len == 0: // data waits for a Fast Open only
		c.drop(w, 0)
		return
	case unread && !c.has(fCantRecv): // RFC 2525 §2.17
		c.t.resetConn(w, c)
		c.drop(w, 0)
		return
	}
	if c.ooo != nil {
		c.ooo.drop(c)
		c.ooo = nil
	}
	if !c.has(fFinQueued) {
		c.endSend(w)
	}
	if c.state == finWait2 {
		c.setTimer(tKeep, w.Now+c.t.env.MIB.Int(nodeFinWait2)*halfSecond, w.Now)
	}
}

// Abort is socket.StreamHandler.
func (c *conn) Abort(w *netif.Work) {
	if c.lis.Load() != nil {
		c.closeListener(w)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	if c.state.synchronized() && c.state != closing && c.state != lastAck || c.state == synReceived {
		c.t.resetConn(w, c)
	}
	c.rcv.drop(c)
	c.drop(w, 0)
}

// Local is socket.Handler.
func (c *conn) Local() socket.Addr { return c.Ends().Local }

// Peer is socket.Handler.
func (c *conn) Peer() socket.Addr { return c.Ends().Foreign }

// Describe is socket.Handler; a stream's packets are not described.
func (c *conn) Describe(*packet.Buf, *socket.Msg) {}
