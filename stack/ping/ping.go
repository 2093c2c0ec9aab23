// Package ping is echo sockets: SOCK_DGRAM with IPPROTO_ICMP, or of IPv6 with
// IPPROTO_ICMPV6, which anybody may have (Linux's ping sockets). Such a socket sends ICMP echo requests and
// receives the replies to them, both from the ICMP header on. Its port is the
// identifier of its requests (RFC 792, RFC 4443 §4.1): what the user wrote there is not sent.
//
// The walk up: inet's icmp → [Ping.Input] → control block → socket.
// The walk down: socket → [pcb.Send] → inet.
package ping

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
	nodeSendSpace = mib.Int("net.inet.icmp.sendspace", 65535, "Send buffer of a new echo socket: its largest request.", mib.Range(512, 65535))
	nodeRecvSpace = mib.Int("net.inet.icmp.recvspace", 262144, "Receive buffer of a new echo socket.", mib.Range(512, 1<<30))

	cntOut        = mib.NewCounter("icmp", "echo sent", "# echo request{s} sent by echo sockets")
	cntDelivered  = mib.NewCounter("icmp", "delivered", "# echo repl{y} delivered to echo sockets")
	cntFull       = mib.NewCounter("icmp", "full socket buffer", "# echo repl{y} dropped due to full socket buffers")
	cntOut6       = mib.NewCounter("icmp6", "echo sent", "# echo request{s} sent by echo sockets")
	cntDelivered6 = mib.NewCounter("icmp6", "delivered", "# echo repl{y} delivered to echo sockets")
	cntFull6      = mib.NewCounter("icmp6", "full socket buffer", "# echo repl{y} dropped due to full socket buffers")
	cntNotToUs6   = mib.NewCounter("icmp6", "reply to a group", "# echo repl{y} to group addresses")
	cntUnsecured  = mib.NewCounter("icmp", "unsecured", "# echo repl{y} that had not come as a socket's policy asks for")
	cntUnsecured6 = mib.NewCounter("icmp6", "unsecured", "# echo repl{y} that had not come as a socket's policy asks for")
	cntNotToUs    = mib.NewCounter("icmp", "reply to a group", "# echo repl{y} to broadcast and group addresses")
)

// kind is what echo is in one IP version.
type kind struct {
	proto                         uint8
	request, reply                uint8 // types of messages
	max                           int   // the largest message: 65,535 less an IPv4 header, which counts there
	out, delivered, full, notToUs mib.Counter
	unsecured                     mib.Counter
}

var (
	kind4 = kind{packet.ProtoICMP, packet.ICMPEcho, packet.ICMPEchoReply, 65535 - packet.IPv4Len,
		cntOut, cntDelivered, cntFull, cntNotToUs, cntUnsecured}
	kind6 = kind{packet.ProtoICMPv6, packet.ICMP6Echo, packet.ICMP6EchoReply, 65535,
		cntOut6, cntDelivered6, cntFull6, cntNotToUs6, cntUnsecured6}
)

func kindOf(v6 bool) *kind {
	if v6 {
		return &kind6
	}
	return &kind4
}

// Proto is the protocol of a family's echo sockets.
func Proto(family int) int { return int(kindOf(family == socket.AFInet6).proto) }

// Ping is one stack's echo sockets.
type Ping struct {
	env    *netif.Env
	nets   socket.Nets
	table  socket.PCBTable
	table6 socket.PCBTable
	sum    *atomic.Int64
}

// New makes the room; sum is the stack's tally of socket memory.
func New(env *netif.Env, net socket.Network, sum *atomic.Int64) *Ping {
	g := &Ping{env: env, sum: sum}
	g.nets.Over(false, net)
	g.table.Init(uint64(env.Rand32())<<32 | uint64(env.Rand32()))
	return g
}

// Over6 says which network layer carries IPv6.
func (g *Ping) Over6(net socket.Network) {
	g.nets.Over(true, net)
	g.table6.Init(uint64(g.env.Rand32())<<32 | uint64(g.env.Rand32()))
}

func (g *Ping) tableOf(v6 bool) *socket.PCBTable {
	if v6 {
		return &g.table6
	}
	return &g.table
}

// PCBs are the control blocks, for netstat.
func (g *Ping) PCBs() []*socket.PCB { return append(g.table.All(), g.table6.All()...) }

// Uses is [socket.PCBTable.Uses]; an identifier is the port of the local end.
func (g *Ping) Uses(local, foreign socket.Addr) bool {
	return g.tableOf(local.IP.Is6()).Uses(local, foreign)
}

// Avoid is [socket.PCBTable.Avoid].
func (g *Ping) Avoid(f func(socket.Addr, socket.Versions) bool) {
	g.table.Avoid(f)
	g.table6.Avoid(f)
}

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

// net, kind and table are those of the socket's family.
func (p *pcb) net() socket.Network     { return p.g.nets.For(p.So.Family) }
func (p *pcb) kind() *kind             { return kindOf(p.v6()) }
func (p *pcb) table() *socket.PCBTable { return p.g.tableOf(p.v6()) }
func (p *pcb) v6() bool                { return p.So.Family == socket.AFInet6 }

// fits reports whether an address is of the socket's IP version; what is mapped
// is IPv4's.
func (p *pcb) fits(a netip.Addr) bool { return a.Is6() == p.v6() }

// Socket makes an echo socket, for anybody. EAFNOSUPPORT.
func (g *Ping) Socket(w *netif.Work, family int, cred socket.Cred, id uint64) (*socket.Socket, error) {
	if g.nets.For(family) == nil {
		return nil, syscall.EAFNOSUPPORT
	}
	v := g.env.MIB
	so := socket.New(g.env, family, socket.Dgram, Proto(family), cred,
		int(v.Int(nodeRecvSpace)), int(v.Int(nodeSendSpace)), id, g.sum)
	p := &pcb{g: g}
	p.PCB.Init(so)
	p.opts = p.net().NewOptions(so)
	so.H = p
	p.table().Add(&p.PCB)
	return so, nil
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
	src, dst := g.nets.Of(pkt).Addrs(pkt)
	v6 := dst.Is6()
	k := kindOf(v6)
	if pkt.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 {
		w.Drop(pkt, k.notToUs) // a request has one sender (RFC 1122 §3.2.2.6)
		return
	}
	local, foreign, ok := asked(pkt.Bytes(), k.reply, dst, src)
	if !ok {
		pkt.Free()
		return
	}
	p := g.tableOf(v6).Lookup(local, foreign, pkt.RcvIf)
	if p == nil {
		pkt.Free()
		return
	}
	if pkt.Flags&packet.FlagAsk != 0 && !g.nets.Of(pkt).Admits(w, pkt, p.So.H.(*pcb).opts) {
		w.Drop(pkt, k.unsecured)
		return
	}
	pkt.CompleteCsum() // the reader may verify it
	if !p.So.Deliver(w, pkt) {
		w.Drop(pkt, k.full)
		return
	}
	w.Count(k.delivered)
}

// find is the socket that sent a request from src to dst, of which transport
// are the first octets; nil: none did.
func (g *Ping) find(src, dst netip.Addr, transport []byte) *socket.PCB {
	v6 := src.Is6()
	if local, foreign, ok := asked(transport, kindOf(v6).request, src, dst); ok {
		return g.tableOf(v6).Lookup(local, foreign, 0)
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
	p := g.find(src, dst, transport)
	if p != nil && c.Err == syscall.EMSGSIZE && dst.Is6() { // the next one is cut (RFC 8201 §5.2)
		p.So.H.(*pcb).opts.TooBig(w, socket.Addr{IP: dst}, c.MTU)
		return
	}
	// Only a connected socket knows whom it talks to, as in UDP.
	if p != nil && p.Ends().Foreign.IP.IsValid() {
		p.So.SetError(w, c.Err)
	}
}
