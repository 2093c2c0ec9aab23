package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
)

// chance draws what messages are made of.
type chance struct{ *rand.Rand }

func (c chance) addr() netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	b[0], b[1] = 0x20, 0x01
	return netip.AddrFrom16(b)
}

func (c chance) mac() (m [6]byte) {
	for i := range m {
		m[i] = byte(c.Uint32())
	}
	return m
}

func (c chance) seconds() time.Duration { return time.Duration(c.Uint32N(1<<31)) * time.Second }

// TestNDAgainstNDP: what another implementation (mdlayher/ndp) writes we read
// as it was meant, and what we write it reads so.
func TestNDAgainstNDP(t *testing.T) {
	c := chance{rand.New(rand.NewPCG(5, 6))}
	same := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	theirs := func(m ndp.Message) []byte {
		t.Helper()
		b, err := ndp.MarshalMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	link := func(direction ndp.Direction, mac [6]byte) ndp.Option {
		return &ndp.LinkLayerAddress{Direction: direction, Addr: net.HardwareAddr(mac[:])}
	}
	for range 2000 {
		target, mac := c.addr(), c.mac()
		router, solicited, override := c.IntN(2) == 0, c.IntN(2) == 0, c.IntN(2) == 0
		flags := uint8(0)
		for bit, on := range map[uint8]bool{NAFlagRouter: router, NAFlagSolicited: solicited, NAFlagOverride: override} {
			if on {
				flags |= bit
			}
		}
		na := &ndp.NeighborAdvertisement{Router: router, Solicited: solicited, Override: override, TargetAddress: target,
			Options: []ndp.Option{link(ndp.Target, mac)}}
		b := theirs(na)
		h := Neighbor(b)
		same("target", h.Target(), target)
		same("flags", h.Flags(), flags)
		same("options", CheckNDOptions(h.Options()), true)
		same("link", fmt.Sprintf("%x", FindNDOption(h.Options(), NDOptTargetLink).Data()), fmt.Sprintf("%x", mac))
		own := make([]byte, NeighborAdvLen+8)
		PutNeighbor(own, ICMP6NeighborAdv, flags, target)
		AppendNDLink(own[NeighborAdvLen:], NDOptTargetLink, mac)
		binary.BigEndian.PutUint16(b[2:], 0) // theirs has a checksum of its own
		if !bytes.Equal(own, b) {
			t.Fatalf("we write %x, they %x", own, b)
		}

		ns := theirs(&ndp.NeighborSolicitation{TargetAddress: target, Options: []ndp.Option{link(ndp.Source, mac)}})
		same("target asked for", Neighbor(ns).Target(), target)
		own = make([]byte, NeighborSolLen+8)
		PutNeighbor(own, ICMP6NeighborSol, 0, target)
		AppendNDLink(own[NeighborSolLen:], NDOptSourceLink, mac)
		m, err := ndp.ParseMessage(own)
		if err != nil {
			t.Fatal(err)
		}
		same("they read", m.(*ndp.NeighborSolicitation).TargetAddress, target)
		same("they read", m.(*ndp.NeighborSolicitation).Options[0].(*ndp.LinkLayerAddress).Addr, net.HardwareAddr(mac[:]))

		prefix := netip.PrefixFrom(c.addr(), 64).Masked()
		ra := &ndp.RouterAdvertisement{CurrentHopLimit: uint8(c.Uint32()), ManagedConfiguration: c.IntN(2) == 0, OtherConfiguration: c.IntN(2) == 0,
			RouterSelectionPreference: []ndp.Preference{ndp.Low, ndp.Medium, ndp.High}[c.IntN(3)], RouterLifetime: time.Duration(c.IntN(65536)) * time.Second,
			ReachableTime: time.Duration(c.Uint32()) * time.Millisecond, RetransmitTimer: time.Duration(c.Uint32()) * time.Millisecond,
			Options: []ndp.Option{ndp.NewMTU(c.Uint32()), &ndp.PrefixInformation{PrefixLength: 64, OnLink: c.IntN(2) == 0,
				AutonomousAddressConfiguration: c.IntN(2) == 0, ValidLifetime: c.seconds(), PreferredLifetime: c.seconds(), Prefix: prefix.Addr()}}}
		a := RouterAdv(theirs(ra))
		same("hop limit", a.HopLimit(), ra.CurrentHopLimit)
		same("managed", a.Flags()&RAFlagManaged != 0, ra.ManagedConfiguration)
		same("other", a.Flags()&RAFlagOther != 0, ra.OtherConfiguration)
		same("preference", map[uint8]ndp.Preference{0x18: ndp.Low, 0: ndp.Medium, 0x08: ndp.High}[a.Flags()&RAPrefMask], ra.RouterSelectionPreference)
		same("lifetime", time.Duration(a.Lifetime())*time.Second, ra.RouterLifetime)
		same("reachable", time.Duration(a.Reachable())*time.Millisecond, ra.ReachableTime)
		same("retrans", time.Duration(a.Retrans())*time.Millisecond, ra.RetransmitTimer)
		same("MTU", binary.BigEndian.Uint32(FindNDOption(a.Options(), NDOptMTU)[4:]), ra.Options[0].(*ndp.MTU).MTU)
		p, want := NDPrefix(FindNDOption(a.Options(), NDOptPrefix)), ra.Options[1].(*ndp.PrefixInformation)
		same("prefix", netip.PrefixFrom(p.Addr(), p.Bits()), prefix)
		same("valid", time.Duration(p.Valid())*time.Second, want.ValidLifetime)
		same("preferred", time.Duration(p.Preferred())*time.Second, want.PreferredLifetime)
		same("on the link", p.Flags()&PrefixOnLink != 0, want.OnLink)
		same("autonomous", p.Flags()&PrefixAutoconf != 0, want.AutonomousAddressConfiguration)
	}
}

// FuzzNDOptions: options that we take, another implementation splits in the same places, and
// nothing panics.
func FuzzNDOptions(f *testing.F) {
	c := chance{rand.New(rand.NewPCG(7, 8))}
	mac := c.mac()
	for _, o := range []ndp.Option{ndp.NewMTU(1500), &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(mac[:])},
		&ndp.RecursiveDNSServer{Lifetime: time.Hour, Servers: []netip.Addr{c.addr()}}, &ndp.DNSSearchList{Lifetime: time.Hour, DomainNames: []string{"example.org"}}} {
		b, err := ndp.MarshalMessage(&ndp.RouterSolicitation{Options: []ndp.Option{o, o}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[8:])
	}
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{31, 2, 0, 0, 0, 0, 0, 1, 63, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, whole := 0, len(b)
		rest := b
		for len(rest) > 0 {
			o, r, ok := NextNDOption(rest)
			if !ok {
				break
			}
			if len(o) < 8 || len(o)%8 != 0 || len(o) != int(o[1])*8 {
				t.Fatalf("an option of %d octets says %d", len(o), o[1])
			}
			_, _ = o.Type(), o.Data()
			n, rest = n+len(o), r
		}
		if CheckNDOptions(b) != (n == whole) {
			t.Fatalf("%d octets of %d are options, and the check says %v", n, whole, CheckNDOptions(b))
		}
		m, err := ndp.ParseMessage(append([]byte{ICMP6RouterSol, 0, 0, 0, 0, 0, 0, 0}, b...))
		if err == nil && !CheckNDOptions(b) {
			t.Fatalf("they take %x: %v", b, m)
		}
		for _, typ := range []uint8{NDOptSourceLink, NDOptPrefix, NDOptMTU, NDOptRDNSS} {
			_ = FindNDOption(b, typ)
		}
	})
}
