package socket

import (
	"cmp"
	"net/netip"
	"slices"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Flow says how a packet is to be sent: what a transport knows and the network
// layer below it needs. A socket keeps one, so its route is looked up once a
// change of the table and not once a packet.
type Flow struct {
	Src, Dst  netip.Addr // an invalid Src: the network layer chooses
	Proto     uint8
	TOS       uint8
	TTL       uint8 // 0: the default; to a group: not beyond this host
	DontFrag  bool
	From      netip.Addr // who sent what is forwarded: it spreads flows over equal routes; of our own packets the destination alone does
	DontRoute bool       // only to a directly connected network
	Broadcast bool       // sending to a broadcast address is allowed
	IfIndex   uint32     // SOBindToIf, or the interface of a group; 0: by route
	NoLoop    bool       // a group: no copy for ourselves
	Options   []byte     // IPv4 options, padded
	Policy    any        // of IPsec, the socket's own (ipsec's); nil: none

	// IPv6 alone.
	Ext       *Ext6      // extension headers; nil: none
	FlowLabel uint32     // 20 bits (RFC 6437)
	Label     int8       // whether the transport chooses one: 1, -1: not; 0: as configured
	MinMTU    bool       // cut to what every link carries, and ask no path (RFC 3542 §11.1)
	NextHop   netip.Addr // the neighbour to send to, whatever the routes say (RFC 3542 §6.5)
	Temp      int8       // temporary source addresses: 1 rather, -1 rather not, 0: as configured (RFC 6724 §5 rule 7)
	Raw       bool       // Src is as the stack itself wants it, tentative or unspecified

	Route RouteCache
}

// Plain takes back what a sender has wished for, and keeps the route.
func (f *Flow) Plain() {
	f.TOS, f.TTL, f.DontFrag, f.DontRoute, f.Broadcast, f.NoLoop = 0, 0, false, false, false, false
	f.IfIndex, f.Options, f.Ext, f.FlowLabel, f.MinMTU = 0, nil, nil, 0, false
	f.NextHop, f.Temp, f.Label, f.Raw, f.Policy = netip.Addr{}, 0, 0, false, nil
}

// RouteCache holds what the network layer found for a destination. Its
// content belongs to that layer; the zero value is an empty cache.
type RouteCache struct {
	Gen     uint64
	Dst     netip.Addr
	If      *netif.Interface
	NextHop netip.Addr
	Src     netip.Addr // what the route suggests
	MTU     int
	Hops    uint8 // the hop limit of packets that ask for none; IPv6
	Local   bool  // an address of ours
	Bcast   bool  // a broadcast address
	Use     any   // whose use counter to advance

	// What of the flow it was found for, besides Dst.
	From      netip.Addr
	IfIndex   uint32
	DontRoute bool
	Temp      int8
}

// Control is what an ICMP error says about a packet of ours.
type Control struct {
	Err syscall.Errno
	MTU int // with EMSGSIZE
	// Hard errors end a connection attempt; soft ones are kept as a hint
	// (RFC 1122 §4.2.3.9).
	Hard bool
}

// Network is the layer below a transport (inet, inet6).
type Network interface {
	// Output sends pkt, whose data begins with the transport header, and takes
	// it over. Errors: ENETUNREACH, EHOSTUNREACH, EACCES (broadcast without
	// SO_BROADCAST), EMSGSIZE, EADDRNOTAVAIL, ENETDOWN, ENOBUFS.
	Output(w *netif.Work, pkt *packet.Buf, f *Flow) error
	// Source is the local address that packets to f.Dst leave with.
	Source(f *Flow) (netip.Addr, error)
	// PathMTU is the largest packet that the way of a flow takes whole. Its errors
	// are those of a way that is not there, as Output's.
	PathMTU(f *Flow) (int, error)
	// CheckBind says whether a socket may have the local address a:
	// EADDRNOTAVAIL unless it is an address of ours, a group, or a broadcast.
	CheckBind(a netip.Addr) error
	// IsBroadcast reports whether a is a broadcast address here.
	IsBroadcast(a netip.Addr) bool
	// PortRange is the range of ephemeral ports, or of the privileged ones.
	PortRange(low bool) (min, max uint16)
	// PathMTUs reports whether path MTUs are learnt, so that packets are best
	// sent with DontFrag.
	PathMTUs() bool
	// NewOptions makes the network level's socket options.
	NewOptions(so *Socket) NetOptions
	// PortUnreachable answers a datagram that nobody wanted; it only looks at pkt.
	PortUnreachable(w *netif.Work, pkt *packet.Buf)
	// Addrs are the source and destination of a received packet.
	Addrs(pkt *packet.Buf) (src, dst netip.Addr)
	// Admits reports whether a packet with [packet.FlagAsk], L3 marked, may be delivered to a socket with options o, or, with
	// nil, answered in the name of none. One that may not is only
	// looked at.
	Admits(w *netif.Work, pkt *packet.Buf, o NetOptions) bool
	// Describe fills in what the network header of a received packet says, its
	// addresses as calls of sockets of this version say them.
	Describe(pkt *packet.Buf, m *Msg)
}

// Confirmer is a [Network] that wants to hear from transports that packets of a
// flow arrive (RFC 4861 §7.3.1).
type Confirmer interface {
	Confirm(w *netif.Work, f *Flow)
}

// NetOptions are the options of one socket at the network's level.
type NetOptions interface {
	Set(w *netif.Work, level, name int, value []byte) error
	Get(level, name int) ([]byte, error)
	// Fill puts the options' wishes for a packet to f.Dst into f.
	Fill(f *Flow)
	// Control puts a sender's ancillary data into f, over what Fill has put
	// there (RFC 3542 §4.2). Objects of other levels are left alone. EINVAL,
	// EPERM, ENXIO, EADDRNOTAVAIL.
	Control(f *Flow, c []Cmsg) error
	// Describe adds to m.Control what the options ask to be told of a received
	// packet.
	Describe(pkt *packet.Buf, m *Msg)
	// TooBig tells the socket, if it has asked for that, that a packet of its to
	// dst was more than the path's MTU: an ICMP error said so, or Output of one
	// with DontFrag (RFC 3542 §11.3).
	TooBig(w *netif.Work, dst Addr, mtu int)
	// SetPolicy gives the socket a policy of IPsec of its own, for what leaves in packets of a version of IP or for what comes;
	// nil: none. ENOPROTOOPT. Policy is it, or nil.
	SetPolicy(v6, out bool, p any) error
	Policy(v6, out bool) any
	// Accepts reports whether a packet to group dst from src concerns the socket.
	Accepts(dst, src netip.Addr, ifindex uint32) bool
	// Inherit are the options that a connection begins with which a socket with
	// these has accepted: the same, but no groups. so is its socket.
	Inherit(so *Socket) NetOptions
	// Close leaves the groups.
	Close(w *netif.Work)
}

// levelIP is IPPROTO_IP.
const levelIP = 0

// Nets are the network layers below a transport, IPv4's and IPv6's. Either may
// be missing.
type Nets [2]Network

// Over says which network layer carries IPv6 or IPv4.
func (n *Nets) Over(v6 bool, net Network) {
	if v6 {
		n[1] = net
	} else {
		n[0] = net
	}
}

// For is the layer of a family of sockets, or nil.
func (n *Nets) For(family int) Network {
	if family == AFInet {
		return n[0]
	}
	return n[1]
}

// To is the layer of an address, or nil.
func (n *Nets) To(a netip.Addr) Network {
	if a.Is4() {
		return n[0]
	}
	return n[1]
}

// Of is the layer that a packet with an L3 mark has come by.
func (n *Nets) Of(pkt *packet.Buf) Network {
	if pkt.L3()[0]>>4 == 4 {
		return n[0]
	}
	return n[1]
}

// NewOptions makes the socket options at the network's level for a socket: of
// one IPv6 socket both layers', as packets of both may concern it.
func (n *Nets) NewOptions(so *Socket) NetOptions {
	if so.Family == AFInet || n[0] == nil {
		return n.For(so.Family).NewOptions(so)
	}
	return &bothOptions{v6: n[1].NewOptions(so), v4: n[0].NewOptions(so)}
}

// bothOptions are the options of a socket of IPv6: its own, and at level
// IPPROTO_IP those of IPv4, which hold for its packets to mapped addresses.
type bothOptions struct{ v6, v4 NetOptions }

func (o *bothOptions) to(a netip.Addr) NetOptions {
	if a.Is4() {
		return o.v4
	}
	return o.v6
}

func (o *bothOptions) Set(w *netif.Work, level, name int, value []byte) error {
	if level == levelIP {
		return o.v4.Set(w, level, name, value)
	}
	return o.v6.Set(w, level, name, value)
}

func (o *bothOptions) Get(level, name int) ([]byte, error) {
	if level == levelIP {
		return o.v4.Get(level, name)
	}
	return o.v6.Get(level, name)
}

func (o *bothOptions) of(v6 bool) NetOptions {
	if v6 {
		return o.v6
	}
	return o.v4
}

func (o *bothOptions) SetPolicy(v6, out bool, p any) error { return o.of(v6).SetPolicy(v6, out, p) }

func (o *bothOptions) Policy(v6, out bool) any { return o.of(v6).Policy(v6, out) }

func (o *bothOptions) Fill(f *Flow) { o.to(f.Dst).Fill(f) }

func (o *bothOptions) Control(f *Flow, c []Cmsg) error { return o.to(f.Dst).Control(f, c) }

// Describe asks the options of IPv6 alone: they know what to tell of a packet
// of IPv4.
func (o *bothOptions) Describe(pkt *packet.Buf, m *Msg) { o.v6.Describe(pkt, m) }

func (o *bothOptions) Inherit(so *Socket) NetOptions {
	return &bothOptions{v6: o.v6.Inherit(so), v4: o.v4.Inherit(so)}
}

func (o *bothOptions) TooBig(w *netif.Work, dst Addr, mtu int) { o.to(dst.IP).TooBig(w, dst, mtu) }

func (o *bothOptions) Accepts(dst, src netip.Addr, ifindex uint32) bool {
	return o.to(dst).Accepts(dst, src, ifindex)
}

func (o *bothOptions) Close(w *netif.Work) {
	o.v6.Close(w)
	o.v4.Close(w)
}

// LowPorts reports that the user wants a port below 1024, by either's option.
func (o *bothOptions) LowPorts() bool { return LowPorts(o.v6) || LowPorts(o.v4) }

// LowPorts reports that o asks for ephemeral ports below 1024 (IP_PORTRANGE,
// IPV6_PORTRANGE).
func LowPorts(o NetOptions) bool {
	low, ok := o.(interface{ LowPorts() bool })
	return ok && low.LowPorts()
}

func sortPCBs(ps []*PCB) {
	slices.SortFunc(ps, func(a, b *PCB) int { return cmp.Compare(a.So.ID, b.So.ID) })
}
