package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/setkey"
)

// secret is an association with a key that nobody else has.
func secret(spi uint32) *protocol.KeyMessage {
	key := make([]byte, 36)
	_, _ = rand.Read(key)
	end := func(ip string) *protocol.KeyAddress {
		return &protocol.KeyAddress{IP: netip.MustParseAddr(ip), Bits: 32, Proto: protocol.IPSecProtoAny}
	}
	return &protocol.KeyMessage{Type: protocol.SADBAdd, SAType: protocol.SADBSATypeESP, Src: end("10.0.0.1"), Dst: end("10.0.0.2"),
		SA: &protocol.KeySA{SPI: spi, Encrypt: protocol.SADBEalgAESGCM16}, SA2: &protocol.KeySA2{Mode: protocol.IPSecModeTransport},
		EncryptKey: &protocol.Key{Bits: 288, Octets: key}}
}

func (d *daemon) keys() *client.KeySocket {
	d.t.Helper()
	k, err := client.OpenKey(d.prefix)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = k.Close() })
	return k
}

// dumpsKeys is setkey -D.
func (d *daemon) dumpsKeys() (out, errs string, status int) {
	var o, e strings.Builder
	status = setkey.Command.Run(&cli.Context{Sock: d.prefix, Stdin: strings.NewReader(""), Stdout: &o, Stderr: &e}, []string{"-D"})
	return o.String(), e.String(), status
}

// TestNobodysKeys: keys are shown to who may change them, and to nobody else; the others hear nothing of associations and policies at all.
func TestNobodysKeys(t *testing.T) {
	d := startWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	var nobody *client.KeySocket
	asNobody(t, func() { nobody = d.keys() })
	k, listener := d.keys(), d.keys()
	m := secret(1000)
	if a, err := k.Request(m); err != nil || a.EncryptKey != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	words := func(b []byte) (s string) { // as setkey prints them
		for i := 0; i < len(b); i += 4 {
			s += fmt.Sprintf(" %x", b[i:i+4])
		}
		return strings.TrimSpace(s)
	}
	key := words(m.EncryptKey.Octets[:32])
	if out, errs, status := d.dumpsKeys(); status != 0 || !strings.Contains(out, key) {
		t.Errorf("the superuser sees %d:\n%s%s", status, out, errs)
	}
	// Another key socket is told, without the key.
	if a, err := listener.Next(); err != nil || a.Type != protocol.SADBAdd || a.SA.SPI != 1000 || a.EncryptKey != nil || a.AuthKey != nil {
		t.Errorf("a listener hears %+v, %v", a, err)
	}
	var out, errs string
	var status int
	asNobody(t, func() { out, errs, status = d.dumpsKeys() })
	if status != 1 || out != "" || !strings.Contains(errs, "only the superuser or the stack's own user may use key sockets") {
		t.Errorf("nobody sees %d:\n%s%s", status, out, errs)
	}
	for _, typ := range []uint8{protocol.SADBGetSPI, protocol.SADBUpdate, protocol.SADBAdd, protocol.SADBDelete, protocol.SADBGet, protocol.SADBRegister, protocol.SADBFlush, protocol.SADBDump,
		protocol.SADBXPromisc, protocol.SADBXSPDAdd, protocol.SADBXSPDUpdate, protocol.SADBXSPDDelete, protocol.SADBXSPDGet, protocol.SADBXSPDDump, protocol.SADBXSPDFlush} {
		q := secret(2000)
		q.Type = typ
		a, err := nobody.Request(q)
		if !errors.Is(err, syscall.EPERM) || a != nil && (a.EncryptKey != nil || a.SA != nil) {
			t.Errorf("%s of nobody's: %+v, %v", protocol.KeyTypeName(typ), a, err)
		}
	}
	for spi := range uint32(3) {
		if _, err := k.Request(secret(3000 + spi)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nobody.Dump(&protocol.KeyMessage{Type: protocol.SADBDump}, func(*protocol.KeyMessage) error { return nil }); !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
	_ = nobody.SetReadDeadline(time.Now()) // what came before the answer is there
	if a, err := nobody.Next(); err == nil {
		t.Errorf("nobody hears %+v", a)
	}
}

// has counts the places of a daemon's memory where octets are.
func (d *daemon) has(secret []byte) (n int) {
	d.t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	defer mem.Close()
	b := make([]byte, 4<<20)
	for l := range strings.Lines(string(maps)) {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(l, "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") || to-from > 8<<30 {
			continue // a race detector's shadow is larger than that, and holds no octets of the program
		}
		for at := from; at < to; at += uint64(len(b) - len(secret)) {
			got, _ := mem.ReadAt(b[:min(uint64(len(b)), to-at)], int64(at))
			n += bytes.Count(b[:got], secret)
		}
	}
	return n
}

type secretAlgorithm struct {
	name           string
	encrypt, auth  uint8
	nenc, nauth, n int // octets of the keys; of what to look for
}

// secrets are associations of several algorithms, and what to look for of their keys.
var secrets = []secretAlgorithm{
	{"aes-gcm", protocol.SADBEalgAESGCM16, 0, 36, 0, 16},
	{"aes-gcm-12", protocol.SADBEalgAESGCM12, 0, 20, 0, 16},
	{"aes-ccm", protocol.SADBEalgAESCCM16, 0, 19, 0, 16},
	{"chacha20-poly1305", protocol.SADBEalgChaCha20Poly1305, 0, 36, 0, 32},
	{"aes-cbc, hmac-sha1", protocol.SADBEalgAES, protocol.SADBAalgSHA1HMAC, 32, 20, 16},
	{"aes-ctr, aes-xcbc", protocol.SADBEalgAESCTR, protocol.SADBAalgAESXCBC, 20, 16, 16},
	{"ah, hmac-sha2-256", 0, protocol.SADBAalgSHA2256, 0, 32, 16},
	{"ah, aes-gmac", 0, protocol.SADBAalgAES128GMAC, 0, 20, 16},
	{"ah, aes-cmac", 0, protocol.SADBAalgAESCMAC, 0, 16, 16},
}

// message is such an association.
func (a *secretAlgorithm) message(spi uint32) *protocol.KeyMessage {
	m := secret(spi)
	key := func(n int) *protocol.Key {
		if n == 0 {
			return nil
		}
		k := &protocol.Key{Bits: uint16(n) * 8, Octets: make([]byte, n)}
		_, _ = rand.Read(k.Octets)
		return k
	}
	m.SA.Encrypt, m.SA.Auth = a.encrypt, a.auth
	if m.EncryptKey, m.AuthKey = key(a.nenc), key(a.nauth); a.nenc == 0 {
		m.SAType = protocol.SADBSATypeAH
	}
	return m
}

// key is what to look for.
func (a *secretAlgorithm) key(m *protocol.KeyMessage) []byte {
	k := m.EncryptKey
	if a.nenc == 0 {
		k = m.AuthKey
	}
	return bytes.Clone(k.Octets[:a.n])
}

// TestWiped: of a key nothing is left in the daemon's memory when its association has gone, however that went, nor of one that was refused.
func TestWiped(t *testing.T) {
	d := startWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	k := d.keys()
	ask := func(m *protocol.KeyMessage) {
		t.Helper()
		if _, err := k.Request(m); err != nil {
			t.Fatal(err)
		}
	}
	ways := map[string]func(m *protocol.KeyMessage){
		"deleted": func(m *protocol.KeyMessage) {
			m.Type = protocol.SADBDelete
			ask(m)
		},
		"all deleted": func(m *protocol.KeyMessage) {
			m.Type, m.SA = protocol.SADBDelete, nil
			ask(m)
		},
		"flushed": func(*protocol.KeyMessage) { ask(&protocol.KeyMessage{Type: protocol.SADBFlush}) },
	}
	// What a processor had in its registers when a thread was interrupted lies somewhere until the next time. That is
	// not there each time, as a copy that was left behind is.
	gone := func(name string, try func() (key []byte)) {
		t.Helper()
		for n := 1; ; n++ {
			key := try()
			ask(&protocol.KeyMessage{Type: protocol.SADBRegister}) // what is done behind an answer is done then
			left := d.has(key)
			if left == 0 {
				return
			}
			if n == 10 {
				t.Errorf("%s: each time the key is still there, now in %d places", name, left)
				return
			}
		}
	}
	for n, alg := range secrets {
		name := []string{"deleted", "all deleted", "flushed"}[n%3]
		end := ways[name]
		name = alg.name + " " + name
		gone(name, func() []byte {
			m := alg.message(1000)
			key := alg.key(m)
			ask(m)
			if d.has(key) == 0 {
				t.Fatalf("%s: the key is not found while its association is there: nothing would be proved", name)
			}
			seen := 0 // it is shown, which leaves nothing either
			if err := k.Dump(&protocol.KeyMessage{Type: protocol.SADBDump}, func(a *protocol.KeyMessage) error {
				if bytes.Equal(alg.key(a), key) {
					seen++
				}
				return nil
			}); err != nil || seen != 1 {
				t.Fatalf("%s: dumped %d times, %v", name, seen, err)
			}
			m.EncryptKey, m.AuthKey = nil, nil
			end(m)
			return key
		})
	}
	ask(secret(1000))
	for name, refused := range map[string]func() *protocol.KeyMessage{
		"there already": func() *protocol.KeyMessage { return secret(1000) },
		"too long": func() *protocol.KeyMessage {
			m := secret(1001)
			m.EncryptKey.Octets = append(m.EncryptKey.Octets, 1)
			m.EncryptKey.Bits += 8
			return m
		},
		"of lifetimes alone": func() *protocol.KeyMessage {
			m := secret(1000)
			m.Type = protocol.SADBUpdate
			return m
		},
	} {
		gone(name, func() []byte {
			m := refused()
			key := bytes.Clone(m.EncryptKey.Octets[:16])
			if _, err := k.Request(m); (err == nil) != (m.Type == protocol.SADBUpdate) {
				t.Fatalf("%s: %v", name, err)
			}
			return key
		})
	}
}
