package netstat

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"ionet/protocol"
)

// RouteRow is what --json prints of a route.
type RouteRow struct {
	Family      string   `json:"family"`      // "inet", "inet6"
	Destination string   `json:"destination"` // "10.0.0.0/8"; a host has its full length
	Gateway     string   `json:"gateway"`     // an address, a link address, or "link#2"
	Flags       string   `json:"flags"`       // the letters, all of them
	FlagBits    uint32   `json:"flag_bits"`   // RTF_*
	Refs        int      `json:"refs"`
	Use         uint64   `json:"use"`
	MTU         uint64   `json:"mtu,omitempty"`
	Interface   string   `json:"interface"`
	Expire      uint64   `json:"expire,omitempty"` // Unix seconds
	RecvPipe    uint64   `json:"recvpipe,omitempty"`
	SendPipe    uint64   `json:"sendpipe,omitempty"`
	Ssthresh    uint64   `json:"ssthresh,omitempty"`
	RTT         uint64   `json:"rtt,omitempty"` // microseconds
	RTTVar      uint64   `json:"rttvar,omitempty"`
	Hopcount    uint64   `json:"hopcount,omitempty"`
	Locks       []string `json:"locks,omitempty"` // names of the metrics that may not change
}

// flagLetters are the letters of the Flags column, in its order.
var flagLetters = [...]struct {
	bit    uint32
	letter byte
}{
	{protocol.RTFUp, 'U'}, {protocol.RTFGateway, 'G'}, {protocol.RTFHost, 'H'}, {protocol.RTFReject, 'R'},
	{protocol.RTFDynamic, 'D'}, {protocol.RTFModified, 'M'}, {protocol.RTFDone, 'd'}, {protocol.RTFMask, 'm'},
	{protocol.RTFCloning, 'C'}, {protocol.RTFXResolve, 'X'}, {protocol.RTFLLInfo, 'L'}, {protocol.RTFStatic, 'S'},
	{protocol.RTFBlackhole, 'B'}, {protocol.RTFCloned, 'c'}, {protocol.RTFProto1, '1'}, {protocol.RTFProto2, '2'},
	{protocol.RTFMPath, 'P'},
}

func appendFlags(b []byte, flags uint32) []byte {
	for i := range flagLetters {
		if flags&flagLetters[i].bit != 0 {
			b = append(b, flagLetters[i].letter)
		}
	}
	return b
}

// table prints routes; one for a dump, which may have a million of them.
type table struct {
	c       *command
	family  int // of the rows so far
	ifs     map[int]string
	flags   map[uint32]string // texts of the Flags column
	last    int
	lastIf  string
	dst, gw int  // widths
	cut     bool // texts that are too wide are cut
	line    []byte
}

// routes prints the routing table page by page as it comes: nothing is
// collected.
func (c *command) routes() error {
	t := &table{c: c, flags: map[uint32]string{}, cut: !c.o.Numeric && !c.o.Verbose}
	if err := t.interfaces(); err != nil {
		return err
	}
	if !c.o.JSON {
		c.out.WriteString("Routing tables\n")
		if c.o.has("inet") {
			t.heading(protocol.AFInet)
		}
	}
	var m protocol.RouteMessage
	for page, err := range c.s.DumpRaw(protocol.DumpRoutes, c.o.family(), 0) {
		if err != nil {
			return err
		}
		for len(page) > 0 {
			if page, err = m.Decode(page); err != nil {
				return err
			}
			if err := t.row(&m); err != nil {
				return err
			}
		}
	}
	return nil
}

// interfaces reads the names of the interfaces.
func (t *table) interfaces() error {
	rows, err := t.c.s.Interfaces()
	if err != nil {
		return err
	}
	t.ifs = make(map[int]string, len(rows))
	for _, r := range rows {
		t.ifs[r.Index] = r.Name
	}
	return nil
}

// ifname is the name of an interface; one that came during the dump is asked
// for.
func (t *table) ifname(index int) string {
	if index == t.last {
		return t.lastIf
	}
	name, ok := t.ifs[index]
	if !ok && index != 0 {
		if t.interfaces() == nil {
			name = t.ifs[index]
		}
		t.ifs[index] = name // asked once, whatever came of it
	}
	t.last, t.lastIf = index, name
	return name
}

// heading opens a family.
func (t *table) heading(family int) {
	t.family = family
	name := "Internet"
	t.dst, t.gw = 18, 18
	if family == protocol.AFInet6 {
		name = "Internet6"
		if t.c.o.Numeric {
			t.dst, t.gw = 29, 25
		}
	}
	fmt.Fprintf(t.c.out, "\n%s:\n%-*.*s %-*.*s %-6.6s  %6.6s%8.8s %6.6s  %s\n", name,
		t.dst, t.dst, "Destination", t.gw, t.gw, "Gateway", "Flags", "Refs", "Use", "Mtu", "Interface")
}

// row prints one route.
func (t *table) row(m *protocol.RouteMessage) error {
	o := t.c.o
	if o.NoLink && m.Flags&protocol.RTFLLInfo != 0 {
		return nil
	}
	b := t.line[:0]
	if o.JSON {
		var err error
		if b, err = t.appendJSON(b, m); err != nil {
			return err
		}
	} else {
		if m.Dst.Family != t.family {
			t.heading(m.Dst.Family)
		}
		b = t.appendRow(b, m)
		if o.Verbose {
			b = appendMetrics(b, &m.Metrics)
		}
	}
	t.line = b
	_, err := t.c.out.Write(b)
	return err
}

// appendRow appends a route. What a long address takes beyond its column is
// taken back from the blanks behind it, so that the numbers stay in theirs.
func (t *table) appendRow(b []byte, m *protocol.RouteMessage) []byte {
	start := len(b)
	row := start
	b = t.column(t.appendDst(b, m), start, t.dst)
	start = len(b)
	b = t.column(t.appendGateway(b, m), start, t.gw)
	flags, ok := t.flags[m.Flags]
	if !ok {
		flags = string(appendFlags(nil, m.Flags))
		t.flags[m.Flags] = flags
	}
	over := max(0, len(b)-row-(t.dst+t.gw+2))
	if !t.c.o.Verbose && len(flags) > 6 {
		flags = flags[:6]
	}
	b = append(left(b, flags, 6-over, false), ' ')
	width := 6
	if over > 0 {
		width = min(6, 12-over-len(flags))
	}
	b = right(b, uint64(m.Refs), width)
	b = append(b, ' ')
	b = right(b, m.Use, 8)
	b = append(b, ' ')
	if m.Metrics.MTU != 0 {
		b = right(b, m.Metrics.MTU, 6)
	} else {
		b = append(b, "     -"...)
	}
	b = append(b, lock(m.Metrics.Locks, protocol.RTVMTU))
	if name := t.ifname(m.Index); name != "" {
		b = append(b, ' ')
		b = append(b, name...)
	}
	return append(b, '\n')
}

// column ends a column that began at start.
func (t *table) column(b []byte, start, width int) []byte {
	if n := len(b) - start; n < width {
		b = pad(b, width-n)
	} else if t.cut && n > width {
		b = b[:start+width]
	}
	return append(b, ' ')
}

func (t *table) appendDst(b []byte, m *protocol.RouteMessage) []byte {
	a := m.Dst.IP
	switch {
	case m.Dst.Family == protocol.AFInet:
		switch {
		case m.Flags&protocol.RTFHost != 0:
			return t.appendHost(b, a)
		case a.IsUnspecified() && m.NetmaskBits <= 0:
			return append(b, "default"...)
		}
		return appendNet4(b, a, m.Netmask, m.NetmaskBits)
	case m.Dst.Family == protocol.AFInet6:
		switch {
		case m.Flags&protocol.RTFHost != 0 || m.Netmask.Family == 0:
			return t.appendHost(b, a)
		case a.IsUnspecified() && m.NetmaskBits == 0:
			return append(b, "default"...)
		}
		b = t.scoped(a).AppendTo(b)
		return strconv.AppendInt(append(b, '/'), int64(m.NetmaskBits), 10)
	}
	return append(b, m.Dst.String()...)
}

func (t *table) appendGateway(b []byte, m *protocol.RouteMessage) []byte {
	switch g := &m.Gateway; g.Family {
	case protocol.AFInet, protocol.AFInet6:
		if g.IP.Is4() && g.IP.IsUnspecified() {
			return append(b, "default"...)
		}
		return t.appendHost(b, g.IP)
	case protocol.AFLink:
		return appendLink(b, &g.Link)
	}
	return b
}

func (t *table) appendHost(b []byte, a netip.Addr) []byte {
	a = t.scoped(a)
	if t.c.o.Numeric {
		return a.AppendTo(b)
	}
	return append(b, t.c.host(a)...)
}

// scoped gives the scope of an inet6 address its interface's name.
func (t *table) scoped(a netip.Addr) netip.Addr {
	if a.Is4() || a.Zone() == "" {
		return a
	}
	if n, err := strconv.Atoi(a.Zone()); err == nil && t.ifs[n] != "" {
		return a.WithZone(t.ifs[n])
	}
	return a
}

// appendNet4 appends a network as BSD writes it: octets of zeroes at the end
// left out, and the length only where it is not the class's.
func appendNet4(b []byte, a netip.Addr, mask protocol.Addr, bits int) []byte {
	ip := a.As4()
	n := 4
	for n > 1 && ip[n-1] == 0 {
		n--
	}
	for i := range n {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendUint(b, uint64(ip[i]), 10)
	}
	switch {
	case bits == 0 || !mask.IP.Is4():
		return b
	case bits < 0:
		m := mask.IP.As4()
		b = append(b, "&0x"...)
		return strconv.AppendUint(b, uint64(m[0])<<24|uint64(m[1])<<16|uint64(m[2])<<8|uint64(m[3]), 16)
	case bits == classBits(ip[0]):
		return b
	}
	return strconv.AppendInt(append(b, '/'), int64(bits), 10)
}

// classBits is the mask that netstat takes for understood: groups and
// experimental addresses count as class C.
func classBits(first byte) int {
	switch {
	case first < 128:
		return 8
	case first < 192:
		return 16
	}
	return 24
}

const hexDigits = "0123456789abcdef"

func appendLink(b []byte, l *protocol.LinkAddr) []byte {
	if l.Len == 0 {
		return strconv.AppendInt(append(b, "link#"...), int64(l.Index), 10)
	}
	for i := range min(int(l.Len), len(l.Octet)) {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, hexDigits[l.Octet[i]>>4], hexDigits[l.Octet[i]&15])
	}
	return b
}

func lock(locks uint64, bit uint64) byte {
	if locks&bit != 0 {
		return 'L'
	}
	return ' '
}

// appendMetrics appends the two lines of -v.
func appendMetrics(b []byte, x *protocol.RouteMetrics) []byte {
	one := func(sep, name string, v, bit uint64) {
		b = append(b, sep...)
		b = append(b, name...)
		b = append(b, ' ')
		b = right(b, v, 10)
		b = append(b, lock(x.Locks, bit))
	}
	one("\t", "expire  ", x.Expire, protocol.RTVExpire)
	one("  ", "recvpipe", x.Rpipe, protocol.RTVRpipe)
	one("  ", "sendpipe", x.Spipe, protocol.RTVSpipe)
	one("\n\t", "ssthresh", x.Ssthresh, protocol.RTVSsthresh)
	one("  ", "rtt     ", x.RTT, protocol.RTVRTT)
	one("  ", "rttvar  ", x.RTTVar, protocol.RTVRTTVar)
	return append(b, '\n')
}

var lockNames = [...]string{"mtu", "hopcount", "expire", "recvpipe", "sendpipe", "ssthresh", "rtt", "rttvar"}

func (t *table) appendJSON(b []byte, m *protocol.RouteMessage) ([]byte, error) {
	x := &m.Metrics
	r := RouteRow{Family: "inet", Flags: string(appendFlags(nil, m.Flags)), FlagBits: m.Flags, Refs: m.Refs, Use: m.Use,
		MTU: x.MTU, Interface: t.ifname(m.Index), Expire: x.Expire, RecvPipe: x.Rpipe, SendPipe: x.Spipe,
		Ssthresh: x.Ssthresh, RTT: x.RTT, RTTVar: x.RTTVar, Hopcount: x.Hopcount}
	if m.Dst.Family == protocol.AFInet6 {
		r.Family = "inet6"
	}
	if !m.Dst.IP.IsValid() {
		return nil, errors.New("the stack sent a route without a destination")
	}
	length := strconv.Itoa(m.Dst.IP.BitLen())
	switch {
	case m.Flags&protocol.RTFHost != 0:
	case m.NetmaskBits >= 0:
		length = strconv.Itoa(m.NetmaskBits)
	case m.Netmask.Family != 0:
		length = m.Netmask.String() // one with holes
	}
	r.Destination = t.scoped(m.Dst.IP).String() + "/" + length
	switch m.Gateway.Family {
	case protocol.AFInet, protocol.AFInet6:
		r.Gateway = t.scoped(m.Gateway.IP).String()
	case protocol.AFLink:
		r.Gateway = string(appendLink(nil, &m.Gateway.Link))
	}
	for i, name := range lockNames {
		if x.Locks&(1<<i) != 0 {
			r.Locks = append(r.Locks, name)
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return append(append(b, line...), '\n'), nil
}
