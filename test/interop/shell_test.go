package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ionet/client"
	"ionet/test/need"
)

// job is a command in the background. What it says on standard error can be
// waited for.
type job struct {
	t   testing.TB
	cmd *exec.Cmd
	out bytes.Buffer // its standard output, after wait
	err said
}

// said is what a command says while it runs.
type said struct {
	mu    sync.Mutex
	text  bytes.Buffer
	moved chan struct{}
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	select {
	case s.moved <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// begin starts a command, which is killed after a minute or with the test.
func (u *user) begin(in io.Reader, name string, args ...string) *job {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	j := &job{t: u.t, cmd: u.command(ctx, name, args...)}
	j.err.moved = make(chan struct{}, 1)
	j.cmd.Stdin, j.cmd.Stdout, j.cmd.Stderr = in, &j.out, &j.err
	if err := j.cmd.Start(); err != nil {
		cancel()
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		cancel()
		_ = j.cmd.Wait()
	})
	return j
}

// says waits until standard error has a line that matches re, and answers
// what its groups matched.
func (j *job) says(re string) []string {
	j.t.Helper()
	late := time.After(30 * time.Second)
	for r := regexp.MustCompile(re); ; {
		if m := r.FindStringSubmatch(j.err.String()); m != nil {
			return m
		}
		select {
		case <-j.err.moved:
		case <-late:
			j.t.Fatalf("%q does not say %s but\n%s", j.cmd.Args, re, j.err.String())
		}
	}
}

// wait answers the exit status, after the end.
func (j *job) wait() int {
	j.t.Helper()
	err := j.cmd.Wait()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		j.t.Fatalf("%q: %v", j.cmd.Args, err)
	}
	return j.cmd.ProcessState.ExitCode()
}

// pair are two stacks of a user on a wire, 10.0.0.1 and 10.0.0.2.
func pair(t *testing.T) (a, b *user) {
	t.Helper()
	u := newUser(t)
	var side [2]*user
	for i := range side {
		p := filepath.Join(u.run, fmt.Sprint("s", i+1))
		u.ionet(p, "-d", "wire", "path="+filepath.Join(u.run, "w"), "-p", "tcpip", "prefix="+p)
		side[i] = u.at(p)
		side[i].must("ifconfig", "en0", fmt.Sprintf("10.0.0.%d/24", i+1))
	}
	return side[0], side[1]
}

// sock is a client of the user's stack.
func (u *user) sock() *client.Stack {
	u.t.Helper()
	s, err := client.Open(strings.TrimPrefix(u.env[len(u.env)-1], "SOCK="))
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestShellCarriesAFile(t *testing.T) {
	a, b := pair(t)
	for _, name := range []string{"nc", "ionet"} {
		word := []string{}
		if name == "ionet" {
			word = []string{"nc"}
		}
		l := b.begin(nil, name, append(word, "-lvd", "1234")...)
		l.says(`Listening on 0\.0\.0\.0 1234\n`)
		file := bytes.Repeat(pattern, 8)
		c := a.begin(bytes.NewReader(file), name, append(word, "-N", "10.0.0.2", "1234")...)
		if s := c.wait(); s != 0 || c.err.String() != "" {
			t.Errorf("sending: status %d, %s", s, c.err.String())
		}
		if s := l.wait(); s != 0 {
			t.Errorf("receiving: status %d, %s", s, l.err.String())
		}
		if l.says(`Connection received on 10\.0\.0\.1 \d+\n`); sha256.Sum256(l.out.Bytes()) != sha256.Sum256(file) {
			t.Errorf("%d octets arrived that are not the %d of the file", l.out.Len(), len(file))
		}
	}
}

// nc tells open ports from closed ones, and says why there is no connection.
func TestShellLooksForPorts(t *testing.T) {
	a, b := pair(t)
	s := b.sock()
	l, err := s.Listen("tcp", "10.0.0.2:21")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pc, err := s.ListenPacket("udp", "10.0.0.2:21")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	r := a.try("nc", "-nvz", "10.0.0.2", "20-22")
	want := "nc: connect to 10.0.0.2 port 20 (tcp): Connection refused\n" +
		"Connection to 10.0.0.2 21 port [tcp/*] succeeded!\n" +
		"nc: connect to 10.0.0.2 port 22 (tcp): Connection refused\n"
	if r.status != 0 || r.err != want {
		t.Errorf("nc -z: status %d\n%swant\n%s", r.status, r.err, want)
	}
	if r := a.try("nc", "-nz", "10.0.0.2", "22"); r.status != 1 || r.err != "nc: connect to 10.0.0.2 port 22 (tcp): Connection refused\n" {
		t.Errorf("a closed port: status %d, %q", r.status, r.err)
	}
	if r := a.try("nc", "-nz", "-w", "0.2", "10.0.0.99", "22"); r.status != 1 || !strings.Contains(r.err, "no answer within 200ms") {
		t.Errorf("nobody there: status %d, %q", r.status, r.err)
	}
	if r := a.try("nc", "-nz", "-s", "10.0.0.7", "10.0.0.2", "21"); r.status != 1 || !strings.Contains(r.err, "Can't assign requested address") {
		t.Errorf("an address that is not ours: status %d, %q", r.status, r.err)
	}
	r = a.try("nc", "-nuz", "10.0.0.2", "20-21")
	if r.status != 0 || r.err != "Connection to 10.0.0.2 21 port [udp/*] succeeded!\n" {
		t.Errorf("nc -uz: status %d, %q", r.status, r.err)
	}
}

func TestShellDatagrams(t *testing.T) {
	a, b := pair(t)
	pc, err := b.sock().ListenPacket("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go echo(pc)
	c := a.begin(strings.NewReader("hello\n"), "nc", "-u", "-w", "1", "10.0.0.2", "7")
	if s := c.wait(); s != 0 || c.out.String() != "hello\n" {
		t.Errorf("nc -u: status %d, %q, %s", s, c.out.String(), c.err.String())
	}
}

// The nc that others wrote speaks with ours over a TAP, whoever listens.
func TestShellWithTheKernel(t *testing.T) {
	theirs := need.Command(t, "nc", "netcat-openbsd")
	ns, u, _ := kernelHost(t)
	l := u.begin(strings.NewReader("from the stack"), "nc", "-lvN", "1234")
	l.says(`Listening on`)
	out, err := ns.Try("sh", "-c", "printf 'from the kernel' | "+theirs+" -nN 10.0.0.2 1234")
	if s := l.wait(); err != nil || s != 0 || out != "from the stack" || l.out.String() != "from the kernel" {
		t.Errorf("the kernel connects: %v, status %d; it got %q, we %q", err, s, out, l.out.String())
	}
	if out, err := ns.Try(theirs, "-nvz", "-w", "5", "10.0.0.2", "1235"); err == nil || !strings.Contains(out, "refused") {
		t.Errorf("a closed port: %v, %s", err, out)
	}
	k := u.begin(strings.NewReader("from the kernel"), theirs, "-nlvN", "10.0.0.1", "1234")
	k.says(`Listening on`)
	c := u.begin(strings.NewReader("from the stack"), "nc", "-nN", "10.0.0.1", "1234")
	if s, ks := c.wait(), k.wait(); s != 0 || ks != 0 || c.out.String() != "from the kernel" || k.out.String() != "from the stack" {
		t.Errorf("the stack connects: status %d and %d; we got %q, it %q", s, ks, c.out.String(), k.out.String())
	}
}

// web serves the same page on a listener.
func web(t *testing.T, l net.Listener, page string) {
	t.Helper()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %d\n", page, r.Host, n)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

func TestProxyForCurl(t *testing.T) {
	curl := need.Command(t, "curl", "curl")
	a, b := pair(t)
	l, err := b.sock().Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	web(t, l, "the stack's page for")
	// The host's own, to which the other stack's port will lead.
	h, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web(t, h, "the host's page for")
	etc := filepath.Join(strings.TrimPrefix(a.env[len(a.env)-1], "SOCK="), "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "hosts"), []byte("10.0.0.2 www.stack\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	p := a.begin(nil, "ionet", "proxy", "-v", "--listen", "127.0.0.1:0", "-L", "0:www.stack:80", "-R", "8080:"+h.Addr().String())
	at := p.says(`msg=listening serves="SOCKS5, HTTP" address=(\S+)\n`)[1]
	left := p.says(`msg=listening via=-L to=\S+ address=(\S+)\n`)[1]
	p.says(`msg=listening via=-R to=\S+ address=0\.0\.0\.0:8080\n`)
	body := filepath.Join(a.run, "body")
	if err := os.WriteFile(body, pattern, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what, want string
		args       []string
	}{
		{"SOCKS5, a name", "the stack's page for www.stack 0\n", []string{"-x", "socks5h://" + at, "http://www.stack/"}},
		{"SOCKS5, an address", "the stack's page for 10.0.0.2 0\n", []string{"-x", "socks5://" + at, "http://10.0.0.2/"}},
		{"HTTP", "the stack's page for www.stack 0\n", []string{"-x", "http://" + at, "http://www.stack/"}},
		{"HTTP, a large body", fmt.Sprintf("the stack's page for www.stack %d\n", len(pattern)), []string{"-x", "http://" + at, "--data-binary", "@" + body, "http://www.stack/"}},
		{"HTTP CONNECT", "the stack's page for www.stack 0\n", []string{"-p", "-x", "http://" + at, "http://www.stack/"}},
		{"-L", "the stack's page for " + left + " 0\n", []string{"http://" + left + "/"}},
	} {
		if got := a.must(curl, append([]string{"-sS", "--max-time", "20"}, tc.args...)...); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.want)
		}
	}
	if r := a.try(curl, "-sS", "--max-time", "20", "-x", "socks5h://"+at, "http://www.stack:81/"); r.status != 97 && r.status != 7 {
		t.Errorf("a closed port by SOCKS5: curl's status %d, %s", r.status, r.err)
	}
	if got := a.must(curl, "-sS", "-o", os.DevNull, "-w", "%{http_code}", "--max-time", "20", "-x", "http://"+at, "http://www.stack:81/"); got != "502" {
		t.Errorf("a closed port by HTTP: %q, want 502", got)
	}
	// From the other stack through -R to the host.
	c := b.begin(strings.NewReader("GET / HTTP/1.0\r\nHost: right\r\n\r\n"), "nc", "10.0.0.1", "8080")
	if s := c.wait(); s != 0 || !strings.HasSuffix(c.out.String(), "\r\n\r\nthe host's page for right 0\n") {
		t.Errorf("-R: status %d, %q, %s", s, c.out.String(), c.err.String())
	}
	p.says(`msg=closed via=-R from=10\.0\.0\.2:\d+ to=127\.0\.0\.1:\d+ sent=31 received=\d+\n`)

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if s := p.wait(); s != 0 {
		t.Errorf("after SIGTERM: status %d\n%s", s, p.err.String())
	}
	if r := a.try(curl, "-sS", "http://"+at+"/"); r.status != 7 {
		t.Errorf("the port is still open after the end: curl's status %d", r.status)
	}
}

// A proxy whose stack ends says so.
func TestProxyEndsWithItsStack(t *testing.T) {
	u := newUser(t)
	prefix := filepath.Join(u.run, "s")
	u.ionet(prefix, "-ptcpip", "prefix="+prefix)
	u = u.at(prefix)
	p := u.begin(nil, "ionet", "proxy", "--json", "--listen", "127.0.0.1:0")
	p.says(`"msg":"listening","serves":"SOCKS5, HTTP","address":"127\.0\.0\.1:\d+"`)
	u.must("io-net", "--stop")
	if s := p.wait(); s != 1 || !strings.Contains(p.err.String(), "proxy: the stack has ended") {
		t.Errorf("status %d\n%s", s, p.err.String())
	}
}

// A connection is seen by netstat in its states and broken off by tcpdrop.
func TestShellDropsAConnection(t *testing.T) {
	a, b := pair(t)
	l := b.begin(nil, "nc", "-lvd", "1234")
	l.says(`Listening on`)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer typed.Close()
	listens := regexp.MustCompile(`(?m)^tcp        0      0  \*\.1234                 \*\.\*                    LISTEN$`)
	if out := b.must("netstat", "-an"); !listens.MatchString(out) {
		t.Errorf("netstat -an lacks the listener:\n%s", out)
	}
	c := a.begin(in, "nc", "-v", "10.0.0.2", "1234")
	c.says(`succeeded`)
	port := l.says(`Connection received on 10\.0\.0\.1 (\d+)\n`)[1]
	wantLines(t, "netstat -n", a.must("netstat", "-n"),
		fmt.Sprintf("\ntcp        0      0  %-22s 10.0.0.2.1234          ESTABLISHED\n", "10.0.0.1."+port))
	m := regexp.MustCompile(`(?m)^ *([0-9a-f]+) tcp +0 +0 10\.0\.0\.1\.` + port + ` +10\.0\.0\.2\.1234 +ESTABL$`).FindStringSubmatch(a.must("netstat", "-nA"))
	if m == nil {
		t.Fatalf("netstat -nA lacks the connection:\n%s", a.must("netstat", "-nA"))
	}
	wantLines(t, "netstat -P", a.must("netstat", "-P", m[1]), "TCP Protocol Control Block at 0x", "Foreign: 10.0.0.2.1234\n",
		"State: ESTABLISHED, options <TIMESTAMPS,SACK,WSCALE,ECN>, congestion cubic, open\n", "peermss 1460, segsz 1448, rcvsz 0, mtu 1500\n")
	wantLines(t, "netstat -s -p tcp", a.must("netstat", "-s", "-p", "tcp"), "tcp:\n", "\t1 connection request\n", "\t1 connection established (including accepts)\n")

	line := a.must("tcpdrop", "10.0.0.1", port, "10.0.0.2", "1234")
	if want := fmt.Sprintf("10.0.0.1:%s 10.0.0.2:1234: dropped\n", port); line != want {
		t.Errorf("tcpdrop: %q, want %q", line, want)
	}
	if s := c.wait(); s != 1 || !strings.HasSuffix(c.err.String(), "\nnc: receive: Software caused connection abort\n") {
		t.Errorf("our end: status %d, %s", s, c.err.String())
	}
	if s := l.wait(); s != 1 || !strings.HasSuffix(l.err.String(), "\nnc: receive: Connection reset by peer\n") {
		t.Errorf("the other end: status %d, %s", s, l.err.String())
	}
	if r := a.try("tcpdrop", "10.0.0.1."+port, "10.0.0.2.1234"); r.status != 1 || r.err != "tcpdrop: 10.0.0.1."+port+" 10.0.0.2.1234: no such connection\n" {
		t.Errorf("again: status %d, %q", r.status, r.err)
	}
}
