package crypt

import (
	"fmt"
	"testing"
)

// at calls f so far down a stack of its own that it grows, for some depth, in any call that f makes.
func at(depth int, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		down(depth, f)
	}()
	<-done
}

//go:noinline
func down(depth int, f func()) (sum byte) {
	var pad [32]byte
	if depth == 0 {
		f()
	} else {
		pad[depth%len(pad)] = down(depth-1, f)
	}
	for _, c := range pad {
		sum += c
	}
	return sum
}

// A stack that moves in the midst of an algorithm changes nothing of what it makes.
func TestGrowingStack(t *testing.T) {
	const depths = 200 // of some hundred octets each: several sizes of stack
	for _, a := range ealgs {
		aalg, akey := uint8(AalgNone), []byte(nil)
		if !a.AEAD {
			aalg, akey = AalgAESCMAC, make([]byte, 16)
		}
		for _, esn := range []bool{false, true} {
			key := make([]byte, a.MinBits/8)
			for i := range key {
				key[i] = byte(i)
			}
			e, err := NewESP(a.Number, key, aalg, akey, esn)
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("%x", sealed(e))
			for depth := range depths {
				at(depth, func() {
					b := sealed(e)
					if got := fmt.Sprintf("%x", b); got != want {
						t.Errorf("%s, extended %v, sealed %d deep: %s, want %s", a.Name, esn, depth, got, want)
					}
				})
				b := sealed(e)
				at(depth, func() {
					if !e.Open(b, 1) {
						t.Errorf("%s, extended %v: it is not opened %d deep", a.Name, esn, depth)
					}
				})
			}
		}
	}
	for _, a := range aalgs {
		if a.Number == AalgNull {
			continue
		}
		auth, err := NewAuth(a.Number, make([]byte, a.MinBits/8))
		if err != nil {
			t.Fatal(err)
		}
		parts := [][]byte{make([]byte, 12), make([]byte, 100)}
		sum := make([]byte, auth.ICVLen())
		auth.SumIV(sum, 1, parts...)
		for depth := range depths {
			at(depth, func() {
				if !auth.Verify(sum, parts...) {
					t.Errorf("%s: it is not verified %d deep", a.Name, depth)
				}
			})
		}
	}
}

// sealed is a packet of 64 octets of text.
func sealed(e ESP) []byte {
	b := make([]byte, headerLen+e.IVLen()+64+e.ICVLen())
	e.Seal(b, 1, 7)
	return b
}
