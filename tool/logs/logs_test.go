package logs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// log writes a log with its rotated files: lines numbered through.
func logFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "io-net.log")
	n := 0
	for _, name := range []string{path + ".2", path + ".1", path} {
		var b strings.Builder
		for range 3 {
			fmt.Fprintf(&b, "line %d\n", n)
			n++
		}
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestShow(t *testing.T) {
	path := logFile(t)
	for lines, want := range map[int]string{-1: numbered(6, 8), 0: "", 2: numbered(7, 8), 3: numbered(6, 8), 5: numbered(4, 8), 9: numbered(0, 8), 99: numbered(0, 8)} {
		var b strings.Builder
		p := &printer{w: bufio.NewWriter(&b)}
		if err := p.show(path, lines); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("-n %d (-want +got):\n%s", lines, d)
		}
	}
}

func TestFollow(t *testing.T) {
	path := logFile(t)
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		p := &printer{w: bufio.NewWriter(w)}
		err := p.follow(ctx, path, 1)
		w.Close()
		done <- err
	}()
	in := bufio.NewReader(r)
	expect := func(want string) {
		t.Helper()
		if got, err := in.ReadString('\n'); got != want+"\n" || err != nil {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	write := func(name, text string) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	expect("line 8")
	write(path, "line 9\nhalf")
	expect("line 9")
	write(path, " line\n")
	expect("half line")
	for n := range 3 { // rotated, three times over
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		write(path+".1", "late\n") // the writer was not done with it
		write(path, fmt.Sprintf("new %d\n", n))
		expect("late")
		expect(fmt.Sprintf("new %d", n))
	}
	cancel()
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRecord(t *testing.T) {
	for line, want := range map[string]map[string]string{
		`time=2026-11-03T21:34:05.000Z level=INFO msg="tcpip starting" if=en0 err="a \"b\" c="`: {
			"time": "2026-11-03T21:34:05.000Z", "level": "INFO", "msg": "tcpip starting", "if": "en0", "err": `a "b" c=`},
		"panic: runtime error":   {"text": "panic: runtime error"},
		`msg="never ends`:        {"text": `msg="never ends`},
		`msg="a"b=c`:             {"text": `msg="a"b=c`},
		"a= b=":                  {"a": "", "b": ""},
		"goroutine 1 [running]:": {"text": "goroutine 1 [running]:"},
	} {
		if d := cmp.Diff(want, record(line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
	var b strings.Builder
	p := &printer{w: bufio.NewWriter(&b), json: true}
	p.line(`level=WARN msg="x y"`)
	p.w.Flush()
	if b.String() != `{"level":"WARN","msg":"x y"}`+"\n" {
		t.Errorf("json: %s", b.String())
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"-n x": "-n x: a number of lines belongs there", "-n -1": "-n -1: a number of lines belongs there",
		"x": `"x": log takes no arguments`, "-z": "illegal option -- z", "-n": "option requires an argument -- n",
	} {
		if _, _, err := parse(strings.Fields(line)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
	if follow, lines, err := parse([]string{"-fn3"}); !follow || lines != 3 || err != nil {
		t.Errorf("-fn3: %v %d %v", follow, lines, err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(`time=x level=INFO msg="a b" c="\u1234"`)
	f.Add(`a="\"`)
	f.Fuzz(func(t *testing.T, line string) { record(line) })
}
