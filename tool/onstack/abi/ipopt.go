package abi

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

func ipOption(name int) Option { return Option{protocol.ProtoIP, name} }

// On a socket of AF_INET6 the ways of both levels to be told of a datagram's
// destination and of its hops share the stack's options.
var (
	pktinfo4  = Option{unix.IPPROTO_IP, unix.IP_PKTINFO}
	pktinfo6  = Option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}
	hops4     = Option{unix.IPPROTO_IP, unix.IP_RECVTTL}
	hops6     = Option{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT}
	toldDst6  = ip6Option(protocol.IPv6RecvPktInfo)
	toldHops6 = ip6Option(protocol.IPv6RecvHopLimit)
)

// ipRules are the options of IPPROTO_IP, for sockets of both families.
// Missing, and therefore ENOPROTOOPT: IP_MSFILTER and MCAST_MSFILTER (a whole
// filter at once), IP_RECVORIGDSTADDR (for redirected connections, of which
// there are none), IP_LOCAL_PORT_RANGE, and the names of iptables.
var ipRules = map[int]rule{
	unix.IP_TOS:        {set: setTOS, get: askNumber(ipOption(protocol.IPTos))},
	unix.IP_TTL:        {set: setTTL, get: askNumber(ipOption(protocol.IPTTL))},
	unix.IP_HDRINCL:    {set: only(unix.SOCK_RAW, syscall.ENOPROTOOPT, boolean(ipOption(protocol.IPHdrIncl))).set, get: getHdrIncl},
	unix.IP_OPTIONS:    {set: setIPOptions, get: getIPOptions},
	unix.IP_PKTINFO:    byFamily(told(nil, ipOption(protocol.IPRecvDstAddr), ipOption(protocol.IPRecvIf)), told([]Option{pktinfo6}, toldDst6)),
	unix.IP_RECVTTL:    byFamily(told(nil, ipOption(protocol.IPRecvTTL)), told([]Option{hops6}, toldHops6)),
	unix.IP_PKTOPTIONS: {get: only(unix.SOCK_STREAM, syscall.ENOPROTOOPT, zeros(0)).get},

	unix.IP_MTU_DISCOVER: {set: setDiscover, get: remembered(unix.IP_PMTUDISC_WANT)},
	unix.IP_MTU:          {get: getMTU},
	unix.IP_PROTOCOL:     fixed((*Sock).protocol),

	unix.IP_MULTICAST_IF:           {set: setMulticastIf, get: askOctets(ipOption(protocol.IPMulticastIf), 4)},
	unix.IP_MULTICAST_TTL:          {set: setMulticastTTL, get: askNumber(ipOption(protocol.IPMulticastTTL))},
	unix.IP_MULTICAST_LOOP:         {set: setMulticastLoop, get: askNumber(ipOption(protocol.IPMulticastLoop))},
	unix.IP_ADD_MEMBERSHIP:         {set: setMembership},
	unix.IP_DROP_MEMBERSHIP:        {set: setMembership},
	unix.IP_ADD_SOURCE_MEMBERSHIP:  {set: setSource},
	unix.IP_DROP_SOURCE_MEMBERSHIP: {set: setSource},
	unix.IP_BLOCK_SOURCE:           {set: setSource},
	unix.IP_UNBLOCK_SOURCE:         {set: setSource},
	unix.MCAST_JOIN_GROUP:          {set: setGroup},
	unix.MCAST_LEAVE_GROUP:         {set: setGroup},
	unix.MCAST_JOIN_SOURCE_GROUP:   {set: setGroupSource},
	unix.MCAST_LEAVE_SOURCE_GROUP:  {set: setGroupSource},
	unix.MCAST_BLOCK_SOURCE:        {set: setGroupSource},
	unix.MCAST_UNBLOCK_SOURCE:      {set: setGroupSource},

	// The stack tells no TOS and no options of what it receives, and has no
	// error queue: a program finds no control message, as where a datagram has
	// nothing to tell, and MSG_ERRQUEUE empty.
	unix.IP_RECVTOS:              idleFlag(0),
	unix.IP_RECVOPTS:             idleFlag(0),
	unix.IP_RETOPTS:              idleFlag(0),
	unix.IP_RECVERR:              idleFlag(0),
	unix.IP_RECVERR_RFC4884:      idle(0, 0, 1, syscall.EINVAL),
	unix.IP_PASSSEC:              idleFlag(0),
	unix.IP_MULTICAST_ALL:        some(idle(1, 0, 1, syscall.EINVAL)), // groups of others are filtered by the stack's own rule
	unix.IP_UNICAST_IF:           {set: setUnicastIf, get: remembered(0)},
	unix.IP_NODEFRAG:             {set: only(unix.SOCK_RAW, syscall.ENOPROTOOPT, idleFlag(0)).set, get: remembered(0)}, // conntrack's
	unix.IP_FREEBIND:             some(idleFlag(0)),                                                                    // bind says EADDRNOTAVAIL
	unix.IP_ROUTER_ALERT:         {set: only(unix.SOCK_RAW, syscall.EINVAL, zeroOnly(syscall.ENOPROTOOPT)).set, get: remembered(0)},
	unix.IP_TRANSPARENT:          some(zeroOnly(syscall.EPERM)),
	unix.IP_IPSEC_POLICY:         {set: refuse(syscall.EPERM).set},
	unix.IP_XFRM_POLICY:          {set: refuse(syscall.EPERM).set},
	unix.IP_MINTTL:               some(zeroOnly(syscall.ENOPROTOOPT)), // a protection must not be of no effect
	unix.IP_CHECKSUM:             zeroOnly(syscall.ENOPROTOOPT),
	unix.IP_RECVFRAGSIZE:         zeroOnly(syscall.ENOPROTOOPT),
	unix.IP_RECVORIGDSTADDR:      zeroOnly(syscall.ENOPROTOOPT),
	unix.IP_BIND_ADDRESS_NO_PORT: idleFlag(0), // a port is chosen early, and there is one
}

// setTOS is IP_TOS. The ECN bits of a stream are TCP's own.
func setTOS(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	n &= 0xff
	if s.Type == unix.SOCK_STREAM {
		n &^= 3
	}
	return Request{Calls: []protocol.SockOpt{call(ipOption(protocol.IPTos), n)}}, nil
}

// setTTL is IP_TTL; -1 is back to the beginning, which in Linux is 64.
func setTTL(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 1)
	if err != nil {
		return Request{}, err
	}
	if n == -1 {
		n = 64
	}
	if n < 1 || n > 255 {
		return Request{}, syscall.EINVAL
	}
	return Request{Calls: []protocol.SockOpt{call(ipOption(protocol.IPTTL), n)}}, nil
}

// getHdrIncl is IP_HDRINCL, which reads as 0 where it cannot be set.
func getHdrIncl(s *Sock, o Option) (Request, error) {
	if s.Type != unix.SOCK_RAW {
		return answer(o, 0), nil
	}
	return ask(o, ipOption(protocol.IPHdrIncl), nil), nil
}

// setIPOptions is IP_OPTIONS; the octets are those of the header in both.
func setIPOptions(_ *Sock, _ Option, v []byte) (Request, error) {
	if len(v) > 40 {
		return Request{}, syscall.EINVAL
	}
	return Request{Calls: []protocol.SockOpt{{Level: protocol.ProtoIP, Name: protocol.IPOptions, Value: v}}}, nil
}

func getIPOptions(*Sock, Option) (Request, error) {
	return Request{
		Calls: []protocol.SockOpt{{Level: protocol.ProtoIP, Name: protocol.IPOptions}},
		reply: func(v []byte) ([]byte, error) { return v, nil },
	}, nil
}

// setDiscover is IP_MTU_DISCOVER: of its six ways two never let a datagram be
// cut. Streams find their path's MTU whatever it says.
func setDiscover(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	if n < unix.IP_PMTUDISC_DONT || n > unix.IP_PMTUDISC_OMIT {
		return Request{}, syscall.EINVAL
	}
	r := Request{keep: []kept{{o, n}}, Idle: s.Type == unix.SOCK_STREAM}
	if !r.Idle {
		never := n == unix.IP_PMTUDISC_DO || n == unix.IP_PMTUDISC_PROBE
		r.Calls = []protocol.SockOpt{call(ipOption(protocol.IPDontFrag), flag(never))}
	}
	return r, nil
}

// getMTU is IP_MTU: a connection's path MTU is in the stack's TCP_INFO. Of
// datagrams of IPv4 it has no such answer.
func getMTU(s *Sock, o Option) (Request, error) {
	if s.Type != unix.SOCK_STREAM {
		return Request{}, syscall.ENOPROTOOPT
	}
	return Request{
		Calls: []protocol.SockOpt{{Level: protocol.ProtoTCP, Name: protocol.TCPInfoOpt}},
		octet: o.Level == unix.IPPROTO_IP,
		reply: func(v []byte) ([]byte, error) {
			i, err := parseInfo(v)
			if err != nil {
				return nil, err
			}
			if i.mtu == 0 {
				return nil, syscall.ENOTCONN
			}
			return value32(int(i.mtu)), nil
		},
	}, nil
}

// setUnicastIf is IP_UNICAST_IF, an index in network order. It is of no
// effect: the stack ties a socket to an interface wholly or not at all.
func setUnicastIf(s *Sock, o Option, v []byte) (Request, error) {
	if len(v) != 4 {
		return Request{}, syscall.EINVAL
	}
	n := int(int32(binary.BigEndian.Uint32(v)))
	if _, ok := s.byIndex(n); n != 0 && !ok {
		return Request{}, syscall.EADDRNOTAVAIL
	}
	return Request{Idle: true, keep: []kept{{o, int(le.Uint32(v))}}}, nil
}

// setMulticastIf is IP_MULTICAST_IF: in_addr, ip_mreq or ip_mreqn. The stack
// knows the first and the last.
func setMulticastIf(s *Sock, _ Option, v []byte) (Request, error) {
	switch {
	case s.Type == unix.SOCK_STREAM, len(v) < 4:
		return Request{}, syscall.EINVAL
	case len(v) >= 12:
		v = v[:12]
	case len(v) >= 8:
		v = v[4:8]
	default:
		v = v[:4]
	}
	return Request{
		Calls: []protocol.SockOpt{{Level: protocol.ProtoIP, Name: protocol.IPMulticastIf, Value: v}},
		errno: map[syscall.Errno]syscall.Errno{syscall.ENXIO: syscall.EADDRNOTAVAIL},
	}, nil
}

// setMulticastTTL is IP_MULTICAST_TTL; -1 is 1, as at the beginning.
func setMulticastTTL(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 1)
	if err != nil {
		return Request{}, err
	}
	if n == -1 {
		n = 1
	}
	if s.Type == unix.SOCK_STREAM || n < 0 || n > 255 {
		return Request{}, syscall.EINVAL
	}
	return Request{Calls: []protocol.SockOpt{call(ipOption(protocol.IPMulticastTTL), n)}}, nil
}

func setMulticastLoop(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 1)
	if err != nil {
		return Request{}, err
	}
	return Request{Calls: []protocol.SockOpt{call(ipOption(protocol.IPMulticastLoop), flag(n != 0))}}, nil
}

// membership is the names of the stack for those of Linux.
var membership = map[int]int{
	unix.IP_ADD_MEMBERSHIP:         protocol.IPAddMembership,
	unix.IP_DROP_MEMBERSHIP:        protocol.IPDropMembership,
	unix.IP_ADD_SOURCE_MEMBERSHIP:  protocol.IPAddSourceMembership,
	unix.IP_DROP_SOURCE_MEMBERSHIP: protocol.IPDropSourceMembership,
	unix.IP_BLOCK_SOURCE:           protocol.IPBlockSource,
	unix.IP_UNBLOCK_SOURCE:         protocol.IPUnblockSource,
	unix.MCAST_JOIN_GROUP:          protocol.IPAddMembership,
	unix.MCAST_LEAVE_GROUP:         protocol.IPDropMembership,
	unix.MCAST_JOIN_SOURCE_GROUP:   protocol.IPAddSourceMembership,
	unix.MCAST_LEAVE_SOURCE_GROUP:  protocol.IPDropSourceMembership,
	unix.MCAST_BLOCK_SOURCE:        protocol.IPBlockSource,
	unix.MCAST_UNBLOCK_SOURCE:      protocol.IPUnblockSource,
}

// groupCall is the stack's request for the membership option name: in_addrs,
// one behind the other.
func groupCall(name int, addrs ...[4]byte) Request {
	r := Request{errno: map[syscall.Errno]syscall.Errno{syscall.ETOOMANYREFS: syscall.ENOBUFS}}
	if name == unix.IP_ADD_MEMBERSHIP || name == unix.MCAST_JOIN_GROUP {
		r.errno[syscall.EADDRNOTAVAIL] = syscall.ENODEV // no interface to join on
	}
	var v []byte
	for _, a := range addrs {
		v = append(v, a[:]...)
	}
	r.Calls = []protocol.SockOpt{{Level: protocol.ProtoIP, Name: membership[name], Value: v}}
	return r
}

// setMembership is IP_ADD_MEMBERSHIP and IP_DROP_MEMBERSHIP: ip_mreq (group,
// address of the interface) or ip_mreqn (and its index, which counts if it is
// not 0). The stack has the first alone.
func setMembership(s *Sock, o Option, v []byte) (Request, error) {
	if s.Type == unix.SOCK_STREAM {
		return Request{}, syscall.EPROTO
	}
	if len(v) < 8 {
		return Request{}, syscall.EINVAL
	}
	group, ifaddr := [4]byte(v), [4]byte(v[4:])
	if !netip.AddrFrom4(group).IsMulticast() {
		if o.Name == unix.IP_DROP_MEMBERSHIP {
			return Request{}, syscall.EADDRNOTAVAIL
		}
		return Request{}, syscall.EINVAL
	}
	if len(v) >= 12 {
		if index := int(int32(le.Uint32(v[8:]))); index != 0 {
			var err error
			if ifaddr, err = s.addrOf(index); err != nil {
				return Request{}, err
			}
		}
	}
	return groupCall(o.Name, group, ifaddr), nil
}

// setSource is the four options with an ip_mreq_source: group, address of the
// interface, source. BSD has the last two the other way round.
func setSource(_ *Sock, o Option, v []byte) (Request, error) {
	if len(v) != 12 {
		return Request{}, syscall.EINVAL
	}
	return groupCall(o.Name, [4]byte(v), [4]byte(v[8:]), [4]byte(v[4:])), nil
}

// The layouts of RFC 3678 §5: u32 index, pad to 8, sockaddr_storage of the
// group, and of the source.
const (
	storageLen        = 128
	groupReqLen       = 8 + storageLen
	groupSourceReqLen = groupReqLen + storageLen
)

// setGroup is MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP: group_req.
func setGroup(s *Sock, o Option, v []byte) (Request, error) {
	if len(v) < groupReqLen {
		return Request{}, syscall.EINVAL
	}
	group, err := storage(v[8:])
	if err == nil && !netip.AddrFrom4(group).IsMulticast() {
		err = syscall.EINVAL
	}
	if err != nil {
		return Request{}, err
	}
	ifaddr, err := s.addrOf(int(int32(le.Uint32(v))))
	if err != nil {
		return Request{}, err
	}
	return groupCall(o.Name, group, ifaddr), nil
}

// setGroupSource is the four options with a group_source_req.
func setGroupSource(s *Sock, o Option, v []byte) (Request, error) {
	if len(v) != groupSourceReqLen {
		return Request{}, syscall.EINVAL
	}
	group, err := storage(v[8:])
	if err != nil {
		return Request{}, err
	}
	source, err := storage(v[8+storageLen:])
	if err != nil {
		return Request{}, err
	}
	ifaddr, err := s.addrOf(int(int32(le.Uint32(v))))
	if err != nil {
		return Request{}, err
	}
	return groupCall(o.Name, group, source, ifaddr), nil
}

// storage is the IPv4 address in a sockaddr_storage.
func storage(v []byte) (ip [4]byte, err error) {
	a, err := ParseSockaddr(v[:storageLen])
	if err != nil || a.Family != protocol.AFInet {
		return ip, syscall.EADDRNOTAVAIL
	}
	return a.IP.As4(), nil
}

// rawRules are the options of SOL_RAW.
var rawRules = map[int]rule{
	unix.ICMP_FILTER: {set: setICMPFilter, get: getICMPFilter},
}

var icmpFilter = Option{unix.SOL_RAW, unix.ICMP_FILTER}

// setICMPFilter is ICMP_FILTER: a bit for each type from 0 to 31 that is not
// wanted. [Sock.Filtered] obeys it.
func setICMPFilter(s *Sock, o Option, v []byte) (Request, error) {
	if s.protocol() != unix.IPPROTO_ICMP {
		return Request{}, syscall.EOPNOTSUPP
	}
	mask := [4]byte{}
	copy(mask[:], v)
	return Request{keep: []kept{{o, int(le.Uint32(mask[:]))}}}, nil
}

func getICMPFilter(s *Sock, o Option) (Request, error) {
	if s.protocol() != unix.IPPROTO_ICMP {
		return Request{}, syscall.EOPNOTSUPP
	}
	return answer(o, s.kept[o]), nil
}

// Filtered says that the program of the raw ICMP socket s does not want the
// datagram b, IP header and all, that came for it (ICMP_FILTER). Whoever
// receives for the program drops it and receives again.
func (s *Sock) Filtered(b []byte) bool {
	mask := s.kept[icmpFilter]
	if mask == 0 || len(b) < 20 {
		return false
	}
	hlen := int(b[0]&15) * 4
	return hlen < len(b) && b[hlen] < 32 && mask&(1<<b[hlen]) != 0
}
