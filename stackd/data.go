package stackd

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

// data is our end of the socket pair that carries the data of a connected
// stream. What the stack receives is written to it by the socket's upcall, on
// the goroutine that received it (up); what the client writes is sent by the
// worker that finds it readable, or by the upcall that says there is room
// again (down). Nothing waits: a full descriptor stops us from taking of the
// socket, so that the window closes, and a full socket from reading, so that
// the client waits.
//
// Each direction is in one pair of hands at a time: a gate. Who finds it taken
// leaves a note, and who has it goes round once more.
type data struct {
	s  *server
	sk *sock
	fd int
	id int32

	up, down gate
	refs     atomic.Int32 // who uses fd, and one while it is in the epoll set

	over atomic.Bool // finish has been here
	fin  atomic.Bool // the stack's end has been passed on
	eof  atomic.Bool // nothing more is read from the client
	mute atomic.Bool // and we have said so: its writes fail
	dead atomic.Bool // the connection has failed, and the client hears of it by the end of the descriptor
	deaf atomic.Bool // the client reads no more: what comes is discarded
	gone atomic.Bool // the client has closed the descriptor
	full atomic.Bool // the socket takes nothing; its upcall goes on
	held atomic.Bool // up holds what the descriptor has not taken
	lost atomic.Bool // the client has closed with something unread: the end is a reset (RFC 2525 §2.17)
	last atomic.Int32
	// urgent: sends of out-of-band octets that wait for what was written
	// before them; see sock.sentUrgent.
	urgent atomic.Int32
	moved  atomic.Int64 // octets that went down
	err    atomic.Int32 // errno that the socket answered

	upHold   hold // of who is in the gate up
	downHold hold // of who is in the gate down

	mu     sync.Mutex // then server.mu
	armed  uint32     // the events that the epoll set waits for
	closed bool       // fd is
	timer  *time.Timer
}

// What is done, in data.last, when all that the client has written is sent.
const (
	lastNothing = iota
	lastShutdown
	lastClose
)

// disarmed is data.armed after an event: EPOLLONESHOT.
const disarmed = ^uint32(0)

// chunk is how much is moved at once: a super-packet, and as large as a copy
// is fastest.
const chunk = 64 << 10

// scratch is a buffer that octets are moved through, and the message that
// describes them.
type scratch struct {
	m socket.Msg
	b [chunk]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// hold is what one side has given and the other has not yet taken. Owner: who
// is in the gate. Bound: one scratch. While there is some nothing is added.
type hold struct {
	sc   *scratch
	rest []byte
}

func (h *hold) set(sc *scratch, rest []byte) { h.sc, h.rest = sc, rest }

// take n octets; the scratch goes back when nothing is left.
func (h *hold) take(n int) {
	if h.rest = h.rest[n:]; len(h.rest) == 0 {
		scratches.Put(h.sc)
		*h = hold{}
	}
}

func (h *hold) drop() {
	if h.sc != nil {
		h.take(len(h.rest))
	}
}

// gate lets one at a time through.
type gate struct{ n atomic.Int32 }

// enter reports that the gate is the caller's; else a note has been left.
func (g *gate) enter() bool { return g.n.Add(1) == 1 }

// leave reports whether there was a note: somebody has to go round again.
func (g *gate) leave() (again bool) { return g.n.Swap(0) != 1 }

// pairBuffer is what each direction of a pair may hold; the kernel grants at
// most net.core.wmem_max.
const pairBuffer = 256 << 10

// newData makes the pair for a socket that is connected, or about to be, unless
// the client has brought one. The caller passes theirs on, unless that is -1.
func newData(sk *sock) (d *data, theirs int, err error) {
	s := sk.c.s
	if err := s.takeStream(sk.c); err != nil {
		return nil, -1, err
	}
	if g := sk.given; g != nil {
		sk.given = nil
		g.empty()
		d = &data{s: s, sk: sk, fd: g.fd, armed: disarmed}
		d.refs.Store(1)
		return d, -1, nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.dropStream(sk.c)
		s.refused(cntNoDescriptor)
		return nil, -1, errf(unix.ENFILE, "no descriptor is left for another connection (%v)", err)
	}
	unix.SetNonblock(fds[0], true)
	size := func(fd, asked int) {
		if asked == 0 || asked > pairBuffer {
			asked = pairBuffer
		}
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, asked)
	}
	size(fds[0], sk.rcvbuf)
	size(fds[1], sk.sndbuf)
	d = &data{s: s, sk: sk, fd: fds[0], armed: disarmed}
	d.refs.Store(1)
	return d, fds[1], nil
}

// drop undoes newData.
func (d *data) drop() {
	d.s.dropStream(d.sk.c)
	unix.Close(d.fd)
}

// take and give are read(2) and write(2) of a pair, and never wait, whatever a
// client does to the flags of an end that it has brought and kept.
func take(fd int, b []byte) (int, error) { return transfer(unix.SYS_RECVFROM, fd, b) }

func give(fd int, b []byte) (int, error) { return transfer(unix.SYS_SENDTO, fd, b) }

func transfer(nr uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.Syscall6(nr, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// begin starts to move data: the socket is the client's. A nil d is no
// connection.
func (d *data) begin() {
	if d != nil {
		d.s.eng.Call(d.start)
	}
}

func (d *data) start(w *netif.Work) {
	if d == nil || !d.acquire() {
		return
	}
	var err error
	d.mu.Lock()
	if !d.over.Load() {
		d.s.register(d, &d.id)
		d.armed = unix.EPOLLIN
		err = unix.EpollCtl(d.s.ep, unix.EPOLL_CTL_ADD, d.fd, &unix.EpollEvent{Events: d.armed | unix.EPOLLONESHOT, Fd: d.id})
	}
	d.mu.Unlock()
	if err != nil { // ENOSPC: fs.epoll.max_user_watches
		d.s.log.Warn("a connection cannot be watched and is closed", "err", err)
		d.finish(w, unix.ENOBUFS)
	}
	d.release()
	d.turn(w)
}

// acquire keeps the descriptor open; false when it is not.
func (d *data) acquire() bool {
	for {
		n := d.refs.Load()
		if n == 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release undoes acquire. The last to go says what events are wanted now.
func (d *data) release() {
	switch d.refs.Add(-1) {
	case 0:
		d.mu.Lock()
		d.closed = true
		unix.Close(d.fd)
		d.mu.Unlock()
		d.upHold.drop()
		d.downHold.drop()
	case 1:
		if d.over.Load() || d.gone.Load() {
			return // everything is there to be read already
		}
		var want uint32
		if !d.full.Load() && !d.eof.Load() {
			want = unix.EPOLLIN
		}
		if d.held.Load() {
			want |= unix.EPOLLOUT
		}
		d.mu.Lock()
		if !d.closed && d.id != 0 && d.armed != want {
			d.armed = want
			unix.EpollCtl(d.s.ep, unix.EPOLL_CTL_MOD, d.fd, &unix.EpollEvent{Events: want | unix.EPOLLONESHOT, Fd: d.id})
		}
		d.mu.Unlock()
	}
}

// ready is pollee.
func (d *data) ready(s *server, events uint32, _ []byte) {
	if !d.acquire() {
		return
	}
	defer d.release()
	d.mu.Lock()
	d.armed = disarmed
	d.mu.Unlock()
	if events&unix.EPOLLHUP != 0 && d.bothEnded() {
		d.hungUp()
	}
	if d.held.Load() || d.deaf.Load() {
		s.eng.Call(d.pumpUp)
	}
	d.pull()
}

// hungUp notes that the client has closed the descriptor, or has ended both
// directions, which is the same.
func (d *data) hungUp() {
	d.deaf.Store(true)
	if !d.gone.Swap(true) {
		if d.held.Load() {
			d.lost.Store(true)
		}
		d.watch()
	}
}

// pull sends what the client has written, a burst a call.
func (d *data) pull() {
	for more := true; more; {
		d.s.eng.Call(func(w *netif.Work) { more = d.pumpDown(w) })
	}
}

// turn is what the socket's upcall does for the data.
func (d *data) turn(w *netif.Work) {
	if d.sk.so.Poll()&socket.Error != 0 {
		d.cut()
	}
	d.pumpUp(w)
	if d.full.Load() && d.roomy() {
		for d.pumpDown(w) {
		}
	}
}

// roomy reports that to go on sending is worth a read: there is room for a
// good part of what the socket holds.
func (d *data) roomy() bool {
	n, size := d.room()
	return n > 0 && n >= min(chunk, size/4)
}

// cut has the client's writes fail: nothing of them would be sent. One that hears
// of endings finds out by the end of the descriptor, which with something in it
// that nobody has read is ECONNRESET; while it has to read before that end can
// come, it is told as others are, since it may be writing.
func (d *data) cut() {
	if d.eof.Swap(true) || !d.acquire() {
		return
	}
	defer d.release()
	if d.sk.c.news.wanted.Load() {
		d.dead.Store(true)
		if !d.held.Load() {
			return
		}
	}
	d.silence()
}

// silence has the client's writes fail. What it has written already goes, as one
// that waits until it may write more (POLLOUT) would wait for ever.
func (d *data) silence() {
	d.mute.Store(true)
	unix.Shutdown(d.fd, unix.SHUT_RD)
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	for {
		if n, err := take(d.fd, sc.b[:]); err != nil || n == 0 {
			return
		}
	}
}

// pumpUp moves what the socket has received to the client.
func (d *data) pumpUp(w *netif.Work) {
	if !d.acquire() {
		return
	}
	defer d.release()
	for again := d.up.enter(); again; {
		d.upRound(w)
		again = d.up.leave() && d.up.enter()
	}
}

func (d *data) upRound(w *netif.Work) {
	so := d.sk.so
	for !d.over.Load() && d.flush() {
		if d.fin.Load() {
			if so.Poll()&socket.Error != 0 {
				d.finish(w, so.TakeError())
			}
			return
		}
		sc := scratches.Get().(*scratch)
		sc.m = socket.Msg{Data: sc.b[:]}
		err := so.Recv(w, &sc.m)
		if n := len(sc.m.Data); err == nil && n > 0 {
			d.upHold.set(sc, sc.m.Data)
			if d.gone.Load() {
				d.lost.Store(true)
				if d.full.Load() && !d.roomy() {
					// The peer sends to nobody and does not read: RFC 1122 §4.2.2.13.
					d.finish(w, nil)
					return
				}
			}
			continue
		}
		scratches.Put(sc)
		switch errno := d.err.Load(); {
		case errors.Is(err, unix.EWOULDBLOCK):
			return
		case err != nil:
			d.finish(w, err)
			return
		case errno != 0:
			d.finish(w, unix.Errno(errno))
			return
		}
		d.fin.Store(true)
		unix.Shutdown(d.fd, unix.SHUT_WR)
		if d.eof.Load() {
			d.finish(w, nil)
		}
	}
}

// flush writes what up holds; false when some of it is left.
func (d *data) flush() bool {
	for len(d.upHold.rest) > 0 && !d.deaf.Load() {
		n, err := give(d.fd, d.upHold.rest)
		switch {
		case err == nil:
			d.upHold.take(n)
		case errors.Is(err, unix.EAGAIN):
			d.held.Store(true)
			if d.dead.Load() {
				d.silence()
			}
			return false
		case errors.Is(err, unix.EINTR):
		default: // EPIPE: it reads no more
			d.deaf.Store(true)
		}
	}
	d.upHold.drop()
	d.held.Store(false)
	return true
}

// pumpDown sends one burst of what the client has written; it reports that
// there may be more.
func (d *data) pumpDown(w *netif.Work) (more bool) {
	if !d.acquire() {
		return false
	}
	defer d.release()
	if !d.down.enter() {
		return false
	}
	more = d.downRound(w)
	return d.down.leave() || more
}

func (d *data) downRound(w *netif.Work) (more bool) {
	d.full.Store(false)
	so := d.sk.so
	switch {
	case d.over.Load():
		return false
	case d.eof.Load():
		if d.fin.Load() || d.gone.Load() || d.last.Load() == lastClose {
			d.finish(w, nil)
		}
		return false
	case len(d.downHold.rest) > 0:
	default:
		room, _ := d.room()
		if room == 0 {
			return d.wait()
		}
		if p, ok := so.H.(socket.Packer); ok {
			room = min(room, p.Packet())
		}
		sc := scratches.Get().(*scratch)
		n, err := take(d.fd, sc.b[:min(room, chunk)])
		if err != nil || n == 0 {
			scratches.Put(sc)
			return d.dry(w, err)
		}
		sc.m = socket.Msg{}
		d.downHold.set(sc, sc.b[:n])
	}
	m := &d.downHold.sc.m
	m.Data = d.downHold.rest
	n, err := so.Send(w, m)
	switch {
	case err == nil:
		d.moved.Add(int64(n))
		d.downHold.take(n)
		return len(d.downHold.rest) == 0 || d.wait()
	case errors.Is(err, unix.EWOULDBLOCK):
		return d.wait()
	case errors.Is(err, unix.ENOBUFS): // nobody says when there are buffers again
		d.full.Store(true)
		time.AfterFunc(noBuffersWait, d.pull)
		return false
	}
	d.downHold.drop()
	if !errors.Is(err, unix.EPIPE) {
		d.err.Store(int32(protocol.AsError(err).Errno))
	}
	d.cut()
	if d.fin.Load() || d.gone.Load() || d.last.Load() == lastClose {
		d.finish(w, err)
		return false
	}
	d.pumpUp(w) // to the end, which then says why
	return false
}

// noBuffersWait is when to try again after the stack had no buffer.
const noBuffersWait = 10 * time.Millisecond

// room is how much the socket takes now, and the size of its send buffer. One
// that will only say why it takes nothing has room.
func (d *data) room() (n, size int) {
	so := d.sk.so
	ev := so.Poll()
	if ev&(socket.Error|socket.HangUp) != 0 {
		return chunk, chunk
	}
	st := so.H.(socket.StreamHandler)
	_, size = st.Buffers()
	if ev&socket.Writable == 0 {
		return 0, size
	}
	_, queued := st.Queued()
	_, low := so.Lowat()
	return max(size-queued, min(low, size), 1), size
}

// wait leaves the rest to the upcall that says there is room; true when there
// has been some meanwhile.
func (d *data) wait() (more bool) {
	d.full.Store(true)
	return d.roomy()
}

// dry is called when nothing is left to be read: for the moment (EAGAIN), or
// for ever.
func (d *data) dry(w *netif.Work, err error) (more bool) {
	if errors.Is(err, unix.EINTR) {
		return true
	}
	last := d.last.Load()
	if errors.Is(err, unix.EAGAIN) {
		if d.urgent.Load() > 0 && !d.sk.sentUrgent(w, d) {
			return d.wait()
		}
		if last == lastNothing && !d.gone.Load() {
			return false
		}
	}
	if errors.Is(err, unix.ECONNRESET) {
		d.lost.Store(true)
	}
	d.eof.Store(true)
	if last == lastClose || d.gone.Load() || d.fin.Load() || d.bothEnded() {
		d.finish(w, nil)
		return false
	}
	if last == lastShutdown {
		d.silence()
	}
	d.sk.so.Shutdown(w, false, true)
	return false
}

// bothEnded asks whether the client has ended both directions, as it does when
// it closes the descriptor. When we have, nobody can tell, and it is taken to
// be there.
func (d *data) bothEnded() bool {
	if d.gone.Load() {
		return true
	}
	if d.fin.Load() && d.mute.Load() {
		return false
	}
	p := [1]unix.PollFd{{Fd: int32(d.fd)}}
	unix.Poll(p[:], 0)
	return p[0].Revents&unix.POLLHUP != 0
}

// shutdown is shutdown(2) by a frame: sending ends after what the client has
// written so far.
func (d *data) shutdown(w *netif.Work, read, write bool) error {
	if !d.acquire() {
		return unix.ENOTCONN
	}
	defer d.release()
	if read {
		if err := d.sk.so.Shutdown(w, true, false); err != nil {
			return err
		}
		d.deaf.Store(true)
		d.fin.Store(true)
		unix.Shutdown(d.fd, unix.SHUT_WR)
		if d.eof.Load() {
			d.finish(w, nil)
		}
	}
	if write {
		d.last.CompareAndSwap(lastNothing, lastShutdown)
		for d.pumpDown(w) {
		}
	}
	return nil
}

// close sends what the client has written and then ends the connection, now
// or when there is room.
func (d *data) close() {
	if !d.acquire() {
		return
	}
	defer d.release()
	if n, err := unix.IoctlGetInt(d.fd, unix.SIOCOUTQ); err == nil && n > 0 || d.held.Load() || d.sk.so.Queued() > 0 {
		d.lost.Store(true)
	}
	d.deaf.Store(true)
	d.last.Store(lastClose)
	d.watch()
	if d.eof.Load() {
		d.s.eng.Call(func(w *netif.Work) { d.finish(w, nil) })
		return
	}
	d.s.eng.Call(d.pumpUp)
	d.pull()
}

// orphanWait is how long a connection without client may go without sending
// anything of what is still to be sent, before it is reset.
const orphanWait = time.Minute

// watch resets the connection when its rest cannot be sent.
func (d *data) watch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil || d.closed {
		return
	}
	before := d.moved.Load()
	d.timer = time.AfterFunc(orphanWait, func() {
		if now := d.moved.Load(); now != before {
			before = now
			d.mu.Lock()
			d.timer.Reset(orphanWait)
			d.mu.Unlock()
			return
		}
		if !d.over.Load() {
			d.s.eng.Call(func(w *netif.Work) {
				d.sk.so.Abort(w)
				d.finish(w, nil)
			})
		}
	})
}

// finish ends the connection for the client: the socket is closed, which sends
// what it holds, and the descriptor too. err is what the connection has met;
// SO_ERROR answers it later.
func (d *data) finish(w *netif.Work, err error) {
	if d.over.Swap(true) {
		return
	}
	s, sk := d.s, d.sk
	if err == nil {
		err = sk.so.TakeError()
	}
	d.mu.Lock()
	s.forget(d.id)
	if d.timer != nil {
		d.timer.Stop()
	}
	d.mu.Unlock()
	sk.mu.Lock()
	sk.finished = true
	waiting := sk.parked
	sk.parked = nil
	lingers := sk.lingering != nil
	sk.mu.Unlock()
	for _, r := range waiting {
		sk.answer(r, unix.ENOTCONN)
	}
	if !lingers {
		sk.so.SetUpcall(nil)
	}
	buried := sk.c.bury(sk, err)
	if d.lost.Load() || d.gone.Load() && sk.abrupt() {
		sk.so.Abort(w)
	}
	sk.so.Close(w)
	d.release()
	s.dropStream(sk.c)
	if !buried {
		s.dropSocket(sk.c)
	}
	if lingers {
		sk.lingered()
	}
}
