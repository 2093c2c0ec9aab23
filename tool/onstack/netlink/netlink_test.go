package netlink

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// stack is Tables from values; fail, if any, is what every question gets.
type stack struct {
	links  []Interface
	addrs  []Addr
	routes []Route
	ways   map[string]Route // Lookup's answers
	neighs []Neighbour
	fail   error
}

func (s *stack) Interfaces() ([]Interface, error) { return s.links, s.fail }
func (s *stack) Addrs() ([]Addr, error)           { return s.addrs, s.fail }
func (s *stack) Routes() ([]Route, error)         { return s.routes, s.fail }
func (s *stack) Neighbours() ([]Neighbour, error) { return s.neighs, s.fail }
func (s *stack) Lookup(dst netip.Addr, oif int) (Route, error) {
	if r, ok := s.ways[dst.String()]; ok && (oif == 0 || oif == r.OIF) {
		return r, s.fail
	}
	return Route{}, errors.Join(errors.New("no route"), syscall.ENETUNREACH)
}

func ip(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func hw(s string) net.HardwareAddr {
	h, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return h
}

const up = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP

// sample is a host with lo, en0 and a twin of en0, and with a row of every
// kind; a kernel's namespace is configured like it in TestKernel.
func sample() *stack {
	const en0, lo = 3, 1
	connected := func(dst, src string, scope uint8) Route {
		return Route{Dst: netip.MustParsePrefix(dst), OIF: en0, Source: ip(src), Type: unix.RTN_UNICAST, Scope: scope, Protocol: unix.RTPROT_KERNEL}
	}
	local := func(typ uint8, dst, src string, oif int) Route {
		r := Route{Dst: netip.MustParsePrefix(dst), OIF: oif, Source: ip(src), Type: typ, Scope: unix.RT_SCOPE_HOST, Protocol: unix.RTPROT_KERNEL}
		if typ == unix.RTN_BROADCAST {
			r.Scope = unix.RT_SCOPE_LINK
		}
		return r
	}
	via := func(dst, gw string, metric, mtu uint32) Route {
		return Route{Dst: netip.MustParsePrefix(dst), Gateway: ip(gw), OIF: en0, Metric: metric, MTU: mtu, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_BOOT}
	}
	nowhere := func(typ uint8, dst string) Route {
		return Route{Dst: netip.MustParsePrefix(dst), Type: typ, Protocol: unix.RTPROT_BOOT}
	}
	group := local(unix.RTN_MULTICAST, "ff00::/8", "", en0)
	group.Metric = 256
	twin := group
	twin.OIF = 2
	net6 := connected("fd00::/64", "", 0)
	net6.Metric = 256
	near, far := net6, net6
	near.Dst, far.Dst = netip.MustParsePrefix("fd04::1/128"), netip.MustParsePrefix("fd04::2/128")
	found := func(r Route, src string) Route { r.Source = ip(src); return r }
	s := &stack{
		links: []Interface{
			{Index: lo, Name: "lo", Type: unix.ARPHRD_LOOPBACK, Flags: up | unix.IFF_LOOPBACK, MTU: 65536, TxQueue: 1000,
				HW: make(net.HardwareAddr, 6), Broadcast: make(net.HardwareAddr, 6)},
			{Index: 2, Name: "en1", Type: unix.ARPHRD_ETHER, Flags: up | unix.IFF_BROADCAST | unix.IFF_MULTICAST, MTU: 1500, TxQueue: 1000,
				OperState: OperUp, HW: hw("02:00:00:00:00:02"), Broadcast: hw("ff:ff:ff:ff:ff:ff")},
			{Index: en0, Name: "en0", Type: unix.ARPHRD_ETHER, Flags: up | unix.IFF_BROADCAST | unix.IFF_MULTICAST, MTU: 1400, TxQueue: 1000,
				OperState: OperUp, HW: hw("02:00:00:00:00:01"), Broadcast: hw("ff:ff:ff:ff:ff:ff"),
				Stats: Stats{RxPackets: 1, TxPackets: 2, RxBytes: 3, TxBytes: 1 << 33, RxErrors: 5, TxErrors: 6, RxDropped: 7, TxDropped: 8, Multicast: 9, Collisions: 10}},
		},
		addrs: []Addr{
			{Index: lo, Label: "lo", Prefix: netip.MustParsePrefix("::1/128"), Flags: unix.IFA_F_PERMANENT, Scope: unix.RT_SCOPE_HOST},
			{Index: lo, Label: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8"), Flags: unix.IFA_F_PERMANENT, Scope: unix.RT_SCOPE_HOST},
			{Index: en0, Label: "en0", Prefix: netip.MustParsePrefix("10.0.0.1/24"), Broadcast: ip("10.0.0.255"), Flags: unix.IFA_F_PERMANENT},
			{Index: en0, Label: "en0", Prefix: netip.MustParsePrefix("10.0.1.1/32"), Peer: ip("10.0.1.2"), Flags: unix.IFA_F_PERMANENT},
			{Index: en0, Label: "en0", Prefix: netip.MustParsePrefix("fd00::1/64"), Flags: unix.IFA_F_PERMANENT | unix.IFA_F_NODAD},
			{Index: en0, Label: "en0", Prefix: netip.MustParsePrefix("fd04::1/128"), Peer: ip("fd04::2"), Flags: unix.IFA_F_PERMANENT | unix.IFA_F_NODAD},
		},
		routes: []Route{
			via("0.0.0.0/0", "10.0.0.254", 0, 0),
			connected("10.0.0.0/24", "10.0.0.1", unix.RT_SCOPE_LINK),
			connected("10.0.1.2/32", "10.0.1.1", unix.RT_SCOPE_LINK),
			nowhere(unix.RTN_THROW, "10.5.0.0/16"),
			nowhere(unix.RTN_PROHIBIT, "10.6.0.0/16"),
			nowhere(unix.RTN_UNREACHABLE, "10.7.0.0/16"),
			nowhere(unix.RTN_BLACKHOLE, "10.8.0.0/16"),
			via("10.9.0.0/16", "10.0.0.2", 5, 1300),
			local(unix.RTN_LOCAL, "10.0.0.1/32", "10.0.0.1", en0),
			local(unix.RTN_BROADCAST, "10.0.0.255/32", "10.0.0.1", en0),
			local(unix.RTN_LOCAL, "10.0.1.1/32", "10.0.1.1", en0),
			local(unix.RTN_LOCAL, "127.0.0.0/8", "127.0.0.1", lo),
			local(unix.RTN_LOCAL, "127.0.0.1/32", "127.0.0.1", lo),
			local(unix.RTN_BROADCAST, "127.255.255.255/32", "127.0.0.1", lo),
			net6,
			via("fd01::/64", "fd00::2", 5, 1300),
			near, far,
			via("::/0", "fd00::99", 1024, 0),
			local(unix.RTN_LOCAL, "::1/128", "", lo),
			local(unix.RTN_LOCAL, "fd00::1/128", "", en0),
			local(unix.RTN_LOCAL, "fd04::1/128", "", en0),
			twin, group,
		},
		neighs: []Neighbour{
			{Index: en0, Addr: ip("10.0.0.2"), HW: hw("02:00:00:00:00:09"), State: unix.NUD_PERMANENT, Refs: 1},
			{Index: en0, Addr: ip("10.0.0.66"), Flags: unix.NTF_PROXY},
			{Index: en0, Addr: ip("fd00::2"), HW: hw("02:00:00:00:00:09"), State: unix.NUD_PERMANENT, Flags: unix.NTF_ROUTER, Refs: 1},
		},
	}
	s.ways = map[string]Route{
		"10.0.0.9":   s.routes[1],
		"10.9.1.1":   found(s.routes[7], "10.0.0.1"),
		"8.8.8.8":    found(s.routes[0], "10.0.0.1"),
		"10.0.0.1":   func() Route { r := s.routes[8]; r.OIF = lo; return r }(),
		"10.0.0.255": s.routes[9],
		"127.0.0.1":  s.routes[12],
		"224.0.0.5":  {Dst: netip.MustParsePrefix("224.0.0.5/32"), OIF: en0, Source: ip("10.0.0.1"), Type: unix.RTN_MULTICAST},
		"10.5.0.1":   s.routes[3],
		"10.6.0.1":   s.routes[4],
		"10.7.0.1":   s.routes[5],
		"10.8.0.1":   s.routes[6],
		"fd00::9":    found(net6, "fd00::1"),
		"fd01::1":    found(via("fd01::/64", "fd00::2", 5, 1300), "fd00::1"),
		"::1":        found(local(unix.RTN_LOCAL, "::1/128", "", lo), "::1"),
	}
	return s
}

// ask is a message of a program's.
func ask(typ, flags uint16, body ...byte) []byte {
	b := ne.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = ne.AppendUint16(b, typ)
	b = ne.AppendUint16(b, flags)
	b = ne.AppendUint32(b, 7) // its number
	b = ne.AppendUint32(b, 0)
	return append(b, body...)
}

const (
	dumpAll = unix.NLM_F_REQUEST | unix.NLM_F_DUMP
	getOne  = unix.NLM_F_REQUEST
)

// Fixed headers of questions, with attributes behind them.
func ifinfo(family byte, index uint32, attrs ...[]byte) []byte {
	return slices.Concat([]byte{family, 0, 0, 0}, ne.AppendUint32(nil, index), make([]byte, 8), slices.Concat(attrs...))
}

func ifaddr(family byte, index uint32) []byte {
	return ne.AppendUint32([]byte{family, 0, 0, 0}, index)
}

func rtmsg(family byte, dstLen byte, flags uint32, attrs ...[]byte) []byte {
	return slices.Concat([]byte{family, dstLen, 0, 0, 0, 0, 0, 0}, ne.AppendUint32(nil, flags), slices.Concat(attrs...))
}

func ndmsg(family byte, index uint32, flags byte, attrs ...[]byte) []byte {
	return slices.Concat([]byte{family, 0, 0, 0}, ne.AppendUint32(nil, index), []byte{0, 0, flags, 0}, slices.Concat(attrs...))
}

func to(dst string, flags uint32, more ...[]byte) []byte {
	a := ip(dst)
	return rtmsg(family(a), byte(a.BitLen()), flags, append([][]byte{appendIP(nil, unix.RTA_DST, a)}, more...)...)
}

func from(dst, src string) []byte {
	b := to(dst, 0, appendIP(nil, unix.RTA_SRC, ip(src)))
	b[2] = byte(ip(src).BitLen())
	return b
}

func num(typ uint16, v uint32) []byte { return appendU32(nil, typ, v) }

// reply is a message of ours or the kernel's, taken apart by package syscall.
type reply struct {
	Type  uint16
	Flags uint16
	Fixed []byte
	Attrs []syscall.NetlinkRouteAttr
	Errno syscall.Errno // of NLMSG_ERROR and NLMSG_DONE
	Text  string        // and their sentence
}

var fixedLen = map[uint16]int{unix.RTM_NEWLINK: unix.SizeofIfInfomsg, unix.RTM_NEWADDR: unix.SizeofIfAddrmsg,
	unix.RTM_NEWROUTE: unix.SizeofRtMsg, unix.RTM_NEWNEIGH: unix.SizeofNdMsg, unix.RTM_NEWRULE: unix.SizeofRtMsg}

// replies reads datagrams; the end of a dump is the last.
func replies(t testing.TB, datagrams [][]byte, pid uint32) (all []reply) {
	t.Helper()
	for _, d := range datagrams {
		msgs, err := syscall.ParseNetlinkMessage(d)
		if err != nil {
			t.Fatalf("% x: %v", d, err)
		}
		for _, m := range msgs {
			if m.Header.Seq != 7 || m.Header.Pid != pid {
				t.Fatalf("message %d for %d, want 7 for %d", m.Header.Seq, m.Header.Pid, pid)
			}
			all = append(all, parseReply(t, m))
		}
	}
	return all
}

func parseReply(t testing.TB, m syscall.NetlinkMessage) reply {
	t.Helper()
	r := reply{Type: m.Header.Type, Flags: m.Header.Flags}
	switch r.Type {
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		r.Errno = syscall.Errno(-int32(ne.Uint32(m.Data)))
		tlvs := m.Data[4:]
		if r.Type == unix.NLMSG_ERROR {
			n := unix.NLMSG_HDRLEN
			if r.Flags&unix.NLM_F_CAPPED == 0 {
				n = align(int(ne.Uint32(tlvs)))
			}
			r.Fixed, tlvs = tlvs[:n], tlvs[n:]
		}
		q := request{attrs: tlvs}
		if text, ok := q.attr(unix.NLMSGERR_ATTR_MSG); ok && r.Flags&unix.NLM_F_ACK_TLVS != 0 {
			r.Text = string(bytes.TrimSuffix(text, []byte{0}))
		} else if r.Flags&unix.NLM_F_ACK_TLVS == 0 && len(tlvs) > 0 {
			t.Fatalf("attributes without NLM_F_ACK_TLVS: % x", m.Data)
		}
		return r
	}
	n := fixedLen[r.Type]
	if n == 0 || len(m.Data) < n {
		t.Fatalf("message of type %d with %d octets", r.Type, len(m.Data))
	}
	r.Fixed = m.Data[:n]
	attrs, err := parseAttrs(m.Data[n:])
	if err != nil {
		t.Fatalf("message of type %d: %v", r.Type, err)
	}
	r.Attrs = attrs
	return r
}

// parseAttrs is syscall.ParseNetlinkRouteAttr, for types that it does not know
// too.
func parseAttrs(b []byte) ([]syscall.NetlinkRouteAttr, error) {
	var m syscall.NetlinkMessage
	m.Header.Type = syscall.RTM_NEWADDR
	m.Data = append(make([]byte, unix.SizeofIfAddrmsg), b...)
	return syscall.ParseNetlinkRouteAttr(&m)
}

func (r reply) attr(typ uint16) []byte {
	for _, a := range r.Attrs {
		if a.Attr.Type&attrType == typ {
			return a.Value
		}
	}
	return nil
}

// show is an answer as text, which dialogues are compared by.
func show(rs []reply) string {
	var b strings.Builder
	text := func(v []byte) string { return string(bytes.TrimSuffix(v, []byte{0})) }
	addr := func(v []byte) string { a, _ := netip.AddrFromSlice(v); return a.String() }
	for _, r := range rs {
		switch r.Type {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			word := "done"
			if r.Type == unix.NLMSG_ERROR {
				word = "ack"
			}
			if r.Errno != 0 {
				word += " " + strings.Replace(unix.ErrnoName(r.Errno), "ENOTSUP", "EOPNOTSUPP", 1)
			}
			if r.Text != "" {
				word += " (" + r.Text + ")"
			}
			fmt.Fprintln(&b, word)
		case unix.RTM_NEWLINK:
			fmt.Fprintln(&b, "link", ne.Uint32(r.Fixed[4:]), text(r.attr(unix.IFLA_IFNAME)))
		case unix.RTM_NEWADDR:
			fmt.Fprintf(&b, "addr %d %s/%d\n", ne.Uint32(r.Fixed[4:]), addr(r.attr(unix.IFA_ADDRESS)), r.Fixed[1])
		case unix.RTM_NEWROUTE:
			dst := "default"
			if v := r.attr(unix.RTA_DST); v != nil {
				dst = fmt.Sprintf("%s/%d", addr(v), r.Fixed[1])
			}
			fmt.Fprintln(&b, "route", dst, "table", ne.Uint32(r.attr(unix.RTA_TABLE)))
		case unix.RTM_NEWNEIGH:
			fmt.Fprintln(&b, "neigh", addr(r.attr(unix.NDA_DST)))
		case unix.RTM_NEWRULE:
			fmt.Fprintln(&b, "rule", ne.Uint32(r.attr(unix.FRA_PRIORITY)))
		}
	}
	return b.String()
}

const perm = "the stack is changed with ifconfig and route"

// dialogues are what is asked, and what is answered; strict ones come from a
// socket as iproute2 has it. kernel says that the kernel answers the same.
var dialogues = []struct {
	name   string
	strict bool
	kernel bool
	ask    []byte
	want   string
}{
	{"a family alone, as Go asks", false, true, ask(unix.RTM_GETLINK, dumpAll, 0), "link 1 lo\nlink 2 en1\nlink 3 en0\ndone\n"},
	{"a family with padding, as glibc asks", false, true, ask(unix.RTM_GETADDR, dumpAll, 2, 9, 9, 9), "addr 1 127.0.0.1/8\naddr 3 10.0.0.1/24\naddr 3 10.0.1.2/32\ndone\n"},
	{"links with what is not looked at", true, true, ask(unix.RTM_GETLINK, dumpAll, ifinfo(unix.AF_PACKET, 0, num(unix.IFLA_EXT_MASK, 1))...), "link 1 lo\nlink 2 en1\nlink 3 en0\ndone\n"},
	{"links by index", true, true, ask(unix.RTM_GETLINK, dumpAll, ifinfo(0, 3)...), "done EINVAL (Filter by device index not supported for link dumps)\n"},
	{"links by index, sloppy", false, true, ask(unix.RTM_GETLINK, dumpAll, ifinfo(0, 3)...), "link 1 lo\nlink 2 en1\nlink 3 en0\ndone\n"},
	{"links of a master", true, true, ask(unix.RTM_GETLINK, dumpAll, ifinfo(0, 0, num(unix.IFLA_MASTER, 2))...), "done\n"},
	{"bridge ports", false, true, ask(unix.RTM_GETLINK, dumpAll, ifinfo(unix.AF_BRIDGE, 0)...), "done\n"},
	{"a short header", true, true, ask(unix.RTM_GETLINK, dumpAll, 0), "done EINVAL (Invalid header for link dump)\n"},
	{"a link by index", true, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 3)...), "link 3 en0\n"},
	{"a link by name", false, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 0, appendText(nil, unix.IFLA_IFNAME, "en0"))...), "link 3 en0\n"},
	{"a link by name without a zero", false, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 0, appendAttr(nil, unix.IFLA_IFNAME, "en0"))...), "link 3 en0\n"},
	{"a link by two names", false, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 0, appendText(nil, unix.IFLA_IFNAME, "lo"), appendText(nil, unix.IFLA_IFNAME, "en1"))...), "link 2 en1\n"},
	{"a link by alternative name", false, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 0, appendText(nil, unix.IFLA_ALT_IFNAME, "lo"))...), "link 1 lo\n"},
	{"a link and an acknowledgement", false, true, ask(unix.RTM_GETLINK, getOne|unix.NLM_F_ACK, ifinfo(0, 1)...), "link 1 lo\nack\n"},
	{"no such index", false, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 99)...), "ack ENODEV\n"},
	{"no such name", true, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 0, appendText(nil, unix.IFLA_IFNAME, "en9"))...), "ack ENODEV\n"},
	{"a link by nothing", false, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 0)...), "ack EINVAL\n"},

	{"addresses", true, true, ask(unix.RTM_GETADDR, dumpAll, ifaddr(0, 0)...), "addr 1 127.0.0.1/8\naddr 3 10.0.0.1/24\naddr 3 10.0.1.2/32\naddr 1 ::1/128\naddr 3 fd00::1/64\naddr 3 fd04::2/128\ndone\n"},
	{"addresses of all families", false, true, ask(unix.RTM_GETADDR, dumpAll, unix.AF_PACKET), "addr 1 127.0.0.1/8\naddr 3 10.0.0.1/24\naddr 3 10.0.1.2/32\naddr 1 ::1/128\naddr 3 fd00::1/64\naddr 3 fd04::2/128\ndone\n"},
	{"addresses of an interface", true, true, ask(unix.RTM_GETADDR, dumpAll, ifaddr(2, 3)...), "addr 3 10.0.0.1/24\naddr 3 10.0.1.2/32\ndone\n"},
	{"addresses of an interface, sloppy", false, true, ask(unix.RTM_GETADDR, dumpAll, ifaddr(2, 3)...), "addr 1 127.0.0.1/8\naddr 3 10.0.0.1/24\naddr 3 10.0.1.2/32\ndone\n"},
	{"addresses of an interface without any", true, true, ask(unix.RTM_GETADDR, dumpAll, ifaddr(2, 2)...), "done\n"},
	{"addresses of no interface", true, true, ask(unix.RTM_GETADDR, dumpAll, ifaddr(2, 99)...), "done ENODEV\n"},
	{"addresses, a short header", true, false, ask(unix.RTM_GETADDR, dumpAll, 2, 0, 0, 0), "done EINVAL (Invalid header for address dump)\n"},
	{"one address", false, true, ask(unix.RTM_GETADDR, getOne, ifaddr(2, 3)...), "ack EOPNOTSUPP\n"},

	{"routes of a table", true, true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, 0, num(unix.RTA_TABLE, unix.RT_TABLE_MAIN))...),
		"route default table 254\nroute 10.0.0.0/24 table 254\nroute 10.0.1.2/32 table 254\nroute 10.5.0.0/16 table 254\nroute 10.6.0.0/16 table 254\nroute 10.7.0.0/16 table 254\nroute 10.8.0.0/16 table 254\nroute 10.9.0.0/16 table 254\ndone\n"},
	{"routes of an interface", true, true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, 0, num(unix.RTA_OIF, 1))...),
		"route 127.0.0.0/8 table 255\nroute 127.0.0.1/32 table 255\nroute 127.255.255.255/32 table 255\ndone\n"},
	{"routes of a table that there is not", true, true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, 0, num(unix.RTA_TABLE, 77))...), "done ENOENT (FIB table does not exist)\n"},
	{"routes of a table that there is not, all families", true, true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(0, 0, 0, num(unix.RTA_TABLE, 77))...), "done\n"},
	{"routes by what no filter knows", true, true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, 0, num(unix.RTA_PRIORITY, 1))...), "done EINVAL (Unsupported attribute in dump request)\n"},
	{"routes by destination", true, true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 8, 0)...), "done EINVAL (Invalid values in header for FIB dump request)\n"},
	{"routes by type", true, true, ask(unix.RTM_GETROUTE, dumpAll, 2, 0, 0, 0, 0, 0, 0, unix.RTN_BLACKHOLE, 0, 0, 0, 0), "route 10.8.0.0/16 table 254\ndone\n"},
	{"routes by who made them", true, true, ask(unix.RTM_GETROUTE, dumpAll, 2, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, 0, 0, 0, 0, 0, 0), "route 10.0.0.0/24 table 254\nroute 10.0.1.2/32 table 254\ndone\n"},
	{"routes, a header that breaks off", false, true, ask(unix.RTM_GETROUTE, dumpAll, 10, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0),
		"route fd00::/64 table 254\nroute fd01::/64 table 254\nroute fd04::1/128 table 254\nroute fd04::2/128 table 254\nroute default table 254\nroute ::1/128 table 255\nroute fd00::1/128 table 255\nroute fd04::1/128 table 255\nroute ff00::/8 table 255\nroute ff00::/8 table 255\ndone\n"},
	{"the route cache", true, true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, unix.RTM_F_CLONED)...), "done\n"},
	{"the route cache, sloppy", false, false, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, unix.RTM_F_CLONED)...), "done\n"},
	{"a route", true, true, ask(unix.RTM_GETROUTE, getOne, to("10.9.1.1", unix.RTM_F_LOOKUP_TABLE)...), "route 10.9.1.1/32 table 254\n"},
	{"a route to this host", true, true, ask(unix.RTM_GETROUTE, getOne, to("127.0.0.1", unix.RTM_F_LOOKUP_TABLE)...), "route 127.0.0.1/32 table 254\n"},
	{"a route to this host, sloppy", false, true, ask(unix.RTM_GETROUTE, getOne, to("127.0.0.1", 0)...), "route 127.0.0.1/32 table 254\n"},
	{"a route through an interface", true, true, ask(unix.RTM_GETROUTE, getOne, to("10.0.0.9", 0, num(unix.RTA_OIF, 3))...), "route 10.0.0.9/32 table 254\n"},
	{"a route from an address of the host", false, true, ask(unix.RTM_GETROUTE, getOne, from("10.0.0.9", "10.0.0.1")...), "route 10.0.0.9/32 table 254\n"},
	{"a route from an address of the host, IPv6", false, true, ask(unix.RTM_GETROUTE, getOne, from("fd01::1", "fd00::1")...), "route fd01::1/128 table 254\n"},
	{"a route from nobody in particular", false, true, ask(unix.RTM_GETROUTE, getOne, from("8.8.8.8", "0.0.0.0")...), "route 8.8.8.8/32 table 254\n"},
	{"a route from somebody else", false, true, ask(unix.RTM_GETROUTE, getOne, from("10.0.0.9", "9.9.9.9")...), "ack ENETUNREACH\n"},
	{"a route as it stands", true, true, ask(unix.RTM_GETROUTE, getOne, to("8.8.8.8", unix.RTM_F_FIB_MATCH)...), "route default table 254\n"},
	{"a route that throws back", true, true, ask(unix.RTM_GETROUTE, getOne, to("10.5.0.1", 0)...), "ack ENETUNREACH\n"},
	{"a forbidden route", true, true, ask(unix.RTM_GETROUTE, getOne, to("10.6.0.1", 0)...), "ack EACCES\n"},
	{"a route to nowhere", true, true, ask(unix.RTM_GETROUTE, getOne, to("10.7.0.1", 0)...), "ack EHOSTUNREACH\n"},
	{"a route into the hole", true, true, ask(unix.RTM_GETROUTE, getOne, to("10.8.0.1", 0)...), "ack EINVAL\n"},
	{"no route", true, false, ask(unix.RTM_GETROUTE, getOne, to("9.9.9.9", 0)...), "ack ENETUNREACH\n"},
	{"a route without a destination", true, false, ask(unix.RTM_GETROUTE, getOne, rtmsg(2, 0, 0)...), "ack EINVAL (a route is asked for by its destination)\n"},
	{"a route for what comes in", true, false, ask(unix.RTM_GETROUTE, getOne, to("10.0.0.9", 0, num(unix.RTA_IIF, 3))...), "ack EOPNOTSUPP (the way of a packet that comes in is not told)\n"},
	{"half a destination", true, false, ask(unix.RTM_GETROUTE, getOne, rtmsg(2, 32, 0, appendAttr(nil, unix.RTA_DST, []byte{10, 0}))...), "ack EINVAL (Attribute failed policy validation)\n"},
	{"half an interface", true, false, ask(unix.RTM_GETROUTE, getOne, to("10.0.0.9", 0, appendAttr(nil, unix.RTA_OIF, []byte{3, 0}))...), "ack EINVAL (Attribute failed policy validation)\n"},
	{"zeros where attributes are", false, true, ask(unix.RTM_GETROUTE, getOne, to("10.0.0.9", 0, make([]byte, 20))...), "route 10.0.0.9/32 table 254\n"},
	{"zeros where attributes are, strict", true, true, ask(unix.RTM_GETROUTE, getOne, to("10.0.0.9", 0, make([]byte, 20))...), "ack EINVAL (bytes leftover after parsing attributes)\n"},
	{"half an attribute", true, true, ask(unix.RTM_GETROUTE, getOne, rtmsg(2, 32, 0, []byte{40, 0, 1, 0, 10, 0, 0, 1})...), "ack EINVAL (bytes leftover after parsing attributes)\n"},
	{"a route of no family", false, true, ask(unix.RTM_GETROUTE, getOne, rtmsg(0, 0, 0)...), "ack EOPNOTSUPP\n"},

	{"neighbours", true, true, ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(2, 0, 0)...), "neigh 10.0.0.2\ndone\n"},
	{"neighbours answered for", true, true, ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(2, 0, unix.NTF_PROXY)...), "neigh 10.0.0.66\ndone\n"},
	{"neighbours of another interface", true, true, ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(2, 0, 0, num(unix.NDA_IFINDEX, 2))...), "done\n"},
	{"neighbours by index in the header", true, true, ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(2, 3, 0)...), "done EINVAL (Invalid values in header for neighbor dump request)\n"},
	{"a neighbour", true, true, ask(unix.RTM_GETNEIGH, getOne, ndmsg(2, 3, 0, appendIP(nil, unix.NDA_DST, ip("10.0.0.2")))...), "neigh 10.0.0.2\n"},
	{"an unknown neighbour", false, true, ask(unix.RTM_GETNEIGH, getOne, ndmsg(2, 3, 0, appendIP(nil, unix.NDA_DST, ip("10.0.0.3")))...), "ack ENOENT\n"},
	{"a neighbour without address", true, false, ask(unix.RTM_GETNEIGH, getOne, ndmsg(2, 3, 0)...), "ack EINVAL (Network address not specified)\n"},
	{"a neighbour of no interface", true, false, ask(unix.RTM_GETNEIGH, getOne, ndmsg(2, 0, 0, appendIP(nil, unix.NDA_DST, ip("10.0.0.2")))...), "ack EINVAL (No device specified)\n"},
	{"rules", true, false, ask(unix.RTM_GETRULE, dumpAll, rtmsg(0, 0, 0)...), "rule 32766\nrule 32766\ndone\n"},

	{"a new address", true, false, ask(unix.RTM_NEWADDR, getOne|unix.NLM_F_ACK, ifaddr(2, 3)...), "ack EPERM (" + perm + ")\n"},
	{"a new address, sloppy", false, false, ask(unix.RTM_NEWADDR, getOne|unix.NLM_F_ACK, ifaddr(2, 3)...), "ack EPERM\n"},
	{"a new address of an odd length", true, false, ask(unix.RTM_NEWADDR, getOne, append(ifaddr(2, 3), 1)...), "ack EPERM (" + perm + ")\n"},
	{"a link down", true, false, ask(unix.RTM_SETLINK, getOne, ifinfo(0, 3)...), "ack EPERM (" + perm + ")\n"},
	{"no route any more", true, false, ask(unix.RTM_DELROUTE, getOne, to("10.0.0.9", 0)...), "ack EPERM (" + perm + ")\n"},
	{"a type that there is not", true, true, ask(200, getOne, 0, 0, 0, 0), "ack EOPNOTSUPP\n"},
	{"a type that is not answered", true, false, ask(unix.RTM_GETNETCONF, dumpAll, 2, 0, 0, 0), "ack EOPNOTSUPP\n"},
	{"nothing, acknowledged", true, true, ask(unix.NLMSG_NOOP, getOne|unix.NLM_F_ACK), "ack\n"},
	{"no request", true, true, ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, ifinfo(0, 0)...), ""},
	{"a request without a family", true, true, ask(unix.RTM_GETLINK, getOne|unix.NLM_F_ACK), "ack\n"},
	{"two questions, and zeros behind them", true, true, slices.Concat(
		ask(unix.RTM_GETLINK, getOne, ifinfo(0, 1)...), ask(unix.RTM_GETLINK, getOne, ifinfo(0, 2)...), make([]byte, 40)), "link 1 lo\nlink 2 en1\n"},
	{"half a message", true, true, ask(unix.RTM_GETLINK, getOne, ifinfo(0, 1)...)[:30], ""},
	{"two dumps", true, false, slices.Concat(ask(unix.RTM_GETRULE, dumpAll, rtmsg(2, 0, 0)...), ask(unix.RTM_GETRULE, dumpAll, rtmsg(2, 0, 0)...)),
		"rule 32766\ndone\nack EBUSY (one dump at a time)\n"},
}

func TestDialogues(t *testing.T) {
	for _, d := range dialogues {
		s := Socket{PID: 4711}
		if d.strict {
			s.Strict, s.ExtAck = true, true
		}
		if got := show(replies(t, s.Answer(sample(), d.ask), 4711)); got != d.want {
			t.Errorf("%s:\n%swant\n%s", d.name, got, d.want)
		}
	}
	if got := Answer(sample(), ask(unix.RTM_GETRULE, dumpAll, 2), 9); show(replies(t, got, 9)) != "rule 32766\ndone\n" {
		t.Errorf("Answer: %q", got)
	}
}

// TestBrokenTables: what the tables cannot say is the program's error.
func TestBrokenTables(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("the stack has gone: %w", syscall.ECONNRESET), "ECONNRESET"},
		{errors.New("a strange row"), "EIO (a strange row)"},
	} {
		s := sample()
		s.fail = c.err
		for _, q := range [][]byte{ask(unix.RTM_GETLINK, dumpAll, ifinfo(0, 0)...), ask(unix.RTM_GETADDR, dumpAll, ifaddr(0, 0)...),
			ask(unix.RTM_GETROUTE, dumpAll, rtmsg(0, 0, 0)...), ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(0, 0, 0)...)} {
			if got := show(replies(t, Socket{ExtAck: true}.Answer(s, q), 0)); got != "done "+c.want+"\n" {
				t.Errorf("dump: %q, want %s", got, c.want)
			}
		}
		for _, q := range [][]byte{ask(unix.RTM_GETLINK, getOne, ifinfo(0, 1)...), ask(unix.RTM_GETROUTE, getOne, to("8.8.8.8", 0)...),
			ask(unix.RTM_GETNEIGH, getOne, ndmsg(2, 3, 0, appendIP(nil, unix.NDA_DST, ip("10.0.0.2")))...)} {
			if got := show(replies(t, Socket{ExtAck: true}.Answer(s, q), 0)); got != "ack "+c.want+"\n" {
				t.Errorf("one: %q, want %s", got, c.want)
			}
		}
	}
}

// TestLongDump: every row comes once, in order, in datagrams that a page
// holds, and NLMSG_DONE is last.
func TestLongDump(t *testing.T) {
	s := sample()
	s.routes = nil
	const n = 3000
	for i := range n {
		s.routes = append(s.routes, Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24), Gateway: ip("10.0.0.2"), OIF: 3, Type: unix.RTN_UNICAST})
	}
	out := Answer(s, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, 0)...), 1)
	for i, d := range out {
		if len(d) > maxDump || len(d) < maxDump/2 && i < len(out)-1 {
			t.Errorf("datagram %d of %d has %d octets", i, len(out), len(d))
		}
	}
	rs := replies(t, out, 1)
	if len(rs) != n+1 || rs[n].Type != unix.NLMSG_DONE {
		t.Fatalf("%d messages", len(rs))
	}
	for i, r := range rs[:n] {
		want := s.routes[i].Dst.Addr().AsSlice()
		if got := r.attr(unix.RTA_DST); !bytes.Equal(got, want) || r.Flags != unix.NLM_F_MULTI {
			t.Fatalf("row %d: % x, flags %#x", i, got, r.Flags)
		}
	}
}

// TestReaders: package syscall's readers of links and addresses, which is what
// net.Interfaces sees.
func TestReaders(t *testing.T) {
	type row struct {
		Name, HW   string
		MTU, Flags uint32
		Rx, Tx     uint64
		Addrs      []string
	}
	var got []row
	s := sample()
	for _, typ := range []uint16{unix.RTM_GETLINK, unix.RTM_GETADDR} {
		for _, d := range Answer(s, ask(typ, dumpAll, 0), 1) {
			msgs, err := syscall.ParseNetlinkMessage(d)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range msgs {
				if m.Header.Type == unix.NLMSG_DONE {
					continue
				}
				attrs, err := syscall.ParseNetlinkRouteAttr(&m)
				if err != nil {
					t.Fatal(err)
				}
				var r row
				var to *row
				if typ == unix.RTM_GETADDR {
					to = &got[ne.Uint32(m.Data[4:])-1]
				}
				for _, a := range attrs {
					switch {
					case typ == unix.RTM_GETADDR && a.Attr.Type == unix.IFA_ADDRESS:
						to.Addrs = append(to.Addrs, (&net.IPNet{IP: a.Value, Mask: net.CIDRMask(int(m.Data[1]), 8*len(a.Value))}).String())
					case typ == unix.RTM_GETADDR:
					case a.Attr.Type == unix.IFLA_IFNAME:
						r.Name = string(a.Value[:len(a.Value)-1])
					case a.Attr.Type == unix.IFLA_MTU:
						r.MTU = ne.Uint32(a.Value)
					case a.Attr.Type == unix.IFLA_ADDRESS:
						r.HW = net.HardwareAddr(a.Value).String()
					case a.Attr.Type == unix.IFLA_STATS64:
						r.Rx, r.Tx = ne.Uint64(a.Value[16:]), ne.Uint64(a.Value[24:])
					}
				}
				if typ == unix.RTM_GETLINK {
					r.Flags = ne.Uint32(m.Data[8:])
					got = append(got, r)
				}
			}
		}
	}
	want := []row{
		{"lo", "00:00:00:00:00:00", 65536, s.links[0].Flags, 0, 0, []string{"127.0.0.1/8", "::1/128"}},
		{"en1", "02:00:00:00:00:02", 1500, s.links[1].Flags, 0, 0, nil},
		{"en0", "02:00:00:00:00:01", 1400, s.links[2].Flags, 3, 1 << 33, []string{"10.0.0.1/24", "10.0.1.2/32", "fd00::1/64", "fd04::2/128"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestOptions(t *testing.T) {
	var s Socket
	for _, name := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		if v, err := s.Option(name); v != 0 || err != nil {
			t.Errorf("option %d before: %d, %v", name, v, err)
		}
		if err := s.SetOption(name, 1); err != nil {
			t.Error(err)
		}
		if v, err := s.Option(name); v != 1 || err != nil {
			t.Errorf("option %d after: %d, %v", name, v, err)
		}
	}
	if want := (Socket{ExtAck: true, CapAck: true, Strict: true}); s != want {
		t.Errorf("%+v", s)
	}
	if err := s.SetOption(unix.NETLINK_PKTINFO, 1); err != syscall.ENOPROTOOPT {
		t.Error(err)
	}
	if _, err := s.Option(unix.NETLINK_PKTINFO); err != syscall.ENOPROTOOPT {
		t.Error(err)
	}
	r := replies(t, s.Answer(sample(), ask(unix.RTM_GETLINK, getOne, ifinfo(0, 99)...)), 0)[0]
	if r.Flags != unix.NLM_F_CAPPED || len(r.Fixed) != unix.NLMSG_HDRLEN {
		t.Errorf("capped: flags %#x, % x", r.Flags, r.Fixed)
	}
}

// TestFiltered: a dump that leaves something out says so.
func TestFiltered(t *testing.T) {
	for _, c := range []struct {
		ask      []byte
		filtered bool
	}{
		{ask(unix.RTM_GETADDR, dumpAll, ifaddr(2, 3)...), true},
		{ask(unix.RTM_GETADDR, dumpAll, ifaddr(2, 0)...), false},
		{ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, 0, num(unix.RTA_OIF, 3))...), true},
		{ask(unix.RTM_GETROUTE, dumpAll, rtmsg(2, 0, 0)...), false},
		{ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(2, 0, 0, num(unix.NDA_IFINDEX, 3))...), true},
		{ask(unix.RTM_GETLINK, dumpAll, ifinfo(0, 0, num(unix.IFLA_MASTER, 3))...), true},
	} {
		for _, r := range replies(t, Socket{Strict: true}.Answer(sample(), c.ask), 0) {
			if r.Flags&unix.NLM_F_MULTI == 0 || r.Flags&unix.NLM_F_DUMP_FILTERED != 0 != c.filtered {
				t.Errorf("% x: type %d with flags %#x", c.ask, r.Type, r.Flags)
			}
		}
	}
}

// TestIncomplete: what is not known is left out.
func TestIncomplete(t *testing.T) {
	s := &stack{links: []Interface{{Index: 4, Name: "gif0", Type: unix.ARPHRD_TUNNEL}},
		neighs: []Neighbour{{Index: 3, Addr: ip("10.0.0.7"), State: unix.NUD_INCOMPLETE}}}
	if r := replies(t, Answer(s, ask(unix.RTM_GETNEIGH, dumpAll, 2), 0), 0)[0]; r.attr(unix.NDA_DST) == nil || r.attr(unix.NDA_LLADDR) != nil {
		t.Errorf("neighbour: %+v", r)
	}
	if r := replies(t, Answer(s, ask(unix.RTM_GETLINK, dumpAll, 0), 0), 0)[0]; r.attr(unix.IFLA_ADDRESS) != nil || r.attr(unix.IFLA_BROADCAST) != nil {
		t.Errorf("link: %+v", r)
	}
}

// FuzzAnswer: whatever comes, the answer is whole messages, and a dump ends.
func FuzzAnswer(f *testing.F) {
	for _, d := range dialogues {
		f.Add(d.ask, d.strict)
	}
	tables := sample()
	f.Fuzz(func(t *testing.T, b []byte, strict bool) {
		dumping := false
		for _, d := range (Socket{PID: 1, Strict: strict, ExtAck: strict}).Answer(tables, b) {
			msgs, err := syscall.ParseNetlinkMessage(d)
			if err != nil || len(msgs) == 0 {
				t.Fatalf("% x: %v", d, err)
			}
			for _, m := range msgs {
				parseReply(t, m)
				if m.Header.Type == unix.NLMSG_DONE {
					dumping = false
				} else if m.Header.Flags&unix.NLM_F_MULTI != 0 {
					dumping = true
				} else if dumping {
					t.Fatal("something in the midst of a dump")
				}
			}
		}
		if dumping {
			t.Error("a dump without an end")
		}
	})
}
