package netstat

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ionet/protocol"
)

// statFamily is the family under whose -f a protocol's counters stand.
func statFamily(proto string) string {
	switch {
	case proto == "arp", proto == "pfkey":
		return proto
	case strings.HasSuffix(proto, "6"):
		return "inet6"
	}
	return "inet"
}

// stats shows the counters of all protocols: those of IPv4 in the order of
// /etc/protocols, what else there is behind them, then IPv6. Those of the
// routing table are -rs's.
func (c *command) stats() error {
	rows, err := c.s.Counters("")
	if err != nil {
		return err
	}
	var order []string
	for _, r := range rows {
		if r.Proto != "route" && !slices.Contains(order, r.Proto) && c.o.has(statFamily(r.Proto)) {
			order = append(order, r.Proto)
		}
	}
	rank := func(p string) int {
		if i := slices.Index(protocols, p); i >= 0 {
			return 2 * i
		}
		return 2*slices.Index(protocols, "ip6") - 1 // unknown ones before IPv6
	}
	slices.SortStableFunc(order, func(a, b string) int { return rank(a) - rank(b) })
	for _, p := range order {
		if err := c.counters(p, rows); err != nil {
			return err
		}
	}
	return nil
}

// protoStats shows the counters of one protocol. TCP and UDP count both
// versions of IP together.
func (c *command) protoStats(proto string) error {
	if proto == "tcp6" || proto == "udp6" {
		proto = strings.TrimSuffix(proto, "6")
	}
	rows, err := c.s.Counters(proto)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("%s: no stats routine", proto)
	}
	return c.counters(proto, rows)
}

func (c *command) counters(proto string, rows []protocol.CounterRow) error {
	heading := proto
	switch proto {
	case "route":
		heading = "routing"
	case "mroute", "mroute6":
		heading = "multicast forwarding"
	}
	var b []byte
	if !c.o.JSON {
		b = append(append(b, heading...), ":\n"...)
	}
	open := false // a line that "(" may continue
	under := ""   // the heading that was shown last
	for _, r := range rows {
		if r.Proto != proto || c.o.Stats > 1 && r.Value == 0 {
			continue
		}
		if c.o.JSON {
			if err := c.json(r); err != nil {
				return err
			}
			continue
		}
		if r.Heading != "" {
			if r.Value == 0 {
				continue
			}
			if r.Heading != under {
				b = append(append(append(b, '\t'), r.Heading...), ":\n"...)
			}
			b = append(b, '\t')
		}
		under = r.Heading
		switch {
		case open && strings.HasPrefix(r.Sentence, "("):
			b[len(b)-1] = ' '
		default:
			b = append(b, '\t')
		}
		b = append(appendSentence(b, r.Sentence, r.Value), '\n')
		open = true
	}
	_, err := c.out.Write(b)
	return err
}

// appendSentence appends a counter's sentence: '#' is the value, {s}, {es}
// and {y} are the endings of a plural.
func appendSentence(b []byte, s string, n uint64) []byte {
	for s != "" {
		i := strings.IndexAny(s, "#{")
		if i < 0 {
			return append(b, s...)
		}
		b = append(b, s[:i]...)
		s = s[i:]
		mark, one, many := "", "", ""
		switch {
		case s[0] == '#':
			b = strconv.AppendUint(b, n, 10)
			s = s[1:]
			continue
		case strings.HasPrefix(s, "{s}"):
			mark, many = "{s}", "s"
		case strings.HasPrefix(s, "{es}"):
			mark, many = "{es}", "es"
		case strings.HasPrefix(s, "{y}"):
			mark, one, many = "{y}", "y", "ies"
		default:
			b = append(b, '{')
			s = s[1:]
			continue
		}
		if n == 1 {
			b = append(b, one...)
		} else {
			b = append(b, many...)
		}
		s = s[len(mark):]
	}
	return b
}

// pageSize is the page of the lines about mapped pages.
const pageSize = 4096

// memory shows the packet memory (-m).
func (c *command) memory() error {
	rows, err := c.s.Mbuf()
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return fmt.Errorf("the stack sent %d rows about its packet memory, not 1", len(rows))
	}
	r := rows[0]
	if c.o.JSON {
		return c.json(r)
	}
	fmt.Fprintf(c.out, "%d mbufs in use:\n", r.Buffers)
	if r.Buffers != 0 {
		fmt.Fprintf(c.out, "\t%d mbufs allocated to data\n", r.Buffers)
	}
	percent := int64(0)
	if r.Limit > 0 {
		percent = r.Octets * 100 / r.Limit
	}
	fmt.Fprintf(c.out, "%d/%d mapped pages in use\n", (r.Octets+pageSize-1)/pageSize, r.Limit/pageSize)
	fmt.Fprintf(c.out, "%d Kbytes allocated to network (%d%% in use)\n", r.Limit/1024, percent)
	fmt.Fprintf(c.out, "%d requests for memory denied\n", r.Denied)
	c.out.WriteString("0 requests for memory delayed\n0 calls to protocol drain routines\n")
	return nil
}
