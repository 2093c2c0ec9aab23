package ping6

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/tool/cli/golden"
	"ionet/tool/echo"
)

var (
	us   = netip.MustParseAddr("fe80::1%en0")
	host = netip.MustParseAddr("fe80::2%en0")
	gate = netip.MustParseAddr("2001:db8::25")
)

// peer answers what is sent.
type peer struct {
	answer func(req []byte) [][]byte
	fail   error
	failed syscall.Errno
	out    chan packet
}

func (p *peer) send(icmp []byte, _ netip.Addr) error {
	switch {
	case p.fail != nil:
		return p.fail
	case p.failed != 0:
		p.out <- packet{failed: p.failed}
		return nil
	}
	for _, b := range p.answer(icmp) {
		k := packet{at: time.Now(), from: host, to: us, hlim: 64, icmp: b}
		if b[0] < 128 {
			k.from = gate
		}
		p.out <- k
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

func reply(req []byte) []byte {
	b := bytes.Clone(req)
	b[0] = echoReply
	return b
}

func ok(req []byte) [][]byte { return [][]byte{reply(req)} }

// returns is an error that brings a request back.
func returns(typ, code byte, word uint32, req []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ, code, 0, 0}, word)
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(req)), protoICMPv6, 1)
	b = append(append(b, us.WithZone("").AsSlice()...), host.WithZone("").AsSlice()...)
	return append(b, req...)
}

// tells is a node information reply to a query.
func tells(code byte, flags uint16, data string) func([]byte) [][]byte {
	return func(req []byte) [][]byte {
		b := bytes.Clone(req[:niHeaderLen])
		b[0], b[1] = niReply, code
		binary.BigEndian.PutUint16(b[6:], flags)
		return [][]byte{append(b, data...)}
	}
}

var (
	times = regexp.MustCompile(`time=[0-9.e-]+ ms`)
	trips = regexp.MustCompile(`= [0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+ ms`)
	jsons = regexp.MustCompile(`"(time|min|avg|max|stddev)": [0-9.e-]+`)
)

func pings(t *testing.T, line string, asJSON bool, p *peer) (string, int) {
	t.Helper()
	o, err := parse(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	p.out = make(chan packet, 1000)
	var b strings.Builder
	s := &session{options: o, json: asJSON, Run: echo.Run[packet]{Out: bufio.NewWriter(&b)}, err: &b, link: p, from: us, to: host,
		name: func(a netip.Addr) string { return a.String() }}
	status := s.run(context.Background())
	out := trips.ReplaceAllString(times.ReplaceAllString(b.String(), "time=0.41 ms"), "= 0.400/0.410/0.420/0.010 ms")
	return jsons.ReplaceAllString(out, `"$1": 0.41`), status
}

func TestPing6(t *testing.T) {
	var first []byte
	twice := func(req []byte) [][]byte { // the first reply comes again before the second one
		if first == nil {
			first = reply(req)
			return ok(req)
		}
		return [][]byte{first, reply(req)}
	}
	damaged := func(req []byte) [][]byte {
		b := reply(req)
		b[headerLen+20] = 0
		return [][]byte{b[:30]}
	}
	far := func(req []byte) [][]byte { return [][]byte{returns(timeExceeded, 0, 0, req)} }
	alien := func(req []byte) [][]byte {
		b := reply(req)
		b[4] ^= 1
		return append([][]byte{b, {1}, {134, 0, 0, 0, 0, 0, 0, 0}}, ok(req)...)
	}
	for _, c := range []struct {
		name, line string
		json       bool
		peer       peer
		status     int
	}{
		{"three", "-c 3 -i 0.001 fe80::2%en0", false, peer{answer: ok}, 0},
		{"small", "-s 8 -c 1 -v fe80::2%en0", false, peer{answer: ok}, 0},
		{"tiny", "-s 7 -c 1 host", false, peer{answer: ok}, 0},
		{"preload", "-l 3 -c 3 -i 0.001 fe80::2%en0", false, peer{answer: ok}, 0},
		{"quiet", "-q -c 2 -i 0.001 host", false, peer{answer: ok}, 0},
		{"dup", "-c 2 -i 0.001 host", false, peer{answer: twice}, 0},
		{"damaged", "-c 1 -s 32 host", false, peer{answer: damaged}, 0},
		{"pattern", "-c 1 -p ff00a host", false, peer{answer: ok}, 0},
		{"far", "-i 0.001 -c 1 host", false, peer{answer: far}, 2},
		{"far-v", "-v -i 0.001 -c 1 host", false, peer{answer: far}, 2},
		{"others", "-v -c 1 host", false, peer{answer: alien}, 0},
		{"error", "-i 0.001 -c 1 host", false, peer{fail: syscall.EHOSTUNREACH}, 2},
		{"failed", "-i 0.01 -c 1 host", false, peer{failed: syscall.EHOSTUNREACH}, 2},
		{"json", "-c 2 -i 0.001 host", true, peer{answer: ok}, 0},
		{"json-far", "-i 0.001 -c 1 host", true, peer{answer: far}, 2},
		{"name", "-w -c 1 host", false, peer{answer: tells(0, 0, "\x00\x00\x00\x00\x04gate\x07example\x00")}, 0},
		{"name-v", "-w -v -c 1 host", false, peer{answer: tells(0, 1, "\x00\x00\x00\x3c\x04gate\x00\x00")}, 0},
		{"name-old", "-W -c 1 host", false, peer{answer: tells(0, 0, "\x00\x00\x00\x00\x04gate")}, 0},
		{"refused", "-w -c 1 host", false, peer{answer: tells(1, 0, "")}, 0},
		{"types", "-t -c 1 host", false, peer{answer: tells(0, 0, "\x00\x00\x00\x0f")}, 0},
		{"addresses", "-a ag -c 1 host", false, peer{answer: tells(0, 0, "\xff\xff\xff\xff"+string(host.AsSlice())+"\x00\x00\x00\x3c"+string(gate.AsSlice()))}, 0},
		{"json-name", "-w -c 1 host", true, peer{answer: tells(0, 0, "\x00\x00\x00\x00\x04gate\x00\x00")}, 0},
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

func TestErrors(t *testing.T) {
	req := request(0x1234, 7, make([]byte, 16), 0)
	var b strings.Builder
	for _, e := range []struct {
		typ, code byte
		word      uint32
	}{{1, 0, 0}, {1, 1, 0}, {1, 2, 0}, {1, 3, 0}, {1, 4, 0}, {1, 5, 0}, {1, 9, 0}, {2, 0, 1280}, {3, 0, 0}, {3, 1, 0}, {4, 0, 6}, {4, 1, 40}, {4, 2, 42}} {
		p := packet{from: gate, icmp: returns(e.typ, e.code, e.word, req)}
		s, ok := other(&p, 0x1234, false, gate.String())
		if !ok {
			t.Errorf("type %d code %d is not ours", e.typ, e.code)
		}
		b.WriteString(s + "\n")
		if s, ok := other(&p, 0x1235, false, ""); ok {
			t.Errorf("%s is somebody else's", s)
		}
	}
	golden.Check(t, "errors", b.String())
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "a host is missing"},
		{"hop host", "hop host: a list of hops needs routing header type 0, which nobody obeys any more (RFC 5095); one host stands behind the options"},
		{"-a x host", `invalid address type "x": the letters a, c, l, s, g and A are known`},
		{"-w -t host", "-w and -t ask for different things"},
		{"-h 256 host", "illegal hoplimit -- 256: a number from 0 to 255 belongs there"},
		{"-s 65528 host", "packet size too large: 65528, and the maximum is 65527"},
		{"-c 0 host", "illegal number of packets -- 0: a number from 1 on belongs there"},
		{"-p xyz host", `"-p xyz": patterns must be specified with 1-32 hex digits`},
		{"-P in host", `invalid security policy -P "in": column 3: the end: discard, none, ipsec, entrust or bypass belongs here`},
		{"-z host", "illegal option -- z"},
	} {
		if _, err := parse(strings.Fields(c.line)); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.line, err, c.want)
		}
	}
}

func TestGroup(t *testing.T) {
	// The group depends on the first label alone, in small letters.
	a := groupOf("Gate.example.org", 1)
	if b := groupOf("gate", 1); a != b || !netip.MustParsePrefix("ff02::2:ff00:0/104").Contains(a) {
		t.Errorf("%v and %v", a, b)
	}
	if b := groupOf("gate", 2); !netip.MustParsePrefix("ff02::2:0:0/96").Contains(b) || b == a {
		t.Errorf("the drafts' group is %v", b)
	}
	q := query(&options{host: "gate", group: 1, ask: askName}, 1, 2, a)
	if q[1] != subjectName || string(q[niHeaderLen:]) != "\x04gate\x00\x00" {
		t.Errorf("query % x", q)
	}
}

// FuzzTake feeds whatever a network may send to the printing half of ping6.
func FuzzTake(f *testing.F) {
	req := request(0x1234, 0, make([]byte, 32), 0)
	f.Add(reply(req))
	f.Add(returns(unreachable, 4, 0, req))
	f.Add(tells(0, 1, "\x00\x00\x00\x3c\x04gate\x00\x00")(query(&options{ask: askName}, 0x1234, 0, host))[0])
	f.Add(tells(0, 1, "\x00\x01\x00\x01\x00\x00\x00\x0f")(query(&options{ask: askTypes}, 0x1234, 0, host))[0])
	f.Add(tells(0, 0, "\x00\x00\x00\x00\x01a\xc0\x04")(query(&options{ask: askName}, 0x1234, 0, host))[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, ask := range []question{askEcho, askName} {
			p := packet{from: host, to: us, hlim: 1, icmp: b}
			s := &session{options: &options{size: 32, verbose: true, ask: ask}, Run: echo.Run[packet]{Out: bufio.NewWriter(&strings.Builder{})}, link: &peer{},
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
	f.Add("-c 3 -p ff -s 65527 gate")
	f.Add("-a ag -N -i.5 x")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parse(strings.Fields(line))
		if err == nil && (o.size < 0 || o.size > maxData || o.interval <= 0 || o.hlim > 255 || len(o.pattern) > 16) {
			t.Errorf("%q became %+v", line, o)
		}
	})
}

func TestAddress(t *testing.T) {
	for host, want := range map[string]string{
		"%en0": `"%en0": an address or a name is missing in front of %en0`,
		"":     "the host is empty: an address or a name belongs there",
		"10.1": "10.1: no such host",
	} {
		if _, err := address(t.Context(), nobody{}, host); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", host, err, want)
		}
	}
}

// nobody knows no names.
type nobody struct{}

func (nobody) LookupHost(context.Context, string) ([]netip.Addr, error) {
	return nil, errors.New("no such host")
}
