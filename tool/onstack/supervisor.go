package onstack

import (
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/onstack/abi"
	"ionet/tool/onstack/netlink"
)

// supervisor answers the system calls of a program and of all that it starts.
//
// # A call's walk
//
//  1. The kernel finds the call in the filter (filter.go), stops the thread, and
//     writes a notification, which serve reads.
//  2. handle looks for the function of the call. The descriptor is looked up by
//     the inode that is behind it in the program's table (find): one that is not
//     the stack's goes on to the kernel (proceed).
//  3. The function reads the program's memory, asks the stack (package client)
//     and answers. A call that is to wait is parked, and no goroutine waits with
//     it: the stack's answer, a descriptor's event or a time ends it.
//
// A socket of the program is one end of a pair of local sockets, so that its
// number, what polls it and what shares it stay valid; what becomes of the other
// end is in sock.go and late.go.
type supervisor struct {
	listener int
	stack    *client.Stack
	tables   netlink.Tables
	log      *slog.Logger
	etc      map[string]string // files that are replaced, by path
	watch    *watcher
	parked   parked
	unheard  *unheard

	joining sync.Mutex // of joiner; after sock.mu
	joiner  joiner

	mu    sync.Mutex
	socks map[uint64]*sock // by inode
	ids   map[uint32]*sock // streams that the stack alone watches, by its number
	fresh []*sock          // streams that were not used when they were made, oldest first
	over  []*sock          // of those whose connection has ended, oldest first
	early []protocol.Ended // of streams that nobody has followed yet, oldest first
	ports map[uint32]*sock // netlink port ids in use

	public map[*sock]bool // bound by the program, or listening
	ending map[*sock]bool // closed, and not yet on the stack
}

// receivers is how many calls are looked at at once.
const receivers = 4

func newSupervisor(s *client.Stack, tables netlink.Tables, log *slog.Logger, etc map[string]string) (*supervisor, error) {
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	j, err := newJoiner()
	if err != nil {
		return nil, err
	}
	return &supervisor{listener: -1, stack: s, tables: tables, log: log, etc: etc, watch: w, joiner: j,
		parked: parked{by: map[uint32]*park{}}, unheard: newUnheard(),
		socks: map[uint64]*sock{}, ids: map[uint32]*sock{}, ports: map[uint32]*sock{},
		public: map[*sock]bool{}, ending: map[*sock]bool{}}, nil
}

// run serves listener until nothing is left of the program.
func (sv *supervisor) run(listener int) {
	sv.listener = listener
	// The answer is given by the processor that the call came from (Linux 6.6).
	flags := uint64(unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, uintptr(flags))
	for range receivers {
		go sv.serve()
	}
	go sv.endings()
	go sv.mourn()
	go func() {
		for range time.Tick(time.Second) {
			sv.parked.sweep()
			sv.unheard.sweep()
		}
	}()
	for {
		p := []unix.PollFd{{Fd: int32(listener)}}
		_, err := unix.Poll(p, -1)
		if p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (sv *supervisor) serve() {
	for {
		c := &call{sv: sv}
		if _, err := ioctl(sv.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&c.notification)); err != nil {
			if errors.Is(err, unix.ENOENT) { // it has gone meanwhile
				continue
			}
			return
		}
		sv.handle(c)
	}
}

// handlers are what is done for a call that concerns a socket of the stack;
// args[0] is the descriptor.
var handlers = map[int32]func(sv *supervisor, c *call, k *sock) error{
	unix.SYS_BIND:        (*supervisor).bind,
	unix.SYS_CONNECT:     (*supervisor).connect,
	unix.SYS_LISTEN:      (*supervisor).listen,
	unix.SYS_ACCEPT:      (*supervisor).accept,
	unix.SYS_ACCEPT4:     (*supervisor).accept,
	unix.SYS_GETSOCKNAME: (*supervisor).getsockname,
	unix.SYS_GETPEERNAME: (*supervisor).getpeername,
	unix.SYS_SETSOCKOPT:  (*supervisor).setsockopt,
	unix.SYS_GETSOCKOPT:  (*supervisor).getsockopt,
	unix.SYS_SHUTDOWN:    (*supervisor).shutdown,
	unix.SYS_SENDTO:      (*supervisor).sendto,
	unix.SYS_SENDMSG:     (*supervisor).sendmsg,
	unix.SYS_SENDMMSG:    (*supervisor).sendmmsg,
	unix.SYS_RECVFROM:    (*supervisor).recvfrom,
	unix.SYS_RECVMSG:     (*supervisor).recvmsg,
	unix.SYS_RECVMMSG:    (*supervisor).recvmmsg,
}

// handle answers one call, or sees that it is answered later. An error of a
// function is the program's.
func (sv *supervisor) handle(c *call) {
	c.settle(sv.dispatch(c))
}

func (sv *supervisor) dispatch(c *call) error {
	switch c.nr {
	case unix.SYS_SOCKET:
		return sv.socket(c)
	case unix.SYS_IOCTL:
		return sv.ioctl(c)
	}
	f := handlers[c.nr]
	if f == nil {
		return sv.open(c)
	}
	k, err := sv.find(c, c.arg(0))
	if err != nil {
		return err
	}
	if k == nil {
		if c.nr == unix.SYS_CONNECT {
			return sv.connectOther(c)
		}
		return c.proceed()
	}
	if !k.isNetlink() && c.nr != unix.SYS_SHUTDOWN && sv.gone() {
		return unix.ENETDOWN
	}
	c.sock = k
	sv.unheard.enter(c)
	defer sv.unheard.leave(c)
	if sv.unheard.again(c) {
		return nil
	}
	if k.isStream() && k.stack() == nil && c.uses() {
		if err := k.use(c); err != nil {
			return err
		}
	}
	k.catchUp()
	return f(sv, c, k)
}

// gone reports that the stack has gone: nothing of it will come any more.
func (sv *supervisor) gone() bool { return sv.stack.Err() != nil }

// mourn waits for the end of the stack, and then for nothing that would come
// from it.
func (sv *supervisor) mourn() {
	<-sv.stack.Done()
	sv.log.Warn("the program's sockets fail from now on", "err", sv.stack.Err())
	for _, k := range sv.known() {
		if k.isStream() {
			k.orphan()
		}
	}
}

// letGo fails calls that wait.
func (sv *supervisor) letGo(waits []*park, why error) {
	for _, p := range waits {
		if sv.parked.take(p) {
			p.drop()
			_ = p.c.fail(why)
		}
	}
}

// find is the socket behind the program's descriptor fd; nil: it is none of the
// stack's.
func (sv *supervisor) find(c *call, fd int) (*sock, error) {
	ino, isSocket, err := c.inode(fd)
	if err != nil || !isSocket {
		return nil, nil // the kernel says what is wrong
	}
	sv.mu.Lock()
	k := sv.socks[ino]
	sv.mu.Unlock()
	if k == nil {
		return nil, nil
	}
	if !c.valid() {
		return nil, errGone
	}
	k.seen.Store(newPlace(c.pid, fd))
	return k, nil
}

// endings hears of streams whose descriptors the program has closed, or whose
// connection has failed.
func (sv *supervisor) endings() {
	for {
		ended, err := sv.stack.Ended()
		switch {
		case sv.gone():
			return
		case err != nil: // too much waits already
			time.Sleep(noDescriptorWait)
			continue
		}
		for _, e := range ended {
			if k := sv.unfollow(e); k != nil {
				k.ended(e.Errno)
			}
		}
	}
}

// mostEarly is how many endings are kept of streams that nobody follows. They
// overtake the answer that has the stream by a little; or nobody will.
const mostEarly = 1024

// follow has k hear of its ending. The caller may hold k's lock.
func (sv *supervisor) follow(k *sock) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	id := k.stack().ID()
	i := slices.IndexFunc(sv.early, func(e protocol.Ended) bool { return e.ID == id })
	if i < 0 {
		sv.ids[id] = k
		return
	}
	go k.ended(sv.early[i].Errno)
	sv.early = slices.Delete(sv.early, i, i+1)
}

// unfollow is who is to hear of e; nil: nobody yet.
func (sv *supervisor) unfollow(e protocol.Ended) *sock {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	k := sv.ids[e.ID]
	delete(sv.ids, e.ID)
	if k == nil {
		if len(sv.early) == mostEarly {
			sv.early = slices.Delete(sv.early, 0, 1)
		}
		sv.early = append(sv.early, e)
	}
	return k
}

// mostOver is how many sockets are remembered whose connection has ended and that
// the program may have closed since.
const mostOver = 4096

// bury keeps k, whose connection has ended, for a while: the program may still
// have its descriptor, and ask.
func (sv *supervisor) bury(k *sock) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.over = append(sv.over, k)
	if len(sv.over) > mostOver {
		old := sv.over[0]
		sv.over = sv.over[1:]
		if sv.socks[old.ino] == old {
			delete(sv.socks, old.ino)
		}
	}
}

// enter makes k known by the inode of fd.
func (sv *supervisor) enter(k *sock, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err == nil {
		k.abi.Cookie = cookie
	}
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if k.ino == 0 {
		k.ino = st.Ino
	}
	sv.socks[k.ino] = k
	return nil
}

// leave forgets k, whose netlink port id is port. Of a stack that has gone no
// socket is forgotten: calls on it fail, and are not the kernel's.
func (sv *supervisor) leave(k *sock, port uint32) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.ports[port] == k {
		delete(sv.ports, port)
	}
	if sv.socks[k.ino] == k && (k.isNetlink() || !sv.gone()) {
		delete(sv.socks, k.ino)
	}
	if s := k.stack(); s != nil {
		delete(sv.ids, s.ID())
	}
}

func splitLines(b []byte) iter.Seq[string] { return strings.SplitSeq(string(b), "\n") }

// newAbi is what the translation knows of a new socket.
func (sv *supervisor) newAbi(family, typ, proto int) abi.Sock {
	return abi.Sock{Family: family, Type: typ, Protocol: proto, Tables: sv.tables}
}
