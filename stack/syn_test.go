package stack_test

import (
	"errors"
	"sync"
	"syscall"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
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
	p.deaf = true
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
