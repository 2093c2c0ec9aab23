package crypt

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// pair is what an association can have: an encryption algorithm with a length of
// key, and an authentication algorithm.
type pair struct {
	e    Algorithm
	bits int
	a    Algorithm // Number 0: none
}

func (p pair) name() string {
	s := p.e.Name
	if len(p.e.Keys) > 1 {
		s += "-" + string([]byte{'0' + byte(p.bits/100), '0' + byte(p.bits/10%10), '0' + byte(p.bits%10)})
	}
	if p.a.Number != AalgNone {
		s += "," + p.a.Name
	}
	return s
}

func (p pair) keys() (ekey, akey []byte) {
	ekey, akey = make([]byte, p.bits/8), make([]byte, p.a.MinBits/8)
	for i := range ekey {
		ekey[i] = byte(i*7 + 3)
	}
	for i := range akey {
		akey[i] = byte(i*5 + 1)
	}
	return ekey, akey
}

func (p pair) new(t testing.TB, esn bool) ESP {
	t.Helper()
	ekey, akey := p.keys()
	e, err := NewESP(p.e.Number, ekey, p.a.Number, akey, esn)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// pairs are all encryption algorithms, each with an authentication algorithm of
// its own and AES-CBC with all of them.
func pairs() (all []pair) {
	var auth []Algorithm
	for _, a := range aalgs {
		if a.Number != AalgNull && a.Salt == 0 {
			auth = append(auth, a)
		}
	}
	for i, e := range ealgs {
		lengths := e.Keys
		if lengths == nil {
			lengths = []int{e.MinBits}
		}
		for _, bits := range lengths {
			switch {
			case e.AEAD:
				all = append(all, pair{e, bits, Algorithm{}})
			case e.Number == EalgAESCBC && bits == 128:
				all = append(all, pair{e, bits, Algorithm{}})
				for _, a := range auth {
					all = append(all, pair{e, bits, a})
				}
			default:
				all = append(all, pair{e, bits, auth[i%len(auth)]})
			}
		}
	}
	return all
}

// blank is a packet with room for what Seal adds, around text.
func blank(e ESP, text []byte) []byte {
	b := make([]byte, headerLen+e.IVLen()+len(text)+e.ICVLen())
	be.PutUint32(b, 0x12345678)
	be.PutUint32(b[4:], 9)
	copy(b[headerLen+e.IVLen():], text)
	return b
}

func textOf(e ESP, b []byte) []byte { return b[headerLen+e.IVLen() : len(b)-e.ICVLen()] }

// authenticates reports whether a changed packet is found out.
func (p pair) authenticates() bool { return p.e.AEAD || p.a.Number != AalgNone }

// fence stands behind packets.
var fence = bytes.Repeat([]byte{0xee}, 16)

func TestOpensWhatSealMakes(t *testing.T) {
	for _, p := range pairs() {
		for _, esn := range []bool{false, true} {
			t.Run(p.name(), rapid.MakeCheck(func(t *rapid.T) {
				ekey, akey := p.keys()
				e, err := NewESP(p.e.Number, ekey, p.a.Number, akey, esn)
				if err != nil {
					t.Fatal(err)
				}
				n := rapid.IntRange(1, 1500/e.Align()).Draw(t, "blocks") * e.Align()
				text := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "text"), n)[:n]
				hi, seq := rapid.Uint32().Draw(t, "hi"), rapid.Uint64().Draw(t, "seq")
				whole := append(blank(e, text), fence...)
				b := whole[:len(whole)-len(fence)]
				e.Seal(b, hi, seq)
				if !bytes.Equal(whole[len(b):], fence) {
					t.Fatalf("Seal writes behind %d octets", len(b))
				}
				if p.e.Number != EalgNull && p.e.Number != EalgAESGMAC && n >= 16 && bytes.Equal(textOf(e, b), text) {
					t.Fatal("nothing is encrypted")
				}
				if p.authenticates() {
					bad := bytes.Clone(b)
					bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
					bad[bit/8] ^= 1 << (bit % 8)
					if e.Open(bad, hi) {
						t.Fatalf("bit %d of %d octets is changed, and it opens", bit, len(b))
					}
					if bad := bytes.Clone(b); e.Open(bad, hi+1) == esn {
						t.Fatalf("esn %v: another high half opens: %v", esn, !esn)
					}
				}
				if !e.Open(b, hi) {
					t.Fatal("does not open")
				}
				if !bytes.Equal(textOf(e, b), text) {
					t.Fatalf("opens as %x, was %x", textOf(e, b), text)
				}
			}))
		}
	}
}

func TestShortPacketsDoNotOpen(t *testing.T) {
	for _, p := range pairs() {
		e := p.new(t, true)
		for n := range headerLen + e.IVLen() + e.ICVLen() {
			if e.Open(make([]byte, n), 0) {
				t.Errorf("%s: %d octets open", p.name(), n)
			}
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	for _, p := range pairs() {
		for _, esn := range []bool{false, true} {
			e := p.new(t, esn)
			text := make([]byte, 1392)
			b := blank(e, text)
			var seq uint64
			n := testing.AllocsPerRun(200, func() {
				seq++
				e.Seal(b, 1, seq)
				if !e.Open(b, 1) {
					t.Fatal("does not open")
				}
			})
			if n != 0 {
				t.Errorf("%s, esn %v: %v allocations a packet", p.name(), esn, n)
			}
		}
	}
}
