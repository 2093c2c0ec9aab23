package inet

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/reass"
)

const reassTime = 30 * second // IPFRAGTTL

func (in *Inet) reassConfig() reass.Config {
	return reass.Config{Env: in.env, Limit: nodeMaxFrags, Time: reassTime,
		Dropped: cntFragDrop, Bad: cntFragBad, TimedOut: cntFragTime, Joined: cntReassembled,
		Expired: func(w *netif.Work, first *packet.Buf) { // RFC 1122 §3.3.2
			in.sendError(w, first, packet.ICMPTimeExceeded, packet.ICMPTimeReassembly, 0)
		}}
}

// reassemble takes a fragment and answers the whole datagram if this was the
// last piece.
func (in *Inet) reassemble(w *netif.Work, p *packet.Buf, h packet.IPv4) *packet.Buf {
	hlen := h.HeaderLen()
	off, n, more := h.FragOff(), h.TotalLen()-hlen, h.MF()
	if n == 0 || more && n%8 != 0 || off+n+hlen > maxDatagram {
		w.Drop(p, cntFragBad)
		return nil
	}
	key := reass.Key{Src: h.Src(), Dst: h.Dst(), ID: uint32(h.ID()), Proto: h.Proto(), Sec: p.Sec}
	p, _ = in.reass.Add(w, key, reass.Piece{Off: off, Len: n, More: more, Head: hlen, Keep: hlen}, p)
	if p == nil {
		return nil
	}
	if p.Len() > maxDatagram {
		w.Drop(p, cntFragBad)
		return nil
	}
	h = packet.IPv4(p.Bytes())
	h.SetTotalLen(p.Len())
	h.SetFrag(0)
	h.SetChecksum()
	return p
}
