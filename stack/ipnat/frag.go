package ipnat

import (
	"sync"
	"sync/atomic"

	"ionet/stack/callout"
	"ionet/stack/cmap"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/pfil"
)

var (
	nodeFragTTL = mib.Int("net.inet.ipf.ipnat_fragttl", 30, "Seconds that the fragments of a translated datagram are known.", mib.Range(1, 600))
	nodeFragMax = mib.Int("net.inet.ipf.ipnat_fragmax", 1024, "Datagrams in fragments that are translated at a time; further ones are not.", mib.Range(0, 1<<20))
)

// datagram names the fragments of one datagram at a hook.
type datagram struct {
	src, dst end
	id       uint32
	proto    uint8
	out, v6  bool
	ifp      *netif.Interface
}

func datagramOf(i *pfil.Info) datagram {
	return datagram{endOf(i.Src, 0), endOf(i.Dst, 0), i.FragID, i.Proto, i.Out, i.V6, i.If}
}

func (d *datagram) hash(key uint64) uint64 {
	h := mix(key, &d.src) + fold(mix(key, &d.dst)^uint64(d.id), key^0x94d049bb133111eb)
	return h ^ h>>32
}

// fragment is a datagram whose first fragment has been translated.
type fragment struct {
	datagram
	f     *frags
	hash  uint64
	s     *session
	gone  atomic.Bool
	timer callout.Timer[*netif.Work]
}

// frags knows which session later fragments, which have no ports, belong to. One that
// comes before the first is refused if a rule is about its addresses, and otherwise left alone.
type frags struct {
	n  *NAT
	m  cmap.Map[*fragment]
	mu sync.Mutex
}

func (f *frags) init(n *NAT) {
	f.n = n
	f.m.Init()
}

func (f *frags) find(d *datagram, hash uint64) *fragment {
	b := f.m.Bucket(hash)
	for x := range b.Len() {
		if k, e := b.At(x); k == hash && e.datagram == *d {
			return e
		}
	}
	return nil
}

// add remembers the first fragment, before it is changed.
func (f *frags) add(w *netif.Work, i *pfil.Info, s *session) {
	d := datagramOf(i)
	h := d.hash(f.n.table.key)
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.find(&d, h); old != nil {
		old.end()
	}
	if int64(f.m.Len()) >= f.n.env.MIB.Int(nodeFragMax) {
		f.n.count.fragFull.Add(1)
		return
	}
	e := &fragment{datagram: d, f: f, hash: h, s: s}
	e.timer.Fn = func(*netif.Work) {
		f.mu.Lock()
		e.end()
		f.mu.Unlock()
	}
	f.m.Add(h, e)
	f.n.env.Wheel.Reset(&e.timer, w.Now+f.n.env.MIB.Int(nodeFragTTL)*second)
}

// end forgets a datagram; the lock is held.
func (e *fragment) end() {
	if !e.gone.Swap(true) {
		e.f.m.Remove(e.hash, e)
		e.f.n.env.Wheel.Stop(&e.timer)
	}
}

func (f *frags) flush(chosen func(*fragment) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*fragment
	f.m.All(func(e *fragment) bool {
		if chosen(e) {
			all = append(all, e)
		}
		return true
	})
	for _, e := range all {
		e.end()
	}
}

// later translates a fragment that is not the first of its datagram.
func (n *NAT) later(w *netif.Work, rs *ruleset, i *pfil.Info) pfil.Verdict {
	if n.frags.m.Len() > 0 {
		d := datagramOf(i)
		if e := n.frags.find(&d, d.hash(n.table.key)); e != nil && !e.s.dead.Load() {
			s := e.s
			d := dir(i.Out)
			s.pkts[d].Add(1)
			s.bytes[d].Add(uint64(i.Pkt.Len()))
			if s.rule.six() {
				n.count.frags.Add(1)
				return n.cross(w, s, i)
			}
			c := change{destination, s.in, false, false}
			if i.Out {
				c.side, c.to = source, s.out
			}
			c.apply(i.Pkt.Bytes(), i.L4, i.Proto)
			n.count.frags.Add(1)
			i.Parse(i.Pkt, i.If, i.Out)
			return pfil.Translated
		}
	}
	r := rs.match(n, i)
	switch {
	case r == nil:
		return pfil.Untouched
	case r.stateless():
		return n.prefix(nil, r, i)
	}
	n.count.badFrag.Add(1)
	return pfil.Refused
}
