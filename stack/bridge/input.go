package bridge

import (
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// The addresses 01:80:c2:00:00:00 to 0f are of protocols between neighbours, and no
// bridge passes them on (IEEE 802.1D §7.12.6); the first is the spanning tree's.
var reserved = netif.MAC{1, 0x80, 0xc2}

func isReserved(m netif.MAC) bool {
	last := m[5]
	m[5] = 0
	return m == reserved && last < 16
}

// Take is netif.Intake: what is for other stations is forwarded. What stays is for the
// member itself, or for a group.
func (m *member) Take(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) []*packet.Buf {
	b := m.b
	if !b.ifp.Up() || !ifp.Up() {
		return burst
	}
	b.ifp.TapIn(w, burst)
	n, octets := 0, uint64(0)
	for i, p := range burst {
		p.RcvIf, p.Time = ifp.Index, w.Now
		octets += uint64(p.Len())
		burst[i] = nil
		if m.take(w, p) {
			burst[n] = p
			n++
		}
	}
	m.in.Add(uint64(len(burst)))
	b.ifp.Stats.InPackets.Add(uint64(len(burst)))
	b.ifp.Stats.InBytes.Add(octets)
	return burst[:n]
}

// take reports whether a frame stays with the member.
func (m *member) take(w *netif.Work, p *packet.Buf) (stays bool) {
	h, ok := packet.CheckEther(p.Bytes())
	if !ok {
		return true
	}
	mark(p)
	dst, src := netif.MAC(h.Dst()), netif.MAC(h.Src())
	if isReserved(dst) {
		switch {
		case dst != reserved:
			return true
		case m.flags.Load()&STP == 0 && m.b.tree.speaks.Load(): // to others it would look as if we were not there
			return m.drop(w, p, cntBlocked)
		case m.flags.Load()&STP != 0:
			m.b.tree.receive(w, m, h)
			p.Free()
			return false
		}
	}
	state := m.state.Load()
	if state != Forwarding && state != Hearing {
		return m.drop(w, p, cntBlocked)
	}
	members := *m.b.members.Load()
	switch {
	case src.IsMulticast():
		return m.drop(w, p, cntBadSrc)
	case owner(members, src) != nil:
		return m.drop(w, p, cntLoop)
	}
	if m.flags.Load()&Learning != 0 {
		m.b.fdb.learn(w, src, m)
	}
	if state == Hearing {
		return m.drop(w, p, cntBlocked)
	}
	if dst.IsMulticast() {
		if p.Flags |= packet.FlagMulticast; dst == netif.BroadcastMAC {
			p.Flags = p.Flags&^packet.FlagMulticast | packet.FlagBroadcast
		}
		return m.group(w, p, members)
	}
	if o := owner(members, dst); o != nil {
		if o == m {
			return true
		}
		m.b.raise(w, o, p)
		return false
	}
	switch to := m.b.fdb.find(dst, w.Now); {
	case to == nil:
		m.b.flood(w, p, m, members, Discover)
	case to == m:
		return m.drop(w, p, cntSame)
	default:
		w.Count(cntForwarded)
		to.send(w, p)
	}
	return false
}

// group floods a frame for a group, and takes it up: on every member that has
// addresses, since each of them is a station of the network; on this one if none
// has.
func (m *member) group(w *netif.Work, p *packet.Buf, members []*member) (stays bool) {
	stays = len(m.ifp.Addrs()) > 0
	elsewhere := false
	for _, o := range members {
		if o == m || len(o.ifp.Addrs()) == 0 || !o.ifp.Up() {
			continue
		}
		elsewhere = true
		if c := p.Clone(); c != nil {
			m.b.raise(w, o, c)
		} else {
			w.Count(cntNoMem)
		}
	}
	if !stays && elsewhere {
		m.b.flood(w, p, m, members, 0)
		return false
	}
	if c := p.Clone(); c != nil {
		m.b.flood(w, c, m, members, 0)
	} else {
		w.Count(cntNoMem)
	}
	return true
}

// raise takes a frame up on the member that it is for, as a turn.
func (b *bridge) raise(w *netif.Work, o *member, p *packet.Buf) {
	p.RcvIf = o.ifp.Index
	w.Turn(b.local, p)
}

func (m *member) drop(w *netif.Work, p *packet.Buf, why mib.Counter) bool {
	m.dropped.Add(1)
	w.Drop(p, why)
	return false
}

// mark notes where the network header of a frame begins, behind a tag if it has one, and
// of a super-packet the transport header: who cuts it looks there.
func mark(p *packet.Buf) {
	l3, b := packet.EtherLen, p.Bytes()
	if packet.Ether(b).Type() == packet.EtherVLAN && len(b) >= l3+packet.VLANTagLen {
		l3 += packet.VLANTagLen
	}
	p.MarkL3(l3)
	if p.Csum == packet.CsumPartial {
		p.MarkL4(p.CsumStart())
	}
}

// owner is the member among members whose own address m is, or nil.
func owner(members []*member, m netif.MAC) *member {
	for _, o := range members {
		if o.ifp.MAC() == m {
			return o
		}
	}
	return nil
}
