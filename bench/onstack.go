package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// onstackMeasure is what a program that knows nothing of the stack pays: for a
// stream beside a client in Go, for a call that the supervisor answers, and for
// being started.
func onstackMeasure() error {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return fmt.Errorf("iperf3 is not installed: %w", err)
	}
	first, last := processors()
	fmt.Printf("  the sender and its daemon on processor %d, the other two on processor %d\n", first, last)
	var contenders []contender
	for _, v := range versions {
		for _, k := range []struct {
			name string
			run  func(dir string, v *version, d time.Duration) (float64, error)
		}{
			{"client in Go", goChain},
			{"iperf3", iperfChain},
		} {
			contenders = append(contenders, contender{k.name + ", " + v.name, func(d time.Duration) (float64, error) {
				dir, err := os.MkdirTemp("", "ionet-bench")
				if err != nil {
					return 0, err
				}
				defer os.RemoveAll(dir)
				return k.run(dir, v, d)
			}})
		}
	}
	r, err := figures(contenders)
	if err != nil {
		return err
	}
	for i, v := range versions {
		golang, iperf := 2*i, 2*i+1
		l := fmt.Sprintf("  %s: client in Go %6.2f Gbit/s, iperf3 under onstack %6.2f, ratio %.2f  (%s)", v.name,
			r.median(golang), r.median(iperf), r.ratio(iperf, golang), verdict(r.ratio(iperf, golang) >= 0.9, "at least 0.90"))
		if v == v6 {
			l += ofIPv4(r.ratio(iperf, 1))
		}
		fmt.Println(l)
	}
	return onstackCalls()
}

// goChain sends one stream between two clients in Go, each of a daemon.
func goChain(dir string, v *version, d time.Duration) (float64, error) {
	p, err := doorChain(dir, v)
	if err != nil {
		return 0, err
	}
	defer p.end()
	f, err := p.measure(d)
	return f.gbps, err
}

// iperfChain sends one stream between two iperf3, each on its stack.
func iperfChain(dir string, v *version, d time.Duration) (float64, error) {
	first, last := processors()
	a, err := wiredDaemon(dir, "a", first, 0)
	if err != nil {
		return 0, err
	}
	defer a.stop()
	b, err := wiredDaemon(dir, "b", last, 1)
	if err != nil {
		return 0, err
	}
	defer b.stop()
	server := b.tool("onstack", "iperf3", "-s", "-1", "--forceflush")
	out, err := server.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := (placement{cpus: []int{last}}).start(server); err != nil {
		return 0, err
	}
	defer func() {
		_ = server.Process.Signal(unix.SIGTERM)
		_ = server.Wait()
	}()
	if err := listens(out); err != nil {
		return 0, err
	}
	seconds := strconv.Itoa(max(1, int(d.Seconds())))
	iperf := a.tool("onstack", "iperf3", "-J", "-O", "1", "-t", seconds, "-c", v.server.String())
	var report bytes.Buffer
	iperf.Stdout = &report
	if err := (placement{cpus: []int{first}}).start(iperf); err != nil {
		return 0, err
	}
	if err := iperf.Wait(); err != nil {
		return 0, fmt.Errorf("iperf3: %w: %s", err, report.Bytes())
	}
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(report.Bytes(), &result); err != nil {
		return 0, err
	}
	return result.End.Received.BitsPerSecond / 1e9, nil
}

// wiredDaemon is a daemon on the wire of dir.
func wiredDaemon(dir, name string, cpu, end int) (*daemon, error) {
	d, err := startDaemon(dir, name, placement{cpus: []int{cpu}}, false, "-dwire", "path="+filepath.Join(dir, "wire"))
	if err != nil {
		return nil, err
	}
	if err := d.give(end); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// listens reads until iperf3 says that it listens.
func listens(r io.Reader) error {
	var said []byte
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		said = append(said, b[:n]...)
		if bytes.Contains(said, []byte("Server listening")) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("iperf3 does not listen: %w: %s", err, said)
		}
	}
}

// onstackCalls prints what a call costs that the supervisor looks at, and what
// the start of a program does.
func onstackCalls() error {
	dir, err := os.MkdirTemp("", "ionet-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	_, last := processors()
	d, err := wiredDaemon(dir, "s", last, 0)
	if err != nil {
		return err
	}
	defer d.stop()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var rounds [][]float64
	var bare, started []float64
	for range *runs {
		out, err := d.tool("onstack", self, childArg, "trapped-calls").CombinedOutput()
		if err != nil {
			return fmt.Errorf("trapped calls: %w: %s", err, out)
		}
		var ns [5]float64
		if _, err := fmt.Sscan(string(out), &ns[0], &ns[1], &ns[2], &ns[3], &ns[4]); err != nil {
			return fmt.Errorf("trapped calls: %w: %s", err, out)
		}
		rounds = append(rounds, ns[:])
		for _, c := range []struct {
			cmd *exec.Cmd
			to  *[]float64
		}{{exec.Command("true"), &bare}, {d.tool("onstack", "true"), &started}} {
			at := time.Now()
			if err := c.cmd.Run(); err != nil {
				return err
			}
			*c.to = append(*c.to, float64(time.Since(at).Microseconds())/1000)
		}
	}
	for i, what := range []string{
		"getsockopt SO_TYPE, answered by the supervisor",
		"getsockopt SO_TYPE of a local socket, looked at and passed to the kernel",
		"getsockopt TCP_NODELAY, answered by the stack",
		"read of a pipe, not looked at",
		"the bare mechanism: an octet to another process and back, by two pipes",
	} {
		var us []float64
		for _, r := range rounds {
			us = append(us, r[i]/1000)
		}
		bar := ""
		if i == 0 {
			bar = fmt.Sprintf("  (%s)", verdict(median(us) <= 15, "at most 15"))
		}
		fmt.Printf("  %6.2f us  %s%s\n", median(us), what, bar)
	}
	extra := median(started) - median(bare)
	fmt.Printf("  start: true %.1f ms, under onstack %.1f ms, %.1f more  (%s)\n",
		median(bare), median(started), extra, verdict(extra <= 20, "at most 20"))
	return nil
}

// trappedCalls prints the nanoseconds of calls, of which the first three are
// looked at when this runs under onstack.
func trappedCalls([]string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK); err != nil {
		return err
	}
	option := func(fd, level, name int) func() error {
		return func() error { _, err := unix.GetsockoptInt(fd, level, name); return err }
	}
	b := make([]byte, 1)
	echo, there, back, err := startEcho()
	if err != nil {
		return err
	}
	defer func() { _, _ = unix.Close(there), echo.Wait() }()
	const n = 2000
	for _, f := range []func() error{
		option(fd, unix.SOL_SOCKET, unix.SO_TYPE),
		option(pair[0], unix.SOL_SOCKET, unix.SO_TYPE),
		option(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY),
		func() error {
			_, err := unix.Read(pipe[0], b)
			if errors.Is(err, unix.EAGAIN) {
				err = nil
			}
			return err
		},
		func() error {
			if _, err := unix.Write(there, b); err != nil {
				return err
			}
			_, err := unix.Read(back, b)
			return err
		},
	} {
		start := time.Now()
		for range n {
			if err := f(); err != nil {
				return err
			}
		}
		fmt.Println(float64(time.Since(start).Nanoseconds()) / n)
	}
	return nil
}

// startEcho starts a process that sends back what it is sent; there and back are
// our ends of its pipes.
func startEcho() (echo *exec.Cmd, there, back int, err error) {
	var to, from [2]int
	if err := errors.Join(unix.Pipe2(to[:], unix.O_CLOEXEC), unix.Pipe2(from[:], unix.O_CLOEXEC)); err != nil {
		return nil, 0, 0, err
	}
	in, out := os.NewFile(uintptr(to[0]), "in"), os.NewFile(uintptr(from[1]), "out")
	echo = exec.Command("/proc/self/exe", childArg, "pipe-echo")
	echo.Stdin, echo.Stdout = in, out
	err = errors.Join(echo.Start(), in.Close(), out.Close())
	return echo, to[1], from[0], err
}

// pipeEcho is the process of startEcho.
func pipeEcho([]string) error {
	b := make([]byte, 1)
	for {
		if n, err := unix.Read(0, b); n == 0 || err != nil {
			return err
		}
		if _, err := unix.Write(1, b); err != nil {
			return err
		}
	}
}
