package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"ionet/test/need"
)

// Nic is where a network card of a machine leads. The cards are eth0, eth1 and so on.
type Nic struct {
	netdev string
	file   *os.File // the descriptor that netdev calls by its number
	err    error
}

// TAP is an interface of that name in ns, which is there as long as the machine is.
// It has to be set up, and may be put into a bridge.
func TAP(ns *need.NS, name string) Nic {
	f, err := openTAP(ns.Name, name)
	return Nic{netdev: "tap,fd=%d", file: f, err: err}
}

// Stream is the socket at which a stack listens: io-net -dqemu listen=PATH.
func Stream(path string) Nic {
	return Nic{netdev: "stream,server=off,addr.type=unix,addr.path=" + path}
}

// Dgram is a pair of datagram sockets, a frame a datagram: the machine's own, which
// it makes, and the other side's (io-net -dqemu type=dgram,listen=REMOTE,connect=LOCAL).
func Dgram(local, remote string) Nic {
	return Nic{netdev: "dgram,local.type=unix,local.path=" + local + ",remote.type=unix,remote.path=" + remote}
}

// openTAP makes a TAP in a network namespace.
func openTAP(ns, name string) (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	answer := make(chan made)
	go func() {
		runtime.LockOSThread()
		f, back, err := openTAPThere(ns, name)
		if back {
			runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
		answer <- made{f, err}
	}()
	m := <-answer
	return m.f, m.err
}

// openTAPThere takes the thread into the namespace, and says whether it is back.
func openTAPThere(ns, name string) (f *os.File, back bool, err error) {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, true, err
	}
	defer here.Close()
	there, err := os.Open(filepath.Join("/run/netns", ns))
	if err != nil {
		return nil, true, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, true, fmt.Errorf("setns %s: %w", ns, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	back = unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil
	if err != nil {
		return nil, back, fmt.Errorf("/dev/net/tun: %w", err)
	}
	// The descriptor belongs to the namespace in which it was opened.
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, back, fmt.Errorf("TAP %s in %s: %w", name, ns, err)
	}
	return os.NewFile(uintptr(fd), name), back, nil
}
