package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	connWorkers = 16 // that connect, and as many that accept
	connPending = 64 // connections that the server has not closed, at most: no queue overflows
	connWait    = 60 * time.Second
)

// tcpConnMeasure opens and closes connections in memory as fast as it goes,
// then times round trips of one octet over TAP.
func tcpConnMeasure() error {
	first, last := processors()
	fmt.Printf("  all threads on processors %d to %d, %d goroutines connect and close, %d accept and close at the end of the stream;\n", first, last, connWorkers, connWorkers)
	fmt.Printf("  from %d addresses; who connected waits %v in TIME_WAIT, in both\n", clientAddrs, connWait)
	if err := connRates(8,
		func() *network { return gvisorPipe(connWait, clientsOf(true)...) },
		func() *network { return ionetMemory(false, connWait, clientsOf(true)...) }); err != nil {
		return err
	}
	return placed(tcpRoundTrips)
}

// connRates holds ionet to bar times the peer, which comes first, with both
// versions of IP.
func connRates(bar float64, networks ...func() *network) error {
	contenders := make([]contender, len(versions)*len(networks))
	cpu := make(samples, len(contenders))
	for i := range contenders {
		contenders[i].run = func(d time.Duration) (float64, error) {
			n := networks[i%len(networks)]()
			contenders[i].name = n.name
			rate, each, err := connectAndClose(n, versions[i/len(networks)], d)
			cpu[i] = append(cpu[i], each)
			return rate, errors.Join(err, n.close())
		}
	}
	r, err := figures(contenders)
	if err != nil {
		return err
	}
	for i, c := range contenders {
		v, peer := versions[i/len(networks)], i-i%len(networks)
		l := fmt.Sprintf("  connect and close, %s  %-16s %8.0f/s, %5.1f µs of processor each", v.name, c.name, r.median(i), cpu.median(i))
		if c.name == "ionet" {
			l += fmt.Sprintf(", ratio to %s %.1f, by processor time %.1f  (%s)", contenders[peer].name, r.ratio(i, peer), cpu.ratio(peer, i),
				verdict(r.ratio(i, peer) >= bar, fmt.Sprintf("at least %.0f", bar)))
			if v == v6 {
				l += ofIPv4(r.ratio(i, i-len(networks)))
			}
		}
		fmt.Println(l)
	}
	return nil
}

// connectAndClose answers connections a second that were made, closed by who
// made them and then by who accepted them, and µs of processor time each.
func connectAndClose(n *network, v *version, d time.Duration) (rate, cpu float64, err error) {
	l, err := n.listen(v)
	if err != nil {
		return 0, 0, err
	}
	var made, closed atomic.Uint64
	var stop atomic.Bool
	errs := make(chan error, 2*connWorkers)
	pending := make(chan struct{}, connPending)
	var clients, servers sync.WaitGroup
	for range connWorkers {
		servers.Go(func() { errs <- closeAccepted(l, &closed, pending) })
	}
	froms := v.clients()
	for w := range connWorkers {
		clients.Go(func() {
			for i := w; !stop.Load(); i += connWorkers {
				pending <- struct{}{}
				c, err := n.dial(froms[i%len(froms)])
				if err == nil {
					err = c.Close()
				}
				if err != nil {
					errs <- fmt.Errorf("after %d connections: %w", made.Load(), err)
					return
				}
				made.Add(1)
			}
		})
	}
	before, spent, start := closed.Load(), cpuTime(), time.Now()
	time.Sleep(d)
	conns := float64(closed.Load() - before)
	rate, cpu = conns/time.Since(start).Seconds(), float64((cpuTime()-spent).Microseconds())/conns
	stop.Store(true)
	clients.Wait()
	err = l.Close()
	servers.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return rate, cpu, err
}

// closeAccepted closes connections when their other end does, until the
// listener is closed; each makes room in pending.
func closeAccepted(l net.Listener, closed *atomic.Uint64, pending <-chan struct{}) error {
	var b [1]byte
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		if _, err := c.Read(b[:]); err != io.EOF {
			return fmt.Errorf("an accepted connection: %w", err)
		}
		if err := c.Close(); err != nil {
			return err
		}
		closed.Add(1)
		<-pending
	}
}

// tcpRoundTrips times octets that the kernel sends and a contender sends back.
// The bare loop is the one that knows just enough TCP.
func tcpRoundTrips(name string, pinger, cpu int) error {
	stacks, end, err := tapStacks([]int{cpu}, []string{"tcp-tap-bare", "tcp-tap-ionet", "tcp-tap-gvisor"}, "no offload")
	if err != nil {
		return err
	}
	defer end()
	veth, endVeth, err := vethPair(pinger, cpu)
	if err != nil {
		return err
	}
	defer endVeth()
	fmt.Printf("  %s: the stack's process on processor %d, the kernel's process that sends an octet and waits for it on processor %d\n", name, cpu, pinger)
	from := func(s *process) func(v *version) (p50, p99 float64, err error) {
		return func(v *version) (p50, p99 float64, err error) {
			ping, err := spawn(placement{cpus: []int{pinger}, netOf: s.cmd.Process.Pid}, "tcp-ping", v.name)
			if err != nil {
				return 0, 0, err
			}
			defer ping.kill()
			err = ping.ask(&p50, &p99)
			return p50, p99, err
		}
	}
	return tapTable("round trip", bars{p50: 12}, []pinged{
		{"bare", from(stacks[0])}, {"ionet", from(stacks[1])}, {"gvisor", from(stacks[2])},
		{"kernel over veth", func(v *version) (p50, p99 float64, err error) {
			if _, err := fmt.Fprintln(veth.in, v.name); err != nil {
				return 0, 0, err
			}
			err = veth.ask(&p50, &p99)
			return p50, p99, err
		}},
	})
}

// vethPair is two namespaces that a veth joins: an echo server of the kernel
// in one, and the process that pings it in the other.
func vethPair(pinger, cpu int) (ping *process, end func(), err error) {
	server, err := spawn(placement{cpus: []int{cpu}, newNet: true}, "veth-echo")
	if err != nil {
		return nil, nil, err
	}
	if _, err = server.line(); err == nil {
		ping, err = spawn(placement{cpus: []int{pinger}, newNet: true}, "veth-ping", fmt.Sprint(server.cmd.Process.Pid))
	}
	if err != nil {
		server.kill()
		return nil, nil, err
	}
	end = func() { ping.kill(); server.kill() }
	if _, err = ping.line(); err == nil {
		if _, err = fmt.Fprintln(server.in, "up"); err == nil {
			_, err = server.line()
		}
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return ping, end, nil
}

// vethEcho is told when its end of the veth is there, and then echoes octets.
func vethEcho([]string) error {
	return serve(func(string) error {
		if err := kernelUp(1); err != nil {
			return err
		}
		for _, v := range versions {
			l, err := net.Listen("tcp", ionetAddr(v.server, echoPort))
			if err != nil {
				return err
			}
			go func() {
				for {
					c, err := l.Accept()
					must(err)
					go func() { _ = echo(c); c.Close() }()
				}
			}()
		}
		fmt.Println("up")
		return nil
	})
}

// vethPing makes a veth to the namespace of a process.
func vethPing(args []string) error {
	cmd := exec.Command("ip", "link", "add", tapName, "type", "veth", "peer", "name", tapName, "netns", args[0])
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	if err := kernelSide(); err != nil {
		return err
	}
	return serve(func(version string) error { return tcpPing([]string{version}) })
}

// tcpPing sends octets to the server's echo, one at a time, and prints
// percentiles of the time.
func tcpPing(args []string) error {
	v, err := versionNamed(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(v.kernelFamily(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(int64(streamPatience))
	if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)); err != nil {
		return err
	}
	if err := unix.Connect(fd, v.kernelAddr(v.server, echoPort)); err != nil {
		return os.NewSyscallError("connect", err)
	}
	times := make([]float64, 0, echoes)
	var b [1]byte
	for i := range echoWarmUp + echoes {
		start := time.Now()
		if _, err := unix.Write(fd, b[:]); err != nil {
			return err
		}
		n, err := unix.Read(fd, b[:])
		for err == unix.EINTR {
			n, err = unix.Read(fd, b[:])
		}
		if err != nil || n != 1 {
			return fmt.Errorf("octet %d did not come back: %d octets, %w", i, n, err)
		}
		if took := time.Since(start); i >= echoWarmUp {
			times = append(times, float64(took.Nanoseconds()))
		}
	}
	fmt.Println(percentile(times, 0.50), percentile(times, 0.99))
	return nil
}
