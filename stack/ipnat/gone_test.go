package ipnat

import (
	"net/netip"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

func TestDeparted(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap udp 40000:40009", "map in0 10.0.0.0/8 -> 192.0.2.9/32")
	first := udp("10.0.0.1", 40001, "198.51.100.1", 53)
	packet.IPv4(first).SetFrag(packet.IPv4MF)
	packet.IPv4(first).SetChecksum()
	r.says(out, first, "udp 192.0.2.1:40001 > 198.51.100.1:53")
	r.inner = true
	r.says(out, udp("10.0.0.2", 40002, "198.51.100.1", 53), "udp 192.0.2.9:40002 > 198.51.100.1:53")
	r.inner = false
	gen := r.Generation()
	was := r.out0
	r.env.Ifs.Remove(was)
	r.Departed(was)
	if s := r.Stats(); s.InUse != 1 || s.Orphaned != 1 || r.Generation() == gen || r.frags.m.Len() != 0 {
		t.Errorf("%+v, %d datagrams are known", s, r.frags.m.Len())
	}
	if l, _ := r.ReadLog(0); len(l) != 3 || l[2].Event != LogFlush || l[2].If != "out0" {
		t.Errorf("%+v", l)
	}
	// A packet that was on its way begins nothing.
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "refused")
	r.out0 = netif.New(netif.Config{Name: "out0", MTU: 1500, HdrLen: 14})
	if err := r.env.Ifs.Add(r.out0); err != nil {
		t.Fatal(err)
	}
	r.address("192.0.2.77", 24)
	r.says(in, udp("198.51.100.1", 53, "192.0.2.1", 40001), "untouched")
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "udp 192.0.2.77:40001 > 198.51.100.1:53")
}

// The way to a remote end leads by another interface from now on.
func TestMoved(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32", "map in0 10.0.0.0/8 -> 0/32")
	r.says(out, udp("10.0.0.1", 5, "198.51.100.1", 53), "udp 192.0.2.1:5 > 198.51.100.1:53")
	r.in0.EditAddrs(func([]*netif.Addr) []*netif.Addr {
		return []*netif.Addr{{Addr: netip.MustParseAddr("203.0.113.1"), Bits: 24}}
	})
	r.inner = true
	r.says(out, udp("10.0.0.1", 5, "198.51.100.1", 53), "udp 203.0.113.1:5 > 198.51.100.1:53")
	r.says(in, udp("198.51.100.1", 53, "203.0.113.1", 5), "udp 198.51.100.1:53 > 10.0.0.1:5")
	if s := r.Stats(); s.InUse != 1 || s.Orphaned != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAddrRemoved(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/24 -> 0/32 portmap udp 40000:40009", "map out0 10.0.1.0/24 -> 192.0.2.1/32",
		"rdr out0 0/32 port 80 -> 10.0.0.3 tcp", "rdr out0 192.0.2.1/32 port 81 -> 0/32 port 8081 tcp", "map out0 fd00::/64 -> ::/128")
	own := netip.MustParseAddr("192.0.2.1")
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "udp 192.0.2.1:40001 > 198.51.100.1:53")
	r.says(out, udp("10.0.1.1", 7, "198.51.100.1", 53), "udp 192.0.2.1:7 > 198.51.100.1:53")
	r.says(in, tcp("198.51.100.1", 9, "192.0.2.1", 80, packet.TCPSyn), "tcp 198.51.100.1:9 > 10.0.0.3:80")
	r.says(in, tcp("198.51.100.1", 9, "192.0.2.1", 81, packet.TCPSyn), "tcp 198.51.100.1:9 > 192.0.2.1:8081")
	r.says(out, udp("fd00::5", 5000, "2001:db8:9::1", 2), "udp [2001:db8::1]:5000 > [2001:db8:9::1]:2")
	r.AddrRemoved(r.in0, own)
	r.AddrRemoved(r.out0, netip.MustParseAddr("192.0.2.9"))
	if s := r.Stats(); s.InUse != 5 {
		t.Errorf("%+v", s)
	}
	r.AddrRemoved(r.out0, own)
	if s := r.Stats(); s.InUse != 2 || s.Orphaned != 3 {
		t.Errorf("%+v", s)
	}
	r.says(in, udp("198.51.100.1", 53, "192.0.2.1", 7), "udp 198.51.100.1:53 > 10.0.1.1:7") // the rule says so
	r.AddrRemoved(r.out0, netip.MustParseAddr("2001:db8::1"))
	if s := r.Stats(); s.InUse != 1 || s.Orphaned != 4 {
		t.Errorf("%+v", s)
	}
}
