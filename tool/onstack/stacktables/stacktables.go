// Package stacktables shows a running stack as the tables that package netlink
// answers from: what BSD calls things becomes what Linux calls them.
package stacktables

import (
	"cmp"
	"errors"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/onstack/netlink"
)

// Tables are the tables of a stack. Every call asks it anew. It may be used by
// several goroutines at once.
type Tables struct{ stack *client.Stack }

var _ netlink.Tables = (*Tables)(nil)

// New shows the tables of s, which stays the caller's.
func New(s *client.Stack) *Tables { return &Tables{s} }

func (t *Tables) rows() ([]protocol.InterfaceRow, error) {
	return client.Table[protocol.InterfaceRow](t.stack, protocol.TableInterfaces, "")
}

// Interfaces is netlink.Tables.
func (t *Tables) Interfaces() ([]netlink.Interface, error) {
	rows, err := t.rows()
	if err != nil {
		return nil, err
	}
	all := make([]netlink.Interface, len(rows))
	for i := range rows {
		all[i] = linkOf(&rows[i])
	}
	return all, nil
}

// Addrs is netlink.Tables.
func (t *Tables) Addrs() ([]netlink.Addr, error) {
	rows, err := t.rows()
	return addrsOf(rows), err
}

// Routes is netlink.Tables. Cloned routes and neighbours, which only look like
// routes, are left out.
func (t *Tables) Routes() ([]netlink.Route, error) {
	rows, err := t.rows()
	if err != nil {
		return nil, err
	}
	h := newHost(rows)
	var all []netlink.Route
	var m protocol.RouteMessage
	for page, err := range t.stack.DumpRaw(protocol.DumpRoutes, 0, 0) {
		if err != nil {
			return nil, err
		}
		for len(page) > 0 {
			if page, err = m.Decode(page); err != nil {
				return nil, err
			}
			if m.Flags&(protocol.RTFLLInfo|protocol.RTFCloned) != 0 || !m.Prefix().IsValid() {
				continue
			}
			all = append(all, h.route(&m))
		}
	}
	return all, nil
}

// Lookup is netlink.Tables: what the stack's output decides for a packet
// without a source. Addresses of the stack's own and broadcast ones it finds
// among the addresses, before the routing table, as the stack does.
func (t *Tables) Lookup(dst netip.Addr, oif int) (netlink.Route, error) {
	rows, err := t.rows()
	if err != nil {
		return netlink.Route{}, err
	}
	h := newHost(rows)
	if r, ok, err := h.lookup(dst, oif); ok || err != nil {
		return r, err
	}
	if oif != 0 && dst.Is6() && (dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast()) {
		dst = dst.WithZone(strconv.Itoa(oif)) // which the table has it under
	}
	m, err := t.get(dst)
	dst = dst.WithZone("")
	switch {
	case errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.EAFNOSUPPORT): // BSD's names for it
		return h.unrouted(dst, oif)
	case err != nil:
		return netlink.Route{}, err
	}
	return h.found(&m, dst, oif)
}

// get asks for a route by RTM_GET. The routing socket is for this question
// alone: one that stays open hears all that happens.
func (t *Tables) get(dst netip.Addr) (protocol.RouteMessage, error) {
	rs, err := client.OpenRoute(cmp.Or(t.stack.Prefix(), "/"))
	if err != nil {
		return protocol.RouteMessage{}, err
	}
	defer rs.Close()
	return rs.Request(protocol.RouteMessage{Type: protocol.RTMGet, Flags: protocol.RTFHost, Dst: protocol.AddrFrom(dst, 0)})
}

// Neighbours is netlink.Tables.
func (t *Tables) Neighbours() ([]netlink.Neighbour, error) {
	rows, err := t.rows()
	if err != nil {
		return nil, err
	}
	neighbours, err := client.Table[protocol.NeighbourRow](t.stack, protocol.TableNeighbours, "")
	if err != nil {
		return nil, err
	}
	index := map[string]int{}
	for i := range rows {
		index[rows[i].Name] = rows[i].Index
	}
	var all []netlink.Neighbour
	for i := range neighbours {
		all = appendNeighbour(all, &neighbours[i], index[neighbours[i].Interface])
	}
	return all, nil
}

// states are those of IPv6 (RFC 4861 §7.3.2), which ARP has not.
var states = map[string]uint16{
	"INCOMPLETE": unix.NUD_INCOMPLETE, "REACHABLE": unix.NUD_REACHABLE, "STALE": unix.NUD_STALE,
	"DELAY": unix.NUD_DELAY, "PROBE": unix.NUD_PROBE, "PERMANENT": unix.NUD_PERMANENT,
}

// appendNeighbour appends what Linux has of a neighbour: an entry, and another
// one in its table of proxies if the stack answers for it.
func appendNeighbour(all []netlink.Neighbour, r *protocol.NeighbourRow, index int) []netlink.Neighbour {
	ip, err := netip.ParseAddr(r.Address)
	if err != nil || index == 0 {
		return all // it went away between two questions
	}
	ip = ip.WithZone("")
	n := netlink.Neighbour{Index: index, Addr: ip, HW: hardware(r.Link), State: unix.NUD_REACHABLE, Refs: r.Refs, Probes: r.Probes}
	if state, ok := states[r.State]; ok {
		n.State = state
	}
	if r.Router {
		n.Flags = unix.NTF_ROUTER
	}
	switch {
	case r.Permanent:
		n.State = unix.NUD_PERMANENT
	case r.Link == "":
		n.State = unix.NUD_INCOMPLETE
	}
	if !r.ProxyOnly {
		all = append(all, n)
	}
	if r.Published {
		all = append(all, netlink.Neighbour{Index: index, Addr: ip, Flags: unix.NTF_PROXY})
	}
	return all
}
