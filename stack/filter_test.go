package stack_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

func TestFilterAnswers(t *testing.T) {
	r := rig.New(t)
	r.Meet("10.0.0.2")
	load(r, "block return-rst in quick proto tcp all\nblock return-icmp(port-unr) in quick proto udp all\nblock in quick proto icmp all icmp-type echo")
	b := make([]byte, packet.TCPLen)
	packet.PutTCP(b, 1025, 80, 100, 0, packet.TCPLen, packet.TCPSyn, 1000, 0, 0)
	for name, tc := range map[string]struct {
		f    []byte
		want string
	}{
		"a segment":  {rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoTCP, Data: b}.Frame(), "tcp 80 > 1025 R. 0 ack 101"},
		"a datagram": {rig.UDP("10.0.0.2", "10.0.0.1", 1025, 53, "x"), "unreach 3 quotes 10.0.0.2"},
		"an echo":    {rig.Echo("10.0.0.2", "10.0.0.1", "x"), ""},
	} {
		r.Sent()
		r.SendWire(tc.f)
		if got := frames(r); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s is answered by %q, want %q", name, got, tc.want)
		}
	}
}

// A filter comes and goes under traffic; flows that it lets pass take the fast path.
func TestFilterAndFastPath(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	if n := across("10.0.0.2", "10.0.1.2", 3)(r); n != 3 {
		t.Fatalf("%d of 3 packets came through without a filter", n)
	}
	fast := func() uint64 { return rig.Counter(r.Stack, "ip", "fast forwarded") }
	was := fast()
	f := load(r, "pass in quick on en0 proto 99 all keep state\nblock in all")
	again := func(n int) int {
		frame := rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: 99, Data: make([]byte, 8)}.FrameTo(rig.Me, rig.Peer)
		r.Sent()
		for range n {
			r.SendWire(frame)
		}
		return len(r.Sent())
	}
	if n := again(5); n != 5 || fast() != was+4 {
		t.Errorf("%d of 5 packets came through, %d of them fast; want 4", n, fast()-was)
	}
	if s := f.States(); len(s) != 1 || s[0].Packets != [4]uint64{5, 5} {
		t.Errorf("%+v", s)
	}
	f.FlushStates(true)
	if err := r.UnloadFilter(); err != nil {
		t.Fatal(err)
	}
	if err := r.UnloadFilter(); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("unloaded twice: %v", err)
	}
	load(r, "block in all")
	if n := again(3); n != 0 {
		t.Errorf("%d packets came through a filter that blocks all", n)
	}
	if _, err := r.LoadFilter(); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("loaded twice: %v", err)
	}
	if err := r.UnloadFilter(); err != nil {
		t.Fatal(err)
	}
	if n := again(3); n != 3 {
		t.Errorf("%d of 3 packets came through after the filter had gone", n)
	}
}
