package crypt

import (
	"encoding"
	"fmt"
	"sync/atomic"
)

// Auth makes check values over octets, for AH and for ESP with an algorithm of
// its own for that. It may be used by many goroutines at once. It is no
// interface, so that parts stay on the caller's stack.
type Auth struct {
	name string
	icv  int
	kind kind
	// inner and outer are the states of the hash after it has taken the key in
	// (RFC 2104 §4), in its library's form.
	inner, outer []byte
	gone         atomic.Bool
}

// NewAuth takes the number of an algorithm (SADB_AALG_*) and its key, which it
// copies.
func NewAuth(aalg uint8, key []byte) (*Auth, error) {
	a, ok := AalgByNumber(aalg)
	if !ok {
		return nil, fmt.Errorf("authentication algorithm %d is not known; known are %s", aalg, names(aalgs))
	}
	if err := a.CheckKey(key); err != nil {
		return nil, err
	}
	return newAuth(a, key)
}

func newAuth(a Algorithm, key []byte) (*Auth, error) {
	h := &Auth{name: a.Name, icv: a.ICVLen}
	switch a.Number {
	case AalgHMACMD5:
		h.kind = kindMD5
	case AalgHMACSHA1:
		h.kind = kindSHA1
	case AalgHMACSHA256:
		h.kind = kindSHA256
	case AalgHMACSHA384:
		h.kind = kindSHA384
	case AalgHMACSHA512:
		h.kind = kindSHA512
	}
	return h, h.setHMAC(key)
}

// setHMAC takes the key in (RFC 2104 §2).
func (a *Auth) setHMAC(key []byte) error {
	d := a.kind.make()
	pad := make([]byte, d.BlockSize())
	if len(key) > len(pad) {
		d.Write(key)
		key = d.Sum(nil)
	}
	copy(pad, key)
	for i := range pad {
		pad[i] ^= 0x36
	}
	var err error
	if a.inner, err = after(d, pad); err != nil {
		return err
	}
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5c
	}
	if a.outer, err = after(d, pad); err != nil {
		return err
	}
	clear(pad)
	d.Reset()
	return nil
}

// after is the state of d when it has taken b in.
func after(d digest, b []byte) ([]byte, error) {
	d.Reset()
	d.Write(b)
	return d.(encoding.BinaryMarshaler).MarshalBinary()
}

// ICVLen is how many octets the check value has.
func (a *Auth) ICVLen() int { return a.icv }

// Sum puts the check value over the parts, one behind the other, into the first
// ICVLen octets of dst. It allocates nothing.
func (a *Auth) Sum(dst []byte, parts ...[]byte) {
	s, at := spare.take()
	copy(dst[:a.icv], a.sum(s, parts))
	spare.put(s, at)
}

// Verify reports whether icv is the check value over the parts; the comparison
// takes the same time whatever they are.
func (a *Auth) Verify(icv []byte, parts ...[]byte) bool {
	s, at := spare.take()
	ok := equal(icv, a.sum(s, parts)[:a.icv])
	spare.put(s, at)
	return ok && !a.gone.Load()
}

// sum is the untruncated value, in s.
func (a *Auth) sum(s *scratch, parts [][]byte) []byte {
	if a.gone.Load() {
		clear(s.sum[:])
		return s.sum[:]
	}
	d := s.digest(a.kind)
	a.load(d, a.inner)
	for _, p := range parts {
		d.Write(noescape(p))
	}
	inner := d.Sum(s.sum[:0])
	a.load(d, a.outer)
	d.Write(inner)
	sum := d.Sum(s.sum[:0])
	d.Reset()
	return sum
}

// load sets d to a state of our own making, which is of the right form.
func (a *Auth) load(d digest, state []byte) {
	if err := d.UnmarshalBinary(state); err != nil {
		panic(err)
	}
}

// Wipe overwrites the key. No other call may run meanwhile; after it Verify is
// false.
func (a *Auth) Wipe() {
	a.gone.Store(true)
	clear(a.inner)
	clear(a.outer)
}
