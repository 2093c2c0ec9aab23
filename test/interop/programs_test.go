package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// office is a kernel, the first of the family, whose programs reach the stack
// beside it, the second, over a TAP, and which runs the stack's proxy: the ports
// that serve names are the stack's and lead to those of the kernel's loopback,
// and every name of reach is a loopback port that leads through the stack to
// that of the kernel's address.
type office struct {
	*play.User
	socks string         // address of the proxy
	left  map[int]string // by port of the kernel
}

func newOffice(t *testing.T, v family, serve, reach []int) office {
	t.Helper()
	ns, u, _ := play.KernelHost(t)
	play.SpeakIPv6(ns, u)
	args := []string{"proxy", "-v", "--listen", "127.0.0.1:0"}
	for _, p := range serve {
		args = append(args, "-R", fmt.Sprintf("%d:127.0.0.1:%[1]d", p))
	}
	for _, p := range reach {
		args = append(args, "-L", "0:"+at(v.one, p))
	}
	j := u.Begin(nil, "ionet", args...)
	o := office{User: u, left: map[int]string{}}
	o.socks = j.Says(`msg=listening serves="SOCKS5, HTTP" address=(\S+)\n`)[1]
	for _, p := range reach {
		o.left[p] = j.Says(`msg=listening via=-L to=` + regexp.QuoteMeta(at(v.one, p)) + ` address=(\S+)\n`)[1]
	}
	for _, p := range serve {
		j.Says(fmt.Sprintf(`msg=listening via=-R to=\S+ address=\[::\]:%d\n`, p))
	}
	return o
}

// split is host and port as two words.
func split(address string) (host, port string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err)
	}
	return host, port
}

// iperf3 measures through the stack both ways, as a server behind it and as one
// that it connects to, with one stream and with four.
func TestIperf3(t *testing.T) { inBoth(t, iperfThrough) }

func iperfThrough(t *testing.T, v family) {
	iperf3 := need.Command(t, "iperf3", "iperf3")
	o := newOffice(t, v, []int{5201}, []int{5202})
	o.Serves(`Server listening`, iperf3, "-s", "--forceflush", "-B", "127.0.0.1", "-p", "5201")
	o.Serves(`Server listening`, iperf3, "-s", "--forceflush", "-B", v.one, "-p", "5202")
	for _, to := range []string{at(v.two, 5201), o.left[5202]} {
		for _, more := range [][]string{nil, {"-R"}, {"-P", "4"}, {"-R", "-P", "4"}} {
			host, port := split(to)
			out := o.Must(iperf3, append([]string{"-c", host, "-p", port, "-J", "-n", "64M"}, more...)...)
			var r struct {
				End struct {
					Sent struct {
						Bytes float64
						Rate  float64 `json:"bits_per_second"`
					} `json:"sum_sent"`
					Received struct{ Bytes float64 } `json:"sum_received"`
				}
				Error string
			}
			if err := json.Unmarshal([]byte(out), &r); err != nil || r.Error != "" {
				t.Fatalf("iperf3 -c %s %q: %v %s", to, more, err, r.Error)
			}
			t.Logf("iperf3 -c %s %q: %.2f Gbit/s", to, more, r.End.Sent.Rate/1e9)
			// It ends when all is sent, with much on its way through the proxy.
			if sent, got := r.End.Sent.Bytes, r.End.Received.Bytes; sent < 64<<20 || got < 16<<20 || got > sent {
				t.Errorf("iperf3 -c %s %q: %.0f octets sent, %.0f received", to, more, sent, got)
			}
		}
	}
}

// A web server of the kernel's answers through the stack, whoever connects:
// curl gets a large file whole, wrk many small answers without an error.
func TestNginxCurlAndWrk(t *testing.T) { inBoth(t, webThrough) }

func webThrough(t *testing.T, v family) {
	nginx := need.Command(t, "nginx", "nginx-light")
	curl := need.Command(t, "curl", "curl")
	wrk := need.Command(t, "wrk", "wrk")
	o := newOffice(t, v, []int{8081}, []int{8080})
	page := bytes.Repeat(pattern, 32)
	o.Write("large", string(page), 0o644)
	o.Write("small", "a small answer\n", 0o644)
	conf := o.Write("nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr notice;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	server { listen %[2]s; listen 127.0.0.1:8081; root %[1]s; }
}
`, o.Dir, at(v.one, 8080)), 0o644)
	o.Serves(`using the "epoll" event method`, nginx, "-p", o.Dir, "-c", conf)
	for _, args := range [][]string{
		{"http://" + at(v.two, 8081) + "/large"},
		{"http://" + o.left[8080] + "/large"},
		{"-x", "socks5h://" + o.socks, "http://" + at(v.one, 8080) + "/large"},
		{"-x", "http://" + o.socks, "http://" + at(v.one, 8080) + "/large"},
	} {
		o.Must(curl, append([]string{"-sS", "--max-time", "60", "-o", "got"}, args...)...)
		got, err := os.ReadFile(filepath.Join(o.Dir, "got"))
		if err != nil || sha256.Sum256(got) != sha256.Sum256(page) {
			t.Errorf("curl %q: %d octets that are not the %d of the file, %v", args, len(got), len(page), err)
		}
	}
	for _, at := range []string{at(v.two, 8081), o.left[8080]} {
		out := o.Must(wrk, "-t", "1", "-c", "20", "-d", "1s", "http://"+at+"/small")
		if m := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(out); m == nil || len(m[1]) < 3 ||
			strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
			t.Errorf("wrk of %s:\n%s", at, out)
		}
	}
}

func TestRedisBenchmark(t *testing.T) { inBoth(t, redisThrough) }

func redisThrough(t *testing.T, v family) {
	server := need.Command(t, "redis-server", "redis-server")
	benchmark := need.Command(t, "redis-benchmark", "redis-tools")
	o := newOffice(t, v, []int{6379}, []int{6379})
	o.Serves(`Ready to accept connections`, server, "--port", "6379", "--bind", "127.0.0.1", v.one, "--protected-mode", "no",
		"--save", "", "--dir", o.Dir)
	for _, at := range []string{at(v.two, 6379), o.left[6379]} {
		host, port := split(at)
		for _, pipeline := range []string{"1", "16"} {
			out := o.Must(benchmark, "-h", host, "-p", port, "-n", "5000", "-c", "20", "-P", pipeline, "-d", "1000", "-t", "set,get", "--csv")
			if !strings.Contains(out, `"SET","`) || !strings.Contains(out, `"GET","`) {
				t.Errorf("redis-benchmark of %s, pipeline of %s:\n%s", at, pipeline, out)
			}
		}
	}
}

// ssh goes through the stack's nc to the kernel's sshd, and to one behind the
// stack, and carries a file both ways.
func TestSSH(t *testing.T) { inBoth(t, sshThrough) }

func sshThrough(t *testing.T, v family) {
	sshd := need.Command(t, "sshd", "openssh-server")
	ssh := need.Command(t, "ssh", "openssh-client")
	keygen := need.Command(t, "ssh-keygen", "openssh-client")
	o := newOffice(t, v, []int{2222}, nil)
	for _, name := range []string{"host", "user"} {
		o.Must(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(o.Dir, name))
	}
	conf := o.Write("sshd_config", fmt.Sprintf(`Port 2222
ListenAddress 127.0.0.1
ListenAddress %[2]s
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
`, o.Dir, v.one), 0o600)
	// It wants a folder in /run. The one that it sees is its own.
	o.Serves(`Server listening on 127\.0\.0\.1 port 2222`, "sh", "-c", `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"`, "sh",
		sshd, "-D", "-e", "-f", conf)
	file := bytes.Repeat(pattern, 4)
	for _, way := range [][]string{
		{"-o", "ProxyCommand=" + filepath.Join(o.Bin, "ionet") + " nc %h %p", v.one},
		{v.two},
	} {
		j := o.Begin(bytes.NewReader(file), ssh, append(append([]string{"-F", "none", "-p", "2222", "-l", "root", "-i", filepath.Join(o.Dir, "user"),
			"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"}, way...), "cat")...)
		if s := j.Wait(); s != 0 || sha256.Sum256(j.Out.Bytes()) != sha256.Sum256(file) {
			t.Errorf("ssh %q: status %d, %d octets of %d\n%s", way, s, j.Out.Len(), len(file), j.Err.String())
		}
	}
}
