package ipfilter

import (
	"net/netip"
	"testing"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// hits are those of the rules of a direction.
func (r *rig) hits(out bool) (all []uint64) {
	for _, x := range r.Rules(Active, out, false) {
		all = append(all, x.Hits)
	}
	return all
}

func (r *rig) wantHits(what string, out bool, want ...uint64) {
	r.Helper()
	got := r.hits(out)
	for n := range want {
		if n >= len(got) || got[n] != want[n] {
			r.Errorf("%s: hits %v, want %v", what, got, want)
			return
		}
	}
}

// Rules that count are asked about every packet: those of states, those behind a quick
// rule, those that are blocked as they come in; of what goes out those that pass.
func TestCountRulesSeeEverything(t *testing.T) {
	r := newRig(t)
	loadText(t, r, `
block in quick proto 99 all
pass in quick on en0 proto udp all keep state
count in all
count in all with state
count in all with not state
skip 1 in proto 98 all
count in proto 98 all
pass in quick proto 98 all
block in quick proto 98 all
pass out all
count out all
count out proto udp all head 7
count out proto udp from any port = 53 to any group 7
block out quick proto 97 all
`)
	for range 3 {
		r.want("a question", r.forth(datagram(inner, outer, 1025, 53)), true)
	}
	r.want("a blocked one", r.forth(ip4(inner, outer, 99, nil)), false)
	r.want("one that skips the rule that lets it pass, the counting one not counted", r.forth(ip4(inner, outer, 98, nil)), false)
	r.want("one that is blocked as it leaves", r.send(r.en1, true, ip4(inner, outer, 97, nil)), false)
	r.want("an answer", r.send(r.en0, true, datagram(outer, inner, 53, 1025)), true)
	r.wantHits("in", false, 1, 1, 5, 2, 3, 1, 1, 0, 1)
	r.wantHits("out", true, 1, 4, 4, 1, 1)
}

// On the fast path they count what they count on the slow one.
func TestCountRulesOnTheFastPath(t *testing.T) {
	slow, fast := newRig(t), &cache{rig: newRig(t)}
	for _, r := range []*rig{slow, fast.rig} {
		loadText(t, r, "pass in quick on en0 proto udp all keep state\ncount in all\ncount out from any to 192.0.2.0/24\ncount in all with state\ncount in all with not state\nblock in all")
	}
	for range 5 {
		slow.forth(datagram(inner, outer, 1025, 53))
		fast.forward(datagram(inner, outer, 1025, 53), false)
		slow.back(datagram(outer, inner, 53, 1025))
		fast.forward(datagram(outer, inner, 53, 1025), true)
	}
	if got, want := fast.all(), slow.all(); got != want {
		t.Errorf("%s\nthe hooks have\n%s", got, want)
	}
	if fast.took < 6 {
		t.Errorf("%d packets took the fast path", fast.took)
	}
	loadText(t, fast.rig, "pass in quick on en0 proto udp all keep state\ncount in all with lowttl")
	was := fast.took
	for range 3 {
		fast.forward(datagram(inner, outer, 1025, 53), false)
	}
	if fast.took != was {
		t.Error("a rule that counts packets by their time to live did not see each")
	}
}

// refuser is a translator that has no port left for datagrams.
type refuser struct{}

func (refuser) refuse(i *pfil.Info) pfil.Verdict {
	if i.Proto == packet.ProtoUDP {
		return pfil.Refused
	}
	return pfil.Untouched
}
func (t refuser) In(_ *netif.Work, i *pfil.Info) pfil.Verdict  { return t.refuse(i) }
func (t refuser) Out(_ *netif.Work, i *pfil.Info) pfil.Verdict { return t.refuse(i) }
func (refuser) Track(*netif.Work, *netif.Interface, *netif.Interface, *pfil.Flow, *packet.Buf) (pfil.Tracker, bool) {
	return nil, false
}
func (refuser) Generation() uint64 { return 0 }

// What the translator refuses goes no further whatever rules say; those with bad-nat
// count it, write it down and answer it.
func TestBadNAT(t *testing.T) {
	r := newRig(t)
	r.nat = refuser{}
	loadText(t, r, `
pass in quick all
count in all with bad-nat
block return-icmp(port-unr) in log quick on en0 all with bad-nat
block return-icmp(host-unr) in quick all with bad-nat
pass out quick all
pass out quick all with bad-nat
`)
	r.want("a datagram", r.send(r.en0, false, datagram(inner, outer, 1, 2)), false)
	r.want("one elsewhere", r.send(r.en1, false, datagram(inner, outer, 1, 2)), false)
	r.want("one that leaves", r.send(r.en1, true, datagram(inner, outer, 1, 2)), false)
	r.want("another protocol", r.send(r.en0, false, ip4(inner, outer, 99, nil)), true)
	r.wantHits("in", false, 1, 2, 1, 1)
	r.wantHits("out", true, 1, 1)
	if len(r.refused) != 2 || r.refused[0] != "3" || r.refused[1] != "1" {
		t.Errorf("answered %q, want 3 and 1", r.refused)
	}
	if x, _ := r.ReadLog(PacketLog, 9); len(x) != 1 || x[0].Event != LogBlock {
		t.Errorf("%+v", x)
	}
	if n := r.w.Env.MIB.Count(cntBadNAT); n != 3 {
		t.Errorf("%d packets counted that were not translated, want 3", n)
	}
}

// The names of IPv4's options, and their numbers in IANA's registry.
func TestOptionNames(t *testing.T) {
	for name, typ := range map[string]uint8{"nop": 1, "rr": 7, "zsu": 10, "mtup": 11, "mtur": 12, "encode": 15, "ts": 68, "tr": 82, "sec": 130, "lsrr": 131,
		"e-sec": 133, "cipso": 134, "satid": 136, "ssrr": 137, "visa": 142, "imitd": 144, "eip": 145, "addext": 147, "rtralrt": 148, "sdb": 149, "nsapa": 150,
		"dps": 151, "ump": 152, "finn": 205} {
		if _, err := ipl.Parse("t", []byte("block in all with opt "+name), ipl.Options{}); err != nil {
			t.Error(err)
		}
		for other, o := range optionNames {
			r := newRig(t)
			loadText(t, r, "block in all with opt "+other)
			opt := []byte{o, 2, 1, 1}
			if o = typ; o == 1 {
				opt = []byte{1, 1, 1, 1}
			} else {
				opt[0] = typ
			}
			r.want(name+" asked for "+other, r.send(r.en0, false, withOptions(opt)), name != other && other != "nop")
		}
	}
	r := newRig(t)
	loadText(t, r, "block in all with opt sec-class secret")
	r.want("secret", r.send(r.en0, false, withOptions([]byte{130, 3, 0x5a, 1})), false)
	r.want("top secret", r.send(r.en0, false, withOptions([]byte{130, 3, 0x3d, 1})), true)
	r.want("no level", r.send(r.en0, false, withOptions([]byte{130, 2, 1, 1})), true)
}

func withOptions(opts []byte) []byte {
	b := make([]byte, packet.IPv4Len+len(opts))
	packet.PutIPv4(b, 0, len(b), 1, 0, 64, 99, netip.MustParseAddr(inner), netip.MustParseAddr(outer), opts).SetChecksum()
	return b
}

// An error may quote a packet with extension headers; a later fragment says nothing of ports.
func TestErrorsBehindExtensionHeaders(t *testing.T) {
	const here, there = "2001:db8::1", "2001:db8::2"
	r := newRig(t)
	r.load(aRule(ipl.Block, false, func(x *ipl.Rule) { x.Family = ipl.Inet6 }),
		aRule(ipl.Pass, false, quick, tcp, keepState, func(x *ipl.Rule) { x.Family, x.If = ipl.Inet6, "en0" }))
	r.want("SYN", r.forth(six(here, there, syn, 100, 0, 0)), true)
	q := six(here, there, syn, 100, 0, 0)
	about := func(next uint8, ext ...byte) []byte {
		q := append(append(append([]byte(nil), q[:packet.IPv6Len]...), ext...), q[packet.IPv6Len:]...)
		q[6] = next
		packet.IPv6(q).SetPayloadLen(len(q) - packet.IPv6Len)
		b := make([]byte, packet.IPv6Len+8+len(q))
		packet.PutIPv6(b, 0, 0, 8+len(q), packet.ProtoICMPv6, 64, netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr(here))
		b[packet.IPv6Len] = 2
		copy(b[packet.IPv6Len+8:], q)
		return b
	}
	pad := func(next uint8) []byte { return []byte{next, 0, packet.OptPadN, 4, 0, 0, 0, 0} }
	frag := func(off byte) []byte { return []byte{packet.ProtoTCP, 0, 0, off | 1, 0, 0, 0, 9} }
	r.want("with hop-by-hop options", r.back(about(packet.ProtoHopByHop, pad(packet.ProtoTCP)...)), true)
	r.want("with two kinds of options", r.back(about(packet.ProtoHopByHop, append(pad(packet.ProtoDstOpts), pad(packet.ProtoTCP)...)...)), true)
	r.want("a first fragment", r.back(about(packet.ProtoFragment, frag(0)...)), true)
	r.want("a later fragment", r.back(about(packet.ProtoFragment, frag(8)...)), false)
	r.want("cut off in its options", r.back(about(packet.ProtoDstOpts, packet.ProtoTCP, 200, 1, 4, 0, 0, 0, 0)), false)
	if n := r.Stats().States.OutOfWindow; n != 0 {
		t.Errorf("%d errors were taken as forged", n)
	}
}
