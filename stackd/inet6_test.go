package stackd

import (
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

// on6 is a stack with en0, its client and a routing socket.
func on6(t *testing.T) (*client.Stack, *client.RouteSocket) {
	t.Helper()
	d := daemonFor(t, "-dwire", "path="+t.TempDir())
	return open(t, d), openRoute(t, d)
}

// add6 gives en0 an address.
func add6(t *testing.T, s *client.Stack, prefix string) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	a := protocol.AliasReq{Addr: protocol.AddrFrom(p.Addr(), 0), Mask: protocol.MaskAddr(protocol.AFInet6, p.Bits()), Flags: protocol.IN6IFFNoDAD}
	if err := s.AddAddr("en0", a); err != nil {
		t.Fatal(err)
	}
}

// address is the row of an address of en0.
func address(t *testing.T, s *client.Stack, text string) (r protocol.AddressRow, ok bool) {
	t.Helper()
	rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "en0")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rows[0].Addresses, func(r protocol.AddressRow) bool { return r.Address == text })
	if i < 0 {
		return r, false
	}
	return rows[0].Addresses[i], true
}

func TestDoor24(t *testing.T) {
	d := daemonFor(t)
	s, err := client.OpenFamily(d.paths.prefix, protocol.AFInet6)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k, err := s.Socket(protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := k.LocalAddr(); a != (protocol.Addr{Family: protocol.AFInet6, IP: netip.IPv6Unspecified()}) || err != nil {
		t.Errorf("a new socket: %+v, %v", a, err)
	}
	want(t, k.Bind(inet("127.0.0.1:7")), unix.EAFNOSUPPORT)
	if err := k.Bind(inet("[::1]:7777")); err != nil {
		t.Error(err)
	}
	if a, err := k.LocalAddr(); a != inet("[::1]:7777") || err != nil {
		t.Errorf("a bound one: %+v, %v", a, err)
	}
	// Either door has sockets of either family.
	for _, s := range []*client.Stack{s, open(t, d)} {
		for family, addr := range map[int]string{protocol.AFInet: "127.0.0.1:0", protocol.AFInet6: "[::1]:0"} {
			k, err := s.SocketFamily(family, protocol.SockDgram, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := k.Bind(inet(addr)); err != nil {
				t.Errorf("%s: %v", addr, err)
			}
		}
		_, err := s.SocketFamily(protocol.AFLink, protocol.SockDgram, 0)
		want(t, err, unix.EAFNOSUPPORT)
	}
}

// TestV4Only: tcpip-v4 has nothing of IPv6.
func TestV4Only(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("SOCK", "")
	o, err := ParseOptions([]string{"-dwire", "path=" + t.TempDir(), "-ptcpip-v4", "prefix=" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := configure(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.start(io.Discard, false); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if _, err := os.Stat(d.paths.door(protocol.AFInet6)); !os.IsNotExist(err) {
		t.Errorf("door 24: %v", err)
	}
	s, r := open(t, d), openRoute(t, d)
	_, err = s.SocketFamily(protocol.AFInet6, protocol.SockStream, 0)
	want(t, err, unix.EAFNOSUPPORT)
	want(t, s.AddAddr("en0", protocol.AliasReq{Addr: inet("2001:db8::1")}), unix.EAFNOSUPPORT)
	want(t, s.DelAddr("en0", inet("2001:db8::1")), unix.EAFNOSUPPORT)
	want(t, s.SetNDFlags("en0", protocol.ND6IFFPerformNUD, 0), unix.EAFNOSUPPORT)
	want(t, s.AddPolicy(protocol.AddrPolicy{Prefix: netip.MustParsePrefix("::/0")}), unix.EAFNOSUPPORT)
	m := protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("::1")}
	_, err = r.Request(m)
	want(t, err, unix.EAFNOSUPPORT)
	for _, name := range []string{protocol.TableND, protocol.TablePolicy} {
		for line, err := range s.TableRaw(name, "") {
			t.Errorf("table %s: %s, %v", name, line, err)
		}
	}
	// Whatever takes both families elsewhere takes IPv4 here.
	l, err := s.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if a := l.Addr().String(); !strings.HasPrefix(a, "0.0.0.0:") {
		t.Errorf("listens on %s", a)
	}
	_, err = s.Listen("tcp6", ":0")
	want(t, err, unix.EAFNOSUPPORT)
}

func TestAddresses6(t *testing.T) {
	s, r := on6(t)
	var heard []protocol.Message
	next := func() (m protocol.Message) {
		t.Helper()
		for len(heard) == 0 {
			var err error
			if heard, err = r.Read(); err != nil {
				t.Fatal(err)
			}
		}
		m, heard = heard[0], heard[1:]
		return m
	}
	news := func(typ int, addr string) *protocol.AddrMessage {
		t.Helper()
		for {
			if m, ok := next().(*protocol.AddrMessage); ok {
				if m.Type != typ || m.Addr != inet(addr) {
					t.Errorf("heard of %+v, want type %d of %s", m, typ, addr)
				}
				return m
			}
		}
	}
	req := protocol.AliasReq{Addr: inet("fe80::1"), Mask: protocol.MaskAddr(protocol.AFInet6, 64), Flags: protocol.IN6IFFNoDAD}
	if err := s.AddAddr("en0", req); err != nil {
		t.Fatal(err)
	}
	if m := news(protocol.RTMNewAddr, "fe80::1%2"); m.Bits != 64 || m.Index != 2 || m.Flags != protocol.IN6IFFNoDAD {
		t.Errorf("%+v", m)
	}
	if a, _ := address(t, s, "fe80::1%en0"); a.Family != "inet6" || a.Bits != 64 || a.Scope != 2 || a.Preferred != -1 || a.Valid != -1 {
		t.Errorf("%+v", a)
	}
	// With times, which a second request changes.
	req = protocol.AliasReq{Addr: inet("2001:db8::1"), Mask: protocol.MaskAddr(protocol.AFInet6, 64),
		Flags: protocol.IN6IFFNoDAD, Timed: true, Preferred: 1000, Valid: 2000}
	if err := s.AddAddr("en0", req); err != nil {
		t.Fatal(err)
	}
	news(protocol.RTMNewAddr, "2001:db8::1")
	if a, _ := address(t, s, "2001:db8::1"); a.Preferred < 900 || a.Preferred > 1000 || a.Valid < 1900 || a.Valid > 2000 || a.Scope != 0 || a.Flags != protocol.IN6IFFNoDAD {
		t.Errorf("%+v", a)
	}
	req.Preferred, req.Valid = 0, protocol.LifetimeInfinite
	if err := s.AddAddr("en0", req); err != nil {
		t.Fatal(err)
	}
	if m := news(protocol.RTMNewAddr, "2001:db8::1"); m.Flags&protocol.IN6IFFDeprecated == 0 {
		t.Errorf("preferred for no time: %+v", m)
	}
	if a, _ := address(t, s, "2001:db8::1"); a.Preferred != 0 || a.Valid != -1 || a.Flags&protocol.IN6IFFDeprecated == 0 {
		t.Errorf("%+v", a)
	}
	for _, bad := range []protocol.AliasReq{
		{Timed: true, Preferred: 2, Valid: 1},
		{Timed: true},
		{Flags: protocol.IN6IFFDetached},
		{Mask: protocol.Addr{Family: protocol.AFInet6, IP: netip.MustParseAddr("ffff:0:ffff::")}},
	} {
		bad.Addr = inet("2001:db8::2")
		want(t, s.AddAddr("en0", bad), unix.EINVAL)
	}
	// An address of one link is another on another link, with or without the scope.
	for _, addr := range []string{"2001:db8::1", "fe80::1"} {
		if err := s.DelAddr("en0", inet(addr)); err != nil {
			t.Error(err)
		}
	}
	news(protocol.RTMDelAddr, "2001:db8::1")
	news(protocol.RTMDelAddr, "fe80::1%2")
	want(t, s.DelAddr("en0", inet("fe80::1%2")), unix.EADDRNOTAVAIL)
}

func TestRoutes6(t *testing.T) {
	s, r := on6(t)
	add6(t, s, "fe80::1/64")
	add6(t, s, "2001:db8::1/64")
	route := func(typ int, dst string, gateway protocol.Addr) protocol.RouteMessage {
		m := protocol.RouteMessage{Type: typ, Flags: protocol.RTFUp | protocol.RTFGateway | protocol.RTFStatic, Gateway: gateway}
		m.SetPrefix(netip.MustParsePrefix(dst))
		return m
	}
	ask := func(m protocol.RouteMessage) protocol.RouteMessage {
		t.Helper()
		got, err := r.Request(m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		return got
	}
	// The interface of the gateway is its scope's, or else that of the message.
	ask(route(protocol.RTMAdd, "2001:db8:1::/48", inet("fe80::2%2")))
	m := route(protocol.RTMAdd, "2001:db8:2::/48", inet("fe80::2"))
	m.Ifp = protocol.LinkAddrOf(protocol.LinkAddr{Name: "en0"})
	ask(m)
	for _, dst := range []string{"2001:db8:1::9", "2001:db8:2::9"} {
		got := ask(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet(dst)})
		if got.Gateway != inet("fe80::2%2") || got.Index != 2 || got.Ifp.Link.Name != "en0" || got.Ifa != inet("2001:db8::1") || got.NetmaskBits != 48 {
			t.Errorf("%s: %+v", dst, got)
		}
	}
	if got := ask(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("fe80::7%2")}); got.Dst != inet("fe80::%2") || got.NetmaskBits != 64 || got.Ifa != inet("fe80::1%2") {
		t.Errorf("the link itself: %+v", got)
	}
	// One's own address shows the link address, as KAME has it; of lo0's the MTU is known.
	if got := ask(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("2001:db8::1")}); got.Gateway.Link.Len != 6 || got.Gateway.Link.Index != 2 || got.Index != 1 {
		t.Errorf("an address of our own: %+v", got)
	}
	if got := ask(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("::1")}); got.Gateway != inet("::1") || got.Flags&protocol.RTFLLInfo != 0 || got.Metrics.MTU != 33228 {
		t.Errorf("::1: %+v", got)
	}
	_, err := r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("fe80::7%1")})
	want(t, err, unix.ESRCH)
	_, err = r.Request(route(protocol.RTMAdd, "2001:db8:3::/48", inet("fe80::2"))) // on which link?
	if err == nil {
		t.Error("a gateway of no link was taken")
	}

	// A neighbour by hand, as ndp -s makes it.
	n := protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFStatic, Dst: inet("fe80::2%2"),
		Gateway: protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, "", []byte{2, 0, 0, 0, 0, 9}))}
	ask(n)
	if got := ask(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("fe80::2%2")}); got.Flags&protocol.RTFLLInfo == 0 || got.Gateway.Link.HW().String() != "02:00:00:00:00:09" {
		t.Errorf("neighbour: %+v", got)
	}
	n.Dst = inet("2001:db8::7") // found on the network of en0
	n.Netmask, n.Flags = protocol.MaskAddr(protocol.AFInet6, 128), n.Flags|protocol.RTFProto2
	ask(n)
	rows, err := client.Table[protocol.NeighbourRow](s, protocol.TableNeighbours, "")
	if err != nil || len(rows) != 2 {
		t.Fatalf("neighbours %+v, %v", rows, err)
	}
	if a, b := rows[0], rows[1]; a.Address != "2001:db8::7" || !a.Published || !a.ProxyOnly || a.Family != "inet6" ||
		b.Address != "fe80::2%en0" || !b.Permanent || b.State != "PERMANENT" || b.Published {
		t.Errorf("neighbours %+v", rows)
	}
	n.Type = protocol.RTMDelete
	ask(n)
	_, err = r.Request(n)
	want(t, err, unix.ESRCH)

	// The dump has each family's own.
	dump := func(family int, flags uint32) (all []string) {
		for m, err := range s.Dump(protocol.DumpFlags, family, flags) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(m.(*protocol.RouteMessage).Dst, "/", m.(*protocol.RouteMessage).Prefix().Bits()))
		}
		return all
	}
	six := []string{"::1/128", "2001:db8::/64", "2001:db8::1/128", "2001:db8:1::/48", "2001:db8:2::/48", "fe80::1%1/128", "fe80::%2/64", "fe80::1%2/128", "fe80::2%2/128"}
	if got := dump(protocol.AFInet6, 0); !slices.Equal(got, six) {
		t.Errorf("IPv6: %q, want %q", got, six)
	}
	if got, want := dump(0, 0), append(dump(protocol.AFInet, 0), six...); !slices.Equal(got, want) {
		t.Errorf("both: %q, want %q", got, want)
	}
	if got := dump(0, protocol.RTFLLInfo); !slices.Equal(got, []string{"fe80::2%2/128"}) {
		t.Errorf("neighbours: %q", got)
	}
	ask(route(protocol.RTMDelete, "2001:db8:1::/48", protocol.Addr{}))
}

// TestDump6: thousands of routes in pages, of both families, and two dumps
// through one connection that take turns.
func TestDump6(t *testing.T) {
	d := daemonFor(t, "-dwire", "path="+t.TempDir())
	s, r := open(t, d), openRoute(t, d)
	add6(t, s, "2001:db8::1/64")
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	const n = 3000
	var msgs []protocol.Message
	for i := range n {
		m := &protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFUp | protocol.RTFGateway, Gateway: inet("2001:db8::2")}
		m.SetPrefix(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x02, byte(i >> 8), byte(i)}), 64))
		m4 := &protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFUp | protocol.RTFGateway, Gateway: inet("10.0.0.2")}
		m4.SetPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i)}), 24))
		msgs = append(msgs, m, m4)
	}
	if err := r.Write(msgs...); err != nil {
		t.Fatal(err)
	}
	for left := len(msgs); left > 0; {
		ms, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if m, ok := m.(*protocol.RouteMessage); ok && m.PID == os.Getpid() {
				if m.Errno != 0 {
					t.Fatalf("%+v", m)
				}
				left--
			}
		}
	}
	walk := func(family int) func() (string, bool) {
		next, stop := iter.Pull2(s.Dump(protocol.DumpRoutes, family, 0))
		t.Cleanup(stop)
		return func() (string, bool) {
			m, err, ok := next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return "", false
			}
			return fmt.Sprint(m.(*protocol.RouteMessage).Prefix()), true
		}
	}
	a, b := walk(0), walk(protocol.AFInet6)
	var both, six []string
	for moreA, moreB := true, true; moreA || moreB; {
		var p string
		if p, moreA = a(); moreA {
			both = append(both, p)
		}
		if p, moreB = b(); moreB {
			six = append(six, p)
		}
	}
	ours := func(all []string) (n int) {
		for _, p := range all {
			if strings.HasPrefix(p, "2002:") || strings.HasPrefix(p, "20.") {
				n++
			}
		}
		return n
	}
	if ours(six) != n || ours(both) != 2*n {
		t.Errorf("%d routes of IPv6 and %d of both", ours(six), ours(both))
	}
	for _, all := range [][]string{both, six} {
		sorted := slices.Clone(all)
		slices.Sort(sorted)
		if d := slices.Compact(sorted); len(d) != len(all) {
			t.Errorf("%d of %d routes come twice", len(all)-len(d), len(all))
		}
	}
	// Cursors of IPv6 are the connection's, and not for ever.
	c := &conn{s: d.srv}
	page := func(c *conn, cursor uint64) (uint64, error) {
		b, err := c.dumpFrame(protocol.AppendDumpRequest(nil, protocol.DumpRequest{What: protocol.DumpRoutes, Family: protocol.AFInet6, Cursor: cursor}))
		if err != nil {
			return 0, err
		}
		next, _, err := protocol.ParsePage(b)
		return next, err
	}
	first, err := page(c, 0)
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	_, err = page(&conn{s: d.srv}, first)
	want(t, err, unix.ESTALE)
	for range maxMarks + 1 {
		if _, err := page(c, first); err != nil { // as often as one likes, while it is there
			want(t, err, unix.ESTALE)
			return
		}
	}
	t.Error("a cursor never grows old")
}

func TestPolicies(t *testing.T) {
	s, _ := on6(t)
	policies := func() (all []string) {
		t.Helper()
		rows, err := client.Table[protocol.PolicyRow](s, protocol.TablePolicy, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			all = append(all, fmt.Sprint(r.Prefix, " ", r.Precedence, " ", r.Label))
		}
		return all
	}
	before := policies()
	if len(before) != 9 || !slices.Contains(before, "::ffff:0.0.0.0/96 35 4") {
		t.Errorf("RFC 6724's table is %q", before)
	}
	p := protocol.AddrPolicy{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Precedence: 99, Label: 7}
	if err := s.AddPolicy(p); err != nil {
		t.Fatal(err)
	}
	p.Precedence = 98
	if err := s.AddPolicy(p); err != nil {
		t.Fatal(err)
	}
	if got := policies(); len(got) != 10 || !slices.Contains(got, "::ffff:10.0.0.0/104 98 7") {
		t.Errorf("with one more: %q", got)
	}
	if err := s.DelPolicy(p); err != nil {
		t.Fatal(err)
	}
	want(t, s.DelPolicy(p), unix.ESRCH)
	if got := policies(); !slices.Equal(got, before) {
		t.Errorf("without it: %q", got)
	}
}

func TestNDInfo(t *testing.T) {
	s, _ := on6(t)
	row := func() protocol.NDIfRow {
		t.Helper()
		rows, err := client.Table[protocol.NDIfRow](s, protocol.TableND, "en0")
		if err != nil || len(rows) != 1 {
			t.Fatalf("%+v, %v", rows, err)
		}
		return rows[0]
	}
	r := protocol.NDIfRow{Interface: "en0", LinkMTU: 1500, MaxMTU: 1500, CurHopLimit: 64, BaseReachable: 30000, Reachable: 30000, Retrans: 1000,
		Flags: protocol.ND6IFFPerformNUD | protocol.ND6IFFAcceptRtAdv}
	if got := row(); got != r {
		t.Errorf("%+v, want %+v", got, r)
	}
	if err := s.SetNDFlags("en0", protocol.ND6IFFPreferSource, protocol.ND6IFFPerformNUD); err != nil {
		t.Fatal(err)
	}
	if got := row().Flags; got != protocol.ND6IFFPreferSource|protocol.ND6IFFAcceptRtAdv {
		t.Errorf("flags %#x", got)
	}
	want(t, s.SetNDFlags("en0", 0x80, 0), unix.EINVAL)
	want(t, s.SetNDFlags("en9", 1, 0), unix.ENXIO)
	_, err := client.Table[protocol.NDIfRow](s, protocol.TableND, "en9")
	want(t, err, unix.ENXIO)
}

// TestTCPDrop6: the ends as netstat has them, scope and all.
func TestTCPDrop6(t *testing.T) {
	s, _ := on6(t)
	add6(t, s, "fe80::1/64")
	l, err := s.Listen("tcp", "[fe80::1%en0]:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := s.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rows, err := client.Table[protocol.SocketRow](s, protocol.TableSockets, "")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(c.LocalAddr().String()).Port()
	if !slices.ContainsFunc(rows, func(r protocol.SocketRow) bool {
		return r.Family == "inet6" && r.Local == "fe80::1%en0" && r.LPort == int(port) && r.Foreign == "fe80::1%en0" && r.FPort == 80 && r.State == "ESTABLISHED"
	}) {
		t.Errorf("sockets: %+v", rows)
	}
	drop := func(foreign string) error {
		_, err := s.SetSysctl(protocol.SysctlTCPDrop, c.LocalAddr().String()+" "+foreign)
		return err
	}
	want(t, drop("[fe80::1%en9]:80"), unix.ENXIO)
	want(t, drop("[fe80::1]:80"), unix.ESRCH)
	if err := drop("[fe80::1%en0]:80"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it is connected still")
	}
}

// TestForward6: the option makes a router of the stack.
func TestForward6(t *testing.T) {
	for _, c := range []struct{ options, forwarding string }{{"", "0"}, {"forward6,", "1"}} {
		s := open(t, daemonWith(t, c.options))
		if v, err := s.Sysctl("net.inet6.ip6.forwarding"); v != c.forwarding || err != nil {
			t.Errorf("%q: net.inet6.ip6.forwarding is %s, %v", c.options, v, err)
		}
	}
}

// TestCompactPolicies: of the policies in the journal only what counts is kept.
func TestCompactPolicies(t *testing.T) {
	p := func(req uint32, prefix string, precedence int) record {
		arg := protocol.AppendAddrPolicy(nil, protocol.AddrPolicy{Prefix: netip.MustParsePrefix(prefix), Precedence: precedence})
		return record{recIoctl, append(protocol.AppendU32(nil, req), arg...)}
	}
	recs := []record{
		p(protocol.SIOCAADDRCTLPOLICY, "fc00::/7", 1),
		p(protocol.SIOCAADDRCTLPOLICY, "fc00::/7", 2),
		p(protocol.SIOCAADDRCTLPOLICY, "fc00::/8", 3),
		p(protocol.SIOCDADDRCTLPOLICY, "fc00::/8", 0),
		p(protocol.SIOCDADDRCTLPOLICY, "::/0", 0), // one that was there from the beginning
	}
	if got := compacted(recs); len(got) != 2 || &got[0].body[0] != &recs[1].body[0] || &got[1].body[0] != &recs[4].body[0] {
		t.Errorf("%d of %d are kept", len(got), len(recs))
	}
}
