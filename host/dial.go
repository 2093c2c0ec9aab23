package host

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var self = socket.Cred{UID: os.Getuid(), PID: os.Getpid(), Super: true}

// kind is what a network's name stands for.
type kind struct{ typ, proto int }

// The kinds of sockets that have names.
var (
	kindTCP  = kind{socket.Stream, packet.ProtoTCP}
	kindUDP  = kind{socket.Dgram, packet.ProtoUDP}
	kindICMP = kind{socket.Raw, packet.ProtoICMP}
)

func kindOf(network string) (kind, error) {
	switch network {
	case "tcp", "tcp4":
		return kindTCP, nil
	case "udp", "udp4":
		return kindUDP, nil
	case "ip4:icmp":
		return kindICMP, nil
	}
	return kind{}, net.UnknownNetworkError(network)
}

// addr is an address of the kind as package net shows it; nil: none.
func (k kind) addr(a socket.Addr) net.Addr {
	if !a.IP.IsValid() && a.Port == 0 {
		return nil
	}
	return k.addrOrAny(a)
}

// addrOrAny is addr with the wildcard address for none.
func (k kind) addrOrAny(a socket.Addr) net.Addr {
	ip := a.IP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	switch k {
	case kindTCP:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, a.Port))
	case kindUDP:
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, a.Port))
	}
	return &net.IPAddr{IP: ip.AsSlice()}
}

// Dial connects to an address of one of the networks "tcp", "tcp4", "udp",
// "udp4" and "ip4:icmp". The host of "host:port" is an address or a name, and
// this stack when it is empty. Connections are *[TCPConn] or *[Conn]; errors
// are those of package net: a *net.OpError.
func (h *Stack) Dial(network, address string) (net.Conn, error) {
	return h.DialContext(context.Background(), network, address)
}

// DialContext is Dial that gives up when ctx ends.
func (h *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return h.dial(ctx, network, "", address)
}

// DialFrom is Dial from an address of the stack's own, with or without a
// port: "10.0.0.1:0", ":53".
func (h *Stack) DialFrom(network, local, address string) (net.Conn, error) {
	return h.dial(context.Background(), network, local, address)
}

func (h *Stack) dial(ctx context.Context, network, local, address string) (net.Conn, error) {
	k, err := kindOf(network)
	var from, to []socket.Addr
	if err == nil && local != "" {
		from, err = h.resolve(ctx, k, local)
	}
	if err == nil {
		to, err = h.resolve(ctx, k, address)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: mapContext(err)}
	}
	var first error
	for i, a := range to {
		if !a.IP.IsValid() || a.IP.IsUnspecified() {
			a.IP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		c, err := h.dialOne(ctx, network, k, from, a, len(to)-i)
		if err == nil {
			return c, nil
		}
		op := &net.OpError{Op: "dial", Net: network, Addr: k.addr(a), Err: mapContext(err)}
		if len(from) > 0 {
			op.Source = k.addr(from[0])
		}
		if first == nil {
			first = op
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// dialOne dials one address when so many are left to try. Of the time that is
// left it takes its part.
func (h *Stack) dialOne(ctx context.Context, network string, k kind, from []socket.Addr, to socket.Addr, tries int) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok && tries > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(time.Until(end)/time.Duration(tries), 2*time.Second))
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	so, err := h.socket(k)
	if err != nil {
		return nil, err
	}
	if len(from) > 0 {
		if err := h.bind(so, from[0]); err != nil {
			h.Call(so.Close)
			return nil, err
		}
	}
	if k == kindTCP {
		return h.connectTCP(ctx, so, network, to)
	}
	h.Call(func(w *netif.Work) { err = so.Connect(w, to) })
	if err != nil {
		h.Call(so.Close)
		return nil, syscallError("connect", err)
	}
	return h.datagrams(so, k, network)
}

// socket makes a socket of a kind.
func (h *Stack) socket(k kind) (so *socket.Socket, err error) {
	h.Call(func(w *netif.Work) { so, err = h.engine.Socket(w, socket.AFInet, k.typ, k.proto, self) })
	return so, syscallError("socket", err)
}

func (h *Stack) bind(so *socket.Socket, a socket.Addr) (err error) {
	h.Call(func(w *netif.Work) { err = so.Bind(w, a) })
	return syscallError("bind", err)
}

// datagrams makes a connection of a socket that is bound or connected; on an
// error the socket is closed.
func (h *Stack) datagrams(so *socket.Socket, k kind, network string) (*Conn, error) {
	c := &Conn{kind: k}
	c.local, c.remote = k.addrOrAny(so.Local()), k.addr(so.Peer())
	if err := c.start(h, so, network); err != nil {
		h.Call(so.Close)
		return nil, err
	}
	return c, nil
}

func syscallError(name string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		return os.NewSyscallError(name, errno)
	}
	return err
}

// mapContext makes what package net makes of the errors of a context.
func mapContext(err error) error {
	switch {
	case err == context.Canceled:
		return canceled{}
	case err == context.DeadlineExceeded:
		return timedOut{}
	}
	return err
}

type canceled struct{}

func (canceled) Error() string        { return "operation was canceled" }
func (canceled) Is(target error) bool { return target == context.Canceled }

type timedOut struct{}

func (timedOut) Error() string        { return "i/o timeout" }
func (timedOut) Timeout() bool        { return true }
func (timedOut) Temporary() bool      { return true }
func (timedOut) Is(target error) bool { return target == context.DeadlineExceeded }

var _ net.Error = timedOut{}

// resolve reads an address of a kind. It answers at least one; the IP of an
// empty host is invalid.
func (h *Stack) resolve(ctx context.Context, k kind, address string) ([]socket.Addr, error) {
	host, port := address, 0
	if k != kindICMP {
		var service string
		var err error
		if host, service, err = net.SplitHostPort(address); err != nil {
			return nil, err
		}
		name := "udp"
		if k == kindTCP {
			name = "tcp"
		}
		if port, err = net.LookupPort(name, service); err != nil {
			return nil, err
		}
	}
	if host == "" {
		return []socket.Addr{{Port: uint16(port)}}, nil
	}
	ips := make([]netip.Addr, 1)
	var err error
	if ips[0], err = netip.ParseAddr(host); err != nil {
		if ips, err = h.Resolver().LookupNetIP(ctx, "ip4", host); err != nil {
			return nil, err
		}
	}
	out := make([]socket.Addr, len(ips))
	for i, ip := range ips {
		out[i] = socket.Addr{IP: ip.Unmap(), Port: uint16(port)}
	}
	return out, nil
}

// Resolver looks names up as package net does, from the files of the system
// and by DNS, but asks over the stack's own sockets; Dial uses it. The servers
// are Config.NameServers in turn, or else those of the system's resolv.conf.
func (h *Stack) Resolver() *net.Resolver { return &h.resolver }

func (h *Stack) dialServer(ctx context.Context, network, address string) (net.Conn, error) {
	if s := h.conf.NameServers; len(s) > 0 {
		address = s[int(h.lookups.Add(1)-1)%len(s)].String()
	}
	return h.DialContext(ctx, network, address)
}
