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

// Conn is a datagram or raw socket of the stack with the method sets of
// net.Conn and net.PacketConn.
type Conn struct {
	*Socket
	kind  kind
	local net.Addr
	write *deadline
	peer  net.Addr // nil: not connected
}

var (
	_ net.Conn       = (*Conn)(nil)
	_ net.PacketConn = (*Conn)(nil)
)

// kind is what the name of a network stands for.
type kind struct {
	typ, proto int
	family     int // 0: either
}

var kindTCP = kind{typ: protocol.SockStream, proto: protocol.ProtoTCP}

// raw says that ports have no part in it.
func (k kind) raw() bool { return k.typ == protocol.SockRaw }

// protocols are those that have names, as in package net.
var protocols = map[string]int{"icmp": protocol.ProtoICMP, "igmp": protocol.ProtoIGMP, "udp": protocol.ProtoUDP,
	"ipv6-icmp": protocol.ProtoICMPv6, "icmp6": protocol.ProtoICMPv6}

// parseNetwork reads "tcp", "udp" or "ip:icmp", with or without a 4 or 6 behind
// the first word.
func parseNetwork(network string) (kind, error) {
	name, of, _ := strings.Cut(network, ":")
	var k kind
	switch {
	case strings.HasSuffix(name, "4"):
		k.family = protocol.AFInet
	case strings.HasSuffix(name, "6"):
		k.family = protocol.AFInet6
	}
	switch strings.TrimRight(name, "46") {
	case "tcp":
		k.typ, k.proto = protocol.SockStream, protocol.ProtoTCP
	case "udp":
		k.typ, k.proto = protocol.SockDgram, protocol.ProtoUDP
	case "ip":
		k.typ = protocol.SockRaw
		var ok bool
		if k.proto, ok = protocols[of]; !ok {
			n, err := strconv.ParseUint(of, 10, 8)
			if err != nil {
				return kind{}, fmt.Errorf("%q is no protocol: icmp, igmp, udp, ipv6-icmp or a number up to 255", of)
			}
			k.proto = int(n)
		}
		return k, nil
	}
	if k.typ == 0 || of != "" || len(name) > len("tcp6") {
		return kind{}, net.UnknownNetworkError(network)
	}
	return k, nil
}

func newConn(k *Socket, kd kind) (*Conn, error) {
	a, err := k.LocalAddr()
	if err != nil {
		return nil, err
	}
	return &Conn{Socket: k, kind: kd, local: kd.netAddr(k.s.named(a)), write: newDeadline()}, nil
}

// netAddr is an address as package net shows it.
func (k kind) netAddr(a protocol.Addr) net.Addr {
	switch {
	case k.raw():
		return &net.IPAddr{IP: a.IP.AsSlice(), Zone: a.IP.Zone()}
	case k.typ == protocol.SockStream:
		return net.TCPAddrFromAddrPort(a.AddrPort())
	}
	return net.UDPAddrFromAddrPort(a.AddrPort())
}

// addrOrNil is netAddr; nil for none.
func (k kind) addrOrNil(a protocol.Addr) net.Addr {
	if !a.IP.IsValid() {
		return nil
	}
	return k.netAddr(a)
}

// recv receives into p. The header of IPv4 that a raw socket has is taken off.
func (c *Conn) recv(p []byte) (protocol.Msg, error) {
	size := len(p)
	if c.kind.raw() {
		size += 60
	}
	m, err := c.Socket.Recv(min(size, 0xffff), 0)
	if err != nil {
		return protocol.Msg{}, err
	}
	if c.kind.raw() && c.Socket.family == protocol.AFInet && len(m.Data) >= 20 && m.Data[0]>>4 == 4 {
		if hl := int(m.Data[0]&15) * 4; hl <= len(m.Data) {
			m.Data = m.Data[hl:]
		}
	}
	m.Data = p[:copy(p, m.Data)]
	return m, nil
}

// ReadMsg is ReadFrom with the flags (MSG_TRUNC, …) and the control messages of the
// datagram, which options have to ask for; protocol.ParseAncillary and
// protocol.Controls read them. The address is as [Socket] has it.
func (c *Conn) ReadMsg(p []byte) (protocol.Msg, error) {
	m, err := c.recv(p)
	if err != nil {
		return m, c.opError("read", err)
	}
	return m, nil
}

// WriteMsg is WriteTo with control messages (protocol.AppendControl), which are wishes
// for this datagram alone; without an address it goes to the peer. The zone of
// the address may be a name.
func (c *Conn) WriteMsg(m protocol.Msg) (int, error) {
	n, err := c.sendMsg(m)
	return n, c.opError("write", err)
}

// sendMsg sends at once or not at all, but not after the write deadline.
func (c *Conn) sendMsg(m protocol.Msg) (int, error) {
	select {
	case <-c.write.wait():
		return 0, c.write.why()
	default:
	}
	zone := m.Addr.IP.Zone()
	a, err := c.s.scoped(mapped(c.Socket.family, m.Addr))
	if err != nil {
		return 0, err
	}
	m.Addr = a
	n, err := c.Socket.Send(m)
	if err != nil {
		c.s.unscope(zone)
	}
	return n, err
}

func (c *Conn) opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.peer, Err: err}
}

// Read is net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	m, err := c.recv(p)
	return len(m.Data), c.opError("read", err)
}

// ReadFrom is net.PacketConn.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	m, err := c.recv(p)
	if err != nil {
		return 0, nil, c.opError("read", err)
	}
	return len(m.Data), c.kind.netAddr(c.s.named(m.Addr)), nil
}

// Write is net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.sendMsg(protocol.Msg{Data: p})
	return n, c.opError("write", err)
}

// WriteTo is net.PacketConn.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	var a protocol.Addr
	switch to := to.(type) {
	case *net.UDPAddr:
		a = protocol.AddrFrom(to.AddrPort().Addr(), to.AddrPort().Port())
	case *net.IPAddr:
		ip, _ := netip.AddrFromSlice(to.IP)
		a = protocol.AddrFrom(ip.WithZone(to.Zone), 0)
	}
	if !a.IsValid() {
		return 0, c.opError("write", &net.AddrError{Err: "not an IP address", Addr: fmt.Sprint(to)})
	}
	n, err := c.sendMsg(protocol.Msg{Addr: a, Data: p})
	return n, c.opError("write", err)
}

// LocalAddr is net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is net.Conn; nil when not connected.
func (c *Conn) RemoteAddr() net.Addr { return c.peer }

// SetDeadline moves both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return c.opError("set", err)
	}
	return c.SetWriteDeadline(t)
}

// SetWriteDeadline says after when writes fail; a datagram never waits.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if !c.write.set(t) {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

// Close ends the socket and whoever waits on it.
func (c *Conn) Close() error {
	c.write.shut()
	return c.opError("close", c.Socket.Close())
}
