package stacktables

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/netlink"
)

const up = protocol.IFFUp | protocol.IFFRunning | protocol.IFFMulticast

func rows() []protocol.InterfaceRow {
	return []protocol.InterfaceRow{
		{Name: "lo0", Index: 1, Type: protocol.IFTLoopback, Flags: up | protocol.IFFLoopback, MTU: 33228, LinkUp: true,
			Addresses: []protocol.AddressRow{{Family: "inet", Address: "127.0.0.1", Bits: 8, Destination: "127.0.0.1"}, {Family: "inet6", Address: "::1", Bits: 128, Preferred: -1, Valid: -1}}},
		{Name: "ppp0", Index: 2, Type: protocol.IFTPPP, Flags: up | protocol.IFFPointToPoint, MTU: 1492, LinkUp: true,
			Addresses: []protocol.AddressRow{{Family: "inet", Address: "10.0.0.1", Bits: 8, Destination: "10.9.9.9"}}},
		{Name: "en0", Index: 3, Type: protocol.IFTEthernet, Flags: up | protocol.IFFBroadcast | protocol.IFFSimplex, MTU: 1500, Link: "02:00:00:00:00:01",
			Addresses: []protocol.AddressRow{
				{Family: "inet", Address: "192.168.1.1", Bits: 24, Broadcast: "192.168.1.255", Tentative: true},
				{Family: "inet", Address: "169.254.3.4", Bits: 16, Duplicated: true},
				{Family: "inet6", Address: "fe80::1%en0", Bits: 64, Preferred: -1, Valid: -1}, {Family: "inet6", Address: "broken", Bits: 64}}},
		{Name: "gif0", Index: 4, Type: protocol.IFTGif, Flags: protocol.IFFPointToPoint, MTU: 1280, LinkUp: true},
		{Name: "x0", Index: 5, Type: protocol.IFTOther, MTU: 576},
	}
}

func TestLinks(t *testing.T) {
	const running = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP | unix.IFF_MULTICAST
	all := rows()
	for i, want := range []struct {
		typ   uint16
		flags uint32
		state uint8
		hw    string
	}{
		{unix.ARPHRD_LOOPBACK, running | unix.IFF_LOOPBACK, netlink.OperUnknown, "00:00:00:00:00:00"},
		{unix.ARPHRD_PPP, running | unix.IFF_POINTOPOINT, netlink.OperUp, ""},
		{unix.ARPHRD_ETHER, unix.IFF_UP | unix.IFF_MULTICAST | unix.IFF_BROADCAST, netlink.OperDown, "02:00:00:00:00:01"}, // no carrier
		{unix.ARPHRD_TUNNEL, unix.IFF_POINTOPOINT, netlink.OperDown, ""},
		{unix.ARPHRD_NONE, 0, netlink.OperDown, ""},
	} {
		got := linkOf(&all[i])
		if got.Type != want.typ || got.Flags != want.flags || got.OperState != want.state || got.HW.String() != want.hw ||
			got.Name != all[i].Name || got.Index != all[i].Index || got.MTU != all[i].MTU {
			t.Errorf("%s: %+v, want %+v", all[i].Name, got, want)
		}
	}
}

func TestAddrs(t *testing.T) {
	var got string
	for _, a := range addrsOf(rows()) {
		got += fmt.Sprintf("%d %v peer %v brd %v flags %#x scope %d\n", a.Index, a.Prefix, a.Peer, a.Broadcast, a.Flags, a.Scope)
	}
	const want = `1 127.0.0.1/8 peer invalid IP brd invalid IP flags 0x80 scope 254
1 ::1/128 peer invalid IP brd invalid IP flags 0x80 scope 254
2 10.0.0.1/32 peer 10.9.9.9 brd invalid IP flags 0x80 scope 0
3 192.168.1.1/24 peer invalid IP brd 192.168.1.255 flags 0xc0 scope 0
3 169.254.3.4/16 peer invalid IP brd invalid IP flags 0xc8 scope 253
3 fe80::1/64 peer invalid IP brd invalid IP flags 0x80 scope 253
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestAddressesOfIPv6: what autoconfiguration has made ends, and programs that
// choose among addresses (RFC 6724) see what each is.
func TestAddressesOfIPv6(t *testing.T) {
	row := protocol.InterfaceRow{Name: "en0", Index: 2}
	for _, c := range []struct {
		row   protocol.AddressRow
		flags uint32
		life  netlink.Lifetime
	}{
		{protocol.AddressRow{Preferred: -1, Valid: -1}, unix.IFA_F_PERMANENT, netlink.Lifetime{}},
		{protocol.AddressRow{Preferred: 10, Valid: 20, Flags: protocol.IN6IFFAutoconf | protocol.IN6IFFTemporary}, unix.IFA_F_TEMPORARY, netlink.Lifetime{Preferred: 10, Valid: 20}},
		{protocol.AddressRow{Preferred: 0, Valid: 20, Flags: protocol.IN6IFFDeprecated}, unix.IFA_F_DEPRECATED, netlink.Lifetime{Valid: 20}},
		{protocol.AddressRow{Preferred: 10, Valid: -1}, 0, netlink.Lifetime{Preferred: 10, Valid: 1<<32 - 1}},
		{protocol.AddressRow{Preferred: -1, Valid: -1, Tentative: true, Flags: protocol.IN6IFFTentative}, unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE, netlink.Lifetime{}},
	} {
		c.row.Family, c.row.Address, c.row.Bits = "inet6", "fd00::1", 64
		a, ok := addrOf(&row, &c.row)
		var life netlink.Lifetime
		if a.Life != nil {
			life = *a.Life
		}
		if !ok || a.Flags != c.flags || life != c.life {
			t.Errorf("%+v: flags %#x, life %v; want %#x, %v", c.row, a.Flags, life, c.flags, c.life)
		}
	}
}

// TestAmongAddresses: what is found without the routing table, or when it has
// no route.
func TestAmongAddresses(t *testing.T) {
	h := newHost(rows())
	for _, c := range []struct {
		dst  string
		oif  int
		want string
	}{
		{"0.0.0.0", 0, "local dev 1 src 127.0.0.1"},
		{"10.0.0.1", 0, "local dev 1 src 10.0.0.1"},
		{"10.0.0.1", 3, "network is unreachable"}, // not that interface's
		{"::1", 0, "local dev 1 src ::1"},
		{"10.9.9.9", 2, "10.9.9.9/32 dev 2 src 10.0.0.1"},
		{"10.9.9.8", 2, "network is unreachable"},
		{"192.168.1.7", 3, "192.168.1.0/24 dev 3 src 192.168.1.1"},
		{"192.168.1.255", 0, "broadcast dev 3 src 192.168.1.1"},
		{"255.255.255.255", 0, "broadcast dev 3 src 192.168.1.1"},
		{"255.255.255.255", 2, "broadcast dev 2 src 10.0.0.1"},
		{"224.0.0.1", 0, "multicast dev 3 src 192.168.1.1"},
		{"ff02::1", 4, "multicast dev 4"},
		{"8.8.8.8", 0, "network is unreachable"},
		{"8.8.8.8", 77, "no such device"},
	} {
		dst := netip.MustParseAddr(c.dst)
		r, ok, err := h.lookup(dst, c.oif)
		if !ok && err == nil {
			r, err = h.unrouted(dst, c.oif)
		}
		if got := text(r, err); got != c.want {
			t.Errorf("to %s through %d: %s, want %s", c.dst, c.oif, got, c.want)
		}
	}
}

func text(r netlink.Route, err error) string {
	if err != nil {
		return err.Error()
	}
	s := r.Dst.String()
	switch r.Type {
	case unix.RTN_LOCAL:
		s = "local"
	case unix.RTN_BROADCAST:
		s = "broadcast"
	case unix.RTN_MULTICAST:
		s = "multicast"
	case unix.RTN_BLACKHOLE:
		s = "blackhole"
	}
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	if r.OIF != 0 {
		s += fmt.Sprint(" dev ", r.OIF)
	}
	if r.Source.IsValid() {
		s += " src " + r.Source.String()
	}
	return s
}

// TestFound: what RTM_GET's answers mean, for groups in particular.
func TestFound(t *testing.T) {
	h := newHost(rows())
	via := func(flags uint32, dst string, index int) *protocol.RouteMessage {
		m := &protocol.RouteMessage{Type: protocol.RTMGet, Flags: protocol.RTFUp | protocol.RTFDone | flags, Index: index,
			Gateway: protocol.AddrFrom(netip.MustParseAddr("10.9.9.9"), 0), Ifa: protocol.AddrFrom(netip.MustParseAddr("10.0.0.1"), 0)}
		m.SetPrefix(netip.MustParsePrefix(dst))
		return m
	}
	const gateway = protocol.RTFGateway
	for _, c := range []struct {
		m    *protocol.RouteMessage
		dst  string
		oif  int
		want string
	}{
		{via(gateway, "0.0.0.0/0", 2), "8.8.8.8", 0, "0.0.0.0/0 via 10.9.9.9 dev 2 src 10.0.0.1"},
		{via(gateway, "0.0.0.0/0", 2), "8.8.8.8", 2, "0.0.0.0/0 via 10.9.9.9 dev 2 src 10.0.0.1"},
		{via(gateway, "0.0.0.0/0", 2), "8.8.8.8", 3, "network is unreachable"},
		{via(gateway, "0.0.0.0/0", 2), "224.0.0.1", 0, "multicast dev 2 src 10.0.0.1"},
		{via(gateway, "0.0.0.0/0", 2), "255.255.255.255", 0, "broadcast dev 2 src 10.0.0.1"},
		{via(gateway, "0.0.0.0/0", 2), "127.0.0.2", 0, "cannot assign requested address"},
		{via(gateway, "0.0.0.0/0", 4), "8.8.8.8", 0, "network is down"},
		{via(gateway|protocol.RTFReject, "0.0.0.0/0", 1), "224.0.0.1", 0, "multicast dev 3 src 192.168.1.1"},
		{via(gateway|protocol.RTFBlackhole, "0.0.0.0/0", 1), "224.0.0.1", 0, "multicast dev 3 src 192.168.1.1"},
		{via(gateway|protocol.RTFReject, "10.7.0.0/16", 1), "10.7.1.1", 0, "network is unreachable"},
		{via(gateway|protocol.RTFReject, "10.7.0.7/32", 1), "10.7.0.7", 0, "no route to host"},
		{via(gateway|protocol.RTFBlackhole, "10.8.0.0/16", 1), "10.8.1.1", 0, "blackhole"},
		{via(protocol.RTFLLInfo|protocol.RTFCloned, "192.168.1.9/32", 3), "192.168.1.9", 0, "192.168.1.0/24 dev 3 src 10.0.0.1"},
	} {
		r, err := h.found(c.m, netip.MustParseAddr(c.dst), c.oif)
		if got := text(r, err); got != c.want {
			t.Errorf("to %s through %d: %s, want %s", c.dst, c.oif, got, c.want)
		}
	}
	if _, err := newHost(rows()[:2]).unrouted(netip.MustParseAddr("ff02::1"), 0); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("a group on interfaces that cannot: %v", err)
	}
}

func TestNeighbours(t *testing.T) {
	var all []netlink.Neighbour
	for _, r := range []protocol.NeighbourRow{
		{Address: "10.0.0.2", Link: "02:00:00:00:00:02"},
		{Address: "10.0.0.3"},
		{Address: "10.0.0.4", Link: "02:00:00:00:00:04", Permanent: true, Published: true},
		{Address: "10.0.0.5", Link: "02:00:00:00:00:05", Permanent: true, Published: true, ProxyOnly: true},
		{Address: "fe80::9%en0", Family: "inet6", Link: "02:00:00:00:00:09", State: "STALE", Router: true},
		{Address: "fd00::9", Family: "inet6", State: "INCOMPLETE"},
		{Address: "gone"},
	} {
		all = appendNeighbour(all, &r, 3)
	}
	all = appendNeighbour(all, &protocol.NeighbourRow{Address: "10.0.0.6"}, 0) // on an interface that has gone
	var got string
	for _, n := range all {
		got += fmt.Sprintf("%v %v state %#x flags %#x\n", n.Addr, n.HW, n.State, n.Flags)
	}
	const want = `10.0.0.2 02:00:00:00:00:02 state 0x2 flags 0x0
10.0.0.3  state 0x1 flags 0x0
10.0.0.4 02:00:00:00:00:04 state 0x80 flags 0x0
10.0.0.4  state 0x0 flags 0x8
10.0.0.5  state 0x0 flags 0x8
fe80::9 02:00:00:00:00:09 state 0x4 flags 0x80
fd00::9  state 0x1 flags 0x0
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
