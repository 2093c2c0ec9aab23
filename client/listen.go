package client

import (
	"cmp"
	"context"
	"math"
	"net"
	"time"

	"ionet/protocol"
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
	// Control is called before the socket is bound, if not nil, to set options.
	Control func(network, address string, k *Socket) error
	// KeepAliveConfig is what accepted connections begin with.
	KeepAliveConfig net.KeepAliveConfig
}

// Listen is net.Listen on the stack, for "tcp" and "tcp4". An address without
// host is every one of the stack; port 0 is any that is free. The listener is
// a *[TCPListener].
func (s *Stack) Listen(network, addr string) (net.Listener, error) {
	lc := ListenConfig{Stack: s}
	return lc.Listen(context.Background(), network, addr)
}

// ListenPacket is net.ListenPacket on the stack, for "udp", "udp4" and
// "ip4:icmp" (or a number). "" and ":0" are any address.
func (s *Stack) ListenPacket(network, addr string) (net.PacketConn, error) {
	lc := ListenConfig{Stack: s}
	return lc.ListenPacket(context.Background(), network, addr)
}

// Listen is [Stack.Listen] with options; ctx ends the look-up of a name.
func (lc *ListenConfig) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	k, a, err := lc.bound(ctx, network, addr, true)
	if err == nil {
		var l *TCPListener
		if l, err = lc.listenTCP(k, network); err == nil {
			return l, nil
		}
		_ = k.Close()
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: addrOrNil(network, a), Err: err}
}

// ListenPacket is [Stack.ListenPacket] with options; ctx ends the look-up of a
// name.
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	k, a, err := lc.bound(ctx, network, addr, false)
	if err == nil {
		_, _, raw, _ := parseNetwork(network)
		var c *socketConn
		if c, err = newConn(k, raw); err == nil {
			return c, nil
		}
		_ = k.Close()
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: addrOrNil(network, a), Err: err}
}

// bound makes a socket that has the options and the address.
func (lc *ListenConfig) bound(ctx context.Context, network, addr string, stream bool) (*Socket, protocol.Addr, error) {
	typ, proto, raw, err := parseNetwork(network)
	if err == nil && (typ == protocol.SockStream) != stream {
		err = net.UnknownNetworkError(network)
	}
	var as []protocol.Addr
	if err == nil {
		as, err = lc.Stack.resolveAddr(ctx, network, addr, raw)
	}
	if err != nil {
		return nil, protocol.Addr{}, err
	}
	k, err := lc.Stack.Socket(typ, proto)
	if err != nil {
		return nil, as[0], err
	}
	if lc.ReuseAddr || stream {
		err = k.SetInt(protocol.SolSocket, protocol.SoReuseAddr, 1)
	}
	if err == nil && lc.ReusePort {
		err = k.SetInt(protocol.SolSocket, protocol.SoReusePort, 1)
	}
	if err == nil && lc.Control != nil {
		err = lc.Control(network, addr, k)
	}
	if err == nil {
		err = k.Bind(as[0])
	}
	if err != nil {
		_ = k.Close()
		return nil, as[0], err
	}
	return k, as[0], nil
}

// addrOrNil is an address as package net shows it; nil for none.
func addrOrNil(network string, a protocol.Addr) net.Addr {
	if !a.IP.IsValid() {
		return nil
	}
	typ, _, raw, _ := parseNetwork(network)
	if typ == protocol.SockStream {
		return net.TCPAddrFromAddrPort(a.AddrPort())
	}
	return netAddr(a, raw)
}

// TCPListener accepts TCP connections, with the methods of a *net.TCPListener.
type TCPListener struct {
	k       *Socket
	network string
	local   net.Addr
}

var _ net.Listener = (*TCPListener)(nil)

// listenTCP makes a listener of a bound socket.
func (lc *ListenConfig) listenTCP(k *Socket, network string) (*TCPListener, error) {
	err := k.SetInt(protocol.ProtoTCP, protocol.TCPNoDelay, 1) // connections inherit it
	if err == nil && lc.KeepAliveConfig.Enable {
		err = setKeepAlive(k, lc.KeepAliveConfig)
	}
	if err == nil {
		err = k.Listen(cmp.Or(lc.Backlog, math.MaxInt32))
	}
	var a protocol.Addr
	if err == nil {
		a, err = k.LocalAddr()
	}
	if err != nil {
		return nil, err
	}
	return &TCPListener{k: k, network: network, local: net.TCPAddrFromAddrPort(a.AddrPort())}, nil
}

// Accept is net.Listener; the connection is a *[TCPConn].
func (l *TCPListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP waits for the next connection. With no descriptor left for it the
// error is ENFILE, which is temporary; the connection then waits on.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) {
	c, err := l.k.accept(l.network)
	if err != nil {
		return nil, l.opError("accept", err)
	}
	return c, nil
}

// Close ends the listener and every call that waits on it; connections that
// nobody has accepted are reset.
func (l *TCPListener) Close() error {
	if err := l.k.Close(); err != nil {
		return l.opError("close", err)
	}
	return nil
}

// Addr is net.Listener: a *net.TCPAddr.
func (l *TCPListener) Addr() net.Addr { return l.local }

// SetDeadline moves the deadline of Accept, also of one that waits; the zero
// time is never.
func (l *TCPListener) SetDeadline(t time.Time) error {
	if err := l.k.SetReadDeadline(t); err != nil {
		return l.opError("set", err)
	}
	return nil
}

// Socket is the socket below, for options.
func (l *TCPListener) Socket() *Socket { return l.k }

func (l *TCPListener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: l.network, Addr: l.local, Err: err}
}
