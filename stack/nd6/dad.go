package nd6

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var nodeDADDelay = mib.Int("net.inet6.ip6.dad_delay", 100, "Milliseconds at most, at random, before a new address is first asked for (RFC 4862 §5.4.2 has 1000; ionet's own).", mib.Range(0, 1000))

// nonce tells a solicitation of ours from another station's (RFC 7527).
type nonce [6]byte

// keptNonces is how many solicitations of ours can come back.
const keptNonces = 8

// dad is the state of duplicate address detection. The lock is above the timer
// wheel only.
type dad struct {
	mu     sync.Mutex
	probes map[addrKey]*probe
	past   [keptNonces]nonce // of the last solicitations, whatever they asked for
	sent   int
}

// probe is an address that is asked for.
type probe struct {
	key       addrKey
	left      int // solicitations still to send
	looped    bool
	cancelled bool
	nonces    [keptNonces]nonce
	sent      int
	done      func(w *netif.Work, conflict bool)
	timer     callout.Timer[*netif.Work]
}

// Probe asks the link n times whether somebody else has ip (RFC 4862 §5.4),
// which is tentative and whose solicited-node group has been joined, and calls
// done; the routers are told of an address that nobody has (RFC 9131). With n =
// 0 it calls done at once, and tells everybody.
func (nd *ND) Probe(w *netif.Work, ifp *netif.Interface, ip netip.Addr, n int, done func(w *netif.Work, conflict bool)) {
	nd.Forget(ifp, ip)
	if n == 0 {
		done(w, false)
		nd.announce(w, ifp, ip, allNodes, true)
		return
	}
	p := &probe{key: addrKey{ifp, ip}, left: n, done: done}
	p.timer.Fn = func(w *netif.Work) { nd.step(w, p) }
	nd.dad.mu.Lock()
	nd.dad.probes[p.key] = p
	nd.env.Wheel.Reset(&p.timer, w.Now+nd.upTo(nd.env.MIB.Int(nodeDADDelay)*millisecond))
	nd.dad.mu.Unlock()
	if a := nd.in.Addr(ifp, ip); a != nil && a.Flags&netif.AddrOptimistic != 0 {
		nd.announce(w, ifp, ip, allRouters, false)
	}
}

// Forget ends what goes on about an address that is ours no more.
func (nd *ND) Forget(ifp *netif.Interface, ip netip.Addr) {
	nd.dad.mu.Lock()
	defer nd.dad.mu.Unlock()
	if p := nd.dad.probes[addrKey{ifp, ip}]; p != nil {
		nd.end(p)
	}
}

// end takes p off the list, whose lock is held.
func (nd *ND) end(p *probe) {
	p.cancelled = true
	nd.env.Wheel.Stop(&p.timer)
	delete(nd.dad.probes, p.key)
}

func (nd *ND) step(w *netif.Work, p *probe) {
	nd.dad.mu.Lock()
	if p.cancelled {
		nd.dad.mu.Unlock()
		return
	}
	if p.left == 0 && p.looped { // RFC 7527 §4.1: as long as they come back, others might not hear us
		p.looped, p.left = false, int(nd.env.MIB.Int(nodeMTries))
	}
	if p.left == 0 {
		nd.end(p)
		nd.dad.mu.Unlock()
		p.done(w, false)
		nd.announce(w, p.key.ifp, p.key.ip, allRouters, false)
		return
	}
	p.left--
	var n nonce
	binary.BigEndian.PutUint32(n[:], nd.env.Rand32())
	binary.BigEndian.PutUint16(n[4:], uint16(nd.env.Rand32()))
	p.nonces[p.sent%keptNonces] = n
	p.sent++
	nd.dad.past[nd.dad.sent%keptNonces] = n
	nd.dad.sent++
	nd.env.Wheel.Reset(&p.timer, w.Now+nd.param(p.key.ifp).retrans())
	nd.dad.mu.Unlock()
	nd.sendProbe(w, p.key.ifp, p.key.ip, n)
}

// sendProbe is a solicitation from nobody (RFC 4862 §5.4.2), with its nonce.
func (nd *ND) sendProbe(w *netif.Work, ifp *netif.Interface, ip netip.Addr, n nonce) {
	p, b := nd.compose(w, packet.NeighborSolLen+8)
	if p == nil {
		return
	}
	packet.PutNeighbor(b, packet.ICMP6NeighborSol, 0, ip)
	o := b[packet.NeighborSolLen:]
	o[0], o[1] = packet.NDOptNonce, 1
	copy(o[2:], n[:])
	w.Count(cntSolOut)
	nd.send(w, ifp, p, unspecified, solicitedNode(ifp, ip), nil)
}

// askedOnce reports whether a solicitation with that nonce was ours, for an address
// that is not asked for any more.
func (nd *ND) askedOnce(n nonce) bool {
	nd.dad.mu.Lock()
	defer nd.dad.mu.Unlock()
	return slices.Contains(nd.dad.past[:min(nd.dad.sent, keptNonces)], n)
}

// contested is told of a message from a station that has, or asks for, an
// address that is asked for (RFC 4862 §5.4.3, §5.4.4). One of our own that has
// come back is none (RFC 7527 §4.2).
func (nd *ND) contested(w *netif.Work, ifp *netif.Interface, ip netip.Addr, o packet.NDOption) {
	nd.dad.mu.Lock()
	p := nd.dad.probes[addrKey{ifp, ip}]
	if p == nil {
		nd.dad.mu.Unlock()
		return
	}
	if len(o) == 8 {
		if slices.Contains(p.nonces[:min(p.sent, keptNonces)], nonce(o.Data())) {
			first := !p.looped
			p.looped = true
			nd.dad.mu.Unlock()
			w.Count(cntDADLooped)
			if first {
				nd.log(w, slog.LevelWarn, "nd6: the link brings our own solicitations back", "address", plain(ip), "interface", ifp.Name)
			}
			return
		}
	}
	nd.end(p)
	nd.dad.mu.Unlock()
	w.Count(cntDADFailed)
	nd.log(w, slog.LevelError, "nd6: address is in use by another station, it stays unused", "address", plain(ip), "interface", ifp.Name)
	p.done(w, true)
}
