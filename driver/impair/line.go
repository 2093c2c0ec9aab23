package impair

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	// maxBurst is the most frames handed on at once.
	maxBurst = 64
	// rounds is how many bursts a caller hands on, others' frames included,
	// before it leaves the rest to the timer.
	rounds = 16
	// tick is how long the timer sleeps at least: frames whose times lie closer
	// leave together, each at most that much late.
	tick = 50 * time.Microsecond
)

// line is one way at work: a pipe, the clock, and a timer for what is not due
// at once. Whoever makes a frame due hands it on; at any time one goroutine
// does, so that the order holds, and no lock is held meanwhile.
type line struct {
	deliver func(ifp *netif.Interface, burst []*packet.Buf)
	start   time.Time

	mu      sync.Mutex
	pipe    *pipe
	timer   *os.File // a timerfd: exact where the runtime's timers, which sleep in epoll_wait, count milliseconds
	fd      int
	armed   int64 // when the timer will ring; 0: not at all
	handing bool  // somebody owns batch
	closed  bool
	ifp     *netif.Interface // of the latest call

	batch [maxBurst]*packet.Buf
}

func newLine(p *pipe) (*line, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	return &line{pipe: p, start: time.Now(), fd: fd, timer: os.NewFile(uintptr(fd), "timerfd")}, nil
}

func (l *line) now() int64 { return int64(time.Since(l.start)) }

// enter takes over a burst of frames of ifp and answers how many were dropped
// for want of room.
func (l *line) enter(ifp *netif.Interface, burst []*packet.Buf) (drops int) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		packet.FreeBurst(burst)
		return len(burst)
	}
	l.ifp = ifp
	now := l.now()
	for _, b := range burst {
		drops += l.pipe.enter(now, b)
	}
	l.hand(now) // which may panic, without the lock
	l.mu.Unlock()
	return drops
}

// hand hands on what is due and sets the timer for the rest. mu is held, and
// let go of meanwhile.
func (l *line) hand(now int64) {
	if l.handing {
		return // who is at it will see
	}
	l.handing = true
	for range rounds {
		n := l.pipe.leave(now, l.batch[:])
		if n == 0 {
			break
		}
		ifp := l.ifp
		l.mu.Unlock()
		l.deliver(ifp, l.batch[:n])
		l.mu.Lock()
		now = l.now()
	}
	l.handing = false
	if at, ok := l.pipe.next(); ok && !l.closed {
		l.arm(now, at)
	}
}

// arm has the timer ring at a time, unless it rings before.
func (l *line) arm(now, at int64) {
	at = max(at, now+int64(tick))
	if l.armed != 0 && l.armed <= at {
		return
	}
	l.armed = at
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(at - now)}
	if err := unix.TimerfdSettime(l.fd, 0, &spec, nil); err != nil {
		panic(fmt.Sprintf("timerfd_settime: %v", err)) // a valid descriptor and a valid time
	}
}

// run hands on what the timer rings for, until close.
func (l *line) run() error {
	var expired [8]byte
	for {
		_, err := l.timer.Read(expired[:])
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("timer: %w", err)
		}
		if binary.NativeEndian.Uint64(expired[:]) == 0 {
			continue
		}
		l.mu.Lock()
		l.armed = 0
		l.hand(l.now())
		l.mu.Unlock()
	}
}

// close ends run and frees what is on the way. It may be called twice.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.timer.Close()
	l.pipe.drop()
}

func (l *line) counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pipe.counts()
}
