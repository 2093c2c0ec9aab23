package onstack

import (
	"bytes"
	"log/slog"
	"log/syslog"
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"ionet/tool/cli"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		args    []string
		want    options
		command int
		ok      bool
	}{
		{[]string{"curl", "-d", "x"}, options{}, 3, true},
		{[]string{"--", "-odd"}, options{}, 1, true},
		{[]string{"-dr", "-l", "/log", "-p/pid", "nginx", "-p", "x"}, options{keep: true, always: true, log: "/log", pidFile: "/pid"}, 3, true},
		{[]string{"-d"}, options{}, 0, false},
		{[]string{"-r", "nginx"}, options{}, 0, false},
		{[]string{"-x", "nginx"}, options{}, 0, false},
		{nil, options{}, 0, false},
	} {
		o, command, err := parse(&cli.Context{}, tc.args)
		if (err == nil) != tc.ok || err == nil && (o != tc.want || len(command) != tc.command) {
			t.Errorf("%q: %+v, %q, %v", tc.args, o, command, err)
		}
	}
	if _, _, err := parse(&cli.Context{JSON: true}, []string{"nginx"}); err == nil {
		t.Error("--json without -d is taken")
	}
}

func TestMessages(t *testing.T) {
	for _, tc := range []struct {
		said, what string
		number     int
		text       string
	}{
		{"failed 127 curl: no such command", sayFailed, 127, "curl: no such command"},
		{"running 4", sayRunning, 4, ""},
		{"end", sayEnd, 0, ""},
		{"", "", 0, ""},
	} {
		what, number, text := parseMessage([]byte(tc.said))
		if what != tc.what || number != tc.number || text != tc.text {
			t.Errorf("%q is %q, %d, %q", tc.said, what, number, text)
		}
	}
}

// TestSyslog: what syslogd gets is what other daemons send it.
func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, err := syslog.Dial("unixgram", path, syslog.LOG_DAEMON|syslog.LOG_INFO, "nginx")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	log := slog.New(newSyslogHandler(&cli.Context{}, w)).With("a", 1)
	log.Debug("not asked for")
	log.Info("it runs")
	log.Error("it died", "signal", "killed")
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []string{
		`^<30>\S+ .*nginx\[\d+\]: level=INFO msg="it runs" a=1\n$`,
		`^<27>\S+ .*nginx\[\d+\]: level=ERROR msg="it died" a=1 signal=killed\n$`,
	} {
		b := make([]byte, 1024)
		n, err := l.Read(b)
		if err != nil || !regexp.MustCompile(want).Match(bytes.TrimRight(b[:n], "\x00")) {
			t.Errorf("syslogd gets %q, %v; want %s", b[:n], err, want)
		}
	}
}
