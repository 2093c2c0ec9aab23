package e2e

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	programs["pointers"] = badPointers
	programs["lengths"] = badLengths
	programs["makes"] = makes
}

// Pointers that lead nowhere, and lengths that nothing has, end a call with an
// error that the kernel would give too, and harm nobody else.
func TestOnstackBadPointers(t *testing.T) {
	d := start(t)
	d.onstack(0, "pointers").well()
	d.onstack(0, "lengths").well()
	s := d.open()
	until(t, "the stack has no socket left", func() bool { return info(t, s).Sockets == 0 })
}

// Signals to the supervisor, which package runtime sends it too, lose no call and
// spoil none.
func TestOnstackDisturbed(t *testing.T) {
	d := start(t)
	r := d.onstack(0, "makes")
	if s := r.line(); s != "makes" {
		t.Fatal(s)
	}
	supervisor := r.family()[1]
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for alive(supervisor) {
			threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", supervisor))
			for range 100 {
				for _, thread := range threads {
					tid, _ := strconv.Atoi(thread.Name())
					_ = unix.Tgkill(supervisor, tid, unix.SIGURG)
				}
			}
		}
	}()
	r.well()
	<-ended
}

// Nobody else can stand in the supervisor's queue, where the program's sockets are
// connected to it, and keep the program waiting: whatever name one of its sockets
// has, nothing answers there.
func TestOnstackUnreachable(t *testing.T) {
	_, r := waiter(t)
	mine := map[string]bool{}
	supervisor := fmt.Sprintf("/proc/%d/", r.family()[1])
	fds, err := os.ReadDir(supervisor + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		name, _ := os.Readlink(supervisor + "fd/" + fd.Name())
		if ino, ok := strings.CutPrefix(name, "socket:["); ok {
			mine[strings.TrimSuffix(ino, "]")] = true
		}
	}
	table, err := os.ReadFile(supervisor + "net/unix")
	if err != nil {
		t.Fatal(err)
	}
	listens := 0
	for line := range strings.Lines(string(table)) {
		// Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON is 1<<16.
		f := strings.Fields(line)
		if len(f) < 8 || !mine[f[6]] || f[3] != "00010000" {
			continue
		}
		listens++
		if c, err := net.Dial("unix", f[7]); err == nil {
			c.Close()
			t.Errorf("a stranger reaches the supervisor at %s", f[7])
		}
	}
	if listens != 1 {
		t.Errorf("%d listeners of the supervisor, want 1", listens)
	}
}

// makes has sockets made, many at a time, and looks at what it was given.
func makes([]string) error {
	fmt.Println("makes")
	done := make(chan error)
	for range 4 {
		go func() {
			var err error
			for i := 0; i < 1000 && err == nil; i++ {
				err = makesOne()
			}
			done <- err
		}()
	}
	return errors.Join(<-done, <-done, <-done, <-done)
}

func makesOne() error {
	fd, e := call(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if e != 0 || fd < 3 {
		return fmt.Errorf("socket: %d, %w", fd, e)
	}
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return unix.Close(fd)
}

// loopback is sockaddr_in of 127.0.0.1.
func loopback(port uint16) (a unix.RawSockaddrInet4) {
	return unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port<<8 | port>>8, Addr: [4]byte{127, 0, 0, 1}}
}

const inetLen = unix.SizeofSockaddrInet4

// bench is what the hostile programs have: a UDP socket with a datagram in it, a
// connected stream, a listener, and a netlink socket, none of which waits.
type bench struct {
	udp, udpPort, conn, listener, netlink int
}

func newBench() (b bench, err error) {
	sock := func(family, typ int) int {
		fd, e := call(unix.SYS_SOCKET, uintptr(family), uintptr(typ|unix.SOCK_CLOEXEC), 0)
		if e != 0 {
			err = errors.Join(err, fmt.Errorf("socket: %w", e))
		}
		return fd
	}
	bound := func(fd int) (port int) {
		a, n := loopback(0), uint32(inetLen)
		_, e := call(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a)), inetLen)
		_, e2 := call(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
		if e|e2 != 0 || a.Port == 0 {
			err = errors.Join(err, fmt.Errorf("bind: %w, %w", e, e2))
		}
		return int(a.Port>>8 | a.Port<<8)
	}
	b.udp = sock(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK)
	b.udpPort = bound(b.udp)
	b.listener = sock(unix.AF_INET, unix.SOCK_STREAM)
	a := loopback(uint16(bound(b.listener)))
	b.conn = sock(unix.AF_INET, unix.SOCK_STREAM)
	_, e := call(unix.SYS_LISTEN, uintptr(b.listener), 5)
	_, e2 := call(unix.SYS_CONNECT, uintptr(b.conn), uintptr(unsafe.Pointer(&a)), inetLen)
	b.netlink = sock(unix.AF_NETLINK, unix.SOCK_RAW)
	for _, fd := range []int{b.conn, b.listener} {
		err = errors.Join(err, unix.SetNonblock(fd, true))
	}
	if e|e2 != 0 {
		err = errors.Join(err, fmt.Errorf("listen: %w, connect: %w", e, e2))
	}
	return b, errors.Join(err, b.feed('x'))
}

// feed has the UDP socket send itself an octet.
func (b bench) feed(octet byte) error {
	a, x := loopback(uint16(b.udpPort)), [1]byte{octet}
	if _, e := call(unix.SYS_SENDTO, uintptr(b.udp), uintptr(unsafe.Pointer(&x)), 1, 0, uintptr(unsafe.Pointer(&a)), inetLen); e != 0 {
		return fmt.Errorf("sendto: %w", e)
	}
	return readable(b.udp)
}

// readable waits for something to come, ten seconds at most.
func readable(fd int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
		switch {
		case n == 1:
			return nil
		case err == unix.EINTR: // package runtime's signals
		case err != nil:
			return err
		default:
			return errors.New("a datagram has not come")
		}
	}
}

// well reports that all is as it should be.
func (b bench) well() error {
	if err := b.feed('y'); err != nil {
		return err
	}
	for x := [1]byte{}; x[0] != 'y'; { // after what the program has sent itself
		var a unix.RawSockaddrInet4
		n := uint32(inetLen)
		_, e := call(unix.SYS_RECVFROM, uintptr(b.udp), uintptr(unsafe.Pointer(&x)), 1, 0, uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
		if e == unix.EAGAIN {
			if err := readable(b.udp); err != nil {
				return err
			}
		} else if e != 0 || a.Addr[0] != 127 || n != inetLen {
			return fmt.Errorf("recvfrom: %w, %v", e, a)
		}
	}
	if _, err := newBench(); err != nil {
		return fmt.Errorf("anew: %w", err)
	}
	return nil
}

// pages are the end of a page behind which a file has ended, and a page that may
// only be read. They are of files: where the program itself has forbidden what
// could be done, the supervisor can read, and write to private pages
// (proc_pid_mem(5)).
func pages() (end, readOnly unsafe.Pointer, err error) {
	fd, err := unix.MemfdCreate("pages", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 4096); err != nil {
		return nil, nil, err
	}
	m, err := unix.Mmap(fd, 0, 2*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	r, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return unsafe.Pointer(&m[4096]), unsafe.Pointer(&r[0]), nil
}

// attempt is a call whose pointer, at place i of its arguments, is made bad.
type attempt struct {
	name  string
	nr    uintptr
	args  []uintptr
	i     int
	in    bool // the program's memory is read
	octet bool // a single one of it is touched
}

func badPointers([]string) error {
	b, err := newBench()
	if err != nil {
		return err
	}
	endAt, readOnlyAt, err := pages()
	if err != nil {
		return err
	}
	end, readOnly := uintptr(endAt), uintptr(readOnlyAt)
	a, n, x := loopback(9), uint32(inetLen), make([]byte, 256)
	addr, length, buf := uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(&x[0]))
	udp, conn, lis, nl := uintptr(b.udp), uintptr(b.conn), uintptr(b.listener), uintptr(b.netlink)
	all := []attempt{
		{"bind", unix.SYS_BIND, []uintptr{udp, 0, inetLen}, 1, true, false},
		{"bind of netlink", unix.SYS_BIND, []uintptr{nl, 0, 12}, 1, true, false},
		{"connect", unix.SYS_CONNECT, []uintptr{udp, 0, inetLen}, 1, true, false},
		{"connect of a stream", unix.SYS_CONNECT, []uintptr{conn, 0, inetLen}, 1, true, false},
		{"sendto, octets", unix.SYS_SENDTO, []uintptr{udp, 0, 100, 0, addr, inetLen}, 1, true, false},
		{"sendto, address", unix.SYS_SENDTO, []uintptr{udp, buf, 1, 0, 0, inetLen}, 4, true, false},
		{"sendto of netlink", unix.SYS_SENDTO, []uintptr{nl, 0, 32, 0, addr, 12}, 1, true, false},
		{"sendto, out of band", unix.SYS_SENDTO, []uintptr{conn, 0, 8, unix.MSG_OOB, 0, 0}, 1, true, false},
		{"sendmsg", unix.SYS_SENDMSG, []uintptr{udp, 0, 0}, 1, true, false},
		{"sendmsg of netlink", unix.SYS_SENDMSG, []uintptr{nl, 0, 0}, 1, true, false},
		{"sendmmsg", unix.SYS_SENDMMSG, []uintptr{udp, 0, 3, 0}, 1, true, false},
		{"setsockopt", unix.SYS_SETSOCKOPT, []uintptr{udp, unix.SOL_SOCKET, unix.SO_BROADCAST, 0, 4}, 3, true, false},
		{"setsockopt of the pair", unix.SYS_SETSOCKOPT, []uintptr{udp, unix.SOL_SOCKET, unix.SO_RCVTIMEO_OLD, 0, 16}, 3, true, false},
		{"SIOCGIFFLAGS", unix.SYS_IOCTL, []uintptr{udp, unix.SIOCGIFFLAGS, 0}, 2, true, false},
		{"SIOCGIFCONF", unix.SYS_IOCTL, []uintptr{udp, unix.SIOCGIFCONF, 0}, 2, true, false},
		{"recvmsg", unix.SYS_RECVMSG, []uintptr{udp, 0, 0}, 1, true, false},
		{"recvmmsg", unix.SYS_RECVMMSG, []uintptr{udp, 0, 2, 0, 0}, 1, true, false},
		{"recvfrom, octets", unix.SYS_RECVFROM, []uintptr{udp, 0, 1, 0, addr, length}, 1, false, true},
		{"recvfrom, address", unix.SYS_RECVFROM, []uintptr{udp, buf, 1, 0, 0, length}, 4, false, false},
		{"recvfrom, length", unix.SYS_RECVFROM, []uintptr{udp, buf, 1, 0, addr, 0}, 5, true, false},
		{"getsockname", unix.SYS_GETSOCKNAME, []uintptr{udp, 0, length}, 1, false, false},
		{"getsockname, length", unix.SYS_GETSOCKNAME, []uintptr{udp, addr, 0}, 2, true, false},
		{"getpeername", unix.SYS_GETPEERNAME, []uintptr{conn, 0, length}, 1, false, false},
		{"getpeername, length", unix.SYS_GETPEERNAME, []uintptr{conn, addr, 0}, 2, true, false},
		{"getsockopt", unix.SYS_GETSOCKOPT, []uintptr{udp, unix.SOL_SOCKET, unix.SO_TYPE, 0, length}, 3, false, false},
		{"getsockopt, length", unix.SYS_GETSOCKOPT, []uintptr{udp, unix.SOL_SOCKET, unix.SO_TYPE, buf, 0}, 4, true, false},
		{"accept", unix.SYS_ACCEPT, []uintptr{lis, 0, length}, 1, false, false},
		{"accept, length", unix.SYS_ACCEPT, []uintptr{lis, addr, 0}, 2, true, false},
	}
	const unmapped, kernel = 0x1000, 0xffff800000001000
	for _, at := range all {
		for where, p := range map[string]uintptr{"unmapped": unmapped, "the kernel's": kernel, "over a page's end": end - 1, "behind a page": end, "at the end of all": math.MaxUint64 - 3, "read-only": readOnly} {
			if p == readOnly && (at.in || at.nr == unix.SYS_ACCEPT) || p == end-1 && at.octet {
				continue // that is allowed
			}
			if err := b.feed('x'); err != nil {
				return fmt.Errorf("%s, %s: %w", at.name, where, err)
			}
			args := append([]uintptr(nil), at.args...)
			args[at.i] = p
			n = inetLen
			_, e := call(at.nr, args...)
			if e != unix.EFAULT {
				err = errors.Join(err, fmt.Errorf("%s, %s: %w", at.name, where, e))
			}
		}
	}
	// Within a header that can be read.
	nowhere := unsafe.Add(endAt, 64)
	for name, h := range map[string]unix.Msghdr{
		"name": {Name: (*byte)(nowhere), Namelen: inetLen},
		"iov":  {Iov: (*unix.Iovec)(nowhere), Iovlen: 2},
		"octets": {Name: (*byte)(unsafe.Pointer(&a)), Namelen: inetLen,
			Iov: &unix.Iovec{Base: (*byte)(endAt), Len: 2}, Iovlen: 1},
		"control": {Name: (*byte)(unsafe.Pointer(&a)), Namelen: inetLen,
			Control: (*byte)(nowhere), Controllen: 64},
	} {
		if _, e := call(unix.SYS_SENDMSG, udp, uintptr(unsafe.Pointer(&h)), 0); e != unix.EFAULT {
			err = errors.Join(err, fmt.Errorf("sendmsg, %s: %w", name, e))
		}
		if _, e := call(unix.SYS_SENDMMSG, udp, uintptr(unsafe.Pointer(&[2]unix.Msghdr{h})), 1, 0); e != unix.EFAULT {
			err = errors.Join(err, fmt.Errorf("sendmmsg, %s: %w", name, e))
		}
		_ = b.feed('x')
		if _, e := call(unix.SYS_RECVMSG, udp, uintptr(unsafe.Pointer(&h)), 0); e != unix.EFAULT && name != "control" { // none comes
			err = errors.Join(err, fmt.Errorf("recvmsg, %s: %w", name, e))
		}
	}
	// A list of interfaces with its end outside.
	var conf struct {
		n   int32
		_   int32
		buf uintptr
	}
	conf.n, conf.buf = 400, end-8
	if _, e := call(unix.SYS_IOCTL, udp, unix.SIOCGIFCONF, uintptr(unsafe.Pointer(&conf))); e != unix.EFAULT {
		err = errors.Join(err, fmt.Errorf("SIOCGIFCONF, buffer: %w", e))
	}
	return errors.Join(err, b.well())
}

func badLengths([]string) error {
	b, err := newBench()
	if err != nil {
		return err
	}
	a, x := loopback(9), make([]byte, 1<<16)
	addr, buf := uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&x[0]))
	udp, conn, lis := uintptr(b.udp), uintptr(b.conn), uintptr(b.listener)
	want := func(name string, e syscall.Errno, ok ...syscall.Errno) {
		for _, o := range ok {
			if e == o {
				return
			}
		}
		err = errors.Join(err, fmt.Errorf("%s: %w, not one of %v", name, e, ok))
	}
	for _, n := range []uint32{math.MaxUint32, 1 << 31, 1 << 30, 129} {
		for name, nr := range map[string]uintptr{"bind": unix.SYS_BIND, "connect": unix.SYS_CONNECT} {
			_, e := call(nr, udp, addr, uintptr(n))
			want(fmt.Sprint(name, " of ", n), e, unix.EINVAL)
		}
		_, e := call(unix.SYS_SENDTO, udp, buf, 1, 0, addr, uintptr(n))
		want(fmt.Sprint("sendto to ", n), e, unix.EINVAL)
	}
	for _, n := range []uint32{0, 1, 2, 15} {
		_, e := call(unix.SYS_BIND, udp, addr, uintptr(n))
		want(fmt.Sprint("bind of ", n), e, unix.EINVAL)
		_, e = call(unix.SYS_CONNECT, udp, addr, uintptr(n))
		want(fmt.Sprint("connect of ", n), e, unix.EINVAL)
	}
	for _, n := range []uint32{1 << 31, math.MaxUint32} {
		m := n
		_, e := call(unix.SYS_GETSOCKNAME, udp, addr, uintptr(unsafe.Pointer(&m)))
		want(fmt.Sprint("getsockname of ", n), e, unix.EINVAL)
		_, e = call(unix.SYS_GETPEERNAME, conn, addr, uintptr(unsafe.Pointer(&m)))
		want(fmt.Sprint("getpeername of ", n), e, unix.EINVAL)
		_, e = call(unix.SYS_GETSOCKOPT, udp, unix.SOL_SOCKET, unix.SO_TYPE, buf, uintptr(unsafe.Pointer(&m)))
		want(fmt.Sprint("getsockopt of ", n), e, unix.EINVAL)
		_, e = call(unix.SYS_SETSOCKOPT, udp, unix.SOL_SOCKET, unix.SO_BROADCAST, buf, uintptr(n))
		want(fmt.Sprint("setsockopt of ", n), e, unix.EINVAL)
		_, e = call(unix.SYS_ACCEPT4, lis, addr, uintptr(unsafe.Pointer(&m)), 0)
		want(fmt.Sprint("accept of ", n), e, unix.EINVAL)
	}
	for _, n := range []uintptr{1 << 17, 1 << 31, 1 << 40, math.MaxInt64, math.MaxUint64} {
		_, e := call(unix.SYS_SENDTO, udp, buf, n, 0, addr, inetLen)
		want(fmt.Sprint("sendto of ", n), e, unix.EMSGSIZE)
		_, e = call(unix.SYS_SENDTO, conn, buf, n, unix.MSG_OOB, 0, 0)
		want(fmt.Sprint("sendto out of band of ", n), e, unix.EMSGSIZE)
		_, e = call(unix.SYS_SENDTO, conn, buf, n, 0, addr, inetLen)
		want(fmt.Sprint("sendto with an address of ", n), e, 0, unix.EAGAIN, unix.EFAULT) // as far as there is memory
		h := unix.Msghdr{Name: (*byte)(unsafe.Pointer(&a)), Namelen: inetLen, Iov: &unix.Iovec{Base: &x[0], Len: uint64(n)}, Iovlen: 1}
		_, e = call(unix.SYS_SENDMSG, udp, uintptr(unsafe.Pointer(&h)), 0)
		want(fmt.Sprint("sendmsg of ", n), e, unix.EMSGSIZE)
		h = unix.Msghdr{Iov: &unix.Iovec{}, Iovlen: uint64(n)}
		_, e = call(unix.SYS_SENDMSG, udp, uintptr(unsafe.Pointer(&h)), 0)
		want(fmt.Sprint("sendmsg of iovs ", n), e, unix.EMSGSIZE)
		_, e = call(unix.SYS_RECVMSG, udp, uintptr(unsafe.Pointer(&h)), 0)
		want(fmt.Sprint("recvmsg of iovs ", n), e, unix.EMSGSIZE)
		h = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&a)), Namelen: inetLen, Control: &x[0], Controllen: uint64(n)}
		_, e = call(unix.SYS_SENDMSG, udp, uintptr(unsafe.Pointer(&h)), 0)
		want(fmt.Sprint("sendmsg of control ", n), e, unix.ENOBUFS)
		if err := b.feed('x'); err != nil {
			return err
		}
		var m uint32 = inetLen
		_, e = call(unix.SYS_RECVFROM, udp, buf, n, 0, addr, uintptr(unsafe.Pointer(&m)))
		want(fmt.Sprint("recvfrom of ", n), e, 0)
	}
	h := [2]unix.Msghdr{{Name: (*byte)(unsafe.Pointer(&a)), Namelen: math.MaxUint32}}
	_, e := call(unix.SYS_SENDMSG, udp, uintptr(unsafe.Pointer(&h)), 0)
	want("sendmsg to -1", e, unix.EINVAL)
	for _, n := range []uintptr{0, math.MaxInt32, math.MaxUint32} {
		h[0] = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&a)), Namelen: inetLen}
		h[1].Namelen = 0 // what follows is no header any more
		_, e := call(unix.SYS_SENDMMSG, udp, uintptr(unsafe.Pointer(&h)), n, 0)
		want(fmt.Sprint("sendmmsg of ", n), e, 0, unix.EMSGSIZE, unix.EFAULT, unix.EINVAL)
		_, e = call(unix.SYS_RECVMMSG, udp, uintptr(unsafe.Pointer(&h)), n, 0, 0)
		want(fmt.Sprint("recvmmsg of ", n), e, 0, unix.EAGAIN, unix.EMSGSIZE, unix.EFAULT, unix.EINVAL)
	}
	var conf struct {
		n   int32
		_   int32
		buf uintptr
	}
	for _, n := range []int32{-1, math.MinInt32, math.MaxInt32} {
		conf.n, conf.buf = n, buf
		_, e := call(unix.SYS_IOCTL, udp, unix.SIOCGIFCONF, uintptr(unsafe.Pointer(&conf)))
		want(fmt.Sprint("SIOCGIFCONF of ", n), e, 0, unix.EINVAL)
	}
	return errors.Join(err, b.well())
}
