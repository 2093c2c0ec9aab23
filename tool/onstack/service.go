package onstack

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol/door"
	"ionet/tool/background"
	"ionet/tool/cli"
)

const (
	pauseMin   = 500 * time.Millisecond
	pauseMax   = time.Minute
	pauseReset = time.Minute
	stackLook  = 250 * time.Millisecond // between looks whether the stack is there
	mostLine   = 8192                   // octets of a record; the rest is the next
	drainWait  = time.Second            // for the last that an ended program has said
)

// serve is onstack -d: the process that goes to the background, and the one that
// is there.
func serve(ctx *cli.Context, o options, command []string) int {
	if background.Stage() != background.Detached {
		err := background.Start()
		if e, said := errors.AsType[*background.EndedError](err); said {
			return e.Status
		}
		if err != nil {
			return ctx.Fail(exitFailed, "cannot go to the background: %v", err)
		}
		return 0
	}
	s := &service{ctx: ctx, command: command, always: o.always, signals: hear(), ready: background.Ready()}
	background.Forget() // the program is at no stage
	s.quiet.Set(slog.LevelWarn)
	var err error
	if s.log, err = openServiceLog(ctx, o.log, filepath.Base(command[0]), &s.quiet); err != nil {
		return ctx.Fail(exitFailed, "%v", err)
	}
	if o.pidFile != "" {
		p, err := background.TakePIDFile(o.pidFile)
		if err != nil {
			return ctx.Fail(exitFailed, "%v", err)
		}
		defer p.Remove()
	}
	return s.keep()
}

// service is a program that is kept running.
type service struct {
	ctx     *cli.Context
	command []string
	always  bool
	log     *slog.Logger
	quiet   slog.LevelVar // of standard error, as a log, until the service runs
	ready   *os.File      // takes the word that the service runs; nil: it has
	signals chan os.Signal
}

// ending is how a program has ended.
type ending int

const (
	endWell ending = iota
	endBadly
	endStack   // its stack has gone
	endAsked   // a signal has asked for it
	endMissing // it was not started
)

// keep runs the program until it is to run no more, and answers the exit status.
func (s *service) keep() int {
	backoff := background.Backoff{Min: pauseMin, Max: pauseMax, Reset: pauseReset}
	for {
		stack, err := s.await()
		switch {
		case err != nil:
			return s.ctx.Fail(exitFailed, "%v", err)
		case stack == nil:
			return 0
		}
		began := time.Now()
		how, status := s.once(stack)
		_ = stack.Close()
		switch {
		case how == endAsked, how == endWell && !s.always:
			s.log.Info("the service has ended")
			return 0
		case how == endMissing && s.ready != nil:
			return status
		case how == endStack:
			backoff = background.Backoff{Min: pauseMin, Max: pauseMax, Reset: pauseReset}
			continue
		}
		wait := backoff.Next(time.Since(began))
		s.log.Info("the program is started again", "in", wait)
		if !s.pause(wait) {
			return 0
		}
	}
}

// run is the word that the service runs; the terminal is none of its business
// from then on.
func (s *service) run() {
	if s.ready != nil {
		s.quiet.Set(slog.LevelError + 1)
		background.Serve(s.ready, true)
		s.ready = nil
	}
}

// await connects to the stack when it is there; nil: it has been asked to end. A
// stack that refuses is an error for whoever waits for the service to begin.
func (s *service) await() (*client.Stack, error) {
	told := ""
	for {
		stack, err := client.Open(s.ctx.Sock)
		if err == nil {
			return stack, nil
		}
		if s.ready != nil && !absent(err) {
			return nil, err
		}
		if err.Error() != told {
			told = err.Error()
			s.log.Warn("waiting for the stack", "err", err)
		}
		s.run()
		if !s.pause(stackLook) {
			return nil, nil
		}
	}
}

// absent reports whether err of Open says that there is no stack now.
func absent(err error) bool {
	return errors.Is(err, door.ErrNoStack) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR)
}

// pause waits; false: a signal has asked for the end.
func (s *service) pause(d time.Duration) bool {
	late := time.After(d)
	for {
		select {
		case <-late:
			return true
		case sig := <-s.signals:
			if ends(sig) {
				s.log.Info("the service has ended", "signal", sig.String())
				return false
			}
		}
	}
}

// ends reports whether a signal is the end of a service.
func ends(s os.Signal) bool { return s == unix.SIGTERM || s == unix.SIGINT || s == unix.SIGQUIT }

// once runs the program to its end. status is onstack's own where the program was
// not started.
func (s *service) once(stack *client.Stack) (how ending, status int) {
	conn, over, err := s.launch(stack)
	if err != nil {
		return s.missing(exitFailed, err.Error())
	}
	said := make(chan word, 1)
	go hearSupervisor(conn, said)
	defer func() {
		_ = unix.Shutdown(conn, unix.SHUT_RDWR)
		for range said { // until it hears nothing more
		}
		unix.Close(conn)
		over()
	}()
	gone := stack.Done()
	for how = endBadly; ; {
		select {
		case m, ok := <-said:
			switch {
			case !ok:
				s.log.Error("the supervisor has died, and the program with it")
				return how, 0
			case m.what == sayRunning:
				s.log.Info("the program runs", "pid", m.number)
				s.run()
			case m.what == sayStopped:
				s.log.Warn("the program is stopped", "signal", syscall.Signal(m.number).String())
			case how != endBadly:
				return how, 0
			case m.what == sayFailed:
				return s.missing(m.number, m.text)
			default:
				return s.verdict(m), 0
			}
		case sig := <-s.signals:
			if !ends(sig) {
				tell(conn, saySignal, int(sig.(syscall.Signal)))
				continue
			}
			s.log.Info("the service is to end", "signal", sig.String())
			how = endAsked
			tell(conn, sayEnd, 0)
		case <-gone:
			gone = nil
			s.log.Warn("the stack has gone, and the program is ended", "err", stack.Err())
			if how != endAsked {
				how = endStack
			}
			tell(conn, sayEnd, 0)
		}
	}
}

// launch starts a supervisor with the program. over waits for what they have to
// say.
func (s *service) launch(stack *client.Stack) (conn int, over func(), err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return -1, nil, err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return -1, nil, err
	}
	defer w.Close()
	p, conn, err := start(superviseArg, serviceSuffix, supervisorOptions(s.ctx, stack.Prefix()), s.command, []*os.File{null, w, w})
	if err != nil {
		r.Close()
		return -1, nil, err
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.record(r)
	}()
	return conn, func() {
		_, _ = p.Wait()
		select {
		case <-drained:
		case <-time.After(drainWait): // somebody lives who has the pipe still
		}
		r.Close()
	}, nil
}

// record puts what the program says into the log, a record a line.
func (s *service) record(r io.Reader) {
	for lines := bufio.NewReaderSize(r, mostLine); ; {
		line, _, err := lines.ReadLine()
		if err != nil {
			return
		}
		s.log.Info(string(line), "from", filepath.Base(s.command[0]))
	}
}

// word is what the supervisor says.
type word struct {
	what   string
	number int
	text   string
}

// hearSupervisor passes on what the supervisor says, and closes said behind it.
func hearSupervisor(conn int, said chan<- word) {
	defer close(said)
	for {
		what, number, text, err := listen(conn)
		if err != nil {
			return
		}
		said <- word{what, number, text}
	}
}

// missing tells that the program was not started: the user, as long as he waits.
func (s *service) missing(status int, text string) (ending, int) {
	if s.ready != nil {
		return endMissing, s.ctx.Fail(status, "%s", text)
	}
	s.log.Error("the program was not started", "err", text)
	return endMissing, status
}

// verdict is how a program has ended by itself.
func (s *service) verdict(m word) ending {
	switch {
	case m.what == saySignal:
		s.log.Error("the program has died", "signal", syscall.Signal(m.number).String())
	case m.number != 0:
		s.log.Error("the program has failed", "status", m.number)
	default:
		s.log.Info("the program has ended", "status", 0)
		return endWell
	}
	return endBadly
}
