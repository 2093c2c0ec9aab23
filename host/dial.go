package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"ionet/addrsel"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var self = socket.Cred{UID: os.Getuid(), PID: os.Getpid(), Super: true}

// kind is what a network's name stands for.
type kind struct {
	typ, proto int
	family     int // 0: either
}

// tcpOf is the kind of a stream socket.
func tcpOf(so *socket.Socket) kind { return kind{socket.Stream, packet.ProtoTCP, so.Family} }

// raw says that ports have no part in it.
func (k kind) raw() bool { return k.typ == socket.Raw }

// protocols are those of raw sockets that have names.
var protocols = map[string]int{"icmp": packet.ProtoICMP, "ipv6-icmp": packet.ProtoICMPv6, "icmp6": packet.ProtoICMPv6}

func kindOf(network string) (kind, error) {
	name, of, _ := strings.Cut(network, ":")
	var k kind
	switch {
	case strings.HasSuffix(name, "4"):
		k.family = socket.AFInet
	case strings.HasSuffix(name, "6"):
		k.family = socket.AFInet6
	}
	switch name {
	case "tcp", "tcp4", "tcp6":
		k.typ, k.proto = socket.Stream, packet.ProtoTCP
	case "udp", "udp4", "udp6":
		k.typ, k.proto = socket.Dgram, packet.ProtoUDP
	case "ip4", "ip6":
		k.typ = socket.Raw
		var ok bool
		if k.proto, ok = protocols[of]; !ok {
			n, err := strconv.ParseUint(of, 10, 8)
			if err != nil {
				return kind{}, net.UnknownNetworkError(network)
			}
			k.proto = int(n)
		}
		return k, nil
	}
	if k.typ == 0 || of != "" {
		return kind{}, net.UnknownNetworkError(network)
	}
	return k, nil
}

// addr is an address of the kind as package net shows it; nil: none.
func (h *Stack) addr(k kind, a socket.Addr) net.Addr {
	if !a.IP.IsValid() && a.Port == 0 {
		return nil
	}
	return h.addrOrAny(k, a)
}

// addrOrAny is addr with the wildcard address for none.
func (h *Stack) addrOrAny(k kind, a socket.Addr) net.Addr {
	ip := a.IP
	if !ip.IsValid() {
		ip = wildcard(k.family)
	}
	if a.Scope != 0 {
		ip = ip.WithZone(h.zone(a.Scope))
	}
	switch k.typ {
	case socket.Stream:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, a.Port))
	case socket.Dgram:
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, a.Port))
	}
	return &net.IPAddr{IP: ip.AsSlice(), Zone: ip.Zone()}
}

// zone is an interface as people name it, or its number when it has gone.
func (h *Stack) zone(index uint32) string {
	if ifp := h.engine.Env.Ifs.ByIndex(index); ifp != nil {
		return ifp.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}

// scoped is an address as calls of sockets have it: the zone, a name or a
// number, becomes the scope. Zones of names that the stack has not are a
// *net.AddrError.
func (h *Stack) scoped(ip netip.Addr, port uint16) (socket.Addr, error) {
	a := socket.Addr{IP: ip.Unmap().WithZone(""), Port: port}
	zone := ip.Zone()
	if zone == "" || a.IP.Is4() {
		return a, nil
	}
	if ifp := h.engine.Env.Ifs.ByName(zone); ifp != nil {
		a.Scope = ifp.Index
	} else if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		a.Scope = uint32(n)
	} else {
		return a, &net.AddrError{Err: "there is no interface " + zone, Addr: ip.String()}
	}
	return a, nil
}

// mapped is an address for a socket of a family: on one of IPv6 those of IPv4
// are ::ffff:a.b.c.d (RFC 3493 §3.7).
func mapped(family int, a socket.Addr) socket.Addr {
	if family == socket.AFInet6 && a.IP.Is4() {
		a.IP = netip.AddrFrom16(a.IP.As16())
	}
	return a
}

func wildcard(family int) netip.Addr {
	if family == socket.AFInet6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func loopback(family int) netip.Addr {
	if family == socket.AFInet6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// Dial connects to an address of one of the networks "tcp", "udp", both also
// with a 4 or a 6 behind them, "ip4:icmp" and "ip6:ipv6-icmp" (or a number). The
// host of "host:port" is an address, whose zone is an interface of the stack,
// or a name, and this stack when it is empty. Of several addresses the next is
// tried beside one that is slow to answer (RFC 8305). Connections are
// *[TCPConn] or *[Conn]; errors are those of package net: a *net.OpError.
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
	if err == nil {
		to, err = reachable(k, from, to, address)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: mapContext(err)}
	}
	return addrsel.Race(ctx, len(to), func(ctx context.Context, i int) (net.Conn, error) {
		c, err := h.dialOne(ctx, network, k, from, to[i])
		if err == nil {
			return c, nil
		}
		op := &net.OpError{Op: "dial", Net: network, Addr: h.addr(k, to[i]), Err: mapContext(err)}
		if len(from) > 0 {
			op.Source = h.addr(k, from[0])
		}
		return nil, op
	}, func(c net.Conn) { _ = c.Close() })
}

// reachable are those of the addresses that can be dialled by a network and
// from an address, in the order in which they are tried; this stack's own for
// none.
func reachable(k kind, from, to []socket.Addr, address string) ([]socket.Addr, error) {
	family := k.family
	if family == 0 && len(from) > 0 && from[0].IP.IsValid() && !from[0].IP.IsUnspecified() {
		family = socket.FamilyOf(from[0].IP)
	}
	var out []socket.Addr
	for _, a := range to {
		switch {
		case !a.IP.IsValid():
			a.IP = loopback(family)
		case a.IP.IsUnspecified():
			a.IP = loopback(socket.FamilyOf(a.IP))
		}
		if family == 0 || socket.FamilyOf(a.IP) == family {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: address}
	}
	return addrsel.Interleave(out, func(a socket.Addr) bool { return a.IP.Is6() }), nil
}

func (h *Stack) dialOne(ctx context.Context, network string, k kind, from []socket.Addr, to socket.Addr) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.family = socket.FamilyOf(to.IP)
	so, err := h.socket(k)
	if err != nil {
		return nil, err
	}
	if len(from) > 0 {
		a := from[0]
		if !a.IP.IsValid() || socket.FamilyOf(a.IP) != k.family { // any address
			a = socket.Addr{IP: wildcard(k.family), Port: a.Port}
		}
		if err := h.bind(so, a); err != nil {
			h.Call(so.Close)
			return nil, err
		}
	}
	if k.typ == socket.Stream {
		return h.connectTCP(ctx, so, network, to)
	}
	h.Call(func(w *netif.Work) { err = so.Connect(w, to) })
	if err != nil {
		h.Call(so.Close)
		return nil, syscallError("connect", err)
	}
	return h.datagrams(so, k, network)
}

// socket makes a socket of a kind, whose family is said.
func (h *Stack) socket(k kind) (so *socket.Socket, err error) {
	h.Call(func(w *netif.Work) { so, err = h.engine.Socket(w, k.family, k.typ, k.proto, self) })
	return so, syscallError("socket", err)
}

func (h *Stack) bind(so *socket.Socket, a socket.Addr) (err error) {
	h.Call(func(w *netif.Work) { err = so.Bind(w, a) })
	return syscallError("bind", err)
}

// datagrams makes a connection of a socket that is bound or connected; on an
// error the socket is closed.
func (h *Stack) datagrams(so *socket.Socket, k kind, network string) (*Conn, error) {
	k.family = so.Family
	c := &Conn{kind: k}
	c.local, c.remote = h.addrOrAny(k, so.Local()), h.addr(k, so.Peer())
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
	if !k.raw() {
		var service string
		var err error
		if host, service, err = net.SplitHostPort(address); err != nil {
			return nil, err
		}
		name := "udp"
		if k.typ == socket.Stream {
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
		if ips, err = h.lookup(ctx, k.family, host); err != nil {
			return nil, err
		}
	}
	out := make([]socket.Addr, len(ips))
	for i, ip := range ips {
		if out[i], err = h.scoped(ip, uint16(port)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// netAddr is the reverse of addr.
func (h *Stack) netAddr(to net.Addr) (socket.Addr, error) {
	switch a := to.(type) {
	case *net.UDPAddr:
		ap := a.AddrPort()
		return h.scoped(ap.Addr(), ap.Port())
	case *net.IPAddr:
		ip, _ := netip.AddrFromSlice(a.IP)
		return h.scoped(ip.WithZone(a.Zone), 0)
	}
	return socket.Addr{}, fmt.Errorf("an address of type %T", to)
}
