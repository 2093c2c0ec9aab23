package ipfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ionet/ipl/saved"
	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake is a stack with two states and one session. It takes back all of them but what has no place.
type fake struct {
	log      *strings.Builder
	homeless int
	fault    error
}

const translation = `{"version":1,"sessions":[{"if":"en0","rule":"map en0 10.0.0.0/8 -\u003e 192.0.2.1/32"}]}`

func (f *fake) SaveStates(which uint8) ([]byte, error) {
	if which == protocol.LogNAT {
		return []byte(translation), f.fault
	}
	return saved.States{Version: 2, Rules: []string{"pass in on en0 all keep state"}, Interfaces: []string{"en0"}, Rest: []byte{0, 0, 0, 2}}.Append(nil), f.fault
}

func (f *fake) RestoreStates(which uint8, data []byte) (int, error) {
	n, states, err := saved.Count(data)
	fmt.Fprintf(f.log, "[restore %d: %d, states %v, %v, en0 %d times]\n", which, n, states, err, strings.Count(string(data), "en0"))
	return n - f.homeless, f.fault
}

// ipfs runs a command line in a folder; what the stack is told stands in brackets.
func ipfs(dir, line string, homeless int, fault error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ ipfs %s\n", line)
	o, err := parse(strings.Fields(strings.ReplaceAll(line, "DIR", dir)))
	if err != nil {
		return b.String() + "usage: " + err.Error() + "\n"
	}
	t := tool{o: o, dir: dir, out: &b, warn: &b, stack: &fake{&b, homeless, fault}}
	if o.dir != "" {
		t.dir = o.dir
	}
	if err := t.do(); err != nil {
		fmt.Fprintf(&b, "ipfs: %v\n", err)
	}
	return strings.ReplaceAll(b.String(), dir, "DIR")
}

func TestDialogue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	var b strings.Builder
	for _, line := range []string{
		"-R", "-vR", "-i en0,en1", "-vi en0,en1", "-r", "-r -N", "-i en0,en1 -f DIR/none", "-nvW", "-nvR", "-vW", "-vR", "-R", "-nvR",
		"-nvi en0,en1", "-vi en0,en1", "-vi en0,en1", "-R", "-W -d DIR/other", "-vR -d DIR/other",
		"-vw", "-vw -S -f DIR/s", "-vw -N -f DIR/n", "-vr -f DIR/s", "-vr -N -f DIR/n", "-r -N -f DIR/s", "-r -f DIR/n", "-vi en0,en5 -f DIR/n", "-r -N -f DIR/n", "-l", "-vl", "-vu",
		"", "-v", "-W -R", "-W -f x", "-R -N", "-w -N -S", "-i en0", "-i ,en1", "-i en0,en1,en2", "-i en0,a-name-of-sixteen", "-W x", "-z",
	} {
		b.WriteString(ipfs(dir, line, 0, nil))
	}
	b.WriteString(ipfs(dir, "-R", 1, nil))
	for _, bad := range []string{"", "ipfstat", "ipfstat\x02\x00\x00\x00\x09", "{}"} {
		if err := os.WriteFile(dir+"/bad", []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		b.WriteString(ipfs(dir, "-r -f DIR/bad", 0, nil))
		b.WriteString(ipfs(dir, "-i en0,en1 -f DIR/bad", 0, nil))
	}
	golden.Check(t, "ipfs", b.String())
}

// A file is replaced whole, and nobody else reads it; a change that fails leaves the old one.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/" + states.file
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	gone := &protocol.Error{Errno: syscall.ENODEV, Text: "no packet filter in this stack"}
	if got := ipfs(dir, "-W", 0, gone); !strings.Contains(got, "ipfs: no packet filter in this stack\n") {
		t.Error(got)
	}
	if b, _ := os.ReadFile(path); string(b) != "old" {
		t.Errorf("a save that failed left %q", b)
	}
	if got := ipfs(dir, "-W", 0, nil); got != "$ ipfs -W\n" {
		t.Error(got)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if got := ipfs(dir, "-R", 0, errors.New("octet 17 is odd")); !strings.HasSuffix(got, "ipfs: DIR/ipstate.ipf: octet 17 is odd\n") {
		t.Error(got)
	}
	all, _ := filepath.Glob(dir + "/*")
	if len(all) != 2 {
		t.Errorf("left behind: %q", all)
	}
	if os.Geteuid() == 0 {
		return // root writes everywhere
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if got := ipfs(dir, "-W", 0, nil); !strings.Contains(got, "permission denied") {
		t.Error(got)
	}
}
