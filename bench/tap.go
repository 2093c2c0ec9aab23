package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Every contender sits on a TAP of this name in a network namespace of its
// own. It is the server of the versions' addresses, and the kernel the client.
const tapName = "tap0"

var stackMAC = [6]byte{2, 0, 0, 0, 0, 2}

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
	in, out := make([]pinged, len(kinds)), make([]pinged, len(kinds))
	for i, k := range kinds {
		in[i] = pinged{k, func(v *version) (p50, p99 float64, err error) {
			ping, err := spawn(placement{cpus: []int{pinger}, netOf: stacks[k].cmd.Process.Pid}, "tap-ping", v.name)
			if err != nil {
				return 0, 0, err
			}
			defer ping.kill()
			err = ping.ask(&p50, &p99)
			return p50, p99, err
		}}
		out[i] = pinged{k, func(v *version) (p50, p99 float64, err error) {
			if _, err := fmt.Fprintln(stacks[k].in, v.name); err != nil {
				return 0, 0, err
			}
			err = stacks[k].ask(&p50, &p99)
			return p50, p99, err
		}}
	}
	if err := tapTable("kernel pings", bars{10, 10}, in); err != nil {
		return err
	}
	return tapTable("pings the kernel", bars{10, 10}, out)
}

// pinged is one whose round trips are timed over a version of IP, in ns.
type pinged struct {
	name string
	run  func(v *version) (p50, p99 float64, err error)
}

// bars are how far above the bare loop a round trip may take, in µs; 0: as
// long as it likes.
type bars struct{ p50, p99 float64 }

// tapTable runs the contenders by turns, the bare one first, which speaks IPv4
// alone, and prints medians of each percentile and of its distance to the bare
// loop's of the same round.
func tapTable(what string, bar bars, kinds []pinged) error {
	n := len(kinds)
	p50, p99 := make(samples, 2*n), make(samples, 2*n)
	for range *runs {
		for i := range 2 * n {
			if i == n {
				continue
			}
			x, y, err := kinds[i%n].run(versions[i/n])
			if err != nil {
				return fmt.Errorf("%s over %s: %w", kinds[i%n].name, versions[i/n].name, err)
			}
			p50[i], p99[i] = append(p50[i], x/1e3), append(p99[i], y/1e3)
		}
	}
	for i := range 2 * n {
		if i == n {
			continue
		}
		k, v := kinds[i%n].name, versions[i/n]
		l := fmt.Sprintf("    %-16s %s %-6s p50 %6.1f µs  p99 %6.1f µs", what, v.name, k, p50.median(i), p99.median(i))
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
			if i > n {
				l += ofIPv4(p50.ratio(i-n, i))
			}
		}
		fmt.Println(l)
	}
	return nil
}

// kernelPing pings the stack through a raw socket of the kernel, one echo at
// a time.
func kernelPing(args []string) error {
	v, err := versionNamed(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	fd, err := unix.Socket(v.kernelFamily(), unix.SOCK_RAW|unix.SOCK_CLOEXEC, v.icmp())
	if err != nil {
		return fmt.Errorf("raw socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	if err := unix.Connect(fd, v.kernelAddr(v.server, 0)); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	return pings(v, func(m []byte) error {
		_, err := unix.Write(fd, m)
		return err
	}, func() ([]byte, error) {
		n, err := unix.Read(fd, buf)
		for err == unix.EINTR {
			n, err = unix.Read(fd, buf)
		}
		return v.icmpOf(buf[:max(n, 0)], err)
	})
}

// pings times echoes and prints their percentiles: send takes an ICMP message,
// recv answers the next one that came.
func pings(v *version, send func([]byte) error, recv func() ([]byte, error)) error {
	times := make([]float64, 0, echoes)
	m := make([]byte, echoOctets)
	for i := range echoWarmUp + echoes {
		putEcho(v, m, uint16(i))
		start := time.Now()
		if err := send(m); err != nil {
			return err
		}
		for {
			r, err := recv()
			if err != nil {
				return err
			}
			if isReply(v, r, m) {
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
func serve(ping func(version string) error) error {
	fmt.Println("ready")
	return serveLines(ping)
}

// kernelSide brings up the kernel's end of the TAP.
func kernelSide() error { return kernelUp(0) }

// kernelUp gives the interface the addresses of the client, 0, or of the
// server, 1, and brings it up.
func kernelUp(end int) error {
	// Without an address of its own choice the kernel has nothing to say on
	// the line but what is measured, ARP and its like.
	for name, value := range map[string]string{"addr_gen_mode": "1", "accept_ra": "0", "router_solicitations": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+tapName+"/"+name, []byte(value), 0); err != nil {
			return err
		}
	}
	var script strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&script, "address add %v/%d dev %s", v.end(end), v.bits, tapName)
		if v == v6 {
			script.WriteString(" nodad")
		}
		script.WriteByte('\n')
	}
	fmt.Fprintf(&script, "link set %s up\n", tapName)
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
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
	return serve(func(version string) error {
		v, err := versionNamed(version)
		if err != nil {
			return err
		}
		network := "ip4:icmp"
		if v == v6 {
			network = "ip6:ipv6-icmp"
		}
		c, err := h.ListenPacket(network, "")
		if err != nil {
			return err
		}
		defer c.Close()
		to := &net.IPAddr{IP: v.client.AsSlice()}
		buf := make([]byte, 2048)
		return pings(v, func(m []byte) error {
			_, err := c.WriteTo(m, to)
			return err
		}, func() ([]byte, error) {
			n, _, err := c.ReadFrom(buf)
			return v.icmpOf(buf[:n], err)
		})
	})
}

// openTap opens the TAP without the driver.
func openTap(flags uint16) (int, error) { return openTapNamed(tapName, flags) }

func openTapNamed(name string, flags uint16) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	must(err)
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return -1, fmt.Errorf("%s: %w", name, err)
	}
	return fd, nil
}
