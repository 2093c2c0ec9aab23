// Package background is what programs share that leave the terminal, or that
// keep another one alive: how they go there and say that they serve, the log and
// the file with their process number, and the pauses between two starts.
package background

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A program goes to the background by starting itself again. The environment
// says at which stage a process is and which descriptor takes the word that it
// serves.
const (
	envStage = "IONET_STAGE"
	envReady = "IONET_READY_FD"
	readyFD  = 3
)

// readyWord is said through that descriptor.
const readyWord = "ready\n"

// Detached is the stage of a process that Start has started. Programs may have
// more.
const Detached = "background"

// Stage is the stage of this process; "": the user has started it.
func Stage() string { return os.Getenv(envStage) }

// Forget takes the stage out of the environment, for those who start other
// programs. Ready has been called before.
func Forget() { os.Unsetenv(envStage) }

// Again is this program with its arguments, as a stage, ready to Start; ready
// takes its word.
func Again(stage string, ready *os.File) (*exec.Cmd, error) {
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

// Heard waits for the word at the other end of r; false: who should say it has
// ended.
func Heard(r io.Reader) bool {
	word, _ := io.ReadAll(r)
	return string(word) == readyWord
}

// EndedError is a process that has ended before it served, having said why on
// standard error.
type EndedError struct{ Status int }

func (e *EndedError) Error() string { return fmt.Sprintf("it ended with status %d", e.Status) }

// Start starts this program as the stage Detached, in a session of its own, and
// waits until it serves. *EndedError: it has failed and told why.
func Start() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd, err := Again(Detached, w)
	if err != nil {
		w.Close()
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	if Heard(r) {
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return &EndedError{exit.ExitCode()}
	}
	if err == nil {
		err = errors.New("it ended before it served")
	}
	return err
}

// Ready is the descriptor that takes the word, or nil when nobody waits for it.
func Ready() *os.File {
	if os.Getenv(envReady) == "" {
		return nil
	}
	f := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	os.Unsetenv(envReady)
	return f
}

// Serve says the word to whoever started this process. One in the background
// lets go of the terminal first: its standard input and output are /dev/null from
// then on, and standard error too unless a log has taken it.
func Serve(pipe *os.File, letGo bool) {
	if letGo {
		detach()
	}
	if pipe != nil {
		pipe.WriteString(readyWord)
		pipe.Close()
	}
}

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
