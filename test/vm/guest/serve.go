package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/test/vm/wire"
)

// server runs what comes over the port. Children of commands that outlive them
// stay as they are: the machine does not live long.
type server struct {
	mu      sync.Mutex
	out     *json.Encoder
	running map[int]*os.Process
}

// serve ends with the port, when the test is gone.
func serve(port *os.File) error {
	os.Clearenv()
	for name, value := range map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	s := &server{out: json.NewEncoder(port), running: map[int]*os.Process{}}
	s.say(wire.Reply{Out: []byte("up")})
	for in := json.NewDecoder(port); ; {
		var r wire.Request
		if err := in.Decode(&r); err != nil {
			return fmt.Errorf("the port: %w", err)
		}
		switch {
		case r.Start != nil:
			s.start(r.ID, r.Start)
		case r.Load != nil:
			end := &wire.End{}
			for _, m := range r.Load {
				if err := load(m); err != nil {
					end.Error = err.Error()
					break
				}
			}
			s.say(wire.Reply{ID: r.ID, End: end})
		case r.Signal != 0:
			s.mu.Lock()
			if p := s.running[r.ID]; p != nil {
				_ = unix.Kill(-p.Pid, syscall.Signal(r.Signal))
			}
			s.mu.Unlock()
		}
	}
}

func (s *server) say(r wire.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(r) // without the port, serve ends
}

// speaker is an output of a command.
type speaker func(p []byte)

func (f speaker) Write(p []byte) (int, error) { f(p); return len(p), nil }

// start runs a command in a process group of its own.
func (s *server) start(id int, r *wire.Start) {
	cmd := exec.Command(r.Argv[0], r.Argv[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdin = bytes.NewReader(r.Input)
	cmd.Stdout = speaker(func(p []byte) { s.say(wire.Reply{ID: id, Out: p}) })
	cmd.Stderr = speaker(func(p []byte) { s.say(wire.Reply{ID: id, Err: p}) })
	cmd.WaitDelay = time.Second // for what has gone to the background and kept the outputs
	if err := cmd.Start(); err != nil {
		s.say(wire.Reply{ID: id, End: &wire.End{Error: err.Error()}})
		return
	}
	s.mu.Lock()
	s.running[id] = cmd.Process
	s.mu.Unlock()
	go func() {
		end := &wire.End{}
		done := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			if r.Limit == 0 {
				return
			}
			select {
			case <-done:
			case <-time.After(r.Limit):
				end.Late = true
				_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
			}
		}()
		err := cmd.Wait()
		close(done)
		<-stopped
		s.mu.Lock()
		delete(s.running, id)
		s.mu.Unlock()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			end.Status = exit.ExitCode()
			if w := exit.Sys().(syscall.WaitStatus); w.Signaled() {
				end.Status = 128 + int(w.Signal())
			}
		case err != nil && !errors.Is(err, exec.ErrWaitDelay) && !errors.Is(err, io.EOF):
			end.Error = err.Error()
		}
		s.say(wire.Reply{ID: id, End: end})
	}()
}
