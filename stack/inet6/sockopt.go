package inet6

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/membership"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var nodeMcastHlim = mib.Int("net.inet6.ip6.defmcasthlim", 1, "Hop limit of packets to groups that do not ask for another.", mib.Range(0, 255))

// LevelIPv6 is the level of the socket options of RFC 3493, RFC 3542 and RFC
// 3678. (Those of raw sockets alone, IPV6_CHECKSUM and ICMP6_FILTER, are rawip's.)
const LevelIPv6 = 41

// Their numbers are KAME's, of the groups' from MCAST_JOIN_GROUP on FreeBSD's.
const (
	IPv6UnicastHops       = 4
	IPv6MulticastIf       = 9
	IPv6MulticastHops     = 10
	IPv6MulticastLoop     = 11
	IPv6JoinGroup         = 12
	IPv6LeaveGroup        = 13
	IPv6PortRange         = 14
	IPv62292PktInfo       = 19
	IPv62292HopLimit      = 20
	IPv62292NextHop       = 21
	IPv62292HopOpts       = 22
	IPv62292DstOpts       = 23
	IPv62292RtHdr         = 24
	IPv62292PktOptions    = 25
	IPv6V6Only            = 27
	IPv6RtHdrDstOpts      = 35
	IPv6RecvPktInfo       = 36
	IPv6RecvHopLimit      = 37
	IPv6RecvRtHdr         = 38
	IPv6RecvHopOpts       = 39
	IPv6RecvDstOpts       = 40
	IPv6RecvRtHdrDstOpts  = 41
	IPv6UseMinMTU         = 42
	IPv6RecvPathMTU       = 43
	IPv6PathMTU           = 44
	IPv6PktInfo           = 46
	IPv6HopLimit          = 47
	IPv6NextHop           = 48
	IPv6HopOpts           = 49
	IPv6DstOpts           = 50
	IPv6RtHdr             = 51
	IPv6RecvTClass        = 57
	IPv6AutoFlowLabel     = 59
	IPv6TClass            = 61
	IPv6DontFrag          = 62
	IPv6PreferTempAddr    = 63
	IPv6MSFilter          = 74
	MCastJoinGroup        = 80
	MCastLeaveGroup       = 81
	MCastJoinSourceGroup  = 82
	MCastLeaveSourceGroup = 83
	MCastBlockSource      = 84
	MCastUnblockSource    = 85
)

// Options are one socket's options at the IPv6 level.
type Options struct {
	in *Inet6
	so *socket.Socket

	mu        sync.Mutex
	hops      int // of packets to one host; 0: the default
	mcastHops int // -1: the default
	mcastLoop bool
	mcastIf   uint32
	portRange int
	label     int8 // 1: packets are labelled; -1: not; 0: as configured
	wishes    wishes
	ext       *socket.Ext6  // of wishes; nil: none
	recv      atomic.Uint32 // a recvMask; read without the lock
	closed    bool
	groups    membership.Socket
	own       socket.Policies
}

var _ socket.NetOptions = (*Options)(nil)

// NewOptions is socket.Network.
func (in *Inet6) NewOptions(so *socket.Socket) socket.NetOptions {
	o := &Options{in: in, so: so, mcastHops: -1, mcastLoop: true, wishes: noWishes}
	o.groups.Init(in.groups.Set)
	return o
}

// Inherit is socket.NetOptions. Extension headers are never written to once
// they are there, so both sockets may have them.
func (o *Options) Inherit(so *socket.Socket) socket.NetOptions {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := &Options{in: o.in, so: so, hops: o.hops, mcastHops: o.mcastHops, mcastLoop: o.mcastLoop, mcastIf: o.mcastIf,
		portRange: o.portRange, label: o.label, wishes: o.wishes, ext: o.ext}
	n.recv.Store(o.recv.Load())
	n.own.Inherit(&o.own)
	n.groups.Init(o.in.groups.Set)
	return n
}

// LowPorts reports IPV6_PORTRANGE_LOW.
func (o *Options) LowPorts() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.portRange == 2
}

// Fill is socket.NetOptions.
func (o *Options) Fill(f *socket.Flow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f.DontRoute = o.so.Opt(socket.SODontRoute)
	f.IfIndex = o.so.BoundIf()
	f.Policy = o.own.Policy(true)
	f.TTL, f.NoLoop = uint8(o.hops), false
	if f.Dst.IsMulticast() {
		f.NoLoop = !o.mcastLoop
		if f.TTL = uint8(o.mcastHops); o.mcastHops < 0 {
			f.TTL = uint8(o.in.env.MIB.Int(nodeMcastHlim))
		}
		if o.mcastIf != 0 {
			f.IfIndex = o.mcastIf
		}
	}
	f.Label = o.label
	o.wishes.fill(o.in, f, o.ext)
}

// Set is socket.NetOptions.
func (o *Options) Set(w *netif.Work, level, name int, v []byte) error {
	if level != LevelIPv6 {
		return syscall.ENOPROTOOPT
	}
	switch name {
	case IPv6JoinGroup, IPv6LeaveGroup, MCastJoinGroup, MCastLeaveGroup:
		return o.member(w, name, v)
	case MCastJoinSourceGroup, MCastLeaveSourceGroup, MCastBlockSource, MCastUnblockSource:
		return o.source(w, name, v)
	case IPv6MSFilter:
		return o.filter(w, v)
	case IPv6HopLimit, IPv6PathMTU: // ancillary data alone (RFC 3542 §6.3), and to be read
		return syscall.ENOPROTOOPT
	case IPv62292PktOptions:
		return o.stickAll(v)
	}
	if bit, ok := recvBits[name]; ok && (name >= IPv6RtHdrDstOpts || len(v) == 4) {
		return o.receive(bit, v)
	}
	if isMRT(name) {
		return o.setMRT(w, name, v)
	}
	if done, err := o.stick(name, v); done {
		return err
	}
	n, err := socket.Int32(v)
	if err != nil {
		if _, none := o.Get(level, name); none != nil { // of whatever length
			return none
		}
		return err
	}
	if name == IPv6V6Only {
		return o.so.SetV6Only(n != 0)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch name {
	case IPv6UnicastHops: // of 0 hops nobody would hear
		if n < -1 || n == 0 || n > 255 {
			return syscall.EINVAL
		}
		o.hops = max(n, 0)
	case IPv6MulticastHops:
		if n < -1 || n > 255 {
			return syscall.EINVAL
		}
		o.mcastHops = n
	case IPv6MulticastLoop:
		if n != 0 && n != 1 {
			return syscall.EINVAL
		}
		o.mcastLoop = n == 1
	case IPv6MulticastIf:
		if n != 0 {
			if ifp := o.in.env.Ifs.ByIndex(uint32(n)); ifp == nil {
				return syscall.ENXIO
			} else if ifp.Flags()&netif.FlagMulticast == 0 {
				return syscall.EADDRNOTAVAIL
			}
		}
		o.mcastIf = uint32(n)
	case IPv6PortRange:
		if n < 0 || n > 2 {
			return syscall.EINVAL
		}
		o.portRange = n
	case IPv6AutoFlowLabel:
		if o.label = 1; n == 0 {
			o.label = -1
		}
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// Get is socket.NetOptions.
func (o *Options) Get(level, name int) ([]byte, error) {
	if level != LevelIPv6 {
		return nil, syscall.ENOPROTOOPT
	}
	switch name {
	case IPv6PathMTU:
		return o.pathMTU()
	case IPv6V6Only:
		return flag(o.so.V6Only()), nil
	}
	if isMRT(name) {
		return o.getMRT(name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if bit, ok := recvBits[name]; ok {
		return flag(o.wants()&bit != 0), nil
	}
	n := 0
	switch name {
	case IPv6UnicastHops:
		if n = o.hops; n == 0 {
			n = int(o.in.env.MIB.Int(nodeHlim))
		}
	case IPv6MulticastHops:
		if n = o.mcastHops; n < 0 {
			n = int(o.in.env.MIB.Int(nodeMcastHlim))
		}
	case IPv6MulticastLoop:
		return flag(o.mcastLoop), nil
	case IPv6MulticastIf:
		n = int(o.mcastIf)
	case IPv6PortRange:
		n = o.portRange
	case IPv6AutoFlowLabel:
		f := socket.Flow{Label: o.label}
		return flag(f.Labelled(o.in.env.MIB)), nil
	default:
		return o.wishes.get(name)
	}
	return socket.Value32(n), nil
}

func flag(on bool) []byte {
	if on {
		return socket.Value32(1)
	}
	return socket.Value32(0)
}

// groupIf is the interface of a membership: the one with that index, or, with
// 0, the socket's own, or the one that packets to the group would leave by.
func (o *Options) groupIf(group netip.Addr, index uint32) (*netif.Interface, netip.Addr, error) {
	if !group.IsMulticast() || group.Is4In6() {
		return nil, group, syscall.EINVAL
	}
	if index == 0 {
		index = o.so.BoundIf()
	}
	var ifp *netif.Interface
	if index != 0 {
		if ifp = o.in.env.Ifs.ByIndex(index); ifp == nil {
			return nil, group, syscall.ENXIO
		}
	} else if hop, _ := o.in.routes.Lookup(group); hop != nil && hop.If != nil {
		ifp = hop.If
	} else {
		ifp = o.in.firstMulticast()
	}
	if ifp == nil || ifp.Flags()&netif.FlagMulticast == 0 {
		return nil, group, syscall.EADDRNOTAVAIL
	}
	return ifp, packet.Scoped(group, ifp.Index), nil
}

// member joins or leaves a group: struct ipv6_mreq, the group and u32 index, or
// group_req, u32 index and sockaddr_in6 (RFC 3678 §5.1).
func (o *Options) member(w *netif.Work, name int, v []byte) error {
	var group netip.Addr
	var index uint32
	if name == MCastJoinGroup || name == MCastLeaveGroup {
		if len(v) != 4+sockaddrLen {
			return syscall.EINVAL
		}
		a, _, err := readSockaddr(v[4:])
		if err != nil {
			return err
		}
		group, index = a, binary.LittleEndian.Uint32(v)
	} else {
		if len(v) != 20 {
			return syscall.EINVAL
		}
		group, index = netip.AddrFrom16([16]byte(v[:16])), binary.LittleEndian.Uint32(v[16:])
	}
	ifp, group, err := o.groupIf(group, index)
	switch {
	case err != nil:
		return err
	case name == IPv6JoinGroup || name == MCastJoinGroup:
		return o.groups.Join(w, ifp, group)
	}
	return o.groups.Leave(w, ifp, group)
}

var sourceChanges = map[int]membership.Change{
	MCastJoinSourceGroup:  membership.AddSource,
	MCastLeaveSourceGroup: membership.DropSource,
	MCastBlockSource:      membership.BlockSource,
	MCastUnblockSource:    membership.UnblockSource,
}

// source changes a source filter: struct group_source_req, u32 index, the group
// and the source, each a sockaddr_in6 (RFC 3678 §5.1).
func (o *Options) source(w *netif.Work, name int, v []byte) error {
	if len(v) != 4+2*sockaddrLen {
		return syscall.EINVAL
	}
	group, _, err := readSockaddr(v[4:])
	if err != nil {
		return err
	}
	src, _, err := readSockaddr(v[4+sockaddrLen:])
	if err != nil {
		return err
	}
	ifp, group, err := o.groupIf(group, binary.LittleEndian.Uint32(v))
	if err != nil {
		return err
	}
	if src.IsMulticast() || src == unspecified {
		return syscall.EINVAL
	}
	return o.groups.Source(w, ifp, group, packet.Scoped(src, ifp.Index), sourceChanges[name])
}

// filter replaces a source filter as a whole: struct group_filter, u32 index,
// sockaddr_in6 group, u32 mode (1 include, 2 exclude), u32 number of sources,
// each a sockaddr_in6 (RFC 3678 §5.2).
func (o *Options) filter(w *netif.Work, v []byte) error {
	const head = 4 + sockaddrLen + 8
	if len(v) < head || (len(v)-head)%sockaddrLen != 0 {
		return syscall.EINVAL
	}
	mode, n := binary.LittleEndian.Uint32(v[head-8:]), binary.LittleEndian.Uint32(v[head-4:])
	if mode != 1 && mode != 2 || int64(n) != int64(len(v)-head)/sockaddrLen {
		return syscall.EINVAL
	}
	group, _, err := readSockaddr(v[4:])
	if err != nil {
		return err
	}
	ifp, group, err := o.groupIf(group, binary.LittleEndian.Uint32(v))
	if err != nil {
		return err
	}
	var sources []netip.Addr
	for at := head; at < len(v); at += sockaddrLen {
		a, _, err := readSockaddr(v[at:])
		if err != nil {
			return err
		}
		sources = append(sources, packet.Scoped(a, ifp.Index))
	}
	return o.groups.SetFilter(w, ifp, group, mode == 1, sources)
}

// SetPolicy is socket.NetOptions.
func (o *Options) SetPolicy(_, out bool, p any) error {
	s := o.in.sec.Load()
	if s == nil {
		return syscall.ENOPROTOOPT
	}
	o.own.SetPolicy(out, p)
	s.Own()
	return nil
}

// Policy is socket.NetOptions.
func (o *Options) Policy(_, out bool) any { return o.own.Policy(out) }

// Accepts is socket.NetOptions. A routing daemon hears about groups that it has not joined.
func (o *Options) Accepts(dst, src netip.Addr, ifindex uint32) bool {
	return o.in.mroute.Is(o) || o.groups.Accepts(dst, src, ifindex)
}

// Close is socket.NetOptions.
func (o *Options) Close(w *netif.Work) {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.in.mroute.Stop(w, o)
	o.groups.Close(w)
}

// sockaddrLen is the length of a sockaddr_in6: u8 length, u8 family, u16 port
// in network order, u32 flow, address, u32 scope.
const sockaddrLen = 28

// readSockaddr reads one. EINVAL, EAFNOSUPPORT.
func readSockaddr(v []byte) (ip netip.Addr, scope uint32, err error) {
	switch {
	case len(v) < sockaddrLen || v[0] != sockaddrLen:
		return ip, 0, syscall.EINVAL
	case v[1] != socket.AFInet6:
		return ip, 0, syscall.EAFNOSUPPORT
	}
	return netip.AddrFrom16([16]byte(v[8:24])), binary.LittleEndian.Uint32(v[24:]), nil
}

// appendSockaddr appends one, of an address as the engine carries it.
func appendSockaddr(b []byte, ip netip.Addr, port uint16) []byte {
	ip, scope := packet.Unscoped(ip)
	a := ip.As16()
	b = binary.BigEndian.AppendUint16(append(b, sockaddrLen, socket.AFInet6), port)
	b = append(append(b, 0, 0, 0, 0), a[:]...)
	return binary.LittleEndian.AppendUint32(b, scope)
}
