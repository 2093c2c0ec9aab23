package outq

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (*net.UnixConn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var c [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if c[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	t.Cleanup(func() { c[0].Close(); c[1].Close() })
	return c[0].(*net.UnixConn), c[1]
}

// TestRecordsStayWhole has several writers fill a socket that nobody reads,
// and reads it only then.
func TestRecordsStayWhole(t *testing.T) {
	near, far := pair(t)
	raw, _ := near.SyscallConn()
	q := New(raw, 1<<20)
	gone := make(chan struct{})
	var drained sync.WaitGroup
	drained.Go(func() {
		if err := q.Drain(gone); err != nil {
			t.Error(err)
		}
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	sent, full := 0, 0
	for w := range 3 {
		wg.Go(func() {
			for i := range 300 {
				n := 2 + (i*7919)%9000
				record := bytes.Repeat([]byte{byte(w)}, n)
				record[0], record[1] = byte(n>>8), byte(n)
				lost, done := 0, false
				if w > 0 {
					lost, done = q.Gather([][]byte{record})
				}
				if !done {
					q.Lock()
					if room := q.Room(n); room != nil {
						copy(room, record)
					} else {
						lost = 1
					}
					q.Unlock()
					q.Flush()
				}
				mu.Lock()
				sent += 1 - lost
				full += lost
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if full == 0 {
		t.Error("the queue has no bound")
	}
	var head [2]byte
	for range sent {
		if _, err := io.ReadFull(far, head[:]); err != nil {
			t.Fatal(err)
		}
		rest := make([]byte, int(head[0])<<8+int(head[1])-2)
		if _, err := io.ReadFull(far, rest); err != nil {
			t.Fatal(err)
		}
		for _, c := range rest {
			if c != rest[0] {
				t.Fatal("two records in one")
			}
		}
	}
	close(gone)
	drained.Wait()
}

func TestForceAndFailure(t *testing.T) {
	near, far := pair(t)
	raw, _ := near.SyscallConn()
	q := New(raw, 10)
	q.Lock()
	if q.Room(11) != nil {
		t.Error("room beyond the bound")
	}
	q.Force([]byte("more than ten octets"))
	q.Unlock()
	q.Flush()
	got := make([]byte, 20)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "more than ten octets" {
		t.Errorf("%q, %v", got, err)
	}
	far.Close()
	q.Lock()
	q.Force([]byte("x"))
	q.Unlock()
	q.Flush()
	if err := q.Drain(nil); err != unix.EPIPE {
		t.Errorf("Drain: %v", err)
	}
	q.Flush() // of no consequence
}
