package stack_test

import (
	"net/netip"
	"testing"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	"ionet/stack/stacktest"
)

// pair is two stacks joined by a wire without loss, in one goroutine: what a
// driver is handed waits in a queue until deliver.
type pair struct {
	now   int64
	v6    bool // sockets are of IPv6
	s     [2]*stack.Stack
	ifp   [2]*netif.Interface
	w     [2]*netif.Work
	line  [2][]*packet.Buf // frames on their way to s[i]
	spare []*packet.Buf
	seed  uint32
	spy   func(frame []byte)
	hear  func([]*packet.Buf) // has what is sent in the place of the wire, if it is set
	msg   socket.Msg
}

type end struct {
	p  *pair
	to int
}

func (e *end) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	if e.p.hear != nil {
		e.p.hear(burst)
		return
	}
	if e.p.spy != nil {
		for _, b := range burst {
			e.p.spy(b.Bytes())
		}
	}
	e.p.line[e.to] = append(e.p.line[e.to], burst...)
}

// over has sockets speak IPv6, or IPv4.
func (p *pair) over(v6 bool) *pair {
	p.v6 = v6
	return p
}

func (p *pair) family() int {
	if p.v6 {
		return socket.AFInet6
	}
	return socket.AFInet
}

// addr is an end on stack i, counted from 1.
func (p *pair) addr(i byte, port uint16) socket.Addr {
	if p.v6 {
		return addr6(i, port)
	}
	return addr(i, port)
}

// families names the two for tests and benchmarks that run over both.
var families = map[string]bool{"v4": false, "v6": true}

func newPair(t testing.TB) *pair { return newPairWith(t, netif.CapCsum) }

func newPairWith(t testing.TB, caps netif.Caps) *pair { return newPairOf(t, caps, nil) }

// newPairOf is newPairWith of stacks that opt, unless nil, has changed.
func newPairOf(t testing.TB, caps netif.Caps, opt func(*stack.Config)) *pair {
	p := &pair{now: 1, seed: 1}
	for i := range p.s {
		c := stack.Config{
			Now:    func() int64 { return p.now },
			Rand32: func() uint32 { p.seed = p.seed*1664525 + 1013904223; return p.seed },
		}
		if opt != nil {
			opt(&c)
		}
		s, err := stack.New(c)
		if err != nil {
			t.Fatal(err)
		}
		p.s[i] = s
		p.w[i] = s.Env.NewWork()
		p.ifp[i] = netif.New(netif.Config{
			Name: "en0", MTU: 1500, MAC: netif.MAC{2, 0, 0, 0, 0, byte(1 + i)}, Caps: caps,
			Flags:  netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning,
			Driver: &end{p, 1 - i},
		})
		if err := s.AddInterface(p.ifp[i]); err != nil {
			t.Fatal(err)
		}
		for _, a := range []stack.AddrSpec{
			{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}), Bits: 8},
			{Addr: addr6(byte(1+i), 0).IP, Bits: 64, Flags: netif.AddrNoDAD},
		} {
			if err := s.AddAddr(p.ifp[i], a); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.deliver()
	return p
}

// deliver carries frames until the wire is quiet.
func (p *pair) deliver() {
	for len(p.line[0])+len(p.line[1]) > 0 {
		for i := range p.line {
			if burst := p.line[i]; len(burst) > 0 {
				p.line[i] = p.spare
				p.s[i].Input(p.w[i], p.now, p.ifp[i], burst)
				p.spare = burst[:0]
			}
		}
	}
}

func (p *pair) socket(t testing.TB, i int, local, peer socket.Addr) *socket.Socket {
	w := p.s[i].Env.Begin(p.now)
	defer w.End()
	so, err := p.s[i].Socket(w, p.family(), socket.Dgram, 0, socket.Cred{Super: true})
	if err == nil {
		err = so.Bind(w, local)
	}
	if err == nil && peer.IP.IsValid() {
		err = so.Connect(w, peer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return so
}

func addr(i byte, port uint16) socket.Addr {
	return socket.Addr{IP: netip.AddrFrom4([4]byte{10, 0, 0, i}), Port: port}
}

func addr6(i byte, port uint16) socket.Addr {
	return socket.Addr{IP: netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: i}), Port: port}
}

const burstLen = 32

// resolve has ARP done: more datagrams than it holds may follow.
func (p *pair) resolve(t testing.TB, a, b *socket.Socket) {
	w := p.w[0]
	w.Start(p.now)
	m := socket.Msg{}
	if _, err := a.Send(w, &m); err != nil {
		t.Fatal(err)
	}
	w.Finish()
	p.deliver()
	if err := b.Recv(p.w[1], &m); err != nil {
		t.Fatal(err)
	}
}

// sendBurst sends burstLen datagrams from a to b and receives them.
func (p *pair) sendBurst(t testing.TB, a, b *socket.Socket, payload, buf []byte) {
	w := p.w[0]
	w.Start(p.now)
	m := &p.msg
	for range burstLen {
		*m = socket.Msg{Data: payload}
		if _, err := a.Send(w, m); err != nil {
			t.Fatal(err)
		}
	}
	w.Finish()
	p.deliver()
	for i := range burstLen {
		*m = socket.Msg{Data: buf}
		if err := b.Recv(p.w[1], m); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
}

func TestNoAllocationAPacket(t *testing.T) {
	for name, v6 := range families {
		for _, size := range []int{64, 1452} {
			p := newPair(t).over(v6)
			b := p.socket(t, 1, p.addr(2, 7), socket.Addr{})
			if err := b.SetOption(p.w[1], socket.LevelSocket, socket.SORcvBuf, socket.Value32(1<<20)); err != nil {
				t.Fatal(err)
			}
			a := p.socket(t, 0, p.addr(1, 5000), p.addr(2, 7))
			payload, buf := make([]byte, size), make([]byte, 2048)
			p.resolve(t, a, b)
			p.sendBurst(t, a, b, payload, buf)
			if n := testing.AllocsPerRun(100, func() { p.sendBurst(t, a, b, payload, buf) }); n != 0 {
				t.Errorf("%s, %d octets: %v allocations in a burst of %d datagrams, want none", name, size, n, burstLen)
			}
		}
	}
}

func BenchmarkUDP64(b *testing.B)     { benchUDP(b, 64, false) }
func BenchmarkUDP1472(b *testing.B)   { benchUDP(b, 1472, false) }
func BenchmarkUDP64v6(b *testing.B)   { benchUDP(b, 64, true) }
func BenchmarkUDP1452v6(b *testing.B) { benchUDP(b, 1452, true) }

func benchUDP(b *testing.B, size int, v6 bool) {
	p := newPair(b).over(v6)
	to := p.socket(b, 1, p.addr(2, 7), socket.Addr{})
	if err := to.SetOption(p.w[1], socket.LevelSocket, socket.SORcvBuf, socket.Value32(1<<20)); err != nil {
		b.Fatal(err)
	}
	from := p.socket(b, 0, p.addr(1, 5000), p.addr(2, 7))
	payload, buf := make([]byte, size), make([]byte, 2048)
	p.resolve(b, from, to)
	p.sendBurst(b, from, to, payload, buf)
	b.ReportAllocs()
	for i := 0; i < b.N; i += burstLen {
		p.sendBurst(b, from, to, payload, buf)
	}
}

// A fragment whose fellows will never come does not outlive its stack.
func TestCloseGivesBackFragments(t *testing.T) {
	r := stacktest.New(t)
	r.Meet("10.0.0.2")
	r.Send(stacktest.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoUDP, ID: 7, Frag: packet.IPv4MF, Data: make([]byte, 64)}.Frame())
	if n := r.Env.Pool.Bufs(); n != 1 {
		t.Fatalf("%d buffers wait, want the fragment's", n)
	}
	r.Close()
	if n := r.Env.Pool.Bufs(); n != 0 {
		t.Errorf("%d buffers are still out after Close", n)
	}
}
