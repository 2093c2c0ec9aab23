package e2e

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	programs["dials"] = dials
	programs["rebinds"] = rebinds
	programs["interrupted"] = interrupted
}

// dials makes connections without waiting in connect(2), as package net does: it
// hears once, at the edge, that one can be written to, and then asks who its peer
// is.
func dials([]string) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for range 300 {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 10*time.Second)
		if err != nil {
			return err
		}
		in, err := l.Accept()
		if err := errors.Join(err, in.Close(), c.Close()); err != nil {
			return err
		}
	}
	return nil
}

// A program that sees that it is connected is told that it is, whatever it asks
// and however fast.
func TestOnstackConnectsAtTheEdge(t *testing.T) {
	start(t).onstack(0, "dials").well()
}

// rebinds looks for ports that are free, closes the socket that has found one, and
// binds another to it at once.
func rebinds([]string) error {
	for range 200 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr := l.Addr().String()
		l.Close()
		if l, err = net.Listen("tcp4", addr); err != nil {
			return err
		}
		l.Close()
		p, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr = p.LocalAddr().String()
		p.Close()
		if p, err = net.ListenPacket("udp4", addr); err != nil {
			return err
		}
		p.Close()
	}
	return nil
}

// What a program has closed does not hold its address any more when close(2) has
// returned.
func TestOnstackClosedAddressIsFree(t *testing.T) {
	start(t).onstack(0, "rebinds").well()
}

// interrupted binds sockets by a thread that signals take out of its calls all the
// time.
func interrupted([]string) error {
	runtime.LockOSThread()
	stop := make(chan struct{})
	defer close(stop)
	go func(pid, tid int) {
		for {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Microsecond):
				_ = unix.Tgkill(pid, tid, unix.SIGURG) // whose handler has SA_RESTART
			}
		}
	}(unix.Getpid(), unix.Gettid())
	for i := range 2000 {
		fd, e := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
		if e != 0 {
			return e
		}
		to := loopback(0)
		if _, e := call(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&to)), inetLen); e != 0 {
			return fmt.Errorf("bind %d: %w", i, e)
		}
		unix.Close(fd)
	}
	return nil
}

// A call that a signal has interrupted when it was done is not done once more: a
// socket cannot be bound twice.
func TestOnstackInterruptedCallIsDoneOnce(t *testing.T) {
	start(t).onstack(0, "interrupted").well()
}
