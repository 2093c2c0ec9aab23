package abi

import (
	"math"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

func ip6Option(name int) Option { return Option{protocol.ProtoIPv6, name} }

// Names that package unix leaves out.
const (
	ipv6FlowInfo     = 11
	ipv6FlowInfoSend = 33
	ipv6HdrIncl      = 36
	icmp6Filter      = 1
)

var multicastIf6 = Option{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF}

// ip6Rules are the options of IPPROTO_IPV6 on an AF_INET6 socket. Missing, and
// therefore ENOPROTOOPT: MCAST_MSFILTER (a whole filter at once), anycast groups,
// flow labels of the program's own, IPV6_ADDRFORM, IPV6_2292PKTOPTIONS, and the
// names of ip6tables.
var ip6Rules = map[int]rule{
	unix.IPV6_V6ONLY:         {set: setV6Only, get: remembered(0)},
	unix.IPV6_UNICAST_HOPS:   within(ip6Option(protocol.IPv6UnicastHops), -1, 255),
	unix.IPV6_MULTICAST_HOPS: noStream(within(ip6Option(protocol.IPv6MulticastHops), -1, 255)),
	unix.IPV6_MULTICAST_LOOP: within(ip6Option(protocol.IPv6MulticastLoop), 0, 1),
	unix.IPV6_MULTICAST_IF:   noStream(rule{set: setMulticastIf6, get: remembered(0)}),
	unix.IPV6_TCLASS:         {set: setTClass, get: getTClass},
	unix.IPV6_DONTFRAG:       {set: setDontFrag, get: remembered(0)},
	unix.IPV6_MTU_DISCOVER:   {set: setDiscover6, get: remembered(unix.IPV6_PMTUDISC_WANT)},
	unix.IPV6_MTU:            {get: getMTU6},
	unix.IPV6_PATHMTU:        {get: getPathMTU},
	unix.IPV6_AUTOFLOWLABEL:  boolean(ip6Option(protocol.IPv6AutoFlowLabel)),
	unix.IPV6_CHECKSUM:       {set: setChecksum, get: getChecksum},
	ipv6HdrIncl:              only(unix.SOCK_RAW, syscall.ENOPROTOOPT, zeroOnly(syscall.ENOPROTOOPT)), // the stack writes the header

	unix.IPV6_ADDR_PREFERENCES: {set: setPreferences, get: remembered(preferPublicOrTemp | preferHome)},

	unix.IPV6_RECVPKTINFO:   told([]Option{pktinfo4}, toldDst6),
	unix.IPV6_RECVHOPLIMIT:  told([]Option{hops4}, toldHops6),
	unix.IPV6_RECVTCLASS:    told(nil, ip6Option(protocol.IPv6RecvTClass)),
	unix.IPV6_RECVHOPOPTS:   perhaps(told(nil, ip6Option(protocol.IPv6RecvHopOpts))),
	unix.IPV6_RECVDSTOPTS:   perhaps(told(nil, ip6Option(protocol.IPv6RecvDstOpts))),
	unix.IPV6_RECVRTHDR:     told(nil, ip6Option(protocol.IPv6RecvRtHdr)),
	unix.IPV6_RECVPATHMTU:   told(nil, ip6Option(protocol.IPv6RecvPathMTU)),
	unix.IPV6_2292PKTINFO:   told(nil, ip6Option(protocol.IPv62292PktInfo)),
	unix.IPV6_2292HOPLIMIT:  told(nil, ip6Option(protocol.IPv62292HopLimit)),
	unix.IPV6_2292HOPOPTS:   perhaps(told(nil, ip6Option(protocol.IPv62292HopOpts))),
	unix.IPV6_2292DSTOPTS:   perhaps(told(nil, ip6Option(protocol.IPv62292DstOpts))),
	unix.IPV6_2292RTHDR:     told(nil, ip6Option(protocol.IPv62292RtHdr)),
	unix.IPV6_PKTINFO:       {set: setPktInfo6},
	unix.IPV6_HOPOPTS:       header(protocol.IPv6HopOpts),
	unix.IPV6_RTHDRDSTOPTS:  header(protocol.IPv6RtHdrDstOpts),
	unix.IPV6_RTHDR:         header(protocol.IPv6RtHdr),
	unix.IPV6_DSTOPTS:       header(protocol.IPv6DstOpts),
	unix.IPV6_JOIN_GROUP:    {set: setMembership6},
	unix.IPV6_LEAVE_GROUP:   {set: setMembership6},
	unix.MCAST_JOIN_GROUP:   {set: setGroup6},
	unix.MCAST_LEAVE_GROUP:  {set: setGroup6},
	unix.MCAST_BLOCK_SOURCE: {set: setGroupSource6},

	unix.MCAST_UNBLOCK_SOURCE:     {set: setGroupSource6},
	unix.MCAST_JOIN_SOURCE_GROUP:  {set: setGroupSource6},
	unix.MCAST_LEAVE_SOURCE_GROUP: {set: setGroupSource6},

	// As their sisters of IPPROTO_IP.
	unix.IPV6_UNICAST_IF:           {set: setUnicastIf, get: remembered(0)},
	unix.IPV6_MULTICAST_ALL:        idleFlag(1),
	unix.IPV6_RECVERR:              idleFlag(0),
	unix.IPV6_RECVERR_RFC4884:      idle(0, 0, 1, syscall.EINVAL),
	unix.IPV6_FREEBIND:             idleFlag(0),
	unix.IPV6_ROUTER_ALERT:         {get: remembered(0)},
	unix.IPV6_ROUTER_ALERT_ISOLATE: idleFlag(0),
	unix.IPV6_TRANSPARENT:          zeroOnly(syscall.EPERM),
	unix.IPV6_IPSEC_POLICY:         {set: refuse(syscall.EPERM).set},
	unix.IPV6_XFRM_POLICY:          {set: refuse(syscall.EPERM).set},
	unix.IPV6_MINHOPCOUNT:          zeroOnly(syscall.ENOPROTOOPT),
	unix.IPV6_RECVFRAGSIZE:         zeroOnly(syscall.ENOPROTOOPT),
	unix.IPV6_RECVORIGDSTADDR:      zeroOnly(syscall.ENOPROTOOPT),

	// A datagram's flow label is not told, and none is taken.
	ipv6FlowInfo:     idleFlag(0),
	ipv6FlowInfoSend: idleFlag(0),
}

// raw6Rules are the options of SOL_RAW on an AF_INET6 socket, icmp6Rules those of
// SOL_ICMPV6.
var (
	raw6Rules = map[int]rule{
		unix.IPV6_CHECKSUM: {set: setChecksum, get: getChecksum},
		ipv6HdrIncl:        zeroOnly(syscall.ENOPROTOOPT),
	}
	icmp6Rules = map[int]rule{icmp6Filter: {set: setICMP6Filter, get: getICMP6Filter}}
)

// noStream is r, which on a stream cannot be set: ENOPROTOOPT.
func noStream(r rule) rule {
	return rule{get: r.get, set: func(s *Sock, o Option, v []byte) (Request, error) {
		if s.Type == unix.SOCK_STREAM {
			return Request{}, syscall.ENOPROTOOPT
		}
		return r.set(s, o, v)
	}}
}

// start reads what was set; -1, as before, is n.
func start(n int) func(*Sock, Option) (Request, error) {
	return func(s *Sock, o Option) (Request, error) {
		if v, ok := s.Kept(o); ok && v != -1 {
			return answer(o, v), nil
		}
		return answer(o, n), nil
	}
}

// perhaps is r of what the stack tells the superuser alone: who asks goes on
// without.
func perhaps(r rule) rule {
	return rule{get: r.get, set: func(s *Sock, o Option, v []byte) (Request, error) {
		q, err := r.set(s, o, v)
		q.errno = map[syscall.Errno]syscall.Errno{syscall.EPERM: 0}
		return q, err
	}}
}

// call6 is a request of the stack's option of IPPROTO_IPV6 with octets.
func call6(name int, v []byte) Request {
	return Request{Calls: []protocol.SockOpt{{Level: protocol.ProtoIPv6, Name: name, Value: v}}, errno: noDevice}
}

// setV6Only is IPV6_V6ONLY, off at the beginning. See [Sock.ToStack].
func setV6Only(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err == nil && (s.Bound || s.Type == unix.SOCK_RAW) { // whose protocol is a port to Linux
		err = syscall.EINVAL
	}
	if err != nil {
		return Request{}, err
	}
	return Request{
		Calls: []protocol.SockOpt{call(ip6Option(protocol.IPv6V6Only), flag(n != 0))},
		keep:  []kept{{o, flag(n != 0)}},
	}, nil
}

// setMulticastIf6 is IPV6_MULTICAST_IF, an index.
func setMulticastIf6(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	if n < 0 {
		return Request{}, syscall.ENODEV
	}
	r := call6(protocol.IPv6MulticastIf, value32(n))
	r.keep = []kept{{o, n}}
	return r, nil
}

// setTClass is IPV6_TCLASS; -1 is back to the beginning. The ECN bits of a stream
// are TCP's own.
func setTClass(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	if n < -1 || n > 255 {
		return Request{}, syscall.EINVAL
	}
	if n >= 0 && s.Type == unix.SOCK_STREAM {
		n &^= 3
	}
	return Request{Calls: []protocol.SockOpt{call(ip6Option(protocol.IPv6TClass), n)}}, nil
}

// getTClass reads the default, -1 to the stack, as 0.
func getTClass(_ *Sock, o Option) (Request, error) {
	return ask(o, ip6Option(protocol.IPv6TClass), func(n int) int { return max(n, 0) }), nil
}

var (
	dontFrag6 = Option{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG}
	discover6 = Option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER}
)

// neverCut says that a way of IPV6_MTU_DISCOVER never lets a datagram be cut.
func neverCut(way int) bool { return way == unix.IPV6_PMTUDISC_DO || way == unix.IPV6_PMTUDISC_PROBE }

// setDontFrag is IPV6_DONTFRAG, one of two ways to have a datagram refused that is
// more than the path's MTU.
func setDontFrag(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	return keepWhole(s, o, flag(n != 0), n != 0 || neverCut(s.kept[discover6])), nil
}

// setDiscover6 is IPV6_MTU_DISCOVER, the other one.
func setDiscover6(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	if n < unix.IPV6_PMTUDISC_DONT || n > unix.IPV6_PMTUDISC_OMIT {
		return Request{}, syscall.EINVAL
	}
	return keepWhole(s, o, n, neverCut(n) || s.kept[dontFrag6] != 0), nil
}

func keepWhole(s *Sock, o Option, n int, whole bool) Request {
	r := Request{keep: []kept{{o, n}}, Idle: s.Type == unix.SOCK_STREAM}
	if !r.Idle {
		r.Calls = []protocol.SockOpt{call(ip6Option(protocol.IPv6DontFrag), flag(whole))}
	}
	return r
}

// getMTU6 is IPV6_MTU, of a connected socket. ENOTCONN.
func getMTU6(s *Sock, o Option) (Request, error) {
	if s.Type == unix.SOCK_STREAM {
		return getMTU(s, o)
	}
	r, err := getPathMTU(s, o)
	info := r.reply
	r.reply = func(v []byte) ([]byte, error) {
		v, err := info(v)
		return Truncate(v[min(len(v), SockaddrIn6Len):], 4), err
	}
	return r, err
}

// getPathMTU is IPV6_PATHMTU: ip6_mtuinfo, whose address is zeros in Linux.
func getPathMTU(*Sock, Option) (Request, error) {
	r := call6(protocol.IPv6PathMTU, nil)
	r.reply = func(v []byte) ([]byte, error) {
		if len(v) != SockaddrIn6Len+4 {
			return nil, syscall.EPROTO
		}
		return append(make([]byte, SockaddrIn6Len), v[SockaddrIn6Len:]...), nil
	}
	return r, nil
}

// setChecksum is IPV6_CHECKSUM of a raw socket: where it stands; -1: nowhere. Of
// ICMPv6 the stack knows it, and Linux lets it be said on SOL_RAW alone.
func setChecksum(s *Sock, o Option, v []byte) (Request, error) {
	if s.Type != unix.SOCK_RAW {
		return Request{}, syscall.ENOPROTOOPT
	}
	n, err := number(o.Level, v, 0)
	switch {
	case err != nil:
		return Request{}, err
	case s.protocol() == unix.IPPROTO_ICMPV6 && o.Level == unix.IPPROTO_IPV6, n > 0 && n&1 != 0:
		return Request{}, syscall.EINVAL
	case s.protocol() == unix.IPPROTO_ICMPV6:
		return Request{Idle: true, keep: []kept{{checksum6, n}}}, nil
	}
	return Request{Calls: []protocol.SockOpt{call(ip6Option(protocol.IPv6Checksum), max(n, -1))}}, nil
}

// checksum6 is the option's name on either level.
var checksum6 = Option{unix.SOL_RAW, unix.IPV6_CHECKSUM}

func getChecksum(s *Sock, o Option) (Request, error) {
	if s.Type != unix.SOCK_RAW {
		return Request{}, syscall.ENOPROTOOPT
	}
	if s.Protocol == unix.IPPROTO_ICMPV6 {
		return remembered(2)(s, checksum6)
	}
	return ask(o, ip6Option(protocol.IPv6Checksum), nil), nil
}

// Flags of IPV6_ADDR_PREFERENCES (RFC 5014 §3, linux/in6.h).
const (
	preferTemp         = 0x1
	preferPublic       = 0x2
	preferPublicOrTemp = 0x100
	preferHome         = 0x400
	preferLimit        = math.MaxUint16
)

// setPreferences is IPV6_ADDR_PREFERENCES, of which the stack knows whether
// temporary addresses are preferred (RFC 8981).
func setPreferences(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	temp := 0
	switch n & (preferTemp | preferPublic | preferPublicOrTemp) {
	case preferTemp:
		temp = 1
	case preferPublic:
	case preferPublicOrTemp, 0:
		temp = -1
	default:
		return Request{}, syscall.EINVAL
	}
	if n < 0 || n > preferLimit {
		return Request{}, syscall.EINVAL
	}
	r := call6(protocol.IPv6PreferTempAddr, value32(temp))
	r.keep = []kept{{o, n | preferHome}}
	return r, nil
}

// setPktInfo6 is IPV6_PKTINFO, in6_pktinfo: source(16), u32 index; zeros take it back.
func setPktInfo6(_ *Sock, _ Option, v []byte) (Request, error) {
	if len(v) < pktInfoLen {
		return Request{}, syscall.EINVAL
	}
	r := call6(protocol.IPv6PktInfo, Truncate(v, pktInfoLen))
	r.errno = pktInfoErrno
	return r, nil
}

// pktInfoLen is the length of in6_pktinfo.
const pktInfoLen = 20

// pktInfoErrno: a source that is not the host's.
var pktInfoErrno = map[syscall.Errno]syscall.Errno{syscall.ENXIO: syscall.ENODEV, syscall.EADDRNOTAVAIL: syscall.EINVAL}

// header is an extension header that all packets of the socket have, whole as on
// the wire in both.
func header(name int) rule {
	return rule{
		set: func(_ *Sock, _ Option, v []byte) (Request, error) { return call6(name, v), nil },
		get: func(*Sock, Option) (Request, error) {
			r := call6(name, nil)
			r.reply = func(v []byte) ([]byte, error) { return v, nil }
			return r, nil
		},
	}
}

// groupCall6 is groupCall for groups of IPv6.
func groupCall6(name int, v []byte) Request {
	r := call6(name, v)
	r.errno = map[syscall.Errno]syscall.Errno{syscall.ENXIO: syscall.ENODEV, syscall.ETOOMANYREFS: syscall.ENOBUFS}
	if name == protocol.IPv6JoinGroup || name == protocol.MCastJoinGroup {
		r.errno[syscall.EADDRNOTAVAIL] = syscall.ENODEV // no interface to join on
	}
	return r
}

// setMembership6 is IPV6_JOIN_GROUP and IPV6_LEAVE_GROUP, ipv6_mreq: group(16),
// u32 index.
func setMembership6(s *Sock, o Option, v []byte) (Request, error) {
	const length = 20
	switch {
	case len(v) < length:
		return Request{}, syscall.EINVAL
	case s.Type == unix.SOCK_STREAM:
		return Request{}, syscall.EPROTO
	case !netip.AddrFrom16([16]byte(v)).IsMulticast():
		return Request{}, syscall.EINVAL
	}
	name := protocol.IPv6JoinGroup
	if o.Name == unix.IPV6_LEAVE_GROUP {
		name = protocol.IPv6LeaveGroup
	}
	return groupCall6(name, v[:length]), nil
}

// mcast is the names of the stack for those of RFC 3678.
var mcast = map[int]int{
	unix.MCAST_JOIN_GROUP:         protocol.MCastJoinGroup,
	unix.MCAST_LEAVE_GROUP:        protocol.MCastLeaveGroup,
	unix.MCAST_JOIN_SOURCE_GROUP:  protocol.MCastJoinSourceGroup,
	unix.MCAST_LEAVE_SOURCE_GROUP: protocol.MCastLeaveSourceGroup,
	unix.MCAST_BLOCK_SOURCE:       protocol.MCastBlockSource,
	unix.MCAST_UNBLOCK_SOURCE:     protocol.MCastUnblockSource,
}

// setGroup6 is MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP: group_req.
func setGroup6(_ *Sock, o Option, v []byte) (Request, error) {
	if len(v) < groupReqLen {
		return Request{}, syscall.EINVAL
	}
	return groups6(o, v, v[8:])
}

// setGroupSource6 is the four options with a group_source_req.
func setGroupSource6(_ *Sock, o Option, v []byte) (Request, error) {
	if len(v) < groupSourceReqLen {
		return Request{}, syscall.EINVAL
	}
	return groups6(o, v, v[8:], v[8+storageLen:])
}

// groups6 is the stack's request of what begins with an index and has those
// addresses.
func groups6(o Option, v []byte, storages ...[]byte) (Request, error) {
	out := value32(int(le.Uint32(v)))
	for _, b := range storages {
		a, err := ParseSockaddr(b[:storageLen])
		if err != nil || a.Family != protocol.AFInet6 {
			return Request{}, syscall.EADDRNOTAVAIL
		}
		out = protocol.AppendSockaddr(out, protocol.Addr{Family: a.Family, IP: a.IP.WithZone("")})
	}
	return groupCall6(mcast[o.Name], out), nil
}

// filter6Len is the length of icmp6_filter, 256 bits. Linux does not let pass what
// is set, RFC 3542 §3.2 and the stack what is not.
const filter6Len = 32

// setICMP6Filter is ICMPV6_FILTER; of a shorter one the rest stays.
func setICMP6Filter(s *Sock, o Option, v []byte) (Request, error) {
	blocked := make([]byte, filter6Len)
	for i := range filter6Len / 8 {
		le.PutUint64(blocked[8*i:], uint64(s.kept[Option{o.Level, filterWord + i}]))
	}
	copy(blocked, v)
	passes := make([]byte, filter6Len)
	for i, b := range blocked {
		passes[i] = ^b
	}
	r := Request{Calls: []protocol.SockOpt{{Level: protocol.ProtoICMPv6, Name: protocol.ICMP6Filter, Value: passes}}}
	for i := range filter6Len / 8 {
		r.keep = append(r.keep, kept{Option{o.Level, filterWord + i}, int(le.Uint64(blocked[8*i:]))})
	}
	return r, nil
}

// filterWord is the first of the names by which a filter's words are remembered;
// no program has them.
const filterWord = 1 << 16

func getICMP6Filter(s *Sock, o Option) (Request, error) {
	var v []byte
	for i := range filter6Len / 8 {
		v = le.AppendUint64(v, uint64(s.kept[Option{o.Level, filterWord + i}]))
	}
	return Request{value: v}, nil
}
