// Package nstest makes network namespaces for the drivers' tests.
package nstest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/driver/netns"
	"ionet/test/need"
)

// New makes a network namespace that ends with the test, and answers a path by
// which netns.Do finds it.
func New(t *testing.T) string {
	t.Helper()
	need.Root(t) // to make a network namespace
	made, end, gone := make(chan error), make(chan bool), make(chan bool)
	var path string
	go func() {
		defer close(gone)
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		made <- unix.Unshare(unix.CLONE_NEWNET)
		<-end
	}()
	err := <-made
	t.Cleanup(func() { close(end); <-gone })
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// IP runs "ip command" in the namespace.
func IP(t *testing.T, ns string, command string) {
	t.Helper()
	In(t, ns, func() error {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %v: %s", command, err, out)
		}
		return nil
	})
}

// In runs f in the namespace.
func In(t *testing.T, ns string, f func() error) {
	t.Helper()
	if err := netns.Do(ns, f); err != nil {
		t.Fatal(err)
	}
}
