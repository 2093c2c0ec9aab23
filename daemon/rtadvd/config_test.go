package rtadvd

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ionet/daemon/nd"
)

const example = `
# the example of the manual
default:\
	:chlim#64:raflags#0:rltime#1800:rtime#0:retrans#0:\
# in the middle
	:pinfoflags#0xc0:vltime#2592000:mtu#0:
ether:\
	:mtu#1400:tc=default:
en0|inner|the inner net:\
	:addr="2001:db8:1::":prefixlen#64:\
	:addr1=2001\:db8\:2\:\::prefixlen1#48:vltime1#-1:pltime1#010:pinfoflags1="l":\
	:rtprefix="2001:db8:9::":rtplen#56:rtltime#600:rtflags="h":\
	:rdnss="2001:db8::53,2001:db8::54":dnssl="example.org,a.example.org.":rdnssltime#77:\
	:raflags="ol":chlim@:maxinterval#30:nolladdr:tc=ether:
`

func TestConfig(t *testing.T) {
	c := mustConfig(t, example)
	want := Config{
		MaxInterval: 30 * time.Second, MinInterval: 10 * time.Second, HopLimit: 64, Flags: nd.Other | nd.PrefLow, Lifetime: 1800, MTU: 1400,
		NoLinkAddr: true,
		Template:   PrefixConfig{Flags: nd.OnLink | nd.Autonomous, Lifetimes: Lifetimes{Valid: 2592000, Preferred: 604800}},
		Prefixes: []PrefixConfig{
			{netip.MustParsePrefix("2001:db8:1::/64"), nd.OnLink | nd.Autonomous, Lifetimes{Valid: 2592000, Preferred: 604800}},
			{netip.MustParsePrefix("2001:db8:2::/48"), nd.OnLink, Lifetimes{Valid: nd.Infinity, Preferred: 8}},
		},
		Routes:  []nd.Route{{Prefix: netip.MustParsePrefix("2001:db8:9::/56"), Pref: nd.PrefHigh, Lifetime: 600}},
		Servers: []nd.Servers{{Lifetime: 77, Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("2001:db8::54")}}},
		Search:  []nd.Search{{Lifetime: 90, Domains: []string{"example.org", "a.example.org"}}},
	}
	if d := cmp.Diff(want, c, comparePrefix, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	db, err := parseDatabase(example)
	if err != nil {
		t.Fatal(err)
	}
	if _, said, _, err := readConfig(db, "en1", false); said || err != nil {
		t.Errorf("an interface that is not named: %v, %v", said, err)
	}
	if _, said, _, err := readConfig(db, "the inner net", false); !said || err != nil {
		t.Errorf("an alias: %v, %v", said, err)
	}
}

func TestConfigDefaults(t *testing.T) {
	c := mustConfig(t, "")
	if c.MaxInterval != 600*time.Second || c.MinInterval != 200*time.Second || c.HopLimit != 64 || c.Flags != 0 || c.Lifetime != 1800 ||
		c.Reachable != 0 || c.Retrans != 0 || c.MTU != 0 || c.MTUAuto || c.NoLinkAddr || c.Template.Flags != 0xc0 ||
		c.Template.Valid != 2592000 || c.Template.Preferred != 604800 || len(c.Prefixes) != 0 {
		t.Errorf("%+v", c)
	}
	if c := mustConfig(t, "en0:raflags#0x20:hapref#5:hatime#900:"); c.Agent == nil || *c.Agent != (nd.Agent{Preference: 5, Lifetime: 900}) {
		t.Errorf("a home agent: %+v", c.Agent)
	}
}

func TestConfigRefuses(t *testing.T) {
	for conf, want := range map[string]string{
		"en0:maxinterval#3:":                      "en0: maxinterval#3 is out of range: 4 to 1800 belong there",
		"en0:maxinterval#10:mininterval#8:":       "en0: mininterval#8 is out of range: 3 to 7 belong there",
		"en0:rltime#100:":                         "en0: rltime#100 is shorter than maxinterval (600 s): hosts would lose their router between two advertisements",
		"en0:chlim=64:":                           "en0: chlim is a number: write chlim#64",
		"en0:chlim#256:":                          "en0: chlim#256 is out of range: 0 to 255 belong there",
		"en0:raflags=mx:":                         `en0: raflags="mx": 'x' is no flag of it`,
		"en0:raflags#0x10:":                       "en0: raflags#0x10: the preference in bits 3 and 4 is reserved; 0x08 is high, 0x18 low",
		"en0:raflags:":                            "en0: raflags is a number of bits from 0 to 255, or a string of letters",
		"en0:mtu#1000:":                           "en0: mtu is 0 (not said), mtu=auto (the interface's), or a number from 1280 on",
		"en0:addr=\"10.0.0.1\":":                  `en0: addr="10.0.0.1": an IPv6 address belongs there`,
		"en0:addr=\"fe80::\":":                    `en0: addr="fe80::": link-local and group prefixes are never advertised (RFC 4861 §4.6.2)`,
		"en0:addr#5:":                             `en0: addr is a string: write addr="…"`,
		"en0:prefixlen#129:":                      "en0: prefixlen#129 is out of range: 0 to 128 belong there",
		"en0:vltime#5:":                           "en0: pltime is longer than vltime: hosts would pass over the prefix (RFC 4862 §5.5.3)",
		"en0:nolladdr#1:":                         "en0: nolladdr stands alone",
		"en0:rdnss=\"::1x\":":                     `en0: rdnss="::1x": "::1x" is no IPv6 address of a server`,
		"en0:rdnss=\"\":":                         "en0: rdnss: 1 to 127 addresses belong there, separated by commas",
		"en0:dnssl=\"a..b\":":                     `en0: dnssl: "a..b" is no domain: a label of 0 octets`,
		"en0:rtprefix=\"2001:db8::\":rtflags#16:": "en0: rtflags#0x10: the preference in bits 3 and 4 is reserved; 0x08 is high, 0x18 low",
		"en0:tc=en0:":                             `the entry "en0" leads back to itself by tc=`,
		"en0:tc=x:":                               `the entry "en0" names tc=x, and there is no such entry`,
		"en0:a#x:":                                `line 1: "a#x": a number follows the #`,
		"en0:#5:":                                 `line 1: "#5": a capability begins with its name`,
		"en0:x@y:":                                `line 1: "x@y": nothing follows the @`,
		"\n\nen0:x=\"y:":                          "line 3: \"en0:x=\\\"y:\": a quotation has no end",
		":x:":                                     `line 1: ":x:": an entry begins with its name and a colon`,
		`en0:x="a\":`:                             `line 1: "en0:x=\"a\\\":": a quotation has no end`,
	} {
		db, err := parseDatabase(conf)
		if err == nil {
			_, _, _, err = readConfig(db, "en0", true)
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v\nwant %s", conf, err, want)
		}
	}
	db, _ := parseDatabase("en0:chlimm#5:nolladr:")
	if _, _, unknown, err := readConfig(db, "en0", false); err != nil || strings.Join(unknown, " ") != "chlimm nolladr" {
		t.Errorf("unknown: %q, %v", unknown, err)
	}
	if err := (&Config{MTU: 9000}).fits("en0", 1500); err == nil {
		t.Error("an MTU that the interface has not")
	}
}

// FuzzConfig: whatever stands in the file is a configuration within the RFC's
// bounds, or refused with a sentence.
func FuzzConfig(f *testing.F) {
	f.Add(example)
	f.Add("en0:x=\\E\\n\\101^A\\^:tc=b:\nb:y#0x10:z@:")
	f.Add("en0:tc=b:tc=b:\nb:tc=c:tc=c:\nc:x:")
	f.Add("en0:addr=\"2001:db8::\":addr99=\"2001:db8:1::\":vltimedecr:rdnss=\"::1\":")
	f.Fuzz(func(t *testing.T, text string) {
		db, err := parseDatabase(text)
		if err != nil {
			return
		}
		for _, e := range append(db, entry{names: []string{"en0"}}) {
			c, _, _, err := readConfig(db, e.names[0], true)
			if err != nil {
				continue
			}
			if c.MinInterval < leastMin*time.Second || c.MinInterval > c.MaxInterval || c.MaxInterval > mostMax*time.Second ||
				c.MTU != 0 && c.MTU < minMTU || c.Template.Preferred > c.Template.Valid {
				t.Errorf("%q became %+v", text, c)
			}
			a := newAdvertiser("en0", c, epoch, func(time.Duration) time.Duration { return 0 })
			a.setLink(epoch, up())
			for _, o := range a.expire(epoch) {
				if _, err := nd.ParseAdvert(nd.Packet{Src: host, HopLimit: nd.HopLimit, Data: o.msg.Append(nil)}); err != nil {
					t.Errorf("%q is advertised as %+v: %v", text, o.msg, err)
				}
			}
		}
	})
}
