package tcp

import (
	"net/netip"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Input takes over a segment; the window begins at the TCP header.
func (t *TCP) Input(w *netif.Work, pkt *packet.Buf) {
	w.Count(cntIn)
	b := pkt.Bytes()
	h, ok := packet.CheckTCP(b)
	if !ok {
		if len(b) < packet.TCPLen {
			w.Drop(pkt, cntInShort)
		} else {
			w.Drop(pkt, cntInHdr)
		}
		return
	}
	if pkt.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 { // RFC 9293 §3.9.2.3
		w.Drop(pkt, cntInBcast)
		return
	}
	local, foreign := peerOf(t.nets.Of(pkt), pkt, h)
	if pkt.Csum == packet.CsumNone {
		sum := packet.HeaderPseudoSum(pkt.L3(), packet.ProtoTCP, len(b))
		if packet.Fold(packet.Sum(sum, b)) != 0xffff {
			w.Drop(pkt, cntInSum)
			return
		}
		pkt.Csum = packet.CsumVerified
	}
	s := segment{pkt: pkt, seq: seq(h.Seq()), ack: seq(h.Ack()), wnd: uint32(h.Window()), flags: h.Flags(), urgent: h.Urgent(),
		ce: ecnOf(pkt.L3())&ecnMask == ecnCE}
	if hlen := h.HeaderLen(); hlen > packet.TCPLen {
		s.opt.Parse(h.Options())
		pkt.TrimFront(hlen)
	} else {
		pkt.TrimFront(packet.TCPLen)
	}
	if s.ce {
		w.Count(cntECNCE)
	}
	t.demux(w, &s, local, foreign)
}

// ecnOf is the octet of the network header with the ECN field.
func ecnOf(l3 []byte) uint8 {
	if l3[0]>>4 == 4 {
		return l3[1]
	}
	return l3[1] >> 4
}

// demux finds who a segment is for: a connection, what is left of one, or a
// listener. The order matters: the exact pair is always first.
func (t *TCP) demux(w *netif.Work, s *segment, local, foreign socket.Addr) {
	h := t.table.Hash(local, foreign)
	for range 2 {
		if p := t.table.LookupConn(h, local, foreign, s.pkt.RcvIf); p != nil {
			c := p.So.H.(*conn)
			c.mu.Lock()
			if !c.gone {
				if t.admits(w, s, c.opts) {
					c.segment(w, s)
				}
				c.mu.Unlock()
				return
			}
			c.mu.Unlock()
		}
		tw := t.tw.find(h, local, foreign)
		if tw == nil {
			break
		}
		if !t.admits(w, s, nil) {
			return
		}
		if !t.timeWaitInput(w, tw, s) {
			return
		}
		s.last = tw
	}
	if f := foreign.IP; f.IsUnspecified() || f.IsMulticast() || t.nets.To(f).IsBroadcast(f) { // no connection is with these
		w.Drop(s.pkt, cntInBcast)
		return
	}
	if p := t.table.LookupBound(local, s.pkt.RcvIf); p != nil {
		if c := p.So.H.(*conn); c.lis.Load() != nil {
			c.mu.Lock()
			o := c.opts
			c.mu.Unlock()
			if t.admits(w, s, o) {
				t.listenInput(w, c, s, local, foreign)
			}
			return
		}
	}
	if !t.admits(w, s, nil) {
		return
	}
	if t.env.MIB.On(nodeLogRefused) && s.is(packet.TCPSyn) {
		t.env.Log.Info("tcp: connection refused", "from", foreign.IP, "port", foreign.Port, "to", local.IP, "on", local.Port)
	}
	if s.is(packet.TCPSyn) && !s.is(packet.TCPAck|packet.TCPRst) {
		w.Count(cntNoPort)
	}
	t.reset(w, s)
	w.Drop(s.pkt, cntNoPort)
}

// admits asks whether a segment came as the policy of a socket with options o wants, or with nil, the stack's; it has gone if not.
func (t *TCP) admits(w *netif.Work, s *segment, o socket.NetOptions) bool {
	if s.pkt.Flags&packet.FlagAsk == 0 || t.nets.Of(s.pkt).Admits(w, s.pkt, o) {
		return true
	}
	w.Drop(s.pkt, cntUnsecured)
	return false
}

// Knows reports whether a connection of ours can have sent a segment that
// begins with transport: its sequence number must be in flight (RFC 5927 §4.1).
func (t *TCP) Knows(src, dst netip.Addr, transport []byte) bool {
	c := t.quoted(src, dst, transport)
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlightSeq(transport)
}

// quoted is the connection that an ICMP error quotes a segment of, or nil.
func (t *TCP) quoted(src, dst netip.Addr, transport []byte) *conn {
	if len(transport) < 8 {
		return nil
	}
	h := packet.TCP(transport)
	local, foreign := socket.Addr{IP: src, Port: h.SrcPort()}, socket.Addr{IP: dst, Port: h.DstPort()}
	p := t.table.LookupConn(t.table.Hash(local, foreign), local, foreign, 0)
	if p == nil {
		return nil
	}
	return p.So.H.(*conn)
}

func (c *conn) inFlightSeq(transport []byte) bool {
	q := seq(packet.TCP(transport).Seq())
	return !c.gone && q.geq(c.sndUna) && q.lt(c.sndNxt)
}

// ControlInput is told of an ICMP error about a segment of ours. Established
// connections live on (RFC 5927 §6), and learn why should they end.
func (t *TCP) ControlInput(w *netif.Work, ctl socket.Control, src, dst netip.Addr, transport []byte) {
	c := t.quoted(src, dst, transport)
	if c == nil {
		if ctl.Hard {
			t.syn.unreachable(w, src, dst, transport)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inFlightSeq(transport) {
		return
	}
	switch {
	case ctl.Err == syscall.EMSGSIZE:
		if c.net().PathMTUs() && ctl.MTU > 0 {
			c.pathMTU(w, ctl.MTU)
		}
	case c.state == synSent && ctl.Hard:
		c.fail(w, ctl.Err)
	default:
		c.soft = uint16(ctl.Err)
	}
}
