package vm

// Kind is what an algorithm is for.
type Kind int

// The kinds of algorithms.
const (
	Cipher   Kind = iota // of ESP; there may be an Auth beside it
	AEAD                 // of ESP, both in one
	Auth                 // of ESP or AH
	Compress             // of IPComp
)

// Algorithm is one that Linux has, and IPsec's users name.
type Algorithm struct {
	Name   string // as setkey has it
	Kind   Kind
	Linux  string // as ip xfrm has it
	Scapy  string // as scapy has it; empty: it has not
	Keys   []int  // lengths of keys in octets, the shortest first, with the salt at the key's end
	ICV    int    // how long the integrity check value on the wire is, bits
	Module string // what has to be loaded for it
}

// Algorithms is all of them: of ESP RFC 2405, 2410, 2451, 3602, 3686, 4106, 4309, 4543 and 7634,
// of authentication RFC 2403, 2404, 3566, 4494 and 4868, of IPComp RFC 2394.
var Algorithms = []Algorithm{
	{"aes-gcm-8", AEAD, "rfc4106(gcm(aes))", "AES-GCM", []int{20, 28, 36}, 64, "gcm"},
	{"aes-gcm-12", AEAD, "rfc4106(gcm(aes))", "AES-GCM", []int{20, 28, 36}, 96, "gcm"},
	{"aes-gcm-16", AEAD, "rfc4106(gcm(aes))", "AES-GCM", []int{20, 28, 36}, 128, "gcm"},
	{"aes-ccm-8", AEAD, "rfc4309(ccm(aes))", "AES-CCM", []int{19, 27, 35}, 64, "ccm"},
	{"aes-ccm-12", AEAD, "rfc4309(ccm(aes))", "AES-CCM", []int{19, 27, 35}, 96, "ccm"},
	{"aes-ccm-16", AEAD, "rfc4309(ccm(aes))", "AES-CCM", []int{19, 27, 35}, 128, "ccm"},
	{"chacha20-poly1305", AEAD, "rfc7539esp(chacha20,poly1305)", "CHACHA20-POLY1305", []int{36}, 128, "chacha20poly1305"},
	{"aes-gmac", AEAD, "rfc4543(gcm(aes))", "", []int{20, 28, 36}, 128, "gcm"},
	{"aes-cbc", Cipher, "cbc(aes)", "AES-CBC", []int{16, 24, 32}, 0, "authenc"},
	{"aes-ctr", Cipher, "rfc3686(ctr(aes))", "AES-CTR", []int{20, 28, 36}, 0, "ctr"},
	{"null", Cipher, "ecb(cipher_null)", "NULL", []int{0}, 0, "authenc"},
	{"3des-cbc", Cipher, "cbc(des3_ede)", "3DES", []int{24}, 0, "des_generic"},
	{"des-cbc", Cipher, "cbc(des)", "DES", []int{8}, 0, "des_generic"},
	{"blowfish-cbc", Cipher, "cbc(blowfish)", "Blowfish", []int{5, 16, 56}, 0, "blowfish_generic"},
	{"cast128-cbc", Cipher, "cbc(cast5)", "CAST", []int{5, 16}, 0, "cast5_generic"},
	{"twofish-cbc", Cipher, "cbc(twofish)", "", []int{16, 24, 32}, 0, "twofish_generic"},
	{"hmac-md5", Auth, "hmac(md5)", "HMAC-MD5-96", []int{16}, 96, ""},
	{"hmac-sha1", Auth, "hmac(sha1)", "HMAC-SHA1-96", []int{20}, 96, ""},
	{"hmac-sha2-256", Auth, "hmac(sha256)", "SHA2-256-128", []int{32}, 128, ""},
	{"hmac-sha2-384", Auth, "hmac(sha384)", "SHA2-384-192", []int{48}, 192, "sha512_generic"},
	{"hmac-sha2-512", Auth, "hmac(sha512)", "SHA2-512-256", []int{64}, 256, "sha512_generic"},
	{"aes-xcbc-mac", Auth, "xcbc(aes)", "", []int{16}, 96, "xcbc"},
	{"aes-cmac", Auth, "cmac(aes)", "AES-CMAC-96", []int{16}, 96, "cmac"},
	{"deflate", Compress, "deflate", "", []int{0}, 0, ""},
}

// ByName finds an algorithm, nil if there is none.
func ByName(name string) *Algorithm {
	for i := range Algorithms {
		if Algorithms[i].Name == name {
			return &Algorithms[i]
		}
	}
	return nil
}

// Alg is an algorithm and the key for it.
type Alg struct {
	Name string
	Key  []byte
}

// NewAlg has a key of that many octets; another one for every seed, the same every time.
func NewAlg(name string, octets int, seed byte) Alg {
	a := Alg{Name: name, Key: make([]byte, octets)}
	x := uint32(seed)*2654435761 + uint32(octets) + 1
	for i := range a.Key {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		a.Key[i] = byte(x >> 8)
	}
	return a
}
