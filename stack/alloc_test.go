package stack_test

import (
	"fmt"
	"testing"
	"time"

	"ionet/stack/inet"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// sunk is a driver that frees.
type sunk struct{}

func (sunk) Transmit(_ *netif.Interface, burst []*packet.Buf) { packet.FreeBurst(burst) }

// The ways of a packet besides the one between two hosts cost no allocation
// either.
func TestNoAllocationOnOtherWays(t *testing.T) {
	r := rig.New(t)
	r.Sysctl("net.inet.ip.forwarding", "1")
	flags := uint32(netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning)
	for i := range 2 {
		ifp := netif.New(netif.Config{Name: fmt.Sprint("sink", i), MTU: 1500, MAC: rig.Me, Driver: sunk{}, Flags: flags})
		if err := r.AddInterface(ifp); err != nil {
			t.Fatal(err)
		}
		r.Addr(ifp, fmt.Sprintf("10.1.%d.1/24", i))
		r.SendOn(ifp, rig.ARP(packet.ARPRequest, rig.Peer, fmt.Sprintf("10.1.%d.2", i), fmt.Sprintf("10.1.%d.1", i)))
	}
	r.Pass(10 * time.Second)
	from := r.Env.Ifs.ByName("sink0")
	work := r.Env.NewWork()
	burst := make([]*packet.Buf, 1)
	input := func(f []byte) func() {
		return func() {
			burst[0] = r.Env.Pool.Get(len(f))
			copy(burst[0].Append(len(f)), f)
			r.Input(work, r.Now(), from, burst)
		}
	}
	s := r.UDP("127.0.0.1:9")
	if err := s.Connect("127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	e := r.Socket(socket.Dgram, packet.ProtoICMP)
	if err := e.Connect("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	router := r.Socket(socket.Raw, packet.ProtoIGMP)
	for _, o := range []struct {
		name int
		v    []byte
	}{
		{inet.MRTInit, []byte{1}},
		{inet.MRTAddVif, []byte{0, 0, 0, 1, 0, 0, 0, 0, 10, 1, 0, 1, 0, 0, 0, 0}},
		{inet.MRTAddVif, []byte{1, 0, 0, 1, 0, 0, 0, 0, 10, 1, 1, 1, 0, 0, 0, 0}},
		{inet.MRTAddVif, []byte{2, 0, 0, 1, 0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0}},
		{inet.MRTAddMFC, append([]byte{10, 1, 0, 2, 239, 1, 2, 3, 0, 0, 0, 1}, make([]byte, 32)...)},
	} {
		if err := router.Set(inet.LevelIP, o.name, o.v); err != nil {
			t.Fatal(err)
		}
	}
	m, buf := new(socket.Msg), make([]byte, 64)
	echo := rig.ICMP(packet.ICMPEcho, 0, 7, buf)
	for name, way := range map[string]func(){
		"an echo":                 input(rig.Echo("10.1.0.2", "10.1.0.1", "hello")),
		"forwarded":               input(rig.UDP("10.1.0.2", "10.1.1.2", 5, 9, "hello")),
		"to a group":              input(rig.UDP("10.1.0.2", "239.1.2.3", 5, 9, "hello")),
		"forwarded, the slow way": input(rig.IP{Src: "10.1.0.2", Dst: "10.1.1.2", Proto: 99, Frag: packet.IPv4MF, Data: make([]byte, 8)}.Frame()),
		"lo0": func() {
			work.Start(r.Now())
			*m = socket.Msg{Data: buf}
			if _, err := s.Send(work, m); err != nil {
				t.Fatal(err)
			}
			work.Finish()
			if err := s.Socket.Recv(work, m); err != nil {
				t.Fatal(err)
			}
		},
		"an echo socket's": func() {
			work.Start(r.Now())
			*m = socket.Msg{Data: echo}
			if _, err := e.Send(work, m); err != nil {
				t.Fatal(err)
			}
			work.Finish()
			*m = socket.Msg{Data: buf}
			if err := e.Socket.Recv(work, m); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if n := testing.AllocsPerRun(100, way); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
