package inet

import (
	"encoding/binary"
	"net/netip"

	"ionet/stack/membership"
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
		if !in.igmpQuery(w, ifp, m, h.Dst()) {
			w.Drop(p, cntIGMPBad)
			return
		}
	case packet.IGMPv1Report, packet.IGMPv2Report:
		w.Count(cntIGMPReport)
		if in.groups.Heard(w, ifp, m.Group()) {
			w.Count(cntIGMPOurs)
		}
	}
	p.Free()
}

// igmpQuery has a query answered (RFC 3376 §5.2, §7.1).
func (in *Inet) igmpQuery(w *netif.Work, ifp *netif.Interface, m packet.IGMP, dst netip.Addr) bool {
	q := membership.Query{Version: 3}
	if n := len(m); n > packet.IGMPLen && n < 12 {
		return false // of no version
	}
	switch ip := m.Group(); {
	case ip.IsMulticast():
		q.Group = ip
	case ip != unspecified || dst != allHosts && in.Local(dst) == nil:
		return false
	}
	resp := int(m.MaxResp())
	switch {
	case len(m) >= 12:
		resp = m.MaxRespTenths()
		for i := range m.NSources() {
			q.Sources = append(q.Sources, m.Source(i))
		}
	case resp == 0:
		q.Version, resp = 1, 100
	default:
		q.Version = 2
	}
	q.Delay = int64(max(resp, 1)) * second / 10
	in.groups.Query(w, ifp, q)
	return true
}

// igmpMessages is IGMP as membership.Messages.
type igmpMessages Inet

// Reported is all groups but that of all hosts (RFC 3376 §5).
func (*igmpMessages) Reported(_ *netif.Interface, ip netip.Addr) bool { return ip != allHosts }

// Room is membership.Messages.
func (*igmpMessages) Room(ifp *netif.Interface) int {
	return ifp.MTU() - packet.IPv4Len - len(routerAlert) - packet.IGMPLen
}

// Report sends a version 3 report (RFC 3376 §4.2).
func (ig *igmpMessages) Report(w *netif.Work, ifp *netif.Interface, recs []membership.Record) {
	b := make([]byte, packet.IGMPLen, 64)
	b[0] = packet.IGMPv3Report
	binary.BigEndian.PutUint16(b[6:], uint16(len(recs)))
	for _, r := range recs {
		b = binary.BigEndian.AppendUint16(append(b, r.Type, 0), uint16(len(r.Sources)))
		b = append(b, r.Group.AsSlice()...)
		for _, s := range r.Sources {
			b = append(b, s.AsSlice()...)
		}
	}
	ig.send(w, ifp, igmpv3Group, b)
}

// Old is membership.Messages. Version 1 has no leave (RFC 1112).
func (ig *igmpMessages) Old(w *netif.Work, ifp *netif.Interface, group netip.Addr, version int, leave bool) {
	typ, dst := uint8(packet.IGMPv2Report), group
	switch {
	case leave && version == 1:
		return
	case leave:
		typ, dst = packet.IGMPv2Leave, allRouters
	case version == 1:
		typ = packet.IGMPv1Report
	}
	ig.send(w, ifp, dst, append([]byte{typ, 0, 0, 0}, group.AsSlice()...))
}

// send puts a message on the work list.
func (ig *igmpMessages) send(w *netif.Work, ifp *netif.Interface, dst netip.Addr, m packet.IGMP) {
	m.SetChecksum()
	p := ig.env.Pool.Get(packet.IPv4MaxLen + len(m))
	if p == nil {
		w.Count(cntOutNoMem)
		return
	}
	copy(p.Append(len(m)), m)
	p.Csum = packet.CsumVerified
	w.Count(cntIGMPSent)
	f := socket.Flow{Dst: dst, Proto: packet.ProtoIGMP, TTL: 1, TOS: 0xc0, IfIndex: ifp.Index, NoLoop: true, Options: routerAlert}
	w.Turn(func(w *netif.Work, p *packet.Buf) {
		_ = (*Inet)(ig).Output(w, p, &f) // a report that cannot leave is repeated
	}, p)
}
