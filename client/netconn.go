package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ionet/protocol"
)

// family is that of the door.
func (s *Stack) family() int {
	n, _ := strconv.Atoi(s.path[strings.LastIndexByte(s.path, '/')+1:])
	return n
}

// socketConn is a Socket as net.Conn and net.PacketConn.
type socketConn struct {
	*Socket
	raw   bool // the IPv4 header is taken off
	local net.Addr
	write *deadline
	peer  net.Addr // nil: not connected
}

// ListenPacket is net.ListenPacket on the stack, for "udp", "udp4" and
// "ip4:icmp" (or a number). The address is numeric; "" or ":0" is any.
func (s *Stack) ListenPacket(network, addr string) (net.PacketConn, error) {
	typ, proto, raw, err := parseNetwork(network)
	var a protocol.Addr
	if err == nil {
		a, err = parseAddr(addr, raw)
	}
	var k *Socket
	if err == nil {
		k, err = s.Socket(typ, proto)
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	err = k.Bind(a)
	if err == nil {
		var c *socketConn
		if c, err = newConn(k, raw); err == nil {
			return c, nil
		}
	}
	_ = k.Close()
	return nil, &net.OpError{Op: "listen", Net: network, Err: err}
}

// Dial is net.Dial on the stack, for the same networks; the address may have
// a host name.
func (s *Stack) Dial(network, addr string) (net.Conn, error) {
	return s.DialFrom(network, "", addr)
}

// DialFrom is [Stack.Dial] from a numeric address of the stack's own, with or
// without a port: "10.0.0.1:0", ":53".
func (s *Stack) DialFrom(network, local, addr string) (net.Conn, error) {
	_, _, raw, err := parseNetwork(network)
	var from, to protocol.Addr
	if err == nil && local != "" {
		from, err = parseAddr(local, raw)
	}
	if err == nil {
		to, err = s.resolveAddr(addr, raw)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return s.dial(network, from, to)
}

func (s *Stack) dial(network string, from, to protocol.Addr) (net.Conn, error) {
	typ, proto, raw, err := parseNetwork(network)
	var k *Socket
	if err == nil {
		k, err = s.Socket(typ, proto)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if from.IsValid() {
		err = k.Bind(from)
	}
	if err == nil {
		err = k.Connect(to)
	}
	if err == nil {
		var c *socketConn
		if c, err = newConn(k, raw); err == nil {
			c.peer = netAddr(to, raw)
			return c, nil
		}
	}
	_ = k.Close()
	return nil, &net.OpError{Op: "dial", Net: network, Addr: netAddr(to, raw), Err: err}
}

// parseNetwork reads "udp", "udp4" or "ip4:icmp"; raw when ports have no part
// in it.
func parseNetwork(network string) (typ, proto int, raw bool, err error) {
	switch name, of, _ := strings.Cut(network, ":"); name {
	case "udp", "udp4":
		return protocol.SockDgram, protocol.ProtoUDP, false, nil
	case "ip", "ip4":
		switch of {
		case "icmp":
			return protocol.SockRaw, protocol.ProtoICMP, true, nil
		case "igmp":
			return protocol.SockRaw, protocol.ProtoIGMP, true, nil
		case "udp":
			return protocol.SockRaw, protocol.ProtoUDP, true, nil
		}
		n, err := strconv.ParseUint(of, 10, 8)
		if err != nil {
			return 0, 0, false, fmt.Errorf("%q is no protocol: icmp, igmp, udp or a number up to 255", of)
		}
		return protocol.SockRaw, int(n), true, nil
	}
	return 0, 0, false, net.UnknownNetworkError(network)
}

func newConn(k *Socket, raw bool) (*socketConn, error) {
	a, err := k.LocalAddr()
	if err != nil {
		return nil, err
	}
	return &socketConn{Socket: k, raw: raw, local: netAddr(a, raw), write: newDeadline()}, nil
}

func netAddr(a protocol.Addr, raw bool) net.Addr {
	if raw {
		return &net.IPAddr{IP: a.IP.AsSlice(), Zone: a.IP.Zone()}
	}
	return net.UDPAddrFromAddrPort(a.AddrPort())
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

// resolveAddr is parseAddr that also takes a name.
func (s *Stack) resolveAddr(addr string, raw bool) (protocol.Addr, error) {
	a, err := parseAddr(addr, raw)
	if err == nil {
		return a, nil
	}
	host, port := addr, ""
	if !raw {
		if host, port, err = net.SplitHostPort(addr); err != nil {
			return protocol.Addr{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ips, err := s.LookupHost(ctx, host)
	if err != nil {
		return protocol.Addr{}, err
	}
	if raw {
		return parseAddr(ips[0].String(), true)
	}
	return parseAddr(net.JoinHostPort(ips[0].String(), port), false)
}

// recv receives into p.
func (c *socketConn) recv(p []byte) (int, protocol.Addr, error) {
	size := len(p)
	if c.raw {
		size += 60
	}
	m, err := c.Socket.Recv(min(size, 0xffff), 0)
	if err != nil {
		return 0, protocol.Addr{}, err
	}
	data := m.Data
	if c.raw && len(data) >= 20 && data[0]>>4 == 4 {
		if hl := int(data[0]&15) * 4; hl <= len(data) {
			data = data[hl:]
		}
	}
	return copy(p, data), m.Addr, nil
}

// send sends at once or not at all, but not after the write deadline.
func (c *socketConn) send(p []byte, to protocol.Addr) (int, error) {
	select {
	case <-c.write.wait():
		return 0, c.write.why()
	default:
	}
	return c.Socket.Send(protocol.Msg{Addr: to, Data: p})
}

func (c *socketConn) opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.peer, Err: err}
}

func (c *socketConn) Read(p []byte) (int, error) {
	n, _, err := c.recv(p)
	return n, c.opError("read", err)
}

func (c *socketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, a, err := c.recv(p)
	if err != nil {
		return 0, nil, c.opError("read", err)
	}
	return n, netAddr(a, c.raw), nil
}

func (c *socketConn) Write(p []byte) (int, error) {
	n, err := c.send(p, protocol.Addr{})
	return n, c.opError("write", err)
}

func (c *socketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	var a protocol.Addr
	switch to := to.(type) {
	case *net.UDPAddr:
		a = protocol.AddrFrom(to.AddrPort().Addr(), to.AddrPort().Port())
	case *net.IPAddr:
		ip, _ := netip.AddrFromSlice(to.IP)
		a = protocol.AddrFrom(ip, 0)
	}
	if !a.IsValid() {
		return 0, c.opError("write", &net.AddrError{Err: "not an IP address", Addr: fmt.Sprint(to)})
	}
	n, err := c.send(p, a)
	return n, c.opError("write", err)
}

func (c *socketConn) LocalAddr() net.Addr  { return c.local }
func (c *socketConn) RemoteAddr() net.Addr { return c.peer }

// SetDeadline moves both deadlines.
func (c *socketConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return c.opError("set", err)
	}
	return c.SetWriteDeadline(t)
}

// SetWriteDeadline says after when writes fail; a datagram never waits.
func (c *socketConn) SetWriteDeadline(t time.Time) error {
	if !c.write.set(t) {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

// Close ends the socket and whoever waits on it.
func (c *socketConn) Close() error {
	c.write.shut()
	return c.opError("close", c.Socket.Close())
}
