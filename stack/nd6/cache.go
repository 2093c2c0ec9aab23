package nd6

import (
	"container/list"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// view is what the packet path reads of an entry. Immutable.
type view struct {
	mac    netif.MAC
	state  State
	flags  uint8
	router bool
}

// known reports whether mac is.
func (v *view) known() bool { return v.state != Incomplete && v.state != Unreachable }

type entry struct {
	ip   netip.Addr
	ifp  *netif.Interface
	hash uint64
	near netif.Neighbour
	hint atomic.Int64 // when an upper layer last said that it answers
	v    atomic.Pointer[view]

	mu      sync.Mutex
	held    neigh.Queue // owner: the entry; bound: neigh.MaxHeld; full: the oldest is dropped
	tries   int         // solicitations without an answer
	hints   int         // times that hints alone have kept it reachable
	began   int64       // when it became reachable
	expire  int64
	learnt  int64
	used    uint64 // value of use when last learnt
	removed bool
	timer   callout.Timer[*netif.Work]

	// Of the crowd it stands in while it is asked for; the crowds' lock.
	place *list.Element
	crowd int
}

// crowds are the entries that are asked for, the oldest first: those for
// packets of ours, and those for packets from elsewhere, so that a scan through a
// router does not touch the neighbours it asks for itself (RFC 6583). The
// lock is a leaf.
type crowds struct {
	mu sync.Mutex
	of [2]list.List
}

// enter puts e at the end of its crowd, and answers who has to give up for it.
func (c *crowds) enter(e *entry, foreign bool, max int) (victim *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.place != nil {
		return nil
	}
	if e.crowd = 0; foreign {
		e.crowd = 1
	}
	l := &c.of[e.crowd]
	if l.Len() >= max {
		victim = l.Front().Value.(*entry)
		l.Remove(victim.place)
		victim.place = nil
	}
	e.place = l.PushBack(e)
	return victim
}

func (c *crowds) leave(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.place != nil {
		c.of[e.crowd].Remove(e.place)
		e.place = nil
	}
}

// Neighbour is ether.Resolver.
func (nd *ND) Neighbour(ifp *netif.Interface, nexthop netip.Addr) *netif.Neighbour {
	if e := nd.find(ifp, nexthop); e != nil {
		return &e.near
	}
	return nil
}

// show publishes what the packet path reads of e. A packet to a neighbour that
// is stale is also the cause of a question (RFC 4861 §7.3.3).
func (e *entry) show(v *view) {
	e.v.Store(v)
	switch v.state {
	case Reachable, Delay, Probing, Static:
		e.near.Set(v.mac)
	default:
		e.near.Unset()
	}
}

// Resolve is ether.Resolver.
func (nd *ND) Resolve(w *netif.Work, ifp *netif.Interface, nexthop netip.Addr, pkt *packet.Buf) (netif.MAC, bool, error) {
	return nd.resolve(w, ifp, nexthop, pkt, pkt.RcvIf != 0)
}

// resolve is Resolve for a packet that somebody else is the cause of (foreign),
// or that is ours.
func (nd *ND) resolve(w *netif.Work, ifp *netif.Interface, nexthop netip.Addr, pkt *packet.Buf, foreign bool) (netif.MAC, bool, error) {
	if e := nd.find(ifp, nexthop); e != nil {
		switch v := e.v.Load(); v.state {
		case Reachable, Delay, Probing, Static:
			e.near.Use.Add(1)
			return v.mac, true, nil
		case Stale:
			e.near.Use.Add(1)
			nd.suspect(w, e)
			return v.mac, true, nil
		case Unreachable, Proxied:
			w.Drop(pkt, cntNoAnswer)
			return netif.MAC{}, false, syscall.EHOSTDOWN
		}
	}
	return nd.ask(w, ifp, nexthop, pkt, foreign)
}

// ask has pkt wait for a neighbour that is asked for, beginning now if need be
// (RFC 4861 §7.2.2).
func (nd *ND) ask(w *netif.Work, ifp *netif.Interface, nexthop netip.Addr, pkt *packet.Buf, foreign bool) (netif.MAC, bool, error) {
	e := nd.lock(w, ifp, nexthop)
	if e == nil {
		w.Drop(pkt, cntFull)
		return netif.MAC{}, false, syscall.ENOBUFS
	}
	e.near.Use.Add(1)
	v := e.v.Load()
	switch {
	case v.state == Unreachable || v.state == Proxied:
		e.mu.Unlock()
		w.Drop(pkt, cntNoAnswer)
		return netif.MAC{}, false, syscall.EHOSTDOWN
	case v.known(): // the answer came just now
		e.mu.Unlock()
		return v.mac, true, nil
	}
	var want netip.Addr
	if h, ok := packet.CheckIPv6(pkt.Bytes()); ok {
		want = packet.Scoped(h.Src(), ifp.Index)
	}
	old := e.held.Hold(&nd.held, pkt)
	if old != pkt {
		w.Count(cntHeld)
	}
	first := e.tries == 0
	var victim *entry
	if first {
		e.tries = 1
		nd.become(w, e, view{state: Incomplete, flags: v.flags})
		victim = nd.asked.enter(e, foreign, int(nd.env.MIB.Int(nodeMaxWait)))
	}
	e.mu.Unlock()
	if old != nil {
		w.Drop(old, cntOverflow)
	}
	if victim != nil {
		nd.giveUp(w, victim)
	}
	if first {
		nd.solicit(w, ifp, nexthop, want, nil)
	}
	return netif.MAC{}, false, nil
}

// lock answers the entry for ip, made if need be, with its lock held; nil when
// the table is full. One that is being removed is not answered: what it were
// given would be lost.
func (nd *ND) lock(w *netif.Work, ifp *netif.Interface, ip netip.Addr) *entry {
	for {
		e := nd.find(ifp, ip)
		if e == nil {
			if e = nd.make(w, ifp, ip); e == nil {
				return nil
			}
		}
		e.mu.Lock()
		if !e.removed {
			return e
		}
		e.mu.Unlock()
		nd.table.Remove(e.hash, e)
	}
}

// make adds an incomplete entry. In a full table it takes the place of
// another; nil: every one looked at is permanent.
func (nd *ND) make(w *netif.Work, ifp *netif.Interface, ip netip.Addr) *entry {
	if nd.table.Len() >= int(nd.env.MIB.Int(nodeMax)) && !nd.evict(w) {
		return nil
	}
	e := &entry{ip: ip, ifp: ifp, hash: nd.hash(ifp, ip), learnt: w.Now}
	e.near.If = ifp
	e.show(&view{})
	e.timer.Fn = func(w *netif.Work) { nd.expire(w, e) }
	old, found := nd.table.AddUnless(e.hash, e, func(o *entry) bool { return o.ip == ip && o.ifp == ifp })
	if found {
		return old
	}
	return e
}

// evict removes the entry that is missed least among some chosen at random, so
// that no station on the link can keep us from knowing new neighbours: one
// that is silent, then one that was never used since it was learnt, then one
// still asked for, last the one that was learnt first. A router is missed most,
// used or not: a host that does not know it would go over to another.
func (nd *ND) evict(w *netif.Work) bool {
	victim, ok := neigh.Victim(&nd.table, nd.env.Rand32, nd.rank)
	if !ok {
		return false
	}
	w.Count(cntEvicted)
	nd.remove(w, victim)
	return true
}

// rank is how little an entry is missed; 0: it stays.
func (nd *ND) rank(e *entry) (rank int, at int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.v.Load()
	switch {
	case e.removed || v.flags&Permanent != 0:
		return 0, e.learnt
	case v.state == Unreachable:
		return 4, e.learnt
	case v.state == Incomplete:
		return 2, e.learnt
	case v.router && nd.router != nil && nd.router.Remembers(e.ifp, e.ip):
		return 1, math.MaxInt64
	case e.near.Use.Load() == e.used:
		return 3, e.learnt
	}
	return 1, e.learnt
}

// giveUp removes an entry that is asked for, to ask for another.
func (nd *ND) giveUp(w *netif.Work, e *entry) {
	if e.v.Load().state == Incomplete { // it may have answered meanwhile
		w.Count(cntCrowded)
		nd.remove(w, e)
	}
}

func (nd *ND) remove(w *netif.Work, e *entry) {
	e.mu.Lock()
	if e.removed {
		e.mu.Unlock()
		return
	}
	e.removed = true
	e.near.Unset()
	held := e.held.Release(&nd.held)
	v := e.v.Load()
	if v.known() {
		nd.changed(e, neigh.Lost)
	}
	e.mu.Unlock()
	nd.env.Wheel.Stop(&e.timer)
	nd.asked.leave(e)
	nd.table.Remove(e.hash, e)
	for _, p := range held {
		w.Drop(p, cntNoAnswer)
	}
	if v.flags&Published != 0 {
		nd.in.LeaveGroup(w, e.ifp, solicitedNode(e.ifp, e.ip))
	}
}

// changed tells what has become of e, whose lock is held.
func (nd *ND) changed(e *entry, c neigh.Change) {
	if nd.Changed != nil {
		nd.Changed(e.infoLocked(), c)
	}
}

func (e *entry) info() Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.infoLocked()
}

func (e *entry) infoLocked() Info {
	v := e.v.Load()
	i := Info{IP: e.ip, MAC: v.mac, Known: v.known(), If: e.ifp, Expire: e.expire, Flags: v.flags, Use: e.near.Use.Load(),
		State: v.state, IsRouter: v.router}
	if v.state == Incomplete || v.state == Probing {
		i.Probes = e.tries
	}
	return i
}

// Set makes or changes an entry by hand. A life of 0 seconds means permanent;
// after another one, the neighbour is as if learnt. One that is published is
// announced (RFC 4861 §7.2.8). Errors: EAFNOSUPPORT, ENOBUFS.
func (nd *ND) Set(w *netif.Work, ifp *netif.Interface, ip netip.Addr, mac netif.MAC, flags uint8, life int64) error {
	if !ip.Is6() || ip.IsMulticast() {
		return syscall.EAFNOSUPPORT
	}
	ip = packet.Scoped(ip, ifp.Index)
	e := nd.lock(w, ifp, ip)
	if e == nil {
		return syscall.ENOBUFS
	}
	old := e.v.Load()
	v := view{mac: mac, state: Static, flags: flags | Permanent, router: old.router}
	switch {
	case flags&ProxyOnly != 0:
		v.state = Proxied
	case life != 0:
		v.state, v.flags = Reachable, flags&^Permanent
	}
	nd.become(w, e, v)
	if life != 0 {
		v.flags &^= Permanent
		e.show(&v)
		e.expire = w.Now + life*second
		nd.env.Wheel.Reset(&e.timer, e.expire)
	}
	held := e.held.Release(&nd.held)
	if old.known() {
		nd.changed(e, neigh.Moved)
	} else {
		nd.changed(e, neigh.Found)
	}
	e.mu.Unlock()
	nd.sendHeld(w, e, held, mac)
	switch group := solicitedNode(ifp, ip); {
	case flags&Published != 0 && old.flags&Published == 0:
		nd.in.JoinGroup(w, ifp, group)
		nd.announceProxy(w, ifp, ip, mac)
	case flags&Published == 0 && old.flags&Published != 0:
		nd.in.LeaveGroup(w, ifp, group)
	}
	return nil
}

// Delete removes an entry. ENXIO: there is none.
func (nd *ND) Delete(w *netif.Work, ifp *netif.Interface, ip netip.Addr) error {
	e := nd.find(ifp, packet.Scoped(ip, ifp.Index))
	if e == nil {
		return syscall.ENXIO
	}
	nd.remove(w, e)
	return nil
}

// Flush removes the entries of an interface, or those inside a network of it.
func (nd *ND) Flush(w *netif.Work, ifp *netif.Interface, in netip.Prefix) {
	for _, e := range nd.entries() {
		if e.ifp == ifp && (!in.IsValid() || in.Contains(e.ip)) {
			nd.remove(w, e)
		}
	}
}

func (nd *ND) entries() (out []*entry) {
	nd.table.All(func(e *entry) bool { out = append(out, e); return true })
	return out
}

// Entries describe the cache, in no order.
func (nd *ND) Entries() []Info {
	es := nd.entries()
	out := make([]Info, len(es))
	for i, e := range es {
		out[i] = e.info()
	}
	return out
}

// Lookup describes one entry.
func (nd *ND) Lookup(ifp *netif.Interface, ip netip.Addr) (Info, bool) {
	if e := nd.find(ifp, packet.Scoped(ip, ifp.Index)); e != nil {
		return e.info(), true
	}
	return Info{}, false
}
