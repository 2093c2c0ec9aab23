package inet6

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"

	"ionet/stack/packet"
	"ionet/stack/socket"
)

// wishes are what RFC 3542 lets a sender say of its packets: by options that
// stick to the socket, or of one packet by ancillary data, which goes over
// them (§4.2).
type wishes struct {
	ext      socket.Ext6
	src      netip.Addr // IPV6_PKTINFO, as the engine carries it; not valid: none
	ifindex  uint32
	nextHop  netip.Addr
	hops     int // ancillary data alone; -1: none
	class    int // -1: the default
	minMTU   int // -1: to groups; 0: never; 1: always
	dontFrag bool
	temp     int8 // -1: as configured
}

var noWishes = wishes{hops: -1, class: -1, minMTU: -1, temp: -1}

// fill puts them into a flow. ext is x.ext, or nil when that is empty.
func (x *wishes) fill(in *Inet6, f *socket.Flow, ext *socket.Ext6) {
	f.TOS, f.DontFrag = uint8(max(x.class, 0)), x.dontFrag
	f.MinMTU = x.minMTU > 0 || x.minMTU < 0 && f.Dst.IsMulticast()
	f.NextHop, f.Ext = x.nextHop, ext
	switch x.temp {
	case 0:
		f.Temp = -1
	case 1:
		f.Temp = 1
	default:
		f.Temp = 0
	}
	if x.ifindex != 0 {
		f.IfIndex = x.ifindex
	}
	if x.src.IsValid() && in.Local(x.src) != nil { // else it has gone meanwhile
		f.Src = x.src
	}
	if x.hops >= 0 {
		f.TTL = uint8(x.hops)
	}
	f.Place()
}

// modern are the names of RFC 3542 for those of RFC 2292.
var modern = map[int]int{
	IPv62292PktInfo:  IPv6PktInfo,
	IPv62292HopLimit: IPv6HopLimit,
	IPv62292NextHop:  IPv6NextHop,
	IPv62292HopOpts:  IPv6HopOpts,
	IPv62292DstOpts:  IPv6DstOpts,
	IPv62292RtHdr:    IPv6RtHdr,
}

// wish takes one object into x. An empty one takes a wish back. Errors:
// ENOPROTOOPT (it is none), EINVAL, EPERM (options of headers and the next hop
// are the superuser's, as KAME has it), ENXIO, EADDRNOTAVAIL.
func (o *Options) wish(x *wishes, name int, v []byte) error {
	switch name {
	case IPv6PktInfo:
		return o.pktInfo(x, v)
	case IPv6NextHop:
		return o.nextHop(x, v)
	case IPv6HopOpts:
		return o.header(&x.ext.HopByHop, v)
	case IPv6DstOpts:
		return o.header(&x.ext.Dst, v)
	case IPv6RtHdrDstOpts:
		return o.header(&x.ext.RouteDst, v)
	case IPv6RtHdr:
		if len(v) == 0 {
			x.ext.Routing = nil
			return nil
		}
		h, ok := packet.CheckExt(v)
		if !ok || len(h) != len(v) || !checkRouting(h) {
			return syscall.EINVAL
		}
		x.ext.Routing = slices.Clone(v)
		return nil
	}
	if !slices.Contains([]int{IPv6HopLimit, IPv6TClass, IPv6UseMinMTU, IPv6DontFrag, IPv6PreferTempAddr}, name) {
		return syscall.ENOPROTOOPT
	}
	n, err := socket.Int32(v)
	if err != nil {
		return err
	}
	least, most := -1, 1
	switch name {
	case IPv6HopLimit, IPv6TClass:
		most = 255
	case IPv6DontFrag:
		least = 0
	}
	if n < least || n > most {
		return syscall.EINVAL
	}
	switch name {
	case IPv6HopLimit:
		x.hops = n
	case IPv6TClass:
		x.class = n
	case IPv6UseMinMTU:
		x.minMTU = n
	case IPv6DontFrag:
		x.dontFrag = n == 1
	case IPv6PreferTempAddr:
		x.temp = int8(n)
	}
	return nil
}

// header takes a header of options.
func (o *Options) header(to *[]byte, v []byte) error {
	if !o.so.Cred.Super {
		return syscall.EPERM
	}
	if len(v) == 0 {
		*to = nil
		return nil
	}
	h, ok := packet.CheckExt(v)
	if !ok || len(h) != len(v) {
		return syscall.EINVAL
	}
	for opts := h.Options(); len(opts) > 0; {
		if _, _, opts, ok = packet.NextOption(opts); !ok {
			return syscall.EINVAL
		}
	}
	*to = slices.Clone(v)
	return nil
}

// pktInfo is in6_pktinfo: the source, if it is not all zeros, and the u32 index
// of the interface, if it is not 0 (RFC 3542 §6.1).
func (o *Options) pktInfo(x *wishes, v []byte) error {
	if len(v) == 0 {
		x.src, x.ifindex = netip.Addr{}, 0
		return nil
	}
	if len(v) != 20 {
		return syscall.EINVAL
	}
	ip, index := netip.AddrFrom16([16]byte(v[:16])), binary.LittleEndian.Uint32(v[16:])
	if index != 0 && o.in.env.Ifs.ByIndex(index) == nil {
		return syscall.ENXIO
	}
	if ip.IsMulticast() || ip.Is4In6() {
		return syscall.EINVAL
	}
	src := netip.Addr{}
	if ip != unspecified {
		at := index
		if at == 0 {
			at = o.so.BoundIf()
		}
		src = packet.Scoped(ip, at)
		if o.in.Local(src) == nil {
			return syscall.EADDRNOTAVAIL
		}
	}
	x.src, x.ifindex = src, index
	return nil
}

// nextHop is a neighbour, as a sockaddr_in6 (RFC 3542 §6.5).
func (o *Options) nextHop(x *wishes, v []byte) error {
	if !o.so.Cred.Super {
		return syscall.EPERM
	}
	if len(v) == 0 {
		x.nextHop = netip.Addr{}
		return nil
	}
	ip, scope, err := readSockaddr(v)
	switch {
	case err != nil:
		return err
	case len(v) != sockaddrLen || ip == unspecified || ip.IsMulticast() || ip.Is4In6():
		return syscall.EINVAL
	case !packet.IsLinkScoped(ip):
	case scope == 0:
		if scope = o.so.BoundIf(); scope == 0 {
			return syscall.EINVAL
		}
	case o.in.env.Ifs.ByIndex(scope) == nil:
		return syscall.ENXIO
	}
	x.nextHop = packet.Scoped(ip, scope)
	return nil
}

// get is the value of an option that sticks; an empty one where there is none.
func (x *wishes) get(name int) ([]byte, error) {
	n := 0
	switch name {
	case IPv6PktInfo:
		src := unspecified
		if x.src.IsValid() {
			src = x.src
		}
		return appendPktInfo(nil, src, x.ifindex), nil
	case IPv6NextHop:
		if !x.nextHop.IsValid() {
			return nil, nil
		}
		return appendSockaddr(nil, x.nextHop, 0), nil
	case IPv6HopOpts:
		return slices.Clone(x.ext.HopByHop), nil
	case IPv6DstOpts:
		return slices.Clone(x.ext.Dst), nil
	case IPv6RtHdrDstOpts:
		return slices.Clone(x.ext.RouteDst), nil
	case IPv6RtHdr:
		return slices.Clone(x.ext.Routing), nil
	case IPv6TClass:
		n = x.class
	case IPv6UseMinMTU:
		n = x.minMTU
	case IPv6DontFrag:
		return flag(x.dontFrag), nil
	case IPv6PreferTempAddr:
		n = int(x.temp)
	default:
		return nil, syscall.ENOPROTOOPT
	}
	return socket.Value32(n), nil
}

// stick sets an option that is a wish for all packets; done is false when name
// is none.
func (o *Options) stick(name int, v []byte) (done bool, err error) {
	if m := modern[name]; m != 0 {
		name = m
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.wishes
	if err = o.wish(&x, name, v); err == syscall.ENOPROTOOPT {
		return false, nil
	}
	if err == nil {
		o.keep(x)
	}
	return true, err
}

func (o *Options) keep(x wishes) {
	o.wishes, o.ext = x, x.extensions()
}

// extensions are a copy of the headers that does not change; nil: there are
// none.
func (x *wishes) extensions() *socket.Ext6 {
	if x.ext.Len() == 0 {
		return nil
	}
	ext := x.ext
	return &ext
}

// take takes ancillary data into x. Of RFC 2292's destination options those in
// front of a routing header are for every node that it names (RFC 2292 §6.3).
func (o *Options) take(x *wishes, c []socket.Cmsg) error {
	for i, m := range c {
		if m.Level != LevelIPv6 {
			continue
		}
		name := m.Type
		if old := modern[name]; old != 0 {
			name = old
		}
		if m.Type == IPv62292DstOpts && slices.ContainsFunc(c[i:], func(m socket.Cmsg) bool { return m.Level == LevelIPv6 && m.Type == IPv62292RtHdr }) {
			name = IPv6RtHdrDstOpts
		}
		if err := o.wish(x, name, m.Data); err == syscall.ENOPROTOOPT {
			return syscall.EINVAL
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Control is socket.NetOptions. An interface that the destination contradicts
// is EINVAL.
func (o *Options) Control(f *socket.Flow, c []socket.Cmsg) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.wishes
	if packet.IsLinkScoped(f.Dst) { // whose interface is that of a source of one link too
		if _, i := packet.Unscoped(f.Dst); i != 0 {
			c = withInterface(c, i)
		}
	}
	if err := o.take(&x, c); err != nil {
		return err
	}
	if _, i := packet.Unscoped(f.Dst); i != 0 && x.ifindex != 0 && i != x.ifindex {
		return syscall.EINVAL
	}
	x.fill(o.in, f, x.extensions())
	return nil
}

// withInterface has an IPV6_PKTINFO with a source of one link and no interface name
// that one.
func withInterface(c []socket.Cmsg, index uint32) []socket.Cmsg {
	c = slices.Clone(c)
	for i, m := range c {
		if m.Level != LevelIPv6 || m.Type != IPv6PktInfo && m.Type != IPv62292PktInfo || len(m.Data) != 20 {
			continue
		}
		ip := netip.AddrFrom16([16]byte(m.Data[:16]))
		if packet.IsLinkScoped(ip) && binary.LittleEndian.Uint32(m.Data[16:]) == 0 {
			c[i].Data = appendPktInfo(nil, ip, index)
		}
	}
	return c
}

// stickAll is IPV6_2292PKTOPTIONS: ancillary data in a row, each u32 length
// with these 12 octets, i32 level, i32 type, data, zeros up to a multiple of 8.
// They replace all wishes that stick; none take them back.
func (o *Options) stickAll(v []byte) error {
	var c []socket.Cmsg
	for len(v) > 0 {
		if len(v) < 12 {
			return syscall.EINVAL
		}
		n := int(binary.LittleEndian.Uint32(v))
		if n < 12 || n > len(v) {
			return syscall.EINVAL
		}
		c = append(c, socket.Cmsg{Level: int(int32(binary.LittleEndian.Uint32(v[4:]))), Type: int(int32(binary.LittleEndian.Uint32(v[8:]))), Data: v[12:n]})
		v = v[min((n+7)&^7, len(v)):]
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	x := noWishes
	if err := o.take(&x, c); err != nil {
		return err
	}
	o.keep(x)
	return nil
}
