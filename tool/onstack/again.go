package onstack

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A signal may take a thread out of a call that has been done already and whose
// answer is on its way: package runtime's preemption does so at any rate. The
// kernel then calls again, or has the program do so (EINTR), and a datagram would
// be sent twice, one that was received be lost, and a bind fail with what itself
// has done. So what nobody has heard is kept for a moment, for the same thread
// with the same call.
//
// The kernel also takes an answer for heard when it comes between the signal and
// the thread's awakening. That a bind is to be kept even so costs nothing, as no
// program does it twice; a datagram may be lost, or come twice, as datagrams do.

// unheard are answers that found nobody, by thread. Owner: the supervisor. Bound:
// mostUnheard. Full: the answer is lost, and the call is done twice.
type unheard struct {
	mu   sync.Mutex
	by   map[uint32]unheardAnswer
	busy map[uint32]bool // threads whose call is being looked at
	free sync.Cond       // one is not any more
}

func newUnheard() *unheard {
	u := &unheard{by: map[uint32]unheardAnswer{}, busy: map[uint32]bool{}}
	u.free.L = &u.mu
	return u
}

// enter waits until no other call of c's thread is looked at; it has gone, or c
// were not here.
func (u *unheard) enter(c *call) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.busy[c.pid] {
		u.free.Wait()
	}
	u.busy[c.pid] = true
}

func (u *unheard) leave(c *call) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.busy, c.pid)
	u.free.Broadcast()
}

// mostUnheard is more than threads are between two calls of sweep.
const mostUnheard = 4096

// unheardFor is how long a signal's handler may run. A call that looks the same
// and comes later is another one.
const unheardFor = time.Second

type unheardAnswer struct {
	call   notification
	sock   *sock
	wrote  []written
	answer response
	at     time.Time
}

// written is what an answer has put into the program's memory.
type written struct {
	addr uint64
	b    []byte
}

// sure reports whether the call is kept though it seems to have been heard.
func (c *call) sure(r response) bool { return c.nr == unix.SYS_BIND && r.error == 0 }

// once reports whether the call, answered so, is not to be done twice.
func (c *call) once(r response) bool {
	switch c.nr {
	case unix.SYS_BIND, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG:
		return r.flags == 0
	case unix.SYS_CONNECT:
		return r.error == -int32(unix.EINPROGRESS)
	case unix.SYS_GETSOCKOPT:
		return c.arg(1) == unix.SOL_SOCKET && c.arg(2) == unix.SO_ERROR
	}
	return false
}

// keep remembers c, whose answer nobody has heard.
func (u *unheard) keep(c *call, r response) {
	if c.sock == nil || !c.once(r) {
		return
	}
	a := unheardAnswer{call: c.notification, sock: c.sock, answer: r, at: time.Now()}
	for _, w := range c.wrote {
		a.wrote = append(a.wrote, written{w.addr, slices.Clone(w.b)})
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.by) < mostUnheard {
		u.by[c.pid] = a
	}
}

// again answers c as it has been answered before, if it has.
func (u *unheard) again(c *call) bool {
	u.mu.Lock()
	a, ok := u.by[c.pid]
	same := ok && a.sock == c.sock && a.call.nr == c.nr && a.call.ip == c.ip && a.call.args == c.args && time.Since(a.at) < unheardFor
	if same {
		delete(u.by, c.pid)
	}
	u.mu.Unlock()
	if !same {
		return false
	}
	for _, w := range a.wrote {
		if err := c.write(w.addr, w.b); err != nil {
			c.settle(err)
			return true
		}
	}
	_ = c.respond(a.answer)
	return true
}

// sweep drops what nobody has come back for.
func (u *unheard) sweep() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for pid, a := range u.by {
		if time.Since(a.at) >= unheardFor {
			delete(u.by, pid)
		}
	}
}
