package life

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"ionet/client"
	"ionet/protocol"
)

// Link is an interface as neighbour discovery sees it.
type Link struct {
	Name     string
	Index    int
	MTU      int
	HW       net.HardwareAddr // nil: it has no link address
	Loopback bool
	Up       bool         // and running, with its link connected
	Local    netip.Addr   // the link-local address to send from, without zone; invalid: there is none that may be used
	Own      []netip.Addr // all its IPv6 addresses, without zones
}

// Links are the interfaces of the stack.
func Links(s *client.Stack) ([]Link, error) {
	rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "")
	if err != nil {
		return nil, err
	}
	var all []Link
	for _, r := range rows {
		l := Link{Name: r.Name, Index: r.Index, MTU: r.MTU, Loopback: r.Flags&protocol.IFFLoopback != 0,
			Up: r.Flags&protocol.IFFUp != 0 && r.Flags&protocol.IFFRunning != 0 && r.LinkUp}
		if hw, err := net.ParseMAC(r.Link); err == nil {
			l.HW = hw
		}
		for _, a := range r.Addresses {
			ip, err := netip.ParseAddr(a.Address)
			if err != nil || !ip.Is6() {
				continue
			}
			ip = ip.WithZone("")
			l.Own = append(l.Own, ip)
			const unusable = protocol.IN6IFFTentative | protocol.IN6IFFDuplicated | protocol.IN6IFFAnycast
			if ip.IsLinkLocalUnicast() && !l.Local.IsValid() && (a.Flags&unusable == 0 || a.Flags&protocol.IN6IFFOptimistic != 0) {
				l.Local = ip
			}
		}
		all = append(all, l)
	}
	return all, nil
}

// Prefixes are the prefixes on the links of the stack, by interface index: what
// its routes that lead to no gateway have, in order.
func Prefixes(s *client.Stack) (map[int][]netip.Prefix, error) {
	all := map[int][]netip.Prefix{}
	for m, err := range s.Dump(protocol.DumpRoutes, protocol.AFInet6, 0) {
		if err != nil {
			return nil, err
		}
		r, ok := m.(*protocol.RouteMessage)
		const others = protocol.RTFGateway | protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFCloned | protocol.RTFReject | protocol.RTFBlackhole | protocol.RTFDynamic
		if !ok || r.Flags&protocol.RTFUp == 0 || r.Flags&others != 0 || r.Dst.Family != protocol.AFInet6 {
			continue
		}
		ip := r.Dst.IP.WithZone("")
		if r.NetmaskBits <= 0 || r.NetmaskBits >= 128 || !ip.IsGlobalUnicast() {
			continue
		}
		p := netip.PrefixFrom(ip, r.NetmaskBits).Masked()
		if !slices.Contains(all[r.Index], p) {
			all[r.Index] = append(all[r.Index], p)
		}
	}
	for _, p := range all {
		slices.SortFunc(p, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
	}
	return all, nil
}

// Watch calls changed when the stack tells of a change of its interfaces,
// addresses or routes (its neighbours come and go), until the routing socket ends; what has ended it comes back.
func Watch(r *client.RouteSocket, changed func()) error {
	for {
		msgs, err := r.Read()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(msgs, matters) {
			changed()
		}
	}
}

func matters(m protocol.Message) bool {
	switch m := m.(type) {
	case *protocol.RouteMessage:
		return m.Dst.Family == protocol.AFInet6 && m.Flags&protocol.RTFLLInfo == 0 && (m.Type == protocol.RTMAdd || m.Type == protocol.RTMDelete || m.Type == protocol.RTMChange)
	case *protocol.AddrMessage, *protocol.IfMessage, *protocol.AnnounceMessage, *protocol.DesyncMessage:
		return true
	}
	return false
}
