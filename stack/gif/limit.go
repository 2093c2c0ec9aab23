package gif

import (
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// The Tunnel Encapsulation Limit of RFC 2473 §4.1.1 says how many more tunnels of
// IPv6 a packet may be put into, wherever they are; max_nesting knows only those
// of this host.

var (
	nodeLimit = mib.Int("net.inet6.ip6.gifencaplimit", -1, "Tunnels that a packet in a gif tunnel over IPv6 may still be put into on its way (RFC 2473 §4.1.1); -1: as many as there are. What a packet that is in a tunnel already says is obeyed either way (ionet's own).", mib.Range(-1, 255))

	cntLimit = mib.NewCounter("gif", "encapsulation limit", "# output packet{s} dropped because they may be put into no further tunnel")
)

const (
	optLimit  = 4 // Tunnel Encapsulation Limit
	limitData = 4 // where its value stands in the header that limitHeader makes
)

// limitHeader is a Destination Options header with room for a limit, padded; its
// first octet is written by who puts it into a packet.
var limitHeader = [8]byte{2: optLimit, 3: 1, 5: packet.OptPadN, 6: 1}

// saidLimit is the limit in a packet of IPv6, which is a tunnel's then, and where it
// stands; at 0: it has none.
func saidLimit(b []byte) (limit uint8, at int) {
	next, off := packet.IPv6(b).Next(), packet.IPv6Len
	for next == packet.ProtoHopByHop || next == packet.ProtoDstOpts {
		x, ok := packet.CheckExt(b[off:])
		if !ok {
			return 0, 0
		}
		for opts := x.Options(); next == packet.ProtoDstOpts && len(opts) > 0; {
			typ, data, rest, ok := packet.NextOption(opts)
			if !ok {
				return 0, 0
			}
			if typ == optLimit && len(data) == 1 {
				return data[0], off + len(x) - len(rest) - 1
			}
			opts = rest
		}
		next, off = x.Next(), off+len(x)
	}
	return 0, 0
}

// limit says in the way y what the outer header of an inner packet, L3 marked, is to
// say of further tunnels; false: there may be none, and the packet has ended here.
func (t *tunnel) limit(w *netif.Work, y *way, pkt *packet.Buf) bool {
	n := t.g.env.MIB.Int(nodeLimit)
	if b := pkt.Bytes(); b[0]>>4 == 6 {
		switch said, at := saidLimit(b); {
		case at == 0:
		case said == 0:
			t.answer(w, pkt, func(w *netif.Work, p *packet.Buf) { t.g.ParamProblem(w, p, at) })
			t.refuse(w, pkt, cntLimit)
			return false
		default:
			n = int64(said) - 1
		}
	}
	if n < 0 {
		y.flow.Ext = nil
		return true
	}
	y.options = limitHeader
	y.options[limitData] = uint8(n)
	y.ext.Dst = y.options[:]
	y.flow.Ext = &y.ext
	return true
}
