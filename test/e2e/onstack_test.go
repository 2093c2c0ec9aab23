package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

// envOnstack makes the test binary onstack; its first argument "program=NAME",
// one of the programs that run there.
const (
	envOnstack = "IONET_E2E_ONSTACK"
	programArg = "program="
)

// programs are what runs under onstack, by name. What one of them prints goes to
// the test, and an error ends it badly.
var programs = map[string]func(args []string) error{}

func program(name string, args []string) int {
	f := programs[name]
	if f == nil {
		fmt.Println("no such program:", name)
		return 2
	}
	if err := f(args); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// onstackRun is a program under onstack.
type onstackRun struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    *os.File
	lines chan string   // of its standard output
	ended chan struct{} // then err
	err   error
	log   *synced // standard error, the supervisor's too
}

// synced is a buffer for a reader beside the writer.
type synced struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// onstack runs a program on d; limit, unless 0, is how many descriptors it and the
// supervisor may have.
func (d *daemon) onstack(limit uint64, name string, args ...string) *onstackRun {
	d.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	argv := append([]string{exe, "--sock", d.prefix, exe, programArg + name}, args...)
	if limit > 0 {
		argv = append([]string{"/bin/sh", "-c", "ulimit -n " + strconv.FormatUint(limit, 10) + `; exec "$@"`, "sh"}, argv...)
	}
	r := &onstackRun{t: d.t, cmd: exec.Command(argv[0], argv[1:]...), lines: make(chan string, 64), ended: make(chan struct{}), log: new(synced)}
	r.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "SOCK=") }), envOnstack+"=1")
	in, w, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	r.in = w
	r.cmd.Stdin = in
	out, theirs, err := os.Pipe() // which the program's children may hold open
	if err != nil {
		d.t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = theirs, r.log
	r.cmd.WaitDelay = time.Second
	if err := r.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	_, _ = in.Close(), theirs.Close()
	go func() {
		defer close(r.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			r.lines <- s.Text()
		}
	}()
	go func() {
		r.err = r.cmd.Wait()
		close(r.ended)
	}()
	d.t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
		_, _ = w.Close(), out.Close()
		for range r.lines { // what nobody has read, or its reader stays
		}
		if d.t.Failed() {
			d.t.Logf("%s said:\n%.20000s", name, r.log)
		}
	})
	return r
}

// line is the next line of what the program prints.
func (r *onstackRun) line() string {
	r.t.Helper()
	select {
	case s, ok := <-r.lines:
		if !ok {
			<-r.ended
			r.t.Fatalf("the program has ended (%v)\n%s", r.err, r.log)
		}
		return s
	case <-time.After(30 * time.Second):
		r.t.Fatal("the program says nothing")
		return ""
	}
}

// well waits for a good end.
func (r *onstackRun) well() {
	r.t.Helper()
	for done := false; !done; {
		select {
		case s, ok := <-r.lines:
			if done = !ok; ok {
				r.t.Log(s)
			}
		case <-time.After(40 * time.Second):
			r.t.Fatal("the program does not end")
		}
	}
	<-r.ended
	if r.err != nil {
		r.t.Fatalf("the program ended with %v", r.err)
	}
}

// family are the process of onstack and all below it, by /proc.
func (r *onstackRun) family() (pids []int) {
	pids = []int{r.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		for _, f := range tasks {
			b, _ := os.ReadFile(f)
			for _, s := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(s); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

// alive reports whether a process runs, and is not only remembered.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(b, []byte(") "))
	return err == nil && len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

// left are the control blocks that the stack has for somebody.
func left(t *testing.T, s *client.Stack) []protocol.SocketRow {
	t.Helper()
	rows, err := client.Table[protocol.SocketRow](s, protocol.TableSockets, "")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(rows, func(r protocol.SocketRow) bool { return r.State == "TIME_WAIT" })
}

// call is a bare system call.
func call(nr uintptr, args ...uintptr) (int, syscall.Errno) {
	var a [6]uintptr
	copy(a[:], args)
	n, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return int(n), e
}
