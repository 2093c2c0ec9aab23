package interop

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ionet/client"
	"ionet/test/need"
	"ionet/test/play"
)

// uplinkLines lead from a checkout to a ping through an uplink that takes no
// privilege: passt turns what the stack sends into the sockets of an ordinary
// user. README.md quotes them. The stack's address and gateway are free to
// choose: passt answers for every address but the stack's own.
var uplinkLines = []string{
	"make",
	"passt --socket /tmp/p",
	"build/io-net -dqemu connect=/tmp/p -ptcpip",
	"build/ifconfig en0 10.0.0.2/24 && build/route add default 10.0.0.1",
	"build/ping -c 1 1.1.1.1",
}

// uplinkWorld is a machine at home: an uplink up0 to a router, and behind the
// router an address far away that answers pings and echoes UDP on port 7.
const uplinkWorld = `
mount --bind "$RUN" /tmp
mount -t tmpfs run /run
ip netns add outside
ip link add up0 type veth peer name out0 netns outside
ip link set lo up
ip addr add 192.168.1.10/24 dev up0
ip link set up0 up
ip -n outside link set lo up
ip -n outside addr add 1.1.1.1/32 dev lo
ip -n outside addr add 192.168.1.1/24 dev out0
ip -n outside link set out0 up
ip route add default via 192.168.1.1
# passt pings from a ping socket. Many systems allow those to every group,
# Debian 12 to none until it is told to; here one group is mapped.
echo 0 0 >/proc/sys/net/ipv4/ping_group_range
mkfifo /run/echo
nsenter --net=/run/netns/outside nc -n -u -l 1.1.1.1 7 <>/run/echo >/run/echo &
`

func TestFiveLinesToAnUplink(t *testing.T) {
	for name, pkg := range map[string]string{"passt": "passt", "ip": "iproute2", "nc": "netcat-openbsd", "make": "make"} {
		need.Command(t, name, pkg)
	}
	w := newWorld(t, uplinkWorld)
	w.Env = []string{"XDG_RUNTIME_DIR=/tmp", "HOME=/tmp", "TMPDIR=/tmp"} // where RUN is in that world
	play.WantLines(t, "status of the user", w.Must("cat", "/proc/self/status"), "CapEff:\t0000000000000000\n", "Uid:\t1000\t")

	readme, err := os.ReadFile(filepath.Join(need.Module(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	play.WantLines(t, "README.md", string(readme), "\n"+strings.Join(uplinkLines, "\n")+"\n")

	// What is built lies in the folder where the other lines are typed.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "sh", "-c", uplinkLines[0])
	build.Dir = need.Module(t)
	build.Env = append(os.Environ(), "BUILD="+filepath.Join(w.Dir, "build"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", uplinkLines[0], err, out)
	}
	prefix := filepath.Join(w.Dir, "ionet")
	t.Cleanup(func() {
		if b, err := os.ReadFile(filepath.Join(prefix, "var/log/io-net.log")); err == nil && t.Failed() {
			t.Logf("the log of the stack:\n%s", b)
		}
	})
	var out string
	for _, line := range uplinkLines[1:] {
		out = w.Must("sh", "-c", line)
	}
	play.WantLines(t, uplinkLines[4], out, "PING 1.1.1.1 (1.1.1.1): 56 data bytes\n",
		"----1.1.1.1 PING Statistics----\n1 packets transmitted, 1 packets received, 0.0% packet loss\n")

	// The echo came from outside: that is where it was counted.
	if n := echoesOutside(w); n != 1 {
		t.Errorf("outside counts %d echo requests, want 1", n)
	}
	for _, size := range []string{"0", "1", "1472"} {
		out := w.Must("build/ping", "-n", "-c", "2", "-i", "0.1", "-s", size, "1.1.1.1")
		play.WantLines(t, "ping -s "+size, out, "2 packets received, 0.0% packet loss")
	}
	if n := echoesOutside(w); n != 7 {
		t.Errorf("outside counts %d echo requests, want 7", n)
	}
	play.WantLines(t, "nicinfo", w.Must("build/nicinfo", "en0"), "QEMU stream socket", "established")
	echoOutside(t, prefix)

	w.Must("build/io-net", "--stop")
	if play.Exists(filepath.Join(prefix, "dev/socket/2")) {
		t.Error("io-net --stop left its sockets behind")
	}
}

// echoesOutside is how many echo requests arrived behind the router.
func echoesOutside(w *world) int {
	w.T.Helper()
	snmp := w.rootMust("nsenter", "--net=/run/netns/outside", "cat", "/proc/self/net/snmp")
	rows := regexp.MustCompile(`(?m)^Icmp: (.*)$`).FindAllStringSubmatch(snmp, 2)
	if len(rows) == 2 {
		names, values := strings.Fields(rows[0][1]), strings.Fields(rows[1][1])
		for i, name := range names {
			if name == "InEchos" && i < len(values) {
				if n, err := strconv.Atoi(values[i]); err == nil {
					return n
				}
			}
		}
	}
	w.T.Fatalf("no count of echo requests in\n%s", snmp)
	return 0
}

// echoOutside sends a datagram to the echo far away, again until it is back.
func echoOutside(t *testing.T, prefix string) {
	t.Helper()
	s, err := client.Open(prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := s.Dial("udp", "1.1.1.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, want := range []string{"hello", strings.Repeat("x", 1472)} {
		got := make([]byte, 2048)
		for deadline := time.Now().Add(10 * time.Second); ; {
			if _, err := c.Write([]byte(want)); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := c.Read(got)
			if err == nil && string(got[:n]) == want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no echo of %d octets: %v, %q", len(want), err, got[:n])
			}
		}
	}
}
