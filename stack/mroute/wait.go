package mroute

import (
	"slices"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	mostHeld    = 4       // packets of one source to one group (MAX_UPQ)
	mostWaiting = 1024    // sources and groups that are asked for
	mostMemory  = 4 << 20 // octets of storage in all of them
	expireAfter = 3 * second / 2
)

// waiting is the packets that the cache knows nothing of, while the daemon is asked.
// Owner: the router. Bound: 4 packets a source and group, 1024 of these, 4 MiB; full:
// the newcomer is dropped. After a second and a half (UPCALL_EXPIRE) they go.
type waiting struct {
	r      *Router
	all    map[key]*held
	order  []*held // by arrival
	memory int
	timer  timer
}

type held struct {
	key
	until int64
	pkts  []*packet.Buf
	gone  bool
}

func (q *waiting) init(r *Router) {
	q.r, q.all = r, map[key]*held{}
	q.timer.Fn = q.expire
}

// hold takes over a packet that has no entry.
func (r *Router) hold(w *netif.Work, k key, hash uint64, vif int, p *packet.Buf) {
	c, q := &r.conf.Counters, &r.waiting
	p = p.Shrink()
	r.mu.Lock()
	if e := r.find(k, hash); e != nil { // it has come meanwhile
		r.mu.Unlock()
		r.along(w, e, p)
		return
	}
	h := q.all[k]
	ask := h == nil
	full := !r.Active() || q.memory+p.Cap() > mostMemory || ask && len(q.all) >= mostWaiting || !ask && len(h.pkts) >= mostHeld
	if full {
		r.mu.Unlock()
		w.Drop(p, c.Overflow)
		return
	}
	if ask {
		h = &held{key: k, until: w.Now + expireAfter}
		q.all[k] = h
		if q.order = append(q.order, h); len(q.order) == 1 {
			r.env.Wheel.Reset(&q.timer, h.until)
		}
	}
	h.pkts = append(h.pkts, p)
	q.memory += p.Cap()
	r.mu.Unlock()
	if !ask {
		return
	}
	if r.tell(w, Upcall{NoCache, vif, k.src, k.dst}, p) {
		return
	}
	r.mu.Lock()
	var lost []*packet.Buf
	if !h.gone {
		lost = q.take(k)
	}
	r.mu.Unlock()
	for _, p := range lost {
		w.Drop(p, c.Overflow)
	}
}

// take answers what waits for an entry, which waits no longer.
func (q *waiting) take(k key) []*packet.Buf {
	h := q.all[k]
	if h == nil {
		return nil
	}
	delete(q.all, k)
	h.gone = true
	pkts := h.pkts
	h.pkts = nil
	for _, p := range pkts {
		q.memory -= p.Cap()
	}
	i := slices.Index(q.order, h)
	if q.order = slices.Delete(q.order, i, i+1); len(q.order) == 0 {
		q.r.env.Wheel.Stop(&q.timer)
	}
	return pkts
}

func (q *waiting) takeAll() (pkts []*packet.Buf) {
	for len(q.order) > 0 {
		pkts = append(pkts, q.take(q.order[0].key)...)
	}
	return pkts
}

// expire drops what has waited for too long.
func (q *waiting) expire(w *netif.Work) {
	var lost []*packet.Buf
	q.r.mu.Lock()
	for len(q.order) > 0 && q.order[0].until <= w.Now {
		lost = append(lost, q.take(q.order[0].key)...)
	}
	if len(q.order) > 0 {
		q.r.env.Wheel.Reset(&q.timer, q.order[0].until)
	}
	q.r.mu.Unlock()
	for _, p := range lost {
		w.Drop(p, q.r.conf.Counters.Cleanups)
	}
}

func (q *waiting) infos() (out []EntryInfo) {
	for _, h := range q.order {
		out = append(out, EntryInfo{Src: h.src, Dst: h.dst, Way: Way{Parent: -1}, Waits: len(h.pkts)})
	}
	return out
}
