package ipsec

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"ionet/stack/crypt"
	"ionet/stack/mib"
	"ionet/stack/netif"
)

// Each weak algorithm is warned about once in the log.
func TestWeakIsWarnedAbout(t *testing.T) {
	var log bytes.Buffer
	env := &netif.Env{MIB: mib.NewValues(), Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() int64 { return 1 }, Rand32: func() uint32 { return 4 }}
	x := New(env)
	c := Spec{Proto: 50, SPI: 1000, Mode: ModeTransport, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		Ealg: crypt.Ealg3DESCBC, Ekey: make([]byte, 24), Aalg: crypt.AalgHMACMD5, Akey: make([]byte, 16)}
	for range 2 {
		if _, err := x.check(&c); err != nil {
			t.Fatal(err)
		}
	}
	c.Ealg, c.Ekey, c.Aalg, c.Akey = crypt.EalgAESGCM16, make([]byte, 20), 0, nil
	if _, err := x.check(&c); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"3des-cbc": 1, "hmac-md5": 1, "algorithm=": 2} {
		if n := strings.Count(log.String(), name); n != want {
			t.Errorf("%s: %d times in\n%s", name, n, log.String())
		}
	}
}
