package tcp_test

import (
	"strings"
	"testing"
	"time"

	. "ionet/stack/stacktest"
)

// saysCWR is how many of the lines say CWR.
func saysCWR(lines []string) (n int) {
	for _, l := range lines {
		if flags, _, _ := strings.Cut(l, " "); strings.Contains(flags, "W") {
			n++
		}
	}
	return n
}

// A timeout slows us down like anything else: the first new data says so, what
// is sent again does not (RFC 3168 §6.1.2).
func TestCWRAfterATimeout(t *testing.T) {
	r, _, e := ecn(t, "tlp", "frto")
	r.Pass(300 * time.Millisecond)
	e.Got(". 1+1460 ack 1")
	e.Send(". 1 ack 14601")
	if got := e.Lines(); len(got) == 0 || got[0] != "W. 14601+1460 ack 1" || saysCWR(got[1:]) != 0 {
		t.Errorf("new data: %v", got)
	}
	e.Send(". 1 ack 16061")
	if got := e.Lines(); len(got) == 0 || saysCWR(got) != 0 {
		t.Errorf("then: %v", got)
	}
}

// One that was needless has not slowed us down, unless something had before.
func TestCWRAfterANeedlessTimeout(t *testing.T) {
	for _, c := range []struct{ before, after, first string }{
		{". 1 ack 1", ". 1 ack 2921", ". 14601+1460 ack 1"},
		{"E. 1 ack 1461", ". 1 ack 5841", "W. 14601+1460 ack 1"},
	} {
		t.Run(c.before, func(t *testing.T) {
			r, _, e := ecn(t, "tlp")
			e.Send(c.before)
			e.Got()
			var got []string
			for k := 0; k < 500 && len(got) == 0; k++ { // the originals come less than a round trip after the timeout
				r.Pass(time.Millisecond)
				got = e.Lines()
			}
			if len(got) != 1 || saysCWR(got) != 0 {
				t.Fatalf("after a timeout: %v", got)
			}
			r.Counts("tcp", "needless timeouts", func() { e.Send(c.after) })
			if got = e.Lines(); len(got) == 0 || got[0] != c.first || saysCWR(got[1:]) != 0 {
				t.Errorf("new data: %v", got)
			}
		})
	}
}

// So does a loss that a tail loss probe has repaired (RFC 8985 §7.4.2).
func TestCWRAfterATailLossProbe(t *testing.T) {
	r, s, e := ecn(t)
	e.Send(". 1 ack 14601")
	for _, ack := range []string{"29201", "43801"} {
		e.Lines()
		e.Send(". 1 ack " + ack)
	}
	e.Lines()
	s.Put(43801, 1460)
	e.Lines()
	r.Pass(300 * time.Millisecond)
	if n := Counter(r.Stack, "tcp", "tail probes"); n != 1 {
		t.Fatalf("%d tail loss probes", n)
	}
	e.Lines()
	e.Send(". 1 ack 45261")
	s.Put(45261, 2*1460)
	e.Got("W. 45261+1460 ack 1", "P. 46721+1460 ack 1")
}

// The peer echoes until it has seen CWR, so that all it says up to there is one
// event, whatever the reduction was for.
func TestEchoCountsOnceAWindow(t *testing.T) {
	reduced := func(r *Rig) uint64 { return Counter(r.Stack, "tcp", "ece received") }
	t.Run("echo", func(t *testing.T) {
		r, _, e := ecn(t)
		e.Send("E. 1 ack 1461", "E. 1 ack 14601")
		got := e.Lines()
		if len(got) < 2 || got[0] != "W. 14601+1460 ack 1" || saysCWR(got[1:]) != 0 || reduced(r) != 1 {
			t.Errorf("reduced %d times, then %v", reduced(r), got)
		}
		e.Send("E. 1 ack 17521") // it has seen CWR, and another mark
		e.Send(". 1 ack 20441")
		if got = e.Lines(); len(got) == 0 || saysCWR(got) != 1 || reduced(r) != 2 {
			t.Errorf("reduced %d times, then %v", reduced(r), got)
		}
	})
	t.Run("recovery", func(t *testing.T) {
		r, s, e := ecn(t)
		e.Send(". 1 ack 1 <sack 1461-5841>")
		r.Pass(6 * time.Millisecond)
		if got := e.Lines(); len(got) == 0 || got[0] != ". 1+1460 ack 1" || saysCWR(got) != 0 {
			t.Fatalf("sent again: %v", got)
		}
		was, _ := r.TCP.InfoOf(s.ID)
		e.Send("E. 1 ack 14601")
		if got := e.Lines(); len(got) == 0 || saysCWR(got[:1]) != 1 || saysCWR(got[1:]) != 0 {
			t.Errorf("new data: %v", got)
		}
		now, _ := r.TCP.InfoOf(s.ID)
		if reduced(r) != 0 || now.SSThresh != was.SSThresh {
			t.Errorf("reduced %d times more, the threshold went from %d to %d", reduced(r), was.SSThresh, now.SSThresh)
		}
	})
	t.Run("loss in a window that was reduced", func(t *testing.T) {
		r, s, e := ecn(t)
		e.Send("E. 1 ack 7301")
		if got := e.Lines(); len(got) == 0 || saysCWR(got[:1]) != 1 {
			t.Fatalf("new data: %v", got)
		}
		was, _ := r.TCP.InfoOf(s.ID)
		e.Send(". 1 ack 7301 <sack 8761-14601>")
		r.Pass(6 * time.Millisecond)
		got := e.Lines()
		now, _ := r.TCP.InfoOf(s.ID)
		if len(got) == 0 || got[0] != ". 7301+1460 ack 1" || saysCWR(got) != 0 || now.SSThresh != was.SSThresh {
			t.Errorf("the threshold went from %d to %d: %v", was.SSThresh, now.SSThresh, got)
		}
	})
}

// Three duplicates are a loss in a window that was reduced for an echo, too.
func TestThreeDuplicatesAfterAnEcho(t *testing.T) {
	r := far(t)
	s := r.Stream("10.0.0.1:5000")
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	_ = s.Connect("10.0.0.2:80")
	e.Lines()
	r.Pass(r.Delay)
	e.Send("SE. 0 <mss 1460>")
	s.Put(1, 30*1460)
	e.Lines()
	e.Send("E. 1 ack 1461", ". 1 ack 1461", ". 1 ack 1461", ". 1 ack 1461")
	if got := e.Lines(); len(got) == 0 || got[len(got)-1] != ". 1461+1460 ack 1" {
		t.Errorf("after three duplicates: %v", got)
	}
}
