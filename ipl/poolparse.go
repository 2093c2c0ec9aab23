package ipl

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParsePools reads pools in the language of ippool(5), in which lines mean
// nothing. The error is Errors; the pools without fault come with it.
func ParsePools(name string, text []byte, o Options) ([]Pool, error) {
	s := &scanner{name: name}
	var out []Pool
	seen := map[string]bool{}
	s.each(tables(s.lines(text)), o, func(p *parser) {
		r := poolParser{parser: p, Pool: Pool{Line: p.at().line}, seen: map[string]bool{}}
		r.pool()
		if seen[r.Name] {
			p.failAt(r.name, "pool %s is there already: names and numbers are shared by all kinds", r.Name)
		}
		seen[r.Name] = true
		out = append(out, r.Pool)
	})
	return out, s.err()
}

// tables joins lines as far as one that begins with a table; one with a line
// that could not be cut is left out.
func tables(lines [][]token) (out [][]token) {
	broken := false
	for _, l := range lines {
		n := len(out) - 1
		switch {
		case l == nil:
			if n >= 0 && !broken {
				out = out[:n]
			}
			broken = true
		case l[0].is("table") || l[0].is("group-map") || n < 0 && !broken:
			out, broken = append(out, l), false
		case !broken:
			out[n] = append(out[n], l...)
		}
	}
	return out
}

type poolParser struct {
	*parser
	Pool
	seen map[string]bool
	name token
}

var poolRoles = words("ipf nat auth count all")

func (p *poolParser) pool() {
	t := p.next()
	switch t.text {
	case "table":
		p.Kind = PoolTree
	case "group-map":
		p.Kind = PoolGroupMap
		p.direction()
	default:
		if p.at().is("=") {
			p.failAt(t, `an assignment is NAME="VALUE";`)
		}
		p.unknown(t, `"table" or "group-map"`, "table", "group-map")
	}
	for !p.at().is("{") {
		p.attribute()
	}
	switch {
	case p.Role == "":
		p.failAt(p.at(), "no role: role = ipf, nat, auth, count or all")
	case p.Name == "":
		p.failAt(p.at(), "no name: number = N or name = NAME")
	case p.Kind != PoolHash && (p.Size != 0 || p.Seed != 0):
		p.failAt(t, "size and seed are of a table of type = hash")
	}
	p.entries()
	if e := p.at(); e.kind != kindEnd && !e.is(";") {
		p.failAt(e, `%s where ";" ends the table`, e)
	}
}

func (p *poolParser) direction() {
	t := p.next()
	switch t.text {
	case "in":
	case "out":
		p.Out = true
	default:
		p.unknown(t, `"in" or "out"`, "in", "out")
	}
}

func (p *poolParser) attribute() {
	t := p.next()
	known := []string{"role", "type", "number", "name", "size", "seed"}
	if p.Kind == PoolGroupMap {
		known = []string{"role", "number", "name", "group"}
	}
	key := t.text
	if key == "number" {
		key = "name"
	}
	fits := false
	for _, k := range known {
		fits = fits || k == t.text
	}
	if !fits || t.kind != kindWord {
		p.unknown(t, `an attribute or "{"`, known...)
	}
	if p.seen[key] {
		p.failAt(t, "%s twice", t.text)
	}
	p.seen[key] = true
	p.expect("=")
	v := p.at()
	switch t.text {
	case "role":
		if v = p.word("a role"); !poolRoles[v.text] {
			p.unknown(v, "a role", keys(poolRoles)...)
		}
		p.Role = v.text
	case "type":
		switch v = p.word("a type"); v.text {
		case "tree":
		case "hash":
			p.Kind = PoolHash
		default:
			p.unknown(v, `"tree" or "hash"`, "tree", "hash")
		}
	case "number":
		p.name, p.Name = v, fmt.Sprint(p.num("a pool's number", 0, 1<<32-2))
	case "name":
		p.name = p.word("a name")
		p.poolName(p.name, p.name.text)
		p.Name = p.name.text
	case "size":
		p.Size = p.num("a size", 1, 1<<31-1)
	case "seed":
		p.Seed = p.num("a seed", 1, 1<<31-1)
	case "group":
		p.Group = p.group()
	}
}

func (p *poolParser) group() string {
	g := p.word("a group")
	if len(g.text) > 15 || !isGroup(g.text) || g.text == "0" {
		p.failAt(g, "%q is no name of a group: up to 15 letters, digits, \"_\", \".\" and \"-\"; 0 is the list itself", g.text)
	}
	return g.text
}

// entries reads "{ [!]NET[, group = G]; … }"; between networks alone "," stands too.
func (p *poolParser) entries() {
	p.expect("{")
	seen := map[netip.Prefix]bool{}
	for !p.accept("}") {
		e := PoolEntry{}
		not := p.at()
		e.Not = p.accept("!")
		if e.Not && p.Kind == PoolGroupMap {
			p.failAt(not, `"!" in a group-map: an address that chooses no group is left out`)
		}
		t := p.at()
		nets := p.nets()
		if p.Kind == PoolGroupMap && p.accept(",") {
			p.expect("group")
			p.expect("=")
			e.Group = p.group()
		}
		if p.Kind == PoolGroupMap && e.Group == "" && p.Group == "" {
			p.failAt(t, "%s without a group, in a group-map without one", t.text)
		}
		for _, n := range nets {
			if seen[n] {
				p.failAt(t, "%s twice", n)
			}
			seen[n] = true
			e.Prefix = n
			p.Entries = append(p.Entries, e)
		}
		sep := p.at()
		if !p.accept(";") && (p.Kind == PoolGroupMap || !p.accept(",")) && !sep.is("}") {
			p.failAt(sep, `%s where ";" or "}" is expected`, sep)
		}
	}
}

// nets reads one network, or the addresses of a host.
func (p *poolParser) nets() (out []netip.Prefix) {
	for _, a := range p.addrs() {
		t := a.at
		switch {
		case a.Kind == AnyAddr && a.family == AnyFamily, a.Kind != AnyAddr && a.Kind != NetAddr:
			p.failAt(t, "%q where a network is expected", t.text)
		case a.Kind == AnyAddr && a.family == Inet6:
			out = append(out, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
			continue
		case a.Kind == AnyAddr:
			out = append(out, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
			continue
		}
		n, ok := ones(a.Mask)
		if !ok || a.Addr.Zone() != "" {
			p.failAt(t, "%s is no network: its mask is of ones and then zeros, and it has no zone", t.text)
		}
		out = append(out, netip.PrefixFrom(a.Addr, n))
	}
	return out
}

// String is the pool as ippool(8) prints it, on two lines.
func (c Pool) String() string {
	var b strings.Builder
	switch {
	case c.Kind != PoolGroupMap:
		b.WriteString("table")
	case c.Out:
		b.WriteString("group-map out")
	default:
		b.WriteString("group-map in")
	}
	fmt.Fprintf(&b, " role = %s", c.Role)
	switch c.Kind {
	case PoolTree:
		b.WriteString(" type = tree")
	case PoolHash:
		b.WriteString(" type = hash")
	}
	if n, ok := number(c.Name); ok && fmt.Sprint(n) == c.Name && n < 1<<32-1 {
		b.WriteString(" number = " + c.Name)
	} else {
		b.WriteString(" name = " + c.Name)
	}
	if c.Size > 0 {
		fmt.Fprintf(&b, " size = %d", c.Size)
	}
	if c.Seed > 0 {
		fmt.Fprintf(&b, " seed = %d", c.Seed)
	}
	if c.Group != "" {
		b.WriteString(" group = " + c.Group)
	}
	b.WriteString("\n\t{")
	for _, e := range c.Entries {
		b.WriteByte(' ')
		b.WriteString(e.String())
		b.WriteByte(';')
	}
	b.WriteString(" };")
	return b.String()
}

func (e PoolEntry) String() string {
	s := e.Prefix.String()
	if e.Not {
		s = "!" + s
	}
	if e.Group != "" {
		s += ", group = " + e.Group
	}
	return s
}
