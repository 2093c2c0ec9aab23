package client_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ionet/client"
	"ionet/protocol"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-test.fuzzworker") {
		goleak.VerifyTestMain(m)
		return
	}
	goleak.VerifyTestMain(withStack{m})
}

// withStack runs the tests beside an io-net, a process as any user has it, for
// the examples; the tests have stacks of their own. SOCK names it. Its one
// interface is en0 with the address 10.0.0.1, where a web server answers.
type withStack struct{ m *testing.M }

func (w withStack) Run() int {
	runtime.LockOSThread()             // io-net ends with this thread, however it ends
	dir, err := os.MkdirTemp("", "io") // short: socket paths are below it
	if err != nil {
		return fault(err)
	}
	defer os.RemoveAll(dir)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return fault(err)
	}
	defer log.Close()
	daemon := filepath.Join(dir, "io-net")
	build := exec.Command("go", "build", "-o", daemon, "ionet/cmd/io-net")
	if out, err := build.CombinedOutput(); err != nil {
		return fault(fmt.Errorf("go build: %w: %s", err, out))
	}
	prefix := filepath.Join(dir, "s")
	word, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return fault(err)
	}
	defer word.Close()
	cmd := exec.Command(daemon, "-f", "-dwire", "path="+filepath.Join(dir, "w"), "-ptcpip", "prefix="+prefix)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "XDG_RUNTIME_DIR="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fault(err)
	}
	status, err := w.run(prefix, word)
	if kerr := cmd.Process.Signal(syscall.SIGTERM); err == nil {
		err = kerr
	}
	if werr := cmd.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return fault(fmt.Errorf("%w\n%s", err, said))
	}
	return status
}

// run does so when the stack says that it is there.
func (w withStack) run(prefix string, word *net.UnixConn) (int, error) {
	_ = word.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 64)
	if n, err := word.Read(b); err != nil || string(b[:n]) != "READY=1" {
		return 1, errors.Join(fmt.Errorf("io-net says %q", b[:n]), err)
	}
	if err := os.Setenv("SOCK", prefix); err != nil {
		return 1, err
	}
	s, err := client.Open("")
	if err != nil {
		return 1, err
	}
	defer s.Close()
	a := protocol.AliasReq{Addr: protocol.AddrFrom(netip.MustParseAddr("10.0.0.1"), 0), Mask: protocol.MaskAddr(protocol.AFInet, 24)}
	if err := s.AddAddr("en0", a); err != nil {
		return 1, err
	}
	l, err := s.Listen("tcp", "10.0.0.1:80")
	if err != nil {
		return 1, err
	}
	web := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "welcome to "+r.Host)
	})}
	go web.Serve(l)
	defer web.Close()
	return w.m.Run(), nil
}

func fault(err error) int {
	fmt.Fprintln(os.Stderr, "the stack of the examples:", err)
	return 1
}
