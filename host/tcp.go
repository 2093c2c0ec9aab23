package host

import (
	"context"
	"io"
	"net"
	"syscall"
	"time"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// TCPConn is a TCP connection of the stack, with the methods of a
// *net.TCPConn. They may be called from several goroutines at once; reads
// take turns, and so do writes, each of which is whole.
type TCPConn struct{ endpoint }

// newTCP makes a connection of a connected socket; on an error the socket is
// closed.
func (h *Stack) newTCP(so *socket.Socket, network string) (*TCPConn, error) {
	c := new(TCPConn)
	c.local, c.remote = h.addrOrAny(tcpOf(so), so.Local()), h.addrOrAny(tcpOf(so), so.Peer())
	if err := c.start(h, so, network); err != nil {
		h.Call(so.Close)
		return nil, err
	}
	return c, nil
}

// connectTCP connects a socket and waits for it until ctx ends; on an error
// the socket is closed, and with it the attempt.
func (h *Stack) connectTCP(ctx context.Context, so *socket.Socket, network string, to socket.Addr) (*TCPConn, error) {
	c := new(TCPConn)
	err := c.start(h, so, network)
	if err != nil {
		h.Call(so.Close)
		return nil, err
	}
	if err = noDelay(h, so); err == nil {
		err = c.connect(ctx, to)
	}
	if err != nil {
		_ = c.Close()
		return nil, syscallError("connect", err)
	}
	c.local, c.remote = h.addrOrAny(tcpOf(so), so.Local()), h.addrOrAny(tcpOf(so), so.Peer())
	return c, nil
}

func (c *TCPConn) connect(ctx context.Context, to socket.Addr) error {
	stop := func() bool { return true }
	if ctx.Done() != nil { // its end is a deadline that has passed
		stop = context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	}
	begun := false
	c.w.turn.Lock()
	defer c.w.turn.Unlock()
	err := c.await(&c.w, socket.Writable, func(w *netif.Work) error {
		if !begun {
			begun = true
			err := c.so.Connect(w, to)
			if err == syscall.EINPROGRESS {
				return syscall.EWOULDBLOCK
			}
			return err
		}
		if c.so.Poll()&(socket.Writable|socket.Error|socket.HangUp) == 0 {
			return syscall.EWOULDBLOCK
		}
		return c.so.TakeError()
	})
	if !stop() {
		return ctx.Err()
	}
	return err
}

// Read is net.Conn. At the end of the stream it answers io.EOF.
func (c *TCPConn) Read(b []byte) (int, error) {
	m := c.r.take()
	defer c.r.give()
	err := c.await(&c.r, socket.Readable, func(w *netif.Work) error {
		*m = socket.Msg{Data: b}
		if len(b) == 0 {
			return nil
		}
		return c.so.Recv(w, m)
	})
	if err != nil {
		return 0, c.opError("read", "read", err)
	}
	if len(m.Data) == 0 && len(b) > 0 {
		if c.state.Load() != open { // the end that the engine saw is our own
			return 0, c.opError("read", "", net.ErrClosed)
		}
		return 0, io.EOF
	}
	return len(m.Data), nil
}

// Write is net.Conn.
func (c *TCPConn) Write(b []byte) (int, error) {
	m := c.w.take()
	defer c.w.give()
	sent := 0
	err := c.await(&c.w, socket.Writable, func(w *netif.Work) error {
		if len(b) == 0 {
			return nil
		}
		*m = socket.Msg{Data: b[sent:]}
		n, err := c.so.Send(w, m)
		if sent += n; err == nil && sent < len(b) {
			return syscall.EWOULDBLOCK
		}
		return err
	})
	if err != nil {
		return sent, c.opError("write", "write", err)
	}
	return sent, nil
}

// Close is net.Conn. What was written is still sent, unless [TCPConn.SetLinger]
// says otherwise; with a time there, Close waits that long for it to be
// acknowledged.
func (c *TCPConn) Close() error {
	d, on := c.so.Linger()
	if err := c.endpoint.Close(); err != nil {
		return err
	}
	if on && d > 0 {
		c.linger(d)
	}
	return nil
}

// linger waits until the closed connection holds nothing any more that is not
// acknowledged.
func (c *TCPConn) linger(d time.Duration) {
	s := &c.w
	s.turn.Lock()
	defer s.turn.Unlock()
	end := c.h.Now() + int64(d)
	defer time.AfterFunc(d, s.wake).Stop()
	s.park()
	defer s.unpark()
	for c.so.Unsent() > 0 && c.h.Now() < end {
		select {
		case <-s.token:
		case <-c.h.done:
			return
		}
	}
}

// CloseRead ends receiving: reads answer io.EOF.
func (c *TCPConn) CloseRead() error { return c.shutdown(true, false) }

// CloseWrite ends sending; the peer reads io.EOF after all that was written.
func (c *TCPConn) CloseWrite() error { return c.shutdown(false, true) }

func (c *TCPConn) shutdown(read, write bool) error {
	err := c.call(func(w *netif.Work) error { return c.so.Shutdown(w, read, write) })
	if err != nil {
		return c.opError("close", "shutdown", err)
	}
	c.r.wake()
	c.w.wake()
	return nil
}

// call makes a call that never waits.
func (c *TCPConn) call(f func(w *netif.Work) error) (err error) {
	if c.state.Load() != open {
		return net.ErrClosed
	}
	c.h.Call(func(w *netif.Work) { err = f(w) })
	return err
}

var _ net.Conn = (*TCPConn)(nil)
