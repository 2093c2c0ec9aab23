package stack_test

import (
	"encoding/binary"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// FuzzStack6 feeds frames of IPv6, each behind two octets of length, to a router that has
// sockets open: extension headers, fragments with whatever in front, neighbour discovery, MLD,
// node information, errors. Nothing panics, and at the end nothing is left over. The first
// octet: 1, mend the checksums of ICMPv6, so that what is inside is reached.
func FuzzStack6(f *testing.F) {
	input := func(frames ...[]byte) []byte {
		b := []byte{1}
		for _, x := range frames {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(x))), x...)
		}
		return b
	}
	for _, a := range attacks() {
		f.Add(input(a.frames...))
	}
	f.Add(input(nd("fe80::2", "ff02::1", routerAdv(64, linkOption(packet.NDOptSourceLink, rig.Peer))),
		nd("fe80::2", "2001:db8::1", packet.PutRedirect(make([]byte, packet.RedirectLen), nth("fe80::3", 0), nth("2001:db9::9", 0)))))
	f.Add(input(forgedTooBig(1280, nth("2001:db9::9", 0), 9)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 1<<16 {
			return
		}
		r := rig.New(t, rig.Dual)
		r.Sysctl("net.inet6.ip6.dad_count", "0")
		r.Sysctl("net.inet6.ip6.forwarding", "1")
		r.Sysctl("net.inet6.icmp6.nodeinfo", "3")
		r.Addr(r.If, "2001:db8::1/64")
		en1 := r.AddIf("en1", rig.Me1, "10.0.1.1/24")
		r.Addr(en1, "2001:db9::1/64")
		var open []*socket.Socket
		for _, kind := range [][2]int{{socket.Dgram, 0}, {socket.Raw, packet.ProtoICMPv6}} {
			_ = r.Do(func(w *netif.Work) error {
				so, err := r.Stack.Socket(w, socket.AFInet6, kind[0], kind[1], socket.Cred{Super: true})
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, so)
				return so.Bind(w, socket.Addr{})
			})
		}
		mode := b[0]
		for b = b[1:]; len(b) >= 2; {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2, 4000)
			x := append([]byte(nil), b[2:2+n]...)
			b = b[2+n:]
			if mode&1 != 0 {
				mend6(x)
			}
			r.Send(x)
			r.Pass(time.Millisecond)
		}
		r.Pass(70 * time.Second)
		for _, so := range open {
			_ = r.Do(func(w *netif.Work) error {
				for range 10 {
					_ = so.Recv(w, &socket.Msg{Data: make([]byte, 100)})
				}
				so.Close(w)
				return nil
			})
		}
	})
}

// mend6 makes the checksum of an ICMPv6 message right that stands behind the IPv6 header.
func mend6(x []byte) {
	if len(x) < packet.EtherLen+packet.IPv6Len+packet.ICMP6Len {
		return
	}
	h, ok := packet.CheckIPv6(x[packet.EtherLen:])
	if !ok || h.Next() != packet.ProtoICMPv6 {
		return
	}
	packet.ICMP6(h.Payload()).SetChecksum(h.Src(), h.Dst())
}
