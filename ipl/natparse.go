package ipl

import (
	"net/netip"
	"strings"
)

// ParseNAT reads rules in the language of ipnat(5). The error is Errors; the
// rules of the lines without fault come with it.
func ParseNAT(name string, text []byte, o Options) ([]NATRule, error) {
	s := &scanner{name: name}
	var out []NATRule
	s.each(statements(s.lines(text)), o, func(p *parser) {
		if len(out) >= maxRules {
			p.failAt(p.at(), "more than %d rules", maxRules)
		}
		n := natParser{parser: p, NATRule: NATRule{Line: p.at().line, Proto: AnyProto}, seen: map[string]bool{}}
		n.rule()
		out = append(out, n.NATRule)
	})
	return out, s.err()
}

var natKinds = []struct {
	name string
	kind NATKind
}{{"map", Map}, {"map-block", MapBlock}, {"bimap", Bimap}, {"rdr", Rdr}, {"nptv6", NPT6}, {"nat64", NAT64}}

type natParser struct {
	*parser
	NATRule
	seen    map[string]bool
	fixed   Family
	fixedBy token
	portsAt token // of conditions on ports
}

func (p *natParser) is(f Family, t token) {
	if f == AnyFamily || p.Kind == NAT64 {
		return
	}
	if p.fixed != AnyFamily && p.fixed != f {
		p.failAt(t, "%q is %s, and %q is %s", t.text, f, p.fixedBy.text, p.fixed)
	}
	p.fixed, p.fixedBy = f, t
}

func (p *natParser) once(t token) {
	if p.seen[t.text] {
		p.failAt(t, "%s twice", t.text)
	}
	p.seen[t.text] = true
}

func (p *natParser) rule() {
	t := p.next()
	var known []string
	for _, k := range natKinds {
		if k.name == t.text {
			p.Kind = k.kind
		}
		known = append(known, k.name)
	}
	if p.Kind == 0 {
		switch {
		case t.is("no"):
			p.failAt(t, "no is refused: what is not to be translated is left out of the other rules by from !…")
		case p.at().is("="):
			p.failAt(t, `an assignment is NAME="VALUE";`)
		}
		p.unknown(t, "a kind of translation", known...)
	}
	p.If = p.natInterface()
	if p.accept(",") {
		p.If2 = p.natInterface()
	}
	p.before()
	arrow := p.at()
	p.expect("->")
	p.after(arrow)
	p.tail()
	p.judge()
}

// natInterface reads an interface; "0", "*" and "-" are any.
func (p *natParser) natInterface() string {
	switch t := p.at(); t.text {
	case "*", "0", "-":
		p.next()
		return "*"
	case "from":
		p.failAt(t, "%s where an interface is expected", t)
	}
	return p.ifName()
}

// before reads what a packet is asked.
func (p *natParser) before() {
	t := p.at()
	if p.accept("from") {
		if p.Kind != Map && p.Kind != Rdr {
			p.failAt(t, "from, of a rule that is about one network: map and rdr have it")
		}
		p.FromTo = true
		p.Src = p.end1()
		p.expect("to")
		p.Dst = p.end1()
		if c := p.Dst.Port; p.Kind == Rdr {
			switch c.Op {
			case PortAny:
			case PortEq:
				p.Ports = [2]uint16{c.Lo, c.Lo}
			case PortRange:
				p.Ports = [2]uint16{c.Lo, c.Hi}
			default:
				p.failAt(p.portsAt, `a port of rdr is one or a range: "=" or LO:HI`)
			}
		}
		return
	}
	a := p.net()
	if p.Kind != Rdr {
		p.Src = a.Endpoint
		return
	}
	p.Dst = a.Endpoint
	if p.accept("port") {
		p.accept("=")
		lo, hi := p.portPair()
		p.Ports = [2]uint16{lo, max(lo, hi)}
	}
}

// end1 is a side of from and to, which is one.
func (p *natParser) end1() Endpoint {
	s := p.side()
	if len(s.addrs) > 1 || len(s.ports) > 1 {
		p.failAt(s.addrs[0].at, "several addresses or ports: a translation is about one of each, or about a pool")
	}
	e := s.addrs[0].Endpoint
	e.Port = s.ports[0]
	if e.Port.Op != PortAny {
		p.portsAt = s.at
	}
	p.is(s.addrs[0].family, s.addrs[0].at)
	return e
}

// net reads one network.
func (p *natParser) net() address {
	as := p.addrs()
	a := as[0]
	switch {
	case len(as) > 1:
		p.failAt(a.at, "%q has several addresses", a.at.text)
	case a.Kind != AnyAddr && a.Kind != NetAddr:
		p.failAt(a.at, "%q where a network is expected; from and to take pools and interfaces", a.at.text)
	}
	p.is(a.family, a.at)
	return a
}

// prefix reads one network as a prefix.
func (p *natParser) prefix() netip.Prefix {
	t := p.at()
	a := p.net()
	switch {
	case a.Kind == AnyAddr && a.family == AnyFamily:
		p.failAt(t, "%q where a network is expected", t.text)
	case a.Kind == AnyAddr && a.family == Inet6:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	case a.Kind == AnyAddr:
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	n, ok := ones(a.Mask)
	if !ok {
		p.failAt(t, "the mask of %s is not of ones and then zeros", t.text)
	}
	if a.Addr.Zone() != "" {
		p.failAt(t, "%s has a zone: what is translated to has none", t.text)
	}
	return netip.PrefixFrom(a.Addr, n)
}

// portPair reads "P" or "P-P2"; hi of the first is 0.
func (p *natParser) portPair() (lo, hi uint16) {
	t := p.word("a port")
	a, b, two := t.text, "", false
	if !p.isService(a) {
		if a, b, two = strings.Cut(t.text, "-"); !two {
			a, b, two = strings.Cut(t.text, ":")
		}
	}
	at := t
	at.text = a
	lo = p.port(at)
	if !two {
		return lo, 0
	}
	at.text = b
	if hi = p.port(at); hi < lo {
		p.failAt(t, "the range ends, at %d, before it begins, at %d", hi, lo)
	}
	return lo, hi
}

func (p *parser) isService(s string) bool {
	if p.o.Service == nil {
		return false
	}
	_, tcp := p.o.Service(s, "tcp")
	_, udp := p.o.Service(s, "udp")
	return tcp || udp
}

// after reads what it becomes.
func (p *natParser) after(arrow token) {
	t := p.at()
	switch {
	case p.Kind == Rdr:
		p.targets()
	case p.accept("range"):
		if p.Kind != Map {
			p.failAt(t, "range, of a rule that is not map")
		}
		p.span()
	default:
		p.To = p.prefix()
	}
	src, n := p.srcPrefix()
	switch p.Kind {
	case Bimap, NPT6:
		if src != p.To.Bits() {
			p.failAt(t, "a network of %d bits for one of %d: %s gives one address for one", p.To.Bits(), src, p.kindName())
		}
		if p.Kind == NPT6 && (p.fixed != Inet6 || src > 64) {
			p.failAt(t, "nptv6 is about prefixes of IPv6 of up to 64 bits (RFC 6296)")
		}
	case NAT64:
		if n != Inet6 || src != 96 {
			p.failAt(arrow, "nat64 translates from a prefix of IPv6 of 96 bits (RFC 6052)")
		}
		if !p.To.Addr().Is4() {
			p.failAt(t, "nat64 translates to a network of IPv4")
		}
	}
}

func (p *natParser) kindName() string {
	for _, k := range natKinds {
		if k.kind == p.Kind {
			return k.name
		}
	}
	return ""
}

// srcPrefix is the length of the first network, and its family; -1: it is no prefix.
func (p *natParser) srcPrefix() (int, Family) {
	if p.Src.Kind != NetAddr {
		return 0, p.fixed
	}
	n, ok := ones(p.Src.Mask)
	if !ok {
		n = -1
	}
	return n, familyOf(p.Src.Addr)
}

// span reads "A-B".
func (p *natParser) span() {
	t := p.word("a range of addresses")
	a, b, two := strings.Cut(t.text, "-")
	if !two {
		p.failAt(t, "%q where a range, A-B, is expected", t.text)
	}
	from, ok := literal(a, false)
	end, ok2 := literal(b, false)
	switch {
	case !ok || !ok2 || from.Zone() != "" || end.Zone() != "":
		p.failAt(t, "%q is no range of addresses", t.text)
	case from.Is4() != end.Is4():
		p.failAt(t, "a range from %s to %s", familyOf(from), familyOf(end))
	case end.Less(from):
		p.failAt(t, "the range ends, at %s, before it begins, at %s", end, from)
	}
	p.is(familyOf(from), t)
	p.To, p.ToEnd = netip.PrefixFrom(from, from.BitLen()), end
}

// targets reads "ADDR[,ADDR…] [port Q[-Q2]]".
func (p *natParser) targets() {
	const most = 64
	for {
		t := p.at()
		x := p.prefix()
		if x.Bits() != x.Addr().BitLen() {
			p.failAt(t, "a network where an address is expected: rdr leads to hosts")
		}
		if len(p.Targets) == most {
			p.failAt(t, "more than %d addresses", most)
		}
		p.Targets = append(p.Targets, x.Addr())
		if !p.accept(",") {
			break
		}
	}
	t := p.at()
	if !p.accept("port") {
		return
	}
	fixed := p.accept("=")
	lo, hi := p.portPair()
	asked := p.Ports[1] - p.Ports[0]
	switch {
	case fixed && (hi != 0 || asked != 0):
		p.failAt(t, `"port =" of more than one port: port %d is where a range begins`, lo)
	case hi != 0 && hi-lo != asked:
		p.failAt(t, "%d ports for %d", int(hi-lo)+1, int(asked)+1)
	case hi == lo:
		hi = 0
	case hi == 0 && int(lo)+int(asked) > 65535:
		p.failAt(t, "%d ports from %d on end behind 65535", int(asked)+1, lo)
	}
	p.TPorts = [2]uint16{lo, hi}
}

// natOptions are what may stand behind the addresses.
var natOptions = []string{"proxy", "portmap", "icmpidmap", "ports", "mssclamp", "frag", "age", "sticky", "sequential", "purge", "tag", "round-robin", "proto", "tcp", "udp", "tcp/udp"}

func (p *natParser) tail() {
	for {
		t := p.at()
		if t.kind != kindWord {
			return
		}
		p.next()
		flag := (*bool)(nil)
		only := []NATKind(nil)
		switch t.text {
		case "portmap", "icmpidmap":
			only = []NATKind{Map, NAT64}
		case "ports":
			only = []NATKind{MapBlock}
		case "proxy":
			only = []NATKind{Map, Rdr}
		case "round-robin":
			flag, only = &p.RoundRobin, []NATKind{Rdr}
		case "sticky":
			flag, only = &p.Sticky, []NATKind{Rdr, Map}
		case "sequential":
			flag, only = &p.Sequential, []NATKind{Map, NAT64}
		case "frag":
			flag = &p.Frag
		case "purge":
			flag = &p.Purge
		case "mssclamp", "age", "tag":
		default:
			p.i--
			p.natProto(t)
			continue
		}
		p.once(t)
		if only != nil && !p.oneOf(only) {
			p.failAt(t, "%s, of a rule that is %s", t.text, p.kindName())
		}
		if p.Kind == NPT6 && t.text != "purge" && t.text != "tag" {
			p.failAt(t, "%s, of a rule that is nptv6: it keeps no state", t.text)
		}
		if flag != nil {
			*flag = true
			continue
		}
		p.option(t)
	}
}

func (p *natParser) oneOf(kinds []NATKind) bool {
	for _, k := range kinds {
		if k == p.Kind {
			return true
		}
	}
	return false
}

func (p *natParser) option(t token) {
	switch t.text {
	case "portmap":
		p.PortMap = p.portMap(t)
	case "icmpidmap":
		p.ICMPIDs = p.portMap(t)
	case "ports":
		if !p.accept("auto") {
			p.BlockPorts = p.num("how many ports", 1, 64512)
		}
	case "mssclamp":
		p.MSSClamp = p.num("a segment size", 1, 65535)
	case "age":
		p.Age = p.age()
	case "tag":
		g := p.word("a tag")
		if len(g.text) > 15 || !isGroup(g.text) {
			p.failAt(g, "%q is no tag: up to 15 letters, digits, \"_\", \".\" and \"-\"", g.text)
		}
		p.Tag = g.text
	case "proxy":
		p.proxy()
	}
}

// natProto reads a protocol, bare or behind "proto".
func (p *natParser) natProto(t token) {
	behind := p.accept("proto")
	_, known := protocols.number(p.at().text)
	if !behind && !known && t.text != "tcp/udp" && t.text != "tcp-udp" {
		if _, isNum := number(t.text); !isNum {
			p.unknown(t, "an option", natOptions...)
		}
	}
	p.once(token{text: "proto", line: t.line, col: t.col})
	if p.Kind != Map && p.Kind != Rdr {
		p.failAt(t, "a protocol, of a rule that is %s", p.kindName())
	}
	if p.Proto = p.proto(); p.Proto == 0 {
		p.Proto = AnyProto // "ip" is every protocol
	}
}

// portMap reads "PROTO LO:HI" or "PROTO auto".
func (p *natParser) portMap(key token) *PortMap {
	t := p.at()
	m := &PortMap{Proto: p.proto()}
	icmp := m.Proto == protoICMP || m.Proto == protoICMP6
	switch {
	case key.text == "portmap" && !hasPorts(m.Proto):
		p.failAt(t, "portmap of %s: tcp, udp or tcp/udp", t.text)
	case key.text == "icmpidmap" && !icmp:
		p.failAt(t, "icmpidmap of %s: icmp or ipv6-icmp", t.text)
	case m.Proto == protoICMP:
		p.is(Inet, t)
	case m.Proto == protoICMP6:
		p.is(Inet6, t)
	}
	if p.accept("auto") {
		m.Auto = true
		return m
	}
	r := p.at()
	lo, hi, ranged := p.portOrRange()
	if !ranged {
		p.failAt(r, `%q where a range, LO:HI, or "auto" is expected`, r.text)
	}
	if lo == 0 && !icmp {
		p.failAt(r, "port 0 is nobody's: a range from 1 on")
	}
	m.Lo, m.Hi = lo, hi
	return m
}

// proxy reads "port P NAME/PROTO" of map, "NAME" of rdr.
func (p *natParser) proxy() {
	x := &Proxy{}
	p.Proxy = x
	if p.Kind == Map {
		p.expect("port")
		x.Port = p.port(p.word("a port"))
	}
	t := p.word("a proxy")
	name, proto, both := strings.Cut(t.text, "/")
	if both {
		at := t
		at.text = proto
		x.Proto = p.named(at, protocols, "protocol", 255)
	}
	x.Name = name
	switch {
	case name != "ftp":
		p.failAt(t, "no proxy is called %q; there is ftp", name)
	case p.Kind == Map && !both:
		p.failAt(t, "a proxy without its protocol: %s/tcp", name)
	case both && x.Proto != protoTCP:
		p.failAt(t, "ftp speaks tcp")
	}
}

// judge settles what is not said, and fails at what does not fit.
func (p *natParser) judge() {
	start := p.toks[0]
	if p.Kind == Rdr {
		ports := p.Ports != [2]uint16{} || p.TPorts != [2]uint16{}
		if ports && !p.seen["proto"] {
			p.Proto = protoTCP
		}
		if ports && !hasPorts(p.Proto) || p.Src.Port.Op != PortAny && !hasPorts(p.Proto) {
			p.failAt(start, "ports of a rule that is not about TCP or UDP: tcp, udp or tcp/udp")
		}
		if p.Proxy != nil {
			if p.Proto != protoTCP {
				p.failAt(start, "ftp speaks tcp")
			}
			p.Proxy.Port, p.Proxy.Proto = p.Ports[0], protoTCP
		}
		return
	}
	if p.portsAt.text != "" && !hasPorts(p.Proto) && p.PortMap == nil && p.Proxy == nil {
		p.failAt(p.portsAt, "ports of a rule that is not about TCP or UDP: tcp, udp or tcp/udp at its end")
	}
	if p.PortMap != nil && p.seen["proto"] {
		p.failAt(start, "a protocol beside that of portmap")
	}
	if p.Sequential && p.PortMap == nil && p.ICMPIDs == nil {
		p.failAt(start, "sequential without portmap")
	}
}
