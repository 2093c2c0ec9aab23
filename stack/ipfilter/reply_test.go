package ipfilter

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"ionet/ipl"
	"ionet/stack/packet"
)

// fragment is n octets of a datagram from offset off on.
func fragment(src, dst string, proto uint8, id, off int, more bool, body []byte) []byte {
	b := ip4(src, dst, proto, body)
	f := uint16(off / 8)
	if more {
		f |= packet.IPv4MF
	}
	packet.PutIPv4(b, 0, len(b), uint16(id), f, 64, proto, netip.MustParseAddr(src), netip.MustParseAddr(dst), nil).SetChecksum()
	return b
}

func TestFragmentsFollowTheFirst(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Block, false), aRule(ipl.Pass, false, quick, udp, keepState, func(x *ipl.Rule) { x.KeepFrags = true }))
	body := make([]byte, 32)
	packet.PutUDP(body, 1025, 53, 64, 0)
	in := func(b []byte) bool { return r.send(r.en0, false, b) }
	r.want("a fragment before the first", in(fragment(inner, outer, packet.ProtoUDP, 7, 32, false, body)), false)
	r.want("the first", in(fragment(inner, outer, packet.ProtoUDP, 7, 0, true, body)), true)
	r.want("the second", in(fragment(inner, outer, packet.ProtoUDP, 7, 32, false, body)), true)
	r.want("one of another datagram", in(fragment(inner, outer, packet.ProtoUDP, 8, 32, false, body)), false)
	for range 100 {
		r.want("the first again", in(fragment(inner, outer, packet.ProtoUDP, 7, 0, true, body)), true)
	}
	if s := r.Stats().Frags; s.Active != 1 || s.Added != 1 {
		t.Errorf("the first fragment a hundred times is %d datagrams, %d added", s.Active, s.Added)
	}
	r.pass(61)
	r.want("one after its time", in(fragment(inner, outer, packet.ProtoUDP, 7, 64, false, body)), false)
	if _, err := r.env.MIB.Set("net.inet.ipf.ipfr_size", "10"); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		r.want("a first one", in(fragment(inner, outer, packet.ProtoUDP, 100+n, 0, true, body)), true)
	}
	if s := r.Stats().Frags; s.Active != 10 || s.Full != 90 {
		t.Errorf("%d datagrams, %d had to go; want 10, 90", s.Active, s.Full)
	}
}

// No fragment writes over the transport header that the rules have seen.
func TestOverlap(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Block, false), aRule(ipl.Pass, false, quick, tcp, keepState, func(x *ipl.Rule) { x.KeepFrags = true }))
	in := func(b []byte) bool { return r.send(r.en0, false, b) }
	first := make([]byte, 48)
	packet.PutTCP(first, 9, 80, 100, 0, 32, syn, 1000, 0, 0)
	r.want("a first one", in(fragment(inner, outer, packet.ProtoTCP, 7, 0, true, first)), true)
	r.want("one over the flags", in(fragment(inner, outer, packet.ProtoTCP, 7, 8, false, first[:24])), false)
	r.want("one over the options", in(fragment(inner, outer, packet.ProtoTCP, 7, 24, false, first[:24])), false)
	r.want("the next", in(fragment(inner, outer, packet.ProtoTCP, 7, 48, false, first[:24])), true)
	r.want("a tiny one", in(fragment(inner, outer, packet.ProtoTCP, 8, 0, true, first[:8])), false)
	if s := r.Stats().Frags; s.Refused != 2 {
		t.Errorf("%d refused, want 2", s.Refused)
	}
}

func TestStrictFragments(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Block, false), aRule(ipl.Pass, false, quick, udp, func(x *ipl.Rule) { x.KeepFrags, x.FragsStrict = true, true }, func(x *ipl.Rule) { x.Dst.Port = ipl.Port{Op: ipl.PortEq, Lo: 53} }))
	body := make([]byte, 32)
	packet.PutUDP(body, 1025, 53, 128, 0)
	in := func(off int) bool {
		return r.send(r.en0, false, fragment(inner, outer, packet.ProtoUDP, 7, off, true, body))
	}
	r.want("the first", in(0), true)
	r.want("the third", in(64), false)
	r.want("the second", in(32), true)
	r.want("the third, in its turn", in(64), true)
}

// six is a segment of IPv6.
func six(src, dst string, flags uint8, seq, ack uint32, n int) []byte {
	b := make([]byte, packet.IPv6Len+packet.TCPLen+n)
	packet.PutIPv6(b, 0, 0, packet.TCPLen+n, packet.ProtoTCP, 64, netip.MustParseAddr(src), netip.MustParseAddr(dst))
	packet.PutTCP(b[packet.IPv6Len:], 9, 80, seq, ack, packet.TCPLen, flags, 1000, 0, 0)
	return b
}

func TestReturnRST(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Block, false, func(x *ipl.Rule) { x.Family, x.Reply, x.Proto = ipl.AnyFamily, ipl.ReplyRST, packet.ProtoTCP }))
	for name, tc := range map[string]struct {
		b        []byte
		seq, ack uint32
		flags    uint8
		n        int
	}{
		"a SYN":                    {c2s(syn, 100, 0, 0), 0, 101, rst | ack, 1},
		"a SYN with data":          {c2s(syn, 100, 0, 7), 0, 108, rst | ack, 1},
		"an ACK":                   {c2s(ack, 100, 555, 10), 555, 0, rst, 1},
		"a FIN without ACK":        {c2s(fin, 100, 555, 0), 0, 101, rst | ack, 1},
		"a RST":                    {c2s(rst, 100, 555, 0), 0, 0, 0, 0},
		"a datagram":               {datagram(inner, outer, 1, 2), 0, 0, 0, 0},
		"a SYN of IPv6":            {six("2001:db8::1", "2001:db8::2", syn, 100, 0, 0), 0, 101, rst | ack, 1},
		"a SYN of IPv6 on a link":  {six("fe80::1", "fe80::2", syn, 100, 0, 0), 0, 101, rst | ack, 1},
		"an ACK of IPv6 with data": {six("2001:db8::1", "2001:db8::2", ack, 100, 7, 3), 7, 0, rst, 1},
	} {
		r.injected = nil
		r.send(r.en0, false, tc.b)
		if len(r.injected) != tc.n {
			t.Errorf("%s is answered by %d resets, want %d", name, len(r.injected), tc.n)
			continue
		}
		if tc.n == 0 {
			continue
		}
		b, at, src := r.injected[0], packet.IPv4Len, tc.b[12:16]
		if b[0]>>4 == 6 {
			at, src = packet.IPv6Len, tc.b[8:24]
		}
		h := packet.TCP(b[at:])
		if h.Seq() != tc.seq || h.Ack() != tc.ack || h.Flags() != tc.flags || binary.BigEndian.Uint16(b[at:]) != 80 || string(b[at-len(src):at]) != string(src) {
			t.Errorf("%s: % x", name, b)
		}
		if packet.Fold(packet.Sum(packet.HeaderPseudoSum(b, packet.ProtoTCP, packet.TCPLen), b[at:])) != 0xffff {
			t.Errorf("%s: the checksum of the reset is wrong: % x", name, b)
		}
	}
}

func TestReturnICMP(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Block, false, udp, func(x *ipl.Rule) { x.Reply = ipl.ReplyICMP }),
		aRule(ipl.Block, false, udp, func(x *ipl.Rule) { x.Reply, x.ICMPCode, x.Dst = ipl.ReplyAsDest, 9, network("192.0.2.1/32") }))
	r.want("a datagram", r.send(r.en0, false, datagram(inner, "192.0.2.2", 1, 2)), false)
	r.want("another", r.send(r.en0, false, datagram(inner, outer, 1, 2)), false)
	r.want("one to a group", r.send(r.en0, false, datagram(inner, "224.0.0.5", 1, 2)), false)
	if len(r.refused) != 2 || r.refused[0] != "3" || r.refused[1] != "9" {
		t.Errorf("answered %q, want 3 and 9", r.refused)
	}
	if n := r.Stats().In.Replies; n != 2 {
		t.Errorf("%d answers counted", n)
	}
}

// A rule's own ways are for every packet of its states, each way and once.
func TestWaysOfARule(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Pass, false, quick, udp, keepState, func(x *ipl.Rule) {
		x.If, x.DupTo = "en0", ipl.Target{If: "en1"}
		x.ReplyTo = ipl.Target{If: "en0", Addr: netip.MustParseAddr("10.0.0.9")}
	}))
	for n := range 3 {
		r.want("a question", r.forth(datagram(inner, outer, 1025, 53)), true)
		if len(r.injected) != n+1 {
			t.Fatalf("%d copies of %d questions", len(r.injected), n+1)
		}
	}
	r.injected = nil
	r.want("an answer", r.back(datagram(outer, inner, 53, 1025)), false)
	if len(r.injected) != 2 { // itself and its copy
		t.Errorf("an answer was sent %d times, want 2", len(r.injected))
	}
	r.load(aRule(ipl.Pass, false, quick, func(x *ipl.Rule) { x.To = ipl.Target{If: "en7"} }))
	r.want("one by an interface that is not there", r.forth(datagram("10.0.0.7", outer, 1025, 53)), false)
}

func TestLog(t *testing.T) {
	r := newRig(t)
	woken := 0
	r.OnLog(PacketLog, func() { woken++ })
	r.load(aRule(ipl.Log, false, udp, func(x *ipl.Rule) { x.LogTag = 9 }),
		aRule(ipl.Pass, false, quick, udp, keepState, func(x *ipl.Rule) { x.Log, x.If = &ipl.LogOption{}, "en0" }),
		aRule(ipl.Pass, false, quick, udp, keepState, func(x *ipl.Rule) { x.Log, x.If = &ipl.LogOption{First: true, Body: true}, "en1" }),
		aRule(ipl.Block, false, quick, tcp, func(x *ipl.Rule) { x.Log = &ipl.LogOption{Level: "auth.info"} }))
	events := func() (all []LogEvent) {
		records, _ := r.ReadLog(PacketLog, 100)
		for _, x := range records {
			all = append(all, x.Event)
		}
		return all
	}
	in := func(b []byte) { r.send(r.en0, false, b) }
	in(datagram(inner, outer, 1025, 53))
	in(datagram(inner, outer, 1025, 53))
	if got := events(); len(got) != 3 || got[0] != LogOnly || got[1] != LogPass || got[2] != LogPass || woken != 3 {
		t.Errorf("records %v, %d times woken; want one of the log rule and one of each packet", got, woken)
	}
	r.send(r.en1, false, datagram(inner, outer, 1026, 53))
	r.send(r.en1, false, datagram(inner, outer, 1026, 53))
	if got := events(); len(got) != 2 || got[1] != LogPass {
		t.Errorf("records %v, want those of the first packet", got)
	}
	in(c2s(syn, 1, 0, 0))
	if x, _ := r.ReadLog(PacketLog, 100); len(x) != 1 || x[0].Event != LogBlock || x[0].Level != "auth.info" || len(x[0].Packet) != 40 || x[0].If != "en0" {
		t.Errorf("%+v", x)
	}
	if _, err := r.env.MIB.Set("net.inet.ipf.logsize", "16"); err != nil {
		t.Fatal(err)
	}
	r.load(aRule(ipl.Pass, false, quick, func(x *ipl.Rule) { x.Log = &ipl.LogOption{OrBlock: true} }))
	for n := range 20 {
		r.want("a packet with or-block", r.send(r.en0, false, datagram("10.0.0.8", outer, 1, 2)), n < 16)
	}
	if x, lost := r.ReadLog(PacketLog, 100); len(x) != 16 || lost != 4 {
		t.Errorf("%d records, %d lost; want 16, 4", len(x), lost)
	}
	states, _ := r.ReadLog(StateLog, 100)
	r.FlushStates(true)
	ends, _ := r.ReadLog(StateLog, 100)
	if len(states) != 2 || states[0].Event != LogNew || len(ends) != 2 || ends[0].Event != LogRemoved {
		t.Errorf("%d states began and %d ended, want 2 of both", len(states), len(ends))
	}
}

func TestEditRefuses(t *testing.T) {
	r := newRig(t)
	one := aRule(ipl.Block, false)
	r.load(one)
	for name, tc := range map[string]struct {
		x    ipl.Rule
		want error
	}{
		"newisn with a way":        {aRule(ipl.Pass, false, tcp, func(x *ipl.Rule) { x.KeepState, x.To.If = &ipl.KeepState{NewISN: true}, "en1" }), syscall.EOPNOTSUPP},
		"a rule that is there":     {one, syscall.EEXIST},
		"a group in itself":        {aRule(ipl.Pass, false, func(x *ipl.Rule) { x.Group, x.Head = "1", "1" }), syscall.ELOOP},
		"a group that has no head": {aRule(ipl.Pass, false, func(x *ipl.Rule) { x.Group = "7" }), syscall.ESRCH},
	} {
		other := aRule(ipl.Count, false, func(x *ipl.Rule) { x.Head = "1" })
		err := r.Edit([]Op{{Kind: Add, Rule: other}, {Kind: Add, Rule: tc.x}})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if n := len(r.Rules(Active, false, false)); n != 1 {
			t.Fatalf("%s: %d rules after an edit that failed, want 1", name, n)
		}
	}
}

// Which set is in force is told; settings that let other packets pass end what the
// fast path knows.
func TestActiveSetAndGeneration(t *testing.T) {
	r := newRig(t)
	for n, want := range []string{"1", "0"} {
		if err := r.Edit([]Op{{Kind: Swap}, {Kind: Swap}, {Kind: Swap}}); err != nil {
			t.Fatal(err)
		}
		if got, _ := r.env.MIB.Get("net.inet.ipf.fr_active"); got != want {
			t.Errorf("after %d swaps: set %s, want %s", 3*n+3, got, want)
		}
	}
	for _, kv := range [][2]string{{"fr_pass", "0"}, {"fr_flags", "0x10000000"}, {"fr_flags", "0x40000000"}, {"fr_update_ipid", "1"}} {
		was := r.Generation()
		if _, err := r.env.MIB.Set("net.inet.ipf."+kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
		if r.Generation() == was {
			t.Errorf("%s=%s: the fast path is not told", kv[0], kv[1])
		}
	}
}

func TestPoolsFollowEdits(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Block, false, quick, func(x *ipl.Rule) { x.Src = ipl.Endpoint{Kind: ipl.PoolAddr, Name: "7"} }))
	in := func(src string) bool { return r.send(r.en0, false, datagram(src, outer, 1, 2)) }
	set := func(entries ...ipl.PoolEntry) {
		t.Helper()
		if err := r.EditPools([]ipl.Pool{{Kind: ipl.PoolTree, Name: "7", Entries: entries}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	r.want("no pool", in(inner), true)
	gen := r.Generation()
	set(ipl.PoolEntry{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, ipl.PoolEntry{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Not: true}, ipl.PoolEntry{Prefix: netip.MustParsePrefix("10.0.0.1/32")})
	if r.Generation() == gen {
		t.Error("the fast path is not told of a pool")
	}
	r.want("one in the pool", in(inner), false)
	r.want("one that is excepted", in("10.0.0.2"), true)
	r.want("one of the larger network", in("10.9.0.2"), false)
	r.want("one elsewhere", in("11.9.0.2"), true)
	if p := r.Pools(); len(p) != 1 || p[0].Hits != 2 {
		t.Errorf("%+v, want 2 hits", p)
	}
	set()
	r.want("one that is no longer there", in(inner), true)
	if err := r.EditPools(nil, []string{"7"}); err != nil {
		t.Fatal(err)
	}
	if err := r.EditPools([]ipl.Pool{{Kind: ipl.PoolTree, Name: "8"}}, []string{"7"}); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("a pool was deleted twice: %v", err)
	}
	great := ipl.Pool{Kind: ipl.PoolTree, Name: "9", Entries: make([]ipl.PoolEntry, maxPoolEntries+1)}
	if err := r.EditPools([]ipl.Pool{{Kind: ipl.PoolTree, Name: "8"}, great}, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a pool that is too great: %v", err)
	}
	if p := r.Pools(); len(p) != 0 {
		t.Errorf("a change that failed left %+v", p)
	}
}
