package stack_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// nd is a message of neighbour discovery in a frame from Peer to en0.
func nd(src, dst string, body []byte) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	b := make([]byte, packet.EtherLen+packet.IPv6Len+len(body))
	packet.PutEther(b, rig.Me, rig.Peer, packet.EtherIPv6)
	h := packet.PutIPv6(b[packet.EtherLen:], 0, 0, len(body), packet.ProtoICMPv6, 255, s, d)
	copy(h.Payload(), body)
	packet.ICMP6(h.Payload()).SetChecksum(s, d)
	return b
}

// neighbour is a solicitation or advertisement of 2001:db8::x, which is at Peer.
func neighbour(typ, flags uint8, x int) []byte {
	b := make([]byte, packet.NeighborSolLen+8)
	src, target := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", x)), netip.MustParseAddr("2001:db8::1")
	opt := uint8(packet.NDOptSourceLink)
	if typ == packet.ICMP6NeighborAdv {
		target, opt = src, packet.NDOptTargetLink
	}
	packet.PutNeighbor(b, typ, flags, target)
	packet.AppendNDLink(b[packet.NeighborSolLen:], opt, rig.Peer)
	return nd(src.String(), "2001:db8::1", b)
}

// six gives en0 fe80::1 and 2001:db8::1, known to nobody yet.
func six(r *rig.Rig) {
	dad, _ := r.Env.MIB.Get("net.inet6.ip6.dad_count")
	r.Sysctl("net.inet6.ip6.dad_count", "0")
	r.Addr(r.If, "fe80::1/64")
	r.Addr(r.If, "2001:db8::1/64")
	r.Pass(10 * time.Second)
	r.Sent()
	r.Sysctl("net.inet6.ip6.dad_count", dad)
}

// send6 sends a datagram to 2001:db8::x and answers what went out.
func send6(r *rig.Rig, x int) int {
	_ = r.Do(func(w *netif.Work) error {
		so, err := r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{})
		if err != nil {
			return err
		}
		defer so.Close(w)
		_, err = so.Send(w, &socket.Msg{Addr: socket.Addr{IP: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", x)), Port: 7}})
		return err
	})
	return len(r.Sent())
}

// neighbourAfter is the state of 2001:db8::2, which has just answered, and of
// which an upper layer says so too, after a while.
func neighbourAfter(use bool, d time.Duration) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		six(r)
		send6(r, 2)
		r.Send(neighbour(packet.ICMP6NeighborAdv, packet.NAFlagSolicited, 2))
		r.Pass(46 * time.Second)
		if use {
			send6(r, 2)
		}
		_ = r.Do(func(w *netif.Work) error {
			r.ND.Confirm(w, r.If, netip.MustParseAddr("2001:db8::2"))
			return nil
		})
		r.Pass(d)
		i, _ := r.ND.Lookup(r.If, netip.MustParseAddr("2001:db8::2"))
		if i.If == nil {
			return "-"
		}
		return i.State.String()
	}
}

func solicitations(x int, d time.Duration) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		six(r)
		n := send6(r, x)
		r.Pass(d)
		return fmt.Sprint(n + len(r.Sent()))
	}
}

// redirected is where packets to 2001:db9::9 go after a redirect, and a while.
func redirected(d time.Duration) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		six(r)
		gw := packet.Scoped(netip.MustParseAddr("fe80::2"), r.If.Index)
		if err := r.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: netip.MustParsePrefix("::/0"), Gateway: gw,
			If: r.If, Flags: route.FlagUp | route.FlagGateway}}})[0]; err != nil {
			r.Fatal(err)
		}
		b, dst := make([]byte, packet.RedirectLen), netip.MustParseAddr("2001:db9::9")
		packet.PutRedirect(b, netip.MustParseAddr("fe80::3"), dst)
		r.Send(nd("fe80::2", "2001:db8::1", b))
		r.Pass(d)
		got, _ := r.Routes.Get(dst)
		g, _ := packet.Unscoped(got.Gateway)
		return g.String()
	}
}

var ndEffects = map[string]effect{
	"net.inet6.icmp6.nd6_delay":      {"1", "", neighbourAfter(true, 2*time.Second), "DELAY", "PROBE"},
	"net.inet6.icmp6.nd6_gctimer":    {"5", "", neighbourAfter(false, 10*time.Second), "STALE", "-"},
	"net.inet6.icmp6.nd6_maxnudhint": {"1", "", neighbourAfter(true, 0), "DELAY", "REACHABLE"},
	"net.inet6.icmp6.nd6_umaxtries":  {"9", "", neighbourAfter(true, 10*time.Second), "-", "PROBE"},
	"net.inet6.icmp6.nd6_mmaxtries":  {"5", "", solicitations(2, 10*time.Second), "3", "5"},
	"net.inet6.icmp6.nd6_down": {"100", "", func(r *rig.Rig) string {
		six(r)
		send6(r, 2)
		r.Pass(10 * time.Second)
		return fmt.Sprint(len(r.ND.Entries()))
	}, "0", "1"},
	"net.inet6.icmp6.nd6_maxentries": {"16", "", func(r *rig.Rig) string {
		six(r)
		for i := range 30 {
			r.Send(neighbour(packet.ICMP6NeighborSol, 0, 16+i))
		}
		return fmt.Sprint(len(r.ND.Entries()))
	}, "30", "16"},
	"net.inet6.icmp6.nd6_maxincomplete": {"4", "", func(r *rig.Rig) string {
		six(r)
		for i := range 9 {
			send6(r, 16+i)
		}
		return fmt.Sprint(len(r.ND.Entries()))
	}, "9", "4"},
	"net.inet6.icmp6.nd6_untracked": {"1", "net.inet6.ip6.forwarding=1", func(r *rig.Rig) string {
		six(r)
		r.Send(neighbour(packet.ICMP6NeighborAdv, 0, 2))
		return fmt.Sprint(len(r.ND.Entries()))
	}, "0", "1"},
	"net.inet6.icmp6.nd6_debug": {"1", "", func(r *rig.Rig) string {
		six(r)
		r.Send(nd("2001:db8::2", "2001:db8::1", []byte{packet.ICMP6NeighborSol, 0, 0, 0}))
		return fmt.Sprint(strings.Contains(logged.String(), "malformed"))
	}, "false", "true"},
	"net.inet6.icmp6.rediraccept":  {"0", "", redirected(0), "fe80::3", "fe80::2"},
	"net.inet6.icmp6.redirtimeout": {"10", "", redirected(20 * time.Second), "fe80::3", "fe80::2"},
	"net.inet6.ip6.dad_delay": {"0", "", func(r *rig.Rig) string {
		r.Addr(r.If, "fe80::1/64")
		r.Pass(2 * time.Millisecond)
		return fmt.Sprint(strings.Contains(frames(r), " ns "))
	}, "false", "true"},
	"net.inet6.ip6.optimistic_dad": {"1", "", func(r *rig.Rig) string {
		if err := r.AddAddr(r.If, stack.AddrSpec{Addr: netip.MustParseAddr("2001:db8::1"), Bits: 64, Flags: netif.AddrAutoconf}); err != nil {
			r.Fatal(err)
		}
		return fmt.Sprint(r.Inet6.Local(netip.MustParseAddr("2001:db8::1")) != nil)
	}, "false", "true"},
	"net.inet6.ip6.dad_count": {"0", "", func(r *rig.Rig) string {
		r.Addr(r.If, "fe80::1/64")
		return fmt.Sprint(r.If.Addrs()[1].Tentative)
	}, "true", "false"},
}

// logged is what the stack of the present rig has logged.
var logged strings.Builder

// logging is an option of a rig: what it logs is in logged.
func logging(c *stack.Config) {
	logged.Reset()
	c.Log = slog.New(slog.NewTextHandler(&logged, nil))
}
