package capture

import (
	"net/netip"
	"strings"
)

// ICMPv6 types (RFC 4443, RFC 4861, RFC 2710, RFC 3810, RFC 4620).
const (
	icmp6Unreach      = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6ParamProblem = 4
	icmp6Echo         = 128
	icmp6EchoReply    = 129
	icmp6Query        = 130
	icmp6Report       = 131
	icmp6Done         = 132
	icmp6RS           = 133
	icmp6RA           = 134
	icmp6NS           = 135
	icmp6NA           = 136
	icmp6Redirect     = 137
	icmp6NIQuery      = 139
	icmp6NIReply      = 140
	icmp6Report2      = 143
)

var icmp6Types = map[byte]string{icmp6Unreach: "destination unreachable", icmp6TooBig: "packet too big", icmp6TimeExceeded: "time exceeded",
	icmp6ParamProblem: "parameter problem", icmp6Echo: "echo request", icmp6EchoReply: "echo reply", icmp6Query: "multicast listener query",
	icmp6Report: "multicast listener report", icmp6Done: "multicast listener done", icmp6RS: "router solicitation",
	icmp6RA: "router advertisement", icmp6NS: "neighbor solicitation", icmp6NA: "neighbor advertisement", icmp6Redirect: "redirect",
	138: "router renumbering", icmp6NIQuery: "node information query", icmp6NIReply: "node information reply",
	141: "inverse neighbor solicitation", 142: "inverse neighbor advertisement", icmp6Report2: "multicast listener report v2"}

var icmp6Unreachable = [...]string{"unreachable route", "unreachable prohibited", "beyond scope", "unreachable address", "unreachable port",
	"source address failed policy", "reject route to destination"}

// icmp6 decodes ICMPv6, and the packet that an error quotes. With -v a line
// follows for each option of neighbour discovery.
func (w *Printer) icmp6(src, dst netip.Addr, b []byte, size, depth int, frag bool) {
	w.f("ICMP6, ")
	if len(b) < 8 {
		w.cut("icmp6")
		return
	}
	t := b[0]
	if name := icmp6Types[t]; name != "" {
		w.f("%s", name)
	} else {
		w.f("type-#%d, code %d", t, b[1])
	}
	target := func() string {
		if len(b) < 24 {
			return "[|icmp6]"
		}
		return w.name(addr(b[8:24]))
	}
	quoted := b[8:]
	switch t {
	case icmp6Unreach:
		w.unreach6(b[1], quoted)
	case icmp6TooBig:
		w.f(", mtu %d", be32(b[4:]))
	case icmp6TimeExceeded:
		switch {
		case b[1] == 1:
			w.f(" (reassembly)")
		case b[1] > 1:
			w.f(", unknown code (%d)", b[1])
		case len(quoted) >= 40:
			w.f(" in-transit for %s", w.name(addr(quoted[24:40])))
		}
	case icmp6ParamProblem:
		what := []string{"erroneous", "next header", "option", "incomplete header chain"} // RFC 7112 for the last
		if int(b[1]) < len(what) {
			w.f(", %s - octet %d", what[b[1]], be32(b[4:]))
		} else {
			w.f(", code-#%d", b[1])
		}
	case icmp6Echo, icmp6EchoReply:
		w.f(", id %d, seq %d", be16(b[4:]), be16(b[6:]))
	case icmp6Query:
		if size >= 28 {
			w.mldQuery2(b)
		} else {
			w.f(", max resp delay %d, addr %s", be16(b[4:]), target())
		}
	case icmp6Report, icmp6Done:
		w.f(", addr %s", target())
	case icmp6NS:
		w.f(", who has %s", target())
	case icmp6NA:
		w.f(", tgt is %s", target())
	case icmp6Redirect:
		if len(b) < 40 {
			w.f(", [|icmp6]")
			break
		}
		w.f(", %s to %s", w.name(addr(b[24:40])), target())
	case icmp6NIQuery, icmp6NIReply:
		w.nodeinfo(b)
	case icmp6Report2:
		w.mldReport2(b)
	}
	w.f(", length %d", size)
	if w.Verbose && !frag && len(b) >= size && size > 0 {
		switch start := pseudo(src, dst, 58, size); {
		case ones(b[:size], start) == 0xffff:
			w.f(" [icmp6 sum ok]")
		case be16(b[2:]) == ones(nil, start):
			w.f(" [icmp6 sum partial]")
		default:
			w.f(" [bad icmp6 cksum 0x%04x!]", be16(b[2:]))
		}
	}
	switch {
	case t < 128 && t != icmp6Unreach || t == icmp6Unreach && w.Verbose:
		if depth < maxQuote && len(quoted) > 0 {
			w.f(", quoting {")
			w.ipv6(quoted, size-8, depth+1)
			w.f("}")
		}
	case w.Verbose && depth == 0:
		w.neighbour(b)
	}
}

// unreach6 says what of the quoted packet could not be reached.
func (w *Printer) unreach6(code byte, quoted []byte) {
	if int(code) >= len(icmp6Unreachable) {
		w.f(", unknown unreach code (%d)", code)
		return
	}
	w.f(", %s", icmp6Unreachable[code])
	if len(quoted) < 40 {
		return
	}
	dst := w.name(addr(quoted[24:40]))
	switch code {
	case 2:
		w.f(" %s, source address %s", dst, w.name(addr(quoted[8:24])))
	case 4:
		proto, port, ok := ports6(quoted)
		if !ok {
			w.f(", %s", dst)
			break
		}
		w.f(", %s %s port %d", dst, proto, port)
	default:
		w.f(" %s", dst)
	}
}

// ports6 is the destination port of a packet of TCP or UDP, past extension
// headers.
func ports6(b []byte) (proto string, port uint16, ok bool) {
	next := b[6]
	b = b[40:]
	for range maxHeaders {
		n := 0
		switch next {
		case 6, 17:
			if len(b) < 4 {
				return "", 0, false
			}
			return map[byte]string{6: "tcp", 17: "udp"}[next], be16(b[2:]), true
		case 0, 43, 60:
			if len(b) >= 2 {
				n = int(b[1])*8 + 8
			}
		case 44:
			n = 8
		}
		if n == 0 || n > len(b) {
			return "", 0, false
		}
		next, b = b[0], b[n:]
	}
	return "", 0, false
}

// mldQuery2 decodes the query of RFC 3810 §5.1.
func (w *Printer) mldQuery2(b []byte) {
	w.f(" v2")
	if len(b) < 28 {
		w.f(" [|icmp6]")
		return
	}
	delay := uint32(be16(b[4:]))
	if delay >= 0x8000 { // §5.1.3: a floating-point number
		delay = (delay&0xfff | 0x1000) << (delay>>12&7 + 3)
	}
	w.f(" [max resp delay=%d] [gaddr %s", delay, w.name(addr(b[8:24])))
	if w.Verbose {
		if b[24]&8 != 0 {
			w.f(" sflag")
		}
		if b[24]&7 != 0 {
			w.f(" robustness=%d", b[24]&7)
		}
		qqi := uint32(b[25])
		if qqi >= 0x80 { // §5.1.9
			qqi = (qqi&0xf | 0x10) << (qqi>>4&7 + 3)
		}
		w.f(" qqi=%d", qqi)
	}
	w.sources(int(be16(b[26:])), b[28:])
	w.f("]")
}

// sources are the sources of a group.
func (w *Printer) sources(n int, b []byte) {
	if n == 0 {
		return
	}
	if !w.Verbose {
		w.f(", %d source(s)", n)
		return
	}
	w.f(" {")
	for i := range n {
		if i > 0 {
			w.f(" ")
		}
		if len(b) < 16 {
			w.f("[|icmp6]")
			break
		}
		w.f("%s", w.name(addr(b[:16])))
		b = b[16:]
	}
	w.f("}")
}

// mldReport2 decodes the records of RFC 3810 §5.2.
func (w *Printer) mldReport2(b []byte) {
	n := int(be16(b[6:]))
	w.f(", %d group record(s)", n)
	b = b[8:]
	for range n {
		if len(b) < 20 {
			w.cut("icmp6")
			return
		}
		typ, srcs := int(b[0]), int(be16(b[2:]))
		if typ > 0 && typ < len(recordTypes) {
			w.f(" [gaddr %s %s", w.name(addr(b[4:20])), recordTypes[typ])
		} else {
			w.f(" [gaddr %s type-%d", w.name(addr(b[4:20])), typ)
		}
		size := 20 + srcs*16 + int(b[1])*4
		if srcs == 0 {
			w.f(", 0 source(s)")
		} else {
			w.sources(srcs, b[20:])
		}
		w.f("]")
		b = b[min(size, len(b)):]
	}
}

// Query types of RFC 4620 §5.
const (
	niNoop  = 0
	niTypes = 1
	niName  = 2
	niAddrs = 3
	niIPv4  = 4
)

var niNames = [...]string{"noop", "supported qtypes", "DNS name", "node addresses", "IPv4 addresses"}

// nodeinfo decodes node information (RFC 4620 §4).
func (w *Printer) nodeinfo(b []byte) {
	if len(b) < 16 {
		w.f(" [|icmp6]")
		return
	}
	qtype, code, data := int(be16(b[4:])), b[1], b[16:]
	what := "unknown"
	if qtype < len(niNames) {
		what = niNames[qtype]
	}
	if b[0] == icmp6NIQuery {
		w.f(" (%s", what)
		switch {
		case code == 0 && len(data) >= 16:
			w.f(", subject=%s", w.name(addr(data[:16])))
		case code == 1 && len(data) > 0:
			w.f(", subject=%s", domains(data))
		case code == 2 && len(data) >= 4:
			w.f(", subject=%s", w.name(addr(data[:4])))
		case qtype > niTypes:
			w.f(", no subject")
		}
		w.f(")")
		return
	}
	switch code {
	case 1:
		w.f(" (refused)")
		return
	case 2:
		w.f(" (unknown)")
		return
	}
	w.f(" (%s", what)
	switch qtype {
	case niName:
		if len(data) >= 5 {
			w.f(" %s", domains(data[4:]))
		}
	case niAddrs:
		for ; len(data) >= 20; data = data[20:] {
			w.f(" %s(%d)", w.name(addr(data[4:20])), be32(data))
		}
	case niIPv4:
		for ; len(data) >= 8; data = data[8:] {
			w.f(" %s(%d)", w.name(addr(data[4:8])), be32(data))
		}
	}
	w.f(")")
}

// domains are names in the DNS's form, without compression, as far as they go.
// Octets that are no letters of names become question marks.
func domains(b []byte) string {
	var out []string
	name := ""
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 {
			if name != "" {
				out = append(out, name)
				name = ""
			}
			b = b[1:]
			continue
		}
		if n > 63 || n+1 > len(b) {
			out = append(out, name+"[|name]")
			name = ""
			break
		}
		name += strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return '?'
			}
			return r
		}, string(b[1:1+n])) + "."
		b = b[1+n:]
	}
	if name != "" { // a part of a name (RFC 4620 §6.4)
		out = append(out, strings.TrimSuffix(name, "."))
	}
	return strings.Join(out, " ")
}
