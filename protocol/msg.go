package protocol

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"
)

// Hello is the reply to TypeHello.
type Hello struct {
	Version  uint16 // of the protocol
	PID      uint32
	Started  int64 // Unix seconds
	Prefix   string
	Software string // version of the stack
	Instance uint32
}

// AppendHelloRequest appends the payload of a client's first frame.
func AppendHelloRequest(b []byte) []byte {
	return le.AppendUint16(le.AppendUint32(b, Magic), Version)
}

// ParseHelloRequest answers the version of the client.
func ParseHelloRequest(b []byte) (version uint16, err error) {
	r := NewReader(b)
	magic := r.U32()
	version = r.U16()
	if err := r.Err(); err != nil {
		return 0, err
	}
	if magic != Magic {
		return 0, malformed("HELLO with %#x instead of %#x", magic, uint32(Magic))
	}
	return version, nil
}

// AppendHello appends h.
func AppendHello(b []byte, h Hello) []byte {
	b = le.AppendUint32(b, Magic)
	b = le.AppendUint16(b, h.Version)
	b = le.AppendUint32(b, h.PID)
	b = le.AppendUint64(b, uint64(h.Started))
	b = AppendString(b, h.Prefix)
	b = AppendString(b, h.Software)
	return le.AppendUint32(b, h.Instance)
}

// ParseHello reads what [AppendHello] wrote; a later version may have appended more.
func ParseHello(b []byte) (Hello, error) {
	r := NewReader(b)
	if magic := r.U32(); r.Err() == nil && magic != Magic {
		return Hello{}, malformed("HELLO with %#x instead of %#x", magic, uint32(Magic))
	}
	h := Hello{Version: r.U16(), PID: r.U32(), Started: int64(r.U64()), Prefix: r.String(), Software: r.String(), Instance: r.U32()}
	return h, r.Err()
}

// Msg is a datagram on its way in or out: msghdr.
//
//	u32 flags (MSG_*), sockaddr (a zero octet: none), u32 length of control, control, data to the end
type Msg struct {
	Flags   uint32
	Addr    Addr
	Control []byte // control messages; see AppendControl
	Data    []byte
}

// AppendMsg appends m.
func AppendMsg(b []byte, m Msg) []byte {
	b = le.AppendUint32(b, m.Flags)
	b = AppendSockaddr(b, m.Addr)
	b = AppendBytes(b, m.Control)
	return append(b, m.Data...)
}

// ParseMsg reads what [AppendMsg] wrote; Control and Data point into b.
func ParseMsg(b []byte) (Msg, error) {
	r := NewReader(b)
	m := Msg{Flags: r.U32(), Addr: r.Addr(), Control: r.Bytes()}
	m.Data = r.Rest()
	return m, r.Err()
}

// ScmTimestamp is the control message of SO_TIMESTAMP, on level SOL_SOCKET.
const ScmTimestamp = 2

// Control is one control message (cmsghdr).
type Control struct {
	Level, Type int
	Data        []byte
}

const cmsghdrLen = 12

// AppendControl appends c: u32 length with these 12 octets, i32 level, i32
// type, data; padded with zeros so that the next begins at a multiple of 8.
func AppendControl(b []byte, c Control) []byte {
	start := len(b)
	b = le.AppendUint32(b, uint32(cmsghdrLen+len(c.Data)))
	b = le.AppendUint32(b, uint32(c.Level))
	b = le.AppendUint32(b, uint32(c.Type))
	b = append(b, c.Data...)
	for (len(b)-start)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// NextControl reads the first control message of b, which is not empty.
func NextControl(b []byte) (c Control, rest []byte, err error) {
	if len(b) < cmsghdrLen {
		return Control{}, nil, malformed("control message of %d octets", len(b))
	}
	n := int64(le.Uint32(b))
	if n < cmsghdrLen || n > int64(len(b)) {
		return Control{}, nil, malformed("control message of length %d in %d octets", n, len(b))
	}
	c = Control{Level: int(int32(le.Uint32(b[4:]))), Type: int(int32(le.Uint32(b[8:]))), Data: b[cmsghdrLen:n]}
	return c, b[min(int(n+7)&^7, len(b)):], nil
}

// Controls are the control messages of b, in order; their Data points into b.
func Controls(b []byte) (out []Control, err error) {
	for len(b) > 0 {
		var c Control
		if c, b, err = NextControl(b); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// PktInfo is the control message IPV6_PKTINFO, and the option (in6_pktinfo, RFC
// 3542 §6): the address is the destination of what came, or the source of what goes.
//
//	0  address (16)
//	16 u32 index of the interface; 0: any
type PktInfo struct {
	Addr  netip.Addr // without zone; invalid for the unspecified address
	Index int
}

// AppendPktInfo appends p.
func AppendPktInfo(b []byte, p PktInfo) []byte {
	ip := netip.IPv6Unspecified()
	if p.Addr.IsValid() {
		ip = p.Addr
	}
	a := ip.As16()
	return le.AppendUint32(append(b, a[:]...), uint32(p.Index))
}

// ParsePktInfo reads what [AppendPktInfo] wrote.
func ParsePktInfo(b []byte) (PktInfo, error) {
	if len(b) != 20 {
		return PktInfo{}, malformed("in6_pktinfo of %d octets, not 20", len(b))
	}
	p := PktInfo{Addr: netip.AddrFrom16([16]byte(b)), Index: int(le.Uint32(b[16:]))}
	if p.Addr == netip.IPv6Unspecified() {
		p.Addr = netip.Addr{}
	}
	return p, nil
}

// Ancillary is what the known control messages say.
type Ancillary struct {
	Dst    netip.Addr // IP_RECVDSTADDR, IPV6_PKTINFO; without zone, for there is If
	If     LinkAddr   // IP_RECVIF; of IPV6_PKTINFO the index alone
	TTL    int        // IP_RECVTTL, IPV6_HOPLIMIT; -1 absent
	TClass int        // IPV6_TCLASS; -1 absent
	Time   time.Time  // SCM_TIMESTAMP
}

// AppendAncillary appends the control messages of IPv4, and of the time, of
// what a holds.
func AppendAncillary(b []byte, a Ancillary) []byte {
	if a.Dst.IsValid() {
		b = AppendControl(b, Control{ProtoIP, IPRecvDstAddr, a.Dst.AsSlice()})
	}
	if a.If.Index != 0 {
		b = AppendControl(b, Control{ProtoIP, IPRecvIf, AppendSockaddr(nil, LinkAddrOf(a.If))})
	}
	if a.TTL >= 0 {
		b = AppendControl(b, Control{ProtoIP, IPRecvTTL, []byte{byte(a.TTL)}})
	}
	if !a.Time.IsZero() {
		t := le.AppendUint64(nil, uint64(a.Time.Unix()))
		b = AppendControl(b, Control{SolSocket, ScmTimestamp, le.AppendUint64(t, uint64(a.Time.Nanosecond()/1000))})
	}
	return b
}

// ParseAncillary reads the known among the control messages b and passes over
// the others.
func ParseAncillary(b []byte) (Ancillary, error) {
	a := Ancillary{TTL: -1, TClass: -1}
	for len(b) > 0 {
		c, rest, err := NextControl(b)
		if err != nil {
			return a, err
		}
		b = rest
		switch {
		case c.Level == ProtoIP && c.Type == IPRecvDstAddr:
			ip, ok := netip.AddrFromSlice(c.Data)
			if !ok {
				return a, malformed("IP_RECVDSTADDR of %d octets", len(c.Data))
			}
			a.Dst = ip
		case c.Level == ProtoIP && c.Type == IPRecvIf:
			dl, _, err := ParseSockaddr(c.Data)
			if err != nil {
				return a, err
			}
			a.If = dl.Link
		case c.Level == ProtoIP && c.Type == IPRecvTTL:
			if len(c.Data) != 1 {
				return a, malformed("IP_RECVTTL of %d octets", len(c.Data))
			}
			a.TTL = int(c.Data[0])
		case c.Level == ProtoIPv6 && (c.Type == IPv6PktInfo || c.Type == IPv62292PktInfo):
			p, err := ParsePktInfo(c.Data)
			if err != nil {
				return a, err
			}
			a.Dst, a.If = p.Addr, LinkAddr{Index: p.Index}
		case c.Level == ProtoIPv6 && (c.Type == IPv6HopLimit || c.Type == IPv62292HopLimit || c.Type == IPv6TClass):
			if len(c.Data) != 4 {
				return a, malformed("control message %d of IPv6 with %d octets, not 4", c.Type, len(c.Data))
			}
			n := int(int32(le.Uint32(c.Data)))
			if c.Type == IPv6TClass {
				a.TClass = n
			} else {
				a.TTL = n
			}
		case c.Level == SolSocket && c.Type == ScmTimestamp:
			if len(c.Data) != 16 {
				return a, malformed("SCM_TIMESTAMP of %d octets", len(c.Data))
			}
			usec := int64(le.Uint64(c.Data[8:]))
			if usec < 0 || usec > 999999 {
				return a, malformed("SCM_TIMESTAMP with %d microseconds", usec)
			}
			a.Time = time.Unix(int64(le.Uint64(c.Data)), usec*1000)
		}
	}
	return a, nil
}

// SockOpt is the payload of TypeSetsockopt; TypeGetsockopt has no value and
// is answered by the value alone (AppendBytes).
type SockOpt struct {
	Level, Name int
	Value       []byte // numbers are i32 little-endian, or what the option's comment says
}

// AppendSockOpt appends o.
func AppendSockOpt(b []byte, o SockOpt) []byte {
	b = le.AppendUint32(b, uint32(o.Level))
	b = le.AppendUint32(b, uint32(o.Name))
	return AppendBytes(b, o.Value)
}

// ParseSockOpt reads what [AppendSockOpt] wrote; Value points into b.
func ParseSockOpt(b []byte) (SockOpt, error) {
	r := NewReader(b)
	o := SockOpt{Level: int(int32(r.U32())), Name: int(int32(r.U32()))}
	if r.Len() > 0 {
		o.Value = r.Bytes()
	}
	return o, r.Close()
}

// AppendU32 appends the numbers, as the small requests have them: TypeListen
// backlog, TypeShutdown how, TypeCancel tag, TypeRecv flags and size, and the
// replies of TypeSocket, TypeSend and TypeCapture.
func AppendU32(b []byte, v ...uint32) []byte {
	for _, n := range v {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// ParseU32 reads the numbers into v; there must be exactly as many.
func ParseU32(b []byte, v ...*uint32) error {
	r := NewReader(b)
	for _, p := range v {
		*p = r.U32()
	}
	return r.Close()
}

// AppendSocket appends the payload of TypeSocket; family 0 is the door's.
func AppendSocket(b []byte, typ, proto, family uint16) []byte {
	b = le.AppendUint16(le.AppendUint16(b, typ), proto)
	if family != 0 {
		b = le.AppendUint16(b, family)
	}
	return b
}

// ParseSocket reads it.
func ParseSocket(b []byte) (typ, proto, family uint16, err error) {
	r := NewReader(b)
	typ, proto = r.U16(), r.U16()
	if r.Len() > 0 {
		family = r.U16()
	}
	return typ, proto, family, r.Close()
}

// Accepted is the reply to TypeAccept, which brings the descriptor of the new
// stream with it. The reply to TypeConnect of a stream is the same without ID.
//
//	u32 id, sockaddr peer, sockaddr local
type Accepted struct {
	ID          uint32
	Peer, Local Addr
}

// AppendAccepted appends a.
func AppendAccepted(b []byte, a Accepted) []byte {
	return AppendConnected(le.AppendUint32(b, a.ID), a.Peer, a.Local)
}

// ParseAccepted reads what [AppendAccepted] wrote.
func ParseAccepted(b []byte) (a Accepted, err error) {
	r := NewReader(b)
	a = Accepted{ID: r.U32(), Peer: r.Addr(), Local: r.Addr()}
	return a, r.Close()
}

// AppendConnected appends the reply to TypeConnect of a stream.
func AppendConnected(b []byte, peer, local Addr) []byte {
	return AppendSockaddr(AppendSockaddr(b, peer), local)
}

// ParseConnected reads what [AppendConnected] wrote.
func ParseConnected(b []byte) (peer, local Addr, err error) {
	r := NewReader(b)
	peer, local = r.Addr(), r.Addr()
	return peer, local, r.Close()
}

// ConnectRequest is TypeConnect of a stream that brings its descriptor with it:
// one end of a pair whose other end the client has already. The first Filler
// octets that are in it are no data; the stack takes them out when the
// connection stands.
//
//	sockaddr to; with a descriptor: u32 filler
type ConnectRequest struct {
	To     Addr
	Data   bool // a descriptor comes with it
	Filler uint32
}

// AppendConnect appends q.
func AppendConnect(b []byte, q ConnectRequest) []byte {
	b = AppendSockaddr(b, q.To)
	if q.Data {
		b = le.AppendUint32(b, q.Filler)
	}
	return b
}

// ParseConnect reads what [AppendConnect] wrote.
func ParseConnect(b []byte) (q ConnectRequest, err error) {
	r := NewReader(b)
	q.To = r.Addr()
	if q.Data = r.Len() > 0; q.Data {
		q.Filler = r.U32()
	}
	return q, r.Close()
}

// Ended is a stream that has come to its end without a close frame: all its
// descriptors are closed, or the connection has failed. With an Errno the id is
// there until SO_ERROR has been asked for.
//
//	u32 id, u32 errno
type Ended struct {
	ID    uint32
	Errno syscall.Errno
}

// AppendEnded appends the reply to TypeEnded.
func AppendEnded(b []byte, ended []Ended) []byte {
	for _, e := range ended {
		b = le.AppendUint32(le.AppendUint32(b, e.ID), uint32(e.Errno))
	}
	return b
}

// ParseEnded reads what [AppendEnded] wrote.
func ParseEnded(b []byte) (ended []Ended, err error) {
	r := NewReader(b)
	for r.Len() > 0 {
		ended = append(ended, Ended{ID: r.U32(), Errno: syscall.Errno(r.U32())})
	}
	return ended, r.Close()
}

// ParseAddr reads a payload that is one socket address: TypeBind, TypeConnect
// and the replies of TypeGetsockname and TypeGetpeername.
func ParseAddr(b []byte) (Addr, error) {
	r := NewReader(b)
	a := r.Addr()
	return a, r.Close()
}

// ICMP6Pass is the value of ICMP6_FILTER that lets those types through and no
// others (RFC 3542 §3.2): type t is bit t%32 of the little-endian word t/32,
// which is bit t%8 of octet t/8.
func ICMP6Pass(types ...byte) []byte {
	filter := make([]byte, 32)
	for _, t := range types {
		filter[t/8] |= 1 << (t % 8)
	}
	return filter
}
