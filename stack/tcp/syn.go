package tcp

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// noScale stands in rcvScale while window scaling is not asked for.
const noScale = 255

// scaleFor is the window scale under which a buffer of size octets can be
// offered whole (RFC 7323 §2.3).
func scaleFor(size int64) uint8 {
	s := uint8(0)
	for s < 14 && 65535<<s < size {
		s++
	}
	return s
}

// wishes are what we ask for in a SYN.
func (t *TCP) wishes() (flags uint32, scale uint8) {
	v := t.env.MIB
	scale = noScale
	if v.On(nodeRFC1323) {
		if v.On(nodeTimestamps) {
			flags |= fTimestamps
		}
		if v.On(nodeWinScale) {
			scale = scaleFor(max(v.Int(socket.NodeSbMax), v.Int(nodeRecvSpace)))
		}
	}
	if v.On(nodeSACK) {
		flags |= fSACK
	}
	return flags, scale
}

// offerMSS is the segment size that we ask for: of the interface, or the
// route's MTU where that is smaller (RFC 9293 §3.7.1: without options).
func (c *conn) offerMSS() uint16 {
	e := c.Ends()
	m := c.maxSegment(int(c.t.offerMTU(e.Local, e.Foreign, c.So.BoundIf(), c.mtu)))
	if c.userMSS != 0 {
		m = min(m, int(c.userMSS))
	}
	return uint16(min(m, 65495))
}

// peerMSS is what we make of the peer's option (0: it sent none).
func (t *TCP) peerMSS(m uint16, v6 bool) uint16 {
	v := t.env.MIB
	switch {
	case m == 0 && v6: // RFC 9293 §3.7.1
		return packet.MinMTU6 - packet.IPv6Len - packet.TCPLen
	case m == 0:
		return uint16(v.Int(nodeMSSDflt))
	}
	return max(m, uint16(v.Int(nodeMinMSS)))
}

// fillSyn sends our SYN, or SYN and ACK in simultaneous open.
func (c *conn) fillSyn(w *netif.Work, out []outgoing) int {
	if !c.has(fSynDue) {
		if c.state == synReceived && c.has(fAckNow) {
			if p := c.bare(w, c.sndNxt, packet.TCPAck); p != nil {
				out[0] = outgoing{pkt: p}
				return 1
			}
		}
		return 0
	}
	c.off(fSynDue)
	o := packet.TCPOptions{MSS: c.offerMSS(), SACKOK: c.has(fSACK)}
	if c.has(fTimestamps) {
		o.HasTimestamp, o.TSVal, o.TSEcr = true, c.now32(w.Now), c.tsRecent
	}
	flags := uint8(packet.TCPSyn)
	if c.state == synReceived {
		flags |= packet.TCPAck
	} else if c.t.env.MIB.Int(nodeECN) == 1 && c.shift == 0 { // RFC 3168 §6.1.1.1: not once more
		flags |= packet.TCPEce | packet.TCPCwr
	}
	if c.rcvScale != noScale && (c.state == synSent || c.sndScale != 0 || c.rcvScale != 0) {
		o.HasWScale, o.WScale = true, c.rcvScale
	}
	size := c.fastSyn(&o)
	var ob [packet.TCPMaxLen - packet.TCPLen]byte
	hlen := packet.TCPLen + o.Put(ob[:])
	p := c.t.env.Pool.Get(hlen + size)
	if p == nil {
		w.Count(cntOutNoMem)
		c.armSyn(w)
		return 0
	}
	if size > 0 {
		c.snd.copyOut(p.Append(size), 0)
		w.Count(cntOutData)
		w.CountN(cntOutOctets, uint32(size))
		c.sentNew(w, size, false, 0)
	}
	if c.shift == 0 && c.state == synSent {
		c.lastSent = w.Now
	}
	w.Count(cntOutCtl)
	c.head(w, p, c.iss, hlen, ob[:], flags)
	if c.state == synSent { // there is nothing to acknowledge yet
		packet.PutTCP(p.Bytes(), c.local().Port, c.foreign().Port, uint32(c.iss), 0, hlen, flags,
			packet.TCP(p.Bytes()).Window(), packet.TCP(p.Bytes()).Checksum(), 0)
	}
	c.armSyn(w)
	out[0] = outgoing{pkt: p}
	return 1
}

// armSyn sets the timer of the handshake.
func (c *conn) armSyn(w *netif.Work) {
	c.setTimer(tRexmt, w.Now+min(initialRTO<<min(c.shift, 6), maxRTO), w.Now)
}

// startConnect begins an active open. The ends are set; the caller holds mu.
// last is the connection in TIME_WAIT that had them, or nil. held: the SYN waits
// for data.
func (c *conn) startConnect(w *netif.Work, mtu int, last *timeWait) (held bool) {
	v := c.t.env.MIB
	e := c.Ends()
	c.mtu = uint16(min(mtu, 65535))
	c.tsOffset = c.t.tsOffset(e.Local, e.Foreign)
	c.iss = c.t.isn(e.Local, e.Foreign, w.Now, last)
	c.sndUna, c.sndNxt, c.snd.base = c.iss, c.iss+1, c.iss+1
	flags, scale := c.t.wishes()
	c.on(flags | fActive)
	c.rcvScale = scale
	c.setMSS()
	c.state = synSent
	w.Count(cntConnect)
	init := v.Int(nodeKeepInit) * halfSecond
	if k := c.keeps(); k.init != 0 {
		init = k.init
	}
	c.setTimer(tKeep, w.Now+init, w.Now)
	if held = c.holdSyn(w); !held {
		c.letSyn(w)
	}
	return held
}

// peerOf is the other side of a segment's flow as we name it.
func peerOf(n socket.Network, pkt *packet.Buf, h packet.TCP) (local, foreign socket.Addr) {
	src, dst := n.Addrs(pkt)
	return socket.Addr{IP: dst, Port: h.DstPort()}, socket.Addr{IP: src, Port: h.SrcPort()}
}
