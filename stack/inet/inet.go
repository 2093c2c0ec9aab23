// Package inet is IPv4: input, output, forwarding, reassembly, options, ICMP,
// IGMP, addresses, and the IP level of socket options.
//
// The walk up:
//
//	1 ether.Input        frame checked, handed on by type
//	2 Inet.Input         header checked, options, is it for us?      input.go
//	3 Inet.reassemble    fragments only                              reass.go
//	4 Upper.Input        icmp.go, igmp.go, tcp, udp, ping, rawip
//	2'Inet.forward       what is not for us, as a turn               forward.go
//	2"ipflow.Forward      what follows a known flow                  fast.go
//	2*Inet.group         groups: members here, and those behind us   mroute.go
//
// The walk down:
//
//	1 Inet.Output        route, source, header                       output.go
//	2 Inet.fragment      what is larger than the MTU                 fragment.go
//	3 Interface.Output   ether.Output, or lo0, which is a turn
package inet

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/callout"
	"ionet/stack/ipflow"
	"ionet/stack/membership"
	"ionet/stack/mib"
	"ionet/stack/mroute"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/reass"
	"ionet/stack/route"
	"ionet/stack/socket"
)

const second = int64(1e9)

var (
	nodeForwarding  = mib.Int("net.inet.ip.forwarding", 0, "1: forward packets between interfaces.", mib.Bool())
	nodeRedirect    = mib.Int("net.inet.ip.redirect", 1, "1: send ICMP redirects when forwarding back out of the same interface.", mib.Bool())
	nodeTTL         = mib.Int("net.inet.ip.ttl", 64, "Time to live of packets that do not ask for another.", mib.Range(1, 255))
	nodeForwSrcRt   = mib.Int("net.inet.ip.forwsrcrt", 1, "1: forward source-routed packets.", mib.Bool())
	nodeAllowSrcRt  = mib.Int("net.inet.ip.allowsrcrt", 1, "1: accept source-routed packets for this host.", mib.Bool())
	nodeDirBcast    = mib.Int("net.inet.ip.directed-broadcast", 0, "1: forward broadcasts into a directly connected network.", mib.Bool())
	nodeHostZero    = mib.Int("net.inet.ip.hostzerobroadcast", 1, "1: the all-zeroes host address is a broadcast address too.", mib.Bool())
	nodeMTUDisc     = mib.Int("net.inet.ip.mtudisc", 1, "1: learn path MTUs from ICMP.", mib.Bool())
	nodeMTUDiscTime = mib.Int("net.inet.ip.mtudisctimeout", 600, "Seconds a learnt path MTU is believed.", mib.Range(1, 1<<30))
	nodeAnonMin     = mib.Int("net.inet.ip.anonportmin", 49152, "Lowest ephemeral port.", mib.Range(1024, 65535))
	nodeAnonMax     = mib.Int("net.inet.ip.anonportmax", 65535, "Highest ephemeral port.", mib.Range(1024, 65535))
	nodeLowMin      = mib.Int("net.inet.ip.lowportmin", 600, "Lowest port of IP_PORTRANGE_LOW.", mib.Range(1, 1023))
	nodeLowMax      = mib.Int("net.inet.ip.lowportmax", 1023, "Highest port of IP_PORTRANGE_LOW.", mib.Range(1, 1023))
	nodeMaxFrags    = mib.Int("net.inet.ip.maxfragpackets", 200, "Datagrams being reassembled at most; 0: none.", mib.Range(0, 1<<20))
	nodeDADCount    = mib.Int("net.inet.ip.dad_count", 0, "ARP probes before a new address is used (RFC 5227); 0: used at once and defended.", mib.Range(0, 10))
)

// Upper is a protocol above IPv4.
type Upper interface {
	// Input takes over a datagram for this host; the window begins at the
	// transport header, L3 and L4 are marked.
	Input(w *netif.Work, pkt *packet.Buf)
	// ControlInput is told of an ICMP error about a packet from src to dst;
	// transport is what the error quotes of it, at least 8 octets.
	ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, transport []byte)
	// Knows reports whether a packet from src to dst that begins with
	// transport can have been sent by a socket of ours (RFC 5927 §4.1).
	Knows(src, dst netip.Addr, transport []byte) bool
}

// RawSink gets a look at every datagram for this host (raw sockets).
type RawSink interface {
	// Deliver copies pkt, whose window begins at the IP header, to the raw
	// sockets that want protocol proto, and reports whether there was one.
	Deliver(w *netif.Work, pkt *packet.Buf, proto uint8) bool
	// Knows reports whether a socket can have sent a packet of protocol proto
	// to dst.
	Knows(dst netip.Addr, proto uint8) bool
	// ControlInput is as [Upper]'s, for packets of any protocol.
	ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, transport []byte)
}

// Chooser is an [Upper] that leaves packets of its protocol to nobody (a tunnel's).
type Chooser interface {
	// Wants reports whether Input is to have pkt, whose window begins at the
	// transport header; L3 and L4 are marked. It only looks at it.
	Wants(pkt *packet.Buf) bool
}

// Neighbours is what IPv4 asks of the link's address resolution.
type Neighbours interface {
	// Probe asks for another owner of ip n times, calls done, and announces ip.
	Probe(w *netif.Work, ifp *netif.Interface, ip netip.Addr, n int, done func(w *netif.Work, conflict bool))
	// Forget ends that.
	Forget(ifp *netif.Interface, ip netip.Addr)
	// Flush forgets neighbours inside a network of ifp.
	Flush(w *netif.Work, ifp *netif.Interface, in netip.Prefix)
}

// Inet is one stack's IPv4.
type Inet struct {
	env    *netif.Env
	routes *route.Table
	cache  *route.HostCache
	lo     *netif.Interface
	neigh  Neighbours
	upper  [256]Upper
	picky  [256]Chooser
	raw    RawSink
	echo   Upper
	log    *slog.Logger

	addrs       atomic.Pointer[addrSet]
	gen         atomic.Uint64 // with the routes' generation: when a RouteCache is stale
	ids         [1024]atomic.Uint32
	idKey       uint64
	reass       reass.Store
	groups      *membership.Set
	mroute      *mroute.Router
	hook        *pfil.Hook
	sec         *pfil.SecurityHook
	filterFirst bool // pfil_ipsec
	flows       ipflow.Table
	icmp        icmpState
	pmtu        callout.Timer[*netif.Work]
	addrMu      sync.Mutex // one change of addresses at a time
	setMu       sync.Mutex // rebuild; a leaf

	// Methods as turns: made once, since a method's value is an allocation.
	forwardTurn, loopedTurn, mforwardTurn func(*netif.Work, *packet.Buf)

	// AddrChanged, if set, is told of every address that comes, goes or
	// changes its state.
	AddrChanged func(a *netif.Addr, added bool)
}

// New makes the room. lo is the loopback interface.
func New(env *netif.Env, routes *route.Table, cache *route.HostCache, lo *netif.Interface) *Inet {
	in := &Inet{env: env, routes: routes, cache: cache, lo: lo, log: env.Log, hook: new(pfil.Hook), sec: new(pfil.SecurityHook)}
	in.addrs.Store(&addrSet{})
	in.flows.Protect = in.fastProtect
	routes.BeforeUse(in.flows.Collect)
	in.forwardTurn, in.loopedTurn = in.forward, in.looped
	in.idKey = uint64(env.Rand32())<<32 | uint64(env.Rand32())
	for i := range in.ids {
		in.ids[i].Store(env.Rand32())
	}
	in.reass.Init(in.reassConfig())
	in.groups = membership.New(env, membership.Config{Messages: (*igmpMessages)(in), Newest: 3, AddrLen: 4})
	in.mroute = mroute.New(env, mrouteConfig(in))
	in.mforwardTurn = in.mroute.Forward
	in.pmtu.Fn = in.pmtuExpired
	in.upper[packet.ProtoICMP] = (*icmp)(in)
	in.upper[packet.ProtoIGMP] = (*igmp)(in)
	v := env.MIB
	ordered := func(min, max *mib.Node) {
		v.OnChange(min, func(_, n int64) error { return checkOrder(n, v.Int(max)) })
		v.OnChange(max, func(_, n int64) error { return checkOrder(v.Int(min), n) })
	}
	ordered(nodeAnonMin, nodeAnonMax)
	ordered(nodeLowMin, nodeLowMax)
	bump := func(_, _ int64) error { in.gen.Add(1); return nil }
	v.OnChange(nodeMTUDisc, bump)
	for _, n := range []*mib.Node{nodeHostZero, nodeRedirect, nodeDirBcast, nodeRPF} {
		v.OnChange(n, bump)
	}
	v.OnChange(nodeForwarding, func(_, n int64) error { in.resizeFlows(n != 0, v.Int(nodeMaxFlows)); return nil })
	v.OnChange(nodeMaxFlows, func(_, n int64) error { in.resizeFlows(v.On(nodeForwarding), n); return nil })
	return in
}

// SetHook says where a filter hangs, at assembly.
func (in *Inet) SetHook(h *pfil.Hook) { in.hook = h }

// SetSecurity introduces what protects packets, at assembly; filterFirst: the filter is asked
// about what leaves before it is protected, not after.
func (in *Inet) SetSecurity(h *pfil.SecurityHook, filterFirst bool) {
	in.sec, in.filterFirst = h, filterFirst
}

// SetNeighbours, SetRaw, SetEcho and Handle register the rooms next door, at assembly.
func (in *Inet) SetNeighbours(n Neighbours) { in.neigh = n }

// SetRaw registers the raw sockets.
func (in *Inet) SetRaw(r RawSink) { in.raw = r }

// SetEcho registers the echo sockets: their Input is given echo replies, their
// ControlInput and Knows are asked about ICMP messages of ours.
func (in *Inet) SetEcho(u Upper) { in.echo = u }

// Handle registers the protocol with number proto. What a [Chooser] does not want
// is answered as an unknown protocol is.
func (in *Inet) Handle(proto uint8, u Upper) {
	in.upper[proto] = u
	in.picky[proto], _ = u.(Chooser)
}

// Close gives back what waits for a packet that will not come any more.
func (in *Inet) Close(w *netif.Work) { in.reass.Drain(w) }

// generation changes whenever a cached route may be wrong.
func (in *Inet) generation() uint64 { return in.routes.Generation() + in.gen.Load() }

// nextID is the identification of the next datagram to dst: a counter of its
// own for a share of destinations, so that strangers learn nothing from it
// (RFC 7739 has the reasons).
func (in *Inet) nextID(dst netip.Addr) uint16 {
	b := dst.As4()
	h := (in.idKey ^ uint64(b[0])<<24 ^ uint64(b[1])<<16 ^ uint64(b[2])<<8 ^ uint64(b[3])) * 0x9e3779b97f4a7c15
	return uint16(in.ids[h>>54].Add(1))
}
