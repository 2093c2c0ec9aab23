package ping

import (
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"

	"ionet/client"
	"ionet/protocol"
)

const maxPacket = 65535

// socketLink is an ICMP socket of the stack: the superuser's raw one sees all
// ICMP, with its IP headers. Others have an echo socket, which sees the replies
// to its own requests without them, under an identifier of the stack's choice;
// if it is connected, ICMP errors come as its errors.
type socketLink struct {
	socket    *client.Socket
	ident     uint16
	echo      bool
	connected bool
}

// open makes a socket with what the options ask for. gateway and source may
// be missing.
func open(s *client.Stack, o *options, to, gateway, source netip.Addr) (*socketLink, error) {
	l := &socketLink{ident: uint16(os.Getpid())}
	var err error
	l.socket, err = s.Socket(protocol.SockRaw, protocol.ProtoICMP)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		l.echo = true
		switch {
		case o.flood:
			return nil, sentence("Must be superuser to use -f")
		case o.interval < time.Second:
			return nil, sentence("Must be superuser to use < 1 sec ping interval")
		case o.preload > 0:
			return nil, sentence("Must be superuser to use -l")
		case o.record: // the replies' options are in their IP headers
			return nil, sentence("Must be superuser to use -R")
		}
		l.socket, err = s.Socket(protocol.SockDgram, protocol.ProtoICMP)
	}
	if err != nil {
		return nil, sentence("Cannot create socket: %s", protocol.Strerror(err))
	}
	if err = l.prepare(o, to, gateway, source); err == nil {
		err = l.bind(to, gateway, source)
	}
	if err != nil {
		l.socket.Close()
		return nil, err
	}
	return l, nil
}

func (l *socketLink) prepare(o *options, to, gateway, source netip.Addr) error {
	ttl := defaultTTL
	if o.ttl > 0 {
		ttl = o.ttl
	}
	one := func(on bool) int {
		if on {
			return 1
		}
		return 0
	}
	type setting struct {
		use         bool
		level, name int
		value       int
		what        string
	}
	for _, x := range []setting{
		{true, protocol.ProtoIP, protocol.IPTTL, ttl, "-T"},
		{l.echo, protocol.ProtoIP, protocol.IPRecvTTL, 1, "IP_RECVTTL"},
		{o.tos != 0, protocol.ProtoIP, protocol.IPTos, o.tos, "-t"},
		{o.dontFrag, protocol.ProtoIP, protocol.IPDontFrag, 1, "-D"},
		{o.debug, protocol.SolSocket, protocol.SoDebug, 1, "-d"},
		{o.direct, protocol.SolSocket, protocol.SoDontRoute, 1, "-r"},
		{true, protocol.SolSocket, protocol.SoRcvBuf, 128 << 10, "SO_RCVBUF"},
		{true, protocol.SolSocket, protocol.SoSndBuf, 128 << 10, "SO_SNDBUF"},
	} {
		if !x.use {
			continue
		}
		if err := l.socket.SetInt(x.level, x.name, x.value); err != nil {
			return sentence("Cannot set %s: %s", x.what, protocol.Strerror(err))
		}
	}
	if err := o.policies.Set(func(v []byte) error { return l.socket.SetOption(protocol.ProtoIP, protocol.IPIPSecPolicy, v) }); err != nil {
		return sentence("Cannot set -E: %v", err)
	}
	if opts := ipOptions(o, gateway, to); opts != nil {
		if err := l.socket.SetOption(protocol.ProtoIP, protocol.IPOptions, opts); err != nil {
			return sentence("Cannot set IP options: %s", protocol.Strerror(err))
		}
	}
	if to.IsMulticast() {
		if err := l.socket.SetOption(protocol.ProtoIP, protocol.IPMulticastLoop, []byte{byte(one(!o.noLoop))}); err != nil {
			return sentence("Can't disable multicast loopback: %s", protocol.Strerror(err))
		}
		if o.ttl > 0 {
			if err := l.socket.SetOption(protocol.ProtoIP, protocol.IPMulticastTTL, []byte{byte(o.ttl)}); err != nil {
				return sentence("Can't set multicast time-to-live: %s", protocol.Strerror(err))
			}
		}
		if source.IsValid() {
			if err := l.socket.SetOption(protocol.ProtoIP, protocol.IPMulticastIf, source.AsSlice()); err != nil {
				return sentence("Can't set multicast source interface: %s", protocol.Strerror(err))
			}
		}
	}
	return nil
}

// bind gives the socket its source, and an echo socket its identifier and its
// peer. Without SO_BROADCAST the stack refuses to connect to whom many answer
// for; that is no mishap, and neither is another refusal: sending tells of it.
func (l *socketLink) bind(to, gateway, source netip.Addr) error {
	if source.IsValid() || l.echo {
		local := source
		if !local.IsValid() {
			local = netip.IPv4Unspecified()
		}
		if err := l.socket.Bind(protocol.AddrFrom(local, 0)); err != nil {
			return sentence("Can't set source interface/address %s: %s", local, protocol.Strerror(err))
		}
	}
	if l.echo {
		a, err := l.socket.LocalAddr()
		if err != nil {
			return sentence("Cannot get the identifier: %s", protocol.Strerror(err))
		}
		l.ident = a.Port
		if !to.IsMulticast() && !gateway.IsValid() {
			l.connected = l.socket.Connect(protocol.AddrFrom(to, 0)) == nil
		}
	}
	if to.IsMulticast() {
		return nil
	}
	if err := l.socket.SetInt(protocol.SolSocket, protocol.SoBroadcast, 1); err != nil {
		return sentence("Cannot set SO_BROADCAST: %s", protocol.Strerror(err))
	}
	return nil
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
				continue // told by the ICMP error itself
			}
			return packet{}, err
		}
		at := time.Now()
		if !l.echo {
			if p, ok := splitIP(m.Data); ok {
				p.at = at
				return p, nil
			}
			continue
		}
		p := packet{at: at, from: m.Addr.IP, total: len(m.Data) + minIPHeader, icmp: m.Data}
		if a, err := protocol.ParseAncillary(m.Control); err == nil && a.TTL >= 0 {
			p.ttl = a.TTL
		}
		return p, nil
	}
}

// icmpErrno says whether an error on a socket came from an ICMP error.
func icmpErrno(e syscall.Errno) bool {
	switch e {
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ECONNREFUSED, syscall.EMSGSIZE, syscall.EHOSTDOWN, syscall.ENOPROTOOPT:
		return true
	}
	return false
}
