package interop

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver/impair"
	"ionet/driver/netns"
	"ionet/host"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/socket"
	"ionet/stack/tcp"
)

// netstat is a counter of the kernel's /proc/net/netstat.
func (k kernel) netstat(t *testing.T, name string) (value string) {
	t.Helper()
	var b []byte
	if err := netns.Do(k.ns.Name, func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j, n := range names {
			if n == name {
				return values[j]
			}
		}
	}
	t.Fatalf("the kernel has no counter %s", name)
	return ""
}

// counted is one of the stack's TCP counters.
func counted(h *host.Stack, name string) uint64 {
	for i, c := range mib.Counters() {
		if c.Proto == "tcp" && c.Name == name {
			return h.Engine().Env.MIB.Count(mib.Counter(i))
		}
	}
	panic("no counter " + name)
}

// A kernel gets a cookie of the stack and opens with it, and the stack with one
// of the kernel's.
func TestFastOpen(t *testing.T) { inBoth(t, fastOpen) }

func fastOpen(t *testing.T, v family) {
	h, k := beside(t, impair.Config{})
	k.ns.Exec("sysctl", "-q", "-w", "net.ipv4.tcp_fastopen=3")
	echo := func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 100)
			n, _ := c.Read(b)
			c.Write(b[:n])
			c.Close()
		}
	}

	lc := host.ListenConfig{Stack: h, Control: func(_, _ string, so *socket.Socket) (err error) {
		h.Call(func(w *netif.Work) { err = so.SetOption(w, tcp.LevelTCP, tcp.FastOpen, socket.Value32(16)) })
		return err
	}}
	ours, err := lc.Listen(context.Background(), "tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	go echo(ours)
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1) })
		return err
	}}
	d.SetMultipathTCP(false)
	for i := range 2 {
		var c net.Conn
		if err := netns.Do(k.ns.Name, func() (err error) {
			c, err = d.Dial("tcp", at(v.one, 80))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		exchange(t, i, c)
	}
	if n, p := counted(h, "fast opens accepted"), k.netstat(t, "TCPFastOpenActive"); n != 1 || p != "1" {
		t.Errorf("the stack took %d, the kernel opened %s", n, p)
	}

	theirs := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16) })
		return err
	}}
	theirs.SetMultipathTCP(false)
	var l net.Listener
	if err := netns.Do(k.ns.Name, func() (err error) {
		l, err = theirs.Listen(context.Background(), "tcp", at(v.two, 80))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echo(l)
	for range 2 {
		question(t, h, v, "question")
	}
	if n, p := counted(h, "fast opens"), k.netstat(t, "TCPFastOpenPassive"); n != 1 || p != "1" {
		t.Errorf("the stack opened %d, the kernel took %s", n, p)
	}
}

func exchange(t *testing.T, i int, c net.Conn) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(i, err)
	}
	b := make([]byte, 100)
	if n, err := c.Read(b); string(b[:n]) != "question" {
		t.Fatalf("%d: %q, %v", i, b[:n], err)
	}
}

// question sends q to the kernel by a socket with Fast Open, and waits for the
// same in return.
func question(t *testing.T, h *host.Stack, v family, q string) {
	t.Helper()
	var so *socket.Socket
	ready := make(chan struct{}, 1)
	call := func(f func(w *netif.Work) error) {
		t.Helper()
		var err error
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-ready {
			h.Call(func(w *netif.Work) { err = f(w) })
			if !errors.Is(err, syscall.EWOULDBLOCK) {
				break
			}
		}
		if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
	}
	call(func(w *netif.Work) (err error) {
		if so, err = h.Engine().Socket(w, v.socket(), socket.Stream, 0, socket.Cred{Super: true}); err != nil {
			return err
		}
		so.SetUpcall(func(*netif.Work) {
			select {
			case ready <- struct{}{}:
			default:
			}
		})
		if err := so.SetOption(w, tcp.LevelTCP, tcp.FastOpen, socket.Value32(1)); err != nil {
			return err
		}
		return so.Connect(w, socket.Addr{IP: netip.MustParseAddr(v.two), Port: 80})
	})
	call(func(w *netif.Work) error {
		_, err := so.Send(w, &socket.Msg{Data: []byte(q)})
		return err
	})
	m := socket.Msg{}
	call(func(w *netif.Work) error {
		m = socket.Msg{Data: make([]byte, 100)}
		return so.Recv(w, &m)
	})
	if string(m.Data) != q {
		t.Fatalf("%q", m.Data)
	}
	h.Call(so.Close)
}
