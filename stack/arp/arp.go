// Package arp resolves IPv4 neighbours on Ethernet (RFC 826) and looks after
// conflicts over our own addresses (RFC 5227).
//
// An entry is incomplete (asked for), complete, or unreachable (asked for in
// vain; senders are told so until it is forgotten). A complete entry in use
// is asked again, unicast, before it expires (RFC 1122 §2.3.2.1).
package arp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/cmap"
	"ionet/stack/mib"
	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Link is what ARP sends through (the ether room).
type Link interface {
	Send(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, dst netif.MAC, typ uint16)
}

const second = int64(1e9)

var (
	nodeKeep  = mib.Int("net.inet.arp.keep", 1200, "Seconds a resolved neighbour is kept.", mib.Range(1, 1<<30))
	nodeDown  = mib.Int("net.inet.arp.down", 20, "Seconds a neighbour that does not answer is left alone.", mib.Range(0, 86400))
	nodeTries = mib.Int("net.inet.arp.maxtries", 5, "Requests to a silent neighbour before it is held to be down.", mib.Range(1, 100))
	nodeMax   = mib.Int("net.inet.arp.maxentries", 16384, "Neighbours that are remembered at most.", mib.Range(16, 1<<24))

	cntRequestsOut = mib.NewCounter("arp", "requests sent", "# ARP request{s} sent")
	cntRepliesOut  = mib.NewCounter("arp", "replies sent", "# ARP repl{y} sent")
	cntRequestsIn  = mib.NewCounter("arp", "requests received", "# ARP request{s} received")
	cntRepliesIn   = mib.NewCounter("arp", "replies received", "# ARP repl{y} received")
	cntDone        = mib.NewCounter("arp", "received", "# valid ARP packet{s} received")
	cntBad         = mib.NewCounter("arp", "bad ARP packet", "# bad or foreign ARP packet{s}")
	cntNotTarget   = mib.NewCounter("arp", "ARP for others", "# ARP packet{s} for other hosts")
	cntHeld        = mib.NewCounter("arp", "held", "# packet{s} held for an ARP reply")
	cntOverflow    = mib.NewCounter("arp", "ARP queue full", "# packet{s} dropped while waiting for a reply")
	cntNoAnswer    = mib.NewCounter("arp", "no ARP answer", "# packet{s} dropped because nobody answered")
	cntFull        = mib.NewCounter("arp", "ARP table full", "# packet{s} dropped because the table was full")
	cntConflict    = mib.NewCounter("arp", "address conflict", "# conflict{s} over an address of ours")
	cntEvicted     = mib.NewCounter("arp", "evicted", "# neighbour{s} forgotten because the table was full")
	cntStatic      = mib.NewCounter("arp", "permanent entry", "# attempt{s} to change a permanent entry")
	cntNoMem       = mib.NewCounter("arp", "no memory", "# packet{s} not sent for want of memory")
)

// Flags of an entry.
const (
	Permanent = 1 << iota
	Published // we answer for it
	ProxyOnly // and do not use it ourselves
)

// view is what the packet path reads of an entry. Immutable.
type view struct {
	mac   netif.MAC
	known bool
	down  bool
	flags uint8
}

type entry struct {
	ip   netip.Addr
	ifp  *netif.Interface
	hash uint64
	near netif.Neighbour
	v    atomic.Pointer[view]

	mu      sync.Mutex
	held    neigh.Queue // owner: the entry; bound: neigh.MaxHeld; full: the oldest is dropped
	tries   int
	expire  int64
	used    uint64 // value of use when last refreshed
	removed bool
	timer   callout.Timer[*netif.Work]
}

// ARP is one stack's ARP.
type ARP struct {
	env   *netif.Env
	link  Link
	key   uint64
	table cmap.Map[*entry]
	held  neigh.Budget
	acd   acd
	loud  neigh.Loudness
	// Changed, if set, is told what becomes of neighbours, of each in order: under
	// the lock of its entry, so that it may do no more than note it.
	Changed func(i Info, c neigh.Change)
	// notFound answers a packet from elsewhere whose next hop is silent.
	notFound func(w *netif.Work, pkt *packet.Buf)
}

// Info describes an entry.
type Info struct {
	IP     netip.Addr
	MAC    netif.MAC
	Known  bool // false: incomplete
	If     *netif.Interface
	Expire int64 // time of the stack's clock; 0: permanent
	Flags  uint8
	Use    uint64
}

// New makes the room; unreachable is told of a packet from elsewhere that
// waited in vain, before it is dropped (ICMP host unreachable).
func New(env *netif.Env, link Link, unreachable func(w *netif.Work, pkt *packet.Buf)) *ARP {
	a := &ARP{env: env, link: link, key: uint64(env.Rand32())<<32 | uint64(env.Rand32()), notFound: unreachable}
	a.table.Init()
	a.acd.probes = map[acdKey]*probe{}
	a.acd.defended = map[acdKey]int64{}
	return a
}

func (a *ARP) hash(ifp *netif.Interface, ip netip.Addr) uint64 {
	b := ip.As4()
	h := (a.key ^ uint64(b[0])<<24 ^ uint64(b[1])<<16 ^ uint64(b[2])<<8 ^ uint64(b[3]) ^ uint64(ifp.Index)<<32) * 0x9e3779b97f4a7c15
	return h ^ h>>31
}

func (a *ARP) find(ifp *netif.Interface, ip netip.Addr) *entry {
	h := a.hash(ifp, ip)
	b := a.table.Bucket(h)
	for i := 0; i < b.Len(); i++ {
		if k, e := b.At(i); k == h && e.ip == ip && e.ifp == ifp {
			return e
		}
	}
	return nil
}

// Neighbour is ether.Resolver.
func (a *ARP) Neighbour(ifp *netif.Interface, nexthop netip.Addr) *netif.Neighbour {
	if e := a.find(ifp, nexthop); e != nil {
		return &e.near
	}
	return nil
}

// show publishes what the packet path reads of e.
func (e *entry) show(v *view) {
	e.v.Store(v)
	if v.known && v.flags&ProxyOnly == 0 {
		e.near.Set(v.mac)
	} else {
		e.near.Unset()
	}
}

// Resolve is ether.Resolver.
func (a *ARP) Resolve(w *netif.Work, ifp *netif.Interface, nexthop netip.Addr, pkt *packet.Buf) (netif.MAC, bool, error) {
	e := a.find(ifp, nexthop)
	if e != nil {
		if v := e.v.Load(); v.known && v.flags&ProxyOnly == 0 {
			e.near.Use.Add(1)
			return v.mac, true, nil
		} else if v.down || v.known {
			w.Drop(pkt, cntNoAnswer)
			return netif.MAC{}, false, syscall.EHOSTDOWN
		}
	}
	if ifp.Flags()&netif.FlagNoARP != 0 {
		w.Drop(pkt, cntNoAnswer)
		return netif.MAC{}, false, syscall.EHOSTDOWN
	}
	if e = a.lock(w, ifp, nexthop); e == nil {
		w.Drop(pkt, cntFull)
		return netif.MAC{}, false, syscall.ENOBUFS
	}
	e.near.Use.Add(1)
	if v := e.v.Load(); v.known { // the answer came just now
		e.mu.Unlock()
		return v.mac, true, nil
	}
	old := e.held.Hold(&a.held, pkt)
	if old != pkt {
		w.Count(cntHeld)
	}
	ask := e.tries == 0
	if ask {
		e.tries = 1
		a.env.Wheel.Reset(&e.timer, w.Now+second)
	}
	e.mu.Unlock()
	if old != nil {
		w.Drop(old, cntOverflow)
	}
	if ask {
		a.request(w, ifp, nexthop, netif.BroadcastMAC)
	}
	return netif.MAC{}, false, nil
}

// lock answers the entry for ip, made if need be, with its lock held; nil when
// the table is full. One that is being removed is not answered: what it were
// given would be lost.
func (a *ARP) lock(w *netif.Work, ifp *netif.Interface, ip netip.Addr) *entry {
	for {
		e := a.find(ifp, ip)
		if e == nil {
			if e = a.make(w, ifp, ip); e == nil {
				return nil
			}
		}
		e.mu.Lock()
		if !e.removed {
			return e
		}
		e.mu.Unlock()
		a.table.Remove(e.hash, e)
	}
}

// make adds an incomplete entry. In a full table it takes the place of
// another; nil: every one looked at is permanent.
func (a *ARP) make(w *netif.Work, ifp *netif.Interface, ip netip.Addr) *entry {
	if a.table.Len() >= int(a.env.MIB.Int(nodeMax)) && !a.evict(w) {
		return nil
	}
	e := &entry{ip: ip, ifp: ifp, hash: a.hash(ifp, ip)}
	e.near.If = ifp
	e.show(&view{})
	e.timer.Fn = func(w *netif.Work) { a.expire(w, e) }
	old, found := a.table.AddUnless(e.hash, e, func(o *entry) bool { return o.ip == ip && o.ifp == ifp })
	if found {
		return old
	}
	return e
}

// evict removes the entry that is missed least among some chosen at random, so
// that no station on the link can keep us from knowing new neighbours: one
// that is down, then one that was never used since it was learnt, then one
// still asked for, last the one that was learnt first.
func (a *ARP) evict(w *netif.Work) bool {
	victim, ok := neigh.Victim(&a.table, a.env.Rand32, (*entry).rank)
	if !ok {
		return false
	}
	w.Count(cntEvicted)
	a.remove(w, victim)
	return true
}

// rank is how little the entry is missed; 0: it stays.
func (e *entry) rank() (rank int, at int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.v.Load()
	switch {
	case e.removed || v.flags&Permanent != 0:
		return 0, e.expire
	case v.down:
		return 4, e.expire
	case v.known && e.near.Use.Load() == e.used:
		return 3, e.expire
	case !v.known:
		return 2, e.expire
	}
	return 1, e.expire
}

// changed tells what has become of e, whose lock is held.
func (a *ARP) changed(e *entry, c neigh.Change) {
	if a.Changed != nil {
		a.Changed(e.infoLocked(), c)
	}
}

func (e *entry) info() Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.infoLocked()
}

func (e *entry) infoLocked() Info {
	v := e.v.Load()
	return Info{IP: e.ip, MAC: v.mac, Known: v.known, If: e.ifp, Expire: e.expire, Flags: v.flags, Use: e.near.Use.Load()}
}

// expire runs when an entry's timer fires: another try, a refresh, or the end.
func (a *ARP) expire(w *netif.Work, e *entry) {
	e.mu.Lock()
	v := e.v.Load()
	switch {
	case e.removed || v.flags&Permanent != 0:
		e.mu.Unlock()
	case v.down:
		e.mu.Unlock()
		a.remove(w, e)
	case v.known && e.tries == 0 && e.near.Use.Load() == e.used:
		e.mu.Unlock()
		a.remove(w, e)
	case e.tries < int(a.env.MIB.Int(nodeTries)):
		e.tries++
		to := netif.BroadcastMAC
		if v.known {
			to = v.mac
		}
		a.env.Wheel.Reset(&e.timer, w.Now+second)
		e.mu.Unlock()
		a.request(w, e.ifp, e.ip, to)
	default:
		held := e.held.Release(&a.held)
		if v.known {
			a.changed(e, neigh.Lost)
		} else {
			a.changed(e, neigh.Silent)
		}
		e.show(&view{down: true})
		e.expire = w.Now + a.env.MIB.Int(nodeDown)*second
		a.env.Wheel.Reset(&e.timer, e.expire)
		e.mu.Unlock()
		for _, p := range held {
			if p.RcvIf != 0 {
				a.notFound(w, p)
			}
			w.Drop(p, cntNoAnswer)
		}
	}
}

func (a *ARP) remove(w *netif.Work, e *entry) {
	e.mu.Lock()
	if e.removed {
		e.mu.Unlock()
		return
	}
	e.removed = true
	e.near.Unset()
	held := e.held.Release(&a.held)
	if e.v.Load().known {
		a.changed(e, neigh.Lost)
	}
	e.mu.Unlock()
	a.env.Wheel.Stop(&e.timer)
	a.table.Remove(e.hash, e)
	for _, p := range held {
		w.Drop(p, cntNoAnswer)
	}
}

// learn notes a neighbour's link address and sends what waited for it.
func (a *ARP) learn(w *netif.Work, e *entry, mac netif.MAC) {
	e.mu.Lock()
	v := e.v.Load()
	if e.removed || v.flags&Permanent != 0 {
		static := v.flags&Permanent != 0 && v.mac != mac
		e.mu.Unlock()
		if static {
			w.Count(cntStatic)
			a.log(w, slog.LevelWarn, "arp: attempt to change a permanent entry", "address", e.ip, "to", mac, "interface", e.ifp.Name)
		}
		return
	}
	if v.known && v.mac != mac {
		a.log(w, slog.LevelInfo, "arp: neighbour moved", "address", e.ip, "from", v.mac, "to", mac, "interface", e.ifp.Name)
	}
	fresh := !v.known || v.mac != mac
	if fresh {
		e.show(&view{mac: mac, known: true, flags: v.flags})
	}
	e.tries, e.used = 0, e.near.Use.Load()
	e.expire = w.Now + a.env.MIB.Int(nodeKeep)*second
	held := e.held.Release(&a.held)
	a.env.Wheel.Reset(&e.timer, e.expire)
	switch {
	case !v.known:
		a.changed(e, neigh.Found)
	case fresh:
		a.changed(e, neigh.Moved)
	}
	e.mu.Unlock()
	for _, p := range held {
		a.link.Send(w, e.ifp, p, mac, packet.EtherIPv4)
	}
}

// Set makes or changes an entry by hand. A life of 0 seconds means permanent.
func (a *ARP) Set(w *netif.Work, ifp *netif.Interface, ip netip.Addr, mac netif.MAC, flags uint8, life int64) error {
	if !ip.Is4() {
		return syscall.EAFNOSUPPORT
	}
	e := a.lock(w, ifp, ip)
	if e == nil {
		return syscall.ENOBUFS
	}
	e.expire, e.tries = 0, 0
	if life == 0 {
		flags |= Permanent
		a.env.Wheel.Stop(&e.timer)
	} else {
		flags &^= Permanent
		e.expire = w.Now + life*second
		a.env.Wheel.Reset(&e.timer, e.expire)
	}
	c := neigh.Found
	if e.v.Load().known {
		c = neigh.Moved
	}
	e.show(&view{mac: mac, known: true, flags: flags})
	held := e.held.Release(&a.held)
	a.changed(e, c)
	e.mu.Unlock()
	for _, p := range held {
		a.link.Send(w, ifp, p, mac, packet.EtherIPv4)
	}
	return nil
}

// Delete removes an entry. ENXIO: there is none.
func (a *ARP) Delete(w *netif.Work, ifp *netif.Interface, ip netip.Addr) error {
	e := a.find(ifp, ip)
	if e == nil {
		return syscall.ENXIO
	}
	a.remove(w, e)
	return nil
}

// Flush removes the entries of an interface, or those inside a network of it.
func (a *ARP) Flush(w *netif.Work, ifp *netif.Interface, in netip.Prefix) {
	for _, e := range a.entries() {
		if e.ifp == ifp && (!in.IsValid() || in.Contains(e.ip)) {
			a.remove(w, e)
		}
	}
}

func (a *ARP) entries() (out []*entry) {
	a.table.All(func(e *entry) bool { out = append(out, e); return true })
	return out
}

// Entries describe the table, in no order.
func (a *ARP) Entries() []Info {
	es := a.entries()
	out := make([]Info, len(es))
	for i, e := range es {
		out[i] = e.info()
	}
	return out
}

// Lookup describes one entry.
func (a *ARP) Lookup(ifp *netif.Interface, ip netip.Addr) (Info, bool) {
	if e := a.find(ifp, ip); e != nil {
		return e.info(), true
	}
	return Info{}, false
}

// request asks for ip, or, to a unicast address, asks its owner again.
func (a *ARP) request(w *netif.Work, ifp *netif.Interface, ip netip.Addr, to netif.MAC) {
	src := sourceFor(ifp, ip)
	if !src.IsValid() {
		return
	}
	w.Count(cntRequestsOut)
	a.send(w, ifp, to, packet.ARPRequest, ifp.MAC(), src, netif.MAC{}, ip)
}

// sourceFor is the address to ask with: one on the neighbour's network.
func sourceFor(ifp *netif.Interface, ip netip.Addr) (src netip.Addr) {
	for _, a := range ifp.Addrs() {
		if !a.Addr.Is4() || a.Tentative || a.Duplicated {
			continue
		}
		if a.Prefix().Contains(ip) {
			return a.Addr
		}
		if !src.IsValid() {
			src = a.Addr
		}
	}
	return src
}

func (a *ARP) send(w *netif.Work, ifp *netif.Interface, to netif.MAC, op uint16, smac netif.MAC, sip netip.Addr, tmac netif.MAC, tip netip.Addr) {
	p := a.env.Pool.Get(packet.ARPLen)
	if p == nil {
		w.Count(cntNoMem)
		return
	}
	p.MarkL3(0)
	packet.PutARP(p.Append(packet.ARPLen), op, smac, sip, tmac, tip)
	if to.IsMulticast() {
		p.Flags |= packet.FlagBroadcast
	}
	a.link.Send(w, ifp, p, to, packet.EtherARP)
}

func (a *ARP) log(w *netif.Work, level slog.Level, msg string, args ...any) {
	if !a.loud.Quiet(w.Now) {
		a.env.Log.Log(context.Background(), level, msg, args...)
	}
}

func (i Info) String() string { return fmt.Sprintf("%v at %v on %s", i.IP, i.MAC, i.If.Name) }
