package crypt

import (
	"fmt"
	"sync/atomic"
)

// Auth makes check values over octets, for AH and for ESP with an algorithm of
// its own for that. It may be used by many goroutines at once. It is no
// interface, so that parts stay on the caller's stack.
type Auth struct {
	name    string
	iv, icv int
	gone    atomic.Bool

	// One of them is there.
	hash  *hashMAC
	block *blockMAC
	gcm   *gcmMAC
}

// NewAuth takes the number of an algorithm (SADB_AALG_*) and its key, which it
// copies.
func NewAuth(aalg uint8, key []byte) (*Auth, error) {
	a, ok := AalgByNumber(aalg)
	if !ok {
		return nil, fmt.Errorf("authentication algorithm %d is not known; known are %s", aalg, names(aalgs))
	}
	if aalg == AalgNull {
		return nil, fmt.Errorf("null authentication makes no check values")
	}
	if err := a.CheckKey(key); err != nil {
		return nil, err
	}
	return newAuth(a, key)
}

func newAuth(alg Algorithm, key []byte) (a *Auth, err error) {
	a = &Auth{name: alg.Name, iv: alg.IVLen, icv: alg.ICVLen}
	switch alg.Number {
	case AalgHMACMD5:
		a.hash, err = newHMAC(kindMD5, key)
	case AalgHMACSHA1:
		a.hash, err = newHMAC(kindSHA1, key)
	case AalgHMACSHA256:
		a.hash, err = newHMAC(kindSHA256, key)
	case AalgHMACSHA384:
		a.hash, err = newHMAC(kindSHA384, key)
	case AalgHMACSHA512:
		a.hash, err = newHMAC(kindSHA512, key)
	case AalgKeyedMD5:
		a.hash, err = newKeyed(kindMD5, key)
	case AalgKeyedSHA1:
		a.hash, err = newKeyed(kindSHA1, key)
	case AalgAESXCBC:
		a.block, err = newXCBC(key)
	case AalgAESCMAC:
		a.block, err = newCMAC(key)
	default:
		a.gcm, err = newGCMMAC(key)
	}
	return a, err
}

// ICVLen is how many octets the check value has, with the IV that it begins with
// if IVLen is not 0.
func (a *Auth) ICVLen() int { return a.icv }

// IVLen is how many octets of the check value are an IV: 8 of AES-GMAC, whose
// values SumIV makes, else 0.
func (a *Auth) IVLen() int { return a.iv }

// Sum puts the check value over the parts, one behind the other, into the first
// ICVLen octets of dst. It allocates nothing. The parts may hold dst: what is
// there before counts. An algorithm with an IV gives zeros.
func (a *Auth) Sum(dst []byte, parts ...[]byte) {
	if a.gcm != nil {
		clear(dst[:a.icv])
		return
	}
	a.SumIV(dst, 0, parts...)
}

// SumIV is Sum with a number that was never used with this key, as the sequence
// number is. Algorithms without an IV do not look at it.
func (a *Auth) SumIV(dst []byte, iv uint64, parts ...[]byte) {
	s, at := spare.take()
	copy(dst[:a.icv], a.sum(s, iv, parts))
	spare.put(s, at)
}

// Verify reports whether icv is the check value over the parts; the comparison
// takes the same time whatever they are.
func (a *Auth) Verify(icv []byte, parts ...[]byte) bool {
	if len(icv) != a.icv {
		return false
	}
	var iv uint64
	if a.iv > 0 {
		iv = be.Uint64(icv)
	}
	s, at := spare.take()
	ok := equal(icv, a.sum(s, iv, parts)[:a.icv])
	spare.put(s, at)
	return ok && !a.gone.Load()
}

// sum is the value before it is shortened, in s.
func (a *Auth) sum(s *scratch, iv uint64, parts [][]byte) []byte {
	switch {
	case a.gone.Load():
		clear(s.sum[:])
		return s.sum[:]
	case a.hash != nil:
		return a.hash.sum(s, parts)
	case a.block != nil:
		return a.block.sum(s, parts)
	}
	return a.gcm.sum(s, iv, parts)
}

// Wipe overwrites the key. No other call may run meanwhile; after it Verify is
// false.
func (a *Auth) Wipe() {
	a.gone.Store(true)
	switch {
	case a.hash != nil:
		a.hash.wipe()
	case a.block != nil:
		a.block.wipe()
	default:
		a.gcm.wipe()
	}
}
