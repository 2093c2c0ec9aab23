package crypt

import (
	"bytes"
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
