package netlink

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dumpNeighbours answers RTM_GETNEIGH for all, or all of an interface: those
// that the stack keeps, or with NTF_PROXY those that it answers for.
//
//	struct ndmsg: 0 family, 1 pad[3], 4 ifindex s32, 8 state u16, 10 flags, 11 type
func (a *answer) dumpNeighbours(r *request, d *dump) error {
	h := r.fixed
	if a.Strict && (ne.Uint32(h[4:]) != 0 || ne.Uint16(h[8:]) != 0 || h[10]&^unix.NTF_PROXY != 0 || h[11] != 0) {
		return refused(syscall.EINVAL, "Invalid values in header for neighbor dump request")
	}
	index, err := r.u32(unix.NDA_IFINDEX)
	if err != nil {
		return err
	}
	_, master := r.attr(unix.NDA_MASTER)
	d.filtered = index != 0 || master
	if master { // none of the interfaces has one
		return nil
	}
	rows, err := a.tables.Neighbours()
	if err != nil {
		return err
	}
	for i := range rows {
		x := &rows[i]
		if ofFamily(h[0], x.Addr) && (index == 0 || int(index) == x.Index) && x.Flags&unix.NTF_PROXY == h[10]&unix.NTF_PROXY {
			d.add(a.appendNeighbour(d.page, r, d.multi(), x))
		}
	}
	return nil
}

// getNeighbour answers RTM_GETNEIGH for one address of an interface.
func (a *answer) getNeighbour(r *request) ([]byte, error) {
	h := r.fixed
	if h[0] != unix.AF_INET && h[0] != unix.AF_INET6 {
		return nil, syscall.EOPNOTSUPP
	}
	ip, err := r.addr(unix.NDA_DST, h[0])
	switch index := int(int32(ne.Uint32(h[4:]))); {
	case err != nil:
		return nil, err
	case !ip.IsValid():
		return nil, refused(syscall.EINVAL, "Network address not specified")
	case index == 0:
		return nil, refused(syscall.EINVAL, "No device specified")
	default:
		rows, err := a.tables.Neighbours()
		if err != nil {
			return nil, err
		}
		for i := range rows {
			if x := &rows[i]; x.Addr.WithZone("") == ip && x.Index == index && x.Flags&unix.NTF_PROXY == h[10]&unix.NTF_PROXY {
				return a.appendNeighbour(nil, r, 0, x), nil
			}
		}
		return nil, syscall.ENOENT
	}
}

// appendNeighbour appends RTM_NEWNEIGH.
//
//	struct nda_cacheinfo: 0 confirmed u32, 4 used u32, 8 updated u32, hundredths of a second ago; 12 references u32
func (a *answer) appendNeighbour(b []byte, r *request, flags uint16, x *Neighbour) []byte {
	start := len(b)
	b = a.begin(b, r, unix.RTM_NEWNEIGH, flags, family(x.Addr), 0, 0, 0)
	b = ne.AppendUint32(b, uint32(x.Index))
	b = ne.AppendUint16(b, x.State)
	b = append(b, x.Flags, unix.RTN_UNICAST)
	b = appendIP(b, unix.NDA_DST, x.Addr)
	if x.Flags&unix.NTF_PROXY != 0 {
		return end(b, start)
	}
	if len(x.HW) > 0 {
		b = appendAttr(b, unix.NDA_LLADDR, []byte(x.HW))
	}
	b = appendU32(b, unix.NDA_PROBES, uint32(x.Probes))
	info := make([]byte, 12, 16)
	b = appendAttr(b, unix.NDA_CACHEINFO, ne.AppendUint32(info, uint32(x.Refs)))
	return end(b, start)
}
