package tcp_test

import (
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

const reset = "connection reset by peer"

func TestWeCloseFirst(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Close()
	e.Got("F. 1 ack 1")
	says(t, "state", state(r), "FIN_WAIT_1")
	e.Send(". 1 ack 2")
	says(t, "state", state(r), "FIN_WAIT_2")
	e.Send("F. 1")
	e.Got(". 2 ack 2")
	says(t, "state", state(r), "TIME_WAIT")
	r.Pass(59 * time.Second)
	says(t, "state", state(r), "TIME_WAIT")
	r.Pass(2 * time.Second)
	says(t, "state", state(r), "CLOSED")
}

func TestTheyCloseFirst(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send("F. 1")
	e.Got(". 1 ack 2")
	says(t, "state", state(r), "CLOSE_WAIT")
	says(t, "readiness", events(s), "RW")
	says(t, "read", s.Read(9, 0), "EOF")
	s.Put(1, 5)
	e.Got("P. 1+5 ack 2")
	e.Send(". 2")
	s.Close()
	e.Got("F. 6 ack 2")
	says(t, "state", state(r), "LAST_ACK")
	e.Send(". 2 ack 6") // not yet
	says(t, "state", state(r), "LAST_ACK")
	e.Send(". 2 ack 7")
	says(t, "state", state(r), "CLOSED")
	e.Send(". 2 ack 7")
	e.Got("R 7")
}

func TestBothClose(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	is(t, "shutdown", s.Shutdown(false, true), nil)
	e.Got("F. 1 ack 1")
	e.Send("F. 1 ack 1")
	says(t, "state", state(r), "CLOSING")
	e.Got(". 2 ack 2")
	says(t, "readiness", events(s), "RWH")
	e.Send(". 2 ack 2")
	says(t, "state", state(r), "TIME_WAIT")
	e.Got()
	says(t, "read", s.Read(9, 0), "EOF")
	_, err := s.Write("x", 0)
	is(t, "write", err, syscall.EPIPE)
	is(t, "shutdown", s.Shutdown(false, true), syscall.ENOTCONN)
}

// The FIN and the ACK of ours in one segment.
func TestThreeSegmentsAreEnough(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Close()
	e.Got("F. 1 ack 1")
	e.Send("F. 1 ack 2")
	e.Got(". 2 ack 2")
	says(t, "state", state(r), "TIME_WAIT")
}

// A FIN takes part in everything: it waits behind data, goes with the last of
// it, is sent again, and is not lost out of order.
func TestFinGoesWithTheData(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Put(1, 2000)
	e.Got(". 1+1460 ack 1") // the rest waits (Nagle)
	is(t, "shutdown", s.Shutdown(false, true), nil)
	e.Got("FP. 1461+540 ack 1")
	e.Send(". 1 ack 1461")
	r.Pass(300 * time.Millisecond)
	e.Got("FP. 1461+540 ack 1")
	e.Send(". 1 ack 2001") // all but the FIN
	r.Pass(300 * time.Millisecond)
	e.Got("F. 2001 ack 1")
	e.Send(". 1 ack 2002")
	says(t, "state", state(r), "FIN_WAIT_2")
	e.Send("F. 4+2") // out of order
	e.Got(". 2002 ack 1")
	e.Send("P. 1+3")
	e.Got(". 2002 ack 7")
	s.Has(1, 5)
	says(t, "read", s.Read(9, 0), "EOF")
	says(t, "state", state(r), "TIME_WAIT")
}

// Whoever closes with data unread, or that comes later, has not got it all:
// the peer hears so by a reset (RFC 2525 §2.17).
func TestCloseWithUnreadData(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send("P. 1+5")
	e.Got(". 1 ack 6")
	s.Close()
	e.Got("R. 1 ack 6")
	says(t, "state", state(r), "CLOSED")
}

func TestDataAfterClose(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Close()
	e.Got("F. 1 ack 1")
	e.Send("P. 1+5 ack 2")
	e.Got("R. 2 ack 1")
	says(t, "state", state(r), "CLOSED")
}

// shutdown(SHUT_RD) reads EOF at once; what comes is acknowledged and thrown
// away.
func TestShutdownOfReading(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send("P. 1+5")
	e.Got(". 1 ack 6")
	is(t, "shutdown", s.Shutdown(true, false), nil)
	says(t, "read", s.Read(9, 0), "EOF")
	for i := range 200 {

		e.Send("P. " + seqs(6+i*1460, 1460))
	}
	r.Pass(50 * time.Millisecond)
	last := e.Segments()
	if n := last[len(last)-1]; n.Ack != 6+200*1460 || n.Win == 0 {
		t.Errorf("acknowledged %d, window %d", n.Ack, n.Win)
	}
	says(t, "read", s.Read(9, 0), "EOF")
	s.Put(1, 3)
	e.Got("P. 1+3 ack 292006")
}

func TestLingerOfNoTimeResets(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(s *Socket, e *End)
		want  []string
	}{
		{"ESTABLISHED", func(s *Socket, e *End) {}, []string{"R. 1 ack 1"}},
		{"CLOSE_WAIT", func(s *Socket, e *End) { e.Send("F. 1") }, []string{"R. 1 ack 2"}},
		{"FIN_WAIT_1", func(s *Socket, e *End) { _ = s.Shutdown(false, true) }, []string{"R. 2 ack 1"}},
		{"FIN_WAIT_2", func(s *Socket, e *End) { _ = s.Shutdown(false, true); e.Send(". 1 ack 2") }, []string{"R. 2 ack 1"}},
		{"CLOSING", func(s *Socket, e *End) { _ = s.Shutdown(false, true); e.Send("F. 1 ack 1") }, nil},
		{"LAST_ACK", func(s *Socket, e *End) { e.Send("F. 1"); _ = s.Shutdown(false, true) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(t)
			s, e := r.Dial(bare)
			if err := s.Set(socket.LevelSocket, socket.SOLinger, linger(0)); err != nil {
				t.Fatal(err)
			}
			c.first(s, e)
			says(t, "state", state(r), c.name)
			e.Lines()
			s.Close()
			e.Got(c.want...)
			says(t, "state", state(r), "CLOSED")
		})
	}
}

func linger(sec uint32) []byte {
	return binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, sec)
}

// Whoever lingers waits for Unsent to be 0.
func TestUnsentAfterClose(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Put(1, 10)
	s.Close()
	e.Got("P. 1+10 ack 1", "F. 11 ack 1")
	if n := s.Unsent(); n != 11 {
		t.Errorf("%d are unsent, want 10 and the FIN", n)
	}
	e.Send(". 1 ack 11")
	if n := s.Unsent(); n != 1 {
		t.Errorf("%d are unsent, want the FIN", n)
	}
	e.Send(". 1 ack 12")
	if n := s.Unsent(); n != 0 {
		t.Errorf("%d are unsent", n)
	}
}

func TestFinWait2OfAClosedSocketEnds(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Close()
	e.Got("F. 1 ack 1")
	e.Send(". 1 ack 2")
	r.Pass(59 * time.Second)
	says(t, "state", state(r), "FIN_WAIT_2")
	r.Counts("tcp", "dropped in FIN_WAIT_2", func() { r.Pass(2 * time.Second) })
	says(t, "state", state(r), "CLOSED")
}

// A socket that is shut down but open waits as long as its user.
func TestFinWait2OfAnOpenSocketStays(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	is(t, "shutdown", s.Shutdown(false, true), nil)
	e.Got("F. 1 ack 1")
	e.Send(". 1 ack 2")
	r.Pass(time.Hour)
	says(t, "state", state(r), "FIN_WAIT_2")
	r.Meet("10.0.0.2")
	e.Send("P. 1+5")
	s.Has(1, 5)
	s.Close()
	e.Got(". 2 ack 6")
	r.Pass(61 * time.Second)
	says(t, "state", state(r), "CLOSED")
}

// What a reset does to the user (RFC 9293 §3.10.7.4).
func TestResetInEachState(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(s *Socket, e *End)
		read  string
	}{
		{"ESTABLISHED", func(s *Socket, e *End) {}, reset},
		{"CLOSE_WAIT", func(s *Socket, e *End) { e.Send("F. 1") }, reset},
		{"FIN_WAIT_1", func(s *Socket, e *End) { _ = s.Shutdown(false, true) }, reset},
		{"FIN_WAIT_2", func(s *Socket, e *End) { _ = s.Shutdown(false, true); e.Send(". 1 ack 2") }, reset},
		{"CLOSING", func(s *Socket, e *End) { _ = s.Shutdown(false, true); e.Send("F. 1 ack 1") }, "EOF"},
		{"LAST_ACK", func(s *Socket, e *End) { e.Send("F. 1"); _ = s.Shutdown(false, true) }, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(t)
			s, e := r.Dial(bare)
			c.first(s, e)
			says(t, "state", state(r), c.name)
			e.Lines()
			at := "R 1"
			if c.name == "CLOSE_WAIT" || c.name == "CLOSING" || c.name == "LAST_ACK" {
				at = "R 2"
			}
			e.Send(at)
			e.Got()
			says(t, "state", state(r), "CLOSED")
			says(t, "read", s.Read(9, 0), c.read)
			says(t, "read again", s.Read(9, 0), "EOF")
			_, err := s.Write("x", 0)
			is(t, "write", err, syscall.EPIPE)
		})
	}
}

// What had come before the reset is still read.
func TestDataBeforeAReset(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send("P. 1+5", "R. 6")
	e.Lines()
	says(t, "readiness", events(s), "RWXH")
	s.Has(1, 5)
	says(t, "read", s.Read(9, 0), reset)
}

func TestFinAgainRestartsTimeWait(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Close()
	e.Send("F. 1 ack 2")
	e.Lines()
	r.Pass(50 * time.Second)
	for range 100 {
		e.Send("F. 1 ack 2")
	}
	if got := len(e.Lines()); got != 100 {
		t.Errorf("%d answers", got)
	}
	e.Send(". 2 ack 2") // says nothing new
	e.Send("R 2")       // RFC 1337
	e.Got()
	r.Pass(59 * time.Second)
	says(t, "state", state(r), "TIME_WAIT")
	r.Pass(2 * time.Second)
	says(t, "state", state(r), "CLOSED")
}

// What TIME_WAIT says to strangers and to old segments counts among the
// challenges (RFC 5961 §7); a peer that has not heard our last ACK is told.
func TestTimeWaitIsNoAmplifier(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send("P. 1+5")
	s.Has(1, 5)
	s.Close()
	e.Send("F. 6 ack 2")
	e.Lines()
	says(t, "state", state(r), "TIME_WAIT")
	for _, line := range []string{"S -5", "S. 0 ack 2", "P. 1+5 ack 2", "P. 90000+5 ack 2", "F. 1 ack 2"} {
		for range 300 {
			e.Send(line)
		}
		if n := len(e.Lines()); n < 50 || n >= 150 {
			t.Errorf("%d answers for 300 of %q, want some 100", n, line)
		}
		r.Pass(time.Second)
	}
	r.Sysctl("net.inet.tcp.ackppslimit", "0")
	r.Counts("tcp", "challenge acks withheld", func() { e.Send("S -5") })
	e.Got()
	e.Send("F. 6 ack 2")
	e.Got(". 2 ack 7")
}

// RFC 6191, RFC 9293 §3.10.7.4: a SYN beyond the old connection opens the next.
func TestTimeWaitGivesWay(t *testing.T) {
	for _, c := range []struct {
		name, syn, want string
		opts            string
		later           time.Duration
	}{
		{"older number", "S -5", ". 2 ack 2", bare, 0},
		{"newer number", "S 1000", "S. 0 ack 1 <mss 1460>", bare, 0},
		{"older timestamp", "S 1000 <ts 1 0>", ". 2 ack 2", bare + " ts", 0},
		{"newer timestamp", "S -5 <ts 99999999 0>", "S. 0 ack 1 <mss 1460>", bare + " ts", time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(t)
			s, e := r.Serve(c.opts)
			s.Close()
			e.Send("F. 1 ack 2")
			e.Lines()
			says(t, "state", state(r), "TIME_WAIT")
			r.Pass(c.later)
			old := e
			if c.want[0] == 'S' {
				e = r.End("10.0.0.2:5000", "10.0.0.1:80")
			}
			r.Send(old.Frame(c.syn))
			got := e.Segments()
			if len(got) != 1 {
				t.Fatalf("%d answers", len(got))
			}
			if syn := got[0].Flags&packet.TCPSyn != 0; syn != (c.want[0] == 'S') {
				t.Errorf("got %v", got[0].String())
			}
		})
	}
}

// The connection that takes over the ends begins beyond where the old one ended,
// though that was ahead of the clock of initial numbers; a cookie cannot
// promise that, and so there is none.
func TestNumbersAfterTimeWait(t *testing.T) {
	for _, limit := range []string{"10255", "0"} {
		t.Run("syn_cache_limit "+limit, func(t *testing.T) {
			r := New(t)
			s, e := r.Serve(bare)
			s.Put(1, 14600) // in no time
			e.Lines()
			e.Send(". 1 ack 14601")
			s.Close()
			e.Lines()
			e.Send("F. 1 ack 14602")
			e.Lines()
			says(t, "state", state(r), "TIME_WAIT")
			r.Sysctl("net.inet.tcp.syn_cache_limit", limit)
			e.Send("S 1000 <mss 1460>")
			got := e.Segments()
			if len(got) != 1 || got[0].Flags&packet.TCPSyn == 0 {
				t.Fatalf("got %v", got)
			}
			if q := int32(got[0].Seq); q <= 14602 || q > 1<<20 {
				t.Errorf("begins at %d; the old connection ended at 14602", q)
			}
		})
	}
}

func TestMaxTimeWait(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.tcp.maxtimewait", "3")
	l := r.Listen(":80", 10)
	for i := range 5 {
		e := r.End("10.0.0.2:"+[]string{"1", "2", "3", "4", "5"}[i], "10.0.0.1:80")
		e.Knock(bare)
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		e.Send("F. 1 ack 2")
		e.Lines()
	}
	if n := Counter(r.Stack, "tcp", "time_wait full"); n != 2 {
		t.Errorf("%d left early, want 2", n)
	}
	for _, x := range r.TCP.Rows() {
		if x.State == "TIME_WAIT" && x.Foreign.Port < 3 {
			t.Errorf("port %d is still there", x.Foreign.Port)
		}
	}
}

// A port is free for binding again when TIME_WAIT is over, or with
// SO_REUSEADDR; for connecting to the same peer only then.
func TestPortsInTimeWait(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Close()
	e.Send("F. 1 ack 2")
	e.Lines()
	is(t, "bind", r.Stream("").Bind("10.0.0.1:5000"), syscall.EADDRINUSE)
	is(t, "bind to the wildcard", r.Stream("").Bind(":5000"), syscall.EADDRINUSE)
	again := r.Stream("")
	again.Flag(socket.SOReuseAddr, 1)
	is(t, "bind with SO_REUSEADDR", again.Bind("10.0.0.1:5000"), nil)
	is(t, "connect", again.Connect("10.0.0.2:80"), syscall.EADDRINUSE)
	is(t, "connect elsewhere", again.Connect("10.0.0.2:81"), syscall.EINPROGRESS)
	again.Close()
	r.Pass(61 * time.Second)
	is(t, "bind", r.Stream("").Bind("10.0.0.1:5000"), nil)
	r.Sent()
}

// With timestamps the same ends may be used again after a second (RFC 6191).
func TestConnectOutOfTimeWait(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " ts")
	for at := 1; at < 1<<19; at += 1 << 12 { // faster than the clock of initial numbers
		s.Put(at, 1<<12)
		e.Lines()
		e.Send(". 1")
		e.Lines()
		e.Send(". 1")
	}
	s.Close()
	e.Lines()
	e.Send("F. 1")
	e.Lines()
	n := r.Stream("")
	n.Flag(socket.SOReuseAddr, 1)
	is(t, "bind", n.Bind("10.0.0.1:5000"), nil)
	is(t, "connect", n.Connect("10.0.0.2:80"), syscall.EADDRINUSE)
	r.Pass(1100 * time.Millisecond)
	is(t, "connect", n.Connect("10.0.0.2:80"), syscall.EINPROGRESS)
	says(t, "state", state(r), "SYN_SENT")
	if got := e.Segments(); len(got) != 1 || got[0].Seq <= 1<<19 || got[0].Seq > 1<<21 {
		t.Errorf("begins at %v; the old connection ended at %d", got, 1<<19+2)
	}
	n.Close()
}
