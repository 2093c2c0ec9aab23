package inet6

import (
	"net/netip"

	"ionet/stack/netif"
)

// addrSet is what the packet path asks about addresses. It is immutable and
// replaced with every change.
type addrSet struct {
	local map[netip.Addr]*netif.Addr // those that may be used, scoped
	list  []*netif.Addr
}

// Local is the address of ours that ip is and that may be used, or nil.
func (in *Inet6) Local(ip netip.Addr) *netif.Addr { return in.addrs.Load().local[ip] }
