package background

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLogRotates(t *testing.T) {
	path := t.TempDir() + "/log/io-net.log"
	r, err := OpenLog(path, 100, false)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := r.Write(bytes.Repeat([]byte("x"), 60)); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	files, _ := filepath.Glob(path + "*")
	if len(files) != 1+LogKeep {
		t.Errorf("files %v, want %d", files, 1+LogKeep)
	}
}

func TestFilesAreNoLinks(t *testing.T) {
	dir := t.TempDir()
	victim := dir + "/victim"
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if f, err := OpenLog(dir+"/link", 100, false); err == nil {
		f.Close()
		t.Error("the log is written through a link")
	}
	if p, err := TakePIDFile(dir + "/link"); err == nil {
		p.Remove()
		t.Error("the process number is written through a link")
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("the file behind the link is %q", b)
	}
}

func TestPIDFileHasOneOwner(t *testing.T) {
	path := t.TempDir() + "/pid"
	if err := os.WriteFile(path, []byte("123456789 left by a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := TakePIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("the file says %q", b)
	}
	if _, err := TakePIDFile(path); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d has it", os.Getpid())) {
		t.Errorf("a second owner: %v", err)
	}
	p.Remove()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestPIDFileOfAnotherStays(t *testing.T) {
	path := t.TempDir() + "/pid"
	p, err := TakePIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	q, err := TakePIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.Remove()
	if b, _ := os.ReadFile(path); string(b) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("the second owner's file is %q", b)
	}
	q.Remove()
}

func TestBackoff(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 5 * time.Second, Reset: time.Minute}
	var got []time.Duration
	for _, lived := range []time.Duration{0, 0, 0, 0, time.Minute, 0} {
		got = append(got, b.Next(lived)/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 5, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("pauses %d, want %d", got, want)
	}
}

func TestPauseEndsWithASignal(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- unix.SIGHUP
	if !Pause(time.Hour, signals) {
		t.Error("SIGHUP ends more than the wait")
	}
	signals <- unix.SIGTERM
	if Pause(time.Hour, signals) {
		t.Error("SIGTERM ends the wait only")
	}
	if !Pause(0, signals) {
		t.Error("a pause that is over")
	}
}

func TestHeard(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	Serve(w, false)
	if !Heard(r) {
		t.Error("the word of one who serves")
	}
	if Heard(strings.NewReader("read")) {
		t.Error("a word cut short")
	}
}
