package traceroute

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

var (
	here6   = netip.MustParseAddr("2001:db8::2")
	target6 = netip.MustParseAddr("2001:db8:3::9")
)

// way6 is the way of trace_test.go over IPv6: routers in a row in virtual time.
type way6 struct {
	t       *testing.T
	clock   time.Time
	hops    []router
	big     bool // errors return extension headers before the probe's own
	waiting *protocol.Msg
	until   time.Time
}

func (w *way6) now() time.Time { return w.clock }

func (w *way6) Send(m protocol.Msg) (int, error) {
	a, err := protocol.ParseAncillary(m.Control)
	if err != nil || a.TTL < 1 {
		w.t.Fatalf("a probe with hop limit %d, %v", a.TTL, err)
	}
	hops := min(a.TTL, len(w.hops))
	r := w.hops[hops-1]
	w.waiting = nil
	if r.silent {
		return len(m.Data), nil
	}
	var icmp []byte
	if r.typ == icmp6Reply {
		icmp = append([]byte{icmp6Reply, 0}, m.Data[2:]...)
	} else {
		icmp = append([]byte{r.typ, r.code, 0, 0, 0, 0, 0, 0}, w.packet(m)...)
	}
	from := netip.MustParseAddr(r.addr)
	c := protocol.AppendControl(nil, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6PktInfo,
		Data: protocol.AppendPktInfo(nil, protocol.PktInfo{Addr: here6, Index: 2})})
	c = protocol.AppendControl(c, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6HopLimit,
		Data: binary.LittleEndian.AppendUint32(nil, uint32(r.ttl))})
	w.waiting = &protocol.Msg{Addr: protocol.AddrFrom(from, 0), Control: c, Data: icmp}
	w.until = w.clock.Add(time.Duration(hops) * 1500 * time.Microsecond)
	return len(m.Data), nil
}

// packet is a probe as it is on the wire.
func (w *way6) packet(m protocol.Msg) []byte {
	b := make([]byte, ip6Header)
	b[0] = 0x60
	proto, body := byte(protocol.ProtoUDP), m.Data
	if m.Addr.Port == 0 {
		proto = protocol.ProtoICMPv6
	} else {
		u := binary.BigEndian.AppendUint16(nil, 0x8123)
		u = binary.BigEndian.AppendUint16(u, m.Addr.Port)
		body = append(append(u, 0, byte(8+len(m.Data)), 0, 0), m.Data...)
	}
	b[6] = proto
	if w.big {
		b[6] = nextHopOpts
		b = append(b, nextDstOpts, 0, 1, 4, 0, 0, 0, 0)
		b = append(b, nextFragment, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		b = append(b, proto, 0, 0, 1, 0, 0, 0, 7)
	}
	return append(b, body...)
}

func (w *way6) SetReadDeadline(t time.Time) error {
	if w.waiting == nil {
		w.until = t
	}
	return nil
}

func (w *way6) Recv(int, uint32) (protocol.Msg, error) {
	w.clock = w.until
	if w.waiting == nil {
		return protocol.Msg{}, os.ErrDeadlineExceeded
	}
	m := *w.waiting
	w.waiting = nil
	return m, nil
}

func TestTraces6(t *testing.T) {
	near := router{addr: "fe80::1%2", typ: icmp6Exceeded, ttl: 64}
	mid := router{addr: "2001:db8:1::1", typ: icmp6Exceeded, ttl: 63}
	end := router{addr: "2001:db8:3::9", typ: icmp6Unreachable, code: code6Port, ttl: 62}
	quiet := router{silent: true}
	with := func(typ, code byte) router { return router{addr: mid.addr, typ: typ, code: code, ttl: 63} }
	low := end
	low.ttl = 1
	for _, tc := range []struct {
		name, line string
		way        *way6
	}{
		{"six-names", "far", &way6{hops: []router{near, mid, end}}},
		{"six-both", "-l -q 2 far", &way6{hops: []router{near, quiet, end}}},
		{"six-numbers", "-n far 100", &way6{hops: []router{near, mid, end}, big: true}},
		{"six-echo", "-nI far", &way6{hops: []router{near, {addr: end.addr, typ: icmp6Reply, ttl: 63}}}},
		{"six-echo-error", "-nI -q 1 far", &way6{hops: []router{near, with(icmp6Unreachable, 3)}}},
		{"six-route", "-n -q 1 far", &way6{hops: []router{near, with(icmp6Unreachable, 0)}}},
		{"six-prohibited", "-n -q 1 far", &way6{hops: []router{near, with(icmp6Unreachable, 1)}}},
		{"six-scope", "-n -q 1 far", &way6{hops: []router{near, with(icmp6Unreachable, 2)}}},
		{"six-code", "-n -q 1 far", &way6{hops: []router{near, with(icmp6Unreachable, 6)}}},
		{"six-big", "-n -q 1 -m 2 far", &way6{hops: []router{near, with(icmp6TooBig, 0)}}},
		{"six-problem", "-n -q 1 far", &way6{hops: []router{with(icmp6Problem, code6NextHeader)}}},
		{"six-last-hop", "-n -q 1 far", &way6{hops: []router{low}}},
		{"six-verbose", "-v -q 1 -f 2 far", &way6{hops: []router{near, end}}},
		{"six-others", "-nv -q 1 -m 1 -w 1 far", &way6{hops: []router{with(icmp6Exceeded, 1)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, err := parse(strings.Fields(tc.line), inet6)
			if err != nil {
				t.Fatal(err)
			}
			o.size = max(o.size, opacketLen)
			w := tc.way
			w.t, w.clock = t, time.Unix(1000, 0)
			l := &link6{options: o, to: target6, from: here6, ident: 0x8123, out: w, in: w, now: w.now,
				zone: func(i string) string { return "en" + i }}
			var b bytes.Buffer
			s := &session{options: o, prog: "traceroute6", hostname: o.host, to: target6, from: here6, unit: "byte packets", link: l,
				out: &b, err: &b, now: w.now, address: row6, name: func(a netip.Addr) string {
					if a == target6 {
						return "far.example"
					}
					return a.String()
				}}
			if status := s.run(context.Background()); status != 0 {
				t.Errorf("status %d", status)
			}
			golden.Check(t, tc.name, b.String())
		})
	}
}

// TestFilter6: errors and replies come, neighbours' talk never.
func TestFilter6(t *testing.T) {
	for _, all := range []bool{false, true} {
		f := filter6(all)
		var passed []string
		for typ := range 256 {
			if f[typ/8]&(1<<(typ%8)) != 0 {
				passed = append(passed, strconv.Itoa(typ))
			}
		}
		got := strings.Join(passed, " ")
		if !all && got != "1 2 3 4 129" || all && len(passed) != 251 {
			t.Errorf("verbose %v: %s", all, got)
		}
	}
}

func TestRefuses6(t *testing.T) {
	for line, want := range map[string]string{
		"a 11":   "data length must be >= 12",
		"-t 3 a": "illegal option -- t",
		"-m 0 a": "max ttl must be >= 1",
	} {
		if _, err := parse(strings.Fields(line), inet6); err == nil || err.Error() != want {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// FuzzRead6: whatever comes is an answer or none.
func FuzzRead6(f *testing.F) {
	w := &way6{big: true}
	probe := w.packet(protocol.Msg{Addr: protocol.AddrFrom(target6, firstPort+3), Data: make([]byte, 12)})
	f.Add(append([]byte{icmp6Exceeded, 0, 0, 0, 0, 0, 0, 0}, probe...), 3, false)
	f.Add([]byte{icmp6Reply, 0, 0, 0, 0x81, 0x23, 0, 3}, 3, true)
	f.Fuzz(func(t *testing.T, b []byte, seq int, icmp bool) {
		l := &link6{options: &options{icmp: icmp, port: firstPort}, ident: 0x8123, now: time.Now}
		a := answer{from: target6}
		if l.read(&a, b, seq) && a.reached && a.other != "" {
			t.Errorf("both an answer and none: %+v", a)
		}
	})
}
