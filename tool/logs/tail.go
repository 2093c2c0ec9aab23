package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tail watches the folder of a log (inotify): writes to it, and the arrival
// of a new file under its name, which is a rotation.
type tail struct{ f *os.File }

func newTail(path string) (*tail, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	dir := filepath.Dir(path)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &tail{os.NewFile(uintptr(fd), "inotify")}, nil
}

func (t *tail) close() { t.f.Close() }

// wait waits until something happened in the folder. What exactly does not
// matter: the reader looks at all it follows.
func (t *tail) wait() error {
	buf := make([]byte, 64<<10)
	_, err := t.f.Read(buf)
	return err
}

// tail prints what is added to f, and to the files that take its place. It
// closes f.
func (p *printer) tail(ctx context.Context, t *tail, path string, f *os.File) error {
	defer func() { f.Close() }()
	stop := context.AfterFunc(ctx, t.close)
	defer stop()
	var part string // a line that has no end yet
	drain := func() error {
		buf := make([]byte, 64<<10)
		if pos, err := f.Seek(0, io.SeekCurrent); err == nil {
			if st, err := f.Stat(); err == nil && st.Size() < pos {
				part = ""
				f.Seek(0, io.SeekStart) // truncated
			}
		}
		for {
			n, err := f.Read(buf)
			part += string(buf[:n])
			for {
				line, rest, ok := strings.Cut(part, "\n")
				if !ok {
					break
				}
				part = rest
				if err := p.line(line); err != nil {
					return err
				}
			}
			switch {
			case errors.Is(err, io.EOF):
				return p.w.Flush()
			case err != nil:
				return err
			}
		}
	}
	for {
		if err := drain(); err != nil {
			return err
		}
		next, err := os.Open(path)
		if err == nil {
			a, err1 := f.Stat()
			b, err2 := next.Stat()
			if err1 == nil && err2 == nil && !os.SameFile(a, b) {
				// What was written between our last look and the rotation.
				if err := drain(); err != nil {
					next.Close()
					return err
				}
				f.Close()
				f, part = next, ""
				continue
			}
			next.Close()
		}
		if err := t.wait(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}
