package onstack

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Nobody traps close(2). What the program has closed the supervisor hears of by
// an event, a little later; the program takes it for done. Before a call whose
// answer may depend on it, what is closed is looked for.

// catchUpCloses ends the sockets among socks that the program has closed, and waits for
// those that are just ending.
func (sv *supervisor) catchUpCloses(socks []*sock) {
	for _, k := range socks {
		if k.hasHungUp() {
			k.close()
		}
	}
	sv.mu.Lock()
	ending := slices.Collect(maps.Keys(sv.ending))
	sv.mu.Unlock()
	for _, k := range ending {
		<-k.gone
	}
}

// hasHungUp reports whether the program has closed its end, ours being here.
func (k *sock) hasHungUp() (up bool) {
	look := func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		_, _ = unix.Poll(p, 0)
		up = p[0].Revents&unix.POLLHUP != 0
	}
	k.given.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed || k.state == connecting:
	case k.ours >= 0:
		look(uintptr(k.ours))
	case k.conn != nil:
		if raw, err := k.conn.SyscallConn(); err == nil {
			_ = raw.Control(look)
		}
	}
	return up
}

// known are all sockets that are not closed.
func (sv *supervisor) known() []*sock {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return slices.Collect(maps.Values(sv.socks))
}

// found are those among them that somebody may be looking for.
func (sv *supervisor) found() []*sock {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return slices.Collect(maps.Keys(sv.public))
}

// publish notes that k has an address of the program's choice, or listens. The
// caller holds k.mu.
func (sv *supervisor) publish(k *sock) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if !k.closed {
		sv.public[k] = true
	}
}

// closes notes that k is about to end. The caller holds k.mu.
func (sv *supervisor) closes(k *sock) {
	k.gone = make(chan struct{})
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.ending[k] = true
	delete(sv.public, k)
}

// hasClosed notes that it has.
func (sv *supervisor) hasClosed(k *sock) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	delete(sv.ending, k)
	close(k.gone)
}
