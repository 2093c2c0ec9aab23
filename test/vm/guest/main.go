// Guest is the first process of the tests' virtual machines. It makes a root file
// system of the host's, which it can read and not write, and runs what the test
// asks for. With arguments it is a command in that machine.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ionet/test/vm/wire"
)

func main() {
	if os.Getpid() != 1 {
		if err := command(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			os.Exit(1)
		}
		return
	}
	port, err := boot()
	if err == nil {
		err = serve(port)
	}
	fmt.Println("guest:", err) // on the console
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// mount is mount(2) at a folder that is made if it is not there.
func mount(what, where, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(where, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(what, where, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", what, where, err)
	}
	return nil
}

// boot leads from the initial file system to the other one, and to the port.
func boot() (*os.File, error) {
	b, err := os.ReadFile("/config")
	if err != nil {
		return nil, err
	}
	var c wire.Config
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("/config: %w", err)
	}
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sys", "/sys", "sysfs"}, {"dev", "/dev", "devtmpfs"}} {
		if err := mount(m[0], m[1], m[2], 0, ""); err != nil {
			return nil, err
		}
	}
	for _, m := range c.Modules {
		if err := load(m); err != nil {
			return nil, err
		}
	}
	// What is there when it is first looked at stays as it was then.
	if err := mount("root", "/host", "9p", unix.MS_RDONLY, "trans=virtio,version=9p2000.L,msize=512000,cache=loose"); err != nil {
		return nil, err
	}
	if err := mount("rw", "/rw", "tmpfs", 0, "mode=755"); err != nil {
		return nil, err
	}
	for _, d := range []string{"/rw/upper", "/rw/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := mount("root", "/new", "overlay", 0, "lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work"); err != nil {
		return nil, err
	}
	for _, m := range []string{"proc", "sys", "dev"} {
		if err := mount("/"+m, "/new/"+m, "", unix.MS_MOVE, ""); err != nil {
			return nil, err
		}
	}
	for where, kind := range map[string]string{"/new/run": "tmpfs", "/new/dev/shm": "tmpfs", "/new/dev/pts": "devpts"} {
		if err := mount(kind, where, kind, 0, ""); err != nil {
			return nil, err
		}
	}
	// The kernel's own modprobe finds them there.
	if err := mount(filepath.Join("/host", c.Tree), "/new/lib/modules/"+c.Release, "", unix.MS_BIND, ""); err != nil {
		return nil, err
	}
	if b, err = os.ReadFile("/init"); err == nil {
		err = os.WriteFile("/new"+wire.Tool, b, 0o755)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chdir("/new"); err != nil {
		return nil, err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return nil, fmt.Errorf("the new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return nil, err
	}
	if err := os.Chdir("/"); err != nil {
		return nil, err
	}
	// An address is good at once, and nobody on the link configures the machine.
	for _, name := range []string{"accept_dad", "accept_ra"} {
		all, _ := filepath.Glob("/proc/sys/net/ipv6/conf/*/" + name)
		for _, file := range all {
			if err := os.WriteFile(file, []byte("0"), 0); err != nil {
				return nil, err
			}
		}
	}
	if err := raise("lo"); err != nil {
		return nil, err
	}
	return openPort()
}

// load loads the module of a file.
func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// raise sets an interface up.
func raise(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("%s up: %w", name, err)
	}
	return nil
}

// openPort finds the serial port by its name, which is there a moment after its driver.
func openPort() (*os.File, error) {
	for range 500 {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == wire.Port {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("no serial port %q", wire.Port)
}
