package packet

import (
	"encoding/binary"
	"net/netip"
)

// Multicast Listener Discovery (RFC 2710, RFC 3810).
const (
	MLDLen        = 24 // a message of version 1
	MLDQuery2Len  = 28 // a query of version 2, without sources
	MLDReport2Len = 8  // a report of version 2, without records
	MLDRecordLen  = 20 // a record, without sources
)

// MLD is a view of a query of either version, or of a report or done of
// version 1, from its type on.
type MLD []byte

// CheckMLD answers a view of b, or false when it is too short, or of no version
// (RFC 3810 §8.1), or shorter than its list of sources.
func CheckMLD(b []byte) (MLD, bool) {
	if len(b) < MLDLen {
		return nil, false
	}
	m := MLD(b)
	if m.Type() != ICMP6MLDQuery || len(b) == MLDLen {
		return m, true
	}
	return m, len(b) >= MLDQuery2Len && len(b) >= MLDQuery2Len+16*m.NSources()
}

func (m MLD) Type() uint8       { return m[0] }
func (m MLD) Group() netip.Addr { return netip.AddrFrom16([16]byte(m[8:24])) }

// Version is a query's.
func (m MLD) Version() int {
	if len(m) == MLDLen {
		return 1
	}
	return 2
}

// NSources and Source are the sources of a query of version 2.
func (m MLD) NSources() int { return int(binary.BigEndian.Uint16(m[26:])) }

// Source is the i-th of them.
func (m MLD) Source(i int) netip.Addr {
	at := MLDQuery2Len + 16*i
	return netip.AddrFrom16([16]byte(m[at : at+16]))
}

// MaxResp is a query's response time in milliseconds (RFC 2710 §3.4, RFC 3810
// §5.1.3).
func (m MLD) MaxResp() int {
	c := int(binary.BigEndian.Uint16(m[4:]))
	if m.Version() == 1 || c < 1<<15 {
		return c
	}
	return (c&0xfff | 0x1000) << (c>>12&7 + 3)
}

// PutMLD writes a message of version 1 without checksum; b has MLDLen octets.
func PutMLD(b []byte, typ uint8, group netip.Addr) MLD {
	m := MLD(b[:MLDLen])
	clear(m[:8])
	m[0] = typ
	putAddr6(m[8:24], group)
	return m
}

// AppendMLDRecord appends a record of a version 2 report (RFC 3810 §5.2).
func AppendMLDRecord(b []byte, typ uint8, group netip.Addr, sources []netip.Addr) []byte {
	b = binary.BigEndian.AppendUint16(append(b, typ, 0), uint16(len(sources)))
	for _, a := range append([]netip.Addr{group}, sources...) {
		b = append(b, make([]byte, 16)...)
		putAddr6(b[len(b)-16:], a)
	}
	return b
}

// NextMLDRecord takes the first record from recs. ok is false when it does not
// fit.
func NextMLDRecord(recs []byte) (typ uint8, group netip.Addr, sources []netip.Addr, rest []byte, ok bool) {
	if len(recs) < MLDRecordLen {
		return 0, netip.Addr{}, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(recs[2:]))
	end := MLDRecordLen + 16*n + 4*int(recs[1])
	if len(recs) < end {
		return 0, netip.Addr{}, nil, nil, false
	}
	for i := range n {
		at := MLDRecordLen + 16*i
		sources = append(sources, netip.AddrFrom16([16]byte(recs[at:at+16])))
	}
	return recs[0], netip.AddrFrom16([16]byte(recs[4:20])), sources, recs[end:], true
}

// RouterAlert is a Hop-by-Hop header that has every router look at an MLD
// message (RFC 2711, RFC 3810 §5); its Next Header is to be filled in.
var RouterAlert = [8]byte{2: OptRouterAlert, 3: 2, 6: OptPadN}

// HasRouterAlert reports whether a packet begins with a Hop-by-Hop header that
// marks it as an MLD message.
func HasRouterAlert(h IPv6) bool {
	if h.Next() != ProtoHopByHop {
		return false
	}
	e, ok := CheckExt(h.Payload())
	if !ok {
		return false
	}
	for opts := e.Options(); len(opts) > 0; {
		typ, data, rest, ok := NextOption(opts)
		if !ok {
			return false
		}
		if typ == OptRouterAlert {
			return len(data) == 2 && data[0] == 0 && data[1] == 0
		}
		opts = rest
	}
	return false
}
