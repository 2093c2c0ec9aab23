package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"ionet/client"
)

// skipStreams leaves out the parts of nettest that want a byte stream with an
// end.
func skipStreams() {
	skip := "^TestConn$/./^(BasicIO|PingPong)$"
	if s := flag.Lookup("test.skip").Value.String(); s != "" {
		skip += "|" + s
	}
	_ = flag.Set("test.skip", skip)
}

// TestConn runs nettest's dialogues over two connected UDP sockets.
func TestConn(t *testing.T) {
	s := start(t).open()
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
				a, b, err = pair(s, host)
				if err != nil {
					return nil, nil, nil, err
				}
				return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
			})
		})
	}
}

// pair are two UDP sockets connected with each other.
func pair(s *client.Stack, host string) (a, b net.Conn, err error) {
	any := net.JoinHostPort(host, "0")
	free, err := s.ListenPacket("udp", any)
	if err != nil {
		return nil, nil, err
	}
	to := free.LocalAddr().String()
	if err := free.Close(); err != nil {
		return nil, nil, err
	}
	if a, err = s.DialFrom("udp", any, to); err != nil {
		return nil, nil, err
	}
	if b, err = s.DialFrom("udp", to, a.LocalAddr().String()); err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

func TestPingPong(t *testing.T) {
	a, b, err := pair(start(t).open(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	var echo sync.WaitGroup
	defer echo.Wait()
	defer func() { _ = b.Close() }()
	echo.Go(func() {
		buf := make([]byte, 100)
		for {
			n, err := b.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if _, err := b.Write(buf[:n]); err != nil {
				t.Error(err)
			}
		}
	})
	_ = a.SetDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 100)
	for i := range 1000 {
		want := fmt.Sprint("ping ", i)
		if _, err := a.Write([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if n, err := a.Read(buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("got %q, %v; want %q", buf[:n], err, want)
		}
	}
}

func TestPacketConn(t *testing.T) {
	s := start(t).open()
	a, err := s.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if n := a.LocalAddr().Network(); n != "udp" {
		t.Errorf("network %q", n)
	}
	port := a.LocalAddr().(*net.UDPAddr).Port
	// A net.IP of 16 octets is an IPv4 address too.
	to := &net.UDPAddr{IP: net.ParseIP("127.0.0.1"), Port: port}
	buf := make([]byte, 0x10000)
	for _, size := range []int{0, 1, 1472, 1473, 9000, 9216} {
		if n, err := b.WriteTo(buf[:size], to); n != size || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, size, err)
		}
		n, from, err := a.ReadFrom(buf)
		if err != nil || n != size {
			t.Fatalf("read %d of %d: %v", n, size, err)
		}
		if u := from.(*net.UDPAddr); !u.IP.Equal(net.IPv4(127, 0, 0, 1)) || u.Port != b.LocalAddr().(*net.UDPAddr).Port {
			t.Errorf("from %v, want %v", from, b.LocalAddr())
		}
		if n, err := a.WriteTo([]byte("back"), from); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		if n, _, err := b.ReadFrom(buf[:2]); n != 2 || err != nil { // the rest is cut off
			t.Fatal(n, err)
		}
	}
	if _, err := b.WriteTo(make([]byte, 65508), to); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("65,508 octets: %v, want EMSGSIZE", err)
	}
	if _, err := s.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the same port again: %v", err)
	}
	if _, err := s.ListenPacket("udp", "10.9.8.7:0"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("a foreign address: %v", err)
	}
	for _, network := range []string{"tcp", "udp5", "udp46", "udp:17", "ip4:frob", "ip4:256", "ip6"} {
		if _, err := s.ListenPacket(network, ":0"); err == nil {
			t.Errorf("network %s was taken", network)
		}
	}
	if _, err := b.WriteTo([]byte("x"), &net.UnixAddr{Name: "x"}); err == nil {
		t.Error("sent to a unix address")
	}
}

// TestDeadlines: of those who wait, by now and later, and of writes.
func TestDeadlines(t *testing.T) {
	s := start(t).open()
	a, b, err := pair(s, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	timeout := func(what string, err error) {
		t.Helper()
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%s: %v, want a timeout", what, err)
		}
	}
	got := make(chan error, 1)
	go func() { _, err := a.Read(buf); got <- err }()
	for range 3 { // moved while somebody waits
		if err := a.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	timeout("a waiting read", <-got)
	_ = b.SetDeadline(time.Unix(1, 0))
	_, err = b.Write(buf)
	timeout("write", err)
	_ = b.SetDeadline(time.Time{})
	if _, err := b.Write([]byte("again")); err != nil {
		t.Error(err)
	}
	_, err = a.Read(buf)
	timeout("read past the deadline, though there is something", err)
	_ = a.SetReadDeadline(time.Time{})
	if n, err := a.Read(buf); string(buf[:n]) != "again" {
		t.Error(n, err)
	}
}

func TestCloseUnblocks(t *testing.T) {
	s := start(t).open()
	for range 50 {
		pc, err := s.ListenPacket("udp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		began, again := make(chan error, 4), make(chan struct{})
		for range 4 {
			readers.Go(func() {
				_, _, err := pc.ReadFrom(make([]byte, 10))
				began <- err
				<-again
				if _, _, err := pc.ReadFrom(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
					t.Errorf("read: %v, want net.ErrClosed", err)
				}
			})
		}
		to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: pc.LocalAddr().(*net.UDPAddr).Port}
		for range 4 { // one for each, who then wait for the next
			if _, err := pc.WriteTo([]byte("x"), to); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			if err := <-began; err != nil {
				t.Error(err)
			}
		}
		close(again)
		info(t, s)
		if err := pc.Close(); err != nil {
			t.Error(err)
		}
		readers.Wait()
		if err := pc.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		_, err = pc.WriteTo([]byte("x"), pc.LocalAddr())
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v, want net.ErrClosed", err)
		}
		if err := pc.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("deadline: %v, want net.ErrClosed", err)
		}
	}
	if n := info(t, s).Sockets; n != 0 {
		t.Errorf("%d sockets are left", n)
	}
}

// TestCloseStackUnblocks: the end of the connection is the end of its sockets.
func TestCloseStackUnblocks(t *testing.T) {
	d := start(t)
	s, other := d.open(), d.open()
	pc, err := s.ListenPacket("udp", "127.0.0.1:5353")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { _, _, err := pc.ReadFrom(make([]byte, 1)); got <- err }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v, want net.ErrClosed", err)
	}
	until(t, "the port is free", func() bool {
		pc, err := other.ListenPacket("udp", "127.0.0.1:5353")
		if err == nil {
			_ = pc.Close()
		}
		return err == nil
	})
}

// TestRefused: a connected socket hears of the port that is not there.
func TestRefused(t *testing.T) {
	s := start(t).open()
	c, err := s.Dial("udp", "localhost:9")
	if err != nil {
		t.Fatal(err)
	}
	if a := c.RemoteAddr().String(); a != "127.0.0.1:9" {
		t.Errorf("peer %s", a)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read: %v, want ECONNREFUSED", err)
	}
	if _, err := s.Dial("udp", "10.1.2.3:9"); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("no route: %v", err)
	}
}

// TestPingOverRaw: "ip4:icmp" as ping uses it.
func TestPingOverRaw(t *testing.T) {
	s := start(t).open()
	pc, err := s.ListenPacket("ip4:icmp", "")
	if err != nil {
		t.Fatal(err)
	}
	echo := []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1, 'h', 'i', '!', '!'}
	var sum uint32
	for i := 0; i < len(echo); i += 2 {
		sum += uint32(echo[i])<<8 | uint32(echo[i+1])
	}
	sum = sum>>16 + sum&0xffff
	echo[2], echo[3] = ^byte(sum>>8), ^byte(sum)
	if _, err := pc.WriteTo(echo, &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	_ = pc.SetReadDeadline(time.Now().Add(10 * time.Second))
	for buf := make([]byte, 100); ; {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if buf[0] == 0 && string(buf[8:n]) == "hi!!" && from.String() == "127.0.0.1" {
			return
		}
	}
}
