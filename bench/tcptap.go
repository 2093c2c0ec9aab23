package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tcpTapMeasure has a kernel host send one stream to each contender, and
// receive one.
func tcpTapMeasure() error {
	kernel, own := processors()
	fmt.Printf("  the kernel's process (cubic) on processor %d, the stack's on processor %d\n", kernel, own)
	return errors.Join(tcpTap("offload", kernel, own), tcpTap("no offload", kernel, own))
}

// tapStacks are the contenders' processes, each with a TAP in a network
// namespace of its own.
func tapStacks(cpus []int, names []string, args ...string) (stacks []*process, end func(), err error) {
	end = func() {
		for _, p := range stacks {
			p.stop()
		}
	}
	for _, n := range names {
		p, err := spawn(placement{cpus: cpus, newNet: true}, append([]string{n}, args...)...)
		if err != nil {
			end()
			return nil, nil, err
		}
		stacks = append(stacks, p)
		if _, err := p.line(); err != nil {
			end()
			return nil, nil, err
		}
	}
	return stacks, end, nil
}

// kernelTo has a kernel's process send to the stack's, or receive from it, or
// send to another address.
func kernelTo(v *version, p *process, cpus []int, way string, to ...string) func(time.Duration) (float64, error) {
	return func(d time.Duration) (gbps float64, err error) {
		k, err := spawn(placement{cpus: cpus, netOf: p.cmd.Process.Pid}, append([]string{"kernel-stream", v.name, way, d.String()}, to...)...)
		if err != nil {
			return 0, err
		}
		defer k.kill()
		err = k.ask(&gbps)
		return gbps, err
	}
}

// discarded has the bare loop write frames that the kernel discards.
func discarded(p *process) func(time.Duration) (float64, error) {
	return func(d time.Duration) (gbps float64, err error) {
		if _, err := fmt.Fprintln(p.in, d); err != nil {
			return 0, err
		}
		err = p.ask(&gbps)
		return gbps, err
	}
}

// tcpTap measures both ways. With offload the bar is the ratio to gVisor,
// without it the share of the bare loops: of the one that reads and discards,
// and of the one whose frames the kernel discards. They speak IPv4 alone.
func tcpTap(offload string, kernel, own int) error {
	stacks, end, err := tapStacks([]int{own}, []string{"tcp-tap-bare", "tcp-tap-gvisor", "tcp-tap-ionet"}, offload)
	if err != nil {
		return err
	}
	defer end()
	for _, way := range []string{"in", "out"} {
		contenders := []contender{
			{"bare loop", kernelTo(v4, stacks[0], []int{kernel}, way)},
			{"gVisor", kernelTo(v4, stacks[1], []int{kernel}, way)},
			{"ionet", kernelTo(v4, stacks[2], []int{kernel}, way)},
			{"gVisor, IPv6", kernelTo(v6, stacks[1], []int{kernel}, way)},
			{"ionet, IPv6", kernelTo(v6, stacks[2], []int{kernel}, way)},
		}
		bare := 0
		if way == "out" {
			bare = len(contenders)
			contenders = append(contenders, contender{"bare loop, frames that the kernel discards", discarded(stacks[0])})
		}
		r, err := figures(contenders)
		if err != nil {
			return err
		}
		for i, c := range contenders {
			l := fmt.Sprintf("  %-10s %-3s  %-42s %6.2f Gbit/s", offload, way, c.name, r.median(i))
			if i == 2 || i == 4 {
				l += fmt.Sprintf(", ratio to gVisor %.2f, to the bare loop %.2f, and of discarded frames %.2f", r.ratio(i, i-1), r.ratio(i, 0), r.ratio(i, bare))
				if offload == "offload" {
					l += fmt.Sprintf("  (%s)", verdict(r.ratio(i, i-1) >= 1.3, "at least 1.3 times gVisor's"))
				} else {
					l += fmt.Sprintf("  (%s)", verdict(r.ratio(i, bare) >= 0.55, "at least 0.55 of the bare loop"))
				}
			}
			if i == 4 {
				l += ofIPv4(r.ratio(4, 2))
			}
			fmt.Println(l)
		}
	}
	return nil
}

// openTapWith opens the TAP without the driver, for a peer or the bare loop.
// With offload it has vnet headers, and super-packets both ways.
func openTapWith(offload bool) (int, error) {
	if !offload {
		return openTap(0)
	}
	fd, err := openTap(unix.IFF_VNET_HDR)
	if err != nil {
		return fd, err
	}
	return fd, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6|unix.TUN_F_USO4|unix.TUN_F_USO6)
}

// serveStreams serves the three ports until the end of the input.
func serveStreams(listen func(v *version, port uint16) (net.Listener, error)) error {
	var never atomic.Bool
	for port, handle := range map[uint16]func(net.Conn) error{
		streamPort: func(c net.Conn) error { return drain(c, new(atomic.Uint64)) },
		fillPort:   func(c net.Conn) error { return fill(c, &never) },
		echoPort:   echo,
	} {
		for _, v := range versions {
			l, err := listen(v, port)
			if err != nil {
				return err
			}
			go func() {
				for {
					c, err := l.Accept()
					must(err)
					go func() {
						_ = handle(c) // the kernel's side leaves when it has seen enough
						c.Close()
					}()
				}
			}()
		}
	}
	if err := kernelSide(); err != nil {
		return err
	}
	fmt.Println("ready")
	untilEnd()
	return nil
}

// echo answers each octet by itself.
func echo(c net.Conn) error {
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return err
		}
		if _, err := c.Write(b[:]); err != nil {
			return err
		}
	}
}

func tcpTapGvisor(args []string) error {
	listen, err := gvisorTap(args[0] == "offload")
	if err != nil {
		return err
	}
	return serveStreams(listen)
}

// kernelStream is the kernel's end of a stream: it connects to the stack, and
// sends to it or receives from it. It prints Gbit/s of what was acknowledged,
// or read.
func kernelStream(args []string) error {
	v, err := versionNamed(args[0])
	if err != nil {
		return err
	}
	way := args[1]
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	port := streamPort
	if way == "out" {
		port = fillPort
	}
	fd, err := unix.Socket(v.kernelFamily(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic"); err != nil {
		return fmt.Errorf("cubic: %w", err)
	}
	patience := unix.NsecToTimeval(int64(streamPatience))
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience)); err != nil {
		return err
	}
	to := v.server
	if len(args) > 3 {
		if to, err = netip.ParseAddr(args[3]); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, v.kernelAddr(to, port)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	buf := make([]byte, streamChunk)
	total := 0
	step, done := unix.Read, func() (int, error) { return total, nil }
	if way == "in" {
		step = unix.Write
		done = func() (int, error) { // what has been acknowledged
			queued, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			return total - queued, err
		}
	}
	run := func(d time.Duration) error {
		for start := time.Now(); time.Since(start) < d; {
			n, err := step(fd, buf)
			if err != nil && err != unix.EINTR {
				return err
			}
			if n == 0 {
				return errors.New("the stack ended the stream")
			}
			total += max(n, 0)
		}
		return nil
	}
	if err := run(streamWarmUp); err != nil {
		return err
	}
	before, err := done()
	start := time.Now()
	if err := errors.Join(err, run(d)); err != nil {
		return err
	}
	after, err := done()
	fmt.Println(float64(after-before) * 8 / float64(time.Since(start).Nanoseconds()))
	return err
}
