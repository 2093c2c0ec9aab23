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
	low, ok := p.opts.(interface{ LowPorts() bool })
	min, max := p.net.PortRange(ok && low.LowPorts())
	return socket.Ports{Min: min, Max: max, Rand: p.u.env.Rand32}
}

// Bind is socket.Handler. Errors: EAFNOSUPPORT, EADDRNOTAVAIL, EACCES (a low
// port, not the superuser), EADDRINUSE, EINVAL (bound already).
func (p *pcb) Bind(w *netif.Work, a socket.Addr) error {
	if a.IP.IsValid() {
		if socket.FamilyOf(a.IP) != p.So.Family {
			return syscall.EAFNOSUPPORT
		}
		if err := p.net.CheckBind(a.IP); err != nil {
			return err
		}
		if a.IP.IsUnspecified() {
			a.IP = netip.Addr{}
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
	p.bound = a.IP.IsValid()
	p.listens = p.bound && (a.IP.IsMulticast() || p.net.IsBroadcast(a.IP))
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
	if socket.FamilyOf(a.IP) != p.So.Family {
		return syscall.EAFNOSUPPORT
	}
	if a.Port == 0 {
		return syscall.EADDRNOTAVAIL
	}
	if e.Foreign.IP.IsValid() { // a new peer: as if unconnected first
		p.u.table.Disconnect(&p.PCB, p.bound)
		e = *p.Ends()
	}
	f := socket.Flow{Dst: a.IP, Scope: a.Scope, Src: p.from(e.Local.IP)}
	p.opts.Fill(&f)
	if p.net.IsBroadcast(a.IP) && !f.Broadcast {
		return syscall.EACCES
	}
	src, err := p.net.Source(&f)
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
	if len(m.Data) > maxPayload || len(m.Data) > p.So.SendSpace() {
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
	case m.Addr.IP.IsValid() && to.IP.IsValid():
		return 0, syscall.EISCONN
	case m.Addr.IP.IsValid():
		to = m.Addr
		if socket.FamilyOf(to.IP) != p.So.Family {
			return 0, syscall.EAFNOSUPPORT
		}
		if to.Port == 0 {
			return 0, syscall.EADDRNOTAVAIL
		}
	}
	if e.Local.Port == 0 {
		if err := p.u.table.Bind(&p.PCB, e.Local, p.ports()); err != nil {
			return 0, err
		}
		e = p.Ends()
	}
	f := &p.flow
	f.Dst, f.Scope, f.Src, f.Proto = to.IP, to.Scope, p.from(e.Local.IP), packet.ProtoUDP
	p.opts.Fill(f)
	if m.Flags&socket.MsgDontRoute != 0 {
		f.DontRoute = true
	}
	src, err := p.source(f)
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
	if p.u.env.MIB.On(nodeChecksum) || p.So.Family != socket.AFInet {
		sum = packet.Fold(packet.PseudoSum(src, to.IP, packet.ProtoUDP, size))
	}
	packet.PutUDP(pkt.Prepend(packet.UDPLen), e.Local.Port, to.Port, size, sum)
	if sum != 0 {
		pkt.SetPartial(0, packet.UDPCsumOffset)
	} else {
		pkt.Csum = packet.CsumVerified
	}
	w.Count(cntOut)
	if err := p.net.Output(w, pkt, f); err != nil {
		return 0, err
	}
	return len(m.Data), nil
}

// source is the address that goes into the pseudo-header; the network layer
// will choose the same, for the same flow.
func (p *pcb) source(f *socket.Flow) (netip.Addr, error) {
	if f.Src.IsValid() {
		return f.Src, nil
	}
	src, err := p.net.Source(f)
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

// Option is socket.Handler.
func (p *pcb) Option(level, name int) ([]byte, error) { return p.opts.Get(level, name) }

// Describe is socket.Handler.
func (p *pcb) Describe(pkt *packet.Buf, m *socket.Msg) {
	p.net.Describe(pkt, m)
	m.Addr.Port = packet.UDP(pkt.L4()).SrcPort()
}
