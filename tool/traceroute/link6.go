package traceroute

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"ionet/client"
	"ionet/protocol"
)

// What of IPv6 and ICMPv6 is needed (RFC 8200 §4, RFC 4443).
const (
	ip6Header = 40

	icmp6Unreachable = 1
	icmp6TooBig      = 2
	icmp6Exceeded    = 3
	icmp6Problem     = 4
	icmp6Echo        = 128
	icmp6Reply       = 129

	code6Port       = 4
	code6NextHeader = 1 // of icmp6Problem

	nextHopOpts  = 0
	nextRouting  = 43
	nextFragment = 44
	nextDstOpts  = 60
)

// marks6 are what the codes of an unreachable are printed as. The code of the
// closed port has none: that is the target.
var marks6 = map[byte]string{0: " !N", 1: " !P", 2: " !S", 3: " !A"}

// link6 sends UDP datagrams or echo requests through a socket that writes the
// header, with a hop limit for each, and hears ICMPv6 on a raw one.
type link6 struct {
	*options
	to, from netip.Addr // zones are indexes
	ident    uint16
	out      sender
	in       receiver
	zone     func(index string) string // the interface's name
	now      func() time.Time
}

// open6 makes the sockets, and finds the source.
func open6(s *client.Stack, o *options, to, source netip.Addr, zone func(string) string) (*link6, error) {
	l := &link6{options: o, to: to, from: source, ident: uint16(os.Getpid()) | 0x8000, zone: zone, now: time.Now}
	in, err := s.SocketFamily(protocol.AFInet6, protocol.SockRaw, protocol.ProtoICMPv6)
	if err != nil {
		return nil, denied(err)
	}
	l.in = in
	if err := in.SetOption(protocol.ProtoICMPv6, protocol.ICMP6Filter, filter6(o.verbose)); err != nil {
		return nil, fmt.Errorf("ICMP6_FILTER: %s", protocol.Strerror(err))
	}
	for name, what := range map[int]string{protocol.IPv6RecvHopLimit: "IPV6_RECVHOPLIMIT", protocol.IPv6RecvPktInfo: "IPV6_RECVPKTINFO"} {
		if err := in.SetInt(protocol.ProtoIPv6, name, 1); err != nil {
			return nil, fmt.Errorf("%s: %s", what, protocol.Strerror(err))
		}
	}
	if !l.from.IsValid() {
		if l.from, err = sourceFor(s, protocol.AFInet6, to); err != nil {
			return nil, err
		}
	}
	out, port := in, uint16(0)
	if !o.icmp {
		if out, err = s.SocketFamily(protocol.AFInet6, protocol.SockDgram, 0); err != nil {
			return nil, fmt.Errorf("udp socket: %s", protocol.Strerror(err))
		}
		port = l.ident
	}
	if err := common(out, o); err != nil {
		return nil, err
	}
	if o.icmp && o.source == "" { // a raw socket that is bound hears what is for its address alone
		l.out = out
		return l, nil
	}
	if err := out.Bind(protocol.AddrFrom(l.from, port)); err != nil {
		return nil, fmt.Errorf("bind to %s: %s", l.from, protocol.Strerror(err))
	}
	l.out = out
	return l, nil
}

// filter6 passes errors and echo replies, or all that is not about neighbours.
func filter6(all bool) []byte {
	var pass []byte
	for t := range 256 {
		failed := t >= icmp6Unreachable && t <= icmp6Problem
		if failed || t == icmp6Reply || all && (t < 133 || t > 137) {
			pass = append(pass, byte(t))
		}
	}
	return protocol.ICMP6Pass(pass...)
}

// data is the probe number seq as the socket takes it.
func (l *link6) data(seq, hops, size int) []byte {
	b := make([]byte, max(size, opacketLen))
	b[0], b[1] = byte(seq), byte(hops)
	now := l.now()
	binary.BigEndian.PutUint32(b[4:], uint32(now.Unix()))
	binary.BigEndian.PutUint32(b[8:], uint32(now.Nanosecond()/1000))
	if !l.icmp {
		return b
	}
	head := make([]byte, icmpHeader, icmpHeader+len(b)) // the checksum is the stack's matter
	head[0] = icmp6Echo
	binary.BigEndian.PutUint16(head[4:], l.ident)
	binary.BigEndian.PutUint16(head[6:], uint16(seq))
	return append(head, b...)
}

func (l *link6) send(seq, hops, size int) error {
	to := protocol.AddrFrom(l.to, uint16(l.port+seq))
	if l.icmp {
		to.Port = 0
	}
	limit := protocol.AppendControl(nil, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6HopLimit,
		Data: binary.LittleEndian.AppendUint32(nil, uint32(hops))})
	_, err := l.out.Send(protocol.Msg{Addr: to, Control: limit, Data: l.data(seq, hops, size)})
	return err
}

func (l *link6) recv(seq int, deadline time.Time) (answer, error) {
	if err := l.in.SetReadDeadline(deadline); err != nil {
		return answer{}, err
	}
	for {
		m, err := l.in.Recv(65535, 0)
		if err != nil {
			return answer{}, err
		}
		anc, err := protocol.ParseAncillary(m.Control)
		if err != nil {
			return answer{}, err
		}
		a := answer{from: m.Addr.IP, to: anc.Dst, hops: anc.TTL, size: len(m.Data)}
		if i := a.from.Zone(); i != "" {
			a.from = a.from.WithZone(l.zone(i))
		}
		if l.read(&a, m.Data, seq) {
			a.at = l.now()
			return a, nil
		}
	}
}

// read takes a message that came apart; false: it is none worth a word.
func (l *link6) read(a *answer, b []byte, seq int) bool {
	if len(b) < icmpHeader {
		return false
	}
	typ, code := b[0], b[1]
	switch {
	case typ == icmp6Reply && l.icmp:
		if binary.BigEndian.Uint16(b[4:]) == l.ident && binary.BigEndian.Uint16(b[6:]) == uint16(seq) {
			a.reached = true
			return true
		}
	case typ == icmp6Exceeded && code == inTransit:
		if l.ours(b[icmpHeader:], seq) {
			return true
		}
	case typ == icmp6Unreachable && l.ours(b[icmpHeader:], seq):
		a.reached, a.barred = code == code6Port, code != code6Port
		if m, ok := marks6[code]; ok {
			a.mark = m
		} else if a.barred {
			a.mark = fmt.Sprintf(" !<%d>", code)
		}
		return true
	case typ == icmp6TooBig && l.ours(b[icmpHeader:], seq): // the next probe goes in fragments
		a.mark = " !F"
		return true
	case typ == icmp6Problem && code == code6NextHeader && l.ours(b[icmpHeader:], seq):
		a.reached, a.mark = true, " !H" // a host that knows nothing of UDP
		return true
	}
	a.other = fmt.Sprintf("%d bytes from %s to %s: icmp type %d code %d\n%s", len(b), a.from, a.to, typ, code, hex.Dump(b[4:]))
	return true
}

// ours says whether the packet that an error returns is the probe number seq.
func (l *link6) ours(b []byte, seq int) bool {
	if len(b) < ip6Header || b[0]>>4 != 6 {
		return false
	}
	next, b := b[6], b[ip6Header:]
	for { // the headers that may stand before the probe's own
		switch {
		case len(b) < 8:
			return false
		case next == nextFragment:
			if binary.BigEndian.Uint16(b[2:])&^7 != 0 { // not the first
				return false
			}
			next, b = b[0], b[8:]
			continue
		case next == nextHopOpts || next == nextRouting || next == nextDstOpts:
			n := 8 + 8*int(b[1])
			if len(b) < n {
				return false
			}
			next, b = b[0], b[n:]
			continue
		case l.icmp:
			return next == protocol.ProtoICMPv6 && b[0] == icmp6Echo && binary.BigEndian.Uint16(b[4:]) == l.ident && binary.BigEndian.Uint16(b[6:]) == uint16(seq)
		}
		return next == protocol.ProtoUDP && binary.BigEndian.Uint16(b) == l.ident && binary.BigEndian.Uint16(b[2:]) == uint16(l.port+seq)
	}
}

// errNoRoutingHeader is why there is no -g.
var errNoRoutingHeader = errors.New("-g: routing headers of type 0 are dropped everywhere (RFC 5095), and there is no other kind for this")

// interfaces are the names and the indexes in zones.
type interfaces struct{ stack *client.Stack }

// numbered is a with the interface's index for a zone.
func (i interfaces) numbered(a netip.Addr) (netip.Addr, error) {
	if a.Zone() == "" {
		return a, nil
	}
	if _, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return a, nil
	}
	n, err := i.stack.IfIndex(a.Zone())
	if err != nil {
		return a, fmt.Errorf("%s: there is no interface %s", a, a.Zone())
	}
	return a.WithZone(strconv.Itoa(n)), nil
}

// name is the name of an index, or the index if there is none.
func (i interfaces) name(index string) string {
	if n, err := strconv.Atoi(index); err == nil {
		if s, err := i.stack.IfName(n); err == nil {
			return s
		}
	}
	return index
}
