package vm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
	"ionet/test/vm"
)

// A machine answers outputs, status and signals of commands, several at a time, and
// nothing of it stays.
func TestKernel(t *testing.T) {
	need.File(t, "/dev/net/tun")
	ns := need.Namespace(t)
	var pid int
	var dir string
	t.Run("machine", func(t *testing.T) {
		k := vm.NewKernel(t, vm.TAP(ns, "vm0"))
		pid, dir = k.Pid(), k.Dir
		t.Logf("up after %.1f s, %.1f s of processor: %s", k.Up.Seconds(), k.Processor().Seconds(), k.Must("uname", "-a"))
		start := time.Now()
		const n = 20
		for range n {
			k.Must("/bin/true")
		}
		t.Logf("a command takes %v", time.Since(start)/n)

		r := k.Run("sh", "-c", "echo out; echo err >&2; exit 3")
		if r != (play.Result{Out: "out\n", Err: "err\n", Status: 3}) {
			t.Errorf("sh: %+v", r)
		}
		if r := k.RunWith([]byte("a\nb\n"), time.Minute, "wc", "-l"); r.Out != "2\n" {
			t.Errorf("wc -l: %+v", r)
		}
		long := strings.Repeat("0123456789abcde\n", 1<<16)
		if r := k.RunWith([]byte(long), time.Minute, "cat"); r.Out != long {
			t.Errorf("a megabyte comes back as %d octets", len(r.Out))
		}
		if r := k.Run("sh", "-c", "kill -9 $$"); r.Status != 128+9 {
			t.Errorf("who killed itself has status %d", r.Status)
		}
		j := k.Begin("sh", "-c", "echo ready; sleep 1000")
		j.Says("ready")
		other := k.Begin("sleep", "1000")
		if r := j.Stop(); r.Status != 128+int(syscall.SIGTERM) {
			t.Errorf("the stopped one: %+v", r)
		}
		if r := other.Stop(); r.Status != 128+int(syscall.SIGTERM) {
			t.Errorf("the other one: %+v", r)
		}
		if out := k.Run("pidof", "sleep").Out; out != "" {
			t.Errorf("sleep runs still: %s", out)
		}

		// The host's files are there, and stay as they are.
		path := filepath.Join(k.Dir, "file")
		if err := os.WriteFile(path, []byte("host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := k.Must("sh", "-c", fmt.Sprintf("cat %s; echo machine >%[1]s; cat %[1]s", path)); out != "host\nmachine\n" {
			t.Errorf("the file reads %q", out)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "host\n" {
			t.Errorf("the host's file: %q, %v", b, err)
		}
		if out, err := ns.Try("ip", "link", "show", "vm0"); err != nil {
			t.Errorf("no TAP: %s", out)
		}
		k.Load("dummy")
		k.Must("ip", "link", "add", "d0", "type", "dummy")
		k.Must("ip", "link", "add", "v0", "type", "veth") // by the kernel's modprobe
	})
	if play.Exists(fmt.Sprint("/proc/", pid)) {
		t.Errorf("process %d is there still", pid)
	}
	if play.Exists(dir) {
		t.Errorf("%s is there still", dir)
	}
	if out, err := ns.Try("ip", "link", "show", "vm0"); err == nil {
		t.Errorf("the TAP is there still: %s", out)
	}
}
