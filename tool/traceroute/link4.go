package traceroute

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"

	"ionet/client"
	"ionet/protocol"
)

// What of IPv4 and ICMP is needed (RFC 791, RFC 792, RFC 1812 §5.2.7.1).
const (
	ipHeader    = 20
	udpHeader   = 8
	icmpHeader  = 8
	outDataLen  = 12 // seq, ttl, two octets of nothing, the time in microseconds
	ipDF        = 0x4000
	optNop      = 1
	optLSRR     = 131
	echoReply   = 0
	unreachable = 3
	echo        = 8
	exceeded    = 11
	inTransit   = 0
)

// marks are what the codes of an unreachable are printed as. The code of the
// closed port has none: that is the target.
var marks = map[byte]string{0: " !N", 1: " !H", 2: " !P", 4: " !F", 5: " !S", 13: " !X"}

const (
	codeProtocol = 2
	codePort     = 3
	codeNeedFrag = 4
)

// link4 sends whole packets through a raw socket and hears ICMP on another.
type link4 struct {
	*options
	to, from netip.Addr
	through  []netip.Addr // gateways
	ident    uint16
	out      sender
	in       receiver
	dumpTo   io.Writer // -D
	now      func() time.Time
}

// sender and receiver are sockets of the stack.
type sender interface {
	Send(protocol.Msg) (int, error)
}

type receiver interface {
	Recv(size int, flags uint32) (protocol.Msg, error)
	SetReadDeadline(time.Time) error
}

// open4 makes the sockets, and finds the source and what -P begins with.
func open4(s *client.Stack, o *options, to netip.Addr, through []netip.Addr, source netip.Addr) (*link4, error) {
	l := &link4{options: o, to: to, from: source, through: through, ident: uint16(os.Getpid()) | 0x8000, now: time.Now}
	in, err := s.Socket(protocol.SockRaw, protocol.ProtoICMP)
	if err != nil {
		return nil, denied(err)
	}
	l.in = in
	out, err := s.Socket(protocol.SockRaw, protocol.ProtoRaw)
	if err != nil {
		return nil, denied(err)
	}
	l.out = out
	if err := out.SetInt(protocol.ProtoIP, protocol.IPHdrIncl, 1); err != nil {
		return nil, fmt.Errorf("IP_HDRINCL: %s", protocol.Strerror(err))
	}
	if err := common(out, o); err != nil {
		return nil, err
	}
	if o.iface != "" && !l.from.IsValid() {
		a, err := s.Addr(protocol.SIOCGIFADDR, o.iface)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", o.iface, protocol.Strerror(err))
		}
		l.from = a.IP
	}
	if !l.from.IsValid() {
		if l.from, err = sourceFor(s, protocol.AFInet, l.firstHop()); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// denied is why there is no raw socket.
func denied(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		return errors.New("icmp socket: only the superuser of the stack may make one")
	}
	return fmt.Errorf("icmp socket: %s", protocol.Strerror(err))
}

// common sets the socket options that both families have.
func common(k *client.Socket, o *options) error {
	for _, x := range []struct {
		use  bool
		name int
		what string
	}{{o.debug, protocol.SoDebug, "SO_DEBUG"}, {o.direct, protocol.SoDontRoute, "SO_DONTROUTE"}} {
		if !x.use {
			continue
		}
		if err := k.SetInt(protocol.SolSocket, x.name, 1); err != nil {
			return fmt.Errorf("%s: %s", x.what, protocol.Strerror(err))
		}
	}
	if o.iface != "" {
		if err := k.SetOption(protocol.SolSocket, protocol.SoBindToIf, []byte(o.iface)); err != nil {
			return fmt.Errorf("%s: %s", o.iface, protocol.Strerror(err))
		}
	}
	return nil
}

// sourceFor asks the stack which address it would send to another from.
func sourceFor(s *client.Stack, family int, to netip.Addr) (netip.Addr, error) {
	k, err := s.SocketFamily(family, protocol.SockDgram, 0)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("socket: %s", protocol.Strerror(err))
	}
	defer k.Close()
	if err := k.Connect(protocol.AddrFrom(to, firstPort)); err != nil {
		return netip.Addr{}, fmt.Errorf("%s: %s", to, protocol.Strerror(err))
	}
	a, err := k.LocalAddr()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("getsockname: %s", protocol.Strerror(err))
	}
	return a.IP, nil
}

// firstHop is where packets go first: a gateway of -g, or the target.
func (l *link4) firstHop() netip.Addr {
	if len(l.through) > 0 {
		return l.through[0]
	}
	return l.to
}

// packet is the probe number seq.
func (l *link4) packet(seq, hops, size int) []byte {
	var opts []byte
	if len(l.through) > 0 { // a loose source route (RFC 791 §3.1)
		opts = []byte{optNop, optLSRR, byte(3 + 4*len(l.through)), 4}
		for _, g := range append(l.through[1:len(l.through):len(l.through)], l.to) {
			opts = append(opts, g.AsSlice()...)
		}
	}
	head := ipHeader + len(opts)
	b := make([]byte, max(size, head+udpHeader+outDataLen))
	b[0], b[1] = 0x40|byte(head/4), byte(l.tos)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if l.dontFrag {
		binary.BigEndian.PutUint16(b[6:], ipDF)
	}
	b[8], b[9] = byte(hops), protocol.ProtoUDP
	from, to := l.from.As4(), l.firstHop().As4()
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	copy(b[ipHeader:], opts)
	rest := b[head:]
	rest[8], rest[9] = byte(seq), byte(hops)
	binary.BigEndian.PutUint64(rest[12:], uint64(l.now().UnixMicro()))
	if l.icmp {
		b[9] = protocol.ProtoICMP
		rest[0] = echo
		binary.BigEndian.PutUint16(rest[4:], l.ident)
		binary.BigEndian.PutUint16(rest[6:], uint16(seq))
		binary.BigEndian.PutUint16(rest[2:], sum(0, rest))
		return b
	}
	binary.BigEndian.PutUint16(rest, l.ident)
	binary.BigEndian.PutUint16(rest[2:], uint16(l.port+seq))
	binary.BigEndian.PutUint16(rest[4:], uint16(len(rest)))
	if !l.noSum {
		final := l.to.As4()
		pseudo := append(append(from[:], final[:]...), 0, protocol.ProtoUDP, rest[4], rest[5])
		c := sum(uint32(^sum(0, pseudo)), rest)
		if c == 0 {
			c = 0xffff // 0 says that there is none (RFC 768)
		}
		binary.BigEndian.PutUint16(rest[6:], c)
	}
	return b
}

// sum is RFC 1071's checksum, over what has been summed already and b.
func sum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (l *link4) send(seq, hops, size int) error {
	b := l.packet(seq, hops, size)
	if l.dumpTo != nil {
		fmt.Fprint(l.dumpTo, hex.Dump(b))
	}
	_, err := l.out.Send(protocol.Msg{Addr: protocol.AddrFrom(l.firstHop(), 0), Data: b})
	return err
}

func (l *link4) recv(seq int, deadline time.Time) (answer, error) {
	if err := l.in.SetReadDeadline(deadline); err != nil {
		return answer{}, err
	}
	for {
		m, err := l.in.Recv(65535, 0)
		if err != nil {
			return answer{}, err
		}
		if a, ok := l.read(m.Data, seq); ok {
			a.at = l.now()
			return a, nil
		}
	}
}

// read takes a packet that came apart; false: it is none worth a word.
func (l *link4) read(b []byte, seq int) (answer, bool) {
	icmp, ok := payload(b)
	if !ok || len(icmp) < icmpHeader {
		return answer{}, false
	}
	a := answer{from: netip.AddrFrom4([4]byte(b[12:16])), to: netip.AddrFrom4([4]byte(b[16:20])), hops: int(b[8]), size: len(b)}
	typ, code := icmp[0], icmp[1]
	switch {
	case typ == echoReply && l.icmp:
		if binary.BigEndian.Uint16(icmp[4:]) == l.ident && binary.BigEndian.Uint16(icmp[6:]) == uint16(seq) {
			a.reached = true
			return a, true
		}
	case typ == exceeded && code == inTransit:
		if l.ours(icmp[icmpHeader:], seq) {
			return a, true
		}
	case typ == unreachable:
		if !l.ours(icmp[icmpHeader:], seq) {
			break
		}
		switch code {
		case codePort, codeProtocol:
			a.reached = true
		case codeNeedFrag:
			a.barred = true
			if a.mtu = int(binary.BigEndian.Uint16(icmp[6:])); a.mtu == 0 {
				a.mtu = -1 // before RFC 1191
			}
		default:
			a.barred = true
		}
		if a.mark, ok = marks[code]; !ok && code != codePort {
			a.mark = fmt.Sprintf(" !<%d>", code)
		}
		return a, true
	}
	a.other = fmt.Sprintf("%d bytes from %s to %s: icmp type %d (%s) code %d\n", len(b), a.from, a.to, typ, typeName(typ), code)
	for i := 4; i+4 <= len(icmp); i += 4 {
		a.other += fmt.Sprintf("%2d: x%8.8x\n", i, binary.BigEndian.Uint32(icmp[i:]))
	}
	return a, true
}

// payload is what follows the IPv4 header of b; false: it is shorter than that.
func payload(b []byte) ([]byte, bool) {
	if len(b) < ipHeader || b[0]>>4 != 4 {
		return nil, false
	}
	n := int(b[0]&15) * 4
	if n < ipHeader || len(b) < n {
		return nil, false
	}
	return b[n:], true
}

// ours says whether the packet that an error returns is the probe number seq.
func (l *link4) ours(b []byte, seq int) bool {
	rest, ok := payload(b)
	if !ok || len(rest) < udpHeader {
		return false
	}
	if l.icmp {
		return b[9] == protocol.ProtoICMP && binary.BigEndian.Uint16(rest[4:]) == l.ident && binary.BigEndian.Uint16(rest[6:]) == uint16(seq)
	}
	return b[9] == protocol.ProtoUDP && binary.BigEndian.Uint16(rest) == l.ident && binary.BigEndian.Uint16(rest[2:]) == uint16(l.port+seq)
}

var typeNames = [...]string{"Echo Reply", "ICMP 1", "ICMP 2", "Dest Unreachable", "Source Quench", "Redirect", "ICMP 6", "ICMP 7",
	"Echo", "Router Advert", "Router Solicit", "Time Exceeded", "Param Problem", "Timestamp", "Timestamp Reply", "Info Request",
	"Info Reply", "Mask Request", "Mask Reply"}

func typeName(t byte) string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "OUT-OF-RANGE"
}
