package client

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/protocol/door"
)

// fake is a stack that answers by a function.
type fake struct {
	t    *testing.T
	conn *net.UnixConn
}

// request is one frame that came.
type request struct {
	protocol.Header
	payload []byte
}

// serve listens below a folder of the test's own; script is the stack's side
// of the one connection, behind the HELLO.
func serve(t *testing.T, script func(f *fake)) *Stack {
	t.Helper()
	prefix := t.TempDir() + "/" + strings.Repeat("long/", 25) // longer than a sun_path
	l, err := door.Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		f := &fake{t, c}
		f.reply(f.next(), protocol.AppendHello(nil, protocol.Hello{Version: protocol.Version, Prefix: prefix}))
		script(f)
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	s, err := Open(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (f *fake) next() request {
	b := make([]byte, protocol.MaxFrame)
	n, err := f.conn.Read(b)
	if err != nil {
		return request{}
	}
	h, p, err := protocol.ParseFrame(b[:n])
	if err != nil {
		f.t.Error(err)
	}
	return request{h, p}
}

func (f *fake) reply(r request, payload []byte) {
	_, _ = f.conn.Write(append(protocol.AppendReply(nil, r.Header), payload...))
}

func (f *fake) fail(r request, err error) {
	_, _ = f.conn.Write(protocol.AppendError(nil, r.Header, err))
}

func TestRepliesOutOfOrder(t *testing.T) {
	s := serve(t, func(f *fake) {
		a, b := f.next(), f.next()
		f.reply(b, b.payload)
		f.reply(a, a.payload)
	})
	for _, text := range []string{"first", "second"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			b, err := s.do(protocol.TypeUmount, 0, []byte(text))
			if err != nil || string(b) != text {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

func TestErrorReply(t *testing.T) {
	s := serve(t, func(f *fake) {
		f.fail(f.next(), syscall.EEXIST)
		f.fail(f.next(), &protocol.Error{Errno: syscall.EINVAL, Text: "forwarding is 0 or 1, not 2"})
	})
	if err := s.Umount("x"); !errors.Is(err, syscall.EEXIST) || protocol.Strerror(err) != "File exists" {
		t.Errorf("got %v", err)
	}
	_, err := s.SetSysctl("net.inet.ip.forwarding", "2")
	if !errors.Is(err, syscall.EINVAL) || err.Error() != "forwarding is 0 or 1, not 2" {
		t.Errorf("got %v", err)
	}
}

func TestTurnedAway(t *testing.T) {
	prefix := t.TempDir()
	l, err := door.Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			refusal := &protocol.Error{Errno: syscall.EUSERS, Text: "too many clients of this user"}
			_, _ = c.Write(protocol.AppendError(nil, protocol.Header{Type: protocol.TypeHello}, refusal))
			_ = c.Close() // before, while or after the client says hello
		}
	}()
	for range 20 {
		if _, err := Open(prefix); !errors.Is(err, syscall.EUSERS) || !strings.HasSuffix(err.Error(), "dev/socket/2: too many clients of this user") {
			t.Fatalf("got %v", err)
		}
	}
	<-done
}

func TestGarbage(t *testing.T) {
	s := serve(t, func(f *fake) {
		f.next()
		_, _ = f.conn.Write([]byte("garbage"))
	})
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "is not an ionet stack") {
		t.Errorf("got %v", err)
	}
	if err := s.Stop(); err == nil {
		t.Error("the connection is still used")
	}
}

func TestStackDiesInTheCall(t *testing.T) {
	s := serve(t, func(f *fake) { f.next() })
	if _, err := s.Sysctl("kern.hostname"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

func TestCancel(t *testing.T) {
	s := serve(t, func(f *fake) {
		wait, cancel := f.next(), f.next()
		var tag uint32
		if err := protocol.ParseU32(cancel.payload, &tag); err != nil || cancel.Type != protocol.TypeCancel || tag != wait.Tag {
			f.t.Errorf("cancelled %d by %+v, %v; want %d", tag, cancel.Header, err, wait.Tag)
		}
		f.fail(wait, syscall.EINTR)
		f.reply(cancel, nil)
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := s.call(ctx, protocol.TypeRecv, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestDatagramBeforeTheCancel: what had come is not lost.
func TestDatagramBeforeTheCancel(t *testing.T) {
	s := serve(t, func(f *fake) {
		f.reply(f.next(), protocol.AppendU32(nil, 5)) // socket
		wait := f.next()
		f.next() // cancel
		f.reply(wait, protocol.AppendMsg(nil, protocol.Msg{Data: []byte("late")}))
		wait = f.next()
		f.next()
		f.fail(wait, syscall.EINTR)
	})
	k, err := s.Socket(protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = k.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if m, err := k.Recv(100, 0); err != nil || string(m.Data) != "late" {
		t.Errorf("got %q, %v", m.Data, err)
	}
	_ = k.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if _, err := k.Recv(100, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestDumpPages(t *testing.T) {
	page := func(next uint64, dst string) []byte {
		m := protocol.AnnounceMessage{Name: dst}
		return protocol.AppendMessage(protocol.AppendPage(nil, next), &m)
	}
	s := serve(t, func(f *fake) {
		f.reply(f.next(), page(7, "a"))
		r := f.next()
		if q, _ := protocol.ParseDumpRequest(r.payload); q.Cursor != 7 {
			f.t.Errorf("cursor %d, want 7", q.Cursor)
		}
		f.reply(r, page(0, "b"))
	})
	var got string
	for m, err := range s.Dump(protocol.DumpRoutes, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got += m.(*protocol.AnnounceMessage).Name
	}
	if got != "ab" {
		t.Errorf("got %q", got)
	}
}

func TestNoStack(t *testing.T) {
	prefix := t.TempDir()
	_, err := Open(prefix)
	if err == nil || !strings.HasPrefix(err.Error(), "no stack at "+prefix+": start one with io-net -ptcpip prefix="+prefix+", or set SOCK") {
		t.Errorf("got %v", err)
	}
}
