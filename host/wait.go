package host

import (
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// This is the only place of a stack where calls wait. A call that the engine
// answers with EWOULDBLOCK sleeps on a side of its endpoint until the upcall
// finds the socket ready, the deadline comes, or the endpoint or the stack ends.
// No wakeup is lost: the sleeper first says that it sleeps and then looks
// again, while the waker changes something and then looks for a sleeper.

// endpoint is what every connection and listener here is made of.
type endpoint struct {
	h       *Stack
	so      *socket.Socket
	network string // as the caller named it
	local   net.Addr
	remote  net.Addr // nil: not connected

	r, w  side
	state atomic.Uint32

	mu         sync.Mutex // guards the timers of the sides
	prev, next *endpoint  // of the stack's endpoints, guarded by its lock
}

// States of an endpoint.
const (
	open  uint32 = iota
	ended        // with its stack; it is still to be closed
	closed
)

// side is one direction of an endpoint. Its calls take turns, as in package
// net: a write is never mixed with another, and at most one call sleeps.
type side struct {
	turn   sync.Mutex
	parked atomic.Bool   // a call sleeps, or looks a last time
	token  chan struct{} // room for one; made for the first sleeper
	due    atomic.Int64  // the deadline on the stack's clock; 0: none
	timer  *time.Timer   // wakes at the deadline
	msg    socket.Msg    // of the call whose turn it is
}

// take waits for a call's turn, and answers its message.
func (s *side) take() *socket.Msg {
	s.turn.Lock()
	return &s.msg
}

// give ends it. The message does not keep the caller's memory.
func (s *side) give() {
	s.msg = socket.Msg{}
	s.turn.Unlock()
}

// wake lets the sleeper look again.
func (s *side) wake() {
	if s.parked.Load() {
		select {
		case s.token <- struct{}{}:
		default:
		}
	}
}

// park says that a call sleeps from now on. Whoever changes anything later
// leaves a token.
func (s *side) park() {
	if s.token == nil {
		s.token = make(chan struct{}, 1)
	}
	select {
	case <-s.token: // of an earlier sleep
	default:
	}
	s.parked.Store(true)
}

func (s *side) unpark() { s.parked.Store(false) }

// start ties the endpoint to its socket. net.ErrClosed: the stack has ended.
func (ep *endpoint) start(h *Stack, so *socket.Socket, network string) error {
	ep.h, ep.so, ep.network = h, so, network
	if !h.endpoints.add(ep) {
		return net.ErrClosed
	}
	so.SetUpcall(ep.upcall)
	return nil
}

// upcall wakes whom the socket is ready for. It runs on the goroutine that
// made the change.
func (ep *endpoint) upcall(*netif.Work) {
	r, w := ep.r.parked.Load(), ep.w.parked.Load()
	if !r && !w {
		return
	}
	ev := ep.so.Poll()
	if r && ev&(socket.Readable|socket.HangUp) != 0 {
		ep.r.wake()
	}
	if w && ev&(socket.Writable|socket.HangUp) != 0 {
		ep.w.wake()
	}
}

// over is why a call on s must not go on: net.ErrClosed,
// os.ErrDeadlineExceeded, or nil.
func (ep *endpoint) over(s *side) error {
	if ep.state.Load() != open {
		return net.ErrClosed
	}
	if due := s.due.Load(); due != 0 && ep.h.Now() >= due {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// await makes the call try until it answers something else than EWOULDBLOCK,
// and sleeps in between until ev. The caller has the turn of s.
func (ep *endpoint) await(s *side, ev socket.Events, try func(w *netif.Work) error) error {
	if err := ep.attempt(s, try); err != syscall.EWOULDBLOCK {
		return err
	}
	s.park()
	defer s.unpark()
	if ep.so.Poll()&ev == 0 && ep.over(s) == nil {
		<-s.token
	}
	for {
		if err := ep.attempt(s, try); err != syscall.EWOULDBLOCK {
			return err
		}
		<-s.token
	}
}

func (ep *endpoint) attempt(s *side, try func(w *netif.Work) error) error {
	if err := ep.over(s); err != nil {
		return err
	}
	w := ep.h.engine.Env.Begin(ep.h.Now())
	err := try(w)
	w.End()
	if err != nil && err != syscall.EWOULDBLOCK && ep.state.Load() != open {
		return net.ErrClosed
	}
	return err
}

// deadline moves the deadline of one side; the zero time is never.
func (ep *endpoint) deadline(s *side, t time.Time) error {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.state.Load() == closed {
		return &net.OpError{Op: "set", Net: ep.network, Addr: ep.local, Err: net.ErrClosed}
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if t.IsZero() {
		s.due.Store(0)
		return nil
	}
	left := time.Until(t)
	due := ep.h.Now() + int64(left)
	if left > 0 && due < 0 {
		due = math.MaxInt64
	}
	s.due.Store(max(due, 1))
	switch {
	case left <= 0:
		s.wake()
	case s.timer == nil:
		s.timer = time.AfterFunc(left, s.wake)
	default:
		s.timer.Reset(left)
	}
	return nil
}

// SetDeadline is net.Conn.
func (ep *endpoint) SetDeadline(t time.Time) error {
	if err := ep.deadline(&ep.r, t); err != nil {
		return err
	}
	return ep.deadline(&ep.w, t)
}

// SetReadDeadline is net.Conn; it also moves the deadline of a read that waits.
func (ep *endpoint) SetReadDeadline(t time.Time) error { return ep.deadline(&ep.r, t) }

// SetWriteDeadline is net.Conn; it also moves the deadline of a write that waits.
func (ep *endpoint) SetWriteDeadline(t time.Time) error { return ep.deadline(&ep.w, t) }

// LocalAddr is net.Conn.
func (ep *endpoint) LocalAddr() net.Addr { return ep.local }

// RemoteAddr is net.Conn; nil when not connected.
func (ep *endpoint) RemoteAddr() net.Addr { return ep.remote }

// Socket is the socket below, for options.
func (ep *endpoint) Socket() *socket.Socket { return ep.so }

// shut ends the endpoint and every call that waits, and answers false if that
// was done before. The socket is still to be closed.
func (ep *endpoint) shut() bool {
	ep.mu.Lock()
	first := ep.state.Swap(closed) != closed
	for _, s := range []*side{&ep.r, &ep.w} {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	ep.mu.Unlock()
	if first {
		ep.h.endpoints.remove(ep)
		ep.r.wake()
		ep.w.wake()
	}
	return first
}

// Close is net.Conn. Calls that wait get net.ErrClosed.
func (ep *endpoint) Close() error {
	if !ep.shut() {
		return ep.opError("close", "", net.ErrClosed)
	}
	ep.h.Call(ep.so.Close)
	return nil
}

// opError is an error as package net shows it: that of the call op, which the
// system call of the name sys answered.
func (ep *endpoint) opError(op, sys string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(sys, errno)
	}
	return &net.OpError{Op: op, Net: ep.network, Source: ep.local, Addr: ep.remote, Err: err}
}

// endpoints are the open endpoints of a stack.
type endpoints struct {
	mu    sync.Mutex
	first *endpoint
	over  bool
}

// add answers false when the stack has ended.
func (l *endpoints) add(ep *endpoint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	if ep.next = l.first; ep.next != nil {
		ep.next.prev = ep
	}
	l.first = ep
	return true
}

func (l *endpoints) remove(ep *endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ep.prev != nil {
		ep.prev.next = ep.next
	} else if l.first == ep {
		l.first = ep.next
	}
	if ep.next != nil {
		ep.next.prev = ep.prev
	}
	ep.prev, ep.next = nil, nil
}

// end lets go who waits on any of them, for good.
func (l *endpoints) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for ep := l.first; ep != nil; ep = ep.next {
		ep.state.CompareAndSwap(open, ended)
		ep.r.wake()
		ep.w.wake()
	}
}
