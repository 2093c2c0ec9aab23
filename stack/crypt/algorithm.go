package crypt

import (
	"fmt"
	"slices"
	"strings"
)

// Numbers of encryption algorithms in PF_KEY (SADB_EALG_*, SADB_X_EALG_*): RFC
// 2367 §3.5, and the ESP transform numbers of IANA for what came later.
const (
	EalgNone             uint8 = 0
	EalgDESCBC           uint8 = 2
	Ealg3DESCBC          uint8 = 3
	EalgCAST128CBC       uint8 = 6
	EalgBlowfishCBC      uint8 = 7
	EalgNull             uint8 = 11
	EalgAESCBC           uint8 = 12
	EalgAESCTR           uint8 = 13
	EalgAESCCM8          uint8 = 14
	EalgAESCCM12         uint8 = 15
	EalgAESCCM16         uint8 = 16
	EalgAESGCM8          uint8 = 18
	EalgAESGCM12         uint8 = 19
	EalgAESGCM16         uint8 = 20
	EalgAESGMAC          uint8 = 21
	EalgChaCha20Poly1305 uint8 = 28
	EalgTwofishCBC       uint8 = 253
)

// Numbers of authentication algorithms in PF_KEY (SADB_AALG_*, SADB_X_AALG_*).
// Nobody else has one for AES-CMAC; ours is of RFC 2407's private range.
const (
	AalgNone       uint8 = 0
	AalgHMACMD5    uint8 = 2
	AalgHMACSHA1   uint8 = 3
	AalgHMACSHA256 uint8 = 5
	AalgHMACSHA384 uint8 = 6
	AalgHMACSHA512 uint8 = 7
	AalgAESXCBC    uint8 = 9
	AalgAES128GMAC uint8 = 11
	AalgAES192GMAC uint8 = 12
	AalgAES256GMAC uint8 = 13
	AalgKeyedMD5   uint8 = 249
	AalgKeyedSHA1  uint8 = 250
	AalgNull       uint8 = 251
	AalgAESCMAC    uint8 = 254
)

// Numbers of compression algorithms in PF_KEY (SADB_X_CALG_*), which are
// IPComp's transform numbers.
const (
	CalgNone    uint8 = 0
	CalgDeflate uint8 = 2
	CalgLZS     uint8 = 3
)

// Algorithm describes one of them, as PF_KEY REGISTER tells of it and as setkey
// names it.
type Algorithm struct {
	Number  uint8
	Name    string   // as setkey -D prints it
	Aliases []string // what else setkey reads
	Keys    []int    // lengths of key that are right, in bits, salt included; nil: any from MinBits to MaxBits in whole octets
	MinBits int
	MaxBits int
	Salt    int  // of these bits, so many at the end are a salt or nonce
	IVLen   int  // octets of IV in a packet
	ICVLen  int  // octets of check value; 0 for encryption alone
	AEAD    bool // encrypts and authenticates
	Weak    bool // broken, or with blocks too short: for old configurations only
}

// CheckKey says what is wrong with the length of key, and what would be right.
func (a Algorithm) CheckKey(key []byte) error {
	bits := len(key) * 8
	if bits < a.MinBits || bits > a.MaxBits || a.Keys != nil && !slices.Contains(a.Keys, bits) {
		return fmt.Errorf("%s: a key of %d bits; %s", a.Name, bits, a.keys())
	}
	return nil
}

// keys says which lengths are right.
func (a Algorithm) keys() string {
	salt := ""
	if a.Salt > 0 {
		salt = fmt.Sprintf(", of which the last %d are the salt", a.Salt)
	}
	switch {
	case a.MaxBits == 0:
		return "it takes none"
	case a.Keys == nil && a.MinBits != a.MaxBits:
		return fmt.Sprintf("%d to %d are right%s", a.MinBits, a.MaxBits, salt)
	case a.Keys == nil:
		return fmt.Sprintf("%d are right%s", a.MinBits, salt)
	}
	var s []string
	for _, k := range a.Keys {
		s = append(s, fmt.Sprint(k))
	}
	if len(s) == 1 {
		return s[0] + " are right" + salt
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1] + " are right" + salt
}

func aesKeys(salt int) []int { return []int{128 + salt, 192 + salt, 256 + salt} }

func aes(number uint8, name string, salt, iv, icv int, aead bool, aliases ...string) Algorithm {
	return Algorithm{
		Number: number, Name: name, Aliases: aliases, Keys: aesKeys(salt), MinBits: 128 + salt, MaxBits: 256 + salt,
		Salt: salt, IVLen: iv, ICVLen: icv, AEAD: aead,
	}
}

var ealgs = []Algorithm{
	{Number: EalgDESCBC, Name: "des-cbc", MinBits: 64, MaxBits: 64, IVLen: 8, Weak: true},
	{Number: Ealg3DESCBC, Name: "3des-cbc", MinBits: 192, MaxBits: 192, IVLen: 8, Weak: true},
	{Number: EalgCAST128CBC, Name: "cast128-cbc", MinBits: 128, MaxBits: 128, IVLen: 8, Weak: true},
	{Number: EalgBlowfishCBC, Name: "blowfish-cbc", MinBits: 40, MaxBits: 448, IVLen: 8, Weak: true},
	{Number: EalgNull, Name: "null", Aliases: []string{"simple"}, MaxBits: 2048},
	aes(EalgAESCBC, "rijndael-cbc", 0, 16, 0, false, "aes-cbc"),
	aes(EalgAESCTR, "aes-ctr", 32, 8, 0, false),
	aes(EalgAESCCM8, "aes-ccm-8", 24, 8, 8, true),
	aes(EalgAESCCM12, "aes-ccm-12", 24, 8, 12, true),
	aes(EalgAESCCM16, "aes-ccm-16", 24, 8, 16, true, "aes-ccm"),
	aes(EalgAESGCM8, "aes-gcm-8", 32, 8, 8, true),
	aes(EalgAESGCM12, "aes-gcm-12", 32, 8, 12, true),
	aes(EalgAESGCM16, "aes-gcm-16", 32, 8, 16, true, "aes-gcm"),
	aes(EalgAESGMAC, "aes-gmac", 32, 8, 16, true),
	{Number: EalgChaCha20Poly1305, Name: "chacha20-poly1305", MinBits: 288, MaxBits: 288, Salt: 32, IVLen: 8, ICVLen: 16, AEAD: true},
	{Number: EalgTwofishCBC, Name: "twofish-cbc", Keys: aesKeys(0), MinBits: 128, MaxBits: 256, IVLen: 16, Weak: true},
}

var aalgs = []Algorithm{
	{Number: AalgHMACMD5, Name: "hmac-md5", MinBits: 128, MaxBits: 128, ICVLen: 12, Weak: true},
	{Number: AalgHMACSHA1, Name: "hmac-sha1", MinBits: 160, MaxBits: 160, ICVLen: 12},
	{Number: AalgHMACSHA256, Name: "hmac-sha2-256", Aliases: []string{"hmac-sha256"}, MinBits: 256, MaxBits: 256, ICVLen: 16},
	{Number: AalgHMACSHA384, Name: "hmac-sha2-384", Aliases: []string{"hmac-sha384"}, MinBits: 384, MaxBits: 384, ICVLen: 24},
	{Number: AalgHMACSHA512, Name: "hmac-sha2-512", Aliases: []string{"hmac-sha512"}, MinBits: 512, MaxBits: 512, ICVLen: 32},
	{Number: AalgAESXCBC, Name: "aes-xcbc-mac", MinBits: 128, MaxBits: 128, ICVLen: 12},
	gmac(AalgAES128GMAC, "aes128-gmac", 160),
	gmac(AalgAES192GMAC, "aes192-gmac", 224),
	gmac(AalgAES256GMAC, "aes256-gmac", 288),
	{Number: AalgKeyedMD5, Name: "keyed-md5", Aliases: []string{"md5"}, MinBits: 128, MaxBits: 128, ICVLen: 12, Weak: true},
	{Number: AalgKeyedSHA1, Name: "keyed-sha1", Aliases: []string{"sha"}, MinBits: 160, MaxBits: 160, ICVLen: 12, Weak: true},
	{Number: AalgNull, Name: "null", MaxBits: 2048},
	{Number: AalgAESCMAC, Name: "aes-cmac", MinBits: 128, MaxBits: 128, ICVLen: 12},
}

// gmac is for AH, whose check value begins with the IV (RFC 4543 §4).
func gmac(number uint8, name string, bits int) Algorithm {
	return Algorithm{Number: number, Name: name, MinBits: bits, MaxBits: bits, Salt: 32, IVLen: gcmIV, ICVLen: gcmIV + gcmTag}
}

var calgs = []Algorithm{{Number: CalgDeflate, Name: "deflate"}}

// Ealgs are the encryption algorithms, by number.
func Ealgs() []Algorithm { return slices.Clone(ealgs) }

// Aalgs are the authentication algorithms, by number.
func Aalgs() []Algorithm { return slices.Clone(aalgs) }

// Calgs are the compression algorithms, by number.
func Calgs() []Algorithm { return slices.Clone(calgs) }

// EalgByNumber is the encryption algorithm of a number of PF_KEY.
func EalgByNumber(n uint8) (Algorithm, bool) { return byNumber(ealgs, n) }

// AalgByNumber is the authentication algorithm of a number of PF_KEY.
func AalgByNumber(n uint8) (Algorithm, bool) { return byNumber(aalgs, n) }

// CalgByNumber is the compression algorithm of a number of PF_KEY.
func CalgByNumber(n uint8) (Algorithm, bool) { return byNumber(calgs, n) }

// EalgByName is the encryption algorithm that setkey calls name.
func EalgByName(name string) (Algorithm, bool) { return byName(ealgs, name) }

// AalgByName is the authentication algorithm that setkey calls name.
func AalgByName(name string) (Algorithm, bool) { return byName(aalgs, name) }

// CalgByName is the compression algorithm that setkey calls name.
func CalgByName(name string) (Algorithm, bool) { return byName(calgs, name) }

func byNumber(list []Algorithm, n uint8) (Algorithm, bool) {
	return find(list, func(a *Algorithm) bool { return a.Number == n })
}

func byName(list []Algorithm, name string) (Algorithm, bool) {
	return find(list, func(a *Algorithm) bool { return a.Name == name || slices.Contains(a.Aliases, name) })
}

func find(list []Algorithm, is func(*Algorithm) bool) (Algorithm, bool) {
	for i := range list {
		if is(&list[i]) {
			return list[i], true
		}
	}
	return Algorithm{}, false
}

// names of the list, for messages.
func names(list []Algorithm) string {
	var s []string
	for _, a := range list {
		s = append(s, fmt.Sprintf("%s (%d)", a.Name, a.Number))
	}
	return strings.Join(s, ", ")
}
