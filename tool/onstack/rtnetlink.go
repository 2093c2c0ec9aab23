package onstack

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// rtnetlink serves socket(AF_NETLINK, …, NETLINK_ROUTE): a pair of messages with
// the stack's tables behind it.
func (sv *supervisor) rtnetlink(c *call, nonblock, cloexec bool) error {
	k := &sock{sv: sv, abi: sv.newAbi(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)}
	theirs, err := k.pair(nonblock)
	if err != nil {
		return err
	}
	if err := k.carry(); err != nil {
		unix.Close(theirs)
		k.close()
		return err
	}
	return k.give(c, theirs, cloexec)
}

// sockaddr_nl: u16 family, u16 0, u32 port id, u32 groups.
const sockaddrNlLen = 12

func appendSockaddrNl(port, groups uint32) []byte {
	b := le.AppendUint16(nil, unix.AF_NETLINK)
	b = le.AppendUint16(b, 0)
	return le.AppendUint32(le.AppendUint32(b, port), groups)
}

// sockaddrKernel is the other side of every such socket.
func sockaddrKernel() []byte { return appendSockaddrNl(0, 0) }

func (k *sock) sockaddrNetlink() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return appendSockaddrNl(k.nl.PID, k.groups)
}

// bindNetlink takes the port id that the program wants, or one that is free,
// its own number first.
func (k *sock) bindNetlink(c *call, b []byte) error {
	if len(b) < sockaddrNlLen || le.Uint16(b) != unix.AF_NETLINK {
		return unix.EINVAL
	}
	if err := k.port(le.Uint32(b[4:]), uint32(process(c.pid))); err != nil {
		return err
	}
	k.mu.Lock()
	k.groups = le.Uint32(b[8:])
	k.mu.Unlock()
	return c.answer(0)
}

// port gives the socket a port id, want unless that is 0; EADDRINUSE. One that
// it has it keeps.
func (k *sock) port(want, process uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	sv := k.sv
	sv.mu.Lock()
	defer sv.mu.Unlock()
	switch {
	case k.nl.PID != 0 && want != 0 && want != k.nl.PID:
		return unix.EINVAL
	case k.nl.PID != 0:
		return nil
	case k.closed:
		return unix.EBADF
	case want != 0 && sv.taken(want):
		return unix.EADDRINUSE
	case want == 0:
		for want = process; sv.taken(want); want-- {
			if want < 0xffff0000 {
				want = 0xffffffff // where the kernel looks, too: no process has these
			}
		}
	}
	k.nl.PID = want
	sv.ports[want] = k
	return nil
}

// taken reports whether a socket that the program still has the port id. The caller
// holds sv.mu.
func (sv *supervisor) taken(port uint32) bool {
	k := sv.ports[port]
	return k != nil && !hungUp(k.conn)
}

// hungUp reports that nobody has the other end of a pair.
func hungUp(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	p := []unix.PollFd{{}}
	err = raw.Control(func(fd uintptr) {
		p[0].Fd = int32(fd)
		_, _ = unix.Poll(p, 0)
	})
	return err != nil || p[0].Revents&unix.POLLHUP != 0
}

// askFrom answers a message of requests that a call of the program's brings. The
// program is not to wait for itself: what there is no room for goes when it has
// read. EBUSY: it has not read what it asked for before.
func (k *sock) askFrom(c *call, req []byte) error {
	if err := k.port(0, uint32(process(c.pid))); err != nil {
		return err
	}
	if !k.asking.TryLock() {
		return unix.EBUSY
	}
	rest := k.deliver(k.answers(req), false)
	if len(rest) == 0 {
		k.asking.Unlock()
		return nil
	}
	go func() {
		defer k.asking.Unlock()
		k.deliver(rest, true)
	}()
	return nil
}

// ask answers a message of requests, and waits until there is room.
func (k *sock) ask(req []byte) {
	k.asking.Lock()
	defer k.asking.Unlock()
	k.deliver(k.answers(req), true)
}

func (k *sock) answers(req []byte) [][]byte {
	k.mu.Lock()
	s := k.nl
	k.mu.Unlock()
	return s.Answer(k.sv.tables, req)
}

// deliver writes answers and returns those that there was no room for.
func (k *sock) deliver(answers [][]byte, wait bool) (rest [][]byte) {
	for i, b := range answers {
		if err := put(k.conn, b, nil, nil, wait); errors.Is(err, unix.EAGAIN) {
			return answers[i:]
		}
	}
	return nil
}
