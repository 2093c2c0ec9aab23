package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ionet/stack/netif"
)

// lockTime bounds the wait for another member that is joining.
const lockTime = 5 * time.Second

// segment is the folder in which the members listen. A member's socket is
// named by its link address, 12 hexadecimal digits.
type segment struct {
	path string // absolute
	dir  *os.File
	own  bool // the user's own: private, and removed by the last to leave
}

// userSegment is the folder of the user's own segment n.
func userSegment(user string, n int) string {
	return filepath.Join(user, "segment", strconv.Itoa(n))
}

// openSegment opens the folder, which is made when it is missing.
func openSegment(path string, own bool) (*segment, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("segment folder: %w", err)
	}
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("segment folder: %w", err)
	}
	return &segment{path: path, dir: dir, own: own}, nil
}

// private checks that a folder belongs to this user and is closed to others.
func private(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	switch uid := uint32(os.Geteuid()); {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is no folder", path)
	case st.Uid != uid:
		return fmt.Errorf("%s belongs to user %d, not to user %d who runs this", path, st.Uid, uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s has mode %#o; a user's own folder must be closed to others (chmod 700)", path, st.Mode&0o777)
	}
	return nil
}

// lock keeps other members from joining or leaving meanwhile, so that of any
// two members the later one finds the earlier one. It reports whether the
// folder is still there under its name.
func (s *segment) lock() (linked bool, err error) {
	fd := int(s.dir.Fd())
	for end := time.Now().Add(lockTime); ; {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return false, fmt.Errorf("segment %s: lock: %w", s.path, err)
		}
		if time.Now().After(end) {
			return false, fmt.Errorf("segment %s: somebody else has been joining for %v", s.path, lockTime)
		}
		time.Sleep(2 * time.Millisecond)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	return st.Nlink > 0, nil
}

func (s *segment) unlock() { _ = unix.Flock(int(s.dir.Fd()), unix.LOCK_UN) }

// address is where the member called name listens. A path that does not fit
// sun_path is reached through the descriptor of the folder.
func (s *segment) address(name string) *net.UnixAddr {
	path := filepath.Join(s.path, name)
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		path = fmt.Sprintf("/proc/self/fd/%d/%s", s.dir.Fd(), name)
	}
	return &net.UnixAddr{Name: path, Net: "unix"}
}

// names are the members' names in order, dead ones too.
func (s *segment) names() ([]string, error) {
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return nil, fmt.Errorf("segment folder: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, err := parseName(e.Name()); err == nil && e.Type()&fs.ModeSocket != 0 {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

func (s *segment) remove(name string) { _ = unix.Unlinkat(int(s.dir.Fd()), name, 0) }

// dial connects to a member. A dead one's name is removed; conn is nil then.
func (s *segment) dial(name string) (*net.UnixConn, error) {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.Dial("unix", s.address(name).Name)
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		s.remove(name)
		return nil, nil
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("segment %s: member %s: %w", s.path, name, err)
	}
	return conn.(*net.UnixConn), nil
}

// listen binds a name of our own; a dead member's is taken over.
func (s *segment) listen(name string) (*net.UnixListener, error) {
	ln, err := net.ListenUnix("unix", s.address(name))
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", s.path, err)
	}
	ln.SetUnlinkOnClose(false) // leave does it, by the descriptor of the folder
	return ln, nil
}

// leave removes our name, and the user's own folder when nobody is left in it.
func (s *segment) leave(name string) {
	if _, err := s.lock(); err == nil {
		defer s.unlock()
	}
	s.remove(name)
	if s.own && unix.Rmdir(s.path) == nil {
		_ = unix.Rmdir(filepath.Dir(s.path))
	}
}

func (s *segment) close() { _ = s.dir.Close() }

func memberName(m netif.MAC) string { return hex.EncodeToString(m[:]) }

func parseName(name string) (m netif.MAC, err error) {
	raw, err := hex.DecodeString(name)
	if err != nil || len(raw) != len(m) {
		return m, fmt.Errorf("%q is no member's name", name)
	}
	m = netif.MAC(raw)
	if memberName(m) != name || m.IsMulticast() {
		return m, fmt.Errorf("%q is no member's name", name)
	}
	return m, nil
}
