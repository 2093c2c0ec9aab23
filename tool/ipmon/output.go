package ipmon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"ionet/protocol"
)

// Severities of syslog (RFC 5424 §6.2.1).
const (
	severityCrit    = 2
	severityErr     = 3
	severityWarning = 4
	severityNotice  = 5
	severityInfo    = 6
)

// severities are the priorities that rules can name.
var severities = map[string]int{"emerg": 0, "alert": 1, "crit": severityCrit, "err": severityErr, "warn": severityWarning, "notice": severityNotice, "info": severityInfo, "debug": 7}

// facilities are those that rules can name; security is auth's other name, console is BSD's.
var facilities = map[string]int{"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "security": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9,
	"authpriv": 10, "ftp": 11, "audit": 13, "logalert": 14, "console": 14,
	"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23}

// severity is the priority of a record's lines: facility times 8, and severity.
func (t *tool) severity(r *protocol.LogRow) int {
	facility, n := t.o.facility, severityInfo
	switch {
	case r.Log != "packets":
	case slices.Contains(r.With, protocol.WithShort):
		n = severityErr
	case r.Event == "block":
		n = severityWarning
	case r.Event == "pass", r.Event == "nomatch":
		n = severityNotice
	}
	level := r.Level
	if f, l, both := strings.Cut(level, "."); both {
		if k, ok := facilities[f]; ok {
			facility = k
		}
		level = l
	}
	if k, ok := severities[level]; ok {
		n = k
	}
	return facility<<3 | n
}

// output is where lines go, and where records are kept.
type output struct {
	path, copyPath string
	w              *bufio.Writer
	file, copy     *os.File // nil: none
	syslog         *syslog  // nil: none
	facility       int
}

func open(o *options, stdout io.Writer) (*output, error) {
	out := &output{path: o.file, copyPath: o.copy, w: bufio.NewWriter(stdout), facility: o.facility}
	if o.syslog {
		out.syslog = &syslog{paths: syslogPaths}
		if err := out.syslog.dial(); err != nil {
			return nil, err
		}
	}
	return out, out.reopen()
}

// reopen opens the files anew. Those that cannot be opened go on as they were, with an error.
func (o *output) reopen() error {
	if err := o.flush(); err != nil {
		return err
	}
	if o.path != "" {
		if err := replaceFile(&o.file, o.path); err != nil {
			return err
		}
		o.w.Reset(o.file)
	}
	if o.copyPath == "" {
		return nil
	}
	return replaceFile(&o.copy, o.copyPath)
}

func replaceFile(f **os.File, path string) error {
	n, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if *f != nil {
		(*f).Close()
	}
	*f = n
	return nil
}

// write hands over a line of a priority.
func (o *output) write(priority int, line []byte) error {
	if o.syslog != nil {
		return o.syslog.write(priority, line)
	}
	_, err := o.w.Write(append(line[:len(line):len(line)], '\n'))
	return err
}

// note hands over a line of ipmon's own; among JSON it would be none.
func (o *output) note(severity int, line []byte, json bool) error {
	if json && o.syslog == nil {
		_, err := fmt.Fprintf(os.Stderr, "%s\n", line)
		return err
	}
	return o.write(o.facility<<3|severity, line)
}

// keep appends a record to the file of -B.
func (o *output) keep(record []byte) error {
	if o.copy == nil {
		return nil
	}
	_, err := o.copy.Write(append(record[:len(record):len(record)], '\n'))
	return err
}

func (o *output) flush() error { return o.w.Flush() }

func (o *output) close() {
	_ = o.flush()
	for _, f := range []*os.File{o.file, o.copy} {
		if f != nil {
			f.Close()
		}
	}
	if o.syslog != nil && o.syslog.c != nil {
		o.syslog.c.Close()
	}
}

// syslogPaths are where syslog may listen.
var syslogPaths = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

// syslog writes to the host's syslog (RFC 3164).
type syslog struct {
	paths  []string
	c      net.Conn
	stream bool
}

func (s *syslog) dial() error {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
	var first error
	for _, p := range s.paths {
		for _, kind := range []string{"unixgram", "unix"} {
			c, err := net.Dial(kind, p)
			if err == nil {
				s.c, s.stream = c, kind == "unix"
				return nil
			}
			if first == nil {
				first = err
			}
		}
	}
	return fmt.Errorf("no syslog on this host: %w", first)
}

// How long a syslog that is away may take to come back: records wait in the log meanwhile.
const (
	syslogTries = 50
	syslogPause = 100 * time.Millisecond
)

func (s *syslog) write(priority int, line []byte) error {
	end := ""
	if s.stream {
		end = "\x00"
	}
	b := fmt.Appendf(nil, "<%d>%s ipmon[%d]: %s%s", priority, time.Now().Format(time.Stamp), os.Getpid(), line, end)
	var err error
	for range syslogTries {
		if s.c != nil {
			if _, err = s.c.Write(b); err == nil {
				return nil
			}
		}
		if err = s.dial(); err != nil {
			time.Sleep(syslogPause)
		}
	}
	return err
}
