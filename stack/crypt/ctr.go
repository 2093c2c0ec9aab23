package crypt

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// counter is AES in counter mode. The library's counter mode is an object that
// begins at one counter, a new one for each packet. Its GCM has none, and encrypts
// the same: counters from 2 on, behind 12 octets of nonce (SP 800-38D §7.1). The
// block of counter 1, where RFC 3686 and RFC 4309 begin, is made here, and the
// tag is thrown away.
type counter struct {
	block cipher.Block
	gcm   cipher.AEAD
}

// tagRoom is how many octets behind a text are overwritten if there are as many.
const tagRoom = 12

// slack is what the library's Seal needs behind a text whose length is not a
// multiple of 4: on amd64 it writes its last block whole, past a tag of 12 octets
// (Go 1.26).
const slack = 16

func newCounter(block cipher.Block) (counter, error) {
	gcm, err := cipher.NewGCMWithTagSize(block, tagRoom)
	return counter{block, gcm}, err
}

// one is the encryption of the counter n behind the nonce.
func (c *counter) one(out *[stdaes.BlockSize]byte, nonce *[12]byte, n uint32) {
	copy(out[:], nonce[:])
	be.PutUint32(out[12:], n)
	c.block.Encrypt(noescape(out[:]), noescape(out[:]))
}

// stream encrypts b[from:to], or decrypts it, which is the same.
func (c *counter) stream(b []byte, from, to int, nonce *[12]byte) {
	var first [stdaes.BlockSize]byte
	c.one(&first, nonce, 1)
	from += subtle.XORBytes(b[from:to], b[from:to], first[:])
	if from == to {
		return
	}
	if len(b)-to >= tagRoom && aligned(to-from, 4) {
		c.gcm.Seal(b[from:from], noescape(nonce[:]), b[from:to], nil)
		return
	}
	s, at := spare.take()
	out := c.gcm.Seal(s.room(to - from + slack)[:0], noescape(nonce[:]), b[from:to], nil)
	copy(b[from:to], out)
	clear(out)
	spare.put(s, at)
}

func (c *counter) wipe() {
	wipe(c.block)
	wipe(c.gcm)
}

// ctr is AES-CTR (RFC 3686): the nonce of a packet is that at the end of the key,
// and the IV.
type ctr struct {
	counter
	salt [4]byte
}

func newCTR(key []byte) (*ctr, error) {
	key, salt := key[:len(key)-4], key[len(key)-4:]
	block, err := stdaes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	c, err := newCounter(block)
	return &ctr{c, [4]byte(salt)}, err
}

func (c *ctr) ivLen() int     { return 8 }
func (c *ctr) blockSize() int { return 1 }

func (c *ctr) setIV(b []byte, n uint64) { be.PutUint64(b[headerLen:], n) }

func (c *ctr) encrypt(b []byte, text, end int) {
	var nonce [12]byte
	copy(nonce[:4], c.salt[:])
	copy(nonce[4:], b[text-8:text])
	c.stream(b, text, end, &nonce)
}

func (c *ctr) decrypt(b []byte, text, end int) { c.encrypt(b, text, end) }

func (c *ctr) wipe() {
	c.counter.wipe()
	clear(c.salt[:])
}
