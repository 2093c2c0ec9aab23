package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// handedOver is set in the environment of the system's command, so that a
// wrapper that leads back to us ends in a sentence and not in a circle.
const handedOver = "IONET_HANDED_OVER"

// finder finds the system's own command.
type finder struct {
	env  func(string) string
	self string // our own executable
	stat func(string) (fs.FileInfo, error)
}

func newFinder(env func(string) string) finder {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return finder{env, self, os.Stat}
}

// find answers the first executable called name on PATH, then in the usual
// folders, that is not ours: neither our binary under another name, nor
// anything that stands beside it.
func (f finder) find(name string) (string, error) {
	if f.env(handedOver) != "" {
		return "", fmt.Errorf("the system's %s leads back to ionet's: take ionet's folder out of its PATH", name)
	}
	ours, err := f.stat(f.self)
	if err != nil {
		return "", err
	}
	folder, err := f.stat(filepath.Dir(f.self))
	if err != nil {
		return "", err
	}
	for _, dir := range append(filepath.SplitList(f.env("PATH")), "/bin", "/usr/bin", "/sbin", "/usr/sbin") {
		if !filepath.IsAbs(dir) {
			continue
		}
		p := filepath.Join(dir, name)
		st, err := f.stat(p)
		if err != nil || st.IsDir() || st.Mode()&0o111 == 0 || os.SameFile(st, ours) {
			continue
		}
		if d, err := f.stat(dir); err == nil && os.SameFile(d, folder) {
			continue
		}
		return p, nil
	}
	return "", fmt.Errorf("this is not for the stack, and the system has no %s of its own on PATH: %w", name, errors.ErrUnsupported)
}
