package netlink

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dumpAddrs answers RTM_GETADDR: IPv4 before IPv6, as the kernel does.
func (a *answer) dumpAddrs(r *request, d *dump) error {
	index := 0
	if a.Strict {
		if r.fixed[1] != 0 || r.fixed[2] != 0 || r.fixed[3] != 0 {
			return refused(syscall.EINVAL, "Invalid values in header for address dump request")
		}
		index = int(int32(ne.Uint32(r.fixed[4:])))
		d.filtered = index != 0
	}
	rows, err := a.tables.Addrs()
	if err != nil {
		return err
	}
	found := false
	for _, six := range [...]bool{false, true} {
		for i := range rows {
			row := &rows[i]
			ip := row.Prefix.Addr()
			if ip.Is6() == six && ofFamily(r.fixed[0], ip) && (index == 0 || index == row.Index) {
				found = true
				d.add(a.appendAddr(d.page, r, d.multi(), row))
			}
		}
	}
	if index == 0 || found {
		return nil
	}
	links, err := a.tables.Interfaces()
	if err != nil {
		return err
	}
	for i := range links {
		if links[i].Index == index {
			return nil
		}
	}
	return syscall.ENODEV
}

const forever = ^uint32(0)

// appendAddr appends RTM_NEWADDR. IFA_ADDRESS is the other end where there is
// one, and else the address itself.
//
//	struct ifaddrmsg:     0 family, 1 prefixlen, 2 flags, 3 scope, 4 index u32
//	struct ifa_cacheinfo: 0 preferred u32, 4 valid u32, seconds; 8 made u32, 12 changed u32
func (a *answer) appendAddr(b []byte, r *request, flags uint16, x *Addr) []byte {
	start := len(b)
	ip := x.Prefix.Addr()
	b = a.begin(b, r, unix.RTM_NEWADDR, flags, family(ip), byte(x.Prefix.Bits()), byte(x.Flags), x.Scope)
	b = ne.AppendUint32(b, uint32(x.Index))
	left := Lifetime{forever, forever}
	if x.Life != nil {
		left = *x.Life
	}
	life := ne.AppendUint32(ne.AppendUint32(nil, left.Preferred), left.Valid)
	life = append(life, make([]byte, unix.SizeofIfaCacheinfo-len(life))...)
	other := x.Peer
	if !other.IsValid() {
		other = ip
	}
	if ip.Is4() {
		b = appendIP(b, unix.IFA_ADDRESS, other)
		b = appendIP(b, unix.IFA_LOCAL, ip)
		b = appendIP(b, unix.IFA_BROADCAST, x.Broadcast)
		b = appendText(b, unix.IFA_LABEL, x.Label)
		b = appendU32(b, unix.IFA_FLAGS, x.Flags)
		b = appendAttr(b, unix.IFA_CACHEINFO, life)
		return end(b, start)
	}
	if x.Peer.IsValid() {
		b = appendIP(b, unix.IFA_LOCAL, ip)
	}
	b = appendIP(b, unix.IFA_ADDRESS, other)
	b = appendAttr(b, unix.IFA_CACHEINFO, life)
	b = appendU32(b, unix.IFA_FLAGS, x.Flags)
	return end(b, start)
}
