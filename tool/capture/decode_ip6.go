package capture

import (
	"fmt"
	"strings"
)

// maxHeaders bounds the extension headers that are stepped over.
const maxHeaders = 8

// ipv6 steps over the extension headers.
func (w *Printer) ipv6(b []byte, wire, depth int) {
	if len(b) < 40 {
		w.cut("ip6")
		return
	}
	if b[0]>>4 != 6 {
		w.f("[version %d], length %d", b[0]>>4, wire)
		return
	}
	src, dst := addr(b[8:24]), addr(b[24:40])
	next, payload := b[6], int(be16(b[4:]))
	if w.Verbose && depth == 0 {
		w.f("(class 0x%02x, flowlabel 0x%05x, hlim %d, next-header %s (%d) payload length: %d) ", be32(b)>>20&0xff, be32(b)&0xfffff, b[7], protoName(next), next, payload)
	}
	if payload == 0 && next != 0 && next != 59 { // a super-packet
		payload = max(wire-40, 0)
	}
	rest := b[40:min(len(b), 40+max(payload, 0))]
	frag, ext := "", ""
	for range maxHeaders {
		n := 0
		switch next {
		case 0, 43, 60:
			if len(rest) < 8 || int(rest[1])*8+8 > len(rest) {
				w.f("%s > %s: %s%s", w.name(src), w.name(dst), ext, protoName(next))
				w.cut("ext")
				return
			}
			n = int(rest[1])*8 + 8
			ext += w.extension(next, rest[:n])
		case 51: // its length counts 4 octets (RFC 4302 §2.2)
			if len(rest) < 12 || int(rest[1])*4+8 > len(rest) {
				w.f("%s > %s: %sAH", w.name(src), w.name(dst), ext)
				w.cut("ah")
				return
			}
			n = int(rest[1])*4 + 8
			ext += fmt.Sprintf("AH(spi=0x%08x,seq=0x%x): ", be32(rest[4:]), be32(rest[8:]))
		case 44:
			if len(rest) < 8 {
				w.f("%s > %s: %s%s", w.name(src), w.name(dst), ext, protoName(next))
				w.cut("frag")
				return
			}
			n = 8
			fo := be16(rest[2:])
			plus := ""
			if fo&1 != 0 {
				plus = "+"
			}
			frag = fmt.Sprintf(" (frag 0x%08x:%d@%d%s)", be32(rest[4:]), payload-8, fo&0xfff8, plus)
			if fo&0xfff8 != 0 { // what it carries is in the first fragment
				w.f("%s > %s: %s%s%s", w.name(src), w.name(dst), ext, protoName(rest[0]), frag)
				return
			}
		}
		if n == 0 {
			break
		}
		next, rest, payload = rest[0], rest[n:], max(payload-n, 0)
	}
	w.extensions = ext
	w.transport(src, dst, next, rest, payload, depth, frag != "")
	w.f("%s", frag)
}

// extension is a whole header of options, or of a route.
func (w *Printer) extension(typ byte, b []byte) string {
	switch typ {
	case 0:
		return "HBH " + w.options6(b[2:])
	case 60:
		return "DSTOPT " + w.options6(b[2:])
	}
	s := fmt.Sprintf("RT6 (len=%d, type=%d, segleft=%d", b[1], b[2], b[3])
	if b[2] == 0 || b[2] == 2 { // RFC 2460 §4.4 and RFC 6275 §6.4: addresses
		for i, a := 0, b[8:]; len(a) >= 16; i, a = i+1, a[16:] {
			s += fmt.Sprintf(", [%d]%s", i, w.name(addr(a[:16])))
		}
	}
	return s + ") "
}

// options6 are the options of RFC 8200 §4.2, with -v.
func (w *Printer) options6(b []byte) string {
	if !w.Verbose {
		return ""
	}
	var s strings.Builder
	for len(b) > 0 {
		if b[0] == 0 {
			s.WriteString("(pad1)")
			b = b[1:]
			continue
		}
		if len(b) < 2 || int(b[1])+2 > len(b) {
			s.WriteString("(trunc)")
			break
		}
		body := b[2 : 2+int(b[1])]
		switch {
		case b[0] == 1:
			s.WriteString("(padn)")
		case b[0] == 5 && len(body) == 2: // RFC 2711
			fmt.Fprintf(&s, "(rtalert: 0x%04x)", be16(body))
		case b[0] == 0xc2 && len(body) == 4: // RFC 2675
			fmt.Fprintf(&s, "(jumbo: %d)", be32(body))
		case b[0] == 0xc9 && len(body) == 16: // RFC 6275 §6.3
			fmt.Fprintf(&s, "(homeaddr: %s)", w.name(addr(body)))
		default:
			fmt.Fprintf(&s, "(opt_type 0x%02x: len=%d)", b[0], len(body))
		}
		b = b[2+int(b[1]):]
	}
	return s.String() + " "
}
