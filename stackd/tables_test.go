package stackd

import (
	"encoding/json"
	"net/netip"
	"testing"

	"ionet/stack/membership"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// A group of one link is printed with its interface, not with what the engine
// keeps of that inside the address.
func TestGroupRow(t *testing.T) {
	en0 := netif.New(netif.Config{Name: "en0"})
	ip := func(s string) netip.Addr { return packet.Scoped(netip.MustParseAddr(s), 2) }
	for _, tc := range []struct {
		info membership.Info
		want string
	}{
		{membership.Info{If: en0, Group: ip("ff02::1"), Members: 1}, `{"interface":"en0","group":"ff02::1%en0","refs":1,"mode":"exclude"}`},
		{membership.Info{If: en0, Group: ip("ff0e::5"), Members: 2, Include: true, Sources: []netip.Addr{ip("2001:db8::1"), ip("fe80::1")}},
			`{"interface":"en0","group":"ff0e::5","refs":2,"mode":"include","sources":["2001:db8::1","fe80::1%en0"]}`},
		{membership.Info{If: en0, Group: ip("239.1.1.1"), Members: 1}, `{"interface":"en0","group":"239.1.1.1","refs":1,"mode":"exclude"}`},
	} {
		if got, err := json.Marshal(groupRow(tc.info)); err != nil || string(got) != tc.want {
			t.Errorf("%s %v, want %s", got, err, tc.want)
		}
	}
}
