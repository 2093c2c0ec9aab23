package arp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/cli/golden"
)

type fake struct {
	rows []protocol.NeighbourRow
	sent []protocol.RouteMessage
	fail map[string]syscall.Errno
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "gate" {
		return []netip.Addr{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("10.0.0.25")}, nil
	}
	return nil, errors.New("no such host")
}

func (f *fake) LookupAddr(_ context.Context, ip netip.Addr) (string, error) {
	if ip.String() == "10.0.0.25" {
		return "gate.example.org", nil
	}
	return "", errors.New("no name")
}

func (f *fake) Neighbours() ([]protocol.NeighbourRow, error) { return f.rows, nil }

func (f *fake) Request(m protocol.RouteMessage) (protocol.RouteMessage, error) {
	if e, ok := f.fail[m.Dst.IP.String()]; ok {
		return m, &protocol.Error{Errno: e}
	}
	f.sent = append(f.sent, m)
	return m, nil
}

func (f *fake) Close() error { return nil }

var clock = time.Unix(1_000_000, 0)

func sample() *fake {
	return &fake{
		rows: []protocol.NeighbourRow{
			{Family: "inet", Address: "10.0.0.25", Link: "00:50:da:01:02:03", Interface: "en0", Expire: 1199, Refs: 1, Use: 118},
			{Family: "inet", Address: "10.0.0.26", Interface: "en0"},
			{Family: "inet6", Address: "fe80::1%en0", Interface: "en0", State: "INCOMPLETE"}, // which is ndp's
			{Family: "inet", Address: "10.0.0.27", Link: "00:50:da:01:02:04", Interface: "en0", Permanent: true},
			{Family: "inet", Address: "10.0.0.28", Link: "00:50:da:01:02:05", Interface: "en1", Permanent: true, Published: true},
			{Family: "inet", Address: "10.0.0.29", Link: "00:50:da:01:02:06", Interface: "en1", Permanent: true, Published: true, ProxyOnly: true},
		},
		fail: map[string]syscall.Errno{"10.0.0.9": syscall.ESRCH, "10.0.0.8": syscall.EPERM, "192.168.1.1": syscall.ENETUNREACH, "10.0.0.7": syscall.ENXIO},
	}
}

// arp runs a command line on a fake stack as the command does.
func arp(f *fake, asJSON bool, input, line string) (string, int) {
	var b strings.Builder
	fmt.Fprintf(&b, "$ arp %s\n", line)
	r, err := parse(strings.Fields(line))
	if err != nil {
		fmt.Fprintf(&b, "usage: %v\n", err)
		return b.String(), 1
	}
	t := &tool{out: &b, err: &b, json: asJSON, table: f, now: func() time.Time { return clock },
		change:   func() (changer, error) { return f, nil },
		openFile: func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(input)), nil }}
	switch err := t.do(context.Background(), r); {
	case errors.Is(err, errSaid):
		return b.String(), 1
	case err != nil:
		fmt.Fprintf(&b, "arp: %v\n", err)
		return b.String(), 1
	}
	return b.String(), 0
}

func TestOutput(t *testing.T) {
	var all strings.Builder
	for _, line := range []string{"-a", "-an", "-n", "-av", "gate", "10.27", "10.0.0.9", "nobody", "-d 10.0.0.25", "-d gate", "-d 10.0.0.9", "-d 10.0.0.8",
		"-d -a", "-s 10.25 0:50:da:1:2:3", "-s 192.168.1.1 0:50:da:1:2:3 pub", "-s 10.7 0:50:da:1:2:3 proxy en9", "2001:db8::1", "-d fe80::1%en0"} {
		out, status := arp(sample(), false, "", line)
		fmt.Fprintf(&all, "%sexit %d\n", out, status)
	}
	golden.Check(t, "arp", all.String())
}

func TestJSON(t *testing.T) {
	out, _ := arp(sample(), true, "", "-a")
	golden.Check(t, "json", out)
	if out, status := arp(sample(), true, "", "10.0.0.9"); out != "$ arp 10.0.0.9\n[]\n" || status != 1 {
		t.Errorf("absent: %q %d", out, status)
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		line    string
		mask    int
		flags   uint32
		expire  uint64
		ifname  string
		address string
	}{
		{"-s 10.25 0:50:da:1:2:3", -1, 0, 0, "", "10.0.0.25"},
		{"-s gate 0:50:da:1:2:3 temp", -1, 0, 1_001_200, "", "10.0.0.25"},
		{"-s gate 0:50:DA:1:2:3 pub temp", 32, 0, 1_001_200, "", "10.0.0.25"},
		{"-s gate 0:50:da:01:02:03 proxy", 32, protocol.RTFProto2, 0, "", "10.0.0.25"},
		{"-s gate 0:50:da:1:2:3 pro en1 temp", 32, protocol.RTFProto2, 1_001_200, "en1", "10.0.0.25"},
	} {
		f := sample()
		if out, status := arp(f, false, "", c.line); status != 0 || len(f.sent) != 1 {
			t.Errorf("%q: %s, %d sent", c.line, out, len(f.sent))
			continue
		}
		m := f.sent[0]
		mask := -1
		if m.Netmask.IsValid() {
			mask = protocol.MaskBits(m.Netmask)
		}
		flags := protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFStatic | c.flags
		if m.Type != protocol.RTMAdd || mask != c.mask || m.Flags != flags || m.Metrics.Expire != c.expire || m.Gateway.Link.Name != c.ifname ||
			m.Dst.IP.String() != c.address || m.Gateway.Link.HW().String() != "00:50:da:01:02:03" {
			t.Errorf("%q sent %+v", c.line, m)
		}
	}
}

func TestFile(t *testing.T) {
	f := sample()
	out, status := arp(f, false, "# hosts\ngate 0:50:da:1:2:3 pub # the gate\n\nnobody 0:50:da:1:2:4\n10.0.0.31 0:50:da:1:2\n10.0.0.32 0:50:da:1:2:5 soon\n10.0.0.33\n10.0.0.34 0:50:da:1:2:6\n", "-f hosts")
	golden.Check(t, "file", out)
	if status != 1 || len(f.sent) != 2 {
		t.Errorf("status %d, %d sent, want 1 and 2", status, len(f.sent))
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "one host is to be looked up, not 0 words"},
		{"a b", "one host is to be looked up, not 2 words"},
		{"-a b", "-a takes no host, not 1 words"},
		{"-d", "-d takes one host, not 0 words"},
		{"-d -a x", "-d -a takes no host, not 1 words"},
		{"-f", "-f takes one file, not 0 words"},
		{"-p x -f y", "-f works with the built-in ARP only, not with -p"},
		{"-s -f y", "-a and -d, -s and -f exclude each other"},
		{"-s x", "an entry is a host and its Ethernet address"},
		{"-s x 1:2:3", `"1:2:3" is no Ethernet address: six octets like 0:50:da:1:2:3`},
		{"-s x 1:2:3:4:5:g0", `"1:2:3:4:5:g0" is no Ethernet address: six octets like 0:50:da:1:2:3`},
		{"-s x ff:ff:ff:ff:ff:ff", `"ff:ff:ff:ff:ff:ff" is a group's address, which no host has`},
		{"-s x 0:1:2:3:4:5 en0", `"en0": behind the Ethernet address temp, pub and proxy are known`},
		{"-z", "illegal option -- z"},
		{"-p", "option requires an argument -- p"},
	} {
		_, err := parse(strings.Fields(c.line))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.line, err, c.want)
		}
	}
}

func TestModulePrefix(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/dev/io-net1", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/dev/io-net1/ip_en", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir + "/dev/io-net1/ip_en", "/dev/io-net1/ip_en"} {
		if got, err := modulePrefix(p, dir); got != dir || err != nil {
			t.Errorf("%s: %q, %v", p, got, err)
		}
	}
	if _, err := modulePrefix("/etc/passwd", dir); err == nil {
		t.Error("/etc/passwd is no module")
	}
}

func TestUsage(t *testing.T) {
	var b strings.Builder
	ctx := &cli.Context{Stdout: io.Discard, Stderr: &b, Env: func(string) string { return "" }}
	if status := Command.Exec(ctx, []string{"-d", "x", "--json"}); status != 1 || !strings.HasPrefix(b.String(), "arp: --json is there for showing entries\nusage: arp ") {
		t.Errorf("%d %q", status, b.String())
	}
}

func FuzzSetting(f *testing.F) {
	f.Add("gate 0:50:da:1:2:3 pub temp # x")
	f.Add("10.25 0:50:da:1:2:3 proxy en0")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := parseSetting(LineWords(line))
		if err == nil && (len(s.ether) != 6 || s.host == "" || len(s.ifname) >= protocol.IfNameLen) {
			t.Errorf("%q became %+v", line, s)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-an", "-d -a", "-s x 0:1:2:3:4:5 pub", "-pf x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if r, err := parse(strings.Fields(line)); err == nil && r.mode == 0 {
			t.Errorf("%q asks for nothing", line)
		}
	})
}
