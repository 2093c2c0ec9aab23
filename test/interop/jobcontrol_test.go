package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/test/need"
	"ionet/test/play"
)

// terminal is an interactive bash at a terminal of its own.
type terminal struct {
	t      testing.TB
	master *os.File
	cmd    *exec.Cmd
	mu     sync.Mutex
	text   []byte
	moved  chan struct{}
}

func newTerminal(u *play.User) *terminal {
	u.T.Helper()
	bash := need.Command(u.T, "bash", "bash")
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		need.Missing(u.T, "no terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		u.T.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		u.T.Fatal(err)
	}
	defer tty.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	c := &terminal{t: u.T, master: master, cmd: u.Command(ctx, bash, "--norc", "--noprofile", "-i"), moved: make(chan struct{}, 1)}
	c.cmd.Env = append(c.cmd.Env, "PS1=> ", "PS2=", "TERM=dumb", "INPUTRC=/dev/null", "HISTFILE=")
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = tty, tty, tty
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		u.T.Fatal(err)
	}
	go c.read()
	u.T.Cleanup(func() {
		cancel() // the session's other processes hear SIGHUP
		_ = c.cmd.Wait()
		master.Close()
	})
	c.types("stty -echo; echo rea\"\"dy\n")
	c.says(`ready\r?\n`)
	return c
}

func (c *terminal) read() {
	b := make([]byte, 4096)
	for {
		n, err := c.master.Read(b)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.text = append(c.text, b[:n]...)
		c.mu.Unlock()
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
}

func (c *terminal) types(keys string) {
	c.t.Helper()
	if _, err := c.master.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// says waits for what matches re, forgets what stands before it, and answers what
// the groups match.
func (c *terminal) says(re string) []string {
	c.t.Helper()
	late := time.After(30 * time.Second)
	for r := regexp.MustCompile(re); ; {
		c.mu.Lock()
		at := r.FindSubmatchIndex(c.text)
		if at != nil {
			var groups []string
			for i := 0; i < len(at); i += 2 {
				groups = append(groups, string(c.text[max(at[i], 0):max(at[i+1], 0)]))
			}
			c.text = c.text[at[1]:]
			c.mu.Unlock()
			return groups
		}
		text := string(c.text)
		c.mu.Unlock()
		select {
		case <-c.moved:
		case <-late:
			c.t.Fatalf("the terminal does not say %s but %q", re, text)
		}
	}
}

const (
	keyINT  = "\x03"
	keySUSP = "\x1a"
	keyQUIT = "\x1c"
)

// state is the letter of a process in ps(1).
func state(t testing.TB, pid string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

// hasTerminal waits until the terminal is the process's.
func hasTerminal(t testing.TB, pid string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); err == nil && f[2] == f[5] {
			return
		}
	}
	t.Fatalf("the terminal does not become that of process %s", pid)
}

func TestJobControl(t *testing.T) {
	need.File(t, "/usr/bin/python3")
	u, _ := alone(t)
	u.Write("waits.py", `
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"again\n"))
os.write(1, b"pid=%d\n" % os.getpid())
while True: time.sleep(0.2) # pause(2) would miss one that comes just before it
`, 0o644)
	c := newTerminal(u)

	// Ctrl-Z, bg, fg, Ctrl-C.
	c.types("onstack /usr/bin/python3 waits.py\n")
	pid := c.says(`pid=(\d+)`)[1]
	for range 5 {
		c.types(keySUSP)
		c.says(`(?s)Stopped.*> `)
		if s := state(t, pid); s != "T" {
			t.Errorf("the program is %q after Ctrl-Z", s)
		}
		c.types("fg\n")
		c.says(`(?s)onstack /usr.*again\r`)
	}
	c.types(keySUSP)
	c.says(`(?s)Stopped.*> `)
	c.types("bg\n")
	c.says(`again`)
	c.types("jobs -r\n")
	c.says(`Running +onstack`)
	if s := state(t, pid); s == "T" {
		t.Errorf("the program is %q after bg", s)
	}
	c.types("fg\n")
	c.says(`onstack /usr`)
	hasTerminal(t, pid)
	c.types(keyINT)
	c.says(`> `)
	c.types("echo status=$?\n")
	c.says(`status=130`)
	if s := state(t, pid); s != "" {
		t.Errorf("the program is %q after Ctrl-C", s)
	}

	// A program that is not impressed; it has each key once.
	c.types("onstack sh -c 'trap \"echo caught int\" INT; trap \"\" TSTP; echo up; while :; do read x; done'\n")
	c.says(`up`)
	c.types(keySUSP + keyINT)
	c.says(`caught int`)
	c.types(keyQUIT)
	said := c.says(`(?s)(.*)> `)[1]
	c.types("echo status=$?\n")
	if s := said + c.says(`(?s)(.*)status=131`)[1]; strings.Contains(s, "Stopped") || strings.Contains(s, "caught") {
		t.Errorf("a program that ignores SIGTSTP and catches SIGINT: %q", s)
	}

	// Stopped by somebody else, and continued by him: the shell sees both.
	c.types("onstack /usr/bin/python3 waits.py\n")
	pid = c.says(`pid=(\d+)`)[1]
	u.Must("kill", "-STOP", pid)
	c.says(`(?s)Stopped.*> `)
	c.types("set -b\n")
	c.says(`> `) // while it runs a builtin it tells of no job
	u.Must("kill", "-CONT", pid)
	u.Must("kill", "-TERM", pid)
	c.says(`Exit 9`)
	c.types("\n")
	c.says(`> `)

	// A shell inside has its own jobs, and the terminal comes back.
	c.types("PS1='in ' onstack bash --norc --noprofile -i\n")
	c.says(`in `)
	c.types("/usr/bin/python3 waits.py\n")
	c.says(`pid=`)
	c.types(keySUSP)
	c.says(`(?s)Stopped +/usr/bin/python3.*in `)
	c.types("kill -9 %1; while [ \"$(jobs -s)\" ]; do :; done; suspend\n") // exit refuses while it has not heard of the end
	c.says(`(?s)Stopped.*> `)
	c.types("echo ou\"\"ter; fg\n")
	c.says(`(?s)outer.*onstack bash`)
	c.types("echo inn\"\"er; exit 5\n")
	c.says(`inner`)
	c.says(`> `)
	c.types("echo status=$?\n")
	c.says(`status=5`)
}

// TestEndsWhileStopped: who ends a stopped program, or continues it for a moment,
// has ended what its shell waits for.
func TestEndsWhileStopped(t *testing.T) {
	need.File(t, "/usr/bin/python3")
	u, _ := alone(t)
	prog := u.Write("stops.py", `
import os, signal
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
os._exit(9)
`, 0o644)
	for kill, want := range map[string]string{"KILL": "137", "CONT": "9"} {
		for range 5 {
			out := u.Must("timeout", "30", "sh", "-c", `onstack /usr/bin/python3 "$0" >said & front=$!
until grep -q '(.*) T' /proc/$front/stat; do sleep 0.01; done
kill -$1 $(cat said)
wait $front; echo $?`, prog, kill)
			if strings.TrimSpace(out) != want {
				t.Errorf("SIG%s to a program that is stopped: status %s, want %s", kill, out, want)
			}
		}
	}
}

// TestSignalsArriveOnce: what is sent to onstack's process is the program's, and
// what is sent to the group too reaches it once.
func TestSignalsArriveOnce(t *testing.T) {
	need.File(t, "/usr/bin/python3")
	u, _ := alone(t)
	prog := u.Write("signals.py", `
import os, signal, sys, time
for s in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGRTMIN + 1):
    signal.signal(s, lambda n, _: os.write(2, b"got %d\n" % n))
print("up", file=sys.stderr, flush=True)
while True: time.sleep(0.2) # pause(2) would miss one that comes just before it
`, 0o644)
	j := u.Begin(nil, "setsid", "sh", "-c", `echo front=$$ >&2; exec onstack /usr/bin/python3 "$0"`, prog)
	front := j.Says(`front=(\d+)`)[1]
	j.Says(`up`)
	for _, s := range []string{"HUP", "INT", "TERM", "USR1", "WINCH", "35"} {
		u.Must("kill", "-"+s, "--", "-"+front)
		u.Must("kill", "-USR2", front) // comes later than anything twice would
		j.Says(fmt.Sprintf(`(?s)(got 12.*){%d}`, 1+strings.Count(j.Err.String(), "got 12")))
	}
	for _, n := range []int{1, 2, 15, 10, 28} {
		if c := strings.Count(j.Err.String(), fmt.Sprintf("got %d\n", n)); c != 1 {
			t.Errorf("signal %d to the group came %d times", n, c)
		}
	}
	u.Must("kill", "-KILL", front)
	if status := j.Wait(); status != -1 {
		t.Errorf("status %d after SIGKILL", status)
	}
}

// TestEndsAsTheProgramEnds: exit status, signal, and the sentence of a program
// that cannot be run.
func TestEndsAsTheProgramEnds(t *testing.T) {
	u, _ := alone(t)
	for line, want := range map[string]string{
		"exit 0": "0", "exit 77": "77",
		"kill -TERM $$": "143", "kill -KILL $$": "137", "kill -PIPE $$": "141", "kill -SEGV $$": "139", "kill -ABRT $$": "134", "kill -USR1 $$": "138",
	} {
		if got := u.Must("sh", "-c", `onstack sh -c "$0" 2>/dev/null; echo $?`, line); strings.TrimSpace(got) != want {
			t.Errorf("sh -c %q under onstack: status %s, want %s", line, got, want)
		}
	}
	for command, want := range map[string]int{"no-such-command": 127, "/etc/passwd": 126, "/nowhere/sh": 127} {
		if r := u.Try("onstack", command); r.Status != want || !strings.HasPrefix(r.Err, "onstack: ") || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("onstack %s: status %d, %q", command, r.Status, r.Err)
		}
	}
	if got := u.Must("sh", "-c", `trap "" HUP INT; onstack sh -c 'kill -HUP $$; kill -INT $$; echo survived'`); got != "survived\n" {
		t.Errorf("signals that were ignored: %q", got)
	}
}

// TestProgramInTheBackground: a program that forks and ends leaves the shell
// free, and is served on.
func TestProgramInTheBackground(t *testing.T) {
	need.File(t, "/usr/bin/python3")
	u, _ := alone(t)
	prog := u.Write("daemon.py", `
import os, socket
l = socket.create_server(("10.0.0.1", 8080))
if os.fork(): os._exit(0)
os.setsid()
null = os.open("/dev/null", os.O_RDWR)
for fd in range(3): os.dup2(null, fd)
os.close(9)
c, _ = l.accept()
c.sendall(b"hello\n")
`, 0o644)
	// Who reads its output to the end, or waits for the lock, is not kept waiting.
	if out := u.Must("sh", "-c", `onstack /usr/bin/python3 "$0" 9>lock | cat; flock -n lock echo free`, prog); out != "free\n" {
		t.Errorf("after the program has gone to the background: %q", out)
	}
	if got := u.Must("nc", "-d", "10.0.0.1", "8080"); got != "hello\n" {
		t.Errorf("it serves %q", got)
	}
}

// TestDescriptorsAreTheProgramsAlone: what it closes is closed.
func TestDescriptorsAreTheProgramsAlone(t *testing.T) {
	u, _ := alone(t)
	fifo := filepath.Join(u.Dir, "fifo")
	out := u.Must("sh", "-c", `mkfifo "$0"; exec 8<>"$0"
onstack sh -c 'flock 9; exec 9>&- 8>&-; flock -n lock echo free >&2; exec >&-; read x <"$0"; echo read $x >&2' "$0" 9>lock 2>said | { cat; echo go >"$0"; }
cat said`, fifo)
	play.WantLines(t, "what the program says", out, "free", "read go")
}
