package tcp_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"

	. "ionet/stack/stacktest"
)

// RFC 5961 §3: a reset is believed where the next octet is; inside the window
// it is asked for again; outside it is nothing.
func TestResetInjection(t *testing.T) {
	for _, c := range []struct {
		line, want, state string
	}{
		{"R 1", "", "CLOSED"},
		{"R. 1 ack 1", "", "CLOSED"},
		{"R 2", ". 1 ack 1", "ESTABLISHED"},
		{"R 65535", ". 1 ack 1", "ESTABLISHED"},
		{"R 65536", "", "ESTABLISHED"},
		{"R 0", "", "ESTABLISHED"},
		{"R -70000", "", "ESTABLISHED"},
	} {
		t.Run(c.line, func(t *testing.T) {
			r := New(t)
			_, e := r.Dial(bare)
			e.Send(c.line)
			if c.want == "" {
				e.Got()
			} else {
				e.Got(c.want)
			}
			says(t, "state", state(r), c.state)
		})
	}
	t.Run("strict_rfc", func(t *testing.T) {
		r := New(t)
		r.Sysctl("net.inet.tcp.strict_rfc", "1")
		_, e := r.Dial(bare)
		e.Send("R 2000")
		e.Got()
		says(t, "state", state(r), "CLOSED")
	})
}

// RFC 5961 §4: a SYN in a connection is asked about, wherever it is.
func TestSynInjection(t *testing.T) {
	for _, line := range []string{"S 1", "S 2", "S. 1000 ack 1", "S 70000", "S 0", "S -70000"} {
		t.Run(line, func(t *testing.T) {
			r := New(t)
			_, e := r.Dial(bare)
			r.Counts("tcp", "challenge acks", func() { e.Send(line) })
			e.Got(". 1 ack 1")
			says(t, "state", state(r), "ESTABLISHED")
		})
	}
}

// RFC 5961 §5: data counts only with an ACK that could be the peer's.
func TestDataInjection(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"P. 1+5 ack 2", ". 1 ack 1"},        // of what was not sent
		{"P. 1+5 ack 100000", ". 1 ack 1"},   // the same
		{"P. 1+5 ack -70000", ". 1 ack 1"},   // older than any window
		{"P 1+5", ""},                        // none
		{"P. 70000+5 ack 1", ". 1 ack 1"},    // outside
		{"P. -70000+5 ack 1", ". 1 ack 1"},   // old
		{"P. -3+5 ack 1 <sack 5-9>", "took"}, // partly old
		{"P. 1+5 ack 0", "took"},
		{"P. 1+5 ack -60000", "took"},
	} {
		t.Run(c.line, func(t *testing.T) {
			r := New(t)
			s, e := r.Dial(bare)
			e.Send(c.line)
			switch c.want {
			case "took":
				if n := s.Queued(); n == 0 {
					t.Error("it was not taken")
				}
				e.Lines()
			case "":
				e.Got()
			default:
				e.Got(c.want)
				says(t, "read", s.Read(9, 0), again)
			}
		})
	}
}

// RFC 5961 §7: a stranger makes us send only so many challenges a second, and
// cannot tell by their number whether others were sent.
func TestChallengesAreLimited(t *testing.T) {
	r := New(t)
	_, e := r.Dial(bare)
	seen := map[int]bool{}
	for _, line := range []string{"R 5", "S 5", "S 100000", ". 1 ack 5", ". 90000"} {
		for range 300 {
			e.Send(line)
		}
		n := len(e.Lines())
		if seen[n] = true; n < 50 || n >= 150 {
			t.Errorf("%d answers for 300 of %q, want some 100", n, line)
		}
		r.Pass(time.Second)
	}
	if len(seen) < 3 {
		t.Errorf("the limits are %v", seen)
	}
	r.Sysctl("net.inet.tcp.ackppslimit", "-1")
	for range 300 {
		e.Send("R 5")
	}
	if n := len(e.Lines()); n != 300 {
		t.Errorf("%d answers without a limit", n)
	}
}

func TestResetsAreLimited(t *testing.T) {
	r := New(t)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	for range 300 {
		e.Send("S 0")
	}
	if n := len(e.Lines()); n != 100 {
		t.Errorf("%d resets for 300 SYNs, want 100", n)
	}
	r.Pass(time.Second)
	e.Send("S 0")
	e.Got("R. 0 ack 1")
}

// RFC 7323 §5: what is older than the last timestamp is an old duplicate.
func TestPAWS(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " ts")
	e.TSVal = 20000
	e.Send("P. 1+5")
	e.Got(". 1 ack 6")
	e.TSVal = 19999
	r.Counts("tcp", "old duplicate", func() { e.Send("P. 6+5") })
	e.Got(". 1 ack 6")
	e.Send("R 6") // resets have no timestamp that counts
	says(t, "state", state(r), "CLOSED")
	s.Has(1, 5)
	says(t, "read", s.Read(9, 0), reset)
}

// A call that began before another one, and sends after it, has the later time:
// to the peer a timestamp that goes back is that of an old duplicate.
func TestTimestampsOnlyGrow(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " ts")
	e.Segments()
	early := r.Env.Begin(r.Env.Now())
	r.Pass(5 * time.Millisecond)
	send := func(w *netif.Work) error {
		_, err := s.Socket.Send(w, &socket.Msg{Data: Octets(1, 1448)})
		return err
	}
	if err := errors.Join(r.Do(send), send(early)); err != nil {
		t.Fatal(err)
	}
	early.End()
	last, all := uint32(0), e.Segments()
	if len(all) != 2 {
		t.Errorf("%d segments, want 2", len(all))
	}
	for _, g := range all {
		if g.Opt.TSVal < last {
			t.Errorf("a timestamp of %d after one of %d", g.Opt.TSVal, last)
		}
		last = g.Opt.TSVal
	}
}

// The timestamp of a segment that is not the next one is not echoed (RFC 7323
// §4.3), and after 24 days it means nothing (§5.5).
func TestTimestampsThatCount(t *testing.T) {
	r := New(t)
	_, e := r.Dial(bare + " ts")
	e.TSVal = 20000
	e.Send("P. 1+5")
	echo := func(want uint32) {
		t.Helper()
		s := e.Segments()
		if len(s) == 0 || s[len(s)-1].Opt.TSEcr != want {
			t.Fatalf("of %d segments the last echoes not %d: %v", len(s), want, s)
		}
	}
	echo(20000)
	e.TSVal = 20010
	e.Send("P. 100+5") // behind a hole
	echo(20000)
	e.TSVal = 20020
	e.Send("P. 6+5")
	echo(20020)
	r.Pass(25 * 24 * time.Hour)
	r.Meet("10.0.0.2")
	e.TSVal = 100
	e.Send("P. 11+5")
	r.Pass(time.Second)
	echo(100)
}

// What a flood of SYNs costs is bounded, and a host that means it gets in.
func TestSynFlood(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	r.Meet("10.0.0.9")
	frame := r.End("10.0.0.9:1", "10.0.0.1:80").Frame("S 0 <mss 1460 wscale 7 sackOK>")
	for i := range 100000 {
		at := frame[14+20:]
		at[0], at[1] = byte(i>>8), byte(i)
		at[7] = byte(i >> 16)
		resum(frame)
		r.Send(frame)
		r.Sent()
	}
	if n := r.Env.Wheel.Armed(); n > 10255+100 {
		t.Errorf("%d timers", n)
	}
	if n := r.Env.Pool.Bufs(); n != 0 {
		t.Errorf("%d buffers are held", n)
	}
	if n := Counter(r.Stack, "tcp", "cookies sent"); n < 75000 {
		t.Errorf("%d cookies", n)
	}
	e := r.Knock(bare)
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e.Send("P. 1+5")
	s.Has(1, 5)
	r.Sent()
	r.Pass(70 * time.Second)
	r.Sent()
	if n := r.Env.Wheel.Armed(); n > 20 {
		t.Errorf("%d timers are left", n)
	}
}

// resum makes the checksum of a segment in a frame right.
func resum(frame []byte) {
	frame[14+20+16], frame[14+20+17] = 0, 0
	copy(frame[14+20+16:], sumOf(frame))
}

// SACK blocks that lie: of what was not sent, below what is acknowledged, upside
// down, overlapping, all of it. The stream is sent whole nevertheless.
func TestSACKThatLies(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " sackOK")
	s.Put(1, 10*1460)
	e.Lines()
	for _, b := range []string{"20000-30000", "-5-1", "1461-1461", "2921-1461", "1-14601", "1461-2921 1461-2921 1461-5841", "5000-5001 5003-5004 5006-5007",
		"14601-14602", "-2000000000-14601", "1461-14601"} {
		e.Send(". 1 ack 1 <sack " + b + ">")
		r.Pass(time.Millisecond)
	}
	e.Lines() // it has thrown all of it away again
	got := map[uint32]bool{}
	for range 200 {
		r.Pass(time.Second)
		una := uint32(1)
		for _, x := range e.Segments() {
			for k := range x.Data {
				got[x.Seq+uint32(k)] = true
			}
		}
		for got[una] {
			una++
		}
		if una == 14601 {
			e.Send(". 1 ack 14601")
			return
		}
		e.Send(fmt.Sprint(". 1 ack ", una))
		if state(r) == "CLOSED" {
			break
		}
	}
	t.Errorf("the stream never came, state %s", state(r))
}

func sumOf(frame []byte) []byte {
	ip := packet.IPv4(frame[14:])
	p := ip.Payload()
	s := ^packet.Fold(packet.Sum(packet.PseudoSum(ip.Src(), ip.Dst(), packet.ProtoTCP, len(p)), p))
	return []byte{byte(s >> 8), byte(s)}
}
