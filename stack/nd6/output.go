package nd6

import (
	"container/list"
	"net/netip"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	// maxAnycastDelay is MAX_ANYCAST_DELAY_TIME (RFC 4861 §10).
	maxAnycastDelay = second
	// maxLate bounds the answers for anycast addresses that wait; full: the
	// newcomer is not answered, and asks again.
	maxLate = 256
	// maxAdvertise is MAX_NEIGHBOR_ADVERTISEMENT.
	maxAdvertise = 3
)

// compose answers a packet with an ICMPv6 message of n octets, cleared, or nil;
// finish completes it.
func (nd *ND) compose(w *netif.Work, n int) (p *packet.Buf, body []byte) {
	p = nd.env.Pool.Get(packet.IPv6Len + n)
	if p == nil {
		w.Count(cntNoMem)
		return nil, nil
	}
	b := p.Append(packet.IPv6Len + n)
	p.MarkL3(0)
	p.MarkL4(packet.IPv6Len)
	clear(b)
	return p, b[packet.IPv6Len:]
}

// send puts the header in front, with the hop limit that no packet from beyond a
// router has (RFC 4861 §4), and sends: to the station via, or, where that is nil,
// to whom dst is.
func (nd *ND) send(w *netif.Work, ifp *netif.Interface, p *packet.Buf, src, dst netip.Addr, via *netif.MAC) {
	b := p.Bytes()
	packet.PutIPv6(b, 0, 0, len(b)-packet.IPv6Len, packet.ProtoICMPv6, 255, src, dst)
	packet.ICMP6(b[packet.IPv6Len:]).SetChecksum(src, dst)
	p.Csum = packet.CsumVerified
	if !linked(ifp) {
		if dst.IsMulticast() {
			p.Flags |= packet.FlagMulticast
		}
		_ = ifp.Output(w, ifp, p, dst) // whoever asks, asks again
		return
	}
	var mac netif.MAC
	switch {
	case via != nil:
		mac = *via
	case dst.IsMulticast():
		p.Flags |= packet.FlagMulticast
		mac = netif.GroupMAC(dst)
	default:
		var ok bool
		if mac, ok, _ = nd.resolve(w, ifp, dst, p, true); !ok {
			return
		}
	}
	nd.link.Send(w, ifp, p, mac, packet.EtherIPv6)
}

// linked reports whether stations on the link of ifp have addresses there: a tunnel's
// have none, and so no cache, and no options to tell them by (RFC 4213 §3.8).
func linked(ifp *netif.Interface) bool { return ifp.Ether() }

// sourceFor is the address to ask with (RFC 4861 §7.2.2): want, if it is ours on
// ifp, else a link-local one, else any. None that may turn out to be another's:
// whoever is asked would believe it (RFC 4429 §3.2).
func sourceFor(ifp *netif.Interface, want netip.Addr) (src netip.Addr) {
	for _, a := range ifp.Addrs() {
		if !a.Addr.Is6() || a.Tentative || a.Duplicated || a.Flags&netif.AddrAnycast != 0 {
			continue
		}
		if a.Addr == want {
			return want
		}
		if !src.IsValid() || a.Addr.IsLinkLocalUnicast() && !src.IsLinkLocalUnicast() {
			src = a.Addr
		}
	}
	return src
}

// solicit asks for ip (RFC 4861 §7.2.2): everybody in its group, or the
// station it was known to be. want is the source of the packet that waits.
func (nd *ND) solicit(w *netif.Work, ifp *netif.Interface, ip, want netip.Addr, via *netif.MAC) {
	src := sourceFor(ifp, want)
	if !src.IsValid() {
		w.Count(cntNoSource)
		return
	}
	p, b := nd.compose(w, packet.NeighborSolLen+8)
	if p == nil {
		return
	}
	packet.PutNeighbor(b, packet.ICMP6NeighborSol, 0, ip)
	packet.AppendNDLink(b[packet.NeighborSolLen:], packet.NDOptSourceLink, ifp.MAC())
	dst := ip
	if via == nil {
		dst = solicitedNode(ifp, ip)
	}
	w.Count(cntSolOut)
	nd.send(w, ifp, p, src, dst, via)
}

// answer is a neighbour advertisement to be sent.
type answer struct {
	ifp    *netif.Interface
	target netip.Addr
	to     netip.Addr
	via    *netif.MAC // the station that to is; nil: to be found
	mac    netif.MAC  // of target
	flags  uint8
	// proxy and anycast addresses are no source to send from.
	proxy, anycast bool
}

// answer sends an advertisement (RFC 4861 §7.2.4). To a station that has said
// its link address it goes there as it is, whatever the cache says: nobody has us
// probe, or keep, neighbours for answers alone.
func (nd *ND) answer(w *netif.Work, a answer) {
	src := a.target
	if a.proxy || a.anycast {
		if src = sourceFor(a.ifp, netip.Addr{}); !src.IsValid() {
			w.Count(cntNoSource)
			return
		}
	}
	n := packet.NeighborAdvLen
	if linked(a.ifp) {
		n += 8
	}
	p, b := nd.compose(w, n)
	if p == nil {
		return
	}
	if nd.in.Forwarding() {
		a.flags |= packet.NAFlagRouter
	}
	packet.PutNeighbor(b, packet.ICMP6NeighborAdv, a.flags, a.target)
	if linked(a.ifp) {
		packet.AppendNDLink(b[packet.NeighborAdvLen:], packet.NDOptTargetLink, a.mac)
	}
	w.Count(cntAdvOut)
	nd.send(w, a.ifp, p, src, a.to, a.via)
}

// answers are those that wait their random time. The lock is a leaf.
type answers struct {
	mu sync.Mutex
	l  list.List // of *lateAnswer
}

type lateAnswer struct {
	answer
	place *list.Element
	timer callout.Timer[*netif.Work]
}

// answerLater lets others who have an anycast address answer too (RFC 4861
// §7.2.7).
func (nd *ND) answerLater(w *netif.Work, a answer) {
	s := &nd.late
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l.Len() >= maxLate {
		w.Count(cntBusy)
		return
	}
	l := &lateAnswer{answer: a}
	l.place = s.l.PushBack(l)
	l.timer.Fn = func(w *netif.Work) {
		s.mu.Lock()
		s.l.Remove(l.place)
		s.mu.Unlock()
		if b := nd.in.Addr(l.ifp, l.target); b != nil && b.Flags&netif.AddrAnycast != 0 {
			nd.answer(w, l.answer)
		}
	}
	nd.env.Wheel.Reset(&l.timer, w.Now+nd.upTo(maxAnycastDelay))
}

// announce tells a group of ip, without having been asked (RFC 4861 §7.2.6).
func (nd *ND) announce(w *netif.Work, ifp *netif.Interface, ip, group netip.Addr, override bool) {
	a := nd.in.Addr(ifp, ip)
	if a == nil || a.Duplicated || a.Tentative && a.Flags&netif.AddrOptimistic == 0 || a.Flags&netif.AddrAnycast != 0 ||
		ifp.Flags()&netif.FlagMulticast == 0 || !ifp.Up() {
		return
	}
	as := answer{ifp: ifp, target: ip, to: packet.Scoped(group, ifp.Index), mac: ifp.MAC()}
	if override && !a.Tentative {
		as.flags = packet.NAFlagOverride
	}
	nd.answer(w, as)
}

// announceProxy tells everybody whose packets for ip to take (RFC 4861 §7.2.8).
func (nd *ND) announceProxy(w *netif.Work, ifp *netif.Interface, ip netip.Addr, mac netif.MAC) {
	nd.answer(w, answer{ifp: ifp, target: ip, to: packet.Scoped(allNodes, ifp.Index), mac: mac, proxy: true})
}

// announcements are interfaces whose link address has changed. The lock is
// above the timer wheel only.
type announcements struct {
	mu sync.Mutex
	m  map[*netif.Interface]*announcement
}

type announcement struct {
	left  int
	timer callout.Timer[*netif.Work]
}

// LinkChanged tells everybody twice more that the link address of ifp is another
// one (RFC 4861 §7.2.6: three times at most), which [ND.Probe] has told as the
// interface came up anew.
func (nd *ND) LinkChanged(w *netif.Work, ifp *netif.Interface) {
	s := &nd.moved
	s.mu.Lock()
	a := s.m[ifp]
	if a == nil {
		a = &announcement{}
		a.timer.Fn = func(w *netif.Work) { nd.again(w, ifp) }
		s.m[ifp] = a
	}
	a.left = maxAdvertise - 1
	nd.env.Wheel.Reset(&a.timer, w.Now+nd.param(ifp).retrans())
	s.mu.Unlock()
}

func (nd *ND) again(w *netif.Work, ifp *netif.Interface) {
	s := &nd.moved
	s.mu.Lock()
	a := s.m[ifp]
	if a == nil {
		s.mu.Unlock()
		return
	}
	if a.left--; a.left > 0 && !ifp.Gone() {
		nd.env.Wheel.Reset(&a.timer, w.Now+nd.param(ifp).retrans())
	} else {
		delete(s.m, ifp)
	}
	s.mu.Unlock()
	for _, b := range ifp.Addrs() {
		if b.Addr.Is6() {
			nd.announce(w, ifp, b.Addr, allNodes, true)
		}
	}
}
