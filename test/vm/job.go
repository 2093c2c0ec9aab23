package vm

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"syscall"
	"time"

	"ionet/test/play"
	"ionet/test/vm/wire"
)

// Job is a command in a machine.
type Job struct {
	k     *Kernel
	id    int
	line  []string
	moved chan struct{} // something was said
	ended chan struct{}

	mu       sync.Mutex
	out, err bytes.Buffer
	end      wire.End
}

func (j *Job) hear(r wire.Reply) {
	j.mu.Lock()
	j.out.Write(r.Out)
	j.err.Write(r.Err)
	if r.End != nil {
		j.end = *r.End
		close(j.ended)
	}
	j.mu.Unlock()
	select {
	case j.moved <- struct{}{}:
	default:
	}
}

// Output is what the command has said up to now.
func (j *Job) Output() (out, err string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.String(), j.err.String()
}

// Says waits until the command has said, on either output, a line that matches re, and
// answers what its groups matched.
func (j *Job) Says(re string) []string {
	j.k.T.Helper()
	late := time.After(30 * time.Second)
	for r := regexp.MustCompile(re); ; {
		out, err := j.Output()
		for _, text := range []string{out, err} {
			if m := r.FindStringSubmatch(text); m != nil {
				return m
			}
		}
		select {
		case <-j.moved:
			continue
		case <-j.ended:
			// What it said last is there before its end.
			if o, e := j.Output(); o != out || e != err {
				continue
			}
		case <-late:
		}
		j.k.T.Fatalf("in the machine: %q does not say %s but\n%s%s", j.line, re, out, err)
	}
}

// Signal sends a signal to the command and its children.
func (j *Job) Signal(s syscall.Signal) {
	j.k.T.Helper()
	j.k.mu.Lock()
	defer j.k.mu.Unlock()
	if j.k.dead != nil || j.k.jobs[j.id] == nil {
		return // it has ended
	}
	if err := j.k.send(wire.Request{ID: j.id, Signal: int(s)}); err != nil {
		j.k.T.Fatalf("%q: %v", j.line, err)
	}
}

// Wait waits for the end, for at most a minute.
func (j *Job) Wait() play.Result {
	j.k.T.Helper()
	r, err := j.result(time.Minute)
	if err != nil {
		j.k.T.Fatalf("in the machine: %q: %v\n%s%s", j.line, err, r.Out, r.Err)
	}
	return r
}

// Stop ends the command with SIGTERM, or with SIGKILL if it has not ended after five seconds.
func (j *Job) Stop() play.Result {
	j.k.T.Helper()
	j.Signal(syscall.SIGTERM)
	select {
	case <-j.ended:
	case <-time.After(5 * time.Second):
		j.Signal(syscall.SIGKILL)
	}
	return j.Wait()
}

// result waits for the end.
func (j *Job) result(limit time.Duration) (play.Result, error) {
	var late error
	select {
	case <-j.ended:
	case <-time.After(limit):
		late = fmt.Errorf("no word of its end after %v", limit)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	r := play.Result{Out: j.out.String(), Err: j.err.String(), Status: j.end.Status}
	switch {
	case late != nil:
		return r, late
	case j.end.Error != "":
		return r, errors.New(j.end.Error)
	case j.end.Late:
		return r, errors.New("it took too long, and was killed")
	}
	return r, nil
}
