package ipnat

import (
	"net/netip"
	"slices"
	"testing"

	"ionet/stack/packet"
)

// sockets are ends that sockets of the rig have, "proto local remote" or "proto local".
func (r *rig) sockets(ends ...string) {
	r.inUse = func(proto uint8, local, remote netip.AddrPort) bool {
		want := map[uint8]string{6: "tcp", 17: "udp", 1: "echo"}[proto] + " " + local.String()
		if remote.IsValid() {
			want += " " + remote.String()
		}
		return slices.Contains(ends, want)
	}
}

func TestLocalPorts(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40003", "map out0 0/0 -> 0/32 portmap tcp/udp 40001:40003", "map out0 10.0.0.0/8 -> 0/32")
	r.sockets("udp 192.0.2.1:40000", "udp 192.0.2.1:40001", "udp 192.0.2.1:40003", "echo 192.0.2.1:7")
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "udp 192.0.2.1:40002 > 198.51.100.1:53") // of the other parity, since both are taken
	r.says(out, udp("192.0.2.1", 40001, "198.51.100.1", 53), "udp 192.0.2.1:40001 > 198.51.100.1:53")
	r.says(in, udp("198.51.100.1", 53, "192.0.2.1", 40001), "udp 198.51.100.1:53 > 192.0.2.1:40001")
	r.says(out, udp("192.0.2.1", 5, "198.51.100.2", 53), "udp 192.0.2.1:40002 > 198.51.100.2:53")
	r.says(in, udp("198.51.100.2", 53, "192.0.2.1", 40002), "udp 198.51.100.2:53 > 192.0.2.1:5")
	r.says(out, tcp("10.0.0.1", 40001, "198.51.100.1", 53, packet.TCPSyn), "tcp 192.0.2.1:40001 > 198.51.100.1:53")
	if got := r.says(out, echo("10.0.0.1", "198.51.100.1", 8, 8), "echo 8 192.0.2.1 > 198.51.100.1 id 8"); packet.ICMP(got[20:]).ID() == 7 {
		t.Error("the identifier of a socket")
	}
	if got, _ := r.hook(out, echo("10.0.0.1", "198.51.100.1", 8, 7)); packet.ICMP(got[20:]).ID() == 7 {
		t.Error("the identifier of a socket")
	}
	for _, tc := range []struct {
		proto uint8
		end   string
		want  bool
	}{{17, "192.0.2.1:40002", true}, {17, "192.0.2.1:40003", false}, {6, "192.0.2.1:40001", true}, {6, "192.0.2.1:40002", false}, {17, "[2001:db8::1]:40002", false}} {
		if got := r.Uses(tc.proto, netip.MustParseAddrPort(tc.end)); got != tc.want {
			t.Errorf("protocol %d has %s: %v", tc.proto, tc.end, got)
		}
	}
}

// What a socket is connected to was there before the rule.
func TestLocalConnection(t *testing.T) {
	r := newRig(t, "rdr out0 192.0.2.1/32 port 80 -> 10.0.0.1 port 8080 tcp")
	r.sockets("tcp 192.0.2.1:80", "tcp 192.0.2.1:80 198.51.100.1:9")
	r.says(in, tcp("198.51.100.1", 9, "192.0.2.1", 80, packet.TCPAck), "untouched")
	r.says(in, tcp("198.51.100.1", 8, "192.0.2.1", 80, packet.TCPSyn), "tcp 198.51.100.1:8 > 10.0.0.1:8080")
}
