package interop

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

func TestShellCarriesAFile(t *testing.T) {
	a, b := play.Pair(t)
	for _, name := range []string{"nc", "ionet"} {
		word := []string{}
		if name == "ionet" {
			word = []string{"nc"}
		}
		l := b.Begin(nil, name, append(word, "-lvd", "1234")...)
		l.Says(`Listening on :: 1234\n`)
		file := bytes.Repeat(pattern, 8)
		c := a.Begin(bytes.NewReader(file), name, append(word, "-N", "10.0.0.2", "1234")...)
		if s := c.Wait(); s != 0 || c.Err.String() != "" {
			t.Errorf("sending: status %d, %s", s, c.Err.String())
		}
		if s := l.Wait(); s != 0 {
			t.Errorf("receiving: status %d, %s", s, l.Err.String())
		}
		if l.Says(`Connection received on 10\.0\.0\.1 \d+\n`); sha256.Sum256(l.Out.Bytes()) != sha256.Sum256(file) {
			t.Errorf("%d octets arrived that are not the %d of the file", l.Out.Len(), len(file))
		}
	}
}

// nc tells open ports from closed ones, and says why there is no connection.
func TestShellLooksForPorts(t *testing.T) {
	a, b := play.Pair(t)
	s := b.Open()
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
	r := a.Try("nc", "-nvz", "10.0.0.2", "20-22")
	want := "nc: connect to 10.0.0.2 port 20 (tcp): Connection refused\n" +
		"Connection to 10.0.0.2 21 port [tcp/*] succeeded!\n" +
		"nc: connect to 10.0.0.2 port 22 (tcp): Connection refused\n"
	if r.Status != 0 || r.Err != want {
		t.Errorf("nc -z: status %d\n%swant\n%s", r.Status, r.Err, want)
	}
	if r := a.Try("nc", "-nz", "10.0.0.2", "22"); r.Status != 1 || r.Err != "nc: connect to 10.0.0.2 port 22 (tcp): Connection refused\n" {
		t.Errorf("a closed port: status %d, %q", r.Status, r.Err)
	}
	if r := a.Try("nc", "-nz", "-w", "0.2", "10.0.0.99", "22"); r.Status != 1 || !strings.Contains(r.Err, "no answer within 200ms") {
		t.Errorf("nobody there: status %d, %q", r.Status, r.Err)
	}
	if r := a.Try("nc", "-nz", "-s", "10.0.0.7", "10.0.0.2", "21"); r.Status != 1 || !strings.Contains(r.Err, "Can't assign requested address") {
		t.Errorf("an address that is not ours: status %d, %q", r.Status, r.Err)
	}
	r = a.Try("nc", "-nuz", "10.0.0.2", "20-21")
	if r.Status != 0 || r.Err != "Connection to 10.0.0.2 21 port [udp/*] succeeded!\n" {
		t.Errorf("nc -uz: status %d, %q", r.Status, r.Err)
	}
}

func TestShellDatagrams(t *testing.T) {
	a, b := play.Pair(t)
	pc, err := b.Open().ListenPacket("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go echo(pc)
	c := a.Begin(strings.NewReader("hello\n"), "nc", "-u", "-w", "1", "10.0.0.2", "7")
	if s := c.Wait(); s != 0 || c.Out.String() != "hello\n" {
		t.Errorf("nc -u: status %d, %q, %s", s, c.Out.String(), c.Err.String())
	}
}

// The nc that others wrote speaks with ours over a TAP, whoever listens.
func TestShellWithTheKernel(t *testing.T) {
	theirs := need.Command(t, "nc", "netcat-openbsd")
	ns, u, _ := play.KernelHost(t)
	l := u.Begin(strings.NewReader("from the stack"), "nc", "-lvN", "1234")
	l.Says(`Listening on`)
	out, err := ns.Try("sh", "-c", "printf 'from the kernel' | "+theirs+" -nN 10.0.0.2 1234")
	if s := l.Wait(); err != nil || s != 0 || out != "from the stack" || l.Out.String() != "from the kernel" {
		t.Errorf("the kernel connects: %v, status %d; it got %q, we %q", err, s, out, l.Out.String())
	}
	if out, err := ns.Try(theirs, "-nvz", "-w", "5", "10.0.0.2", "1235"); err == nil || !strings.Contains(out, "refused") {
		t.Errorf("a closed port: %v, %s", err, out)
	}
	k := u.Begin(strings.NewReader("from the kernel"), theirs, "-nlvN", "10.0.0.1", "1234")
	k.Says(`Listening on`)
	c := u.Begin(strings.NewReader("from the stack"), "nc", "-nN", "10.0.0.1", "1234")
	if s, ks := c.Wait(), k.Wait(); s != 0 || ks != 0 || c.Out.String() != "from the kernel" || k.Out.String() != "from the stack" {
		t.Errorf("the stack connects: status %d and %d; we got %q, it %q", s, ks, c.Out.String(), k.Out.String())
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
	a, b := play.Pair(t)
	l, err := b.Open().Listen("tcp", "10.0.0.2:80")
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
	etc := filepath.Join(strings.TrimPrefix(a.Env[len(a.Env)-1], "SOCK="), "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "hosts"), []byte("10.0.0.2 www.stack\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	p := a.Begin(nil, "ionet", "proxy", "-v", "--listen", "127.0.0.1:0", "-L", "0:www.stack:80", "-R", "8080:"+h.Addr().String())
	at := p.Says(`msg=listening serves="SOCKS5, HTTP" address=(\S+)\n`)[1]
	left := p.Says(`msg=listening via=-L to=\S+ address=(\S+)\n`)[1]
	p.Says(`msg=listening via=-R to=\S+ address=\[::\]:8080\n`)
	body := filepath.Join(a.Dir, "body")
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
		if got := a.Must(curl, append([]string{"-sS", "--max-time", "20"}, tc.args...)...); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.want)
		}
	}
	if r := a.Try(curl, "-sS", "--max-time", "20", "-x", "socks5h://"+at, "http://www.stack:81/"); r.Status != 97 && r.Status != 7 {
		t.Errorf("a closed port by SOCKS5: curl's status %d, %s", r.Status, r.Err)
	}
	if got := a.Must(curl, "-sS", "-o", os.DevNull, "-w", "%{http_code}", "--max-time", "20", "-x", "http://"+at, "http://www.stack:81/"); got != "502" {
		t.Errorf("a closed port by HTTP: %q, want 502", got)
	}
	// From the other stack through -R to the host.
	c := b.Begin(strings.NewReader("GET / HTTP/1.0\r\nHost: right\r\n\r\n"), "nc", "10.0.0.1", "8080")
	if s := c.Wait(); s != 0 || !strings.HasSuffix(c.Out.String(), "\r\n\r\nthe host's page for right 0\n") {
		t.Errorf("-R: status %d, %q, %s", s, c.Out.String(), c.Err.String())
	}
	p.Says(`msg=closed via=-R from=10\.0\.0\.2:\d+ to=127\.0\.0\.1:\d+ sent=31 received=\d+\n`)

	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if s := p.Wait(); s != 0 {
		t.Errorf("after SIGTERM: status %d\n%s", s, p.Err.String())
	}
	if r := a.Try(curl, "-sS", "http://"+at+"/"); r.Status != 7 {
		t.Errorf("the port is still open after the end: curl's status %d", r.Status)
	}
}

// A proxy whose stack ends says so.
func TestProxyEndsWithItsStack(t *testing.T) {
	u := play.NewUser(t)
	prefix := filepath.Join(u.Dir, "s")
	u.Ionet(prefix, "-ptcpip", "prefix="+prefix)
	u = u.At(prefix)
	p := u.Begin(nil, "ionet", "proxy", "--json", "--listen", "127.0.0.1:0")
	p.Says(`"msg":"listening","serves":"SOCKS5, HTTP","address":"127\.0\.0\.1:\d+"`)
	u.Must("io-net", "--stop")
	if s := p.Wait(); s != 1 || !strings.Contains(p.Err.String(), "proxy: the stack has ended") {
		t.Errorf("status %d\n%s", s, p.Err.String())
	}
}

// A connection is seen by netstat in its states and broken off by tcpdrop.
func TestShellDropsAConnection(t *testing.T) {
	a, b := play.Pair(t)
	l := b.Begin(nil, "nc", "-lvd", "1234")
	l.Says(`Listening on`)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer typed.Close()
	listens := regexp.MustCompile(`(?m)^tcp6       0      0  \*\.1234                 \*\.\*                    LISTEN$`)
	if out := b.Must("netstat", "-an"); !listens.MatchString(out) {
		t.Errorf("netstat -an lacks the listener:\n%s", out)
	}
	c := a.Begin(in, "nc", "-v", "10.0.0.2", "1234")
	c.Says(`succeeded`)
	port := l.Says(`Connection received on 10\.0\.0\.1 (\d+)\n`)[1]
	play.WantLines(t, "netstat -n", a.Must("netstat", "-n"),
		fmt.Sprintf("\ntcp        0      0  %-22s 10.0.0.2.1234          ESTABLISHED\n", "10.0.0.1."+port))
	m := regexp.MustCompile(`(?m)^ *([0-9a-f]+) tcp +0 +0 10\.0\.0\.1\.` + port + ` +10\.0\.0\.2\.1234 +ESTABL$`).FindStringSubmatch(a.Must("netstat", "-nA"))
	if m == nil {
		t.Fatalf("netstat -nA lacks the connection:\n%s", a.Must("netstat", "-nA"))
	}
	play.WantLines(t, "netstat -P", a.Must("netstat", "-P", m[1]), "TCP Protocol Control Block at 0x", "Foreign: 10.0.0.2.1234\n",
		"State: ESTABLISHED, options <TIMESTAMPS,SACK,WSCALE,ECN>, congestion cubic, open\n", "peermss 1460, segsz 1448, rcvsz 0, mtu 1500\n")
	play.WantLines(t, "netstat -s -p tcp", a.Must("netstat", "-s", "-p", "tcp"), "tcp:\n", "\t1 connection request\n", "\t1 connection established (including accepts)\n")

	line := a.Must("tcpdrop", "10.0.0.1", port, "10.0.0.2", "1234")
	if want := fmt.Sprintf("10.0.0.1:%s 10.0.0.2:1234: dropped\n", port); line != want {
		t.Errorf("tcpdrop: %q, want %q", line, want)
	}
	if s := c.Wait(); s != 1 || !strings.HasSuffix(c.Err.String(), "\nnc: receive: Software caused connection abort\n") {
		t.Errorf("our end: status %d, %s", s, c.Err.String())
	}
	if s := l.Wait(); s != 1 || !strings.HasSuffix(l.Err.String(), "\nnc: receive: Connection reset by peer\n") {
		t.Errorf("the other end: status %d, %s", s, l.Err.String())
	}
	if r := a.Try("tcpdrop", "10.0.0.1."+port, "10.0.0.2.1234"); r.Status != 1 || r.Err != "tcpdrop: 10.0.0.1."+port+" 10.0.0.2.1234: no such connection\n" {
		t.Errorf("again: status %d, %q", r.Status, r.Err)
	}
}
