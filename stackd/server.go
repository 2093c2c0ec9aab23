package stackd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
)

// server serves the doors. Its workers wait on one epoll instance, each
// takes one ready connection at a time (EPOLLONESHOT), and no request makes a
// worker wait: what has to wait is parked with its socket and answered by the
// socket's upcall.
type server struct {
	log    *slog.Logger
	eng    *engine
	paths  paths
	info   stackInfo
	stop   func() // ends the stack; does not wait
	static bool
	arpOut bool // external_arp: neighbours are in ip_en alone, not among the routes

	ep   int
	wake int // eventfd that ends the workers

	byID sync.Map // int32 -> pollee

	mu        sync.Mutex
	lastID    int32
	conns     map[*conn]struct{}
	users     map[uint32]*quota
	listeners map[string]*listener
	spare     int // a descriptor to give up when there is none left
	share     int // of the descriptors: what one user may have, clients and streams
	streams   int // data descriptors
	room      int // for them

	wg             sync.WaitGroup
	idle, workers  atomic.Int32
	low, high, inc int32
	stopping       atomic.Bool

	routes  routeHub
	filter  filterServer
	keys    keyHub
	journal *journal
}

// quota counts what one user has open. Guarded by server.mu, but for queued.
type quota struct {
	clients, sockets, streams int
	queued                    atomic.Int64 // octets of conn.out
}

// pollee is something the workers wait for.
type pollee interface {
	ready(s *server, events uint32, buf []byte)
}

// listener is one door: a family's, or an interface's entry.
type listener struct {
	fd     int
	id     int32
	path   string
	family int
	ifname string // an entry: requests concern this interface only
}

const maxRead = protocol.MaxFrame + 1

// newServer makes a server without doors or workers.
func newServer(log *slog.Logger, eng *engine, p paths) (*server, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s := &server{log: log, eng: eng, paths: p, ep: ep, wake: wake,
		conns: map[*conn]struct{}{}, users: map[uint32]*quota{}, listeners: map[string]*listener{},
		spare: -1, lastID: 1, stop: func() {}}
	s.routes.init(s)
	s.keys.init(s)
	s.spare, _ = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	files := unix.Rlimit{Cur: 1 << 20}
	unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // package os has raised it to the hard limit
	n := int(min(files.Cur, 1<<20))
	s.share, s.room = n/2, n-n/16-32
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 0}); err != nil {
		s.closeFDs()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return s, nil
}

// start begins with low workers; inc more are made when all are busy, up to
// high; a worker that has found nothing to do for a while goes.
func (s *server) start(low, high, inc int) {
	s.low, s.high, s.inc = int32(low), int32(max(low, high)), int32(max(inc, 1))
	s.grow(s.low)
}

func (s *server) grow(n int32) {
	for range n {
		if s.workers.Add(1) > s.high {
			s.workers.Add(-1)
			return
		}
		s.wg.Go(s.work)
	}
}

// idleMillis is how long a worker beyond the minimum waits for work.
const idleMillis = 5000

func (s *server) work() {
	buf := make([]byte, maxRead)
	var events [1]unix.EpollEvent
	for !s.stopping.Load() {
		s.idle.Add(1)
		n, err := unix.EpollWait(s.ep, events[:], idleMillis)
		left := s.idle.Add(-1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			s.log.Error("epoll_wait", "err", err)
			s.workers.Add(-1)
			return
		case n == 0:
			if w := s.workers.Load(); w > s.low && s.workers.CompareAndSwap(w, w-1) {
				return
			}
			continue
		}
		if s.stopping.Load() {
			break
		}
		if left == 0 && s.workers.Load() < s.high {
			s.grow(s.inc)
		}
		if p, ok := s.byID.Load(events[0].Fd); ok {
			p.(pollee).ready(s, events[0].Events, buf)
		}
	}
	s.workers.Add(-1)
}

// register gives p a number to be known by in the epoll set, and puts it into
// id before any worker can find p.
func (s *server) register(p pollee, id *int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.lastID++; s.lastID < 1 {
			s.lastID = 1
		}
		if _, taken := s.byID.Load(s.lastID); !taken {
			*id = s.lastID
			s.byID.Store(s.lastID, p)
			return
		}
	}
}

func (s *server) forget(id int32) { s.byID.Delete(id) }

// listen opens a door.
func (s *server) listen(path string, family int, ifname string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return fmt.Errorf("cannot make %s: %w", path, err)
	}
	os.Chmod(path, 0o666) // privileges are decided by who connects
	l := &listener{fd: fd, path: path, family: family, ifname: ifname}
	err = unix.Listen(fd, 1024)
	if err == nil {
		s.register(l, &l.id)
		err = unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: l.id})
	}
	if err != nil {
		s.forget(l.id)
		unix.Close(fd)
		os.Remove(path)
		return fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	s.mu.Lock()
	s.listeners[path] = l
	s.mu.Unlock()
	return nil
}

// unlisten closes a door; connections made through it stay.
func (s *server) unlisten(path string) {
	s.mu.Lock()
	l := s.listeners[path]
	delete(s.listeners, path)
	s.mu.Unlock()
	if l != nil {
		s.forget(l.id)
		os.Remove(path)
		unix.Close(l.fd)
	}
}

// ready accepts all who wait at the door.
func (l *listener) ready(s *server, _ uint32, _ []byte) {
	for range 64 {
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case err == nil:
			s.admit(l, fd)
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			s.refuseOne(l)
			continue
		}
		break
	}
	unix.EpollCtl(s.ep, unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: l.id})
}

// refuseOne turns a client away when no descriptor is left, so that it is
// not left waiting and we do not spin.
func (s *server) refuseOne(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unix.Close(s.spare)
	if fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC); err == nil {
		unix.Close(fd)
	}
	s.spare, _ = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	s.log.Warn("out of descriptors: a client was refused", "door", l.path)
}

// admit makes a client of an accepted descriptor, unless its user has too
// many already.
func (s *server) admit(l *listener, fd int) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		unix.Close(fd)
		return
	}
	c := &conn{s: s, fd: fd, given: -1, family: l.family, ifname: l.ifname, credentials: *cred, super: superuser(cred.Uid), socks: map[uint32]*sock{}, caps: map[uint32]*capture{}}
	s.mu.Lock()
	u := s.users[cred.Uid]
	if u == nil {
		u = &quota{}
		s.users[cred.Uid] = u
	}
	c.user = u
	most := min(s.limit(nodeUserClients), s.share)
	full := !c.super && (u.clients >= most || u.clients+u.streams >= s.share) || s.stopping.Load()
	if !full {
		u.clients++
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if full {
		s.refused(cntRefusedClient)
		refusal := protocol.AppendError(nil, protocol.Header{Type: protocol.TypeHello}, errf(unix.EUSERS, "this user has all %d clients that one may have (kern.user.clients, and half of io-net's ulimit -n)", most))
		unix.SendmsgN(fd, refusal, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		unix.Close(fd)
		return
	}
	s.register(c, &c.id)
	switch c.family {
	case protocol.AFRoute:
		s.routes.join(c)
	case protocol.AFKey:
		s.keys.join(c)
	}
	if err := unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: c.id}); err != nil {
		c.teardown()
	}
}

// superuser decides who may change the stack: uid 0 of our user namespace,
// or the user the stack runs as.
func superuser(uid uint32) bool { return uid == 0 || int(uid) == os.Getuid() }

// takeSocket charges a socket to a client's user; EMFILE-like ENOBUFS when
// the quota is used up.
func (s *server) takeSocket(c *conn) error {
	for !s.mayTake(c) {
		if !c.unbury() {
			s.refused(cntRefusedSocket)
			return errf(unix.ENOBUFS, "too many sockets of this user: kern.user.sockets is %d", s.limit(nodeUserSockets))
		}
	}
	return nil
}

func (s *server) mayTake(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[c.credentials.Uid]
	if u == nil || !c.super && u.sockets >= s.limit(nodeUserSockets) {
		return false
	}
	u.sockets++
	return true
}

func (s *server) dropSocket(c *conn) {
	s.mu.Lock()
	if u := s.users[c.credentials.Uid]; u != nil {
		u.sockets--
		s.leave(c.credentials.Uid, u)
	}
	s.mu.Unlock()
}

// leave forgets a user who has nothing any more. The caller holds s.mu.
func (s *server) leave(uid uint32, u *quota) {
	if u.clients == 0 && u.sockets == 0 && u.streams == 0 {
		delete(s.users, uid)
	}
}

// takeStream charges a data descriptor to the daemon and to the client's user:
// ENFILE, EMFILE.
func (s *server) takeStream(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[c.credentials.Uid]
	switch {
	case s.streams >= s.room || u == nil:
		s.refused(cntNoDescriptor)
		return errf(unix.ENFILE, "no descriptor is left for another connection: io-net has %d of them (ulimit -n)", s.room)
	case !c.super && u.clients+u.streams >= s.share:
		s.refused(cntNoDescriptor)
		return errf(unix.EMFILE, "this user has the %d descriptors that one may have (half of io-net's ulimit -n)", s.share)
	}
	s.streams++
	u.streams++
	return nil
}

func (s *server) dropStream(c *conn) {
	s.mu.Lock()
	s.streams--
	if u := s.users[c.credentials.Uid]; u != nil {
		u.streams--
		s.leave(c.credentials.Uid, u)
	}
	s.mu.Unlock()
}

// counts are the clients and their sockets now.
func (s *server) counts() (clients, sockets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		sockets += u.sockets
	}
	return len(s.conns), sockets
}

// shut closes the doors, ends the workers and all that clients own, has last
// called, and then hangs up on the clients.
func (s *server) shut(last func()) {
	s.mu.Lock()
	var doors []string
	for path := range s.listeners {
		doors = append(doors, path)
	}
	s.mu.Unlock()
	for _, path := range doors {
		s.unlisten(path)
	}
	s.stopping.Store(true)
	unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	s.wg.Wait()
	s.mu.Lock()
	var left []*conn
	for c := range s.conns {
		left = append(left, c)
	}
	s.mu.Unlock()
	var fds []int
	for _, c := range left {
		fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			fds = append(fds, fd)
		}
		c.teardown()
	}
	s.byID.Range(func(_, p any) bool { // streams that have outlived their clients
		if d, ok := p.(*data); ok {
			s.eng.Call(func(w *netif.Work) { d.finish(w, nil) })
		}
		return true
	})
	s.routes.close()
	s.filter.logs.close()
	last()
	s.closeFDs()
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func (s *server) closeFDs() {
	unix.Close(s.ep)
	unix.Close(s.wake)
	if s.spare >= 0 {
		unix.Close(s.spare)
	}
}
