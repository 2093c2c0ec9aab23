package ipmon

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ionet/protocol"
	"ionet/tool/ruleset"
)

// printer makes lines of records.
type printer struct {
	zone    *time.Location
	date    bool                          // lines begin with it
	verbose bool                          // numbers and window of TCP
	host    func(netip.Addr) string       // an address as it is shown
	port    func(n int, proto int) string // a port as it is shown
}

// line is a record in IPFilter's form, without the end of the line.
func (p *printer) line(r *protocol.LogRow) []byte {
	t := time.Unix(0, r.Time).In(p.zone)
	var b []byte
	if p.date {
		b = t.AppendFormat(b, "02/01/2006 ")
	}
	b = append(t.AppendFormat(b, "15:04:05.000000"), ' ')
	switch {
	case r.Session != nil:
		return p.session(b, r, r.Session)
	case r.State != nil:
		return p.state(b, r, r.State)
	}
	return p.packet(b, r)
}

func (p *printer) packet(b []byte, r *protocol.LogRow) []byte {
	b = append(append(b, r.Interface...), ' ')
	switch {
	case r.Rule == 0:
		b = append(b, "@-1:-1 "...)
	case r.Group == "":
		b = fmt.Appendf(b, "@0:%d ", r.Rule)
	default:
		b = fmt.Appendf(b, "@%s:%d ", r.Group, r.Rule)
	}
	if slices.Contains(r.With, protocol.WithShort) {
		b = append(b, 'S')
	}
	b = append(b, action(r), ' ')
	if q, ok := decode(r.Packet); ok {
		b = p.headers(b, &q)
	} else {
		b = fmt.Appendf(b, "len %d", r.Length)
	}
	for _, w := range []struct{ with, text string }{{protocol.WithState, " K-S"}, {protocol.WithFrags, " K-F"}} {
		if slices.Contains(r.With, w.with) {
			b = append(b, w.text...)
		}
	}
	if r.Direction == "out" {
		b = append(b, " OUT"...)
	} else {
		b = append(b, " IN"...)
	}
	if r.Tag > 0 {
		b = fmt.Appendf(b, " log-tag %d", r.Tag)
	}
	for _, w := range []struct{ with, text string }{{protocol.WithLowTTL, " low-ttl"}, {protocol.WithOOW, " OOW"}, {protocol.WithBad, " bad"},
		{protocol.WithNAT, " NAT"}, {protocol.WithMulticast, " multicast"}, {protocol.WithBroadcast, " broadcast"}} {
		if slices.Contains(r.With, w.with) {
			b = append(b, w.text...)
		}
	}
	return b
}

// action is the letter for what became of a packet; a capital one: no rule asked for the record.
func action(r *protocol.LogRow) byte {
	c := byte('?')
	switch r.Event {
	case "pass":
		c = 'p'
	case "block":
		c = 'b'
	case "log":
		return 'L'
	case "nomatch":
		return 'n'
	}
	if r.Anyway && c != '?' {
		c -= 'a' - 'A'
	}
	return c
}

// headers appends the ends of a packet and what its headers say.
func (p *printer) headers(b []byte, q *packet) []byte {
	b = p.ends(b, q, " -> ")
	if s, ok := q.segment(); ok {
		b = append(append(b, " -"...), tcpFlags(s.flags)...)
		if p.verbose {
			b = fmt.Appendf(b, " %d %d %d", s.seq, s.ack, s.window)
		}
	}
	if kind, code, ok := q.icmp(); ok {
		b = fmt.Appendf(b, " %s %s", ruleset.Protocol(q.proto), icmpName(q.v6, kind, code))
		if in, ok := q.quoted(); ok {
			b = p.ends(append(b, " for "...), &in, " - ")
			if kind, code, ok := in.icmp(); ok {
				b = fmt.Appendf(b, " %s %d/%d", ruleset.Protocol(in.proto), kind, code)
			}
			b = appendFragment(b, &in)
		}
	}
	return appendFragment(b, q)
}

// ends appends "source arrow destination PR protocol len headers total"; the total of what
// shows no transport header is in parentheses.
func (p *printer) ends(b []byte, q *packet, arrow string) []byte {
	src, dst, ports := q.ports()
	b = append(b, p.host(q.src)...)
	if ports {
		b = append(append(b, ','), p.port(src, q.proto)...)
	}
	b = append(append(b, arrow...), p.host(q.dst)...)
	if ports {
		b = append(append(b, ','), p.port(dst, q.proto)...)
	}
	b = fmt.Appendf(b, " PR %s len %d ", ruleset.Protocol(q.proto), q.hl)
	if _, _, icmp := q.icmp(); ports || icmp {
		return fmt.Appendf(b, "%d", q.total)
	}
	return fmt.Appendf(b, "(%d)", q.total)
}

// appendFragment appends "(frag id:octets@offset)", with + if others follow and - with DF.
func appendFragment(b []byte, q *packet) []byte {
	if !q.fragment {
		return b
	}
	b = fmt.Appendf(b, " (frag %d:%d@%d", q.id, max(0, q.total-q.hl), q.off)
	if q.more {
		b = append(b, '+')
	}
	if q.df {
		b = append(b, '-')
	}
	return append(b, ')')
}

// tcpEstablished is the number of that state in both sides of a StateRow.
const tcpEstablished = 4

func (p *printer) state(b []byte, r *protocol.LogRow, s *protocol.StateRow) []byte {
	event := r.Event
	if event == "EXPIRE" && s.Protocol == ruleset.TCP && max(s.TCP[0], s.TCP[1]) > tcpEstablished {
		event = "CLOSE"
	}
	b = fmt.Appendf(b, "STATE:%s ", event)
	b = p.end(b, s.Protocol, s.Src, s.SrcPort, ruleset.HasPorts(s.Protocol))
	b = append(b, " -> "...)
	b = p.end(b, s.Protocol, s.Dst, s.DstPort, ruleset.HasPorts(s.Protocol))
	b = fmt.Appendf(b, " PR %s", ruleset.Protocol(s.Protocol))
	if s.Protocol == ruleset.ICMP || s.Protocol == ruleset.ICMPv6 {
		b = fmt.Appendf(b, " %d", s.ICMPType)
	}
	if event == "NEW" {
		return b
	}
	for i, way := range []string{"Forward", "Backward"} {
		b = fmt.Appendf(b, " %s: Pkts in %d Bytes in %d Pkts out %d Bytes out %d", way, s.Packets[2*i], s.Bytes[2*i], s.Packets[2*i+1], s.Bytes[2*i+1])
	}
	return b
}

// natKinds are IPFilter's words for sessions that begin.
var natKinds = map[string]string{"map": "MAP", "rdr": "RDR", "bimap": "BIMAP", "map-block": "MAPBLOCK"}

func (p *printer) session(b []byte, r *protocol.LogRow, s *protocol.NATSessionRow) []byte {
	event := r.Event
	if k := natKinds[s.Kind]; event == "NEW" && k != "" {
		event = k
	}
	b = fmt.Appendf(b, "@%d NAT:%s ", r.Rule, event)
	end := func(text string) {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			b = append(b, text...)
			return
		}
		b = p.end(b, s.Protocol, a.Addr().String(), int(a.Port()), ruleset.HasPorts(s.Protocol) || a.Port() > 0)
	}
	end(s.Inside)
	b = append(b, " <- -> "...)
	end(s.Outer)
	b = append(b, " ["...)
	end(s.Remote)
	b = fmt.Appendf(b, " PR %s]", ruleset.Protocol(s.Protocol))
	if r.Event == "NEW" {
		return b
	}
	return fmt.Appendf(b, " Pkts %d/%d Bytes %d/%d", s.PacketsIn, s.PacketsOut, s.BytesIn, s.BytesOut)
}

// end appends an end of a state or a session: "address" or "address,port".
func (p *printer) end(b []byte, proto int, addr string, port int, hasPort bool) []byte {
	if a, err := netip.ParseAddr(addr); err == nil {
		addr = p.host(a)
	}
	b = append(b, addr...)
	if hasPort {
		b = append(append(b, ','), p.port(port, proto)...)
	}
	return b
}

// dump is octets in hexadecimal and as characters, sixteen a line.
func dump(octets []byte) (lines [][]byte) {
	for part := range slices.Chunk(octets, 16) {
		line := fmt.Appendf(nil, "%-47s        ", fmt.Sprintf("% x", part))
		for _, c := range part {
			if c < ' ' || c > '~' {
				c = '.'
			}
			line = append(line, c)
		}
		lines = append(lines, line)
	}
	return lines
}
