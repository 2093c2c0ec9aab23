package autoconf

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// temps are the temporary addresses.
func (b *bench) temps() (out []string) {
	for _, s := range b.addrs() {
		if strings.Contains(s, "temporary") {
			out = append(out, s)
		}
	}
	return out
}

func ipOf(s string) string { return strings.Fields(s)[0] }

func TestTemporaryAddresses(t *testing.T) {
	b := start(t, "use_tempaddr=1")
	fortnight := func() { b.hear(r1, say(time.Hour, on(netA, 14*24*time.Hour, 14*24*time.Hour))) }
	fortnight()
	b.pass(asked)
	if got := b.addrs(); len(got) != 2 || got[0] != plain(inA) || !strings.HasSuffix(got[1], " temporary") {
		t.Fatalf("addresses %q", got)
	}
	first := ipOf(b.temps()[0])
	p, v := b.left(first)
	// TEMP_PREFERRED_LIFETIME less up to 0.4 of it; TEMP_VALID_LIFETIME.
	if p > 86400 || p < 86400*6/10-2 || v < 604800-2 || v > 604800 {
		t.Errorf("it lives for %d, %d seconds", p, v)
	}
	// More advertisements make it live no longer.
	b.pass(time.Hour)
	fortnight()
	if p2, v2 := b.left(first); p2 < p-3601 || p2 > p-3599 || v2 > v-3599 {
		t.Errorf("after an hour %d, %d seconds", p2, v2)
	}
	// The next one is there before it is deprecated.
	b.pass(time.Duration(p)*time.Second - time.Hour - 4*time.Second)
	got := b.temps()
	if len(got) != 2 || ipOf(got[0]) != first || strings.Contains(got[0], "deprecated") || strings.Contains(got[1], "tentative") {
		t.Fatalf("shortly before it is deprecated: %q", got)
	}
	b.pass(5 * time.Second)
	if got = b.temps(); !strings.Contains(got[0], "deprecated") || strings.Contains(got[1], "deprecated") {
		t.Errorf("after that: %q", got)
	}
	// Eight days on, the first has gone and at most one in use is not deprecated.
	for range 8 * 24 {
		b.pass(time.Hour)
		fortnight()
	}
	fresh := 0
	for _, s := range b.temps() {
		if ipOf(s) == first {
			t.Error("the first has outlived its valid lifetime")
		}
		if !strings.Contains(s, "deprecated") {
			fresh++
		}
	}
	if fresh != 1 || len(b.temps()) > 13 {
		t.Errorf("%d of %q are preferred", fresh, b.temps())
	}
}

// A temporary address lives no longer than its prefix, and is not made for one
// that is hardly preferred (RFC 8981 §3.4).
func TestTemporaryOfAShortPrefix(t *testing.T) {
	b := start(t, "use_tempaddr=1")
	b.hear(r1, say(time.Hour, on(netA, 2*time.Hour, time.Hour), on(netB, 2*time.Hour, 5*time.Second)))
	got := b.temps()
	if len(got) != 1 {
		t.Fatalf("temporary addresses %q", got)
	}
	if p, v := b.left(ipOf(got[0])); p != 3600 || v != 7200 {
		t.Errorf("it lives for %d, %d seconds", p, v)
	}
	b.pass(2*time.Hour + time.Second)
	b.wantAddrs()
}

func TestTemporaryDuplicates(t *testing.T) {
	b := start(t, "use_tempaddr=1")
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(asked)
	b.ip.all = true
	b.hear(r1, say(time.Hour, on(netB, 24*time.Hour, 4*time.Hour)))
	b.pass(30 * time.Second)
	if n := b.count("temporary duplicated"); n != 4 {
		t.Errorf("%d were tried", n)
	}
	if got := b.temps(); len(got) != 1 {
		t.Errorf("temporary addresses %q", got)
	}
	if !strings.Contains(b.log.String(), "no temporary addresses any more") {
		t.Error("nothing in the log")
	}
}

func TestTempLifetimesAreChecked(t *testing.T) {
	b := open(t)
	for _, s := range [][2]string{{"temppltime", "604801"}, {"tempvltime", "86399"}} {
		if _, err := b.env.MIB.Set("net.inet6.ip6."+s[0], s[1]); err == nil {
			t.Errorf("%s=%s was taken", s[0], s[1])
		}
	}
}

// Identifiers that mean something else are not made (RFC 5453).
func TestReservedIdentifiers(t *testing.T) {
	for s, want := range map[string]bool{
		"::":                    true,
		"::1":                   false,
		"::200:5eff:fe00:5213":  true,
		"::200:5eff:feff:ffff":  true,
		"::200:5eff:fdff:ffff":  false,
		"::fdff:ffff:ffff:ff80": true,
		"::fdff:ffff:ffff:ffff": true,
		"::fdff:ffff:ffff:ff7f": false,
	} {
		b := netip.MustParseAddr(s).As16()
		if got := reserved([8]byte(b[8:])); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
}

// A prefix that is preferred and is not, by turns, has one temporary address all
// the while: whoever makes it so does not use up the addresses there may be.
func TestTemporaryOfAPrefixThatWavers(t *testing.T) {
	b := start(t, "use_tempaddr=1")
	for range 100 {
		b.hear(r1, say(time.Hour, day(netA)))
		b.pass(2 * time.Second)
		b.hear(r1, say(time.Hour, on(netA, 24*time.Hour, 0)))
		b.pass(2 * time.Second)
	}
	if got := b.temps(); len(got) != 1 {
		t.Errorf("temporary addresses %q", got)
	}
	// It is followed before it is deprecated for good.
	b.hear(r1, say(time.Hour, on(netA, 14*24*time.Hour, 14*24*time.Hour)))
	p, _ := b.left(ipOf(b.temps()[0]))
	b.pass(time.Duration(p)*time.Second - 3*time.Second)
	if got := b.temps(); len(got) != 2 || strings.Contains(got[0], "deprecated") {
		t.Errorf("shortly before it is deprecated: %q", got)
	}
}
