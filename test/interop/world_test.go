package interop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
)

// world is a machine for an ordinary user to sit at: user, network, mount and
// process namespaces, which an ordinary user made too.
type world struct {
	*play.User          // sits there, as user 1000 without any capability
	root       []string // what a command line of its superuser begins with
}

// newWorld makes one. Its superuser runs script to arrange it, with $RUN the
// user's folder. Whatever runs in it after the test is killed with it.
func newWorld(t testing.TB, script string) *world {
	t.Helper()
	u := play.NewUser(t)
	unshare := need.Command(t, "unshare", "util-linux")
	nsenter := need.Command(t, "nsenter", "util-linux")
	namespaces := append(append([]string{}, u.Wrap...), unshare, "--user", "--map-root-user", "--net", "--mount",
		"--pid", "--fork", "--kill-child", "--mount-proc", "--")
	if out, err := exec.Command(namespaces[0], append(namespaces[1:], "true")...).CombinedOutput(); err != nil {
		need.Missing(t, "an ordinary user may not make namespaces here: %v: %s", err, bytes.TrimSpace(out))
	}
	// Its first process ends with its standard input, hence with the test
	// whatever becomes of that, and everybody else ends with the first.
	line := append(namespaces, "sh", "-ec", script+"\necho ready\nread -r _ || :")
	holder := exec.Command(line[0], line[1:]...)
	holder.Env = append(os.Environ(), "RUN="+u.Dir, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	holder.Dir = u.Dir
	var complaints bytes.Buffer
	holder.Stderr = &complaints
	holder.WaitDelay = 5 * time.Second
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = holder.Wait()
	})
	timer := time.AfterFunc(20*time.Second, func() { _ = holder.Process.Kill() })
	defer timer.Stop()
	if answer, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || answer != "ready\n" {
		stdin.Close()
		_ = holder.Wait()
		t.Fatalf("the script of the world: %v, %q\n%s", err, answer, complaints.String())
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", holder.Process.Pid))
	first := strings.TrimSpace(string(children))
	if err != nil || first == "" {
		t.Fatalf("the first process of the world: %v, %q", err, first)
	}
	w := &world{User: u}
	w.root = append(append([]string{}, u.Wrap...), nsenter, "--target", first, "--user", "--net", "--mount", "--pid",
		"--preserve-credentials", "--")
	u.Wrap = append(append([]string{}, w.root...), unshare, "--user", "--map-user=1000", "--map-group=1000", "--wd=/tmp", "--")
	return w
}

// rootMust runs a command of the world's superuser, that has to succeed.
func (w *world) rootMust(name string, args ...string) string {
	w.T.Helper()
	u := *w.User
	u.Wrap = w.root
	return u.Must(name, args...)
}

// console is a shell at the other end of a serial line.
type console struct {
	t   testing.TB
	in  io.Writer
	out <-chan string // lines; closed at the end of the line
	log []string
}

func newConsole(t testing.TB, in io.Writer, out io.Reader) *console {
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- strings.TrimRight(s.Text(), "\r")
		}
	}()
	return &console{t: t, in: in, out: lines}
}

// wait returns what comes before a line that begins with prompt, and the rest
// of that line.
func (c *console) wait(ctx context.Context, prompt string) (text, rest string) {
	c.t.Helper()
	var b strings.Builder
	for {
		select {
		case l, ok := <-c.out:
			if !ok {
				c.t.Fatalf("the console ended; want %q:\n%s", prompt, strings.Join(c.log, "\n"))
			}
			c.log = append(c.log, l)
			if rest, ok := strings.CutPrefix(l, prompt); ok {
				return b.String(), rest
			}
			b.WriteString(l + "\n")
		case <-ctx.Done():
			c.t.Fatalf("the console says no %q: %v\n%s", prompt, context.Cause(ctx), strings.Join(c.log, "\n"))
		}
	}
}

// try has the shell run a line, for at most 30 seconds.
func (c *console) try(line string) (out, status string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
	return c.wait(ctx, "status=")
}
