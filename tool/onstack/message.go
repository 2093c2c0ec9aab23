package onstack

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/abi"
)

// Layouts of struct msghdr and struct mmsghdr on machines of 64 bits.
const (
	msghdrLen  = 56 // u64 name, u32 namelen, u64 iov, u64 iovlen, u64 control, u64 controllen, u32 flags
	mmsghdrLen = 64 // msghdr, u32 length
	iovMax     = 1024
)

// msghdr is struct msghdr of the program.
type msghdr struct {
	at                  uint64 // of the structure; 0: there is none
	name                uint64
	namelen             uint32
	iov                 [][2]uint64 // base, length
	control, controllen uint64
}

// msghdr reads one.
func (c *call) msghdr(at uint64) (m msghdr, err error) {
	b, err := c.read(at, msghdrLen)
	if err != nil {
		return m, err
	}
	m = msghdr{at: at, name: le.Uint64(b), namelen: le.Uint32(b[8:]), control: le.Uint64(b[32:]), controllen: le.Uint64(b[40:])}
	n := le.Uint64(b[24:])
	switch {
	case n > iovMax:
		return m, unix.EMSGSIZE
	case int32(m.namelen) < 0:
		return m, unix.EINVAL
	}
	if b, err = c.read(le.Uint64(b[16:]), int(n)*16); err != nil {
		return m, err
	}
	for ; len(b) > 0; b = b[16:] {
		m.iov = append(m.iov, [2]uint64{le.Uint64(b), le.Uint64(b[8:])})
	}
	return m, nil
}

// room is how many octets the buffers have, as far as a message needs to know.
func (m *msghdr) room() int {
	n := uint64(0)
	for _, v := range m.iov {
		n = min(n+min(v[1], 1<<30), 1<<30)
	}
	return int(n)
}

// gather reads what is to be sent, at most limit octets of it.
func (c *call) gather(m *msghdr, limit int) ([]byte, error) {
	var data []byte
	for _, v := range m.iov {
		b, err := c.read(v[0], int(min(v[1], uint64(limit-len(data)))))
		if err != nil {
			return nil, err
		}
		data = append(data, b...)
	}
	return data, nil
}

// scatter writes what was received.
func (c *call) scatter(m *msghdr, data []byte) error {
	for _, v := range m.iov {
		n := int(min(uint64(len(data)), v[1]))
		if err := c.write(v[0], data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// sendto serves sendto(2) with an address or out-of-band data.
func (sv *supervisor) sendto(c *call, k *sock) error {
	m := msghdr{name: c.args[4], namelen: uint32(c.args[5]), iov: [][2]uint64{{c.args[1], c.args[2]}}}
	return sv.sendOne(c, k, &m, c.arg(3))
}

func (sv *supervisor) sendmsg(c *call, k *sock) error {
	m, err := c.msghdr(c.args[1])
	if err != nil {
		return err
	}
	return sv.sendOne(c, k, &m, c.arg(2))
}

// sendOne serves the calls that send one message. That of a connected stream is
// the pair's, unless something is in it that a local socket takes otherwise.
func (sv *supervisor) sendOne(c *call, k *sock, m *msghdr, flags int) error {
	if k.isStream() && flags&unix.MSG_OOB == 0 && (m.name == 0 || m.namelen == 0) && k.carries() {
		return c.proceed()
	}
	if k.isStream() && flags&unix.MSG_OOB != 0 {
		go func() { // which waits for room
			n, err := sv.send(c, k, m, flags)
			c.settle(c.finish(n, err))
		}()
		return nil
	}
	n, err := sv.send(c, k, m, flags)
	if !errors.Is(err, unix.EAGAIN) || !k.isStream() || flags&unix.MSG_DONTWAIT != 0 {
		return c.finish(n, err)
	}
	fd, err := c.descriptor(k)
	if err != nil {
		return err
	}
	if nonblocking(fd) {
		unix.Close(fd)
		return unix.EAGAIN
	}
	return sv.wait(c, fd, unix.EPOLLOUT, timeout(fd, unix.SO_SNDTIMEO), func() (done bool) {
		n, err := sv.send(c, k, m, flags)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		c.settle(c.finish(n, err))
		return true
	})
}

// carries reports whether a stream's pair takes data.
func (k *sock) carries() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state == connected
}

// unreadable reports whether a stream's pair has nothing to do with what a program
// wants to receive, and what is answered instead: the error of a connect, once,
// and then an end.
func (k *sock) unreadable() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.state == connected || k.state == connecting:
		return false, nil
	case k.state == failed:
		err := k.err
		k.err, k.state = nil, fresh
		return true, err
	case k.state == fresh && k.over:
		return true, nil
	}
	return true, unix.ENOTCONN
}

// send sends one message and answers its length.
func (sv *supervisor) send(c *call, k *sock, m *msghdr, flags int) (int, error) {
	if k.isStream() {
		return sv.sendStream(c, k, m, flags)
	}
	if m.room() > maxDatagram {
		return 0, unix.EMSGSIZE
	}
	data, err := c.gather(m, maxDatagram)
	if err != nil {
		return 0, err
	}
	if k.isNetlink() {
		return len(data), k.askFrom(c, data)
	}
	out := protocol.Msg{Data: data}
	k.mu.Lock()
	out.Flags, err = k.abi.SendFlags(flags)
	k.mu.Unlock()
	if err == nil && m.name != 0 && m.namelen != 0 {
		var b []byte
		if b, err = c.sockaddr(m.name, uint64(m.namelen)); err == nil {
			out.Addr, err = k.to(b, abi.Send)
		}
		if err == nil && out.Addr.IsValid() && out.Addr.Port == 0 && k.isUDP() {
			err = unix.EINVAL
		}
		out.Flags |= protocol.MsgElsewhere
	}
	if err == nil {
		err = k.takePending()
	}
	if err == nil && m.controllen > 0 {
		out.Control, err = c.sendControl(k, m, out.Addr)
	}
	if err != nil {
		return 0, err
	}
	n, err := k.stack().Send(out)
	if len(out.Control) > 0 {
		err = abi.SixErr(err)
	}
	err = abi.AddrErr(err)
	if err == nil {
		k.mu.Lock()
		k.abi.Bound = true
		k.mu.Unlock()
	}
	return n, err
}

// maxControl is net.core.optmem_max as it used to be.
const maxControl = 20480

// sendControl reads what the control messages ask for. Of a packet of IPv4 the
// stack takes none: those that say what it would do anyway are passed over.
func (c *call) sendControl(k *sock, m *msghdr, to protocol.Addr) ([]byte, error) {
	if m.controllen > maxControl {
		return nil, unix.ENOBUFS
	}
	b, err := c.read(m.control, int(m.controllen))
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !to.IsValid() {
		to = k.peer
	}
	control, err := k.abi.ParseCmsgs(b, k.abi.Family == unix.AF_INET6 && !to.IP.Is4In6())
	return control.Six, err
}

// maxStream is how much of a long message goes into a stream at once: the pair
// takes no more. maxUrgent is what fits one request with out-of-band data.
const (
	maxStream = 256 << 10
	maxUrgent = 32 << 10
)

// sendStream sends what the pair would not take as a connection does: with an
// address, which means nothing, or out of band.
func (sv *supervisor) sendStream(c *call, k *sock, m *msghdr, flags int) (int, error) {
	switch {
	case flags&unix.MSG_FASTOPEN != 0:
		return 0, unix.EOPNOTSUPP
	case !k.carries():
		return 0, unix.EPIPE
	}
	if flags&unix.MSG_OOB != 0 && m.room() > maxUrgent {
		return 0, unix.EMSGSIZE
	}
	data, err := c.gather(m, maxStream)
	if err != nil {
		return 0, err
	}
	if flags&unix.MSG_OOB != 0 {
		return k.stack().Send(protocol.Msg{Flags: protocol.MsgOOB, Data: data})
	}
	fd, err := c.descriptor(k)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	n, err := unix.SendmsgN(fd, data, nil, nil, flags&(unix.MSG_MORE|unix.MSG_EOR)|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	return n, err
}

// sendmmsg serves sendmmsg(2): as many as go, and the error of the first.
func (sv *supervisor) sendmmsg(c *call, k *sock) error {
	if k.isStream() && c.arg(3)&unix.MSG_OOB != 0 {
		return unix.EOPNOTSUPP
	}
	count := 0
	for i := range min(int(uint32(c.args[2])), iovMax) {
		at := c.args[1] + uint64(i*mmsghdrLen)
		m, err := c.msghdr(at)
		n := 0
		if err == nil {
			n, err = sv.send(c, k, &m, c.arg(3))
		}
		if err == nil {
			err = c.write(at+msghdrLen, le.AppendUint32(nil, uint32(n)))
		}
		if err != nil {
			if count > 0 && !errors.Is(err, errGone) {
				break
			}
			return err
		}
		count++
	}
	return c.answer(count)
}

// recvfrom serves recvfrom(2) for who wants the address, or out-of-band data, or
// one octet.
func (sv *supervisor) recvfrom(c *call, k *sock) error {
	m := msghdr{iov: [][2]uint64{{c.args[1], c.args[2]}}}
	return sv.recvOne(c, k, c.arg(3), c.args[4] != 0, func(fd int) (int, error) {
		room, err := 0, error(nil)
		if c.args[4] != 0 {
			room, err = c.addrRoom(c.args[5])
		}
		if err != nil {
			return 0, err
		}
		r, err := k.receive(fd, c.arg(3), &m)
		if err != nil {
			return 0, err
		}
		if err := c.scatter(&m, r.data); err != nil {
			return 0, err
		}
		c.took = len(r.data)
		if c.args[4] == 0 {
			return r.length(c.arg(3)), nil
		}
		return r.length(c.arg(3)), c.putAddr(r.from, room, c.args[4], c.args[5])
	})
}

func (sv *supervisor) recvmsg(c *call, k *sock) error {
	m, err := c.msghdr(c.args[1])
	if err != nil {
		return err
	}
	return sv.recvOne(c, k, c.arg(2), m.name != 0, func(fd int) (int, error) { return c.receive(fd, k, &m, c.arg(2)) })
}

// receive serves one message header.
func (c *call) receive(fd int, k *sock, m *msghdr, flags int) (int, error) {
	r, err := k.receive(fd, flags, m)
	if err != nil {
		return 0, err
	}
	if err := c.scatter(m, r.data); err != nil {
		return 0, err
	}
	c.took = len(r.data)
	if m.name != 0 {
		if err := c.write(m.name, r.from[:min(len(r.from), int(m.namelen))]); err != nil {
			return 0, err
		}
	}
	control, cut := r.control(k, int(min(m.controllen, maxControl)))
	if cut {
		r.flags |= unix.MSG_CTRUNC
	}
	if err := c.write(m.control, control); err != nil {
		return 0, err
	}
	namelen := len(r.from)
	if m.name == 0 {
		namelen = 0
	}
	if err := c.write(m.at+8, le.AppendUint32(nil, uint32(namelen))); err != nil {
		return 0, err
	}
	tail := le.AppendUint64(nil, uint64(len(control)))
	return r.length(flags), c.write(m.at+40, le.AppendUint32(tail, uint32(r.flags)))
}

// recvOne serves a call that receives, now or when something comes; named: the
// program wants to know from whom.
func (sv *supervisor) recvOne(c *call, k *sock, flags int, named bool, receive func(fd int) (int, error)) error {
	stream := k.isStream()
	switch {
	case flags&unix.MSG_ERRQUEUE != 0:
		return unix.EAGAIN
	case stream && flags&unix.MSG_OOB != 0: // not in the pair, and nobody waits for it
		return c.finish(receive(-1))
	case stream:
		if so, err := k.unreadable(); so {
			return c.finish(0, err)
		}
		if !named || flags&unix.MSG_WAITALL != 0 || !k.carries() { // the other end's name is told to who waits for all
			return c.proceed()
		}
	}
	fd, err := c.descriptor(k)
	if err != nil {
		return err
	}
	answer := func(n int, err error) error {
		if err == nil && stream && flags&unix.MSG_PEEK == 0 {
			take(fd, c.took)
		}
		return c.finish(n, err)
	}
	n, err := receive(fd)
	if !errors.Is(err, unix.EAGAIN) || flags&unix.MSG_DONTWAIT != 0 || nonblocking(fd) {
		defer unix.Close(fd)
		return answer(n, err)
	}
	return sv.wait(c, fd, unix.EPOLLIN, timeout(fd, unix.SO_RCVTIMEO), func() (done bool) {
		n, err := receive(fd)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		c.settle(answer(n, err))
		return true
	})
}

// take drops n octets of a stream that the program is about to be given, and
// could read once more if they went later. An answer that nobody hears is kept
// (unheard).
func take(fd, n int) {
	for b := make([]byte, n); len(b) > 0; {
		m, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if err != nil || m == 0 {
			return
		}
		b = b[m:]
	}
}

// wait parks c until fd, which it takes over, has one of the events and try has
// answered, or has not within d. try is called anew each time.
func (sv *supervisor) wait(c *call, fd int, events uint32, d time.Duration, try func() (done bool)) error {
	var mu sync.Mutex // of fd: nobody uses its number once it is closed
	open := true
	shut := func() {
		if open {
			open = false
			sv.watch.remove(fd)
			unix.Close(fd)
		}
	}
	end := func() {
		mu.Lock()
		defer mu.Unlock()
		shut()
	}
	p := &park{c: c, drop: end}
	var arm func() error
	ready := func(uint32) {
		sv.unheard.enter(c)
		defer sv.unheard.leave(c)
		mu.Lock()
		defer mu.Unlock()
		if !open || !c.valid() { // whoever drops it closes fd
			return
		}
		if !try() {
			c.closeMemory()
			err := arm()
			if err == nil {
				return
			}
			_ = c.fail(err)
		}
		sv.parked.take(p)
		shut()
	}
	arm = func() error {
		sv.watch.remove(fd)
		return sv.watch.add(fd, events, ready)
	}
	mu.Lock()
	defer mu.Unlock()
	sv.parked.put(p, d, func() { end(); _ = c.fail(unix.EAGAIN) })
	err := arm()
	if err != nil {
		sv.parked.take(p)
		shut()
	}
	return err
}

// urgent takes an out-of-band octet from the stack.
func (k *sock) urgent(flags, room int) (*received, error) {
	if k.stack() == nil { // not used yet
		return nil, unix.EINVAL
	}
	ask := uint32(protocol.MsgOOB | protocol.MsgDontWait)
	if flags&unix.MSG_PEEK != 0 {
		ask |= protocol.MsgPeek
	}
	m, err := k.stack().Recv(min(room, 1), ask)
	return &received{data: m.Data, whole: len(m.Data), flags: unix.MSG_OOB}, err
}

// received is a message as it came out of the pair.
type received struct {
	data  []byte // cut to the program's room
	whole int    // its length
	from  []byte // sockaddr
	flags int    // MSG_TRUNC …
	msg   protocol.Msg
}

// length is what the call answers.
func (r *received) length(flags int) int {
	if flags&unix.MSG_TRUNC != 0 {
		return r.whole
	}
	return len(r.data)
}

// control is the control messages that the program has asked for.
func (r *received) control(k *sock, room int) (b []byte, cut bool) {
	if len(r.msg.Control) == 0 {
		return nil, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.abi.AppendCmsgs(nil, r.msg, room)
}

// receive takes a message out of fd, a copy of the program's end, without
// waiting.
//
// Of a stream it looks at octets only, and they are from nobody: its pair's
// other end has the joiner's name.
func (k *sock) receive(fd, flags int, m *msghdr) (*received, error) {
	data, rights := make([]byte, min(m.room(), maxDatagram)), make([]byte, 64)
	switch {
	case k.isStream() && flags&unix.MSG_OOB != 0:
		return k.urgent(flags, len(data))
	case k.isStream():
		n, _, err := unix.Recvfrom(fd, data, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return &received{data: data[:max(n, 0)], whole: n}, err
	}
	n, rn, rflags, _, err := unix.Recvmsg(fd, data, rights, flags&unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if n == 0 && rn == 0 && k.sv.gone() {
		return nil, unix.ENETDOWN
	}
	r := &received{data: data[:min(n, len(data))], whole: n, flags: rflags & unix.MSG_TRUNC}
	if k.isNetlink() {
		dropRights(rights[:rn])
		r.from = sockaddrKernel()
		return r, nil
	}
	k.mu.Lock()
	r.msg.Addr = k.peer
	k.mu.Unlock()
	if note := readNote(rights[:rn]); len(note) == 4 {
		if flags&unix.MSG_PEEK != 0 { // an error does not stay
			_, rn, _, _, _ = unix.Recvmsg(fd, nil, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			dropRights(rights[:rn])
		}
		if err := k.takePending(); err != nil {
			return nil, err
		}
		return k.receive(fd, flags, m) // SO_ERROR or a send has told it
	} else if len(note) > 0 {
		if r.msg, err = protocol.ParseMsg(note); err != nil {
			return nil, err
		}
	}
	r.from = k.show(r.msg.Addr)
	r.flags |= abi.ToLinuxFlags(r.msg.Flags)
	return r, nil
}

// takePending is the error that a datagram socket has, once.
func (k *sock) takePending() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.err
	k.err = nil
	return err
}

// readNote is what is in the file that came with a message.
func readNote(rights []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	var note []byte
	for i := range msgs {
		fds, _ := unix.ParseUnixRights(&msgs[i])
		for _, fd := range fds {
			b := make([]byte, 1024)
			if n, err := unix.Pread(fd, b, 0); err == nil {
				note = b[:n]
			}
			unix.Close(fd)
		}
	}
	return note
}

// recvmmsg serves recvmmsg(2): waits for the first message only. Of a stream whose
// peer's name somebody wants there is no more than that one.
func (sv *supervisor) recvmmsg(c *call, k *sock) error {
	vlen := min(int(uint32(c.args[2])), iovMax)
	if k.isStream() {
		if so, err := k.unreadable(); so {
			return c.finish(0, err)
		}
		named, err := c.named(vlen)
		switch {
		case err != nil:
			return err
		case !named:
			return c.proceed()
		}
		vlen = 1
	}
	return sv.recvOne(c, k, c.arg(3), true, func(fd int) (int, error) {
		count := 0
		for i := range vlen {
			at := c.args[1] + uint64(i*mmsghdrLen)
			m, err := c.msghdr(at)
			n := 0
			if err == nil {
				n, err = c.receive(fd, k, &m, c.arg(3))
			}
			if err == nil {
				err = c.write(at+msghdrLen, le.AppendUint32(nil, uint32(n)))
			}
			if err != nil {
				if count > 0 {
					break
				}
				return 0, err
			}
			count++
		}
		return count, nil
	})
}

// named reports whether one of the first n messages of a call has room for a name.
func (c *call) named(n int) (bool, error) {
	b, err := c.read(c.args[1], n*mmsghdrLen)
	for ; len(b) > 0; b = b[mmsghdrLen:] {
		if le.Uint64(b) != 0 {
			return true, nil
		}
	}
	return false, err
}
