package tcp_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	. "ionet/stack/stacktest"
)

// TestAnyOrderOfSegments: pieces of a stream in any order, overlapping and
// repeated, its end among them, give the stream and its end; and the SACK
// blocks say what has come, the newest first, behind a report of what came
// twice (RFC 2018 §4, RFC 2883 §4).
func TestAnyOrderOfSegments(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := New(t)
		s, e := r.Dial(bare + " sackOK")
		size := rapid.IntRange(1, 6000).Draw(rt, "size")
		have := make([]bool, size+2) // of octets 1 to size, and the end
		next := 1
		end := size + 1
		step := func(at, n int, fin bool) {
			line := ". "
			if fin {
				line = "F. "
			}
			e.Send(line + seqs(at, n))
			dup, from, to := false, at, at+n
			if fin {
				to++
			}
			for k := from; k < to; k++ {
				dup = dup || k < next || have[k]
				have[k] = true
			}
			before := next
			for next <= end && have[next] {
				next++
			}
			got := e.Segments()
			if len(got) == 0 {
				r.Pass(50 * time.Millisecond)
				got = e.Segments()
			}
			if len(got) != 1 {
				rt.Fatalf("%d answers", len(got))
			}
			a := got[0]
			if a.Ack != uint32(next) {
				rt.Fatalf("acknowledged %d, want %d", a.Ack, next)
			}
			blocks := a.Opt.SACK[:a.Opt.NSACK]
			for i, x := range blocks {
				is := x.Start < x.End && x.End <= uint32(end+1)
				for k := x.Start; is && k < x.End; k++ {
					is = have[k]
				}
				if !is {
					rt.Fatalf("block %d of %v was not received", i, blocks)
				}
				// Whole ranges, but for a DSACK.
				whole := x.Start > uint32(next) && !have[x.Start-1] && (x.End == uint32(end+1) || !have[x.End])
				if !whole && !(i == 0 && dup) {
					rt.Fatalf("block %d of %v is no range; next %d", i, blocks, next)
				}
				if i == 0 && !dup && before == next && (x.Start > uint32(from) || x.End < uint32(to)) {
					rt.Fatalf("first of %v is not where %d to %d came", blocks, from, to)
				}
			}
			ranges := 0
			for k := next + 1; k <= end; k++ {
				if have[k] && !have[k-1] {
					ranges++
				}
			}
			if ranges > 0 && len(blocks) == 0 {
				rt.Fatalf("no blocks for %d ranges", ranges)
			}
		}
		for range rapid.IntRange(0, 30).Draw(rt, "pieces") {
			at := rapid.IntRange(1, size).Draw(rt, "at")
			n := min(rapid.IntRange(1, 1460).Draw(rt, "n"), size+1-at)
			fin := at+n == size+1 && rapid.Bool().Draw(rt, "fin")
			if next > end { // TIME_WAIT answers without SACK
				break
			}
			step(at, n, fin)
		}
		for next <= end {
			at := next
			n := min(1460, size+1-at)
			step(at, n, at+n == size+1)
		}
		if got := s.Read(10000, 0); got != string(Octets(1, size)) {
			rt.Fatalf("%d octets are not the %d that were sent", len(got), size)
		}
		if got := s.Read(1, 0); got != "EOF" {
			rt.Fatalf("then %q", got)
		}
		s.Close()
	})
}

// Other content for octets that have come already changes nothing: the first
// to come counts (RFC 9293 §3.10.7.4 leaves it open; attackers must not gain).
func TestOverlapWithOtherContent(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(`. 4 "DEF"`, `. 1 "xxxxxxxxx"`)
	e.Lines()
	says(t, "read", s.Read(99, 0), "xxxxxxxxx") // of which the last three are new
	e.Send(`. 5 "????"`, `. 10 "jk"`, `. 8 "!!!!"`)
	e.Lines()
	says(t, "read", s.Read(99, 0), "jk")
}

// Single octets behind a hole, each in a segment: what they cost is bounded.
func TestCrumbsBehindAHole(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " sackOK")
	for i := range 20000 {
		e.Send(". " + seqs(3+2*i, 1))
		r.Sent()
		if m := r.SocketMemory(); m > 400000 {
			t.Fatalf("%d octets are held after %d segments", m, i)
		}
	}
	e.Send(". 1+1")
	e.Lines()
	s.Has(1, 1)
	for at := 2; at < 40000; {
		e.Send(". " + seqs(at, 1460))
		got := s.Read(1<<20, 0)
		if len(got) < 1460 || got != string(Octets(at, len(got))) {
			t.Fatalf("at %d: %d octets that are not the stream's", at, len(got))
		}
		at += len(got)
	}
}

// A stream that crosses the end of sequence space, theirs and ours.
func TestSequenceWraps(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare) // the far end begins at 2^32 - 16
	e.Send(". 20+20", ". 10+15", "P. 1+9")
	e.Lines()
	s.Has(1, 39)
	i, _ := r.TCP.InfoOf(s.ID)
	// Our initial numbers go up by one in 4 µs (RFC 9293 §3.4.1).
	r = New(t)
	r.Pass(time.Duration(1<<32-int64(i.ISS))*4*time.Microsecond - 50*time.Millisecond)
	s, e = r.Dial(bare + " sackOK")
	if i, _ = r.TCP.InfoOf(s.ID); i.ISS < 1<<32-1<<15 {
		t.Fatalf("the initial number is %d", i.ISS)
	}
	for at := 1; at < 1<<16; at += 1 << 12 {
		s.Put(at, 1<<12)
		r.Pass(time.Second) // some of it twice
		e.Lines()
		e.Send(". 1")
	}
	for range 40 {
		r.Pass(time.Second)
		e.Lines()
		e.Send(". 1")
	}
	if i, _ = r.TCP.InfoOf(s.ID); i.SendQ != 0 || string(e.Seen) != string(Octets(1, 1<<16)) {
		t.Errorf("%d octets are left, %d came", i.SendQ, len(e.Seen))
	}
}

// RFC 2018 §4: the blocks that changed last come first, so that what a lost ACK
// said is said again.
func TestSACKBlocksThatChangedLast(t *testing.T) {
	r := New(t)
	_, e := r.Dial(bare + " sackOK")
	for _, at := range []int{2001, 4001, 6001, 8001} {
		e.Send(". " + seqs(at, 1000))
		e.Lines()
	}
	e.Send(". 3001+10")
	e.Got(". 1 ack 1 <sack 2001-3011 8001-9001 6001-7001>")
	e.Send(". 5001+10")
	e.Got(". 1 ack 1 <sack 4001-5011 2001-3011 8001-9001>")
	e.Send(". 3011+990") // joins the two
	e.Got(". 1 ack 1 <sack 2001-5011 8001-9001 6001-7001>")
	e.Send(". 1+2000")
	e.Got(". 1 ack 5011 <sack 8001-9001 6001-7001>")
}

// RFC 5681 §4.2: every segment out of order is worth an acknowledgement, though
// they come in one burst, and for a while what follows in order is not waited
// for.
func TestAcknowledgementsAfterALoss(t *testing.T) {
	r := New(t)
	_, e := r.Dial(bare + " sackOK")
	for i := range 16 { // a new connection's are behind us
		e.Send(". " + seqs(1+i, 1))
		e.Lines()
	}
	e.Send(". 17+1460")
	e.Got()
	e.Send(". 1477+1460")
	e.Got(". 1 ack 2937")
	e.Send(". 4397+1460", ". 7317+1460", ". 8777+1460")
	const dup = ". 1 ack 2937 <sack 7317-10237 4397-5857>"
	e.Got(dup, dup, dup)
	e.Send(". 2937+1460", ". 5857+1460")
	e.Got(". 1 ack 10237", ". 1 ack 10237")
	e.Send(". 10237+1460")
	e.Got(". 1 ack 11697")
}

// What is out of order and has no room goes from the top: a segment that would
// be the highest is dropped itself, a lower one is kept in a higher one's stead.
func TestTheHighestGoes(t *testing.T) {
	for name, size := range map[string]string{"for want of storage": "16384", "too many ranges": "1048576"} {
		t.Run(name, func(t *testing.T) {
			r := New(t)
			r.Sysctl("net.inet.tcp.recvspace", size)
			s, e := r.Dial(bare + " sackOK")
			full := func() uint64 { return Counter(r.Stack, "tcp", "full socket buffer") }
			pruned := func() uint64 { return Counter(r.Stack, "tcp", "pruned") }
			top := 101
			for ; full() == 0 && top < 8000; top += 2 {
				e.Send(". " + seqs(top, 1))
			}
			top -= 4 // the last one was too much
			if n := pruned(); n != 0 || full() != 1 {
				t.Fatalf("%d ranges were given up for higher ones, and %d segments dropped", n, full())
			}
			e.Lines()
			e.Send(". 51+1")
			top -= 2
			e.Got(fmt.Sprintf(". 1 ack 1 <sack 51-52 %d-%d %d-%d>", top, top+1, top-2, top-1))
			if n := pruned(); n != 1 || full() != 1 {
				t.Errorf("%d ranges made way, and %d segments were dropped", n, full())
			}
			e.Send(". 1+50", ". 52+49")
			top -= 2 * int(pruned()-1) // what is in order needs room too
			for at := 102; at < top; at += 2 {
				e.Send(". " + seqs(at, 1))
			}
			s.Has(1, top)
		})
	}
}

// A queue out of order that was emptied, or nothing was put into, is none: our
// segments have no room for blocks that never come.
func TestNoBlocksFromAnEmptyQueue(t *testing.T) {
	r := New(t)
	r.Sysctl("kern.mbuf.memory", "1048576")
	s, e := r.Dial(bare + " sackOK")
	e.Send("P. 1+600")
	e.Got(". 1 ack 601")
	for port := 7000; port < 7012; port++ { // sockets that hold their share of the buffers
		r.UDP(fmt.Sprint("10.0.0.1:", port))
		for range 100 {
			r.Send(UDP("10.0.0.2", "10.0.0.1", 9, uint16(port), string(Octets(1, 600))))
		}
	}
	r.Counts("tcp", "full socket buffer", func() { e.Send(". 1001+600") })
	e.Got(". 1 ack 601")
	s.Has(1, 600)
	r.Sent()
	s.Put(1, 1460)
	e.Got("P. 1+1460 ack 601")
}
