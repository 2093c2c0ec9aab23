// Package nd6 is neighbour discovery for IPv6 (RFC 4861): the neighbour cache,
// unreachability detection, solicitations and advertisements, redirects, and
// duplicate address detection (RFC 4862 §5.4). Of prefixes and default routers
// it knows nothing: messages of routers it hands on ([Router]).
//
// An entry is in one of these states (RFC 4861 §7.3.2, and three more):
//
//	INCOMPLETE   asked for; packets wait
//	REACHABLE    has answered of late
//	STALE        nobody knows; the first packet makes it DELAY
//	DELAY        an upper layer has some seconds to say that it answers
//	PROBE        asked again, unicast, while packets go there
//	UNREACHABLE  asked for in vain; senders are told so until it is forgotten
//	PERMANENT    made by hand
//	PROXY        made by hand, to be answered for alone
//
// Messages are framed here and go to the interface that they concern: a route
// has no say in them. Addresses of one link carry their interface
// (packet.Scoped) everywhere in here.
package nd6

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/cmap"
	"ionet/stack/mib"
	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

const (
	second      = int64(1e9)
	millisecond = int64(1e6)
)

// Link is what a packet with a known neighbour goes through (the ether room).
type Link interface {
	Send(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, dst netif.MAC, typ uint16)
}

// Inet is what neighbour discovery asks of IPv6 (inet6).
type Inet interface {
	// Addr is the address of ifp that ip is, be it tentative or duplicated; nil:
	// it is none.
	Addr(ifp *netif.Interface, ip netip.Addr) *netif.Addr
	// JoinGroup and LeaveGroup are memberships of the stack's own; they are counted.
	JoinGroup(w *netif.Work, ifp *netif.Interface, g netip.Addr)
	LeaveGroup(w *netif.Work, ifp *netif.Interface, g netip.Addr)
	// Forwarding reports whether this host is a router.
	Forwarding() bool
	// AddrUnreachable answers a packet from elsewhere whose next hop is silent;
	// it only looks at pkt.
	AddrUnreachable(w *netif.Work, pkt *packet.Buf)
}

// Router takes over Router Solicitations and Advertisements as they come, and
// tells what they say of their senders ([ND.Heard]) and of the link
// ([ND.SetIfInfo]) (autoconf).
type Router interface {
	// Input takes over a message; the window begins at the ICMPv6 header, L3 is
	// marked.
	Input(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf)
	// Remembers reports whether ip is one of the routers that are remembered, of
	// which there are few. It is asked with an entry's lock held, so it calls nobody.
	Remembers(ifp *netif.Interface, ip netip.Addr) bool
}

var (
	nodeDelay   = mib.Int("net.inet6.icmp6.nd6_delay", 5, "Seconds that an upper layer has to say that a stale neighbour answers, before it is probed (RFC 4861: DELAY_FIRST_PROBE_TIME).", mib.Range(0, 3600))
	nodeUTries  = mib.Int("net.inet6.icmp6.nd6_umaxtries", 3, "Unicast solicitations to a silent neighbour before it is held to be gone (MAX_UNICAST_SOLICIT).", mib.Range(1, 100))
	nodeMTries  = mib.Int("net.inet6.icmp6.nd6_mmaxtries", 3, "Multicast solicitations for a silent neighbour before it is held to be gone (MAX_MULTICAST_SOLICIT).", mib.Range(1, 100))
	nodeHints   = mib.Int("net.inet6.icmp6.nd6_maxnudhint", 0, "Times in a row that a neighbour counts as reachable because an upper layer says so; 0: hints are ignored.", mib.Range(0, 1<<30))
	nodeDebug   = mib.Int("net.inet6.icmp6.nd6_debug", 0, "1: log why messages are refused.", mib.Bool())
	nodeGC      = mib.Int("net.inet6.icmp6.nd6_gctimer", 86400, "Seconds that a neighbour nobody uses is kept.", mib.Range(1, 1<<30))
	nodeDown    = mib.Int("net.inet6.icmp6.nd6_down", 3, "Seconds that a neighbour asked for in vain is left alone (ionet's own).", mib.Range(0, 86400))
	nodeMax     = mib.Int("net.inet6.icmp6.nd6_maxentries", 16384, "Neighbours that are remembered at most (ionet's own).", mib.Range(16, 1<<24))
	nodeMaxWait = mib.Int("net.inet6.icmp6.nd6_maxincomplete", 1024, "Neighbours that are asked for at a time at most, for packets of ours, and as many for packets from elsewhere (ionet's own).", mib.Range(1, 1<<24))
	nodeUnknown = mib.Int("net.inet6.icmp6.nd6_untracked", 0, "1: a router remembers a neighbour that advertises itself unasked (RFC 9131).", mib.Bool())
	_           = mib.Int("net.inet6.icmp6.nd6_useloopback", 1, "Packets to addresses of ours go through lo0; always 1.", mib.ReadOnly())

	cntBadNS     = mib.NewCounter("icmp6", "bad neighbor solicitation", "# bad neighbor solicitation message{s}")
	cntBadNA     = mib.NewCounter("icmp6", "bad neighbor advertisement", "# bad neighbor advertisement message{s}")
	cntBadRedir  = mib.NewCounter("icmp6", "bad redirect", "# bad redirect message{s}")
	cntSolOut    = mib.NewCounter("nd6", "solicitations sent", "# neighbor solicitation{s} sent")
	cntAdvOut    = mib.NewCounter("nd6", "advertisements sent", "# neighbor advertisement{s} sent")
	cntDone      = mib.NewCounter("nd6", "received", "# valid message{s} received")
	cntNotTarget = mib.NewCounter("nd6", "ND for others", "# message{s} about addresses that are not ours, nor known")
	cntRouterMsg = mib.NewCounter("nd6", "router message ignored", "# router message{s} ignored")
	cntHeld      = mib.NewCounter("nd6", "held", "# packet{s} held for a neighbor advertisement")
	cntOverflow  = mib.NewCounter("nd6", "ND queue full", "# packet{s} dropped while waiting for an advertisement")
	cntNoAnswer  = mib.NewCounter("nd6", "no neighbor", "# packet{s} dropped because nobody answered")
	cntFull      = mib.NewCounter("nd6", "ND table full", "# packet{s} dropped because the table was full")
	cntEvicted   = mib.NewCounter("nd6", "evicted", "# neighbor{s} forgotten because the table was full")
	cntCrowded   = mib.NewCounter("nd6", "too many asked for", "# neighbor{s} given up because too many were asked for")
	cntStatic    = mib.NewCounter("nd6", "permanent entry", "# attempt{s} to change a permanent entry")
	cntGone      = mib.NewCounter("nd6", "unreachable", "# neighbor{s} found unreachable")
	cntConflict  = mib.NewCounter("nd6", "duplicate address", "# message{s} from another station with an address of ours")
	cntDADFailed = mib.NewCounter("nd6", "DAD failed", "# address{es} found to be in use by another station")
	cntDADLooped = mib.NewCounter("nd6", "DAD looped", "# solicitation{s} of our own come back (RFC 7527)")
	cntBusy      = mib.NewCounter("nd6", "too many answers", "# solicitation{s} for anycast addresses not answered because too many answers wait")
	cntNoSource  = mib.NewCounter("nd6", "no source", "# solicitation{s} not sent for want of an address")
	cntNoMem     = mib.NewCounter("nd6", "no memory", "# message{s} not sent for want of memory")
)

// Flags of an entry.
const (
	Permanent = 1 << iota
	Published // we answer for it
	ProxyOnly // and do not use it ourselves
)

// State is what is known of a neighbour.
type State uint8

const (
	Incomplete State = iota
	Reachable
	Stale
	Delay
	Probing
	Unreachable
	Static
	Proxied
)

func (s State) String() string {
	return [...]string{"INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "UNREACHABLE", "PERMANENT", "PROXY"}[s]
}

// ND is one stack's neighbour discovery.
type ND struct {
	env    *netif.Env
	routes *route.Table
	link   Link
	in     Inet
	router Router
	key    uint64
	table  cmap.Map[*entry]
	held   neigh.Budget
	asked  crowds
	dad    dad
	redirs redirects
	late   answers
	moved  announcements
	loud   neigh.Loudness

	params  atomic.Pointer[[]*params] // by index of the interface
	paramMu sync.Mutex                // their writers

	// Changed, if set, is told what becomes of neighbours, of each in order: under
	// the lock of its entry, so that it may do no more than note it.
	Changed func(i Info, c neigh.Change)
	// RouterGone, if set, is told of a neighbour that is silent, or says that it
	// is a router no more (RFC 4861 §7.3.3, §7.2.5). Not every silent one
	// has been a router.
	RouterGone func(w *netif.Work, ifp *netif.Interface, ip netip.Addr)
}

// Info describes an entry.
type Info struct {
	IP       netip.Addr // scoped
	MAC      netif.MAC
	Known    bool // MAC is
	If       *netif.Interface
	Expire   int64 // when the state ends, of the stack's clock; 0: never
	Flags    uint8
	Use      uint64
	State    State
	IsRouter bool
	Probes   int // solicitations sent without an answer
}

func (i Info) String() string { return fmt.Sprintf("%v at %v on %s", i.IP, i.MAC, i.If.Name) }

// New makes the room.
func New(env *netif.Env, routes *route.Table, link Link, in Inet) *ND {
	nd := &ND{env: env, routes: routes, link: link, in: in, key: uint64(env.Rand32())<<32 | uint64(env.Rand32())}
	nd.table.Init()
	nd.dad.probes = map[addrKey]*probe{}
	nd.redirs.m = map[netip.Addr]*redirect{}
	nd.moved.m = map[*netif.Interface]*announcement{}
	return nd
}

// SetRouter says who takes what routers say. It is called at assembly.
func (nd *ND) SetRouter(r Router) { nd.router = r }

// addrKey is an address on an interface.
type addrKey struct {
	ifp *netif.Interface
	ip  netip.Addr
}

func (nd *ND) hash(ifp *netif.Interface, ip netip.Addr) uint64 {
	hi, lo := packet.Words(ip)
	h := (hi ^ nd.key ^ uint64(ifp.Index)<<32) * 0x9e3779b97f4a7c15
	h = (h ^ h>>29 ^ lo) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>32 ^ nd.key) * 0x94d049bb133111eb
	return h ^ h>>31
}

func (nd *ND) find(ifp *netif.Interface, ip netip.Addr) *entry {
	h := nd.hash(ifp, ip)
	b := nd.table.Bucket(h)
	for i := 0; i < b.Len(); i++ {
		if k, e := b.At(i); k == h && e.ip == ip && e.ifp == ifp {
			return e
		}
	}
	return nil
}

// upTo is a random time below d.
func (nd *ND) upTo(d int64) int64 { return int64(uint64(nd.env.Rand32()) * uint64(d) >> 32) }

func (nd *ND) log(w *netif.Work, level slog.Level, msg string, args ...any) {
	if !nd.loud.Quiet(w.Now) {
		nd.env.Log.Log(context.Background(), level, msg, args...)
	}
}

// plain is an address as people write it: without the interface in it.
func plain(ip netip.Addr) netip.Addr {
	ip, _ = packet.Unscoped(ip)
	return ip
}
