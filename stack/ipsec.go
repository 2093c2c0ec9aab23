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

// AddEnc makes an interface encN, by which packets out of tunnels are shown to captures and to the filter while
// it is up. EINVAL: this stack has no IPsec; EBUSY: there is one already, and one shows all; EEXIST.
func (s *Stack) AddEnc(name string) (*netif.Interface, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if s.IPsec == nil {
		return nil, fmt.Errorf("interface %s: this stack was started without option ipsec: %w", name, syscall.EINVAL)
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
