package onstack

import (
	"errors"
	"fmt"
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

func ioctl(fd int, request uint, arg unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
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
}

// errGone says that nobody waits for the call's answer any more.
var errGone = errors.New("the call has gone")

// valid reports whether the thread still waits for this call's answer.
func (c *call) valid() bool {
	id := c.id
	_, err := ioctl(c.sv.listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id))
	return err == nil
}

func (c *call) respond(r response) error {
	r.id = c.id
	_, err := ioctl(c.sv.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
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
	return c.respond(response{error: -int32(protocol.AsError(err).Errno)})
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
	for {
		number, err = ioctl(c.sv.listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
		switch {
		case err == nil:
			return number, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINPROGRESS):
			return -1, errGone
		default:
			return -1, err
		}
	}
}

// arg is the call's argument i as the int that the program passed.
func (c *call) arg(i int) int { return int(int32(c.args[i])) }

// read copies n octets from the program. EFAULT; errGone.
func (c *call) read(addr uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	got, err := unix.ProcessVMReadv(int(c.pid), []unix.Iovec{iovec(b)}, []unix.RemoteIovec{{Base: uintptr(addr), Len: n}}, 0)
	switch {
	case !c.valid():
		return nil, errGone
	case errors.Is(err, unix.EPERM):
		return nil, err
	case err != nil || got < n:
		return nil, unix.EFAULT
	}
	return b, nil
}

// readString copies a path of at most limit octets, without its end.
func (c *call) readString(addr uint64, limit int) (string, error) {
	b := make([]byte, limit)
	got := 0
	for got < limit { // a page at a time: the one after the end may not be there
		n := min(4096-int((addr+uint64(got))&4095), limit-got)
		m, err := unix.ProcessVMReadv(int(c.pid), []unix.Iovec{iovec(b[got : got+n])},
			[]unix.RemoteIovec{{Base: uintptr(addr) + uintptr(got), Len: n}}, 0)
		if err != nil || m == 0 {
			return "", unix.EFAULT
		}
		for i, x := range b[got : got+m] {
			if x == 0 {
				if !c.valid() {
					return "", errGone
				}
				return string(b[:got+i]), nil
			}
		}
		got += m
	}
	return "", unix.ENAMETOOLONG
}

// write copies b to the program. The memory is held by an open file before the
// thread is looked at, so that it is that thread's and nobody else's.
func (c *call) write(addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/mem", c.pid), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unix.EFAULT
	}
	defer unix.Close(fd)
	if !c.valid() {
		return errGone
	}
	// Through pwrite the kernel writes to what the program itself may not; that
	// harms only the program.
	if n, err := unix.Pwrite(fd, b, int64(addr)); err != nil || n < len(b) {
		return unix.EFAULT
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

// descriptor answers a copy of the program's descriptor fd.
func (c *call) descriptor(fd int) (int, error) {
	p, err := openThread(c.pid)
	if err != nil {
		return -1, errGone
	}
	defer unix.Close(p)
	if !c.valid() {
		return -1, errGone
	}
	return unix.PidfdGetfd(p, fd, 0)
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
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), &st); err != nil {
		return 0, false, syscall.EBADF
	}
	return st.Ino, st.Mode&unix.S_IFMT == unix.S_IFSOCK, nil
}
