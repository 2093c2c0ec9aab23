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

func TestPoolsArePrinted(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"table role = ipf type = tree number = 13 { 127.0.0.1/32; !10/8; 2001:db8::/32 };", "table role = ipf type = tree number = 13\n\t{ 127.0.0.1/32; !10.0.0.0/8; 2001:db8::/32; };"},
		{"table role=all name=web { 10.0.0.1, 10.0.0.2, 10.1.0.0 mask 255.255.0.0 }", "table role = all type = tree name = web\n\t{ 10.0.0.1/32; 10.0.0.2/32; 10.1.0.0/16; };"},
		{"table role = nat\n type = hash\n number = 007 seed = 5 size = 11\n{\n\t10.0.0.1; # one\n}\n;", "table role = nat type = hash number = 7 size = 11 seed = 5\n\t{ 10.0.0.1/32; };"},
		{"table role = auth type = tree name = \"a-b\" {}", "table role = auth type = tree name = a-b\n\t{ };"},
		{"table role = count type = tree number = 1 { 0/0; ::/0; both.example }", "table role = count type = tree number = 1\n\t{ 0.0.0.0/0; ::/0; 192.0.2.1/32; 2001:db8::1/128; };"},
		{"group-map in role = ipf number = 300 { 10.0.0.1, group = 1020; 10.1/16, group = web };", "group-map in role = ipf number = 300\n\t{ 10.0.0.1/32, group = 1020; 10.1.0.0/16, group = web; };"},
		{"group-map out role = ipf number = 2010 group = 2020 { 10.0.0.1; 10.0.0.2; };", "group-map out role = ipf number = 2010 group = 2020\n\t{ 10.0.0.1/32; 10.0.0.2/32; };"},
		{"x=\"10.0.0.1;\";table role = ipf number = 1 { $x }; table role = ipf number = 2 { $x };", "table role = ipf type = tree number = 1\n\t{ 10.0.0.1/32; };|table role = ipf type = tree number = 2\n\t{ 10.0.0.1/32; };"},
	} {
		pools, err := ParsePools("t", []byte(tc.text), testOptions)
		if err != nil {
			t.Errorf("%s\n%v", tc.text, err)
			continue
		}
		var got []string
		for _, c := range pools {
			got = append(got, c.String())
			againPool(t, c)
		}
		if s := strings.Join(got, "|"); s != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.text, s, tc.want)
		}
	}
}

func againPool(t failer, c Pool) {
	t.Helper()
	text := c.String()
	back, err := ParsePools("again", []byte(text), Options{})
	if err != nil || len(back) != 1 {
		t.Fatalf("%s: %d pools, %v", text, len(back), err)
	}
	if d := cmp.Diff(c, back[0], cmpopts.IgnoreFields(Pool{}, "Line"), cmpopts.EquateEmpty(), compareAddrs); d != "" {
		t.Fatalf("%s: %s", text, d)
	}
}

func TestWhatIsWrongWithPools(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"tabel role = ipf number = 1 {}", `1:1: "tabel" where "table" or "group-map" is expected; did you mean "table"?`},
		{"table number = 1 {}", `1:18: no role: role = ipf, nat, auth, count or all`},
		{"table role = ipf {}", `1:18: no name: number = N or name = NAME`},
		{"table role = ipv number = 1 {}", `1:14: "ipv" where a role is expected; did you mean "ipf"?`},
		{"table role = ipf role = nat number = 1 {}", `1:18: role twice`},
		{"table role = ipf number = 1 name = x {}", `1:29: name twice`},
		{"table role = ipf typ = tree number = 1 {}", `1:18: "typ" where an attribute or "{" is expected; did you mean "type"?`},
		{"table role = ipf type = heap number = 1 {}", `1:25: "heap" where "tree" or "hash" is expected`},
		{"table role = ipf number = x {}", `1:27: "x" is no number, where a pool's number is expected`},
		{"table role = ipf number = 1 size = 3 {}", `1:1: size and seed are of a table of type = hash`},
		{"table role = ipf number = 1 group = 3 {}", `1:29: "group" where an attribute or "{" is expected`},
		{"table role = ipf number = 1 { 10.0.0.1; 10.0.0.1/32; }", `1:41: 10.0.0.1/32 twice`},
		{"table role = ipf number = 1 { en0; }", `1:31: "en0" where a network is expected`},
		{"table role = ipf number = 1 { 10.0.0.0/255.0.255.0; }", `1:31: 10.0.0.0/255.0.255.0 is no network: its mask is of ones and then zeros, and it has no zone`},
		{"table role = ipf number = 1 { 10.0.0.1", `1:39: the end of the line where ";" or "}" is expected`},
		{"table role = ipf number = 1 { 10.0.0.1 10.0.0.2 }", `1:40: "10.0.0.2" where ";" or "}" is expected`},
		{"table role = ipf number = 1 {} pass", `1:32: "pass" where ";" ends the table`},
		{"table role = ipf number = 1 {\n$a;\n10.0.0.1; };\ntable role = all", "2:1: no variable $a\n4:17: the end of the line where an attribute or \"{\" is expected"},
		{"group-map role = ipf number = 1 {}", `1:11: "role" where "in" or "out" is expected`},
		{"group-map in role = ipf number = 1 { 10.0.0.1; }", `1:38: 10.0.0.1 without a group, in a group-map without one`},
		{"group-map in role = ipf number = 1 { !10.0.0.1, group = 3; }", `1:38: "!" in a group-map: an address that chooses no group is left out`},
		{"group-map in role = ipf number = 1 { 10.0.0.1, group = 0; }", `1:56: "0" is no name of a group: up to 15 letters, digits, "_", "." and "-"; 0 is the list itself`},
		{"table role = ipf number = 1 {};\ntable role = nat number = 1 {};\ntable rle = ipf", "2:27: pool 1 is there already: names and numbers are shared by all kinds\n3:7: \"rle\" where an attribute or \"{\" is expected; did you mean \"role\"?"},
	} {
		_, err := ParsePools("t", []byte(tc.text), testOptions)
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

func drawPool(t *rapid.T) Pool {
	c := Pool{
		Kind: PoolKind(rapid.IntRange(int(PoolTree), int(PoolGroupMap)).Draw(t, "kind")),
		Role: rapid.SampledFrom(keys(poolRoles)).Draw(t, "role"),
		Name: rapid.SampledFrom([]string{"1", "007", "web", "a.b-c", "4294967295"}).Draw(t, "name"),
	}
	switch c.Kind {
	case PoolHash:
		c.Size, c.Seed = rapid.IntRange(0, 100).Draw(t, "size"), rapid.IntRange(0, 100).Draw(t, "seed")
	case PoolGroupMap:
		c.Out = rapid.Bool().Draw(t, "out")
		c.Group = "9"
	}
	seen := map[netip.Prefix]bool{}
	for range rapid.IntRange(0, 8).Draw(t, "entries") {
		a := drawAddr(t, rapid.Bool().Draw(t, "six"))
		e := PoolEntry{Prefix: netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()}
		if seen[e.Prefix] {
			continue
		}
		seen[e.Prefix] = true
		if c.Kind == PoolGroupMap {
			e.Group = rapid.SampledFrom([]string{"", "8"}).Draw(t, "group")
		} else {
			e.Not = rapid.Bool().Draw(t, "not")
		}
		c.Entries = append(c.Entries, e)
	}
	return c
}

func TestPoolsReadTheirOwnText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { againPool(t, drawPool(t)) })
}

func FuzzPools(f *testing.F) {
	for _, s := range []string{"table role = ipf type = hash number = 13 size = 5 { 127.0.0.1/32; !10/8; 2001:db8::/32 };", "group-map in role = ipf name = \"x\" group = 3 { 10.0.0.1, group = 1020; ::/0; };"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		pools, err := ParsePools("f", text, Options{})
		if es := (Errors)(nil); err != nil && (!errors.As(err, &es) || len(es) == 0 || len(es) > maxErrors) {
			t.Fatalf("%v", err)
		}
		for i, c := range pools {
			if i > 50 {
				break
			}
			againPool(t, c)
		}
	})
}
