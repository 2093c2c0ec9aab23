package stackd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"ionet/tool/background"
)

// stageStack is an io-net below a supervisor.
const stageStack = "stack"

// goBackground starts the real io-net and waits until its stack answers.
func goBackground() error {
	err := background.Start()
	switch _, said := errors.AsType[*background.EndedError](err); {
	case said:
		return errSaid
	case err != nil:
		return fmt.Errorf("cannot start the stack: %w", err)
	}
	return nil
}

// errSaid is a failure whose reason already stands on standard error.
var errSaid = errors.New("")

// tellReady tells whoever started us, and the service manager, that the
// stack answers. A process in the background then lets go of the terminal.
func tellReady(pipe *os.File, letGo bool) {
	background.Serve(pipe, letGo)
	notify("READY=1")
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
