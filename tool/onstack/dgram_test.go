package onstack

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// conn is fd, which it takes over, as a connection.
func conn(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "pair")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UnixConn)
}

// seqpacket is a pair of messages; one end of it as a connection.
func seqpacket(t *testing.T) (ours *net.UnixConn, theirs int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	return conn(t, fds[0]), fds[1]
}

// message reads one with what its file says.
func message(t *testing.T, fd int) (data string, note []byte) {
	t.Helper()
	b, rights := make([]byte, 100), make([]byte, 64)
	n, rn, _, _, err := unix.Recvmsg(fd, b, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), readNote(rights[:rn])
}

func TestPutWithNote(t *testing.T) {
	ours, theirs := seqpacket(t)
	var files notes
	defer files.clear()
	for _, m := range []struct{ data, note string }{{"a", "from here"}, {"b", ""}, {"", "of nothing"}, {"c", "from here"}} {
		var note []byte
		if m.note != "" {
			note = []byte(m.note)
		}
		if err := put(ours, []byte(m.data), note, &files, true); err != nil {
			t.Fatal(err)
		}
		if data, got := message(t, theirs); data != m.data || !bytes.Equal(got, note) {
			t.Errorf("%q %q, not %q %q", data, got, m.data, m.note)
		}
	}
	if len(files) != 2 {
		t.Errorf("%d files", len(files))
	}
}

// A pair that nobody reads is full at some time, and takes more when there is room.
func TestPutFull(t *testing.T) {
	ours, theirs := seqpacket(t)
	n := 0
	for ; ; n++ {
		if err := put(ours, make([]byte, 100), nil, nil, false); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil || n > 1e5 {
			t.Fatal(n, err)
		}
	}
	done := make(chan error)
	go func() { done <- put(ours, []byte("last"), nil, nil, true) }()
	for range n {
		message(t, theirs)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if data, _ := message(t, theirs); data != "last" {
		t.Error(data)
	}
	unix.Close(theirs)
	if err := put(ours, []byte("x"), nil, nil, true); !errors.Is(err, unix.EPIPE) {
		t.Errorf("nobody is there: %v", err)
	}
}

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestNotesAreBounded(t *testing.T) {
	before := descriptors(t)
	var files notes
	for i := range 5*mostNotes + 3 {
		if _, err := files.file([]byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		if len(files) > mostNotes {
			t.Fatalf("%d notes", len(files))
		}
	}
	files.clear()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

// Descriptors that a program sends down a pair stay nowhere.
func TestDropRights(t *testing.T) {
	ours, theirs := seqpacket(t)
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	for range 3 {
		if err := unix.Sendmsg(theirs, []byte("x"), unix.UnixRights(0, 1, 2), nil, 0); err != nil {
			t.Fatal(err)
		}
		_ = raw.Read(func(fd uintptr) bool {
			b, control := make([]byte, 10), make([]byte, 256)
			_, cn, _, _, err := unix.Recvmsg(int(fd), b, control, unix.MSG_CMSG_CLOEXEC)
			if err != nil {
				t.Error(err)
			}
			dropRights(control[:cn])
			dropRights(control[:cn/2]) // and what is none
			return true
		})
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func writable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, _ = unix.Poll(p, 0)
	return p[0].Revents&unix.POLLOUT != 0
}

// A stream is kept from being writable, and is again when that has been taken out.
func TestFill(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 100000, 1 << 20} {
		theirs, ours := pair(t, unix.SOCK_STREAM)
		if size > 0 {
			if err := unix.SetsockoptInt(theirs, unix.SOL_SOCKET, unix.SO_SNDBUF, size); err != nil {
				t.Fatal(err)
			}
		}
		n := fill(theirs)
		if n == 0 || writable(theirs) {
			t.Errorf("buffer of %d: %d octets do not fill it", size, n)
		}
		got := 0
		for b := make([]byte, 1<<16); ; {
			m, err := unix.Read(ours, b)
			if err != nil {
				break
			}
			got += m
		}
		if got != n || !writable(theirs) {
			t.Errorf("buffer of %d: %d octets came out of %d, writable: %v", size, got, n, writable(theirs))
		}
		fill(theirs)
		if drain(ours); !writable(theirs) {
			t.Errorf("buffer of %d: not drained", size)
		}
	}
}
