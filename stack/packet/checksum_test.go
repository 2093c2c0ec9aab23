package packet

import (
	"math/rand/v2"
	"strconv"
	"testing"
)

// TestHeaderPseudoSum: a header says the same as its addresses.
func TestHeaderPseudoSum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		var b [IPv6Len]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		n := r.IntN(65536)
		b[0] = 0x45
		h := IPv4(b[:20])
		if got, want := Fold(HeaderPseudoSum(b[:], ProtoTCP, n)), Fold(PseudoSum(h.Src(), h.Dst(), ProtoTCP, n)); got != want {
			t.Fatalf("%x: %#x, want %#x", b[:20], got, want)
		}
		b[0] = 0x60
		b[8], b[24] = 0x20, 0x20 // no interface within
		six := IPv6(b[:])
		if got, want := Fold(HeaderPseudoSum(b[:], ProtoUDP, n)), Fold(PseudoSum(six.Src(), six.Dst(), ProtoUDP, n)); got != want {
			t.Fatalf("%x: %#x, want %#x", b, got, want)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 256, 1400} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			data, sum := make([]byte, n), uint64(0)
			b.SetBytes(int64(n))
			for b.Loop() {
				sum = Sum(sum, data)
			}
		})
	}
}
