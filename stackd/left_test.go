package stackd

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
)

// kept is how many sockets the daemon keeps for its clients, those whose
// connection has failed among them.
func kept(d *daemon) (n int) {
	d.srv.mu.Lock()
	defer d.srv.mu.Unlock()
	for c := range d.srv.conns {
		c.own.Lock()
		n += len(c.socks)
		c.own.Unlock()
	}
	return n
}

// TestResetConnectionsLeaveNothing: a client that closes connections which
// have been reset, and asks of none how it ended, lets go of all of them,
// whenever the reset comes.
func TestResetConnectionsLeaveNothing(t *testing.T) {
	d := daemonFor(t)
	s := open(t, d)
	l, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range 100 {
		x, err := s.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		y, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		x.SetDeadline(time.Now().Add(20 * time.Second))
		if err := y.(*client.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0: // the reset has been seen, as the end of the descriptor, and nobody has asked
			y.Close()
			eventually(t, "the reset is there", func() bool { return hangsUp(t, x) })
			if n := kept(d); n != 2 {
				t.Fatalf("%d sockets are kept, want the listener and the one that has failed", n)
			}
		case 1: // it comes while the client closes
			var both sync.WaitGroup
			both.Go(func() { y.Close() })
			both.Go(func() { x.Close() })
			both.Wait()
		case 2: // it has been asked for
			y.Close()
			if _, err := x.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Fatal(err)
			}
		}
		if err := x.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		eventually(t, "all but the listener has gone", func() bool { return kept(d) == 1 })
	}
	// The answers to what was posted have confused nobody.
	if _, err := s.Sysctl("kern.ostype"); err != nil || s.Err() != nil {
		t.Error(err, s.Err())
	}
}

// hangsUp reports that the stack has closed its end of the descriptor.
func hangsUp(t *testing.T, c net.Conn) (yes bool) {
	raw, err := c.(*client.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		unix.Poll(p, 0)
		yes = p[0].Revents&unix.POLLHUP != 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return yes
}
