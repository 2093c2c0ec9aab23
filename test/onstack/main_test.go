// Package onstack runs programs that others wrote on a stack, as they are
// installed, each with its normal use, and holds what their calls answer to what
// a kernel answers.
package onstack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
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

// desk is an ordinary user in a network namespace that has nothing but lo, with
// two stacks on a wire: a is 10.0.0.1 and b is 10.0.0.2. A program that used the
// namespace's network would be seen by its sniffer.
type desk struct {
	*play.User
	ns   *need.NS
	a, b side
}

// side is a stack to run programs on.
type side struct{ *play.User }

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{ns: need.Namespace(t)}
	d.User = play.NewUser(t).In(d.ns)
	a, b := play.PairOf(d.User)
	d.a, d.b = side{a}, side{b}
	return d
}

// in is the desk in a part of its test.
func (d *desk) in(t testing.TB) *desk {
	return &desk{d.User.For(t), d.ns, side{d.a.For(t)}, side{d.b.For(t)}}
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

// runs has a program run on the stack, which has to succeed, and answers its
// standard output.
func (s side) runs(line ...string) string {
	s.T.Helper()
	return s.Must("onstack", line...)
}

// tries is runs for a program that may fail.
func (s side) tries(line ...string) play.Result {
	s.T.Helper()
	return s.Try("onstack", line...)
}

// serves starts a program that serves on the stack, and waits until it says so.
// It ends with the test.
func (s side) serves(ready string, line ...string) *play.Job {
	s.T.Helper()
	j := s.Serves(ready, append([]string{filepath.Join(s.Bin, "onstack")}, line...)...)
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
	return s.Begin(in, "onstack", line...)
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
