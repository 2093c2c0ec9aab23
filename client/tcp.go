package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// TCPConn is a TCP connection of the stack, with the methods of a
// *net.TCPConn. Data goes through a descriptor that the stack has passed, and
// so at the speed of a local socket; options go to the stack. Errors are those
// of package net: a *net.OpError around ECONNRESET, EPIPE,
// os.ErrDeadlineExceeded, net.ErrClosed.
type TCPConn struct {
	k           *Socket
	data        *net.UnixConn
	network     string
	local, peer net.Addr
	closed      atomic.Bool
	lingers     atomic.Bool

	mu    sync.Mutex
	asked atomic.Bool // why it has ended: err, nil for an ordinary end
	err   error       // stays
}

var _ net.Conn = (*TCPConn)(nil)

// connectTCP connects a new stream socket.
func (k *Socket) connectTCP(ctx context.Context, network string, to protocol.Addr) (*TCPConn, error) {
	// As in package net small segments do not wait for each other; the stack
	// does one request after the other.
	err := k.s.post(protocol.TypeSetsockopt, k.id, protocol.AppendSockOpt(nil,
		protocol.SockOpt{Level: protocol.ProtoTCP, Name: protocol.TCPNoDelay, Value: protocol.AppendU32(nil, 1)}))
	if err != nil {
		return nil, err
	}
	r := k.s.roundTrip(ctx.Done(), ctx.Err, protocol.TypeConnect, k.id, protocol.AppendSockaddr(nil, to))
	if r.err != nil {
		r.drop()
		return nil, r.err
	}
	peer, local, err := protocol.ParseConnected(r.payload)
	return newTCPConn(k, network, r, peer, local, err)
}

// accept takes a connection from a listening socket.
func (k *Socket) accept(network string) (*TCPConn, error) {
	r := k.s.roundTrip(k.read.wait(), k.read.why, protocol.TypeAccept, k.id, nil)
	if r.err != nil {
		r.drop()
		return nil, k.closed(r.err)
	}
	a, err := protocol.ParseAccepted(r.payload)
	return newTCPConn(k.child(a.ID), network, r, a.Peer, a.Local, err)
}

// child is a socket that k, which listens, has brought forth.
func (k *Socket) child(id uint32) *Socket {
	return &Socket{s: k.s, id: id, family: k.family, read: newDeadline()}
}

// newTCPConn takes the descriptor over.
func newTCPConn(k *Socket, network string, r reply, peer, local protocol.Addr, err error) (*TCPConn, error) {
	if err == nil && r.fd == 0 {
		err = errors.New("the stack sent no descriptor with the connection: this program has none left (ulimit -n)")
	}
	if err != nil {
		r.drop()
		_ = k.Close()
		return nil, err
	}
	f := os.NewFile(uintptr(r.fd), "tcp")
	c, err := net.FileConn(f) // of a copy
	_ = f.Close()
	if err != nil {
		_ = k.Close()
		return nil, err
	}
	data, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("the stack sent a descriptor that is no local socket")
	}
	return &TCPConn{k: k, data: data, network: network, local: kindTCP.netAddr(k.s.named(local)), peer: kindTCP.netAddr(k.s.named(peer))}, nil
}

// Read is net.Conn; at the end of the stream io.EOF.
func (c *TCPConn) Read(p []byte) (int, error) {
	n, err := c.data.Read(p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		if why := c.ended(false); why != nil {
			return n, c.opError("read", why)
		}
		return n, io.EOF
	}
	return n, c.opError("read", c.cause(err))
}

// Write is net.Conn.
func (c *TCPConn) Write(p []byte) (int, error) {
	n, err := c.data.Write(p)
	if err != nil {
		return n, c.opError("write", c.cause(err))
	}
	return n, nil
}

// cause is what lies behind an error of the descriptor.
func (c *TCPConn) cause(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if ok {
		err = op.Err
	}
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		if why := c.ended(true); why != nil {
			return why
		}
		return protocol.AsError(err).Errno
	}
	return err
}

// ended is why the connection has ended; nil when it has not, or well. A pair
// of local sockets has only one error of its own, and that not always: the
// stack is asked (SO_ERROR), but after an end of what the peer sends (a read
// of nothing) only when both directions have ended.
func (c *TCPConn) ended(surely bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.Load() || !surely && !c.hungUp() {
		return c.err
	}
	n, err := c.k.Int(protocol.SolSocket, protocol.SoError)
	switch {
	case errors.Is(err, syscall.EBADF): // it has come to an ordinary end
		c.asked.Store(true)
	case err != nil:
		c.err = err
		c.asked.Store(true)
	case n != 0:
		c.err = syscall.Errno(n)
		c.asked.Store(true)
	}
	return c.err
}

// hungUp asks whether the stack has closed its end of the descriptor, or each
// side one direction.
func (c *TCPConn) hungUp() (yes bool) {
	raw, err := c.data.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		_, _ = unix.Poll(p, 0)
		yes = p[0].Revents&unix.POLLHUP != 0
	})
	return yes
}

func (c *TCPConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: c.network, Source: c.local, Addr: c.peer, Err: err}
}

// Close is net.Conn: what was written is sent, then the connection ends. With
// [TCPConn.SetLinger] it waits, or resets the connection.
func (c *TCPConn) Close() error {
	if c.closed.Swap(true) {
		return c.opError("close", net.ErrClosed)
	}
	if c.lingers.Load() {
		_ = c.data.SetDeadline(time.Unix(1, 0)) // lets go who waits
		err := c.k.Close()
		if cerr := c.data.Close(); err == nil {
			err = cerr
		}
		if err == nil || errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.EWOULDBLOCK) {
			return nil
		}
		return c.opError("close", err)
	}
	c.k.read.shut()
	if err := c.data.Close(); err != nil {
		return c.opError("close", c.cause(err))
	}
	c.letGo()
	return nil
}

// letGo has the stack forget why the connection has ended, if it has failed and
// nobody has asked: SO_ERROR, the answer to which nobody reads. It does nothing
// to a connection that stands, should another process have its descriptor; nor
// does it wait: a stack that reads no requests forgets the oldest by itself.
func (c *TCPConn) letGo() {
	if !c.asked.Load() {
		c.k.s.postNow(protocol.TypeGetsockopt, c.k.id,
			protocol.AppendSockOpt(nil, protocol.SockOpt{Level: protocol.SolSocket, Name: protocol.SoError}))
	}
}

// CloseRead ends receiving: what comes is discarded.
func (c *TCPConn) CloseRead() error { return c.shut(c.data.CloseRead) }

// CloseWrite ends sending: after what was written the peer reads the end of
// the stream.
func (c *TCPConn) CloseWrite() error { return c.shut(c.data.CloseWrite) }

func (c *TCPConn) shut(f func() error) error {
	if err := f(); err != nil {
		return c.opError("close", c.cause(err))
	}
	return nil
}

// LocalAddr is a *net.TCPAddr, as RemoteAddr is.
func (c *TCPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is net.Conn.
func (c *TCPConn) RemoteAddr() net.Addr { return c.peer }

// SetDeadline is net.Conn.
func (c *TCPConn) SetDeadline(t time.Time) error { return c.setError(c.data.SetDeadline(t)) }

// SetReadDeadline is net.Conn.
func (c *TCPConn) SetReadDeadline(t time.Time) error { return c.setError(c.data.SetReadDeadline(t)) }

// SetWriteDeadline is net.Conn.
func (c *TCPConn) SetWriteDeadline(t time.Time) error { return c.setError(c.data.SetWriteDeadline(t)) }

func (c *TCPConn) setError(err error) error {
	if err == nil {
		return nil
	}
	return c.opError("set", c.cause(err))
}

// Socket is the socket below, for options and out-of-band octets.
func (c *TCPConn) Socket() *Socket { return c.k }

// SyscallConn is the descriptor that carries the data: a local stream socket.
// [protocol/README.md] says in what it differs from a TCP socket.
func (c *TCPConn) SyscallConn() (syscall.RawConn, error) { return c.data.SyscallConn() }
