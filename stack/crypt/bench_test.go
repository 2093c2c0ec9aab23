package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"fmt"
	"testing"
)

// sizes of inner packets, with their trailer.
var benchSizes = []int{64, 1400}

func BenchmarkRaw(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			block, _ := stdaes.NewCipher(make([]byte, 16))
			aead, _ := cipher.NewGCM(block)
			p, nonce, aad := make([]byte, n+16), make([]byte, 12), make([]byte, 8)
			b.SetBytes(int64(n))
			for b.Loop() {
				aead.Seal(p[:0], nonce, p[:n], aad)
				if _, err := aead.Open(p[:0], nonce, p, aad); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkESP(b *testing.B) {
	for _, a := range pairs() {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%s/%d", a.name(), n), func(b *testing.B) {
				e := a.new(b, false)
				n := n / e.Align() * e.Align()
				p := make([]byte, headerLen+e.IVLen()+n+e.ICVLen())
				b.SetBytes(int64(n))
				b.ReportAllocs()
				var seq uint64
				for b.Loop() {
					seq++
					e.Seal(p, 0, seq)
					if !e.Open(p, 0) {
						b.Fatal("does not open")
					}
				}
			})
		}
	}
}

// BenchmarkShared is many goroutines on one association.
func BenchmarkShared(b *testing.B) {
	for _, a := range pairs() {
		b.Run(a.name(), func(b *testing.B) {
			e := a.new(b, false)
			const n = 1392
			b.SetBytes(n)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				p := make([]byte, headerLen+e.IVLen()+n+e.ICVLen())
				var seq uint64
				for pb.Next() {
					seq++
					e.Seal(p, 0, seq)
					if !e.Open(p, 0) {
						b.Error("does not open")
						return
					}
				}
			})
		})
	}
}
