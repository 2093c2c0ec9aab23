package host_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"ionet/driver"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack/netif"
)

// Connections are opened, used, half-closed, aborted and closed in the middle
// of calls while interfaces come, go and flap; in the end the stacks close
// below connections that are at work. Every call comes back, what an echo
// answers is what was sent, and the books balance.
func TestStreamChurn(t *testing.T) {
	const rounds = 30
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	echo, err := b.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	own, err := a.Listen("tcp", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	var serving, work, flaps sync.WaitGroup
	for _, l := range []net.Listener{echo, own} {
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				serving.Go(func() {
					defer c.Close()
					c.SetDeadline(time.Now().Add(30 * time.Second))
					if _, err := io.Copy(c, c); err == nil {
						_ = c.(*host.TCPConn).CloseWrite()
					}
				})
			}
		})
	}
	stop := make(chan struct{})
	flap := func(f func(i int)) {
		flaps.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond): // a pace, not a wait
					f(i)
				}
			}
		})
	}
	for _, h := range []*host.Stack{a, b} {
		eng := h.Engine()
		en0 := eng.Env.Ifs.ByName("en0")
		flap(func(int) {
			_ = eng.SetFlags(en0, 0, netif.FlagUp)
			_ = eng.SetFlags(en0, netif.FlagUp, 0)
		})
		flap(func(int) {
			_ = h.Engine().SocketTable()
			_ = eng.Neighbours()
		})
	}
	flap(func(i int) {
		ifp, err := a.Attach(seg.Attach(netif.MAC{2, 0, 0, 0, 1, byte(i)}, 1500), driver.Options{Lan: -1})
		if err != nil {
			t.Error(err)
			return
		}
		if err := a.Detach(ifp.Name); err != nil {
			t.Error(err)
		}
	})
	var echoed sync.Map // by address: whether one whole echo came back
	for i := range 6 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			to := []string{"10.0.0.2:7", "127.0.0.1:7"}[i&1]
			for range rounds {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(2000))*time.Millisecond)
				c, err := a.DialContext(ctx, "tcp", to)
				cancel()
				if err != nil {
					continue
				}
				if ok := misuse(t, c.(*host.TCPConn), r); ok {
					echoed.Store(to, true)
				}
			}
		})
	}
	work.Wait()
	close(stop)
	flaps.Wait()
	for _, to := range []string{"10.0.0.2:7", "127.0.0.1:7"} {
		if _, ok := echoed.Load(to); !ok {
			t.Errorf("no echo of %s came back whole", to)
		}
	}

	// The stack ends while everybody is in the middle of something.
	var late sync.WaitGroup
	for range 8 {
		c, err := a.Dial("tcp", "10.0.0.2:7")
		if err != nil {
			t.Fatal(err)
		}
		late.Go(func() {
			defer c.Close()
			for {
				if _, err := c.Write(make([]byte, 10_000)); err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("writing when the stack ended: %v, want net.ErrClosed", err)
					}
					return
				}
			}
		})
		late.Go(func() {
			if _, err := io.Copy(io.Discard, c); !errors.Is(err, net.ErrClosed) {
				t.Errorf("reading when the stack ended: %v, want net.ErrClosed", err)
			}
		})
	}
	for _, h := range []*host.Stack{a, b} {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	late.Wait()
	echo.Close()
	own.Close()
	serving.Wait()
	for i, h := range []*host.Stack{a, b} {
		e := h.Engine()
		if n, m, k := e.Env.Pool.Bufs(), e.SocketMemory(), e.Sockets(); n != 0 || m != 0 || k != 0 {
			t.Errorf("stack %d: %d buffers, %d octets and %d sockets are left", i+1, n, m, k)
		}
	}
}

// misuse does one of the things that programs do to an echoing connection,
// and ends it. It answers whether a whole echo came back.
func misuse(t *testing.T, c *host.TCPConn, r *rand.Rand) bool {
	what := bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(200_000))
	c.SetDeadline(time.Now().Add(10 * time.Second))
	var calls sync.WaitGroup
	defer calls.Wait()
	defer c.Close()
	switch r.IntN(5) {
	case 0: // used as it should be
		calls.Go(func() {
			if _, err := c.Write(what); err == nil {
				_ = c.CloseWrite()
			}
		})
		got, err := io.ReadAll(c)
		if err == nil && !bytes.Equal(got, what) {
			t.Errorf("%d octets came back of %d, or others", len(got), len(what))
		}
		return err == nil
	case 1: // closed in the middle of calls
		calls.Go(func() { _, _ = c.Write(what) })
		calls.Go(func() { _, _ = c.Read(what[:10]) })
		calls.Go(func() { _, _ = c.Read(what[10:]) })
	case 2: // aborted
		_, _ = c.Write(what)
		_ = c.SetLinger(0)
	case 3: // both directions shut at once
		calls.Go(func() { _ = c.CloseRead() })
		calls.Go(func() { _ = c.CloseWrite() })
		_, _ = c.Read(what)
	case 4: // waited for
		_ = c.SetLinger(1)
		_, _ = c.Write(what[:1+len(what)/10])
		c.SetReadDeadline(time.Now().Add(-time.Second))
		_, _ = c.Read(what)
	}
	return false
}

// Close with a time to linger comes back when the peer has acknowledged all,
// and gives up when it does not.
func TestLinger(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	x, y := dialed(t, a, b, "10.0.0.2:0")
	big := bytes.Repeat([]byte("linger "), 500_000)
	wrote := make(chan int)
	go func() { // as much as the buffers of both ends hold
		x.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, _ := x.Write(big)
		wrote <- n
	}()
	n := <-wrote
	if err := x.(*host.TCPConn).SetLinger(20); err != nil {
		t.Fatal(err)
	}
	closed := make(chan int)
	go func() {
		x.Close()
		closed <- x.(*host.TCPConn).Socket().Unsent()
	}()
	got, err := io.ReadAll(y)
	if err != nil || !bytes.Equal(got, big[:n]) {
		t.Errorf("%d octets have come of %d, %v", len(got), n, err)
	}
	if left := <-closed; left != 0 {
		t.Errorf("Close came back with %d octets that nobody has acknowledged", left)
	}
	y.Close()

	x, y = dialed(t, a, b, "10.0.0.2:0")
	x.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	x.Write(big)
	x.(*host.TCPConn).SetLinger(1)
	start := time.Now()
	x.Close()
	if d := time.Since(start); d < 900*time.Millisecond || d > 10*time.Second {
		t.Errorf("Close of a connection whose peer does not read took %v, want its second", d)
	}
	y.Close()
}
