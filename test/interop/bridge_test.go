package interop

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
)

// bridged is a stack with bridge0 between kernels in namespaces of their own: the n-th
// has the TAP device tap0, 10.0.0.(n+1), and the stack en(n), of which en0 is 10.0.0.100.
func bridged(t *testing.T, n int) (u *play.User, hosts []*need.NS) {
	t.Helper()
	need.File(t, "/dev/net/tun")
	for range n {
		hosts = append(hosts, need.Namespace(t))
	}
	u = play.NewRoot(t, hosts[0])
	prefix := filepath.Join(u.Dir, "s")
	line := []string{"-d", "tap", "name=tap0"}
	for _, ns := range hosts[1:] {
		line = append(line, "-d", "tap", "name=tap0,netns="+ns.Name)
	}
	u.Ionet(prefix, append(line, "-ptcpip", "prefix="+prefix)...)
	u = u.At(prefix)
	u.Must("ifconfig", "bridge0", "create")
	for i, ns := range hosts {
		ns.Exec("ip", "addr", "add", fmt.Sprintf("10.0.0.%d/24", i+1), "dev", "tap0")
		ns.Exec("ip", "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "tap0", "nodad")
		ns.Exec("ip", "link", "set", "tap0", "up")
		u.Must("ifconfig", fmt.Sprint("en", i), "up")
		u.Must("brconfig", "bridge0", "add", fmt.Sprint("en", i))
	}
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	u.Must("ifconfig", "en0", "10.0.0.100/24")
	u.Must("ifconfig", "en0", "inet6", "2001:db8::100/64")
	u.Must("brconfig", "bridge0", "up")
	return u, hosts
}

// TestKernelsOverABridge: three kernels and the stack are stations of one network.
func TestKernelsOverABridge(t *testing.T) {
	ping := need.Command(t, "ping", "iputils-ping")
	u, hosts := bridged(t, 3)
	for i, ns := range hosts {
		for _, to := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.100", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::100"} {
			out, err := ns.Try(ping, "-n", "-c", "2", "-i", "0.1", "-W", "5", "-s", "3000", to)
			if err != nil || !strings.Contains(out, " 0% packet loss") {
				t.Errorf("host %d pings %s: %v\n%s", i+1, to, err, out)
			}
		}
	}
	for _, to := range []string{"10.0.0.3", "2001:db8::2"} {
		name := "ping"
		if strings.Contains(to, ":") {
			name = "ping6"
		}
		play.WantLines(t, name, u.Must(name, "-n", "-c", "2", "-i", "0.1", to), "2 packets received, 0")
	}
	nc := need.Command(t, "nc", "netcat-openbsd")
	two := play.NewRoot(t, hosts[1])
	for _, ip := range []string{"10.0.0.2", "2001:db8::2"} {
		transfer(t, u, nc, two, nc, ip)
	}
	mac := strings.TrimSpace(hosts[2].Exec("cat", "/sys/class/net/tap0/address"))
	out := u.Must("brconfig", "bridge0")
	play.WantLines(t, "brconfig bridge0", out, "bridge0: flags=41<UP,RUNNING>\n", "\t\ten1 flags=3<LEARNING,DISCOVER>\n", "\t\t"+mac+" en2 ")
	if out := u.Must("netstat", "-s", "-p", "bridge"); strings.Contains(out, "can't") || !strings.Contains(out, "frames forwarded to the member") {
		t.Errorf("netstat -s -p bridge:\n%s", out)
	}
	u.Must("brconfig", "bridge0", "delete", "en2", "flush")
	if out := u.Must("brconfig", "bridge0"); strings.Contains(out, "en2") {
		t.Errorf("en2 is a member still:\n%s", out)
	}
	if out, err := hosts[0].Try(ping, "-n", "-c", "1", "-W", "1", "10.0.0.3"); err == nil {
		t.Errorf("a member that has left is reached:\n%s", out)
	}
	u.Must("ifconfig", "bridge0", "destroy")
	if r := u.Try("brconfig", "bridge0"); r.Status != 1 {
		t.Errorf("bridge0 is still there:\n%s", r.Out)
	}
}

// TestSpanningTreeWithAKernel: a kernel's bridge and ours are connected twice. One port of
// the four blocks, and when the way that is in use is cut the other one is taken.
func TestSpanningTreeWithAKernel(t *testing.T) {
	ping := need.Command(t, "ping", "iputils-ping")
	for _, root := range []string{"kernel", "stack"} {
		t.Run(root, func(t *testing.T) {
			need.File(t, "/dev/net/tun")
			ns := need.Namespace(t)
			u := play.NewRoot(t, ns)
			prefix := filepath.Join(u.Dir, "s")
			u.Ionet(prefix, "-d", "tap", "name=tap0", "-d", "tap", "name=tap1", "-ptcpip", "prefix="+prefix)
			u = u.At(prefix)
			priority := map[string]string{"kernel": "4096", "stack": "61440"}[root]
			ns.Exec("ip", "link", "add", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200", "hello_time", "100", "max_age", "600", "priority", priority)
			for _, dev := range []string{"tap0", "tap1"} {
				ns.Exec("ip", "link", "set", dev, "up", "master", "br0")
			}
			ns.Exec("ip", "addr", "add", "10.0.0.1/24", "dev", "br0")
			u.Must("ifconfig", "bridge0", "create")
			u.Must("brconfig", "bridge0", "hellotime", "1", "fwddelay", "2", "maxage", "6", "add", "en0", "add", "en1", "stp", "en0", "stp", "en1")
			u.Must("ifconfig", "en0", "10.0.0.2/24")
			u.Must("ifconfig", "en1", "up")
			u.Must("brconfig", "bridge0", "up")
			ns.Exec("ip", "link", "set", "br0", "up")

			states := func() string { return ns.Exec("bridge", "link", "show") + u.Must("brconfig", "bridge0") }
			settles(t, func() error {
				if s := states(); strings.Count(s, "blocking") != 1 || strings.Count(s, "forwarding") != 3 {
					return fmt.Errorf("not one port of four is blocking:\n%s", s)
				}
				return nil
			})
			reaches := func() {
				t.Helper()
				settles(t, func() error {
					if out, err := ns.Try(ping, "-n", "-c", "2", "-i", "0.1", "-W", "1", "10.0.0.2"); err != nil || strings.Contains(out, "DUP") {
						return fmt.Errorf("the kernel pings: %v\n%s", err, out)
					}
					return nil
				})
				settles(t, func() error { // the kernel's ports follow a change of topology later than ours
					if r := u.Try("ping", "-n", "-c", "2", "-i", "0.1", "10.0.0.1"); !strings.Contains(r.Out, "2 packets received, 0") {
						return fmt.Errorf("the stack pings:\n%s%s", r.Out, r.Err)
					}
					return nil
				})
			}
			reaches()
			out := u.Must("brconfig", "bridge0")
			mac := strings.ReplaceAll(strings.TrimSpace(ns.Exec("cat", "/sys/class/net/br0/address")), ":", "")
			if is := strings.Contains(out, "root 1000."+mac); is != (root == "kernel") {
				t.Errorf("the root is another than the %s:\n%s", root, out)
			}
			ns.Exec("ip", "link", "set", "tap0", "down")
			reaches()
			if s := states(); strings.Contains(s, "blocking") {
				t.Errorf("one way is left, and a port blocks:\n%s", s)
			}
			ns.Exec("ip", "link", "set", "tap0", "up")
			settles(t, func() error {
				if s := states(); strings.Count(s, "blocking") != 1 || strings.Count(s, "forwarding") != 3 {
					return fmt.Errorf("mended, not one port of four is blocking:\n%s", s)
				}
				return nil
			})
			reaches()
		})
	}
}

// settles fails unless f stops complaining within half a minute.
func settles(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) { // polls another process
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
