package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
)

// daemon is a running io-net.
type daemon struct {
	cmd    *exec.Cmd
	prefix string

	mu    sync.Mutex
	live  []float64 // octets of live heap after each collection
	noise []string  // the last of what else it said
	done  chan struct{}
}

// liveHeap finds what was left after a collection: gc 7 @1.2s …, 10->12->8 MB, …
// (GODEBUG=gctrace=1, package runtime).
var liveHeap = regexp.MustCompile(`^gc \d+ @.* \d+->\d+->(\d+) MB,`)

// startDaemon starts an io-net with its socket and all that it makes in dir. It
// tells of its collections if traced.
func startDaemon(dir, name string, at placement, traced bool, drivers ...string) (*daemon, error) {
	return startStack(dir, name, at, traced, "", drivers...)
}

// startStack is startDaemon with options of the tcpip module, such as "ipsec,".
func startStack(dir, name string, at placement, traced bool, tcpip string, drivers ...string) (*daemon, error) {
	d := &daemon{prefix: filepath.Join(dir, name), done: make(chan struct{})}
	d.cmd = tool("io-net", append(append([]string{"-f"}, drivers...), "-ptcpip", tcpip+"prefix="+d.prefix)...)
	d.cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", runtime.NumCPU()))
	if traced {
		d.cmd.Env = append(d.cmd.Env, "GODEBUG=gctrace=1")
	}
	r, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := at.start(d.cmd); err != nil {
		return nil, fmt.Errorf("io-net: %w (build the commands first: make)", err)
	}
	go d.listen(bufio.NewScanner(r))
	go d.endWithUs(dir)
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		if s, err := client.Open(d.prefix); err == nil {
			return d, s.Close()
		}
	}
	d.stop()
	return nil, fmt.Errorf("io-net does not answer: %s", strings.Join(d.noise, "\n"))
}

// endWithUs ends the daemon when a signal ends this program.
func (d *daemon) endWithUs(dir string) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(ch)
	select {
	case <-ch:
		d.stop()
		_ = os.RemoveAll(dir)
		os.Exit(1)
	case <-d.done:
	}
}

func (d *daemon) listen(s *bufio.Scanner) {
	defer close(d.done)
	for s.Scan() {
		d.mu.Lock()
		if m := liveHeap.FindStringSubmatch(s.Text()); m != nil {
			mb, _ := strconv.ParseFloat(m[1], 64)
			d.live = append(d.live, mb*(1<<20))
		} else if d.noise = append(d.noise, s.Text()); len(d.noise) > 10 {
			d.noise = d.noise[1:]
		}
		d.mu.Unlock()
	}
}

// give gives en0 the addresses of the client, 0, or of the server, 1, good at
// once.
func (d *daemon) give(end int) error {
	for _, words := range [][]string{
		{"sysctl", "-w", "net.inet6.ip6.dad_count=0"},
		{"ifconfig", "en0", fmt.Sprintf("%v/%d", v4.end(end), v4.bits)},
		{"ifconfig", "en0", "inet6", v6.end(end).String(), "prefixlen", strconv.Itoa(v6.bits)},
	} {
		if out, err := d.tool(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
		}
	}
	return nil
}

// collections are the live heaps since the n-th collection.
func (d *daemon) collections(n int) []float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]float64(nil), d.live[n:]...)
}

// tool is a command that talks to this daemon.
func (d *daemon) tool(name string, args ...string) *exec.Cmd {
	cmd := tool(name, args...)
	cmd.Env = append(os.Environ(), "SOCK="+d.prefix)
	return cmd
}

// status reads a field of /proc/PID/status, in octets.
func (d *daemon) status(field string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	must(err)
	for _, l := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(l, field+":"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb * 1024
		}
	}
	return 0
}

// cpu is the processor time the daemon has taken.
func (d *daemon) cpu() time.Duration { return cpuOf(d.cmd.Process.Pid) }

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	kill := time.AfterFunc(10*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	<-d.done
	_ = d.cmd.Wait()
}
