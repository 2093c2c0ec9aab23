package onstack

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/tool/cli"
)

// front is the first process, which a shell takes for the program: it stops when
// the program stops, ends as it ends, and passes on what is sent to it alone.
func front(ctx *cli.Context, command []string) int {
	prefix, err := client.Find(ctx.Sock)
	if err != nil {
		return ctx.Fail(exitFailed, "%v", err)
	}
	for _, fd := range inherited() {
		if d, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && (d == unix.AF_INET || d == unix.AF_INET6) {
			fmt.Fprintf(ctx.Stderr, "%s: descriptor %d is a socket of the host's network, and stays one\n", name, fd)
		}
	}
	signals := hear()
	_, conn, err := start(superviseArg, "", supervisorOptions(ctx, prefix), command, terminal())
	if err != nil {
		return ctx.Fail(exitFailed, "%v", err)
	}
	letGo(2)
	go func() {
		for s := range signals {
			tell(conn, saySignal, int(s.(syscall.Signal)))
		}
	}()
	for {
		what, number, text, err := listen(conn)
		if err != nil {
			return ctx.Fail(exitFailed, "the supervisor has died, and %s with it", command[0])
		}
		switch what {
		case sayStopped:
			stop()
			tell(conn, sayGoesOn, 0)
		case sayExit:
			return number
		case saySignal:
			_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // one core is enough
			die(syscall.Signal(number))
			return 128 + number // what a shell makes of it
		case sayFailed:
			return ctx.Fail(number, "%s", text)
		}
	}
}

// stop stops this process, and returns when it has been continued. The signal is
// the thread's own: it would go on for a while if another thread took it.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// supervisorOptions are the common options of the second process.
func supervisorOptions(ctx *cli.Context, prefix string) (o []string) {
	if prefix != "" {
		o = append(o, "--sock", prefix)
	}
	if ctx.Verbose {
		o = append(o, "--verbose")
	}
	return o
}

// hear catches the signals that are meant for the program. They are caught and
// not ignored, which the program would inherit; those that are ignored already
// stay that, for it too.
func hear() chan os.Signal {
	c := make(chan os.Signal, 64)
	for s := unix.SIGHUP; s <= 64; s++ {
		switch {
		case s == unix.SIGCHLD, s == unix.SIGPIPE, s == unix.SIGPROF, s == unix.SIGURG, s == unix.SIGSYS:
		case s == unix.SIGILL, s == unix.SIGTRAP, s == unix.SIGABRT, s == unix.SIGBUS, s == unix.SIGFPE, s == unix.SIGSEGV, s == unix.SIGSTKFLT:
		case s > unix.SIGSYS && s < 35: // the C library's
		case signal.Ignored(s):
		default:
			signal.Notify(c, s)
		}
	}
	return c
}

// die ends this process by the signal, as it ends a program that has not asked
// for it. It returns where that does not end one.
func die(s syscall.Signal) {
	runtime.LockOSThread()
	var std [4]uint64 // struct sigaction of the kernel, SIG_DFL: package runtime has its own way with some
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&std)), 0, 8, 0, 0)
	var set unix.Sigset_t
	set.Val[0] = 1 << (s - 1)
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil)
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), s)
}

// inherited are the descriptors beyond the usual three that this process has not
// made itself.
func inherited() (found []int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			found = append(found, fd)
		}
	}
	return found
}

// letGo closes what the program alone is to have, so that who waits for its end
// does not wait for ours; of the usual three the first n become /dev/null.
func letGo(n int) {
	for _, fd := range inherited() {
		unix.Close(fd)
	}
	if fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for i := range n {
			_ = unix.Dup3(fd, i, 0)
		}
		unix.Close(fd)
	}
}

// tell sends a message to the process before or behind this one.
func tell(conn int, what string, text any) {
	_ = unix.Send(conn, fmt.Appendf(nil, "%s %v", what, text), unix.MSG_NOSIGNAL)
}

// listen receives one: a word, a number, and what follows.
func listen(conn int) (what string, number int, text string, err error) {
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(conn, b)
		switch {
		case err == unix.EINTR, err == unix.ECONNRESET: // it has not read all of ours; its last word is still there
			continue
		case err == nil && n == 0:
			return "", 0, "", errGone
		case err != nil:
			return "", 0, "", err
		}
		what, number, text = parseMessage(b[:n])
		return what, number, text, nil
	}
}

func parseMessage(b []byte) (what string, number int, text string) {
	what, text, _ = strings.Cut(string(b), " ")
	first, text, _ := strings.Cut(text, " ")
	number, _ = strconv.Atoi(first)
	return what, number, text
}
