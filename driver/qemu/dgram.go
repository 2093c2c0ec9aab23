package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/frames"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Dgram is a device on a datagram socket: a frame is a datagram.
type Dgram struct {
	opt           driver.Options
	local, remote address
	conn          *frames.Conn
	unlink        sync.Once
	peer          *peer // what sends to a path; nil: conn does, connected
}

func openDgram(o driver.Options, local, remote address) (driver.Driver, error) {
	if local.unix() != remote.unix() {
		return nil, fmt.Errorf("listen=%s and connect=%s must both be paths or both host:port", local, remote)
	}
	d := &Dgram{opt: o, local: local, remote: remote}
	if remote.unix() {
		d.peer = newPeer(remote.text)
	}
	fd, err := d.socket()
	if err != nil {
		return nil, err
	}
	// Best effort: the kernel caps them at net.core.rmem_max and wmem_max.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	if d.conn, err = frames.New(fd, "datagrams to "+remote.text, false); err != nil {
		return nil, err
	}
	return d, nil
}

// socket binds here and, over IP, connects there, so that the kernel takes
// datagrams from nobody else. A path can be connected to only when somebody
// is there already, so there another socket sends, when it finds the peer; the
// folder's mode says who may send to us.
func (d *Dgram) socket() (fd int, err error) {
	family, local, remote := unix.AF_UNIX, unix.Sockaddr(nil), unix.Sockaddr(nil)
	if d.local.unix() {
		local = &unix.SockaddrUnix{Name: d.local.text}
	} else if family, local, remote, err = resolve(d.local.text, d.remote.text); err != nil {
		return -1, err
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.Bind(fd, local)
	if err == unix.EADDRINUSE && d.local.unix() && d.dead() {
		_ = os.Remove(d.local.text)
		err = unix.Bind(fd, local)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen=%s: %w", d.local, err)
	}
	if remote != nil {
		if err := unix.Connect(fd, remote); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("connect=%s: %w", d.remote, err)
		}
	}
	return fd, nil
}

// dead reports whether nobody is bound to our path any more.
func (d *Dgram) dead() bool {
	c, err := net.Dial(d.local.network, d.local.text)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

func resolve(local, remote string) (family int, l, r unix.Sockaddr, err error) {
	la, err := net.ResolveUDPAddr("udp", local)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("listen=%s: %w", local, err)
	}
	ra, err := net.ResolveUDPAddr("udp", remote)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("connect=%s: %w", remote, err)
	}
	l4, r4 := la.IP.To4(), ra.IP.To4()
	switch {
	case l4 != nil && r4 != nil:
		return unix.AF_INET, &unix.SockaddrInet4{Port: la.Port, Addr: [4]byte(l4)}, &unix.SockaddrInet4{Port: ra.Port, Addr: [4]byte(r4)}, nil
	case l4 == nil && r4 == nil:
		return unix.AF_INET6, &unix.SockaddrInet6{Port: la.Port, Addr: [16]byte(la.IP.To16())}, &unix.SockaddrInet6{Port: ra.Port, Addr: [16]byte(ra.IP.To16())}, nil
	}
	return 0, nil, nil, fmt.Errorf("listen=%s and connect=%s are of different IP versions", local, remote)
}

// Info tells both addresses.
func (d *Dgram) Info() driver.Info {
	return driver.Info{
		Family: "en", Description: "QEMU datagram socket", MAC: d.opt.MAC, MTU: d.opt.MTU, MaxMTU: maxMTU, Caps: netif.CapVLANMTU,
		Details: []driver.Detail{{Name: "Local Socket", Value: d.local.text}, {Name: "Remote Socket", Value: d.remote.text}},
	}
}

// Transmit sends a burst. What a peer at a path does not take at once waits
// for it, up to a bound; over IP the kernel's own queue is enough.
func (d *Dgram) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	if d.peer != nil {
		d.peer.send(ifp, burst)
	} else {
		d.conn.Send(ifp, burst)
	}
}

// Run receives until Close. A peer that is not there is no error: it may come.
func (d *Dgram) Run(sink driver.Sink) error {
	if d.peer != nil {
		var wg sync.WaitGroup
		wg.Go(func() {
			if driver.Guard(func() error { d.peer.drain(); return nil }) != nil {
				_ = d.Close()
			}
		})
		defer wg.Wait()
		defer d.peer.close()
	}
	sink.LinkState(true)
	return d.conn.Receive(sink, func(err error) bool { return err == unix.ECONNREFUSED })
}

// Close unbinds the socket and removes its file.
func (d *Dgram) Close() error {
	if d.peer != nil {
		d.peer.close()
	}
	err := d.conn.Close()
	if d.local.unix() {
		d.unlink.Do(func() { _ = os.Remove(d.local.text) })
	}
	return err
}
