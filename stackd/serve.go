package stackd

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/tool/background"
)

// daemon is one stack with its files.
type daemon struct {
	o     Options
	t     TCPIP
	paths paths
	log   *slog.Logger
	file  *background.Log
	lock  *lockFile
	eng   *engine
	srv   *server
	undo  func() // takes back the entry in the register of stacks

	once sync.Once
	end  chan struct{}
}

// configure reads the command line's modules and settles the prefix.
func configure(o Options) (*daemon, error) {
	protocols := o.Protocols()
	if len(protocols) == 0 {
		return nil, fmt.Errorf("no protocol: io-net wants -p tcpip (or tcpip-v4, tcpip-v6)")
	}
	if len(protocols) > 1 {
		return nil, fmt.Errorf("-p %s: there is one protocol, %s is loaded already", protocols[1].Name, protocols[0].Name)
	}
	t, err := ParseTCPIP(protocols[0].Name, protocols[0].Options)
	if err != nil {
		return nil, err
	}
	if o.Threads > 0 {
		t.ThreadsMin = min(max(o.Threads, 4), 1<<14)
		t.ThreadsMax = max(t.ThreadsMax, t.ThreadsMin)
	}
	prefix, err := choosePrefix(&o, &t)
	if err != nil {
		return nil, err
	}
	d := &daemon{o: o, t: t, paths: paths{prefix, o.Instance}, end: make(chan struct{})}
	return d, d.paths.check()
}

// gcPercent lets the heap grow to three times what lives before it is
// collected. What is large in it is the forwarding table, at some 100 octets a
// route: a million of them take at most 300 MB for a moment, and half the
// collections while they come. GOGC in the environment overrides it.
const gcPercent = 200

// start brings the stack to life; stderr takes what the user must see.
func (d *daemon) start(stderr io.Writer, foreground bool) (err error) {
	if d.lock, err = d.paths.claim(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.file, err = background.OpenLog(d.paths.log(), background.LogSize, true); err != nil {
		return fmt.Errorf("cannot open the log: %w", err)
	}
	level := slog.LevelInfo
	if d.o.Verbose > 0 {
		level = slog.LevelDebug
	}
	to := []io.Writer{d.file}
	if foreground {
		to = append(to, stderr)
	}
	d.log = newLogger(level, to...)
	warn := func(s string) {
		d.log.Warn(s)
		if !foreground {
			fmt.Fprintln(stderr, s)
		}
	}
	d.log.Info("tcpip starting", "module", d.t.Module, "prefix", d.paths.prefix, "pid", os.Getpid())
	if !d.t.Random {
		d.log.Info("random numbers come from ChaCha8, seeded by the system; option random draws each from the system")
	}
	for _, s := range append(d.o.warnings(), d.t.Warnings...) {
		warn(s)
	}
	if d.eng, err = newEngine(d.log, d.paths, &d.o, &d.t); err != nil {
		return err
	}
	if d.srv, err = newServer(d.log, d.eng, d.paths); err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	s := d.srv
	s.stop, s.static, s.arpOut = d.stop, d.o.Static, d.t.ExternalARP
	s.info = stackInfo{instance: d.o.Instance, started: time.Now(), options: os.Args[1:], rows: append(d.o.Rows(), d.t.Rows()...)}
	s.info.restarts, _ = strconv.Atoi(os.Getenv(envRestarts))
	for _, m := range d.o.Drivers() {
		_, notices, err := d.eng.mount(m.Name, m.Options)
		if err != nil {
			return fmt.Errorf("-d %s: %w", m.Name, err)
		}
		for _, n := range notices {
			warn(n)
		}
	}
	if background.Stage() == stageStack {
		if s.journal, err = openJournal(d.paths.state(), s.info.restarts == 0, d.log); err != nil {
			return err
		}
		if s.info.restarts > 0 {
			s.journal.replay(s)
		}
	}
	families := []int{protocol.AFInet, protocol.AFInet6, protocol.AFRoute}
	if d.eng.Engine().Inet6 == nil {
		families = []int{protocol.AFInet, protocol.AFRoute}
	}
	if d.eng.Engine().IPsec != nil {
		families = append(families, protocol.AFKey)
	}
	for _, family := range families {
		if err := s.listen(d.paths.door(family), family, ""); err != nil {
			return err
		}
	}
	if d.t.ExternalARP {
		if err := s.listen(d.paths.entry("ip_en"), protocol.AFInet, arpEntry); err != nil {
			return err
		}
	}
	s.start(d.t.ThreadsMin, d.t.ThreadsMax, d.t.ThreadsIncr)
	if d.undo, err = door.Register(d.paths.prefix); err != nil {
		warn(fmt.Sprintf("ionet ps will not list this stack: %v", err))
	}
	return nil
}

// stop ends the stack soon; it does not wait.
func (d *daemon) stop() { d.once.Do(func() { close(d.end) }) }

// signals are those that end the stack. Who tells others that it lives asks
// for them before: the first may come right after.
func signals() (ch chan os.Signal, undo func()) {
	ch = make(chan os.Signal, 2)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT)
	return ch, func() { signal.Stop(ch) }
}

// wait returns when the stack is to end.
func (d *daemon) wait(ch <-chan os.Signal) {
	select {
	case sig := <-ch:
		d.log.Info("ending", "signal", sig.String())
	case <-d.end:
		d.log.Info("ending", "because", "a client asked")
	}
}

// close ends the stack and removes its files. The connections go last: who
// waits for their end knows that nothing is left.
func (d *daemon) close() {
	if d.undo != nil {
		d.undo()
	}
	if d.lock != nil {
		d.paths.remove()
	}
	if d.eng != nil && d.srv == nil {
		d.eng.Close()
	}
	if d.srv != nil {
		d.srv.shut(func() {
			if err := d.eng.Close(); err != nil && d.log != nil {
				d.log.Error("closing the drivers", "err", err)
			}
			if d.srv.journal != nil {
				d.srv.journal.close()
				os.Remove(d.paths.state())
			}
			d.release()
		})
		return
	}
	d.release()
}

func (d *daemon) release() {
	if d.file != nil {
		d.file.Close()
	}
	if d.lock != nil {
		d.lock.release()
	}
}
