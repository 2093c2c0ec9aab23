package onstack

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// The structures of seccomp_unotify(2), in the kernel's layout.
type (
	// notification is struct seccomp_notif.
	notification struct {
		id    uint64
		pid   uint32 // of the thread
		flags uint32
		nr    int32
		arch  uint32
		ip    uint64
		args  [6]uint64
	}
	// response is struct seccomp_notif_resp.
	response struct {
		id    uint64
		val   int64
		error int32
		flags uint32
	}
	// addFD is struct seccomp_notif_addfd.
	addFD struct {
		id         uint64
		flags      uint32
		srcFD      uint32
		newFD      uint32
		newFDFlags uint32
	}
)

// ioctl does one, and again when a signal comes in between: the kernel waits for
// a lock in each.
func ioctl(fd int, request uint, arg unsafe.Pointer) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// call is one system call of a program, which waits until one of answer, fail,
// proceed and install has been called.
//
// Its thread may die, or a signal may take it out of the call, at any time: what
// is known by the thread's number is used only after valid has said, with it in
// hand, that the thread still waits here (seccomp_unotify(2)).
type call struct {
	sv *supervisor
	notification
	mem   int       // see memory; 0: not open
	sock  *sock     // that it is about; nil: none of the stack's
	wrote []written // what is in the program's memory for it
	took  int       // octets of a stream that it gets
}

// errGone says that nobody waits for the call's answer any more.
var errGone = errors.New("the call has gone")

// valid reports whether the thread still waits for this call's answer.
func (c *call) valid() bool {
	id := c.id
	_, err := ioctl(c.sv.listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id))
	return err == nil
}

// concerns reports whether what has just been opened by the thread's number is
// the program's: the thread waits, or a signal has taken it out of a connect. That
// is begun all the same, as the kernel's is when it ends with EINTR, if the
// descriptor is the socket still.
func (c *call) concerns() bool {
	if c.valid() {
		return true
	}
	if c.nr != unix.SYS_CONNECT || c.sock == nil {
		return false
	}
	ino, socket, err := c.inode(c.arg(0))
	return err == nil && socket && ino == c.sock.ino
}

func (c *call) respond(r response) error {
	c.closeMemory()
	r.id = c.id
	_, err := ioctl(c.sv.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	if err != nil || c.sure(r) {
		c.sv.unheard.keep(c, r)
	}
	if err != nil {
		return errGone
	}
	return nil
}

// answer ends the call with a result.
func (c *call) answer(v int) error { return c.respond(response{val: int64(v)}) }

// fail ends the call with err's number, or with 0 for no error.
func (c *call) fail(err error) error {
	if err == nil {
		return c.answer(0)
	}
	if errors.Is(err, net.ErrClosed) {
		err = unix.EBADF
	}
	errno := protocol.AsError(err).Errno
	if errno == unix.ECONNRESET && c.sv.gone() {
		errno = unix.ENETDOWN // it is the stack that has hung up
	}
	return c.respond(response{error: -int32(errno)})
}

// settle ends the call with the error of a function that has served it, if it
// has one.
func (c *call) settle(err error) {
	switch {
	case err == nil:
	case errors.Is(err, errGone):
		c.closeMemory()
	default:
		_ = c.fail(err)
	}
}

// proceed lets the kernel do the call, as if nobody had looked.
func (c *call) proceed() error {
	return c.respond(response{flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

// install gives the program a copy of fd, with the lowest number that is free,
// and ends the call with that number: both or nothing. Errors: errGone; EMFILE
// and the like, when the call still waits.
func (c *call) install(fd int, cloexec bool) (number int, err error) {
	a := addFD{id: c.id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, srcFD: uint32(fd)}
	if cloexec {
		a.newFDFlags = unix.O_CLOEXEC
	}
	// A signal between the ioctl and the thread's awakening would have the kernel
	// answer with 0 and give nothing: package runtime's preemption is one.
	err = undisturbed(func() (err error) {
		number, err = ioctl(c.sv.listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
		return err
	})
	switch {
	case err == nil:
		c.closeMemory()
		return number, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINPROGRESS):
		return -1, errGone
	}
	return -1, err
}

// undisturbed calls f in a thread that no signal comes to.
func undisturbed(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &allSignals, &old); err != nil {
		return err
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	return f()
}

var allSignals = func() (s unix.Sigset_t) {
	for i := range s.Val {
		s.Val[i] = ^s.Val[i]
	}
	return s
}()

// arg is the call's argument i as the int that the program passed.
func (c *call) arg(i int) int { return int(int32(c.args[i])) }

// memory is the program's memory as an open file, which is that thread's and
// nobody else's: valid has said so with the file in hand. It is closed with the
// call's end, or when the call is parked.
func (c *call) memory() (fd int, err error) {
	if c.mem > 0 {
		return c.mem, nil
	}
	fd, err = unix.Open("/proc/"+strconv.Itoa(int(c.pid))+"/mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		switch {
		case !c.concerns():
			return -1, errGone
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
			return -1, err
		}
		return -1, unix.EFAULT
	}
	if !c.concerns() {
		unix.Close(fd)
		return -1, errGone
	}
	c.mem = fd
	return fd, nil
}

func (c *call) closeMemory() {
	if c.mem > 0 {
		unix.Close(c.mem)
		c.mem = 0
	}
}

// read copies n octets from the program. EFAULT; errGone.
func (c *call) read(addr uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	fd, err := c.memory()
	if err != nil {
		return nil, err
	}
	if got, err := unix.Pread(fd, b, int64(addr)); err != nil || got < n {
		return nil, unix.EFAULT
	}
	return b, nil
}

// readString copies a path of at most limit octets, without its end.
func (c *call) readString(addr uint64, limit int) (string, error) {
	fd, err := c.memory()
	if err != nil {
		return "", err
	}
	b := make([]byte, limit)
	n, err := unix.Pread(fd, b, int64(addr)) // less, where a page is not there
	if err != nil {
		return "", unix.EFAULT
	}
	end := bytes.IndexByte(b[:n], 0)
	switch {
	case end >= 0:
		return string(b[:end]), nil
	case n < limit:
		return "", unix.EFAULT
	}
	return "", unix.ENAMETOOLONG
}

// write copies b to the program, and it does not change after that. By this way
// the kernel writes to what the program itself may not; that harms only the
// program.
func (c *call) write(addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	fd, err := c.memory()
	switch {
	case errors.Is(err, errGone): // which the answer will say, and be kept
	case err != nil:
		return err
	default:
		if n, err := unix.Pwrite(fd, b, int64(addr)); err != nil || n < len(b) {
			return unix.EFAULT
		}
	}
	if c.sock != nil {
		c.wrote = append(c.wrote, written{addr, b})
	}
	return nil
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// pidfdThread is PIDFD_THREAD (Linux 6.9): a descriptor of any thread.
const pidfdThread = unix.O_EXCL

// descriptor answers a copy of the descriptor that the call is about. EBADF: it
// is k's no more, since another thread has closed it.
func (c *call) descriptor(k *sock) (int, error) {
	p, err := openThread(c.pid)
	if err == nil {
		defer unix.Close(p)
	}
	switch {
	case !c.concerns():
		return -1, errGone
	case err != nil:
		return -1, err
	}
	fd, err := unix.PidfdGetfd(p, c.arg(0), 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != k.ino {
		unix.Close(fd)
		return -1, unix.EBADF
	}
	return fd, nil
}

// openThread answers a descriptor of a thread, or of its process.
func openThread(pid uint32) (int, error) {
	p, err := unix.PidfdOpen(int(pid), pidfdThread)
	if errors.Is(err, unix.EINVAL) { // an older kernel, and not the first thread
		p, err = unix.PidfdOpen(process(pid), 0)
	}
	return p, err
}

// process is the number of the process that a thread belongs to.
func process(pid uint32) int {
	var tgid int
	b := make([]byte, 512)
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/status", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return int(pid)
	}
	defer unix.Close(fd)
	n, _ := unix.Read(fd, b)
	for line := range splitLines(b[:max(n, 0)]) {
		if _, err := fmt.Sscanf(line, "Tgid: %d", &tgid); err == nil {
			return tgid
		}
	}
	return int(pid)
}

// inode is the number of the file behind the program's descriptor fd, which for
// a socket is its own while it lives.
func (c *call) inode(fd int) (ino uint64, socket bool, err error) { return inode(c.pid, fd) }

func inode(pid uint32, fd int) (ino uint64, socket bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(int(pid))+"/fd/"+strconv.Itoa(fd), &st); err != nil {
		return 0, false, syscall.EBADF
	}
	return st.Ino, st.Mode&unix.S_IFMT == unix.S_IFSOCK, nil
}
