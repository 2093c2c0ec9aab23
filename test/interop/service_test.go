package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// service is onstack -d with its files, and its log as it is written.
type service struct {
	u        *play.User
	log, pid string
	follow   *play.Job
}

func newService(u *play.User, name string) *service {
	s := &service{u: u, log: filepath.Join(u.Dir, name+".log"), pid: filepath.Join(u.Dir, name+".pid")}
	s.follow = u.Begin(nil, "sh", "-c", `: >>"$0"; exec tail -n +1 -F "$0" >&2`, s.log)
	return s
}

func (s *service) begin(args ...string) play.Result {
	s.u.T.Helper()
	r := s.u.Try("onstack", append([]string{"-d", "-l", s.log, "-p", s.pid}, args...)...)
	s.u.T.Cleanup(func() {
		if play.Exists(s.pid) {
			s.end()
		}
	})
	return r
}

// says waits for a line of the log, and answers what the groups match.
func (s *service) says(re string) []string {
	s.u.T.Helper()
	return s.follow.Says(re)
}

// process is that of the service.
func (s *service) process() string {
	s.u.T.Helper()
	b, err := os.ReadFile(s.pid)
	if err != nil {
		s.u.T.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// end sends SIGTERM, and waits until the service has gone.
func (s *service) end() {
	s.u.T.Helper()
	pid := s.process()
	s.u.Must("kill", "-TERM", pid)
	s.gone(pid)
	if play.Exists(s.pid) {
		s.u.T.Errorf("%s is still there", s.pid)
	}
}

// gone waits until a process is.
func (s *service) gone(pid string) {
	s.u.T.Helper()
	s.u.Must("tail", "-s", "0.05", "--pid", pid, "-f", "/dev/null")
}

// alone is a user with a stack 10.0.0.1 on a wire of its own.
func alone(t *testing.T) (u *play.User, prefix string) {
	t.Helper()
	u = play.NewUser(t)
	prefix = filepath.Join(u.Dir, "s")
	u.Ionet(prefix, "-d", "wire", "path="+filepath.Join(u.Dir, "w"), "-p", "tcpip", "prefix="+prefix)
	u = u.At(prefix)
	u.Must("ifconfig", "en0", "10.0.0.1/24")
	return u, prefix
}

func TestServiceIsStartedAgain(t *testing.T) {
	u, _ := alone(t)
	s := newService(u, "web")
	if r := s.begin("sh", "-c", `echo it says; [ -e again ] && exec sleep 1000; : >again; exit 3`); r.Status != 0 || r.Out+r.Err != "" {
		t.Fatalf("onstack -d: status %d, %q", r.Status, r.Out+r.Err)
	}
	s.says(`(?s)msg="the program runs".*msg="it says" from=sh.*ERROR.*status=3.*started again" in=500ms.*msg="the program runs"`)
	if r := u.Try("onstack", "-d", "-l", s.log, "-p", s.pid, "true"); r.Status != 125 || !strings.Contains(r.Err, "process "+s.process()+" has it") {
		t.Errorf("a second one of the same pidfile: status %d, %q", r.Status, r.Err)
	}
	s.end()
	s.says(`service has ended`)
}

func TestServiceThatEndsWell(t *testing.T) {
	u, _ := alone(t)
	s := newService(u, "web")
	s.begin("--json", "true")
	s.says(`"msg":"the service has ended"`)
	if b, err := os.ReadFile(s.pid); err == nil { // it is about to go
		s.gone(strings.TrimSpace(string(b)))
	}
	s.begin("-r", "sh", "-c", `echo round`)
	s.says(`(?s)(msg=round.*){2}`)
}

func TestServiceThatIsNoCommand(t *testing.T) {
	u, _ := alone(t)
	s := newService(u, "web")
	if r := s.begin("no-such-command"); r.Status != 127 || r.Err != "onstack: no-such-command: no such command\n" {
		t.Errorf("status %d, %q", r.Status, r.Err)
	}
	if r := s.begin("/etc/passwd"); r.Status != 126 || strings.Count(r.Err, "\n") != 1 {
		t.Errorf("status %d, %q", r.Status, r.Err)
	}
	if play.Exists(s.pid) {
		t.Error("a pidfile is left")
	}
	if r := u.Try("onstack", "-d", "-l", "/proc/no/log", "true"); r.Status != 125 || !strings.Contains(r.Err, "cannot open the log") {
		t.Errorf("a log that cannot be: status %d, %q", r.Status, r.Err)
	}
}

// TestServiceWaitsForItsStack: it may be started before the stack, and outlives
// the stack's death.
func TestServiceWaitsForItsStack(t *testing.T) {
	u := play.NewUser(t)
	prefix := filepath.Join(u.Dir, "s")
	args := []string{"-d", "wire", "path=" + filepath.Join(u.Dir, "w"), "-p", "tcpip", "prefix=" + prefix}
	s := newService(u.At(prefix), "web")
	if r := s.begin("sleep", "1000"); r.Status != 0 || !strings.Contains(r.Err, "waiting for the stack") {
		t.Fatalf("without a stack: status %d, %q", r.Status, r.Err)
	}
	u.Must("io-net", args...)
	first := s.says(`msg="the program runs" pid=(\d+)`)[1]
	u.At(prefix).Must("io-net", "--stop")
	s.gone(first)
	s.says(`the stack has gone`)
	u.Ionet(prefix, args...)
	s.says(`(?s)(msg="the program runs".*){2}`)
	s.end()
}

// TestServiceInTheBackground: a program that forks and ends has not ended; what
// it has left hears signals, and ends with the service.
func TestServiceInTheBackground(t *testing.T) {
	need.File(t, "/usr/bin/python3")
	u, _ := alone(t)
	s := newService(u, "web")
	prog := u.Write("daemon.py", `
import os, signal, socket, sys
l = socket.create_server(("10.0.0.1", 80 + 8000))
if os.fork(): os._exit(0)
os.setsid()
signal.signal(signal.SIGHUP, lambda *_: print("read again", flush=True))
print("serving as", os.getpid(), flush=True)
while True:
    c, _ = l.accept()
    c.sendall(b"hello\n")
    c.close()
`, 0o644)
	s.begin("/usr/bin/python3", prog)
	pid := s.says(`msg="serving as (\d+)"`)[1]
	if got := u.Must("nc", "-d", "10.0.0.1", "8080"); got != "hello\n" {
		t.Errorf("it serves %q", got)
	}
	u.Must("kill", "-HUP", s.process())
	s.says(`msg="read again"`)
	s.end()
	s.gone(pid)
}

// TestServiceThatWillNotEnd is killed, with its children, and when onstack itself
// is.
func TestServiceThatWillNotEnd(t *testing.T) {
	u, _ := alone(t)
	s := newService(u, "web")
	stubborn := []string{"sh", "-c", `trap "" TERM; setsid sh -c 'echo child=$$; exec sleep 1000' & echo self=$$; wait`}
	s.begin(stubborn...)
	child, pid := s.says(`child=(\d+)`)[1], s.says(`self=(\d+)`)[1]
	s.end()
	s.gone(child)
	s.gone(pid)
	s = newService(u, "other")
	s.begin(stubborn...)
	child = s.says(`child=(\d+)`)[1]
	u.Must("kill", "-KILL", s.process())
	s.gone(child)
	if err := os.Remove(s.pid); err != nil { // it stays, and stops nobody
		t.Error(err)
	}
}

// TestServiceRefusals are one sentence.
func TestServiceRefusals(t *testing.T) {
	u := play.NewUser(t)
	for args, says := range map[string]string{
		"-r true":     "goes with -d",
		"--json true": "goes with -d",
		"-d":          "what is to be run?",
		"-d -q true":  "illegal option -- q",
	} {
		if r := u.Try("onstack", strings.Fields(args)...); r.Status != 125 || !strings.HasPrefix(r.Err, "onstack: ") || !strings.Contains(strings.SplitN(r.Err, "\n", 2)[0], says) {
			t.Errorf("onstack %s: %s", args, fmt.Sprint(r.Status, " ", r.Err))
		}
	}
}
