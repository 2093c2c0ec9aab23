package route

import (
	"bufio"
	"compress/gzip"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// benchOps are the prefixes of the gzipped list, one a line, that
// IONET_PREFIXES names, else made-up ones.
func benchOps(tb testing.TB) []Op {
	name := os.Getenv("IONET_PREFIXES")
	if name == "" {
		ops, _ := made(1_000_000)
		return ops
	}
	f, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var ops []Op
	for s := bufio.NewScanner(z); s.Scan(); {
		p, err := netip.ParsePrefix(s.Text())
		if err != nil || !p.Addr().Is4() {
			continue
		}
		gw := netip.AddrFrom4([4]byte{10, 0, 0, byte(3 + len(ops)%30)})
		ops = append(ops, Op{Kind: Add, Spec: Spec{Dst: p, Gateway: gw, Flags: FlagUp | FlagGateway}})
		if len(ops) == 1_000_000 {
			break
		}
	}
	return ops
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkAdd(b *testing.B) {
	ops := benchOps(b)
	for b.Loop() {
		env, _ := newEnv(b)
		tab := New(env)
		before := heap()
		b.ResetTimer()
		for c := range slices.Chunk(ops, 500) {
			tab.Update(c)
		}
		b.StopTimer()
		n := float64(tab.Len())
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/route")
		b.ReportMetric(float64(heap()-before)/n, "heap-B/route")
		runtime.KeepAlive(tab)
		runtime.KeepAlive(ops)
		b.StartTimer()
	}
}

func benchTable(b *testing.B) (*Table, []Op) {
	ops := benchOps(b)
	env, _ := newEnv(b)
	tab := New(env)
	for c := range slices.Chunk(ops, 500) {
		tab.Update(c)
	}
	return tab, ops
}

// BenchmarkLookupHot reads 256 destinations, a burst of 32 to an epoch, with
// and without a writer at work.
func BenchmarkLookupHot(b *testing.B) {
	tab, ops := benchTable(b)
	var hot [256]netip.Addr
	for i := range hot {
		hot[i] = ops[i*(len(ops)/256)].Spec.Dst.Addr().Next()
	}
	look := func(b *testing.B) {
		w := tab.env.NewWork()
		i := 0
		for b.Loop() {
			if i%32 == 0 {
				w.Start(0)
			}
			_, h := tab.Lookup(hot[i&255])
			tab.AddUse(h, 1)
			if i++; i%32 == 0 {
				w.Finish()
			}
		}
		if i%32 != 0 {
			w.Finish()
		}
	}
	b.Run("still", look)
	b.Run("updates", func(b *testing.B) {
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Add(1)
		batch := slices.Clone(ops[:200])
		go func() {
			defer wg.Done()
			for i := 0; !stop.Load(); i++ {
				for j := range batch {
					batch[j].Kind = Delete - Kind(i%2)
				}
				tab.Update(batch)
			}
		}()
		look(b)
		stop.Store(true)
		wg.Wait()
	})
}

func BenchmarkDump(b *testing.B) {
	tab, _ := benchTable(b)
	n := 0
	for b.Loop() {
		for range tab.Dump(AFInet) {
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/route")
}
