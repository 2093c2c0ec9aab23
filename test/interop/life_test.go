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
	"ionet/test/play"
)

// foreground starts io-net -f and answers when it has told systemd that it is
// READY.
func foreground(t *testing.T, u *play.User, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(u.Dir, "notify")
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
	v.Env = append(append([]string{}, u.Env...), "NOTIFY_SOCKET="+path)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := v.Command(ctx, "io-net", append([]string{"-f"}, args...)...)
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
	u := play.NewUser(t)
	p := filepath.Join(u.Dir, "s")
	cmd, log := foreground(t, u, "-dne2000", "-ptcpip", "prefix="+p)
	u.At(p).Must("ifconfig", "en0", "10.0.0.1")
	if r := u.Try("io-net", "-ptcpip", "prefix="+p); r.Status == 0 || !strings.Contains(r.Err, p) {
		t.Errorf("a second io-net on a live prefix: status %d, %q", r.Status, r.Err)
	}
	u.Must("kill", "-TERM", fmt.Sprint(pidOf(t, p)))
	if err := cmd.Wait(); err != nil {
		t.Errorf("io-net -f ends with %v\n%s", err, log.String())
	}
	play.WantLines(t, "standard error of io-net -f", log.String(), "tcpip starting")
	for _, f := range []string{"dev/socket/2", "dev/socket/17", "dev/io-net/en0"} {
		if play.Exists(filepath.Join(p, f)) {
			t.Errorf("%s is still there after SIGTERM", f)
		}
	}
}

func TestLeftoversOfADeadStackAreCleaned(t *testing.T) {
	u := play.NewUser(t)
	p := filepath.Join(u.Dir, "s")
	cmd, _ := foreground(t, u, "-dne2000", "-ptcpip", "prefix="+p)
	u.Must("kill", "-KILL", fmt.Sprint(pidOf(t, p)))
	if err := cmd.Wait(); err == nil {
		t.Fatal("io-net survives SIGKILL")
	}
	if r := u.At(p).Try("ifconfig", "-a"); r.Status != 1 || !strings.Contains(r.Err, "io-net") || strings.Count(r.Err, "\n") != 1 {
		t.Errorf("ifconfig on a dead stack: status %d, %q", r.Status, r.Err)
	}
	u.Ionet(p, "-dne2000", "-ptcpip", "prefix="+p)
	u.At(p).Must("ifconfig", "en0", "10.0.0.1")
}

func TestAsPID1(t *testing.T) {
	need.Command(t, "unshare", "util-linux")
	u := play.NewUser(t)
	p := filepath.Join(u.Dir, "s")
	v := *u
	v.Wrap = append(append([]string{}, u.Wrap...), "unshare", "-Urpf", "--mount-proc")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := v.Command(ctx, "sh", "-c", `exec io-net -f -dne2000 -ptcpip prefix="$0"`, p)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if r := u.Try("waitfor", filepath.Join(p, "dev/socket/2"), "20"); r.Status != 0 {
		t.Fatalf("no stack as PID 1:\n%s", log.String())
	}
	u.At(p).Must("ifconfig", "en0", "10.0.0.1")
	u.At(p).Must("io-net", "--stop")
	if err := cmd.Wait(); err != nil {
		t.Errorf("io-net as PID 1 ends with %v\n%s", err, log.String())
	}
}

func TestRefusalsAreOneSentence(t *testing.T) {
	u := play.NewUser(t)
	long := filepath.Join(u.Dir, strings.Repeat("very-long-name/", 30))
	foreign := filepath.Join(u.Dir, "foreign")
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
		r    play.Result
		says string
	}{
		{"no stack", u.Try("netstat", "-rn"), "no stack"},
		{"a missing prefix", u.At(u.Dir+"/nowhere").Try("ifconfig", "-a"), u.Dir + "/nowhere"},
		{"a foreign socket", u.At(foreign).Try("ifconfig", "-a"), foreign},
		{"an unknown driver", u.Try("io-net", "-d", "frobnicate", "-ptcpip", "prefix="+u.Dir+"/x"), "frobnicate"},
		{"no protocol", u.Try("io-net", "-dne2000"), "-p"},
		{"ipsec without IPv6", u.Try("io-net", "-p", "tcpip-v4", "ipsec"), "ipsec"},
		{"a bad address", u.Try("ifconfig", "en0", "10.0.0.256"), "10.0.0.256"},
	} {
		if c.r.Status == 0 || !strings.Contains(c.r.Err, c.says) {
			t.Errorf("%s: status %d, %q; want a failure that names %s", c.what, c.r.Status, c.r.Err, c.says)
		}
	}
	// A prefix beyond sun_path is reached another way, or refused by name.
	r := u.Try("io-net", "-ptcpip", "prefix="+long)
	if r.Status == 0 {
		u.At(long).Must("ifconfig", "-a")
		u.At(long).Must("io-net", "--stop")
	} else if !strings.Contains(r.Err, "very-long-name") {
		t.Errorf("a prefix too long: %q", r.Err)
	}
}
