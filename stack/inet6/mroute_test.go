package inet6_test

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

	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/socket"
	"ionet/stack/stacktest"
)

// mcast is a bench with four links and a routing daemon's socket: mif i is en<i>.
type mcast struct {
	*bench
	s   *sock
	ifs [4]*netif.Interface
}

func newRouter(t testing.TB) *mcast {
	r := &mcast{bench: newBench(t)}
	en0 := r.If
	r.ifs[0] = en0
	for i := 1; i < 4; i++ {
		r.If = r.AddIf(fmt.Sprint("en", i), netif.MAC{2, 0, 0, 0, byte(i), 1}, "")
		r.ifs[i] = r.If
		addr6(r.Rig, fmt.Sprintf("fe80::%d1/64", i))
		addr6(r.Rig, fmt.Sprintf("2001:db8:%d::1/64", i))
	}
	r.If = en0
	r.Pass(10 * time.Second)
	r.s = r.socket(socket.Raw, packet.ProtoICMPv6, true)
	r.s.must(inet6.MRT6Init, i32(1))
	for i, ifp := range r.ifs {
		r.s.must(inet6.MRT6AddMif, mif6ctl(i, ifp.Index))
	}
	r.Sent()
	return r
}

func mif6ctl(i int, index uint32) []byte { return []byte{byte(i), 0, 0, 0, byte(index), 0} }

func mf6cctl(src, dst string, parent int, mifs ...int) []byte {
	b := append(sockaddr(src, 0), sockaddr(dst, 0)...)
	b = append(binary.LittleEndian.AppendUint16(b, uint16(parent)), 0, 0)
	set := make([]byte, 32)
	for _, i := range mifs {
		set[i/8] |= 1 << (i % 8)
	}
	return append(b, set...)
}

// heard is what left besides MLD, in order of interface, as "en1 ff0e::5 hlim 7 len 12".
func (r *mcast) heard() (out []string) {
	for _, f := range r.Sent() {
		h, ok := packet.CheckIPv6(f[packet.EtherLen:])
		if !ok || mld(f) != "" {
			continue
		}
		if to := netif.MAC(f[:6]); h.Dst().IsMulticast() && to != netif.GroupMAC(h.Dst()) {
			r.Errorf("to %v", to)
		}
		s := fmt.Sprintf("en%d %v hlim %d len %d", f[10], h.Dst(), h.HopLimit(), h.PayloadLen())
		if h.Next() == packet.ProtoICMPv6 {
			s = fmt.Sprintf("en%d %s", f[10], stacktest.DescribeIP6(h))
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
	m, err := r.s.recv()
	if err != nil {
		return err.Error()
	}
	b := m.Data
	if len(b) != 40 || b[0] != 0 || m.Addr.IP != netip.AddrFrom16([16]byte(b[8:24])) {
		return fmt.Sprintf("from %v: % x", m.Addr.IP, b)
	}
	return fmt.Sprintf("%d mif %d %v > %v", b[1], binary.LittleEndian.Uint16(b[2:]), m.Addr.IP, netip.AddrFrom16([16]byte(b[24:40])))
}

// from is a packet to a group in a frame.
func from(src, dst string, hlim uint8, n int) []byte {
	b := make([]byte, packet.EtherLen+packet.IPv6Len+n)
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	packet.PutEther(b, netif.GroupMAC(d), stacktest.Peer, packet.EtherIPv6)
	packet.PutIPv6(b[packet.EtherLen:], 0, 0, n, packet.ProtoUDP, hlim, s, d)
	return b
}

const nothing = "resource temporarily unavailable"

func TestMulticastForwarding(t *testing.T) {
	r := newRouter(t)
	r.s.must(inet6.IPv6RecvPktInfo, i32(1))
	r.Counts("mroute6", "upcalls", func() { r.Send(from(there, "ff0e::5", 9, 10), from(there, "ff0e::5", 3, 11)) })
	r.expect()
	if got := r.upcall(); got != "1 mif 0 2001:db8::2 > ff0e::5" {
		t.Error(got)
	}
	if got := r.upcall(); got != nothing {
		t.Error(got)
	}
	r.s.must(inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 0, 0, 1, 3))
	r.expect("en1 ff0e::5 hlim 8 len 10", "en1 ff0e::5 hlim 2 len 11", "en3 ff0e::5 hlim 8 len 10", "en3 ff0e::5 hlim 2 len 11")
	r.s.must(inet6.MRT6PIM, i32(1))
	r.s.must(inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 1, 0, 2))
	r.Counts("mroute6", "wrong interface", func() { r.Send(from(there, "ff0e::5", 9, 10)) })
	if got := r.upcall(); got != "2 mif 0 2001:db8::2 > ff0e::5" {
		t.Error(got)
	}
	r.s.must(inet6.MRT6DelMFC, mf6cctl(there, "ff0e::5", 0))
	r.Counts("mroute6", "no answer to upcall", func() {
		r.Send(from(there, "ff0e::5", 9, 10))
		r.Pass(2 * time.Second)
	})
	r.expect()
}

// Groups and sources of a link stay there, and what is from nobody.
func TestNotForwardedToGroups(t *testing.T) {
	r := newRouter(t)
	for _, f := range [][]byte{
		from(there, "ff02::5", 9, 8),
		from(there, "ff00::5", 9, 8),
		from("fe80::2", "ff0e::5", 9, 8),
		from("::", "ff0e::5", 9, 8),
		from(there, "ff0e::5", 1, 8),
	} {
		before := stacktest.Counter(r.Stack, "mroute6", "lookups")
		r.Send(f)
		if stacktest.Counter(r.Stack, "mroute6", "lookups") != before {
			t.Errorf("looked up: % x", f)
		}
	}
	r.expect()
	if got := r.upcall(); got != nothing {
		t.Error(got)
	}
}

// The sender of what is too large for a link is told, and others have it whole.
func TestMulticastTooBig(t *testing.T) {
	r := newRouter(t)
	r.s.must(inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 0, 1, 2))
	if err := r.SetMTU(r.ifs[1], 1280, 1500); err != nil {
		t.Fatal(err)
	}
	r.Counts("mroute6", "too large", func() { r.Send(from(there, "ff0e::5", 9, 1300)) })
	r.expect("en0 2001:db8::1 > 2001:db8::2 too-big mtu 1280 quotes 2001:db8::2 > ff0e::5 proto 17 len 1192", "en2 ff0e::5 hlim 8 len 1300")
}

func TestMembersHere(t *testing.T) {
	r := newRouter(t)
	r.s.must(inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 0, 1, 2))
	for _, ifp := range []*netif.Interface{r.ifs[0], r.ifs[2]} {
		u := r.udp()
		u.bind(9)
		u.must(inet6.IPv6JoinGroup, pktinfo("ff0e::5", ifp.Index))
		r.Sent()
		r.Send(datagram("ff0e::5", 9))
		r.expect("en1 ff0e::5 hlim 32 len 13", "en2 ff0e::5 hlim 32 len 13")
		if m, err := u.recv(); err != nil || string(m.Data) != "hello" {
			t.Errorf("%s: %v %q", ifp.Name, err, m.Data)
		}
		if _, err := u.recv(); err == nil {
			t.Errorf("%s: once more", ifp.Name)
		}
		u.close()
	}
	r.s.must(inet6.MRT6AddMFC, mf6cctl("2001:db8:3::1", "ff0e::5", 3, 0))
	u := r.udp()
	u.must(inet6.IPv6MulticastIf, i32(int(r.ifs[3].Index)))
	u.must(inet6.IPv6MulticastHops, i32(4))
	r.Sent()
	if err := r.Do(func(w *netif.Work) error {
		_, err := u.Send(w, &socket.Msg{Addr: socket.Addr{IP: netip.MustParseAddr("ff0e::5"), Port: 9}, Data: []byte("ours")})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.expect("en0 ff0e::5 hlim 3 len 12", "en3 ff0e::5 hlim 4 len 12")
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
	r.s.must(inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 0, 1, 2, 3))
	hook := new(pfil.Hook)
	hook.Set(filter{block: r.ifs[2]})
	r.Inet6.SetHook(hook)
	r.Send(from(there, "ff0e::5", 9, 10))
	r.expect("en1 ff0e::5 hlim 8 len 10", "en3 ff0e::5 hlim 8 len 10")
}

// The daemon hears MLD about every group.
func TestDaemonHearsMLD(t *testing.T) {
	r := newRouter(t)
	m := packet.PutMLD(make([]byte, packet.MLDLen), packet.ICMP6MLDReport, netip.MustParseAddr("ff0e::5"))
	r.Send(message{dst: "ff0e::5", data: m}.frame())
	if got, err := r.s.recv(); err != nil || string(got.Data) != string(m) {
		t.Errorf("%v % x", err, got.Data)
	}
	r.s.must(inet6.MRT6Done, nil)
	r.Counts("ip6", "no such group", func() { r.Send(message{dst: "ff0e::5", data: m}.frame()) })
}

func TestMRT6Options(t *testing.T) {
	r := newRouter(t)
	for _, c := range []struct {
		name int
		v    []byte
		want error
	}{
		{inet6.MRT6Init, i32(1), syscall.EADDRINUSE},
		{inet6.MRT6Init, i32(2), syscall.ENOPROTOOPT},
		{inet6.MRT6Init, nil, syscall.EINVAL},
		{inet6.MRT6AddMif, mif6ctl(1, 2), syscall.EADDRINUSE},
		{inet6.MRT6AddMif, mif6ctl(32, 2), syscall.EINVAL},
		{inet6.MRT6AddMif, mif6ctl(9, 99), syscall.ENXIO},
		{inet6.MRT6AddMif, []byte{9, 0, 1, 0, 2, 0}, syscall.EOPNOTSUPP}, // register
		{inet6.MRT6AddMif, mif6ctl(9, 2)[1:], syscall.EINVAL},
		{inet6.MRT6DelMif, []byte{9, 0}, syscall.EADDRNOTAVAIL},
		{inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 32), syscall.EINVAL},
		{inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 0, 32), syscall.EINVAL},
		{inet6.MRT6AddMFC, mf6cctl(there, there, 0), syscall.EINVAL},
		{inet6.MRT6AddMFC, mf6cctl(there, "ff0e::5", 0)[1:], syscall.EINVAL},
		{inet6.MRT6AddMFC, make([]byte, 92), syscall.EINVAL},
		{inet6.MRT6DelMFC, mf6cctl(there, "ff0e::5", 0), syscall.EADDRNOTAVAIL},
		{106, i32(1), syscall.EINVAL},
	} {
		if err := r.s.set(c.name, c.v); !errors.Is(err, c.want) {
			t.Errorf("%d % x: %v, want %v", c.name, c.v, err, c.want)
		}
	}
	if v := r.s.get(inet6.MRT6PIM); v[0] != 0 {
		t.Error(v)
	}
	if err := r.udp().set(inet6.MRT6Init, i32(1)); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Error(err)
	}
	other := r.socket(socket.Raw, packet.ProtoICMPv6, true)
	if err := other.set(inet6.MRT6Done, nil); !errors.Is(err, syscall.ENOPROTOOPT) {
		t.Error(err)
	}
	r.s.close()
	if m := r.Inet6.Multicast(); m.Active() || len(m.Vifs())+len(m.Entries()) != 0 || r.If.Flags()&netif.FlagAllMulti != 0 {
		t.Error("something is left after the daemon's socket was closed")
	}
	other.must(inet6.MRT6Init, i32(1))
}

// The decision about each packet is that of a slow model, whatever the daemon says in between.
func TestMulticastDecision(t *testing.T) {
	type rule struct {
		parent int
		out    []int
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRouter(t)
		defer r.s.close()
		mifs := [4]bool{true, true, true, true}
		rules := map[[2]string]rule{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			g := rapid.SampledFrom([]string{"ff0e::5", "ff05::5", "ff02::5", "ff08::5"}).Draw(rt, "group")
			src := rapid.SampledFrom([]string{there, "2001:db8::3", "fe80::2"}).Draw(rt, "source")
			i := rapid.IntRange(0, 3).Draw(rt, "interface")
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				if mifs[i] {
					r.s.must(inet6.MRT6DelMif, []byte{byte(i), 0})
				} else {
					r.s.must(inet6.MRT6AddMif, mif6ctl(i, r.ifs[i].Index))
				}
				mifs[i] = !mifs[i]
			case 1, 2:
				x := rule{i, rapid.SliceOfDistinct(rapid.IntRange(0, 3), rapid.ID[int]).Draw(rt, "out")}
				r.s.must(inet6.MRT6AddMFC, mf6cctl(src, g, i, x.out...))
				rules[[2]string{src, g}] = x
			case 3:
				if _, ok := rules[[2]string{src, g}]; ok {
					r.s.must(inet6.MRT6DelMFC, mf6cctl(src, g, 0))
				}
				delete(rules, [2]string{src, g})
			default:
				hlim := rapid.SampledFrom([]uint8{1, 2, 255}).Draw(rt, "hop limit")
				var want []string
				x, ok := rules[[2]string{src, g}]
				if ok && mifs[i] && x.parent == i && hlim > 1 && g != "ff02::5" && src != "fe80::2" {
					for k := range r.ifs {
						if slices.Contains(x.out, k) && mifs[k] && k != i {
							want = append(want, fmt.Sprintf("en%d %s hlim %d len 8", k, g, hlim-1))
						}
					}
				}
				r.SendOn(r.ifs[i], from(src, g, hlim, 8))
				if got := r.heard(); !slices.Equal(got, want) {
					rt.Fatalf("a packet from %s to %s with hop limit %d on en%d: sent %v, want %v", src, g, hlim, i, got, want)
				}
			}
			r.Pass(2 * time.Second) // what waits does not come into it
			r.Sent()
		}
	})
}
