package mproxy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ionet/daemon/mproxy/querier"
	"ionet/protocol"
)

var addrEqual = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ips(s string) (out []netip.Addr) {
	for _, a := range strings.Fields(s) {
		out = append(out, ip(a))
	}
	return out
}

func octets(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// inIPv4 is a message in a packet from 10.0.0.7, as Linux sends it, its checksum made right.
func inIPv4(b []byte) []byte {
	if len(b) >= 4 {
		b = append([]byte{}, b...)
		b[2], b[3] = 0, 0
		be.PutUint16(b[2:], sum16(b))
	}
	h := octets("46c0 0000 0000 4000 0102 0000 0a000007 e0000016 94040000")
	be.PutUint16(h[2:], uint16(len(h)+len(b)))
	return append(h, b...)
}

func one(version int, typ uint8, group string, sources ...netip.Addr) message {
	return message{version: version, records: []querier.Record{{Type: typ, Group: ip(group), Sources: sources}}}
}

func asks(version int, q querier.Query) message { return message{version: version, query: &q} }

func TestIGMP(t *testing.T) {
	for _, c := range []struct {
		octets string
		want   message
		err    string
	}{
		{"12 00 0000 ef010203", one(1, querier.IsExclude, "239.1.2.3"), ""},
		{"16 00 0000 ef010203", one(2, querier.IsExclude, "239.1.2.3"), ""},
		{"17 00 0000 ef010203", one(2, querier.ToInclude, "239.1.2.3"), ""},
		{"22 00 0000 0000 0001 04000000 ef010203", one(3, querier.ToExclude, "239.1.2.3"), ""},
		{"22 00 0000 0000 0002 05010001 ef010203 0a000009 ffffffff 06000002 e8000001 0a000001 0a000002",
			message{version: 3, records: []querier.Record{{Type: querier.Allow, Group: ip("239.1.2.3"), Sources: ips("10.0.0.9")},
				{Type: querier.Block, Group: ip("232.0.0.1"), Sources: ips("10.0.0.1 10.0.0.2")}}}, ""},
		{"22 00 0000 0000 0002 04000000 e00000fb 02000000 ef010203", one(3, querier.IsExclude, "239.1.2.3"), ""}, // 224.0.0.251 stays there
		{"11 00 0000 00000000", asks(1, querier.Query{MaxResp: 10 * time.Second}), ""},
		{"11 64 0000 00000000", asks(2, querier.Query{MaxResp: 10 * time.Second}), ""},
		{"11 0a 0000 ef010203", asks(2, querier.Query{Group: ip("239.1.2.3"), MaxResp: time.Second}), ""},
		{"11 64 0000 00000000 027d 0000", asks(3, querier.Query{MaxResp: 10 * time.Second, Robustness: 2, Interval: 125 * time.Second}), ""},
		{"11 80 0000 ef010203 0a8a 0001 0a000009",
			asks(3, querier.Query{Group: ip("239.1.2.3"), Sources: ips("10.0.0.9"), Suppress: true, MaxResp: 12800 * time.Millisecond, Robustness: 2, Interval: 208 * time.Second}), ""},
		{"16 00 0000 e0000009", message{}, "stay on their link"},
		{"16 00 0000 0a000009", message{}, "no group"},
		{"17 00 0000 000000", message{}, "a packet of 31 octets"},
		{"22 00 0000 0000 0001 04000000 ef0102", message{}, "record 1 of 1 is cut off"},
		{"22 00 0000 0000 0001 04000001 ef010203", message{}, "record 1 of 1 is cut off"},
		{"22 00 0000 0000 0001 04010000 ef010203", message{}, "record 1 of 1 is cut off"},
		{"22 00 0000 0000 0001 04000000 0a000009", message{}, "no group"},
		{"11 64 0000 00000000 02", message{}, "a query of 9 octets"},
		{"11 64 0000 00000000 027d 0001", message{}, "a query about 1 sources with room for 0"},
		{"11 64 0000 0a000009", message{}, "no group"},
		{"14 00 0000 00000000", message{}, errNotOurs.Error()},
	} {
		src, m, err := parseIGMP(inIPv4(octets(c.octets)))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", c.octets, err, c.err)
			}
			continue
		}
		if d := cmp.Diff(m, c.want, cmp.AllowUnexported(message{}), addrEqual); err != nil || d != "" || src != ip("10.0.0.7") {
			t.Errorf("%s: from %v, %v\n%s", c.octets, src, err, d)
		}
	}
	good := inIPv4(octets("16 00 0000 ef010203"))
	for at, why := range map[int]string{0: "no IPv4 header", 8: "time to live", 30: "checksum"} {
		bad := append([]byte{}, good...)
		bad[at] ^= 0x20
		if _, _, err := parseIGMP(bad); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("octet %d is another: %v, want %s", at, err, why)
		}
	}
}

func TestMLD(t *testing.T) {
	const g, s = "ff0e0000 00000000 00000000 00000005", "20010db8 00000000 00000000 00000009"
	for _, c := range []struct {
		octets string
		want   message
		err    string
	}{
		{"83 00 0000 0000 0000" + g, one(2, querier.IsExclude, "ff0e::5"), ""},
		{"84 00 0000 0000 0000" + g, one(2, querier.ToInclude, "ff0e::5"), ""},
		{"8f 00 0000 0000 0001 03000001" + g + s, one(3, querier.ToInclude, "ff0e::5", ip("2001:db8::9")), ""},
		{"82 00 0000 2710 0000 00000000 00000000 00000000 00000000", asks(2, querier.Query{MaxResp: 10 * time.Second}), ""},
		{"82 00 0000 8001 0000" + g + "0b7d 0001" + s, asks(3, querier.Query{Group: ip("ff0e::5"), Sources: ips("2001:db8::9"), Suppress: true,
			MaxResp: 32776 * time.Millisecond, Robustness: 3, Interval: 125 * time.Second}), ""},
		{"82 00 0000 03e8 0000 ff020000 00000000 00000001 ff000001 027d 0000",
			asks(3, querier.Query{Group: ip("ff02::1:ff00:1"), MaxResp: time.Second, Robustness: 2, Interval: 125 * time.Second}), ""},
		{"83 00 0000 0000 0000 ff02" + g[4:], message{}, "stay on their link"},
		{"83 00 0000 0000 0000 ff00" + g[4:], message{}, "stay on their link"},
		{"83 00 0000 0000 0000" + s, message{}, "no group"},
		{"83 00 0000 0000 0000", message{}, "a message of 8 octets"},
		{"82 00 0000 0000 0000" + g + "00", message{}, "a query of 25 octets"},
		{"8f 00 0000", message{}, "a report of 4 octets"},
		{"8f 00 0000 0000 0001 03000001" + g, message{}, "cut off"},
		{"", message{}, errNotOurs.Error()},
		{"80 00 0000", message{}, errNotOurs.Error()},
	} {
		m, err := parseMLD(octets(c.octets))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", c.octets, err, c.err)
			}
			continue
		}
		if d := cmp.Diff(m, c.want, cmp.AllowUnexported(message{}), addrEqual); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", c.octets, err, d)
		}
	}
}

// MLD is believed from the link alone, and with what makes routers look.
func TestFromLink(t *testing.T) {
	hop := func(h string) []byte {
		return protocol.AppendControl(nil, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6HopOpts, Data: octets(h)})
	}
	good := hop("3a00 0502 0000 0100")
	for _, c := range []struct {
		from    string
		hops    int
		control []byte
		ok      bool
	}{
		{"fe80::1", 1, good, true},
		{"::", 1, good, true},
		{"fe80::1", 1, hop("3a00 0000 0000 0502"), false}, // cut off
		{"fe80::1", 1, hop("3a01 00 0100 0502 0000 01040000 0000"), true},
		{"fe80::1", 2, good, false},
		{"2001:db8::1", 1, good, false},
		{"fe80::1", 1, nil, false},
		{"fe80::1", 1, hop("3a00 0502 0001 0100"), false}, // RSVP
		{"fe80::1", 1, hop("3a00 0104 0000 0000"), false},
		{"fe80::1", 1, hop("3a"), false},
		{"fe80::1", 1, []byte{1}, false},
	} {
		if err := fromLink(ip(c.from), c.hops, c.control); (err == nil) != c.ok {
			t.Errorf("from %s with %d hops, % x: %v", c.from, c.hops, c.control, err)
		}
	}
}

// What we ask, we would understand.
func TestQueries(t *testing.T) {
	for _, q := range []querier.Query{
		{MaxResp: 10 * time.Second, Robustness: 2, Interval: 125 * time.Second},
		{Group: ip("239.1.2.3"), MaxResp: time.Second, Robustness: 7, Interval: 31744 * time.Second, Suppress: true},
		{Group: ip("ff0e::5"), Sources: ips("2001:db8::1 2001:db8::2"), MaxResp: time.Second, Robustness: 2, Interval: 125 * time.Second},
		{Group: ip("232.1.2.3"), Sources: ips("10.0.0.1 10.0.0.2"), MaxResp: time.Second, Robustness: 2, Interval: 128 * time.Second},
	} {
		for _, older := range []bool{false, true} {
			want, version := q, 3
			if older {
				want, version = querier.Query{Group: q.Group, MaxResp: q.MaxResp}, 2
			}
			if !q.Group.IsValid() || q.Group.Is4() {
				_, m, err := parseIGMP(append(octets("4500 0000 0000 0000 0102 0000 0a000001 e0000001"), appendIGMPQuery(nil, q, older)...))
				if d := cmp.Diff(m, asks(version, want), cmp.AllowUnexported(message{}), addrEqual); err != nil || d != "" {
					t.Errorf("IGMP, older %v: %v\n%s", older, err, d)
				}
			}
			if !q.Group.IsValid() || q.Group.Is6() {
				m, err := parseMLD(appendMLDQuery(nil, q, older))
				if d := cmp.Diff(m, asks(version, want), cmp.AllowUnexported(message{}), addrEqual); err != nil || d != "" {
					t.Errorf("MLD, older %v: %v\n%s", older, err, d)
				}
			}
		}
	}
}

// A number that has no code is said a little smaller.
func TestCodes(t *testing.T) {
	last := -1
	for c := range 256 {
		n := float8(uint8(c))
		if n <= last || int(code(n, 4)) != c || int(code(n+1, 4)) != c && float8(uint8(code(n+1, 4))) != n+1 {
			t.Errorf("code %d is %d and back %d", c, n, code(n, 4))
		}
		last = n
	}
	if c := code(1<<20, 4); c != 255 {
		t.Error(c)
	}
	for _, c := range []uint16{0, 1, 0x7fff, 0x8000, 0x8001, 0x9234, 0xffff} {
		if n := float16(c); code(n, 12) != c {
			t.Errorf("code %#x is %d and back %#x", c, n, code(n, 12))
		}
	}
}

// FuzzMessages: whatever comes is refused or taken, by a proxy that goes on; a query that was understood is one that we could ask.
func FuzzMessages(f *testing.F) {
	f.Add(inIPv4(octets("22 00 0000 0000 0001 04000000 ef010203")), octets("8f 00 0000 0000 0001 04000000 ff0e0000 00000000 00000000 00000005"))
	f.Add(inIPv4(octets("11 64 0000 00000000 027d 0000")), appendMLDQuery(nil, querier.Query{Group: ip("ff0e::5"), Sources: ips("2001:db8::1")}, false))
	f.Add(inIPv4(octets("17 00 0000 ef010203")), octets("84 00 0000 0000 0000 ff0e0000 00000000 00000000 00000005"))
	f.Fuzz(func(t *testing.T, four, six []byte) {
		now := time.Unix(1000, 0)
		feed := func(own string, from netip.Addr, m message, err error) {
			if err != nil {
				if !errors.Is(err, errNotOurs) && fmt.Sprint(err) == "" {
					t.Error("an error without words")
				}
				return
			}
			p := newProxy(&fake{}, querier.Default, 2)
			p.setAddr(now, 1, ip(own))
			p.setAddr(now, 2, ip(own))
			p.turn(now)
			p.take(now, 1, from, m)
			p.take(now, 2, from, m)
			for range 100 {
				next := p.turn(now)
				if next.IsZero() {
					t.Fatal("no deadline")
				}
				now = next
			}
		}
		src, m, err := parseIGMP(four)
		feed("10.0.0.9", src, m, err)
		if err == nil && m.version == 3 && m.query != nil && m.query.Robustness <= 7 {
			again := appendIGMPQuery(octets("4500 0000 0000 0000 0102 0000 0a000001 e0000001"), *m.query, false)
			be.PutUint16(again[22:], 0)
			be.PutUint16(again[22:], sum16(again[20:]))
			if _, m2, err := parseIGMP(again); err != nil || cmp.Diff(m2, m, cmp.AllowUnexported(message{}), addrEqual) != "" {
				t.Errorf("%+v became %+v, %v", m.query, m2.query, err)
			}
		}
		m, err = parseMLD(six)
		feed("fe80::9", ip("fe80::1"), m, err)
		if err == nil && m.version == 3 && m.query != nil {
			if m2, err := parseMLD(appendMLDQuery(nil, *m.query, false)); err != nil || cmp.Diff(m2, m, cmp.AllowUnexported(message{}), addrEqual) != "" {
				t.Errorf("%+v became %+v, %v", m.query, m2.query, err)
			}
		}
		_ = alert(six)
	})
}
