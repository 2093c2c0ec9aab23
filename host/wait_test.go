package host

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

func bare(t testing.TB) *Stack {
	t.Helper()
	h, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// conns are two connections over a pipe.
func conns(t testing.TB, h *Stack, size int) (a, b *TCPConn) {
	t.Helper()
	fa, fb := pipe(h, size)
	a, err := h.newTCP(fa.so, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	if b, err = h.newTCP(fb.so, "tcp"); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// The waiting of connections by itself, with a transport that does nothing.
func TestWaitingConforms(t *testing.T) {
	h := bare(t)
	for _, size := range []int{1000, 1 << 20} {
		nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
			a, b := conns(t, h, size)
			return a, b, func() { a.Close(); b.Close() }, nil
		})
	}
}

// sleeping waits until a call sleeps on s.
func sleeping(s *side) {
	for !s.parked.Load() {
		runtime.Gosched()
	}
}

// Who waits is let go by whatever may happen, with the error of package net.
func TestWhatEndsAWait(t *testing.T) {
	type calls struct {
		name string
		side func(c *TCPConn) *side
		call func(c *TCPConn) error
	}
	read := calls{"read", func(c *TCPConn) *side { return &c.r }, func(c *TCPConn) error {
		_, err := c.Read(make([]byte, 1))
		return err
	}}
	write := calls{"write", func(c *TCPConn) *side { return &c.w }, func(c *TCPConn) error {
		_, err := c.Write(make([]byte, 2000)) // into a buffer of 1000
		return err
	}}
	for _, tc := range []struct {
		calls
		what string
		do   func(h *Stack, c, peer *TCPConn)
		want error
	}{
		{read, "data", func(_ *Stack, _, peer *TCPConn) { peer.Write([]byte("x")) }, nil},
		{read, "the end", func(_ *Stack, _, peer *TCPConn) { peer.CloseWrite() }, io.EOF},
		{read, "CloseRead", func(_ *Stack, c, _ *TCPConn) { c.CloseRead() }, io.EOF},
		{read, "an error", func(h *Stack, c, _ *TCPConn) { h.Call(func(w *netif.Work) { c.so.H.(*fake).fail(w) }) }, syscall.ECONNRESET},
		{write, "room", func(_ *Stack, _, peer *TCPConn) { io.CopyN(io.Discard, peer, 2000) }, nil},
		{write, "CloseWrite", func(_ *Stack, c, _ *TCPConn) { c.CloseWrite() }, syscall.EPIPE},
		{write, "an error", func(h *Stack, c, _ *TCPConn) { h.Call(func(w *netif.Work) { c.so.H.(*fake).fail(w) }) }, syscall.ECONNRESET},
	} {
		t.Run(tc.name+"/"+tc.what, func(t *testing.T) {
			h := bare(t)
			c, peer := conns(t, h, 1000)
			defer c.Close()
			defer peer.Close()
			meets(t, tc.call, tc.side(c), c, func() { tc.do(h, c, peer) }, tc.want)
		})
	}
	for _, k := range []calls{read, write} {
		for _, tc := range []struct {
			what string
			do   func(h *Stack, c *TCPConn)
			want error
		}{
			{"close", func(_ *Stack, c *TCPConn) { c.Close() }, net.ErrClosed},
			{"the end of the stack", func(h *Stack, _ *TCPConn) { h.Close() }, net.ErrClosed},
			{"a deadline set now", func(_ *Stack, c *TCPConn) { c.SetDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
			{"a deadline in the past", func(_ *Stack, c *TCPConn) { c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
			{"a deadline moved there", func(_ *Stack, c *TCPConn) {
				c.SetDeadline(time.Now().Add(time.Hour))
				c.SetDeadline(time.Now().Add(-time.Hour))
			}, os.ErrDeadlineExceeded},
		} {
			t.Run(k.name+"/"+tc.what, func(t *testing.T) {
				h := bare(t)
				c, peer := conns(t, h, 1000)
				defer c.Close()
				defer peer.Close()
				meets(t, k.call, k.side(c), c, func() { tc.do(h, c) }, tc.want)
			})
		}
	}
}

// meets has call wait on s, does something, and says how the call must end.
func meets(t *testing.T, call func(*TCPConn) error, s *side, c *TCPConn, do func(), want error) {
	t.Helper()
	got := make(chan error)
	go func() { got <- call(c) }()
	sleeping(s)
	do()
	err := <-got
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	if op, is := errors.AsType[*net.OpError](err); is == (want == nil || want == io.EOF) {
		t.Errorf("%#v is a *net.OpError: %v (%v)", err, is, op)
	}
}

func (f *fake) fail(w *netif.Work) {
	f.so.SetError(w, syscall.ECONNRESET)
}

// A deadline that is taken back, or moved on, ends nothing.
func TestDeadlineMovesOn(t *testing.T) {
	h := bare(t)
	c, peer := conns(t, h, 1000)
	defer c.Close()
	defer peer.Close()
	for _, later := range []time.Time{{}, time.Now().Add(time.Hour)} {
		meets(t, func(c *TCPConn) error { _, err := c.Read(make([]byte, 1)); return err }, &c.r, c, func() {
			c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			c.SetReadDeadline(later)
			time.AfterFunc(20*time.Millisecond, func() { peer.Write([]byte("x")) })
		}, nil)
	}
}

// Many readers and writers share a connection: what is written in one call
// stays together, nothing is lost, and everybody ends.
func TestManyReadersAndWriters(t *testing.T) {
	h := bare(t)
	a, b := conns(t, h, 777)
	const writers, each = 4, 200
	var wr, rd sync.WaitGroup
	for i := range writers {
		wr.Go(func() {
			p := make([]byte, 1000)
			for j := range p {
				p[j] = byte(i)
			}
			for range each {
				if n, err := a.Write(p); n != len(p) || err != nil {
					t.Error(n, err)
				}
			}
		})
	}
	var mu sync.Mutex
	var got [writers]int
	for range 3 {
		rd.Go(func() {
			p := make([]byte, 1000)
			for {
				mu.Lock() // a read of a whole piece, by whoever comes
				_, err := io.ReadFull(b, p)
				for _, c := range p[1:] {
					if c != p[0] {
						t.Error("two writes are mixed")
						break
					}
				}
				if err == nil {
					got[p[0]]++
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wr.Wait()
	a.CloseWrite()
	rd.Wait()
	for i, n := range got {
		if n != each {
			t.Errorf("writer %d: %d pieces of %d", i, n, each)
		}
	}
	a.Close()
	b.Close()
}

func TestConnectWaits(t *testing.T) {
	h := bare(t)
	to := socket.Addr{}
	begin := func(ctx context.Context) (*fake, chan error) {
		f, _ := pipe(h, 1000)
		got := make(chan error, 1)
		go func() {
			c, err := h.connectTCP(ctx, f.so, "tcp", to)
			if err == nil {
				c.Close()
			}
			got <- err
		}()
		for begun := false; !begun; {
			f.mu.Lock()
			begun = f.connects
			f.mu.Unlock()
		}
		return f, got
	}
	f, got := begin(context.Background())
	h.Call(func(w *netif.Work) { f.established(w, 0) })
	if err := <-got; err != nil {
		t.Error(err)
	}
	f, got = begin(context.Background())
	h.Call(func(w *netif.Work) { f.established(w, syscall.ECONNREFUSED) })
	if err := <-got; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want ECONNREFUSED", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f, got = begin(ctx)
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) || !f.closed {
		t.Errorf("%v, want context.Canceled and the attempt closed", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	f, got = begin(ctx)
	if err := <-got; !errors.Is(err, context.DeadlineExceeded) || !f.closed {
		t.Errorf("%v, want context.DeadlineExceeded and the attempt closed", err)
	}
}

func TestAcceptWaits(t *testing.T) {
	h := bare(t)
	f := lone(h, new(sync.Mutex), 0)
	l, err := (&ListenConfig{Stack: h}).listenTCP(f.so, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	accept := func() {
		c, err := l.Accept()
		if err == nil {
			c.Close()
		}
		got <- err
	}
	go accept()
	go accept()
	sleeping(&l.ep.r)
	a, b := pipe(h, 1)
	h.Call(func(w *netif.Work) { f.arrive(w, a.so); f.arrive(w, b.so) })
	for range 2 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	go accept()
	sleeping(&l.ep.r)
	l.SetDeadline(time.Now().Add(-1))
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
	l.SetDeadline(time.Time{})
	go accept()
	sleeping(&l.ep.r)
	l.Close()
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want net.ErrClosed", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}

// Close with SetLinger waits for the peer to have everything, but not longer.
func TestLinger(t *testing.T) {
	h := bare(t)
	for _, reads := range []bool{true, false} {
		a, b := conns(t, h, 1000)
		a.SetLinger(1)
		a.Write([]byte("take this"))
		done := make(chan error)
		start := time.Now()
		go func() { done <- a.Close() }()
		sleeping(&a.w)
		if reads {
			b.Read(make([]byte, 100))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); reads != (d < time.Second) {
			t.Errorf("peer reads %v: Close took %v", reads, d)
		}
		b.Close()
	}
}

func TestReadAndWriteMakeNoGarbage(t *testing.T) {
	h := bare(t)
	a, b := conns(t, h, 1<<16)
	defer a.Close()
	defer b.Close()
	go func() { // the echo sleeps in every round, and its writer wakes it
		buf := make([]byte, 100)
		for {
			n, err := b.Read(buf)
			if err != nil {
				return
			}
			b.Write(buf[:n])
		}
	}()
	buf := make([]byte, 100)
	if n := testing.AllocsPerRun(1000, func() {
		a.Write(buf)
		a.SetReadDeadline(time.Now().Add(time.Minute))
		a.Read(buf)
	}); n > 0 {
		t.Errorf("%v allocations a round", n)
	}
}
