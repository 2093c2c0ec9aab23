// Package filter compiles the expressions of pcap-filter(7) to programs of
// classic BPF for Ethernet frames: host, net, port, portrange, proto with
// src, dst and a protocol before them; protocols alone; ether host, broadcast
// and multicast; less, greater; proto[offset:size] and len in arithmetic;
// and, or, not, parentheses. A VLAN's inside is not looked into.
package filter

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// MaxInstructions is the longest program made, and taken by a stack.
const MaxInstructions = 512

// DefaultSnapLen is how much a program accepts of a packet by default.
const DefaultSnapLen = 262144

// Options steer a compilation.
type Options struct {
	SnapLen int // octets that an accepted packet is cut to; 0: [DefaultSnapLen]
	// Lookup finds a host's addresses by name; nil: only numeric ones are taken.
	Lookup func(name string) ([]netip.Addr, error)
}

// Compile makes a program of an expression. The empty expression is the empty
// program, which accepts everything. Errors are *Error.
func Compile(text string, o Options) ([]bpf.RawInstruction, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if o.SnapLen <= 0 {
		o.SnapLen = DefaultSnapLen
	}
	toks, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{text: text, toks: toks, lookup: o.Lookup}
	n, err := p.expr()
	if err != nil {
		return nil, err
	}
	if !p.peek().end {
		return nil, p.errorf(p.peek(), "unexpected %v; \"and\", \"or\" or the end would be right", p.peek())
	}
	prog, err := generate(n, o.SnapLen)
	if err != nil {
		return nil, &Error{text, 1, err.Error()}
	}
	return prog, nil
}

type parser struct {
	text   string
	toks   []token
	pos    int
	depth  int
	last   *qualifiers // of the last primitive, which a bare address or port takes again
	lookup func(string) ([]netip.Addr, error)
}

// qualifiers are what stands before an address or port.
type qualifiers struct{ proto, dir, typ string }

const maxDepth = 64

func (p *parser) peek() token { return p.toks[p.pos] }

func (p *parser) peekAt(n int) token { return p.toks[min(p.pos+n, len(p.toks)-1)] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if !t.end {
		p.pos++
	}
	return t
}

func (p *parser) accept(texts ...string) (token, bool) {
	t := p.peek()
	for _, s := range texts {
		if !t.end && t.text == s {
			return p.next(), true
		}
	}
	return t, false
}

func (p *parser) errorf(t token, format string, args ...any) error {
	return &Error{p.text, t.col, fmt.Sprintf(format, args...)}
}

// expr reads terms joined by and and or, which bind alike, from the left.
func (p *parser) expr() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.errorf(p.peek(), "nested deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	n, err := p.term()
	for err == nil {
		var m node
		if _, ok := p.accept("and", "&&"); ok {
			m, err = p.term()
			n = and{n, m}
		} else if _, ok := p.accept("or", "||"); ok {
			m, err = p.term()
			n = or{n, m}
		} else {
			break
		}
	}
	return n, err
}

func (p *parser) term() (node, error) {
	negate := false
	for {
		if _, ok := p.accept("not", "!"); !ok {
			break
		}
		negate = !negate
	}
	n, err := p.primary()
	if err == nil && negate {
		n = not{n}
	}
	return n, err
}

func isProto(s string) bool {
	_, a := protocols[s]
	_, b := etherTypes[s]
	return a || b || s == "ether" || s == "link"
}

func isType(s string) bool {
	switch s {
	case "host", "net", "port", "portrange", "proto":
		return true
	}
	return false
}

func (p *parser) primary() (node, error) {
	t := p.peek()
	if p.arithmeticBegins(t) {
		return p.relation()
	}
	if t.text == "(" && !t.word {
		// Either kind of expression may begin with a parenthesis.
		pos := p.pos
		if n, err := p.relation(); err == nil {
			return n, nil
		}
		p.pos = pos
		p.next()
		n, err := p.expr()
		if err != nil {
			return nil, err
		}
		if t, ok := p.accept(")"); !ok {
			return nil, p.errorf(t, "%v where \")\" would be right", t)
		}
		return n, nil
	}
	if !t.word {
		return nil, p.errorf(t, "unexpected %v; a primitive such as \"host 10.0.0.1\" or \"udp port 53\" would be right", t)
	}
	switch t.text {
	case "less", "greater":
		p.next()
		k, err := p.num()
		cond := bpf.JumpTest(bpf.JumpLessOrEqual)
		if t.text == "greater" {
			cond = bpf.JumpGreaterOrEqual
		}
		return relation{l: length{}, r: number(k), cond: cond}, err
	case "vlan", "mpls", "pppoed", "pppoes", "geneve", "gateway", "protochain", "inbound", "outbound", "ifname", "llc":
		return nil, p.errorf(t, "%q is not supported", t.text)
	}
	if isProto(t.text) || isType(t.text) || t.text == "src" || t.text == "dst" || t.text == "broadcast" || t.text == "multicast" {
		return p.qualified()
	}
	if p.last == nil {
		return nil, p.errorf(t, "%v says not what it is; \"host %s\" or \"port %s\" would be right", t, t.text, t.text)
	}
	return p.id(*p.last)
}

// arithmeticBegins reports whether a relation begins here for sure.
func (p *parser) arithmeticBegins(t token) bool {
	if t.end {
		return false
	}
	n := p.peekAt(1)
	if !t.word {
		return t.text == "-"
	}
	if _, err := strconv.ParseUint(t.text, 0, 32); err == nil || t.text == "len" {
		switch n.text {
		case "=", "==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>":
			return !n.end
		}
		return t.text == "len"
	}
	return isProto(t.text) && n.text == "[" || constantsHas(t.text)
}

func constantsHas(s string) bool { _, ok := constants[s]; return ok }

func (p *parser) qualified() (node, error) {
	var q qualifiers
	first := p.peek()
	if isProto(first.text) {
		q.proto = p.next().text
	}
	if t, ok := p.accept("broadcast", "multicast"); ok {
		if t.text == "multicast" {
			n, err := multicast(q.proto)
			if err != nil {
				err = p.errorf(first, "%v", err)
			}
			return n, err
		}
		if q.proto != "" && q.proto != "ether" && q.proto != "link" {
			return nil, p.errorf(t, "%s broadcast needs a netmask, which is not known here; \"ether broadcast\" would be right", q.proto)
		}
		return broadcast(), nil
	}
	if t, ok := p.accept("src", "dst"); ok {
		q.dir = t.text
		if j := p.peek(); j.text == "or" || j.text == "and" || j.text == "||" || j.text == "&&" {
			if o := p.peekAt(1); (o.text == "src" || o.text == "dst") && o.text != q.dir && t.word {
				p.next()
				p.next()
				q.dir = map[bool]string{true: "src and dst"}[j.text == "and" || j.text == "&&"]
			}
		}
		q.typ = "host"
	}
	if t := p.peek(); isType(t.text) && t.word {
		q.typ = p.next().text
	} else if q.typ == "" {
		return p.alone(first)
	}
	p.last = &q
	if _, ok := p.accept("("); ok { // port (80 or 443)
		n, err := p.expr()
		if err != nil {
			return nil, err
		}
		if t, ok := p.accept(")"); !ok {
			return nil, p.errorf(t, "%v where \")\" would be right", t)
		}
		return n, nil
	}
	return p.id(q)
}

// alone is a protocol's name as a test.
func (p *parser) alone(t token) (node, error) {
	if typ, ok := etherTypes[t.text]; ok {
		return etherType(typ), nil
	}
	if pr, ok := protocols[t.text]; ok {
		return ipProto(pr.num, pr.v4, pr.v6), nil
	}
	return nil, p.errorf(p.peek(), "%v after %q where \"host\", \"src\", \"dst\", \"proto\", \"broadcast\" or \"multicast\" would be right", p.peek(), t.text)
}

// id reads an address, a port or a protocol and makes the test of it.
func (p *parser) id(q qualifiers) (node, error) {
	t := p.next()
	if !t.word {
		return nil, p.errorf(t, "%v where a %s would be right", t, q.typ)
	}
	n, err := p.idTest(q, t)
	if _, ok := err.(*Error); err != nil && !ok {
		err = p.errorf(t, "%v", err)
	}
	return n, err
}

func (p *parser) idTest(q qualifiers, t token) (node, error) {
	switch q.typ {
	case "host":
		if q.proto == "ether" || q.proto == "link" {
			m, err := parseMAC(t.text)
			if err != nil {
				return nil, err
			}
			return etherHost(q.dir, m), nil
		}
		return p.host(q, t.text)
	case "net":
		return p.network(q, t)
	case "port":
		k, err := parsePort(t.text)
		if err != nil {
			return nil, err
		}
		return ports(q.proto, q.dir, k, k)
	case "portrange":
		lo, err := parsePort(t.text)
		if err != nil {
			return nil, err
		}
		hi := lo
		if _, ok := p.accept("-"); ok {
			if hi, err = parsePort(p.next().text); err != nil {
				return nil, err
			}
		}
		return ports(q.proto, q.dir, min(lo, hi), max(lo, hi))
	}
	return protoTest(q, t.text)
}

func protoTest(q qualifiers, s string) (node, error) {
	if q.dir != "" {
		return nil, fmt.Errorf("a protocol has no source or destination")
	}
	num, err := strconv.ParseUint(s, 0, 16)
	ether := q.proto == "ether" || q.proto == "link"
	if err != nil {
		if typ, ok := etherTypes[s]; ok && ether {
			return etherType(typ), nil
		}
		pr, ok := protocols[s]
		if !ok || ether {
			return nil, fmt.Errorf("unknown protocol %q; its number would be right", s)
		}
		num = uint64(pr.num)
	}
	switch {
	case ether && num <= 1500:
		return nil, fmt.Errorf("%d is a length, not an Ethernet type; types begin at 1536", num)
	case ether:
		return etherType(uint32(num)), nil
	case num > 255:
		return nil, fmt.Errorf("%d is no protocol of IP; 0 to 255 would be right", num)
	case q.proto == "":
		return ipProto(uint32(num), true, true), nil
	case q.proto == "ip":
		return ip4Proto(uint32(num)), nil
	case q.proto == "ip6":
		return ip6Proto(uint32(num)), nil
	}
	return nil, fmt.Errorf("%s proto means nothing; ip, ip6 and ether proto do", q.proto)
}

var fullMask = []byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}

func (p *parser) host(q qualifiers, s string) (node, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.WithZone("") // packets do not tell their link
		return network(q.proto, q.dir, a, fullMask[:a.BitLen()/8])
	}
	if _, err := parseMAC(s); err == nil {
		return nil, fmt.Errorf("%q is a link address; \"ether host %s\" would be right", s, s)
	}
	if strings.Trim(s, "0123456789.") == "" || strings.Contains(s, ":") {
		return nil, fmt.Errorf("%q is not an address", s)
	}
	if p.lookup == nil {
		return nil, fmt.Errorf("host %q is not known by address here", s)
	}
	as, err := p.lookup(s)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", s, err)
	}
	var n node
	for _, a := range as {
		a = a.Unmap().WithZone("")
		m, err := network(q.proto, q.dir, a, fullMask[:a.BitLen()/8])
		if err != nil {
			continue // an address of a family that the protocol has not
		}
		n = some(n, m)
	}
	if n == nil {
		return nil, fmt.Errorf("host %q has no address of the family asked for", s)
	}
	return n, nil
}

// network reads 10, 10.1, 10.0.0.0/8, "10.0.0.0 mask 255.0.0.0", 2001:db8::/32.
func (p *parser) network(q qualifiers, t token) (node, error) {
	s := t.text
	bits := -1
	if strings.Trim(s, "0123456789.") == "" { // octets left out are zero, and the mask covers the others
		parts := strings.Split(s, ".")
		if len(parts) < 4 {
			bits = 8 * len(parts)
			s += strings.Repeat(".0", 4-len(parts))
		}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a network; 10.1.0.0/16 would be one", t.text)
	}
	if bits < 0 {
		bits = a.BitLen()
	}
	mask := make([]byte, a.BitLen()/8)
	if _, ok := p.accept("/"); ok {
		l := p.next()
		if bits, err = strconv.Atoi(l.text); err != nil || bits < 0 || bits > a.BitLen() {
			return nil, p.errorf(l, "%v is no prefix length; 0 to %d would be right", l, a.BitLen())
		}
	} else if _, ok := p.accept("mask"); ok {
		l := p.next()
		m, err := netip.ParseAddr(l.text)
		if err != nil || !m.Is4() || !a.Is4() {
			return nil, p.errorf(l, "%v is no mask of IPv4", l)
		}
		copy(mask, m.AsSlice())
		bits = 0
	}
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	for i, b := range a.AsSlice() {
		if b&^mask[i] != 0 {
			return nil, fmt.Errorf("the address has bits outside the mask; %s would be the network", netText(a, mask))
		}
	}
	if q.proto == "ether" || q.proto == "link" {
		return nil, fmt.Errorf("%s has no networks", q.proto)
	}
	return network(q.proto, q.dir, a, mask)
}

func netText(a netip.Addr, mask []byte) netip.Addr {
	b := a.AsSlice()
	for i := range b {
		b[i] &= mask[i]
	}
	a, _ = netip.AddrFromSlice(b)
	return a
}

func parsePort(s string) (uint32, error) {
	if k, ok := services[s]; ok {
		return k, nil
	}
	k, err := strconv.ParseUint(s, 0, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no port; 0 to 65535 or a service's name would be right", s)
	}
	return uint32(k), nil
}

func parseMAC(s string) (m [6]byte, err error) {
	parts := strings.Split(s, ":")
	bad := fmt.Errorf("%q is no link address; 02:00:00:00:00:01 would be one", s)
	if len(parts) != 6 {
		return m, bad
	}
	for i, x := range parts {
		if len(x) == 1 {
			x = "0" + x
		}
		if n, err := hex.Decode(m[i:i+1], []byte(x[:min(len(x), 2)])); err != nil || n != 1 || len(x) != 2 {
			return m, bad
		}
	}
	return m, nil
}

func (p *parser) num() (uint32, error) {
	t := p.next()
	if k, ok := constants[t.text]; ok {
		return k, nil
	}
	k, err := strconv.ParseUint(t.text, 0, 32)
	if err != nil || !t.word {
		return 0, p.errorf(t, "%v where a number would be right", t)
	}
	return uint32(k), nil
}
