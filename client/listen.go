package client

import (
	"cmp"
	"context"
	"math"
	"net"
	"net/netip"
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

// Listen is net.Listen on the stack, for "tcp", "tcp4" and "tcp6". As there an
// address without host, or of zeros, is every one of the stack, with "tcp" of
// both families; port 0 is any that is free. The listener is a *[TCPListener].
func (s *Stack) Listen(network, addr string) (net.Listener, error) {
	lc := ListenConfig{Stack: s}
	return lc.Listen(context.Background(), network, addr)
}

// ListenPacket is net.ListenPacket on the stack, for "udp", "udp4", "udp6",
// "ip4:icmp" and "ip6:ipv6-icmp" (or a number). ":0" is any address, with "udp" of both
// families, and "" that of the family, of IPv4 for "ip". The connection is a
// *[Conn].
func (s *Stack) ListenPacket(network, addr string) (net.PacketConn, error) {
	lc := ListenConfig{Stack: s}
	return lc.ListenPacket(context.Background(), network, addr)
}

// Listen is [Stack.Listen] with options; ctx ends the look-up of a name.
func (lc *ListenConfig) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	k, kd, a, err := lc.bound(ctx, network, addr, true)
	if err == nil {
		var l *TCPListener
		if l, err = lc.listenTCP(k, network); err == nil {
			return l, nil
		}
		_ = k.Close()
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: kd.addrOrNil(a), Err: err}
}

// ListenPacket is [Stack.ListenPacket] with options; ctx ends the look-up of a
// name.
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	k, kd, a, err := lc.bound(ctx, network, addr, false)
	if err == nil {
		var c *Conn
		if c, err = newConn(k, kd); err == nil {
			return c, nil
		}
		_ = k.Close()
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: kd.addrOrNil(a), Err: err}
}

// bound makes a socket that has the options and the address.
func (lc *ListenConfig) bound(ctx context.Context, network, addr string, stream bool) (*Socket, kind, protocol.Addr, error) {
	kd, err := parseNetwork(network)
	if err == nil && (kd.typ == protocol.SockStream) != stream {
		err = net.UnknownNetworkError(network)
	}
	var as []protocol.Addr
	if err == nil {
		as, err = lc.Stack.resolveAddr(ctx, network, addr, kd)
	}
	if err != nil {
		return nil, kd, protocol.Addr{}, err
	}
	a := as[0]
	for _, b := range as {
		if b.Family == protocol.AFInet { // a name means that, as in package net
			a = b
			break
		}
	}
	if kd.family != 0 && a.Family != kd.family {
		return nil, kd, a, &net.AddrError{Err: "no suitable address found", Addr: addr}
	}
	k, a, err := lc.socket(kd, a)
	if err != nil {
		return nil, kd, a, err
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
		err = k.Bind(a)
	}
	a = lc.Stack.named(a)
	if err != nil {
		_ = k.Close()
		return nil, kd, a, err
	}
	return k, kd, a, nil
}

// socket makes one for an address, and answers the address that it is to be
// bound to. Where the network leaves the family open, any address is one socket
// of AF_INET6 that takes both, unless the stack has no IPv6.
func (lc *ListenConfig) socket(kd kind, a protocol.Addr) (*Socket, protocol.Addr, error) {
	any := a.IP.IsUnspecified() && !kd.raw()
	if any && kd.family == 0 {
		k, err := lc.Stack.SocketFamily(protocol.AFInet6, kd.typ, kd.proto)
		if err == nil {
			a = protocol.AddrFrom(netip.IPv6Unspecified(), a.Port)
			return lc.only6(k, a, false)
		}
		if !lacks(err) || a.Family == protocol.AFInet6 {
			return nil, a, err
		}
	}
	k, err := lc.Stack.SocketFamily(a.Family, kd.typ, kd.proto)
	if err == nil && any && a.Family == protocol.AFInet6 {
		return lc.only6(k, a, true)
	}
	return k, a, err
}

// only6 says whether a socket of AF_INET6 leaves IPv4 alone.
func (lc *ListenConfig) only6(k *Socket, a protocol.Addr, on bool) (*Socket, protocol.Addr, error) {
	if err := k.SetInt(protocol.ProtoIPv6, protocol.IPv6V6Only, flag(on)); err != nil {
		_ = k.Close()
		return nil, a, err
	}
	return k, a, nil
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
	return &TCPListener{k: k, network: network, local: kindTCP.netAddr(k.s.named(a))}, nil
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
