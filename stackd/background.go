package stackd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// io-net goes to the background, and supervises itself, by starting itself
// again. The environment says at which stage a process is and which
// descriptor takes the word that the stack answers.
const (
	envStage = "IONET_STAGE"
	envReady = "IONET_READY_FD"

	stageBackground = "background"
	stageStack      = "stack" // below a supervisor
	readyFD         = 3
	readyWord       = "ready\n"
)

// again is this program with its arguments, as a stage.
func again(stage string, ready *os.File) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: exe, Args: os.Args, ExtraFiles: []*os.File{ready}}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, envStage+"=") && !strings.HasPrefix(e, envReady+"=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, envStage+"="+stage, fmt.Sprintf("%s=%d", envReady, readyFD))
	return cmd, nil
}

// background starts the real io-net and waits until its stack answers, or
// until it has died, having said why on standard error.
func background(stderr io.Writer) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd, err := again(stageBackground, w)
	if err != nil {
		w.Close()
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("cannot start the stack: %w", err)
	}
	word, _ := io.ReadAll(r)
	if string(word) == readyWord {
		return cmd.Process.Release()
	}
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Exited() {
			return errSaid // it has told why
		}
		return fmt.Errorf("the stack ended before it answered: %w", err)
	}
	return errors.New("the stack ended before it answered")
}

// errSaid is a failure whose reason already stands on standard error.
var errSaid = errors.New("")

// readyPipe is the descriptor that takes the word, or nil.
func readyPipe() *os.File {
	if os.Getenv(envReady) == "" {
		return nil
	}
	f := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	os.Unsetenv(envReady)
	return f
}

// tellReady tells whoever started us, and the service manager, that the
// stack answers. A process in the background then lets go of the terminal.
func tellReady(pipe *os.File, letGo bool) {
	if letGo {
		detach()
	}
	if pipe != nil {
		pipe.WriteString(readyWord)
		pipe.Close()
	}
	notify("READY=1")
}

// logTaken says that standard error is the log (rotator.takeStderr).
var logTaken atomic.Bool

// detach points standard input and output to /dev/null, and standard error
// too unless the log has taken it.
func detach() {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return
	}
	for fd := range 3 {
		if fd == 2 && logTaken.Load() {
			continue
		}
		unix.Dup3(int(null.Fd()), fd, 0)
	}
	null.Close()
}

// notify is sd_notify(3): one datagram to $NOTIFY_SOCKET, if there is one.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}

// reapOrphans collects the children that a container's first process
// inherits. It runs until stop is closed.
func reapOrphans(stop <-chan struct{}) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGCHLD)
	defer signal.Stop(ch)
	for {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		select {
		case <-ch:
		case <-stop:
			return
		}
	}
}
