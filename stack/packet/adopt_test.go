package packet

import (
	"sync"
	"testing"
)

// The owner of the octets and who has adopted a share of them let go in either
// order, before the adoption or after it: each pool's books say what it holds,
// and balance at the end.
func TestAdopt(t *testing.T) {
	size := int64(classSize[3])
	for _, tc := range []struct {
		name    string
		steps   string // a: adopt, o: the owner frees, s: the share is freed
		a, b    int64  // octets in use after all but the last step
		refused bool
	}{
		{"the share goes first", "aso", size, 0, false},
		{"the owner goes first", "aos", 0, size, false},
		{"the owner has gone before", "oas", 0, size, false},
		{"no budget", "aso", size, 0, true},
		{"no budget, and the owner has gone", "oas", size, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := NewPool(1<<20), NewPool(1<<20)
			if tc.refused {
				b.SetLimit(1000)
			}
			own := a.Get(60000)
			copy(own.Append(3), "abc")
			s := own.Share(3)
			for i, step := range tc.steps {
				if i == len(tc.steps)-1 && (a.InUse() != tc.a || b.InUse() != tc.b) {
					t.Errorf("in use: %d and %d, want %d and %d", a.InUse(), b.InUse(), tc.a, tc.b)
				}
				switch step {
				case 'a':
					if b.Adopt(s) == tc.refused {
						t.Fatalf("adopted: %v", !tc.refused)
					}
					if string(s.Bytes()) != "abc" || !s.Shared() {
						t.Errorf("%q", s.Bytes())
					}
				case 'o':
					own.Free()
				case 's':
					s.Free()
				}
			}
			if a.InUse()+b.InUse()+a.Bufs()+b.Bufs() != 0 {
				t.Errorf("left: %d and %d octets, %d and %d buffers", a.InUse(), b.InUse(), a.Bufs(), b.Bufs())
			}
			if again := a.Get(60000); again != own || again.Share(1) == nil {
				t.Error("the storage has not come back as it was")
			}
		})
	}
	p := NewPool(1 << 20)
	if own := p.Get(100); NewPool(1 << 20).Adopt(own) {
		t.Error("a buffer that is not shared was adopted")
	}
}

// Both sides at once.
func TestAdoptRaces(t *testing.T) {
	a, b := NewPool(1<<26), NewPool(1<<26)
	for range 2000 {
		own := a.Get(60000)
		s := own.Share(0)
		var wg sync.WaitGroup
		wg.Go(own.Free)
		wg.Go(func() {
			b.Adopt(s)
			s.Free()
		})
		wg.Wait()
	}
	if a.InUse()+b.InUse()+a.Bufs()+b.Bufs() != 0 {
		t.Errorf("left: %d and %d octets, %d and %d buffers", a.InUse(), b.InUse(), a.Bufs(), b.Bufs())
	}
}
