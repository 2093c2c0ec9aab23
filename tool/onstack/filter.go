package onstack

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets into struct seccomp_data, and of the low half of an argument.
const (
	offNR   = 0
	offArch = 4
)

func offArg(i int) uint32 { return uint32(16 + 8*i) }

// x32 marks the calls of the x32 interface, which share amd64's number of the
// architecture.
const x32 = 0x40000000

// auditArch is what the kernel calls this machine.
func auditArch() uint32 {
	if runtime.GOARCH == "arm64" {
		return unix.AUDIT_ARCH_AARCH64
	}
	return unix.AUDIT_ARCH_X86_64
}

// always are the calls that somebody has to look at: whether a descriptor is
// one of the stack's cannot be seen by a filter, nor what a pointer points to.
var always = []int{
	unix.SYS_SOCKET, unix.SYS_BIND, unix.SYS_CONNECT, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT, unix.SYS_SHUTDOWN,
	unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SENDMMSG, unix.SYS_RECVMMSG,
}

// rtgenLen is the length of struct nlmsghdr with a struct rtgenmsg.
const rtgenLen = unix.NLMSG_HDRLEN + 4

const (
	allow  = unix.SECCOMP_RET_ALLOW
	notify = unix.SECCOMP_RET_USER_NOTIF
	errno  = unix.SECCOMP_RET_ERRNO
)

// program is the filter. With files set, opening files is looked at too.
func program(files bool) []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch(), SkipTrue: 1},
		bpf.RetConstant{Val: errno | uint32(unix.ENOSYS)}, // another machine's calls would pass by unseen
		bpf.LoadAbsolute{Off: offNR, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1},
		bpf.RetConstant{Val: errno | uint32(unix.ENOSYS)},
	}
	// when appends what is done for the call nr; the block ends with a return.
	when := func(nr int, block ...bpf.Instruction) {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(nr), SkipTrue: uint8(len(block))})
		p = append(p, block...)
	}
	for _, nr := range always {
		when(nr, bpf.RetConstant{Val: notify})
	}
	if files {
		for _, nr := range opens {
			when(nr, bpf.RetConstant{Val: notify})
		}
	}
	// The rings of io_uring would make calls that no filter sees.
	when(unix.SYS_IO_URING_SETUP, bpf.RetConstant{Val: errno | uint32(unix.ENOSYS)})
	// A process that hides its memory could not be served; it is told that it
	// hides.
	when(unix.SYS_PRCTL,
		bpf.LoadAbsolute{Off: offArg(0), Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PR_SET_DUMPABLE, SkipTrue: 1},
		bpf.RetConstant{Val: allow},
		bpf.RetConstant{Val: errno})
	// With an address, or with flags that a local socket takes otherwise. And what
	// is as long as musl's question for interfaces: it is sent without an address,
	// and the answer read without waiting, so that it has to be there.
	for _, c := range []struct {
		nr            int
		flags, length uint32
	}{{unix.SYS_SENDTO, unix.MSG_OOB, rtgenLen}, {unix.SYS_RECVFROM, unix.MSG_OOB | unix.MSG_ERRQUEUE, 1}} {
		when(c.nr,
			bpf.LoadAbsolute{Off: offArg(4), Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 8},
			bpf.LoadAbsolute{Off: offArg(4) + 4, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 6},
			bpf.LoadAbsolute{Off: offArg(3), Size: 4},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: c.flags, SkipTrue: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 2},
			bpf.LoadAbsolute{Off: offArg(2), Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.length, SkipTrue: 1},
			bpf.RetConstant{Val: allow},
			bpf.RetConstant{Val: notify})
	}
	// The requests of linux/sockios.h and linux/wireless.h.
	when(unix.SYS_IOCTL,
		bpf.LoadAbsolute{Off: offArg(1), Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffffff00},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x8900, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x8b00, SkipTrue: 1},
		bpf.RetConstant{Val: allow},
		bpf.RetConstant{Val: notify})
	return append(p, bpf.RetConstant{Val: allow})
}

// confine has this thread, and what comes of it, ask the answered listener. The
// thread gives up privileges by exec for ever (PR_SET_NO_NEW_PRIVS), as the
// kernel wants it of those who are not root.
func confine(files bool) (listener int, err error) {
	raw, err := bpf.Assemble(program(files))
	if err != nil {
		return -1, err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	fd, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	switch e {
	case 0:
		return int(fd), nil
	case unix.EINVAL, unix.ENOSYS:
		return -1, fmt.Errorf("this kernel has no seccomp user notification (Linux 5.14 with CONFIG_SECCOMP_FILTER is needed): %w", e)
	case unix.EBUSY:
		return -1, fmt.Errorf("this process is on a stack already, or another program listens to its system calls: %w", e)
	}
	return -1, fmt.Errorf("seccomp does not let the program's calls be heard, perhaps a container's policy: %w", e)
}
