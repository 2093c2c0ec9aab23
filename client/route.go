package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"ionet/protocol"
	"ionet/protocol/door"
)

// RouteSocket is a routing socket (PF_ROUTE). One goroutine may write while
// another reads. Request reads too: it waits for a Read of another goroutine
// to end, so that who listens and asks has two sockets.
type RouteSocket struct {
	conn *net.UnixConn
	path string

	wmu sync.Mutex
	out []byte

	rmu   sync.Mutex
	buf   []byte
	queue []protocol.Message // came while Request waited
	seq   int                // begins anywhere: other sockets of this process send under its id too
}

// requestTimeout is how long the reply to a Request may take.
const requestTimeout = 10 * time.Second

// OpenRoute opens a routing socket of the stack at sock, as for [Open].
func OpenRoute(sock string) (*RouteSocket, error) {
	prefix, err := door.Find(sock)
	if err != nil {
		return nil, err
	}
	path := door.Socket(prefix, protocol.AFRoute)
	conn, err := door.Dial(path)
	if err != nil {
		return nil, dialError(prefix, path, err)
	}
	r := &RouteSocket{conn: conn, path: path, buf: make([]byte, protocol.MaxFrame+1),
		seq: int(rand.Int32N(1 << 30))}
	// The connection stands before the stack has taken it in; what changes
	// until then is not told. A first answer, whatever it says, is past that.
	loopback := protocol.AddrFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	if _, err := r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Dst: loopback}); err != nil && !errors.As(err, new(*protocol.Error)) {
		_ = conn.Close()
		return nil, err
	}
	return r, nil
}

// Write sends messages, as many in a frame as there is room for.
func (r *RouteSocket) Write(msgs ...protocol.Message) error {
	r.wmu.Lock()
	defer r.wmu.Unlock()
	r.out = r.out[:0]
	for _, m := range msgs {
		end := len(r.out)
		r.out = protocol.AppendMessage(r.out, m)
		if len(r.out) > protocol.MaxFrame {
			if err := r.send(r.out[:end]); err != nil {
				return err
			}
			r.out = r.out[:copy(r.out, r.out[end:])]
		}
	}
	return r.send(r.out)
}

func (r *RouteSocket) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := r.conn.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		return r.gone()
	}
	return err
}

func (r *RouteSocket) gone() error {
	return fmt.Errorf("the stack at %s has gone: %w", r.path, syscall.ECONNRESET)
}

// Read waits for messages; *protocol.DesyncMessage among them says that some
// were lost.
func (r *RouteSocket) Read() ([]protocol.Message, error) {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	if q := r.queue; len(q) > 0 {
		r.queue = nil
		return q, nil
	}
	return r.read()
}

// ReadRaw waits for a frame of messages, for protocol.NextMessage or
// RouteMessage.Decode, and does not allocate. The frame is the caller's until
// the next Read. What Request left behind is for Read only.
func (r *RouteSocket) ReadRaw() ([]byte, error) {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	return r.frame()
}

func (r *RouteSocket) frame() ([]byte, error) {
	n, err := r.conn.Read(r.buf)
	if err != nil || n == 0 {
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
			err = r.gone()
		}
		return nil, err
	}
	return r.buf[:n], nil
}

func (r *RouteSocket) read() ([]protocol.Message, error) {
	for {
		b, err := r.frame()
		if err != nil {
			return nil, err
		}
		var msgs []protocol.Message
		for len(b) > 0 {
			var m protocol.Message
			if m, b, err = protocol.NextMessage(b); err != nil {
				return nil, fmt.Errorf("%s is not an ionet stack: %w", r.path, err)
			}
			if m != nil {
				msgs = append(msgs, m)
			}
		}
		if len(msgs) > 0 {
			return msgs, nil
		}
	}
}

// Request sends m under this process's id and a new sequence number, and
// waits for the reply that has both. The reply's errno is the error; what
// comes between is left for Read.
func (r *RouteSocket) Request(m protocol.RouteMessage) (protocol.RouteMessage, error) {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	r.seq++
	m.Seq, m.PID = r.seq, os.Getpid()
	if err := r.Write(&m); err != nil {
		return protocol.RouteMessage{}, err
	}
	if err := r.conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return protocol.RouteMessage{}, err
	}
	defer func() { _ = r.conn.SetReadDeadline(time.Time{}) }()
	for {
		msgs, err := r.read()
		if err != nil {
			return protocol.RouteMessage{}, err
		}
		for i, x := range msgs {
			a, ok := x.(*protocol.RouteMessage)
			if !ok || a.PID != m.PID || a.Seq != m.Seq || a.Type != m.Type {
				continue
			}
			r.keep(msgs[:i])
			r.keep(msgs[i+1:])
			if a.Errno != 0 {
				return *a, &protocol.Error{Errno: a.Errno}
			}
			return *a, nil
		}
		r.keep(msgs)
	}
}

// keepMax bounds what is kept for Read, which a program that only requests
// never calls. When there are more all go, and Read answers a DesyncMessage in
// their place.
const keepMax = 4096

func (r *RouteSocket) keep(msgs []protocol.Message) {
	r.queue = append(r.queue, msgs...)
	if len(r.queue) <= keepMax {
		return
	}
	var lost uint32
	for _, m := range r.queue {
		if d, ok := m.(*protocol.DesyncMessage); ok {
			lost += d.Lost
		} else {
			lost++
		}
	}
	r.queue = []protocol.Message{&protocol.DesyncMessage{Lost: lost}}
}

// SetReadDeadline moves the deadline of Read.
func (r *RouteSocket) SetReadDeadline(t time.Time) error { return r.conn.SetReadDeadline(t) }

// Close ends the socket.
func (r *RouteSocket) Close() error { return r.conn.Close() }
