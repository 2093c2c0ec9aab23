package netlink

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bits of rtm_flags in the answer to a question for one IPv4 destination
// (RTCF_*).
const (
	rtcfLocal     = 0x80000000
	rtcfMulticast = 0x20000000
	rtcfBroadcast = 0x10000000
)

// dumpRoutes answers RTM_GETROUTE for all, IPv4 before IPv6.
//
//	struct rtmsg: 0 family, 1 dst_len, 2 src_len, 3 tos, 4 table, 5 protocol, 6 scope, 7 type, 8 flags u32
func (a *answer) dumpRoutes(r *request, d *dump) error {
	if ne.Uint32(r.fixed[8:])&unix.RTM_F_CLONED != 0 { // the cache, which holds nothing
		d.filtered = true
		return nil
	}
	show := func(*Route) bool { return true }
	if a.Strict {
		var err error
		if show, err = routeFilter(r, d); err != nil {
			return err
		}
	}
	rows, err := a.tables.Routes()
	if err != nil {
		return err
	}
	for _, six := range [...]bool{false, true} {
		for i := range rows {
			row := &rows[i]
			if ip := row.Dst.Addr(); ip.Is6() == six && ofFamily(r.fixed[0], ip) && show(row) {
				d.add(a.appendRoute(d.page, r, d.multi(), row, row.table()))
			}
		}
	}
	return nil
}

// routeFilter is what the header and attributes of a strict dump let through:
// a table, a protocol, a type, an interface.
func routeFilter(r *request, d *dump) (show func(*Route) bool, err error) {
	h := r.fixed
	if h[1] != 0 || h[2] != 0 || h[3] != 0 || h[6] != 0 {
		return nil, refused(syscall.EINVAL, "Invalid values in header for FIB dump request")
	}
	if ne.Uint32(h[8:])&^(unix.RTM_F_CLONED|unix.RTM_F_PREFIX) != 0 {
		return nil, refused(syscall.EINVAL, "Invalid flags for FIB dump request")
	}
	if err := r.only(unix.RTA_TABLE, unix.RTA_OIF); err != nil {
		return nil, err
	}
	table, err := r.u32(unix.RTA_TABLE)
	if err != nil {
		return nil, err
	}
	if table == 0 {
		table = uint32(h[4])
	}
	oif, err := r.u32(unix.RTA_OIF)
	if err != nil {
		return nil, err
	}
	switch table {
	case unix.RT_TABLE_UNSPEC, unix.RT_TABLE_DEFAULT, unix.RT_TABLE_MAIN, unix.RT_TABLE_LOCAL:
	default:
		if h[0] != unix.AF_UNSPEC { // of all families together it is just empty
			return nil, refused(syscall.ENOENT, "FIB table does not exist")
		}
	}
	protocol, typ := h[5], h[7]
	d.filtered = table != 0 || oif != 0 || protocol != 0 || typ != 0
	return func(x *Route) bool {
		return (table == 0 || table == x.table()) && (oif == 0 || int(oif) == x.OIF) &&
			(protocol == 0 || protocol == x.Protocol) && (typ == 0 || typ == x.Type)
	}, nil
}

// getRoute answers RTM_GETROUTE for one destination: as a packet there would
// have it, or with RTM_F_FIB_MATCH as it stands in the table. What leads
// nowhere is an error, as in the kernel.
func (a *answer) getRoute(r *request) ([]byte, error) {
	if r.fixed[0] != unix.AF_INET && r.fixed[0] != unix.AF_INET6 {
		return nil, syscall.EOPNOTSUPP
	}
	dst, err := r.addr(unix.RTA_DST, r.fixed[0])
	if err != nil {
		return nil, err
	}
	if !dst.IsValid() {
		return nil, refused(syscall.EINVAL, "a route is asked for by its destination")
	}
	if _, in := r.attr(unix.RTA_IIF); in {
		return nil, refused(syscall.EOPNOTSUPP, "the way of a packet that comes in is not told")
	}
	oif, err := r.u32(unix.RTA_OIF)
	if err != nil {
		return nil, err
	}
	src, err := a.sender(r)
	if err != nil {
		return nil, err
	}
	route, err := a.tables.Lookup(dst, int(oif))
	if err != nil {
		return nil, err
	}
	switch route.Type {
	case unix.RTN_BLACKHOLE:
		return nil, syscall.EINVAL
	case unix.RTN_UNREACHABLE:
		return nil, syscall.EHOSTUNREACH
	case unix.RTN_PROHIBIT:
		return nil, syscall.EACCES
	case unix.RTN_THROW:
		return nil, syscall.ENETUNREACH
	}
	table := route.table()
	if dst.Is4() {
		table = unix.RT_TABLE_MAIN // in the kernel both tables are one as long as no rule parts them
	}
	if ne.Uint32(r.fixed[8:])&unix.RTM_F_FIB_MATCH != 0 {
		if route.Gateway.IsValid() {
			route.Source = netip.Addr{} // chosen, not the route's own
		}
		return a.appendRoute(nil, r, 0, &route, table), nil
	}
	return a.appendFound(r, dst, src, &route, table), nil
}

// sender is the source that a question for a route gives; none if it gives
// none. An IPv4 one has to be the host's.
func (a *answer) sender(r *request) (netip.Addr, error) {
	src, err := r.addr(unix.RTA_SRC, r.fixed[0])
	if err != nil || !src.IsValid() || src.IsUnspecified() {
		return netip.Addr{}, err
	}
	if src.Is6() {
		return src, nil
	}
	rows, err := a.tables.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for i := range rows {
		if rows[i].Prefix.Addr() == src {
			return src, nil
		}
	}
	return netip.Addr{}, syscall.ENETUNREACH
}

// appendRoute appends RTM_NEWROUTE as a row of the table. The two families
// have their attributes in different orders.
func (a *answer) appendRoute(b []byte, r *request, flags uint16, x *Route, table uint32) []byte {
	start := len(b)
	dst := x.Dst
	four := dst.Addr().Is4()
	scope := x.Scope
	if !four {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	b = a.begin(b, r, unix.RTM_NEWROUTE, flags, family(dst.Addr()), byte(dst.Bits()), 0, 0, byte(table), x.Protocol, scope, x.Type)
	b = ne.AppendUint32(b, 0)
	b = appendU32(b, unix.RTA_TABLE, table)
	if dst.Bits() > 0 {
		b = appendIP(b, unix.RTA_DST, dst.Addr())
	}
	if !four {
		b = appendIP(b, unix.RTA_PREFSRC, x.Source)
		b = x.appendMetrics(b)
		b = appendU32(b, unix.RTA_PRIORITY, x.Metric)
		b = x.appendNext(b)
		return end(appendPreference(appendCacheInfo(b)), start)
	}
	if x.Metric != 0 {
		b = appendU32(b, unix.RTA_PRIORITY, x.Metric)
	}
	b = x.appendMetrics(b)
	b = appendIP(b, unix.RTA_PREFSRC, x.Source)
	return end(x.appendNext(b), start)
}

// appendFound is RTM_NEWROUTE as the way of a packet to dst, from src if the
// question said so.
func (a *answer) appendFound(r *request, dst, src netip.Addr, x *Route, table uint32) []byte {
	if dst.Is6() {
		b := a.begin(nil, r, unix.RTM_NEWROUTE, 0, unix.AF_INET6, 128, 128, 0, byte(table), x.Protocol, unix.RT_SCOPE_UNIVERSE, x.Type)
		b = ne.AppendUint32(b, 0)
		b = appendU32(b, unix.RTA_TABLE, table)
		b = appendIP(b, unix.RTA_DST, dst)
		if !src.IsValid() {
			src = netip.IPv6Unspecified()
		}
		b = appendIP(b, unix.RTA_SRC, src)
		b = appendIP(b, unix.RTA_PREFSRC, x.Source)
		b = x.appendMetrics(b)
		b = appendU32(b, unix.RTA_PRIORITY, x.Metric)
		b = x.appendNext(b)
		return end(appendPreference(appendCacheInfo(b)), 0)
	}
	flags := uint32(unix.RTM_F_CLONED)
	switch x.Type {
	case unix.RTN_LOCAL:
		flags |= rtcfLocal
	case unix.RTN_BROADCAST:
		flags |= rtcfBroadcast | rtcfLocal
	case unix.RTN_MULTICAST:
		flags |= rtcfMulticast
	}
	srcLen := byte(0)
	if src.IsValid() {
		srcLen = 32
	}
	b := a.begin(nil, r, unix.RTM_NEWROUTE, 0, unix.AF_INET, 32, srcLen, 0, byte(table), 0, unix.RT_SCOPE_UNIVERSE, x.Type)
	b = ne.AppendUint32(b, flags)
	b = appendU32(b, unix.RTA_TABLE, table)
	b = appendIP(b, unix.RTA_DST, dst)
	b = appendIP(b, unix.RTA_SRC, src)
	if x.OIF != 0 {
		b = appendU32(b, unix.RTA_OIF, uint32(x.OIF))
	}
	if !src.IsValid() {
		b = appendIP(b, unix.RTA_PREFSRC, x.Source)
	}
	b = appendIP(b, unix.RTA_GATEWAY, x.Gateway)
	b = x.appendMetrics(b)
	return end(appendCacheInfo(b), 0)
}

// appendNext appends where the route leads.
func (x *Route) appendNext(b []byte) []byte {
	b = appendIP(b, unix.RTA_GATEWAY, x.Gateway)
	if x.OIF != 0 {
		b = appendU32(b, unix.RTA_OIF, uint32(x.OIF))
	}
	return b
}

// appendMetrics appends the route's own MTU, if it has one.
func (x *Route) appendMetrics(b []byte) []byte {
	if x.MTU == 0 {
		return b
	}
	return appendAttr(b, unix.RTA_METRICS, appendU32(nil, unix.RTAX_MTU, x.MTU))
}

// cacheInfoLen is the size of struct rta_cacheinfo: references, ages, errors.
const cacheInfoLen = 32

func appendCacheInfo(b []byte) []byte {
	return appendAttr(b, unix.RTA_CACHEINFO, make([]byte, cacheInfoLen))
}

// appendPreference appends the preference of a router (RFC 4191): medium.
func appendPreference(b []byte) []byte { return appendAttr(b, unix.RTA_PREF, []byte{0}) }

// mainRule is the priority of the rule that leads to the table main.
const mainRule = 32766

// dumpRules answers RTM_GETRULE: every packet looks into the table main.
//
//	struct fib_rule_hdr: 0 family, 1 dst_len, 2 src_len, 3 tos, 4 table, 5 pad[2], 7 action, 8 flags u32
func (a *answer) dumpRules(r *request, d *dump) error {
	for _, f := range [...]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if !ofFamily(r.fixed[0], f) {
			continue
		}
		start := len(d.page)
		b := a.begin(d.page, r, unix.RTM_NEWRULE, d.multi(), family(f), 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, unix.FR_ACT_TO_TBL)
		b = ne.AppendUint32(b, 0)
		b = appendU32(b, unix.FRA_TABLE, unix.RT_TABLE_MAIN)
		b = appendU32(b, unix.FRA_SUPPRESS_PREFIXLEN, ^uint32(0)) // none
		b = appendAttr(b, unix.FRA_PROTOCOL, []byte{unix.RTPROT_KERNEL})
		b = appendU32(b, unix.FRA_PRIORITY, mainRule)
		d.add(end(b, start))
	}
	return nil
}
