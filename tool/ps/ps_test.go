package ps

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ionet/protocol"
	"ionet/protocol/door"
)

var update = flag.Bool("update", false, "write the golden files")

func TestWrite(t *testing.T) {
	rows := []protocol.InterfaceRow{
		{Name: "lo0", Flags: 0x8049, Addresses: []protocol.AddressRow{{Family: "inet", Address: "127.0.0.1", Bits: 8}}},
		{Name: "en0", Flags: 0x8843, Addresses: []protocol.AddressRow{{Family: "inet", Address: "10.0.0.163", Bits: 8}, {Family: "inet6", Address: "fe80::1%en0", Bits: 64}}},
		{Name: "en1", Flags: 0x8802},
	}
	stacks := []Stack{
		describe("", &protocol.StackInfo{PID: 77, User: "root", Uptime: 300000, Version: "1.0"}, rows, nil),
		describe("/tmp/a rather long prefix/alt", &protocol.StackInfo{PID: 4711, User: "hans", UID: 1000, Started: 1700000000, Uptime: 41, Version: "1.0", Instance: 1, Restarts: 2}, rows[:1], nil),
		describe("/half", &protocol.StackInfo{PID: 5}, nil, errors.New("connection reset")),
	}
	for _, c := range []struct {
		name   string
		stacks []Stack
		json   bool
	}{{"table", stacks, false}, {"json", stacks, true}, {"empty", nil, false}, {"empty-json", nil, true}} {
		var b strings.Builder
		if err := write(&b, c.stacks, c.json); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", c.name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
}

// TestHostileStack: another user's stack neither holds ps up nor writes on
// the terminal.
func TestHostileStack(t *testing.T) {
	answerWait = 20 * time.Millisecond
	prefix := t.TempDir()
	l, err := door.Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, protocol.MaxFrame)
		for {
			n, err := c.Read(b)
			if err != nil || n == 0 {
				return
			}
			if h, _, err := protocol.ParseFrame(b[:n]); err == nil && h.Type == protocol.TypeHello {
				c.Write(protocol.AppendHello(protocol.AppendReply(nil, h), protocol.Hello{Version: protocol.Version}))
			}
		}
	}()
	s := look(door.Found{PID: 1, Prefix: prefix})
	if !strings.Contains(s.Error, "does not answer") {
		t.Errorf("a stack that hangs: %q", s.Error)
	}
	<-done
	s.Prefix = "/tmp/\x1b[2Jx"
	var out strings.Builder
	if err := write(&out, []Stack{s}, false); err != nil || strings.ContainsRune(out.String(), '\x1b') {
		t.Errorf("it writes %q, %v", out.String(), err)
	}
}

func TestUptime(t *testing.T) {
	for s, want := range map[int64]string{0: "0s", 59: "59s", 185: "3m05s", 7620: "2h07m", 442800: "5d03h"} {
		if got := uptime(s); got != want {
			t.Errorf("%d: %s, want %s", s, got, want)
		}
	}
}
