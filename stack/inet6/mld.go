package inet6

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
	cntMLDIn     = mib.NewCounter("mld6", "received", "# message{s} received")
	cntMLDShort  = mib.NewCounter("mld6", "too short", "# message{s} received with too few bytes")
	cntMLDBad    = mib.NewCounter("mld6", "bad", "# message{s} not from this link or about no group")
	cntMLDQuery  = mib.NewCounter("mld6", "queries", "# membership quer{y} received")
	cntMLDReport = mib.NewCounter("mld6", "reports received", "# membership report{s} received")
	cntMLDOurs   = mib.NewCounter("mld6", "reports for our groups", "# membership report{s} received for groups to which we belong")
	cntMLDDone   = mib.NewCounter("mld6", "dones received", "# membership termination{s} received")
	cntMLDSent   = mib.NewCounter("mld6", "reports sent", "# membership report{s} sent")

	allNodesHere = netip.MustParseAddr("ff01::1")
	allRouters   = netip.MustParseAddr("ff02::2")
	allMLDv2     = netip.MustParseAddr("ff02::16")

	mldExt = &socket.Ext6{HopByHop: packet.RouterAlert[:]}
)

const millisecond = second / 1000

// input takes over a message of MLD. Whoever is not on the link, or does not
// have routers look, is not believed (RFC 3810 §5.1.14, §6.2).
func (g *groups) input(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	w.Count(cntMLDIn)
	h := packet.IPv6(p.L3())
	src, m := h.Src(), p.Bytes()
	if p.Flags&packet.FlagLoop != 0 {
		p.Free() // our own, come back
		return
	}
	if h.HopLimit() != 1 || !packet.HasRouterAlert(h) || !linkLocal.Contains(src) && src != unspecified {
		w.Drop(p, cntMLDBad)
		return
	}
	switch m[0] {
	case packet.ICMP6MLDv2Report: // for routers
		w.Count(cntMLDReport)
		p.Free()
		return
	case packet.ICMP6MLDDone:
		w.Count(cntMLDDone)
		p.Free()
		return
	}
	v, ok := packet.CheckMLD(m)
	if !ok {
		w.Drop(p, cntMLDShort)
		return
	}
	ok = src != unspecified
	if v.Type() == packet.ICMP6MLDQuery {
		w.Count(cntMLDQuery)
		ok = ok && g.query(w, ifp, v, packet.Scoped(h.Dst(), ifp.Index))
	} else {
		w.Count(cntMLDReport)
		if ok = ok && v.Group().IsMulticast(); ok && g.Heard(w, ifp, packet.Scoped(v.Group(), ifp.Index)) {
			w.Count(cntMLDOurs)
		}
	}
	if !ok {
		w.Drop(p, cntMLDBad)
		return
	}
	p.Free()
}

// query has a query answered (RFC 3810 §6.2, §8.2.1). One about all groups goes
// to all nodes, one about a group to that, and either to an address of ours, by
// somebody who looks for faults.
func (g *groups) query(w *netif.Work, ifp *netif.Interface, m packet.MLD, dst netip.Addr) bool {
	q := membership.Query{Version: m.Version(), Delay: int64(m.MaxResp()) * millisecond}
	switch ip := m.Group(); {
	case ip.IsMulticast():
		q.Group = packet.Scoped(ip, ifp.Index)
		if dst.IsMulticast() && dst != q.Group {
			return false
		}
	case ip != unspecified || dst.IsMulticast() && dst != packet.Scoped(allNodes, ifp.Index):
		return false
	}
	if q.Version == 2 {
		for i := range m.NSources() {
			q.Sources = append(q.Sources, packet.Scoped(m.Source(i), ifp.Index))
		}
	}
	g.Query(w, ifp, q)
	return true
}

// mldMessages is MLD as membership.Messages.
type mldMessages Inet6

// Reported is all groups but that of all nodes, and those that no router has to do
// with: of scope 0 or of this host (RFC 3810 §6). lo0 has no routers, and stf0 no groups.
func (*mldMessages) Reported(ifp *netif.Interface, ip netip.Addr) bool {
	return ifp.Flags()&(netif.FlagLoopback|netif.FlagMulticast) == netif.FlagMulticast && scopeOf(ip) > scopeInterface && unscoped(ip) != allNodes
}

// Room is membership.Messages: a report is in no fragments.
func (m *mldMessages) Room(ifp *netif.Interface) int {
	return (*Inet6)(m).linkMTU(ifp) - packet.IPv6Len - len(packet.RouterAlert) - packet.MLDReport2Len
}

// Report sends a version 2 report (RFC 3810 §5.2).
func (m *mldMessages) Report(w *netif.Work, ifp *netif.Interface, recs []membership.Record) {
	b := make([]byte, packet.MLDReport2Len, 64)
	b[0] = packet.ICMP6MLDv2Report
	binary.BigEndian.PutUint16(b[6:], uint16(len(recs)))
	for _, r := range recs {
		b = packet.AppendMLDRecord(b, r.Type, r.Group, r.Sources)
	}
	m.send(w, ifp, allMLDv2, b)
}

// Old sends a version 1 report or done (RFC 2710 §4).
func (m *mldMessages) Old(w *netif.Work, ifp *netif.Interface, group netip.Addr, _ int, leave bool) {
	b := make([]byte, packet.MLDLen)
	if leave {
		packet.PutMLD(b, packet.ICMP6MLDDone, group)
		m.send(w, ifp, allRouters, b)
		return
	}
	packet.PutMLD(b, packet.ICMP6MLDReport, group)
	m.send(w, ifp, group, b)
}

// send puts a message on the work list: from the link-local address, or, while
// there is none, from nobody (RFC 3590).
func (m *mldMessages) send(w *netif.Work, ifp *netif.Interface, dst netip.Addr, msg packet.ICMP6) {
	in := (*Inet6)(m)
	p := in.env.Pool.Get(packet.IPv6Len + len(packet.RouterAlert) + len(msg))
	if p == nil {
		w.Count(cntOutNoMem)
		return
	}
	copy(p.Append(len(msg)), msg)
	src := in.LinkLocal(ifp)
	if !src.IsValid() {
		src = unspecified
	}
	w.Count(cntMLDSent)
	f := socket.Flow{Src: src, Dst: packet.Scoped(dst, ifp.Index), Proto: packet.ProtoICMPv6, TTL: 1, IfIndex: ifp.Index,
		NoLoop: true, Ext: mldExt, Raw: true}
	w.Turn(func(w *netif.Work, p *packet.Buf) {
		_ = in.sendICMP(w, p, &f) // a report that cannot leave is repeated
	}, p)
}
