package onstack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// TestProgramsAndAKernelHost has programs on a stack, 10.0.0.2, meet programs of
// a Linux kernel, 10.0.0.1, beside it on a TAP.
func TestProgramsAndAKernelHost(t *testing.T) {
	_, kernel, _ := play.KernelHost(t)
	if err := os.Chmod(kernel.Dir, 0o755); err != nil { // servers have users of their own
		t.Fatal(err)
	}
	kernel.Write("large", string(large), 0o644)
	kernel.Write("small", "small\n", 0o644)
	part := func(name string, f func(t *testing.T, kernel *play.User, stack side)) {
		t.Run(name, func(t *testing.T) { k := kernel.For(t); f(t, k, side{k}) })
	}

	part("nginx of the kernel", func(t *testing.T, kernel *play.User, stack side) {
		nginx := need.Command(t, "nginx", "nginx-light")
		j := kernel.Serves(`start worker process \d+\n(?s:.*)start worker process`, nginx, "-p", kernel.Dir, "-c",
			kernel.Write("nginx.conf", nginxConf(kernel.Dir), 0o644))
		ends(j)
		stack.browse(t, "10.0.0.1:8080")
	})

	part("nginx of the stack", func(t *testing.T, kernel *play.User, stack side) {
		nginx, curl, wrk := need.Command(t, "nginx", "nginx-light"), need.Command(t, "curl", "curl"), need.Command(t, "wrk", "wrk")
		stack.serves(`start worker process \d+\n(?s:.*)start worker process`, nginx, "-p", kernel.Dir, "-c",
			kernel.Write("nginx.conf", nginxConf(kernel.Dir), 0o644))
		kernel.Must(curl, "-sS", "--max-time", "30", "-o", "by-kernel", "http://10.0.0.2:8080/large")
		stack.wantFile("by-kernel")
		if out := kernel.Must(wrk, "-t", "1", "-c", "20", "-d", "1s", "http://10.0.0.2:8080/small"); strings.Contains(out, "Socket errors") {
			t.Errorf("wrk:\n%s", out)
		}
	})

	part("iperf3", func(t *testing.T, kernel *play.User, stack side) {
		iperf3 := need.Command(t, "iperf3", "iperf3")
		ends(kernel.Serves(`Server listening`, iperf3, "-s", "--forceflush", "-B", "10.0.0.1"))
		stack.serves(`Server listening`, iperf3, "-s", "--forceflush", "-B", "10.0.0.2")
		for _, way := range [][]string{{"-n", "64M"}, {"-n", "64M", "-R"}, {"-u", "-l", "1400", "-b", "4M", "-t", "1"}} {
			stack.runs(append([]string{iperf3, "-c", "10.0.0.1"}, way...)...)
			kernel.Must(iperf3, append([]string{"-c", "10.0.0.2"}, way...)...)
		}
	})

	part("ssh", func(t *testing.T, kernel *play.User, stack side) {
		sshd := need.Command(t, "sshd", "openssh-server")
		ssh := need.Command(t, "ssh", "openssh-client")
		keygen := need.Command(t, "ssh-keygen", "openssh-client")
		for _, name := range []string{"host", "user"} {
			kernel.Must(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(kernel.Dir, name))
		}
		// It wants a folder in /run. The one that it sees is its own.
		ends(kernel.Serves(`Server listening on 10\.0\.0\.1 port 2222`, "sh", "-c", `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"`, "sh",
			sshd, "-D", "-e", "-f", kernel.Write("sshd_config", fmt.Sprintf(sshdConfig, kernel.Dir, "10.0.0.1"), 0o600)))
		j := stack.begins(bytes.NewReader(large), append(append([]string{ssh, "-p", "2222"}, sshOptions(kernel.Dir)...), "root@10.0.0.1", "cat")...)
		if s := j.Wait(); s != 0 || !bytes.Equal(j.Out.Bytes(), large) {
			t.Errorf("ssh cat: status %d, %d octets of %d\n%s", s, j.Out.Len(), len(large), j.Err.String())
		}
	})

	part("ping", func(t *testing.T, kernel *play.User, stack side) {
		const ping = "/usr/bin/ping"
		need.Command(t, ping, "iputils-ping")
		if out := stack.runs(ping, "-n", "-c", "2", "-i", "0.2", "-s", "8000", "10.0.0.1"); !strings.Contains(out, "2 received, 0% packet loss") {
			t.Errorf("ping:\n%s", out)
		}
	})

	part("dig", func(t *testing.T, kernel *play.User, stack side) {
		dnsmasq, dig := need.Command(t, "dnsmasq", "dnsmasq-base"), need.Command(t, "dig", "bind9-dnsutils")
		ends(kernel.Serves(`dnsmasq.*started`, dnsmasq, "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
			"--listen-address=10.0.0.1", "--bind-interfaces", "--user=", "--group=", "--pid-file=", "--address=/web.example/10.0.0.9"))
		for _, more := range []string{"+notcp", "+tcp"} {
			if out := stack.runs(dig, "+short", "+tries=2", "+time=5", more, "@10.0.0.1", "web.example"); out != "10.0.0.9\n" {
				t.Errorf("dig %s says %q", more, out)
			}
		}
	})
}
