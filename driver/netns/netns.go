// Package netns runs a piece of work in another network namespace.
package netns

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Path is the file of a namespace that is given by name (as "ip netns" names
// it), by the number of a process in it, or by a path already.
func Path(name string) string {
	switch _, err := strconv.Atoi(name); {
	case strings.Contains(name, "/"):
		return name
	case err == nil:
		return "/proc/" + name + "/ns/net"
	}
	return "/run/netns/" + name
}

// Do calls f in the namespace that Path(name) names, or, when name is "", in
// the caller's. Files that f opens stay in their namespace.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() { done <- onThread(func() error { return enter(Path(name), f) }) }()
	return <-done
}

// onThread calls f on a thread that is not given back: it ends with the calling
// goroutine, and with it the change of namespace. The first thread of a process
// does not end, and what /proc says of it is said of the process: it is kept
// out of this.
func onThread(f func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		return f()
	}
	defer runtime.UnlockOSThread()
	done := make(chan error, 1)
	go func() { done <- onThread(f) }()
	return <-done
}

func enter(path string, f func() error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace %s: %w (it takes CAP_SYS_ADMIN)", path, err)
	}
	return f()
}
