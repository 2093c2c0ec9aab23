package netlink

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attributes that package unix does not name.
const iflaPromiscuity = 30

// dumpLinks answers RTM_GETLINK for all. None has a master or a kind
// (IFLA_LINKINFO), so that those who want only such get nothing; bridge ports
// (AF_BRIDGE) there are none.
func (a *answer) dumpLinks(r *request, d *dump) error {
	if a.Strict && ne.Uint32(r.fixed[4:]) != 0 {
		return refused(syscall.EINVAL, "Filter by device index not supported for link dumps")
	}
	if r.fixed[0] == unix.AF_BRIDGE {
		return nil
	}
	for _, typ := range [...]uint16{unix.IFLA_MASTER, unix.IFLA_LINKINFO} {
		if _, there := r.attr(typ); there {
			d.filtered = true
			return nil
		}
	}
	rows, err := a.tables.Interfaces()
	if err != nil {
		return err
	}
	for i := range rows {
		d.add(a.appendLink(d.page, r, d.multi(), &rows[i]))
	}
	return nil
}

// getLink answers RTM_GETLINK for one: by index, or else by name.
func (a *answer) getLink(r *request) ([]byte, error) {
	index := int(int32(ne.Uint32(r.fixed[4:])))
	name, named := r.attr(unix.IFLA_IFNAME)
	if !named {
		name, named = r.attr(unix.IFLA_ALT_IFNAME)
	}
	if index <= 0 && !named {
		return nil, syscall.EINVAL
	}
	rows, err := a.tables.Interfaces()
	if err != nil {
		return nil, err
	}
	want, _, _ := strings.Cut(string(name), "\x00")
	for i := range rows {
		if index > 0 && rows[i].Index == index || index <= 0 && rows[i].Name == want {
			return a.appendLink(nil, r, 0, &rows[i]), nil
		}
	}
	return nil, syscall.ENODEV
}

// appendLink appends RTM_NEWLINK.
//
//	struct ifinfomsg: 0 family, 1 pad, 2 type u16, 4 index s32, 8 flags u32, 12 change u32
func (a *answer) appendLink(b []byte, r *request, flags uint16, i *Interface) []byte {
	start := len(b)
	b = a.begin(b, r, unix.RTM_NEWLINK, flags, unix.AF_UNSPEC, 0)
	b = ne.AppendUint16(b, i.Type)
	b = ne.AppendUint32(b, uint32(i.Index))
	b = ne.AppendUint32(b, i.Flags)
	b = ne.AppendUint32(b, 0)
	b = appendText(b, unix.IFLA_IFNAME, i.Name)
	b = appendU32(b, unix.IFLA_TXQLEN, uint32(i.TxQueue))
	b = appendAttr(b, unix.IFLA_OPERSTATE, []byte{i.OperState})
	b = appendAttr(b, unix.IFLA_LINKMODE, []byte{0}) // IF_LINK_MODE_DEFAULT
	b = appendU32(b, unix.IFLA_MTU, uint32(i.MTU))
	b = appendU32(b, unix.IFLA_GROUP, 0)
	b = appendU32(b, iflaPromiscuity, flag(i.Flags&unix.IFF_PROMISC))
	b = appendAttr(b, unix.IFLA_CARRIER, []byte{byte(flag(i.Flags & unix.IFF_LOWER_UP))})
	if len(i.HW) > 0 {
		b = appendAttr(b, unix.IFLA_ADDRESS, []byte(i.HW))
		b = appendAttr(b, unix.IFLA_BROADCAST, []byte(i.Broadcast))
	}
	b = i.Stats.append(b)
	b = appendText(b, unix.IFLA_QDISC, "noqueue")
	return end(b, start)
}

func flag(bits uint32) uint32 {
	if bits != 0 {
		return 1
	}
	return 0
}

// statsLen is how many counters struct rtnl_link_stats and rtnl_link_stats64
// have alike; the latter has one more at its end.
const statsLen = 24

// append appends the counters in both widths.
func (s *Stats) append(b []byte) []byte {
	v := [statsLen + 1]uint64{s.RxPackets, s.TxPackets, s.RxBytes, s.TxBytes, s.RxErrors, s.TxErrors,
		s.RxDropped, s.TxDropped, s.Multicast, s.Collisions}
	wide, narrow := make([]byte, 0, 8*len(v)), make([]byte, 0, 4*statsLen)
	for _, n := range v {
		wide = ne.AppendUint64(wide, n)
	}
	for _, n := range v[:statsLen] {
		narrow = ne.AppendUint32(narrow, uint32(n))
	}
	return appendAttr(appendAttr(b, unix.IFLA_STATS64, wide), unix.IFLA_STATS, narrow)
}
