package stackd

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// given is our end of a pair that a client has brought with its connect, since
// its program has had the other end from the beginning. Filler keeps that end
// from being writable while the connection is under way; a pair that is closed
// with the filler in it shows the program ECONNRESET.
type given struct {
	fd     int
	filler uint32 // octets
}

// mostFiller is more than a quarter of any buffer that the kernel grants.
const mostFiller = 16 << 20

// takeGiven is what came with the frame in hand.
func (c *conn) takeGiven(filler uint32) (*given, error) {
	fd := c.given
	switch {
	case fd < 0:
		return nil, errf(unix.EBADF, "the descriptor of the connection has not come with the request")
	case filler > mostFiller:
		return nil, errf(unix.EINVAL, "filler is at most %d octets", mostFiller)
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	typ, terr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || terr != nil || domain != unix.AF_UNIX || typ != unix.SOCK_STREAM {
		return nil, errf(unix.EINVAL, "the descriptor of a connection is one end of a pair of local stream sockets")
	}
	c.given = -1
	return &given{fd: fd, filler: filler}, nil
}

// drop closes it; nil is none.
func (g *given) drop() {
	if g != nil {
		unix.Close(g.fd)
	}
}

// empty takes the filler out.
func (g *given) empty() {
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	for g.filler > 0 {
		n, err := take(g.fd, sc.b[:min(int64(g.filler), chunk)])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return // it has brought less
		}
		g.filler -= uint32(n)
	}
}

// endings are the streams that have ended by themselves, for a client that
// cannot see it from a descriptor of its own. Owner: the client; guarded by
// conn.own. Bound: most. Full: the oldest is forgotten.
type endings struct {
	wanted  atomic.Bool // the client has asked once
	waiting *protocol.Header
	list    []protocol.Ended
}

// mostEndings is what fits one frame.
const mostEndings = protocol.MaxPayload / 8

// tell notes an ending. The caller holds c.own.
func (c *conn) tell(e protocol.Ended) {
	n := &c.news
	switch {
	case !n.wanted.Load():
	case n.waiting != nil:
		h := *n.waiting
		n.waiting = nil
		c.unpark()
		c.reply(h, nil, protocol.AppendEnded(nil, []protocol.Ended{e}))
	default:
		if len(n.list) >= mostEndings {
			n.list = n.list[1:]
		}
		n.list = append(n.list, e)
	}
}

// endedNews serves TypeEnded.
func (c *conn) endedNews(h protocol.Header) ([]byte, error) {
	c.own.Lock()
	defer c.own.Unlock()
	n := &c.news
	n.wanted.Store(true)
	switch {
	case n.waiting != nil:
		return nil, errf(unix.EALREADY, "another request waits for endings already")
	case len(n.list) > 0:
		b := protocol.AppendEnded(nil, n.list)
		n.list = nil
		return b, nil
	}
	if err := c.park(); err != nil {
		return nil, err
	}
	n.waiting = &h
	return nil, errParked
}

// cancelNews answers the request tag with EINTR if it waits for endings.
func (c *conn) cancelNews(tag uint32) bool {
	c.own.Lock()
	defer c.own.Unlock()
	h := c.news.waiting
	if h == nil || h.Tag != tag {
		return false
	}
	c.news.waiting = nil
	c.unpark()
	c.reply(*h, unix.EINTR, nil)
	return true
}
