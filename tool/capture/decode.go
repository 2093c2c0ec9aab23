package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Link types (LINKTYPE_*) that are decoded.
const (
	linkNull     = 0 // a host-order family before the packet
	linkEthernet = 1
	linkRaw      = 101
	linkLoop     = 108 // as linkNull, in network order
	linkSLL      = 113 // Linux's cooked header, 16 octets
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276 // 20 octets
)

// Packet is one packet, of a stack or of a file.
type Packet struct {
	Time      time.Time
	Interface string
	Out       bool
	Dropped   string // why the stack dropped it, or ""
	Link      uint16 // LINKTYPE_*
	OrigLen   int
	Data      []byte
}

// layer takes the link header off: the Ethernet type of what follows, and
// that. ok is false where the link is not known or cut short.
func (p *Packet) layer() (typ uint16, rest []byte, ok bool) {
	b := p.Data
	hdr := map[uint16]int{linkNull: 4, linkLoop: 4, linkEthernet: 14, linkSLL: 16, linkSLL2: 20, linkRaw: 0, 12: 0, linkIPv4: 0, linkIPv6: 0}
	n, known := hdr[p.Link]
	if !known || len(b) < n {
		return 0, nil, false
	}
	rest = b[n:]
	switch p.Link {
	case linkEthernet:
		return be16(b[12:]), rest, true
	case linkSLL:
		return be16(b[14:]), rest, true
	case linkSLL2:
		return be16(b), rest, true
	}
	if len(rest) == 0 {
		return 0, nil, false
	}
	switch rest[0] >> 4 {
	case 4:
		return typeIPv4, rest, true
	case 6:
		return typeIPv6, rest, true
	case 0: // a dropped ARP packet begins with its hardware type
		return typeARP, rest, true
	}
	return 0, rest, false
}

// Frame is the packet as filters see it: behind an Ethernet header, made up
// with addresses of zero where the link has none.
func (p *Packet) Frame() []byte {
	if p.Link == linkEthernet {
		return p.Data
	}
	typ, rest, _ := p.layer()
	b := make([]byte, 14, 14+len(rest))
	binary.BigEndian.PutUint16(b[12:], typ)
	return append(b, rest...)
}

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeVLAN = 0x8100
	typeIPv6 = 0x86dd
)

var typeNames = map[uint16]string{typeIPv4: "IPv4", typeARP: "ARP", 0x8035: "RARP", typeVLAN: "802.1Q", typeIPv6: "IPv6",
	0x8847: "MPLS", 0x8863: "PPPoE D", 0x8864: "PPPoE S", 0x88a8: "802.1Q-QinQ", 0x88cc: "LLDP", 0x9000: "Loopback"}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// Printer writes packets as lines in tcpdump's style.
type Printer struct {
	Names     func(netip.Addr) string // nil: numeric
	Interface bool                    // name the interface and direction
	Ether     bool                    // -e
	Quiet     bool                    // -q
	Verbose   bool                    // -v
	NoTime    bool                    // -t
	Hex       bool                    // -x
	ASCII     bool                    // -X
	Absolute  bool                    // -S: sequence numbers as they are

	flows flows

	extensions string // IPv6 headers stepped over, said behind the addresses

	strings.Builder
}

func (w *Printer) f(format string, args ...any) { fmt.Fprintf(w, format, args...) }

// cut says that the capture ends inside what.
func (w *Printer) cut(what string) {
	if s := w.String(); s != "" && s[len(s)-1] != ' ' {
		w.WriteByte(' ')
	}
	w.f("[|%s]", what)
}

// Line decodes p: one line (two with -v), the dump of -x behind it, no
// newline at the end. No octets make it panic.
func (w *Printer) Line(p *Packet) string {
	w.Reset()
	if !w.NoTime {
		w.f("%s ", p.Time.Format("15:04:05.000000"))
	}
	if w.Interface {
		dir := "In "
		if p.Out {
			dir = "Out"
		}
		if p.Dropped != "" {
			dir = "Drp"
		}
		w.f("%-5s %s ", p.Interface, dir)
	}
	if w.Ether {
		w.link(p)
	}
	typ, rest, ok := p.layer()
	switch {
	case !ok && len(p.Data) == 0:
		w.f("[empty], length %d", p.OrigLen)
	case !ok:
		w.f("[unknown link or version: type %d, octet %#02x], length %d", p.Link, p.Data[0], p.OrigLen)
	default:
		w.network(typ, rest, p.OrigLen-(len(p.Data)-len(rest)))
	}
	if p.Dropped != "" {
		w.f(" [dropped: %s]", p.Dropped)
	}
	if w.Hex || w.ASCII {
		if rest == nil || w.Ether {
			rest = p.Data
		}
		w.dump(rest)
	}
	return strings.TrimRight(w.String(), " ")
}

func (w *Printer) link(p *Packet) {
	if p.Link != linkEthernet || len(p.Data) < 14 {
		w.f("(no link header), length %d: ", p.OrigLen)
		return
	}
	dst := mac(p.Data[:6])
	if dst == "ff:ff:ff:ff:ff:ff" {
		dst = "Broadcast"
		if !w.Quiet {
			dst = "ff:ff:ff:ff:ff:ff"
		}
	}
	typ := be16(p.Data[12:])
	name := typeNames[typ]
	switch {
	case typ <= 1500:
		w.f("%s > %s, 802.3, length %d: ", mac(p.Data[6:12]), dst, typ)
		return
	case name == "":
		name = "Unknown"
	}
	w.f("%s > %s, ethertype %s (0x%04x), length %d: ", mac(p.Data[6:12]), dst, name, typ, p.OrigLen)
}

func mac(b []byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// network decodes what follows the link header; wire is its length there.
func (w *Printer) network(typ uint16, b []byte, wire int) {
	for range 2 { // a tag in a tag, no deeper
		if typ != typeVLAN && typ != 0x88a8 || len(b) < 4 {
			break
		}
		w.f("vlan %d, p %d, ", be16(b)&0xfff, b[0]>>5)
		typ, b, wire = be16(b[2:]), b[4:], wire-4
	}
	switch typ {
	case typeIPv4:
		w.f("IP ")
		w.ipv4(b, wire, 0)
	case typeIPv6:
		w.f("IP6 ")
		w.ipv6(b, wire, 0)
	case typeARP:
		w.arp(b, wire)
	default:
		if typ <= 1500 {
			w.f("802.3, length %d", typ)
			return
		}
		name := typeNames[typ]
		if name == "" {
			name = "Unknown"
		}
		w.f("ethertype %s (0x%04x), length %d", name, typ, wire)
	}
}

func (w *Printer) name(a netip.Addr) string {
	if w.Names != nil {
		return w.Names(a)
	}
	return a.String()
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (w *Printer) arp(b []byte, wire int) {
	w.f("ARP, ")
	if len(b) < 8 {
		w.cut("arp")
		return
	}
	hrd, pro, hln, pln, op := be16(b), be16(b[2:]), int(b[4]), int(b[5]), be16(b[6:])
	if hrd != 1 || pro != typeIPv4 || hln != 6 || pln != 4 {
		w.f("hardware %d (len %d), protocol 0x%04x (len %d), op %d, length %d", hrd, hln, pro, pln, op, wire)
		return
	}
	if len(b) < 28 {
		w.cut("arp")
		return
	}
	sha, spa, tha, tpa := b[8:14], addr(b[14:18]), b[18:24], addr(b[24:28])
	if w.Verbose {
		w.f("Ethernet (len 6), IPv4 (len 4), ")
	}
	switch op {
	case 1:
		switch {
		case spa == tpa:
			w.f("Announcement %s", w.name(spa))
		case spa.IsUnspecified():
			w.f("Probe %s", w.name(tpa))
		default:
			w.f("Request who-has %s", w.name(tpa))
		}
		if string(tha) != "\x00\x00\x00\x00\x00\x00" {
			w.f(" (%s)", mac(tha))
		}
		if spa != tpa && !spa.IsUnspecified() {
			w.f(" tell %s", w.name(spa))
		}
	case 2:
		w.f("Reply %s is-at %s", w.name(spa), mac(sha))
	case 3:
		w.f("Reverse Request who-is %s tell %s", mac(tha), mac(sha))
	case 4:
		w.f("Reverse Reply %s at %s", mac(tha), w.name(tpa))
	default:
		w.f("op %d, %s (%s) > %s (%s)", op, w.name(spa), mac(sha), w.name(tpa), mac(tha))
	}
	w.f(", length %d", wire)
}

// dump writes the octets, sixteen a line, for -x and with letters for -X.
func (w *Printer) dump(b []byte) {
	for off := 0; off < len(b); off += 16 {
		line := b[off:min(off+16, len(b))]
		w.f("\n\t0x%04x: ", off)
		for i := range 16 {
			if i%2 == 0 && (i < len(line) || w.ASCII) {
				w.f(" ")
			}
			if i < len(line) {
				w.f("%02x", line[i])
			} else if w.ASCII {
				w.f("  ")
			}
		}
		if w.ASCII {
			w.f("  ")
			for _, c := range line {
				if c < 0x20 || c > 0x7e {
					c = '.'
				}
				w.WriteByte(c)
			}
		}
	}
}
