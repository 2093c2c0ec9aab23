package stack_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// listening is what a rig does not do by itself: hear routers.
const listening = "net.inet6.ip6.auto_linklocal=1 net.inet6.ip6.accept_rtadv=1 "

// comesUp has en0 come up as if plugged in.
func comesUp(r *rig.Rig) {
	for _, f := range [][2]uint32{{0, netif.FlagUp}, {netif.FlagUp, 0}} {
		if err := r.SetFlags(r.If, f[0], f[1]); err != nil {
			r.Fatal(err)
		}
	}
}

// advertise has en0 come up and hear the router fe80::from.
func advertise(r *rig.Rig, from int, lifetime time.Duration, opts ...ndp.Option) {
	if !r.If.Up() || from == 2 {
		comesUp(r)
		r.Pass(3 * time.Second)
	}
	say(r, from, lifetime, opts...)
	r.Pass(3 * time.Second)
	r.Sent()
}

// say has the router fe80::from speak.
func say(r *rig.Rig, from int, lifetime time.Duration, opts ...ndp.Option) {
	b, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{RouterLifetime: lifetime, Options: opts})
	if err != nil {
		r.Fatal(err)
	}
	r.Send(nd(fmt.Sprintf("fe80::%x", from), "ff02::1", b))
}

// prefixes are options with n prefixes to make addresses from: 2001:db8:1::/64 …
func prefixes(n int) (opts []ndp.Option) {
	for i := range n {
		opts = append(opts, &ndp.PrefixInformation{PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true,
			ValidLifetime: ndp.Infinity, PreferredLifetime: ndp.Infinity, Prefix: netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::", 1+i))})
	}
	return opts
}

// made are the addresses that en0 has made from prefixes.
func made(r *rig.Rig) (out []*netif.Addr) {
	for _, a := range r.If.Addrs() {
		if a.Flags&netif.AddrAutoconf != 0 && !a.Addr.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}

func temporary(r *rig.Rig) (out []*netif.Addr) {
	for _, a := range made(r) {
		if a.Flags&netif.AddrTemporary != 0 {
			out = append(out, a)
		}
	}
	return out
}

// heard answers how much of something there is after a router has said more of
// it than one.
func heard(opts []ndp.Option, count func(*rig.Rig) int) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		advertise(r, 2, time.Hour, opts...)
		advertise(r, 3, time.Hour)
		return fmt.Sprint(count(r))
	}
}

var autoconfEffects = map[string]effect{
	"net.inet6.ip6.accept_rtadv": {"1", "net.inet6.ip6.auto_linklocal=1", heard(nil, func(r *rig.Rig) int { return len(r.Auto.Routers()) }), "0", "2"},
	"net.inet6.ip6.auto_linklocal": {"1", "", func(r *rig.Rig) string {
		comesUp(r)
		r.Pass(3 * time.Second)
		return fmt.Sprint(r.Inet6.LinkLocal(r.If))
	}, "invalid IP", "fe80:2::ff:fe00:1"},
	"net.inet6.icmp6.nd6_prune": {"60", listening, func(r *rig.Rig) string {
		advertise(r, 2, 10*time.Second)
		r.Pass(20 * time.Second)
		return fmt.Sprint(len(r.Auto.Routers()))
	}, "0", "1"},
	"net.inet6.ip6.maxifdefrouters": {"1", listening, heard(nil, func(r *rig.Rig) int { return len(r.Auto.Routers()) }), "2", "1"},
	"net.inet6.ip6.maxifprefixes":   {"1", listening, heard(prefixes(3), func(r *rig.Rig) int { return len(r.Auto.Prefixes()) }), "3", "1"},
	"net.inet6.ip6.maxifautoaddrs":  {"2", listening, heard(prefixes(3), func(r *rig.Rig) int { return len(made(r)) }), "3", "2"},
	"net.inet6.ip6.maxifdns": {"1", listening, heard([]ndp.Option{&ndp.RecursiveDNSServer{Lifetime: time.Hour,
		Servers: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("2001:db8::54")}}},
		func(r *rig.Rig) int { servers, _ := r.Auto.DNS(); return len(servers) }), "2", "1"},
	"net.inet6.ip6.maxifrouteinfos": {"1", listening, heard([]ndp.Option{
		&ndp.RouteInformation{PrefixLength: 48, RouteLifetime: time.Hour, Prefix: netip.MustParseAddr("2001:db8:1::")},
		&ndp.RouteInformation{PrefixLength: 48, RouteLifetime: time.Hour, Prefix: netip.MustParseAddr("2001:db8:2::")},
	}, func(r *rig.Rig) (n int) {
		for _, p := range []string{"2001:db8:1::1", "2001:db8:2::1"} {
			if got, err := r.Routes.Get(netip.MustParseAddr(p)); err == nil && got.Dst.Bits() == 48 {
				n++
			}
		}
		return n
	}), "2", "1"},
	"net.inet6.ip6.rtsol_delay": {"0", listening, func(r *rig.Rig) string {
		comesUp(r)
		r.Pass(2 * time.Millisecond)
		return fmt.Sprint(strings.Contains(frames(r), " ff02::2"))
	}, "false", "true"},
	"net.inet6.ip6.use_stableaddr": {"1", listening, func(r *rig.Rig) string {
		advertise(r, 2, time.Hour, prefixes(1)...)
		return fmt.Sprint(made(r)[0].Addr == eui64("2001:db8:1::"))
	}, "true", "false"},
	"net.inet6.ip6.soiikey": {strings.Repeat("5a", 16), listening + "net.inet6.ip6.use_stableaddr=1", func(r *rig.Rig) string {
		advertise(r, 2, time.Hour, prefixes(1)...)
		return fmt.Sprint(made(r)[0].Addr.String() == "2001:db8:1:0:2a0f:8613:3f92:e44f") // SHA-256 of prefix, name, counter and secret
	}, "false", "true"},
	"net.inet6.ip6.stableaddr_maxretries": {"0", listening + "net.inet6.ip6.use_stableaddr=1", func(r *rig.Rig) string {
		advertise(r, 2, time.Hour)
		say(r, 2, time.Hour, prefixes(1)...)
		r.Pass(200 * time.Millisecond)
		b := make([]byte, packet.NeighborSolLen)
		packet.PutNeighbor(b, packet.ICMP6NeighborAdv, 0, made(r)[0].Addr)
		r.Send(nd("fe80::9", "ff02::1", b))
		r.Pass(100 * time.Millisecond)
		var fresh int
		for _, a := range made(r) {
			if !a.Duplicated {
				fresh++
			}
		}
		return fmt.Sprint(fresh)
	}, "1", "0"},
	"net.inet6.ip6.use_tempaddr": {"1", listening, heard(prefixes(1), func(r *rig.Rig) int { return len(temporary(r)) }), "0", "1"},
	"net.inet6.ip6.temppltime": {"600", listening + "net.inet6.ip6.use_tempaddr=1", func(r *rig.Rig) string {
		advertise(r, 2, time.Hour, prefixes(1)...)
		return fmt.Sprint(temporary(r)[0].Preferred <= r.Now()+int64(600*time.Second))
	}, "false", "true"},
	"net.inet6.ip6.tempvltime": {"86400", listening + "net.inet6.ip6.use_tempaddr=1", func(r *rig.Rig) string {
		advertise(r, 2, time.Hour, prefixes(1)...)
		return fmt.Sprint(temporary(r)[0].Valid <= r.Now()+int64(24*time.Hour))
	}, "false", "true"},
}

// eui64 is the address that en0's hardware address makes with a prefix.
func eui64(prefix string) netip.Addr {
	b := netip.MustParseAddr(prefix).As16()
	m := net.HardwareAddr(rig.Me[:])
	copy(b[8:], []byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
	return netip.AddrFrom16(b)
}
