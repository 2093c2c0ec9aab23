package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"ionet/client"
	"ionet/protocol"
	"ionet/test/streams"
)

// neighbours are two daemons on a wire, 10.0.0.1 and 10.0.0.2, which are
// 2001:db8::1 and 2001:db8::2, fe80::1 and fe80::2 too.
func neighbours(t *testing.T) (d [2]*daemon, s [2]*client.Stack) {
	t.Helper()
	segment := t.TempDir()
	for i := range d {
		d[i] = start(t, "-dwire", "path="+segment)
		s[i] = d[i].open()
		for _, a := range []protocol.AliasReq{
			{Addr: inet("10.0.0." + itoa(i+1)), Mask: protocol.MaskAddr(protocol.AFInet, 24)},
			{Addr: inet("2001:db8::" + itoa(i+1)), Mask: protocol.MaskAddr(protocol.AFInet6, 64), Flags: protocol.IN6IFFNoDAD},
			{Addr: inet("fe80::" + itoa(i+1)), Mask: protocol.MaskAddr(protocol.AFInet6, 64), Flags: protocol.IN6IFFNoDAD},
		} {
			if err := s[i].AddAddr("en0", a); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d, s
}

// connected are the two ends of a connection from a to an address of b.
func connected(t testing.TB, a, b *client.Stack, address string) (x, y net.Conn) {
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

// Connections through the door are what package net's are, between two daemons
// and within one.
func TestStreamConforms(t *testing.T) {
	_, s := neighbours(t)
	for _, tc := range []struct {
		name    string
		b       *client.Stack
		address string
	}{
		{"wire", s[1], "10.0.0.2:0"}, {"lo0", s[0], "127.0.0.1:0"},
		{"wire over IPv6", s[1], "[2001:db8::2]:0"}, {"link-local", s[1], "[fe80::2%en0]:0"}, {"lo0 over IPv6", s[0], "[::1]:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				x, y := connected(t, s[0], tc.b, tc.address)
				return x, y, func() { x.Close(); y.Close() }, nil
			})
		})
	}
}

// What is written arrives, both ways at once, through two daemons; and nothing
// of it is left in them.
func TestStreamBothWays(t *testing.T) {
	d, s := neighbours(t)
	before := [2]gauges{d[0].measure(), d[1].measure()}
	for _, address := range []string{"10.0.0.2:0", "[2001:db8::2]:0"} {
		x, y := connected(t, s[0], s[1], address)
		streams.BothWays(t, x, y, 64<<20)
		x.Close()
		y.Close()
	}
	for i := range d {
		until(t, "the descriptors are back", func() bool { return d[i].measure().FDs <= before[i].FDs })
	}
}

func TestStreamErrors(t *testing.T) {
	_, s := neighbours(t)
	for _, address := range []string{"10.0.0.2:9", "[2001:db8::2]:9", "[fe80::2%en0]:9", "[fe80::2%2]:9"} {
		if _, err := s[0].Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dialling a port where nobody listens, %s: %v, want ECONNREFUSED", address, err)
		}
	}
	if _, err := s[0].Dial("tcp", "10.2:9"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the same by the short form of its address: %v, want ECONNREFUSED", err)
	}
	x, y := connected(t, s[0], s[1], "10.0.0.2:0")
	defer y.Close()
	if err := x.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	x.Close()
	if _, err := y.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading after the peer has aborted: %v, want ECONNRESET", err)
	}
	l, err := s[1].Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := s[1].Listen("tcp", ":80"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v, want EADDRINUSE", err)
	}
}

// A writer that waits for a peer that reads nothing hears that the peer has
// aborted, also when it has not read itself.
func TestStreamResetUnderWrite(t *testing.T) {
	_, s := neighbours(t)
	x, y := connected(t, s[0], s[1], "10.0.0.2:0")
	defer x.Close()
	y.SetWriteDeadline(time.Now().Add(time.Second))
	if n, err := y.Write(make([]byte, 256<<20)); err == nil {
		t.Fatalf("%d octets were taken of one who does not read", n)
	}
	x.SetWriteDeadline(time.Now().Add(time.Second))
	if n, err := x.Write(make([]byte, 256<<20)); err == nil {
		t.Fatalf("%d octets were taken of one who does not read", n)
	}
	x.SetWriteDeadline(time.Now().Add(20 * time.Second))
	wrote := make(chan error)
	go func() { _, err := x.Write(make([]byte, 1<<20)); wrote <- err }()
	if err := y.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	y.Close()
	if err := <-wrote; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the writer is told %v, want ECONNRESET", err)
	}
}

// A writer whose peer does not read waits, and the daemons hold little of what
// it has written; its deadline ends the wait.
func TestStreamBackpressure(t *testing.T) {
	d, s := neighbours(t)
	x, y := connected(t, s[0], s[1], "10.0.0.2:0")
	defer x.Close()
	defer y.Close()
	x.SetWriteDeadline(time.Now().Add(2 * time.Second))
	n, err := x.Write(make([]byte, 256<<20))
	if e, ok := err.(net.Error); !ok || !e.Timeout() {
		t.Fatalf("%d octets, %v, want a timeout", n, err)
	}
	if h := d[0].measure().Heap + d[1].measure().Heap; h > 64<<20 {
		t.Errorf("the daemons hold %d MiB", h>>20)
	}
	x.SetWriteDeadline(time.Time{})
	go x.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.Copy(io.Discard, y); got != int64(n) || err != nil {
		t.Errorf("%d octets arrived of %d, %v", got, n, err)
	}
}

func TestStreamHTTP(t *testing.T) {
	_, s := neighbours(t)
	l, err := s[1].Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	streams.HTTP(t, l, "http://10.0.0.2/", s[0].DialContext)
	if l, err = s[1].Listen("tcp", ":80"); err != nil {
		t.Fatal(err)
	}
	streams.HTTP(t, l, "http://[2001:db8::2]/", s[0].DialContext)
}

// Clients vanish at every moment: while they connect, accept, write into what
// nobody reads, or have ended one way; some give up the descriptor first, some
// the door. Nothing of them is left.
func TestStreamClientsVanish(t *testing.T) {
	d, s := neighbours(t)
	l, err := s[1].Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				switch i % 3 {
				case 0:
					io.Copy(c, c)
				case 1: // never reads, and leaves
					c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					time.AfterFunc(50*time.Millisecond, func() { c.Close() })
					return
				}
				c.Close()
			})
		}
	})
	before := [2]gauges{d[0].measure(), d[1].measure()}
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			v, err := client.Open(d[0].prefix)
			if err != nil {
				t.Error(err)
				return
			}
			if i%7 == 0 { // in the middle of a connect
				go v.Dial("tcp", "10.0.0.99:80")
				v.Close()
				return
			}
			if i%7 == 1 { // with a listener that somebody has connected to
				if l, err := v.Listen("tcp", fmt.Sprint("10.0.0.1:", 1000+i)); err == nil {
					if c, err := s[1].Dial("tcp", l.Addr().String()); err == nil {
						defer c.Close()
					}
				}
				v.Close()
				return
			}
			c, err := v.Dial("tcp", "10.0.0.2:80")
			if err != nil {
				t.Error(err)
				v.Close()
				return
			}
			c.SetDeadline(time.Now().Add(20 * time.Millisecond * time.Duration(i%5)))
			if i%2 == 0 {
				c.Write(make([]byte, 1<<20))
			}
			if i%3 == 0 {
				c.(interface{ CloseWrite() error }).CloseWrite()
			}
			if i%5 == 0 {
				io.Copy(io.Discard, c)
			}
			if i%4 < 2 {
				c.Close()
			}
			v.Close()
			c.Close()
		})
	}
	wg.Wait()
	for i := range d {
		until(t, "connections, descriptors and goroutines are gone", func() bool {
			rows, err := client.Table[protocol.SocketRow](s[i], protocol.TableSockets, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if r.State != "LISTEN" && r.State != "TIME_WAIT" {
					return false
				}
			}
			g := d[i].measure()
			return g.FDs <= before[i].FDs && g.Goroutines <= before[i].Goroutines
		})
	}
	l.Close()
	served.Wait()
}
