package stack_test

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// frames is what the stack sent since the last time, in words.
func frames(r *rig.Rig) string {
	var out []string
	for _, f := range r.Sent() {
		out = append(out, rig.Describe(f))
	}
	return strings.Join(out, "; ")
}

func via(r *rig.Rig, dst, gw string) error {
	return r.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: netip.MustParsePrefix(dst),
		Gateway: netip.MustParseAddr(gw), Flags: route.FlagUp | route.FlagGateway}}})[0]
}

// reply is what comes back for a frame from 10.0.0.2.
func reply(f []byte) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		r.Send(f)
		return frames(r)
	}
}

// far is what becomes of a packet through us to 10.0.1.2 on en1.
func far(p rig.IP) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		en1 := r.AddIf("en1", rig.Me1, "10.0.1.1/24")
		r.Pass(10 * time.Second)
		r.SendOn(en1, rig.ARP(packet.ARPRequest, rig.Peer1, "10.0.1.2", "10.0.1.1"))
		r.Sent()
		f := p.Frame()
		copy(f, rig.Me[:])
		r.Send(f)
		return frames(r)
	}
}

// buffer is the buffer size that a new socket of this kind starts with.
func buffer(typ, proto, name int) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		v, err := r.Socket(typ, proto).Option(socket.LevelSocket, name)
		if err != nil {
			r.Fatal(err)
		}
		n, _ := socket.Int32(v)
		return fmt.Sprint(n)
	}
}

func ephemeral(low bool) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		inRange := 0
		for range 20 {
			s := r.UDP("")
			if low {
				if err := s.Set(0, 19, socket.Value32(2)); err != nil { // IP_PORTRANGE_LOW
					r.Fatal(err)
				}
			}
			if err := s.Bind(":0"); err != nil {
				return err.Error()
			}
			if p := s.Local().Port; p >= 65500 || low && p >= 1000 || !low && p < 49160 {
				inRange++
			}
		}
		return fmt.Sprint(inRange == 20)
	}
}

// told is how many requests a silent neighbour gets.
func told(r *rig.Rig) string {
	_ = r.UDP("").SendTo("10.0.0.9:7", "")
	r.Pass(10 * time.Second)
	return fmt.Sprint(len(r.Sent()))
}

func forgotten(after time.Duration) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		r.Pass(after)
		return fmt.Sprint(len(r.Neighbours()))
	}
}

func echoTo(dst string) []byte { return rig.Echo("10.0.0.2", dst, "") }

func sourceRouted(dst, hop string) rig.IP {
	h := netip.MustParseAddr(hop).As4()
	return rig.IP{Src: "10.0.0.2", Dst: dst, Proto: 17, Options: append([]byte{131, 7, 4}, append(h[:], 0)...), Data: make([]byte, 8)}
}

func pathMTU(after time.Duration) func(*rig.Rig) string { return pathMTUFor(5, after) }

// pathMTUFor quotes a datagram from a port; the socket that sends has port 5.
func pathMTUFor(port byte, after time.Duration) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		s := r.UDP("10.0.0.1:5")
		r.Meet("10.0.0.2")
		if err := via(r, "99.0.0.0/8", "10.0.0.2"); err != nil {
			r.Fatal(err)
		}
		q := rig.IP{Src: "10.0.0.1", Dst: "99.0.0.1", Proto: 17, Data: []byte{0, port, 0, 7, 0, 8, 0, 0}}.Frame()[14:]
		r.Send(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(3, 4, 1000, q)}.Frame())
		r.Pass(after)
		r.Meet("10.0.0.2")
		_ = s.SendTo("99.0.0.1:7", strings.Repeat("x", 1400))
		return fmt.Sprint(len(r.Sent()))
	}
}

type effect struct {
	value    string                // what the node is set to
	with     string                // other nodes that it needs: "name=value ..."
	see      func(*rig.Rig) string // what shows
	was, now string                // before and after
}

const unreach = "10.0.0.1 > 10.0.0.2 unreach "

var inetEffects = map[string]effect{
	"kern.maxsockets": {"16", "", func(r *rig.Rig) string {
		n := 0
		for ; n < 20; n++ {
			if _, err := r.SocketAs(socket.Dgram, 0, socket.Cred{}); err != nil {
				break
			}
		}
		return fmt.Sprint(n)
	}, "20", "16"},
	"kern.mbuf.memory": {"1048576", "", func(r *rig.Rig) string {
		var bs []*packet.Buf
		for len(bs) < 100 {
			b := r.Env.Pool.Get(60000)
			if b == nil {
				break
			}
			bs = append(bs, b)
		}
		packet.FreeBurst(bs)
		return fmt.Sprint(len(bs))
	}, "100", "15"},
	"kern.sbmax": {"4096", "", func(r *rig.Rig) string {
		err := r.UDP("").Set(socket.LevelSocket, socket.SORcvBuf, socket.Value32(5000))
		return fmt.Sprint(err)
	}, "<nil>", "no buffer space available"},
	"net.inet.arp.keep":     {"60", "", forgotten(100 * time.Second), "1", "0"},
	"net.inet.arp.maxtries": {"2", "", told, "5", "2"},
	"net.inet.arp.down": {"2", "", func(r *rig.Rig) string {
		told(r) // five seconds of asking, then down
		return fmt.Sprint(len(r.Neighbours()))
	}, "1", "0"},
	"net.inet.arp.maxentries": {"16", "", func(r *rig.Rig) string {
		for i := range 30 {
			r.Send(rig.ARP(packet.ARPRequest, rig.Peer, fmt.Sprint("10.0.0.", 100+i), "10.0.0.1"))
		}
		return fmt.Sprint(len(r.Neighbours()))
	}, "30", "16"},
	"net.inet.ip.maxroutes": {"3", "", func(r *rig.Rig) string {
		return fmt.Sprint(via(r, "98.0.0.0/8", "10.0.0.2"), via(r, "99.0.0.0/8", "10.0.0.2"))
	}, "<nil> <nil>", "<nil> no buffer space available"},
	"net.inet.udp.checksum": {"0", "", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		_ = r.UDP("").SendTo("10.0.0.2:7", "x")
		f := r.Sent()[0]
		return fmt.Sprint(packet.UDP(f[34:]).Checksum() != 0)
	}, "true", "false"},
	"net.inet.udp.sendspace":  {"1000", "", buffer(socket.Dgram, 0, socket.SOSndBuf), "9216", "1000"},
	"net.inet.udp.recvspace":  {"1000", "", buffer(socket.Dgram, 0, socket.SORcvBuf), "41600", "1000"},
	"net.inet.icmp.sendspace": {"1000", "", buffer(socket.Dgram, 1, socket.SOSndBuf), "65535", "1000"},
	"net.inet.icmp.recvspace": {"1000", "", buffer(socket.Dgram, 1, socket.SORcvBuf), "262144", "1000"},
	"net.inet.raw.sendspace":  {"1000", "", buffer(socket.Raw, 1, socket.SOSndBuf), "65535", "1000"},
	"net.inet.raw.recvspace":  {"1000", "", buffer(socket.Raw, 1, socket.SORcvBuf), "262144", "1000"},

	"net.inet.ip.forwarding": {"1", "", far(rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: 99, Data: []byte("x")}), "", "10.0.0.2 > 10.0.1.2 proto 99 len 1"},
	"net.inet.ip.redirect": {"0", "net.inet.ip.forwarding=1", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		r.Send(rig.ARP(packet.ARPRequest, netif.MAC{2, 0, 0, 0, 0, 3}, "10.0.0.3", "10.0.0.1"))
		r.Sent()
		_ = via(r, "99.0.0.0/8", "10.0.0.3")
		r.Send(rig.IP{Src: "10.0.0.2", Dst: "99.0.0.1", Proto: 99}.Frame())
		return fmt.Sprint(len(r.Sent()))
	}, "2", "1"},
	"net.inet.ip.ttl": {"7", "", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		_ = r.UDP("").SendTo("10.0.0.2:7", "x")
		return fmt.Sprint(packet.IPv4(r.Sent()[0][14:]).TTL())
	}, "64", "7"},
	"net.inet.ip.forwsrcrt":  {"0", "net.inet.ip.forwarding=1", far(sourceRouted("10.0.0.1", "10.0.1.2")), "10.0.0.2 > 10.0.1.2 proto 17 len 8", unreach + "5 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8"},
	"net.inet.ip.allowsrcrt": {"0", "net.inet.ip.forwarding=1", far(sourceRouted("10.0.0.1", "10.0.1.2")), "10.0.0.2 > 10.0.1.2 proto 17 len 8", unreach + "9 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8"},
	"net.inet.ip.directed-broadcast": {"1", "net.inet.ip.forwarding=1",
		far(rig.IP{Src: "10.0.0.2", Dst: "10.0.1.255", Proto: 99}), "", "10.0.0.2 > 10.0.1.255 proto 99 len 0"},
	"net.inet.ip.hostzerobroadcast": {"0", "", func(r *rig.Rig) string {
		s := r.UDP(":9")
		r.Send(rig.UDP("10.0.0.2", "10.0.0.0", 5, 9, "old"))
		return s.Get()
	}, "10.0.0.2:5: old", "resource temporarily unavailable"},
	"net.inet.ip.mtudisc":        {"0", "", pathMTU(time.Second), "2", "1"},
	"net.inet.ip.mtudisctimeout": {"10", "net.inet.ip.mtudisc=1", pathMTU(20 * time.Second), "2", "1"},
	"net.inet.ip.anonportmin":    {"65500", "", ephemeral(false), "false", "true"},
	"net.inet.ip.anonportmax": {"49159", "", func(r *rig.Rig) string { // eight ports are soon gone
		for i := range 20 {
			if err := r.UDP("").Bind(":0"); err != nil {
				return fmt.Sprint(i)
			}
		}
		return "20"
	}, "20", "8"},
	"net.inet.ip.lowportmin": {"1000", "", ephemeral(true), "false", "true"},
	"net.inet.ip.lowportmax": {"601", "", func(r *rig.Rig) string {
		n := 0
		for range 5 {
			s := r.UDP("")
			_ = s.Set(0, 19, socket.Value32(2))
			if s.Bind(":0") == nil {
				n++
			}
		}
		return fmt.Sprint(n)
	}, "5", "2"},
	"net.inet.ip.maxfragpackets": {"2", "", func(r *rig.Rig) string {
		for id := range uint16(9) {
			r.Send(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, ID: id, Frag: packet.IPv4MF, Data: make([]byte, 8)}.Frame())
		}
		return fmt.Sprint(r.Env.Pool.Bufs())
	}, "9", "2"},
	"net.inet.ip.dad_count": {"2", "", func(r *rig.Rig) string {
		r.Addr(r.If, "10.0.0.5/24")
		r.Pass(20 * time.Second)
		return frames(r)
	}, "arp announce 10.0.0.5; arp announce 10.0.0.5", "arp probe 10.0.0.5; arp probe 10.0.0.5; arp announce 10.0.0.5; arp announce 10.0.0.5"},

	"net.inet.icmp.maskrepl": {"1", "", reply(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(17, 0, 0, make([]byte, 4))}.Frame()),
		"", "10.0.0.1 > 10.0.0.2 icmp type 18 code 0 len 4"},
	"net.inet.icmp.returndatabytes": {"16", "", reply(rig.UDP("10.0.0.2", "10.0.0.1", 5, 9, strings.Repeat("x", 50))),
		unreach + "3 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8", unreach + "3 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 16"},
	"net.inet.icmp.errppslimit": {"0", "", reply(rig.UDP("10.0.0.2", "10.0.0.1", 5, 9, "")), unreach + "3 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8", ""},
	"net.inet.icmp.bmcastecho":  {"1", "", reply(echoTo("10.0.0.255")), "", "10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 0"},
	"net.inet6.ip6.auto_flowlabel": {"0", "", func(r *rig.Rig) string {
		if err := r.AddAddr(r.If, stack.AddrSpec{Addr: netip.MustParseAddr("2001:db8::1"), Bits: 64}); err != nil {
			r.Fatal(err)
		}
		r.Ether.ResolveWith(true, rig.OnBench{})
		r.Pass(10 * time.Second)
		r.Sent()
		err := r.Do(func(w *netif.Work) error {
			so, err := r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{})
			if err != nil {
				return err
			}
			defer so.Close(w)
			_, err = so.Send(w, &socket.Msg{Addr: socket.Addr{IP: netip.MustParseAddr("2001:db8::2"), Port: 9}})
			return err
		})
		for _, f := range r.Sent() {
			if h := packet.IPv6(f[packet.EtherLen:]); h.Next() == packet.ProtoUDP {
				return fmt.Sprint(h.FlowLabel() != 0)
			}
		}
		return fmt.Sprint(err)
	}, "true", "false"},
	"net.inet6.ip6.v6only": {"0", "", func(r *rig.Rig) string {
		return fmt.Sprint(socket.New(r.Env, socket.AFInet6, socket.Dgram, 0, socket.Cred{}, 0, 0, 0, nil).V6Only())
	}, "true", "false"},
	"net.inet.icmp.rediraccept": {"0", "", func(r *rig.Rig) string {
		_ = via(r, "0.0.0.0/0", "10.0.0.2")
		q := rig.IP{Src: "10.0.0.1", Dst: "99.0.0.1", Proto: 17, Data: make([]byte, 8)}.Frame()[14:]
		r.Send(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(5, 1, 10<<24|3, q)}.Frame())
		got, _ := r.Routes.Get(netip.MustParseAddr("99.0.0.1"))
		return got.Gateway.String()
	}, "10.0.0.3", "10.0.0.2"},
}

// Every node that can be written does something: each is changed, and what
// shows is compared before and after.
func TestEverySysctlHasAnEffect(t *testing.T) {
	effects := map[string]effect{}
	for _, m := range []map[string]effect{inetEffects, tcpEffects, ndEffects, inet6Effects, autoconfEffects, gifEffects, forwardEffects, ipfEffects, natEffects, ipsecEffects} {
		maps.Copy(effects, m)
	}
	for _, n := range mib.Nodes("") {
		if n.ReadOnly {
			continue
		}
		e, ok := effects[n.Name]
		if !ok {
			t.Errorf("%s: no effect of it is known here", n.Name)
			continue
		}
		t.Run(n.Name, func(t *testing.T) {
			for i, want := range []string{e.was, e.now} {
				r := rig.New(t, func(c *stack.Config) {
					c.V4Only = !strings.HasPrefix(n.Name, "net.inet6.") && n.Name != "kern.hostname"
					c.IPsec = strings.Contains(n.Name, ".ipsec") || strings.HasPrefix(n.Name, "net.key.")
				}, logging)
				for _, kv := range strings.Fields(e.with) {
					k, v, _ := strings.Cut(kv, "=")
					r.Sysctl(k, v)
				}
				if i == 1 {
					r.Sysctl(n.Name, e.value)
				}
				if got := e.see(r); got != want {
					t.Errorf("%s: %q, want %q", []string{"at its default", "set to " + e.value}[i], got, want)
				}
			}
		})
	}
	for name := range effects {
		if mib.Lookup(name) == nil {
			t.Errorf("%s is no node any more", name)
		}
	}
}

func TestSysctlRefusesWhatIsOutOfRange(t *testing.T) {
	r := rig.New(t)
	for _, n := range mib.Nodes("") {
		if n.Kind != mib.KindInt {
			continue
		}
		for _, v := range []string{fmt.Sprint(n.Min - 1), fmt.Sprint(n.Max + 1), "many", "", "1x"} {
			if _, err := r.Env.MIB.Set(n.Name, v); err == nil {
				t.Errorf("%s took %q", n.Name, v)
			}
		}
	}
	for _, s := range [][2]string{{"net.inet.ip.anonportmin", "65535"}, {"net.inet.ip.anonportmax", "65534"}, {"net.inet.ip.lowportmin", "1023"}, {"net.inet.ip.lowportmax", "1022"}} {
		if _, err := r.Env.MIB.Set(s[0], s[1]); (err == nil) != (s[1] == "65535" || s[1] == "1023") {
			t.Errorf("%s=%s: %v", s[0], s[1], err)
		}
	}
}

// A path MTU message about a packet that nobody here sent is a forgery
// (RFC 5927 §4.1).
func TestForgedPathMTUIsNotBelieved(t *testing.T) {
	r := rig.New(t)
	if _, err := r.Stack.Env.MIB.Set("net.inet.ip.mtudisc", "1"); err != nil {
		t.Fatal(err)
	}
	if got := pathMTUFor(6, time.Second)(r); got != "1" {
		t.Errorf("%s packets, want the one datagram whole", got)
	}
	if n := rig.Counter(r.Stack, "icmp", "not about us"); n != 1 {
		t.Errorf("%d messages counted as forged, want 1", n)
	}
}

// A broadcast frame with a packet for one host in it is not for that host
// (RFC 1122 §3.3.6).
func TestUnicastInALinkBroadcastIsDropped(t *testing.T) {
	r := rig.New(t)
	s := r.UDP("10.0.0.1:5")
	f := rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Data: []byte{0, 7, 0, 5, 0, 8, 0, 0}}.Frame()
	copy(f, netif.BroadcastMAC[:])
	r.Send(f)
	if got := s.Get(); got != "resource temporarily unavailable" {
		t.Errorf("the socket got %q", got)
	}
	if n := rig.Counter(r.Stack, "ip", "link broadcast"); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}
