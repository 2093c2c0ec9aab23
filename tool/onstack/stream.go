package onstack

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/abi"
)

var le = binary.LittleEndian

// connect serves connect(2).
func (sv *supervisor) connect(c *call, k *sock) error {
	b, err := c.sockaddr(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	if k.isNetlink() {
		return c.answer(0) // there is nobody else than the kernel
	}
	a, err := k.to(b, abi.Connect)
	if err != nil {
		return err
	}
	sv.catchUpCloses(sv.found())
	if !k.isStream() {
		return k.connectDatagram(c, a)
	}
	fd, err := c.descriptor(k)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	wait := !nonblocking(fd)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return errGone
	case !a.IsValid() && k.state != connected: // nothing to dissolve
		return c.answer(0)
	case !a.IsValid():
		return unix.EOPNOTSUPP
	case k.state == listening:
		return unix.EISCONN
	case k.state == connected && !k.told:
		k.told = true
		return c.answer(0)
	case k.state == connected:
		return unix.EISCONN
	case k.state == failed:
		err := k.err
		k.err, k.state = nil, fresh
		return err
	case k.state == connecting && !wait:
		return unix.EALREADY
	case k.state == connecting:
		k.awaitConnect(c, fd, unix.EALREADY)
		return nil
	case k.ours < 0:
		return unix.ECONNABORTED // an attempt has failed, and its pair with it
	}
	if k.spent {
		if err := k.renew(); err != nil {
			return err
		}
	}
	k.filler = 0
	drain(k.ours) // written before there was a connection
	if !wait {
		k.filler = fill(fd)
	}
	k.state, k.done = connecting, make(chan struct{})
	go k.attempt(a, k.ours, k.filler)
	if !wait {
		return unix.EINPROGRESS
	}
	k.awaitConnect(c, fd, unix.EINPROGRESS)
	return nil
}

// attempt is a connect under way, whose data is to go through ours. When it
// fails and nobody has waited for it, the pair goes with the filler in it, which
// shows the program an error, and the stack's socket goes too.
func (k *sock) attempt(to protocol.Addr, ours, filler int) {
	peer, local, err := k.stack().ConnectData(context.Background(), to, ours, filler)
	err = abi.AddrErr(err)
	if err != nil && filler > 0 {
		local, _ = k.stack().LocalAddr()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	defer close(k.done)
	switch {
	case k.closed:
		k.dropOurs()
		return
	case err == nil:
		k.state, k.peer, k.local, k.abi.Bound = connected, peer, local, true
		k.dropOurs()
		k.sv.follow(k)
	case filler > 0:
		k.state, k.err, k.local, k.over = failed, err, local, true
		k.dropOurs()
		k.sv.bury(k)
		go func() { _ = k.stack().Close() }()
	default:
		k.state, k.err, k.spent = failed, err, true
	}
	waits := k.waits
	k.waits = nil
	for _, p := range waits {
		if k.sv.parked.take(p) {
			p.retry()
		}
	}
}

// catchUp waits for the answer to a connect of which the program may have seen
// already that it has succeeded: the stack makes the descriptor writable before
// it answers. Without that a program that looks once, at the edge, and is told
// ENOTCONN looks never again.
func (k *sock) catchUp() {
	k.mu.Lock()
	done, seen := k.done, false
	if k.state == connecting && k.filler > 0 && k.ours >= 0 {
		left, err := unix.IoctlGetInt(k.ours, unix.TIOCINQ)
		seen = err == nil && left < k.filler
	}
	k.mu.Unlock()
	if seen {
		<-done
	}
}

// renew makes the stack's socket anew, with the same options and address: one
// that has failed to connect cannot try again, on BSD, and on Linux can. The
// caller holds k.mu.
func (k *sock) renew() error {
	s, err := k.make()
	if err != nil {
		return err
	}
	_ = k.stack().Close()
	k.own.Store(s)
	k.spent = false
	for _, o := range k.set {
		if err := s.SetOption(o.Level, o.Name, o.Value); err != nil {
			return err
		}
	}
	if k.bound.IsValid() {
		return s.Bind(k.bound)
	}
	return nil
}

// awaitConnect has c wait for the attempt, at most for SO_SNDTIMEO: then its answer
// is late. The caller holds k.mu.
func (k *sock) awaitConnect(c *call, fd int, late error) {
	var p *park
	p = &park{c: c, drop: func() { k.unwait(p) }}
	p.retry = func() {
		switch {
		case k.state == connected:
			k.told = c.answer(0) == nil || k.told
		case k.state != failed: // another thread has heard why
			_ = c.fail(unix.ECONNABORTED)
		case c.fail(k.err) == nil:
			k.err, k.state = nil, fresh
		}
	}
	k.waits = append(k.waits, p)
	k.sv.parked.put(p, timeout(fd, unix.SO_SNDTIMEO), func() { p.drop(); _ = c.fail(late) })
}

// fill writes to the program's end until that is not writable, and answers how
// many octets there are now: a local stream socket is writable while less than a
// quarter of its buffer is in use (unix_writable).
func fill(fd int) int {
	size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return 0
	}
	n := 0
	for b := filler; n <= size/4; {
		m, err := unix.SendmsgN(fd, b[:min(len(b), size/4+1-n)], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != nil || m == 0 {
			break
		}
		n += m
	}
	return n
}

// filler is zeros.
var filler = make([]byte, 64<<10)

// drain takes out what is there.
func drain(fd int) {
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, b)
		if err != nil || n == 0 {
			return
		}
	}
}

// ahead is how many connections are taken from the stack before the program asks
// for them.
const ahead = 8

func (sv *supervisor) listen(c *call, k *sock) error {
	if !k.isStream() {
		return unix.EOPNOTSUPP
	}
	if err := k.stack().Listen(max(c.arg(1), 0)); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state == fresh {
		k.state, k.abi.Bound, k.abi.Listening = listening, true, true
		sv.publish(k)
		k.more = sync.NewCond(&k.mu)
		go k.harvest()
	}
	return c.answer(0)
}

// noDescriptorWait is when to try again after the stack had no descriptor left.
const noDescriptorWait = 100 * time.Millisecond

// harvest takes connections from the stack.
func (k *sock) harvest() {
	warned := false
	for {
		child, data, peer, local, err := k.stack().AcceptData()
		if err != nil {
			if e := protocol.AsError(err).Errno; e != unix.ENFILE && e != unix.EMFILE && e != unix.ENOBUFS {
				return // it is closed
			}
			if !warned {
				k.sv.log.Warn("connections wait to be accepted", "err", err)
			}
			warned = true
			time.Sleep(noDescriptorWait) // nobody says when there is one again
			continue
		}
		warned = false
		k.mu.Lock()
		if k.closed {
			k.mu.Unlock()
			unix.Close(data)
			return
		}
		in := &sock{sv: k.sv, abi: *k.abi.Accepted(0), ours: -1, from: k, state: connected, told: true, peer: peer, local: local}
		in.own.Store(child)
		k.sv.follow(in)
		k.queue = append(k.queue, incoming{in, data})
		_, _ = unix.Write(k.ours, []byte{0})
		k.hand()
		for len(k.queue) >= ahead && !k.closed {
			k.more.Wait()
		}
		k.mu.Unlock()
	}
}

// hand gives connections to accepts that wait. The caller holds k.mu.
func (k *sock) hand() {
	for len(k.waits) > 0 && len(k.queue) > 0 {
		p := k.waits[0]
		k.waits = k.waits[1:]
		if k.sv.parked.take(p) {
			p.retry()
		}
	}
}

// accept serves accept(2) and accept4(2).
func (sv *supervisor) accept(c *call, k *sock) error {
	flags := 0
	if c.nr == unix.SYS_ACCEPT4 {
		flags = c.arg(3)
	}
	if flags&^(unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0 {
		return unix.EINVAL
	}
	if !k.isStream() {
		return unix.EOPNOTSUPP
	}
	fd, err := c.descriptor(k)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != listening || k.ours < 0 {
		unix.Close(fd)
		return unix.EINVAL
	}
	if len(k.queue) > 0 {
		defer unix.Close(fd)
		return k.take(c, fd, flags)
	}
	if nonblocking(fd) {
		unix.Close(fd)
		return unix.EAGAIN
	}
	var p *park
	p = &park{c: c, drop: func() { k.unwait(p); unix.Close(fd) }}
	p.retry = func() {
		c.settle(k.take(c, fd, flags))
		unix.Close(fd)
	}
	k.waits = append(k.waits, p)
	sv.parked.put(p, timeout(fd, unix.SO_RCVTIMEO), func() { p.drop(); _ = c.fail(unix.EAGAIN) })
	return nil
}

// unwait takes p from those that wait.
func (k *sock) unwait(p *park) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, q := range k.waits {
		if q == p {
			k.waits = append(k.waits[:i:i], k.waits[i+1:]...)
			return
		}
	}
}

// take gives c the oldest connection, which stays if c cannot have it. The
// caller holds k.mu.
func (k *sock) take(c *call, fd, flags int) error {
	in := k.queue[0]
	if c.args[1] != 0 {
		if err := c.giveAddr(in.k.show(in.k.peer), c.args[1], c.args[2]); err != nil {
			return err
		}
	}
	if err := unix.SetNonblock(in.data, flags&unix.SOCK_NONBLOCK != 0); err != nil {
		return err
	}
	if err := k.sv.enter(in.k, in.data); err != nil {
		return err
	}
	// The octet goes first: once it is answered the program may look for more.
	_, _, _ = unix.Recvfrom(fd, make([]byte, 1), unix.MSG_DONTWAIT)
	number, err := c.install(in.data, flags&unix.SOCK_CLOEXEC != 0)
	if err != nil {
		_, _ = unix.Write(k.ours, []byte{0})
		return err
	}
	in.k.seen.Store(newPlace(c.pid, number))
	unix.Close(in.data)
	k.queue = k.queue[1:]
	k.more.Signal()
	return nil
}
