package stackd

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

func openKeys(t *testing.T) *client.KeySocket {
	t.Helper()
	d := daemonWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	k, err := client.OpenKey(d.paths.prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func dumpOf(k *client.KeySocket, m *protocol.KeyMessage) (all []*protocol.KeyMessage, err error) {
	err = k.Dump(m, func(m *protocol.KeyMessage) error { all = append(all, m); return nil })
	return all, err
}

// keyedAdd is an SA of number n.
func keyedAdd(n uint32) *protocol.KeyMessage {
	return &protocol.KeyMessage{Type: protocol.SADBAdd, SAType: protocol.SADBSATypeESP, Src: keyAddress(netip.MustParseAddr("10.0.0.1")),
		Dst: keyAddress(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})), SA: &protocol.KeySA{SPI: 1000 + n, Encrypt: protocol.SADBEalgAESGCM16, Replay: 4},
		SA2: &protocol.KeySA2{Mode: protocol.IPSecModeTunnel, ReqID: 7}, EncryptKey: &protocol.Key{Bits: 160, Octets: make([]byte, 20)}}
}

func TestKeySockets(t *testing.T) {
	k := openKeys(t)
	_, err := dumpOf(k, &protocol.KeyMessage{Type: protocol.SADBDump})
	want(t, err, unix.ENOENT)
	const many = 5000 // more than a socket's queue holds
	for n := range uint32(many) {
		if _, err := k.Request(keyedAdd(n)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = k.Request(keyedAdd(3))
	want(t, err, unix.EEXIST)
	short := keyedAdd(many)
	short.EncryptKey = &protocol.Key{Bits: 128, Octets: make([]byte, 16)}
	_, err = k.Request(short)
	want(t, err, unix.EINVAL)
	all, err := dumpOf(k, &protocol.KeyMessage{Type: protocol.SADBDump})
	if err != nil || len(all) != many {
		t.Fatalf("%d of %d associations, %v", len(all), many, err)
	}
	seen := map[uint32]bool{}
	for i, m := range all {
		if m.Seq != uint32(many-1-i) || seen[m.SA.SPI] || m.SA2.ReqID != 7 || m.EncryptKey == nil || time.Since(time.Unix(int64(m.Current.AddTime), 0)) > 5*time.Minute {
			t.Fatalf("message %d: %+v", i, m)
		}
		seen[m.SA.SPI] = true
	}
	one := keyedAdd(9)
	one.Type, one.EncryptKey = protocol.SADBGet, nil
	if m, err := k.Request(one); err != nil || m.SA.SPI != 1009 || m.SA.State != protocol.SADBSAStateMature {
		t.Errorf("%+v, %v", m, err)
	}
	one.Type = protocol.SADBDelete
	if _, err := k.Request(one); err != nil {
		t.Error(err)
	}
	_, err = k.Request(one)
	want(t, err, unix.ESRCH)
	if _, err := k.Request(&protocol.KeyMessage{Type: protocol.SADBFlush}); err != nil {
		t.Error(err)
	}
	_, err = dumpOf(k, &protocol.KeyMessage{Type: protocol.SADBDump})
	want(t, err, unix.ENOENT)
	_, err = k.Request(&protocol.KeyMessage{Type: protocol.SADBXPChange})
	want(t, err, unix.EOPNOTSUPP)
}

func TestPoliciesByTheDoor(t *testing.T) {
	k := openKeys(t)
	net := func(s string) *protocol.KeyAddress {
		p := netip.MustParsePrefix(s)
		return &protocol.KeyAddress{IP: p.Addr(), Bits: uint8(p.Bits()), Proto: protocol.IPSecProtoAny}
	}
	policy := func(typ uint8, text string) *protocol.KeyMessage {
		p, err := protocol.ParseIPSecPolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		return &protocol.KeyMessage{Type: typ, Src: net("10.1.0.0/16"), Dst: net("10.2.0.0/16"), Policy: p}
	}
	const text = "out ipsec esp/tunnel/192.0.2.1-192.0.2.2/require"
	made, err := k.Request(policy(protocol.SADBXSPDAdd, text))
	if err != nil || made.Policy.ID == 0 {
		t.Fatalf("%+v, %v", made, err)
	}
	_, err = k.Request(policy(protocol.SADBXSPDAdd, text))
	want(t, err, unix.EEXIST)
	if m, err := k.Request(policy(protocol.SADBXSPDUpdate, "out none")); err != nil || m.Policy.ID != made.Policy.ID {
		t.Errorf("%+v, %v", m, err)
	}
	all, err := dumpOf(k, &protocol.KeyMessage{Type: protocol.SADBXSPDDump})
	if err != nil || len(all) != 1 || all[0].Policy.Type != protocol.IPSecPolicyNone || *all[0].Src != *net("10.1.0.0/16") {
		t.Fatalf("%+v, %v", all, err)
	}
	if _, err := k.Request(&protocol.KeyMessage{Type: protocol.SADBXSPDDelete2, Policy: &protocol.KeyPolicy{ID: made.Policy.ID}}); err != nil {
		t.Error(err)
	}
	_, err = k.Request(policy(protocol.SADBXSPDDelete, "out none"))
	want(t, err, unix.ESRCH)

	// What a restart brings back are the policies that there are.
	octets := func(m *protocol.KeyMessage) record {
		b, err := protocol.AppendKeyMessage(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		return record{recKey, b}
	}
	add, update, del := octets(policy(protocol.SADBXSPDAdd, text)), octets(policy(protocol.SADBXSPDUpdate, "out none")), octets(policy(protocol.SADBXSPDDelete, "out none"))
	flush := octets(&protocol.KeyMessage{Type: protocol.SADBXSPDFlush})
	for i, c := range []struct{ recs, left []record }{
		{[]record{add, update}, []record{update}},
		{[]record{add, del}, nil},
		{[]record{add, flush, update}, []record{update}},
	} {
		if got := compacted(c.recs); len(got) != len(c.left) || len(got) == 1 && string(got[0].body) != string(c.left[0].body) {
			t.Errorf("%d: %d records are left", i, len(got))
		}
	}
}

// BenchmarkAddSA adds associations through a key socket, which asks for many at once.
func BenchmarkAddSA(b *testing.B) {
	d := daemonWith(b, "ipsec,", "-dwire", "path="+b.TempDir())
	k, err := client.OpenKey(d.paths.prefix)
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	m := keyedAdd(0)
	m.Dst = &protocol.KeyAddress{Bits: 32, Proto: protocol.IPSecProtoAny}
	batch := k.Batch(func(_ int, err error) {
		if err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		m.SA.SPI = uint32(1000 + n)
		m.Dst.IP = netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		if err := batch.Send(m, n); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Flush(); err != nil {
		b.Fatal(err)
	}
}
