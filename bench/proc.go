package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver/netns"
)

// The halves of a measure that lie in processes of their own run in children
// of this program: bench child ROLE ARGUMENT…
const childArg = "child"

// childTime is the longest that a child may live.
const childTime = 10 * time.Minute

// roles are what a child can be. A role prints a line when it is ready and a
// line of results before it ends.
var roles = map[string]func(args []string) error{
	"wire-send":     wireSend,
	"wire-receive":  wireReceive,
	"relay-send":    relaySend,
	"relay-receive": relayReceive,
	"tap-ionet":     tapIonet,
	"tap-bare":      tapBare,
	"tap-gvisor":    tapGvisor,
	"tap-ping":      kernelPing,

	"tcp-tap-bare":   tcpTapBare,
	"tcp-tap-ionet":  tcpTapIonet,
	"tcp-tap-gvisor": tcpTapGvisor,
	"kernel-stream":  kernelStream,
	"chain-source":   chainSource,
	"chain-relay":    chainRelay,
	"chain-sink":     chainSink,
	"door-source":    doorSource,
	"door-sink":      doorSink,
	"tcp-tap-door":   tcpTapDoor,
	"idle-gvisor":    idleGvisor,
	"idle-ionet":     idleIonet,
	"tcp-ping":       tcpPing,
	"trapped-calls":  trappedCalls,
	"pipe-echo":      pipeEcho,
	"veth-echo":      vethEcho,
	"veth-ping":      vethPing,
	"addr-router":    addrRouter,

	"forward-io-kernel": ioKernel,
	"forward-io-ionet":  ioIonet,
	"forward-io-bare":   ioBare,
	"forward-io-gvisor": ioGvisor,
	"forward-io-router": ioKernelRouter,
	"forward-io-drain":  ioDrain,

	"tunnel-ionet":      tunnelIonet,
	"tunnel-wireguard":  tunnelWireguard,
	"tunnel-strongswan": tunnelStrongSwan,
	"tunnel-serve":      tunnelServe,
}

func child(args []string) error {
	f := roles[args[0]]
	if f == nil {
		return fmt.Errorf("no role %q", args[0])
	}
	// Whatever a role waits for, it ends.
	time.AfterFunc(childTime, func() {
		fmt.Fprintf(os.Stderr, "bench %s: it has taken longer than %v\n", args[0], childTime)
		os.Exit(1)
	})
	return f(args[1:])
}

// A process is a child at work.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

// placement is where a child runs: the processors all its threads keep to, and
// its network namespace: a new one, that of a process, or ours. procs is GOMAXPROCS;
// 0: as many as the machine has.
type placement struct {
	cpus   []int
	newNet bool
	netOf  int
	procs  int
}

// spawn starts a child. Its threads inherit the placement of the thread that
// starts it, so nothing of it ever runs elsewhere.
func spawn(at placement, args ...string) (*process, error) {
	cmd := exec.Command("/proc/self/exe", append([]string{childArg}, args...)...)
	cmd.Stderr = os.Stderr
	procs := at.procs
	if procs == 0 { // whatever the placement: as io-net runs
		procs = runtime.NumCPU()
	}
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", procs))
	p := &process{cmd: cmd}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.lines = in, bufio.NewScanner(out)
	return p, at.start(cmd)
}

// start starts a command there.
func (at placement) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its placement
		started <- at.startHere(cmd)
	}()
	return <-started
}

// output runs a command there and answers what it says.
func (at placement) output(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := at.start(cmd); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	return out.Bytes(), err
}

func (at placement) startHere(cmd *exec.Cmd) error {
	var set unix.CPUSet
	for _, c := range at.cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("placement on %v: %w", at.cpus, err)
	}
	if at.newNet {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("a network namespace: %w (it takes root)", err)
		}
	}
	if at.netOf == 0 {
		return cmd.Start()
	}
	fd, err := unix.Open(netns.Path(strconv.Itoa(at.netOf)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return err
	}
	return cmd.Start()
}

// line is the child's next line.
func (p *process) line() (string, error) {
	if !p.lines.Scan() {
		return "", errors.Join(fmt.Errorf("%s ended early", strings.Join(p.cmd.Args[2:], " ")), p.lines.Err())
	}
	return p.lines.Text(), nil
}

// ask scans the child's next line into values.
func (p *process) ask(values ...any) error {
	l, err := p.line()
	if err == nil {
		_, err = fmt.Sscan(l, values...)
	}
	return err
}

// finish lets a child that waits for the end of its input end.
func (p *process) finish() { p.in.Close() }

// wait waits for the child's end.
func (p *process) wait() error {
	p.in.Close()
	return p.cmd.Wait()
}

// stop lets a child that waits for the end of its input end, and does not wait
// for long.
func (p *process) stop() {
	kill := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.wait()
}

// kill ends the child whatever it does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.wait()
}

// serveLines calls f with each line of the input until its end.
func serveLines(f func(line string) error) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := f(in.Text()); err != nil {
			return err
		}
	}
	return in.Err()
}

// untilEnd waits for the end of the input.
func untilEnd() { _, _ = io.Copy(io.Discard, os.Stdin) }

// cpuOf is the processor time that the living threads of a process have taken.
func cpuOf(pid int) time.Duration {
	total := time.Duration(0)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, t := range tasks {
		if b, err := os.ReadFile(t); err == nil {
			ns, _ := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
			total += time.Duration(ns)
		}
	}
	return total
}

// cpuTime is the processor time this process has taken.
func cpuTime() time.Duration {
	var r unix.Rusage
	must(unix.Getrusage(unix.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// processors are the first and the last processor this program may use.
func processors() (first, last int) {
	var set unix.CPUSet
	must(unix.SchedGetaffinity(0, &set))
	first = -1
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	return first, last
}
