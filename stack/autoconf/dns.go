package autoconf

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var nodeMaxDNS = mib.Int("net.inet6.ip6.maxifdns", 8, "DNS servers, and search domains, of one interface that are learnt at most (ionet's own).", mib.Range(0, 256))

// server and domain are what RFC 8106 has for the resolver.
type server struct {
	ip     netip.Addr
	expire int64
}

type domain struct {
	name   string
	expire int64
}

// DNS answers the servers, with their interface inside, and the search domains
// that routers have advertised, in order of interface and of learning.
func (a *Autoconf) DNS() (servers []netip.Addr, search []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.links {
		for _, s := range l.servers {
			if !slices.Contains(servers, s.ip) {
				servers = append(servers, s.ip)
			}
		}
		for _, d := range l.domains {
			if !slices.Contains(search, d.name) {
				search = append(search, d.name)
			}
		}
	}
	return servers, search
}

// takeServers obeys an RDNSS option (RFC 8106 §5.1). mu is held.
func (l *link) takeServers(w *netif.Work, o packet.NDOption) bool {
	if len(o) < 24 || len(o)%16 != 8 {
		return false
	}
	lifetime := binary.BigEndian.Uint32(o[4:])
	for b := o[8:]; len(b) > 0; b = b[16:] {
		ip := packet.Scoped(netip.AddrFrom16([16]byte(b[:16])), l.ifp.Index)
		if ip.IsMulticast() || ip.IsUnspecified() || ip.IsLoopback() || ip.Is4In6() {
			return false
		}
		i := slices.IndexFunc(l.servers, func(s server) bool { return s.ip == ip })
		l.servers = take(l, w, l.servers, i, server{ip, until(w.Now, lifetime)}, lifetime, func(s server) int64 { return s.expire })
	}
	return true
}

// takeDomains obeys a DNSSL option (§5.2). mu is held.
func (l *link) takeDomains(w *netif.Work, o packet.NDOption) bool {
	if len(o) < 16 {
		return false
	}
	lifetime := binary.BigEndian.Uint32(o[4:])
	for b := []byte(o[8:]); len(b) > 0; {
		if b[0] == 0 { // padding
			b = b[1:]
			continue
		}
		var name string
		var ok bool
		if name, b, ok = parseDomain(b); !ok {
			return false
		}
		i := slices.IndexFunc(l.domains, func(d domain) bool { return d.name == name })
		l.domains = take(l, w, l.domains, i, domain{name, until(w.Now, lifetime)}, lifetime, func(d domain) int64 { return d.expire })
	}
	return true
}

// take puts v in place i of s, or at the end when i is -1; with lifetime 0 it
// takes it out. When there is no place, who would expire first goes (RFC 8106
// §6.2), which may be v.
func take[T any](l *link, w *netif.Work, s []T, i int, v T, lifetime uint32, expire func(T) int64) []T {
	switch {
	case lifetime == 0 && i >= 0:
		return slices.Delete(s, i, i+1)
	case lifetime == 0:
		return s
	case i >= 0:
		s[i] = v
		return s
	}
	if s = append(s, v); len(s) <= int(l.a.env.MIB.Int(nodeMaxDNS)) {
		return s
	}
	w.Count(cntRefused)
	worst := len(s) - 1
	for k := range s {
		if e := expire(s[k]); e != 0 && (expire(s[worst]) == 0 || e < expire(s[worst])) {
			worst = k
		}
	}
	return slices.Delete(s, worst, worst+1)
}

// parseDomain takes a name (RFC 1035 §3.1, not compressed) from the front of b.
// Only what can stand in a host's name is let through, since names end up in
// files and on screens.
func parseDomain(b []byte) (name string, rest []byte, ok bool) {
	var labels []string
	octets := 0
	for {
		if len(b) == 0 {
			return "", nil, false
		}
		n := int(b[0])
		if n == 0 {
			return strings.Join(labels, "."), b[1:], len(labels) > 0
		}
		octets += n + 1
		if n > 63 || n >= len(b) || octets > 254 {
			return "", nil, false
		}
		label := string(b[1 : 1+n])
		if strings.ContainsFunc(label, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}) {
			return "", nil, false
		}
		labels, b = append(labels, label), b[1+n:]
	}
}
