package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

const (
	scaleRoutes     = 250_000
	scaleNeighbours = 100_000
	scaleHot        = 256 // destinations of the hot set
	scaleBurst      = 32  // look-ups, or packets, to an epoch
)

// scaleMeasure fills the tables of IPv6 step by step, and at each step asks
// them about a few destinations again and again (hot), about any at random, and
// forwards packets to any at random: no curve may grow as a walk would.
func scaleMeasure() error {
	fmt.Printf("  hot: %d destinations; random: any; forwarded: packets of 64 octets to any, one by one in bursts of %d\n", scaleHot, scaleBurst)
	if err := scaleTable("routes", []int{10, 1000, 10_000, 100_000, scaleRoutes}, scaleByRoutes); err != nil {
		return err
	}
	return scaleTable("neighbours", []int{10, 1000, 10_000, scaleNeighbours}, scaleByNeighbours)
}

// scaled is a stack whose tables hold some destinations.
type scaled struct {
	*pair
	dsts []netip.Addr
	look func(dst netip.Addr) bool // asks the table, inside an epoch
}

func scaleTable(what string, sizes []int, fill func(n int) (*scaled, error)) error {
	for _, n := range sizes {
		s, err := fill(n)
		if err != nil {
			return err
		}
		hot := make([]netip.Addr, min(n, scaleHot))
		for i := range hot {
			hot[i] = s.dsts[i*(n/len(hot))]
		}
		any := make([]netip.Addr, 1<<16)
		for x, i := chance(2), 0; i < len(any); i++ {
			any[i] = s.dsts[x.next()%uint64(n)]
		}
		r := rates(
			func(d time.Duration) float64 { return s.looks(hot, d) },
			func(d time.Duration) float64 { return s.looks(any, d) },
			func(d time.Duration) float64 { return s.forwards(any, d) },
		)
		l := fmt.Sprintf("  %7d %s: look-up hot %4.0f ns, random %4.0f ns; a packet forwarded %4.0f ns", n, what, r.median(0), r.median(1), r.median(2))
		if n == sizes[len(sizes)-1] {
			l += fmt.Sprintf("  (hot %s)", verdict(r.median(0) <= 40, "at most 40 ns"))
		}
		fmt.Println(l)
	}
	return nil
}

// looks is the nanoseconds of a look-up.
func (s *scaled) looks(dsts []netip.Addr, d time.Duration) float64 {
	w, n := s.w[0], 0
	start := time.Now()
	for time.Since(start) < d {
		for range 64 {
			w.Start(s.now)
			for range scaleBurst {
				if !s.look(dsts[n%len(dsts)]) {
					panic("a destination is lost")
				}
				n++
			}
			w.Finish()
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(n)
}

// forwards is the nanoseconds of a packet from one station of the link through the
// stack to another one.
func (s *scaled) forwards(dsts []netip.Addr, d time.Duration) float64 {
	n := 0
	burst := make([]*packet.Buf, scaleBurst)
	start := time.Now()
	for time.Since(start) < d {
		for range 64 {
			if s.s[0].Env.Pool.GetBurst(burst, 64+14) < len(burst) {
				panic("no packet")
			}
			for _, b := range burst {
				f := b.Append(64 + 14)
				packet.PutEther(f, s.ifp[0].MAC(), s.ifp[1].MAC(), packet.EtherIPv6)
				packet.PutIPv6(f[14:], 0, 0, 64-packet.IPv6Len, packet.ProtoUDP, 64, v6.server, dsts[n%len(dsts)])
				clear(f[14+packet.IPv6Len:])
				n++
			}
			s.s[0].Input(s.w[0], s.now, s.ifp[0], burst)
			if sent := len(s.line[1]); sent != scaleBurst {
				panic(fmt.Sprintf("%d packets of %d were forwarded", sent, scaleBurst))
			}
			packet.FreeBurst(s.line[1])
			s.line[1] = s.line[1][:0]
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(n)
}

// scaleRouter is a stack that forwards back to the link that a packet came from, and knows
// stations there.
func scaleRouter(stations []netip.Addr) (*scaled, error) {
	s := &scaled{pair: newPair()}
	for name, value := range map[string]string{
		"net.inet6.ip6.forwarding": "1", "net.inet6.ip6.redirect": "0",
		"net.inet6.icmp6.nd6_maxentries": fmt.Sprint(2 * scaleNeighbours),
	} {
		if _, err := s.s[0].Env.MIB.Set(name, value); err != nil {
			return nil, err
		}
	}
	s.deliver()
	w := s.w[0]
	w.Start(s.now)
	defer w.Finish()
	for i, a := range stations {
		mac := netif.MAC{2, 1}
		binary.BigEndian.PutUint32(mac[2:], uint32(i))
		if err := s.s[0].ND.Set(w, s.ifp[0], a, mac, 0, 0); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func scaleByRoutes(n int) (*scaled, error) {
	gateways := v6.clients()
	s, err := scaleRouter(gateways)
	if err != nil {
		return nil, err
	}
	ops := make([]route.Op, n)
	for i, p := range prefixes(v6)[:n] {
		ops[i] = route.Op{Kind: route.Add, Spec: route.Spec{Dst: p, Gateway: gateways[i%len(gateways)],
			Flags: route.FlagUp | route.FlagGateway | route.FlagStatic}}
		s.dsts = append(s.dsts, p.Addr().Next())
	}
	for c := range slices.Chunk(ops, 256) {
		for i, err := range s.s[0].Routes.Update(c) {
			if err != nil {
				return nil, fmt.Errorf("add %v: %w", c[i].Spec.Dst, err)
			}
		}
	}
	s.look = func(dst netip.Addr) bool { hop, _ := s.s[0].Routes.Lookup(dst); return hop != nil }
	return s, nil
}

func scaleByNeighbours(n int) (*scaled, error) {
	stations := make([]netip.Addr, n)
	for i, a := 0, v6.many; i < n; i, a = i+1, a.Next() {
		stations[i] = a
	}
	s, err := scaleRouter(stations)
	if err != nil {
		return nil, err
	}
	s.dsts = stations
	probe := s.s[0].Env.Pool.Get(64)
	s.look = func(dst netip.Addr) bool {
		_, known, _ := s.s[0].ND.Resolve(s.w[0], s.ifp[0], dst, probe)
		return known
	}
	return s, nil
}
