// Package onstack runs programs that others wrote on a stack, as they are
// installed, each with its normal use, and holds what their calls answer to what
// a kernel answers.
package onstack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/test/need"
	"ionet/test/play"
)

func TestMain(m *testing.M) { need.Main(m) }

// family is the addresses of a network in one version of IP.
type family struct {
	name    string
	version int
	here    string // that of side a
	there   string // that of side b
	nobody  string // one of the network that nobody has
	nowhere string // one to which there is no route
	lo      string
}

var families = []family{
	{"IPv4", 4, "10.0.0.1", "10.0.0.2", "10.0.0.77", "198.51.100.1", "127.0.0.1"},
	{"IPv6", 6, "fd00::1", "fd00::2", "fd00::77", "2001:db8:9::1", "::1"},
}

// boxed is an address as it stands before a port.
func boxed(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}

// at is an address with a port.
func at(address string, port int) string { return fmt.Sprintf("%s:%d", boxed(address), port) }

// six gives a stack an address of IPv6, which it uses at once.
func six(u *play.User, address string) {
	u.T.Helper()
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	u.Must("ifconfig", "en0", "inet6", address, "prefixlen", "64")
}

// desk is an ordinary user and two sides to run programs on: clients on a, servers
// on b.
type desk struct {
	*play.User
	family
	ns   *need.NS
	a, b side
}

// side is a stack to run programs on, or the kernel.
type side struct {
	*play.User
	kernel bool
}

// newDesk is one with two stacks on a wire, in a network namespace that has nothing
// but lo. A program that used the namespace's network would be seen by its sniffer.
func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{ns: need.Namespace(t)}
	d.User = play.NewUser(t).In(d.ns)
	a, b := play.PairOf(d.User)
	d.a, d.b = side{User: a}, side{User: b}
	six(a, families[1].here)
	six(b, families[1].there)
	return d
}

// in is the desk in a part of its test.
func (d *desk) in(t testing.TB) *desk {
	return &desk{d.User.For(t), d.family, d.ns, d.a.in(t), d.b.in(t)}
}

// in is the side in a part of its test.
func (s side) in(t testing.TB) side { return side{s.For(t), s.kernel} }

// line is a program's command on that side.
func (s side) line(line []string) []string {
	if s.kernel {
		return line
	}
	return append([]string{filepath.Join(s.Bin, "onstack")}, line...)
}

// etc gives the stack a file that stands for the machine's in /etc.
func (s side) etc(name, text string) {
	s.T.Helper()
	prefix := strings.TrimPrefix(s.Env[len(s.Env)-1], "SOCK=")
	if err := os.MkdirAll(filepath.Join(prefix, "etc"), 0o755); err != nil {
		s.T.Fatal(err)
	}
	s.Write(filepath.Join(filepath.Base(prefix), "etc", name), text, 0o644)
}

// runs has a program run on the side, which has to succeed, and answers its
// standard output.
func (s side) runs(line ...string) string {
	s.T.Helper()
	line = s.line(line)
	return s.Must(line[0], line[1:]...)
}

// tries is runs for a program that may fail.
func (s side) tries(line ...string) play.Result {
	s.T.Helper()
	line = s.line(line)
	return s.Try(line[0], line[1:]...)
}

// serves starts a program that serves on the side, and waits until it says so.
// It ends with the test.
func (s side) serves(ready string, line ...string) *play.Job {
	s.T.Helper()
	j := s.Serves(ready, s.line(line)...)
	ends(j)
	return j
}

// ends has a server end with the test of its own accord, so that its descriptors
// are closed before somebody waits for that.
func ends(j *play.Job) {
	j.T.Cleanup(func() {
		_ = j.Cmd.Process.Signal(unix.SIGINT)
		_ = j.Cmd.Process.Signal(unix.SIGTERM)
		_ = j.Cmd.Wait()
	})
}

// begins starts a program beside the test.
func (s side) begins(in io.Reader, line ...string) *play.Job {
	s.T.Helper()
	line = s.line(line)
	return s.Begin(in, line[0], line[1:]...)
}

// large is a file that fills every buffer on its way several times.
var large = func() []byte {
	b := make([]byte, 0, 3<<20)
	for sum := sha256.Sum256(nil); len(b) < cap(b); sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b
}()

// wantFile fails unless the user's file of that name is large.
func (s side) wantFile(name string) {
	s.T.Helper()
	got, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil || !bytes.Equal(got, large) {
		s.T.Errorf("%s has %d octets that are not the %d that were sent, %v", name, len(got), len(large), err)
	}
}

// silence has a sniffer listen to every interface of the namespace, lo included,
// until the end of the test, which fails if there was a packet. The last one,
// which the test sends itself, shows that the sniffer has ears.
func (d *desk) silence(t *testing.T) {
	t.Helper()
	tcpdump := need.Command(t, "tcpdump", "tcpdump")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := d.ns.Command(ctx, tcpdump, "-i", "any", "-n", "-l", "--immediate-mode")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(said); s.Scan() && !strings.Contains(s.Text(), "listening on"); {
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	t.Cleanup(func() {
		defer func() {
			cancel()
			_ = cmd.Wait()
		}()
		time.AfterFunc(20*time.Second, cancel)
		const word = "58901" // the port of the packet that the test sends
		if out, err := d.ns.Command(ctx, "bash", "-c", "echo > /dev/udp/127.0.0.1/"+word).CombinedOutput(); err != nil {
			t.Errorf("the last packet: %v %s", err, out)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Errorf("the sniffer has seen nothing at all: %v", lines.Err())
		}
		for strange := 0; !strings.Contains(lines.Text(), "127.0.0.1."+word); strange++ {
			if strange < 10 {
				t.Errorf("a packet of the host's network: %s", lines.Text())
			}
			if !lines.Scan() {
				t.Errorf("the sniffer has ended: %v", lines.Err())
				return
			}
		}
	})
}
