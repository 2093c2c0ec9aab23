package inet6

import (
	"net/netip"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	cntFragmented = mib.NewCounter("ip6", "fragmented", "# output datagram{s} fragmented")
	cntFragsOut   = mib.NewCounter("ip6", "fragments created", "# fragment{s} created")
	cntCantFrag   = mib.NewCounter("ip6", "can't fragment", "# datagram{s} that can't be fragmented")
)

// fragment cuts a packet of ours, window at the IPv6 header, for mtu and sends
// the pieces (RFC 8200 §4.5). A partial checksum is completed first (law 5). It consumes pkt.
func (in *Inet6) fragment(w *netif.Work, pkt *packet.Buf, ifp *netif.Interface, nexthop netip.Addr, mtu int) error {
	pkt.CompleteCsum()
	all := packet.IPv6(pkt.Bytes())
	hlen, nextAt := perFragment(all)
	size := (mtu - hlen - packet.FragmentLen) &^ 7
	if size < 8 {
		w.Drop(pkt, cntCantFrag)
		return syscall.EMSGSIZE
	}
	id, next := in.nextID(all.Dst()), all[nextAt]
	body := all[hlen:]
	var first error
	for off := 0; off < len(body); off += size {
		n := min(size, len(body)-off)
		f := in.env.Pool.Get(hlen + packet.FragmentLen + n)
		if f == nil {
			w.Drop(pkt, cntOutNoMem)
			return syscall.ENOBUFS
		}
		copy(f.Append(hlen), all[:hlen])
		packet.PutFragment(f.Append(packet.FragmentLen), next, off, off+n < len(body), id)
		copy(f.Append(n), body[off:])
		h := packet.IPv6(f.Bytes())
		h[nextAt] = packet.ProtoFragment
		h.SetPayloadLen(f.Len() - packet.IPv6Len)
		f.MarkL3(0)
		f.MarkL4(hlen + packet.FragmentLen)
		f.Flags, f.Nest, f.RcvIf, f.Csum = pkt.Flags, pkt.Nest, pkt.RcvIf, packet.CsumVerified
		w.Count(cntFragsOut)
		if err := ifp.Output(w, ifp, f, nexthop); err != nil && first == nil {
			first = err
		}
	}
	w.Count(cntFragmented)
	pkt.Free()
	return first
}

// perFragment is the length of what every fragment begins with, the headers as
// far as Hop-by-Hop, Routing and the options in front of that, and where the
// Next Header of the last of them stands.
func perFragment(b packet.IPv6) (n, nextAt int) {
	n, nextAt = packet.IPv6Len, nextHeaderAt
	proto, at, said := b.Next(), packet.IPv6Len, nextHeaderAt
	for {
		switch proto {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDstOpts:
		default:
			return n, nextAt
		}
		e, ok := packet.CheckExt(b[at:])
		if !ok {
			return n, nextAt
		}
		dst := proto == packet.ProtoDstOpts
		proto, said, at = e.Next(), at, at+len(e)
		if !dst || proto == packet.ProtoRouting {
			n, nextAt = at, said
		}
	}
}

// nextID is the identification of the next packet to dst that is cut: a
// counter of its own for a share of destinations (RFC 7739 §5.2).
func (in *Inet6) nextID(dst netip.Addr) uint32 {
	b := dst.As16()
	h := in.idKey
	for i := 0; i < 16; i += 4 {
		h = (h ^ uint64(b[i])<<24 ^ uint64(b[i+1])<<16 ^ uint64(b[i+2])<<8 ^ uint64(b[i+3])) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return in.ids[h>>54].Add(1)
}
