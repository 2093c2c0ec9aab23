package client

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"ionet/protocol"
	"ionet/protocol/door"
)

// keyDoor is a stack whose door 29 answers each message by script.
func keyDoor(t *testing.T, script func(c *net.UnixConn, m *protocol.KeyMessage)) *KeySocket {
	t.Helper()
	prefix := t.TempDir() + "/" + strings.Repeat("long/", 25)
	l, err := door.Listen(prefix, "dev/socket/29")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		b := make([]byte, protocol.MaxFrame)
		for {
			n, err := c.Read(b)
			if err != nil || n == 0 {
				return
			}
			m, err := protocol.ParseKeyMessage(b[:n])
			if err != nil {
				t.Error(err)
				return
			}
			script(c, m)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	k, err := OpenKey(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func keyFrame(t *testing.T, msgs ...protocol.KeyMessage) (b []byte) {
	t.Helper()
	for i := range msgs {
		var err error
		if b, err = protocol.AppendKeyMessage(b, &msgs[i]); err != nil {
			t.Error(err)
		}
	}
	return b
}

func TestKeySocket(t *testing.T) {
	expire := protocol.KeyMessage{Type: protocol.SADBExpire, Seq: 9, SAType: protocol.SADBSATypeESP}
	key := &protocol.Key{Bits: 64, Octets: []byte("ABCDEFGH")}
	k := keyDoor(t, func(c *net.UnixConn, m *protocol.KeyMessage) {
		if m.PID != uint32(os.Getpid()) || m.Seq == 0 {
			t.Errorf("request under %d, %d", m.PID, m.Seq)
		}
		other := *m
		other.Seq++
		switch a := *m; m.Type {
		case protocol.SADBAdd:
			if !reflect.DeepEqual(m.EncryptKey, key) {
				t.Errorf("key %+v", m.EncryptKey)
			}
			a.EncryptKey = nil
			_, _ = c.Write(keyFrame(t, expire, other))
			_, _ = c.Write(keyFrame(t, a))
		case protocol.SADBGet:
			_, _ = c.Write(keyFrame(t, protocol.KeyMessage{Type: m.Type, Seq: m.Seq, PID: m.PID, Errno: syscall.ESRCH, Text: "no SA with SPI 5"}))
		case protocol.SADBDump:
			var all []protocol.KeyMessage
			for i := range uint32(5) {
				a.Seq = 4 - i
				all = append(all, a)
			}
			_, _ = c.Write(keyFrame(t, all[:3]...))
			_, _ = c.Write(keyFrame(t, expire))
			_, _ = c.Write(keyFrame(t, all[3:]...))
		case protocol.SADBXSPDDump:
			_, _ = c.Write(keyFrame(t, protocol.KeyMessage{Type: m.Type, PID: m.PID, Errno: syscall.ENOENT}))
		case protocol.SADBXPromisc:
			_ = c.Close()
		}
	})
	var sent, came int
	k.Trace = func(out bool, msg []byte) {
		if m, err := protocol.ParseKeyMessage(msg); err != nil || m.Type == protocol.SADBAdd && out && m.EncryptKey == nil {
			t.Errorf("traced %+v, %v", m, err)
		}
		if out {
			sent++
		} else {
			came++
		}
	}
	a, err := k.Request(&protocol.KeyMessage{Type: protocol.SADBAdd, SAType: protocol.SADBSATypeESP, EncryptKey: key, Src: &protocol.KeyAddress{IP: netip.MustParseAddr("10.0.0.1"), Bits: 32}})
	if err != nil || a.Src == nil || a.EncryptKey != nil || sent != 1 || came != 3 {
		t.Fatalf("%+v, %v; %d and %d messages seen", a, err, sent, came)
	}
	if string(key.Octets) != "ABCDEFGH" {
		t.Error("the caller's key was wiped")
	}
	_, err = k.Request(&protocol.KeyMessage{Type: protocol.SADBGet})
	if !errors.Is(err, syscall.ESRCH) || err.Error() != "no SA with SPI 5" {
		t.Errorf("GET fails with %v", err)
	}
	var seqs []uint32
	err = k.Dump(&protocol.KeyMessage{Type: protocol.SADBDump}, func(m *protocol.KeyMessage) error {
		seqs = append(seqs, m.Seq)
		return nil
	})
	if err != nil || !reflect.DeepEqual(seqs, []uint32{4, 3, 2, 1, 0}) {
		t.Errorf("dumped %v, %v", seqs, err)
	}
	stop, n := errors.New("stop"), 0
	if err := k.Dump(&protocol.KeyMessage{Type: protocol.SADBDump}, func(*protocol.KeyMessage) error { n++; return stop }); err != stop || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
	if err := k.Dump(&protocol.KeyMessage{Type: protocol.SADBXSPDDump}, nil); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("an empty SPD: %v", err)
	}
	for _, want := range []uint8{protocol.SADBExpire, protocol.SADBAdd, protocol.SADBExpire, protocol.SADBExpire} {
		if m, err := k.Next(); err != nil || m.Type != want {
			t.Errorf("next %+v, %v, want type %d", m, err, want)
		}
	}
	if err := k.Write(&protocol.KeyMessage{Type: protocol.SADBAdd, AuthKey: &protocol.Key{}}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a key of no bits: %v", err)
	}
	if _, err := k.Request(&protocol.KeyMessage{Type: protocol.SADBXPromisc, SAType: 1}); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the stack has gone: %v", err)
	}
}

func TestNoKeyDoor(t *testing.T) {
	prefix := t.TempDir()
	if _, err := OpenKey(prefix); err == nil || !strings.HasPrefix(err.Error(), "no stack at "+prefix) {
		t.Errorf("without a stack: %v", err)
	}
	l, err := door.Listen(prefix, "dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := OpenKey(prefix); !errors.Is(err, syscall.EPROTONOSUPPORT) || !strings.Contains(err.Error(), "has no IPsec") {
		t.Errorf("without IPsec: %v", err)
	}
}
