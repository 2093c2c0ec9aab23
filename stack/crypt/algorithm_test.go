package crypt

import (
	"slices"
	"strings"
	"testing"
)

func TestAlgorithms(t *testing.T) {
	for _, l := range []struct {
		all      []Algorithm
		byNumber func(uint8) (Algorithm, bool)
		byName   func(string) (Algorithm, bool)
	}{{Ealgs(), EalgByNumber, EalgByName}, {Aalgs(), AalgByNumber, AalgByName}, {Calgs(), CalgByNumber, CalgByName}} {
		if !slices.IsSortedFunc(l.all, func(a, b Algorithm) int { return int(a.Number) - int(b.Number) }) {
			t.Errorf("not in the order of numbers: %s", names(l.all))
		}
		for _, a := range l.all {
			if got, ok := l.byNumber(a.Number); !ok || got.Name != a.Name {
				t.Errorf("%d is %q, want %q", a.Number, got.Name, a.Name)
			}
			for _, name := range append(a.Aliases, a.Name) {
				if got, ok := l.byName(name); !ok || got.Number != a.Number {
					t.Errorf("%q is %d, want %d", name, got.Number, a.Number)
				}
			}
		}
		if a, ok := l.byName("rot13"); ok {
			t.Errorf("rot13 is %v", a)
		}
	}
}

// What the tables say of lengths is what the transforms do.
func TestLengths(t *testing.T) {
	for _, p := range pairs() {
		e := p.new(t, false)
		icv := p.e.ICVLen + p.a.ICVLen
		if e.IVLen() != p.e.IVLen || e.ICVLen() != icv || e.Align()%4 != 0 || e.Align() < 4 {
			t.Errorf("%s: IV %d, check value %d, align %d; the table: %d, %d", p.name(), e.IVLen(), e.ICVLen(), e.Align(), p.e.IVLen, icv)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		ealg uint8
		ekey int // octets
		aalg uint8
		akey int
		want string
	}{
		{99, 16, 0, 0, "encryption algorithm 99 is not known; known are des-cbc (2), 3des-cbc (3)"},
		{EalgAESCBC, 15, 0, 0, "rijndael-cbc: a key of 120 bits; 128, 192 or 256 are right"},
		{EalgAESGCM16, 16, 0, 0, "aes-gcm-16: a key of 128 bits; 160, 224 or 288 are right, of which the last 32 are the salt"},
		{EalgAESCCM8, 16, 0, 0, "152, 216 or 280 are right, of which the last 24 are the salt"},
		{EalgDESCBC, 7, 0, 0, "des-cbc: a key of 56 bits; 64 are right"},
		{EalgBlowfishCBC, 4, 0, 0, "blowfish-cbc: a key of 32 bits; 40 to 448 are right"},
		{EalgAESGCM16, 20, AalgHMACSHA1, 20, "aes-gcm-16 authenticates by itself"},
		{EalgAESCBC, 16, 99, 20, "authentication algorithm 99 is not known"},
		{EalgAESCBC, 16, AalgHMACSHA1, 16, "hmac-sha1: a key of 128 bits; 160 are right"},
		{EalgAESCBC, 16, AalgAES128GMAC, 20, "aes128-gmac is for AH"},
		{EalgNull, 0, 0, 0, "null encryption protects nothing without"},
		{EalgNull, 0, AalgNull, 0, "null encryption protects nothing without"},
	} {
		_, err := NewESP(tc.ealg, make([]byte, tc.ekey), tc.aalg, make([]byte, tc.akey), false)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%d with %d octets, %d with %d: %v, want %q", tc.ealg, tc.ekey, tc.aalg, tc.akey, err, tc.want)
		}
	}
	if _, err := NewAuth(AalgNull, nil); err == nil {
		t.Error("null makes check values")
	}
}
