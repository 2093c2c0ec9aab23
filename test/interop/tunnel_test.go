package interop

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/driver/netns"
	"ionet/test/need"
	"ionet/test/play"
)

// tunnelled are a user's two stacks with gif0 between them, whose outer packets are
// of one family or the other: 10.9.0.1 and 2001:db8:9::1, and so on.
func tunnelled(t *testing.T, outer string) (a, b *play.User) {
	t.Helper()
	a, b = play.Pair(t)
	for i, u := range []*play.User{a, b} {
		me, other := fmt.Sprint(i+1), fmt.Sprint(2-i)
		u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
		u.Must("ifconfig", "en0", "inet6", "2001:db8::"+me+"/64")
		u.Must("ifconfig", "gif0", "create")
		u.Must("ifconfig", "gif0", "tunnel", outer+me, outer+other)
		u.Must("ifconfig", "gif0", "10.9.0."+me, "10.9.0."+other, "netmask", "255.255.255.255")
		u.Must("ifconfig", "gif0", "inet6", "2001:db8:9::"+me, "2001:db8:9::"+other)
	}
	return a, b
}

// TestTunnelBetweenTwoStacks: everything that goes over an Ethernet goes through a
// tunnel, whatever it is inside of.
func TestTunnelBetweenTwoStacks(t *testing.T) {
	for _, outer := range []string{"10.0.0.", "2001:db8::"} {
		t.Run(outer, func(t *testing.T) {
			a, b := tunnelled(t, outer)
			for _, size := range []string{"0", "56", "1232", "1233", "8000"} {
				play.WantLines(t, "ping6 -s "+size, a.Must("ping6", "-n", "-c", "2", "-i", "0.1", "-s", size, "2001:db8:9::2"), "2 packets received, 0% packet loss")
				play.WantLines(t, "ping -s "+size, a.Must("ping", "-n", "-c", "2", "-i", "0.1", "-s", size, "10.9.0.2"), "2 packets received, 0.0% packet loss")
			}
			const line, lines = "a stream through a tunnel\n", 40000
			data := b.Write("data", strings.Repeat(line, lines), 0o644)
			for _, to := range []string{"10.9.0.2", "2001:db8:9::2"} {
				l := b.Serves("Listening on", "nc", "-v", "-l", to, "7777")
				f, err := os.Open(data)
				if err != nil {
					t.Fatal(err)
				}
				c := a.Begin(f, "nc", "-N", to, "7777")
				if s := c.Wait(); s != 0 {
					t.Errorf("nc %s: status %d\n%s", to, s, c.Err.String())
				}
				s := l.Wait()
				if n := strings.Count(l.Err.String(), line); s != 0 || n != lines {
					t.Errorf("nc -l %s: status %d, %d lines of %d", to, s, n, lines)
				}
				_ = f.Close()
			}
			family := "inet"
			if strings.Contains(outer, ":") {
				family = "inet6"
			}
			ends := fmt.Sprintf("%s %s1 --> %s2\n", family, outer, outer)
			play.WantLines(t, "ifconfig gif0", a.Must("ifconfig", "gif0"), "gif0: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1280\n\ttunnel "+ends,
				"\tinet 10.9.0.1 -> 10.9.0.2 netmask 0xffffffff\n", "\tinet6 2001:db8:9::1 -> 2001:db8:9::2 prefixlen 128\n")
			play.WantLines(t, "gifconfig -a", a.Must("gifconfig", "-a"), "\tphysical address "+ends)
			if out := a.Must("netstat", "-s", "-p", "gif"); !regexp.MustCompile(`(?m)^\t[1-9]\d* packets put into tunnels$`).MatchString(out) ||
				!regexp.MustCompile(`(?m)^\t[1-9]\d* packets taken out of tunnels$`).MatchString(out) {
				t.Errorf("netstat -s -p gif tells of nothing:\n%s", out)
			}
			if r := a.Try("gifconfig", "en0", "10.0.0.1", "10.0.0.2"); r.Status != 1 || r.Err != "gifconfig: SIOCSIFPHYADDR: Invalid argument (en0 is no gif and leads to no address)\n" {
				t.Errorf("gifconfig en0: status %d, %q", r.Status, r.Err)
			}
			a.Must("gifconfig", "gif0", "delete")
			if r := a.Try("ping6", "-n", "-c", "1", "2001:db8:9::2"); r.Status == 0 || !strings.Contains(r.Err, "Network is down") {
				t.Errorf("ping6 through a tunnel without ends: status %d\n%s%s", r.Status, r.Out, r.Err)
			}
			a.Must("ifconfig", "gif0", "destroy")
			if r := a.Try("ifconfig", "gif0"); r.Status != 1 {
				t.Errorf("gif0 is still there:\n%s", r.Out)
			}
		})
	}
}

// TestSixToFourBetweenTwoStacks: nobody says where the other is.
func TestSixToFourBetweenTwoStacks(t *testing.T) {
	a, b := play.Pair(t)
	for i, u := range []*play.User{a, b} {
		u.Must("ifconfig", "en0", fmt.Sprintf("198.51.100.%d/24", i+1))
		u.Must("ifconfig", "stf0", "create")
		u.Must("ifconfig", "stf0", "inet6", fmt.Sprintf("2002:c633:640%d::1", i+1), "prefixlen", "16")
	}
	play.WantLines(t, "ping6", a.Must("ping6", "-n", "-c", "2", "-i", "0.1", "2002:c633:6402::1"), "2 packets received, 0% packet loss")
	play.WantLines(t, "ifconfig stf0", a.Must("ifconfig", "stf0"), "stf0: flags=1<UP> mtu 1280\n\tinet6 2002:c633:6401::1 prefixlen 16\n")
	r := a.Try("ifconfig", "stf0", "inet6", "2001:db8::1")
	if r.Status != 1 || !strings.Contains(r.Err, "2001:db8::1 is no 6to4 address") {
		t.Errorf("another address: status %d, %q", r.Status, r.Err)
	}
}

// TestKernelThroughATunnel: the kernels of this machine have no tunnels, so that the
// test carries packets between a TUN device and a raw socket; both headers
// are the kernel's.
func TestKernelThroughATunnel(t *testing.T) {
	ns, u, _ := play.KernelHost(t)
	ns.Exec("ip", "addr", "add", "2001:db8::1/64", "dev", "tap0", "nodad")
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	u.Must("ifconfig", "en0", "inet6", "2001:db8::2/64")
	for i, tc := range []struct{ outer, from, proto string }{
		{"10.0.0.", "10.0.0.1", "ip4:41"}, {"10.0.0.", "10.0.0.1", "ip4:4"}, {"2001:db8::", "2001:db8::1", "ip6:41"}, {"2001:db8::", "2001:db8::1", "ip6:4"},
	} {
		t.Run(tc.proto, func(t *testing.T) {
			dev, gif := fmt.Sprint("tun", i), fmt.Sprint("gif", i)
			carry(t, ns, dev, tc.proto, tc.from, tc.outer+"2")
			u.Must("ifconfig", gif, "create")
			u.Must("ifconfig", gif, "tunnel", tc.outer+"2", tc.outer+"1")
			kernel, stack := "10.9.0.1", "10.9.0.2"
			if strings.HasSuffix(tc.proto, "41") {
				kernel, stack = "2001:db8:9::1", "2001:db8:9::2"
				u.Must("ifconfig", gif, "inet6", stack, kernel)
				ns.Exec("ip", "addr", "add", kernel+"/64", "dev", dev, "nodad")
			} else {
				u.Must("ifconfig", gif, stack, kernel)
				ns.Exec("ip", "addr", "add", kernel+"/24", "dev", dev)
			}
			ns.Exec("ip", "link", "set", dev, "up", "mtu", "1280")
			for _, size := range []string{"56", "1400", "4000"} {
				out, err := ns.Try(need.Command(t, "ping", "iputils-ping"), "-n", "-c", "1", "-W", "5", "-s", size, stack) // of two it would wait for the second for two round trips
				if err != nil || !strings.Contains(out, " 0% packet loss") {
					t.Errorf("the kernel pings with %s octets: %v\n%s", size, err, out)
				}
				name := "ping"
				if strings.Contains(kernel, ":") {
					name = "ping6"
				}
				play.WantLines(t, name+" -s "+size, u.Must(name, "-n", "-c", "2", "-i", "0.1", "-s", size, kernel), "2 packets received, 0")
			}
			u.Must("ifconfig", gif, "destroy")
			ns.Exec("ip", "link", "del", dev)
		})
	}
}

// carry makes a TUN device in the namespace, whose packets go as protocol proto
// from one address to another, and back.
func carry(t *testing.T, ns *need.NS, dev, proto, from, to string) {
	t.Helper()
	var tun *os.File
	var raw *net.IPConn
	if err := netns.Do(ns.Name, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(dev)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return err
		}
		tun = os.NewFile(uintptr(fd), filepath.Join("/dev/net", dev))
		raw, err = net.ListenIP(proto, &net.IPAddr{IP: net.ParseIP(from)})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool, 2)
	go func() {
		defer func() { done <- true }()
		b := make([]byte, 65536)
		for {
			n, err := tun.Read(b)
			if err != nil {
				return
			}
			_, _ = raw.WriteToIP(b[:n], &net.IPAddr{IP: net.ParseIP(to)}) // lost
		}
	}()
	go func() {
		defer func() { done <- true }()
		b := make([]byte, 65536)
		for {
			n, _, err := raw.ReadFromIP(b)
			if err != nil {
				return
			}
			_, _ = tun.Write(b[:n])
		}
	}()
	t.Cleanup(func() {
		_ = tun.Close()
		_ = raw.Close()
		<-done
		<-done
	})
}
