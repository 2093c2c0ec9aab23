package route

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake is a stack with a few routes, and its routing socket.
type fake struct {
	routes  []protocol.Message
	sent    []protocol.RouteMessage
	fail    map[string]syscall.Errno // by destination
	replies []protocol.Message
	reads   [][]protocol.Message
	answer  *protocol.RouteMessage
	noReads error
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	switch name {
	case "gw":
		return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::99")}, nil
	case "multi":
		return []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("10.0.0.2")}, nil
	}
	return nil, errors.New("no such host")
}

func (f *fake) LookupAddr(_ context.Context, ip netip.Addr) (string, error) {
	if ip.String() == "10.0.0.25" {
		return "gate.example.org", nil
	}
	return "", errors.New("no name")
}

func (f *fake) IfIndex(name string) (int, error) {
	if name == "en0" {
		return 2, nil
	}
	return 0, errors.New("no such interface")
}

func (f *fake) IfName(index int) (string, error) {
	if index == 2 {
		return "en0", nil
	}
	return "", errors.New("no such interface")
}

func (f *fake) Dump(what, family int, _ uint32) iter.Seq2[protocol.Message, error] {
	return func(yield func(protocol.Message, error) bool) {
		for _, m := range f.routes {
			if r, ok := m.(*protocol.RouteMessage); ok == (what == protocol.DumpIfList) || ok && family != 0 && r.Dst.Family != family {
				continue
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

func (f *fake) Request(m protocol.RouteMessage) (protocol.RouteMessage, error) {
	f.sent = append(f.sent, m)
	key := m.Dst.IP.String()
	if m.Gateway.IP.IsValid() {
		if e, ok := f.fail[m.Gateway.IP.String()]; ok {
			return m, &protocol.Error{Errno: e}
		}
	}
	if e, ok := f.fail[key]; ok {
		return m, &protocol.Error{Errno: e}
	}
	if f.answer != nil {
		return *f.answer, nil
	}
	return m, nil
}

func (f *fake) Write(msgs ...protocol.Message) error {
	for _, m := range msgs {
		r := *m.(*protocol.RouteMessage)
		f.sent = append(f.sent, r)
		r.Errno = f.fail[r.Dst.IP.String()]
		f.replies = append(f.replies, &protocol.IfMessage{Index: 1}, &r)
	}
	return nil
}

func (f *fake) Read() ([]protocol.Message, error) {
	if len(f.reads) > 0 {
		m := f.reads[0]
		f.reads = f.reads[1:]
		return m, nil
	}
	if len(f.replies) == 0 {
		return nil, f.noReads
	}
	n := min(len(f.replies), 7)
	m := f.replies[:n]
	f.replies = f.replies[n:]
	return m, nil
}

func (f *fake) ReadRaw() ([]byte, error) {
	msgs, err := f.Read()
	var b []byte
	for _, m := range msgs {
		b = protocol.AppendMessage(b, m)
	}
	return b, err
}

func (f *fake) Close() error { return nil }

func at(unix int64) func() time.Time { return func() time.Time { return time.Unix(unix, 0) } }

var clock = time.Date(2026, 11, 3, 21, 34, 5, 0, time.UTC)

// route runs the command on a fake stack.
func route(f *fake, o options, input string, args ...string) (out, stderr string, status int) {
	var w, e strings.Builder
	t := &tool{options: o, out: bufio.NewWriter(&w), err: &e, now: func() time.Time { return clock },
		table: func() (table, error) { return f, nil }, socket: func() (socket, error) { return f, nil },
		openFile: func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(input)), nil }}
	status = t.run(context.Background(), args)
	return w.String(), e.String(), status
}

func prefix(dst, gw string, flags uint32, ifname string) *protocol.RouteMessage {
	m := &protocol.RouteMessage{Type: protocol.RTMGet, Flags: flags | protocol.RTFUp, Index: 2}
	m.SetPrefix(netip.MustParsePrefix(dst))
	if a, err := netip.ParseAddr(gw); err == nil {
		m.Gateway = protocol.AddrFrom(a, 0)
	} else if a, err := link(gw); err == nil {
		m.Gateway = a
	} else {
		m.Gateway = protocol.LinkAddrOf(protocol.LinkAddr{Index: 2})
	}
	m.Ifp = protocol.LinkAddrOf(protocol.LinkAddr{Index: 2, Name: ifname, Type: protocol.IFTEthernet})
	return m
}

func sample() *fake {
	arp := prefix("10.0.0.26/32", "00:50:da:01:02:03", protocol.RTFHost|protocol.RTFLLInfo|protocol.RTFCloned, "en0")
	arp.Metrics.Expire = uint64(clock.Unix() + 1200)
	return &fake{routes: []protocol.Message{
		prefix("0.0.0.0/0", "10.0.0.25", protocol.RTFGateway|protocol.RTFStatic, "en0"),
		prefix("10.0.0.0/8", "link", protocol.RTFCloning, "en0"),
		arp,
		prefix("10.1.0.0/16", "10.0.0.25", protocol.RTFGateway|protocol.RTFStatic, "en0"),
		prefix("127.0.0.1/32", "127.0.0.1", protocol.RTFHost, "lo0"),
		prefix("2001:db8::/32", "fe80::1%2", protocol.RTFGateway, "en0"),
		&protocol.IfMessage{Index: 2, Name: "en0", Flags: 0x8843, Type: protocol.IFTEthernet,
			LinkAddr: protocol.LinkOf(2, protocol.IFTEthernet, "en0", []byte{0, 0x50, 0xda, 0xc8, 0x2f, 0x96})},
	}}
}

func TestShow(t *testing.T) {
	out, _, status := route(sample(), options{numeric: true}, "", "show")
	golden.Check(t, "show-n", out)
	if status != 0 {
		t.Errorf("status %d", status)
	}
	out, _, _ = route(sample(), options{}, "", "show", "-inet")
	golden.Check(t, "show", out)
	out, _, _ = route(sample(), options{json: true}, "", "show")
	golden.Check(t, "show-json", out)
	out, _, _ = route(&fake{}, options{json: true}, "", "show")
	if out != "[\n]\n" {
		t.Errorf("empty table: %q", out)
	}
}

func TestGet(t *testing.T) {
	answer := prefix("10.0.0.0/8", "link", protocol.RTFDone|protocol.RTFCloning, "en0")
	answer.Ifa = protocol.AddrFrom(netip.MustParseAddr("10.0.0.163"), 0)
	answer.Metrics = protocol.RouteMetrics{MTU: 1500, Locks: protocol.RTVMTU, RTT: 1600}
	f := &fake{answer: answer}
	out, _, status := route(f, options{numeric: true}, "", "get", "10.25")
	golden.Check(t, "get", out)
	if status != 0 || f.sent[0].Ifp.Family != protocol.AFLink {
		t.Errorf("status %d, asked for %+v: the interface must be asked for", status, f.sent)
	}
	gate := prefix("0.0.0.0/0", "10.0.0.25", protocol.RTFGateway|protocol.RTFStatic, "en0")
	out, _, _ = route(&fake{answer: gate}, options{verbose: true}, "", "get", "192.168.1.1")
	golden.Check(t, "get-v", out)
	out, _, _ = route(&fake{answer: answer}, options{json: true, numeric: true}, "", "get", "10.25")
	golden.Check(t, "get-json", out)

	six := prefix("2001:db8:5::/48", "fe80::1%2", protocol.RTFGateway|protocol.RTFStatic, "en0")
	six.Ifa = protocol.AddrFrom(netip.MustParseAddr("fe80::163%2"), 0)
	f = &fake{answer: six}
	out, _, _ = route(f, options{numeric: true}, "", "get", "fe80::25%en0")
	golden.Check(t, "get6", out)
	if to := f.sent[0].Dst.IP; to != netip.MustParseAddr("fe80::25%2") {
		t.Errorf("asked for %s: a zone is an index on the wire", to)
	}
	out, _, _ = route(f, options{json: true}, "", "get", "fe80::25%en0")
	golden.Check(t, "get6-json", out)
	own := &protocol.RouteMessage{Dst: protocol.AddrFrom(netip.MustParseAddr("fe80::%en0"), 0), Netmask: protocol.MaskAddr(protocol.AFInet6, 64), NetmaskBits: 64}
	if got := routeJSON(own, 0).Destination; got != "fe80::%en0/64" {
		t.Errorf("the network of one link is %q", got)
	}

	out, stderr, status := route(&fake{fail: map[string]syscall.Errno{"10.0.0.25": syscall.ESRCH}}, options{}, "", "get", "10.25")
	if out != "" || stderr != "writing to routing socket: No such process\n" || status != 1 {
		t.Errorf("no route: %q %q %d", out, stderr, status)
	}
}

func TestMonitor(t *testing.T) {
	add := prefix("10.1.0.0/16", "10.0.0.25", protocol.RTFGateway|protocol.RTFStatic|protocol.RTFDone, "")
	add.Ifp, add.Type, add.PID, add.Seq, add.Inits, add.Metrics.Locks = protocol.Addr{}, protocol.RTMAdd, 4711, 1, protocol.RTVMTU|protocol.RTVRTT, protocol.RTVMTU
	bare := &protocol.RouteMessage{Type: protocol.RTMLosing}
	miss := &protocol.RouteMessage{Type: protocol.RTMMiss, Errno: syscall.ENETUNREACH, Dst: protocol.AddrFrom(netip.MustParseAddr("192.168.1.1"), 0)}
	addr := func(s string) protocol.Addr { return protocol.AddrFrom(netip.MustParseAddr(s), 0) }
	msgs := []protocol.Message{add, bare, miss, sample().routes[6],
		&protocol.AddrMessage{Type: protocol.RTMNewAddr, Index: 2, Flags: protocol.RTFUp, Ifp: protocol.LinkAddrOf(protocol.LinkAddr{Index: 2, Name: "en0"}),
			Addr: addr("10.0.0.163"), Netmask: addr("255.0.0.0"), Brd: addr("10.255.255.255"), Bits: 8},
		&protocol.AnnounceMessage{Index: 3, Name: "en1", What: protocol.IfArrival},
		&protocol.AnnounceMessage{Index: 3, Name: "en1", What: protocol.IfDeparture},
		&protocol.AddrMessage{Type: protocol.RTMNewAddr, Index: 2, Flags: protocol.RTFUp, Ifp: protocol.LinkAddrOf(protocol.LinkAddr{Index: 2, Name: "en0"}),
			Addr: addr("fe80::163%2"), Netmask: addr("ffff:ffff:ffff:ffff::"), Bits: 64},
		prefix("2001:db8::/32", "fe80::1%2", protocol.RTFGateway, "en0"),
		&protocol.DesyncMessage{Lost: 12}}
	for _, json := range []bool{false, true} {
		name := map[bool]string{false: "monitor", true: "monitor-json"}[json]
		out, stderr, status := route(&fake{reads: [][]protocol.Message{msgs[:2], msgs[2:]}, noReads: errors.New("the stack has gone")}, options{json: json, numeric: true}, "", "monitor")
		golden.Check(t, name, out)
		if status != 1 || stderr != "route: the stack has gone\n" {
			t.Errorf("the end of the stack: %q, %d", stderr, status)
		}
	}
	out, _, _ := route(sample(), options{debug: true, numeric: true}, "", "monitor")
	golden.Check(t, "monitor-d", out)
}

func TestChange(t *testing.T) {
	var all strings.Builder
	for _, c := range []struct {
		o    options
		line string
	}{
		{options{}, "add default 10.25"},
		{options{}, "add -net 10.25 -netmask 255.255.0.0 gw"},
		{options{}, "add 1.2.3.4 gw"},
		{options{}, "add 10.9.9.9 gw"},
		{options{}, "delete 10.8.8.8"},
		{options{}, "delete 10.7.7.7"},
		{options{}, "change 10.6.6.6 gw"},
		{options{}, "add 10.5.5.5 gw"},
		{options{quiet: true}, "add default 10.25"},
		{options{quiet: true}, "add 10.9.9.9 gw"},
		{options{}, "add 11.0.0.0 multi"},
		{options{}, "add 10.2.0.0 gw 1"},
		{options{verbose: true}, "add default 10.25"},
		{options{test: true}, "add default 10.25"},
		{options{debug: true}, "delete default"},
		{options{}, "add -inet6 default fe80::1%en0"},
		{options{}, "add 2001:db8:5::/48 fe80::2%en0"},
		{options{}, "add 2001:db8:5::/48 fe80::2%en7"},
		{options{}, "add 2001:db8:5::/48 fe80::3"},
		{options{verbose: true}, "add 2001:db8:5::/48 fe80::2%en0"},
		{options{}, ""},
		{options{}, "frobnicate"},
		{options{}, "add -bogus 1.2.3.4 gw"},
		{options{}, "add default nowhere"},
		{options{json: true}, "add default 10.25"},
		{options{}, "show -link"},
	} {
		f := &fake{fail: map[string]syscall.Errno{"10.9.9.9": syscall.EEXIST, "10.8.8.8": syscall.ESRCH, "10.7.7.7": syscall.EBUSY,
			"10.6.6.6": syscall.ENOBUFS, "10.5.5.5": syscall.ENETUNREACH, "10.9.0.1": syscall.ENETUNREACH, "fe80::1%2": syscall.EAFNOSUPPORT, "fe80::3": syscall.ENETUNREACH}}
		out, stderr, status := route(f, c.o, "", strings.Fields(c.line)...)
		fmt.Fprintf(&all, "$ route %s\n%s", c.line, out)
		if stderr != "" {
			fmt.Fprintf(&all, "stderr: %s", strings.ReplaceAll(strings.TrimSuffix(stderr, "\n"), "\n", "\nstderr: ")+"\n")
		}
		fmt.Fprintf(&all, "exit %d\n", status)
		if (c.o.test || c.o.debug) && len(f.sent) > 0 {
			t.Errorf("%q: sent %+v", c.line, f.sent)
		}
	}
	golden.Check(t, "change", all.String())
}

func TestFlush(t *testing.T) {
	f := sample()
	out, _, status := route(f, options{numeric: true}, "", "flush")
	golden.Check(t, "flush", out)
	if status != 0 || len(f.sent) != 3 {
		t.Errorf("status %d, %d deleted, want the 3 with a gateway", status, len(f.sent))
	}
	for _, m := range f.sent {
		if m.Type != protocol.RTMDelete || m.Flags&protocol.RTFGateway == 0 {
			t.Errorf("sent %+v", m)
		}
	}
	f = sample()
	if out, _, _ := route(f, options{flush: true, quiet: true}, ""); out != "" || len(f.sent) != 3 {
		t.Errorf("-f -q: %q, %d deleted", out, len(f.sent))
	}
	f = sample()
	if _, _, _ = route(f, options{flush: true, quiet: true}, "", "add", "default", "gw"); len(f.sent) != 4 || f.sent[3].Type != protocol.RTMAdd {
		t.Errorf("-f add: %d sent", len(f.sent))
	}
}

func TestBatch(t *testing.T) {
	var in strings.Builder
	for i := range 3*batchSize + 5 {
		fmt.Fprintf(&in, "add 10.%d.%d.0/24 gw # number %d\n", i>>8, i&255, i)
	}
	in.WriteString("\n   # nothing\nroute delete -net 10.1.2.0/24\nadd 9.9.9.9 gw\nadd what\nget 10.1\n")
	f := &fake{fail: map[string]syscall.Errno{"9.9.9.9": syscall.EEXIST}}
	out, stderr, status := route(f, options{batch: "routes"}, in.String())
	if out != "" || status != 1 || len(f.sent) != 3*batchSize+7 {
		t.Errorf("%q, status %d, %d sent", out, status, len(f.sent))
	}
	golden.Check(t, "batch", stderr)
	f = &fake{}
	if out, stderr, status := route(f, options{batch: "routes", verbose: true}, "add default gw\n"); out != "add net default: gateway gw\n" || stderr != "" || status != 0 {
		t.Errorf("-v: %q %q %d", out, stderr, status)
	}
	f = &fake{}
	if _, stderr, status := route(f, options{batch: "routes"}, "add 2001:db8::/32 fe80::1%en0\nadd 2001:db9::/32 fe80::1%en9\n"); status != 1 ||
		stderr != "routes:2: fe80::1%en9: there is no interface en9\nroute: 1 of 2 lines of routes failed\n" || f.sent[0].Gateway.IP.Zone() != "2" {
		t.Errorf("zones: %q %d, sent %+v", stderr, status, f.sent)
	}
	f = &fake{reads: [][]protocol.Message{{&protocol.DesyncMessage{Lost: 3}}}}
	if _, stderr, status := route(f, options{batch: "routes"}, "add default gw\n"); status != 1 || !strings.Contains(stderr, "lost 3 messages") {
		t.Errorf("lost replies: %q %d", stderr, status)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line string
		want string // prefix or host, flags, gateway; or the error
	}{
		{"add default 10.25", "net 0.0.0.0/0 <UP,GATEWAY,STATIC> via 10.0.0.25"},
		{"add -net 10.25 gw", "net 10.25.0.0/16 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add -net 10 gw", "net 10.0.0.0/8 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add 10.25 gw", "host 10.0.0.25/32 <UP,GATEWAY,HOST,STATIC> via 10.0.0.1"},
		{"add 10.0.0.0 gw", "net 10.0.0.0/8 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add 172.16.0.0 gw", "net 172.16.0.0/16 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add 172.16.1.0 gw", "host 172.16.1.0/32 <UP,GATEWAY,HOST,STATIC> via 10.0.0.1"},
		{"add -net 172.16.1.0 gw", "net 172.16.1.0/24 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add -net 192.168.1 gw", "net 192.168.1.0/24 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add -net 192.168.1.0 -netmask 0xfffffff0 gw", "net 192.168.1.0/28 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add -net 192.168.1.0 gw 255.255.255.240", "net 192.168.1.0/28 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add 192.168.1.16 gw 255.255.255.240", "net 192.168.1.16/28 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add 10.1/16 gw", "net 10.1.0.0/16 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add 10.1.2.3/32 gw", "host 10.1.2.3/32 <UP,GATEWAY,HOST,STATIC> via 10.0.0.1"},
		{"add 0/0 gw", "net 0.0.0.0/0 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add -host 10.0.0.0 gw", "host 10.0.0.0/32 <UP,GATEWAY,HOST,STATIC> via 10.0.0.1"},
		{"add 10.1 -prefixlen 24 gw", "net 10.1.0.0/24 <UP,GATEWAY,STATIC> via 10.0.0.1"},
		{"add -net 10 -interface 10.0.0.163", "net 10.0.0.0/8 <UP,STATIC> via 10.0.0.163"},
		{"add -net 10 -iface en0", "net 10.0.0.0/8 <UP,STATIC> via link#0"},
		{"add default -reject 127.0.0.1 -nostatic -blackhole", "net 0.0.0.0/0 <UP,GATEWAY,REJECT,BLACKHOLE> via 127.0.0.1"},
		{"add -cloning -llinfo -proto1 -proto2 -xresolve -static 10.1.1.1 gw", "host 10.1.1.1/32 <UP,GATEWAY,HOST,CLONING,XRESOLVE,LLINFO,STATIC,PROTO2,PROTO1> via 10.0.0.1"},
		{"add -dst 1.2.3.4 -gateway gw", "host 1.2.3.4/32 <UP,GATEWAY,HOST,STATIC> via 10.0.0.1"},
		{"add -inet6 default fe80::1", "net ::/0 <UP,GATEWAY,STATIC> via fe80::1"},
		{"add -inet6 2001:db8:: fe80::1", "net 2001:db8::/64 <UP,GATEWAY,STATIC> via fe80::1"},
		{"add -inet6 2001:db8:: -prefixlen 32 fe80::1", "net 2001:db8::/32 <UP,GATEWAY,STATIC> via fe80::1"},
		{"add default fe80::1%en0", "net ::/0 <UP,GATEWAY,STATIC> via fe80::1%en0"},
		{"add -inet6 default gw", "net ::/0 <UP,GATEWAY,STATIC> via 2001:db8::99"},
		{"add -inet6 gw ::1", "host 2001:db8::99/128 <UP,GATEWAY,HOST,STATIC> via ::1"},
		{"add -inet6 -net 2001:db8:5:: -netmask ffff:ffff:ffff:: gw", "net 2001:db8:5::/48 <UP,GATEWAY,STATIC> via 2001:db8::99"},
		{"add -inet6 -host 2001:db8:: gw", "host 2001:db8::/128 <UP,GATEWAY,HOST,STATIC> via 2001:db8::99"},
		{"add -inet6 ::/96 ::1 -reject", "net ::/96 <UP,GATEWAY,REJECT,STATIC> via ::1"},
		{"delete -inet6 default", "net ::/0 <UP,GATEWAY,STATIC> via "},
		{"add 2001:db8::1 fe80::1", "host 2001:db8::1/128 <UP,GATEWAY,HOST,STATIC> via fe80::1"},
		{"add gw 10.0.0.9", "host 10.0.0.1/32 <UP,GATEWAY,HOST,STATIC> via 10.0.0.9"},
		{"delete 10.1/16", "net 10.1.0.0/16 <UP,GATEWAY,STATIC> via "},

		{"add", "add of what: a destination belongs there"},
		{"add -netmask", "botched keyword: netmask: a value belongs behind it"},
		{"add -foo 1 2", "botched keyword: foo"},
		{"add 1.2.3.4 gw -mtu x", "-mtu x: bad value: a number belongs there"},
		{"add 10.1/33 gw", "bad value: a prefix of 33 bits in an address of 32"},
		{"add 10.1/ gw", "bad value: 10.1/: the prefix length behind the slash is a number"},
		{"add 10.1 -prefixlen 129 gw", "-prefixlen 129: bad value: a number from 0 to 128 belongs there"},
		{"add 1.2.3.4.5 gw", "bad value: 1.2.3.4.5: neither an address nor a known host: no address"},
		{"add nobody gw", "bad value: nobody: neither an address nor a known host: no such host"},
		{"add -net 10 -netmask 255.0.255.0 gw", "the netmask 255.0.255.0 has holes: its ones must come before its zeros"},
		{"add -net 10 -netmask what gw", "bad value: what: a netmask like 255.255.0.0 belongs there"},
		{"add -inet6 2001:db8:: -netmask ffff::x gw", "bad value: ffff::x: a netmask like ffff:ffff:: belongs there (or -prefixlen 32)"},
		{"add -inet6 10.1 gw", "10.1: bad value: an IPv6 address belongs there"},
		{"add 2001:db8::1 -netmask 255.0.0.0 fe80::1", "the netmask 255.0.0.0 is not of the destination's family"},
		{"add 1.2.3.4 gw 255.0.0.0 255.0.0.0", `"255.0.0.0" is one address too many: destination, gateway and netmask are there already`},
		{"add 1.2.3.4 gw -ifp 12", "bad value: 12: a link address like en0 or en0:0.50.da.c8.2f.96 belongs there"},
	} {
		got := ""
		r, _, err := parse(context.Background(), strings.Fields(c.line), &fake{}, at(1000))
		if err != nil {
			got = err.Error()
		} else {
			got = "net "
			if r.host {
				got = "host "
			}
			got += r.msg.Prefix().String() + " " + routeFlags.format(r.msg.Flags) + " via " + r.msg.Gateway.String()
		}
		if got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

func TestMetrics(t *testing.T) {
	c, _, err := parse(context.Background(), strings.Fields("add 1.2.3.4 gw -lock -mtu 1400 -hopcount 3 -lockrest -expire +60 -rtt 5 -rttvar 6 -ssthresh 7 -sendpipe 8 -recvpipe 9 -ifp en0 -ifa 10.1 -genmask 255.255.0.0"), &fake{}, at(1000))
	if err != nil {
		t.Fatal(err)
	}
	want := protocol.RouteMetrics{MTU: 1400, Hopcount: 3, Expire: 1060, RTT: 5, RTTVar: 6, Ssthresh: 7, Spipe: 8, Rpipe: 9, Locks: 0xff &^ protocol.RTVHopcount}
	if d := cmp.Diff(want, c.msg.Metrics); d != "" || c.msg.Inits != 0xff {
		t.Errorf("inits %#x, metrics (-want +got):\n%s", c.msg.Inits, d)
	}
	if c.msg.Ifp.Link.Name != "en0" || c.msg.Ifa.IP.String() != "10.0.0.1" || c.msg.Genmask.IP.String() != "255.255.0.0" {
		t.Errorf("ifp %v, ifa %v, genmask %v", c.msg.Ifp, c.msg.Ifa, c.msg.Genmask)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"add default 10.25", "add -net 10.25 -netmask 255.255.0.0 gw", "delete 0x0a/8", "add -link en0:0.1.2.3.4.5 en0", "change -inet6 ::/0 ::1 -mtu 7 # x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := lineWords(nil, line)
		if len(args) == 0 {
			return
		}
		c, _, err := parse(context.Background(), args, nil, at(0))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a sentence")
			}
			return
		}
		// What was read goes over the wire and comes back.
		b := protocol.AppendMessage(nil, &c.msg)
		m, _, err := protocol.NextMessage(b)
		if err != nil {
			t.Fatalf("%q makes a message nobody reads: %v", line, err)
		}
		if d := c.msg.Dst.Family; d == protocol.AFInet && m.(*protocol.RouteMessage).Dst.IP != c.msg.Dst.IP {
			t.Errorf("%q: %v became %v", line, c.msg.Dst, m.(*protocol.RouteMessage).Dst)
		}
	})
}
