package stack_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var writePage = flag.Bool("attacks.write", false, "write docs/ipv6-attacks.md anew")

// campaigns are attacks that take more than a few frames, each with the test
// that makes it and what bounds it.
var campaigns = []struct{ attack, rfc, answer, bound, room, test string }{
	{"neighbour and router messages with a hop limit below 255, of each type", "4861 §6.1, §7.1, §8.1", "none, nothing is believed", "icmp6: not answered", "stack", "TestNDFromBeyondARouter"},
	{"neighbour discovery in fragments, with a daemon listening", "6980 §5", "none; no program sees it", "icmp6: fragmented nd", "stack", "TestFragmentedNDReachesNoProgram"},
	{"a flood of solicitations from many sources", "6583 §4", "each as it comes; neighbours in use and routers stay", "net.inet6.icmp6.nd6_maxentries", "stack", "TestFloodOfSolicitations"},
	{"a flood of neighbour advertisements", "4861 §7.2.5", "none; an entry is made by none", "net.inet6.icmp6.nd6_maxentries", "stack", "TestFloodOfNeighbourAdvertisements"},
	{"another's advertisement for a router", "4861 §7.2.5", "believed with the override flag alone, and probed", "icmp6 and nd6 counters", "stack", "TestRouterIsOverriddenByTheFlagOnly"},
	{"a scan of a network through us", "6583 §4", "as many are asked for at once as the limit has", "net.inet6.icmp6.nd6_maxincomplete", "stack/nd6", "TestScanFromElsewhere"},
	{"a full cache of neighbours", "6583 §4", "who is missed least makes room", "net.inet6.icmp6.nd6_maxentries", "stack/nd6", "TestFullCache"},
	{"a flood of advertisements of routers, prefixes, routes and servers", "6104", "as many are kept as the limits have, the router in use among them", "net.inet6.ip6.maxifdefrouters, maxifprefixes, maxifautoaddrs, maxifrouteinfos, maxifdns", "stack", "TestFloodOfRouterAdvertisements"},
	{"a flood of router solicitations", "4861 §6.2.6", "none from a host", "icmp6: not answered", "stack", "TestFloodOfRouterSolicitations"},
	{"an advertisement with hop limit 1", "4861 §6.3.4, CVE-2015-2923", "the limit is never lowered", "nd6: hop limit refused", "stack", "TestHopLimitIsNotLowered"},
	{"redirects from who is no router, or to odd places", "4861 §8.1", "none, nothing is believed", "icmp6: bad redirect", "stack", "TestOddRedirects"},
	{"forged Packet Too Big: of no flow, below 1280, in great numbers", "8201 §4, 8021", "none; the path keeps its MTU", "the cache of hosts' size", "stack", "TestForgedTooBig"},
	{"a flood of fragments that never end", "8200 §4.5", "errors at their rate", "net.inet6.ip6.maxfragpackets, maxfrags", "stack", "TestFloodOfFragments"},
	{"a flood of MLD queries", "9777 §6.2", "one pending answer a group", "one timer a group", "stack", "TestFloodOfMLDQueries"},
	{"messages from the unspecified address", "4861 §7.1", "none but those that may come from there", "icmp6: not answered", "stack", "TestFromNobody"},
	{"a prefix that is preferred and is not, by turns", "8981 §3.4", "one temporary address all the while", "net.inet6.ip6.maxifautoaddrs", "stack/autoconf", "TestTemporaryOfAPrefixThatWavers"},
}

// TestAttacksPage holds docs/ipv6-attacks.md to what is tested.
func TestAttacksPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Attacks on IPv6, and what they meet\n\n" +
		"Written by `go test ./stack -run TestAttacksPage -attacks.write` from the tests that make these attacks; a counter is\n" +
		"one of `netstat -s`, by its protocol. What is not said to be answered is dropped in silence.\n\n" +
		"## A few frames\n\nAll of them are cases of `TestHostileIPv6` in stack.\n\n| attack | RFC | the answer | counted as |\n|---|---|---|---|\n")
	for _, a := range attacks() {
		answer := a.answer
		if answer == "" {
			answer = "none"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s: %s |\n", a.attack, a.rfc, answer, a.proto, a.name)
	}
	b.WriteString("\n## Floods and lies\n\n| attack | RFC | the answer | bounded or counted by | test |\n|---|---|---|---|---|\n")
	for _, c := range campaigns {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s, %s |\n", c.attack, c.rfc, c.answer, c.bound, c.test, c.room)
		if !declared(t, c.room, c.test) {
			t.Errorf("there is no %s in %s", c.test, c.room)
		}
	}
	const page = "../docs/ipv6-attacks.md"
	if *writePage {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the tests do (%v): go test ./stack -run TestAttacksPage -attacks.write", page, err)
	}
}

// declared reports whether a folder has that test.
func declared(t *testing.T, room, test string) bool {
	t.Helper()
	files, err := os.ReadDir("../" + room)
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(`(?m)^func ` + test + `\(`)
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			if b, err := os.ReadFile("../" + room + "/" + f.Name()); err == nil && re.Match(b) {
				return true
			}
		}
	}
	return false
}
