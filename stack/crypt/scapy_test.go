package crypt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"

	"ionet/test/need"
)

// scapyProgram opens each packet that it is given, and seals the same payload.
const scapyProgram = `
import json, sys, warnings
warnings.simplefilter("ignore")
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw
from scapy.compat import raw
for line in sys.stdin:
    q = json.loads(line)
    try:
        sa = SecurityAssociation(ESP, spi=q["spi"], seq_num=q["seq"], crypt_algo=q["crypt"], crypt_key=bytes.fromhex(q["ekey"]),
            crypt_icv_size=q["icv"] or None, auth_algo=q["auth"] or None, auth_key=bytes.fromhex(q["akey"]),
            esn_en=q["esn"], esn=q["hi"])
        inner = IP(src="10.0.0.1", dst="10.0.0.2", proto=17) / Raw(bytes.fromhex(q["payload"]))
        sealed = raw(sa.encrypt(inner))[20:]
        outer = IP(raw(IP(src="10.0.0.1", dst="10.0.0.2", proto=50) / Raw(bytes.fromhex(q["sealed"]))))
        opened = raw(sa.decrypt(outer))[20:]
        print(json.dumps({"opened": opened.hex(), "sealed": sealed.hex()}))
    except Exception as e:
        print(json.dumps({"error": "%s: %s" % (type(e).__name__, e)}))
`

// scapyNames of algorithms; it has no others.
var scapyNames = map[uint8]string{
	EalgNull: "NULL", EalgDESCBC: "DES", Ealg3DESCBC: "3DES", EalgCAST128CBC: "CAST", EalgBlowfishCBC: "Blowfish",
	EalgAESCBC: "AES-CBC", EalgAESCTR: "AES-CTR", EalgAESGCM16: "AES-GCM", EalgChaCha20Poly1305: "CHACHA20-POLY1305",
	EalgAESCCM8: "AES-CCM", EalgAESCCM12: "AES-CCM", EalgAESCCM16: "AES-CCM",
}

var scapyAuth = map[uint8]string{
	AalgNone: "", AalgHMACMD5: "HMAC-MD5-96", AalgHMACSHA1: "HMAC-SHA1-96", AalgHMACSHA256: "SHA2-256-128",
	AalgHMACSHA384: "SHA2-384-192", AalgHMACSHA512: "SHA2-512-256", AalgAESCMAC: "AES-CMAC-96",
}

// TestScapy seals here and opens there, and back, with every algorithm that scapy
// has: it is nobody's relative of ours. It knows extended sequence numbers with
// combined algorithms alone.
func TestScapy(t *testing.T) {
	const python = "/usr/bin/python3"
	need.File(t, python)
	if out, err := exec.Command(python, "-c", "import scapy.layers.ipsec, cryptography").CombinedOutput(); err != nil {
		need.Missing(t, "no scapy: test/deps installs python3-scapy: %s", bytes.TrimSpace(out))
	}
	type cell struct {
		name    string
		e       ESP
		payload []byte
		hi      uint32
	}
	var cells []cell
	var in bytes.Buffer
	ask := json.NewEncoder(&in)
	add := func(p pair, esn bool, size int) {
		crypt, ok := scapyNames[p.e.Number]
		auth, known := scapyAuth[p.a.Number]
		if !ok || !known || esn && !p.e.AEAD {
			return
		}
		e := p.new(t, esn)
		c := cell{fmt.Sprintf("%s, esn %v, %d octets", p.name(), esn, size), e, bytes.Repeat([]byte{byte(size), 0x55, 0xaa}, size)[:size], 0}
		if esn {
			c.hi = 0x01020304
		}
		text := bytes.Clone(c.payload)
		for i := byte(1); (len(text)+2)%e.Align() != 0; i++ {
			text = append(text, i)
		}
		text = append(text, byte(len(text)-size), 17)
		b := blank(e, text)
		e.Seal(b, c.hi, uint64(c.hi)<<32|9)
		ekey, akey := p.keys()
		icv := 0
		if p.e.AEAD {
			icv = p.e.ICVLen
		}
		hex := func(b []byte) string { return fmt.Sprintf("%x", b) }
		if err := ask.Encode(map[string]any{
			"spi": 0x12345678, "seq": 9, "crypt": crypt, "ekey": hex(ekey), "icv": icv, "auth": auth, "akey": hex(akey),
			"esn": esn, "hi": c.hi, "payload": hex(c.payload), "sealed": hex(b),
		}); err != nil {
			t.Fatal(err)
		}
		cells = append(cells, c)
	}
	for _, e := range ealgs {
		for _, a := range append([]Algorithm{{}}, aalgs...) {
			lengths := e.Keys
			switch {
			case e.AEAD && a.Number != AalgNone, e.Number == EalgNull && a.Number == AalgNone, a.Number == AalgNull, a.Salt > 0:
				continue
			case lengths == nil:
				lengths = []int{max(e.MinBits, min(e.MaxBits, 128))}
				if e.Number == EalgNull {
					lengths = []int{0}
				}
			}
			for _, bits := range lengths {
				for _, size := range []int{9, 64, 333, 1400} {
					add(pair{e, bits, a}, false, size)
					add(pair{e, bits, a}, true, size)
				}
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", scapyProgram)
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	answers := json.NewDecoder(bytes.NewReader(out))
	for _, c := range cells {
		var a struct {
			Error          string
			Opened, Sealed octets
		}
		if err := answers.Decode(&a); err != nil {
			t.Fatal(err)
		}
		switch {
		case a.Error != "":
			t.Errorf("%s: scapy: %s", c.name, a.Error)
		case !bytes.Equal(a.Opened, c.payload):
			t.Errorf("%s: scapy opens %x, want %x", c.name, a.Opened, c.payload)
		case !c.e.Open(a.Sealed, c.hi):
			t.Errorf("%s: what scapy seals does not open", c.name)
		case !bytes.HasPrefix(textOf(c.e, a.Sealed), c.payload):
			t.Errorf("%s: what scapy seals opens as %x, want %x", c.name, textOf(c.e, a.Sealed), c.payload)
		}
	}
	t.Logf("%d packets each way", len(cells))
}
