package onstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// What is said between them, one a message, with a number and perhaps a sentence.
const (
	sayRunning = "running" // the program's process
	sayStopped = "stopped" // the signal that has stopped it
	sayGoesOn  = "goes-on" // to the supervisor: who has stopped with the program has been continued
	sayExit    = "exit"    // its status
	saySignal  = "signal"  // that has ended it; to the supervisor: that it is to have
	sayFailed  = "failed"  // a status and a sentence: it was not started
	sayEnd     = "end"     // to the supervisor: the service is to end
)

// Exit statuses of onstack's own, as of env(1) and nohup(1).
const (
	exitFailed  = 125
	exitCannot  = 126
	exitMissing = 127
)

// start runs this executable with one more descriptor than the usual, whose
// number arg then has; conn is the way to it. suffix is what else it is to know,
// std the usual descriptors.
func start(arg, suffix string, options, command []string, std []*os.File) (p *os.Process, conn int, err error) {
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
	p, err = os.StartProcess("/proc/self/exe", argv, &os.ProcAttr{Files: std, Env: os.Environ()})
	if err != nil {
		unix.Close(fds[0])
		return nil, -1, err
	}
	return p, fds[0], nil
}

// terminal are the usual descriptors as they are.
func terminal() []*os.File { return []*os.File{os.Stdin, os.Stdout, os.Stderr} }

// argument is the descriptor in a first argument, and what else it says.
func argument(arg, prefix string) (fd int, suffix string, err error) {
	number, suffix, _ := strings.Cut(strings.TrimPrefix(arg, prefix), ",")
	n, err := strconv.Atoi(number)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(n), unix.F_SETFD, unix.FD_CLOEXEC)
	}
	return n, suffix, err
}

const (
	filesSuffix   = ",files"   // files are replaced
	serviceSuffix = ",service" // what the program leaves behind is the service
)

// become is the third process. It returns when it cannot execute the command,
// and has told the second.
func become(arg string, command []string) (status int) {
	conn, suffix, err := argument(arg, becomeArg)
	if err != nil {
		return exitFailed
	}
	status, err = execute(conn, suffix == filesSuffix[1:], command)
	// By write(2), which nobody looks at.
	_, _ = unix.Write(conn, fmt.Appendf(nil, "%s %d %v", sayFailed, status, err))
	return status
}

// execute confines this thread and, by it, executes the command.
func execute(conn int, files bool, command []string) (status int, err error) {
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
	fd, err := confine(files)
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

// supervise is the second process.
func supervise(ctx *cli.Context, arg string, command []string) int {
	front, suffix, err := argument(arg, superviseArg)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	fail := func(err error) int {
		tell(front, sayFailed, fmt.Sprintf("%d %v", exitFailed, err))
		return exitFailed
	}
	f := newFamily(front, suffix == serviceSuffix[1:])
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(err)
	}
	stack, err := client.Open(ctx.Sock)
	if err != nil {
		return fail(err)
	}
	_, told := stack.ResolvConf()
	etc := replacements(stack.Prefix(), told)
	sv, err := newSupervisor(stack, stacktables.New(stack), logger(ctx), etc)
	if err != nil {
		return fail(err)
	}
	// The program dies with the thread that has started it: this one, which
	// package runtime keeps as long as it is locked.
	runtime.LockOSThread()
	suffix = ""
	if len(etc) > 0 {
		suffix = filesSuffix
	}
	p, conn, err := start(becomeArg, suffix, nil, command, terminal())
	if err != nil {
		return fail(err)
	}
	letGo(2)
	f.program = p
	go f.obey()
	over := make(chan struct{})
	go func() {
		defer close(over)
		err := sv.meet(conn)
		f.met(err)
		if err == nil {
			sv.run(sv.listener)
		}
	}()
	f.reap()
	<-over
	return 0
}

// failure is why the program was not started.
type failure struct {
	status int
	text   string
}

func (e *failure) Error() string { return e.text }

// meet takes the listener from the third process, lets it go on, and waits until
// it has become the program.
func (sv *supervisor) meet(conn int) error {
	defer unix.Close(conn)
	b, rights := make([]byte, 4096), make([]byte, 64)
	n, rn, _, _, err := unix.Recvmsg(conn, b, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	if n > 1 {
		_, status, text := parseMessage(b[:n])
		return &failure{status, text}
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
	if _, err = unix.Write(conn, b[:1]); err != nil {
		return err
	}
	what, status, text, err := listen(conn)
	if err == nil && what == sayFailed {
		return &failure{status, text}
	}
	return nil // its descriptor has been closed by the execution
}
