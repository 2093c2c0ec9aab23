// Package ping is echo sockets: SOCK_DGRAM with IPPROTO_ICMP, which anybody
// may have (Linux's ping sockets). Such a socket sends ICMP echo requests and
// receives the replies to them, both from the ICMP header on. Its port is the
// identifier of its requests (RFC 792): what the user wrote there is not sent.
//
// The walk up: inet's icmp → [Ping.Input] → control block → socket.
// The walk down: socket → [pcb.Send] → inet.
package ping

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var (
	nodeSendSpace = mib.Int("net.inet.icmp.sendspace", 65535, "Send buffer of a new echo socket: its largest request.", mib.Range(512, 65535))
	nodeRecvSpace = mib.Int("net.inet.icmp.recvspace", 262144, "Receive buffer of a new echo socket.", mib.Range(512, 1<<30))

	cntOut       = mib.NewCounter("icmp", "echo sent", "# echo request{s} sent by echo sockets")
	cntDelivered = mib.NewCounter("icmp", "delivered", "# echo repl{y} delivered to echo sockets")
	cntFull      = mib.NewCounter("icmp", "full socket buffer", "# echo repl{y} dropped due to full socket buffers")
	cntNotToUs   = mib.NewCounter("icmp", "reply to a group", "# echo repl{y} to broadcast and group addresses")
)

// maxMessage is the largest message: 65,535 less an IPv4 header.
const maxMessage = 65535 - packet.IPv4Len

// Ping is one stack's echo sockets.
type Ping struct {
	env   *netif.Env
	net   socket.Network
	table socket.PCBTable
	sum   *atomic.Int64
}

// New makes the room; sum is the stack's tally of socket memory.
func New(env *netif.Env, net socket.Network, sum *atomic.Int64) *Ping {
	g := &Ping{env: env, net: net, sum: sum}
	g.table.Init(uint64(env.Rand32())<<32 | uint64(env.Rand32()))
	return g
}

// PCBs are the control blocks, for netstat.
func (g *Ping) PCBs() []*socket.PCB { return g.table.All() }

// pcb is the control block of one socket.
type pcb struct {
	socket.PCB
	g    *Ping
	opts socket.NetOptions

	mu       sync.Mutex
	bound    bool // the user bound the local address
	listens  bool // which is a group or a broadcast address: not one to send from
	shutSend bool
	flow     socket.Flow // with its cached route
}

// Socket makes an echo socket, for anybody.
func (g *Ping) Socket(w *netif.Work, cred socket.Cred, id uint64) *socket.Socket {
	v := g.env.MIB
	so := socket.New(g.env, socket.AFInet, socket.Dgram, packet.ProtoICMP, cred,
		int(v.Int(nodeRecvSpace)), int(v.Int(nodeSendSpace)), id, g.sum)
	p := &pcb{g: g}
	p.PCB.Init(so)
	p.opts = g.net.NewOptions(so)
	so.H = p
	g.table.Add(&p.PCB)
	return so
}

// asked are the ends of the request that m repeats: an echo request of ours
// from local to foreign, or the reply to it. false: it is neither.
func asked(m []byte, typ uint8, local, foreign netip.Addr) (l, f socket.Addr, ok bool) {
	h, ok := packet.CheckICMP(m)
	if !ok || h.Type() != typ || h.Code() != 0 {
		return l, f, false
	}
	return socket.Addr{IP: local, Port: h.ID()}, socket.Addr{IP: foreign}, true
}

// Input takes over a message whose checksum is right; the window begins at the
// ICMP header. A reply that no socket asked for ends here: raw sockets have
// seen it.
func (g *Ping) Input(w *netif.Work, pkt *packet.Buf) {
	if pkt.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 {
		w.Drop(pkt, cntNotToUs) // a request has one sender (RFC 1122 §3.2.2.6)
		return
	}
	src, dst := g.net.Addrs(pkt)
	local, foreign, ok := asked(pkt.Bytes(), packet.ICMPEchoReply, dst, src)
	if !ok {
		pkt.Free()
		return
	}
	p := g.table.Lookup(local, foreign, pkt.RcvIf)
	if p == nil {
		pkt.Free()
		return
	}
	pkt.CompleteCsum() // the reader may verify it
	if !p.So.Deliver(w, pkt) {
		w.Drop(pkt, cntFull)
		return
	}
	w.Count(cntDelivered)
}

// find is the socket that sent a request from src to dst, of which transport
// are the first octets; nil: none did.
func (g *Ping) find(src, dst netip.Addr, transport []byte) *socket.PCB {
	if local, foreign, ok := asked(transport, packet.ICMPEcho, src, dst); ok {
		return g.table.Lookup(local, foreign, 0)
	}
	return nil
}

// Knows reports whether a socket can have sent a message from src to dst that
// begins with transport (RFC 5927 §4.1).
func (g *Ping) Knows(src, dst netip.Addr, transport []byte) bool {
	return g.find(src, dst, transport) != nil
}

// ControlInput is told of an ICMP error about a message from src to dst;
// transport is what the error quotes of it.
func (g *Ping) ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, transport []byte) {
	// Only a connected socket knows whom it talks to, as in UDP.
	if p := g.find(src, dst, transport); p != nil && p.Ends().Foreign.IP.IsValid() {
		p.So.SetError(w, c.Err)
	}
}
