package ndp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake is a stack that two routers have told of prefixes.
type fake struct {
	sent  []protocol.RouteMessage
	calls []string
	fail  map[string]syscall.Errno
	defif string
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "gate" {
		return []netip.Addr{netip.MustParseAddr("10.0.0.25"), netip.MustParseAddr("2001:db8::25")}, nil
	}
	return nil, errors.New("no such host")
}

func (f *fake) LookupAddr(_ context.Context, ip netip.Addr) (string, error) {
	if ip.String() == "2001:db8::25" {
		return "gate.of.a.long.name.indeed.example.org", nil
	}
	return "", errors.New("no name")
}

func (f *fake) IfIndex(name string) (int, error) {
	if name == "en0" {
		return 2, nil
	}
	return 0, syscall.ENXIO
}

func (f *fake) Neighbours() ([]protocol.NeighbourRow, error) {
	return []protocol.NeighbourRow{
		{Family: "inet", Address: "10.0.0.25", Link: "00:50:da:01:02:03", Interface: "en0", Expire: 1199},
		{Family: "inet6", Address: "fe80::250:daff:fe01:203%en0", Link: "00:50:da:01:02:03", Interface: "en0", Expire: 86398, State: "STALE", Router: true},
		{Family: "inet6", Address: "2001:db8::25", Link: "00:50:da:01:02:03", Interface: "en0", Expire: 17, State: "REACHABLE"},
		{Family: "inet6", Address: "2001:db8::26", Interface: "en0", Expire: 1, State: "INCOMPLETE", Probes: 2},
		{Family: "inet6", Address: "2001:db8:1234:5678:9abc:def0:1234:5678", Link: "00:50:da:01:02:14", Interface: "en0", State: "PERMANENT", Permanent: true, Published: true},
		{Family: "inet6", Address: "2001:db8::28", Link: "aa:50:da:01:02:15", Interface: "en1", State: "PROBE", Router: true, Probes: 1},
		{Family: "inet6", Address: "2001:db8::29", Link: "aa:50:da:01:02:16", Interface: "en1", State: "DELAY", Expire: 4},
	}, nil
}

func (f *fake) Prefixes() ([]protocol.PrefixRow, error) {
	return []protocol.PrefixRow{
		{Prefix: "2001:db8::/64", Interface: "en0", OnLink: true, Autonomous: true, Preferred: 604800, Valid: 2592000, Expire: 2591990, Refs: 2,
			Routers: []string{"fe80::250:daff:fe01:203%en0", "2001:db8::26", "fe80::9%en0"}},
		{Prefix: "2001:db8:1::/64", Interface: "en0", OnLink: true, Detached: true, Preferred: -1, Valid: -1, Expire: -1},
		{Prefix: "2001:db8:2::/64", Interface: "en1", Autonomous: true, Valid: 60, Expire: 0, Refs: 1},
	}, nil
}

func (f *fake) Routers() ([]protocol.RouterRow, error) {
	return []protocol.RouterRow{
		{Address: "fe80::250:daff:fe01:203%en0", Interface: "en0", Flags: 0xc8, Managed: true, Other: true, Preference: "high", Lifetime: 1800, Expire: 1795, Default: true},
		{Address: "2001:db8::25", Interface: "en1", Preference: "medium", Lifetime: 1800},
	}, nil
}

func (f *fake) ND(name string) ([]protocol.NDIfRow, error) {
	switch name {
	case "en0":
		return []protocol.NDIfRow{{Interface: "en0", LinkMTU: 1500, MaxMTU: 1500, CurHopLimit: 64, BaseReachable: 30000, Reachable: 31500, Retrans: 1000, Flags: 3}}, nil
	case "en1":
		return []protocol.NDIfRow{{Interface: "en1", LinkMTU: 1280, CurHopLimit: 64, BaseReachable: 30500, Reachable: 15000, Retrans: 250}}, nil
	}
	return nil, &protocol.Error{Errno: syscall.ENXIO}
}

func (f *fake) do(format string, a ...any) error {
	call := fmt.Sprintf(format, a...)
	f.calls = append(f.calls, call)
	if e, ok := f.fail[call]; ok {
		return &protocol.Error{Errno: e}
	}
	return nil
}

func (f *fake) SetNDFlags(name string, set, clear uint32) error {
	return f.do("flags %s +%x -%x", name, set, clear)
}
func (f *fake) FlushPrefixes() error              { return f.do("flush prefixes") }
func (f *fake) FlushRouters() error               { return f.do("flush routers") }
func (f *fake) DefaultInterface() (string, error) { return f.defif, nil }
func (f *fake) SetDefaultInterface(name string) error {
	f.defif = name
	return f.do("default %s", name)
}

func (f *fake) Request(m protocol.RouteMessage) (protocol.RouteMessage, error) {
	if e, ok := f.fail[m.Dst.IP.String()]; ok {
		return m, &protocol.Error{Errno: e}
	}
	f.sent = append(f.sent, m)
	return m, nil
}

func (f *fake) Close() error { return nil }

var clock = time.Date(2026, 11, 3, 21, 34, 5, 6000, time.UTC)

func sample() *fake {
	return &fake{fail: map[string]syscall.Errno{"2001:db8::9": syscall.ESRCH, "2001:db8::8": syscall.EPERM, "2001:db9::1": syscall.ENETUNREACH,
		"flags xx0 +1 -0": syscall.ENXIO, "default xx0": syscall.ENXIO, "flags en1 +0 -1": syscall.EPERM}}
}

// ndp runs a command line on a fake stack as the command does.
func ndp(f *fake, asJSON bool, input, line string) (string, int) {
	var b strings.Builder
	fmt.Fprintf(&b, "$ ndp %s\n", line)
	r, err := parse(strings.Fields(line))
	if err != nil {
		fmt.Fprintf(&b, "usage: %v\n", err)
		return b.String(), 1
	}
	waits := 0
	t := &tool{out: &b, err: &b, json: asJSON, stack: f, now: func() time.Time { return clock },
		wait: func(context.Context, time.Duration) error {
			if waits++; waits > 1 {
				return context.Canceled
			}
			return nil
		},
		change:   func() (changer, error) { return f, nil },
		openFile: func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(input)), nil }}
	switch err := t.do(context.Background(), r); {
	case errors.Is(err, errSaid):
		return b.String(), 1
	case err != nil:
		fmt.Fprintf(&b, "ndp: %v\n", err)
		return b.String(), 1
	}
	return b.String(), 0
}

func TestOutput(t *testing.T) {
	var all strings.Builder
	for _, line := range []string{"-a", "-an", "-anl", "-nat", "-nA 5", "gate", "-n gate", "fe80::250:daff:fe01:203%en0", "2001:db8::9", "fe80::1", "10.0.0.25", "nobody",
		"-d 2001:db8::25", "-d gate", "-d fe80::1%en0", "-d fe80::1%xx0", "-d 2001:db8::9", "-d 2001:db8::8", "-nc", "-p", "-np", "-r", "-nr", "-i en0", "-i en1", "-i xx0",
		"-i en0 nud", "-i xx0 nud", "-i en1 -nud", "-I", "-I en0", "-I xx0", "-I delete", "-P", "-R", "-H",
		"-s gate 0:50:da:1:2:3", "-s 2001:db9::1 0:50:da:1:2:3 proxy", "-s 2001:db8::8 0:50:da:1:2:3 temp"} {
		out, status := ndp(sample(), false, "", line)
		fmt.Fprintf(&all, "%sexit %d\n", out, status)
	}
	golden.Check(t, "ndp", all.String())
}

func TestJSON(t *testing.T) {
	var all strings.Builder
	for _, line := range []string{"-a", "gate", "2001:db8::9", "-p", "-r", "-i en0"} {
		out, status := ndp(sample(), true, "", line)
		fmt.Fprintf(&all, "%sexit %d\n", out, status)
	}
	golden.Check(t, "json", all.String())
}

func TestCalls(t *testing.T) {
	for line, want := range map[string]string{
		"-i en0 nud -accept_rtadv prefer_source": "flags en0 +5 -2",
		"-i en0 nud -nud":                        "flags en0 +0 -1",
		"-I en0":                                 "default en0",
		"-I delete":                              "default ",
		"-P":                                     "flush prefixes",
		"-R":                                     "flush routers",
	} {
		f := sample()
		if out, status := ndp(f, false, "", line); status != 0 || len(f.calls) != 1 || f.calls[0] != want {
			t.Errorf("%s: %q, want %s\n%s", line, f.calls, want, out)
		}
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		line, address string
		mask          int
		flags         uint32
		expire        uint64
	}{
		{"-s gate 0:50:da:1:2:3", "2001:db8::25", -1, 0, 0},
		{"-s fe80::25%en0 0:50:DA:1:2:3 temp", "fe80::25%2", -1, 0, uint64(clock.Unix()) + 1200},
		{"-s fe80::25%7 0:50:da:01:02:03 proxy", "fe80::25%7", 128, protocol.RTFProto2, 0},
	} {
		f := sample()
		if out, status := ndp(f, false, "", c.line); status != 0 || len(f.sent) != 1 {
			t.Errorf("%q: %s, %d sent", c.line, out, len(f.sent))
			continue
		}
		m := f.sent[0]
		flags := protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFStatic | c.flags
		if m.Type != protocol.RTMAdd || m.NetmaskBits != c.mask || m.Flags != flags || m.Metrics.Expire != c.expire ||
			m.Dst.IP.String() != c.address || m.Gateway.Link.HW().String() != "00:50:da:01:02:03" {
			t.Errorf("%q sent %+v", c.line, m)
		}
	}
}

func TestFile(t *testing.T) {
	f := sample()
	out, status := ndp(f, false, "# hosts\ngate 0:50:da:1:2:3 proxy # the gate\n\nnobody 0:50:da:1:2:4\nfe80::1 0:50:da:1:2:5\n2001:db8::31 0:50:da:1:2\n"+
		"2001:db8::32 0:50:da:1:2:5 soon\n2001:db8::33\n2001:db8::34 0:50:da:1:2:6\n", "-f hosts")
	golden.Check(t, "file", out)
	if status != 1 || len(f.sent) != 2 {
		t.Errorf("status %d, %d sent, want 1 and 2", status, len(f.sent))
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "one host is to be looked up, not 0 words"},
		{"a b", "one host is to be looked up, not 2 words"},
		{"-a b", `"b": -a stands alone`},
		{"-a -c", "-a and -c exclude each other"},
		{"-A 0", "-A 0: a number of seconds from 1 on belongs there"},
		{"-d", "-d takes one host, not 0 words"},
		{"-f", "-f takes one file, not 0 words"},
		{"-I a b", "-I takes one interface, or delete, not 2 words"},
		{"-i", "-i takes an interface, and flags"},
		{"-i en0 slow", `"slow": nud, accept_rtadv and prefer_source are known, with - before them too`},
		{"-s x", "an entry is a node and its Ethernet address"},
		{"-s x 1:2:3", `"1:2:3" is no Ethernet address: six octets like 0:50:da:1:2:3`},
		{"-s x 0:1:2:3:4:5 pub", `"pub": behind the Ethernet address temp and proxy are known`},
		{"-z", "illegal option -- z"},
	} {
		if _, err := parse(strings.Fields(c.line)); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.line, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-an", "-A 3 -t", "-s x 0:1:2:3:4:5 proxy", "-i en0 -nud", "-I delete"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if r, err := parse(strings.Fields(line)); err == nil && (r.mode == 0 || r.mode == modeSet && len(r.set.ether) != 6) {
			t.Errorf("%q became %+v", line, r)
		}
	})
}
