package capture

import (
	"fmt"
	"net/netip"
)

var unreachable = [...]string{"net %s unreachable", "host %s unreachable", "%s protocol unreachable", "%s port unreachable",
	"%s unreachable - need to frag", "%s unreachable - source route failed", "net %s unreachable - unknown", "host %s unreachable - unknown",
	"%s unreachable - source host isolated", "net %s unreachable - admin prohibited", "host %s unreachable - admin prohibited",
	"net %s unreachable - tos prohibited", "host %s unreachable - tos prohibited", "host %s unreachable - admin prohibited filter",
	"host %s unreachable - host precedence violation", "host %s unreachable - precedence cutoff"}

// icmp decodes ICMPv4, and the packet that an error quotes.
func (w *Printer) icmp(b []byte, size, depth int, frag bool) {
	w.f("ICMP ")
	if len(b) < 8 {
		w.f("[type %s]", octet(b, 0))
		w.cut("icmp")
		return
	}
	quoted := b[8:]
	var qdst netip.Addr
	quote := false
	switch b[0] {
	case 3, 4, 5, 11, 12:
		quote = true
		if len(quoted) >= 20 {
			qdst = addr(quoted[16:20])
		}
	}
	dst := "(unknown)"
	if qdst.IsValid() {
		dst = w.name(qdst)
	}
	switch b[0] {
	case 0, 8:
		w.f("echo %s, id %d, seq %d", map[byte]string{0: "reply", 8: "request"}[b[0]], be16(b[4:]), be16(b[6:]))
	case 3:
		w.unreach(b, quoted, dst)
	case 4:
		w.f("source quench")
	case 5:
		kind := map[byte]string{0: "net", 1: "host", 2: "tos net", 3: "tos host"}[b[1]]
		w.f("redirect %s to %s %s", dst, kind, w.name(addr(b[4:8])))
	case 9:
		w.f("router advertisement lifetime %d, %d addresses", be16(b[6:]), b[4])
	case 10:
		w.f("router solicitation")
	case 11:
		w.f("%s", map[byte]string{0: "time exceeded in-transit", 1: "ip reassembly time exceeded"}[b[1]])
		if b[1] > 1 {
			w.f("time exceeded-#%d", b[1])
		}
	case 12:
		w.f("parameter problem - octet %d", b[4])
	case 13, 14:
		w.f("time stamp %s id %d seq %d", map[byte]string{13: "query", 14: "reply"}[b[0]], be16(b[4:]), be16(b[6:]))
	case 17:
		w.f("address mask request")
	case 18:
		w.f("address mask is ")
		if len(b) < 12 {
			w.cut("icmp")
		} else {
			w.f("0x%08x", be32(b[8:]))
		}
	default:
		w.f("type-#%d code %d", b[0], b[1])
	}
	w.f(", length %d", size)
	if w.Verbose && !frag && len(b) >= size && size > 0 && ones(b[:size], 0) != 0xffff {
		w.f(" (wrong icmp cksum %x)", be16(b[2:]))
	}
	if quote && depth < maxQuote && len(quoted) > 0 && (w.Verbose || b[0] != 3) {
		w.f(", quoting {")
		w.ipv4(quoted, size-8, depth+1)
		w.f("}")
	}
}

// unreach says what of the quoted packet could not be reached.
func (w *Printer) unreach(b, quoted []byte, dst string) {
	code := int(b[1])
	switch {
	case code == 2 && len(quoted) >= 20:
		w.f("%s protocol %d unreachable", dst, quoted[9])
	case code == 3 && len(quoted) >= 20:
		hl := int(quoted[0]&0xf) * 4
		if hl >= 20 && len(quoted) >= hl+4 && (quoted[9] == 6 || quoted[9] == 17) {
			w.f("%s %s port %d unreachable", dst, map[byte]string{6: "tcp", 17: "udp"}[quoted[9]], be16(quoted[hl+2:]))
		} else {
			w.f("%s protocol %d port unreachable", dst, quoted[9])
		}
	case code == 4:
		w.f(unreachable[4], dst)
		if mtu := be16(b[6:]); mtu != 0 {
			w.f(" (mtu %d)", mtu)
		}
	case code < len(unreachable):
		w.f(unreachable[code], dst)
	default:
		w.f("%s unreachable - #%d", dst, code)
	}
}

func octet(b []byte, i int) string {
	if i < len(b) {
		return fmt.Sprint(b[i])
	}
	return "?"
}

func (w *Printer) igmp(b []byte, size int) {
	w.f("igmp ")
	if len(b) < 8 {
		w.cut("igmp")
		return
	}
	group := addr(b[4:8])
	switch b[0] {
	case 0x11:
		switch {
		case size >= 12:
			w.f("query v3")
		case b[1] == 0:
			w.f("query v1")
		default:
			w.f("query v2")
		}
		if b[1] != 0 && b[1] != 100 {
			w.f(" [max resp time %d]", b[1])
		}
		if !group.IsUnspecified() {
			w.f(" [gaddr %s]", w.name(group))
		}
	case 0x12:
		w.f("v1 report %s", w.name(group))
	case 0x16:
		w.f("v2 report %s", w.name(group))
	case 0x17:
		w.f("leave %s", w.name(group))
	case 0x22:
		w.igmp3(b)
	default:
		w.f("type-0x%02x", b[0])
	}
	if w.Verbose && len(b) >= size && ones(b[:size], 0) != 0xffff {
		w.f(" bad igmp cksum %x!", be16(b[2:]))
	}
}

var recordTypes = [...]string{"", "is_in", "is_ex", "to_in", "to_ex", "allow", "block"}

// igmp3 decodes the group records of RFC 3376 section 4.2.
func (w *Printer) igmp3(b []byte) {
	n := int(be16(b[6:]))
	w.f("v3 report, %d group record(s)", n)
	b = b[8:]
	for range n {
		if len(b) < 8 {
			w.cut("igmp")
			return
		}
		typ, srcs, size := int(b[0]), int(be16(b[2:])), 8+int(be16(b[2:]))*4+int(b[1])*4
		name := fmt.Sprintf("type-%d", typ)
		if typ > 0 && typ < len(recordTypes) {
			name = recordTypes[typ]
		}
		w.f(" [gaddr %s %s", w.name(addr(b[4:8])), name)
		w.f(", %d source(s)]", srcs)
		b = b[min(size, len(b)):]
	}
}
