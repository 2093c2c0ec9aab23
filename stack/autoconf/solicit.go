package autoconf

import (
	"net/netip"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

const (
	solicitInterval = 4 * second    // RTR_SOLICITATION_INTERVAL (RFC 4861 §10)
	solicitMax      = 3600 * second // SOLICITATION_MAX_RT (RFC 7559 §2)
)

// RFC 4861 §6.3.7 has a second here, against hosts that come up all at once. On
// links of today a twentieth spreads them enough, and who plugs in a cable has
// an address that much sooner.
var nodeDelay = mib.Int("net.inet6.ip6.rtsol_delay", 50, "Longest random delay before the first router solicitation, in milliseconds (ionet's own).", mib.Range(0, 1000))

var allRouters = netip.MustParseAddr("ff02::2")

// solicitor is the asking for routers on one link: after 4, 8, 16 … seconds, at
// last every hour, until one answers (RFC 7559).
type solicitor struct {
	timer callout.Timer[*netif.Work]
	on    bool
	rt    int64 // the present interval
	last  int64 // when one was sent
	named bool  // from an address of ours
}

// beginSolicit begins to ask from the beginning. mu is held.
func (a *Autoconf) beginSolicit(now int64, l *link) {
	if !l.up || l.off || !a.accepts(l.ifp) {
		return
	}
	l.sol.on, l.sol.rt, l.sol.last, l.sol.named = true, 0, 0, false
	a.env.Wheel.Reset(&l.sol.timer, now+a.upTo(a.env.MIB.Int(nodeDelay)*second/1000))
}

func (l *link) stopSolicit() {
	l.sol.on = false
	l.a.env.Wheel.Stop(&l.sol.timer)
}

// upTo is a random time below d.
func (a *Autoconf) upTo(d int64) int64 { return int64(uint64(a.env.Rand32()) * uint64(d) >> 32) }

// Solicit asks for routers on ifp anew, as rtsol does; on one that is down, when
// it comes up. A control call.
func (a *Autoconf) Solicit(ifp *netif.Interface) {
	a.control(func(w *netif.Work) {
		if l := a.find(ifp); l != nil {
			a.beginSolicit(w.Now, l)
		}
	})
}

// Ready tells that an interface has a link-local address that may be used, or,
// with up false, that it has gone down. If a solicitation from no address has
// found nobody yet, one from the address follows: a router may let everybody
// wait for an answer, but answer one host at once (RFC 4861 §6.2.6). It may be
// called with locks of IPv6 held.
func (a *Autoconf) Ready(w *netif.Work, ifp *netif.Interface, up bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.find(ifp)
	if l == nil {
		return
	}
	if !up {
		l.down()
		return
	}
	if l.off { // somebody has given it another address
		l.off = false
		a.beginSolicit(w.Now, l)
	}
	if l.sol.on && !l.sol.named {
		l.sol.rt = 0
		a.env.Wheel.Reset(&l.sol.timer, w.Now)
	}
	l.kick() // routes that speak as the address
}

// solicit sends a solicitation, and sets the time of the next (RFC 7559 §2).
func (a *Autoconf) solicit(w *netif.Work, l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &l.sol
	if !s.on {
		return
	}
	if !l.up || l.off || !a.accepts(l.ifp) {
		s.on = false
		return
	}
	jitter := func(t int64) int64 { return a.upTo(t/5) - t/10 } // RAND: a tenth, either way
	switch {
	case s.rt == 0:
		s.rt = solicitInterval + jitter(solicitInterval)
	case 2*s.rt > solicitMax:
		s.rt = solicitMax + jitter(solicitMax)
	default:
		s.rt = 2*s.rt + jitter(s.rt)
	}
	s.last = w.Now
	a.env.Wheel.Reset(&s.timer, w.Now+s.rt)
	src, tell := l.source()
	s.named = !src.IsUnspecified()
	a.sendSolicit(w, l, src, tell)
}

// source is the address to solicit with: the link-local one, or none while that
// may be another's. An optimistic one does not tell the link address, which
// could spoil the other's entry in a cache (RFC 4429 §3.2).
func (l *link) source() (src netip.Addr, tell bool) {
	if o := l.linkLocal(); o != nil && !o.Duplicated && (!o.Tentative || o.Flags&netif.AddrOptimistic != 0) {
		return o.Addr, o.Flags&netif.AddrOptimistic == 0
	}
	return netip.IPv6Unspecified(), false
}

// linkLocal is the first link-local address of the interface, one that may be
// used if there is one.
func (l *link) linkLocal() (found *netif.Addr) {
	for _, o := range l.ifp.Addrs() {
		if o.Addr.Is6() && o.Addr.IsLinkLocalUnicast() && (found == nil || found.Tentative || found.Duplicated) {
			found = o
		}
	}
	return found
}

func (a *Autoconf) sendSolicit(w *netif.Work, l *link, src netip.Addr, tell bool) {
	n := packet.RouterSolLen
	if tell && l.ifp.Ether() {
		n += 8
	}
	p := a.env.Pool.Get(packet.IPv6Len + n)
	if p == nil {
		w.Count(cntNoMem)
		return
	}
	b := p.Append(n)
	clear(b)
	b[0] = packet.ICMP6RouterSol
	if n > packet.RouterSolLen {
		packet.AppendNDLink(b[packet.RouterSolLen:], packet.NDOptSourceLink, l.ifp.MAC())
	}
	dst := packet.Scoped(allRouters, l.ifp.Index)
	packet.ICMP6(b).SetChecksum(src, dst)
	p.Csum = packet.CsumVerified
	w.Count(cntSolicited)
	f := socket.Flow{Src: src, Dst: dst, Proto: packet.ProtoICMPv6, TTL: 255, IfIndex: l.ifp.Index, NoLoop: true, Raw: true}
	w.Turn(func(w *netif.Work, p *packet.Buf) {
		_ = a.inet.Output(w, p, &f) // one that cannot leave is repeated
	}, p)
}
