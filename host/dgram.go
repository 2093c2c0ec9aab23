package host

import (
	"net"
	"sync"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// Conn is a datagram socket of the stack with the method sets of net.Conn and
// net.PacketConn.
type Conn struct {
	endpoint
	kind kind
}

// ReadFrom is net.PacketConn.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	m, err := c.recv(b)
	if err != nil {
		return 0, nil, c.opError("read", "recvfrom", err)
	}
	return len(m.Data), c.h.addrOrAny(c.kind, m.Addr), nil
}

// ReadMsg reads a datagram with its ancillary data. Addresses are those of
// socket calls: a scope in the place of a zone, on a socket of IPv6 those of IPv4
// mapped. Errors are bare.
func (c *Conn) ReadMsg(b []byte) (socket.Msg, error) { return c.recv(b) }

// Read is net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	m, err := c.recv(b)
	if err != nil {
		return 0, c.opError("read", "read", err)
	}
	return len(m.Data), nil
}

func (c *Conn) recv(b []byte) (socket.Msg, error) {
	m := c.r.take()
	defer c.r.give()
	err := c.await(&c.r, socket.Readable, func(w *netif.Work) error {
		*m = socket.Msg{Data: b}
		return c.so.Recv(w, m)
	})
	return *m, err
}

// WriteTo is net.PacketConn.
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	a, err := c.h.netAddr(to)
	if err != nil {
		return 0, &net.OpError{Op: "write", Net: c.network, Source: c.local, Err: err}
	}
	n, err := c.send(socket.Msg{Data: b, Addr: mapped(c.so.Family, a)})
	if err != nil {
		e := c.opError("write", "sendto", err).(*net.OpError)
		e.Addr = to
		return n, e
	}
	return n, nil
}

// WriteMsg sends a datagram with wishes for it alone (Msg.Control), to the peer
// if it has no address; else as ReadMsg.
func (c *Conn) WriteMsg(m socket.Msg) (int, error) {
	m.Addr = mapped(c.so.Family, m.Addr)
	return c.send(m)
}

// Write is net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.send(socket.Msg{Data: b})
	if err != nil {
		return n, c.opError("write", "write", err)
	}
	return n, nil
}

// send sends at once or not at all.
func (c *Conn) send(msg socket.Msg) (n int, err error) {
	if err := c.over(&c.w); err != nil {
		return 0, err
	}
	m := msgs.Get().(*socket.Msg)
	defer putMsg(m)
	*m = msg
	w := c.h.engine.Env.Begin(c.h.Now())
	n, err = c.so.Send(w, m)
	w.End()
	if err != nil && c.state.Load() != open {
		err = net.ErrClosed
	}
	return n, err
}

// msgs keeps the messages of calls that take no turns: they pass an interface
// and would be allocated otherwise.
var msgs = sync.Pool{New: func() any { return new(socket.Msg) }}

func putMsg(m *socket.Msg) {
	*m = socket.Msg{} // it must not keep the caller's memory
	msgs.Put(m)
}

var (
	_ net.PacketConn = (*Conn)(nil)
	_ net.Conn       = (*Conn)(nil)
)
