package interop

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/impair"
	"ionet/driver/netns"
	"ionet/driver/tap"
	"ionet/stack/packet"
	"ionet/test/need"
)

// end is somebody who speaks TCP: a Linux kernel in a namespace, or a stack.
type end interface {
	Dial(network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
}

// kernel is the Linux kernel of a namespace. Its congestion control is CUBIC,
// whatever the machine's is.
type kernel struct{ ns *need.NS }

func cubic(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") }); e != nil {
		return e
	}
	return err
}

// Dial is net.Dial inside.
func (k kernel) Dial(network, address string) (c net.Conn, err error) {
	d := net.Dialer{Timeout: 30 * time.Second, Control: cubic}
	d.SetMultipathTCP(false)
	err = netns.Do(k.ns.Name, func() error {
		c, err = d.Dial(network, address)
		return err
	})
	return c, err
}

// Listen is net.Listen inside.
func (k kernel) Listen(network, address string) (l net.Listener, err error) {
	lc := net.ListenConfig{Control: cubic}
	lc.SetMultipathTCP(false)
	err = netns.Do(k.ns.Name, func() error {
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// address gives the TAP of a kernel the first address of each family, or the
// second, and, so that damaged ARP and the like is no matter, its neighbour's.
func (k kernel) address(dev string, second bool, mac string) {
	k.ns.Exec("ip", "link", "set", dev, "up")
	for _, v := range families {
		own, neighbour := v.one, v.two
		if second {
			own, neighbour = neighbour, own
		}
		k.ns.Exec("ip", "addr", "add", v.prefix(own), "dev", dev, "nodad")
		k.ns.Exec("ip", "neigh", "replace", neighbour, "lladdr", mac, "dev", dev)
	}
}

func (k kernel) mac(t testing.TB, dev string) string {
	t.Helper()
	var i *net.Interface
	if err := netns.Do(k.ns.Name, func() (err error) {
		i, err = net.InterfaceByName(dev)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return i.HardwareAddr.String()
}

// kernels are two kernels, the first and the second of each family, each behind a TAP of its own,
// with an impaired link between them: what the first receives comes out of the
// link, as with a stack that has the impaired driver.
func kernels(t testing.TB, c impair.Config) (a, b kernel) {
	t.Helper()
	need.File(t, "/dev/net/tun")
	a, b = kernel{need.Namespace(t)}, kernel{need.Namespace(t)}
	da, err := impair.New(openTap(t, a), c)
	if err != nil {
		t.Fatal(err)
	}
	relay(t, da, openTap(t, b))
	ma, mb := a.mac(t, "tap0"), b.mac(t, "tap0")
	a.address("tap0", false, mb)
	b.address("tap0", true, ma)
	return a, b
}

// openTap is tap0 of a kernel.
func openTap(t testing.TB, k kernel, more ...driver.Arg) driver.Driver {
	t.Helper()
	args := append([]driver.Arg{{Name: "name", Value: "tap0"}, {Name: "netns", Value: k.ns.Name}}, more...)
	d, err := tap.Open(driver.Options{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// relay passes the frames of each of two devices to the other until the test
// ends.
func relay(t testing.TB, a, b driver.Driver) {
	pool := packet.NewPool(256 << 20)
	ran := make(chan error, 2)
	go func() { ran <- a.Run(cable{pool, b}) }()
	go func() { ran <- b.Run(cable{pool, a}) }()
	t.Cleanup(func() {
		for _, d := range []driver.Driver{a, b} {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}
		if n := pool.Bufs(); n != 0 {
			t.Errorf("the relay has %d buffers left", n)
		}
	})
}

// cable is a driver.Sink that leads to another device.
type cable struct {
	pool *packet.Pool
	to   driver.Driver
}

func (c cable) Pool() *packet.Pool        { return c.pool }
func (c cable) Input(burst []*packet.Buf) { c.to.Transmit(nil, burst) }
func (cable) Receiving()                  {}
func (cable) Dropped(int)                 {}
func (cable) Malformed(int)               {}
func (cable) LinkState(bool)              {}
func (cable) Verbose(string, ...any)      {}

// connect has one end listen and the other connect to it. Both connections end
// with the test.
func connect(t testing.TB, from, to end, address string) (dialled, accepted net.Conn) {
	t.Helper()
	l, err := to.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type answer struct {
		c   net.Conn
		err error
	}
	got := make(chan answer, 1)
	go func() {
		c, err := l.Accept()
		got <- answer{c, err}
	}()
	dialled, err = from.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close() })
	select {
	case a := <-got:
		if a.err != nil {
			t.Fatal(a.err)
		}
		t.Cleanup(func() { a.c.Close() })
		return dialled, a.c
	case <-time.After(time.Minute):
		t.Fatalf("%s connects and %s does not accept", dialled.LocalAddr(), address)
		return nil, nil
	}
}
