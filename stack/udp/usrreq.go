package udp

import (
	"net/netip"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// lowPort is the first port that anybody may bind (IPPORT_RESERVED).
const lowPort = 1024

func (p *pcb) ports() socket.Ports {
	min, max := p.u.nets.For(p.So.Family).PortRange(socket.LowPorts(p.opts))
	return socket.Ports{Min: min, Max: max, Rand: p.u.env.Rand32}
}

// net is the network layer of an address.
func (p *pcb) net(a netip.Addr) socket.Network { return p.u.nets.To(a) }

// Bind is socket.Handler. Errors: EAFNOSUPPORT, EADDRNOTAVAIL, EACCES (a low
// port, not the superuser), EADDRINUSE, EINVAL (bound already).
func (p *pcb) Bind(w *netif.Work, a socket.Addr) error {
	if a.IP.IsValid() {
		n := p.net(a.IP)
		if n == nil {
			return syscall.EAFNOSUPPORT
		}
		if err := n.CheckBind(a.IP); err != nil {
			return err
		}
	}
	ports := p.ports()
	if !p.So.Cred.Super && (a.Port != 0 && a.Port < lowPort || a.Port == 0 && ports.Max < lowPort) {
		return syscall.EACCES
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.u.table.Bind(&p.PCB, a, ports); err != nil {
		return err
	}
	p.bound = a.IP.IsValid() && !a.IP.IsUnspecified()
	p.listens = p.bound && (a.IP.IsMulticast() || p.net(a.IP).IsBroadcast(a.IP))
	return nil
}

// from is the bound address if it is one to send from: a group or a broadcast
// address is only listened on (RFC 1122 §3.2.1.3).
func (p *pcb) from(local netip.Addr) netip.Addr {
	if p.listens {
		return netip.Addr{}
	}
	return local
}

// way is the network layer for packets to a. EAFNOSUPPORT: there is none; EINVAL:
// the local address is of another IP version; EADDRNOTAVAIL: no port.
func (p *pcb) way(a socket.Addr) (socket.Network, error) {
	n := p.net(a.IP)
	switch {
	case n == nil:
		return nil, syscall.EAFNOSUPPORT
	case !p.Reaches(a.IP):
		return nil, syscall.EINVAL
	case a.Port == 0:
		return nil, syscall.EADDRNOTAVAIL
	}
	return n, nil
}

// Connect is socket.Handler.
func (p *pcb) Connect(w *netif.Work, a socket.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := *p.Ends()
	if !a.IP.IsValid() {
		if !e.Foreign.IP.IsValid() {
			return syscall.ENOTCONN
		}
		p.u.table.Disconnect(&p.PCB, p.bound)
		return nil
	}
	n, err := p.way(a)
	if err != nil {
		return err
	}
	if e.Foreign.IP.IsValid() { // a new peer: as if unconnected first
		p.u.table.Disconnect(&p.PCB, p.bound)
		e = *p.Ends()
	}
	f := socket.Flow{Dst: a.IP, Src: p.from(e.Local.IP)}
	p.opts.Fill(&f)
	if f.Dst == a.IP {
		f.Place()
		a.IP = f.Dst
	}
	if n.IsBroadcast(a.IP) && !f.Broadcast {
		return syscall.EACCES
	}
	src, err := n.Source(&f)
	if err != nil {
		return err
	}
	if !p.listens {
		e.Local.IP = src
	}
	if a.IP.IsUnspecified() { // this host, in_pcbconnect
		a.IP = src
	}
	e.Foreign = a
	return p.u.table.Connect(&p.PCB, e, p.ports())
}

// Send is socket.Handler. Errors: EMSGSIZE, EDESTADDRREQ, EISCONN, EPIPE
// (shut down), ENOBUFS, and the network's.
func (p *pcb) Send(w *netif.Work, m *socket.Msg) (int, error) {
	if len(m.Data) > p.So.SendSpace() {
		return 0, syscall.EMSGSIZE
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shutSend {
		return 0, syscall.EPIPE
	}
	e := p.Ends()
	to := e.Foreign
	switch {
	case !m.Addr.IP.IsValid() && !to.IP.IsValid():
		return 0, syscall.EDESTADDRREQ
	case m.Addr.IP.IsValid() && to.IP.IsValid() && !m.Elsewhere(to.IP):
		return 0, syscall.EISCONN
	case m.Addr.IP.IsValid():
		to = m.Addr
	}
	n, err := p.way(to)
	if err != nil {
		return 0, err
	}
	if len(m.Data) > maxPayload(to.IP) {
		return 0, syscall.EMSGSIZE
	}
	if e.Local.Port == 0 {
		if err := p.u.table.Bind(&p.PCB, e.Local, p.ports()); err != nil {
			return 0, err
		}
		e = p.Ends()
	}
	f := &p.flow
	if p.So.Family != socket.AFInet { // its packets may go by either version, whose options fill in their own
		f.Plain()
	}
	f.Dst, f.Src, f.Proto = to.IP, p.from(e.Local.IP), packet.ProtoUDP
	p.opts.Fill(f)
	if len(m.Control) > 0 {
		if err := p.opts.Control(f, m.Control); err != nil {
			return 0, err
		}
	}
	if to.IP.Is6() && f.Labelled(p.u.env.MIB) {
		f.FlowLabel = p.label
	}
	if f.Dst == to.IP { // else it is the first of a source route
		f.Place()
		to.IP = f.Dst
	}
	if m.Flags&socket.MsgDontRoute != 0 {
		f.DontRoute = true
	}
	src, err := source(n, f)
	if err != nil {
		return 0, err
	}
	if to.IP.IsUnspecified() { // this host, in_pcbconnect
		to.IP = src
		f.Dst = src
	}
	pkt := p.u.env.Pool.Get(len(m.Data) + packet.UDPLen)
	if pkt == nil {
		return 0, syscall.ENOBUFS
	}
	copy(pkt.Append(len(m.Data)), m.Data)
	size := len(m.Data) + packet.UDPLen
	var sum uint16
	if to.IP.Is6() || p.u.env.MIB.On(nodeChecksum) {
		sum = packet.Fold(packet.PseudoSum(src, to.IP, packet.ProtoUDP, size))
	}
	packet.PutUDP(pkt.Prepend(packet.UDPLen), e.Local.Port, to.Port, size, sum)
	if sum != 0 {
		pkt.SetPartial(0, packet.UDPCsumOffset)
	} else {
		pkt.Csum = packet.CsumVerified
	}
	w.Count(cntOut)
	if err := n.Output(w, pkt, f); err != nil {
		if err == syscall.EMSGSIZE {
			p.opts.TooBig(w, to, f.Route.MTU)
		}
		return 0, err
	}
	return len(m.Data), nil
}

// source is the address that goes into the pseudo-header; the network layer
// will choose the same, for the same flow.
func source(n socket.Network, f *socket.Flow) (netip.Addr, error) {
	if f.Src.IsValid() {
		return f.Src, nil
	}
	src, err := n.Source(f)
	if err != nil {
		return netip.Addr{}, err
	}
	f.Src = src
	return src, nil
}

// Shutdown is socket.Handler.
func (p *pcb) Shutdown(w *netif.Work, read, write bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.Ends().Foreign.IP.IsValid() {
		return syscall.ENOTCONN
	}
	p.shutSend = p.shutSend || write
	return nil
}

// Close is socket.Handler.
func (p *pcb) Close(w *netif.Work) {
	p.u.table.Remove(&p.PCB)
	p.opts.Close(w)
}

// Local is socket.Handler.
func (p *pcb) Local() socket.Addr { return p.Ends().Local }

// Peer is socket.Handler.
func (p *pcb) Peer() socket.Addr { return p.Ends().Foreign }

// SetOption is socket.Handler.
func (p *pcb) SetOption(w *netif.Work, level, name int, v []byte) error {
	return p.opts.Set(w, level, name, v)
}

// NetOptions are its options at the network's level.
func (p *pcb) NetOptions() socket.NetOptions { return p.opts }

// Option is socket.Handler.
func (p *pcb) Option(level, name int) ([]byte, error) { return p.opts.Get(level, name) }

// Describe is socket.Handler.
func (p *pcb) Describe(pkt *packet.Buf, m *socket.Msg) {
	p.u.nets.Of(pkt).Describe(pkt, m)
	p.opts.Describe(pkt, m)
	m.Addr.Port = packet.UDP(pkt.L4()).SrcPort()
}
