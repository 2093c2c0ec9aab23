package inet6

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	nodeDeprecated = mib.Int("net.inet6.ip6.use_deprecated", 1, "1: a deprecated address may be chosen when there is no other.", mib.Bool())
	nodePreferTemp = mib.Int("net.inet6.ip6.prefer_tempaddr", 0, "1: temporary addresses are chosen before others (RFC 6724, rule 7).", mib.Bool())
)

// Policy is an entry of the table that address selection goes by (RFC 6724
// §2.1): the longest prefix that an address is in gives its precedence and
// label.
type Policy struct {
	Prefix     netip.Prefix
	Precedence int
	Label      int
	Use        uint64 // selections that have met it
}

// maxPolicies bounds the table.
const maxPolicies = 256

type policyEntry struct {
	Policy
	use atomic.Uint64
}

// policies is the table, longest prefix first.
type policies struct {
	mu  sync.Mutex // writers
	all atomic.Pointer[[]*policyEntry]
}

// defaultPolicies is RFC 6724 §2.1.
var defaultPolicies = [...]struct {
	prefix            string
	precedence, label int
}{
	{"::1/128", 50, 0}, {"::/0", 40, 1}, {"::ffff:0:0/96", 35, 4}, {"2002::/16", 30, 2}, {"2001::/32", 5, 5},
	{"fc00::/7", 3, 13}, {"::/96", 1, 3}, {"fec0::/10", 1, 11}, {"3ffe::/16", 1, 12},
}

func (p *policies) init() {
	var all []*policyEntry
	for _, d := range defaultPolicies {
		all = append(all, &policyEntry{Policy: Policy{Prefix: netip.MustParsePrefix(d.prefix), Precedence: d.precedence, Label: d.label}})
	}
	p.store(all)
}

func (p *policies) store(all []*policyEntry) {
	slices.SortStableFunc(all, func(a, b *policyEntry) int { return cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()) })
	p.all.Store(&all)
}

// of is the entry for an address.
func (p *policies) of(ip netip.Addr) *policyEntry {
	ip = unscoped(ip)
	for _, e := range *p.all.Load() {
		if e.Prefix.Contains(ip) {
			return e
		}
	}
	return &noPolicy
}

// noPolicy is the entry for an address that is in none.
var noPolicy = policyEntry{Policy: Policy{Label: -1}}

// Policies are the entries, longest prefix first.
func (in *Inet6) Policies() (out []Policy) {
	for _, e := range *in.policies.all.Load() {
		p := e.Policy
		p.Use = e.use.Load()
		out = append(out, p)
	}
	return out
}

// AddPolicy adds an entry, or changes the one of its prefix. ENOBUFS: there are
// 256.
func (in *Inet6) AddPolicy(p Policy) error {
	if !p.Prefix.IsValid() || !p.Prefix.Addr().Is6() {
		return syscall.EINVAL
	}
	p.Prefix = p.Prefix.Masked()
	t := &in.policies
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(*t.all.Load()), func(e *policyEntry) bool { return e.Prefix == p.Prefix })
	if len(all) >= maxPolicies {
		return syscall.ENOBUFS
	}
	t.store(append(all, &policyEntry{Policy: p}))
	in.rebuild()
	return nil
}

// DeletePolicy removes an entry. ESRCH: there is none.
func (in *Inet6) DeletePolicy(prefix netip.Prefix) error {
	t := &in.policies
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.all.Load()
	all := slices.DeleteFunc(slices.Clone(old), func(e *policyEntry) bool { return e.Prefix == prefix.Masked() })
	if len(all) == len(old) {
		return syscall.ESRCH
	}
	t.store(all)
	in.rebuild()
	return nil
}

// Scopes (RFC 4291 §2.7, RFC 6724 §3.1).
const (
	scopeInterface = 0x1
	scopeLink      = 0x2
	scopeSite      = 0x5
	scopeGlobal    = 0xe
)

func scopeOf(ip netip.Addr) int {
	hi, lo := packet.Words(ip)
	switch {
	case hi>>56 == 0xff:
		return int(hi >> 48 & 0xf)
	case hi>>54 == 0xfe80>>6 || hi == 0 && lo == 1:
		return scopeLink
	case hi>>54 == 0xfec0>>6:
		return scopeSite
	}
	return scopeGlobal
}

// choose is the source address for packets to dst that leave by ifp (RFC 6724
// §5); nil: none. temp is Flow.Temp. An address of another interface is a last resort, as KAME has
// it, and one of another link none at all.
func (in *Inet6) choose(dst netip.Addr, ifp *netif.Interface, temp int8) *netif.Addr {
	now := in.env.Now()
	policy := in.policies.of(dst)
	policy.use.Add(1)
	var best *candidate
	dscope := scopeOf(dst)
	list := in.addrs.Load().list
	for i := range list {
		a := &list[i]
		if a.Flags&netif.AddrAnycast != 0 || packet.IsLinkScoped(a.Addr.Addr) && a.If != ifp ||
			a.Addr.Addr == loopback && dst != loopback && ifp != in.lo ||
			a.If != ifp && dscope <= scopeLink ||
			a.Deprecated(now) && !in.env.MIB.On(nodeDeprecated) {
			continue
		}
		if best == nil || in.better(a, best, dst, ifp, dscope, policy.Label, temp, now) {
			best = a
		}
	}
	if best == nil {
		return nil
	}
	return best.Addr
}

// better reports whether a is to be chosen before b.
func (in *Inet6) better(a, b *candidate, dst netip.Addr, ifp *netif.Interface, dscope, dlabel int, temp int8, now int64) bool {
	// Rule 1: the same address.
	if (a.Addr.Addr == dst) != (b.Addr.Addr == dst) {
		return a.Addr.Addr == dst
	}
	// Rule 2: appropriate scope.
	switch {
	case a.scope < b.scope:
		return a.scope >= dscope
	case b.scope < a.scope:
		return b.scope < dscope
	}
	// Rule 3: no deprecated one; and an optimistic one is as bad (RFC 4429 §3.3).
	bad := func(x *candidate) bool { return x.Deprecated(now) || x.Tentative }
	if bad(a) != bad(b) {
		return bad(b)
	}
	// Rule 5: the outgoing interface.
	if (a.If == ifp) != (b.If == ifp) {
		return a.If == ifp
	}
	// Rule 6: the same label.
	if (a.label == dlabel) != (b.label == dlabel) {
		return a.label == dlabel
	}
	// Rule 7: temporary or public ones.
	if ta, tb := a.Flags&netif.AddrTemporary != 0, b.Flags&netif.AddrTemporary != 0; ta != tb {
		return ta == (temp > 0 || temp == 0 && in.env.MIB.On(nodePreferTemp))
	}
	// Rule 8: the longest matching prefix.
	return min(common(a.Addr.Addr, dst), a.Bits) > min(common(b.Addr.Addr, dst), b.Bits)
}

// common is the length of the prefix that two addresses share.
func common(a, b netip.Addr) int {
	ah, al := packet.Words(a)
	bh, bl := packet.Words(b)
	if ah != bh {
		return bits.LeadingZeros64(ah ^ bh)
	}
	return 64 + bits.LeadingZeros64(al^bl)
}
