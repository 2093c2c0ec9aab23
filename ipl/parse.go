package ipl

import (
	"fmt"
	"slices"
	"strings"
)

// Parse reads rules in the language of ipf(5). The error is Errors; the rules
// of the lines without fault come with it.
func Parse(name string, text []byte, o Options) ([]Rule, error) {
	s := &scanner{name: name}
	var out []Rule
	s.each(statements(s.lines(text)), o, func(p *parser) {
		r := ruleParser{parser: p, Rule: blank(), seen: map[string]bool{}}
		r.Line = p.at().line
		first := p.at()
		rules := r.rule()
		if len(out)+len(rules) > maxRules {
			p.failAt(first, "more than %d rules", maxRules)
		}
		out = append(out, rules...)
	})
	return out, s.err()
}

// blank is a rule that asks for nothing.
func blank() Rule {
	return Rule{At: -1, ICMPCode: -1, TOS: -1, TTL: -1, Proto: AnyProto, ICMPType: -1, ICMPTypeCode: -1, LogTag: -1}
}

// ruleParser reads one rule; what can be judged when all of it is known only,
// it keeps by the tokens.
type ruleParser struct {
	*parser
	Rule
	seen                       map[string]bool
	code, icmpType, icmpCode   token
	src, dst                   side
	tos, ttl, protos           []int
	rst, flags, keepOpt, v4opt token
	via                        token
	fixed                      Family // what the words said so far, and which
	fixedBy                    token
}

var (
	actions = words("pass block log count skip call")
	// refused are words of ipf(5) that are known and not obeyed.
	refused = map[string]string{
		"auth":        "no program answers for packets here",
		"preauth":     "no program answers for packets here",
		"bpf-v4":      "rules are not programs",
		"bpf-v6":      "rules are not programs",
		"sync":        "states are not told to another machine; ipfs saves and restores them",
		"pps":         "a rule does not measure rates",
		"match-tag":   "packets carry no tags",
		"decapsulate": "tunnels are interfaces of their own: gif",
	}
	afterRule = words("from to all tos ttl proto family flags icmp-type with and keep head group set-tag in out log quick on dup-to reply-to fastroute route-to in-via out-via port code")
)

// unknown fails at a token that no rule has there.
func (p *parser) unknown(t token, want string, known ...string) {
	if why, ok := refused[t.text]; ok {
		p.failAt(t, "%s is refused: %s", t.text, why)
	}
	hint := ""
	if t.kind == kindWord {
		hint = near(t.text, known)
	}
	p.failAt(t, "%s where %s is expected%s", t, want, hint)
}

// once fails at a keyword that comes twice.
func (p *ruleParser) once(t token) {
	if p.seen[t.text] {
		p.failAt(t, "%s twice", t.text)
	}
	p.seen[t.text] = true
}

// is fixes the family of the rule.
func (p *ruleParser) is(f Family, t token) {
	if f == AnyFamily {
		return
	}
	if p.fixed != AnyFamily && p.fixed != f {
		p.failAt(t, "%q is %s, and %q is %s", t.text, f, p.fixedBy.text, p.fixed)
	}
	p.fixed, p.fixedBy = f, t
}

func (p *ruleParser) rule() []Rule {
	if p.accept("@") {
		p.At = p.num("a place", 0, 1<<31-1)
	}
	p.action()
	t := p.at()
	switch {
	case p.accept("in"):
	case p.accept("out"):
		p.Out = true
	default:
		p.unknown(t, `"in" or "out"`, "in", "out", "return-rst", "return-icmp", "return-icmp-as-dest")
	}
	p.options()
	p.main()
	p.tail()
	return p.finish()
}

func (p *ruleParser) action() {
	t := p.next()
	switch t.text {
	case "pass":
		p.Action = Pass
	case "count":
		p.Action = Count
	case "log":
		p.Action = Log
		if l := p.logOptions(); l != (LogOption{}) {
			p.Log = &l
		}
	case "skip":
		p.Action = Skip
		p.Skip = p.num("how many rules to skip", 1, 1<<31-1)
	case "call":
		p.call()
	case "block":
		p.Action = Block
		r := p.at()
		switch {
		case p.accept("return-rst"):
			p.Reply, p.rst = ReplyRST, r
		case p.accept("return-icmp"):
			p.Reply = ReplyICMP
		case p.accept("return-icmp-as-dest"):
			p.Reply = ReplyAsDest
		default:
			return
		}
		if p.Reply != ReplyRST && p.accept("(") {
			p.code = p.word("a code")
			p.expect(")")
		}
	default:
		if p.at().is("=") {
			p.failAt(t, `an assignment is NAME="VALUE";`)
		}
		p.unknown(t, "an action", keys(actions)...)
	}
}

var mapFuncs = map[string]bool{"fr_srcgrpmap": false, "fr_dstgrpmap": true} // whether the destination is asked for

// call reads "now FUNCTION/MAP".
func (p *ruleParser) call() {
	p.Action = Call
	if t := p.at(); !p.accept("now") {
		p.failAt(t, "%s where \"now\" is expected: what is called chooses rules, and they come before the decision", t)
	}
	t := p.word("a function and its group-map")
	name, of, _ := strings.Cut(t.text, "/")
	dst, known := mapFuncs[name]
	if !known {
		p.failAt(t, "no function is called %q; there are fr_srcgrpmap/MAP and fr_dstgrpmap/MAP", name)
	}
	p.poolName(t, of)
	p.Map, p.MapDst = of, dst
}

var (
	facilities = words("kern user mail daemon auth syslog lpr news uucp cron ftp authpriv audit logalert console security local0 local1 local2 local3 local4 local5 local6 local7")
	priorities = words("emerg alert crit err warn notice info debug")
)

func (p *parser) logOptions() (l LogOption) {
	for {
		t := p.at()
		flag := (*bool)(nil)
		switch {
		case t.is("body"):
			flag = &l.Body
		case t.is("first"):
			flag = &l.First
		case t.is("or-block"):
			flag = &l.OrBlock
		case t.is("level") && l.Level == "":
			p.next()
			l.Level = p.level()
			continue
		case t.is("level"):
			p.failAt(t, "level twice")
		default:
			return l
		}
		if *flag {
			p.failAt(t, "%s twice", t.text)
		}
		*flag = true
		p.next()
	}
}

func (p *parser) level() string {
	t := p.word("a level")
	fac, pri, both := strings.Cut(t.text, ".")
	if !both {
		fac, pri = "", fac
	}
	if both && !facilities[fac] {
		p.failAt(t, "no facility is called %q%s", fac, near(fac, keys(facilities)))
	}
	if !priorities[pri] {
		p.failAt(t, "no priority is called %q%s", pri, near(pri, keys(priorities)))
	}
	return t.text
}

// options reads what stands between the direction and what packets are asked.
func (p *ruleParser) options() {
	for {
		t := p.at()
		switch t.text {
		case "log":
			p.once(p.next())
			if p.Action == Log {
				p.failAt(t, "log twice")
			}
			l := p.logOptions()
			p.Log = &l
		case "quick":
			p.once(p.next())
			p.Quick = true
		case "on":
			p.once(p.next())
			p.If = p.ifName()
			if c := p.at(); c.is(",") {
				p.failAt(c, "a second interface: a rule is about one, or with in-via and out-via about the way between two")
			}
		case "dup-to":
			p.once(p.next())
			p.DupTo = p.target()
		case "to", "route-to":
			if p.seen["to"] || t.text == "to" && !p.isTarget() {
				return
			}
			p.next()
			p.seen["to"] = true
			p.To = p.target()
		case "reply-to":
			p.once(p.next())
			p.ReplyTo = p.target()
		case "fastroute":
			p.once(p.next())
			p.Fast = true
		case "in-via", "out-via":
			p.once(p.next())
			if p.via = t; (t.text == "in-via") != p.Out {
				p.failAt(t, "%s of a rule that is about that way itself", t.text)
			}
			p.Via = p.ifName()
		default:
			return
		}
	}
}

// isTarget reports that "to" is followed by an interface to send by, not by a destination.
func (p *ruleParser) isTarget() bool {
	if p.i+1 >= len(p.toks) {
		return false
	}
	name, _, _ := strings.Cut(p.toks[p.i+1].text, ":")
	_, isAddr := literal(p.toks[p.i+1].text, false)
	return isInterface(name) && !isAddr && !strings.Contains(name, "/")
}

// target reads "IF[:ADDR]".
func (p *ruleParser) target() (to Target) {
	t := p.word("an interface")
	name, addr, colon := strings.Cut(t.text, ":")
	if !isIfName(name) {
		p.failAt(t, "%q is no name of an interface", name)
	}
	to.If = name
	if !colon && p.accept(",") {
		at := p.word("an address")
		addr, colon = at.text, true
	}
	if colon {
		a, ok := literal(addr, false)
		if !ok {
			p.failAt(t, "%q is no address", addr)
		}
		to.Addr = a
		t.text = addr
		p.is(familyOf(a), t)
	}
	return to
}

// main reads family, tos, ttl, proto, and the addresses.
func (p *ruleParser) main() {
	for {
		t := p.at()
		switch t.text {
		case "family":
			p.once(p.next())
			f := p.word("inet or inet6")
			switch f.text {
			case "inet":
				p.is(Inet, f)
			case "inet6":
				p.is(Inet6, f)
			default:
				p.unknown(f, `"inet" or "inet6"`, "inet", "inet6")
			}
		case "tos":
			p.once(p.next())
			p.list(func() { p.tos = append(p.tos, p.num("a type of service", 0, 255)); p.bound(len(p.tos)) })
		case "ttl":
			p.once(p.next())
			p.list(func() { p.ttl = append(p.ttl, p.num("a time to live", 0, 255)); p.bound(len(p.ttl)) })
		case "proto":
			p.once(p.next())
			p.list(func() { p.protos = append(p.protos, p.proto()); p.bound(len(p.protos)) })
			if n := p.protos[0]; len(p.protos) == 1 && (n == protoTCP || n == protoUDP) {
				p.of = []string{protoName(n)}
			}
		default:
			p.ends()
			return
		}
	}
}

func (p *ruleParser) ends() {
	p.src = side{addrs: []address{{}}, ports: []Port{{}}}
	p.dst = p.src
	if p.accept("all") {
		return
	}
	if p.accept("from") {
		p.src = p.side()
	}
	if p.accept("to") {
		p.dst = p.side()
	}
}

// tail reads what stands behind the addresses, in any order.
func (p *ruleParser) tail() {
	for {
		t := p.at()
		switch t.text {
		case "flags":
			p.once(p.next())
			p.flags = t
			p.tcpFlags()
		case "icmp-type":
			p.once(p.next())
			p.icmpType = p.word("a type")
			if p.accept("code") {
				p.icmpCode = p.word("a code")
			}
		case "with", "and":
			p.next()
			p.with()
		case "keep":
			p.next()
			p.keep()
		case "head", "group":
			p.once(p.next())
			g := p.word("a group")
			if len(g.text) > 15 || !isGroup(g.text) {
				p.failAt(g, "%q is no name of a group: up to 15 letters, digits, \"_\", \".\" and \"-\"", g.text)
			}
			switch {
			case t.text == "group" && g.text != "0":
				p.Group = g.text
			case t.text == "head" && g.text == "0":
				p.failAt(g, "group 0 is the list itself")
			case t.text == "head":
				p.Head = g.text
			}
		case "set-tag":
			p.once(p.next())
			p.expect("(")
			if n := p.at(); n.is("nat") {
				p.failAt(n, "set-tag(nat=…) is refused: packets carry no tags")
			}
			p.expect("log")
			p.expect("=")
			p.LogTag = p.num("a tag", 0, 1<<32-2)
			p.expect(")")
		default:
			if t.kind != kindEnd && !t.is(";") {
				if p.seen[t.text] && t.kind == kindWord {
					p.failAt(t, "%s twice", t.text)
				}
				if _, ok := refused[t.text]; !ok && afterRule[t.text] {
					p.failAt(t, "%s stands too late in the rule", t.text)
				}
				p.unknown(t, "the end of the rule", keys(afterRule)...)
			}
			return
		}
	}
}

func isGroup(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameByte(s[i], true) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return s != ""
}

const (
	flagLetters  = "FSRPAUEC"
	defaultFlags = 0x3f // of a rule that names no mask: all but ECN's, which an opening segment may have
)

func (p *ruleParser) tcpFlags() {
	t := p.word("flags")
	set, mask, both := strings.Cut(t.text, "/")
	if !both && p.at().kind == kindWord && strings.HasPrefix(p.at().text, "/") {
		mask, both = p.next().text[1:], true
	}
	f := TCPFlags{Set: p.flagSet(t, set)}
	f.Mask = defaultFlags | f.Set
	if both {
		f.Mask = p.flagSet(t, mask)
	}
	switch {
	case f.Mask == 0:
		p.failAt(t, "flags without a mask are on every segment")
	case f.Set&^f.Mask != 0:
		p.failAt(t, "flags %s has some that its mask leaves out: no segment has them", t.text)
	}
	p.Flags = &f
}

func (p *ruleParser) flagSet(t token, s string) (f uint8) {
	if s != "" && '0' <= s[0] && s[0] <= '9' {
		return uint8(p.numOf(t, s, "flags", 0, 255))
	}
	for _, c := range s {
		i := strings.IndexRune(flagLetters, c)
		if i < 0 {
			p.failAt(t, "no flag is called %q; they are %s", string(c), flagLetters)
		}
		f |= 1 << i
	}
	return f
}

// withs are the properties, the first of two names being the printed one.
var withs = []struct {
	name string
	kind WithKind
}{
	{"ipopts", WithIPOpts}, {"short", WithShort}, {"frag", WithFrag}, {"frags", WithFrag}, {"frag-body", WithFragBody}, {"nat", WithNAT}, {"lowttl", WithLowTTL},
	{"multicast", WithMulticast}, {"mcast", WithMulticast}, {"bcast", WithBroadcast}, {"broadcast", WithBroadcast}, {"mbcast", WithMBcast},
	{"state", WithState}, {"bad", WithBad}, {"bad-src", WithBadSrc}, {"bad-nat", WithBadNAT}, {"oow", WithOOW},
	{"opt", WithOpt}, {"v6hdrs", WithV6Hdrs}, {"v6hdr", WithV6Hdrs},
}

func withKind(name string) WithKind {
	for _, w := range withs {
		if w.name == name {
			return w.kind
		}
	}
	return 0
}

var (
	optNames = words("nop rr zsu mtup mtur encode ts tr sec sec-class lsrr e-sec cipso satid ssrr addext visa imitd eip finn dps sdb nsapa rtralrt ump")
	// secLevels are the levels of the security option (RFC 1108 §2.3).
	secLevels = words("unclass confid reserv-1 reserv-2 reserv-3 reserv-4 secret topsecret")
	hdrNames  = words("hopopts routing frag dstopts ah esp none")
)

// with reads properties, between which "," and "and" may stand.
func (p *ruleParser) with() {
	for first := true; ; first = false {
		start := p.i
		sep := !first && (p.accept(",") || p.accept("and"))
		not := p.accept("not") || p.accept("no")
		t := p.at()
		w := With{Not: not, What: withKind(t.text)}
		if w.What == 0 || t.kind != kindWord {
			if first || sep || not {
				known := []string{"not", "no"}
				for _, w := range withs {
					known = append(known, w.name)
				}
				p.unknown(t, "a property", known...)
			}
			p.i = start
			return
		}
		p.next()
		switch w.What {
		case WithOpt:
			w.Opts, p.v4opt = p.names("option", optNames), t
		case WithV6Hdrs:
			w.Opts = p.names("header", hdrNames)
			p.is(Inet6, t)
		default:
			if p.seen["with "+p.withName(w)] {
				p.failAt(t, "%s twice", t.text)
			}
			p.seen["with "+p.withName(w)] = true
		}
		p.With = append(p.With, w)
	}
}

func (p *ruleParser) withName(w With) string { w.Not = false; return w.String() }

// names reads "NAME,NAME", as long as what follows a comma is one of known.
func (p *ruleParser) names(what string, known map[string]bool) (out []string) {
	for {
		t := p.word("the name of an " + what)
		if !known[t.text] {
			p.failAt(t, "no %s is called %q%s", what, t.text, near(t.text, keys(known)))
		}
		name := t.text
		if name == "sec-class" {
			l := p.word("a level")
			if !secLevels[l.text] {
				p.failAt(l, "no level is called %q%s", l.text, near(l.text, keys(secLevels)))
			}
			name += " " + l.text
		}
		if slices.Contains(out, name) {
			p.failAt(t, "%s twice", name)
		}
		out = append(out, name)
		if !p.at().is(",") || p.i+1 >= len(p.toks) || withKind(p.toks[p.i+1].text) != 0 && !known[p.toks[p.i+1].text] || p.toks[p.i+1].is("not") || p.toks[p.i+1].is("no") {
			return out
		}
		p.next()
	}
}

func (p *ruleParser) keep() {
	t := p.next()
	switch t.text {
	case "state":
		p.once(t)
		p.KeepState = &KeepState{}
		if p.accept("(") {
			p.stateOptions(p.KeepState)
		}
	case "frags", "frag":
		t.text = "frags"
		p.once(t)
		p.KeepFrags = true
		if p.accept("(") {
			p.expect("strict")
			p.FragsStrict = true
			p.expect(")")
		}
	default:
		p.unknown(t, `"state" or "frags"`, "state", "frags")
	}
}

func (p *ruleParser) stateOptions(k *KeepState) {
	seen := map[string]bool{}
	for {
		t := p.next()
		if seen[t.text] {
			p.failAt(t, "%s twice", t.text)
		}
		seen[t.text] = true
		switch t.text {
		case "limit":
			k.Limit = p.num("a limit", 1, 1<<31-1)
		case "strict":
			k.Strict, p.keepOpt = true, t
		case "newisn":
			k.NewISN, p.keepOpt = true, t
		case "no-icmp-err":
			k.NoICMPErr = true
		case "age":
			k.Age = p.age()
		default:
			p.unknown(t, "an option of keep state", "limit", "strict", "newisn", "no-icmp-err", "age")
		}
		if p.accept(")") {
			return
		}
		p.expect(",")
	}
}

// age reads "A[/B]", seconds; B is A where it is not said.
func (p *parser) age() [2]int {
	const most = 1 << 30
	t := p.word("an age")
	a, b, two := strings.Cut(t.text, "/")
	first := p.numOf(t, a, "an age", 1, most)
	if !two {
		return [2]int{first, first}
	}
	return [2]int{first, p.numOf(t, b, "an age", 1, most)}
}

// finish judges the rule as a whole, and makes of its lists rules.
func (p *ruleParser) finish() (out []Rule) {
	defaults := func(l []int, none int) []int {
		if len(l) == 0 {
			return []int{none}
		}
		return l
	}
	p.tos, p.ttl, p.protos = defaults(p.tos, -1), defaults(p.ttl, -1), defaults(p.protos, AnyProto)
	n := 1
	for _, l := range []int{len(p.tos), len(p.ttl), len(p.protos), len(p.src.addrs), len(p.src.ports), len(p.dst.addrs), len(p.dst.ports)} {
		n *= l
		p.bound(n)
	}
	for _, tos := range p.tos {
		for _, ttl := range p.ttl {
			for _, proto := range p.protos {
				p.TOS, p.TTL, p.Proto = tos, ttl, proto
				out = p.addresses(out)
			}
		}
	}
	if len(out) == 0 {
		p.failAt(p.toks[0], "the addresses are of different families")
	}
	return out
}

func (p *ruleParser) addresses(out []Rule) []Rule {
	for _, a := range p.src.addrs {
		for _, b := range p.dst.addrs {
			one := *p
			if !one.families(a, b) {
				continue
			}
			one.judge()
			for _, ap := range p.src.ports {
				for _, bp := range p.dst.ports {
					r := one.Rule
					r.Src, r.Dst = a.Endpoint, b.Endpoint
					r.Src.Port, r.Dst.Port = ap, bp
					out = append(out, r.clone())
				}
			}
		}
	}
	return out
}

// clone is a rule that shares nothing with r.
func (r Rule) clone() Rule {
	r.With = slices.Clone(r.With)
	if r.Log != nil {
		l := *r.Log
		r.Log = &l
	}
	if r.Flags != nil {
		f := *r.Flags
		r.Flags = &f
	}
	if r.KeepState != nil {
		k := *r.KeepState
		r.KeepState = &k
	}
	return r
}

// families settles the family; false: one of a name's addresses does not fit the rest.
func (p *ruleParser) families(a, b address) bool {
	switch p.Proto {
	case protoICMP:
		p.is(Inet, token{text: "proto icmp", line: p.toks[0].line, col: p.toks[0].col})
	case protoICMP6:
		p.is(Inet6, token{text: "proto ipv6-icmp", line: p.toks[0].line, col: p.toks[0].col})
	}
	if a.named && !b.named {
		a, b = b, a
	}
	for _, x := range []address{a, b} {
		if x.named && p.fixed != AnyFamily && x.family != p.fixed {
			return false
		}
		p.is(x.family, x.at)
	}
	if p.Family = p.fixed; p.Family == AnyFamily {
		if p.Family = Inet; p.o.V6 {
			p.Family = Inet6
		}
	}
	return true
}

// judge fails at what contradicts the rule's protocol or family, and reads the
// names whose numbers depend on them.
func (p *ruleParser) judge() {
	if p.rst.text != "" && p.Proto != protoTCP {
		p.failAt(p.rst, "return-rst of a rule that is not about TCP alone: proto tcp")
	}
	if p.flags.text != "" && p.Proto != protoTCP {
		p.failAt(p.flags, "flags of a rule that is not about TCP alone: proto tcp")
	}
	for _, s := range []side{p.src, p.dst} {
		if s.ports[0].Op != PortAny && !hasPorts(p.Proto) {
			p.failAt(s.at, "ports of a rule that is not about TCP or UDP: proto tcp, udp or tcp/udp")
		}
	}
	if p.keepOpt.text != "" && p.Proto != protoTCP && p.Proto != ProtoTCPUDP && p.Proto != AnyProto {
		p.failAt(p.keepOpt, "%s is about TCP; the rule is about %s", p.keepOpt.text, protoName(p.Proto))
	}
	if p.v4opt.text != "" && p.Family == Inet6 {
		p.failAt(p.v4opt, "opt is about IPv4's options; IPv6 has v6hdrs")
	}
	if p.Action == Call && (p.Log != nil || p.KeepState != nil || p.KeepFrags || p.Head != "" || p.To != (Target{}) || p.DupTo != (Target{}) || p.ReplyTo != (Target{}) || p.Fast) {
		p.failAt(p.toks[0], "call decides nothing: log, keep, head and ways to send by are of the rules of the group that it chooses")
	}
	six := p.Family == Inet6
	if p.code.text != "" {
		t := unreachCodes
		if six {
			t = unreachCodes6
		}
		p.ICMPCode = p.named(p.code, t, "code of "+p.Family.String()+"'s unreachable", 255)
	}
	if p.icmpType.text == "" {
		return
	}
	types, codes, unreach := icmpTypes, unreachCodes, 3
	switch {
	case p.Proto == protoICMP6:
		types, codes, unreach = icmpTypes6, unreachCodes6, 1
	case p.Proto != protoICMP:
		p.failAt(p.icmpType, "icmp-type of a rule that is not about ICMP: proto icmp or ipv6-icmp")
	}
	p.ICMPType = p.named(p.icmpType, types, "type of "+protoName(p.Proto), 255)
	if p.icmpCode.text != "" {
		if p.ICMPType != unreach {
			codes = nil
		}
		p.ICMPTypeCode = p.named(p.icmpCode, codes, fmt.Sprintf("code of type %s", types.name(p.ICMPType)), 255)
	}
}
