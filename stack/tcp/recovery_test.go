package tcp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

// far is a rig whose peer is 20 ms away.
func far(t *testing.T) *Rig {
	r := New(t)
	r.Delay = 20 * time.Millisecond
	return r
}

// RFC 6298 §5: the timeout doubles, up to 64 s; after 13 the connection ends.
func TestRetransmissionTimeout(t *testing.T) {
	r := far(t)
	s, e := r.Dial(bare)
	s.Put(1, 10)
	e.Got("P. 1+10 ack 1")
	n, last := 0, r.Now()
	var gaps []time.Duration
	for range 6000 {
		r.Pass(100 * time.Millisecond)
		for _, l := range e.Lines() {
			if l != "P. 1+10 ack 1" {
				if strings.HasPrefix(l, "arp") {
					r.Meet("10.0.0.2")
					continue
				}
				t.Fatal(l)
			}
			n++
			gaps = append(gaps, time.Duration(r.Now()-last))
			last = r.Now()
		}
	}
	if n != 12 {
		t.Errorf("sent again %d times, want 12: %v", n, gaps)
	}
	for i := 2; i < len(gaps); i++ {
		if want := min(2*gaps[i-1], 64*time.Second); gaps[i] < want-time.Second || gaps[i] > want+time.Second {
			t.Errorf("gap %d is %v after %v", i, gaps[i], gaps[i-1])
		}
	}
	says(t, "read", s.Read(9, 0), timedOut)
	says(t, "state", state(r), "CLOSED")
}

// Three duplicates, and the first hole is filled at once (RFC 5681 §3.2); the
// first two let new segments out (RFC 3042).
func TestThreeDuplicates(t *testing.T) {
	r := far(t)
	s, e := r.Dial(bare)
	s.Put(1, 14*1460)
	if n := len(e.Lines()); n != 10 {
		t.Fatalf("%d segments go first", n)
	}
	e.Send(". 1 ack 1")
	e.Got(". 14601+1460 ack 1")
	e.Send(". 1 ack 1")
	e.Got(". 16061+1460 ack 1")
	r.Counts("tcp", "recoveries", func() { e.Send(". 1 ack 1") })
	e.Got(". 1+1460 ack 1")
	// RFC 6582: what stops short of the end of it is the next hole.
	e.Send(". 1 ack 2921")
	if got := e.Lines(); len(got) == 0 || got[0] != ". 2921+1460 ack 1" {
		t.Errorf("after a partial ACK: %v", got)
	}
	e.Send(". 1 ack 17521")
	e.Lines()
	i, _ := r.TCP.InfoOf(s.ID)
	if i.Phase != "open" || i.Cwnd > 10*1460 {
		t.Errorf("afterwards: %s, window %d", i.Phase, i.Cwnd)
	}
}

// With SACK the holes, and nothing but the holes, are filled (RFC 6675, RFC
// 8985).
func TestSACKFillsTheHoles(t *testing.T) {
	r := far(t)
	s, e := r.Dial(bare + " sackOK")
	s.Put(1, 10*1460)
	e.Lines()
	r.Pass(20 * time.Millisecond)
	// the first and the fourth are lost
	e.Send(". 1 ack 1 <sack 1461-2921>")
	e.Send(". 1 ack 1 <sack 1461-4381>")
	e.Got()
	e.Send(". 1 ack 1 <sack 5841-7301 1461-4381>")
	r.Pass(6 * time.Millisecond) // RACK's reordering window
	got := e.Lines()
	if len(got) == 0 || got[0] != ". 1+1460 ack 1" {
		t.Fatalf("first: %v", got)
	}
	e.Send(". 1 ack 1 <sack 5841-14601 1461-4381>")
	r.Pass(6 * time.Millisecond)
	got = append(got, e.Lines()...)
	if len(got) != 2 || got[1] != ". 4381+1460 ack 1" {
		t.Fatalf("of two holes were filled %v", got)
	}
	e.Send(". 1 ack 4381 <sack 5841-14601>", ". 1 ack 14601")
	e.Got()
	i, _ := r.TCP.InfoOf(s.ID)
	if i.Phase != "open" || i.SSThresh > 10*1460 || i.InFlight != 0 {
		t.Errorf("afterwards: %s, threshold %d, %d in flight", i.Phase, i.SSThresh, i.InFlight)
	}
}

// The tail has nothing behind it that could be acknowledged: after two round
// trips it is probed for (RFC 8985 §7).
func TestTailLossProbe(t *testing.T) {
	r := far(t)
	s, e := r.Dial(bare + " sackOK")
	s.Put(1, 3*1460)
	e.Lines()
	r.Pass(45 * time.Millisecond)
	e.Got("P. 2921+1460 ack 1")
	r.Pass(20 * time.Millisecond)
	e.Send(". 1 ack 1 <sack 2921-4381>")
	r.Pass(7 * time.Millisecond)
	if got := e.Lines(); len(got) == 0 || got[0] != ". 1+1460 ack 1" {
		t.Errorf("after the probe's answer: %v", got)
	}
	r.Sysctl("net.inet.tcp.tlp", "0")
}

// On a long and steady path a timeout is shorter than two round trips: the probe
// is sent in its stead, and the loss is one of one segment (RFC 8985 §7.2).
func TestTailLossProbeInsteadOfATimeout(t *testing.T) {
	r := New(t)
	r.Delay = 300 * time.Millisecond
	s, e := r.Dial(bare + " sackOK")
	at := 1
	for range 12 {
		s.Put(at, 10)
		e.Got("P. " + seqs(at, 10) + " ack 1")
		at += 10
		r.Pass(300 * time.Millisecond)
		e.Send(fmt.Sprintf(". 1 ack %d", at))
	}
	s.Put(at, 3*1460)
	e.Lines()
	r.Pass(520 * time.Millisecond)
	e.Got("P. " + seqs(at+2*1460, 1460) + " ack 1")
	r.Pass(20 * time.Millisecond)
	e.Send(fmt.Sprintf(". 1 ack %d", at+3*1460)) // it was the one that had been lost
	if i, _ := r.TCP.InfoOf(s.ID); i.Phase != "open" || i.Cwnd < 5*1460 {
		t.Errorf("afterwards: %s, window %d", i.Phase, i.Cwnd)
	}
}

// A timeout that was needless, since the original comes through after all, is
// undone: by F-RTO (RFC 5682), by Eifel (RFC 3522).
func TestNeedlessTimeout(t *testing.T) {
	for _, opts := range []string{bare, bare + " sackOK", bare + " ts", bare + " sackOK ts"} {
		t.Run(opts, func(t *testing.T) {
			r := far(t)
			r.Sysctl("net.inet.tcp.tlp", "0")
			s, e := r.Dial(opts)
			mss := 1460
			if strings.Contains(opts, "ts") {
				mss = 1448
			}
			s.Put(1, 20*mss)
			if n := len(e.Lines()); n != 10 {
				t.Fatal(n)
			}
			ecr := e.Echo
			was, _ := r.TCP.InfoOf(s.ID)
			r.Pass(232 * time.Millisecond) // the originals come less than a round trip after the timeout
			e.Got(fmt.Sprintf(". 1+%d ack 1", mss))
			if strings.Contains(opts, "ts") {
				e.Echo = ecr // they answer the originals
			}
			e.Send(fmt.Sprintf(". 1 ack %d", 1+mss))
			e.Lines()
			if strings.Contains(opts, "ts") {
				e.Echo = ecr
			}
			e.Send(fmt.Sprintf(". 1 ack %d", 1+2*mss))
			for _, l := range e.Lines() {
				var at int
				if _, err := fmt.Sscanf(strings.TrimLeft(l, "P. "), "%d+", &at); err != nil || at < 1+10*mss {
					t.Errorf("sent again for nothing: %s", l)
				}
			}
			now, _ := r.TCP.InfoOf(s.ID)
			if now.Cwnd < was.Cwnd || now.Phase != "open" {
				t.Errorf("the window went from %d to %d, %s", was.Cwnd, now.Cwnd, now.Phase)
			}
			if n := Counter(r.Stack, "tcp", "needless timeouts"); n != 1 {
				t.Errorf("%d counted", n)
			}
		})
	}
}

// A real timeout: everything is sent again, from the first on, in slow start.
func TestRealTimeout(t *testing.T) {
	r := far(t)
	r.Sysctl("net.inet.tcp.tlp", "0")
	s, e := r.Dial(bare)
	s.Put(1, 5*1460)
	e.Lines()
	r.Pass(300 * time.Millisecond)
	e.Got(". 1+1460 ack 1")
	i, _ := r.TCP.InfoOf(s.ID)
	if i.Cwnd != 1460 || i.Phase != "loss" {
		t.Errorf("the window is %d, %s", i.Cwnd, i.Phase)
	}
	e.Send(". 1 ack 1461")
	e.Got(". 1461+1460 ack 1", ". 2921+1460 ack 1")
	e.Send(". 1 ack 4381")
	e.Got(". 4381+1460 ack 1", "P. 5841+1460 ack 1")
	e.Send(". 1 ack 7301")
	if i, _ = r.TCP.InfoOf(s.ID); i.Phase != "open" || i.InFlight != 0 {
		t.Errorf("%s, %d in flight", i.Phase, i.InFlight)
	}
}

// The initial window (RFC 6928), and its growth by what is acknowledged.
func TestSlowStart(t *testing.T) {
	r := far(t)
	r.Sysctl("net.inet.tcp.hystart", "0")
	s, e := r.Dial(bare)
	s.Flag(socket.SOSndBuf, 1<<20)
	s.Put(1, 200*1460)
	if n := len(e.Lines()); n != 10 {
		t.Errorf("%d segments at first, want 10", n)
	}
	r.Pass(20 * time.Millisecond)
	una := 1
	for una < 14600 {
		una += 2920
		e.Send(fmt.Sprint(". 1 ack ", una))
	}
	if n := len(e.Lines()); n != 20 {
		t.Errorf("%d segments then, want 20", n)
	}
}

// An acknowledgement of what was never sent opens nothing.
func TestAckOfUnsentData(t *testing.T) {
	r := far(t)
	s, e := r.Dial(bare)
	s.Put(1, 10)
	e.Got("P. 1+10 ack 1")
	r.Counts("tcp", "ack of unsent data", func() { e.Send(". 1 ack 12") })
	e.Got(". 11 ack 1")
	i, _ := r.TCP.InfoOf(s.ID)
	if i.SendQ != 10 {
		t.Errorf("%d octets wait", i.SendQ)
	}
}

// ecn has a connection with ECN and SACK, and ten segments in flight, where
// parts of recovery are off.
func ecn(t *testing.T, off ...string) (*Rig, *Socket, *End) {
	r := far(t)
	for _, node := range off {
		r.Sysctl("net.inet.tcp."+node, "0")
	}
	s := r.Stream("10.0.0.1:5000")
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	_ = s.Connect("10.0.0.2:80")
	e.Lines()
	r.Pass(r.Delay)
	e.Send("SE. 0 <mss 1460 sackOK>")
	s.Put(1, 30*1460)
	e.Lines()
	r.Pass(r.Delay)
	return r, s, e
}

// Whoever has slowed down for a loss says so too, with new data and not with
// what is sent again (RFC 3168 §6.1.2, §6.1.5).
func TestCWRGoesWithNewData(t *testing.T) {
	r, _, e := ecn(t)
	e.Send(". 1 ack 1 <sack 1461-5841>")
	for _, f := range r.Sent() {
		e.Take(f)
		h := packet.IPv4(f[14:])
		again := packet.TCP(h.Payload()).Seq()-e.IRS() < 14601
		if again && (h.TOS() != 0 || packet.TCP(h.Payload()).Flags()&packet.TCPCwr != 0) {
			t.Error("what is sent again says that it may be marked, or CWR")
		}
	}
	r.Pass(6 * time.Millisecond)
	if got := e.Lines(); len(got) > 0 && got[0] != ". 1+1460 ack 1" {
		t.Errorf("sent again: %v", got)
	}
	e.Send(". 1 ack 14601")
	got := e.Lines()
	if len(got) < 2 || got[0] != "W. 14601+1460 ack 1" || got[1] != ". 16061+1460 ack 1" {
		t.Errorf("new data: %v", got)
	}
}

// A SYN and ACK that is sent again grants what the first one did.
func TestSynAckAgainGrantsECN(t *testing.T) {
	r := New(t)
	r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("SEW 0 <mss 1460>")
	e.Got("SE. 0 ack 1 <mss 1460>")
	r.Pass(1100 * time.Millisecond)
	e.Got("SE. 0 ack 1 <mss 1460>")
}

// A receiver that acknowledges octet by octet, or says the same over and over,
// gets no more than an honest one (Savage, RFC 3465 and RFC 5681 §3.2).
func TestGreedyReceivers(t *testing.T) {
	t.Run("division", func(t *testing.T) {
		r := far(t)
		s, e := r.Dial(bare)
		s.Put(1, 40*1460)
		e.Lines()
		r.Pass(r.Delay)
		for at := 2; at <= 1461; at++ {
			e.Send(fmt.Sprint(". 1 ack ", at))
		}
		if i, _ := r.TCP.InfoOf(s.ID); i.Cwnd > 11*1460 {
			t.Errorf("the window is %d for one segment", i.Cwnd)
		}
	})
	t.Run("duplicates", func(t *testing.T) {
		r := far(t)
		s, e := r.Dial(bare)
		s.Put(1, 44*1460)
		e.Lines()
		r.Pass(r.Delay)
		for range 1000 {
			e.Send(". 1 ack 1")
		}
		if n := len(e.Lines()); n > 12 {
			t.Errorf("%d segments for ten in flight", n)
		}
	})
	t.Run("optimism", func(t *testing.T) {
		r := far(t)
		s, e := r.Dial(bare)
		s.Put(1, 44*1460)
		e.Lines()
		for at := 14602; at < 40*1460; at += 1460 {
			e.Send(fmt.Sprint(". 1 ack ", at))
		}
		i, _ := r.TCP.InfoOf(s.ID)
		if i.SndUna != i.ISS+1 {
			t.Error("it believed in what was not sent")
		}
	})
}
