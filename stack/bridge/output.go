package bridge

import (
	"net/netip"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Out is netif.Member: what the stack sends by a member goes to the member that leads
// to its station.
func (m *member) Out(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	b := m.b
	up := b.ifp.Up()
	members := *b.members.Load()
	for _, p := range burst {
		h, ok := packet.CheckEther(p.Bytes())
		if !up || !ok || m.gone.Load() {
			w.TransmitDirect(ifp, p)
			continue
		}
		dst := netif.MAC(h.Dst())
		if to := b.fdb.find(dst, w.Now); to != nil && !dst.IsMulticast() {
			w.Count(cntForwarded)
			to.send(w, p)
			continue
		}
		b.flood(w, p, nil, members, 0)
	}
}

// flood sends a frame by all members but the one that it came by, those whose flags
// have what is needed. The last one gets the frame itself.
func (b *bridge) flood(w *netif.Work, p *packet.Buf, from *member, members []*member, need uint32) {
	var last *member
	for _, o := range members {
		if o == from || o.flags.Load()&need != need || !o.forwards() {
			continue
		}
		if last != nil {
			if c := p.Clone(); c != nil {
				last.send(w, c)
			} else {
				w.Count(cntNoMem)
			}
		}
		last = o
	}
	if last == nil {
		if from != nil && len(members) == 1 { // the bridge leads nowhere yet
			p.Free()
			return
		}
		w.Drop(p, cntNobody)
		return
	}
	w.Count(cntFlooded)
	last.send(w, p)
}

// forwards reports whether a member takes frames to send.
func (m *member) forwards() bool { return m.state.Load() == Forwarding && m.ifp.Up() && !m.gone.Load() }

// send has a member send a frame that has been decided about.
func (m *member) send(w *netif.Work, p *packet.Buf) {
	switch {
	case !m.forwards():
		m.drop(w, p, cntNobody)
		return
	case !fits(p, m.ifp.MTU()):
		m.drop(w, p, cntTooBig)
		return
	}
	m.out.Add(1)
	m.b.ifp.Stats.OutPackets.Add(1)
	m.b.ifp.Stats.OutBytes.Add(uint64(p.Len()))
	w.TransmitDirect(m.ifp, p)
}

// fits reports whether what is in a frame is no larger than an MTU.
func fits(p *packet.Buf, mtu int) bool {
	n := p.Len() - len(p.L3())
	p.TrimFront(n)
	ok := p.Fits(mtu)
	p.Prepend(n)
	return ok
}

// output is a bridge's Interface.Output: its members are the stations, not itself.
func output(w *netif.Work, ifp *netif.Interface, p *packet.Buf, _ netip.Addr) error {
	ifp.Stats.OutErrors.Add(1)
	w.Drop(p, cntNoOutput)
	return syscall.ENETDOWN
}
