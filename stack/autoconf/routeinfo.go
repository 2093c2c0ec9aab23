package autoconf

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var nodeMaxInfos = mib.Int("net.inet6.ip6.maxifrouteinfos", 64, "More specific routes of one interface that are learnt at most (ionet's own).", mib.Range(0, 4096))

// info is a more specific route that a router advertises (RFC 4191 §2.3). It
// lives by its own lifetime, whether its router is a default router or not.
type info struct {
	r      *router
	dst    netip.Prefix
	pref   int
	expire int64
}

// parseInfo takes a Route Information option apart. ok is false when it has to
// be ignored: a length that does not hold its prefix, or the reserved
// preference.
func parseInfo(o packet.NDOption) (dst netip.Prefix, pref int, lifetime uint32, ok bool) {
	bits := int(o[2])
	if len(o) > 24 || bits > 128 || bits > 0 && len(o) < 16 || bits > 64 && len(o) < 24 {
		return dst, 0, 0, false
	}
	var b [16]byte
	copy(b[:], o[8:])
	pref, ok = preference(o[3])
	return netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked(), pref, binary.BigEndian.Uint32(o[4:]), ok
}

// takeInfo obeys a Route Information option of r, nil: a router that there was
// no place for. When there are too many routes the newcomer is refused: what
// is there is in use. mu is held.
func (l *link) takeInfo(w *netif.Work, o packet.NDOption, r *router) bool {
	dst, pref, lifetime, ok := parseInfo(o)
	if !ok || dst.Addr().IsMulticast() || dst.Addr().IsLinkLocalUnicast() || dst.Addr().Is4In6() {
		return false
	}
	if dst.Bits() == 0 || r == nil { // the first is in heard
		return true
	}
	i := slices.IndexFunc(l.infos, func(i *info) bool { return i.r == r && i.dst == dst })
	switch {
	case lifetime == 0:
		if i >= 0 {
			l.infos = slices.Delete(l.infos, i, i+1)
		}
		return true
	case i < 0 && len(l.infos) >= int(l.a.env.MIB.Int(nodeMaxInfos)):
		w.Count(cntRefused)
		return true
	case i < 0:
		i = len(l.infos)
		l.infos = append(l.infos, &info{r: r, dst: dst})
	}
	l.infos[i].pref, l.infos[i].expire = pref, until(w.Now, lifetime)
	return true
}

// bestInfos are, for each destination, the advertised route to use. Those of
// routers that are down are none: a less specific way may still work (RFC 4191
// §3.2). mu is held.
func (l *link) bestInfos() (out []*info) {
	for _, i := range l.infos {
		if i.r.down != 0 {
			continue
		}
		at := slices.IndexFunc(out, func(o *info) bool { return o.dst == i.dst })
		if at < 0 {
			out = append(out, i)
		} else if better(i.r, i.pref, out[at].r, out[at].pref) {
			out[at] = i
		}
	}
	return out
}
