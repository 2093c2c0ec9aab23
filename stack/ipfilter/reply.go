package ipfilter

import (
	"encoding/binary"
	"net/netip"

	"ionet/ipl"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

var nodeUnreach = mib.Int("net.inet.ipf.fr_unreach", packet.ICMPUnreachPort, "The code of `return-icmp` that names none, in IPv4's numbers; of IPv6 the code that says the same.", mib.Range(0, 15))

var cntRouted = mib.NewCounter("ipf", "routed by a rule", "# packet{s} that a rule sent its own way, in place of the route's")

// unreach6 are the codes of ICMPv6's "unreachable" that say what those of ICMP do (RFC 4443 §3.1).
func unreach6(code int) int {
	switch code {
	case packet.ICMPUnreachProtocol, packet.ICMPUnreachPort:
		return packet.ICMP6UnreachPort
	case packet.ICMPUnreachNet, 6, 11: // the net's: unreachable, unknown, for the type of service
		return packet.ICMP6UnreachNoRoute
	case packet.ICMPUnreachNetProhib, packet.ICMPUnreachHostProhib, packet.ICMPUnreachFilter, 14, 15: // forbidden
		return packet.ICMP6UnreachAdmin
	}
	return packet.ICMP6UnreachAddr
}

// reply answers the sender of a blocked packet as its rule says.
func (f *Filter) reply(w *netif.Work, i *pfil.Info, r *rule) {
	n := f.nets[side(i.V6)]
	if n == nil || r.Reply == ipl.NoReply || i.Is&(pfil.Multicast|pfil.Broadcast|pfil.FragBody) != 0 {
		return
	}
	d := f.stat(i)
	if r.Reply == ipl.ReplyRST {
		if i.Proto == packet.ProtoTCP && i.Flags&packet.TCPRst == 0 && i.Is&pfil.Short == 0 {
			d.RSTs.Add(1)
			f.reset(w, i, n)
		}
		return
	}
	code := r.ICMPCode
	if code < 0 {
		if code = int(f.env.MIB.Int(nodeUnreach)); i.V6 {
			code = unreach6(code)
		}
	}
	d.Replies.Add(1)
	n.Refuse(w, i.Pkt, uint8(code), r.Reply == ipl.ReplyAsDest)
}

// reset answers a segment as a host without such a connection (RFC 9293 §3.10.7.1).
func (f *Filter) reset(w *netif.Work, i *pfil.Info, n Net) {
	g, ok := segmentOf(i)
	if !ok {
		return
	}
	seq, ack, flags := uint32(0), g.end, uint8(packet.TCPRst|packet.TCPAck)
	if g.flags&packet.TCPAck != 0 {
		seq, ack, flags = g.ack, 0, packet.TCPRst
		if s, back := f.states.find(i); s != nil && i.Out { // in the numbers that its receiver knows
			seq += s.shift()[1-sideOf(back)]
		}
	}
	hlen := packet.IPv4Len
	if i.V6 {
		hlen = packet.IPv6Len
	}
	p := f.env.Pool.Get(hlen + packet.TCPLen)
	if p == nil {
		return
	}
	b := p.Append(hlen + packet.TCPLen)
	packet.PutTCP(b[hlen:], i.Dport, i.Sport, seq, ack, packet.TCPLen, flags, 0, 0, 0)
	var ifp *netif.Interface // by the route
	if i.V6 {
		src, _ := packet.Unscoped(i.Dst)
		dst, index := packet.Unscoped(i.Src)
		if index != 0 {
			ifp = f.env.Ifs.ByIndex(index)
		}
		packet.PutIPv6(b, 0, 0, packet.TCPLen, packet.ProtoTCP, 64, src, dst)
	} else {
		packet.PutIPv4(b, 0, len(b), 0, packet.IPv4DF, 64, packet.ProtoTCP, i.Dst, i.Src, nil).SetChecksum()
	}
	sum := ^packet.Fold(packet.Sum(packet.HeaderPseudoSum(b, packet.ProtoTCP, packet.TCPLen), b[hlen:]))
	binary.BigEndian.PutUint16(b[hlen+packet.TCPCsumOffset:], sum)
	p.Csum = packet.CsumVerified
	p.MarkL3(0)
	w.Turn(func(w *netif.Work, p *packet.Buf) { n.Inject(w, p, ifp, netip.Addr{}) }, p)
}

// routed sends a copy of what a rule has let pass, and itself by a way of the rule's, if it
// names one; false: it has gone that way.
func (f *Filter) routed(w *netif.Work, i *pfil.Info, dup, to ipl.Target, fast bool) bool {
	if dup.If != "" {
		f.copyTo(w, i, dup)
	}
	if to.If == "" && !fast {
		return true
	}
	n := f.nets[side(i.V6)]
	var ifp *netif.Interface
	if to.If != "" {
		if ifp = f.env.Ifs.ByName(to.If); ifp == nil {
			w.Drop(i.Pkt, cntBlocked)
			return false
		}
	}
	if n == nil || i.Out && ifp == i.If && !to.Addr.IsValid() {
		return true
	}
	w.Count(cntRouted)
	w.Turn(func(w *netif.Work, p *packet.Buf) { n.Inject(w, p, ifp, to.Addr) }, i.Pkt)
	return false
}

// copyTo sends a copy.
func (f *Filter) copyTo(w *netif.Work, i *pfil.Info, to ipl.Target) {
	n, ifp := f.nets[side(i.V6)], f.env.Ifs.ByName(to.If)
	if n == nil || ifp == nil {
		return
	}
	c := i.Pkt.Clone()
	if c == nil {
		return
	}
	w.Turn(func(w *netif.Work, p *packet.Buf) { n.Inject(w, p, ifp, to.Addr) }, c)
}
