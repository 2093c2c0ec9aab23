package stack_test

import (
	"errors"
	"syscall"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// streams connects a to b and answers both ends.
func (p *pair) streams(t testing.TB) (a, b *socket.Socket) {
	call := func(i int, f func(w *netif.Work)) {
		p.w[i].Start(p.now)
		f(p.w[i])
		p.w[i].Finish()
		p.deliver()
	}
	var lis *socket.Socket
	cred := socket.Cred{Super: true}
	call(1, func(w *netif.Work) {
		lis, _ = p.s[1].Socket(w, socket.AFInet, socket.Stream, 0, cred)
		if err := errors.Join(lis.Bind(w, addr(2, 80)), lis.Listen(w, 5)); err != nil {
			t.Fatal(err)
		}
	})
	call(0, func(w *netif.Work) {
		a, _ = p.s[0].Socket(w, socket.AFInet, socket.Stream, 0, cred)
		if err := a.Connect(w, addr(2, 80)); !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
	})
	call(1, func(w *netif.Work) {
		var err error
		if b, err = lis.Accept(w); err != nil {
			t.Fatal(err)
		}
		lis.Close(w)
	})
	return a, b
}

// stream carries n octets from a to b.
func (p *pair) stream(t testing.TB, a, b *socket.Socket, n int, data, buf []byte) {
	m := &p.msg
	for got := 0; got < n; {
		p.w[0].Start(p.now)
		*m = socket.Msg{Data: data}
		if _, err := a.Send(p.w[0], m); err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Fatal(err)
		}
		p.w[0].Finish()
		p.deliver()
		p.now += 10000
		for {
			p.w[1].Start(p.now)
			*m = socket.Msg{Data: buf}
			err := b.Recv(p.w[1], m)
			p.w[1].Finish()
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

func BenchmarkStream(b *testing.B) {
	for name, caps := range map[string]netif.Caps{"MTU": 0, "super": netif.CapCsum | netif.CapTSO4} {
		b.Run(name, func(b *testing.B) {
			p := newPairWith(b, caps)
			x, y := p.streams(b)
			data, buf := make([]byte, 1<<18), make([]byte, 1<<18)
			p.stream(b, x, y, 16<<20, data, buf)
			const size = 1 << 20
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				p.stream(b, x, y, size, data, buf)
			}
		})
	}
}
