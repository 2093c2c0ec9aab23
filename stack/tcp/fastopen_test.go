package tcp_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
	"ionet/stack/tcp"
)

// server is a listener with Fast Open for n, and the cookie it gives.
func server(t testing.TB, r *Rig, n int) (l *Socket, cookie string) {
	t.Helper()
	l = r.Listen(":80", 5)
	option(t, l, tcp.FastOpen, n)
	e := r.End("10.0.0.2:4000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460 ask>")
	x := e.Segments()
	if len(x) != 1 || len(x[0].Opt.FastOpen) != 8 || x[0].Ack != 1 {
		t.Fatalf("asked for a cookie, it says %v", x)
	}
	e.Send("R 1")
	return l, fmt.Sprintf("cookie %x", x[0].Opt.FastOpen)
}

// The data of a SYN with its cookie is taken at once, and may be answered
// before the handshake is over (RFC 7413 §4.2).
func TestFastOpenIn(t *testing.T) {
	r := New(t)
	l, cookie := server(t, r, 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send(`S 0 <mss 1460 ` + cookie + `> "hello"`)
	e.Got("S. 0 ack 6 <mss 1460>")
	s, err := l.Accept()
	is(t, "accept", err, nil)
	says(t, "read", s.Read(99, 0), "hello")
	s.Put(1, 3)
	e.Got("P. 1+3 ack 6")
	e.Send(`S 0 <mss 1460 ` + cookie + `> "hello"`) // our answer was lost
	if got := e.Lines(); len(got) == 0 || !strings.HasPrefix(got[0], "S. 0 ack 6") {
		t.Errorf("once more: %v", got)
	}
	_, err = l.Accept()
	is(t, "another accept", err, syscall.EWOULDBLOCK)
	e.Send(`. 6 ack 4 "you"`)
	e.Lines()
	says(t, "read", s.Read(99, 0), "you")
	r.Pass(time.Minute)
	says(t, "state", state(r), "ESTABLISHED")
}

// A cookie that is not ours, or another host's, opens nothing before its time.
func TestFastOpenForged(t *testing.T) {
	r := New(t)
	l, cookie := server(t, r, 5)
	for _, c := range []string{"cookie 0011223344556677", "cookie 00112233", cookie} {
		from := "10.0.0.2:5000"
		if c == cookie {
			from = "10.0.0.3:5000"
		}
		e := r.End(from, "10.0.0.1:80")
		e.Send(`S 0 <mss 1460 ` + c + `> "hello"`)
		x := e.Segments()
		if len(x) != 1 || x[0].Ack != 1 || len(x[0].Opt.FastOpen) != 8 {
			t.Errorf("%s: it says %v", c, x)
		}
		_, err := l.Accept()
		is(t, "accept", err, syscall.EWOULDBLOCK)
		e.Send("R 1")
	}
}

// No more connections than the option says are open before their handshake is
// complete, whatever becomes of them.
func TestFastOpenLimit(t *testing.T) {
	r := New(t)
	_, cookie := server(t, r, 1)
	syn := func(port int) (e *End, taken bool) {
		t.Helper()
		e = r.End(fmt.Sprint("10.0.0.2:", port), "10.0.0.1:80")
		e.Send(`S 0 <mss 1460 ` + cookie + `> "hello"`)
		x := e.Segments()
		if len(x) != 1 {
			t.Fatalf("%d answers", len(x))
		}
		return e, x[0].Ack == 6
	}
	want := func(what string, port int, want bool) *End {
		t.Helper()
		e, taken := syn(port)
		if taken != want {
			t.Errorf("%s: taken %v", what, taken)
		}
		return e
	}
	a := want("the first", 5000, true)
	want("one more", 5001, false)
	a.Send("R 6")
	b := want("after a reset", 5002, true)
	b.Send(". 6 ack 1")
	want("after a handshake", 5003, true)
	r.Pass(10 * time.Minute) // it dies of silence
	r.Sent()
	want("after a death", 5004, true)
	r.Sent()
}

// fastDial is a client that connects with Fast Open.
func fastDial(t *testing.T, r *Rig, port string) (*Socket, *End) {
	t.Helper()
	s := r.Stream("10.0.0.1:" + port)
	option(t, s, tcp.FastOpen, 1)
	e := r.End("10.0.0.2:80", "10.0.0.1:"+port)
	if err := s.Connect("10.0.0.2:80"); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		t.Fatal(err)
	}
	return s, e
}

// A SYN has no urgent pointer: the octet waits for the first segment that has.
func TestFastOpenUrgent(t *testing.T) {
	r := New(t)
	_, e := fastDial(t, r, "5000")
	e.Lines()
	e.Send("S. 0 <mss 1460 cookie 0123456789abcdef>")
	e.Got(". 1 ack 1")
	s, e := fastDial(t, r, "5001")
	_, err := s.Write("ab!", socket.MsgOOB)
	is(t, "send", err, nil)
	got := e.Segments()
	if len(got) != 1 || string(got[0].Data) != "ab" || got[0].Flags&packet.TCPUrg != 0 {
		t.Fatalf("the SYN is %v", got)
	}
	e.Send("S. 0 ack 3 <mss 1460>")
	e.Got(`PU. 3+1 ack 1 urg 1 "!"`)
}

// A question and its end, before the SYN is answered: connect has said yes.
func TestFastOpenShutdown(t *testing.T) {
	r := New(t)
	_, e := fastDial(t, r, "5000")
	e.Lines()
	e.Send("S. 0 <mss 1460 cookie 0123456789abcdef>")
	e.Got(". 1 ack 1")
	s, e := fastDial(t, r, "5001")
	s.Put(1, 100)
	is(t, "shutdown", s.Shutdown(false, true), nil)
	if got := e.Segments(); len(got) != 1 || len(got[0].Data) != 100 {
		t.Fatalf("the SYN is %v", got)
	}
	e.Send("S. 0 ack 101 <mss 1460>")
	e.Got("F. 101 ack 1")
	e.Send("F. 1 ack 102")
	e.Got(". 102 ack 2")
}

// Whatever way a connection ends before its handshake does, it counts no more.
func TestFastOpenSlotIsFreed(t *testing.T) {
	accept := func(l *Socket) *Socket {
		s, err := l.Accept()
		is(t, "accept", err, nil)
		return s
	}
	for name, end := range map[string]func(r *Rig, l *Socket, e *End){
		"handshake":         func(r *Rig, l *Socket, e *End) { e.Send(". 6 ack 1") },
		"reset":             func(r *Rig, l *Socket, e *End) { e.Send("R 6") },
		"silence":           func(r *Rig, l *Socket, e *End) { r.Pass(10 * time.Minute) },
		"close unread":      func(r *Rig, l *Socket, e *End) { accept(l).Close() },
		"abort":             func(r *Rig, l *Socket, e *End) { accept(l).Abort() },
		"tcpdrop":           func(r *Rig, l *Socket, e *End) { drop(t, r) },
		"data after close":  func(r *Rig, l *Socket, e *End) { shut(accept(l)); e.Send("P. 6+1 ack 1") },
		"silence at close":  func(r *Rig, l *Socket, e *End) { shut(accept(l)); r.Pass(10 * time.Minute) },
		"end of both sides": func(r *Rig, l *Socket, e *End) { shut(accept(l)); e.Send("F. 6 ack 2") },
	} {
		t.Run(name, func(t *testing.T) {
			r := New(t)
			l, cookie := server(t, r, 1)
			for port := range 3 {
				e := r.End(fmt.Sprint("10.0.0.2:", 5000+port), "10.0.0.1:80")
				e.Send(`S 0 <mss 1460 ` + cookie + `> "hello"`)
				if x := e.Segments(); len(x) != 1 || x[0].Ack != 6 {
					t.Fatalf("connection %d is not taken: %v", port, x)
				}
				end(r, l, e)
				r.Sent()
				if s, err := l.Accept(); err == nil {
					s.Close()
				}
				r.Sent()
			}
		})
	}
}

// shut reads what has come and closes.
func shut(s *Socket) {
	s.Read(99, 0)
	s.Close()
}

// drop ends the only connection by tcpdrop.
func drop(t testing.TB, r *Rig) {
	t.Helper()
	for _, x := range r.TCP.Rows() {
		if x.Foreign.IP.IsValid() {
			is(t, "tcpdrop", r.Do(func(w *netif.Work) error { return r.TCP.Drop(w, x.Local, x.Foreign) }), nil)
		}
	}
}

// Until the handshake of a connection that its SYN has opened is complete, the
// timer is the SYN and ACK's: with a shut window the data that waits has none.
func TestFastOpenIntoAShutWindow(t *testing.T) {
	r := New(t)
	l, cookie := server(t, r, 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send(`S 0 win 0 <mss 1460 ` + cookie + `> "hello"`)
	const synAck = "S. 0 ack 6 <mss 1460>"
	e.Got(synAck)
	s, err := l.Accept()
	is(t, "accept", err, nil)
	s.Put(1, 3)
	e.Got()
	for _, wait := range []time.Duration{1100, 2000, 4000} {
		r.Pass(wait * time.Millisecond)
		e.Got(synAck)
	}
	e.Send(". 6 ack 1 win 0")
	r.Pass(6 * time.Second)
	e.Got(". 0 ack 6") // now it is asked about
	e.Send(". 6 ack 1 win 100")
	e.Got("P. 1+3 ack 6")
}

// A client asks with its first connection, and has its data in the SYN of the
// next.
func TestFastOpenOut(t *testing.T) {
	r := New(t)
	dial := func(port string) (*Socket, *End) { return fastDial(t, r, port) }
	_, e := dial("5000")
	e.Got("SEW 0 <mss 1460 wscale 8 sackOK ask>")
	e.Send("S. 0 <mss 1460 cookie 0123456789abcdef>")
	e.Got(". 1 ack 1")

	s, e := dial("5001")
	e.Got()
	says(t, "readiness", events(s), "W")
	n, err := s.Write(string(Octets(1, 2000)), 0)
	if n != 2000 || err != nil {
		t.Fatal(n, err)
	}
	got := e.Segments()
	if len(got) != 1 || len(got[0].Data) == 0 || fmt.Sprintf("%x", got[0].Opt.FastOpen) != "0123456789abcdef" {
		t.Fatalf("the SYN is %v", got)
	}
	n = len(got[0].Data)
	e.Send(fmt.Sprintf("S. 0 ack %d <mss 1460>", 1+n))
	e.Got(fmt.Sprintf("P. %d+%d ack 1", 1+n, 2000-n))

	// A server that takes the SYN and not the data gets it again.
	s, e = dial("5002")
	s.Put(1, 100)
	if got = e.Segments(); len(got) != 1 || len(got[0].Data) != 100 {
		t.Fatalf("the SYN is %v", got)
	}
	e.Send("S. 0 ack 1 <mss 1460>")
	e.Got("P. 1+100 ack 1")

	// One that goes nowhere is sent again without either.
	s, e = dial("5003")
	s.Put(1, 100)
	e.Segments()
	r.Pass(1100 * time.Millisecond)
	if got = e.Segments(); len(got) != 1 || len(got[0].Data) != 0 || got[0].Opt.HasFastOpen {
		t.Fatalf("the SYN again is %v", got)
	}
	e.Send("S. 0 ack 1 <mss 1460>")
	e.Got("P. 1+100 ack 1")
}
