// Package life is what the daemons share that are clients of a stack: going to the
// background, the log, the files with the process number and the dump below the
// stack's prefix, and the signals.
package life

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"ionet/client"
	"ionet/protocol/door"
	"ionet/tool/background"
	"ionet/tool/cli"
)

// Level is how much a daemon says.
type Level int

// Levels: what somebody should look at; with -d, what the daemon does; with -D,
// each packet.
const (
	Quiet Level = iota
	Debug
	Dump
)

// Daemon is a daemon that runs.
type Daemon struct {
	Name    string
	Prefix  string         // of its stack
	Signals chan os.Signal // SIGTERM, SIGINT, SIGHUP, SIGUSR1

	level Level
	mu    sync.Mutex
	log   io.Writer
	stamp bool // lines begin with the time
	ready *os.File
	bg    bool
}

// Run runs serve as the daemon name, in the background unless foreground is set,
// and answers the exit status. In the background it has a log and a file with its
// process number, $SOCK/var/log/name.log and $SOCK/var/run/name.pid. Whoever
// started it waits until serve calls Serves, or hears the error it returns before.
func Run(ctx *cli.Context, name string, foreground bool, level Level, serve func(*Daemon) error) int {
	stage := background.Stage()
	if !foreground && stage != background.Detached {
		err := background.Start()
		if e, said := errors.AsType[*background.EndedError](err); said {
			return e.Status
		}
		if err != nil {
			return ctx.Errorf("cannot go to the background: %v", err)
		}
		return 0
	}
	prefix, err := client.Find(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	d := &Daemon{Name: name, Prefix: prefix, Signals: make(chan os.Signal, 8), level: level, log: ctx.Stderr}
	signal.Notify(d.Signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(d.Signals)
	if stage == background.Detached {
		d.ready, d.bg = background.Ready(), true
		background.Forget()
		file, err := background.OpenLog(door.Path(prefix, "var/log/"+name+".log"), background.LogSize, true)
		if err != nil {
			return ctx.Errorf("%v", err)
		}
		pidPath := door.Path(prefix, "var/run/"+name+".pid")
		if err := os.MkdirAll(filepath.Dir(pidPath), 0o755); err != nil {
			return ctx.Errorf("%v", err)
		}
		pid, err := background.TakePIDFile(pidPath)
		if err != nil {
			return ctx.Errorf("%v", err)
		}
		defer pid.Remove()
		d.log, d.stamp = file, true
	}
	if err := serve(d); err != nil {
		if d.bg && d.ready == nil { // standard error is nobody's any more
			d.Warnf("%v", err)
			return 1
		}
		return ctx.Errorf("%v", err)
	}
	return 0
}

// Serves says that the daemon does its work from now on.
func (d *Daemon) Serves() {
	if d.ready != nil || d.bg {
		background.Serve(d.ready, d.bg)
		d.ready = nil
	}
}

// Warnf logs a sentence that somebody should read.
func (d *Daemon) Warnf(format string, a ...any) { d.say(Quiet, format, a...) }

// Debugf logs what the daemon does, with -d.
func (d *Daemon) Debugf(format string, a ...any) { d.say(Debug, format, a...) }

// Dumpf logs a packet, with -D.
func (d *Daemon) Dumpf(format string, a ...any) { d.say(Dump, format, a...) }

func (d *Daemon) say(l Level, format string, a ...any) {
	if l > d.level {
		return
	}
	text := fmt.Sprintf(d.Name+": "+format+"\n", a...)
	if d.stamp {
		text = time.Now().Format("2006-01-02T15:04:05.000Z07:00 ") + text
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = io.WriteString(d.log, text)
}

// WriteDump writes the daemon's state to $SOCK/var/run/name.dump.
func (d *Daemon) WriteDump(text string) {
	path := door.Path(d.Prefix, "var/run/"+d.Name+".dump")
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = replace(path, text)
	}
	if err != nil {
		d.Warnf("the dump: %v", err)
	}
}

// replace writes a file of which nobody sees a half.
func replace(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// File is the text of one of the stack's files, $SOCK/etc/name, else of the host's
// /etc/name; path says which. Neither being there is fs.ErrNotExist.
func File(prefix, name string) (text, path string, err error) {
	for _, path = range []string{door.Path(prefix, "etc/"+name), "/etc/" + name} {
		b, err := os.ReadFile(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return string(b), path, err
		}
	}
	return "", "", fs.ErrNotExist
}
