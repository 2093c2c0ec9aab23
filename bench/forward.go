package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ionet/ipl"
	"ionet/stack"
	"ionet/stack/ipfilter"
	"ionet/stack/ipnat"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

const (
	forwardSize  = 64 // octets of an IP packet
	forwardBurst = 32
	forwardFlows = 100_000
	zipfExponent = 1.0
)

// forwardMeasure has one goroutine on one processor bring packets to a router
// in bursts, and take them from its other interface.
func forwardMeasure() error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	fmt.Printf("  packets of %d octets in bursts of %d, one processor; many: %d routes, %d flows, Zipf's law with exponent %.1f\n", forwardSize, forwardBurst, millionRoutes, forwardFlows, zipfExponent)
	type contender struct {
		name string
		v    *version
		run  func(d time.Duration) (rate, allocs float64)
	}
	var all []contender
	for _, v := range versions {
		one, err := newRouter(v, 1, 1, true)
		if err != nil {
			return err
		}
		slow, err := newRouter(v, 1, 1, false)
		if err != nil {
			return err
		}
		many, err := newRouter(v, millionRoutes, forwardFlows, true)
		if err != nil {
			return err
		}
		all = append(all, contender{"one flow", v, one.forwards}, contender{"one flow, no fast path", v, slow.forwards}, contender{"many", v, many.forwards})
	}
	// With a filter, one flow of IPv4, held to what it makes without (0 above).
	guarded := len(all)
	for _, g := range []struct {
		name, rules, nat string
		fast             bool
	}{
		{"keep state and NAT", guardState, guardNAT, true},
		{"keep state and NAT, no fast path", guardState, guardNAT, false},
		{"10 rules", guardRules(10), "", true},
		{"1,000 rules", guardRules(1000), "", true},
		{"10 rules, no fast path", guardRules(10), "", false},
		{"1,000 rules, no fast path", guardRules(1000), "", false},
	} {
		r, err := newRouter(v4, 1, 1, g.fast)
		if err != nil {
			return err
		}
		if err := r.guard(g.rules, g.nat); err != nil {
			return err
		}
		all = append(all, contender{g.name, v4, r.forwards})
	}
	all = append(all, contender{"gVisor, one flow", v4, gvisorForward()})
	allocs := make([]float64, len(all))
	var run []func(time.Duration) float64
	for i, c := range all {
		run = append(run, func(d time.Duration) (rate float64) {
			rate, allocs[i] = c.run(d)
			return rate
		})
	}
	r := rates(run...)
	peer := len(all) - 1
	for i, c := range all {
		l := fmt.Sprintf("  %s: %-32s %9.0f/s, %4.0f ns, %.3f allocations a packet", c.v.name, c.name, r.median(i), 1e9/r.median(i), allocs[i])
		switch {
		case i == peer:
		case i == guarded:
			l += fmt.Sprintf(", %.2f of one flow, %.2f of 5,000,000/s  (%s)", r.ratio(i, 0), r.median(i)/5e6, verdict(r.ratio(i, 0) >= 0.6, "at least 0.6 of one flow"))
		case i == guarded+1:
			l += fmt.Sprintf(", %.2f of one flow without a fast path", r.ratio(i, 1))
		case i == guarded+3 || i == guarded+5:
			l += fmt.Sprintf(", %.2f of 10 rules  (%s)", r.ratio(i, i-1), verdict(r.ratio(i, i-1) >= 0.9, "at least 0.9"))
		case i >= guarded:
		case i%3 == 0:
			l += fmt.Sprintf(", ratio to gVisor %.1f  (%s; %s; %s)", r.ratio(i, peer), verdict(r.ratio(i, peer) >= 10, "at least 10"),
				verdict(r.median(i) >= 5e6, "5,000,000/s"), verdict(allocs[i] < 0.001, "no allocation"))
		case i%3 == 2:
			l += fmt.Sprintf(", %.2f of one flow  (%s)", r.ratio(i, i-2), verdict(r.ratio(i, i-2) >= 0.8, "at least 0.8"))
		}
		fmt.Println(l)
	}
	return nil
}

// router is a stack with an inside and an outside, and the packets that it gets.
type router struct {
	s     *stack.Stack
	w     *netif.Work
	ifp   [2]*netif.Interface
	line  []*packet.Buf // what left
	now   int64
	frame [forwardSize + packet.EtherLen]byte // what all have alike
	flows []flowTail
	turn  []uint32 // whose turn it is
	at    int
	burst []*packet.Buf
	v     *version
}

// flowTail is what a flow's frames have of their own: so little that to make one
// costs no look at memory that is far away.
type flowTail struct {
	dst          uint64 // the address, or its first half
	src          uint16 // its last octets
	port         uint16
	ipSum, l4Sum uint16
}

// Transmit is netif.Driver.
func (r *router) Transmit(_ *netif.Interface, burst []*packet.Buf) { r.line = append(r.line, burst...) }

// routerEnds are the router's own addresses and a neighbour's outside.
func routerEnds(v *version) (ends [2]netip.Prefix, gw netip.Addr) {
	if v == v4 {
		return [2]netip.Prefix{netip.MustParsePrefix("10.0.0.1/16"), netip.MustParsePrefix("10.1.0.1/16")}, netip.MustParseAddr("10.1.0.2")
	}
	return [2]netip.Prefix{netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("2001:db8:0:1::1/64")}, netip.MustParseAddr("2001:db8:0:1::2")
}

func newRouter(v *version, routes, flows int, fast bool) (*router, error) {
	r := &router{now: 1, burst: make([]*packet.Buf, forwardBurst)}
	seed := uint32(1)
	s, err := stack.New(stack.Config{
		Now:    func() int64 { return r.now },
		Rand32: func() uint32 { seed = seed*1664525 + 1013904223; return seed ^ seed>>15 },
	})
	if err != nil {
		return nil, err
	}
	r.s, r.w = s, s.Env.NewWork()
	name, n := "net.inet.ip.", "0"
	if v == v6 {
		name = "net.inet6.ip6."
	}
	if fast {
		n = "262144"
	}
	for node, value := range map[string]string{name + "forwarding": "1", name + "maxflows": n, "net.inet6.ip6.dad_count": "0"} {
		if _, err := s.Env.MIB.Set(node, value); err != nil {
			return nil, err
		}
	}
	ends, gw := routerEnds(v)
	for i := range r.ifp {
		r.ifp[i] = netif.New(netif.Config{Name: fmt.Sprint("en", i), MTU: 1500, MAC: netif.MAC{2, 0, 0, 0, byte(i), 1}, Driver: r,
			Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning})
		if err := s.AddInterface(r.ifp[i]); err != nil {
			return nil, err
		}
		if err := s.AddAddr(r.ifp[i], stack.AddrSpec{Addr: ends[i].Addr(), Bits: ends[i].Bits()}); err != nil {
			return nil, err
		}
	}
	if err := s.AddNeighbour(r.ifp[1], gw, netif.MAC{2, 0, 0, 0, 1, 2}, 0, 0); err != nil {
		return nil, err
	}
	dsts, err := r.routes(v, routes, gw)
	if err != nil {
		return nil, err
	}
	r.fill(v, ends[0].Addr(), dsts, flows)
	packet.FreeBurst(r.line)
	r.line = r.line[:0]
	return r, nil
}

// routes adds n of them by way of gw, and answers a destination in each.
func (r *router) routes(v *version, n int, gw netip.Addr) (dsts []netip.Addr, err error) {
	ps := prefixes(v)[:n]
	for at := 0; at < n; at += 1024 {
		ops := make([]route.Op, 0, 1024)
		for _, p := range ps[at:min(at+1024, n)] {
			ops = append(ops, route.Op{Kind: route.Add, Spec: route.Spec{Dst: p, Gateway: gw, Flags: route.FlagUp | route.FlagGateway | route.FlagStatic}})
			dsts = append(dsts, p.Addr().Next())
		}
		for _, err := range r.s.Routes.Update(ops) {
			if err != nil {
				return nil, err
			}
		}
	}
	return dsts, nil
}

// fill makes the flows, of UDP, from stations inside, and the order in which they come.
func (r *router) fill(v *version, me netip.Addr, dsts []netip.Addr, flows int) {
	r.v, r.flows = v, make([]flowTail, flows)
	typ := uint16(packet.EtherIPv4)
	if v == v6 {
		typ = packet.EtherIPv6
	}
	packet.PutEther(r.frame[:], r.ifp[0].MAC(), netif.MAC{2, 0, 0, 0, 0, 2}, typ)
	ip := r.frame[packet.EtherLen:]
	for i := range r.flows {
		f := &r.flows[i]
		f.src, f.port = uint16(2+i%200), uint16(1024+i%60000)
		src, dst := me.As16(), dsts[int(uint64(i)*7919%uint64(len(dsts)))]
		binary.BigEndian.PutUint16(src[14:], f.src)
		from := netip.AddrFrom16(src).Unmap()
		var l4 []byte
		if v == v4 {
			b := dst.As4()
			f.dst = uint64(binary.BigEndian.Uint32(b[:]))
			h := packet.PutIPv4(ip, 0, forwardSize, 0, 0, 64, packet.ProtoUDP, from, dst, nil)
			h.SetChecksum()
			f.ipSum, l4 = h.Checksum(), ip[packet.IPv4Len:]
		} else {
			b := dst.As16()
			b = [16]byte(append(b[:8:8], 0, 0, 0, 0, 0, 0, 0, 1))
			f.dst, dst = binary.BigEndian.Uint64(b[:]), netip.AddrFrom16(b)
			packet.PutIPv6(ip, 0, 0, forwardSize-packet.IPv6Len, packet.ProtoUDP, 64, from, dst)
			l4 = ip[packet.IPv6Len:]
		}
		packet.PutUDP(l4, f.port, 53, len(l4), 0)
		f.l4Sum = max(^packet.Fold(packet.Sum(packet.PseudoSum(from, dst, packet.ProtoUDP, len(l4)), l4)), 1)
	}
	r.turn = zipf(flows, 1<<20)
}

// put writes the frame of a flow.
func (r *router) put(b []byte, f *flowTail) {
	copy(b, r.frame[:])
	if r.v == v4 {
		ip := b[packet.EtherLen : packet.EtherLen+forwardSize]
		binary.BigEndian.PutUint16(ip[10:], f.ipSum)
		binary.BigEndian.PutUint16(ip[14:], f.src)
		binary.BigEndian.PutUint32(ip[16:], uint32(f.dst))
		binary.BigEndian.PutUint16(ip[packet.IPv4Len:], f.port)
		binary.BigEndian.PutUint16(ip[packet.IPv4Len+6:], f.l4Sum)
		return
	}
	ip := b[packet.EtherLen : packet.EtherLen+forwardSize]
	binary.BigEndian.PutUint16(ip[22:], f.src)
	binary.BigEndian.PutUint64(ip[24:], f.dst)
	binary.BigEndian.PutUint16(ip[packet.IPv6Len:], f.port)
	binary.BigEndian.PutUint16(ip[packet.IPv6Len+6:], f.l4Sum)
}

// zipf are n draws out of k, the i-th as often as 1/i^zipfExponent says.
func zipf(k, n int) []uint32 {
	sums, sum := make([]float64, k), 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -zipfExponent)
		sums[i] = sum
	}
	x := chance(3)
	out := make([]uint32, n)
	for i := range out {
		u := float64(x.next()&(1<<40-1)) / (1 << 40) * sum
		lo, hi := 0, k-1
		for lo < hi {
			if m := (lo + hi) / 2; sums[m] < u {
				lo = m + 1
			} else {
				hi = m
			}
		}
		out[i] = uint32(lo)
	}
	return out
}

func (r *router) round() {
	if r.s.Env.Pool.GetBurst(r.burst, forwardSize+packet.EtherLen) < len(r.burst) {
		panic("no packet")
	}
	for _, b := range r.burst {
		r.put(b.Append(forwardSize+packet.EtherLen), &r.flows[r.turn[r.at&(len(r.turn)-1)]])
		r.at++
	}
	r.now += 1000
	r.s.Input(r.w, r.now, r.ifp[0], r.burst)
	if len(r.line) != forwardBurst {
		panic(fmt.Sprintf("%d packets of %d were forwarded", len(r.line), forwardBurst))
	}
	packet.FreeBurst(r.line)
	r.line = r.line[:0]
}

func (r *router) forwards(d time.Duration) (rate, allocs float64) {
	for range len(r.turn) / forwardBurst { // flows are met
		r.round()
	}
	return timed(d, forwardBurst, r.round)
}

// gvisorForward is a netstack between two channel links, one flow of IPv4.
func gvisorForward() func(d time.Duration) (rate, allocs float64) {
	ends, gw := routerEnds(v4)
	s := gstack.New(gstack.Options{NetworkProtocols: []gstack.NetworkProtocolFactory{ipv4.NewProtocol}})
	var links [2]*channel.Endpoint
	for i := range links {
		links[i] = channel.New(64, 1500, "")
		id := tcpip.NICID(i + 1)
		gmust(s.CreateNIC(id, links[i]))
		gmust(s.AddProtocolAddress(id, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(ends[i].Addr().AsSlice()), PrefixLen: ends[i].Bits()}}, gstack.AddressProperties{}))
	}
	gmust(s.SetForwardingDefaultAndAllNICs(ipv4.ProtocolNumber, true))
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 2}})
	pkt := make([]byte, forwardSize)
	packet.PutIPv4(pkt, 0, forwardSize, 0, 0, 64, packet.ProtoUDP, ends[0].Addr().Next(), gw, nil).SetChecksum()
	packet.PutUDP(pkt[packet.IPv4Len:], 1024, 53, forwardSize-packet.IPv4Len, 0)
	round := func() {
		for range forwardBurst {
			p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(pkt)})
			links[0].InjectInbound(ipv4.ProtocolNumber, p)
			p.DecRef()
		}
		for range forwardBurst {
			p := links[1].Read()
			if p == nil {
				panic("a packet was not forwarded")
			}
			p.DecRef()
		}
	}
	return func(d time.Duration) (rate, allocs float64) { return timed(d, forwardBurst, round) }
}

const (
	guardState = "block in all\nblock out all\npass in quick on en0 proto udp from 10.0.0.0/16 to any port = 53 keep state\n"
	guardNAT   = "map en1 10.0.0.0/16 -> 10.1.0.1/32 portmap udp 10000:60000\n"
)

// guardRules are n rules of which only the last concerns the packets.
func guardRules(n int) string {
	var b strings.Builder
	for i := range n - 1 {
		fmt.Fprintf(&b, "block in quick proto udp from 10.%d.%d.0/24 to any port = %d\n", 2+i/250, i%250, 1000+i)
	}
	b.WriteString("pass in quick on en0 proto udp from 10.0.0.0/16 to any port = 53\n")
	return b.String()
}

// guard gives the router a filter and translation.
func (r *router) guard(rules, nat string) error {
	f, err := r.s.LoadFilter()
	if err != nil {
		return err
	}
	rs, err := ipl.Parse("rules", []byte(rules), ipl.Options{})
	if err != nil {
		return err
	}
	ops := make([]ipfilter.Op, len(rs))
	for i := range rs {
		ops[i] = ipfilter.Op{Kind: ipfilter.Add, Rule: rs[i]}
	}
	if err := f.Edit(ops); err != nil {
		return err
	}
	ns, err := ipl.ParseNAT("nat", []byte(nat), ipl.Options{})
	if err != nil {
		return err
	}
	maps := make([]ipnat.Op, len(ns))
	for i := range ns {
		maps[i] = ipnat.Op{Kind: ipnat.Add, Rule: ns[i]}
	}
	return r.s.NAT().Edit(maps)
}
