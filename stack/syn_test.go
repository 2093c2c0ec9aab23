package stack_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	"ionet/stack/stacktest"
	"ionet/stack/tcp"
)

// One SYN comes again and again on two receive queues at once, while the clock
// sends our answer anew: an entry of the SYN cache is everybody's (the race
// detector looks on).
func TestSynOnTwoQueues(t *testing.T) {
	p := newPairWith(t, 0)
	x, y := p.streams(t) // resolves the link addresses
	p.call(0, x.Close)
	p.call(1, y.Close)
	cred := socket.Cred{Super: true}
	p.call(1, func(w *netif.Work) {
		lis, _ := p.s[1].Socket(w, socket.AFInet, socket.Stream, 0, cred)
		if err := errors.Join(lis.Bind(w, addr(2, 81)), lis.Listen(w, 5)); err != nil {
			t.Fatal(err)
		}
	})
	p.w[0].Start(p.now)
	c, _ := p.s[0].Socket(p.w[0], socket.AFInet, socket.Stream, 0, cred)
	if err := c.Connect(p.w[0], addr(2, 81)); !errors.Is(err, syscall.EINPROGRESS) {
		t.Fatal(err)
	}
	p.w[0].Finish()
	if len(p.line[1]) != 1 {
		t.Fatalf("%d frames, want the SYN", len(p.line[1]))
	}
	syn := append([]byte(nil), p.line[1][0].Bytes()...)
	packet.FreeBurst(p.line[1])
	p.line[1] = nil
	p.hear = packet.FreeBurst
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			w := p.s[1].Env.NewWork()
			for i := range int64(500) {
				b := p.s[1].Env.Pool.Get(len(syn))
				copy(b.Append(len(syn)), syn)
				p.s[1].Input(w, p.now+i, p.ifp[1], []*packet.Buf{b})
			}
		})
	}
	wg.Go(func() {
		for i := range int64(4) {
			p.s[1].Advance(p.now + i*2e9)
		}
	})
	wg.Wait()
}

// The ACKs that end handshakes come on two receive queues at once: one
// connection comes out of each, and nobody is told that there is none; with
// entries of the SYN cache as with cookies.
func TestAckOnTwoQueues(t *testing.T) {
	const handshakes = 100
	for _, limit := range []string{"10255", "0"} {
		t.Run("syn_cache_limit "+limit, func(t *testing.T) {
			p := newPairWith(t, 0)
			x, y := p.streams(t) // resolves the link addresses
			p.call(0, x.Close)
			p.call(1, y.Close)
			if _, err := p.s[1].Env.MIB.Set("net.inet.tcp.syn_cache_limit", limit); err != nil {
				t.Fatal(err)
			}
			cred := socket.Cred{Super: true}
			var lis *socket.Socket
			p.call(1, func(w *netif.Work) {
				lis, _ = p.s[1].Socket(w, socket.AFInet, socket.Stream, 0, cred)
				if err := errors.Join(lis.Bind(w, addr(2, 81)), lis.Listen(w, handshakes)); err != nil {
					t.Fatal(err)
				}
			})
			for range 60 {
				p.acksTwice(t, lis, handshakes)
			}
		})
	}
}

// acksTwice opens n connections to lis of stack 1, and has the last segment of
// each handshake come on two receive queues.
func (p *pair) acksTwice(t *testing.T, lis *socket.Socket, n int) {
	p.w[0].Start(p.now)
	var socks []*socket.Socket
	for range n {
		c, _ := p.s[0].Socket(p.w[0], socket.AFInet, socket.Stream, 0, socket.Cred{Super: true})
		if err := c.Connect(p.w[0], addr(2, 81)); !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
		socks = append(socks, c)
	}
	p.w[0].Finish()
	for _, to := range []int{1, 0} { // SYN; SYN and ACK
		burst := p.line[to]
		p.line[to] = nil
		p.s[to].Input(p.w[to], p.now, p.ifp[to], burst)
	}
	var acks [][]byte
	for _, b := range p.line[1] {
		acks = append(acks, append([]byte(nil), b.Bytes()...))
	}
	packet.FreeBurst(p.line[1])
	p.line[1] = nil
	if len(acks) != n {
		t.Fatalf("%d handshakes end, want %d", len(acks), n)
	}
	resets := stacktest.Counter(p.s[1], "tcp", "resets sent")
	p.hear = packet.FreeBurst
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			w := p.s[1].Env.NewWork()
			for _, f := range acks {
				b := p.s[1].Env.Pool.Get(len(f))
				copy(b.Append(len(f)), f)
				p.s[1].Input(w, p.now, p.ifp[1], []*packet.Buf{b})
			}
		})
	}
	wg.Wait()
	if k := stacktest.Counter(p.s[1], "tcp", "resets sent") - resets; k != 0 {
		t.Errorf("%d were told that there is no connection", k)
	}
	accepted := 0
	p.w[1].Start(p.now)
	for c, err := lis.Accept(p.w[1]); err == nil; c, err = lis.Accept(p.w[1]) {
		accepted++
		c.Abort(p.w[1])
	}
	p.w[1].Finish()
	if accepted != n {
		t.Errorf("%d connections came out of %d handshakes", accepted, n)
	}
	p.w[0].Start(p.now)
	for _, c := range socks {
		c.Abort(p.w[0])
	}
	p.w[0].Finish()
	p.hear = nil
}

// A user who takes a connection that a SYN with a Fast Open cookie has opened,
// at once and on another processor, does not send before the SYN and ACK has
// gone.
func TestFastOpenOnTwoProcessors(t *testing.T) {
	const connections = 50
	p := newPairWith(t, 0)
	cred := socket.Cred{Super: true}
	var lis *socket.Socket
	p.call(1, func(w *netif.Work) {
		lis, _ = p.s[1].Socket(w, socket.AFInet, socket.Stream, 0, cred)
		if err := errors.Join(lis.Bind(w, addr(2, 81)), lis.SetOption(w, tcp.LevelTCP, tcp.FastOpen, socket.Value32(connections)), lis.Listen(w, connections)); err != nil {
			t.Fatal(err)
		}
	})
	open := func() {
		c, _ := p.s[0].Socket(p.w[0], socket.AFInet, socket.Stream, 0, cred)
		if err := c.SetOption(p.w[0], tcp.LevelTCP, tcp.FastOpen, socket.Value32(1)); err != nil {
			t.Fatal(err)
		}
		if err := c.Connect(p.w[0], addr(2, 81)); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
		_, _ = c.Send(p.w[0], &socket.Msg{Data: []byte("hello")})
	}
	p.call(0, func(*netif.Work) { open() }) // brings the cookie
	p.call(1, func(w *netif.Work) {
		if c, err := lis.Accept(w); err == nil {
			c.Abort(w)
		}
	})
	for range 60 {
		p.w[0].Start(p.now)
		for range connections {
			open()
		}
		p.w[0].Finish()
		syns := p.line[1]
		p.line[1] = nil
		var mu sync.Mutex
		answered := map[uint16]bool{}
		early := 0
		p.hear = func(burst []*packet.Buf) {
			mu.Lock()
			defer mu.Unlock()
			for _, b := range burst {
				h := packet.TCP(packet.IPv4(b.Bytes()[packet.EtherLen:]).Payload())
				if h.Flags()&packet.TCPSyn != 0 {
					answered[h.DstPort()] = true
				} else if !answered[h.DstPort()] {
					early++
				}
			}
			packet.FreeBurst(burst)
		}
		var wg sync.WaitGroup
		var done atomic.Bool
		var taken []*socket.Socket
		wg.Go(func() {
			w := p.s[1].Env.NewWork()
			for i := range syns {
				p.s[1].Input(w, p.now, p.ifp[1], syns[i:i+1])
			}
			done.Store(true)
		})
		wg.Go(func() {
			w := p.s[1].Env.NewWork()
			for more := true; more; {
				last := done.Load()
				w.Start(p.now)
				c, err := lis.Accept(w)
				if more = err == nil || !last; err == nil {
					_, _ = c.Send(w, &socket.Msg{Data: []byte("hi")})
					taken = append(taken, c)
				}
				w.Finish()
			}
		})
		wg.Wait()
		p.hear = packet.FreeBurst
		p.call(1, func(w *netif.Work) {
			for _, c := range taken {
				c.Abort(w)
			}
		})
		p.hear = nil
		if early != 0 || len(answered) != connections {
			t.Errorf("%d segments came before the SYN and ACK; %d of %d SYNs were answered", early, len(answered), connections)
		}
	}
}
