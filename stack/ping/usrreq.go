package ping

import (
	"net/netip"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// ids are the identifiers that a bind chooses from. Unlike ports none is
// reserved.
func (p *pcb) ids() socket.Ports {
	return socket.Ports{Min: 1, Max: 65535, Rand: p.g.env.Rand32}
}

// Bind is socket.Handler: the port is the identifier, 0 for a free one.
// Errors: EAFNOSUPPORT, EADDRNOTAVAIL (not an address of ours, or no identifier
// is left), EADDRINUSE, EINVAL (bound already).
func (p *pcb) Bind(w *netif.Work, a socket.Addr) error {
	if a.IP.IsValid() {
		if !p.fits(a.IP) {
			return syscall.EAFNOSUPPORT
		}
		if err := p.net().CheckBind(a.IP); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.table().Bind(&p.PCB, a, p.ids()); err != nil {
		return err
	}
	p.bound = a.IP.IsValid() && !a.IP.IsUnspecified()
	p.listens = p.bound && (a.IP.IsMulticast() || p.net().IsBroadcast(a.IP))
	return nil
}

// from is the bound address if it is one to send from (RFC 1122 §3.2.1.3).
func (p *pcb) from(local netip.Addr) netip.Addr {
	if p.listens {
		return netip.Addr{}
	}
	return local
}

// Connect is socket.Handler. The peer's port says nothing. Errors:
// EAFNOSUPPORT, EACCES (a broadcast address without SO_BROADCAST), EADDRINUSE,
// ENOTCONN (nothing to dissolve), and the network's.
func (p *pcb) Connect(w *netif.Work, a socket.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := *p.Ends()
	if !a.IP.IsValid() {
		if !e.Foreign.IP.IsValid() {
			return syscall.ENOTCONN
		}
		p.table().Disconnect(&p.PCB, p.bound)
		return nil
	}
	if !p.fits(a.IP) {
		return syscall.EAFNOSUPPORT
	}
	if e.Foreign.IP.IsValid() { // a new peer: as if unconnected first
		p.table().Disconnect(&p.PCB, p.bound)
		e = *p.Ends()
	}
	f := socket.Flow{Dst: a.IP, Src: p.from(e.Local.IP)}
	p.opts.Fill(&f)
	if f.Dst == a.IP {
		f.Place()
		a.IP = f.Dst
	}
	if p.net().IsBroadcast(a.IP) && !f.Broadcast {
		return syscall.EACCES
	}
	src, err := p.net().Source(&f)
	if err != nil {
		return err
	}
	if !p.listens {
		e.Local.IP = src
	}
	if a.IP.IsUnspecified() { // this host, in_pcbconnect
		a.IP = src
	}
	e.Foreign = socket.Addr{IP: a.IP}
	return p.table().Connect(&p.PCB, e, p.ids())
}

// Send is socket.Handler: the data is an echo request from its ICMP header on,
// in which identifier and checksum are filled in. Errors: EMSGSIZE, EINVAL
// (not an echo request), EDESTADDRREQ, EISCONN, EPIPE (shut down), ENOBUFS,
// and the network's.
func (p *pcb) Send(w *netif.Work, m *socket.Msg) (int, error) {
	k := p.kind()
	if len(m.Data) > k.max || len(m.Data) > p.So.SendSpace() {
		return 0, syscall.EMSGSIZE
	}
	if h, ok := packet.CheckICMP(m.Data); !ok || h.Type() != k.request || h.Code() != 0 {
		return 0, syscall.EINVAL
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shutSend {
		return 0, syscall.EPIPE
	}
	e := p.Ends()
	to := e.Foreign.IP
	switch {
	case !m.Addr.IP.IsValid() && !to.IsValid():
		return 0, syscall.EDESTADDRREQ
	case m.Addr.IP.IsValid() && to.IsValid() && !m.Elsewhere(to):
		return 0, syscall.EISCONN
	case m.Addr.IP.IsValid():
		if to = m.Addr.IP; !p.fits(to) {
			return 0, syscall.EAFNOSUPPORT
		}
	}
	if e.Local.Port == 0 {
		if err := p.table().Bind(&p.PCB, e.Local, p.ids()); err != nil {
			return 0, err
		}
		e = p.Ends()
	}
	f := &p.flow
	f.Plain()
	f.Dst, f.Src, f.Proto = to, p.from(e.Local.IP), k.proto
	p.opts.Fill(f)
	if len(m.Control) > 0 {
		if err := p.opts.Control(f, m.Control); err != nil {
			return 0, err
		}
	}
	if f.Dst == to { // else it is the first of a source route
		f.Place()
		to = f.Dst
	}
	if m.Flags&socket.MsgDontRoute != 0 {
		f.DontRoute = true
	}
	src, err := p.net().Source(f)
	if err != nil {
		return 0, err
	}
	if to.IsUnspecified() { // this host, in_pcbconnect
		to, f.Dst = src, src
	}
	pkt := p.g.env.Pool.Get(len(m.Data))
	if pkt == nil {
		return 0, syscall.ENOBUFS
	}
	copy(pkt.Append(len(m.Data)), m.Data)
	h := packet.ICMP(pkt.Bytes())
	h.SetRest(uint32(e.Local.Port)<<16 | uint32(h.Seq()))
	if p.v6() {
		f.Src = src // which the checksum covers
		packet.ICMP6(h).SetChecksum(src, to)
	} else {
		h.SetChecksum()
	}
	pkt.Csum = packet.CsumVerified
	w.Count(k.out)
	if err := p.net().Output(w, pkt, f); err != nil {
		if err == syscall.EMSGSIZE {
			p.opts.TooBig(w, socket.Addr{IP: to}, f.Route.MTU)
		}
		return 0, err
	}
	return len(m.Data), nil
}

// Shutdown is socket.Handler. ENOTCONN: there is no peer.
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
	p.table().Remove(&p.PCB)
	p.opts.Close(w)
}

// Local is socket.Handler: the port is the identifier, 0 until there is one.
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
	p.net().Describe(pkt, m)
	p.opts.Describe(pkt, m)
}
