package ping6

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"ionet/client"
	"ionet/protocol"
)

const maxPacket = 65535

// socketLink is an ICMPv6 socket of the stack: the superuser's raw one sees
// all ICMPv6 that its filter lets through. Others have an echo socket, which
// sees the replies to its own requests, under an identifier of the stack's
// choice; if it is connected, ICMPv6 errors come as its errors.
type socketLink struct {
	socket    *client.Socket
	ident     uint16
	echo      bool
	connected bool
	zones     func(index string) string // an interface's name
}

// sentence is an error in the words that the original prints.
func sentence(format string, a ...any) error { return fmt.Errorf(format, a...) }

// open makes a socket with what the options ask for. to and source have the
// index of their interface for a zone; source may be missing, index be 0.
func open(s *client.Stack, o *options, to, source netip.Addr, index int) (*socketLink, error) {
	l := &socketLink{ident: uint16(os.Getpid())}
	var err error
	l.socket, err = s.SocketFamily(protocol.AFInet6, protocol.SockRaw, protocol.ProtoICMPv6)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		l.echo = true
		switch {
		case o.flood:
			return nil, sentence("Must be superuser to flood ping")
		case o.interval < time.Second:
			return nil, sentence("Must be superuser to use < 1 sec ping interval")
		case o.preload > 0:
			return nil, sentence("Must be superuser to preload")
		case o.ask != askEcho:
			return nil, sentence("Must be superuser to ask for node information")
		}
		l.socket, err = s.SocketFamily(protocol.AFInet6, protocol.SockDgram, protocol.ProtoICMPv6)
	}
	if err != nil {
		return nil, sentence("socket: %s", protocol.Strerror(err))
	}
	if err = l.prepare(o, to, index); err == nil {
		err = l.bind(to, source)
	}
	if err != nil {
		l.socket.Close()
		return nil, err
	}
	return l, nil
}

func (l *socketLink) prepare(o *options, to netip.Addr, index int) error {
	buffer, minMTU := 128<<10, 1
	if o.buffer > 0 {
		buffer = o.buffer
	}
	switch o.wholeMTU { // RFC 3542 §11.1
	case 0:
	case 1:
		minMTU = -1
	default:
		minMTU = 0
	}
	for _, x := range []struct {
		use         bool
		level, name int
		value       int
		what        string
	}{
		{o.hlim >= 0, protocol.ProtoIPv6, protocol.IPv6UnicastHops, o.hlim, "-h"},
		{o.hlim >= 0, protocol.ProtoIPv6, protocol.IPv6MulticastHops, o.hlim, "-h"},
		{true, protocol.ProtoIPv6, protocol.IPv6RecvHopLimit, 1, "IPV6_RECVHOPLIMIT"},
		{true, protocol.ProtoIPv6, protocol.IPv6RecvPktInfo, 1, "IPV6_RECVPKTINFO"},
		{true, protocol.ProtoIPv6, protocol.IPv6UseMinMTU, minMTU, "IPV6_USE_MIN_MTU"},
		{to.IsMulticast() && index > 0, protocol.ProtoIPv6, protocol.IPv6MulticastIf, index, "-I"},
		{o.debug, protocol.SolSocket, protocol.SoDebug, 1, "-d"},
		{true, protocol.SolSocket, protocol.SoRcvBuf, buffer, "SO_RCVBUF"},
		{true, protocol.SolSocket, protocol.SoSndBuf, buffer, "SO_SNDBUF"},
	} {
		if !x.use {
			continue
		}
		if err := l.socket.SetInt(x.level, x.name, x.value); err != nil {
			return sentence("setsockopt(%s): %s", x.what, protocol.Strerror(err))
		}
	}
	if err := o.policies.Set(func(v []byte) error { return l.socket.SetOption(protocol.ProtoIPv6, protocol.IPv6IPSecPolicy, v) }); err != nil {
		return sentence("setsockopt(IPV6_IPSEC_POLICY): %v", err)
	}
	if l.echo || o.verbose {
		return nil
	}
	// What is told without -v.
	filter := protocol.ICMP6Pass(unreachable, tooBig, timeExceeded, paramProblem, echoReply, niReply)
	if err := l.socket.SetOption(protocol.ProtoICMPv6, protocol.ICMP6Filter, filter); err != nil {
		return sentence("setsockopt(ICMP6_FILTER): %s", protocol.Strerror(err))
	}
	return nil
}

// bind gives the socket its source, and an echo socket its identifier and its
// peer, unless many may answer.
func (l *socketLink) bind(to, source netip.Addr) error {
	if source.IsValid() || l.echo {
		local := source
		if !local.IsValid() {
			local = netip.IPv6Unspecified()
		}
		if err := l.socket.Bind(protocol.AddrFrom(local, 0)); err != nil {
			return sentence("bind %s: %s", local, protocol.Strerror(err))
		}
	}
	if !l.echo {
		return nil
	}
	a, err := l.socket.LocalAddr()
	if err != nil {
		return sentence("getsockname: %s", protocol.Strerror(err))
	}
	l.ident = a.Port
	if !to.IsMulticast() {
		l.connected = l.socket.Connect(protocol.AddrFrom(to, 0)) == nil
	}
	return nil
}

// sourceOf asks the stack from which address it reaches to.
func sourceOf(s *client.Stack, to netip.Addr, index int) netip.Addr {
	k, err := s.SocketFamily(protocol.AFInet6, protocol.SockDgram, protocol.ProtoUDP)
	if err != nil {
		return netip.Addr{}
	}
	defer k.Close()
	if to.IsMulticast() && index > 0 && k.SetInt(protocol.ProtoIPv6, protocol.IPv6MulticastIf, index) != nil {
		return netip.Addr{}
	}
	if k.Connect(protocol.AddrFrom(to, 9)) != nil {
		return netip.Addr{}
	}
	a, err := k.LocalAddr()
	if err != nil || a.IP.IsUnspecified() {
		return netip.Addr{}
	}
	return a.IP
}

func (l *socketLink) send(icmp []byte, to netip.Addr) error {
	m := protocol.Msg{Data: icmp}
	if !l.connected {
		m.Addr = protocol.AddrFrom(to, 0)
	}
	_, err := l.socket.Send(m)
	return err
}

func (l *socketLink) id() uint16 { return l.ident }

func (l *socketLink) close() { l.socket.Close() }

func (l *socketLink) recv() (packet, error) {
	for {
		m, err := l.socket.Recv(maxPacket, 0)
		if err != nil {
			if errno, ok := errors.AsType[syscall.Errno](err); ok && icmpErrno(errno) {
				if l.echo {
					return packet{at: time.Now(), failed: errno}, nil
				}
				continue // told by the ICMPv6 error itself
			}
			return packet{}, err
		}
		p := packet{at: time.Now(), from: l.named(m.Addr.IP), hlim: -1, icmp: m.Data}
		if a, err := protocol.ParseAncillary(m.Control); err == nil {
			p.hlim, p.to = a.TTL, a.Dst
			if p.to.IsLinkLocalUnicast() || p.to.IsLinkLocalMulticast() || p.to.IsInterfaceLocalMulticast() {
				p.to = l.named(p.to.WithZone(strconv.Itoa(a.If.Index)))
			}
		}
		return p, nil
	}
}

// named is a with its interface's name for a zone.
func (l *socketLink) named(a netip.Addr) netip.Addr {
	if a.Zone() == "" {
		return a
	}
	return a.WithZone(l.zones(a.Zone()))
}

// icmpErrno says whether an error on a socket came from an ICMPv6 error.
func icmpErrno(e syscall.Errno) bool {
	switch e {
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ECONNREFUSED, syscall.EMSGSIZE, syscall.EHOSTDOWN, syscall.ENOPROTOOPT, syscall.EACCES:
		return true
	}
	return false
}
