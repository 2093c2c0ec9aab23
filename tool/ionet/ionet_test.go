package ionet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ionet/tool/cli"
)

var commands = []*cli.Command{
	{Name: "route", Short: "change routes", Options: []cli.Opt{{Flags: "-n", Text: "Numbers."}},
		Run: func(ctx *cli.Context, args []string) int {
			fmt.Fprintf(ctx.Stdout, "route %q %s", args, ctx.Sock)
			return 3
		}},
	{Name: "capture", Aliases: []string{"tcpdump"}, Short: "see packets", Section: 1,
		Run: func(ctx *cli.Context, args []string) int { fmt.Fprintf(ctx.Stdout, "capture %q", args); return 0 }},
}

func call(argv ...string) (int, string, string) {
	var out, errs bytes.Buffer
	status := Exec(&cli.Context{Stdout: &out, Stderr: &errs, Stdin: strings.NewReader("")}, commands, argv)
	return status, out.String(), errs.String()
}

func TestDispatch(t *testing.T) {
	for _, tc := range []struct {
		argv   string
		status int
		stdout string
		stderr string
	}{
		{"/x/route add -inet6 default --sock=/alt ::1", 3, `route ["add" "-inet6" "default" "::1"] /alt`, ""},
		{"ionet route -n -x", 3, `route ["-n" "-x"] `, ""},
		{"tcpdump -c4", 0, `capture ["-c4"]`, ""},
		{"ionet tcpdump -c4", 0, `capture ["-c4"]`, ""},
		{"/x/ionet nothing", 1, "", `ionet: "nothing" is no command of ionet: ionet help lists them`},
		{"ionet man nothing", 1, "", `ionet: man: "nothing" is no command`},
		{"ionet man route", 0, ".SH NAME\nroute \\- change routes", ""},
		{"ionet version", 0, "ionet ", ""},
		{"ionet --version", 0, "ionet ", ""},
		{"ionet help route", 0, "route - change routes", ""},
		{"ionet route --help", 0, "route - change routes", ""},
		{"ionet", 0, "see packets", ""},
		{"ionet names", 0, "route\ncapture\ntcpdump\n", ""},
		{"ionet completion bash", 0, "bash completion", ""},
		{"ionet completion zsh", 0, "#compdef ionet", ""},
		{"ionet completion fish", 0, "fish completion", ""},
		{"ionet __complete route -", 0, "-n\tNumbers.", ""},
	} {
		status, stdout, stderr := call(strings.Fields(tc.argv)...)
		if status != tc.status || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
			t.Errorf("%s: %d\n%s\n%s", tc.argv, status, stdout, stderr)
		}
	}
}

func TestPages(t *testing.T) {
	dir := t.TempDir()
	if status, _, stderr := call("ionet", "man", "--dir", dir); status != 0 {
		t.Fatal(stderr)
	}
	for name, want := range map[string]string{"man8/route.8": ".TH ROUTE 8", "man1/capture.1": ".TH CAPTURE 1", "man1/tcpdump.1": ".so man1/capture.1"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v %q", name, err, b)
		}
	}
}
