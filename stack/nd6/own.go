package nd6

import (
	"log/slog"
	"net/netip"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// OwnFrame looks at a frame that has come in from our own link address, b from its
// IPv6 header on. The link has brought one of ours back, or another station has
// our link address, and with it the addresses that are made of it; only the nonce of
// a solicitation tells one from the other (RFC 7527 §4). Nothing else in such a frame
// is believed.
func (nd *ND) OwnFrame(w *netif.Work, ifp *netif.Interface, b []byte) {
	h, ok := packet.CheckIPv6(b)
	if !ok || h.Next() != packet.ProtoICMPv6 || h.HopLimit() != 255 || h.PayloadLen() < packet.NeighborSolLen || h.PayloadLen() > len(b)-packet.IPv6Len {
		return
	}
	m := packet.ICMP6(h.Payload()[:h.PayloadLen()])
	n := packet.Neighbor(m)
	if m.Code() != 0 || !packet.CheckNDOptions(n.Options()) || !m.ChecksumOK(h.Src(), h.Dst()) {
		return
	}
	target := packet.Scoped(n.Target(), ifp.Index)
	a := nd.in.Addr(ifp, target)
	if a == nil || a.Duplicated {
		return
	}
	switch m.Type() {
	case packet.ICMP6NeighborSol:
		o := packet.FindNDOption(n.Options(), packet.NDOptNonce)
		if h.Src() != unspecified || len(o) != 8 {
			return
		}
		if a.Tentative {
			nd.contested(w, ifp, target, o)
			return
		}
		if !nd.askedOnce(nonce(o.Data())) {
			nd.sameStation(w, ifp, target)
			nd.answer(w, answer{ifp: ifp, target: target, to: packet.Scoped(allNodes, ifp.Index), mac: ifp.MAC(), flags: packet.NAFlagOverride})
		}
	case packet.ICMP6NeighborAdv: // we advertise nothing that is tentative, unless it is optimistic
		if a.Tentative && a.Flags&netif.AddrOptimistic == 0 {
			nd.contested(w, ifp, target, nil)
		}
	}
}

// sameStation logs that a station asks for an address of ours from our own link
// address.
func (nd *ND) sameStation(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	w.Count(cntConflict)
	nd.log(w, slog.LevelError, "nd6: another station has our link address, and asks for an address of ours", "address", plain(ip), "link", ifp.MAC(), "interface", ifp.Name)
}
