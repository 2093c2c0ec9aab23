package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// Conn is a datagram socket of the stack with the method sets of net.Conn and
// net.PacketConn.
type Conn struct {
	h   *Stack
	so  *socket.Socket
	raw bool // addresses are net.IPAddr

	readable chan struct{} // holds a token when something may have come
	gone     chan struct{} // closed with the Conn

	mu       sync.Mutex
	rdl, wdl time.Time
	rmoved   chan struct{} // closed when rdl moves
	closed   bool
}

var self = socket.Cred{UID: os.Getuid(), PID: os.Getpid(), Super: true}

func (h *Stack) conn(typ, proto int) (*Conn, error) {
	c := &Conn{h: h, readable: make(chan struct{}, 1), gone: make(chan struct{}), rmoved: make(chan struct{}), raw: typ == socket.Raw}
	var err error
	h.Call(func(w *netif.Work) { c.so, err = h.engine.Socket(w, socket.AFInet, typ, proto, self) })
	if err != nil {
		return nil, err
	}
	c.so.SetUpcall(func(*netif.Work) { c.wake() })
	return c, nil
}

// wake lets one waiting reader look.
func (c *Conn) wake() {
	select {
	case c.readable <- struct{}{}:
	default:
	}
}

// ListenPacket opens a datagram socket: networks "udp", "udp4" with an address
// "host:port", and "ip4:icmp" with an address or "".
func (h *Stack) ListenPacket(network, address string) (net.PacketConn, error) {
	c, local, err := h.open(network, address)
	if err == nil {
		h.Call(func(w *netif.Work) { err = c.so.Bind(w, local) })
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return c, nil
}

// Dial opens a datagram socket connected to address, an IP address and port.
func (h *Stack) Dial(network, address string) (net.Conn, error) {
	return h.DialContext(context.Background(), network, address)
}

// DialContext is Dial; datagram sockets connect at once.
func (h *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, peer, err := h.open(network, address)
	if err == nil {
		h.Call(func(w *netif.Work) { err = c.so.Connect(w, peer) })
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return c, nil
}

func (h *Stack) open(network, address string) (*Conn, socket.Addr, error) {
	var a socket.Addr
	switch network {
	case "udp", "udp4":
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, a, err
		}
		n, err := net.LookupPort("udp", port)
		if err != nil {
			return nil, a, err
		}
		a.Port = uint16(n)
		address = host
	case "ip4:icmp":
	default:
		return nil, a, net.UnknownNetworkError(network)
	}
	if address != "" {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return nil, a, fmt.Errorf("%q is not an IP address", address)
		}
		a.IP = ip.Unmap()
	}
	typ, proto := socket.Dgram, 17
	if network == "ip4:icmp" {
		typ, proto = socket.Raw, 1
	}
	c, err := h.conn(typ, proto)
	return c, a, err
}

// Socket is the socket below, for options.
func (c *Conn) Socket() *socket.Socket { return c.so }

// ReadFrom is net.PacketConn.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	m, err := c.recv(b)
	if err != nil {
		return 0, nil, &net.OpError{Op: "read", Net: "udp", Source: c.LocalAddr(), Err: err}
	}
	return len(m.Data), c.addr(m.Addr), nil
}

// ReadMsg reads a datagram with its ancillary data.
func (c *Conn) ReadMsg(b []byte) (socket.Msg, error) { return c.recv(b) }

// Read is net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

func (c *Conn) recv(b []byte) (socket.Msg, error) {
	for {
		c.mu.Lock()
		moved, dl, closed := c.rmoved, c.rdl, c.closed
		c.mu.Unlock()
		if closed {
			return socket.Msg{}, net.ErrClosed
		}
		if !dl.IsZero() && !time.Now().Before(dl) {
			return socket.Msg{}, os.ErrDeadlineExceeded
		}
		m := msgs.Get().(*socket.Msg)
		*m = socket.Msg{Data: b}
		w := c.h.engine.Env.Begin(c.h.Now())
		err := c.so.Recv(w, m)
		w.End()
		got := *m
		msgs.Put(m)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			if c.so.Poll()&socket.Readable != 0 { // for the next reader
				c.wake()
			}
			return got, err
		}
		if err := c.wait(moved, dl); err != nil {
			return got, err
		}
	}
}

// wait lasts until something may have come, the deadline moved or came, or the
// stack ended.
func (c *Conn) wait(moved chan struct{}, dl time.Time) error {
	var expired <-chan time.Time
	if !dl.IsZero() {
		t := time.NewTimer(time.Until(dl))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-c.readable:
	case <-moved:
	case <-c.gone:
	case <-c.h.done:
		return net.ErrClosed
	case <-expired:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// msgs keeps the messages of calls: they pass an interface and would be
// allocated otherwise.
var msgs = sync.Pool{New: func() any { return new(socket.Msg) }}

// WriteTo is net.PacketConn.
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	m := msgs.Get().(*socket.Msg)
	defer msgs.Put(m)
	*m = socket.Msg{Data: b}
	switch a := to.(type) {
	case *net.UDPAddr:
		ap := a.AddrPort()
		m.Addr = socket.Addr{IP: ap.Addr().Unmap(), Port: ap.Port()}
	case *net.IPAddr:
		ip, _ := netip.AddrFromSlice(a.IP)
		m.Addr = socket.Addr{IP: ip.Unmap()}
	default:
		return 0, &net.OpError{Op: "write", Net: "udp", Err: fmt.Errorf("an address of type %T", to)}
	}
	return c.send(m)
}

// Write is net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	m := msgs.Get().(*socket.Msg)
	defer msgs.Put(m)
	*m = socket.Msg{Data: b}
	return c.send(m)
}

func (c *Conn) send(m *socket.Msg) (n int, err error) {
	c.mu.Lock()
	dl, closed := c.wdl, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		err = net.ErrClosed
	case !dl.IsZero() && !time.Now().Before(dl):
		err = os.ErrDeadlineExceeded
	default:
		w := c.h.engine.Env.Begin(c.h.Now())
		n, err = c.so.Send(w, m)
		w.End()
	}
	if err != nil {
		return n, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Err: err}
	}
	return n, nil
}

func (c *Conn) addr(a socket.Addr) net.Addr {
	if c.raw {
		return &net.IPAddr{IP: a.IP.AsSlice()}
	}
	ip := a.IP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, a.Port))
}

// LocalAddr is net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.addr(c.so.H.Local()) }

// RemoteAddr is net.Conn; nil when not connected.
func (c *Conn) RemoteAddr() net.Addr {
	p := c.so.H.Peer()
	if !p.IP.IsValid() {
		return nil
	}
	return c.addr(p)
}

// SetDeadline is net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline is net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.rdl = t
	close(c.rmoved)
	c.rmoved = make(chan struct{})
	return nil
}

// SetWriteDeadline is net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.wdl = t
	return nil
}

// Close is net.Conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	c.mu.Unlock()
	close(c.gone)
	c.h.Call(c.so.Close)
	return nil
}

var (
	_ net.PacketConn = (*Conn)(nil)
	_ net.Conn       = (*Conn)(nil)
)
