package onstack

import (
	"errors"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/abi"
)

// maxOption is the longest option value that is looked at.
const maxOption = 4096

// local are the options of level SOL_SOCKET that the program's end has to know
// too, since it is there that the program waits.
var local = map[int]bool{
	unix.SO_RCVTIMEO: true, unix.SO_SNDTIMEO: true, unix.SO_RCVLOWAT: true,
}

func (sv *supervisor) setsockopt(c *call, k *sock) error {
	level, name := c.arg(1), c.arg(2)
	n := c.arg(4)
	if n < 0 {
		return unix.EINVAL
	}
	v, err := c.read(c.args[3], min(n, maxOption))
	if err != nil {
		return err
	}
	if k.isNetlink() {
		return c.fail(k.setNetlink(level, name, v))
	}
	if level == unix.SOL_SOCKET && local[name] {
		fd, err := c.descriptor(k)
		if err != nil {
			return err
		}
		err = unix.SetsockoptString(fd, level, name, string(v))
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	k.mu.Lock()
	r, err := abi.Set(&k.abi, level, name, v)
	over := k.over
	k.mu.Unlock()
	if err != nil {
		return err
	}
	for _, o := range r.Calls {
		err := r.Err(k.stack().SetOption(o.Level, o.Name, o.Value))
		if over && (errors.Is(err, unix.EBADF) || errors.Is(err, net.ErrClosed)) {
			break // it has ended, and the option with it
		}
		if err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.abi.Keep(r)
	if k.isStream() && k.state == fresh {
		for _, o := range r.Calls {
			k.set = slices.DeleteFunc(k.set, func(s protocol.SockOpt) bool { return s.Level == o.Level && s.Name == o.Name })
			k.set = append(k.set, o)
		}
	}
	k.mu.Unlock()
	return c.answer(0)
}

func (sv *supervisor) getsockopt(c *call, k *sock) error {
	level, name := c.arg(1), c.arg(2)
	b, err := c.read(c.args[4], 4)
	if err != nil {
		return err
	}
	v, err := k.option(c, level, name, int(int32(le.Uint32(b))))
	if err != nil {
		return err
	}
	if err := c.write(c.args[3], v); err != nil {
		return err
	}
	return c.finish(0, c.write(c.args[4], le.AppendUint32(nil, uint32(len(v)))))
}

func (k *sock) option(c *call, level, name, room int) ([]byte, error) {
	if room < 0 {
		return nil, unix.EINVAL
	}
	if k.isNetlink() {
		return k.getNetlink(level, name, room)
	}
	if level == unix.SOL_SOCKET && name == unix.SO_ERROR {
		n, err := k.takeError(c)
		return abi.Truncate(le.AppendUint32(nil, uint32(n)), room), err
	}
	k.mu.Lock()
	r, err := abi.Get(&k.abi, level, name)
	k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if len(r.Calls) > 0 && k.stack() == nil {
		if err := k.use(c); err != nil {
			return nil, err
		}
	}
	var answer []byte
	for _, o := range r.Calls {
		if answer, err = k.stack().Option(o.Level, o.Name); r.Err(err) != nil {
			if errors.Is(err, unix.EBADF) || errors.Is(err, net.ErrClosed) {
				err = unix.EINVAL // of a connection that has ended
			}
			return nil, r.Err(err)
		}
	}
	return r.Reply(answer, room)
}

func (k *sock) setNetlink(level, name int, v []byte) error {
	if level == unix.SOL_SOCKET {
		return nil // buffers, time stamps, filters: nothing depends on them
	}
	if level != unix.SOL_NETLINK || len(v) < 4 {
		return unix.ENOPROTOOPT
	}
	switch name {
	case unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_DROP_MEMBERSHIP, unix.NETLINK_PKTINFO, unix.NETLINK_NO_ENOBUFS:
		return nil // news are not passed on
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nl.SetOption(name, int(le.Uint32(v)))
}

func (k *sock) getNetlink(level, name, room int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	var err error
	switch {
	case level == unix.SOL_SOCKET && name == unix.SO_TYPE:
		n = unix.SOCK_RAW
	case level == unix.SOL_SOCKET && name == unix.SO_DOMAIN:
		n = unix.AF_NETLINK
	case level == unix.SOL_SOCKET && name == unix.SO_PROTOCOL, level == unix.SOL_SOCKET && name == unix.SO_ERROR:
	case level == unix.SOL_SOCKET && (name == unix.SO_RCVBUF || name == unix.SO_SNDBUF):
		n = 212992
	case level == unix.SOL_NETLINK:
		n, err = k.nl.Option(name)
	default:
		err = unix.ENOPROTOOPT
	}
	return abi.Truncate(le.AppendUint32(nil, uint32(n)), room), err
}

// ioctl serves the requests about interfaces, for any socket of any family: a
// program asks by the socket that it has at hand.
func (sv *supervisor) ioctl(c *call) error {
	k, err := sv.find(c, c.arg(0))
	if err != nil {
		return err
	}
	_, isSocket, err := c.inode(c.arg(0))
	if err != nil || !isSocket {
		return c.proceed()
	}
	request, at := uint32(c.args[1]), c.args[2]
	switch abi.Classify(request) {
	case abi.ClassSocket:
		if request == unix.SIOCATMARK && k != nil && k.isStream() {
			return c.finish(0, c.write(at, le.AppendUint32(nil, 0))) // the mark is not in the pair
		}
		return c.proceed()
	case abi.ClassDescriptor:
		return c.proceed()
	case abi.ClassIfconf:
		return sv.ifconf(c, at)
	case abi.ClassRefused:
		_, err := abi.Ioctl(sv.tables, request, nil)
		return err
	}
	b, err := c.read(at, abi.IfreqLen)
	if err == nil {
		b, err = abi.Ioctl(sv.tables, request, b)
	}
	if err != nil {
		return err
	}
	return c.finish(0, c.write(at, b))
}

// ifconf serves SIOCGIFCONF. struct ifconf: i32 length, pad, u64 buffer.
func (sv *supervisor) ifconf(c *call, at uint64) error {
	b, err := c.read(at, 16)
	if err != nil {
		return err
	}
	size, buf := int(int32(le.Uint32(b))), le.Uint64(b[8:])
	if buf == 0 {
		size = -1
	} else if size < 0 {
		return unix.EINVAL
	}
	list, err := abi.Ifconf(sv.tables, size)
	if err == nil && buf != 0 {
		err = c.write(buf, list)
	}
	if err != nil {
		return err
	}
	return c.finish(0, c.write(at, le.AppendUint32(nil, uint32(len(list)))))
}
