package sim_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// query is a membership query of version 1, 2 or 3 that leaves 10 s for the
// answers, with sources in version 3.
func query(version int, group netip.Addr, sources ...netip.Addr) []byte {
	b := make([]byte, 8, 12+4*len(sources))
	b[0] = packet.IGMPQuery
	if version > 1 {
		b[1] = 100
	}
	ip := group.As4()
	copy(b[4:], ip[:])
	if version == 3 {
		b = binary.BigEndian.AppendUint16(append(b, 2, 125), uint16(len(sources)))
		for _, s := range sources {
			b = append(b, s.AsSlice()...)
		}
	}
	packet.IGMP(b).SetChecksum()
	return b
}

// membership has routers of every version ask an ill link about groups that
// come and go. When the link is well again, a version 2 router hears of every
// group that has members, and a version 3 router of every member.
func membership(n *sim.Net) error {
	r := n.Rand()
	lan := n.Segment(ills(r))
	router := n.Stack("r")
	n.Attach(router, lan, "10.0.0.1/24")
	ask := router.Socket(socket.Raw, packet.ProtoIGMP)
	group := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{239, 1, 1, byte(i)}) }
	mreq := func(g netip.Addr, host int) []byte { return append(g.AsSlice(), 10, 0, 0, byte(host)) }
	join := func(s *sim.Socket, g netip.Addr, host int) {
		if err := s.Set(0, 12, mreq(g, host)); err != nil {
			panic(err)
		}
	}
	join(ask, netip.MustParseAddr("224.0.0.22"), 1)
	for i := range 4 {
		join(ask, group(i), 1)
	}
	if err := ask.Set(0, 9, []byte{10, 0, 0, 1}); err != nil {
		return err
	}
	type key struct {
		host  netip.Addr
		group netip.Addr
	}
	member := map[key]bool{}
	var hosts []*sim.Socket
	for i := range 2 {
		nd := n.Stack(fmt.Sprint("h", i))
		n.Attach(nd, lan, fmt.Sprintf("10.0.0.%d/24", i+2))
		hosts = append(hosts, nd.UDP(""))
	}
	for range 40 {
		i, g := r.IntN(2), group(r.IntN(4))
		k := key{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 2)}), g}
		switch r.IntN(3) {
		case 0:
			if !member[k] {
				join(hosts[i], g, i+2)
				member[k] = true
			}
		case 1:
			if member[k] {
				if err := hosts[i].Set(0, 13, mreq(g, i+2)); err != nil {
					return err
				}
				delete(member, k)
			}
		case 2:
			to, v := "224.0.0.1", 1+r.IntN(3)
			q := query(v, netip.IPv4Unspecified())
			if v > 1 && r.IntN(2) == 0 {
				to, q = g.String(), query(v, g)
				if v == 3 && r.IntN(2) == 0 {
					q = query(v, g, netip.MustParseAddr("10.9.9.9"))
				}
			}
			if err := ask.SendTo(to, q); err != nil {
				return err
			}
		}
		n.Run(time.Duration(r.Int64N(int64(15 * time.Second))))
	}

	// answers asks everybody, and collects who reports what; version 2 reports
	// count for whoever sends them.
	answers := func(v int) (map[key]bool, error) {
		n.Run(300 * time.Second)
		for _, ok := ask.Recv(); ok; _, ok = ask.Recv() {
		}
		if err := ask.SendTo("224.0.0.1", query(v, netip.IPv4Unspecified())); err != nil {
			return nil, err
		}
		got := map[key]bool{}
		for range 12 {
			n.Run(time.Second)
			for m, ok := ask.Recv(); ok; m, ok = ask.Recv() {
				b := m.Data[packet.IPv4(m.Data).HeaderLen():]
				switch {
				case b[0] == packet.IGMPv3Report && v == 3:
					for range binary.BigEndian.Uint16(b[6:]) {
						got[key{m.Addr.IP, netip.AddrFrom4([4]byte(b[12:16]))}] = true
						b = b[8+4*binary.BigEndian.Uint16(b[10:]):]
					}
				case b[0] == packet.IGMPv2Report && v == 2:
					got[key{group: netip.AddrFrom4([4]byte(b[4:8]))}] = true
				default:
					return nil, fmt.Errorf("message % x after a query of version %d", b[:8], v)
				}
			}
		}
		return got, nil
	}
	lan.Faults = sim.Faults{}
	got, err := answers(2)
	if err != nil {
		return err
	}
	for k := range member {
		if !got[key{group: k.group}] {
			return fmt.Errorf("nobody reports %v to version 2, of which %v is a member", k.group, k.host)
		}
	}
	for k := range got {
		if !member[key{netip.MustParseAddr("10.0.0.2"), k.group}] && !member[key{netip.MustParseAddr("10.0.0.3"), k.group}] {
			return fmt.Errorf("%v is reported, which has no member", k.group)
		}
	}
	if got, err = answers(3); err != nil {
		return err
	}
	if len(got) != len(member) {
		return fmt.Errorf("version 3 hears of %v, the members are %v", got, member)
	}
	for k := range member {
		if !got[k] {
			return fmt.Errorf("%v does not report %v", k.host, k.group)
		}
	}
	return nil
}

func TestMembership(t *testing.T) { play(t, membership) }

// redirect has a host learn the better of two routers over an ill link, and do
// without the other one afterwards.
func redirect(n *sim.Net) error {
	r := n.Rand()
	f := ills(r)
	f.Corrupt = 0
	lan, far := n.Segment(f), n.Segment(sim.Faults{})
	a, r1, r2, b := n.Stack("a"), n.Stack("r1"), n.Stack("r2"), n.Stack("b")
	n.Attach(a, lan, "10.0.0.1/24")
	first := n.Attach(r1, lan, "10.0.0.2/24")
	n.Attach(r2, lan, "10.0.0.3/24")
	n.Attach(r2, far, "10.0.9.1/24")
	n.Attach(b, far, "10.0.9.2/24")
	a.Route("default", "10.0.0.2")
	r1.Route("10.0.9.0/24", "10.0.0.3")
	b.Route("default", "10.0.9.1")
	r1.Sysctl("net.inet.ip.forwarding", "1")
	r2.Sysctl("net.inet.ip.forwarding", "1")
	srv, c := b.UDP("10.0.9.2:7"), a.UDP("")
	through := func(what string) error {
		for range 200 {
			_ = c.SendTo("10.0.9.2:7", []byte(what))
			n.Run(time.Second)
			for m, ok := srv.Recv(); ok; m, ok = srv.Recv() {
				if string(m.Data) == what {
					return nil
				}
			}
		}
		return fmt.Errorf("no datagram came through %s", what)
	}
	if err := through("by way of the first router"); err != nil {
		return err
	}
	for try := 0; a.Count("icmp", "redirect received") == a.Count("icmp", "bad redirect"); try++ {
		if try == 100 {
			return fmt.Errorf("no redirect was learnt")
		}
		if err := through("until the redirect is learnt"); err != nil {
			return err
		}
	}
	if err := r1.RemoveInterface(first); err != nil {
		return err
	}
	return through("by way of the second router")
}

func TestRedirect(t *testing.T) { play(t, redirect) }

// mangled has ARP go wrong in any bit. Nobody falls over, and when the link is
// well again everybody still has their address and finds everybody else.
func mangled(n *sim.Net) error {
	r := n.Rand()
	f := ills(r)
	f.Corrupt, f.MangleARP = 0, 0.1+0.9*r.Float64()
	lan := n.Segment(f)
	var nodes []*sim.Node
	for i := range 3 {
		nd := n.Stack(fmt.Sprint("s", i))
		nd.Sysctl("net.inet.ip.dad_count", "0")
		n.Attach(nd, lan, fmt.Sprintf("10.0.0.%d/24", i+1))
		nodes = append(nodes, nd)
	}
	socks := make([]*sim.Socket, len(nodes))
	for i, nd := range nodes {
		socks[i] = nd.UDP(":7")
	}
	for range 60 {
		_ = socks[r.IntN(3)].SendTo(fmt.Sprintf("10.0.0.%d:7", 1+r.IntN(4)), payload(0, 8))
		n.Run(time.Duration(r.Int64N(int64(30 * time.Second))))
	}
	lan.Faults = sim.Faults{}
	n.Run(1300 * time.Second) // what was learnt wrongly is forgotten
	for i, nd := range nodes {
		if as := nd.Env.Ifs.ByName("en0").Addrs(); len(as) == 0 || !as[0].Addr.Is4() || as[0].Tentative || as[0].Duplicated {
			return fmt.Errorf("%s has the addresses %v", nd.Name, as)
		}
		for j := range nodes {
			for _, ok := socks[j].Recv(); ok; _, ok = socks[j].Recv() {
			}
			if err := socks[i].SendTo(fmt.Sprintf("10.0.0.%d:7", j+1), []byte("well?")); err != nil {
				return fmt.Errorf("%s to %s: %v", nd.Name, nodes[j].Name, err)
			}
			n.Run(time.Second)
			if m, ok := socks[j].Recv(); !ok || string(m.Data) != "well?" {
				return fmt.Errorf("%s does not find %s", nd.Name, nodes[j].Name)
			}
		}
	}
	return nil
}

func TestMangledARP(t *testing.T) { play(t, mangled) }
