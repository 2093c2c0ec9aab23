package stackd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
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

// TestShortConnectionsLeaveNothing: of many connections through one client,
// each of which ends by itself when both have closed it, neither side keeps
// anything.
func TestShortConnectionsLeaveNothing(t *testing.T) {
	d := daemonFor(t)
	s := open(t, d)
	for name, v := range map[string]string{"net.inet.tcp.maxtimewait": "0", "net.inet.ip.anonportmin": "1024"} {
		if _, err := s.SetSysctl(name, v); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	for range dialers {
		server.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, "hello")
				c.Close()
			}
		})
	}
	connect := func(n int) {
		t.Helper()
		enough := time.Now().Add(15 * time.Second) // on a machine that is busy or looks for races
		var left atomic.Int64
		left.Store(int64(n))
		var clients sync.WaitGroup
		for range dialers {
			clients.Go(func() {
				for left.Add(-1) >= 0 && time.Now().Before(enough) {
					if err := greeted(s, l.Addr().String()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
		eventually(t, "all but the listener has gone", func() bool {
			return kept(d) == 1 && d.eng.Engine().Sockets() == 1
		})
	}
	connect(1000) // the pools are as full as they get
	before := measured(d)
	connect(20000)
	after := measured(d)
	if after.heap > before.heap+1<<20 {
		t.Errorf("%d octets of heap, before %d", after.heap, before.heap)
	}
	if after.pool != before.pool || after.files > before.files || after.goroutines > before.goroutines+int(d.srv.high) {
		t.Errorf("%+v, before %+v", after, before)
	}
	l.Close()
	server.Wait()
}

// dialers is how many connections there are at once.
const dialers = 4

// greeted is a short connection: a word, and the end.
func greeted(s *client.Stack, addr string) error {
	c, err := s.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(c)
	if err == nil && string(b) != "hello" {
		err = fmt.Errorf("the greeting is %q", b)
	}
	return err
}

// held is what this process, client and daemon in one, has.
type held struct {
	heap, files, goroutines int
	pool                    int64
}

func measured(d *daemon) held {
	runtime.GC() // twice: what a sync.Pool has goes at the second
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	files, _ := os.ReadDir("/proc/self/fd")
	return held{int(mem.HeapAlloc), len(files), goroutines(), d.eng.Engine().Env.Pool.InUse()}
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
