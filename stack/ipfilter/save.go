package ipfilter

import (
	"encoding/binary"
	"fmt"
	"math"

	"ionet/ipl"
	"ionet/ipl/saved"
	"ionet/stack/packet"
)

// What [Filter.Save] writes is a [saved.States], whose states have savedLen octets each
// ([saver.state]), big-endian. Times are nanoseconds before or after the moment of saving.
const (
	saveVersion = 2
	savedLen    = 194
)

// maxAge bounds the times of a state that is restored: 34 years.
const maxAge = int64(1<<30) * second

// saver numbers what states point to.
type saver struct {
	out   []byte
	names [2][]string // rules, interfaces
	of    [2]map[string]uint32
}

func (e *saver) number(which int, name string) uint32 {
	n, ok := e.of[which][name]
	if !ok {
		n = uint32(len(e.names[which]))
		e.names[which] = append(e.names[which], name)
		e.of[which][name] = n
	}
	return n
}

// Save is every state, for [Filter.Restore] of this stack or a later one.
func (f *Filter) Save() []byte {
	now := f.env.Now()
	e := saver{of: [2]map[string]uint32{{}, {}}}
	count := uint32(0)
	f.states.byID.All(func(s *state) bool {
		if s.dead() || s.expire() <= now {
			return true
		}
		count++
		e.state(s, now)
		return true
	})
	rest := append(binary.BigEndian.AppendUint32(nil, count), e.out...)
	return saved.States{Version: saveVersion, Rules: e.names[0], Interfaces: e.names[1], Rest: rest}.Append(nil)
}

func (e *saver) state(s *state, now int64) {
	s.mu.Lock()
	tcp, shift := s.tcp, s.shiftLocked()
	s.mu.Unlock()
	u64 := func(v uint64) { e.out = binary.BigEndian.AppendUint64(e.out, v) }
	u32 := func(v uint32) { e.out = binary.BigEndian.AppendUint32(e.out, v) }
	u16 := func(v uint16) { e.out = binary.BigEndian.AppendUint16(e.out, v) }
	e.out = append(e.out, bit(s.v6), s.proto, s.icmp, uint8(s.class()))
	for _, v := range []uint64{s.srcHi, s.srcLo, s.dstHi, s.dstLo, s.opts()} {
		u64(v)
	}
	u16(s.sport)
	u16(s.dport)
	u32(e.number(0, s.rule.text))
	for way := range s.pkts {
		n := uint32(0) // none
		if name := s.rule.f.states.ifs.name(s.ifs.at(way)); name != "" {
			n = e.number(1, name) + 1
		}
		u32(n)
		u64(s.pkts[way].Load())
		u64(s.bytes[way].Load())
	}
	for _, v := range []int64{s.known(now), now - s.last.Load(), s.expire() - now} {
		u64(uint64(min(max(v, 0), maxAge)))
	}
	for n := range tcp.side {
		p := &tcp.side[n]
		u32(p.end)
		u32(p.limit)
		u32(p.window)
		u32(shift[n])
		e.out = append(e.out, p.scale, bit(p.scaled)|bit(p.seen)<<1|bit(p.guess)<<2, tcp.phase[n])
	}
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// restorer reads what Save has written; the first fault stays.
type restorer struct {
	f    *Filter
	now  int64
	in   []byte
	at   int
	err  error
	rule []*rule
	ifs  []ifName
}

func (d *restorer) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("saved states, octet %d: "+format, append([]any{d.at}, args...)...)
	}
}

// take is the next n octets, of which there are none after a fault: then zeros.
func (d *restorer) take(n int) []byte {
	if d.err == nil && len(d.in)-d.at < n {
		d.fail("%d octets where %d are expected", len(d.in)-d.at, n)
	}
	if d.err != nil {
		return make([]byte, n)
	}
	d.at += n
	return d.in[d.at-n : d.at]
}

func (d *restorer) u8() uint8   { return d.take(1)[0] }
func (d *restorer) u16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *restorer) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *restorer) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

// bits is a set of flags; others than those of mask are a fault.
func (d *restorer) bits(what string, mask uint8) uint8 {
	v := d.u8()
	if v&^mask != 0 {
		d.fail("%s %#x: none but %#x are known", what, v, mask)
	}
	return v
}

// upTo is a number with its bound.
func (d *restorer) upTo(what string, v, most uint64) uint64 {
	if v > most {
		d.fail("%s %d: at most %d", what, v, most)
		return 0
	}
	return v
}

// count is a number of things that take least octets each: so many there can be.
func (d *restorer) count(what string, least int) int {
	n := d.u32()
	return int(d.upTo("number of "+what, uint64(n), uint64((len(d.in)-d.at)/least)))
}

// Restore puts states of a [Filter.Save] into the table, and answers how many: not those
// whose hosts have a state already, and none that make the table greater than
// fr_statemax. An error says what is wrong with b and where; then no state has come.
func (f *Filter) Restore(b []byte) (n int, err error) {
	file, err := saved.ParseStates(b)
	if err != nil {
		return 0, err
	}
	if file.Version != saveVersion {
		return 0, fmt.Errorf("saved states of version %d; %d is expected", file.Version, saveVersion)
	}
	d := restorer{f: f, now: f.env.Now(), in: b, at: len(b) - len(file.Rest)}
	for _, text := range file.Rules {
		if d.rule = append(d.rule, d.aRule(text)); d.err != nil {
			return 0, d.err
		}
	}
	for _, name := range file.Interfaces {
		d.ifs = append(d.ifs, f.states.ifs.called(name))
	}
	var all []*state
	for range d.count("states", savedLen) {
		all = append(all, d.state())
		if d.err != nil {
			return 0, d.err
		}
	}
	if d.err == nil && d.at != len(b) {
		d.fail("%d octets behind the last state", len(b)-d.at)
	}
	if d.err != nil {
		return 0, d.err
	}
	for _, s := range all {
		if int64(f.states.byID.Len()) >= f.env.MIB.Int(nodeStateMax) {
			f.states.full.Add(1)
		} else if f.states.enter(s) {
			f.logState(d.now, s, LogNew)
			n++
		}
	}
	return n, nil
}

// aRule is the rule of that text: the one in force, or, of states only, one that is not.
func (d *restorer) aRule(text string) *rule {
	if d.err != nil {
		return nil
	}
	rules, err := ipl.Parse("rule", []byte(text), ipl.Options{})
	switch {
	case err != nil:
		d.fail("%w", err)
		return nil
	case len(rules) != 1:
		d.fail("%q: one rule is expected", text)
		return nil
	case rules[0].KeepState == nil:
		d.fail("%q: a rule that keeps state is expected", text)
		return nil
	}
	n := newRule(d.f, rules[0])
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	d.f.sets[0].each(func(l *list) {
		for _, r := range l.rules {
			if r.text == n.text {
				n = r
			}
		}
	})
	return n
}

func (d *restorer) state() *state {
	s := &state{}
	opts := uint64(0)
	s.v6 = d.bits("version of IP", 1) != 0
	s.proto, s.icmp = d.u8(), d.u8()
	c := class(d.upTo("class", uint64(d.u8()), uint64(classes-1)))
	for _, p := range []*uint64{&s.srcHi, &s.srcLo, &s.dstHi, &s.dstLo, &opts} {
		*p = d.u64()
	}
	if opts != 0 {
		s.extra().opts = opts
	}
	if !s.v6 && (s.srcHi|s.dstHi != 0 || s.srcLo > math.MaxUint32 || s.dstLo > math.MaxUint32) {
		d.fail("an address of IPv4 that is longer than 4 octets")
	}
	s.sport, s.dport = d.u16(), d.u16()
	if n := d.u32(); int(n) < len(d.rule) {
		s.rule = d.rule[n]
	} else {
		d.fail("rule %d of %d", n, len(d.rule))
	}
	for way := range s.pkts {
		if n := d.u32(); int(n) > len(d.ifs) {
			d.fail("interface %d of %d", n, len(d.ifs))
		} else if n > 0 {
			s.ifs.bind(way, d.ifs[n-1])
		}
		s.pkts[way].Store(d.u64())
		s.bytes[way].Store(d.u64())
	}
	times := [3]int64{}
	for n := range times {
		times[n] = int64(d.upTo("time", d.u64(), uint64(maxAge)))
	}
	s.born = d.f.states.grains(d.now - times[0])
	s.last.Store(d.now - times[1])
	s.ttl.Store(uint32((times[1] + times[2] + second - 1) / second))
	for n := range s.tcp.side {
		p := &s.tcp.side[n]
		p.end, p.limit = d.u32(), d.u32()
		p.window = uint32(d.upTo("window", uint64(d.u32()), midWindow))
		if shift := d.u32(); shift != 0 {
			s.extra().shift[n] = shift
		}
		p.scale = uint8(d.upTo("window scale", uint64(d.u8()), 14))
		is := d.bits("marks of a side", 7)
		p.scaled, p.seen, p.guess = is&1 != 0, is&2 != 0, is&4 != 0
		s.tcp.phase[n] = uint8(d.upTo("state of a side", uint64(d.u8()), tcpTimeWait))
	}
	if s.proto == packet.ProtoTCP {
		c = s.tcp.class()
	} else if c == standing {
		d.fail("protocol %d: an established connection without TCP", s.proto)
	}
	s.mark.Store(uint32(c))
	return s
}
