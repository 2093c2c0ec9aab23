package stackd

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/client"
	"ionet/protocol"
)

// TestWhatRoutersTakeBack: temporary and deprecated addresses are shown as such,
// and what a router takes back is gone from the tables, one message each.
func TestWhatRoutersTakeBack(t *testing.T) {
	wire := "path=" + t.TempDir()
	d := daemonFor(t, "-dwire", wire)
	s, events := open(t, d), openRoute(t, d)
	for name, value := range map[string]string{"net.inet6.ip6.use_tempaddr": "1", "net.inet6.ip6.dad_count": "0"} {
		if _, err := s.SetSysctl(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetFlags("en0", protocol.IFFUp, 0); err != nil {
		t.Fatal(err)
	}
	told := func(what string, of func(protocol.Message) bool) {
		t.Helper()
		for {
			ms, err := events.Read()
			if err != nil {
				t.Fatalf("waiting for %s: %v", what, err)
			}
			if slices.ContainsFunc(ms, of) {
				return
			}
		}
	}
	route := func(typ int, dst string) func(protocol.Message) bool {
		return func(m protocol.Message) bool {
			r, ok := m.(*protocol.RouteMessage)
			return ok && r.Type == typ && r.Prefix().String() == dst
		}
	}
	// addresses of a /64, by what their flags say.
	addresses := func(network string) map[uint32]protocol.AddressRow {
		t.Helper()
		rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "en0")
		if err != nil {
			t.Fatal(err)
		}
		found := map[uint32]protocol.AddressRow{}
		for _, a := range rows[0].Addresses {
			if strings.HasPrefix(a.Address, network) {
				found[a.Flags] = a
			}
		}
		return found
	}
	prefix := func(network string, preferred, valid time.Duration) *ndp.PrefixInformation {
		return &ndp.PrefixInformation{PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true,
			PreferredLifetime: preferred, ValidLifetime: valid, Prefix: netip.MustParseAddr(network)}
	}
	more := func(lifetime time.Duration) *ndp.RouteInformation {
		return &ndp.RouteInformation{PrefixLength: 48, RouteLifetime: lifetime, Prefix: netip.MustParseAddr("2001:db8:f::")}
	}

	r := routerOn(t, daemonFor(t, "-dwire", wire))
	r.advertise(ndp.RouterAdvertisement{OtherConfiguration: true, RouterLifetime: 30 * time.Minute,
		Options: []ndp.Option{prefix("2001:db8:1::", time.Hour, 2*time.Hour), prefix("2001:db8:2::", 2*time.Second, 2*time.Second), more(time.Hour)}})
	told("the more specific route", route(protocol.RTMAdd, "2001:db8:f::/48"))
	eventually(t, "the addresses are there", func() bool { return len(addresses("2001:db8:1:")) == 2 && len(addresses("2001:db8:2:")) > 0 })
	rows, err := client.Table[protocol.RouterRow](s, protocol.TableRouters, "")
	if err != nil || len(rows) != 1 || !rows[0].Other || rows[0].Managed {
		t.Errorf("routers %+v, %v", rows, err)
	}
	const public, temporary = protocol.IN6IFFAutoconf, protocol.IN6IFFAutoconf | protocol.IN6IFFTemporary
	both := addresses("2001:db8:1:")
	if a, ok := both[public]; !ok || a.Preferred < 3500 || a.Preferred > 3600 || a.Valid < 7100 || a.Valid > 7200 {
		t.Errorf("the public address: %+v, among %+v", a, both)
	}
	if a, ok := both[temporary]; !ok || a.Preferred < 3400 || a.Preferred > 3600 || a.Valid < 7000 || a.Valid > 7200 {
		t.Errorf("the temporary address: %+v, among %+v", a, both)
	}

	// What has a short life ends by itself: the address, and the route on the link.
	ends := map[string]bool{}
	told("the end of 2001:db8:2::/64", func(m protocol.Message) bool {
		switch m := m.(type) {
		case *protocol.AddrMessage:
			if m.Type == protocol.RTMDelAddr && strings.HasPrefix(m.Addr.IP.String(), "2001:db8:2:") {
				ends["address"] = true
			}
		case *protocol.RouteMessage:
			if route(protocol.RTMDelete, "2001:db8:2::/64")(m) {
				ends["route"] = true
			}
		}
		return len(ends) == 2
	})
	if left := addresses("2001:db8:2:"); len(left) != 0 {
		t.Errorf("%+v is left", left)
	}

	// Preferred no more: the prefix stays for the two hours of RFC 4862 §5.5.3.
	r.advertise(ndp.RouterAdvertisement{RouterLifetime: 30 * time.Minute, Options: []ndp.Option{prefix("2001:db8:1::", 0, time.Minute)}})
	told("an address that is preferred no more", func(m protocol.Message) bool {
		a, ok := m.(*protocol.AddrMessage)
		return ok && a.Type == protocol.RTMNewAddr && a.Flags&protocol.IN6IFFDeprecated != 0
	})
	eventually(t, "both addresses are deprecated", func() bool {
		both := addresses("2001:db8:1:")
		a, b := both[public|protocol.IN6IFFDeprecated], both[temporary|protocol.IN6IFFDeprecated]
		return len(both) == 2 && a.Preferred == 0 && b.Preferred == 0 && a.Valid > 7000 && b.Valid > 7000
	})

	// The router's farewell, and what else it takes back.
	r.advertise(ndp.RouterAdvertisement{Options: []ndp.Option{more(0)}})
	ends = map[string]bool{}
	told("the end of the router's routes", func(m protocol.Message) bool {
		for _, dst := range []string{"::/0", "2001:db8:f::/48"} {
			if route(protocol.RTMDelete, dst)(m) {
				ends[dst] = true
			}
		}
		return len(ends) == 2
	})
	if rows, err := client.Table[protocol.RouterRow](s, protocol.TableRouters, ""); err != nil || slices.ContainsFunc(rows, func(r protocol.RouterRow) bool { return r.Default }) {
		t.Errorf("routers %+v, %v", rows, err)
	}
	if err := s.FlushPrefixes(); err != nil {
		t.Fatal(err)
	}
	gone := 0
	told("the end of the addresses", func(m protocol.Message) bool {
		if a, ok := m.(*protocol.AddrMessage); ok && a.Type == protocol.RTMDelAddr {
			gone++
		}
		return gone == 2
	})
}
