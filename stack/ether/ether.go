// Package ether is Ethernet: framing, and the choice of who takes a frame.
//
// The walk up: driver → netif → [Ether.Input] → inet (by EtherType).
// The walk down: inet → [Ether.Output] → resolver (ARP) → netif → driver.
package ether

import (
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Handler takes over frames of one EtherType, windows at the network header.
type Handler interface {
	Input(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf)
}

// Resolver finds link addresses of neighbours.
type Resolver interface {
	// Resolve answers the neighbour's link address, or takes the packet over:
	// held until the answer comes, or dropped with an error.
	Resolve(w *netif.Work, ifp *netif.Interface, nexthop netip.Addr, pkt *packet.Buf) (mac netif.MAC, ok bool, err error)
	// Neighbour is the neighbour as the fast path sees it; nil: it is not known.
	Neighbour(ifp *netif.Interface, nexthop netip.Addr) *netif.Neighbour
}

var (
	cntShort    = mib.NewCounter("ether", "short frame", "# frame{s} too short")
	cntNotOurs  = mib.NewCounter("ether", "not for us", "# frame{s} for other stations")
	cntLoopback = mib.NewCounter("ether", "own frame", "# frame{s} of our own come back")
	cntNoProto  = mib.NewCounter("ether", "unknown protocol", "# frame{s} of unknown protocols")
	cntDown     = mib.NewCounter("ether", "interface down", "# frame{s} for an interface that is down")
	cntNoRoom   = mib.NewCounter("ether", "no room for header", "# packet{s} without room for a link header")
)

// Ether is one stack's Ethernet.
type Ether struct {
	env       *netif.Env
	types     []uint16
	handlers  []Handler
	resolvers [2]Resolver // IPv4, IPv6
	// OwnIPv6, if set, looks at what a frame of IPv6 from our own link address has,
	// from the IPv6 header on, before the frame is dropped.
	OwnIPv6 func(w *netif.Work, ifp *netif.Interface, b []byte)
}

// New makes the room.
func New(env *netif.Env) *Ether { return &Ether{env: env} }

// Handle says who takes frames of an EtherType. It is called at assembly.
func (e *Ether) Handle(typ uint16, h Handler) {
	e.types, e.handlers = append(e.types, typ), append(e.handlers, h)
}

// ResolveWith says who resolves IPv4 (v6 false) or IPv6 neighbours.
func (e *Ether) ResolveWith(v6 bool, r Resolver) {
	if v6 {
		e.resolvers[1] = r
	} else {
		e.resolvers[0] = r
	}
}

// Attach makes ifp an Ethernet interface, or the vlan that it is a usable one.
func (e *Ether) Attach(ifp *netif.Interface) {
	if ifp.HdrLen = packet.EtherLen; ifp.Type != netif.TypeL2VLAN {
		ifp.Type = netif.TypeEther
	}
	ifp.Input, ifp.Output, ifp.Neighbour = e.Input, e.Output, e.neighbour
}

// Input takes a burst of received frames. Frames of one type that follow each
// other stay together; the order within a type is kept.
func (e *Ether) Input(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	ifp.TapIn(w, burst)
	if above := ifp.Above(); above != nil {
		burst = take(w, ifp, above, burst)
	}
	e.up(w, ifp, burst)
}

// Local is Input for frames that a bridge has brought to the member that they are
// for: captures and the bridge have seen them.
func (e *Ether) Local(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	if above := ifp.Above(); above != nil && above.VLANs != nil {
		burst = above.VLANs.Take(w, ifp, burst)
	}
	e.up(w, ifp, burst)
}

func (e *Ether) up(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	var octets, mcast uint64
	own := ifp.MAC()
	up := ifp.Up()
	run, runType := 0, uint16(0) // burst[:run] waits to go to runType's handler
	for i, p := range burst {
		p.RcvIf, p.Time = ifp.Index, w.Now
		octets += uint64(p.Len())
		h, ok := packet.CheckEther(p.Bytes())
		if !ok {
			p.MarkL3(0)
			ifp.Stats.InErrors.Add(1)
			w.Drop(p, cntShort)
			continue
		}
		typ := h.Type()
		p.MarkL3(packet.EtherLen)
		why, drop := mib.Counter(0), false
		if dst := netif.MAC(h.Dst()); dst != own {
			switch {
			case dst == netif.BroadcastMAC:
				p.Flags |= packet.FlagBroadcast
				mcast++
			case dst.IsMulticast():
				p.Flags |= packet.FlagMulticast
				mcast++
			default:
				why, drop = cntNotOurs, true
			}
		}
		switch {
		case drop:
		case !up:
			why, drop = cntDown, true
		case netif.MAC(h.Src()) == own:
			why, drop = cntLoopback, true
			if typ == packet.EtherIPv6 && e.OwnIPv6 != nil {
				e.OwnIPv6(w, ifp, h[packet.EtherLen:])
			}
		}
		if drop {
			w.Drop(p, why)
			continue
		}
		p.TrimFront(packet.EtherLen)
		if typ != runType && run > 0 {
			e.deliver(w, ifp, runType, burst[:run])
			run = 0
		}
		burst[run], runType = p, typ
		run++
		if run <= i {
			burst[i] = nil
		}
	}
	if run > 0 {
		e.deliver(w, ifp, runType, burst[:run])
	}
	ifp.Stats.InPackets.Add(uint64(len(burst)))
	ifp.Stats.InBytes.Add(octets)
	if mcast != 0 {
		ifp.Stats.InMcast.Add(mcast)
	}
}

// take gives what stands on ifp the frames that are its own, and counts them.
func take(w *netif.Work, ifp *netif.Interface, above *netif.Above, burst []*packet.Buf) []*packet.Buf {
	n, octets := len(burst), octetsOf(burst)
	if above.Bridge != nil {
		burst = above.Bridge.Take(w, ifp, burst)
	}
	if above.VLANs != nil {
		burst = above.VLANs.Take(w, ifp, burst)
	}
	ifp.Stats.InPackets.Add(uint64(n - len(burst)))
	ifp.Stats.InBytes.Add(octets - octetsOf(burst))
	return burst
}

func octetsOf(burst []*packet.Buf) (n uint64) {
	for _, p := range burst {
		n += uint64(p.Len())
	}
	return n
}

func (e *Ether) deliver(w *netif.Work, ifp *netif.Interface, typ uint16, run []*packet.Buf) {
	for i, t := range e.types {
		if t == typ {
			e.handlers[i].Input(w, ifp, run)
			return
		}
	}
	for i, p := range run {
		if inner, ok := untagged(typ, p); ok {
			p.TrimFront(packet.VLANTagLen)
			p.MarkL3(0)
			e.deliver(w, ifp, inner, run[i:i+1])
			continue
		}
		ifp.Stats.NoProto.Add(1)
		w.Drop(p, cntNoProto)
	}
}

// untagged is the type behind a tag that says a priority and no VLAN: such a frame is
// as one without it (IEEE 802.1Q §6.9).
func untagged(typ uint16, p *packet.Buf) (inner uint16, ok bool) {
	if typ != packet.EtherVLAN || p.Len() < packet.VLANTagLen {
		return 0, false
	}
	id, inner := packet.VLANTag(p.Bytes())
	return inner, id == 0 && inner != packet.EtherVLAN
}

func (e *Ether) neighbour(ifp *netif.Interface, nexthop netip.Addr) *netif.Neighbour {
	r := e.resolvers[0]
	if !nexthop.Is4() {
		r = e.resolvers[1]
	}
	return r.Neighbour(ifp, nexthop)
}

// Output frames a packet for the neighbour nexthop.
func (e *Ether) Output(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, nexthop netip.Addr) error {
	var dst netif.MAC
	typ := uint16(packet.EtherIPv4)
	r := e.resolvers[0]
	if !nexthop.Is4() {
		typ, r = packet.EtherIPv6, e.resolvers[1]
	}
	switch {
	case pkt.Flags&packet.FlagBroadcast != 0:
		dst = netif.BroadcastMAC
	case pkt.Flags&packet.FlagMulticast != 0:
		dst = netif.GroupMAC(nexthop)
	default:
		mac, ok, err := r.Resolve(w, ifp, nexthop, pkt)
		if !ok {
			return err
		}
		dst = mac
	}
	e.Send(w, ifp, pkt, dst, typ)
	return nil
}

// Send puts the link header in front of pkt and transmits it.
func (e *Ether) Send(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, dst netif.MAC, typ uint16) {
	if pkt.Headroom() < packet.EtherLen {
		w.Drop(pkt, cntNoRoom)
		return
	}
	packet.PutEther(pkt.Prepend(packet.EtherLen), dst, ifp.MAC(), typ)
	w.Transmit(ifp, pkt)
}
