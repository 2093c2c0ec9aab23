// Package interop runs the built commands, against each other and against
// programs that others wrote.
package interop

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

func TestMain(m *testing.M) { need.Main(m) }

// user is somebody with a runtime folder and the built commands on PATH. As
// root, and unless root is asked for, it is nobody.
type user struct {
	t    testing.TB
	bin  string
	run  string   // $XDG_RUNTIME_DIR
	env  []string // beside that and PATH
	wrap []string // what a command line begins with: setpriv, ip netns exec
}

func newUser(t testing.TB) *user {
	t.Helper()
	u := &user{t: t, bin: need.Binaries(t), run: shortDir(t)}
	if os.Geteuid() == 0 {
		u.wrap = []string{need.Command(t, "setpriv", "util-linux"), "--reuid=65534", "--regid=65534", "--clear-groups", "--"}
		if err := os.Chown(u.run, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// newRoot is the superuser, inside ns if that is given.
func newRoot(t testing.TB, ns *need.NS) *user {
	t.Helper()
	need.Root(t)
	u := &user{t: t, bin: need.Binaries(t), run: shortDir(t)}
	if ns != nil {
		u.wrap = []string{"ip", "netns", "exec", ns.Name}
	}
	return u
}

// shortDir is a temporary folder whose name leaves room for socket paths.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "io")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (u *user) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p := filepath.Join(u.bin, name); exists(p) {
		name = p
	}
	line := append(append([]string{}, u.wrap...), append([]string{name}, args...)...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = append([]string{
		"PATH=" + u.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_RUNTIME_DIR=" + u.run, "HOME=" + u.run, "TMPDIR=" + u.run, "LC_ALL=C",
	}, u.env...)
	cmd.Dir = u.run
	cmd.WaitDelay = 30 * time.Second // a busy machine takes its time over what is left in a pipe
	return cmd
}

func exists(p string) bool { _, err := os.Stat(p); return err == nil }

// result is what a command left.
type result struct {
	out, err string
	status   int
}

// try runs a command for at most a minute.
func (u *user) try(name string, args ...string) result {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := u.command(ctx, name, args...)
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	r := result{out: out.String(), err: errb.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.status = exit.ExitCode()
	case err != nil:
		u.t.Fatalf("%s %q: %v", name, args, err)
	}
	return r
}

// must runs a command that has to succeed, and answers its standard output.
func (u *user) must(name string, args ...string) string {
	u.t.Helper()
	r := u.try(name, args...)
	if r.status != 0 {
		u.t.Fatalf("%s %q: status %d\n%s%s", name, args, r.status, r.out, r.err)
	}
	return r.out
}

// at is the same user with SOCK set.
func (u *user) at(sock string) *user {
	v := *u
	v.env = append(append([]string{}, u.env...), "SOCK="+sock)
	return &v
}

// ionet starts a stack that goes to the background by itself, and has it
// stopped after the test. prefix is where it will be.
func (u *user) ionet(prefix string, args ...string) result {
	u.t.Helper()
	r := u.try("io-net", args...)
	if r.status != 0 {
		u.t.Fatalf("io-net %q: status %d\n%s%s", args, r.status, r.out, r.err)
	}
	u.t.Cleanup(func() {
		if s := u.at(prefix).try("io-net", "--stop"); s.status != 0 && exists(filepath.Join(prefix, "dev/socket/2")) {
			u.t.Errorf("io-net --stop: status %d\n%s%s", s.status, s.out, s.err)
		}
		if exists(filepath.Join(prefix, "dev/socket/2")) {
			u.t.Errorf("%s/dev/socket/2 is still there after io-net --stop", prefix)
		}
		if u.t.Failed() {
			if b, err := os.ReadFile(filepath.Join(prefix, "var/log/io-net.log")); err == nil {
				u.t.Logf("log of %s:\n%s", prefix, b)
			}
		}
	})
	return r
}

// wantLines fails unless every line is in the text.
func wantLines(t testing.TB, what, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, l) {
			t.Errorf("%s lacks %q:\n%s", what, l, text)
		}
	}
}
