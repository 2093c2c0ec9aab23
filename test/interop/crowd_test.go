package interop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"ionet/client"
	"ionet/driver"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/protocol"
	"ionet/stack"
	"ionet/test/play"
)

// island is a stack in this process, 10.0.0.2, on the daemon's wire: its
// connections cost no descriptors. It sends back what comes to ports 80 and 81.
func island(t *testing.T, segment string) *host.Stack {
	t.Helper()
	h, err := host.New(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	d, err := wire.Open(driver.Options{Args: []driver.Arg{{Name: "path", Value: segment}}})
	if err != nil {
		t.Fatal(err)
	}
	ifp, err := h.Attach(d, driver.Options{Lan: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Engine().AddAddr(ifp, stack.AddrSpec{Addr: netip.MustParseAddr("10.0.0.2"), Bits: 24}); err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{":80", ":81"} {
		l, err := h.Listen("tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
	}
	return h
}

// crowd opens connections until n are there or one is refused, and answers
// them and the refusal.
func crowd(t *testing.T, s *client.Stack, n int) (all []net.Conn, refused error) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for {
				mu.Lock()
				if len(all) >= n || refused != nil {
					mu.Unlock()
					return
				}
				all = append(all, nil)
				k := len(all) - 1
				mu.Unlock()
				c, err := s.Dial("tcp", fmt.Sprint("10.0.0.2:", 80+i%2))
				mu.Lock()
				all[k] = c
				if err != nil && refused == nil {
					refused = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	there := all[:0]
	for _, c := range all {
		if c != nil {
			there = append(there, c)
		}
	}
	return there, refused
}

// answer has every connection send an octet and wait for it.
func answer(t *testing.T, all []net.Conn) {
	t.Helper()
	for i, c := range all {
		c.SetDeadline(time.Now().Add(2 * time.Minute)) // of a busy machine
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatalf("connection %d of %d: %v", i, len(all), err)
		}
	}
	b := make([]byte, 1)
	for i, c := range all {
		if _, err := io.ReadFull(c, b); err != nil || b[0] != byte(i) {
			t.Fatalf("connection %d of %d: %d, %v", i, len(all), b[0], err)
		}
	}
}

// 15,000 connections of one client are open at once and all of them answer.
// Where the daemon's descriptors end the next one is refused, at once and
// counted, the others go on, and what is closed makes room.
func TestCrowd(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Max < 20_000 {
		t.Fatalf("ulimit -Hn is %d, want 20000 at least: %v", limit.Max, err)
	}
	u := play.NewUser(t)
	segment, prefix := filepath.Join(u.Dir, "w"), filepath.Join(u.Dir, "s")
	u.Ionet(prefix, "-d", "wire", "path="+segment, "-p", "tcpip", "prefix="+prefix)
	u = u.At(prefix)
	u.Must("ifconfig", "en0", "10.0.0.1/24")
	s := u.Open()
	island(t, segment)
	before := descriptors(t, s)
	const want = 15_000
	start := time.Now()
	all, err := crowd(t, s, want)
	if err != nil {
		t.Fatalf("%d connections, then %v", len(all), err)
	}
	t.Logf("%d connections in %v", len(all), time.Since(start))
	answer(t, all)

	if limit.Max <= 20_000 { // this process too has no more
		more, err := crowd(t, s, int(limit.Max))
		if !errors.Is(err, syscall.ENFILE) {
			t.Errorf("connection %d: %v, want ENFILE", len(all)+len(more), err)
		}
		all = append(all, more...)
		answer(t, all[len(all)-1000:])
		if n := counter(t, s, "clients", "connections refused"); n == 0 {
			t.Error("the refusal is not counted")
		}
		all[0].Close()
		all = all[1:]
		within(t, "there is room again", func() bool {
			c, err := s.Dial("tcp", "10.0.0.2:80")
			if err == nil {
				all = append(all, c)
			}
			return err == nil
		})
	}
	for _, c := range all {
		c.Close()
	}
	within(t, "the descriptors are back", func() bool { return descriptors(t, s) <= before })
}

// within asks ok again and again, for at most 30 s.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// descriptors is how many the daemon has open.
func descriptors(t *testing.T, s *client.Stack) int {
	t.Helper()
	rows, err := client.Table[protocol.StackInfo](s, protocol.TableStack, "")
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", rows[0].PID))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// counter is a counter of the daemon's stack.
func counter(t *testing.T, s *client.Stack, proto, name string) uint64 {
	t.Helper()
	rows, err := client.Table[protocol.CounterRow](s, protocol.TableCounters, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Proto == proto && r.Name == name {
			return r.Value
		}
	}
	t.Fatalf("no counter %s %s", proto, name)
	return 0
}
