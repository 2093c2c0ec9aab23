package autoconf

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// RFC 8064 would have stable identifiers by default. Those of the hardware
// address are what QNX, and whoever writes down a neighbour's address, expects.
var (
	nodeStable  = mib.Int("net.inet6.ip6.use_stableaddr", 0, "Make interface identifiers that say nothing of the hardware (RFC 7217), instead of EUI-64.", mib.Bool())
	nodeRetries = mib.Int("net.inet6.ip6.stableaddr_maxretries", 3, "Other identifiers to try when a stable address is a duplicate.", mib.Range(0, 100))
	nodeKey     = mib.String("net.inet6.ip6.soiikey", "", "Secret of stable identifiers, 32 hexadecimal digits, to have them outlive the stack; empty: a random one.")

	nodeTemp          = mib.Int("net.inet6.ip6.use_tempaddr", 0, "Make temporary addresses beside the others (RFC 8981).", mib.Bool())
	nodeTempPreferred = mib.Int("net.inet6.ip6.temppltime", 86400, "Seconds a temporary address is preferred at most.", mib.Range(60, 1<<31-1))
	nodeTempValid     = mib.Int("net.inet6.ip6.tempvltime", 604800, "Seconds a temporary address is valid at most.", mib.Range(60, 1<<31-1))
)

// Of temporary addresses (RFC 8981 §3.8).
const (
	tempRetries  = 3          // TEMP_IDGEN_RETRIES
	regenAdvance = 5 * second // REGEN_ADVANCE: 2 s, and a second for each try
)

func checkTemp(preferred, valid int64) error {
	if preferred > valid {
		return fmt.Errorf("temporary addresses would be preferred for %d seconds and valid for %d: %w", preferred, valid, syscall.EINVAL)
	}
	return nil
}

// address is one made from a prefix.
type address struct {
	ip        netip.Addr
	flags     uint32 // netif.AddrAutoconf and others
	preferred int64  // 0: for ever
	valid     int64
	created   int64
	pref      int64 // of a temporary address: how long it may be preferred at most, desynchronised
	try       int   // RFC 7217's DAD_Counter
	followed  bool  // by another temporary address
	dup       bool  // another station has it
	refused   bool  // by IPv6, which was told in the log
}

// until is the end of a lifetime that begins now; 0: it has none.
func until(now int64, lifetime uint32) int64 {
	if lifetime == forever {
		return 0
	}
	return now + int64(lifetime)*second
}

// over reports that a lifetime has ended.
func over(at, now int64) bool { return at != 0 && now >= at }

// sooner is the earlier of two ends, of which 0 is none.
func sooner(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// makeAddrs makes a prefix's addresses, or gives those there are the lifetimes
// that a router says (RFC 4862 §5.5.3, RFC 8981 §3.4). mu is held.
func (l *link) makeAddrs(w *netif.Work, p *prefix, valid, preferred uint32) {
	for _, x := range p.addrs {
		x.renew(l, w.Now, valid, preferred)
	}
	if valid == 0 {
		return
	}
	if !slices.ContainsFunc(p.addrs, func(x *address) bool { return x.flags&netif.AddrTemporary == 0 }) {
		x := &address{valid: until(w.Now, valid), preferred: until(w.Now, preferred), created: w.Now}
		x.ip, x.flags = l.stableAddr(p.net, 0)
		if !l.add(w, p, x) {
			return
		}
	}
	if !slices.ContainsFunc(p.addrs, func(x *address) bool { return x.flags&netif.AddrTemporary != 0 && !x.followed }) {
		l.makeTemp(w, p)
	}
}

// add puts an address to a prefix, if there is room. What is there is in use,
// so it is the newcomer that is refused.
func (l *link) add(w *netif.Work, p *prefix, x *address) bool {
	n := 0
	for _, q := range l.prefixes {
		n += len(q.addrs)
	}
	if n >= int(l.a.env.MIB.Int(nodeMaxAddrs)) {
		w.Count(cntRefused)
		return false
	}
	x.flags |= netif.AddrAutoconf
	p.addrs = append(p.addrs, x)
	return true
}

// twoHours is what an advertisement cannot shorten an address's life below,
// since anybody can send one (RFC 4862 §5.5.3 e).
const twoHours = 7200 * second

func (x *address) renew(l *link, now int64, valid, preferred uint32) {
	end := until(now, valid)
	if end != 0 && end < now+twoHours && (x.valid == 0 || end < x.valid) { // neither longer nor more than two hours
		if x.valid == 0 || x.valid > now+twoHours {
			end = now + twoHours
		} else {
			end = x.valid
		}
	}
	x.valid, x.preferred = end, until(now, preferred)
	if x.flags&netif.AddrTemporary != 0 {
		x.valid = sooner(x.valid, x.created+l.a.env.MIB.Int(nodeTempValid)*second)
		x.preferred = sooner(x.preferred, x.created+x.pref)
		if !over(x.preferred, now+regenAdvance) { // it was the prefix that was not preferred for a while
			x.followed = false
		}
	}
}

// makeTemp makes a temporary address, if they are wanted and the prefix is
// preferred for long enough for it to be of use (RFC 8981 §3.4 (4), (5)).
func (l *link) makeTemp(w *netif.Work, p *prefix) {
	v := l.a.env.MIB
	if !v.On(nodeTemp) || l.tempTry > tempRetries || p.detached || !p.auto {
		return
	}
	life := v.Int(nodeTempPreferred) * second
	x := &address{created: w.Now, flags: netif.AddrTemporary, pref: life - l.a.upTo(life*2/5)} // MAX_DESYNC_FACTOR
	x.preferred = sooner(p.pref, w.Now+x.pref)
	x.valid = w.Now + v.Int(nodeTempValid)*second
	for _, o := range p.addrs {
		if o.flags&netif.AddrTemporary == 0 {
			x.valid = sooner(o.valid, x.valid)
		}
	}
	if x.preferred <= w.Now+regenAdvance {
		return
	}
	var iid [8]byte
	binary.BigEndian.PutUint32(iid[:], l.a.env.Rand32())
	binary.BigEndian.PutUint32(iid[4:], l.a.env.Rand32())
	if x.ip = join(p.net, iid); !reserved(iid) && find(l.ifp, x.ip) == nil { // RFC 8981 §3.3.1; else with the next advertisement
		l.add(w, p, x)
	}
}

// stableAddr is the address of a prefix that is the same every time; try counts
// its duplicates.
func (l *link) stableAddr(net netip.Prefix, try int) (ip netip.Addr, flags uint32) {
	if l.a.env.MIB.On(nodeStable) {
		return join(net, l.opaque(net, try)), netif.AddrStable
	}
	return join(net, eui64(l.hardware())), 0
}

// hardware is the link address to make identifiers of: the interface's, or that
// of the first Ethernet there is, for a link that has none (KAME's get_ifid).
func (l *link) hardware() netif.MAC {
	if m := l.ifp.MAC(); m != (netif.MAC{}) {
		return m
	}
	for _, ifp := range l.a.env.Ifs.All() {
		if ifp.Ether() {
			return ifp.MAC()
		}
	}
	return netif.MAC{}
}

// eui64 is the modified EUI-64 of a link address (RFC 4291 Appendix A).
func eui64(m netif.MAC) [8]byte {
	return [8]byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}
}

// opaque is RFC 7217's identifier (§5): a digest of the prefix, the interface's
// name, the counter and a secret. One that is reserved is passed over.
func (l *link) opaque(net netip.Prefix, try int) (iid [8]byte) {
	secret, ok := parseKey(l.a.env.MIB.Str(nodeKey))
	if !ok || secret == ([16]byte{}) {
		secret = l.a.secret
	}
	plain, _ := packet.Unscoped(net.Addr()) // the index is not the interface's for ever
	pre := plain.As16()
	for counter := try; ; counter += 256 {
		h := sha256.New()
		h.Write(pre[:8])
		h.Write([]byte(l.ifp.Name))
		h.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(counter)))
		h.Write(secret[:])
		if copy(iid[:], h.Sum(nil)); !reserved(iid) {
			return iid
		}
	}
}

func parseKey(s string) (key [16]byte, ok bool) {
	if s == "" {
		return key, true
	}
	n, err := hex.Decode(key[:], []byte(s[:min(len(s), 32)]))
	return key, err == nil && n == 16 && len(s) == 32
}

// reserved reports an identifier that has another meaning (RFC 5453 §3).
func reserved(iid [8]byte) bool {
	switch v := binary.BigEndian.Uint64(iid[:]); {
	case v == 0:
		return true
	case v >= 0x02005efffe000000 && v <= 0x02005efffeffffff:
		return true
	case v >= 0xfdffffffffffff80 && v <= 0xfdffffffffffffff:
		return true
	}
	return false
}

func join(net netip.Prefix, iid [8]byte) netip.Addr {
	b := net.Addr().As16()
	copy(b[8:], iid[:])
	return netip.AddrFrom16(b)
}

var linkLocalNet = netip.MustParsePrefix("fe80::/64")

// makeLocal makes the link-local address of an interface that has none. mu is
// held.
func (l *link) makeLocal() (netif.Addr, bool) {
	l.want = false
	if o := l.linkLocal(); o != nil && !o.Duplicated || l.hardware() == (netif.MAC{}) {
		return netif.Addr{}, false
	}
	ip, flags := l.stableAddr(linkLocalNet, l.localTry)
	l.local = packet.Scoped(ip, l.ifp.Index)
	return netif.Addr{If: l.ifp, Addr: l.local, Bits: 64, Flags: flags}, true
}

// Duplicate tells that another station has an address of ours (RFC 4862 §5.4.5).
// One that is RFC 7217's or temporary is replaced; a link-local one of EUI-64
// means that the station has our hardware address, so that no IPv6 is possible.
func (a *Autoconf) Duplicate(w *netif.Work, d *netif.Addr) {
	if !d.Duplicated {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.find(d.If)
	if l == nil {
		return
	}
	defer a.changed(w)
	if d.Addr == l.local {
		l.localDuplicated(w.Now, d)
		return
	}
	for _, p := range l.prefixes {
		i := slices.IndexFunc(p.addrs, func(x *address) bool { return x.ip == d.Addr })
		if i < 0 {
			continue
		}
		x := p.addrs[i]
		switch {
		case x.flags&netif.AddrTemporary != 0:
			w.Count(cntTempFailed)
			a.doomed = append(a.doomed, holding{l.ifp, x.ip, true})
			p.addrs = slices.Delete(p.addrs, i, i+1)
			if l.tempTry++; l.tempTry > tempRetries {
				a.log(w.Now, slog.LevelError, "no temporary addresses any more: they are all another station's", "interface", l.ifp.Name)
			}
			l.makeTemp(w, p)
		case x.flags&netif.AddrStable != 0 && x.try < int(a.env.MIB.Int(nodeRetries)):
			a.doomed = append(a.doomed, holding{l.ifp, x.ip, true})
			x.try++
			x.ip, _ = l.stableAddr(p.net, x.try)
		default:
			x.dup = true
			a.log(w.Now, slog.LevelError, "address made from an advertised prefix is another station's", "interface", l.ifp.Name, "address", x.ip)
		}
	}
}

func (l *link) localDuplicated(now int64, d *netif.Addr) {
	if d.Flags&netif.AddrStable != 0 && l.localTry < int(l.a.env.MIB.Int(nodeRetries)) {
		l.a.doomed = append(l.a.doomed, holding{l.ifp, l.local, false})
		l.localTry++
		l.local, l.want = netip.Addr{}, true
		return
	}
	l.off = true
	l.stopSolicit()
	l.wipeAll()
	plain, _ := packet.Unscoped(d.Addr)
	l.a.log(now, slog.LevelError, "link-local address is another station's: the interface does without IPv6 until it has been down, or has another address",
		"interface", l.ifp.Name, "address", plain)
}

// wipeAll forgets what was learnt on the link, addresses included. mu is held.
func (l *link) wipeAll() {
	l.forgetRouters()
	for len(l.prefixes) > 0 {
		l.dropPrefix(l.prefixes[0])
	}
	l.servers, l.domains, l.mtu, l.managed, l.other = nil, nil, 0, false, false
}
