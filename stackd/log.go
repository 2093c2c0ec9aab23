package stackd

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

// Rotation of the log: the file is renamed to .1 when it has grown past
// logSize, .1 to .2 and so on; logKeep old ones stay.
const (
	logSize = 1 << 20
	logKeep = 3
)

// rotator is a log file that rotates by size.
type rotator struct {
	mu    sync.Mutex
	path  string
	limit int64
	f     *os.File
	size  int64
	crash bool // the runtime's crash report goes there too
	own2  bool // and all that is written to standard error
}

func openLog(path string, limit int64, crash bool) (*rotator, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	r := &rotator{path: path, limit: limit, crash: crash}
	return r, r.open()
}

func (r *rotator) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	r.size = 0
	if st, err := f.Stat(); err == nil {
		r.size = st.Size()
	}
	r.f = f
	if r.own2 {
		unix.Dup3(int(f.Fd()), 2, 0)
	}
	if r.crash {
		return debug.SetCrashOutput(f, debug.CrashOptions{})
	}
	return nil
}

// Write appends one record.
func (r *rotator) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return 0, os.ErrClosed
	}
	if r.size > 0 && r.size+int64(len(b)) > r.limit {
		if err := r.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := r.f.Write(b)
	r.size += int64(n)
	return n, err
}

func (r *rotator) rotate() error {
	for i := logKeep; i > 1; i-- {
		os.Rename(fmt.Sprintf("%s.%d", r.path, i-1), fmt.Sprintf("%s.%d", r.path, i))
	}
	if err := os.Rename(r.path, r.path+".1"); err != nil {
		return err
	}
	old := r.f
	if err := r.open(); err != nil {
		return err // the old file goes on
	}
	return old.Close()
}

// takeStderr makes the log the process's standard error, for the report of a
// panic that ends a stack in the background.
func (r *rotator) takeStderr() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own2, r.crash = true, false
	debug.SetCrashOutput(nil, debug.CrashOptions{})
	unix.Dup3(int(r.f.Fd()), 2, 0)
	logTaken.Store(true)
}

func (r *rotator) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return nil
	}
	if r.crash {
		debug.SetCrashOutput(nil, debug.CrashOptions{})
	}
	err := r.f.Close()
	r.f = nil
	return err
}

// newLogger writes to every w.
func newLogger(level slog.Level, w ...io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(w...), &slog.HandlerOptions{Level: level}))
}
