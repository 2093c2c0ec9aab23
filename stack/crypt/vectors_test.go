package crypt

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	stdaes "crypto/aes"
)

// espVector is a whole packet as somebody has published it.
type espVector struct {
	name       string
	ealg       uint8
	ekey       string // salt included
	aalg       uint8
	akey       string
	esn        bool
	hi         uint32
	header, iv string // SPI and low half of the sequence number
	text       string // with its trailer
	sealed     string // ciphertext and check value
}

// check opens the packet, and seals it again where the IV is a number.
func (v espVector) check(t *testing.T) {
	t.Helper()
	e, err := NewESP(v.ealg, unhex(t, v.ekey), v.aalg, unhex(t, v.akey), v.esn)
	if err != nil {
		t.Errorf("%s: %v", v.name, err)
		return
	}
	packet := unhex(t, v.header+v.iv+v.sealed)
	b := bytes.Clone(packet)
	if !e.Open(b, v.hi) {
		t.Errorf("%s: does not open", v.name)
		return
	}
	text := unhex(t, v.text)
	if !bytes.Equal(textOf(e, b), text) {
		t.Errorf("%s: opens as\n%x, want\n%x", v.name, textOf(e, b), text)
	}
	if e.IVLen() == 8 && e.Align() == 4 && len(text)%4 == 0 { // the IV is the number
		b := make([]byte, len(packet))
		copy(b, packet[:headerLen])
		copy(textOf(e, b), text)
		e.Seal(b, v.hi, binary.BigEndian.Uint64(unhex(t, v.iv)))
		if !bytes.Equal(b, packet) {
			t.Errorf("%s: seals as\n%x, want\n%x", v.name, b, packet)
		}
	}
}

// TestPublishedPackets opens the packets of RFC 3602 §4 and of RFC 7634 appendix A.
func TestPublishedPackets(t *testing.T) {
	var v struct {
		ESP []struct {
			Src, Mode, Enc, Salt string
			Key, IV, Orig, ESP   octets
		}
	}
	if !data(t, "esp_packets.json", &v) {
		return
	}
	for _, p := range v.ESP {
		a, ok := EalgByName(p.Enc)
		if !ok {
			t.Errorf("%s: no algorithm %s", p.Src, p.Enc)
			continue
		}
		e, err := NewESP(a.Number, append(p.Key, unhex(t, p.Salt)...), AalgNone, nil, false)
		if err != nil {
			t.Errorf("%s: %v", p.Src, err)
			continue
		}
		header := int(p.ESP[0]&0xf) * 4
		b := bytes.Clone(p.ESP[header:])
		if !e.Open(b, 0) {
			t.Errorf("%s: does not open", p.Src)
			continue
		}
		want := p.Orig
		if p.Mode == "transport" {
			want = p.Orig[int(p.Orig[0]&0xf)*4:]
		}
		if text := textOf(e, b); !bytes.HasPrefix(text, want) || !bytes.Equal(b[headerLen:headerLen+e.IVLen()], p.IV) {
			t.Errorf("%s: opens as\n%x, want\n%x", p.Src, text, want)
		}
	}
}

// Counter mode alone (RFC 3686 §6). Null authentication is only for this.
func TestCTRVectors(t *testing.T) {
	for i, v := range []struct{ key, iv, text, sealed string }{
		{"ae6852f8121067cc4bf7a5765577f39e00000030", "0000000000000000", "53696e676c6520626c6f636b206d7367", "e4095d4fb7a7b3792d6175a3261311b8"},
		{"7e24067817fae0d743d6ce1f32539163006cb6db", "c0543b59da48d90b", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"},
		{"7691be035e5020a8ac6e618529f9a0dc00e0017b", "27777f3f4a1786f0", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223", "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f"},
		{"16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb7851500000048", "36733c147d6d93cb", "53696e676c6520626c6f636b206d7367", "4b55384fe259c9c84e7935a003cbe928"},
		{"7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a0096b03b", "020c6eadc2cb500d", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00"},
		{"02bf391ee8ecb159b959617b0965279bf59b60a786d3e0fe0007bdfd", "5cbd60278dcc0912", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223", "96893fc55e5c722f540b7dd1ddf7e758d288bc95c69165884536c811662f2188abee0935"},
		{"776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c10400000060", "db5672c97aa8f0b2", "53696e676c6520626c6f636b206d7367", "145ad01dbf824ec7560863dc71e3e0c0"},
		{"f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a2388400faac24", "c1585ef15a43d875", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c"},
		{"ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d001cc5b7", "51a51d70a1c11148", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223", "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8"},
	} {
		espVector{name: fmt.Sprintf("RFC 3686, vector %d", i+1), ealg: EalgAESCTR, ekey: v.key, header: "0000000100000002", iv: v.iv, text: v.text, sealed: v.sealed}.check(t)
	}
}

// Packets of draft-mcgrew-gcm-test-01, which has them for RFC 4106, with extended
// sequence numbers and without. Shorter check values are the beginning of these.
func TestGCMVectors(t *testing.T) {
	for i, v := range []struct{ key, aad, iv, text, sealed string }{
		{"4c80cdefbb5d10da906ac73c3613a6342e443b68", "000043218765432100000000", "4956ed7e3b244cfe", "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b000021000101020201", "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4"},
		{"feffe9928665731c6d6a8f9467308308cafebabe", "0000a5f80000000a", "facedbaddecaf888", "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b00000100010001", "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a"},
		{"abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344", "4a2cbfe300000002", "0102030405060708", "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201", "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c4915956c96"},
		{"0000000000000000000000000000000000000000", "0000000000000001", "0000000000000000", "4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f707172737475767761626364656667686901020201", "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3f821d496eeb096e98ad2b69e4799c71d"},
		{"3de09874b388e6491988d0c3607eae1f57690e43", "42f67e3f1010101010101010", "4e280000a2fca1a3", "4500001c42a200008001441f406793b6e00000020a00f5ff01020201", "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed369f071f35e034be95f112e4e7d05d35"},
		{"feffe9928665731c6d6a8f9467308308feffe9928665731ccafebabe", "0000a5f80000000a", "facedbaddecaf888", "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001", "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc7795457b9652037f5318027b5b4cd7a636"},
		{"abbccddef00112233445566778899aababbccddef00112233445566778899aab73616c74", "17405e67156f3126dd0db99b", "616e640169766563", "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001", "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e451626c2415771e3b7eebca614c89b35"},
		{"7d773d00c144c525ac619d18c84a3f47d9664267", "335467aeffffffff", "43457e9182443bc6", "01020201", "437f866bcb3f699fe9b0822bac961c4504bef270"},
		{"6c6567616c697a656d6172696a75616e61616e64646f69746265666f726569617475726e", "796b6963ffffffffffffffff", "333021696765746d", "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201", "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937ba2945f669368661a329fb4c053"},
	} {
		for _, ealg := range []uint8{EalgAESGCM16, EalgAESGCM12, EalgAESGCM8} {
			p := espVector{name: fmt.Sprintf("packet %d, algorithm %d", i+1, ealg), ealg: ealg, ekey: v.key, header: v.aad, iv: v.iv, text: v.text}
			if p.esn = len(v.aad) == 24; p.esn {
				p.header = v.aad[:8] + v.aad[16:]
				p.hi = binary.BigEndian.Uint32(unhex(t, v.aad[8:16]))
			}
			a, _ := EalgByNumber(ealg)
			p.sealed = v.sealed[:len(v.text)+a.ICVLen*2]
			p.check(t)
		}
	}
}

// The packet of RFC 7634 appendix A.
func TestChaCha20Poly1305Vector(t *testing.T) {
	espVector{
		name: "RFC 7634", ealg: EalgChaCha20Poly1305,
		ekey:   "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3",
		header: "0102030400000005", iv: "1011121314151617",
		text:   "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204",
		sealed: "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
	}.check(t)
}

// Block ciphers alone, one block in CBC mode with an IV of zeros, which is what
// their authors published: FIPS 81 and SP 800-20 for DES, RFC 2144 appendix B.1,
// Schneier's vectors of Blowfish and Twofish.
func TestBlockVectors(t *testing.T) {
	for _, v := range []struct {
		ealg              uint8
		key, text, sealed string
	}{
		{EalgDESCBC, "0123456789abcdef", "4e6f772069732074", "3fa40e8a984d4815"},
		{Ealg3DESCBC, "0123456789abcdef0123456789abcdef0123456789abcdef", "4e6f772069732074", "3fa40e8a984d4815"},
		{Ealg3DESCBC, "0123456789abcdef23456789abcdef01456789abcdef0123", "5468652071756663", "a826fd8ce53b855f"},
		{EalgCAST128CBC, "0123456712345678234567893456789a", "0123456789abcdef", "238b4fe5847e44b2"},
		{EalgBlowfishCBC, "0123456789abcdef", "1111111111111111", "61f9c3802281b096"},
		{EalgBlowfishCBC, "f0e1d2c3b4a5968778695a4b3c2d1e0f0011223344556677", "fedcba9876543210", "05044b62fa52d080"},
		{EalgTwofishCBC, "00000000000000000000000000000000", "00000000000000000000000000000000", "9f589f5cf6122c32b6bfec2f2ae8c35a"},
		{EalgTwofishCBC, "0123456789abcdeffedcba98765432100011223344556677", "00000000000000000000000000000000", "cfd1d2e5a9be9cdf501f13b892bd2248"},
	} {
		a, _ := EalgByNumber(v.ealg)
		espVector{
			name: a.Name, ealg: v.ealg, ekey: v.key, header: "0000000100000002",
			iv: strings.Repeat("00", a.IVLen), text: v.text, sealed: v.sealed,
		}.check(t)
	}
}

// An ESP packet of RFC 4543 is what GMAC makes of SPI, sequence number, IV and
// payload.
func TestGMACFormat(t *testing.T) {
	key := unhex(t, "4c80cdefbb5d10da906ac73c3613a6342e443b68")
	block, err := stdaes.NewCipher(key[:16])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		esn bool
		aad string
	}{
		{false, "0000432100000000" + "4956ed7e3b244cfe" + "4500004801020201"},
		{true, "000043218765432100000000" + "4956ed7e3b244cfe" + "4500004801020201"},
	} {
		tag := aead.Seal(nil, unhex(t, "2e443b684956ed7e3b244cfe"), nil, unhex(t, v.aad))
		espVector{
			name: fmt.Sprintf("esn %v", v.esn), ealg: EalgAESGMAC, ekey: fmt.Sprintf("%x", key), esn: v.esn, hi: 0x87654321,
			header: "0000432100000000", iv: "4956ed7e3b244cfe", text: "4500004801020201", sealed: fmt.Sprintf("4500004801020201%x", tag),
		}.check(t)
	}
}

// What of Wycheproof's vectors has the form of an ESP packet: a nonce of salt and
// IV, and additional data of 8 octets or 12.
func TestCombinedWycheproof(t *testing.T) {
	for file, algs := range map[string]map[int]uint8{
		"aes_gcm_test.json":           {128: EalgAESGCM16},
		"aes_ccm_test.json":           {64: EalgAESCCM8, 96: EalgAESCCM12, 128: EalgAESCCM16},
		"chacha20_poly1305_test.json": {128: EalgChaCha20Poly1305},
	} {
		var v struct {
			TestGroups []struct {
				IVSize, TagSize int
				Tests           []struct {
					TcID                       int
					Key, IV, AAD, Msg, CT, Tag octets
					Result                     string
				}
			}
		}
		if !data(t, "wycheproof/"+file, &v) {
			return
		}
		ran := 0
		for _, g := range v.TestGroups {
			a, ok := EalgByNumber(algs[g.TagSize])
			if !ok || g.IVSize != a.Salt+64 {
				continue
			}
			for _, tc := range g.Tests {
				if tc.Result != "valid" || len(tc.AAD) != 8 && len(tc.AAD) != 12 {
					continue
				}
				salt := a.Salt / 8
				p := espVector{
					name: fmt.Sprintf("%s, %d", file, tc.TcID), ealg: a.Number, ekey: fmt.Sprintf("%x%x", tc.Key, tc.IV[:salt]),
					header: fmt.Sprintf("%x", tc.AAD[:8]), iv: fmt.Sprintf("%x", tc.IV[salt:]),
					text: fmt.Sprintf("%x", tc.Msg), sealed: fmt.Sprintf("%x%x", tc.CT, tc.Tag),
				}
				if p.esn = len(tc.AAD) == 12; p.esn {
					p.hi = binary.BigEndian.Uint32(tc.AAD[4:])
					p.header = fmt.Sprintf("%x%x", tc.AAD[:4], tc.AAD[8:])
				}
				p.check(t)
				ran++
			}
		}
		if ran == 0 {
			t.Errorf("%s: nothing in it fits", file)
		}
	}
}

func TestCBCWycheproof(t *testing.T) {
	var v struct {
		TestGroups []struct {
			Tests []struct {
				TcID             int
				Key, IV, Msg, CT octets
				Result           string
			}
		}
	}
	if !data(t, "wycheproof/aes_cbc_pkcs5_test.json", &v) {
		return
	}
	for _, g := range v.TestGroups {
		for _, tc := range g.Tests {
			if tc.Result != "valid" {
				continue
			}
			pad := 16 - len(tc.Msg)%16
			espVector{
				name: fmt.Sprint(tc.TcID), ealg: EalgAESCBC, ekey: fmt.Sprintf("%x", tc.Key), header: "0000000100000002",
				iv: fmt.Sprintf("%x", tc.IV), text: fmt.Sprintf("%x%x", tc.Msg, bytes.Repeat([]byte{byte(pad)}, pad)), sealed: fmt.Sprintf("%x", tc.CT),
			}.check(t)
		}
	}
}
