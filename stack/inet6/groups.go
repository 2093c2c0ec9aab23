package inet6

import (
	"net/netip"

	"ionet/stack/membership"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// groups is the stack's memberships: which groups each interface listens to,
// and what of that the routers are still to be told (mld.go).
type groups struct{ *membership.Set }

func (g *groups) init(in *Inet6) {
	g.Set = membership.New(in.env, membership.Config{Messages: (*mldMessages)(in), Newest: 2, AddrLen: 16})
}

// joined is what the packet path asks: does interface ifindex listen to ip?
func (g *groups) joined(ifindex uint32, ip netip.Addr) bool { return g.Joined(ifindex, ip) }

// attach joins the all-nodes groups of an interface when it gets its first address
// (RFC 4291 §2.8).
func (g *groups) attach(w *netif.Work, ifp *netif.Interface) {
	for _, ip := range [...]netip.Addr{allNodesHere, allNodes} {
		if ip = packet.Scoped(ip, ifp.Index); !g.Joined(ifp.Index, ip) {
			g.Join(w, ifp, ip, nil)
		}
	}
}

func (g *groups) detach(ifp *netif.Interface) { g.Detach(ifp) }

// ready is told that ifp has a link-local address that may be used: what has
// been reported without one, or while nobody could hear it, is reported again
// (RFC 3810 §5.2.13).
func (g *groups) ready(w *netif.Work, ifp *netif.Interface) { g.Ready(w, ifp) }

func (g *groups) join(w *netif.Work, ifp *netif.Interface, ip netip.Addr, m membership.Member) {
	g.Join(w, ifp, ip, m)
}

func (g *groups) leave(w *netif.Work, ifp *netif.Interface, ip netip.Addr, m membership.Member) {
	g.Leave(w, ifp, ip, m)
}

// Groups are the memberships in order of interface and address; the groups of
// one link with their interface inside.
func (in *Inet6) Groups() []membership.Info { return in.groups.Groups() }
