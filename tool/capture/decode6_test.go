package capture

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
)

// frame6 is an IPv6 packet with extension headers ext, of which first is the
// first one, and an upper header, whose ICMPv6 sum is put in.
func frame6(t testing.TB, src, dst string, first byte, ext string, body string) []byte {
	t.Helper()
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	b := octets(t, body)
	if strings.HasSuffix(ext, "*") || ext == "" && first == 58 {
		binary.BigEndian.PutUint16(b[2:], ^ones(b, pseudo(s, d, 58, len(b))))
	}
	e := octets(t, strings.TrimSuffix(ext, "*"))
	f := append(octets(t, "020000000002 020000000001 86dd 60000000"), byte((len(e)+len(b))>>8), byte(len(e)+len(b)), first, 255)
	f = append(append(f, s.AsSlice()...), d.AsSlice()...)
	return append(append(f, e...), b...)
}

const (
	ll1   = "fe80000000000000 0000000000000001"
	ll2   = "fe80000000000000 0000000000000002"
	doc1  = "20010db800000000 0000000000000001"
	nodes = "ff02000000000000 0000000000000001"
	rest6 = "60000000 0010 11 40" + doc1 + "20010db800000000 0000000000000009" + "04d2 0035 0010 0000 0102030405060708"
)

var neighbourhood = []struct {
	name          string // (own): tcpdump has other words
	src, dst      string
	first         byte
	ext, body     string
	line, verbose string // verbose: behind the sum
}{
	{"solicitation", "fe80::1", "ff02::1:ff00:2", 58, "", "8700 0000 00000000" + ll2 + "0101 020000000001",
		"IP6 fe80::1 > ff02::1:ff00:2: ICMP6, neighbor solicitation, who has fe80::2, length 32",
		"\n\t  source link-address option (1), length 8 (1): 02:00:00:00:00:01"},
	{"probe with a nonce", "::", "ff02::1:ff00:2", 58, "", "8700 0000 00000000" + ll2 + "0e01 0102030405ff",
		"IP6 :: > ff02::1:ff00:2: ICMP6, neighbor solicitation, who has fe80::2, length 32",
		"\n\t  nonce option (14), length 8 (1):  0102030405ff"},
	{"advertisement", "fe80::2", "fe80::1", 58, "", "8800 0000 e0000000" + ll2 + "0201 020000000002",
		"IP6 fe80::2 > fe80::1: ICMP6, neighbor advertisement, tgt is fe80::2, length 32",
		", Flags [router, solicited, override]\n\t  destination link-address option (2), length 8 (1): 02:00:00:00:00:02"},
	{"router solicitation", "fe80::1", "ff02::2", 58, "", "8500 0000 00000000 0101 020000000001",
		"IP6 fe80::1 > ff02::2: ICMP6, router solicitation, length 16",
		"\n\t  source link-address option (1), length 8 (1): 02:00:00:00:00:01"},
	{"router advertisement", "fe80::2", "ff02::1", 58, "", "8600 0000 40c8 0708 00007530 000003e8" +
		"0304 40c0 ffffffff 00093a80 00000000 20010db8000000000000000000000000" +
		"0501 0000 000005dc 1802 3008 00000708 20010db800010000 1903 0000 00000258 20010db8000000000000000000000035" +
		"1f03 0000 0000003c 07 6578616d706c65 03 6f7267 00 000000" + "63 01 000000000000" + "2501 616263640000",
		"IP6 fe80::2 > ff02::1: ICMP6, router advertisement, length 136",
		"\n\thop limit 64, Flags [managed, other stateful], pref high, router lifetime 1800s, reachable time 30000ms, retrans timer 1000ms" +
			"\n\t  prefix info option (3), length 32 (4): 2001:db8::/64, Flags [onlink, auto], valid time infinity, pref. time 604800s" +
			"\n\t  mtu option (5), length 8 (1):  1500" +
			"\n\t  route info option (24), length 16 (2):  2001:db8:1::/48, pref=high, lifetime=1800s" +
			"\n\t  rdnss option (25), length 24 (3):  lifetime 600s, addr: 2001:db8::35" +
			"\n\t  dnssl option (31), length 24 (3):  lifetime 60s, domain(s): example.org." +
			"\n\t  unknown option (99), length 8 (1): 000000000000" +
			"\n\t  captive portal option (37), length 8 (1):  abcd"},
	{"redirect", "fe80::2", "fe80::1", 58, "", "8900 0000 00000000" + ll2 + doc1 + "0408 000000000000" + rest6,
		"IP6 fe80::2 > fe80::1: ICMP6, redirect, 2001:db8::1 to fe80::2, length 104",
		"\n\t  redirected header option (4), length 64 (8): 2001:db8::1.1234 > 2001:db8::9.53: [bad udp cksum 0x0000!] UDP, length 8"},
	{"options that are cut short", "fe80::1", "ff02::2", 58, "", "8500 0000 00000000 0104 020000000001",
		"IP6 fe80::1 > ff02::2: ICMP6, router solicitation, length 16",
		"\n\t  source link-address option (1), length 32 (4): [|icmp6]"},
	{"an option of no length", "fe80::1", "ff02::2", 58, "", "8500 0000 00000000 0100 020000000001",
		"IP6 fe80::1 > ff02::2: ICMP6, router solicitation, length 16", "\n\t  option 1 of length 0"},
	{"a report", "fe80::1", "ff02::16", 0, "3a00 0502 0000 0100 *", "8f00 0000 0000 0002 04000000" + nodes + "06000001" + nodes + doc1,
		"IP6 fe80::1 > ff02::16: HBH ICMP6, multicast listener report v2, 2 group record(s) [gaddr ff02::1 to_ex, 0 source(s)] [gaddr ff02::1 block, 1 source(s)], length 64", ""},
	{"a query of MLDv2", "fe80::1", "ff02::1", 0, "3a00 0502 0000 0100 *", "8200 0000 2710 0000" + strings.Repeat("00", 16) + "027d 0000",
		"IP6 fe80::1 > ff02::1: HBH ICMP6, multicast listener query v2 [max resp delay=10000] [gaddr ::], length 28", ""},
	{"a query of MLDv1 (own)", "fe80::1", "ff02::1", 0, "3a00 0502 0000 0100 *", "8200 0000 2710 0000" + strings.Repeat("00", 16),
		"IP6 fe80::1 > ff02::1: HBH ICMP6, multicast listener query, max resp delay 10000, addr ::, length 24", ""},
	{"no port", "2001:db8::9", "2001:db8::1", 58, "", "0104 0000 00000000" + rest6,
		"IP6 2001:db8::9 > 2001:db8::1: ICMP6, destination unreachable, unreachable port, 2001:db8::9 udp port 53, length 64",
		", quoting {2001:db8::1.1234 > 2001:db8::9.53: [bad udp cksum 0x0000!] UDP, length 8}"},
	{"too big", "2001:db8::9", "2001:db8::1", 58, "", "0200 0000 00000500" + rest6,
		"IP6 2001:db8::9 > 2001:db8::1: ICMP6, packet too big, mtu 1280, length 64, quoting {2001:db8::1.1234 > 2001:db8::9.53: UDP, length 8}",
		", quoting {2001:db8::1.1234 > 2001:db8::9.53: [bad udp cksum 0x0000!] UDP, length 8}"},
	{"the end of a path", "2001:db8::9", "2001:db8::1", 58, "", "0300 0000 00000000" + rest6,
		"IP6 2001:db8::9 > 2001:db8::1: ICMP6, time exceeded in-transit for 2001:db8::9, length 64, quoting {2001:db8::1.1234 > 2001:db8::9.53: UDP, length 8}",
		", quoting {2001:db8::1.1234 > 2001:db8::9.53: [bad udp cksum 0x0000!] UDP, length 8}"},
	{"a question for a name (own)", "fe80::1", "fe80::2", 58, "", "8b00 0000 0002 0000 0102030405060708" + ll2,
		"IP6 fe80::1 > fe80::2: ICMP6, node information query (DNS name, subject=fe80::2), length 32", ""},
	{"a name (own)", "fe80::2", "fe80::1", 58, "", "8c00 0000 0002 0000 0102030405060708 00000000 04 676174 65 00",
		"IP6 fe80::2 > fe80::1: ICMP6, node information reply (DNS name gate.), length 26", ""},
	{"UDP behind options (own)", "fe80::1", "fe80::2", 60, "1100 0104 00000000", "04d2 0035 000c 0000 01020304",
		"IP6 fe80::1 > fe80::2: DSTOPT fe80::1.1234 > fe80::2.53: UDP, length 4", ""},
	{"a source route (own)", "fe80::1", "fe80::2", 43, "3b02 0001 00000000" + doc1, "",
		"IP6 fe80::1 > fe80::2: RT6 (len=2, type=0, segleft=1, [0]2001:db8::1) no next header, length 0", ""},
	{"IPv4 in IPv6 (own)", "fe80::1", "fe80::2", 4, "", "45000020 0001 0000 4011 0000 0a000001 0a000002 04d2 0035 000c 0000 01020304",
		"IP6 fe80::1 > fe80::2: IP 10.0.0.1.1234 > 10.0.0.2.53: UDP, length 4", ""},
}

func TestNeighbourhood(t *testing.T) {
	for _, c := range neighbourhood {
		b := frame6(t, c.src, c.dst, c.first, c.ext, c.body)
		p := &Packet{Link: linkEthernet, Data: b, OrigLen: len(b)}
		if got := (&Printer{NoTime: true}).Line(p); got != c.line {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.line)
		}
		got := (&Printer{NoTime: true, Verbose: true}).Line(p)
		if _, tail, ok := strings.Cut(got, " [icmp6 sum ok]"); c.verbose != "" && (!ok || tail != c.verbose) {
			t.Errorf("%s, -v:\n got %s\nwant …%s", c.name, got, c.verbose)
		}
	}
}

// What tcpdump says of a packet and what we say begin alike.
func TestBesideTcpdump(t *testing.T) {
	tcpdump := need.Command(t, "tcpdump", "tcpdump")
	file, err := os.Create(filepath.Join(t.TempDir(), "six.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := NewWriter(file, 65535)
	for _, c := range neighbourhood {
		b := frame6(t, c.src, c.dst, c.first, c.ext, c.body)
		if err := w.Write(&Packet{Time: time.Unix(1, 0), Interface: "en0", Link: linkEthernet, Data: b, OrigLen: len(b)}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(tcpdump, "-tnr", file.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(neighbourhood) {
		t.Fatalf("%d lines of %d packets:\n%s", len(lines), len(neighbourhood), out)
	}
	for i, c := range neighbourhood {
		if strings.HasSuffix(c.name, "(own)") {
			continue
		}
		// To the first word that the two have of their own.
		theirs, _, _ := strings.Cut(lines[i], " [")
		for _, own := range []string{", length ", ", quoting"} {
			theirs, _, _ = strings.Cut(theirs, own)
		}
		if !strings.HasPrefix(c.line, strings.TrimSpace(theirs)) {
			t.Errorf("%s:\ntcpdump %s\n   ours %s", c.name, lines[i], c.line)
		}
	}
}
