package tcp_test

import (
	"testing"

	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

// An urgent octet behind a hole comes out of line when the hole fills, wherever
// in the range it is, and a read stops at its mark.
func TestUrgentOctetOutOfOrder(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " sackOK")
	e.Send(`P.U 3 urg 2 "cd!"`, `P. 6 "f"`)
	e.Lines()
	says(t, "readiness", events(s), "W")
	says(t, "oob too early", s.Read(9, socket.MsgOOB), again)
	e.Send(`P. 1 "ab"`)
	e.Got(". 1 ack 7")
	says(t, "readiness", events(s), "RWU")
	says(t, "oob", s.Read(9, socket.MsgOOB), "d")
	says(t, "oob again", s.Read(9, socket.MsgOOB), "invalid argument")
	says(t, "up to the mark", s.Read(9, 0), "abc")
	says(t, "behind it", s.Read(9, 0), "!f")
	says(t, "then", s.Read(9, 0), again)
}

// The pointer may come before or behind the octet that it points to, and in a
// segment of its own.
func TestUrgentOctetBeforeItsPointer(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " sackOK")
	e.Send(`P. 4 "d!"`)
	e.Lines()
	e.Send(`.U 1 urg 4`)
	says(t, "oob too early", s.Read(9, socket.MsgOOB), again)
	e.Send(`P. 1 "abc"`)
	says(t, "oob", s.Read(9, socket.MsgOOB), "d")
	says(t, "up to the mark", s.Read(9, 0), "abc")
	says(t, "behind it", s.Read(9, 0), "!")
}

// SO_OOBINLINE keeps it in the stream, out of order too.
func TestUrgentOctetOutOfOrderInline(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Flag(socket.SOOOBInline, 1)
	e.Send(`P.U 3 urg 2 "cd!"`)
	e.Send(`P. 1 "ab"`)
	says(t, "oob", s.Read(9, socket.MsgOOB), "invalid argument")
	says(t, "up to the mark", s.Read(9, 0), "abc")
	says(t, "from the mark", s.Read(9, 0), "d!")
}

// A segment that is nothing but an urgent octet fills a hole as any other does,
// and the peer's end behind it is seen.
func TestUrgentOctetFillsAHole(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare + " sackOK")
	e.Send(`FP. 2 "bcd"`)
	e.Got(". 1 ack 1 <sack 2-6>")
	e.Send(`P.U 1 urg 1 "a"`)
	e.Got(". 1 ack 6")
	says(t, "oob", s.Read(9, socket.MsgOOB), "a")
	says(t, "behind the mark", s.Read(9, 0), "bcd")
	says(t, "then", s.Read(9, 0), "EOF")
	says(t, "state", state(r), "CLOSE_WAIT")
}

// An urgent octet that has come already is not taken twice.
func TestUrgentOctetTwice(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(`P.U 1 urg 2 "ab"`, `P.U 1 urg 2 "abc"`, `P.U 2 urg 1 "bcd"`)
	says(t, "oob", s.Read(9, socket.MsgOOB), "b")
	says(t, "oob again", s.Read(9, socket.MsgOOB), "invalid argument")
	says(t, "up to the mark", s.Read(9, 0), "a")
	says(t, "behind it", s.Read(9, 0), "cd")
}

// Whoever reads no more is not told of urgent data that will never be there.
func TestUrgentOctetAfterShutdown(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	is(t, "shutdown", s.Shutdown(true, false), nil)
	e.Send(`P.U 1 urg 1 "a"`)
	e.Got(". 1 ack 2")
	says(t, "readiness", events(s), "RW")
	says(t, "oob", s.Read(9, socket.MsgOOB), "invalid argument")
}
