package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGetopt(t *testing.T) {
	for _, tc := range []struct {
		spec string
		long []string
		args string
		want []Flag
		rest []string
		err  string
	}{
		{spec: "anc:", args: "-an -c3 host", want: []Flag{{"a", ""}, {"n", ""}, {"c", "3"}}, rest: []string{"host"}},
		{spec: "anc:", args: "-nc 3", want: []Flag{{"n", ""}, {"c", "3"}}},
		{spec: "n", args: "add -n", rest: []string{"add", "-n"}},
		{spec: "n", args: "-n -- -n", want: []Flag{{"n", ""}}, rest: []string{"-n"}},
		{spec: "n", args: "- -n", rest: []string{"-", "-n"}},
		{spec: "w:", args: "-w -", want: []Flag{{"w", "-"}}},
		{spec: "d::n", args: "-d -n", want: []Flag{{"d", ""}, {"n", ""}}},
		{spec: "d::n", args: "-d9 -n", want: []Flag{{"d", "9"}, {"n", ""}}},
		{spec: "f", long: []string{"follow", "size="}, args: "--follow --size=3 --size 4", want: []Flag{{"follow", ""}, {"size", "3"}, {"size", "4"}}},
		{spec: "c:", args: "-c", err: "option requires an argument -- c"},
		{spec: "c:", args: "-z", err: "illegal option -- z"},
		{spec: "c:", args: "-:", err: "illegal option -- :"},
		{spec: "c:", args: "--none", err: "illegal option -- none"},
		{long: []string{"follow"}, args: "--follow=1", err: "option takes no argument -- follow"},
		{long: []string{"size="}, args: "--size", err: "option requires an argument -- size"},
	} {
		flags, rest, err := Getopt(tc.spec, strings.Fields(tc.args), tc.long...)
		if got := errText(err); got != tc.err {
			t.Errorf("%q: error %q, want %q", tc.args, got, tc.err)
		}
		if d := cmp.Diff(tc.want, flags); d != "" {
			t.Errorf("%q: %s", tc.args, d)
		}
		if !slices.Equal(rest, tc.rest) {
			t.Errorf("%q: rest %q, want %q", tc.args, rest, tc.rest)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzGetopt: what was read, written out again one option a word, reads the same.
func FuzzGetopt(f *testing.F) {
	f.Add("anc:", "-an\x00-c3\x00host")
	f.Add("d::w:", "-d\x00-w\x00-\x00--\x00x")
	f.Fuzz(func(t *testing.T, spec, words string) {
		flags, rest, err := Getopt(spec, strings.Split(words, "\x00"), "size=", "follow")
		if err != nil {
			return
		}
		var again []string
		for _, fl := range flags {
			switch {
			case fl.Name == "size":
				again = append(again, "--size="+fl.Value)
			case fl.Name == "follow":
				again = append(again, "--follow")
			case fl.Value == "" && strings.HasPrefix(after(spec, fl.Name), ":") && !strings.HasPrefix(after(spec, fl.Name), "::"):
				again = append(again, "-"+fl.Name, "")
			default:
				again = append(again, "-"+fl.Name+fl.Value)
			}
		}
		flags2, rest2, err := Getopt(spec, append(append(again, "--"), rest...), "size=", "follow")
		if err != nil || !slices.Equal(flags, flags2) || !slices.Equal(rest, rest2) {
			t.Fatalf("spec %q words %q: %v %q, again %v %q %v", spec, words, flags, rest, flags2, rest2, err)
		}
	})
}

func after(spec, letter string) string {
	_, tail, _ := strings.Cut(spec, letter)
	return tail
}

func echo() *Command {
	return &Command{
		Name: "echo", Short: "say it", Synopsis: []string{"[-n] word ...", "-a"},
		Long: "First paragraph.\n\n\tliteral -x\n\n.not a request", JSON: "An object.",
		Options: []Opt{{"-n", "No newline."}},
		Run: func(ctx *Context, args []string) int {
			fmt.Fprintf(ctx.Stdout, "%q sock=%s json=%v", args, ctx.Sock, ctx.JSON)
			return 0
		},
	}
}

func exec(c *Command, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = c.Exec(&Context{Stdout: &out, Stderr: &errs, Env: func(string) string { return "" }}, args)
	return status, out.String(), errs.String()
}

func TestExec(t *testing.T) {
	for _, tc := range []struct {
		args           string
		status         int
		stdout, stderr string
	}{
		{"-ptcpip opts --sock=/x --json add", 0, `["-ptcpip" "opts" "add"] sock=/x json=true`, ""},
		{"a --sock /y", 0, `["a"] sock=/y json=false`, ""},
		{"a -- --json", 0, `["a" "--" "--json"] sock= json=false`, ""},
		{"--other=3", 0, `["--other=3"] sock= json=false`, ""},
		{"--sock", 1, "", "echo: option requires an argument -- sock\nusage: echo [-n] word ...\n       echo -a\n"},
		{"--json=1", 1, "", "echo: option takes no argument -- json\nusage: echo [-n] word ...\n       echo -a\n"},
	} {
		status, stdout, stderr := exec(echo(), strings.Fields(tc.args)...)
		if status != tc.status || stdout != tc.stdout || stderr != tc.stderr {
			t.Errorf("%q: %d %q %q", tc.args, status, stdout, stderr)
		}
	}
	plain := echo()
	plain.JSON = ""
	if status, _, stderr := exec(plain, "--json"); status != 1 || !strings.Contains(stderr, "no JSON") {
		t.Errorf("--json where none is declared: %d %q", status, stderr)
	}
}

// TestExecWraps: what belongs to the other command is left to it.
func TestExecWraps(t *testing.T) {
	c := echo()
	c.Wraps = "dl:p::"
	for args, want := range map[string]string{
		"-d --json ls --json":      `["-d" "ls" "--json"] sock= json=true`,
		"-dl log --json ls --sock": `["-dl" "log" "ls" "--sock"] sock= json=true`,
		"-llog ls --json":          `["-llog" "ls" "--json"] sock= json=false`,
		"-p ls --json":             `["-p" "ls" "--json"] sock= json=false`,
		"-l":                       `["-l"] sock= json=false`,
	} {
		if status, stdout, stderr := exec(c, strings.Fields(args)...); status != 0 || stdout != want {
			t.Errorf("%q: %d %q %q", args, status, stdout, stderr)
		}
	}
}

func TestHelpAndManSayTheSame(t *testing.T) {
	_, help, _ := exec(echo(), "--help")
	var man bytes.Buffer
	echo().Man(&man)
	for _, want := range []string{"say it", "First paragraph.", "No newline.", "An object.", "Success.", "SOCK"} {
		if !strings.Contains(help, want) {
			t.Errorf("--help lacks %q:\n%s", want, help)
		}
		if !strings.Contains(man.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, man.String())
		}
	}
	if !strings.Contains(man.String(), "\n\\&.not a request\n") || !strings.Contains(man.String(), "literal \\-x") {
		t.Errorf("unescaped roff:\n%s", man.String())
	}
}
