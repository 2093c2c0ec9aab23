package netstat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ionet/protocol"
)

// shortStates are the states as -A and -n together show them.
var shortStates = map[string]string{
	"SYN_SENT": "SYNSEN", "SYN_RECEIVED": "SYSRCV", "ESTABLISHED": "ESTABL", "CLOSE_WAIT": "CLWAIT",
	"FIN_WAIT_1": "FWAIT1", "CLOSING": "CLOSNG", "LAST_ACK": "LASTAK", "FIN_WAIT_2": "FWAIT2", "TIME_WAIT": "TMWAIT",
}

// protoRank orders protocols as /etc/protocols does.
func protoRank(proto string) int {
	if i := slices.Index([]string{"ip", "icmp", "igmp", "tcp", "udp"}, strings.TrimSuffix(proto, "6")); i >= 0 {
		return i
	}
	return 99
}

// socketRows are the sockets to show, in order.
func (c *command) socketRows() ([]protocol.SocketRow, error) {
	if !c.o.has("inet") && !c.o.has("inet6") {
		return nil, nil // no sockets of such a family are in the stack
	}
	rows, err := c.s.Sockets()
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r protocol.SocketRow) bool {
		return !c.o.has(r.Family) || !c.o.All && r.Local == "*"
	})
	slices.SortStableFunc(rows, func(a, b protocol.SocketRow) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(protoRank(a.Proto), protoRank(b.Proto)))
	})
	return rows, nil
}

// sockets shows the sockets of the internet families.
func (c *command) sockets() error {
	rows, err := c.socketRows()
	if err != nil {
		return err
	}
	family := ""
	for _, r := range rows {
		if c.o.JSON {
			if err := c.json(r); err != nil {
				return err
			}
			continue
		}
		if r.Family != family {
			family = r.Family
			c.socketHeading(family)
		}
		c.out.Write(c.appendSocket(nil, r))
	}
	return nil
}

// socketColumns is the width of the address columns, and whether the short
// form is wanted.
func (c *command) socketColumns() (width int, compact bool) {
	switch {
	case c.o.PCBs && c.o.Numeric:
		return 21, true
	case c.o.PCBs:
		return 18, false
	}
	return 22, false
}

func (c *command) socketHeading(family string) {
	name, state := "Internet", "State"
	if family == "inet6" {
		name, state = "Internet6", "(state)"
	}
	fmt.Fprintf(c.out, "Active %s connections", name)
	if c.o.All {
		c.out.WriteString(" (including servers)")
	}
	c.out.WriteByte('\n')
	width, compact := c.socketColumns()
	gap := " "
	if compact {
		gap = ""
	}
	if c.o.PCBs {
		fmt.Fprintf(c.out, "%-8.8s ", "PCB")
	}
	fmt.Fprintf(c.out, "%-5.5s %-6.6s %-6.6s %s%-*.*s %-*.*s %s\n", "Proto", "Recv-Q", "Send-Q", gap,
		width, width, "Local Address", width, width, "Foreign Address", state)
}

func (c *command) appendSocket(b []byte, r protocol.SocketRow) []byte {
	width, compact := c.socketColumns()
	if c.o.PCBs {
		b = pad(b, 8-len(r.PCB))
		b = append(append(b, r.PCB...), ' ')
	}
	proto := r.Proto
	if r.Family == "inet6" && !strings.HasSuffix(proto, "6") {
		proto += "6"
	}
	b = left(b, proto, 5, true)
	b = append(b, ' ')
	b = right(b, uint64(max(r.RecvQ, 0)), 6)
	b = append(b, ' ')
	b = right(b, uint64(max(r.SendQ, 0)), 6)
	if !compact {
		b = append(b, ' ')
	}
	b = append(b, ' ')
	b = left(b, c.endpoint(r.Local, r.LPort, r.Proto), width, !c.o.Verbose)
	b = append(b, ' ')
	b = left(b, c.endpoint(r.Foreign, r.FPort, r.Proto), width, !c.o.Verbose)
	if r.State != "" {
		state := r.State
		if s, ok := shortStates[state]; ok && compact {
			state = s
		}
		b = append(append(b, ' '), state...)
	}
	return append(b, '\n')
}

// endpoint is a host and a port with a dot between them; "*" is any.
func (c *command) endpoint(host string, port int, proto string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		host = c.host(a)
	} else if host == "" {
		host = "*"
	}
	limit := 16
	if c.o.PCBs && !c.o.Numeric {
		limit = 12
	}
	if !c.o.Verbose && len(host) > limit {
		host = host[:limit]
	}
	if port == 0 {
		return host + ".*"
	}
	if !c.o.Numeric {
		if name := c.h.Service(port, strings.TrimSuffix(proto, "6")); name != "" {
			if !c.o.Verbose && len(name) > 8 {
				name = name[:8]
			}
			return host + "." + name
		}
	}
	return host + "." + strconv.Itoa(port)
}

// pcbRow is what -P --json prints.
type pcbRow struct {
	protocol.SocketRow
	TCP *protocol.TCPInfo `json:"tcp,omitempty"`
}

// pcb shows one protocol control block (-P).
func (c *command) pcb() error {
	rows, err := c.s.Sockets()
	if err != nil {
		return err
	}
	for _, s := range rows {
		n, err := strconv.ParseUint(s.PCB, 16, 64)
		if err != nil || n != c.o.PCB || n == 0 || c.o.Proto != "" && c.o.Proto != strings.TrimSuffix(s.Proto, "6") && c.o.Proto != s.Proto {
			continue
		}
		r := pcbRow{SocketRow: s}
		if s.Proto == "tcp" {
			i, err := c.s.TCP(s.PCB)
			if err != nil {
				return err
			}
			r.TCP = &i
		}
		if c.o.JSON {
			return c.json(r)
		}
		c.printPCB(n, &r)
		return nil
	}
	return fmt.Errorf("no control block at %x: netstat -aA shows the names of all", c.o.PCB)
}

func (c *command) printPCB(n uint64, r *pcbRow) {
	p := func(format string, a ...any) { fmt.Fprintf(c.out, format, a...) }
	p("%s Protocol Control Block at 0x%08x:\n\n", strings.ToUpper(r.Proto), n)
	p("Local: %s.%s\nForeign: %s.%s\n\n", r.Local, portText(r.LPort), r.Foreign, portText(r.FPort))
	if i := r.TCP; i != nil {
		c.printTCP(i)
	} else if r.State != "" {
		p("State: %s\n\n", r.State)
	}
	p("recvq %d, sendq %d, pid %d, uid %d\n", r.RecvQ, r.SendQ, r.PID, r.UID)
}

// printTCP shows a connection by the names of struct tcpcb, with those of
// what came to BSD later or never between them.
func (c *command) printTCP(i *protocol.TCPInfo) {
	p := func(format string, a ...any) { fmt.Fprintf(c.out, format, a...) }
	var agreed []string
	for _, f := range []struct {
		on   bool
		name string
	}{{i.Timestamps, "TIMESTAMPS"}, {i.SACK, "SACK"}, {i.WScale, "WSCALE"}, {i.ECN, "ECN"}} {
		if f.on {
			agreed = append(agreed, f.name)
		}
	}
	p("State: %s, options <%s>, congestion %s, %s\n\n", i.State, strings.Join(agreed, ","), i.Congestion, i.Phase)
	p("rxtshift %d, rxtcur %s\n", i.Backoff, millis(i.RTO))
	p("peermss %d, segsz %d, rcvsz %d, mtu %d\n\n", i.PeerMSS, i.MSS, i.RcvMSS, i.MTU)
	p("snd_una %d, snd_nxt %d, iss %d, snd_wnd %d\n", i.SndUna, i.SndNxt, i.ISS, i.SndWnd)
	p("rcv_wnd %d, rcv_nxt %d, rcv_adv %d, irs %d\n\n", i.RcvWnd, i.RcvNxt, i.RcvAdv, i.IRS)
	p("snd_cwnd %d, snd_ssthresh %d, in flight %d, lost %d, sacked %d\n", i.Cwnd, i.SSThresh, i.InFlight, i.Lost, i.SACKed)
	if i.SRTT != 0 {
		p("srtt %s, rttvar %s, rttmin %s\n", millis(i.SRTT), millis(i.RTTVar), millis(i.MinRTT))
	} else {
		p("srtt not measured\n")
	}
	p("snd_scale %d, rcv_scale %d\n", i.SndScale, i.RcvScale)
	p("snd_hiwat %d, rcv_hiwat %d, out of order %d\n", i.SendBuf, i.RecvBuf, i.OutOfOrder)
	p("last sent %s, last received %s\n\n", ago(i.LastSent), ago(i.LastReceived))
}

// millis is a time of microseconds.
func millis(us int64) string { return fmt.Sprintf("%d.%03d ms", us/1000, us%1000) }

// ago is an age of milliseconds; 0: there was nothing.
func ago(ms int64) string {
	if ms == 0 {
		return "never"
	}
	return fmt.Sprintf("%d.%03d s ago", ms/1000, ms%1000)
}

func portText(port int) string {
	if port == 0 {
		return "*"
	}
	return strconv.Itoa(port)
}
