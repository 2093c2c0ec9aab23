package onstack

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ionet/test/need"
)

// TestSuites runs a part of the socket tests that others wrote, on the kernel and
// under onstack. What differs has to be what test/suites.reasons says, and what
// that says has to differ. make suites runs all.
func TestSuites(t *testing.T) {
	need.Netns(t)
	need.Command(t, "unshare", "util-linux")
	if found, _ := filepath.Glob("/usr/lib/python3.*/test/test_socketserver.py"); len(found) == 0 {
		need.Missing(t, "no tests of Python: test/deps installs libpython3.11-testsuite")
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(need.Module(t), "test/suites"), "--build", need.Binaries(t), "--limit", "120",
		"--run", "^Test(Accept|Close|Conn|Dial|Interface|Listen|Multi|Read|TCP|UDP|Unix|Write)",
		"go net", "python test_socketserver")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it has begun
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
