package ping

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"ionet/tool/echo"
)

// hexC is C's %#x, which has no 0x before a zero.
func hexC(b byte) string {
	if b == 0 {
		return "0"
	}
	return fmt.Sprintf("%#x", b)
}

// replyLine is the line of an echo reply, without its end.
func replyLine(p *packet, dup, timed bool, rtt time.Duration) string {
	s := fmt.Sprintf("%d bytes from %s: icmp_seq=%d", len(p.icmp), p.from, p.seq())
	if dup {
		s += " DUP!"
	}
	s += fmt.Sprintf(" ttl=%d", p.ttl)
	if timed {
		s += fmt.Sprintf(" time=%.3f ms", echo.Millis(rtt))
	}
	return s
}

// wrongData says where data differs from what was sent and shows all of it;
// "" when it does not.
func wrongData(sent, got []byte) string {
	i := echo.Differs(sent, got)
	if i < 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nwrong data byte #%d should have been %s but was %s", i, hexC(sent[i]), hexC(got[i]))
	for i := headerLen; i < min(len(sent), len(got)); i++ {
		if i%16 == headerLen {
			b.WriteString("\n\t")
		}
		fmt.Fprintf(&b, "%2x ", got[i])
	}
	return b.String()
}

var unreachableTexts = []string{"Destination Net Unreachable", "Destination Host Unreachable", "Destination Protocol Unreachable",
	"Destination Port Unreachable", "frag needed and DF set.  Next MTU=%d", "Source Route Failed", "Unreachable unknown net",
	"Unreachable unknown host", "Unreachable host isolated", "Net prohibited access", "Host prohibited access", "Bad TOS for net",
	"Bad TOS for host", "Communication prohibited", "Host precedence violation", "Precedence cutoff"}

var redirectTexts = []string{"Redirect Network", "Redirect Host", "Redirect Type of Service and Network", "Redirect Type of Service and Host"}

var queryTexts = map[byte]string{routerAdvert: "Router Discovery Advert", routerSolicit: "Router Discovery Solicit",
	timestamp: "Timestamp", timestampReply: "Timestamp Reply", infoRequest: "Information Request", infoReply: "Information Reply",
	maskRequest: "Address Mask Request", maskReply: "Address Mask Reply"}

// other describes an ICMP message that is no reply to us. An error about a
// request of ours (id) is always told, all else with verbose alone. name
// prints an address.
func other(p *packet, id uint16, verbose bool, name func(netip.Addr) string) (string, bool) {
	typ, code := p.kind()
	ours := false
	switch typ {
	case echoReply:
		return "", false // others' pings are no news
	case unreachable, sourceQuench, redirect, timeExceeded, paramProblem:
		if head, rest, ok := p.inner(); ok && head[9] == protoICMP && len(rest) >= 6 {
			ours = binary.BigEndian.Uint16(rest[4:]) == id
		}
	}
	if !ours && !verbose {
		return "", false
	}
	return fmt.Sprintf("%d bytes from %s: ", len(p.icmp), name(p.from)) + describe(p, typ, code, verbose, name), true
}

func describe(p *packet, typ, code byte, verbose bool, name func(netip.Addr) string) string {
	pick := func(texts []string, bad string) string {
		if int(code) < len(texts) {
			return texts[code]
		}
		return fmt.Sprintf(bad, code)
	}
	switch typ {
	case unreachable:
		s := pick(unreachableTexts, "Bad Destination Unreachable Code: %d")
		if code == 4 {
			s = fmt.Sprintf(s, binary.BigEndian.Uint16(p.icmp[6:]))
		}
		return s + returned(p, verbose)
	case sourceQuench:
		return "Source Quench" + returned(p, verbose)
	case redirect:
		return pick(redirectTexts, "Redirect--Bad Code: %d") + " New router addr: " + name(netip.AddrFrom4([4]byte(p.icmp[4:8]))) + returned(p, verbose)
	case echoRequest:
		return fmt.Sprintf("Echo Request: ID=%d seq=%d", p.id(), p.seq())
	case timeExceeded:
		return pick([]string{"Time To Live exceeded", "Frag reassembly time exceeded"}, "Time exceeded, Bad Code: %d") + returned(p, verbose)
	case paramProblem:
		return fmt.Sprintf("Parameter problem: pointer = 0x%02x", p.icmp[4]) + returned(p, verbose)
	}
	if s, ok := queryTexts[typ]; ok {
		return s
	}
	s := fmt.Sprintf("Bad ICMP type: %d", typ)
	if head, _, ok := p.inner(); ok && verbose {
		s += header(head)
	}
	return s
}

// returned describes the packet that an error brings back.
func returned(p *packet, verbose bool) string {
	head, rest, ok := p.inner()
	if !ok {
		return ""
	}
	s := ""
	if verbose {
		s = header(head)
	}
	ports := func(name string) string {
		if len(rest) < 4 || !verbose {
			return ""
		}
		return fmt.Sprintf("\n  %s: from port %d, to port %d", name, binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:]))
	}
	switch {
	case head[9] == protoTCP:
		return s + ports("TCP")
	case head[9] == protoUDP:
		return s + ports("UDP")
	case head[9] != protoICMP || len(rest) < headerLen || rest[0] != echoRequest:
		return s
	case verbose:
		return s + fmt.Sprintf("\n  ID=%d icmp_seq=%d", binary.BigEndian.Uint16(rest[4:]), binary.BigEndian.Uint16(rest[6:]))
	}
	return s + fmt.Sprintf(" for icmp_seq=%d", binary.BigEndian.Uint16(rest[6:]))
}

// header shows an IPv4 header.
func header(h []byte) string {
	u16 := func(i int) uint16 { return binary.BigEndian.Uint16(h[i:]) }
	s := "\n Vr HL TOS  Len   ID Flg  off TTL Pro  cks      Src\t     Dst\n" +
		fmt.Sprintf("  %1x  %1x  %02x %04x %04x   %1x %04x  %02x  %02x %04x %15s  %s ", h[0]>>4, h[0]&15, h[1], u16(2), u16(4),
			u16(6)>>13, u16(6)&0x1fff, h[8], h[9], u16(10), netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20])))
	for _, b := range h[minIPHeader:] {
		s += fmt.Sprintf("%02x", b)
	}
	return s
}

// route shows the IP options of a packet that came. last is the route of
// the one before, which is not repeated.
func route(opts []byte, last *[]byte, name func(netip.Addr) string) string {
	s := ""
	for len(opts) > 0 && opts[0] != optEnd {
		if opts[0] == optNop {
			opts = opts[1:]
			continue
		}
		if len(opts) < 3 || int(opts[1]) < 3 || int(opts[1]) > len(opts) {
			return s + fmt.Sprintf("\nunknown option %#x", opts[0])
		}
		body := opts[3:opts[1]]
		switch opts[0] {
		case optRecordRoute:
			used := body[:max(min(int(opts[2])-optFirstPointer, len(body)), 0)&^3]
			if len(used) == 0 {
				break
			}
			if bytes.Equal(used, *last) {
				s += "\t(same route)"
				break
			}
			*last = bytes.Clone(used)
			s += "\nRR: " + hops(used, name)
		case optLooseRoute:
			s += "\nLSRR: " + hops(body[:len(body)&^3], name)
		default:
			s += fmt.Sprintf("\nunknown option %#x", opts[0])
		}
		opts = opts[opts[1]:]
	}
	return s
}

func hops(b []byte, name func(netip.Addr) string) string {
	var out []string
	for ; len(b) >= 4; b = b[4:] {
		out = append(out, "\t"+name(netip.AddrFrom4([4]byte(b[:4]))))
	}
	return strings.Join(out, "\n")
}

// summary is the last word; host is "" in the middle of a run.
func summary(s *echo.Stats, host string, timed, flood bool) string {
	var b strings.Builder
	if host != "" {
		fmt.Fprintf(&b, "\n----%s PING Statistics----\n", host)
	}
	fmt.Fprintf(&b, "%d packets transmitted, %d packets received, ", s.Sent, s.Received)
	if s.Dups > 0 {
		fmt.Fprintf(&b, "+%d duplicates, ", s.Dups)
	}
	switch {
	case s.Sent == 0:
	case s.Received > s.Sent:
		b.WriteString("-- somebody's printing up packets!")
	default:
		fmt.Fprintf(&b, "%.1f%% packet loss", s.Loss())
	}
	b.WriteByte('\n')
	if s.Received == 0 || !timed {
		return b.String()
	}
	avg, dev := s.Deviation()
	fmt.Fprintf(&b, "round-trip min/avg/max/stddev = %.3f/%.3f/%.3f/%.3f ms\n", s.Least*1000, avg*1000, s.Most*1000, dev*1000)
	if flood {
		rate := func(n int, first, last time.Time) float64 { return float64(n) / max(last.Sub(first).Seconds(), 0.0001) }
		fmt.Fprintf(&b, "  %.1f packets/sec sent,  %.1f packets/sec received\n", rate(s.Sent, s.FirstTx, s.LastTx), rate(s.Received, s.FirstRx, s.LastRx))
	}
	return b.String()
}
