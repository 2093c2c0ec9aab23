package inet_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ionet/stack/inet"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

// mcast is a rig with four links and a routing daemon's socket: vif i is en<i>.
type mcast struct {
	*Rig
	s   *Socket
	ifs [4]*netif.Interface
}

func newRouter(t testing.TB) *mcast {
	r := &mcast{Rig: New(t)}
	r.ifs[0] = r.If
	for i := 1; i < 4; i++ {
		r.ifs[i] = r.AddIf(fmt.Sprint("en", i), netif.MAC{2, 0, 0, 0, byte(i), 1}, fmt.Sprintf("10.0.%d.1/24", i))
	}
	r.Pass(10 * time.Second)
	r.s = r.Socket(socket.Raw, packet.ProtoIGMP)
	r.ok(inet.MRTInit, socket.Value32(1))
	for i := range r.ifs {
		r.ok(inet.MRTAddVif, vifctl(i, fmt.Sprintf("10.0.%d.1", i)))
	}
	r.Sent()
	return r
}

func (r *mcast) set(name int, v []byte) error { return r.s.Set(inet.LevelIP, name, v) }

func (r *mcast) ok(name int, v []byte) {
	r.Helper()
	if err := r.set(name, v); err != nil {
		r.Fatalf("option %d: %v", name, err)
	}
}

func vifctl(i int, local string) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(i))
	b = append(b, 0, 1, 0, 0, 0, 0)
	return append(append(b, netip.MustParseAddr(local).AsSlice()...), 0, 0, 0, 0)
}

func mfcctl(src, dst string, parent int, ttls ...uint8) []byte {
	b := append(netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice()...)
	b = binary.LittleEndian.AppendUint16(b, uint16(parent))
	b = append(b, ttls...)
	return append(b, make([]byte, 44-len(b))...)
}

// heard is what left, in order of interface, as "en1 239.1.2.3 ttl 7 len 12", fragments with their offsets.
func (r *mcast) heard() (out []string) {
	for _, f := range r.Sent() {
		h, ok := packet.CheckIPv4(f[packet.EtherLen:])
		if !ok || !h.ChecksumOK() {
			r.Fatalf("% x", f)
		}
		if to := netif.MAC(f[:6]); to != netif.GroupMAC(h.Dst()) {
			r.Errorf("to %v", to)
		}
		i := f[10]
		s := fmt.Sprintf("en%d %v ttl %d len %d", i, h.Dst(), h.TTL(), h.TotalLen()-h.HeaderLen())
		if h.FragField() != 0 {
			s += fmt.Sprintf(" @%d", h.FragOff())
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b string) int { return strings.Compare(a[:3], b[:3]) })
	return out
}

func (r *mcast) expect(want ...string) {
	r.Helper()
	if got := r.heard(); !slices.Equal(got, want) {
		r.Fatalf("sent:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// upcall is the next message to the daemon.
func (r *mcast) upcall() string {
	got := r.s.Get()
	_, b, ok := strings.Cut(got, ": ")
	if !ok {
		return got
	}
	if len(b) != 20 || b[9] != 0 {
		return fmt.Sprintf("% x", b)
	}
	return fmt.Sprintf("%d vif %d %v > %v", b[8], b[10], netip.AddrFrom4([4]byte([]byte(b[12:16]))), netip.AddrFrom4([4]byte([]byte(b[16:20]))))
}

func to(dst string, ttl uint8, n int) []byte {
	return IP{Src: "10.0.0.2", Dst: dst, Proto: packet.ProtoUDP, TTL: ttl, Data: make([]byte, n)}.Frame()
}

const nothing = "resource temporarily unavailable"

// The daemon is asked once, what has waited goes when it has answered, and what comes then goes at once.
func TestMulticastForwarding(t *testing.T) {
	r := newRouter(t)
	r.Counts("mroute", "upcalls", func() { r.Send(to("239.1.2.3", 9, 10), to("239.1.2.3", 3, 11)) })
	r.expect()
	if got := r.upcall(); got != "1 vif 0 10.0.0.2 > 239.1.2.3" {
		t.Error(got)
	}
	if got := r.upcall(); got != nothing {
		t.Error(got)
	}
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 1, 0, 5))
	r.expect("en1 239.1.2.3 ttl 8 len 10", "en1 239.1.2.3 ttl 2 len 11", "en3 239.1.2.3 ttl 8 len 10")
	r.Send(to("239.1.2.3", 6, 1), to("239.1.2.3", 5, 2), to("239.1.2.3", 1, 3))
	r.expect("en1 239.1.2.3 ttl 5 len 1", "en1 239.1.2.3 ttl 4 len 2", "en3 239.1.2.3 ttl 5 len 1")
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 0, 1, 0)) // changed
	r.Send(to("239.1.2.3", 6, 1))
	r.expect("en2 239.1.2.3 ttl 5 len 1")
	e := r.Inet.Multicast().Entries()
	if len(e) != 1 || e[0].Packets != 5 || e[0].Bytes != 5*20+10+11+1+2+1 {
		t.Errorf("%+v", e)
	}
	v := r.Inet.Multicast().Vifs()
	if len(v) != 4 || v[0].InPackets != 5 || v[1].OutPackets != 4 || v[2].OutPackets != 1 || v[3].OutBytes != 30+21 {
		t.Errorf("%+v", v)
	}
	r.ok(inet.MRTDelMFC, mfcctl("10.0.0.2", "239.1.2.3", 0))
	if err := r.set(inet.MRTDelMFC, mfcctl("10.0.0.2", "239.1.2.3", 0)); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Error(err)
	}
	r.Send(to("239.1.2.3", 6, 1))
	r.expect()
}

// What the cache is not asked about, and what the daemon is not.
func TestNotForwardedToGroups(t *testing.T) {
	r := newRouter(t)
	for _, f := range [][]byte{
		to("224.0.0.9", 9, 1), // stays on its link
		to("239.1.2.3", 1, 1),
		IP{Src: "0.0.0.0", Dst: "239.1.2.3", Proto: 17, Data: make([]byte, 8)}.Frame(),
		IP{Src: "169.254.1.1", Dst: "239.1.2.3", Proto: 17, Data: make([]byte, 8)}.Frame(),
		IP{Src: "10.0.0.2", Dst: "239.1.2.3", Proto: 17, Options: []byte{131, 7, 4, 10, 0, 0, 9, 0}, Data: make([]byte, 8)}.Frame(),
	} {
		r.Counts("ip", "no such group", func() { r.Send(f) })
	}
	r.ok(inet.MRTDelVif, []byte{0, 0})
	r.Counts("ip", "no such group", func() { r.Send(to("239.1.2.3", 9, 1)) })
	r.expect()
	if got := r.upcall(); got != nothing {
		t.Error(got)
	}
}

// Packets wait in fours, and for a second and a half.
func TestUpcallsAreBounded(t *testing.T) {
	r := newRouter(t)
	r.Send(to("239.1.2.3", 9, 1), to("239.1.2.3", 9, 2), to("239.1.2.3", 9, 3), to("239.1.2.3", 9, 4))
	r.Counts("mroute", "upcall queue full", func() { r.Send(to("239.1.2.3", 9, 5)) })
	r.Pass(time.Second)
	r.Send(to("239.1.2.4", 9, 6))
	if n := r.Env.Pool.Bufs(); n != 5+2 {
		t.Errorf("%d buffers are held", n)
	}
	r.Pass(600 * time.Millisecond)
	if n := Counter(r.Stack, "mroute", "no answer to upcall"); n != 4 {
		t.Errorf("%d have expired", n)
	}
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 1))
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.4", 0, 0, 1))
	r.expect("en1 239.1.2.4 ttl 8 len 6")
	r.Counts("mroute", "no answer to upcall", func() {
		r.Send(to("239.1.2.5", 9, 1))
		r.Pass(2 * time.Second)
	})
	r.s.Flag(socket.SORcvBuf, 4<<20)
	for i := range 3000 {
		r.Send(to(fmt.Sprintf("239.2.%d.%d", i>>8, i&255), 9, 1))
	}
	if n := len(r.Inet.Multicast().Entries()); n != 1024+2 {
		t.Errorf("%d entries", n)
	}
	r.s.Close()
	if n := r.Env.Pool.Bufs(); n != 0 {
		t.Errorf("%d buffers are still held", n)
	}
}

// A daemon that does not read is asked in vain.
func TestUpcallSocketFull(t *testing.T) {
	r := newRouter(t)
	r.s.Flag(socket.SORcvBuf, 1)
	r.Counts("mroute", "upcall socket full", func() {
		r.Counts("mroute", "upcall queue full", func() { r.Send(to("239.1.2.3", 9, 1)) })
	})
	if n := r.Env.Pool.Bufs(); n != 0 {
		t.Errorf("%d buffers are held", n)
	}
}

// A packet by a wrong vif goes nowhere; the daemon hears of it every three seconds if it asks for that, and if
// that is a vif that such packets go to.
func TestWrongVif(t *testing.T) {
	r := newRouter(t)
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 1, 1, 0, 1, 0))
	send := func(want string) {
		t.Helper()
		r.Counts("mroute", "wrong interface", func() { r.Send(to("239.1.2.3", 9, 1)) })
		r.expect()
		if got := r.upcall(); got != want {
			t.Error(got)
		}
	}
	send(nothing)
	r.ok(inet.MRTAssert, socket.Value32(1))
	send("2 vif 0 10.0.0.2 > 239.1.2.3")
	send(nothing)
	r.Pass(4 * time.Second)
	send("2 vif 0 10.0.0.2 > 239.1.2.3")
	r.Pass(4 * time.Second)
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 1, 0, 0, 1, 0))
	send(nothing)
	if e := r.Inet.Multicast().Entries(); e[0].Wrong != 5 || e[0].Packets != 0 {
		t.Errorf("%+v", e)
	}
}

// Members here hear what comes, and what is forwarded to their link; and what we send is forwarded as if it
// came from the link that it leaves by.
func TestMembersHere(t *testing.T) {
	r := newRouter(t)
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 1, 1))
	member := func(local string) *Socket {
		u := r.UDP(":9")
		if err := u.Set(inet.LevelIP, inet.IPAddMembership, append([]byte{239, 1, 2, 3}, netip.MustParseAddr(local).AsSlice()...)); err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := member("10.0.0.1")
	r.Sent()
	r.Send(UDP("10.0.0.2", "239.1.2.3", 5, 9, "both"))
	r.expect("en1 239.1.2.3 ttl 63 len 12", "en2 239.1.2.3 ttl 63 len 12")
	if got := u.Get(); got != "10.0.0.2:5: both" {
		t.Error(got)
	}
	u.Close()
	u = member("10.0.2.1")
	r.Sent()
	r.Send(UDP("10.0.0.2", "239.1.2.3", 5, 9, "there"))
	r.expect("en1 239.1.2.3 ttl 63 len 13", "en2 239.1.2.3 ttl 63 len 13")
	if got := u.Get(); got != "10.0.0.2:5: there" {
		t.Error(got)
	}
	if got := u.Get(); got != nothing {
		t.Errorf("once more: %s", got)
	}

	r.ok(inet.MRTAddMFC, mfcctl("10.0.3.1", "239.1.2.3", 3, 1, 0, 0, 1))
	s := r.UDP("10.0.3.1:7")
	for _, o := range []struct {
		name int
		v    []byte
	}{{inet.IPMulticastIf, []byte{10, 0, 3, 1}}, {inet.IPMulticastTTL, []byte{4}}} {
		if err := s.Set(inet.LevelIP, o.name, o.v); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SendTo("239.1.2.3:9", "ours"); err != nil {
		t.Fatal(err)
	}
	r.expect("en0 239.1.2.3 ttl 3 len 12", "en3 239.1.2.3 ttl 4 len 12")
}

// What is too large for one of the links is cut for it, or not if it must not be.
func TestMulticastFragments(t *testing.T) {
	r := newRouter(t)
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 1, 1))
	if err := r.SetMTU(r.ifs[1], 576, 1500); err != nil {
		t.Fatal(err)
	}
	r.Send(to("239.1.2.3", 9, 1000))
	r.expect("en1 239.1.2.3 ttl 8 len 552 @0", "en1 239.1.2.3 ttl 8 len 448 @552", "en2 239.1.2.3 ttl 8 len 1000")
	r.Counts("mroute", "too large", func() {
		r.Send(IP{Src: "10.0.0.2", Dst: "239.1.2.3", Proto: 17, Frag: packet.IPv4DF, Data: make([]byte, 1000)}.Frame())
	})
	r.expect("en2 239.1.2.3 ttl 63 len 1000 @0") // and no message (RFC 1122 §3.2.2)
}

// A super-packet stays whole as far as the links take its segments.
func TestMulticastSuperPackets(t *testing.T) {
	r := newRouter(t)
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 1, 1))
	if err := r.SetMTU(r.ifs[2], 576, 1500); err != nil {
		t.Fatal(err)
	}
	f := IP{Src: "10.0.0.2", Dst: "239.1.2.3", Proto: packet.ProtoUDP, Frag: packet.IPv4DF, TTL: 9, Data: make([]byte, packet.UDPLen+2500)}.Frame()
	b := r.Env.Pool.Get(len(f))
	copy(b.Append(len(f)), f)
	b.SetPartial(packet.EtherLen+packet.IPv4Len, packet.UDPCsumOffset)
	b.GSO, b.GSOSize = packet.GSOUDPv4, 1000
	r.Counts("mroute", "too large", func() { r.Input(r.Env.NewWork(), r.Now(), r.If, []*packet.Buf{b}) })
	const head = "en1 239.1.2.3 ttl 8 len " // the driver of the rig takes no super-packets
	r.expect(head+"1008 @0", head+"1008 @0", head+"508 @0")
}

// filter blocks what is to leave by an interface.
type filter struct {
	pfil.Filter
	block *netif.Interface
}

func (f filter) Generation() uint64 { return 1 }

func (f filter) In(_ *netif.Work, _ *netif.Interface, p *packet.Buf) *packet.Buf { return p }

func (f filter) Out(_ *netif.Work, ifp *netif.Interface, p *packet.Buf) *packet.Buf {
	if ifp == f.block {
		p.Free()
		return nil
	}
	return p
}

// A filter is asked at each way out.
func TestMulticastFilter(t *testing.T) {
	r := newRouter(t)
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 1, 1, 1))
	hook := new(pfil.Hook)
	hook.Set(filter{block: r.ifs[2]})
	r.Inet.SetHook(hook)
	r.Send(to("239.1.2.3", 9, 10))
	r.expect("en1 239.1.2.3 ttl 8 len 10", "en3 239.1.2.3 ttl 8 len 10")
}

// The daemon hears IGMP about every group, also after it has joined one itself; others do not.
func TestDaemonHearsIGMP(t *testing.T) {
	r := newRouter(t)
	other := r.Socket(socket.Raw, packet.ProtoIGMP)
	if err := other.Set(inet.LevelIP, inet.IPAddMembership, []byte{224, 0, 0, 2, 10, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if err := r.set(inet.IPAddMembership, []byte{224, 0, 0, 2, 10, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	m := packet.IGMP([]byte{packet.IGMPv2Report, 0, 0, 0, 239, 1, 2, 3})
	m.SetChecksum()
	r.Send(IP{Src: "10.0.0.2", Dst: "239.1.2.3", Proto: packet.ProtoIGMP, TTL: 1, Data: m}.Frame())
	if got := r.s.Get(); !strings.HasSuffix(got, string(m)) {
		t.Errorf("%q", got)
	}
	if got := other.Get(); got != nothing {
		t.Errorf("%q", got)
	}
}

func TestMRTOptions(t *testing.T) {
	r := newRouter(t)
	for _, c := range []struct {
		name int
		v    []byte
		want error
	}{
		{inet.MRTInit, socket.Value32(1), syscall.EADDRINUSE},
		{inet.MRTInit, socket.Value32(2), syscall.ENOPROTOOPT},
		{inet.MRTAddVif, vifctl(1, "10.0.1.1"), syscall.EADDRINUSE},
		{inet.MRTAddVif, vifctl(32, "10.0.1.1"), syscall.EINVAL},
		{inet.MRTAddVif, vifctl(9, "10.0.9.1"), syscall.EADDRNOTAVAIL},
		{inet.MRTAddVif, append([]byte{9, 0, 1}, vifctl(9, "10.0.1.1")[3:]...), syscall.EOPNOTSUPP}, // a tunnel
		{inet.MRTAddVif, append([]byte{9, 0, 4}, vifctl(9, "10.0.1.1")[3:]...), syscall.EOPNOTSUPP}, // register
		{inet.MRTAddVif, vifctl(9, "10.0.1.1")[1:], syscall.EINVAL},
		{inet.MRTDelVif, []byte{9, 0}, syscall.EADDRNOTAVAIL},
		{inet.MRTDelVif, []byte{32, 0}, syscall.EINVAL},
		{inet.MRTDelVif, nil, syscall.EINVAL},
		{inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.1.1", 32), syscall.EINVAL},
		{inet.MRTAddMFC, mfcctl("10.0.0.2", "10.0.0.3", 0), syscall.EINVAL},
		{inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.1.1", 0)[:43], syscall.EINVAL},
		{inet.MRTDelMFC, mfcctl("10.0.0.2", "239.1.1.1", 0), syscall.EADDRNOTAVAIL},
		{inet.MRTVersion, socket.Value32(1), syscall.ENOPROTOOPT},
		{inet.MRTAssert, []byte{1, 2}, syscall.EINVAL},
	} {
		if err := r.set(c.name, c.v); !errors.Is(err, c.want) {
			t.Errorf("%d % x: %v, want %v", c.name, c.v, err, c.want)
		}
	}
	for name, want := range map[int]string{inet.MRTVersion: "05030000", inet.MRTAssert: "00000000"} {
		if v, err := r.s.Option(inet.LevelIP, name); err != nil || fmt.Sprintf("%x", v) != want {
			t.Errorf("%d: %x %v", name, v, err)
		}
	}
	other := r.Socket(socket.Raw, packet.ProtoIGMP)
	if err := other.Set(inet.LevelIP, inet.MRTInit, socket.Value32(1)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if err := other.Set(inet.LevelIP, inet.MRTDone, nil); !errors.Is(err, syscall.ENOPROTOOPT) {
		t.Error(err)
	}
	if err := r.UDP("").Set(inet.LevelIP, inet.MRTInit, socket.Value32(1)); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Error(err)
	}
	for _, ifp := range r.ifs {
		if ifp.Flags()&netif.FlagAllMulti == 0 {
			t.Errorf("%s does not listen to all groups", ifp.Name)
		}
	}
	if err := r.RemoveInterface(r.ifs[3]); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Inet.Multicast().Vifs()); n != 3 {
		t.Errorf("%d vifs after an interface went", n)
	}
	r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", "239.1.1.1", 0, 0, 1))
	r.s.Close()
	if m := r.Inet.Multicast(); m.Active() || len(m.Vifs())+len(m.Entries()) != 0 || r.If.Flags()&netif.FlagAllMulti != 0 {
		t.Error("something is left after the daemon's socket was closed")
	}
	if err := other.Set(inet.LevelIP, inet.MRTInit, socket.Value32(1)); err != nil {
		t.Error(err)
	}
}

// The decision about each packet is that of a slow model, whatever the daemon says in between.
func TestMulticastDecision(t *testing.T) {
	type rule struct {
		parent int
		ttls   [4]uint8
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRouter(t)
		defer r.s.Close()
		vifs := [4]bool{true, true, true, true}
		rules := map[string]rule{}
		groups := []string{"239.1.2.3", "232.1.1.1", "224.0.1.1", "224.0.0.5"}
		drawGroup := rapid.SampledFrom(groups)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			g := drawGroup.Draw(rt, "group")
			i := rapid.IntRange(0, 3).Draw(rt, "interface")
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				if vifs[i] {
					r.ok(inet.MRTDelVif, []byte{byte(i), 0})
				} else {
					r.ok(inet.MRTAddVif, vifctl(i, fmt.Sprintf("10.0.%d.1", i)))
				}
				vifs[i] = !vifs[i]
			case 1, 2:
				x := rule{parent: i}
				for k := range x.ttls {
					x.ttls[k] = rapid.SampledFrom([]uint8{0, 1, 2, 64, 255}).Draw(rt, "threshold")
				}
				r.ok(inet.MRTAddMFC, mfcctl("10.0.0.2", g, x.parent, x.ttls[:]...))
				rules[g] = x
			case 3:
				if _, ok := rules[g]; ok {
					r.ok(inet.MRTDelMFC, mfcctl("10.0.0.2", g, 0))
				}
				delete(rules, g)
			default:
				ttl := rapid.SampledFrom([]uint8{1, 2, 3, 64, 65, 255}).Draw(rt, "ttl")
				var want []string
				x, ok := rules[g]
				if ok && vifs[i] && x.parent == i && ttl > 1 && !strings.HasPrefix(g, "224.0.0.") {
					for k, th := range x.ttls {
						if th != 0 && ttl > th && vifs[k] && k != i {
							want = append(want, fmt.Sprintf("en%d %s ttl %d len 5", k, g, ttl-1))
						}
					}
				}
				r.SendOn(r.ifs[i], to(g, ttl, 5))
				if got := r.heard(); !slices.Equal(got, want) {
					rt.Fatalf("a packet to %s with TTL %d on en%d: sent %v, want %v", g, ttl, i, got, want)
				}
			}
			r.Pass(2 * time.Second) // what waits does not come into it
			r.Sent()
		}
	})
}

// FuzzMRTOptions: nothing that a routing daemon says, and no packet after it, does harm.
func FuzzMRTOptions(f *testing.F) {
	f.Add(uint8(inet.MRTAddVif), vifctl(9, "10.0.1.1"), to("239.1.2.3", 9, 10))
	f.Add(uint8(inet.MRTAddMFC), mfcctl("10.0.0.2", "239.1.2.3", 0, 0, 1, 1), to("239.1.2.3", 9, 10))
	f.Add(uint8(inet.MRTDelVif), []byte{1, 0}, to("239.1.2.3", 2, 1))
	f.Add(uint8(inet.MRTAddMFC), mfcctl("10.0.0.2", "224.0.0.1", 31, 255), to("224.0.0.1", 255, 1))
	f.Fuzz(func(t *testing.T, name uint8, v, frame []byte) {
		r := newRouter(t)
		r.Send(frame)
		_ = r.set(int(name), v)
		r.Send(frame)
		_, _ = r.s.Option(inet.LevelIP, int(name))
		if err := r.RemoveInterface(r.ifs[1]); err != nil {
			t.Fatal(err)
		}
		r.Send(frame)
	})
}
