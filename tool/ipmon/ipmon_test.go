package ipmon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// ip4 is a packet of IPv4: header of 20 octets, and body.
func ip4(proto byte, id, frag uint16, src, dst string, body ...byte) []byte {
	b := []byte{0x45, 0, 0, byte(20 + len(body)), byte(id >> 8), byte(id), byte(frag >> 8), byte(frag), 64, proto, 0, 0}
	b = append(append(b, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr(dst).AsSlice()...)
	return append(b, body...)
}

// ip6 is one of IPv6.
func ip6(proto byte, src, dst string, body ...byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, byte(len(body)), proto, 64}
	b = append(append(b, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr(dst).AsSlice()...)
	return append(b, body...)
}

func tcp(flags byte, payload string) []byte {
	return append([]byte{4, 0, 0, 22, 0, 0, 0x30, 0x39, 0, 0, 0, 7, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0}, payload...)
}

func udp(payload string) []byte { return append([]byte{4, 0, 0, 53, 0, 8, 0, 0}, payload...) }

func icmp(kind, code byte, quoted ...byte) []byte {
	return append([]byte{kind, code, 0, 0, 0, 7, 0, 1}, quoted...)
}

// clock is 27/11/2026 03:12:45.123456 UTC.
var clock = time.Date(2026, 11, 27, 3, 12, 45, 123456789, time.UTC).UnixNano()

// packetRow is a record of a packet that came in by en0 and was blocked by @0:1.
func packetRow(b []byte, with ...string) protocol.LogRow {
	return protocol.LogRow{Log: "packets", Time: clock, Event: "block", Direction: "in", Interface: "en0", Rule: 1, Length: len(b), Packet: b, With: with}
}

func records() (all []protocol.LogRow) {
	const a, b, c, d = "10.0.0.2", "10.0.0.1", "2001:db8::2", "2001:db8::1"
	in := ip4(17, 9, 0, b, a, udp("abcdefgh")...)
	for _, p := range [][]byte{
		ip4(6, 1, 0x4000, a, b, tcp(2, "")...), ip4(6, 1, 0, a, b, tcp(0xff, "data")...), ip4(6, 1, 0, a, b, tcp(2, "")[:4]...), ip4(6, 1, 0, a, b),
		ip4(17, 2, 0, a, b, udp("query")...), ip4(17, 3, 0x2000, a, b, udp("first")...), ip4(17, 3, 0x4001, a, b, []byte("the rest")...),
		ip4(1, 4, 0, a, b, icmp(8, 0)...), ip4(1, 4, 0, a, b, icmp(3, 3, in...)...), ip4(1, 4, 0, a, b, icmp(3, 13, ip4(6, 9, 0, b, a, tcp(2, "")[:8]...)...)...),
		ip4(1, 4, 0, a, b, icmp(11, 1, ip4(17, 9, 0x2010, b, a, []byte("rest")...)...)...), ip4(1, 4, 0, a, b, icmp(12, 0, ip4(1, 9, 0, b, a, icmp(8, 0)...)...)...),
		ip4(1, 4, 0, a, b, icmp(5, 1, ip4(47, 9, 0, b, a)...)...), ip4(1, 4, 0, a, b, icmp(3, 3, in[:10]...)...), ip4(1, 4, 0, a, b, icmp(99, 9)...), ip4(1, 4, 0, a, b, icmp(3, 99)...),
		ip4(2, 5, 0, a, "224.0.0.22", 0x22, 0), ip4(253, 5, 0, a, b),
		ip6(6, c, d, tcp(0x10, "")...), ip6(17, c, d, udp("")...), ip6(58, c, d, icmp(128, 0)...), ip6(58, c, d, icmp(135, 0)...), ip6(58, c, d, icmp(1, 4, ip6(17, d, c, udp("")...)...)...),
		ip6(58, c, d, icmp(2, 0, ip6(58, d, c, icmp(128, 0)...)...)...), ip6(58, c, d, icmp(200, 0)...),
		ip6(0, c, d, append([]byte{60, 0, 1, 4, 0, 0, 0, 0, 17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, udp("")...)...),
		ip6(44, c, d, append([]byte{17, 0, 0, 1, 0, 0, 0, 9}, udp("first")...)...), ip6(44, c, d, append([]byte{17, 0, 0, 16, 0, 0, 0, 9}, "the rest"...)...),
		ip6(51, c, d, append([]byte{6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, tcp(2, "")...)...),
		nil, {0x45, 0}, {0x60, 0}, {0x10},
	} {
		all = append(all, packetRow(p))
	}
	syn := all[0].Packet
	all = append(all,
		packetRow(syn, protocol.WithState, protocol.WithFrags), packetRow(syn, protocol.WithShort, protocol.WithLowTTL, protocol.WithOOW, protocol.WithBad, protocol.WithNAT),
		packetRow(ip4(17, 1, 0, a, "224.0.0.1", udp("")...), protocol.WithMulticast), packetRow(ip4(17, 1, 0, a, "255.255.255.255", udp("")...), protocol.WithBroadcast),
		protocol.LogRow{Log: "packets", Time: clock, Event: "pass", Direction: "out", Interface: "en1", Group: "web", Rule: 17, Tag: 42, Packet: syn},
		protocol.LogRow{Log: "packets", Time: clock, Event: "pass", Direction: "in", Interface: "en1", Rule: 2, Anyway: true, Packet: syn},
		protocol.LogRow{Log: "packets", Time: clock, Event: "block", Direction: "in", Interface: "en1", Rule: 2, Anyway: true, Packet: syn},
		protocol.LogRow{Log: "packets", Time: clock, Event: "log", Direction: "in", Interface: "en1", Rule: 2, Packet: syn},
		protocol.LogRow{Log: "packets", Time: clock, Event: "nomatch", Direction: "in", Interface: "en1", Anyway: true, Packet: syn},
	)
	state := protocol.StateRow{Family: "inet", Protocol: 6, Src: a, Dst: b, SrcPort: 1024, DstPort: 22, TCP: [2]int{4, 4}, Packets: [4]uint64{5, 4, 3, 2}, Bytes: [4]uint64{500, 400, 300, 200}}
	closed := state
	closed.TCP = [2]int{10, 10}
	echo := protocol.StateRow{Family: "inet6", Protocol: 58, ICMPType: 128, Src: c, Dst: d, SrcPort: 7, DstPort: 7}
	gre := protocol.StateRow{Family: "inet", Protocol: 47, Src: a, Dst: b}
	for _, s := range []struct {
		event string
		s     protocol.StateRow
	}{{"NEW", state}, {"EXPIRE", state}, {"EXPIRE", closed}, {"REMOVE", echo}, {"NEW", echo}, {"NEW", gre}} {
		all = append(all, protocol.LogRow{Log: "states", Time: clock, Event: s.event, State: &s.s})
	}
	session := protocol.NATSessionRow{Kind: "map", Interface: "en0", Protocol: 6, Inside: "10.0.0.2:1024", Outer: "192.0.2.1:40001", Remote: "198.51.100.1:80", PacketsIn: 4, PacketsOut: 5, BytesIn: 1200, BytesOut: 340}
	rdr, block, other := session, session, session
	rdr.Kind, block.Kind, other.Kind = "rdr", "map-block", "nat64"
	other.Protocol, other.Inside, other.Outer, other.Remote = 47, "[2001:db8::2]:0", "192.0.2.1:0", "198.51.100.1:0"
	for _, s := range []struct {
		event string
		rule  int
		s     protocol.NATSessionRow
	}{{"NEW", 1, session}, {"NEW", 2, rdr}, {"NEW", 3, block}, {"NEW", 4, other}, {"EXPIRE", 1, session}, {"FLUSH", 0, session}, {"EVICT", 1, session}} {
		all = append(all, protocol.LogRow{Log: "nat", Time: clock, Event: s.event, Rule: s.rule, Session: &s.s})
	}
	return all
}

// fake is a stack whose logs have the records; behind them end what err says.
type fake struct {
	mu      sync.Mutex
	rows    [3][]protocol.LogRow
	waiting [3]int
	lost    uint32
	err     error // nil: the logs stay open
}

type fakeLog struct {
	f     *fake
	which uint8
	end   chan struct{}
	once  sync.Once
}

func newFake(rows ...protocol.LogRow) *fake {
	f := &fake{}
	for _, r := range rows {
		which := map[string]int{"packets": 0, "states": 1, "nat": 2}[r.Log]
		f.rows[which] = append(f.rows[which], r)
	}
	return f
}

func (f *fake) Log(which uint8) log { return &fakeLog{f: f, which: which, end: make(chan struct{})} }

func (f *fake) Waiting() ([3]int, error) { return f.waiting, nil }

func (f *fake) LookupAddr(_ context.Context, a netip.Addr) (string, error) {
	if a.String() == "10.0.0.1" {
		return "gate.example", nil
	}
	return "", errors.New("no name")
}

func (l *fakeLog) Next() ([]protocol.LogRow, uint32, error) {
	l.f.mu.Lock()
	rows, lost, err := l.f.rows[l.which], l.f.lost, l.f.err
	l.f.rows[l.which], l.f.lost = nil, 0
	l.f.mu.Unlock()
	if len(rows) > 0 {
		return rows, lost, nil
	}
	if err != nil {
		return nil, 0, err
	}
	<-l.end
	return nil, 0, net.ErrClosed
}

func (l *fakeLog) Close() { l.once.Do(func() { close(l.end) }) }

// ipmon runs a command line on a stack until that ends.
func ipmon(t *testing.T, s *fake, stdin, line string) (string, error) {
	t.Helper()
	args, asJSON := strings.CutSuffix(line, " --json")
	o, err := parse(strings.Fields(args))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	tl := &tool{ctx: t.Context(), o: o, json: asJSON, stack: s, stdin: strings.NewReader(stdin), zone: time.UTC}
	if tl.out, err = open(o, &b); err != nil {
		return "", err
	}
	defer tl.out.close()
	if o.flush {
		if err := tl.flush(&b); err != nil {
			return b.String(), err
		}
	}
	err = tl.do()
	return b.String(), err
}

var gone = &protocol.Error{Errno: syscall.ENODEV, Text: "no packet filter in this stack"}

func TestLines(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{"", "-v", "-n", "-np", "-o N", "-o S", "-o SN -O S"} {
		s := newFake(records()...)
		s.err = gone
		out, err := ipmon(t, s, "", line)
		if err == nil || err.Error() != gone.Text {
			t.Errorf("%q ends with %v", line, err)
		}
		if line != "" && !strings.HasPrefix(line, "-o") {
			out = strings.Join(strings.SplitAfter(out, "\n")[:5], "") + "…\n"
		}
		fmt.Fprintf(&b, "$ ipmon %s\n%s", line, out)
	}
	for _, line := range []string{"-x", "-b", "-X"} {
		s := newFake(packetRow(ip4(17, 1, 0, "10.0.0.2", "10.0.0.1", udp("What follows, in body.\n")...)), packetRow(nil))
		s.err = gone
		out, _ := ipmon(t, s, "", line)
		fmt.Fprintf(&b, "$ ipmon %s\n%s", line, out)
	}
	golden.Check(t, "lines", b.String())
}

func TestAllLogs(t *testing.T) {
	s := newFake(records()...)
	s.lost, s.err = 3, gone
	out, _ := ipmon(t, s, "", "-a")
	for _, want := range []string{" PR tcp len 20 40 -S IN\n", " STATE:NEW ", " NAT:MAP ", "ipmon: 3 records of "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if got, want := strings.Count(out, "\n"), len(records())+1; got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
}

// What -B and --json write is read again.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	s := newFake(records()...)
	s.err = gone
	want, _ := ipmon(t, s, "", "-B "+dir+"/kept "+dir+"/lines")
	if want != "" {
		t.Errorf("a file has the lines, and here are\n%s", want)
	}
	lines, err := os.ReadFile(dir + "/lines")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ipmon(t, newFake(), "", "-f "+dir+"/kept")
	if err != nil || got != string(lines) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, lines)
	}
	kept, err := ipmon(t, newFake(), "", "-f "+dir+"/kept --json")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ipmon(t, newFake(), kept, "-f -"); err != nil || got != string(lines) {
		t.Errorf("by JSON: %v\n%s", err, got)
	}
	if got, err := ipmon(t, newFake(), strings.TrimSuffix(kept, "\n"), "-f -"); err != nil || got != string(lines) {
		t.Errorf("without the last end of line: %v\n%s", err, got)
	}
	for _, bad := range []string{"{}\n", "not JSON\n", kept + `{"time":"x"}`, strings.Repeat("x", maxRecord+1)} {
		if _, err := ipmon(t, newFake(), bad, "-f -"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("stdin:%d: no record", strings.Count(bad, "\n")+1-strings.Count(bad[len(bad)-1:], "\n"))) {
			t.Errorf("%.40q…: %v", bad, err)
		}
	}
}

// A file that grows is followed until ipmon is ended; a line may come in parts.
func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept")
	row := packetRow(ip4(6, 1, 0, "10.0.0.2", "10.0.0.1", tcp(2, "")...))
	record, _ := json.Marshal(row)
	if err := os.WriteFile(path, append(append(record, '\n'), record[:20]...), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{"-t", "-f", path})
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	tl := &tool{ctx: ctx, o: o, stdin: strings.NewReader(""), zone: time.UTC}
	if tl.out, err = open(o, w); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- tl.do() }()
	line := make([]byte, 200)
	n, _ := r.Read(line)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(record[20:], '\n')); err != nil {
		t.Fatal(err)
	}
	again := make([]byte, 200)
	m, _ := r.Read(again)
	if string(line[:n]) != string(again[:m]) || n == 0 {
		t.Errorf("%q and then %q", line[:n], again[:m])
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// SIGHUP has the files opened anew; SIGTERM is an end in peace.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lines")
	o, err := parse([]string{"-a", "-B", path + ".kept", path})
	if err != nil {
		t.Fatal(err)
	}
	hup := make(chan os.Signal)
	ctx, stop := context.WithCancel(t.Context())
	tl := &tool{ctx: ctx, o: o, stack: newFake(), hup: hup, zone: time.UTC}
	if tl.out, err = open(o, io.Discard); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- tl.do() }()
	for _, p := range []string{path, path + ".kept"} {
		if err := os.Rename(p, p+".old"); err != nil {
			t.Fatal(err)
		}
	}
	hup <- syscall.SIGHUP
	hup <- syscall.SIGHUP // taken: the first has been served
	for _, p := range []string{path, path + ".kept"} {
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStackEnds(t *testing.T) {
	for err, want := range map[error]string{
		gone: "no packet filter in this stack",
		&protocol.Error{Errno: syscall.EPERM, Text: "only the superuser"}: "only the superuser",
		errors.New("the stack at /x has gone"):                            "the stack at /x has gone",
	} {
		s := newFake()
		s.err = err
		if _, got := ipmon(t, s, "", "-a"); got == nil || got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

func TestFlush(t *testing.T) {
	s := newFake(records()...)
	s.waiting = [3]int{len(s.rows[0]), 0, len(s.rows[2])}
	s.rows[1], s.err = nil, gone
	out, _ := ipmon(t, s, "", "-aF")
	if want := fmt.Sprintf("%d records of packets flushed from log buffer\n0 records of states flushed from log buffer\n7 records of NAT flushed from log buffer\n", s.waiting[0]); out != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
}

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer func(p []string) { syslogPaths = p }(syslogPaths)
	syslogPaths = []string{path}
	rows := []protocol.LogRow{packetRow(records()[0].Packet), packetRow(nil, protocol.WithShort), packetRow(nil), packetRow(nil), packetRow(nil), packetRow(nil), packetRow(nil)}
	rows[2].Event, rows[3].Event, rows[4].Event, rows[5].Level, rows[6].Level = "pass", "log", "nomatch", "auth.alert", "debug"
	rows = append(rows, protocol.LogRow{Log: "states", Time: clock, Event: "NEW", State: &protocol.StateRow{}})
	const local0, auth = 16 << 3, 4 << 3
	for i, want := range []int{local0 | 4, local0 | 3, local0 | 5, local0 | 6, local0 | 5, auth | 1, local0 | 7, local0 | 6} {
		s := newFake(rows[i])
		s.err = gone
		if _, err := ipmon(t, s, "", "-as"); err == nil {
			t.Fatal("no end")
		}
		b := make([]byte, 2048)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got := string(b[:n])
		if !strings.HasPrefix(got, fmt.Sprintf("<%d>", want)) || !strings.Contains(got, fmt.Sprintf(" ipmon[%d]: 03:12:45.123456 ", os.Getpid())) {
			t.Errorf("%+v: %q, want priority %d", rows[i], got, want)
		}
	}
	syslogPaths = []string{path + ".none"}
	if _, err := ipmon(t, newFake(), "", "-s"); err == nil || !strings.Contains(err.Error(), "no syslog on this host") {
		t.Error(err)
	}
}

func TestMisuse(t *testing.T) {
	for line, want := range map[string]string{
		"a b":              `"b": one file is written`,
		"-s a":             `"a": with -s syslog has the lines, and no file`,
		"-D":               "-D needs a file or -s: a daemon has no terminal",
		"-o X":             "-o X: logs are N, S and I",
		"-O I":             "no log is left to be read",
		"-f /dev/ipfoo":    "/dev/ipfoo: the logs are /dev/ipl, /dev/ipstate and /dev/ipnat",
		"-f - -N -":        "standard input is read once",
		"-L local9":        `"local9" is no facility of syslog`,
		"-f /nowhere/to/b": "open /nowhere/to/b: no such file or directory",
		"/nowhere/to/b":    "open /nowhere/to/b: no such file or directory",
		"-C conf":          "illegal option -- C",
	} {
		if _, err := ipmon(t, newFake(), "", line); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	o, err := parse(strings.Fields("-f /dev/ipnat"))
	if err != nil || len(o.sources) != 1 || o.sources[0] != (source{log: protocol.LogNAT}) {
		t.Errorf("%+v, %v", o, err)
	}
}

// Whatever octets a record has, it makes a line.
func FuzzLine(f *testing.F) {
	for _, r := range records() {
		f.Add(r.Packet)
	}
	p := printer{zone: time.UTC, date: true, verbose: true, host: netip.Addr.String, port: func(n, _ int) string { return fmt.Sprint(n) }}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := packetRow(b)
		line := p.line(&r)
		if bytes.ContainsRune(line, '\n') || !bytes.HasSuffix(line, []byte(" IN")) {
			t.Errorf("%q", line)
		}
		if q, ok := decode(b); ok {
			if len(q.body) > len(b) || q.hl < 20 || q.src.Is4() == q.v6 {
				t.Errorf("%+v", q)
			}
			dump(q.payload())
		}
	})
}
