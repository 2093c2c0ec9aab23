package stackd

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

func TestConnectIsAnsweredWhenItStands(t *testing.T) {
	d := daemonFor(t)
	r, p := call(t, d), newPipe(d)
	id := r.owns(p)
	tag := r.send(protocol.TypeConnect, id, to("10.0.0.2:80")...)
	p.is(t, "it is connecting", func() bool { return p.state == "connecting" })
	r.silent()
	r.ask(protocol.TypeConnect, id, to("10.0.0.2:80")...).is(t, unix.EALREADY)
	// Cancelled, it goes on; the next request waits for it.
	r.send(protocol.TypeCancel, 0, protocol.AppendU32(nil, tag)...)
	r.hears().is(t, unix.EINTR)
	r.hears().ok(t)
	p.do(func() { p.state, p.in = "connected", []byte("early") })
	a := r.ask(protocol.TypeConnect, id, to("10.0.0.2:80")...)
	c := a.file(t)
	peer, local, err := protocol.ParseConnected(a.p)
	if err != nil || peer.String() != inet("10.0.0.2:80").String() || local.String() != inet("10.0.0.1:1024").String() {
		t.Errorf("connected %v with %v, %v", local, peer, err)
	}
	wantData(t, c, "early")
	r.ask(protocol.TypeConnect, id, to("10.0.0.2:80")...).is(t, unix.EISCONN)
	r.ask(protocol.TypeSend, id, protocol.AppendMsg(nil, protocol.Msg{Data: []byte("x")})...).is(t, unix.EOPNOTSUPP)
	r.ask(protocol.TypeRecv, id, protocol.AppendU32(nil, 0, 10)...).is(t, unix.EOPNOTSUPP)
	r.ask(protocol.TypeClose, id).ok(t)
	wantEnd(t, c)
	r.rests()
}

func TestConnectThatFails(t *testing.T) {
	d := daemonFor(t)
	r, p := call(t, d), newPipe(d)
	id := r.owns(p)
	tag := r.send(protocol.TypeConnect, id, to("10.0.0.2:80")...)
	p.is(t, "it is connecting", func() bool { return p.state == "connecting" })
	p.fails(unix.ECONNREFUSED)
	a := r.hears()
	a.is(t, unix.ECONNREFUSED)
	if a.Tag != tag {
		t.Errorf("tag %d, want %d", a.Tag, tag)
	}
	p.do(func() { p.connects = unix.ENETUNREACH })
	r.ask(protocol.TypeConnect, id, to("10.0.0.2:80")...).is(t, unix.ENETUNREACH)
	r.ask(protocol.TypeClose, id).ok(t)
	p.is(t, "it is closed", func() bool { return p.closed })
	r.rests()
}

func TestAccept(t *testing.T) {
	d := daemonFor(t)
	r, p := call(t, d), newPipe(d)
	id := r.owns(p)
	r.ask(protocol.TypeAccept, id).is(t, unix.EINVAL)
	r.ask(protocol.TypeListen, id, protocol.AppendU32(nil, 5)...).ok(t)
	r.send(protocol.TypeAccept, id)
	r.silent()
	child := newPipe(d)
	child.state, child.in = "connected", []byte("hello")
	p.do(func() { p.backlog = append(p.backlog, child.so) })
	a := r.hears()
	c := a.file(t)
	acc, err := protocol.ParseAccepted(a.p)
	if err != nil || acc.ID == id || acc.Peer.String() != inet("10.0.0.2:80").String() {
		t.Errorf("accepted %+v, %v", acc, err)
	}
	wantData(t, c, "hello")
	if got := r.ask(protocol.TypeGetpeername, acc.ID).ok(t); !bytes.Equal(got.p, to("10.0.0.2:80")) {
		t.Errorf("peer % x", got.p)
	}
	// No descriptor: who asks is told so, and the connection waits on.
	room := d.srv.room
	setRoom := func(n int) { d.srv.mu.Lock(); d.srv.room = n; d.srv.mu.Unlock() }
	setRoom(1)
	refused := func() uint64 { return d.eng.Engine().Env.MIB.Count(cntNoDescriptor) }
	before := refused()
	second := newPipe(d)
	second.state = "connected"
	r.send(protocol.TypeAccept, id)
	r.silent()
	p.do(func() { p.backlog = append(p.backlog, second.so) })
	r.hears().is(t, unix.ENFILE)
	r.ask(protocol.TypeAccept, id).is(t, unix.ENFILE)
	if n := refused(); n != before+2 {
		t.Errorf("%d refusals counted, want 2", n-before)
	}
	setRoom(room)
	c2 := r.ask(protocol.TypeAccept, id).file(t)
	// A client that goes takes its sockets with it.
	r.send(protocol.TypeAccept, id)
	r.silent()
	r.conn.Close()
	wantEnd(t, c)
	wantEnd(t, c2)
	r.rests()
	for i, p := range []*pipe{p, child, second} {
		p.is(t, fmt.Sprintf("socket %d is closed", i), func() bool { return p.closed })
	}
}

func TestStreamEnds(t *testing.T) {
	d := daemonFor(t)
	t.Run("the peer's first", func(t *testing.T) {
		r, p, id, c := connectedStream(t, d)
		p.do(func() { p.in, p.end = []byte("bye"), true })
		wantData(t, c, "bye")
		wantEnd(t, c)
		if _, err := c.Write([]byte("late")); err != nil { // half closed: the other half goes on
			t.Fatal(err)
		}
		p.is(t, "it is sent", func() bool { return string(p.out) == "late" })
		r.ask(protocol.TypeGetsockname, id).ok(t)
		c.CloseWrite()
		p.is(t, "it is closed", func() bool { return p.closed && !p.aborted })
		r.ask(protocol.TypeGetsockname, id).is(t, unix.EBADF)
		r.rests()
	})
	t.Run("the client's first", func(t *testing.T) {
		r, p, _, c := connectedStream(t, d)
		c.Write([]byte("request"))
		c.CloseWrite()
		p.is(t, "our end is sent", func() bool { return p.fin && string(p.out) == "request" })
		p.do(func() { p.in = []byte("answer") })
		wantData(t, c, "answer")
		p.do(func() { p.end = true })
		wantEnd(t, c)
		p.is(t, "it is closed", func() bool { return p.closed && !p.aborted })
		r.rests()
	})
	t.Run("the descriptor is closed", func(t *testing.T) {
		r, p, id, c := connectedStream(t, d)
		c.Write([]byte("last words"))
		c.Close()
		p.is(t, "it is closed", func() bool { return p.closed && !p.aborted && string(p.out) == "last words" })
		r.rests()
		r.ask(protocol.TypeClose, id).is(t, unix.EBADF)
	})
	t.Run("the descriptor is closed, data unread", func(t *testing.T) {
		r, p, _, c := connectedStream(t, d)
		p.do(func() { p.in = []byte("unread") })
		p.is(t, "it is passed on", func() bool { return len(p.in) == 0 })
		wantData(t, c, "un")
		c.Close()
		p.is(t, "it is reset", func() bool { return p.aborted && p.closed })
		r.rests()
	})
	t.Run("after the half", func(t *testing.T) {
		r, p, _, c := connectedStream(t, d)
		c.CloseWrite()
		p.is(t, "our end is sent", func() bool { return p.fin })
		c.Close()
		p.is(t, "it is closed", func() bool { return p.closed })
		r.rests()
	})
	t.Run("SHUT_RD discards", func(t *testing.T) {
		r, p, _, c := connectedStream(t, d)
		c.CloseRead()
		p.do(func() { p.in = make([]byte, 1<<20) })
		p.is(t, "it is discarded", func() bool { return len(p.in) == 0 })
		c.Write([]byte("still"))
		p.is(t, "sending goes on", func() bool { return string(p.out) == "still" && !p.aborted && !p.closed })
		c.Close()
		r.rests()
	})
	t.Run("shutdown by frames", func(t *testing.T) {
		r, p, id, c := connectedStream(t, d)
		c.Write([]byte("before"))
		r.ask(protocol.TypeShutdown, id, protocol.AppendU32(nil, 1)...).ok(t)
		p.is(t, "our end is sent", func() bool { return p.fin && string(p.out) == "before" })
		if _, err := c.Write([]byte("after")); !errors.Is(err, unix.EPIPE) {
			t.Errorf("write after the shutdown: %v", err)
		}
		r.ask(protocol.TypeShutdown, id, protocol.AppendU32(nil, 0)...).ok(t)
		wantEnd(t, c)
		p.is(t, "it is closed", func() bool { return p.closed })
		r.rests()
	})
}

func TestStreamFails(t *testing.T) {
	d := daemonFor(t)
	r, p, id, c := connectedStream(t, d)
	p.do(func() { p.in = []byte("before the reset") })
	p.fails(unix.ECONNRESET)
	wantData(t, c, "before the reset")
	wantEnd(t, c)
	if _, err := c.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("write: %v, want EPIPE", err)
	}
	if a := r.soError(id).ok(t); !bytes.Equal(a.p, protocol.AppendBytes(nil, protocol.AppendU32(nil, uint32(unix.ECONNRESET)))) {
		t.Errorf("SO_ERROR % x", a.p)
	}
	r.soError(id).is(t, unix.EBADF)
	r.rests()

	// Who has closed the descriptor leaves nothing to be asked for.
	r, p, _, c = connectedStream(t, d)
	c.Close()
	p.fails(unix.ECONNRESET)
	r.rests()

	// A reset after the peer's end is told too: both directions of the
	// descriptor are ended then, and by the stack.
	r, p, id, c = connectedStream(t, d)
	p.do(func() { p.end = true })
	wantEnd(t, c)
	p.fails(unix.ECONNRESET)
	if _, err := c.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("write: %v, want EPIPE", err)
	}
	if a := r.soError(id).ok(t); a.p[4] != byte(unix.ECONNRESET) {
		t.Errorf("SO_ERROR % x", a.p)
	}
	r.rests()

	// What only the descriptor's end tells is bounded by the user's sockets.
	r, p, id, c = connectedStream(t, d)
	p.fails(unix.ETIMEDOUT)
	wantEnd(t, c)
	r.ask(protocol.TypeGetsockname, id).is(t, unix.ENOTCONN)
	if !r.c.unbury() {
		t.Error("nothing to make room with")
	}
	r.soError(id).is(t, unix.EBADF)
	r.rests()
}

// TestSendFails: the error comes from a send, and what was received is still
// to be read.
func TestSendFails(t *testing.T) {
	d := daemonFor(t)
	r, p, id, c := connectedStream(t, d)
	p.mu.Lock()
	p.sendErr, p.in = unix.ENOBUFS, []byte("unread")
	p.mu.Unlock()
	c.Write([]byte("later"))
	p.do(func() {})
	p.do(func() { p.sendErr = nil }) // buffers again, and nobody says so
	p.is(t, "it is sent after all", func() bool { return string(p.out) == "later" })
	p.mu.Lock()
	p.sendErr, p.in, p.state = unix.EHOSTUNREACH, []byte(" too"), "dead"
	p.mu.Unlock()
	c.Write([]byte("x"))
	wantData(t, c, "unread too")
	wantEnd(t, c)
	if a := r.soError(id).ok(t); a.p[4] != byte(unix.EHOSTUNREACH) {
		t.Errorf("SO_ERROR % x", a.p)
	}
	r.rests()
}

func TestBackpressure(t *testing.T) {
	d := daemonFor(t)
	r, p, _, c := connectedStream(t, d)
	p.do(func() { p.size, p.queued = 1000, 1000 }) // a full send buffer
	sent := 0
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	pattern := make([]byte, 1<<20)
	for i := range pattern {
		pattern[i] = byte(i * 7 >> 3)
	}
	for sent < len(pattern) {
		n, err := c.Write(pattern[sent:min(sent+50000, len(pattern))])
		if sent += n; err != nil {
			break
		}
	}
	p.is(t, "nothing is sent", func() bool { return len(p.out) == 0 })
	if sent == len(pattern) || sent > 3*pairBuffer {
		t.Fatalf("%d octets written before a socket that takes none", sent)
	}
	for {
		done := false
		p.do(func() { p.queued, done = 0, len(p.out) >= sent })
		if done {
			break
		}
	}
	p.is(t, "what was written is sent", func() bool { return bytes.Equal(p.out, pattern[:sent]) })
	// The other way: what the client does not read stays in the stack.
	all := bytes.Repeat(pattern, 8)
	p.do(func() { p.in = all })
	p.mu.Lock()
	left, recvs := len(p.in), p.recvs
	p.mu.Unlock()
	if taken := len(all) - left; taken > 3*pairBuffer+chunk || taken == 0 {
		t.Errorf("%d octets taken for a client that does not read", taken)
	}
	p.do(func() {})
	p.do(func() {
		if p.recvs != recvs {
			t.Error("a full descriptor does not stop us from asking")
		}
	})
	c.SetDeadline(time.Now().Add(20 * time.Second))
	wantData(t, c, string(all))
	c.Close()
	r.rests()
}

func TestLinger(t *testing.T) {
	d := daemonFor(t)
	r, p, id, c := connectedStream(t, d)
	r.linger(id, 100)
	c.Write([]byte("words"))
	r.send(protocol.TypeClose, id)
	p.is(t, "it is closed", func() bool { return p.closed && string(p.out) == "words" })
	r.silent()
	p.do(func() { p.queued = 0 }) // acknowledged
	r.hears().ok(t)
	r.rests()

	r, p, id, _ = connectedStream(t, d)
	r.linger(id, 0)
	p.do(func() { p.queued = 1000 })
	r.ask(protocol.TypeClose, id).ok(t)
	p.is(t, "it is reset", func() bool { return p.aborted && p.closed })
	r.rests()

	r, p, id, c = connectedStream(t, d)
	r.linger(id, 1)
	p.do(func() { p.size, p.queued = 1000, 1000 })
	c.Write([]byte("words"))
	r.ask(protocol.TypeClose, id).is(t, unix.EWOULDBLOCK)
	p.do(func() { p.queued = 0 }) // it goes on in the background
	p.is(t, "the rest is sent", func() bool { return p.closed && string(p.out) == "words" })
	r.rests()
}

func TestUrgent(t *testing.T) {
	d := daemonFor(t)
	r, p, id, c := connectedStream(t, d)
	oob := protocol.AppendMsg(nil, protocol.Msg{Flags: protocol.MsgOOB, Data: []byte("u")})
	c.Write([]byte("before"))
	r.ask(protocol.TypeSend, id, oob...).ok(t)
	c.Write([]byte("after"))
	p.is(t, "all is sent", func() bool { return string(p.out) == "before!after" && string(p.sent) == "u" })
	p.do(func() { p.size, p.queued = 1000, 1000 })
	c.Write([]byte("full"))
	r.send(protocol.TypeSend, id, oob...)
	r.silent()
	p.do(func() { p.queued = 0 })
	r.hears().ok(t)
	p.is(t, "all is sent", func() bool { return string(p.out) == "before!afterfull!" })
	recv := func(flags uint32) []byte { return protocol.AppendU32(nil, protocol.MsgOOB|flags, 1) }
	r.ask(protocol.TypeRecv, id, recv(protocol.MsgDontWait)...).is(t, unix.EINVAL)
	r.send(protocol.TypeRecv, id, recv(0)...)
	r.silent()
	p.do(func() { p.urgent = []byte("U") })
	a := r.hears().ok(t)
	if m, err := protocol.ParseMsg(a.p); err != nil || string(m.Data) != "U" || m.Flags != protocol.MsgOOB {
		t.Errorf("urgent %+v, %v", m, err)
	}
	c.Close()
	r.rests()
}

// TestWaitAll: MSG_WAITALL means nothing to a request, since what one answers
// comes alone; of a stream's octets it is the descriptor's.
func TestWaitAll(t *testing.T) {
	d := daemonFor(t)
	s := open(t, d)
	a, err := s.Socket(protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Bind(inet("127.0.0.1:7777")); err != nil {
		t.Fatal(err)
	}
	_, err = a.Recv(100, protocol.MsgWaitAll|protocol.MsgDontWait)
	want(t, err, unix.EAGAIN)
	for _, word := range []string{"one", "", "two"} {
		if _, err := a.Send(protocol.Msg{Addr: inet("127.0.0.1:7777"), Data: []byte(word)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, word := range []string{"one", "", "two"} {
		if m, err := a.Recv(100, protocol.MsgWaitAll); string(m.Data) != word || m.Flags != 0 || err != nil {
			t.Errorf("%q, flags %#x, %v; want the datagram %q alone", m.Data, m.Flags, err, word)
		}
	}
	_, err = a.Recv(100, protocol.MsgOOB|protocol.MsgWaitAll)
	want(t, err, unix.EOPNOTSUPP)
	_, err = a.Send(protocol.Msg{Addr: inet("127.0.0.1:7777"), Flags: protocol.MsgOOB, Data: []byte("u")})
	want(t, err, unix.EOPNOTSUPP)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	r, p, id, c := connectedStream(t, d)
	r.ask(protocol.TypeRecv, id, protocol.AppendU32(nil, protocol.MsgWaitAll, 10)...).is(t, unix.EOPNOTSUPP)
	p.do(func() { p.urgent = []byte("u") })
	got := r.ask(protocol.TypeRecv, id, protocol.AppendU32(nil, protocol.MsgOOB|protocol.MsgWaitAll, 10)...).ok(t)
	if m, err := protocol.ParseMsg(got.p); string(m.Data) != "u" || err != nil {
		t.Errorf("the out-of-band octet is %q, %v", m.Data, err)
	}
	f, err := c.File() // a descriptor that waits
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
		t.Fatal(err)
	}
	type read struct {
		n   int
		err error
	}
	waits := func() <-chan read {
		ch := make(chan read, 1)
		go func() {
			n, _, err := unix.Recvfrom(int(f.Fd()), make([]byte, 10), unix.MSG_WAITALL)
			ch <- read{n, err}
		}()
		return ch
	}
	taken := func() bool { n, err := unix.IoctlGetInt(int(f.Fd()), unix.SIOCINQ); return n == 0 && err == nil }
	all := waits()
	p.do(func() { p.in = []byte("hello") })
	eventually(t, "the first half has been read", taken)
	select {
	case r := <-all:
		t.Fatalf("%+v before all is there", r)
	default:
	}
	p.do(func() { p.in = []byte("world") })
	if r := <-all; r != (read{10, nil}) {
		t.Errorf("%+v, want 10 octets", r)
	}
	short := waits()
	p.do(func() { p.in, p.end = []byte("bye"), true })
	if r := <-short; r != (read{3, nil}) {
		t.Errorf("%+v, want 3 octets and the end", r)
	}
	f.Close()
	c.Close()
	r.rests()
}

// TestOrphan: the rest of a connection whose client has died, and whose peer
// takes nothing, is given up at the end of the stack at the latest.
func TestOrphan(t *testing.T) {
	d := daemonFor(t)
	r, p, _, c := connectedStream(t, d)
	p.do(func() { p.size, p.queued = 1000, 1000 })
	c.Write([]byte("rest"))
	c.Close()
	r.conn.Close()
	eventually(t, "the client has gone", func() bool { n, _ := d.srv.counts(); return n == 0 })
	p.do(func() {
		if p.queued = 0; p.closed {
			t.Error("closed before the rest is sent")
		}
	})
	p.is(t, "the rest is sent", func() bool { return p.closed && string(p.out) == "rest" })
	r.rests()
}

// TestMovingAllocates: a transfer in either direction leaves no garbage.
func TestMovingAllocates(t *testing.T) {
	d := daemonFor(t)
	_, p, _, c := connectedStream(t, d)
	block := make([]byte, chunk)
	back := make([]byte, chunk)
	p.out = make([]byte, 0, 1000*chunk)
	n := testing.AllocsPerRun(200, func() {
		p.do(func() { p.in = block })
		for n := 0; n < chunk; {
			k, err := c.Read(back)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
		if _, err := c.Write(block); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < chunk; {
			p.mu.Lock()
			got = len(p.out)
			p.mu.Unlock()
		}
		p.mu.Lock()
		p.out, p.queued = p.out[:0], 0
		p.mu.Unlock()
	})
	if n >= 2 { // p.do's closure
		t.Errorf("%v allocations a transfer", n)
	}
}
