// Package autoconf is what a host does with routers: it solicits and hears
// them (RFC 4861 §6.3), chooses among them (RFC 4191), and configures itself
// from what they say: prefixes, addresses (RFC 4862, 7217, 8981), routes, DNS
// servers (RFC 8106).
//
// What is heard changes what this room knows, under one lock. What follows from
// it for addresses and routes is worked out at the end of the call, when no
// table is held any more (apply.go):
//
//	1 Autoconf.Input       message checked, options taken apart      here
//	2 heard, prefix, …     what is known of the link                 router.go, prefix.go, routeinfo.go, dns.go
//	3 Autoconf.apply       addresses and routes made to follow       apply.go
//	4 Autoconf.expire      as lifetimes end                          lifetime.go
//
// Every list has a bound, so a station that speaks as a thousand routers
// takes neither memory nor the router in use from us.
package autoconf

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

// Inet is what this room needs of IPv6 (inet6).
type Inet interface {
	// AutoAddr gives ifp an address or, if it has it, new flags and lifetimes.
	// One with [netif.AddrAutoconf] brings no route to its prefix: whether that
	// is on the link is for this room. A control call. ENETDOWN: a new one, and
	// the interface has been taken down.
	AutoAddr(ifp *netif.Interface, a netif.Addr) error
	// DelAddr takes an address away. A control call.
	DelAddr(ifp *netif.Interface, ip netip.Addr) error
	// Output sends pkt, whose window begins with the ICMPv6 header.
	Output(w *netif.Work, pkt *packet.Buf, f *socket.Flow) error
	// Forwarding reports that this is a router.
	Forwarding() bool
	// Invalidate makes every cached route, and with it the source address that
	// was chosen, be looked up again.
	Invalidate()
}

// ND is what this room needs of neighbour discovery (nd6).
type ND interface {
	// Heard notes that ip sent a Router Advertisement (router), or a
	// solicitation of routers; known: it told its link address, mac (RFC 4861
	// §6.2.6, §6.3.4).
	Heard(w *netif.Work, ifp *netif.Interface, ip netip.Addr, mac netif.MAC, known, router bool)
	// Reachable reports that the neighbour is or probably is there: its entry
	// is in any state but INCOMPLETE (§6.3.6).
	Reachable(ifp *netif.Interface, ip netip.Addr) bool
	// Learn takes over parameters of the link.
	Learn(w *netif.Work, ifp *netif.Interface, p Parameters)
	// AcceptsRA reports that advertisements on ifp are wanted
	// (ND6_IFF_ACCEPT_RTADV). It is asked with a lock held, so it calls nobody.
	AcceptsRA(ifp *netif.Interface) bool
}

// Parameters are what a router says of its link; 0: it does not say.
type Parameters struct {
	HopLimit  uint8
	Reachable uint32 // milliseconds, at most an hour
	Retrans   uint32 // milliseconds
	MTU       uint32 // octets, 1280 up to the interface's
}

const second = int64(1e9)

// forever is a lifetime without end, in seconds.
const forever = ^uint32(0)

var (
	nodeAccept = mib.Int("net.inet6.ip6.accept_rtadv", 1, "Obey Router Advertisements. Nobody does while forwarding is on. KAME's default is 0.", mib.Bool())
	nodeLocal  = mib.Int("net.inet6.ip6.auto_linklocal", 1, "Give an interface that comes up a link-local address.", mib.Bool())
	nodePrune  = mib.Int("net.inet6.icmp6.nd6_prune", 1, "Seconds between two looks at what has run out on an interface.", mib.Range(1, 3600))

	nodeMaxRouters  = mib.Int("net.inet6.ip6.maxifdefrouters", 16, "Routers of one interface that are remembered at most.", mib.Range(1, 4096))
	nodeMaxPrefixes = mib.Int("net.inet6.ip6.maxifprefixes", 16, "Prefixes of one interface that are learnt at most.", mib.Range(1, 4096))
	nodeMaxAddrs    = mib.Int("net.inet6.ip6.maxifautoaddrs", 64, "Addresses of one interface that are made from prefixes at most (ionet's own).", mib.Range(1, 4096))

	cntRA          = mib.NewCounter("nd6", "router advertisements", "# router advertisement{s} obeyed")
	cntBadRA       = mib.NewCounter("icmp6", "bad router advertisement", "# bad router advertisement message{s}")
	cntBadRS       = mib.NewCounter("icmp6", "bad router solicitation", "# bad router solicitation message{s}")
	cntUnwanted    = mib.NewCounter("nd6", "unwanted router advertisement", "# router advertisement{s} not wanted")
	cntSolicited   = mib.NewCounter("nd6", "router solicitations", "# router solicitation{s} sent")
	cntRefused     = mib.NewCounter("nd6", "advertised limit", "# router{s}, prefix{es}, routes and servers refused because there were too many")
	cntEvicted     = mib.NewCounter("nd6", "routers displaced", "# router{s} forgotten for another one")
	cntBadOption   = mib.NewCounter("nd6", "bad advertised option", "# option{s} of router advertisements not obeyed")
	cntUnreachable = mib.NewCounter("nd6", "routers unreachable", "# router{s} found unreachable")
	cntTempFailed  = mib.NewCounter("nd6", "temporary duplicated", "# temporary address{es} that another station had")
	cntNoMem       = mib.NewCounter("nd6", "solicitation no memory", "# router solicitation{s} not sent for want of memory")
)

// Autoconf is one stack's autoconfiguration.
type Autoconf struct {
	env    *netif.Env
	routes *route.Table
	inet   Inet
	nd     ND
	secret [16]byte // of stable identifiers, unless net.inet6.ip6.soiikey is set
	loud   neigh.Loudness

	mu        sync.Mutex // a leaf, but for the timer wheel
	links     []*link    // in order of index
	defIf     *netif.Interface
	chosen    *router // the default route's
	doomed    []holding
	stale     bool // an address has become deprecated
	posted    bool // apply is on a work list
	applying  bool // by whom what follows is written
	again     bool
	installed map[netip.Prefix]route.Spec
}

// holding is an address of an interface; made: from a prefix, so that one given
// by hand that is the same is not meant.
type holding struct {
	ifp  *netif.Interface
	ip   netip.Addr
	made bool
}

// link is what is known of one interface's link.
type link struct {
	a   *Autoconf
	ifp *netif.Interface
	up  bool
	// off: another station has our link-local address, so IPv6 is not used here
	// (RFC 4862 §5.4.5).
	off      bool
	local    netip.Addr // the link-local address made here
	localTry int        // RFC 7217's DAD_Counter for it
	want     bool       // local is to be made

	routers  []*router
	prefixes []*prefix
	infos    []*info
	servers  []server
	domains  []domain
	managed  bool
	other    bool
	mtu      uint32
	tempTry  int // temporary addresses in a row that were duplicates

	sol    solicitor
	timer  callout.Timer[*netif.Work] // the next lifetime to end
	pruned int64
	wipe   bool // forget what was learnt, at the timer
	begin  bool // solicit, at the timer
}

// New makes the room.
func New(env *netif.Env, routes *route.Table, inet Inet, nd ND) *Autoconf {
	a := &Autoconf{env: env, routes: routes, inet: inet, nd: nd, installed: map[netip.Prefix]route.Spec{}}
	for i := 0; i < len(a.secret); i += 4 {
		binary.BigEndian.PutUint32(a.secret[i:], env.Rand32())
	}
	env.MIB.OnChange(nodeTempPreferred, func(_, n int64) error { return checkTemp(n, env.MIB.Int(nodeTempValid)) })
	env.MIB.OnChange(nodeTempValid, func(_, n int64) error { return checkTemp(env.MIB.Int(nodeTempPreferred), n) })
	env.MIB.OnChangeStr(nodeKey, func(_, key string) error {
		if _, ok := parseKey(key); !ok {
			return fmt.Errorf("%s is 32 hexadecimal digits, or empty: %w", nodeKey.Name, syscall.EINVAL)
		}
		return nil
	})
	return a
}

// find is the link of ifp, or nil. mu is held.
func (a *Autoconf) find(ifp *netif.Interface) *link {
	for _, l := range a.links {
		if l.ifp == ifp {
			return l
		}
	}
	return nil
}

func (a *Autoconf) link(ifp *netif.Interface) *link {
	if l := a.find(ifp); l != nil {
		return l
	}
	l := &link{a: a, ifp: ifp}
	l.timer.Fn = func(w *netif.Work) { a.expire(w, l) }
	l.sol.timer.Fn = func(w *netif.Work) { a.solicit(w, l) }
	a.links = append(a.links, l)
	slices.SortFunc(a.links, func(x, y *link) int { return cmp.Compare(x.ifp.Index, y.ifp.Index) })
	return l
}

// changed has the addresses and routes follow what has been learnt. mu is held.
func (a *Autoconf) changed(w *netif.Work) {
	if !a.posted {
		a.posted = true
		w.Post(a.apply)
	}
}

// control makes a change for a caller that is not inside a Work.
func (a *Autoconf) control(f func(w *netif.Work)) {
	w := a.env.Begin(a.env.Now())
	a.mu.Lock()
	f(w)
	a.changed(w)
	a.mu.Unlock()
	w.End()
}

// InterfaceUp begins on an interface that came up: it gets a link-local
// address, and routers are solicited while that is still being asked for (RFC
// 4862 §4: the two may go on side by side). It may be called with locks of IPv6
// held; the address comes a tick later.
func (a *Autoconf) InterfaceUp(ifp *netif.Interface) {
	if ifp.Flags()&netif.FlagLoopback != 0 || ifp.Flags()&netif.FlagMulticast == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.link(ifp)
	l.up, l.off, l.localTry, l.tempTry = true, false, 0, 0
	l.want = a.env.MIB.On(nodeLocal)
	now := a.env.Now()
	a.beginSolicit(now, l)
	l.kick()
}

// down forgets what only a router that can be heard is good for: routers, their
// routes, DNS servers. Addresses and prefixes stay for their time; if the link
// turns out to be another one, they become detached. mu is held.
func (l *link) down() {
	l.up, l.want = false, false
	l.stopSolicit()
	l.forgetRouters()
	l.servers, l.domains = nil, nil
	l.kick()
}

// Detach forgets a departing interface; its addresses and routes go with it. A
// control call.
func (a *Autoconf) Detach(ifp *netif.Interface) {
	a.control(func(*netif.Work) {
		l := a.find(ifp)
		if l == nil {
			return
		}
		l.stop()
		l.forgetRouters()
		a.links = slices.DeleteFunc(a.links, func(o *link) bool { return o == l })
		if a.defIf == ifp {
			a.defIf = nil
		}
	})
}

// Close ends all timers, with the stack.
func (a *Autoconf) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.links {
		l.up = false
		l.stop()
	}
}

func (l *link) stop() {
	l.stopSolicit()
	l.a.env.Wheel.Stop(&l.timer)
}

// ForwardingChanged tells that this host has become a router, which believes no
// other (RFC 4861 §6.2.7) and forgets what it has learnt, or that it is a host
// again, which solicits. It may be called from anywhere.
func (a *Autoconf) ForwardingChanged(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.links {
		if l.wipe, l.begin = on, !on; on {
			l.stopSolicit()
		}
		a.env.Wheel.Reset(&l.timer, a.env.Now())
	}
}

// accepts reports whether advertisements on ifp are obeyed.
func (a *Autoconf) accepts(ifp *netif.Interface) bool {
	return a.env.MIB.On(nodeAccept) && !a.inet.Forwarding() && a.nd.AcceptsRA(ifp)
}

// Input takes over a Router Solicitation or Advertisement; the window begins at
// the ICMPv6 header, whose checksum is right, L3 is marked.
func (a *Autoconf) Input(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	if packet.ICMP6(p.Bytes()).Type() == packet.ICMP6RouterAdv {
		a.advertisement(w, ifp, p)
	} else {
		a.solicitation(w, ifp, p)
	}
}

// valid is what RFC 4861 §6.1.1 and §6.1.2 ask of both messages; n is the
// length before the options.
func valid(h packet.IPv6, m packet.ICMP6, n int) bool {
	return h.HopLimit() == 255 && len(m) >= n && m.Code() == 0 && packet.CheckNDOptions(m[n:])
}

// solicitation notes who asks, if this is a router; the answer is rtadvd's (RFC
// 4861 §6.2.6).
func (a *Autoconf) solicitation(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	h, m := packet.IPv6(p.L3()), packet.ICMP6(p.Bytes())
	if !valid(h, m, packet.RouterSolLen) {
		w.Drop(p, cntBadRS)
		return
	}
	src := h.Src()
	mac, known := linkAddr(m[packet.RouterSolLen:])
	if src.IsUnspecified() && known {
		w.Drop(p, cntBadRS)
		return
	}
	if known && a.inet.Forwarding() {
		a.nd.Heard(w, ifp, packet.Scoped(src, ifp.Index), mac, true, false)
	}
	p.Free()
}

// linkAddr is the sender's link address, if it tells one of Ethernet.
func linkAddr(opts []byte) (mac netif.MAC, known bool) {
	if o := packet.FindNDOption(opts, packet.NDOptSourceLink); len(o) == 8 {
		return netif.MAC(o.Data()), true
	}
	return mac, false
}

// advertisement obeys a Router Advertisement (RFC 4861 §6.3.4).
func (a *Autoconf) advertisement(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	h, m := packet.IPv6(p.L3()), packet.ICMP6(p.Bytes())
	src := packet.Scoped(h.Src(), ifp.Index)
	if !valid(h, m, packet.RouterAdvLen) || !src.IsLinkLocalUnicast() {
		w.Drop(p, cntBadRA)
		return
	}
	if p.Flags&packet.FlagLoop != 0 || isOurs(ifp, src) || !a.accepts(ifp) {
		w.Drop(p, cntUnwanted)
		return
	}
	ra := packet.RouterAdv(m)
	par := Parameters{HopLimit: ra.HopLimit(), Retrans: ra.Retrans()}
	if r := ra.Reachable(); r <= maxReachable {
		par.Reachable = r
	}
	a.mu.Lock()
	l := a.find(ifp)
	if l == nil || !l.up || l.off {
		a.mu.Unlock()
		w.Drop(p, cntUnwanted)
		return
	}
	w.Count(cntRA)
	r := l.heard(w, src, ra)
	l.managed, l.other = ra.Flags()&packet.RAFlagManaged != 0, ra.Flags()&packet.RAFlagOther != 0
	for opts := ra.Options(); len(opts) > 0; {
		var o packet.NDOption
		o, opts, _ = packet.NextNDOption(opts)
		ok := true
		switch o.Type() {
		case packet.NDOptMTU:
			if ok = l.takeMTU(o); ok {
				par.MTU = l.mtu
			}
		case packet.NDOptPrefix:
			ok = l.takePrefix(w, o, r)
		case packet.NDOptRouteInfo:
			ok = l.takeInfo(w, o, r)
		case packet.NDOptRDNSS:
			ok = l.takeServers(w, o)
		case packet.NDOptDNSSL:
			ok = l.takeDomains(w, o)
		}
		if !ok {
			w.Count(cntBadOption)
		}
	}
	l.tidy()
	l.rearm(w.Now)
	a.changed(w)
	a.mu.Unlock()
	mac, known := linkAddr(ra.Options())
	a.nd.Heard(w, ifp, src, mac, known, true)
	a.nd.Learn(w, ifp, par)
	p.Free()
}

// maxReachable is MAX_REACHABLE_TIME (RFC 4861 §6.2.1), in milliseconds.
const maxReachable = 3_600_000

// takeMTU obeys an MTU that the link can have (RFC 4861 §6.3.4).
func (l *link) takeMTU(o packet.NDOption) bool {
	mtu := binary.BigEndian.Uint32(o[4:])
	if len(o) != 8 || mtu < packet.MinMTU6 || int64(mtu) > int64(l.ifp.MTU()) {
		return false
	}
	l.mtu = mtu
	return true
}

func isOurs(ifp *netif.Interface, ip netip.Addr) bool {
	o := find(ifp, ip)
	return o != nil && !o.Duplicated
}

// Managed is what a link's router last said of DHCPv6: whether it has addresses
// (M), or other configuration (O).
func (a *Autoconf) Managed(ifp *netif.Interface) (managed, other bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.find(ifp); l != nil {
		return l.managed, l.other
	}
	return false, false
}

func (a *Autoconf) log(now int64, level slog.Level, msg string, args ...any) {
	if !a.loud.Quiet(now) {
		a.env.Log.Log(context.Background(), level, msg, args...)
	}
}
