// Package tap is a Linux TAP interface: the stack on one side, the kernel of
// the interface's network namespace on the other. The kernel's side is brought
// up and given its addresses by whoever runs that namespace.
package tap

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/frames"
	"ionet/driver/netns"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	device     = "/dev/net/tun"
	defaultMTU = 1500
	maxMTU     = 65535
	maxQueues  = 16
)

// Tap is one TAP interface.
type Tap struct {
	opt    driver.Options
	name   string // the kernel's
	mac    netif.MAC
	caps   netif.Caps
	plain  bool // offload=off
	queues []*frames.Conn
}

// Open makes the interface that option name names, or one that the kernel
// names, or attaches to the one that "ip tuntap add" has made. Option queues
// asks for several queues, option netns for another network namespace; with
// offload=off frames are whole and none is larger than the MTU.
func Open(o driver.Options) (driver.Driver, error) {
	if err := o.Unknown("tap", "name", "queues", "netns", "offload"); err != nil {
		return nil, err
	}
	t := &Tap{opt: o, mac: o.MAC}
	if t.mac == (netif.MAC{}) {
		t.mac = driver.StableMAC(o.Seed, max(o.Lan, 0), 0)
	}
	t.name, _ = o.Get("name")
	if len(t.name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("driver tap: name=%s: want at most %d octets", t.name, unix.IFNAMSIZ-1)
	}
	queues := 1
	if v, ok := o.Get("queues"); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxQueues {
			return nil, fmt.Errorf("driver tap: queues=%s: want a number from 1 to %d", v, maxQueues)
		}
		queues = n
	}
	if v, ok := o.Get("offload"); ok {
		if v != "on" && v != "off" {
			return nil, fmt.Errorf("driver tap: offload=%s: want on or off", v)
		}
		t.plain = v == "off"
	}
	ns, _ := o.Get("netns")
	err := netns.Do(ns, func() error {
		for range queues {
			if err := t.attach(queues > 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("driver tap: %w", err)
	}
	return t, nil
}

// attach adds a queue.
func (t *Tap) attach(multi bool) error {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s: %w; the kernel's tun driver is missing (modprobe tun, or in a container --device %s)", device, err, device)
	case err != nil:
		return fmt.Errorf("%s: %w; its mode must let this user read and write it", device, err)
	}
	c, err := t.setup(fd, multi)
	if err != nil {
		unix.Close(fd)
		return err
	}
	conn, err := frames.New(c, device, true)
	if err != nil {
		return err
	}
	if t.caps&(netif.CapCsum|netif.CapTSO4|netif.CapTSO6) == netif.CapCsum|netif.CapTSO4|netif.CapTSO6 {
		conn.Join(t.caps&netif.CapUSO != 0)
	}
	t.queues = append(t.queues, conn)
	return nil
}

func (t *Tap) setup(fd int, multi bool) (int, error) {
	ifr, err := unix.NewIfreq(t.name)
	if err != nil {
		return fd, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fd, t.explain(err)
	}
	t.name = ifr.Name()
	for _, o := range []struct {
		flags uint
		caps  netif.Caps
	}{
		{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6,
			netif.CapCsum | netif.CapTSO4 | netif.CapTSO6 | netif.CapUSO},
		{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, netif.CapCsum | netif.CapTSO4 | netif.CapTSO6},
		{unix.TUN_F_CSUM, netif.CapCsum},
		{0, 0},
	} {
		if t.plain && o.flags != 0 {
			continue
		}
		if t.caps = o.caps; unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, int(o.flags)) == nil {
			break
		}
	}
	return fd, nil
}

// explain says what would be right.
func (t *Tap) explain(err error) error {
	name := t.name
	if name == "" {
		name = "a new interface"
	}
	switch err {
	case unix.EPERM:
		return fmt.Errorf("%s: %w; it takes CAP_NET_ADMIN in the network namespace, or root makes it beforehand: ip tuntap add dev NAME mode tap vnet_hdr user USER", name, err)
	case unix.EBUSY:
		return fmt.Errorf("%s: %w; another process has it, choose another name=", name, err)
	case unix.EINVAL:
		return fmt.Errorf("%s: %w; it is there and no TAP interface of this many queues, choose another name=", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Transmit writes a burst. Frames of one flow keep to one queue.
func (t *Tap) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	if len(t.queues) == 1 {
		t.queues[0].Send(ifp, burst)
		return
	}
	for i := 0; i < len(burst); {
		q := t.queue(burst[i])
		j := i + 1
		for j < len(burst) && t.queue(burst[j]) == q {
			j++
		}
		t.queues[q].Send(ifp, burst[i:j])
		i = j
	}
}

// queue chooses by the octets where IPv4 has addresses and ports, and IPv6
// addresses.
func (t *Tap) queue(b *packet.Buf) int {
	h := uint32(0)
	if f := b.Bytes(); len(f) >= 38 {
		for _, c := range f[26:38] {
			h = h*31 + uint32(c)
		}
	}
	return int(h % uint32(len(t.queues)))
}

// Info says what the kernel calls the other side.
func (t *Tap) Info() driver.Info {
	i := driver.Info{
		Family: "en", Description: "TAP " + t.name, MAC: t.mac,
		MTU: defaultMTU, MaxMTU: maxMTU, Caps: t.caps | netif.CapVLANMTU,
		Details: []driver.Detail{
			{Name: "Host Interface", Value: t.name},
			{Name: "Queues", Value: strconv.Itoa(len(t.queues))},
		},
	}
	if t.opt.MTU != 0 {
		i.MTU = t.opt.MTU
	}
	return i
}

// Run receives until Close.
func (t *Tap) Run(sink driver.Sink) error {
	sink.LinkState(true)
	errs := make([]error, len(t.queues))
	var wg sync.WaitGroup
	for i, q := range t.queues {
		wg.Go(func() {
			errs[i] = driver.Guard(func() error { return q.Receive(sink, func(error) bool { return false }) })
			if errs[i] != nil {
				_ = t.Close() // one queue failing ends the others
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); errors.Is(err, unix.EBADFD) {
		return fmt.Errorf("driver tap: the interface %s has gone", t.name)
	} else if err != nil {
		return fmt.Errorf("driver tap: %s: %w", t.name, err)
	}
	return nil
}

// Close gives the interface back: the kernel removes it unless it is a
// persistent one.
func (t *Tap) Close() error {
	var errs []error
	for _, q := range t.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}
