package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ionet/stack"
	"ionet/stack/route"
)

const millionRoutes = 1_000_000

// prefixes are a million different ones, distributed as the Internet's are.
func prefixes(v *version) []netip.Prefix {
	next := prefixes4()
	if v == v6 {
		next = prefixes6()
	}
	out := make([]netip.Prefix, 0, millionRoutes)
	seen := make(map[netip.Prefix]bool, millionRoutes)
	for len(out) < millionRoutes {
		if p := next().Masked(); !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// chance is a generator of random numbers, the same ones each time (Knuth's MMIX).
type chance uint64

func (c *chance) next() uint64 {
	*c = *c*6364136223846793005 + 1442695040888963407
	return uint64(*c >> 20)
}

// prefixes4: most of them are /24.
func prefixes4() func() netip.Prefix {
	lens := [...]int{24, 24, 24, 24, 24, 24, 23, 22, 22, 21, 20, 19, 18, 17, 16}
	x := chance(1)
	return func() netip.Prefix {
		for {
			r := x.next()
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(r>>12))
			if b[0] != 0 && b[0] != 10 && b[0] != 127 && b[0] < 224 {
				return netip.PrefixFrom(netip.AddrFrom4(b), lens[int(r&0xfff)%len(lens)])
			}
		}
	}
}

// prefixes6: a registry allots a /32 or /29, several of them in a row, and the rest lies within
// those: nothing in most, a thousand in some. Half of all are /48.
func prefixes6() func() netip.Prefix {
	lens := [...]int{48, 48, 48, 48, 48, 48, 48, 48, 44, 44, 40, 40, 36, 47, 46, 34, 42}
	registries := [...]uint32{0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00}
	x := chance(1)
	allotted, left := uint32(0), 0
	var net uint32
	return func() netip.Prefix {
		r := x.next()
		var b [16]byte
		bits := 32
		if left--; left < 0 {
			left = int(min(2000, 1<<15/(r&0xffff+1)))
			place := allotted / uint32(len(registries))
			net = registries[allotted%uint32(len(registries))]<<16 + place/5<<8 + place%5<<3
			if allotted++; r>>16&7 == 0 {
				bits = 29
			}
		} else {
			bits = lens[int(r>>16&0xfff)%len(lens)]
			binary.BigEndian.PutUint32(b[4:], uint32(r>>12)&0xffff_0000)
		}
		binary.BigEndian.PutUint32(b[:], net)
		return netip.PrefixFrom(netip.AddrFrom16(b), bits)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// routeMeasure works on the table itself; the way through a routing socket
// and netstat is part of the measure "tools".
func routeMeasure() error {
	var of [2]tableFigures
	for i, v := range versions {
		var err error
		if of[i], err = routeTable(v); err != nil {
			return err
		}
	}
	fmt.Printf("  IPv6: adding%s\n        live heap%s\n        walk%s\n        look-up%s\n", ofIPv4(of[1].add/of[0].add),
		ofIPv4(of[0].octets/of[1].octets), ofIPv4(of[1].walk/of[0].walk), ofIPv4(of[0].look/of[1].look))
	return nil
}

// tableFigures are routes a second that are added and walked, octets of each,
// and nanoseconds of a look-up.
type tableFigures struct{ add, walk, octets, look float64 }

func routeTable(v *version) (f tableFigures, err error) {
	ps := prefixes(v)
	gateways := v.clients()
	ops := make([]route.Op, len(ps))
	p := newPair()
	s := p.s[0]
	for i, pfx := range ps {
		ops[i] = route.Op{Kind: route.Add, Spec: route.Spec{Dst: pfx, Gateway: gateways[i%8],
			Flags: route.FlagUp | route.FlagGateway | route.FlagStatic}}
	}
	before := heap()
	start := time.Now()
	for c := range slices.Chunk(ops, 256) {
		for i, err := range s.Routes.Update(c) {
			if err != nil {
				return f, fmt.Errorf("add %v: %w", c[i].Spec.Dst, err)
			}
		}
	}
	f.add = millionRoutes / time.Since(start).Seconds()
	f.octets = float64(heap()-before) / millionRoutes
	fmt.Printf("  %s: add: %.0f/s in batches of 256  (%s)\n", v.name, f.add, verdict(f.add >= 300_000, "at least 300,000/s"))
	fmt.Printf("  live heap: %.0f bytes a route  (%s)\n", f.octets, verdict(f.octets <= 200, "at most 200"))
	f.walk = rates(func(time.Duration) float64 {
		n := 0
		start := time.Now()
		for range s.Routes.Dump(v.family()) {
			n++
		}
		return float64(n) / time.Since(start).Seconds()
	}).median(0)
	fmt.Printf("  walk of the table: %.0f/s\n", f.walk)
	f.look = lookups(s, ops)
	runtime.KeepAlive(ops)
	return f, nil
}

// lookups answers what a look-up takes while nothing is updated.
func lookups(s *stack.Stack, ops []route.Op) (still float64) {
	var hot [256]netip.Addr
	for i := range hot {
		hot[i] = ops[i*(len(ops)/256)].Spec.Dst.Addr().Next()
	}
	look := func(d time.Duration) float64 {
		w := s.Env.NewWork()
		n := 0
		start := time.Now()
		for time.Since(start) < d {
			for range 256 {
				w.Start(1)
				for i := range 64 {
					if hop, _ := s.Routes.Lookup(hot[(n+i)&255]); hop == nil {
						panic("route lost")
					}
				}
				w.Finish()
				n += 64
			}
		}
		return float64(time.Since(start).Nanoseconds()) / float64(n)
	}
	still = rates(look).median(0)
	var stop atomic.Bool
	var wg sync.WaitGroup
	updates := 0
	wg.Go(func() {
		batch := slices.Clone(ops[len(ops)-200:])
		for !stop.Load() {
			for _, k := range []route.Kind{route.Delete, route.Add} {
				for i := range batch {
					batch[i].Kind = k
				}
				s.Routes.Update(batch)
				updates += len(batch)
			}
		}
	})
	start := time.Now()
	busy := rates(look).median(0)
	stop.Store(true)
	wg.Wait()
	fmt.Printf("  look-up on a hot set of 256: %.0f ns still, %.0f ns while %.0f updates/s run  (%s)\n",
		still, busy, float64(updates)/time.Since(start).Seconds(), verdict(busy <= 40, "at most 40 ns"))
	return still
}
