package onstack

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// etcFiles are the files that a stack may have its own of, in $SOCK/etc.
var etcFiles = []string{resolvConf, "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/networks", "/etc/gai.conf", "/etc/host.conf"}

// replacements are those that are there, by the path that they stand for. Where
// the stack has no resolv.conf but routers have told it of name servers, one is
// made of that. With none at all, the program's opens are not looked at.
func replacements(prefix string, told bool) map[string]string {
	m := map[string]string{}
	if told {
		m[resolvConf] = learnt
	}
	for _, f := range etcFiles {
		p := filepath.Join(prefix, f)
		if prefix == "" || p == f {
			continue
		}
		if _, err := os.Stat(p); err == nil {
			m[f] = p
		}
	}
	return m
}

const resolvConf = "/etc/resolv.conf"

// learnt says that resolvConf is made of what routers have told, in the place of
// a file's name.
const learnt = ""

// made is a descriptor for reading of a file with that text, which no folder has.
func made(text string) (fd int, err error) {
	m, err := unix.MemfdCreate("resolv.conf", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(m)
	if _, err := unix.Write(m, []byte(text)); err != nil {
		return -1, err
	}
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", m), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// openReplaced is a descriptor of what stands for a file.
func (sv *supervisor) openReplaced(to string, flags uint64) (fd int, err error) {
	if to == learnt {
		text, _ := sv.stack.ResolvConf()
		return made(text)
	}
	return unix.Open(to, unix.O_RDONLY|unix.O_CLOEXEC|int(flags)&unix.O_NONBLOCK, 0)
}

// open serves the calls that open a file by its name: one that is replaced is
// opened here, for reading.
func (sv *supervisor) open(c *call) error {
	at, flags := c.args[0], c.args[1]
	if isOpenat(c.nr) {
		at, flags = c.args[1], c.args[2]
	}
	if c.nr == unix.SYS_OPENAT2 { // struct open_how begins with the flags
		b, err := c.read(c.args[2], 8)
		if err != nil {
			return c.proceed()
		}
		flags = le.Uint64(b)
	}
	name, err := c.readString(at, 256)
	if err == errGone {
		return err
	}
	to, ok := sv.etc[path.Clean(name)]
	if err != nil || !ok || flags&unix.O_ACCMODE != unix.O_RDONLY {
		return c.proceed()
	}
	fd, err := sv.openReplaced(to, flags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = c.install(fd, flags&unix.O_CLOEXEC != 0)
	return err
}

// doors are local sockets behind which somebody would use the host's network, or
// answer for its names.
var doors = []string{
	"/run/nscd/socket", "/run/systemd/resolve/", "/run/dbus/system_bus_socket", "/run/avahi-daemon/socket",
	"/run/resolvconf/", "/run/systemd/machine/", "/run/systemd/userdb/io.systemd.Machine",
}

// leads reports whether the local socket of that name is one of them.
func leads(name string) bool {
	name = path.Clean(name)
	if rest, ok := strings.CutPrefix(name, "/var/run/"); ok {
		name = "/run/" + rest
	}
	for _, d := range doors {
		if name == d || strings.HasSuffix(d, "/") && strings.HasPrefix(name, d) {
			return true
		}
	}
	return false
}

// place is the name of the file that the program calls name, whichever folder it
// is in and whatever links are on the way; "" when there is none.
func (c *call) place(name string) string {
	from := "root"
	if !path.IsAbs(name) {
		from = "cwd"
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s/%s", c.pid, from, name), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return ""
	}
	return to
}

// connectOther looks at connect(2) of a socket that is not the stack's.
func (sv *supervisor) connectOther(c *call) error {
	b, err := c.sockaddr(c.args[1], c.args[2])
	if err == errGone {
		return err
	}
	if err == nil && len(b) > 3 && le.Uint16(b) == unix.AF_UNIX && b[2] != 0 {
		name, _, _ := strings.Cut(string(b[2:]), "\x00")
		if leads(name) || leads(c.place(name)) {
			sv.log.Debug("a door to the host's network stays shut", "path", name, "pid", c.pid)
			return unix.ECONNREFUSED
		}
	}
	return c.proceed()
}
