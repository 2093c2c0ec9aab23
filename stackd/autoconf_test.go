package stackd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

// router is a stack on en0's segment that speaks as a router.
type router struct {
	t *testing.T
	s *client.Stack
	k *client.Socket
}

func routerOn(t *testing.T, d *daemon) *router {
	t.Helper()
	r := &router{t: t, s: open(t, d)}
	add6(t, r.s, "fe80::1/64")
	var err error
	if r.k, err = r.s.SocketFamily(protocol.AFInet6, protocol.SockRaw, protocol.ProtoICMPv6); err != nil {
		t.Fatal(err)
	}
	if err := r.k.SetInt(protocol.ProtoIPv6, protocol.IPv6MulticastLoop, 0); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *router) advertise(ra ndp.RouterAdvertisement) {
	r.t.Helper()
	b, err := ndp.MarshalMessage(&ra)
	if err != nil {
		r.t.Fatal(err)
	}
	c := protocol.AppendControl(nil, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6PktInfo,
		Data: protocol.AppendPktInfo(nil, protocol.PktInfo{Addr: netip.MustParseAddr("fe80::1"), Index: 2})})
	c = protocol.AppendControl(c, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6HopLimit, Data: binary.LittleEndian.AppendUint32(nil, 255)})
	if _, err := r.k.Send(protocol.Msg{Addr: inet("[ff02::1%2]:0"), Control: c, Data: b}); err != nil {
		r.t.Fatal(err)
	}
}

// TestRouters: what a router says is seen in the tables and on the routing
// socket, and forgotten when asked for.
func TestRouters(t *testing.T) {
	wire := "path=" + t.TempDir()
	d := daemonFor(t, "-dwire", wire)
	s, events := open(t, d), openRoute(t, d)
	if err := s.SetFlags("en0", protocol.IFFUp, 0); err != nil {
		t.Fatal(err)
	}
	r := routerOn(t, daemonFor(t, "-dwire", wire))
	ra := ndp.RouterAdvertisement{ManagedConfiguration: true, RouterSelectionPreference: ndp.High, RouterLifetime: 30 * time.Minute,
		Options: []ndp.Option{
			&ndp.PrefixInformation{PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true,
				ValidLifetime: time.Hour, PreferredLifetime: 20 * time.Minute, Prefix: netip.MustParseAddr("2001:db8:1::")},
			&ndp.RecursiveDNSServer{Lifetime: time.Hour, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::53")}},
			&ndp.DNSSearchList{Lifetime: time.Hour, DomainNames: []string{"example.com"}},
		}}

	routers := func() ([]protocol.RouterRow, error) {
		return client.Table[protocol.RouterRow](s, protocol.TableRouters, "")
	}
	rows, err := routers()
	var last time.Time
	eventually(t, "the router is known", func() bool {
		if time.Since(last) > time.Second { // routers say it again
			r.advertise(ra)
			last = time.Now()
		}
		rows, err = routers()
		return err != nil || len(rows) > 0 && rows[0].Default
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows[0]; got.Expire < 1700 || got.Expire > 1800 {
		t.Errorf("the router is known for %d s more", got.Expire)
	}
	rows[0].Expire = 0
	wanted := []protocol.RouterRow{{Address: "fe80::1%en0", Interface: "en0", Flags: 0x88, Managed: true, Preference: "high", Lifetime: 1800, Default: true}}
	if !slices.Equal(rows, wanted) {
		t.Errorf("routers %+v, want %+v", rows, wanted)
	}
	prefixes, err := client.Table[protocol.PrefixRow](s, protocol.TablePrefixes, "")
	if err != nil || len(prefixes) != 1 {
		t.Fatalf("prefixes %+v, %v", prefixes, err)
	}
	p := prefixes[0]
	if p.Prefix != "2001:db8:1::/64" || !p.OnLink || !p.Autonomous || p.Detached || p.Preferred != 1200 || p.Valid != 3600 || p.Refs != 1 ||
		!slices.Equal(p.Routers, []string{"fe80::1%en0"}) {
		t.Errorf("prefix %+v", p)
	}
	servers, err := client.Table[protocol.ResolverRow](s, protocol.TableResolver, "")
	if said := fmt.Sprint(servers); err != nil || said != "[{2001:db8::53 } {fe80::53%en0 } { example.com}]" {
		t.Errorf("resolver %s, %v", said, err)
	}

	// The address is asked for, then may be used, and each change is told.
	auto := func() (protocol.AddressRow, bool) {
		rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "en0")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(rows[0].Addresses, func(a protocol.AddressRow) bool { return strings.HasPrefix(a.Address, "2001:db8:1:") })
		if i < 0 {
			return protocol.AddressRow{}, false
		}
		return rows[0].Addresses[i], true
	}
	var a protocol.AddressRow
	eventually(t, "the address may be used", func() bool { a, _ = auto(); return a.Address != "" && !a.Tentative })
	if a.Flags != protocol.IN6IFFAutoconf || a.Bits != 64 || a.Preferred > 1200 || a.Preferred < 1100 || a.Valid > 3600 || a.Valid < 3500 {
		t.Errorf("the address %+v", a)
	}
	told := map[string]bool{}
	for !told["address"] || !told["default"] {
		ms, err := events.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			switch m := m.(type) {
			case *protocol.AddrMessage:
				told["address"] = told["address"] || m.Type == protocol.RTMNewAddr && m.Addr.IP.String() == a.Address
			case *protocol.RouteMessage:
				told["default"] = told["default"] || m.Type == protocol.RTMAdd && m.Prefix().String() == "::/0"
			}
		}
	}

	// ndp -I, -P, -R.
	if err := s.SetDefaultInterface("en0"); err != nil {
		t.Error(err)
	}
	if name, err := s.DefaultInterface(); err != nil || name != "en0" {
		t.Errorf("default interface %q, %v", name, err)
	}
	if err := s.SetDefaultInterface(""); err != nil {
		t.Error(err)
	}
	if name, err := s.DefaultInterface(); err != nil || name != "" {
		t.Errorf("default interface %q, %v", name, err)
	}
	want(t, s.SetDefaultInterface("en9"), unix.ENXIO)
	if err := s.FlushPrefixes(); err != nil {
		t.Error(err)
	}
	eventually(t, "the address is gone", func() bool { _, ok := auto(); return !ok })
	if err := s.FlushRouters(); err != nil {
		t.Error(err)
	}
	if rows, err := routers(); err != nil || len(rows) != 0 {
		t.Errorf("routers %+v, %v", rows, err)
	}

	// Asked anew, the router hears it.
	if err := r.k.SetOption(protocol.ProtoIPv6, protocol.IPv6JoinGroup, binary.LittleEndian.AppendUint32(netip.MustParseAddr("ff02::2").AsSlice(), 2)); err != nil {
		t.Fatal(err)
	}
	if err := r.k.SetOption(protocol.ProtoICMPv6, protocol.ICMP6Filter, protocol.ICMP6Pass(133)); err != nil {
		t.Fatal(err)
	}
	if err := s.SolicitRouters("en0"); err != nil {
		t.Error(err)
	}
	if m, err := r.k.Recv(1500, 0); err != nil || m.Data[0] != 133 {
		t.Errorf("the router heard %x, %v", m.Data, err)
	}
}
