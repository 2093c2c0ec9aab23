package door

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// own gives the test a runtime folder of its own and no SOCK.
func own(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("SOCK", "")
	return dir
}

func TestFindOrder(t *testing.T) {
	dir := own(t)
	prefix, err := DefaultPrefix()
	if err != nil || prefix != filepath.Join(dir, "ionet") {
		t.Fatalf("default prefix %q, %v", prefix, err)
	}
	l, err := Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	find := func(explicit, want string) {
		t.Helper()
		if got, err := Find(explicit); err != nil || got != want {
			t.Errorf("found %q, %v; want %q", got, err, want)
		}
	}
	find("", prefix)
	t.Setenv("SOCK", "/alt")
	find("", "/alt")
	find("/other", "/other")
}

func TestFolderOpenToOthers(t *testing.T) {
	dir := own(t)
	if err := os.Mkdir(filepath.Join(dir, "ionet"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "ionet"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := UserDir(); err == nil {
		t.Error("a folder of mode 0755 was taken")
	}
}

func TestListenTwiceAndAfterDeath(t *testing.T) {
	prefix := t.TempDir()
	l, err := Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(prefix, "dev/socket/2"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
	_ = l.UnixListener.Close() // as if killed: the file stays
	l, err = Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := os.Lstat(l.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestRegister(t *testing.T) {
	own(t)
	prefix := t.TempDir()
	l, err := Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	unregister, err := Register(prefix)
	if err != nil {
		t.Fatal(err)
	}
	mine := func() (n int) {
		for _, f := range List() {
			if f.PID == os.Getpid() && f.Prefix == prefix && f.UID == os.Getuid() {
				n++
			}
		}
		return n
	}
	if n := mine(); n != 1 {
		t.Errorf("listed %d times, want once", n)
	}
	_ = l.Close()
	unregister()
	if n := mine(); n != 0 {
		t.Errorf("listed %d times after its end", n)
	}
}
