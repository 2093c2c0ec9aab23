package nd6_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack"
	"ionet/stack/nd6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

var other = netif.MAC{2, 0, 0, 0, 0, 9}

const (
	me    = "2001:db8::1"
	peer  = "2001:db8::2"
	asks2 = me + " > ff02::1:ff00:2 ns " + peer + " from 02:00:00:00:00:01"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// rig is a stack with fe80::1 and 2001:db8::1 on en0, whose neighbours are
// forgotten within a minute of their last use.
func rig(t testing.TB, opts ...func(*stack.Config)) *Rig {
	t.Helper()
	r := bare(t, opts...)
	r.Sysctl("net.inet6.ip6.dad_count", "0")
	r.If = r.AddIf("en0", Me, "fe80::1/64")
	r.Addr(r.If, "2001:db8::1/64")
	r.Pass(10 * time.Second)
	r.Sent()
	return r
}

func bare(t testing.TB, opts ...func(*stack.Config)) *Rig {
	t.Helper()
	r := Bare(t, append([]func(*stack.Config){Dual}, opts...)...)
	r.Sysctl("net.inet6.icmp6.nd6_gctimer", "60")
	return r
}

// frame is an ICMPv6 message in a frame from a station to whom its destination
// concerns.
func frame(from netif.MAC, src, dst string, body []byte) []byte {
	s, d := ip(src), ip(dst)
	b := make([]byte, packet.EtherLen+packet.IPv6Len+len(body))
	to := Me
	if d.IsMulticast() {
		to = netif.GroupMAC(d)
	}
	packet.PutEther(b, to, from, packet.EtherIPv6)
	h := packet.PutIPv6(b[packet.EtherLen:], 0, 0, len(body), packet.ProtoICMPv6, 255, s, d)
	copy(h.Payload(), body)
	packet.ICMP6(h.Payload()).SetChecksum(s, d)
	return b
}

// message is a frame with a message as the other implementation makes it.
func message(t testing.TB, from netif.MAC, src, dst string, m ndp.Message) []byte {
	t.Helper()
	body, err := ndp.MarshalMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	return frame(from, src, dst, body)
}

func lla(dir ndp.Direction, mac netif.MAC) []ndp.Option {
	if mac == (netif.MAC{}) {
		return nil
	}
	return []ndp.Option{&ndp.LinkLayerAddress{Direction: dir, Addr: net.HardwareAddr(mac[:])}}
}

// ns is a solicitation for target from a station, to target's group.
func ns(t testing.TB, from netif.MAC, src, target string) []byte {
	t.Helper()
	m := &ndp.NeighborSolicitation{TargetAddress: ip(target)}
	if src != "::" {
		m.Options = lla(ndp.Source, from)
	}
	return message(t, from, src, packet.SolicitedNode(ip(target)).String(), m)
}

// na is an advertisement of target at a station, with flags such as "RSO"; a
// solicited one goes to us, another to all nodes.
func na(t testing.TB, at netif.MAC, target, flags string) []byte {
	t.Helper()
	m := &ndp.NeighborAdvertisement{TargetAddress: ip(target), Options: lla(ndp.Target, at)}
	dst := "ff02::1"
	for _, c := range flags {
		switch c {
		case 'R':
			m.Router = true
		case 'S':
			m.Solicited, dst = true, me
		case 'O':
			m.Override = true
		}
	}
	from := at
	if at == (netif.MAC{}) {
		from = Peer
	}
	return message(t, from, target, dst, m)
}

// sock is a datagram socket of IPv6.
type sock struct {
	*socket.Socket
	r *Rig
}

func udp(r *Rig) sock {
	r.Helper()
	s := sock{r: r}
	if err := r.Do(func(w *netif.Work) (err error) {
		s.Socket, err = r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{Super: true})
		return err
	}); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = r.Do(func(w *netif.Work) error { s.Close(w); return nil }) })
	if err := r.Do(func(w *netif.Work) error { return s.Bind(w, socket.Addr{Port: 5}) }); err != nil {
		r.Fatal(err)
	}
	return s
}

// sendTo sends data to port 7 of a host.
func (s sock) sendTo(to, data string) error {
	return s.r.Do(func(w *netif.Work) error {
		a := socket.Addr{IP: ip(to), Port: 7}
		if a.IP.IsLinkLocalUnicast() {
			a.Scope = s.r.If.Index
		}
		_, err := s.Send(w, &socket.Msg{Addr: a, Data: []byte(data)})
		return err
	})
}

// send is sendTo of what must succeed.
func (s sock) send(to, data string) {
	s.r.Helper()
	if err := s.sendTo(to, data); err != nil {
		s.r.Fatal(err)
	}
}

// state fails unless the neighbour is in a state, "" for not known at all.
func state(r *Rig, addr, want string) {
	r.Helper()
	i, ok := r.ND.Lookup(r.If, ip(addr))
	if !ok && want == "" {
		return
	}
	if !ok || i.State.String() != want {
		r.Fatalf("%s: %v (known: %v), want %q", addr, i.State, ok, want)
	}
}

func knows(r *Rig, addr string, mac netif.MAC) {
	r.Helper()
	i, ok := r.ND.Lookup(r.If, ip(addr))
	if !ok || !i.Known || i.MAC != mac {
		r.Fatalf("%s: %v, %v, want it at %v", addr, i, ok, mac)
	}
}

func unknown(r *Rig, addr string) {
	r.Helper()
	if i, ok := r.ND.Lookup(r.If, ip(addr)); ok && i.Known {
		r.Fatalf("%s is known: %v", addr, i)
	}
}

func set(r *Rig, addr string, mac netif.MAC, flags uint8, life int64) {
	r.Helper()
	if err := r.Do(func(w *netif.Work) error { return r.ND.Set(w, r.If, ip(addr), mac, flags, life) }); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		_ = r.Do(func(w *netif.Work) error { _ = r.ND.Delete(w, r.If, ip(addr)); return nil })
	})
}

// meet has the stack ask for a neighbour and learn that it is Peer: REACHABLE.
func meet(r *Rig, s sock, addr string) {
	r.Helper()
	s.send(addr, "")
	r.Sent()
	r.Send(na(r, Peer, addr, "SO"))
	r.Sent()
	state(r, addr, "REACHABLE")
}

// gone records what RouterGone is told.
func gone(r *Rig) *[]string {
	var told []string
	r.ND.RouterGone = func(_ *netif.Work, _ *netif.Interface, ip netip.Addr) {
		ip, _ = packet.Unscoped(ip)
		told = append(told, ip.String())
	}
	return &told
}

func flags(r *Rig, set uint32) {
	_ = r.Do(func(w *netif.Work) error {
		r.ND.SetIfInfo(w, r.If, func(i *nd6.IfInfo) { i.Flags = set })
		return nil
	})
}
