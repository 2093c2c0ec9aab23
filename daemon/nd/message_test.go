package nd

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"
)

var (
	router = netip.MustParseAddr("fe80::1")
	equal  = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	same   = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
)

// full has one of everything. The other implementation reads whole octets of a
// route only, so that lengths are multiples of 8.
func full() *RouterAdvert {
	return &RouterAdvert{
		HopLimit: 64, Flags: Managed | Other | PrefHigh, Lifetime: 1800, Reachable: 30000, Retrans: 1000,
		LinkAddr: []byte{2, 0, 0, 0, 0, 1}, MTU: 1400, Interval: 600000, Agent: &Agent{5, 1800},
		Prefixes: []Prefix{
			{netip.MustParsePrefix("2001:db8:1::/64"), OnLink | Autonomous, 2592000, 604800},
			{netip.MustParsePrefix("2001:db8:2::/48"), OnLink, Infinity, 0},
		},
		Routes: []Route{
			{netip.MustParsePrefix("::/0"), PrefLow, 600},
			{netip.MustParsePrefix("2001:db8:8000::/40"), PrefHigh, Infinity},
			{netip.MustParsePrefix("2001:db8:9::1/128"), PrefMedium, 0},
		},
		Servers: []Servers{{1800, []netip.Addr{netip.MustParseAddr("2001:db8::53"), router}}},
		Search:  []Search{{1800, []string{"example.org", "a.b.example.org"}}},
	}
}

// TestOthersReadIt: what is written, another implementation reads the same.
func TestOthersReadIt(t *testing.T) {
	m := full()
	got, err := ndp.ParseMessage(m.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(theirs(m), got.(*ndp.RouterAdvertisement), same); d != "" {
		t.Errorf("-ours +theirs\n%s", d)
	}
	if m.Len() != len(m.Append(nil)) || m.Len()%8 != 0 {
		t.Errorf("%d octets", m.Len())
	}
	rs, err := ndp.ParseMessage(AppendSolicit(nil, m.LinkAddr))
	if err != nil {
		t.Fatal(err)
	}
	if o := rs.(*ndp.RouterSolicitation).Options; len(o) != 1 || !slices.Equal(o[0].(*ndp.LinkLayerAddress).Addr, m.LinkAddr) {
		t.Errorf("options of the solicitation: %v", o)
	}
}

// theirs is m in the other implementation's terms.
func theirs(m *RouterAdvert) *ndp.RouterAdvertisement {
	sec := func(n uint32) time.Duration { return time.Duration(n) * time.Second }
	pref := func(f uint8) ndp.Preference { return ndp.Preference(f & PrefMask >> 3) }
	o := &ndp.RouterAdvertisement{
		CurrentHopLimit: m.HopLimit, ManagedConfiguration: m.Flags&Managed != 0, OtherConfiguration: m.Flags&Other != 0,
		MobileIPv6HomeAgent: m.Flags&HomeAgent != 0, RouterSelectionPreference: pref(m.Flags), RouterLifetime: sec(uint32(m.Lifetime)),
		NeighborDiscoveryProxy: m.Flags&4 != 0,
		ReachableTime:          time.Duration(m.Reachable) * time.Millisecond, RetransmitTimer: time.Duration(m.Retrans) * time.Millisecond,
	}
	if m.LinkAddr != nil {
		o.Options = append(o.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: m.LinkAddr})
	}
	if m.MTU != 0 {
		o.Options = append(o.Options, ndp.NewMTU(m.MTU))
	}
	if m.Interval != 0 {
		o.Options = append(o.Options, &ndp.RawOption{Type: optInterval, Length: 1,
			Value: []byte{0, 0, byte(m.Interval >> 24), byte(m.Interval >> 16), byte(m.Interval >> 8), byte(m.Interval)}})
	}
	if a := m.Agent; a != nil {
		o.Options = append(o.Options, &ndp.RawOption{Type: optHomeAgent, Length: 1,
			Value: []byte{0, 0, byte(a.Preference >> 8), byte(a.Preference), byte(a.Lifetime >> 8), byte(a.Lifetime)}})
	}
	for _, p := range m.Prefixes {
		o.Options = append(o.Options, &ndp.PrefixInformation{PrefixLength: uint8(p.Prefix.Bits()), OnLink: p.Flags&OnLink != 0,
			AutonomousAddressConfiguration: p.Flags&Autonomous != 0, ValidLifetime: sec(p.Valid), PreferredLifetime: sec(p.Preferred),
			Prefix: p.Prefix.Addr()})
	}
	for _, r := range m.Routes {
		o.Options = append(o.Options, &ndp.RouteInformation{PrefixLength: uint8(r.Prefix.Bits()), Preference: pref(r.Pref),
			RouteLifetime: sec(r.Lifetime), Prefix: r.Prefix.Addr()})
	}
	for _, s := range m.Servers {
		o.Options = append(o.Options, &ndp.RecursiveDNSServer{Lifetime: sec(s.Lifetime), Servers: s.Addrs})
	}
	for _, s := range m.Search {
		o.Options = append(o.Options, &ndp.DNSSearchList{Lifetime: sec(s.Lifetime), DomainNames: s.Domains})
	}
	return o
}

// TestReadsItself: writing and reading are each other's inverse.
func TestReadsItself(t *testing.T) {
	for _, m := range []*RouterAdvert{full(), {}} {
		got, err := ParseAdvert(Packet{Src: router, HopLimit: HopLimit, Data: m.Append(nil)})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got, equal, same); d != "" {
			t.Error(d)
		}
	}
}

// TestRefuses is RFC 4861 §6.1.1 and §6.1.2.
func TestRefuses(t *testing.T) {
	advert, solicit := (&RouterAdvert{}).Append(nil), AppendSolicit(nil, nil)
	far := netip.MustParseAddr("2001:db8::1")
	coded := func(b []byte) []byte { b = slices.Clone(b); b[1] = 1; return b }
	more := func(b []byte, o ...byte) []byte { return append(slices.Clone(b), o...) }
	for _, tc := range []struct {
		what string
		p    Packet
		want error
	}{
		{"advert", Packet{Src: router, HopLimit: 255, Data: advert}, nil},
		{"advert, unknown option", Packet{Src: router, HopLimit: 255, Data: more(advert, 200, 1, 0, 0, 0, 0, 0, 0)}, nil},
		{"advert from afar", Packet{Src: far, HopLimit: 255, Data: advert}, errLinkFrom},
		{"advert over a router", Packet{Src: router, HopLimit: 254, Data: advert}, errHopLimit},
		{"advert without its end", Packet{Src: router, HopLimit: 255, Data: advert[:15]}, errShort},
		{"advert with a code", Packet{Src: router, HopLimit: 255, Data: coded(advert)}, errCode},
		{"advert with an option of no length", Packet{Src: router, HopLimit: 255, Data: more(advert, 1, 0, 0, 0, 0, 0, 0, 0)}, errOption},
		{"advert with half an option", Packet{Src: router, HopLimit: 255, Data: more(advert, 1)}, errOption},
		{"advert with a long option", Packet{Src: router, HopLimit: 255, Data: more(advert, 1, 2, 0, 0, 0, 0, 0, 0)}, errOption},
		{"solicit as advert", Packet{Src: router, HopLimit: 255, Data: more(solicit, solicit...)}, errType},
	} {
		if _, err := ParseAdvert(tc.p); err != tc.want {
			t.Errorf("%s: %v, want %v", tc.what, err, tc.want)
		}
	}
	none := netip.IPv6Unspecified()
	for _, tc := range []struct {
		what string
		p    Packet
		want error
	}{
		{"solicit", Packet{Src: none, HopLimit: 255, Data: solicit}, nil},
		{"solicit with a link address", Packet{Src: router, HopLimit: 255, Data: AppendSolicit(nil, []byte{2, 0, 0, 0, 0, 1})}, nil},
		{"solicit of nobody with one", Packet{Src: none, HopLimit: 255, Data: AppendSolicit(nil, []byte{2, 0, 0, 0, 0, 1})}, errNobody},
		{"solicit over a router", Packet{Src: router, HopLimit: 64, Data: solicit}, errHopLimit},
		{"solicit without its end", Packet{Src: router, HopLimit: 255, Data: solicit[:7]}, errShort},
		{"solicit with a code", Packet{Src: router, HopLimit: 255, Data: coded(solicit)}, errCode},
	} {
		if err := CheckSolicit(tc.p); err != tc.want {
			t.Errorf("%s: %v, want %v", tc.what, err, tc.want)
		}
	}
}

// FuzzAdvert: what could be read is written and read the same, and by another
// implementation too.
func FuzzAdvert(f *testing.F) {
	f.Add(full().Append(nil))
	f.Add((&RouterAdvert{}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := Packet{Src: router, HopLimit: HopLimit, Data: b}
		_ = CheckSolicit(p)
		m, err := ParseAdvert(p)
		if err != nil {
			return
		}
		if len(m.LinkAddr) != 6 && m.LinkAddr != nil {
			m.LinkAddr = nil // of another kind of link
		}
		for i := range m.Prefixes { // reserved bits, and host bits, are not kept by all
			m.Prefixes[i].Flags &= OnLink | Autonomous
		}
		m.Flags &= Managed | Other | HomeAgent | PrefMask
		out := m.Append(nil)
		again, err := ParseAdvert(Packet{Src: router, HopLimit: HopLimit, Data: out})
		if err != nil {
			t.Fatalf("%v\n%+v", err, m)
		}
		if d := cmp.Diff(m, again, equal, same); d != "" {
			t.Fatal(d)
		}
		if m.Flags&PrefMask == PrefReserved {
			return
		}
		for _, r := range m.Routes {
			if r.Pref == PrefReserved {
				return
			}
		}
		for _, s := range m.Search {
			for _, d := range s.Domains {
				if !plain(d) {
					return
				}
			}
		}
		if _, err := ndp.ParseMessage(out); err != nil {
			t.Fatalf("the other implementation: %v\n%+v", err, m)
		}
	})
}

// plain is a domain of letters, digits and hyphens; others are read in several
// ways.
func plain(d string) bool {
	for _, c := range d {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}
