package onstack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// family are the program and what it leaves behind: children of this process, the
// supervisor, all of them.
type family struct {
	front   int // the way to the first process
	service bool
	program *os.Process
	parent  int
	heard   map[syscall.Signal]chan time.Time // signals that this process has had too; full: the oldest goes
	woken   atomic.Bool                       // the first process has a SIGCONT of ours
	stops   atomic.Int32                      // times it was told to stop, and has not said that it goes on
	started chan struct{}                     // closed when the program runs, or does not
	fault   error                             // why it does not
	ending  sync.Once
}

// endWait is how long a service has between SIGTERM and SIGKILL.
const endWait = 10 * time.Second

func newFamily(front int, service bool) *family {
	f := &family{front: front, service: service, parent: os.Getppid(), heard: map[syscall.Signal]chan time.Time{}, started: make(chan struct{})}
	for s := syscall.Signal(1); s <= 64; s++ {
		f.heard[s] = make(chan time.Time, mostHeard)
	}
	signals := hear()
	go func() {
		for s := range signals {
			c := f.heard[s.(syscall.Signal)]
			if len(c) == mostHeard {
				select {
				case <-c:
				default:
				}
			}
			select {
			case c <- time.Now():
			default:
			}
		}
	}()
	return f
}

func (f *family) say(what string, text any) { tell(f.front, what, text) }

// met is what the supervisor has found out about the program's beginning.
func (f *family) met(err error) {
	f.fault = err
	if err == nil {
		f.say(sayRunning, f.program.Pid)
	}
	close(f.started)
}

// obey does what the first process says, until the program has ended. When that
// process has been killed, the program is meant by it.
func (f *family) obey() {
	defer unix.Close(f.front)
	for {
		what, number, _, err := listen(f.front)
		switch {
		case errors.Is(err, errGone) && f.service:
			f.slay()
		case errors.Is(err, errGone):
			_ = f.program.Kill()
			return
		case err != nil:
			return
		case what == saySignal:
			go f.pass(syscall.Signal(number))
		case what == sayGoesOn:
			f.stops.Add(-1)
		case what == sayEnd:
			f.end()
		}
	}
}

const (
	mostHeard   = 16
	groupWait   = 200 * time.Millisecond // for a signal that has been sent to all of us
	groupMemory = time.Second            // of one; of one that stops it has no end, as the first process stops before it has told
)

// pass gives the program a signal that the first process has had, unless it was
// sent to the whole process group, as a terminal does, and the program has it
// already.
func (f *family) pass(s syscall.Signal) {
	if s == unix.SIGCONT && f.woken.Swap(false) {
		return
	}
	group, err := unix.Getpgid(f.program.Pid)
	if c := f.heard[s]; err == nil && group == unix.Getpgrp() && c != nil {
		late := time.After(groupWait)
		for waiting := true; waiting; {
			select {
			case at := <-c:
				if s == unix.SIGCONT && time.Since(at) < groupMemory { // one is as good as many
					select {
					case c <- at:
					default:
					}
					return
				}
				if time.Since(at) < groupMemory || s == unix.SIGTSTP || s == unix.SIGTTIN || s == unix.SIGTTOU {
					return
				}
			case <-late:
				waiting = false
			}
		}
	}
	f.signal(s)
}

// signal is for the program, or for what a service has become.
func (f *family) signal(s syscall.Signal) {
	if err := f.program.Signal(s); err == nil || !f.service {
		return
	}
	f.each(func(pid int) { _ = unix.Kill(pid, s) })
}

// end ends a service.
func (f *family) end() {
	f.ending.Do(func() {
		f.signal(unix.SIGTERM)
		f.signal(unix.SIGCONT)
		time.AfterFunc(endWait, f.slay)
	})
}

const slayPause = 50 * time.Millisecond

// slay kills the children, and those who become children by that, until this
// process ends with the last of them.
func (f *family) slay() {
	for {
		f.each(func(pid int) { _ = unix.Kill(pid, unix.SIGKILL) })
		time.Sleep(slayPause)
	}
}

// each calls do for every child.
func (f *family) each(do func(pid int)) {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has ended
		}
		for pid := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(pid); err == nil {
				do(n)
			}
		}
	}
}

// reap waits for the program and all that it leaves behind, and tells the first
// process how the program ends.
//
// Who has called onstack waits for the program alone; that this process stays for
// others is not to be noticed. A service has ended when nobody is left: the last
// one's end counts where the program has ended well, and where it has not, the
// others are ended too.
func (f *family) reap() {
	var verdict unix.WaitStatus
	main := true // the program lives
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WUNTRACED|unix.WCONTINUED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // nobody is left
			if f.service {
				f.report(verdict)
			}
			return
		case pid == f.program.Pid && main && ws.Stopped():
			if !f.service {
				f.stops.Add(1)
			}
			f.say(sayStopped, int(ws.StopSignal()))
		case pid == f.program.Pid && main && ws.Continued():
			f.wake()
		case !ws.Exited() && !ws.Signaled():
		case pid == f.program.Pid && main:
			main, verdict = false, ws
			<-f.started
			switch {
			case !f.service:
				f.wake() // whom SIGKILL ends has not been continued, or too briefly to be seen
				f.report(ws)
				f.leave()
			case !well(ws):
				f.end()
			}
		case !main && well(verdict):
			verdict = ws
		}
	}
}

// wake continues the first process, which has stopped with the program, when
// somebody has continued or ended the program alone. If that process has been told to
// stop and has not done it yet, it would stop afterwards: so this waits until it goes on.
func (f *family) wake() {
	for !f.service && os.Getppid() == f.parent {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(f.parent) + "/stat")
		if _, state, _ := bytes.Cut(b, []byte(") ")); err == nil && bytes.HasPrefix(state, []byte("T")) {
			f.woken.Store(true)
			_ = unix.Kill(f.parent, unix.SIGCONT)
		}
		if f.stops.Load() <= 0 {
			return
		}
		time.Sleep(wakePause)
	}
}

const wakePause = time.Millisecond

// well reports whether who has ended so has done what it was to do.
func well(ws unix.WaitStatus) bool { return ws.Exited() && ws.ExitStatus() == 0 }

// report tells the first process how it has ended.
func (f *family) report(ws unix.WaitStatus) {
	var fault *failure
	switch {
	case errors.As(f.fault, &fault):
		f.say(sayFailed, fmt.Sprintf("%d %s", fault.status, fault.text))
	case ws.Signaled():
		f.say(saySignal, int(ws.Signal()))
	default:
		f.say(sayExit, ws.ExitStatus())
	}
}

// leave goes to the background with what the program has left there: nobody waits
// for the end of our output, and the terminal's signals are not ours.
func (f *family) leave() {
	_ = unix.Shutdown(f.front, unix.SHUT_RDWR) // which ends obey
	_, _ = unix.Setsid()
	letGo(3)
	_ = os.Chdir("/")
}
