package crypt

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

func TestHMACVectors(t *testing.T) {
	long := func(b byte, n int) string { return strings.Repeat(string([]byte{b}), n) }
	var counted []byte
	for i := range 25 {
		counted = append(counted, byte(i+1))
	}
	const first, both = "Test Using Larger Than Block-Size Key - Hash Key First", "Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data"
	for _, tc := range []struct {
		aalg           uint8
		key, text, sum string
	}{
		// RFC 2202 §2.
		{AalgHMACMD5, long(0x0b, 16), "Hi There", "9294727a3638bb1c13f48ef8158bfc9d"},
		{AalgHMACMD5, "Jefe", "what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738"},
		{AalgHMACMD5, long(0xaa, 16), long(0xdd, 50), "56be34521d144c88dbb8c733f0e8b3f6"},
		{AalgHMACMD5, string(counted), long(0xcd, 50), "697eaf0aca3a3aea3a75164746ffaa79"},
		{AalgHMACMD5, long(0x0c, 16), "Test With Truncation", "56461ef2342edc00f9bab995690efd4c"},
		{AalgHMACMD5, long(0xaa, 80), first, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"},
		{AalgHMACMD5, long(0xaa, 80), both, "6f630fad67cda0ee1fb1f562db3aa53e"},
		// RFC 2202 §3.
		{AalgHMACSHA1, long(0x0b, 20), "Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"},
		{AalgHMACSHA1, "Jefe", "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{AalgHMACSHA1, long(0xaa, 20), long(0xdd, 50), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
		{AalgHMACSHA1, string(counted), long(0xcd, 50), "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
		{AalgHMACSHA1, long(0x0c, 20), "Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"},
		{AalgHMACSHA1, long(0xaa, 80), first, "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
		{AalgHMACSHA1, long(0xaa, 80), both, "e8e99d0f45237d786d6bbaa7965c7808bbff1a91"},
		// RFC 4231 §4.
		{AalgHMACSHA256, long(0x0b, 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{AalgHMACSHA256, "Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{AalgHMACSHA256, long(0xaa, 20), long(0xdd, 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		{AalgHMACSHA256, string(counted), long(0xcd, 50), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
		{AalgHMACSHA256, long(0xaa, 131), first, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{AalgHMACSHA384, long(0x0b, 20), "Hi There", "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"},
		{AalgHMACSHA384, "Jefe", "what do ya want for nothing?", "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"},
		{AalgHMACSHA384, long(0xaa, 131), first, "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952"},
		{AalgHMACSHA512, long(0x0b, 20), "Hi There", "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"},
		{AalgHMACSHA512, "Jefe", "what do ya want for nothing?", "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
		{AalgHMACSHA512, long(0xaa, 131), first, "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"},
	} {
		a, _ := AalgByNumber(tc.aalg)
		h, err := newAuth(a, []byte(tc.key)) // the vectors' keys are of other lengths than IPsec's
		if err != nil {
			t.Fatal(err)
		}
		want := unhex(t, tc.sum)[:a.ICVLen]
		got := make([]byte, h.ICVLen())
		h.Sum(got, []byte(tc.text)[:5], []byte(tc.text)[5:])
		if !bytes.Equal(got, want) {
			t.Errorf("%s, key %q, %q: %x, want %x", a.Name, tc.key, tc.text, got, want)
		}
		if !h.Verify(want, []byte(tc.text)) || h.Verify(want[:1], []byte(tc.text)) {
			t.Errorf("%s, %q: Verify disagrees", a.Name, tc.text)
		}
	}
}

func TestBlockMACVectors(t *testing.T) {
	const xcbc, cmac = "000102030405060708090a0b0c0d0e0f", "2b7e151628aed2a6abf7158809cf4f3c"
	var counted []byte
	for i := range 34 {
		counted = append(counted, byte(i))
	}
	nist := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for _, tc := range []struct {
		aalg uint8
		key  string
		text []byte
		sum  string
	}{
		// RFC 3566 §4.6.
		{AalgAESXCBC, xcbc, nil, "75f0251d528ac01c4573dfd584d79f29"},
		{AalgAESXCBC, xcbc, counted[:3], "5b376580ae2f19afe7219ceef172756f"},
		{AalgAESXCBC, xcbc, counted[:16], "d2a246fa349b68a79998a4394ff7a263"},
		{AalgAESXCBC, xcbc, counted[:20], "47f51b4564966215b8985c63055ed308"},
		{AalgAESXCBC, xcbc, counted[:32], "f54f0ec8d2b9f3d36807734bd5283fd4"},
		{AalgAESXCBC, xcbc, counted[:34], "becbb3bccdb518a30677d5481fb6b4d8"},
		{AalgAESXCBC, xcbc, make([]byte, 1000), "f0dafee895db30253761103b5d84528f"},
		// RFC 4493 §4.
		{AalgAESCMAC, cmac, nil, "bb1d6929e95937287fa37d129b756746"},
		{AalgAESCMAC, cmac, nist[:16], "070a16b46b4d4144f79bdd9dd04a287c"},
		{AalgAESCMAC, cmac, nist[:40], "dfa66747de9ae63030ca32611497c827"},
		{AalgAESCMAC, cmac, nist, "51f0bebf7e3b9d92fc49741779363cfe"},
	} {
		m, err := NewAuth(tc.aalg, unhex(t, tc.key))
		if err != nil {
			t.Fatal(err)
		}
		want := unhex(t, tc.sum)[:12]
		for cut := range len(tc.text) + 1 {
			got := make([]byte, 12)
			m.Sum(got, tc.text[:cut/2], tc.text[cut/2:cut], nil, tc.text[cut:])
			if !bytes.Equal(got, want) {
				t.Fatalf("%s of %d octets, cut at %d and %d: %x, want %x", m.name, len(tc.text), cut/2, cut, got, want)
			}
		}
	}
}

// What is hashed is spelled out here, with keys whose fill takes the rest of one
// block, and one block more (RFC 1828, RFC 1852).
func TestKeyed(t *testing.T) {
	text := []byte("what do ya want for nothing?")
	for _, n := range []int{16, 55, 56, 64, 100} {
		key := bytes.Repeat([]byte{0x5a}, n)
		fill := append(bytes.Clone(key), 0x80)
		for len(fill)%64 != 56 {
			fill = append(fill, 0)
		}
		little := binary.LittleEndian.AppendUint64(bytes.Clone(fill), uint64(n)*8)
		big := binary.BigEndian.AppendUint64(bytes.Clone(fill), uint64(n)*8)
		m := md5.Sum(append(append(little, text...), key...))
		s := sha1.Sum(append(append(big, text...), key...))
		for _, tc := range []struct {
			aalg uint8
			want []byte
		}{{AalgKeyedMD5, m[:12]}, {AalgKeyedSHA1, s[:12]}} {
			alg, _ := AalgByNumber(tc.aalg)
			a, err := newAuth(alg, key)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 12)
			if a.Sum(got, text); !bytes.Equal(got, tc.want) {
				t.Errorf("%s, key of %d octets: %x, want %x", alg.Name, n, got, tc.want)
			}
		}
	}
}

func TestCMACWycheproof(t *testing.T) {
	checkMACs(t, "wycheproof/aes_cmac_test.json", func(g macGroup) int {
		if g.KeySize != 128 || g.TagSize != 128 {
			return 0
		}
		return 12
	}, func(key []byte) (*Auth, error) { return NewAuth(AalgAESCMAC, key) })
}

func TestGMACWycheproof(t *testing.T) {
	var v struct {
		TestGroups []struct {
			IVSize, TagSize int
			Tests           []struct {
				TcID              int
				Key, IV, Msg, Tag octets
				Result            string
			}
		}
	}
	if !data(t, "wycheproof/aes_gmac_test.json", &v) {
		return
	}
	for _, g := range v.TestGroups {
		if g.IVSize != 96 || g.TagSize != 128 {
			continue
		}
		for _, tc := range g.Tests {
			aalg := map[int]uint8{16: AalgAES128GMAC, 24: AalgAES192GMAC, 32: AalgAES256GMAC}[len(tc.Key)]
			a, err := NewAuth(aalg, append(tc.Key, tc.IV[:4]...))
			if err != nil {
				t.Fatal(err)
			}
			icv := append(bytes.Clone(tc.IV[4:]), tc.Tag...)
			if got := a.Verify(icv, tc.Msg); got != (tc.Result == "valid") {
				t.Errorf("%d: %v, is %s", tc.TcID, got, tc.Result)
			}
			if tc.Result != "valid" {
				continue
			}
			got := make([]byte, a.ICVLen())
			if a.SumIV(got, binary.BigEndian.Uint64(tc.IV[4:]), tc.Msg); !bytes.Equal(got, icv) {
				t.Errorf("%d: %x, want %x", tc.TcID, got, icv)
			}
		}
	}
}

// All algorithms: what Sum makes, Verify takes, and nothing that differs in a bit;
// parts on the stack stay there.
func TestAuth(t *testing.T) {
	for _, alg := range aalgs {
		if alg.Number == AalgNull {
			continue
		}
		a, err := NewAuth(alg.Number, make([]byte, alg.MinBits/8))
		if err != nil {
			t.Fatal(err)
		}
		text, icv := bytes.Repeat([]byte{7}, 1000), make([]byte, alg.ICVLen)
		n := testing.AllocsPerRun(100, func() {
			var front, behind [20]byte
			a.SumIV(icv, 3, front[:], text, behind[:4])
			if !a.Verify(icv, front[:], text, behind[:4]) {
				t.Fatalf("%s: does not verify", alg.Name)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", alg.Name, n)
		}
		var front, behind [20]byte
		for i := range len(icv) * 8 {
			icv[i/8] ^= 1 << (i % 8)
			if a.Verify(icv, front[:], text, behind[:4]) {
				t.Errorf("%s: bit %d of the value does not count", alg.Name, i)
			}
			icv[i/8] ^= 1 << (i % 8)
		}
		for i := range text {
			text[i] ^= 0x10
			if a.Verify(icv, front[:], text, behind[:4]) {
				t.Errorf("%s: octet %d does not count", alg.Name, i)
			}
			text[i] ^= 0x10
		}
	}
}

// GMAC without a number would use one twice.
func TestGMACNeedsIV(t *testing.T) {
	a, err := NewAuth(AalgAES128GMAC, make([]byte, 20))
	if err != nil {
		t.Fatal(err)
	}
	icv := bytes.Repeat([]byte{1}, a.ICVLen())
	if a.Sum(icv, []byte("x")); !bytes.Equal(icv, make([]byte, len(icv))) {
		t.Errorf("Sum made %x", icv)
	}
	if a.Verify(icv, []byte("x")) {
		t.Error("zeros verify")
	}
}

// What Wycheproof has for HMAC, with tags of the lengths of IPsec.
func TestHMACWycheproof(t *testing.T) {
	for _, f := range []struct {
		file string
		aalg uint8
	}{
		{"hmac_sha1_test.json", AalgHMACSHA1},
		{"hmac_sha256_test.json", AalgHMACSHA256},
		{"hmac_sha384_test.json", AalgHMACSHA384},
		{"hmac_sha512_test.json", AalgHMACSHA512},
	} {
		a, _ := AalgByNumber(f.aalg)
		checkMACs(t, "wycheproof/"+f.file, func(g macGroup) int {
			if g.TagSize < a.ICVLen*8 {
				return 0
			}
			return a.ICVLen
		}, func(key []byte) (*Auth, error) { return newAuth(a, key) })
	}
}

type macGroup struct {
	KeySize, TagSize int
	Tests            []struct {
		TcID          int
		Key, Msg, Tag octets
		Result        string
	}
}

// checkMACs runs the groups of a file of which n is not zero; n is how many
// octets of a tag count.
func checkMACs(t *testing.T, file string, n func(macGroup) int, make func(key []byte) (*Auth, error)) {
	t.Helper()
	var v struct{ TestGroups []macGroup }
	if !data(t, file, &v) {
		return
	}
	ran := 0
	for _, g := range v.TestGroups {
		n := n(g)
		if n == 0 {
			continue
		}
		for _, tc := range g.Tests {
			a, err := make(tc.Key)
			if err != nil {
				t.Fatalf("%s, %d: %v", file, tc.TcID, err)
			}
			if tc.Result == "invalid" && hex.EncodeToString(tc.Tag[:n]) == sumHex(a, tc.Msg) {
				continue // what is wrong with it was cut off
			}
			if got := a.Verify(tc.Tag[:n], tc.Msg); got != (tc.Result == "valid") {
				t.Errorf("%s, %d: %v, is %s", file, tc.TcID, got, tc.Result)
			}
			ran++
		}
	}
	if ran == 0 {
		t.Errorf("%s: nothing in it fits", file)
	}
}

func sumHex(a *Auth, msg []byte) string {
	b := make([]byte, a.ICVLen())
	a.Sum(b, msg)
	return hex.EncodeToString(b)
}
