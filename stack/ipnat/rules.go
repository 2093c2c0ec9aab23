package ipnat

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/gaissmai/bart"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// rule is one rule; edits keep it, with its counters.
type rule struct {
	ipl.NATRule
	text string
	src  netip.Prefix // of bimap, map-block and nptv6: the inside network
	hits atomic.Uint64
	live atomic.Int64
	turn atomic.Uint32 // round-robin, sequential
}

func (r *rule) stateless() bool { return r.Kind == ipl.NPT6 }

// ruleset is an immutable list of rules, compiled.
type ruleset struct {
	all   []*rule
	ifs   map[string]*lists // by the interface's name
	other *lists            // of interfaces that no rule names
	open  []string          // interfaces at which rules let somebody in who has no session

	stateless bool // there are rules without sessions
}

// lists are the rules of an interface: what is asked when a packet comes in, by
// its destination, and when one goes out, by its source.
type lists struct {
	in, out index
	six     []*rule // nat64, asked before the others what goes out to its prefix
}

// index finds the rules that may be about an address. Under each network that
// rules name are those of it and of all that hold it, in their order.
type index struct {
	t bart.Table[[]*rule]
	n int
}

func compile(all []*rule) *ruleset {
	rs := &ruleset{all: all, ifs: map[string]*lists{}}
	for _, r := range all {
		rs.stateless = rs.stateless || r.stateless()
		for _, name := range []string{r.If, r.If2} {
			if name != "" && name != "*" && rs.ifs[name] == nil {
				rs.ifs[name] = compileFor(all, name)
			}
		}
	}
	rs.other = compileFor(all, "*")
	for name, l := range rs.ifs { // map order: sorted below
		if l.in.n > 0 {
			rs.open = append(rs.open, name)
		}
	}
	slices.Sort(rs.open)
	return rs
}

func compileFor(all []*rule, name string) *lists {
	l := new(lists)
	var in, out []keyed
	for _, r := range all {
		// Of "If,If2" a map is about what goes out of the second, and a rdr about what comes
		// in by the first; the answers are the other way round.
		at := r.If
		if r.If2 != "" && r.Kind != ipl.Rdr {
			at = r.If2
		}
		if at != "*" && at != name {
			continue
		}
		switch r.Kind {
		case ipl.Rdr:
			in = append(in, keyed{networkOf(r.Dst), r})
		case ipl.NAT64:
			l.six = append(l.six, r)
		case ipl.Bimap, ipl.NPT6:
			in = append(in, keyed{r.To.Masked(), r})
			out = append(out, keyed{networkOf(r.Src), r})
		default:
			out = append(out, keyed{networkOf(r.Src), r})
		}
	}
	l.in.fill(in)
	l.out.fill(out)
	return l
}

type keyed struct {
	net netip.Prefix
	r   *rule
}

func (x *index) fill(ks []keyed) {
	x.n = len(ks)
	for _, k := range ks {
		nets := []netip.Prefix{k.net}
		if !k.net.IsValid() { // any, or not to be told by a prefix
			nets = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
		}
		for _, p := range nets {
			if _, ok := x.t.Get(p); ok {
				continue
			}
			var list []*rule
			for _, o := range ks {
				if !o.net.IsValid() || o.net.Addr().Is4() == p.Addr().Is4() && o.net.Bits() <= p.Bits() && o.net.Contains(p.Addr()) {
					list = append(list, o.r)
				}
			}
			x.t.Insert(p, list)
		}
	}
}

// networkOf is the network of an end, not valid if it is not one.
func networkOf(e ipl.Endpoint) netip.Prefix {
	if e.Kind != ipl.NetAddr || e.Not {
		return netip.Prefix{}
	}
	n := ones(e.Mask)
	if n < 0 || e.Addr.IsUnspecified() && n == e.Addr.BitLen() { // the interface's own
		return netip.Prefix{}
	}
	return netip.PrefixFrom(e.Addr, n).Masked()
}

// ones is the length of a mask; -1: it has zeros before ones.
func ones(mask netip.Addr) int {
	n, end := 0, false
	for _, o := range mask.AsSlice() {
		for b := 7; b >= 0; b-- {
			switch one := o>>b&1 == 1; {
			case one && end:
				return -1
			case one:
				n++
			default:
				end = true
			}
		}
	}
	return n
}

// match answers the first rule that a packet of no session matches, or nil.
func (rs *ruleset) match(n *NAT, i *pfil.Info) *rule {
	l := rs.ifs[i.If.Name]
	if l == nil {
		l = rs.other
	}
	if i.V6 && i.Out {
		for _, r := range l.six {
			if r.src.Contains(i.Dst) {
				return r
			}
		}
	}
	x, a := &l.in, i.Dst
	if i.Out {
		x, a = &l.out, i.Src
	}
	if x.n == 0 {
		return nil
	}
	list, _ := x.t.Lookup(a)
	for _, r := range list {
		if r.matches(n, i) {
			return r
		}
	}
	return nil
}

// matches asks the rule about a packet whose network fits. Of a fragment without its
// transport header ports are not asked.
func (r *rule) matches(n *NAT, i *pfil.Info) bool {
	body := i.Is&pfil.FragBody != 0
	ports := i.Proto == packet.ProtoTCP || i.Proto == packet.ProtoUDP
	switch r.Kind {
	case ipl.Bimap, ipl.NPT6:
		return !i.Out || n.holds(r.Src, i.Src, i.If)
	case ipl.Rdr:
		if !n.holds(r.Dst, i.Dst, i.If) || !n.holds(r.Src, i.Src, i.If) || !protoIs(r.Proto, i.Proto) {
			return false
		}
		if len(r.Targets) > 0 && r.Targets[0].Is4() == i.V6 {
			return false
		}
		if !ports || body {
			return r.Ports == [2]uint16{} && r.Src.Port.Op == ipl.PortAny
		}
		return r.Src.Port.Matches(i.Sport) && (r.Ports == [2]uint16{} || i.Dport >= r.Ports[0] && i.Dport <= r.Ports[1])
	}
	if r.To.Addr().Is4() == i.V6 || !n.holds(r.Src, i.Src, i.If) || !n.holds(r.Dst, i.Dst, i.If) {
		return false
	}
	if r.Proxy != nil && (i.Proto != packet.ProtoTCP || body || i.Dport != r.Proxy.Port) {
		return false
	}
	switch {
	case r.PortMap != nil || r.ICMPIDs != nil:
		if !(r.PortMap != nil && protoIs(r.PortMap.Proto, i.Proto) || r.ICMPIDs != nil && (i.Echo() || body && protoIs(r.ICMPIDs.Proto, i.Proto))) {
			return false
		}
	case !protoIs(r.Proto, i.Proto):
		return false
	}
	if !ports || body {
		return r.Src.Port.Op == ipl.PortAny && r.Dst.Port.Op == ipl.PortAny
	}
	return r.Src.Port.Matches(i.Sport) && r.Dst.Port.Matches(i.Dport)
}

func protoIs(want int, p uint8) bool {
	switch want {
	case ipl.AnyProto:
		return true
	case ipl.ProtoTCPUDP:
		return p == packet.ProtoTCP || p == packet.ProtoUDP
	}
	return want == int(p)
}

// holds reports whether an end of a rule is about an address.
func (n *NAT) holds(e ipl.Endpoint, a netip.Addr, ifp *netif.Interface) bool {
	is := true
	switch e.Kind {
	case ipl.NetAddr:
		switch {
		case e.Addr.Is4() != a.Is4():
			is = false
		case e.Addr.IsUnspecified() && ones(e.Mask) == a.BitLen():
			is = owns(ifp, a)
		default:
			eh, el := packet.Words(e.Addr)
			mh, ml := packet.Words(e.Mask)
			ah, al := packet.Words(a)
			is = (ah^eh)&mh == 0 && (al^el)&ml == 0
		}
	case ipl.PoolAddr, ipl.HashAddr:
		is = n.pool != nil && n.pool(e.Name, a)
	case ipl.IfAddr:
		o := n.env.Ifs.ByName(e.Name)
		is = o != nil && ofInterface(o, e.Part, a)
	}
	return is != e.Not
}

func owns(ifp *netif.Interface, a netip.Addr) bool {
	for _, x := range ifp.Addrs() {
		if x.Addr == a {
			return true
		}
	}
	return false
}

func ofInterface(ifp *netif.Interface, part string, a netip.Addr) bool {
	switch part {
	case "":
		return owns(ifp, a)
	case "network", "netmasked":
		for _, x := range ifp.Addrs() {
			if x.Prefix().Contains(a) {
				return true
			}
		}
	}
	return false
}

// own is the interface's first address of a family that packets from elsewhere can be sent to.
func own(ifp *netif.Interface, v6 bool) (netip.Addr, bool) {
	for _, x := range ifp.Addrs() {
		if x.Addr.Is4() != v6 && !packet.IsLinkScoped(x.Addr) {
			return x.Addr, true
		}
	}
	return netip.Addr{}, false
}

// OpKind says what an Op does.
type OpKind uint8

const (
	Add           OpKind = iota + 1
	Remove               // the first rule that reads the same
	FlushRules           // ipnat -C
	FlushSessions        // ipnat -F
)

// Op is a part of a change.
type Op struct {
	Kind  OpKind
	Rule  ipl.NATRule // of Add and Remove
	Purge bool        // of Remove: the rule's sessions end, whatever it says (ipnat -p)
}

// OpError is the part that a change failed at.
type OpError struct {
	Index int
	Err   error
}

func (e *OpError) Error() string { return e.Err.Error() }

// Unwrap is the reason.
func (e *OpError) Unwrap() error { return e.Err }

// Edit changes rules and sessions, all of ops or, with an [OpError], none. Sessions
// outlive their rule unless it says purge. Reasons: EEXIST, ESRCH, EINVAL.
func (n *NAT) Edit(ops []Op) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.Clone(n.rules.Load().all)
	purged := map[*rule]bool{}
	sessions := false
	for i, op := range ops {
		text := op.Rule.String()
		at := slices.IndexFunc(all, func(r *rule) bool { return r.text == text })
		switch op.Kind {
		case Add:
			r, err := n.check(op.Rule)
			if err == nil && at >= 0 {
				err = fmt.Errorf("%s: %w", text, syscall.EEXIST)
			}
			if err != nil {
				return &OpError{i, err}
			}
			all = append(all, r)
		case Remove:
			if at < 0 {
				return &OpError{i, fmt.Errorf("%s: %w", text, syscall.ESRCH)}
			}
			purged[all[at]] = all[at].Purge || op.Purge
			all = slices.Delete(all, at, at+1)
		case FlushRules:
			for _, r := range all {
				purged[r] = r.Purge
			}
			all = nil
		case FlushSessions:
			sessions = true
		default:
			return &OpError{i, fmt.Errorf("operation %d is none: %w", op.Kind, syscall.EINVAL)}
		}
	}
	n.rules.Store(compile(all))
	n.gen.Add(1)
	n.table.flush(func(s *session) bool { return sessions || purged[s.rule] })
	if sessions {
		n.frags.flush(func(*fragment) bool { return true })
	}
	return nil
}

// check answers a rule that can be obeyed.
func (n *NAT) check(x ipl.NATRule) (*rule, error) {
	r := &rule{NATRule: x, text: x.String(), src: networkOf(x.Src)}
	for _, e := range []ipl.Endpoint{x.Src, x.Dst} {
		if (e.Kind == ipl.PoolAddr || e.Kind == ipl.HashAddr) && n.pool == nil {
			return nil, fmt.Errorf("%s: there is no pool %q: pools need the filter", r.text, e.Name)
		}
	}
	switch {
	case x.If == "":
		return nil, fmt.Errorf("%s: a rule is about an interface, or \"*\"", r.text)
	case x.Proxy != nil && x.Proxy.Name != "ftp":
		return nil, fmt.Errorf("%s: there is no proxy %q", r.text, x.Proxy.Name)
	case x.Proxy != nil && x.Kind == ipl.Rdr && x.Ports == [2]uint16{}:
		return nil, fmt.Errorf("%s: a proxy reads the connections of a port, and there is none", r.text)
	case x.Kind == ipl.Rdr && len(x.Targets) == 0:
		return nil, fmt.Errorf("%s: rdr without an address", r.text)
	case x.Kind == ipl.Map && !x.To.IsValid():
		return nil, fmt.Errorf("%s: %w", r.text, errNoTarget)
	case x.Kind == ipl.NAT64:
		if n.net6 == nil {
			return nil, fmt.Errorf("%s: there is no IPv6", r.text)
		}
		if !r.src.IsValid() || r.src.Addr().Is4() || r.src.Bits() != 96 || !x.To.IsValid() || !x.To.Addr().Is4() || x.To.Bits() == 0 {
			return nil, fmt.Errorf("%s: a prefix of IPv6 of 96 bits, and a network of IPv4, are expected", r.text)
		}
	case x.Kind == ipl.MapBlock, x.Kind == ipl.Bimap, x.Kind == ipl.NPT6:
		if !r.src.IsValid() || !x.To.IsValid() || r.src.Addr().Is4() != x.To.Addr().Is4() {
			return nil, fmt.Errorf("%s: two networks of one family are expected", r.text)
		}
		if x.Kind == ipl.MapBlock && x.To.Addr().BitLen()-x.To.Bits() > 24 {
			return nil, fmt.Errorf("%s: blocks of at most 2^24 addresses", r.text)
		}
		if x.Kind != ipl.MapBlock && r.src.Bits() != x.To.Bits() || x.Kind == ipl.NPT6 && (r.src.Addr().Is4() || r.src.Bits() > 64) {
			return nil, fmt.Errorf("%s: the networks do not fit each other", r.text)
		}
	case x.Kind != ipl.Map && x.Kind != ipl.Rdr:
		return nil, fmt.Errorf("%s: translations of this kind are not built in", r.text)
	}
	return r, nil
}

var errNoTarget = fmt.Errorf("a network to map to is expected")

// RuleInfo is a rule and what it has done.
type RuleInfo struct {
	Rule     ipl.NATRule
	Hits     uint64 // sessions begun, or packets of nptv6
	Sessions int64  // that are alive
}

// Rules are the rules in their order.
func (n *NAT) Rules() (all []RuleInfo) {
	for _, r := range n.rules.Load().all {
		all = append(all, RuleInfo{r.NATRule, r.hits.Load(), r.live.Load()})
	}
	return all
}

// Number is the place of the rule that reads so, from 1; 0: there is none.
func (n *NAT) Number(text string) int {
	return 1 + slices.IndexFunc(n.rules.Load().all, func(r *rule) bool { return r.text == text })
}
