package ipl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// near suggests the one of known that word is nearest to; "": none is near.
func near(word string, known []string) string {
	best, found := 3, ""
	for _, k := range known {
		if d := distance(word, k); d > 0 && d < best && d*2 < len(word)+1 {
			best, found = d, k
		}
	}
	if found == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", found)
}

// distance counts the insertions, deletions, changes and swaps of neighbours
// between two words; words of different lengths are far away from each other.
func distance(a, b string) int {
	if len(a) > 40 || len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 99
	}
	var before, prev []int
	cur := make([]int, len(b)+1)
	for j := range cur {
		cur[j] = j
	}
	for i := range len(a) {
		before, prev, cur = prev, cur, make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j]+cost, prev[j+1]+1, cur[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cur[j+1] = min(cur[j+1], before[j-1]+1)
			}
		}
	}
	return cur[len(b)]
}

// number reads s in C's notation: 0x… is hexadecimal, 0… octal.
func number(s string) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil
}

// num is the next token as a number from lo to hi.
func (p *parser) num(what string, lo, hi uint64) int {
	t := p.word(what)
	return p.numOf(t, t.text, what, lo, hi)
}

func (p *parser) numOf(t token, s, what string, lo, hi uint64) int {
	n, ok := number(s)
	if !ok {
		p.failAt(t, "%q is no number, where %s is expected", s, what)
	}
	if n < lo || n > hi {
		p.failAt(t, "%s where %s, from %d to %d, is expected", s, what, lo, hi)
	}
	return int(n)
}

// protocols are the names of protocols; of several for one number the first is printed.
var protocols = table{
	{"ip", 0}, {"hopopt", 0}, {"icmp", 1}, {"igmp", 2}, {"ggp", 3}, {"ipencap", 4}, {"ipip", 4}, {"st", 5}, {"tcp", 6}, {"egp", 8}, {"igp", 9},
	{"pup", 12}, {"udp", 17}, {"hmp", 20}, {"xns-idp", 22}, {"rdp", 27}, {"iso-tp4", 29}, {"dccp", 33}, {"ipv6", 41}, {"ipv6-route", 43},
	{"ipv6-frag", 44}, {"idrp", 45}, {"rsvp", 46}, {"gre", 47}, {"esp", 50}, {"ah", 51}, {"skip", 57}, {"ipv6-icmp", 58}, {"icmpv6", 58},
	{"icmp6", 58}, {"ipv6-nonxt", 59}, {"ipv6-opts", 60}, {"rspf", 73}, {"eigrp", 88}, {"ospf", 89}, {"ipcomp", 108}, {"pim", 103},
	{"vrrp", 112}, {"carp", 112}, {"l2tp", 115}, {"sctp", 132}, {"udplite", 136}, {"mobility-header", 135},
}

// unreachCodes are codes of ICMP's unreachable; of ICMPv6's those that say the same (RFC 4443 §3.1).
var (
	unreachCodes = table{
		{"net-unr", 0}, {"host-unr", 1}, {"proto-unr", 2}, {"port-unr", 3}, {"needfrag", 4}, {"srcfail", 5}, {"net-unk", 6}, {"host-unk", 7},
		{"isolate", 8}, {"net-prohib", 9}, {"host-prohib", 10}, {"net-tos", 11}, {"host-tos", 12}, {"filter-prohib", 13}, {"host-preced", 14},
		{"cutoff-preced", 15}, {"preced-cutoff", 15},
	}
	unreachCodes6 = table{
		{"net-unr", 0}, {"filter-prohib", 1}, {"net-prohib", 1}, {"host-prohib", 1}, {"host-unr", 3}, {"port-unr", 4},
	}
	icmpTypes = table{
		{"echorep", 0}, {"unreach", 3}, {"squench", 4}, {"redir", 5}, {"echo", 8}, {"routerad", 9}, {"routersol", 10}, {"timex", 11},
		{"paramprob", 12}, {"timest", 13}, {"timestrep", 14}, {"inforeq", 15}, {"inforep", 16}, {"maskreq", 17}, {"maskrep", 18},
	}
	icmpTypes6 = table{
		{"unreach", 1}, {"toobig", 2}, {"timex", 3}, {"paramprob", 4}, {"echo", 128}, {"echorep", 129}, {"listenqry", 130}, {"memberqry", 130},
		{"listenrep", 131}, {"listendone", 132}, {"routersol", 133}, {"routerad", 134}, {"neighborsol", 135}, {"neighadvert", 136},
		{"redir", 137}, {"renumber", 138}, {"whoreq", 139}, {"whorep", 140},
	}
)

// table is names and their numbers.
type table []struct {
	name string
	n    int
}

func (t table) number(name string) (int, bool) {
	for _, e := range t {
		if e.name == name {
			return e.n, true
		}
	}
	return 0, false
}

// name is what number n is printed as.
func (t table) name(n int) string {
	for _, e := range t {
		if e.n == n {
			return e.name
		}
	}
	return strconv.Itoa(n)
}

func (t table) names() []string {
	out := make([]string, len(t))
	for i, e := range t {
		out[i] = e.name
	}
	return out
}

// named is a token as a name of t or a number up to hi.
func (p *parser) named(tok token, t table, what string, hi uint64) int {
	if n, ok := t.number(tok.text); ok {
		return n
	}
	if tok.text == "" || tok.text[0] < '0' || tok.text[0] > '9' {
		p.failAt(tok, "no %s is called %q%s", what, tok.text, near(tok.text, t.names()))
	}
	return p.numOf(tok, tok.text, "a "+what, 0, hi)
}

// proto reads a protocol, "tcp/udp" and "tcp-udp" among them.
func (p *parser) proto() int {
	t := p.word("a protocol")
	if t.text == "tcp/udp" || t.text == "tcp-udp" {
		return ProtoTCPUDP
	}
	return p.named(t, protocols, "protocol", 255)
}

func protoName(n int) string {
	if n == ProtoTCPUDP {
		return "tcp/udp"
	}
	return protocols.name(n)
}

const (
	protoICMP  = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58
)

func hasPorts(proto int) bool { return proto == protoTCP || proto == protoUDP || proto == ProtoTCPUDP }

// keywords are the words of the language of rules that stand for themselves.
var keywords = words("all and any block call code count dup-to family fastroute flags frag frags from group hash head icmp-type in in-via inet inet6 keep level log mask " +
	"netmask no not now on out out-via pass pool port proto quick reply-to return-icmp return-icmp-as-dest return-rst route-to set-tag skip state to tos ttl with " +
	"body first or-block limit strict newisn no-icmp-err age tcp/udp tcp-udp")

// Words are the words of the language of ipf(5), by what they name, in order.
func Words() map[string][]string {
	all := map[string][]string{"keyword": keys(keywords), "function": keys(mapFuncs), "protocol": protocols.names(), "facility": keys(facilities), "priority": keys(priorities),
		"code": unreachCodes.names(), "code of IPv6": unreachCodes6.names(), "type": icmpTypes.names(), "type of IPv6": icmpTypes6.names(), "option": keys(optNames),
		"level": keys(secLevels), "header": keys(hdrNames), "part": keys(ifParts), "comparison": append(keys(portOps), "<>", "><", ":")}
	for _, w := range withs {
		all["property"] = append(all["property"], w.name)
	}
	return all
}
