package stack_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// ip6 is a packet of IPv6 from 2001:db8::2 in a frame from Peer to en0.
func ip6(dst string, next uint8, body []byte) []byte {
	b := make([]byte, packet.EtherLen+packet.IPv6Len+len(body))
	packet.PutEther(b, rig.Me, rig.Peer, packet.EtherIPv6)
	h := packet.PutIPv6(b[packet.EtherLen:], 0, 0, len(body), next, 64, netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr(dst))
	copy(h.Payload(), body)
	return b
}

// udp6 is a datagram from 2001:db8::2 to dst's port 9.
func udp6(dst string) []byte {
	src, d := netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr(dst)
	b := make([]byte, packet.UDPLen+8)
	packet.PutUDP(b, 5, 9, len(b), 0)
	sum := ^packet.Fold(packet.Sum(packet.PseudoSum(src, d, packet.ProtoUDP, len(b)), b))
	binary.BigEndian.PutUint16(b[packet.UDPCsumOffset:], sum)
	return b
}

// info is a query for node information.
func info(qtype uint16) []byte {
	b := make([]byte, 32)
	b[0] = packet.ICMP6NIQuery
	binary.BigEndian.PutUint16(b[4:], qtype)
	ip := netip.MustParseAddr("2001:db8::1").As16()
	copy(b[16:], ip[:])
	return nd("2001:db8::2", "2001:db8::1", b)
}

// met is six with a neighbour, 2001:db8::2.
func met(r *rig.Rig) {
	six(r)
	r.Send(neighbour(packet.ICMP6NeighborSol, 0, 2))
	r.Sent()
}

// answer6 is what comes back for frames from 2001:db8::2.
func answer6(fs ...[]byte) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		met(r)
		for _, f := range fs {
			r.Send(f)
		}
		return frames(r)
	}
}

// socket6 has f use a socket of IPv6.
func socket6(r *rig.Rig, typ, proto int, f func(w *netif.Work, so *socket.Socket) error) {
	err := r.Do(func(w *netif.Work) error {
		so, err := r.Stack.Socket(w, socket.AFInet6, typ, proto, socket.Cred{Super: true})
		if err != nil {
			return err
		}
		defer so.Close(w)
		return f(w, so)
	})
	if err != nil {
		r.Fatal(err)
	}
}

// port6 says whether the port that a socket is given is want.
func port6(low bool, want uint16) func(*rig.Rig) string {
	return func(r *rig.Rig) (s string) {
		socket6(r, socket.Dgram, 0, func(w *netif.Work, so *socket.Socket) error {
			if low {
				if err := so.SetOption(w, 41, 14, socket.Value32(2)); err != nil { // IPV6_PORTRANGE_LOW
					return err
				}
			}
			err := so.Bind(w, socket.Addr{})
			s = fmt.Sprint(so.Local().Port == want)
			return err
		})
		return s
	}
}

// source6 is the source of a datagram to 2001:db8::2, when 2001:db8::7 with these
// flags is an address too, or the only one of the network.
func source6(flags uint32, only bool) func(*rig.Rig) string {
	return func(r *rig.Rig) (s string) {
		met(r)
		if err := r.AddAddr(r.If, stack.AddrSpec{Addr: netip.MustParseAddr("2001:db8::7"), Bits: 64, Flags: flags | netif.AddrNoDAD}); err != nil {
			r.Fatal(err)
		}
		if only {
			if err := r.DelAddr(r.If, netip.MustParseAddr("2001:db8::1")); err != nil {
				r.Fatal(err)
			}
			r.Send(neighbour(packet.ICMP6NeighborAdv, packet.NAFlagOverride, 2))
		}
		socket6(r, socket.Dgram, 0, func(w *netif.Work, so *socket.Socket) error {
			err := so.Connect(w, socket.Addr{IP: netip.MustParseAddr("2001:db8::2"), Port: 7})
			s = so.Local().IP.String()
			return err
		})
		return s
	}
}

// tooBig has a socket learn of a path MTU of 1280 and, after a while, send 1400
// octets; it answers in how many packets.
func tooBig(typ, proto int, d time.Duration) func(*rig.Rig) string {
	return func(r *rig.Rig) (s string) {
		met(r)
		to := socket.Addr{IP: netip.MustParseAddr("2001:db8::2"), Port: 7}
		if typ == socket.Raw {
			to.Port = 0
		}
		so, err := func() (so *socket.Socket, err error) {
			err = r.Do(func(w *netif.Work) error {
				so, err = r.Stack.Socket(w, socket.AFInet6, typ, proto, socket.Cred{Super: true})
				if err == nil {
					err = so.Connect(w, to)
				}
				return err
			})
			return so, err
		}()
		if err != nil {
			r.Fatal(err)
		}
		send := func() [][]byte {
			if err := r.Do(func(w *netif.Work) error {
				_, err := so.Send(w, &socket.Msg{Data: make([]byte, 1400)})
				return err
			}); err != nil {
				r.Fatal(err)
			}
			return slices.DeleteFunc(r.Sent(), func(f []byte) bool { return strings.Contains(rig.Describe(f), " ns ") })
		}
		whole := send()[0][packet.EtherLen:]
		m := make([]byte, packet.ICMP6Len, 600)
		m[0] = packet.ICMP6TooBig
		packet.ICMP6(m).SetRest(1280)
		r.Send(nd("2001:db8::2", "2001:db8::1", append(m, whole[:500]...)))
		r.Sent()
		r.Pass(d)
		s = fmt.Sprint(len(send()))
		_ = r.Do(func(w *netif.Work) error { so.Close(w); return nil })
		return s
	}
}

// pieces are the two fragments of a datagram to port 9.
func pieces() (out [][]byte) {
	u := udp6("2001:db8::1")
	for i, part := range [][]byte{u[:8], u[8:]} {
		b := make([]byte, packet.FragmentLen, packet.FragmentLen+8)
		packet.PutFragment(b, packet.ProtoUDP, 8*i, i == 0, 1)
		out = append(out, ip6("2001:db8::1", packet.ProtoFragment, append(b, part...)))
	}
	return out
}

// nested is a datagram to port 9 behind two headers of pads.
func nested() []byte {
	pad := []byte{packet.ProtoDstOpts, 0, packet.OptPadN, 4, 0, 0, 0, 0}
	last := slices.Clone(pad)
	last[0] = packet.ProtoUDP
	return ip6("2001:db8::1", packet.ProtoDstOpts, slices.Concat(pad, last, udp6("2001:db8::1")))
}

const unreach6 = "2001:db8::1 > 2001:db8::2 unreach 4"

// inet6Effects are the nodes of stack/inet6.
var inet6Effects = map[string]effect{
	"net.inet6.icmp6.errppslimit": {"0", "", func(r *rig.Rig) string {
		return fmt.Sprint(strings.Contains(answer6(ip6("2001:db8::1", packet.ProtoUDP, udp6("2001:db8::1")))(r), unreach6))
	}, "true", "false"},
	"net.inet6.icmp6.mtudisc_hiwat": {"0", "", tooBig(socket.Dgram, 0, 0), "2", "1"},
	"net.inet6.icmp6.mtudisc_lowat": {"0", "", tooBig(socket.Raw, 99, 0), "2", "1"},
	"net.inet6.ip6.mtudisctimeout":  {"1", "", tooBig(socket.Dgram, 0, 5*time.Second), "2", "1"},
	"net.inet6.icmp6.nodeinfo":      {"0", "", answer6(info(0)), "2001:db8::1 > 2001:db8::2 icmp6 type 140 code 0 len 8", ""},
	"kern.hostname":                 {"alpha", "", answer6(info(2)), "", "2001:db8::1 > 2001:db8::2 icmp6 type 140 code 0 len 20"},
	"net.inet6.ip6.anonportmin":     {"65535", "", port6(false, 65535), "false", "true"},
	"net.inet6.ip6.anonportmax":     {"49152", "", port6(false, 49152), "false", "true"},
	"net.inet6.ip6.lowportmin":      {"1023", "", port6(true, 1023), "false", "true"},
	"net.inet6.ip6.lowportmax":      {"600", "", port6(true, 600), "false", "true"},
	"net.inet6.ip6.prefer_tempaddr": {"1", "", source6(netif.AddrTemporary, false), "2001:db8::1", "2001:db8::7"},
	"net.inet6.ip6.use_deprecated":  {"0", "", source6(netif.AddrDeprecated, true), "2001:db8::7", "fe80::1"},
	"net.inet6.ip6.hlim": {"7", "", func(r *rig.Rig) (s string) {
		met(r)
		socket6(r, socket.Dgram, 0, func(w *netif.Work, so *socket.Socket) error {
			_, err := so.Send(w, &socket.Msg{Addr: socket.Addr{IP: netip.MustParseAddr("2001:db8::2"), Port: 7}})
			return err
		})
		return fmt.Sprint(packet.IPv6(r.Sent()[0][packet.EtherLen:]).HopLimit())
	}, "64", "7"},
	"net.inet6.ip6.forwarding": {"1", "", answer6(ip6("2001:db8:9::1", packet.ProtoUDP, udp6("2001:db8:9::1"))),
		"", "2001:db8::1 > 2001:db8::2 unreach 0 quotes 2001:db8::2 > 2001:db8:9::1 proto 17 len 16"},
	"net.inet6.ip6.log_interval": {"0", "net.inet6.ip6.forwarding=1", func(r *rig.Rig) string {
		met(r)
		for range 2 {
			f := ip6("2001:db8::9", packet.ProtoUDP, udp6("2001:db8::9"))
			packet.IPv6(f[packet.EtherLen:]).SetSrc(netip.IPv6Unspecified())
			r.Send(f)
		}
		return fmt.Sprint(strings.Count(logged.String(), "packet not forwarded"))
	}, "1", "2"},
	"net.inet6.ip6.redirect": {"0", "net.inet6.ip6.forwarding=1", func(r *rig.Rig) string {
		met(r)
		r.Send(neighbour(packet.ICMP6NeighborSol, 0, 9)) // on the same link
		r.Sent()
		r.Send(ip6("2001:db8::9", packet.ProtoUDP, udp6("2001:db8::9")))
		return fmt.Sprint(len(r.Sent()))
	}, "2", "1"},
	"net.inet6.ip6.defmcasthlim": {"9", "", func(r *rig.Rig) (s string) {
		met(r)
		socket6(r, socket.Dgram, 0, func(w *netif.Work, so *socket.Socket) error {
			_, err := so.Send(w, &socket.Msg{Addr: socket.Addr{IP: netip.MustParseAddr("ff02::99"), Port: 7, Scope: r.If.Index}})
			return err
		})
		return fmt.Sprint(packet.IPv6(r.Sent()[0][packet.EtherLen:]).HopLimit())
	}, "1", "9"},
	"net.inet6.ip6.hdrnestlimit": {"1", "", func(r *rig.Rig) string {
		return fmt.Sprint(strings.Contains(answer6(nested())(r), unreach6))
	}, "true", "false"},
	"net.inet6.ip6.maxfragpackets": {"0", "", func(r *rig.Rig) string {
		return fmt.Sprint(strings.Contains(answer6(pieces()...)(r), unreach6))
	}, "true", "false"},
}
