package stackd

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// conn is one client: a connection through a door. Requests of one client
// are handled one at a time and in order; answers to requests that had to
// wait come when they come.
type conn struct {
	s           *server
	fd          int
	id          int32
	family      int
	ifname      string
	credentials unix.Ucred
	super       bool
	user        *quota
	greets      bool   // HELLO is done; the handling worker's
	change      change // the handling worker's, as listing and saved are
	listing     listing
	saved       saving
	keys        keyState
	given       int // the descriptor that came with the frame in hand, -1: none; the handling worker's

	own    sync.Mutex // what the client owns, by number; then mu
	socks  map[uint32]*sock
	caps   map[uint32]*capture
	ended  []uint32 // sockets whose connection failed, oldest first; see sock.bury
	news   endings
	lastID uint32
	empty  bool // it has been torn down and gets nothing any more

	// out: answers that did not fit the descriptor. Owner: the client's. Bound:
	// kern.client.queue octets, all of a user's clients kern.user.queue. Full: a control client is dropped; a routing socket
	// loses messages, which it is told.
	mu     sync.Mutex
	out    []outFrame
	queued int
	busy   bool // a worker has the client
	again  bool // it became ready meanwhile
	dead   bool
	closed bool
	parked int // waiting requests
	lost   uint32
	dump   dumpState // of the handling worker
}

// outFrame is an answer that waits, with the descriptor it brings; -1: none.
type outFrame struct {
	b  []byte
	fd int
}

// stallAt is how much unread answer stops us from taking further requests.
const stallAt = 256 << 10

// stalled says that the client is to read before it asks again. A routing
// socket loses messages instead, as on BSD: changes of the table do not wait
// for who makes them to listen. The caller holds c.mu.
func (c *conn) stalled() bool { return c.queued >= stallAt && c.family != protocol.AFRoute }

// ready lets one worker at a time have the client.
func (c *conn) ready(s *server, events uint32, buf []byte) {
	c.mu.Lock()
	if c.busy || c.closed {
		c.again = true
		c.mu.Unlock()
		return
	}
	c.busy = true
	c.mu.Unlock()
	for {
		gone := c.turn(buf)
		c.mu.Lock()
		if gone || c.dead {
			c.mu.Unlock()
			c.teardown()
			return
		}
		if c.again {
			c.again = false
			c.mu.Unlock()
			continue
		}
		c.busy = false
		c.arm()
		c.mu.Unlock()
		return
	}
}

// turn writes what waits and reads a few requests; it reports that the
// client is gone.
func (c *conn) turn(buf []byte) (gone bool) {
	c.mu.Lock()
	c.flush()
	c.mu.Unlock()
	if !c.goOnKeys() { // a dump that waits for its reader
		return c.hungUp()
	}
	for range 32 {
		c.mu.Lock()
		stalled := c.stalled()
		c.mu.Unlock()
		if stalled {
			return c.hungUp()
		}
		var rights [24]byte // of one descriptor; unix.CmsgSpace(4)
		n, rn, flags, _, err := unix.Recvmsg(c.fd, buf, rights[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		c.given = descriptor(rights[:rn])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil, n == 0:
			return true
		case flags&unix.MSG_TRUNC != 0 || n > protocol.MaxFrame:
			c.dropGiven()
			c.reply(protocol.Header{}, errf(unix.EMSGSIZE, "a frame is at most %d octets", protocol.MaxFrame), nil)
			continue
		}
		switch c.family {
		case protocol.AFRoute:
			c.routeFrame(buf[:n])
		case protocol.AFKey:
			c.keyFrame(buf[:n])
		default:
			c.frame(buf[:n])
		}
		c.dropGiven()
	}
	return false
}

// descriptor is what came with a frame; -1: none.
func descriptor(rights []byte) int {
	msgs, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(msgs) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0] // there is room for one
}

// dropGiven closes a descriptor that no request has taken.
func (c *conn) dropGiven() {
	if c.given >= 0 {
		unix.Close(c.given)
		c.given = -1
	}
}

// hungUp asks whether a client that we do not read from is still there.
func (c *conn) hungUp() bool {
	p := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	unix.Poll(p, 0)
	return p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// arm asks for the next event. The caller holds c.mu.
func (c *conn) arm() {
	ev := uint32(unix.EPOLLONESHOT)
	if !c.stalled() {
		ev |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if len(c.out) > 0 {
		ev |= unix.EPOLLOUT
	}
	unix.EpollCtl(c.s.ep, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: ev, Fd: c.id})
}

// send writes a frame, or queues a copy of it. It never waits and may be
// called from anywhere, an upcall too.
func (c *conn) send(b []byte) bool { return c.sendWith(b, -1) }

// sendWith is send with a descriptor, which it takes over; -1: none.
func (c *conn) sendWith(b []byte, fd int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendLocked(b, fd)
}

func (c *conn) sendLocked(b []byte, fd int) (sent bool) {
	defer func() {
		if fd >= 0 && !sent {
			unix.Close(fd)
		}
	}()
	if c.dead || c.closed {
		return false
	}
	if len(c.out) == 0 {
		err := sendFrame(c.fd, b, fd)
		if err == nil {
			if fd >= 0 {
				unix.Close(fd)
			}
			return true
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) {
			return false // gone; the event that says so is on its way
		}
	}
	if c.queued+len(b) > c.s.limit(nodeClientQueue)+protocol.MaxFrame || !c.super && c.user.queued.Load() > int64(c.s.limit(nodeUserQueue)) {
		if c.family == protocol.AFRoute {
			c.lost++
			c.s.refused(cntLostNews)
		} else if c.family == protocol.AFKey {
			c.s.refused(cntLostKeys)
		} else {
			c.s.refused(cntStalled)
			c.drop("it does not read its answers")
		}
		return false
	}
	c.out = append(c.out, outFrame{append([]byte(nil), b...), fd})
	c.charge(len(b))
	if !c.busy {
		c.arm()
	}
	return true
}

// charge counts n octets queued to the client and to its user. The caller
// holds c.mu.
func (c *conn) charge(n int) {
	c.queued += n
	if c.user != nil {
		c.user.queued.Add(int64(n))
	}
}

// sendFrame writes b, and with it a copy of the descriptor pass unless that is -1.
func sendFrame(fd int, b []byte, pass int) error {
	var rights []byte
	if pass >= 0 {
		rights = unix.UnixRights(pass)
	}
	for {
		_, err := unix.SendmsgN(fd, b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// flush writes what is queued. The caller holds c.mu.
func (c *conn) flush() {
	for len(c.out) > 0 {
		o := c.out[0]
		if err := sendFrame(c.fd, o.b, o.fd); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
			return
		}
		c.charge(-len(o.b))
		if c.family == protocol.AFKey {
			clear(o.b) // keys
		}
		o.close()
		c.out[0] = outFrame{}
		c.out = c.out[1:]
	}
	c.out = nil
	if n := c.lost; n > 0 {
		c.lost = 0
		c.sendLocked(protocol.AppendMessage(nil, &protocol.DesyncMessage{Lost: n}), -1)
	}
}

// close gives back a descriptor that was not taken.
func (o outFrame) close() {
	if o.fd >= 0 {
		unix.Close(o.fd)
	}
}

// drop ends a client that misbehaves: the worker that has it, or the next
// event, takes it down. The caller holds c.mu.
func (c *conn) drop(why string) {
	if !c.dead {
		c.dead = true
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
		c.s.log.Warn("a client is dropped", "why", why, "pid", c.credentials.Pid, "uid", c.credentials.Uid)
		if !c.busy {
			c.arm()
		}
	}
}

// teardown ends all that the client owned. Only the worker that has the
// client calls it, or the end of the server.
func (c *conn) teardown() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.charge(-c.queued)
	for _, o := range c.out {
		if c.family == protocol.AFKey {
			clear(o.b) // keys
		}
		o.close()
	}
	c.out = nil
	c.mu.Unlock()
	s := c.s
	s.forget(c.id)
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	switch c.family {
	case protocol.AFRoute:
		s.routes.leave(c)
	case protocol.AFKey:
		s.keys.leave(c)
	}
	c.closeAll()
	s.mu.Lock()
	if u := s.users[c.credentials.Uid]; u != nil {
		u.clients--
		s.leave(c.credentials.Uid, u)
	}
	s.mu.Unlock()
	unix.Close(c.fd)
}

// reply answers h: with err's number and sentence, or with the payload.
func (c *conn) reply(h protocol.Header, err error, payload []byte) {
	if err != nil {
		c.sendError(h, err)
		return
	}
	b := frames.Get().(*[]byte)
	*b = append(protocol.AppendReply((*b)[:0], h), payload...)
	if len(*b) > protocol.MaxFrame {
		*b = protocol.AppendError((*b)[:0], h, errf(unix.EMSGSIZE, "the answer does not fit a frame"))
	}
	c.send(*b)
	frames.Put(b)
}

func (c *conn) sendError(h protocol.Header, err error) {
	c.send(protocol.AppendError(nil, h, err))
}

// frames are buffers for building a reply.
var frames = sync.Pool{New: func() any { b := make([]byte, 0, protocol.MaxFrame+4096); return &b }}

// errf is an error with a number and a sentence for the client.
func errf(errno syscall.Errno, format string, args ...any) error {
	return &protocol.Error{Errno: errno, Text: fmt.Sprintf(format, args...)}
}
