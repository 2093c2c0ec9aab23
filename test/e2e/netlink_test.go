package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/onstack/netlink"
	"ionet/tool/onstack/stacktables"
)

// linked is a stack with an address of each kind, routes and neighbours, one
// of whom, 10.0.0.2, is another stack.
func linked(t *testing.T) (*daemon, *client.Stack) {
	t.Helper()
	segment := t.TempDir()
	d, other := start(t, "-dwire", "path="+segment), start(t, "-dwire", "path="+segment)
	s := d.open()
	if _, err := s.SetSysctl("net.inet6.ip6.auto_linklocal", "0"); err != nil {
		t.Fatal(err)
	}
	for _, a := range []struct {
		of   *client.Stack
		addr string
		bits int
	}{{other.open(), "10.0.0.2", 24}, {s, "10.0.0.1", 24}, {s, "10.0.0.4", 32}, {s, "10.1.0.1", 16}} {
		if err := a.of.AddAddr("en0", protocol.AliasReq{Addr: inet(a.addr), Mask: protocol.MaskAddr(protocol.AFInet, a.bits)}); err != nil {
			t.Fatal(err)
		}
	}
	r := d.route()
	add := func(dst string, flags uint32, gateway protocol.Addr, mtu uint64) {
		m := protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFUp | protocol.RTFStatic | flags, Gateway: gateway}
		if mtu != 0 {
			m.Metrics.MTU, m.Inits = mtu, protocol.RTVMTU
		}
		m.SetPrefix(netip.MustParsePrefix(dst))
		if _, err := r.Request(m); err != nil {
			t.Fatalf("route add %s: %v", dst, err)
		}
	}
	add("0.0.0.0/0", protocol.RTFGateway, inet("10.0.0.2"), 0)
	add("10.7.0.0/16", protocol.RTFGateway|protocol.RTFReject, inet("127.0.0.1"), 0)
	add("10.7.0.7/32", protocol.RTFGateway|protocol.RTFReject, inet("127.0.0.1"), 0)
	add("10.8.0.0/16", protocol.RTFGateway|protocol.RTFBlackhole, inet("127.0.0.1"), 0)
	add("10.9.0.0/16", protocol.RTFGateway, inet("10.1.0.2"), 1300)
	neighbour := func(dst string, flags uint32) {
		m := protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFStatic | flags, Dst: inet(dst),
			Gateway: protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, "", []byte{2, 0, 0, 0, 0, 9}))}
		if flags != 0 {
			m.Netmask = protocol.MaskAddr(protocol.AFInet, 32)
		}
		if _, err := r.Request(m); err != nil {
			t.Fatalf("arp -s %s: %v", dst, err)
		}
	}
	neighbour("10.0.0.5", 0)
	neighbour("10.0.0.6", protocol.RTFProto2)
	c, err := s.Dial("udp", "10.0.0.2:9")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "10.0.0.2 has answered", func() bool {
		rows, err := client.Table[protocol.NeighbourRow](s, protocol.TableNeighbours, "")
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(rows, func(r protocol.NeighbourRow) bool { return r.Address == "10.0.0.2" && r.Link != "" })
	})
	return d, s
}

// TestNetlinkTables: what a stack is, as Linux calls it.
func TestNetlinkTables(t *testing.T) {
	_, s := linked(t)
	tables := stacktables.New(s)
	ip, pfx := netip.MustParseAddr, netip.MustParsePrefix
	same := func(what string, got, want any, err error) {
		t.Helper()
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", what, err, d)
		}
	}

	links, err := tables.Interfaces()
	if err != nil || len(links) != 2 || len(links[1].HW) != 6 || links[1].Stats.TxPackets == 0 || links[1].Stats.RxBytes == 0 {
		t.Fatalf("interfaces: %+v, %v", links, err)
	}
	hw := links[1].HW
	links[0].Stats, links[1].Stats = netlink.Stats{}, netlink.Stats{}
	const up = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	same("interfaces", links, []netlink.Interface{
		{Index: 1, Name: "lo0", Type: unix.ARPHRD_LOOPBACK, Flags: up | unix.IFF_LOOPBACK | unix.IFF_MULTICAST, MTU: 33228,
			HW: make(net.HardwareAddr, 6), Broadcast: make(net.HardwareAddr, 6)},
		{Index: 2, Name: "en0", Type: unix.ARPHRD_ETHER, Flags: up | unix.IFF_BROADCAST | unix.IFF_MULTICAST, MTU: 1500,
			OperState: netlink.OperUp, HW: hw, Broadcast: net.HardwareAddr{255, 255, 255, 255, 255, 255}},
	}, err)

	addrs, err := tables.Addrs()
	same("addresses", addrs, []netlink.Addr{
		{Index: 1, Label: "lo0", Prefix: pfx("127.0.0.1/8"), Flags: unix.IFA_F_PERMANENT, Scope: unix.RT_SCOPE_HOST},
		{Index: 1, Label: "lo0", Prefix: pfx("::1/128"), Flags: unix.IFA_F_PERMANENT, Scope: unix.RT_SCOPE_HOST},
		{Index: 1, Label: "lo0", Prefix: pfx("fe80::1/64"), Flags: unix.IFA_F_PERMANENT, Scope: unix.RT_SCOPE_LINK},
		{Index: 2, Label: "en0", Prefix: pfx("10.0.0.1/24"), Broadcast: ip("10.0.0.255"), Flags: unix.IFA_F_PERMANENT},
		{Index: 2, Label: "en0", Prefix: pfx("10.0.0.4/32"), Flags: unix.IFA_F_PERMANENT},
		{Index: 2, Label: "en0", Prefix: pfx("10.1.0.1/16"), Broadcast: ip("10.1.255.255"), Flags: unix.IFA_F_PERMANENT},
	}, err)

	connected := netlink.Route{Dst: pfx("10.0.0.0/24"), OIF: 2, Source: ip("10.0.0.1"), Type: unix.RTN_UNICAST, Scope: unix.RT_SCOPE_LINK, Protocol: unix.RTPROT_KERNEL}
	second := connected
	second.Dst, second.Source = pfx("10.1.0.0/16"), ip("10.1.0.1")
	local := func(addr string, oif int) netlink.Route {
		return netlink.Route{Dst: netip.PrefixFrom(ip(addr), ip(addr).BitLen()), OIF: oif, Source: ip(addr), Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Protocol: unix.RTPROT_KERNEL}
	}
	byDefault := netlink.Route{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.0.0.2"), OIF: 2, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_STATIC}
	small := netlink.Route{Dst: pfx("10.9.0.0/16"), Gateway: ip("10.1.0.2"), OIF: 2, MTU: 1300, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_STATIC}
	hole := netlink.Route{Dst: pfx("10.8.0.0/16"), Type: unix.RTN_BLACKHOLE, Protocol: unix.RTPROT_STATIC}
	routes, err := tables.Routes()
	same("routes", routes, []netlink.Route{
		byDefault, connected, local("10.0.0.4", 2), second,
		{Dst: pfx("10.7.0.0/16"), Type: unix.RTN_UNREACHABLE, Protocol: unix.RTPROT_STATIC},
		{Dst: pfx("10.7.0.7/32"), Type: unix.RTN_UNREACHABLE, Protocol: unix.RTPROT_STATIC},
		hole, small, local("127.0.0.1", 1), local("::1", 1), local("fe80::1", 1),
	}, err)

	neighbours, err := tables.Neighbours()
	for i := range neighbours {
		if neighbours[i].Addr == ip("10.0.0.2") {
			neighbours[i].HW = nil // the other stack's choice
		}
		neighbours[i].Refs = 0
	}
	same("neighbours", neighbours, []netlink.Neighbour{
		{Index: 2, Addr: ip("10.0.0.2"), State: unix.NUD_REACHABLE},
		{Index: 2, Addr: ip("10.0.0.5"), HW: net.HardwareAddr{2, 0, 0, 0, 0, 9}, State: unix.NUD_PERMANENT},
		{Index: 2, Addr: ip("10.0.0.6"), Flags: unix.NTF_PROXY},
	}, err)

	from := func(r netlink.Route, src string) netlink.Route { r.Source = ip(src); return r }
	group := netlink.Route{Dst: pfx("224.0.0.5/32"), OIF: 2, Source: ip("10.0.0.1"), Type: unix.RTN_MULTICAST, Scope: unix.RT_SCOPE_LINK, Protocol: unix.RTPROT_KERNEL}
	broadcast := netlink.Route{Dst: pfx("10.0.0.255/32"), OIF: 2, Source: ip("10.0.0.1"), Type: unix.RTN_BROADCAST, Scope: unix.RT_SCOPE_LINK, Protocol: unix.RTPROT_KERNEL}
	all := broadcast
	all.Dst = pfx("255.255.255.255/32")
	for _, c := range []struct {
		dst  string
		oif  int
		want netlink.Route
		err  error
	}{
		{"10.0.0.2", 0, connected, nil}, // a neighbour
		{"10.0.0.3", 0, connected, nil},
		{"10.0.0.3", 2, connected, nil},
		{"10.1.2.3", 2, second, nil},
		{"10.0.0.1", 0, local("10.0.0.1", 1), nil},
		{"10.0.0.4", 0, local("10.0.0.4", 1), nil},
		{"127.0.0.1", 0, local("127.0.0.1", 1), nil},
		{"10.0.0.255", 0, broadcast, nil},
		{"255.255.255.255", 0, all, nil},
		{"224.0.0.5", 0, group, nil},
		{"224.0.0.5", 2, group, nil},
		{"8.8.8.8", 0, from(byDefault, "10.0.0.1"), nil},
		{"10.9.9.9", 0, from(small, "10.1.0.1"), nil},
		{"10.8.1.1", 0, hole, nil},
		{"10.7.1.1", 0, netlink.Route{}, syscall.ENETUNREACH},
		{"10.7.0.7", 0, netlink.Route{}, syscall.EHOSTUNREACH},
		{"127.0.0.2", 0, netlink.Route{}, syscall.EADDRNOTAVAIL},
		{"8.8.8.8", 1, netlink.Route{}, syscall.ENETUNREACH},
		{"8.8.8.8", 9, netlink.Route{}, syscall.ENODEV},
		{"fd00::1", 0, netlink.Route{}, syscall.ENETUNREACH},
	} {
		got, err := tables.Lookup(ip(c.dst), c.oif)
		if !errors.Is(err, c.err) {
			t.Errorf("to %s: %v, want %v", c.dst, err, c.err)
			continue
		}
		same("to "+c.dst, got, c.want, nil)
		if c.oif != 0 || c.want.Type == unix.RTN_BLACKHOLE || c.want.Type == unix.RTN_BROADCAST || !ip(c.dst).Is4() {
			continue
		}
		// A socket sees it alike.
		conn, err := s.Dial("udp", net.JoinHostPort(c.dst, "9"))
		if c.err != nil {
			if !errors.Is(err, c.err) {
				t.Errorf("connected to %s: %v, want %v", c.dst, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("connected to %s: %v", c.dst, err)
			continue
		}
		if src := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(); src != got.Source {
			t.Errorf("connected to %s from %v, told %v", c.dst, src, got.Source)
		}
		_ = conn.Close()
	}
}

// TestNetlinkAnswers: what a program is told of a running stack, and of one
// that has gone.
func TestNetlinkAnswers(t *testing.T) {
	d, s := linked(t)
	tables := stacktables.New(s)
	ask := func(typ uint16) (types []uint16, errno int32) {
		t.Helper()
		q := binary.NativeEndian.AppendUint32(nil, unix.NLMSG_HDRLEN+unix.SizeofRtGenmsg)
		q = binary.NativeEndian.AppendUint16(q, typ)
		q = binary.NativeEndian.AppendUint16(q, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		q = append(q, 1, 0, 0, 0, 0, 0, 0, 0, unix.AF_UNSPEC)
		for _, b := range netlink.Answer(tables, q, 5) {
			msgs, err := syscall.ParseNetlinkMessage(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range msgs {
				types = append(types, m.Header.Type)
				if m.Header.Type == unix.NLMSG_DONE {
					errno = int32(binary.NativeEndian.Uint32(m.Data))
				}
			}
		}
		return types, errno
	}
	for _, c := range []struct {
		ask, row uint16
		rows     int
	}{{unix.RTM_GETLINK, unix.RTM_NEWLINK, 2}, {unix.RTM_GETADDR, unix.RTM_NEWADDR, 6}, {unix.RTM_GETROUTE, unix.RTM_NEWROUTE, 11},
		{unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, 2}, {unix.RTM_GETRULE, unix.RTM_NEWRULE, 2}} {
		want := append(slices.Repeat([]uint16{c.row}, c.rows), unix.NLMSG_DONE)
		if types, errno := ask(c.ask); !slices.Equal(types, want) || errno != 0 {
			t.Errorf("%d: %v, error %d; want %v", c.ask, types, errno, want)
		}
	}
	d.kill()
	if types, errno := ask(unix.RTM_GETLINK); len(types) != 1 || errno != -int32(syscall.ECONNRESET) {
		t.Errorf("a stack that has gone: %v, error %d", types, errno)
	}
	if _, err := tables.Lookup(netip.MustParseAddr("8.8.8.8"), 0); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a stack that has gone: %v", err)
	}
}
