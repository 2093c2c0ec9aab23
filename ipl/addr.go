package ipl

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// isInterface reports a word of an interface's form: a letter, and a number at the end.
func isInterface(s string) bool {
	if s == "" || len(s) > 15 || !nameByte(s[0], false) || s[len(s)-1] < '0' || s[len(s)-1] > '9' {
		return false
	}
	return isIfName(s)
}

// isIfName reports what may be an interface's name where nothing else may stand.
func isIfName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameByte(s[i], i > 0) && (i == 0 || s[i] != '.' && s[i] != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 15
}

func (p *parser) ifName() string {
	t := p.word("an interface")
	if !isIfName(t.text) {
		p.failAt(t, "%q is no name of an interface", t.text)
	}
	return t.text
}

func familyOf(a netip.Addr) Family {
	switch {
	case a.Is4():
		return Inet
	case a.Is6():
		return Inet6
	}
	return AnyFamily
}

func (f Family) String() string {
	switch f {
	case Inet:
		return "IPv4"
	case Inet6:
		return "IPv6"
	}
	return "either family"
}

// literal reads an address; short: also of less than four numbers, as before "/".
func literal(s string, short bool) (netip.Addr, bool) {
	if short && !strings.Contains(s, ":") {
		for strings.Count(s, ".") < 3 {
			s += ".0"
		}
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil && (a.Zone() == "" || isIfName(a.Zone()) && a.Is6() && !a.Is4In6())
}

// maskOf is the mask of n ones for addresses like a.
func maskOf(a netip.Addr, n int) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = ^byte(0xff >> min(8, max(0, n-8*i)))
	}
	if a.Is4() {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

// ones is how many ones a mask begins with, if it has no others.
func ones(mask netip.Addr) (n int, ok bool) {
	for _, b := range mask.AsSlice() {
		n += bits.OnesCount8(b)
	}
	return n, maskOf(mask, n) == mask
}

func masked(a, mask netip.Addr) netip.Addr {
	x, m := a.AsSlice(), mask.AsSlice()
	for i := range x {
		x[i] &= m[i]
	}
	out, _ := netip.AddrFromSlice(x)
	return out.WithZone(a.Zone())
}

// mask reads what stands behind "/" or "mask" for an address like a.
func (p *parser) mask(t token, s string, a netip.Addr) netip.Addr {
	if m, ok := literal(s, false); ok {
		if m.Is4() != a.Is4() || m.Zone() != "" {
			p.failAt(t, "mask %s for an address of %s", s, familyOf(a))
		}
		return m
	}
	if a.Is4() && strings.HasPrefix(s, "0x") {
		n := uint32(p.numOf(t, s, "a mask", 0, 1<<32-1))
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		p.failAt(t, "%q is no mask: a number of bits, or an address", s)
	}
	if n > uint64(a.BitLen()) {
		p.failAt(t, "a mask of %d bits; %s has %d", n, familyOf(a), a.BitLen())
	}
	return maskOf(a, int(n))
}

// address is an endpoint with what its text says of the family.
type address struct {
	Endpoint
	family Family
	named  bool // one of several addresses of a name
	at     token
}

// network is address a of mask m; all of a family is "any" of it.
func network(t token, a, m netip.Addr) address {
	x := address{at: t, family: familyOf(a)}
	if n, ok := ones(m); ok && n == 0 {
		return x
	}
	x.Kind, x.Addr, x.Mask = NetAddr, masked(a, m), m
	return x
}

var ifParts = map[string]string{
	"network": "network", "net": "network", "netmasked": "netmasked", "peer": "peer", "broadcast": "broadcast", "bcast": "broadcast",
}

// addrs reads one address without "!"; a host's name may be several.
func (p *parser) addrs() []address {
	t := p.word("an address")
	if t.text == "any" {
		return []address{{at: t}}
	}
	base, rest, slash := strings.Cut(t.text, "/")
	switch base {
	case "pool", "hash":
		if rest == "" {
			p.failAt(t, "%s without the name of a pool: %s/NAME", base, base)
		}
		p.poolName(t, rest)
		kind := PoolAddr
		if base == "hash" {
			kind = HashAddr
		}
		return []address{{at: t, Endpoint: Endpoint{Kind: kind, Name: rest}}}
	}
	as := []netip.Addr{}
	if a, ok := literal(base, slash); ok {
		as = append(as, a)
	} else if isInterface(base) {
		part := ""
		if slash && rest != "32" && rest != "128" {
			if part, ok = ifParts[rest]; !ok {
				p.failAt(t, "%s has no /%s%s", base, rest, near(rest, keys(ifParts)))
			}
		}
		return []address{{at: t, Endpoint: Endpoint{Kind: IfAddr, Name: base, Part: part}}}
	} else {
		as = p.resolve(t, base)
	}
	mask := rest
	mt := t
	if !slash && (p.at().is("mask") || p.at().is("netmask")) {
		p.next()
		mt = p.word("a mask")
		mask, slash = mt.text, true
	}
	out := make([]address, len(as))
	for i, a := range as {
		m := maskOf(a, a.BitLen())
		if slash {
			m = p.mask(mt, mask, a)
		}
		out[i] = network(t, a, m)
		out[i].named = len(as) > 1
	}
	return out
}

func (p *parser) resolve(t token, name string) []netip.Addr {
	if p.o.Resolve == nil || name == "" || name[0] == '-' || strings.ContainsAny(name, ":%*+") {
		p.failAt(t, "%q is neither an address nor an interface%s", name, near(name, []string{"any", "pool", "hash", "all"}))
	}
	as, err := p.o.Resolve(name)
	if err != nil {
		p.failAt(t, "%q is neither an address nor an interface, and as a host: %v", name, err)
	}
	out := []netip.Addr{}
	for _, a := range as {
		if a.IsValid() && len(out) < 64 {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	if len(out) == 0 {
		p.failAt(t, "host %q has no address", name)
	}
	return out
}

func (p *parser) poolName(t token, s string) {
	for i := 0; i < len(s); i++ {
		if !nameByte(s[i], true) && s[i] != '-' && s[i] != '.' {
			p.failAt(t, "%q is no name of a pool: letters, digits, \"_\", \".\" and \"-\"", s)
		}
	}
	if s == "" || len(s) > 32 {
		p.failAt(t, "a pool's name has from 1 to 32 octets")
	}
}

// side is one side of "from A to B", which lists may make several of.
type side struct {
	addrs []address
	ports []Port
	at    token // of the ports
}

// side reads "[!]ADDR [port …]" or lists of them.
func (p *parser) side() (s side) {
	not := p.at().is("!")
	nt := p.at()
	if not {
		p.next()
	}
	several := p.list(func() {
		inner := p.at()
		if p.accept("!") {
			p.failAt(inner, `"!" inside of a list: each element is a rule of its own, and together they would let everything through`)
		}
		s.addrs = append(s.addrs, p.addrs()...)
		p.bound(len(s.addrs))
	})
	if not {
		if several || len(s.addrs) > 1 {
			p.failAt(nt, `"!" before several addresses: each is a rule of its own, and together they would let everything through; a pool can be denied`)
		}
		if a := &s.addrs[0]; a.Kind == AnyAddr {
			p.failAt(nt, `"!any" is about no packet`)
		}
		s.addrs[0].Not = true
	}
	s.ports, s.at = []Port{{}}, p.at()
	if p.accept("port") {
		s.ports = p.ports()
	}
	return s
}

func (p *parser) bound(n int) {
	if n > maxStatement {
		p.failAt(p.toks[0], "lists make this more than %d rules", maxStatement)
	}
}

var portOps = map[string]PortOp{
	"=": PortEq, "eq": PortEq, "!=": PortNe, "ne": PortNe, "<": PortLt, "lt": PortLt, ">": PortGt, "gt": PortGt, "<=": PortLe, "le": PortLe, ">=": PortGe, "ge": PortGe,
}

// ports reads what follows "port".
func (p *parser) ports() (out []Port) {
	t := p.at()
	if op, ok := portOps[t.text]; ok && t.kind != kindString {
		p.next()
		lt := p.at()
		several := p.list(func() {
			lo, hi, ranged := p.portOrRange()
			switch {
			case ranged && op == PortEq:
				out = append(out, Port{PortRange, lo, hi})
			case ranged:
				p.failAt(lt, "a range behind %q", t.text)
			default:
				out = append(out, Port{Op: op, Lo: lo})
			}
			p.bound(len(out))
		})
		if several && op != PortEq {
			p.failAt(lt, `a list behind %q: each element is a rule of its own; only "=" has lists`, t.text)
		}
		return out
	}
	lo, hi, ranged := p.portOrRange()
	if ranged {
		return []Port{{PortRange, lo, hi}}
	}
	op := p.at()
	c := Port{Lo: lo}
	switch {
	case p.accept("<>"):
		c.Op = PortOutside
	case p.accept("><"):
		c.Op = PortInside
	default:
		p.failAt(t, "port %s without a comparison: port = %s", t.text, t.text)
	}
	c.Hi = p.port(p.word("a port"))
	if c.Hi < c.Lo || c.Op == PortInside && c.Hi-c.Lo < 2 {
		p.failAt(op, "no port lies between %d and %d", c.Lo, c.Hi)
	}
	return []Port{c}
}

// portOrRange reads P, or LO:HI in one word or in three.
func (p *parser) portOrRange() (lo, hi uint16, ranged bool) {
	t := p.word("a port")
	a, b, ranged := strings.Cut(t.text, ":")
	if !ranged && strings.HasPrefix(p.at().text, ":") && p.at().kind == kindWord {
		t2 := p.next()
		b, ranged = t2.text[1:], true
	}
	if ranged && b == "" {
		b = p.word("a port").text
	}
	at := t
	at.text = a
	lo = p.port(at)
	if !ranged {
		return lo, 0, false
	}
	at.text = b
	if hi = p.port(at); hi < lo {
		p.failAt(t, "the range ends, at %d, before it begins, at %d", hi, lo)
	}
	return lo, hi, true
}

// port is a token as a number or a service of the rule's protocol.
func (p *parser) port(t token) uint16 {
	if t.text != "" && '0' <= t.text[0] && t.text[0] <= '9' {
		return uint16(p.numOf(t, t.text, "a port", 0, 65535))
	}
	if p.o.Service != nil && t.text != "" {
		of := p.of
		if of == nil {
			of = []string{"tcp", "udp"}
		}
		for _, proto := range of {
			if n, ok := p.o.Service(t.text, proto); ok {
				return n
			}
		}
	}
	if len(p.of) == 1 {
		p.failAt(t, "no service of %s is called %q", p.of[0], t.text)
	}
	p.failAt(t, "no service is called %q", t.text)
	return 0
}

func (c Port) String() string {
	op := map[PortOp]string{PortEq: "=", PortNe: "!=", PortLt: "<", PortGt: ">", PortLe: "<=", PortGe: ">="}
	switch c.Op {
	case PortAny:
		return ""
	case PortOutside:
		return fmt.Sprintf("port %d <> %d", c.Lo, c.Hi)
	case PortInside:
		return fmt.Sprintf("port %d >< %d", c.Lo, c.Hi)
	case PortRange:
		return fmt.Sprintf("port %d:%d", c.Lo, c.Hi)
	}
	return fmt.Sprintf("port %s %d", op[c.Op], c.Lo)
}

// text is an endpoint of a rule of family f.
func (e Endpoint) text(f Family) string {
	s := ""
	if e.Not {
		s = "!"
	}
	switch e.Kind {
	case AnyAddr:
		s += "any"
	case PoolAddr:
		s += "pool/" + e.Name
	case HashAddr:
		s += "hash/" + e.Name
	case NetAddr:
		if n, ok := ones(e.Mask); ok {
			s += e.Addr.String() + "/" + strconv.Itoa(n)
		} else {
			s += e.Addr.String() + "/" + e.Mask.String()
		}
	case IfAddr:
		switch {
		case e.Part != "":
			s += e.Name + "/" + e.Part
		case f == Inet6:
			s += e.Name + "/128"
		default:
			s += e.Name + "/32"
		}
	}
	if e.Port.Op != PortAny {
		s += " " + e.Port.String()
	}
	return s
}
