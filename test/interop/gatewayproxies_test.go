package interop

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/need"
)

// serveFTP has vsftpd serve the host's folder pub at port 21, and answers the file of its log.
func (h *gatewayHost) serveFTP() (log string) {
	h.T.Helper()
	vsftpd := need.Command(h.T, "vsftpd", "vsftpd")
	for _, dir := range []string{"pub", "empty"} {
		if err := os.Mkdir(filepath.Join(h.Dir, dir), 0o555); err != nil {
			h.T.Fatal(err)
		}
	}
	log = filepath.Join(h.Dir, "vsftpd.log")
	conf := h.Write("vsftpd.conf", fmt.Sprintf(`listen=YES
background=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
ftp_username=daemon
anon_root=%[1]s/pub
anon_world_readable_only=NO
secure_chroot_dir=%[1]s/empty
connect_from_port_20=YES
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file=%[2]s
`, h.Dir, log), 0o600)
	h.Begin(nil, vsftpd, conf)
	return log
}

// gets has curl fetch large from a server of FTP, as more says.
func (h *gatewayHost) gets(t *testing.T, from string, want [32]byte, more ...string) {
	t.Helper()
	curl := need.Command(t, "curl", "curl")
	h.Must(curl, append([]string{"-sS", "--max-time", "50", "--retry", "30", "--retry-connrefused", "--retry-delay", "1", "-o", "got", "ftp://" + from + "/large"}, more...)...)
	got, err := os.ReadFile(filepath.Join(h.Dir, "got"))
	if err != nil || sha256.Sum256(got) != want {
		t.Errorf("curl %q: %d octets that are not the file's, %v", more, len(got), err)
	}
}

// What a filter lets by is the control connection; the data connections of a client inside, and of a server
// inside, come of it.
func TestGatewayFTP(t *testing.T) {
	g := newGateway(t)
	a, o := g.hosts[insideA], g.hosts[outside]
	g.guard(`block in on en0 proto tcp all
block in on en2 proto tcp all
block out on en0 proto tcp all
block out on en2 proto tcp all
pass in quick on en0 proto tcp from any to any port = 21 flags S keep state
pass in quick on en2 proto tcp from any to 10.1.0.2/32 port = 21 flags S keep state
`, `map en2 10.1.0.0/24 -> 0/32 proxy port 21 ftp/tcp
map en2 10.1.0.0/24 -> 0/32 portmap tcp/udp 40000:49999
rdr en2 192.0.2.1/32 port 2121 -> 10.1.0.2 port 21 tcp proxy ftp
`)
	page := strings.Repeat(string(pattern), 1<<20/len(pattern))
	want := sha256.Sum256([]byte(page))
	logs := map[*gatewayHost]string{}
	for _, h := range []*gatewayHost{a, o} {
		logs[h] = h.serveFTP()
		h.Write("pub/large", page, 0o444)
	}
	ways := [][]string{{"-P", "-"}, {"-P", "-", "--disable-eprt"}, nil, {"--disable-epsv", "--no-ftp-skip-pasv-ip"}}
	for _, more := range ways {
		a.gets(t, o.own(families[0]), want, more...)
		o.gets(t, "192.0.2.1:2121", want, more...)
	}
	said := func(h *gatewayHost, patterns ...string) {
		t.Helper()
		b, err := os.ReadFile(logs[h])
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range patterns {
			if !regexp.MustCompile(p).Match(b) {
				t.Errorf("no %s in\n%s", p, b)
			}
		}
	}
	said(o, `Client "192\.0\.2\.1", "PORT 192,0,2,1,`, `"EPRT \|1\|192\.0\.2\.1\|`)
	said(a, `Client "192\.0\.2\.2", "PORT 192,0,2,2,`, `"227 Entering Passive Mode \(10,1,0,2,`)
	// The server outside sends to whoever the client says; nobody else is let in.
	if r := o.Try(need.Command(t, "curl", "curl"), "-sS", "--max-time", "2", "telnet://192.0.2.1:40000"); r.Status == 0 {
		t.Error("a connection from outside comes in")
	}
	if list := g.Must("ipnat", "-l"); !strings.Contains(list, "[192.0.2.2 21]") || !strings.Contains(list, "[192.0.2.2 20]") {
		t.Errorf("no sessions of control and data:\n%s", list)
	}
}

// A kernel that speaks IPv6 alone reaches one that speaks IPv4 alone, and the filter sees IPv6.
func TestGatewayNAT64(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	g := newGateway(t)
	a, o := g.hosts[insideA], g.hosts[outside]
	g.Must("route", "add", "-inet6", "64:ff9b::", "-prefixlen", "96", "2001:db8:9::2")
	g.guard(`block in on en2 family inet all
block out on en2 family inet all
block in on en2 family inet6 from 64:ff9b::/96 to any
pass in quick on en0 family inet6 from any to 64:ff9b::/96 keep state
`, "nat64 en2 64:ff9b::/96 -> 0/32\n")
	a.ns.Exec("ip", "-4", "addr", "flush", "dev", "tap0")
	const to = "64:ff9b::c000:202"
	for _, size := range []string{"0", "56", "1400"} {
		if out := a.pings(to, "-s", size); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("%s octets:\n%s", size, out)
		}
	}
	if out := a.pings(to, "-t", "1"); !strings.Contains(out, "From 2001:db8:1::1 icmp_seq=1 Time exceeded") {
		t.Errorf("a hop limit of 1:\n%s", out)
	}
	// A port that nobody has: what the kernel of IPv4 says about it arrives in ICMPv6.
	if out := a.Must(need.Command(t, "traceroute", "traceroute"), "-n", "-w", "5,9999,9999", "-U", to); !through("2001:db8:1::1", to).MatchString(out) {
		t.Errorf("traceroute:\n%s", out)
	}
	curl := need.Command(t, "curl", "curl")
	page := strings.Repeat(string(pattern), 4<<20/len(pattern))
	o.Write("large", page, 0o644)
	o.serveFiles()
	a.Must(curl, "-sS", "--max-time", "50", "-o", "got", "http://"+at(to, 8080)+"/large")
	if got, err := os.ReadFile(filepath.Join(a.Dir, "got")); err != nil || sha256.Sum256(got) != sha256.Sum256([]byte(page)) {
		t.Errorf("curl: %d octets that are not the %d of the file, %v", len(got), len(page), err)
	}
	// Both ways as a stream, and datagrams in fragments.
	iperf3 := need.Command(t, "iperf3", "iperf3")
	o.serveMeasures()
	for _, more := range [][]string{{"-n", "32M"}, {"-R", "-n", "32M"}, {"-u", "-l", "5000", "-b", "20M", "-n", "1M"}, {"-u", "-l", "5000", "-b", "20M", "-n", "1M", "-R"}} {
		var r struct {
			End struct {
				Received struct {
					Bytes float64
					Rate  float64 `json:"bits_per_second"`
				} `json:"sum_received"`
				Sum struct {
					Packets     float64
					LostPackets float64 `json:"lost_packets"`
				} `json:"sum"`
			}
			Error string
		}
		out := a.Must(iperf3, append([]string{"-6", "-c", to, "-p", "5201", "-J"}, more...)...)
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Error != "" || r.End.Received.Bytes < 1<<19 {
			t.Errorf("iperf3 %q: %v %s, %.0f octets received\n%s", more, err, r.Error, r.End.Received.Bytes, out)
		}
		t.Logf("iperf3 %q: %.2f Gbit/s, %.0f of %.0f lost", more, r.End.Received.Rate/1e9, r.End.Sum.LostPackets, r.End.Sum.Packets)
	}
	lines := o.watch("icmp or (tcp port 8080 and not greater 300)", func() {
		a.pings(to)
		a.Must(curl, "-sS", "--max-time", "50", "-o", "got", "http://"+at(to, 8080)+"/large")
	})
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "192.0.2.1 > 192.0.2.2: ICMP echo request") || !strings.Contains(text, "192.0.2.2.8080 > 192.0.2.1.") {
		t.Errorf("seen outside:\n%.4000s", text)
	}
}
