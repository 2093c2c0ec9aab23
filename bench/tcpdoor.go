package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"ionet/client"
)

// tcpDoorMeasure sends one stream through four processes: a client, its
// stack's daemon, the other daemon, the other client. The bare chain has
// processes in the daemons' places that copy from one unix stream socket to
// the next. Then the kernel is the other end of a daemon's stream, beside that
// of a stack which the program holds itself.
func tcpDoorMeasure() error {
	first, last := processors()
	fmt.Printf("  the sending client and its daemon on processor %d, the other two on processor %d, as in the bare chain\n", first, last)
	kinds := []struct {
		name string
		open func(dir string) (*passage, error)
	}{
		{"bare chain", bareChain},
		{"ionet", func(dir string) (*passage, error) { return doorChain(dir, v4) }},
		{"ionet, IPv6", func(dir string) (*passage, error) { return doorChain(dir, v6) }},
	}
	contenders := make([]contender, len(kinds))
	flows := make([][]passed, len(kinds))
	for i, k := range kinds {
		contenders[i] = contender{k.name, func(d time.Duration) (float64, error) {
			dir, err := os.MkdirTemp("", "ionet-bench")
			if err != nil {
				return 0, err
			}
			defer os.RemoveAll(dir)
			p, err := k.open(dir)
			if err != nil {
				return 0, err
			}
			defer p.end()
			f, err := p.measure(d)
			flows[i] = append(flows[i], f)
			return f.gbps, err
		}}
	}
	r, err := figures(contenders)
	if err != nil {
		return err
	}
	for i, k := range kinds {
		l := fmt.Sprintf("  %-12s %6.2f Gbit/s", k.name, r.median(i))
		if i > 0 {
			l += fmt.Sprintf(", ratio %.2f  (%s)", r.ratio(i, 0), verdict(r.ratio(i, 0) >= 0.45, "at least 0.45"))
		}
		if i == 2 {
			l += ofIPv4(r.ratio(2, 1))
		}
		fmt.Printf("%s; processor time a KiB: %s\n", l, breakdown(flows[i]))
	}
	return tapDoor([]int{first, last})
}

// tapDoor has a kernel host receive from and send to a client of a daemon on a
// TAP, and a program with a stack of its own.
func tapDoor(cpus []int) error {
	fmt.Printf("  over TAP with super-packets, all threads on processors %d to %d\n", cpus[0], cpus[len(cpus)-1])
	stacks, end, err := tapStacks(cpus, []string{"tcp-tap-ionet"}, "offload")
	if err != nil {
		return err
	}
	defer end()
	dir, err := os.MkdirTemp("", "ionet-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d, err := startDaemon(dir, "p", placement{cpus: cpus, newNet: true}, false, "-dtap", "name="+tapName)
	if err != nil {
		return err
	}
	defer d.stop()
	if err := d.give(1); err != nil {
		return err
	}
	c, err := spawn(placement{cpus: cpus, netOf: d.cmd.Process.Pid}, "tcp-tap-door", d.prefix)
	if err != nil {
		return err
	}
	defer c.kill()
	if _, err := c.line(); err != nil {
		return err
	}
	for _, way := range []string{"out", "in"} {
		r, err := figures([]contender{
			{"embedded", kernelTo(v4, stacks[0], cpus, way)},
			{"door", kernelTo(v4, c, cpus, way)},
			{"embedded, IPv6", kernelTo(v6, stacks[0], cpus, way)},
			{"door, IPv6", kernelTo(v6, c, cpus, way)},
		})
		if err != nil {
			return err
		}
		for i, v := range versions {
			embedded, door := 2*i, 2*i+1
			fmt.Printf("  TAP %-3s %s  embedded %6.2f Gbit/s, through the door %6.2f, ratio %.2f", way, v.name,
				r.median(embedded), r.median(door), r.ratio(door, embedded))
			if way == "out" {
				fmt.Printf("  (%s)", verdict(r.ratio(door, embedded) >= 0.5, "at least 0.50"))
			}
			if v == v6 {
				fmt.Print(ofIPv4(r.ratio(door, 1)))
			}
			fmt.Println()
		}
	}
	return nil
}

// passage is a row of processes that a stream passes. The last is the sink.
type passage struct {
	names []string
	pids  []int
	sink  *process
	ends  []func()
}

// passed is what one run gave.
type passed struct {
	gbps  float64
	names []string
	ns    []float64 // of processor time a KiB, each process
}

func (p *passage) end() {
	for _, f := range p.ends {
		f()
	}
}

// add starts the process in front of those that are there, the sink first of
// all, and waits for its first line.
func (p *passage) add(name string, cpu int, args ...string) error {
	c, err := spawn(placement{cpus: []int{cpu}}, args...)
	if err != nil {
		return err
	}
	p.front(name, c.cmd.Process.Pid)
	p.ends = append(p.ends, c.kill)
	if p.sink == nil {
		p.sink = c
	}
	_, err = c.line()
	return err
}

// front puts a process in front of those that are there.
func (p *passage) front(name string, pid int) {
	p.names, p.pids = append([]string{name}, p.names...), append([]int{pid}, p.pids...)
}

// measure has the sink count for d. The stream is running.
func (p *passage) measure(d time.Duration) (f passed, err error) {
	if _, err := fmt.Fprintln(p.sink.in, d); err != nil {
		return f, err
	}
	if _, err := p.sink.line(); err != nil {
		return f, err
	}
	before := make([]time.Duration, len(p.pids))
	for i, pid := range p.pids {
		before[i] = cpuOf(pid)
	}
	var octets, ns float64
	if err := p.sink.ask(&octets, &ns); err != nil {
		return f, err
	}
	for i, pid := range p.pids {
		f.ns = append(f.ns, float64((cpuOf(pid)-before[i]).Nanoseconds())/(octets/1024))
	}
	f.gbps, f.names = octets*8/ns, p.names
	return f, nil
}

// breakdown is the medians of what each process took.
func breakdown(flows []passed) string {
	var parts []string
	total := 0.0
	for i, n := range flows[0].names {
		v := make([]float64, len(flows))
		for k, f := range flows {
			v[k] = f.ns[i]
		}
		m := median(v)
		total += m
		parts = append(parts, fmt.Sprintf("%s %.0f ns", n, m))
	}
	return fmt.Sprintf("%s; together %.0f ns", strings.Join(parts, ", "), total)
}

// bareChain starts the processes from the sink backwards: each connects to the
// one after it.
func bareChain(dir string) (*passage, error) {
	first, last := processors()
	at := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	p := &passage{}
	err := p.add("sink", last, "chain-sink", at(3))
	if err == nil {
		err = p.add("second relay", last, "chain-relay", at(2), at(3))
	}
	if err == nil {
		err = p.add("first relay", first, "chain-relay", at(1), at(2))
	}
	if err == nil {
		err = p.add("source", first, "chain-source", at(1))
	}
	if err != nil {
		p.end()
	}
	return p, err
}

// doorChain starts two daemons on a wire, and a client of each.
func doorChain(dir string, v *version) (*passage, error) {
	first, last := processors()
	p := &passage{}
	start := func(name string, cpu, end int) (*daemon, error) {
		d, err := wiredDaemon(dir, name, cpu, end)
		if err == nil {
			p.ends = append(p.ends, d.stop)
		}
		return d, err
	}
	b, err := start("b", last, 1)
	if err == nil {
		err = p.add("sink", last, "door-sink", b.prefix, v.name)
	}
	if err == nil {
		p.front("its daemon", b.cmd.Process.Pid)
		var a *daemon
		if a, err = start("a", first, 0); err == nil {
			p.front("first daemon", a.cmd.Process.Pid)
			err = p.add("source", first, "door-source", a.prefix, v.name)
		}
	}
	if err != nil {
		p.end()
	}
	return p, err
}

// doorSource writes to the server of a VERSION through the daemon at PREFIX for
// as long as it is read.
func doorSource(args []string) error {
	v, err := versionNamed(args[1])
	if err != nil {
		return err
	}
	s, err := client.Open(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.Dial("tcp", ionetAddr(v.server, streamPort))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var never atomic.Bool
	return ended(fill(c, &never))
}

// doorSink is the server of a VERSION, of the daemon at PREFIX.
func doorSink(args []string) error {
	v, err := versionNamed(args[1])
	if err != nil {
		return err
	}
	s, err := client.Open(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	l, err := s.Listen("tcp", ionetAddr(v.server, streamPort))
	if err != nil {
		return err
	}
	return countStream(l)
}

// tcpTapDoor serves streams on the TAP of the daemon at PREFIX.
func tcpTapDoor(args []string) error {
	s, err := client.Open(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	return serveStreams(func(v *version, port uint16) (net.Listener, error) {
		return s.Listen("tcp", ionetAddr(v.server, port))
	})
}

// chainSource writes to the socket PATH for as long as it is read.
func chainSource(args []string) error {
	c, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("ready")
	var never atomic.Bool
	return ended(fill(c, &never))
}

// ended is the error of a stream that went on until a neighbour left, if it
// has another.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// chainRelay copies what comes to the socket PATH to the socket TO.
func chainRelay(args []string) error {
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	to, err := net.Dial("unix", args[1])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	from, err := l.Accept()
	if err != nil {
		return err
	}
	buf := make([]byte, streamChunk)
	for {
		n, err := from.Read(buf)
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			return ended(err)
		}
	}
}

// chainSink reads what comes to the socket PATH and counts.
func chainSink(args []string) error {
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	return countStream(l)
}

// countStream drains the first connection. A line of input, which is a
// duration, has it say when it begins to count, and after that time how many
// octets came in how many nanoseconds.
func countStream(l net.Listener) error {
	fmt.Println("ready")
	c, err := l.Accept()
	if err != nil {
		return err
	}
	var got atomic.Uint64
	gone := make(chan error, 1)
	go func() { gone <- drain(c, &got) }()
	return serveLines(func(line string) error {
		d, err := time.ParseDuration(line)
		if err != nil {
			return err
		}
		time.Sleep(streamWarmUp)
		fmt.Println("counting")
		before, start := got.Load(), time.Now()
		select {
		case err := <-gone:
			return errors.Join(err, errors.New("the stream ended"))
		case <-time.After(d):
		}
		fmt.Println(got.Load()-before, time.Since(start).Nanoseconds())
		return nil
	})
}
