package protocol

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestIPSecPolicy(t *testing.T) {
	v4 := func(s string, port uint16) Addr { return AddrFrom(netip.MustParseAddr(s), port) }
	def := uint32(IPSecPriorityDefault)
	esp := KeyRequest{Proto: 50, Mode: IPSecModeTransport, Level: IPSecLevelRequire}
	for _, c := range []struct {
		in, out string // out "": in
		p       KeyPolicy
	}{
		{"in ipsec esp/transport//require", "", KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirIn, Priority: def, Requests: []KeyRequest{esp}}},
		{"out discard", "", KeyPolicy{Type: IPSecPolicyDiscard, Dir: IPSecDirOut, Priority: def}},
		{" fwd\tnone\n", "fwd none", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirFwd, Priority: def}},
		{"in entrust", "", KeyPolicy{Type: IPSecPolicyEntrust, Dir: IPSecDirIn, Priority: def}},
		{"out bypass", "", KeyPolicy{Type: IPSecPolicyBypass, Dir: IPSecDirOut, Priority: def}},
		{"out ipsec esp/tunnel/10.0.0.1-10.0.0.2/unique:7\n ah/transport//use", "out ipsec esp/tunnel/10.0.0.1-10.0.0.2/unique:7 ah/transport//use",
			KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirOut, Priority: def, Requests: []KeyRequest{
				{Proto: 50, Mode: IPSecModeTunnel, Level: IPSecLevelUnique, ReqID: 7, Src: v4("10.0.0.1", 0), Dst: v4("10.0.0.2", 0)},
				{Proto: 51, Mode: IPSecModeTransport, Level: IPSecLevelUse}}}},
		{"out ipsec ipcomp / transport esp/beet/fe80::1%3 - fe80::2%3/ ah/transport/", "out ipsec ipcomp/transport//default esp/beet/fe80::1%3-fe80::2%3/default ah/transport//default",
			KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirOut, Priority: def, Requests: []KeyRequest{
				{Proto: 108, Mode: IPSecModeTransport}, {Proto: 50, Mode: IPSecModeBEET, Src: v4("fe80::1%3", 0), Dst: v4("fe80::2%3", 0)}, {Proto: 51, Mode: IPSecModeTransport}}}},
		{"in ipsec esp/tunnel/10.0.0.1[4500]-10.0.0.2[any]/unique", "in ipsec esp/tunnel/10.0.0.1[4500]-10.0.0.2/unique",
			KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirIn, Priority: def, Requests: []KeyRequest{
				{Proto: 50, Mode: IPSecModeTunnel, Level: IPSecLevelUnique, Src: v4("10.0.0.1", 4500), Dst: v4("10.0.0.2", 0)}}}},
		{"out ipsec esp/transport/me-any/require", "out ipsec esp/transport//require", KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirOut, Priority: def, Requests: []KeyRequest{esp}}},
		{"in ipsec esp/transport/any-me/require", "in ipsec esp/transport//require", KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirIn, Priority: def, Requests: []KeyRequest{esp}}},
		{"in priority 10 none", "in prio def + 10 none", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirIn, Priority: def - 10}},
		{"in prio -10 none", "in prio def - 10 none", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirIn, Priority: def + 10}},
		{"in prio high none", "", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirIn, Priority: IPSecPriorityHigh}},
		{"in prio low+1 none", "in prio low + 1 none", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirIn, Priority: IPSecPriorityLow - 1}},
		{"in priority default none", "in none", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirIn, Priority: def}},
		{"in prio high + 1073741824 none", "", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirIn}},
		{"in prio low - 1073741823 none", "", KeyPolicy{Type: IPSecPolicyNone, Dir: IPSecDirIn, Priority: 0xffffffff}},
	} {
		p, err := ParseIPSecPolicy(c.in)
		if err != nil || !reflect.DeepEqual(p, &c.p) {
			t.Errorf("%q: %+v, %v, want %+v", c.in, p, err, &c.p)
			continue
		}
		if c.out == "" {
			c.out = c.in
		}
		if got := p.String(); got != c.out {
			t.Errorf("%q prints %q, want %q", c.in, got, c.out)
		}
	}
	p := KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirOut, Priority: def, Requests: []KeyRequest{{Proto: 99, Level: IPSecLevelUnique, ReqID: IPSecManualReqIDMax + 1}}}
	if got, want := p.Text("\n\t"), "out ipsec\n\t99/any//unique#16384"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestIPSecPolicyErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     `column 1: the end: a direction belongs here: in, out or fwd`,
		"inn none":                             `column 1: "inn": a direction belongs here: in, out or fwd`,
		"in":                                   `column 3: the end: discard, none, ipsec, entrust or bypass belongs here`,
		"in  nothing":                          `column 5: "nothing": discard, none, ipsec, entrust or bypass belongs here`,
		"in ipsec":                             `column 9: the end: ipsec wants at least one request, proto/mode/src-dst/level`,
		"in none esp/transport//use":           `column 9: "esp": none goes without requests`,
		"in ipsec esp":                         `column 13: the end: "/" belongs here`,
		"in ipsec tcp/transport//use":          `column 10: "tcp": a protocol belongs here: esp, ah or ipcomp`,
		"in ipsec esp/trans//use":              `column 14: "trans": a mode belongs here: transport, tunnel or beet`,
		"in ipsec esp/tunnel//use":             `column 14: "tunnel": tunnel wants its ends, esp/tunnel/src-dst/level`,
		"in ipsec esp/transport//must":         `column 25: "must": a level belongs here: default, use, require or unique`,
		"in ipsec esp/transport//unique:0":     `column 25: "unique:0": unique:1 to unique:16383 are right`,
		"in ipsec esp/transport//unique:16384": `column 25: "unique:16384": unique:1 to unique:16383 are right`,
		"in ipsec esp/tunnel/10.0.0.1-10.0.0/use":      `column 30: "10.0.0": an address belongs here, as a number`,
		"in ipsec esp/tunnel/10.0.0.1/use":             `column 29: "/": "-" belongs here`,
		"in ipsec esp/tunnel/10.0.0.1-::1/use":         `column 21: "10.0.0.1": 10.0.0.1 and ::1 are not of one family`,
		"in ipsec esp/tunnel/fe80::1%en0-fe80::2/use":  `column 21: "fe80::1%en0": the scope of an address is the index of an interface`,
		"in ipsec esp/tunnel/10.0.0.1[x]-10.0.0.2/use": `column 30: "x": a port belongs here, 0 to 65535`,
		"in ipsec esp/tunnel/10.0.0.1[1-10.0.0.2/use":  `column 31: "-": "]" belongs here`,
		"in ipsec esp/transport/me-any/use":            `column 24: "me": me-any is of out, any-me of in`,
		"in prio x none":                               `column 9: "x": a number belongs here, or one of high, def and low`,
		"in prio high+1073741825 none":                 `column 9: "high": a priority beyond what fits into 32 bits`,
	} {
		if p, err := ParseIPSecPolicy(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v, %v\nwant %s", in, p, err, want)
		}
	}
	if dir, rest, err := ParseIPSecDirection(" out  ipsec x"); dir != IPSecDirOut || rest != "ipsec x" || err != nil {
		t.Errorf("%d, %q, %v", dir, rest, err)
	}
	if _, _, err := ParseIPSecDirection("up"); err == nil {
		t.Error("up is a direction")
	}
}

func FuzzIPSecPolicy(f *testing.F) {
	for _, s := range []string{"in ipsec esp/transport//require", "out prio high - 5 ipsec esp/tunnel/10.0.0.1[5]-10.0.0.2/unique:7 ah/beet/fe80::1%3-fe80::2%3/use", "fwd discard"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseIPSecPolicy(s)
		if err != nil {
			return
		}
		if p2, err := ParseIPSecPolicy(p.String()); err != nil || !reflect.DeepEqual(p2, p) {
			t.Fatalf("%q: %+v became %+v, %v", p, p, p2, err)
		}
		b, err := AppendKeyPolicy(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		if p2, err := ParseKeyPolicy(b); err != nil || !reflect.DeepEqual(p2, p) {
			t.Fatalf("%+v became %+v, %v", p, p2, err)
		}
	})
}
