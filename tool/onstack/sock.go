package onstack

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/onstack/abi"
	"ionet/tool/onstack/netlink"
)

// state is where a stream is.
type state int

const (
	fresh      state = iota
	connecting       // on its way: ours is in the hands of attempt
	connected        // the stack has the other end of the pair
	listening
	failed // a connect that nobody waited for has failed: err
)

// sock is one socket of the program. The program has one end of a pair of local
// sockets; the other is ours:
//
//   - of a stream from its first use (late.go) until it is connected, when the
//     stack gets it (connect), or that of a listener, into which an octet is
//     written for each connection that may be accepted;
//   - of a datagram socket always (dgram.go): an outgoing datagram is a message,
//     an incoming one too, with a file beside it that says where it came from;
//   - of an rtnetlink socket always (rtnetlink.go).
type sock struct {
	sv   *supervisor
	own  atomic.Pointer[client.Socket] // the stack's; nil: rtnetlink, or a stream that is not used yet
	ino  uint64                        // written once, before the program has it
	from *sock                         // the listener that it comes from

	mu     sync.Mutex
	abi    abi.Sock
	ours   int // our end; -1: the stack's, or closed
	state  state
	told   bool           // connect has said that it is connected
	err    error          // of failed, until it is asked for
	peer   protocol.Addr  // of connected, and of a datagram socket
	local  protocol.Addr  // of connected
	queue  []incoming     // of listening: to be accepted
	more   *sync.Cond     // of listening: queue has room
	waits  []*park        // of listening: accepts, of connecting: connects that wait
	filler int            // of connecting: octets in the pair that keep it unwritable
	done   chan struct{}  // of connecting: closed when it is that no more
	nl     netlink.Socket // of rtnetlink
	groups uint32         // of rtnetlink: what bind subscribed to
	asking sync.Mutex     // of rtnetlink: answers are under way; before mu
	conn   *net.UnixConn  // of datagrams and rtnetlink: our end; stays
	over   bool           // of connected: the stack knows it no more
	asked  bool           // of connected: SO_ERROR has told that it has failed
	spent  bool           // of fresh: the stack's socket has failed to connect
	bound  protocol.Addr  // what bind asked for
	set    []protocol.SockOpt
	closed bool
	given  sync.WaitGroup // until only the program has its end
	gone   chan struct{}  // closed when the stack has none of it, after closed

	spoilt atomic.Bool   // its failure is in the pair (spoil)
	seen   atomic.Uint64 // the place where the program had it last
}

// place is a thread and a descriptor in its table.
type place = uint64

func newPlace(pid uint32, fd int) place { return uint64(pid)<<32 | uint64(uint32(fd)) }

// incoming is a connection to be accepted.
type incoming struct {
	k    *sock
	data int
}

// socket serves socket(2).
func (sv *supervisor) socket(c *call) error {
	family, typ, proto := c.arg(0), c.arg(1)&0xf, c.arg(2)
	nonblock, cloexec := c.arg(1)&unix.SOCK_NONBLOCK != 0, c.arg(1)&unix.SOCK_CLOEXEC != 0
	switch family {
	case unix.AF_INET, unix.AF_INET6:
	case unix.AF_NETLINK:
		switch proto {
		case unix.NETLINK_ROUTE:
			return sv.rtnetlink(c, nonblock, cloexec)
		case unix.NETLINK_KOBJECT_UEVENT, unix.NETLINK_AUDIT, unix.NETLINK_SELINUX, unix.NETLINK_CONNECTOR:
			return c.proceed() // not about networks
		}
		return unix.EPROTONOSUPPORT
	case unix.AF_UNIX, unix.AF_ALG, unix.AF_KEY:
		return c.proceed()
	case unix.AF_PACKET:
		return unix.EPERM // frames of the host's interfaces
	default:
		return unix.EAFNOSUPPORT // the host's network, by another name
	}
	if typ != unix.SOCK_STREAM && typ != unix.SOCK_DGRAM && typ != unix.SOCK_RAW {
		return unix.ESOCKTNOSUPPORT // SOCK_SEQPACKET, SOCK_DCCP
	}
	if typ == unix.SOCK_STREAM && proto != 0 && proto != unix.IPPROTO_TCP { // SCTP, MPTCP
		return unix.EPROTONOSUPPORT
	}
	if sv.gone() {
		return unix.ENETDOWN
	}
	k := &sock{sv: sv, abi: sv.newAbi(family, typ, proto)}
	if typ == unix.SOCK_STREAM {
		theirs, err := k.alone(nonblock)
		if err != nil {
			return err
		}
		return k.give(c, theirs, cloexec)
	}
	s, err := k.make()
	if errors.Is(err, unix.EACCES) {
		return unix.EPERM // as Linux calls it
	}
	if err != nil {
		return err
	}
	k.own.Store(s)
	theirs, err := k.pair(nonblock)
	if err != nil {
		_ = s.Close()
		return err
	}
	if err := k.carry(); err != nil {
		unix.Close(theirs)
		k.close()
		return err
	}
	return k.give(c, theirs, cloexec)
}

// make makes a socket of the stack, which begins as one of Linux.
func (k *sock) make() (*client.Socket, error) {
	s, err := k.sv.stack.SocketFamily(k.abi.StackFamily(), k.abi.Type, k.abi.Protocol)
	if err != nil {
		return nil, err
	}
	for _, o := range k.abi.Begin() {
		if err := s.SetOption(o.Level, o.Name, o.Value); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	return s, nil
}

// pair makes a pair of messages and answers the program's end.
func (k *sock) pair(nonblock bool) (theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	k.ours = fds[1]
	if err = unix.SetNonblock(k.ours, true); err == nil && nonblock {
		err = unix.SetNonblock(fds[0], true)
	}
	if err == nil {
		err = k.sv.enter(k, fds[0])
	}
	if err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return -1, err
	}
	return fds[0], nil
}

// give hands the program its end.
func (k *sock) give(c *call, theirs int, cloexec bool) error {
	k.given.Add(1)
	fd, err := c.install(theirs, cloexec)
	unix.Close(theirs)
	k.given.Done()
	if err != nil {
		k.close()
		return err
	}
	k.seen.Store(newPlace(c.pid, fd))
	return nil
}

// hungUp is called when the program has closed its end while ours is here.
func (k *sock) hungUp(uint32) {
	go k.close()
}

// close ends the socket. What the stack has of a connection it ends itself.
func (k *sock) close() {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return
	}
	k.closed = true
	k.sv.closes(k)
	queue, waits, port := k.queue, k.waits, k.nl.PID
	k.queue, k.waits = nil, nil
	why := unix.EINVAL
	if k.state == connecting {
		why = unix.ECONNABORTED
	} else {
		k.dropOurs()
	}
	if k.more != nil {
		k.more.Broadcast()
	}
	k.mu.Unlock()
	k.sv.leave(k, port)
	for _, in := range queue { // as the kernel does it, by a reset
		_ = in.k.stack().SetOption(protocol.SolSocket, protocol.SoLinger, abortive)
		unix.Close(in.data)
	}
	k.sv.letGo(waits, why)
	if k.stack() != nil {
		_ = k.stack().Close()
	}
	k.sv.hasClosed(k)
}

// abortive is struct linger on, with no time: i32, i32.
var abortive = le.AppendUint32(le.AppendUint32(nil, 1), 0)

// dropOurs closes our end, if it is here. The caller holds k.mu.
func (k *sock) dropOurs() {
	if k.ours >= 0 {
		k.sv.watch.remove(k.ours)
		unix.Close(k.ours)
		k.ours = -1
	}
}

// ended is called when the stack says that the connection has come to its end;
// with a number it has failed.
func (k *sock) ended(errno syscall.Errno) {
	k.mu.Lock()
	k.over = true
	if errno != 0 && !k.asked {
		k.err = errno
	}
	k.mu.Unlock()
	if errno != 0 {
		k.spoil()
		// Asked for, it is off the stack's books, and the pair's other end is closed.
		_, _ = k.stack().Int(protocol.SolSocket, protocol.SoError)
	}
	k.sv.bury(k)
}

// spoil leaves an octet in the pair of a connection that has failed, for nobody:
// a pair that is closed with something unread shows the program ECONNRESET, as a
// connection does, and not the end of a stream that went well.
func (k *sock) spoil() {
	k.spoilt.Store(k.spoils())
}

func (k *sock) spoils() bool {
	if k.from != nil && k.from.spoilQueued(k) {
		return true
	}
	at := k.seen.Load()
	pid, fd := uint32(at>>32), int(int32(at))
	p, err := openThread(pid)
	if err != nil {
		return false // it has gone, or passed the descriptor on: then it reads an end
	}
	defer unix.Close(p)
	if ino, socket, err := inode(pid, fd); err != nil || !socket || ino != k.ino {
		return false
	}
	theirs, err := unix.PidfdGetfd(p, fd, 0)
	if err != nil {
		return false
	}
	defer unix.Close(theirs)
	return unix.Send(theirs, []byte{0}, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) == nil
}

// spoilQueued does so for a connection that is still to be accepted.
func (k *sock) spoilQueued(child *sock) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.queue, func(in incoming) bool { return in.k == child })
	if i >= 0 {
		_ = unix.Send(k.queue[i].data, []byte{0}, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	return i >= 0
}

// orphan ends what waits for the stack, which has gone. A socket that is not
// connected shows the program an error by itself.
func (k *sock) orphan() {
	k.spoil()
	k.mu.Lock()
	waits := k.waits
	k.waits = nil
	if k.state != connecting {
		k.dropOurs()
	}
	k.mu.Unlock()
	k.sv.letGo(waits, unix.ENETDOWN)
}

// stack is the stack's socket, which may become another one (renew).
func (k *sock) stack() *client.Socket { return k.own.Load() }

// isStream is about the program's socket, which never changes its type.
func (k *sock) isStream() bool { return k.abi.Type == unix.SOCK_STREAM }

// isUDP tells such a socket from those whose peers have no ports.
func (k *sock) isUDP() bool {
	return k.abi.Type == unix.SOCK_DGRAM && k.abi.Protocol != unix.IPPROTO_ICMP && k.abi.Protocol != unix.IPPROTO_ICMPV6
}

func (k *sock) isNetlink() bool { return k.abi.Family == unix.AF_NETLINK }

// sockaddr reads the address that a call brings.
func (c *call) sockaddr(addr, length uint64) ([]byte, error) {
	n := int(int32(length))
	if n < 0 || n > 128 { // struct sockaddr_storage
		return nil, unix.EINVAL
	}
	return c.read(addr, n)
}

// giveAddr writes an address where the program wants it, cut to its room, and
// its whole length.
func (c *call) giveAddr(b []byte, addr, length uint64) error {
	room, err := c.addrRoom(length)
	if err != nil {
		return err
	}
	return c.putAddr(b, room, addr, length)
}

// addrRoom is how much of an address the program has room for.
func (c *call) addrRoom(length uint64) (int, error) {
	b, err := c.read(length, 4)
	if err != nil {
		return 0, err
	}
	n := int(int32(le.Uint32(b)))
	if n < 0 {
		return 0, unix.EINVAL
	}
	return n, nil
}

func (c *call) putAddr(b []byte, room int, addr, length uint64) error {
	if err := c.write(addr, b[:min(room, len(b))]); err != nil {
		return err
	}
	return c.write(length, le.AppendUint32(nil, uint32(len(b))))
}

// to is the address of a call as the stack wants it.
func (k *sock) to(b []byte, use abi.Use) (a protocol.Addr, err error) {
	if len(b) >= 2 && len(b) < abi.SockaddrIn6OldLen && k.abi.Family == unix.AF_INET6 && (use == abi.Bind || k.isStream()) {
		if le.Uint16(b) != unix.AF_UNSPEC || use == abi.Bind {
			return a, unix.EINVAL // before the family is looked at
		}
	}
	if k.abi.Family == unix.AF_INET && len(b) >= unix.SizeofSockaddrInet4 {
		if f := le.Uint16(b); f != unix.AF_INET && f != unix.AF_UNSPEC {
			return a, unix.EAFNOSUPPORT // however long an address of that family is
		}
	}
	if use == abi.Bind {
		a, err = abi.ParseBind(b)
	} else {
		a, err = abi.ParseSockaddr(b)
	}
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		a, err = k.abi.ToStack(a, use)
	}
	return a, err
}

func (sv *supervisor) bind(c *call, k *sock) error {
	b, err := c.sockaddr(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	if k.isNetlink() {
		return k.bindNetlink(c, b)
	}
	a, err := k.to(b, abi.Bind)
	if err == nil {
		err = k.stack().Bind(a)
	}
	if errors.Is(err, unix.EADDRINUSE) { // by one that the program has closed already?
		sv.catchUpCloses(sv.known())
		err = k.stack().Bind(a)
	}
	if err != nil {
		return abi.AddrErr(err)
	}
	k.mu.Lock()
	k.abi.Bound, k.bound, k.abi.Zone = true, a, a.IP.Zone()
	sv.publish(k)
	k.mu.Unlock()
	return c.answer(0)
}

func (sv *supervisor) getsockname(c *call, k *sock) error {
	if k.isNetlink() {
		return c.finish(0, c.giveAddr(k.sockaddrNetlink(), c.args[1], c.args[2]))
	}
	k.mu.Lock()
	a := k.local
	k.mu.Unlock()
	if k.stack() == nil {
		a = protocol.Addr{Family: k.abi.StackFamily(), IP: netip.IPv6Unspecified()}
	}
	if !a.IsValid() {
		var err error
		if a, err = k.stack().LocalAddr(); err != nil {
			return err
		}
	}
	return c.finish(0, c.giveAddr(k.show(a), c.args[1], c.args[2]))
}

func (sv *supervisor) getpeername(c *call, k *sock) error {
	if k.isNetlink() {
		return c.finish(0, c.giveAddr(sockaddrKernel(), c.args[1], c.args[2]))
	}
	k.mu.Lock()
	a, over := k.peer, k.over
	k.mu.Unlock()
	if !a.IsValid() || over {
		return unix.ENOTCONN
	}
	return c.finish(0, c.giveAddr(k.show(a), c.args[1], c.args[2]))
}

// show is a stack's address in the program's layout.
func (k *sock) show(a protocol.Addr) []byte { return abi.AppendSockaddr(nil, a) }

// finish answers v unless there is an error.
func (c *call) finish(v int, err error) error {
	if err != nil {
		return err
	}
	return c.answer(v)
}

// shutdown serves shutdown(2). What a connected stream does is the pair's own
// business: the stack sees it there.
func (sv *supervisor) shutdown(c *call, k *sock) error {
	how := c.arg(1)
	if how < 0 || how > 2 {
		return unix.EINVAL
	}
	k.mu.Lock()
	st, peer := k.state, k.peer
	k.mu.Unlock()
	switch {
	case k.isNetlink():
		return unix.EOPNOTSUPP
	case k.isStream() && st == listening && how != unix.SHUT_WR:
		go k.close()
		return c.answer(0)
	case k.isStream() && st != connected, !k.isStream() && !peer.IsValid():
		return unix.ENOTCONN
	}
	return c.proceed()
}

// nonblocking reports whether a call on the program's descriptor, of which fd is
// a copy, may not wait.
func nonblocking(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// timeout is how long a call may wait (SO_RCVTIMEO, SO_SNDTIMEO, which the local
// socket has too); 0: for ever.
func timeout(fd, option int) time.Duration {
	tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return time.Duration(tv.Nano())
}

// takeError is SO_ERROR, asked by c.
func (k *sock) takeError(c *call) (int, error) {
	told := false
	if k.isStream() { // the pair has it too
		fd, err := c.descriptor(k)
		if err != nil {
			return 0, err
		}
		told = takePairError(fd)
		unix.Close(fd)
	}
	k.mu.Lock()
	if k.state == connecting { // how it went comes by the answer to connect
		k.mu.Unlock()
		return 0, nil
	}
	err, ended, st := k.err, k.state == failed || k.over, k.state
	k.err = nil
	if k.state == failed {
		k.state = fresh
	}
	k.mu.Unlock()
	switch {
	case st == connected && told && k.spoilt.Load(): // by a read
		return 0, nil
	case err != nil:
		return int(protocol.AsError(err).Errno), nil
	case ended || k.stack() == nil:
		return 0, nil
	}
	n, err := k.stack().Int(protocol.SolSocket, protocol.SoError)
	if st == connected {
		if errors.Is(err, unix.EBADF) {
			return 0, nil // it has just ended, as it should
		}
		k.mu.Lock()
		k.asked = n != 0
		k.mu.Unlock()
	}
	return n, err
}

// takePairError takes the error from a pair whose other end is closed, and
// reports whether there was none any more: a read has told it.
func takePairError(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	_, _ = unix.Poll(p, 0)
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return p[0].Revents&unix.POLLHUP != 0 && err == nil && e == 0
}
