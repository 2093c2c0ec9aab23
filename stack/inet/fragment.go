package inet

import (
	"net/netip"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// fragment cuts a datagram, window at the IP header, for mtu and sends the
// pieces (RFC 791 §3.2). A partial checksum is completed first (law 5). It
// consumes pkt.
func (in *Inet) fragment(w *netif.Work, pkt *packet.Buf, ifp *netif.Interface, nexthop netip.Addr, mtu int) error {
	pkt.CompleteCsum()
	h := packet.IPv4(pkt.Bytes())
	hlen := h.HeaderLen()
	size := (mtu - hlen) &^ 7
	if size < 8 || h.FragOff()+len(h.Payload()) > maxDatagram { // nobody could put that together
		w.Drop(pkt, cntCantFrag)
		return syscall.EMSGSIZE
	}
	rest := copiedOptions(h.Options())
	base, more := h.FragField()&packet.IPv4OffMask, h.MF()
	body := h.Payload()
	var first error
	for off := 0; off < len(body); off += size {
		hdr := h[:hlen]
		n := min(size, len(body)-off)
		opts := h.Options()
		if off > 0 {
			opts = rest
		}
		f := in.env.Pool.Get(packet.IPv4MaxLen + n)
		if f == nil {
			w.Drop(pkt, cntOutNoMem)
			return syscall.ENOBUFS
		}
		fh := f.Append(packet.IPv4Len + len(opts))
		copy(fh, hdr[:packet.IPv4Len])
		copy(fh[packet.IPv4Len:], opts)
		copy(f.Append(n), body[off:])
		field := base + uint16(off>>3)
		if off+n < len(body) || more {
			field |= packet.IPv4MF
		}
		v := packet.IPv4(f.Bytes())
		v[0] = byte(4<<4 | len(fh)>>2)
		v.SetTotalLen(f.Len())
		v.SetFrag(field)
		v.SetChecksum()
		f.MarkL3(0)
		f.MarkL4(len(fh))
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

// copiedOptions are the options that go into every fragment: those with the
// copied flag, padded to a multiple of four.
func copiedOptions(opts []byte) []byte {
	var out []byte
	for i := 0; i < len(opts); {
		switch opts[i] {
		case optEOL:
			i = len(opts)
			continue
		case optNOP:
			i++
			continue
		}
		if i+1 >= len(opts) || opts[i+1] < 2 || i+int(opts[i+1]) > len(opts) {
			break
		}
		n := int(opts[i+1])
		if opts[i]&0x80 != 0 {
			out = append(out, opts[i:i+n]...)
		}
		i += n
	}
	for len(out)%4 != 0 {
		out = append(out, optEOL)
	}
	return out
}
