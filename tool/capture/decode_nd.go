package capture

import (
	"fmt"
	"strings"
)

// ndHeader is where the options of a message of neighbour discovery begin.
var ndHeader = map[byte]int{icmp6RS: 8, icmp6RA: 16, icmp6NS: 24, icmp6NA: 24, icmp6Redirect: 40}

var preferences = [...]string{"medium", "high", "reserved", "low"} // RFC 4191 §2.1

// named are the names of the bits that are set.
func named(v byte, bits ...string) string {
	var s []string
	for i, name := range bits {
		if v&(0x80>>i) != 0 && name != "" {
			s = append(s, name)
		}
	}
	if s == nil {
		return "none"
	}
	return strings.Join(s, ", ")
}

// seconds is a lifetime.
func seconds(v uint32) string {
	if v == 0xffffffff {
		return "infinity"
	}
	return fmt.Sprintf("%ds", v)
}

// neighbour shows what a message of neighbour discovery says beside its
// target (RFC 4861 §4), a line an option.
func (w *Printer) neighbour(b []byte) {
	n, ok := ndHeader[b[0]]
	if !ok {
		return
	}
	if len(b) < n {
		w.f("\n\t[|icmp6]")
		return
	}
	switch b[0] {
	case icmp6RA:
		w.f("\n\thop limit %d, Flags [%s], pref %s, router lifetime %ds, reachable time %dms, retrans timer %dms", b[4],
			named(b[5]&^0x18, "managed", "other stateful", "home agent", "", "", "ND proxy"), preferences[b[5]>>3&3], be16(b[6:]), be32(b[8:]), be32(b[12:]))
	case icmp6NA:
		w.f(", Flags [%s]", named(b[4], "router", "solicited", "override"))
	}
	for b = b[n:]; len(b) > 0; {
		if len(b) < 2 {
			w.f("\n\t  [|icmp6]")
			return
		}
		size := int(b[1]) * 8
		if size == 0 {
			w.f("\n\t  option %d of length 0", b[0])
			return
		}
		if size > len(b) {
			w.f("\n\t  %s option (%d), length %d (%d): [|icmp6]", ndOptionName(b[0]), b[0], size, b[1])
			return
		}
		w.f("\n\t  %s option (%d), length %d (%d): ", ndOptionName(b[0]), b[0], size, b[1])
		w.ndOption(b[:size])
		b = b[size:]
	}
}

var ndOptions = map[byte]string{1: "source link-address", 2: "destination link-address", 3: "prefix info", 4: "redirected header", 5: "mtu",
	7: "advertisement interval", 8: "home agent information", 14: "nonce", 24: "route info", 25: "rdnss", 31: "dnssl", 37: "captive portal",
	38: "PREF64"}

func ndOptionName(t byte) string {
	if s := ndOptions[t]; s != "" {
		return s
	}
	return "unknown"
}

// ndOption shows an option of 8 octets or a multiple of them.
func (w *Printer) ndOption(b []byte) {
	switch t := b[0]; {
	case t == 1 || t == 2:
		if len(b) == 8 {
			w.f("%s", mac(b[2:8]))
		} else {
			w.f("%x", b[2:])
		}
	case t == 3 && len(b) == 32:
		w.f("%s/%d, Flags [%s], valid time %s, pref. time %s", w.name(addr(b[16:32])), b[2],
			named(b[3], "onlink", "auto", "router"), seconds(be32(b[4:])), seconds(be32(b[8:])))
	case t == 4:
		if len(b) > 8 {
			w.ipv6(b[8:], len(b)-8, 1)
		}
	case t == 5 && len(b) == 8:
		w.f(" %d", be32(b[4:]))
	case t == 7 && len(b) == 8:
		w.f(" %dms", be32(b[4:]))
	case t == 8 && len(b) == 8:
		w.f(" preference %d, lifetime %d", be16(b[4:]), be16(b[6:]))
	case t == 14: // RFC 3971 §5.3.2, RFC 7527 §4.2
		w.f(" %x", b[2:])
	case t == 24 && len(b) <= 24: // RFC 4191 §2.3
		var prefix [16]byte
		copy(prefix[:], b[8:])
		w.f(" %s/%d, pref=%s, lifetime=%s", w.name(addr(prefix[:])), b[2], preferences[b[3]>>3&3], seconds(be32(b[4:])))
	case t == 25 && len(b) >= 24: // RFC 8106 §5.1
		w.f(" lifetime %s,", seconds(be32(b[4:])))
		for a := b[8:]; len(a) >= 16; a = a[16:] {
			w.f(" addr: %s", w.name(addr(a[:16])))
		}
	case t == 31: // RFC 8106 §5.2
		w.f(" lifetime %s, domain(s): %s", seconds(be32(b[4:])), domains(b[8:]))
	case t == 37: // RFC 8910 §2.3
		w.f(" %s", strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return -1
			}
			return r
		}, string(b[2:])))
	default:
		w.f("%x", b[2:])
	}
}
