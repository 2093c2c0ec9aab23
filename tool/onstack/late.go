package onstack

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A stream socket that the program has made and not used yet is a local stream
// socket that is not connected, and answers as one of TCP would: a read fails, a
// poll says that it has hung up. The first call that needs the stack makes the
// stack's socket, and connects the program's to an end of ours. The program's
// descriptor stays what it is.

// joiner is where sockets of the program are connected to us: a listener whose
// name is gone as soon as it has one, so that nobody else can stand in its queue.
// We reach it by a descriptor of the name's file.
type joiner struct {
	fd   int
	addr unix.Sockaddr
}

// newJoiner makes it.
func newJoiner() (d joiner, err error) {
	dir, err := os.MkdirTemp("", "onstack") // of mode 0700
	if err != nil {
		return d, fmt.Errorf("no place for a socket, which TMPDIR may name: %w", err)
	}
	defer os.RemoveAll(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return d, err
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return d, err
	}
	defer unix.Close(at)
	path := descriptorPath(at) + "/s" // dir may be too long for a name
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		return d, err
	}
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	return joiner{fd, &unix.SockaddrUnix{Name: descriptorPath(file)}}, err
}

func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// join connects fd, a copy of the program's descriptor, and answers our end. One
// caller at a time.
func (d *joiner) join(fd int) (ours int, err error) {
	err = again(func() error { return unix.Connect(fd, d.addr) })
	if err != nil {
		return -1, err
	}
	err = again(func() (err error) {
		ours, _, err = unix.Accept4(d.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err
	})
	return ours, err
}

// again calls f until no signal comes in between.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// alone makes the program's socket of a stream.
func (k *sock) alone(nonblock bool) (theirs int, err error) {
	flags := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if nonblock {
		flags |= unix.SOCK_NONBLOCK
	}
	theirs, err = unix.Socket(unix.AF_UNIX, flags, 0)
	if err != nil {
		return -1, err
	}
	k.ours = -1
	if err := k.sv.enter(k, theirs); err != nil {
		unix.Close(theirs)
		return -1, err
	}
	k.sv.unused(k)
	return theirs, nil
}

// uses reports whether the call needs the stack's socket whatever becomes of it:
// the others fail on a socket that is not used yet, or, like getsockopt, know
// better.
func (c *call) uses() bool {
	switch c.nr {
	case unix.SYS_BIND, unix.SYS_CONNECT, unix.SYS_LISTEN, unix.SYS_SETSOCKOPT:
		return true
	}
	return false
}

// use makes the stack's socket of a stream, and our end, unless they are there.
// EBADF: the program has closed it.
func (k *sock) use(c *call) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return unix.EBADF
	case k.stack() != nil:
		return nil
	}
	s, err := k.make()
	if err != nil {
		return err
	}
	fd, err := c.descriptor(k)
	if err == nil {
		k.sv.joining.Lock()
		k.ours, err = k.sv.joiner.join(fd)
		k.sv.joining.Unlock()
		unix.Close(fd)
	}
	if err == nil {
		err = k.sv.watch.add(k.ours, 0, k.hungUp)
	}
	if err != nil {
		_ = s.Close()
		return err
	}
	k.own.Store(s)
	return nil
}

// mostUnused is how many sockets are remembered that the program has made, and
// not used, and may have closed since.
const mostUnused = 1 << 16

// unused notes one. Nobody hears of it when the program closes it: when there
// are too many, two of the oldest are looked at for each that comes, and one that
// is not where it has been seen is forgotten.
func (sv *supervisor) unused(k *sock) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.fresh = append(sv.fresh, k)
	for i := 0; i < 2 && len(sv.fresh) > mostUnused; i++ {
		old := sv.fresh[0]
		sv.fresh = sv.fresh[1:]
		if old.stack() != nil || sv.socks[old.ino] != old {
			continue
		}
		at := old.seen.Load()
		if ino, _, err := inode(uint32(at>>32), int(int32(at))); err != nil || ino != old.ino {
			delete(sv.socks, old.ino)
			continue
		}
		sv.fresh = append(sv.fresh, old)
	}
}
