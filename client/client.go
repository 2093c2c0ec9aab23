// Package client is the Go API to a running stack, the one that all tools
// are written with. It finds the stack, speaks package protocol to it over
// $SOCK/dev/socket, and offers the usual net interfaces over its sockets.
package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/protocol/door"
)

// Find answers the prefix of the stack to talk to; see [door.Find].
func Find(explicit string) (prefix string, err error) { return door.Find(explicit) }

// helloTimeout is how long a stack may take for its HELLO.
const helloTimeout = 5 * time.Second

// cancelGrace is how long a stack may take to answer a cancelled request.
const cancelGrace = time.Second

// reply is the answer to one request.
type reply struct {
	payload []byte
	fd      int // the descriptor that came with it; 0: none
	err     error
}

// Stack is a connection to a stack's control door. Its methods may be called
// from several goroutines; requests do not wait for each other.
type Stack struct {
	conn   *net.UnixConn
	prefix string
	path   string
	family int // of the door
	hello  protocol.Hello
	tag    atomic.Uint32
	done   chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	pending map[uint32]chan reply
	err     error // why the connection ended
	lookups lookups
	zones   zones
}

// Open connects to the stack at the prefix sock, as [Find] answers it; "" is
// found by Find. Errors are one clear sentence: nothing there, somebody else
// there, another version.
func Open(sock string) (*Stack, error) {
	prefix, err := door.Find(sock)
	if err != nil {
		return nil, err
	}
	return OpenFamily(prefix, protocol.AFInet)
}

// OpenFamily connects to the door of one family (2 or 24) below prefix.
func OpenFamily(prefix string, family int) (*Stack, error) {
	path := door.Socket(prefix, family)
	conn, err := door.Dial(path)
	if err != nil {
		return nil, dialError(prefix, path, err)
	}
	s := &Stack{conn: conn, prefix: prefix, path: path, family: family, done: make(chan struct{}), pending: map[uint32]chan reply{}}
	go s.read()
	ctx, cancel := context.WithTimeout(context.Background(), helloTimeout)
	defer cancel()
	b, err := s.call(ctx, protocol.TypeHello, 0, protocol.AppendHelloRequest(nil))
	if err == nil {
		s.hello, err = protocol.ParseHello(b)
	}
	switch {
	case err == nil && s.hello.Version == protocol.Version:
		return s, nil
	case err == nil:
		err = fmt.Errorf("the stack at %s speaks version %d of the protocol, this program %d", path, s.hello.Version, protocol.Version)
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EUSERS):
		err = fmt.Errorf("%s: %w", path, err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%s: nobody answers within %v; a stack that hangs, or no ionet stack", path, helloTimeout)
	default:
		err = fmt.Errorf("%s is not an ionet stack (%w)", path, err)
	}
	_ = s.Close()
	return nil, err
}

// dialError says in one sentence why there is nobody at path.
func dialError(prefix, path string, err error) error {
	at, arg := prefix, " prefix="+prefix
	if at == "" {
		at, arg = "/dev/socket", ""
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return &protocol.Error{Errno: protocol.AsError(err).Errno, Text: fmt.Sprintf("no stack at %s: start one with io-net -ptcpip%s, or set SOCK", at, arg)}
	case errors.Is(err, syscall.EPROTOTYPE), errors.Is(err, syscall.ENOTSOCK):
		return &protocol.Error{Errno: protocol.AsError(err).Errno, Text: path + " is not an ionet stack"}
	}
	return fmt.Errorf("%s: %w", path, errnoOf(err))
}

// errnoOf strips the wrappers that repeat the path.
func errnoOf(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

// Hello is what the stack said of itself.
func (s *Stack) Hello() protocol.Hello { return s.hello }

// Prefix is the prefix the stack was reached under.
func (s *Stack) Prefix() string { return s.prefix }

// Close ends the connection, and with it every socket and capture made
// through it. Waiting calls fail with net.ErrClosed.
func (s *Stack) Close() error {
	s.fail(net.ErrClosed)
	err := s.conn.Close()
	<-s.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Done is closed when the connection to the stack has ended, and Err says
// why: net.ErrClosed after [Stack.Close], nil before the end.
func (s *Stack) Done() <-chan struct{} { return s.done }

// Err is the reason of [Stack.Done].
func (s *Stack) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail answers everything that waits with err, and whatever comes later. The
// first error stays.
func (s *Stack) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	err = s.err
	waiting := s.pending
	s.pending = map[uint32]chan reply{}
	s.mu.Unlock()
	for _, ch := range waiting {
		ch <- reply{err: err}
	}
}

// read hands the replies to those who wait for them. Every channel of pending
// has room for its one reply.
func (s *Stack) read() {
	defer close(s.done)
	buf, rights := make([]byte, protocol.MaxFrame+1), make([]byte, syscall.CmsgSpace(4))
	for {
		n, oob, _, _, err := s.conn.ReadMsgUnix(buf, rights)
		if errors.Is(err, syscall.ECONNRESET) { // it has not read all of ours; its last word is still there
			n, oob, _, _, err = s.conn.ReadMsgUnix(buf, rights)
		}
		if err != nil || n == 0 {
			s.fail(fmt.Errorf("the stack at %s has gone: %w", s.path, syscall.ECONNRESET))
			return
		}
		fd := descriptor(rights[:oob])
		h, payload, err := protocol.ParseFrame(buf[:n])
		if err != nil || h.Flags&protocol.FlagReply == 0 {
			if err == nil {
				err = errors.New("it sends requests")
			}
			s.fail(fmt.Errorf("%s is not an ionet stack: %w", s.path, err))
			_ = s.conn.Close()
			return
		}
		if h.Tag == 0 && h.Errno != 0 { // no request of ours: it turns us away
			s.fail(&protocol.Error{Errno: h.Errno, Text: string(payload)})
			_ = s.conn.Close()
			return
		}
		s.mu.Lock()
		ch := s.pending[h.Tag]
		delete(s.pending, h.Tag)
		s.mu.Unlock()
		r := reply{fd: fd}
		if h.Errno != 0 {
			r.err = &protocol.Error{Errno: h.Errno, Text: string(payload)}
		} else {
			r.payload = append([]byte(nil), payload...)
		}
		if ch == nil {
			r.drop() // the reply to a cancellation, or to what was given up
			continue
		}
		ch <- r
	}
}

// descriptor is what came with a frame; 0: none.
func descriptor(rights []byte) (fd int) {
	if len(rights) == 0 {
		return 0
	}
	msgs, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return 0
	}
	for i := range msgs {
		fds, _ := syscall.ParseUnixRights(&msgs[i])
		for _, n := range fds { // there is room for one
			fd = n
		}
	}
	return fd
}

// drop closes a descriptor that nobody takes.
func (r reply) drop() {
	if r.fd > 0 {
		_ = syscall.Close(r.fd)
	}
}

// send writes one request, and with it a copy of the descriptor data unless that
// is 0.
func (s *Stack) send(t protocol.Type, tag, id uint32, payload []byte, data int) error {
	if len(payload) > protocol.MaxPayload {
		return &protocol.Error{Errno: syscall.EMSGSIZE}
	}
	b := make([]byte, 0, protocol.HeaderLen+len(payload))
	b = protocol.AppendHeader(b, protocol.Header{Type: t, Tag: tag, ID: id})
	b = append(b, payload...)
	if data == 0 {
		_, err := s.conn.Write(b)
		return err
	}
	_, _, err := s.conn.WriteMsgUnix(b, syscall.UnixRights(data), nil)
	return err
}

// call sends a request and waits for its reply. When ctx ends first the
// request is cancelled; should the stack have answered by then, the answer
// counts, so that no datagram is lost.
func (s *Stack) call(ctx context.Context, t protocol.Type, id uint32, payload []byte) ([]byte, error) {
	return s.callUntil(ctx.Done(), func() error { return context.Cause(ctx) }, t, id, payload)
}

func (s *Stack) callUntil(stop <-chan struct{}, why func() error, t protocol.Type, id uint32, payload []byte) ([]byte, error) {
	r := s.roundTrip(stop, why, t, id, payload)
	r.drop()
	return r.payload, r.err
}

func (s *Stack) roundTrip(stop <-chan struct{}, why func() error, t protocol.Type, id uint32, payload []byte) reply {
	return s.roundTripWith(stop, why, t, id, payload, 0)
}

// roundTripWith is roundTrip with a descriptor, as in send.
func (s *Stack) roundTripWith(stop <-chan struct{}, why func() error, t protocol.Type, id uint32, payload []byte, data int) reply {
	select {
	case <-stop:
		return reply{err: why()}
	default:
	}
	tag, ch := s.tag.Add(1), make(chan reply, 1)
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return reply{err: s.err}
	}
	s.pending[tag] = ch
	s.mu.Unlock()
	if err := s.send(t, tag, id, payload, data); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) { // the reader knows why it hung up
		s.forget(tag)
		select {
		case r := <-ch: // the reader knows better why
			return r
		default:
			return reply{err: err}
		}
	}
	select {
	case r := <-ch:
		return r
	case <-stop:
	}
	_ = s.send(protocol.TypeCancel, s.tag.Add(1), 0, protocol.AppendU32(nil, tag), 0)
	grace := time.NewTimer(cancelGrace)
	defer grace.Stop()
	select {
	case r := <-ch:
		if errors.Is(r.err, syscall.EINTR) {
			r.err = why()
		}
		return r
	case <-grace.C:
		s.forget(tag)
		select {
		case r := <-ch: // just in time
			return r
		default:
			return reply{err: why()}
		}
	}
}

func (s *Stack) forget(tag uint32) {
	s.mu.Lock()
	delete(s.pending, tag)
	s.mu.Unlock()
}

// post sends a request whose reply nobody waits for.
func (s *Stack) post(t protocol.Type, id uint32, payload []byte) error {
	return s.send(t, s.tag.Add(1), id, payload, 0)
}

// postNow is post for what may be left out: it is when that would wait.
func (s *Stack) postNow(t protocol.Type, id uint32, payload []byte) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	b := protocol.AppendHeader(nil, protocol.Header{Type: t, Tag: s.tag.Add(1), ID: id})
	b = append(b, payload...)
	_ = raw.Control(func(fd uintptr) {
		_ = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	})
}

// do is call without a context: requests that the stack answers at once.
func (s *Stack) do(t protocol.Type, id uint32, payload []byte) ([]byte, error) {
	return s.callUntil(nil, nil, t, id, payload)
}
