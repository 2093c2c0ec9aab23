package ipnat

import (
	"testing"

	"ionet/stack/packet"
)

func TestEndpointIndependent(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40001")
	r.env.MIB.Put(nodeEIM, 1)
	port := packet.UDP(r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "udp 192.0.2.1:40001 > 198.51.100.1:53")[20:]).SrcPort()
	r.says(out, udp("10.0.0.2", 40001, "198.51.100.2", 53), "udp 192.0.2.1:40000 > 198.51.100.2:53") // the other one's port is not free for other remote ends
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.2", 53), "udp 192.0.2.1:40001 > 198.51.100.2:53")
	r.says(in, udp("203.0.113.9", 7, "192.0.2.1", port), "udp 203.0.113.9:7 > 10.0.0.1:40001") // from anybody
	r.says(out, udp("10.0.0.1", 40001, "203.0.113.9", 7), "udp 192.0.2.1:40001 > 203.0.113.9:7")
	r.says(out, udp("10.0.0.3", 5, "198.51.100.3", 53), "refused")
	r.says(in, tcp("203.0.113.9", 7, "192.0.2.1", port, packet.TCPSyn), "untouched")
	r.env.MIB.Put(nodeEIM, 0)
	r.says(in, udp("203.0.113.8", 7, "192.0.2.1", port), "untouched")
}

// Two inside hosts that know each other by their outer ends (RFC 4787 REQ-9).
func TestHairpin(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40009")
	r.env.MIB.Put(nodeEIM, 1)
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "udp 192.0.2.1:40001 > 198.51.100.1:53")
	r.says(out, udp("10.0.0.2", 40002, "198.51.100.1", 53), "udp 192.0.2.1:40002 > 198.51.100.1:53")
	r.inner = true
	for range 2 {
		r.says(in, udp("10.0.0.1", 40001, "192.0.2.1", 40002), "udp 192.0.2.1:40001 > 10.0.0.2:40002")
		r.says(in, udp("10.0.0.2", 40002, "192.0.2.1", 40001), "udp 192.0.2.1:40002 > 10.0.0.1:40001")
	}
	r.says(in, udp("172.16.0.1", 5, "192.0.2.1", 40001), "untouched")
	r.says(in, udp("10.0.0.1", 40001, "192.0.2.1", 40009), "untouched")
	var f packet.Flow
	f.Flow4(udp("10.0.0.1", 40001, "192.0.2.1", 40002), r.in0.Index)
	if k, ok := r.Track(r.w, r.in0, r.in0, &f, nil); k != nil || ok {
		t.Error("a hairpin takes the fast path")
	}
	if s := r.Stats(); s.InUse != 4 {
		t.Errorf("%+v", s)
	}
}
