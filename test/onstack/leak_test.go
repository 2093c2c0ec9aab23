package onstack

import (
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// TestNothingPassesTheStack has root's programs, who may do everything, try the
// ways by which packets or names would go through the host.
func TestNothingPassesTheStack(t *testing.T) {
	ns := need.Namespace(t)
	root := play.NewRoot(t, ns)
	(&desk{User: root, ns: ns}).silence(t)
	prefix := root.Dir + "/s"
	root.Ionet(prefix, "-d", "wire", "path="+root.Dir+"/w", "-ptcpip", "prefix="+prefix)
	stack := side{User: root.At(prefix)}
	stack.Must("ifconfig", "en0", "10.0.0.1/24")

	t.Run("families", func(t *testing.T) {
		out := stack.in(t).runs(python(t), "-c", `
import ctypes, errno, os, socket
def family(name, f, t, p):
    try:
        socket.socket(f, t, p)
        print(name, "open")
    except OSError as e:
        print(name, errno.errorcode[e.errno])
family("packet", socket.AF_PACKET, socket.SOCK_RAW, 0)
family("packet datagrams", socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
family("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, 0)
family("xdp", 44, socket.SOCK_RAW, 0)
family("mptcp", socket.AF_INET, socket.SOCK_STREAM, 262)
family("netfilter", socket.AF_NETLINK, socket.SOCK_RAW, 12)
family("sock_diag", socket.AF_NETLINK, socket.SOCK_RAW, 4)
family("local", socket.AF_UNIX, socket.SOCK_STREAM, 0)
libc = ctypes.CDLL(None, use_errno=True)
print("io_uring", libc.syscall(425, 8, ctypes.create_string_buffer(120)), errno.errorcode[ctypes.get_errno()])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    print("bound to lo")
except OSError as e:
    print("lo", errno.errorcode[e.errno])
print([n for _, n in socket.if_nameindex()])
try:
    s.sendto(b"x", ("198.51.100.1", 9))
except OSError as e:
    print("sendto", errno.errorcode[e.errno])
`)
		want := `packet EPERM
packet datagrams EPERM
vsock EAFNOSUPPORT
xdp EAFNOSUPPORT
mptcp EPROTONOSUPPORT
netfilter EPROTONOSUPPORT
sock_diag EPROTONOSUPPORT
local open
io_uring -1 ENOSYS
lo ENODEV
['lo0', 'en0']
sendto ENETUNREACH
`
		if out != want {
			t.Errorf("the program is told\n%swant\n%s", out, want)
		}
	})

	// The doors are there, and somebody answers: in a folder /run of the test's own.
	t.Run("doors", func(t *testing.T) {
		u := *stack.For(t)
		out := u.Must("sh", "-c", `mount -t tmpfs none /run && exec "$@"`, "sh", python(t), "-c", `
import os, socket, subprocess, sys
doors = ["/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve", "/run/dbus/system_bus_socket", "/run/another/socket"]
held = []
for d in doors:
    os.makedirs(os.path.dirname(d))
    s = socket.socket(socket.AF_UNIX)
    s.bind(d)
    s.listen()
    held.append(s)
os.symlink("/run/nscd", "/run/link")
sys.exit(subprocess.run(sys.argv[1:]).returncode)
`, u.Bin+"/onstack", python(t), "-c", `
import errno, os, socket
def open(path):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print(path, "open")
    except OSError as e:
        print(path, errno.errorcode[e.errno])
for path in ("/run/nscd/socket", "/var/run/nscd/socket", "/run/./nscd//socket", "/run/link/socket", "/proc/self/root/run/nscd/socket",
             "/run/systemd/resolve/io.systemd.Resolve", "/run/dbus/system_bus_socket", "/run/another/socket", "/run/nobody/socket"):
    open(path)
os.chdir("/run/nscd")
open("socket")
os.chdir("/run/another")
open("socket")
`)
		want := `/run/nscd/socket ECONNREFUSED
/var/run/nscd/socket ECONNREFUSED
/run/./nscd//socket ECONNREFUSED
/run/link/socket ECONNREFUSED
/proc/self/root/run/nscd/socket ECONNREFUSED
/run/systemd/resolve/io.systemd.Resolve ECONNREFUSED
/run/dbus/system_bus_socket ECONNREFUSED
/run/another/socket open
/run/nobody/socket ENOENT
socket ECONNREFUSED
socket open
`
		if out != want {
			t.Errorf("the program is told\n%swant\n%s", out, want)
		}
	})

	t.Run("inherited", func(t *testing.T) {
		u := stack.For(t)
		r := u.Try("bash", "-c", `exec 7<>/dev/udp/127.0.0.1/9 && exec "$0" true`, u.Bin+"/onstack")
		if want := "onstack: descriptor 7 is a socket of the host's network, and stays one\n"; r.Status != 0 || r.Err != want {
			t.Errorf("status %d, %q, want %q", r.Status, r.Err, want)
		}
	})

	t.Run("set-user-id", func(t *testing.T) {
		if out := stack.in(t).runs("grep", "NoNewPrivs", "/proc/self/status"); strings.Fields(out)[1] != "1" {
			t.Errorf("the program may gain privileges: %s", out)
		}
	})
}
