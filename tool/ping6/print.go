package ping6

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ionet/tool/echo"
)

// replyLine is the line of an echo reply, without its end.
func replyLine(p *packet, from string, dup, timed, verbose bool, rtt time.Duration) string {
	s := fmt.Sprintf("%d bytes from %s, icmp_seq=%d", len(p.icmp), from, p.seq())
	if p.hlim >= 0 {
		s += fmt.Sprintf(" hlim=%d", p.hlim)
	}
	if verbose {
		to := "?"
		if p.to.IsValid() {
			to = p.to.String()
		}
		s += " dst=" + to
	}
	if timed { // C's %g of a time in microseconds
		s += " time=" + strconv.FormatFloat(echo.Millis(rtt.Round(time.Microsecond)), 'g', 6, 64) + " ms"
	}
	if dup {
		s += "(DUP!)"
	}
	return s
}

// wrongData says where data differs from what was sent; "" when it does not.
func wrongData(sent, got []byte) string {
	i := echo.Differs(sent, got)
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("\nwrong data byte #%d should be 0x%x but was 0x%x", i, sent[i], got[i])
}

var unreachableTexts = []string{"No Route to Destination", "Destination Administratively Unreachable", "Destination Unreachable Beyond Scope",
	"Destination Host Unreachable", "Destination Port Unreachable", "Source address failed policy", "Route to Destination rejects"}

var queryTexts = map[byte]string{echoRequest: "Echo Request", echoReply: "Echo Reply", 130: "Multicast Listener Query", 131: "Multicast Listener Report",
	132: "Multicast Listener Done", 133: "Router Solicitation", 134: "Router Advertisement", 135: "Neighbor Solicitation", 136: "Neighbor Advertisement",
	138: "Router Renumbering", niQuery: "Node Information Query", niReply: "Node Information Reply", 143: "Multicast Listener Report v2"}

// other describes a message that is no reply to us. An error about a request
// of ours (id) is always told, all else with verbose alone. from prints where
// it came from.
func other(p *packet, id uint16, verbose bool, from string) (string, bool) {
	typ, code := p.kind()
	ours := false
	switch typ {
	case unreachable, tooBig, timeExceeded, paramProblem:
		if _, proto, rest, ok := p.inner(); ok && proto == protoICMPv6 {
			switch {
			case len(rest) >= 6 && rest[0] == echoRequest:
				ours = binary.BigEndian.Uint16(rest[4:]) == id
			case len(rest) >= 12 && rest[0] == niQuery:
				ours = binary.BigEndian.Uint16(rest[10:]) == id
			}
		}
	}
	if !ours && !verbose {
		return "", false
	}
	return fmt.Sprintf("%d bytes from %s: ", len(p.icmp), from) + describe(p, typ, code, verbose), true
}

func describe(p *packet, typ, code byte, verbose bool) string {
	pick := func(texts []string, bad string) string {
		if int(code) < len(texts) {
			return texts[code]
		}
		return fmt.Sprintf(bad, code)
	}
	word := binary.BigEndian.Uint32(p.icmp[4:])
	switch typ {
	case unreachable:
		return pick(unreachableTexts, "Destination Unreachable, Bad Code: %d") + returned(p, verbose)
	case tooBig:
		return fmt.Sprintf("Packet too big mtu = %d", word) + returned(p, verbose)
	case timeExceeded:
		return pick([]string{"Time to live exceeded", "Frag reassembly time exceeded"}, "Time exceeded, Bad Code: %d") + returned(p, verbose)
	case paramProblem:
		what := pick([]string{"Erroneous Header", "Unknown Nextheader", "Unrecognized Option", "Incomplete Header Chain"}, "Bad Code %d")
		return fmt.Sprintf("Parameter problem: %s at octet %d", what, word) + returned(p, verbose)
	case redirect:
		if len(p.icmp) < 40 {
			return "Redirect, too short"
		}
		return fmt.Sprintf("Redirect: Destination: %s New Target: %s", netip.AddrFrom16([16]byte(p.icmp[24:40])), netip.AddrFrom16([16]byte(p.icmp[8:24])))
	}
	if s, ok := queryTexts[typ]; ok {
		return s
	}
	return fmt.Sprintf("Bad ICMP type: %d", typ)
}

// returned describes the packet that an error brings back.
func returned(p *packet, verbose bool) string {
	head, proto, rest, ok := p.inner()
	if !ok {
		return ""
	}
	s := ""
	if verbose {
		s = fmt.Sprintf("\nVr TC  Flow Plen Nxt Hlim\n %1x %02x %05x %04x  %02x   %02x\n%s->%s", head[0]>>4,
			binary.BigEndian.Uint16(head)>>4&0xff, binary.BigEndian.Uint32(head)&0xfffff, binary.BigEndian.Uint16(head[4:]), head[6], head[7],
			netip.AddrFrom16([16]byte(head[8:24])), netip.AddrFrom16([16]byte(head[24:40])))
	}
	switch {
	case (proto == 6 || proto == 17) && verbose && len(rest) >= 4:
		return s + fmt.Sprintf("\n%s: from port %d, to port %d (decimal)", map[byte]string{6: "TCP", 17: "UDP"}[proto], binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:]))
	case proto != protoICMPv6 || len(rest) < headerLen || rest[0] != echoRequest:
		return s
	case verbose:
		return s + fmt.Sprintf("\nICMP6: type = %d, code = %d, ID=%d icmp_seq=%d", rest[0], rest[1], binary.BigEndian.Uint16(rest[4:]), binary.BigEndian.Uint16(rest[6:]))
	}
	return s + fmt.Sprintf(" for icmp_seq=%d", binary.BigEndian.Uint16(rest[6:]))
}

// nodeinfo describes a node information reply of 16 octets at least (RFC 4620
// §6).
func nodeinfo(b []byte, verbose bool) string {
	qtype, flags, data := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), b[niHeaderLen:]
	switch b[1] {
	case 0:
	case 1:
		return fmt.Sprintf("refused, type 0x%x", qtype)
	case 2:
		return fmt.Sprintf("unknown, type 0x%x", qtype)
	default:
		return fmt.Sprintf("unknown code 0x%x, type 0x%x", b[1], qtype)
	}
	switch qtype {
	case qNoop:
		return "NodeInfo NOOP"
	case qTypes:
		return "NodeInfo Supported Qtypes" + supported(data, flags&1 != 0)
	case qAddrs:
		s := "NodeInfo Node Addresses"
		for ; len(data) >= 20; data = data[20:] {
			ttl := strconv.FormatUint(uint64(binary.BigEndian.Uint32(data)), 10)
			if ttl == "4294967295" {
				ttl = "infty"
			}
			s += fmt.Sprintf("\n  %s(TTL=%s)", netip.AddrFrom16([16]byte(data[4:20])), ttl)
		}
		if flags&1 != 0 {
			s += " (truncated)"
		}
		return s
	}
	if len(data) < 4 {
		return "???"
	}
	ttl := int32(binary.BigEndian.Uint32(data))
	data = data[4:]
	var s string
	if len(data) > 1 && int(data[0]) == len(data)-1 && data[len(data)-1] != 0 { // drafts: a length, and the name
		s = strings.Map(printable, string(data[1:]))
	} else {
		names, whole := decodeNames(data)
		if !whole {
			names = append(names, "???")
		}
		s = strings.Join(names, ",")
	}
	if !verbose {
		return s
	}
	switch {
	case flags&1 == 0:
		return s + fmt.Sprintf(" (TTL=%d:meaningless)", ttl)
	case ttl < 0:
		return s + fmt.Sprintf(" (TTL=%d:invalid)", ttl)
	}
	return s + fmt.Sprintf(" (TTL=%d)", ttl)
}

// supported shows the query types that a node answers: words of 32 bits, in
// runs when they are compressed (KAME's reading of draft 7 §6.2).
func supported(data []byte, compressed bool) string {
	s := ""
	base := 0
	words := func(n int) {
		for ; n > 0 && len(data) >= 4; n-- {
			v := binary.BigEndian.Uint32(data)
			for i := range 32 {
				if v&(1<<i) != 0 {
					name := map[int]string{qNoop: "NOOP", qTypes: "supported types", qName: "DNS name", qAddrs: "node addresses", 4: "IPv4 node addresses"}[base+i]
					if name == "" {
						name = "type " + strconv.Itoa(base+i)
					}
					s += "\n  " + name
				}
			}
			data = data[4:]
			base += 32
		}
	}
	if !compressed {
		words(len(data) / 4)
		return s
	}
	for len(data) >= 4 && base < 1<<16 {
		n, skip := int(binary.BigEndian.Uint16(data)), int(binary.BigEndian.Uint16(data[2:]))
		data = data[4:]
		words(n)
		base += skip * 32
	}
	return s
}

// summary is the last word; host is "" in the middle of a run.
func summary(s *echo.Stats, host string, timed bool) string {
	var b strings.Builder
	if host != "" {
		fmt.Fprintf(&b, "\n--- %s ping6 statistics ---\n", host)
	}
	fmt.Fprintf(&b, "%d packets transmitted, %d packets received, ", s.Sent, s.Received)
	if s.Dups > 0 {
		fmt.Fprintf(&b, "+%d duplicates, ", s.Dups)
	}
	switch {
	case s.Sent == 0:
	case s.Received > s.Sent:
		b.WriteString("-- somebody's duplicating packets!")
	default:
		fmt.Fprintf(&b, "%d%% packet loss", int(s.Loss()))
	}
	b.WriteByte('\n')
	if s.Received > 0 && timed {
		t := s.RTT()
		fmt.Fprintf(&b, "round-trip min/avg/max/std-dev = %.3f/%.3f/%.3f/%.3f ms\n", t.Min, t.Avg, t.Max, t.StdDev)
	}
	return b.String()
}
