package stackd

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/stack/ipsec"
	"ionet/stack/mib"
)

// keyCounters are the counters of key sockets that are not zero.
func keyCounters(d *daemon) map[string]uint64 {
	all := map[string]uint64{}
	for i, c := range mib.Counters() {
		if n := d.eng.Engine().Env.MIB.Count(mib.Counter(i)); c.Proto == "pfkey" && n != 0 {
			all[c.Name] = n
		}
	}
	return all
}

// Every message of a key socket is counted as what it is.
func TestKeyCounters(t *testing.T) {
	d := daemonWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	k, err := door.Dial(d.paths.door(protocol.AFKey))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.SetDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, protocol.MaxFrame)
	said := func(m *protocol.KeyMessage) []byte {
		b, err := protocol.AppendKeyMessage(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	changed := func(m *protocol.KeyMessage, at int, to ...byte) []byte {
		b := said(m)
		copy(b[at:], to)
		return b
	}
	add, twice := keyedAdd(1), said(keyedAdd(2))
	twice = append(twice, twice[16:32]...) // its SA once more
	twice[4] += 2
	dump := &protocol.KeyMessage{Type: protocol.SADBDump}
	mixed := keyedAdd(3)
	mixed.Dst = keyAddress(netip.MustParseAddr("2001:db8::1"))
	register := &protocol.KeyMessage{Type: protocol.SADBRegister, SAType: protocol.SADBSATypeESP}
	for _, c := range []struct {
		name    string
		frame   []byte
		answers int
		want    string
	}{
		{"an association", said(add), 1, "from add,to add,to all"},
		{"the same again", said(add), 1, "from add,errors,to add,to one"},
		{"a dump", said(dump), 1, "from dump,to dump,to one"},
		{"two requests", append(said(register), said(register)...), 2, "from register=2,to register=2,to one=2"},
		{"of another version", changed(dump, 0, 3), 1, "from dump,errors,with invalid version field,to dump,to one"},
		{"a part of a head", said(dump)[:15], 1, "from reserved,errors,too short,to reserved,to one"},
		{"longer than it is", changed(dump, 4, 9), 1, "from dump,errors,with invalid length field,to dump,to one"},
		{"an extension longer than the message", changed(add, 16, 90), 1, "from add,errors,with invalid length field,to add,to one"},
		{"an extension twice", twice, 1, "from add,errors,with duplicate extension,to add,to one"},
		{"an extension of type 0", changed(add, 18, 0, 0), 1, "from add,errors,with invalid extension type,to add,to one"},
		{"an address of no family", changed(add, bytes.Index(said(add), []byte{16, 2, 0, 0, 10, 0, 0, 1})+1, 99), 1, "from add,errors,with invalid address extension,to add,to one"},
		{"addresses of two families", said(mixed), 1, "from add,errors,with invalid address extension,to add,to one"},
		{"a kind of association that is not served", changed(dump, 3, 12), 1, "from dump,errors,with invalid sa type,to dump,to one"},
		{"a request that is not served", said(&protocol.KeyMessage{Type: protocol.SADBXPChange}), 1, "from x_pchange,errors,with invalid message type field,to x_pchange,to one"},
		{"an unknown request", changed(dump, 1, 99), 1, "from unknown,errors,with invalid message type field,to unknown,to one"},
		{"no request", changed(dump, 1, 0), 1, "from reserved,errors,with invalid message type field,to reserved,to one"},
		{"a flush", said(&protocol.KeyMessage{Type: protocol.SADBFlush}), 1, "from flush,to flush,to all"},
		{"an acquire", nil, 1, "to acquire,to registered"},
	} {
		want, sum := map[string]uint64{}, 0
		for _, w := range strings.Split(c.want, ",") {
			name, v, many := strings.Cut(w, "=")
			n := uint64(1)
			if many {
				fmt.Sscan(v, &n)
			}
			want[name] = n
			switch {
			case strings.HasPrefix(name, "from "):
				want["requests"] += n
			case name == "to one" || name == "to all" || name == "to registered":
				want["sent"] += n
			}
		}
		if c.frame != nil {
			want["octets in"] = uint64(len(c.frame))
		}
		before := keyCounters(d)
		if c.frame == nil {
			d.srv.keys.event(ipsec.Event{Kind: ipsec.Acquire, Wanted: ipsec.Wanted{Proto: 50, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2")}})
		} else if _, err := k.Write(c.frame); err != nil {
			t.Fatal(err)
		}
		for answers := 0; answers < c.answers; {
			n, err := k.Read(buf)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			sum += n
			for b := buf[:n]; len(b) > 0; answers++ {
				if _, b, err = protocol.NextKeyMessage(b); err != nil {
					t.Fatal(err)
				}
			}
		}
		want["octets out"] = uint64(sum)
		got := keyCounters(d)
		maps.DeleteFunc(got, func(name string, n uint64) bool { return n == before[name] })
		for name := range got {
			got[name] -= before[name]
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: counted %v, want %v", c.name, got, want)
		}
	}
}
