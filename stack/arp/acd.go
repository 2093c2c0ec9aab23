package arp

import (
	"log/slog"
	"net/netip"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Times of RFC 5227 §1.1.
const (
	probeWait        = second
	probeMin         = second
	probeMax         = 2 * second
	announceWait     = 2 * second
	announceNum      = 2
	announceInterval = 2 * second
	defendInterval   = 10 * second
)

type acdKey struct {
	ifp *netif.Interface
	ip  netip.Addr
}

// acd is the state of address conflict detection.
type acd struct {
	mu       sync.Mutex
	probes   map[acdKey]*probe
	defended map[acdKey]int64 // when we last defended an address
}

// probe is an address that is being probed or announced.
type probe struct {
	key       acdKey
	left      int // probes still to send
	announce  int // announcements still to send
	waiting   bool
	done      func(w *netif.Work, conflict bool)
	timer     callout.Timer[*netif.Work]
	cancelled bool
}

// Probe asks the link n times whether somebody has ip (RFC 5227 §2.1.1), then
// calls done, and announces the address if nobody has. With n = 0 it only
// announces, at once.
func (a *ARP) Probe(w *netif.Work, ifp *netif.Interface, ip netip.Addr, n int, done func(w *netif.Work, conflict bool)) {
	p := &probe{key: acdKey{ifp, ip}, left: n, announce: announceNum, done: done}
	p.timer.Fn = func(w *netif.Work) { a.step(w, p) }
	a.acd.mu.Lock()
	if old := a.acd.probes[p.key]; old != nil {
		old.cancelled = true
		a.env.Wheel.Stop(&old.timer)
	}
	a.acd.probes[p.key] = p
	a.acd.mu.Unlock()
	if n == 0 {
		a.step(w, p)
		return
	}
	a.env.Wheel.Reset(&p.timer, w.Now+a.upTo(probeWait))
}

// Forget ends what goes on about an address that is ours no more.
func (a *ARP) Forget(ifp *netif.Interface, ip netip.Addr) {
	a.acd.mu.Lock()
	defer a.acd.mu.Unlock()
	k := acdKey{ifp, ip}
	if p := a.acd.probes[k]; p != nil {
		p.cancelled = true
		a.env.Wheel.Stop(&p.timer)
		delete(a.acd.probes, k)
	}
	delete(a.acd.defended, k)
}

func (a *ARP) upTo(d int64) int64 { return int64(uint64(a.env.Rand32()) * uint64(d) >> 32) }

func (a *ARP) step(w *netif.Work, p *probe) {
	a.acd.mu.Lock()
	if p.cancelled {
		a.acd.mu.Unlock()
		return
	}
	var again int64
	var done func(*netif.Work, bool)
	ask, tell := false, false
	switch {
	case p.left > 0:
		p.left--
		ask = true
		again = probeMin + a.upTo(probeMax-probeMin)
		if p.left == 0 {
			p.waiting, again = true, announceWait
		}
	default:
		if p.waiting {
			p.waiting = false
			done = p.done
		}
		tell = true
		if p.announce--; p.announce > 0 {
			again = announceInterval
		} else {
			delete(a.acd.probes, p.key)
		}
	}
	if again != 0 {
		a.env.Wheel.Reset(&p.timer, w.Now+again)
	}
	a.acd.mu.Unlock()
	if done != nil {
		done(w, false)
	}
	if ask {
		w.Count(cntRequestsOut)
		a.send(w, p.key.ifp, netif.BroadcastMAC, packet.ARPRequest, p.key.ifp.MAC(), unspecified, netif.MAC{}, p.key.ip)
	}
	if tell && p.key.ifp.Flags()&netif.FlagNoARP == 0 {
		a.announce(w, p.key.ifp, p.key.ip)
	}
}

// announce is a gratuitous ARP: a request for our own address.
func (a *ARP) announce(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	w.Count(cntRequestsOut)
	a.send(w, ifp, netif.BroadcastMAC, packet.ARPRequest, ifp.MAC(), ip, netif.MAC{}, ip)
}

// conflict applies RFC 5227 §2.1.1 (while probing) and §2.4 (ever after) and
// reports whether the packet is to be forgotten.
func (a *ARP) conflict(w *netif.Work, ifp *netif.Interface, smac netif.MAC, sip, tip netip.Addr, op uint16) bool {
	a.acd.mu.Lock()
	for _, ip := range [2]netip.Addr{sip, tip} {
		p := a.acd.probes[acdKey{ifp, ip}]
		if p == nil || p.left == 0 && !p.waiting {
			continue
		}
		// Somebody has it, or somebody else probes for it at this moment.
		if ip == sip || sip == unspecified && op == packet.ARPRequest {
			p.cancelled = true
			delete(a.acd.probes, p.key)
			a.env.Wheel.Stop(&p.timer)
			a.acd.mu.Unlock()
			a.log(w, slog.LevelError, "arp: address is in use by another station, it stays unused",
				"address", ip, "station", smac, "interface", ifp.Name)
			p.done(w, true)
			return true
		}
	}
	if ours(ifp, sip) == nil {
		a.acd.mu.Unlock()
		return false
	}
	k := acdKey{ifp, sip}
	last, ok := a.acd.defended[k]
	defend := !ok || w.Now-last > defendInterval
	if defend {
		a.acd.defended[k] = w.Now
	}
	a.acd.mu.Unlock()
	a.log(w, slog.LevelError, "arp: duplicate address: another station sends from an address of ours",
		"address", sip, "station", smac, "interface", ifp.Name, "defended", defend)
	if defend { // §2.4 (b): one announcement, then silence for a while
		a.announce(w, ifp, sip)
	}
	return true
}
