package play

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// Job is a command in the background. What it says on standard error can be
// waited for.
type Job struct {
	T   testing.TB
	Cmd *exec.Cmd
	Out bytes.Buffer // its standard output, after wait
	Err said
}

// said is what a command says while it runs.
type said struct {
	mu    sync.Mutex
	text  bytes.Buffer
	moved chan struct{}
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	select {
	case s.moved <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Begin starts a command, which is killed after a minute or with the test.
func (u *User) Begin(in io.Reader, name string, args ...string) *Job {
	u.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	j := &Job{T: u.T, Cmd: u.Command(ctx, name, args...)}
	j.Err.moved = make(chan struct{}, 1)
	j.Cmd.Stdin, j.Cmd.Stdout, j.Cmd.Stderr = in, &j.Out, &j.Err
	if err := j.Cmd.Start(); err != nil {
		cancel()
		u.T.Fatal(err)
	}
	u.T.Cleanup(func() {
		cancel()
		_ = j.Cmd.Wait()
	})
	return j
}

// Says waits until standard error has a line that matches re, and answers
// what its groups matched.
func (j *Job) Says(re string) []string {
	j.T.Helper()
	late := time.After(30 * time.Second)
	for r := regexp.MustCompile(re); ; {
		if m := r.FindStringSubmatch(j.Err.String()); m != nil {
			return m
		}
		select {
		case <-j.Err.moved:
		case <-late:
			j.T.Fatalf("%q does not say %s but\n%s", j.Cmd.Args, re, j.Err.String())
		}
	}
}

// Wait answers the exit status, after the end.
func (j *Job) Wait() int {
	j.T.Helper()
	err := j.Cmd.Wait()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		j.T.Fatalf("%q: %v", j.Cmd.Args, err)
	}
	return j.Cmd.ProcessState.ExitCode()
}

// Serves starts a program that serves, and waits until it says so, on whichever
// output.
func (u *User) Serves(ready string, line ...string) *Job {
	u.T.Helper()
	j := u.Begin(nil, "sh", append([]string{"-c", `exec "$@" >&2`, "sh"}, line...)...)
	j.Says(ready)
	return j
}

// Write makes a file in the user's folder and answers its path.
func (u *User) Write(name, text string, mode os.FileMode) string {
	u.T.Helper()
	path := filepath.Join(u.Dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		u.T.Fatal(err)
	}
	return path
}
