package stackd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ionet/protocol/door"
)

// maxSunPath is what a unix socket path may hold without its final zero.
const maxSunPath = 107

// paths are the files of one stack.
type paths struct {
	prefix   string // "" for the original's /dev/socket
	instance int
}

func (p paths) socketDir() string { return p.prefix + "/dev/socket" }
func (p paths) door(family int) string {
	return p.socketDir() + "/" + strconv.Itoa(family)
}
func (p paths) lock() string { return p.socketDir() + "/lock" }
func (p paths) entryDir() string {
	if p.instance == 0 {
		return p.prefix + "/dev/io-net"
	}
	return p.prefix + "/dev/io-net" + strconv.Itoa(p.instance)
}
func (p paths) entry(name string) string { return p.entryDir() + "/" + name }
func (p paths) log() string              { return p.prefix + "/var/log/io-net.log" }
func (p paths) state() string            { return p.prefix + "/var/run/io-net.state" }

// choosePrefix is where the stack makes its files: the option prefix, --sock,
// $SOCK, and then the user's own folder.
func choosePrefix(o *Options, t *TCPIP) (string, error) {
	prefix := t.Prefix
	if prefix == "" {
		prefix = o.Sock
	}
	if prefix == "" {
		own, err := door.DefaultPrefix()
		if err != nil {
			return "", fmt.Errorf("no prefix given, and the user's own folder cannot be used: %w", err)
		}
		prefix = own
	}
	abs, err := filepath.Abs(prefix)
	if err != nil {
		return "", fmt.Errorf("prefix %q: %w", prefix, err)
	}
	return strings.TrimSuffix(abs, "/"), nil
}

// check refuses a prefix whose sockets would have names that are too long.
func (p paths) check() error {
	longest := p.door(17)
	if e := p.entry("ip_en00"); len(e) > len(longest) {
		longest = e
	}
	if n := len(longest) - maxSunPath; n > 0 {
		return fmt.Errorf("prefix %q is %d bytes too long: %s has %d bytes, and a unix socket's path holds %d",
			p.prefix, n, longest, len(longest), maxSunPath)
	}
	return nil
}

// lockFile is the claim on a prefix.
type lockFile struct {
	f    *os.File
	path string
}

// claim makes the folders, takes the lock and removes what a dead stack left.
// Error: another io-net lives here.
func (p paths) claim() (*lockFile, error) {
	if err := p.makeFolders(p.socketDir()); err != nil {
		return nil, err
	}
	l, err := takeLock(p.lock())
	if err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("an io-net already runs on %s (process %s): io-net --stop ends it, another prefix= avoids it",
				p.name(), readPID(p.lock()))
		}
		return nil, err
	}
	if err := p.makeFolders(p.entryDir(), filepath.Dir(p.log()), filepath.Dir(p.state())); err != nil {
		l.release()
		return nil, err
	}
	p.sweep()
	return l, nil
}

func (p paths) makeFolders(dirs ...string) error {
	for _, d := range dirs {
		if err := p.foreign(d); err != nil {
			return err
		}
		err := os.MkdirAll(d, 0o755)
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("cannot make %s: %w (-ptcpip prefix=DIR chooses another place)", d, unix.EACCES)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// foreign refuses a folder below the prefix if it, or one on the way from the
// prefix to it, belongs to neither the stack's user nor the superuser: its
// owner could have the stack write wherever a link of his points.
func (p paths) foreign(dir string) error {
	if p.prefix == "" {
		return nil
	}
	for at := dir; len(at) >= len(p.prefix); at = filepath.Dir(at) {
		for _, look := range []func(string, *unix.Stat_t) error{unix.Lstat, unix.Stat} {
			var st unix.Stat_t
			if look(at, &st) != nil {
				continue // to be made yet, or MkdirAll says why not
			}
			if st.Uid != 0 && int(st.Uid) != os.Getuid() {
				return fmt.Errorf("%s belongs to somebody else (user %d): -ptcpip prefix=DIR chooses another place", at, st.Uid)
			}
		}
	}
	return nil
}

func (p paths) name() string {
	if p.prefix == "" {
		return "/dev/socket"
	}
	return p.prefix
}

// takeLock opens and locks path; EWOULDBLOCK when it is held. The file may
// have been removed by its last owner between the two, hence the loop.
func takeLock(path string) (*lockFile, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			f.Truncate(0)
			fmt.Fprintf(f, "%d\n", os.Getpid())
			return &lockFile{f, path}, nil
		}
		f.Close()
	}
}

func readPID(path string) string {
	b, _ := os.ReadFile(path)
	if s := strings.TrimSpace(string(b)); s != "" {
		return s
	}
	return "unknown"
}

func (l *lockFile) release() {
	os.Remove(l.path)
	l.f.Close()
}

// sweep removes the sockets of this stack's folders, whoever made them: the
// caller holds the lock.
func (p paths) sweep() {
	for _, dir := range []string{p.socketDir(), p.entryDir()} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Type()&os.ModeSocket != 0 {
				os.Remove(dir + "/" + e.Name())
			}
		}
	}
}

// remove takes the stack's files away at its end; folders go if empty.
func (p paths) remove() {
	p.sweep()
	os.Remove(p.entryDir())
}
