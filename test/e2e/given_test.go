package e2e

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// A client that has kept the end of the pair that it has brought, and has it wait
// again, stops nobody: neither an empty pair nor a full one.
func TestGivenDescriptorWaits(t *testing.T) {
	d := start(t)
	s, other := d.open(), d.open()
	l, err := other.Listen("tcp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	const n = 40 // more than there are workers
	var theirs []int
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		k, err := s.Socket(protocol.SockStream, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.ConnectData(context.Background(), inet("127.0.0.1:7000"), fds[1], 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fds[1], false); err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, fds[0])
	}
	for i, fd := range theirs {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte("down")); err != nil { // the worker reads it, and looks for more
			t.Fatal(i, err)
		}
		go func() {
			defer c.Close()
			b := make([]byte, 64<<10)
			for range 32 { // more than the pair holds, and nobody reads
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}()
	}
	pc, err := other.ListenPacket("udp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	c, err := other.Dial("udp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		exchange(t, c, pc, "hello "+itoa(i))
	}
	// Those that were called in for the rush leave.
	until(t, "no worker waits", func() bool { return info(t, other).Workers < n })
}

// A request to connect says no more of its pair than a pair can hold.
func TestGivenFiller(t *testing.T) {
	s := start(t).open()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	k, err := s.Socket(protocol.SockStream, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.ConnectData(context.Background(), inet("127.0.0.1:7000"), fds[1], 1<<30); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
}
