package stack_test

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// secBench is a host that sends datagrams to a neighbour, over either version of IP.
type secBench struct {
	r        *rig.Rig
	v6       bool
	me, peer netip.Addr
}

func secured(r *rig.Rig, v6 bool) *secBench {
	b := &secBench{r, v6, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	if v6 {
		b.me, b.peer = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		met(r)
	} else {
		r.Meet("10.0.0.2")
	}
	r.Sent()
	return b
}

// sa adds an SA to the neighbour.
func (b *secBench) sa(proto, mode uint8, spi uint32) error {
	s := ipsec.Spec{Proto: proto, Mode: mode, SPI: spi, Src: b.me, Dst: b.peer}
	switch proto {
	case packet.ProtoESP:
		s.Ealg, s.Ekey = crypt.EalgAESGCM16, key(20, 1)
	case packet.ProtoAH:
		s.Aalg, s.Akey = crypt.AalgHMACSHA1, key(20, 1)
	default:
		s.Calg = crypt.CalgDeflate
	}
	_, err := b.r.IPsec.Add(s)
	return err
}

// policy has datagrams protected so.
func (b *secBench) policy(proto, mode uint8, level ipsec.Level) {
	r := ipsec.Request{Proto: proto, Mode: mode, Level: level}
	if mode == ipsec.ModeTunnel {
		r.Src, r.Dst = b.me, b.peer
	}
	p := &ipsec.Policy{Dir: ipsec.Out, Kind: ipsec.Protect, Requests: []ipsec.Request{r}, Selector: ipsec.Selector{
		Src: netip.PrefixFrom(b.me, b.me.BitLen()), Dst: netip.PrefixFrom(b.peer, b.peer.BitLen()), Proto: packet.ProtoUDP}}
	if err := b.r.IPsec.AddPolicy(p); err != nil {
		b.r.Fatal(err)
	}
}

// sends n datagrams of a TOS or class and says what left: "PROTO tos ttl df" of the IP headers.
func (b *secBench) sends(n int, class uint8) string {
	data := make([]byte, 200)
	for range n {
		_ = b.r.Do(func(w *netif.Work) error {
			af := socket.AFInet
			if b.v6 {
				af = socket.AFInet6
			}
			so, err := b.r.Stack.Socket(w, af, socket.Dgram, 0, socket.Cred{Super: true})
			if err != nil {
				b.r.Fatal(err)
			}
			if b.v6 {
				err = so.SetOption(w, packet.ProtoIPv6, 61, []byte{class, 0, 0, 0})
			} else {
				err = so.SetOption(w, 0, 3, []byte{class, 0, 0, 0})
			}
			if err != nil {
				b.r.Fatal(err)
			}
			_, _ = so.Send(w, &socket.Msg{Addr: socket.Addr{IP: b.peer, Port: 7}, Data: data})
			so.Close(w)
			return nil
		})
	}
	return b.left()
}

func (b *secBench) left() string {
	var all []string
	for _, f := range b.r.Sent() {
		p := f[packet.EtherLen:]
		if p[0]>>4 == 6 {
			h := packet.IPv6(p)
			all = append(all, fmt.Sprint(h.Next(), " tos ", h.Class(), " ttl ", h.HopLimit()))
			continue
		}
		h := packet.IPv4(p)
		all = append(all, fmt.Sprint(h.Proto(), " tos ", h.TOS(), " ttl ", h.TTL(), " df ", h.DF()))
	}
	return strings.Join(all, ", ")
}

// missing is what leaves when the SA of a policy of level "default" is missing.
func missing(v6 bool, proto, mode uint8) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		b := secured(r, v6)
		b.policy(proto, mode, ipsec.Default)
		return b.sends(1, 0)
	}
}

// through is what leaves through an SA.
func through(v6 bool, proto, mode, class uint8) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		b := secured(r, v6)
		b.policy(proto, mode, ipsec.Require)
		if err := b.sa(proto, mode, 1000); err != nil {
			r.Fatal(err)
		}
		return b.sends(1, class)
	}
}

// asked counts how often a daemon is asked for the SA of datagrams that send makes.
func asked(send func(b *secBench)) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		b, n := secured(r, false), 0
		r.IPsec.Subscribe(func(e ipsec.Event) {
			if e.Kind == ipsec.Acquire {
				n++
			}
		})
		b.policy(packet.ProtoESP, ipsec.ModeTransport, ipsec.Require)
		send(b)
		return fmt.Sprint(n)
	}
}

// spis are those that GETSPI finds in a range.
func spis(lo, hi uint32, n int) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		b := secured(r, false)
		found := 0
		var last uint32
		for range n {
			if s, err := r.IPsec.GetSPI(ipsec.Spec{Proto: packet.ProtoESP, Src: b.me, Dst: b.peer}, lo, hi); err == nil {
				found++
				last = s.SPI
			}
		}
		r.IPsec.DeleteAll(0, netip.Addr{}, netip.Addr{})
		if n > 1 {
			return fmt.Sprint(found)
		}
		return fmt.Sprintf("%#x", last&^0xff)
	}
}

// added is how many of two were.
func added(add func(b *secBench, n int) error) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		b, n := secured(r, false), 0
		for i := range 2 {
			if add(b, i) == nil {
				n++
			}
		}
		return fmt.Sprint(n)
	}
}

const (
	clear4, clear6 = "17 tos 0 ttl 64 df false", "17 tos 0 ttl 64"
	esp4, esp6     = "50 tos 0 ttl 64 df false", "50 tos 0 ttl 64"
)

var ipsecEffects = map[string]effect{
	"net.inet.ipsec.esp_trans_deflev":   {"2", "", missing(false, packet.ProtoESP, ipsec.ModeTransport), clear4, ""},
	"net.inet.ipsec.esp_net_deflev":     {"2", "", missing(false, packet.ProtoESP, ipsec.ModeTunnel), clear4, ""},
	"net.inet.ipsec.ah_trans_deflev":    {"2", "", missing(false, packet.ProtoAH, ipsec.ModeTransport), clear4, ""},
	"net.inet.ipsec.ah_net_deflev":      {"2", "", missing(false, packet.ProtoAH, ipsec.ModeTunnel), clear4, ""},
	"net.inet6.ipsec6.esp_trans_deflev": {"2", "", missing(true, packet.ProtoESP, ipsec.ModeTransport), clear6, ""},
	"net.inet6.ipsec6.esp_net_deflev":   {"2", "", missing(true, packet.ProtoESP, ipsec.ModeTunnel), clear6, ""},
	"net.inet6.ipsec6.ah_trans_deflev":  {"2", "", missing(true, packet.ProtoAH, ipsec.ModeTransport), clear6, ""},
	"net.inet6.ipsec6.ah_net_deflev":    {"2", "", missing(true, packet.ProtoAH, ipsec.ModeTunnel), clear6, ""},
	"net.inet.ipsec.def_policy":         {"0", "", func(r *rig.Rig) string { return secured(r, false).sends(1, 0) }, clear4, ""},
	"net.inet6.ipsec6.def_policy":       {"0", "", func(r *rig.Rig) string { return secured(r, true).sends(1, 0) }, clear6, ""},
	"net.inet.ipsec.dfbit":              {"1", "", through(false, packet.ProtoESP, ipsec.ModeTunnel, 0), esp4, "50 tos 0 ttl 64 df true"},
	"net.inet.ipsec.ecn":                {"1", "", through(false, packet.ProtoESP, ipsec.ModeTunnel, 0x22), "50 tos 32 ttl 64 df false", "50 tos 34 ttl 64 df false"},
	"net.inet6.ipsec6.ecn":              {"-1", "", through(true, packet.ProtoESP, ipsec.ModeTunnel, 0x22), "50 tos 32 ttl 64", "50 tos 34 ttl 64"},
	"net.inet.ipsec.ttl":                {"9", "", through(false, packet.ProtoESP, ipsec.ModeTunnel, 0), esp4, "50 tos 0 ttl 9 df false"},
	"net.inet6.ipsec6.hlim":             {"9", "", through(true, packet.ProtoESP, ipsec.ModeTunnel, 0), esp6, "50 tos 0 ttl 9"},
	"net.inet.ipsec.comp_min":           {"300", "", through(false, packet.ProtoIPComp, ipsec.ModeTransport, 0), "108 tos 0 ttl 64 df false", clear4},
	"net.inet.ipsec.weak": {"0", "", func(r *rig.Rig) string {
		b := secured(r, false)
		_, err := r.IPsec.Add(ipsec.Spec{Proto: packet.ProtoESP, Mode: ipsec.ModeTransport, SPI: 1000, Src: b.me, Dst: b.peer, Ealg: crypt.Ealg3DESCBC, Ekey: key(24, 1)})
		return fmt.Sprint(err == nil)
	}, "true", "false"},
	"net.key.larval_lifetime": {"60", "", func(r *rig.Rig) string {
		b := secured(r, false)
		if _, err := r.IPsec.GetSPI(ipsec.Spec{Proto: packet.ProtoESP, Src: b.me, Dst: b.peer}, 0, 0); err != nil {
			r.Fatal(err)
		}
		r.Pass(31 * time.Second)
		return fmt.Sprint(len(r.IPsec.SAs(0)))
	}, "0", "1"},
	"net.key.max_sas": {"1", "", added(func(b *secBench, n int) error { return b.sa(packet.ProtoESP, ipsec.ModeTransport, 1000+uint32(n)) }), "2", "1"},
	"net.key.max_policies": {"1", "", added(func(b *secBench, n int) error {
		return b.r.IPsec.AddPolicy(&ipsec.Policy{Dir: ipsec.Out, Kind: ipsec.None, Selector: ipsec.Selector{
			Src: netip.PrefixFrom(b.me, 32), Dst: netip.PrefixFrom(b.peer, 32), Proto: uint8(10 + n)}})
	}), "2", "1"},
	"net.key.preferred_oldsa": {"0", "", func(r *rig.Rig) string {
		b := secured(r, false)
		b.policy(packet.ProtoESP, ipsec.ModeTransport, ipsec.Require)
		for spi := range uint32(2) {
			if err := b.sa(packet.ProtoESP, ipsec.ModeTransport, 1000+spi); err != nil {
				r.Fatal(err)
			}
		}
		b.sends(1, 0)
		s, err := r.IPsec.Find(packet.ProtoESP, 1000, b.me, b.peer)
		if err != nil {
			r.Fatal(err)
		}
		return fmt.Sprint(s.Info().Packets)
	}, "1", "0"},
	"net.key.spi_min_value": {"0x0fffff00", "", spis(0, 0, 1), "0x28b0600", "0xfffff00"},
	"net.key.spi_max_value": {"256", "", spis(0, 0, 1), "0x28b0600", "0x100"},
	"net.key.spi_try":       {"1", "", spis(256, 287, 32), "32", "19"},
	"net.key.acquire_queue": {"1", "", func(r *rig.Rig) string {
		b := secured(r, false)
		b.policy(packet.ProtoESP, ipsec.ModeTransport, ipsec.Require)
		b.sends(3, 0)
		if err := b.sa(packet.ProtoESP, ipsec.ModeTransport, 1000); err != nil {
			r.Fatal(err)
		}
		return fmt.Sprint(len(r.Sent()))
	}, "3", "1"},
	"net.key.blockacq_count": {"100", "", asked(func(b *secBench) { b.sends(12, 0) }), "2", "1"},
	"net.key.blockacq_lifetime": {"60", "", asked(func(b *secBench) {
		b.sends(1, 0)
		b.r.Pass(25 * time.Second)
		b.sends(1, 0)
	}), "2", "1"},
}
