package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"
)

// combined is ESP with a cipher that authenticates too (RFC 4106, 4309, 7634). The
// nonce is the salt and the IV; SPI and sequence number, extended or not, are
// additional data (RFC 4106 §4 and §5).
type combined struct {
	aead cipher.AEAD
	icv  int
	esn  bool
	gone atomic.Bool
	// nonce begins with salt octets that are always the same, and goes on with the IV.
	nonce [12]byte
	salt  int
}

const (
	gcmIV  = 8  // octets of IV in a packet, of every combined cipher
	gcmTag = 16 // octets of check value at most
)

func newCombined(a Algorithm, key []byte, esn bool) (ESP, error) {
	key, salt := key[:len(key)-a.Salt/8], key[len(key)-a.Salt/8:]
	aead, err := newAEAD(a, key)
	if err != nil {
		return nil, err
	}
	c := &combined{aead: aead, icv: a.ICVLen, esn: esn, salt: len(salt)}
	copy(c.nonce[:], salt)
	switch {
	case a.Number == EalgAESGMAC:
		return &unencrypted{c}, nil
	case c.icv < aead.Overhead():
		return &shortened{c}, nil
	}
	return c, nil
}

func newAEAD(a Algorithm, key []byte) (cipher.AEAD, error) {
	if a.Number == EalgChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := stdaes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	switch a.Number {
	case EalgAESCCM8, EalgAESCCM12, EalgAESCCM16:
		return newCCM(block, a.ICVLen)
	}
	defer wipe(block) // which GCM has copied
	if a.ICVLen == 12 {
		return cipher.NewGCMWithTagSize(block, a.ICVLen)
	}
	return cipher.NewGCM(block)
}

func (c *combined) IVLen() int  { return gcmIV }
func (c *combined) Align() int  { return 4 }
func (c *combined) ICVLen() int { return c.icv }

// extended puts SPI and sequence number of 64 bits into aad (RFC 4106 §5).
func extended(aad *[12]byte, b []byte, hi uint32) {
	copy(aad[:4], b)
	be.PutUint32(aad[4:], hi)
	copy(aad[8:], b[4:8])
}

func (c *combined) Seal(b []byte, hi uint32, iv uint64) {
	if c.gone.Load() {
		clear(b[headerLen:])
		return
	}
	mustAlign(len(b)-headerLen-gcmIV-c.icv, 4) // see slack
	c.seal(b, hi, iv)
}

// seal protects b, which ends with room for what the library makes.
func (c *combined) seal(b []byte, hi uint32, iv uint64) {
	const text = headerLen + gcmIV
	end := len(b) - c.aead.Overhead()
	be.PutUint64(b[headerLen:text], iv)
	nonce := c.nonce
	be.PutUint64(nonce[c.salt:], iv)
	aad := b[:headerLen]
	var long [12]byte
	if c.esn {
		extended(&long, b, hi)
		aad = noescape(long[:])
	}
	c.aead.Seal(b[text:text:len(b)], noescape(nonce[:c.salt+gcmIV]), b[text:end], aad)
}

func (c *combined) Open(b []byte, hi uint32) bool {
	const text = headerLen + gcmIV
	if len(b) < text+c.icv || c.gone.Load() {
		return false
	}
	nonce := c.nonce
	copy(nonce[c.salt:], b[headerLen:text])
	aad := b[:headerLen]
	var long [12]byte
	if c.esn {
		extended(&long, b, hi)
		aad = noescape(long[:])
	}
	_, err := c.aead.Open(b[text:text], noescape(nonce[:c.salt+gcmIV]), b[text:], aad)
	return err == nil
}

func (c *combined) Wipe() {
	c.gone.Store(true)
	wipe(c.aead)
	clear(c.nonce[:])
}

// shortened is combined with a check value shorter than the library makes any,
// which is AES-GCM with 8 octets: it is the beginning of a longer one. As a packet
// has no room for that, the work is done in a scratch state.
type shortened struct{ *combined }

func (c *shortened) Seal(b []byte, hi uint32, iv uint64) {
	if c.gone.Load() {
		clear(b[headerLen:])
		return
	}
	end := len(b) - c.icv
	mustAlign(end-headerLen-gcmIV, 4)
	s, at := spare.take()
	room := s.room(end + c.aead.Overhead())
	copy(room, b[:end])
	c.combined.seal(room, hi, iv)
	copy(b[headerLen:], room[headerLen:])
	spare.put(s, at)
}

// Open decrypts into the scratch state, which is to seal again, and seals that to
// know what the check value is.
func (c *shortened) Open(b []byte, hi uint32) bool {
	const text = headerLen + gcmIV
	if len(b) < text+c.icv || c.gone.Load() {
		return false
	}
	s, at := spare.take()
	end := len(b) - c.icv
	whole := end + c.aead.Overhead()
	room := s.room(2 * whole)
	plain, again := room[:whole], room[whole:]
	iv := be.Uint64(b[headerLen:])
	copy(plain, b[:end])
	c.combined.seal(plain, hi, iv)
	copy(again, plain[:end])
	c.combined.seal(again, hi, iv)
	ok := equal(again[end:end+c.icv], b[end:])
	if ok {
		copy(b[text:end], plain[text:])
	}
	clear(plain)
	spare.put(s, at)
	return ok
}
