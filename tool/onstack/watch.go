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
	want map[int]func(events uint32)
}

func newWatcher() (*watcher, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &watcher{ep: ep, want: map[int]func(uint32){}}
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
			w.mu.Lock()
			f := w.want[int(e.Fd)]
			w.mu.Unlock()
			if f != nil {
				f(e.Events)
			}
		}
	}
}

// add has f called once, when fd has one of the events, or has hung up. It is to
// be removed before fd is closed.
func (w *watcher) add(fd int, events uint32, f func(events uint32)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want[fd] = f
	_ = unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(fd)})
}

// remove undoes add; false when there was nothing to undo.
func (w *watcher) remove(fd int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.want[fd] == nil {
		return false
	}
	delete(w.want, fd)
	_ = unix.EpollCtl(w.ep, unix.EPOLL_CTL_DEL, fd, nil)
	return true
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
