package netif

import (
	"testing"

	"ionet/stack/mib"
	"ionet/stack/packet"
)

type waker func(*Work)

func (f waker) Wake(w *Work) { f(w) }

type sent struct{ n int }

func (s *sent) Transmit(_ *Interface, burst []*packet.Buf) {
	s.n += len(burst)
	packet.FreeBurst(burst)
}

var cntTest = mib.NewCounter("test", "test", "# test{s}")

// What turns, posts and wakes leave behind is done before the call ends.
func TestFinishLeavesNothing(t *testing.T) {
	env := &Env{Pool: packet.NewPool(1 << 20), MIB: mib.NewValues()}
	d := &sent{}
	ifp := New(Config{Name: "en0", Flags: FlagUp | FlagRunning, Driver: d})
	send := func(w *Work) { w.Transmit(ifp, env.Pool.Get(64)) }
	var order string
	w := env.Begin(1)
	w.Turn(func(w *Work, p *packet.Buf) {
		order += "turn "
		p.Free()
		send(w)
		w.WakeLater(waker(func(w *Work) {
			order += "wake "
			w.Count(cntTest)
			w.Turn(func(w *Work, p *packet.Buf) {
				order += "turn-of-wake "
				p.Free()
				send(w)
				w.Post(func(w *Work) { order += "post-of-wake " })
			}, env.Pool.Get(64))
		}))
	}, env.Pool.Get(64))
	w.Post(func(w *Work) {
		order += "post "
		w.Post(func(w *Work) { order += "post-of-post "; send(w) })
	})
	w.End()
	if want := "turn post post-of-post wake turn-of-wake post-of-wake "; order != want {
		t.Errorf("done: %q, want %q", order, want)
	}
	if d.n != 3 || env.Pool.Bufs() != 0 || env.MIB.Count(cntTest) != 1 {
		t.Errorf("%d frames sent, %d buffers out, counted %d", d.n, env.Pool.Bufs(), env.MIB.Count(cntTest))
	}
}
