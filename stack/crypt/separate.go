package crypt

import "sync/atomic"

// transform encrypts and decrypts text in place; iv is what stands before it in
// the packet, and text is behind it in memory.
type transform interface {
	ivLen() int
	blockSize() int
	// setIV makes the IV in the packet b of the number n.
	setIV(b []byte, n uint64)
	// encrypt and decrypt work on b[text:end]. What is behind may be overwritten.
	encrypt(b []byte, text, end int)
	decrypt(b []byte, text, end int)
	wipe()
}

// separate is ESP with one algorithm that encrypts and another that
// authenticates, or none of them (RFC 4303 §3.3.2.1: encrypted, then
// authenticated, the high half of an extended number behind the packet).
type separate struct {
	c    transform
	auth *Auth // nil for none
	icv  int
	text int // where the plaintext begins
	esn  bool
	gone atomic.Bool
}

func newSeparate(a Algorithm, key []byte, auth *Auth, esn bool) (ESP, error) {
	c, err := newTransform(a, key)
	if err != nil {
		return nil, err
	}
	s := &separate{c: c, auth: auth, text: headerLen + c.ivLen(), esn: esn}
	if auth != nil {
		s.icv = auth.icv
	}
	return s, nil
}

func newTransform(a Algorithm, key []byte) (transform, error) {
	switch a.Number {
	case EalgNull:
		return null{}, nil
	case EalgAESCTR:
		return newCTR(key)
	}
	return newCBC(a, key)
}

func (s *separate) IVLen() int  { return s.c.ivLen() }
func (s *separate) Align() int  { return max(4, s.c.blockSize()) }
func (s *separate) ICVLen() int { return s.icv }

func (s *separate) Seal(b []byte, hi uint32, iv uint64) {
	if s.gone.Load() {
		clear(b[headerLen:])
		return
	}
	end := len(b) - s.icv
	mustAlign(end-s.text, s.Align())
	s.c.setIV(b, iv)
	s.c.encrypt(b, s.text, end)
	if s.auth == nil {
		return
	}
	if !s.esn {
		s.auth.Sum(b[end:], b[:end])
		return
	}
	var high [4]byte
	be.PutUint32(high[:], hi)
	s.auth.Sum(b[end:], b[:end], high[:])
}

func (s *separate) Open(b []byte, hi uint32) bool {
	end := len(b) - s.icv
	if end < s.text || !aligned(end-s.text, s.c.blockSize()) || s.gone.Load() {
		return false
	}
	if s.auth != nil {
		var high [4]byte
		be.PutUint32(high[:], hi)
		n := 0
		if s.esn {
			n = len(high)
		}
		if !s.auth.Verify(b[end:], b[:end], high[:n]) {
			return false
		}
	}
	s.c.decrypt(b, s.text, end)
	return true
}

func (s *separate) Wipe() {
	s.gone.Store(true)
	s.c.wipe()
	if s.auth != nil {
		s.auth.Wipe()
	}
}

// null encrypts nothing (RFC 2410).
type null struct{}

func (null) ivLen() int               { return 0 }
func (null) blockSize() int           { return 1 }
func (null) setIV([]byte, uint64)     {}
func (null) encrypt([]byte, int, int) {}
func (null) decrypt([]byte, int, int) {}
func (null) wipe()                    {}
