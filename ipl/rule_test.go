package ipl

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// services and hosts are what the tests' names mean.
var testOptions = Options{
	Service: func(name, proto string) (uint16, bool) {
		n, ok := map[string]uint16{"ftp/tcp": 21, "ssh/tcp": 22, "http/tcp": 80, "odd/tcp": 1, "odd/udp": 2}[name+"/"+proto]
		return n, ok
	},
	Resolve: func(name string) ([]netip.Addr, error) {
		switch name {
		case "host.example":
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		case "both.example":
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, nil
		}
		return nil, errors.New("no such host")
	},
}

func TestRulesArePrinted(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		// What is done.
		{"pass in all", "pass in all"},
		{"block out all", "block out all"},
		{"log in all", "log in all"},
		{"log body first level local0.info in all", "log body first level local0.info in all"},
		{"count out all", "count out all"},
		{"skip 3 in proto tcp all", "skip 3 in proto tcp from any to any"},
		{"@7 pass in all", "@7 pass in all"},
		{"@0 pass in", "@0 pass in all"},
		{"block return-rst in proto tcp all", "block return-rst in proto tcp from any to any"},
		{"block return-icmp in all", "block return-icmp in all"},
		{"block return-icmp(3) in all", "block return-icmp(port-unr) in all"},
		{"block return-icmp-as-dest(port-unr) in quick proto udp from any to any port=3128", "block return-icmp-as-dest(port-unr) in quick proto udp from any to any port = 3128"},
		{"block return-icmp (filter-prohib) in all", "block return-icmp(filter-prohib) in all"},
		{"block return-icmp(preced-cutoff) in all", "block return-icmp(cutoff-preced) in all"},
		{"block return-icmp(200) in all", "block return-icmp(200) in all"},
		{"block return-icmp(host-unr) in from fe80::/10 to any", "block return-icmp(host-unr) in from fe80::/10 to any"},
		{"block return-icmp(2) in from fe80::/10 to any", "block return-icmp(2) in from fe80::/10 to any"},
		// Where, and what besides.
		{"pass in log quick on en0 all", "pass in log quick on en0 all"},
		{"block in quick log body or-block level info on en0 all", "block in log body or-block level info quick on en0 all"},
		{"block in log first all", "block in log first all"},
		{"pass in on en0 dup-to en1 to en2:10.0.0.1 reply-to en3:10.0.0.2 all", "pass in on en0 dup-to en1 to en2:10.0.0.1 reply-to en3:10.0.0.2 all"},
		{"pass in on en0 route-to en2:fe80::1%en2 all", "pass in on en0 to en2:fe80::1%en2 all"},
		{"pass in on en0 to en2,10.0.0.1 all", "pass in on en0 to en2:10.0.0.1 all"},
		{"pass in fastroute all", "pass in fastroute all"},
		{"pass in on en0 out-via en1 all", "pass in on en0 out-via en1 all"},
		{"pass out on en0 in-via en1 all", "pass out on en0 in-via en1 all"},
		// Which packets.
		{"pass in family inet6 all", "pass in family inet6 all"},
		{"pass in family inet all", "pass in all"},
		{"pass in tos 0x10 all", "pass in tos 0x10 from any to any"},
		{"pass in tos 020 ttl 64 all", "pass in tos 0x10 ttl 64 from any to any"},
		{"pass in tos { 0, 8 } all", "pass in tos 0x0 from any to any|pass in tos 0x8 from any to any"},
		{"pass in ttl (1 2) all", "pass in ttl 1 from any to any|pass in ttl 2 from any to any"},
		{"pass in proto tcp/udp all", "pass in proto tcp/udp from any to any"},
		{"pass in proto tcp-udp all", "pass in proto tcp/udp from any to any"},
		{"pass in proto 99 all", "pass in proto 99 from any to any"},
		{"pass in proto 0x6 all", "pass in proto tcp from any to any"},
		{"pass in proto { tcp, udp } from any to any port = 53", "pass in proto tcp from any to any port = 53|pass in proto udp from any to any port = 53"},
		{"pass in proto icmp6 all", "pass in proto ipv6-icmp from any to any"},
		// Addresses.
		{"pass in from any to any", "pass in all"},
		{"pass in from 10.0.0.1 to any", "pass in from 10.0.0.1/32 to any"},
		{"pass in from 10.1.2.3/8 to any", "pass in from 10.0.0.0/8 to any"},
		{"pass in from 10.1/16 to any", "pass in from 10.1.0.0/16 to any"},
		{"pass in from 10.0.0.0 mask 255.0.0.0 to any", "pass in from 10.0.0.0/8 to any"},
		{"pass in from 10.0.0.0/255.0.0.255 to any", "pass in from 10.0.0.0/255.0.0.255 to any"},
		{"pass in from 10.0.0.0/0xffff0000 to any", "pass in from 10.0.0.0/16 to any"},
		{"pass in from 0.0.0.0/0 to any", "pass in all"},
		{"pass in from ::/0 to any", "pass in family inet6 all"},
		{"pass in from ! 10.0.0.0/8 to !10.0.0.1", "pass in from !10.0.0.0/8 to !10.0.0.1/32"},
		{"pass in from 2001:DB8::1/32 to any", "pass in from 2001:db8::/32 to any"},
		{"pass in from fe80::1%en0 to any", "pass in from fe80::1%en0/128 to any"},
		{"pass in from 2001:db8::1/ffff:: to any", "pass in from 2001::/16 to any"},
		{"pass in from pool/13 to !hash/list-1", "pass in from pool/13 to !hash/list-1"},
		{"pass in from en0 to en1/32", "pass in from en0/32 to en1/32"},
		{"pass in family inet6 from en0 to any", "pass in family inet6 from en0/128 to any"},
		{"pass in from en0/network to en0/bcast", "pass in from en0/network to en0/broadcast"},
		{"pass in from en0/netmasked to gif0/peer", "pass in from en0/netmasked to gif0/peer"},
		{"pass in from host.example to any", "pass in from 192.0.2.1/32 to any"},
		{"pass in from host.example/24 to any", "pass in from 192.0.2.0/24 to any"},
		{"pass in from both.example to any", "pass in from 192.0.2.1/32 to any|pass in from 2001:db8::1/128 to any"},
		{"pass in from both.example to 10.0.0.1", "pass in from 192.0.2.1/32 to 10.0.0.1/32"},
		{"pass in from 10.0.0.1 to both.example", "pass in from 10.0.0.1/32 to 192.0.2.1/32"},
		{"pass in from both.example to both.example", "pass in from 192.0.2.1/32 to 192.0.2.1/32|pass in from 2001:db8::1/128 to 2001:db8::1/128"},
		{"pass in from { 10.0.0.1, 10.0.0.2 } to any", "pass in from 10.0.0.1/32 to any|pass in from 10.0.0.2/32 to any"},
		{"pass in from 10.0.0.1", "pass in from 10.0.0.1/32 to any"},
		{"pass in to 10.0.0.1", "pass in from any to 10.0.0.1/32"},
		// Ports.
		{"pass in proto tcp from any port = 80 to any port != 81", "pass in proto tcp from any port = 80 to any port != 81"},
		{"pass in proto tcp from any port eq 80 to any port ne 81", "pass in proto tcp from any port = 80 to any port != 81"},
		{"pass in proto udp from any port < 1024 to any port > 1023", "pass in proto udp from any port < 1024 to any port > 1023"},
		{"pass in proto udp from any port lt 1024 to any port gt 1023", "pass in proto udp from any port < 1024 to any port > 1023"},
		{"pass in proto udp from any port <= 1024 to any port >= 1023", "pass in proto udp from any port <= 1024 to any port >= 1023"},
		{"pass in proto udp from any port le 1024 to any port ge 1023", "pass in proto udp from any port <= 1024 to any port >= 1023"},
		{"pass in proto udp from any port 10 <> 20 to any port 10 >< 20", "pass in proto udp from any port 10 <> 20 to any port 10 >< 20"},
		{"pass in proto udp from any port = odd to any port = odd", "pass in proto udp from any port = 2 to any port = 2"},
		{"pass in proto udp from any port 10:20 to any port 10 : 20", "pass in proto udp from any port 10:20 to any port 10:20"},
		{"pass in proto tcp from any to any port = { ssh, http, 8000:8080 }", "pass in proto tcp from any to any port = 22|pass in proto tcp from any to any port = 80|pass in proto tcp from any to any port 8000:8080"},
		{"pass in proto tcp from {10.0.0.1 10.0.0.2} to any port=(1,2)", "pass in proto tcp from 10.0.0.1/32 to any port = 1|pass in proto tcp from 10.0.0.1/32 to any port = 2|pass in proto tcp from 10.0.0.2/32 to any port = 1|pass in proto tcp from 10.0.0.2/32 to any port = 2"},
		// What stands behind.
		{"pass in proto tcp all flags S", "pass in proto tcp from any to any flags S/FSRPAU"},
		{"pass in proto tcp all flags S/SA", "pass in proto tcp from any to any flags S/SA"},
		{"pass in proto tcp all flags SE", "pass in proto tcp from any to any flags SE/FSRPAUE"},
		{"pass in proto tcp all flags /SFR", "pass in proto tcp from any to any flags /FSR"},
		{"pass in proto tcp all flags 0x2/0x12", "pass in proto tcp from any to any flags S/SA"},
		{"pass in proto icmp all icmp-type echo", "pass in proto icmp from any to any icmp-type echo"},
		{"pass in proto icmp all icmp-type 3 code port-unr", "pass in proto icmp from any to any icmp-type unreach code 3"},
		{"pass in proto icmp all icmp-type 200 code 7", "pass in proto icmp from any to any icmp-type 200 code 7"},
		{"pass in proto ipv6-icmp all icmp-type echo", "pass in proto ipv6-icmp from any to any icmp-type echo"},
		{"pass in proto ipv6-icmp all icmp-type unreach code port-unr", "pass in proto ipv6-icmp from any to any icmp-type unreach code 4"},
		{"block in all with ipopts", "block in from any to any with ipopts"},
		{"block in all with not ipopts, short and no frag frag-body", "block in from any to any with not ipopts,short,not frag,frag-body"},
		{"block in all with nat,lowttl,mcast,broadcast,mbcast,state,bad,bad-src,bad-nat,oow", "block in from any to any with nat,lowttl,multicast,bcast,mbcast,state,bad,bad-src,bad-nat,oow"},
		{"block in all and frag", "block in from any to any with frag"},
		{"block in all with opt lsrr,ssrr, short", "block in from any to any with opt lsrr,ssrr and short"},
		{"block in all with not opt nop and opt sec-class topsecret,sec", "block in from any to any with not opt nop and opt sec-class topsecret,sec"},
		{"block in all with v6hdr dstopts,frag and not v6hdrs esp", "block in from any to any with v6hdrs dstopts,frag and not v6hdrs esp"},
		{"pass in all keep state", "pass in all keep state"},
		{"pass in proto tcp all keep state (limit 10, strict, newisn, no-icmp-err, age 60/30) keep frags", "pass in proto tcp from any to any keep state (limit 10,strict,newisn,no-icmp-err,age 60/30) keep frags"},
		{"pass in all keep state(age 5)", "pass in all keep state (age 5/5)"},
		{"pass in all keep frag (strict) keep state", "pass in all keep state keep frags (strict)"},
		{"block in all head 100", "block in all head 100"},
		{"pass in all group 100", "pass in all group 100"},
		{"pass in all head web group 0", "pass in all head web"},
		{"pass in all set-tag(log=7)", "pass in all set-tag(log=7)"},
		{"pass in proto tcp from any to any flags S/SA keep state group 7 set-tag (log = 0x10)", "pass in proto tcp from any to any flags S/SA keep state group 7 set-tag(log=16)"},
		{"call now fr_srcgrpmap/1010 in quick on en0 all group 7", "call now fr_srcgrpmap/1010 in quick on en0 all group 7"},
		{"call now fr_dstgrpmap/a.b out proto tcp from any to any port = 80", "call now fr_dstgrpmap/a.b out proto tcp from any to any port = 80"},
		// Lines.
		{"# nothing\n\npass in all # but this\n", "pass in all"},
		{"pass in \\\n on en0 \\\nall", "pass in on en0 all"},
		{"pass in on en0 proto tcp from 10.0.0.1 port > 1000\n to 10.0.0.2 port < 5000 flags S keep state", "pass in on en0 proto tcp from 10.0.0.1/32 port > 1000 to 10.0.0.2/32 port < 5000 flags S/FSRPAU keep state"},
		{"pass in from { 10.0.0.1,\n10.0.0.2\n} to any\r\nblock in all", "pass in from 10.0.0.1/32 to any|pass in from 10.0.0.2/32 to any|block in all"},
		{"net=\"10.0.0.0\";if=\"en0\";\npass in on $if from $net/8 to any", "pass in on en0 from 10.0.0.0/8 to any"},
		{"a=\"10.0.0.1, 10.0.0.2\"; b=\"{ $a }\";\npass in from $b to any", "pass in from 10.0.0.1/32 to any|pass in from 10.0.0.2/32 to any"},
		{"pass in all; block in all;", "pass in all|block in all"},
	} {
		rules, err := Parse("t", []byte(tc.text), testOptions)
		if err != nil {
			t.Errorf("%s\n%v", tc.text, err)
			continue
		}
		var got []string
		for _, r := range rules {
			got = append(got, r.String())
		}
		if s := strings.Join(got, "|"); s != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.text, s, tc.want)
		}
		for _, r := range rules {
			again(t, r)
		}
	}
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func again(t failer, r Rule) {
	t.Helper()
	text := r.String()
	back, err := Parse("again", []byte(text), Options{})
	if err != nil || len(back) != 1 {
		t.Fatalf("%s: %d rules, %v", text, len(back), err)
	}
	if d := cmp.Diff(r, back[0], cmpopts.IgnoreFields(Rule{}, "Line"), compareAddrs); d != "" {
		t.Fatalf("%s: %s", text, d)
	}
}

var compareAddrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}

func TestWhatIsWrongWithRules(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"blokc in all", `1:1: "blokc" where an action is expected; did you mean "block"?`},
		{"pass inn all", `1:6: "inn" where "in" or "out" is expected; did you mean "in"?`},
		{"pass", `1:5: the end of the line where "in" or "out" is expected`},
		{"auth in all", `1:1: auth is refused: no program answers for packets here`},
		{"preauth in all", `1:1: preauth is refused: no program answers for packets here`},
		{"call now f/1 in all", `1:10: no function is called "f"; there are fr_srcgrpmap/MAP and fr_dstgrpmap/MAP`},
		{"call fr_srcgrpmap/1 in all", `1:6: "fr_srcgrpmap/1" where "now" is expected: what is called chooses rules, and they come before the decision`},
		{"call now fr_srcgrpmap in all", `1:10: a pool's name has from 1 to 32 octets`},
		{"call now fr_srcgrpmap/1 in all keep state", `1:1: call decides nothing: log, keep, head and ways to send by are of the rules of the group that it chooses`},
		{"pass in all pps 10", `1:13: pps is refused: a rule does not measure rates`},
		{"pass in quik all", `1:9: "quik" where the end of the rule is expected; did you mean "quick"?`},
		{"pass in quick quick all", `1:15: quick twice`},
		{"pass in on en0 on en1 all", `1:16: on twice`},
		{"pass in on en0,en1 all", `1:15: a second interface: a rule is about one, or with in-via and out-via about the way between two`},
		{"pass in on", `1:11: the end of the line where an interface is expected`},
		{"pass in all quick", `1:13: quick stands too late in the rule`},
		{"pass in proto tcp proto udp all", `1:19: proto twice`},
		{"pass in proto tpc all", `1:15: no protocol is called "tpc"; did you mean "tcp"?`},
		{"pass in proto 256 all", `1:15: 256 where a protocol, from 0 to 255, is expected`},
		{"pass in tos 256 all", `1:13: 256 where a type of service, from 0 to 255, is expected`},
		{"block return-rst in all", `1:7: return-rst of a rule that is not about TCP alone: proto tcp`},
		{"pass return-rst in all", `1:6: "return-rst" where "in" or "out" is expected`},
		{"block return-icmp(nonsense) in all", `1:19: no code of IPv4's unreachable is called "nonsense"`},
		{"block return-icmp(needfrag) in family inet6 all", `1:19: no code of IPv6's unreachable is called "needfrag"`},
		{"pass in all flags S", `1:13: flags of a rule that is not about TCP alone: proto tcp`},
		{"pass in proto tcp all flags X", `1:29: no flag is called "X"; they are FSRPAUEC`},
		{"pass in proto tcp all flags SA/S", `1:29: flags SA/S has some that its mask leaves out: no segment has them`},
		{"pass in proto tcp all flags S/SA flags S", `1:34: flags twice`},
		{"pass in from any port = 80 to any", `1:18: ports of a rule that is not about TCP or UDP: proto tcp, udp or tcp/udp`},
		{"pass in proto tcp from any port 80 to any", `1:33: port 80 without a comparison: port = 80`},
		{"pass in proto tcp from any port 20:10 to any", `1:33: the range ends, at 10, before it begins, at 20`},
		{"pass in proto tcp from any port 20 >< 21 to any", `1:36: no port lies between 20 and 21`},
		{"pass in proto tcp from any port = 65536 to any", `1:35: 65536 where a port, from 0 to 65535, is expected`},
		{"pass in proto tcp from any port = telnet to any", `1:35: no service of tcp is called "telnet"`},
		{"pass in proto udp from any port = http to any", `1:35: no service of udp is called "http"`},
		{"pass in proto tcp/udp from any port = telnet to any", `1:39: no service is called "telnet"`},
		{"pass in proto tcp from any port != { 1, 2 } to any", `1:36: a list behind "!=": each element is a rule of its own; only "=" has lists`},
		{"pass in from 10.0.0.1/33 to any", `1:14: a mask of 33 bits; IPv4 has 32`},
		{"pass in from 10.0.0.256 to any", `1:14: "10.0.0.256" is neither an address nor an interface, and as a host: no such host`},
		{"pass in from 10.0.0.1 to fe80::1", `1:26: "fe80::1" is IPv6, and "10.0.0.1" is IPv4`},
		{"pass in proto icmp from fe80::1 to any", `1:25: "fe80::1" is IPv6, and "proto icmp" is IPv4`},
		{"pass in family inet from fe80::1 to any", `1:26: "fe80::1" is IPv6, and "inet" is IPv4`},
		{"pass in from !any to any", `1:14: "!any" is about no packet`},
		{"pass in from !{ 10.0.0.1, 10.0.0.2 } to any", `1:14: "!" before several addresses: each is a rule of its own, and together they would let everything through; a pool can be denied`},
		{"pass in from { 10.0.0.1 to any", `1:25: "to" is neither an address nor an interface, and as a host: no such host`},
		{"pass in from en0/netwrk to any", `1:14: en0 has no /netwrk; did you mean "network"?`},
		{"pass in from pool/ to any", `1:14: pool without the name of a pool: pool/NAME`},
		{"pass in on en0 in-via en1 all", `1:16: in-via of a rule that is about that way itself`},
		{"pass in proto tcp all icmp-type echo", `1:33: icmp-type of a rule that is not about ICMP: proto icmp or ipv6-icmp`},
		{"pass in proto icmp all icmp-type ecko", `1:34: no type of icmp is called "ecko"; did you mean "echo"?`},
		{"pass in proto icmp all icmp-type echo code port-unr", `1:44: no code of type echo is called "port-unr"`},
		{"pass in all with shrt", `1:18: "shrt" where a property is expected; did you mean "short"?`},
		{"pass in all with frag and not frag", `1:31: frag twice`},
		{"pass in all with opt lssr", `1:22: no option is called "lssr"; did you mean "lsrr"?`},
		{"pass in all with opt sec-class secrt", `1:32: no level is called "secrt"; did you mean "secret"?`},
		{"pass in all with opt sec-class", `1:31: the end of the line where a level is expected`},
		{"pass in from fe80::1 to any with opt lsrr", `1:34: opt is about IPv4's options; IPv6 has v6hdrs`},
		{"pass in all keep stat", `1:18: "stat" where "state" or "frags" is expected; did you mean "state"?`},
		{"pass in all keep state keep state", `1:29: state twice`},
		{"pass in all keep state (limit 0)", `1:31: 0 where a limit, from 1 to 2147483647, is expected`},
		{"pass in all keep state (limit 1", `1:32: the end of the line where "," is expected`},
		{"pass in proto udp all keep state (strict)", `1:35: strict is about TCP; the rule is about udp`},
		{"pass in all keep state (sync)", `1:25: sync is refused: states are not told to another machine; ipfs saves and restores them`},
		{"pass in all head 0", `1:18: group 0 is the list itself`},
		{"pass in all set-tag(nat=x)", `1:21: set-tag(nat=…) is refused: packets carry no tags`},
		{"pass in log level loca0.info all", `1:19: no facility is called "loca0"; did you mean "local0"?`},
		{"pass in log level inf all", `1:19: no priority is called "inf"; did you mean "info"?`},
		{"pass in from $net to any", `1:14: no variable $net`},
		{"x=\"1\"\npass in all", `1:1: an assignment is NAME="VALUE";`},
		{"pass in \"all", `1:9: no " ends what begins here`},
		{"pass in \x01", `1:9: octet 0x01 belongs to no word`},
		{"pass in \\ all", `1:9: "\" ends a line that goes on`},
		{"# one\n\n  pass in alll\nblock in all\nskip in all", "3:11: \"alll\" where the end of the rule is expected; did you mean \"all\"?\n5:6: \"in\" is no number, where how many rules to skip is expected"},
		{"passs in all\npass in from $a\n  to any\npass in alll", "1:1: \"passs\" where an action is expected; did you mean \"pass\"?\n2:14: no variable $a\n4:9: \"alll\" where the end of the rule is expected; did you mean \"all\"?"},
		{"pass in proto tcp from { $a } to any", `1:26: no variable $a`},
	} {
		_, err := Parse("t", []byte(tc.text), testOptions)
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

func TestFaultsAreBounded(t *testing.T) {
	_, err := Parse("t", []byte(strings.Repeat("bad\n", 1000)), Options{})
	if es := (Errors)(nil); !errors.As(err, &es) || len(es) != maxErrors {
		t.Errorf("%d errors", len(es))
	}
	list := "{" + strings.Repeat("10.0.0.1,", 200) + "10.0.0.2}"
	_, err = Parse("t", []byte("pass in from "+list+" to "+list), Options{})
	if want := "t:1:1: lists make this more than 10000 rules"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	grow := "a=\"" + strings.Repeat("x", 4000) + "\";\n" + strings.Repeat("$a$a$a\n", 100)
	if _, err = Parse("t", []byte(grow), Options{}); err == nil {
		t.Error("no error")
	}
}

func TestV6(t *testing.T) {
	r, err := Parse("t", []byte("pass in all\npass in from 10.0.0.1 to any"), Options{V6: true})
	if err != nil || r[0].Family != Inet6 || r[1].Family != Inet {
		t.Errorf("%v %v", r, err)
	}
}

func drawAddr(t *rapid.T, six bool) netip.Addr {
	if six {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr")
		b[0] |= 0x20
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
}

func drawEnd(t *rapid.T, six, ports bool) (e Endpoint) {
	e.Kind = rapid.SampledFrom([]EndpointKind{AnyAddr, NetAddr, NetAddr, PoolAddr, HashAddr, IfAddr}).Draw(t, "kind")
	switch e.Kind {
	case NetAddr:
		a := drawAddr(t, six)
		e.Mask = maskOf(a, rapid.IntRange(1, a.BitLen()).Draw(t, "bits"))
		if !six && rapid.IntRange(0, 3).Draw(t, "odd") == 0 {
			e.Mask = netip.AddrFrom4([4]byte{255, 0, 255, 1})
		}
		e.Addr = masked(a, e.Mask)
	case PoolAddr, HashAddr:
		e.Name = rapid.StringMatching(`[a-zA-Z0-9_.-]{1,32}`).Draw(t, "pool")
	case IfAddr:
		e.Name = rapid.StringMatching(`[a-z]{1,8}[0-9]`).Draw(t, "if")
		e.Part = rapid.SampledFrom([]string{"", "network", "netmasked", "peer", "broadcast"}).Draw(t, "part")
	}
	e.Not = e.Kind != AnyAddr && rapid.Bool().Draw(t, "not")
	if ports {
		e.Port.Op = PortOp(rapid.IntRange(0, int(PortRange)).Draw(t, "op"))
		if e.Port.Op != PortAny {
			e.Port.Lo = rapid.Uint16Range(0, 60000).Draw(t, "lo")
		}
		if e.Port.Op >= PortOutside {
			e.Port.Hi = e.Port.Lo + rapid.Uint16Range(2, 5000).Draw(t, "more")
		}
	}
	return e
}

func drawRule(t *rapid.T) Rule {
	r := blank()
	flip := func(name string) bool { return rapid.Bool().Draw(t, name) }
	r.Family = rapid.SampledFrom([]Family{Inet, Inet6}).Draw(t, "family")
	six := r.Family == Inet6
	r.At = rapid.IntRange(-1, 100).Draw(t, "at")
	r.Action = Action(rapid.IntRange(int(Pass), int(Skip)).Draw(t, "action"))
	r.Out = flip("out")
	r.Proto = rapid.SampledFrom([]int{AnyProto, ProtoTCPUDP, protoTCP, protoUDP, 0, 47, 99, 255}).Draw(t, "proto")
	switch r.Action {
	case Skip:
		r.Skip = rapid.IntRange(1, 1000).Draw(t, "skip")
	case Block:
		if r.Reply = Reply(rapid.IntRange(0, 3).Draw(t, "reply")); r.Reply == ReplyRST {
			r.Proto = protoTCP
		} else if r.Reply != NoReply {
			r.ICMPCode = rapid.IntRange(-1, 255).Draw(t, "code")
		}
	}
	if flip("icmp") && r.Reply != ReplyRST {
		r.Proto = protoICMP
		if six {
			r.Proto = protoICMP6
		}
		if r.ICMPType = rapid.IntRange(-1, 255).Draw(t, "type"); r.ICMPType >= 0 {
			r.ICMPTypeCode = rapid.IntRange(-1, 255).Draw(t, "type's code")
		}
	}
	r.Src, r.Dst = drawEnd(t, six, hasPorts(r.Proto)), drawEnd(t, six, hasPorts(r.Proto))
	if flip("log") {
		r.Log = &LogOption{Body: flip("body"), First: flip("first"), OrBlock: flip("or-block"), Level: rapid.SampledFrom([]string{"", "info", "local3.err"}).Draw(t, "level")}
		if r.Action == Log && *r.Log == (LogOption{}) {
			r.Log = nil
		}
	}
	r.Quick, r.Fast, r.KeepFrags = flip("quick"), flip("fast"), flip("frags")
	r.FragsStrict = r.KeepFrags && flip("strict")
	for _, s := range []*string{&r.If, &r.Via} {
		*s = rapid.SampledFrom([]string{"", "en0", "vlan10"}).Draw(t, "if")
	}
	for _, to := range []*Target{&r.DupTo, &r.To, &r.ReplyTo} {
		if flip("target") {
			if to.If = "en1"; flip("via") {
				to.Addr = drawAddr(t, six)
			}
		}
	}
	r.TOS, r.TTL, r.LogTag = rapid.IntRange(-1, 255).Draw(t, "tos"), rapid.IntRange(-1, 255).Draw(t, "ttl"), rapid.IntRange(-1, 1<<32-2).Draw(t, "tag")
	if r.Proto == protoTCP && flip("flags") {
		mask := rapid.Uint8Range(1, 255).Draw(t, "mask")
		r.Flags = &TCPFlags{Set: rapid.Byte().Draw(t, "set") & mask, Mask: mask}
	}
	for k := WithIPOpts; k < WithOpt; k++ {
		if rapid.IntRange(0, 5).Draw(t, "with") == 0 {
			r.With = append(r.With, With{Not: flip("not"), What: k})
		}
	}
	if flip("options") {
		w := With{Not: flip("not"), What: WithOpt, Opts: rapid.SliceOfNDistinct(rapid.SampledFrom(keys(optNames)), 1, 4, rapid.ID).Draw(t, "opts")}
		for i, o := range w.Opts {
			if o == "sec-class" {
				w.Opts[i] += " " + rapid.SampledFrom(keys(secLevels)).Draw(t, "level")
			}
		}
		if six {
			w.What, w.Opts = WithV6Hdrs, rapid.SliceOfNDistinct(rapid.SampledFrom(keys(hdrNames)), 1, 4, rapid.ID).Draw(t, "hdrs")
		}
		r.With = append([]With{w}, r.With...)
	}
	if flip("state") {
		r.KeepState = &KeepState{Limit: rapid.IntRange(0, 9).Draw(t, "limit"), NoICMPErr: flip("err")}
		if r.Proto == protoTCP {
			r.KeepState.Strict, r.KeepState.NewISN = flip("strict"), flip("isn")
		}
		if flip("age") {
			r.KeepState.Age = [2]int{rapid.IntRange(1, 9).Draw(t, "a"), rapid.IntRange(1, 9).Draw(t, "b")}
		}
	}
	r.Head = rapid.SampledFrom([]string{"", "7", "web.1"}).Draw(t, "head")
	if r.Log == nil && r.KeepState == nil && !r.KeepFrags && r.Head == "" && !r.Fast && r.To == r.DupTo && r.To == r.ReplyTo && r.To == (Target{}) && r.Action != Block && flip("call") {
		r.Action, r.Skip, r.Map, r.MapDst = Call, 0, rapid.StringMatching(`[a-zA-Z0-9_.-]{1,32}`).Draw(t, "map"), flip("dst")
	}
	r.Group = rapid.SampledFrom([]string{"", "8", "to"}).Draw(t, "group")
	return r
}

func TestRulesReadTheirOwnText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { again(t, drawRule(t)) })
}

func FuzzRules(f *testing.F) {
	for _, s := range []string{"pass in all", "block return-icmp(3) in log quick on en0 proto tcp from { 10.0.0.1, fe80::1 } to any port = 80 flags S/SA keep state", "a=\"x\";\n$a\\\n", "pass in from 10.0.0.0/255.0.0.255 to !pool/3 with opt lsrr, short"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := Parse("f", text, Options{})
		if es := (Errors)(nil); err != nil && (!errors.As(err, &es) || len(es) == 0 || len(es) > maxErrors) {
			t.Fatalf("%v", err)
		}
		for i, r := range rules {
			if i > 50 {
				break
			}
			again(t, r)
			if one, err := Parse("f", []byte(r.String()), Options{}); err != nil || !reflect.DeepEqual(one[0].String(), r.String()) {
				t.Fatalf("%s: %v", r, err)
			}
		}
	})
}
