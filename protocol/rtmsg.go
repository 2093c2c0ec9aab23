package protocol

import "syscall"

// RTMVersion is the version octet of every routing message.
const RTMVersion = 3

// Types of routing messages (BSD's RTM_*).
const (
	RTMAdd        = 1
	RTMDelete     = 2
	RTMChange     = 3
	RTMGet        = 4
	RTMLosing     = 5
	RTMRedirect   = 6
	RTMMiss       = 7
	RTMLock       = 8
	RTMResolve    = 11
	RTMNewAddr    = 12
	RTMDelAddr    = 13
	RTMIfInfo     = 15
	RTMIfAnnounce = 16
	RTMDesync     = 17 // ionet's own: messages were lost; dump again
)

// Route flags (BSD's RTF_*).
const (
	RTFUp        = 0x1
	RTFGateway   = 0x2
	RTFHost      = 0x4
	RTFReject    = 0x8
	RTFDynamic   = 0x10
	RTFModified  = 0x20
	RTFDone      = 0x40
	RTFMask      = 0x80
	RTFCloning   = 0x100
	RTFXResolve  = 0x200
	RTFLLInfo    = 0x400
	RTFStatic    = 0x800
	RTFBlackhole = 0x1000
	RTFCloned    = 0x2000
	RTFProto2    = 0x4000
	RTFProto1    = 0x8000
	RTFMPath     = 0x40000 // one of several equal routes; OpenBSD's
)

// Which addresses a message carries, in this order (BSD's RTA_*).
const (
	RTADst     = 0x1
	RTAGateway = 0x2
	RTANetmask = 0x4
	RTAGenmask = 0x8
	RTAIfp     = 0x10
	RTAIfa     = 0x20
	RTAAuthor  = 0x40
	RTABrd     = 0x80
)

// Which metrics a message sets or locks (BSD's RTV_*).
const (
	RTVMTU      = 0x1
	RTVHopcount = 0x2
	RTVExpire   = 0x4
	RTVRpipe    = 0x8
	RTVSpipe    = 0x10
	RTVSsthresh = 0x20
	RTVRTT      = 0x40
	RTVRTTVar   = 0x80
)

// What an [AnnounceMessage] says.
const (
	IfArrival   = 0
	IfDeparture = 1
)

// Message is a routing message: *[RouteMessage], *[IfMessage],
// *[AddrMessage], *[AnnounceMessage] or *[DesyncMessage].
type Message interface {
	// RTMType is the RTM_* number.
	RTMType() int
	append(b []byte) []byte
	decode(b []byte) error
}

// RouteMetrics are the metrics of a route (rt_metrics).
type RouteMetrics struct {
	Locks    uint64 // RTV_* that the stack may not change
	MTU      uint64 // octets
	Hopcount uint64
	Expire   uint64 // Unix seconds; 0 never
	Rpipe    uint64
	Spipe    uint64
	Ssthresh uint64
	RTT      uint64 // microseconds
	RTTVar   uint64
	PkSent   uint64
}

// RouteMessage is RTM_ADD, DELETE, CHANGE, GET, LOSING, REDIRECT, MISS, LOCK
// and RESOLVE (rt_msghdr).
type RouteMessage struct {
	Type    int
	Index   int // of the interface
	Refs    int // ionet's own, in rt_msghdr's padding; at most 65,535
	Flags   uint32
	PID     int
	Seq     int
	Errno   syscall.Errno
	Use     uint64 // 32 bits on the wire
	Inits   uint32 // RTV_* of Metrics that count
	Metrics RouteMetrics

	Dst, Gateway, Netmask, Genmask, Ifp, Ifa, Author, Brd Addr // Family 0: absent

	// NetmaskBits is what Netmask says, filled when decoding: -1 when there is
	// no netmask or it has holes. Encoding looks only at Netmask.
	NetmaskBits int
}

// IfData are an interface's numbers (if_data).
type IfData struct {
	Type      uint8
	AddrLen   uint8
	HdrLen    uint8
	LinkState uint32 // 0 unknown, 1 down, 2 up
	MTU, Metric, Baudrate, InPackets, InErrors, OutPackets, OutErrors, Collisions,
	InBytes, OutBytes, InMcast, OutMcast, InDrops, NoProto uint64
	LastChange int64 // Unix microseconds
}

// IfMessage is RTM_IFINFO (if_msghdr).
type IfMessage struct {
	Index    int
	Flags    uint32
	Name     string
	Type     uint8 // IFT_*
	LinkAddr LinkAddr
	Data     IfData
}

// AddrMessage is RTM_NEWADDR and RTM_DELADDR (ifa_msghdr).
type AddrMessage struct {
	Type    int
	Index   int
	Flags   uint32
	Metric  int
	Ifp     Addr
	Addr    Addr
	Netmask Addr
	Brd     Addr // broadcast, or the destination of a point-to-point interface
	Bits    int  // what Netmask says, filled when decoding; -1 none
}

// AnnounceMessage is RTM_IFANNOUNCE (if_announcemsghdr).
type AnnounceMessage struct {
	Index int
	Name  string
	What  int // IfArrival, IfDeparture
}

// DesyncMessage is RTM_DESYNC: the listener was too slow and Lost messages
// are gone.
type DesyncMessage struct{ Lost uint32 }

func (m *RouteMessage) RTMType() int  { return m.Type }
func (*IfMessage) RTMType() int       { return RTMIfInfo }
func (m *AddrMessage) RTMType() int   { return m.Type }
func (*AnnounceMessage) RTMType() int { return RTMIfAnnounce }
func (*DesyncMessage) RTMType() int   { return RTMDesync }

// Lengths of the headers.
const (
	rtMsghdrLen   = 120
	ifMsghdrLen   = 152
	ifaMsghdrLen  = 20
	announceLen   = 24
	desyncLen     = 8
	sockaddrAlign = 8
)

// AppendMessage appends the C layout of m, as NetBSD 1.5 has it on a 64-bit
// machine; the integers little-endian.
func AppendMessage(b []byte, m Message) []byte { return m.append(b) }

// AppendRoute is [AppendMessage] without the interface, for long dumps.
func AppendRoute(b []byte, m *RouteMessage) []byte { return m.append(b) }

// NextMessage reads the first message of b and answers what is behind it.
// Messages of unknown types are skipped; m is nil when nothing known is left.
func NextMessage(b []byte) (m Message, rest []byte, err error) {
	for len(b) > 0 {
		n, typ, err := messageHead(b)
		if err != nil {
			return nil, nil, err
		}
		switch typ {
		case RTMAdd, RTMDelete, RTMChange, RTMGet, RTMLosing, RTMRedirect, RTMMiss, RTMLock, RTMResolve:
			m = new(RouteMessage)
		case RTMNewAddr, RTMDelAddr:
			m = new(AddrMessage)
		case RTMIfInfo:
			m = new(IfMessage)
		case RTMIfAnnounce:
			m = new(AnnounceMessage)
		case RTMDesync:
			m = new(DesyncMessage)
		default:
			b = b[n:]
			continue
		}
		if err := m.decode(b[:n]); err != nil {
			return nil, nil, err
		}
		return m, b[n:], nil
	}
	return nil, nil, nil
}

// messageHead answers length and type of the message that b begins with.
func messageHead(b []byte) (n, typ int, err error) {
	if len(b) < 4 {
		return 0, 0, malformed("routing message of %d octets", len(b))
	}
	n = int(le.Uint16(b))
	if n < 4 || n > len(b) {
		return 0, 0, malformed("routing message of length %d in %d octets", n, len(b))
	}
	if b[2] != RTMVersion {
		return 0, 0, malformed("routing message of version %d, this is version %d", b[2], RTMVersion)
	}
	return n, int(b[3]), nil
}

// Decode reads the route message that b begins with into m, without
// allocating (link addresses with names excepted), and answers what is behind
// it. A message of another kind is an error.
func (m *RouteMessage) Decode(b []byte) (rest []byte, err error) {
	n, typ, err := messageHead(b)
	if err != nil {
		return nil, err
	}
	if typ < RTMAdd || typ > RTMResolve {
		return nil, malformed("routing message of type %d where a route belongs", typ)
	}
	return b[n:], m.decode(b[:n])
}

func (m *RouteMessage) decode(b []byte) error {
	if len(b) < rtMsghdrLen {
		return malformed("rt_msghdr of %d octets, not %d", len(b), rtMsghdrLen)
	}
	h := b[:rtMsghdrLen]
	m.Type = int(h[3])
	m.Index = int(le.Uint16(h[4:]))
	m.Refs = int(le.Uint16(h[6:]))
	m.Flags = le.Uint32(h[8:])
	m.PID = int(int32(le.Uint32(h[16:])))
	m.Seq = int(int32(le.Uint32(h[20:])))
	m.Errno = syscall.Errno(le.Uint32(h[24:]))
	m.Use = uint64(le.Uint32(h[28:]))
	m.Inits = uint32(le.Uint64(h[32:]))
	m.Metrics = RouteMetrics{
		Locks: le.Uint64(h[40:]), MTU: le.Uint64(h[48:]), Hopcount: le.Uint64(h[56:]),
		Expire: le.Uint64(h[64:]), Rpipe: le.Uint64(h[72:]), Spipe: le.Uint64(h[80:]),
		Ssthresh: le.Uint64(h[88:]), RTT: le.Uint64(h[96:]), RTTVar: le.Uint64(h[104:]),
		PkSent: le.Uint64(h[112:]),
	}
	m.NetmaskBits = -1
	addrs := le.Uint32(h[12:])
	b = b[rtMsghdrLen:]
	var err error
	for i, to := range m.addrs() {
		bit := uint32(1) << i
		if to.Family != 0 { // of an earlier message; clearing what is clear costs
			*to = Addr{}
		}
		if addrs&bit == 0 {
			continue
		}
		family := 0
		if bit == RTANetmask || bit == RTAGenmask {
			family = m.Dst.Family
		}
		if b, err = nextSockaddr(b, family, to); err != nil {
			return err
		}
	}
	if m.Netmask.Family != 0 {
		m.NetmaskBits = MaskBits(m.Netmask)
	}
	return nil
}

// addrs are the addresses in the order of their RTA_* bits.
func (m *RouteMessage) addrs() [8]*Addr {
	return [8]*Addr{&m.Dst, &m.Gateway, &m.Netmask, &m.Genmask, &m.Ifp, &m.Ifa, &m.Author, &m.Brd}
}

// nextSockaddr reads one padded sockaddr of a message. With a mask's family
// (that of the destination) it also takes BSD's shortened masks: the octets
// that are missing at the end, family included, are zero.
func nextSockaddr(b []byte, mask int, to *Addr) ([]byte, error) {
	if len(b) < sockaddrAlign {
		return nil, malformed("routing message ends before its addresses do")
	}
	n := int(b[0])
	size := (max(n, 1) + sockaddrAlign - 1) &^ (sockaddrAlign - 1)
	if size > len(b) {
		return nil, malformed("socket address of length %d in %d octets of a routing message", n, len(b))
	}
	sa, rest := b[:n], b[size:]
	full, at := 0, 0
	switch mask {
	case AFInet:
		full, at = SockaddrInLen, 4
	case AFInet6:
		full, at = SockaddrIn6Len, 8
	}
	if full != 0 && n <= full && (n < full || sa[1] == 0) {
		var ip [16]byte
		if n > at {
			copy(ip[:], sa[at:])
		}
		if mask == AFInet {
			*to = Addr{Family: AFInet, IP: addr4(ip[:4])}
		} else {
			*to = Addr{Family: AFInet6, IP: addr16(ip)}
		}
		return rest, nil
	}
	if n < 2 {
		return rest, nil // none
	}
	var err error
	*to, err = parseAddr(sa)
	return rest, err
}

func (m *RouteMessage) append(b []byte) []byte {
	start := len(b)
	var head [rtMsghdrLen]byte
	h := head[:]
	h[2], h[3] = RTMVersion, byte(m.Type)
	le.PutUint16(h[4:], uint16(m.Index))
	le.PutUint16(h[6:], uint16(min(max(m.Refs, 0), 0xffff)))
	le.PutUint32(h[8:], m.Flags)
	le.PutUint32(h[16:], uint32(m.PID))
	le.PutUint32(h[20:], uint32(m.Seq))
	le.PutUint32(h[24:], uint32(m.Errno))
	le.PutUint32(h[28:], uint32(min(m.Use, 1<<32-1)))
	le.PutUint64(h[32:], uint64(m.Inits))
	x := &m.Metrics
	le.PutUint64(h[40:], x.Locks)
	le.PutUint64(h[48:], x.MTU)
	le.PutUint64(h[56:], x.Hopcount)
	le.PutUint64(h[64:], x.Expire)
	le.PutUint64(h[72:], x.Rpipe)
	le.PutUint64(h[80:], x.Spipe)
	le.PutUint64(h[88:], x.Ssthresh)
	le.PutUint64(h[96:], x.RTT)
	le.PutUint64(h[104:], x.RTTVar)
	le.PutUint64(h[112:], x.PkSent)
	b = append(b, h...)
	var addrs uint32
	for i, a := range m.addrs() {
		b = appendPadded(b, a, 1<<i, &addrs)
	}
	le.PutUint32(b[start+12:], addrs)
	le.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

func appendPadded(b []byte, a *Addr, bit uint32, addrs *uint32) []byte {
	if a.Family == 0 {
		return b
	}
	start := len(b)
	b = appendSockaddr(b, a)
	if len(b)-start < 2 {
		return b[:start] // a family without a layout
	}
	*addrs |= bit
	for (len(b)-start)%sockaddrAlign != 0 {
		b = append(b, 0)
	}
	return b
}
