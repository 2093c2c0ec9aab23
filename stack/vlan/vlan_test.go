package vlan_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// line is a driver that keeps what it is given, and what it is asked to let through.
type line struct {
	sent     [][]byte
	whole    []*packet.Buf // super-packets, as they came
	promisc  bool
	allmulti bool
	groups   []netif.MAC
}

func (l *line) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	for _, b := range burst {
		if b.GSO != packet.GSONone {
			l.whole = append(l.whole, b)
			continue
		}
		b.CompleteCsum()
		l.sent = append(l.sent, slices.Clone(b.Bytes()))
		b.Free()
	}
}

func (l *line) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	l.promisc, l.allmulti, l.groups = promisc, allmulti, groups
}

// bench is a stack with en0, and vlan0, which is VLAN 5 of it: 10.5.0.1/24.
type bench struct {
	*rig.Rig
	line  *line
	vlan0 *netif.Interface
}

func (b *bench) ethernet(name string, mac netif.MAC, caps netif.Caps) (*netif.Interface, *line) {
	l := &line{}
	ifp := netif.New(netif.Config{Name: name, MTU: 1500, MAC: mac, Driver: l, Caps: caps,
		Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning | netif.FlagUp})
	if err := b.AddInterface(ifp); err != nil {
		b.Fatal(err)
	}
	return ifp, l
}

func newBench(t testing.TB, caps netif.Caps) *bench {
	t.Helper()
	b := &bench{Rig: rig.Bare(t, rig.Dual)}
	b.If, b.line = b.ethernet("en0", rig.Me, caps)
	b.vlan0 = b.vlan("vlan0", 5)
	b.Addr(b.vlan0, "10.5.0.1/24")
	b.Pass(10 * time.Second)
	b.line.sent = nil
	return b
}

func (b *bench) vlan(name string, tag int) *netif.Interface {
	b.Helper()
	ifp, err := b.AddVLAN(name)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.SetVLAN(ifp, tag, b.If); err != nil {
		b.Fatal(err)
	}
	return ifp
}

// tagged is a frame with a tag in it.
func tagged(tci uint16, frame []byte) []byte {
	out := slices.Clone(frame[:12])
	out = binary.BigEndian.AppendUint16(out, packet.EtherVLAN)
	out = binary.BigEndian.AppendUint16(out, tci)
	return append(out, frame[12:]...)
}

// describe is a line about a frame and its tag.
func describe(f []byte) string {
	if len(f) < 18 || packet.Ether(f).Type() != packet.EtherVLAN {
		return rig.Describe(f)
	}
	return fmt.Sprintf("vlan %d: %s", binary.BigEndian.Uint16(f[14:]), rig.Describe(slices.Concat(f[:12], f[16:])))
}

func (b *bench) expect(want ...string) {
	b.Helper()
	var got []string
	for _, f := range b.line.sent {
		got = append(got, describe(f))
	}
	b.line.sent = nil
	if !slices.Equal(got, want) {
		b.Fatalf("sent:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// meet teaches the stack its neighbour on the vlan.
func (b *bench) meet() {
	b.SendWire(tagged(5, rig.ARP(packet.ARPRequest, rig.Peer, "10.5.0.2", "10.5.0.1")))
	b.expect("vlan 5: arp 10.5.0.1 is-at 02:00:00:00:00:01 to 02:00:00:00:00:02")
}

func TestTagsInAndOut(t *testing.T) {
	b := newBench(t, 0)
	b.meet()
	b.SendWire(tagged(5, rig.Echo("10.5.0.2", "10.5.0.1", "hello")))
	b.expect("vlan 5: 10.5.0.1 > 10.5.0.2 echo-reply id 1 seq 2 len 5")
	// The sender's priority is its own: ours is 0.
	b.SendWire(tagged(6<<13|5, rig.Echo("10.5.0.2", "10.5.0.1", "hello")))
	b.expect("vlan 5: 10.5.0.1 > 10.5.0.2 echo-reply id 1 seq 2 len 5")
	if in, out := b.vlan0.Stats.InPackets.Load(), b.If.Stats.InPackets.Load(); in != 3 || out != 3 {
		t.Errorf("vlan0 has counted %d frames and en0 %d, want 3 each", in, out)
	}
	if in := b.If.Stats.InBytes.Load() - b.vlan0.Stats.InBytes.Load(); in != 12 {
		t.Errorf("en0 has counted %d octets of tags, want 12", in)
	}
}

// Frames of one burst go to whom they are for, in their order.
func TestBurst(t *testing.T) {
	b := newBench(t, 0)
	b.Addr(b.If, "10.0.0.1/24")
	b.Addr(b.vlan("vlan1", 6), "10.6.0.1/24")
	b.Pass(10 * time.Second)
	for _, f := range [][]byte{
		tagged(5, rig.ARP(packet.ARPRequest, rig.Peer, "10.5.0.2", "10.5.0.1")),
		tagged(6, rig.ARP(packet.ARPRequest, rig.Peer, "10.6.0.2", "10.6.0.1")),
		rig.ARP(packet.ARPRequest, rig.Peer, "10.0.0.2", "10.0.0.1"),
	} {
		b.SendWire(f)
	}
	b.line.sent = nil
	ping := func(net string, n int) []byte { return rig.Echo(net+".2", net+".1", strings.Repeat("x", n)) }
	b.SendWire(tagged(5, ping("10.5.0", 1)), ping("10.0.0", 2), tagged(5, ping("10.5.0", 3)), tagged(5, ping("10.5.0", 4)),
		tagged(7, ping("10.5.0", 5)), tagged(6, ping("10.6.0", 6)), tagged(7<<13, ping("10.0.0", 7)), ping("10.0.0", 8), []byte("short"),
		tagged(5, ping("10.5.0", 9)))
	want := map[string]string{"vlan 5: 10.5.0.1": "1 3 4 9 ", "vlan 6: 10.6.0.1": "6 ", "10.0.0.1": "2 7 8 "}
	got := map[string]string{}
	for _, f := range b.line.sent {
		from, reply, _ := strings.Cut(describe(f), " > ")
		_, n, _ := strings.Cut(reply, "len ")
		got[from] += n + " "
	}
	for from, w := range want {
		if got[from] != w {
			t.Errorf("%s has answered %q, want %q", from, got[from], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("answers %q", got)
	}
}

func TestStrangeTags(t *testing.T) {
	b := newBench(t, 0)
	b.meet()
	ping := rig.Echo("10.5.0.2", "10.5.0.1", "hello")
	for _, tc := range []struct {
		counter string
		frame   []byte
	}{
		{"unknown vlan", tagged(6, ping)},
		{"unknown vlan", tagged(0xfff, ping)},
		{"short frame", tagged(5, ping)[:17]},
	} {
		b.Counts("vlan", tc.counter, func() { b.SendWire(tc.frame) })
	}
	b.Counts("ether", "unknown protocol", func() { b.SendWire(tagged(5, tagged(5, ping))) })
	b.expect()
}

// A tag that says a priority alone is no VLAN, whether there are vlans or not.
func TestPriorityTag(t *testing.T) {
	for _, vlans := range []bool{true, false} {
		r := rig.Bare(t, rig.Dual)
		r.If = r.AddIf("en0", rig.Me, "10.0.0.1/24")
		if vlans {
			b := &bench{Rig: r}
			b.vlan("vlan0", 5)
		}
		r.Pass(10 * time.Second)
		r.Meet("10.0.0.2")
		r.SendWire(tagged(5<<13, rig.Echo("10.0.0.2", "10.0.0.1", "hello")))
		r.Expect("10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 5")
		r.Counts("ether", "unknown protocol", func() { r.SendWire(tagged(0, tagged(0, rig.Echo("10.0.0.2", "10.0.0.1", "hello")))) })
		r.Expect()
	}
}

func TestRefused(t *testing.T) {
	b := newBench(t, 0)
	en1, _ := b.ethernet("en1", rig.Me1, 0)
	en2, _ := b.ethernet("en2", rig.Me1, netif.CapNoVLAN)
	other, err := b.AddVLAN("vlan1")
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := b.AddTunnel("gif0")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		ifp    *netif.Interface
		tag    int
		parent *netif.Interface
		want   error
	}{
		{other, 0, en1, syscall.EINVAL},
		{other, 4095, en1, syscall.EINVAL},
		{other, 1, b.Lo, syscall.EPROTONOSUPPORT},
		{other, 1, tunnel, syscall.EPROTONOSUPPORT},
		{other, 1, b.vlan0, syscall.EPROTONOSUPPORT},
		{other, 5, b.If, syscall.EEXIST},
		{other, 5, en2, syscall.EOPNOTSUPP},
		{en1, 1, b.If, syscall.EINVAL},
		{b.vlan0, 6, b.If, syscall.EBUSY},
		{b.vlan0, 5, b.If, nil},
		{other, 1, b.If, nil},
		{b.vlan0, 5, en1, syscall.EBUSY},
	} {
		if err := b.SetVLAN(tc.ifp, tc.tag, tc.parent); !errors.Is(err, tc.want) {
			t.Errorf("%s vlan %d vlanif %s: %v, want %v", tc.ifp.Name, tc.tag, tc.parent.Name, err, tc.want)
		}
	}
	if err := b.ClearVLAN(en1); err != syscall.EADDRNOTAVAIL {
		t.Error(err)
	}
	if _, err := b.AddVLAN("vlan1"); !errors.Is(err, syscall.EEXIST) {
		t.Error(err)
	}
	if on := b.VLAN.On(b.If); len(on) != 2 || on[0] != other || on[1] != b.vlan0 {
		t.Errorf("%d vlans on en0", len(on))
	}
}

// A vlan follows its parent up and down, and lets go of one that is removed.
func TestFollowsItsParent(t *testing.T) {
	b := newBench(t, 0)
	state := func(want string) {
		t.Helper()
		f, got := b.vlan0.Flags(), ""
		for _, s := range []struct {
			on   bool
			name string
		}{{f&netif.FlagUp != 0, "up "}, {f&netif.FlagRunning != 0, "running "}, {b.vlan0.LinkUp(), "link "}} {
			if s.on {
				got += s.name
			}
		}
		if got != want {
			t.Errorf("vlan0 is %q, want %q", got, want)
		}
	}
	b.meet()
	state("up running link ")
	b.LinkState(b.If, false)
	state("up running ")
	b.LinkState(b.If, true)
	if err := b.SetFlags(b.If, 0, netif.FlagUp); err != nil {
		t.Fatal(err)
	}
	state("up link ")
	b.Counts("vlan", "received", func() { b.SendWire(tagged(5, rig.Echo("10.5.0.2", "10.5.0.1", "hello"))) })
	b.expect()
	if err := b.SetFlags(b.If, netif.FlagUp, 0); err != nil {
		t.Fatal(err)
	}
	state("up running link ")
	b.expect("vlan 5: arp announce 10.5.0.1")
	b.SetRunning(b.If, false)
	state("up link ")
	b.SetRunning(b.If, true)
	b.line.sent = nil

	mac := netif.MAC{2, 9, 9, 9, 9, 9}
	if err := b.SetMAC(b.If, mac); err != nil || b.vlan0.MAC() != mac {
		t.Errorf("vlan0 has %v: %v", b.vlan0.MAC(), err)
	}
	if err := b.RemoveInterface(b.If); err != nil {
		t.Fatal(err)
	}
	state("")
	if _, parent := b.VLAN.Of(b.vlan0); parent != nil || b.vlan0.MAC() != (netif.MAC{}) || b.vlan0.Gone() {
		t.Errorf("vlan0 has parent %v, address %v", parent, b.vlan0.MAC())
	}
	if err := b.SetVLAN(b.vlan0, 5, b.If); err != syscall.ENXIO {
		t.Errorf("on a parent that is gone: %v", err)
	}
	// Another one takes its place.
	b.If, b.line = b.ethernet("en1", rig.Me, 0)
	if err := b.SetVLAN(b.vlan0, 7, b.If); err != nil {
		t.Fatal(err)
	}
	b.expect("vlan 7: arp announce 10.5.0.1")
	if err := b.RemoveInterface(b.vlan0); err != nil {
		t.Fatal(err)
	}
	if b.If.Above() != nil {
		t.Error("en1 carries a vlan that is gone")
	}
}

func TestMTU(t *testing.T) {
	for _, tc := range []struct {
		caps netif.Caps
		want int
	}{{0, 1496}, {netif.CapVLANMTU, 1500}} {
		b := newBench(t, tc.caps)
		if got := b.vlan0.MTU(); got != tc.want {
			t.Errorf("caps %#x: MTU %d, want %d", tc.caps, got, tc.want)
		}
		if err := b.SetMTU(b.vlan0, tc.want+1, 9000); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("an MTU of %d: %v", tc.want+1, err)
		}
		if err := b.SetMTU(b.vlan0, tc.want-1, 9000); err != nil {
			t.Error(err)
		}
		if err := b.SetMTU(b.If, 1000, 1500); err != nil || b.vlan0.MTU() != tc.want-500 {
			t.Errorf("below a parent of 1000: %d, %v", b.vlan0.MTU(), err)
		}
	}
	b := newBench(t, 0)
	if err := b.ClearVLAN(b.vlan0); err != nil {
		t.Fatal(err)
	}
	if err := b.SetMTU(b.vlan0, 1400, 1500); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("without a parent: %v", err)
	}
}

// What is asked of a vlan is asked of its parent.
func TestFilter(t *testing.T) {
	b := newBench(t, 0)
	group := netif.MAC{1, 0, 0x5e, 9, 9, 9}
	b.vlan0.JoinGroup(group)
	b.vlan0.AllMulti(true)
	if !slices.Contains(b.line.groups, group) || !b.line.allmulti || b.line.promisc {
		t.Errorf("en0 is asked for %+v", b.line)
	}
	if err := b.SetFlags(b.vlan0, netif.FlagPromisc, 0); err != nil || !b.line.promisc {
		t.Errorf("promisc: %v, %v", b.line.promisc, err)
	}
	if err := b.SetFlags(b.vlan0, 0, netif.FlagPromisc); err != nil || b.line.promisc {
		t.Errorf("promisc: %v, %v", b.line.promisc, err)
	}
	if err := b.SetMAC(b.vlan0, rig.Me1); err != nil || !b.line.promisc {
		t.Errorf("with an address of its own: promisc %v, %v", b.line.promisc, err)
	}
	if err := b.SetMAC(b.If, rig.Me1); err != nil || b.line.promisc {
		t.Errorf("with the same address again: promisc %v, %v", b.line.promisc, err)
	}
	if err := b.ClearVLAN(b.vlan0); err != nil || slices.Contains(b.line.groups, group) || b.line.allmulti || b.If.Groups() == 0 && len(b.line.groups) != 0 {
		t.Errorf("taken off, en0 is asked for %+v, %v", b.line, err)
	}
	en1, l := b.ethernet("en1", rig.Me1, 0)
	if err := b.SetVLAN(b.vlan0, 6, en1); err != nil || !slices.Contains(l.groups, group) || !l.allmulti {
		t.Errorf("en1 is asked for %+v, %v", l, err)
	}
	b.vlan0.AllMulti(false)
	b.vlan0.LeaveGroup(group)
	if slices.Contains(l.groups, group) || l.allmulti {
		t.Errorf("en1 is asked for %+v", l)
	}
}

// A super-packet passes a vlan whole if the parent takes it, and else its
// segments have the tag.
func TestSuperPackets(t *testing.T) {
	for _, caps := range []netif.Caps{0, netif.CapCsum | netif.CapTSO4, netif.CapCsum | netif.CapUSO} {
		b := newBench(t, caps|netif.CapVLANMTU)
		b.meet()
		p := b.Env.Pool.Get(3100)
		frame := rig.UDP("10.5.0.1", "10.5.0.2", 5, 9, strings.Repeat("x", 3000))[packet.EtherLen:]
		copy(p.Append(len(frame)), frame)
		p.MarkL3(0)
		p.MarkL4(20)
		p.GSO, p.GSOSize = packet.GSOUDPv4, 1000
		h := packet.IPv4(p.Bytes())
		binary.BigEndian.PutUint16(p.Bytes()[26:], packet.Fold(packet.PseudoSum(h.Src(), h.Dst(), packet.ProtoUDP, len(frame)-20)))
		p.SetPartial(20, packet.UDPCsumOffset)
		if err := b.Do(func(w *netif.Work) error {
			return b.vlan0.Output(w, b.vlan0, p, h.Dst())
		}); err != nil {
			t.Fatal(err)
		}
		if caps&netif.CapUSO == 0 {
			want := "vlan 5: 10.5.0.1 > 10.5.0.2 udp 5 > 9 len 1000"
			b.expect(want, want, want)
			continue
		}
		if len(b.line.whole) != 1 {
			t.Fatalf("%d super-packets", len(b.line.whole))
		}
		q := b.line.whole[0]
		if got := q.CsumStart(); got != 18+20 || q.Len() != 18+len(frame) || q.Csum != packet.CsumPartial {
			t.Errorf("the checksum begins at %d of %d octets, want 38 of %d", got, q.Len(), 18+len(frame))
		}
		if got := describe(q.Bytes()[:18+20]); !strings.HasPrefix(got, "vlan 5: ") {
			t.Error(got)
		}
		q.Free()
	}
}

// capture is a netif.Tap.
type capture struct{ lines []string }

func (c *capture) Tap(_ int64, ifp *netif.Interface, frame []byte, out bool) {
	way := "in"
	if out {
		way = "out"
	}
	c.lines = append(c.lines, fmt.Sprintf("%s %s %s", ifp.Name, way, describe(frame)))
}

func (c *capture) Dropped(int64, *netif.Interface, []byte, mib.Counter) {}

// A captured frame has its tag on the parent and none on the vlan.
func TestCaptures(t *testing.T) {
	b := newBench(t, 0)
	b.meet()
	c := &capture{}
	b.If.AddTap(c)
	b.vlan0.AddTap(c)
	b.SendWire(tagged(5, rig.Echo("10.5.0.2", "10.5.0.1", "hello")))
	if want := []string{
		"en0 in vlan 5: 10.5.0.2 > 10.5.0.1 echo id 1 seq 2 len 5",
		"vlan0 in 10.5.0.2 > 10.5.0.1 echo id 1 seq 2 len 5",
		"vlan0 out 10.5.0.1 > 10.5.0.2 echo-reply id 1 seq 2 len 5",
		"en0 out vlan 5: 10.5.0.1 > 10.5.0.2 echo-reply id 1 seq 2 len 5",
	}; !slices.Equal(c.lines, want) {
		t.Errorf("captured:\n%s", strings.Join(c.lines, "\n"))
	}
}

// sunk is a driver that frees.
type sunk struct{}

func (sunk) Transmit(_ *netif.Interface, burst []*packet.Buf) { packet.FreeBurst(burst) }

func TestNoAllocation(t *testing.T) {
	b := &bench{Rig: rig.Bare(t, rig.Dual)}
	b.If = netif.New(netif.Config{Name: "en0", MTU: 1500, MAC: rig.Me, Driver: sunk{},
		Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning | netif.FlagUp})
	if err := b.AddInterface(b.If); err != nil {
		t.Fatal(err)
	}
	for tag := 5; tag <= 6; tag++ {
		b.Addr(b.vlan(fmt.Sprint("vlan", tag), tag), fmt.Sprintf("10.%d.0.1/24", tag))
		b.SendWire(tagged(uint16(tag), rig.ARP(packet.ARPRequest, rig.Peer, fmt.Sprintf("10.%d.0.2", tag), fmt.Sprintf("10.%d.0.1", tag))))
	}
	b.Sysctl("net.inet.ip.forwarding", "1")
	work, burst := b.Env.NewWork(), make([]*packet.Buf, 8)
	f := tagged(5, rig.UDP("10.5.0.2", "10.6.0.2", 5, 9, "hello"))
	if n := testing.AllocsPerRun(100, func() {
		for i := range burst {
			burst[i] = b.Env.Pool.Get(len(f))
			copy(burst[i].Append(len(f)), f)
		}
		b.Input(work, b.Now(), b.If, burst)
	}); n != 0 {
		t.Errorf("%v allocations a burst between two vlans, want none", n)
	}
	if n := rig.Counter(b.Stack, "vlan", "sent"); n < 8*101 {
		t.Errorf("%d frames were sent, want %d", n, 8*101)
	}
}
