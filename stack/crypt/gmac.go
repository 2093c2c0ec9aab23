package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
)

// unencrypted is ESP with AES-GMAC (RFC 4543 §3): all of the packet is additional
// data, the high half of an extended sequence number between SPI and low half.
type unencrypted struct{ *combined }

func (c *unencrypted) Seal(b []byte, hi uint32, iv uint64) {
	if c.gone.Load() {
		clear(b[headerLen:])
		return
	}
	mustAlign(len(b)-headerLen-gcmIV-gcmTag, 4)
	be.PutUint64(b[headerLen:], iv)
	var tag [gcmTag]byte
	c.tag(&tag, b, hi)
	copy(b[len(b)-gcmTag:], tag[:])
}

func (c *unencrypted) Open(b []byte, hi uint32) bool {
	if len(b) < headerLen+gcmIV+gcmTag || c.gone.Load() {
		return false
	}
	var tag, is [gcmTag]byte
	copy(is[:], b[len(b)-gcmTag:])
	c.tag(&tag, b, hi)
	return equal(tag[:], is[:])
}

// tag makes the check value of b. The room for it there makes way for the high
// half of the sequence number, and is overwritten then.
func (c *unencrypted) tag(tag *[gcmTag]byte, b []byte, hi uint32) {
	end := len(b) - gcmTag
	nonce := c.nonce
	copy(nonce[c.salt:], b[headerLen:headerLen+gcmIV])
	if !c.esn {
		c.aead.Seal(noescape(tag[:])[:0], noescape(nonce[:]), nil, b[:end])
		return
	}
	copy(b[8:end+4], b[4:end])
	be.PutUint32(b[4:], hi)
	c.aead.Seal(noescape(tag[:])[:0], noescape(nonce[:]), nil, b[:end+4])
	copy(b[4:end], b[8:end+4])
}

// gcmMAC is AES-GMAC of AH (RFC 4543 §4).
type gcmMAC struct {
	aead cipher.AEAD
	salt [4]byte
}

func newGCMMAC(key []byte) (*gcmMAC, error) {
	key, salt := key[:len(key)-4], key[len(key)-4:]
	block, err := stdaes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	wipe(block) // which GCM has copied
	return &gcmMAC{aead, [4]byte(salt)}, err
}

// sum is IV and tag, in s. The library wants all that is authenticated in one
// piece, so the parts are put together there.
func (m *gcmMAC) sum(s *scratch, iv uint64, parts [][]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	room := s.room(n)
	n = 0
	for _, p := range parts {
		n += copy(room[n:], p)
	}
	nonce := s.block[:len(m.salt)+gcmIV]
	copy(nonce, m.salt[:])
	be.PutUint64(nonce[len(m.salt):], iv)
	be.PutUint64(s.sum[:], iv)
	return m.aead.Seal(s.sum[:gcmIV], nonce, nil, room)
}

func (m *gcmMAC) wipe() {
	wipe(m.aead)
	clear(m.salt[:])
}
