// Package door is where a stack is found: the paths below $SOCK, the sockets
// that listen there, the order in which tools look, and the register of live
// stacks.
package door

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is the path of a family's door below a prefix ("" is the root):
// /alt/dev/socket/2.
func Socket(prefix string, family int) string {
	return Path(prefix, "dev/socket/"+strconv.Itoa(family))
}

// Path is name below prefix.
func Path(prefix, name string) string {
	return strings.TrimRight(prefix, "/") + "/" + strings.TrimLeft(name, "/")
}

// sunPathMax is what fits into sockaddr_un.sun_path with its final zero.
const sunPathMax = 107

// short answers a name for path that fits into a sockaddr_un. A long one is
// reached through a descriptor of its folder, which release closes.
func short(path string) (name string, release func(), err error) {
	if len(path) <= sunPathMax {
		return path, func() {}, nil
	}
	dir, base := filepath.Split(path)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	release = func() { _ = unix.Close(fd) }
	name = fmt.Sprintf("/proc/self/fd/%d/%s", fd, base)
	if len(name) > sunPathMax {
		release()
		return "", nil, fmt.Errorf("the prefix of %s is too long for a unix socket (108 octets)", path)
	}
	if _, err := os.Stat(filepath.Dir(name)); err != nil {
		release()
		return "", nil, fmt.Errorf("the prefix of %s is too long for a unix socket (108 octets), and there is no /proc to go round", path)
	}
	return name, release, nil
}

// Dial connects to the socket at path. A full backlog (EAGAIN) is tried again
// for up to 5 s.
func Dial(path string) (*net.UnixConn, error) {
	name, release, err := short(path)
	if err != nil {
		return nil, err
	}
	defer release()
	wait := time.Millisecond
	for deadline := time.Now().Add(5 * time.Second); ; {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
		if err == nil || !errors.Is(err, syscall.EAGAIN) || time.Now().After(deadline) {
			return c, err
		}
		time.Sleep(wait)
		wait = min(2*wait, 50*time.Millisecond)
	}
}

// Listener is a listening door; Close removes its file.
type Listener struct {
	*net.UnixListener
	path string
}

// Close stops listening and removes the file.
func (l *Listener) Close() error {
	err := os.Remove(l.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(l.UnixListener.Close(), err)
}

// Path is the listener's file.
func (l *Listener) Path() string { return l.path }

// Listen makes the socket name ("dev/socket/2") below prefix, with its
// folders, of mode 0666 as QNX has it. A file that nobody listens on any more
// is replaced; where somebody does, the error is EADDRINUSE.
func Listen(prefix, name string) (*Listener, error) {
	path := Path(prefix, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	switch c, err := Dial(path); {
	case err == nil:
		_ = c.Close()
		return nil, fmt.Errorf("a stack listens on %s already: %w", path, syscall.EADDRINUSE)
	case errors.Is(err, syscall.ECONNREFUSED):
		if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	short, release, err := short(path)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: short, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, (&Listener{l, path}).Close())
	}
	return &Listener{l, path}, nil
}

// Peer is who is at the other end of c (SO_PEERCRED).
func Peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, credErr
}
