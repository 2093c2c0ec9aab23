package protocol

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// laidOut are messages with their octets as RFC 2367 §2 and KAME's header
// lay them out, written by hand.
var laidOut = []struct {
	name   string
	m      KeyMessage
	octets string
}{
	{"DUMP", KeyMessage{Type: SADBDump, Refs: 2, Seq: 1, PID: 0x1234},
		"02 0a 00 00 0200 0200 01000000 34120000"},
	{"an error", KeyMessage{Type: SADBGet, Errno: syscall.ESRCH, SAType: SADBSATypeESP, Seq: 7, PID: 1, Text: "none"},
		"02 05 03 03 0400 0000 07000000 01000000  0200 0080 6e6f6e65 00 00000000000000"},
	{"padding", KeyMessage{Type: SADBUpdate, SAType: SADBSATypeESP, Seq: 7, PID: 1, TFC: 1400},
		"02 02 00 03 0300 0000 07000000 01000000  0100 0180 78050000"},
	{"ADD", KeyMessage{Type: SADBAdd, SAType: SADBSATypeESP, PID: 2,
		SA:         &KeySA{SPI: 0x1001, Replay: 4, State: SADBSAStateMature, Auth: SADBAalgSHA1HMAC, Encrypt: SADBEalgDESCBC, Flags: SADBXExtCycSeq},
		Hard:       &KeyLifetime{Allocations: 9, Bytes: 0x102, AddTime: 60, UseTime: 30},
		Src:        &KeyAddress{IP: netip.MustParseAddr("10.0.0.163"), Bits: 32, Proto: IPSecProtoAny},
		Dst:        &KeyAddress{IP: netip.MustParseAddr("10.0.0.25"), Port: 80, Bits: 32, Proto: 6},
		AuthKey:    &Key{Bits: 160, Octets: []byte("abcdefghijklmnopqrst")},
		EncryptKey: &Key{Bits: 64, Octets: []byte("ABCDEFGH")},
		SA2:        &KeySA2{Mode: IPSecModeTransport, ReqID: 0x105},
		Replay:     ptr(uint32(4096)),
	}, "02 03 00 03 1700 0000 00000000 02000000" +
		"0200 0100 00001001 04 01 03 02 40000000" +
		"0400 0300 09000000 0201000000000000 3c00000000000000 1e00000000000000" +
		"0300 0500 ff 20 0000  10 02 0000 0a0000a3 0000000000000000" +
		"0300 0600 06 20 0000  10 02 0050 0a000019 0000000000000000" +
		"0400 0800 a000 0000  6162636465666768 696a6b6c6d6e6f70 7172737400000000" +
		"0200 0900 4000 0000  4142434445464748" +
		"0200 1300 01 00 0000 00000000 05010000" +
		"0100 1a00 00100000"},
	{"GETSPI of IPv6", KeyMessage{Type: SADBGetSPI, SAType: SADBSATypeAH,
		Src:      &KeyAddress{IP: netip.MustParseAddr("fe80::1%3"), Bits: 128},
		Dst:      &KeyAddress{IP: netip.MustParseAddr("2001:db8::2"), Bits: 64},
		SPIRange: &KeySPIRange{Min: 256, Max: 0xfffffff},
	}, "02 01 00 02 0e00 0000 00000000 00000000" +
		"0500 0500 00 80 0000  1c 18 0000 00000000 fe800000000000000000000000000001 03000000 00000000" +
		"0500 0600 00 40 0000  1c 18 0000 00000000 20010db8000000000000000000000002 00000000 00000000" +
		"0200 1000 00010000 ffffff0f 00000000"},
	{"SPDADD", KeyMessage{Type: SADBXSPDAdd,
		Src: &KeyAddress{IP: netip.MustParseAddr("10.1.0.0"), Bits: 16, Proto: IPSecProtoAny},
		Dst: &KeyAddress{IP: netip.MustParseAddr("10.2.0.0"), Bits: 16, Proto: IPSecProtoAny},
		Policy: &KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirOut, ID: 3, Priority: 4, Requests: []KeyRequest{
			{Proto: 50, Mode: IPSecModeTunnel, Level: IPSecLevelUnique, ReqID: 0x102,
				Src: AddrFrom(netip.MustParseAddr("192.0.2.1"), 0), Dst: AddrFrom(netip.MustParseAddr("192.0.2.2"), 500)},
			{Proto: 51, Mode: IPSecModeTransport, Level: IPSecLevelRequire},
		}},
	}, "02 0e 00 00 1000 0000 00000000 00000000" +
		"0300 0500 ff 10 0000  10 02 0000 0a010000 0000000000000000" +
		"0300 0600 ff 10 0000  10 02 0000 0a020000 0000000000000000" +
		"0800 1200 0200 02 00 03000000 04000000" +
		"2800 3200 02 03 0201  10 02 0000 c0000201 0000000000000000  10 02 01f4 c0000202 0000000000000000" +
		"0800 3300 01 02 0000"},
	{"ACQUIRE", KeyMessage{Type: SADBAcquire, SAType: SADBSATypeESP, Seq: 5,
		SrcIdent: &KeyIdent{Type: SADBIdentFQDN, ID: 8, Text: "a.example"},
		Proposal: &KeyProposal{Replay: 32, Combs: []KeyComb{{Auth: 5, Encrypt: 12, Flags: 1, AuthMinBits: 256, AuthMaxBits: 257, EncryptMinBits: 128, EncryptMaxBits: 258,
			SoftAllocations: 1, HardAllocations: 2, SoftBytes: 3, HardBytes: 4, SoftAddTime: 5, HardAddTime: 6, SoftUseTime: 7, HardUseTime: 8}}},
	}, "02 06 00 03 1000 0000 05000000 00000000" +
		"0400 0a00 0200 0000 0800000000000000 612e6578616d706c 6500000000000000" +
		"0a00 0d00 20 000000 05 0c 0100 0001 0101 8000 0201 00000000 01000000 02000000 0300000000000000 0400000000000000" +
		"0500000000000000 0600000000000000 0700000000000000 0800000000000000"},
	{"REGISTER", KeyMessage{Type: SADBRegister, SAType: SADBSATypeESP,
		SupportedAuth:    []KeyAlg{{ID: 3, MinBits: 160, MaxBits: 160}},
		SupportedEncrypt: []KeyAlg{{ID: 12, IVLen: 16, MinBits: 128, MaxBits: 256}, {ID: 11, MaxBits: 2048}},
	}, "02 07 00 03 0700 0000 00000000 00000000" +
		"0200 0e00 00000000  03 00 a000 a000 0000" +
		"0300 0f00 00000000  0c 10 8000 0001 0000  0b 00 0000 0008 0000"},
	{"NAT-T", KeyMessage{Type: SADBUpdate, SAType: SADBSATypeESP,
		NATT: &KeyNATT{Type: NATTEspInUDP, SrcPort: 4500, DstPort: 1025, OAI: &KeyAddress{IP: netip.MustParseAddr("10.9.0.1"), Bits: 32}, Frag: 552},
	}, "02 02 00 03 0900 0000 00000000 00000000" +
		"0100 1400 02 000000" +
		"0100 1500 1194 0000" +
		"0100 1600 0401 0000" +
		"0300 1700 00 20 0000  10 02 0000 0a090001 0000000000000000" +
		"0100 1900 2802 0000"},
	{"sensitivity and what is not known", KeyMessage{Type: SADBGet, Sensitivity: append([]byte{1, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0}, make([]byte, 8)...),
		KMPrivate: []byte{9, 0, 0, 0}, Unknown: []KeyExtension{{Type: 27, Data: []byte{1, 2, 3, 4}}, {Type: 300, Data: make([]byte, 12)}}},
		"02 05 00 00 0900 0000 00000000 00000000" +
			"0300 0c00 01000000 07 01 00 00 00000000 0000000000000000" +
			"0100 1100 09000000" +
			"0100 1b00 01020304" +
			"0200 2c01 00000000 0000000000000000"},
	{"PROMISC", KeyMessage{Type: SADBXPromisc, Promisc: []byte{2, 9, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"02 0b 00 00 0400 0000 00000000 00000000  02 09 00 00 0200 0000 00000000 00000000"},
}

func ptr[T any](v T) *T { return &v }

func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeyMessageOctets(t *testing.T) {
	for _, c := range laidOut {
		want := octets(t, c.octets)
		got, err := AppendKeyMessage([]byte("x"), &c.m)
		if err != nil || !bytes.Equal(got[1:], want) {
			t.Errorf("%s: %v\n got % x\nwant % x", c.name, err, got[1:], want)
		}
		m, rest, err := NextKeyMessage(append(want, 2, 10))
		if err != nil || !reflect.DeepEqual(m, &c.m) || len(rest) != 2 {
			t.Errorf("%s: %v, %d left over\n got %+v\nwant %+v", c.name, err, len(rest), m, &c.m)
		}
	}
}

// TestKeyMessageErrors: what, where, and what would be right.
func TestKeyMessageErrors(t *testing.T) {
	const addr = "0300 0500 ff 20 0000  10 02 0000 0a0000a3 0000000000000000"
	for _, c := range []struct{ octets, want string }{
		{"02 03", "PF_KEY message of 2 octets, its head alone has 16"},
		{"01 03 00 03 0200 0000 00000000 00000000", "PF_KEY message of version 1, this is version 2"},
		{"02 03 00 03 0100 0000 00000000 00000000", "PF_KEY ADD: the length at octet 4 says 8 octets, there are 16, and the head has 16"},
		{"02 03 00 03 0300 0000 00000000 00000000", "PF_KEY ADD: the length at octet 4 says 24 octets, there are 16, and the head has 16"},
		{"02 03 00 03 0200 0000 00000000 00000000 00", "PF_KEY ADD: 1 octets left over behind the message's 16"},
		{"02 63 00 03 0300 0000 00000000 00000000 0000 0100 00000000", "PF_KEY type 99: SA at octet 16: its length says 0 octets, from 8 to 8 are right"},
		{"02 03 00 03 0300 0000 00000000 00000000 0200 0100 00000000", "PF_KEY ADD: SA at octet 16: its length says 16 octets, from 8 to 8 are right"},
		{"02 03 00 03 0300 0000 00000000 00000000 0100 0100 00000000", "PF_KEY ADD: SA at octet 16: 8 octets, 16 are right"},
		{"02 03 00 03 0300 0000 00000000 00000000 0100 0000 00000000", "PF_KEY ADD: extension 0 at octet 18: the type 0 is reserved"},
		{"02 03 00 03 0800 0000 00000000 00000000" + addr + addr, "PF_KEY ADD: ADDRESS_SRC at octet 42: it is there twice; once is right (RFC 2367 §2.3)"},
		{"02 03 00 03 0500 0000 00000000 00000000 0300 0500 ff 21 0000  10 02 0000 0a0000a3 0000000000000000", "PF_KEY ADD: ADDRESS_SRC at octet 21: a prefix of 33 bits, of this family at most 32 are right"},
		{"02 03 00 03 0500 0000 00000000 00000000 0300 0500 ff 20 0000  10 0a 0000 0a0000a3 0000000000000000", "PF_KEY ADD: ADDRESS_SRC at octet 25: socket address of family 10, 2 (inet) and 24 (inet6) are right"},
		{"02 03 00 03 0500 0000 00000000 00000000 0300 0500 ff 20 0000  1c 18 0000 0a0000a3 0000000000000000", "PF_KEY ADD: ADDRESS_SRC at octet 24: socket address of length 28 in 16 octets, 28 is right for family 24"},
		{"02 03 00 03 0600 0000 00000000 00000000 0400 0500 ff 20 0000  10 02 0000 0a0000a3 0000000000000000 0000000000000000", "PF_KEY ADD: ADDRESS_SRC at octet 16: 32 octets, 24 are right for its socket address"},
		{"02 03 00 03 0400 0000 00000000 00000000 0200 0800 0000 0000 0000000000000000", "PF_KEY ADD: KEY_AUTH at octet 20: a key of 0 bits; a key has some, or is not there"},
		{"02 03 00 03 0400 0000 00000000 00000000 0200 0900 8000 0000 0000000000000000", "PF_KEY ADD: KEY_ENCRYPT at octet 20: a key of 128 bits in 8 octets, 16 are right"},
		{"02 06 00 03 0500 0000 00000000 00000000 0300 0a00 0200 0000 0800000000000000 612e6578616d706c", "PF_KEY ACQUIRE: IDENTITY_SRC at octet 32: the text has no zero octet at its end"},
		{"02 06 00 03 0400 0000 00000000 00000000 0200 0d00 00000000 0000000000000000", "PF_KEY ACQUIRE: PROPOSAL at octet 24: 8 octets of proposals, a multiple of 72 is right"},
		{"02 05 00 03 0400 0000 00000000 00000000 0200 0c00 00000000 0001000000000000", "PF_KEY GET: SENSITIVITY at octet 16: 16 octets, 24 are right for its bitmaps"},
		{"02 01 00 03 0400 0000 00000000 00000000 0200 1000 02000000 01000000 00000000", "PF_KEY GETSPI: SPIRANGE at octet 20: from 2 to 1 is no range"},
		{"02 0e 00 00 0500 0000 00000000 00000000 0300 1200 0200 02 00 00000000 00000000 1000 3200 02 03 0000", "PF_KEY X_SPDADD: X_POLICY at octet 32: request 1 of 16 octets, a multiple of 8 from 8 to 8 is right"},
		{"02 0e 00 00 0700 0000 00000000 00000000 0500 1200 0200 02 00 00000000 00000000 1800 3200 02 03 0000 10 02 0000 0a0000a3 0000000000000000", "PF_KEY X_SPDADD: X_POLICY at octet 56: a socket address belongs here"},
	} {
		_, err := ParseKeyMessage(octets(t, c.octets))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.octets, err, c.want)
		}
	}
	for want, m := range map[string]*KeyMessage{
		"PF_KEY ADD: KEY_AUTH of 64 bits in 7 octets":                                                                      {Type: SADBAdd, AuthKey: &Key{Bits: 64, Octets: make([]byte, 7)}},
		"PF_KEY ADD: ADDRESS_SRC has no address":                                                                           {Type: SADBAdd, Src: &KeyAddress{}},
		"PF_KEY ADD: ADDRESS_DST has a prefix of 33 bits":                                                                  {Type: SADBAdd, Dst: &KeyAddress{IP: ip4, Bits: 33}},
		"PF_KEY ADD: error 300 does not fit into an octet":                                                                 {Type: SADBAdd, Errno: 300},
		"PF_KEY GET: SA among the unknown extensions":                                                                      {Type: SADBGet, Unknown: []KeyExtension{{Type: 1, Data: make([]byte, 4)}}},
		"PF_KEY GET: extension 99 with 5 octets behind its head; 4, 12, 20 and so on fit":                                  {Type: SADBGet, Unknown: []KeyExtension{{Type: 99, Data: make([]byte, 5)}}},
		"PF_KEY GET: IDENTITY_DST has a zero octet in its text":                                                            {Type: SADBGet, DstIdent: &KeyIdent{Text: "a\x00b"}},
		`PF_KEY X_SPDADD: request 1 of the policy has a tunnel from "10.0.0.1" to ""; both ends or neither, of one family`: {Type: SADBXSPDAdd, Policy: &KeyPolicy{Requests: []KeyRequest{{Src: AddrFrom(ip4, 0)}}}},
		"PF_KEY DUMP: extension 99 of 600000 octets is too long":                                                           {Type: SADBDump, Unknown: []KeyExtension{{Type: 99, Data: make([]byte, 600000-4)}}},
	} {
		if b, err := AppendKeyMessage([]byte("x"), m); err == nil || err.Error() != want || string(b) != "x" {
			t.Errorf("%q, %v; want %s", b, err, want)
		}
	}
}

// TestKeyMessageRoundTrip: messages made at random come back as they were.
func TestKeyMessageRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		m := randomKeyMessage(r)
		b, err := AppendKeyMessage(nil, m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		got, err := ParseKeyMessage(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, m)
		}
	}
}

func randomKeyMessage(r *rand.Rand) *KeyMessage {
	some := func() bool { return r.IntN(2) == 0 }
	raw := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	ip := func() netip.Addr {
		if some() {
			return netip.AddrFrom4([4]byte(raw(4)))
		}
		a := [16]byte(raw(16))
		a[0] = 0x20
		return netip.AddrFrom16(a)
	}
	addr := func() *KeyAddress {
		if some() {
			return nil
		}
		a := ip()
		return &KeyAddress{IP: a, Port: uint16(r.Uint32()), Bits: uint8(r.IntN(a.BitLen() + 1)), Proto: uint8(r.Uint32())}
	}
	key := func() *Key {
		if some() {
			return nil
		}
		bits := uint16(1 + r.IntN(2048))
		return &Key{Bits: bits, Octets: raw(keyOctets(bits))}
	}
	lifetime := func() *KeyLifetime {
		if some() {
			return nil
		}
		return &KeyLifetime{r.Uint32(), r.Uint64(), r.Uint64(), r.Uint64()}
	}
	ident := func() *KeyIdent {
		if some() {
			return nil
		}
		return &KeyIdent{uint16(r.Uint32()), r.Uint64(), strings.Repeat("é", r.IntN(20))}
	}
	algs := func() []KeyAlg {
		if some() {
			return nil
		}
		a := make([]KeyAlg, r.IntN(9))
		for i := range a {
			a[i] = KeyAlg{uint8(r.Uint32()), uint8(r.Uint32()), uint16(r.Uint32()), uint16(r.Uint32())}
		}
		return a
	}
	m := &KeyMessage{Type: uint8(1 + r.IntN(10)), Errno: syscall.Errno(r.IntN(256)), SAType: uint8(r.IntN(256)), Seq: r.Uint32(), PID: r.Uint32(),
		Current: lifetime(), Hard: lifetime(), Soft: lifetime(), Src: addr(), Dst: addr(), Proxy: addr(), AuthKey: key(), EncryptKey: key(),
		SrcIdent: ident(), DstIdent: ident(), SupportedAuth: algs(), SupportedEncrypt: algs()}
	if some() {
		m.SA = &KeySA{r.Uint32(), uint8(r.Uint32()), uint8(r.Uint32()), uint8(r.Uint32()), uint8(r.Uint32()), r.Uint32()}
	}
	if some() {
		m.SA2 = &KeySA2{uint8(r.Uint32()), r.Uint32(), r.Uint32()}
	}
	if some() {
		m.SPIRange = &KeySPIRange{r.Uint32N(1 << 16), 1<<16 + r.Uint32N(1<<16)}
	}
	if some() {
		m.NATT = &KeyNATT{uint8(r.Uint32()), uint16(r.Uint32()), uint16(r.Uint32()), addr(), addr(), uint16(r.Uint32())}
	}
	if some() {
		m.Replay = ptr(r.Uint32())
	}
	if some() {
		m.TFC = r.Uint32()
	}
	if some() {
		m.Policy = &KeyPolicy{Type: uint16(r.Uint32()), Dir: uint8(r.Uint32()), Scope: uint8(r.Uint32()), ID: r.Uint32(), Priority: r.Uint32()}
		for range r.IntN(4) {
			x := KeyRequest{Proto: uint16(r.Uint32()), Mode: uint8(r.Uint32()), Level: uint8(r.Uint32()), ReqID: uint16(r.Uint32())}
			if a, b := ip(), ip(); a.Is4() == b.Is4() {
				x.Src, x.Dst = AddrFrom(a, uint16(r.Uint32())), AddrFrom(b, 0)
			}
			m.Policy.Requests = append(m.Policy.Requests, x)
		}
	}
	if some() {
		m.Proposal = &KeyProposal{Replay: uint8(r.Uint32())}
		for range r.IntN(3) {
			m.Proposal.Combs = append(m.Proposal.Combs, KeyComb{Auth: uint8(r.Uint32()), EncryptMaxBits: uint16(r.Uint32()), HardUseTime: r.Uint64(), SoftAllocations: r.Uint32()})
		}
	}
	if some() {
		m.Text = strings.Repeat("x", r.IntN(9))
	}
	if some() {
		m.Unknown = []KeyExtension{{Type: uint16(27 + r.IntN(1000)), Data: raw(4 + 8*r.IntN(5))}}
	}
	return m
}

func TestKeyPolicyAlone(t *testing.T) {
	want := &KeyPolicy{Type: IPSecPolicyIPSec, Dir: IPSecDirIn, Requests: []KeyRequest{{Proto: 50, Mode: IPSecModeTransport, Level: IPSecLevelRequire}}}
	b, err := AppendKeyPolicy(nil, want)
	if err != nil || !bytes.Equal(b, octets(t, "0300 1200 0200 01 00 00000000 00000000 0800 3200 01 02 0000")) {
		t.Fatalf("% x, %v", b, err)
	}
	got, err := ParseKeyPolicy(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for want, b := range map[string][]byte{
		"16 octets are no policy (sadb_x_policy with its length in units of 8, and type 18)":         b[:16],
		"policy: X_POLICY at octet 16: request 1 of 16 octets, a multiple of 8 from 8 to 8 is right": append(append(bytes.Clone(b[:16]), 16), b[17:]...),
	} {
		if _, err := ParseKeyPolicy(b); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzKeyMessage(f *testing.F) {
	for _, c := range laidOut {
		f.Add(octets(f, c.octets))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseKeyPolicy(b); err == nil {
			b2, err := AppendKeyPolicy(nil, p)
			if p2, err2 := ParseKeyPolicy(b2); err != nil || err2 != nil || !reflect.DeepEqual(p2, p) {
				t.Fatalf("%+v became %+v, %v, %v", p, p2, err, err2)
			}
		}
		for len(b) > 0 {
			m, rest, err := NextKeyMessage(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			again, err := AppendKeyMessage(nil, m)
			if err != nil {
				t.Fatalf("%+v: %v", m, err)
			}
			if m2, err := ParseKeyMessage(again); err != nil || !reflect.DeepEqual(m2, m) {
				t.Fatalf("%+v became %+v, %v", m, m2, err)
			}
			b = rest
		}
	})
}
