package autoconf

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/packet"
)

func servers(lifetime time.Duration, ss ...string) *ndp.RecursiveDNSServer {
	return &ndp.RecursiveDNSServer{Lifetime: lifetime, Servers: addrsOf(ss...)}
}

func search(lifetime time.Duration, names ...string) *ndp.DNSSearchList {
	return &ndp.DNSSearchList{Lifetime: lifetime, DomainNames: names}
}

// wantDNS compares what the resolver is told.
func (b *bench) wantDNS(want string) {
	b.Helper()
	ips, names := b.DNS()
	var got []string
	for _, ip := range ips {
		plain, index := packet.Unscoped(ip)
		s := plain.String()
		if index != 0 {
			s += "%" + b.env.Ifs.ByIndex(index).Name
		}
		got = append(got, s)
	}
	if s := strings.Join(append(got, names...), " "); s != want {
		b.Errorf("DNS: %q, want %q", s, want)
	}
}

func TestDNS(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, servers(20*time.Minute, "2001:db8::53", "fe80::53"), search(30*time.Minute, "example.com", "lab.example.com")))
	b.wantDNS("2001:db8::53 fe80::53%en0 example.com lab.example.com")
	b.hear(r2, say(0, servers(time.Hour, "2001:db8::54", "2001:db8::53")))
	b.pass(21 * time.Minute)
	b.wantDNS("2001:db8::53 2001:db8::54 example.com lab.example.com")
	b.hear(r1, say(time.Hour, search(0, "example.com")))
	b.wantDNS("2001:db8::53 2001:db8::54 lab.example.com")
	b.hear(r1, say(time.Hour, servers(0, "2001:db8::53")))
	b.wantDNS("2001:db8::54 lab.example.com")
	b.pass(10 * time.Minute)
	b.wantDNS("2001:db8::54")
	b.hear(r1, say(time.Hour, servers(ndp.Infinity, "2001:db8::54")))
	b.pass(1000 * time.Hour)
	b.wantDNS("2001:db8::54")
}

// When there are too many, the one goes whose time ends first (RFC 8106 §6.2).
func TestTooManyServers(t *testing.T) {
	b := start(t, "maxifdns=3")
	b.hear(r1, say(time.Hour, servers(20*time.Minute, "2001:db8::2"), servers(10*time.Minute, "2001:db8::1"), servers(30*time.Minute, "2001:db8::3")))
	b.hear(r1, say(time.Hour, servers(15*time.Minute, "2001:db8::4")))
	b.wantDNS("2001:db8::2 2001:db8::3 2001:db8::4")
	b.hear(r1, say(time.Hour, servers(time.Minute, "2001:db8::5"))) // its own ends before theirs
	b.wantDNS("2001:db8::2 2001:db8::3 2001:db8::4")
	b.set("maxifdns", "0")
	b.hear(r1, say(time.Hour, search(time.Hour, "example.com")))
	b.wantDNS("2001:db8::2 2001:db8::3 2001:db8::4")
}

func TestServersThatAreNone(t *testing.T) {
	b := start(t)
	for _, ip := range []string{"ff02::fb", "::", "::1"} {
		b.hear(r1, say(time.Hour, servers(time.Hour, ip)))
	}
	b.wantDNS("")
	if n := b.count("bad advertised option"); n != 3 {
		t.Errorf("%d counted", n)
	}
}

func TestBadDomains(t *testing.T) {
	label := func(n int) string { return string(rune(n)) + strings.Repeat("x", n) }
	for name, data := range map[string]string{
		"without an end":        "\x05local",
		"compressed":            "\x05local\xc0\x08",
		"beyond the option":     "\x3fx",
		"of other characters":   "\x09ev\nil.com\x00",
		"of more characters":    "\x08a b;c$(d\x00",
		"too long a label":      string(rune(64)) + strings.Repeat("x", 64) + "\x00",
		"too long altogether":   strings.Repeat(label(63), 4) + "\x00",
		"the good with the bad": "\x01.\x00\x05local\x00",
	} {
		t.Run(name, func(t *testing.T) {
			o := append([]byte{packet.NDOptDNSSL, 0, 0, 0, 0, 0, 1, 0}, data...)
			for len(o)%8 != 0 {
				o = append(o, 'x') // no end of a name
			}
			if strings.HasSuffix(data, "\x00") {
				clear(o[8+len(data):])
			}
			o[1] = byte(len(o) / 8)
			b := start(t)
			b.input(r1, 255, append(marshal(t, say(time.Hour)), o...))
			b.wantDNS("")
			if n := b.count("bad advertised option"); n != 1 {
				t.Errorf("%d counted", n)
			}
		})
	}
}

// The library that builds the options reads what it has built as we do.
func TestDomainsAsTheOthersReadThem(t *testing.T) {
	for i := range 20 {
		var names []string
		for k := range i%4 + 1 {
			names = append(names, fmt.Sprintf("%s.x-%d.example", strings.Repeat("a", 1+(7*i+k)%20), k))
		}
		b := start(t)
		b.hear(r1, say(time.Hour, search(time.Hour, names...)))
		b.wantDNS(strings.Join(names, " "))
	}
}
