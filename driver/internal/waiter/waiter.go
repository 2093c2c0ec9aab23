// Package waiter lets a receiver sleep until a socket whose frames lie in shared
// memory has some. While the receiver is awake, a frame that arrives wakes
// nobody: the socket is in an epoll instance of its own, which is armed for one
// event before each sleep.
package waiter

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Waiter is such a sleeper. Wait is one goroutine's, Close anybody's.
type Waiter struct {
	file    *os.File // the epoll instance, in turn watched by the runtime
	raw     syscall.RawConn
	control func(func(fd int))
	ep      int
	armed   bool
	err     error

	// ready, arm and ask as values made once: a round allocates nothing.
	look     func(uintptr) bool
	arm, ask func(fd int)
}

// New waits for the socket fd, which control hands out while it is open.
func New(fd int, control func(f func(fd int))) (*Waiter, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := errors.Join(unix.SetNonblock(ep, true), unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})); err != nil {
		unix.Close(ep)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	w := &Waiter{file: os.NewFile(uintptr(ep), "epoll"), control: control, ep: ep}
	w.look, w.arm, w.ask = w.ready, w.rearm, w.failure
	if w.raw, err = w.file.SyscallConn(); err != nil {
		w.file.Close()
		return nil, err
	}
	return w, nil
}

// Wait sleeps until the socket is readable, has failed, which is the error, or
// is closed.
func (w *Waiter) Wait() error {
	w.armed, w.err = false, nil
	if err := w.raw.Read(w.look); err != nil {
		return err
	}
	return w.err
}

// Close ends Wait.
func (w *Waiter) Close() error { return w.file.Close() }

// ready arms the epoll instance and, when it is called again, has it tell what
// has happened.
func (w *Waiter) ready(uintptr) bool {
	if !w.armed {
		w.armed = true
		w.control(w.arm)
		return w.err != nil
	}
	var ev [1]unix.EpollEvent
	n, err := unix.EpollWait(w.ep, ev[:], 0)
	if err != nil && err != unix.EINTR {
		w.err = err
		return true
	}
	if n == 1 && ev[0].Events&unix.EPOLLERR != 0 {
		w.control(w.ask)
	}
	return n == 1
}

func (w *Waiter) rearm(fd int) {
	w.err = unix.EpollCtl(w.ep, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
}

func (w *Waiter) failure(fd int) {
	if e, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); e != 0 {
		w.err = unix.Errno(e)
	}
}
