package sim_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Two gateways over a network that loses, reorders and repeats packets, and an adversary in it who
// plays old ones again, damages them and forges others, while daemons change the keys, in time
// or late. At every step: nothing is on the wire in clear; no packet is taken twice, and what the gateways count
// is what was foretold for each packet; when the network is good again, all that was written arrives, in time and whole.

// shape is what the gateways do to packets, the innermost protection first.
type shape struct {
	name   string
	layers []ipsec.Request
	own    bool // what they talk about themselves; else it is the hosts' behind them
	gif    bool // the hosts', through a gif tunnel of which the gateways protect the packets
}

func layer(proto, mode uint8) ipsec.Request { return ipsec.Request{Proto: proto, Mode: mode} }

var shapes = []shape{
	{name: "ESP tunnel", layers: []ipsec.Request{layer(50, ipsec.ModeTunnel)}},
	{name: "ESP tunnel in AH", layers: []ipsec.Request{layer(50, ipsec.ModeTunnel), layer(51, ipsec.ModeTransport)}},
	{name: "ESP", layers: []ipsec.Request{layer(50, ipsec.ModeTransport)}, own: true},
	{name: "ESP in AH", layers: []ipsec.Request{layer(50, ipsec.ModeTransport), layer(51, ipsec.ModeTransport)}, own: true},
	{name: "IPComp in ESP", layers: []ipsec.Request{layer(108, ipsec.ModeTransport), layer(50, ipsec.ModeTransport)}, own: true},
	{name: "IPComp tunnel in ESP", layers: []ipsec.Request{layer(108, ipsec.ModeTunnel), layer(50, ipsec.ModeTransport)}},
	{name: "ESP tunnel in ESP", layers: []ipsec.Request{layer(50, ipsec.ModeTunnel), layer(50, ipsec.ModeTransport)}},
	{name: "gif in ESP", layers: []ipsec.Request{layer(50, ipsec.ModeTransport)}, gif: true},
}

// vpn is one run.
type vpn struct {
	n      *sim.Net
	r      *rand.Rand
	bad    error
	shape  *shape
	inner6 bool // the programs' version of IP
	outer6 bool // the gateways'
	natt   bool
	exact  bool // no packet of the gateways is in fragments: what they count is foretold
	late   bool // the policies come when the programs talk already
	armed  bool // the policies are there
	whole  bool // they are about all that the hosts say
	good   bool // the network is, and the daemons' messages
	over   bool

	lans  [2]*sim.Segment
	wan   *sim.Segment
	gates [2]*sim.Node
	ends  [2]*sim.Node // where the programs are
	inner [2]netip.Addr
	outer [2]netip.Addr
	macs  [2]netif.MAC

	keys   daemons
	enemy  adversary
	oracle [2]oracle // what is foretold of each gateway
	tcp    [2]*talker
	udp    [2]*counted
	room   []byte         // what programs read goes there
	copies map[string]int // packets of the programs that the gateways have passed on less often than they got them
}

func (v *vpn) fail(format string, a ...any) {
	if v.bad == nil {
		v.bad = fmt.Errorf("%v: %w", v, fmt.Errorf(format, a...))
	}
}

func (v *vpn) chance(of int) bool { return v.r.IntN(of) == 0 }

// some is a random time from least to most.
func (v *vpn) some(least, most time.Duration) time.Duration {
	return least + time.Duration(v.r.Int64N(int64(most-least)+1))
}

func (v *vpn) gate(nd *sim.Node) int {
	if nd == v.gates[0] {
		return 0
	}
	return 1
}

// draw decides what the run is about.
func (v *vpn) draw() {
	v.shape = &shapes[0]
	if v.chance(2) {
		v.shape = &shapes[v.r.IntN(len(shapes))]
	}
	v.inner6, v.outer6 = v.chance(2), v.chance(2)
	if v.shape.own {
		v.inner6 = v.outer6
	}
	v.natt = v.shape.layers[len(v.shape.layers)-1].Proto == packet.ProtoESP && v.chance(4)
	v.exact = v.shape.name != "ESP tunnel in ESP" && !v.chance(4)
}

// stack is one of the run's.
func (v *vpn) stack(name string, secure bool) *sim.Node {
	first := v.chance(2)
	nd := v.n.Stack(name, func(c *stack.Config) { c.IPsec, c.FilterFirst = secure, first })
	nd.IPv6 = v.inner6
	nd.Sysctl("net.inet6.ip6.dad_count", "0")
	return nd
}

func address(six bool, net, station int) netip.Addr {
	if six {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", net, station))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.77.%d.%d", net, station))
}

// network is the prefix of a station's.
func network(ip netip.Addr) netip.Prefix {
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits)
}

// build makes hosts, gateways and what is between them; all of it is good as yet.
func (v *vpn) build() {
	v.wan = v.n.Segment(sim.Faults{Delay: v.some(0, 8*time.Millisecond)})
	for i, name := range []string{"ga", "gb"} {
		g := v.stack(name, true)
		v.gates[i], v.ends[i] = g, g
		v.outer[i] = address(v.outer6, 0, i+1)
		v.inner[i] = v.outer[i]
		ifp := v.n.Attach(g, v.wan, fmt.Sprint(network(v.outer[i])))
		v.macs[i] = ifp.MAC()
		v.settings(g)
		if v.shape.own {
			continue
		}
		g.Sysctl("net.inet.ip.forwarding", "1")
		g.Sysctl("net.inet6.ip6.forwarding", "1")
		v.lans[i] = v.n.Segment(sim.Faults{Delay: 10 * time.Microsecond})
		router := address(v.inner6, i+1, 1)
		v.n.Attach(g, v.lans[i], fmt.Sprint(network(router)))
		h := v.stack([]string{"a", "b"}[i], false)
		v.ends[i], v.inner[i] = h, address(v.inner6, i+1, 2)
		v.n.Attach(h, v.lans[i], fmt.Sprint(network(v.inner[i])))
		h.Route("default", router.String())
		if v.inner6 != v.outer6 { // there is a way in clear, too
			if err := given(g, ifp, fmt.Sprint(network(address(v.inner6, 9, i+1)))); err != nil {
				v.fail("%v", err)
			}
		}
		if v.shape.gif {
			v.addGif(i)
			continue
		}
		via := address(v.inner6, 0, 2-i)
		if v.inner6 != v.outer6 {
			via = address(v.inner6, 9, 2-i)
		}
		g.Route(network(address(v.inner6, 2-i, 0)).String(), via.String())
	}
}

// addGif has a tunnel between the gateways carry what the hosts say.
func (v *vpn) addGif(i int) {
	g := v.gates[i]
	ifp, err := g.AddTunnel("gif0")
	if err == nil {
		err = g.SetTunnel(ifp, v.outer[i], address(v.outer6, 0, 2-i))
	}
	if err == nil {
		err = given(g, ifp, fmt.Sprint(network(address(v.inner6, 8, i+1))))
	}
	if err != nil {
		v.fail("gif: %v", err)
		return
	}
	g.Route(network(address(v.inner6, 2-i, 0)).String(), address(v.inner6, 8, 2-i).String())
}

// settings are a gateway's.
func (v *vpn) settings(g *sim.Node) {
	if v.chance(2) {
		g.Sysctl("net.key.preferred_oldsa", "0")
	}
	g.Sysctl("net.key.blockacq_count", fmt.Sprint(v.r.IntN(12)))
	if v.chance(3) {
		g.Sysctl("net.key.acquire_queue", fmt.Sprint(v.r.IntN(32)))
	}
	if v.chance(3) {
		g.Sysctl("net.inet.ipsec.ecn", fmt.Sprint(v.r.IntN(3)-1))
		g.Sysctl("net.inet6.ipsec6.ecn", fmt.Sprint(v.r.IntN(3)-1))
	}
	g.Sysctl("net.inet.ipsec.dfbit", fmt.Sprint(v.r.IntN(3)))
	if v.chance(4) { // what comes out of tunnels is shown by it
		enc, err := g.AddEnc("enc0")
		if err == nil {
			err = g.SetFlags(enc, netif.FlagUp, 0)
		}
		if err != nil {
			v.fail("enc0: %v", err)
		}
	}
}

// ills are the network's in the bad time.
func (v *vpn) ills() {
	f := ills(v.r)
	f.Loss /= 2
	f.Delay = max(v.wan.Faults.Delay, f.Delay)
	if v.exact || v.late { // the adversary does that, and tells the oracle; and what was damaged in clear may be answered later
		f.Corrupt = 0
	}
	if v.chance(6) {
		f.Rate, f.Queue = 2_000_000<<v.r.IntN(4), 20000<<v.r.IntN(3)
		if v.chance(2) {
			f.Mark = f.Queue / 4
		}
	}
	v.wan.Faults = f
}

// selector is what policies in gateway i's name say leaves it, of a protocol or of all.
func (v *vpn) selector(i int, proto uint8) ipsec.Selector {
	src, dst := v.inner[i], v.inner[1-i]
	s := ipsec.Selector{Src: network(src), Dst: network(dst), Proto: proto}
	if v.shape.own || v.shape.gif {
		src, dst = v.outer[i], v.outer[1-i]
		s.Src, s.Dst = netip.PrefixFrom(src, src.BitLen()), netip.PrefixFrom(dst, dst.BitLen())
	}
	return s
}

// secure adds the policies: one for all, or one for each of the programs' protocols.
func (v *vpn) secure() {
	protos := []uint8{ipsec.AnyProto}
	switch {
	case v.shape.gif:
		protos = []uint8{packet.ProtoIPv4, packet.ProtoIPv6}
	case v.shape.own, v.chance(4): // what resolves a gateway's own neighbours stays as it is
		protos = []uint8{packet.ProtoTCP, packet.ProtoUDP}
	}
	unique, forward := v.chance(3), v.chance(2)
	for k, proto := range protos {
		layers := v.shape.layers
		if unique || k == 0 {
			for _, l := range layers {
				v.keys.child(v, l, unique)
			}
		}
		mine := v.keys.children[len(v.keys.children)-len(layers):]
		for i, g := range v.gates {
			for _, dir := range []uint8{ipsec.Out, ipsec.In, ipsec.Forward} {
				if dir == ipsec.Forward && !forward {
					continue
				}
				from := i
				if dir != ipsec.Out {
					from = 1 - i
				}
				p := &ipsec.Policy{Dir: dir, Kind: ipsec.Protect, Selector: v.selector(from, proto)}
				for _, c := range mine {
					p.Requests = append(p.Requests, c.request(from))
				}
				if err := g.IPsec.AddPolicy(p); err != nil {
					v.fail("policy: %v", err)
				}
			}
		}
	}
	v.armed, v.whole = true, protos[0] == ipsec.AnyProto
}

// talker is a program at one end of the stream.
type talker struct {
	v         *vpn
	so        *sim.Socket
	peer      *talker
	out       []byte
	may       int // how much of it may be written by now
	sent, got int
	shut, eof bool
}

// marker is in all that programs say, and must not be on the wire; forged is in what the adversary says in clear.
var marker, forged = []byte("ionet in clear, "), []byte("ionet in forgery")

// said is random octets, and the marker every 40 of them.
var said = func() []byte {
	b := payload(1, 1<<18)
	for i := 0; i+len(marker) <= len(b); i += 40 {
		copy(b[i:], marker)
	}
	return b
}()

// cleartext is what the stream of an end is, or a datagram.
func cleartext(id uint32, size int) []byte {
	return bytes.Clone(said[40*(id*0x9e3779b1>>20):][:size]) // up to 160 KiB on
}

func (k *talker) use(so *sim.Socket) {
	k.so = so
	so.SetUpcall(func(*netif.Work) { k.v.n.At(0, k.turn) })
	k.turn()
}

func (k *talker) turn() {
	if k.so == nil || k.v.bad != nil {
		return
	}
	for k.sent < k.may {
		m, err := k.so.Write(k.out[k.sent:k.may])
		if k.sent += m; errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.ENOTCONN) {
			break
		}
		if err != nil {
			k.v.fail("stream: write after %d of %d octets: %v", k.sent, len(k.out), err)
			return
		}
	}
	if k.sent == len(k.out) && !k.shut {
		err := k.so.Shutdown()
		if k.shut = err == nil; err != nil && !errors.Is(err, syscall.ENOTCONN) {
			k.v.fail("stream: shutdown: %v", err)
		}
	}
	buf := k.v.room
	for !k.eof {
		m, err := k.so.Read(buf)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.ENOTCONN) {
			return
		}
		want := k.peer.out[k.got:]
		switch {
		case err != nil:
			k.v.fail("stream: read after %d of %d octets: %v", k.got, len(k.peer.out), err)
		case m == 0 && len(want) > 0:
			k.v.fail("stream: it ends after %d of %d octets", k.got, len(k.peer.out))
		case m > len(want) || !bytes.Equal(buf[:m], want[:m]):
			k.v.fail("stream: the octets after %d are not those that were sent", k.got)
		}
		k.got += m
		if k.eof = m == 0; k.v.bad != nil {
			return
		}
	}
}

// write lets the programs write in turns, and all of it when the network is good.
func (k *talker) write() {
	if k.may == len(k.out) {
		return
	}
	if k.may = min(len(k.out), k.may+100+k.v.r.IntN(6000)); k.v.good {
		k.may = len(k.out)
	}
	k.turn()
	k.v.n.At(k.v.some(0, 150*time.Millisecond), k.write)
}

// counted is a program that sends datagrams with numbers, and takes those of its peer.
type counted struct {
	v    *vpn
	node *sim.Node
	so   *sim.Socket
	to   string
	id   uint32 // of its datagrams the first
	sent uint32
	size [1 << 16]uint16
	came map[uint32]bool
	bare uint32 // so many were sent before there were policies
	peer *counted
}

func (c *counted) send() {
	if c.v.chance(20) { // somebody is told by ICMP
		_ = c.so.SendTo(c.v.nobody(c.to), cleartext(c.id, 100))
	}
	size := 4 + c.v.r.IntN(1000)
	if !c.v.exact && c.v.chance(4) {
		size = 1200 + c.v.r.IntN(5000)
	}
	c.size[c.sent] = uint16(size)
	_ = c.so.SendTo(c.to, cleartextNumbered(c.id+c.sent, size)) // EAGAIN where keys are missing
	if c.sent++; !c.v.armed {
		c.bare = c.sent
	}
}

// cleartextNumbered has its number behind the marker.
func cleartextNumbered(id uint32, size int) []byte {
	b := cleartext(id, size)
	binary.BigEndian.PutUint32(b[size-4:], id)
	return b
}

// nobody is a port at to's address that nobody has, or one of an address of its network.
func (v *vpn) nobody(to string) string {
	ap := netip.MustParseAddrPort(to)
	ip := ap.Addr()
	if !v.shape.own && v.chance(2) {
		for range 5 {
			ip = ip.Next()
		}
	}
	return netip.AddrPortFrom(ip, 99).String()
}

func (c *counted) chatter() {
	if c.v.over {
		return
	}
	c.send()
	c.v.n.At(c.v.some(time.Millisecond, 120*time.Millisecond), c.chatter)
}

// take looks at what has come.
func (c *counted) take() {
	for {
		m := socket.Msg{Data: c.v.room}
		if c.node.Call(func(w *netif.Work) error { return c.so.Socket.Recv(w, &m) }) != nil {
			return
		}
		if bytes.Contains(m.Data, forged) {
			c.v.fail("a forged datagram was delivered: %q", m.Data)
			return
		}
		id := uint32(0)
		if len(m.Data) >= 4 {
			id = binary.BigEndian.Uint32(m.Data[len(m.Data)-4:])
		}
		k := id - c.peer.id
		switch {
		case len(m.Data) < 4, k >= c.peer.sent, !bytes.Equal(m.Data, cleartextNumbered(id, int(c.peer.size[k]))):
			c.v.fail("a datagram of %d octets was delivered that nobody sent", len(m.Data))
			return
		case c.came[id] && k >= c.peer.bare:
			c.v.fail("datagram %d was delivered twice", k)
			return
		}
		c.came[id] = true
	}
}

// programs begin to talk.
func (v *vpn) programs() {
	for i := range v.tcp {
		size := v.r.IntN(100_000) >> v.r.IntN(4)
		v.tcp[i] = &talker{v: v, out: cleartext(uint32(i+1), size)}
		v.udp[i] = &counted{v: v, id: uint32(i+1) << 24, node: v.ends[i], so: v.ends[i].UDP(":7"), to: netip.AddrPortFrom(v.inner[1-i], 7).String(), came: map[uint32]bool{}}
		v.udp[i].so.SetUpcall(func(*netif.Work) { v.n.At(0, v.udp[i].take) })
		v.n.At(v.some(0, time.Second), v.udp[i].chatter)
	}
	v.tcp[0].peer, v.tcp[1].peer = v.tcp[1], v.tcp[0]
	v.udp[0].peer, v.udp[1].peer = v.udp[1], v.udp[0]
	l := v.ends[1].Listen(":80", 5)
	l.SetUpcall(func(*netif.Work) {
		v.n.At(0, func() {
			if so := l.Accept(); so != nil {
				v.tcp[1].use(so)
				v.tcp[1].write()
			}
		})
	})
	v.n.At(v.some(0, time.Second), func() {
		so := v.ends[0].TCP()
		if err := so.Connect(netip.AddrPortFrom(v.inner[1], 80).String()); !errors.Is(err, syscall.EINPROGRESS) {
			v.fail("connect: %v", err)
			return
		}
		v.tcp[0].use(so)
		v.tcp[0].write()
	})
}

// inTime is how long the stream may take when all is good again: TCP may try but once in a minute then, and where a daemon waits until keys have
// ended, or both do not agree when, some packets are lost still.
const inTime = 10 * time.Minute

func secured(n *sim.Net) error {
	v := &vpn{n: n, r: n.Rand(), copies: map[string]int{}, room: make([]byte, 10000)}
	v.draw()
	v.build()
	v.watch()
	v.keys.begin(v)
	n.Run(time.Second) // what a gif says when it comes up waits for a neighbour: no policy is asked about it later
	v.programs()
	if v.late = v.chance(8); v.late {
		n.At(v.some(1100*time.Millisecond, 4*time.Second), v.secure)
	} else {
		v.secure()
	}
	n.At(time.Second, v.ills)
	v.enemy.act()
	n.At(v.some(3*time.Second, 12*time.Second), func() {
		v.good = true
		v.wan.Faults = sim.Faults{Delay: v.wan.Faults.Delay}
	})
	for !v.good && v.bad == nil {
		v.step()
	}
	since := n.Now()
	for v.bad == nil && !(v.tcp[0].eof && v.tcp[1].eof) {
		if v.step(); n.Now()-since > int64(inTime) {
			v.fail("the stream stalls: %v after all is good %d of %d and %d of %d octets have come\n%s", inTime,
				v.tcp[1].got, len(v.tcp[0].out), v.tcp[0].got, len(v.tcp[1].out), v.keys.state())
		}
	}
	var had [2]int
	for i, c := range v.udp {
		had[i] = len(c.came)
	}
	for end := n.Now() + int64(5*time.Second); v.bad == nil && n.Now() < end; {
		v.step()
	}
	for i, c := range v.udp {
		if len(c.came) == had[i] {
			v.fail("datagrams stall: none of those of 5 seconds has come to end %d\n%s", i, v.keys.state())
		}
	}
	if v.bad == nil {
		v.over = true
		n.Run(5 * time.Second)
		v.keys.end()
		v.audit()
	}
	if v.bad != nil {
		return v.bad
	}
	v.tally()
	return nil
}

// step lets a little time pass, and looks at what has been done.
func (v *vpn) step() {
	v.n.Run(100 * time.Millisecond)
	v.audit()
}

func (v *vpn) String() string {
	family := map[bool]string{false: "IPv4", true: "IPv6"}
	return fmt.Sprintf("%s, %s in %s, NAT-T %v, exact %v, at %v", v.shape.name, family[v.inner6], family[v.outer6], v.natt, v.exact, time.Duration(v.n.Now()))
}

// TestSecured plays as many seeds as are asked for on all processors; in make test few.
func TestSecured(t *testing.T) {
	playAll(t, secured, 200, reachedSecured)
}
