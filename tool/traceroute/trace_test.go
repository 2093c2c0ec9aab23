package traceroute

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

var (
	here   = netip.MustParseAddr("10.0.0.2")
	target = netip.MustParseAddr("10.3.0.9")
)

// way is a network in virtual time: routers in a row, and what each says of a
// packet that it does not pass on.
type way struct {
	clock   time.Time
	hops    []router
	waiting []byte // what comes next
	until   time.Time
	sent    [][]byte
}

// router answers a probe whose time to live ends with it; the last one is the
// target.
type router struct {
	addr   string
	typ    byte // ICMP
	code   byte
	silent bool
	ttl    byte // of the answer
	mtu    int  // it passes on packets up to this; 0 any
}

func newWay(hops ...router) *way {
	return &way{clock: time.Unix(1000, 0), hops: hops}
}

func (w *way) now() time.Time { return w.clock }

// Send is what a router far away does with the probe.
func (w *way) Send(m protocol.Msg) (int, error) {
	b := m.Data
	w.sent = append(w.sent, b)
	hops := min(int(b[8]), len(w.hops))
	if w.hops[0].mtu > 0 && len(b) > w.hops[0].mtu && hops == 1 && w.hops[0].addr == "" {
		return 0, syscall.EMSGSIZE
	}
	r := w.hops[hops-1]
	for i, x := range w.hops[:hops-1] {
		if x.mtu > 0 && len(b) > x.mtu {
			r = x
			r.typ, r.code = unreachable, codeNeedFrag
			hops = i + 1
			break
		}
		r.mtu = 0
	}
	if r.silent {
		w.waiting = nil
		return len(b), nil
	}
	head := int(b[0]&15) * 4
	var icmp []byte
	if r.typ == echoReply && b[9] == protocol.ProtoICMP {
		icmp = append([]byte{echoReply, 0}, b[head+2:]...)
	} else {
		icmp = make([]byte, icmpHeader)
		icmp[0], icmp[1] = r.typ, r.code
		if r.mtu > 0 {
			binary.BigEndian.PutUint16(icmp[6:], uint16(r.mtu))
		}
		icmp = append(icmp, b[:head+8]...)
	}
	w.waiting = from4(r.addr, r.ttl, icmp)
	w.until = w.clock.Add(time.Duration(hops) * 1500 * time.Microsecond)
	return len(b), nil
}

// from4 is an ICMP message from a router as a raw socket gets it.
func from4(addr string, ttl byte, icmp []byte) []byte {
	p := make([]byte, ipHeader, ipHeader+len(icmp))
	p[0], p[8], p[9] = 0x45, ttl, protocol.ProtoICMP
	copy(p[12:], netip.MustParseAddr(addr).AsSlice())
	copy(p[16:], here.AsSlice())
	return append(p, icmp...)
}

func (w *way) SetReadDeadline(t time.Time) error {
	if w.waiting == nil {
		w.until = t
	}
	return nil
}

func (w *way) Recv(int, uint32) (protocol.Msg, error) {
	w.clock = w.until
	if w.waiting == nil {
		return protocol.Msg{}, os.ErrDeadlineExceeded
	}
	b := w.waiting
	w.waiting = nil
	return protocol.Msg{Data: b}, nil
}

// trace runs a command line over the way and answers what it prints.
func trace(t *testing.T, w *way, line string) (out string, status int) {
	t.Helper()
	o, err := parse(strings.Fields(line), inet4)
	if err != nil {
		t.Fatal(err)
	}
	if o.size == 0 {
		o.size = inet4.least + gatewayOctets(o)
		if o.mtu {
			o.size = 1500
		}
	}
	l := &link4{options: o, to: target, from: here, ident: 0x8123, out: w, in: w, now: w.now}
	for _, g := range o.gateways {
		l.through = append(l.through, netip.MustParseAddr(g))
	}
	var b bytes.Buffer
	s := &session{options: o, prog: "traceroute", hostname: o.host, to: target, unit: "byte packets", link: l, out: &b, err: &b, now: w.now,
		address: row4, name: func(a netip.Addr) string {
			if a == target {
				return "far.example"
			}
			return a.String()
		}}
	if o.source != "" {
		s.from = here
	}
	s.json = strings.Contains(line, "-p 7")
	status = s.run(context.Background())
	return b.String(), status
}

func TestTraces(t *testing.T) {
	near := router{addr: "10.0.0.1", typ: exceeded, ttl: 255}
	quiet := router{silent: true}
	mid := router{addr: "10.1.0.1", typ: exceeded, ttl: 254}
	end := router{addr: "10.3.0.9", typ: unreachable, code: codePort, ttl: 62}
	with := func(r router, typ, code byte) router {
		r.typ, r.code = typ, code
		return r
	}
	narrow := mid
	narrow.mtu = 1300
	mute := mid // a router from before RFC 1191
	mute.mtu = 1400
	echoes := with(end, echoReply, 0)
	low := end
	low.ttl = 1
	for _, tc := range []struct {
		name, line string
		way        *way
	}{
		{"names", "far", newWay(near, mid, end)},
		{"numbers", "-n far", newWay(near, quiet, end)},
		{"icmp", "-nI far", newWay(near, mid, echoes)},
		{"ttl", "-nl -q 1 -s 10.0.0.2 far 100", newWay(near, end)},
		{"last-hop", "-n -q 2 far", newWay(near, low)},
		{"net", "-n far", newWay(near, with(mid, unreachable, 0))},
		{"host", "-n far", newWay(near, with(mid, unreachable, 1))},
		{"protocol", "-n far", newWay(near, with(end, unreachable, 2))},
		{"fragment", "-nF -q 1 far 1500", newWay(narrow, end)},
		{"srcroute", "-n -q 1 -g 10.9.0.1 far", newWay(with(near, unreachable, 5))},
		{"prohibited", "-n far", newWay(near, with(mid, unreachable, 13))},
		{"code", "-n far", newWay(near, with(mid, unreachable, 9))},
		{"mtu", "-nP -q 1 far", newWay(near, narrow, end)},
		{"max", "-n -f 2 -m 3 -q 1 far", newWay(near, mid, mid, end)},
		{"verbose", "-v -q 1 far", newWay(near, end)},
		{"json", "-p 7 -q 1 far", newWay(near, quiet, end)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, status := trace(t, tc.way, tc.line)
			if status != 0 {
				t.Errorf("status %d", status)
			}
			golden.Check(t, tc.name, out)
		})
	}
}

// TestOthers: ICMP about others is passed over, and printed with -v.
func TestOthers(t *testing.T) {
	o, err := parse([]string{"-v", "far"}, inet4)
	if err != nil {
		t.Fatal(err)
	}
	l := &link4{options: o, to: target, from: here, ident: 0x8123, now: time.Now}
	probe := l.packet(4, 2, 40)
	icmp := append([]byte{exceeded, 0, 0, 0, 0, 0, 0, 0}, probe[:28]...)
	if a, ok := l.read(from4("10.0.0.1", 64, icmp), 4); !ok || a.other != "" {
		t.Errorf("the answer to the probe: %+v", a)
	}
	a, ok := l.read(from4("10.0.0.1", 64, icmp), 5)
	if want := "56 bytes from 10.0.0.1 to 10.0.0.2: icmp type 11 (Time Exceeded) code 0\n"; !ok || !strings.HasPrefix(a.other, want) {
		t.Errorf("the answer to another probe: %+v", a)
	}
	if a, ok := l.read(from4("10.0.0.1", 64, icmp[:20]), 4); !ok || a.other == "" {
		t.Errorf("an answer that returns too little: %+v", a)
	}
	if _, ok := l.read([]byte{0x45, 0}, 4); ok {
		t.Error("two octets are an answer")
	}
}

// TestProbeIsAPacket: what is sent is what the RFCs describe, sums included.
func TestProbeIsAPacket(t *testing.T) {
	for line, want := range map[string]string{
		"far":                       "45 00 0028 0000 0000 05 11 | 8123 829d 0014",
		"-F -t 16 far 100":          "45 10 0064 0000 4000 05 11 | 8123 829d 0050",
		"-g 10.9.0.1 far":           "47 00 0030 0000 0000 05 11 | 8123 829d 0014",
		"-I far":                    "45 00 0028 0000 0000 05 01 | 0800",
		"-g 10.9.0.1 -g 10.8.0.1 f": "48 00 0034 0000 0000 05 11 | 8123 829d 0014",
	} {
		o, err := parse(strings.Fields(line), inet4)
		if err != nil {
			t.Fatal(err)
		}
		l := &link4{options: o, to: target, from: here, ident: 0x8123, now: func() time.Time { return time.Unix(7, 0) }}
		for _, g := range o.gateways {
			l.through = append(l.through, netip.MustParseAddr(g))
		}
		b := l.packet(3, 5, o.size)
		head := int(b[0]&15) * 4
		spaced := strings.ReplaceAll(strings.ReplaceAll(want, " ", ""), "|", "")
		got := hexOf(b[:10]) + hexOf(b[head:])
		if !strings.HasPrefix(got, spaced) {
			t.Errorf("%s: %s, want %s", line, got, spaced)
		}
		if l.icmp {
			if c := sum(0, b[head:]); c != 0 {
				t.Errorf("%s: the sum leaves %#x", line, c)
			}
			continue
		}
		to := target.As4()
		pseudo := append(append(append([]byte{}, b[12:16]...), to[:]...), 0, protocol.ProtoUDP, b[head+4], b[head+5])
		if c := sum(uint32(^sum(0, pseudo)), b[head:]); c != 0 {
			t.Errorf("%s: the sum leaves %#x", line, c)
		}
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// TestSendingFails: the reason is told once and the status is 1.
func TestSendingFails(t *testing.T) {
	w := newWay(router{mtu: 30})
	out, status := trace(t, w, "-n far")
	if status != 1 || !strings.HasSuffix(out, "traceroute: sendto: Message too long\n") {
		t.Errorf("status %d\n%s", status, out)
	}
}

func TestRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":                               "a host is missing",
		"a 40 b":                         `"b": a host and a length are all, and options stand before them`,
		"-f 5 -m 4 a":                    "first ttl (5) may not be greater than max ttl (4)",
		"-q 0 a":                         "nprobes must be >= 1",
		"-q x a":                         `"x" bad value for nprobes: a number belongs there`,
		"-m 256 a":                       "max ttl must be <= 255",
		"a 39":                           "packet length must be >= 40",
		"-g b -g c a 50":                 "packet length must be >= 52",
		"-z a":                           "illegal option -- z",
		strings.Repeat("-g b ", 9) + "a": "no more than 8 gateways fit into the options of a packet",
	} {
		_, err := parse(strings.Fields(line), inet4)
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-nI -q 2 -f 3 -m 0x10 gate 1500")
	f.Add("-P -i en0 -s 10.0.0.1 gate")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parse(strings.Fields(line), inet4)
		if err == nil && (o.host == "" || o.first > o.hops || o.hops > 255 || o.tries < 1 || o.size != 0 && o.size < 40) {
			t.Errorf("%q became %+v", line, o)
		}
	})
}

// FuzzRead: whatever comes is an answer or none.
func FuzzRead(f *testing.F) {
	f.Add(from4("10.0.0.1", 64, []byte{exceeded, 0, 0, 0, 0, 0, 0, 0, 0x45}), 3, false)
	f.Add(from4("10.0.0.1", 64, []byte{echoReply, 0, 0, 0, 0x81, 0x23, 0, 3}), 3, true)
	f.Fuzz(func(t *testing.T, b []byte, seq int, icmp bool) {
		l := &link4{options: &options{icmp: icmp, port: firstPort}, ident: 0x8123, now: time.Now}
		if a, ok := l.read(b, seq); ok && !a.from.Is4() {
			t.Errorf("an answer from %v", a.from)
		}
	})
}
