package cmap

import (
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Map[int]
		m.Init()
		model := map[uint64][]int{}
		n := 0
		hash := rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64())
		key := func(t *rapid.T) uint64 { return hash.Draw(t, "hash") }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "many") {
					h := key(t)
					n++
					m.Add(h, n)
					model[h] = append(model[h], n)
				}
			},
			"add unless": func(t *rapid.T) {
				h := key(t)
				n++
				_, found := m.AddUnless(h, n, func(int) bool { return true })
				if found != (len(model[h]) > 0) {
					t.Fatalf("found %v among %v", found, model[h])
				}
				if !found {
					model[h] = append(model[h], n)
				}
			},
			"remove": func(t *rapid.T) {
				h := key(t)
				if len(model[h]) > 0 {
					if !m.Remove(h, model[h][0]) {
						t.Fatalf("%d is not there", model[h][0])
					}
					model[h] = model[h][1:]
				}
				if m.Remove(h, -1) {
					t.Fatal("removed what was never there")
				}
			},
			"": func(t *rapid.T) {
				var all, want []int
				for h, vs := range model {
					var got []int
					for i, b := 0, m.Bucket(h); i < b.Len(); i++ {
						if k, v := b.At(i); k == h {
							got = append(got, v)
						}
					}
					if !slices.Equal(got, vs) {
						t.Fatalf("under %d: %v, want %v", h, got, vs)
					}
					v, ok := m.Find(h, func(int) bool { return true })
					if ok != (len(vs) > 0) || ok && v != vs[0] {
						t.Fatalf("find %d: %v, %v, want the first of %v", h, v, ok, vs)
					}
					want = append(want, vs...)
				}
				m.All(func(v int) bool { all = append(all, v); return true })
				var paged []int
				for size := rapid.IntRange(1, 9).Draw(t, "page"); ; {
					was := len(paged)
					m.From(was, func(v int) bool { paged = append(paged, v); return len(paged) < was+size })
					if len(paged) == was {
						break
					}
				}
				if !slices.Equal(paged, all) {
					t.Fatalf("by pages: %v, want %v", paged, all)
				}
				slices.Sort(all)
				slices.Sort(want)
				if !slices.Equal(all, want) || m.Len() != len(want) {
					t.Fatalf("all: %v of %d, want %v", all, m.Len(), want)
				}
			},
		})
	})
}

// Readers meet writers: what stays is always found, and -race watches.
func TestReadersBesideWriters(t *testing.T) {
	var m Map[int]
	m.Init()
	m.Add(7, 7)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, ok := m.Find(7, func(v int) bool { return v == 7 }); !ok {
					t.Error("what stays was not found")
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := range 2000 {
				h := uint64(i*2+w) * 0x9e3779b97f4a7c15
				m.Add(h, i)
				if i%3 == 0 {
					m.Remove(h, i)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}
