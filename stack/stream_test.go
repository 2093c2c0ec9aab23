package stack_test

import (
	"errors"
	"syscall"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// call makes a call into stack i and delivers what it sends.
func (p *pair) call(i int, f func(w *netif.Work)) {
	p.w[i].Start(p.now)
	f(p.w[i])
	p.w[i].Finish()
	p.deliver()
}

// streams connects a to b and answers both ends.
func (p *pair) streams(t testing.TB) (a, b *socket.Socket) {
	return p.streamsWith(t, func(*socket.Socket) {})
}

// streamsWith is streams with options of who calls and of who listens.
func (p *pair) streamsWith(t testing.TB, with func(*socket.Socket)) (a, b *socket.Socket) {
	var lis *socket.Socket
	cred := socket.Cred{Super: true}
	p.call(1, func(w *netif.Work) {
		lis, _ = p.s[1].Socket(w, p.family(), socket.Stream, 0, cred)
		with(lis)
		if err := errors.Join(lis.Bind(w, p.addr(2, 80)), lis.Listen(w, 5)); err != nil {
			t.Fatal(err)
		}
	})
	p.call(0, func(w *netif.Work) {
		a, _ = p.s[0].Socket(w, p.family(), socket.Stream, 0, cred)
		with(a)
		if err := a.Connect(w, p.addr(2, 80)); !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
	})
	p.call(1, func(w *netif.Work) {
		var err error
		if b, err = lis.Accept(w); err != nil {
			t.Fatal(err)
		}
		lis.Close(w)
	})
	return a, b
}

// stream carries n octets from a, of stack i, to b of the other.
func (p *pair) stream(t testing.TB, i int, a, b *socket.Socket, n int, data, buf []byte) {
	m, w, peer := &p.msg, p.w[i], p.w[1-i]
	for got := 0; got < n; {
		w.Start(p.now)
		*m = socket.Msg{Data: data}
		if _, err := a.Send(w, m); err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Fatal(err)
		}
		w.Finish()
		p.deliver()
		p.now += 10000
		for {
			peer.Start(p.now)
			*m = socket.Msg{Data: buf}
			err := b.Recv(peer, m)
			peer.Finish()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				break
			}
			if err != nil || m.Size == 0 {
				t.Fatal(err, m.Size)
			}
			got += m.Size
		}
		p.deliver()
	}
}

var streamCaps = map[string]netif.Caps{"MTU": 0, "super": netif.CapCsum | netif.CapTSO4 | netif.CapTSO6}

// TestStreamAllocatesNothing: a connection that has settled sends, receives
// and acknowledges without the allocator.
func TestStreamAllocatesNothing(t *testing.T) {
	for name, caps := range streamCaps {
		for family, v6 := range families {
			t.Run(name+"/"+family, func(t *testing.T) {
				p := newPairWith(t, caps).over(v6)
				x, y := p.streams(t)
				data, buf := make([]byte, 1<<18), make([]byte, 1<<18)
				p.stream(t, 0, x, y, 16<<20, data, buf)
				p.stream(t, 1, y, x, 16<<20, data, buf)
				if n := testing.AllocsPerRun(20, func() {
					p.stream(t, 0, x, y, 1<<20, data, buf)
					p.stream(t, 1, y, x, 1<<20, data, buf)
				}); n != 0 {
					t.Fatalf("%v allocations in 2 MiB", n)
				}
			})
		}
	}
}

// BenchmarkStream is a stream between two stacks on one goroutine, without a
// driver.
func BenchmarkStream(b *testing.B) {
	for name, caps := range streamCaps {
		for family, v6 := range families {
			b.Run(name+"/"+family, func(b *testing.B) {
				p := newPairWith(b, caps).over(v6)
				x, y := p.streams(b)
				data, buf := make([]byte, 1<<18), make([]byte, 1<<18)
				p.stream(b, 0, x, y, 1, data[:100], buf) // not at the front of a buffer
				p.stream(b, 0, x, y, 16<<20, data, buf)
				const size = 1 << 20
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					p.stream(b, 0, x, y, size, data, buf)
				}
			})
		}
	}
}

// BenchmarkConnect opens and closes a connection.
func BenchmarkConnect(b *testing.B) {
	p := newPairWith(b, netif.CapCsum|netif.CapTSO4)
	cred := socket.Cred{Super: true}
	var lis *socket.Socket
	p.call(1, func(w *netif.Work) {
		lis, _ = p.s[1].Socket(w, p.family(), socket.Stream, 0, cred)
		if err := errors.Join(lis.Bind(w, p.addr(2, 80)), lis.Listen(w, 5)); err != nil {
			b.Fatal(err)
		}
	})
	for i := range p.s {
		if _, err := p.s[i].Env.MIB.Set("net.inet.tcp.msl", "1"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		p.now += 200_000 // 5,000 connections wait at a time
		p.s[0].Advance(p.now)
		var x, y *socket.Socket
		p.call(0, func(w *netif.Work) {
			x, _ = p.s[0].Socket(w, p.family(), socket.Stream, 0, cred)
			if err := x.Connect(w, p.addr(2, 80)); !errors.Is(err, syscall.EINPROGRESS) {
				b.Fatal(err)
			}
		})
		p.call(1, func(w *netif.Work) {
			var err error
			if y, err = lis.Accept(w); err != nil {
				b.Fatal(err)
			}
		})
		p.call(0, x.Close)
		p.call(1, y.Close)
	}
}
