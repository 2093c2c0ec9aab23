package ping

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"ionet/tool/cli/golden"
	"ionet/tool/echo"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	host  = netip.MustParseAddr("10.0.0.25")
	gate  = netip.MustParseAddr("10.0.0.1")
	times = regexp.MustCompile(`(time=|"time": )[0-9.e-]+|= [0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+ ms|"(min|avg|max|stddev)": [0-9.e-]+|[0-9.]+ packets/sec`)
)

// steady replaces measured times.
func steady(s string) string {
	return times.ReplaceAllStringFunc(s, func(m string) string {
		return regexp.MustCompile(`[0-9]+(\.[0-9]+)?(e-[0-9]+)?`).ReplaceAllString(m, "0.500")
	})
}

// ip makes an IPv4 packet from a to the pinging host.
func ip(from netip.Addr, ttl byte, opts, icmp []byte) []byte {
	b := make([]byte, minIPHeader)
	b[0] = 0x40 | byte((minIPHeader+len(opts))/4)
	b[8], b[9] = ttl, protoICMP
	copy(b[12:], from.AsSlice())
	copy(b[16:], []byte{10, 0, 0, 163})
	b = append(append(b, opts...), icmp...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// peer is a link whose other side answers each request as a function says.
type peer struct {
	answer func(req []byte) [][]byte
	out    chan packet
	fail   error
	failed syscall.Errno // what an echo socket says of each request
}

func (p *peer) send(icmp []byte, _ netip.Addr) error {
	if p.fail != nil {
		return p.fail
	}
	if p.failed != 0 {
		p.out <- packet{at: time.Now(), failed: p.failed}
		return nil
	}
	for _, b := range p.answer(icmp) {
		if k, ok := splitIP(b); ok {
			k.at = time.Now()
			p.out <- k
		}
	}
	return nil
}

func (p *peer) recv() (packet, error) {
	k, ok := <-p.out
	if !ok {
		return packet{}, errors.New("closed")
	}
	return k, nil
}

func (p *peer) id() uint16 { return 0x1234 }
func (p *peer) close()     { close(p.out) }

// reply is the echo reply to a request.
func reply(req []byte) []byte {
	b := append([]byte(nil), req...)
	b[0] = echoReply
	return b
}

func ok(req []byte) [][]byte { return [][]byte{ip(host, 255, nil, reply(req))} }

// pings runs a command line against a peer.
func pings(t *testing.T, line string, asJSON bool, p *peer) (string, int) {
	t.Helper()
	o, err := parse(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	p.out = make(chan packet, 1000)
	var b strings.Builder
	s := &session{options: o, json: asJSON, Run: echo.Run[packet]{Out: bufio.NewWriter(&b)}, err: &b, link: p, hostname: o.host, to: host, hop: host,
		name: func(a netip.Addr) string { return a.String() }}
	status := s.run(context.Background())
	return steady(b.String()), status
}

func TestPing(t *testing.T) {
	var first []byte
	twice := func(req []byte) [][]byte { // the first reply comes again before the second one
		if first == nil {
			first = reply(req)
			return ok(req)
		}
		return append([][]byte{ip(host, 255, nil, first)}, ok(req)...)
	}
	damaged := func(req []byte) [][]byte {
		b := reply(req)
		b[headerLen+20] = 0
		return [][]byte{ip(host, 64, nil, b)}
	}
	short := func(req []byte) [][]byte { return [][]byte{ip(host, 64, nil, reply(req)[:30])} }
	far := func(req []byte) [][]byte {
		inner := ip(host, 1, nil, req[:8])
		return [][]byte{ip(gate, 255, nil, append([]byte{timeExceeded, 0, 0, 0, 0, 0, 0, 0}, inner...))}
	}
	recorded := func(req []byte) [][]byte {
		opts := make([]byte, 40)
		copy(opts, []byte{optRecordRoute, 39, 12, 10, 0, 0, 1, 10, 0, 0, 25})
		return [][]byte{ip(host, 254, opts, reply(req))}
	}
	others := func(req []byte) [][]byte {
		alien := reply(req)
		alien[4] ^= 1
		unsent := reply(req)
		unsent[6] ^= 0x80
		return append([][]byte{ip(gate, 1, nil, alien), ip(gate, 1, nil, unsent), ip(gate, 1, nil, []byte{3})}, ok(req)...)
	}
	for _, c := range []struct {
		name, line string
		json       bool
		peer       peer
		status     int
	}{
		{"three", "-c 3 -i 0.001 10.25", false, peer{answer: ok}, 0},
		{"quiet", "-q -c 3 -i 0.001 gate", false, peer{answer: ok}, 0},
		{"tiny", "-s 7 -c 1 gate", false, peer{answer: ok}, 0},
		{"none", "-w 0.001 -c 2 -i 0.001 gate", false, peer{answer: func([]byte) [][]byte { return nil }}, 2},
		{"once", "-o gate", false, peer{answer: ok}, 0},
		{"preload", "-l 3 -c 1 -i 0.001 gate", false, peer{answer: ok}, 0},
		{"dup", "-c 2 -i 0.001 gate", false, peer{answer: twice}, 0},
		{"damaged", "-c 1 -s 32 gate", false, peer{answer: damaged}, 0},
		{"short", "-c 1 -s 32 gate", false, peer{answer: short}, 0},
		{"pattern", "-c 1 -p ff00a gate", false, peer{answer: ok}, 0},
		{"far", "-w 0.001 -c 1 gate", false, peer{answer: far}, 2},
		{"far-v", "-v -w 0.001 -c 1 gate", false, peer{answer: far}, 2},
		{"far-Q", "-Q -w 0.001 -c 1 gate", false, peer{answer: far}, 2},
		{"route", "-R -c 2 -i 0.001 gate", false, peer{answer: recorded}, 0},
		{"others", "-c 1 -v gate", false, peer{answer: others}, 0},
		{"error", "-w 0.001 -c 1 gate", false, peer{fail: syscall.EHOSTUNREACH}, 2},
		{"failed", "-w 0.1 -c 1 gate", false, peer{failed: syscall.EHOSTUNREACH}, 2},
		{"failed-Q", "-Q -w 0.1 -c 1 gate", false, peer{failed: syscall.EHOSTUNREACH}, 2},
		{"json-failed", "-w 0.1 -c 1 gate", true, peer{failed: syscall.EHOSTUNREACH}, 2},
		{"json", "-c 2 -i 0.001 10.25", true, peer{answer: ok}, 0},
		{"json-far", "-w 0.001 -c 1 10.25", true, peer{answer: far}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, status := pings(t, c.line, c.json, &c.peer)
			golden.Check(t, c.name, out)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
		})
	}
}

func TestFlood(t *testing.T) {
	out, status := pings(t, "-f -c 100 gate", false, &peer{answer: ok})
	if status != 0 || !strings.Contains(out, "100 packets transmitted, 100 packets received, 0.0% packet loss\n") ||
		!strings.Contains(out, "  0.500 packets/sec sent,  0.500 packets/sec received\n") {
		t.Errorf("%d %q", status, out)
	}
}

func TestSignals(t *testing.T) {
	// A host that answers the first request only: the first SIGINT waits for
	// what is missing, the second does not.
	signals := make(chan os.Signal, 3)
	p := &peer{out: make(chan packet, 10)}
	n := 0
	p.answer = func(req []byte) [][]byte {
		if n++; n == 1 {
			return ok(req)
		}
		signals <- syscall.SIGQUIT
		signals <- syscall.SIGINT
		signals <- syscall.SIGINT
		return nil
	}
	o, _ := parse([]string{"-c", "10", "-i", "0.05", "-w", "60", "gate"})
	var b strings.Builder
	s := &session{options: o, Run: echo.Run[packet]{Out: bufio.NewWriter(&b), Signals: signals}, err: &b, link: p, hostname: "gate", to: host, hop: host,
		name: func(a netip.Addr) string { return a.String() }}
	if status := s.run(context.Background()); status != 0 {
		t.Errorf("status %d", status)
	}
	golden.Check(t, "signals", steady(b.String()))
}

func TestOther(t *testing.T) {
	var b strings.Builder
	numeric := func(a netip.Addr) string { return a.String() }
	echoed := ip(host, 64, nil, []byte{echoRequest, 0, 0, 0, 0x12, 0x34, 0, 7})
	udp := ip(host, 64, nil, []byte{0, 53, 0x80, 0, 0, 8, 0, 0})
	udp[9] = protoUDP
	tcp := append([]byte(nil), udp...)
	tcp[9] = protoTCP
	show := func(typ, code byte, mid, inner []byte) {
		m := append(append([]byte{typ, code, 0, 0}, mid...), inner...)
		for _, verbose := range []bool{false, true} {
			p, _ := splitIP(ip(gate, 255, nil, m))
			if s, ok := other(&p, 0x1234, verbose, numeric); ok {
				fmt.Fprintf(&b, "%s\n", s)
			}
		}
	}
	zero := []byte{0, 0, 0, 0}
	for code := range byte(17) {
		show(unreachable, code, []byte{0, 0, 5, 0xdc}, echoed)
	}
	for code := range byte(5) {
		show(redirect, code, []byte{10, 0, 0, 2}, echoed)
	}
	for code := range byte(3) {
		show(timeExceeded, code, zero, echoed)
	}
	show(paramProblem, 0, []byte{20, 0, 0, 0}, echoed)
	show(sourceQuench, 0, zero, echoed)
	show(unreachable, 3, zero, udp)
	show(unreachable, 3, zero, tcp)
	show(unreachable, 3, zero, udp[:10])
	for _, typ := range []byte{echoReply, echoRequest, routerAdvert, routerSolicit, timestamp, timestampReply, infoRequest, infoReply, maskRequest, maskReply} {
		show(typ, 0, zero, nil)
	}
	show(99, 0, zero, udp)
	golden.Check(t, "other", b.String())
}

func TestSummary(t *testing.T) {
	s := echo.Stats{Sent: 3}
	for _, d := range []time.Duration{498, 505, 512} {
		s.Received++
		s.Add(d * time.Microsecond)
	}
	want := "\n----10.0.0.25 PING Statistics----\n3 packets transmitted, 3 packets received, 0.0% packet loss\nround-trip min/avg/max/stddev = 0.498/0.505/0.512/0.007 ms\n"
	if got := summary(&s, "10.0.0.25", true, false); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	s.Received, s.Sent = 4, 3
	if got := summary(&s, "", false, false); got != "3 packets transmitted, 4 packets received, -- somebody's printing up packets!\n" {
		t.Errorf("%q", got)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "a host is missing"},
		{"a b", `"b": one host is enough, and options stand before it`},
		{"-h a b", `"b": one host is enough, and options stand before it`},
		{"-c 0 a", "Bad/invalid number of packets 0: a number from 1 on belongs there"},
		{"-i 0 a", "Bad/invalid interval 0: seconds above 0 belong there"},
		{"-i nan a", "Bad/invalid interval nan: seconds above 0 belong there"},
		{"-l -1 a", "Bad/invalid preload value -1: a number from 0 to 65535 belongs there"},
		{"-p xyz a", `"-p xyz": patterns must be specified with 1-32 hex digits`},
		{"-p 1 -P a", "Only one of -P and -p allowed"},
		{"-P -p 1 a", "Only one of -P and -p allowed"},
		{"-s 65508 a", "packet size is too large: 65508, and an IP packet has room for 65507"},
		{"-s x a", "Bad/invalid packet size x: a number from 0 to 65507 belongs there"},
		{"-t 256 a", "bad tos value: 256: a number from 0 to 255 belongs there"},
		{"-T 0 a", "ttl out of range: 0: a number from 1 to 255 belongs there"},
		{"-w -1 a", "Bad/invalid maxwait time -1: seconds above 0 belong there"},
		{"-E in a", `invalid security policy -E "in": column 3: the end: discard, none, ipsec, entrust or bypass belongs here`},
		{"-R -g b a", "-R and -g together do not fit the 40 octets of IP options"},
		{"-z a", "illegal option -- z"},
		{"-c", "option requires an argument -- c"},
	} {
		if _, err := parse(strings.Fields(c.line)); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.line, err, c.want)
		}
	}
	o, err := parse(strings.Fields("-adDfLnoqQrRv -c 0x10 -i .2 -I 10.1 -l 2 -p abc -s 0 -t 0x10 -T 3 -w 1.5 -h gate"))
	if err != nil {
		t.Fatal(err)
	}
	want := options{host: "gate", source: "10.1", count: 18, preload: 2, tos: 16, ttl: 3, interval: 200 * time.Millisecond, wait: 1500 * time.Millisecond,
		pattern: []byte{0xab, 0x0c}, audible: true, dontFrag: true, debug: true, flood: true, noLoop: true, numeric: true, once: true, quiet: true,
		semi: true, direct: true, record: true, verbose: true}
	if d := cmp.Diff(want, *o, cmp.AllowUnexported(options{})); d != "" {
		t.Error(d)
	}
	for _, size := range []string{"0", "65507"} {
		if _, err := parse([]string{"-s", size, "a"}); err != nil {
			t.Errorf("-s %s: %v", size, err)
		}
	}
}

func TestRequest(t *testing.T) {
	for size := range 20 {
		b := request(0x1234, 5, make([]byte, size), time.Second)
		if len(b) != size+headerLen || checksum(b) != 0 || b[0] != echoRequest {
			t.Errorf("size %d: %x, checksum %#x", size, b, checksum(b))
		}
	}
	if b := ipOptions(&options{}, gate, host); len(b)%4 != 0 || b[1] != optLooseRoute || netip.AddrFrom4([4]byte(b[8:12])) != host {
		t.Errorf("-g: %x", b)
	}
}

// FuzzTake feeds whatever a network may send to the printing half of ping.
func FuzzTake(f *testing.F) {
	req := request(0x1234, 0, make([]byte, 32), 0)
	f.Add(ip(host, 64, nil, reply(req)))
	f.Add(ip(gate, 64, []byte{optRecordRoute, 7, 8, 10, 0, 0, 1, 0}, append([]byte{unreachable, 4, 0, 0, 0, 0, 5, 220}, ip(host, 64, nil, req)...)))
	f.Add(ip(gate, 64, []byte{optLooseRoute, 200, 8, 10}, []byte{redirect, 9, 0, 0, 1, 2, 3, 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, verbose := range []bool{false, true} {
			p, ok := splitIP(b)
			if !ok {
				return
			}
			s := &session{options: &options{size: 32, verbose: verbose}, Run: echo.Run[packet]{Out: bufio.NewWriter(&strings.Builder{})}, link: &peer{},
				name: func(a netip.Addr) string { return a.String() }}
			s.prepare()
			s.Mark(0, time.Now())
			s.take(&p)
			s.json = true
			s.take(&p)
			s.finish()
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("-c 3 -p ff -s 65507 gate")
	f.Add("-adDf -i.5 -w1e3 -hx")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parse(strings.Fields(line))
		if err != nil {
			return
		}
		if o.host == "" && !strings.Contains(line, "-h") || o.size < 0 || o.size > maxData || o.interval <= 0 || o.ttl > 255 || len(o.pattern) > 16 {
			t.Errorf("%q became %+v", line, o)
		}
	})
}
