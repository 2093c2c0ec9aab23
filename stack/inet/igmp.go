package inet

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var (
	cntIGMPIn     = mib.NewCounter("igmp", "received", "# message{s} received")
	cntIGMPShort  = mib.NewCounter("igmp", "IGMP too short", "# message{s} received with too few bytes")
	cntIGMPSum    = mib.NewCounter("igmp", "bad IGMP checksum", "# message{s} received with bad checksum")
	cntIGMPQuery  = mib.NewCounter("igmp", "queries", "# membership quer{y} received")
	cntIGMPReport = mib.NewCounter("igmp", "reports received", "# membership report{s} received")
	cntIGMPBad    = mib.NewCounter("igmp", "bad IGMP", "# message{s} not from this link or about no group")
	cntIGMPOurs   = mib.NewCounter("igmp", "reports for our groups", "# membership report{s} received for groups to which we belong")
	cntIGMPSent   = mib.NewCounter("igmp", "reports sent", "# membership report{s} sent")

	allRouters  = netip.AddrFrom4([4]byte{224, 0, 0, 2})
	igmpv3Group = netip.AddrFrom4([4]byte{224, 0, 0, 22})
	routerAlert = []byte{0x94, 4, 0, 0} // RFC 2113
)

const (
	robustness    = 2            // RFC 3376 §8.1
	unsolicitedV3 = second       // §8.11
	unsolicitedV2 = 10 * second  // RFC 2236 §8.10
	olderQuerier  = 260 * second // §8.12: robustness × 125 s + 10 s
)

// igmpIf is what IGMP knows of a link: until when a router of an older
// version is held to be there (RFC 3376 §7.2.1).
type igmpIf struct{ v1, v2 int64 }

func (g *groups) version(w *netif.Work, ifindex uint32) int {
	i := g.ifs[ifindex]
	switch {
	case i == nil:
		return 3
	case i.v1 > w.Now:
		return 1
	case i.v2 > w.Now:
		return 2
	}
	return 3
}

func (g *groups) upTo(d int64) int64 { return int64(uint64(g.in.env.Rand32()) * uint64(d) >> 32) }

// igmp is Inet as the protocol with number 2.
type igmp Inet

// Knows is Upper.
func (ig *igmp) Knows(netip.Addr, netip.Addr, []byte) bool { return false }

// ControlInput is Upper.
func (ig *igmp) ControlInput(*netif.Work, socket.Control, netip.Addr, netip.Addr, []byte) {}

// Input is Upper.
func (ig *igmp) Input(w *netif.Work, p *packet.Buf) {
	in := (*Inet)(ig)
	w.Count(cntIGMPIn)
	m, ok := packet.CheckIGMP(p.Bytes())
	ifp := in.env.Ifs.ByIndex(p.RcvIf)
	h := packet.IPv4(p.L3())
	switch {
	case !ok:
		w.Drop(p, cntIGMPShort)
		return
	case !m.ChecksumOK():
		w.Drop(p, cntIGMPSum)
		return
	case ifp == nil || p.Flags&packet.FlagLoop != 0 || h.TTL() != 1: // RFC 3376 §4: from this link
		w.Drop(p, cntIGMPBad)
		return
	}
	switch m.Type() {
	case packet.IGMPQuery:
		w.Count(cntIGMPQuery)
		if !in.groups.query(w, ifp, m, h.Dst()) {
			w.Drop(p, cntIGMPBad)
			return
		}
	case packet.IGMPv1Report, packet.IGMPv2Report:
		w.Count(cntIGMPReport)
		in.groups.heard(w, ifp, m.Group())
	}
	p.Free()
}

// query notes the querier's version and schedules the answers (RFC 3376 §5.2).
func (g *groups) query(w *netif.Work, ifp *netif.Interface, m packet.IGMP, dst netip.Addr) bool {
	ip := m.Group()
	if n := len(m); n > packet.IGMPLen && n < 12 {
		return false // of no version (RFC 3376 §7.1)
	}
	if ip != unspecified && !ip.IsMulticast() || ip == unspecified && dst != allHosts && g.in.Local(dst) == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	st := g.ifs[ifp.Index]
	if st == nil {
		st = &igmpIf{}
		g.ifs[ifp.Index] = st
	}
	resp := int64(m.MaxResp()) * second / 10
	var asked []netip.Addr
	switch {
	case len(m) >= 12:
		resp = int64(m.MaxRespTenths()) * second / 10
		for i := range m.NSources() {
			asked = append(asked, m.Source(i))
		}
	case m.MaxResp() == 0:
		st.v1, resp = w.Now+olderQuerier, 10*second
	default:
		st.v2 = w.Now + olderQuerier
	}
	for _, k := range g.sorted() {
		if k.ifp != ifp || !reported(k.key.group) || ip != unspecified && k.key.group != ip {
			continue
		}
		if k.answer && len(k.asked) == 0 { // a full answer is on its way
			continue
		}
		k.asked = asked
		if k.answer = true; k.changes == 0 {
			g.in.env.Wheel.Reset(&k.timer, w.Now+g.upTo(max(resp, second/10)))
		}
	}
	return true
}

// heard suppresses a version 1 or 2 report that another host has just sent.
func (g *groups) heard(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.all[groupKey{ifp.Index, ip}]; m != nil {
		w.Count(cntIGMPOurs)
		if g.version(w, ifp.Index) < 3 && m.answer {
			m.answer, m.last, m.changes = false, false, 0
			g.in.env.Wheel.Stop(&m.timer)
		}
	}
}

// fire sends what is due for a group.
func (g *groups) fire(w *netif.Work, m *group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !m.gone || m.changes > 0 {
		g.report(w, m)
	}
	if m.gone && m.changes == 0 && g.leaving[m.key] == m {
		delete(g.leaving, m.key)
	}
}

// rearm has the rest reported in a while.
func (g *groups) rearm(w *netif.Work, m *group) {
	d := int64(unsolicitedV3)
	if g.version(w, m.ifp.Index) < 3 {
		d = unsolicitedV2
	}
	g.in.env.Wheel.Reset(&m.timer, w.Now+1+g.upTo(d))
}

// report sends a membership's change or answer, and arms the next.
func (g *groups) report(w *netif.Work, m *group) {
	v := g.version(w, m.ifp.Index)
	var recs []record
	switch {
	case m.changes > 0:
		m.changes--
		recs = m.records
	case m.answer:
		recs = m.current()
		m.answer, m.asked = false, nil
	}
	switch {
	case len(recs) == 0:
	case v == 3:
		g.sendV3(w, m, recs)
	default:
		g.sendOld(w, m, v)
		m.answer, m.asked = false, nil // every report says all there is to say
	}
	if m.changes > 0 || m.answer {
		g.rearm(w, m)
	}
}

// current is the answer to a query: the state, or what of the asked sources is
// wanted (RFC 3376 §5.2).
func (m *group) current() []record {
	if len(m.asked) > 0 {
		var want []netip.Addr
		for _, a := range m.asked {
			if slices.Contains(m.sources, a) == m.include {
				want = append(want, a)
			}
		}
		if len(want) == 0 {
			return nil
		}
		return []record{{packet.IGMPModeIsInclude, want}}
	}
	if m.include {
		return []record{{packet.IGMPModeIsInclude, m.sources}}
	}
	return []record{{packet.IGMPModeIsExclude, m.sources}}
}

func (g *groups) sendV3(w *netif.Work, m *group, recs []record) {
	n := packet.IGMPLen
	for _, r := range recs {
		n += 8 + 4*len(r.sources)
	}
	p := g.in.env.Pool.Get(packet.IPv4MaxLen + n)
	if p == nil {
		w.Count(cntOutNoMem)
		return
	}
	b := p.Append(n)
	clear(b)
	b[0] = packet.IGMPv3Report
	binary.BigEndian.PutUint16(b[6:], uint16(len(recs)))
	at := b[packet.IGMPLen:]
	for _, r := range recs {
		at[0] = r.typ
		binary.BigEndian.PutUint16(at[2:], uint16(len(r.sources)))
		ip := m.key.group.As4()
		copy(at[4:], ip[:])
		at = at[8:]
		for _, s := range r.sources {
			a := s.As4()
			copy(at, a[:])
			at = at[4:]
		}
	}
	packet.IGMP(b).SetChecksum()
	g.send(w, m, p, igmpv3Group)
}

func (g *groups) sendOld(w *netif.Work, m *group, v int) {
	typ, dst := uint8(packet.IGMPv2Report), m.key.group
	switch leaving := len(m.members) == 0; {
	case leaving && (v == 1 || !m.last):
		return
	case leaving:
		typ, dst = packet.IGMPv2Leave, allRouters
	case v == 1:
		typ = packet.IGMPv1Report
	}
	p := g.in.env.Pool.Get(packet.IPv4MaxLen + packet.IGMPLen)
	if p == nil {
		w.Count(cntOutNoMem)
		return
	}
	b := p.Append(packet.IGMPLen)
	clear(b)
	b[0] = typ
	ip := m.key.group.As4()
	copy(b[4:], ip[:])
	packet.IGMP(b).SetChecksum()
	m.last = true
	g.send(w, m, p, dst)
}

// send puts an IGMP message on the work list: we hold the lock of the groups.
func (g *groups) send(w *netif.Work, m *group, p *packet.Buf, dst netip.Addr) {
	p.Csum = packet.CsumVerified
	w.Count(cntIGMPSent)
	f := socket.Flow{Dst: dst, Proto: packet.ProtoIGMP, TTL: 1, TOS: 0xc0, IfIndex: m.ifp.Index, NoLoop: true, Options: routerAlert}
	w.Turn(func(w *netif.Work, p *packet.Buf) {
		_ = g.in.Output(w, p, &f) // a report that cannot leave is repeated
	}, p)
}
