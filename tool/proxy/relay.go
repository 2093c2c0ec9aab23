package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// relayBuffer is what one read takes: large, because on the stack's side each
// read and write is a copy between processes.
const relayBuffer = 128 << 10

var buffers = sync.Pool{New: func() any { return new([relayBuffer]byte) }}

// halfCloser is a connection that can be shut down in one direction.
type halfCloser interface{ CloseWrite() error }

// lingerer is a connection that can be broken off.
type lingerer interface{ SetLinger(sec int) error }

// splice carries octets between a and b until both have finished or one is
// broken off, which breaks off the other. The end of one direction is passed
// on as such. It closes neither before it returns, except to break off, and
// answers how much went from a to b and back.
func splice(a, b net.Conn) (there, back int64, err error) {
	type result struct {
		n   int64
		err error
	}
	second := make(chan result, 1)
	go func() {
		n, err := oneWay(a, b)
		second <- result{n, err}
	}()
	there, err = oneWay(b, a)
	r := <-second
	if err == nil {
		err = r.err
	}
	return there, r.n, err
}

// oneWay carries what src sends to dst.
func oneWay(dst, src net.Conn) (n int64, err error) {
	b := buffers.Get().(*[relayBuffer]byte)
	defer buffers.Put(b)
	for {
		k, rerr := src.Read(b[:])
		if k > 0 {
			w, werr := dst.Write(b[:k])
			n += int64(w)
			if werr != nil {
				abort(src)
				abort(dst)
				return n, werr
			}
		}
		switch {
		case errors.Is(rerr, io.EOF):
			if hc, ok := dst.(halfCloser); ok {
				if err := hc.CloseWrite(); err == nil || gone(err) {
					return n, nil
				}
			}
			dst.Close() // it knows no half
			return n, nil
		case rerr != nil:
			abort(dst)
			abort(src)
			return n, rerr
		}
	}
}

// gone is what an end says that has gone already: there is nobody to tell.
func gone(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)
}

// abort ends a connection so that the other end sees it broken off.
func abort(c net.Conn) {
	if l, ok := c.(lingerer); ok {
		_ = l.SetLinger(0)
	}
	c.Close()
}
