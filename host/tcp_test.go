package host_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"golang.org/x/net/nettest"

	"ionet/driver/wire"
	"ionet/host"
	"ionet/test/streams"
)

// dialed are the two ends of a connection from a to an address of b.
func dialed(t testing.TB, a, b *host.Stack, address string) (x, y net.Conn) {
	t.Helper()
	l, err := b.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if x, err = a.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if y, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return x, y
}

// Connections are what package net's are, between two stacks and within one.
func TestConnConforms(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	for _, tc := range []struct {
		name    string
		b       *host.Stack
		address string
	}{{"wire", b, "10.0.0.2:0"}, {"lo0", a, "127.0.0.1:0"}, {"wire over IPv6", b, "[2001:db8::2]:0"}, {"link-local", b, "[fe80::2%en0]:0"}, {"lo0 over IPv6", a, "[::1]:0"}} {
		t.Run(tc.name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				x, y := dialed(t, a, tc.b, tc.address)
				return x, y, func() { x.Close(); y.Close() }, nil
			})
		})
	}
}

// What is written arrives, both ways at once, and its end after it.
func TestBothWaysAtOnce(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	for _, address := range []string{"10.0.0.2:0", "[2001:db8::2]:0"} {
		x, y := dialed(t, a, b, address)
		defer x.Close()
		defer y.Close()
		streams.BothWays(t, x, y, 32<<20)
	}
}

func TestRefusedAndReset(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	for _, address := range []string{"10.0.0.2:9", "[2001:db8::2]:9", "[fe80::2%en0]:9"} {
		if _, err := a.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dialling a port where nobody listens, %s: %v, want ECONNREFUSED", address, err)
		}
	}
	x, y := dialed(t, a, b, "10.0.0.2:0")
	defer y.Close()
	x.(*host.TCPConn).SetLinger(0)
	x.Close()
	if _, err := y.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading after the peer has aborted: %v, want ECONNRESET", err)
	}
	if _, err := y.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing after that: %v, want EPIPE", err)
	}
}

// A second listener on a port in use is refused; after the first has gone it
// is not, although its connections wait out their time.
func TestListenTwice(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen("tcp", ":80"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v, want EADDRINUSE", err)
	}
	x, err := a.Dial("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	y.Close() // the server ends first: it has the wait
	io.Copy(io.Discard, x)
	x.Close()
	l.Close()
	if l, err = b.Listen("tcp", ":80"); err != nil {
		t.Fatalf("listening again: %v", err)
	}
	l.Close()
}

// An HTTP server and client need nothing but the listener and the dialer.
func TestHTTP(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	streams.HTTP(t, l, "http://10.0.0.2/", a.DialContext)
}
