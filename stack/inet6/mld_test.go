package inet6_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/stacktest"
)

// listener is a rig with en0, which has fe80::1 already.
func listener(t testing.TB) *stacktest.Rig {
	r := stacktest.Bare(t, stacktest.Dual)
	r.Sysctl("net.inet6.ip6.dad_count", "0")
	r.If = r.AddIf("en0", stacktest.Me, "")
	addr6(r, "fe80::1/64")
	r.Pass(10 * time.Second)
	r.Sent()
	return r
}

func addr6(r *stacktest.Rig, addr string) {
	p := netip.MustParsePrefix(addr)
	if err := r.AddAddr(r.If, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
		r.Fatal(err)
	}
}

// join and leave are the stack's own.
func join(r *stacktest.Rig, group string) {
	_ = r.Do(func(w *netif.Work) error { r.Inet6.JoinGroup(w, r.If, netip.MustParseAddr(group)); return nil })
}

func leave(r *stacktest.Rig, group string) {
	_ = r.Do(func(w *netif.Work) error { r.Inet6.LeaveGroup(w, r.If, netip.MustParseAddr(group)); return nil })
}

var recordNames = [...]string{"?", "is-in", "is-ex", "to-in", "to-ex", "allow", "block"}

// mld is what MLD says in a frame, or "" if it is none; what is wrong with it
// too.
func mld(f []byte) string {
	h, ok := packet.CheckIPv6(f[packet.EtherLen:])
	if !ok || h.Next() != packet.ProtoHopByHop {
		return ""
	}
	e, _ := packet.CheckExt(h.Payload())
	m := packet.ICMP6(h.Payload()[len(e):])
	s := fmt.Sprintf("%v > %v ", h.Src(), h.Dst())
	switch {
	case e.Next() != packet.ProtoICMPv6:
		return ""
	case h.HopLimit() != 1 || !packet.HasRouterAlert(h):
		s += "not to be believed "
	case !m.ChecksumOK(h.Src(), h.Dst()):
		s += "bad sum "
	case netif.MAC(packet.Ether(f).Dst()) != netif.GroupMAC(h.Dst()):
		s += "to the wrong station "
	}
	switch m.Type() {
	case packet.ICMP6MLDReport:
		return s + "report " + packet.MLD(m).Group().String()
	case packet.ICMP6MLDDone:
		return s + "done " + packet.MLD(m).Group().String()
	case packet.ICMP6MLDv2Report:
		n := 0
		var recs []string
		for rest := []byte(m[packet.MLDReport2Len:]); len(rest) > 0; n++ {
			typ, group, sources, next, ok := packet.NextMLDRecord(rest)
			if !ok {
				return s + "malformed"
			}
			r := recordNames[typ] + "(" + group.String()
			for _, a := range sources {
				r += " " + a.String()
			}
			recs, rest = append(recs, r+")"), next
		}
		if n != int(binary.BigEndian.Uint16(m[6:])) {
			return s + "miscounted"
		}
		return s + strings.Join(recs, " ")
	}
	return s + fmt.Sprint("type ", m.Type())
}

// says compares the reports that have been sent.
func says(r *stacktest.Rig, want ...string) {
	r.Helper()
	var got []string
	for _, f := range r.Sent() {
		if s := mld(f); s != "" {
			got = append(got, s)
		}
	}
	if !slices.Equal(got, want) {
		r.Fatalf("said:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// message is one of MLD from fe80::2, as it belongs.
type message struct {
	src, dst string
	hlim     uint8
	noAlert  bool
	data     []byte
}

func (m message) frame() []byte {
	src, dst := netip.MustParseAddr("fe80::2"), netip.MustParseAddr(m.dst)
	if m.src != "" {
		src = netip.MustParseAddr(m.src)
	}
	if m.hlim == 0 {
		m.hlim = 1
	}
	packet.ICMP6(m.data).SetChecksum(src, dst)
	ext := packet.RouterAlert
	ext[0] = packet.ProtoICMPv6
	if m.noAlert {
		ext = [8]byte{0: packet.ProtoICMPv6, 2: packet.OptPadN, 3: 4}
	}
	b := make([]byte, packet.EtherLen+packet.IPv6Len)
	to := netif.GroupMAC(dst)
	if !dst.IsMulticast() {
		to = stacktest.Me
	}
	packet.PutEther(b, to, stacktest.Peer, packet.EtherIPv6)
	packet.PutIPv6(b[packet.EtherLen:], 0, 0, len(ext)+len(m.data), packet.ProtoHopByHop, m.hlim, src, dst)
	return append(append(b, ext[:]...), m.data...)
}

// query asks, of version 2 unless n is negative, with ms for the answers.
func query(group string, ms uint16, n int, sources ...string) []byte {
	b := make([]byte, packet.MLDQuery2Len)
	if n < 0 {
		b = b[:packet.MLDLen]
	}
	packet.PutMLD(b, packet.ICMP6MLDQuery, netip.MustParseAddr(group))
	binary.BigEndian.PutUint16(b[4:], ms)
	if n >= 0 {
		b[24], b[25] = 2, 125
		binary.BigEndian.PutUint16(b[26:], uint16(len(sources)))
		for _, s := range sources {
			b = append(b, netip.MustParseAddr(s).AsSlice()...)
		}
	}
	return b
}

func general(ms uint16, n int) message { return message{dst: "ff02::1", data: query("::", ms, n)} }

func TestMLDv2(t *testing.T) {
	r := listener(t)
	const me = "fe80::1 > ff02::16 "
	join(r, "ff0e::1")
	says(r, me+"to-ex(ff0e::1)")
	join(r, "ff0e::1") // counted
	r.Pass(10 * time.Second)
	says(r, me+"to-ex(ff0e::1)")
	leave(r, "ff0e::1")
	r.Pass(10 * time.Second)
	says(r)
	for _, g := range []string{"ff02::1", "ff01::5", "ff00::5"} { // no router's business
		join(r, g)
	}
	r.Pass(10 * time.Second)
	says(r)
	r.Send(general(1000, 0).frame())
	r.Pass(time.Second)
	says(r, me+"is-ex(ff02::1:ff00:1) is-ex(ff0e::1)")
	r.Send(message{dst: "ff0e::1", data: query("ff0e::1", 1000, 1, "2001:db8::7")}.frame())
	r.Pass(time.Second)
	says(r, me+"is-in(ff0e::1 2001:db8::7)")
	r.Send(message{dst: "ff02::1:ff00:1", data: query("ff02::1:ff00:1", 1000, 0)}.frame())
	r.Pass(time.Second)
	says(r, me+"is-ex(ff02::1:ff00:1)")
	leave(r, "ff0e::1")
	r.Pass(10 * time.Second)
	says(r, me+"to-in(ff0e::1)", me+"to-in(ff0e::1)")
	if n := len(r.Inet6.Groups()); n == 0 || r.Inet6.Groups()[0].Members < 1 {
		t.Error(r.Inet6.Groups())
	}
}

// A router of version 1 is spoken to in its language, and another host's report
// is one less to send (RFC 3810 §8).
func TestMLDv1(t *testing.T) {
	r := listener(t)
	r.Send(general(1000, -1).frame())
	r.Pass(time.Second)
	says(r, "fe80::1 > ff02::1:ff00:1 report ff02::1:ff00:1")
	join(r, "ff0e::1")
	says(r, "fe80::1 > ff0e::1 report ff0e::1")
	r.Pass(20 * time.Second)
	says(r, "fe80::1 > ff0e::1 report ff0e::1")
	other := message{dst: "ff0e::1", data: make([]byte, packet.MLDLen)}
	packet.PutMLD(other.data, packet.ICMP6MLDReport, netip.MustParseAddr("ff0e::1"))
	r.Send(general(10000, -1).frame(), other.frame())
	r.Pass(20 * time.Second)
	says(r, "fe80::1 > ff02::1:ff00:1 report ff02::1:ff00:1")
	leave(r, "ff0e::1") // the last to report was another
	says(r)
	join(r, "ff0e::2")
	leave(r, "ff0e::2")
	r.Pass(20 * time.Second)
	says(r, "fe80::1 > ff0e::2 report ff0e::2", "fe80::1 > ff02::2 done ff0e::2")
	r.Pass(300 * time.Second) // the old router is gone
	join(r, "ff0e::3")
	r.Pass(10 * time.Second)
	says(r, "fe80::1 > ff02::16 to-ex(ff0e::3)", "fe80::1 > ff02::16 to-ex(ff0e::3)")
}

// Before there is a link-local address reports come from nobody; when there is one,
// everything is said again (RFC 3810 §5.2.13, RFC 3590).
func TestMLDWithoutAddress(t *testing.T) {
	r := stacktest.Bare(t, stacktest.Dual)
	r.Sysctl("net.inet6.ip6.dad_count", "0")
	r.If = r.AddIf("en0", stacktest.Me, "")
	addr6(r, "2001:db8::1/64")
	says(r, ":: > ff02::16 to-ex(ff02::1:ff00:1)")
	r.Pass(10 * time.Second)
	says(r, ":: > ff02::16 to-ex(ff02::1:ff00:1)")
	addr6(r, "fe80::9/64")
	r.Pass(10 * time.Second)
	got := r.Sent()
	got = slices.DeleteFunc(got, func(f []byte) bool { return mld(f) == "" })
	if n := len(got); n < 2 || !strings.HasPrefix(mld(got[n-1]), "fe80::9 > ") {
		for _, f := range got {
			t.Error(mld(f))
		}
	}
	if !slices.ContainsFunc(got, func(f []byte) bool {
		return mld(f) == "fe80::9 > ff02::16 to-ex(ff02::1:ff00:1) to-ex(ff02::1:ff00:9)"
	}) {
		t.Error("not all is said again")
	}
	if err := r.DelAddr(r.If, netip.MustParseAddr("2001:db8::1")); err != nil {
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	says(r, "fe80::9 > ff02::16 to-in(ff02::1:ff00:1)", "fe80::9 > ff02::16 to-in(ff02::1:ff00:1)")
}

// Who is not on the link, or asks what makes no sense, gets no answer.
func TestMLDQueriesThatAreNotBelieved(t *testing.T) {
	r := listener(t)
	long := query("::", 1000, 0)
	for name, m := range map[string]message{
		"from elsewhere":       {src: "2001:db8::2", dst: "ff02::1", data: query("::", 1000, 0)},
		"from nobody":          {src: "::", dst: "ff02::1", data: query("::", 1000, 0)},
		"through a router":     {dst: "ff02::1", hlim: 2, data: query("::", 1000, 0)},
		"without router alert": {dst: "ff02::1", noAlert: true, data: query("::", 1000, 0)},
		"about a host":         {dst: "ff02::1", data: query("fe80::1", 1000, 0)},
		"about another group":  {dst: "ff02::1:ff00:1", data: query("ff0e::1", 1000, 0)},
		"about all to one":     {dst: "ff02::1:ff00:1", data: query("::", 1000, 0)},
		"report from nobody":   {src: "::", dst: "ff02::1:ff00:1", data: append([]byte{packet.ICMP6MLDReport}, query("ff02::1:ff00:1", 0, -1)[1:]...)},
	} {
		t.Log(name)
		r.Counts("mld6", "bad", func() { r.Send(m.frame()) })
	}
	for _, n := range []int{packet.MLDLen - 1, packet.MLDLen + 1, packet.MLDQuery2Len - 1} {
		r.Counts("mld6", "too short", func() { r.Send(message{dst: "ff02::1", data: slices.Clone(long[:n])}.frame()) })
	}
	lying := query("::", 1000, 0, "2001:db8::1")
	lying[27] = 2
	r.Counts("mld6", "too short", func() { r.Send(message{dst: "ff02::1", data: lying}.frame()) })
	r.Pass(time.Minute)
	says(r)
	r.Counts("mld6", "queries", func() { r.Send(message{dst: "fe80::1", data: query("::", 1000, 0)}.frame()) }) // somebody looks for faults
	r.Pass(time.Second)
	says(r, "fe80::1 > ff02::16 is-ex(ff02::1:ff00:1)")
	r.Counts("mld6", "dones received", func() {
		r.Send(message{dst: "ff02::2", data: query("ff0e::1", 0, -1)}.frame()) // not for us: nobody here is a router
		r.Send(message{dst: "ff02::1", data: append([]byte{packet.ICMP6MLDDone}, query("ff0e::1", 0, -1)[1:]...)}.frame())
	})
}

// What an interface misses while it is down is said when it comes up; one that
// leaves says nothing more.
func TestMLDInterface(t *testing.T) {
	r := listener(t)
	if err := r.SetFlags(r.If, 0, netif.FlagUp); err != nil {
		t.Fatal(err)
	}
	join(r, "ff0e::1")
	r.Pass(10 * time.Second)
	says(r)
	if err := r.SetFlags(r.If, netif.FlagUp, 0); err != nil {
		t.Fatal(err)
	}
	says(r, "fe80::1 > ff02::16 to-ex(ff02::1:ff00:1) to-ex(ff0e::1)")
	r.RemoveInterface(r.If)
	r.Pass(10 * time.Second)
	says(r)
	if n := r.If.Groups(); n != 0 {
		t.Errorf("the link still listens to %d groups", n)
	}
}

// FuzzMLD: whatever comes, every buffer is given back, and every timer ends.
func FuzzMLD(f *testing.F) {
	f.Add(query("::", 1000, 0), uint8(0))
	f.Add(query("ff0e::1", 0xffff, 1, "2001:db8::7"), uint8(1))
	f.Add(query("ff0e::1", 10, -1), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, how uint8) {
		if len(data) < 4 || len(data) > 1400 {
			return
		}
		r := listener(t)
		join(r, "ff0e::1")
		m := message{dst: [...]string{"ff02::1", "ff0e::1", "fe80::1", "ff02::1:ff00:1"}[how&3], data: data}
		data[0] = [...]byte{packet.ICMP6MLDQuery, packet.ICMP6MLDReport, packet.ICMP6MLDDone, packet.ICMP6MLDv2Report}[how>>2&3]
		r.Send(m.frame(), general(100, -1).frame(), m.frame())
		r.Pass(time.Minute)
		for _, f := range r.Sent() {
			if s := mld(f); strings.Contains(s, "malformed") || strings.Contains(s, "miscounted") || strings.Contains(s, "bad") {
				t.Error(s)
			}
		}
		r.RemoveInterface(r.If)
	})
}
