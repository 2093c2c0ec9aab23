package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// blockMAC is AES in cipher block chaining mode with a last block that is masked:
// AES-XCBC-MAC (RFC 3566 §4) and AES-CMAC (RFC 4493 §2.4) differ in where the
// masks come from.
type blockMAC struct {
	block         cipher.Block
	whole, padded [stdaes.BlockSize]byte // masks of a last block that is full, and of one that is not
}

// newXCBC is RFC 3566 §4: three keys, each the encryption of a constant.
func newXCBC(key []byte) (*blockMAC, error) {
	block, err := stdaes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var keys [3][stdaes.BlockSize]byte
	for i := range keys {
		for j := range keys[i] {
			keys[i][j] = byte(i + 1)
		}
		block.Encrypt(keys[i][:], keys[i][:])
	}
	wipe(block)
	m := &blockMAC{whole: keys[1], padded: keys[2]}
	m.block, err = stdaes.NewCipher(keys[0][:])
	return m, err
}

// newCMAC is RFC 4493 §2.3: the masks are the encryption of zeros, doubled once
// and twice.
func newCMAC(key []byte) (*blockMAC, error) {
	block, err := stdaes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	m := &blockMAC{block: block}
	block.Encrypt(m.whole[:], m.whole[:])
	double(&m.whole)
	m.padded = m.whole
	double(&m.padded)
	return m, nil
}

// double multiplies by x in the field of RFC 4493 §2.3, in constant time.
func double(b *[stdaes.BlockSize]byte) {
	hi, lo := be.Uint64(b[:8]), be.Uint64(b[8:])
	carry := -(hi >> 63) & 0x87
	be.PutUint64(b[:8], hi<<1|lo>>63)
	be.PutUint64(b[8:], lo<<1^carry)
}

// sum is the untruncated value, in s.
func (m *blockMAC) sum(s *scratch, parts [][]byte) []byte {
	const size = stdaes.BlockSize
	x, last, n := s.sum[:size], s.block[:size], 0
	clear(x)
	for _, p := range parts {
		for len(p) > 0 {
			if n == size { // there is more, so it was not the last
				m.chain(x, last)
				n = 0
			}
			for ; n == 0 && len(p) > size; p = p[size:] {
				m.chain(x, p[:size])
			}
			c := copy(last[n:], p)
			n, p = n+c, p[c:]
		}
	}
	mask := &m.whole
	if n < size {
		mask = &m.padded
		last[n] = 0x80
		clear(last[n+1:])
	}
	subtle.XORBytes(last, last, mask[:])
	m.chain(x, last)
	clear(last)
	return x
}

func (m *blockMAC) chain(x, b []byte) {
	subtle.XORBytes(x, x, b)
	m.block.Encrypt(x, x)
}

func (m *blockMAC) wipe() {
	wipe(m.block)
	clear(m.whole[:])
	clear(m.padded[:])
}
