package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"ionet/protocol"
)

// Dial is net.Dial on the stack, for "tcp", "tcp4" and the networks of
// [Stack.ListenPacket]. The host may be a name, which the stack looks up
// ([Stack.LookupHost]); without a host it is the stack itself. TCP
// connections are a *[TCPConn].
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
	_, _, raw, err := parseNetwork(network)
	var from protocol.Addr
	var to []protocol.Addr
	if err == nil && local != "" {
		from, err = parseAddr(local, raw)
	}
	if err == nil {
		to, err = s.resolveAddr(ctx, network, addr, raw)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var first error
	for i, a := range to {
		c, err := s.dialOne(ctx, network, from, a, len(to)-i)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// dialOne dials one address when so many are left to try. Of the time that is
// left it takes its part.
func (s *Stack) dialOne(ctx context.Context, network string, from, to protocol.Addr, tries int) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok && tries > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(time.Until(end)/time.Duration(tries), 2*time.Second))
		defer cancel()
	}
	return s.dial(ctx, network, from, to)
}

func (s *Stack) dial(ctx context.Context, network string, from, to protocol.Addr) (net.Conn, error) {
	typ, proto, raw, err := parseNetwork(network)
	if err == nil {
		err = ctx.Err()
	}
	var k *Socket
	if err == nil {
		k, err = s.Socket(typ, proto)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addrOrNil(network, to), Err: err}
	}
	if from.IsValid() {
		err = k.Bind(from)
	}
	switch {
	case err != nil:
	case typ == protocol.SockStream:
		if to.IP.IsUnspecified() {
			to.IP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		var c *TCPConn
		if c, err = k.connectTCP(ctx, network, to); err == nil {
			return c, nil
		}
	default:
		err = k.Connect(to)
		var c *socketConn
		if err == nil {
			c, err = newConn(k, raw)
		}
		if err == nil {
			c.peer = netAddr(to, raw)
			return c, nil
		}
	}
	_ = k.Close()
	op := &net.OpError{Op: "dial", Net: network, Addr: addrOrNil(network, to), Err: err}
	if from.IsValid() {
		op.Source = addrOrNil(network, from)
	}
	return nil, op
}

// parseAddr reads a numeric address, with its port unless raw.
func parseAddr(addr string, raw bool) (protocol.Addr, error) {
	host, port := addr, uint64(0)
	if !raw && addr != "" {
		h, p, err := net.SplitHostPort(addr)
		if err == nil {
			host = h
			port, err = strconv.ParseUint(p, 10, 16)
		}
		if err != nil {
			return protocol.Addr{}, fmt.Errorf("%q is no address with a port: %w", addr, err)
		}
	}
	ip := netip.IPv4Unspecified()
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
// There is at least one address without an error.
func (s *Stack) resolveAddr(ctx context.Context, network, addr string, raw bool) ([]protocol.Addr, error) {
	a, err := parseAddr(addr, raw)
	if err == nil {
		return []protocol.Addr{a}, nil
	}
	host, port := addr, 0
	if !raw {
		var service string
		if host, service, err = net.SplitHostPort(addr); err != nil {
			return nil, err
		}
		if port, err = net.DefaultResolver.LookupPort(ctx, network, service); err != nil {
			return nil, err
		}
	}
	if host == "" {
		return []protocol.Addr{protocol.AddrFrom(netip.IPv4Unspecified(), uint16(port))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := s.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	as := make([]protocol.Addr, 0, len(ips))
	for _, ip := range ips {
		as = append(as, protocol.AddrFrom(ip, uint16(port)))
	}
	return as, nil
}
