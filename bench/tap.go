package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Every contender sits on a TAP of this name in a network namespace of its
// own, with the kernel at kernelAddr on the other side.
const tapName = "tap0"

var (
	kernelAddr = [4]byte{10, 0, 0, 1}
	stackAddr  = [4]byte{10, 0, 0, 2}
	stackMAC   = [6]byte{2, 0, 0, 0, 0, 2}
)

const (
	echoOctets = 64 // of ICMP, as ping sends
	echoes     = 3000
	echoWarmUp = 200
)

// tapMeasure times echoes between each contender and a kernel host, both
// ways. The bar is the distance to the bare loop.
func tapMeasure() error { return placed(tapPlaced) }

// placed measures round trips with the other end on our processor, and on
// another one.
func placed(f func(name string, pinger, cpu int) error) error {
	a, b := processors()
	for _, core := range []struct {
		name string
		cpu  int
	}{{"same core", a}, {"cross-core", b}} {
		if core.cpu == a && core.name != "same core" {
			fmt.Println("  cross-core: NOT measured, there is one processor")
			continue
		}
		if err := f(core.name, a, core.cpu); err != nil {
			return err
		}
	}
	return nil
}

func tapPlaced(name string, pinger, cpu int) error {
	kinds := []string{"bare", "ionet", "gvisor"}
	stacks := map[string]*process{}
	for _, k := range kinds {
		p, err := spawn(placement{cpus: []int{cpu}, newNet: true}, "tap-"+k)
		if err != nil {
			return err
		}
		defer p.kill()
		if _, err := p.line(); err != nil {
			return err
		}
		stacks[k] = p
	}
	fmt.Printf("  %s: the stack's process on processor %d, the kernel's pinging process on processor %d\n", name, cpu, pinger)
	if err := tapTable("kernel pings", kinds, bars{10, 10}, func(k string) (p50, p99 float64, err error) {
		ping, err := spawn(placement{cpus: []int{pinger}, netOf: stacks[k].cmd.Process.Pid}, "tap-ping")
		if err != nil {
			return 0, 0, err
		}
		defer ping.kill()
		err = ping.ask(&p50, &p99)
		return p50, p99, err
	}); err != nil {
		return err
	}
	return tapTable("pings the kernel", kinds, bars{10, 10}, func(k string) (p50, p99 float64, err error) {
		if _, err := fmt.Fprintln(stacks[k].in, "ping"); err != nil {
			return 0, 0, err
		}
		err = stacks[k].ask(&p50, &p99)
		return p50, p99, err
	})
}

// bars are how far above the bare loop a round trip may take, in µs; 0: as
// long as it likes.
type bars struct{ p50, p99 float64 }

// tapTable runs the contenders by turns, the bare one first, and prints
// medians of each percentile and of its distance to the bare loop's of the
// same round.
func tapTable(what string, kinds []string, bar bars, run func(kind string) (p50, p99 float64, err error)) error {
	p50, p99 := make(samples, len(kinds)), make(samples, len(kinds))
	for range *runs {
		for i, k := range kinds {
			x, y, err := run(k)
			if err != nil {
				return err
			}
			p50[i], p99[i] = append(p50[i], x/1e3), append(p99[i], y/1e3)
		}
	}
	for i, k := range kinds {
		l := fmt.Sprintf("    %-16s %-6s p50 %6.1f µs  p99 %6.1f µs", what, k, p50.median(i), p99.median(i))
		if i > 0 {
			d50, d99 := p50.above(i, 0), p99.above(i, 0)
			l += fmt.Sprintf("  above the bare loop %+6.1f and %+6.1f µs", d50, d99)
			if k == "ionet" {
				l += fmt.Sprintf("  (p50 %s", verdict(d50 <= bar.p50, fmt.Sprintf("at most %.0f µs", bar.p50)))
				if bar.p99 > 0 {
					l += fmt.Sprintf("; p99 %s", verdict(d99 <= bar.p99, fmt.Sprintf("at most %.0f µs", bar.p99)))
				}
				l += ")"
			}
		}
		fmt.Println(l)
	}
	return nil
}

// kernelPing pings the stack through a raw socket of the kernel, one echo at
// a time.
func kernelPing([]string) error {
	runtime.LockOSThread()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return fmt.Errorf("raw socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: stackAddr}); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	return pings(func(m []byte) error {
		_, err := unix.Write(fd, m)
		return err
	}, func() ([]byte, error) {
		n, err := unix.Read(fd, buf)
		for err == unix.EINTR {
			n, err = unix.Read(fd, buf)
		}
		if err != nil || n < 20 {
			return nil, fmt.Errorf("echo reply: %d octets, %w", n, err)
		}
		return buf[20:n], nil
	})
}

// pings times echoes and prints their percentiles: send takes an ICMP message,
// recv answers the next one that came.
func pings(send func([]byte) error, recv func() ([]byte, error)) error {
	times := make([]float64, 0, echoes)
	m := make([]byte, echoOctets)
	for i := range echoWarmUp + echoes {
		putEcho(m, uint16(i))
		start := time.Now()
		if err := send(m); err != nil {
			return err
		}
		for {
			r, err := recv()
			if err != nil {
				return err
			}
			if isReply(r, m) {
				break
			}
		}
		if took := time.Since(start); i >= echoWarmUp {
			times = append(times, float64(took.Nanoseconds()))
		}
	}
	fmt.Println(percentile(times, 0.50), percentile(times, 0.99))
	return nil
}

// serve answers the parent's wishes until the end of the input.
func serve(ping func() error) error {
	fmt.Println("ready")
	return serveLines(func(string) error { return ping() })
}

// kernelSide brings up the kernel's end of the TAP.
func kernelSide() error { return kernelUp(kernelAddr) }

// kernelUp gives the interface an address and brings it up.
func kernelUp(addr [4]byte) error {
	// Without IPv6 there is nothing on the line but the echoes and ARP.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+tapName+"/disable_ipv6", []byte("1"), 0)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	set := func(req uint, fill func(*unix.Ifreq) error) error {
		ifr, err := unix.NewIfreq(tapName)
		if err != nil {
			return err
		}
		return errors.Join(fill(ifr), unix.IoctlIfreq(fd, req, ifr))
	}
	return errors.Join(
		set(unix.SIOCSIFADDR, func(i *unix.Ifreq) error { return i.SetInet4Addr(addr[:]) }),
		set(unix.SIOCSIFNETMASK, func(i *unix.Ifreq) error { return i.SetInet4Addr([]byte{255, 0, 0, 0}) }),
		set(unix.SIOCSIFFLAGS, func(i *unix.Ifreq) error { i.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }),
	)
}

// tapIonet is a stack on driver/tap.
func tapIonet([]string) error {
	h, err := ionetTap(true)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := kernelSide(); err != nil {
		return err
	}
	defer profile("tap-ionet-" + strconv.Itoa(os.Getpid()))()
	return serve(func() error {
		c, err := h.ListenPacket("ip4:icmp", "")
		if err != nil {
			return err
		}
		defer c.Close()
		to := &net.IPAddr{IP: kernelAddr[:]}
		buf := make([]byte, 2048)
		return pings(func(m []byte) error {
			_, err := c.WriteTo(m, to)
			return err
		}, func() ([]byte, error) {
			n, _, err := c.ReadFrom(buf)
			if err != nil || n < 20 {
				return nil, fmt.Errorf("echo reply: %d octets, %w", n, err)
			}
			return buf[20:n], nil
		})
	})
}

// openTap opens the TAP without the driver.
func openTap(flags uint16) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(tapName)
	must(err)
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return -1, fmt.Errorf("%s: %w", tapName, err)
	}
	return fd, nil
}
