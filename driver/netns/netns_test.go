package netns

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/test/need"
)

func TestPath(t *testing.T) {
	for name, want := range map[string]string{"blue": "/run/netns/blue", "17": "/proc/17/ns/net", "./x": "./x", "/a/b": "/a/b"} {
		if got := Path(name); got != want {
			t.Errorf("Path(%q) = %q, want %q", name, got, want)
		}
	}
}

func link(t *testing.T) string {
	t.Helper()
	l, err := os.Readlink("/proc/self/ns/net") // of the first thread
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestTheProcessStaysAtHome: whatever thread a call begins on, the process is
// not seen in the other namespace afterwards.
func TestTheProcessStaysAtHome(t *testing.T) {
	ns := need.Namespace(t)
	home := link(t)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			err := Do(ns.Name, func() error {
				there, err := os.Readlink("/proc/thread-self/ns/net")
				if there == home {
					t.Error("f runs at home")
				}
				if unix.Gettid() == unix.Getpid() {
					t.Error("f runs on the first thread")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if now := link(t); now != home {
		t.Fatalf("the process is in %s, was in %s", now, home)
	}
	if err := Do(filepath.Join(t.TempDir(), "nowhere"), func() error { return nil }); err == nil {
		t.Error("entered a namespace that is not there")
	}
}
