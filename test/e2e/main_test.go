// Package e2e drives running stacks through package client. The test binary
// is io-net as well, so that what runs is the daemon itself, race detector
// included, in a process that can be looked at and killed; and so it is onstack,
// and the programs that run under that.
package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ionet/client"
	"ionet/protocol"
	"ionet/stackd"
	"ionet/tool/cli"
	"ionet/tool/onstack"
)

// envDaemon makes the test binary an io-net that answers on descriptor 3.
const envDaemon = "IONET_E2E_DAEMON"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], programArg) {
		os.Exit(program(strings.TrimPrefix(os.Args[1], programArg), os.Args[2:]))
	}
	if os.Getenv(envOnstack) != "" {
		cli.Main(&onstack.Command)
	}
	if os.Getenv(envDaemon) != "" {
		gauge := os.NewFile(3, "gauge")
		syscall.CloseOnExec(3)
		go measure(gauge)
		cli.Main(&stackd.Command)
	}
	flag.Parse()
	skipStreams()
	goleak.VerifyTestMain(m)
}

// gauges is what a daemon says of itself.
type gauges struct{ Goroutines, FDs, Heap int }

// measure answers each octet that comes with a line of gauges.
func measure(f *os.File) {
	var b [1]byte
	for {
		if _, err := f.Read(b[:]); err != nil {
			os.Exit(3) // the test has gone
		}
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		fds, _ := os.ReadDir("/proc/self/fd")
		_ = json.NewEncoder(f).Encode(gauges{runtime.NumGoroutine(), len(fds), int(mem.HeapAlloc)})
	}
}

// bound is what a test may take; nothing waits longer.
const bound = time.Minute

// daemon is a running io-net.
type daemon struct {
	t      *testing.T
	prefix string
	cmd    *exec.Cmd
	gauge  net.Conn
	log    *bytes.Buffer
	ended  chan error
}

// start runs io-net -f with args, which end before the options of the
// protocol; its folders are the test's own. It answers when the stack does.
func start(t *testing.T, args ...string) *daemon {
	t.Helper()
	return startWith(t, "", args...)
}

// startWith is start with options of the protocol, such as "ipsec,".
func startWith(t *testing.T, tcpip string, args ...string) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "io") // short: socket paths are below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // for clients of other users
		t.Fatal(err)
	}
	word, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = word.Close() }()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "gauge"), os.NewFile(uintptr(pair[1]), "gauge")
	defer func() { _ = theirs.Close() }()
	gauge, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, prefix: filepath.Join(dir, "s"), gauge: gauge, log: new(bytes.Buffer), ended: make(chan error, 1)}
	d.cmd = exec.Command(exe, append(append([]string{"-f"}, args...), "-ptcpip", tcpip+"prefix="+d.prefix)...)
	d.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "SOCK=") }),
		envDaemon+"=1", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "XDG_RUNTIME_DIR="+dir)
	d.cmd.ExtraFiles = []*os.File{theirs}
	d.cmd.Stderr = d.log
	d.cmd.Stdout = d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	watchdog := time.AfterFunc(bound, func() {
		t.Errorf("this took longer than %v", bound)
		_ = d.cmd.Process.Signal(syscall.SIGQUIT) // everything that waits for it ends
	})
	t.Cleanup(func() { watchdog.Stop() })
	t.Cleanup(d.end)
	_ = word.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 64)
	n, err := word.Read(b)
	if err != nil || string(b[:n]) != "READY=1" {
		d.end()
		t.Fatalf("io-net does not answer: %q, %v", b[:n], err)
	}
	return d
}

// end stops the daemon, which has to end by itself and well.
func (d *daemon) end() {
	if d.gauge == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.ended:
		if err != nil {
			d.t.Errorf("io-net ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		_ = d.cmd.Process.Signal(syscall.SIGQUIT) // says where it stands
		<-d.ended
		d.t.Error("io-net does not end")
	}
	d.gone()
}

// kill ends it as a crash would.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
	d.gone()
}

func (d *daemon) gone() {
	_ = d.gauge.Close()
	d.gauge = nil
	if d.t.Failed() {
		d.t.Logf("io-net said:\n%s", d.log.Bytes()[:min(d.log.Len(), 20000)])
	}
}

// measure asks the daemon for its gauges.
func (d *daemon) measure() (g gauges) {
	d.t.Helper()
	_ = d.gauge.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := d.gauge.Write([]byte{1}); err != nil {
		d.t.Fatal(err)
	}
	if err := json.NewDecoder(d.gauge).Decode(&g); err != nil {
		d.t.Fatal(err)
	}
	return g
}

// open is a client of the daemon, closed after the test.
func (d *daemon) open() *client.Stack {
	d.t.Helper()
	s, err := client.Open(d.prefix)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (d *daemon) route() *client.RouteSocket {
	d.t.Helper()
	r, err := client.OpenRoute(d.prefix)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = r.Close() })
	_ = r.SetReadDeadline(time.Now().Add(30 * time.Second))
	return r
}

// info is the daemon's own row.
func info(t *testing.T, s *client.Stack) protocol.StackInfo {
	t.Helper()
	rows, err := client.Table[protocol.StackInfo](s, protocol.TableStack, "")
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	return rows[0]
}

// until asks ok again and again, for at most 20 s. Each ok is a question to
// the daemon, so that this does not spin.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func inet(s string) protocol.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return protocol.AddrFrom(ap.Addr(), ap.Port())
	}
	return protocol.AddrFrom(netip.MustParseAddr(s), 0)
}

func prefixOf(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
}

func itoa(n int) string { return strconv.Itoa(n) }

// exchange sends data from c to pc and takes it there.
func exchange(t *testing.T, c net.Conn, pc net.PacketConn, data string) {
	t.Helper()
	if _, err := c.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(data)+1)
	n, _, err := pc.ReadFrom(b)
	if err != nil || string(b[:n]) != data {
		t.Fatalf("got %q, %v; want %q", b[:n], err, data)
	}
}
