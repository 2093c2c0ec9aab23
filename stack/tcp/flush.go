package tcp

import (
	"errors"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// IP's ECN field (RFC 3168 §5).
const (
	ecnMask = 0x03
	ecnECT0 = 0x02
	ecnCE   = 0x03
)

// Flush is netif.Flusher: packets are made under the lock and sent without it.
func (c *conn) Flush(w *netif.Work) {
	var out [burst]outgoing
	for {
		c.mu.Lock()
		// The call may have begun before one that has sent meanwhile: the peer
		// takes a timestamp that goes back for an old segment (RFC 7323 §5).
		w.Now = max(w.Now, c.t.env.Now())
		c.want = false
		n := c.fill(w, out[:])
		more := c.want
		arrives := c.has(fReachable) && !c.gone
		c.off(fReachable)
		if (n > 0 || arrives) && c.flow == nil {
			c.flow = c.t.flows.get()
		}
		f := c.flow
		c.mu.Unlock()
		if n == 0 && !arrives {
			return
		}
		c.route(f)
		if arrives {
			c.net().(socket.Confirmer).Confirm(w, f)
		}
		tos := f.TOS
		for _, o := range out[:n] {
			f.TOS = tos &^ ecnMask
			if o.ect {
				f.TOS |= ecnECT0
			}
			if err := c.net().Output(w, o.pkt, f); err != nil {
				c.outputFailed(w, f, err)
			}
		}
		f.TOS = tos
		if !more {
			return
		}
	}
}

// Flushed is netif.Flusher.
func (c *conn) Flushed(w *netif.Work) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.want && !c.gone {
		return true
	}
	c.flusher = false
	if c.flow != nil && (c.sb == nil || c.gone) {
		c.t.flows.put(c.flow)
		c.flow = nil
	}
	return false
}

// route fills in the flow; what it has found out about the way stays if it is
// the same one.
func (c *conn) route(f *socket.Flow) {
	e := c.Ends()
	f.Src, f.Dst = e.Local.IP, e.Foreign.IP
	f.Proto = packet.ProtoTCP
	f.Plain()
	c.mu.Lock()
	o := c.opts
	// Messages of a path MTU below what every host takes are not believed in
	// full, since they may be forged: there routers may fragment.
	f.DontFrag = c.net().PathMTUs() && (int(c.mtu) > floorMTU(c.v6()) || c.searching())
	c.mu.Unlock()
	if o != nil {
		df := f.DontFrag
		o.Fill(f)
		f.DontFrag = f.DontFrag || df
	} else {
		f.DontRoute = c.So.Opt(socket.SODontRoute)
		f.IfIndex = c.So.BoundIf()
	}
	if f.Labelled(c.t.env.MIB) {
		f.FlowLabel = c.t.flowLabel(e.Local, e.Foreign)
	}
}

// flowLabel marks the packets of one connection over IPv6 (RFC 6437 §3): a secret
// of its ends, so that all of it has the same, also before and after it has a
// control block.
func (t *TCP) flowLabel(local, foreign socket.Addr) uint32 {
	if foreign.IP.Is4() {
		return 0
	}
	return max(uint32(t.hash(local, foreign, hashFlowLabel))&0xfffff, 1)
}

// outputFailed is what the network layer says at once: too large, or no way.
// The segment counts as sent; the timer sees to it.
func (c *conn) outputFailed(w *netif.Work, f *socket.Flow, err error) {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok || errno == syscall.ENOBUFS {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	if errno == syscall.EMSGSIZE {
		if f.Route.MTU > 0 {
			c.pathMTU(w, f.Route.MTU)
		}
		return
	}
	c.soft = uint16(errno)
}

// maxSegment is the most payload that a packet of mtu octets carries, without
// options of TCP's, but beside the extension headers that the user wishes for
// (RFC 9293 §3.7.1).
func (c *conn) maxSegment(mtu int) int {
	f := c.userFlow()
	if f.MinMTU {
		mtu = min(mtu, packet.MinMTU6)
	}
	return payloadOf(mtu-f.Ext.Len(), c.v6())
}

// userFlow is what the user wishes for the packets of a connection over IPv6.
func (c *conn) userFlow() *socket.Flow {
	if c.opts == nil || !c.v6() {
		return &noWishes
	}
	f := &socket.Flow{Dst: c.foreign().IP}
	c.opts.Fill(f)
	return f
}

var noWishes socket.Flow

// payloadOf is the most payload behind headers without options.
func payloadOf(mtu int, v6 bool) int {
	h := packet.IPv4Len + packet.TCPLen
	if v6 {
		h = packet.IPv6Len + packet.TCPLen
	}
	return max(mtu-h, 32)
}

// setMSS works out the segment size from the path and what the peer takes.
func (c *conn) setMSS() {
	m := c.maxSegment(int(c.mtu))
	if c.peerMSS != 0 {
		m = min(m, int(c.peerMSS))
	}
	if c.userMSS != 0 {
		m = min(m, int(c.userMSS))
	}
	if c.has(fTimestamps) {
		m -= packet.TCPTimestampLen
	}
	c.mss = uint16(min(max(m, 8), 65483))
}

// begin sets up sending when the peer's SYN is known.
func (c *conn) begin() {
	c.setMSS()
	c.cc.begin(c.t.env.MIB.Int(nodeInitWin), uint32(c.mss))
	c.snd.base = c.iss + 1
	// RFC 6928 counts in octets for large segments; a buffer holds some of them.
	if !c.has(fSndFixed) {
		c.snd.hiwat = max(c.snd.hiwat, min(8*int(c.mss), 1<<20))
	}
	if !c.has(fRcvFixed) {
		c.rcv.hiwat = max(c.rcv.hiwat, min(8*int(c.mss), 1<<20))
	}
}
