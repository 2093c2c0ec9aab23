package inet6

import (
	"bytes"
	"crypto/md5" // RFC 4620 §5 says so; nothing is secret
	"encoding/binary"
	"net/netip"
	"strings"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Node information queries (RFC 4620).

var (
	nodeNodeInfo = mib.Int("net.inet6.icmp6.nodeinfo", 3, "Node information that is given to who asks: 1 the name, 2 addresses, 4 temporary ones too.", mib.Range(0, 7))

	cntNIIn  = mib.NewCounter("icmp6", "node information received", "# node information quer{y} received")
	cntNIOut = mib.NewCounter("icmp6", "node information sent", "# node information repl{y} sent")
)

const (
	niLen = 16 // type, code, checksum, qtype, flags, nonce

	niSubjectIPv6 = 0
	niSubjectName = 1
	niSubjectIPv4 = 2

	niReplyOK      = 0
	niReplyUnknown = 2

	niNoop  = 0
	niTypes = 1 // which types are answered, as KAME has it; RFC 4620 §6 leaves it unused
	niName  = 2
	niAddrs = 3
	niIPv4  = 4

	niGiveName  = 1
	niGiveAddrs = 2
	niGiveTemp  = 4

	// Flags of niAddrs: which ones (RFC 4620 §6.4).
	niAll       = 0x02
	niLinkLocal = 0x08
	niSiteLocal = 0x10
	niGlobal    = 0x20

	mostNIAddrs = 64
)

// NameGroup is the group that a node of this name listens to (RFC 4620 §5): of
// the first label, in small letters.
func NameGroup(name string) netip.Addr {
	label, _, _ := strings.Cut(strings.ToLower(name), ".")
	sum := md5.Sum(append([]byte{byte(len(label))}, label...))
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 2, 12: 0xff, 13: sum[0], 14: sum[1], 15: sum[2]})
}

// renamed moves every interface from one name's group to the other's.
func (in *Inet6) renamed(old, new string) {
	w := in.env.Begin(in.env.Now())
	defer w.End()
	for _, ifp := range in.env.Ifs.All() {
		if ifp == in.lo || !in.any(ifp) {
			continue
		}
		if old != "" {
			in.LeaveGroup(w, ifp, NameGroup(old))
		}
		if new != "" {
			in.JoinGroup(w, ifp, NameGroup(new))
		}
	}
}

// hostname is the node's name; "": it has none.
func (in *Inet6) hostname() string { return in.env.MIB.Str(netif.NodeHostname) }

// nodeInfo answers a query, turning its packet into the reply.
func (in *Inet6) nodeInfo(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	w.Count(cntNIIn)
	m := packet.ICMP6(p.Bytes())
	h := packet.IPv6(p.L3())
	if len(m) < niLen {
		w.Drop(p, cntICMPShort)
		return
	}
	give := in.env.MIB.Int(nodeNodeInfo)
	from, to := packet.Scoped(h.Src(), p.RcvIf), packet.Scoped(h.Dst(), p.RcvIf)
	qtype, flags := binary.BigEndian.Uint16(m[4:]), binary.BigEndian.Uint16(m[6:])
	subject := m[niLen:]
	if len(subject) == 0 && qtype != niNoop || give == 0 || !in.aboutUs(ifp, m.Code(), subject) || from == unspecified {
		w.Drop(p, cntNoAnswer)
		return
	}
	code := uint8(niReplyOK)
	var data []byte
	switch qtype {
	case niNoop:
		flags = 0
	case niTypes:
		data, flags = binary.BigEndian.AppendUint32(nil, in.niAnswered(give)), 0
	case niName:
		if give&niGiveName == 0 || in.hostname() == "" {
			w.Drop(p, cntNoAnswer)
			return
		}
		data, flags = append(make([]byte, 4), wireName(in.hostname())...), 0
	case niAddrs, niIPv4:
		if give&niGiveAddrs == 0 {
			w.Drop(p, cntNoAnswer)
			return
		}
		data = in.niAddresses(ifp, qtype, flags, give&niGiveTemp != 0)
	default:
		code, flags = niReplyUnknown, 0
	}
	r := in.env.Pool.Get(niLen + len(data))
	if r == nil {
		w.Drop(p, cntOutNoMem)
		return
	}
	a := packet.ICMP6(r.Append(niLen + len(data)))
	copy(a, m[:niLen])
	a.SetType(packet.ICMP6NIReply, code)
	binary.BigEndian.PutUint16(a[6:], flags)
	copy(a[niLen:], data)
	f := socket.Flow{Dst: from, Proto: packet.ProtoICMPv6}
	if !to.IsMulticast() && !in.isAnycast(to) {
		f.Src = to
	}
	p.Free()
	w.Count(cntReflect)
	w.Count(cntNIOut)
	if err := in.sendICMP(w, r, &f); err != nil {
		w.Count(cntNoRoute)
	}
}

// niAnswered is the types that are answered, a bit each, when give is what may be told.
func (in *Inet6) niAnswered(give int64) uint32 {
	types := uint32(1<<niNoop | 1<<niTypes)
	if give&niGiveName != 0 && in.hostname() != "" {
		types |= 1 << niName
	}
	if give&niGiveAddrs != 0 {
		types |= 1<<niAddrs | 1<<niIPv4
	}
	return types
}

// aboutUs reports whether a query's subject is this node (RFC 4620 §4).
func (in *Inet6) aboutUs(ifp *netif.Interface, code uint8, subject []byte) bool {
	switch code {
	case niSubjectIPv6:
		if len(subject) < 16 {
			return false
		}
		a := packet.Scoped(netip.AddrFrom16([16]byte(subject)), ifp.Index)
		return in.Local(a) != nil || in.groups.joined(ifp.Index, a)
	case niSubjectIPv4:
		if len(subject) < 4 {
			return false
		}
		want := netip.AddrFrom4([4]byte(subject))
		for _, a := range ifp.Addrs() {
			if a.Addr == want {
				return true
			}
		}
		return false
	case niSubjectName:
		name := in.hostname()
		if len(subject) == 0 {
			return true // NOOP's
		}
		want := bytes.ToLower(subject)
		whole := wireName(name)
		short, _, _ := strings.Cut(name, ".")
		return name != "" && (bytes.Equal(want, whole) || bytes.Equal(want, wireName(short)))
	}
	return false
}

// wireName is a name as DNS writes it (RFC 1035 §3.1); one without a domain ends
// in two zeros (RFC 4620 §6.3).
func wireName(name string) (out []byte) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for label := range strings.SplitSeq(name, ".") {
		label = label[:min(len(label), 63)]
		out = append(append(out, byte(len(label))), label...)
	}
	out = append(out, 0)
	if !strings.Contains(name, ".") {
		out = append(out, 0)
	}
	return out
}

// niAddresses are the addresses that a query asks for, each behind a time to
// live of 0: of the interface, or of all.
func (in *Inet6) niAddresses(ifp *netif.Interface, qtype, flags uint16, temp bool) (out []byte) {
	ifs, n := []*netif.Interface{ifp}, 0
	if flags&niAll != 0 {
		ifs = in.env.Ifs.All()
	}
	for _, i := range ifs {
		for _, a := range i.Addrs() {
			if n == mostNIAddrs {
				return out
			}
			switch {
			case qtype == niIPv4 && a.Addr.Is4() && !a.Tentative && !a.Duplicated:
				b := a.Addr.As4()
				out = append(append(out, 0, 0, 0, 0), b[:]...)
			case qtype == niAddrs && usable(a) && niWants(flags, a, temp):
				b := unscoped(a.Addr).As16()
				out = append(append(out, 0, 0, 0, 0), b[:]...)
			default:
				continue
			}
			n++
		}
	}
	return out
}

func niWants(flags uint16, a *netif.Addr, temp bool) bool {
	if a.Flags&netif.AddrTemporary != 0 && !temp {
		return false
	}
	switch scopeOf(a.Addr) {
	case scopeLink:
		return flags&niLinkLocal != 0
	case scopeSite:
		return flags&niSiteLocal != 0
	}
	return flags&niGlobal != 0
}
