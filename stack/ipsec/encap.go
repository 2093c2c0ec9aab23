package ipsec

import (
	"encoding/binary"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// cut takes a super-packet of ESP in UDP apart, window at the UDP header.
func (x *IPsec) cut(w *netif.Work, pkt *packet.Buf) {
	head := len(pkt.L3()) - pkt.Len()
	sec := pkt.Sec
	pkt.RestoreL3()
	var room [128]*packet.Buf
	segs, ok := pkt.Segments(room[:0])
	if !ok {
		drop(w, pkt, statsOf(pkt).inInvalid, protoStats[0].badLen)
		return
	}
	pkt.Free()
	for _, c := range segs {
		w.Count(protoStats[0].in)
		c.Sec = sec
		c.TrimFront(head + packet.UDPLen)
		x.openESP(w, c, true)
	}
}

// sum has the driver compute the checksum of a packet of ESP in UDP, window at its IP header, which is zero.
func sum(pkt *packet.Buf) {
	u := pkt.L4()
	binary.BigEndian.PutUint16(u[packet.UDPCsumOffset:], packet.Fold(packet.HeaderPseudoSum(pkt.Bytes(), packet.ProtoUDP, len(u))))
	pkt.SetPartial(pkt.Len()-len(u), packet.UDPCsumOffset)
}

// summed gives what a super-packet was cut into checksums, if the driver computes them: so it may leave as a super-packet
// of datagrams, which have none of zero (RFC 3948 §2.1 has zero as a SHOULD).
func (s *SA) summed(y *way, pkt *packet.Buf) {
	if s.inUDP() && s.Dst.Is4() && y.flow.Route.If.Caps()&netif.CapCsum != 0 {
		sum(pkt)
	}
}

func (s *SA) inUDP() bool { return s.NATT.Type != 0 && s.Proto == packet.ProtoESP }
