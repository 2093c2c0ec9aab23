package sim_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/sim"
	"ionet/stack"
	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// plugged attaches a stack without an address, as a cable does.
func plugged(n *sim.Net, nd *sim.Node, seg *sim.Segment) *netif.Interface {
	ifp := n.Attach(nd, seg, "")
	if err := nd.SetFlags(ifp, netif.FlagUp, 0); err != nil {
		panic(err)
	}
	return ifp
}

// given gives an address.
func given(nd *sim.Node, ifp *netif.Interface, prefix string) error {
	p := netip.MustParsePrefix(prefix)
	return nd.AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()})
}

// advertiser is a router's rtadvd.
type advertiser struct {
	n   *sim.Net
	nd  *sim.Node
	ifp *netif.Interface
	so  *socket.Socket
	ra  ndp.RouterAdvertisement
	off bool
}

// router has nd forward, and advertise on ifp every few seconds.
func router(n *sim.Net, nd *sim.Node, ifp *netif.Interface, pref ndp.Preference, prefixes ...ndp.Option) *advertiser {
	nd.Sysctl("net.inet6.ip6.forwarding", "1")
	a := &advertiser{n: n, nd: nd, ifp: ifp, ra: ndp.RouterAdvertisement{RouterLifetime: 30 * time.Minute, RouterSelectionPreference: pref, Options: prefixes}}
	err := nd.Call(func(w *netif.Work) (err error) {
		if a.so, err = nd.Stack.Socket(w, socket.AFInet6, socket.Raw, packet.ProtoICMPv6, socket.Cred{Super: true}); err != nil {
			return err
		}
		return a.so.SetOption(w, inet6.LevelIPv6, inet6.IPv6MulticastHops, socket.Value32(255))
	})
	if err != nil {
		panic(err)
	}
	a.speak()
	return a
}

func (a *advertiser) speak() {
	if a.off {
		return
	}
	b, err := ndp.MarshalMessage(&a.ra)
	if err != nil {
		panic(err)
	}
	_ = a.nd.Call(func(w *netif.Work) error { // it has no link-local address yet, perhaps
		_, err := a.so.Send(w, &socket.Msg{Addr: socket.Addr{IP: netip.MustParseAddr("ff02::1"), Scope: a.ifp.Index}, Data: b})
		return err
	})
	a.n.At(3*time.Second+time.Duration(a.n.Rand().Int64N(int64(7*time.Second))), a.speak)
}

// silent ends it.
func (a *advertiser) silent() {
	if !a.off {
		a.off = true
		_ = a.nd.Call(func(w *netif.Work) error { a.so.Close(w); return nil })
	}
}

func autonomous(prefix string, preferred, valid time.Duration) ndp.Option {
	p := netip.MustParsePrefix(prefix)
	return &ndp.PrefixInformation{PrefixLength: uint8(p.Bits()), OnLink: true, AutonomousAddressConfiguration: true,
		PreferredLifetime: preferred, ValidLifetime: valid, Prefix: p.Addr()}
}

// in is the address of ifp in a prefix, if it may be used and is preferred.
func in(nd *sim.Node, ifp *netif.Interface, prefix string) (netip.Addr, bool) {
	for _, a := range ifp.Addrs() {
		if netip.MustParsePrefix(prefix).Contains(a.Addr) && !a.Tentative && !a.Duplicated && !a.Deprecated(nd.Env.Now()) {
			return a.Addr, true
		}
	}
	return netip.Addr{}, false
}

// soon runs the network until something is so, at most for a time.
func soon(n *sim.Net, limit time.Duration, what string, ok func() bool) error {
	for end := n.Now() + int64(limit); !ok(); n.Run(250 * time.Millisecond) {
		if n.Now() > end {
			return fmt.Errorf("after %v it is not so that %s", limit, what)
		}
	}
	return nil
}

// datagrams answers how to ask whether one gets from a to b's address of now.
func datagrams(n *sim.Net, a, b *sim.Node) (through func(to netip.Addr) bool, end func()) {
	var from, at *socket.Socket
	open := func(nd *sim.Node, so **socket.Socket, port uint16) {
		err := nd.Call(func(w *netif.Work) (err error) {
			if *so, err = nd.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{Super: true}); err != nil || port == 0 {
				return err
			}
			return (*so).Bind(w, socket.Addr{IP: netip.IPv6Unspecified(), Port: port})
		})
		if err != nil {
			panic(err)
		}
	}
	open(a, &from, 0)
	open(b, &at, 7)
	count := uint64(0)
	through = func(to netip.Addr) bool {
		count++
		_ = a.Call(func(w *netif.Work) error {
			_, err := from.Send(w, &socket.Msg{Addr: socket.Addr{IP: to, Port: 7}, Data: binary.BigEndian.AppendUint64(nil, count)})
			return err
		})
		n.Run(500 * time.Millisecond)
		got := false
		for {
			m := socket.Msg{Data: make([]byte, 100)}
			if b.Call(func(w *netif.Work) error { return at.Recv(w, &m) }) != nil {
				return got
			}
			got = got || binary.BigEndian.Uint64(m.Data) == count
		}
	}
	return through, func() {
		_ = a.Call(func(w *netif.Work) error { from.Close(w); return nil })
		_ = b.Call(func(w *netif.Work) error { at.Close(w); return nil })
	}
}

// autoconfigures has two hosts configure themselves by the routers between
// their links, whatever the links do to frames; then the network is renumbered,
// and at last the better router dies.
func autoconfigures(n *sim.Net) error {
	r := n.Rand()
	f, g := ills(r), ills(r)
	f.Corrupt, g.Corrupt = 0, 0
	left, right := n.Segment(f), n.Segment(g)
	a, b, r1, r2 := n.Stack("a"), n.Stack("b"), n.Stack("r1"), n.Stack("r2")
	if r.IntN(2) == 0 {
		a.Sysctl("net.inet6.ip6.optimistic_dad", "1")
	}
	if r.IntN(2) == 0 {
		b.Sysctl("net.inet6.ip6.use_stableaddr", "1")
	}
	ia, ib := plugged(n, a, left), plugged(n, b, right)
	var routers []*advertiser
	for i, nd := range []*sim.Node{r1, r2} {
		pref := []ndp.Preference{ndp.High, ndp.Low}[i]
		x, y := plugged(n, nd, left), plugged(n, nd, right)
		for k, err := range []error{given(nd, x, fmt.Sprintf("2001:db8:1::%d/64", i+1)), given(nd, y, fmt.Sprintf("2001:db8:2::%d/64", i+1))} {
			if err != nil {
				return fmt.Errorf("address %d of r%d: %w", k, i+1, err)
			}
		}
		routers = append(routers, router(n, nd, x, pref, autonomous("2001:db8:1::/64", time.Hour, 2*time.Hour)),
			router(n, nd, y, pref, autonomous("2001:db8:2::/64", time.Hour, 2*time.Hour)))
	}
	defer func() {
		for _, x := range routers {
			x.silent()
		}
	}()
	var to netip.Addr
	settled := func(left, right string) func() bool {
		return func() bool {
			_, ok := in(a, ia, left)
			var also bool
			to, also = in(b, ib, right)
			return ok && also
		}
	}
	if err := soon(n, 5*time.Minute, "both have an address", settled("2001:db8:1::/64", "2001:db8:2::/64")); err != nil {
		return err
	}
	through, end := datagrams(n, a, b)
	defer end()
	if err := soon(n, 2*time.Minute, "a datagram gets through", func() bool { return through(to) }); err != nil {
		return err
	}
	for i, x := range routers {
		side := i%2 + 1
		if err := given(x.nd, x.ifp, fmt.Sprintf("2001:db8:%x::%d/64", side+0x10, i/2+1)); err != nil {
			return err
		}
		x.ra.Options = []ndp.Option{autonomous(fmt.Sprintf("2001:db8:%d::/64", side), 0, 2*time.Hour),
			autonomous(fmt.Sprintf("2001:db8:%x::/64", side+0x10), time.Hour, 2*time.Hour)}
	}
	if err := soon(n, 5*time.Minute, "the new addresses are there", settled("2001:db8:11::/64", "2001:db8:12::/64")); err != nil {
		return err
	}
	if err := soon(n, 2*time.Minute, "the old ones are deprecated", func() bool {
		_, old := in(a, ia, "2001:db8:1::/64")
		_, also := in(b, ib, "2001:db8:2::/64")
		return !old && !also
	}); err != nil {
		return err
	}
	for _, x := range routers[:2] {
		x.silent()
	}
	if err := r1.Crash(); err != nil {
		return err
	}
	old, _ := in(b, ib, "2001:db8:12::/64")
	return soon(n, 5*time.Minute, "the other router is used", func() bool { return through(old) })
}

func TestAutoconfiguration(t *testing.T) { play(t, autoconfigures) }

// thousand hosts come up on one link at about the same time.
func thousand(n *sim.Net) error {
	const hosts = 1000
	lan := n.Segment(sim.Faults{Delay: time.Millisecond, Jitter: time.Millisecond})
	lan.Snoop = true
	r := n.Stack("r")
	x := router(n, r, plugged(n, r, lan), ndp.Medium, autonomous("2001:db8::/64", time.Hour, time.Hour))
	defer x.silent()
	nodes, ifs := make([]*sim.Node, hosts), make([]*netif.Interface, hosts)
	for i := range nodes {
		nodes[i] = n.Stack(fmt.Sprint("h", i))
		n.At(time.Duration(n.Rand().Int64N(int64(time.Second))), func() { ifs[i] = plugged(n, nodes[i], lan) })
	}
	n.Run(15 * time.Second)
	owner := map[netip.Addr]int{}
	for i, nd := range nodes {
		if _, ok := in(nd, ifs[i], "2001:db8::/64"); !ok {
			return fmt.Errorf("h%d has no address", i)
		}
		for _, a := range ifs[i].Addrs() {
			if j, taken := owner[a.Addr]; taken || a.Duplicated || a.Tentative {
				return fmt.Errorf("h%d has %+v, and h%d too (%v)", i, a, j, taken)
			}
			plain, _ := packet.Unscoped(a.Addr)
			owner[plain] = i
		}
		if sent := ifs[i].Stats.OutPackets.Load(); sent > 20 {
			return fmt.Errorf("h%d has sent %d frames", i, sent)
		}
	}
	return nil
}

func TestThousandHosts(t *testing.T) {
	if _, err := run(thousand, max(*oneSeed, 1)); err != nil {
		t.Error(err)
	}
}

// duplicates has two hosts want one address, one after the other or at once:
// never do both use it, and who had it keeps it.
func duplicates(n *sim.Net) error {
	r := n.Rand()
	f := ills(r)
	f.Loss, f.Corrupt = 0, 0
	lan := n.Segment(f)
	a, b := n.Stack("a"), n.Stack("b")
	ia, ib := plugged(n, a, lan), plugged(n, b, lan)
	after := time.Duration(r.Int64N(int64(3 * time.Second)))
	const want = "2001:db8::5/64"
	if err := given(a, ia, want); err != nil {
		return err
	}
	var failed error
	n.At(after, func() { failed = given(b, ib, want) })
	n.Run(30 * time.Second)
	if failed != nil {
		return failed
	}
	marked := func(ifp *netif.Interface) bool {
		for _, x := range ifp.Addrs() {
			if x.Addr == netip.MustParsePrefix(want).Addr() {
				return x.Duplicated
			}
		}
		return false
	}
	_, ina := in(a, ia, want)
	_, inb := in(b, ib, want)
	switch {
	case ina && inb:
		return fmt.Errorf("both use it, who asked %v apart", after)
	case after > 2200*time.Millisecond && !ina:
		return fmt.Errorf("who had it has lost it to one who came %v later", after)
	case !ina && !marked(ia), !inb && !marked(ib):
		return fmt.Errorf("it is not marked where it is not used: a %v %v, b %v %v", ina, marked(ia), inb, marked(ib))
	}
	return nil
}

func TestDuplicates(t *testing.T) { play(t, duplicates) }
