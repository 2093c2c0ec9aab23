package waitfor

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ionet/tool/cli"
)

func wait(c context.Context, args ...string) (int, string) {
	var stderr bytes.Buffer
	status := Command.Exec(&cli.Context{Stdout: &stderr, Stderr: &stderr, Ctx: c}, args)
	return status, stderr.String()
}

func TestWaitfor(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{dir}, 0, ""},
		{[]string{dir, "0"}, 0, ""},
		{[]string{dir + "/none", "0"}, 1, "did not appear within 0s"},
		{[]string{dir + "/none", "0.02"}, 1, "did not appear within 20ms"},
		{[]string{file + "/below", "0"}, 1, "not a directory"},
		{[]string{dir, "soon"}, 1, "no number of seconds"},
		{[]string{dir, "-1"}, 1, "no number of seconds"},
		{[]string{dir, "NaN"}, 1, "no number of seconds"},
		{nil, 1, "usage: waitfor path [seconds]"},
		{[]string{"-x", dir}, 1, "illegal option -- x"},
	} {
		status, says := wait(t.Context(), tc.args...)
		if status != tc.status || !strings.Contains(says, tc.says) || (tc.says == "" && says != "") {
			t.Errorf("waitfor %q: status %d, %q", tc.args, status, says)
		}
	}
}

func TestAppearsLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later")
	done := make(chan int)
	go func() {
		status, _ := wait(t.Context(), path, "60")
		done <- status
	}()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != 0 {
		t.Errorf("status %d", status)
	}
}
