package background

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Rotation of a log: the file is renamed to .1 when it has grown past LogSize
// octets, .1 to .2 and so on; LogKeep old ones stay.
const (
	LogSize = 1 << 20
	LogKeep = 3
)

// Log is a log file that rotates by size. Its methods may be called from several
// goroutines.
type Log struct {
	mu    sync.Mutex
	path  string
	limit int64
	f     *os.File
	size  int64
	crash bool // the runtime's crash report goes there too
	own2  bool // and all that is written to standard error
}

// OpenLog opens the log at path, with its folders, to append to it; limit is
// LogSize but in tests. With crash set the runtime's report of a panic goes
// there too. A path that is a link is refused.
func OpenLog(path string, limit int64, crash bool) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	r := &Log{path: path, limit: limit, crash: crash}
	return r, r.open()
}

func (r *Log) open() error {
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
func (r *Log) Write(b []byte) (int, error) {
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

func (r *Log) rotate() error {
	for i := LogKeep; i > 1; i-- {
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

// logTaken says that standard error is a log.
var logTaken atomic.Bool

// TakeStderr makes the log the process's standard error, for the report of a
// panic that ends a stack in the background.
func (r *Log) TakeStderr() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own2, r.crash = true, false
	debug.SetCrashOutput(nil, debug.CrashOptions{})
	unix.Dup3(int(r.f.Fd()), 2, 0)
	logTaken.Store(true)
}

// Close ends the log; more than once does no harm.
func (r *Log) Close() error {
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
