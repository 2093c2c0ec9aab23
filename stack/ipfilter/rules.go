package ipfilter

import (
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// rule is a rule as the packet path reads it. Its counters outlive edits that
// leave it.
type rule struct {
	ipl.Rule
	f        *Filter
	src, dst addrTest
	group    uint32 // number of the group, for the log
	opts     optTest
	follows  bool // every packet of its states is to be looked at by it
	varies   bool // packets of one flow can differ in what it asks
	aside    aside
	text     string       // what it says, wherever it stands
	number   atomic.Int32 // in its list, from 1

	Hits, Bytes atomic.Uint64
	live        atomic.Int64 // states
}

// aside is what a rule is asked for beside the decision about a packet.
type aside uint8

const (
	deciding aside = iota
	counting       // action count: asked about every packet, those of states among them
	refused        // with bad-nat: asked about packets that the translator refuses, and no others
	asides
)

// addrTest is an Endpoint's address: (a & mask) == value, in words of the wire.
type addrTest struct {
	valueHi, valueLo, maskHi, maskLo uint64
	ep                               *ipl.Endpoint
}

// optTest is what "with" asks of the bits of an Info.
type optTest struct {
	set, clear       uint32 // of Info.Is
	optSet, optClear uint64 // of Info.Opts
	badSrc, badNAT   int8   // 1: asked for, -1: asked for not, 0: not asked
}

func newRule(f *Filter, r ipl.Rule) *rule {
	n := &rule{Rule: r, f: f, text: textOf(r)}
	n.follows = r.Log != nil && !r.Log.First || r.Fast || r.To != (ipl.Target{}) || r.DupTo != (ipl.Target{}) || r.ReplyTo != (ipl.Target{})
	n.src.init(&n.Src)
	n.dst.init(&n.Dst)
	n.varies = r.Flags != nil || r.ICMPType >= 0 || r.TOS >= 0 || r.TTL >= 0
	for _, w := range r.With {
		n.opts.add(w)
		n.varies = n.varies || w.What != ipl.WithState
	}
	switch {
	case n.opts.badNAT > 0:
		n.aside = refused
	case r.Action == ipl.Count:
		n.aside = counting
	}
	if g, err := strconv.ParseUint(r.Group, 10, 32); err == nil {
		n.group = uint32(g)
	}
	return n
}

func (t *addrTest) init(ep *ipl.Endpoint) {
	t.ep = ep
	if ep.Kind != ipl.NetAddr {
		return
	}
	addr, _ := packet.Unscoped(ep.Addr)
	t.maskHi, t.maskLo = packet.Words(ep.Mask)
	t.valueHi, t.valueLo = packet.Words(addr)
	t.valueHi &= t.maskHi
	t.valueLo &= t.maskLo
}

func (o *optTest) add(w ipl.With) {
	flag := func(bit uint32) {
		if w.Not {
			o.clear |= bit
		} else {
			o.set |= bit
		}
	}
	sign := func(to *int8) {
		if *to = 1; w.Not {
			*to = -1
		}
	}
	switch w.What {
	case ipl.WithIPOpts:
		flag(pfil.HasOpts)
	case ipl.WithShort:
		flag(pfil.Short)
	case ipl.WithFrag:
		flag(pfil.Fragment)
	case ipl.WithFragBody:
		flag(pfil.FragBody)
	case ipl.WithLowTTL:
		flag(isLowTTL)
	case ipl.WithMulticast:
		flag(pfil.Multicast)
	case ipl.WithBroadcast:
		flag(pfil.Broadcast)
	case ipl.WithMBcast:
		flag(isMBcast)
	case ipl.WithBad:
		flag(pfil.Bad)
	case ipl.WithState:
		flag(isState)
	case ipl.WithNAT:
		flag(pfil.NATed)
	case ipl.WithBadSrc:
		sign(&o.badSrc)
	case ipl.WithOOW:
		flag(pfil.OutOfWindow)
	case ipl.WithBadNAT:
		sign(&o.badNAT)
	case ipl.WithOpt, ipl.WithV6Hdrs:
		for _, name := range w.Opts {
			bit := uint64(1) << optionBit(name, w.What == ipl.WithV6Hdrs)
			if w.Not {
				o.optClear |= bit
			} else {
				o.optSet |= bit
			}
		}
	}
}

// Bits beside those of pfil.
const (
	isLowTTL uint32 = 1 << (24 + iota)
	isMBcast
	isState // it belongs to a state
)

// optionNames are the options that rules name, as IPFilter does, and their types.
var optionNames = map[string]uint8{
	"nop": 1, "rr": 7, "zsu": 10, "mtup": 11, "mtur": 12, "encode": 15, "ts": 68, "tr": 82, "sec": 130, "lsrr": 131,
	"e-sec": 133, "cipso": 134, "satid": 136, "ssrr": 137, "visa": 142, "imitd": 144, "eip": 145, "rtralrt": 148, "sdb": 149,
	"nsapa": 150, "dps": 151, "ump": 152, "finn": 205, "addext": 147,
}

// classNames are the levels of the security option (RFC 1108 §2.3).
var classNames = map[string]uint8{
	"reserv-4": 0x01, "topsecret": 0x3d, "secret": 0x5a, "reserv-3": 0x66, "confid": 0x96, "unclass": 0xab, "reserv-2": 0xcc, "reserv-1": 0xf1,
}

// headerNames are the extension headers that rules name, and their numbers.
var headerNames = map[string]uint8{
	"hopopts": packet.ProtoHopByHop, "routing": packet.ProtoRouting, "frag": packet.ProtoFragment, "dstopts": packet.ProtoDstOpts,
	"ah": packet.ProtoAH, "esp": packet.ProtoESP, "none": packet.ProtoNone,
}

func optionBit(name string, v6 bool) uint {
	if v6 {
		return pfil.HeaderBit(headerNames[name])
	}
	if _, class, ok := strings.Cut(name, "sec-class "); ok {
		return pfil.ClassBit(classNames[class])
	}
	return pfil.OptionBit(optionNames[name])
}

// look is a packet with what is asked of it besides its Info.
type look struct {
	*pfil.Info
	f      *Filter
	is     uint32
	family ipl.Family
}

func (f *Filter) look(i *pfil.Info) look {
	l := look{Info: i, f: f, is: i.Is, family: ipl.Inet}
	if i.V6 {
		l.family = ipl.Inet6
	}
	if i.Is&(pfil.Multicast|pfil.Broadcast) != 0 {
		l.is |= isMBcast
	}
	if int64(i.TTL) < f.env.MIB.Int(nodeMinTTL) {
		l.is |= isLowTTL
	}
	return l
}

// matches reports whether a rule is about a packet.
func (r *rule) matches(l *look) bool {
	return r.aboutFlow(l) && r.aboutPacket(l)
}

// aboutFlow asks what all packets of a flow have alike.
func (r *rule) aboutFlow(l *look) bool {
	switch {
	case r.Proto >= 0:
		if int(l.Proto) != r.Proto {
			return false
		}
	case r.Proto == ipl.ProtoTCPUDP && l.Proto != packet.ProtoTCP && l.Proto != packet.ProtoUDP:
		return false
	}
	if r.If != "" && r.If != l.If.Name {
		return false
	}
	if r.Via != "" && !r.via(l) {
		return false
	}
	if !r.src.matches(l, l.SrcHi, l.SrcLo, l.Src) || !r.dst.matches(l, l.DstHi, l.DstLo, l.Dst) {
		return false
	}
	if r.Src.Port.Op != ipl.PortAny || r.Dst.Port.Op != ipl.PortAny {
		if l.Is&pfil.FragBody != 0 || l.Is&pfil.Short != 0 && len(l.Transport()) < 4 || !r.Src.Port.Matches(l.Sport) || !r.Dst.Port.Matches(l.Dport) {
			return false
		}
	}
	return true
}

// via asks for the other interface of a packet that goes through: known on its way out. Of one that comes in
// the state is asked, which has it bound ([states.add]).
func (r *rule) via(l *look) bool {
	if !l.Out {
		return true
	}
	from := l.f.env.Ifs.ByIndex(l.Pkt.RcvIf)
	return from != nil && from.Name == r.Via
}

// aboutPacket asks the rest.
func (r *rule) aboutPacket(l *look) bool {
	switch {
	case r.TOS >= 0 && int(l.TOS) != r.TOS, r.TTL >= 0 && int(l.TTL) != r.TTL:
		return false
	case r.Flags != nil && (l.Is&(pfil.FragBody|pfil.Short) != 0 || l.Info.Flags&r.Flags.Mask != r.Flags.Set):
		return false
	case r.ICMPType >= 0 && (l.Is&(pfil.FragBody|pfil.Short) != 0 || int(l.Type) != r.ICMPType || r.ICMPTypeCode >= 0 && int(l.Code) != r.ICMPTypeCode):
		return false
	}
	o := &r.opts
	if l.is&o.set != o.set || l.is&o.clear != 0 || l.Opts&o.optSet != o.optSet || l.Opts&o.optClear != 0 {
		return false
	}
	return o.badSrc == 0 || (o.badSrc > 0) == l.badSource()
}

// badSource reports a source that is not routed by the interface the packet came by.
func (l *look) badSource() bool {
	n := l.f.nets[side(l.V6)]
	return !l.Out && n != nil && !n.ReversePath(l.Src, l.If, true)
}

func (t *addrTest) matches(l *look, hi, lo uint64, ip netip.Addr) bool {
	switch t.ep.Kind {
	case ipl.AnyAddr:
		return true
	case ipl.NetAddr:
		return (hi&t.maskHi == t.valueHi && lo&t.maskLo == t.valueLo) != t.ep.Not
	case ipl.PoolAddr, ipl.HashAddr:
		return l.f.pools.has(t.ep.Name, ip) != t.ep.Not
	case ipl.IfAddr:
		return l.f.ofInterface(t.ep, ip) != t.ep.Not
	}
	return false
}

// ofInterface reports whether ip is what ep says of an interface's addresses now.
func (f *Filter) ofInterface(ep *ipl.Endpoint, ip netip.Addr) bool {
	ifp := f.env.Ifs.ByName(ep.Name)
	if ifp == nil {
		return false
	}
	for _, a := range ifp.Addrs() {
		if a.Addr.BitLen() != ip.BitLen() {
			continue
		}
		if partOf(ep.Part, a, ip) {
			return true
		}
	}
	return false
}

func partOf(part string, a *netif.Addr, ip netip.Addr) bool {
	switch part {
	case "network": // its number alone
		return a.Prefix().Masked().Addr() == ip
	case "netmasked":
		return a.Prefix().Contains(ip)
	case "peer":
		return a.Dst == ip
	case "broadcast":
		return a.Broadcast == ip
	}
	return a.Addr == ip
}

// prefixOf is the address test as a prefix; false: it is none.
func (t *addrTest) prefixOf() (p netip.Prefix, ok bool) {
	if t.ep.Kind != ipl.NetAddr || t.ep.Not {
		return p, false
	}
	n := bits.LeadingZeros64(^t.maskHi) + bits.LeadingZeros64(^t.maskLo)
	if t.ep.Addr.Is4() {
		n = bits.LeadingZeros32(^uint32(t.maskLo))
		if uint32(t.maskLo) != ^uint32(0)<<(32-n) {
			return p, false
		}
	} else if n < 64 && t.maskLo != 0 || t.maskHi != ^uint64(0) && n > 64 {
		return p, false
	}
	addr, _ := packet.Unscoped(t.ep.Addr)
	p = netip.PrefixFrom(addr, n).Masked()
	m, _ := packet.Unscoped(t.ep.Mask)
	hi, lo := packet.Words(m)
	if full := maskOf(p); full != [2]uint64{hi, lo} {
		return p, false
	}
	return p, true
}

// maskOf are the words of a prefix's mask.
func maskOf(p netip.Prefix) [2]uint64 {
	n := p.Bits()
	if p.Addr().Is4() {
		return [2]uint64{0, uint64(^uint32(0) << (32 - n) & ^uint32(0))}
	}
	if n <= 64 {
		return [2]uint64{^uint64(0) << (64 - n), 0}
	}
	return [2]uint64{^uint64(0), ^uint64(0) << (128 - n)}
}
