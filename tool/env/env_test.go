package env

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"ionet/tool/cli"
)

// The shell itself says what the code means.
func TestScriptInAShell(t *testing.T) {
	for _, path := range []string{"/alt", "/with space", "/it's", `/"$(exit 3)"`, "/`exit 3`", "/new\nline", "/é*?[a]", `/back\slash`} {
		cmd := exec.Command("/bin/sh", "-u", "-c", `eval "$1"; printf '%s\0%s\0%s' "$PATH" "$MANPATH" "$SOCK"`, "sh", script(path+"/lib", path))
		cmd.Env = []string{"PATH=/bin"}
		out, err := cmd.CombinedOutput()
		want := path + "/lib/bin:/bin\x00" + path + "/lib/man:\x00" + path
		if err != nil || string(out) != want {
			t.Errorf("%q: %v, got %q, want %q", path, err, out, want)
		}
	}
}

func TestEnv(t *testing.T) {
	for _, tc := range []struct {
		args   string
		status int
		says   string
	}{
		{"/alt", 0, "SOCK='/alt'; export SOCK;"},
		{"--sock=/alt", 0, "SOCK='/alt'; export SOCK;"},
		{"", 0, "/lib/ionet/bin'${PATH:+:$PATH}; export PATH;"},
		{"a b", 1, "usage: ionet env [prefix]"},
	} {
		var out bytes.Buffer
		status := Command.Exec(&cli.Context{Stdout: &out, Stderr: &out}, strings.Fields(tc.args))
		if status != tc.status || !strings.Contains(out.String(), tc.says) {
			t.Errorf("env %s: %d %q", tc.args, status, out.String())
		}
	}
}
