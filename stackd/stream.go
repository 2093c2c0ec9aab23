package stackd

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

// stream is what a stream socket has besides. It is guarded by sock.mu.
type stream struct {
	connecting bool  // on its way; or there, and nobody has taken the descriptor yet
	data       *data // nil: not connected
	finished   bool  // data has come to its end
	lingering  *waiter
	sndbuf     int // what SO_SNDBUF and SO_RCVBUF asked for; 0: nothing
	rcvbuf     int
	err        syscall.Errno // of one that has failed; see bury
	given      *given        // nil: the pair is ours to make
	last       *data         // of one that has failed: open until its client has asked why
}

// streamFrame serves the requests that are different for a stream.
func (sk *sock) streamFrame(h protocol.Header, p []byte) (answer []byte, served bool, err error) {
	switch h.Type {
	case protocol.TypeConnect:
		err = sk.connect(h, p)
	case protocol.TypeAccept:
		err = sk.accept(h)
	case protocol.TypeListen:
		var backlog uint32
		if err := protocol.ParseU32(p, &backlog); err != nil {
			return nil, true, err
		}
		sk.c.s.eng.Call(func(w *netif.Work) { err = sk.so.Listen(w, int(int32(backlog))) })
		return nil, true, err
	case protocol.TypeClose:
		sk.c.disown(sk.id)
		if !sk.closeStream(h) {
			return nil, true, nil
		}
	case protocol.TypeSend:
		err = sk.sendUrgent(h, p)
	case protocol.TypeRecv:
		err = sk.recvUrgent(h, p)
	default:
		return nil, false, nil
	}
	if err == nil {
		err = errParked
	}
	return nil, true, err
}

// connect serves TypeConnect. It is answered with the descriptor when the
// connection stands. One whose request was cancelled goes on, and the next
// request waits for it; so it does when there was no descriptor.
func (sk *sock) connect(h protocol.Header, p []byte) error {
	q, err := protocol.ParseConnect(p)
	if err != nil {
		return err
	}
	a, err := sockAddr(sk.so.Family, q.To)
	if err != nil {
		return err
	}
	var g *given
	if q.Data {
		if g, err = sk.c.takeGiven(q.Filler); err != nil {
			return err
		}
	}
	var d *data
	sk.c.s.eng.Call(func(w *netif.Work) {
		sk.mu.Lock()
		defer sk.mu.Unlock()
		defer func() {
			if err != nil {
				g.drop()
			}
		}()
		switch {
		case sk.data != nil:
			err = unix.EISCONN
		case sk.connecting && sk.waiting(protocol.TypeConnect):
			err = unix.EALREADY
		default:
			err = sk.park(&waiter{h: h}, 0)
		}
		if err != nil {
			return
		}
		if !sk.connecting {
			if err = sk.so.Connect(w, a); err != nil && !errors.Is(err, unix.EINPROGRESS) {
				sk.unpark(sk.parked[len(sk.parked)-1])
				sk.parked = sk.parked[:len(sk.parked)-1]
				return
			}
			sk.connecting, err = true, nil
		}
		if g != nil {
			sk.given.drop()
			sk.given = g
		}
		d = sk.connected(w)
	})
	d.begin()
	return err
}

// waiting reports whether a request of the type is parked. The caller holds
// sk.mu.
func (sk *sock) waiting(t protocol.Type) bool {
	return slices.ContainsFunc(sk.parked, func(r *waiter) bool { return r.h.Type == t })
}

// next takes the oldest parked request of a type, or nil. The caller holds
// sk.mu and answers it.
func (sk *sock) next(t protocol.Type) *waiter {
	i := slices.IndexFunc(sk.parked, func(r *waiter) bool { return r.h.Type == t })
	if i < 0 {
		return nil
	}
	r := sk.parked[i]
	sk.parked = slices.Delete(sk.parked, i, i+1)
	sk.unpark(r)
	return r
}

// connected answers who waits for the connection if its fate is known, and
// then answers the data side, which is to begin. The caller holds sk.mu.
func (sk *sock) connected(w *netif.Work) *data {
	if !sk.connecting || sk.closed || !sk.waiting(protocol.TypeConnect) {
		return nil
	}
	ev := sk.so.Poll()
	switch {
	case ev&(socket.Error|socket.HangUp) != 0:
		sk.connecting = false
		sk.given.drop()
		sk.given = nil
		err := sk.so.TakeError()
		if err == nil {
			err = unix.ECONNABORTED
		}
		sk.c.reply(sk.next(protocol.TypeConnect).h, err, nil)
		return nil
	case ev&socket.Writable == 0:
		return nil
	}
	r := sk.next(protocol.TypeConnect)
	d, theirs, err := newData(sk)
	if err != nil {
		sk.c.reply(r.h, err, nil)
		return nil
	}
	peer, local := sk.addrs()
	if !sk.c.replyWith(r.h, protocol.AppendConnected(nil, peer, local), theirs) {
		d.drop()
		return nil
	}
	sk.connecting, sk.data = false, d
	return d
}

func (sk *sock) addrs() (peer, local protocol.Addr) {
	return protoAddr(sk.so.Family, sk.so.Peer()), protoAddr(sk.so.Family, sk.so.Local())
}

// accept serves TypeAccept: at once if a connection is there, else when one
// comes.
func (sk *sock) accept(h protocol.Header) (err error) {
	var d *data
	sk.c.s.eng.Call(func(w *netif.Work) {
		sk.mu.Lock()
		defer sk.mu.Unlock()
		if !sk.so.H.(socket.StreamHandler).Listening() {
			err = unix.EINVAL
			return
		}
		r, done := &waiter{h: h}, false
		if len(sk.parked) == 0 {
			d, done = sk.serveAccept(w, r)
		}
		if !done {
			recv, _ := sk.so.Timeouts()
			err = sk.park(r, recv)
		}
	})
	d.begin()
	return err
}

// serveAccept tries to answer r with a connection, whose data side is then to
// begin, or with an error; false: there is none yet. The caller holds sk.mu.
func (sk *sock) serveAccept(w *netif.Work, r *waiter) (*data, bool) {
	if sk.so.Poll()&socket.Readable == 0 {
		return nil, false
	}
	c := sk.c
	if err := c.s.takeSocket(c); err != nil {
		c.reply(r.h, err, nil)
		return nil, true
	}
	child := &sock{c: c, stream: stream{sndbuf: sk.sndbuf, rcvbuf: sk.rcvbuf}}
	d, theirs, err := newData(child)
	if err != nil { // the connection stays for the next who asks
		c.s.dropSocket(c)
		c.reply(r.h, err, nil)
		return nil, true
	}
	child.data = d
	child.so, err = sk.so.Accept(w)
	if err != nil {
		unix.Close(theirs)
		d.drop()
		c.s.dropSocket(c)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false
		}
		c.reply(r.h, err, nil)
		return nil, true
	}
	child.so.SetUpcall(child.streamUpcall)
	if !c.adopt(child) {
		unix.Close(theirs)
		child.abandonData(w)
		return nil, true
	}
	peer, local := child.addrs()
	if !c.replyWith(r.h, protocol.AppendAccepted(nil, protocol.Accepted{ID: child.id, Peer: peer, Local: local}), theirs) {
		child.abandonData(w)
		return nil, true
	}
	return d, true
}

// abandonData closes a new connection that nobody has got.
func (sk *sock) abandonData(w *netif.Work) { sk.data.finish(w, nil) }

// replyWith is reply with a descriptor, which it takes over; false when the
// client does not get it.
func (c *conn) replyWith(h protocol.Header, payload []byte, fd int) bool {
	if c.sendWith(append(protocol.AppendReply(nil, h), payload...), fd) {
		return true
	}
	c.s.refused(cntNoDescriptor)
	c.reply(h, errf(unix.ENFILE, "the descriptor of the connection could not be passed: too many are under way"), nil)
	return false
}

// streamUpcall answers what waits, and moves data.
func (sk *sock) streamUpcall(w *netif.Work) {
	var begun []*data
	sk.mu.Lock()
	d := sk.data
	if d == nil {
		if sk.connecting {
			d = sk.connected(w)
			begun = append(begun, d)
		}
		for sk.waiting(protocol.TypeAccept) {
			i := slices.IndexFunc(sk.parked, func(r *waiter) bool { return r.h.Type == protocol.TypeAccept })
			nd, done := sk.serveAccept(w, sk.parked[i])
			if !done {
				break
			}
			sk.next(protocol.TypeAccept)
			begun = append(begun, nd)
		}
	} else if sk.waiting(protocol.TypeRecv) {
		sk.serveUrgent(w)
	}
	lingers := sk.lingering != nil
	sk.mu.Unlock()
	for _, nd := range begun {
		nd.start(w)
	}
	if d != nil {
		d.turn(w)
	}
	if lingers {
		sk.lingered()
	}
}

// lingered answers the close that waits for all to be acknowledged.
func (sk *sock) lingered() {
	sk.mu.Lock()
	r := sk.lingering
	if r == nil || !sk.finished || sk.so.Unsent() > 0 {
		sk.mu.Unlock()
		return
	}
	sk.lingering = nil
	sk.mu.Unlock()
	sk.so.SetUpcall(nil)
	sk.answer(r, nil)
}

// closeStream ends the socket. What the client has written goes first; h is
// answered later if that is reported. A connection of a client that has gone
// (a zero h) is closed the same way, as that of a process which has died.
func (sk *sock) closeStream(h protocol.Header) (later bool) {
	linger, lingers := sk.so.Linger()
	c := sk.c
	sk.mu.Lock()
	d, waiting := sk.data, sk.parked
	sk.parked, sk.closed = nil, true
	finished := sk.finished
	if d != nil && !finished && lingers && linger > 0 && h.Type != 0 && c.park() == nil {
		r := &waiter{h: h}
		r.timer = time.AfterFunc(linger, func() { sk.lingeredLong(r) })
		sk.lingering, later = r, true
	}
	sk.mu.Unlock()
	for _, r := range waiting {
		sk.answer(r, unix.EBADF)
	}
	switch {
	case d == nil:
		c.s.eng.Call(func(w *netif.Work) { sk.so.Close(w) })
		sk.given.drop() // whoever could take it has found sk.closed
		c.s.dropSocket(c)
	case finished:
	case lingers && linger == 0 || c.s.stopping.Load():
		c.s.eng.Call(func(w *netif.Work) { d.finish(w, nil) })
	default:
		d.close()
	}
	if later {
		sk.lingered()
	}
	return later
}

// lingeredLong answers a close whose time is over; the rest is sent all the
// same.
func (sk *sock) lingeredLong(r *waiter) {
	sk.mu.Lock()
	mine := sk.lingering == r
	if mine {
		sk.lingering = nil
	}
	sk.mu.Unlock()
	if mine {
		sk.answer(r, unix.EWOULDBLOCK)
	}
}

// shutdown ends receiving, sending or both.
func (sk *sock) shutdown(w *netif.Work, read, write bool) error {
	sk.mu.Lock()
	d := sk.data
	sk.mu.Unlock()
	if d == nil {
		return sk.so.Shutdown(w, read, write)
	}
	return d.shutdown(w, read, write)
}

// sendUrgent serves TypeSend of a stream: out-of-band octets, after all that
// has been written to the descriptor.
func (sk *sock) sendUrgent(h protocol.Header, p []byte) error {
	m, err := protocol.ParseMsg(p)
	if err != nil {
		return err
	}
	if m.Flags&protocol.MsgOOB == 0 {
		return errf(unix.EOPNOTSUPP, "the data of a stream goes through its descriptor; send takes out-of-band octets (MSG_OOB)")
	}
	if len(m.Data) == 0 {
		return errf(unix.EINVAL, "out-of-band data is an octet at least")
	}
	sk.mu.Lock()
	d := sk.data
	if d == nil || sk.finished {
		sk.mu.Unlock()
		return unix.ENOTCONN
	}
	err = sk.park(&waiter{h: h, data: slices.Clone(m.Data)}, 0)
	if err == nil {
		d.urgent.Add(1)
	}
	sk.mu.Unlock()
	if err == nil {
		d.pull()
	}
	return err
}

// sentUrgent sends the out-of-band octets that wait; false when there is no
// room.
func (sk *sock) sentUrgent(w *netif.Work, d *data) bool {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	for {
		i := slices.IndexFunc(sk.parked, func(r *waiter) bool { return r.h.Type == protocol.TypeSend })
		if i < 0 {
			d.urgent.Store(0)
			return true
		}
		r := sk.parked[i]
		n, err := sk.so.Send(w, &socket.Msg{Data: r.data, Flags: socket.MsgOOB})
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false
		}
		sk.next(protocol.TypeSend)
		sk.c.reply(r.h, err, protocol.AppendU32(nil, uint32(n)))
	}
}

// recvUrgent serves TypeRecv of a stream: the out-of-band octet. Without
// MSG_DONTWAIT it waits for one, in the place of SIGURG.
func (sk *sock) recvUrgent(h protocol.Header, p []byte) (err error) {
	var flags, size uint32
	if err := protocol.ParseU32(p, &flags, &size); err != nil {
		return err
	}
	if flags&protocol.MsgOOB == 0 {
		return errf(unix.EOPNOTSUPP, "the data of a stream comes through its descriptor; recv takes the out-of-band octet (MSG_OOB)")
	}
	sk.c.s.eng.Call(func(w *netif.Work) {
		sk.mu.Lock()
		defer sk.mu.Unlock()
		r := &waiter{h: h, flags: int(flags), size: int(min(size, maxDatagram))}
		if sk.data == nil || sk.finished {
			err = unix.ENOTCONN
		} else if flags&protocol.MsgDontWait != 0 || sk.so.Poll()&socket.Urgent != 0 {
			sk.takeUrgent(w, r)
		} else {
			err = sk.park(r, 0)
		}
	})
	return err
}

// serveUrgent answers who waits for the out-of-band octet. The caller holds
// sk.mu.
func (sk *sock) serveUrgent(w *netif.Work) {
	if sk.so.Poll()&socket.Urgent != 0 {
		if r := sk.next(protocol.TypeRecv); r != nil {
			sk.takeUrgent(w, r)
		}
	}
}

func (sk *sock) takeUrgent(w *netif.Work, r *waiter) {
	m := socket.Msg{Data: make([]byte, max(r.size, 1)), Flags: socket.MsgOOB | r.flags&protocol.MsgPeek}
	if err := sk.so.Recv(w, &m); err != nil {
		sk.c.reply(r.h, err, nil)
		return
	}
	sk.c.reply(r.h, nil, protocol.AppendMsg(nil, protocol.Msg{Flags: protocol.MsgOOB, Data: m.Data}))
}

// bury leaves what is left of a socket whose connection has failed while its
// client has the descriptor: the number, until SO_ERROR is asked for or it is
// closed. It counts as a socket of the user, and makes room for one. An
// ordinary end (no err) leaves nothing, nor does a client that has closed the
// descriptor; one that closes it later, and asks then, finds what is left. It
// answers whether something is.
func (c *conn) bury(sk *sock, err error) bool {
	most := c.s.limit(nodeUserSockets)
	c.own.Lock()
	defer c.own.Unlock()
	if c.socks[sk.id] != sk {
		return false // closed
	}
	delete(c.socks, sk.id)
	if err == nil || sk.data.bothEnded() {
		c.tell(protocol.Ended{ID: sk.id})
		return false
	}
	defer c.tell(protocol.Ended{ID: sk.id, Errno: protocol.AsError(err).Errno})
	if len(c.ended) >= most {
		c.ended = slices.DeleteFunc(c.ended, func(id uint32) bool { return c.socks[id] == nil })
	}
	if len(c.ended) >= most {
		c.forgetOldest()
	}
	left := &sock{c: c, id: sk.id, stream: stream{err: protocol.AsError(err).Errno}}
	if c.news.wanted.Load() && sk.data.acquire() {
		left.last = sk.data
		time.AfterFunc(lastWait, left.letGo)
	}
	c.socks[sk.id] = left
	c.ended = append(c.ended, sk.id)
	return true
}

// lastWait is how long a client that is told of endings may take to see to a
// descriptor whose connection has failed, before our end of it is closed.
const lastWait = 200 * time.Millisecond

// letGo closes our end of the descriptor.
func (sk *sock) letGo() {
	sk.mu.Lock()
	d := sk.last
	sk.last = nil
	sk.mu.Unlock()
	if d != nil {
		d.release()
	}
}

// abrupt reports that closing is a reset (SO_LINGER, no time).
func (sk *sock) abrupt() bool {
	d, on := sk.so.Linger()
	return on && d == 0
}

// unbury makes room for a socket by forgetting the oldest that has failed.
func (c *conn) unbury() bool {
	c.own.Lock()
	defer c.own.Unlock()
	return c.forgetOldest()
}

// forgetOldest is unbury for who holds c.own.
func (c *conn) forgetOldest() bool {
	for len(c.ended) > 0 {
		id := c.ended[0]
		c.ended = c.ended[1:]
		if c.socks[id] != nil {
			delete(c.socks, id)
			c.s.dropSocket(c)
			return true
		}
	}
	return false
}

// endedFrame serves requests on a socket whose connection has failed.
func (sk *sock) endedFrame(h protocol.Header, p []byte) ([]byte, error) {
	switch h.Type {
	case protocol.TypeClose:
	case protocol.TypeGetsockopt:
		o, err := protocol.ParseSockOpt(p)
		if err != nil {
			return nil, err
		}
		if o.Level != protocol.SolSocket || o.Name != protocol.SoError {
			return nil, unix.ENOTCONN
		}
	default:
		return nil, unix.ENOTCONN
	}
	sk.letGo()
	sk.c.disown(sk.id)
	sk.c.s.dropSocket(sk.c)
	if h.Type == protocol.TypeClose {
		return nil, nil
	}
	return protocol.AppendBytes(nil, socket.Value32(int(sk.err))), nil
}
