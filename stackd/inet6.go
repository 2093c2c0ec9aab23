package stackd

import (
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack"
	"ionet/stack/inet6"
	"ionet/stack/mib"
	"ionet/stack/nd6"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// inet6 is the stack's IPv6. EAFNOSUPPORT: it has none.
func (s *server) inet6() (*inet6.Inet6, error) {
	if in := s.eng.Engine().Inet6; in != nil {
		return in, nil
	}
	return nil, errf(unix.EAFNOSUPPORT, "this stack has no IPv6: it runs tcpip-v4")
}

// ours are the flags of an address that the stack alone sets.
const ours = protocol.IN6IFFDuplicated | protocol.IN6IFFDetached | protocol.IN6IFFStable | protocol.IN6IFFOptimistic

// inet6Spec fills in what SIOCAIFADDR says of an inet6 address besides.
func inet6Spec(spec *stack.AddrSpec, q *protocol.AliasReq) error {
	spec.Flags = q.Flags &^ protocol.AliasFirst
	if bad := spec.Flags & ours; bad != 0 {
		return errf(unix.EINVAL, "the flags %#x of an address are the stack's to set", bad)
	}
	if !q.Timed {
		return nil
	}
	switch {
	case q.Valid == 0:
		return errf(unix.EINVAL, "an address that is valid for no time is none: delete it")
	case q.Preferred > q.Valid:
		return errf(unix.EINVAL, "an address cannot be preferred for longer (%d s) than it is valid (%d s)", q.Preferred, q.Valid)
	}
	spec.Preferred, spec.Valid = lifetime(q.Preferred), lifetime(q.Valid)
	return nil
}

// lifetime is one of an address: for ever is 0 in the engine, and no time at
// all, which deprecates, the shortest there is.
func lifetime(seconds uint32) time.Duration {
	if seconds == protocol.LifetimeInfinite {
		return 0
	}
	return max(time.Duration(seconds)*time.Second, 1)
}

// left is how many seconds there are until a time of the stack's clock; -1: it
// never comes.
func left(at, now int64) int64 {
	if at == 0 {
		return -1
	}
	return max((at-now+1e9-1)/1e9, 0)
}

// flags6 are the IN6_IFF_* of an address.
func flags6(a *netif.Addr, now int64) uint32 {
	f := a.Flags
	if a.Tentative {
		f |= protocol.IN6IFFTentative
	}
	if a.Duplicated {
		f |= protocol.IN6IFFDuplicated
	}
	if a.Deprecated(now) {
		f |= protocol.IN6IFFDeprecated
	}
	return f
}

// sockaddr is an address of the engine's in a message: the interface that is in it becomes
// its scope.
func sockaddr(a netip.Addr) protocol.Addr {
	plain, index := packet.Unscoped(a)
	if index != 0 {
		plain = plain.WithZone(strconv.Itoa(int(index)))
	}
	return protocol.Addr{Family: familyOf(a), IP: plain}
}

// familyOf is the family of an address of the engine's, where ::ffff:10.0.0.1
// is one of IPv6; 0: there is no address.
func familyOf(a netip.Addr) int {
	switch {
	case a.Is4():
		return protocol.AFInet
	case a.Is6():
		return protocol.AFInet6
	}
	return protocol.AFUnspec
}

// setND serves SIOCSNDINFO.
func (s *server) setND(ifp *netif.Interface, r protocol.IfReq) error {
	if _, err := s.inet6(); err != nil {
		return err
	}
	const all = nd6.PerformNUD | nd6.AcceptRtAdv | nd6.PreferSource
	mask := r.Mask
	if mask == 0 {
		mask = all
	}
	if (mask|r.Value)&^all != 0 {
		return errf(unix.EINVAL, "the flags of neighbour discovery are %#x, not %#x", all, mask|r.Value)
	}
	s.eng.Call(func(w *netif.Work) {
		s.eng.Engine().ND.SetIfInfo(w, ifp, func(i *nd6.IfInfo) { i.Flags = i.Flags&^mask | r.Value&mask })
	})
	return nil
}

// policy serves SIOCAADDRCTLPOLICY and SIOCDADDRCTLPOLICY.
func (s *server) policy(req uint32, arg []byte) error {
	in, err := s.inet6()
	if err != nil {
		return err
	}
	p, err := protocol.ParseAddrPolicy(arg)
	if err != nil {
		return err
	}
	if req == protocol.SIOCDADDRCTLPOLICY {
		return in.DeletePolicy(p.Prefix)
	}
	return in.AddPolicy(inet6.Policy{Prefix: p.Prefix, Precedence: p.Precedence, Label: p.Label})
}

func (s *server) policyRows() (rows []any) {
	in, err := s.inet6()
	if err != nil {
		return nil
	}
	for _, p := range in.Policies() {
		rows = append(rows, protocol.PolicyRow{Prefix: p.Prefix.String(), Precedence: p.Precedence, Label: p.Label, Use: p.Use})
	}
	return rows
}

var nodeHopLimit = mib.Lookup("net.inet6.ip6.hlim")

func (s *server) ndRows(arg, only string) (rows []any, err error) {
	eng := s.eng.Engine()
	if eng.ND == nil {
		return nil, nil
	}
	for _, ifp := range eng.Env.Ifs.All() {
		if arg != "" && arg != ifp.Name || only != "" && only != ifp.Name {
			continue
		}
		i := eng.ND.IfInfo(ifp)
		r := protocol.NDIfRow{Interface: ifp.Name, LinkMTU: i.LinkMTU, MaxMTU: ifp.MTU(), CurHopLimit: int(i.HopLimit),
			BaseReachable: int64(i.BaseReachable), Reachable: int64(i.Reachable), Retrans: int64(i.Retrans), Flags: i.Flags}
		if r.LinkMTU == 0 {
			r.LinkMTU = r.MaxMTU
		}
		if r.CurHopLimit == 0 {
			r.CurHopLimit = int(eng.Env.MIB.Int(nodeHopLimit))
		}
		rows = append(rows, r)
	}
	if arg != "" && rows == nil {
		return nil, unix.ENXIO
	}
	return rows, nil
}
