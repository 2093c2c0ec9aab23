package host

import (
	"cmp"
	"context"
	"math"
	"net"
	"syscall"
	"time"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// ListenConfig is net.ListenConfig for a stack.
type ListenConfig struct {
	Stack *Stack
	// ReuseAddr is SO_REUSEADDR for datagrams; a TCP listener always has it, as
	// in package net. ReusePort is SO_REUSEPORT.
	ReuseAddr, ReusePort bool
	// Backlog is how many connections may wait to be accepted; 0: as many as
	// kern.somaxconn allows.
	Backlog int
	// Control is called before the socket is bound, if not nil; within it
	// [Stack.Call] sets options.
	Control func(network, address string, so *socket.Socket) error
	// KeepAliveConfig is what accepted connections begin with.
	KeepAliveConfig net.KeepAliveConfig
}

// Listen opens a TCP listener: networks "tcp", "tcp4" and "tcp6". As in package
// net an address without host, or of zeros, is every one of the stack, with
// "tcp" of both families; port 0 is any that is free.
func (h *Stack) Listen(network, address string) (net.Listener, error) {
	lc := ListenConfig{Stack: h}
	return lc.Listen(context.Background(), network, address)
}

// ListenPacket opens a datagram socket: networks "udp", "udp4" and "udp6" with
// an address "host:port", as in Listen, and "ip4:icmp" and "ip6:ipv6-icmp" (or
// a number) with an address or "".
func (h *Stack) ListenPacket(network, address string) (net.PacketConn, error) {
	lc := ListenConfig{Stack: h}
	return lc.ListenPacket(context.Background(), network, address)
}

// Listen is [Stack.Listen] with options; ctx ends the look-up of a name. The
// listener is a *[TCPListener].
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	k, err := kindOf(network)
	if err == nil && k.typ != socket.Stream {
		err = net.UnknownNetworkError(network)
	}
	var so *socket.Socket
	var a socket.Addr
	if err == nil {
		so, a, err = lc.bound(ctx, k, network, address)
	}
	if err == nil {
		var l *TCPListener
		if l, err = lc.listenTCP(so, network); err == nil {
			return l, nil
		}
		lc.Stack.Call(so.Close)
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: lc.Stack.addr(k, a), Err: mapContext(err)}
}

// ListenPacket is [Stack.ListenPacket] with options; ctx ends the look-up of
// a name. The connection is a *[Conn].
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	k, err := kindOf(network)
	if err == nil && k.typ == socket.Stream {
		err = net.UnknownNetworkError(network)
	}
	var so *socket.Socket
	var a socket.Addr
	if err == nil {
		so, a, err = lc.bound(ctx, k, network, address)
	}
	if err == nil {
		var c *Conn
		if c, err = lc.Stack.datagrams(so, k, network); err == nil {
			return c, nil
		}
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: lc.Stack.addr(k, a), Err: mapContext(err)}
}

// bound makes a socket that has the options and the address.
func (lc *ListenConfig) bound(ctx context.Context, k kind, network, address string) (*socket.Socket, socket.Addr, error) {
	h := lc.Stack
	as, err := h.resolve(ctx, k, address)
	if err != nil {
		return nil, socket.Addr{}, err
	}
	a := as[0]
	for _, b := range as {
		if b.IP.Is4() { // a name means that, as in package net
			a = b
			break
		}
	}
	if k.family != 0 && a.IP.IsValid() && socket.FamilyOf(a.IP) != k.family {
		return nil, a, &net.AddrError{Err: "no suitable address found", Addr: address}
	}
	so, at, err := h.socketFor(k, a)
	if err != nil {
		return nil, a, err
	}
	for _, o := range []struct {
		name int
		on   bool
	}{{socket.SOReuseAddr, lc.ReuseAddr || k.typ == socket.Stream}, {socket.SOReusePort, lc.ReusePort}} {
		if o.on && err == nil {
			h.Call(func(w *netif.Work) { err = so.SetOption(w, socket.LevelSocket, o.name, socket.Value32(1)) })
			err = syscallError("setsockopt", err)
		}
	}
	if err == nil && lc.Control != nil {
		err = lc.Control(network, address, so)
	}
	if err == nil {
		err = h.bind(so, at)
	}
	if err != nil {
		h.Call(so.Close)
		return nil, a, err
	}
	return so, a, nil
}

// socketFor makes a socket for an address, and answers the address that it is
// to be bound to. Where the network leaves the family open, any address is one
// socket of IPv6 that takes both, unless the stack has no IPv6.
func (h *Stack) socketFor(k kind, a socket.Addr) (*socket.Socket, socket.Addr, error) {
	any := !a.IP.IsValid() || a.IP.IsUnspecified()
	only6 := k.family == socket.AFInet6
	switch {
	case k.family != 0:
	case !any || a.IP.Is6():
		k.family = socket.FamilyOf(a.IP)
	case h.engine.Inet6 != nil:
		k.family = socket.AFInet6
	default:
		k.family = socket.AFInet
	}
	if any {
		a.IP = wildcard(k.family)
	}
	so, err := h.socket(k)
	if err == nil && any && k.family == socket.AFInet6 && !k.raw() {
		on := 0
		if only6 {
			on = 1
		}
		h.Call(func(w *netif.Work) { err = so.SetOption(w, levelIPv6, ipv6V6Only, socket.Value32(on)) })
		if err = syscallError("setsockopt", err); err != nil {
			h.Call(so.Close)
		}
	}
	return so, a, err
}

// TCPListener accepts TCP connections, with the methods of a *net.TCPListener.
type TCPListener struct{ ep endpoint }

// listenTCP makes a listener of a bound socket.
func (lc *ListenConfig) listenTCP(so *socket.Socket, network string) (*TCPListener, error) {
	h := lc.Stack
	err := noDelay(h, so)
	if lc.KeepAliveConfig.Enable { // connections inherit it
		for _, o := range keepAlive(lc.KeepAliveConfig) {
			if err == nil {
				h.Call(func(w *netif.Work) { err = so.SetOption(w, o.level, o.name, o.value) })
				err = syscallError("setsockopt", err)
			}
		}
	}
	if err == nil {
		h.Call(func(w *netif.Work) { err = so.Listen(w, cmp.Or(lc.Backlog, math.MaxInt32)) })
		err = syscallError("listen", err)
	}
	l := new(TCPListener)
	if err == nil {
		l.ep.local = h.addrOrAny(tcpOf(so), so.Local())
		err = l.ep.start(h, so, network)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Accept is net.Listener; the connection is a *[TCPConn].
func (l *TCPListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP waits for the next connection.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) {
	so, err := l.accept()
	var c *TCPConn
	if err == nil {
		c, err = l.ep.h.newTCP(so, l.ep.network)
	}
	if err != nil {
		return nil, l.opError("accept", err)
	}
	return c, nil
}

func (l *TCPListener) accept() (so *socket.Socket, err error) {
	ep := &l.ep
	ep.r.turn.Lock()
	defer ep.r.turn.Unlock()
	err = ep.await(&ep.r, socket.Readable, func(w *netif.Work) (err error) {
		for {
			// A connection that was aborted while it waited is nobody's.
			if so, err = ep.so.Accept(w); err != syscall.ECONNABORTED {
				return err
			}
		}
	})
	return so, err
}

// Close ends the listener and every call that waits on it; connections that
// nobody has accepted are reset.
func (l *TCPListener) Close() error {
	if !l.ep.shut() {
		return l.opError("close", net.ErrClosed)
	}
	l.ep.h.Call(l.ep.so.Close)
	return nil
}

// Addr is net.Listener: a *net.TCPAddr.
func (l *TCPListener) Addr() net.Addr { return l.ep.local }

// SetDeadline moves the deadline of Accept, also of one that waits; the zero
// time is never.
func (l *TCPListener) SetDeadline(t time.Time) error { return l.ep.deadline(&l.ep.r, t) }

// Socket is the socket below, for options.
func (l *TCPListener) Socket() *socket.Socket { return l.ep.so }

func (l *TCPListener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: l.ep.network, Addr: l.ep.local, Err: syscallError(op, err)}
}

var _ net.Listener = (*TCPListener)(nil)
