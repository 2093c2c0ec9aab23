package onstack

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A stream socket that the program has made and not used yet is a local stream
// socket that is not connected, and answers as one of TCP would: a read fails, a
// poll says that it has hung up. The first call that needs the stack makes the
// stack's socket, and connects the program's to an end of ours. The program's
// descriptor stays what it is.

// joiner is where sockets of the program are connected to us.
type joiner struct {
	fd   int
	addr unix.Sockaddr
}

// newJoiner makes it, with a name that the kernel chooses (unix(7), autobind).
func newJoiner() (d joiner, err error) {
	d.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return d, err
	}
	err = unix.Bind(d.fd, &unix.SockaddrUnix{})
	if err == nil {
		err = unix.Listen(d.fd, 128)
	}
	if err == nil {
		d.addr, err = unix.Getsockname(d.fd)
	}
	return d, err
}

// join connects fd, a copy of the program's descriptor, and answers our end. One
// caller at a time.
func (d *joiner) join(fd int) (ours int, err error) {
	for {
		if err = unix.Connect(fd, d.addr); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return -1, err
	}
	for {
		ours, _, err = unix.Accept4(d.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return -1, err
		}
		cred, err := unix.GetsockoptUcred(ours, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil && int(cred.Pid) == os.Getpid() {
			return ours, nil
		}
		unix.Close(ours) // a stranger: the name is anybody's
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

// use makes the stack's socket of a stream, and our end.
func (k *sock) use(c *call) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stack() != nil || k.closed {
		return nil
	}
	s, err := k.sv.stack.Socket(k.abi.Type, k.abi.Protocol)
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
// are too many, one is forgotten that is not where it has been seen.
func (sv *supervisor) unused(k *sock) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.fresh = append(sv.fresh, k)
	if len(sv.fresh) <= mostUnused {
		return
	}
	old := sv.fresh[0]
	sv.fresh = sv.fresh[1:]
	if old.stack() != nil || sv.socks[old.ino] != old {
		return
	}
	at := old.seen.Load()
	if ino, _, err := inode(uint32(at>>32), int(int32(at))); err != nil || ino != old.ino {
		delete(sv.socks, old.ino)
		return
	}
	sv.fresh = append(sv.fresh, old)
}
