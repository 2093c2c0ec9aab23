// Package host brings a stack to life inside any Go program: the clock pump,
// the drivers' loops, and calls that wait.
package host

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	chacha "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/stack"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	cntNoBuffer  = mib.NewCounter("driver", "no receive buffer", "# frame{s} lost for want of receive buffers")
	cntMalformed = mib.NewCounter("driver", "malformed frame", "# malformed frame{s} from drivers")
)

// Config is what a stack starts with; the zero value is good.
type Config struct {
	Log              *slog.Logger
	Memory           int64 // octets of packet buffers; 0: the default
	ReuseportUnicast bool
	NoCache          bool
	V4Only           bool // no IPv6 at all
	IPsec            bool // packets are protected as policies say
	FilterFirst      bool // the filter is asked before packets are protected
	Burst            int  // frames that one call into the engine takes; 0: DefaultBurst
	SystemRandom     bool // every random number from the system, not from a generator that it seeds
	// Real-time priorities (SCHED_RR) of the threads that receive and of the
	// one that runs the timers; 0: as any other. What the system refuses is
	// logged.
	InputPriority, TimerPriority int
	NameServers                  []netip.AddrPort // of the stack's resolver
}

// DefaultBurst is a frame for each 2 KiB of io-net's receive context.
const DefaultBurst = 32

// Stack is a living stack. Close ends it.
type Stack struct {
	engine *stack.Stack
	log    *slog.Logger
	start  time.Time
	wall   time.Time
	wake   chan struct{}
	done   chan struct{}
	pump   sync.WaitGroup
	dues   atomic.Int64 // when the pump will wake by itself
	conf   Config

	mu      sync.Mutex
	devices map[string]*device
	closed  bool

	endpoints endpoints
	resolver  net.Resolver
	failures  failures
}

type device struct {
	ifp    *netif.Interface
	drv    driver.Driver
	opts   driver.Options
	done   chan struct{}
	leaves atomic.Bool // Detach is at work
	panics atomic.Pointer[string]
}

// guarded is the driver as the engine calls it. A panic of the driver's in
// there ends the device and not the engine, which is in the middle of a call.
type guarded struct {
	dev *device
	log *slog.Logger
}

func (g *guarded) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	if g.dev.panics.Load() != nil {
		ifp.Stats.OutDrops.Add(uint64(len(burst)))
		packet.FreeBurst(burst)
		return
	}
	defer g.caught()
	g.dev.drv.Transmit(ifp, burst)
}

// SetFilter is netif.Filter.
func (g *guarded) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	if f, ok := g.dev.drv.(netif.Filter); ok && g.dev.panics.Load() == nil {
		defer g.caught()
		f.SetFilter(promisc, allmulti, groups)
	}
}

func (g *guarded) caught() {
	r := recover()
	if r == nil {
		return
	}
	why := fmt.Sprintf("driver panicked: %v", r)
	if g.dev.panics.CompareAndSwap(nil, &why) {
		g.log.Error("driver panicked", "interface", g.dev.ifp.Name, "panic", r, "stack", string(debug.Stack()))
		go g.dev.drv.Close() //nolint:errcheck // ends Run, which takes the interface down
	}
}

// New starts a stack with lo0 and no other interface.
func New(c Config) (*Stack, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Burst <= 0 {
		c.Burst = DefaultBurst
	}
	h := &Stack{conf: c, log: c.Log, start: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{}), devices: map[string]*device{}}
	h.wall = h.start.Round(0)
	h.resolver = net.Resolver{PreferGo: true, Dial: h.dialServer}
	e, err := stack.New(stack.Config{
		Log: c.Log, Now: h.Now, Rand32: random(c.SystemRandom), Earlier: h.earlier,
		Memory: c.Memory, ReuseportUnicast: c.ReuseportUnicast, NoCache: c.NoCache, V4Only: c.V4Only, IPsec: c.IPsec, FilterFirst: c.FilterFirst,
	})
	if err != nil {
		return nil, err
	}
	h.engine = e
	h.pump.Add(1)
	go h.clock()
	return h, nil
}

// random is a stack's source of unpredictable numbers.
func random(system bool) func() uint32 {
	if system {
		return func() uint32 {
			var b [4]byte
			rand.Read(b[:]) // never fails (crypto/rand)
			return binary.LittleEndian.Uint32(b[:])
		}
	}
	var seed [32]byte
	rand.Read(seed[:])
	var mu sync.Mutex
	g := chacha.NewChaCha8(seed)
	return func() uint32 {
		mu.Lock()
		defer mu.Unlock()
		return uint32(g.Uint64())
	}
}

// priority gives the calling goroutine a thread of its own that is scheduled
// by SCHED_RR.
func (h *Stack) priority(n int, what string) {
	if n == 0 {
		return
	}
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: uint32(min(n, 99))}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		h.log.Warn("real-time priority refused: threads run as any other; CAP_SYS_NICE or RLIMIT_RTPRIO would allow it",
			"of", what, "priority", n, "error", err)
		runtime.UnlockOSThread()
	}
}

// Engine is the passive stack inside.
func (h *Stack) Engine() *stack.Stack { return h.engine }

// Now is the stack's clock: nanoseconds since it started, never 0.
func (h *Stack) Now() int64 { return int64(time.Since(h.start)) + 1 }

// Wall is the wall clock's view of a time of the stack's clock.
func (h *Stack) Wall(ns int64) time.Time { return h.wall.Add(time.Duration(ns)) }

// Call makes one call into the engine. f must not block.
func (h *Stack) Call(f func(w *netif.Work)) {
	w := h.engine.Env.Begin(h.Now())
	f(w)
	w.End()
}

// earlier is told of a timer that is due before all others.
func (h *Stack) earlier(at int64) {
	if at < h.dues.Load() {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// clock is the pump: it sleeps until the next timer is due.
func (h *Stack) clock() {
	defer h.pump.Done()
	h.priority(h.conf.TimerPriority, "timers")
	const forever = 1 << 62
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		h.dues.Store(forever)
		d := time.Hour
		if at, ok := h.engine.Next(); ok {
			h.dues.Store(at)
			d = time.Duration(at - h.Now())
		}
		if d > 0 {
			t.Reset(d)
			select {
			case <-h.done:
				return
			case <-h.wake:
			case <-t.C:
			}
		}
		h.engine.Advance(h.Now())
	}
}

// Close detaches every device and ends the stack. Calls on its connections
// and listeners, those that wait too, answer net.ErrClosed; they are still
// closed by their owners.
func (h *Stack) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	var names []string
	for n := range h.devices {
		names = append(names, n)
	}
	h.mu.Unlock()
	var errs []error
	for _, n := range names {
		if err := h.Detach(n); err != syscall.ENXIO { // somebody else was faster
			errs = append(errs, err)
		}
	}
	h.endpoints.end()
	close(h.done)
	h.pump.Wait()
	h.engine.Close()
	return errors.Join(errs...)
}

// Attach makes a device an interface of the stack, named by its family and
// o.Lan (or the next free number), and starts receiving.
func (h *Stack) Attach(d driver.Driver, o driver.Options) (*netif.Interface, error) {
	info := d.Info()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, syscall.ESHUTDOWN
	}
	name := h.engine.Env.Ifs.FreeName(info.Family)
	if o.Lan >= 0 {
		name = fmt.Sprintf("%s%d", info.Family, o.Lan)
	}
	flags := uint32(netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning)
	if o.Promisc {
		flags |= netif.FlagPromisc
	}
	g := &guarded{dev: &device{drv: d, opts: o, done: make(chan struct{})}, log: h.log}
	ifp := netif.New(netif.Config{Name: name, Type: netif.TypeEther, Flags: flags, MTU: info.MTU, MAC: info.MAC, Caps: info.Caps, Driver: g})
	g.dev.ifp = ifp
	if err := h.engine.AddInterface(ifp); err != nil {
		return nil, err
	}
	h.devices[name] = g.dev
	ifp.Refilter()
	go h.run(g.dev)
	return ifp, nil
}

// run is a device's life. A driver that fails or panics takes its interface
// down, and nothing else.
func (h *Stack) run(dev *device) {
	defer close(dev.done)
	err := func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("driver panicked: %v", r)
				h.log.Error("driver panicked", "interface", dev.ifp.Name, "panic", r, "stack", string(debug.Stack()))
			}
		}()
		return dev.drv.Run(&sink{h: h, dev: dev})
	}()
	if dev.leaves.Load() {
		return
	}
	if why := dev.panics.Load(); why != nil {
		err = errors.New(*why)
	} else if err == nil {
		err = errors.New("the driver ended by itself")
	}
	dev.ifp.SetLastError(err.Error())
	h.log.Error("interface failed", "interface", dev.ifp.Name, "error", err)
	h.engine.SetRunning(dev.ifp, false)
	h.engine.LinkState(dev.ifp, false)
}

// Detach takes an interface out of the stack and closes its device. ENXIO:
// there is none of that name; EBUSY: lo0.
func (h *Stack) Detach(name string) error {
	h.mu.Lock()
	dev := h.devices[name]
	delete(h.devices, name)
	h.mu.Unlock()
	if dev == nil {
		if h.engine.Env.Ifs.ByName(name) != nil {
			return syscall.EBUSY
		}
		return syscall.ENXIO
	}
	dev.leaves.Store(true)
	err := h.engine.RemoveInterface(dev.ifp)
	err = errors.Join(err, dev.drv.Close())
	<-dev.done
	return err
}

// Device is the driver of an interface, or nil.
func (h *Stack) Device(name string) driver.Driver {
	if d := h.device(name); d != nil {
		return d.drv
	}
	return nil
}

// Options are those a device was attached with.
func (h *Stack) Options(name string) driver.Options {
	if d := h.device(name); d != nil {
		return d.opts
	}
	return driver.Options{Lan: -1}
}

func (h *Stack) device(name string) *device {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devices[name]
}

// sink is driver.Sink for one device.
type sink struct {
	h   *Stack
	dev *device
}

func (s *sink) Receiving() { s.h.priority(s.h.conf.InputPriority, s.dev.ifp.Name) }

func (s *sink) Pool() *packet.Pool { return s.h.engine.Env.Pool }

// Input runs a burst to completion. A panic in here may hold locks of the
// engine, so it ends the process with a report instead of the driver alone.
func (s *sink) Input(burst []*packet.Buf) {
	ok := false
	defer func() {
		if !ok {
			die(recover())
		}
	}()
	for len(burst) > 0 {
		n := min(len(burst), s.h.conf.Burst)
		w := s.h.engine.Env.Begin(s.h.Now())
		s.dev.ifp.Input(w, s.dev.ifp, burst[:n])
		w.End()
		burst = burst[n:]
	}
	ok = true
}

// die ends the process with the report of a panic in the engine.
func die(r any) {
	fmt.Fprintf(os.Stderr, "panic in the engine: %v\n\n%s", r, debug.Stack())
	os.Exit(2)
}

func (s *sink) Dropped(n int) {
	s.dev.ifp.Stats.InDrops.Add(uint64(n))
	s.h.engine.Env.MIB.Add(cntNoBuffer, uint64(n))
}

func (s *sink) Malformed(n int) {
	s.dev.ifp.Stats.InErrors.Add(uint64(n))
	s.h.engine.Env.MIB.Add(cntMalformed, uint64(n))
}

func (s *sink) LinkState(up bool) { s.h.engine.LinkState(s.dev.ifp, up) }

func (s *sink) Verbose(msg string, args ...any) {
	if s.dev.opts.Verbose > 0 {
		s.h.log.Info(msg, append([]any{"interface", s.dev.ifp.Name}, args...)...)
	}
}
