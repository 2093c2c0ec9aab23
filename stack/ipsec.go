package stack

import (
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
	s.secure.Set(s.IPsec)
}

// addEnc makes enc0, by which packets out of tunnels are shown to captures and to the filter while
// it is up.
func (s *Stack) addEnc(env *netif.Env) error {
	if s.IPsec == nil {
		return nil
	}
	enc := netif.New(netif.Config{Name: "enc0", Type: netif.TypeEnc, MTU: 1536, Flags: netif.FlagRunning})
	enc.Output = func(w *netif.Work, _ *netif.Interface, pkt *packet.Buf, _ netip.Addr) error {
		w.Drop(pkt, cntEnc)
		return syscall.ENETUNREACH
	}
	if err := env.Ifs.Add(enc); err != nil {
		return err
	}
	s.IPsec.SetEnc(enc)
	return nil
}
