package tcp_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	. "ionet/stack/stacktest"
)

const (
	again    = "resource temporarily unavailable"
	refused  = "connection refused"
	timedOut = "connection timed out"

	bare = "mss 1460"
)

func is(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || (want == nil) != (got == nil) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func says(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// state is what the only connection of a rig is in, CLOSED without one.
func state(r *Rig) string {
	for _, x := range r.TCP.Rows() {
		if x.State != "LISTEN" && x.Foreign.IP.IsValid() {
			return x.State
		}
	}
	return "CLOSED"
}

// events are a socket's readiness in letters.
func events(s *Socket) string {
	var out string
	for i, c := range "RWXHU" {
		if s.Poll()&(1<<i) != 0 {
			out += string(c)
		}
	}
	return out
}

func TestActiveOpen(t *testing.T) {
	r := New(t)
	s := r.Stream("10.0.0.1:5000")
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	is(t, "connect", s.Connect("10.0.0.2:80"), syscall.EINPROGRESS)
	e.Got("SEW 0 win 65535 <mss 1460 wscale 8 sackOK>")
	says(t, "readiness", events(s), "")
	says(t, "read", s.Read(9, 0), again)
	_, err := s.Write("x", 0)
	is(t, "write", err, syscall.EWOULDBLOCK)
	is(t, "connect again", s.Connect("10.0.0.2:80"), syscall.EALREADY)
	e.Send("S. 0 <mss 1460 wscale 7 sackOK>")
	e.Got(". 1 ack 1")
	says(t, "readiness", events(s), "W")
	says(t, "state", state(r), "ESTABLISHED")
	is(t, "connect once more", s.Connect("10.0.0.2:80"), syscall.EISCONN)
	says(t, "read", s.Read(9, 0), again)
}

func TestPassiveOpen(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1400 wscale 7 sackOK>")
	e.Got("S. 0 ack 1 win 65535 <mss 1460 wscale 8 sackOK>")
	says(t, "readiness", events(l), "")
	_, err := l.Accept()
	is(t, "accept", err, syscall.EWOULDBLOCK)
	e.Send(". 1")
	e.Got()
	says(t, "readiness", events(l), "R")
	s, err := l.Accept()
	is(t, "accept", err, nil)
	says(t, "readiness", events(l), "")
	says(t, "readiness", events(s), "W")
	says(t, "peer", fmt.Sprint(Said(s.Peer().IP), s.Peer().Port), "10.0.0.2 5000")
}

// The third segment of the handshake may be lost: data stands for it.
func TestDataEndsTheHandshake(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got("S. 0 ack 1 <mss 1460>")
	e.Send("P. 1+5")
	e.Got(". 1 ack 6")
	s, err := l.Accept()
	is(t, "accept", err, nil)
	s.Has(1, 5)
}

func TestSynIsSentAgain(t *testing.T) {
	r := New(t)
	s := r.Stream("10.0.0.1:5000")
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	_ = s.Connect("10.0.0.2:80")
	e.Got("SEW 0 <mss 1460 wscale 8 sackOK>")
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32} { // RFC 6298 §2.1, §5.5; without ECN (RFC 3168 §6.1.1.1)
		r.Pass(wait*time.Second - 100*time.Millisecond)
		e.Got()
		r.Pass(200 * time.Millisecond)
		e.Got("S 0 <mss 1460 wscale 8 sackOK>")
		r.Pass(-100 * time.Millisecond)
	}
	r.Pass(13 * time.Second) // keepinit: 75 s
	e.Got()
	says(t, "readiness", events(s), "RWXH")
	says(t, "read", s.Read(9, 0), timedOut)
	is(t, "connect again", s.Connect("10.0.0.2:80"), syscall.EINVAL)
}

func TestSynAckIsSentAgain(t *testing.T) {
	r := New(t)
	r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got("S. 0 ack 1 <mss 1460>")
	e.Send("S 0 <mss 1460>") // ours was lost
	e.Got("S. 0 ack 1 <mss 1460>")
	n := 0
	for range 70 {
		r.Pass(time.Second)
		n += len(e.Lines())
	}
	if n != 5 {
		t.Errorf("it was sent again %d times, want 5", n)
	}
	e.Send(". 1")
	e.Got("R 1")
}

func TestRefused(t *testing.T) {
	t.Run("ours", func(t *testing.T) {
		r := New(t)
		s := r.Stream("10.0.0.1:5000")
		e := r.End("10.0.0.2:80", "10.0.0.1:5000")
		_ = s.Connect("10.0.0.2:80")
		e.Got("SEW 0 <mss 1460 wscale 8 sackOK>")
		e.Send("R. 0 ack 77") // of another connection
		e.Send("R 0")         // says nothing of ours
		says(t, "state", state(r), "SYN_SENT")
		e.Send("R. 0 ack 1")
		says(t, "read", s.Read(9, 0), refused)
		says(t, "read again", s.Read(9, 0), "EOF")
	})
	t.Run("theirs", func(t *testing.T) {
		r := New(t)
		e := r.End("10.0.0.2:5000", "10.0.0.1:80")
		e.Send("S 0")
		e.Got("R. 0 ack 1 win 0")
		e.Send("SF 0+3")
		e.Got("R. 0 ack 5")
		e.Send(". 1 ack 7")
		e.Got("R 7")
		e.Send("R 1", "R. 1 ack 7")
		e.Got()
	})
}

// A SYN and ACK that acknowledges something else is an old one (RFC 9293
// §3.5, figure 9).
func TestHalfOpenPeer(t *testing.T) {
	r := New(t)
	s := r.Stream("10.0.0.1:5000")
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	_ = s.Connect("10.0.0.2:80")
	e.Got("SEW 0 <mss 1460 wscale 8 sackOK>")
	e.Send(". 300 ack 100")
	e.Got("R 100")
	says(t, "state", state(r), "SYN_SENT")
	e.Send("S. 0 ack 1")
	e.Got(". 1 ack 1")
}

// Both sides open at once (RFC 9293 §3.5, figure 7).
func TestSimultaneousOpen(t *testing.T) {
	for _, end := range []string{". 1 ack 1", "S. 0 ack 1 <mss 1460>"} {
		t.Run(end[:2], func(t *testing.T) {
			r := New(t)
			s := r.Stream("10.0.0.1:5000")
			e := r.End("10.0.0.2:80", "10.0.0.1:5000")
			_ = s.Connect("10.0.0.2:80")
			e.Got("SEW 0 <mss 1460 wscale 8 sackOK>")
			e.Send("S 0 <mss 1460>")
			e.Got("S. 0 ack 1 <mss 1460>")
			says(t, "state", state(r), "SYN_RECEIVED")
			says(t, "readiness", events(s), "")
			e.Send(end)
			says(t, "state", state(r), "ESTABLISHED")
			e.Lines() // perhaps an ACK
			s.Put(1, 2920)
			e.Got(". 1+1460 ack 1", "P. 1461+1460 ack 1")
			e.Send(". 1 ack 1461")
			r.Pass(1100 * time.Millisecond)
			e.Got("P. 1461+1460 ack 1")
			e.Send(". 1 ack 2921", "P. 1+5 ack 2921")
			e.Got(". 2921 ack 6")
			s.Has(1, 5)
		})
	}
}

func TestResetOfAnEmbryo(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got("S. 0 ack 1 <mss 1460>")
	e.Send("R 77") // out of place
	r.Counts("tcp", "syn cache reset", func() { e.Send("R 1") })
	r.Pass(time.Minute)
	e.Got()
	says(t, "readiness", events(l), "")
}

// The handshake's end must acknowledge our SYN, from where the peer's was.
func TestBadEndOfHandshake(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got("S. 0 ack 1 <mss 1460>")
	e.Send(". 1 ack 2")
	e.Got("R 2")
	e.Send(". 1 ack 0")
	e.Got("R 0")
	e.Send(". 100000 ack 1") // beyond the window
	e.Got("S. 0 ack 1 <mss 1460>")
	says(t, "readiness", events(l), "")
	e.Send(". 1 ack 1")
	says(t, "readiness", events(l), "R")
}

// A full queue takes no SYNs, and the last ACK of a handshake that is too much
// is forgotten: the peer asks again.
func TestListenQueueFull(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 1)
	var ends []*End
	for i := range 3 {
		e := r.End(fmt.Sprint("10.0.0.2:", 5000+i), "10.0.0.1:80")
		e.Send("S 0 <mss 1460>")
		e.Got("S. 0 ack 1 <mss 1460>")
		ends = append(ends, e)
	}
	for _, e := range ends {
		e.Send(". 1")
	}
	if n := Counter(r.Stack, "tcp", "listen queue full"); n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
	e := r.End("10.0.0.2:6000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got()
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	r.Pass(1100 * time.Millisecond)
	if got := len(r.Sent()); got != 2 {
		t.Errorf("%d SYN and ACKs again, want those of 2 embryos", got)
	}
	ends[1].Send("P. 1+3")
	ends[1].Got(". 1 ack 4")
}

func TestCloseOfAListener(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	e := r.Knock(bare)
	l.Close()
	e.Got("R. 1 ack 1")
	e.Send("P. 1+5")
	e.Got("R 1")
}

// Options are granted only to who asked (RFC 7323 §2.2, RFC 2018 §2).
func TestOptionsAreGranted(t *testing.T) {
	for _, c := range []struct{ off, syn, want string }{
		{"", "mss 1460", "mss 1460"},
		{"", "mss 1460 wscale 0", "mss 1460 wscale 8"},
		{"", "mss 1460 sackOK", "mss 1460 sackOK"},
		{"", "mss 1460 wscale 7 sackOK ts 5 0", "mss 1460 wscale 8 sackOK ts"},
		{"sack", "mss 1460 wscale 7 sackOK ts 5 0", "mss 1460 wscale 8 ts"},
		{"timestamps", "mss 1460 wscale 7 sackOK ts 5 0", "mss 1460 wscale 8 sackOK"},
		{"win_scale", "mss 1460 wscale 7 sackOK ts 5 0", "mss 1460 sackOK ts"},
		{"rfc1323", "mss 1460 wscale 7 sackOK ts 5 0", "mss 1460 sackOK"},
	} {
		t.Run(c.off+" "+c.syn, func(t *testing.T) {
			r := New(t)
			if c.off != "" {
				r.Sysctl("net.inet.tcp."+c.off, "0")
			}
			r.Listen(":80", 5)
			e := r.End("10.0.0.2:5000", "10.0.0.1:80")
			e.Send("S 0 <" + c.syn + ">")
			s := e.Segments()
			o := s[0].Opt
			got := fmt.Sprint("mss ", o.MSS)
			for _, x := range []struct {
				on   bool
				name string
			}{{o.HasWScale, fmt.Sprint(" wscale ", o.WScale)}, {o.SACKOK, " sackOK"}, {o.HasTimestamp, " ts"}} {
				if x.on {
					got += x.name
				}
			}
			says(t, "granted", got, c.want)
			if o.HasTimestamp && o.TSEcr != 5 {
				t.Errorf("it echoes %d", o.TSEcr)
			}
		})
	}
}

// With a full cache a SYN is answered with a cookie, and nothing is kept.
func TestCookies(t *testing.T) {
	for _, opts := range []string{"mss 1460", "mss 1460 wscale 7 sackOK ts", "mss 536 ts", "mss 100"} {
		t.Run(opts, func(t *testing.T) {
			r := New(t)
			r.Sysctl("net.inet.tcp.syn_cache_limit", "0")
			l := r.Listen(":80", 5)
			var e *End
			r.Counts("tcp", "cookies sent", func() {
				r.Counts("tcp", "cookies good", func() { e = r.Knock(opts) })
			})
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			i, _ := r.TCP.InfoOf(s.ID)
			if i.Timestamps != strings.Contains(opts, "ts") || i.SACK != strings.Contains(opts, "sackOK") {
				t.Errorf("timestamps %v, SACK %v", i.Timestamps, i.SACK)
			}
			if want := strings.Contains(opts, "wscale"); i.WScale != want || want && i.SndScale != 7 {
				t.Errorf("window scaling %v by %d", i.WScale, i.SndScale)
			}
			e.Send("P. 1+5")
			e.Got(". 1 ack 6")
			s.Has(1, 5)
			s.Put(1, 5)
			e.Got("P. 1+5 ack 6")
		})
	}
}

func TestForgedCookies(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.tcp.syn_cache_limit", "0")
	l := r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got("S. 0 ack 1 <mss 1460>")
	for i := 2; i < 60; i++ {
		e.Send(fmt.Sprint(". 1 ack ", i*i))
	}
	e.Send(". 2 ack 1") // another SYN's
	if n := Counter(r.Stack, "tcp", "cookies bad"); n != 59 {
		t.Errorf("%d bad ones", n)
	}
	e.Lines()
	r.Pass(3 * time.Minute) // too old
	e.Send(". 1 ack 1")
	e.Got("R 1")
	says(t, "readiness", events(l), "")
}

// Without cookies, the oldest of a full bucket makes room.
func TestFullCacheWithoutCookies(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.tcp.syn_cookies", "0")
	r.Sysctl("net.inet.tcp.syn_bucket_limit", "1")
	r.Listen(":80", 5)
	for i := range 600 {
		e := r.End(fmt.Sprint("10.0.0.2:", 5000+i), "10.0.0.1:80")
		e.Send("S 0 <mss 1460>")
		e.Got("S. 0 ack 1 <mss 1460>")
	}
	if n := Counter(r.Stack, "tcp", "syn cache overflow"); n < 300 {
		t.Errorf("%d made room, want 600 less 293 at least", n)
	}
	if n := r.Env.Wheel.Armed(); n > 300 {
		t.Errorf("%d timers for 293 buckets", n)
	}
}

// seqs are the words for n octets from at on.
func seqs(at, n int) string { return fmt.Sprintf("%d+%d", at, n) }

// What a cookie has no room for is not offered.
func TestCookieWithoutTimestamps(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.tcp.syn_cache_limit", "0")
	r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460 wscale 7 sackOK>")
	e.Got("S. 0 ack 1 <mss 1460>")
}

// What overtakes the first ACK does not end a connection that a cookie stands
// for: it is sent again.
func TestCookieOvertaken(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.tcp.syn_cache_limit", "0")
	l := r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got("S. 0 ack 1 <mss 1460>")
	e.Send("P. 6+5 ack 1", ". 11 ack 1")
	e.Got()
	e.Send("P. 1+5 ack 1")
	e.Got(". 1 ack 6")
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Has(1, 5)
}

// A SYN may come twice, to a full cache and to one that has room again: both
// answers may be taken up.
func TestCookieBesideEntry(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.tcp.syn_cache_limit", "0")
	l := r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0 <mss 1460>")
	e.Got("S. 0 ack 1 <mss 1460>")
	r.Sysctl("net.inet.tcp.syn_cache_limit", "10")
	e.Send("S 0 <mss 1460>")
	e.Lines()
	e.Send("P. 1+5 ack 1")
	e.Got(". 1 ack 6")
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	r.Pass(time.Minute)
	e.Got() // the entry has gone
}
