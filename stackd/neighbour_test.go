package stackd

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"ionet/client"
	"ionet/protocol"
	"ionet/stack"
	"ionet/stack/neigh"
)

// news reads a routing socket for what it tells of neighbours.
type news struct {
	t *testing.T
	r *client.RouteSocket
}

// next is the next message about ip that has RTF_LLINFO.
func (n news) next(ip string) *protocol.RouteMessage {
	n.t.Helper()
	for {
		ms, err := n.r.Read()
		if err != nil {
			n.t.Fatalf("waiting for news of %s: %v", ip, err)
		}
		for _, m := range ms {
			if m, ok := m.(*protocol.RouteMessage); ok && m.Flags&protocol.RTFLLInfo != 0 && m.Dst.IP == netip.MustParseAddr(ip) && m.Index == 2 {
				return m
			}
		}
	}
}

// TestNeighbourNews: what becomes of neighbours is told to routing sockets, but
// not to the one that has asked for it.
func TestNeighbourNews(t *testing.T) {
	wire := "path=" + t.TempDir()
	d, peer := daemonFor(t, "-dwire", wire), daemonFor(t, "-dwire", wire)
	s, p := open(t, d), open(t, peer)
	for _, c := range []struct{ ours, theirs, nobody string }{
		{"10.0.0.1", "10.0.0.2", "10.0.0.3"},
		{"2001:db8::1", "2001:db8::2", "2001:db8::3"},
	} {
		give := func(s *client.Stack, ip string) {
			t.Helper()
			if netip.MustParseAddr(ip).Is6() {
				add6(t, s, ip+"/64")
			} else if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet(ip)}); err != nil {
				t.Fatal(err)
			}
		}
		hello := func(to string) {
			t.Helper()
			k, err := s.SocketFamily(inet(to).Family, protocol.SockDgram, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			a := inet(to)
			a.Port = 7
			if _, err := k.Send(protocol.Msg{Addr: a, Data: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		give(s, c.ours)
		give(p, c.theirs)
		for _, l := range []string{"02:00:00:00:00:21", "02:00:00:00:00:22"} {
			hw, _ := net.ParseMAC(l)
			n := news{t, openRoute(t, d)}
			if err := p.SetLinkAddr("en0", hw); err != nil { // it announces itself, where that is believed
				t.Fatal(err)
			}
			hello(c.theirs)
			m := n.next(c.theirs)
			const flags = protocol.RTFUp | protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFCloned | protocol.RTFDone
			if want := map[string]int{"02:00:00:00:00:21": protocol.RTMAdd, "02:00:00:00:00:22": protocol.RTMChange}[l]; m.Type != want ||
				m.Gateway.Link.String() != l || m.Ifp.Link.Name != "en0" || m.Flags != flags || m.Metrics.Expire == 0 {
				t.Errorf("%s at %s: %+v", c.theirs, l, m)
			}
		}

		// By hand: everybody hears of it but who has asked.
		n, asks := news{t, openRoute(t, d)}, openRoute(t, d)
		by := protocol.RouteMessage{Type: protocol.RTMDelete, PID: os.Getpid(), Flags: protocol.RTFHost | protocol.RTFLLInfo, Dst: inet(c.theirs)}
		done, err := asks.Request(by)
		if err != nil {
			t.Fatal(err)
		}
		if m := n.next(c.theirs); m.Type != protocol.RTMDelete || m.Flags&protocol.RTFUp != 0 || m.Seq != done.Seq || m.PID != os.Getpid() || m.Gateway.Link.String() != "02:00:00:00:00:22" {
			t.Errorf("deleted by hand: %+v", m)
		}
		by.Type, by.Dst = protocol.RTMAdd, inet(c.nobody)
		by.Gateway = protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, "", []byte{2, 0, 0, 0, 0, 9}))
		if done, err = asks.Request(by); err != nil {
			t.Fatal(err)
		}
		if m := n.next(c.nobody); m.Type != protocol.RTMAdd || m.Seq != done.Seq {
			t.Errorf("made by hand: %+v", m)
		}
		if err := s.DelAddr("en0", inet(c.ours)); err != nil { // its network's neighbours go with it
			t.Fatal(err)
		}
		if m := (news{t, asks}).next(c.nobody); m.Type != protocol.RTMDelete || m.PID != 0 {
			t.Errorf("who asked heard first of %+v, want its end alone", m)
		}
	}
}

// TestSilentNeighbour: one that does not answer is told of; with external_arp
// one of IPv4 is not.
func TestSilentNeighbour(t *testing.T) {
	for _, c := range []struct {
		options string
		told    []string
	}{{"", []string{"10.0.0.3", "2001:db8::3"}}, {"external_arp,", []string{"2001:db8::3"}}} {
		d := daemonWith(t, c.options, "-dwire", "path="+t.TempDir())
		s, n := open(t, d), news{t, openRoute(t, d)}
		if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
			t.Fatal(err)
		}
		add6(t, s, "2001:db8::1/64")
		for name, value := range map[string]string{"net.inet.arp.maxtries": "1", "net.inet6.icmp6.nd6_mmaxtries": "1"} {
			if _, err := s.SetSysctl(name, value); err != nil {
				t.Fatal(err)
			}
		}
		for _, to := range []string{"10.0.0.3", "2001:db8::3"} {
			k, err := s.SocketFamily(inet(to).Family, protocol.SockDgram, 0)
			if err != nil {
				t.Fatal(err)
			}
			a := inet(to)
			a.Port = 7
			if _, err := k.Send(protocol.Msg{Addr: a, Data: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		heard := map[string]bool{}
		for len(heard) < len(c.told) {
			ms, err := n.r.Read()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms {
				if m, ok := m.(*protocol.RouteMessage); ok && m.Type == protocol.RTMMiss {
					heard[m.Dst.IP.String()] = true
				}
			}
		}
		for _, ip := range c.told {
			if !heard[ip] {
				t.Errorf("%q: heard of %v, want of %v", c.options, heard, c.told)
			}
		}
	}
}

// TestNeighbourFlood: news of neighbours leave room for others, and what is
// lost is counted.
func TestNeighbourFlood(t *testing.T) {
	d := daemonFor(t, "-dwire", "path="+t.TempDir())
	slow := new(conn)
	hub := &routeHub{s: d.srv, listeners: map[*conn]struct{}{slow: {}}, signal: make(chan struct{}, 1)} // nobody distributes
	n := stack.Neighbour{IP: netip.MustParseAddr("2001:db8::2"), Known: true, If: d.eng.Engine().Env.Ifs.ByName("en0")}
	for range maxNeighbourNews + 100 {
		hub.neighbour(&n, neigh.Found)
	}
	if len(hub.queue) != maxNeighbourNews || hub.missed != 100 {
		t.Errorf("%d messages wait, %d are missed", len(hub.queue), hub.missed)
	}
	hub.event(stack.Event{Kind: stack.IfChanged, If: n.If})
	if len(hub.queue) != maxNeighbourNews+1 {
		t.Error("the flood has left no room for news of an interface")
	}
}
