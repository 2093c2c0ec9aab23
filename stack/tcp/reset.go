package tcp

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// policy is the socket's own of IPsec for what leaves, or nil. The caller holds c.mu.
func (c *conn) policy(foreign socket.Addr) any {
	if c.opts == nil {
		return nil
	}
	return c.opts.Policy(foreign.IP.Is6(), true)
}

// respond sends a segment without data that no connection keeps the books of,
// when the present walk is done. policy is a socket's own, or nil.
func (t *TCP) respond(w *netif.Work, local, foreign socket.Addr, q, ack uint32, flags uint8, wnd uint16, o *packet.TCPOptions, ifindex uint32, policy any) {
	var ob [packet.TCPMaxLen - packet.TCPLen]byte
	hlen := packet.TCPLen + o.Put(ob[:])
	p := t.env.Pool.Get(hlen)
	if p == nil {
		w.Count(cntOutNoMem)
		return
	}
	sum := packet.Fold(packet.PseudoSum(local.IP, foreign.IP, packet.ProtoTCP, hlen))
	h := p.Append(hlen)
	packet.PutTCP(h, local.Port, foreign.Port, q, ack, hlen, flags, wnd, sum, 0)
	copy(h[packet.TCPLen:], ob[:hlen-packet.TCPLen])
	p.SetPartial(0, packet.TCPCsumOffset)
	w.Count(cntOut)
	f := t.flows.get()
	f.Plain()
	f.Src, f.Dst, f.IfIndex = local.IP, foreign.IP, ifindex
	f.Policy = policy
	if f.Labelled(t.env.MIB) {
		f.FlowLabel = t.flowLabel(local, foreign)
	}
	w.Turn(func(w *netif.Work, p *packet.Buf) {
		_ = t.nets.To(f.Dst).Output(w, p, f) // who cannot be reached is not told so
		t.flows.put(f)
	}, p)
}

// reset answers a segment that belongs to nobody, or cannot (RFC 9293
// §3.5.2), as often as the stack allows. It only looks at the packet.
func (t *TCP) reset(w *netif.Work, s *segment) {
	if s.is(packet.TCPRst) {
		return
	}
	if !t.resets.allow(w.Now, t.env.MIB.Int(nodeRstPPS)) {
		w.Count(cntRstRate)
		return
	}
	local, foreign := peerOf(t.nets.Of(s.pkt), s.pkt, packet.TCP(s.pkt.L4()))
	w.Count(cntRstOut)
	var o packet.TCPOptions
	if s.is(packet.TCPAck) {
		t.respond(w, local, foreign, uint32(s.ack), 0, packet.TCPRst, 0, &o, 0, nil)
	} else {
		t.respond(w, local, foreign, 0, uint32(s.seq)+s.len(), packet.TCPRst|packet.TCPAck, 0, &o, 0, nil)
	}
}

// resetConn resets a connection's peer (RFC 9293 §3.10.5). The caller holds
// c.mu.
func (t *TCP) resetConn(w *netif.Work, c *conn) {
	w.Count(cntRstOut)
	e := c.Ends()
	var o packet.TCPOptions
	t.respond(w, e.Local, e.Foreign, uint32(c.sndNxt), uint32(c.rcvNxt), packet.TCPRst|packet.TCPAck, 0, &o, c.So.BoundIf(), c.policy(e.Foreign))
}
