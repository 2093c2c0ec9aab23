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

// rawLink is a raw ICMP socket of the stack: it sees all ICMP, with its IP
// headers. echoLink is what others than the superuser get: replies to its own
// requests only, under an identifier that the stack chooses, no IP header.
type rawLink struct {
	socket *client.Socket
	ident  uint16
	echo   bool
}

// open makes a socket with what the options ask for. gateway and source may
// be missing.
func open(s *client.Stack, o *options, to, gateway, source netip.Addr) (*rawLink, error) {
	l := &rawLink{ident: uint16(os.Getpid())}
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
		}
		l.socket, err = s.Socket(protocol.SockDgram, protocol.ProtoICMP)
	}
	if err != nil {
		return nil, sentence("Cannot create socket: %s", protocol.Strerror(err))
	}
	if err := l.prepare(o, to, gateway, source); err != nil {
		l.socket.Close()
		return nil, err
	}
	return l, nil
}

func (l *rawLink) prepare(o *options, to, gateway, source netip.Addr) error {
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
		{!to.IsMulticast(), protocol.SolSocket, protocol.SoBroadcast, 1, "SO_BROADCAST"},
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
	if source.IsValid() {
		if err := l.socket.Bind(protocol.AddrFrom(source, 0)); err != nil {
			return sentence("Can't set source interface/address %s: %s", source, protocol.Strerror(err))
		}
	}
	return nil
}

func (l *rawLink) send(icmp []byte, to netip.Addr) error {
	_, err := l.socket.Send(protocol.Msg{Addr: protocol.AddrFrom(to, 0), Data: icmp})
	return err
}

func (l *rawLink) id() uint16 { return l.ident }

func (l *rawLink) close() { l.socket.Close() }

func (l *rawLink) recv() (packet, error) {
	for {
		m, err := l.socket.Recv(maxPacket, 0)
		if err != nil {
			if errno, ok := errors.AsType[syscall.Errno](err); ok && icmpErrno(errno) {
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
		if len(m.Data) >= headerLen {
			l.adopt(&p)
		}
		return p, nil
	}
}

// adopt gives a reply the identifier of our requests: the stack put its own
// there, and hands us nobody else's.
func (l *rawLink) adopt(p *packet) {
	p.icmp[4], p.icmp[5] = byte(l.ident>>8), byte(l.ident)
}

// icmpErrno says whether an error on a socket came from an ICMP error.
func icmpErrno(e syscall.Errno) bool {
	switch e {
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ECONNREFUSED, syscall.EMSGSIZE, syscall.EHOSTDOWN, syscall.ENOPROTOOPT:
		return true
	}
	return false
}
