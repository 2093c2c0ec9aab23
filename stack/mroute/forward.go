package mroute

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// tellEvery is how often the daemon hears of one entry's packets by a wrong vif
// (ASSERT_MSG_TIME).
const tellEvery = 3 * second

// byIf is the number of the vif that an interface is, or -1.
func (t *table) byIf(index uint32) int {
	for i, v := range t.vif[:t.n] {
		if v != nil && v.If.Index == index {
			return i
		}
	}
	return -1
}

// From reports whether packets that came by an interface are forwarded.
func (r *Router) From(index uint32) bool { return r.vifs.Load().byIf(index) >= 0 }

// Forward takes over a packet to a group, window at the IP header, that came by
// p.RcvIf (or was sent there by ourselves) and may leave the link. It is called as
// a turn.
func (r *Router) Forward(w *netif.Work, p *packet.Buf) {
	c := &r.conf.Counters
	src, dst, _ := r.conf.Network.Read(p)
	k := key{src, dst}
	hash := r.hash(k)
	w.Count(c.Lookups)
	if e := r.find(k, hash); e != nil {
		r.along(w, e, p)
		return
	}
	w.Count(c.Misses)
	i := r.vifs.Load().byIf(p.RcvIf)
	if i < 0 { // taken away meanwhile
		w.Drop(p, c.NoRoute)
		return
	}
	w.Count(c.NoRoute)
	r.hold(w, k, hash, i, p)
}

// along sends a packet the way of its entry: a copy for each vif but the last,
// which has the packet itself.
func (r *Router) along(w *netif.Work, e *entry, p *packet.Buf) {
	t, way := r.vifs.Load(), e.way.Load()
	in := t.byIf(p.RcvIf)
	if in < 0 || in != way.Parent {
		r.wrong(w, e, way, t, in, p)
		return
	}
	_, _, hops := r.conf.Network.Read(p)
	n := uint64(p.Len())
	t.vif[in].inPackets.Add(1)
	t.vif[in].inBytes.Add(n)
	e.counts.packets.Add(1)
	e.counts.bytes.Add(n)
	var last *vif
	for i, v := range t.vif[:t.n] {
		if v == nil || i == in || way.TTLs[i] == 0 || hops <= way.TTLs[i] || !v.If.Up() {
			continue
		}
		if last != nil {
			if c := p.Clone(); c != nil {
				r.out(w, last, c)
			} else {
				w.Count(r.conf.Counters.NoMemory)
			}
		}
		last = v
	}
	if last == nil {
		p.Free() // nobody wants it: the cache has said so
		return
	}
	r.out(w, last, p)
}

func (r *Router) out(w *netif.Work, v *vif, p *packet.Buf) {
	v.outPackets.Add(1)
	v.outBytes.Add(uint64(p.Len()))
	r.conf.Network.SendGroup(w, p, v.If)
}

// wrong is for a packet that came by another vif than its entry's parent. The
// daemon hears of it if it is one that we send such packets to: another router
// does, too.
func (r *Router) wrong(w *netif.Work, e *entry, way *Way, t *table, in int, p *packet.Buf) {
	e.counts.wrong.Add(1)
	if in >= 0 && r.assert.Load() && way.TTLs[in] > 0 && t.vif[in].If.Flags()&netif.FlagBroadcast != 0 {
		if last := e.told.Load(); (last == 0 || w.Now-last > tellEvery) && e.told.CompareAndSwap(last, w.Now) {
			r.tell(w, Upcall{WrongVif, in, e.src, e.dst}, p)
		}
	}
	w.Drop(p, r.conf.Counters.WrongIf)
}

// tell makes an upcall; false: it could not.
func (r *Router) tell(w *netif.Work, u Upcall, p *packet.Buf) bool {
	user := r.user.Load()
	if user == nil {
		return false
	}
	w.Count(r.conf.Counters.Upcalls)
	if (*user).Told(w, u, p) {
		return true
	}
	w.Count(r.conf.Counters.SockFull)
	return false
}
