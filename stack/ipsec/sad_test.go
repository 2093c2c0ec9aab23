package ipsec

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Packets take the oldest of a group's SAs that are usable, or the newest, as a list has it.
func TestGroupChooses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, g := &sad{}, &group{}
		d.old.Store(rapid.Bool().Draw(t, "old"))
		var list []*SA
		order := uint64(0)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			switch n := len(list); {
			case n == 0 || rapid.IntRange(0, 2).Draw(t, "add") == 0:
				order++
				s := &SA{order: order}
				s.state.Store(uint32(rapid.SampledFrom([]State{Mature, Mature, Dying, Dead}).Draw(t, "state")))
				g.add(s)
				list = append(list, s)
			default:
				i := rapid.SampledFrom([]int{0, n - 1, n / 2}).Draw(t, "which")
				g.remove(list[i])
				g.remove(list[i]) // it has left
				list = slices.Delete(list, i, i+1)
			}
			d.choose(g)
			var want *SA
			for _, s := range list {
				if s.usable() && (want == nil || !d.old.Load()) {
					want = s
				}
			}
			if got := g.cur.Load(); got != want {
				t.Fatalf("%v is taken, want %v", got, want)
			}
			if len(list) == 0 && len(g.all) != 0 || len(g.all) > 2*len(list)+1 {
				t.Fatalf("%d places for %d", len(g.all), len(list))
			}
		}
	})
}
