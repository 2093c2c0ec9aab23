package packet

import (
	"encoding/binary"
	"net/netip"
)

// IPv6 (RFC 8200).
const (
	IPv6Len = 40

	// MinMTU6 is what every link carries (§5).
	MinMTU6 = 1280

	// FragmentLen is the length of a Fragment header (§4.5).
	FragmentLen = 8
)

// Extension headers (RFC 8200 §4.1) and what else a Next Header may be.
const (
	ProtoHopByHop = 0
	ProtoIPv4     = 4
	ProtoIPv6     = 41
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoESP      = 50
	ProtoAH       = 51
	ProtoNone     = 59
	ProtoIPComp   = 108
	ProtoDstOpts  = 60
)

// Options of Hop-by-Hop and Destination headers.
const (
	OptPad1        = 0
	OptPadN        = 1
	OptRouterAlert = 0x05 // RFC 2711
	OptJumbo       = 0xc2 // RFC 2675
)

// IPv6 is a view of a packet from its IPv6 header on.
type IPv6 []byte

// CheckIPv6 answers a view of b, or false when b holds no whole header of
// version 6. Whether the payload length fits b is for the caller.
func CheckIPv6(b []byte) (IPv6, bool) {
	if len(b) < IPv6Len || b[0]>>4 != 6 {
		return nil, false
	}
	return IPv6(b), true
}

func (h IPv6) Class() uint8         { return h[0]<<4 | h[1]>>4 }
func (h IPv6) FlowLabel() uint32    { return binary.BigEndian.Uint32(h) & 0xfffff }
func (h IPv6) PayloadLen() int      { return int(binary.BigEndian.Uint16(h[4:])) }
func (h IPv6) Next() uint8          { return h[6] }
func (h IPv6) HopLimit() uint8      { return h[7] }
func (h IPv6) Src() netip.Addr      { return netip.AddrFrom16([16]byte(h[8:24])) }
func (h IPv6) Dst() netip.Addr      { return netip.AddrFrom16([16]byte(h[24:40])) }
func (h IPv6) Payload() []byte      { return h[IPv6Len:] }
func (h IPv6) SetPayloadLen(n int)  { binary.BigEndian.PutUint16(h[4:], uint16(n)) }
func (h IPv6) SetNext(proto uint8)  { h[6] = proto }
func (h IPv6) SetHopLimit(n uint8)  { h[7] = n }
func (h IPv6) SetClass(class uint8) { h[0], h[1] = 6<<4|class>>4, h[1]&0xf|class<<4 }
func (h IPv6) SetFlowLabel(fl uint32) {
	binary.BigEndian.PutUint32(h, binary.BigEndian.Uint32(h)&^0xfffff|fl&0xfffff)
}

// SetSrc and SetDst write an address without the interface that is in it.
func (h IPv6) SetSrc(a netip.Addr) { putAddr6(h[8:24], a) }

// SetDst is as SetSrc.
func (h IPv6) SetDst(a netip.Addr) { putAddr6(h[24:40], a) }

func putAddr6(b []byte, a netip.Addr) {
	_, _ = a.AppendBinary(b[:0]) // without the copy that As16 makes
	if linkScoped(binary.BigEndian.Uint64(b)) {
		b[2], b[3] = 0, 0
	}
}

// Addrs are source and destination as the engine carries them on interface index.
func (h IPv6) Addrs(index uint32) (src, dst netip.Addr) {
	return addr6(h[8:24], index), addr6(h[24:40], index)
}

// Said are source and destination as calls say them, which came by interface index: plain,
// and scope is the interface of a source that means something on one link only.
func (h IPv6) Said(index uint32) (src netip.Addr, scope uint32, dst netip.Addr) {
	if linkScoped(binary.BigEndian.Uint64(h[8:])) {
		src, scope = Unscoped(addr6(h[8:24], index))
	} else {
		src = h.Src()
	}
	if dst = h.Dst(); linkScoped(binary.BigEndian.Uint64(h[24:])) {
		dst, _ = Unscoped(dst)
	}
	return src, scope, dst
}

func addr6(b []byte, index uint32) netip.Addr {
	if hi := binary.BigEndian.Uint64(b); linkScoped(hi) {
		return scoped(hi, binary.BigEndian.Uint64(b[8:]), index)
	}
	return netip.AddrFrom16([16]byte(b))
}

// PutIPv6 writes a header; b has room for it.
func PutIPv6(b []byte, class uint8, flow uint32, payload int, next, hlim uint8, src, dst netip.Addr) IPv6 {
	h := IPv6(b)
	binary.BigEndian.PutUint32(h, 6<<28|uint32(class)<<20|flow&0xfffff)
	h.SetPayloadLen(payload)
	h[6], h[7] = next, hlim
	h.SetSrc(src)
	h.SetDst(dst)
	return h
}

// Ext is a view of an extension header with a length of its own: Hop-by-Hop,
// Routing, Destination Options (RFC 8200 §4, RFC 6564).
type Ext []byte

// CheckExt answers a view of the header at the front of b, cut to its length;
// false when b does not hold all of it.
func CheckExt(b []byte) (Ext, bool) {
	if len(b) < 8 {
		return nil, false
	}
	n := (int(b[1]) + 1) * 8
	if n > len(b) {
		return nil, false
	}
	return Ext(b[:n:n]), true
}

func (h Ext) Next() uint8     { return h[0] }
func (h Ext) Options() []byte { return h[2:] }

// RoutingType and SegmentsLeft are a Routing header's.
func (h Ext) RoutingType() uint8  { return h[2] }
func (h Ext) SegmentsLeft() uint8 { return h[3] }

// NextOption takes the first option from opts: its type, its data, and what is
// behind it. Pads are options too. ok is false when the option does not fit.
func NextOption(opts []byte) (typ uint8, data, rest []byte, ok bool) {
	if opts[0] == OptPad1 {
		return OptPad1, nil, opts[1:], true
	}
	if len(opts) < 2 || 2+int(opts[1]) > len(opts) {
		return opts[0], nil, nil, false
	}
	n := 2 + int(opts[1])
	return opts[0], opts[2:n], opts[n:], true
}

// Fragment is a view of a Fragment header (RFC 8200 §4.5).
type Fragment []byte

// CheckFragment answers a view of the header at the front of b.
func CheckFragment(b []byte) (Fragment, bool) {
	if len(b) < FragmentLen {
		return nil, false
	}
	return Fragment(b[:FragmentLen]), true
}

func (h Fragment) Next() uint8    { return h[0] }
func (h Fragment) Off() int       { return int(binary.BigEndian.Uint16(h[2:]) &^ 7) } // octets
func (h Fragment) More() bool     { return h[3]&1 != 0 }
func (h Fragment) ID() uint32     { return binary.BigEndian.Uint32(h[4:]) }
func (h Fragment) IsAtomic() bool { return h.Off() == 0 && !h.More() } // RFC 6946

// PutFragment writes a Fragment header; off is in octets.
func PutFragment(b []byte, next uint8, off int, more bool, id uint32) Fragment {
	h := Fragment(b[:FragmentLen])
	h[0], h[1] = next, 0
	f := uint16(off)
	if more {
		f |= 1
	}
	binary.BigEndian.PutUint16(h[2:], f)
	binary.BigEndian.PutUint32(h[4:], id)
	return h
}
