package ipsec

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	nodeBlockCount = mib.Int("net.key.blockacq_count", 10, "Packets without an SA for which no daemon is asked, after it was.", mib.Range(0, 1<<20))
	nodeBlockLife  = mib.Int("net.key.blockacq_lifetime", 20, "Seconds after which a daemon is asked again for an SA.", mib.Range(1, 1<<20))
	nodeWaiting    = mib.Int("net.key.acquire_queue", 16, "Packets that wait for an SA at most, of all there are to come; the others are lost.", mib.Range(0, 1<<16))
)

// Wanted is an SA that is missing.
type Wanted struct {
	Proto    uint8
	Mode     uint8
	Src, Dst netip.Addr
	ReqID    uint32
	Policy   *Policy
	Selector Selector // of the packet that wants it
}

// acquiring is what is missing, and the packets that wait. Owner: the room. Bound: an entry for each
// request and pair of ends, nodeBlockLife long, maxWanted of them; packets as net.key.acquire_queue says. Full: the packet is lost.
type acquiring struct {
	x   *IPsec
	seq atomic.Uint32

	mu      sync.Mutex
	wanted  map[choice]*wanting
	waiting int
}

type wanting struct {
	Wanted
	seq    uint32
	missed int64 // packets since a daemon was asked
	queue  []waiting
	timer  callout.Timer[*netif.Work]
}

// waiting is a packet that waits, and its socket's policy, or nil.
type waiting struct {
	pkt *packet.Buf
	own *Policy
}

const maxWanted = 4096

func (a *acquiring) init(x *IPsec) { a.x, a.wanted = x, map[choice]*wanting{} }

// want has an SA for a request of a flow's policy made, and keeps pkt until it is there.
func (a *acquiring) want(w *netif.Work, pkt *packet.Buf, f *flow, r *Request) error {
	stats := &ipStats[side(f.v6)]
	c := choice{r.Proto, r.Mode, f.src(), f.dst(), r.ReqID}
	for n := range f.policy.Requests { // a transport around a tunnel is between the tunnel's ends
		q := &f.policy.Requests[n]
		if q.Mode != ModeTransport {
			c.src, c.dst = unscope(q.Src), unscope(q.Dst)
		}
		if q == r {
			break
		}
	}
	a.mu.Lock()
	n, ask := a.wanted[c], false
	switch {
	case n == nil && len(a.wanted) >= maxWanted:
		a.mu.Unlock()
		w.Drop(pkt, stats.outNoSA)
		return syscall.ENOBUFS
	case n == nil:
		n = &wanting{Wanted: Wanted{c.proto, c.mode, c.src, c.dst, c.reqid, f.policy, selectorOf(&f.flowKey)}, seq: a.seq.Add(1)}
		n.timer.Fn = func(w *netif.Work) { a.forget(c, n) }
		a.wanted[c], ask = n, true
		a.x.env.Wheel.Reset(&n.timer, w.Now+a.x.env.MIB.Int(nodeBlockLife)*second)
	default:
		if n.missed++; n.missed > a.x.env.MIB.Int(nodeBlockCount) && a.x.env.MIB.Int(nodeBlockCount) > 0 {
			n.missed, ask = 0, true
		}
	}
	kept := int64(a.waiting) < a.x.env.MIB.Int(nodeWaiting)
	if kept {
		a.waiting++
		n.queue = append(n.queue, waiting{pkt, f.own})
	}
	a.mu.Unlock()
	if ask {
		w.Count(stats.acquired)
		a.x.tell(Event{Kind: Acquire, Wanted: n.Wanted, Session: n.seq})
	}
	if !kept {
		w.Drop(pkt, stats.outNoSA)
		return syscall.EAGAIN
	}
	w.Count(stats.waited)
	// An SA that came between the look at the flow and the lock did not see the packet wait.
	var b bundle
	if a.x.bundleOf(a.x.look(&f.flowKey, f.own), &b) != r {
		a.forget(c, n)
	}
	return nil
}

func selectorOf(k *flowKey) Selector {
	src, dst := k.src(), k.dst()
	return Selector{Src: netip.PrefixFrom(src, src.BitLen()), Dst: netip.PrefixFrom(dst, dst.BitLen()), SrcPort: k.from, DstPort: k.to, Proto: k.proto, Typed: k.typed}
}

// take ends the wait for a choice, and answers the packets.
func (a *acquiring) take(c choice, only *wanting) []waiting {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.wanted[c]
	if n == nil || only != nil && n != only {
		return nil
	}
	delete(a.wanted, c)
	a.waiting -= len(n.queue)
	a.x.env.Wheel.Stop(&n.timer)
	return n.queue
}

func (a *acquiring) forget(c choice, n *wanting) {
	for _, q := range a.take(c, n) {
		a.x.env.MIB.Add(ipStats[side(q.pkt.Bytes()[0]>>4 == 6)].outNoSA, 1)
		q.pkt.Free()
	}
}

// arrived sends what has waited for s.
func (a *acquiring) arrived(s *SA) {
	a.mu.Lock()
	some := len(a.wanted) > 0
	a.mu.Unlock()
	if !some {
		return
	}
	for _, c := range s.choices() {
		a.x.later(a.take(c, nil))
	}
}

// Failed is a daemon's word that the SA of a session will not come.
func (x *IPsec) Failed(session uint32) {
	a := &x.wait
	a.mu.Lock()
	var c choice
	var n *wanting
	for k, v := range a.wanted { // map order: there is one of a session
		if v.seq == session {
			c, n = k, v
		}
	}
	a.mu.Unlock()
	if n != nil {
		a.forget(c, n)
	}
}
