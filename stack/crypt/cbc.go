package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

// cbc is a block cipher in cipher block chaining mode (RFC 2405, 2451, 3602). It
// works in place and from the packet alone: what a block is chained to stands
// before it, the first one's IV included.
type cbc struct {
	block cipher.Block
	// ivs makes IVs, under a key of its own.
	ivs  cipher.Block
	size int
}

func newCBC(a Algorithm, key []byte) (*cbc, error) {
	block, err := newBlock(a, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Name, err)
	}
	// An IV must not be known before the packet is (SP 800-38A appendix C). The
	// first method there is to encrypt a number that is used once; under the
	// packets' own key it would be of the length of their blocks, and tell what
	// the cipher makes of a block that somebody may get it to encrypt. So this
	// one is AES under HMAC-SHA-256(key, "ionet: IVs of CBC").
	m := hmac.New(sha256.New, key)
	m.Write([]byte("ionet: IVs of CBC"))
	own := m.Sum(nil)
	ivs, err := stdaes.NewCipher(own[:16])
	if err != nil {
		return nil, err
	}
	clear(own)
	wipe(m)
	return &cbc{block: block, ivs: ivs, size: block.BlockSize()}, nil
}

func (c *cbc) ivLen() int     { return c.size }
func (c *cbc) blockSize() int { return c.size }

// setIV encrypts SPI and n: keys that serve both ways, as in files written by
// hand, still have different IVs each way. Blocks of 8 octets take the first half.
func (c *cbc) setIV(b []byte, n uint64) {
	var iv [stdaes.BlockSize]byte
	copy(iv[:4], b[:4])
	be.PutUint64(iv[8:], n)
	c.ivs.Encrypt(noescape(iv[:]), noescape(iv[:]))
	copy(b[headerLen:headerLen+c.size], iv[:])
}

func (c *cbc) encrypt(b []byte, text, end int) {
	for n := c.size; text < end; text += n {
		block := b[text : text+n]
		subtle.XORBytes(block, block, b[text-n:text])
		c.block.Encrypt(block, block)
	}
}

// decrypt begins at the end: what a block is chained to must still be there.
func (c *cbc) decrypt(b []byte, text, end int) {
	for n, at := c.size, end-c.size; at >= text; at -= n {
		block := b[at : at+n]
		c.block.Decrypt(block, block)
		subtle.XORBytes(block, block, b[at-n:at])
	}
}

func (c *cbc) wipe() {
	wipe(c.block)
	wipe(c.ivs)
}
