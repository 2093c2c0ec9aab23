package onstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
)

// TestProgramsBetweenStacks has each program do what it is for, from one stack to
// another, as an ordinary user, while not one packet goes over the network that
// the machine gives it.
func TestProgramsBetweenStacks(t *testing.T) {
	d := newDesk(t)
	d.silence(t)
	for _, d.family = range families {
		t.Run(d.name, d.programs)
	}
}

// program is what one does, in a test of its own.
type program struct {
	name string
	run  func(*desk, *testing.T)
}

func (d *desk) programs(t *testing.T) {
	d.each(t, []program{
		{"ssh", (*desk).ssh},
		{"ping", (*desk).ping},
		{"dig, dnsmasq", (*desk).names},
	})
	d.each(t, anywhere)
}

func (d *desk) each(t *testing.T, programs []program) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) { p.run(d.in(t), t) })
	}
}

// anywhere are the programs whose one end may as well be a kernel's.
var anywhere = []program{
	{"nginx, curl, wget, wrk", (*desk).nginx},
	{"redis", (*desk).redis},
	{"python", (*desk).python},
	{"node", (*desk).node},
	{"net/http", (*desk).golang},
	{"iperf3", (*desk).iperf3},
	{"nc", (*desk).nc},
	{"socat", (*desk).socat},
	{"postgres", (*desk).postgres},
}

func (d *desk) redis(t *testing.T) {
	server := need.Command(t, "redis-server", "redis-server")
	benchmark := need.Command(t, "redis-benchmark", "redis-tools")
	cli := need.Command(t, "redis-cli", "redis-tools")
	d.b.serves(`Ready to accept connections`, server, "--port", "6379", "--protected-mode", "no", "--save", "", "--dir", d.Dir)
	for _, pipeline := range []string{"1", "16"} {
		r := d.a.tries(benchmark, "-h", d.there, "-n", "2000", "-c", "20", "-P", pipeline, "-d", "1000", "-t", "set,get", "--csv")
		if r.Status != 0 || strings.Contains(r.Err, "Could not connect") || !strings.Contains(r.Out, `"SET","`) || !strings.Contains(r.Out, `"GET","`) {
			t.Errorf("redis-benchmark with a pipeline of %s: status %d\n%s%s", pipeline, r.Status, r.Out, r.Err)
		}
	}
	if out := d.a.runs(cli, "-h", d.there, "set", "k", "v"); out != "OK\n" {
		t.Errorf("redis-cli says %q", out)
	}
}

func (d *desk) iperf3(t *testing.T) {
	iperf3 := need.Command(t, "iperf3", "iperf3")
	d.b.serves(`Server listening`, iperf3, "-s", "--forceflush", "-B", d.there)
	for _, more := range [][]string{{"-n", "64M"}, {"-n", "64M", "-R"}, {"-n", "64M", "-P", "4"}, {"-t", "1", "--bidir"}, {"-u", "-l", "1400", "-b", "4M", "-t", "1"}} {
		type result struct {
			End struct {
				Sent struct {
					Bytes float64
					Rate  float64 `json:"bits_per_second"`
				} `json:"sum_sent"`
				Received struct {
					Bytes float64
					Lost  float64 `json:"lost_percent"`
				} `json:"sum_received"`
			}
			Error string
		}
		var r result
		for late := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			r = result{}
			if err := json.Unmarshal([]byte(d.a.runs(append([]string{iperf3, "-c", d.there, "-J"}, more...)...)), &r); err != nil {
				t.Fatalf("iperf3 %q: %v", more, err)
			}
			// Between two tests it does not listen, and resets who came just before.
			early := strings.Contains(r.Error, "unable to connect to server") || strings.Contains(r.Error, "control message: Connection reset by peer")
			if !early || time.Now().After(late) {
				break
			}
		}
		if r.Error != "" {
			t.Fatalf("iperf3 %q: %s", more, r.Error)
		}
		t.Logf("iperf3 %q: %.2f Gbit/s", more, r.End.Sent.Rate/1e9)
		if r.End.Received.Bytes < 100_000 {
			t.Errorf("iperf3 %q: %.0f octets sent, %.0f received, %.0f %% lost", more, r.End.Sent.Bytes, r.End.Received.Bytes, r.End.Received.Lost)
		}
	}
}

// withShell is the desk where nobody may log in: a file of users of its own
// stands for the machine's.
func (d *desk) withShell() *desk {
	passwd := d.Write("passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::"+d.Dir+":/bin/sh\n", 0o644)
	d.b.etc("nsswitch.conf", "passwd: files\nshadow: files\n")
	e := *d
	for _, s := range []*side{&e.a, &e.b} {
		u := *s.User
		in := len([]string{"ip", "netns", "exec", d.ns.Name})
		u.Wrap = append(append(append([]string{}, u.Wrap[:in]...), "sh", "-c", `mount --bind "$0" /etc/passwd && exec "$@"`, passwd), u.Wrap[in:]...)
		s.User = &u
	}
	return &e
}

// sshdConfig has sshd serve at port 2222 of an address, with that key, those who
// have one of the keys of a file.
const sshdConfig = `Port 2222
ListenAddress %s
HostKey %s
AuthorizedKeysFile %s
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
`

// sshOptions are those of who has the key of a file.
func sshOptions(key string) []string {
	return []string{"-F", "none", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
}

func (d *desk) ssh(t *testing.T) {
	sshd := need.Command(t, "sshd", "openssh-server")
	ssh := need.Command(t, "ssh", "openssh-client")
	scp := need.Command(t, "scp", "openssh-client")
	keygen := need.Command(t, "ssh-keygen", "openssh-client")
	d = d.withShell()
	host, user := filepath.Join(d.Dir, "host-"+d.name), filepath.Join(d.Dir, "user-"+d.name)
	for _, key := range []string{host, user} {
		d.Must(keygen, "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	d.b.serves(`Server listening on `+d.there+` port 2222`, sshd, "-D", "-e", "-f", d.Write("sshd_config", fmt.Sprintf(sshdConfig, d.there, host, user+".pub"), 0o644))
	options := sshOptions(user)
	j := d.a.begins(bytes.NewReader(large), append(append([]string{ssh, "-p", "2222"}, options...), "nobody@"+d.there, "cat")...)
	if s := j.Wait(); s != 0 || !bytes.Equal(j.Out.Bytes(), large) {
		t.Errorf("ssh cat: status %d, %d octets of %d\n%s", s, j.Out.Len(), len(large), j.Err.String())
	}
	// Who is logged in is on the stack too: sshd's child has its socket and says whose.
	out := d.a.runs(append(append([]string{ssh, "-p", "2222"}, options...), "nobody@"+d.there, "echo $SSH_CONNECTION")...)
	if f := strings.Fields(out); len(f) != 4 || f[0] != d.here || f[2] != d.there || f[3] != "2222" {
		t.Errorf("SSH_CONNECTION is %q", out)
	}
	d.Write("large", string(large), 0o644)
	d.a.runs(append(append([]string{scp, "-P", "2222"}, options...), "nobody@"+boxed(d.there)+":large", "by-scp")...)
	d.a.wantFile("by-scp")
	// A forwarded port is served by the client's stack and leads to the server's.
	d.a.serves(`Local forwarding listening on `+d.lo+` port 2223`, append(append([]string{ssh, "-v", "-N", "-p", "2222", "-L", boxed(d.lo) + ":2223:" + at(d.there, 2222)},
		options[:len(options)-2]...), "nobody@"+d.there)...)
	if out := d.a.runs(append(append([]string{ssh, "-p", "2223"}, options...), "nobody@"+d.lo, "echo through")...); out != "through\n" {
		t.Errorf("ssh through a forwarded port says %q", out)
	}
}

func (d *desk) nc(t *testing.T) {
	nc := need.Command(t, "nc.openbsd", "netcat-openbsd")
	l := d.b.serves(`Listening on `+d.there+` 1234`, nc, "-lvnN", d.there, "1234")
	c := d.a.begins(bytes.NewReader(large), nc, "-vnN", d.there, "1234")
	if s := c.Wait(); s != 0 {
		t.Errorf("nc: status %d\n%s", s, c.Err.String())
	}
	l.Says(`Connection received on ` + d.here + ` \d+`)
	if s := l.Wait(); s != 0 || !bytes.HasSuffix([]byte(l.Err.String()), large[len(large)-1000:]) {
		t.Errorf("nc -l: status %d", s)
	}
	if r := d.a.tries(nc, "-vnz", d.there, "9"); r.Status != 1 || !strings.Contains(r.Err, "Connection refused") {
		t.Errorf("nc to a closed port: status %d, %s", r.Status, r.Err)
	}
	u := d.b.serves(`Bound on `+d.there+` 1235`, nc, "-ulvn", d.there, "1235")
	if r := d.a.tries("sh", "-c", "echo over datagrams | "+nc+" -un -w 1 "+d.there+" 1235"); r.Status != 0 {
		t.Errorf("nc -u: status %d, %s", r.Status, r.Err)
	}
	u.Says(`(?s)Connection received on ` + d.here + ` \d+\nover datagrams\n`)
}

func (d *desk) socat(t *testing.T) {
	socat := need.Command(t, "socat", "socat")
	listen := func(protocol string) string {
		return fmt.Sprintf("%s%d-LISTEN:1237,bind=%s,fork,reuseaddr", protocol, d.version, boxed(d.there))
	}
	d.b.serves(`listening on`, socat, "-T", "2", "-d", "-d", listen("TCP"), "EXEC:cat")
	d.b.serves(`listening on`, socat, "-T", "2", "-d", "-d", listen("UDP"), "EXEC:cat")
	d.b.serves(`receiving on`, socat, "-T", "2", "-d", "-d", fmt.Sprintf("UDP%d-RECVFROM:1238,bind=%s,fork", d.version, boxed(d.there)), "EXEC:cat")
	j := d.a.begins(bytes.NewReader(large), socat, "-t", "20", "-", fmt.Sprintf("TCP%d:%s", d.version, at(d.there, 1237)))
	if s := j.Wait(); s != 0 || !bytes.Equal(j.Out.Bytes(), large) {
		t.Errorf("socat: status %d, %d octets of %d\n%s", s, j.Out.Len(), len(large), j.Err.String())
	}
	for _, form := range []string{"UDP%d:%s:1237", "UDP%d:%s:1238", "UDP%d-DATAGRAM:%s:1238"} {
		to := fmt.Sprintf(form, d.version, boxed(d.there))
		// A shell at one side, which ends when it has heard the answer.
		r := d.a.tries(socat, to, `SYSTEM:"echo over datagrams; read -r said; echo $said >&2"`)
		if r.Status != 0 || r.Err != "over datagrams\n" {
			t.Errorf("socat %s: status %d, %q", to, r.Status, r.Err)
		}
	}
}

func (d *desk) ping(t *testing.T) {
	const ping = "/usr/bin/ping" // the system's, not ours
	need.Command(t, ping, "iputils-ping")
	for _, size := range []string{"56", "8000"} {
		out := d.a.runs(ping, "-n", "-c", "2", "-i", "0.2", "-s", size, d.there)
		if !strings.Contains(out, "2 packets transmitted, 2 received, 0% packet loss") || !strings.Contains(out, " bytes from "+d.there+": icmp_seq=2 ttl=") {
			t.Errorf("ping -s %s:\n%s", size, out)
		}
	}
	if r := d.a.tries(ping, "-n", "-c", "1", "-W", "5", d.nowhere); r.Status != 2 || !strings.Contains(r.Err, "Network is unreachable") {
		t.Errorf("ping of an address without a route: status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	if r := d.a.tries(ping, "-n", "-c", "1", "-W", "1", d.nobody); r.Status != 1 {
		t.Errorf("ping of nobody: status %d\n%s%s", r.Status, r.Out, r.Err)
	}
}

// names are served by dnsmasq on one stack and asked for on the other, by dig
// and by the C library, which finds its server in the stack's own resolv.conf.
func (d *desk) names(t *testing.T) {
	dnsmasq := need.Command(t, "dnsmasq", "dnsmasq-base")
	dig := need.Command(t, "dig", "bind9-dnsutils")
	d.b.serves(`dnsmasq.*started`, dnsmasq, "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
		"--listen-address="+d.there, "--bind-interfaces", "--user=", "--group=", "--pid-file=", "--address=/web.example/"+d.there,
		"--txt-record=long.example,"+strings.Repeat("x", 250)+","+strings.Repeat("y", 250)+","+strings.Repeat("z", 250)+","+strings.Repeat("w", 250)+","+strings.Repeat("v", 250)+","+strings.Repeat("u", 250))
	record := map[int]string{4: "A", 6: "AAAA"}[d.version]
	for _, more := range []string{"+notcp", "+tcp"} {
		if out := d.a.runs(dig, "+short", "+tries=2", "+time=5", more, "@"+d.there, "web.example", record); out != d.there+"\n" {
			t.Errorf("dig %s says %q", more, out)
		}
	}
	if out := d.a.runs(dig, "+short", "+bufsize=512", "+noedns", "@"+d.there, "long.example", "TXT"); !strings.Contains(out, "uuuu") {
		t.Errorf("dig of an answer that wants TCP says %q", out)
	}
	if r := d.a.tries(dig, "+tries=1", "+time=1", "@"+d.here, "web.example"); r.Status != 9 || !strings.Contains(r.Out, "connection refused") {
		t.Errorf("dig of nobody: status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	d.a.etc("resolv.conf", "nameserver "+d.there+"\n")
	d.a.etc("hosts", d.nobody+" hosts.example\n2001:db8:9::1 all.example\n10.0.0.2 all.example\nfd00::2 all.example\n")
	d.a.etc("nsswitch.conf", "hosts: files dns\n")
	for name, want := range map[string]string{"web.example": d.there, "hosts.example": d.nobody} {
		if out := d.a.runs("getent", fmt.Sprint("ahostsv", d.version), name); !strings.HasPrefix(out, want+" ") {
			t.Errorf("getent of %s says %q, want %s", name, out, want)
		}
	}
	// The C library asks by connecting which source each would have (RFC 6724).
	var order []string
	for line := range strings.Lines(d.a.runs("getent", "ahosts", "all.example")) {
		if f := strings.Fields(line); f[1] == "STREAM" {
			order = append(order, f[0])
		}
	}
	if want := []string{"fd00::2", "10.0.0.2", "2001:db8:9::1"}; !slices.Equal(order, want) {
		t.Errorf("getent finds %q, want %q", order, want)
	}
}

func (d *desk) postgres(t *testing.T) {
	bin := "/usr/lib/postgresql/VERSION/bin" // not on anybody's PATH
	if all, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(all) > 0 {
		bin = all[len(all)-1]
	}
	initdb, postgres := need.Command(t, bin+"/initdb", "postgresql"), need.Command(t, bin+"/postgres", "postgresql")
	pgbench := need.Command(t, "pgbench", "postgresql")
	data := filepath.Join(d.Dir, "pg")
	if !play.Exists(data) { // of another family
		d.Must(initdb, "-D", data, "-U", "u", "--no-sync", "--auth=trust", "--no-instructions")
	}
	d.Write("pg/pg_hba.conf", "host all all samenet trust\n", 0o600)
	d.b.serves(`database system is ready to accept connections`, postgres, "-D", data, "-c", "listen_addresses="+d.there,
		"-c", "unix_socket_directories=", "-c", "fsync=off")
	d.a.runs(pgbench, "-h", d.there, "-U", "u", "-i", "-q", "--partitions=1", "postgres")
	out := d.a.runs(pgbench, "-h", d.there, "-U", "u", "-c", "4", "-t", "25", "postgres")
	if !strings.Contains(out, "number of transactions actually processed: 100/100") {
		t.Errorf("pgbench:\n%s", out)
	}
}
