package ipfilter

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

var (
	nodeFragTTL = mib.Int("net.inet.ipf.ipfr_ttl", 60, "Seconds that a datagram is known whose first fragment has passed.", mib.Range(1, 3600))
	nodeFragMax = mib.Int("net.inet.ipf.ipfr_size", 4096, "Datagrams known by their first fragment at most; the oldest makes room.", mib.Range(0, 1<<20))
)

var cntBadFrag = mib.NewCounter("ipf", "bad fragment", "# fragment{s} over a transport header, or out of their strict order")

// frags are datagrams whose first fragment a rule with `keep frags`, or a state, has
// let pass: the others follow it.
type frags struct {
	f    *Filter
	mu   sync.Mutex // short, and only fragments take it
	byID map[fragKey]*frag
	// Owner: the filter. Bound: net.inet.ipf.ipfr_size. Full: the oldest goes.
	head, tail *frag

	added, expired, hits, refused, full atomic.Uint64
}

type fragKey struct {
	srcHi, srcLo, dstHi, dstLo uint64
	id                         uint32
	proto                      uint8
	v6, out                    bool
}

type frag struct {
	key    fragKey
	rule   *rule
	state  *state // nil: by a rule alone
	expire int64
	header int // octets that the first one had as far as the end of its transport header
	next   int // strict: where the next one has to begin
	later  *frag
}

// FragStats are counters of it.
type FragStats struct {
	Active, Added, Expired, Hits, Refused, Full uint64
}

func (t *frags) init(f *Filter) { t.f, t.byID = f, map[fragKey]*frag{} }

func (t *frags) read() FragStats {
	t.mu.Lock()
	n := len(t.byID)
	t.mu.Unlock()
	return FragStats{Active: uint64(n), Added: t.added.Load(), Expired: t.expired.Load(), Hits: t.hits.Load(), Refused: t.refused.Load(), Full: t.full.Load()}
}

// FragInfo is a datagram of which the first fragment has passed.
type FragInfo struct {
	Src, Dst netip.Addr
	ID       uint32
	Proto    uint8
	V6, Out  bool
	State    bool  // it is one of a state
	TTL      int64 // nanoseconds that it is known for
}

// Fragments are those that are known, the oldest first.
func (f *Filter) Fragments() (all []FragInfo) {
	t, now := &f.frags, f.env.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for x := t.head; x != nil; x = x.later {
		if k := &x.key; x.expire > now {
			all = append(all, FragInfo{Src: addrOf(k.v6, k.srcHi, k.srcLo), Dst: addrOf(k.v6, k.dstHi, k.dstLo), ID: k.id, Proto: k.proto,
				V6: k.v6, Out: k.out, State: x.state != nil, TTL: x.expire - now})
		}
	}
	return all
}

func keyOf(i *pfil.Info) fragKey {
	if i.V6 { // RFC 8200 §4.5: not the protocol, of which a later fragment says the first header's alone
		return fragKey{i.SrcHi, i.SrcLo, i.DstHi, i.DstLo, i.FragID, 0, true, i.Out}
	}
	return fragKey{i.SrcHi, i.SrcLo, i.DstHi, i.DstLo, i.FragID, i.Proto, i.V6, i.Out}
}

// prune lets the oldest go that are too old, or too many.
func (t *frags) prune(now int64, room int) {
	for t.head != nil && (t.head.expire <= now || len(t.byID) > room) {
		if t.head.expire <= now {
			t.expired.Add(1)
		} else {
			t.full.Add(1)
		}
		delete(t.byID, t.head.key)
		if t.head = t.head.later; t.head == nil {
			t.tail = nil
		}
	}
}

// add remembers the datagram of a first fragment.
func (t *frags) add(w *netif.Work, i *pfil.Info, r *rule, s *state) {
	if i.Is&(pfil.FragBody|pfil.Short|pfil.Bad) != 0 || i.Is&pfil.More == 0 { // of one that is alone no others come (RFC 6946)
		return
	}
	room := int(t.f.env.MIB.Int(nodeFragMax))
	if room == 0 {
		return
	}
	x := frag{key: keyOf(i), rule: r, state: s, header: headerOf(i), next: len(i.Pkt.Bytes()) - i.FragAt}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(w.Now, room-1)
	if old := t.byID[x.key]; old != nil { // said again: its time and its place do not change
		x.expire, x.later = old.expire, old.later
		*old = x
		return
	}
	x.expire = w.Now + t.f.env.MIB.Int(nodeFragTTL)*second
	t.push(&x)
	t.f.stat(i).NewFrags.Add(1)
}

func (t *frags) push(x *frag) {
	t.byID[x.key] = x
	if t.tail == nil {
		t.head = x
	} else {
		t.tail.later = x
	}
	t.tail = x
	t.added.Add(1)
}

// headerOf is the octets of a first fragment that none may write over: headers as far as that of transport.
func headerOf(i *pfil.Info) int {
	before := i.L4 - i.FragAt
	if h, ok := packet.CheckTCP(i.Transport()); ok && i.Proto == packet.ProtoTCP {
		return before + h.HeaderLen()
	}
	return before + packet.UDPLen
}

// known is what is known of a fragment's datagram. One that would write over the
// transport header that the first one had is refused (RFC 1858, RFC 3128).
func (t *frags) known(w *netif.Work, i *pfil.Info) fate {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.byID[keyOf(i)]
	if x == nil || x.expire <= w.Now || x.state != nil && x.state.dead() {
		return unknown
	}
	if i.Is&pfil.FragBody == 0 {
		return unknown // a first one again: as any other first one
	}
	n := len(i.Pkt.Bytes()) - i.FragAt
	if i.Is&pfil.Bad != 0 || i.FragOff < x.header || x.rule.FragsStrict && i.FragOff != x.next {
		t.refused.Add(1)
		t.f.stat(i).BadFrags.Add(1)
		return overlaps
	}
	x.next = i.FragOff + n
	t.hits.Add(1)
	t.f.stat(i).KnownFrags.Add(1)
	if x.state != nil {
		i.Is |= isState
		x.state.last.Store(w.Now)
	}
	return passed
}

func (t *frags) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.byID)
	t.head, t.tail = nil, nil
}
