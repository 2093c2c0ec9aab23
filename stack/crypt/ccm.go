package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
)

// ccm is AES-CCM with nonces of 11 octets, and so with lengths of 4 (RFC 4309 §2),
// in the form of the library's ciphers as far as combined uses them: what is
// sealed and opened lies in place, and additional data is short.
type ccm struct {
	counter
	tag int
}

const (
	ccmNonce  = 11
	ccmLength = 15 - ccmNonce
)

func newCCM(block cipher.Block, tag int) (*ccm, error) {
	c, err := newCounter(block)
	return &ccm{c, tag}, err
}

func (c *ccm) NonceSize() int { return ccmNonce }
func (c *ccm) Overhead() int  { return c.tag }

var errCCM = errors.New("crypt: message authentication failed")

// nonce12 is what stands before the counters (RFC 3610 §2.3).
func nonce12(nonce []byte) (n [12]byte) {
	n[0] = ccmLength - 1
	copy(n[1:], nonce)
	return n
}

func (c *ccm) Seal(dst, nonce, text, aad []byte) []byte {
	n := nonce12(nonce)
	b := dst[:len(dst)+len(text)+c.tag]
	var tag [stdaes.BlockSize]byte
	c.mac(&tag, &n, text, aad)
	end := len(b) - c.tag
	c.stream(b, len(dst), end, &n)
	copy(b[end:], tag[:])
	return b
}

func (c *ccm) Open(dst, nonce, text, aad []byte) ([]byte, error) {
	if len(text) < c.tag {
		return nil, errCCM
	}
	n := nonce12(nonce)
	end := len(text) - c.tag
	var is, tag [stdaes.BlockSize]byte
	copy(is[:], text[end:])
	c.stream(text, 0, end, &n)
	c.mac(&tag, &n, text[:end], aad)
	if !equal(is[:c.tag], tag[:c.tag]) {
		clear(text[:end])
		return nil, errCCM
	}
	return dst[:len(dst)+end], nil
}

// mac makes the encrypted tag (RFC 3610 §2.2 and §2.3). aad is not empty, and with
// its length it fits into a block.
func (c *ccm) mac(x *[stdaes.BlockSize]byte, nonce *[12]byte, text, aad []byte) {
	const size = stdaes.BlockSize
	var b [size]byte
	*x = [size]byte{0: 1<<6 | byte(c.tag-2)/2<<3 | ccmLength - 1}
	copy(x[1:], nonce[1:])
	be.PutUint32(x[12:], uint32(len(text)))
	c.encrypt(x)
	be.PutUint16(b[:], uint16(len(aad)))
	copy(b[2:], aad)
	subtle.XORBytes(x[:], x[:], b[:])
	c.encrypt(x)
	for len(text) > 0 {
		text = text[subtle.XORBytes(x[:], x[:], text):]
		c.encrypt(x)
	}
	c.one(&b, nonce, 0)
	subtle.XORBytes(x[:], x[:], b[:])
}

// encrypt encrypts a block in place.
func (c *ccm) encrypt(x *[stdaes.BlockSize]byte) { c.block.Encrypt(noescape(x[:]), noescape(x[:])) }
