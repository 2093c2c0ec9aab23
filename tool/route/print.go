package route

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"ionet/protocol"
)

// bits are the names of a set of bits, lowest first.
type bits []struct {
	bit  uint32
	name string
}

var (
	routeFlags = bits{{0x1, "UP"}, {0x2, "GATEWAY"}, {0x4, "HOST"}, {0x8, "REJECT"}, {0x10, "DYNAMIC"}, {0x20, "MODIFIED"},
		{0x40, "DONE"}, {0x80, "MASK_PRESENT"}, {0x100, "CLONING"}, {0x200, "XRESOLVE"}, {0x400, "LLINFO"}, {0x800, "STATIC"},
		{0x1000, "BLACKHOLE"}, {0x2000, "CLONED"}, {0x4000, "PROTO2"}, {0x8000, "PROTO1"}, {0x40000, "MPATH"}}
	interfaceFlags = bits{{0x1, "UP"}, {0x2, "BROADCAST"}, {0x4, "DEBUG"}, {0x8, "LOOPBACK"}, {0x10, "PTP"}, {0x20, "NOTRAILERS"},
		{0x40, "RUNNING"}, {0x80, "NOARP"}, {0x100, "PPROMISC"}, {0x200, "ALLMULTI"}, {0x400, "OACTIVE"}, {0x800, "SIMPLEX"},
		{0x1000, "LINK0"}, {0x2000, "LINK1"}, {0x4000, "LINK2"}, {0x8000, "MULTICAST"}}
	metricNames = bits{{0x1, "mtu"}, {0x2, "hopcount"}, {0x4, "expire"}, {0x8, "recvpipe"}, {0x10, "sendpipe"},
		{0x20, "ssthresh"}, {0x40, "rtt"}, {0x80, "rttvar"}, {0x100, "pksent"}}
	addressNames = bits{{0x1, "DST"}, {0x2, "GATEWAY"}, {0x4, "NETMASK"}, {0x8, "GENMASK"}, {0x10, "IFP"}, {0x20, "IFA"},
		{0x40, "AUTHOR"}, {0x80, "BRD"}}
)

func (b bits) names(v uint32) []string {
	out := []string{}
	for _, n := range b {
		if v&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

// format is "<A,B>", and nothing at all for no bits.
func (b bits) format(v uint32) string {
	if n := b.names(v); len(n) > 0 {
		return "<" + strings.Join(n, ",") + ">"
	}
	return ""
}

var messageTexts = map[int]string{
	protocol.RTMAdd:        "RTM_ADD: Add Route",
	protocol.RTMDelete:     "RTM_DELETE: Delete Route",
	protocol.RTMChange:     "RTM_CHANGE: Change Metrics or flags",
	protocol.RTMGet:        "RTM_GET: Report Metrics",
	protocol.RTMLosing:     "RTM_LOSING: Kernel Suspects Partitioning",
	protocol.RTMRedirect:   "RTM_REDIRECT: Told to use different route",
	protocol.RTMMiss:       "RTM_MISS: Lookup failed on this address",
	protocol.RTMLock:       "RTM_LOCK: fix specified metrics",
	protocol.RTMResolve:    "RTM_RESOLVE: Route created by cloning",
	protocol.RTMNewAddr:    "RTM_NEWADDR: address being added to iface",
	protocol.RTMDelAddr:    "RTM_DELADDR: address being removed from iface",
	protocol.RTMIfInfo:     "RTM_IFINFO: iface status change",
	protocol.RTMIfAnnounce: "RTM_IFANNOUNCE: iface arrival/departure",
	protocol.RTMDesync:     "RTM_DESYNC: messages were lost",
}

// printer prints messages and routes.
type printer struct {
	w    io.Writer
	name func(netip.Addr) string // nil: numeric
	now  func() time.Time
}

// host is the name or number of an address: routename.
func (p *printer) host(a protocol.Addr) string {
	switch {
	case a.Family == protocol.AFLink:
		return linkText(a.Link)
	case !a.IP.IsValid() || a.IP.IsUnspecified():
		return "default"
	}
	if p.name != nil {
		if n := p.name(a.IP); n != "" {
			return n
		}
	}
	return a.IP.String()
}

// destination is the host or the network that a route leads to: netname. A
// network of IPv6 has its length behind it, since nothing else tells it.
func (p *printer) destination(m *protocol.RouteMessage) string {
	a := m.Dst
	switch {
	case m.Flags&protocol.RTFHost != 0 || a.Family == protocol.AFLink || !a.IP.IsValid():
		return p.host(a)
	case a.IP.IsUnspecified() && m.NetmaskBits <= 0:
		return p.host(a)
	case a.IP.Is6() && m.NetmaskBits >= 0:
		return fmt.Sprintf("%s/%d", a.IP, m.NetmaskBits)
	}
	return a.IP.String()
}

// gateway is the number of a gateway, or its link address.
func (p *printer) gateway(a protocol.Addr) string {
	if a.Family == protocol.AFLink || !a.IP.IsValid() || a.IP.IsUnspecified() {
		return p.host(a)
	}
	return a.IP.String()
}

func maskText(a protocol.Addr) string {
	if !a.IP.IsValid() || a.IP.IsUnspecified() {
		return "default"
	}
	return a.IP.String()
}

// linkText is link_ntoa: "en0:0.50.da.c8.2f.96", one half of it, or "link#2".
func linkText(l protocol.LinkAddr) string {
	var b strings.Builder
	b.WriteString(l.Name)
	if l.Len > 0 && l.Name != "" {
		b.WriteByte(':')
	}
	for i, o := range l.HW() {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%x", o)
	}
	if b.Len() == 0 {
		fmt.Fprintf(&b, "link#%d", l.Index)
	}
	return b.String()
}

// located are the addresses of a message with their RTA_* bits, in order.
type located struct {
	bit  uint32
	addr protocol.Addr
}

func addressesOf(m protocol.Message) (out []located) {
	add := func(bit uint32, a protocol.Addr) {
		if a.Family != 0 {
			out = append(out, located{bit, a})
		}
	}
	switch m := m.(type) {
	case *protocol.RouteMessage:
		for i, a := range []protocol.Addr{m.Dst, m.Gateway, m.Netmask, m.Genmask, m.Ifp, m.Ifa, m.Author, m.Brd} {
			add(1<<i, a)
		}
	case *protocol.IfMessage:
		l := m.LinkAddr
		l.Index, l.Name = m.Index, m.Name
		add(protocol.RTAIfp, protocol.LinkAddrOf(l))
	case *protocol.AddrMessage:
		add(protocol.RTANetmask, m.Netmask)
		add(protocol.RTAIfp, m.Ifp)
		add(protocol.RTAIfa, m.Addr)
		add(protocol.RTABrd, m.Brd)
	}
	return out
}

// monitored prints a message as monitor shows it.
func (p *printer) monitored(m protocol.Message) {
	n := len(protocol.AppendMessage(nil, m))
	fmt.Fprintf(p.w, "got message of size %d on %s\n", n, p.now().Format(time.ANSIC))
	p.message(m)
}

// message prints a message.
func (p *printer) message(m protocol.Message) {
	fmt.Fprintf(p.w, "%s: len %d, ", messageTexts[m.RTMType()], len(protocol.AppendMessage(nil, m)))
	switch m := m.(type) {
	case *protocol.IfMessage:
		fmt.Fprintf(p.w, "if# %d, flags:%s", m.Index, interfaceFlags.format(m.Flags))
		p.addresses(m)
	case *protocol.AddrMessage:
		fmt.Fprintf(p.w, "metric %d, flags:%s", m.Metric, routeFlags.format(m.Flags))
		p.addresses(m)
	case *protocol.AnnounceMessage:
		fmt.Fprintf(p.w, "if# %d, what: %s\n", m.Index, whatText(m.What))
	case *protocol.DesyncMessage:
		fmt.Fprintf(p.w, "%d messages\n", m.Lost)
	case *protocol.RouteMessage:
		fmt.Fprintf(p.w, "pid: %d, seq %d, errno %d, flags:%s", m.PID, m.Seq, int(m.Errno), routeFlags.format(m.Flags))
		p.common(m)
	}
}

func whatText(what int) string {
	switch what {
	case protocol.IfArrival:
		return "arrival"
	case protocol.IfDeparture:
		return "departure"
	}
	return fmt.Sprint(what)
}

func (p *printer) common(m *protocol.RouteMessage) {
	fmt.Fprintf(p.w, "\nlocks: %s inits: %s", metricNames.format(uint32(m.Metrics.Locks)), metricNames.format(m.Inits))
	p.addresses(m)
}

func (p *printer) addresses(m protocol.Message) {
	all := addressesOf(m)
	if len(all) == 0 {
		fmt.Fprintln(p.w)
		return
	}
	var set uint32
	var line strings.Builder
	for _, a := range all {
		set |= a.bit
		text := maskText(a.addr)
		if a.bit&(protocol.RTANetmask|protocol.RTAGenmask) == 0 {
			text = p.host(a.addr)
		}
		line.WriteString(" " + text)
	}
	fmt.Fprintf(p.w, "\nsockaddrs: %s\n%s\n", addressNames.format(set), line.String())
}

// got prints the answer to get. asked is the destination that was asked for.
func (p *printer) got(asked protocol.Addr, m *protocol.RouteMessage, verbose bool) {
	fmt.Fprintf(p.w, "   route to: %s\n", p.host(asked))
	if m.Dst.Family != 0 {
		fmt.Fprintf(p.w, "destination: %s\n", p.host(m.Dst))
	}
	if m.Netmask.Family != 0 {
		fmt.Fprintf(p.w, "       mask: %s\n", maskText(m.Netmask))
	}
	if m.Gateway.Family != 0 && m.Flags&protocol.RTFGateway != 0 {
		fmt.Fprintf(p.w, "    gateway: %s\n", p.host(m.Gateway))
	}
	if m.Ifa.Family != 0 {
		fmt.Fprintf(p.w, " local addr: %s\n", p.host(m.Ifa))
	}
	if m.Ifp.Link.Name != "" {
		fmt.Fprintf(p.w, "  interface: %s\n", m.Ifp.Link.Name)
	}
	fmt.Fprintf(p.w, "      flags: %s\n", routeFlags.format(m.Flags))
	fmt.Fprint(p.w, "\n recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire\n")
	x := &m.Metrics
	expire := int64(x.Expire)
	if expire != 0 {
		expire -= p.now().Unix()
	}
	msec := func(usec uint64) int64 { return int64(usec+500) / 1000 }
	for i, v := range []struct {
		lock uint64
		v    int64
	}{{protocol.RTVRpipe, int64(x.Rpipe)}, {protocol.RTVSpipe, int64(x.Spipe)}, {protocol.RTVSsthresh, int64(x.Ssthresh)},
		{protocol.RTVRTT, msec(x.RTT)}, {protocol.RTVRTTVar, msec(x.RTTVar)}, {protocol.RTVHopcount, int64(x.Hopcount)},
		{protocol.RTVMTU, int64(x.MTU)}, {protocol.RTVExpire, expire}} {
		if i > 0 {
			fmt.Fprint(p.w, " ")
		}
		lock := ' '
		if x.Locks&v.lock != 0 {
			lock = 'L'
		}
		fmt.Fprintf(p.w, "%8d%c", v.v, lock)
	}
	fmt.Fprintln(p.w)
	const usual = protocol.RTADst | protocol.RTAGateway | protocol.RTANetmask | protocol.RTAIfp | protocol.RTAIfa | protocol.RTABrd
	var set uint32
	for _, a := range addressesOf(m) {
		set |= a.bit
	}
	switch {
	case verbose:
		p.common(m)
	case set&^usual != 0:
		fmt.Fprintf(p.w, "sockaddrs: %s\n", addressNames.format(set))
	}
}

// shown prints one row of show; the heading of its family first when it is
// not the family of the row before.
func (p *printer) shown(m *protocol.RouteMessage, family *int) {
	if m.Dst.Family != *family {
		*family = m.Dst.Family
		name := fmt.Sprintf("Protocol Family %d", *family)
		switch *family {
		case protocol.AFInet:
			name = "Internet"
		case protocol.AFInet6:
			name = "Internet6"
		}
		fmt.Fprintf(p.w, "\n%s:\n%-16.16s %-18.18s %-6.6s\n", name, "Destination", "Gateway", "Flags")
	}
	dst := p.destination(m)
	gateway := p.gateway(m.Gateway)
	if l := m.Gateway.Link; m.Gateway.Family == protocol.AFLink && l.Len > 0 {
		l.Name = ""
		gateway = strings.ReplaceAll(linkText(l), ".", ":")
	}
	flags := ""
	for _, f := range []struct {
		bit  uint32
		char string
	}{{protocol.RTFUp, "U"}, {protocol.RTFGateway, "G"}, {protocol.RTFHost, "H"}} {
		if m.Flags&f.bit != 0 {
			flags += f.char
		}
	}
	fmt.Fprintf(p.w, "%s %s %-6.6s \n", p.column(dst, 16), p.column(gateway, 18), flags)
}

// column pads a name to a width; a number is never cut, nor is anything when
// names are off.
func (p *printer) column(s string, width int) string {
	if p.name != nil && !strings.Contains(s, ":") && len(s) > width {
		if _, err := netip.ParseAddr(s); err != nil {
			return s[:width]
		}
	}
	return fmt.Sprintf("%-*s", width, s)
}

// flushed is a column of what flush tells: twenty characters, but numbers of
// IPv6 stay whole.
func (p *printer) flushed(s string) string {
	if strings.Contains(s, ":") {
		return fmt.Sprintf("%-20s", s)
	}
	return fmt.Sprintf("%-20.20s", s)
}
