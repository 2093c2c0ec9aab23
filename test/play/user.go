// Package play is how tests run commands: as which user, on which stack, in the
// foreground or beside the test, and the small networks that they run in.
package play

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
)

// User is somebody with a runtime folder and the built commands on PATH. As
// root, and unless root is asked for, it is nobody.
type User struct {
	T    testing.TB
	Bin  string
	Dir  string   // $XDG_RUNTIME_DIR
	Env  []string // beside that and PATH
	Wrap []string // what a command line begins with: setpriv, ip netns exec
}

// NewUser is an ordinary user.
func NewUser(t testing.TB) *User {
	t.Helper()
	u := &User{T: t, Bin: need.Binaries(t), Dir: ShortDir(t)}
	if os.Geteuid() == 0 {
		u.Wrap = Nobody(t)
		if err := os.Chown(u.Dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// Nobody is what a command line begins with that the superuser runs as nobody.
func Nobody(t testing.TB) []string {
	t.Helper()
	return []string{need.Command(t, "setpriv", "util-linux"), "--reuid=65534", "--regid=65534", "--clear-groups", "--"}
}

// In is the same user inside ns.
func (u *User) In(ns *need.NS) *User {
	v := *u
	v.Wrap = append([]string{"ip", "netns", "exec", ns.Name}, u.Wrap...)
	return &v
}

// For is the same user in another test, a part of this one.
func (u *User) For(t testing.TB) *User {
	v := *u
	v.T = t
	return &v
}

// NewRoot is the superuser, inside ns if that is given.
func NewRoot(t testing.TB, ns *need.NS) *User {
	t.Helper()
	need.Root(t)
	u := &User{T: t, Bin: need.Binaries(t), Dir: ShortDir(t)}
	if ns != nil {
		u.Wrap = []string{"ip", "netns", "exec", ns.Name}
	}
	return u
}

// ShortDir is a temporary folder whose name leaves room for socket paths.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "io")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Command is a command line of the user's, ready to Start; it dies with ctx. A
// name that is one of the built commands is that.
func (u *User) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p := filepath.Join(u.Bin, name); Exists(p) {
		name = p
	}
	line := append(append([]string{}, u.Wrap...), append([]string{name}, args...)...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = append([]string{
		"PATH=" + u.Bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_RUNTIME_DIR=" + u.Dir, "HOME=" + u.Dir, "TMPDIR=" + u.Dir, "LC_ALL=C",
	}, u.Env...)
	cmd.Dir = u.Dir
	cmd.WaitDelay = 30 * time.Second // a busy machine takes its time over what is left in a pipe
	return cmd
}

// Exists reports whether there is a file of that name.
func Exists(p string) bool { _, err := os.Stat(p); return err == nil }

// Result is what a command left.
type Result struct {
	Out, Err string
	Status   int
}

// Try runs a command for at most a minute.
func (u *User) Try(name string, args ...string) Result {
	u.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := u.Command(ctx, name, args...)
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	r := Result{Out: out.String(), Err: errb.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Status = exit.ExitCode()
	case err != nil:
		u.T.Fatalf("%s %q: %v", name, args, err)
	}
	return r
}

// Must runs a command that has to succeed, and answers its standard output.
func (u *User) Must(name string, args ...string) string {
	u.T.Helper()
	r := u.Try(name, args...)
	if r.Status != 0 {
		u.T.Fatalf("%s %q: status %d\n%s%s", name, args, r.Status, r.Out, r.Err)
	}
	return r.Out
}

// At is the same user with SOCK set.
func (u *User) At(sock string) *User {
	v := *u
	v.Env = append(append([]string{}, u.Env...), "SOCK="+sock)
	return &v
}

// Ionet starts a stack that goes to the background by itself, and has it
// stopped after the test. prefix is where it will be.
func (u *User) Ionet(prefix string, args ...string) Result {
	u.T.Helper()
	r := u.Try("io-net", args...)
	if r.Status != 0 {
		u.T.Fatalf("io-net %q: status %d\n%s%s", args, r.Status, r.Out, r.Err)
	}
	u.T.Cleanup(func() {
		if s := u.At(prefix).Try("io-net", "--stop"); s.Status != 0 && Exists(filepath.Join(prefix, "dev/socket/2")) {
			u.T.Errorf("io-net --stop: status %d\n%s%s", s.Status, s.Out, s.Err)
		}
		if Exists(filepath.Join(prefix, "dev/socket/2")) {
			u.T.Errorf("%s/dev/socket/2 is still there after io-net --stop", prefix)
		}
		if u.T.Failed() {
			if b, err := os.ReadFile(filepath.Join(prefix, "var/log/io-net.log")); err == nil {
				u.T.Logf("log of %s:\n%s", prefix, b)
			}
		}
	})
	return r
}

// WantLines fails unless every line is in the text.
func WantLines(t testing.TB, what, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, l) {
			t.Errorf("%s lacks %q:\n%s", what, l, text)
		}
	}
}
