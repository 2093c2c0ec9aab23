package inet6

import (
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/reass"
)

var nodeMaxFrags = mib.Int("net.inet6.ip6.maxfragpackets", 200, "Packets being reassembled at most; 0: none.", mib.Range(0, 1<<20))

const (
	reassTime = 60 * second // RFC 8200 §4.5
	payloadAt = 4           // where the payload's length stands in the IPv6 header
	fragOffAt = 2           // where the offset stands in the Fragment header
)

func (in *Inet6) reassConfig() reass.Config {
	return reass.Config{Env: in.env, Limit: nodeMaxFrags, Time: reassTime,
		Dropped: cntFragDrop, Bad: cntFragBad, TimedOut: cntFragTime, Joined: cntReass,
		Expired: func(w *netif.Work, first *packet.Buf) {
			in.sendError(w, first, packet.ICMP6TimeExceeded, packet.ICMP6TimeReassembly, 0)
		}}
}

// fragmentHeader takes the fragment at x, and goes on behind the Fragment header with the
// whole packet if this was the last piece. False: the packet has ended, or waits.
func (in *Inet6) fragmentHeader(w *netif.Work, x *chain) bool {
	p := x.p
	all := packet.IPv6(p.Bytes())
	f, ok := packet.CheckFragment(all[x.at:])
	if !ok {
		w.Drop(p, cntTooShort)
		return false
	}
	w.Count(cntFrags)
	x.fragmented = true
	head := x.at + packet.FragmentLen
	n, off := len(all)-head, f.Off()
	switch {
	case f.IsAtomic(): // RFC 6946: it has no others, and disturbs none
		x.next, x.nextAt, x.at = f.Next(), x.at, head
		return true
	case f.More() && n%8 != 0:
		w.Count(cntFragBad)
		in.problem(w, p, packet.ICMP6ParamHeader, payloadAt)
		return false
	case x.at-packet.IPv6Len+off+n > maxPayload:
		w.Count(cntFragBad)
		in.problem(w, p, packet.ICMP6ParamHeader, x.at+fragOffAt)
		return false
	case n == 0:
		w.Drop(p, cntFragBad)
		return false
	}
	if off == 0 {
		if proto, at, _, whole := transport(all); !whole || len(all)-at < leastHeader(proto) { // RFC 7112 §5, code 3
			in.sendError(w, p, packet.ICMP6ParamProblem, 3, 0)
			w.Drop(p, cntFragBad)
			return false
		}
	}
	key := reass.Key{Src: packet.Scoped(all.Src(), p.RcvIf), Dst: packet.Scoped(all.Dst(), p.RcvIf), ID: f.ID(), Sec: p.Sec}
	p, of := in.reass.Add(w, key, reass.Piece{Off: off, Len: n, More: f.More(), Head: head, Keep: x.at, NextAt: x.nextAt, Next: f.Next()}, p)
	if p == nil {
		return false
	}
	if p.Len()-packet.IPv6Len > maxPayload {
		w.Drop(p, cntFragBad)
		return false
	}
	all = packet.IPv6(p.Bytes())
	all.SetPayloadLen(p.Len() - packet.IPv6Len)
	all[of.NextAt] = of.Next
	x.p, x.next, x.nextAt, x.at = p, of.Next, of.NextAt, of.Keep // the first piece's, not this one's (RFC 8200 §4.5)
	return true
}

// leastHeader is how much of an upper-layer header the first fragment has to hold
// (RFC 7112 §3).
func leastHeader(proto uint8) int {
	switch proto {
	case packet.ProtoTCP:
		return packet.TCPLen
	case packet.ProtoUDP:
		return packet.UDPLen
	case packet.ProtoICMPv6:
		return packet.ICMP6Len
	case packet.ProtoNone:
		return 0
	}
	return 1
}
