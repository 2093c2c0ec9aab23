package ipfstat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ionet/protocol"
	"ionet/tool/ruleset"
)

// view is how the states are shown: what its keys change.
type view struct {
	sort     int // of orders
	reverse  bool
	backward bool // count what comes back
}

// order is a column to sort by.
type order struct {
	name string
	by   func(a, b *line) int
}

// orders are those that s goes through.
var orders = []order{
	{"proto", func(a, b *line) int { return cmp.Compare(b.Protocol, a.Protocol) }},
	{"# pkts", func(a, b *line) int { return cmp.Compare(b.packets, a.packets) }},
	{"# bytes", func(a, b *line) int { return cmp.Compare(b.bytes, a.bytes) }},
	{"ttl", func(a, b *line) int { return cmp.Compare(b.TTL, a.TTL) }},
	{"src ip", func(a, b *line) int { return a.src.Compare(b.src) }},
	{"src port", func(a, b *line) int { return cmp.Compare(a.SrcPort, b.SrcPort) }},
	{"dest ip", func(a, b *line) int { return a.dst.Compare(b.dst) }},
	{"dest port", func(a, b *line) int { return cmp.Compare(a.DstPort, b.DstPort) }},
}

// sortBytes is the order that -t begins with.
const sortBytes = 2

// line is one state on the page.
type line struct {
	protocol.StateRow
	src, dst       netip.Addr
	packets, bytes uint64
}

// Of the states of a connection's side, in IPFilter's numbers.
const tcpLastAck = 8

// lines are the states that were asked for, in their order.
func (o *options) lines(rows []protocol.StateRow, v view) (all []*line) {
	for i := range rows {
		r := &rows[i]
		src, err1 := netip.ParseAddr(r.Src)
		dst, err2 := netip.ParseAddr(r.Dst)
		ports := ruleset.HasPorts(r.Protocol)
		switch {
		case err1 != nil || err2 != nil,
			o.v6 && r.Family != "inet6",
			o.proto >= 0 && r.Protocol != o.proto,
			!o.src.has(src, r.SrcPort, ports) || !o.dst.has(dst, r.DstPort, ports),
			!o.closed && r.Protocol == ruleset.TCP && (min(r.TCP[0], r.TCP[1]) >= tcpLastAck || r.TCP == [2]int{}):
			continue
		}
		l := &line{StateRow: *r, src: src, dst: dst, packets: r.Packets[0] + r.Packets[1], bytes: r.Bytes[0] + r.Bytes[1]}
		if v.backward {
			l.packets, l.bytes = r.Packets[2]+r.Packets[3], r.Bytes[2]+r.Bytes[3]
		}
		all = append(all, l)
	}
	slices.SortStableFunc(all, func(a, b *line) int {
		// What is equal keeps its place from page to page.
		n := cmp.Or(orders[v.sort].by(a, b), a.src.Compare(b.src), cmp.Compare(a.SrcPort, b.SrcPort), a.dst.Compare(b.dst), cmp.Compare(a.DstPort, b.DstPort),
			cmp.Compare(a.Protocol, b.Protocol))
		if v.reverse {
			return -n
		}
		return n
	})
	return all
}

// has reports whether an end is one that is shown. Ports count where there are some.
func (e end) has(addr netip.Addr, port int, ports bool) bool {
	return (!e.addr.IsValid() || e.addr == addr) && (e.port < 0 || !ports || e.port == port)
}

func (e end) String() string {
	s := "any"
	if e.addr.IsValid() {
		s = e.addr.String()
	}
	if e.port >= 0 {
		s = fmt.Sprintf("%s,%d", s, e.port)
	}
	return s
}

// draw is the page: at most height lines of at most width letters, 0: as many as there are.
func (o *options) draw(rows []protocol.StateRow, v view, title string, now time.Time, width, height int) []string {
	all := o.lines(rows, v)
	proto := "any"
	if o.proto >= 0 {
		proto = ruleset.Protocol(o.proto)
	}
	sorted := orders[v.sort].name
	if v.reverse {
		sorted += " (reverse)"
	}
	if v.backward {
		sorted += ", backward"
	}
	srcWidth, dstWidth := 15, 15
	for _, l := range all {
		srcWidth, dstWidth = max(srcWidth, len(l.Src)), max(dstWidth, len(l.Dst))
	}
	columns := width
	if columns <= 0 {
		columns = 80
	}
	page := []string{
		heading(title, now.Format("15:04:05"), columns),
		"",
		fmt.Sprintf("Src: %v, Dest: %v, Proto: %s, Sorted by: %s", o.src, o.dst, proto, sorted),
		"",
		fmt.Sprintf("%-*s %-*s %3s %4s %7s %9s %9s", srcWidth+6, "Source IP", dstWidth+6, "Destination IP", "ST", "PR", "#pkts", "#bytes", "ttl"),
	}
	for _, l := range all {
		src, dst := l.Src, l.Dst
		if ruleset.HasPorts(l.Protocol) {
			src, dst = fmt.Sprintf("%s,%d", src, l.SrcPort), fmt.Sprintf("%s,%d", dst, l.DstPort)
		}
		name := ruleset.Protocol(l.Protocol)
		page = append(page, fmt.Sprintf("%-*s %-*s %3s %4s %7d %9d %9s", srcWidth+6, src, dstWidth+6, dst,
			fmt.Sprintf("%X/%X", l.TCP[0], l.TCP[1]), name[:min(4, len(name))], l.packets, l.bytes, clock(l.TTL)))
	}
	if height > 0 && len(page) > height {
		page = page[:height]
	}
	for i := range page {
		if width > 0 && len(page[i]) > width {
			page[i] = page[i][:width]
		}
	}
	return page
}

// heading is the title in the middle of a line, with the time at its end.
func heading(title, now string, columns int) string {
	room := max(0, columns-len(now))
	if len(title) >= room {
		title = title[:max(0, room-1)]
	}
	left := (room - len(title)) / 2
	return strings.Repeat(" ", left) + title + strings.Repeat(" ", room-left-len(title)) + now
}

// clock is seconds as "h:mm:ss" or "m:ss".
func clock(s int64) string {
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// key changes the view as a key says; done: the show is over, whole: all is to be drawn anew.
func (v *view) key(k byte) (done, whole bool) {
	switch k | 0x20 { // upper case is lower case
	case 'q':
		return true, false
	case 'l':
		return false, true
	case 'r':
		v.reverse = !v.reverse
	case 'b':
		v.backward = true
	case 'f':
		v.backward = false
	case 's':
		v.sort = (v.sort + 1) % len(orders)
	}
	return false, false
}
