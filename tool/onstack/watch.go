package onstack

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells of descriptors that become ready, each from one goroutine. What
// it calls must not wait.
type watcher struct {
	ep   int
	mu   sync.Mutex
	want map[int]want
	last int32 // number of the last add
}

// want is one add. An event that was on its way when its descriptor was closed
// has another number than what has the descriptor now.
type want struct {
	number int32
	f      func(events uint32)
}

func newWatcher() (*watcher, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &watcher{ep: ep, want: map[int]want{}}
	go w.run()
	return w, nil
}

func (w *watcher) run() {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(w.ep, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			w.tell(e)
		}
	}
}

func (w *watcher) tell(e unix.EpollEvent) {
	w.mu.Lock()
	a := w.want[int(e.Fd)]
	w.mu.Unlock()
	if a.f != nil && a.number == e.Pad {
		a.f(e.Events)
	}
}

// add has f called once, when fd has one of the events, or has hung up. It is to
// be removed before fd is closed. Errors: EPERM for a descriptor that is always
// ready; ENOSPC, ENOMEM.
func (w *watcher) add(fd int, events uint32, f func(events uint32)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	err := unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(fd), Pad: w.last})
	if err == nil {
		w.want[fd] = want{w.last, f}
	}
	return err
}

// remove undoes add, if there was one.
func (w *watcher) remove(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.want[fd].f != nil {
		delete(w.want, fd)
		_ = unix.EpollCtl(w.ep, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// park is a call that waits, and that may be over at any time without a word: a
// signal has taken its thread away.
type park struct {
	c     *call
	retry func() // something has come
	drop  func() // nobody waits any more; not nil
	timer *time.Timer
}

// parked are the calls that wait, by thread, which waits in one call at most.
type parked struct {
	mu sync.Mutex
	by map[uint32]*park
}

// put has p wait, for at most d unless that is 0; what is done then is late.
func (w *parked) put(p *park, d time.Duration, late func()) {
	p.c.closeMemory()
	w.mu.Lock()
	old := w.by[p.c.pid]
	w.by[p.c.pid] = p
	if d > 0 {
		p.timer = time.AfterFunc(d, func() {
			if w.take(p) {
				late()
			}
		})
	}
	w.mu.Unlock()
	if old != nil { // its thread is here again
		go old.end() // whose locks may be held here
	}
}

// take claims p for who is going to end it; false: somebody else has.
func (w *parked) take(p *park) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by[p.c.pid] != p {
		return false
	}
	delete(w.by, p.c.pid)
	if p.timer != nil {
		p.timer.Stop()
	}
	return true
}

func (p *park) end() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.drop()
}

// sweep drops those whose threads have gone.
func (w *parked) sweep() {
	w.mu.Lock()
	var gone []*park
	for pid, p := range w.by {
		if !p.c.valid() {
			gone = append(gone, p)
			delete(w.by, pid)
		}
	}
	w.mu.Unlock()
	for _, p := range gone {
		p.end()
	}
}
