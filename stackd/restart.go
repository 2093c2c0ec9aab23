package stackd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/tool/background"
)

const (
	maxReport   = 256 << 10
	envRestarts = "IONET_RESTARTS"
)

// report is the last output of a stack: owner, the supervisor; bound,
// maxReport octets; full: the middle of a report is worth least, so what
// comes later is dropped and the end of the process still known.
type report struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	pass io.Writer
}

func (r *report) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if room := maxReport - r.buf.Len(); room > 0 {
		r.buf.Write(b[:min(room, len(b))])
	}
	r.pass.Write(b)
	return len(b), nil
}

// panicText is the part of the report from the panic on, or "".
func (r *report) panicText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buf.Bytes()
	at := -1
	for _, mark := range []string{"panic: ", "panic in the engine: ", "fatal error: ", "SIGSEGV: ", "SIGABRT: ", "SIGQUIT: "} {
		if i := bytes.Index(b, []byte(mark)); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at < 0 {
		return ""
	}
	return string(b[at:])
}

// supervisor keeps a stack alive.
type supervisor struct {
	logPath string
	sleep   func(time.Duration, <-chan os.Signal) bool // false: a signal came
	log     *slog.Logger
}

// run starts the stack as a child and starts it again whenever it crashes.
// It ends when the stack ends by itself (io-net --stop, SIGTERM), or when
// the first one does not come to answer.
func (s *supervisor) run(foreground bool) error {
	up := background.Ready()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	backoff := background.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second, Reset: time.Minute}
	for n := 0; ; n++ {
		began := time.Now()
		status, rep, answered, err := s.once(n, up, foreground, signals)
		if err != nil {
			return err
		}
		if answered {
			up = nil
		}
		if status.Exited() && status.ExitStatus() == 0 {
			return nil
		}
		if n == 0 && !answered {
			return errSaid
		}
		wait := backoff.Next(time.Since(began))
		s.record(status, rep.panicText(), wait)
		if !s.sleep(wait, signals) {
			return nil
		}
	}
}

// once runs one stack to its end.
func (s *supervisor) once(n int, up *os.File, foreground bool, signals <-chan os.Signal) (unix.WaitStatus, *report, bool, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, false, err
	}
	defer r.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		w.Close()
		return 0, nil, false, err
	}
	defer errR.Close()
	cmd, err := background.Again(stageStack, w)
	if err == nil {
		cmd.Env = append(cmd.Env, envRestarts+"="+strconv.Itoa(n))
		cmd.Stdout, cmd.Stderr = errW, errW
		err = cmd.Start()
	}
	w.Close()
	errW.Close()
	if err != nil {
		return 0, nil, false, fmt.Errorf("cannot start the stack: %w", err)
	}
	rep := &report{pass: os.Stderr}
	drained := make(chan struct{})
	go func() { io.Copy(rep, errR); close(drained) }()
	ready := make(chan bool, 1)
	go func() { ready <- background.Heard(r) }()
	ended := make(chan unix.WaitStatus, 1)
	go func() { ended <- reap(cmd.Process.Pid) }()
	answered := false
	for {
		select {
		case ok := <-ready:
			ready = nil
			if ok {
				answered = true
				if up != nil || n == 0 {
					tellReady(up, !foreground)
					up = nil
				}
			}
		case sig := <-signals:
			cmd.Process.Signal(sig)
		case status := <-ended:
			if ready != nil {
				answered = <-ready
			}
			<-drained
			return status, rep, answered, nil
		}
	}
}

// reap waits for the child pid; as a container's first process also for the
// orphans it inherits.
func reap(pid int) unix.WaitStatus {
	want := pid
	if os.Getpid() == 1 {
		want = -1
	}
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(want, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || got == pid {
			return status
		}
	}
}

// record puts a crash into the log, panic text and all.
func (s *supervisor) record(status unix.WaitStatus, text string, wait time.Duration) {
	why := fmt.Sprintf("exit status %d", status.ExitStatus())
	if status.Signaled() {
		why = "signal " + status.Signal().String()
	}
	log := s.log
	if log == nil {
		f, err := background.OpenLog(s.logPath, background.LogSize, false)
		if err != nil {
			return
		}
		defer f.Close()
		log = newLogger(slog.LevelInfo, f, os.Stderr)
	}
	log.Error("the stack died and is started again", "why", why, "in", wait, "panic", text)
}

// newLogger writes to every w.
func newLogger(level slog.Level, w ...io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(w...), &slog.HandlerOptions{Level: level}))
}
