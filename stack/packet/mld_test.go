package packet

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

func TestMLDRecords(t *testing.T) {
	g, a := netip.MustParseAddr("ff02::1:3"), []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::2")}
	b := AppendMLDRecord(nil, 4, Scoped(g, 7), []netip.Addr{a[0], Scoped(a[1], 7)})
	b = AppendMLDRecord(b, 3, g, nil)
	typ, group, sources, rest, ok := NextMLDRecord(b)
	if !ok || typ != 4 || group != g || !slices.Equal(sources, a) {
		t.Fatal(typ, group, sources, ok)
	}
	if typ, group, sources, rest, ok = NextMLDRecord(rest); !ok || typ != 3 || group != g || sources != nil || len(rest) != 0 {
		t.Fatal(typ, group, sources, rest, ok)
	}
	for n := range len(b) {
		if _, _, _, _, ok := NextMLDRecord(b[:n]); ok && n < MLDRecordLen+2*16 {
			t.Errorf("a record is read from %d octets", n)
		}
	}
}

func TestMLDQuery(t *testing.T) {
	b := make([]byte, MLDQuery2Len+16)
	b[0], b[4], b[5], b[27] = ICMP6MLDQuery, 0x80, 0, 1
	for n := range len(b) {
		if _, ok := CheckMLD(b[:n]); ok != (n == MLDLen) {
			t.Errorf("a query of %d octets: %v", n, ok)
		}
	}
	m, ok := CheckMLD(b)
	if !ok || m.Version() != 2 || m.NSources() != 1 || m.MaxResp() != 32768 {
		t.Fatal(ok, m.Version(), m.NSources(), m.MaxResp())
	}
	if b[4], b[5] = 0xff, 0xff; m.MaxResp() != 8387584 { // RFC 3810 §5.1.3
		t.Error(m.MaxResp())
	}
	if m, _ = CheckMLD(b[:MLDLen]); m.Version() != 1 || m.MaxResp() != 65535 {
		t.Error(m.Version(), m.MaxResp())
	}
}

// FuzzMLD: what is accepted can be read, and written again as it was.
func FuzzMLD(f *testing.F) {
	f.Add(append([]byte{ICMP6MLDQuery}, make([]byte, 27)...))
	f.Add(AppendMLDRecord(make([]byte, MLDReport2Len), 6, netip.MustParseAddr("ff05::1"), []netip.Addr{netip.IPv6Loopback()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := CheckMLD(bytes.Clone(b)); ok {
			_ = m.MaxResp()
			if m.Type() == ICMP6MLDQuery && m.Version() == 2 {
				for i := range m.NSources() {
					_ = m.Source(i)
				}
			}
		}
		if len(b) < MLDReport2Len {
			return
		}
		for recs := b[MLDReport2Len:]; ; {
			typ, group, sources, rest, ok := NextMLDRecord(recs)
			if !ok {
				return
			}
			if recs[1] == 0 && !slices.ContainsFunc(append(sources, group), func(a netip.Addr) bool { _, i := Unscoped(a); return i != 0 }) {
				if again := AppendMLDRecord(nil, typ, group, sources); !bytes.Equal(again, recs[:len(recs)-len(rest)]) {
					t.Fatalf("%x became %x", recs, again)
				}
			}
			recs = rest
		}
	})
}
