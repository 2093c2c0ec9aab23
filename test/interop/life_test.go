package interop

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ionet/client"
	"ionet/test/need"
)

// foreground starts io-net -f and answers when it has told systemd that it is
// READY.
func foreground(t *testing.T, u *user, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(u.run, "notify")
	os.Remove(path)
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	v := *u
	v.env = append(append([]string{}, u.env...), "NOTIFY_SOCKET="+path)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := v.command(ctx, "io-net", append([]string{"-f"}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	l.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := l.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), "READY=1") {
		cancel()
		cmd.Wait()
		t.Fatalf("systemd was told %q, %v; io-net says\n%s", buf[:n], err, log.String())
	}
	return cmd, &log
}

// pidOf is the process of a stack.
func pidOf(t *testing.T, prefix string) uint32 {
	t.Helper()
	s, err := client.Open(prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Hello().PID
}

func TestForegroundUntilSIGTERM(t *testing.T) {
	u := newUser(t)
	p := filepath.Join(u.run, "s")
	cmd, log := foreground(t, u, "-dne2000", "-ptcpip", "prefix="+p)
	u.at(p).must("ifconfig", "en0", "10.0.0.1")
	if r := u.try("io-net", "-ptcpip", "prefix="+p); r.status == 0 || !strings.Contains(r.err, p) {
		t.Errorf("a second io-net on a live prefix: status %d, %q", r.status, r.err)
	}
	u.must("kill", "-TERM", fmt.Sprint(pidOf(t, p)))
	if err := cmd.Wait(); err != nil {
		t.Errorf("io-net -f ends with %v\n%s", err, log.String())
	}
	wantLines(t, "standard error of io-net -f", log.String(), "tcpip starting")
	for _, f := range []string{"dev/socket/2", "dev/socket/17", "dev/io-net/en0"} {
		if exists(filepath.Join(p, f)) {
			t.Errorf("%s is still there after SIGTERM", f)
		}
	}
}

func TestLeftoversOfADeadStackAreCleaned(t *testing.T) {
	u := newUser(t)
	p := filepath.Join(u.run, "s")
	cmd, _ := foreground(t, u, "-dne2000", "-ptcpip", "prefix="+p)
	u.must("kill", "-KILL", fmt.Sprint(pidOf(t, p)))
	if err := cmd.Wait(); err == nil {
		t.Fatal("io-net survives SIGKILL")
	}
	if r := u.at(p).try("ifconfig", "-a"); r.status != 1 || !strings.Contains(r.err, "io-net") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("ifconfig on a dead stack: status %d, %q", r.status, r.err)
	}
	u.ionet(p, "-dne2000", "-ptcpip", "prefix="+p)
	u.at(p).must("ifconfig", "en0", "10.0.0.1")
}

func TestAsPID1(t *testing.T) {
	need.Command(t, "unshare", "util-linux")
	u := newUser(t)
	p := filepath.Join(u.run, "s")
	v := *u
	v.wrap = append(append([]string{}, u.wrap...), "unshare", "-Urpf", "--mount-proc")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := v.command(ctx, "sh", "-c", `exec io-net -f -dne2000 -ptcpip prefix="$0"`, p)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if r := u.try("waitfor", filepath.Join(p, "dev/socket/2"), "20"); r.status != 0 {
		t.Fatalf("no stack as PID 1:\n%s", log.String())
	}
	u.at(p).must("ifconfig", "en0", "10.0.0.1")
	u.at(p).must("io-net", "--stop")
	if err := cmd.Wait(); err != nil {
		t.Errorf("io-net as PID 1 ends with %v\n%s", err, log.String())
	}
}

func TestRefusalsAreOneSentence(t *testing.T) {
	u := newUser(t)
	long := filepath.Join(u.run, strings.Repeat("very-long-name/", 30))
	foreign := filepath.Join(u.run, "foreign")
	if err := os.MkdirAll(filepath.Join(foreign, "dev/socket"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(foreign, "dev/socket/2"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(filepath.Join(foreign, "dev/socket/2"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		r    result
		says string
	}{
		{"no stack", u.try("netstat", "-rn"), "no stack"},
		{"a missing prefix", u.at(u.run+"/nowhere").try("ifconfig", "-a"), u.run + "/nowhere"},
		{"a foreign socket", u.at(foreign).try("ifconfig", "-a"), foreign},
		{"an unknown driver", u.try("io-net", "-d", "frobnicate", "-ptcpip", "prefix="+u.run+"/x"), "frobnicate"},
		{"no protocol", u.try("io-net", "-dne2000"), "-p"},
		{"ipsec without IPv6", u.try("io-net", "-p", "tcpip-v4", "ipsec"), "ipsec"},
		{"a bad address", u.try("ifconfig", "en0", "10.0.0.256"), "10.0.0.256"},
	} {
		if c.r.status == 0 || !strings.Contains(c.r.err, c.says) {
			t.Errorf("%s: status %d, %q; want a failure that names %s", c.what, c.r.status, c.r.err, c.says)
		}
	}
	// A prefix beyond sun_path is reached another way, or refused by name.
	r := u.try("io-net", "-ptcpip", "prefix="+long)
	if r.status == 0 {
		u.at(long).must("ifconfig", "-a")
		u.at(long).must("io-net", "--stop")
	} else if !strings.Contains(r.err, "very-long-name") {
		t.Errorf("a prefix too long: %q", r.err)
	}
}
