// Package udp is the User Datagram Protocol (RFC 768), for any network layer.
//
// The walk up: inet → [UDP.Input] → control block → socket.
// The walk down: socket → [pcb.Send] → inet.
package udp

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var (
	nodeChecksum  = mib.Int("net.inet.udp.checksum", 1, "1: send datagrams with a checksum.", mib.Bool())
	nodeSendSpace = mib.Int("net.inet.udp.sendspace", 9216, "Send buffer of a new socket: its largest datagram.", mib.Range(512, 65535))
	nodeRecvSpace = mib.Int("net.inet.udp.recvspace", 41600, "Receive buffer of a new socket.", mib.Range(512, 1<<30))

	cntIn        = mib.NewCounter("udp", "received", "# datagram{s} received")
	cntHdr       = mib.NewCounter("udp", "incomplete header", "# with incomplete header")
	cntLen       = mib.NewCounter("udp", "bad data length", "# with bad data length field")
	cntNoSum     = mib.NewCounter("udp", "no UDP checksum", "# with no checksum over IPv6")
	cntSum       = mib.NewCounter("udp", "bad UDP checksum", "# with bad checksum")
	cntUnsecured = mib.NewCounter("udp", "unsecured", "# dropped that had not come as a policy of IPsec asks for")
	cntNoPort    = mib.NewCounter("udp", "no socket", "# dropped due to no socket")
	cntNoPortBc  = mib.NewCounter("udp", "no socket for broadcast", "# broadcast/multicast datagram{s} dropped due to no socket")
	cntFull      = mib.NewCounter("udp", "full socket buffer", "# dropped due to full socket buffers")
	cntDelivered = mib.NewCounter("udp", "delivered", "# delivered")
	cntOut       = mib.NewCounter("udp", "sent", "# datagram{s} output")
)

// maxPayload is the largest datagram to an address: 65,535 less a UDP header, and
// less an IPv4 header, which counts there (RFC 8200 §3).
func maxPayload(to netip.Addr) int {
	if to.Is4() {
		return 65535 - packet.IPv4Len - packet.UDPLen
	}
	return 65535 - packet.UDPLen
}

// maxSegments bounds the datagrams of one super-packet.
const maxSegments = 128

// UDP is one stack's UDP.
type UDP struct {
	env   *netif.Env
	table socket.PCBTable
	nets  socket.Nets
	sum   *atomic.Int64
	// ReuseportUnicast: a unicast datagram goes to every socket that shares
	// its port by SO_REUSEPORT, not to the first alone (io-net's option).
	reuseUnicast bool
}

// Config is what assembly decides.
type Config struct {
	ReuseportUnicast bool
	SocketMemory     *atomic.Int64
}

// New makes the room.
func New(env *netif.Env, c Config) *UDP {
	u := &UDP{env: env, sum: c.SocketMemory, reuseUnicast: c.ReuseportUnicast}
	u.table.Init(uint64(env.Rand32())<<32 | uint64(env.Rand32()))
	return u
}

// Over says which network layer carries family v6 or IPv4.
func (u *UDP) Over(v6 bool, n socket.Network) { u.nets.Over(v6, n) }

// PCBs are the control blocks, for netstat.
func (u *UDP) PCBs() []*socket.PCB { return u.table.All() }

// Uses is [socket.PCBTable.Uses].
func (u *UDP) Uses(local, foreign socket.Addr) bool { return u.table.Uses(local, foreign) }

// Avoid is [socket.PCBTable.Avoid].
func (u *UDP) Avoid(f func(socket.Addr, socket.Versions) bool) { u.table.Avoid(f) }

// pcb is the control block of one socket.
type pcb struct {
	socket.PCB
	u    *UDP
	opts socket.NetOptions

	mu       sync.Mutex
	bound    bool // the user bound the local address
	listens  bool // which is a group or a broadcast address: not one to send from
	shutSend bool
	label    uint32      // of an IPv6 socket's flow (RFC 6437 §3)
	flow     socket.Flow // with its cached route
}

// Socket makes a datagram socket.
func (u *UDP) Socket(w *netif.Work, family int, cred socket.Cred, id uint64) (*socket.Socket, error) {
	if u.nets.For(family) == nil {
		return nil, syscall.EAFNOSUPPORT
	}
	v := u.env.MIB
	so := socket.New(u.env, family, socket.Dgram, packet.ProtoUDP, cred,
		int(v.Int(nodeRecvSpace)), int(v.Int(nodeSendSpace)), id, u.sum)
	p := &pcb{u: u}
	if family == socket.AFInet6 {
		p.label = max(u.env.Rand32()&0xfffff, 1)
	}
	p.PCB.Init(so)
	p.opts = u.nets.NewOptions(so)
	so.H = p
	u.table.Add(&p.PCB)
	return so, nil
}

// Input takes over a datagram; the window begins at the UDP header.
func (u *UDP) Input(w *netif.Work, pkt *packet.Buf) {
	if pkt.GSO != packet.GSONone {
		u.cut(w, pkt)
		return
	}
	w.Count(cntIn)
	b := pkt.Bytes()
	h, ok := packet.CheckUDP(b)
	if !ok {
		if len(b) < packet.UDPLen {
			w.Drop(pkt, cntHdr)
		} else {
			w.Drop(pkt, cntLen)
		}
		return
	}
	n := u.nets.Of(pkt)
	src, dst := n.Addrs(pkt)
	size := h.Len()
	if h.Checksum() == 0 && dst.Is6() && pkt.Csum == packet.CsumNone { // RFC 8200 §8.1
		w.Drop(pkt, cntNoSum)
		return
	}
	if h.Checksum() != 0 && pkt.Csum == packet.CsumNone {
		sum := packet.HeaderPseudoSum(pkt.L3(), packet.ProtoUDP, size)
		if packet.Fold(packet.Sum(sum, b[:size])) != 0xffff {
			w.Drop(pkt, cntSum)
			return
		}
		pkt.Csum = packet.CsumVerified
	}
	pkt.TrimTo(size)
	local := socket.Addr{IP: dst, Port: h.DstPort()}
	foreign := socket.Addr{IP: src, Port: h.SrcPort()}
	pkt.TrimFront(packet.UDPLen)
	if pkt.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 {
		u.toAll(w, pkt, local, foreign)
		return
	}
	p := u.table.Lookup(local, foreign, pkt.RcvIf)
	if p == nil {
		if pkt.Flags&packet.FlagAsk != 0 && !n.Admits(w, pkt, nil) {
			w.Drop(pkt, cntUnsecured)
			return
		}
		n.PortUnreachable(w, pkt)
		w.Drop(pkt, cntNoPort)
		return
	}
	if u.reuseUnicast && p.So.Opt(socket.SOReusePort) && !p.Ends().Foreign.IP.IsValid() {
		u.toAll(w, pkt, local, foreign)
		return
	}
	u.deliver(w, p, pkt)
}

// cut makes the datagrams of a super-packet that a driver brought: a receiver
// is owed their bounds. Their checksum is the partial one that was never on a
// wire.
func (u *UDP) cut(w *netif.Work, pkt *packet.Buf) {
	head := len(pkt.L3()) - pkt.Len() // of the network layer
	size := int(pkt.GSOSize)
	if pkt.Len() < packet.UDPLen || size == 0 || pkt.Len() > packet.UDPLen+maxSegments*size {
		w.Drop(pkt, cntLen)
		return
	}
	all := pkt.L3()
	h := packet.UDP(pkt.Bytes())
	for rest := h[packet.UDPLen:]; len(rest) > 0; rest = rest[min(size, len(rest)):] {
		n := min(size, len(rest))
		c := u.env.Pool.Get(head + packet.UDPLen + n)
		if c == nil {
			w.Count(cntFull)
			continue
		}
		copy(c.Append(head), all)
		packet.PutUDP(c.Append(packet.UDPLen), h.SrcPort(), h.DstPort(), packet.UDPLen+n, 0)
		copy(c.Append(n), rest)
		if b := c.Bytes(); b[0]>>4 == 4 {
			packet.IPv4(b).SetTotalLen(len(b))
			packet.IPv4(b).SetChecksum()
		} else {
			packet.IPv6(b).SetPayloadLen(len(b) - packet.IPv6Len)
		}
		c.MarkL3(0)
		c.MarkL4(head)
		c.TrimFront(head)
		c.Time, c.RcvIf, c.Flags, c.Sec, c.Csum = pkt.Time, pkt.RcvIf, pkt.Flags, pkt.Sec, packet.CsumVerified
		u.Input(w, c)
	}
	pkt.Free()
}

func (u *UDP) deliver(w *netif.Work, p *socket.PCB, pkt *packet.Buf) {
	if pkt.Flags&packet.FlagAsk != 0 && !u.nets.Of(pkt).Admits(w, pkt, p.So.H.(*pcb).opts) {
		w.Drop(pkt, cntUnsecured)
		return
	}
	if !p.So.Deliver(w, pkt) {
		w.Drop(pkt, cntFull)
		return
	}
	w.Count(cntDelivered)
}

// toAll gives a copy to every socket that a group or broadcast datagram
// concerns.
func (u *UDP) toAll(w *netif.Work, pkt *packet.Buf, local, foreign socket.Addr) {
	var last *socket.PCB
	u.table.Each(local, foreign, pkt.RcvIf, func(p *socket.PCB) bool {
		if local.IP.IsMulticast() && !p.So.H.(*pcb).opts.Accepts(local.IP, foreign.IP, pkt.RcvIf) {
			return true
		}
		if last != nil {
			if c := pkt.CloneL3(); c != nil {
				u.deliver(w, last, c)
			} else {
				w.Count(cntFull)
			}
		}
		last = p
		return true
	})
	if last == nil {
		w.Drop(pkt, cntNoPortBc)
		return
	}
	u.deliver(w, last, pkt)
}

// Knows reports whether a socket of ours sends from src's port, to dst if it
// is connected.
func (u *UDP) Knows(src, dst netip.Addr, transport []byte) bool {
	if len(transport) < packet.UDPLen {
		return false
	}
	h := packet.UDP(transport)
	return u.table.Lookup(socket.Addr{IP: src, Port: h.SrcPort()}, socket.Addr{IP: dst, Port: h.DstPort()}, 0) != nil
}

// ControlInput is told of an ICMP error about a datagram of ours.
func (u *UDP) ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, transport []byte) {
	if len(transport) < packet.UDPLen {
		return
	}
	h := packet.UDP(transport)
	local, foreign := socket.Addr{IP: src, Port: h.SrcPort()}, socket.Addr{IP: dst, Port: h.DstPort()}
	p := u.table.Lookup(local, foreign, 0)
	if p != nil && c.Err == syscall.EMSGSIZE && dst.Is6() { // the next one is cut (RFC 8201 §5.2)
		p.So.H.(*pcb).opts.TooBig(w, foreign, c.MTU)
		return
	}
	// Only a connected socket knows whom it talks to (RFC 1122 §4.1.3.3).
	if p != nil && p.Ends().Foreign.IP.IsValid() {
		p.So.SetError(w, c.Err)
	}
}
