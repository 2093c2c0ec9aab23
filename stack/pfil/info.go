package pfil

import (
	"encoding/binary"
	"net/netip"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Bits of Info.Is.
const (
	Fragment    uint32 = 1 << iota // of a datagram in several packets, or one that says so
	FragBody                       // not the first fragment: no transport header
	Short                          // too short for its transport header
	HasOpts                        // IPv4 options, or IPv6 extension headers besides Fragment
	Bad                            // malformed: overlapping headers, options that do not fit, a fragment of TCP at offset 8
	Multicast                      // to a group
	Broadcast                      // link-level broadcast, or 255.255.255.255
	LowTTL                         // that a router would have to answer
	NATed                          // its addresses were translated (said by the filter)
	More                           // a fragment that others come behind
	OutOfWindow                    // a segment that does not fit its connection (said by the filter)
)

// Info is what filters ask about a packet. It is true until somebody changes
// the packet: then [Info.Parse] again.
type Info struct {
	Pkt      *packet.Buf
	If       *netif.Interface
	Out      bool
	V6       bool
	Src, Dst netip.Addr // link-scoped ones with If inside
	// The addresses as on the wire, in words; of IPv4 the high ones are 0.
	SrcHi, SrcLo, DstHi, DstLo uint64
	TOS, TTL                   uint8
	Proto                      uint8  // of the transport header, behind extension headers
	L4                         int    // where that begins, octets from the IP header
	Is                         uint32 // Fragment and the like
	// Sport and Dport of TCP and UDP. Of ICMP, both versions: Type and Code; of an
	// echo, of either direction, ID.
	Sport, Dport uint16
	Flags        uint8 // of TCP
	Type, Code   uint8
	ID           uint16
	FragID       uint32
	FragOff      int    // octets
	FragAt       int    // where what FragOff counts begins, octets from the IP header
	Opts         uint64 // set of options seen, as OptionBit and ClassBit number them (IPv4), or of extension headers, as HeaderBit does
	// Made is a packet that a translator has made of another and is sending; it lets that one by.
	// Parse leaves it.
	Made *packet.Buf
}

// Scratch is the Info that belongs to a Work, for one packet at a time: a
// caller's own would be an allocation a packet.
func Scratch(w *netif.Work) *Info {
	if i, ok := w.Local.(*Info); ok {
		return i
	}
	i := new(Info)
	w.Local = i
	return i
}

// Parse fills i in for pkt, whose window is at a checked IP header. ifp may be nil: then
// link-scoped addresses of what leaves are without interface.
func (i *Info) Parse(pkt *packet.Buf, ifp *netif.Interface, out bool) {
	b := pkt.Bytes()
	i.Pkt, i.If, i.Out = pkt, ifp, out
	i.Is, i.Sport, i.Dport, i.Flags, i.Type, i.Code, i.ID, i.FragID, i.FragOff, i.FragAt, i.Opts = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
	if i.V6 = b[0]>>4 == 6; i.V6 {
		i.parse6(packet.IPv6(b))
	} else {
		i.parse4(packet.IPv4(b))
	}
	if i.Dst.IsMulticast() {
		i.Is |= Multicast
	} else if pkt.Flags&packet.FlagBroadcast != 0 {
		i.Is |= Broadcast
	}
	if i.TTL <= 1 {
		i.Is |= LowTTL
	}
	if i.Is&FragBody == 0 {
		i.transport(b[min(i.L4, len(b)):])
	}
}

func (i *Info) parse4(h packet.IPv4) {
	i.Src, i.Dst, i.TOS, i.TTL, i.Proto, i.L4 = h.Src(), h.Dst(), h.TOS(), h.TTL(), h.Proto(), h.HeaderLen()
	i.SrcHi, i.SrcLo = 0, uint64(binary.BigEndian.Uint32(h[12:]))
	i.DstHi, i.DstLo = 0, uint64(binary.BigEndian.Uint32(h[16:]))
	if binary.BigEndian.Uint32(h[16:]) == 0xffffffff {
		i.Is |= Broadcast
	}
	if f := h.FragField(); f&^packet.IPv4DF != 0 {
		i.Is |= Fragment
		i.FragID, i.FragOff, i.FragAt = uint32(h.ID()), h.FragOff(), i.L4
		if h.MF() {
			i.Is |= More
		}
		if i.FragOff > 0 {
			i.Is |= FragBody
		}
		if i.FragOff == 8 && i.Proto == packet.ProtoTCP { // it would write over the flags (RFC 3128 §2.2)
			i.Is |= Bad
		}
	}
	if i.L4 > packet.IPv4Len {
		i.Is |= HasOpts
		i.options(h.Options())
	}
}

func (i *Info) options(o []byte) {
	for len(o) > 0 {
		switch o[0] {
		case 0:
			return
		case 1:
			i.Opts |= 1 << OptionBit(1)
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			i.Is |= Bad
			return
		}
		i.Opts |= 1 << OptionBit(o[0])
		if o[0] == optSecurity && o[1] > 2 {
			i.Opts |= 1 << ClassBit(o[2])
		}
		o = o[o[1]:]
	}
}

// optionBits are the options of IPv4 that rules can name, by type; the last
// bit is of all others.
var optionBits = [...]uint8{1, 7, 10, 11, 12, 15, 68, 82, optSecurity, 131, 133, 134, 136, 137, 142, 144, 145, 147, 148, 149, 150, 151, 152, 205}

const optSecurity = 130 // RFC 1108 §2

// classBits are the levels of the security option that rules can name.
var classBits = [...]uint8{0x01, 0x3d, 0x5a, 0x66, 0x96, 0xab, 0xcc, 0xf1}

// ClassBit is the bit of Info.Opts that stands for a level of IPv4's security option (RFC 1108 §2.3).
func ClassBit(level uint8) uint {
	for n, l := range classBits {
		if l == level {
			return uint(len(optionBits) + 1 + n)
		}
	}
	return uint(len(optionBits) + 1 + len(classBits))
}

// OptionBit is the bit of Info.Opts that stands for the IPv4 option of a type.
func OptionBit(typ uint8) uint {
	for n, t := range optionBits {
		if t == typ {
			return uint(n)
		}
	}
	return uint(len(optionBits))
}

// HeaderBit is the bit of Info.Opts that stands for an IPv6 extension header,
// by its number.
func HeaderBit(proto uint8) uint {
	switch proto {
	case packet.ProtoHopByHop:
		return 0
	case packet.ProtoRouting:
		return 1
	case packet.ProtoFragment:
		return 2
	case packet.ProtoDstOpts:
		return 3
	case packet.ProtoAH:
		return 4
	case packet.ProtoESP:
		return 5
	case packet.ProtoNone:
		return 6
	}
	return 7
}

// maxHeaders bounds the extension headers that are looked at.
const maxHeaders = 16

func (i *Info) parse6(h packet.IPv6) {
	index := i.Pkt.RcvIf
	if (i.Out || index == 0) && i.If != nil {
		index = i.If.Index
	}
	i.Src, i.Dst = h.Addrs(index)
	i.SrcHi, i.SrcLo = binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:])
	i.DstHi, i.DstLo = binary.BigEndian.Uint64(h[24:]), binary.BigEndian.Uint64(h[32:])
	i.TOS, i.TTL = h.Class(), h.HopLimit()
	i.headers(h)
}

// Transport6 finds the transport header of a packet of IPv6 that may be cut off: its
// protocol and where it begins. false: it is of a fragment that has none, or the
// headers before it are not whole.
func Transport6(h packet.IPv6) (proto uint8, l4 int, ok bool) {
	var i Info
	i.headers(h)
	return i.Proto, i.L4, i.Is&(Bad|FragBody) == 0
}

// headers walks through extension headers.
func (i *Info) headers(h packet.IPv6) {
	i.Proto, i.L4 = h.Next(), packet.IPv6Len
	for range maxHeaders {
		switch i.Proto {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDstOpts:
			e, ok := packet.CheckExt(h[i.L4:])
			if !ok {
				i.Is |= Bad | Short
				return
			}
			i.Is |= HasOpts
			i.Opts |= 1 << HeaderBit(i.Proto)
			i.Proto, i.L4 = e.Next(), i.L4+len(e)
		case packet.ProtoFragment:
			f, ok := packet.CheckFragment(h[i.L4:])
			if !ok {
				i.Is |= Bad | Short
				return
			}
			i.Opts |= 1 << HeaderBit(i.Proto)
			i.Is |= Fragment
			i.FragID, i.FragOff = f.ID(), f.Off()
			i.Proto, i.L4 = f.Next(), i.L4+packet.FragmentLen
			if i.FragAt = i.L4; f.More() {
				i.Is |= More
			}
			if i.FragOff > 0 {
				i.Is |= FragBody
				return
			}
		case packet.ProtoAH:
			b := h[i.L4:]
			if len(b) < 12 || (int(b[1])+2)*4 > len(b) {
				i.Is |= Bad | Short
				return
			}
			i.Is |= HasOpts
			i.Opts |= 1 << HeaderBit(i.Proto)
			i.Proto, i.L4 = b[0], i.L4+(int(b[1])+2)*4
		case packet.ProtoESP, packet.ProtoNone:
			i.Opts |= 1 << HeaderBit(i.Proto)
			return
		default:
			return
		}
	}
	i.Is |= Bad
}

// transport reads what begins at the transport header.
func (i *Info) transport(b []byte) {
	switch {
	case i.Proto == packet.ProtoTCP:
		if len(b) < packet.TCPLen {
			i.Is |= Short
		}
		if len(b) >= 4 {
			i.Sport, i.Dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
		if len(b) >= packet.TCPLen {
			i.Flags = b[13]
			if n := packet.TCP(b).HeaderLen(); n < packet.TCPLen || n > len(b) && i.Is&Fragment == 0 {
				i.Is |= Bad
			}
		}
	case i.Proto == packet.ProtoUDP:
		if len(b) < packet.UDPLen {
			i.Is |= Short
		}
		if len(b) >= 4 {
			i.Sport, i.Dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
	case i.Proto == packet.ProtoICMP && !i.V6, i.Proto == packet.ProtoICMPv6 && i.V6:
		if len(b) < packet.ICMPLen {
			i.Is |= Short
		}
		if len(b) >= 2 {
			i.Type, i.Code = b[0], b[1]
		}
		if len(b) >= packet.ICMPLen && i.Echo() {
			i.ID = binary.BigEndian.Uint16(b[4:])
		}
	}
}

// Echo reports an echo request or reply.
func (i *Info) Echo() bool {
	if i.V6 {
		return i.Proto == packet.ProtoICMPv6 && (i.Type == packet.ICMP6Echo || i.Type == packet.ICMP6EchoReply)
	}
	return i.Proto == packet.ProtoICMP && (i.Type == packet.ICMPEcho || i.Type == packet.ICMPEchoReply)
}

// Transport is the packet from its transport header on; empty of a fragment
// that has none.
func (i *Info) Transport() []byte {
	b := i.Pkt.Bytes()
	if i.Is&FragBody != 0 || i.L4 > len(b) {
		return nil
	}
	return b[i.L4:]
}
