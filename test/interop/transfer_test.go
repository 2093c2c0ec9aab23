package interop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// pattern is what transfers carry, again and again. Its length is a prime, so
// that octets at the wrong place are the wrong octets.
var pattern = func() []byte {
	b := make([]byte, 1_048_573)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}()

// send writes n octets of the pattern from its beginning, or goes on until the
// connection's deadline when n is negative.
func send(c net.Conn, n int64) (sent int64, err error) {
	for n < 0 || sent < n {
		part := pattern[sent%int64(len(pattern)):]
		if part = part[:min(len(part), 256<<10)]; n >= 0 && n-sent < int64(len(part)) {
			part = part[:n-sent]
		}
		k, err := c.Write(part)
		sent += int64(k)
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// receive reads and compares until the end of the stream or an error, and
// answers the number of octets that came.
func receive(c net.Conn) (at int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		n, err := c.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			want := pattern[at%int64(len(pattern)):]
			want = want[:min(len(want), len(b))]
			if !bytes.Equal(b[:len(want)], want) {
				i := 0
				for b[i] == want[i] {
					i++
				}
				return at, fmt.Errorf("octet %d of the stream is %#02x, was sent as %#02x", at+int64(i), b[i], want[i])
			}
			at += int64(len(want))
			b = b[len(want):]
		}
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
	}
}

// exact sends n octets one way and the end of the stream, checks each, and
// answers how long that took.
func exact(t testing.TB, from, to net.Conn, n int64, patience time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	limit := start.Add(patience)
	from.SetDeadline(limit)
	to.SetDeadline(limit)
	sent := make(chan error, 1)
	go func() {
		_, err := send(from, n)
		if err == nil {
			err = from.(interface{ CloseWrite() error }).CloseWrite()
		}
		sent <- err
	}()
	got, err := receive(to)
	if err != nil {
		t.Fatalf("%s to %s: %d of %d octets received: %v", from.LocalAddr(), to.LocalAddr(), got, n, err)
	}
	if err := <-sent; err != nil {
		t.Fatalf("%s to %s: sending: %v", from.LocalAddr(), to.LocalAddr(), err)
	}
	if got != n {
		t.Fatalf("%s to %s: %d octets received, %d sent", from.LocalAddr(), to.LocalAddr(), got, n)
	}
	return time.Since(start)
}
