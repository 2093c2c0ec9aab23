package inet

import (
	"encoding/binary"
	"net/netip"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// IPv4 options (RFC 791 §3.1).
const (
	optEOL  = 0
	optNOP  = 1
	optRR   = 7
	optTS   = 68
	optLSRR = 131
	optSSRR = 137

	tsOnly    = 0
	tsAddr    = 1
	tsPrespec = 3
)

// eachOption walks the options: f is handed each one whole, and its offset. It
// reports the offset of the first malformed one, or -1.
func eachOption(opts []byte, f func(off int, opt []byte) bool) int {
	for i := 0; i < len(opts); {
		switch opts[i] {
		case optEOL:
			return -1
		case optNOP:
			i++
			continue
		}
		if i+1 >= len(opts) || opts[i+1] < 2 || i+int(opts[i+1]) > len(opts) {
			return i
		}
		n := int(opts[i+1])
		if !f(i, opts[i:i+n:i+n]) {
			return -1
		}
		i += n
	}
	return -1
}

func sourceRouted(opts []byte) (yes bool) {
	eachOption(opts, func(_ int, o []byte) bool {
		yes = yes || o[0] == optLSRR || o[0] == optSSRR
		return true
	})
	return yes
}

// inputOptions obeys the options of a received packet (ip_dooptions) and
// answers where it is bound now. done: the packet is gone.
func (in *Inet) inputOptions(w *netif.Work, ifp *netif.Interface, p *packet.Buf, h packet.IPv4) (dst netip.Addr, done bool) {
	dst = h.Dst()
	opts := h.Options()
	changed, bad, fail := false, -1, -1
	var failCode uint8
	malformed := eachOption(opts, func(off int, o []byte) bool {
		switch o[0] {
		case optLSRR, optSSRR:
			if len(o) < 3 || o[2] < 4 {
				bad = off + 2
				return false
			}
			if !in.env.MIB.On(nodeAllowSrcRt) {
				fail, failCode = off, packet.ICMPUnreachNetProhib
				return false
			}
			if in.Local(dst) == nil {
				if o[0] == optSSRR {
					fail, failCode = off, packet.ICMPUnreachSrcFail
					return false
				}
				return true // loose: on its way through us
			}
			ptr := int(o[2]) - 1
			if ptr+4 > len(o) {
				return true // the end of the route: it is for us
			}
			next := netip.AddrFrom4([4]byte(o[ptr : ptr+4]))
			if !in.env.MIB.On(nodeForwarding) || !in.env.MIB.On(nodeForwSrcRt) {
				fail, failCode = off, packet.ICMPUnreachSrcFail
				return false
			}
			hop, _ := in.routes.Lookup(next)
			if hop == nil || o[0] == optSSRR && hop.Flags&gatewayFlag != 0 {
				fail, failCode = off, packet.ICMPUnreachSrcFail
				return false
			}
			me := in.firstAddr(hop.If).As4()
			copy(o[ptr:], me[:])
			o[2] += 4
			dst = next
			h.SetDst(next)
			changed = true
		case optRR:
			if len(o) < 3 || o[2] < 4 {
				bad = off + 2
				return false
			}
			if ptr := int(o[2]) - 1; ptr+4 <= len(o) {
				me := in.recordAddr(ifp, dst).As4()
				copy(o[ptr:], me[:])
				o[2] += 4
				changed = true
			}
		case optTS:
			if len(o) < 4 || o[2] < 5 {
				bad = off + 2
				return false
			}
			if !in.stamp(w, ifp, o, dst) {
				bad = off
				return false
			}
			changed = true
		}
		return true
	})
	if malformed >= 0 {
		bad = malformed
	}
	switch {
	case bad >= 0:
		in.sendError(w, p, packet.ICMPParamProblem, 0, uint32(packet.IPv4Len+bad)<<24)
		w.Drop(p, cntBadOpts)
		return dst, true
	case fail >= 0:
		in.sendError(w, p, packet.ICMPUnreach, failCode, 0)
		w.Drop(p, cntBadOpts)
		return dst, true
	}
	if changed {
		h.SetChecksum()
	}
	return dst, false
}

// recordAddr is the address that record route and timestamp get: that of the
// interface the packet will leave by, or came in by.
func (in *Inet) recordAddr(ifp *netif.Interface, dst netip.Addr) netip.Addr {
	if a := in.Local(dst); a != nil {
		return a.Addr
	}
	if hop, _ := in.routes.Lookup(dst); hop != nil && hop.If != nil {
		return in.firstAddr(hop.If)
	}
	return in.firstAddr(ifp)
}

// stamp fills in a timestamp option; false: it is malformed or overflowed.
func (in *Inet) stamp(w *netif.Work, ifp *netif.Interface, o []byte, dst netip.Addr) bool {
	ptr, flag := int(o[2])-1, o[3]&15
	need := 4
	if flag != tsOnly {
		need = 8
	}
	if ptr+need > len(o) {
		if o[3]>>4 == 15 {
			return false
		}
		o[3] += 1 << 4
		return true
	}
	switch flag {
	case tsOnly:
	case tsAddr:
		me := in.recordAddr(ifp, dst).As4()
		copy(o[ptr:], me[:])
		ptr += 4
	case tsPrespec:
		if in.Local(netip.AddrFrom4([4]byte(o[ptr:ptr+4]))) == nil {
			return true
		}
		ptr += 4
	default:
		return false
	}
	binary.BigEndian.PutUint32(o[ptr:], in.icmpTime(w.Now))
	o[2] = byte(ptr + 5)
	return true
}

// replyOptions are the options of an answer to a packet with these options:
// what was recorded goes back, a source route is reversed (RFC 1122
// §3.2.1.8, §3.2.2.6). first is the first hop of that route.
func replyOptions(opts []byte, src netip.Addr) (out []byte, first netip.Addr) {
	eachOption(opts, func(_ int, o []byte) bool {
		switch o[0] {
		case optRR, optTS:
			out = append(out, o...)
		case optLSRR, optSSRR:
			n := (min(int(o[2])-1, len(o)) - 3) / 4
			if n <= 0 {
				return true
			}
			first = netip.AddrFrom4([4]byte(o[3+4*(n-1) : 3+4*n]))
			r := []byte{o[0], byte(3 + 4*n), 4}
			for i := n - 2; i >= 0; i-- {
				r = append(r, o[3+4*i:7+4*i]...)
			}
			s := src.As4()
			out = append(out, append(r, s[:]...)...)
		}
		return true
	})
	for len(out)%4 != 0 {
		out = append(out, optEOL)
	}
	return out, first
}

// CheckOptions says whether a user may send these options, and answers them
// padded and with a source route's first hop taken out (ip_pcbopts). ok false:
// malformed or longer than 40 octets.
func CheckOptions(opts []byte) (padded []byte, first netip.Addr, ok bool) {
	if len(opts) > packet.IPv4MaxLen-packet.IPv4Len {
		return nil, first, false
	}
	ok = true
	bad := eachOption(opts, func(_ int, o []byte) bool {
		switch o[0] {
		case optLSRR, optSSRR: // the first hop is where it is sent, the last one who it is for
			if ok = !first.IsValid() && len(o) >= 7 && o[2] == 4; !ok {
				return false
			}
			first = netip.AddrFrom4([4]byte(o[3:7]))
			if len(o) == 7 {
				o = nil
			} else {
				o = append([]byte{o[0], o[1] - 4, 4}, o[7:]...)
			}
		case optRR:
			ok = ok && len(o) >= 3 && o[2] >= 4
		case optTS:
			ok = ok && len(o) >= 4 && o[2] >= 5
		}
		padded = append(padded, o...)
		return ok
	})
	for len(padded)%4 != 0 {
		padded = append(padded, optEOL)
	}
	return padded, first, ok && bad < 0
}
