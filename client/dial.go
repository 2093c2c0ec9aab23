package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"ionet/addrsel"
	"ionet/protocol"
)

// Dial is net.Dial on the stack, for "tcp", "tcp4", "tcp6" and the networks of
// [Stack.ListenPacket]. The host may be a name, which the stack looks up
// ([Stack.LookupNetIP]); without a host it is the stack itself. The zone of an
// address is an interface of the stack: "[fe80::1%en0]:80". Of several
// addresses the next is tried beside one that is slow to answer (RFC 8305). TCP
// connections are a *[TCPConn], others a *[Conn].
func (s *Stack) Dial(network, addr string) (net.Conn, error) {
	return s.DialContext(context.Background(), network, addr)
}

// DialContext is Dial that gives up when ctx ends.
func (s *Stack) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.DialFromContext(ctx, network, "", addr)
}

// DialFrom is [Stack.Dial] from an address of the stack's own, with or
// without a port: "10.0.0.1:0", ":53".
func (s *Stack) DialFrom(network, local, addr string) (net.Conn, error) {
	return s.DialFromContext(context.Background(), network, local, addr)
}

// DialFromContext is [Stack.DialFrom] that gives up when ctx ends; local "" is
// any.
func (s *Stack) DialFromContext(ctx context.Context, network, local, addr string) (net.Conn, error) {
	k, err := parseNetwork(network)
	var from protocol.Addr
	var to []protocol.Addr
	if err == nil && local != "" {
		if from, err = parseAddr(local, k); err == nil {
			from, err = s.scoped(from)
		}
	}
	if err == nil {
		to, err = s.resolveAddr(ctx, network, addr, k)
	}
	if err == nil {
		to, err = reachable(k, from, to, addr)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return addrsel.Race(ctx, len(to), func(ctx context.Context, i int) (net.Conn, error) {
		return s.dial(ctx, network, k, from, to[i])
	}, func(c net.Conn) { _ = c.Close() })
}

// reachable are those of the addresses that can be dialled by a network and
// from an address, in the order in which they are tried.
func reachable(k kind, from protocol.Addr, to []protocol.Addr, addr string) ([]protocol.Addr, error) {
	family := k.family
	if family == 0 && from.IsValid() && !from.IP.IsUnspecified() {
		family = from.Family
	}
	var out []protocol.Addr
	for _, a := range to {
		if family == 0 || a.Family == family {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: addr}
	}
	return addrsel.Interleave(out, func(a protocol.Addr) bool { return a.Family == protocol.AFInet6 }), nil
}

// dial dials one address, whose zone is an index.
func (s *Stack) dial(ctx context.Context, network string, kd kind, from, to protocol.Addr) (net.Conn, error) {
	err := ctx.Err()
	var k *Socket
	if err == nil {
		k, err = s.SocketFamily(to.Family, kd.typ, kd.proto)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: kd.addrOrNil(s.named(to)), Err: err}
	}
	if from.IsValid() {
		if from.Family != to.Family { // any address
			from = protocol.AddrFrom(wildcard(to.Family), from.Port)
		}
		err = k.Bind(from)
	}
	switch {
	case err != nil:
	case kd.typ == protocol.SockStream:
		if to.IP.IsUnspecified() {
			to.IP = loopback(to.Family)
		}
		var c *TCPConn
		if c, err = k.connectTCP(ctx, network, to); err == nil {
			return c, nil
		}
	default:
		err = k.Connect(to)
		var c *Conn
		if err == nil {
			c, err = newConn(k, kd)
		}
		if err == nil {
			c.peer = kd.netAddr(s.named(to))
			return c, nil
		}
	}
	_ = k.Close()
	op := &net.OpError{Op: "dial", Net: network, Addr: kd.addrOrNil(s.named(to)), Err: err}
	if from.IsValid() {
		op.Source = kd.addrOrNil(s.named(from))
	}
	return nil, op
}

func wildcard(family int) netip.Addr {
	if family == protocol.AFInet6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func loopback(family int) netip.Addr {
	if family == protocol.AFInet6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// parseAddr reads a numeric address, with its port unless raw. Without a host it
// is the wildcard address of the kind's family, of IPv4 when it may be both.
func parseAddr(addr string, k kind) (protocol.Addr, error) {
	host, port := addr, uint64(0)
	if !k.raw() && addr != "" {
		h, p, err := net.SplitHostPort(addr)
		if err == nil {
			host = h
			port, err = strconv.ParseUint(p, 10, 16)
		}
		if err != nil {
			return protocol.Addr{}, fmt.Errorf("%q is no address with a port: %w", addr, err)
		}
	}
	ip := wildcard(k.family)
	if host != "" {
		var err error
		if ip, err = netip.ParseAddr(host); err != nil {
			return protocol.Addr{}, err
		}
	}
	return protocol.AddrFrom(ip, uint16(port)), nil
}

// lookupTimeout bounds the look-up of a name.
const lookupTimeout = 10 * time.Second

// resolveAddr is parseAddr that also takes the names of hosts and services.
// There is at least one address without an error; zones are indices.
func (s *Stack) resolveAddr(ctx context.Context, network, addr string, k kind) ([]protocol.Addr, error) {
	a, err := parseAddr(addr, k)
	if err == nil {
		a, err = s.scoped(a)
		return []protocol.Addr{a}, err
	}
	host, port := addr, 0
	if !k.raw() {
		var service string
		if host, service, err = net.SplitHostPort(addr); err != nil {
			return nil, err
		}
		if port, err = net.DefaultResolver.LookupPort(ctx, network, service); err != nil {
			return nil, err
		}
	}
	if host == "" {
		return []protocol.Addr{protocol.AddrFrom(wildcard(k.family), uint16(port))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := s.LookupNetIP(ctx, ipNetworks[k.family], host)
	if err != nil {
		return nil, err
	}
	as := make([]protocol.Addr, 0, len(ips))
	for _, ip := range ips {
		a, err := s.scoped(protocol.AddrFrom(ip, uint16(port)))
		if err != nil {
			return nil, err
		}
		as = append(as, a)
	}
	return as, nil
}

// ipNetworks are the networks of [Stack.LookupNetIP] by family.
var ipNetworks = map[int]string{0: "ip", protocol.AFInet: "ip4", protocol.AFInet6: "ip6"}

// lacks reports that a family is not there.
func lacks(err error) bool { return errors.Is(err, syscall.EAFNOSUPPORT) }
