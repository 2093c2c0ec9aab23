package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

const (
	// radvdRest is how long radvd is left alone before it is asked: it answers
	// nobody within MinDelayBetweenRAs, three seconds, of what it says when it starts.
	radvdRest = 3500 * time.Millisecond
	// addrPoll is how often the stack is asked whether it has an address.
	addrPoll = time.Millisecond
)

// addrPrefix is what radvd advertises, and addrBeyond an address that only a router leads to.
var (
	addrPrefix = netip.MustParsePrefix("2001:db8:1::/64")
	addrBeyond = netip.MustParseAddr("2001:db8:ffff::1")
)

// addrMeasure times the way from an interface that comes up to the first
// packet that may leave with a global address, to a destination beyond the
// router: a router is heard, the address made and asked for on the link. The
// router is radvd on a kernel host, in its default configuration.
func addrMeasure() error {
	if _, err := exec.LookPath("radvd"); err != nil {
		return fmt.Errorf("radvd is not installed: %w", err)
	}
	kinds := []struct {
		name    string
		sysctls []string
		bar     float64 // ms
	}{
		{"default", nil, 1200},
		{"optimistic", []string{"net.inet6.ip6.optimistic_dad=1"}, 50},
	}
	took := make(samples, len(kinds))
	for range *runs {
		for i, k := range kinds {
			ms, err := addrTime(k.sysctls)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			took[i] = append(took[i], ms)
		}
	}
	for i, k := range kinds {
		fmt.Printf("  %-10s %6.0f ms in the median of %d, %6.0f at most  (%s)\n", k.name, took.median(i), *runs, percentile(took[i], 1),
			verdict(took.median(i) < k.bar, fmt.Sprintf("under %.0f ms", k.bar)))
	}
	return nil
}

// addrTime is the milliseconds that it takes one stack.
func addrTime(sysctls []string) (ms float64, err error) {
	dir, err := os.MkdirTemp("", "ionet-bench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	first, last := processors()
	d, err := startDaemon(dir, "a", placement{cpus: []int{last}, newNet: true}, false, "-dtap", "name="+tapName)
	if err != nil {
		return 0, err
	}
	defer d.stop()
	for _, s := range sysctls {
		if out, err := d.tool("sysctl", "-w", s).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("sysctl %s: %w: %s", s, err, out)
		}
	}
	router, err := spawn(placement{cpus: []int{first}, netOf: d.cmd.Process.Pid}, "addr-router", dir)
	if err != nil {
		return 0, err
	}
	defer router.stop()
	if _, err := router.line(); err != nil {
		return 0, err
	}
	s, err := client.Open(d.prefix)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	start := time.Now()
	if err := s.SetFlags("en0", protocol.IFFUp, 0); err != nil {
		return 0, err
	}
	for tick := time.NewTicker(addrPoll); time.Since(start) < streamPatience; <-tick.C {
		c, err := s.DialContext(context.Background(), "udp6", netip.AddrPortFrom(addrBeyond, 9).String())
		if err != nil {
			continue // no route, or no address
		}
		from := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		if _, err = c.Write([]byte{0}); err == nil && addrPrefix.Contains(from) {
			return float64(time.Since(start).Microseconds()) / 1000, c.Close()
		}
		c.Close()
	}
	return 0, fmt.Errorf("no address after %v", streamPatience)
}

// addrRouter makes the kernel's end of the TAP a router with radvd, whose
// files are in DIR, until the end of the input.
func addrRouter(args []string) error {
	dir := args[0]
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0); err != nil {
		return err
	}
	script := fmt.Sprintf("link set %s up\naddress add %v dev %s nodad\n", tapName, netip.PrefixFrom(addrPrefix.Addr().Next(), addrPrefix.Bits()), tapName)
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader(script)
	if out, err := ip.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	if err := lineIsUp(); err != nil {
		return err
	}
	conf := filepath.Join(dir, "radvd.conf")
	text := fmt.Sprintf("interface %s {\n\tAdvSendAdvert on;\n\tprefix %v { };\n};\n", tapName, addrPrefix)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	radvd := exec.Command("radvd", "-n", "-u", "root", "-m", "stderr", "-C", conf, "-p", filepath.Join(dir, "radvd.pid"))
	var said strings.Builder
	radvd.Stderr = &said
	radvd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := radvd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- radvd.Wait() }()
	select {
	case err := <-ended:
		return fmt.Errorf("radvd ended: %w: %s", err, said.String())
	case <-time.After(radvdRest):
	}
	fmt.Println("ready")
	untilEnd()
	err := radvd.Process.Kill()
	<-ended
	return err
}

// lineIsUp waits until the kernel's link-local address has been asked for.
func lineIsUp() error {
	for start := time.Now(); time.Since(start) < streamPatience; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("ip", "-6", "-oneline", "address", "show", "dev", tapName, "scope", "link").Output()
		if err != nil {
			return err
		}
		if strings.Contains(string(out), "fe80::") && !strings.Contains(string(out), "tentative") {
			return nil
		}
	}
	return errors.New("the kernel has no link-local address")
}
