// Package crypt has the algorithms of ESP, AH and IPComp as transforms over
// octets. It knows no packets and no security associations: who calls has laid
// the octets out, and numbers them.
//
// A transform expands its keys once and may be used by many goroutines at once:
// it holds nothing that a packet changes. What a packet needs beside it is taken
// from a set of scratch states that all transforms share (scratch.go), or lies on
// the caller's stack (noescape.go).
package crypt

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// headerLen is SPI and sequence number (RFC 4303 §2).
const headerLen = 8

// ESP protects and opens the packets of one security association (RFC 4303 §2).
// All methods but Wipe may be called by many goroutines at once.
type ESP interface {
	// IVLen is how many octets of IV stand behind the header.
	IVLen() int
	// Align is what the length of plaintext and trailer is a multiple of, at least 4.
	Align() int
	// ICVLen is how many octets the check value at the end has.
	ICVLen() int
	// Seal protects b in place: the packet from its SPI on, that is 8 octets of
	// header, IVLen octets of room for the IV, the plaintext with its trailer, a
	// multiple of Align, and ICVLen octets of room. hi is the high half of the
	// sequence number, which only associations with extended numbers look at.
	// iv is a number that was never used with this key, as the full sequence
	// number is: it is the IV of counter modes, and makes that of CBC (ivOf).
	// Another length of b is the caller's fault and panics.
	Seal(b []byte, hi uint32, iv uint64)
	// Open checks b, as Seal has left it, and decrypts it in place; what is between
	// IV and ICV is then the plaintext with its trailer. False says that the check
	// value is wrong or the length impossible, and b is of no use any more.
	Open(b []byte, hi uint32) bool
	// Wipe overwrites the keys. No other call may run meanwhile; after it Open
	// opens nothing, and Seal leaves zeros.
	Wipe()
}

// NewESP is the transform of an association with the encryption algorithm ealg
// (SADB_EALG_*) and the authentication algorithm aalg (SADB_AALG_*; 0 or
// SADB_X_AALG_NULL for none). Salts and nonces stand at the end of ekey, as RFC
// 4106 §8.1 has it. esn says that sequence numbers are of 64 bits (RFC 4303 §2.2.1).
// The keys are copied.
func NewESP(ealg uint8, ekey []byte, aalg uint8, akey []byte, esn bool) (ESP, error) {
	e, ok := EalgByNumber(ealg)
	if !ok {
		return nil, fmt.Errorf("esp: encryption algorithm %d is not known; known are %s", ealg, names(ealgs))
	}
	if err := e.CheckKey(ekey); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	if e.AEAD {
		if aalg != AalgNone && aalg != AalgNull {
			return nil, fmt.Errorf("esp: %s authenticates by itself; it takes no authentication algorithm beside it", e.Name)
		}
		return newCombined(e, ekey, esn)
	}
	var auth *Auth
	if aalg != AalgNone && aalg != AalgNull {
		var err error
		if auth, err = NewAuth(aalg, akey); err != nil {
			return nil, fmt.Errorf("esp: %w", err)
		}
		if auth.IVLen() != 0 {
			return nil, fmt.Errorf("esp: %s is for AH; ESP has it as the encryption algorithm aes-gmac (%d)", auth.name, EalgAESGMAC)
		}
	}
	if ealg == EalgNull && auth == nil {
		return nil, fmt.Errorf("esp: null encryption protects nothing without an authentication algorithm (RFC 4303 §3.2)")
	}
	s, err := newSeparate(e, ekey, auth, esn)
	if err != nil && auth != nil {
		auth.Wipe()
	}
	return s, err
}

// aligned reports whether n octets of ciphertext are whole blocks.
func aligned(n, block int) bool { return n&(block-1) == 0 }

// mustAlign is for the caller of Seal.
func mustAlign(n, align int) {
	if n < 0 || !aligned(n, align) {
		panic("crypt: the plaintext is not a multiple of Align")
	}
}

// equal compares check values in constant time.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

var be = binary.BigEndian
