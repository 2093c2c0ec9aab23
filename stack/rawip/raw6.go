package rawip

import (
	"encoding/binary"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Options of raw sockets of IPv6 (KAME's numbers).
const (
	LevelIPv6   = packet.ProtoIPv6
	LevelICMPv6 = packet.ProtoICMPv6

	IPv6Checksum = 26 // at level IPPROTO_IPV6: where the checksum stands; -1: there is none (RFC 3542 §3.1)
	ICMP6Filter  = 18 // at level IPPROTO_ICMPV6: 256 bits, those of the types that pass (§3.2)
)

var cntSum6 = mib.NewCounter("rawip6", "bad checksum", "# datagram{s} with a bad checksum (IPV6_CHECKSUM)")

// icmp6Sum is where ICMPv6's checksum stands.
const icmp6Sum = 2

// six is what a raw socket of IPv6 has of its own.
type six struct {
	sumAt  int // -1: none
	filter [8]uint32
}

func (x *six) init(proto int) {
	if x.sumAt = -1; proto == packet.ProtoICMPv6 {
		x.sumAt = icmp6Sum
	}
	for i := range x.filter {
		x.filter[i] = ^uint32(0)
	}
}

func (x *six) passes(typ uint8) bool { return x.filter[typ>>5]>>(typ&31)&1 != 0 }

// Deliver6 is inet6.RawSink. As with IPv4, sockets see what TCP, UDP and the
// stack itself take, too.
func (r *Raw) Deliver6(w *netif.Work, pkt *packet.Buf, proto uint8) bool {
	all := *r.all.Load()
	if len(all) == 0 || r.net6 == nil {
		return false
	}
	src, dst := r.net6.Addrs(pkt)
	found := false
	for _, p := range all {
		if !p.v6() || !p.matches(w, src, dst, pkt, proto) {
			continue
		}
		p.mu.Lock()
		x := p.six
		p.mu.Unlock()
		if proto == packet.ProtoICMPv6 && !x.passes(pkt.Bytes()[0]) {
			continue
		}
		found = true
		c := pkt.CloneL3()
		if c == nil {
			w.Count(cntFull)
			continue
		}
		c.CompleteCsum()
		if proto != packet.ProtoICMPv6 && x.sumAt >= 0 { // whatever the sender or a driver says of it
			b := c.Bytes()
			if len(b) < x.sumAt+2 || packet.Fold(packet.Sum(packet.PseudoSum(src, dst, proto, len(b)), b)) != 0xffff {
				w.Drop(c, cntSum6)
				continue
			}
		}
		if p.so.Deliver(w, c) {
			w.Count(cntIn)
		} else {
			c.Free()
			w.Count(cntFull)
		}
	}
	return found
}

// send6 sends what follows the IPv6 header, with its checksum if it has one.
// EINVAL: the data does not reach as far as that.
func (p *pcb) send6(w *netif.Work, data []byte, f *socket.Flow) (int, error) {
	p.mu.Lock()
	at := p.six.sumAt
	p.mu.Unlock()
	if at >= 0 && len(data) < at+2 {
		return 0, syscall.EINVAL
	}
	f.Place()
	dst := f.Dst
	src, err := p.r.net6.Source(f)
	if err != nil {
		return 0, err
	}
	f.Src = src
	pkt := p.r.env.Pool.Get(len(data))
	if pkt == nil {
		return 0, syscall.ENOBUFS
	}
	copy(pkt.Append(len(data)), data)
	pkt.Csum = packet.CsumVerified
	if at >= 0 {
		binary.BigEndian.PutUint16(pkt.Bytes()[at:], packet.Fold(packet.PseudoSum(src, dst, f.Proto, len(data))))
		pkt.SetPartial(0, uint16(at))
		pkt.CompleteCsum()
	}
	w.Count(cntOut)
	if err := p.r.net6.Output(w, pkt, f); err != nil {
		if err == syscall.EMSGSIZE {
			p.opts.TooBig(w, socket.Addr{IP: dst}, f.Route.MTU)
		}
		return 0, err
	}
	return len(data), nil
}

func isOption6(level, name int) bool {
	return level == LevelIPv6 && name == IPv6Checksum || level == LevelICMPv6
}

func (p *pcb) setOption6(level, name int, v []byte) error {
	if level == LevelICMPv6 {
		if name != ICMP6Filter || p.so.Proto != packet.ProtoICMPv6 {
			return syscall.ENOPROTOOPT
		}
		var x six
		switch len(v) {
		case 0: // as at first
			x.init(packet.ProtoICMPv6)
		case len(x.filter) * 4:
			for i := range x.filter {
				x.filter[i] = binary.LittleEndian.Uint32(v[4*i:])
			}
		default:
			return syscall.EINVAL
		}
		p.mu.Lock()
		p.six.filter = x.filter
		p.mu.Unlock()
		return nil
	}
	n, err := socket.Int32(v)
	switch {
	case err != nil:
		return err
	case p.so.Proto == packet.ProtoICMPv6 && n != icmp6Sum, n < -1, n > 0 && n%2 != 0, n > 65534:
		return syscall.EINVAL
	}
	p.mu.Lock()
	p.six.sumAt = n
	p.mu.Unlock()
	return nil
}

func (p *pcb) option6(level, name int) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case level == LevelIPv6:
		return socket.Value32(p.six.sumAt), nil
	case name != ICMP6Filter || p.so.Proto != packet.ProtoICMPv6:
		return nil, syscall.ENOPROTOOPT
	}
	var v []byte
	for _, word := range p.six.filter {
		v = binary.LittleEndian.AppendUint32(v, word)
	}
	return v, nil
}
