package tcp_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

// hog takes every buffer of the stack's, and answers how to give them back.
func hog(t testing.TB, r *Rig) (release func()) {
	t.Helper()
	r.Sysctl("kern.mbuf.memory", "1048576")
	var all []*packet.Buf
	for _, size := range []int{60000, 1500, 1} {
		for b := r.Env.Pool.Get(size); b != nil; b = r.Env.Pool.Get(size) {
			all = append(all, b)
		}
	}
	return func() {
		packet.FreeBurst(all)
		all = nil
	}
}

// What cannot be sent for want of memory is sent when there is some: nothing
// waits for an event that never comes.
func TestWithoutMemory(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(s *Socket, e *End)
		then  func(s *Socket)
		want  string
	}{
		{"SYN", nil, func(s *Socket) { _ = s.Connect("10.0.0.2:80") }, "S"},
		{"FIN", func(s *Socket, e *End) {}, func(s *Socket) { s.Close() }, "F. 1 ack 1"},
		{"data", func(s *Socket, e *End) { e.Send(". 1 win 0"); s.Put(1, 5) }, func(s *Socket) {}, "P. 1+5 ack 1"},
		{"data again", func(s *Socket, e *End) { s.Put(1, 5) }, func(s *Socket) {}, "P. 1+5 ack 1"},
		{"FIN again", func(s *Socket, e *End) { s.Close() }, func(s *Socket) {}, "F. 1 ack 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(t)
			var s *Socket
			var e *End
			if c.first == nil {
				s, e = r.Stream("10.0.0.1:5000"), r.End("10.0.0.2:80", "10.0.0.1:5000")
			} else {
				s, e = r.Dial(bare)
				c.first(s, e)
			}
			open := func() {}
			if c.name == "data" {
				open = func() { e.Send(". 1 win 1000") }
			}
			r.Sent()
			release := hog(t, r)
			c.then(s)
			r.Pass(2 * time.Second)
			if got := e.Lines(); len(got) != 0 {
				t.Fatalf("without memory came %v", got)
			}
			release()
			open()
			r.Pass(10 * time.Second)
			r.Meet("10.0.0.2")
			for range 30 {
				r.Pass(2 * time.Second)
				for _, l := range e.Lines() {
					if strings.HasPrefix(l, c.want) {
						return
					}
				}
			}
			t.Errorf("never came %q", c.want)
		})
	}
}

// A stream through a stack that is out of memory half of the time arrives.
func TestStreamWithoutMemory(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " sackOK")
	s.Put(1, 60000)
	for range 200 {
		release := hog(t, r)
		e.Send(". 1")
		r.Pass(700 * time.Millisecond)
		for _, f := range r.Sent() {
			e.Take(f)
		}
		release()
		r.Pass(300 * time.Millisecond)
		for _, f := range r.Sent() {
			e.Take(f)
		}
		e.Send(". 1")
		if len(e.Seen) == 60000 {
			break
		}
	}
	if string(e.Seen) != string(Octets(1, 60000)) {
		t.Errorf("%d octets came of 60000, state %s", len(e.Seen), state(r))
	}
}

// Peers that never open their windows hold what their sockets' buffers hold,
// all together no more than the sockets' share; others go on being served.
func TestPeersThatNeverRead(t *testing.T) {
	r := New(t)
	r.Sysctl("kern.mbuf.memory", "8388608")
	l := r.Listen(":80", 128)
	data := string(Octets(1, 60000))
	for port := 1000; port < 1300; port++ {
		e := r.End(fmt.Sprint("10.0.0.2:", port), "10.0.0.1:80")
		e.Knock(bare)
		e.Send(". 1 win 0")
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(data, 0)
		_, err = s.Write("more", 0)
		if refused := errors.Is(err, syscall.EWOULDBLOCK); refused == (s.Poll()&socket.Writable != 0) {
			t.Fatalf("port %d: a write answers %v, and the socket is %v", port, err, s.Poll())
		}
	}
	if m := r.SocketMemory(); m > 8388608*7/8 {
		t.Errorf("%d octets of 8 MiB are held", m)
	}
	for range 60 {
		r.Pass(time.Minute)
		r.Meet("10.0.0.2")
	}
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Knock(bare)
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e.Send("P. 1+100")
	s.Has(1, 100)
	s.Put(1, 100)
	r.Sent()
	if m := r.SocketMemory(); m > 1<<16 {
		t.Errorf("%d octets are held for peers that were given up", m)
	}
}
