package inet

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"ionet/stack/membership"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Socket options at level IPPROTO_IP (BSD's numbers; from 28 on ionet's own).
const (
	LevelIP = 0

	IPOptions              = 1
	IPHdrIncl              = 2
	IPTOS                  = 3
	IPTTL                  = 4
	IPRecvOpts             = 5
	IPRecvRetOpts          = 6
	IPRecvDstAddr          = 7
	IPRetOpts              = 8
	IPMulticastIf          = 9
	IPMulticastTTL         = 10
	IPMulticastLoop        = 11
	IPAddMembership        = 12
	IPDropMembership       = 13
	IPPortRange            = 19
	IPRecvIf               = 20
	IPRecvTTL              = 23
	IPDontFrag             = 28
	IPAddSourceMembership  = 70
	IPDropSourceMembership = 71
	IPBlockSource          = 72
	IPUnblockSource        = 73
)

// Options are one socket's options at the IP level.
type Options struct {
	in *Inet
	so *socket.Socket

	mu        sync.Mutex
	options   []byte
	firstHop  netip.Addr
	tos, ttl  uint8
	dontFrag  bool
	hdrIncl   bool
	portRange int
	mcastTTL  uint8
	mcastLoop bool
	mcastIf   uint32
	recv      map[int]bool

	closed bool

	groups membership.Socket
	own    socket.Policies
}

var _ socket.NetOptions = (*Options)(nil)

// NewOptions is socket.Network.
func (in *Inet) NewOptions(so *socket.Socket) socket.NetOptions {
	o := &Options{in: in, so: so, mcastTTL: 1, mcastLoop: true, recv: map[int]bool{}}
	o.groups.Init(in.groups)
	return o
}

// Inherit is socket.NetOptions.
func (o *Options) Inherit(so *socket.Socket) socket.NetOptions {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := &Options{in: o.in, so: so, options: o.options, firstHop: o.firstHop, tos: o.tos, ttl: o.ttl, dontFrag: o.dontFrag,
		portRange: o.portRange, mcastTTL: o.mcastTTL, mcastLoop: o.mcastLoop, mcastIf: o.mcastIf, recv: maps.Clone(o.recv)}
	n.own.Inherit(&o.own)
	n.groups.Init(o.in.groups)
	return n
}

// HdrIncl reports IP_HDRINCL.
func (o *Options) HdrIncl() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hdrIncl
}

// LowPorts reports IP_PORTRANGE_LOW.
func (o *Options) LowPorts() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.portRange == 2
}

// Fill is socket.NetOptions.
func (o *Options) Fill(f *socket.Flow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f.TOS, f.TTL, f.DontFrag, f.Options = o.tos, o.ttl, o.dontFrag, o.options
	f.Broadcast = o.so.Opt(socket.SOBroadcast)
	f.DontRoute = o.so.Opt(socket.SODontRoute)
	f.IfIndex = o.so.BoundIf()
	f.Policy = o.own.Policy(true)
	f.NoLoop = false
	if o.firstHop.IsValid() {
		f.Dst = o.firstHop
	}
	if f.Dst.IsMulticast() {
		f.TTL, f.NoLoop = o.mcastTTL, !o.mcastLoop
		if o.mcastIf != 0 {
			f.IfIndex = o.mcastIf
		}
	}
}

// Control is socket.NetOptions: IPv4 has no wishes for one packet, as in
// 4.4BSD.
func (o *Options) Control(*socket.Flow, []socket.Cmsg) error { return nil }

// Describe is socket.NetOptions: what IPv4's options ask for is in [socket.Msg] itself.
func (o *Options) Describe(*packet.Buf, *socket.Msg) {}

// TooBig is socket.NetOptions.
func (o *Options) TooBig(*netif.Work, socket.Addr, int) {}

// Set is socket.NetOptions.
func (o *Options) Set(w *netif.Work, level, name int, v []byte) error {
	if level != LevelIP {
		return syscall.ENOPROTOOPT
	}
	switch name {
	case IPOptions, IPRetOpts:
		padded, first, ok := CheckOptions(v)
		if !ok {
			return syscall.EINVAL
		}
		o.mu.Lock()
		o.options, o.firstHop = padded, first
		o.mu.Unlock()
		return nil
	case IPMulticastIf:
		ifp, err := o.in.multicastIf(v)
		if err != nil {
			return err
		}
		o.mu.Lock()
		o.mcastIf = ifp
		o.mu.Unlock()
		return nil
	case IPAddMembership, IPDropMembership:
		return o.member(w, name == IPAddMembership, v)
	case IPAddSourceMembership, IPDropSourceMembership, IPBlockSource, IPUnblockSource:
		return o.source(w, name, v)
	}
	if name >= MRTInit && name <= MRTAssert {
		return o.setMRT(w, name, v)
	}
	n, err := socket.Int32(v)
	if err != nil {
		if _, none := o.Get(level, name); none != nil { // of whatever length
			return none
		}
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch name {
	case IPTOS:
		o.tos = uint8(n)
	case IPTTL:
		if n < 1 || n > 255 {
			return syscall.EINVAL
		}
		o.ttl = uint8(n)
	case IPMulticastTTL:
		if n < 0 || n > 255 {
			return syscall.EINVAL
		}
		o.mcastTTL = uint8(n)
	case IPMulticastLoop:
		o.mcastLoop = n != 0
	case IPHdrIncl:
		if o.so.Type != socket.Raw {
			return syscall.ENOPROTOOPT
		}
		o.hdrIncl = n != 0
	case IPDontFrag:
		o.dontFrag = n != 0
	case IPPortRange:
		if n < 0 || n > 2 {
			return syscall.EINVAL
		}
		o.portRange = n
	case IPRecvDstAddr, IPRecvIf, IPRecvTTL, IPRecvOpts, IPRecvRetOpts:
		o.recv[name] = n != 0
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// Get is socket.NetOptions.
func (o *Options) Get(level, name int) ([]byte, error) {
	if level != LevelIP {
		return nil, syscall.ENOPROTOOPT
	}
	if name >= MRTInit && name <= MRTAssert {
		return o.getMRT(name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	flag := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	n := 0
	switch name {
	case IPOptions, IPRetOpts:
		return slices.Clone(o.options), nil
	case IPMulticastIf:
		a := unspecified
		if ifp := o.in.env.Ifs.ByIndex(o.mcastIf); ifp != nil {
			a = o.in.firstAddr(ifp)
		}
		b := a.As4()
		return b[:], nil
	case IPTOS:
		n = int(o.tos)
	case IPTTL:
		if n = int(o.ttl); n == 0 {
			n = int(o.in.env.MIB.Int(nodeTTL))
		}
	case IPMulticastTTL:
		n = int(o.mcastTTL)
	case IPMulticastLoop:
		n = flag(o.mcastLoop)
	case IPHdrIncl:
		n = flag(o.hdrIncl)
	case IPDontFrag:
		n = flag(o.dontFrag)
	case IPPortRange:
		n = o.portRange
	case IPRecvDstAddr, IPRecvIf, IPRecvTTL, IPRecvOpts, IPRecvRetOpts:
		n = flag(o.recv[name])
	default:
		return nil, syscall.ENOPROTOOPT
	}
	return socket.Value32(n), nil
}

// multicastIf reads the argument of IP_MULTICAST_IF: an address of the
// interface, 0.0.0.0 to undo, or an ip_mreqn with an index.
func (in *Inet) multicastIf(v []byte) (uint32, error) {
	switch len(v) {
	case 12:
		i := binary.LittleEndian.Uint32(v[8:])
		if i != 0 && in.env.Ifs.ByIndex(i) == nil {
			return 0, syscall.ENXIO
		}
		if i != 0 {
			return i, nil
		}
		v = v[4:8]
	case 4:
	default:
		return 0, syscall.EINVAL
	}
	ip := netip.AddrFrom4([4]byte(v))
	if ip == unspecified {
		return 0, nil
	}
	if a := in.Local(ip); a != nil {
		return a.If.Index, nil
	}
	return 0, syscall.EADDRNOTAVAIL
}

// groupIf is the interface of a membership: the one with address ip, or, for
// 0.0.0.0, the one the route to the group names.
func (in *Inet) groupIf(group, ip netip.Addr) (*netif.Interface, error) {
	if !group.IsMulticast() {
		return nil, syscall.EINVAL
	}
	var ifp *netif.Interface
	if ip != unspecified {
		if a := in.Local(ip); a != nil {
			ifp = a.If
		}
	} else if hop, _ := in.routes.Lookup(group); hop != nil && hop.If != nil {
		ifp = hop.If
	} else {
		ifp = in.firstBroadcast()
	}
	if ifp == nil || ifp.Flags()&netif.FlagMulticast == 0 {
		return nil, syscall.EADDRNOTAVAIL
	}
	return ifp, nil
}

// member joins or leaves a group: struct ip_mreq, the group and the address
// of the interface.
func (o *Options) member(w *netif.Work, join bool, v []byte) error {
	if len(v) != 8 {
		return syscall.EINVAL
	}
	group := netip.AddrFrom4([4]byte(v[:4]))
	ifp, err := o.in.groupIf(group, netip.AddrFrom4([4]byte(v[4:])))
	switch {
	case err != nil:
		return err
	case join:
		return o.groups.Join(w, ifp, group)
	}
	return o.groups.Leave(w, ifp, group)
}

var sourceChanges = map[int]membership.Change{
	IPAddSourceMembership:  membership.AddSource,
	IPDropSourceMembership: membership.DropSource,
	IPBlockSource:          membership.BlockSource,
	IPUnblockSource:        membership.UnblockSource,
}

// source changes a source filter: struct ip_mreq_source, the group, the
// source and the address of the interface (RFC 3678 §4.1).
func (o *Options) source(w *netif.Work, name int, v []byte) error {
	if len(v) != 12 {
		return syscall.EINVAL
	}
	group, src := netip.AddrFrom4([4]byte(v[:4])), netip.AddrFrom4([4]byte(v[4:8]))
	ifp, err := o.in.groupIf(group, netip.AddrFrom4([4]byte(v[8:])))
	if err != nil {
		return err
	}
	return o.groups.Source(w, ifp, group, src, sourceChanges[name])
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
