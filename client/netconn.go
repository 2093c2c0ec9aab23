package client

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ionet/protocol"
)

// socketConn is a Socket as net.Conn and net.PacketConn.
type socketConn struct {
	*Socket
	raw   bool // the IPv4 header is taken off
	local net.Addr
	write *deadline
	peer  net.Addr // nil: not connected
}

// parseNetwork reads "tcp", "tcp4", "udp", "udp4" or "ip4:icmp"; raw when ports have no part
// in it.
func parseNetwork(network string) (typ, proto int, raw bool, err error) {
	switch name, of, _ := strings.Cut(network, ":"); name {
	case "tcp", "tcp4":
		return protocol.SockStream, protocol.ProtoTCP, false, nil
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
