package onstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/tool/cli"
	"ionet/tool/onstack/stacktables"
)

// Three processes run a program. The first is the one that was called; it waits
// and ends as the program ends. It starts the second, the supervisor, which is
// the parent of the program and of what that leaves behind, as it must be to
// read their memory, and which outlives a program that goes into the background.
// The third confines itself, hands the supervisor the listener, and becomes the
// program.
//
// They are the same executable; what a process is to do stands in its first
// argument, with the number of a descriptor that leads to the one before.
const (
	superviseArg = "--supervise="
	becomeArg    = "--become="
)

// What the supervisor says to the first process, one a message.
const (
	sayPID    = "pid "    // of the program
	sayExit   = "exit "   // its status
	saySignal = "signal " // that has ended it
	sayFailed = "failed " // a status and a sentence: it was not started
)

// Exit statuses of onstack's own, as of env(1) and nohup(1).
const (
	exitFailed  = 125
	exitCannot  = 126
	exitMissing = 127
)

// start runs this executable with one more descriptor than the usual, whose
// number arg then has; conn is the way to it. suffix is what else it is to know.
func start(arg, suffix string, options, command []string) (p *os.Process, conn int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, err
	}
	defer unix.Close(fds[1])
	// Inherited descriptors keep their numbers, so this one does too.
	if _, err := unix.FcntlInt(uintptr(fds[1]), unix.F_SETFD, 0); err != nil {
		return nil, -1, err
	}
	argv := slices.Concat([]string{name}, options, []string{arg + strconv.Itoa(fds[1]) + suffix, "--"}, command)
	p, err = os.StartProcess("/proc/self/exe", argv, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: os.Environ()})
	if err != nil {
		unix.Close(fds[0])
		return nil, -1, err
	}
	return p, fds[0], nil
}

// argument is the descriptor in a first argument, and what else it says.
func argument(arg, prefix string) (fd int, suffix string, err error) {
	number, suffix, _ := strings.Cut(strings.TrimPrefix(arg, prefix), ",")
	n, err := strconv.Atoi(number)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(n), unix.F_SETFD, unix.FD_CLOEXEC)
	}
	return n, suffix, err
}

// filesSuffix says that files are replaced.
const filesSuffix = ",files"

// become is the third process: it confines this thread and, by it, executes the
// command. It returns when it cannot.
func become(arg string, command []string) (status int, err error) {
	conn, suffix, err := argument(arg, becomeArg)
	if err != nil {
		return exitFailed, err
	}
	path, err := exec.LookPath(command[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return exitMissing, fmt.Errorf("%s: no such command", command[0])
		}
		return exitCannot, err
	}
	// From confine on this thread's calls wait for answers; the descriptor is
	// passed on by another one. The supervisor's death takes the program along.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return exitFailed, err
	}
	passed := make(chan error)
	listener := make(chan int)
	go func() {
		fd := <-listener
		if fd < 0 {
			return
		}
		err := unix.Sendmsg(conn, []byte{0}, unix.UnixRights(fd), nil, 0)
		if err == nil {
			var n int
			if n, err = unix.Read(conn, make([]byte, 1)); n == 0 && err == nil { // an octet: it is listening
				err = errors.New("the supervisor has died")
			}
		}
		passed <- err
	}()
	fd, err := confine(suffix == filesSuffix[1:])
	listener <- fd
	if err != nil {
		return exitFailed, err
	}
	if err := <-passed; err != nil {
		return exitFailed, err
	}
	err = syscall.Exec(path, command, os.Environ())
	if errors.Is(err, unix.ENOENT) {
		return exitMissing, fmt.Errorf("%s: %w", command[0], err)
	}
	return exitCannot, fmt.Errorf("%s: %w", command[0], err)
}

// quiet keeps signals that a terminal sends to all of us from ending this
// process; the program has its own way with them. They are caught and not
// ignored, which the program would inherit.
func quiet(more ...os.Signal) chan os.Signal {
	c := make(chan os.Signal, 16)
	signal.Notify(c, append([]os.Signal{unix.SIGINT, unix.SIGQUIT}, more...)...)
	return c
}

// supervise is the second process.
func supervise(ctx *cli.Context, arg string, command []string) int {
	front, _, err := argument(arg, superviseArg)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	say := func(what string, text any) {
		_ = unix.Send(front, fmt.Appendf(nil, "%s%v", what, text), unix.MSG_NOSIGNAL)
	}
	fail := func(err error) int {
		say(sayFailed, err)
		return exitFailed
	}
	go func() {
		for range quiet(unix.SIGHUP, unix.SIGTERM, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU) {
		}
	}()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(err)
	}
	stack, err := client.Open(ctx.Sock)
	if err != nil {
		return fail(err)
	}
	etc := replacements(stack.Prefix())
	sv, err := newSupervisor(stack, stacktables.New(stack), logger(ctx), etc)
	if err != nil {
		return fail(err)
	}
	// The program dies with the thread that has started it: this one, which
	// package runtime keeps as long as it is locked.
	runtime.LockOSThread()
	suffix := ""
	if len(etc) > 0 {
		suffix = filesSuffix
	}
	p, conn, err := start(becomeArg, suffix, nil, command)
	if err != nil {
		return fail(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := sv.meet(conn); err != nil {
			return // it has said why, and ends
		}
		sv.run(sv.listener)
	}()
	say(sayPID, p.Pid)
	go func() {
		if n, err := unix.Read(front, make([]byte, 1)); n == 0 && err == nil {
			_ = p.Kill() // the first process has been killed, and is meant by it
		}
	}()
	reap(p.Pid, func(ws unix.WaitStatus) {
		if ws.Signaled() {
			say(saySignal, int(ws.Signal()))
		} else {
			say(sayExit, ws.ExitStatus())
		}
		unix.Close(front)
		background()
	}, over)
	return 0
}

// meet takes the listener from the third process and lets it go on.
func (sv *supervisor) meet(conn int) error {
	defer unix.Close(conn)
	b, rights := make([]byte, 1), make([]byte, 64)
	n, rn, _, _, err := unix.Recvmsg(conn, b, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	if n == 0 {
		return errGone
	}
	msgs, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil || len(msgs) == 0 {
		return errGone
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return errGone
	}
	sv.listener = fds[0]
	_, err = unix.Write(conn, b)
	return err
}

// reap waits for the program and all that it leaves behind, until over; first is
// told how the program ended.
func reap(pid int, first func(unix.WaitStatus), over <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var ws unix.WaitStatus
			p, err := unix.Wait4(-1, &ws, 0, nil)
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return // nobody is left
			case p == pid && (ws.Exited() || ws.Signaled()):
				first(ws)
			}
		}
	}()
	<-ended
	<-over
}

// background lets go of what was the program's, so that nobody waits for the
// end of our output.
func background() {
	if fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for i := range 3 {
			_ = unix.Dup3(fd, i, 0)
		}
		unix.Close(fd)
	}
	_ = os.Chdir("/")
}
