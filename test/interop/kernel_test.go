package interop

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/client"
	"ionet/test/need"
	"ionet/test/play"
)

func TestKernelHostPings(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	ns, u, _ := play.KernelHost(t)
	for _, size := range []string{"0", "1", "56", "1472", "1473", "8000", "65507"} {
		out, err := ns.Try("/usr/bin/ping", "-n", "-c", "2", "-i", "0.1", "-W", "5", "-s", size, "10.0.0.2")
		if err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Errorf("the kernel pings with %s octets: %v\n%s", size, err, out)
		}
		out = u.Must("ping", "-n", "-c", "2", "-i", "0.1", "-s", size, "10.0.0.1")
		play.WantLines(t, "ping -s "+size, out, "2 packets received, 0.0% packet loss")
	}
	out := u.Must("netstat", "-s", "-p", "ip")
	if !regexp.MustCompile(`(?m)^\t[1-9]\d* packets reassembled ok$`).MatchString(out) ||
		!regexp.MustCompile(`(?m)^\t[1-9]\d* output datagrams fragmented$`).MatchString(out) {
		t.Errorf("netstat -s -p ip tells nothing of fragments:\n%s", out)
	}
	// The neighbour is in the routing table and in arp.
	mac := strings.TrimSpace(ns.Exec("cat", "/sys/class/net/tap0/address"))
	play.WantLines(t, "arp -an", u.Must("arp", "-an"), "(10.0.0.1) at "+mac)
	if out := u.Must("netstat", "-rn"); !regexp.MustCompile(`(?m)^10\.0\.0\.1 +` + mac + ` +UHLc `).MatchString(out) {
		t.Errorf("netstat -rn lacks the neighbour %s:\n%s", mac, out)
	}
}

// TestNobodyPingsAKernelHost: the kernel answers an echo socket, and what its
// errors come to is told.
func TestNobodyPingsAKernelHost(t *testing.T) {
	ns, u, _ := play.KernelHost(t)
	if err := os.Chmod(u.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ns.Exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
	ns.Exec("ip", "route", "add", "unreachable", "99.0.0.0/16")
	ns.Exec("ip", "route", "add", "prohibit", "99.1.0.0/16")
	ns.Exec("ip", "route", "add", "99.3.0.0/16", "via", "10.0.0.2")
	u.Must("route", "add", "default", "10.0.0.1")
	nobody := *u
	nobody.Wrap = append(slices.Clone(u.Wrap), play.Nobody(t)...)
	for _, size := range []string{"0", "56", "1473", "65507"} {
		out := nobody.Must("ping", "-n", "-c", "1", "-s", size, "10.0.0.1")
		play.WantLines(t, "ping -s "+size, out, "1 packets received, 0.0% packet loss")
	}
	for to, why := range map[string]string{
		"99.0.0.1":      "No route to host",       // host unreachable
		"99.1.0.1":      "No route to host",       // administratively prohibited
		"99.2.0.1":      "Network is unreachable", // the kernel has no default route
		"-T 1 99.3.0.1": "No route to host",       // time exceeded
	} {
		r := nobody.Try("ping", append([]string{"-n", "-c", "1", "-w", "2"}, strings.Fields(to)...)...)
		if want := "ping: recvfrom: " + why + "\n"; r.Status != 2 || r.Err != want {
			t.Errorf("ping %s: status %d, %q, want %q", to, r.Status, r.Err, want)
		}
	}
}

func TestArping(t *testing.T) {
	arping := need.Command(t, "arping", "iputils-arping")
	ns, u, _ := play.KernelHost(t)
	out, err := ns.Try(arping, "-c", "2", "-w", "5", "-I", "tap0", "10.0.0.2")
	m := regexp.MustCompile(`\taddress: (\S+)\n`).FindStringSubmatch(u.Must("ifconfig", "en0"))
	if err != nil || m == nil || !strings.Contains(strings.ToLower(out), m[1]) {
		t.Errorf("arping: %v, want an answer from %q\n%s", err, m, out)
	}
	// Duplicate address detection finds that somebody has it.
	if out, err := ns.Try(arping, "-D", "-c", "2", "-w", "5", "-I", "tap0", "10.0.0.2"); err == nil {
		t.Errorf("arping -D finds 10.0.0.2 free:\n%s", out)
	}
}

func TestNetcatTalksToAnEchoOnTheStack(t *testing.T) {
	nc := need.Command(t, "nc", "netcat-openbsd")
	ns, _, prefix := play.KernelHost(t)
	s, err := client.Open(prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pc, err := s.ListenPacket("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go echo(pc)
	out, err := ns.Try("sh", "-c", "echo hello from the kernel | "+nc+" -u -n -w 1 10.0.0.2 7")
	if err != nil || out != "hello from the kernel\n" {
		t.Errorf("nc -u: %v, %q", err, out)
	}
	// To a port where nobody listens, the kernel hears of it.
	out, _ = ns.Try("sh", "-c", "echo x | "+nc+" -u -n -v -w 1 10.0.0.2 9; echo x | "+nc+" -u -n -v -z -w 1 10.0.0.2 9 || echo refused")
	play.WantLines(t, "nc -u to a closed port", out, "refused")
}

func echo(pc net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		if _, err := pc.WriteTo(buf[:n], from); err != nil {
			return
		}
	}
}

func TestTcpdumpReadsOurCapture(t *testing.T) {
	need.Command(t, "tcpdump", "tcpdump")
	_, u, _ := play.KernelHost(t)
	u.Must("ping", "-c", "1", "10.0.0.1") // ARP is out of the way
	file := filepath.Join(u.Dir, "ping.pcapng")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := u.Command(ctx, "ionet", "capture", "-i", "en0", "-n", "-c", "6", "-w", file, "icmp")
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "listening on en0") {
		t.Fatalf("ionet capture says %q", lines.Text())
	}
	go func() {
		for lines.Scan() {
		}
	}()
	u.Must("ping", "-c", "3", "-i", "0.1", "10.0.0.1")
	if err := c.Wait(); err != nil {
		t.Fatalf("ionet capture: %v", err)
	}
	theirs := u.Must("tcpdump", "-n", "-t", "-r", file)
	ours := u.Must("ionet", "capture", "-n", "-t", "-r", file)
	if n := strings.Count(theirs, "ICMP echo request"); n != 3 || strings.Count(theirs, "ICMP echo reply") != 3 {
		t.Errorf("tcpdump -r sees %d requests:\n%s", n, theirs)
	}
	norm := func(s string) string { return strings.TrimSpace(regexp.MustCompile(` +`).ReplaceAllString(s, " ")) }
	if norm(theirs) != norm(ours) {
		t.Errorf("the two readings differ.\ntcpdump:\n%sionet capture:\n%s", theirs, ours)
	}
}

func TestRunningStackGainsAndLosesAnInterface(t *testing.T) {
	ns, u, prefix := play.KernelHost(t)
	_ = ns
	entry := filepath.Join(prefix, "dev/io-net/en1")
	u.Must("mount", "-T", "io-net", "-o", "lan=1", "devn-ne2000.so")
	u.Must("waitfor", entry, "5")
	play.WantLines(t, "nicinfo", u.Must("nicinfo", "en1"), "en1:", "Physical Node ID")
	u.Must("umount", entry)
	if r := u.Try("ifconfig", "en1"); r.Status != 1 {
		t.Errorf("ifconfig en1 after umount: status %d\n%s", r.Status, r.Out)
	}
	if play.Exists(entry) {
		t.Errorf("%s is still there", entry)
	}
}

func TestRestartBringsACrashedStackBack(t *testing.T) {
	u := play.NewUser(t)
	p := filepath.Join(u.Dir, "s")
	u.Ionet(p, "--restart", "-d", "wire", "path="+filepath.Join(u.Dir, "w"), "-ptcpip", "prefix="+p)
	v := u.At(p)
	v.Must("ifconfig", "en0", "10.0.0.1")
	v.Must("route", "add", "default", "10.0.0.254")
	pid := func() int {
		rows, err := openTable(p)
		if err != nil {
			return 0
		}
		return rows
	}
	old := pid()
	if old == 0 {
		t.Fatal("the stack does not answer")
	}
	u.Must("kill", "-SEGV", fmt.Sprint(old))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // polls another process
		if n := pid(); n != 0 && n != old {
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(p, "var/log/io-net.log"))
			t.Fatalf("no stack came back in 20 s:\n%s", log)
		}
	}
	play.WantLines(t, "ifconfig en0 after the crash", v.Must("ifconfig", "en0"), "inet 10.0.0.1 netmask 0xff000000")
	play.WantLines(t, "netstat -rn after the crash", v.Must("netstat", "-rn"), "default            10.0.0.254         UGS")
}

func openTable(prefix string) (pid int, err error) {
	s, err := client.Open(prefix)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return int(s.Hello().PID), nil
}
