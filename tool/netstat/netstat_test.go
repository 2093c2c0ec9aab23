package netstat

import (
	"bytes"
	"context"
	"errors"
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
	"ionet/tool/services"
)

type fake struct {
	pages [][]byte
	err   error
	asked int // interface tables
}

func (f *fake) Interfaces() ([]protocol.InterfaceRow, error) {
	f.asked++
	n := uint64(f.asked)
	return []protocol.InterfaceRow{
		{Name: "lo0", Index: 1, Type: protocol.IFTLoopback, Flags: 0x8049, MTU: 33228, LinkUp: true, InPackets: 5, OutPackets: 5,
			Addresses: []protocol.AddressRow{{Family: "inet", Address: "127.0.0.1", Bits: 8}}},
		{Name: "en0", Index: 2, Type: protocol.IFTEthernet, Flags: 0x8843, MTU: 1500, Link: "00:50:da:c8:2f:96", LinkUp: true,
			InPackets: 1023 * n, InBytes: 99000 * n, InErrors: 1, OutPackets: 877 * n, OutBytes: 80000 * n, OutErrors: 2, Collisions: 3, OutDrops: 4 * n,
			Addresses: []protocol.AddressRow{
				{Family: "inet", Address: "10.0.0.163", Bits: 8, Broadcast: "10.255.255.255"},
				{Family: "inet", Address: "192.168.17.20", Bits: 26, Broadcast: "192.168.17.63", Alias: true},
				{Family: "inet6", Address: "fe80::250:daff:fec8:2f96%en0", Bits: 64},
			}},
		{Name: "en10", Index: 3, Type: protocol.IFTEthernet, Flags: 0x8802, MTU: 1500, Link: "02:50:da:c8:2f:97", Addresses: []protocol.AddressRow{}},
	}, f.err
}

func (f *fake) Sockets() ([]protocol.SocketRow, error) {
	return []protocol.SocketRow{
		{Proto: "udp", Family: "inet6", Local: "fe80::250:daff:fec8:2f96%en0", LPort: 546, Foreign: "*", PCB: "5"},
		{Proto: "udp", Family: "inet", RecvQ: 12, Local: "*", LPort: 514, Foreign: "*", PCB: "2", PID: 40, UID: 1000},
		{Proto: "udp", Family: "inet", Local: "10.0.0.163", LPort: 123, Foreign: "10.0.0.25", FPort: 53, PCB: "3"},
		{Proto: "tcp", Family: "inet", SendQ: 7, Local: "10.0.0.163", LPort: 22, Foreign: "10.0.0.1", FPort: 4021, State: "ESTABLISHED", PCB: "1f"},
		{Proto: "tcp", Family: "inet", Local: "255.255.255.255", LPort: 50000, Foreign: "255.255.255.254", FPort: 65535, State: "SYN_RECEIVED", PCB: "20"},
		{Proto: "tcp", Family: "inet", Local: "*", LPort: 22, Foreign: "*", State: "LISTEN", PCB: "21"},
		{Proto: "tcp", Family: "inet", RecvQ: 65535, Local: "10.0.0.163", LPort: 22, Foreign: "10.0.0.25", FPort: 60000, State: "CLOSE_WAIT", PCB: "22"},
		{Proto: "tcp", Family: "inet", Local: "10.0.0.163", LPort: 22, Foreign: "10.0.0.25", FPort: 60001, State: "TIME_WAIT", PCB: "0"},
		{Proto: "icmp", Family: "inet", Local: "*", Foreign: "*", PCB: "4"},
	}, f.err
}

func (f *fake) TCP(pcb string) (protocol.TCPInfo, error) {
	switch pcb {
	case "1f":
		return protocol.TCPInfo{State: "ESTABLISHED", Congestion: "cubic", Phase: "recovery", Timestamps: true, SACK: true, WScale: true,
			SndScale: 7, RcvScale: 8, MSS: 1448, RcvMSS: 1460, PeerMSS: 1460, MTU: 1500,
			ISS: 4294967000, SndUna: 4294967290, SndNxt: 4, SndWnd: 65536, IRS: 1000, RcvNxt: 1500, RcvAdv: 70000, RcvWnd: 68500,
			Cwnd: 14480, SSThresh: 4294967295, InFlight: 10, Lost: 2, SACKed: 1, SRTT: 12345, RTTVar: 678, MinRTT: 9, RTO: 212345, Backoff: 1,
			SendQ: 7, SendBuf: 32768, RecvBuf: 131072, OutOfOrder: 1, LastSent: 1, LastReceived: 61234}, f.err
	case "21":
		return protocol.TCPInfo{State: "LISTEN", Congestion: "newreno", Phase: "open", RTO: 1000000, SendBuf: 32768, RecvBuf: 131072}, f.err
	}
	return protocol.TCPInfo{}, &protocol.Error{Errno: syscall.EPERM, Text: "only the superuser and the owner of a connection may see its control block"}
}

func (f *fake) Counters(proto string) ([]protocol.CounterRow, error) {
	var out []protocol.CounterRow
	for _, r := range []protocol.CounterRow{
		{Proto: "arp", Name: "replies sent", Sentence: "# ARP repl{y} sent", Value: 1},
		{Proto: "mroute", Name: "misses", Sentence: "# multicast forwarding cache miss{es}", Value: 3},
		{Proto: "mroute6", Name: "misses", Sentence: "# multicast forwarding cache miss{es}", Value: 1},
		{Proto: "route", Name: "badredirect", Sentence: "# bad routing redirect{s}", Value: 0},
		{Proto: "route", Name: "wildcard", Sentence: "# use{s} of a wildcard route", Value: 9},
		{Proto: "udp", Name: "received", Sentence: "# datagram{s} received", Value: 1},
		{Proto: "tcp", Name: "sent", Sentence: "# packet{s} sent", Value: 9},
		{Proto: "tcp", Name: "data sent", Sentence: "\t# data packet{s}", Value: 5},
		{Proto: "tcp", Name: "octets sent", Sentence: "(# byte{s})", Value: 7000},
		{Proto: "udp", Name: "miss", Sentence: "# PCB hash miss{es}", Value: 2},
		{Proto: "ip6", Name: "received", Sentence: "# total packet{s} received", Value: 0},
		{Proto: "esp", Name: "in", Sentence: "# packet{s} in", Value: 9},
		{Proto: "esp", Name: "ESP output aes-gcm-16", Sentence: "aes-gcm-16: #", Heading: "ESP output histogram", Value: 4},
		{Proto: "esp", Name: "ESP output null", Sentence: "null: #", Heading: "ESP output histogram", Value: 0},
		{Proto: "esp", Name: "ESP output aes-ctr", Sentence: "aes-ctr: #", Heading: "ESP output histogram", Value: 1},
		{Proto: "esp", Name: "dummy", Sentence: "# dummy packet{s} received", Value: 0},
		{Proto: "pfkey", Name: "to ADD", Sentence: "add: #", Heading: "histogram by message type", Value: 0},
		{Proto: "pfkey", Name: "from one", Sentence: "# message{s} toward single socket", Value: 1},
		{Proto: "pfkey", Name: "from ADD", Sentence: "add: #", Heading: "histogram by message type", Value: 2},
		{Proto: "new", Name: "odd", Sentence: "# {odd} thing{s}", Value: 3},
		{Proto: "ip", Name: "received", Sentence: "# total packet{s} received", Value: 1024},
		{Proto: "ip", Name: "bad sum", Sentence: "# bad header checksum{s}", Value: 0},
		{Proto: "ip", Name: "forwarded", Sentence: "# packet{s} forwarded", Value: 5},
		{Proto: "ip", Name: "fast forwarded", Sentence: "(# packet{s} fast forwarded)", Value: 1},
		{Proto: "ip", Name: "cant", Sentence: "# packet{s} not forwardable", Value: 18446744073709551615},
	} {
		if proto == "" || r.Proto == proto {
			out = append(out, r)
		}
	}
	return out, f.err
}

func (f *fake) Mbuf() ([]protocol.MbufRow, error) {
	return []protocol.MbufRow{{Buffers: 12, Octets: 26000, Limit: 268435456, Denied: 1, SockData: 4096}}, f.err
}

func (f *fake) Groups() ([]protocol.GroupRow, error) {
	return []protocol.GroupRow{{Interface: "en0", Group: "224.0.0.1", Refs: 1}, {Interface: "en0", Group: "239.255.255.250", Refs: 2},
		{Interface: "en0", Group: "ff02::1", Refs: 1}}, f.err
}

func (f *fake) Vifs() ([]protocol.VifRow, error) {
	return []protocol.VifRow{
		{Family: "inet", Vif: 0, Interface: "en0", Threshold: 1, Local: "10.0.0.163", InPackets: 1200000, InBytes: 99999999},
		{Family: "inet", Vif: 11, Interface: "en10", Threshold: 64, RateLimit: 500, Local: "192.168.117.120", OutPackets: 1199998, OutBytes: 1},
		{Family: "inet6", Vif: 0, Interface: "en0", InPackets: 7, OutPackets: 5},
		{Family: "inet6", Vif: 2, Interface: "en10", OutPackets: 12},
	}, f.err
}

func (f *fake) MFC() ([]protocol.MFCRow, error) {
	return []protocol.MFCRow{
		{Family: "inet", Origin: "10.0.0.25", Group: "239.1.2.3", Parent: 0, Out: []protocol.MFCOut{{Vif: 11, TTL: 64}, {Vif: 12, TTL: 1}}, Packets: 2048, Bytes: 3},
		{Family: "inet", Origin: "10.0.0.25", Group: "239.255.255.250", Parent: -1, Out: []protocol.MFCOut{}, Waits: 4},
		{Family: "inet6", Origin: "2001:db8:1234:5678:250:daff:fec8:2f96", Group: "ff0e::1234", Parent: 0, Out: []protocol.MFCOut{{Vif: 2, TTL: 1}}, Packets: 7},
		{Family: "inet6", Origin: "2001:db8::1", Group: "ff05::1:2:3:4:5", Parent: -1, Out: []protocol.MFCOut{}, Waits: 3},
	}, f.err
}

func (f *fake) DumpRaw(what, family int, _ uint32) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if what != protocol.DumpRoutes {
			yield(nil, errors.New("what?"))
			return
		}
		for _, p := range f.pages {
			var m protocol.RouteMessage
			if _, err := m.Decode(p); err == nil && family != 0 && m.Dst.Family != family {
				continue
			}
			if !yield(p, nil) {
				return
			}
		}
		if f.err != nil {
			yield(nil, f.err)
		}
	}
}

func (f *fake) LookupAddr(_ context.Context, a netip.Addr) (string, error) {
	names := map[string]string{"10.0.0.25": "gw.example.com", "127.0.0.1": "localhost", "10.0.0.163": "a-name-that-is-long.example.com", "10.0.0.1": "other.example.org"}
	if n := names[a.String()]; n != "" {
		return n, nil
	}
	return "", errors.New("no name")
}

func inet(s string) protocol.Addr { return protocol.AddrFrom(netip.MustParseAddr(s), 0) }

func link(index int, hw ...byte) protocol.Addr {
	return protocol.LinkAddrOf(protocol.LinkOf(index, protocol.IFTEthernet, "", hw))
}

func route(dst string, gw protocol.Addr, flags uint32, index, refs int, use, mtu uint64) protocol.RouteMessage {
	p := netip.MustParsePrefix(dst)
	m := protocol.RouteMessage{Type: protocol.RTMGet, Index: index, Refs: refs, Use: use, Flags: flags, Dst: protocol.AddrFrom(p.Addr(), 0), Gateway: gw}
	m.Metrics.MTU = mtu
	if flags&protocol.RTFHost == 0 {
		m.Netmask = protocol.MaskAddr(m.Dst.Family, p.Bits())
	}
	return m
}

const (
	up, gateway, host_, static = protocol.RTFUp, protocol.RTFGateway, protocol.RTFHost, protocol.RTFStatic
	cloning, llinfo, cloned    = protocol.RTFCloning, protocol.RTFLLInfo, protocol.RTFCloned
)

// routePages are the table of the reference, and the odd ones.
func routePages() [][]byte {
	ll := protocol.LinkAddrOf(protocol.LinkOf(2, protocol.IFTEthernet, "en0", []byte{0, 0x50, 0xda, 1, 2, 3}))
	v4 := []protocol.RouteMessage{
		route("0.0.0.0/0", inet("10.0.0.25"), up|gateway|static, 2, 0, 4, 0),
		route("10.0.0.0/8", link(2), up|cloning, 2, 1, 0, 0),
		route("10.0.0.25/32", ll, up|host_|llinfo|cloned, 2, 1, 118, 0),
		route("10.0.0.99/32", link(2), up|host_|llinfo|cloned, 2, 1, 3, 0),
		route("10.1.1.0/24", inet("10.0.0.25"), up|gateway|static, 2, 0, 1, 1400),
		route("127.0.0.0/8", inet("127.0.0.1"), up|gateway|protocol.RTFReject|static, 1, 0, 0, 33228),
		route("127.0.0.1/32", inet("127.0.0.1"), up|host_, 1, 1, 5, 33228),
		route("172.16.0.0/12", inet("10.0.0.25"), up|gateway|static|protocol.RTFDynamic|protocol.RTFModified|protocol.RTFProto1|protocol.RTFProto2, 2, 0, 4294967295, 0),
		route("172.16.0.0/16", inet("10.0.0.25"), up|static|protocol.RTFBlackhole, 2, 0, 0, 0),
		route("192.168.1.0/24", inet("10.0.0.25"), up|gateway, 2, 0, 0, 0),
		route("192.168.1.64/26", inet("10.0.0.25"), up|gateway, 7, 0, 0, 0),
		route("224.0.0.0/4", inet("10.0.0.25"), up|gateway, 2, 0, 0, 0),
	}
	v4[4].Metrics = protocol.RouteMetrics{Locks: protocol.RTVMTU | protocol.RTVRTT, MTU: 1400, Expire: 1700000000, Rpipe: 1, Spipe: 2, Ssthresh: 3, RTT: 4000, RTTVar: 5000, Hopcount: 6}
	holes := route("10.0.0.0/8", inet("10.0.0.25"), up, 2, 0, 0, 0)
	holes.Netmask = inet("255.0.255.0")
	v4 = append(v4, holes)
	v6 := []protocol.RouteMessage{
		route("::/0", inet("fe80::1%2"), up|gateway|static, 2, 0, 4, 0),
		route("::1/128", inet("::1"), up|host_, 1, 0, 4, 33228),
		route("2001:db8:5::/48", inet("fe80::c824:1aff:fe51:50a4%2"), up|gateway|static, 2, 3, 12345678, 1280),
		route("2001:db8:6::/48", inet("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"), up|gateway|static, 2, 3, 7, 0),
		route("fe80::/64", link(2), up|cloning, 2, 0, 0, 0),
	}
	var a, b, c []byte
	for i := range v4 {
		if i < 4 {
			a = protocol.AppendMessage(a, &v4[i])
		} else {
			b = protocol.AppendMessage(b, &v4[i])
		}
	}
	for i := range v6 {
		c = protocol.AppendMessage(c, &v6[i])
	}
	return [][]byte{a, b, c}
}

// testHost waits not at all, and ends -w after a number of lines.
func testHost(lines int) Host {
	return Host{
		Wait: func(context.Context, time.Duration) error {
			if lines--; lines <= 0 {
				return context.Canceled
			}
			return nil
		},
		Service: func(port int, proto string) string {
			return services.Read(strings.NewReader("syslog 514/udp # log\ndomain 53/udp x\nssh 22/tcp\na-very-long-name 123/udp\n")).Name(port, proto)
		},
		Domain: "example.com",
	}
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, args string
		lines      int // of -w
		status     int
		err        error
	}{
		{name: "sockets", args: "-n"},
		{name: "sockets-all", args: "-an"},
		{name: "sockets-names", args: "-a"},
		{name: "sockets-pcb", args: "-aA"},
		{name: "sockets-pcb-numeric", args: "-aAn"},
		{name: "sockets-verbose", args: "-anv"},
		{name: "sockets-inet6", args: "-an -f inet6"},
		{name: "sockets-local", args: "-an -f local"},
		{name: "sockets-json", args: "-an --json"},
		{name: "sockets-error", args: "-an", err: &protocol.Error{Errno: syscall.EPERM}, status: 1},
		{name: "pcb", args: "-P 1f"},
		{name: "pcb-json", args: "-P 0x2 --json"},
		{name: "pcb-tcp-json", args: "-p tcp -P 1f --json"},
		{name: "pcb-listen", args: "-P 21"},
		{name: "pcb-refused", args: "-P 22", status: 1},
		{name: "pcb-timewait", args: "-P 0", status: 1},
		{name: "pcb-proto", args: "-p udp -P 1f", status: 1},
		{name: "routes", args: "-rn"},
		{name: "routes-names", args: "-r"},
		{name: "routes-verbose", args: "-rnv -f inet"},
		{name: "routes-nolink", args: "-rnL -f inet"},
		{name: "routes-inet6", args: "-rn -f inet6"},
		{name: "routes-json", args: "-r --json"},
		{name: "routes-stats", args: "-rs"},
		{name: "interfaces", args: "-in"},
		{name: "interfaces-names", args: "-id"},
		{name: "interfaces-verbose", args: "-inv"},
		{name: "interfaces-bytes", args: "-inb -I en0"},
		{name: "interfaces-groups", args: "-ian"},
		{name: "interfaces-inet6", args: "-in -f inet6"},
		{name: "interfaces-unknown", args: "-I xx0", status: 1},
		{name: "interfaces-json", args: "-i --json"},
		{name: "interfaces-stats", args: "-is", status: 1},
		{name: "wait", args: "-I en0 -w 1", lines: 23},
		{name: "wait-first", args: "1", lines: 2},
		{name: "wait-bytes-drops", args: "-bd -w 1 -I en0", lines: 2},
		{name: "wait-drops", args: "-d -w 1 -I en0", lines: 2},
		{name: "wait-unknown", args: "-I xx0 -w 1", lines: 2, status: 1},
		{name: "wait-json", args: "-I en0 -w 1 --json", lines: 2},
		{name: "stats", args: "-s"},
		{name: "stats-short", args: "-ss"},
		{name: "stats-inet6", args: "-s -f inet6"},
		{name: "stats-arp", args: "-s -f arp"},
		{name: "stats-esp", args: "-s -p esp"},
		{name: "stats-pfkey", args: "-s -f pfkey"},
		{name: "stats-json", args: "-ss --json"},
		{name: "proto", args: "-p ip"},
		{name: "proto-tcp", args: "-p tcp"},
		{name: "proto-tcp", args: "-p tcp6"},
		{name: "proto-absent", args: "-p igmp", status: 1},
		{name: "memory", args: "-m"},
		{name: "memory-json", args: "-m --json"},
		{name: "multicast", args: "-g"},
		{name: "multicast-inet6", args: "-g -f inet6"},
		{name: "multicast-verbose", args: "-gv -f inet6"},
		{name: "multicast-json", args: "-g --json"},
		{name: "multicast-stats", args: "-gs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args, json := strings.CutSuffix(c.args, " --json") // which cli takes out
			o, err := Parse(strings.Fields(args))
			if err != nil {
				t.Fatal(err)
			}
			o.JSON = json
			var out bytes.Buffer
			if got := Run(context.Background(), &fake{pages: routePages(), err: c.err}, testHost(c.lines), o, &out, &out); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			golden.Check(t, c.name, out.String())
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-x", "illegal option -- x"},
		{"-w", "option requires an argument -- w"},
		{"-f", "option requires an argument -- f"},
		{"-f ns", "ns: unknown address family"},
		{"-p foo", "foo: unknown or uninstrumented protocol"},
		{"-P zz", "invalid PCB address zz"},
		{"-w 0", "0: -w takes a number of seconds from 1 on"},
		{"-w x", "x: -w takes a number of seconds from 1 on"},
		{"0", "0: -w takes a number of seconds from 1 on"},
		{"-r foo", `"foo": netstat takes no further arguments`},
		{"5 /netbsd", `"/netbsd": netstat takes no further arguments`},
	} {
		_, err := Parse(strings.Fields(c.args))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want Options
	}{
		{"", Options{}},
		{"-rnT", Options{Routes: true, Numeric: true}},
		{"-Ien0 -w5", Options{Interface: "en0", Interfaces: true, Wait: 5}},
		{"-ss -finet", Options{Stats: 2, Family: "inet"}},
		{"-f unix", Options{Family: "local"}},
		{"-p IP", Options{Proto: "ip"}},
		{"-P 0xFF", Options{PCB: 255, OnePCB: true}},
		{"-n 3", Options{Numeric: true, Interfaces: true, Wait: 3}},
	} {
		got, err := Parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if d := cmp.Diff(c.want, *got); d != "" {
			t.Errorf("%q: %s", c.args, d)
		}
	}
}

// A stack that sends rubbish instead of routes costs a sentence.
func TestRoutesRubbish(t *testing.T) {
	var out, errs bytes.Buffer
	f := &fake{pages: [][]byte{{9, 0, 3, 4}}}
	if got := Run(context.Background(), f, testHost(0), &Options{Routes: true, Numeric: true}, &out, &errs); got != 1 {
		t.Errorf("status %d", got)
	}
	if !strings.HasPrefix(errs.String(), "netstat: ") || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("%q", errs.String())
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-rn", "-w\x005", "-Ien0\x00-w1", "--\x00-x", "5", "-pip\x00-P1f", "-ss"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := Parse(strings.Split(line, "\x00"))
		if (o == nil) == (err == nil) {
			t.Fatalf("%v, %v", o, err)
		}
		if o != nil && !o.Interfaces && (o.Interface != "" || o.Wait > 0) {
			t.Fatalf("%q: %+v", line, o)
		}
	})
}

// FuzzRoutes feeds the printer what a broken stack may send.
func FuzzRoutes(f *testing.F) {
	for _, p := range routePages() {
		f.Add(p, false)
		f.Add(p, true)
	}
	f.Fuzz(func(t *testing.T, page []byte, json bool) {
		s := &fake{pages: [][]byte{page}}
		Run(context.Background(), s, testHost(0), &Options{Routes: true, Verbose: true, JSON: json}, io.Discard, io.Discard)
	})
}

func FuzzSentence(f *testing.F) {
	f.Add("# repl{y} of {s} {es}", uint64(1))
	f.Fuzz(func(t *testing.T, s string, n uint64) { appendSentence(nil, s, n) })
}

// BenchmarkRoutes prints a table of full size, without the stack.
func BenchmarkRoutes(b *testing.B) {
	page := make([]byte, 0, 64<<10)
	n := 0
	for len(page) < 60<<10 {
		m := route(netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(n >> 8), byte(n), 0}), 24).String(), inet("10.0.0.25"), up|gateway|static, 2, 0, 4, 0)
		page = protocol.AppendMessage(page, &m)
		n++
	}
	f := &fake{}
	for b.Loop() {
		f.pages = append(f.pages[:0], page)
		for range 99 {
			f.pages = append(f.pages, page)
		}
		Run(context.Background(), f, testHost(0), &Options{Routes: true, Numeric: true}, io.Discard, io.Discard)
	}
	b.ReportMetric(float64(n*100)*float64(b.N)/b.Elapsed().Seconds(), "routes/s")
}
