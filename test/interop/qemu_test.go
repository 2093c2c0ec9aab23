package interop

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
)

// A virtual machine with a stock Debian kernel has two network cards; one is
// on a stream socket and the other on a datagram socket of the stack.
func TestVirtualMachine(t *testing.T) {
	qemu := need.Command(t, "qemu-system-x86_64", "qemu-system-x86")
	kernel, initrd := guest(t)
	w := newWorld(t, `ip link set lo up`)
	path := func(name string) string { return filepath.Join(w.Dir, name) }
	prefix := path("s")
	w.Ionet(prefix, "-dqemu", "listen="+path("vm"), "-dqemu", "type=dgram,listen="+path("us")+",connect="+path("them"),
		"-ptcpip", "prefix="+prefix)
	v := w.At(prefix)
	v.Must("ifconfig", "en0", "10.0.0.2/24")
	v.Must("ifconfig", "en1", "10.0.1.2/24")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	vm := w.Command(ctx, qemu, "-accel", "tcg", "-m", "192", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1",
		"-netdev", "stream,id=n0,server=off,addr.type=unix,addr.path="+path("vm"),
		"-device", "virtio-net-pci,netdev=n0,romfile=",
		"-netdev", "dgram,id=n1,local.type=unix,local.path="+path("them")+",remote.type=unix,remote.path="+path("us"),
		"-device", "virtio-net-pci,netdev=n1,romfile=")
	stdin, err := vm.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := vm.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	vm.Stderr = &complaints
	start := time.Now()
	if err := vm.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = vm.Wait()
		if t.Failed() {
			t.Logf("standard error of QEMU:\n%s", complaints.String())
		}
	})
	c := newConsole(t, stdin, stdout)
	_, rest := c.wait(ctx, "the guest is up, ")
	t.Logf("%s is up after %.1f s", rest, time.Since(start).Seconds())

	play.WantLines(t, "ifconfig en0", v.Must("ifconfig", "en0"), "status: active")
	for en, net := range map[string]string{"en0": "10.0.0", "en1": "10.0.1"} {
		for _, size := range []string{"0", "56", "1472", "1473", "8000", "65507"} {
			out, status := c.try("ping -c 2 -i 0.1 -W 5 -s " + size + " " + net + ".2")
			if status != "0" || !strings.Contains(out, " 0% packet loss") {
				t.Errorf("the guest pings %s.2 with %s octets: status %s\n%s", net, size, status, out)
			}
			out = v.Must("ping", "-n", "-c", "2", "-i", "0.1", "-s", size, net+".3")
			play.WantLines(t, "ping -s "+size+" "+net+".3", out, "2 packets received, 0.0% packet loss")
		}
		out, _ := c.try("cat /proc/net/arp")
		mac := regexp.MustCompile(`\taddress: (\S+)\n`).FindStringSubmatch(v.Must("ifconfig", en))
		if mac == nil || !regexp.MustCompile(`(?m)^`+net+`\.2 .*`+mac[1]).MatchString(out) {
			t.Errorf("the guest knows no %s.2 at %q:\n%s", net, mac, out)
		}
	}
	play.WantLines(t, "nicinfo en0", v.Must("nicinfo", "en0"), "QEMU stream socket", "established")
	play.WantLines(t, "nicinfo en1", v.Must("nicinfo", "en1"), "QEMU datagram socket", path("them"))

	// It is told to stop, and takes the carrier of its stream with it.
	if _, err := stdin.Write([]byte("exit\n")); err != nil {
		t.Fatal(err)
	}
	if err := vm.Wait(); err != nil {
		t.Errorf("QEMU: %v", err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for out := ""; !strings.Contains(out, "status: no carrier"); { // polls another process
		if out = v.Must("ifconfig", "en0"); time.Now().After(deadline) {
			t.Fatalf("en0 has a carrier without a peer:\n%s", out)
		}
	}
}

// guest is the kernel that test/deps has unpacked, and a file system for it
// with busybox, what its network cards want of modules, and testdata/init.
func guest(t *testing.T) (kernel, initrd string) {
	t.Helper()
	busybox := need.Command(t, "busybox", "busybox-static")
	cpio := need.Command(t, "cpio", "cpio")
	modprobe := need.Command(t, "modprobe", "kmod")
	base := "/var/cache/ionet/kernel"
	if dir := os.Getenv("IONET_KERNEL"); dir != "" {
		base = dir
	}
	kernel = filepath.Join(base, "vmlinuz")
	if !play.Exists(kernel) {
		need.Missing(t, "no kernel in %s: test/deps unpacks linux-image-amd64", base)
	}
	releases, err := filepath.Glob(filepath.Join(base, "lib/modules/*"))
	if err != nil || len(releases) != 1 {
		t.Fatalf("modules of the kernel: %v, %q", err, releases)
	}
	root := t.TempDir()
	put := func(from, to string, mode os.FileMode) {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, to), b, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(busybox, "bin/busybox", 0o755)
	put(filepath.Join("testdata", "init"), "init", 0o755)
	// modprobe knows what must be there before what.
	var order []string
	seen := map[string]bool{}
	for _, module := range []string{"virtio_pci", "virtio_net"} {
		out, err := exec.Command(modprobe, "-d", base, "-S", filepath.Base(releases[0]), "--show-depends", module).Output()
		if err != nil {
			t.Fatalf("modprobe --show-depends %s: %v", module, err)
		}
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "insmod" || seen[f[1]] {
				continue // builtin, or there already
			}
			seen[f[1]] = true
			order = append(order, filepath.Base(f[1]))
			put(f[1], filepath.Join("modules", filepath.Base(f[1])), 0o644)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "modules/order"), []byte(strings.Join(order, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := play.ShortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	initrd = filepath.Join(dir, "initrd")
	pack := exec.Command("sh", "-c", `find . | "$1" --quiet -o -H newc >"$2"`, "sh", cpio, initrd)
	pack.Dir = root
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	if err := os.Chmod(initrd, 0o644); err != nil {
		t.Fatal(err)
	}
	return kernel, initrd
}
