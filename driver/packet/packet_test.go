package packet

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/bpf"

	"ionet/driver"
	"ionet/driver/internal/nstest"
	"ionet/driver/internal/sinktest"
	"ionet/stack/netif"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// veth makes a namespace with a pair of interfaces, v0 and v1.
func veth(t *testing.T) string {
	ns := nstest.New(t)
	nstest.IP(t, ns, "link add v0 type veth peer name v1")
	for _, c := range []string{"v0", "v1"} {
		nstest.IP(t, ns, "link set "+c+" up")
	}
	return ns
}

func open(t *testing.T, ns, options string) *sinktest.Sink {
	t.Helper()
	o, err := driver.ParseOptions(options + ",netns=" + ns)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return sinktest.Run(t, d, nil)
}

// frame makes a frame of an experimental type (IEEE 802 local, 0x88b5).
func frame(dst, src netif.MAC, text string) []byte {
	return append(append(append(dst[:], src[:]...), 0x88, 0xb5), text+strings.Repeat(" ", 46)...)
}

func has(s *sinktest.Sink, text string) func() bool {
	return func() bool {
		for _, f := range s.Frames {
			if bytes.Contains(f.Data, []byte(text)) {
				return true
			}
		}
		return false
	}
}

// ways are the ways that frames can take.
var ways = []string{",ring=on", ",ring=off", ",ring=on,queues=3"}

func TestTwoStationsOverALink(t *testing.T) {
	for _, way := range ways {
		t.Run(way[1:], func(t *testing.T) { twoStations(t, way) })
	}
}

func twoStations(t *testing.T, way string) {
	ns := veth(t)
	a := open(t, ns, "if=v0"+way)
	b := open(t, ns, "if=v1,mac=020000000001"+way)
	macA, macB := a.Driver.Info().MAC, b.Driver.Info().MAC
	var host net.HardwareAddr
	nstest.In(t, ns, func() error {
		i, err := net.InterfaceByName("v0")
		host = i.HardwareAddr
		return err
	})
	if macA != netif.MAC(host) || macB != (netif.MAC{2, 0, 0, 0, 0, 1}) {
		t.Errorf("addresses %v and %v", macA, macB)
	}
	for _, s := range []*sinktest.Sink{a, b} { // a frame sent before that is lost
		s.Until("carrier", func() bool { return len(s.Links) > 0 && s.Links[len(s.Links)-1] })
	}
	a.Send(frame(macB, macA, "straight"))
	b.Until("its frame", has(b, "straight"))
	a.Send(frame(netif.BroadcastMAC, macA, "to all"))
	b.Until("the broadcast", has(b, "to all"))
	b.Send(frame(macA, macB, "and back"))
	a.Until("the answer", has(a, "and back"))
	if has(a, "to all")() {
		t.Error("a hears itself")
	}
	// A third address is only heard promiscuously.
	other := netif.MAC{2, 0, 0, 0, 0, 9}
	a.Send(frame(other, macA, "not for you"))
	a.Send(frame(macB, macA, "second"))
	b.Until("the frame behind it", has(b, "second"))
	b.Driver.(netif.Filter).SetFilter(true, false, nil)
	a.Send(frame(other, macA, "overheard"))
	b.Until("the other's frame", has(b, "overheard"))
	b.Until("no earlier one", func() bool { return !has(b, "not for you")() })
}

func TestCarrierAndRemoval(t *testing.T) {
	for _, way := range ways {
		t.Run(way[1:], func(t *testing.T) { carrierAndRemoval(t, way) })
	}
}

func carrierAndRemoval(t *testing.T, way string) {
	ns := veth(t)
	s := open(t, ns, "if=v0,promiscuous"+way)
	n := 0
	s.Until("carrier", func() bool {
		n = len(s.Links)
		return n > 0 && s.Links[n-1]
	})
	nstest.IP(t, ns, "link set v1 down")
	s.Until("its loss", func() bool { return len(s.Links) == n+1 && !s.Links[n] })
	nstest.IP(t, ns, "link set v1 up")
	s.Until("its return", func() bool { return len(s.Links) == n+2 && s.Links[n+1] })
	nstest.IP(t, ns, "link set v0 down")
	s.Until("its loss", func() bool { return len(s.Links) >= n+3 && !s.Links[len(s.Links)-1] })
	nstest.IP(t, ns, "link del v0")
	s.Until("Run to fail", func() bool { return s.Ended })
	if s.Err == nil || !strings.Contains(s.Err.Error(), "v0 has gone") {
		t.Errorf("Run: %v", s.Err)
	}
}

func TestErrors(t *testing.T) {
	for options, says := range map[string]string{
		"":               "if=NAME",
		"if=nowhere9":    "no such interface",
		"if=lo":          "none of Ethernet",
		"if=x,speed=1":   "no such interface",
		"if=x,y":         `unknown option "y"`,
		"if=x,queues=0":  "from 1 to 16",
		"if=x,ring=fast": "want on or off",
	} {
		if options == "if=lo" && os.Geteuid() != 0 {
			continue
		}
		o, err := driver.ParseOptions(options)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", options, err)
		}
	}
}

// TestProgram runs the filter without its extensions, which only the kernel
// has.
func TestProgram(t *testing.T) {
	mac := netif.MAC{2, 3, 4, 5, 6, 7}
	for _, promisc := range []bool{false, true} {
		raw, err := program(mac, promisc)
		if err != nil {
			t.Fatal(err)
		}
		prog, ok := bpf.Disassemble(raw)
		if !ok {
			t.Fatalf("not understood: %v", prog)
		}
		vm, err := bpf.NewVM(prog[4:])
		if err != nil {
			t.Fatal(err)
		}
		for dst, mine := range map[netif.MAC]bool{
			mac: true, netif.BroadcastMAC: true, {1, 0, 0x5e, 0, 0, 1}: true,
			{2, 3, 4, 5, 6, 8}: promisc, {2, 3, 4, 4, 6, 7}: promisc,
		} {
			n, err := vm.Run(frame(dst, mac, ""))
			if err != nil || (n > 0) != mine {
				t.Errorf("promiscuous %v, to %v: %d, %v", promisc, dst, n, err)
			}
		}
	}
}
