package inet6

import (
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// What KAME has, and nothing here depends on.
var (
	_ = mib.String("net.inet6.ip6.kame_version", "ionet", "Whose IPv6 this is: it has KAME's names and manners, and none of its code.", mib.ReadOnly())
	_ = mib.Int("net.inet6.ip6.keepfaith", 0, "1: what is to be translated goes to faith(4). Always 0: there is no such interface.", mib.ReadOnly())
	_ = mib.Int("net.inet6.ip6.rr_prune", 0, "Seconds between looks for prefixes that router renumbering (RFC 2894) has ended. Always 0: nobody renumbers routers here, and every prefix ends when its time does.", mib.ReadOnly())
)

var nodeNest = mib.Int("net.inet6.ip6.hdrnestlimit", 50, "Extension headers of one packet at most.", mib.Range(1, 255))

// maxOptions bounds the options of one header that are not pads (RFC 8504
// §5.3); maxPads the octets of padding in a row.
const (
	maxOptions = 16
	maxPads    = 7
)

// nextHeaderAt is where the Next Header stands in the IPv6 header.
const nextHeaderAt = 6

// chain is a place in a packet's chain of headers.
type chain struct {
	p          *packet.Buf
	next       uint8 // the header at at
	at         int   // octets into the window
	nextAt     int   // where next was said
	fragmented bool
}

// walk goes through the extension headers, in the order in which they come
// (RFC 8200 §4.1). False: the packet has ended, or waits for its other fragments.
func (in *Inet6) walk(w *netif.Work, x *chain) bool {
	limit := int(in.env.MIB.Int(nodeNest))
	for n := 0; ; n++ {
		switch x.next {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoFragment, packet.ProtoDstOpts:
		case packet.ProtoNone:
			x.p.Free()
			return false
		default:
			return true
		}
		if n >= limit {
			w.Drop(x.p, cntNested)
			return false
		}
		b := x.p.Bytes()
		if x.next == packet.ProtoFragment {
			if !in.fragmentHeader(w, x) {
				return false
			}
			continue
		}
		e, ok := packet.CheckExt(b[x.at:])
		switch {
		case !ok:
			w.Drop(x.p, cntTooShort)
			return false
		case x.next == packet.ProtoHopByHop && x.at != packet.IPv6Len: // only in front (RFC 8200 §4.1)
			in.problem(w, x.p, packet.ICMP6ParamNext, x.nextAt)
			return false
		case x.next == packet.ProtoRouting:
			// Nobody routes by a packet's wish here: type 0 is refused (RFC
			// 5095), and no other is known.
			if e.SegmentsLeft() != 0 {
				in.problem(w, x.p, packet.ICMP6ParamHeader, x.at+2)
				return false
			}
		case !in.options(w, x.p, x.at, e):
			return false
		}
		x.nextAt, x.next, x.at = x.at, e.Next(), x.at+len(e)
	}
}

// problem answers a packet that cannot be understood, and drops it. at is
// where, in octets of the packet.
func (in *Inet6) problem(w *netif.Work, p *packet.Buf, code uint8, at int) {
	in.sendError(w, p, packet.ICMP6ParamProblem, code, uint32(at))
	w.Drop(p, cntBadOpts)
}

// options goes through the options of a Hop-by-Hop or Destination header. What
// is not known acts as its two highest bits say (RFC 8200 §4.2). False: the
// packet has ended.
func (in *Inet6) options(w *netif.Work, p *packet.Buf, at int, e packet.Ext) bool {
	known, pads := 0, 0
	for opts := e.Options(); len(opts) > 0; {
		where := at + len(e) - len(opts)
		typ, data, rest, ok := packet.NextOption(opts)
		switch {
		case !ok:
			in.problem(w, p, packet.ICMP6ParamHeader, where)
			return false
		case typ == packet.OptPad1 || typ == packet.OptPadN:
			if pads += len(opts) - len(rest); pads > maxPads {
				w.Drop(p, cntBadOpts)
				return false
			}
			opts = rest
			continue
		}
		pads = 0
		if known++; known > maxOptions {
			w.Drop(p, cntBadOpts)
			return false
		}
		switch {
		case typ == packet.OptRouterAlert && len(data) == 2:
		case typ == packet.OptJumbo: // refused: what it says of the length is not believed (RFC 2675 §3)
			in.problem(w, p, packet.ICMP6ParamHeader, where)
			return false
		default:
			if !in.unknownOption(w, p, typ, where) {
				return false
			}
		}
		opts = rest
	}
	return true
}

// unknownOption reports whether the packet may go on.
func (in *Inet6) unknownOption(w *netif.Work, p *packet.Buf, typ uint8, where int) bool {
	switch typ >> 6 {
	case 0:
		return true
	case 2:
		in.sendError(w, p, packet.ICMP6ParamProblem, packet.ICMP6ParamOption, uint32(where))
	case 3:
		if !packet.IPv6(p.L3()).Dst().IsMulticast() {
			in.sendError(w, p, packet.ICMP6ParamProblem, packet.ICMP6ParamOption, uint32(where))
		}
	}
	w.Drop(p, cntBadOpts)
	return false
}

// transport finds the upper-layer header of a packet that is only looked at, an
// error's quotation or a fragment, as far as its octets go. whole: they hold the chain.
func transport(b packet.IPv6) (proto uint8, at int, first, whole bool) {
	proto, at, first = b.Next(), packet.IPv6Len, true
	for range 64 {
		switch proto {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDstOpts:
			e, ok := packet.CheckExt(b[at:])
			if !ok {
				return proto, at, first, false
			}
			proto, at = e.Next(), at+len(e)
		case packet.ProtoFragment:
			f, ok := packet.CheckFragment(b[at:])
			if !ok {
				return proto, at, first, false
			}
			proto, at = f.Next(), at+packet.FragmentLen
			if f.Off() != 0 {
				return proto, at, false, true
			}
		default:
			return proto, at, first, at <= len(b)
		}
	}
	return proto, at, first, false
}
