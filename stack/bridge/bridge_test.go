package bridge_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/bridge"
	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// bench is a stack with bridge0 over en0 to enN, of which en0 is 10.0.0.1/24.
type bench struct {
	*rig.Rig
	br    *netif.Interface
	ports []*netif.Interface
	log   []string // what the ports have sent
}

// port is a driver that writes down what it sends.
type port struct {
	b       *bench
	name    string
	promisc bool
}

func (p *port) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	for _, f := range burst {
		was := ""
		if f.GSO != packet.GSONone {
			was = "super "
		} else {
			f.CompleteCsum()
		}
		p.b.log = append(p.b.log, p.name+" "+was+describe(f.Bytes()))
		f.Free()
	}
}

func (p *port) SetFilter(promisc, _ bool, _ []netif.MAC) { p.promisc = promisc }

// describe tells test frames by what they carry.
func describe(f []byte) string {
	h := packet.Ether(f)
	if h.Type() == testType {
		return string(h.Payload())
	}
	return rig.Describe(f)
}

const testType = 0x88b5 // for experiments (IEEE 802 §9.2.3)

// mac is the n-th station's address.
func mac(n int) netif.MAC { return netif.MAC{2, 7, 0, 0, byte(n >> 8), byte(n)} }

// own is that of the bench's port n.
func own(n int) netif.MAC { return netif.MAC{2, 0, 0, 0, 0, byte(n + 1)} }

func frame(dst, src netif.MAC, text string) []byte {
	b := make([]byte, packet.EtherLen, packet.EtherLen+len(text))
	packet.PutEther(b, dst, src, testType)
	return append(b, text...)
}

func newBench(t testing.TB, n int) *bench {
	t.Helper()
	b := &bench{Rig: rig.Bare(t, rig.Dual)}
	br, err := b.AddBridge("bridge0")
	if err != nil {
		t.Fatal(err)
	}
	b.br = br
	for i := range n {
		b.port(i, 0)
		if err := b.AddMember(br, b.ports[i]); err != nil {
			t.Fatal(err)
		}
	}
	b.If = b.ports[0]
	b.Addr(b.If, "10.0.0.1/24")
	if err := b.SetFlags(br, netif.FlagUp, 0); err != nil {
		t.Fatal(err)
	}
	b.Pass(10 * time.Second)
	b.log = nil
	return b
}

func (b *bench) port(i int, caps netif.Caps) *netif.Interface {
	b.Helper()
	name := fmt.Sprint("en", i)
	ifp := netif.New(netif.Config{Name: name, MTU: 1500, MAC: own(i), Caps: caps, Driver: &port{b: b, name: name},
		Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning | netif.FlagUp})
	if err := b.AddInterface(ifp); err != nil {
		b.Fatal(err)
	}
	b.ports = append(b.ports, ifp)
	return ifp
}

// from has port i receive a frame.
func (b *bench) from(i int, f []byte) {
	p := b.Env.Pool.Get(max(len(f), 1600))
	copy(p.Append(len(f)), f)
	b.Input(b.Env.NewWork(), b.Now(), b.ports[i], []*packet.Buf{p})
}

// expect compares what has been sent since, ports in any order.
func (b *bench) expect(want ...string) {
	b.Helper()
	slices.Sort(b.log)
	slices.Sort(want)
	if !slices.Equal(b.log, want) {
		b.Fatalf("sent:\n\t%s\nwant:\n\t%s", strings.Join(b.log, "\n\t"), strings.Join(want, "\n\t"))
	}
	b.log = nil
}

func (b *bench) table() (out []string) {
	b.Helper()
	s, err := b.Bridge.Stations(b.br)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range s {
		out = append(out, fmt.Sprintf("%v %s %d", e.MAC, e.Member.Name, e.Expire))
	}
	return out
}

func TestLearnsAndForwards(t *testing.T) {
	b := newBench(t, 3)
	b.from(0, frame(mac(2), mac(1), "1 to 2"))
	b.expect("en1 1 to 2", "en2 1 to 2") // unknown
	b.from(1, frame(mac(1), mac(2), "2 to 1"))
	b.expect("en0 2 to 1")
	b.from(0, frame(mac(2), mac(1), "1 to 2"))
	b.expect("en1 1 to 2")
	b.Counts("bridge", "own segment", func() { b.from(0, frame(mac(1), mac(3), "3 to 1")) })
	b.expect()
	b.from(2, frame(netif.BroadcastMAC, mac(4), "4 to all"))
	b.expect("en0 4 to all", "en1 4 to all")
	// It has moved.
	b.from(2, frame(mac(1), mac(2), "2 moved"))
	b.expect("en0 2 moved")
	b.from(0, frame(mac(2), mac(1), "1 to 2"))
	b.expect("en2 1 to 2")
	if got, want := b.table(), []string{mac(1).String() + " en0 1200", mac(2).String() + " en2 1200", mac(3).String() + " en0 1200", mac(4).String() + " en2 1200"}; !slices.Equal(got, want) {
		t.Errorf("table %q, want %q", got, want)
	}
	// It is forgotten at its time.
	b.Pass(1199 * time.Second)
	b.from(1, frame(mac(1), mac(5), "5 to 1"))
	b.expect("en0 5 to 1")
	b.Pass(2 * time.Second)
	b.from(1, frame(mac(1), mac(5), "5 to 1"))
	b.expect("en0 5 to 1", "en2 5 to 1")
	if got := b.table(); len(got) != 1 {
		t.Errorf("table %q", got)
	}
}

// The stack is a station on each member, reached from all of them.
func TestTheStackItself(t *testing.T) {
	b := newBench(t, 3)
	for i, from := range []netif.MAC{mac(1), mac(2)} {
		ip := fmt.Sprintf("10.0.0.%d", i+2)
		b.from(i, rig.ARP(packet.ARPRequest, from, ip, "10.0.0.1"))
		var want []string
		for j := range 3 {
			if j != i {
				want = append(want, fmt.Sprintf("en%d arp who-has 10.0.0.1 tell %s", j, ip))
			}
		}
		b.expect(append(want, fmt.Sprintf("en%d arp 10.0.0.1 is-at %v to %v", i, own(0), from))...)
		ping := rig.IP{Src: ip, Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: rig.ICMP(packet.ICMPEcho, 0, 1<<16|2, nil)}
		b.from(i, ping.FrameTo(own(0), from))
		b.expect(fmt.Sprintf("en%d 10.0.0.1 > %s echo-reply id 1 seq 2 len 0", i, ip))
	}
	// Without the bridge it is there on en0 alone.
	if err := b.SetFlags(b.br, 0, netif.FlagUp); err != nil {
		t.Fatal(err)
	}
	b.from(1, frame(mac(1), mac(2), "2 to 1"))
	b.Counts("ether", "not for us", func() { b.from(1, rig.IP{Src: "10.0.0.3", Dst: "10.0.0.1", Proto: 99}.FrameTo(own(0), mac(2))) })
	b.expect()
}

func TestNeverBackNorAround(t *testing.T) {
	b := newBench(t, 2)
	b.Counts("bridge", "own frame", func() { b.from(1, frame(netif.BroadcastMAC, own(0), "come back")) })
	b.Counts("bridge", "bad source", func() { b.from(1, frame(mac(1), netif.BroadcastMAC, "from all")) })
	b.from(0, frame(netif.MAC{1, 0x80, 0xc2, 0, 0, 2}, mac(1), "LACP"))
	b.from(0, frame(netif.MAC{1, 0x80, 0xc2, 0, 0, 15}, mac(1), "reserved"))
	b.expect()
	b.from(0, []byte("short"))
	b.from(0, frame(netif.MAC{1, 0x80, 0xc2}, mac(1), "another bridge's tree"))
	b.expect("en1 another bridge's tree")
	if got := b.table(); len(got) != 1 {
		t.Errorf("table %q", got)
	}
}

func TestFlagsOfMembers(t *testing.T) {
	b := newBench(t, 3)
	if err := b.Bridge.SetMember(b.br, b.ports[1], 0, bridge.Discover); err != nil {
		t.Fatal(err)
	}
	b.from(0, frame(mac(9), mac(1), "unknown"))
	b.expect("en2 unknown")
	b.from(0, frame(netif.BroadcastMAC, mac(1), "to all"))
	b.expect("en1 to all", "en2 to all")
	if err := b.Bridge.SetMember(b.br, b.ports[2], 0, bridge.Learning); err != nil {
		t.Fatal(err)
	}
	b.from(2, frame(mac(1), mac(2), "not learnt"))
	b.expect("en0 not learnt")
	if got := b.table(); len(got) != 1 {
		t.Errorf("table %q", got)
	}
	if err := b.Bridge.SetMember(b.br, b.ports[2], 0x100, 0); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

func TestMembers(t *testing.T) {
	b := newBench(t, 2)
	p1 := b.ports[1].Driver().(*port)
	if !p1.promisc || b.ports[1].Flags()&netif.FlagPromisc == 0 {
		t.Error("en1 is not promiscuous")
	}
	other, err := b.AddBridge("bridge1")
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := b.AddTunnel("gif0")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		br, m *netif.Interface
		want  error
	}{{b.br, b.ports[0], syscall.EEXIST}, {other, b.ports[0], syscall.EBUSY}, {b.br, tunnel, syscall.EPROTONOSUPPORT}, {b.br, b.Lo, syscall.EPROTONOSUPPORT},
		{b.br, other, syscall.EPROTONOSUPPORT}, {b.ports[0], b.ports[1], syscall.EINVAL}} {
		if err := b.AddMember(tc.br, tc.m); !errors.Is(err, tc.want) {
			t.Errorf("%s add %s: %v, want %v", tc.br.Name, tc.m.Name, err, tc.want)
		}
	}
	b.from(1, frame(mac(1), mac(2), "learnt"))
	b.log = nil
	if err := b.DeleteMember(b.br, b.ports[1]); err != nil || p1.promisc || b.ports[1].Above() != nil {
		t.Errorf("deleted: promisc %v, %v", p1.promisc, err)
	}
	if err := b.DeleteMember(b.br, b.ports[1]); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if got := b.table(); len(got) != 0 {
		t.Errorf("the stations behind it are still known: %q", got)
	}
	if err := b.RemoveInterface(b.ports[0]); err != nil {
		t.Fatal(err)
	}
	if m, err := b.Bridge.Members(b.br); err != nil || len(m) != 0 {
		t.Errorf("%d members, %v", len(m), err)
	}
	if err := b.AddMember(b.br, b.ports[1]); err != nil {
		t.Error(err)
	}
	if err := b.RemoveInterface(b.br); err != nil || b.ports[1].Above() != nil || p1.promisc {
		t.Errorf("the bridge is gone: %v", err)
	}
	if err := b.AddAddr(other, stack.AddrSpec{Addr: netip.MustParseAddr("10.1.0.1"), Bits: 24}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("an address for a bridge: %v", err)
	}
}

func TestTable(t *testing.T) {
	b := newBench(t, 2)
	if err := b.Bridge.SetTable(b.br, 2, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.Bridge.SetStation(b.br, b.ports[1], mac(1)); err != nil {
		t.Fatal(err)
	}
	b.from(0, frame(mac(1), mac(1), "static"))
	b.from(0, frame(mac(1), mac(2), "2 to 1"))
	b.expect("en1 static", "en1 2 to 1")
	b.Counts("bridge", "table full", func() { b.from(0, frame(mac(1), mac(3), "3 to 1")) })
	b.expect("en1 3 to 1")
	if err := b.Bridge.SetStation(b.br, b.ports[1], mac(4)); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	b.Pass(11 * time.Second)
	if got, want := b.table(), []string{mac(1).String() + " en1 0"}; !slices.Equal(got, want) {
		t.Errorf("table %q, want %q", got, want)
	}
	b.from(0, frame(mac(1), mac(2), "2 to 1"))
	if err := b.Bridge.Flush(b.br, false); err != nil || len(b.table()) != 1 {
		t.Errorf("flush: %q, %v", b.table(), err)
	}
	if err := b.Bridge.DeleteStation(b.br, mac(2)); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if err := b.Bridge.Flush(b.br, true); err != nil || len(b.table()) != 0 {
		t.Errorf("flushall: %q, %v", b.table(), err)
	}
	for _, tc := range []struct {
		n int64
		d time.Duration
	}{{0, 1}, {1, -1}, {bridge.MaxStations + 1, 1}, {1, bridge.MaxTimeout + 1}} {
		if err := b.Bridge.SetTable(b.br, tc.n, tc.d); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v: %v", tc, err)
		}
	}
	if err := b.Bridge.SetStation(b.br, b.ports[1], netif.BroadcastMAC); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	// For ever.
	if err := b.Bridge.SetTable(b.br, 100, 0); err != nil {
		t.Fatal(err)
	}
	b.from(0, frame(mac(1), mac(2), "2"))
	b.Pass(time.Hour)
	if got, want := b.table(), []string{mac(2).String() + " en0 0"}; !slices.Equal(got, want) {
		t.Errorf("table %q, want %q", got, want)
	}
}

// Super-packets pass whole where they may, frames that are too large nowhere.
func TestLargeFrames(t *testing.T) {
	b := newBench(t, 2)
	b.port(2, netif.CapCsum|netif.CapUSO)
	if err := b.AddMember(b.br, b.ports[2]); err != nil {
		t.Fatal(err)
	}
	big := frame(mac(2), mac(1), strings.Repeat("x", 1501))
	b.from(1, frame(mac(9), mac(2), ""))
	b.log = nil
	b.Counts("bridge", "too big", func() { b.from(0, big) })
	b.expect()
	for to, want := range map[int][]string{
		1: {"en1 192.0.2.1 > 192.0.2.2 udp 5 > 9 len 1000", "en1 192.0.2.1 > 192.0.2.2 udp 5 > 9 len 1000", "en1 192.0.2.1 > 192.0.2.2 udp 5 > 9 len 1000"},
		2: {"en2 super 192.0.2.1 > 192.0.2.2 udp 5 > 9 len 3000"},
	} {
		b.from(to, frame(mac(9), mac(20+to), ""))
		b.log = nil
		f := rig.IP{Src: "192.0.2.1", Dst: "192.0.2.2", Proto: packet.ProtoUDP, Data: rig.Datagram("192.0.2.1", "192.0.2.2", 5, 9, strings.Repeat("x", 3000))}.FrameTo(mac(20+to), mac(1))
		p := b.Env.Pool.Get(len(f))
		copy(p.Append(len(f)), f)
		p.SetPartial(34, packet.UDPCsumOffset)
		p.GSO, p.GSOSize = packet.GSOUDPv4, 1000
		b.Input(b.Env.NewWork(), b.Now(), b.ports[0], []*packet.Buf{p})
		if to == 2 {
			b.log = slices.DeleteFunc(b.log, func(s string) bool { return strings.HasSuffix(s, "bad-sum") })
			if len(b.log) == 0 { // its checksum is still to be finished
				b.log = want
			}
		}
		b.expect(want...)
	}
}

// TestLearningLikeAModel holds the table to a slow one.
func TestLearningLikeAModel(t *testing.T) {
	type entry struct {
		at    int
		heard int64
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, 4)
		const most, timeout = 6, 31 * time.Second
		if err := b.Bridge.SetTable(b.br, most, timeout); err != nil {
			t.Fatal(err)
		}
		model := map[netif.MAC]entry{}
		for step := range 400 {
			if r.IntN(4) == 0 { // no station goes at the moment of a frame
				b.Pass(time.Duration(r.IntN(12)+1) * 2 * time.Second)
			}
			for m, e := range model {
				if b.Now()-e.heard >= int64(timeout) {
					delete(model, m)
				}
			}
			at, src, dst := r.IntN(4), mac(r.IntN(9)), mac(r.IntN(9))
			if r.IntN(8) == 0 {
				dst = netif.BroadcastMAC
			}
			live := len(b.table())
			if live != len(model) {
				t.Fatalf("seed %d, step %d: %d stations, the model has %d", seed, step, live, len(model))
			}
			if _, known := model[src]; known || len(model) < most {
				model[src] = entry{at, b.Now()}
			}
			text := fmt.Sprint("frame ", step)
			b.from(at, frame(dst, src, text))
			var want []string
			if e, known := model[dst]; known {
				if e.at != at {
					want = append(want, fmt.Sprintf("en%d %s", e.at, text))
				}
			} else {
				for i := range 4 {
					if i != at {
						want = append(want, fmt.Sprintf("en%d %s", i, text))
					}
				}
			}
			b.expect(want...)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	b := newBench(t, 2)
	for i := range 2 {
		b.If = b.ports[i]
		b.from(i, frame(mac(9), mac(i), ""))
	}
	f := frame(mac(1), mac(0), "")
	b.log = nil
	work, burst := b.Env.NewWork(), make([]*packet.Buf, 8)
	silent := netif.New(netif.Config{Name: "sink0", MTU: 1500, MAC: own(7), Driver: sunk{}, Flags: netif.FlagRunning | netif.FlagUp})
	if err := b.AddInterface(silent); err != nil {
		t.Fatal(err)
	}
	if err := b.AddMember(b.br, silent); err != nil {
		t.Fatal(err)
	}
	if err := b.Bridge.SetStation(b.br, silent, mac(1)); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		for i := range burst {
			burst[i] = b.Env.Pool.Get(len(f))
			copy(burst[i].Append(len(f)), f)
		}
		b.Input(work, b.Now(), b.ports[0], burst)
	}); n != 0 {
		t.Errorf("%v allocations a burst, want none", n)
	}
	if n := rig.Counter(b.Stack, "bridge", "forwarded"); n != 8*101 {
		t.Errorf("%d frames forwarded, want %d", n, 8*101)
	}
}

// sunk is a driver that frees.
type sunk struct{}

func (sunk) Transmit(_ *netif.Interface, burst []*packet.Buf) { packet.FreeBurst(burst) }
