package nc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	streamChunk = 128 << 10
	// datagramChunk is how much of the input goes into one datagram.
	datagramChunk = 16 << 10
	maxDatagram   = 65535
)

// chunk is a piece of the input. The last one has the error that ended it.
type chunk struct {
	b   []byte
	err error
}

// input reads ahead by one piece, so that it outlives connections: what one
// does not take the next one gets.
type input struct {
	full  chan chunk
	free  chan []byte
	done  chan struct{}
	ended error // after the last chunk; of the shuttle
}

func newInput(r io.Reader, datagrams bool) *input {
	size := streamChunk
	if datagrams {
		size = datagramChunk
	}
	in := &input{full: make(chan chunk), free: make(chan []byte, 2), done: make(chan struct{})}
	in.free <- make([]byte, size)
	in.free <- make([]byte, size)
	go in.read(r)
	return in
}

// read ends with the input, or at the first piece after close; a Read that
// waits then waits on.
func (in *input) read(r io.Reader) {
	for {
		b := <-in.free
		n, err := r.Read(b[:cap(b)])
		if n == 0 && err == nil {
			in.free <- b
			continue
		}
		select {
		case in.full <- chunk{b[:n], err}:
		case <-in.done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (in *input) close() { close(in.done) }

// closeWriter is a connection that can be shut down in one direction.
type closeWriter interface{ CloseWrite() error }

// idle ends a connection on which nothing moves.
type idle struct {
	limit time.Duration
	timer *time.Timer
	over  atomic.Bool
}

func newIdle(limit time.Duration, end func()) *idle {
	i := &idle{limit: limit}
	if limit > 0 {
		i.timer = time.AfterFunc(limit, func() {
			i.over.Store(true)
			end()
		})
	}
	return i
}

func (i *idle) moved() {
	if i.timer != nil {
		i.timer.Reset(i.limit)
	}
}

func (i *idle) stop() {
	if i.timer != nil {
		i.timer.Stop()
	}
}

// shuttle carries octets between the user and a connection until that is
// over, and leaves closing it to the caller. A connection on which nothing
// moved for the time of -w has ended well.
func (s *session) shuttle(c net.Conn) error {
	var once sync.Once
	end := func() { once.Do(func() { c.Close() }) }
	defer context.AfterFunc(s.ctx, end)()
	watch := newIdle(s.o.Timeout, end)
	err := s.carry(c, watch)
	watch.stop()
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case watch.over.Load():
		return nil
	}
	return err
}

func (s *session) carry(c net.Conn, watch *idle) error {
	received := make(chan error, 1)
	go func() { received <- s.receive(c, watch) }()
	defer func() {
		if received != nil {
			c.Close()
			<-received
		}
	}()
	var pieces chan chunk
	if s.in != nil && s.in.ended == nil {
		pieces = s.in.full
	} else if s.o.Shutdown {
		shutdown(c)
	}
	var sent error
	for pieces != nil || received != nil {
		select {
		case p := <-pieces:
			if sent = s.send(c, p.b, watch); sent != nil {
				if s.o.UDP { // there is no end to wait for
					return sent
				}
				pieces = nil
			}
			s.in.free <- p.b
			if p.err != nil {
				pieces, s.in.ended = nil, p.err
				if !errors.Is(p.err, io.EOF) {
					return fmt.Errorf("standard input: %w", p.err)
				}
				if s.o.Shutdown && sent == nil {
					shutdown(c)
				}
			}
		case err := <-received:
			received = nil
			if err != nil || s.o.Listen {
				return err
			}
		}
	}
	return sent
}

// shutdown tells the other end that nothing more comes. An end that is gone
// already need not be told.
func shutdown(c net.Conn) {
	if cw, ok := c.(closeWriter); ok {
		_ = cw.CloseWrite()
	}
}

// send sends a piece of the input; with -i line by line.
func (s *session) send(c net.Conn, b []byte, watch *idle) error {
	for len(b) > 0 {
		n := len(b)
		if s.o.Interval > 0 {
			if i := bytes.IndexByte(b, '\n'); i >= 0 {
				n = i + 1
			}
		}
		if _, err := c.Write(b[:n]); err != nil {
			return fmt.Errorf("send: %w", reason(err))
		}
		watch.moved()
		b = b[n:]
		if s.o.Interval > 0 {
			if err := s.pause(s.o.Interval); err != nil {
				return err
			}
		}
	}
	return nil
}

// receive prints what comes until the other end has finished.
func (s *session) receive(c net.Conn, watch *idle) error {
	size := streamChunk
	if s.o.UDP {
		size = maxDatagram
	}
	b := make([]byte, size)
	for {
		n, err := c.Read(b)
		if n > 0 {
			watch.moved()
			if _, err := s.io.Out.Write(b[:n]); err != nil {
				return fmt.Errorf("standard output: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("receive: %w", reason(err))
		}
	}
}
