package tcp_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

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

// The news goes through a window that is shut, and with each probe of it. The
// pointer counts from the segment's own number: segments that have one leave by
// themselves, as who cuts a super-packet does not correct it.
func TestSendUrgentBehindMuch(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	e.Send(". 1 ack 1 win 0")
	s.Put(1, 3000)
	e.Got()
	_, err := s.Write(string(Octets(3001, 1)), socket.MsgOOB)
	is(t, "send", err, nil)
	e.Got("U. 1 ack 1 urg 3001")
	r.Pass(6 * time.Second)
	e.Got("U. 0 ack 1 urg 3002")
	e.Send(". 1 ack 1 win 8000")
	e.Got("U. 1+1460 ack 1 urg 3001", "U. 1461+1460 ack 1 urg 1541", "PU. 2921+81 ack 1 urg 81")
}

// A send buffer that is full takes urgent data all the same, a little of it.
func TestSendUrgentIntoAFullBuffer(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Flag(socket.SOSndBuf, 3000)
	e.Send(". 1 ack 1 win 0")
	s.Put(1, 3000)
	_, err := s.Write("more", 0)
	is(t, "send", err, syscall.EWOULDBLOCK)
	_, err = s.Write(string(Octets(3001, 1000)), socket.MsgOOB)
	is(t, "send urgent", err, nil)
	e.Got("U. 1 ack 1 urg 4000")
	n, err := s.Write(string(Octets(4001, 1000)), socket.MsgOOB)
	is(t, "more than a little", err, nil)
	says(t, "taken", fmt.Sprint(n), "24")
	_, err = s.Write("!", socket.MsgOOB)
	is(t, "send urgent", err, syscall.EWOULDBLOCK)
	e.Send(". 1 ack 1 win 8000")
	e.Got("U. 1+1460 ack 1 urg 4000", "U. 1461+1460 ack 1 urg 2540", "PU. 2921+1104 ack 1 urg 1080")
}
