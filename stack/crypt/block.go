package crypt

//lint:file-ignore SA1019 configurations of old name these ciphers

import (
	stdaes "crypto/aes"
	"crypto/cipher"
	"crypto/des"

	"golang.org/x/crypto/blowfish"
	"golang.org/x/crypto/cast5"
	"golang.org/x/crypto/twofish"
)

// newBlock expands a key.
func newBlock(a Algorithm, key []byte) (cipher.Block, error) {
	switch a.Number {
	case EalgDESCBC:
		return des.NewCipher(key)
	case Ealg3DESCBC:
		return des.NewTripleDESCipher(key)
	case EalgCAST128CBC:
		return cast5.NewCipher(key)
	case EalgBlowfishCBC:
		return blowfish.NewCipher(key)
	case EalgTwofishCBC:
		return twofish.NewCipher(key)
	}
	return stdaes.NewCipher(key)
}
