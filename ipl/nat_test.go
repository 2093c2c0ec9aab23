package ipl

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestTranslationsArePrinted(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"map en0 10.0.0.0/8 -> 192.0.2.1/32", "map en0 10.0.0.0/8 -> 192.0.2.1/32"},
		{"map en0 10/8 -> 0/32 portmap tcp/udp 40000:60000", "map en0 10.0.0.0/8 -> 0.0.0.0/32 portmap tcp/udp 40000:60000"},
		{"map en0 10/8 -> 0/32 portmap tcp auto sequential", "map en0 10.0.0.0/8 -> 0.0.0.0/32 portmap tcp auto sequential"},
		{"map en0 10/8 -> 0/32 icmpidmap icmp 1:65535", "map en0 10.0.0.0/8 -> 0.0.0.0/32 icmpidmap icmp 1:65535"},
		{"map en0,en1 10.0.0.0 netmask 255.0.0.0 -> 192.0.2.0/24 tcp", "map en0,en1 10.0.0.0/8 -> 192.0.2.0/24 tcp"},
		{"map en0 10/8 -> 192.0.2.1 proto 47", "map en0 10.0.0.0/8 -> 192.0.2.1/32 gre"},
		{"map * 10/8 -> 0/32", "map * 10.0.0.0/8 -> 0.0.0.0/32"},
		{"map 0 10/8 -> range 192.0.2.1-192.0.2.9", "map * 10.0.0.0/8 -> range 192.0.2.1-192.0.2.9"},
		{"map en0 from 10/8 to ! 10.1/16 -> 0/32", "map en0 from 10.0.0.0/8 to !10.1.0.0/16 -> 0.0.0.0/32"},
		{"map en0 from 10/8 port > 1023 to any port = http -> 0/32 tcp", "map en0 from 10.0.0.0/8 port > 1023 to any port = 80 -> 0.0.0.0/32 tcp"},
		{"map en0 from pool/inside to hash/3 -> 0/32", "map en0 from pool/inside to hash/3 -> 0.0.0.0/32"},
		{"map en0 0/0 -> 0/0", "map en0 0.0.0.0/0 -> 0.0.0.0/0"},
		{"map en0 10/8 -> 0/32 proxy port ftp ftp/tcp", "map en0 10.0.0.0/8 -> 0.0.0.0/32 proxy port 21 ftp/tcp"},
		{"map en0 10/8 -> 0/32 mssclamp 1452 frag age 10/20 sticky purge tag web", "map en0 10.0.0.0/8 -> 0.0.0.0/32 frag age 10/20 sticky mssclamp 1452 tag web purge"},
		{"map en0 2001:db8::/64 -> 2001:db8:1::1/128 portmap tcp/udp auto", "map en0 2001:db8::/64 -> 2001:db8:1::1/128 portmap tcp/udp auto"},
		{"map en0 any -> ::/128 icmpidmap ipv6-icmp auto", "map en0 ::/0 -> ::/128 icmpidmap ipv6-icmp auto"},
		{"map-block en0 10.0.0.0/8 -> 192.0.2.0/24 ports 64", "map-block en0 10.0.0.0/8 -> 192.0.2.0/24 ports 64"},
		{"map-block en0 10.0.0.0/8 -> 192.0.2.0/24", "map-block en0 10.0.0.0/8 -> 192.0.2.0/24 ports auto"},
		{"bimap en0 10.0.0.1 -> 192.0.2.1/32", "bimap en0 10.0.0.1/32 -> 192.0.2.1/32"},
		{"rdr en0 192.0.2.1/32 port 80 -> 10.0.0.1 port 8080", "rdr en0 192.0.2.1/32 port 80 -> 10.0.0.1 port 8080 tcp"},
		{"rdr en0 0/0 port = http -> 0/32 port = 3128 tcp", "rdr en0 0.0.0.0/0 port 80 -> 0.0.0.0 port 3128 tcp"},
		{"rdr en0 0/0 port 5000-5009 -> 10.0.0.1 port 6000 udp", "rdr en0 0.0.0.0/0 port 5000-5009 -> 10.0.0.1 port 6000 udp"},
		{"rdr en0 0/0 port 5000-5009 -> 10.0.0.1 port 6000-6009 tcp/udp", "rdr en0 0.0.0.0/0 port 5000-5009 -> 10.0.0.1 port 6000-6009 tcp/udp"},
		{"rdr en0 0/0 port 80 -> 10.0.0.1,10.0.0.2,10.0.0.3 port 80 tcp round-robin sticky", "rdr en0 0.0.0.0/0 port 80 -> 10.0.0.1,10.0.0.2,10.0.0.3 port 80 tcp round-robin sticky"},
		{"rdr en0 0/0 port 80-80 -> 10.0.0.1 port 90-90 tcp", "rdr en0 0.0.0.0/0 port 80 -> 10.0.0.1 port 90 tcp"},
		{"rdr en0 192.0.2.9/32 port 0 -> 10.0.0.1 port 0 ip", "rdr en0 192.0.2.9/32 -> 10.0.0.1 ip"},
		{"rdr en0 192.0.2.9/32 -> 10.0.0.1 icmp", "rdr en0 192.0.2.9/32 -> 10.0.0.1 icmp"},
		{"rdr en0 from 10/8 to 192.0.2.1/32 port = 25 -> 10.0.0.1 port 2525 tcp", "rdr en0 from 10.0.0.0/8 to 192.0.2.1/32 port = 25 -> 10.0.0.1 port 2525 tcp"},
		{"rdr en0 from any to any port 1:9 -> 10.0.0.1 port 11 udp", "rdr en0 from any to any port 1:9 -> 10.0.0.1 port 11 udp"},
		{"rdr en0 any port 21 -> ::1 port 21 tcp proxy ftp", "rdr en0 ::/0 port 21 -> ::1 port 21 tcp proxy ftp"},
		{"nptv6 en0 fd00:1::/48 -> 2001:db8:1::/48", "nptv6 en0 fd00:1::/48 -> 2001:db8:1::/48"},
		{"nat64 en0 64:ff9b::/96 -> 192.0.2.0/28 portmap tcp/udp 1024:65535", "nat64 en0 64:ff9b::/96 -> 192.0.2.0/28 portmap tcp/udp 1024:65535"},
		{"map en0 10/8\n -> 0/32 # the others\n  portmap tcp/udp auto", "map en0 10.0.0.0/8 -> 0.0.0.0/32 portmap tcp/udp auto"},
	} {
		rules, err := ParseNAT("t", []byte(tc.text), testOptions)
		if err != nil || len(rules) != 1 {
			t.Errorf("%s\n%d rules, %v", tc.text, len(rules), err)
			continue
		}
		if s := rules[0].String(); s != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.text, s, tc.want)
		}
		againNAT(t, rules[0])
	}
}

func againNAT(t failer, r NATRule) {
	t.Helper()
	text := r.String()
	back, err := ParseNAT("again", []byte(text), Options{})
	if err != nil || len(back) != 1 {
		t.Fatalf("%s: %d rules, %v", text, len(back), err)
	}
	if d := cmp.Diff(r, back[0], cmpopts.IgnoreFields(NATRule{}, "Line"), compareAddrs); d != "" {
		t.Fatalf("%s: %s", text, d)
	}
}

func TestWhatIsWrongWithTranslations(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"mpa en0 10/8 -> 0/32", `1:1: "mpa" where a kind of translation is expected; did you mean "map"?`},
		{"no map en0 10/8", `1:1: no is refused: what is not to be translated is left out of the other rules by from !…`},
		{"map en0", `1:8: the end of the line where an address is expected`},
		{"map from 10/8 to any -> 0/32", `1:5: "from" where an interface is expected`},
		{"map en0 10/8", `1:13: the end of the line where "->" is expected`},
		{"map en0 10/8 -> fe80::1", `1:17: "fe80::1" is IPv6, and "10/8" is IPv4`},
		{"map en0 10/8 -> any", `1:17: "any" where a network is expected`},
		{"map en0 10/8 -> 192.0.2.0/255.0.0.255", `1:17: the mask of 192.0.2.0/255.0.0.255 is not of ones and then zeros`},
		{"map en0 10/8 -> range 192.0.2.9-192.0.2.1", `1:23: the range ends, at 192.0.2.1, before it begins, at 192.0.2.9`},
		{"map en0 10/8 -> range 192.0.2.9", `1:23: "192.0.2.9" where a range, A-B, is expected`},
		{"map en0 10/8 -> 0/32 portmap icmp 1:2", `1:30: portmap of icmp: tcp, udp or tcp/udp`},
		{"map en0 10/8 -> 0/32 icmpidmap tcp 1:2", `1:32: icmpidmap of tcp: icmp or ipv6-icmp`},
		{"map en0 10/8 -> 0/32 portmap tcp 5", `1:34: "5" where a range, LO:HI, or "auto" is expected`},
		{"map en0 10/8 -> 0/32 portmap tcp 0:5", `1:34: port 0 is nobody's: a range from 1 on`},
		{"map en0 10/8 -> 0/32 portmap tcp auto tcp", `1:1: a protocol beside that of portmap`},
		{"map en0 10/8 -> 0/32 sequential", `1:1: sequential without portmap`},
		{"map en0 10/8 -> 0/32 round-robin", `1:22: round-robin, of a rule that is map`},
		{"map en0 10/8 -> 0/32 frag frag", `1:27: frag twice`},
		{"map en0 10/8 -> 0/32 prtmap tcp auto", `1:22: "prtmap" where an option is expected; did you mean "portmap"?`},
		{"map en0 10/8 -> 0/32 proxy port 21 irc/tcp", `1:36: no proxy is called "irc"; there is ftp`},
		{"map en0 10/8 -> 0/32 proxy port 21 ftp/udp", `1:36: ftp speaks tcp`},
		{"map en0 10/8 -> 0/32 mssclamp 0", `1:31: 0 where a segment size, from 1 to 65535, is expected`},
		{"map en0 from any port = 1 to any -> 0/32", `1:18: ports of a rule that is not about TCP or UDP: tcp, udp or tcp/udp at its end`},
		{"map en0 from { 10/8, 11/8 } to any -> 0/32", `1:16: several addresses or ports: a translation is about one of each, or about a pool`},
		{"map-block en0 10/8 -> 0/24 ports 70000", `1:34: 70000 where how many ports, from 1 to 64512, is expected`},
		{"map-block en0 from any to any -> 0/24", `1:15: from, of a rule that is about one network: map and rdr have it`},
		{"bimap en0 10/8 -> 192.0.2.1/32", `1:19: a network of 32 bits for one of 8: bimap gives one address for one`},
		{"rdr en0 0/0 port 80 -> 10/8 port 80", `1:24: a network where an address is expected: rdr leads to hosts`},
		{"rdr en0 0/0 port 80-70 -> 10.0.0.1", `1:18: the range ends, at 70, before it begins, at 80`},
		{"rdr en0 0/0 port 80-89 -> 10.0.0.1 port 1-2", `1:36: 2 ports for 10`},
		{"rdr en0 0/0 port 80-89 -> 10.0.0.1 port 65530", `1:36: 10 ports from 65530 on end behind 65535`},
		{"rdr en0 0/0 port 80-89 -> 10.0.0.1 port = 1", `1:36: "port =" of more than one port: port 1 is where a range begins`},
		{"rdr en0 0/0 port 80 -> 10.0.0.1 port 80 icmp", `1:1: ports of a rule that is not about TCP or UDP: tcp, udp or tcp/udp`},
		{"rdr en0 from any to any port > 5 -> 10.0.0.1 port 80 tcp", `1:25: a port of rdr is one or a range: "=" or LO:HI`},
		{"rdr en0 en1/32 port 80 -> 10.0.0.1", `1:9: "en1/32" where a network is expected; from and to take pools and interfaces`},
		{"nptv6 en0 10/8 -> 11/8", `1:19: nptv6 is about prefixes of IPv6 of up to 64 bits (RFC 6296)`},
		{"nptv6 en0 fd00::/48 -> 2001:db8::/48 frag", `1:38: frag, of a rule that is nptv6: it keeps no state`},
		{"nat64 en0 64:ff9b::/64 -> 192.0.2.0/28", `1:24: nat64 translates from a prefix of IPv6 of 96 bits (RFC 6052)`},
		{"nat64 en0 64:ff9b::/96 -> fe80::/96", `1:27: nat64 translates to a network of IPv4`},
		{"map en0 10/8 -> 0/32\nmap en0\nmapp", "2:8: the end of the line where an address is expected\n3:1: \"mapp\" where a kind of translation is expected; did you mean \"map\"?"},
	} {
		_, err := ParseNAT("t", []byte(tc.text), testOptions)
		var es Errors
		if !errors.As(err, &es) {
			t.Errorf("%s: no error", tc.text)
			continue
		}
		if got := strings.ReplaceAll("\n"+es.Error(), "\nt:", "\n")[1:]; got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.text, got, tc.want)
		}
	}
}

func drawNAT(t *rapid.T) NATRule {
	flip := func(name string) bool { return rapid.Bool().Draw(t, name) }
	r := NATRule{Kind: rapid.SampledFrom([]NATKind{Map, MapBlock, Rdr, Bimap}).Draw(t, "kind"), Proto: AnyProto}
	six := flip("six")
	r.If, r.If2 = rapid.SampledFrom([]string{"en0", "*"}).Draw(t, "if"), rapid.SampledFrom([]string{"", "", "en1", "*"}).Draw(t, "if2")
	prefix := func(bits int) netip.Prefix {
		a := drawAddr(t, six)
		if bits < 0 {
			bits = rapid.IntRange(1, a.BitLen()).Draw(t, "bits")
		}
		return netip.PrefixFrom(a, bits).Masked()
	}
	src := prefix(-1)
	network := Endpoint{Kind: NetAddr, Addr: src.Addr(), Mask: maskOf(src.Addr(), src.Bits())}
	if r.Kind == Rdr || r.Kind == Map {
		r.Proto = rapid.SampledFrom([]int{AnyProto, protoTCP, protoUDP, ProtoTCPUDP}).Draw(t, "proto")
		r.FromTo = flip("from")
	}
	switch {
	case r.FromTo:
		r.Src, r.Dst = drawEnd(t, six, hasPorts(r.Proto)), drawEnd(t, six, false)
	case r.Kind == Rdr:
		r.Dst = network
	default:
		r.Src = network
	}
	switch r.Kind {
	case Rdr:
		for range rapid.IntRange(1, 3).Draw(t, "targets") {
			r.Targets = append(r.Targets, drawAddr(t, six))
		}
		r.RoundRobin = flip("rr")
		if !hasPorts(r.Proto) {
			break
		}
		lo, more := rapid.Uint16Range(1, 60000).Draw(t, "port"), rapid.Uint16Range(0, 9).Draw(t, "more")
		r.Ports = [2]uint16{lo, lo + more}
		if r.FromTo {
			if r.Dst.Port = (Port{PortRange, lo, lo + more}); more == 0 {
				r.Dst.Port = Port{Op: PortEq, Lo: lo}
			}
		}
		if r.TPorts[0] = rapid.Uint16Range(1, 60000).Draw(t, "to"); more > 0 && flip("end") {
			r.TPorts[1] = r.TPorts[0] + more
		}
		if r.Proto == protoTCP && flip("proxy") {
			r.Proxy = &Proxy{r.Ports[0], "ftp", protoTCP}
		}
	case Map:
		r.To = prefix(-1)
		if flip("range") {
			a, b := drawAddr(t, six), drawAddr(t, six)
			if b.Less(a) {
				a, b = b, a
			}
			r.To, r.ToEnd = netip.PrefixFrom(a, a.BitLen()), b
		}
		if r.Proto == AnyProto && flip("portmap") {
			r.PortMap = &PortMap{Proto: rapid.SampledFrom([]int{protoTCP, protoUDP, ProtoTCPUDP}).Draw(t, "mapped"), Auto: true}
			if flip("range of ports") {
				r.PortMap = &PortMap{Proto: protoTCP, Lo: rapid.Uint16Range(1, 60000).Draw(t, "lo"), Hi: 60001}
			}
			r.Sequential = flip("sequential")
		}
		if flip("proxy") {
			r.Proxy = &Proxy{21, "ftp", protoTCP}
		}
	case MapBlock:
		r.To, r.BlockPorts = prefix(-1), rapid.IntRange(0, 64512).Draw(t, "block")
	case Bimap:
		r.To = prefix(src.Bits())
	}
	r.Frag, r.Purge = flip("frag"), flip("purge")
	r.MSSClamp = rapid.SampledFrom([]int{0, 1, 1452}).Draw(t, "mss")
	if flip("age") {
		r.Age = [2]int{rapid.IntRange(1, 99).Draw(t, "a"), rapid.IntRange(1, 99).Draw(t, "b")}
	}
	r.Tag = rapid.SampledFrom([]string{"", "web", "7"}).Draw(t, "tag")
	return r
}

func TestTranslationsReadTheirOwnText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { againNAT(t, drawNAT(t)) })
}

func FuzzNAT(f *testing.F) {
	for _, s := range []string{"map en0,en1 10/8 -> 0/32 portmap tcp/udp 40000:60000 sequential", "rdr * from any to any port 1:9 -> 10.0.0.1,10.0.0.2 port 11-19 udp round-robin proxy ftp", "map 0 10/8 -> range 192.0.2.1-192.0.2.9 proxy port 21 ftp/tcp age 5", "nptv6 en0 fd00:1::/48 -> 2001:db8:1::/48", "nat64 en0 64:ff9b::/96 -> 192.0.2.0/28", "map-block en0 10/8 -> 1/24 ports 3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := ParseNAT("f", text, Options{})
		if es := (Errors)(nil); err != nil && (!errors.As(err, &es) || len(es) == 0 || len(es) > maxErrors) {
			t.Fatalf("%v", err)
		}
		for i, r := range rules {
			if i > 50 {
				break
			}
			againNAT(t, r)
		}
	})
}
