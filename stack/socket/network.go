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
	Scope     uint32     // interface of a scoped Dst
	Proto     uint8
	TOS       uint8
	TTL       uint8 // 0: the default; to a group: not beyond this host
	DontFrag  bool
	DontRoute bool   // only to a directly connected network
	Broadcast bool   // sending to a broadcast address is allowed
	IfIndex   uint32 // SOBindToIf, or the interface of a group; 0: by route
	NoLoop    bool   // a group: no copy for ourselves
	Options   []byte // IPv4 options, padded

	// IPv6 alone.
	Ext       *Ext6      // extension headers; nil: none
	FlowLabel uint32     // 20 bits (RFC 6437)
	MinMTU    bool       // cut to what every link carries, and ask no path (RFC 3542 §11.1)
	NextHop   netip.Addr // the neighbour to send to, whatever the routes say (RFC 3542 §6.5)
	Temp      int8       // temporary source addresses: 1 rather, -1 rather not, 0: as configured (RFC 6724 §5 rule 7)
	Raw       bool       // Src is as the stack itself wants it, tentative or unspecified

	Route RouteCache
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
	Local   bool // an address of ours
	Bcast   bool // a broadcast address
	Use     any  // whose use counter to advance

	// What of the flow it was found for, besides Dst.
	From      netip.Addr
	IfIndex   uint32
	DontRoute bool
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
	// Describe fills in what the network header of a received packet says.
	Describe(pkt *packet.Buf, m *Msg)
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
	// Accepts reports whether a packet to group dst from src concerns the socket.
	Accepts(dst, src netip.Addr, ifindex uint32) bool
	// Close leaves the groups.
	Close(w *netif.Work)
}

func sortPCBs(ps []*PCB) {
	slices.SortFunc(ps, func(a, b *PCB) int { return cmp.Compare(a.So.ID, b.So.ID) })
}
