// Package inet6 is IPv6: input with its extension headers, output, forwarding,
// reassembly, ICMPv6, MLD, addresses and their choice, and the IPv6 level of
// socket options.
//
// The walk up:
//
//	1 ether.Input          frame checked, handed on by type
//	2 Inet6.Input          header checked, is it for us?                 input.go
//	3 Inet6.chain          extension headers, one after the other        exthdr.go
//	4 Inet6.reassemble     fragments only                                reass.go
//	5 Upper.Input          icmp6.go, tcp, udp, ping, rawip; nd6 and MLD behind ICMPv6
//	2'Inet6.forward        what is not for us, as a turn                 forward.go
//	2"ipflow.Forward        what follows a known flow                    fast.go
//	2*Inet6.group          groups: members here, and those behind us     mroute.go
//
// The walk down:
//
//	1 Inet6.Output         route, source, headers                        output.go
//	2 Inet6.fragment       what is larger than the path's MTU            fragment.go
//	3 Interface.Output     ether.Output, or lo0, which is a turn
//
// Addresses of one link carry their interface inside here (packet.Scoped).
package inet6

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/ipflow"
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

// Upper is a protocol above IPv6.
type Upper interface {
	// Input takes over a datagram for this host; the window begins at the
	// transport header, L3 and L4 are marked.
	Input(w *netif.Work, pkt *packet.Buf)
	// ControlInput is told of an ICMPv6 error about a packet from src to dst;
	// transport is what the error quotes of it, at least 8 octets.
	ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, transport []byte)
	// Knows reports whether a packet from src to dst that begins with
	// transport can have been sent by a socket of ours (RFC 5927 §4.1).
	Knows(src, dst netip.Addr, transport []byte) bool
}

// RawSink gets a look at every datagram for this host (raw sockets).
type RawSink interface {
	// Deliver copies pkt, whose window begins at the header of proto, behind
	// every extension header, to the raw sockets of IPv6 that want proto, and
	// reports whether there was one. L3 and L4 are marked. ICMPv6 comes with its
	// checksum verified.
	Deliver6(w *netif.Work, pkt *packet.Buf, proto uint8) bool
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

// Neighbours is neighbour discovery (nd6).
type Neighbours interface {
	// Input takes over a message of types 133 to 137; the window begins at the
	// ICMPv6 header. Checksum, hop limit and code are right, L3 is marked, and it was in
	// no fragments (RFC 6980).
	Input(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf)
	// Probe asks n times for another owner of ip and calls done (RFC 4862
	// §5.4); with n 0 it calls done at once.
	Probe(w *netif.Work, ifp *netif.Interface, ip netip.Addr, n int, done func(w *netif.Work, conflict bool))
	// Forget ends that.
	Forget(ifp *netif.Interface, ip netip.Addr)
	// Flush forgets neighbours inside a network of ifp; all for a zero prefix.
	Flush(w *netif.Work, ifp *netif.Interface, in netip.Prefix)
	// HopLimit and LinkMTU are what a router has said for a link; 0: nothing.
	HopLimit(ifp *netif.Interface) uint8
	LinkMTU(ifp *netif.Interface) int
	// Confirm is told that what goes to a neighbour arrives (§7.3.1).
	Confirm(w *netif.Work, ifp *netif.Interface, nexthop netip.Addr)
	// SendRedirect tells the sender of pkt, whose L3 is marked and which is
	// only looked at, of a better first hop: target, on ifp (RFC 4861 §8.2).
	SendRedirect(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, target netip.Addr)
}

// Inet6 is one stack's IPv6.
type Inet6 struct {
	env    *netif.Env
	routes *route.Table
	cache  *route.HostCache
	lo     *netif.Interface
	nd     Neighbours
	upper  [256]Upper
	picky  [256]Chooser
	raw    RawSink
	echo   Upper
	log    *slog.Logger

	addrs       atomic.Pointer[addrSet]
	gen         atomic.Uint64 // with the routes' generation: when a RouteCache is stale
	defIf       atomic.Uint32
	policies    policies
	ids         [1024]atomic.Uint32
	idKey       uint64
	reass       reass.Store
	groups      groups
	mroute      *mroute.Router
	hook        *pfil.Hook
	sec         *pfil.SecurityHook
	filterFirst bool // pfil_ipsec
	flows       ipflow.Table
	icmp        icmpState
	pmtu        callout.Timer[*netif.Work]
	addrMu      sync.Mutex   // one change of addresses at a time
	setMu       sync.Mutex   // rebuild; a leaf
	nextLog     atomic.Int64 // when a packet that is not forwarded may be logged again

	// Methods as turns: made once, since a method's value is an allocation.
	forwardTurn, loopedTurn, mforwardTurn func(*netif.Work, *packet.Buf)

	// AddrChanged, if set, is told of every address that comes, goes or
	// changes its state.
	AddrChanged func(a *netif.Addr, added bool)
	// Started, if set, is told of an interface that came up, before its addresses
	// are asked for, outside a Work; Up of one that has a link-local address that
	// may be used, and, with false, of one that has gone down; Duplicate of an
	// address that another host has, in a [netif.Work.Post] (autoconf).
	Started   func(ifp *netif.Interface)
	Up        func(w *netif.Work, ifp *netif.Interface, up bool)
	Duplicate func(w *netif.Work, a *netif.Addr)
}

// New makes the room. lo is the loopback interface.
func New(env *netif.Env, routes *route.Table, cache *route.HostCache, lo *netif.Interface) *Inet6 {
	in := &Inet6{env: env, routes: routes, cache: cache, lo: lo, log: env.Log, hook: new(pfil.Hook), sec: new(pfil.SecurityHook)}
	in.flows.V6 = true
	in.addrs.Store(&addrSet{})
	in.flows.Protect = in.fastProtect
	routes.BeforeUse(in.flows.Collect)
	in.forwardTurn, in.loopedTurn = in.forward, in.looped
	in.idKey = uint64(env.Rand32())<<32 | uint64(env.Rand32())
	for i := range in.ids {
		in.ids[i].Store(env.Rand32())
	}
	in.policies.init()
	in.reass.Init(in.reassConfig())
	in.groups.init(in)
	in.mroute = mroute.New(env, mrouteConfig(in))
	in.mforwardTurn = in.mroute.Forward
	in.pmtu.Fn = in.pmtuExpired
	v := env.MIB
	ordered := func(min, max *mib.Node) {
		v.OnChange(min, func(_, n int64) error { return checkOrder(n, v.Int(max)) })
		v.OnChange(max, func(_, n int64) error { return checkOrder(v.Int(min), n) })
	}
	ordered(nodeAnonMin, nodeAnonMax)
	ordered(nodeLowMin, nodeLowMax)
	bump := func(_, _ int64) error { in.gen.Add(1); return nil }
	for _, n := range []*mib.Node{nodeHlim, nodeDeprecated, nodePreferTemp, nodeRedirect, nodeRPF} {
		v.OnChange(n, bump)
	}
	v.OnChange(nodeForwarding, func(_, n int64) error { in.resizeFlows(n != 0, v.Int(nodeMaxFlows)); return nil })
	v.OnChange(nodeMaxFlows, func(_, n int64) error { in.resizeFlows(v.On(nodeForwarding), n); return nil })
	v.OnChangeStr(netif.NodeHostname, func(old, new string) error { in.renamed(old, new); return nil })
	return in
}

// SetHook says where a filter hangs, at assembly.
func (in *Inet6) SetHook(h *pfil.Hook) { in.hook = h }

// SetSecurity introduces what protects packets, at assembly; filterFirst: the filter is asked
// about what leaves before it is protected, not after.
func (in *Inet6) SetSecurity(h *pfil.SecurityHook, filterFirst bool) {
	in.sec, in.filterFirst = h, filterFirst
}

// SetND registers neighbour discovery, at assembly.
func (in *Inet6) SetND(n Neighbours) { in.nd = n }

// SetRaw registers the raw sockets.
func (in *Inet6) SetRaw(r RawSink) { in.raw = r }

// SetEcho registers the echo sockets: their Input is given echo replies, their
// ControlInput and Knows are asked about ICMPv6 messages of ours.
func (in *Inet6) SetEcho(u Upper) { in.echo = u }

// Handle registers the protocol with number proto. What a [Chooser] does not want
// is answered as an unknown protocol is.
func (in *Inet6) Handle(proto uint8, u Upper) {
	in.upper[proto] = u
	in.picky[proto], _ = u.(Chooser)
}

// Close gives back what waits for a packet that will not come any more.
func (in *Inet6) Close(w *netif.Work) { in.reass.Drain(w) }

func checkOrder(min, max int64) error {
	if min > max {
		return fmt.Errorf("the lowest port, %d, would be above the highest, %d: %w", min, max, syscall.EINVAL)
	}
	return nil
}
