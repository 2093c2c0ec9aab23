package inet

import (
	"ionet/stack/membership"
	"ionet/stack/netif"
)

// Groups are the memberships in order of interface and address.
func (in *Inet) Groups() []membership.Info { return in.groups.Groups() }

// joinAllHosts joins the all-hosts group when an interface gets its first
// address.
func (in *Inet) joinAllHosts(ifp *netif.Interface) {
	if ifp.Flags()&netif.FlagMulticast == 0 || in.groups.Joined(ifp.Index, allHosts) {
		return
	}
	w := in.env.Begin(in.env.Now())
	defer w.End()
	in.groups.Join(w, ifp, allHosts, nil)
}
