package stack

import (
	"fmt"
	"net/netip"
	"syscall"

	"ionet/stack/ipsec"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var cntEnc = mib.NewCounter("ipsec", "enc", "# output packet{s} dropped by an interface that only shows what tunnels bring")

// secures introduces IPsec to both versions of IP.
func (s *Stack) secures(env *netif.Env, filterFirst bool) {
	s.IPsec = ipsec.New(env)
	s.tunnelPolicies = map[*netif.Interface][]*ipsec.Policy{}
	s.IPsec.Over(false, s.Inet)
	s.Inet.SetSecurity(&s.secure, filterFirst)
	if s.Inet6 != nil {
		s.IPsec.Over(true, s.Inet6)
		s.Inet6.SetSecurity(&s.secure, filterFirst)
	}
	for _, proto := range []uint8{packet.ProtoESP, packet.ProtoAH, packet.ProtoIPComp} {
		s.Inet.Handle(proto, s.IPsec.Upper(proto))
		if s.Inet6 != nil {
			s.Inet6.Handle(proto, s.IPsec.Upper(proto))
		}
	}
	for _, proto := range []uint8{packet.ProtoIPv4, packet.ProtoIPv6} {
		if proto == packet.ProtoIPv6 && s.Inet6 == nil {
			continue
		}
		s.Inet.Handle(proto, s.IPsec.Bare(proto, s.Gif.Upper(false, proto == packet.ProtoIPv6)))
		if s.Inet6 != nil {
			s.Inet6.Handle(proto, s.IPsec.Bare(proto, s.Gif.Upper(true, proto == packet.ProtoIPv6)))
		}
	}
	s.secure.Set(s.IPsec)
}

func withoutIPsec(name string) error {
	return fmt.Errorf("interface %s: this stack was started without option ipsec: %w", name, syscall.EINVAL)
}

// secureTunnel gives an ipsec interface its policies, as NetBSD's ipsecif(4) has them: what goes through it is a packet in
// a packet, and that goes by ESP in transport mode, with SAs of reqids of the interface's own: 16384 and twice its unit for
// IPv4 inside, and one more for IPv6.
func (s *Stack) secureTunnel(ifp *netif.Interface, src, dst netip.Addr) error {
	kind, unit := netif.Unit(ifp.Name)
	if kind != "ipsec" {
		return nil
	}
	s.unsecureTunnel(ifp)
	src, _ = packet.Unscoped(src)
	dst, _ = packet.Unscoped(dst)
	for n, inner := range []uint8{packet.ProtoIPv4, packet.ProtoIPv6} {
		r := ipsec.Request{Proto: packet.ProtoESP, Mode: ipsec.ModeTransport, Level: ipsec.Unique, ReqID: uint32(firstIfReqID + 2*unit + n)}
		for dir, ends := range [...][2]netip.Addr{ipsec.In: {dst, src}, ipsec.Out: {src, dst}} {
			if dir == 0 {
				continue
			}
			p := &ipsec.Policy{Dir: uint8(dir), Kind: ipsec.Protect, Requests: []ipsec.Request{r}, Kept: true, Priority: policyPriority,
				Selector: ipsec.Selector{Src: netip.PrefixFrom(ends[0], ends[0].BitLen()), Dst: netip.PrefixFrom(ends[1], ends[1].BitLen()), Proto: inner}}
			if err := s.IPsec.AddPolicy(p); err != nil {
				s.unsecureTunnel(ifp)
				return fmt.Errorf("policies of %s: %w", ifp.Name, err)
			}
			s.tunnelPolicies[ifp] = append(s.tunnelPolicies[ifp], p)
		}
	}
	return nil
}

const (
	firstIfReqID   = 16384
	policyPriority = 1 << 31 // setkey's "default"
)

func (s *Stack) unsecureTunnel(ifp *netif.Interface) {
	for _, p := range s.tunnelPolicies[ifp] {
		s.IPsec.RemovePolicy(p)
	}
	delete(s.tunnelPolicies, ifp)
}

// AddEnc makes an interface encN, by which packets out of tunnels are shown to captures and to the filter while
// it is up. EINVAL: this stack has no IPsec; EBUSY: there is one already, and one shows all; EEXIST.
func (s *Stack) AddEnc(name string) (*netif.Interface, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if s.IPsec == nil {
		return nil, withoutIPsec(name)
	}
	if other := s.IPsec.Enc(); other != nil {
		return nil, fmt.Errorf("%s is there already, and one shows all: %w", other.Name, syscall.EBUSY)
	}
	enc := netif.New(netif.Config{Name: name, Type: netif.TypeEnc, MTU: 1536, Flags: netif.FlagRunning})
	enc.Output = func(w *netif.Work, _ *netif.Interface, pkt *packet.Buf, _ netip.Addr) error {
		w.Drop(pkt, cntEnc)
		return syscall.ENETUNREACH
	}
	if err := s.Env.Ifs.Add(enc); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	s.IPsec.SetEnc(enc)
	s.publish(Event{Kind: IfArrived, If: enc})
	return enc, nil
}
