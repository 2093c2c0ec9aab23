package sim_test

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/mib"
	"ionet/stack/packet"
)

// sight is what is seen of a frame of IP.
type sight struct {
	src, dst netip.Addr
	v6, frag bool
	proto    uint8
	at       int // where the header of proto begins, in the frame; of ESP in UDP the one of ESP
	udp      bool
}

const encap = 4500

func look(frame []byte) (s sight, ok bool) {
	b := frame[packet.EtherLen:]
	switch packet.Ether(frame).Type() {
	case packet.EtherIPv4:
		h, ok := packet.CheckIPv4(b)
		if !ok {
			return s, false
		}
		s = sight{src: h.Src(), dst: h.Dst(), frag: h.MF() || h.FragOff() != 0, proto: h.Proto(), at: packet.EtherLen + h.HeaderLen()}
		if h.FragOff() != 0 {
			return s, true
		}
	case packet.EtherIPv6:
		h, ok := packet.CheckIPv6(b)
		if !ok {
			return s, false
		}
		s = sight{src: h.Src(), dst: h.Dst(), v6: true, proto: h.Next(), at: packet.EtherLen + packet.IPv6Len}
		for (s.proto == packet.ProtoFragment || s.proto == packet.ProtoHopByHop) && len(frame) >= s.at+8 {
			n := 8
			if s.proto == packet.ProtoFragment {
				if s.frag = true; binary.BigEndian.Uint16(frame[s.at+2:])>>3 != 0 {
					s.proto = frame[s.at]
					return s, true
				}
			} else {
				n += int(frame[s.at+1]) * 8
			}
			s.proto, s.at = frame[s.at], s.at+n
		}
	default:
		return s, false
	}
	if s.proto == packet.ProtoUDP && len(frame) >= s.at+packet.UDPLen+8 && binary.BigEndian.Uint16(frame[s.at+2:]) == encap && binary.BigEndian.Uint32(frame[s.at+packet.UDPLen:]) != 0 {
		s.proto, s.udp, s.at = packet.ProtoESP, true, s.at+packet.UDPLen
	}
	return s, true
}

// watch looks at every frame of the network.
func (v *vpn) watch() {
	v.enemy.v, v.enemy.seed = v, maphash.MakeSeed()
	for g := range v.oracle {
		v.oracle[g].init(v, g)
	}
	v.wan.Sent = func(from *sim.Node, frame []byte) { v.leaves(v.gate(from), frame) }
	v.wan.Came = func(to *sim.Node, frame []byte) { v.oracle[v.gate(to)].comes(frame) }
	if v.shape.own {
		return
	}
	for i, lan := range v.lans {
		lan.Sent = func(from *sim.Node, frame []byte) {
			s, ok := look(frame)
			if !ok || s.proto != packet.ProtoTCP && s.proto != packet.ProtoUDP || s.src != v.inner[i] && s.dst != v.inner[i] {
				return
			}
			k := content(frame, s)
			switch {
			case from == v.ends[i]:
				v.copies[k]++
			case !v.armed, v.shape.gif && !v.exact: // the network may have made two of it, or the gif pieces
			default:
				if v.copies[k]--; v.copies[k] >= 0 {
					return
				}
				v.fail("a packet that %v sent was passed on once more than it was sent: %x", s.src, frame)
			}
		}
	}
}

// content is what does not change of a packet on its way through gateways.
func content(frame []byte, s sight) string {
	b := bytes.Clone(frame[packet.EtherLen:])
	if s.v6 {
		b[0], b[1], b[7] = 0, 0, 0
	} else {
		b[1], b[8], b[10], b[11] = 0, 0, 0, 0
	}
	if at := s.at - packet.EtherLen; !s.frag && s.proto == packet.ProtoTCP {
		b[at+16], b[at+17] = 0, 0
	} else if !s.frag {
		b[at+6], b[at+7] = 0, 0
	}
	return string(b)
}

// leaves looks at what gateway g sends to the other: nothing of it is in clear.
func (v *vpn) leaves(g int, frame []byte) {
	s, ok := look(frame)
	if !ok {
		return
	}
	if v.armed {
		v.inClear(s, frame)
	}
	if s.proto != packet.ProtoESP && s.proto != packet.ProtoAH || s.frag {
		return
	}
	v.enemy.hears(1-g, s, frame)
}

// told reports an ICMP error about a packet of TCP, or of UDP that does not carry ESP.
func told(s sight, frame []byte) bool {
	if len(frame) < s.at+packet.ICMPLen+packet.IPv4Len+packet.UDPLen || s.frag {
		return false
	}
	m, q := frame[s.at:], frame[s.at+packet.ICMPLen:]
	proto, ports := q[9], q[packet.IPv4Len:]
	switch {
	case s.proto == packet.ProtoICMP && packet.ICMPIsError(m[0]):
	case s.proto == packet.ProtoICMPv6 && packet.ICMP6IsError(m[0]) && len(q) >= packet.IPv6Len+packet.UDPLen:
		proto, ports = q[6], q[packet.IPv6Len:]
	default:
		return false
	}
	esp := binary.BigEndian.Uint16(ports) == encap || binary.BigEndian.Uint16(ports[2:]) == encap // one of them may be damaged
	return proto == packet.ProtoTCP || proto == packet.ProtoUDP && !esp
}

func (v *vpn) inClear(s sight, frame []byte) {
	var ends []byte
	for _, ip := range v.inner {
		ends = append(ends, ip.AsSlice()...)
	}
	last := v.shape.layers[len(v.shape.layers)-1].Proto
	n := len(ends) / 2
	allowed := s.proto == last && s.udp == v.natt || s.proto == packet.ProtoICMP && !s.v6 || s.proto == packet.ProtoICMPv6 && s.v6
	if s.frag && v.natt {
		allowed = allowed || s.proto == packet.ProtoUDP
	}
	switch {
	case !allowed:
		v.fail("protocol %d is on the wire in clear: %x", s.proto, frame)
	case bytes.Contains(frame, marker):
		v.fail("what a program says is on the wire in clear: %x", frame)
	case !v.shape.own && (bytes.Contains(frame, ends) || bytes.Contains(frame, append(ends[n:len(ends):len(ends)], ends[:n]...))):
		v.fail("addresses of the hosts are on the wire in clear: %x", frame)
	case !v.late && told(s, frame):
		v.fail("an ICMP error about a program's packet is on the wire in clear: %x", frame)
	case s.proto == packet.ProtoAH && !s.frag && frame[s.at] != packet.ProtoESP:
		v.fail("protocol %d is in AH alone: %x", frame[s.at], frame)
	}
}

// oracle foretells what a gateway counts, packet by packet, from what was sent by the other one and what it was given before.
type oracle struct {
	v       *vpn
	g       int
	genuine map[uint64]uint64 // by SPI and number, the hash of what is signed
	of      map[*ipsec.SA]*memory
	want    [len(fates)]uint64
	due     bool
}

// memory is what an SA's receiver knows of it.
type memory struct {
	iv, icv, align int // of ESP
	top            uint64
	had            map[uint64]bool
	packets, bytes uint64
	dead           bool
}

// What may become of a packet.
const (
	taken = iota
	replayed
	unsigned
	unknown
	invalid
	worn
	unprotected
)

// fates have the counters of both versions of IP, and of both protocols if each has some.
var fates = [...]struct {
	what        string
	by, byProto []string
}{
	taken:       {"taken", []string{"in"}, nil},
	replayed:    {"replayed", []string{"in AH replay", "in ESP replay"}, []string{"replay"}},
	unsigned:    {"wrongly signed", []string{"in authentication"}, []string{"authentication"}},
	unknown:     {"of no SA", []string{"in no SA", "in SPI"}, []string{"no SA", "not ready"}},
	invalid:     {"invalid", []string{"in invalid"}, nil},
	worn:        {"of an SA whose lifetime is over", nil, []string{"lifetime"}},
	unprotected: {"in clear", []string{"in policy"}, nil},
}

// counters are those of the fates, the protocols' behind those of the versions.
var counters = func() (all [len(fates)][2][]mib.Counter) {
	for i, c := range mib.Counters() {
		version, proto := c.Proto == "ipsec" || c.Proto == "ipsec6", c.Proto == "esp" || c.Proto == "ah"
		for f, fate := range fates {
			if version && slices.Contains(fate.by, c.Name) {
				all[f][0] = append(all[f][0], mib.Counter(i))
			}
			if proto && slices.Contains(fate.byProto, c.Name) {
				all[f][1] = append(all[f][1], mib.Counter(i))
			}
		}
	}
	return all
}()

func (o *oracle) init(v *vpn, g int) {
	o.v, o.g, o.genuine, o.of = v, g, map[uint64]uint64{}, map[*ipsec.SA]*memory{}
}

// signed is a hash of what the outermost check value of a packet covers.
func (v *vpn) signed(s sight, frame []byte) uint64 {
	h := maphash.Hash{}
	h.SetSeed(v.enemy.seed)
	h.Write(frame[s.at:])
	if s.proto == packet.ProtoAH {
		h.Write(s.src.AsSlice())
		h.Write(s.dst.AsSlice())
		if !s.v6 {
			h.Write(frame[packet.EtherLen+2 : packet.EtherLen+6])
		}
	}
	return h.Sum64()
}

// numberAt is SPI and number of a header of ESP or AH.
func numberAt(s sight, b []byte) (k uint64, ok bool) {
	at := s.at
	if s.proto == packet.ProtoAH {
		at += 4
	}
	if len(b) < at+8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[at:]), true
}

// comes is told of every frame that reaches the gateway.
func (o *oracle) comes(frame []byte) {
	v := o.v
	if !v.exact {
		return
	}
	if !o.due { // when it was handed to the gateway
		o.due = true
		v.n.At(0, func() { o.due = false; o.settle() })
	}
	s, ok := look(frame)
	if !ok || s.dst.IsMulticast() {
		return
	}
	switch s.proto {
	case packet.ProtoESP, packet.ProtoAH:
		if s.udp && !o.encapsulated() { // it is a datagram like others
			o.bare(s)
			return
		}
		if s.frag {
			v.fail("a fragment where none should be: %x", frame)
			return
		}
		k, _ := numberAt(s, frame)
		genuine := o.genuine[k] == v.signed(s, frame)
		if s.proto == packet.ProtoAH {
			o.want[o.ah(s, frame[s.at:], genuine)]++
			return
		}
		o.want[o.esp(s, frame[s.at:], genuine)]++
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoIPv4, packet.ProtoIPv6:
		o.bare(s)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if v.whole {
			o.bare(s)
		}
	}
}

// bare is for a packet in clear: it is refused if a policy is about it.
func (o *oracle) bare(s sight) {
	v := o.v
	p := v.selector(1-o.g, 0)
	if v.armed && p.Src.Contains(s.src) && p.Dst.Contains(s.dst) && (!v.shape.gif || s.proto == packet.ProtoIPv4 || s.proto == packet.ProtoIPv6) {
		o.want[unprotected]++
	}
}

// encapsulated reports whether ESP in UDP is expected.
func (o *oracle) encapsulated() bool {
	for _, sa := range o.v.gates[o.g].IPsec.SAs(packet.ProtoESP) {
		if m := o.of[sa]; sa.NATT.Type != 0 && sa.State() != ipsec.Larval && (m == nil || !m.dead) {
			return true
		}
	}
	return false
}

// sa is the SA that a packet names, and what the oracle knows of it; nil: there is none.
func (o *oracle) sa(s sight, proto uint8, spi uint32) (*ipsec.SA, *memory) {
	sa, err := o.v.gates[o.g].IPsec.Find(proto, spi, netip.Addr{}, s.dst)
	if err != nil || sa.State() != ipsec.Mature && sa.State() != ipsec.Dying {
		return nil, nil
	}
	m := o.of[sa]
	if m == nil {
		m = &memory{had: map[uint64]bool{}}
		if proto == packet.ProtoESP {
			e, err := crypt.NewESP(sa.Ealg, sa.Ekey, sa.Aalg, sa.Akey, sa.ESN)
			if err != nil {
				panic(err)
			}
			m.iv, m.icv, m.align = e.IVLen(), e.ICVLen(), e.Align()
		} else {
			a, _ := crypt.AalgByNumber(sa.Aalg)
			m.icv = a.ICVLen
		}
		o.of[sa] = m
	}
	if m.dead {
		return nil, nil
	}
	return sa, m
}

// number says what becomes of a packet by its number.
func (m *memory) number(sa *ipsec.SA, lo uint32, genuine bool) int {
	n, size := uint64(lo), uint64(sa.Replay)
	switch {
	case n+size <= m.top && sa.ESN: // it is held to be of the numbers to come (RFC 4304 appendix A2.1)
		return unsigned
	case n == 0, n+size <= m.top, m.had[n]:
		return replayed
	case !genuine:
		return unsigned
	}
	m.had[n], m.top = true, max(m.top, n)
	return taken
}

// uses counts octets.
func (m *memory) uses(sa *ipsec.SA, octets int) int {
	m.packets++
	m.bytes += uint64(octets)
	hard := sa.Info().Hard
	if hard.Packets != 0 && m.packets > uint64(hard.Packets) || hard.Bytes != 0 && m.bytes > hard.Bytes {
		m.dead = true
		return worn
	}
	return taken
}

func (o *oracle) esp(s sight, b []byte, genuine bool) int {
	if len(b) < 8 {
		return invalid
	}
	sa, m := o.sa(s, packet.ProtoESP, binary.BigEndian.Uint32(b))
	if sa == nil {
		return unknown
	}
	body := len(b) - 8 - m.iv - m.icv
	if s.udp != (sa.NATT.Type != 0) || body < 2 || body%m.align != 0 {
		return invalid
	}
	if f := m.number(sa, binary.BigEndian.Uint32(b[4:]), genuine); f != taken {
		return f
	}
	return m.uses(sa, body)
}

func (o *oracle) ah(s sight, b []byte, genuine bool) int {
	if len(b) < 12 {
		return invalid
	}
	sa, m := o.sa(s, packet.ProtoAH, binary.BigEndian.Uint32(b[4:]))
	if sa == nil {
		return unknown
	}
	front := (12 + m.icv + 3) &^ 3
	if s.v6 {
		front = (12 + m.icv + 7) &^ 7
	}
	if (int(b[1])+2)*4 != front || len(b) < front {
		return invalid
	}
	if f := m.number(sa, binary.BigEndian.Uint32(b[8:]), genuine); f != taken {
		return f
	}
	if f := m.uses(sa, len(b)-front); f != taken {
		return f
	}
	o.want[taken]++
	return o.esp(s, b[front:], genuine)
}

// settle compares what was foretold with what is counted.
func (o *oracle) settle() {
	v := o.v
	for way := range 2 {
		for f, n := range o.counted(way) {
			if f == taken && v.shape.layers[0].Proto == packet.ProtoIPComp || counters[f][way] == nil { // who sees what was compressed?
				continue
			}
			if n != o.want[f] && (f != worn || n < o.want[f]) { // what was to leave is in that one, too
				v.fail("%s counts %d packets %s; foretold were %v, counted %v", v.gates[o.g].Name, n, fates[f].what, o.want, o.counted(way))
			}
		}
	}
}

// audit looks at the books of all SAs.
func (v *vpn) audit() {
	for _, c := range v.keys.children {
		for _, p := range c.pairs {
			for dir := range p.sa {
				from, to := p.sa[dir][0], p.sa[dir][1]
				if from == nil || to == nil {
					continue
				}
				i := to.Info()
				if m := v.oracle[1-dir].of[to]; v.exact && m != nil && (i.Packets != m.packets || i.Bytes != m.bytes) {
					v.fail("SA %#x has taken %d packets of %d octets; foretold were %d of %d", to.SPI, i.Packets, i.Bytes, m.packets, m.bytes)
				}
				if n := from.Info().Number; c.layer.Proto != packet.ProtoIPComp && (i.Packets > n || i.Number > n) {
					v.fail("SA %#x has taken %d packets up to number %d; %d were sent", to.SPI, i.Packets, i.Number, n)
				}
			}
		}
	}
}

// counted is what the gateway counts, by version of IP or by protocol.
func (o *oracle) counted(way int) (n [len(fates)]uint64) {
	for f := range counters {
		for _, c := range counters[f][way] {
			n[f] += o.v.gates[o.g].Env.MIB.Count(c)
		}
	}
	return n
}

// adversary hears all that the gateways say to each other, and says things of its own.
type adversary struct {
	v     *vpn
	seed  maphash.Seed
	heard []recording
	total int
	did   [len(attacks)]int
}

var attacks = [...]string{"played again", "played again and again", "with a bit changed", "cut", "made longer", "numbered anew", "given to another SA", "in clear"}

// recording is a frame to a gateway.
type recording struct {
	to    int
	s     sight
	frame []byte
}

// hears remembers some frames for ever; and the oracle learns what is genuine.
func (e *adversary) hears(to int, s sight, frame []byte) {
	if k, ok := numberAt(s, frame); ok {
		e.v.oracle[to].genuine[k] = e.v.signed(s, frame)
	}
	rec := recording{to, s, bytes.Clone(frame)}
	if e.total++; len(e.heard) < 100 {
		e.heard = append(e.heard, rec)
		return
	}
	if k := e.v.r.IntN(100); k < 50 || e.v.r.IntN(e.total) < 100 { // half of them are new ones
		e.heard[k] = rec
	}
}

// act does something and sleeps.
func (e *adversary) act() {
	v := e.v
	if v.over {
		return
	}
	if len(e.heard) > 0 {
		e.attack(v.r.IntN(len(e.did)))
	}
	least, most := time.Millisecond, 60*time.Millisecond
	if v.good {
		most = 500 * time.Millisecond
	}
	v.n.At(v.some(least, most), e.act)
}

func (e *adversary) attack(how int) {
	v, r := e.v, e.v.r
	rec := e.heard[r.IntN(len(e.heard))]
	b := bytes.Clone(rec.frame)
	at := rec.s.at
	e.did[how]++
	switch how {
	case 0, 1: // again, once or often
		for range r.IntN(3*how + 1) {
			v.wan.Inject(v.some(0, 300*time.Millisecond), bytes.Clone(b))
		}
	case 2: // a bit flipped
		k := 8*at + r.IntN(8*(len(b)-at))
		b[k/8] ^= 1 << (k % 8)
	case 3: // cut
		b = b[:at+r.IntN(len(b)-at)]
		relength(rec.s, b)
	case 4: // longer
		b = append(b, cleartext(uint32(r.IntN(1000)), 1+r.IntN(64))...)
		relength(rec.s, b)
	case 5: // a number to come
		if rec.s.proto == packet.ProtoAH {
			at += 4
		}
		binary.BigEndian.PutUint32(b[at+4:], binary.BigEndian.Uint32(b[at+4:])+1+r.Uint32()>>r.IntN(32))
	case 6: // by another SA
		other := e.heard[r.IntN(len(e.heard))]
		from := other.s.at
		if rec.s.proto == packet.ProtoAH {
			at, from = at+4, from+4
		}
		copy(b[at:at+4], other.frame[from:])
	case 7: // in clear
		b = e.forge(rec.to)
	}
	v.wan.Inject(v.some(0, 20*time.Millisecond), b)
}

// relength has a packet's headers say how long it is.
func relength(s sight, b []byte) {
	ip := b[packet.EtherLen:]
	if s.v6 {
		packet.IPv6(ip).SetPayloadLen(len(ip) - packet.IPv6Len)
	} else {
		packet.IPv4(ip).SetTotalLen(len(ip))
		packet.IPv4(ip).SetChecksum()
	}
	if s.udp {
		binary.BigEndian.PutUint16(b[s.at-4:], uint16(len(b)-s.at+packet.UDPLen))
	}
}

// forge is a datagram in clear as from the program at the other end.
func (e *adversary) forge(to int) []byte {
	v := e.v
	b := append(make([]byte, packet.UDPLen), forged...)
	packet.PutUDP(b, 7, 7, len(b), 0)
	src, dst := v.inner[1-to], v.inner[to]
	if src.Is6() {
		binary.BigEndian.PutUint16(b[6:], ^packet.Fold(packet.Sum(packet.PseudoSum(src, dst, packet.ProtoUDP, len(b)), b)))
	}
	b = under(b, packet.ProtoUDP, src, dst)
	if v.shape.gif {
		proto := uint8(packet.ProtoIPv4)
		if v.inner6 {
			proto = packet.ProtoIPv6
		}
		b = under(b, proto, v.outer[1-to], v.outer[to])
	}
	typ := uint16(packet.EtherIPv4)
	if b[0]>>4 == 6 {
		typ = packet.EtherIPv6
	}
	b = append(make([]byte, packet.EtherLen), b...)
	packet.PutEther(b, v.macs[to], v.macs[1-to], typ)
	return b
}

// under is b under an IP header.
func under(b []byte, proto uint8, src, dst netip.Addr) []byte {
	if src.Is6() {
		h := make([]byte, packet.IPv6Len)
		packet.PutIPv6(h, 0, 0, len(b), proto, 60, src, dst)
		return append(h, b...)
	}
	h := make([]byte, packet.IPv4Len)
	packet.PutIPv4(h, 0, len(h)+len(b), 1, 0, 60, proto, src, dst, nil).SetChecksum()
	return append(h, b...)
}

// What the runs have reached, all together.
var (
	fated  [len(fates)]atomic.Uint64
	forced [len(attacks)]atomic.Uint64
	keyed  [6]atomic.Uint64
)

var keyings = [...]string{"pairs of SAs", "acquires", "renewals", "hard ends", "failed negotiations", "extended lifetimes"}

func (v *vpn) tally() {
	for g := range v.oracle {
		for way := range 2 {
			for f, n := range v.oracle[g].counted(way) {
				if way == 0 || fates[f].by == nil {
					fated[f].Add(n)
				}
			}
		}
	}
	for i, n := range v.enemy.did {
		forced[i].Add(uint64(n))
	}
	k := &v.keys.count
	for i, n := range []int{k.given, k.acquired, k.renewed, k.hard, k.failed, k.extended} {
		keyed[i].Add(uint64(n))
	}
}

func reachedSecured(t *testing.T) {
	tell := func(what string, n uint64) {
		t.Logf("%8d %s", n, what)
		if n == 0 {
			t.Errorf("no run has reached %s", what)
		}
	}
	for f, fate := range fates {
		tell("packets "+fate.what, fated[f].Load())
	}
	for i, what := range keyings {
		tell(what, keyed[i].Load())
	}
	for i, what := range attacks {
		tell("attacks: packets "+what, forced[i].Load())
	}
}
