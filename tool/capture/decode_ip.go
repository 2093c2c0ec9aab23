package capture

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxQuote is how deep packets quoted in ICMP errors are decoded.
const maxQuote = 2

var protoNames = map[byte]string{0: "HOPOPT", 1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 17: "UDP", 41: "IPv6", 43: "Routing",
	44: "IPv6-Frag", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 59: "no next header", 60: "DSTOPT", 88: "EIGRP", 89: "OSPF",
	103: "PIM", 108: "IPComp", 112: "VRRP", 132: "SCTP"}

func protoName(p byte) string {
	if s := protoNames[p]; s != "" {
		return s
	}
	return fmt.Sprintf("ip-proto-%d", p)
}

// ipv4 decodes a packet of which wire octets, padding included, were sent.
func (w *Printer) ipv4(b []byte, wire, depth int) {
	if len(b) < 20 {
		w.cut("ip")
		return
	}
	hl, total := int(b[0]&0xf)*4, int(be16(b[2:]))
	if b[0]>>4 != 4 || hl < 20 {
		w.f("[version %d, header length %d], length %d", b[0]>>4, hl, wire)
		return
	}
	if total < hl && total != 0 {
		w.f("[total length %d < header length %d], length %d", total, hl, wire)
		return
	}
	bad := ""
	if total == 0 { // a super-packet
		total = wire
	}
	if total > wire && depth == 0 {
		bad = fmt.Sprintf(" [total length %d > length %d]", total, wire)
	}
	src, dst, proto, frag := addr(b[12:16]), addr(b[16:20]), b[9], be16(b[6:])
	off, more := int(frag&0x1fff)*8, frag&0x2000 != 0
	if w.Verbose && depth == 0 {
		var flags []string
		if frag&0x4000 != 0 {
			flags = append(flags, "DF")
		}
		if more {
			flags = append(flags, "+")
		}
		if len(flags) == 0 {
			flags = []string{"none"}
		}
		w.f("(tos 0x%x, ttl %d, id %d, offset %d, flags [%s], proto %s (%d), length %d", b[1], b[8], be16(b[4:]), off, strings.Join(flags, ", "), protoName(proto), proto, total)
		if hl > 20 {
			w.f(", options %d octets", hl-20)
		}
		if len(b) >= hl && ones(b[:hl], 0) != 0xffff {
			w.f(", bad cksum %x", be16(b[10:]))
		}
		w.f(")\n    ")
	}
	if len(b) < hl {
		w.f("%s > %s:", w.name(src), w.name(dst))
		w.cut("ip")
		return
	}
	total = max(total, hl)
	payload := total - hl
	rest := b[hl:min(len(b), total)]
	if off > 0 { // what it carries is in the first fragment
		w.f("%s > %s: %s", w.name(src), w.name(dst), protoName(proto))
	} else {
		w.transport(src, dst, proto, rest, payload, depth, more)
	}
	if off > 0 || more {
		plus := ""
		if more {
			plus = "+"
		}
		w.f(" (frag %d:%d@%d%s)", be16(b[4:]), payload, off, plus)
	}
	w.f("%s", bad)
}

// transport decodes what b, of size octets on the wire, carries.
func (w *Printer) transport(src, dst netip.Addr, proto byte, b []byte, size, depth int, frag bool) {
	if ext := w.extensions; ext != "" || proto != 6 && proto != 17 {
		w.f("%s > %s: %s", w.name(src), w.name(dst), ext)
		w.extensions = ""
	}
	switch proto {
	case 6:
		w.tcp(src, dst, b, size, frag)
	case 17:
		w.udp(src, dst, b, size, frag)
	default:
		switch proto {
		case 1:
			w.icmp(b, size, depth, frag)
		case 2:
			w.igmp(b, size)
		case 4:
			w.inner("IP ", b, size, depth, w.ipv4)
		case 41:
			w.inner("IP6 ", b, size, depth, w.ipv6)
		case 58:
			w.icmp6(src, dst, b, size, depth, frag)
		default:
			w.f("%s, length %d", protoName(proto), size)
		}
	}
}

// inner decodes a packet that another carries.
func (w *Printer) inner(name string, b []byte, size, depth int, decode func([]byte, int, int)) {
	if depth >= maxQuote {
		w.f("tunnel, length %d", size)
		return
	}
	w.f("%s", name)
	decode(b, size, depth+1)
}

func (w *Printer) udp(src, dst netip.Addr, b []byte, size int, frag bool) {
	if len(b) < 8 {
		w.f("%s > %s: UDP", w.name(src), w.name(dst))
		w.cut("udp")
		return
	}
	ulen := int(be16(b[4:]))
	w.f("%s.%d > %s.%d: ", w.name(src), be16(b), w.name(dst), be16(b[2:]))
	sum := be16(b[6:])
	if w.Verbose && !frag {
		switch {
		case sum == 0 && src.Is4():
			w.f("[no cksum] ")
		case len(b) >= size && ulen == size:
			if ones(b[:size], pseudo(src, dst, 17, size)) == 0xffff {
				w.f("[udp sum ok] ")
			} else if sum == ones(nil, pseudo(src, dst, 17, size)) {
				w.f("[udp sum partial] ")
			} else {
				w.f("[bad udp cksum 0x%04x!] ", sum)
			}
		}
	}
	if ulen < 8 || ulen > size && !frag {
		w.f("UDP, bad length %d > %d", ulen-8, size-8)
		return
	}
	w.f("UDP, length %d", ulen-8)
}

// ones is the one's complement sum (RFC 1071) of b and start.
func ones(b []byte, start uint32) uint16 {
	s := start
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(be16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// pseudo is the sum of the pseudo-header (RFC 768, RFC 8200 section 8.1).
func pseudo(src, dst netip.Addr, proto byte, size int) uint32 {
	b := append(src.AsSlice(), dst.AsSlice()...)
	return uint32(ones(b, uint32(proto)+uint32(size)>>16+uint32(size)&0xffff))
}
