package background

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// PIDFile is a file with the number of this process, which holds a lock on it as
// long as it lives (pidfile(3) of FreeBSD): a number that a crash has left there
// is nobody's.
type PIDFile struct{ f *os.File }

// TakePIDFile makes the file, or takes over what a dead process has left. It is
// refused where a process lives that has it.
func TakePIDFile(path string) (*PIDFile, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			b, _ := io.ReadAll(io.LimitReader(f, 32))
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: process %s has it and lives", path, strings.TrimSpace(string(b)))
			}
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		p := &PIDFile{f}
		if !p.current() { // its owner has removed it meanwhile
			f.Close()
			continue
		}
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, err
		}
		if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
			p.Remove()
			return nil, err
		}
		return p, nil
	}
}

// current reports whether the file is the one that has its name.
func (p *PIDFile) current() bool {
	ours, err := p.f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(p.f.Name())
	return err == nil && os.SameFile(ours, named)
}

// Remove removes the file, and lets go of it.
func (p *PIDFile) Remove() {
	if p.current() {
		os.Remove(p.f.Name())
	}
	p.f.Close()
}
