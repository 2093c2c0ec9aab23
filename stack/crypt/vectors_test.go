package crypt

import (
	"bytes"
	"testing"
)

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
		name := map[string]string{"aes-cbc": "aes-cbc", "chacha20-poly1305": "chacha20-poly1305"}[p.Enc]
		a, ok := EalgByName(name)
		if !ok {
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
