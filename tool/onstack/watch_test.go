package onstack

import (
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T, typ int) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func watch(t *testing.T) *watcher {
	t.Helper()
	w, err := newWatcher()
	if err != nil {
		t.Fatal(err)
	}
	return w // its goroutine ends with the process, as the supervisor's does
}

// told waits for an event.
func told(t *testing.T, c <-chan uint32) uint32 {
	t.Helper()
	select {
	case e := <-c:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("nobody is told")
		return 0
	}
}

func TestWatcherTellsOnce(t *testing.T) {
	w := watch(t)
	a, b := pair(t, unix.SOCK_STREAM)
	c := make(chan uint32, 8)
	tell := func(e uint32) { c <- e }
	if err := w.add(a, unix.EPOLLIN, tell); err != nil {
		t.Fatal(err)
	}
	_, _ = unix.Write(b, []byte("x"))
	if e := told(t, c); e&unix.EPOLLIN == 0 {
		t.Errorf("events %#x", e)
	}
	_, _ = unix.Write(b, []byte("y")) // it has been told
	w.remove(a)
	w.remove(a) // nothing is left to undo
	if err := w.add(a, unix.EPOLLIN, tell); err != nil {
		t.Fatal(err)
	}
	told(t, c)
	if len(c) != 0 {
		t.Error("it is told twice")
	}
}

// An event that was read before its descriptor was closed is not for the next one
// of that number.
func TestWatcherStaleEvent(t *testing.T) {
	w := watch(t)
	a, _ := pair(t, unix.SOCK_STREAM)
	hit := false
	if err := w.add(a, 0, func(uint32) { hit = true }); err != nil {
		t.Fatal(err)
	}
	stale := unix.EpollEvent{Events: unix.EPOLLHUP, Fd: int32(a), Pad: w.want[a].number}
	w.remove(a)
	w.tell(stale)
	if err := w.add(a, 0, func(uint32) { hit = true }); err != nil {
		t.Fatal(err)
	}
	w.tell(stale)
	if hit {
		t.Error("the new one is told")
	}
	stale.Pad = w.want[a].number
	if w.tell(stale); !hit {
		t.Error("nobody is told of the right event")
	}
}

func TestWatcherRefuses(t *testing.T) {
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	w := watch(t)
	if err := w.add(fd, unix.EPOLLIN, nil); !errors.Is(err, unix.EPERM) {
		t.Errorf("a file: %v", err)
	}
	if len(w.want) != 0 {
		t.Error("it is watched all the same")
	}
}

// newPark is a call of a thread; the supervisor has no listener, so that no thread
// waits any more as far as sweep is concerned.
func newPark(pid uint32, dropped chan<- uint64) *park {
	c := &call{sv: &supervisor{listener: -1}}
	c.pid, c.id = pid, uint64(pid)*10+uint64(len(dropped))
	return &park{c: c, drop: func() { dropped <- c.id }}
}

func TestParkedIsTakenOnce(t *testing.T) {
	w, dropped := parked{by: map[uint32]*park{}}, make(chan uint64, 8)
	p := newPark(1, dropped)
	w.put(p, 0, nil)
	var won, all sync.Map
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			all.Store(i, true)
			if w.take(p) {
				won.Store(i, true)
			}
		})
	}
	wg.Wait()
	n := 0
	won.Range(func(any, any) bool { n++; return true })
	if n != 1 || len(dropped) != 0 || len(w.by) != 0 {
		t.Errorf("taken %d times, dropped %d times", n, len(dropped))
	}
}

// A thread that is here again waits no more in the call that a signal has ended.
func TestParkedReplaces(t *testing.T) {
	w, dropped := parked{by: map[uint32]*park{}}, make(chan uint64, 8)
	late := make(chan string, 8)
	old := newPark(1, dropped)
	w.put(old, time.Hour, func() { late <- "old" })
	next := newPark(1, dropped)
	next.c.id = 99
	w.put(next, time.Hour, func() { late <- "next" })
	select {
	case id := <-dropped:
		if id != old.c.id {
			t.Errorf("%d is dropped", id)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the old one is not dropped")
	}
	if w.take(old) || !w.take(next) {
		t.Error("the old one is taken, or the next is not")
	}
}

func TestParkedSweep(t *testing.T) {
	w, dropped := parked{by: map[uint32]*park{}}, make(chan uint64, 8)
	a, b := newPark(1, dropped), newPark(2, dropped)
	w.put(a, 0, nil)
	w.put(b, time.Hour, func() { t.Error("late") })
	w.sweep()
	if len(dropped) != 2 || w.take(a) || w.take(b) {
		t.Errorf("%d are dropped", len(dropped))
	}
	w.sweep()
	if len(dropped) != 2 {
		t.Error("one is dropped again")
	}
}

func TestParkedLate(t *testing.T) {
	w, dropped := parked{by: map[uint32]*park{}}, make(chan uint64, 8)
	late := make(chan bool, 8)
	p := newPark(1, dropped)
	w.put(p, time.Millisecond, func() { late <- true })
	select {
	case <-late:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody is late")
	}
	if w.take(p) || len(dropped) != 0 {
		t.Error("it waits still, or was dropped besides")
	}
}
