// Package onstack runs programs that know nothing of ionet on a stack: their
// internet sockets are the stack's. No part of the program is changed or
// preloaded: the kernel hands its socket calls to a supervisor (seccomp user
// notification), which answers them. Streams then carry their data through a
// descriptor that the stack has passed, and nobody is asked.
package onstack

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/tool/cli"
)

// name is what the command is called.
const name = "onstack"

// Command is onstack.
var Command = cli.Command{
	Name:     name,
	Aliases:  []string{"run"},
	Section:  1,
	Short:    "run a program on a stack",
	Wraps:    true,
	Synopsis: []string{"command [argument …]"},
	Long: `onstack starts the command so that its internet sockets, and those of all that it starts, are sockets of the stack that SOCK names. The program is the one that is installed; it may be static, and in any language.

The socket calls of the program wait for a supervisor, which is a process of the same user, asks the stack, and answers. Data of connections does not pass through it. The program cannot reach the host's network: other families than local sockets are refused, the resolver, name cache and bus of the host too, and there is no io_uring. Names are looked up by the servers of /etc/resolv.conf as the stack reaches them; where there is a file $SOCK/etc/resolv.conf, hosts, nsswitch.conf or services, the program reads that instead.

What a program can gain by executing others (setuid) it does not gain here, and programs of 32 bits do not run.`,
	ExitStatus: []cli.Exit{
		{Status: 125, Text: "onstack itself has failed: no stack, or a kernel without seccomp user notification (Linux 5.14 has it)."},
		{Status: 126, Text: "The command was found and could not be run."},
		{Status: 127, Text: "There is no such command."},
	},
	Files: []cli.Item{{Name: "$SOCK/etc/resolv.conf", Text: "Stands for /etc/resolv.conf; so do hosts, nsswitch.conf, services, networks, host.conf and gai.conf."}},
	Examples: []cli.Item{
		{Name: "SOCK=/alt onstack curl http://10.0.0.2/", Text: "Fetch a page through the stack at /alt."},
		{Name: "onstack sh", Text: "A shell in which everything is on the stack."},
	},
	SeeAlso: []string{"ionet-proxy(8)", "nc(1)", "seccomp_unotify(2)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	if len(args) > 0 {
		command := args[1:]
		if len(command) > 0 && command[0] == "--" {
			command = command[1:]
		}
		switch {
		case strings.HasPrefix(args[0], becomeArg) && len(command) > 0:
			status, err := become(args[0], command)
			return ctx.Fail(status, "%v", err)
		case strings.HasPrefix(args[0], superviseArg) && len(command) > 0:
			return supervise(ctx, args[0], command)
		}
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	switch {
	case len(args) == 0:
		ctx.Usage(cli.Misuse("what is to be run?"))
		return exitFailed
	case strings.HasPrefix(args[0], "-"):
		ctx.Usage(cli.Misuse("illegal option -- %s", strings.TrimLeft(args[0], "-")))
		return exitFailed
	}
	return front(ctx, args)
}

// front is the first process.
func front(ctx *cli.Context, command []string) int {
	prefix, err := client.Find(ctx.Sock)
	if err != nil {
		return ctx.Fail(exitFailed, "%v", err)
	}
	for _, f := range inherited() {
		fmt.Fprintf(ctx.Stderr, "%s: descriptor %d is a socket of the host's network, and stays one\n", name, f)
	}
	signals := quiet(unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGALRM)
	options := []string{}
	if prefix != "" {
		options = append(options, "--sock", prefix)
	}
	if ctx.Verbose {
		options = append(options, "--verbose")
	}
	_, conn, err := start(superviseArg, "", options, command)
	if err != nil {
		return ctx.Fail(exitFailed, "%v", err)
	}
	pid := make(chan int, 1)
	go forward(signals, pid)
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(conn, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return ctx.Fail(exitFailed, "the supervisor has died, and %s with it", command[0])
		}
		what, text, _ := strings.Cut(string(b[:n]), " ")
		number, _ := strconv.Atoi(text)
		switch what + " " {
		case sayPID:
			pid <- number
		case sayExit:
			return number
		case saySignal:
			return dieOf(syscall.Signal(number))
		case sayFailed:
			return ctx.Fail(exitFailed, "%s", text)
		}
	}
}

// forward passes signals on to the program. Those of the terminal have reached
// it already.
func forward(signals <-chan os.Signal, pid <-chan int) {
	p := <-pid
	for s := range signals {
		if s != unix.SIGINT && s != unix.SIGQUIT && s != unix.SIGWINCH {
			_ = unix.Kill(p, s.(syscall.Signal))
		}
	}
}

// dieOf ends this process as the program has ended, so that a shell sees it.
func dieOf(s syscall.Signal) int {
	signal.Reset(s)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // one core is enough
	_ = unix.Kill(os.Getpid(), s)
	select {} // it is on its way
}

// inherited are the descriptors that are internet sockets of the host's.
func inherited() (found []int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(filepath.Base(e.Name()))
		if err != nil {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		if d, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && (d == unix.AF_INET || d == unix.AF_INET6) {
			found = append(found, fd)
		}
	}
	return found
}

// logger is for what the supervisor has to say while the program runs.
func logger(ctx *cli.Context) *slog.Logger {
	level := slog.LevelWarn
	if ctx.Verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(ctx.Stderr, &slog.HandlerOptions{Level: level}))
}
