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
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
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

// Neighbours is neighbour discovery (nd6).
type Neighbours interface {
	// Input takes over a message of types 133 to 137; the window begins at the
	// ICMPv6 header, its checksum is right, L3 is marked. The fragmented are not among them (RFC 6980).
	Input(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf)
	// Probe asks n times for another owner of ip and calls done (RFC 4862
	// §5.4); with n 0 it calls done at once.
	Probe(w *netif.Work, ifp *netif.Interface, ip netip.Addr, n int, done func(w *netif.Work, conflict bool))
	// Forget ends that.
	Forget(ifp *netif.Interface, ip netip.Addr)
	// Flush forgets neighbours inside a network of ifp; all for a zero prefix.
	Flush(w *netif.Work, ifp *netif.Interface, in netip.Prefix)
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
	raw    RawSink
	echo   Upper
	log    *slog.Logger

	addrs  atomic.Pointer[addrSet]
	gen    atomic.Uint64 // with the routes' generation: when a RouteCache is stale
	groups groups
	addrMu sync.Mutex // one change of addresses at a time
	setMu  sync.Mutex // rebuild; a leaf

	// AddrChanged, if set, is told of every address that comes, goes or
	// changes its state.
	AddrChanged func(a *netif.Addr, added bool)
	// Up, if set, is told of an interface that has a link-local address that may
	// be used, and, with false, of one that has gone down (autoconf).
	Up func(w *netif.Work, ifp *netif.Interface, up bool)
}
