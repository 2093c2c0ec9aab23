package tcp_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
	"ionet/stack/tcp"
)

// option sets one of IPPROTO_TCP's.
func option(t testing.TB, s *Socket, name, value int) {
	t.Helper()
	is(t, "setsockopt", s.Set(tcp.LevelTCP, name, socket.Value32(value)), nil)
}

// RFC 9293 §3.7.4: a small segment waits for the ACK of what is in flight.
func TestNagle(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Put(1, 5)
	e.Got("P. 1+5 ack 1")
	s.Put(6, 5)
	s.Put(11, 5)
	e.Got()
	e.Send(". 1 ack 6")
	e.Got("P. 6+10 ack 1")
	option(t, s, tcp.NoDelay, 1)
	s.Put(16, 5)
	e.Got("P. 16+5 ack 1")
	s.Put(21, 1460) // more than is in flight
	e.Got("P. 21+1460 ack 1")
}

func TestNoPush(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	option(t, s, tcp.NoPush, 1)
	s.Put(1, 1000)
	e.Got()
	s.Put(1001, 1000)
	e.Got(". 1+1460 ack 1")
	option(t, s, tcp.NoPush, 0)
	e.Send(". 1 ack 1461")
	e.Got("P. 1461+540 ack 1")
}

// An old segment may acknowledge something new. What that lets go is sent for its
// own sake, not for that of an answer: there may be none.
func TestNewsFromAnOldSegment(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.tcp.ackppslimit", "0")
	s, e := r.Dial(bare)
	e.Send("P. 1+5")
	e.Got(". 1 ack 6")
	s.Put(1, 5)
	e.Got("P. 1+5 ack 6")
	s.Put(6, 5)
	e.Got() // Nagle
	e.Send(". 1 ack 6")
	e.Got("P. 6+5 ack 6")
}

// PSH ends what the user has sent so far, and nothing else.
func TestPush(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Put(1, 4000)
	e.Got(". 1+1460 ack 1", ". 1461+1460 ack 1")
	e.Send(". 1 ack 2921")
	e.Got("P. 2921+1080 ack 1")
}

// RFC 9293 §3.8.6.3: at once for every second segment, within 40 ms else, and
// at once at the start.
func TestDelayedAck(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send("P. 1+1")
	e.Got(". 1 ack 2")
	for i := range 15 {
		e.Send("P. " + seqs(2+i, 1))
	}
	e.Lines()
	e.Send(". 17+1460")
	e.Got()
	e.Send(". 1477+1460")
	e.Got(". 1 ack 2937")
	e.Send(". 2937+1460")
	r.Pass(39 * time.Millisecond)
	e.Got()
	r.Pass(3 * time.Millisecond)
	e.Got(". 1 ack 4397")
	e.Send("P. 4397+10")
	s.Has(1, 4406)
	s.Put(1, 3) // takes it along
	e.Got("P. 1+3 ack 4407")
	r.Pass(time.Second)
	e.Lines()
	r.Sysctl("net.inet.tcp.delack", "0")
	e.Send("P. 4407+10 ack 4")
	e.Got(". 4 ack 4417")
}

// A receiver that is full shuts its window, does not open it by crumbs, and
// says so when there is room.
func TestReceiveWindow(t *testing.T) {
	r := New(t)
	s := r.Stream("10.0.0.1:5000")
	s.Flag(socket.SORcvBuf, 4096)
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	_ = s.Connect("10.0.0.2:80")
	e.Got("SEW 0 win 4096 <mss 1460 wscale 8 sackOK>")
	e.Send("S. 0 <mss 1460>")
	e.Got(". 1 ack 1 win 4096")
	e.Send(". 1+1460", ". 1461+1460")
	e.Got(". 1 ack 2921 win 1176")
	e.Send("P. 2921+1176")
	e.Got(". 1 ack 4097 win 0")
	e.Send(". 4097+1") // a probe
	e.Got(". 1 ack 4097 win 0")
	e.Send(". 4096") // another
	e.Got(". 1 ack 4097 win 0")
	says(t, "read", s.Read(500, 0), string(Octets(1, 500)))
	e.Got() // a crumb
	e.Send(". 4096")
	e.Got(". 1 ack 4097 win 0")
	says(t, "read", s.Read(2000, 0), string(Octets(501, 2000)))
	e.Got(". 1 ack 4097 win 2500")
	e.Send("P. 4097+2500")
	r.Pass(50 * time.Millisecond)
	e.Lines()
	s.Has(2501, 4096)
}

// The right edge of the window never moves to the left (RFC 9293 §3.8.6) but
// for what scaling cannot say (RFC 7323 §2.4), whatever comes and however small
// the buffer is made.
func TestWindowNeverShrinks(t *testing.T) {
	for _, opts := range []string{bare, bare + " wscale 3"} {
		t.Run(opts, func(t *testing.T) {
			r := New(t)
			s, e := r.Dial(opts)
			scale := 0
			if strings.Contains(opts, "wscale") {
				scale = 8
			}
			edge, at := uint32(65536), 1
			look := func(what string) {
				t.Helper()
				r.Pass(50 * time.Millisecond)
				for _, x := range e.Segments() {
					now := x.Ack + uint32(x.Win)<<scale
					if now+1<<scale <= edge {
						t.Fatalf("%s: it went back by %d to %d", what, edge-now, now)
					}
					edge = max(edge, now)
				}
			}
			for _, n := range []int{1, 1, 7, 1460, 100, 3, 1460, 1460, 55} {
				e.Send("P. " + seqs(at, n))
				at += n
				look(fmt.Sprint(n, " octets"))
			}
			s.Flag(socket.SORcvBuf, 2048)
			e.Send("P. " + seqs(at, 10))
			at += 10
			look("a small buffer")
			s.Has(1, at-1)
			look("room")
			e.Send("P. " + seqs(at, 10))
			look("more")
		})
	}
}

// RFC 9293 §3.8.6.1: a shut window is asked about, ever more seldom, for ever.
func TestPersist(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(". 1 win 0")
	s.Put(1, 5)
	e.Got()
	probes := 0
	for range 3600 {
		r.Pass(time.Second)
		for _, l := range e.Lines() {
			if l == ". 0 ack 1" {
				probes++
				e.Send(". 1 ack 1 win 0")
			} else if strings.HasPrefix(l, "arp") {
				r.Meet("10.0.0.2")
			} else {
				t.Fatal(l)
			}
		}
	}
	if probes < 55 || probes > 90 {
		t.Errorf("%d probes in an hour", probes)
	}
	e.Send(". 1 ack 1 win 100")
	e.Got("P. 1+5 ack 1")
	says(t, "state", state(r), "ESTABLISHED")
}

// So it is when the window shuts over what is in flight: a peer that answers is
// no dead one, however often that is sent again.
func TestWindowShutOverDataInFlight(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Put(1, 5)
	e.Got("P. 1+5 ack 1")
	e.Send("P. 1+1 ack 1 win 0")
	e.Lines()
	sent := 0
	for range 3 * 3600 {
		r.Pass(time.Second)
		for _, l := range e.Lines() {
			if l == "P. 1+5 ack 2" {
				sent++
				e.Send(". 2 ack 1 win 0")
			} else if strings.HasPrefix(l, "arp") {
				r.Meet("10.0.0.2")
			} else {
				t.Fatal(l)
			}
		}
	}
	if sent < 3*3600/65 {
		t.Errorf("sent again %d times in three hours", sent)
	}
	e.Send(". 2 ack 6 win 100")
	s.Put(6, 5)
	e.Got("P. 6+5 ack 2")
}

// A peer that has gone is given up.
func TestPersistWithoutAnswer(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(". 1 win 0")
	s.Put(1, 5)
	r.Counts("tcp", "dropped by persist", func() { r.Pass(30 * time.Minute) })
	says(t, "read", s.Read(9, 0), timedOut)
}

// A small window is filled when that is half of the largest there was, or the
// persist timer says so (RFC 9293 §3.8.6.2.1).
func TestSenderAvoidsSillyWindows(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(". 1 win 100")
	s.Put(1, 3000)
	e.Got()
	r.Pass(5100 * time.Millisecond)
	e.Got(". 1+100 ack 1")
	e.Send(". 1 ack 101 win 40000")
	e.Got(". 101+1460 ack 1")
	e.Send(". 1 ack 1561 win 40000")
	e.Got("P. 1561+1440 ack 1")
}

func TestWindowScaling(t *testing.T) {
	r := New(t)
	s, e := r.Dial("mss 1460 wscale 7")
	e.Send(". 1 win 20")
	i, _ := r.TCP.InfoOf(s.ID)
	if i.SndWnd != 20<<7 || i.RcvScale != 8 {
		t.Errorf("their window is %d, our scale %d", i.SndWnd, i.RcvScale)
	}
	s.Put(1, 4000)
	e.Got(". 1+1460 ack 1") // 2560 are allowed
}

// The window of a SYN is never scaled (RFC 7323 §2.2).
func TestWindowOfASynIsNotScaled(t *testing.T) {
	r := New(t)
	s := r.Stream("10.0.0.1:5000")
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	_ = s.Connect("10.0.0.2:80")
	e.Lines()
	e.Send("S. 0 win 1000 <mss 500 wscale 14>")
	e.Lines()
	s.Put(1, 4000)
	e.Got(". 1+500 ack 1", ". 501+500 ack 1")
}

// In what order, overlap or number the segments come: the stream is whole.
func TestOutOfOrder(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " sackOK")
	e.Send(". 101+100")
	e.Got(". 1 ack 1 <sack 101-201>")
	e.Send(". 301+100")
	e.Got(". 1 ack 1 <sack 301-401 101-201>")
	e.Send(". 201+50") // touches
	e.Got(". 1 ack 1 <sack 101-251 301-401>")
	e.Send(". 240+100") // overlaps both
	e.Got(". 1 ack 1 <sack 240-251 101-401>")
	e.Send(". 101+100") // all of it again
	e.Got(". 1 ack 1 <sack 101-201 101-401>")
	says(t, "read", s.Read(9, 0), again)
	e.Send(". 1+100")
	e.Got(". 1 ack 401")
	e.Send(". 1+100") // old
	e.Got(". 1 ack 401 <sack 1-101>")
	e.Send(". 351+100") // partly
	e.Got(". 1 ack 451 <sack 351-401>")
	s.Has(1, 450)
}

// RFC 6093, and Stevens: the urgent octet comes out of line, once, and a read
// stops at its mark.
func TestUrgentData(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(`P.U 1 urg 3 "abcde"`)
	e.Lines()
	says(t, "readiness", events(s), "RWU")
	says(t, "oob", s.Read(9, socket.MsgOOB), "c")
	says(t, "oob again", s.Read(9, socket.MsgOOB), "invalid argument")
	says(t, "up to the mark", s.Read(9, 0), "ab")
	says(t, "behind it", s.Read(9, 0), "de")
	says(t, "readiness", events(s), "W")
}

// The pointer may come before its octet.
func TestUrgentPointerAhead(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(`P.U 1 urg 5 "ab"`)
	e.Lines()
	says(t, "readiness", events(s), "RW")
	says(t, "oob", s.Read(9, socket.MsgOOB), again)
	e.Send(`P.U 3 urg 3 "cde"`)
	says(t, "readiness", events(s), "RWU")
	says(t, "oob", s.Read(9, socket.MsgOOB), "e")
	says(t, "up to the mark", s.Read(9, 0), "abcd")
	says(t, "behind it", s.Read(9, 0), again)
}

func TestUrgentInline(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Flag(socket.SOOOBInline, 1)
	e.Send(`P.U 1 urg 3 "abcde"`)
	says(t, "oob", s.Read(9, socket.MsgOOB), "invalid argument")
	says(t, "up to the mark", s.Read(9, 0), "ab")
	says(t, "behind it", s.Read(9, 0), "cde")
}

func TestSendUrgent(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Put(1, 3)
	e.Got("P. 1+3 ack 1")
	_, err := s.Write("!", socket.MsgOOB)
	is(t, "send", err, nil)
	e.Got(`PU. 4+1 ack 1 urg 1 "!"`)
	e.Send(". 1 ack 5")
	s.Put(5, 3)
	e.Got("P. 5+3 ack 1")
}

func TestPeek(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(`P. 1 "hello"`, `P. 6 "world"`)
	says(t, "peek", s.Read(7, socket.MsgPeek), "hellowo")
	says(t, "peek", s.Read(7, socket.MsgPeek), "hellowo")
	says(t, "read", s.Read(99, 0), "helloworld")
	says(t, "peek", s.Read(7, socket.MsgPeek), again)
}

// Readable and writable mean at least so much (SO_RCVLOWAT, SO_SNDLOWAT).
func TestLowWaterMarks(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Flag(socket.SORcvLowat, 10)
	e.Send("P. 1+9")
	says(t, "readiness", events(s), "W")
	e.Send("P. 10+1")
	says(t, "readiness", events(s), "RW")
	s.Has(1, 10)
	e.Send("F. 11")
	says(t, "readiness", events(s), "RW")
	s.Flag(socket.SOSndBuf, 8192)
	n, err := s.Write(string(Octets(1, 20000)), 0)
	if n != 8192 || err != nil {
		t.Fatal(n, err)
	}
	says(t, "readiness", events(s), "R")
	_, err = s.Write("x", 0)
	is(t, "write", err, syscall.EWOULDBLOCK)
	e.Lines()
	e.Send(". 12 ack 1461")
	says(t, "readiness", events(s), "R") // 1460 are not 2048
	e.Send(". 12 ack 2921")
	says(t, "readiness", events(s), "RW")
}

// RFC 1122 §4.2.3.6.
func TestKeepalive(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Flag(socket.SOKeepAlive, 1)
	option(t, s, tcp.KeepIdle, 10)
	option(t, s, tcp.KeepIntvl, 2)
	option(t, s, tcp.KeepCnt, 3)
	r.Pass(9 * time.Second)
	e.Got()
	r.Pass(2 * time.Second)
	e.Got(". 0 ack 1")
	e.Send(". 1")
	r.Pass(9 * time.Second)
	e.Got()
	r.Pass(1500 * time.Millisecond)
	e.Got(". 0 ack 1")
	r.Pass(4 * time.Second)
	e.Got(". 0 ack 1", ". 0 ack 1")
	r.Counts("tcp", "dropped by keepalive", func() { r.Pass(3 * time.Second) })
	says(t, "read", s.Read(9, 0), timedOut)
}

// SO_SNDBUF is what may wait, in however large buffers: behind whole segments a
// write is not taken as far as its buffer would reach.
func TestSendBufferIsABound(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Flag(socket.SOSndBuf, 70000)
	e.Send(". 1 win 0")
	s.Put(1, 44*1460) // a buffer full of segments
	n, err := s.Write(string(Octets(44*1460+1, 60000)), 0)
	if want := 70000 - 44*1460; n != want || err != nil {
		t.Errorf("of the next write %d octets are taken, want %d: %v", n, want, err)
	}
	_, err = s.Write("x", 0)
	is(t, "write", err, syscall.EWOULDBLOCK)
	e.Lines()
}

// The longest segment, by what the peer takes and the path carries.
func TestMSS(t *testing.T) {
	dflt := 512
	if Over6() {
		dflt = 1220 // RFC 9293 §3.7.1
	}
	for _, c := range []struct {
		opts string
		want int
	}{{"mss 1460", 1460}, {"mss 9000", 1460}, {"mss 1000", 1000}, {"mss 1", 216}, {"", dflt}, {"mss 1460 ts", 1448}, {"mss 1 ts", 204}} {
		t.Run(c.opts, func(t *testing.T) {
			r := New(t)
			s, e := r.Dial(c.opts)
			s.Put(1, 3000)
			if x := e.Segments(); len(x) == 0 || len(x[0].Data) != c.want {
				t.Errorf("the first of %d is not of %d", len(x), c.want)
			}
		})
	}
}

// ECN (RFC 3168): CE is echoed until CWR; an echo slows us down once a window.
func TestECN(t *testing.T) {
	r := New(t)
	s := r.Stream("10.0.0.1:5000")
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	_ = s.Connect("10.0.0.2:80")
	e.Got("SEW 0 <mss 1460 wscale 8 sackOK>")
	e.Send("SE. 0 <mss 1460 sackOK>")
	e.Got(". 1 ack 1")
	e.TOS = 3
	e.Send("P. 1+10")
	e.Got("E. 1 ack 11")
	e.TOS = 2
	e.Send("P. 11+10")
	e.Got("E. 1 ack 21")
	e.Send("PW. 21+10")
	e.Got(". 1 ack 31")
	e.TOS = 0
	s.Put(1, 14600)
	for _, f := range r.Sent() {
		if tos := packet.IPv4(f[14:]).TOS(); tos != 2 {
			t.Fatalf("data goes with TOS %d", tos)
		}
		e.Take(f)
	}
	was, _ := r.TCP.InfoOf(s.ID)
	e.Send("E. 31 ack 1461", "E. 31 ack 2921", "E. 31 ack 4381")
	now, _ := r.TCP.InfoOf(s.ID)
	if now.Cwnd >= was.Cwnd || now.Cwnd < was.Cwnd/2 {
		t.Errorf("the window went from %d to %d", was.Cwnd, now.Cwnd)
	}
	if n := Counter(r.Stack, "tcp", "ece received"); n != 1 {
		t.Errorf("reduced %d times", n)
	}
	e.Send(". 31 ack 14601")
	s.Put(14601, 100)
	e.Got("PW. 14601+100 ack 31")
	s.Put(14701, 100)
	e.Send(". 31 ack 14701")
	e.Got("P. 14701+100 ack 31")
}
