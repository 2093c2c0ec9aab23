package ipsec

import (
	"testing"

	"pgregory.net/rapid"
)

// What may come is what has not come, and is not older than the window: as a list has it that forgets nothing.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{1, 2, 32, 63, 64, 65, 128, 1000, 4096}).Draw(t, "size")
		r := new(window)
		r.init(size)
		seen, top := map[uint64]bool{}, uint64(0)
		base := rapid.SampledFrom([]uint64{0, 1 << 20, 1<<32 - 50}).Draw(t, "base")
		for range rapid.IntRange(1, 200).Draw(t, "packets") {
			n := base + rapid.Uint64Range(0, 300).Draw(t, "n")
			if rapid.IntRange(0, 9).Draw(t, "far") == 0 {
				n += rapid.SampledFrom([]uint64{500, 5000, 50000}).Draw(t, "by")
			}
			want := n != 0 && !seen[n] && n+uint64(size) > top
			if got := r.fresh(n); got != want {
				t.Fatalf("size %d, top %d: %d is fresh: %v, want %v", size, top, n, got, want)
			}
			if rapid.Bool().Draw(t, "right") {
				if r.take(n) != want {
					t.Fatalf("%d was not taken as it was fresh", n)
				}
				if want {
					seen[n], top = true, max(top, n)
				}
			}
		}
	})
}

// The low half of a number that the window reaches says the whole (RFC 4304 appendix A).
func TestWiden(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{32, 64, 4096}).Draw(t, "size")
		r := new(window)
		r.init(size)
		top := rapid.Uint64Range(1, 1<<34).Draw(t, "top")
		if rapid.Bool().Draw(t, "edge") {
			top = top&^(1<<32-1) + rapid.Uint64Range(0, 5000).Draw(t, "over") + 1
		}
		r.take(top)
		n := top + rapid.Uint64Range(0, 1<<31).Draw(t, "ahead")
		if rapid.Bool().Draw(t, "back") {
			n = top - min(top-1, rapid.Uint64Range(0, uint64(size)-1).Draw(t, "behind"))
		}
		if got := r.widen(uint32(n)); got != n {
			t.Fatalf("top %#x, size %d: %#x is taken for %#x, want %#x", top, size, uint32(n), got, n)
		}
	})
}
