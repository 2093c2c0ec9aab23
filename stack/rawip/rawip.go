// Package rawip is raw sockets (raw_ip, raw_ip6). Those of IPv4 see the network
// header, those of IPv6 what is behind every header of the network's (RFC 3542
// §3).
package rawip

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var (
	nodeSend = mib.Int("net.inet.raw.sendspace", 65535, "Send buffer of a new raw socket: its largest datagram.", mib.Range(512, 65535))
	nodeRecv = mib.Int("net.inet.raw.recvspace", 262144, "Receive buffer of a new raw socket.", mib.Range(512, 1<<30))

	cntIn   = mib.NewCounter("rawip", "delivered", "# datagram{s} delivered to raw sockets")
	cntFull = mib.NewCounter("rawip", "full raw socket buffer", "# datagram{s} dropped due to full raw socket buffers")
	cntOut  = mib.NewCounter("rawip", "sent", "# datagram{s} sent by raw sockets")
)

// Network is what a raw socket needs of IPv4 beyond a transport's wants.
type Network interface {
	socket.Network
	// OutputRaw sends a packet with a header of the user's making.
	OutputRaw(w *netif.Work, pkt *packet.Buf, f *socket.Flow) error
}

// Raw is one stack's raw sockets.
type Raw struct {
	env  *netif.Env
	net  Network
	net6 socket.Network // nil: there is no IPv6
	sum  *atomic.Int64

	mu  sync.Mutex // writers
	all atomic.Pointer[[]*pcb]
}

// New makes the room.
func New(env *netif.Env, net Network, sum *atomic.Int64) *Raw {
	r := &Raw{env: env, net: net, sum: sum}
	r.all.Store(&[]*pcb{})
	return r
}

type pcb struct {
	r    *Raw
	so   *socket.Socket
	opts socket.NetOptions

	mu             sync.Mutex
	local, foreign netip.Addr
	shutSend       bool
	six            six // of a socket of IPv6
}

// Over6 says which network layer carries IPv6.
func (r *Raw) Over6(n socket.Network) { r.net6 = n }

// net is the socket's network layer.
func (p *pcb) net() socket.Network {
	if p.v6() {
		return p.r.net6
	}
	return p.r.net
}

func (p *pcb) v6() bool { return p.so.Family == socket.AFInet6 }

// fits reports whether an address is of the socket's IP version: one of IPv4 that
// is mapped is none of a raw socket's.
func (p *pcb) fits(a netip.Addr) bool { return a.Is6() == p.v6() }

// Socket makes a raw socket for a protocol (0: all of them). EACCES: not the
// superuser; EAFNOSUPPORT.
func (r *Raw) Socket(w *netif.Work, family, proto int, cred socket.Cred, id uint64) (*socket.Socket, error) {
	if family == socket.AFInet6 && r.net6 == nil {
		return nil, syscall.EAFNOSUPPORT
	}
	if !cred.Super {
		return nil, syscall.EACCES
	}
	if proto < 0 || proto > 255 {
		return nil, syscall.EPROTONOSUPPORT
	}
	v := r.env.MIB
	so := socket.New(r.env, family, socket.Raw, proto, cred, int(v.Int(nodeRecv)), int(v.Int(nodeSend)), id, r.sum)
	p := &pcb{r: r, so: so}
	p.opts = p.net().NewOptions(so)
	p.six.init(proto)
	so.H = p
	r.mu.Lock()
	defer r.mu.Unlock()
	next := append(slices.Clone(*r.all.Load()), p)
	r.all.Store(&next)
	return so, nil
}

// Sockets are the raw sockets, for netstat.
func (r *Raw) Sockets() (out []*socket.Socket) {
	for _, p := range *r.all.Load() {
		out = append(out, p.so)
	}
	return out
}

// Deliver is inet.RawSink. Unlike on BSD, where a raw socket gets what no
// protocol of the kernel took, UDP and echo requests are seen too.
func (r *Raw) Deliver(w *netif.Work, pkt *packet.Buf, proto uint8) bool {
	all := *r.all.Load()
	if len(all) == 0 {
		return false
	}
	h := packet.IPv4(pkt.Bytes())
	found := false
	for _, p := range all {
		if !p.wants(w, h, pkt, proto) {
			continue
		}
		found = true
		c := pkt.Clone()
		if c == nil {
			w.Count(cntFull)
			continue
		}
		c.MarkL4(h.HeaderLen())
		c.CompleteCsum()
		if p.so.Deliver(w, c) {
			w.Count(cntIn)
		} else {
			c.Free()
			w.Count(cntFull)
		}
	}
	return found
}

func (p *pcb) wants(w *netif.Work, h packet.IPv4, pkt *packet.Buf, proto uint8) bool {
	return !p.v6() && p.matches(w, h.Src(), h.Dst(), pkt, proto)
}

func (p *pcb) matches(w *netif.Work, src, dst netip.Addr, pkt *packet.Buf, proto uint8) bool {
	if p.so.Proto != 0 && p.so.Proto != int(proto) {
		return false
	}
	if i := p.so.BoundIf(); i != 0 && i != pkt.RcvIf {
		return false
	}
	p.mu.Lock()
	local, foreign := p.local, p.foreign
	p.mu.Unlock()
	if local.IsValid() && local != dst || foreign.IsValid() && foreign != src {
		return false
	}
	if pkt.Flags&packet.FlagAsk != 0 && !p.net().Admits(w, pkt, p.opts) {
		return false
	}
	return !dst.IsMulticast() || p.opts.Accepts(dst, src, pkt.RcvIf)
}

// Bind is socket.Handler.
func (p *pcb) Bind(w *netif.Work, a socket.Addr) error {
	if a.IP.IsValid() && !p.fits(a.IP) {
		return syscall.EAFNOSUPPORT
	}
	if a.IP.IsValid() {
		if err := p.net().CheckBind(a.IP); err != nil {
			return err
		}
		if a.IP.IsUnspecified() {
			a.IP = netip.Addr{}
		}
	}
	p.mu.Lock()
	p.local = a.IP
	p.mu.Unlock()
	return nil
}

// Connect is socket.Handler.
func (p *pcb) Connect(w *netif.Work, a socket.Addr) error {
	if a.IP.IsValid() && !p.fits(a.IP) {
		return syscall.EAFNOSUPPORT
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !a.IP.IsValid() && !p.foreign.IsValid() {
		return syscall.ENOTCONN
	}
	p.foreign = a.IP
	return nil
}

// Send is socket.Handler: the data is a whole IPv4 packet with IP_HDRINCL,
// else what follows the header.
func (p *pcb) Send(w *netif.Work, m *socket.Msg) (int, error) {
	if len(m.Data) > p.so.SendSpace() {
		return 0, syscall.EMSGSIZE
	}
	p.mu.Lock()
	f := socket.Flow{Dst: p.foreign, Src: p.local, Proto: uint8(p.so.Proto)}
	shut := p.shutSend
	p.mu.Unlock()
	if shut {
		return 0, syscall.EPIPE
	}
	if f.Src.IsValid() && (f.Src.IsMulticast() || p.net().IsBroadcast(f.Src)) {
		f.Src = netip.Addr{} // only listened on (RFC 1122 §3.2.1.3)
	}
	if f.Dst.IsValid() && m.Addr.IP.IsValid() && !m.Elsewhere(f.Dst) {
		return 0, syscall.EISCONN
	}
	if m.Addr.IP.IsValid() {
		f.Dst = m.Addr.IP
	}
	o, _ := p.opts.(interface{ HdrIncl() bool })
	incl := o != nil && o.HdrIncl()
	if !f.Dst.IsValid() {
		return 0, syscall.EDESTADDRREQ
	}
	if !p.fits(f.Dst) {
		return 0, syscall.EAFNOSUPPORT
	}
	p.opts.Fill(&f)
	if len(m.Control) > 0 {
		if err := p.opts.Control(&f, m.Control); err != nil {
			return 0, err
		}
	}
	if m.Flags&socket.MsgDontRoute != 0 {
		f.DontRoute = true
	}
	if p.v6() {
		return p.send6(w, m.Data, &f)
	}
	if f.Dst.IsUnspecified() && !incl { // this host
		src, err := p.r.net.Source(&f)
		if err != nil {
			return 0, err
		}
		f.Dst = src
	}
	pkt := p.r.env.Pool.Get(len(m.Data))
	if pkt == nil {
		return 0, syscall.ENOBUFS
	}
	copy(pkt.Append(len(m.Data)), m.Data)
	w.Count(cntOut)
	pkt.Csum = packet.CsumVerified
	if incl {
		return len(m.Data), p.r.net.OutputRaw(w, pkt, &f)
	}
	if err := p.r.net.Output(w, pkt, &f); err != nil {
		return 0, err
	}
	return len(m.Data), nil
}

// Shutdown is socket.Handler.
func (p *pcb) Shutdown(w *netif.Work, read, write bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shutSend = p.shutSend || write
	return nil
}

// Close is socket.Handler.
func (p *pcb) Close(w *netif.Work) {
	r := p.r
	r.mu.Lock()
	next := slices.DeleteFunc(slices.Clone(*r.all.Load()), func(q *pcb) bool { return q == p })
	r.all.Store(&next)
	r.mu.Unlock()
	p.opts.Close(w)
}

// Local is socket.Handler.
func (p *pcb) Local() socket.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return socket.Addr{IP: p.local}
}

// Peer is socket.Handler.
func (p *pcb) Peer() socket.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return socket.Addr{IP: p.foreign}
}

// SetOption is socket.Handler.
func (p *pcb) SetOption(w *netif.Work, level, name int, v []byte) error {
	if p.v6() && isOption6(level, name) {
		return p.setOption6(level, name, v)
	}
	return p.opts.Set(w, level, name, v)
}

// NetOptions are its options at the network's level.
func (p *pcb) NetOptions() socket.NetOptions { return p.opts }

// Option is socket.Handler.
func (p *pcb) Option(level, name int) ([]byte, error) {
	if p.v6() && isOption6(level, name) {
		return p.option6(level, name)
	}
	return p.opts.Get(level, name)
}

// Describe is socket.Handler.
func (p *pcb) Describe(pkt *packet.Buf, m *socket.Msg) {
	p.net().Describe(pkt, m)
	p.opts.Describe(pkt, m)
}

// Knows is inet.RawSink.
func (r *Raw) Knows(dst netip.Addr, proto uint8) bool {
	for _, p := range *r.all.Load() {
		peer := p.Peer().IP
		if p.fits(dst) && (p.so.Proto == 0 || p.so.Proto == int(proto)) && (!peer.IsValid() || peer == dst) {
			return true
		}
	}
	return false
}

// ControlInput tells connected sockets of an ICMP error about their packets.
func (r *Raw) ControlInput(w *netif.Work, c socket.Control, _, dst netip.Addr, _ []byte) {
	for _, p := range *r.all.Load() {
		peer := p.Peer().IP
		switch {
		case c.Err == syscall.EMSGSIZE && p.v6(): // the next one is cut (RFC 8201 §5.2)
			if p.fits(dst) && (peer == dst || !peer.IsValid()) {
				p.opts.TooBig(w, socket.Addr{IP: dst}, c.MTU)
			}
		case peer == dst && dst.IsValid():
			p.so.SetError(w, c.Err)
		}
	}
}
