// Package need says what a test cannot do without. What is missing skips the
// test, loudly; with IONET_CI set it fails it.
package need

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Missing ends the test for want of what.
func Missing(t testing.TB, format string, a ...any) {
	t.Helper()
	what := fmt.Sprintf(format, a...)
	if os.Getenv("IONET_CI") != "" {
		t.Fatalf("MISSING: %s", what)
	}
	fmt.Fprintf(os.Stderr, "LEFT OUT %s: %s\n", t.Name(), what)
	t.Skipf("MISSING: %s", what)
}

// Root wants the superuser.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root")
	}
}

// Command wants a program and returns its path; pkg is the Debian package
// that has it.
func Command(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "no %s: test/deps installs %s", name, pkg)
	}
	return path
}

// File wants a file, such as /dev/net/tun.
func File(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		Missing(t, "%v", err)
	}
}

// Netns wants what it takes to make a network namespace.
func Netns(t testing.TB) {
	t.Helper()
	Root(t)
	Command(t, "ip", "iproute2")
	probe.once.Do(func() {
		name := fmt.Sprintf("ionet-%d-probe", os.Getpid())
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			probe.err = fmt.Errorf("ip netns add: %w: %s", err, bytes.TrimSpace(out))
			return
		}
		_ = exec.Command("ip", "netns", "del", name).Run()
	})
	if probe.err != nil {
		Missing(t, "no network namespace: %v", probe.err)
	}
}

var probe struct {
	once sync.Once
	err  error
}

// NS is a network namespace of the test's own.
type NS struct {
	Name string
	t    testing.TB
}

var spaces atomic.Int64

// Namespace makes a network namespace with lo up. It is gone after the test,
// with whatever still runs in it.
func Namespace(t testing.TB) *NS {
	t.Helper()
	Netns(t)
	ns := &NS{Name: fmt.Sprintf("ionet-%d-%d", os.Getpid(), spaces.Add(1)), t: t}
	if out, err := exec.Command("ip", "netns", "add", ns.Name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add %s: %v: %s", ns.Name, err, out)
	}
	t.Cleanup(func() {
		if pids, err := exec.Command("ip", "netns", "pids", ns.Name).Output(); err == nil {
			for _, pid := range bytes.Fields(pids) {
				_ = exec.Command("kill", "-KILL", string(pid)).Run()
			}
		}
		if out, err := exec.Command("ip", "netns", "del", ns.Name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del %s: %v: %s", ns.Name, err, out)
		}
	})
	ns.Exec("ip", "link", "set", "lo", "up")
	return ns
}

// Command is a program to run inside, ready to Start; it dies with ctx.
func (ns *NS) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns.Name, name}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Try runs a program inside for at most a minute; its two outputs come back
// as one.
func (ns *NS) Try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ns.t.Context(), time.Minute)
	defer cancel()
	out, err := ns.Command(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// Exec is Try for what must succeed.
func (ns *NS) Exec(name string, args ...string) string {
	ns.t.Helper()
	out, err := ns.Try(name, args...)
	if err != nil {
		ns.t.Fatalf("%s: %s %q: %v\n%s", ns.Name, name, args, err, out)
	}
	return out
}

// Module is the folder of go.mod.
func Module(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// Binaries is a folder with every command, built as a release is, once in a
// test process; Main removes it.
func Binaries(t testing.TB) string {
	t.Helper()
	root := Module(t)
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "ionet-bin-"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", built.dir+"/", "./cmd/...")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build ./cmd/...: %w\n%s", err, out)
		}
		if built.err == nil {
			built.err = os.Chmod(built.dir, 0o755)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

// Main is the TestMain of packages that use Binaries: it runs the tests and
// removes what was built.
//
//	func TestMain(m *testing.M) { need.Main(m) }
func Main(m *testing.M) {
	status := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(status)
}
