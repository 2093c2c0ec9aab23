package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"sync/atomic"
)

// combined is ESP with a cipher that authenticates too (RFC 4106, 7634). The
// nonce is the salt and the IV; SPI and sequence number, extended or not, are
// additional data (RFC 4106 §4 and §5).
type combined struct {
	aead cipher.AEAD
	icv  int
	esn  bool
	gone atomic.Bool
	salt [4]byte
}

// combinedIV is the length of the IV in a packet.
const combinedIV = 8

func newCombined(a Algorithm, key []byte, esn bool) (ESP, error) {
	key, salt := key[:len(key)-a.Salt/8], key[len(key)-a.Salt/8:]
	block, err := stdaes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithTagSize(block, max(a.ICVLen, 12))
	if err != nil {
		return nil, err
	}
	c := &combined{aead: aead, icv: a.ICVLen, esn: esn, salt: [4]byte(salt)}
	if c.icv < aead.Overhead() {
		return &shortened{c}, nil
	}
	return c, nil
}

func (c *combined) IVLen() int  { return combinedIV }
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
	c.seal(b, hi, iv)
}

// seal protects b, which ends with room for what the library makes.
func (c *combined) seal(b []byte, hi uint32, iv uint64) {
	const text = headerLen + combinedIV
	end := len(b) - c.aead.Overhead()
	be.PutUint64(b[headerLen:text], iv)
	var nonce [12]byte
	copy(nonce[:4], c.salt[:])
	be.PutUint64(nonce[4:], iv)
	aad := b[:headerLen]
	var long [12]byte
	if c.esn {
		extended(&long, b, hi)
		aad = noescape(long[:])
	}
	c.aead.Seal(b[text:text:len(b)], noescape(nonce[:]), b[text:end], aad)
}

func (c *combined) Open(b []byte, hi uint32) bool {
	const text = headerLen + combinedIV
	if len(b) < text+c.icv || c.gone.Load() {
		return false
	}
	var nonce [12]byte
	copy(nonce[:4], c.salt[:])
	copy(nonce[4:], b[headerLen:text])
	aad := b[:headerLen]
	var long [12]byte
	if c.esn {
		extended(&long, b, hi)
		aad = noescape(long[:])
	}
	_, err := c.aead.Open(b[text:text], noescape(nonce[:]), b[text:], aad)
	return err == nil
}

func (c *combined) Wipe() {
	c.gone.Store(true)
	wipe(c.aead)
	clear(c.salt[:])
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
	s, at := spare.take()
	end := len(b) - c.icv
	room := s.room(end + c.aead.Overhead())
	copy(room, b[:end])
	c.combined.seal(room, hi, iv)
	copy(b[headerLen:], room[headerLen:])
	spare.put(s, at)
}

// Open decrypts into the scratch state, which is to seal again, and seals that to
// know what the check value is.
func (c *shortened) Open(b []byte, hi uint32) bool {
	const text = headerLen + combinedIV
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
