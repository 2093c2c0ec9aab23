package host_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ionet/driver"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// books are the stacks of a test that runs.
var books struct {
	sync.Mutex
	of map[testing.TB][]*host.Stack
}

// balanced has the test look, when all its stacks have been closed, whether
// every buffer of h was given back. Before that a frame of h's may wait at
// another station.
func balanced(t testing.TB, h *host.Stack) {
	books.Lock()
	defer books.Unlock()
	if books.of == nil {
		books.of = map[testing.TB][]*host.Stack{}
	}
	if books.of[t] == nil {
		t.Cleanup(func() {
			books.Lock()
			defer books.Unlock()
			for i, h := range books.of[t] {
				if b := h.Engine().Env.Pool.Bufs(); b != 0 {
					t.Errorf("the test's stack %d: %d packet buffers are not given back", i+1, b)
				}
			}
			delete(books.of, t)
		})
	}
	books.of[t] = append(books.of[t], h)
}

// station brings up a stack on a segment in memory: 10.0.0.n, 2001:db8::n and
// fe80::n.
func station(t testing.TB, seg *wire.Segment, n byte) *host.Stack {
	t.Helper()
	return stationOf(t, seg, n, host.Config{})
}

func stationOf(t testing.TB, seg *wire.Segment, n byte, c host.Config) *host.Stack {
	t.Helper()
	h, err := host.New(c)
	if err != nil {
		t.Fatal(err)
	}
	balanced(t, h)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	ifp, err := h.Attach(seg.Attach(netif.MAC{2, 0, 0, 0, 0, n}, 1500), driver.Options{Lan: -1})
	if err != nil {
		t.Fatal(err)
	}
	specs := []stack.AddrSpec{{Addr: netip.AddrFrom4([4]byte{10, 0, 0, n}), Bits: 8}}
	if !c.V4Only {
		for _, net := range [][4]byte{{0xfe, 0x80}, {0x20, 0x01, 0x0d, 0xb8}} {
			specs = append(specs, stack.AddrSpec{Addr: netip.AddrFrom16([16]byte{0: net[0], 1: net[1], 2: net[2], 3: net[3], 15: n}), Bits: 64, Flags: netif.AddrNoDAD})
		}
	}
	for _, a := range specs {
		if err := h.Engine().AddAddr(ifp, a); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestDatagramsBetweenTwoStacks(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	srv, err := b.ListenPacket("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c, err := a.Dial("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{0, 1, 64, 1472, 1473, 9000} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(want); err != nil {
			t.Fatalf("%d octets: %v", size, err)
		}
		buf := make([]byte, 65536)
		srv.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, from, err := srv.ReadFrom(buf)
		if err != nil {
			t.Fatalf("%d octets: %v", size, err)
		}
		if !bytes.Equal(buf[:n], want) || from.String() != c.LocalAddr().String() {
			t.Fatalf("%d octets: got %d from %v, want them from %v", size, n, from, c.LocalAddr())
		}
		if _, err := srv.WriteTo(buf[:n], from); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(buf); err != nil || n != size {
			t.Fatalf("echo of %d octets: %d, %v", size, n, err)
		}
	}
}

func TestPortUnreachableReachesAConnectedSocket(t *testing.T) {
	seg := wire.NewSegment()
	a := station(t, seg, 1)
	station(t, seg, 2)
	c, err := a.Dial("udp", "10.0.0.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("anybody there?")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("got %v, want ECONNREFUSED", err)
	}
}

func TestDeadlineAndCloseEndARead(t *testing.T) {
	a := station(t, wire.NewSegment(), 1)
	c, err := a.ListenPacket("udp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, _, err := c.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
	c.SetReadDeadline(time.Time{})
	got := make(chan error)
	go func() {
		_, _, err := c.ReadFrom(make([]byte, 1))
		got <- err
	}()
	c.Close()
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("got %v, want net.ErrClosed", err)
	}
}

func TestPingOverTheRawSocket(t *testing.T) {
	seg := wire.NewSegment()
	a := station(t, seg, 1)
	station(t, seg, 2)
	c, err := a.ListenPacket("ip4:icmp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	echo := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}
	if _, err := c.WriteTo(echo, &net.IPAddr{IP: net.IPv4(10, 0, 0, 2)}); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 100)
	n, from, err := c.ReadFrom(buf)
	if err != nil || n != 28 || buf[20] != 0 || from.String() != "10.0.0.2" {
		t.Fatalf("got % x from %v, %v", buf[:n], from, err)
	}
}

func TestCloseOfTheStackEndsARead(t *testing.T) {
	h, err := host.New(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		_, _, err := c.ReadFrom(make([]byte, 1))
		got <- err
	}()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// broken is a driver that panics where method says.
type broken struct {
	method string
	done   chan struct{}
	once   sync.Once
}

func (b *broken) may(method string) {
	if b.method == method {
		panic("oops")
	}
}

func (b *broken) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	packet.FreeBurst(burst)
	b.may("Transmit")
}

func (b *broken) SetFilter(bool, bool, []netif.MAC) { b.may("SetFilter") }

func (b *broken) Info() driver.Info {
	return driver.Info{Family: "en", MAC: netif.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500}
}

func (b *broken) Run(driver.Sink) error { b.may("Run"); <-b.done; return nil }

func (b *broken) Close() error { b.once.Do(func() { close(b.done) }); return nil }

// A driver that panics takes its interface down with a last error; the stack
// lives.
func TestDriverPanics(t *testing.T) {
	for _, method := range []string{"Run", "Transmit", "SetFilter"} {
		t.Run(method, func(t *testing.T) {
			h, err := host.New(host.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			down := make(chan struct{}, 8)
			defer h.Engine().Subscribe(func(e stack.Event) {
				if e.Kind == stack.IfChanged && e.If.Flags()&netif.FlagRunning == 0 {
					down <- struct{}{}
				}
			})()
			ifp, err := h.Attach(&broken{method: method, done: make(chan struct{})}, driver.Options{Lan: -1})
			if err != nil {
				t.Fatal(err)
			}
			// The announcement is a first frame.
			if err := h.Engine().AddAddr(ifp, stack.AddrSpec{Addr: netip.MustParseAddr("10.0.0.1"), Bits: 8}); err != nil {
				t.Fatal(err)
			}
			<-down
			if got := ifp.LastError(); got != "driver panicked: oops" {
				t.Errorf("last error %q", got)
			}
			if err := h.Detach(ifp.Name); err != nil {
				t.Error(err)
			}
		})
	}
}
