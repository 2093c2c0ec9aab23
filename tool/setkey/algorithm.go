package setkey

import (
	"fmt"
	"strings"

	"ionet/protocol"
)

// algorithm is a name that the language has. The first of a number is the one
// that dumps print.
type algorithm struct {
	name   string
	number uint8
	nokey  bool
	bits   int    // that its key has; 0 what the stack takes
	aead   bool   // it authenticates too, and so -A is too much
	flags  uint32 // that come with it
	weak   bool
}

var ealgs = []algorithm{
	{name: "none", number: protocol.SADBEalgNone, nokey: true},
	{name: "des-cbc", number: protocol.SADBEalgDESCBC, weak: true},
	{name: "des-deriv", number: protocol.SADBEalgDESCBC, flags: protocol.SADBXExtDeriv, weak: true},
	{name: "des-32iv", number: protocol.SADBEalgDESCBC, flags: protocol.SADBXExtIV4B, weak: true},
	{name: "3des-cbc", number: protocol.SADBEalg3DESCBC, weak: true},
	{name: "null", number: protocol.SADBEalgNull, nokey: true},
	{name: "simple", number: protocol.SADBEalgNull, nokey: true},
	{name: "blowfish-cbc", number: protocol.SADBEalgBlowfishCBC, weak: true},
	{name: "cast128-cbc", number: protocol.SADBEalgCAST128CBC, weak: true},
	{name: "twofish-cbc", number: protocol.SADBEalgTwofishCBC, weak: true},
	{name: "rijndael-cbc", number: protocol.SADBEalgAES},
	{name: "aes-cbc", number: protocol.SADBEalgAES},
	{name: "aes-ctr", number: protocol.SADBEalgAESCTR},
	{name: "aes-ccm-8", number: protocol.SADBEalgAESCCM8, aead: true},
	{name: "aes-ccm-12", number: protocol.SADBEalgAESCCM12, aead: true},
	{name: "aes-ccm-16", number: protocol.SADBEalgAESCCM16, aead: true},
	{name: "aes-ccm", number: protocol.SADBEalgAESCCM16, aead: true},
	{name: "aes-gcm-8", number: protocol.SADBEalgAESGCM8, aead: true},
	{name: "aes-gcm-12", number: protocol.SADBEalgAESGCM12, aead: true},
	{name: "aes-gcm-16", number: protocol.SADBEalgAESGCM16, aead: true},
	{name: "aes-gcm", number: protocol.SADBEalgAESGCM16, aead: true},
	{name: "aes-gmac", number: protocol.SADBEalgAESGMAC, aead: true},
	{name: "chacha20-poly1305", number: protocol.SADBEalgChaCha20Poly1305, aead: true},
	// What racoon and racoon2 call them.
	{name: "des", number: protocol.SADBEalgDESCBC, weak: true},
	{name: "3des", number: protocol.SADBEalg3DESCBC, weak: true},
	{name: "blowfish", number: protocol.SADBEalgBlowfishCBC, weak: true},
	{name: "cast128", number: protocol.SADBEalgCAST128CBC, weak: true},
	{name: "twofish", number: protocol.SADBEalgTwofishCBC, weak: true},
	{name: "null-enc", number: protocol.SADBEalgNull, nokey: true},
	{name: "aes", number: protocol.SADBEalgAES},
	{name: "rijndael", number: protocol.SADBEalgAES},
	{name: "aes128-cbc", number: protocol.SADBEalgAES, bits: 128},
	{name: "aes192-cbc", number: protocol.SADBEalgAES, bits: 192},
	{name: "aes256-cbc", number: protocol.SADBEalgAES, bits: 256},
}

var aalgs = []algorithm{
	{name: "none", number: protocol.SADBAalgNone, nokey: true},
	{name: "hmac-md5", number: protocol.SADBAalgMD5HMAC, weak: true},
	{name: "hmac-sha1", number: protocol.SADBAalgSHA1HMAC},
	{name: "md5", number: protocol.SADBAalgMD5, weak: true},
	{name: "keyed-md5", number: protocol.SADBAalgMD5, weak: true},
	{name: "sha", number: protocol.SADBAalgSHA, weak: true},
	{name: "keyed-sha1", number: protocol.SADBAalgSHA, weak: true},
	{name: "null", number: protocol.SADBAalgNull, nokey: true},
	{name: "hmac-sha2-256", number: protocol.SADBAalgSHA2256},
	{name: "hmac-sha256", number: protocol.SADBAalgSHA2256},
	{name: "hmac-sha2-384", number: protocol.SADBAalgSHA2384},
	{name: "hmac-sha384", number: protocol.SADBAalgSHA2384},
	{name: "hmac-sha2-512", number: protocol.SADBAalgSHA2512},
	{name: "hmac-sha512", number: protocol.SADBAalgSHA2512},
	{name: "aes-xcbc-mac", number: protocol.SADBAalgAESXCBC},
	{name: "aes-cmac", number: protocol.SADBAalgAESCMAC},
	{name: "aes128-gmac", number: protocol.SADBAalgAES128GMAC},
	{name: "aes192-gmac", number: protocol.SADBAalgAES192GMAC},
	{name: "aes256-gmac", number: protocol.SADBAalgAES256GMAC},
	// What racoon2 and FreeBSD's netstat call them.
	{name: "aes-xcbc", number: protocol.SADBAalgAESXCBC},
	{name: "aes-gmac-128", number: protocol.SADBAalgAES128GMAC},
	{name: "aes-gmac-192", number: protocol.SADBAalgAES192GMAC},
	{name: "aes-gmac-256", number: protocol.SADBAalgAES256GMAC},
}

var calgs = []algorithm{
	{name: "none", number: protocol.SADBCalgNone},
	{name: "oui", number: protocol.SADBCalgOUI},
	{name: "deflate", number: protocol.SADBCalgDeflate},
	{name: "lzs", number: protocol.SADBCalgLZS},
}

// find looks a name up that a statement may have, with - or as racoon2 with _.
func find(list []algorithm, name string) (algorithm, bool) {
	name = strings.ReplaceAll(name, "_", "-")
	for _, a := range list[1:] {
		if a.name == name {
			return a, true
		}
	}
	return algorithm{}, false
}

// nameOf is a number's name, or the number.
func nameOf(list []algorithm, n uint8) string {
	for _, a := range list {
		if a.number == n {
			return a.name
		}
	}
	return fmt.Sprint(n)
}

// names are those of a list that statements may have.
func names(list []algorithm) (s string) {
	for i, a := range list[1:] {
		if i > 0 {
			s += ", "
		}
		s += a.name
	}
	return s
}

// supported are the algorithms of a stack, as its reply to REGISTER has them;
// nil before it was asked.
type supported []protocol.KeyAlg

// check says what is wrong with a key of so many bits. What the stack has not
// told of is its own to judge.
func (s supported) check(a algorithm, bits int) string {
	if s == nil || a.nokey {
		return ""
	}
	for _, x := range s {
		switch {
		case x.ID != a.number:
		case x.MinBits == x.MaxBits && bits != int(x.MinBits):
			return fmt.Sprintf("%s: a key of %d bits, %d are right", a.name, bits, x.MinBits)
		case bits < int(x.MinBits), bits > int(x.MaxBits):
			return fmt.Sprintf("%s: a key of %d bits, %d to %d are right", a.name, bits, x.MinBits, x.MaxBits)
		default:
			return ""
		}
	}
	return a.name + " is not there in this stack"
}
