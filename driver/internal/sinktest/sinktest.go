// Package sinktest is a [driver.Sink] for the drivers' tests: it keeps what it
// is given and lets a test wait for it.
package sinktest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"ionet/driver"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Patience bounds every wait for an event.
const Patience = 10 * time.Second

// Frame is a received frame and what was known about it.
type Frame struct {
	Data    []byte
	Csum    packet.CsumState
	GSO     packet.GSOType
	GSOSize uint16
}

// Sink is a driver at work and what it has delivered.
type Sink struct {
	T      testing.TB
	Driver driver.Driver
	Ifp    *netif.Interface
	// Answer, when set before Run, is shown each frame and may transmit.
	Answer func(frame []byte)

	pool *packet.Pool
	ran  chan error

	mu        sync.Mutex
	cond      *sync.Cond
	Frames    []Frame // and what follows: read them in Until
	Lost, Bad int
	Links     []bool
	Logs      []string
	Ended     bool
	Err       error // what Run answered
	late      bool
}

// Run starts d with a Sink of its own, and closes it when the test ends.
func Run(t testing.TB, d driver.Driver, answer func(s *Sink, frame []byte)) *Sink {
	s := &Sink{T: t, Driver: d, pool: packet.NewPool(64 << 20), ran: make(chan error, 1)}
	s.cond = sync.NewCond(&s.mu)
	if answer != nil {
		s.Answer = func(frame []byte) { answer(s, frame) }
	}
	i := d.Info()
	s.Ifp = netif.New(netif.Config{Name: "en0", MAC: i.MAC, MTU: i.MTU, Caps: i.Caps, Driver: d})
	go func() {
		err := d.Run(s)
		s.note(func() { s.Ended, s.Err = true, err })
		s.ran <- err
	}()
	t.Cleanup(s.Close)
	return s
}

// Close closes the driver and checks the books.
func (s *Sink) Close() {
	s.T.Helper()
	failed := false
	s.note(func() { failed = s.Ended })
	if err := s.Driver.Close(); err != nil {
		s.T.Errorf("Close: %v", err)
	}
	s.Until("Run to end", func() bool { return s.Ended })
	if !failed && s.Err != nil {
		s.T.Errorf("Run: %v", s.Err)
	}
	if n := s.pool.Bufs(); n != 0 {
		s.T.Errorf("%d buffers still out", n)
	}
}

// Until waits until cond, which is called under the Sink's lock, holds.
func (s *Sink) Until(what string, cond func() bool) {
	s.T.Helper()
	s.note(func() { s.late = false })
	timer := time.AfterFunc(Patience, func() { s.note(func() { s.late = true }) })
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !cond() {
		if s.late {
			s.T.Fatalf("waited in vain for %s: %d frames, %d lost, %d bad, links %v, ended %v %v, log %q",
				what, len(s.Frames), s.Lost, s.Bad, s.Links, s.Ended, s.Err, s.Logs)
		}
		s.cond.Wait()
	}
}

// Send transmits one frame with these octets.
func (s *Sink) Send(frame []byte) {
	b := s.pool.Get(len(frame))
	copy(b.Append(len(frame)), frame)
	s.SendBuf(b)
}

// SendBuf transmits one buffer.
func (s *Sink) SendBuf(b *packet.Buf) { s.Driver.Transmit(s.Ifp, []*packet.Buf{b}) }

func (s *Sink) note(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	s.cond.Broadcast()
}

// Pool is where the driver's buffers come from.
func (s *Sink) Pool() *packet.Pool { return s.pool }

// Input keeps a burst.
func (s *Sink) Input(burst []*packet.Buf) {
	for _, b := range burst {
		f := Frame{append([]byte(nil), b.Bytes()...), b.Csum, b.GSO, b.GSOSize}
		if s.Answer != nil {
			s.Answer(f.Data)
		}
		s.note(func() { s.Frames = append(s.Frames, f) })
	}
	packet.FreeBurst(burst)
}

// Dropped counts lost frames.
func (s *Sink) Dropped(n int) { s.note(func() { s.Lost += n }) }

// Malformed counts what was no frame.
// Receiving is driver.Sink.
func (s *Sink) Receiving() {}

func (s *Sink) Malformed(n int) { s.note(func() { s.Bad += n }) }

// LinkState keeps changes of carrier.
func (s *Sink) LinkState(up bool) { s.note(func() { s.Links = append(s.Links, up) }) }

// Verbose keeps a line of log.
func (s *Sink) Verbose(msg string, args ...any) {
	s.note(func() { s.Logs = append(s.Logs, fmt.Sprint(append([]any{msg}, args...)...)) })
}
